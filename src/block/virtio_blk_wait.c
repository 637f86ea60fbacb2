/* SPDX-License-Identifier: MIT */
/* Sleeping until there is something for poll to do. */
#include "block/virtio_blk_slot.h"

/* True if poll has something to do, besides what the ring may hold. */
static bool has_work(const struct ski_blk_queue *queue)
{
    return queue->refused != NULL || !ski_blk_is_ready(queue);
}

enum sk_status ski_blk_wait(struct sk_block_queue *face, uint64_t until_ns)
{
    struct ski_blk_queue *queue = SK_CONTAINER_OF(face, struct ski_blk_queue, queue);
    const struct sk_platform *platform = queue->blk->block.platform;
    bool interrupts = queue->blk->interrupt_count != 0;
    enum sk_status status = SK_ERR_TIMEOUT;

    if (queue->polling) {
        return SK_ERR_BUSY;
    }
    for (;;) {
        uint32_t seen = queue->interrupts;
        uint64_t time;

        if (has_work(queue) || ski_ring_interrupts_on(&queue->ring)) {
            status = SK_OK;
            break;
        }
        ski_blk_look_at_clock(queue);
        ski_blk_look_at_events(queue);
        time = ski_blk_now(queue);
        if (has_work(queue) || time >= until_ns) {
            status = has_work(queue) ? SK_OK : SK_ERR_TIMEOUT;
            break;
        }
        queue->queue.statistics.waits++;
        if (platform->wait != NULL) {
            bool watched = queue->free_count != queue->depth;
            uint64_t until =
                watched && queue->next_tick_ns < until_ns ? queue->next_tick_ns : until_ns;

            platform->wait(platform->context, interrupts ? &queue->interrupts : NULL, seen, until);
        }
    }
    if (ski_blk_is_ready(queue)) {
        ski_ring_interrupts_off(&queue->ring);
    }
    return status;
}
