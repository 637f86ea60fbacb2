/* SPDX-License-Identifier: MIT */
/*
 * What a request costs with short and with long queues: it must be the same.
 * All disks are there at once and take turns, so that what else happens on the
 * machine happens to all of them; time is the thread's own processor time.
 */
#include "bench.h"
#include "disk.h"

#define SIZES    5u
#define RUNS     15u
#define REQUESTS 100000u
#define BATCH    16u /* fits the shortest queue */
#define GOAL     10.0

#define INDIRECT SK_VIRTIO_FEATURE(SK_VIRTIO_F_INDIRECT_DESC)
#define EVENT    SK_VIRTIO_FEATURE(SK_VIRTIO_F_EVENT_IDX)
#define PACKED   SK_VIRTIO_FEATURE(SK_VIRTIO_F_RING_PACKED)

static const uint32_t sizes[SIZES] = { 16, 128, 1024, 8192, 32768 };
static struct bench_disk disks[SIZES];
static struct bench_stream *streams[SIZES];

static double run(uint32_t i, uint32_t batch)
{
    double start = bench_thread_ns();

    bench_stream_run(streams[i], sk_block_get_queue(disks[i].block, 0), batch, REQUESTS / batch);
    return (bench_thread_ns() - start) / (REQUESTS / batch * batch);
}

static void measure(const char *name, uint32_t batch)
{
    double ns[SIZES][RUNS];
    double lowest = 1e9;
    double highest = 0;
    double off;

    for (uint32_t i = 0; i < SIZES; i++) {
        (void)run(i, batch);
    }
    for (uint32_t turn = 0; turn < RUNS; turn++) {
        for (uint32_t i = 0; i < SIZES; i++) {
            ns[i][turn] = run(i, batch);
        }
    }
    (void)printf("%-18s", name);
    for (uint32_t i = 0; i < SIZES; i++) {
        double median = bench_median(ns[i], RUNS);

        lowest = median < lowest ? median : lowest;
        highest = median > highest ? median : highest;
        (void)printf(" %8.1f", median);
    }
    off = 100 * (highest - lowest) / (highest + lowest);
    (void)printf(" %9.1f %%  %s\n", off, bench_verdict(off <= GOAL));
}

static void measure_rings(const char *one, const char *many, uint64_t features)
{
    for (uint32_t i = 0; i < SIZES; i++) {
        const struct bench_disk_config config = { .features = features,
                                                  .queue_size = sizes[i],
                                                  .segment_count = 16 };

        bench_disk_start(&disks[i], &config);
    }
    measure(one, 1);
    measure(many, BATCH);
    for (uint32_t i = 0; i < SIZES; i++) {
        bench_disk_stop(&disks[i]);
    }
}

int main(void)
{
    for (uint32_t i = 0; i < SIZES; i++) {
        bench_disk_open(&disks[i]);
        streams[i] = bench_stream_make(&disks[i]);
    }
    (void)printf("ns for a 4 KiB read, by the entries of the queue; medians of %u turns;\n"
                 "goal: none is farther than %.0f %% from the middle of the extremes\n\n%-18s",
                 RUNS, GOAL, "ring");
    for (uint32_t i = 0; i < SIZES; i++) {
        (void)printf(" %8u", sizes[i]);
    }
    (void)printf(" %11s\n", "off");
    measure_rings("split, batch 1", "split, batch 16", INDIRECT | EVENT);
    measure_rings("packed, batch 1", "packed, batch 16", INDIRECT | EVENT | PACKED);
    return 0;
}
