/* SPDX-License-Identifier: MIT */
#include "disk.h"

#include <string.h>

#include "bench.h"

#define REGISTERS     UINT64_C(0x10001000) /* for log lines */
#define PADDR         UINT64_C(0x80000000)
#define DEVICE_OFFSET UINT64_C(0x4000000000)
#define MEMORY_BYTES  (UINT64_C(64) << 20)
#define SECTOR_COUNT  (UINT64_C(1) << 24)
#define READ_BYTES    4096u

static void must(enum sk_status status, const char *what)
{
    if (status != SK_OK) {
        (void)fprintf(stderr, "bench: %s: %s\n", what, sk_status_text(status));
        exit(1);
    }
}

static void write_log(void *context, enum sk_log_level level, const char *line)
{
    (void)context;
    (void)fprintf(stderr, "%s: %s\n", sk_log_level_name(level), line);
}

static uint64_t now_ns(void *context)
{
    struct timespec time;

    (void)context;
    (void)clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static enum sk_status attach_interrupt(void *context, const struct sk_interrupt *interrupt,
                                       void (*handler)(void *argument), void *argument)
{
    struct bench_disk *disk = context;

    (void)interrupt;
    disk->handler = handler;
    disk->handler_argument = argument;
    return SK_OK;
}

static void detach_interrupt(void *context, const struct sk_interrupt *interrupt)
{
    struct bench_disk *disk = context;

    (void)interrupt;
    disk->handler = NULL;
}

/* The device raises its line. */
static void interrupt(void *context)
{
    const struct bench_disk *disk = context;

    if (disk->handler != NULL) {
        disk->handler(disk->handler_argument);
    }
}

void bench_disk_open(struct bench_disk *disk)
{
    const struct sk_dma_domain_config config = { .platform = &disk->platform,
                                                 .arena = &disk->arena,
                                                 .windows = &disk->window,
                                                 .window_count = 1,
                                                 .coherent = true };
    size_t bytes;

    memset(disk, 0, sizeof(*disk));
    disk->log = (struct sk_log){ .write = write_log, .level = SK_LOG_WARNING };
    disk->platform = (struct sk_platform){ .context = disk,
                                           .log = &disk->log,
                                           .now_ns = now_ns,
                                           .attach_interrupt = attach_interrupt,
                                           .detach_interrupt = detach_interrupt };
    disk->memory = bench_memory(MEMORY_BYTES);
    disk->zone = (struct sk_dma_zone){ disk->memory, { PADDR }, MEMORY_BYTES, 0 };
    disk->window = (struct sk_dma_window){ { PADDR }, { PADDR + DEVICE_OFFSET }, MEMORY_BYTES };
    bytes = sk_dma_arena_metadata_bytes(&disk->zone, 1);
    must(sk_dma_arena_init(&disk->arena, &disk->zone, 1, bench_memory(bytes), bytes, &disk->log),
         "arena");
    must(sk_dma_domain_init(&disk->domain, &config), "domain");
}

static void make_device(struct bench_disk *disk, const struct bench_disk_config *config)
{
    const struct fast_device_config device = {
        .features = config->features | SK_VIRTIO_FEATURE(SK_VIRTIO_BLK_F_SEG_MAX) |
                    SK_VIRTIO_FEATURE(SK_VIRTIO_BLK_F_MQ),
        .capacity_sectors = SECTOR_COUNT,
        .queue_count = config->queue_count,
        .queue_size_max = 32768,
        .seg_max = 254,
        .memory = disk->memory,
        .daddr = PADDR + DEVICE_OFFSET,
        .bytes = MEMORY_BYTES,
        .interrupt = config->interrupts ? interrupt : NULL,
        .interrupt_context = disk,
    };

    fast_device_init(&disk->device, &device);
}

static void notify(struct sk_virtio_transport *transport, uint32_t data)
{
    struct bench_disk *disk = SK_CONTAINER_OF(transport, struct bench_disk, transport.transport);

    fast_device_notify(&disk->device, data);
}

static void open_transport(struct bench_disk *disk)
{
    must(sk_virtio_mmio_open(&disk->transport, &disk->platform, &disk->device.mmio, REGISTERS),
         "transport");
    disk->transport_ops = *disk->transport.transport.ops;
    disk->transport_ops.notify = notify;
    disk->transport.transport.ops = &disk->transport_ops;
}

static void inject(struct bench_disk *disk)
{
    struct sk_driver_needs needs;

    must(disk->driver.needs(&disk->driver, &disk->node, &needs), "needs");
    must(sk_io_buffer_create_constrained(&disk->rings, &disk->domain, &needs.dma), "rings");
    disk->node.driver_memory = bench_memory(needs.private_bytes);
    disk->node.driver_memory_bytes = needs.private_bytes;
    memset(disk->node.driver_memory, 0, needs.private_bytes);
}

void bench_disk_start(struct bench_disk *disk, const struct bench_disk_config *config)
{
    const struct sk_virtio_blk_options options = SK_VIRTIO_BLK_OPTIONS_DEFAULT;

    make_device(disk, config);
    open_transport(disk);
    disk->options = options;
    disk->options.queue_count = config->queue_count == 0 ? 1 : config->queue_count;
    disk->options.queue_size = config->queue_size;
    disk->options.segment_count = config->segment_count;
    disk->driver = sk_virtio_blk_driver;
    disk->driver.options = &disk->options;
    disk->node = (struct sk_device_node){ .name = "bench",
                                          .platform = &disk->platform,
                                          .identity = { .bus = SK_DEVICE_BUS_VIRTIO,
                                                        .device = SK_VIRTIO_DEVICE_BLOCK },
                                          .transport = &disk->transport.transport,
                                          .interrupts = &disk->line,
                                          .interrupt_count = config->interrupts ? 1 : 0,
                                          .domain = &disk->domain,
                                          .dma_buffer = &disk->rings };
    inject(disk);
    must(disk->driver.probe(&disk->driver, &disk->node), "probe");
    disk->block = sk_block_of_node(&disk->node);
}

void bench_disk_stop(struct bench_disk *disk)
{
    must(disk->driver.remove(&disk->driver, &disk->node), "remove");
    must(sk_io_buffer_destroy(&disk->rings), "destroy");
    free(disk->node.driver_memory);
}

static void check(struct sk_block_request *request)
{
    must(request->status, "request");
}

static void check_and_count(struct sk_block_request *request)
{
    const struct bench_stream *stream = request->context;

    check(request);
    (void)__atomic_fetch_add(stream->counter, 1, __ATOMIC_RELAXED);
}

void bench_stream_count(struct bench_stream *stream, uint64_t *counter)
{
    stream->counter = counter;
    for (uint32_t i = 0; i < BENCH_BATCH_MAX; i++) {
        stream->requests[i].complete = counter != NULL ? check_and_count : check;
    }
}

struct bench_stream *bench_stream_make(struct bench_disk *disk)
{
    struct bench_stream *stream = bench_memory(sizeof(*stream));

    memset(stream, 0, sizeof(*stream));
    stream->disk = disk;
    stream->random = 1;
    must(sk_io_buffer_create(&stream->data, &disk->domain, BENCH_BATCH_MAX * READ_BYTES,
                             READ_BYTES),
         "data");
    for (uint32_t i = 0; i < BENCH_BATCH_MAX; i++) {
        must(sk_io_buffer_segment(&stream->data, i * UINT64_C(4096), READ_BYTES,
                                  &stream->segments[i]),
             "segment");
        stream->requests[i] = (struct sk_block_request){ .operation = SK_BLOCK_READ,
                                                         .segment_count = 1,
                                                         .segments = &stream->segments[i],
                                                         .complete = check,
                                                         .context = stream };
        stream->batch[i] = &stream->requests[i];
    }
    return stream;
}

void bench_stream_run(struct bench_stream *stream, struct sk_block_queue *queue, uint32_t batch,
                      uint64_t rounds)
{
    struct sk_block_request *end = stream->requests + batch;
    bool waits = stream->disk->node.interrupt_count != 0;
    uint64_t random = stream->random;

    for (; rounds > 0; rounds--) {
        for (struct sk_block_request *request = stream->requests; request != end; request++) {
            random = random * 1664525u + 1013904223u;
            request->sector = random % SECTOR_COUNT & ~UINT64_C(7);
        }
        sk_block_submit(queue, stream->batch, batch);
        for (uint32_t left = batch; left > 0;) {
            uint32_t completed;

            if (waits) {
                must(sk_block_wait(queue, UINT64_MAX), "wait");
            }
            must(sk_block_poll(queue, 0, &completed), "poll");
            left -= completed;
        }
    }
    stream->random = random;
}
