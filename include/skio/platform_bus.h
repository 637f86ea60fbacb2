/* SPDX-License-Identifier: MIT */
/*
 * Turns the nodes of a device tree into device nodes of a manager.  It touches
 * no device and probes nothing.
 *
 * Ownership: the device tree blob, the domain memory and the arena outlive the
 * manager; compatible strings stay in the blob.
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

/*
 * One domain for each distinct combination of windows and coherence; the
 * caller provides an array of these, and most machines need one.
 */
struct sk_platform_bus_domain {
    struct sk_dma_domain domain;
    struct sk_dma_window windows[SK_PLATFORM_BUS_WINDOWS];
    size_t window_count;
};

struct sk_platform_bus_config {
    const struct sk_fdt *fdt;             /* required */
    struct sk_device_manager *manager;    /* required */
    const struct sk_platform *platform;   /* required */
    struct sk_dma_arena *arena;           /* the domains' memory; required */
    struct sk_platform_bus_domain *domains; /* required */
    size_t domain_capacity;               /* at least 1 */
    bool coherent_by_default;             /* for nodes that say nothing: true on
                                           * riscv, false on arm */
};

struct sk_platform_bus_summary {
    size_t added;    /* nodes added */
    size_t disabled; /* left out by their `status` */
    size_t refused;  /* malformed or unreachable; each was logged */
    size_t domains;  /* domains in use */
};

/*
 * Adds a node for each enabled device-tree node with a `compatible` and at
 * least one `reg` entry that translates to the root.  SK_OK (also if some were
 * refused); SK_ERR_INVALID; SK_ERR_NO_MEMORY (the manager's memory or the domain
 * array is full: what was added stays); SK_ERR_MALFORMED (the walk itself broke
 * off).  `out_summary` may be NULL.
 */
SK_MUST_CHECK enum sk_status sk_platform_bus_add_nodes(const struct sk_platform_bus_config *config,
                                                       struct sk_platform_bus_summary *out_summary);

SK_END_DECLS

#endif
