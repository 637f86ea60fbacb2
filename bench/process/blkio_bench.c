/* SPDX-License-Identifier: MIT */
/*
 * libblkio on a vhost-user-blk socket, doing what `skblk bench` does, to be
 * compared with it: the same sizes, the same number of requests in flight on
 * each queue, the same clock reads, the same histogram.
 *
 *   blkio_bench SOCKET read|write random|sequential BLOCK DEPTH QUEUES MS poll|sleep
 *
 * Prints one JSON object with the names that skblk uses.
 */
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include <blkio.h>

#include "histogram.h"

#define BATCH_MAX 512

struct plan {
    const char *socket;
    bool write;
    bool sequential;
    uint64_t block;
    uint32_t depth;
    uint32_t queues;
    uint64_t ns;
    bool poll;
    uint64_t places;
};

struct worker {
    const struct plan *plan;
    struct blkioq *queue;
    uint8_t *memory;
    uint64_t *starts;
    uint64_t random;
    uint64_t next;
    uint64_t done;
    uint64_t cpu_ns;
    uint64_t elapsed_ns;
    struct skblk_histogram histogram;
    pthread_t thread;
};

static void must(int result, const char *what)
{
    if (result < 0) {
        (void)fprintf(stderr, "blkio_bench: %s: %s\n", what, blkio_get_error_msg());
        exit(1);
    }
}

static uint64_t now_ns(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static uint64_t cpu_ns(void)
{
    struct rusage usage;

    (void)getrusage(RUSAGE_THREAD, &usage);
    return ((uint64_t)usage.ru_utime.tv_sec + (uint64_t)usage.ru_stime.tv_sec) * 1000000000u +
           ((uint64_t)usage.ru_utime.tv_usec + (uint64_t)usage.ru_stime.tv_usec) * 1000u;
}

static uint64_t draw(struct worker *worker)
{
    if (worker->plan->sequential) {
        worker->next = worker->next + 1 < worker->plan->places ? worker->next + 1 : 0;
        return worker->next;
    }
    worker->random ^= worker->random << 13;
    worker->random ^= worker->random >> 7;
    worker->random ^= worker->random << 17;
    return (uint64_t)(((unsigned __int128)worker->random * worker->plan->places) >> 64);
}

static void submit(struct worker *worker, uint32_t lane, uint64_t time_ns)
{
    const struct plan *plan = worker->plan;
    uint8_t *memory = worker->memory + lane * plan->block;
    uint64_t start = draw(worker) * plan->block;
    void *name = (void *)(uintptr_t)lane;

    worker->starts[lane] = time_ns;
    if (plan->write) {
        blkioq_write(worker->queue, start, memory, plan->block, name, 0);
    } else {
        blkioq_read(worker->queue, start, memory, plan->block, name, 0);
    }
}

static void *work(void *argument)
{
    struct worker *worker = argument;
    const struct plan *plan = worker->plan;
    struct blkio_completion found[BATCH_MAX];
    uint32_t most = plan->depth < BATCH_MAX ? plan->depth : BATCH_MAX;
    uint64_t before_ns = cpu_ns();
    uint64_t start_ns = now_ns();
    uint64_t time_ns = start_ns;
    uint32_t in_flight = plan->depth;

    for (uint32_t lane = 0; lane < plan->depth; lane++) {
        submit(worker, lane, time_ns);
    }
    while (in_flight > 0) {
        int count = blkioq_do_io(worker->queue, found, 1, (int)most, NULL);
        bool goes_on;

        must(count, "do_io");
        time_ns = now_ns();
        goes_on = time_ns - start_ns < plan->ns;
        for (int i = 0; i < count; i++) {
            uint32_t lane = (uint32_t)(uintptr_t)found[i].user_data;

            must(found[i].ret, "a request");
            skblk_histogram_add(&worker->histogram, time_ns - worker->starts[lane]);
            worker->done++;
            if (goes_on) {
                submit(worker, lane, time_ns);
            } else {
                in_flight--;
            }
        }
    }
    worker->elapsed_ns = now_ns() - start_ns;
    worker->cpu_ns = cpu_ns() - before_ns;
    return NULL;
}

static struct blkio *open_disk(struct plan *plan, struct blkio_mem_region *region)
{
    struct blkio *disk;
    uint64_t capacity;

    must(blkio_create("virtio-blk-vhost-user", &disk), "create");
    must(blkio_set_str(disk, "path", plan->socket), "path");
    must(blkio_connect(disk), "connect");
    must(blkio_set_int(disk, "num-queues", plan->poll ? 0 : (int)plan->queues), "num-queues");
    must(blkio_set_int(disk, "num-poll-queues", plan->poll ? (int)plan->queues : 0),
         "num-poll-queues");
    must(blkio_set_int(disk, "queue-size", 256), "queue-size");
    must(blkio_start(disk), "start");
    must(blkio_get_uint64(disk, "capacity", &capacity), "capacity");
    plan->places = capacity / plan->block;
    must(blkio_alloc_mem_region(disk, region,
                                ((size_t)plan->queues * plan->depth * plan->block + 0x1fffff) &
                                    ~(size_t)0x1fffff),
         "memory");
    must(blkio_map_mem_region(disk, region), "memory");
    return disk;
}

static void print(const struct worker *workers, uint32_t count)
{
    struct skblk_histogram histogram = { .count = 0 };
    uint64_t done = 0;
    uint64_t cpu = 0;
    double seconds = 0;

    for (uint32_t i = 0; i < count; i++) {
        skblk_histogram_merge(&histogram, &workers[i].histogram);
        done += workers[i].done;
        cpu += workers[i].cpu_ns;
        seconds = (double)workers[i].elapsed_ns / 1e9 > seconds
                      ? (double)workers[i].elapsed_ns / 1e9
                      : seconds;
    }
    (void)printf("{\"requests\": %llu, \"seconds\": %.3f, \"iops\": %.0f, "
                 "\"latency_p50_us\": %.3f, \"latency_p99_us\": %.3f, "
                 "\"cpu_us_per_request\": %.3f}\n",
                 (unsigned long long)done, seconds, (double)done / seconds,
                 (double)skblk_histogram_at(&histogram, 0.5) / 1e3,
                 (double)skblk_histogram_at(&histogram, 0.99) / 1e3,
                 (double)cpu / (double)done / 1e3);
}

static void start(struct worker *worker, const struct plan *plan, struct blkio *disk,
                  uint32_t index, uint8_t *memory)
{
    worker->plan = plan;
    worker->queue = plan->poll ? blkio_get_poll_queue(disk, (int)index)
                               : blkio_get_queue(disk, (int)index);
    worker->memory = memory + (uint64_t)index * plan->depth * plan->block;
    worker->random = UINT64_C(0x9e3779b97f4a7c15) * (index + 1);
    worker->next = plan->places / plan->queues * index;
    worker->starts = calloc(plan->depth, sizeof(*worker->starts));
    if (worker->queue == NULL || worker->starts == NULL) {
        (void)fprintf(stderr, "blkio_bench: no queue %u\n", index);
        exit(1);
    }
}

int main(int argc, char **argv)
{
    struct blkio_mem_region region;
    struct worker *workers;
    struct blkio *disk;
    struct plan plan;

    if (argc != 9) {
        (void)fprintf(stderr, "usage: blkio_bench SOCKET read|write random|sequential BLOCK DEPTH "
                              "QUEUES MS poll|sleep\n");
        return 2;
    }
    plan = (struct plan){
        .socket = argv[1],
        .write = strcmp(argv[2], "write") == 0,
        .sequential = strcmp(argv[3], "sequential") == 0,
        .block = strtoull(argv[4], NULL, 0),
        .depth = (uint32_t)strtoul(argv[5], NULL, 0),
        .queues = (uint32_t)strtoul(argv[6], NULL, 0),
        .ns = strtoull(argv[7], NULL, 0) * 1000000u,
        .poll = strcmp(argv[8], "poll") == 0,
    };
    disk = open_disk(&plan, &region);
    workers = calloc(plan.queues, sizeof(*workers));
    for (uint32_t i = 0; workers != NULL && i < plan.queues; i++) {
        start(&workers[i], &plan, disk, i, region.addr);
    }
    for (uint32_t i = 1; workers != NULL && i < plan.queues; i++) {
        must(-pthread_create(&workers[i].thread, NULL, work, &workers[i]), "thread");
    }
    if (workers == NULL) {
        return 1;
    }
    (void)work(&workers[0]);
    for (uint32_t i = 1; i < plan.queues; i++) {
        (void)pthread_join(workers[i].thread, NULL);
    }
    print(workers, plan.queues);
    blkio_destroy(&disk);
    free(workers);
    return 0;
}
