/* SPDX-License-Identifier: MIT */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include <skio/dma_domain.h>

#include "memory/dma_private.h"

/* Field by field: padding has no value. */
static void assert_same(const struct sk_dma_constraints *a, const struct sk_dma_constraints *b)
{
    assert_int_equal(a->size_bytes, b->size_bytes);
    assert_int_equal(a->alignment_bytes, b->alignment_bytes);
    assert_int_equal(a->alignment_preferred, b->alignment_preferred);
    assert_int_equal(a->boundary_bytes, b->boundary_bytes);
    assert_int_equal(a->lowest.raw, b->lowest.raw);
    assert_int_equal(a->highest.raw, b->highest.raw);
    assert_int_equal(a->segment_count_max, b->segment_count_max);
    assert_int_equal(a->segment_bytes_max, b->segment_bytes_max);
    assert_int_equal(a->copied, b->copied);
}

static void test_dma_constraints_merge__nothing_demanded_changes_nothing(void **state)
{
    struct sk_dma_constraints none = { 0 };
    struct sk_dma_constraints some = { .size_bytes = 100,
                                       .alignment_bytes = 8,
                                       .alignment_preferred = 64,
                                       .boundary_bytes = 4096,
                                       .lowest = { 16 },
                                       .highest = { 1u << 20 },
                                       .segment_count_max = 3,
                                       .segment_bytes_max = 50,
                                       .copied = true };
    struct sk_dma_constraints copy = some;

    (void)state;
    assert_int_equal(sk_dma_constraints_merge(&some, &none), SK_OK);
    assert_same(&some, &copy);
    assert_int_equal(sk_dma_constraints_merge(&none, &some), SK_OK);
    assert_same(&none, &copy);
    assert_int_equal(sk_dma_constraints_merge(&some, &copy), SK_OK);
    assert_same(&some, &copy);
}

static void test_dma_constraints_merge__each_field_takes_the_tighter_one(void **state)
{
    struct sk_dma_constraints a = { 4096, 16, 0, 65536, { 0 }, { 0xffffffff }, 8, 0,
                                    true };
    struct sk_dma_constraints b = { 100, 64, 4096, 0, { 0x1000 }, { 0 }, 2, 8192, false };

    (void)state;
    assert_int_equal(sk_dma_constraints_merge(&a, &b), SK_OK);
    assert_int_equal(a.size_bytes, 4096);
    assert_int_equal(a.alignment_bytes, 64);
    assert_int_equal(a.alignment_preferred, 4096);
    assert_int_equal(a.boundary_bytes, 65536);
    assert_int_equal(a.lowest.raw, 0x1000);
    assert_int_equal(a.highest.raw, 0xffffffff);
    assert_int_equal(a.segment_count_max, 2);
    assert_int_equal(a.segment_bytes_max, 8192);
    assert_true(a.copied);
}

/* Merging must fail with `expected` and leave the first side alone. */
static void assert_refused(struct sk_dma_constraints into, struct sk_dma_constraints with,
                           enum sk_status expected)
{
    const struct sk_dma_constraints copy = into;

    assert_int_equal(sk_dma_constraints_merge(&into, &with), expected);
    assert_same(&into, &copy);
}

static void test_dma_constraints_merge__no_power_of_two_refused(void **state)
{
    const struct sk_dma_constraints bad[] = { { .alignment_bytes = 3 },
                                              { .alignment_preferred = 12 },
                                              { .boundary_bytes = 5000 },
                                              { .alignment_bytes = UINT64_MAX } };
    struct sk_dma_constraints good = { .alignment_bytes = 4096, .alignment_preferred = 8192,
                                       .boundary_bytes = 512 };

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_refused(good, bad[i], SK_ERR_ALIGNMENT);
        assert_refused(bad[i], good, SK_ERR_ALIGNMENT);
    }
}

static void test_dma_constraints_merge__impossible_refused(void **state)
{
    (void)state;
    /* Ends that contradict each other. */
    assert_refused((struct sk_dma_constraints){ .lowest = { 0x2000 } },
                   (struct sk_dma_constraints){ .highest = { 0x1fff } }, SK_ERR_RANGE);
    /* No room for the size between them. */
    assert_refused((struct sk_dma_constraints){ .lowest = { 0x1000 }, .highest = { 0x1fff } },
                   (struct sk_dma_constraints){ .size_bytes = 0x1001 }, SK_ERR_RANGE);
    /* No aligned address between them. */
    assert_refused((struct sk_dma_constraints){ .lowest = { 0x1001 }, .highest = { 0x1fff } },
                   (struct sk_dma_constraints){ .alignment_bytes = 0x1000 }, SK_ERR_RANGE);
    assert_refused((struct sk_dma_constraints){ .lowest = { UINT64_MAX - 5 } },
                   (struct sk_dma_constraints){ .alignment_bytes = 8 }, SK_ERR_RANGE);
    /* Sums that wrap. */
    assert_refused((struct sk_dma_constraints){ .lowest = { 2 } },
                   (struct sk_dma_constraints){ .size_bytes = UINT64_MAX }, SK_ERR_RANGE);
    /* More than all pieces together can hold. */
    assert_refused((struct sk_dma_constraints){ .segment_count_max = 4 },
                   (struct sk_dma_constraints){ .size_bytes = 4097, .segment_bytes_max = 1024 },
                   SK_ERR_RANGE);
    assert_refused((struct sk_dma_constraints){ .segment_count_max = 1, .size_bytes = 8192 },
                   (struct sk_dma_constraints){ .boundary_bytes = 4096 }, SK_ERR_RANGE);
}

static void test_dma_constraints_merge__the_last_possible_is_accepted(void **state)
{
    struct sk_dma_constraints a = { .lowest = { 0x1000 }, .highest = { 0x1fff } };
    struct sk_dma_constraints b = { .size_bytes = 0x1000, .alignment_bytes = 0x1000 };
    struct sk_dma_constraints c = { .segment_count_max = UINT32_MAX,
                                    .segment_bytes_max = UINT64_MAX };

    (void)state;
    assert_int_equal(sk_dma_constraints_merge(&a, &b), SK_OK);
    assert_int_equal(sk_dma_constraints_merge(&c, &b), SK_OK);
    a = (struct sk_dma_constraints){ .segment_count_max = 4 };
    b = (struct sk_dma_constraints){ .size_bytes = 4096, .segment_bytes_max = 1024 };
    assert_int_equal(sk_dma_constraints_merge(&a, &b), SK_OK);
}

static void test_dma_constraints_merge__missing_argument_refused(void **state)
{
    struct sk_dma_constraints one = { 0 };

    (void)state;
    assert_int_equal(sk_dma_constraints_merge(NULL, &one), SK_ERR_INVALID);
    assert_int_equal(sk_dma_constraints_merge(&one, NULL), SK_ERR_INVALID);
}

static uint64_t next_random(uint64_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

static struct sk_dma_constraints random_constraints(uint64_t *seed)
{
    struct sk_dma_constraints made = { 0 };

    made.alignment_bytes = next_random(seed) % 3 == 0 ? 0 : 1u << next_random(seed) % 6;
    made.boundary_bytes = next_random(seed) % 3 == 0 ? 0 : 1u << next_random(seed) % 8;
    made.lowest.raw = next_random(seed) % 3 == 0 ? 0 : next_random(seed) % 128;
    made.highest.raw = next_random(seed) % 3 == 0 ? 0 : next_random(seed) % 256;
    return made;
}

/* By hand, without the library's arithmetic. */
static bool satisfies(const struct sk_dma_constraints *what, uint64_t address, uint64_t bytes)
{
    for (uint64_t i = address; what->boundary_bytes != 0 && i + 1 < address + bytes; i++) {
        if (i / what->boundary_bytes != (i + 1) / what->boundary_bytes) {
            return false;
        }
    }
    return (what->alignment_bytes == 0 || address % what->alignment_bytes == 0) &&
           address >= what->lowest.raw &&
           (what->highest.raw == 0 || address + bytes - 1 <= what->highest.raw);
}

static void test_dma_constraints_merge__whatever_satisfies_it_satisfies_both(void **state)
{
    const uint64_t start = 20261123;
    uint64_t seed = start;

    (void)state;
    for (int round = 0; round < 20000; round++) {
        struct sk_dma_constraints a = random_constraints(&seed);
        struct sk_dma_constraints b = random_constraints(&seed);
        struct sk_dma_constraints merged = a;
        uint64_t address = next_random(&seed) % 300;
        uint64_t bytes = 1 + next_random(&seed) % 40;
        bool both = satisfies(&a, address, bytes) && satisfies(&b, address, bytes);
        enum sk_status status = sk_dma_constraints_merge(&merged, &b);
        bool allowed =
            status == SK_OK && ski_dma_constraints_allow(&merged, sk_daddr_make(address), bytes);

        if (allowed != both) {
            print_error("seed %" PRIu64 ", round %d\n", start, round);
        }
        assert_int_equal(allowed, both);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dma_constraints_merge__nothing_demanded_changes_nothing),
        cmocka_unit_test(test_dma_constraints_merge__each_field_takes_the_tighter_one),
        cmocka_unit_test(test_dma_constraints_merge__no_power_of_two_refused),
        cmocka_unit_test(test_dma_constraints_merge__impossible_refused),
        cmocka_unit_test(test_dma_constraints_merge__the_last_possible_is_accepted),
        cmocka_unit_test(test_dma_constraints_merge__missing_argument_refused),
        cmocka_unit_test(test_dma_constraints_merge__whatever_satisfies_it_satisfies_both),
    };

    return cmocka_run_group_tests_name("dma_constraints", tests, NULL, NULL);
}
