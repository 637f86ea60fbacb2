/* SPDX-License-Identifier: MIT */
/* README.md's second example, run against the fake device. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "read_many.h"
#include "support/blk_rig.h"

#define BYTES (READ_MANY_COUNT * READ_MANY_BYTES)

static void start(struct blk_rig *rig, struct sk_io_buffer *buffer)
{
    struct fake_device_config config = FAKE_DEVICE_CONFIG_DEFAULT;

    config.deferred = true;
    blk_rig_start(rig, &config, NULL);
    for (size_t i = 0; i < BYTES + 4096; i++) {
        rig->fake->storage[i] = (uint8_t)(i * 11 + i / 4096);
    }
    assert_int_equal(
        sk_io_buffer_create(buffer, &rig->env.domain, BYTES, SK_IO_BUFFER_ALIGNMENT), SK_OK);
}

static void stop(struct blk_rig *rig, struct sk_io_buffer *buffer)
{
    assert_int_equal(sk_io_buffer_destroy(buffer), SK_OK);
    blk_rig_deinit(rig);
}

static void test_read_many__working_disk_stores_everything(void **state)
{
    struct sk_io_buffer buffer = SK_IO_BUFFER_EMPTY;
    struct sk_block_statistics statistics;
    struct blk_rig rig;
    uint64_t notifications;

    (void)state;
    start(&rig, &buffer);
    notifications = rig.fake->notifications;
    assert_int_equal(read_many(rig.queue, &buffer, 8), SK_OK);
    assert_memory_equal(sk_io_buffer_data(&buffer), rig.fake->storage + 4096, BYTES);
    assert_int_equal(rig.fake->notifications, notifications + 1);
    sk_block_get_statistics(rig.queue, &statistics);
    assert_int_equal(statistics.bytes_read, BYTES);
    stop(&rig, &buffer);
}

static void test_read_many__bad_sector_is_said(void **state)
{
    struct sk_io_buffer buffer = SK_IO_BUFFER_EMPTY;
    struct blk_rig rig;

    (void)state;
    start(&rig, &buffer);
    fake_device_bad_sectors(rig.fake, 100, 1);
    assert_int_equal(read_many(rig.queue, &buffer, 0), SK_ERR_IO);
    stop(&rig, &buffer);
}

static void test_read_many__beyond_the_end_is_said(void **state)
{
    struct sk_io_buffer buffer = SK_IO_BUFFER_EMPTY;
    struct blk_rig rig;

    (void)state;
    start(&rig, &buffer);
    assert_int_equal(read_many(rig.queue, &buffer, 2048 - 8), SK_ERR_RANGE);
    stop(&rig, &buffer);
}

static void test_read_many__silent_disk_ends_in_time_and_comes_back(void **state)
{
    struct sk_io_buffer buffer = SK_IO_BUFFER_EMPTY;
    struct blk_rig rig;

    (void)state;
    start(&rig, &buffer);
    fake_device_fault(rig.fake, FAKE_FAULT_STALL, 0, 5, 1);
    assert_int_equal(read_many(rig.queue, &buffer, 0), SK_ERR_TIMEOUT);
    assert_int_equal(sk_block_recover(rig.disk, 0), SK_OK);
    assert_int_equal(read_many(rig.queue, &buffer, 0), SK_OK);
    stop(&rig, &buffer);
}

static void test_read_many__disk_that_never_stops_keeps_the_buffer(void **state)
{
    struct sk_io_buffer buffer = SK_IO_BUFFER_EMPTY;
    struct blk_rig rig;

    (void)state;
    start(&rig, &buffer);
    fake_device_fault(rig.fake, FAKE_FAULT_STALL, 0, 5, 1);
    fake_device_fault(rig.fake, FAKE_FAULT_RESET, 0, 0, FAKE_FOR_EVER);
    assert_int_equal(read_many(rig.queue, &buffer, 0), SK_ERR_IN_DOUBT);
    assert_int_equal(sk_io_buffer_destroy(&buffer), SK_ERR_BUSY);
    assert_int_equal(sk_io_buffer_quarantine(&buffer), SK_OK);
    assert_int_equal(blk_rig_remove(&rig), SK_ERR_IN_DOUBT);
    blk_rig_abandon(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_read_many__working_disk_stores_everything),
        cmocka_unit_test(test_read_many__bad_sector_is_said),
        cmocka_unit_test(test_read_many__beyond_the_end_is_said),
        cmocka_unit_test(test_read_many__silent_disk_ends_in_time_and_comes_back),
        cmocka_unit_test(test_read_many__disk_that_never_stops_keeps_the_buffer),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
