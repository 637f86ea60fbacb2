/* SPDX-License-Identifier: MIT */
/*
 * The machine's memory: what the device tree says there is, less what it says
 * is reserved, the kernel and the tree itself; and the arena over the rest.
 * Trust: the device tree.
 */
#ifndef KERNEL_MEMORY_H
#define KERNEL_MEMORY_H

#include <skio/dma_arena.h>
#include <skio/fdt.h>

/*
 * The arena over all free memory.  Hart 0 only, and what takes from it too: the
 * allocator below, I/O buffers, mappings, synchronous calls.  Other harts are
 * given their memory with their work.
 */
extern struct sk_dma_arena memory_arena;

/*
 * Reads the ranges, makes the final address space and the arena.  `tree` is
 * where the blob lies; it stays readable.  SK_ERR_MALFORMED (the kernel does
 * not lie in memory), SK_ERR_RANGE (too many ranges), SK_ERR_NO_MEMORY.
 */
enum sk_status memory_init(const struct sk_fdt *fdt, const struct sk_device_range *tree);

/* All memory that the tree describes; bytes. */
uint64_t memory_total(void);

/* True if a byte of the range is memory: no device may be there. */
bool memory_overlaps(uint64_t base, uint64_t bytes);

/* The kernel's allocator: whole pages of the arena.  NULL: none, or bad arguments. */
void *aligned_alloc(size_t alignment, size_t size);
/* `memory` is what aligned_alloc returned, or NULL. */
void aligned_free(void *memory);

#endif
