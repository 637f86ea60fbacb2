/* SPDX-License-Identifier: MIT */
/*
 * A modern virtio block device over MMIO that does nothing, fast: it walks the
 * available ring, writes status OK and used entries, and touches no data.  It
 * has split and packed rings, the latter with RING_PACKED in its features; with
 * IN_ORDER one used entry stands for all that a notification brought.  It is
 * for benchmarks of drivers, and checks nothing: virtio_device.h is the one
 * that does.  It trusts the driver with every address.
 *
 * Ownership: the caller's struct and memory; nothing is allocated.
 * Calling: requests are finished inside of the notification or, with `polls`,
 * by fast_device_run, which may be another thread.
 */
#ifndef TESTS_FAKE_FAST_DEVICE_H
#define TESTS_FAKE_FAST_DEVICE_H

#include <skio/mmio.h>
#include <skio/virtio_blk.h>

#define FAST_QUEUES_MAX 8
#define FAST_LINE_BYTES 128 /* two cache lines: processors fetch the neighbour too */

struct fast_device_config {
    uint64_t features;         /* offered; VERSION_1 is added */
    uint64_t capacity_sectors;
    uint32_t queue_count;      /* 1 to FAST_QUEUES_MAX; 0: 1 */
    uint32_t queue_size_max;   /* 0: 256 */
    uint32_t seg_max;
    bool polls;                /* asks for no notifications; fast_device_run does the work */
    /* All memory that the driver uses: `bytes` from `memory` are at `daddr` for the device. */
    uint8_t *memory;
    uint64_t daddr;
    uint64_t bytes;
    /* Raises the interrupt line, when the driver wants one.  NULL: never, and costs nothing. */
    void (*interrupt)(void *context);
    void *interrupt_context;
};

struct fast_descriptor;
struct fast_packed_descriptor;
struct fast_used;
struct fast_device;
struct fast_queue;

/* Finishes everything that is in a queue's ring. */
typedef void (*fast_drain)(struct fast_device *fast, struct fast_queue *queue);

/* On cache lines of its own: each queue may be driven by a core of its own. */
struct fast_queue {
    _Alignas(FAST_LINE_BYTES) struct fast_descriptor *table;
    uint16_t *avail;       /* flags, index, ring, event */
    uint16_t *used_head;   /* flags, index */
    struct fast_used *used;
    uint16_t *avail_event; /* with EVENT_IDX */
    uintptr_t bias;        /* what to add to a device address */
    uint32_t size;
    uint32_t mask;
    uint64_t finished;     /* requests; it finishes in order, so one index serves both rings */
    fast_drain doorbell;   /* does nothing if it is not set up, or the device polls */
    fast_drain drain;      /* NULL: not set up */
    struct fast_packed_descriptor *ring; /* packed: the ring, */
    struct fast_packed_descriptor *ring_end;
    struct fast_packed_descriptor *next; /* the descriptor to read and to write, */
    uint32_t available;                  /* and how that one is marked when it is available */
    bool packed;
    bool in_order;
    uint64_t address[3];
    uint64_t finished_before; /* these two outlive a reset */
    uint64_t notifications;
};

struct fast_device {
    struct fast_device_config config;
    struct sk_mmio mmio; /* what a platform's map_mmio answers */
    /* Private. */
    bool event_index;
    uint16_t event_lead;
    uint64_t offered;
    uint64_t accepted;
    uint32_t status;
    uint32_t interrupt_status;
    uint32_t selected;
    uint32_t feature_half;
    uint32_t accepted_half;
    uint8_t config_space[60];
    struct fast_queue queues[FAST_QUEUES_MAX];
};

void fast_device_init(struct fast_device *fast, const struct fast_device_config *config);

/*
 * Rings a queue's doorbell by a call, for a transport whose notifications are
 * calls; a write of the register does the same.
 */
static inline void fast_device_notify(struct fast_device *fast, uint32_t index)
{
    struct fast_queue *queue = &fast->queues[index % FAST_QUEUES_MAX];

    queue->notifications++;
    queue->doorbell(fast, queue);
}

/* Finishes everything that is in the rings; returns how many requests. */
uint32_t fast_device_run(struct fast_device *fast);

/* Requests finished and notifications seen, on all queues, since init. */
uint64_t fast_device_completions(const struct fast_device *fast);
uint64_t fast_device_notifications(const struct fast_device *fast);

#endif
