/* SPDX-License-Identifier: MIT */
/*
 * What a submit may have to go through before the driver: some requests are
 * marked to be timed, and all are collected while a batch is open.
 */
#ifndef SKI_BLOCK_BLOCK_BATCH_H
#define SKI_BLOCK_BLOCK_BATCH_H

#include "block/block_latency.h"

/* `sk_block_queue.detour` */
#define SKI_BLOCK_DETOUR_TIME  1u
#define SKI_BLOCK_DETOUR_BATCH 2u

/* A submit while `detour` is not 0. */
void ski_block_submit_by_detour(struct sk_block_queue *queue,
                                struct sk_block_request *const *requests, uint32_t count);

/* Submits past an open batch: the caller waits for the answers. */
void ski_block_submit_now(struct sk_block_queue *queue, struct sk_block_request *const *requests,
                          uint32_t count);

/* Ends an open batch: its requests complete with `status` at the next poll. */
void ski_block_batch_refuse(struct sk_block_queue *queue, enum sk_status status);

/* Takes one request out of an open batch; false: it is not there. */
bool ski_block_batch_remove(struct sk_block_queue *queue, struct sk_block_request *request);

#endif
