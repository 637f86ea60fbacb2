/* SPDX-License-Identifier: MIT */
/*
 * The whole way of a 4 KiB read through the driver on this machine: submit
 * (header, one data segment, status), notify, complete in the device, poll,
 * callback.  One thread; the device is in the process, completes at once and
 * touches no data; every check of the driver is on.
 *
 *   bench_driver                         a table of medians
 *   bench_driver MODE BATCH REQUESTS     one plain run, for callgrind
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <skio/skio.h>

#include "fake/fast_device.h"

#define REGISTERS     UINT64_C(0x10001000)
#define PADDR         UINT64_C(0x80000000)
#define DEVICE_OFFSET UINT64_C(0x4000000000)
#define MEMORY_BYTES  (UINT64_C(64) << 20)
#define BATCH_MAX     128u
#define RUNS          15u
#define RUN_REQUESTS  400000u

struct mode {
    const char *name;
    uint64_t without; /* features that are not offered */
    uint64_t with;    /* and those that are, besides */
    uint32_t segment_count;
    uint32_t queue_size;
};

#define NO_INDIRECT SK_VIRTIO_FEATURE(SK_VIRTIO_F_INDIRECT_DESC)
#define NO_EVENT    SK_VIRTIO_FEATURE(SK_VIRTIO_F_EVENT_IDX)

#define OFFERED                                                                               \
    (SK_VIRTIO_FEATURE(SK_VIRTIO_F_INDIRECT_DESC) | SK_VIRTIO_FEATURE(SK_VIRTIO_F_EVENT_IDX) | \
     SK_VIRTIO_FEATURE(SK_VIRTIO_BLK_F_SEG_MAX) | SK_VIRTIO_FEATURE(SK_VIRTIO_BLK_F_FLUSH))
#define PACKED      SK_VIRTIO_FEATURE(SK_VIRTIO_F_RING_PACKED)
#define IN_ORDER    SK_VIRTIO_FEATURE(SK_VIRTIO_F_IN_ORDER)

static const struct mode modes[] = {
    { "direct", NO_INDIRECT | NO_EVENT, 0, 1, 256 },
    { "direct-event", NO_INDIRECT, 0, 1, 256 },
    { "indirect", NO_EVENT, 0, 16, 256 },
    { "indirect-event", 0, 0, 16, 256 },
    { "packed", NO_INDIRECT, PACKED, 1, 256 },
    { "packed-indirect", 0, PACKED, 16, 256 },
    { "packed-odd", 0, PACKED, 16, 251 },
    { "in-order", 0, IN_ORDER, 16, 256 },
    { "packed-in-order", NO_INDIRECT, PACKED | IN_ORDER, 1, 256 },
    { "packed-in-order-indirect", 0, PACKED | IN_ORDER, 16, 256 },
    { "queue-16", 0, 0, 16, 16 },
    { "queue-1024", 0, 0, 16, 1024 },
    { "queue-32768", 0, 0, 16, 32768 },
};

#define MODE_COUNT (sizeof(modes) / sizeof(modes[0]))

struct bench {
    struct sk_platform platform;
    struct sk_log log;
    struct fast_device device;
    uint8_t *memory;
    void *metadata;
    void *driver_memory;
    struct sk_dma_zone zone;
    struct sk_dma_arena arena;
    struct sk_dma_window window;
    struct sk_dma_domain domain;
    struct sk_io_buffer rings;
    struct sk_io_buffer data;
    struct sk_device_node node;
    struct sk_device_range range;
    struct sk_virtio_blk_options options;
    struct sk_driver driver;
    struct sk_block_queue *queue;
    struct sk_block_request requests[BATCH_MAX];
    struct sk_dma_segment segments[BATCH_MAX];
    struct sk_block_request *batch[BATCH_MAX];
};

static struct bench bench;
static uint64_t completed;

static void must(enum sk_status status, const char *what)
{
    if (status != SK_OK) {
        fprintf(stderr, "bench_driver: %s: %s\n", what, sk_status_text(status));
        exit(1);
    }
}

static void write_log(void *context, enum sk_log_level level, const char *line)
{
    (void)context;
    fprintf(stderr, "%s: %s\n", sk_log_level_name(level), line);
}

static uint64_t now_ns(void *context)
{
    struct timespec time;

    (void)context;
    (void)clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static enum sk_status map_mmio(void *context, sk_paddr base, uint64_t bytes,
                               struct sk_mmio *out_mmio)
{
    (void)context;
    (void)base;
    (void)bytes;
    *out_mmio = bench.device.mmio;
    return SK_OK;
}

static void make_memory(void)
{
    struct sk_dma_domain_config config = { .platform = &bench.platform,
                                           .arena = &bench.arena,
                                           .windows = &bench.window,
                                           .window_count = 1,
                                           .coherent = true };
    size_t bytes;

    bench.memory = aligned_alloc(SK_DMA_PAGE_BYTES, MEMORY_BYTES);
    bench.zone = (struct sk_dma_zone){ bench.memory, { PADDR }, MEMORY_BYTES, 0 };
    bench.window = (struct sk_dma_window){ { PADDR }, { PADDR + DEVICE_OFFSET }, MEMORY_BYTES };
    bytes = sk_dma_arena_metadata_bytes(&bench.zone, 1);
    bench.metadata = aligned_alloc(64, (bytes + 63) / 64 * 64);
    must(sk_dma_arena_init(&bench.arena, &bench.zone, 1, bench.metadata, bytes, &bench.log),
         "arena");
    must(sk_dma_domain_init(&bench.domain, &config), "domain");
    must(sk_io_buffer_create(&bench.data, &bench.domain, BATCH_MAX * 4096u, 4096), "data");
}

static void make_device(const struct mode *mode)
{
    struct fast_device_config config = {
        .features = (OFFERED & ~mode->without) | mode->with,
        .capacity_sectors = UINT64_C(1) << 24,
        .queue_size_max = 32768,
        .seg_max = 254,
        .memory = bench.memory,
        .daddr = PADDR + DEVICE_OFFSET,
        .bytes = MEMORY_BYTES,
    };

    fast_device_init(&bench.device, &config);
}

static void start(const struct mode *mode)
{
    struct sk_virtio_blk_options options = SK_VIRTIO_BLK_OPTIONS_DEFAULT;
    struct sk_driver_needs needs;

    make_device(mode);
    bench.options = options;
    bench.options.queue_size = mode->queue_size;
    bench.options.segment_count = mode->segment_count;
    bench.driver = sk_virtio_blk_mmio_driver;
    bench.driver.options = &bench.options;
    bench.range = (struct sk_device_range){ { REGISTERS }, bench.device.mmio.bytes };
    bench.node = (struct sk_device_node){ .name = "bench",
                                          .platform = &bench.platform,
                                          .ranges = &bench.range,
                                          .range_count = 1,
                                          .domain = &bench.domain,
                                          .dma_buffer = &bench.rings };
    must(bench.driver.needs(&bench.driver, &bench.node, &needs), "needs");
    must(sk_io_buffer_create_constrained(&bench.rings, &bench.domain, &needs.dma), "rings");
    bench.driver_memory = aligned_alloc(64, (needs.private_bytes + 63) / 64 * 64);
    memset(bench.driver_memory, 0, needs.private_bytes);
    bench.node.driver_memory = bench.driver_memory;
    bench.node.driver_memory_bytes = needs.private_bytes;
    must(bench.driver.probe(&bench.driver, &bench.node), "probe");
    bench.queue = sk_block_get_queue(sk_block_of_node(&bench.node), 0);
}

static void stop(void)
{
    must(bench.driver.remove(&bench.driver, &bench.node), "remove");
    must(sk_io_buffer_destroy(&bench.rings), "destroy");
    free(bench.driver_memory);
}

static void count(struct sk_block_request *request)
{
    must(request->status, "request");
    completed++;
}

static void prepare(void)
{
    for (uint32_t i = 0; i < BATCH_MAX; i++) {
        must(sk_io_buffer_segment(&bench.data, i * UINT64_C(4096), 4096, &bench.segments[i]),
             "segment");
        bench.requests[i] = (struct sk_block_request){ .operation = SK_BLOCK_READ,
                                                       .segment_count = 1,
                                                       .sector = i * 8,
                                                       .segments = &bench.segments[i],
                                                       .complete = count };
        bench.batch[i] = &bench.requests[i];
    }
}

/* Runs whole batches; nanoseconds for one request. */
static double run(uint32_t batch, uint64_t requests)
{
    struct sk_block_queue *queue = bench.queue;
    struct sk_block_request *end = bench.requests + batch;
    uint64_t rounds = requests / batch;
    uint64_t sector = 1;
    uint64_t begin = now_ns(NULL);

    for (uint64_t left = rounds; left > 0; left--) {
        for (struct sk_block_request *request = bench.requests; request != end; request++) {
            sector = sector * 1664525u + 1013904223u;
            request->sector = sector & 0xfffff8;
        }
        completed = 0;
        sk_block_submit(queue, bench.batch, batch);
        do {
            must(sk_block_poll(queue, 0, NULL), "poll");
        } while (completed < batch);
    }
    return (double)(now_ns(NULL) - begin) / (double)(rounds * batch);
}

static int compare(const void *left, const void *right)
{
    double a = *(const double *)left;
    double b = *(const double *)right;

    return (a > b) - (a < b);
}

static double median(uint32_t batch)
{
    double results[RUNS];

    (void)run(batch, RUN_REQUESTS / 4);
    for (uint32_t i = 0; i < RUNS; i++) {
        results[i] = run(batch, RUN_REQUESTS);
    }
    qsort(results, RUNS, sizeof(results[0]), compare);
    return results[RUNS / 2];
}

static void print_table(void)
{
    printf("nanoseconds for a 4 KiB read, the in-process device included; medians of %u runs\n\n",
           RUNS);
    printf("%-24s %10s %10s %10s %14s\n", "ring", "batch 1", "batch 32", "batch 128",
           "notifications");
    for (size_t i = 0; i < MODE_COUNT; i++) {
        double one;
        double many;
        double most;
        uint64_t before;

        start(&modes[i]);
        one = median(1);
        many = median(modes[i].queue_size < 32 ? modes[i].queue_size : 32);
        most = median(modes[i].queue_size < 128 ? modes[i].queue_size : 128);
        before = fast_device_notifications(&bench.device);
        (void)run(16, 16000);
        printf("%-24s %10.1f %10.1f %10.1f %11.3f/rq\n", modes[i].name, one, many, most,
               (double)(fast_device_notifications(&bench.device) - before) / 16000.0);
        stop();
    }
}

static int run_plainly(const char *name, const char *batch, const char *requests)
{
    unsigned long size = strtoul(batch, NULL, 0);

    for (size_t i = 0; i < MODE_COUNT; i++) {
        if (strcmp(modes[i].name, name) == 0 && size >= 1 && size <= BATCH_MAX) {
            start(&modes[i]);
            (void)run((uint32_t)size, strtoull(requests, NULL, 0));
            stop();
            return 0;
        }
    }
    fprintf(stderr, "bench_driver: no mode '%s' with a batch of %s (1 to %u); modes:", name, batch,
            BATCH_MAX);
    for (size_t i = 0; i < MODE_COUNT; i++) {
        fprintf(stderr, " %s", modes[i].name);
    }
    fprintf(stderr, "\n");
    return 2;
}

int main(int argc, char **argv)
{
    bench.log = (struct sk_log){ .write = write_log, .level = SK_LOG_WARNING };
    bench.platform = (struct sk_platform){ .log = &bench.log,
                                           .now_ns = now_ns,
                                           .map_mmio = map_mmio };
    make_memory();
    prepare();
    if (argc == 4) {
        return run_plainly(argv[1], argv[2], argv[3]);
    }
    if (argc != 1) {
        fprintf(stderr, "usage: bench_driver [MODE BATCH REQUESTS]\n");
        return 2;
    }
    print_table();
    return 0;
}
