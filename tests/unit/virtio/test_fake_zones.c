/* SPDX-License-Identifier: MIT */
/* The fake device as a zoned disk, with the naive driver. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include <linux/virtio_mmio.h>

#include "fake/naive_fake.h"

#define ZONED SK_VIRTIO_FEATURE(SK_VIRTIO_BLK_F_ZONED)

#define APPEND    15
#define REPORT    16
#define OPEN      18
#define CLOSE     20
#define FINISH    22
#define RESET     24
#define RESET_ALL 26

#define INVALID         3
#define UNALIGNED       4
#define OPEN_RESOURCE   5
#define ACTIVE_RESOURCE 6

/* Eight zones of 64 sectors, 60 of which can be written; the first is conventional. */
static struct fake_device *start(struct naive *naive)
{
    struct fake_device_config config = FAKE_DEVICE_CONFIG_DEFAULT;
    struct fake_device *fake;

    config.features |= ZONED;
    config.capacity_sectors = 512;
    config.zone_sectors = 64;
    config.zone_capacity = 60;
    config.zones_conventional = 1;
    config.max_open_zones = 2;
    config.max_active_zones = 3;
    config.max_append_sectors = 8;
    fake = naive_open_fake(naive, &config);
    naive_start(naive, VERSION_1 | ZONED);
    return fake;
}

static void submit(struct naive *naive, uint32_t type, uint64_t sector, uint32_t bytes,
                   uint8_t status)
{
    naive_submit(naive, 0, type, sector, bytes);
    naive_expect(naive, 0, status);
}

static void submit_append(struct naive *naive, uint64_t sector, uint32_t bytes, uint8_t status)
{
    struct naive_piece result = { NAIVE_TABLE, 9, 2 };

    naive_prepare(naive, 0, 1, sector, bytes);
    naive_put(naive, NAIVE_HEADER, 4, APPEND);
    naive_put_descriptor(naive, 32, &result, 0);
    naive_publish(naive, 0);
    naive_notify(naive);
    assert_true(naive_next_used(naive));
    assert_int_equal(naive_take(naive, NAIVE_TABLE + 8, 1), status);
}

static void test_fake_zones_write__follows_the_write_pointer(void **state)
{
    struct naive naive;
    struct fake_device *fake = start(&naive);

    (void)state;
    submit(&naive, 1, 30, 512, 0); /* conventional */
    submit(&naive, 1, 65, 512, UNALIGNED);
    submit(&naive, 1, 64, 1024, 0);
    submit(&naive, 1, 64, 512, UNALIGNED);
    assert_int_equal(fake->zones[1].state, FAKE_ZONE_OPEN_IMPLICIT);
    for (uint64_t sector = 66; sector < 64 + 56; sector += 6) {
        submit(&naive, 1, sector, 6 * 512, 0);
    }
    submit(&naive, 1, 120, 5 * 512, INVALID);
    submit(&naive, 1, 120, 4 * 512, 0);
    assert_int_equal(fake->zones[1].state, FAKE_ZONE_FULL);
    submit(&naive, 1, 124, 512, INVALID);
    submit(&naive, 0, 100, 512, 0);
    submit(&naive, 1, 62, 4 * 512, INVALID); /* from one zone into the next */
    naive_close_fake(&naive, fake);
}

static void test_fake_zones_append__says_where(void **state)
{
    struct naive naive;
    struct fake_device *fake = start(&naive);

    (void)state;
    submit(&naive, 1, 128, 1024, 0);
    memset(naive_data(&naive, 0), 0x5a, 1024);
    submit_append(&naive, 128, 1024, 0);
    assert_int_equal(naive_take(&naive, NAIVE_TABLE, 4), 130);
    assert_int_equal(naive.last_length, 9);
    assert_int_equal(fake->storage[130 * 512], 0x5a);
    submit_append(&naive, 0, 512, INVALID);
    fake_device_check(fake);
    submit_append(&naive, 129, 512, 1);
    naive_expect_violation(fake, "no zone's first");
    submit_append(&naive, 128, 9 * 512, 1);
    naive_expect_violation(fake, "more than max_append_sectors");
    naive_close_fake(&naive, fake);
}

static void test_fake_zones_manage__states(void **state)
{
    struct naive naive;
    struct fake_device *fake = start(&naive);

    (void)state;
    submit(&naive, OPEN, 64, 0, 0);
    assert_int_equal(fake->zones[1].state, FAKE_ZONE_OPEN_EXPLICIT);
    submit(&naive, CLOSE, 64, 0, 0);
    assert_int_equal(fake->zones[1].state, FAKE_ZONE_EMPTY);
    submit(&naive, CLOSE, 64, 0, INVALID);
    submit(&naive, 1, 64, 512, 0);
    submit(&naive, CLOSE, 64, 0, 0);
    assert_int_equal(fake->zones[1].state, FAKE_ZONE_CLOSED);
    submit(&naive, FINISH, 64, 0, 0);
    assert_int_equal(fake->zones[1].state, FAKE_ZONE_FULL);
    submit(&naive, OPEN, 64, 0, INVALID);
    submit(&naive, RESET, 64, 0, 0);
    assert_int_equal(fake->zones[1].state, FAKE_ZONE_EMPTY);
    assert_int_equal(fake->zones[1].write, 64);
    submit(&naive, RESET, 0, 0, INVALID);
    fake->zones[2].state = FAKE_ZONE_READ_ONLY;
    submit(&naive, RESET, 128, 0, INVALID);
    submit(&naive, FINISH, 192, 0, 0);
    submit(&naive, RESET_ALL, 0, 0, 0);
    assert_int_equal(fake->zones[3].state, FAKE_ZONE_EMPTY);
    assert_int_equal(fake->zones[2].state, FAKE_ZONE_READ_ONLY);
    naive_close_fake(&naive, fake);
}

static void test_fake_zones_limits__open_and_active(void **state)
{
    struct naive naive;
    struct fake_device *fake = start(&naive);

    (void)state;
    submit(&naive, 1, 64, 512, 0);
    submit(&naive, 1, 128, 512, 0);
    submit(&naive, OPEN, 192, 0, 0); /* the first is closed for it */
    assert_int_equal(fake->zones[1].state, FAKE_ZONE_CLOSED);
    submit(&naive, OPEN, 256, 0, ACTIVE_RESOURCE);
    submit(&naive, OPEN, 128, 0, 0);
    submit(&naive, OPEN, 64, 0, OPEN_RESOURCE);
    submit(&naive, 1, 65, 512, OPEN_RESOURCE);
    naive_close_fake(&naive, fake);
}

static void test_fake_zones_report__what_fits(void **state)
{
    struct naive naive;
    struct fake_device *fake = start(&naive);

    (void)state;
    submit(&naive, 1, 64, 1024, 0);
    memset(naive_data(&naive, 0), 0, 512);
    submit(&naive, REPORT, 7, 64 * 3 + 10, 0);
    assert_int_equal(naive.last_length, 64 * 3 + 1);
    assert_int_equal(naive_take(&naive, NAIVE_DATA, 4), 2);
    assert_int_equal(naive_take(&naive, NAIVE_DATA + 64 + 24, 2), 1 | FAKE_ZONE_NOT_WP << 8);
    assert_int_equal(naive_take(&naive, NAIVE_DATA + 128, 4), 60);
    assert_int_equal(naive_take(&naive, NAIVE_DATA + 128 + 8, 4), 64);
    assert_int_equal(naive_take(&naive, NAIVE_DATA + 128 + 16, 4), 66);
    assert_int_equal(naive_take(&naive, NAIVE_DATA + 128 + 24, 2), 2 | 2 << 8);
    submit(&naive, REPORT, 511, 4096, 0);
    assert_int_equal(naive_take(&naive, NAIVE_DATA, 4), 1);
    fake_device_check(fake);
    submit(&naive, REPORT, 0, 63, 1);
    naive_expect_violation(fake, "shorter than its header");
    submit(&naive, REPORT, 512, 64, 1);
    naive_expect_violation(fake, "beyond the last zone");
    submit(&naive, RESET_ALL, 64, 0, 1);
    naive_expect_violation(fake, "all zones with a sector");
    submit(&naive, OPEN, 65, 0, 1);
    naive_expect_violation(fake, "no zone's first");
    submit(&naive, OPEN, 64, 512, 1);
    naive_expect_violation(fake, "zone request with data");
    naive_close_fake(&naive, fake);
}

static void test_fake_zones_features__cannot_be_ignored(void **state)
{
    struct naive naive;
    struct fake_device *fake = start(&naive);

    (void)state;
    assert_int_equal(naive_get(&naive, VIRTIO_MMIO_CONFIG + 72), 64);
    assert_int_equal(naive_get(&naive, VIRTIO_MMIO_CONFIG + 84), 8);
    assert_int_equal(fake->mmio.ops->read(fake, 0x100 + 92, 1), 1);
    naive_reset(&naive);
    naive_set(&naive, VIRTIO_MMIO_STATUS, 1);
    naive_set(&naive, VIRTIO_MMIO_STATUS, 3);
    naive_set(&naive, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 0);
    naive_set(&naive, VIRTIO_MMIO_DRIVER_FEATURES, 0);
    naive_set(&naive, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
    naive_set(&naive, VIRTIO_MMIO_DRIVER_FEATURES, 1);
    naive_set(&naive, VIRTIO_MMIO_STATUS, 11);
    assert_int_equal(naive_get(&naive, VIRTIO_MMIO_STATUS), 3);
    naive_close_fake(&naive, fake);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fake_zones_write__follows_the_write_pointer),
        cmocka_unit_test(test_fake_zones_append__says_where),
        cmocka_unit_test(test_fake_zones_manage__states),
        cmocka_unit_test(test_fake_zones_limits__open_and_active),
        cmocka_unit_test(test_fake_zones_report__what_fits),
        cmocka_unit_test(test_fake_zones_features__cannot_be_ignored),
    };

    return cmocka_run_group_tests_name("fake_zones", tests, NULL, NULL);
}
