/* SPDX-License-Identifier: MIT */
/*
 * One device that a bus found: where its registers and interrupts are, who it
 * is, what memory it can reach, and what was put into it from outside for its
 * driver.  A node is data; it does nothing by itself, and a driver finds
 * everything it may use in here.
 *
 * Ownership: strings and arrays that a node points at belong to whoever filled
 * it and outlive it.  `dma_buffer` and `driver_memory` belong to whoever
 * injected them: the driver only uses them between a successful probe and the
 * end of remove.
 * Calling: one thread changes a node at a time; `bound` may be read by any.
 */
#ifndef SKIO_DEVICE_NODE_H
#define SKIO_DEVICE_NODE_H

#include <skio/io_buffer.h>
#include <skio/platform.h>

SK_BEGIN_DECLS

enum sk_device_bus {
    SK_DEVICE_BUS_NONE,
    SK_DEVICE_BUS_PLATFORM, /* described by a device tree or by hand */
    SK_DEVICE_BUS_PCI,
    SK_DEVICE_BUS_VIRTIO, /* reached by a transport that somebody opened already */
    SK_DEVICE_BUS_COUNT
};

/* What a bound node is to its users; `interface` has the type named here. */
enum sk_device_class {
    SK_DEVICE_CLASS_NONE,
    SK_DEVICE_CLASS_BLOCK,   /* struct sk_block_device * */
    SK_DEVICE_CLASS_CONSOLE, /* the kernel's own */
    SK_DEVICE_CLASS_OTHER,
    SK_DEVICE_CLASS_COUNT
};

/* The life of a node, for people: `devices` shows it. */
enum sk_device_state {
    SK_DEVICE_STATE_FOUND,      /* no probe yet */
    SK_DEVICE_STATE_NO_DRIVER,  /* no driver matches */
    SK_DEVICE_STATE_EMPTY,      /* a slot without a device behind it */
    SK_DEVICE_STATE_DEFERRED,   /* a probe asked to be tried again later */
    SK_DEVICE_STATE_BOUND,      /* works */
    SK_DEVICE_STATE_FAILED,     /* the probe failed; `probe_status` says how */
    SK_DEVICE_STATE_REMOVED,
    SK_DEVICE_STATE_COUNT
};

struct sk_device_range {
    sk_paddr base;
    uint64_t bytes;
};

/* Who the device says it is on its bus. */
struct sk_device_identity {
    enum sk_device_bus bus;
    /* Platform: zero-terminated strings one after another, most specific first. */
    const char *compatible;
    size_t compatible_bytes;
    /* PCI; virtio: `device` is the device type, SK_VIRTIO_DEVICE_*. */
    uint16_t vendor;
    uint16_t device;
};

struct sk_driver;
struct sk_virtio_transport;

struct sk_device_node {
    /* From the bus. */
    const char *name;
    const struct sk_platform *platform;
    struct sk_device_identity identity;
    const struct sk_device_range *ranges;
    size_t range_count;
    const struct sk_interrupt *interrupts;
    size_t interrupt_count;
    struct sk_dma_domain *domain; /* NULL: the device does no DMA */
    struct sk_virtio_transport *transport; /* virtio: open; whoever opened it closes it, after the
                                            * driver's remove.  NULL on other buses */

    /* Injected before the probe. */
    struct sk_io_buffer *dma_buffer; /* NULL: none */
    void *driver_memory;             /* for the driver's private state; zeroed */
    size_t driver_memory_bytes;

    /* Set by the driver's probe, cleared by its remove. */
    void *driver_data;
    enum sk_device_class device_class;
    void *interface;

    /* Kept by the framework. */
    sk_atomic_u32 bound;            /* 1 while a driver has claimed the node */
    const struct sk_driver *driver; /* the bound one, or the one that failed last */
    enum sk_device_state state;
    enum sk_status probe_status;
    struct sk_device_node *next; /* in its manager, in the order of adding */
    void *injection;             /* private to the manager */
};

/*
 * Claims the node by compare-and-swap.  SK_OK; SK_ERR_BUSY (somebody has it:
 * nothing changed).  Any thread.  Pairs with sk_device_node_unclaim.
 */
SK_MUST_CHECK enum sk_status sk_device_node_claim(struct sk_device_node *node);

/* Gives the claim back with release order: whoever claims next sees all that was done. */
void sk_device_node_unclaim(struct sk_device_node *node);

/* True while the node is claimed.  Any thread. */
bool sk_device_node_is_bound(const struct sk_device_node *node);

/* True if one of the node's compatible strings equals `compatible`. */
bool sk_device_node_is_compatible(const struct sk_device_node *node, const char *compatible);

/* The address people know the device by: its first range's base, or 0 without one. */
uint64_t sk_device_node_address(const struct sk_device_node *node);

/* Short names for tables: "bound", "failed", ...; "block", ...; "unknown" for other values. */
const char *sk_device_state_name(enum sk_device_state state);
const char *sk_device_class_name(enum sk_device_class device_class);

SK_END_DECLS

#endif
