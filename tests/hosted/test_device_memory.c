/* SPDX-License-Identifier: MIT */
/* The memory table of a device. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "device_memory.h"

static _Alignas(64) uint8_t bytes[65536];

static struct ski_device_region region(uint64_t guest, uint64_t user, uint64_t size)
{
    return (struct ski_device_region){ guest, user, size, bytes, NULL, 0 };
}

static void test_device_memory_add__bad_regions_are_refused(void **state)
{
    static struct ski_device_memory memory;
    static const struct {
        uint64_t guest;
        uint64_t user;
        uint64_t size;
        enum sk_status status;
    } cases[] = {
        { 0x1000, 0x9000, 0, SK_ERR_SIZE },
        { UINT64_MAX, 0x9000, 2, SK_ERR_RANGE },
        { 0x1000, UINT64_MAX, 2, SK_ERR_RANGE },
        { 0x1000, 0x9000, UINT64_MAX, SK_ERR_RANGE },
        { 0x10000, 0x1000, 1, SK_ERR_BUSY },          /* the first byte */
        { 0x1ffff, 0x1000, 1, SK_ERR_BUSY },          /* the last */
        { 0xffff, 0x1000, 2, SK_ERR_BUSY },           /* reaches into it */
        { 0, 0x1000, 0x100000, SK_ERR_BUSY },         /* around it */
        { 0x30000, 0x80000, 1, SK_ERR_BUSY },         /* by its user address */
        { 0x30000, 0x7ffff, 2, SK_ERR_BUSY },
        { 0xffff, 0x7ffff, 1, SK_OK },                /* next to it */
        { 0x20000, 0x90000, 1, SK_OK },
        { UINT64_MAX, UINT64_MAX, 1, SK_OK },
    };
    struct ski_device_region first = region(0x10000, 0x80000, 0x10000);

    (void)state;
    memory.count = 0;
    assert_int_equal(ski_device_memory_add(&memory, &first), SK_OK);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct ski_device_region other = region(cases[i].guest, cases[i].user, cases[i].size);
        uint32_t count = memory.count;

        assert_int_equal(ski_device_memory_add(&memory, &other), cases[i].status);
        assert_int_equal(memory.count, count + (cases[i].status == SK_OK));
    }
}

static void test_device_memory_find__each_address_finds_its_region(void **state)
{
    static struct ski_device_memory memory;

    (void)state;
    memory.count = 0;
    for (uint32_t i = 0; i < SKI_DEVICE_REGIONS_MAX; i++) {
        uint32_t place = i * 37 % SKI_DEVICE_REGIONS_MAX; /* in no order */
        struct ski_device_region one = region(0x1000 + 0x20 * place, 0x100000 + 0x10 * place, 0x10);

        one.host = bytes + 16 * place;
        assert_int_equal(ski_device_memory_add(&memory, &one), SK_OK);
    }
    for (uint32_t i = 0; i < SKI_DEVICE_REGIONS_MAX; i++) {
        uint64_t guest = 0x1000 + 0x20 * (uint64_t)i;
        const struct ski_device_region *found = ski_device_memory_find(&memory, guest + 15);

        assert_non_null(found);
        assert_int_equal(found->guest, guest);
        assert_ptr_equal(ski_device_region_at(found, guest + 3), bytes + 16 * i + 3);
        assert_ptr_equal(ski_device_memory_find(&memory, guest), found);
        assert_null(ski_device_memory_find(&memory, guest + 16));
        assert_null(ski_device_memory_find(&memory, guest - 1));
        assert_true(ski_device_region_holds(found, guest, 16));
        assert_false(ski_device_region_holds(found, guest, 17));
        assert_false(ski_device_region_holds(found, guest + 15, 2));
        assert_false(ski_device_region_holds(found, guest - 1, 1));
        assert_false(ski_device_region_holds(found, guest + 1, UINT64_MAX));
    }
    struct ski_device_region more = region(0, 0, 1);

    assert_int_equal(ski_device_memory_add(&memory, &more), SK_ERR_NO_MEMORY);
    assert_int_equal(memory.count, SKI_DEVICE_REGIONS_MAX);
}

static void test_device_memory_remove__all_three_must_be_right(void **state)
{
    static struct ski_device_memory memory;
    struct ski_device_region one = region(0x1000, 0x2000, 0x100);
    struct ski_device_region two = region(0x3000, 0x4000, 0x100);
    struct ski_device_region out;

    (void)state;
    memory.count = 0;
    assert_int_equal(ski_device_memory_add(&memory, &one), SK_OK);
    assert_int_equal(ski_device_memory_add(&memory, &two), SK_OK);
    assert_int_equal(ski_device_memory_remove(&memory, 0x1000, 0x2000, 0xff, &out),
                     SK_ERR_NOT_FOUND);
    assert_int_equal(ski_device_memory_remove(&memory, 0x1000, 0x4000, 0x100, &out),
                     SK_ERR_NOT_FOUND);
    assert_int_equal(ski_device_memory_remove(&memory, 0x3000, 0x2000, 0x100, &out),
                     SK_ERR_NOT_FOUND);
    assert_int_equal(memory.count, 2);
    assert_int_equal(ski_device_memory_remove(&memory, 0x1000, 0x2000, 0x100, &out), SK_OK);
    assert_int_equal(out.guest, 0x1000);
    assert_null(ski_device_memory_find(&memory, 0x1000));
    assert_non_null(ski_device_memory_find(&memory, 0x3000));
}

static void test_device_memory_at_user__whole_and_aligned_or_nothing(void **state)
{
    static struct ski_device_memory memory;
    struct ski_device_region one = region(0x1000, 0x2000, 0x100);

    (void)state;
    memory.count = 0;
    assert_int_equal(ski_device_memory_add(&memory, &one), SK_OK);
    assert_ptr_equal(ski_device_memory_at_user(&memory, 0x2000, 0x100, 16), ski_door_share(bytes));
    assert_ptr_equal(ski_device_memory_at_user(&memory, 0x20f0, 16, 16),
                     ski_door_share(bytes + 0xf0));
    assert_null((void *)(uintptr_t)ski_device_memory_at_user(&memory, 0x2000, 0x101, 16));
    assert_null((void *)(uintptr_t)ski_device_memory_at_user(&memory, 0x20f1, 15, 2));
    assert_null((void *)(uintptr_t)ski_device_memory_at_user(&memory, 0x1fff, 1, 1));
    assert_null((void *)(uintptr_t)ski_device_memory_at_user(&memory, 0x2100, 1, 1));
    assert_null((void *)(uintptr_t)ski_device_memory_at_user(&memory, UINT64_MAX, 1, 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_device_memory_add__bad_regions_are_refused),
        cmocka_unit_test(test_device_memory_find__each_address_finds_its_region),
        cmocka_unit_test(test_device_memory_remove__all_three_must_be_right),
        cmocka_unit_test(test_device_memory_at_user__whole_and_aligned_or_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
