/* SPDX-License-Identifier: MIT */
/*
 * The short way of a request through a queue: a read or write of one segment
 * that the device takes whole, submitted while there is a slot, and answered
 * with success.  Everything else leaves it, for virtio_blk_rest.c, at the place
 * where it turns out to be something else; one that only had to wait for a slot
 * comes back.
 *
 * Everything the device answers is three loads: the used index, an id, a
 * status byte.  Each is made once and checked against private state.  Poll
 * takes first and calls back then: whatever callbacks submit was not published
 * yet while answers were believed.
 *
 * The code is written once and compiled for each kind of ring and of order:
 * `packed` and `in_order` are constants wherever SKI_INLINE stands.  No function
 * is called in the middle of it, so that the compiler need not save registers.
 */
#include "block/virtio_blk_slot.h"

#include <skio/checked.h>

_Static_assert(SK_BLOCK_READ == SKI_BLK_TYPE_IN && SK_BLOCK_WRITE == SKI_BLK_TYPE_OUT,
               "the usual operations are their types");

SKI_INLINE uint32_t state_of(const struct ski_blk_queue *queue)
{
    return atomic_load_explicit(&queue->blk->block.state, memory_order_acquire);
}

_Static_assert(SK_BLOCK_STATE_READY == 0 && SKI_BLK_IDLE == 0, "or they are not 0");

/* ---- Submit ------------------------------------------------------------------------------ */

/* Where a request's data lies, checked. */
struct simple {
    uint64_t address;
    uint32_t bytes;
    uint32_t operation;
};

/* A whole request into a slot of a split ring: all that differs from the slot's last one. */
SKI_INLINE void add_simple_split(struct ski_blk_queue *queue, uint32_t id,
                                 const struct ski_blk_slot *slot, const struct simple *simple,
                                 bool in_order)
{
    struct ski_ring_descriptor SKI_SHARED *data = slot->data;

    ski_door_store64(&data->address, simple->address);
    ski_door_store64(&data->rest, (simple->bytes | queue->data_rest[simple->operation]) +
                                      ((uint64_t)(id & queue->link_mask) << 48));
    if (in_order) {
        queue->ring.split.added++; /* the available ring says it already */
    } else {
        ski_ring_split_add(&queue->ring.split, (uint16_t)id);
    }
}

/* The same in a packed ring, with a table: one descriptor that points at it. */
SKI_INLINE void add_simple_table(struct ski_blk_queue *queue, const struct ski_blk_slot *slot,
                                 const struct simple *simple, uint64_t own)
{
    struct ski_ring_packed *ring = &queue->ring.packed;
    uint32_t next = ring->next;
    struct ski_ring_descriptor SKI_SHARED *first = &ring->descriptors[next];
    struct ski_ring_descriptor SKI_SHARED *data = slot->data;
    uint64_t rest = simple->bytes | queue->data_rest[simple->operation];
    uint64_t table = (uintptr_t)data + queue->table_bias;

    ski_door_store64(&data->address, simple->address);
    ski_door_store64(&data->rest, rest);
    ski_door_store64(&first->address, table);
    ski_ring_packed_add_rest(
        ring, first, next, 1,
        own | ski_ring_packed_rest(ski_blk_table_bytes(1), 0, SKI_RING_INDIRECT));
}

/* And without: a chain of three, anywhere in the ring. */
SKI_INLINE void add_simple_chain(struct ski_blk_queue *queue, const struct ski_blk_slot *slot,
                                 const struct simple *simple, uint64_t own)
{
    struct ski_ring_packed *ring = &queue->ring.packed;
    uint32_t next = ring->next;
    uint32_t size = ring->size;
    struct ski_ring_descriptor SKI_SHARED *first = &ring->descriptors[next];
    struct ski_ring_descriptor SKI_SHARED *data = first + 1;
    struct ski_ring_descriptor SKI_SHARED *status = first + 2;
    uint64_t frame = queue->frames_bias + (uintptr_t)slot->frame;
    uint64_t data_rest = own | simple->bytes | queue->data_rest[simple->operation];
    uint64_t status_rest = own | ski_ring_packed_rest(1, 0, SKI_RING_WRITE);

    if (SKI_RARELY(next + 2 >= size)) { /* marks change at the ring's end */
        status -= size;
        status_rest ^= ski_ring_packed_rest(0, 0, SKI_RING_PACKED_MARKS);
        if (next + 1 >= size) {
            data -= size;
            data_rest ^= ski_ring_packed_rest(0, 0, SKI_RING_PACKED_MARKS);
        }
    }
    ski_door_store64(&first->address, frame);
    ski_door_store64(&data->address, simple->address);
    ski_door_store64(&data->rest, data_rest);
    ski_door_store64(&status->address, frame + offsetof(struct ski_blk_frame, status));
    ski_door_store64(&status->rest, status_rest);
    ski_ring_packed_add_rest(
        ring, first, next, SKI_BLK_CHAIN_FIXED + 1,
        own | ski_ring_packed_rest(sizeof(struct ski_blk_header), 0, SKI_RING_NEXT));
}

/* The place of a start among the queue's. */
SKI_INLINE uint64_t start_place(const struct ski_blk_queue *queue, bool packed)
{
    return (uint16_t)(packed ? queue->started : queue->ring.split.added);
}

/*
 * The usual request.  True: it is in the next slot, of which there is one.
 * False: look at it in full; nothing was done.
 */
SKI_INLINE bool start_simple(struct ski_blk_queue *queue, struct sk_block_request *request,
                             bool packed, bool in_order)
{
    const struct sk_dma_segment *segment = request->segments;
    struct simple simple = { .operation = request->operation };
    uint64_t sector = request->sector;
    uint32_t id = in_order ? ski_blk_slot_in_turn(queue, packed)
                           : queue->free_slots[queue->free_count - 1];
    struct ski_blk_slot *slot = &queue->slots[id];
    struct ski_blk_frame SKI_SHARED *frame;

    if (SKI_RARELY(simple.operation > queue->simple_last || request->flags != 0 ||
                   request->segment_count != 1 || segment == NULL ||
                   ski_blk_segments_of(slot) != 1)) {
        return false;
    }
    simple.address = segment->address.raw;
    simple.bytes = segment->bytes;
    if (SKI_RARELY(simple.bytes - 1 >= queue->simple_bytes_max ||
                   (simple.bytes & queue->block_mask) != 0 ||
                   (sector & queue->sector_never) != 0 ||
                   sector + simple.bytes / SK_BLOCK_SECTOR_BYTES > queue->capacity_sectors)) {
        return false;
    }
    request->status = SK_OK;
    request->parts = 1;
    request->after = 0;
    request->repeats = 0;
    request->bytes_left = 0;
    frame = slot->frame;
    ski_door_store64(&frame->header.type, simple.operation);
    ski_door_store64(&frame->header.sector, sector);
    ski_door_store8(&frame->status, SKI_BLK_STATUS_POISON);
    queue->free_count--;
    slot->request = request;
    slot->start = queue->simple_start | simple.bytes |
                  (in_order ? 0 : start_place(queue, packed) << SKI_BLK_START_PLACE);
    if (!packed) {
        add_simple_split(queue, id, slot, &simple, in_order);
    } else {
        uint64_t own = ski_ring_packed_rest(0, id, queue->ring.packed.next_marks);

        if (in_order) {
            queue->next_slot = ski_blk_slot_after(queue, id);
        } else {
            queue->started++;
        }
        if (queue->indirect) {
            add_simple_table(queue, slot, &simple, own);
        } else {
            add_simple_chain(queue, slot, &simple, own);
        }
    }
    ski_blk_note_deadline(queue, request);
    return true;
}

/* Tells the device of what was added; there is something. */
SKI_INLINE void tell(struct ski_blk_queue *queue, bool packed)
{
    struct sk_virtio_transport *transport = queue->transport;

    if (SKI_RARELY(queue->special)) {
        ski_blk_publish(queue);
    } else if (packed ? ski_ring_packed_publish_in(&queue->ring.packed, false)
                      : ski_ring_split_publish_in(&queue->ring.split, false)) {
        queue->queue.statistics.notifications++;
        transport->ops->notify(transport, queue->queue.index);
    } else {
        queue->queue.statistics.notifications_avoided++;
    }
}

/* The same for any kind of ring, where there may be no slot, or one with an unusual chain. */
static bool start_if_simple(struct ski_blk_queue *queue, struct sk_block_request *request)
{
    if (queue->free_count == 0 || request->segment_count != 1) {
        return false;
    }
    if (ski_blk_segments_of(&queue->slots[ski_blk_next_slot(queue)]) != 1) {
        ski_blk_end_chain(queue, ski_blk_next_slot(queue), 1);
    }
    return start_simple(queue, request, queue->ring.is_packed, queue->in_order);
}

bool ski_blk_start_waiting(struct ski_blk_queue *queue, struct sk_block_request *request)
{
    /* Neither timed, nor begun, nor back from a device that was stopped. */
    bool is_new = request->after == 0 && request->repeats == 0;

    return is_new && start_if_simple(queue, request);
}

/* The rest of some requests, of which the first is unusual, or finds no slot. */
SKI_APART static void submit_rest(struct ski_blk_queue *queue,
                                  struct sk_block_request *const *requests, uint32_t count)
{
    bool ready = ski_blk_is_ready(queue);

    for (uint32_t i = 0; i < count; i++) {
        bool may_start = ready && queue->waiting == NULL;

        if (!may_start || !start_if_simple(queue, requests[i])) {
            ski_blk_start_request(queue, requests[i]);
        }
    }
    if (ready && queue->turn != SKI_BLK_POLLING) {
        ski_blk_publish(queue);
    }
}

/* What waits is not overtaken. */
SKI_INLINE void submit(struct sk_block_queue *face, struct sk_block_request *const *requests,
                       uint32_t count, bool packed, bool in_order)
{
    struct ski_blk_queue *queue = SK_CONTAINER_OF(face, struct ski_blk_queue, queue);
    bool unusual = ((uintptr_t)queue->waiting | state_of(queue)) != 0;

    if (SKI_RARELY(count == 0)) {
        return;
    }
    do {
        if (SKI_RARELY(unusual || queue->free_count == 0 ||
                       !start_simple(queue, *requests, packed, in_order))) {
            submit_rest(queue, requests, count);
            return;
        }
        requests++;
    } while (--count > 0);
    if (SKI_USUALLY(queue->turn != SKI_BLK_POLLING)) {
        tell(queue, packed);
    }
}

void ski_blk_submit_split(struct sk_block_queue *face, struct sk_block_request *const *requests,
                          uint32_t count)
{
    submit(face, requests, count, false, false);
}

void ski_blk_submit_packed(struct sk_block_queue *face, struct sk_block_request *const *requests,
                           uint32_t count)
{
    submit(face, requests, count, true, false);
}

void ski_blk_submit_split_in_order(struct sk_block_queue *face,
                                   struct sk_block_request *const *requests, uint32_t count)
{
    submit(face, requests, count, false, true);
}

void ski_blk_submit_packed_in_order(struct sk_block_queue *face,
                                    struct sk_block_request *const *requests, uint32_t count)
{
    submit(face, requests, count, true, true);
}

void ski_blk_publish(struct ski_blk_queue *queue)
{
    struct sk_virtio_transport *transport = queue->transport;
    uint32_t data = queue->queue.index;

    if (!ski_ring_has_news(&queue->ring)) {
        return;
    }
    if (!ski_ring_publish(&queue->ring)) {
        queue->queue.statistics.notifications_avoided++;
        return;
    }
    if (queue->notification_data) {
        data |= ski_ring_position(&queue->ring) << 16;
    }
    queue->queue.statistics.notifications++;
    transport->ops->notify(transport, data);
}

/* ---- Poll -------------------------------------------------------------------------------- */

/*
 * Ends the request whose slot the device says it is done with: `id` comes from
 * the device, or is the oldest one if it works in order.  False: it is not just
 * a whole request that went well; *out_odd says what was seen, and nothing was done.
 */
SKI_INLINE bool end_simple(struct ski_blk_queue *queue, uint32_t id,
                           struct sk_block_request **out_request, struct ski_blk_odd *out_odd,
                           bool in_order)
{
    struct sk_block_statistics *statistics = &queue->queue.statistics;
    struct ski_blk_slot *slot = &queue->slots[id];
    struct sk_block_request *request;
    uint64_t start;
    uint8_t answer;

    if (!in_order && SKI_RARELY(id >= queue->slot_limit || slot->request == NULL)) {
        *out_odd = (struct ski_blk_odd){ SKI_BLK_ODD_ID, id };
        return false;
    }
    request = slot->request;
    answer = ski_door_load8(&slot->frame->status);
    start = slot->start;
    if (SKI_RARELY(answer != SKI_BLK_STATUS_OK ||
                   (start >> SKI_BLK_START_MARK & SKI_BLK_WHOLE) == 0)) {
        *out_odd = (struct ski_blk_odd){ answer, id };
        return false;
    }
    slot->request = NULL;
    if (in_order) {
        queue->free_count++;
    } else {
        queue->free_slots[queue->free_count++] = (uint16_t)id;
    }
    if (SKI_USUALLY(request->operation == SK_BLOCK_READ)) {
        statistics->bytes_read += (uint32_t)start;
    } else {
        statistics->bytes_written += (uint32_t)start;
    }
    *out_request = request;
    return true;
}

/* What a poll knows of the answers that it takes. */
struct answers {
    uint32_t pending; /* of a split ring: those that are there */
    uint32_t batch;   /* IN_ORDER: of those that the last used entry speaks of */
};

/* True if there is another answer, as far as a ring tells; a split one told how many before. */
SKI_INLINE bool is_more(const struct ski_blk_queue *queue, const struct answers *answers,
                        bool packed, bool in_order)
{
    return !packed || (in_order && answers->batch != 0) ||
           ski_ring_packed_is_used(&queue->ring.packed);
}

/*
 * How many answers to take: of a split ring as many as there are, up to
 * `budget`; of a packed one, which tells only whether there is one, up to
 * `budget`.  0: none, or *out_odd says why.
 */
SKI_INLINE uint32_t look(const struct ski_blk_queue *queue, uint32_t budget,
                         struct answers *answers, struct ski_blk_odd *out_odd, bool packed,
                         bool in_order)
{
    uint16_t pending;

    if (packed) {
        return !is_more(queue, answers, true, in_order) ? 0 : budget == 0 ? UINT32_MAX : budget;
    }
    if (ski_ring_split_pending(&queue->ring.split, &pending) != SK_OK) {
        *out_odd = (struct ski_blk_odd){ SKI_BLK_ODD_INDEX, pending };
        return 0;
    }
    answers->pending = pending;
    return SKI_RARELY(budget - 1 < pending) ? budget : pending; /* 0: all */
}

/* Takes the answer of the slot that the device names.  False: it is something odd. */
SKI_INLINE bool take_any(struct ski_blk_queue *queue, struct sk_block_request **out_request,
                         struct ski_blk_odd *out_odd, bool packed)
{
    uint32_t id = packed ? ski_ring_packed_id(&queue->ring.packed)
                         : ski_ring_split_take(&queue->ring.split);

    if (!end_simple(queue, id, out_request, out_odd, false)) {
        return false;
    }
    if (packed) {
        ski_ring_packed_skip(&queue->ring.packed, ski_blk_descriptors_of(queue, id));
    }
    return true;
}

/* IN_ORDER: the oldest slot's.  A used entry speaks of a batch. */
SKI_INLINE bool take_oldest(struct ski_blk_queue *queue, struct answers *answers,
                            struct sk_block_request **out_request, struct ski_blk_odd *out_odd,
                            bool packed)
{
    uint32_t oldest = ski_blk_oldest_slot(queue, packed);

    if (answers->batch == 0) {
        uint32_t most = packed ? queue->depth - queue->free_count : answers->pending;
        uint32_t id = packed ? ski_ring_packed_id(&queue->ring.packed)
                             : ski_ring_split_id(&queue->ring.split);

        answers->batch = ski_blk_batch_to(queue, id, most, packed);
        if (SKI_RARELY(answers->batch == 0)) {
            *out_odd = (struct ski_blk_odd){ SKI_BLK_ODD_BATCH, id };
            return false;
        }
    }
    if (!end_simple(queue, oldest, out_request, out_odd, true)) {
        return false;
    }
    answers->batch--;
    answers->pending--;
    if (packed) {
        ski_ring_packed_skip(&queue->ring.packed, ski_blk_descriptors_of(queue, oldest));
        queue->oldest_slot = ski_blk_slot_after(queue, oldest);
    } else {
        queue->ring.split.taken++;
    }
    return true;
}

/* Takes one answer of those that are there. */
SKI_INLINE bool take(struct ski_blk_queue *queue, struct answers *answers,
                     struct sk_block_request **out_request, struct ski_blk_odd *out_odd,
                     bool packed, bool in_order)
{
    return in_order ? take_oldest(queue, answers, out_request, out_odd, packed)
                    : take_any(queue, out_request, out_odd, packed);
}

/* Is it time to look at more than answers? */
SKI_INLINE bool is_time_to_look(const struct ski_blk_queue *queue)
{
    return queue->queue.statistics.polls % SKI_BLK_POLLS_PER_LOOK == 0;
}

/* Calls back for what was taken: for `first`, if there is no list. */
SKI_INLINE enum sk_status finish(struct ski_blk_queue *queue, struct sk_block_request *first,
                                 struct ski_blk_ended ended, bool packed)
{
    queue->queue.statistics.polls++;
    queue->queue.statistics.parts += ended.count;
    queue->turn = SKI_BLK_POLLING;
    if (ended.last == NULL) {
        queue->queue.statistics.requests++;
        first->complete(first);
    } else {
        ski_blk_finish(queue, ended);
    }
    queue->turn = SKI_BLK_IDLE;
    if (SKI_USUALLY(packed ? queue->ring.packed.unpublished == 0
                           : queue->ring.split.added == queue->ring.split.published)) {
        return SK_OK;
    }
    if (!ski_blk_is_ready(queue)) {
        return ski_blk_poll_status(queue);
    }
    tell(queue, packed);
    return SK_OK;
}

/* What is left of a batch is for the next poll, or for the way on. */
SKI_INLINE void keep_batch(struct ski_blk_queue *queue, const struct answers *answers,
                           bool in_order)
{
    if (in_order) {
        queue->ring.batch = answers->batch;
    }
}

/* One answer is as usual as many, and needs no list. */
SKI_INLINE enum sk_status poll(struct sk_block_queue *face, uint32_t budget,
                               uint32_t *out_completed, bool packed, bool in_order)
{
    struct ski_blk_queue *queue = SK_CONTAINER_OF(face, struct ski_blk_queue, queue);
    struct ski_blk_ended ended = { &queue->ended, 0 };
    struct ski_blk_odd odd = { SKI_BLK_ODD_NOT, 0 };
    struct answers answers = { 0, in_order ? queue->ring.batch : 0 };
    struct sk_block_request *first;
    struct sk_block_request *request;
    uint32_t limit;

    if (SKI_RARELY(((uintptr_t)queue->refused | queue->turn | state_of(queue)) != 0)) {
        return ski_blk_poll_rest(queue, budget, out_completed, ended, odd);
    }
    limit = look(queue, budget, &answers, &odd, packed, in_order);
    if (SKI_RARELY(limit == 0 || !take(queue, &answers, &first, &odd, packed, in_order))) {
        keep_batch(queue, &answers, in_order);
        return ski_blk_poll_rest(queue, budget, out_completed, ended, odd);
    }
    ended = (struct ski_blk_ended){ NULL, 1 };
    if (limit != 1 && is_more(queue, &answers, packed, in_order)) {
        queue->ended = first;
        ended.last = &first->next;
        do {
            if (SKI_RARELY(!take(queue, &answers, &request, &odd, packed, in_order))) {
                keep_batch(queue, &answers, in_order);
                return ski_blk_poll_rest(queue, budget, out_completed, ended, odd);
            }
            *ended.last = request;
            ended.last = &request->next;
        } while (++ended.count < limit && is_more(queue, &answers, packed, in_order));
    }
    if (SKI_RARELY(queue->waiting != NULL || is_time_to_look(queue))) {
        if (ended.last == NULL) {
            queue->ended = first;
            ended.last = &first->next;
        }
        keep_batch(queue, &answers, in_order);
        return ski_blk_poll_rest(queue, budget, out_completed, ended, odd);
    }
    keep_batch(queue, &answers, in_order);
    if (out_completed != NULL) {
        *out_completed = ended.count;
    }
    return finish(queue, first, ended, packed);
}

enum sk_status ski_blk_poll_split(struct sk_block_queue *face, uint32_t budget,
                                  uint32_t *out_completed)
{
    return poll(face, budget, out_completed, false, false);
}

enum sk_status ski_blk_poll_packed(struct sk_block_queue *face, uint32_t budget,
                                   uint32_t *out_completed)
{
    return poll(face, budget, out_completed, true, false);
}

enum sk_status ski_blk_poll_split_in_order(struct sk_block_queue *face, uint32_t budget,
                                           uint32_t *out_completed)
{
    return poll(face, budget, out_completed, false, true);
}

enum sk_status ski_blk_poll_packed_in_order(struct sk_block_queue *face, uint32_t budget,
                                            uint32_t *out_completed)
{
    return poll(face, budget, out_completed, true, true);
}
