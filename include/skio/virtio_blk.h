/* SPDX-License-Identifier: MIT */
/*
 * The driver for virtio block devices.  It lays rings and request slots out
 * inside the I/O buffer it finds in its node, keeps its own state in the
 * node's driver memory, and publishes a `struct sk_block_device`.  It does not
 * allocate, and it trusts nothing that the device says.
 *
 * Ownership: the driver is constant data.  To change options, copy the struct
 * and set `options`; both outlive the nodes bound with it.
 * Calling: see `driver.h`.
 * Spec: Virtio 1.2, 5.2 "Block Device", 2.7 and 2.8 "Virtqueues".
 */
#ifndef SKIO_VIRTIO_BLK_H
#define SKIO_VIRTIO_BLK_H

#include <skio/block.h>
#include <skio/driver.h>
#include <skio/virtio_transport.h>

SK_BEGIN_DECLS

/* Feature bits of block devices; 5.2.3. */
#define SK_VIRTIO_BLK_F_SIZE_MAX     1
#define SK_VIRTIO_BLK_F_SEG_MAX      2
#define SK_VIRTIO_BLK_F_GEOMETRY     4
#define SK_VIRTIO_BLK_F_RO           5
#define SK_VIRTIO_BLK_F_BLK_SIZE     6
#define SK_VIRTIO_BLK_F_FLUSH        9
#define SK_VIRTIO_BLK_F_TOPOLOGY     10
#define SK_VIRTIO_BLK_F_CONFIG_WCE   11
#define SK_VIRTIO_BLK_F_MQ           12
#define SK_VIRTIO_BLK_F_DISCARD      13
#define SK_VIRTIO_BLK_F_WRITE_ZEROES 14
#define SK_VIRTIO_BLK_F_LIFETIME     15
#define SK_VIRTIO_BLK_F_SECURE_ERASE 16
#define SK_VIRTIO_BLK_F_ZONED        17

/* Most queues that one device is driven with. */
#define SK_VIRTIO_BLK_QUEUES_MAX 64

/* What becomes of the requests that a device had when it was stopped by a fault. */
enum sk_virtio_blk_recovery {
    SK_VIRTIO_BLK_RECOVERY_FAIL,    /* all end with the reason, and new ones are refused */
    /*
     * Those that may be done twice wait for sk_block_recover, with those that
     * the device never saw, and go to it again in their order: all but zone
     * operations other than reports, and writes to zones.  So do all that are submitted
     * to a device that is stopped, behind those; they are looked at when it is back, and
     * callers that cannot wait as long give them deadlines, or cancel them.  Calls that
     * wait for an answer return SK_ERR_BROKEN.  A request that was at a
     * device for the fourth time when it stopped, or whose own deadline passed, ends.
     * So do all when the device cannot be stopped, fails for good or is removed.
     */
    SK_VIRTIO_BLK_RECOVERY_RESUBMIT
};

#define SK_VIRTIO_BLK_QUEUE_SIZE_MIN 2u

struct sk_virtio_blk_options {
    uint32_t queue_count;   /* wanted; 1 to SK_VIRTIO_BLK_QUEUES_MAX; the device may have fewer */
    uint32_t queue_size;    /* wanted ring entries, SK_VIRTIO_BLK_QUEUE_SIZE_MIN to 32768; the device
                             * may have fewer.  A split ring has the next lower power of two, and at
                             * least 4: none has chains longer than itself.  A packed one of 2 works
                             * with INDIRECT_DESC only */
    uint32_t segment_count; /* most data segments of one request to the device, 1 to 254; requests
                             * with more are split; also bounded by the device's seg_max */
    uint64_t features;      /* wanted, as masks; VERSION_1 and ACCESS_PLATFORM are taken whenever offered,
                             * IN_ORDER only with RING_PACKED or INDIRECT_DESC */
    bool refuse_legacy;     /* do not drive a legacy device */
    uint64_t timeout_ns;    /* longest time a request may stay at the device */
    uint64_t control_timeout_ns; /* longest time for a reset or another control step */
    enum sk_virtio_blk_recovery recovery;
};

/* 1 queue of 128, 16 segments, all features this driver implements, 10 s and 2 s, no resubmission. */
#define SK_VIRTIO_BLK_FEATURES_DEFAULT UINT64_MAX
#define SK_VIRTIO_BLK_OPTIONS_DEFAULT                                                       \
    {                                                                                       \
        1, 128, 16, SK_VIRTIO_BLK_FEATURES_DEFAULT, false, UINT64_C(10000000000),           \
            UINT64_C(2000000000), SK_VIRTIO_BLK_RECOVERY_FAIL                               \
    }

/*
 * The driver over MMIO: matches "virtio,mmio", identifies block devices.
 * Its probe returns, each logged with the device's address and with nothing
 * left behind: SK_ERR_INVALID (options, no I/O buffer, or one that is not
 * valid), SK_ERR_SIZE (the buffer or the driver memory is too small),
 * SK_ERR_ALIGNMENT (the buffer is misaligned), SK_ERR_UNSUPPORTED (a legacy device where that is
 * refused, no usable queue, host-managed zones that are not wanted, memory not
 * coherent), SK_ERR_MALFORMED (it broke the protocol), SK_ERR_TIMEOUT,
 * SK_ERR_IN_DOUBT (as that, and it could not be stopped: the buffer stays held).
 */
extern const struct sk_driver sk_virtio_blk_mmio_driver;

/*
 * The driver over a transport that is open already (`node->transport`):
 * matches SK_DEVICE_BUS_VIRTIO with SK_VIRTIO_DEVICE_BLOCK.  vhost-user comes this way, and
 * so may any transport of a port's own.  Its probe returns what the one over
 * MMIO does; SK_ERR_INVALID too if the node has no transport, SK_ERR_UNSUPPORTED if the
 * device is of another type, and SK_ERR_BROKEN if the transport lost the device.
 */
extern const struct sk_driver sk_virtio_blk_driver;

/* The name of a feature bit, of block devices or of virtio itself; NULL if unknown. */
const char *sk_virtio_blk_feature_name(unsigned bit);

SK_END_DECLS

#endif
