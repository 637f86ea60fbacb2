/* SPDX-License-Identifier: MIT */
/* The example of README.md: one sector of one disk, without a device manager. */
#ifndef EXAMPLES_READ_DISK_H
#define EXAMPLES_READ_DISK_H

#include <skio/skio.h>

/*
 * Reads sector 0 of the virtio disk whose registers are at `registers` into
 * `out_sector` (SK_BLOCK_SECTOR_BYTES).  `zone` is memory to give to the device,
 * at least 64 pages; `window` says where the device sees physical memory.
 * Once: drivers want zeroed memory, and this example keeps its own static.
 */
enum sk_status read_first_sector(const struct sk_platform *platform,
                                 const struct sk_dma_zone *zone,
                                 const struct sk_dma_window *window, sk_paddr registers,
                                 void *out_sector);

#endif
