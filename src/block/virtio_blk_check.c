/* SPDX-License-Identifier: MIT */
/* Which requests are accepted: everything that a caller can get wrong is found here. */
#include "block/virtio_blk_slot.h"

#include <skio/checked.h>

uint64_t ski_blk_sum_segments(const struct sk_block_request *request)
{
    uint64_t bytes = 0;

    if (request->segments == NULL) {
        return 0;
    }
    for (uint32_t i = 0; i < request->segment_count; i++) {
        if (request->segments[i].bytes == 0) {
            return 0;
        }
        bytes += request->segments[i].bytes; /* 2^32 * 2^32 at the most: fits */
    }
    return bytes;
}

enum sk_status ski_blk_check_transfer(const struct ski_blk_queue *queue,
                                      struct sk_block_request *request)
{
    uint64_t bytes = ski_blk_sum_segments(request);

    if (bytes == 0 || ((uint32_t)bytes & queue->block_mask) != 0) {
        return SK_ERR_SIZE;
    }
    if ((request->sector & queue->sector_mask) != 0) {
        return SK_ERR_INVALID;
    }
    if (!sk_checked_range(request->sector, bytes / SK_BLOCK_SECTOR_BYTES,
                          queue->capacity_sectors)) {
        return SK_ERR_RANGE;
    }
    request->bytes_left = bytes;
    return SK_OK;
}

/* 5.2.6: an erased range of a disk with zones is whole zones. */
static bool is_whole_zones(const struct ski_blk_queue *queue, const struct sk_block_range *range)
{
    uint32_t zone = queue->blk->block.info.zones.sectors;

    return range->sector % zone == 0 &&
           (range->sector_count % zone == 0 ||
            range->sector + range->sector_count == queue->capacity_sectors);
}

static enum sk_status check_range(const struct ski_blk_queue *queue,
                                  enum sk_block_operation operation,
                                  const struct sk_block_range *range)
{
    if (range->sector_count == 0 || (range->sector_count & queue->sector_mask) != 0) {
        return SK_ERR_SIZE;
    }
    if ((range->sector & queue->sector_mask) != 0) {
        return SK_ERR_INVALID;
    }
    if (!sk_checked_range(range->sector, range->sector_count, queue->capacity_sectors)) {
        return SK_ERR_RANGE;
    }
    if (queue->zoned && operation == SK_BLOCK_SECURE_ERASE && !is_whole_zones(queue, range)) {
        return SK_ERR_INVALID;
    }
    return SK_OK;
}

/* All ranges, counted in bytes; overlapping ones are counted twice. */
static enum sk_status check_list(const struct ski_blk_queue *queue,
                                 struct sk_block_request *request)
{
    uint64_t bytes = 0;

    if (request->range_count > 0 &&
        (request->ranges == NULL || request->sector != 0 || request->sector_count != 0)) {
        return SK_ERR_INVALID;
    }
    for (uint32_t i = 0; i == 0 || i < request->range_count; i++) {
        struct sk_block_range range = ski_blk_range_at(request, i);
        enum sk_status status = check_range(queue, request->operation, &range);

        if (status != SK_OK) {
            return status;
        }
        if (!sk_checked_add(bytes, range.sector_count * SK_BLOCK_SECTOR_BYTES, &bytes)) {
            return SK_ERR_SIZE;
        }
    }
    request->bytes_left = bytes;
    request->next_sector = ski_blk_range_at(request, 0).sector;
    return SK_OK;
}

static enum sk_status check_ranges(const struct ski_blk_queue *queue,
                                   struct sk_block_request *request)
{
    if (ski_blk_range_limits(queue, request->operation)->sectors_max == 0) {
        return SK_ERR_UNSUPPORTED;
    }
    if (queue->read_only) {
        return SK_ERR_READ_ONLY;
    }
    return request->segment_count == 0 ? check_list(queue, request) : SK_ERR_INVALID;
}

/* FLUSH, and the flush behind a write.  SK_ERR_AGAIN: there is nothing to do. */
static enum sk_status check_flush(const struct ski_blk_queue *queue)
{
    if (ski_virtio_device_has(&queue->blk->virtio, SK_VIRTIO_BLK_F_FLUSH)) {
        return SK_OK;
    }
    return queue->write_back ? SK_ERR_UNSUPPORTED : SK_ERR_AGAIN;
}

/* A fixed-size answer into one segment. */
static enum sk_status check_answer(struct sk_block_request *request, uint32_t bytes)
{
    if (request->segment_count != 1 || request->sector != 0 || request->segments == NULL ||
        request->segments[0].bytes != bytes) {
        return SK_ERR_INVALID;
    }
    request->bytes_left = bytes;
    return SK_OK;
}

static enum sk_status check_lifetime(const struct ski_blk_queue *queue,
                                     struct sk_block_request *request)
{
    struct sk_block_info info;

    sk_block_get_info(queue->queue.device, &info); /* another owner may be changing it */
    return info.lifetime ? check_answer(request, SK_BLOCK_LIFETIME_BYTES) : SK_ERR_UNSUPPORTED;
}

static enum sk_status check_flags(const struct ski_blk_queue *queue,
                                  struct sk_block_request *request)
{
    bool writes = request->operation == SK_BLOCK_WRITE;
    bool zeroes = request->operation == SK_BLOCK_WRITE_ZEROES;
    bool appends = request->operation == SK_BLOCK_ZONE_APPEND;
    uint32_t allowed = (writes || zeroes || appends ? SK_BLOCK_FLAG_FUA : 0) |
                       (zeroes ? SK_BLOCK_FLAG_UNMAP : 0);
    enum sk_status status;

    if ((request->flags & ~allowed) != 0) {
        return SK_ERR_INVALID;
    }
    if ((request->flags & SK_BLOCK_FLAG_FUA) != 0) {
        status = check_flush(queue);
        if (status == SK_ERR_UNSUPPORTED) {
            return status;
        }
        request->after |= status == SK_OK ? SKI_BLOCK_AFTER_FLUSH : 0;
    }
    return SK_OK;
}

/* Why a device that is not ready takes no requests. */
static enum sk_status refusal(const struct ski_blk *blk)
{
    return blk->block.state == SK_BLOCK_STATE_FAILED ? blk->reason : SK_ERR_BROKEN;
}

enum sk_status ski_blk_check(const struct ski_blk_queue *queue, struct sk_block_request *request)
{
    enum sk_status status = ski_blk_is_ready(queue) ? check_flags(queue, request)
                                                    : refusal(queue->blk);

    if (status != SK_OK) {
        return status;
    }
    switch (request->operation) {
    case SK_BLOCK_READ:
        return ski_blk_check_transfer(queue, request);
    case SK_BLOCK_WRITE:
        return queue->read_only ? SK_ERR_READ_ONLY : ski_blk_check_transfer(queue, request);
    case SK_BLOCK_FLUSH:
        if (request->segment_count != 0 || request->sector != 0) {
            return SK_ERR_INVALID;
        }
        return check_flush(queue);
    case SK_BLOCK_GET_ID:
        return check_answer(request, SK_BLOCK_IDENTITY_BYTES);
    case SK_BLOCK_DISCARD:
    case SK_BLOCK_WRITE_ZEROES:
    case SK_BLOCK_SECURE_ERASE:
        return check_ranges(queue, request);
    case SK_BLOCK_GET_LIFETIME:
        return check_lifetime(queue, request);
    default:
        return ski_blk_check_zone(queue, request);
    }
}

static void prepare(struct sk_block_request *request)
{
    request->parts = 0;
    request->segment_index = 0;
    request->segment_offset = 0;
    request->bytes_left = 0;
    request->next_sector = request->sector;
}

void ski_blk_hold(struct ski_blk_queue *queue, struct sk_block_request *request)
{
    prepare(request);
    request->status = SK_OK;
    ski_blk_note_deadline(queue, request);
}

bool ski_blk_admit(struct ski_blk_queue *queue, struct sk_block_request *request)
{
    enum sk_status status;

    prepare(request);
    status = ski_blk_check(queue, request);
    request->status = status == SK_ERR_AGAIN ? SK_OK : status;
    queue->queue.statistics.refused += request->status != SK_OK;
    ski_blk_note_deadline(queue, request);
    return status == SK_OK;
}

uint64_t ski_blk_request_sector(const struct sk_block_request *request)
{
    return ski_blk_is_on_ranges(request) ? ski_blk_range_at(request, 0).sector : request->sector;
}

uint64_t ski_blk_request_bytes(const struct sk_block_request *request)
{
    uint64_t bytes = 0;

    if (ski_blk_is_on_ranges(request)) {
        for (uint32_t i = 0; i == 0 || i < request->range_count; i++) {
            bytes += ski_blk_range_at(request, i).sector_count * SK_BLOCK_SECTOR_BYTES;
        }
        return bytes;
    }
    for (uint32_t i = 0; i < request->segment_count; i++) {
        bytes += request->segments[i].bytes;
    }
    return bytes;
}

bool ski_blk_is_repeatable(const struct ski_blk_queue *queue,
                           const struct sk_block_request *request)
{
    switch (request->operation) {
    case SK_BLOCK_READ:
    case SK_BLOCK_GET_ID:
    case SK_BLOCK_GET_LIFETIME:
    case SK_BLOCK_ZONE_REPORT:
    case SK_BLOCK_FLUSH:
        return true;
    case SK_BLOCK_WRITE:
    case SK_BLOCK_WRITE_ZEROES:
    case SK_BLOCK_DISCARD:
        return queue->zone_sectors == 0; /* at a write pointer, each happens once */
    case SK_BLOCK_SECURE_ERASE:
        return !queue->zoned; /* it resets zones, which may have been written since */
    default:
        return false;
    }
}
