/* SPDX-License-Identifier: MIT */
#include "support/environment.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Counts one fallible call; true if it is the one that shall fail. */
static bool shall_fail(struct test_environment *env)
{
    env->calls++;
    return env->fail_call != 0 && --env->fail_call == 0;
}

static void write_log(void *context, enum sk_log_level level, const char *line)
{
    struct test_environment *env = context;

    env->lines[level]++;
    (void)snprintf(env->last_line, sizeof(env->last_line), "%s", line);
    if (env->print) {
        (void)fprintf(stderr, "%s: %s\n", sk_log_level_name(level), line);
    }
}

static uint64_t now_ns(void *context)
{
    struct test_environment *env = context;

    env->clock_looks++;
    if (env->on_clock != NULL) {
        env->on_clock(env->on_clock_context);
    }
    env->clock_ns += env->clock_step_ns;
    return env->clock_ns;
}

static void wait_for(void *context, const sk_atomic_u32 *word, uint32_t seen, uint64_t until_ns)
{
    struct test_environment *env = context;

    env->waits++;
    if (word != NULL && *word != seen) {
        return;
    }
    if (env->clock_ns < until_ns) {
        env->clock_ns += until_ns - env->clock_ns < 1000 ? until_ns - env->clock_ns : 1000;
    }
    if (env->on_wait != NULL) {
        env->on_wait(env->on_wait_context);
    }
}

static enum sk_status map_mmio(void *context, sk_paddr base, uint64_t bytes,
                               struct sk_mmio *out_mmio)
{
    struct test_environment *env = context;

    if (shall_fail(env)) {
        return SK_ERR_NO_MEMORY;
    }
    for (size_t i = 0; i < env->mmio_count; i++) {
        if (env->mmio_base[i] == base.raw && bytes <= env->mmio[i].bytes) {
            *out_mmio = env->mmio[i];
            env->mmio_mapped++;
            return SK_OK;
        }
    }
    return SK_ERR_UNREACHABLE;
}

static void unmap_mmio(void *context, struct sk_mmio *mmio)
{
    struct test_environment *env = context;

    assert_true(env->mmio_mapped > 0);
    env->mmio_mapped--;
    memset(mmio, 0, sizeof(*mmio));
}

static enum sk_status attach_interrupt(void *context, const struct sk_interrupt *interrupt,
                                       void (*handler)(void *argument), void *argument)
{
    struct test_environment *env = context;

    if (shall_fail(env)) {
        return SK_ERR_NO_MEMORY;
    }
    assert_true(interrupt->cell_count >= 1 && interrupt->cells[0] < 32);
    assert_null((void *)(uintptr_t)env->handler[interrupt->cells[0]]);
    env->handler[interrupt->cells[0]] = handler;
    env->handler_argument[interrupt->cells[0]] = argument;
    return SK_OK;
}

static void detach_interrupt(void *context, const struct sk_interrupt *interrupt)
{
    struct test_environment *env = context;

    assert_non_null((void *)(uintptr_t)env->handler[interrupt->cells[0]]);
    env->handler[interrupt->cells[0]] = NULL;
}

static enum sk_status physical_of(void *context, const void *cpu, sk_paddr *out_paddr)
{
    struct test_environment *env = context;
    size_t zone_offset = (size_t)((uintptr_t)cpu - (uintptr_t)env->zone_memory);
    size_t foreign_offset = (size_t)((uintptr_t)cpu - (uintptr_t)env->foreign_memory);

    if (shall_fail(env)) {
        return SK_ERR_UNREACHABLE;
    }
    if (zone_offset < env->zone_bytes) {
        *out_paddr = sk_paddr_make(TEST_PADDR + zone_offset);
        return SK_OK;
    }
    if (foreign_offset < env->foreign_pages * SK_DMA_PAGE_BYTES) {
        *out_paddr = sk_paddr_make(
            TEST_FOREIGN_PADDR +
            (uint64_t)env->foreign_order[foreign_offset / SK_DMA_PAGE_BYTES] * SK_DMA_PAGE_BYTES +
            foreign_offset % SK_DMA_PAGE_BYTES);
        return SK_OK;
    }
    return SK_ERR_NOT_FOUND;
}

/* Where the memory beneath the caches stands for a CPU address; NULL: there are no caches. */
static uint8_t *beneath(const struct test_environment *env, const uint8_t *cpu)
{
    size_t zone_offset = (size_t)((uintptr_t)cpu - (uintptr_t)env->zone_memory);
    size_t foreign_offset = (size_t)((uintptr_t)cpu - (uintptr_t)env->foreign_memory);

    if (env->zone_beneath == NULL) {
        return NULL;
    }
    if (zone_offset < env->zone_bytes) {
        return env->zone_beneath + zone_offset;
    }
    assert_true(foreign_offset < env->foreign_pages * SK_DMA_PAGE_BYTES);
    return env->foreign_beneath + foreign_offset;
}

/* Moves whole lines up or down, as hardware does. */
static void move_lines(struct test_environment *env, const void *cpu, size_t bytes, bool down)
{
    uintptr_t line = (uintptr_t)cpu & ~(uintptr_t)(TEST_CACHE_LINE - 1);

    for (; line < (uintptr_t)cpu + bytes; line += TEST_CACHE_LINE) {
        uint8_t *upper = (uint8_t *)line;
        uint8_t *lower = beneath(env, upper);

        if (lower != NULL) {
            memcpy(down ? lower : upper, down ? upper : lower, TEST_CACHE_LINE);
        }
    }
}

static void cache_clean(void *context, const void *cpu, size_t bytes)
{
    struct test_environment *env = context;

    move_lines(env, cpu, bytes, true);
    env->cleans++;
}

static void cache_invalidate(void *context, const void *cpu, size_t bytes)
{
    struct test_environment *env = context;

    move_lines(env, cpu, bytes, false);
    env->invalidates++;
}

void test_environment_enable_caches(struct test_environment *env)
{
    env->zone_beneath = aligned_alloc(SK_DMA_PAGE_BYTES, env->zone_bytes);
    env->foreign_beneath = aligned_alloc(SK_DMA_PAGE_BYTES, env->zone_bytes);
    assert_non_null(env->zone_beneath);
    assert_non_null(env->foreign_beneath);
    memset(env->zone_beneath, 0x3c, env->zone_bytes);
    memset(env->foreign_beneath, 0xc3, env->zone_bytes);
}

static void init_platform(struct test_environment *env)
{
    env->log = (struct sk_log){ .write = write_log, .context = env, .level = SK_LOG_DEBUG };
    env->print = getenv("TEST_LOG") != NULL;
    env->clock_ns = 1;
    env->platform = (struct sk_platform){
        .context = env,
        .log = &env->log,
        .now_ns = now_ns,
        .wait = wait_for,
        .map_mmio = map_mmio,
        .unmap_mmio = unmap_mmio,
        .attach_interrupt = attach_interrupt,
        .detach_interrupt = detach_interrupt,
        .physical_of = physical_of,
        .cache_clean = cache_clean,
        .cache_invalidate = cache_invalidate,
    };
}

static void init_memory(struct test_environment *env, size_t pages)
{
    env->zone_bytes = pages * SK_DMA_PAGE_BYTES;
    env->zone_memory = aligned_alloc(SK_DMA_PAGE_BYTES, env->zone_bytes);
    env->foreign_pages = pages;
    env->foreign_memory = aligned_alloc(SK_DMA_PAGE_BYTES, env->zone_bytes);
    env->foreign_order = malloc(pages * sizeof(uint32_t));
    assert_non_null(env->zone_memory);
    assert_non_null(env->foreign_memory);
    assert_non_null(env->foreign_order);
    memset(env->zone_memory, 0xa5, env->zone_bytes);
    memset(env->foreign_memory, 0x5a, env->zone_bytes);
    /* Pairs of neighbours in reverse order: some pages merge, most do not. */
    for (size_t i = 0; i < pages; i++) {
        size_t pair = i / 2;
        size_t pairs = (pages + 1) / 2;

        env->foreign_order[i] = (uint32_t)((pairs - 1 - pair) * 2 + i % 2);
    }
}

void test_environment_init(struct test_environment *env, size_t pages)
{
    struct sk_dma_domain_config config;
    size_t metadata_bytes;

    memset(env, 0, sizeof(*env));
    init_platform(env);
    init_memory(env, pages);
    env->zone = (struct sk_dma_zone){ .cpu = env->zone_memory,
                                      .paddr = { TEST_PADDR },
                                      .bytes = env->zone_bytes };
    metadata_bytes = sk_dma_arena_metadata_bytes(&env->zone, 1);
    assert_true(metadata_bytes > 0);
    env->metadata = aligned_alloc(64, (metadata_bytes + 63) / 64 * 64);
    assert_int_equal(sk_dma_arena_init(&env->arena, &env->zone, 1, env->metadata, metadata_bytes,
                                       &env->log),
                     SK_OK);
    env->windows[0] = (struct sk_dma_window){ { TEST_PADDR },
                                              { TEST_PADDR + TEST_DEVICE_OFFSET },
                                              env->zone_bytes };
    env->windows[1] = (struct sk_dma_window){ { TEST_FOREIGN_PADDR },
                                              { TEST_FOREIGN_PADDR + TEST_DEVICE_OFFSET },
                                              env->zone_bytes + 2 * SK_DMA_PAGE_BYTES };
    config = (struct sk_dma_domain_config){ .platform = &env->platform,
                                            .arena = &env->arena,
                                            .windows = env->windows,
                                            .window_count = 2,
                                            .coherent = true };
    assert_int_equal(sk_dma_domain_init(&env->domain, &config), SK_OK);
}

static void release_memory(struct test_environment *env)
{
    free(env->zone_memory);
    free(env->foreign_memory);
    free(env->zone_beneath);
    free(env->foreign_beneath);
    free(env->foreign_order);
    free(env->metadata);
}

void test_environment_deinit(struct test_environment *env)
{
    struct sk_dma_arena_statistics arena;

    env->fail_call = 0;
    assert_int_equal(sk_dma_domain_deinit(&env->domain), SK_OK);
    sk_dma_arena_get_statistics(&env->arena, &arena);
    assert_int_equal(arena.pages_live, 0);
    assert_int_equal(arena.pages_quarantined, 0);
    assert_true(sk_dma_arena_check(&env->arena));
    assert_int_equal(env->mmio_mapped, 0);
    for (size_t i = 0; i < sizeof(env->handler) / sizeof(env->handler[0]); i++) {
        assert_null((void *)(uintptr_t)env->handler[i]);
    }
    release_memory(env);
}

void test_environment_abandon(struct test_environment *env)
{
    assert_true(sk_dma_arena_check(&env->arena));
    release_memory(env);
}

void *test_environment_foreign(struct test_environment *env, size_t page)
{
    assert_true(page < env->foreign_pages);
    return env->foreign_memory + page * SK_DMA_PAGE_BYTES;
}

void *test_environment_reach(const struct test_environment *env, uint64_t daddr, uint64_t bytes)
{
    uint64_t offset = daddr - TEST_DEVICE_OFFSET - TEST_PADDR;
    uint8_t *foreign =
        env->foreign_beneath != NULL ? env->foreign_beneath : env->foreign_memory;
    uint64_t physical_page;

    if (offset < env->zone_bytes && bytes <= env->zone_bytes - offset) {
        return (env->zone_beneath != NULL ? env->zone_beneath : env->zone_memory) + offset;
    }
    offset = daddr - TEST_DEVICE_OFFSET - TEST_FOREIGN_PADDR;
    physical_page = offset / SK_DMA_PAGE_BYTES;
    for (size_t page = 0; page < env->foreign_pages; page++) {
        if (env->foreign_order[page] == physical_page) {
            /* Physically contiguous for this page, and for its pair's second page. */
            uint64_t room = SK_DMA_PAGE_BYTES - offset % SK_DMA_PAGE_BYTES;

            if (page % 2 == 0 && page + 1 < env->foreign_pages) {
                room += SK_DMA_PAGE_BYTES;
            }
            return bytes <= room ? foreign + page * SK_DMA_PAGE_BYTES + offset % SK_DMA_PAGE_BYTES
                                 : NULL;
        }
    }
    return NULL;
}

void test_environment_add_mmio(struct test_environment *env, uint64_t base,
                               const struct sk_mmio *mmio)
{
    assert_true(env->mmio_count < sizeof(env->mmio) / sizeof(env->mmio[0]));
    env->mmio_base[env->mmio_count] = base;
    env->mmio[env->mmio_count++] = *mmio;
}

bool test_environment_interrupt(struct test_environment *env, uint32_t line)
{
    assert_true(line < 32);
    if (env->handler[line] == NULL) {
        return false;
    }
    env->handler[line](env->handler_argument[line]);
    return true;
}
