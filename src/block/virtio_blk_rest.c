/* SPDX-License-Identifier: MIT */
/*
 * What leaves the short way of virtio_blk_queue.c: requests that are cut,
 * refused, flushed behind, or wait for a slot; and answers other than success.
 */
#include "block/virtio_blk_slot.h"

/* ---- Submit ------------------------------------------------------------------------------ */

/* Stopped, and those that the device had may wait for it: so may new ones, behind them. */
static bool is_pausing(const struct ski_blk *blk)
{
    uint32_t state = blk->block.state;

    return (state == SK_BLOCK_STATE_RESETTING || state == SK_BLOCK_STATE_BROKEN) &&
           ski_blk_may_keep(blk);
}

void ski_blk_start_request(struct ski_blk_queue *queue, struct sk_block_request *request)
{
    request->after = ski_block_latency_take(&queue->queue, request);
    request->repeats = 0;
    if (is_pausing(queue->blk)) {
        ski_blk_hold(queue, request);
        ski_blk_append(&queue->waiting_last, request);
    } else if (!ski_blk_admit(queue, request)) {
        ski_blk_end_unanswered(queue, request);
    } else if (queue->waiting != NULL || !ski_blk_issue(queue, request)) {
        ski_blk_append(&queue->waiting_last, request);
    } else if (request->parts == 0) { /* not even its first part fits the device's limits */
        queue->queue.statistics.refused++;
        ski_blk_end_unanswered(queue, request);
    }
}

void ski_blk_issue_waiting(struct ski_blk_queue *queue)
{
    while (queue->waiting != NULL && (ski_blk_start_waiting(queue, queue->waiting) ||
                                      ski_blk_issue(queue, queue->waiting))) {
        struct sk_block_request *request = queue->waiting;

        queue->waiting = request->next;
        if (queue->waiting == NULL) {
            queue->waiting_last = &queue->waiting;
        }
        if (request->parts == 0) { /* failed with nothing at the device */
            ski_blk_end_unanswered(queue, request);
        }
    }
}

/* ---- Completion -------------------------------------------------------------------------- */

static enum sk_status status_of(const struct ski_blk_queue *queue, uint8_t answer)
{
    switch (answer) {
    case SKI_BLK_STATUS_OK:
        return SK_OK;
    case SKI_BLK_STATUS_IOERR:
        return SK_ERR_IO;
    case SKI_BLK_STATUS_UNSUPP:
        return SK_ERR_UNSUPPORTED;
    default:
        return ski_blk_zone_status(queue, answer);
    }
}

static void count_part(struct ski_blk_queue *queue, enum sk_block_operation operation,
                       uint32_t bytes, enum sk_status status)
{
    struct sk_block_statistics *statistics = &queue->queue.statistics;

    statistics->parts++;
    if (status != SK_OK) {
        return;
    }
    if (operation == SK_BLOCK_READ) {
        statistics->bytes_read += bytes;
    } else if (operation == SK_BLOCK_WRITE || operation == SK_BLOCK_ZONE_APPEND) {
        statistics->bytes_written += bytes;
    } else if (ski_blk_range_limits(queue, operation) != NULL) {
        statistics->bytes_cleared += (uint64_t)bytes * SK_BLOCK_SECTOR_BYTES;
    }
}

/* The second half of FUA writes: for each of them a slot has just become free. */
static void start_flushes(struct ski_blk_queue *queue)
{
    static const struct ski_blk_part flush = { .type = SKI_BLK_TYPE_FLUSH };

    while (queue->flushing != NULL) {
        struct sk_block_request *request = queue->flushing;

        queue->flushing = request->next;
        ski_blk_start_slot(queue, request, &flush);
    }
}

/* Frees the slot of a part that ended; true if its request has ended with it. */
static bool end_part(struct ski_blk_queue *queue, uint32_t id, enum sk_status status)
{
    struct sk_block_request *request = queue->slots[id].request;

    queue->slots[id].request = NULL;
    queue->free_slots[queue->free_count++] = (uint16_t)id;
    if (request->status == SK_OK) {
        request->status = status;
    }
    request->parts--;
    if (request->parts != 0) {
        return false;
    }
    if (request->bytes_left != 0) {
        return request != queue->waiting; /* the waiting list has it, and goes on or ends it */
    }
    if ((request->after & SKI_BLOCK_AFTER_FLUSH) != 0 && request->status == SK_OK) {
        request->after &= (uint8_t)~SKI_BLOCK_AFTER_FLUSH;
        request->next = queue->flushing;
        queue->flushing = request;
        return false;
    }
    return true;
}

/*
 * Ends a part by the device's answer.  The request that ended with it, or NULL;
 * if the answer was none the device was stopped, and the slot stays in flight
 * and ends with the rest.
 */
static struct sk_block_request *end_slot(struct ski_blk_queue *queue, uint32_t id,
                                         uint8_t answer)
{
    struct sk_block_request *request = queue->slots[id].request;
    enum sk_status status = status_of(queue, answer);

    if (status == SK_ERR_MALFORMED) {
        ski_blk_violated(queue, "completion without an answer: status", answer);
        return NULL;
    }
    if (status == SK_OK && request->operation == SK_BLOCK_ZONE_APPEND &&
        !ski_blk_take_append(queue, id)) {
        ski_blk_violated(queue, "appended outside of the zone; id", id);
        return NULL;
    }
    count_part(queue, request->operation, ski_blk_bytes_of(&queue->slots[id]), status);
    if (!end_part(queue, id, status)) {
        return NULL;
    }
    if ((request->after & SKI_BLOCK_AFTER_TIME) != 0) {
        ski_block_latency_end(&queue->queue, request);
    }
    ski_blk_count_error(queue, request);
    return request;
}

static void append_ended(struct ski_blk_ended *ended, struct sk_block_request *request)
{
    *ended->last = request;
    ended->last = &request->next;
    ended->count++;
}

/* Goes on where the short way met something; false: the device broke the protocol and was stopped. */
static bool end_odd(struct ski_blk_queue *queue, struct ski_blk_odd odd,
                    struct ski_blk_ended *ended)
{
    struct sk_block_request *request;

    if (odd.what == SKI_BLK_ODD_INDEX) {
        ski_blk_violated(queue, "more completions than requests:", odd.value);
        return false;
    }
    if (odd.what == SKI_BLK_ODD_BATCH && ski_blk_order_knows(queue, odd.value)) {
        ski_blk_violated(queue, "fewer completions than the last one speaks of: id", odd.value);
        return false;
    }
    if (odd.what == SKI_BLK_ODD_ID || odd.what == SKI_BLK_ODD_BATCH) {
        ski_blk_violated(queue, "completion of a request that is not outstanding: id", odd.value);
        return false;
    }
    if (queue->in_order) {
        ski_blk_order_pass(queue);
    } else if (queue->ring.is_packed) {
        ski_ring_packed_skip(&queue->ring.packed, ski_blk_descriptors_of(queue, odd.value));
    }
    request = end_slot(queue, odd.value, (uint8_t)odd.what);
    if (request != NULL) {
        append_ended(ended, request);
    }
    return queue->slots[odd.value].request == NULL;
}

/* What the device says next that it is done with; ODD_NOT: nothing.  Loads it all, once. */
static struct ski_blk_odd next_used(struct ski_blk_queue *queue)
{
    struct ski_blk_odd odd = { SKI_BLK_ODD_NOT, 0 };
    uint16_t pending;

    if (queue->ring.is_packed) {
        if (!ski_ring_packed_is_used(&queue->ring.packed)) {
            return odd;
        }
        odd.value = ski_ring_packed_id(&queue->ring.packed);
    } else {
        if (ski_ring_split_pending(&queue->ring.split, &pending) != SK_OK) {
            return (struct ski_blk_odd){ SKI_BLK_ODD_INDEX, pending };
        }
        if (pending == 0) {
            return odd;
        }
        odd.value = ski_ring_split_take(&queue->ring.split);
    }
    odd.what = odd.value < queue->slot_limit && queue->slots[odd.value].request != NULL
                   ? ski_door_load8(&queue->slots[odd.value].frame->status)
                   : SKI_BLK_ODD_ID;
    return odd;
}

/*
 * Takes what the device used.  Parts that end no request are bounded too: each
 * needs a slot in flight.
 */
static void harvest(struct ski_blk_queue *queue, uint32_t budget, struct ski_blk_ended *ended,
                    struct ski_blk_odd odd)
{
    while (odd.what != SKI_BLK_ODD_NOT || ended->count < budget) {
        if (odd.what == SKI_BLK_ODD_NOT) {
            odd = queue->in_order ? ski_blk_order_next(queue) : next_used(queue);
        }
        if (odd.what == SKI_BLK_ODD_NOT || !end_odd(queue, odd, ended)) {
            return;
        }
        odd.what = SKI_BLK_ODD_NOT;
    }
}

static void take_refused(struct ski_blk_queue *queue, uint32_t budget,
                         struct ski_blk_ended *ended)
{
    while (queue->refused != NULL && ended->count < budget) {
        struct sk_block_request *request = queue->refused;

        queue->refused = request->next;
        append_ended(ended, request);
    }
    if (queue->refused == NULL) {
        queue->refused_last = &queue->refused;
    }
}

uint32_t ski_blk_finish_refused(struct ski_blk_queue *queue, uint32_t budget)
{
    struct ski_blk_ended ended = { &queue->ended, 0 };
    uint8_t turn = queue->turn;

    queue->turn = SKI_BLK_POLLING;
    take_refused(queue, budget, &ended);
    ski_blk_finish(queue, ended);
    queue->turn = turn;
    return ended.count;
}

/* ---- Poll -------------------------------------------------------------------------------- */

enum sk_status ski_blk_poll_status(const struct ski_blk_queue *queue)
{
    switch (atomic_load_explicit(&queue->blk->block.state, memory_order_acquire)) {
    case SK_BLOCK_STATE_READY:
    case SK_BLOCK_STATE_RESETTING: /* somebody is at it: poll later */
        return SK_OK;
    case SK_BLOCK_STATE_IN_DOUBT:
        return SK_ERR_IN_DOUBT;
    case SK_BLOCK_STATE_FAILED:
        return SK_ERR_GONE;
    default:
        return SK_ERR_BROKEN;
    }
}

/* What poll does at a device that works. */
static void poll_ready(struct ski_blk_queue *queue, uint32_t budget, struct ski_blk_ended *ended,
                       struct ski_blk_odd odd)
{
    bool look = queue->queue.statistics.polls % SKI_BLK_POLLS_PER_LOOK == 0;

    queue->queue.statistics.parts += ended->count; /* the short way's are whole */
    harvest(queue, budget, ended, odd);
    if (ended->count == 0 || look) {
        ski_ring_interrupts_off(&queue->ring); /* an index that is far behind would come round */
        ski_blk_look_at_clock(queue);
        ski_blk_look_at_events(queue);
    }
    if (ski_blk_is_ready(queue)) { /* it was, when the poll began */
        start_flushes(queue);
        ski_blk_issue_waiting(queue);
    }
}

/* Who polls wants no interrupts. */
static void disarm(struct ski_blk_queue *queue)
{
    if (queue->turn == SKI_BLK_ARMED && ski_blk_is_ready(queue)) {
        ski_ring_interrupts_off(&queue->ring);
    }
}

enum sk_status ski_blk_poll_rest(struct ski_blk_queue *queue, uint32_t budget,
                                 uint32_t *out_completed, struct ski_blk_ended ended,
                                 struct ski_blk_odd odd)
{
    enum sk_status status = SK_ERR_BUSY;
    uint32_t completed = 0;

    if (queue->turn != SKI_BLK_POLLING) {
        disarm(queue);
        queue->turn = SKI_BLK_POLLING;
        budget = budget == 0 ? queue->depth : budget;
        take_refused(queue, budget, &ended);
        if (ski_blk_is_ready(queue)) {
            poll_ready(queue, budget, &ended, odd);
        }
        queue->queue.statistics.polls++;
        completed = ended.count;
        ski_blk_finish(queue, ended);
        if (ski_blk_is_ready(queue)) {
            ski_blk_publish(queue);
        } else if (ski_blk_poll_status(queue) != SK_OK) {
            completed += ski_blk_drain(queue, budget - completed);
            ski_blk_tell(queue);
        }
        queue->queue.statistics.polls_empty += completed == 0;
        queue->turn = SKI_BLK_IDLE;
        status = ski_blk_poll_status(queue);
    }
    if (out_completed != NULL) {
        *out_completed = completed;
    }
    return status;
}
