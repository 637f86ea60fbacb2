/* SPDX-License-Identifier: MIT */
#include <skio/io_pool.h>

#include <skio/checked.h>

#include "base/bytes.h"

/* What the state byte of a slot says; every other value is corruption and is never put back. */
enum slot_state {
    SLOT_FREE = 0x5f,
    SLOT_OUT = 0xa0
};

#define SLOT_METADATA_BYTES (sizeof(uint32_t) + sizeof(uint8_t))

size_t sk_io_pool_metadata_bytes(uint32_t slot_count)
{
    if (slot_count > SK_IO_POOL_SLOTS_MAX) {
        return 0;
    }
    return slot_count * SLOT_METADATA_BYTES;
}

/* Checks what can be checked without the buffer; stores the distance of two slots. */
static enum sk_status check_shape(uint64_t slot_bytes, uint64_t alignment, const void *metadata,
                                  uint64_t *out_distance)
{
    if (metadata == NULL) {
        return SK_ERR_INVALID;
    }
    if (!sk_checked_is_power_of_two(alignment) || (uintptr_t)metadata % sizeof(uint32_t) != 0) {
        return SK_ERR_ALIGNMENT;
    }
    if (slot_bytes == 0 || !sk_checked_align_up(slot_bytes, alignment, out_distance)) {
        return SK_ERR_SIZE;
    }
    return SK_OK;
}

/* How many slots the buffer and the metadata have room for. */
static uint32_t count_slots(const struct sk_io_buffer *buffer, uint64_t distance,
                            size_t metadata_bytes)
{
    uint64_t count = sk_io_buffer_size(buffer) / distance;

    if (count > metadata_bytes / SLOT_METADATA_BYTES) {
        count = metadata_bytes / SLOT_METADATA_BYTES;
    }
    return count < SK_IO_POOL_SLOTS_MAX ? (uint32_t)count : SK_IO_POOL_SLOTS_MAX;
}

static bool overlaps(uintptr_t a, uint64_t a_bytes, uintptr_t b, uint64_t b_bytes)
{
    return a < b ? b - a < a_bytes : a - b < b_bytes;
}

/* Checks the buffer and the metadata against each other and fills *pool in, without a hold. */
static enum sk_status plan(struct sk_io_pool *pool, struct sk_io_buffer *buffer, uint64_t alignment,
                           void *metadata, size_t metadata_bytes)
{
    enum sk_status status = sk_io_buffer_address(buffer, &pool->address);

    if (status != SK_OK) {
        return status;
    }
    pool->buffer = buffer;
    pool->data = sk_io_buffer_data(buffer);
    if ((pool->address.raw | (uintptr_t)pool->data) & (alignment - 1)) {
        return SK_ERR_ALIGNMENT;
    }
    pool->slot_count = count_slots(buffer, pool->slot_bytes, metadata_bytes);
    if (pool->slot_count == 0) {
        return SK_ERR_SIZE;
    }
    if (overlaps((uintptr_t)metadata, metadata_bytes, (uintptr_t)pool->data,
                 sk_io_buffer_capacity(buffer))) {
        return SK_ERR_INVALID;
    }
    return SK_OK;
}

/* Makes every slot free; slot 0 is the first to go out. */
static void fill(struct sk_io_pool *pool, void *metadata)
{
    pool->stack = metadata;
    pool->state = (uint8_t *)metadata + (size_t)pool->slot_count * sizeof(uint32_t);
    for (uint32_t i = 0; i < pool->slot_count; i++) {
        pool->stack[i] = pool->slot_count - 1 - i;
        pool->state[i] = SLOT_FREE;
    }
    pool->free_count = pool->slot_count;
}

enum sk_status sk_io_pool_init(struct sk_io_pool *pool, struct sk_io_buffer *buffer,
                               uint64_t slot_bytes, uint64_t alignment, void *metadata,
                               size_t metadata_bytes)
{
    enum sk_status status;

    if (pool == NULL) {
        return SK_ERR_INVALID;
    }
    memset(pool, 0, sizeof(*pool));
    if (buffer == NULL) {
        return SK_ERR_INVALID;
    }
    status = check_shape(slot_bytes, alignment, metadata, &pool->slot_bytes);
    if (status == SK_OK) {
        status = plan(pool, buffer, alignment, metadata, metadata_bytes);
    }
    if (status == SK_OK) {
        status = sk_io_buffer_hold(buffer);
    }
    if (status != SK_OK) {
        memset(pool, 0, sizeof(*pool));
        return status;
    }
    fill(pool, metadata);
    return SK_OK;
}

enum sk_status sk_io_pool_deinit(struct sk_io_pool *pool)
{
    enum sk_status status;

    if (pool == NULL || pool->buffer == NULL) {
        return SK_ERR_GONE;
    }
    if (pool->free_count != pool->slot_count) {
        return SK_ERR_BUSY;
    }
    status = sk_io_buffer_release(pool->buffer);
    if (status == SK_OK) {
        memset(pool, 0, sizeof(*pool));
    }
    return status;
}

enum sk_status sk_io_pool_get(struct sk_io_pool *pool, struct sk_io_slot *out_slot)
{
    uint32_t index;
    uint64_t offset;

    if (pool->free_count == 0) {
        return SK_ERR_NO_MEMORY;
    }
    index = pool->stack[--pool->free_count];
    offset = index * pool->slot_bytes;
    pool->state[index] = SLOT_OUT;
    out_slot->data = pool->data + offset;
    out_slot->address = sk_daddr_make(pool->address.raw + offset);
    out_slot->index = index;
    return SK_OK;
}

/* Counts a put of a slot that is not out, and says so a few times. */
static enum sk_status refuse_put(struct sk_io_pool *pool, uint32_t index, enum sk_status status)
{
    if (pool->buffer != NULL && sk_log_limit_pass(&pool->refused_puts)) {
        sk_log_print(pool->buffer->domain->platform->log, SK_LOG_ERROR,
                     "io_pool: put of slot %u of %u, which is not out (%llu refused so far)",
                     (unsigned)index, (unsigned)pool->slot_count,
                     (unsigned long long)pool->refused_puts.seen);
    }
    return status;
}

enum sk_status sk_io_pool_put(struct sk_io_pool *pool, uint32_t index)
{
    if (index >= pool->slot_count) {
        return refuse_put(pool, index, SK_ERR_RANGE);
    }
    if (pool->state[index] != SLOT_OUT) {
        return refuse_put(pool, index, SK_ERR_GONE);
    }
    pool->state[index] = SLOT_FREE;
    pool->stack[pool->free_count++] = index;
    return SK_OK;
}

uint32_t sk_io_pool_slot_count(const struct sk_io_pool *pool)
{
    return pool->slot_count;
}

uint32_t sk_io_pool_free_count(const struct sk_io_pool *pool)
{
    return pool->free_count;
}
