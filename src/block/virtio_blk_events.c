/* SPDX-License-Identifier: MIT */
/* Time, configuration changes and faults. */
#include "block/virtio_blk_slot.h"

#include <skio/checked.h>

uint64_t ski_blk_now(const struct ski_blk_queue *queue)
{
    const struct sk_platform *platform = queue->blk->block.platform;

    return platform->now_ns(platform->context);
}

void ski_blk_violated(struct ski_blk_queue *queue, const char *what, uint32_t value)
{
    struct ski_blk *blk = queue->blk;

    if (sk_log_limit_pass(&blk->fault_lines)) {
        sk_log_print(blk->block.platform->log, SK_LOG_ERROR, "virtio-blk 0x%llx queue %u: %s %u",
                     (unsigned long long)blk->virtio.transport->address, queue->queue.index, what,
                     value);
    }
    ski_blk_stop(blk, SK_ERR_MALFORMED);
}

/*
 * Moves the queue's tick on when a quarter of the timeout went by, and stops
 * the device if a request has seen more than a timeout's worth of ticks.
 */
void ski_blk_look_at_clock(struct ski_blk_queue *queue)
{
    struct ski_blk *blk = queue->blk;
    uint64_t quarter = blk->options.timeout_ns / SKI_BLK_TICKS_PER_TIMEOUT + 1;
    uint64_t time = ski_blk_now(queue);

    if (time < queue->next_tick_ns || queue->free_count == queue->depth) {
        return;
    }
    if (!sk_checked_add(time, quarter, &queue->next_tick_ns)) {
        queue->next_tick_ns = UINT64_MAX;
    }
    queue->tick++;
    for (uint32_t slot = 0; slot < queue->slot_limit; slot++) {
        uint8_t age = (uint8_t)(queue->tick - queue->slots[slot].tick);

        if (queue->slots[slot].request != NULL && age > SKI_BLK_TICKS_PER_TIMEOUT) {
            sk_log_print(blk->block.platform->log, SK_LOG_ERROR,
                         "virtio-blk 0x%llx queue %u: no answer for sector %llu in %llu ms",
                         (unsigned long long)blk->virtio.transport->address, queue->queue.index,
                         (unsigned long long)queue->slots[slot].request->sector,
                         (unsigned long long)(blk->options.timeout_ns / 1000000));
            ski_blk_stop(blk, SK_ERR_TIMEOUT);
            return;
        }
    }
    if (ski_virtio_device_needs_reset(&blk->virtio)) {
        ski_blk_violated(queue, "the device needs a reset; tick", queue->tick);
    } else if (blk->interrupt_count == 0) {
        ski_blk_interrupt(blk); /* nobody else would see a configuration change */
    }
}

/* A configuration change: new capacity, or a device that gave up. */
void ski_blk_look_at_events(struct ski_blk_queue *queue)
{
    struct ski_blk *blk = queue->blk;
    uint32_t events = blk->config_events;
    uint32_t interrupts = queue->interrupts;

    queue->queue.statistics.interrupts += (uint32_t)(interrupts - queue->interrupts_seen);
    queue->interrupts_seen = interrupts;
    if (events == queue->config_events_seen) {
        return;
    }
    queue->config_events_seen = events;
    if (ski_virtio_device_needs_reset(&blk->virtio)) {
        ski_blk_violated(queue, "the device needs a reset; event", events);
    } else if (ski_blk_read_capacity(queue) != SK_OK) {
        ski_blk_stop(blk, SK_ERR_MALFORMED);
    }
}
