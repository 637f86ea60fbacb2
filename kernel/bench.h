/* SPDX-License-Identifier: MIT */
/*
 * The loop of `bench` on one hart: its own queue, its own requests, its own
 * memory; nothing on a request's way is shared with another hart.
 */
#ifndef KERNEL_BENCH_H
#define KERNEL_BENCH_H

#include "disk.h"
#include "lib/latency.h"

#define BENCH_DEPTH_MAX 256u

/* How a hart waits when nothing has completed. */
enum bench_wait { BENCH_IRQ, BENCH_POLL, BENCH_HYBRID };

/* What all harts do; nobody writes it while they run, but for `stopped`. */
struct bench_plan {
    uint64_t bytes; /* of a request */
    uint64_t depth;
    uint64_t requests; /* of each hart; UINT64_MAX: until the time is over */
    uint64_t duration_ns;
    uint64_t places;        /* how often a request fits on the disk */
    uint64_t spin_ns;       /* BENCH_HYBRID: how long it looks before it sleeps */
    uint32_t latency_every; /* of how many requests one is timed; 0: none */
    enum bench_wait wait;
    bool write;
    bool sequential;
    bool interactive;                    /* the first hart looks for ^C */
    _Alignas(64) sk_atomic_u32 stopped; /* an error or ^C: nothing new is submitted */
};

struct bench_worker;

struct bench_lane {
    struct sk_block_request request;
    struct sk_dma_segment segment;
    uint64_t start_ns; /* 0: not timed */
    struct bench_worker *worker;
};

/* One hart's. */
struct bench_worker {
    struct bench_plan *plan;
    struct sk_block_queue *queue;
    unsigned hart;
    struct sk_io_buffer buffer;
    /* Where it stands. */
    uint64_t next; /* place of the next sequential request */
    uint64_t random;
    uint64_t left; /* requests to submit */
    uint64_t now_ns;
    uint64_t look_ns; /* when to look for ^C again */
    uint32_t until_timed;
    unsigned in_flight;
    unsigned idle_count;
    /* The result. */
    uint64_t done;
    uint64_t start_ns;
    uint64_t end_ns;
    uint64_t instructions; /* sleep is not in it; 0: cannot be counted */
    uint64_t in_vain;      /* of them, for polls that found nothing */
    bool in_doubt;
    struct sk_block_statistics before;
    struct sk_block_statistics after;
    struct latency latency;
    struct sk_block_request *idle[BENCH_DEPTH_MAX];
    struct bench_lane lanes[BENCH_DEPTH_MAX];
};

/* Makes the requests, of memory in worker->buffer.  False: said. */
bool bench_prepare(struct bench_worker *worker);

/* Runs to the end of the plan; on the worker's hart.  `argument` is the worker. */
void bench_run(void *argument);

#endif
