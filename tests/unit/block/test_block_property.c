/* SPDX-License-Identifier: MIT */
/* What is known of a disk, by name. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "support/blk_rig.h"

static struct blk_rig rig;

static void put(unsigned offset, unsigned width, uint64_t value)
{
    for (unsigned i = 0; i < width; i++) {
        rig.fake->config_space[offset + i] = (uint8_t)(value >> 8 * i);
    }
}

/* A disk that offers `features` besides the usual ones; not probed yet. */
static void init(uint64_t features)
{
    struct fake_device_config config = FAKE_DEVICE_CONFIG_DEFAULT;

    config.features |= features;
    config.config_bytes = 96;
    blk_rig_init(&rig, &config, NULL);
}

static void probe(void)
{
    assert_int_equal(blk_rig_probe(&rig), SK_OK);
}

static bool has(const char *name)
{
    struct sk_block_property property;

    return sk_block_find_property(rig.disk, name, &property) == SK_OK;
}

static uint64_t number(const char *name)
{
    struct sk_block_property property;

    assert_int_equal(sk_block_find_property(rig.disk, name, &property), SK_OK);
    assert_string_equal(property.name, name);
    assert_null(property.text);
    assert_int_not_equal(property.kind, SK_BLOCK_PROPERTY_TEXT);
    return property.number;
}

static const char *text(const char *name)
{
    struct sk_block_property property;

    assert_int_equal(sk_block_find_property(rig.disk, name, &property), SK_OK);
    assert_int_equal(property.kind, SK_BLOCK_PROPERTY_TEXT);
    return property.text;
}

static void test_block_get_property__lists_each_once_and_ends(void **state)
{
    struct sk_block_property property;
    struct sk_block_property other;
    uint32_t count = 0;

    (void)state;
    init(SK_VIRTIO_FEATURE(SK_VIRTIO_BLK_F_GEOMETRY));
    put(16, 2, 1024);
    put(18, 1, 255);
    put(19, 1, 63);
    probe();
    while (sk_block_get_property(rig.disk, count, &property) == SK_OK) {
        for (uint32_t i = 0; i < count; i++) {
            assert_int_equal(sk_block_get_property(rig.disk, i, &other), SK_OK);
            assert_string_not_equal(other.name, property.name);
        }
        assert_int_equal(sk_block_find_property(rig.disk, property.name, &other), SK_OK);
        assert_int_equal(other.kind, property.kind);
        assert_int_equal(other.number, property.number);
        count++;
    }
    assert_true(count > 25);
    assert_int_equal(sk_block_get_property(rig.disk, count, &property), SK_ERR_NOT_FOUND);
    assert_int_equal(sk_block_get_property(rig.disk, UINT32_MAX, &property), SK_ERR_NOT_FOUND);
    blk_rig_deinit(&rig);
}

static void test_block_find_property__tells_what_the_disk_said(void **state)
{
    (void)state;
    init(SK_VIRTIO_FEATURE(SK_VIRTIO_BLK_F_GEOMETRY) | SK_VIRTIO_FEATURE(SK_VIRTIO_BLK_F_SIZE_MAX));
    put(8, 4, 65536);
    put(16, 2, 1024);
    put(18, 1, 16);
    put(19, 1, 63);
    put(20, 4, 512);
    put(24, 1, 3);
    put(25, 1, 7);
    put(26, 2, 8);
    put(28, 4, 128);
    probe();
    assert_int_equal(number("cylinders"), 1024);
    assert_int_equal(number("heads"), 16);
    assert_int_equal(number("track_sectors"), 63);
    assert_int_equal(number("capacity_sectors"), 2048);
    assert_int_equal(number("block_bytes"), 512);
    assert_int_equal(number("physical_block_bytes"), 4096);
    assert_int_equal(number("alignment_offset_bytes"), 3584);
    assert_int_equal(number("minimum_io_bytes"), 4096);
    assert_int_equal(number("optimal_io_bytes"), 65536);
    assert_int_equal(number("segment_bytes_max"), 65536);
    assert_int_equal(number("queues"), 1);
    assert_int_equal(number("read_only"), 0);
    assert_int_equal(number("cache_can_change"), 1);
    assert_string_equal(text("driver"), "virtio-blk");
    assert_string_equal(text("transport"), "mmio");
    assert_string_equal(text("identity"), "fake disk");
    assert_string_equal(text("cache"), "write-back");
    assert_string_equal(text("state"), "ready");
    blk_rig_deinit(&rig);
}

static void test_block_find_property__leaves_out_what_the_disk_has_not(void **state)
{
    static const char *const absent[] = {
        "cylinders", "heads", "track_sectors", "minimum_io_bytes", "optimal_io_bytes",
        "alignment_offset_bytes", "segment_bytes_max", "discard_sectors_max",
        "write_zeroes_sectors_max", "write_zeroes_may_unmap", "secure_erase_sectors_max",
        "zones", "zone_count", "zones_open_max", "DISCARD", "bit3", "", "Capacity_sectors", "capacity", "capacity_sectors_",
    };

    (void)state;
    init(0);
    probe();
    for (size_t i = 0; i < sizeof(absent) / sizeof(absent[0]); i++) {
        assert_false(has(absent[i]));
    }
    blk_rig_deinit(&rig);
}

static void test_block_find_property__limits_of_ranges(void **state)
{
    (void)state;
    init(SK_VIRTIO_FEATURE(SK_VIRTIO_BLK_F_DISCARD) |
         SK_VIRTIO_FEATURE(SK_VIRTIO_BLK_F_WRITE_ZEROES) |
         SK_VIRTIO_FEATURE(SK_VIRTIO_BLK_F_SECURE_ERASE));
    put(36, 4, 1000);
    put(40, 4, 5);
    put(44, 4, 8);
    put(48, 4, 2000);
    put(52, 4, 1000);
    put(56, 1, 1);
    put(60, 4, 3000);
    put(68, 4, 16);
    probe();
    assert_int_equal(number("discard_sectors_max"), 1000);
    assert_int_equal(number("discard_ranges_max"), 5);
    assert_int_equal(number("discard_alignment_sectors"), 8);
    assert_int_equal(number("write_zeroes_sectors_max"), 2000);
    assert_int_equal(number("write_zeroes_ranges_max"), 16); /* what a slot has room for */
    assert_int_equal(number("write_zeroes_may_unmap"), 1);
    assert_int_equal(number("secure_erase_sectors_max"), 3000);
    assert_int_equal(number("secure_erase_ranges_max"), 1); /* the device said 0 */
    assert_int_equal(number("secure_erase_alignment_sectors"), 16);
    blk_rig_deinit(&rig);
}

static void test_block_find_property__zones(void **state)
{
    struct fake_device_config config = FAKE_DEVICE_CONFIG_DEFAULT;

    (void)state;
    config.features |= SK_VIRTIO_FEATURE(SK_VIRTIO_BLK_F_ZONED);
    config.zone_sectors = 100;
    config.max_active_zones = 5;
    config.max_append_sectors = 10;
    config.write_granularity = 1024;
    blk_rig_start(&rig, &config, NULL);
    assert_string_equal(text("zones"), "host-managed");
    assert_int_equal(number("zone_count"), 21); /* of 2048 sectors */
    assert_int_equal(number("zone_sectors"), 100);
    assert_int_equal(number("zone_write_bytes"), 1024);
    assert_int_equal(number("zone_append_sectors_max"), 10);
    assert_int_equal(number("zones_active_max"), 5);
    assert_int_equal(number("zones_open_max"), 5);
    assert_int_equal(number("ZONED"), 1);
    blk_rig_deinit(&rig);
}

static void test_block_find_property__wear(void **state)
{
    (void)state;
    init(SK_VIRTIO_FEATURE(SK_VIRTIO_BLK_F_LIFETIME));
    probe();
    assert_string_equal(text("reserve"), "normal");
    assert_int_equal(number("wear_a_tenths"), 2);
    assert_int_equal(number("wear_b_tenths"), 3);
    blk_rig_deinit(&rig);
    init(SK_VIRTIO_FEATURE(SK_VIRTIO_BLK_F_LIFETIME)); /* a device that cannot tell */
    fake_device_fault(rig.fake, FAKE_FAULT_IO_ERROR, 0, 1, 1);
    probe();
    assert_string_equal(text("reserve"), "unknown");
    assert_false(has("wear_a_tenths"));
    blk_rig_deinit(&rig);
    init(0);
    probe();
    assert_false(has("reserve"));
    blk_rig_deinit(&rig);
}

/* A name is for people's terminals, not for the device's control characters. */
static void test_block_find_property__identity_can_be_printed(void **state)
{
    struct fake_device_config config = FAKE_DEVICE_CONFIG_DEFAULT;

    (void)state;
    config.identity = "a\x1b[2J\r\n\x7f\x80\xff ~b";
    blk_rig_start(&rig, &config, NULL);
    assert_string_equal(text("identity"), "a?[2J????? ~b");
    blk_rig_deinit(&rig);
}

static void test_block_find_property__features_are_in_use_or_only_offered(void **state)
{
    struct sk_virtio_blk_options options = blk_rig_options();

    (void)state;
    options.features = ~SK_VIRTIO_FEATURE(SK_VIRTIO_F_EVENT_IDX);
    blk_rig_start(&rig, NULL, &options);
    assert_int_equal(number("FLUSH"), 1);
    assert_int_equal(number("VERSION_1"), 1);
    assert_int_equal(number("EVENT_IDX"), 0);
    assert_false(has("RO"));
    blk_rig_deinit(&rig);
}

static void test_block_find_property__follows_changes(void **state)
{
    (void)state;
    init(0);
    probe();
    fake_device_set_capacity(rig.fake, 100);
    assert_int_equal(sk_block_poll(rig.queue, 0, NULL), SK_OK);
    assert_int_equal(number("capacity_sectors"), 100);
    assert_int_equal(sk_block_set_cache(rig.queue, SK_BLOCK_CACHE_WRITE_THROUGH, 0), SK_OK);
    assert_string_equal(text("cache"), "write-through");
    sk_block_stop(rig.disk, SK_ERR_TIMEOUT);
    assert_string_equal(text("state"), "broken");
    blk_rig_deinit(&rig);
}

/* Hints that make no sense are not passed on. */
static void test_block_find_property__hints_are_checked(void **state)
{
    (void)state;
    init(SK_VIRTIO_FEATURE(SK_VIRTIO_BLK_F_GEOMETRY));
    put(16, 2, 65535);
    put(18, 1, 0); /* no heads: no geometry */
    put(19, 1, 255);
    put(24, 1, 1);
    put(25, 1, 2); /* behind the first physical block */
    put(28, 4, UINT32_MAX); /* 2 TiB */
    probe();
    assert_false(has("cylinders"));
    assert_false(has("track_sectors"));
    assert_false(has("alignment_offset_bytes"));
    assert_false(has("optimal_io_bytes"));
    assert_int_equal(number("physical_block_bytes"), 1024);
    blk_rig_deinit(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_block_get_property__lists_each_once_and_ends),
        cmocka_unit_test(test_block_find_property__tells_what_the_disk_said),
        cmocka_unit_test(test_block_find_property__leaves_out_what_the_disk_has_not),
        cmocka_unit_test(test_block_find_property__limits_of_ranges),
        cmocka_unit_test(test_block_find_property__zones),
        cmocka_unit_test(test_block_find_property__wear),
        cmocka_unit_test(test_block_find_property__identity_can_be_printed),
        cmocka_unit_test(test_block_find_property__features_are_in_use_or_only_offered),
        cmocka_unit_test(test_block_find_property__follows_changes),
        cmocka_unit_test(test_block_find_property__hints_are_checked),
    };

    return cmocka_run_group_tests_name("block_property", tests, NULL, NULL);
}
