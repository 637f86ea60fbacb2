/* SPDX-License-Identifier: MIT */
/* IN_ORDER, NOTIFICATION_DATA and RING_RESET of the fake device, with both kinds of rings. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include <linux/virtio_mmio.h>

#include "fake/naive_fake.h"
#include "fake/naive_packed.h"

#define PACKED      SK_VIRTIO_FEATURE(SK_VIRTIO_F_RING_PACKED)
#define IN_ORDER    SK_VIRTIO_FEATURE(SK_VIRTIO_F_IN_ORDER)
#define NOTIFY_DATA SK_VIRTIO_FEATURE(SK_VIRTIO_F_NOTIFICATION_DATA)
#define RING_RESET  SK_VIRTIO_FEATURE(SK_VIRTIO_F_RING_RESET)
#define QUEUE_RESET 0x0c0

#define USED_AT(i) (NAIVE_USED + 4 + 8 * (i))

static struct fake_device_config config_with(uint64_t features)
{
    struct fake_device_config config = FAKE_DEVICE_CONFIG_DEFAULT;

    config.features |= features;
    return config;
}

/* --- IN_ORDER ------------------------------------------------------------ */

static void submit_four(struct naive *naive)
{
    for (unsigned slot = 0; slot < 4; slot++) {
        naive_submit(naive, slot, 0, 0, 512);
    }
}

static void test_fake_in_order__split_batches_share_an_entry(void **state)
{
    struct fake_device_config config = config_with(IN_ORDER);
    struct naive naive;
    struct fake_device *fake;

    (void)state;
    config.deferred = true;
    config.in_order_batch = 3;
    config.order = FAKE_ORDER_LAST_IN; /* IN_ORDER is stronger */
    fake = naive_open_fake(&naive, &config);
    naive_start(&naive, VERSION_1 | IN_ORDER);
    submit_four(&naive);
    assert_int_equal(fake_device_run(fake, UINT_MAX), 4);
    assert_int_equal(naive_take(&naive, NAIVE_USED + 2, 2), 4);
    assert_int_equal(naive_take(&naive, USED_AT(0), 4), 6);
    assert_int_equal(naive_take(&naive, USED_AT(0) + 4, 4), 513);
    assert_int_equal(naive_take(&naive, USED_AT(1), 4), 0);
    assert_int_equal(naive_take(&naive, USED_AT(2), 4), 0);
    assert_int_equal(naive_take(&naive, USED_AT(3), 4), 9);
    assert_int_equal(fake->completions, 4);
    assert_int_equal(fake->skipped, 2);
    assert_int_equal(naive.interrupts, 1);
    naive_close_fake(&naive, fake);
}

static void test_fake_in_order__split_failures_have_an_entry(void **state)
{
    struct fake_device_config config = config_with(IN_ORDER);
    struct naive naive;
    struct fake_device *fake;

    (void)state;
    config.deferred = true;
    config.in_order_batch = 10;
    fake = naive_open_fake(&naive, &config);
    naive_start(&naive, VERSION_1 | IN_ORDER);
    fake_device_fault(fake, FAKE_FAULT_IO_ERROR, 0, 1, 1);
    submit_four(&naive);
    assert_int_equal(fake_device_run(fake, UINT_MAX), 4);
    assert_int_equal(naive_take(&naive, NAIVE_USED + 2, 2), 4);
    assert_int_equal(naive_take(&naive, USED_AT(0), 4), 3);
    assert_int_equal(naive_take(&naive, USED_AT(0) + 4, 4), 1);
    assert_int_equal(naive_take(&naive, USED_AT(2), 4), 9);
    assert_int_equal(naive_status(&naive, 0), 0);
    assert_int_equal(naive_status(&naive, 1), 1);
    naive_close_fake(&naive, fake);
}

static void test_fake_in_order__without_a_batch_each_has_an_entry(void **state)
{
    const struct fake_device_config config = config_with(IN_ORDER);
    struct naive naive;
    struct fake_device *fake = naive_open_fake(&naive, &config);

    (void)state;
    naive_start(&naive, VERSION_1 | IN_ORDER);
    submit_four(&naive);
    for (unsigned slot = 0; slot < 4; slot++) {
        naive_expect(&naive, slot, 0);
    }
    assert_int_equal(fake->skipped, 0);
    naive_close_fake(&naive, fake);
}

static void test_fake_in_order__packed_batches_share_a_descriptor(void **state)
{
    struct fake_device_config config = config_with(IN_ORDER | PACKED);
    struct naive_packed packed;
    struct naive naive;
    struct fake_device *fake;

    (void)state;
    config.deferred = true;
    config.in_order_batch = 3;
    fake = naive_open_fake(&naive, &config);
    naive_packed_start(&packed, &naive, 13, VERSION_1 | IN_ORDER | PACKED);
    for (unsigned round = 0; round < 50; round++) {
        for (unsigned slot = 0; slot < 4; slot++) {
            naive_packed_submit(&packed, slot, 0, 0, 512);
        }
        assert_int_equal(fake_device_run(fake, UINT_MAX), 4);
        assert_true(naive_packed_next_used(&packed, true));
        assert_int_equal(naive.last_id, NAIVE_PACKED_ID + 2);
        assert_int_equal(packed.count, 1);
        assert_true(naive_packed_next_used(&packed, true));
        assert_int_equal(naive.last_id, NAIVE_PACKED_ID + 3);
        assert_false(naive_packed_next_used(&packed, true));
    }
    assert_int_equal(fake->skipped, 100);
    naive_close_fake(&naive, fake);
}

static void test_fake_in_order__stalls_hold_up_all(void **state)
{
    const struct fake_device_config config = config_with(IN_ORDER);
    struct naive naive;
    struct fake_device *fake = naive_open_fake(&naive, &config);

    (void)state;
    naive_start(&naive, VERSION_1 | IN_ORDER);
    fake_device_fault(fake, FAKE_FAULT_STALL, 0, 1, 1);
    submit_four(&naive);
    naive_expect(&naive, 0, 0);
    assert_false(naive_next_used(&naive));
    assert_int_equal(fake_device_complete_stalled(fake), 3);
    for (unsigned slot = 1; slot < 4; slot++) {
        naive_expect(&naive, slot, 0);
    }
    naive_close_fake(&naive, fake);
}

static void test_fake_in_order__fault_breaks_the_order(void **state)
{
    struct fake_device_config config = config_with(IN_ORDER);
    struct naive naive;
    struct fake_device *fake;

    (void)state;
    config.deferred = true;
    fake = naive_open_fake(&naive, &config);
    naive_start(&naive, VERSION_1 | IN_ORDER);
    submit_four(&naive);
    fake_device_fault(fake, FAKE_FAULT_OUT_OF_ORDER, 0, 1, 1);
    assert_int_equal(fake_device_run(fake, UINT_MAX), 4);
    naive_expect(&naive, 0, 0);
    naive_expect(&naive, 3, 0);
    naive_expect(&naive, 1, 0);
    naive_expect(&naive, 2, 0);
    naive_close_fake(&naive, fake);
}

static void test_fake_in_order__objects_to_chains_out_of_order(void **state)
{
    const struct fake_device_config config = config_with(IN_ORDER);
    struct naive naive;
    struct fake_device *fake = naive_open_fake(&naive, &config);

    (void)state;
    naive_start(&naive, VERSION_1 | IN_ORDER | INDIRECT);
    naive_submit(&naive, 1, 0, 0, 512);
    naive_expect_violation(fake, "the chain at 3 should start at 0");
    naive_prepare(&naive, 2, 0, 0, 512);
    naive_put(&naive, 16 * 6 + 14, 2, 8);
    naive_publish(&naive, 6);
    naive_notify(&naive);
    naive_expect_violation(fake, "the next descriptor is not the next");
    naive_start(&naive, VERSION_1 | IN_ORDER | INDIRECT);
    naive_prepare_indirect(&naive, 0, 0, 0, 512);
    naive_put(&naive, NAIVE_TABLE + 14, 2, 2);
    naive_publish(&naive, 0);
    naive_notify(&naive);
    naive_expect_violation(fake, "the next descriptor is not the next");
    naive_close_fake(&naive, fake);
}

/* --- NOTIFICATION_DATA ---------------------------------------------------- */

static void test_fake_notification_data__split_has_the_available_index(void **state)
{
    const struct fake_device_config config = config_with(NOTIFY_DATA);
    struct naive naive;
    struct fake_device *fake = naive_open_fake(&naive, &config);

    (void)state;
    naive_start(&naive, VERSION_1 | NOTIFY_DATA);
    naive.quiet = true;
    naive_submit(&naive, 0, 0, 0, 512);
    naive_submit(&naive, 1, 0, 0, 512);
    naive_set(&naive, VIRTIO_MMIO_QUEUE_NOTIFY, 2u << 16);
    naive_expect(&naive, 0, 0);
    naive_expect(&naive, 1, 0);
    fake_device_check(fake);
    naive_submit(&naive, 2, 0, 0, 512);
    naive_set(&naive, VIRTIO_MMIO_QUEUE_NOTIFY, 2u << 16);
    naive_expect_violation(fake, "notification data says 0x2, the ring 0x3");
    naive_set(&naive, VIRTIO_MMIO_QUEUE_NOTIFY, 3u << 16 | 1);
    naive_expect_violation(fake, "notification of queue 1");
    naive_close_fake(&naive, fake);
}

static void test_fake_notification_data__packed_has_place_and_wrap(void **state)
{
    const struct fake_device_config config = config_with(NOTIFY_DATA | PACKED);
    struct naive_packed packed;
    struct naive naive;
    struct fake_device *fake = naive_open_fake(&naive, &config);

    (void)state;
    naive_packed_start(&packed, &naive, 5, VERSION_1 | NOTIFY_DATA | PACKED);
    packed.data = true;
    for (unsigned round = 0; round < 100; round++) {
        naive_packed_submit(&packed, 0, 0, 0, 512);
        naive_packed_expect(&packed, 0, 0);
    }
    naive_packed_notify(&packed); /* the same again is no fault */
    fake_device_check(fake);
    packed.next_wrap = !packed.next_wrap;
    naive_packed_notify(&packed);
    naive_expect_violation(fake, "notification data says");
    naive_close_fake(&naive, fake);
}

static void test_fake_notification_data__without_it_there_is_none(void **state)
{
    struct naive naive;
    struct fake_device *fake = naive_start_fake(&naive, VERSION_1);

    (void)state;
    naive_set(&naive, VIRTIO_MMIO_QUEUE_NOTIFY, 1u << 16);
    naive_expect_violation(fake, "notification of queue 65536");
    naive_close_fake(&naive, fake);
}

/* --- RING_RESET ----------------------------------------------------------- */

static void test_fake_queue_reset__one_queue_starts_anew(void **state)
{
    struct fake_device_config config = config_with(RING_RESET);
    struct naive naive;
    struct fake_device *fake;

    (void)state;
    config.deferred = true;
    fake = naive_open_fake(&naive, &config);
    naive_start(&naive, VERSION_1 | RING_RESET);
    fake_device_fault(fake, FAKE_FAULT_STALL, 0, 0, 1);
    naive_submit(&naive, 0, 0, 0, 512);
    assert_int_equal(fake_device_run(fake, UINT_MAX), 0);
    naive_submit(&naive, 1, 0, 0, 512);
    naive_set(&naive, QUEUE_RESET, 1);
    assert_int_equal(naive_get(&naive, QUEUE_RESET), 0);
    assert_int_equal(naive_get(&naive, VIRTIO_MMIO_QUEUE_READY), 0);
    assert_int_equal(naive_get(&naive, VIRTIO_MMIO_STATUS), 15);
    assert_int_equal(fake_device_run(fake, UINT_MAX), 0);
    assert_int_equal(fake_device_complete_stalled(fake), 0);
    assert_int_equal(fake->in_flight, 0);
    assert_int_equal(fake->queue_resets, 1);
    assert_int_equal(fake->resets, 1);
    naive_clear_rings(&naive);
    naive_set_up_queue(&naive);
    naive_submit(&naive, 2, 0, 0, 512);
    assert_int_equal(fake_device_run(fake, UINT_MAX), 1);
    naive_expect(&naive, 2, 0);
    naive_close_fake(&naive, fake);
}

static void test_fake_queue_reset__packed_starts_at_the_first_round(void **state)
{
    const struct fake_device_config config = config_with(RING_RESET | PACKED);
    struct naive_packed packed;
    struct naive naive;
    struct fake_device *fake = naive_open_fake(&naive, &config);

    (void)state;
    naive_packed_start(&packed, &naive, 5, VERSION_1 | RING_RESET | PACKED);
    for (unsigned round = 0; round < 20; round++) {
        for (unsigned i = 0; i < round; i++) {
            naive_packed_submit(&packed, 0, 0, 0, 512);
            naive_packed_expect(&packed, 0, 0);
        }
        naive_set(&naive, QUEUE_RESET, 1);
        assert_int_equal(naive_get(&naive, QUEUE_RESET), 0);
        packed.size = 5 + round;
        naive_packed_set_up_queue(&packed);
    }
    naive_close_fake(&naive, fake);
}

static void test_fake_queue_reset__takes_its_time(void **state)
{
    struct fake_device_config config = config_with(RING_RESET);
    struct naive naive;
    struct fake_device *fake;

    (void)state;
    config.deferred = true;
    fake = naive_open_fake(&naive, &config);
    naive_start(&naive, VERSION_1 | RING_RESET);
    fake_device_fault(fake, FAKE_FAULT_QUEUE_RESET, 0, 0, 2);
    naive_submit(&naive, 0, 0, 0, 512);
    naive_set(&naive, QUEUE_RESET, 1);
    assert_int_equal(naive_get(&naive, QUEUE_RESET), 1);
    assert_int_equal(fake_device_run(fake, UINT_MAX), 1); /* it still may */
    assert_int_equal(naive_get(&naive, QUEUE_RESET), 1);
    fake_device_check(fake);
    naive_notify(&naive);
    naive_expect_violation(fake, "in the middle of its reset");
    assert_int_equal(naive_get(&naive, QUEUE_RESET), 0);
    assert_int_equal(naive_get(&naive, QUEUE_RESET), 0);
    naive_close_fake(&naive, fake);
}

static void test_fake_queue_reset__objects(void **state)
{
    const struct fake_device_config config = config_with(RING_RESET);
    struct naive naive;
    struct fake_device *fake = naive_open_fake(&naive, &config);

    (void)state;
    naive_start(&naive, VERSION_1);
    naive_set(&naive, QUEUE_RESET, 1);
    naive_expect_violation(fake, "QueueReset written without the feature");
    (void)naive_get(&naive, QUEUE_RESET);
    naive_expect_violation(fake, "QueueReset read without the feature");
    naive_start(&naive, VERSION_1 | RING_RESET);
    naive_set(&naive, QUEUE_RESET, 2);
    naive_expect_violation(fake, "or not 1 (2)");
    naive_set(&naive, QUEUE_RESET, 1);
    naive_set(&naive, VIRTIO_MMIO_QUEUE_NUM, 16);
    naive_expect_violation(fake, "QueueNum of queue 0 before QueueReset was seen to be 0");
    assert_int_equal(naive_get(&naive, QUEUE_RESET), 0);
    naive_set(&naive, QUEUE_RESET, 1);
    naive_expect_violation(fake, "QueueReset of queue 0, which is not in use");
    naive_notify(&naive);
    naive_expect_violation(fake, "notification of queue 0, which is not in use");
    naive_close_fake(&naive, fake);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fake_in_order__split_batches_share_an_entry),
        cmocka_unit_test(test_fake_in_order__split_failures_have_an_entry),
        cmocka_unit_test(test_fake_in_order__without_a_batch_each_has_an_entry),
        cmocka_unit_test(test_fake_in_order__packed_batches_share_a_descriptor),
        cmocka_unit_test(test_fake_in_order__stalls_hold_up_all),
        cmocka_unit_test(test_fake_in_order__fault_breaks_the_order),
        cmocka_unit_test(test_fake_in_order__objects_to_chains_out_of_order),
        cmocka_unit_test(test_fake_notification_data__split_has_the_available_index),
        cmocka_unit_test(test_fake_notification_data__packed_has_place_and_wrap),
        cmocka_unit_test(test_fake_notification_data__without_it_there_is_none),
        cmocka_unit_test(test_fake_queue_reset__one_queue_starts_anew),
        cmocka_unit_test(test_fake_queue_reset__packed_starts_at_the_first_round),
        cmocka_unit_test(test_fake_queue_reset__takes_its_time),
        cmocka_unit_test(test_fake_queue_reset__objects),
    };

    return cmocka_run_group_tests_name("fake_features", tests, NULL, NULL);
}
