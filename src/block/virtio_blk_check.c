/* SPDX-License-Identifier: MIT */
/* Which requests are accepted: everything that a caller can get wrong is found here. */
#include "block/virtio_blk_slot.h"

#include <skio/checked.h>

static enum sk_status check_transfer(const struct ski_blk_queue *queue,
                                     struct sk_block_request *request)
{
    uint64_t bytes = 0;

    if (request->segment_count == 0 || request->segments == NULL) {
        return SK_ERR_SIZE;
    }
    for (uint32_t i = 0; i < request->segment_count; i++) {
        if (request->segments[i].bytes == 0) {
            return SK_ERR_SIZE;
        }
        bytes += request->segments[i].bytes; /* 2^32 * 2^32 at the most: fits */
    }
    if (((uint32_t)bytes & queue->block_mask) != 0) {
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

static enum sk_status check_range(const struct ski_blk_queue *queue,
                                  struct sk_block_request *request)
{
    const struct sk_block_range_limits *limits = ski_blk_range_limits(queue, request->operation);

    if (limits->sectors_max == 0) {
        return SK_ERR_UNSUPPORTED;
    }
    if (queue->read_only) {
        return SK_ERR_READ_ONLY;
    }
    if (request->segment_count != 0) {
        return SK_ERR_INVALID;
    }
    if (request->sector_count == 0 || (request->sector_count & queue->sector_mask) != 0) {
        return SK_ERR_SIZE;
    }
    if ((request->sector & queue->sector_mask) != 0) {
        return SK_ERR_INVALID;
    }
    if (!sk_checked_range(request->sector, request->sector_count, queue->capacity_sectors)) {
        return SK_ERR_RANGE;
    }
    request->bytes_left = request->sector_count * SK_BLOCK_SECTOR_BYTES;
    return SK_OK;
}

/* FLUSH, and the flush behind a write.  SK_ERR_AGAIN: there is nothing to do. */
static enum sk_status check_flush(const struct ski_blk_queue *queue)
{
    if (ski_virtio_device_has(&queue->blk->virtio, SK_VIRTIO_BLK_F_FLUSH)) {
        return SK_OK;
    }
    return queue->blk->block.info.cache == SK_BLOCK_CACHE_WRITE_THROUGH ? SK_ERR_AGAIN
                                                                        : SK_ERR_UNSUPPORTED;
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

static enum sk_status check_flags(const struct ski_blk_queue *queue,
                                  struct sk_block_request *request)
{
    bool writes = request->operation == SK_BLOCK_WRITE;
    bool zeroes = request->operation == SK_BLOCK_WRITE_ZEROES;
    uint32_t allowed = (writes || zeroes ? SK_BLOCK_FLAG_FUA : 0) |
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

enum sk_status ski_blk_check(const struct ski_blk_queue *queue, struct sk_block_request *request)
{
    enum sk_status status = ski_blk_is_ready(queue) ? check_flags(queue, request) : SK_ERR_BROKEN;

    if (status != SK_OK) {
        return status;
    }
    switch (request->operation) {
    case SK_BLOCK_READ:
        return check_transfer(queue, request);
    case SK_BLOCK_WRITE:
        return queue->read_only ? SK_ERR_READ_ONLY : check_transfer(queue, request);
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
        return check_range(queue, request);
    case SK_BLOCK_GET_LIFETIME:
        if (!queue->blk->block.info.lifetime) {
            return SK_ERR_UNSUPPORTED;
        }
        return check_answer(request, SK_BLOCK_LIFETIME_BYTES);
    default:
        return SK_ERR_INVALID;
    }
}

bool ski_blk_is_repeatable(const struct ski_blk_queue *queue,
                           const struct sk_block_request *request)
{
    (void)queue;
    switch (request->operation) {
    case SK_BLOCK_READ:
    case SK_BLOCK_GET_ID:
    case SK_BLOCK_GET_LIFETIME:
    case SK_BLOCK_FLUSH:
    case SK_BLOCK_WRITE:
    case SK_BLOCK_DISCARD:
    case SK_BLOCK_WRITE_ZEROES:
    case SK_BLOCK_SECURE_ERASE:
        return true;
    default:
        return false;
    }
}
