/* SPDX-License-Identifier: MIT */
/* Cutting requests into parts that the device takes. */
#include "block/virtio_blk_slot.h"

static uint32_t type_of(enum sk_block_operation operation)
{
    static const uint8_t types[SK_BLOCK_OPERATION_COUNT] = {
        [SK_BLOCK_READ] = SKI_BLK_TYPE_IN,
        [SK_BLOCK_WRITE] = SKI_BLK_TYPE_OUT,
        [SK_BLOCK_FLUSH] = SKI_BLK_TYPE_FLUSH,
        [SK_BLOCK_GET_ID] = SKI_BLK_TYPE_GET_ID,
        [SK_BLOCK_DISCARD] = SKI_BLK_TYPE_DISCARD,
        [SK_BLOCK_WRITE_ZEROES] = SKI_BLK_TYPE_WRITE_ZEROES,
        [SK_BLOCK_SECURE_ERASE] = SKI_BLK_TYPE_SECURE_ERASE,
        [SK_BLOCK_GET_LIFETIME] = SKI_BLK_TYPE_GET_LIFETIME,
        [SK_BLOCK_ZONE_REPORT] = SKI_BLK_TYPE_ZONE_REPORT,
        [SK_BLOCK_ZONE_OPEN] = SKI_BLK_TYPE_ZONE_OPEN,
        [SK_BLOCK_ZONE_CLOSE] = SKI_BLK_TYPE_ZONE_CLOSE,
        [SK_BLOCK_ZONE_FINISH] = SKI_BLK_TYPE_ZONE_FINISH,
        [SK_BLOCK_ZONE_RESET] = SKI_BLK_TYPE_ZONE_RESET,
        [SK_BLOCK_ZONE_RESET_ALL] = SKI_BLK_TYPE_ZONE_RESET_ALL,
        [SK_BLOCK_ZONE_APPEND] = SKI_BLK_TYPE_ZONE_APPEND,
    };

    return types[operation];
}

static bool is_write(enum sk_block_operation operation)
{
    return operation == SK_BLOCK_WRITE || operation == SK_BLOCK_ZONE_APPEND;
}

/* What fits a part, as whole units of the disk unless it is the rest; see measure_part. */
static uint32_t cut_part(const struct ski_blk_queue *queue, const struct sk_block_request *request,
                         uint64_t bytes)
{
    bool moves = request->operation == SK_BLOCK_READ || request->operation == SK_BLOCK_WRITE;
    uint64_t room = moves ? ski_blk_zone_room(queue, request->next_sector) : UINT64_MAX;

    bytes = bytes < room ? bytes : room;
    bytes = bytes < UINT32_MAX ? bytes : UINT32_MAX; /* 32 bits wide for many devices */
    if (bytes == request->bytes_left) {
        return (uint32_t)bytes;
    }
    if (!moves) {
        return 0; /* appends and reports are not split */
    }
    if (queue->zone_sectors != 0 && request->operation == SK_BLOCK_WRITE) {
        return (uint32_t)(bytes - bytes % queue->zone_write_bytes);
    }
    return (uint32_t)bytes & ~queue->block_mask;
}

/*
 * How many bytes the next part can have, from the request's cursor on, within
 * the limits of segments and of zones.  0: the segments are too small for one
 * block to fit, or for a request that cannot be split.
 */
static uint32_t measure_part(const struct ski_blk_queue *queue,
                             const struct sk_block_request *request)
{
    uint32_t index = request->segment_index;
    uint32_t offset = request->segment_offset;
    uint64_t bytes = 0;

    for (uint32_t used = 0; used < queue->segment_count_max && bytes < request->bytes_left;
         used++) {
        uint32_t left = request->segments[index].bytes - offset;
        uint32_t piece = left < queue->segment_bytes_max ? left : queue->segment_bytes_max;

        bytes += piece;
        offset += piece;
        if (offset == request->segments[index].bytes) {
            index++;
            offset = 0;
        }
    }
    return cut_part(queue, request, bytes);
}

/* Writes the descriptors of the next part->bytes and moves the cursor behind them. */
static void put_part(struct ski_blk_queue *queue, uint32_t slot, struct sk_block_request *request,
                     struct ski_blk_part *part)
{
    uint32_t left = part->bytes;

    while (left > 0) {
        const struct sk_dma_segment *segment = &request->segments[request->segment_index];
        uint32_t piece = segment->bytes - request->segment_offset;

        piece = piece < queue->segment_bytes_max ? piece : queue->segment_bytes_max;
        piece = piece < left ? piece : left;
        left -= piece;
        ski_blk_put_segment(queue, slot, part->count++,
                            segment->address.raw + request->segment_offset, piece,
                            part->segment_flags);
        request->segment_offset += piece;
        if (request->segment_offset == segment->bytes) {
            request->segment_index++;
            request->segment_offset = 0;
        }
    }
    request->bytes_left -= part->bytes;
    request->next_sector += part->bytes / SK_BLOCK_SECTOR_BYTES;
}

const struct sk_block_range_limits *ski_blk_range_limits(const struct ski_blk_queue *queue,
                                                         enum sk_block_operation operation)
{
    switch (operation) {
    case SK_BLOCK_DISCARD:
        return &queue->discard;
    case SK_BLOCK_WRITE_ZEROES:
        return &queue->write_zeroes;
    case SK_BLOCK_SECURE_ERASE:
        return &queue->secure_erase;
    default:
        return NULL;
    }
}

/*
 * How much of the range that the cursor is in, `left` sectors behind it, goes as
 * one: cut at the alignment if more follows.
 */
static uint32_t measure_range(const struct ski_blk_queue *queue,
                              const struct sk_block_request *request,
                              const struct sk_block_range_limits *limits, uint64_t left)
{
    uint64_t room = ski_blk_zone_room(queue, request->next_sector) / SK_BLOCK_SECTOR_BYTES;
    uint32_t sectors = left < limits->sectors_max ? (uint32_t)left : limits->sectors_max;

    if (request->operation == SK_BLOCK_WRITE_ZEROES && room <= sectors) {
        return (uint32_t)room;
    }
    if (sectors < left) {
        uint64_t behind = (request->next_sector + sectors) % limits->alignment_sectors;

        sectors -= behind < sectors ? (uint32_t)behind & ~queue->sector_mask : 0;
    }
    return sectors;
}

/* Takes the next piece of the request's ranges and moves the cursor; at most `most` sectors. */
static struct sk_block_range take_range(const struct ski_blk_queue *queue,
                                        struct sk_block_request *request,
                                        const struct sk_block_range_limits *limits, uint32_t most)
{
    struct sk_block_range range = ski_blk_range_at(request, request->segment_index);
    uint64_t left = range.sector + range.sector_count - request->next_sector;
    struct sk_block_range piece = { request->next_sector,
                                    measure_range(queue, request, limits, left) };

    if (piece.sector_count > most) {
        return (struct sk_block_range){ 0, 0 };
    }
    request->bytes_left -= piece.sector_count * SK_BLOCK_SECTOR_BYTES;
    request->next_sector += piece.sector_count;
    if (piece.sector_count == left && request->bytes_left != 0) {
        request->segment_index++;
        request->next_sector = request->ranges[request->segment_index].sector;
    }
    return piece;
}

/* As many ranges as the device takes in one request, and as 32 bits count sectors of. */
static void put_ranges(struct ski_blk_queue *queue, uint32_t slot,
                       struct sk_block_request *request,
                       const struct sk_block_range_limits *limits, struct ski_blk_part *part)
{
    uint64_t offset = ski_blk_ranges_offset(queue, slot);
    struct ski_blk_range SKI_SHARED *ranges =
        (struct ski_blk_range SKI_SHARED *)(void SKI_SHARED *)(queue->tables + offset);
    uint64_t flags = (request->flags & SK_BLOCK_FLAG_UNMAP) != 0 ? SKI_BLK_RANGE_UNMAP : 0;
    uint32_t most = ski_blk_is_serial(queue, request) ? 1 : limits->ranges_max;
    uint32_t count = 0;

    while (count < most && request->bytes_left != 0) {
        struct sk_block_range piece =
            take_range(queue, request, limits, UINT32_MAX - part->bytes);

        if (piece.sector_count == 0) {
            break;
        }
        ski_door_store64(&ranges[count].sector, piece.sector);
        ski_door_store64(&ranges[count].count_and_flags, piece.sector_count | flags << 32);
        part->bytes += (uint32_t)piece.sector_count;
        count++;
    }
    ski_blk_put_segment(queue, slot, part->count++, queue->tables_address.raw + offset,
                        count * (uint32_t)sizeof(struct ski_blk_range), 0);
    part->sector = 0; /* 5.2.6: the header's sector has no meaning here */
}

/* Fills the next part of a request into a slot; false: the limits leave no room for it. */
static bool fill_part(struct ski_blk_queue *queue, uint32_t slot,
                      struct sk_block_request *request, struct ski_blk_part *part)
{
    const struct sk_block_range_limits *limits = ski_blk_range_limits(queue, request->operation);

    if (request->bytes_left == 0) {
        return true; /* nothing to move: FLUSH, a zone's state */
    }
    if (limits != NULL) {
        if (limits->sectors_max == 0) {
            return false; /* since it was accepted, the disk changed */
        }
        put_ranges(queue, slot, request, limits, part);
        return true;
    }
    part->bytes = measure_part(queue, request);
    if (part->bytes == 0) {
        return false;
    }
    put_part(queue, slot, request, part);
    return true;
}

bool ski_blk_issue(struct ski_blk_queue *queue, struct sk_block_request *request)
{
    bool serial = ski_blk_is_serial(queue, request);

    while (queue->free_count > 0 && request->status == SK_OK &&
           (!serial || request->parts == 0)) {
        uint32_t slot = ski_blk_next_slot(queue);
        struct ski_blk_part part = {
            .type = type_of(request->operation),
            .segment_flags = is_write(request->operation) ? 0 : SKI_RING_WRITE,
            .sector = request->next_sector,
            .append = request->operation == SK_BLOCK_ZONE_APPEND,
        };

        if (!fill_part(queue, slot, request, &part)) {
            request->status = SK_ERR_UNSUPPORTED;
            break;
        }
        ski_blk_start_slot(queue, request, &part);
        if (request->bytes_left == 0) {
            return true;
        }
    }
    return request->status != SK_OK;
}
