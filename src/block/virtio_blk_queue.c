/* SPDX-License-Identifier: MIT */
/*
 * A request's way through one queue: checked, cut into parts that the device
 * takes, put into slots, published once for a batch, and completed by poll.
 *
 * Everything the device answers is three loads: the used index, an id, a
 * status byte.  Each is made once and checked against private state.  Poll
 * takes first and calls back then: whatever callbacks submit was not published
 * yet while answers were believed.
 *
 * What every request passes is written once and compiled for each kind of
 * ring: `packed` is a constant wherever SKI_INLINE stands.
 */
#include "block/virtio_blk_slot.h"

#include <skio/checked.h>

/* Of polls that find something, every how manieth looks at the clock as well; a power of two. */
#define POLLS_PER_LOOK 64u

_Static_assert(SK_BLOCK_READ == SKI_BLK_TYPE_IN && SK_BLOCK_WRITE == SKI_BLK_TYPE_OUT,
               "the usual operations are their types");

/* ---- Submit ------------------------------------------------------------------------------ */

/* Puts a slot's data, of one segment, where the device will find it, and makes its chain known. */
SKI_INLINE void add_simple_split(struct ski_blk_queue *queue, uint32_t slot,
                                 const struct sk_dma_segment *segment, uint32_t flags)
{
    struct ski_ring_descriptor SKI_SHARED *data = queue->slots[slot].data;

    ski_door_store64(&data->address, segment->address.raw);
    ski_door_store64(&data->rest, ski_blk_link(queue, slot, 0, segment->bytes, flags));
    ski_ring_split_add(&queue->ring.split, (uint16_t)slot);
}

SKI_INLINE void add_simple_packed(struct ski_blk_queue *queue, uint32_t slot,
                                  const struct sk_dma_segment *segment, uint32_t flags)
{
    struct ski_ring_packed *ring = &queue->ring.packed;
    struct ski_ring_descriptor SKI_SHARED *data = queue->slots[slot].data;

    if (queue->indirect) {
        ski_door_store64(&data->address, segment->address.raw);
        ski_door_store64(&data->rest, ski_ring_packed_rest(segment->bytes, 0, flags));
        ski_ring_packed_add(ring, 1, ski_blk_table_address(queue, slot), ski_blk_table_bytes(1),
                            slot, SKI_RING_INDIRECT);
        return;
    }
    ski_ring_packed_put(ring, SKI_BLK_CHAIN_DATA, segment->address.raw, segment->bytes, slot,
                        flags | SKI_RING_NEXT);
    ski_ring_packed_put(ring, SKI_BLK_CHAIN_DATA + 1, ski_blk_status_address(queue, slot), 1, slot,
                        SKI_RING_WRITE);
    ski_ring_packed_add(ring, SKI_BLK_CHAIN_FIXED + 1, ski_blk_frame_address(queue, slot),
                        sizeof(struct ski_blk_header), slot, SKI_RING_NEXT);
}

/*
 * The usual request: a read or write of one segment that the device takes
 * whole.  True: it is in the next slot, of which there is one.  False: look at
 * it in full; nothing was done.
 */
SKI_INLINE bool start_simple(struct ski_blk_queue *queue, struct sk_block_request *request,
                             bool packed)
{
    const struct sk_dma_segment *segment = request->segments;
    uint32_t operation = request->operation;
    uint32_t id = ski_blk_next_slot(queue);
    struct ski_blk_slot *slot = &queue->slots[id];

    if (operation > queue->simple_last || request->flags != 0 || request->segment_count != 1 ||
        segment == NULL || segment->bytes - 1 >= queue->simple_bytes_max ||
        (segment->bytes & queue->block_mask) != 0 || (request->sector & queue->sector_mask) != 0 ||
        !sk_checked_range(request->sector, segment->bytes / SK_BLOCK_SECTOR_BYTES,
                          queue->capacity_sectors)) {
        return false;
    }
    if (slot->segments != 1) {
        ski_blk_end_chain(queue, id, 1);
    }
    queue->free_count--;
    slot->request = request;
    slot->bytes = segment->bytes;
    slot->tick = queue->tick;
    slot->whole = true;
    request->status = SK_OK;
    request->parts = 1;
    request->after = 0;
    request->bytes_left = 0;
    ski_door_store64(&slot->frame->header.type, operation);
    ski_door_store64(&slot->frame->header.sector, request->sector);
    ski_door_store8(&slot->frame->status, SKI_BLK_STATUS_POISON);
    if (packed) {
        add_simple_packed(queue, id, segment, operation == SK_BLOCK_READ ? SKI_RING_WRITE : 0);
    } else {
        add_simple_split(queue, id, segment, operation == SK_BLOCK_READ ? SKI_RING_WRITE : 0);
    }
    return true;
}

/* It ends without an answer of the device, at the next poll. */
static void end_refused(struct ski_blk_queue *queue, struct sk_block_request *request)
{
    ski_blk_count_error(queue, request);
    ski_blk_append(&queue->refused_last, request);
}

static void start(struct ski_blk_queue *queue, struct sk_block_request *request)
{
    enum sk_status status;

    request->parts = 0;
    request->after = ski_block_latency_take(&queue->queue, request);
    request->segment_index = 0;
    request->segment_offset = 0;
    request->bytes_left = 0;
    request->next_sector = request->sector;
    status = ski_blk_check(queue, request);
    request->status = status == SK_ERR_AGAIN ? SK_OK : status;
    if (status != SK_OK) {
        queue->queue.statistics.refused += status != SK_ERR_AGAIN;
        end_refused(queue, request);
    } else if (queue->waiting != NULL || !ski_blk_issue(queue, request)) {
        ski_blk_append(&queue->waiting_last, request);
    } else if (request->parts == 0) { /* not even its first part fits the device's limits */
        queue->queue.statistics.refused++;
        end_refused(queue, request);
    }
}

/* Tells the device of what was added, if there is something. */
SKI_INLINE void publish(struct ski_blk_queue *queue, bool packed)
{
    struct sk_virtio_transport *transport = queue->transport;
    uint32_t data = queue->queue.index;
    bool wanted;

    if (packed ? queue->ring.packed.unpublished == 0
               : queue->ring.split.added == queue->ring.split.published) {
        return;
    }
    wanted = packed ? ski_ring_packed_publish(&queue->ring.packed)
                    : ski_ring_split_publish(&queue->ring.split);
    if (!wanted) {
        queue->queue.statistics.notifications_avoided++;
        return;
    }
    if (queue->notification_data) {
        data |= ski_ring_position(&queue->ring) << 16;
    }
    queue->queue.statistics.notifications++;
    transport->ops->notify(transport, data);
}

SKI_INLINE void submit(struct sk_block_queue *face, struct sk_block_request *const *requests,
                       uint32_t count, bool packed)
{
    struct ski_blk_queue *queue = SK_CONTAINER_OF(face, struct ski_blk_queue, queue);
    bool ready = ski_blk_is_ready(queue);

    for (uint32_t i = 0; i < count; i++) {
        if (!ready || queue->free_count == 0 || queue->waiting != NULL ||
            !start_simple(queue, requests[i], packed)) {
            start(queue, requests[i]);
        }
    }
    if (!queue->polling && ready) {
        publish(queue, packed);
    }
}

void ski_blk_submit_split(struct sk_block_queue *face, struct sk_block_request *const *requests,
                          uint32_t count)
{
    submit(face, requests, count, false);
}

void ski_blk_submit_packed(struct sk_block_queue *face, struct sk_block_request *const *requests,
                           uint32_t count)
{
    submit(face, requests, count, true);
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
            end_refused(queue, request);
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
        statistics->bytes_cleared += bytes;
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
 * Ends a part by the device's answer, if it is not just a whole request that
 * went well.  The request that ended with it, or NULL; the slot stays in
 * flight, and ends with the rest, if the answer was none and the device was stopped.
 */
static struct sk_block_request *end_unusual(struct ski_blk_queue *queue, uint32_t id,
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
    count_part(queue, request->operation, queue->slots[id].bytes, status);
    if (!end_part(queue, id, status)) {
        return NULL;
    }
    if ((request->after & SKI_BLOCK_AFTER_TIME) != 0) {
        ski_block_latency_end(&queue->queue, request);
    }
    ski_blk_count_error(queue, request);
    return request;
}

/*
 * Ends the part that the device says it is done with: `id` comes from the
 * device.  Stores the request that ended with it, or NULL.  False: the device
 * broke the protocol and was stopped.
 */
SKI_INLINE bool end_slot(struct ski_blk_queue *queue, uint32_t id, bool packed,
                         struct sk_block_request **out_ended)
{
    struct sk_block_statistics *statistics = &queue->queue.statistics;
    struct ski_blk_slot *slot = &queue->slots[id];
    struct sk_block_request *request;
    uint8_t answer;

    if (id >= queue->slot_limit || slot->request == NULL) {
        ski_blk_violated(queue, "completion of a request that is not outstanding: id", id);
        return false;
    }
    if (packed) {
        ski_ring_packed_skip(&queue->ring.packed,
                             queue->indirect ? 1 : slot->segments + SKI_BLK_CHAIN_FIXED);
    }
    request = slot->request;
    answer = ski_door_load8(&slot->frame->status);
    if (answer != SKI_BLK_STATUS_OK || !slot->whole) {
        *out_ended = end_unusual(queue, id, answer);
        return slot->request == NULL;
    }
    slot->request = NULL;
    queue->free_slots[queue->free_count++] = (uint16_t)id;
    statistics->parts++;
    if (request->operation == SK_BLOCK_READ) {
        statistics->bytes_read += slot->bytes;
    } else {
        statistics->bytes_written += slot->bytes;
    }
    *out_ended = request;
    return true;
}

/* Requests that ended and wait for their callback, in order. */
struct ended {
    struct sk_block_request **last;
    uint32_t count;
};

SKI_INLINE void append_ended(struct ended *ended, struct sk_block_request *request)
{
    *ended->last = request;
    ended->last = &request->next;
    ended->count++;
}

SKI_INLINE void harvest_split(struct ski_blk_queue *queue, uint32_t budget, struct ended *ended)
{
    struct ski_ring_split *ring = &queue->ring.split;
    uint16_t pending;

    if (ski_ring_split_pending(ring, &pending) != SK_OK) {
        ski_blk_violated(queue, "more completions than requests:", pending);
        return;
    }
    for (; pending > 0 && ended->count < budget; pending--) {
        struct sk_block_request *request;

        if (!end_slot(queue, ski_ring_split_take(ring), false, &request)) {
            return;
        }
        if (request != NULL) {
            append_ended(ended, request);
        }
    }
}

/* Parts that end no request are bounded too: each needs a slot in flight. */
SKI_INLINE void harvest_packed(struct ski_blk_queue *queue, uint32_t budget, struct ended *ended)
{
    struct ski_ring_packed *ring = &queue->ring.packed;

    while (ended->count < budget && ski_ring_packed_is_used(ring)) {
        struct sk_block_request *request;

        if (!end_slot(queue, ski_ring_packed_id(ring), true, &request)) {
            return;
        }
        if (request != NULL) {
            append_ended(ended, request);
        }
    }
}

/* Moves up to `budget` refused requests behind those that ended; returns how many. */
static uint32_t take_refused(struct ski_blk_queue *queue, uint32_t budget,
                             struct sk_block_request ***last)
{
    uint32_t count = 0;

    while (queue->refused != NULL && count < budget) {
        struct sk_block_request *request = queue->refused;

        queue->refused = request->next;
        ski_blk_append(last, request);
        count++;
    }
    if (queue->refused == NULL) {
        queue->refused_last = &queue->refused;
    }
    return count;
}

/* Calls back; a callback may submit again, or give the request's memory away. */
SKI_INLINE void finish(struct ski_blk_queue *queue, struct sk_block_request *list, uint32_t count)
{
    queue->queue.statistics.requests += count;
    for (; count > 0; count--) {
        struct sk_block_request *request = list;

        list = request->next;
        request->complete(request);
    }
}

void ski_blk_finish_refused(struct ski_blk_queue *queue)
{
    struct sk_block_request *list = NULL;
    struct sk_block_request **last = &list;
    uint32_t count = take_refused(queue, UINT32_MAX, &last);

    finish(queue, list, count);
}

/* The status that requests at a stopped device end with. */
static enum sk_status stopped_status(const struct ski_blk *blk)
{
    return blk->block.state == SK_BLOCK_STATE_IN_DOUBT ? SK_ERR_IN_DOUBT : blk->reason;
}

static void drain_slots(struct ski_blk_queue *queue, uint32_t budget, struct ended *ended)
{
    enum sk_status status = stopped_status(queue->blk);

    for (uint32_t id = 0; id < queue->slot_limit && ended->count < budget; id++) {
        struct sk_block_request *request = queue->slots[id].request;

        if (request == NULL) {
            continue;
        }
        if (request->status == SK_OK || status == SK_ERR_IN_DOUBT) {
            request->status = status;
        }
        if (end_part(queue, id, status)) {
            ski_blk_count_error(queue, request);
            append_ended(ended, request);
        }
    }
}

/* Only after the slots: a request in parts is in both places. */
static void drain_waiting(struct ski_blk_queue *queue, uint32_t budget, struct ended *ended)
{
    while (queue->waiting != NULL && ended->count < budget) {
        struct sk_block_request *request = queue->waiting;

        queue->waiting = request->next;
        if (queue->waiting == NULL) {
            queue->waiting_last = &queue->waiting;
        }
        if (request->status == SK_OK) {
            request->status = SK_ERR_BROKEN;
        }
        ski_blk_count_error(queue, request);
        append_ended(ended, request);
    }
}

uint32_t ski_blk_drain(struct ski_blk_queue *queue, uint32_t budget)
{
    struct sk_block_request *list = NULL;
    struct ended ended = { &list, 0 };
    bool polling = queue->polling;

    queue->polling = true;
    drain_slots(queue, budget, &ended);
    if (queue->free_count == queue->depth) {
        drain_waiting(queue, budget, &ended);
    }
    finish(queue, list, ended.count);
    queue->polling = polling;
    return ended.count;
}

/* ---- Poll -------------------------------------------------------------------------------- */

/* What poll does now and then, or when nothing was used. */
static void look(struct ski_blk_queue *queue)
{
    ski_blk_look_at_clock(queue);
    ski_blk_look_at_events(queue);
}

SKI_INLINE enum sk_status poll(struct sk_block_queue *face, uint32_t budget,
                               uint32_t *out_completed, bool packed)
{
    struct ski_blk_queue *queue = SK_CONTAINER_OF(face, struct ski_blk_queue, queue);
    struct sk_block_request *list;
    struct ended ended = { &list, 0 };
    uint32_t state;

    if (queue->polling) {
        if (out_completed != NULL) {
            *out_completed = 0;
        }
        return SK_ERR_BUSY;
    }
    queue->polling = true;
    queue->queue.statistics.polls++;
    budget = budget == 0 ? queue->depth : budget;
    if (queue->refused != NULL) {
        struct sk_block_request **last = &list;

        ended.count = take_refused(queue, budget, &last);
        ended.last = last;
    }
    if (ski_blk_is_ready(queue)) {
        if (packed) {
            harvest_packed(queue, budget, &ended);
        } else {
            harvest_split(queue, budget, &ended);
        }
        if (ended.count == 0 || queue->queue.statistics.polls % POLLS_PER_LOOK == 0) {
            look(queue);
        }
        if (queue->flushing != NULL) {
            start_flushes(queue);
        }
        if (queue->waiting != NULL) {
            issue_waiting(queue);
        }
    }
    finish(queue, list, ended.count);
    state = atomic_load_explicit(&queue->blk->block.state, memory_order_acquire);
    if (state == SK_BLOCK_STATE_READY) {
        publish(queue, packed);
    } else if (state != SK_BLOCK_STATE_RESETTING) {
        ended.count += ski_blk_drain(queue, budget - ended.count);
    }
    queue->polling = false;
    queue->queue.statistics.polls_empty += ended.count == 0;
    if (out_completed != NULL) {
        *out_completed = ended.count;
    }
    if (state == SK_BLOCK_STATE_READY || state == SK_BLOCK_STATE_RESETTING) {
        return SK_OK;
    }
    return state == SK_BLOCK_STATE_IN_DOUBT ? SK_ERR_IN_DOUBT : SK_ERR_BROKEN;
}

enum sk_status ski_blk_poll_split(struct sk_block_queue *face, uint32_t budget,
                                  uint32_t *out_completed)
{
    return poll(face, budget, out_completed, false);
}

enum sk_status ski_blk_poll_packed(struct sk_block_queue *face, uint32_t budget,
                                   uint32_t *out_completed)
{
    return poll(face, budget, out_completed, true);
}
