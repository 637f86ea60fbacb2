/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <skio/dma_arena.h>

#define PAGE     ((uint64_t)SK_DMA_PAGE_BYTES)
#define ZONE_MAX 4

/* An arena over zones whose memory is never touched: addresses are enough. */
struct fixture {
    struct sk_dma_zone zones[ZONE_MAX];
    size_t zone_count;
    struct sk_dma_arena arena;
    struct sk_log log;
    void *metadata;
    size_t metadata_bytes;
    unsigned lines;
    char last_line[SK_LOG_LINE_BYTES];
};

static void write_log(void *context, enum sk_log_level level, const char *line)
{
    struct fixture *f = context;

    (void)level;
    f->lines++;
    (void)snprintf(f->last_line, sizeof(f->last_line), "%s", line);
}

static void add_zone(struct fixture *f, uint64_t cpu, uint64_t paddr, uint64_t pages, uint32_t flags)
{
    assert_true(f->zone_count < ZONE_MAX);
    f->zones[f->zone_count++] = (struct sk_dma_zone){ .cpu = (void *)(uintptr_t)cpu,
                                                      .paddr = { paddr },
                                                      .bytes = pages * PAGE,
                                                      .flags = flags };
}

static void start(struct fixture *f)
{
    f->metadata_bytes = sk_dma_arena_metadata_bytes(f->zones, f->zone_count);
    assert_true(f->metadata_bytes > 0);
    f->metadata = aligned_alloc(64, (f->metadata_bytes + 63) / 64 * 64);
    assert_non_null(f->metadata);
    memset(f->metadata, 0xee, f->metadata_bytes);
    f->log = (struct sk_log){ .write = write_log, .context = f, .level = SK_LOG_DEBUG };
    assert_int_equal(sk_dma_arena_init(&f->arena, f->zones, f->zone_count, f->metadata,
                                       f->metadata_bytes, &f->log),
                     SK_OK);
    assert_true(sk_dma_arena_check(&f->arena));
}

#define CPU   UINT64_C(0x10000000)
#define PADDR UINT64_C(0x80000000)

static void start_one(struct fixture *f, uint64_t pages)
{
    memset(f, 0, sizeof(*f));
    add_zone(f, CPU, PADDR, pages, 0);
    start(f);
}

static void stop(struct fixture *f)
{
    assert_true(sk_dma_arena_check(&f->arena));
    free(f->metadata);
}

static struct sk_dma_fit fit_of(uint64_t bytes, uint64_t alignment)
{
    return (struct sk_dma_fit){ .bytes = bytes,
                                .alignment = alignment,
                                .highest = { UINT64_MAX } };
}

static struct sk_dma_arena_statistics statistics_of(const struct fixture *f)
{
    struct sk_dma_arena_statistics statistics;

    sk_dma_arena_get_statistics(&f->arena, &statistics);
    return statistics;
}

static struct sk_dma_run take(struct fixture *f, uint64_t bytes)
{
    struct sk_dma_fit fit = fit_of(bytes, 1);
    struct sk_dma_run run;

    assert_int_equal(sk_dma_arena_alloc(&f->arena, &fit, &run), SK_OK);
    assert_true(sk_dma_arena_check(&f->arena));
    return run;
}

static void give(struct fixture *f, const struct sk_dma_run *run)
{
    assert_int_equal(sk_dma_arena_free(&f->arena, run), SK_OK);
    assert_true(sk_dma_arena_check(&f->arena));
}

/* A refused allocation changes nothing but the counter of its reason, and logs one line. */
static void refuse(struct fixture *f, struct sk_dma_fit fit, enum sk_status expected,
                   enum sk_dma_arena_failure reason)
{
    struct sk_dma_arena_statistics before = statistics_of(f);
    struct sk_dma_arena_statistics after;
    struct sk_dma_run run = { .page = 77 };
    unsigned lines = f->lines;

    assert_int_equal(sk_dma_arena_alloc(&f->arena, &fit, &run), expected);
    assert_int_equal(run.page, 77);
    assert_int_equal(f->lines, lines + !fit.quiet);
    after = statistics_of(f);
    before.failures[reason]++;
    assert_memory_equal(&before, &after, sizeof(before));
    assert_true(sk_dma_arena_check(&f->arena));
}

/* Start and stop. */

static void test_dma_arena_metadata_bytes__unusable_zones_need_nothing(void **state)
{
    struct fixture f = { .zone_count = 0 };

    (void)state;
    assert_int_equal(sk_dma_arena_metadata_bytes(NULL, 1), 0);
    assert_int_equal(sk_dma_arena_metadata_bytes(f.zones, 0), 0);
    add_zone(&f, CPU, PADDR, 0, 0);
    assert_int_equal(sk_dma_arena_metadata_bytes(f.zones, 1), 0);
    f.zones[0].bytes = PAGE;
    assert_true(sk_dma_arena_metadata_bytes(f.zones, 1) > 0);
    f.zones[0].bytes = (UINT64_C(1) << 31) * PAGE;
    assert_int_equal(sk_dma_arena_metadata_bytes(f.zones, 1), 0);
}

static void test_dma_arena_metadata_bytes__large_zone_stays_below_half_a_percent(void **state)
{
    struct fixture f = { .zone_count = 0 };

    (void)state;
    add_zone(&f, CPU, PADDR, 1 << 20, 0);
    assert_in_range(sk_dma_arena_metadata_bytes(f.zones, 1), 1, (1 << 20) * PAGE / 200);
}

static enum sk_status init_with(const struct sk_dma_zone *zones, size_t count)
{
    static _Alignas(64) uint8_t metadata[1 << 16];
    struct sk_dma_arena zero;
    struct sk_dma_arena arena;
    struct sk_dma_fit fit = fit_of(1, 1);
    struct sk_dma_run run = { .page = 0 };
    enum sk_status status;

    memset(&arena, 0xee, sizeof(arena));
    memset(&zero, 0, sizeof(zero));
    status = sk_dma_arena_init(&arena, zones, count, metadata, sizeof(metadata), NULL);
    if (status != SK_OK) {
        assert_memory_equal(&arena, &zero, sizeof(arena));
        assert_int_equal(sk_dma_arena_alloc(&arena, &fit, &run), SK_ERR_GONE);
        assert_int_equal(sk_dma_arena_free(&arena, &run), SK_ERR_GONE);
        assert_int_equal(sk_dma_arena_quarantine(&arena, &run), SK_ERR_GONE);
        assert_int_equal(sk_dma_arena_find(&arena, metadata, &run), SK_ERR_NOT_FOUND);
        assert_false(sk_dma_arena_check(&arena));
    }
    return status;
}

static void test_dma_arena_init__bad_zones_are_refused(void **state)
{
    struct sk_dma_zone good = { .cpu = (void *)(uintptr_t)CPU, .paddr = { PADDR }, .bytes = PAGE };
    struct sk_dma_zone zones[2] = { good, good };

    (void)state;
    assert_int_equal(init_with(&good, 1), SK_OK);
    assert_int_equal(init_with(NULL, 1), SK_ERR_INVALID);
    assert_int_equal(init_with(&good, 0), SK_ERR_INVALID);
    assert_int_equal(init_with(zones, 2), SK_ERR_INVALID);
    zones[1].paddr.raw = PADDR - PAGE; /* unsorted */
    zones[1].cpu = (void *)(uintptr_t)(CPU + PAGE);
    assert_int_equal(init_with(zones, 2), SK_ERR_INVALID);
    zones[1].paddr.raw = PADDR + PAGE; /* fine: neighbours */
    assert_int_equal(init_with(zones, 2), SK_OK);
    zones[0].bytes = 2 * PAGE; /* overlap */
    assert_int_equal(init_with(zones, 2), SK_ERR_INVALID);
    zones[0].bytes = PAGE;
    zones[1].cpu = good.cpu; /* apart physically, the same for the CPU */
    assert_int_equal(init_with(zones, 2), SK_ERR_INVALID);
}

static void test_dma_arena_init__bad_zone_is_refused(void **state)
{
    struct sk_dma_zone good = { .cpu = (void *)(uintptr_t)CPU, .paddr = { PADDR }, .bytes = PAGE };
    struct sk_dma_zone zone = good;

    (void)state;
    zone.bytes = 0;
    assert_int_equal(init_with(&zone, 1), SK_ERR_SIZE);
    zone.bytes = PAGE + 1;
    assert_int_equal(init_with(&zone, 1), SK_ERR_SIZE);
    zone = good;
    zone.cpu = (uint8_t *)good.cpu + 1;
    assert_int_equal(init_with(&zone, 1), SK_ERR_ALIGNMENT);
    zone.cpu = NULL;
    assert_int_equal(init_with(&zone, 1), SK_ERR_INVALID);
    zone = good;
    zone.paddr.raw++;
    assert_int_equal(init_with(&zone, 1), SK_ERR_ALIGNMENT);
    zone = good;
    zone.flags = 2;
    assert_int_equal(init_with(&zone, 1), SK_ERR_INVALID);
    zone = good;
    zone.paddr.raw = UINT64_MAX - PAGE + 1; /* ends with the address space */
    assert_int_equal(init_with(&zone, 1), SK_OK);
    zone.bytes = 2 * PAGE;
    assert_int_equal(init_with(&zone, 1), SK_ERR_INVALID);
    zone = good;
    zone.cpu = (void *)(UINTPTR_MAX - SK_DMA_PAGE_BYTES + 1);
    assert_int_equal(init_with(&zone, 1), SK_OK);
    zone.bytes = 2 * PAGE;
    assert_int_equal(init_with(&zone, 1), SK_ERR_INVALID);
}

static void test_dma_arena_init__bad_metadata_is_refused(void **state)
{
    struct fixture f;
    struct sk_dma_arena arena;
    uint8_t *m;

    (void)state;
    start_one(&f, 100);
    m = f.metadata;
    assert_int_equal(sk_dma_arena_init(NULL, f.zones, 1, m, f.metadata_bytes, NULL),
                     SK_ERR_INVALID);
    assert_int_equal(sk_dma_arena_init(&arena, f.zones, 1, NULL, f.metadata_bytes, NULL),
                     SK_ERR_INVALID);
    assert_int_equal(sk_dma_arena_init(&arena, f.zones, 1, m + 8, f.metadata_bytes, NULL),
                     SK_ERR_ALIGNMENT);
    assert_int_equal(sk_dma_arena_init(&arena, f.zones, 1, m, f.metadata_bytes - 1, NULL),
                     SK_ERR_SIZE);
    stop(&f);
}

static void test_dma_arena_init__metadata_inside_a_zone_is_refused(void **state)
{
    struct fixture f = { .zone_count = 0 };
    struct sk_dma_arena arena;
    uint8_t *memory = aligned_alloc(SK_DMA_PAGE_BYTES, 8 * PAGE);
    size_t bytes;

    (void)state;
    assert_non_null(memory);
    add_zone(&f, (uintptr_t)memory + 2 * PAGE, PADDR, 2, 0);
    add_zone(&f, (uintptr_t)memory + 5 * PAGE, PADDR + 16 * PAGE, 2, 0);
    bytes = sk_dma_arena_metadata_bytes(f.zones, 2);
    for (size_t offset = 0; offset + bytes <= 8 * PAGE; offset += 16) {
        bool is_inside = (offset + bytes > 2 * PAGE && offset < 4 * PAGE) ||
                         (offset + bytes > 5 * PAGE && offset < 7 * PAGE);

        assert_int_equal(sk_dma_arena_init(&arena, f.zones, 2, memory + offset, bytes, NULL),
                         is_inside ? SK_ERR_INVALID : SK_OK);
    }
    free(memory);
}

/* Allocation. */

static void test_dma_arena_alloc__takes_the_lowest_address_first(void **state)
{
    struct fixture f;
    struct sk_dma_run a;
    struct sk_dma_run b;
    struct sk_dma_run c;

    (void)state;
    start_one(&f, 100);
    a = take(&f, 1);
    b = take(&f, 2 * PAGE);
    c = take(&f, PAGE + 1);
    assert_ptr_equal(a.cpu, (void *)(uintptr_t)CPU);
    assert_int_equal(a.paddr.raw, PADDR);
    assert_int_equal(a.bytes, PAGE);
    assert_int_equal(b.paddr.raw, PADDR + PAGE);
    assert_int_equal(c.paddr.raw, PADDR + 3 * PAGE);
    assert_int_equal(c.bytes, 2 * PAGE);
    give(&f, &b);
    assert_int_equal(take(&f, PAGE).paddr.raw, PADDR + PAGE);
    assert_int_equal(take(&f, 2 * PAGE).paddr.raw, PADDR + 5 * PAGE);
    assert_int_equal(take(&f, PAGE).paddr.raw, PADDR + 2 * PAGE);
    stop(&f);
}

static void test_dma_arena_alloc__missing_argument_is_invalid(void **state)
{
    struct fixture f;
    struct sk_dma_fit fit = fit_of(1, 1);
    struct sk_dma_run run;

    (void)state;
    start_one(&f, 4);
    assert_int_equal(sk_dma_arena_alloc(NULL, &fit, &run), SK_ERR_INVALID);
    assert_int_equal(sk_dma_arena_alloc(&f.arena, NULL, &run), SK_ERR_INVALID);
    assert_int_equal(sk_dma_arena_alloc(&f.arena, &fit, NULL), SK_ERR_INVALID);
    stop(&f);
}

static void test_dma_arena_alloc__impossible_request_is_invalid(void **state)
{
    struct fixture f;
    struct sk_dma_fit fit = fit_of(PAGE, 1);

    (void)state;
    start_one(&f, 4);
    refuse(&f, fit_of(0, 1), SK_ERR_SIZE, SK_DMA_ARENA_FAILURE_INVALID);
    refuse(&f, fit_of(1, 0), SK_ERR_ALIGNMENT, SK_DMA_ARENA_FAILURE_INVALID);
    refuse(&f, fit_of(1, 3), SK_ERR_ALIGNMENT, SK_DMA_ARENA_FAILURE_INVALID);
    refuse(&f, fit_of(UINT64_MAX, 1), SK_ERR_RANGE, SK_DMA_ARENA_FAILURE_INVALID);
    fit.boundary = 3;
    refuse(&f, fit, SK_ERR_ALIGNMENT, SK_DMA_ARENA_FAILURE_INVALID);
    fit.boundary = PAGE / 2;
    refuse(&f, fit, SK_ERR_RANGE, SK_DMA_ARENA_FAILURE_INVALID);
    fit.boundary = 0;
    fit.bias = 1;
    refuse(&f, fit, SK_ERR_ALIGNMENT, SK_DMA_ARENA_FAILURE_INVALID);
    fit.bias = 0;
    fit.lowest.raw = 2 * PAGE;
    fit.highest.raw = 2 * PAGE - 1;
    refuse(&f, fit, SK_ERR_RANGE, SK_DMA_ARENA_FAILURE_INVALID);
    fit.highest.raw = 3 * PAGE - 2; /* one byte too few */
    refuse(&f, fit, SK_ERR_RANGE, SK_DMA_ARENA_FAILURE_INVALID);
    stop(&f);
}

static void test_dma_arena_alloc__failures_are_told_apart(void **state)
{
    struct fixture f;
    struct sk_dma_run runs[8];
    struct sk_dma_fit fit = fit_of(PAGE, 1);

    (void)state;
    start_one(&f, 8);
    refuse(&f, fit_of(9 * PAGE, 1), SK_ERR_NO_MEMORY, SK_DMA_ARENA_FAILURE_EXHAUSTED);
    refuse(&f, fit_of(PAGE * PAGE * PAGE, 1), SK_ERR_NO_MEMORY, SK_DMA_ARENA_FAILURE_EXHAUSTED);
    for (size_t i = 0; i < 8; i++) {
        runs[i] = take(&f, PAGE);
    }
    refuse(&f, fit, SK_ERR_NO_MEMORY, SK_DMA_ARENA_FAILURE_EXHAUSTED);
    assert_non_null(strstr(f.last_line, "free 0 pages"));
    give(&f, &runs[1]);
    give(&f, &runs[5]);
    refuse(&f, fit_of(2 * PAGE, 1), SK_ERR_NO_MEMORY, SK_DMA_ARENA_FAILURE_FRAGMENTED);
    refuse(&f, fit_of(PAGE, 2 * PAGE), SK_ERR_NO_MEMORY, SK_DMA_ARENA_FAILURE_CONSTRAINT);
    fit.zone_flags = SK_DMA_ZONE_UNCACHED;
    refuse(&f, fit, SK_ERR_NO_MEMORY, SK_DMA_ARENA_FAILURE_CONSTRAINT);
    fit.quiet = true;
    refuse(&f, fit, SK_ERR_NO_MEMORY, SK_DMA_ARENA_FAILURE_CONSTRAINT);
    stop(&f);
}

static void test_dma_arena_alloc__alignment_is_of_the_device_address(void **state)
{
    struct fixture f;
    struct sk_dma_fit fit = fit_of(PAGE, 16 * PAGE);
    struct sk_dma_run run;

    (void)state;
    start_one(&f, 100);
    fit.bias = 0 - (PADDR + 3 * PAGE); /* the device sees page 3 at 0 */
    assert_int_equal(sk_dma_arena_alloc(&f.arena, &fit, &run), SK_OK);
    assert_int_equal(run.paddr.raw, PADDR + 3 * PAGE);
    assert_int_equal(sk_dma_arena_alloc(&f.arena, &fit, &run), SK_OK);
    assert_int_equal(run.paddr.raw, PADDR + 19 * PAGE);
    fit.alignment = UINT64_C(1) << 63;
    refuse(&f, fit, SK_ERR_NO_MEMORY, SK_DMA_ARENA_FAILURE_CONSTRAINT);
    stop(&f);
}

static void test_dma_arena_alloc__boundary_is_not_crossed(void **state)
{
    struct fixture f;
    struct sk_dma_fit fit = fit_of(3 * PAGE, 1);
    struct sk_dma_run run;

    (void)state;
    start_one(&f, 32);
    (void)take(&f, 2 * PAGE);
    fit.boundary = 4 * PAGE;
    assert_int_equal(sk_dma_arena_alloc(&f.arena, &fit, &run), SK_OK);
    assert_int_equal(run.paddr.raw, PADDR + 4 * PAGE);
    fit.bias = PAGE; /* moves the boundaries down by one page */
    assert_int_equal(sk_dma_arena_alloc(&f.arena, &fit, &run), SK_OK);
    assert_int_equal(run.paddr.raw, PADDR + 7 * PAGE);
    fit.bytes = 4 * PAGE; /* exactly as long */
    assert_int_equal(sk_dma_arena_alloc(&f.arena, &fit, &run), SK_OK);
    assert_int_equal(run.paddr.raw, PADDR + 11 * PAGE);
    fit.bytes = 100; /* a boundary below a page, with room for the bytes asked for */
    fit.boundary = 128;
    assert_int_equal(sk_dma_arena_alloc(&f.arena, &fit, &run), SK_OK);
    assert_int_equal(run.paddr.raw, PADDR + 2 * PAGE);
    fit.boundary = UINT64_C(1) << 63;
    fit.bytes = PAGE;
    assert_int_equal(sk_dma_arena_alloc(&f.arena, &fit, &run), SK_OK);
    assert_int_equal(run.paddr.raw, PADDR + 3 * PAGE);
    stop(&f);
}

static void test_dma_arena_alloc__window_limits_the_whole_run(void **state)
{
    struct fixture f;
    struct sk_dma_fit fit = fit_of(2 * PAGE, 1);
    struct sk_dma_run run;

    (void)state;
    start_one(&f, 32);
    fit.lowest.raw = PADDR + 1;
    fit.highest.raw = PADDR + 4 * PAGE - 1;
    assert_int_equal(sk_dma_arena_alloc(&f.arena, &fit, &run), SK_OK);
    assert_int_equal(run.paddr.raw, PADDR + PAGE);
    refuse(&f, fit, SK_ERR_NO_MEMORY, SK_DMA_ARENA_FAILURE_CONSTRAINT);
    fit.highest.raw = PADDR + 5 * PAGE - 2; /* the last byte of a page is missing */
    refuse(&f, fit, SK_ERR_NO_MEMORY, SK_DMA_ARENA_FAILURE_CONSTRAINT);
    fit.highest.raw++;
    assert_int_equal(sk_dma_arena_alloc(&f.arena, &fit, &run), SK_OK);
    assert_int_equal(run.paddr.raw, PADDR + 3 * PAGE);
    fit.lowest.raw = PADDR + 30 * PAGE;
    fit.highest.raw = UINT64_MAX;
    assert_int_equal(sk_dma_arena_alloc(&f.arena, &fit, &run), SK_OK);
    assert_int_equal(run.paddr.raw, PADDR + 30 * PAGE);
    fit.lowest.raw = PADDR + 32 * PAGE;
    refuse(&f, fit, SK_ERR_NO_MEMORY, SK_DMA_ARENA_FAILURE_CONSTRAINT);
    fit.lowest.raw = 0;
    fit.highest.raw = PADDR - 1;
    refuse(&f, fit, SK_ERR_NO_MEMORY, SK_DMA_ARENA_FAILURE_CONSTRAINT);
    stop(&f);
}

static void test_dma_arena_alloc__a_whole_zone_of_any_size_comes_back(void **state)
{
    static const uint32_t sizes[] = { 1, 2, 63, 64, 65, 127, 128, 129, 1000, 4096, 5000 };

    (void)state;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct fixture f;
        struct sk_dma_run run;

        start_one(&f, sizes[i]);
        assert_int_equal(statistics_of(&f).pages_largest_free_run, sizes[i]);
        for (unsigned round = 0; round < 3; round++) {
            run = take(&f, sizes[i] * PAGE);
            assert_int_equal(run.paddr.raw, PADDR);
            assert_int_equal(statistics_of(&f).pages_largest_free_run, 0);
            refuse(&f, fit_of(1, 1), SK_ERR_NO_MEMORY, SK_DMA_ARENA_FAILURE_EXHAUSTED);
            give(&f, &run);
        }
        refuse(&f, fit_of(sizes[i] * PAGE + 1, 1), SK_ERR_NO_MEMORY,
               SK_DMA_ARENA_FAILURE_EXHAUSTED);
        stop(&f);
    }
}

/* Zones. */

static void test_dma_arena_alloc__neighbouring_zones_never_merge(void **state)
{
    /* For the CPU and physically, for the CPU only, physically only. */
    static const uint64_t cpu_gap[] = { 0, 0, PAGE };
    static const uint64_t paddr_gap[] = { 0, PAGE, 0 };

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct fixture f = { .zone_count = 0 };
        struct sk_dma_run run;

        add_zone(&f, CPU, PADDR, 64, 0);
        add_zone(&f, CPU + 64 * PAGE + cpu_gap[i], PADDR + 64 * PAGE + paddr_gap[i], 64, 0);
        start(&f);
        refuse(&f, fit_of(65 * PAGE, 1), SK_ERR_NO_MEMORY, SK_DMA_ARENA_FAILURE_FRAGMENTED);
        (void)take(&f, 40 * PAGE);
        run = take(&f, 30 * PAGE);
        assert_int_equal(run.paddr.raw, f.zones[1].paddr.raw);
        assert_ptr_equal(run.cpu, f.zones[1].cpu);
        run = take(&f, 24 * PAGE);
        assert_int_equal(run.paddr.raw, PADDR + 40 * PAGE);
        run = take(&f, 34 * PAGE);
        assert_int_equal(run.paddr.raw, f.zones[1].paddr.raw + 30 * PAGE);
        assert_int_equal(statistics_of(&f).pages_high_water, 128);
        assert_int_equal(statistics_of(&f).pages_live, 128);
        stop(&f);
    }
}

static void test_dma_arena_alloc__zone_flags_choose_the_zone(void **state)
{
    struct fixture f = { .zone_count = 0 };
    struct sk_dma_fit fit = fit_of(PAGE, 1);
    struct sk_dma_run run;

    (void)state;
    add_zone(&f, CPU, PADDR, 10, 0);
    add_zone(&f, CPU / 2, PADDR + 100 * PAGE, 10, SK_DMA_ZONE_UNCACHED);
    start(&f);
    fit.zone_flags = SK_DMA_ZONE_UNCACHED;
    assert_int_equal(sk_dma_arena_alloc(&f.arena, &fit, &run), SK_OK);
    assert_int_equal(run.paddr.raw, PADDR + 100 * PAGE);
    assert_ptr_equal(run.cpu, (void *)(uintptr_t)(CPU / 2));
    assert_int_equal(statistics_of(&f).pages_high_water, 11);
    give(&f, &run);
    fit.zone_flags = 0;
    assert_int_equal(sk_dma_arena_alloc(&f.arena, &fit, &run), SK_OK);
    assert_int_equal(run.paddr.raw, PADDR);
    fit.zone_flags = 4; /* no zone has it */
    refuse(&f, fit, SK_ERR_NO_MEMORY, SK_DMA_ARENA_FAILURE_CONSTRAINT);
    stop(&f);
}

/* Giving back. */

static void refuse_free(struct fixture *f, struct sk_dma_run run)
{
    struct sk_dma_arena_statistics before = statistics_of(f);
    struct sk_dma_arena_statistics after;
    unsigned lines = f->lines;

    assert_int_equal(sk_dma_arena_free(&f->arena, &run), SK_ERR_GONE);
    assert_int_equal(sk_dma_arena_quarantine(&f->arena, &run), SK_ERR_GONE);
    assert_int_equal(f->lines, lines + 2);
    after = statistics_of(f);
    before.failures[SK_DMA_ARENA_FAILURE_FREE] += 2;
    assert_memory_equal(&before, &after, sizeof(before));
    assert_true(sk_dma_arena_check(&f->arena));
}

static void test_dma_arena_free__second_free_is_gone(void **state)
{
    struct fixture f;
    struct sk_dma_run old;
    struct sk_dma_run fresh;

    (void)state;
    start_one(&f, 10);
    old = take(&f, 2 * PAGE);
    give(&f, &old);
    refuse_free(&f, old);
    fresh = take(&f, 2 * PAGE); /* the same pages in other hands */
    assert_ptr_equal(fresh.cpu, old.cpu);
    refuse_free(&f, old);
    give(&f, &fresh);
    stop(&f);
}

static void test_dma_arena_free__foreign_or_bent_handle_is_gone(void **state)
{
    struct fixture f;
    struct fixture other;
    struct sk_dma_run run;
    struct sk_dma_run bent;

    (void)state;
    start_one(&f, 10);
    memset(&other, 0, sizeof(other));
    add_zone(&other, CPU * 2, PADDR, 10, 0);
    start(&other);
    run = take(&f, 2 * PAGE);
    refuse_free(&f, take(&other, 2 * PAGE));
    memset(&bent, 0, sizeof(bent));
    refuse_free(&f, bent);
    bent = run;
    bent.page++;
    refuse_free(&f, bent);
    bent.page = 10;
    refuse_free(&f, bent);
    bent.page = 64;
    refuse_free(&f, bent);
    bent.page = UINT32_MAX;
    refuse_free(&f, bent);
    bent = run;
    bent.generation++;
    refuse_free(&f, bent);
    bent = run;
    bent.bytes = PAGE;
    refuse_free(&f, bent);
    bent = run;
    bent.paddr.raw += PAGE;
    refuse_free(&f, bent);
    assert_int_equal(sk_dma_arena_free(NULL, &run), SK_ERR_INVALID);
    assert_int_equal(sk_dma_arena_free(&f.arena, NULL), SK_ERR_INVALID);
    give(&f, &run);
    stop(&other);
    stop(&f);
}

static void test_dma_arena_quarantine__pages_never_come_back(void **state)
{
    struct fixture f;
    struct sk_dma_run run;

    (void)state;
    start_one(&f, 10);
    assert_int_equal(sk_dma_arena_quarantine(NULL, &run), SK_ERR_INVALID);
    assert_int_equal(sk_dma_arena_quarantine(&f.arena, NULL), SK_ERR_INVALID);
    run = take(&f, 3 * PAGE);
    assert_int_equal(sk_dma_arena_quarantine(&f.arena, &run), SK_OK);
    assert_true(sk_dma_arena_check(&f.arena));
    assert_int_equal(statistics_of(&f).pages_quarantined, 3);
    assert_int_equal(statistics_of(&f).pages_live, 0);
    assert_int_equal(statistics_of(&f).runs_live, 0);
    refuse_free(&f, run);
    refuse(&f, fit_of(8 * PAGE, 1), SK_ERR_NO_MEMORY, SK_DMA_ARENA_FAILURE_EXHAUSTED);
    assert_int_equal(take(&f, 7 * PAGE).paddr.raw, PADDR + 3 * PAGE);
    assert_int_equal(sk_dma_arena_find(&f.arena, run.cpu, &run), SK_ERR_NOT_FOUND);
    stop(&f);
}

static void test_dma_arena_find__only_the_first_byte_of_a_live_run(void **state)
{
    struct fixture f = { .zone_count = 0 };
    struct sk_dma_run run;
    struct sk_dma_run found;
    uint8_t *cpu;

    (void)state;
    add_zone(&f, CPU * 2, PADDR, 4, 0);
    add_zone(&f, CPU, PADDR + 100 * PAGE, 10, 0);
    start(&f);
    run = take(&f, 5 * PAGE);
    cpu = run.cpu;
    assert_int_equal(sk_dma_arena_find(&f.arena, cpu, &found), SK_OK);
    assert_memory_equal(&run, &found, sizeof(run));
    assert_int_equal(sk_dma_arena_find(&f.arena, cpu + 1, &found), SK_ERR_NOT_FOUND);
    assert_int_equal(sk_dma_arena_find(&f.arena, cpu + PAGE, &found), SK_ERR_NOT_FOUND);
    assert_int_equal(sk_dma_arena_find(&f.arena, cpu - PAGE, &found), SK_ERR_NOT_FOUND);
    assert_int_equal(sk_dma_arena_find(&f.arena, cpu + 10 * PAGE, &found), SK_ERR_NOT_FOUND);
    assert_int_equal(sk_dma_arena_find(&f.arena, NULL, &found), SK_ERR_NOT_FOUND);
    assert_int_equal(sk_dma_arena_find(NULL, cpu, &found), SK_ERR_INVALID);
    assert_int_equal(sk_dma_arena_find(&f.arena, cpu, NULL), SK_ERR_INVALID);
    give(&f, &found);
    assert_int_equal(sk_dma_arena_find(&f.arena, cpu, &found), SK_ERR_NOT_FOUND);
    stop(&f);
}

static void test_dma_arena_get_statistics__counts_live_peak_and_high_water(void **state)
{
    struct fixture f;
    struct sk_dma_run a;
    struct sk_dma_run b;
    struct sk_dma_arena_statistics s;

    (void)state;
    start_one(&f, 100);
    a = take(&f, 10 * PAGE);
    b = take(&f, 20 * PAGE);
    give(&f, &a);
    (void)take(&f, 15 * PAGE);
    give(&f, &b);
    s = statistics_of(&f);
    assert_int_equal(s.pages_total, 100);
    assert_int_equal(s.pages_live, 15);
    assert_int_equal(s.pages_peak, 35);
    assert_int_equal(s.pages_high_water, 45);
    assert_int_equal(s.pages_largest_free_run, 55);
    assert_int_equal(s.runs_live, 1);
    assert_int_equal(s.allocations, 3);
    stop(&f);
}

/* Every single flipped bit is noticed. */
static void flip_every_bit(struct fixture *f, void *memory, size_t bytes)
{
    uint8_t *b = memory;

    for (size_t bit = 0; bit < bytes * 8; bit++) {
        b[bit / 8] ^= (uint8_t)(1u << bit % 8);
        if (sk_dma_arena_check(&f->arena)) {
            fail_msg("byte %zu, bit %zu of %zu bytes", bit / 8, bit % 8, bytes);
        }
        b[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    assert_true(sk_dma_arena_check(&f->arena));
}

static void test_dma_arena_check__broken_metadata_is_found(void **state)
{
    struct fixture f;
    struct sk_dma_run run;

    (void)state;
    start_one(&f, 70);
    run = take(&f, 3 * PAGE);
    (void)take(&f, 5 * PAGE);
    (void)take(&f, 60 * PAGE);
    give(&f, &run);
    flip_every_bit(&f, f.arena.tree.starts, f.arena.tree.bucket_count * sizeof(uint64_t));
    for (uint32_t i = 0; i <= f.arena.tree.top; i++) {
        flip_every_bit(&f, f.arena.tree.levels[i], sizeof(uint32_t));
    }
    for (uint32_t page = 0; page < 70; page++) {
        flip_every_bit(&f, &f.arena.tree.tags[page].pages, sizeof(uint32_t));
    }
    f.arena.statistics.pages_live--;
    assert_false(sk_dma_arena_check(&f.arena));
    f.arena.statistics.pages_live++;
    f.arena.statistics.runs_live--;
    assert_false(sk_dma_arena_check(&f.arena));
    f.arena.statistics.runs_live++;
    stop(&f);
}

/* Random calls beside a model: an array of pages, searched from the bottom. */

#define MODEL_PAGES 70000 /* enough for a tree of four levels */

struct model {
    struct fixture f;
    uint64_t seed;
    unsigned step;
    unsigned check_every; /* steps; 0 means 1 */
    uint8_t taken[ZONE_MAX][MODEL_PAGES];
    uint64_t taken_pages;
    struct sk_dma_run runs[MODEL_PAGES];
    size_t run_count;
};

static uint64_t random_below(struct model *m, uint64_t end)
{
    m->seed ^= m->seed << 13;
    m->seed ^= m->seed >> 7;
    m->seed ^= m->seed << 17;
    return (m->seed >> 11) % end;
}

static bool model_fits(const struct sk_dma_zone *zone, const uint8_t *taken, uint64_t page,
                       const struct sk_dma_fit *fit)
{
    uint64_t pages = (fit->bytes + PAGE - 1) / PAGE;
    uint64_t first = zone->paddr.raw + page * PAGE;
    uint64_t last = first + pages * PAGE - 1;
    uint64_t device = first + fit->bias;

    if (page + pages > zone->bytes / PAGE || first < fit->lowest.raw || last > fit->highest.raw ||
        device % fit->alignment != 0) {
        return false;
    }
    if (fit->boundary != 0 &&
        device / fit->boundary != (device + fit->bytes - 1) / fit->boundary) {
        return false;
    }
    for (uint64_t i = 0; i < pages; i++) {
        if (taken[page + i]) {
            return false;
        }
    }
    return true;
}

/* Finds the place by looking at every page. */
static bool model_find(struct model *m, const struct sk_dma_fit *fit, size_t *out_zone,
                       uint64_t *out_page)
{
    for (size_t z = 0; z < m->f.zone_count; z++) {
        const struct sk_dma_zone *zone = &m->f.zones[z];

        if ((zone->flags & fit->zone_flags) != fit->zone_flags) {
            continue;
        }
        for (uint64_t page = 0; page < zone->bytes / PAGE; page++) {
            if (model_fits(zone, m->taken[z], page, fit)) {
                *out_zone = z;
                *out_page = page;
                return true;
            }
        }
    }
    return false;
}

static struct sk_dma_fit random_fit(struct model *m, uint64_t pages_max)
{
    uint64_t shape = random_below(m, 16);
    struct sk_dma_fit fit = fit_of(1 + random_below(m, random_below(m, pages_max * PAGE) + 1), 1);

    if (shape & 1) {
        fit.alignment = UINT64_C(1) << random_below(m, 20);
    }
    if (shape & 2) {
        do {
            fit.boundary = UINT64_C(1) << random_below(m, 24);
        } while (fit.boundary < fit.bytes);
    }
    if (shape & 4) {
        const struct sk_dma_zone *zone = &m->f.zones[random_below(m, m->f.zone_count)];

        fit.lowest.raw = zone->paddr.raw + random_below(m, zone->bytes);
        fit.highest.raw = fit.lowest.raw + (fit.bytes + PAGE) + random_below(m, 2 * zone->bytes);
    }
    if (shape & 8) {
        fit.bias = random_below(m, UINT64_C(1) << 50) * PAGE;
        fit.zone_flags = random_below(m, 4) == 0 ? SK_DMA_ZONE_UNCACHED : 0;
    }
    return fit;
}

#define AGREE(condition)                                                                        \
    do {                                                                                        \
        if (!(condition)) {                                                                     \
            fail_msg("%s, line %d, at step %u of seed %llu", #condition, __LINE__, m->step,     \
                     (unsigned long long)seed);                                                 \
        }                                                                                       \
    } while (0)

static void model_alloc(struct model *m, uint64_t seed, uint64_t pages_max)
{
    struct sk_dma_fit fit = random_fit(m, pages_max);
    struct sk_dma_run run;
    size_t zone;
    uint64_t page;
    enum sk_status status = sk_dma_arena_alloc(&m->f.arena, &fit, &run);

    if (!model_find(m, &fit, &zone, &page)) {
        AGREE(status == SK_ERR_NO_MEMORY);
        return;
    }
    AGREE(status == SK_OK);
    AGREE(run.cpu == (uint8_t *)m->f.zones[zone].cpu + page * PAGE);
    AGREE(run.paddr.raw == m->f.zones[zone].paddr.raw + page * PAGE);
    AGREE(run.bytes == (fit.bytes + PAGE - 1) / PAGE * PAGE);
    memset(&m->taken[zone][page], 1, run.bytes / PAGE);
    m->taken_pages += run.bytes / PAGE;
    m->runs[m->run_count++] = run;
}

static void model_free(struct model *m, uint64_t seed)
{
    size_t index;
    struct sk_dma_run run;

    if (m->run_count == 0) {
        return;
    }
    index = random_below(m, m->run_count);
    run = m->runs[index];
    AGREE(sk_dma_arena_free(&m->f.arena, &run) == SK_OK);
    AGREE(sk_dma_arena_free(&m->f.arena, &run) == SK_ERR_GONE);
    for (size_t z = 0; z < m->f.zone_count; z++) {
        uint64_t offset = run.paddr.raw - m->f.zones[z].paddr.raw;

        if (offset < m->f.zones[z].bytes) {
            memset(&m->taken[z][offset / PAGE], 0, run.bytes / PAGE);
        }
    }
    m->taken_pages -= run.bytes / PAGE;
    m->runs[index] = m->runs[--m->run_count];
}

/* Random calls; the share of allocations swings so that the arena fills up and empties. */
static void run_model(struct model *m, uint64_t seed, unsigned steps, uint64_t pages_max)
{
    m->seed = seed;
    start(&m->f);
    m->f.log.write = NULL;
    for (m->step = 0; m->step < steps; m->step++) {
        uint64_t share = m->step / 2000 % 2 != 0 ? 35 : 65;

        if (random_below(m, 100) < share) {
            model_alloc(m, seed, pages_max);
        } else {
            model_free(m, seed);
        }
        if (m->check_every == 0 || m->step % m->check_every == 0) {
            AGREE(sk_dma_arena_check(&m->f.arena));
        }
        AGREE(statistics_of(&m->f).pages_live == m->taken_pages);
        AGREE(statistics_of(&m->f).runs_live == m->run_count);
    }
    while (m->run_count > 0) {
        model_free(m, seed);
    }
    AGREE(statistics_of(&m->f).pages_live == 0);
    stop(&m->f);
}

static struct model *new_model(void)
{
    struct model *m = calloc(1, sizeof(*m));

    assert_non_null(m);
    return m;
}

static void test_dma_arena_alloc__random_calls_in_one_word_match_the_model(void **state)
{
    (void)state;
    for (uint64_t pages = 1; pages <= 64; pages += 9) {
        struct model *m = new_model();

        add_zone(&m->f, CPU, PADDR + 5 * PAGE, pages, 0);
        run_model(m, 1000 + pages, 20000, 8);
        free(m);
    }
}

static void test_dma_arena_alloc__random_calls_in_one_zone_match_the_model(void **state)
{
    struct model *m = new_model();

    (void)state;
    add_zone(&m->f, CPU, PADDR + 13 * PAGE, 700, 0);
    run_model(m, 42, 60000, 24);
    free(m);
}

static void test_dma_arena_alloc__random_large_runs_match_the_model(void **state)
{
    struct model *m = new_model();

    (void)state;
    add_zone(&m->f, CPU, PADDR, 1400, 0);
    run_model(m, 7, 40000, 600);
    free(m);
}

static void test_dma_arena_alloc__random_calls_in_many_zones_match_the_model(void **state)
{
    struct model *m = new_model();

    (void)state;
    add_zone(&m->f, CPU, PADDR, 64, 0);
    add_zone(&m->f, CPU + 64 * PAGE, PADDR + 64 * PAGE, 1, 0);
    add_zone(&m->f, CPU + 65 * PAGE, PADDR + 100 * PAGE, 200, SK_DMA_ZONE_UNCACHED);
    add_zone(&m->f, CPU / 2, PADDR + 300 * PAGE, 127, 0);
    run_model(m, 99, 60000, 24);
    free(m);
}

static void test_dma_arena_alloc__random_calls_in_a_high_tree_match_the_model(void **state)
{
    struct model *m = new_model();

    (void)state;
    add_zone(&m->f, CPU, PADDR, 2000, 0);
    add_zone(&m->f, CPU + MODEL_PAGES * PAGE, PADDR + MODEL_PAGES * PAGE, MODEL_PAGES, 0);
    m->check_every = 50;
    run_model(m, 11, 8000, 300);
    assert_int_equal(m->f.arena.tree.top, 3);
    free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dma_arena_metadata_bytes__unusable_zones_need_nothing),
        cmocka_unit_test(test_dma_arena_metadata_bytes__large_zone_stays_below_half_a_percent),
        cmocka_unit_test(test_dma_arena_init__bad_zones_are_refused),
        cmocka_unit_test(test_dma_arena_init__bad_zone_is_refused),
        cmocka_unit_test(test_dma_arena_init__bad_metadata_is_refused),
        cmocka_unit_test(test_dma_arena_init__metadata_inside_a_zone_is_refused),
        cmocka_unit_test(test_dma_arena_alloc__takes_the_lowest_address_first),
        cmocka_unit_test(test_dma_arena_alloc__missing_argument_is_invalid),
        cmocka_unit_test(test_dma_arena_alloc__impossible_request_is_invalid),
        cmocka_unit_test(test_dma_arena_alloc__failures_are_told_apart),
        cmocka_unit_test(test_dma_arena_alloc__alignment_is_of_the_device_address),
        cmocka_unit_test(test_dma_arena_alloc__boundary_is_not_crossed),
        cmocka_unit_test(test_dma_arena_alloc__window_limits_the_whole_run),
        cmocka_unit_test(test_dma_arena_alloc__a_whole_zone_of_any_size_comes_back),
        cmocka_unit_test(test_dma_arena_alloc__neighbouring_zones_never_merge),
        cmocka_unit_test(test_dma_arena_alloc__zone_flags_choose_the_zone),
        cmocka_unit_test(test_dma_arena_free__second_free_is_gone),
        cmocka_unit_test(test_dma_arena_free__foreign_or_bent_handle_is_gone),
        cmocka_unit_test(test_dma_arena_quarantine__pages_never_come_back),
        cmocka_unit_test(test_dma_arena_find__only_the_first_byte_of_a_live_run),
        cmocka_unit_test(test_dma_arena_get_statistics__counts_live_peak_and_high_water),
        cmocka_unit_test(test_dma_arena_check__broken_metadata_is_found),
        cmocka_unit_test(test_dma_arena_alloc__random_calls_in_one_word_match_the_model),
        cmocka_unit_test(test_dma_arena_alloc__random_calls_in_one_zone_match_the_model),
        cmocka_unit_test(test_dma_arena_alloc__random_large_runs_match_the_model),
        cmocka_unit_test(test_dma_arena_alloc__random_calls_in_many_zones_match_the_model),
        cmocka_unit_test(test_dma_arena_alloc__random_calls_in_a_high_tree_match_the_model),
    };

    return cmocka_run_group_tests_name("dma_arena", tests, NULL, NULL);
}
