/* SPDX-License-Identifier: MIT */
/*
 * Turns the nodes of a device tree into device nodes of a manager.  It touches
 * no device and probes nothing.
 *
 * Ownership: the device tree blob, the domains and the arena are the caller's
 * and outlive the manager.
 * Calling: as the manager: one thread at a time; it does not wait.
 * Trust: the device tree.  A node that cannot be understood is logged, counted
 * and left out; the others are added.
 * Spec: Devicetree Specification 0.4, 2.3.
 */
#ifndef SKIO_PLATFORM_BUS_H
#define SKIO_PLATFORM_BUS_H

#include <skio/device_manager.h>
#include <skio/fdt.h>

SK_BEGIN_DECLS

/* Most `dma-ranges` windows of one device that are understood. */
#define SK_PLATFORM_BUS_WINDOWS 8

/* Most register ranges and interrupts that a node gets; what is more is left out. */
#define SK_PLATFORM_BUS_RANGES     8
#define SK_PLATFORM_BUS_INTERRUPTS 64

/*
 * The domain of all devices with the same windows and the same coherence.  The
 * caller provides an array of these, uninitialised; most machines need one.
 * Everything in it is private but `domain`.
 */
struct sk_platform_bus_domain {
    struct sk_dma_domain domain;
    struct sk_dma_window windows[SK_PLATFORM_BUS_WINDOWS];
    size_t window_count;
};

struct sk_platform_bus_config {
    const struct sk_fdt *fdt;               /* required, opened */
    struct sk_device_manager *manager;      /* required */
    const struct sk_platform *platform;     /* required */
    struct sk_dma_arena *arena;             /* the domains' memory; required */
    struct sk_platform_bus_domain *domains; /* required; overwritten from the first on */
    size_t domain_capacity;                 /* at least 1 */
    bool coherent_by_default;               /* for nodes that say nothing: true on
                                             * riscv, false on arm */
};

struct sk_platform_bus_summary {
    size_t added;    /* nodes added */
    size_t disabled; /* left out by their own or an ancestor's `status` */
    size_t refused;  /* malformed, or without memory that their DMA reaches; each was logged */
    size_t domains;  /* domains in use, from the first on */
};

/*
 * Adds a node for each enabled device-tree node with a `compatible` and with
 * registers that the CPU reaches.  A node without `reg`, or on a bus whose
 * addresses are not memory (a CPU, a sensor), is no device of this bus: it is
 * neither added nor refused.
 *
 * A node's ranges are the entries of `reg`, in order, up to the first that
 * the CPU does not reach.  Its interrupts are read up to the first of a kind
 * that is not understood (sk_fdt_interrupt: SK_ERR_UNSUPPORTED).
 *
 * SK_OK, also if some were refused; SK_ERR_INVALID (a required part is missing,
 * or the tree is not open: nothing changed); SK_ERR_NO_MEMORY (the manager's
 * memory or the domain array is full: what was added stays, logged);
 * SK_ERR_MALFORMED (the walk itself broke off: what was added stays).
 * *out_summary is filled in each case but SK_ERR_INVALID; NULL: not wanted.
 * O(nodes * blob size).
 */
SK_MUST_CHECK enum sk_status sk_platform_bus_add_nodes(const struct sk_platform_bus_config *config,
                                                       struct sk_platform_bus_summary *out_summary);

SK_END_DECLS

#endif
