/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "support/iommu.h"

#define PAGES 32u
#define PAGE  ((uint64_t)SK_DMA_PAGE_BYTES)

static int setup(void **state)
{
    static struct test_environment env;

    test_environment_init(&env, PAGES);
    *state = &env;
    return 0;
}

static int teardown(void **state)
{
    test_environment_deinit(*state);
    return 0;
}

/* For tests that quarantine on purpose. */
static int teardown_abandon(void **state)
{
    test_environment_abandon(*state);
    return 0;
}

static uint64_t pages_live(const struct test_environment *env)
{
    struct sk_dma_arena_statistics statistics;

    sk_dma_arena_get_statistics(&env->arena, &statistics);
    assert_true(sk_dma_arena_check(&env->arena));
    return statistics.pages_live;
}

static uint64_t buffers_live(const struct sk_dma_domain *domain)
{
    struct sk_dma_domain_statistics statistics;
    uint64_t count = 0;

    sk_dma_domain_get_statistics(domain, &statistics);
    for (const struct sk_io_buffer *buffer = domain->live; buffer != NULL; buffer = buffer->next) {
        assert_ptr_equal(*buffer->link, buffer);
        count++;
    }
    assert_int_equal(statistics.buffers_live, count);
    return count;
}

/* A domain like the environment's, with differences that the caller filled in. */
static void make_domain(struct test_environment *env, struct sk_dma_domain *domain,
                        struct sk_dma_domain_config config)
{
    config.platform = &env->platform;
    config.arena = &env->arena;
    if (config.iommu == NULL && config.windows == NULL) {
        config.windows = env->windows;
        config.window_count = 2;
    }
    assert_int_equal(sk_dma_domain_init(domain, &config), SK_OK);
}

static bool all_bytes_are(const void *memory, uint64_t bytes, uint8_t value)
{
    for (uint64_t i = 0; i < bytes; i++) {
        if (((const uint8_t *)memory)[i] != value) {
            return false;
        }
    }
    return true;
}

/* Create */

static void test_io_buffer_create__sizes_are_rounded_zeroed_and_reachable(void **state)
{
    struct test_environment *env = *state;
    static const uint64_t sizes[] = { 1, 511, 512, 4095, 4096, 4097, 65536, 100000 };

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct sk_io_buffer buffer = SK_IO_BUFFER_EMPTY;
        sk_daddr address;

        memset(env->zone_memory, 0xa5, env->zone_bytes);
        assert_int_equal(sk_io_buffer_create(&buffer, &env->domain, sizes[i], 4096), SK_OK);
        assert_true(sk_io_buffer_is_valid(&buffer));
        assert_int_equal(sk_io_buffer_size(&buffer), sizes[i]);
        assert_int_equal(sk_io_buffer_capacity(&buffer), (sizes[i] + PAGE - 1) / PAGE * PAGE);
        /* The tail too: what shares a page with the data is seen by the device. */
        assert_true(all_bytes_are(sk_io_buffer_data(&buffer), sk_io_buffer_capacity(&buffer), 0));
        assert_int_equal(sk_io_buffer_address(&buffer, &address), SK_OK);
        assert_int_equal(address.raw % 4096, 0);
        assert_true(address.raw != (uintptr_t)sk_io_buffer_data(&buffer));
        assert_ptr_equal(
            test_environment_reach(env, address.raw, sk_io_buffer_capacity(&buffer)),
            sk_io_buffer_data(&buffer));
        assert_int_equal(buffers_live(&env->domain), 1);
        assert_int_equal(sk_io_buffer_destroy(&buffer), SK_OK);
        assert_int_equal(pages_live(env), 0);
    }
}

static void test_io_buffer_create__alignment_is_the_devices(void **state)
{
    struct test_environment *env = *state;
    struct sk_dma_window windows[1] = {
        { { TEST_PADDR }, { TEST_DEVICE_OFFSET + 3 * PAGE }, PAGES * PAGE }
    };
    struct sk_dma_domain domain;

    make_domain(env, &domain,
                (struct sk_dma_domain_config){ .windows = windows, .window_count = 1,
                                               .coherent = true });
    for (uint64_t alignment = 1; alignment <= 8 * PAGE; alignment *= 2) {
        struct sk_io_buffer buffer = SK_IO_BUFFER_EMPTY;
        sk_daddr address;

        assert_int_equal(sk_io_buffer_create(&buffer, &domain, 100, alignment), SK_OK);
        assert_int_equal(sk_io_buffer_address(&buffer, &address), SK_OK);
        assert_int_equal(address.raw % alignment, 0);
        assert_int_equal(sk_io_buffer_destroy(&buffer), SK_OK);
    }
    assert_int_equal(sk_dma_domain_deinit(&domain), SK_OK);
}

/* Creating must fail with `expected`, write one line, and change nothing. */
static void assert_refused(struct test_environment *env, struct sk_dma_domain *domain,
                           uint64_t size, uint64_t alignment, enum sk_status expected)
{
    struct sk_io_buffer buffer = SK_IO_BUFFER_EMPTY;
    unsigned lines = env->lines[SK_LOG_ERROR];
    uint64_t live = pages_live(env);

    assert_int_equal(sk_io_buffer_create(&buffer, domain, size, alignment), expected);
    assert_int_equal(env->lines[SK_LOG_ERROR], lines + 1);
    assert_non_null(strstr(env->last_line, "io_buffer"));
    assert_false(sk_io_buffer_is_valid(&buffer));
    assert_null(sk_io_buffer_data(&buffer));
    assert_int_equal(sk_io_buffer_size(&buffer), 0);
    assert_int_equal(sk_io_buffer_capacity(&buffer), 0);
    assert_int_equal(pages_live(env), live);
    assert_int_equal(buffers_live(domain), 0);
    assert_int_equal(sk_io_buffer_destroy(&buffer), SK_OK);
}

static void test_io_buffer_create__bad_sizes_refused(void **state)
{
    struct test_environment *env = *state;

    assert_refused(env, &env->domain, 0, 4096, SK_ERR_SIZE);
    assert_refused(env, &env->domain, UINT64_MAX, 4096, SK_ERR_SIZE);
    assert_refused(env, &env->domain, UINT64_MAX - 4095, 4096, SK_ERR_SIZE);
}

static void test_io_buffer_create__bad_alignments_refused(void **state)
{
    struct test_environment *env = *state;

    assert_refused(env, &env->domain, 4096, 0, SK_ERR_ALIGNMENT);
    assert_refused(env, &env->domain, 4096, 3, SK_ERR_ALIGNMENT);
    assert_refused(env, &env->domain, 4096, 4095, SK_ERR_ALIGNMENT);
    assert_refused(env, &env->domain, 4096, UINT64_MAX, SK_ERR_ALIGNMENT);
}

static void test_io_buffer_create__exhausted_arena_refused(void **state)
{
    struct test_environment *env = *state;
    struct sk_io_buffer all = SK_IO_BUFFER_EMPTY;
    struct sk_io_buffer more = SK_IO_BUFFER_EMPTY;
    unsigned lines;

    assert_refused(env, &env->domain, PAGES * PAGE + 1, 4096, SK_ERR_NO_MEMORY);
    assert_refused(env, &env->domain, UINT64_MAX / 2, 4096, SK_ERR_NO_MEMORY);
    assert_int_equal(sk_io_buffer_create(&all, &env->domain, PAGES * PAGE, 4096), SK_OK);
    lines = env->lines[SK_LOG_ERROR];
    assert_int_equal(sk_io_buffer_create(&more, &env->domain, 1, 1), SK_ERR_NO_MEMORY);
    assert_int_equal(env->lines[SK_LOG_ERROR], lines + 1);
    assert_int_equal(sk_io_buffer_destroy(&all), SK_OK);
    assert_int_equal(sk_io_buffer_create(&more, &env->domain, 1, 1), SK_OK);
    assert_int_equal(sk_io_buffer_destroy(&more), SK_OK);
}

static void test_io_buffer_create__a_handle_with_memory_refused(void **state)
{
    struct test_environment *env = *state;
    struct sk_io_buffer buffer = SK_IO_BUFFER_EMPTY;
    struct sk_io_buffer copy;

    assert_int_equal(sk_io_buffer_create(&buffer, &env->domain, 100, 64), SK_OK);
    memcpy(&copy, &buffer, sizeof(copy));
    assert_int_equal(sk_io_buffer_create(&buffer, &env->domain, 200, 64), SK_ERR_BUSY);
    assert_memory_equal(&copy, &buffer, sizeof(copy));
    assert_int_equal(sk_io_buffer_destroy(&buffer), SK_OK);
}

static void test_io_buffer_create__missing_arguments_refused(void **state)
{
    struct test_environment *env = *state;
    struct sk_io_buffer buffer = SK_IO_BUFFER_EMPTY;
    struct sk_dma_domain nothing = { 0 };

    assert_int_equal(sk_io_buffer_create(NULL, &env->domain, 1, 1), SK_ERR_INVALID);
    assert_int_equal(sk_io_buffer_create(&buffer, NULL, 1, 1), SK_ERR_INVALID);
    assert_int_equal(sk_io_buffer_create_constrained(&buffer, &env->domain, NULL), SK_ERR_INVALID);
    assert_int_equal(sk_io_buffer_create(&buffer, &nothing, 1, 1), SK_ERR_GONE);
}

static void test_io_buffer_create__outside_of_every_window_unreachable(void **state)
{
    struct test_environment *env = *state;
    struct sk_dma_window windows[1] = { { { 0 }, { 0 }, TEST_PADDR } };
    struct sk_dma_domain domain;

    make_domain(env, &domain,
                (struct sk_dma_domain_config){ .windows = windows, .window_count = 1,
                                               .coherent = true });
    assert_refused(env, &domain, 100, 64, SK_ERR_UNREACHABLE);
    assert_int_equal(sk_dma_domain_deinit(&domain), SK_OK);
}

static void test_io_buffer_create__the_second_window_serves(void **state)
{
    struct test_environment *env = *state;
    /* The first one reaches two pages, the second one the rest somewhere else. */
    struct sk_dma_window windows[2] = {
        { { TEST_PADDR }, { 0 }, 2 * PAGE },
        { { TEST_PADDR + 2 * PAGE }, { 0x1000000 }, (PAGES - 2) * PAGE },
    };
    struct sk_dma_domain domain;
    struct sk_io_buffer buffer = SK_IO_BUFFER_EMPTY;
    struct sk_io_buffer small = SK_IO_BUFFER_EMPTY;
    unsigned lines = env->lines[SK_LOG_ERROR];
    sk_daddr address;

    make_domain(env, &domain,
                (struct sk_dma_domain_config){ .windows = windows, .window_count = 2,
                                               .coherent = true });
    assert_int_equal(sk_io_buffer_create(&buffer, &domain, 3 * PAGE, 4096), SK_OK);
    assert_int_equal(sk_io_buffer_address(&buffer, &address), SK_OK);
    assert_int_equal(address.raw, 0x1000000);
    assert_int_equal(sk_io_buffer_create(&small, &domain, PAGE, 4096), SK_OK);
    assert_int_equal(sk_io_buffer_address(&small, &address), SK_OK);
    assert_int_equal(address.raw, 0);
    assert_int_equal(env->lines[SK_LOG_ERROR], lines); /* the first attempt was no fault */
    assert_int_equal(sk_io_buffer_destroy(&buffer), SK_OK);
    assert_int_equal(sk_io_buffer_destroy(&small), SK_OK);
    assert_int_equal(sk_dma_domain_deinit(&domain), SK_OK);
}

static void test_io_buffer_create__a_window_of_one_page_serves_one(void **state)
{
    struct test_environment *env = *state;
    struct sk_dma_window windows[1] = { { { TEST_PADDR + 3 * PAGE }, { 5 * PAGE }, PAGE } };
    struct sk_dma_domain domain;
    struct sk_io_buffer buffer = SK_IO_BUFFER_EMPTY;
    struct sk_io_buffer more = SK_IO_BUFFER_EMPTY;
    sk_daddr address;

    make_domain(env, &domain,
                (struct sk_dma_domain_config){ .windows = windows, .window_count = 1,
                                               .coherent = true });
    assert_int_equal(sk_io_buffer_create(&buffer, &domain, PAGE, 64), SK_OK);
    assert_int_equal(sk_io_buffer_address(&buffer, &address), SK_OK);
    assert_int_equal(address.raw, 5 * PAGE);
    assert_int_equal(sk_io_buffer_create(&more, &domain, PAGE, 64), SK_ERR_NO_MEMORY);
    assert_int_equal(sk_io_buffer_destroy(&buffer), SK_OK);
    assert_int_equal(sk_dma_domain_deinit(&domain), SK_OK);
}

static void test_io_buffer_create__windows_that_continue_each_other_serve_one_run(void **state)
{
    struct test_environment *env = *state;
    struct sk_dma_window windows[3] = {
        { { TEST_PADDR + 2 * PAGE }, { 0x1000000 + 2 * PAGE }, 2 * PAGE },
        { { TEST_PADDR }, { 0x1000000 }, 2 * PAGE },
        { { TEST_PADDR + 4 * PAGE }, { 0x1000000 + 4 * PAGE }, 1 * PAGE },
    };
    struct sk_dma_domain domain;
    struct sk_io_buffer buffer = SK_IO_BUFFER_EMPTY;
    sk_daddr address;

    make_domain(env, &domain,
                (struct sk_dma_domain_config){ .windows = windows, .window_count = 3,
                                               .coherent = true });
    assert_int_equal(sk_io_buffer_create(&buffer, &domain, 5 * PAGE, 4096), SK_OK);
    assert_int_equal(sk_io_buffer_address(&buffer, &address), SK_OK);
    assert_int_equal(address.raw, 0x1000000);
    assert_int_equal(sk_io_buffer_destroy(&buffer), SK_OK);
    assert_refused(env, &domain, 5 * PAGE + 1, 4096, SK_ERR_NO_MEMORY);
    assert_int_equal(sk_dma_domain_deinit(&domain), SK_OK);
}

static void test_io_buffer_create__a_window_off_the_page_grid_is_no_use(void **state)
{
    struct test_environment *env = *state;
    struct sk_dma_window windows[1] = { { { TEST_PADDR }, { 512 }, PAGES * PAGE } };
    struct sk_dma_domain domain;

    make_domain(env, &domain,
                (struct sk_dma_domain_config){ .windows = windows, .window_count = 1,
                                               .coherent = true });
    assert_refused(env, &domain, 100, 64, SK_ERR_UNREACHABLE);
    assert_int_equal(sk_dma_domain_deinit(&domain), SK_OK);
}

static void test_io_buffer_create__the_domains_limits_are_kept(void **state)
{
    struct test_environment *env = *state;
    const uint64_t base = TEST_PADDR + TEST_DEVICE_OFFSET;
    struct sk_dma_constraints limits = { .lowest = { base + 3 * PAGE },
                                         .highest = { base + 9 * PAGE - 1 },
                                         .alignment_bytes = 2 * PAGE,
                                         .boundary_bytes = 4 * PAGE };
    struct sk_io_buffer more = SK_IO_BUFFER_EMPTY;
    struct sk_dma_domain domain;
    struct sk_io_buffer buffer = SK_IO_BUFFER_EMPTY;
    sk_daddr address;

    make_domain(env, &domain,
                (struct sk_dma_domain_config){ .limits = limits, .coherent = true });
    assert_int_equal(sk_io_buffer_create(&buffer, &domain, 3 * PAGE, 64), SK_OK);
    assert_int_equal(sk_io_buffer_address(&buffer, &address), SK_OK);
    assert_int_equal(address.raw, base + 4 * PAGE);
    /* Pages behind the highest address are free, and no use. */
    assert_int_equal(sk_io_buffer_create(&more, &domain, 2 * PAGE, 64), SK_ERR_NO_MEMORY);
    assert_int_equal(sk_io_buffer_destroy(&buffer), SK_OK);
    assert_refused(env, &domain, 4 * PAGE + 1, 64, SK_ERR_RANGE);   /* beyond the boundary */
    assert_refused(env, &domain, 5 * PAGE + 1, 64, SK_ERR_RANGE);   /* beyond both ends */
    assert_int_equal(sk_dma_domain_deinit(&domain), SK_OK);
}

static void test_io_buffer_create_constrained__every_constraint_is_kept(void **state)
{
    struct test_environment *env = *state;
    const uint64_t base = TEST_PADDR + TEST_DEVICE_OFFSET;
    struct sk_dma_constraints wanted = { .size_bytes = 300,
                                         .alignment_bytes = 16,
                                         .boundary_bytes = 512,
                                         .lowest = { base + 5 * PAGE + 1 } };
    struct sk_io_buffer buffer = SK_IO_BUFFER_EMPTY;
    sk_daddr address;

    assert_int_equal(sk_io_buffer_create_constrained(&buffer, &env->domain, &wanted), SK_OK);
    assert_int_equal(sk_io_buffer_address(&buffer, &address), SK_OK);
    assert_int_equal(address.raw, base + 6 * PAGE);
    assert_int_equal(sk_io_buffer_destroy(&buffer), SK_OK);
    wanted.size_bytes = 513;
    assert_int_equal(sk_io_buffer_create_constrained(&buffer, &env->domain, &wanted),
                     SK_ERR_RANGE);
    wanted.size_bytes = 0;
    assert_int_equal(sk_io_buffer_create_constrained(&buffer, &env->domain, &wanted),
                     SK_ERR_SIZE);
}

static void test_io_buffer_create_constrained__a_preference_is_given_up_silently(void **state)
{
    struct test_environment *env = *state;
    struct sk_dma_constraints wanted = { .size_bytes = PAGE, .alignment_preferred = 8 * PAGE };
    struct sk_io_buffer buffers[PAGES] = { SK_IO_BUFFER_EMPTY };
    unsigned lines = env->lines[SK_LOG_ERROR];
    sk_daddr address;

    for (size_t i = 0; i < PAGES; i++) {
        assert_int_equal(sk_io_buffer_create_constrained(&buffers[i], &env->domain, &wanted),
                         SK_OK);
        assert_int_equal(sk_io_buffer_address(&buffers[i], &address), SK_OK);
        if (i < PAGES / 8) {
            assert_int_equal(address.raw % (8 * PAGE), 0);
        }
    }
    assert_int_equal(env->lines[SK_LOG_ERROR], lines);
    assert_int_equal(buffers_live(&env->domain), PAGES);
    for (size_t i = 0; i < PAGES; i++) {
        assert_int_equal(sk_io_buffer_destroy(&buffers[i]), SK_OK);
    }
}

/* Destroy and move */

static void test_io_buffer_destroy__twice_is_logged_and_refused(void **state)
{
    struct test_environment *env = *state;
    struct sk_io_buffer buffer = SK_IO_BUFFER_EMPTY;
    struct sk_io_buffer other = SK_IO_BUFFER_EMPTY;
    unsigned lines;

    assert_int_equal(sk_io_buffer_create(&buffer, &env->domain, 100, 64), SK_OK);
    sk_io_buffer_set_owner(&buffer, "the test");
    assert_int_equal(sk_io_buffer_destroy(&buffer), SK_OK);
    assert_int_equal(sk_io_buffer_create(&other, &env->domain, 100, 64), SK_OK);
    lines = env->lines[SK_LOG_ERROR];
    assert_int_equal(sk_io_buffer_destroy(&buffer), SK_ERR_GONE);
    assert_int_equal(env->lines[SK_LOG_ERROR], lines + 1);
    assert_non_null(strstr(env->last_line, "the test"));
    assert_int_equal(pages_live(env), 1); /* the other one's */
    assert_int_equal(sk_io_buffer_destroy(&other), SK_OK);
    assert_int_equal(sk_io_buffer_destroy(NULL), SK_ERR_INVALID);
}

static void test_io_buffer_destroy__held_is_busy(void **state)
{
    struct test_environment *env = *state;
    struct sk_io_buffer buffer = SK_IO_BUFFER_EMPTY;
    unsigned lines;

    assert_int_equal(sk_io_buffer_create(&buffer, &env->domain, 100, 64), SK_OK);
    assert_int_equal(sk_io_buffer_hold(&buffer), SK_OK);
    assert_int_equal(sk_io_buffer_hold(&buffer), SK_OK);
    assert_true(sk_io_buffer_is_busy(&buffer));
    lines = env->lines[SK_LOG_ERROR];
    assert_int_equal(sk_io_buffer_destroy(&buffer), SK_ERR_BUSY);
    assert_int_equal(env->lines[SK_LOG_ERROR], lines + 1);
    assert_int_equal(sk_io_buffer_release(&buffer), SK_OK);
    assert_int_equal(sk_io_buffer_destroy(&buffer), SK_ERR_BUSY);
    assert_int_equal(sk_io_buffer_release(&buffer), SK_OK);
    assert_false(sk_io_buffer_is_busy(&buffer));
    lines = env->lines[SK_LOG_ERROR];
    assert_int_equal(sk_io_buffer_release(&buffer), SK_ERR_INVALID);
    assert_int_equal(env->lines[SK_LOG_ERROR], lines + 1);
    assert_int_equal(sk_io_buffer_destroy(&buffer), SK_OK);
}

static void test_io_buffer_move__everything_goes_along(void **state)
{
    struct test_environment *env = *state;
    struct sk_io_buffer neighbours[2] = { SK_IO_BUFFER_EMPTY };
    struct sk_io_buffer from = SK_IO_BUFFER_EMPTY;
    struct sk_io_buffer to = SK_IO_BUFFER_EMPTY;
    sk_daddr before;
    sk_daddr after;
    void *data;

    assert_int_equal(sk_io_buffer_create(&neighbours[0], &env->domain, 1, 1), SK_OK);
    assert_int_equal(sk_io_buffer_create(&from, &env->domain, 5000, 64), SK_OK);
    assert_int_equal(sk_io_buffer_create(&neighbours[1], &env->domain, 1, 1), SK_OK);
    assert_int_equal(sk_io_buffer_hold(&from), SK_OK);
    assert_int_equal(sk_io_buffer_address(&from, &before), SK_OK);
    data = sk_io_buffer_data(&from);
    assert_int_equal(sk_io_buffer_move(&to, &from), SK_OK);
    assert_false(sk_io_buffer_is_valid(&from));
    assert_true(sk_io_buffer_is_valid(&to));
    assert_true(sk_io_buffer_is_busy(&to));
    assert_ptr_equal(sk_io_buffer_data(&to), data);
    assert_int_equal(sk_io_buffer_size(&to), 5000);
    assert_int_equal(sk_io_buffer_address(&to, &after), SK_OK);
    assert_int_equal(after.raw, before.raw);
    assert_int_equal(buffers_live(&env->domain), 3);
    memset(&from, 0xee, sizeof(from)); /* nothing points at it any more */
    assert_int_equal(sk_io_buffer_destroy(&neighbours[0]), SK_OK);
    assert_int_equal(sk_io_buffer_destroy(&neighbours[1]), SK_OK);
    assert_int_equal(buffers_live(&env->domain), 1);
    assert_int_equal(sk_io_buffer_release(&to), SK_OK);
    assert_int_equal(sk_io_buffer_destroy(&to), SK_OK);
}

static void test_io_buffer_move__onto_itself_changes_nothing(void **state)
{
    struct test_environment *env = *state;
    struct sk_io_buffer buffer = SK_IO_BUFFER_EMPTY;
    struct sk_io_buffer copy;

    assert_int_equal(sk_io_buffer_create(&buffer, &env->domain, 100, 64), SK_OK);
    memcpy(&copy, &buffer, sizeof(copy));
    assert_int_equal(sk_io_buffer_move(&buffer, &buffer), SK_OK);
    assert_memory_equal(&copy, &buffer, sizeof(copy));
    assert_int_equal(buffers_live(&env->domain), 1);
    assert_int_equal(sk_io_buffer_destroy(&buffer), SK_OK);
}

static void test_io_buffer_move__onto_live_or_from_nothing_refused(void **state)
{
    struct test_environment *env = *state;
    struct sk_io_buffer a = SK_IO_BUFFER_EMPTY;
    struct sk_io_buffer b = SK_IO_BUFFER_EMPTY;
    struct sk_io_buffer empty = SK_IO_BUFFER_EMPTY;

    assert_int_equal(sk_io_buffer_create(&a, &env->domain, 100, 64), SK_OK);
    assert_int_equal(sk_io_buffer_create(&b, &env->domain, 100, 64), SK_OK);
    assert_int_equal(sk_io_buffer_move(&a, &b), SK_ERR_BUSY);
    assert_true(sk_io_buffer_is_valid(&a) && sk_io_buffer_is_valid(&b));
    assert_int_equal(sk_io_buffer_move(&a, &empty), SK_ERR_GONE);
    assert_int_equal(sk_io_buffer_move(NULL, &a), SK_ERR_INVALID);
    assert_int_equal(sk_io_buffer_move(&a, NULL), SK_ERR_INVALID);
    assert_int_equal(sk_io_buffer_move(&empty, &a), SK_OK);
    assert_int_equal(sk_io_buffer_move(&b, &a), SK_ERR_MOVED);
    assert_int_equal(sk_io_buffer_destroy(&empty), SK_OK);
    assert_int_equal(sk_io_buffer_destroy(&b), SK_OK);
}

/* Every call on a handle without memory says `expected` and writes a line. */
static void assert_unusable(struct test_environment *env, struct sk_io_buffer *buffer,
                            enum sk_status expected)
{
    struct sk_io_buffer other = SK_IO_BUFFER_EMPTY;
    struct sk_dma_segment segment;
    struct sk_io_view view;
    struct sk_io_buffer copy;
    unsigned lines = env->lines[SK_LOG_ERROR];
    sk_daddr address;

    memcpy(&copy, buffer, sizeof(copy));
    assert_int_equal(sk_io_buffer_address(buffer, &address), expected);
    assert_int_equal(sk_io_buffer_segment(buffer, 0, 1, &segment), expected);
    assert_int_equal(sk_io_buffer_view(buffer, 0, 1, &view), expected);
    assert_int_equal(sk_io_buffer_for_device(buffer, 0, 1, SK_DMA_BOTH), expected);
    assert_int_equal(sk_io_buffer_for_cpu(buffer, 0, 1, SK_DMA_BOTH), expected);
    assert_int_equal(sk_io_buffer_hold(buffer), expected);
    assert_int_equal(sk_io_buffer_release(buffer), expected);
    assert_int_equal(sk_io_buffer_quarantine(buffer), expected);
    assert_int_equal(sk_io_buffer_destroy(buffer), expected);
    assert_int_equal(sk_io_buffer_move(&other, buffer), expected);
    assert_int_equal(env->lines[SK_LOG_ERROR], lines + 10);
    assert_false(sk_io_buffer_is_valid(buffer));
    assert_false(sk_io_buffer_is_busy(buffer));
    assert_false(sk_io_buffer_is_coherent(buffer));
    assert_null(sk_io_buffer_data(buffer));
    assert_int_equal(sk_io_buffer_size(buffer) + sk_io_buffer_capacity(buffer), 0);
    assert_memory_equal(&copy, buffer, sizeof(copy));
}

static void test_io_buffer_use__after_move_or_destroy_refused(void **state)
{
    struct test_environment *env = *state;
    struct sk_io_buffer from = SK_IO_BUFFER_EMPTY;
    struct sk_io_buffer to = SK_IO_BUFFER_EMPTY;

    assert_int_equal(sk_io_buffer_create(&from, &env->domain, 100, 64), SK_OK);
    assert_int_equal(sk_io_buffer_move(&to, &from), SK_OK);
    assert_unusable(env, &from, SK_ERR_MOVED);
    assert_int_equal(sk_io_buffer_destroy(&to), SK_OK);
    assert_unusable(env, &to, SK_ERR_GONE);
    assert_false(sk_io_buffer_is_valid(NULL));
    assert_null(sk_io_buffer_data(NULL));
    assert_int_equal(sk_io_buffer_hold(NULL), SK_ERR_INVALID);
    sk_io_buffer_set_owner(NULL, "nobody");
}

static void test_io_buffer_create__a_handle_lives_again(void **state)
{
    struct test_environment *env = *state;
    struct sk_io_buffer buffer = SK_IO_BUFFER_EMPTY;

    for (int i = 0; i < 100; i++) {
        assert_int_equal(sk_io_buffer_create(&buffer, &env->domain, 100, 64), SK_OK);
        assert_int_equal(sk_io_buffer_destroy(&buffer), SK_OK);
    }
    assert_int_equal(pages_live(env), 0);
}

static void leave_a_scope(struct test_environment *env, struct sk_io_buffer *keep)
{
    SK_IO_BUFFER_SCOPED struct sk_io_buffer never = SK_IO_BUFFER_EMPTY;
    SK_IO_BUFFER_SCOPED struct sk_io_buffer moved = SK_IO_BUFFER_EMPTY;
    SK_IO_BUFFER_SCOPED struct sk_io_buffer released = SK_IO_BUFFER_EMPTY;

    assert_int_equal(sk_io_buffer_create(&moved, &env->domain, 2 * PAGE, 64), SK_OK);
    assert_int_equal(sk_io_buffer_create(&released, &env->domain, 100, 64), SK_OK);
    assert_int_equal(sk_io_buffer_move(keep, &moved), SK_OK);
    assert_false(sk_io_buffer_is_valid(&never));
}

static void test_io_buffer_scope_end__releases_what_was_not_moved(void **state)
{
    struct test_environment *env = *state;
    struct sk_io_buffer keep = SK_IO_BUFFER_EMPTY;
    unsigned lines = env->lines[SK_LOG_ERROR];

    leave_a_scope(env, &keep);
    assert_int_equal(env->lines[SK_LOG_ERROR], lines);
    assert_int_equal(buffers_live(&env->domain), 1);
    assert_int_equal(pages_live(env), 2);
    assert_int_equal(sk_io_buffer_destroy(&keep), SK_OK);
    sk_io_buffer_scope_end(NULL);
}

static void test_io_buffer_scope_end__held_is_quarantined(void **state)
{
    struct test_environment *env = *state;
    struct sk_dma_arena_statistics statistics;

    {
        SK_IO_BUFFER_SCOPED struct sk_io_buffer buffer = SK_IO_BUFFER_EMPTY;

        assert_int_equal(sk_io_buffer_create(&buffer, &env->domain, 100, 64), SK_OK);
        assert_int_equal(sk_io_buffer_hold(&buffer), SK_OK);
    }
    sk_dma_arena_get_statistics(&env->arena, &statistics);
    assert_int_equal(statistics.pages_quarantined, 1);
    assert_int_equal(buffers_live(&env->domain), 0);
    assert_int_equal(sk_dma_domain_deinit(&env->domain), SK_OK);
}

static void test_io_buffer_quarantine__memory_is_never_used_again(void **state)
{
    struct test_environment *env = *state;
    struct sk_io_buffer buffer = SK_IO_BUFFER_EMPTY;
    struct sk_io_buffer rest = SK_IO_BUFFER_EMPTY;
    struct sk_dma_domain_statistics domain;
    struct sk_dma_arena_statistics arena;
    unsigned warnings = env->lines[SK_LOG_WARNING];
    uint8_t *lost;

    assert_int_equal(sk_io_buffer_create(&buffer, &env->domain, PAGE, 64), SK_OK);
    lost = sk_io_buffer_data(&buffer);
    assert_int_equal(sk_io_buffer_hold(&buffer), SK_OK);
    assert_int_equal(sk_io_buffer_quarantine(&buffer), SK_OK);
    assert_int_equal(env->lines[SK_LOG_WARNING], warnings + 1);
    assert_unusable(env, &buffer, SK_ERR_GONE);
    sk_dma_domain_get_statistics(&env->domain, &domain);
    assert_int_equal(domain.buffers_quarantined, 1);
    assert_int_equal(domain.buffers_live, 0);
    sk_dma_arena_get_statistics(&env->arena, &arena);
    assert_int_equal(arena.pages_quarantined, 1);
    assert_int_equal(sk_io_buffer_create(&rest, &env->domain, PAGES * PAGE, 64), SK_ERR_NO_MEMORY);
    assert_int_equal(sk_io_buffer_create(&rest, &env->domain, (PAGES - 1) * PAGE, 64), SK_OK);
    assert_true((uint8_t *)sk_io_buffer_data(&rest) > lost);
    assert_int_equal(sk_io_buffer_destroy(&rest), SK_OK);
}

/* Views and segments */

static void test_io_buffer_view__parts_keep_to_their_ends(void **state)
{
    struct test_environment *env = *state;
    struct sk_io_buffer buffer = SK_IO_BUFFER_EMPTY;
    struct sk_io_view view;
    struct sk_io_view part;
    void *data;

    assert_int_equal(sk_io_buffer_create(&buffer, &env->domain, 2 * PAGE, 64), SK_OK);
    assert_int_equal(sk_io_buffer_view(&buffer, 100, 1000, &view), SK_OK);
    assert_int_equal(sk_io_view_data(&view, &data), SK_OK);
    assert_ptr_equal(data, (uint8_t *)sk_io_buffer_data(&buffer) + 100);
    assert_int_equal(sk_io_view_part(&view, 10, 990, &part), SK_OK);
    assert_int_equal(sk_io_view_data(&part, &data), SK_OK);
    assert_ptr_equal(data, (uint8_t *)sk_io_buffer_data(&buffer) + 110);
    assert_int_equal(sk_io_view_part(&view, 10, 991, &part), SK_ERR_RANGE);
    assert_int_equal(sk_io_view_part(&view, UINT64_MAX, 2, &part), SK_ERR_RANGE);
    assert_int_equal(sk_io_view_part(&view, 2, UINT64_MAX, &part), SK_ERR_RANGE);
    assert_int_equal(sk_io_view_part(&view, 1000, 0, &part), SK_OK);
    assert_int_equal(sk_io_buffer_view(&buffer, 0, 2 * PAGE, &view), SK_OK);
    assert_int_equal(sk_io_buffer_view(&buffer, 2 * PAGE, 0, &view), SK_OK);
    assert_int_equal(sk_io_buffer_view(&buffer, 0, 2 * PAGE + 1, &view), SK_ERR_RANGE);
    assert_int_equal(sk_io_buffer_view(&buffer, 1, 2 * PAGE, &view), SK_ERR_RANGE);
    assert_int_equal(sk_io_buffer_view(&buffer, UINT64_MAX, 1, &view), SK_ERR_RANGE);
    assert_int_equal(sk_io_buffer_view(&buffer, 1, UINT64_MAX, &view), SK_ERR_RANGE);
    assert_int_equal(sk_io_buffer_view(&buffer, 0, 1, NULL), SK_ERR_INVALID);
    assert_int_equal(sk_io_view_part(NULL, 0, 1, &part), SK_ERR_INVALID);
    assert_int_equal(sk_io_view_data(&view, NULL), SK_ERR_INVALID);
    assert_int_equal(sk_io_buffer_destroy(&buffer), SK_OK);
}

static void test_io_view_data__stale_views_say_so(void **state)
{
    struct test_environment *env = *state;
    struct sk_io_buffer buffer = SK_IO_BUFFER_EMPTY;
    struct sk_io_buffer other = SK_IO_BUFFER_EMPTY;
    struct sk_io_view nothing = { 0 };
    struct sk_io_view view;
    struct sk_io_view part;
    void *data = &data;

    assert_int_equal(sk_io_buffer_create(&buffer, &env->domain, PAGE, 64), SK_OK);
    assert_int_equal(sk_io_buffer_view(&buffer, 0, 10, &view), SK_OK);
    assert_int_equal(sk_io_buffer_move(&other, &buffer), SK_OK);
    assert_int_equal(sk_io_view_data(&view, &data), SK_ERR_MOVED);
    assert_int_equal(sk_io_view_part(&view, 0, 1, &part), SK_ERR_MOVED);
    assert_int_equal(sk_io_buffer_create(&buffer, &env->domain, PAGE, 64), SK_OK);
    assert_int_equal(sk_io_view_data(&view, &data), SK_ERR_GONE);
    assert_int_equal(sk_io_view_part(&view, 0, 1, &part), SK_ERR_GONE);
    assert_int_equal(sk_io_buffer_view(&buffer, 0, 10, &view), SK_OK);
    assert_int_equal(sk_io_buffer_destroy(&buffer), SK_OK);
    assert_int_equal(sk_io_view_data(&view, &data), SK_ERR_GONE);
    assert_int_equal(sk_io_view_data(&nothing, &data), SK_ERR_GONE);
    assert_ptr_equal(data, &data);
    assert_int_equal(sk_io_buffer_destroy(&other), SK_OK);
}

static void test_io_view_data__memory_of_another_domain_is_noticed(void **state)
{
    struct test_environment *env = *state;
    struct sk_io_buffer buffer = SK_IO_BUFFER_EMPTY;
    struct sk_dma_domain second;
    struct sk_io_view view;
    void *data;

    make_domain(env, &second, (struct sk_dma_domain_config){ .coherent = true });
    assert_int_equal(sk_io_buffer_create(&buffer, &env->domain, PAGE, 64), SK_OK);
    assert_int_equal(sk_io_buffer_view(&buffer, 0, 10, &view), SK_OK);
    assert_int_equal(sk_io_buffer_destroy(&buffer), SK_OK);
    assert_int_equal(sk_io_buffer_create(&buffer, &second, PAGE, 64), SK_OK);
    assert_int_equal(sk_io_view_data(&view, &data), SK_ERR_GONE);
    assert_int_equal(sk_io_buffer_destroy(&buffer), SK_OK);
    assert_int_equal(sk_dma_domain_deinit(&second), SK_OK);
}

static void test_io_buffer_segment__ends_are_checked(void **state)
{
    struct test_environment *env = *state;
    struct sk_io_buffer buffer = SK_IO_BUFFER_EMPTY;
    struct sk_dma_segment segment;
    sk_daddr address;

    assert_int_equal(sk_io_buffer_create(&buffer, &env->domain, PAGE, 64), SK_OK);
    assert_int_equal(sk_io_buffer_address(&buffer, &address), SK_OK);
    assert_int_equal(sk_io_buffer_segment(&buffer, 512, 1024, &segment), SK_OK);
    assert_int_equal(segment.address.raw, address.raw + 512);
    assert_int_equal(segment.bytes, 1024);
    assert_int_equal(sk_io_buffer_segment(&buffer, PAGE, 1, &segment), SK_ERR_RANGE);
    assert_int_equal(sk_io_buffer_segment(&buffer, 1, PAGE, &segment), SK_ERR_RANGE);
    assert_int_equal(sk_io_buffer_segment(&buffer, UINT64_MAX, UINT64_MAX, &segment),
                     SK_ERR_RANGE);
    assert_int_equal(sk_io_buffer_segment(&buffer, 0, 0, &segment), SK_ERR_SIZE);
    assert_int_equal(sk_io_buffer_segment(&buffer, 0, 1, NULL), SK_ERR_INVALID);
    assert_int_equal(sk_io_buffer_address(&buffer, NULL), SK_ERR_INVALID);
    assert_int_equal(sk_io_buffer_destroy(&buffer), SK_OK);
}

/* Hostile-device case 30. */
static void test_io_buffer_segment__four_gib_are_refused_not_truncated(void **state)
{
    struct test_environment *env = *state;
    const uint64_t four_gib = UINT64_C(1) << 32;
    struct sk_dma_window windows[1] = { { { 0 }, { TEST_DEVICE_OFFSET }, 16 * four_gib } };
    struct sk_io_buffer buffer = SK_IO_BUFFER_EMPTY;
    struct sk_dma_domain domain;
    struct sk_dma_segment segment = { { 7 }, 7 };

    make_domain(env, &domain,
                (struct sk_dma_domain_config){ .windows = windows, .window_count = 1,
                                               .coherent = true });
    /* Nothing touches adopted memory of a coherent domain, so none needs to exist. */
    assert_int_equal(sk_io_buffer_adopt(&buffer, &domain, env->zone_memory,
                                        sk_paddr_make(TEST_PADDR), 2 * four_gib),
                     SK_OK);
    assert_int_equal(sk_io_buffer_segment(&buffer, 0, four_gib, &segment), SK_ERR_SIZE);
    assert_int_equal(sk_io_buffer_segment(&buffer, 0, four_gib + 1, &segment), SK_ERR_SIZE);
    assert_int_equal(segment.bytes, 7);
    assert_int_equal(sk_io_buffer_segment(&buffer, 1, four_gib - 1, &segment), SK_OK);
    assert_int_equal(segment.bytes, UINT32_MAX);
    assert_int_equal(segment.address.raw, TEST_DEVICE_OFFSET + TEST_PADDR + 1);
    assert_int_equal(sk_io_buffer_destroy(&buffer), SK_OK);
    assert_int_equal(sk_dma_domain_deinit(&domain), SK_OK);
}

/* Adopt */

static void test_io_buffer_adopt__memory_stays_the_owners(void **state)
{
    struct test_environment *env = *state;
    uint8_t *page = test_environment_foreign(env, 0);
    struct sk_io_buffer buffer = SK_IO_BUFFER_EMPTY;
    sk_paddr paddr;
    sk_daddr address;

    assert_int_equal(env->platform.physical_of(env, page, &paddr), SK_OK);
    assert_int_equal(sk_io_buffer_adopt(&buffer, &env->domain, page, paddr, 100), SK_OK);
    assert_true(sk_io_buffer_is_valid(&buffer));
    assert_true(sk_io_buffer_is_coherent(&buffer));
    assert_int_equal(sk_io_buffer_capacity(&buffer), 100);
    assert_int_equal(sk_io_buffer_address(&buffer, &address), SK_OK);
    assert_ptr_equal(test_environment_reach(env, address.raw, 100), page);
    assert_int_equal(sk_io_buffer_destroy(&buffer), SK_OK);
    assert_true(all_bytes_are(page, PAGE, 0x5a));
    assert_int_equal(pages_live(env), 0);
}

static void test_io_buffer_adopt__unsuitable_memory_refused(void **state)
{
    struct test_environment *env = *state;
    uint8_t *page = test_environment_foreign(env, 0);
    const sk_paddr paddr = { TEST_PADDR };
    struct sk_dma_constraints limits = { .alignment_bytes = 64, .boundary_bytes = 1024,
                                         .highest = { TEST_PADDR + TEST_DEVICE_OFFSET + 8191 } };
    struct sk_io_buffer buffer = SK_IO_BUFFER_EMPTY;
    struct sk_dma_domain bouncing;
    struct sk_dma_domain limited;

    make_domain(env, &bouncing,
                (struct sk_dma_domain_config){ .force_bounce = true, .coherent = true });
    make_domain(env, &limited, (struct sk_dma_domain_config){ .limits = limits, .coherent = true });
    assert_int_equal(sk_io_buffer_adopt(&buffer, &bouncing, page, paddr, 64), SK_ERR_UNREACHABLE);
    assert_int_equal(sk_io_buffer_adopt(&buffer, &limited, page, sk_paddr_make(TEST_PADDR + 32),
                                        64), SK_ERR_UNREACHABLE);
    assert_int_equal(sk_io_buffer_adopt(&buffer, &limited, page, sk_paddr_make(TEST_PADDR + 960),
                                        65), SK_ERR_UNREACHABLE);
    assert_int_equal(sk_io_buffer_adopt(&buffer, &limited, page, sk_paddr_make(TEST_PADDR + 8192),
                                        64), SK_ERR_UNREACHABLE);
    assert_int_equal(sk_io_buffer_adopt(&buffer, &env->domain, page, sk_paddr_make(0), 64),
                     SK_ERR_UNREACHABLE);
    assert_int_equal(sk_io_buffer_adopt(&buffer, &env->domain, page, sk_paddr_make(UINT64_MAX), 2),
                     SK_ERR_UNREACHABLE);
    assert_int_equal(sk_io_buffer_adopt(&buffer, &env->domain, page, paddr, 0), SK_ERR_SIZE);
    assert_int_equal(sk_io_buffer_adopt(&buffer, &env->domain, page, paddr, UINT64_MAX),
                     SK_ERR_SIZE);
    assert_int_equal(sk_io_buffer_adopt(&buffer, &env->domain, NULL, paddr, 64), SK_ERR_INVALID);
    assert_false(sk_io_buffer_is_valid(&buffer));
    assert_int_equal(sk_io_buffer_adopt(&buffer, &limited, page, sk_paddr_make(TEST_PADDR + 960),
                                        64), SK_OK);
    assert_int_equal(sk_io_buffer_destroy(&buffer), SK_OK);
    assert_int_equal(sk_dma_domain_deinit(&bouncing), SK_OK);
    assert_int_equal(sk_dma_domain_deinit(&limited), SK_OK);
}

static void test_io_buffer_adopt__the_end_of_physical_memory(void **state)
{
    struct test_environment *env = *state;
    struct sk_dma_window windows[1] = { { { UINT64_MAX - 4095 }, { 0x1000 }, 4096 } };
    struct sk_io_buffer buffer = SK_IO_BUFFER_EMPTY;
    struct sk_dma_domain domain;
    uint8_t *page = test_environment_foreign(env, 0);

    make_domain(env, &domain,
                (struct sk_dma_domain_config){ .windows = windows, .window_count = 1,
                                               .coherent = true });
    assert_int_equal(sk_io_buffer_adopt(&buffer, &domain, page, sk_paddr_make(UINT64_MAX - 127),
                                        128), SK_OK);
    assert_int_equal(sk_io_buffer_destroy(&buffer), SK_OK);
    assert_int_equal(sk_io_buffer_adopt(&buffer, &domain, page, sk_paddr_make(UINT64_MAX - 127),
                                        129), SK_ERR_UNREACHABLE);
    assert_int_equal(sk_dma_domain_deinit(&domain), SK_OK);
}

static void test_io_buffer_adopt__cut_cache_lines_refused_without_coherence(void **state)
{
    struct test_environment *env = *state;
    uint8_t *page = test_environment_foreign(env, 0);
    struct sk_io_buffer buffer = SK_IO_BUFFER_EMPTY;
    struct sk_dma_domain domain;

    make_domain(env, &domain, (struct sk_dma_domain_config){ .coherent = false });
    assert_int_equal(sk_io_buffer_adopt(&buffer, &domain, page, sk_paddr_make(TEST_PADDR), 100),
                     SK_ERR_ALIGNMENT);
    assert_int_equal(sk_io_buffer_adopt(&buffer, &domain, page + 8, sk_paddr_make(TEST_PADDR + 8),
                                        64), SK_ERR_ALIGNMENT);
    assert_int_equal(sk_io_buffer_adopt(&buffer, &domain, page, sk_paddr_make(TEST_PADDR), 128),
                     SK_OK);
    assert_false(sk_io_buffer_is_coherent(&buffer));
    assert_int_equal(sk_io_buffer_destroy(&buffer), SK_OK);
    env->platform.cache_clean = NULL;
    assert_int_equal(sk_io_buffer_adopt(&buffer, &domain, page, sk_paddr_make(TEST_PADDR), 128),
                     SK_ERR_UNSUPPORTED);
    assert_int_equal(sk_dma_domain_deinit(&domain), SK_OK);
}

static void test_io_buffer_quarantine__adopted_memory_is_left_alone(void **state)
{
    struct test_environment *env = *state;
    struct sk_io_buffer buffer = SK_IO_BUFFER_EMPTY;
    struct sk_dma_domain_statistics statistics;

    assert_int_equal(sk_io_buffer_adopt(&buffer, &env->domain, test_environment_foreign(env, 0),
                                        sk_paddr_make(TEST_PADDR), 128),
                     SK_OK);
    assert_int_equal(sk_io_buffer_quarantine(&buffer), SK_OK);
    sk_dma_domain_get_statistics(&env->domain, &statistics);
    assert_int_equal(statistics.buffers_quarantined, 1);
    assert_int_equal(pages_live(env), 0);
}

/* Hand-over */

static void test_io_buffer_for_device__coherent_needs_no_cache_work(void **state)
{
    struct test_environment *env = *state;
    struct sk_io_buffer buffer = SK_IO_BUFFER_EMPTY;

    assert_int_equal(sk_io_buffer_create(&buffer, &env->domain, PAGE, 64), SK_OK);
    assert_true(sk_io_buffer_is_coherent(&buffer));
    assert_int_equal(sk_io_buffer_for_device(&buffer, 0, PAGE, SK_DMA_BOTH), SK_OK);
    assert_true(sk_io_buffer_is_busy(&buffer));
    assert_int_equal(sk_io_buffer_for_cpu(&buffer, 0, PAGE, SK_DMA_BOTH), SK_OK);
    assert_false(sk_io_buffer_is_busy(&buffer));
    assert_int_equal(env->cleans + env->invalidates, 0);
    assert_int_equal(sk_io_buffer_destroy(&buffer), SK_OK);
}

static void test_io_buffer_for_device__caches_are_kept_in_order(void **state)
{
    struct test_environment *env = *state;
    struct sk_io_buffer buffer = SK_IO_BUFFER_EMPTY;
    struct sk_dma_domain domain;

    make_domain(env, &domain, (struct sk_dma_domain_config){ .coherent = false });
    assert_int_equal(sk_io_buffer_create(&buffer, &domain, PAGE, 64), SK_OK);
    assert_false(sk_io_buffer_is_coherent(&buffer));
    assert_int_equal(env->cleans, 1); /* the zeros */
    assert_int_equal(sk_io_buffer_for_device(&buffer, 0, 512, SK_DMA_TO_DEVICE), SK_OK);
    assert_int_equal(env->cleans, 2);
    assert_int_equal(sk_io_buffer_for_cpu(&buffer, 0, 512, SK_DMA_TO_DEVICE), SK_OK);
    assert_int_equal(env->invalidates, 0);
    /* Before and after: dirty lines must not fall on the data, stale ones must not hide it. */
    assert_int_equal(sk_io_buffer_for_device(&buffer, 0, 512, SK_DMA_FROM_DEVICE), SK_OK);
    assert_int_equal(env->cleans, 3);
    assert_int_equal(sk_io_buffer_for_cpu(&buffer, 0, 512, SK_DMA_FROM_DEVICE), SK_OK);
    assert_int_equal(env->invalidates, 1);
    assert_int_equal(sk_io_buffer_destroy(&buffer), SK_OK);
    assert_int_equal(sk_dma_domain_deinit(&domain), SK_OK);
}

static void test_io_buffer_for_device__bad_arguments_change_nothing(void **state)
{
    struct test_environment *env = *state;
    struct sk_io_buffer buffer = SK_IO_BUFFER_EMPTY;

    assert_int_equal(sk_io_buffer_create(&buffer, &env->domain, PAGE, 64), SK_OK);
    assert_int_equal(sk_io_buffer_for_device(&buffer, 0, PAGE + 1, SK_DMA_BOTH), SK_ERR_RANGE);
    assert_int_equal(sk_io_buffer_for_device(&buffer, UINT64_MAX, 2, SK_DMA_BOTH), SK_ERR_RANGE);
    assert_int_equal(sk_io_buffer_for_device(&buffer, 0, 1, SK_DMA_DIRECTION_COUNT),
                     SK_ERR_INVALID);
    assert_false(sk_io_buffer_is_busy(&buffer));
    assert_int_equal(sk_io_buffer_for_cpu(&buffer, 0, 1, SK_DMA_BOTH), SK_ERR_INVALID);
    assert_int_equal(sk_io_buffer_hold(&buffer), SK_OK);
    assert_int_equal(sk_io_buffer_for_cpu(&buffer, 0, PAGE + 1, SK_DMA_BOTH), SK_ERR_RANGE);
    assert_int_equal(sk_io_buffer_for_cpu(&buffer, 0, 1, SK_DMA_DIRECTION_COUNT), SK_ERR_INVALID);
    assert_true(sk_io_buffer_is_busy(&buffer));
    assert_int_equal(sk_io_buffer_release(&buffer), SK_OK);
    assert_int_equal(sk_io_buffer_destroy(&buffer), SK_OK);
}

static void test_io_buffer_create__no_cache_hooks_unsupported(void **state)
{
    struct test_environment *env = *state;
    struct sk_dma_domain domain;

    make_domain(env, &domain, (struct sk_dma_domain_config){ .coherent = false });
    env->platform.cache_invalidate = NULL;
    assert_refused(env, &domain, PAGE, 64, SK_ERR_UNSUPPORTED);
    assert_int_equal(sk_dma_domain_deinit(&domain), SK_OK);
}

static void test_io_buffer_create__cached_zones_only_need_maintenance(void **state)
{
    struct test_environment *env = *state;
    static uint8_t metadata[1 << 16] __attribute__((aligned(64)));
    const struct sk_dma_zone zones[1] = { env->zone }; /* no room behind for another */
    struct sk_dma_domain_config config = { .platform = &env->platform,
                                           .windows = env->windows,
                                           .window_count = 2 };
    struct sk_io_buffer buffer = SK_IO_BUFFER_EMPTY;
    struct sk_dma_domain domain;
    struct sk_dma_arena arena;

    assert_int_equal(sk_dma_arena_init(&arena, zones, 1, metadata, sizeof(metadata), &env->log),
                     SK_OK);
    config.arena = &arena;
    assert_int_equal(sk_dma_domain_init(&domain, &config), SK_OK);
    assert_int_equal(sk_io_buffer_create(&buffer, &domain, PAGE, 64), SK_OK);
    assert_false(sk_io_buffer_is_coherent(&buffer));
    assert_int_equal(sk_io_buffer_destroy(&buffer), SK_OK);
    assert_int_equal(sk_dma_domain_deinit(&domain), SK_OK);
}

static void test_io_buffer_create__uncached_zone_is_coherent_for_every_device(void **state)
{
    struct test_environment *env = *state;
    static uint8_t metadata[1 << 16] __attribute__((aligned(64)));
    struct sk_dma_zone zones[2] = { env->zone, env->zone };
    struct sk_dma_domain_config config = { .platform = &env->platform,
                                           .windows = env->windows,
                                           .window_count = 2 };
    struct sk_io_buffer buffer = SK_IO_BUFFER_EMPTY;
    struct sk_dma_domain domain;
    struct sk_dma_arena arena;

    zones[0].bytes = PAGE * PAGES / 2;
    zones[1].cpu = env->zone_memory + zones[0].bytes;
    zones[1].paddr.raw += zones[0].bytes;
    zones[1].bytes = PAGE * PAGES / 2;
    zones[1].flags = SK_DMA_ZONE_UNCACHED;
    assert_int_equal(sk_dma_arena_init(&arena, zones, 2, metadata, sizeof(metadata), &env->log),
                     SK_OK);
    config.arena = &arena;
    assert_int_equal(sk_dma_domain_init(&domain, &config), SK_OK);
    env->platform.cache_clean = NULL; /* not needed then */
    assert_int_equal(sk_io_buffer_create(&buffer, &domain, PAGE, 64), SK_OK);
    assert_true(sk_io_buffer_is_coherent(&buffer));
    assert_ptr_equal(sk_io_buffer_data(&buffer), zones[1].cpu);
    assert_int_equal(sk_io_buffer_for_device(&buffer, 0, PAGE, SK_DMA_BOTH), SK_OK);
    assert_int_equal(sk_io_buffer_for_cpu(&buffer, 0, PAGE, SK_DMA_BOTH), SK_OK);
    assert_int_equal(env->cleans + env->invalidates, 0);
    assert_int_equal(sk_io_buffer_destroy(&buffer), SK_OK);
    assert_int_equal(sk_dma_domain_deinit(&domain), SK_OK);
    assert_true(sk_dma_arena_check(&arena));
}

/* Many buffers */

static void test_io_buffer__random_lives_leave_nothing_behind(void **state)
{
    struct test_environment *env = *state;
    struct sk_io_buffer buffers[8] = { SK_IO_BUFFER_EMPTY };
    const unsigned start = 20261123;
    uint32_t random = start;

    for (int step = 0; step < 3000; step++) {
        struct sk_io_buffer *one;
        struct sk_io_buffer *other;
        enum sk_status status;

        random = random * 1664525u + 1013904223u;
        one = &buffers[random >> 24 & 7];
        other = &buffers[random >> 20 & 7];
        if (!sk_io_buffer_is_valid(one)) {
            status = sk_io_buffer_create(one, &env->domain, 1 + (random >> 8) % (6 * PAGE), 1);
            assert_true(status == SK_OK || status == SK_ERR_NO_MEMORY);
        } else if (!sk_io_buffer_is_valid(other)) {
            assert_int_equal(sk_io_buffer_move(other, one), SK_OK);
        } else {
            assert_int_equal(sk_io_buffer_destroy(one), SK_OK);
        }
        if (!sk_dma_arena_check(&env->arena)) {
            print_error("seed %u, step %d\n", start, step);
        }
        (void)buffers_live(&env->domain);
        (void)pages_live(env);
    }
    for (size_t i = 0; i < 8; i++) {
        sk_io_buffer_scope_end(&buffers[i]);
    }
    assert_int_equal(pages_live(env), 0);
}

/* IOMMU */

static void make_iommu_domain(struct test_environment *env, struct test_iommu *iommu,
                              struct sk_dma_domain *domain)
{
    test_iommu_init(iommu, UINT64_C(0x700000000000));
    make_domain(env, domain,
                (struct sk_dma_domain_config){ .iommu = &iommu->hooks, .coherent = true });
}

static void test_io_buffer_create__iommu_says_the_address(void **state)
{
    struct test_environment *env = *state;
    struct sk_io_buffer buffer = SK_IO_BUFFER_EMPTY;
    struct sk_dma_domain domain;
    struct test_iommu iommu;
    sk_daddr address;

    make_iommu_domain(env, &iommu, &domain);
    assert_int_equal(sk_io_buffer_create(&buffer, &domain, 5000, 64), SK_OK);
    assert_int_equal(sk_io_buffer_address(&buffer, &address), SK_OK);
    assert_int_equal(address.raw, UINT64_C(0x700000000000));
    assert_int_equal(iommu.live, 1);
    assert_int_equal(sk_io_buffer_destroy(&buffer), SK_OK);
    assert_int_equal(iommu.live, 0);
    assert_int_equal(sk_dma_domain_deinit(&domain), SK_OK);
}

static void test_io_buffer_create__iommu_address_that_does_not_fit_is_undone(void **state)
{
    struct test_environment *env = *state;
    struct sk_io_buffer buffer = SK_IO_BUFFER_EMPTY;
    struct sk_dma_domain domain;
    struct test_iommu iommu;

    make_iommu_domain(env, &iommu, &domain);
    iommu.next += PAGE;
    assert_int_equal(sk_io_buffer_create(&buffer, &domain, PAGE, 2 * PAGE), SK_ERR_UNREACHABLE);
    assert_int_equal(iommu.live, 0);
    assert_int_equal(pages_live(env), 0);
    assert_int_equal(sk_dma_domain_deinit(&domain), SK_OK);
}

static void test_io_buffer_adopt__iommu_shows_whole_pages_only(void **state)
{
    struct test_environment *env = *state;
    uint8_t *page = test_environment_foreign(env, 0);
    struct sk_io_buffer buffer = SK_IO_BUFFER_EMPTY;
    struct sk_dma_domain domain;
    struct test_iommu iommu;
    sk_paddr paddr;

    make_iommu_domain(env, &iommu, &domain);
    assert_int_equal(env->platform.physical_of(env, page, &paddr), SK_OK);
    assert_int_equal(sk_io_buffer_adopt(&buffer, &domain, page, paddr, PAGE - 1),
                     SK_ERR_ALIGNMENT);
    assert_int_equal(iommu.calls, 0);
    assert_int_equal(sk_io_buffer_adopt(&buffer, &domain, page, paddr, PAGE), SK_OK);
    assert_int_equal(iommu.live, 1);
    assert_int_equal(sk_io_buffer_destroy(&buffer), SK_OK);
    assert_int_equal(iommu.live, 0);
    assert_int_equal(sk_dma_domain_deinit(&domain), SK_OK);
}

static void test_io_buffer_create__failing_iommu_leaks_nothing(void **state)
{
    struct test_environment *env = *state;
    struct sk_io_buffer buffer = SK_IO_BUFFER_EMPTY;
    struct sk_dma_domain domain;
    struct test_iommu iommu;

    make_iommu_domain(env, &iommu, &domain);
    iommu.fail_call = 1;
    assert_int_equal(sk_io_buffer_create(&buffer, &domain, PAGE, 64), SK_ERR_NO_MEMORY);
    assert_false(sk_io_buffer_is_valid(&buffer));
    assert_int_equal(pages_live(env), 0);
    assert_int_equal(sk_dma_domain_deinit(&domain), SK_OK);
}

static void test_io_buffer_destroy__failing_iommu_quarantines(void **state)
{
    struct test_environment *env = *state;
    struct sk_io_buffer buffer = SK_IO_BUFFER_EMPTY;
    struct sk_dma_domain_statistics domain_statistics;
    struct sk_dma_arena_statistics statistics;
    struct sk_dma_domain domain;
    struct test_iommu iommu;

    make_iommu_domain(env, &iommu, &domain);
    assert_int_equal(sk_io_buffer_create(&buffer, &domain, PAGE, 64), SK_OK);
    iommu.fail_call = 1;
    assert_int_equal(sk_io_buffer_destroy(&buffer), SK_ERR_TIMEOUT);
    assert_false(sk_io_buffer_is_valid(&buffer));
    sk_dma_arena_get_statistics(&env->arena, &statistics);
    assert_int_equal(statistics.pages_quarantined, 1);
    sk_dma_domain_get_statistics(&domain, &domain_statistics);
    assert_int_equal(domain_statistics.buffers_quarantined, 1);
    /* The same when a map that does not fit cannot be undone. */
    iommu.next += PAGE - iommu.next % (2 * PAGE);
    iommu.fail_unmap = 1;
    assert_int_equal(sk_io_buffer_create(&buffer, &domain, PAGE, 2 * PAGE), SK_ERR_IN_DOUBT);
    sk_dma_arena_get_statistics(&env->arena, &statistics);
    assert_int_equal(statistics.pages_quarantined, 2);
    assert_int_equal(sk_dma_domain_deinit(&domain), SK_OK);
}

#define TEST(name)         cmocka_unit_test_setup_teardown(name, setup, teardown)
#define TEST_ABANDON(name) cmocka_unit_test_setup_teardown(name, setup, teardown_abandon)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_io_buffer_create__sizes_are_rounded_zeroed_and_reachable),
        TEST(test_io_buffer_create__alignment_is_the_devices),
        TEST(test_io_buffer_create__bad_sizes_refused),
        TEST(test_io_buffer_create__bad_alignments_refused),
        TEST(test_io_buffer_create__exhausted_arena_refused),
        TEST(test_io_buffer_create__a_handle_with_memory_refused),
        TEST(test_io_buffer_create__missing_arguments_refused),
        TEST(test_io_buffer_create__outside_of_every_window_unreachable),
        TEST(test_io_buffer_create__the_second_window_serves),
        TEST(test_io_buffer_create__a_window_of_one_page_serves_one),
        TEST(test_io_buffer_create__windows_that_continue_each_other_serve_one_run),
        TEST(test_io_buffer_create__a_window_off_the_page_grid_is_no_use),
        TEST(test_io_buffer_create__the_domains_limits_are_kept),
        TEST(test_io_buffer_create_constrained__every_constraint_is_kept),
        TEST(test_io_buffer_create_constrained__a_preference_is_given_up_silently),
        TEST(test_io_buffer_destroy__twice_is_logged_and_refused),
        TEST(test_io_buffer_destroy__held_is_busy),
        TEST(test_io_buffer_move__everything_goes_along),
        TEST(test_io_buffer_move__onto_itself_changes_nothing),
        TEST(test_io_buffer_move__onto_live_or_from_nothing_refused),
        TEST(test_io_buffer_use__after_move_or_destroy_refused),
        TEST(test_io_buffer_create__a_handle_lives_again),
        TEST(test_io_buffer_scope_end__releases_what_was_not_moved),
        TEST_ABANDON(test_io_buffer_scope_end__held_is_quarantined),
        TEST_ABANDON(test_io_buffer_quarantine__memory_is_never_used_again),
        TEST(test_io_buffer_view__parts_keep_to_their_ends),
        TEST(test_io_view_data__stale_views_say_so),
        TEST(test_io_view_data__memory_of_another_domain_is_noticed),
        TEST(test_io_buffer_segment__ends_are_checked),
        TEST(test_io_buffer_segment__four_gib_are_refused_not_truncated),
        TEST(test_io_buffer_adopt__memory_stays_the_owners),
        TEST(test_io_buffer_adopt__unsuitable_memory_refused),
        TEST(test_io_buffer_adopt__the_end_of_physical_memory),
        TEST(test_io_buffer_adopt__cut_cache_lines_refused_without_coherence),
        TEST(test_io_buffer_quarantine__adopted_memory_is_left_alone),
        TEST(test_io_buffer_for_device__coherent_needs_no_cache_work),
        TEST(test_io_buffer_for_device__caches_are_kept_in_order),
        TEST(test_io_buffer_for_device__bad_arguments_change_nothing),
        TEST(test_io_buffer_create__no_cache_hooks_unsupported),
        TEST(test_io_buffer_create__cached_zones_only_need_maintenance),
        TEST(test_io_buffer_create__uncached_zone_is_coherent_for_every_device),
        TEST(test_io_buffer__random_lives_leave_nothing_behind),
        TEST(test_io_buffer_create__iommu_says_the_address),
        TEST(test_io_buffer_create__iommu_address_that_does_not_fit_is_undone),
        TEST(test_io_buffer_adopt__iommu_shows_whole_pages_only),
        TEST(test_io_buffer_create__failing_iommu_leaks_nothing),
        TEST_ABANDON(test_io_buffer_destroy__failing_iommu_quarantines),
    };

    return cmocka_run_group_tests_name("io_buffer", tests, NULL, NULL);
}
