/* SPDX-License-Identifier: MIT */
/* Queues of every size: the smallest, odd ones, the largest, and what becomes of a wish. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "support/blk_rig.h"

#define COUNT 12u

static struct blk_rig rig;
static struct blk_rig_request requests[COUNT];
static bool in_order; /* offered */

static uint64_t bit(unsigned number)
{
    return SK_VIRTIO_FEATURE(number);
}

static void init(bool packed, bool indirect, uint32_t wanted, uint32_t most)
{
    struct fake_device_config config = FAKE_DEVICE_CONFIG_DEFAULT;
    struct sk_virtio_blk_options options = blk_rig_options();

    config.features |= packed ? bit(SK_VIRTIO_F_RING_PACKED) : 0;
    config.features &= indirect ? UINT64_MAX : ~bit(SK_VIRTIO_F_INDIRECT_DESC);
    config.features |= in_order ? bit(SK_VIRTIO_F_IN_ORDER) : 0;
    config.in_order_batch = 4;
    config.order = FAKE_ORDER_RANDOM;
    config.seed = wanted;
    config.deferred = true;
    config.queue_size_max = most;
    options.queue_size = wanted;
    options.segment_count = 1;
    blk_rig_init(&rig, &config, &options);
}

/* Rounds of more requests than the ring has room for; returns what was sent in all. */
static void work(unsigned rounds)
{
    for (uint32_t i = 0; i < COUNT; i++) {
        blk_rig_prepare(&rig, &requests[i], i % 2 == 0 ? SK_BLOCK_READ : SK_BLOCK_WRITE, i, i, 512);
        memset(test_environment_foreign(&rig.env, i), (int)i, 512);
    }
    for (unsigned round = 0; round < rounds; round++) {
        uint32_t done = 0;

        for (uint32_t i = 0; i < COUNT; i++) {
            requests[i].completions = 0;
            blk_rig_submit(&rig, &requests[i]);
        }
        for (unsigned poll = 0; poll < 1000 && done < COUNT; poll++) {
            (void)fake_device_run(rig.fake, 1 + round % 3);
            assert_int_equal(sk_block_poll(rig.queue, 0, NULL), SK_OK);
            done = 0;
            for (uint32_t i = 0; i < COUNT; i++) {
                done += requests[i].completions;
            }
        }
        for (uint32_t i = 0; i < COUNT; i++) {
            assert_int_equal(requests[i].completions, 1);
            assert_int_equal(requests[i].request.status, SK_OK);
        }
    }
    for (uint32_t i = 1; i < COUNT; i += 2) {
        assert_int_equal(rig.fake->storage[i * 512], i);
    }
}

static void expect_size(bool packed, bool indirect, uint32_t wanted, uint32_t most, uint32_t size)
{
    for (unsigned ordered = 0; ordered < 2; ordered++) {
        in_order = ordered != 0;
        init(packed, indirect, wanted, most);
        assert_int_equal(blk_rig_probe(&rig), SK_OK);
        assert_int_equal(rig.disk->info.queue_size, size);
        assert_int_equal(rig.disk->info.queue_depth, indirect ? size : size / 3);
        work(size > 256 ? 20 : 200);
        blk_rig_deinit(&rig);
    }
    in_order = false;
}

static void test_virtio_blk_size__split_is_the_next_lower_power_of_two(void **state)
{
    (void)state;
    expect_size(false, true, 128, 100, 64);
    expect_size(false, true, 100, 256, 64);
    expect_size(false, false, 7, 256, 4);
    expect_size(false, true, 65, 7, 4);
}

/* A request has three descriptors, and a table may not be longer than the ring; 2.7.5.3.1. */
static void test_virtio_blk_size__split_has_at_least_four_entries(void **state)
{
    (void)state;
    for (uint32_t wanted = 2; wanted <= 4; wanted++) {
        expect_size(false, true, wanted, 256, 4);
        expect_size(false, false, wanted, 256, 4);
        expect_size(false, true, wanted, 4, 4);
    }
}

static void test_virtio_blk_size__packed_is_what_both_can(void **state)
{
    (void)state;
    for (unsigned indirect = 0; indirect < 2; indirect++) {
        expect_size(true, indirect, 3, 256, 3);
        expect_size(true, indirect, 128, 5, 5);
        expect_size(true, indirect, 7, 256, 7);
        expect_size(true, indirect, 100, 256, 100);
        expect_size(true, indirect, 127, 128, 127);
        expect_size(true, indirect, 1000, 32768, 1000);
    }
}

/* In a packed ring the device alone limits tables; 2.8.19. */
static void test_virtio_blk_size__two_packed_entries_work_with_tables(void **state)
{
    (void)state;
    expect_size(true, true, 2, 256, 2);
    expect_size(true, true, 128, 2, 2);
}

static void test_virtio_blk_size__the_largest_works(void **state)
{
    (void)state;
    expect_size(false, false, 32768, 32768, 32768);
    expect_size(true, false, 32768, 32768, 32768);
    expect_size(true, false, 32767, 32768, 32767);
}

static void expect_refused(bool packed, bool indirect, uint32_t most)
{
    init(packed, indirect, 128, most);
    assert_int_equal(blk_rig_probe(&rig), SK_ERR_UNSUPPORTED);
    blk_rig_deinit(&rig);
}

static void test_virtio_blk_size__no_room_for_a_request_is_refused(void **state)
{
    (void)state;
    expect_refused(true, false, 2);
    for (uint32_t most = 1; most < 4; most++) {
        expect_refused(false, false, most);
        expect_refused(false, true, most);
    }
}

/* Odd sizes put each kind of chain at each place of the ring, and across its end. */
static void test_virtio_blk_size__split_indexes_pass_65535(void **state)
{
    (void)state;
    for (unsigned indirect = 0; indirect < 2; indirect++) {
        init(false, indirect, 4, 256);
        assert_int_equal(blk_rig_probe(&rig), SK_OK);
        work(65536 / COUNT + 10);
        assert_true(rig.fake->requests > 65536);
        blk_rig_deinit(&rig);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_virtio_blk_size__split_is_the_next_lower_power_of_two),
        cmocka_unit_test(test_virtio_blk_size__packed_is_what_both_can),
        cmocka_unit_test(test_virtio_blk_size__split_has_at_least_four_entries),
        cmocka_unit_test(test_virtio_blk_size__two_packed_entries_work_with_tables),
        cmocka_unit_test(test_virtio_blk_size__the_largest_works),
        cmocka_unit_test(test_virtio_blk_size__no_room_for_a_request_is_refused),
        cmocka_unit_test(test_virtio_blk_size__split_indexes_pass_65535),
    };

    return cmocka_run_group_tests_name("virtio_blk_sizes", tests, NULL, NULL);
}
