/* SPDX-License-Identifier: MIT */
/* Time, configuration changes and faults. */
#include "block/virtio_blk_slot.h"

#include <skio/checked.h>

#include "block/block_watch.h"

uint64_t ski_blk_now(const struct ski_blk_queue *queue)
{
    const struct sk_platform *platform = queue->blk->block.platform;

    return platform->now_ns(platform->context);
}

/* A line about a fault, of which a queue has a few. */
static void log_fault(struct ski_blk_queue *queue, const char *what, uint32_t value)
{
    const struct ski_blk *blk = queue->blk;

    if (sk_log_limit_pass(&queue->fault_lines)) {
        sk_log_print(blk->block.platform->log, SK_LOG_ERROR, "virtio-blk 0x%llx queue %u: %s %u",
                     (unsigned long long)blk->virtio.transport->address, queue->queue.index, what,
                     value);
    }
}

void ski_blk_violated(struct ski_blk_queue *queue, const char *what, uint32_t value)
{
    log_fault(queue, what, value);
    ski_blk_stop(queue->blk, SK_ERR_MALFORMED);
}

/* ---- The device, as its status and its configuration say -------------------------------- */

/* Stops a device that a look found unfit to go on; `value` is its status register. */
static void stop_unfit(struct ski_blk_queue *queue, enum sk_status status, uint32_t value)
{
    if (status == SK_ERR_GONE) {
        log_fault(queue, "the device is gone; status", value);
    } else if (status == SK_ERR_BROKEN) {
        log_fault(queue, "the device cannot be reached; status", value);
    } else if ((value & SK_VIRTIO_STATUS_DEVICE_NEEDS_RESET) != 0) {
        log_fault(queue, "the device needs a reset; status", value);
    } else {
        log_fault(queue, "the device cannot go on; status", value);
    }
    ski_blk_stop(queue->blk, status);
}

/* Looks whether the device is there and well; without interrupts, for events too. */
static void look_at_device(struct ski_blk_queue *queue)
{
    struct ski_blk *blk = queue->blk;
    enum sk_status status = SK_OK;
    uint32_t value = 0;

    if (!ski_blk_try_control(blk)) {
        return; /* another owner is at it */
    }
    if (ski_blk_is_ready(queue)) {
        status = ski_virtio_device_look(&blk->virtio, &value);
        if (status == SK_OK && blk->interrupt_count == 0) {
            ski_blk_interrupt(blk); /* nobody else would see a configuration change */
        }
    }
    ski_blk_leave_control(blk);
    if (status != SK_OK) {
        stop_unfit(queue, status, value);
    }
}

/* Makes block.info that of now, unless another owner does. */
static void follow_configuration(struct ski_blk_queue *queue)
{
    struct ski_blk *blk = queue->blk;
    uint32_t events = blk->config_events;
    enum sk_status status = SK_OK;
    uint32_t value = 0;

    if (!ski_blk_try_control(blk)) {
        return;
    }
    if (ski_blk_is_ready(queue)) {
        status = ski_virtio_device_look(&blk->virtio, &value);
        if (status == SK_OK) {
            status = ski_blk_renew_info(blk);
            status = status == SK_ERR_RANGE ? SK_ERR_MALFORMED : status;
        }
        blk->config_seen = events;
    }
    ski_blk_leave_control(blk);
    if (status != SK_OK) {
        stop_unfit(queue, status, value);
    }
}

void ski_blk_use_info(struct ski_blk_queue *queue, const struct sk_block_info *info)
{
    queue->capacity_sectors = info->capacity_sectors;
    queue->write_back = info->cache == SK_BLOCK_CACHE_WRITE_BACK;
    queue->discard = info->discard;
    queue->write_zeroes = info->write_zeroes;
    queue->secure_erase = info->secure_erase;
}

static void follow_info(struct ski_blk_queue *queue)
{
    struct sk_block_device *device = queue->queue.device;
    struct sk_block_info info;

    queue->info_seen = device->info_sequence; /* before the copy: what changes later is a new one */
    sk_block_get_info(device, &info);
    ski_blk_use_info(queue, &info);
    ski_blk_end_beyond(queue);
}

void ski_blk_tell(struct ski_blk_queue *queue)
{
    uint8_t turn = queue->turn;

    if (ski_blk_has_news(queue)) {
        queue->turn = SKI_BLK_POLLING;
        ski_block_tell(queue->queue.device);
        queue->turn = turn;
    }
}

void ski_blk_look_at_events(struct ski_blk_queue *queue)
{
    struct ski_blk *blk = queue->blk;
    uint32_t interrupts = queue->interrupts;

    queue->queue.statistics.interrupts += (interrupts - queue->interrupts_seen) % SKI_BLK_WOKEN;
    queue->interrupts_seen = interrupts;
    if (blk->config_events != blk->config_seen) {
        follow_configuration(queue);
    }
    if (blk->block.info_sequence != queue->info_seen) {
        follow_info(queue);
    }
    ski_blk_tell(queue);
}

/* ---- Time -------------------------------------------------------------------------------- */

static void stop_overdue(struct ski_blk_queue *queue, const struct sk_block_request *request)
{
    const struct ski_blk *blk = queue->blk;

    if (sk_log_limit_pass(&queue->fault_lines)) {
        sk_log_print(blk->block.platform->log, SK_LOG_ERROR,
                     "virtio-blk 0x%llx queue %u: no answer for a %s of %llu bytes at sector %llu",
                     (unsigned long long)blk->virtio.transport->address, queue->queue.index,
                     sk_block_operation_name(request->operation),
                     (unsigned long long)ski_blk_request_bytes(request),
                     (unsigned long long)ski_blk_request_sector(request));
    }
    if (!ski_blk_renew_queue(queue, SK_ERR_TIMEOUT)) {
        ski_blk_stop(queue->blk, SK_ERR_TIMEOUT);
    }
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

    if (time >= queue->next_deadline_ns) {
        const struct sk_block_request *late = ski_blk_end_late(queue, time);

        if (late != NULL) {
            stop_overdue(queue, late);
            return;
        }
    }
    if (time < queue->next_tick_ns || queue->free_count == queue->depth) {
        return;
    }
    if (!sk_checked_add(time, quarter, &queue->next_tick_ns)) {
        queue->next_tick_ns = UINT64_MAX;
    }
    ski_blk_set_mark(queue, (uint8_t)(queue->mark + SKI_BLK_TICK));
    for (uint32_t id = 0; id < queue->slot_limit; id++) {
        const struct ski_blk_slot *slot = &queue->slots[id];

        if (slot->request != NULL && ski_blk_ticks_since(queue, slot) > SKI_BLK_TICKS_PER_TIMEOUT) {
            stop_overdue(queue, slot->request);
            return;
        }
    }
    look_at_device(queue);
}
