/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "../../../kernel/lib/latency.h"

static struct latency latency;

static int reset(void **state)
{
    (void)state;
    memset(&latency, 0, sizeof(latency));
    return 0;
}

static void test_latency_at__without_values_is_zero(void **state)
{
    (void)state;
    assert_int_equal(latency_at(&latency, 500), 0);
    assert_int_equal(latency_at(&latency, 999), 0);
}

static void test_latency_at__one_value_is_itself(void **state)
{
    (void)state;
    latency_add(&latency, 123456);
    assert_int_equal(latency_at(&latency, 500), 123456);
    assert_int_equal(latency_at(&latency, 999), 123456);
}

static void test_latency_at__is_at_most_a_64th_too_large(void **state)
{
    (void)state;
    for (uint64_t i = 1; i <= 100000; i++) {
        latency_add(&latency, i * 10);
    }
    assert_int_equal(latency.count, 100000);
    assert_in_range(latency_at(&latency, 500), 500000, 500000 + 500000 / 64);
    assert_in_range(latency_at(&latency, 990), 990000, 1000000);
    assert_in_range(latency_at(&latency, 999), 999000, 1000000);
    assert_int_equal(latency.longest_ns, 1000000);
}

static void test_latency_add__takes_any_value(void **state)
{
    (void)state;
    for (unsigned shift = 0; shift < 64; shift++) {
        latency_add(&latency, UINT64_C(1) << shift);
        latency_add(&latency, (UINT64_C(1) << shift) - 1);
    }
    latency_add(&latency, UINT64_MAX);
    assert_true(latency_at(&latency, 1000) == UINT64_MAX);
}

static void test_latency_merge__is_as_if_all_were_added(void **state)
{
    static struct latency other;

    (void)state;
    memset(&other, 0, sizeof(other));
    for (uint64_t i = 1; i <= 1000; i++) {
        latency_add(i % 2 == 0 ? &latency : &other, i * 1000);
    }
    latency_merge(&latency, &other);
    assert_int_equal(latency.count, 1000);
    assert_int_equal(latency.longest_ns, 1000000);
    assert_in_range(latency_at(&latency, 500), 500000, 500000 + 500000 / 64);
    assert_in_range(latency_at(&latency, 999), 999000, 1000000);
    latency_merge(&latency, &(struct latency){ .count = 0 });
    assert_int_equal(latency.count, 1000);
    assert_int_equal(latency.longest_ns, 1000000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_latency_at__without_values_is_zero, reset),
        cmocka_unit_test_setup(test_latency_at__one_value_is_itself, reset),
        cmocka_unit_test_setup(test_latency_at__is_at_most_a_64th_too_large, reset),
        cmocka_unit_test_setup(test_latency_add__takes_any_value, reset),
        cmocka_unit_test_setup(test_latency_merge__is_as_if_all_were_added, reset),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
