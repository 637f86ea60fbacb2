/* SPDX-License-Identifier: MIT */
/*
 * Comes before everything in a user-space build of Linux's virtio_ring.c with
 * the headers of its tools/virtio: what those lack, and what would be slower
 * there than in a kernel.
 */
#ifndef BENCH_PEERS_LINUX_PREFIX_H
#define BENCH_PEERS_LINUX_PREFIX_H

#define CONFIG_PHYS_ADDR_T_64BIT 1

/* Rings begin at pages, as in a kernel; the headers' own has malloc's alignment. */
#define alloc_pages_exact alloc_pages_exact_unaligned
#include <linux/kernel.h>
#undef alloc_pages_exact

static inline void *alloc_pages_exact(size_t bytes, gfp_t flags)
{
    (void)flags;
    return aligned_alloc(4096, bytes);
}

/* A constant in kernels of this machine; the headers' own is a call. */
#undef PAGE_SIZE
#define PAGE_SIZE 4096ul

/* For a race detector; without one it is the access itself. */
#define data_race(access) (access)

#endif
