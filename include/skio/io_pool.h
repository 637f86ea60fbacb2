/* SPDX-License-Identifier: MIT */
/*
 * Fixed-size slots out of one I/O buffer, in constant time.  The free list is
 * a stack of 32-bit indexes and a state byte for each slot, both in memory
 * that the device cannot reach; a second put is caught.  It does not grow and
 * it is not thread-safe: one owner, one buffer.
 *
 * Ownership: the buffer and the metadata memory are the caller's; the pool
 * holds the buffer, so that nobody can destroy it, from init to deinit.  The
 * buffer's handle must not be moved in between.
 * Calling: one caller at a time; get and put are O(1), never sleep, any context.
 * Trust: an index given to put may come from a device; it is checked.
 */
#ifndef SKIO_IO_POOL_H
#define SKIO_IO_POOL_H

#include <skio/io_buffer.h>

SK_BEGIN_DECLS

/* Most slots that one pool has. */
#define SK_IO_POOL_SLOTS_MAX (UINT32_C(1) << 28)

/* Everything in here is private; all zero is a pool without slots. */
struct sk_io_pool {
    struct sk_io_buffer *buffer;
    uint8_t *data;       /* first slot */
    sk_daddr address;    /* first slot, for the device */
    uint32_t *stack;     /* indexes of free slots */
    uint8_t *state;      /* one byte a slot */
    uint64_t slot_bytes; /* distance of two slots */
    uint32_t slot_count;
    uint32_t free_count;
    struct sk_log_limit refused_puts;
};

/* A slot that was handed out. */
struct sk_io_slot {
    void *data;       /* first byte for the CPU */
    sk_daddr address; /* and for the device */
    uint32_t index;   /* 0 to slot count - 1 */
};

/*
 * Returns how much metadata memory `slot_count` slots need, in bytes (5 each);
 * 0 for none and for more than SK_IO_POOL_SLOTS_MAX.
 */
size_t sk_io_pool_metadata_bytes(uint32_t slot_count);

/*
 * Cuts *buffer into slots, from its first byte on: as many as fit into its
 * size, as `metadata_bytes` can describe, and as SK_IO_POOL_SLOTS_MAX allows.
 * A slot is `slot_bytes` (at least 1) rounded up to `alignment`, a power of
 * two, and starts at a multiple of `alignment` for the CPU and the device.
 * `metadata` is aligned to 4 and lies outside of the buffer.
 *
 * SK_OK: the buffer is held, every slot is free, slot 0 goes out first.
 * SK_ERR_INVALID: pool, buffer or metadata is NULL, or the metadata lies in the buffer.
 * SK_ERR_SIZE: slot size 0 or beyond 2^64 when rounded, or not one slot fits.
 * SK_ERR_ALIGNMENT: alignment 0 or no power of two, the buffer starts at no
 * multiple of it, or the metadata is not aligned to 4.
 * SK_ERR_GONE, SK_ERR_MOVED: the buffer is not valid.
 * After any error the buffer is as before and *pool is all zero.  O(slots).
 */
SK_MUST_CHECK enum sk_status sk_io_pool_init(struct sk_io_pool *pool, struct sk_io_buffer *buffer,
                                             uint64_t slot_bytes, uint64_t alignment,
                                             void *metadata, size_t metadata_bytes);

/*
 * Lets the buffer and the metadata memory go.  SK_OK: *pool is all zero.
 * SK_ERR_BUSY (slots are out), SK_ERR_GONE (NULL, never initialised or ended
 * before), SK_ERR_MOVED (the buffer's handle was moved): nothing changed.
 */
SK_MUST_CHECK enum sk_status sk_io_pool_deinit(struct sk_io_pool *pool);

/*
 * Takes a slot, the one put last first: it is the warmest.  Its content is
 * whatever was there.  Neither argument may be NULL.
 * SK_OK; SK_ERR_NO_MEMORY (none is free, or *pool is all zero): nothing
 * changed, nothing logged.  O(1).
 */
SK_MUST_CHECK enum sk_status sk_io_pool_get(struct sk_io_pool *pool, struct sk_io_slot *out_slot);

/*
 * Puts a slot back by its index.  `pool` may not be NULL.
 * SK_OK; SK_ERR_GONE (the slot is not out: put before, or never got),
 * SK_ERR_RANGE (no such slot): logged with a limit, nothing changed.  O(1).
 */
SK_MUST_CHECK enum sk_status sk_io_pool_put(struct sk_io_pool *pool, uint32_t index);

/* How many slots there are, and how many of them are free now; 0 if *pool is all zero. */
uint32_t sk_io_pool_slot_count(const struct sk_io_pool *pool);
uint32_t sk_io_pool_free_count(const struct sk_io_pool *pool);

SK_END_DECLS

#endif
