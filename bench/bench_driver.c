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
#include <string.h>

#include "bench.h"
#include "disk.h"

#define RUNS         15u
#define RUN_REQUESTS 400000u

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
     SK_VIRTIO_FEATURE(SK_VIRTIO_BLK_F_FLUSH))
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

static struct bench_disk disk;
static struct bench_stream *stream;

static void start(const struct mode *mode)
{
    const struct bench_disk_config config = { .features = (OFFERED & ~mode->without) | mode->with,
                                              .queue_size = mode->queue_size,
                                              .segment_count = mode->segment_count };

    bench_disk_start(&disk, &config);
}

static void run(uint32_t batch, uint64_t requests)
{
    bench_stream_run(stream, sk_block_get_queue(disk.block, 0), batch, requests / batch);
}

/* Nanoseconds for one request. */
static double median(uint32_t batch)
{
    double results[RUNS];

    run(batch, RUN_REQUESTS / 4);
    for (uint32_t i = 0; i < RUNS; i++) {
        double begin = bench_thread_ns();

        run(batch, RUN_REQUESTS);
        results[i] = (bench_thread_ns() - begin) / (RUN_REQUESTS / batch * batch);
    }
    return bench_median(results, RUNS);
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
        before = fast_device_notifications(&disk.device);
        run(16, 16000);
        printf("%-24s %10.1f %10.1f %10.1f %11.3f/rq\n", modes[i].name, one, many, most,
               (double)(fast_device_notifications(&disk.device) - before) / 16000.0);
        bench_disk_stop(&disk);
    }
}

static int run_plainly(const char *name, const char *batch, const char *requests)
{
    unsigned long size = strtoul(batch, NULL, 0);

    for (size_t i = 0; i < MODE_COUNT; i++) {
        if (strcmp(modes[i].name, name) == 0 && size >= 1 && size <= BENCH_BATCH_MAX) {
            start(&modes[i]);
            run((uint32_t)size, strtoull(requests, NULL, 0));
            bench_disk_stop(&disk);
            return 0;
        }
    }
    fprintf(stderr, "bench_driver: no mode '%s' with a batch of %s (1 to %u); modes:", name, batch,
            BENCH_BATCH_MAX);
    for (size_t i = 0; i < MODE_COUNT; i++) {
        fprintf(stderr, " %s", modes[i].name);
    }
    fprintf(stderr, "\n");
    return 2;
}

int main(int argc, char **argv)
{
    bench_disk_open(&disk);
    stream = bench_stream_make(&disk);
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
