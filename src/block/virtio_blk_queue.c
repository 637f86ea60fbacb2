/* SPDX-License-Identifier: MIT */
/*
 * A request's way through one queue: checked, cut into parts that the device
 * takes, put into slots, published once for a batch, and completed by poll.
 *
 * Everything the device answers is three loads: the used index, an id, a
 * status byte.  Each is made once and checked against private state.
 */
#include "block/virtio_blk.h"

#include <skio/checked.h>

/* Of polls that find something, every how manieth looks at the clock as well. */
#define POLLS_PER_LOOK 64u

/* What one part of a request consists of. */
struct part {
    uint32_t type;
    uint32_t segment_flags; /* SKI_RING_WRITE where the device writes */
    uint64_t sector;
    uint32_t bytes;
    uint32_t count; /* segments */
};

static uint64_t now(const struct ski_blk_queue *queue)
{
    const struct sk_platform *platform = queue->blk->block.platform;

    return platform->now_ns(platform->context);
}

static bool is_ready(const struct ski_blk_queue *queue)
{
    return atomic_load_explicit(&queue->blk->block.state, memory_order_acquire) ==
           SK_BLOCK_STATE_READY;
}

static void append(struct sk_block_request ***last, struct sk_block_request *request)
{
    request->next = NULL;
    **last = request;
    *last = &request->next;
}

static void finish(struct ski_blk_queue *queue, struct sk_block_request *request)
{
    struct sk_block_statistics *statistics = &queue->queue.statistics;

    statistics->requests++;
    request->complete(request);
}

/* ---- Slots ------------------------------------------------------------------------------- */

/* Where a slot's chain begins: its own table, or its part of the descriptor table. */
static struct ski_ring_descriptor SKI_SHARED *chain_of(const struct ski_blk_queue *queue,
                                                       uint32_t slot)
{
    return queue->chains + slot * queue->chain_length;
}

/* The index of a chain's first descriptor, as links and heads count. */
static uint32_t base_of(const struct ski_blk_queue *queue, uint32_t slot)
{
    return queue->indirect ? 0 : slot * queue->chain_length;
}

/* Writes what never changes of a slot's chain. */
static void prepare_slot(struct ski_blk_queue *queue, uint32_t slot)
{
    struct ski_ring_descriptor SKI_SHARED *header = chain_of(queue, slot);

    ski_door_store64(&header->address,
                     queue->headers_address.raw + slot * sizeof(struct ski_blk_header));
    ski_door_store64(&header->rest, ski_ring_rest(sizeof(struct ski_blk_header), SKI_RING_NEXT,
                                                  base_of(queue, slot) + SKI_BLK_CHAIN_DATA));
    if (queue->indirect) {
        ski_door_store64(&queue->ring.descriptors[slot].address,
                         queue->chains_address.raw + (uint64_t)slot * queue->chain_length *
                                                         sizeof(struct ski_ring_descriptor));
    }
}

/*
 * Ends a slot's chain behind `count` data segments.  Done only when the number
 * differs from the slot's last one, which it rarely does.
 */
static void end_chain(struct ski_blk_queue *queue, uint32_t slot, uint32_t count)
{
    struct ski_ring_descriptor SKI_SHARED *status =
        chain_of(queue, slot) + SKI_BLK_CHAIN_DATA + count;
    uint32_t table_bytes =
        (count + SKI_BLK_CHAIN_FIXED) * (uint32_t)sizeof(struct ski_ring_descriptor);

    queue->slots[slot].segments = (uint16_t)count;
    ski_door_store64(&status->address, queue->statuses_address.raw + slot);
    ski_door_store64(&status->rest, ski_ring_rest(1, SKI_RING_WRITE, 0));
    if (queue->indirect) {
        ski_door_store64(&queue->ring.descriptors[slot].rest,
                         ski_ring_rest(table_bytes, SKI_RING_INDIRECT, 0));
    }
}

void ski_blk_queue_reset(struct ski_blk_queue *queue)
{
    for (uint32_t head = 0; head < queue->ring.size; head++) {
        queue->slot_of_head[head] = SKI_BLK_NO_SLOT;
    }
    for (uint32_t slot = 0; slot < queue->slot_count; slot++) {
        queue->slots[slot] = (struct ski_blk_slot){
            .data = chain_of(queue, slot) + SKI_BLK_CHAIN_DATA,
            .base = (uint16_t)base_of(queue, slot),
            .segments = SKI_BLK_NO_CHAIN,
        };
        queue->free_slots[slot] = (uint16_t)(queue->slot_count - 1 - slot);
        queue->slot_of_head[queue->indirect ? slot : slot * queue->chain_length] = (uint16_t)slot;
        prepare_slot(queue, slot);
    }
    queue->free_count = queue->slot_count;
    queue->waiting = NULL;
    queue->waiting_last = &queue->waiting;
    if (queue->refused == NULL) { /* those of an earlier life still want their callback */
        queue->refused_last = &queue->refused;
    }
    queue->config_events_seen = queue->blk->config_events;
    queue->next_tick_ns = 0;
    ski_ring_split_interrupts_off(&queue->ring);
}

/* Starts one part in a free slot; the data descriptors are written already. */
static inline void start_slot(struct ski_blk_queue *queue, uint32_t slot,
                              struct sk_block_request *request, const struct part *part)
{
    struct ski_blk_slot *private = &queue->slots[slot];

    if (private->segments != part->count) {
        end_chain(queue, slot, part->count);
    }
    ski_door_store64(&queue->headers[slot].type, part->type);
    ski_door_store64(&queue->headers[slot].sector, part->sector);
    ski_door_store8(&queue->statuses[slot], SKI_BLK_STATUS_POISON);
    private->request = request;
    private->bytes = part->bytes;
    private->tick = queue->tick;
    request->parts++;
    queue->free_count--;
    ski_ring_split_add(&queue->ring, queue->indirect ? (uint16_t)slot : private->base);
}

/* Links are all to the next descriptor, so a data segment is two words. */
static inline void put_segment(const struct ski_blk_slot *private, uint32_t index,
                               uint64_t address, uint32_t bytes, uint32_t flags)
{
    uint32_t next = private->base + SKI_BLK_CHAIN_DATA + index + 1;

    ski_door_store64(&private->data[index].address, address);
    ski_door_store64(&private->data[index].rest,
                     ski_ring_rest(bytes, flags | SKI_RING_NEXT, next));
}

/* ---- Parts ------------------------------------------------------------------------------- */

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
    };

    return types[operation];
}

/*
 * How many bytes the next part can have, from the request's cursor on, within
 * the limits of segments; whole blocks unless it is the rest.  0: the segments
 * are too small for one block to fit.
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
    if (bytes > UINT32_MAX) {
        bytes = UINT32_MAX; /* a request's total is 32 bits wide for many devices */
    }
    return bytes == request->bytes_left ? (uint32_t)bytes : (uint32_t)bytes & ~queue->block_mask;
}

/* Writes the descriptors of the next part->bytes and moves the cursor behind them. */
static void put_part(struct ski_blk_queue *queue, uint32_t slot, struct sk_block_request *request,
                     struct part *part)
{
    uint32_t left = part->bytes;

    while (left > 0) {
        const struct sk_dma_segment *segment = &request->segments[request->segment_index];
        uint32_t piece = segment->bytes - request->segment_offset;

        piece = piece < queue->segment_bytes_max ? piece : queue->segment_bytes_max;
        piece = piece < left ? piece : left;
        left -= piece;
        put_segment(&queue->slots[slot], part->count++,
                    segment->address.raw + request->segment_offset, piece, part->segment_flags);
        request->segment_offset += piece;
        if (request->segment_offset == segment->bytes) {
            request->segment_index++;
            request->segment_offset = 0;
        }
    }
    request->bytes_left -= part->bytes;
    request->next_sector += part->bytes / SK_BLOCK_SECTOR_BYTES;
}

/* The limits of an operation on a range of sectors; NULL: it is another operation. */
static const struct sk_block_range_limits *range_limits(const struct ski_blk_queue *queue,
                                                        enum sk_block_operation operation)
{
    const struct sk_block_info *info = &queue->blk->block.info;

    switch (operation) {
    case SK_BLOCK_DISCARD:
        return &info->discard;
    case SK_BLOCK_WRITE_ZEROES:
        return &info->write_zeroes;
    case SK_BLOCK_SECURE_ERASE:
        return &info->secure_erase;
    default:
        return NULL;
    }
}

/* One range: as much as the device takes, cut at its alignment if more follows. */
static void put_range(struct ski_blk_queue *queue, uint32_t slot,
                      struct sk_block_request *request,
                      const struct sk_block_range_limits *limits, struct part *part)
{
    struct ski_blk_range SKI_SHARED *range = &queue->ranges[slot];
    uint64_t left = request->bytes_left / SK_BLOCK_SECTOR_BYTES;
    uint32_t sectors = left < limits->sectors_max ? (uint32_t)left : limits->sectors_max;
    uint32_t flags = (request->flags & SK_BLOCK_FLAG_UNMAP) != 0 ? SKI_BLK_RANGE_UNMAP : 0;

    if (sectors < left) {
        uint64_t behind = (request->next_sector + sectors) % limits->alignment_sectors;

        sectors -= behind < sectors ? (uint32_t)behind & ~queue->sector_mask : 0;
    }
    ski_door_store64(&range->sector, request->next_sector);
    ski_door_store64(&range->count_and_flags, sectors | (uint64_t)flags << 32);
    put_segment(&queue->slots[slot], part->count++,
                queue->ranges_address.raw + slot * sizeof(struct ski_blk_range),
                (uint32_t)sizeof(struct ski_blk_range), 0);
    part->bytes = sectors * SK_BLOCK_SECTOR_BYTES;
    part->sector = 0; /* 5.2.6: the header's sector has no meaning here */
    request->bytes_left -= part->bytes;
    request->next_sector += sectors;
}

/* Fills the next part of a request into a slot; false: the limits leave no room for one block. */
static bool fill_part(struct ski_blk_queue *queue, uint32_t slot,
                      struct sk_block_request *request, struct part *part)
{
    const struct sk_block_range_limits *limits = range_limits(queue, request->operation);

    if (request->bytes_left == 0) {
        return true; /* nothing to move: FLUSH */
    }
    if (limits != NULL) {
        put_range(queue, slot, request, limits, part);
        return true;
    }
    part->bytes = measure_part(queue, request);
    if (part->bytes == 0) {
        return false;
    }
    put_part(queue, slot, request, part);
    return true;
}

/*
 * Puts as much of a request as there are slots for.  True: all of it is at the
 * device, or (status not SK_OK) the rest never will be.
 */
static bool issue(struct ski_blk_queue *queue, struct sk_block_request *request)
{
    while (queue->free_count > 0 && request->status == SK_OK) {
        uint32_t slot = queue->free_slots[queue->free_count - 1];
        struct part part = { .type = type_of(request->operation),
                             .segment_flags =
                                 request->operation == SK_BLOCK_WRITE ? 0 : SKI_RING_WRITE,
                             .sector = request->next_sector };

        if (!fill_part(queue, slot, request, &part)) {
            request->status = SK_ERR_UNSUPPORTED;
            break;
        }
        start_slot(queue, slot, request, &part);
        if (request->bytes_left == 0) {
            return true;
        }
    }
    return request->status != SK_OK;
}

/* ---- Submit ------------------------------------------------------------------------------ */

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
    const struct sk_block_range_limits *limits = range_limits(queue, request->operation);

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
        request->flush_after = status == SK_OK;
    }
    return SK_OK;
}

/* SK_OK: to be issued.  SK_ERR_AGAIN: nothing to do, it is done. */
static enum sk_status check(const struct ski_blk_queue *queue, struct sk_block_request *request)
{
    enum sk_status status = is_ready(queue) ? check_flags(queue, request) : SK_ERR_BROKEN;

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

/*
 * The usual request: one segment that the device takes whole.  True: it is in
 * its slot.  False: look at it in full; nothing was done.
 */
static inline bool start_simple(struct ski_blk_queue *queue, struct sk_block_request *request)
{
    const struct sk_dma_segment *segment = request->segments;
    bool writes = request->operation == SK_BLOCK_WRITE;
    struct part part = { .type = writes ? SKI_BLK_TYPE_OUT : SKI_BLK_TYPE_IN,
                         .sector = request->sector,
                         .count = 1 };
    uint32_t slot;

    if (request->segment_count != 1 || request->flags != 0 || queue->free_count == 0 ||
        queue->waiting != NULL ||
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
    put_segment(&queue->slots[slot], 0, segment->address.raw, part.bytes,
                writes ? 0 : SKI_RING_WRITE);
    start_slot(queue, slot, request, &part);
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
    status = check(queue, request);
    request->status = status == SK_ERR_AGAIN ? SK_OK : status;
    if (status != SK_OK) {
        queue->queue.statistics.errors_refused += status != SK_ERR_AGAIN;
        append(&queue->refused_last, request);
    } else if (queue->waiting != NULL || !issue(queue, request)) {
        append(&queue->waiting_last, request);
    } else if (request->parts == 0) { /* not even its first part fits the device's limits */
        queue->queue.statistics.errors_refused++;
        append(&queue->refused_last, request);
    }
}

static inline void publish(struct ski_blk_queue *queue)
{
    struct sk_virtio_transport *transport = queue->blk->virtio.transport;

    if (queue->ring.added == queue->ring.published) {
        return;
    }
    if (ski_ring_split_publish(&queue->ring)) {
        queue->queue.statistics.notifications++;
        transport->ops->notify(transport, queue->queue.index);
    } else {
        queue->queue.statistics.notifications_avoided++;
    }
}

void ski_blk_submit(struct sk_block_queue *face, struct sk_block_request *const *requests,
                    uint32_t count)
{
    struct ski_blk_queue *queue = SK_CONTAINER_OF(face, struct ski_blk_queue, queue);

    bool ready = is_ready(queue);

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
    while (queue->waiting != NULL && issue(queue, queue->waiting)) {
        struct sk_block_request *request = queue->waiting;

        queue->waiting = request->next;
        if (queue->waiting == NULL) {
            queue->waiting_last = &queue->waiting;
        }
        if (request->parts == 0) { /* failed with nothing at the device */
            append(&queue->refused_last, request);
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
    } else if (range_limits(queue, operation) != NULL) {
        statistics->bytes_cleared += bytes;
    }
}

/* The second half of a FUA write: a slot has just become free. */
static void start_flush(struct ski_blk_queue *queue, struct sk_block_request *request)
{
    static const struct part flush = { .type = SKI_BLK_TYPE_FLUSH };

    request->flush_after = false;
    start_slot(queue, queue->free_slots[queue->free_count - 1], request, &flush);
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

static void violated(struct ski_blk_queue *queue, const char *what, uint32_t value)
{
    struct ski_blk *blk = queue->blk;

    if (sk_log_limit_pass(&blk->fault_lines)) {
        sk_log_print(blk->block.platform->log, SK_LOG_ERROR, "virtio-blk 0x%llx queue %u: %s %u",
                     (unsigned long long)blk->virtio.transport->address, queue->queue.index, what,
                     value);
    }
    ski_blk_stop(blk, SK_ERR_MALFORMED);
}

/*
 * Takes one used element.  Stores the request that ended with it, or NULL.
 * False: the device broke the protocol and was stopped.
 */
static inline bool take_one(struct ski_blk_queue *queue, struct sk_block_request **out_ended)
{
    uint32_t id = ski_ring_split_take(&queue->ring);
    uint32_t slot = id < queue->ring.size ? queue->slot_of_head[id] : SKI_BLK_NO_SLOT;
    struct sk_block_request *request;
    enum sk_status status;
    uint8_t answer;

    *out_ended = NULL;
    if (slot == SKI_BLK_NO_SLOT || queue->slots[slot].request == NULL) {
        violated(queue, "completion of a request that is not outstanding: id", id);
        return false;
    }
    answer = ski_door_load8(&queue->statuses[slot]);
    status = status_of(answer);
    if (status == SK_ERR_MALFORMED) {
        violated(queue, "completion without an answer: status", answer);
        return false; /* the slot stays in flight and ends with the rest */
    }
    request = queue->slots[slot].request;
    count_part(queue, request->operation, queue->slots[slot].bytes, status);
    if (end_part(queue, slot, status)) {
        *out_ended = request;
    }
    return true;
}

static uint32_t harvest(struct ski_blk_queue *queue, uint32_t budget)
{
    uint32_t completed = 0;
    uint16_t pending;

    if (ski_ring_split_pending(&queue->ring, &pending) != SK_OK) {
        violated(queue, "more completions than requests:", pending);
        return 0;
    }
    for (; pending > 0 && completed < budget; pending--) {
        struct sk_block_request *ended;

        if (!take_one(queue, &ended)) {
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
        append(&queue->refused_last, request);
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

/* ---- Time and events --------------------------------------------------------------------- */

/*
 * Moves the queue's tick on when a quarter of the timeout went by, and stops
 * the device if a request has seen more than a timeout's worth of ticks.
 */
static void look_at_clock(struct ski_blk_queue *queue)
{
    struct ski_blk *blk = queue->blk;
    uint64_t quarter = blk->options.timeout_ns / SKI_BLK_TICKS_PER_TIMEOUT + 1;
    uint64_t time = now(queue);

    if (time < queue->next_tick_ns || queue->free_count == queue->slot_count) {
        return;
    }
    if (!sk_checked_add(time, quarter, &queue->next_tick_ns)) {
        queue->next_tick_ns = UINT64_MAX;
    }
    queue->tick++;
    for (uint32_t slot = 0; slot < queue->slot_count; slot++) {
        uint8_t age = (uint8_t)(queue->tick - queue->slots[slot].tick);

        if (queue->slots[slot].request != NULL && age > SKI_BLK_TICKS_PER_TIMEOUT) {
            sk_log_print(blk->block.platform->log, SK_LOG_ERROR,
                         "virtio-blk 0x%llx queue %u: no answer for sector %llu in %llu ms",
                         (unsigned long long)blk->virtio.transport->address, queue->queue.index,
                         (unsigned long long)queue->slots[slot].request->sector,
                         (unsigned long long)(blk->options.timeout_ns / 1000000));
            ski_blk_stop(blk, SK_ERR_TIMEOUT);
            return;
        }
    }
    if (ski_virtio_device_needs_reset(&blk->virtio)) {
        violated(queue, "the device needs a reset; tick", queue->tick);
    } else if (!blk->interrupt_attached) {
        ski_blk_interrupt(blk); /* nobody else would see a configuration change */
    }
}

/* A configuration change: new capacity, or a device that gave up. */
static void look_at_events(struct ski_blk_queue *queue)
{
    struct ski_blk *blk = queue->blk;
    uint32_t events = blk->config_events;
    uint32_t interrupts = queue->interrupts;

    queue->queue.statistics.interrupts += (uint32_t)(interrupts - queue->interrupts_seen);
    queue->interrupts_seen = interrupts;
    if (events == queue->config_events_seen) {
        return;
    }
    queue->config_events_seen = events;
    if (ski_virtio_device_needs_reset(&blk->virtio)) {
        violated(queue, "the device needs a reset; event", events);
    } else if (ski_blk_read_capacity(queue) != SK_OK) {
        ski_blk_stop(blk, SK_ERR_MALFORMED);
    }
}

void ski_blk_interrupt(void *argument)
{
    struct ski_blk *blk = argument;
    struct sk_virtio_transport *transport = blk->virtio.transport;
    uint32_t causes = transport->ops->take_interrupt(transport);

    if (causes == 0 || blk->block.state != SK_BLOCK_STATE_READY) {
        return; /* spurious, or of a device that is not in use: acknowledged, ignored */
    }
    if ((causes & SK_VIRTIO_INTERRUPT_CONFIG) != 0) {
        blk->config_events++;
    }
    for (uint32_t i = 0; i < blk->queue_count; i++) {
        blk->queues[i].interrupts++; /* wakes waiters, for configuration changes too */
    }
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
    if (is_ready(queue)) {
        completed += harvest(queue, budget - completed);
        queue->polls_since_look++;
        if (completed == 0 || queue->polls_since_look >= POLLS_PER_LOOK) {
            queue->polls_since_look = 0;
            look_at_clock(queue);
            look_at_events(queue);
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
    return queue->refused != NULL || !is_ready(queue);
}

enum sk_status ski_blk_wait(struct sk_block_queue *face, uint64_t until_ns)
{
    struct ski_blk_queue *queue = SK_CONTAINER_OF(face, struct ski_blk_queue, queue);
    const struct sk_platform *platform = queue->blk->block.platform;
    bool interrupts = queue->blk->interrupt_attached;
    enum sk_status status = SK_ERR_TIMEOUT;

    if (queue->polling) {
        return SK_ERR_BUSY;
    }
    for (;;) {
        uint32_t seen = queue->interrupts;
        uint64_t time;

        if (has_work(queue) || ski_ring_split_interrupts_on(&queue->ring)) {
            status = SK_OK;
            break;
        }
        look_at_clock(queue);
        look_at_events(queue);
        time = now(queue);
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
    if (is_ready(queue)) {
        ski_ring_split_interrupts_off(&queue->ring);
    }
    return status;
}
