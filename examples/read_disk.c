/* SPDX-License-Identifier: MIT */
#include "read_disk.h"

/* [read_disk] */
#include <skio/skio.h>

#define TRY(call) if ((status = (call)) != SK_OK) return status

enum sk_status read_first_sector(const struct sk_platform *platform, const struct sk_dma_zone *zone,
                                 const struct sk_dma_window *window, sk_paddr registers,
                                 void *out_sector)
{
    static _Alignas(64) uint8_t metadata[64 * 1024], driver_memory[8 * 1024]; /* zero */
    const struct sk_driver *driver = &sk_virtio_blk_mmio_driver;
    struct sk_dma_arena arena;   /* memory for devices: pages of `zone` */
    struct sk_dma_domain domain; /* what this device reaches of it, and at which address */
    struct sk_dma_domain_config reach = { .platform = platform, .arena = &arena, .coherent = true,
                                          .windows = window, .window_count = 1 };
    SK_IO_BUFFER_SCOPED struct sk_io_buffer buffer = SK_IO_BUFFER_EMPTY;
    struct sk_device_range range = { registers, 0x200 };
    struct sk_device_node node = { .name = "disk", .platform = platform, .domain = &domain,
                                   .ranges = &range, .range_count = 1, .dma_buffer = &buffer,
                                   .driver_memory = driver_memory,
                                   .driver_memory_bytes = sizeof(driver_memory) };
    struct sk_driver_needs needs;
    enum sk_status status, removed;

    TRY(sk_dma_arena_init(&arena, zone, 1, metadata, sizeof(metadata), platform->log));
    TRY(sk_dma_domain_init(&domain, &reach));
    TRY(driver->needs(driver, &node, &needs));
    TRY(sk_io_buffer_create_constrained(&buffer, &domain, &needs.dma));
    TRY(driver->probe(driver, &node)); /* finds its memory in the node; cannot allocate */
    status = sk_block_read(sk_block_get_queue(sk_block_of_node(&node), 0), 0, out_sector,
                           SK_BLOCK_SECTOR_BYTES, UINT64_C(1000000000));
    removed = driver->remove(driver, &node); /* reset, wait, complete; then the buffer is free */
    return status != SK_OK ? status : removed;
}
/* [end] */
