/* SPDX-License-Identifier: MIT */
/*
 * Two queues on two cores: what both do together, as a multiple of one.  Each
 * has its own thread, pinned to a core, its own requests, and its own half of
 * the device, which works inside of the notification.
 *
 * A round is the first core alone, the second alone, and both; the multiple is
 * both over the mean of the two.  Time is each thread's own processor time, so
 * that other programs do not count, and a thread that is done keeps its traffic
 * up until the other is.  Two rows are controls: arithmetic shares nothing, so
 * it tells what the machine gives; a line shared on purpose shows that this
 * program sees one.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "bench.h"
#include "disk.h"

#define CORES    2u
#define ROUNDS   31u   /* at the most */
#define ENOUGH   7u    /* of them, once SECONDS have passed: on a busy machine they take long */
#define SECONDS  8.0
#define REQUESTS 400000u
#define CHUNK    1024u /* requests */
#define GOAL     1.9

struct worker;

struct row {
    const char *name;
    uint64_t features;
    uint32_t batch; /* 0: arithmetic */
    bool shares_line;
    bool has_goal;
};

struct worker {
    _Alignas(128) const struct row *row;
    size_t core;
    struct bench_stream *stream;
    struct sk_block_queue *queue;
    uint64_t arithmetic;
    double ns; /* for one request */
};

#define INDIRECT SK_VIRTIO_FEATURE(SK_VIRTIO_F_INDIRECT_DESC)
#define EVENT    SK_VIRTIO_FEATURE(SK_VIRTIO_F_EVENT_IDX)
#define PACKED   SK_VIRTIO_FEATURE(SK_VIRTIO_F_RING_PACKED)

static const struct row rows[] = {
    { "split, batch 1", INDIRECT | EVENT, 1, false, true },
    { "split, batch 32", INDIRECT | EVENT, 32, false, true },
    { "packed, batch 1", INDIRECT | EVENT | PACKED, 1, false, true },
    { "packed, batch 32", INDIRECT | EVENT | PACKED, 32, false, true },
    { "control: arithmetic", INDIRECT, 0, false, false },
    { "control: one shared line", INDIRECT | EVENT, 32, true, false },
};

static struct bench_disk disk;
static struct worker workers[CORES];
static _Alignas(128) uint64_t shared_line[CORES];
static _Alignas(128) atomic_uint waiting;
static _Alignas(128) atomic_uint running;

static void pin(size_t core)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET(core, &set);
    (void)sched_setaffinity(0, sizeof(set), &set);
}

/* The first cores that this process may use; false if there are fewer than CORES. */
static bool find_cores(void)
{
    cpu_set_t set;
    uint32_t found = 0;

    if (sched_getaffinity(0, sizeof(set), &set) != 0) {
        return false;
    }
    for (size_t core = 0; core < CPU_SETSIZE && found < CORES; core++) {
        if (CPU_ISSET(core, &set)) {
            workers[found++].core = core;
        }
    }
    return found == CORES;
}

static void run_chunk(struct worker *worker)
{
    if (worker->row->batch != 0) {
        bench_stream_run(worker->stream, worker->queue, worker->row->batch,
                         CHUNK / worker->row->batch);
        return;
    }
    for (uint32_t i = 0; i < CHUNK * 4; i++) {
        (void)bench_random(&worker->arithmetic);
    }
}

static void *work(void *argument)
{
    struct worker *worker = argument;
    double start;

    pin(worker->core);
    for (uint32_t i = 0; i < REQUESTS / CHUNK / 8; i++) {
        run_chunk(worker);
    }
    atomic_fetch_sub(&waiting, 1);
    while (atomic_load(&waiting) != 0) {
    }
    start = bench_thread_ns();
    for (uint32_t i = 0; i < REQUESTS / CHUNK; i++) {
        run_chunk(worker);
    }
    worker->ns = (bench_thread_ns() - start) / (REQUESTS / CHUNK * CHUNK);
    atomic_fetch_sub(&running, 1);
    while (atomic_load(&running) != 0) {
        run_chunk(worker);
    }
    return NULL;
}

/* Lets `count` workers from `first` on work at the same time; requests for each ns, all together. */
static double rate(uint32_t first, uint32_t count)
{
    pthread_t threads[CORES];
    double sum = 0;

    atomic_store(&waiting, count);
    atomic_store(&running, count);
    for (uint32_t i = first; i < first + count; i++) {
        if (pthread_create(&threads[i], NULL, work, &workers[i]) != 0) {
            (void)fprintf(stderr, "bench_scale: no thread\n");
            exit(2);
        }
    }
    for (uint32_t i = first; i < first + count; i++) {
        (void)pthread_join(threads[i], NULL);
        sum += 1 / workers[i].ns;
    }
    return sum;
}

static void prepare(const struct row *row)
{
    const struct bench_disk_config config = { .features = row->features,
                                              .queue_count = CORES,
                                              .queue_size = 128,
                                              .segment_count = 16 };

    bench_disk_start(&disk, &config);
    for (uint32_t i = 0; i < CORES; i++) {
        workers[i].row = row;
        workers[i].queue = sk_block_get_queue(disk.block, i);
        bench_stream_count(workers[i].stream, row->shares_line ? &shared_line[i] : NULL);
        if (workers[i].queue == NULL) {
            (void)fprintf(stderr, "bench_scale: the disk has no queue %u\n", i);
            exit(2);
        }
    }
}

static void measure(const struct row *row)
{
    double one[ROUNDS];
    double both[ROUNDS];
    double times[ROUNDS];
    const char *verdict = "";
    double middle;
    double start = bench_now_ns();
    uint32_t rounds = 0;

    prepare(row);
    while (rounds < ROUNDS && (rounds < ENOUGH || bench_now_ns() - start < SECONDS * 1e9)) {
        double alone = (rate(0, 1) + rate(1, 1)) / 2;
        double together = rate(0, 2);

        one[rounds] = 1 / alone;
        both[rounds] = 1 / together;
        times[rounds] = together / alone;
        rounds++;
    }
    bench_disk_stop(&disk);
    middle = bench_median(times, rounds);
    if (row->has_goal) {
        verdict = bench_verdict(middle >= GOAL);
    } else if (row->shares_line) {
        verdict = middle < GOAL ? "seen" : "NOT SEEN";
    }
    (void)printf("%-26s %9.2f %9.2f %9.2f    %4.2f to %4.2f  %s\n", row->name,
                 bench_median(one, rounds), bench_median(both, rounds), middle,
                 times[rounds / 10], times[rounds - 1 - rounds / 10], verdict);
}

int main(void)
{
    if (!find_cores()) {
        (void)printf("not measured: fewer than %u cores\n", CORES);
        return 0;
    }
    bench_disk_open(&disk);
    for (uint32_t i = 0; i < CORES; i++) {
        workers[i].stream = bench_stream_make(&disk);
        workers[i].arithmetic = i + 1;
    }
    (void)printf("4 KiB reads, a queue for each core; ns for a request; medians of up to %u rounds, and "
                 "all\nbut the highest and the lowest tenth; goal: %.1f times one\n\n",
                 ROUNDS, GOAL);
    (void)printf("%-26s %9s %9s %9s\n", "", "one core", "two", "times one");
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        measure(&rows[i]);
    }
    return 0;
}
