/* SPDX-License-Identifier: MIT */
/* The histogram itself: buckets, shares, and what may be asked for. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "block/block_latency.h"
#include "support/blk_rig.h"

static struct sk_block_latency latency;

static void add(uint64_t ns, unsigned times)
{
    while (times-- > 0) {
        ski_block_latency_add(&latency, ns);
    }
}

static void test_block_latency_add__each_power_of_two_begins_a_bucket(void **state)
{
    (void)state;
    memset(&latency, 0, sizeof(latency));
    add(0, 1);
    add(1, 1);
    assert_int_equal(latency.buckets[0], 2);
    for (unsigned i = 1; i < SK_BLOCK_LATENCY_BUCKETS - 1; i++) {
        uint64_t first = UINT64_C(1) << i;

        memset(&latency, 0, sizeof(latency));
        add(first - 1, 1);
        add(first, 1);
        add(2 * first - 1, 1);
        add(2 * first, 1);
        assert_int_equal(latency.buckets[i - 1], 1);
        assert_int_equal(latency.buckets[i], 2);
        assert_int_equal(latency.buckets[i + 1], 1);
        assert_int_equal(latency.count, 4);
        assert_int_equal(latency.total_ns, 6 * first - 2);
        assert_int_equal(latency.longest_ns, 2 * first);
    }
}

static void test_block_latency_add__the_last_bucket_has_no_end(void **state)
{
    (void)state;
    memset(&latency, 0, sizeof(latency));
    add(UINT64_C(1) << (SK_BLOCK_LATENCY_BUCKETS - 1), 1);
    add(UINT64_C(1) << SK_BLOCK_LATENCY_BUCKETS, 1);
    add(UINT64_MAX, 1);
    assert_int_equal(latency.buckets[SK_BLOCK_LATENCY_BUCKETS - 1], 3);
    assert_int_equal(sk_block_latency_quantile(&latency, 1, 3), UINT64_MAX);
}

static void test_block_latency_quantile__is_the_end_of_the_bucket_or_the_longest(void **state)
{
    (void)state;
    memset(&latency, 0, sizeof(latency));
    add(100, 90);  /* 64 to 127 */
    add(1000, 9);  /* 512 to 1023 */
    add(70000, 1); /* 65536 to 131071 */
    assert_int_equal(sk_block_latency_quantile(&latency, 1, 1000), 127);
    assert_int_equal(sk_block_latency_quantile(&latency, 90, 100), 127);
    assert_int_equal(sk_block_latency_quantile(&latency, 901, 1000), 1023);
    assert_int_equal(sk_block_latency_quantile(&latency, 99, 100), 1023);
    assert_int_equal(sk_block_latency_quantile(&latency, 9901, 10000), 70000);
    assert_int_equal(sk_block_latency_quantile(&latency, 1, 1), 70000);
}

static void test_block_latency_quantile__of_nothing_or_no_fraction_is_zero(void **state)
{
    (void)state;
    memset(&latency, 0, sizeof(latency));
    assert_int_equal(sk_block_latency_quantile(&latency, 1, 2), 0);
    add(100, 1);
    assert_int_equal(sk_block_latency_quantile(&latency, 0, 1), 0);
    assert_int_equal(sk_block_latency_quantile(&latency, 0, 0), 0);
    assert_int_equal(sk_block_latency_quantile(&latency, 2, 1), 0);
    assert_int_equal(sk_block_latency_quantile(&latency, 1, UINT32_MAX), 100);
}

static void test_block_latency_quantile__counts_near_the_end_do_not_overflow(void **state)
{
    (void)state;
    memset(&latency, 0, sizeof(latency));
    latency.count = UINT64_MAX;
    latency.buckets[3] = UINT64_MAX - 1;
    latency.buckets[9] = 1;
    latency.longest_ns = 600;
    assert_int_equal(sk_block_latency_quantile(&latency, UINT32_MAX - 1, UINT32_MAX), 15);
    assert_int_equal(sk_block_latency_quantile(&latency, UINT32_MAX, UINT32_MAX), 600);
}

static void test_block_set_latency__takes_powers_of_two(void **state)
{
    static struct blk_rig rig;

    (void)state;
    blk_rig_start(&rig, NULL, NULL);
    assert_int_equal(sk_block_set_latency(rig.queue, 3), SK_ERR_INVALID);
    assert_int_equal(sk_block_set_latency(rig.queue, UINT32_MAX), SK_ERR_INVALID);
    for (uint32_t every = 1; every != 0; every *= 2) {
        assert_int_equal(sk_block_set_latency(rig.queue, every), SK_OK);
    }
    assert_int_equal(sk_block_set_latency(rig.queue, 0), SK_OK);
    blk_rig_deinit(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_block_latency_add__each_power_of_two_begins_a_bucket),
        cmocka_unit_test(test_block_latency_add__the_last_bucket_has_no_end),
        cmocka_unit_test(test_block_latency_quantile__is_the_end_of_the_bucket_or_the_longest),
        cmocka_unit_test(test_block_latency_quantile__of_nothing_or_no_fraction_is_zero),
        cmocka_unit_test(test_block_latency_quantile__counts_near_the_end_do_not_overflow),
        cmocka_unit_test(test_block_set_latency__takes_powers_of_two),
    };

    return cmocka_run_group_tests_name("block_latency", tests, NULL, NULL);
}
