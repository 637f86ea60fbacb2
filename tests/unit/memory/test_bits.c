/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

/* The table that machines without a counting instruction use; the arena's tests run the other way. */
#define SKI_BITS_GENERIC
#include "memory/bits.h"

/* Calls `check` with words whose lowest or highest one is at every position. */
static void for_words(void (*check)(uint64_t word))
{
    static const uint64_t fillings[] = { 0, ~UINT64_C(0), UINT64_C(0xdeadbeefcafef00d),
                                         UINT64_C(0x5555555555555555) };

    for (unsigned bit = 0; bit < SKI_BITS_WORD; bit++) {
        uint64_t one = UINT64_C(1) << bit;

        for (size_t i = 0; i < sizeof(fillings) / sizeof(fillings[0]); i++) {
            check(one | (fillings[i] & (one - 1)));
            check(one | (fillings[i] & ~(one - 1)));
        }
    }
}

static void check_trailing(uint64_t word)
{
    uint32_t zeros = 0;

    while (!((word >> zeros) & 1)) {
        zeros++;
    }
    assert_int_equal(ski_bits_trailing_zeros(word), zeros);
}

static void check_leading(uint64_t word)
{
    uint32_t zeros = 0;

    while (!((word << zeros) >> 63)) {
        zeros++;
    }
    assert_int_equal(ski_bits_leading_zeros(word), zeros);
}

static void test_bits_trailing_zeros__every_position_matches_a_count(void **state)
{
    (void)state;
    for_words(check_trailing);
}

static void test_bits_leading_zeros__every_position_matches_a_count(void **state)
{
    (void)state;
    for_words(check_leading);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bits_trailing_zeros__every_position_matches_a_count),
        cmocka_unit_test(test_bits_leading_zeros__every_position_matches_a_count),
    };

    return cmocka_run_group_tests_name("bits", tests, NULL, NULL);
}
