/* SPDX-License-Identifier: MIT */
/*
 * Timing requests.  The face marks every so manieth request before it hands
 * them to the driver; the driver takes the mark, and ends the time when the
 * device answered.  A mark keeps a request from the driver's shortest way,
 * which therefore knows nothing of times.
 */
#ifndef SKI_BLOCK_BLOCK_LATENCY_H
#define SKI_BLOCK_BLOCK_LATENCY_H

#include <skio/block.h>

/* The mark in `sk_block_request.flags`; no caller's flag. */
#define SKI_BLOCK_FLAG_TIMED 0x80000000u

/* `sk_block_request.after`: what is left to do when the device answered the last part. */
#define SKI_BLOCK_AFTER_FLUSH 1u /* flush, if it succeeded */
#define SKI_BLOCK_AFTER_TIME  2u /* ski_block_latency_end */

/* Counts one time. */
void ski_block_latency_add(struct sk_block_latency *latency, uint64_t ns);

/* Marks some of the requests that are being submitted. */
void ski_block_latency_mark(struct sk_block_queue *queue,
                            struct sk_block_request *const *requests, uint32_t count);

/* Takes the mark away; SKI_BLOCK_AFTER_TIME if there was one. */
static inline uint8_t ski_block_latency_take(const struct sk_block_queue *queue,
                                             struct sk_block_request *request)
{
    if (queue->latency_every == 0 || (request->flags & SKI_BLOCK_FLAG_TIMED) == 0) {
        return 0;
    }
    request->flags &= ~SKI_BLOCK_FLAG_TIMED;
    return SKI_BLOCK_AFTER_TIME;
}

/* The device answered the last part of a request that is timed. */
void ski_block_latency_end(struct sk_block_queue *queue, const struct sk_block_request *request);

#endif
