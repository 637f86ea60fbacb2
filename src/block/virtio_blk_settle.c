/* SPDX-License-Identifier: MIT */
/*
 * What becomes of a queue's requests when the device was stopped: they end, or
 * (recovery by resubmission) those that may be repeated wait, in their order,
 * to go to the device again.
 */
#include "block/virtio_blk_slot.h"

/* Lists of 2^i requests that are sorted; one for each power of two in flight, and one more. */
#define SORTED_LISTS 16u

_Static_assert(SKI_RING_SIZE_MAX <= 1u << (SORTED_LISTS - 1), "every request in flight has room");

/* Whether requests wait for the device to come back.  Not if it may still use their memory. */
static bool keeps(const struct ski_blk *blk)
{
    return ski_blk_may_keep(blk) && blk->block.state == SK_BLOCK_STATE_BROKEN;
}

/* Whether this request goes again, of which it is not known whether the device did it. */
static bool goes_again(const struct ski_blk_queue *queue, struct sk_block_request *request,
                       uint64_t time)
{
    return request->status == SK_OK && request->repeats < SKI_BLK_REPEATS_MAX &&
           (request->deadline_ns == 0 || time < request->deadline_ns) &&
           ski_blk_is_repeatable(queue, request);
}

static void log_request(struct ski_blk_queue *queue, const struct sk_block_request *request,
                        bool again)
{
    const struct ski_blk *blk = queue->blk;
    enum sk_log_level level = blk->removing ? SK_LOG_DEBUG : SK_LOG_WARNING;

    if (sk_log_limit_pass(&queue->doubt_lines)) {
        sk_log_print(blk->block.platform->log, level,
                     "virtio-blk 0x%llx queue %u: %s of %llu bytes at sector %llu %s: %s",
                     (unsigned long long)blk->virtio.transport->address, queue->queue.index,
                     sk_block_operation_name(request->operation),
                     (unsigned long long)ski_blk_request_bytes(request),
                     (unsigned long long)ski_blk_request_sector(request), again ? "goes again" : "is in doubt",
                     sk_status_text(again ? queue->settle_reason : request->status));
    }
}

/* ---- Sorting by age ---------------------------------------------------------------------- */

/* The older a part, the larger; parts of one tick are told apart by their place in the ring. */
static uint32_t age_of(const struct ski_blk_queue *queue, const struct ski_blk_slot *slot)
{
    uint32_t starts = queue->in_order ? ski_blk_order_starts_since(queue, slot)
                                      : ski_blk_starts_since(queue, ski_blk_place_of(slot));

    return ski_blk_ticks_since(queue, slot) << 16 | starts;
}

/* Requests that left their slots keep their age in a field that starting them again sets anew. */
static struct sk_block_request *merge(struct sk_block_request *a, struct sk_block_request *b)
{
    struct sk_block_request *list = NULL;
    struct sk_block_request **last = &list;

    while (a != NULL && b != NULL) {
        struct sk_block_request **older = a->segment_offset >= b->segment_offset ? &a : &b;

        *last = *older;
        *older = (*older)->next;
        last = &(*last)->next;
    }
    *last = a != NULL ? a : b;
    return list;
}

/* The oldest first.  O(n log n). */
static struct sk_block_request *sort(struct sk_block_request *list)
{
    struct sk_block_request *sorted[SORTED_LISTS] = { NULL };
    struct sk_block_request *all = NULL;

    while (list != NULL) {
        struct sk_block_request *one = list;
        uint32_t i;

        list = list->next;
        one->next = NULL;
        for (i = 0; sorted[i] != NULL; i++) {
            one = merge(sorted[i], one);
            sorted[i] = NULL;
        }
        sorted[i] = one;
    }
    for (uint32_t i = 0; i < SORTED_LISTS; i++) {
        all = merge(sorted[i], all);
    }
    return all;
}

/* ---- Settling ---------------------------------------------------------------------------- */

/* A request whose last part left the device: ends, or is put before `again`. */
static void settle(struct ski_blk_queue *queue, struct sk_block_request *request, uint64_t time,
                   struct sk_block_request **again)
{
    enum sk_status status = queue->settle_reason;

    if (again != NULL && goes_again(queue, request, time)) {
        request->repeats++;
        request->after &= (uint8_t)~SKI_BLK_AFTER_BEGUN;
        log_request(queue, request, true);
        if (request != queue->waiting) { /* else its other parts wait, and so shall these */
            request->next = *again;
            *again = request;
        }
        return;
    }
    if (request->status == SK_OK || status == SK_ERR_IN_DOUBT) {
        request->status = status;
    }
    log_request(queue, request, false);
    if (request != queue->waiting) { /* else it ends from there */
        ski_blk_end_unanswered(queue, request);
    }
}

/* Everything that the device had, in the order in which it was given to it. */
static void settle_slots(struct ski_blk_queue *queue, bool keep)
{
    struct sk_block_request *again = NULL;
    uint64_t time = keep ? ski_blk_now(queue) : 0;

    for (uint32_t id = 0; id < queue->slot_limit; id++) {
        struct ski_blk_slot *slot = &queue->slots[id];
        struct sk_block_request *request = slot->request;

        if (request == NULL) {
            continue;
        }
        slot->request = NULL;
        queue->free_slots[queue->free_count++] = (uint16_t)id;
        request->segment_offset = age_of(queue, slot);
        request->parts--;
        if (request->parts == 0) {
            settle(queue, request, time, keep ? &again : NULL);
        }
    }
    while (queue->flushing != NULL) { /* written, and their flush never started */
        struct sk_block_request *request = queue->flushing;

        queue->flushing = request->next;
        request->segment_offset = UINT32_MAX;
        settle(queue, request, time, keep ? &again : NULL);
    }
    again = sort(again);
    for (struct sk_block_request *last = again; last != NULL; last = last->next) {
        if (last->next == NULL) { /* those that wait already are younger */
            last->next = queue->waiting;
            queue->waiting_last = last->next == NULL ? &last->next : queue->waiting_last;
            queue->waiting = again;
            break;
        }
    }
}

/* True if the device had parts of a waiting request. */
static bool has_begun(const struct sk_block_request *request)
{
    return (request->after & SKI_BLK_AFTER_BEGUN) != 0;
}

/* Why a request ends of which the device has nothing. */
static enum sk_status waiting_status(const struct ski_blk_queue *queue,
                                     const struct sk_block_request *request)
{
    const struct ski_blk *blk = queue->blk;

    if (has_begun(request)) {
        return queue->settle_reason;
    }
    if (blk->removing) {
        return SK_ERR_GONE;
    }
    return blk->block.state == SK_BLOCK_STATE_FAILED ? blk->reason : SK_ERR_BROKEN;
}

/* What waits for a slot; only after the slots: a request in parts is in both places. */
static void settle_waiting(struct ski_blk_queue *queue, bool keep)
{
    struct sk_block_request *list = queue->waiting;

    queue->waiting = NULL;
    queue->waiting_last = &queue->waiting;
    while (list != NULL) {
        struct sk_block_request *request = list;

        list = request->next;
        if (keep && request->status == SK_OK &&
            (!has_begun(request) || ski_blk_is_repeatable(queue, request))) {
            ski_blk_append(&queue->waiting_last, request);
            continue;
        }
        if (request->status == SK_OK) {
            request->status = waiting_status(queue, request);
        }
        ski_blk_end_unanswered(queue, request);
    }
}

void ski_blk_settle_queue(struct ski_blk_queue *queue, enum sk_status reason)
{
    queue->settle_reason = reason;
    settle_slots(queue, queue->blk->options.recovery == SK_VIRTIO_BLK_RECOVERY_RESUBMIT);
    settle_waiting(queue, true); /* the queue is back at once: nothing else ends that waits */
}

uint32_t ski_blk_drain(struct ski_blk_queue *queue, uint32_t budget)
{
    bool keep = keeps(queue->blk);

    queue->settle_reason = queue->blk->quiet ? queue->blk->reason : SK_ERR_IN_DOUBT;
    if (queue->free_count != queue->depth || queue->flushing != NULL) {
        settle_slots(queue, keep);
    }
    if (queue->waiting != NULL) {
        settle_waiting(queue, keep);
        (void)ski_blk_end_late(queue, ski_blk_now(queue));
    }
    return ski_blk_finish_refused(queue, budget);
}
