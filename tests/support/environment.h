/* SPDX-License-Identifier: MIT */
/*
 * The surroundings that tests give to the library: a clock that only moves
 * when asked, a log that remembers, memory whose CPU, physical and device
 * addresses are three different things, and hooks that fail on the Nth call.
 *
 *   arena memory    one zone, physical from TEST_PADDR on
 *   foreign memory  pages whose physical order is scrambled, from TEST_FOREIGN_PADDR on
 *   the device      sees a physical address p at p + TEST_DEVICE_OFFSET
 */
#ifndef TESTS_ENVIRONMENT_H
#define TESTS_ENVIRONMENT_H

#include <skio/skio.h>

#define TEST_PADDR         UINT64_C(0x80000000)
#define TEST_FOREIGN_PADDR UINT64_C(0x200000000)
#define TEST_DEVICE_OFFSET UINT64_C(0x4000000000)

#define TEST_CACHE_LINE    64u

struct test_environment {
    /* What the library gets. */
    struct sk_platform platform;
    struct sk_log log;
    struct sk_dma_arena arena;
    struct sk_dma_domain domain;

    /* The clock: each look moves it by `clock_step_ns`. */
    uint64_t clock_ns;
    uint64_t clock_step_ns;
    uint64_t clock_looks;

    /* Called by the wait hook (after moving the clock by 1 us): lets a device run. */
    void (*on_wait)(void *context);
    void *on_wait_context;
    uint64_t waits;

    /* Called at each look at the clock: a device that works meanwhile. */
    void (*on_clock)(void *context);
    void *on_clock_context;

    /* The log. */
    unsigned lines[SK_LOG_LEVEL_COUNT];
    char last_line[SK_LOG_LINE_BYTES];
    bool print; /* also to stderr */

    /* The Nth fallible hook call from now on fails (1: the next); 0: none. */
    unsigned fail_call;
    unsigned calls; /* fallible hook calls so far */

    /* What map_mmio answers with: registered ranges. */
    struct sk_mmio mmio[8];
    uint64_t mmio_base[8];
    size_t mmio_count;
    unsigned mmio_mapped; /* maps less unmaps */

    /* Interrupts: one handler for each line (cells[0] below 32). */
    void (*handler[32])(void *argument);
    void *handler_argument[32];

    /* Caches: calls so far; and, once enabled, memory as the device sees it. */
    unsigned cleans;
    unsigned invalidates;
    uint8_t *zone_beneath;
    uint8_t *foreign_beneath;

    /* Memory. */
    uint8_t *zone_memory;
    size_t zone_bytes;
    uint8_t *foreign_memory;
    size_t foreign_pages;
    uint32_t *foreign_order; /* page of the CPU -> physical page */
    void *metadata;
    struct sk_dma_zone zone;
    struct sk_dma_window windows[2];
};

/* Sets everything up with `pages` of arena and as many of foreign memory; fails the test if it cannot. */
void test_environment_init(struct test_environment *env, size_t pages);

/*
 * Takes everything down, and fails the test if a buffer, mapping, run, register
 * mapping or interrupt handler is left, or an invariant is broken.
 */
void test_environment_deinit(struct test_environment *env);

/* The same, without looking for leaks: after a deliberate quarantine. */
void test_environment_abandon(struct test_environment *env);

/* Page-aligned foreign memory: `page` counts from 0. */
void *test_environment_foreign(struct test_environment *env, size_t page);

/* What a device finds at an address: a CPU pointer, or NULL if it reaches nothing there. */
void *test_environment_reach(const struct test_environment *env, uint64_t daddr, uint64_t bytes);

/*
 * From now on the CPU's view and the device's differ until cache maintenance
 * copies lines between them: test_environment_reach gives the device's.
 */
void test_environment_enable_caches(struct test_environment *env);

/* Puts a device behind map_mmio(base). */
void test_environment_add_mmio(struct test_environment *env, uint64_t base,
                               const struct sk_mmio *mmio);

/* Raises an interrupt line; true if somebody handles it. */
bool test_environment_interrupt(struct test_environment *env, uint32_t line);

#endif
