/* SPDX-License-Identifier: MIT */
/*
 * Brings nodes and drivers together: keeps both lists, claims nodes, injects
 * the memory that drivers ask for, probes, and takes all of it back in the
 * right order.  It finds no devices itself (buses do, and add them here), and
 * it is optional: a port with one disk may fill a node by hand and call the
 * driver's probe.
 *
 * Ownership: the manager, its bookkeeping memory and its arena are the
 * caller's.  Nodes live in the bookkeeping memory until the manager ends.
 * What the manager injected it frees; what was in the node before, it leaves.
 * A manager must not be moved after its init.
 * Calling: one thread at a time; probing and removing may wait with deadlines.
 */
#ifndef SKIO_DEVICE_MANAGER_H
#define SKIO_DEVICE_MANAGER_H

#include <skio/driver.h>

SK_BEGIN_DECLS

struct sk_device_manager_config {
    const struct sk_platform *platform; /* required */
    void *memory;                       /* bookkeeping: nodes and driver links */
    size_t memory_bytes;                /* its size is the only limit on their number */
    struct sk_dma_arena *private_arena; /* drivers' private memory comes from here, in
                                         * pages of its own; NULL: drivers that need
                                         * some cannot be probed */
};

/* Everything in here is private. */
struct sk_device_manager {
    struct sk_device_manager_config config;
    size_t memory_used;
    struct sk_device_node *first;
    struct sk_device_node **last;
    struct sk_device_node *newest; /* bound last; the first to be removed */
    struct sk_driver_link *drivers;
    size_t node_count;
};

/* Prepares an empty manager.  SK_OK; SK_ERR_INVALID (no platform, or no memory). */
SK_MUST_CHECK enum sk_status sk_device_manager_init(struct sk_device_manager *manager,
                                                    const struct sk_device_manager_config *config);

/*
 * Adds a driver behind those of the same priority.  It is not probed yet.  SK_OK; SK_ERR_INVALID (no name or no
 * probe), SK_ERR_NO_MEMORY (the bookkeeping memory is full): nothing changed.
 */
SK_MUST_CHECK enum sk_status sk_device_manager_add_driver(struct sk_device_manager *manager,
                                                          const struct sk_driver *driver);

/*
 * Copies *description (its strings and arrays too) into a new node.  The
 * fields "from the bus" and "injected" are taken, all others start afresh; a
 * NULL platform becomes the manager's.  A driver's probe may add nodes too.
 * SK_OK; SK_ERR_INVALID (no name, or a count without its array), SK_ERR_NO_MEMORY:
 * nothing changed.  `out_node` may be NULL.
 */
SK_MUST_CHECK enum sk_status sk_device_manager_add_node(struct sk_device_manager *manager,
                                                        const struct sk_device_node *description,
                                                        struct sk_device_node **out_node);

/* What probing did, and how the nodes that are not bound stand afterwards. */
struct sk_device_manager_summary {
    size_t bound;     /* newly bound by this call */
    size_t empty;     /* slots without a device */
    size_t unmatched; /* no driver */
    size_t deferred;  /* still waiting */
    size_t failed;    /* see each node's probe_status */
};

/*
 * Probes every node that is not bound, best driver first, and tries deferred
 * ones again until a round binds nothing new.  Failures are kept in each node
 * and do not stop the others.  SK_OK; SK_ERR_INVALID.  `out_summary` may be NULL.
 */
SK_MUST_CHECK enum sk_status
sk_device_manager_probe_all(struct sk_device_manager *manager,
                            struct sk_device_manager_summary *out_summary);

/*
 * Probes one node: claims it, asks the drivers that match one after another,
 * injects what the first one that knows the device needs and is not there yet,
 * and calls its probe.  On a failure everything is taken out again and the
 * node is free.
 * SK_OK; SK_ERR_INVALID (no node of this manager), SK_ERR_BUSY (claimed already:
 * nothing changed), SK_ERR_NOT_FOUND (no driver, or an empty slot),
 * SK_ERR_UNREACHABLE (an I/O buffer is needed and there is no domain),
 * SK_ERR_NO_MEMORY, SK_ERR_SIZE or SK_ERR_ALIGNMENT (private memory that was
 * injected before does not do), or what creating the buffer or the driver said.
 * All but the first two are kept in the node.
 */
SK_MUST_CHECK enum sk_status sk_device_manager_probe(struct sk_device_manager *manager,
                                                     struct sk_device_node *node);

/*
 * Removes the driver from one node and frees what was injected; memory of a
 * device that could not be stopped is quarantined.  SK_OK; SK_ERR_NOT_FOUND (not
 * bound by the manager), SK_ERR_UNSUPPORTED (its driver has no remove) or
 * SK_ERR_BUSY (its driver refuses): nothing changed; SK_ERR_IN_DOUBT or another
 * status of the driver's (removed, memory quarantined); SK_ERR_INVALID.
 */
SK_MUST_CHECK enum sk_status sk_device_manager_remove(struct sk_device_manager *manager,
                                                      struct sk_device_node *node);

/*
 * Removes all drivers, what was bound last first, so that a device goes after
 * those that waited for it.  SK_OK, or the first failure; it goes on after one.
 */
SK_MUST_CHECK enum sk_status sk_device_manager_remove_all(struct sk_device_manager *manager);

/* The first node of this name, or NULL. */
struct sk_device_node *sk_device_manager_find(const struct sk_device_manager *manager,
                                              const char *name);

/*
 * The first bound node of a class after `after` (NULL: from the start), or NULL.
 */
struct sk_device_node *sk_device_manager_find_class(const struct sk_device_manager *manager,
                                                    enum sk_device_class device_class,
                                                    const struct sk_device_node *after);

/* The first node; follow `next` for the others.  NULL: none. */
struct sk_device_node *sk_device_manager_first(const struct sk_device_manager *manager);

SK_END_DECLS

#endif
