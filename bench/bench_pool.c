/* SPDX-License-Identifier: MIT */
/*
 * The pool: what a get and a put cost, alone (the same slot comes and goes)
 * and in bursts (the stack goes down and up).  The mean is that of the median
 * batch, so that what else runs on the machine does not count.
 */
#include <skio/io_pool.h>

#include "bench.h"

#define SLOTS      1024u
#define SLOT_BYTES 64u
#define BURST      256u
#define BATCHES    1000u
#define ROUNDS     64u /* of BURST pairs, in each batch */
#define GOAL_NS    5.0

static void must(enum sk_status status)
{
    if (status != SK_OK) {
        (void)fprintf(stderr, "bench_pool: %s\n", sk_status_text(status));
        exit(2);
    }
}

static void run_alone(struct sk_io_pool *pool)
{
    for (uint32_t i = 0; i < ROUNDS * BURST; i++) {
        struct sk_io_slot slot;

        must(sk_io_pool_get(pool, &slot));
        must(sk_io_pool_put(pool, slot.index));
    }
}

static void run_bursts(struct sk_io_pool *pool)
{
    static struct sk_io_slot slots[BURST];

    for (uint32_t round = 0; round < ROUNDS; round++) {
        for (uint32_t i = 0; i < BURST; i++) {
            must(sk_io_pool_get(pool, &slots[i]));
        }
        for (uint32_t i = 0; i < BURST; i++) {
            must(sk_io_pool_put(pool, slots[i].index));
        }
    }
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;

    return (x > y) - (x < y);
}

static void measure(const char *name, void (*run)(struct sk_io_pool *pool), struct sk_io_pool *pool)
{
    static double batches[BATCHES];

    for (uint32_t i = 0; i < BATCHES; i++) {
        double start = bench_now_ns();

        run(pool);
        batches[i] = (bench_now_ns() - start) / (ROUNDS * BURST);
    }
    qsort(batches, BATCHES, sizeof(double), compare_doubles);
    (void)printf("%-24s %8.2f ns %6.0f ns  %s\n", name, batches[BATCHES / 2], GOAL_NS,
                 bench_verdict(batches[BATCHES / 2] <= GOAL_NS));
}

int main(void)
{
    static struct sk_platform platform;
    static struct sk_dma_arena arena;
    static struct sk_dma_domain domain;
    static uint32_t pool_metadata[SLOTS * 2];
    static struct sk_dma_zone zone = { .paddr = { 0x80000000 }, .bytes = 64 * SK_DMA_PAGE_BYTES };
    static const struct sk_dma_window window = SK_DMA_WINDOW_IDENTITY;
    const struct sk_dma_domain_config config = { .platform = &platform,
                                                 .arena = &arena,
                                                 .windows = &window,
                                                 .window_count = 1,
                                                 .coherent = true };
    struct sk_io_buffer buffer = SK_IO_BUFFER_EMPTY;
    struct sk_io_pool pool;
    size_t metadata_bytes;

    zone.cpu = bench_memory(zone.bytes);
    metadata_bytes = sk_dma_arena_metadata_bytes(&zone, 1);
    must(sk_dma_arena_init(&arena, &zone, 1, bench_memory(metadata_bytes), metadata_bytes, NULL));
    must(sk_dma_domain_init(&domain, &config));
    must(sk_io_buffer_create(&buffer, &domain, SLOTS * SLOT_BYTES, SK_IO_BUFFER_ALIGNMENT));
    must(sk_io_pool_init(&pool, &buffer, SLOT_BYTES, SLOT_BYTES, pool_metadata,
                         sizeof(pool_metadata)));
    (void)printf("pool of %u slots of %u bytes; %s\n", SLOTS, SLOT_BYTES,
                 bench_go_first() ? "before all other programs" : "other programs may disturb");
    (void)printf("%-24s %11s %9s\n", "", "get + put", "goal");
    measure("one slot, again", run_alone, &pool);
    measure("bursts of 256", run_bursts, &pool);
    must(sk_io_pool_deinit(&pool));
    must(sk_io_buffer_destroy(&buffer));
    must(sk_dma_domain_deinit(&domain));
    return 0;
}
