/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "support/iommu.h"

#define PAGES 8u
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

static struct sk_dma_domain_config config_of(struct test_environment *env)
{
    return (struct sk_dma_domain_config){ .platform = &env->platform,
                                          .arena = &env->arena,
                                          .windows = env->windows,
                                          .window_count = 2,
                                          .coherent = true };
}

/* Init must fail with `expected` and leave a domain on which every call fails. */
static void assert_refused(const struct sk_dma_domain_config *config, enum sk_status expected)
{
    static const struct sk_dma_domain zero;
    struct sk_dma_domain domain;
    struct sk_dma_mapping mapping;
    struct sk_dma_segment segment;
    sk_daddr address;
    char byte;

    memset(&domain, 0xee, sizeof(domain));
    assert_int_equal(sk_dma_domain_init(&domain, config), expected);
    assert_ptr_equal(domain.platform, zero.platform);
    assert_int_equal(sk_dma_domain_translate(&domain, sk_paddr_make(0), 1, &address), SK_ERR_GONE);
    assert_int_equal(sk_dma_domain_map(&domain, &byte, 1, SK_DMA_BOTH, NULL, &segment, 1, &mapping),
                     SK_ERR_GONE);
    assert_int_equal(sk_dma_domain_deinit(&domain), SK_ERR_GONE);
}

static void test_dma_domain_init__missing_parts_refused(void **state)
{
    struct sk_dma_domain_config config = config_of(*state);
    struct sk_dma_iommu half = { .map = NULL };

    assert_int_equal(sk_dma_domain_init(NULL, &config), SK_ERR_INVALID);
    assert_refused(NULL, SK_ERR_INVALID);
    config.platform = NULL;
    assert_refused(&config, SK_ERR_INVALID);
    config = config_of(*state);
    config.arena = NULL;
    assert_refused(&config, SK_ERR_INVALID);
    config = config_of(*state);
    config.window_count = 0;
    assert_refused(&config, SK_ERR_INVALID);
    config = config_of(*state);
    config.windows = NULL;
    assert_refused(&config, SK_ERR_INVALID);
    config = config_of(*state);
    config.iommu = &half;
    assert_refused(&config, SK_ERR_INVALID);
}

static void test_dma_domain_init__windows_that_wrap_refused(void **state)
{
    const struct sk_dma_window bad[] = { { { 0 }, { 0 }, 0 },
                                         { { UINT64_MAX }, { 0 }, 2 },
                                         { { 0 }, { UINT64_MAX }, 2 },
                                         { { 2 }, { 0 }, UINT64_MAX } };
    const struct sk_dma_window good[] = { SK_DMA_WINDOW_IDENTITY };
    struct sk_dma_domain_config config = config_of(*state);
    struct sk_dma_domain domain;

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        config.windows = &bad[i];
        config.window_count = 1;
        assert_refused(&config, SK_ERR_INVALID);
    }
    config.windows = good;
    assert_int_equal(sk_dma_domain_init(&domain, &config), SK_OK);
    assert_int_equal(sk_dma_domain_deinit(&domain), SK_OK);
}

static void test_dma_domain_init__limits_that_contradict_refused(void **state)
{
    struct sk_dma_domain_config config = config_of(*state);

    config.limits = (struct sk_dma_constraints){ .alignment_bytes = 3 };
    assert_refused(&config, SK_ERR_ALIGNMENT);
    config.limits = (struct sk_dma_constraints){ .lowest = { 5 }, .highest = { 4 } };
    assert_refused(&config, SK_ERR_RANGE);
}

static void test_dma_domain_init__odd_platform_refused(void **state)
{
    struct test_environment *env = *state;
    struct sk_dma_domain_config config = config_of(env);
    struct sk_platform platform = env->platform;

    config.platform = &platform;
    platform.page_bytes = 5000;
    assert_refused(&config, SK_ERR_INVALID);
    platform.page_bytes = 0;
    platform.cache_line_bytes = 48;
    assert_refused(&config, SK_ERR_INVALID);
}

static void test_dma_domain_init__a_bus_asks_for_no_memory(void **state)
{
    struct test_environment *env = *state;
    struct sk_dma_domain_config config = config_of(env);
    struct sk_io_buffer buffer = SK_IO_BUFFER_EMPTY;
    struct sk_dma_domain domain;

    config.limits.size_bytes = 3 * PAGE;
    assert_int_equal(sk_dma_domain_init(&domain, &config), SK_OK);
    assert_int_equal(sk_io_buffer_create(&buffer, &domain, 1, 1), SK_OK);
    assert_int_equal(sk_io_buffer_capacity(&buffer), PAGE);
    assert_int_equal(sk_io_buffer_destroy(&buffer), SK_OK);
    assert_int_equal(sk_dma_domain_deinit(&domain), SK_OK);
}

static void test_dma_domain_deinit__live_buffers_are_named(void **state)
{
    struct test_environment *env = *state;
    struct sk_io_buffer buffer = SK_IO_BUFFER_EMPTY;
    unsigned lines;

    assert_int_equal(sk_io_buffer_create(&buffer, &env->domain, 100, 64), SK_OK);
    sk_io_buffer_set_owner(&buffer, "disk@3");
    lines = env->lines[SK_LOG_ERROR];
    assert_int_equal(sk_dma_domain_deinit(&env->domain), SK_ERR_BUSY);
    assert_int_equal(env->lines[SK_LOG_ERROR], lines + 1);
    assert_non_null(strstr(env->last_line, "disk@3"));
    assert_int_equal(sk_io_buffer_destroy(&buffer), SK_OK); /* it still works */
    assert_int_equal(sk_dma_domain_deinit(NULL), SK_ERR_INVALID);
}

static void test_dma_domain_deinit__live_mappings_keep_it(void **state)
{
    struct test_environment *env = *state;
    struct sk_dma_mapping mapping;
    struct sk_dma_segment segment;

    assert_int_equal(sk_dma_domain_map(&env->domain, test_environment_foreign(env, 0), 100,
                                       SK_DMA_BOTH, NULL, &segment, 1, &mapping),
                     SK_OK);
    assert_int_equal(sk_dma_domain_deinit(&env->domain), SK_ERR_BUSY);
    assert_int_equal(sk_dma_domain_unmap(&mapping, 0), SK_OK);
}

/* Translate */

static enum sk_status translate(const struct sk_dma_domain *domain, uint64_t paddr, uint64_t bytes,
                                uint64_t *out_raw)
{
    sk_daddr address = { 0xdead };
    enum sk_status status =
        sk_dma_domain_translate(domain, sk_paddr_make(paddr), bytes, &address);

    assert_true(status == SK_OK || address.raw == 0xdead);
    *out_raw = address.raw;
    return status;
}

static void test_dma_domain_translate__one_window(void **state)
{
    struct test_environment *env = *state;
    const uint64_t end = TEST_PADDR + PAGES * PAGE;
    uint64_t raw;

    assert_int_equal(translate(&env->domain, TEST_PADDR, 1, &raw), SK_OK);
    assert_int_equal(raw, TEST_PADDR + TEST_DEVICE_OFFSET);
    assert_int_equal(translate(&env->domain, TEST_PADDR, PAGES * PAGE, &raw), SK_OK);
    assert_int_equal(translate(&env->domain, end - 1, 1, &raw), SK_OK);
    assert_int_equal(raw, end - 1 + TEST_DEVICE_OFFSET);
    assert_int_equal(translate(&env->domain, end - 1, 2, &raw), SK_ERR_UNREACHABLE);
    assert_int_equal(translate(&env->domain, TEST_PADDR - 1, 2, &raw), SK_ERR_UNREACHABLE);
    assert_int_equal(translate(&env->domain, TEST_PADDR, UINT64_MAX, &raw), SK_ERR_UNREACHABLE);
    assert_int_equal(translate(&env->domain, UINT64_MAX, 1, &raw), SK_ERR_UNREACHABLE);
    assert_int_equal(translate(&env->domain, UINT64_MAX, 2, &raw), SK_ERR_UNREACHABLE);
    assert_int_equal(translate(&env->domain, TEST_PADDR, 0, &raw), SK_ERR_SIZE);
    assert_int_equal(sk_dma_domain_translate(&env->domain, sk_paddr_make(0), 1, NULL),
                     SK_ERR_INVALID);
}

static void test_dma_domain_translate__only_windows_that_continue_each_other_join(void **state)
{
    const struct sk_dma_window windows[] = {
        { { 0x3000 }, { 0x13000 }, 0x1000 }, /* continues the next one on both sides */
        { { 0x1000 }, { 0x11000 }, 0x2000 },
        { { 0x4000 }, { 0x50000 }, 0x1000 }, /* continues physically, not for the device */
        { { 0x8000 }, { 0x14000 }, 0x1000 }, /* continues for the device, not physically */
    };
    struct sk_dma_domain_config config = config_of(*state);
    struct sk_dma_domain domain;
    uint64_t raw;

    config.windows = windows;
    config.window_count = 4;
    assert_int_equal(sk_dma_domain_init(&domain, &config), SK_OK);
    assert_int_equal(translate(&domain, 0x1800, 0x2800, &raw), SK_OK);
    assert_int_equal(raw, 0x11800);
    assert_int_equal(translate(&domain, 0x1800, 0x2801, &raw), SK_ERR_UNREACHABLE);
    assert_int_equal(translate(&domain, 0x3fff, 2, &raw), SK_ERR_UNREACHABLE);
    assert_int_equal(translate(&domain, 0x4000, 0x1000, &raw), SK_OK);
    assert_int_equal(raw, 0x50000);
    assert_int_equal(translate(&domain, 0x8000, 1, &raw), SK_OK);
    assert_int_equal(raw, 0x14000);
    assert_int_equal(sk_dma_domain_deinit(&domain), SK_OK);
}

static void test_dma_domain_translate__device_addresses_do_not_join_around_their_end(void **state)
{
    const struct sk_dma_window windows[] = {
        { { 0x1000 }, { UINT64_MAX - 0xfff }, 0x1000 },
        { { 0x2000 }, { 0 }, 0x1000 },
    };
    struct sk_dma_domain_config config = config_of(*state);
    struct sk_dma_domain domain;
    uint64_t raw;

    config.windows = windows;
    assert_int_equal(sk_dma_domain_init(&domain, &config), SK_OK);
    assert_int_equal(translate(&domain, 0x1fff, 1, &raw), SK_OK);
    assert_int_equal(raw, UINT64_MAX);
    assert_int_equal(translate(&domain, 0x2000, 1, &raw), SK_OK);
    assert_int_equal(raw, 0);
    assert_int_equal(translate(&domain, 0x1fff, 2, &raw), SK_ERR_UNREACHABLE);
    assert_int_equal(sk_dma_domain_deinit(&domain), SK_OK);
}

static void test_dma_domain_translate__limits_of_the_device_count(void **state)
{
    const struct sk_dma_window windows[] = {
        { { 0 }, { UINT64_C(1) << 33 }, 0x10000 }, /* too high for the device */
        { { 0 }, { 0x20000 }, 0x10000 },           /* the same memory, where it can reach */
    };
    struct sk_dma_domain_config config = config_of(*state);
    struct sk_dma_domain domain;
    uint64_t raw;

    config.windows = windows;
    config.limits = (struct sk_dma_constraints){ .lowest = { 0x20100 }, .highest = { 0x2ffff } };
    assert_int_equal(sk_dma_domain_init(&domain, &config), SK_OK);
    assert_int_equal(translate(&domain, 0x100, 0xff00, &raw), SK_OK);
    assert_int_equal(raw, 0x20100);
    assert_int_equal(translate(&domain, 0xff, 1, &raw), SK_ERR_UNREACHABLE);
    assert_int_equal(sk_dma_domain_deinit(&domain), SK_OK);
    config.limits.highest.raw = 0x2fffe;
    assert_int_equal(sk_dma_domain_init(&domain, &config), SK_OK);
    assert_int_equal(translate(&domain, 0x100, 0xff00, &raw), SK_ERR_UNREACHABLE);
    assert_int_equal(sk_dma_domain_deinit(&domain), SK_OK);
}

static void test_dma_domain_translate__identity_only_where_written_down(void **state)
{
    const struct sk_dma_window windows[] = { SK_DMA_WINDOW_IDENTITY };
    struct sk_dma_domain_config config = config_of(*state);
    struct sk_dma_domain domain;
    uint64_t raw;

    config.windows = windows;
    config.window_count = 1;
    assert_int_equal(sk_dma_domain_init(&domain, &config), SK_OK);
    assert_int_equal(translate(&domain, 0, UINT64_MAX, &raw), SK_OK);
    assert_int_equal(raw, 0);
    assert_int_equal(translate(&domain, 12345, 1, &raw), SK_OK);
    assert_int_equal(raw, 12345);
    assert_int_equal(sk_dma_domain_deinit(&domain), SK_OK);
}

static void test_dma_domain_translate__iommu_unsupported(void **state)
{
    struct sk_dma_domain_config config = config_of(*state);
    struct sk_dma_domain domain;
    struct test_iommu iommu;
    uint64_t raw;

    test_iommu_init(&iommu, 0x10000);
    config.iommu = &iommu.hooks;
    config.windows = NULL; /* not needed then */
    config.window_count = 0;
    assert_int_equal(sk_dma_domain_init(&domain, &config), SK_OK);
    assert_int_equal(translate(&domain, TEST_PADDR, 1, &raw), SK_ERR_UNSUPPORTED);
    assert_int_equal(sk_dma_domain_deinit(&domain), SK_OK);
}

static void test_dma_domain_get_statistics__missing_arguments_are_harmless(void **state)
{
    struct test_environment *env = *state;
    struct sk_dma_domain_statistics statistics = { .buffers_live = 7 };

    sk_dma_domain_get_statistics(&env->domain, NULL);
    sk_dma_domain_get_statistics(NULL, &statistics);
    assert_int_equal(statistics.buffers_live, 0);
}

/* Random windows against a table of pages made by hand. */
static void test_dma_domain_translate__agrees_with_a_table(void **state)
{
    const unsigned start = 20261123;
    uint32_t random = start;

    for (int round = 0; round < 3000; round++) {
        struct sk_dma_domain_config config = config_of(*state);
        struct sk_dma_window windows[4];
        struct sk_dma_domain domain;
        bool expected = false;
        uint64_t paddr;
        uint64_t bytes;
        uint64_t raw = 0;
        enum sk_status status;

        for (size_t i = 0; i < 4; i++) {
            random = random * 1664525u + 1013904223u;
            windows[i] = (struct sk_dma_window){ { random >> 8 & 15 },
                                                 { (random >> 8 & 15) + (random >> 12 & 1) * 32 },
                                                 1 + (random >> 16 & 7) };
        }
        random = random * 1664525u + 1013904223u;
        paddr = random >> 8 & 15;
        bytes = 1 + (random >> 12 & 7);
        config.windows = windows;
        config.window_count = 4;
        assert_int_equal(sk_dma_domain_init(&domain, &config), SK_OK);
        for (uint64_t bias = 0; bias <= 32; bias += 32) {
            bool all = true;

            for (uint64_t at = paddr; at < paddr + bytes; at++) {
                bool one = false;

                for (size_t i = 0; i < 4; i++) {
                    one = one || (windows[i].daddr.raw - windows[i].paddr.raw == bias &&
                                  at >= windows[i].paddr.raw &&
                                  at - windows[i].paddr.raw < windows[i].bytes);
                }
                all = all && one;
            }
            expected = expected || all;
        }
        status = translate(&domain, paddr, bytes, &raw);
        if ((status == SK_OK) != expected) {
            print_error("seed %u, round %d\n", start, round);
        }
        assert_int_equal(status, expected ? SK_OK : SK_ERR_UNREACHABLE);
        assert_true(!expected || raw == paddr || raw == paddr + 32);
        assert_int_equal(sk_dma_domain_deinit(&domain), SK_OK);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_dma_domain_init__missing_parts_refused),
        TEST(test_dma_domain_init__windows_that_wrap_refused),
        TEST(test_dma_domain_init__limits_that_contradict_refused),
        TEST(test_dma_domain_init__odd_platform_refused),
        TEST(test_dma_domain_init__a_bus_asks_for_no_memory),
        TEST(test_dma_domain_deinit__live_buffers_are_named),
        TEST(test_dma_domain_deinit__live_mappings_keep_it),
        TEST(test_dma_domain_translate__one_window),
        TEST(test_dma_domain_translate__only_windows_that_continue_each_other_join),
        TEST(test_dma_domain_translate__device_addresses_do_not_join_around_their_end),
        TEST(test_dma_domain_translate__limits_of_the_device_count),
        TEST(test_dma_domain_translate__identity_only_where_written_down),
        TEST(test_dma_domain_translate__iommu_unsupported),
        TEST(test_dma_domain_get_statistics__missing_arguments_are_harmless),
        TEST(test_dma_domain_translate__agrees_with_a_table),
    };

    return cmocka_run_group_tests_name("dma_domain", tests, NULL, NULL);
}
