/* SPDX-License-Identifier: MIT */
/*
 * A disk whose device is another thread (fake/thread_device.h), and work on its
 * queues: random reads and writes of an own part of the disk, each checked
 * against what was written there last.  A write that failed may have happened
 * or not; one that was answered happened.
 *
 * Calling: the rig: one thread.  A load: the owner of its queue.
 */
#ifndef TESTS_THREAD_LOAD_H
#define TESTS_THREAD_LOAD_H

#include "fake/thread_device.h"
#include "support/environment.h"

#define LOAD_SLOTS        16u
#define LOAD_SECTORS      64u /* of each load's part */
#define LOAD_SECTORS_MAX  4u  /* of a request */

/* No sleep is longer, unless an interrupt or a notification was lost; TEST_PATIENCE_MS: other. */
#define LOAD_PATIENCE_NS UINT64_C(30000000000)

struct thread_rig_options {
    uint64_t features;
    uint32_t queues;
    uint32_t queue_size;
    uint32_t interrupts; /* 0: none; 1: one for everything */
    uint32_t slow_us;
    enum sk_virtio_blk_recovery recovery;
};

struct thread_rig {
    struct test_environment env; /* memory alone */
    struct thread_device device;
    struct sk_platform platform;
    struct sk_log log;
    _Atomic uint32_t lines; /* logged */
    struct sk_virtio_blk_options options;
    struct sk_driver driver;
    struct sk_interrupt interrupts[THREAD_LINES_MAX];
    struct sk_device_node node;
    struct sk_io_buffer buffer;
    void *memory;
    struct sk_block_device *disk;
};

/* How an owner waits. */
enum load_wait {
    LOAD_POLLS,
    LOAD_WAITS,
    LOAD_WAITS_HYBRID,
    LOAD_ARMS, /* and sleeps on the interrupt line itself */
    LOAD_WAITS_SOMEHOW,
    LOAD_WAIT_COUNT = LOAD_WAITS_SOMEHOW
};

struct thread_load;

struct load_slot {
    struct sk_block_request request; /* first */
    struct thread_load *load;
    struct sk_dma_segment segments[LOAD_SECTORS_MAX];
    bool out;
    uint32_t sector; /* of the load's part */
    uint32_t count;
    uint32_t generation;
};

struct thread_load {
    struct thread_rig *rig;
    struct sk_block_queue *queue;
    struct sk_io_buffer buffer;
    enum load_wait wait;
    uint64_t deadline_ns; /* of requests, from their submit on; 0: none */
    uint32_t cancel_each; /* after every Nth submit one is canceled, of two one that waits; 0: none */
    uint32_t call_after;  /* when so many of a run are finished `call` is called; 0: never */
    void (*call)(struct thread_load *load);
    bool keeps;           /* requests wait for a recovery: a run ends with some of them out */
    uint64_t random;
    struct load_slot slots[LOAD_SLOTS];
    uint32_t out;
    struct load_slot *last; /* submitted */
    uint32_t turns;         /* of submits, if some are canceled */
    uint32_t cancels;
    uint32_t last_generation;
    uint32_t certain[LOAD_SECTORS]; /* the last generation that was answered, */
    uint32_t newest[LOAD_SECTORS];  /* and that was tried */
    bool busy[LOAD_SECTORS];
    uint32_t finished;
    uint32_t ended[SK_STATUS_COUNT]; /* by status */
};

/* Starts the device and probes the driver; the rig is in static memory. */
void thread_rig_start(struct thread_rig *rig, const struct thread_rig_options *options);
/* Removes, stops, and fails the test if something is left. */
void thread_rig_stop(struct thread_rig *rig);

/* With nothing at the device: lets the indexes of split rings start near 65535. */
void thread_rig_start_near_wrap(struct thread_rig *rig);

void thread_load_init(struct thread_load *load, struct thread_rig *rig, uint32_t queue,
                      enum load_wait wait);
void thread_load_deinit(struct thread_load *load);

/*
 * Submits, waits and polls until `count` more are finished; then, with `dry`, until nothing
 * is out.  Returns early with what poll says if that is not SK_OK, and nothing is out then
 * unless the load `keeps`.
 */
enum sk_status thread_load_run(struct thread_load *load, uint32_t count, bool dry);

#endif
