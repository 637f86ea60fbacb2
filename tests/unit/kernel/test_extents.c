/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "../../../kernel/lib/extents.h"

#define WORDS  (EXTENTS_SECTOR_BYTES / 8)
#define NUMBER 2000u

static const struct extents disks[] = {
    { 1, 0, 1, 1 },     { 2, 0, 2, 1 },      { 3, 0, 129, 1 },      { 4, 0, 4096, 1 },
    { 5, 0, 512, 8 },   { 6, 7, 3, 128 },    { 7, 100, 4096, 1 },   { 8, 0, 5, 512 },
    { 9, 0, 1000, 16 }, { 0, 1, 300, 2048 }, { UINT64_MAX, 0, UINT64_MAX >> 12, 8 },
};
#define DISKS (sizeof(disks) / sizeof(disks[0]))

static void test_extents_get__lies_in_its_part_in_whole_blocks(void **state)
{
    (void)state;
    for (size_t i = 0; i < DISKS; i++) {
        const struct extents *disk = &disks[i];
        uint64_t first = disk->first_block * disk->block_sectors;
        uint64_t end = first + disk->block_count * disk->block_sectors;

        for (uint64_t number = 0; number < NUMBER; number++) {
            struct extent extent;

            extents_get(disk, number, &extent);
            assert_true(extent.sectors > 0 && extent.sectors % disk->block_sectors == 0);
            assert_true(extent.sector % disk->block_sectors == 0);
            assert_true(extent.sector >= first && extent.sector + extent.sectors <= end);
            assert_true(extent.sectors == disk->block_sectors ||
                        extent.sectors * EXTENTS_SECTOR_BYTES <= EXTENTS_BYTES);
        }
    }
}

static void test_extents_get__the_first_two_are_at_the_ends(void **state)
{
    (void)state;
    for (size_t i = 0; i < DISKS; i++) {
        const struct extents *disk = &disks[i];
        struct extent extent;

        extents_get(disk, 0, &extent);
        assert_true(extent.sector + extent.sectors ==
                    (disk->first_block + disk->block_count) * disk->block_sectors);
        extents_get(disk, 1, &extent);
        assert_true(extent.sector == disk->first_block * disk->block_sectors);
    }
}

static void test_extents_get__every_kind_and_many_lengths_occur(void **state)
{
    unsigned kinds[3] = { 0 };
    uint32_t longest = 0;
    unsigned of_one = 0;

    (void)state;
    for (uint64_t number = 0; number < NUMBER; number++) {
        struct extent extent;

        extents_get(&disks[3], number, &extent);
        kinds[extent.kind]++;
        longest = extent.sectors > longest ? extent.sectors : longest;
        of_one += extent.sectors == 1;
    }
    assert_in_range(kinds[EXTENT_DURABLE], NUMBER / 32, NUMBER / 8);
    assert_in_range(kinds[EXTENT_ZEROES], NUMBER / 32, NUMBER / 8);
    assert_int_equal(longest, EXTENTS_BYTES / EXTENTS_SECTOR_BYTES);
    assert_true(of_one > 0);
}

static void test_extents_get__another_seed_is_another_order(void **state)
{
    struct extents other = disks[3];
    unsigned equal = 0;

    (void)state;
    other.seed++;
    for (uint64_t number = 2; number < NUMBER; number++) {
        struct extent left;
        struct extent right;

        extents_get(&disks[3], number, &left);
        extents_get(&other, number, &right);
        equal += left.sector == right.sector;
    }
    assert_in_range(equal, 0, NUMBER / 100);
}

/* The same numbers stand in tests/qemu/test_scrub.py: both sides of an image compute alike. */
static void test_extents_fill__is_what_the_host_computes(void **state)
{
    const struct extents disk = { 1, 0, 4096, 1 };
    uint64_t words[WORDS];
    struct extent extent;

    (void)state;
    extents_get(&disk, 2, &extent);
    assert_int_equal(extent.sector, 3155);
    assert_int_equal(extent.sectors, 38);
    assert_int_equal(extent.kind, EXTENT_PLAIN);
    extents_fill(&disk, 5, EXTENT_PLAIN, 77, words);
    assert_int_equal(words[0], 77);
    assert_int_equal(words[1], 5);
    assert_true(words[2] == UINT64_C(0x53a9db22e6423e37));
}

static void test_extents_fill__zeroes_are_zero(void **state)
{
    uint64_t words[WORDS];

    (void)state;
    memset(words, 0xff, sizeof(words));
    extents_fill(&disks[3], 9, EXTENT_ZEROES, 9, words);
    for (unsigned i = 0; i < WORDS; i++) {
        assert_true(words[i] == 0);
    }
}

static void test_extents_overlap__whichever_comes_first(void **state)
{
    struct extent middle = { 10, 5, EXTENT_PLAIN };
    struct extent other = { 5, 5, EXTENT_PLAIN };

    (void)state;
    for (; other.sector < 20; other.sector++) {
        bool wanted = other.sector > 5 && other.sector < 15;

        assert_true(extents_overlap(&middle, &other) == wanted);
        assert_true(extents_overlap(&other, &middle) == wanted);
    }
}

static void test_extents_origin__tells_where_content_comes_from(void **state)
{
    uint64_t words[WORDS];
    uint64_t number;
    uint64_t sector;

    (void)state;
    extents_fill(&disks[3], 1234, EXTENT_PLAIN, 99, words);
    assert_true(extents_origin(&disks[3], words, &number, &sector));
    assert_int_equal(number, 1234);
    assert_int_equal(sector, 99);
    assert_false(extents_origin(&disks[4], words, &number, &sector));
    for (unsigned i = 0; i < WORDS; i++) {
        words[i] ^= 1;
        assert_false(extents_origin(&disks[3], words, &number, &sector));
        words[i] ^= 1;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_extents_get__lies_in_its_part_in_whole_blocks),
        cmocka_unit_test(test_extents_get__the_first_two_are_at_the_ends),
        cmocka_unit_test(test_extents_get__every_kind_and_many_lengths_occur),
        cmocka_unit_test(test_extents_get__another_seed_is_another_order),
        cmocka_unit_test(test_extents_fill__is_what_the_host_computes),
        cmocka_unit_test(test_extents_fill__zeroes_are_zero),
        cmocka_unit_test(test_extents_overlap__whichever_comes_first),
        cmocka_unit_test(test_extents_origin__tells_where_content_comes_from),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
