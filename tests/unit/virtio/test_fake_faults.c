/* SPDX-License-Identifier: MIT */
/* Each of the fake device's misbehaviours is what it says, and no more. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include <linux/virtio_mmio.h>

#include "fake/naive_fake.h"

static const struct fake_device_config default_config = FAKE_DEVICE_CONFIG_DEFAULT;

static void test_fake_fault_registers__read_as_told(void **state)
{
    static const struct {
        enum fake_fault fault;
        uint64_t offset;
        uint32_t normal;
    } cases[] = {
        { FAKE_FAULT_MAGIC, VIRTIO_MMIO_MAGIC_VALUE, 0x74726976 },
        { FAKE_FAULT_VERSION, VIRTIO_MMIO_VERSION, 2 },
        { FAKE_FAULT_DEVICE_ID, VIRTIO_MMIO_DEVICE_ID, 2 },
        { FAKE_FAULT_QUEUE_MAX, VIRTIO_MMIO_QUEUE_NUM_MAX, 256 },
        { FAKE_FAULT_QUEUE_READY, VIRTIO_MMIO_QUEUE_READY, 1 },
        { FAKE_FAULT_STATUS_REGISTER, VIRTIO_MMIO_STATUS, 15 },
        { FAKE_FAULT_DEAD, VIRTIO_MMIO_STATUS, 15 },
    };
    struct naive naive;
    struct fake_device *fake = naive_start_fake(&naive, VERSION_1);

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        fake_device_fault(fake, cases[i].fault, 0xabcdef, 1, 2);
        assert_int_equal(naive_get(&naive, cases[i].offset), cases[i].normal);
        assert_int_equal(naive_get(&naive, cases[i].offset), 0xabcdef);
        assert_int_equal(naive_get(&naive, cases[i].offset), 0xabcdef);
        assert_int_equal(naive_get(&naive, cases[i].offset), cases[i].normal);
        assert_int_equal(fake->faults[cases[i].fault].fired, 2);
    }
    naive_close_fake(&naive, fake);
}

static void test_fake_fault_reset__takes_its_time(void **state)
{
    struct fake_device_config config = default_config;
    struct naive naive;
    struct fake_device *fake;

    (void)state;
    config.deferred = true;
    fake = naive_open_fake(&naive, &config);
    naive_start(&naive, VERSION_1);
    naive_submit(&naive, 0, 0, 0, 512);
    fake_device_fault(fake, FAKE_FAULT_RESET, 0, 0, 2);
    naive_set(&naive, VIRTIO_MMIO_STATUS, 0);
    assert_int_equal(naive_get(&naive, VIRTIO_MMIO_STATUS), 15);
    assert_int_equal(fake_device_run(fake, UINT_MAX), 1); /* it still may */
    assert_int_equal(naive_get(&naive, VIRTIO_MMIO_STATUS), 15);
    assert_int_equal(naive_get(&naive, VIRTIO_MMIO_STATUS), 0);
    naive_start(&naive, VERSION_1);
    fake_device_fault(fake, FAKE_FAULT_RESET, 0, 0, FAKE_FOR_EVER);
    naive_set(&naive, VIRTIO_MMIO_STATUS, 0);
    for (unsigned i = 0; i < 1000; i++) {
        assert_int_equal(naive_get(&naive, VIRTIO_MMIO_STATUS), 15);
    }
    naive_close_fake(&naive, fake);
}

static void test_fake_fault_features__are_refused(void **state)
{
    struct naive naive;
    struct fake_device *fake = naive_open_fake(&naive, &default_config);

    (void)state;
    fake_device_fault(fake, FAKE_FAULT_FEATURES_REFUSED, 0, 0, 1);
    naive_reset(&naive);
    naive_set(&naive, VIRTIO_MMIO_STATUS, 1);
    naive_set(&naive, VIRTIO_MMIO_STATUS, 3);
    naive_set(&naive, VIRTIO_MMIO_DRIVER_FEATURES, 0);
    naive_set(&naive, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
    naive_set(&naive, VIRTIO_MMIO_DRIVER_FEATURES, 1);
    naive_set(&naive, VIRTIO_MMIO_STATUS, 11);
    assert_int_equal(naive_get(&naive, VIRTIO_MMIO_STATUS), 3);
    naive_negotiate(&naive, VERSION_1);
    naive_close_fake(&naive, fake);
}

static void test_fake_fault_config__tears_and_never_settles(void **state)
{
    struct naive naive;
    struct fake_device *fake = naive_start_fake(&naive, VERSION_1);
    uint32_t before = naive_get(&naive, VIRTIO_MMIO_CONFIG_GENERATION);

    (void)state;
    fake_device_fault(fake, FAKE_FAULT_CONFIG_TEARS, 0, 0, 1);
    assert_int_equal(naive_get(&naive, VIRTIO_MMIO_CONFIG), 2048);
    assert_int_not_equal(naive_get(&naive, VIRTIO_MMIO_CONFIG + 4), 0);
    assert_int_not_equal(naive_get(&naive, VIRTIO_MMIO_CONFIG_GENERATION), before);
    fake_device_fault(fake, FAKE_FAULT_GENERATION, 0, 0, FAKE_FOR_EVER);
    before = naive_get(&naive, VIRTIO_MMIO_CONFIG_GENERATION);
    assert_int_not_equal(naive_get(&naive, VIRTIO_MMIO_CONFIG_GENERATION), before);
    naive_close_fake(&naive, fake);
}

static void test_fake_fault_interrupt__comes_at_any_register(void **state)
{
    struct naive naive;
    struct fake_device *fake = naive_open_fake(&naive, &default_config);

    (void)state;
    fake_device_fault(fake, FAKE_FAULT_INTERRUPT, 3, 0, FAKE_FOR_EVER);
    naive_start(&naive, VERSION_1);
    assert_true(naive.interrupts > 20);
    fake_device_behave(fake);
    naive.interrupts = 0;
    fake_device_fault(fake, FAKE_FAULT_INTERRUPT_STATUS, 0xf0, 0, 1);
    fake_device_interrupt(fake, 2);
    assert_int_equal(naive.interrupts, 1);
    assert_int_equal(naive_get(&naive, VIRTIO_MMIO_INTERRUPT_STATUS), 0xf0);
    naive_close_fake(&naive, fake);
}

static void test_fake_fault_status_byte__is_wrong_or_missing(void **state)
{
    struct naive naive;
    struct fake_device *fake = naive_start_fake(&naive, VERSION_1);

    (void)state;
    fake_device_fault(fake, FAKE_FAULT_STATUS_BYTE, 77, 0, 1);
    naive_submit(&naive, 0, 0, 0, 512);
    naive_expect(&naive, 0, 77);
    fake_device_fault(fake, FAKE_FAULT_NO_STATUS, 0, 0, 1);
    naive_submit(&naive, 0, 0, 0, 512);
    naive_expect(&naive, 0, 0xee);
    assert_int_equal(naive.last_length, 512);
    fake_device_fault(fake, FAKE_FAULT_IO_ERROR, 0, 1, 1);
    naive_submit(&naive, 0, 0, 0, 512);
    naive_expect(&naive, 0, 0);
    naive_submit(&naive, 0, 0, 0, 512);
    naive_expect(&naive, 0, 1);
    memset(naive_data(&naive, 0), 0x99, 512);
    fake_device_fault(fake, FAKE_FAULT_NO_DATA, 0, 0, 1);
    naive_submit(&naive, 0, 0, 0, 512);
    naive_expect(&naive, 0, 0);
    assert_int_equal(naive_data(&naive, 0)[0], 0x99);
    naive_close_fake(&naive, fake);
}

static void test_fake_fault_flush__is_refused_or_lies(void **state)
{
    struct naive naive;
    struct fake_device *fake = naive_start_fake(&naive, VERSION_1 | FLUSH);

    (void)state;
    memset(naive_data(&naive, 0), 0x99, 512);
    naive_submit(&naive, 0, 1, 0, 512);
    naive_expect(&naive, 0, 0);
    fake_device_fault(fake, FAKE_FAULT_FLUSH_UNSUPPORTED, 0, 0, 1);
    naive_submit(&naive, 1, 4, 0, 0);
    naive_expect(&naive, 1, 2);
    fake_device_fault(fake, FAKE_FAULT_FLUSH_LIES, 0, 0, 1);
    naive_submit(&naive, 1, 4, 0, 0);
    naive_expect(&naive, 1, 0);
    fake_device_lose_power(fake);
    assert_int_equal(fake->storage[0], 0);
    naive_close_fake(&naive, fake);
}

static void expect_used(struct naive *naive, uint32_t id, uint32_t length)
{
    assert_true(naive_next_used(naive));
    assert_int_equal(naive->last_id, id);
    assert_int_equal(naive->last_length, length);
}

static void test_fake_fault_used__entries_are_wrong(void **state)
{
    struct naive naive;
    struct fake_device *fake = naive_start_fake(&naive, VERSION_1);

    (void)state;
    fake_device_fault(fake, FAKE_FAULT_USED_ID, 0x10003, 0, 1);
    naive_submit(&naive, 1, 0, 0, 512);
    expect_used(&naive, 0x10003, 513);
    fake_device_fault(fake, FAKE_FAULT_USED_ID_OFFSET, 1, 0, 1);
    naive_submit(&naive, 1, 0, 0, 512);
    expect_used(&naive, 4, 513);
    fake_device_fault(fake, FAKE_FAULT_USED_LENGTH, UINT32_MAX, 0, 1);
    naive_submit(&naive, 1, 0, 0, 512);
    expect_used(&naive, 3, UINT32_MAX);
    fake_device_fault(fake, FAKE_FAULT_USED_LENGTH_OFFSET, 1, 0, 1);
    naive_submit(&naive, 1, 0, 0, 512);
    expect_used(&naive, 3, 514);
    fake_device_fault(fake, FAKE_FAULT_USED_REPLAY, 2, 0, 1);
    naive_submit(&naive, 1, 0, 0, 512);
    expect_used(&naive, 3, 513);
    expect_used(&naive, 3, 513);
    expect_used(&naive, 3, 513);
    assert_false(naive_next_used(&naive));
    fake_device_fault(fake, FAKE_FAULT_USED_INDEX, 1000, 0, 1);
    naive_submit(&naive, 1, 0, 0, 512);
    assert_int_equal(naive_take(&naive, NAIVE_USED + 2, 2), 1008);
    naive_close_fake(&naive, fake);
}

static void test_fake_fault_used__forged_by_hand(void **state)
{
    struct naive naive;
    struct fake_device *fake = naive_start_fake(&naive, VERSION_1);

    (void)state;
    fake_device_forge_used(fake, 0, 9, 5);
    expect_used(&naive, 9, 5);
    fake_device_forge_used_index(fake, 0, 65535);
    assert_int_equal(naive_take(&naive, NAIVE_USED + 2, 2), 65535);
    assert_int_equal(naive.interrupts, 0);
    naive_close_fake(&naive, fake);
}

static void test_fake_fault_stall__until_told_otherwise(void **state)
{
    struct naive naive;
    struct fake_device *fake = naive_start_fake(&naive, VERSION_1);

    (void)state;
    fake_device_fault(fake, FAKE_FAULT_STALL, 0, 1, 1);
    naive_submit(&naive, 0, 0, 0, 512);
    naive_submit(&naive, 1, 0, 0, 512);
    naive_submit(&naive, 2, 0, 0, 512);
    naive_expect(&naive, 0, 0);
    naive_expect(&naive, 2, 0);
    assert_false(naive_next_used(&naive));
    assert_int_equal(fake_device_run(fake, UINT_MAX), 0);
    assert_int_equal(fake_device_complete_stalled(fake), 1);
    naive_expect(&naive, 1, 0);
    fake_device_fault(fake, FAKE_FAULT_STALL, 0, 0, 1);
    naive_submit(&naive, 0, 0, 0, 512);
    naive_reset(&naive);
    assert_int_equal(fake_device_complete_stalled(fake), 0);
    naive_close_fake(&naive, fake);
}

static void test_fake_fault_interrupt__is_swallowed(void **state)
{
    struct naive naive;
    struct fake_device *fake = naive_start_fake(&naive, VERSION_1);

    (void)state;
    fake_device_fault(fake, FAKE_FAULT_NO_INTERRUPT, 0, 0, 1);
    naive_submit(&naive, 0, 0, 0, 512);
    naive_expect(&naive, 0, 0);
    assert_int_equal(naive.interrupts, 0);
    naive_submit(&naive, 0, 0, 0, 512);
    assert_int_equal(naive.interrupts, 1);
    fake_device_fault(fake, FAKE_FAULT_DEAF, 0, 0, 1);
    naive_submit(&naive, 1, 0, 0, 512);
    naive_expect(&naive, 0, 0);
    assert_false(naive_next_used(&naive));
    assert_int_equal(fake_device_run(fake, UINT_MAX), 0);
    naive_notify(&naive);
    naive_expect(&naive, 1, 0);
    naive_close_fake(&naive, fake);
}

static void test_fake_fault_scribble__is_put_right_before_completion(void **state)
{
    struct fake_device_config config = default_config;
    struct naive naive;
    struct fake_device *fake;
    uint8_t before[48];

    (void)state;
    config.deferred = true;
    fake = naive_open_fake(&naive, &config);
    naive_start(&naive, VERSION_1 | INDIRECT);
    fake_device_fault(fake, FAKE_FAULT_SCRIBBLE, 0, 0, FAKE_FOR_EVER);
    naive_prepare_indirect(&naive, 0, 0, 0, 512);
    memcpy(before, naive.memory + NAIVE_TABLE, sizeof(before));
    naive_publish(&naive, 0);
    naive_notify(&naive);
    assert_memory_not_equal(before, naive.memory + NAIVE_TABLE, sizeof(before));
    assert_int_equal(fake_device_run(fake, UINT_MAX), 1);
    assert_memory_equal(before, naive.memory + NAIVE_TABLE, sizeof(before));
    naive_expect(&naive, 0, 0);
    naive_close_fake(&naive, fake);
}

static void test_fake_fault_scribble_for_good__blames_nobody(void **state)
{
    struct naive naive;
    struct fake_device *fake = naive_start_fake(&naive, VERSION_1 | INDIRECT);

    (void)state;
    fake_device_fault(fake, FAKE_FAULT_SCRIBBLE_FOR_GOOD, 0, 0, 1);
    naive_prepare_indirect(&naive, 0, 0, 0, 512);
    naive_publish(&naive, 0);
    naive_notify(&naive);
    naive_expect(&naive, 0, 0);
    naive_publish(&naive, 0);
    naive_notify(&naive); /* garbage by now */
    assert_true(naive_next_used(&naive));
    fake_device_check(fake);
    naive_start(&naive, VERSION_1);
    naive_prepare(&naive, 0, 0, 0, 500);
    naive_publish(&naive, 0);
    naive_notify(&naive);
    naive_expect_violation(fake, "no multiple of 512");
    naive_close_fake(&naive, fake);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fake_fault_registers__read_as_told),
        cmocka_unit_test(test_fake_fault_reset__takes_its_time),
        cmocka_unit_test(test_fake_fault_features__are_refused),
        cmocka_unit_test(test_fake_fault_config__tears_and_never_settles),
        cmocka_unit_test(test_fake_fault_interrupt__comes_at_any_register),
        cmocka_unit_test(test_fake_fault_status_byte__is_wrong_or_missing),
        cmocka_unit_test(test_fake_fault_flush__is_refused_or_lies),
        cmocka_unit_test(test_fake_fault_used__entries_are_wrong),
        cmocka_unit_test(test_fake_fault_used__forged_by_hand),
        cmocka_unit_test(test_fake_fault_stall__until_told_otherwise),
        cmocka_unit_test(test_fake_fault_interrupt__is_swallowed),
        cmocka_unit_test(test_fake_fault_scribble__is_put_right_before_completion),
        cmocka_unit_test(test_fake_fault_scribble_for_good__blames_nobody),
    };

    return cmocka_run_group_tests_name("fake_faults", tests, NULL, NULL);
}
