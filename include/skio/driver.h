/* SPDX-License-Identifier: MIT */
/*
 * What a driver is to the framework: whom it matches, what memory it needs,
 * and three calls.  A driver is constant data; its state lives in the memory
 * injected into the node, so one driver serves any number of devices.  It has
 * no allocator to call.
 *
 * Ownership: drivers, match tables and options are the caller's and outlive
 * every manager they were given to.
 * Calling: the manager calls identify, needs, probe and remove of one node
 * from one thread, with the node claimed; probe and remove may wait, always
 * with a deadline.
 */
#ifndef SKIO_DRIVER_H
#define SKIO_DRIVER_H

#include <skio/device_node.h>

SK_BEGIN_DECLS

/* One kind of device. */
struct sk_device_match {
    enum sk_device_bus bus;
    const char *compatible; /* platform: equal to one of the node's strings */
    uint16_t vendor;        /* PCI: both equal */
    uint16_t device;        /* virtio: equal, SK_VIRTIO_DEVICE_* */
};

/* What a driver needs before it is probed. */
struct sk_driver_needs {
    struct sk_dma_constraints dma; /* size_bytes 0: no I/O buffer */
    size_t private_bytes;          /* aligned to 64, zeroed; 0: none */
};

struct sk_driver {
    const char *name;
    const struct sk_device_match *matches;
    size_t match_count;
    int priority;        /* the higher one is asked first; equal: the order of adding */
    const void *options; /* the driver's own option struct; NULL: its defaults */

    /*
     * Looks whether this device is really the driver's, touching nothing but
     * identity registers.  NULL: every match is.  SK_OK; SK_ERR_NOT_FOUND (an
     * empty slot); SK_ERR_UNSUPPORTED (a device of another type: the next
     * driver is asked); any other status fails the node.
     */
    enum sk_status (*identify)(const struct sk_driver *driver, struct sk_device_node *node);

    /*
     * Says what to inject into *out_needs, which is all zero before; touches no
     * device.  SK_OK; SK_ERR_AGAIN (not known yet); any other status fails the
     * node.  NULL: nothing.
     */
    enum sk_status (*needs)(const struct sk_driver *driver, const struct sk_device_node *node,
                            struct sk_driver_needs *out_needs);

    /*
     * Takes the device into use with what was injected.  SK_OK: the node has
     * its class and interface.  SK_ERR_AGAIN: something it depends on is not
     * there yet.  On any other status the device is reset, nothing of the
     * node's memory is in use (SK_ERR_IN_DOUBT: the I/O buffer is, and stays
     * held), and the fault was logged with the device's address.
     */
    enum sk_status (*probe)(const struct sk_driver *driver, struct sk_device_node *node);

    /*
     * Stops the device, completes what was in flight, and lets go of all
     * memory, in this order.  SK_OK; SK_ERR_BUSY (somebody still uses it: nothing
     * changed, and the driver stays bound); SK_ERR_IN_DOUBT (the device could not
     * be stopped: the I/O buffer stays held and must be quarantined); any other
     * status counts as in doubt.  NULL: the driver cannot be removed.
     */
    enum sk_status (*remove)(const struct sk_driver *driver, struct sk_device_node *node);
};

/* True if an entry of the driver's match table fits the node's identity. */
bool sk_driver_matches(const struct sk_driver *driver, const struct sk_device_node *node);

SK_END_DECLS

#endif
