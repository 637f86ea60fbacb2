/* SPDX-License-Identifier: MIT */
/*
 * Fixed-size slots out of one I/O buffer, in constant time.  The free list is
 * a stack of 32-bit indexes and a state byte for each slot, both in memory
 * that the device cannot reach; a second put is caught.  Not thread-safe and
 * not growing: one owner, one buffer.
 *
 * Ownership: the buffer and the metadata memory are the caller's; the pool
 * holds the buffer (it cannot be destroyed) from init to deinit.
 * Calling: one caller at a time; get and put are O(1), never sleep, any context.
 */
#ifndef SKIO_IO_POOL_H
#define SKIO_IO_POOL_H

#include <skio/io_buffer.h>

SK_BEGIN_DECLS

/* Everything in here is private. */
struct sk_io_pool {
    struct sk_io_buffer *buffer;
    uint8_t *data;        /* first slot */
    sk_daddr address;     /* first slot, for the device */
    uint32_t *stack;      /* indexes of free slots */
    uint8_t *state;       /* one byte a slot */
    uint64_t slot_bytes;  /* distance of two slots */
    uint32_t slot_count;
    uint32_t free_count;
    uint64_t double_puts; /* refused */
};

/* A slot that was handed out. */
struct sk_io_slot {
    void *data;       /* first byte for the CPU */
    sk_daddr address; /* and for the device */
    uint32_t index;   /* 0 to slot count - 1 */
};

/* Bytes of metadata memory for `slot_count` slots (aligned to 4); 0 if too many. */
size_t sk_io_pool_metadata_bytes(uint32_t slot_count);

/*
 * Cuts *buffer into as many slots of `slot_bytes` (rounded up to `alignment`,
 * a power of two) as fit in its size and as `metadata_bytes` can describe.
 * SK_OK; SK_ERR_SIZE (slot size 0, or not one slot fits), SK_ERR_ALIGNMENT,
 * SK_ERR_INVALID, SK_ERR_GONE, SK_ERR_MOVED: *pool is all zero then.
 */
SK_MUST_CHECK enum sk_status sk_io_pool_init(struct sk_io_pool *pool, struct sk_io_buffer *buffer,
                                             uint64_t slot_bytes, uint64_t alignment,
                                             void *metadata, size_t metadata_bytes);

/* Lets the buffer go.  SK_OK; SK_ERR_BUSY (slots are out: nothing changed); SK_ERR_GONE. */
SK_MUST_CHECK enum sk_status sk_io_pool_deinit(struct sk_io_pool *pool);

/* Takes a slot, the one put last first; not zeroed.  SK_OK; SK_ERR_NO_MEMORY (none is free). */
SK_MUST_CHECK enum sk_status sk_io_pool_get(struct sk_io_pool *pool, struct sk_io_slot *out_slot);

/* Puts a slot back by its index.  SK_OK; SK_ERR_GONE (not out: nothing changed), SK_ERR_RANGE. */
SK_MUST_CHECK enum sk_status sk_io_pool_put(struct sk_io_pool *pool, uint32_t index);

/* How many slots there are, and how many are free now. */
uint32_t sk_io_pool_slot_count(const struct sk_io_pool *pool);
uint32_t sk_io_pool_free_count(const struct sk_io_pool *pool);

SK_END_DECLS

#endif
