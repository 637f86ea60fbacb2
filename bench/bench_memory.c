/* SPDX-License-Identifier: MIT */
/*
 * RAM: what the library asks its surroundings for.  It has no variables of its
 * own, so this is all of it.  The figures are those of any 64-bit CPU.
 */
#include <stdio.h>
#include <stdlib.h>

#include <skio/skio.h>

static void print_arena(uint64_t mebibytes)
{
    struct sk_dma_zone zone = { .cpu = (void *)(uintptr_t)4096,
                                .paddr = { 4096 },
                                .bytes = mebibytes << 20 };
    size_t bytes = sk_dma_arena_metadata_bytes(&zone, 1);

    printf("arena of %5llu MiB      %9zu bytes of metadata (%.2f %%)\n",
           (unsigned long long)mebibytes, bytes,
           100.0 * (double)bytes / (double)(mebibytes << 20));
}

static void print_disk(uint32_t queues, uint32_t size, uint32_t segments)
{
    struct sk_virtio_blk_options options = SK_VIRTIO_BLK_OPTIONS_DEFAULT;
    struct sk_driver driver = sk_virtio_blk_mmio_driver;
    struct sk_device_node node = { .name = "disk" };
    struct sk_driver_needs needs;

    options.queue_count = queues;
    options.queue_size = size;
    options.segment_count = segments;
    driver.options = &options;
    if (driver.needs(&driver, &node, &needs) != SK_OK) {
        fprintf(stderr, "bench_memory: the driver refuses its options\n");
        exit(1);
    }
    printf("disk, %2u x %5u, %3u segments  %9llu bytes of I/O buffer, %8zu private\n", queues, size,
           segments, (unsigned long long)needs.dma.size_bytes, needs.private_bytes);
}

int main(void)
{
    printf("RAM that the library asks for; it has no variables of its own\n\n");
    print_arena(16);
    print_arena(128);
    print_arena(1024);
    print_arena(16384);
    printf("\ndisk, queues x entries, segments of a request\n");
    print_disk(1, 4, 1);
    print_disk(1, 16, 4);
    print_disk(1, 128, 16);
    print_disk(1, 1024, 16);
    print_disk(4, 128, 16);
    print_disk(1, 32768, 254);
    printf("\nI/O buffer handle %zu, domain %zu, arena %zu, device node %zu, pool %zu + 5 a slot\n",
           sizeof(struct sk_io_buffer), sizeof(struct sk_dma_domain), sizeof(struct sk_dma_arena),
           sizeof(struct sk_device_node), sizeof(struct sk_io_pool));
    return 0;
}
