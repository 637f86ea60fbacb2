/* SPDX-License-Identifier: MIT */
/*
 * skio beside Linux's ring, in one run and over the same device: 4 KiB reads
 * of three descriptors, completed at once.  skio's side is its whole driver
 * with every check; Linux's is virtio_ring.c with the requests of linux_ring.c
 * on top, and in the last row with the lock and the callback of its virtio_blk.
 *
 *   linux_race                                  a table of medians
 *   linux_race skio|Linux MODE BATCH REQUESTS   one plain run, for callgrind
 */
#include <string.h>

#include "bench.h"
#include "disk.h"
#include "linux_ring.h"

#define RUNS       15u
#define REQUESTS   200000u
#define QUEUE_SIZE 256u

#define INDIRECT SK_VIRTIO_FEATURE(SK_VIRTIO_F_INDIRECT_DESC)
#define EVENT    SK_VIRTIO_FEATURE(SK_VIRTIO_F_EVENT_IDX)
#define PACKED   SK_VIRTIO_FEATURE(SK_VIRTIO_F_RING_PACKED)
#define IN_ORDER SK_VIRTIO_FEATURE(SK_VIRTIO_F_IN_ORDER)

struct mode {
    const char *name;
    uint64_t features;
    bool interrupts;
};

static const struct mode modes[] = {
    { "split", 0, false },
    { "split-event", EVENT, false },
    { "split-indirect", INDIRECT, false },
    { "packed", PACKED, false },
    { "packed-indirect", PACKED | INDIRECT, false },
    { "as-virtio_blk", INDIRECT | EVENT, true },
    { "in-order", INDIRECT | EVENT | IN_ORDER, true }, /* where only skio takes it */
};

#define MODE_COUNT (sizeof(modes) / sizeof(modes[0]))

/* Linux's side: its ring, and a fast device that was told where it is. */
struct peer {
    struct fast_device device;
    struct linux_ring *ring;
};

static struct bench_disk disk;
static struct bench_stream *stream;
static struct peer peer;

static void write_register(uint64_t offset, uint32_t value)
{
    peer.device.mmio.ops->write(peer.device.mmio.context, offset, 4, value);
}

static void write_address(uint64_t offset, uint64_t address)
{
    write_register(offset, (uint32_t)address);
    write_register(offset + 4, (uint32_t)(address >> 32));
}

static void notify(void *context)
{
    (void)context;
    fast_device_notify(&peer.device, 0);
}

static void interrupt(void *context)
{
    (void)context;
    linux_ring_interrupt(peer.ring);
}

/* Addresses of the device are those of the process. */
static void start_peer(const struct mode *mode)
{
    static uint8_t origin[1];
    const struct fast_device_config device = {
        .features = mode->features,
        .memory = origin,
        .daddr = (uintptr_t)origin,
        .interrupt = mode->interrupts ? interrupt : NULL,
    };
    const struct linux_ring_config config = {
        .features = (mode->features & ~IN_ORDER) | SK_VIRTIO_FEATURE(SK_VIRTIO_F_VERSION_1),
        .queue_size = QUEUE_SIZE,
        .interrupts = mode->interrupts,
        .notify = notify,
    };
    struct linux_ring_addresses addresses;

    fast_device_init(&peer.device, &device);
    peer.ring = linux_ring_open(&config, &addresses);
    for (uint32_t half = 0; half < 2; half++) {
        write_register(0x024, half);
        write_register(0x020, (uint32_t)(config.features >> 32 * half));
    }
    write_register(0x070, 11); /* features are settled */
    write_register(0x030, 0);
    write_register(0x038, QUEUE_SIZE);
    write_address(0x080, addresses.descriptors);
    write_address(0x090, addresses.driver_area);
    write_address(0x0a0, addresses.device_area);
    write_register(0x044, 1);
}

static void start_skio(const struct mode *mode)
{
    const struct bench_disk_config config = {
        .features = mode->features,
        .queue_size = QUEUE_SIZE,
        .segment_count = (mode->features & INDIRECT) != 0 ? 16 : 1,
        .interrupts = mode->interrupts,
    };

    bench_disk_start(&disk, &config);
}

static void run_skio(uint32_t batch, uint64_t rounds)
{
    bench_stream_run(stream, sk_block_get_queue(disk.block, 0), batch, rounds);
}

static void run_linux(uint32_t batch, uint64_t rounds)
{
    linux_ring_run(peer.ring, batch, rounds);
}

static double time_ns(void (*run)(uint32_t batch, uint64_t rounds), uint32_t batch)
{
    double start = bench_thread_ns();

    run(batch, REQUESTS / batch);
    return (bench_thread_ns() - start) / (REQUESTS / batch * batch);
}

static void print_medians(uint32_t batch)
{
    double ours[RUNS];
    double theirs[RUNS];
    double ratios[RUNS];

    run_skio(batch, REQUESTS / batch / 4);
    run_linux(batch, REQUESTS / batch / 4);
    for (uint32_t i = 0; i < RUNS; i++) {
        ours[i] = time_ns(run_skio, batch);
        theirs[i] = time_ns(run_linux, batch);
        ratios[i] = theirs[i] / ours[i];
    }
    (void)printf("  %7.1f %7.1f %6.1fx", bench_median(ours, RUNS), bench_median(theirs, RUNS),
                 bench_median(ratios, RUNS));
}

static void print_table(void)
{
    (void)printf("ns for a request, the device included; medians of %u runs in turns\n\n", RUNS);
    (void)printf("%-18s  %-23s   %-23s\n", "", "batch of 1", "batch of 32");
    (void)printf("%-18s", "ring");
    for (int i = 0; i < 2; i++) {
        (void)printf("  %7s %7s %7s", "skio", "Linux", "ratio");
    }
    (void)printf("\n");
    for (size_t i = 0; i < MODE_COUNT; i++) {
        start_skio(&modes[i]);
        start_peer(&modes[i]);
        (void)printf("%-18s", modes[i].name);
        print_medians(1);
        print_medians(32);
        (void)printf("\n");
        bench_disk_stop(&disk);
    }
}

static int run_plainly(char **arguments)
{
    bool is_skio = strcmp(arguments[0], "skio") == 0;
    unsigned long batch = strtoul(arguments[2], NULL, 0);
    unsigned long requests = strtoul(arguments[3], NULL, 0);

    for (size_t i = 0; i < MODE_COUNT; i++) {
        if (strcmp(modes[i].name, arguments[1]) == 0 && batch >= 1 && batch <= BENCH_BATCH_MAX) {
            start_skio(&modes[i]);
            start_peer(&modes[i]);
            (is_skio ? run_skio : run_linux)((uint32_t)batch, requests / batch);
            return 0;
        }
    }
    return 2;
}

int main(int argc, char **argv)
{
    bench_disk_open(&disk);
    stream = bench_stream_make(&disk);
    if (argc == 5) {
        return run_plainly(argv + 1);
    }
    if (argc != 1) {
        (void)fprintf(stderr, "usage: linux_race [skio|Linux MODE BATCH REQUESTS]\n");
        return 2;
    }
    print_table();
    return 0;
}
