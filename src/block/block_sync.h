/* SPDX-License-Identifier: MIT */
/* What synchronous calls are made of: lend memory, submit, wait, take the memory back. */
#ifndef SKI_BLOCK_BLOCK_SYNC_H
#define SKI_BLOCK_BLOCK_SYNC_H

#include <skio/block.h>

/* A request that somebody waits for; its operation, sector and flags are set by the caller. */
struct ski_block_waiter {
    struct sk_block_request request;
    bool done;
};

/* Memory that a request moves. */
struct ski_block_memory {
    void *data;
    uint64_t bytes;
    enum sk_dma_direction direction;
    struct sk_dma_constraints constraints; /* for the mapping; all 0: none */
};

/* The time until which a call may last; 0 if `timeout_ns` is: it has no end of its own. */
uint64_t ski_block_deadline(const struct sk_block_device *device, uint64_t timeout_ns);

/*
 * Submits and waits until the request is done.  It always gets there: the
 * deadline or the driver's own timeout stops a device that stalls, and what a
 * stopped device does not have any more is taken back.  The request's status, or
 * SK_ERR_BUSY (called from a completion: nothing done).
 */
enum sk_status ski_block_run(struct sk_block_queue *queue, struct ski_block_waiter *waiter,
                             uint64_t deadline_ns);

/*
 * The same for a request with memory (at most 128 KiB of pages, or one block),
 * which is mapped meanwhile.  SK_ERR_IN_DOUBT: the memory is quarantined; it is
 * still its owner's only if the constraints asked for a copy.
 */
enum sk_status ski_block_run_on(struct sk_block_queue *queue, struct ski_block_waiter *waiter,
                                const struct ski_block_memory *memory, uint64_t deadline_ns);

#endif
