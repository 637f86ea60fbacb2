/* SPDX-License-Identifier: MIT */
/*
 * Batches: requests are collected here, in the face, and reach the driver when
 * the batch ends.  So there is nothing to withdraw: a batch that is aborted was
 * never in a ring, whatever its requests would have been cut into.
 */
#include "block/block_batch.h"

static void collect(struct sk_block_queue *queue, struct sk_block_request *const *requests,
                    uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        requests[i]->next = NULL;
        *queue->batch_last = requests[i];
        queue->batch_last = &requests[i]->next;
    }
    queue->batch_count += count;
}

void ski_block_submit_now(struct sk_block_queue *queue, struct sk_block_request *const *requests,
                          uint32_t count)
{
    if ((queue->detour & SKI_BLOCK_DETOUR_TIME) != 0) {
        ski_block_latency_mark(queue, requests, count);
    }
    queue->ops->submit(queue, requests, count);
}

void ski_block_submit_by_detour(struct sk_block_queue *queue,
                                struct sk_block_request *const *requests, uint32_t count)
{
    if ((queue->detour & SKI_BLOCK_DETOUR_BATCH) == 0) {
        ski_block_submit_now(queue, requests, count);
        return;
    }
    if ((queue->detour & SKI_BLOCK_DETOUR_TIME) != 0) {
        ski_block_latency_mark(queue, requests, count);
    }
    collect(queue, requests, count);
}

enum sk_status sk_block_batch_begin(struct sk_block_queue *queue)
{
    if ((queue->detour & SKI_BLOCK_DETOUR_BATCH) != 0) {
        return SK_ERR_BUSY;
    }
    queue->detour |= SKI_BLOCK_DETOUR_BATCH;
    queue->batch = NULL;
    queue->batch_last = &queue->batch;
    queue->batch_count = 0;
    return SK_OK;
}

uint32_t sk_block_batch_count(const struct sk_block_queue *queue)
{
    return (queue->detour & SKI_BLOCK_DETOUR_BATCH) != 0 ? queue->batch_count : 0;
}

/* Closes the batch; what it had, or NULL. */
static struct sk_block_request *close_batch(struct sk_block_queue *queue)
{
    struct sk_block_request *first = sk_block_batch_count(queue) != 0 ? queue->batch : NULL;

    queue->detour &= ~SKI_BLOCK_DETOUR_BATCH;
    queue->batch = NULL;
    return first;
}

void sk_block_batch_end(struct sk_block_queue *queue)
{
    struct sk_block_request *first = close_batch(queue);

    if (first != NULL) {
        queue->ops->submit_list(queue, first);
    }
}

void ski_block_batch_refuse(struct sk_block_queue *queue, enum sk_status status)
{
    struct sk_block_request *first = close_batch(queue);

    for (struct sk_block_request *request = first; request != NULL; request = request->next) {
        request->flags &= ~SKI_BLOCK_FLAG_TIMED;
    }
    if (first != NULL) {
        queue->ops->refuse_list(queue, first, status);
    }
}

void sk_block_batch_abort(struct sk_block_queue *queue)
{
    ski_block_batch_refuse(queue, SK_ERR_CANCELED);
}

bool ski_block_batch_remove(struct sk_block_queue *queue, struct sk_block_request *request)
{
    struct sk_block_request **link = &queue->batch;

    if (sk_block_batch_count(queue) == 0) {
        return false;
    }
    while (*link != NULL && *link != request) {
        link = &(*link)->next;
    }
    if (*link == NULL) {
        return false;
    }
    *link = request->next;
    if (queue->batch_last == &request->next) {
        queue->batch_last = link;
    }
    queue->batch_count--;
    request->flags &= ~SKI_BLOCK_FLAG_TIMED;
    return true;
}
