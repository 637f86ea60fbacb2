/* SPDX-License-Identifier: MIT */
/*
 * The virtio transport over memory-mapped registers, version 2 (modern) and
 * version 1 (legacy).  It is only the transport: `virtio_blk.h` has a driver
 * that uses it.
 *
 * Ownership: the caller's memory; the register mapping stays the platform's.
 * Spec: Virtio 1.2, 4.2 "Virtio Over MMIO", 4.2.4 "Legacy interface".
 */
#ifndef SKIO_VIRTIO_MMIO_H
#define SKIO_VIRTIO_MMIO_H

#include <skio/virtio_transport.h>

SK_BEGIN_DECLS

/* Smallest register range that can be a device; bytes. */
#define SK_VIRTIO_MMIO_BYTES_MIN 0x100u

/* The alignment that a legacy device is told for its rings; bytes. */
#define SK_VIRTIO_MMIO_LEGACY_ALIGNMENT 4096u

struct sk_virtio_mmio {
    struct sk_virtio_transport transport; /* first */
    struct sk_mmio mmio;
};

/*
 * Reads magic, version, device and vendor id, and nothing else of an empty
 * slot.  `address` is for log lines.  SK_OK: transport.device_type says what
 * it is; SK_ERR_NOT_FOUND (device id 0: an empty slot), SK_ERR_SIZE (the range is
 * too short), SK_ERR_MALFORMED (no magic), SK_ERR_UNSUPPORTED (a version this
 * code does not know): *mmio_transport is all zero then.
 */
SK_MUST_CHECK enum sk_status sk_virtio_mmio_open(struct sk_virtio_mmio *mmio_transport,
                                                 const struct sk_platform *platform,
                                                 const struct sk_mmio *mmio, uint64_t address);

SK_END_DECLS

#endif
