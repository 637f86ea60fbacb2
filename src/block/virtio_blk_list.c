/* SPDX-License-Identifier: MIT */
/* Requests that come as a list: those of a batch. */
#include "block/virtio_blk_slot.h"

/* How many of a list are submitted at a time. */
#define CHUNK 32u

void ski_blk_submit_list(struct sk_block_queue *face, struct sk_block_request *first)
{
    struct ski_blk_queue *queue = SK_CONTAINER_OF(face, struct ski_blk_queue, queue);
    uint8_t turn = queue->turn;

    queue->turn = SKI_BLK_POLLING; /* one notification for all */
    while (first != NULL) {
        struct sk_block_request *requests[CHUNK];
        uint32_t count = 0;

        while (first != NULL && count < CHUNK) {
            requests[count++] = first;
            first = first->next;
        }
        face->ops->submit(face, requests, count);
    }
    queue->turn = turn;
    if (turn != SKI_BLK_POLLING && ski_blk_is_ready(queue)) {
        ski_blk_publish(queue);
    }
}

void ski_blk_refuse_list(struct sk_block_queue *face, struct sk_block_request *first,
                         enum sk_status status)
{
    struct ski_blk_queue *queue = SK_CONTAINER_OF(face, struct ski_blk_queue, queue);

    while (first != NULL) {
        struct sk_block_request *request = first;

        first = request->next;
        request->status = status;
        ski_blk_end_unanswered(queue, request);
    }
}
