/* SPDX-License-Identifier: MIT */
/*
 * The arena beside allocators that people know, in one run: how long a call
 * takes, and how much address space random traffic needs over its live peak.
 *
 * Time.  A population of live blocks is kept; each step frees BURST random
 * blocks, one after the other, and allocates as many in their place.  Every
 * allocator gets the same steps.  The mean is that of the median batch of
 * BATCH steps, so that what else runs on the machine does not count; the
 * percentiles are of single calls.  Nobody touches or zeroes the memory.
 */
#include <dlfcn.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include <skio/dma_arena.h>

#include "bench.h"

#define PAGE     ((uint64_t)SK_DMA_PAGE_BYTES)
#define BURST    16u
#define BATCH    64u     /* steps */
#define BATCHES  400u
#define STEPS    (BATCH * BATCHES)
#define LIVE_MAX 16384u

#define GOAL_MEAN_NS 80.0
#define GOAL_TAIL_NS 350.0

struct block {
    struct sk_dma_run run; /* of the arena */
    void *memory;          /* of the others */
};

struct step {
    uint32_t block;        /* the first one; the others follow at equal distances */
    uint32_t bytes[BURST]; /* of the new ones */
};

struct allocator {
    const char *name;
    bool (*alloc)(void *context, uint64_t bytes, struct block *block);
    void (*release)(void *context, struct block *block);
    void *context;
};

/* skio. */

#define ARENA_PAGES (UINT32_C(1) << 18) /* 1 GiB of addresses; the memory is never touched */

static struct sk_dma_arena arena;
static struct sk_dma_zone zone;
static void *metadata;

static void start_arena(void)
{
    size_t bytes;

    zone = (struct sk_dma_zone){ .cpu = (void *)(uintptr_t)0x100000000,
                                 .paddr = { 0x80000000 },
                                 .bytes = ARENA_PAGES * PAGE };
    bytes = sk_dma_arena_metadata_bytes(&zone, 1);
    if (metadata == NULL) {
        metadata = bench_memory(bytes);
    }
    if (sk_dma_arena_init(&arena, &zone, 1, metadata, bytes, NULL) != SK_OK) {
        (void)fprintf(stderr, "bench_arena: init failed\n");
        exit(2);
    }
}

static bool arena_alloc(void *context, uint64_t bytes, struct block *block)
{
    const struct sk_dma_fit fit = { .bytes = bytes, .alignment = PAGE, .highest = { UINT64_MAX } };

    return sk_dma_arena_alloc(context, &fit, &block->run) == SK_OK;
}

static void arena_release(void *context, struct block *block)
{
    if (sk_dma_arena_free(context, &block->run) != SK_OK) {
        (void)fprintf(stderr, "bench_arena: free failed\n");
        exit(2);
    }
}

/* The others, all through two functions. */

struct peer {
    void *(*aligned)(size_t alignment, size_t bytes);
    void *(*aligned_swapped)(size_t bytes, size_t alignment); /* mimalloc's order */
    void (*release)(void *memory);
};

static bool peer_alloc(void *context, uint64_t bytes, struct block *block)
{
    const struct peer *peer = context;

    bytes = (bytes + PAGE - 1) & ~(PAGE - 1);
    block->memory = peer->aligned != NULL ? peer->aligned(PAGE, bytes)
                                          : peer->aligned_swapped(bytes, PAGE);
    return block->memory != NULL;
}

static void peer_release(void *context, struct block *block)
{
    const struct peer *peer = context;

    peer->release(block->memory);
}

/* dlsym answers with an object pointer; this is the one way that every compiler accepts. */
static void look_up(void *library, const char *name, void *out_function)
{
    void *symbol = dlsym(library, name);

    memcpy(out_function, &symbol, sizeof(symbol));
}

static bool open_peer(const char *file, const char *aligned, const char *swapped,
                      const char *release, struct peer *out_peer)
{
    void *library = dlopen(file, RTLD_NOW | RTLD_LOCAL);

    memset(out_peer, 0, sizeof(*out_peer));
    if (library == NULL) {
        return false;
    }
    if (aligned != NULL) {
        look_up(library, aligned, &out_peer->aligned);
    }
    if (swapped != NULL) {
        look_up(library, swapped, &out_peer->aligned_swapped);
    }
    look_up(library, release, &out_peer->release);
    return (out_peer->aligned != NULL || out_peer->aligned_swapped != NULL) &&
           out_peer->release != NULL;
}

/* Workloads. */

struct workload {
    const char *name;
    uint32_t live;
    uint64_t (*bytes)(uint64_t *random);
};

static uint64_t one_page(uint64_t *random)
{
    (void)random;
    return PAGE;
}

/* 4 KiB to 1 MiB, small ones oftener: the exponent is uniform, and the bytes below it too. */
static uint64_t mixed_bytes(uint64_t *random)
{
    uint64_t high = PAGE << (bench_random(random) % 8);

    return high + bench_random(random) % high;
}

static struct step *make_steps(const struct workload *workload)
{
    struct step *steps = bench_memory(STEPS * sizeof(*steps));
    uint64_t random = 0x9e3779b97f4a7c15;

    for (uint32_t i = 0; i < STEPS; i++) {
        steps[i].block = (uint32_t)(bench_random(&random) % workload->live);
        for (uint32_t j = 0; j < BURST; j++) {
            steps[i].bytes[j] = (uint32_t)workload->bytes(&random);
        }
    }
    return steps;
}

struct result {
    double pair_ns;     /* mean of an alloc and a free together */
    double alloc_ns[3]; /* p50, p99, p99.9 */
    double free_ns[3];
};

static struct block blocks[LIVE_MAX];

static void must(bool is_done, const char *name)
{
    if (!is_done) {
        (void)fprintf(stderr, "bench_arena: %s is out of memory\n", name);
        exit(2);
    }
}

/* Whoever frees a block has just used it: its handle is in the cache. */
static inline void touch(const struct block *block)
{
    (void)*(void *const volatile *)&block->memory;
    (void)*(const volatile uint32_t *)&block->run.page;
}

static inline struct block *block_of(const struct workload *workload, const struct step *step,
                                     uint32_t index)
{
    return &blocks[(step->block + index * (workload->live / BURST)) % workload->live];
}

/* One batch, without looking at the time in between; ns for an alloc and a free. */
static double run_batch(const struct allocator *a, const struct workload *workload,
                        const struct step *steps)
{
    double start = bench_now_ns();

    for (const struct step *step = steps; step < steps + BATCH; step++) {
        for (uint32_t i = 0; i < BURST; i++) {
            a->release(a->context, block_of(workload, step, i));
        }
        for (uint32_t i = 0; i < BURST; i++) {
            must(a->alloc(a->context, step->bytes[i], block_of(workload, step, i)), a->name);
        }
    }
    return (bench_now_ns() - start) / (BATCH * BURST);
}

/* One step, with a look at the ticks around each call. */
static void run_singly(const struct allocator *a, const struct workload *workload,
                       const struct step *step, struct bench_samples *allocs,
                       struct bench_samples *frees)
{
    for (uint32_t i = 0; i < BURST; i++) {
        struct block *block = block_of(workload, step, i);
        uint64_t start;

        touch(block);
        start = bench_ticks();
        a->release(a->context, block);
        bench_samples_add(frees, bench_ticks() - start);
    }
    for (uint32_t i = 0; i < BURST; i++) {
        struct block *block = block_of(workload, step, i);
        uint64_t start = bench_ticks();
        bool is_done = a->alloc(a->context, step->bytes[i], block);

        bench_samples_add(allocs, bench_ticks() - start);
        must(is_done, a->name);
    }
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;

    return (x > y) - (x < y);
}

static void take_percentiles(struct bench_samples *samples, const struct bench_clock *ticks,
                             double out_ns[3])
{
    static const unsigned per_mille[3] = { 500, 990, 999 };

    bench_samples_sort(samples);
    for (int i = 0; i < 3; i++) {
        out_ns[i] = bench_samples_ns(samples, ticks, per_mille[i]);
    }
}

static struct result measure(const struct allocator *a, const struct workload *workload,
                             const struct step *steps, const struct bench_clock *ticks)
{
    static double batches[BATCHES];
    struct bench_samples allocs = bench_samples_make(STEPS * BURST);
    struct bench_samples frees = bench_samples_make(STEPS * BURST);
    struct result result;

    for (uint32_t i = 0; i < workload->live; i++) {
        must(a->alloc(a->context, steps[i / BURST].bytes[i % BURST], &blocks[i]), a->name);
    }
    for (uint32_t i = 0; i < 2 * BATCHES; i++) { /* the first half warms up */
        batches[i % BATCHES] = run_batch(a, workload, &steps[i % BATCHES * BATCH]);
    }
    for (uint32_t i = 0; i < STEPS; i++) {
        run_singly(a, workload, &steps[i], &allocs, &frees);
    }
    for (uint32_t i = 0; i < workload->live; i++) {
        a->release(a->context, &blocks[i]);
    }
    qsort(batches, BATCHES, sizeof(double), compare_doubles);
    result.pair_ns = batches[BATCHES / 2];
    take_percentiles(&allocs, ticks, result.alloc_ns);
    take_percentiles(&frees, ticks, result.free_ns);
    free(allocs.ticks);
    free(frees.ticks);
    return result;
}

static void print_row(const char *name, const struct result *r)
{
    (void)printf("%-20s %10.0f %7.0f   %6.0f %6.0f %6.0f   %6.0f %6.0f %6.0f\n", name, r->pair_ns,
                 r->pair_ns / 2, r->alloc_ns[0], r->alloc_ns[1], r->alloc_ns[2], r->free_ns[0],
                 r->free_ns[1], r->free_ns[2]);
}

static void print_goals(const struct result *ours)
{
    (void)printf("goals of skio: mean of a call <= %.0f: %s; p99.9 of alloc and of free <= %.0f: "
                 "%s\n",
                 GOAL_MEAN_NS, bench_verdict(ours->pair_ns / 2 <= GOAL_MEAN_NS), GOAL_TAIL_NS,
                 bench_verdict(ours->alloc_ns[2] <= GOAL_TAIL_NS &&
                               ours->free_ns[2] <= GOAL_TAIL_NS));
}

static void compare_time(const struct workload *workload, const struct allocator *allocators,
                         size_t count, const struct bench_clock *ticks)
{
    struct step *steps = make_steps(workload);
    struct result ours = { 0 };

    (void)printf("\n%s, aligned to 4 KiB; %u live; %u calls\n", workload->name, workload->live,
                 2 * STEPS * BURST);
    (void)printf("%-20s %18s   %-20s   %-20s\n", "ns", "mean", "alloc", "free");
    (void)printf("%-20s %10s %7s   %6s %6s %6s   %6s %6s %6s\n", "", "alloc+free", "a call", "p50",
                 "p99", "p99.9", "p50", "p99", "p99.9");
    for (size_t i = 0; i < count; i++) {
        struct result result;

        if (allocators[i].alloc == NULL) {
            (void)printf("%-20s not installed\n", allocators[i].name);
            continue;
        }
        start_arena();
        result = measure(&allocators[i], workload, steps, ticks);
        print_row(allocators[i].name, &result);
        ours = i == 0 ? result : ours;
    }
    print_goals(&ours);
    free(steps);
}

/* Space. */

/* A power of two, each as often, up to 2^power pages. */
static uint64_t power_pages(uint64_t *random, unsigned power)
{
    return UINT64_C(1) << (bench_random(random) % (power + 1));
}

/* An odd number below 2^power, small ones oftener. */
static uint64_t odd_pages(uint64_t *random, unsigned power)
{
    uint64_t high = UINT64_C(1) << (bench_random(random) % power);

    return (high + bench_random(random) % high) | 1;
}

/* One or the other. */
static uint64_t mix_pages(uint64_t *random, unsigned power)
{
    return bench_random(random) % 2 ? power_pages(random, power) : odd_pages(random, power);
}

typedef uint64_t size_picker(uint64_t *random, unsigned power);

struct space {
    uint64_t high_water;
    uint64_t wanted_peak; /* highest sum of the pages asked for */
};

#define TARGET_PAGES 32768u

static struct sk_dma_run traffic_runs[TARGET_PAGES];
static uint32_t traffic_pages[TARGET_PAGES];

/* A power of two at a multiple of its size, lowest first: what a buddy allocator does. */
static uint64_t buddy_pages(uint64_t pages)
{
    uint64_t rounded = 1;

    while (rounded < pages) {
        rounded *= 2;
    }
    return rounded;
}

/* Allocates again and again; before, frees random blocks until the target is not exceeded. */
static struct space run_traffic(size_picker *pick, unsigned power, bool is_buddy)
{
    struct space space = { 0, 0 };
    struct sk_dma_arena_statistics statistics;
    uint64_t random = 0x1234567;
    uint64_t live = 0;
    size_t count = 0;

    start_arena();
    for (uint32_t step = 0; step < 400000; step++) {
        uint64_t pages = pick(&random, power);
        uint64_t taken = is_buddy ? buddy_pages(pages) : pages;
        struct sk_dma_fit fit = { .bytes = taken * PAGE,
                                  .alignment = is_buddy ? taken * PAGE : PAGE,
                                  .highest = { UINT64_MAX },
                                  .bias = 0 - zone.paddr.raw };

        while (live + pages > TARGET_PAGES) {
            size_t victim = bench_random(&random) % count--;

            must(sk_dma_arena_free(&arena, &traffic_runs[victim]) == SK_OK, "the arena");
            live -= traffic_pages[victim];
            traffic_runs[victim] = traffic_runs[count];
            traffic_pages[victim] = traffic_pages[count];
        }
        must(sk_dma_arena_alloc(&arena, &fit, &traffic_runs[count]) == SK_OK, "the arena");
        traffic_pages[count++] = (uint32_t)pages;
        live += pages;
        space.wanted_peak = live > space.wanted_peak ? live : space.wanted_peak;
    }
    sk_dma_arena_get_statistics(&arena, &statistics);
    space.high_water = statistics.pages_high_water;
    return space;
}

static double extra_percent(struct space space)
{
    return ((double)space.high_water / (double)space.wanted_peak - 1) * 100;
}

static void compare_space(void)
{
    static const struct {
        const char *name;
        size_picker *pick;
        double goal;
    } sizes[3] = { { "powers of two", power_pages, 22 },
                   { "odd", odd_pages, 19 },
                   { "mix of both", mix_pages, 14 } };

    (void)printf("\nextra arena over the live peak; 400,000 allocations, 128 MiB live, random "
                 "frees\n");
    (void)printf("%-16s %14s %8s %8s %8s\n", "sizes in pages", "largest", "skio", "goal", "buddy");
    for (unsigned power = 4; power <= 8; power += 2) {
        for (size_t i = 0; i < 3; i++) {
            double ours = extra_percent(run_traffic(sizes[i].pick, power, false));
            double buddy = extra_percent(run_traffic(sizes[i].pick, power, true));

            (void)printf("%-16s %10u KiB %6.1f %% %6.0f %% %6.1f %%  %s\n", sizes[i].name,
                         4u << power, ours, sizes[i].goal, buddy,
                         bench_verdict(ours <= sizes[i].goal));
        }
    }
}

/*
 * Some libraries keep their thread-local data in a block whose spare room is
 * set when a program starts: asks for more and starts again, once.
 */
static void make_room_for_peers(char **arguments)
{
    static const char tunables[] = "GLIBC_TUNABLES";

    if (getenv(tunables) == NULL &&
        setenv(tunables, "glibc.rtld.optional_static_tls=65536", 1) == 0) {
        (void)execv("/proc/self/exe", arguments);
    }
}

int main(int argument_count, char **arguments)
{
    static const struct workload one = { "4 KiB", 4096, one_page };
    static const struct workload many = { "4 KiB, many", 16384, one_page };
    static const struct workload mixed = { "mixed sizes, 4 KiB to 1 MiB", 1024, mixed_bytes };
    struct peer glibc = { aligned_alloc, NULL, free };
    struct peer jemalloc;
    struct peer mimalloc;
    struct bench_clock ticks;
    bool is_first;
    struct allocator allocators[4] = {
        { "skio", arena_alloc, arena_release, &arena },
        { "glibc", peer_alloc, peer_release, &glibc },
        { "jemalloc", peer_alloc, peer_release, &jemalloc },
        { "mimalloc", peer_alloc, peer_release, &mimalloc },
    };

    (void)argument_count;
    make_room_for_peers(arguments);
    if (!open_peer("libjemalloc.so.2", "aligned_alloc", NULL, "free", &jemalloc)) {
        allocators[2].alloc = NULL;
    }
    if (!open_peer("libmimalloc.so.2", NULL, "mi_malloc_aligned", "mi_free", &mimalloc)) {
        allocators[3].alloc = NULL;
    }
    is_first = bench_go_first();
    ticks = bench_clock_make();
    start_arena();
    (void)printf("arena of %u pages (1 GiB), metadata %zu bytes; measuring costs %.0f ns, which is "
                 "subtracted; %s\n",
                 ARENA_PAGES, sk_dma_arena_metadata_bytes(&zone, 1),
                 ticks.overhead_ticks * ticks.ns_per_tick,
                 is_first ? "before all other programs" : "other programs may disturb");
    compare_time(&one, allocators, 4, &ticks);
    compare_time(&many, allocators, 4, &ticks);
    compare_time(&mixed, allocators, 4, &ticks);
    compare_space();
    return 0;
}
