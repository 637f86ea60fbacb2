/* SPDX-License-Identifier: MIT */
/* Requests that end before the device saw all of them. */
#include "block/virtio_blk_slot.h"

#include <skio/checked.h>

/*
 * Ends the request that a waiting list's link leads to: at once, and the link
 * leads to the next one then; or, if the device has parts of it, with the last
 * of those, and no others follow.
 */
static bool end_waiting(struct ski_blk_queue *queue, struct sk_block_request **link,
                        enum sk_status status)
{
    struct sk_block_request *request = *link;

    request->status = status;
    if (request->parts > 0) {
        return false;
    }
    *link = request->next;
    if (*link == NULL) {
        queue->waiting_last = link;
    }
    ski_blk_end_unanswered(queue, request);
    return true;
}

/* True if a request names sectors that the device has to have. */
static bool names_sectors(const struct sk_block_request *request)
{
    switch (request->operation) {
    case SK_BLOCK_FLUSH:
    case SK_BLOCK_GET_ID:
    case SK_BLOCK_GET_LIFETIME:
    case SK_BLOCK_ZONE_REPORT:
    case SK_BLOCK_ZONE_RESET_ALL:
        return false;
    default:
        return true;
    }
}

/* True if what the device has yet to see of a request lies on the disk. */
static bool fits(const struct ski_blk_queue *queue, const struct sk_block_request *request)
{
    uint64_t capacity = queue->capacity_sectors;

    if (!ski_blk_is_on_ranges(request)) {
        return sk_checked_range(request->next_sector, request->bytes_left / SK_BLOCK_SECTOR_BYTES,
                                capacity);
    }
    for (uint32_t i = request->segment_index; i == 0 || i < request->range_count; i++) {
        struct sk_block_range range = ski_blk_range_at(request, i);

        if (!sk_checked_range(range.sector, range.sector_count, capacity)) {
            return false;
        }
    }
    return true;
}

void ski_blk_end_beyond(struct ski_blk_queue *queue)
{
    struct sk_block_request **link = &queue->waiting;

    while (*link != NULL) {
        struct sk_block_request *request = *link;

        if (!names_sectors(request) || fits(queue, request) ||
            !end_waiting(queue, link, SK_ERR_RANGE)) {
            link = &request->next;
        }
    }
}

const struct sk_block_request *ski_blk_end_late(struct ski_blk_queue *queue, uint64_t time)
{
    struct sk_block_request **link = &queue->waiting;

    queue->next_deadline_ns = UINT64_MAX;
    while (*link != NULL) {
        struct sk_block_request *request = *link;
        bool late = request->deadline_ns != 0 && time >= request->deadline_ns;

        if (!late || !end_waiting(queue, link, SK_ERR_TIMEOUT)) {
            ski_blk_note_deadline(queue, request);
            link = &request->next;
        }
    }
    for (uint32_t id = 0; queue->free_count != queue->depth && id < queue->slot_limit; id++) {
        const struct sk_block_request *request = queue->slots[id].request;

        if (request == NULL) {
            continue;
        }
        if (request->deadline_ns != 0 && time >= request->deadline_ns) {
            return request;
        }
        ski_blk_note_deadline(queue, request);
    }
    return NULL;
}

enum sk_status ski_blk_cancel(struct sk_block_queue *face, struct sk_block_request *request)
{
    struct ski_blk_queue *queue = SK_CONTAINER_OF(face, struct ski_blk_queue, queue);

    for (struct sk_block_request **link = &queue->waiting; *link != NULL; link = &(*link)->next) {
        if (*link == request) {
            return end_waiting(queue, link, SK_ERR_CANCELED) ? SK_OK : SK_ERR_BUSY;
        }
    }
    for (uint32_t id = 0; id < queue->slot_limit; id++) {
        if (queue->slots[id].request == request) {
            return SK_ERR_BUSY;
        }
    }
    return SK_ERR_NOT_FOUND;
}
