/* SPDX-License-Identifier: MIT */
/*
 * The part of a virtio driver that is the same for every device type: the
 * status machine, feature negotiation, and configuration reads that are never
 * torn.  It knows no ring and no register.
 *
 * Ownership: embedded in a driver's private state; borrows the transport.
 * Trust: everything a transport returns is the device's word and checked here.
 * Spec: Virtio 1.2, 2.1, 2.2, 2.5, 3.1 "Device Initialization".
 */
#ifndef SKI_VIRTIO_DEVICE_H
#define SKI_VIRTIO_DEVICE_H

#include <skio/virtio_transport.h>

struct ski_virtio_device {
    struct sk_virtio_transport *transport;
    uint32_t status;  /* accumulated; what was written last */
    uint64_t offered; /* features */
    uint64_t features;
};

/* One little-endian configuration field and where its value goes. */
struct ski_virtio_field {
    uint32_t offset;
    uint8_t width;       /* 1, 2, 4 or 8 */
    uint8_t feature;     /* bit that must be negotiated; SKI_VIRTIO_ALWAYS: none */
    uint16_t out_offset; /* of a uint64_t in the caller's struct */
};

#define SKI_VIRTIO_ALWAYS 0xff

/*
 * Resets the device and waits until it says so, at most `timeout_ns`.
 * SK_OK: it is quiet and uses no memory; SK_ERR_TIMEOUT (it may still use all
 * that it was given), SK_ERR_BROKEN (transport).
 */
SK_MUST_CHECK enum sk_status ski_virtio_device_reset(struct ski_virtio_device *device,
                                                     uint64_t timeout_ns);

/*
 * Resets, announces a driver, and reads what features are offered.  The
 * configuration can be read afterwards (fields that are SKI_VIRTIO_ALWAYS), for
 * a driver whose choice of features depends on it; 3.1.1.
 * SK_OK; SK_ERR_TIMEOUT, SK_ERR_BROKEN.
 */
SK_MUST_CHECK enum sk_status ski_virtio_device_announce(struct ski_virtio_device *device,
                                                        uint64_t timeout_ns);

/*
 * Accepts `wanted` as far as it is offered, besides VERSION_1 and
 * ACCESS_PLATFORM, which are accepted whenever offered.  Afterwards queues can
 * be set up.  SK_OK; SK_ERR_UNSUPPORTED (modern transport without VERSION_1, or
 * the device refuses the features), SK_ERR_BROKEN.
 */
SK_MUST_CHECK enum sk_status ski_virtio_device_accept(struct ski_virtio_device *device,
                                                      uint64_t wanted);

/* Sets DRIVER_OK: from now on the device works.  SK_OK; SK_ERR_MALFORMED, SK_ERR_BROKEN. */
SK_MUST_CHECK enum sk_status ski_virtio_device_start(struct ski_virtio_device *device);

/* Tells the device that the driver gave up; best effort. */
void ski_virtio_device_fail(struct ski_virtio_device *device);

/*
 * Looks how a started device is.  SK_OK; SK_ERR_GONE (it was removed, or another
 * one is there); SK_ERR_BROKEN (the transport lost it); SK_ERR_MALFORMED (it asks for a
 * reset, or was reset by somebody else).  *out_value is its status register, or 0.
 */
SK_MUST_CHECK enum sk_status ski_virtio_device_look(struct ski_virtio_device *device,
                                                    uint32_t *out_value);

/* True if the device is not there any more. */
bool ski_virtio_device_is_gone(const struct ski_virtio_device *device);

static inline bool ski_virtio_device_has(const struct ski_virtio_device *device, unsigned bit)
{
    return (device->features & SK_VIRTIO_FEATURE(bit)) != 0;
}

/*
 * Reads every field whose feature was negotiated, all from one generation;
 * the others become 0.  SK_OK; SK_ERR_RANGE (the configuration is too short),
 * SK_ERR_MALFORMED (it never settles), SK_ERR_BROKEN: *out is unspecified.
 */
SK_MUST_CHECK enum sk_status ski_virtio_device_read_config(struct ski_virtio_device *device,
                                                           const struct ski_virtio_field *fields,
                                                           size_t field_count, void *out);

#endif
