/* SPDX-License-Identifier: MIT */
/*
 * A request's way through one queue: checked, cut into parts that the device
 * takes, put into slots, published once for a batch, and completed by poll.
 *
 * Everything the device answers is three loads: the used index, an id, a
 * status byte.  Each is made once and checked against private state.
 */
#include "block/virtio_blk_slot.h"

#include <skio/checked.h>

/* Of polls that find something, every how manieth looks at the clock as well. */
#define POLLS_PER_LOOK 64u

static void finish(struct ski_blk_queue *queue, struct sk_block_request *request)
{
    struct sk_block_statistics *statistics = &queue->queue.statistics;

    statistics->requests++;
    request->complete(request);
}

/* ---- Submit ------------------------------------------------------------------------------ */

/*
 * The usual request: one segment that the device takes whole.  True: it is in
 * its slot.  False: look at it in full; nothing was done.
 */
static inline bool start_simple(struct ski_blk_queue *queue, struct sk_block_request *request)
{
    const struct sk_dma_segment *segment = request->segments;
    bool writes = request->operation == SK_BLOCK_WRITE;
    struct ski_blk_part part = { .type = writes ? SKI_BLK_TYPE_OUT : SKI_BLK_TYPE_IN,
                                 .sector = request->sector,
                                 .count = 1 };
    uint32_t slot;

    if (request->segment_count != 1 || segment == NULL || request->flags != 0 ||
        queue->free_count == 0 || queue->waiting != NULL ||
        (request->operation != SK_BLOCK_READ && (!writes || queue->read_only))) {
        return false;
    }
    part.bytes = segment->bytes;
    if (part.bytes == 0 || part.bytes > queue->segment_bytes_max ||
        (part.bytes & queue->block_mask) != 0 || (part.sector & queue->sector_mask) != 0 ||
        !sk_checked_range(part.sector, part.bytes / SK_BLOCK_SECTOR_BYTES,
                          queue->capacity_sectors)) {
        return false;
    }
    request->status = SK_OK;
    request->parts = 0;
    request->bytes_left = 0;
    request->flush_after = false;
    slot = queue->free_slots[queue->free_count - 1];
    ski_blk_put_segment(queue, slot, 0, segment->address.raw, part.bytes,
                        writes ? 0 : SKI_RING_WRITE);
    ski_blk_start_slot(queue, slot, request, &part);
    return true;
}

static void start(struct ski_blk_queue *queue, struct sk_block_request *request)
{
    enum sk_status status;

    request->parts = 0;
    request->flush_after = false;
    request->segment_index = 0;
    request->segment_offset = 0;
    request->bytes_left = 0;
    request->next_sector = request->sector;
    status = ski_blk_check(queue, request);
    request->status = status == SK_ERR_AGAIN ? SK_OK : status;
    if (status != SK_OK) {
        queue->queue.statistics.errors_refused += status != SK_ERR_AGAIN;
        ski_blk_append(&queue->refused_last, request);
    } else if (queue->waiting != NULL || !ski_blk_issue(queue, request)) {
        ski_blk_append(&queue->waiting_last, request);
    } else if (request->parts == 0) { /* not even its first part fits the device's limits */
        queue->queue.statistics.errors_refused++;
        ski_blk_append(&queue->refused_last, request);
    }
}

static inline void publish(struct ski_blk_queue *queue)
{
    struct sk_virtio_transport *transport = queue->blk->virtio.transport;
    uint32_t data = queue->queue.index;

    if (!ski_ring_has_news(&queue->ring)) {
        return;
    }
    if (ski_ring_publish(&queue->ring)) {
        if (queue->notification_data) {
            data |= ski_ring_position(&queue->ring) << 16;
        }
        queue->queue.statistics.notifications++;
        transport->ops->notify(transport, data);
    } else {
        queue->queue.statistics.notifications_avoided++;
    }
}

void ski_blk_submit(struct sk_block_queue *face, struct sk_block_request *const *requests,
                    uint32_t count)
{
    struct ski_blk_queue *queue = SK_CONTAINER_OF(face, struct ski_blk_queue, queue);

    bool ready = ski_blk_is_ready(queue);

    for (uint32_t i = 0; i < count; i++) {
        if (!ready || !start_simple(queue, requests[i])) {
            start(queue, requests[i]);
        }
    }
    if (!queue->polling && ready) {
        publish(queue);
    }
}

/* Requests that waited for a slot, in their order. */
static void issue_waiting(struct ski_blk_queue *queue)
{
    while (queue->waiting != NULL && ski_blk_issue(queue, queue->waiting)) {
        struct sk_block_request *request = queue->waiting;

        queue->waiting = request->next;
        if (queue->waiting == NULL) {
            queue->waiting_last = &queue->waiting;
        }
        if (request->parts == 0) { /* failed with nothing at the device */
            ski_blk_append(&queue->refused_last, request);
        }
    }
}

/* ---- Completion -------------------------------------------------------------------------- */

static enum sk_status status_of(uint8_t answer)
{
    switch (answer) {
    case SKI_BLK_STATUS_OK:
        return SK_OK;
    case SKI_BLK_STATUS_IOERR:
        return SK_ERR_IO;
    case SKI_BLK_STATUS_UNSUPP:
        return SK_ERR_UNSUPPORTED;
    default:
        return SK_ERR_MALFORMED;
    }
}

static inline void count_part(struct ski_blk_queue *queue, enum sk_block_operation operation,
                              uint32_t bytes, enum sk_status status)
{
    struct sk_block_statistics *statistics = &queue->queue.statistics;

    statistics->parts++;
    if (status != SK_OK) {
        statistics->errors_io++;
    } else if (operation == SK_BLOCK_READ) {
        statistics->bytes_read += bytes;
    } else if (operation == SK_BLOCK_WRITE) {
        statistics->bytes_written += bytes;
    } else if (ski_blk_range_limits(queue, operation) != NULL) {
        statistics->bytes_cleared += bytes;
    }
}

/* The second half of a FUA write: a slot has just become free. */
static void start_flush(struct ski_blk_queue *queue, struct sk_block_request *request)
{
    static const struct ski_blk_part flush = { .type = SKI_BLK_TYPE_FLUSH };

    request->flush_after = false;
    ski_blk_start_slot(queue, queue->free_slots[queue->free_count - 1], request, &flush);
}

/* Frees the slot of a part that ended; true if its request has ended with it. */
static inline bool end_part(struct ski_blk_queue *queue, uint32_t slot, enum sk_status status)
{
    struct sk_block_request *request = queue->slots[slot].request;

    queue->slots[slot].request = NULL;
    queue->free_slots[queue->free_count++] = (uint16_t)slot;
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
    if (request->flush_after && request->status == SK_OK) {
        start_flush(queue, request);
        return false;
    }
    return true;
}

/* The slot in flight that an id stands for.  SKI_BLK_NO_SLOT: none; the device was stopped. */
static inline uint32_t slot_of(struct ski_blk_queue *queue, uint32_t id)
{
    uint32_t slot = id < queue->size ? queue->slot_of_head[id] : SKI_BLK_NO_SLOT;

    if (slot == SKI_BLK_NO_SLOT || queue->slots[slot].request == NULL) {
        ski_blk_violated(queue, "completion of a request that is not outstanding: id", id);
        return SKI_BLK_NO_SLOT;
    }
    return slot;
}

/*
 * Ends the part in a slot by the device's answer.  Stores the request that
 * ended with it, or NULL.  False: the device broke the protocol and was stopped.
 */
static inline bool end_slot(struct ski_blk_queue *queue, uint32_t slot,
                            struct sk_block_request **out_ended)
{
    struct sk_block_request *request = queue->slots[slot].request;
    uint8_t answer = ski_door_load8(&queue->statuses[slot]);
    enum sk_status status = status_of(answer);

    *out_ended = NULL;
    if (status == SK_ERR_MALFORMED) {
        ski_blk_violated(queue, "completion without an answer: status", answer);
        return false; /* the slot stays in flight and ends with the rest */
    }
    count_part(queue, request->operation, queue->slots[slot].bytes, status);
    if (end_part(queue, slot, status)) {
        *out_ended = request;
    }
    return true;
}

static uint32_t harvest_split(struct ski_blk_queue *queue, uint32_t budget)
{
    struct ski_ring_split *ring = &queue->ring.split;
    uint32_t completed = 0;
    uint16_t pending;

    if (ski_ring_split_pending(ring, &pending) != SK_OK) {
        ski_blk_violated(queue, "more completions than requests:", pending);
        return 0;
    }
    for (; pending > 0 && completed < budget; pending--) {
        uint32_t slot = slot_of(queue, ski_ring_split_take(ring));
        struct sk_block_request *ended;

        if (slot == SKI_BLK_NO_SLOT || !end_slot(queue, slot, &ended)) {
            break;
        }
        if (ended != NULL) {
            finish(queue, ended);
            completed++;
        }
    }
    return completed;
}

/* Parts that end no request are bounded too: each needs a slot in flight. */
static uint32_t harvest_packed(struct ski_blk_queue *queue, uint32_t budget)
{
    struct ski_ring_packed *ring = &queue->ring.packed;
    uint32_t completed = 0;

    while (completed < budget && ski_ring_packed_is_used(ring)) {
        uint32_t slot = slot_of(queue, ski_ring_packed_id(ring));
        struct sk_block_request *ended;

        if (slot == SKI_BLK_NO_SLOT) {
            break;
        }
        ski_ring_packed_skip(ring, queue->indirect ? 1
                                                   : queue->slots[slot].segments +
                                                         SKI_BLK_CHAIN_FIXED);
        if (!end_slot(queue, slot, &ended)) {
            break;
        }
        if (ended != NULL) {
            finish(queue, ended);
            completed++;
        }
    }
    return completed;
}

/* Callbacks of what was there when it began: a callback may submit again. */
static uint32_t finish_refused(struct ski_blk_queue *queue, uint32_t budget)
{
    struct sk_block_request *list = queue->refused;
    uint32_t completed = 0;

    queue->refused = NULL;
    queue->refused_last = &queue->refused;
    while (list != NULL && completed < budget) {
        struct sk_block_request *request = list;

        list = request->next;
        finish(queue, request);
        completed++;
    }
    while (list != NULL) { /* beyond the budget: later */
        struct sk_block_request *request = list;

        list = request->next;
        ski_blk_append(&queue->refused_last, request);
    }
    return completed;
}

void ski_blk_finish_refused(struct ski_blk_queue *queue)
{
    (void)finish_refused(queue, UINT32_MAX);
}

/* The status that requests at a stopped device end with. */
static enum sk_status stopped_status(const struct ski_blk *blk)
{
    return blk->block.state == SK_BLOCK_STATE_IN_DOUBT ? SK_ERR_IN_DOUBT : blk->reason;
}

static void count_stopped(struct ski_blk_queue *queue, enum sk_status status)
{
    queue->queue.statistics.errors_timeout += status == SK_ERR_TIMEOUT;
    queue->queue.statistics.errors_protocol += status == SK_ERR_MALFORMED;
}

static uint32_t drain_slots(struct ski_blk_queue *queue, uint32_t budget)
{
    enum sk_status status = stopped_status(queue->blk);
    uint32_t completed = 0;

    for (uint32_t slot = 0; slot < queue->slot_count && completed < budget; slot++) {
        struct sk_block_request *request = queue->slots[slot].request;

        if (request == NULL) {
            continue;
        }
        if (request->status == SK_OK || status == SK_ERR_IN_DOUBT) {
            request->status = status;
        }
        count_stopped(queue, status);
        if (end_part(queue, slot, status)) {
            finish(queue, request);
            completed++;
        }
    }
    return completed;
}

/* Only after the slots: a request in parts is in both places. */
static uint32_t drain_waiting(struct ski_blk_queue *queue, uint32_t budget)
{
    uint32_t completed = 0;

    while (queue->waiting != NULL && completed < budget) {
        struct sk_block_request *request = queue->waiting;

        queue->waiting = request->next;
        if (queue->waiting == NULL) {
            queue->waiting_last = &queue->waiting;
        }
        if (request->status == SK_OK) {
            request->status = SK_ERR_BROKEN;
        }
        finish(queue, request);
        completed++;
    }
    return completed;
}

uint32_t ski_blk_drain(struct ski_blk_queue *queue, uint32_t budget)
{
    bool polling = queue->polling;
    uint32_t completed;

    queue->polling = true;
    completed = drain_slots(queue, budget);
    if (queue->free_count == queue->slot_count) {
        completed += drain_waiting(queue, budget - completed);
    }
    queue->polling = polling;
    return completed;
}

/* ---- Poll and wait ----------------------------------------------------------------------- */

enum sk_status ski_blk_poll(struct sk_block_queue *face, uint32_t budget, uint32_t *out_completed)
{
    struct ski_blk_queue *queue = SK_CONTAINER_OF(face, struct ski_blk_queue, queue);
    uint32_t completed = 0;
    uint32_t state;

    if (out_completed != NULL) {
        *out_completed = 0;
    }
    if (queue->polling) {
        return SK_ERR_BUSY;
    }
    queue->polling = true;
    budget = budget == 0 ? queue->slot_count : budget;
    if (queue->refused != NULL) {
        completed = finish_refused(queue, budget);
    }
    if (ski_blk_is_ready(queue)) {
        completed += queue->ring.is_packed ? harvest_packed(queue, budget - completed)
                                           : harvest_split(queue, budget - completed);
        queue->polls_since_look++;
        if (completed == 0 || queue->polls_since_look >= POLLS_PER_LOOK) {
            queue->polls_since_look = 0;
            ski_blk_look_at_clock(queue);
            ski_blk_look_at_events(queue);
        }
        issue_waiting(queue);
    }
    state = atomic_load_explicit(&queue->blk->block.state, memory_order_acquire);
    if (state == SK_BLOCK_STATE_READY) {
        publish(queue);
    } else if (state != SK_BLOCK_STATE_RESETTING) {
        completed += ski_blk_drain(queue, budget - completed);
    }
    queue->polling = false;
    queue->queue.statistics.polls++;
    queue->queue.statistics.polls_empty += completed == 0;
    if (out_completed != NULL) {
        *out_completed = completed;
    }
    if (state == SK_BLOCK_STATE_READY || state == SK_BLOCK_STATE_RESETTING) {
        return SK_OK;
    }
    return state == SK_BLOCK_STATE_IN_DOUBT ? SK_ERR_IN_DOUBT : SK_ERR_BROKEN;
}

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
            bool watched = queue->free_count != queue->slot_count;
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
