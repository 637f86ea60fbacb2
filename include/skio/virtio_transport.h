/* SPDX-License-Identifier: MIT */
/*
 * How a virtio driver reaches its device: the interface that MMIO, PCI and
 * vhost-user implement, and that a port may implement itself.  A transport
 * moves status, features, configuration, queue addresses and notifications;
 * it knows no ring layout and no device type, and keeps no policy: the order
 * of initialisation is the status machine's business.
 *
 * Ownership: the transport is the driver's, in its private memory.
 * Calling: one thread for control calls; `notify` from each queue's owner;
 * `take_interrupt` from the interrupt handler.  Control calls may wait, with a
 * deadline; the others do not.
 * Trust: all that a transport returns comes from the device, unchecked.
 * Spec: Virtio 1.2, 2.1 to 2.5, 2.9, 4.
 */
#ifndef SKIO_VIRTIO_TRANSPORT_H
#define SKIO_VIRTIO_TRANSPORT_H

#include <skio/address.h>
#include <skio/platform.h>
#include <skio/status.h>

SK_BEGIN_DECLS

/* Device status bits; 2.1 "Device Status Field". */
#define SK_VIRTIO_STATUS_ACKNOWLEDGE        1u
#define SK_VIRTIO_STATUS_DRIVER             2u
#define SK_VIRTIO_STATUS_DRIVER_OK          4u
#define SK_VIRTIO_STATUS_FEATURES_OK        8u
#define SK_VIRTIO_STATUS_DEVICE_NEEDS_RESET 64u
#define SK_VIRTIO_STATUS_FAILED             128u

/* Feature bits that belong to no device type; 6 "Reserved Feature Bits". */
#define SK_VIRTIO_F_INDIRECT_DESC     28
#define SK_VIRTIO_F_EVENT_IDX         29
#define SK_VIRTIO_F_VERSION_1         32
#define SK_VIRTIO_F_ACCESS_PLATFORM   33
#define SK_VIRTIO_F_RING_PACKED       34
#define SK_VIRTIO_F_IN_ORDER          35
#define SK_VIRTIO_F_ORDER_PLATFORM    36
#define SK_VIRTIO_F_SR_IOV            37
#define SK_VIRTIO_F_NOTIFICATION_DATA 38
#define SK_VIRTIO_F_NOTIF_CONFIG_DATA 39
#define SK_VIRTIO_F_RING_RESET        40

/* The mask of a feature bit's number. */
#define SK_VIRTIO_FEATURE(bit) (UINT64_C(1) << (bit))

/* `take_interrupt`: what the device wanted to say. */
#define SK_VIRTIO_INTERRUPT_QUEUE  1u
#define SK_VIRTIO_INTERRUPT_CONFIG 2u

/* Device types; 5 "Device Types". */
#define SK_VIRTIO_DEVICE_BLOCK 2u

/* Where one queue lies, and how long it is. */
struct sk_virtio_queue_layout {
    uint16_t size;         /* entries */
    uint16_t interrupt;    /* which of the device's interrupts tells of used buffers */
    sk_daddr descriptors;  /* descriptor area */
    sk_daddr driver_area;  /* available ring, or driver event suppression */
    sk_daddr device_area;  /* used ring, or device event suppression */
    void *cpu_descriptors; /* the same three for the CPU, for transports that */
    void *cpu_driver_area; /* share a process's memory */
    void *cpu_device_area;
};

struct sk_virtio_transport;

/*
 * Every call returns SK_OK, or SK_ERR_BROKEN when the device cannot be reached
 * any more (MMIO: the status reads as all ones), besides what is written at it.
 */
struct sk_virtio_transport_ops {
    /* 2.1.  set_status writes the accumulated value; 0 starts a reset without waiting. */
    enum sk_status (*get_status)(struct sk_virtio_transport *transport, uint32_t *out_status);
    enum sk_status (*set_status)(struct sk_virtio_transport *transport, uint32_t status);

    /*
     * 2.2.  Both 32-bit halves; a legacy device has the lower one only, and
     * setting a bit of the upper one is SK_ERR_UNSUPPORTED (nothing changed).
     */
    enum sk_status (*get_features)(struct sk_virtio_transport *transport, uint64_t *out_features);
    enum sk_status (*set_features)(struct sk_virtio_transport *transport, uint64_t features);

    /*
     * 2.5.  One field of `width` bytes (1, 2, 4; 8 as two accesses of 4) to or
     * from an unsigned integer of that width in the CPU's byte order.
     * SK_ERR_RANGE: the device's configuration is shorter; SK_ERR_INVALID: the
     * width is none of these, or the offset no multiple of it (of 4 for 8).
     * Nothing was accessed and *out is unchanged then.
     */
    enum sk_status (*read_config)(struct sk_virtio_transport *transport, uint32_t offset,
                                  unsigned width, void *out);
    enum sk_status (*write_config)(struct sk_virtio_transport *transport, uint32_t offset,
                                   unsigned width, const void *in);
    /* 2.5.  A legacy transport has none and stores 0. */
    enum sk_status (*get_generation)(struct sk_virtio_transport *transport,
                                     uint32_t *out_generation);

    /* The largest size of queue `index`; 0: there is no such queue. */
    enum sk_status (*get_queue_max)(struct sk_virtio_transport *transport, uint32_t index,
                                    uint32_t *out_size);
    /*
     * Gives the device a queue and enables it.  SK_ERR_BUSY (the queue was in
     * use already), SK_ERR_UNREACHABLE (an address does not fit the transport),
     * SK_ERR_INVALID (legacy: not the contiguous layout with `ring_alignment`).
     */
    enum sk_status (*enable_queue)(struct sk_virtio_transport *transport, uint32_t index,
                                   const struct sk_virtio_queue_layout *layout);

    /*
     * Looks whether the device is still there, and still the one that was opened.
     * SK_OK; SK_ERR_GONE: it was removed, or another one stands in its place.
     * NULL: only failing calls tell.
     */
    enum sk_status (*look)(struct sk_virtio_transport *transport);

    /*
     * 2.6.1, with RING_RESET.  Resets a queue that is enabled, and waits until
     * the device uses none of its memory any more; it can be enabled again then.
     * SK_OK; SK_ERR_TIMEOUT (not done after `timeout_ns`: the device may still use
     * its memory).  NULL: the transport cannot, and the feature is not accepted.
     */
    enum sk_status (*reset_queue)(struct sk_virtio_transport *transport, uint32_t index,
                                  uint64_t timeout_ns);

    /* 2.9.  `data` is what NOTIFICATION_DATA asks for, or the queue's index. */
    void (*notify)(struct sk_virtio_transport *transport, uint32_t data);

    /*
     * Reads and acknowledges; SK_VIRTIO_INTERRUPT_* (unknown bits are dropped).
     * Called at interrupt 0 only: the others mean queues.  A transport whose
     * interrupts carry no cause answers with every one that it may have had.
     */
    uint32_t (*take_interrupt)(struct sk_virtio_transport *transport);
};

/* The head of every transport. */
struct sk_virtio_transport {
    const struct sk_virtio_transport_ops *ops;
    const struct sk_platform *platform;
    const char *kind;        /* "mmio", "mmio-legacy", ... */
    uint64_t address;        /* for log lines: the registers' physical address */
    uint32_t device_type;    /* SK_VIRTIO_DEVICE_*; 0: nothing there */
    uint32_t vendor;
    /*
     * How many interrupts the device has; 0 counts as 1.  One serves everything.
     * With more, interrupt 0 tells of configuration changes, and each queue's
     * layout says which of the others is its own.
     */
    uint32_t interrupt_count;
    bool legacy;             /* 32 feature bits, no FEATURES_OK, contiguous rings */
    uint32_t ring_alignment; /* legacy: bytes between the ring's parts are padded to this; else 0 */
};

SK_END_DECLS

#endif
