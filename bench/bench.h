/* SPDX-License-Identifier: MIT */
/*
 * What all benchmarks share: a clock for batches, a counter of ticks for
 * single calls whose own cost is measured and subtracted, samples with
 * percentiles, and random numbers with a fixed seed.
 */
#ifndef BENCH_BENCH_H
#define BENCH_BENCH_H

#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#if defined(__x86_64__)
#include <x86intrin.h>
#endif

/* Asks not to be interrupted by other programs, which needs privileges; says whether it was granted. */
static inline bool bench_go_first(void)
{
    struct sched_param priority = { .sched_priority = 1 };

    return sched_setscheduler(0, SCHED_FIFO, &priority) == 0;
}

static inline double bench_now_ns(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

/* Of this thread's own processor time: what else runs does not count. */
static inline double bench_thread_ns(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

/* Ticks before and after a call; everything before has finished, nothing after has begun. */
static inline uint64_t bench_ticks(void)
{
#if defined(__x86_64__)
    uint64_t ticks;

    _mm_lfence();
    ticks = __rdtsc();
    _mm_lfence();
    return ticks;
#else
    return (uint64_t)bench_now_ns();
#endif
}

static inline uint64_t bench_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state * UINT64_C(0x2545f4914f6cdd1d) >> 16;
}

static inline void *bench_memory(size_t bytes)
{
    void *memory = aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);

    if (memory == NULL) {
        (void)fprintf(stderr, "bench: out of memory\n");
        exit(2);
    }
    return memory;
}

static inline int bench_compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;

    return (x > y) - (x < y);
}

/* Sorts the values; the one in the middle. */
static inline double bench_median(double *values, size_t count)
{
    qsort(values, count, sizeof(values[0]), bench_compare_doubles);
    return values[count / 2];
}

/* Durations of single calls. */
struct bench_samples {
    uint32_t *ticks;
    size_t count;
    size_t capacity;
};

static inline struct bench_samples bench_samples_make(size_t capacity)
{
    struct bench_samples samples = { bench_memory(capacity * sizeof(uint32_t)), 0, capacity };

    for (size_t i = 0; i < capacity; i++) {
        samples.ticks[i] = 0; /* touched now, so that no page fault is measured */
    }
    return samples;
}

static inline void bench_samples_add(struct bench_samples *samples, uint64_t ticks)
{
    if (samples->count < samples->capacity) {
        samples->ticks[samples->count++] = ticks < UINT32_MAX ? (uint32_t)ticks : UINT32_MAX;
    }
}

static inline int bench_compare(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a;
    uint32_t y = *(const uint32_t *)b;

    return (x > y) - (x < y);
}

static inline void bench_samples_sort(struct bench_samples *samples)
{
    qsort(samples->ticks, samples->count, sizeof(uint32_t), bench_compare);
}

/* How ticks become nanoseconds. */
struct bench_clock {
    double ns_per_tick;
    double overhead_ticks; /* median of measuring nothing */
};

static inline struct bench_clock bench_clock_make(void)
{
    enum { ROUNDS = 10001 };
    struct bench_samples nothing = bench_samples_make(ROUNDS);
    struct bench_clock bench_clock;
    double start_ns = bench_now_ns();
    uint64_t start_ticks = bench_ticks();

    while (bench_now_ns() - start_ns < 50e6) {
    }
    bench_clock.ns_per_tick =
        (bench_now_ns() - start_ns) / (double)(bench_ticks() - start_ticks);
    for (int i = 0; i < ROUNDS; i++) {
        uint64_t start = bench_ticks();

        bench_samples_add(&nothing, bench_ticks() - start);
    }
    bench_samples_sort(&nothing);
    bench_clock.overhead_ticks = nothing.ticks[ROUNDS / 2];
    free(nothing.ticks);
    return bench_clock;
}

/* The value, in ns, that `per_mille` of the sorted samples do not exceed. */
static inline double bench_samples_ns(const struct bench_samples *samples,
                                      const struct bench_clock *bench_clock, unsigned per_mille)
{
    size_t index = samples->count * per_mille / 1000;
    double ticks = samples->ticks[index < samples->count ? index : samples->count - 1];

    return ticks > bench_clock->overhead_ticks
               ? (ticks - bench_clock->overhead_ticks) * bench_clock->ns_per_tick
               : 0;
}

static inline const char *bench_verdict(int is_met)
{
    return is_met ? "met" : "MISSED";
}

#endif
