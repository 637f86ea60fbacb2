/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <skio/checked.h>

static void test_checked_add__up_to_the_last_value(void **state)
{
    uint64_t sum = 0;

    (void)state;
    assert_true(sk_checked_add(2, 3, &sum));
    assert_int_equal(sum, 5);
    assert_true(sk_checked_add(UINT64_MAX - 3, 3, &sum));
    assert_true(sum == UINT64_MAX);
    assert_true(sk_checked_add(UINT64_MAX, 0, &sum));
}

static void test_checked_add__overflow_is_false(void **state)
{
    uint64_t sum = 0;

    (void)state;
    assert_false(sk_checked_add(UINT64_MAX - 3, 4, &sum));
    assert_false(sk_checked_add(1, UINT64_MAX, &sum));
    assert_false(sk_checked_add(UINT64_MAX, UINT64_MAX, &sum));
}

static void test_checked_mul__fits_or_is_false(void **state)
{
    uint64_t product = 1;

    (void)state;
    assert_true(sk_checked_mul(0, UINT64_MAX, &product));
    assert_int_equal(product, 0);
    assert_true(sk_checked_mul(UINT64_C(1) << 32, UINT32_MAX, &product));
    assert_true(product == UINT64_C(0xffffffff00000000));
    assert_false(sk_checked_mul(UINT64_C(1) << 32, UINT64_C(1) << 32, &product));
    assert_false(sk_checked_mul(UINT64_MAX, 512, &product));
    assert_false(sk_checked_mul(UINT64_MAX / 512 + 1, 512, &product));
    assert_true(sk_checked_mul(UINT64_MAX / 512, 512, &product));
}

static void test_checked_is_power_of_two__every_bit_and_its_neighbours(void **state)
{
    (void)state;
    assert_false(sk_checked_is_power_of_two(0));
    for (unsigned bit = 0; bit < 64; bit++) {
        uint64_t value = UINT64_C(1) << bit;

        assert_true(sk_checked_is_power_of_two(value));
        assert_true(bit == 1 || !sk_checked_is_power_of_two(value - 1) || value - 1 == 1);
        assert_true(bit == 0 || !sk_checked_is_power_of_two(value + 1));
    }
}

static void test_checked_align_up__rounds_to_multiples(void **state)
{
    uint64_t value = 0;

    (void)state;
    for (uint64_t alignment = 1; alignment <= 4096; alignment *= 2) {
        for (uint64_t from = 0; from < 3 * 4096; from += 17) {
            assert_true(sk_checked_align_up(from, alignment, &value));
            assert_true(value >= from && value - from < alignment && value % alignment == 0);
        }
    }
}

static void test_checked_align_up__bad_alignment_is_false(void **state)
{
    uint64_t value = 0;

    (void)state;
    assert_false(sk_checked_align_up(8, 0, &value));
    assert_false(sk_checked_align_up(8, 3, &value));
    assert_false(sk_checked_align_up(8, 4097, &value));
}

static void test_checked_align_up__overflow_is_false(void **state)
{
    uint64_t value = 0;

    (void)state;
    assert_false(sk_checked_align_up(UINT64_MAX, 2, &value));
    assert_false(sk_checked_align_up(UINT64_MAX - 4094, 4096, &value));
    assert_true(sk_checked_align_up(UINT64_MAX - 4095, 4096, &value));
    assert_true(value == UINT64_MAX - 4095);
    assert_true(sk_checked_align_up(UINT64_MAX, 1, &value));
}

static void test_checked_range__inside(void **state)
{
    (void)state;
    assert_true(sk_checked_range(0, 0, 0));
    assert_true(sk_checked_range(0, 10, 10));
    assert_true(sk_checked_range(10, 0, 10));
    assert_true(sk_checked_range(3, 7, 10));
    assert_true(sk_checked_range(0, UINT64_MAX, UINT64_MAX));
}

static void test_checked_range__outside_and_overflowing(void **state)
{
    (void)state;
    assert_false(sk_checked_range(3, 8, 10));
    assert_false(sk_checked_range(11, 0, 10));
    assert_false(sk_checked_range(1, UINT64_MAX, UINT64_MAX));
    assert_false(sk_checked_range(UINT64_MAX, 1, UINT64_MAX));
    assert_false(sk_checked_range(UINT64_MAX - 1, 3, 10));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_checked_add__up_to_the_last_value),
        cmocka_unit_test(test_checked_add__overflow_is_false),
        cmocka_unit_test(test_checked_mul__fits_or_is_false),
        cmocka_unit_test(test_checked_is_power_of_two__every_bit_and_its_neighbours),
        cmocka_unit_test(test_checked_align_up__rounds_to_multiples),
        cmocka_unit_test(test_checked_align_up__bad_alignment_is_false),
        cmocka_unit_test(test_checked_align_up__overflow_is_false),
        cmocka_unit_test(test_checked_range__inside),
        cmocka_unit_test(test_checked_range__outside_and_overflowing),
    };

    return cmocka_run_group_tests_name("checked", tests, NULL, NULL);
}
