/* SPDX-License-Identifier: MIT */
/* Reads and writes of any memory, on top of requests: map, submit, wait, unmap. */
#include "block/block_sync.h"

#include "block/block_batch.h"

#include <skio/checked.h>

/* What one request moves at most: pages that are nobody's neighbours still fit the list. */
#define CHUNK_PAGES    32u
#define CHUNK_BYTES    (CHUNK_PAGES * 4096u)
#define CHUNK_SEGMENTS (CHUNK_PAGES + 1)

static void wake(struct sk_block_request *request)
{
    SK_CONTAINER_OF(request, struct ski_block_waiter, request)->done = true;
}

uint64_t ski_block_deadline(const struct sk_block_device *device, uint64_t timeout_ns)
{
    const struct sk_platform *platform = device->platform;
    uint64_t deadline;

    if (timeout_ns == 0 ||
        !sk_checked_add(platform->now_ns(platform->context), timeout_ns, &deadline)) {
        return 0;
    }
    return deadline;
}

enum sk_status ski_block_run(struct sk_block_queue *queue, struct ski_block_waiter *waiter,
                             uint64_t deadline_ns)
{
    struct sk_block_request *request = &waiter->request;

    if (sk_block_poll(queue, 1, NULL) == SK_ERR_BUSY) {
        return SK_ERR_BUSY; /* called from a completion: nobody could poll for this one */
    }
    request->deadline_ns = deadline_ns;
    request->complete = wake;
    ski_block_submit_now(queue, &request, 1);
    for (;;) {
        enum sk_status status = sk_block_poll(queue, 0, NULL);

        if (waiter->done) {
            return request->status == SK_ERR_CANCELED ? SK_ERR_BROKEN : request->status;
        }
        if (status == SK_OK) {
            status = sk_block_wait(queue, UINT64_MAX);
        } else { /* it may be waiting for a recovery that comes later, if at all */
            status = sk_block_cancel(queue, request);
        }
    }
}

/* What one synchronous transfer moves. */
struct chunk {
    enum sk_block_operation operation;
    uint64_t sector;
    uint8_t *data;
    uint64_t bytes;
};

enum sk_status ski_block_run_on(struct sk_block_queue *queue, struct ski_block_waiter *waiter,
                                const struct ski_block_memory *memory, uint64_t deadline_ns)
{
    struct sk_dma_segment segments[CHUNK_SEGMENTS];
    struct sk_dma_mapping mapping;
    enum sk_status status;
    enum sk_status unmapped;

    status = sk_dma_domain_map(queue->device->domain, memory->data, memory->bytes,
                               memory->direction, &memory->constraints, segments, CHUNK_SEGMENTS,
                               &mapping);
    if (status != SK_OK) {
        return status;
    }
    waiter->request.segments = mapping.segments;
    waiter->request.segment_count = (uint32_t)mapping.segment_count;
    status = ski_block_run(queue, waiter, deadline_ns);
    waiter->request.segments = NULL;
    if (status == SK_ERR_IN_DOUBT) {
        (void)sk_dma_domain_quarantine(&mapping);
        return status;
    }
    unmapped = sk_dma_domain_unmap(&mapping, status == SK_OK ? memory->bytes : 0);
    return status != SK_OK ? status : unmapped;
}

static enum sk_status move_chunk(struct sk_block_queue *queue, const struct chunk *chunk,
                                 uint32_t segment_count_max, uint64_t deadline_ns)
{
    struct ski_block_waiter waiter = { .request = { .operation = chunk->operation,
                                                    .sector = chunk->sector } };
    struct ski_block_memory memory = {
        .data = chunk->data,
        .bytes = chunk->bytes,
        .direction = chunk->operation == SK_BLOCK_READ ? SK_DMA_FROM_DEVICE : SK_DMA_TO_DEVICE,
        .constraints = { .segment_count_max = segment_count_max },
    };

    return ski_block_run_on(queue, &waiter, &memory, deadline_ns);
}

/*
 * Memory whose pieces are too odd for the device's few segments to hold a
 * block goes a second time, as few pieces: that is, by a bounce.
 */
static enum sk_status transfer_chunk(struct sk_block_queue *queue, const struct chunk *chunk,
                                     uint64_t deadline_ns)
{
    uint32_t few = queue->device->info.segment_count_max;
    enum sk_status status = move_chunk(queue, chunk, 0, deadline_ns);

    return status == SK_ERR_UNSUPPORTED ? move_chunk(queue, chunk, few, deadline_ns) : status;
}

static enum sk_status transfer(struct sk_block_queue *queue, enum sk_block_operation operation,
                               uint64_t sector, uint8_t *data, uint64_t bytes,
                               uint64_t timeout_ns)
{
    uint64_t deadline_ns = ski_block_deadline(queue->device, timeout_ns);
    struct sk_block_info info;
    uint64_t most;

    sk_block_get_info(queue->device, &info); /* another owner may be changing it */
    most = info.block_bytes > CHUNK_BYTES ? info.block_bytes : CHUNK_BYTES; /* powers of two */
    if (data == NULL) {
        return SK_ERR_INVALID;
    }
    if (bytes == 0 || bytes % info.block_bytes != 0) {
        return SK_ERR_SIZE;
    }
    if (!sk_checked_range(sector, bytes / SK_BLOCK_SECTOR_BYTES, info.capacity_sectors)) {
        return SK_ERR_RANGE;
    }
    while (bytes > 0) {
        struct chunk chunk = { operation, sector, data, bytes < most ? bytes : most };
        enum sk_status status = transfer_chunk(queue, &chunk, deadline_ns);

        if (status != SK_OK) {
            return status;
        }
        sector += chunk.bytes / SK_BLOCK_SECTOR_BYTES;
        data += chunk.bytes;
        bytes -= chunk.bytes;
    }
    return SK_OK;
}

enum sk_status sk_block_read(struct sk_block_queue *queue, uint64_t sector, void *out_data,
                             uint64_t bytes, uint64_t timeout_ns)
{
    return transfer(queue, SK_BLOCK_READ, sector, out_data, bytes, timeout_ns);
}

enum sk_status sk_block_write(struct sk_block_queue *queue, uint64_t sector, const void *data,
                              uint64_t bytes, uint64_t timeout_ns)
{
    /* The mapping is SK_DMA_TO_DEVICE: nothing writes through this pointer. */
    return transfer(queue, SK_BLOCK_WRITE, sector, (uint8_t *)(uintptr_t)data, bytes, timeout_ns);
}

enum sk_status sk_block_flush(struct sk_block_queue *queue, uint64_t timeout_ns)
{
    struct ski_block_waiter waiter = { .request = { .operation = SK_BLOCK_FLUSH } };

    return ski_block_run(queue, &waiter, ski_block_deadline(queue->device, timeout_ns));
}

static enum sk_status clear(struct sk_block_queue *queue, struct ski_block_waiter *waiter,
                            uint64_t timeout_ns)
{
    enum sk_block_operation operation = waiter->request.operation;

    if (operation != SK_BLOCK_DISCARD && operation != SK_BLOCK_WRITE_ZEROES &&
        operation != SK_BLOCK_SECURE_ERASE) {
        return SK_ERR_INVALID;
    }
    return ski_block_run(queue, waiter, ski_block_deadline(queue->device, timeout_ns));
}

enum sk_status sk_block_clear(struct sk_block_queue *queue, enum sk_block_operation operation,
                              uint64_t sector, uint64_t sector_count, uint32_t flags,
                              uint64_t timeout_ns)
{
    struct ski_block_waiter waiter = { .request = { .operation = operation,
                                                    .sector = sector,
                                                    .sector_count = sector_count,
                                                    .flags = flags } };

    return clear(queue, &waiter, timeout_ns);
}

enum sk_status sk_block_clear_ranges(struct sk_block_queue *queue,
                                     enum sk_block_operation operation,
                                     const struct sk_block_range *ranges, uint32_t range_count,
                                     uint32_t flags, uint64_t timeout_ns)
{
    struct ski_block_waiter waiter = { .request = { .operation = operation,
                                                    .ranges = ranges,
                                                    .range_count = range_count,
                                                    .flags = flags } };

    return clear(queue, &waiter, timeout_ns);
}

enum sk_status sk_block_set_cache(struct sk_block_queue *queue, enum sk_block_cache cache,
                                  uint64_t timeout_ns)
{
    enum sk_status status = queue->device->ops->set_cache(queue->device, cache);

    /* 5.2.5.2: the change says nothing about older writes. */
    if (status == SK_OK && cache == SK_BLOCK_CACHE_WRITE_THROUGH) {
        status = sk_block_flush(queue, timeout_ns);
    }
    return status;
}
