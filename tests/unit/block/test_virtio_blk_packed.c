/* SPDX-License-Identifier: MIT */
/* The driver on packed rings: every shape, sizes that are no powers of two, faults. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "support/blk_rig.h"

#define BATCH 24u
#define POLLS 2000u

static struct blk_rig rig;
static struct blk_rig_request requests[BATCH];
static struct sk_block_request *batch[BATCH];

static uint64_t bit(unsigned number)
{
    return SK_VIRTIO_FEATURE(number);
}

static struct fake_device_config packed_config(bool indirect, bool event_idx)
{
    struct fake_device_config config = FAKE_DEVICE_CONFIG_DEFAULT;

    config.features |= bit(SK_VIRTIO_F_RING_PACKED);
    config.features &= indirect ? UINT64_MAX : ~bit(SK_VIRTIO_F_INDIRECT_DESC);
    config.features &= event_idx ? UINT64_MAX : ~bit(SK_VIRTIO_F_EVENT_IDX);
    return config;
}

static void prepare(void)
{
    for (size_t i = 0; i < BATCH; i++) {
        blk_rig_prepare(&rig, &requests[i], SK_BLOCK_READ, i, i, 512);
        batch[i] = &requests[i].request;
    }
}

/* Submits a batch and polls it out; the device finishes in any order. */
static void round_trip(uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        requests[i].completions = 0;
    }
    sk_block_submit(rig.queue, batch, count);
    for (unsigned i = 0; i < POLLS; i++) {
        uint32_t done = 0;

        (void)fake_device_run(rig.fake, 3);
        assert_int_equal(sk_block_poll(rig.queue, 0, NULL), SK_OK);
        for (uint32_t j = 0; j < count; j++) {
            done += requests[j].completions;
        }
        if (done == count) {
            break;
        }
    }
    for (uint32_t i = 0; i < count; i++) {
        assert_int_equal(requests[i].completions, 1);
        assert_int_equal(requests[i].request.status, SK_OK);
    }
}

static void run_shape(uint32_t size, unsigned shape)
{
    bool indirect = (shape & 1) != 0;
    bool event_idx = (shape & 2) != 0;
    bool deferred = (shape & 4) != 0;
    struct fake_device_config config = packed_config(indirect, event_idx);
    unsigned rounds = deferred ? 400 : 3000;

    config.queue_size_max = size;
    config.features |= (shape & 8) != 0 ? bit(SK_VIRTIO_F_IN_ORDER) : 0;
    config.in_order_batch = 1 + size % 5;
    config.deferred = deferred;
    config.order = deferred ? FAKE_ORDER_RANDOM : FAKE_ORDER_FIRST_IN;
    config.seed = size;
    config.features |= event_idx ? bit(SK_VIRTIO_F_NOTIFICATION_DATA) : 0;
    blk_rig_start(&rig, &config, NULL);
    assert_true(rig.disk->info.features & bit(SK_VIRTIO_F_RING_PACKED));
    assert_int_equal(rig.disk->info.queue_size, size < 128 ? size : 128);
    prepare();
    for (unsigned i = 0; i < rounds; i++) {
        round_trip(1 + i % BATCH);
    }
    /* Sleeping works as well. */
    requests[0].completions = 0;
    blk_rig_submit(&rig, &requests[0]);
    assert_true(blk_rig_run(&rig, &requests[0], POLLS));
    blk_rig_deinit(&rig);
}

static void test_virtio_blk_packed__every_shape_wraps(void **state)
{
    static const uint32_t sizes[] = { 3, 4, 5, 7, 16, 100, 127, 256 };

    (void)state;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        for (unsigned shape = 0; shape < 16; shape++) {
            run_shape(sizes[i], shape);
        }
    }
}

static void test_virtio_blk_packed__data_arrives_in_parts_and_flushes_last(void **state)
{
    (void)state;
    for (unsigned shape = 0; shape < 4; shape++) {
        struct fake_device_config config = packed_config(shape & 1, shape & 2);
        uint8_t *memory;

        config.seg_max = 3;
        config.size_max = 1024;
        config.features |= bit(SK_VIRTIO_BLK_F_SIZE_MAX);
        config.queue_size_max = 13;
        blk_rig_start(&rig, &config, NULL);
        memory = test_environment_foreign(&rig.env, 0);
        for (size_t i = 0; i < 300 * 512; i++) {
            memory[i] = (uint8_t)(i / 512 + i * 3);
        }
        assert_int_equal(sk_block_write(rig.queue, 9, memory, 300 * 512, 0), SK_OK);
        assert_memory_equal(rig.fake->storage + 9 * 512, memory, 300 * 512);
        assert_int_equal(sk_block_flush(rig.queue, 0), SK_OK);
        fake_device_lose_power(rig.fake);
        memset(memory, 0, 301 * 512);
        assert_int_equal(sk_block_read(rig.queue, 9, memory, 300 * 512, 0), SK_OK);
        assert_memory_equal(rig.fake->storage + 9 * 512, memory, 300 * 512);
        blk_rig_deinit(&rig);
    }
}

static void test_virtio_blk_packed__batch_is_one_notification(void **state)
{
    struct fake_device_config config = packed_config(true, true);
    uint64_t before;

    (void)state;
    config.deferred = true;
    blk_rig_start(&rig, &config, NULL);
    prepare();
    before = rig.fake->notifications;
    sk_block_submit(rig.queue, batch, BATCH);
    assert_int_equal(rig.fake->notifications, before + 1);
    assert_int_equal(fake_device_run(rig.fake, UINT_MAX), BATCH);
    assert_int_equal(sk_block_poll(rig.queue, 0, NULL), SK_OK);
    blk_rig_deinit(&rig);
}

/* Every request ends once with an error, the device is broken, and comes back. */
static void expect_broken_and_recover(void)
{
    assert_int_equal(sk_block_poll(rig.queue, BATCH, NULL), SK_ERR_BROKEN);
    for (size_t i = 0; i < BATCH; i++) {
        assert_int_equal(requests[i].completions, 1);
    }
    assert_int_equal(sk_block_get_state(rig.disk), SK_BLOCK_STATE_BROKEN);
    fake_device_behave(rig.fake);
    assert_int_equal(sk_block_recover(rig.disk, 0), SK_OK);
    round_trip(BATCH);
}

static void lie(bool indirect, enum fake_fault fault, uint64_t argument)
{
    struct fake_device_config config = packed_config(indirect, true);

    config.deferred = true;
    blk_rig_start(&rig, &config, NULL);
    prepare();
    sk_block_submit(rig.queue, batch, BATCH);
    fake_device_fault(rig.fake, fault, argument, 3, 1);
    (void)fake_device_run(rig.fake, UINT_MAX);
    expect_broken_and_recover();
    blk_rig_deinit(&rig);
}

static void test_virtio_blk_packed__hostile_12_ids_out_of_range_or_not_in_flight(void **state)
{
    (void)state;
    for (unsigned indirect = 0; indirect < 2; indirect++) {
        lie(indirect, FAKE_FAULT_USED_ID, 0xffff);
        lie(indirect, FAKE_FAULT_USED_ID, 128);
        lie(indirect, FAKE_FAULT_USED_ID, 120);
        lie(indirect, FAKE_FAULT_USED_REPLAY, 1);
        lie(indirect, FAKE_FAULT_NO_STATUS, 0);
    }
}

/* A wrong wrap bit makes a completion invisible: the rest waits until the deadline ends it. */
static void test_virtio_blk_packed__hostile_13_wrap_bits_confused(void **state)
{
    static const uint64_t flips[] = { 0x8080, 0x0080, 0x8000 };

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct fake_device_config config = packed_config(true, true);
        unsigned done = 0;

        config.deferred = true;
        blk_rig_start(&rig, &config, NULL);
        prepare();
        sk_block_submit(rig.queue, batch, BATCH);
        fake_device_fault(rig.fake, FAKE_FAULT_USED_FLAGS, flips[i], 3, 1);
        (void)fake_device_run(rig.fake, UINT_MAX);
        for (unsigned j = 0; j < 100 * POLLS && done < BATCH; j++) {
            if (sk_block_poll(rig.queue, 0, NULL) == SK_OK &&
                sk_block_wait(rig.queue, rig.env.clock_ns + 10000000) == SK_ERR_BUSY) {
                break;
            }
            done = 0;
            for (size_t k = 0; k < BATCH; k++) {
                done += requests[k].completions;
            }
        }
        assert_int_equal(done, BATCH);
        for (size_t k = 0; k < BATCH; k++) {
            assert_int_equal(requests[k].completions, 1);
        }
        assert_int_equal(sk_block_get_state(rig.disk), SK_BLOCK_STATE_BROKEN);
        fake_device_behave(rig.fake);
        assert_int_equal(sk_block_recover(rig.disk, 0), SK_OK);
        round_trip(BATCH);
        blk_rig_deinit(&rig);
    }
}

static void test_virtio_blk_packed__refused_by_options_means_split(void **state)
{
    struct fake_device_config config = packed_config(true, true);
    struct sk_virtio_blk_options options = blk_rig_options();

    (void)state;
    options.features = ~bit(SK_VIRTIO_F_RING_PACKED);
    blk_rig_start(&rig, &config, &options);
    assert_false(rig.disk->info.features & bit(SK_VIRTIO_F_RING_PACKED));
    prepare();
    round_trip(BATCH);
    blk_rig_deinit(&rig);
}

static void test_virtio_blk_split__notification_data_names_the_index(void **state)
{
    struct fake_device_config config = FAKE_DEVICE_CONFIG_DEFAULT;

    (void)state;
    config.features |= bit(SK_VIRTIO_F_NOTIFICATION_DATA);
    blk_rig_start(&rig, &config, NULL);
    prepare();
    for (unsigned i = 0; i < 4000; i++) {
        round_trip(1 + i % BATCH); /* the fake device checks what it is told */
    }
    blk_rig_deinit(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_virtio_blk_packed__every_shape_wraps),
        cmocka_unit_test(test_virtio_blk_packed__data_arrives_in_parts_and_flushes_last),
        cmocka_unit_test(test_virtio_blk_packed__batch_is_one_notification),
        cmocka_unit_test(test_virtio_blk_packed__hostile_12_ids_out_of_range_or_not_in_flight),
        cmocka_unit_test(test_virtio_blk_packed__hostile_13_wrap_bits_confused),
        cmocka_unit_test(test_virtio_blk_packed__refused_by_options_means_split),
        cmocka_unit_test(test_virtio_blk_split__notification_data_names_the_index),
    };

    return cmocka_run_group_tests_name("virtio_blk_packed", tests, NULL, NULL);
}
