/* SPDX-License-Identifier: MIT */
/*
 * The driver's numbers against two others: the specification's, typed again
 * here, and those of the kernel's headers, as far as they have them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include <linux/virtio_blk.h>

#include "block/virtio_blk.h"
#include "support/blk_rig.h"

static struct blk_rig rig;

static void test_virtio_blk_uapi__numbers_of_the_specification(void **state)
{
    static const struct {
        unsigned ours;
        unsigned specified; /* Virtio 1.3, 5.2.3 and 5.2.6 */
    } numbers[] = {
        { SK_VIRTIO_BLK_F_SIZE_MAX, 1 },      { SK_VIRTIO_BLK_F_SEG_MAX, 2 },
        { SK_VIRTIO_BLK_F_GEOMETRY, 4 },      { SK_VIRTIO_BLK_F_RO, 5 },
        { SK_VIRTIO_BLK_F_BLK_SIZE, 6 },      { SK_VIRTIO_BLK_F_FLUSH, 9 },
        { SK_VIRTIO_BLK_F_TOPOLOGY, 10 },     { SK_VIRTIO_BLK_F_CONFIG_WCE, 11 },
        { SK_VIRTIO_BLK_F_MQ, 12 },           { SK_VIRTIO_BLK_F_DISCARD, 13 },
        { SK_VIRTIO_BLK_F_WRITE_ZEROES, 14 }, { SK_VIRTIO_BLK_F_LIFETIME, 15 },
        { SK_VIRTIO_BLK_F_SECURE_ERASE, 16 }, { SK_VIRTIO_BLK_F_ZONED, 17 },
        { SKI_BLK_TYPE_IN, 0 },               { SKI_BLK_TYPE_OUT, 1 },
        { SKI_BLK_TYPE_FLUSH, 4 },            { SKI_BLK_TYPE_GET_ID, 8 },
        { SKI_BLK_TYPE_GET_LIFETIME, 10 },    { SKI_BLK_TYPE_DISCARD, 11 },
        { SKI_BLK_TYPE_WRITE_ZEROES, 13 },    { SKI_BLK_TYPE_SECURE_ERASE, 14 },
        { SKI_BLK_TYPE_ZONE_APPEND, 15 },     { SKI_BLK_TYPE_ZONE_REPORT, 16 },
        { SKI_BLK_TYPE_ZONE_OPEN, 18 },       { SKI_BLK_TYPE_ZONE_CLOSE, 20 },
        { SKI_BLK_TYPE_ZONE_FINISH, 22 },     { SKI_BLK_TYPE_ZONE_RESET, 24 },
        { SKI_BLK_TYPE_ZONE_RESET_ALL, 26 },  { SKI_BLK_STATUS_OK, 0 },
        { SKI_BLK_STATUS_IOERR, 1 },          { SKI_BLK_STATUS_UNSUPP, 2 },
        { SKI_BLK_STATUS_ZONE_INVALID, 3 },   { SKI_BLK_STATUS_ZONE_UNALIGNED, 4 },
        { SKI_BLK_STATUS_ZONE_OPEN, 5 },      { SKI_BLK_STATUS_ZONE_ACTIVE, 6 },
        { SKI_BLK_CONFIG_WRITEBACK, 32 },     { SKI_BLK_CONFIG_ZONE_MODEL, 92 },
        { SK_BLOCK_IDENTITY_BYTES, 20 },      { SK_BLOCK_LIFETIME_BYTES, 6 },
        { SK_BLOCK_ZONE_REPORT_BYTES, 64 },   { SKI_BLK_RANGE_UNMAP, 1 },
        { sizeof(struct ski_blk_range), 16 }, { sizeof(struct ski_blk_header), 16 },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        assert_int_equal(numbers[i].ours, numbers[i].specified);
    }
}

static void test_virtio_blk_uapi__numbers_of_the_headers(void **state)
{
    static const struct {
        unsigned ours;
        unsigned theirs;
    } numbers[] = {
        { SK_VIRTIO_BLK_F_SIZE_MAX, VIRTIO_BLK_F_SIZE_MAX },
        { SK_VIRTIO_BLK_F_SEG_MAX, VIRTIO_BLK_F_SEG_MAX },
        { SK_VIRTIO_BLK_F_GEOMETRY, VIRTIO_BLK_F_GEOMETRY },
        { SK_VIRTIO_BLK_F_RO, VIRTIO_BLK_F_RO },
        { SK_VIRTIO_BLK_F_BLK_SIZE, VIRTIO_BLK_F_BLK_SIZE },
        { SK_VIRTIO_BLK_F_FLUSH, VIRTIO_BLK_F_FLUSH },
        { SK_VIRTIO_BLK_F_TOPOLOGY, VIRTIO_BLK_F_TOPOLOGY },
        { SK_VIRTIO_BLK_F_CONFIG_WCE, VIRTIO_BLK_F_CONFIG_WCE },
        { SK_VIRTIO_BLK_F_MQ, VIRTIO_BLK_F_MQ },
        { SK_VIRTIO_BLK_F_DISCARD, VIRTIO_BLK_F_DISCARD },
        { SK_VIRTIO_BLK_F_WRITE_ZEROES, VIRTIO_BLK_F_WRITE_ZEROES },
        { SKI_BLK_TYPE_IN, VIRTIO_BLK_T_IN },
        { SKI_BLK_TYPE_OUT, VIRTIO_BLK_T_OUT },
        { SKI_BLK_TYPE_FLUSH, VIRTIO_BLK_T_FLUSH },
        { SKI_BLK_TYPE_GET_ID, VIRTIO_BLK_T_GET_ID },
        { SKI_BLK_TYPE_DISCARD, VIRTIO_BLK_T_DISCARD },
        { SKI_BLK_TYPE_WRITE_ZEROES, VIRTIO_BLK_T_WRITE_ZEROES },
        { SKI_BLK_STATUS_OK, VIRTIO_BLK_S_OK },
        { SKI_BLK_STATUS_IOERR, VIRTIO_BLK_S_IOERR },
        { SKI_BLK_STATUS_UNSUPP, VIRTIO_BLK_S_UNSUPP },
        { SK_BLOCK_IDENTITY_BYTES, VIRTIO_BLK_ID_BYTES },
        { SKI_BLK_RANGE_UNMAP, VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP },
        { sizeof(struct ski_blk_range), sizeof(struct virtio_blk_discard_write_zeroes) },
        { sizeof(struct ski_blk_header), sizeof(struct virtio_blk_outhdr) },
        { SKI_BLK_CONFIG_WRITEBACK, offsetof(struct virtio_blk_config, wce) },
#ifdef VIRTIO_BLK_F_SECURE_ERASE
        { SK_VIRTIO_BLK_F_SECURE_ERASE, VIRTIO_BLK_F_SECURE_ERASE },
        { SKI_BLK_TYPE_SECURE_ERASE, VIRTIO_BLK_T_SECURE_ERASE },
#endif
    };

    (void)state;
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        assert_int_equal(numbers[i].ours, numbers[i].theirs);
    }
}

#ifdef VIRTIO_BLK_F_ZONED
/* A zone of a report as their struct lays it out, read by ours. */
static void expect_zone(uint8_t type, uint8_t their_state, enum sk_block_zone_type our_type,
                        enum sk_block_zone_state our_state)
{
    struct sk_block_zone zone;
    uint8_t report[2 * SK_BLOCK_ZONE_REPORT_BYTES] = { 0 };
    struct virtio_blk_zone_descriptor their = { .z_cap = 60,
                                                .z_start = 64,
                                                .z_wp = 64,
                                                .z_type = type,
                                                .z_state = their_state };

    report[offsetof(struct virtio_blk_zone_report, nr_zones)] = 1;
    memcpy(report + offsetof(struct virtio_blk_zone_report, zones), &their, sizeof(their));
    assert_int_equal(sk_block_zone_parse(rig.disk, 64, report, sizeof(report), 0, &zone), SK_OK);
    assert_int_equal(zone.capacity_sectors, 60);
    assert_int_equal(zone.type, our_type);
    assert_int_equal(zone.state, our_state);
}

static void expect_reports(void)
{
    static const struct {
        uint8_t theirs;
        enum sk_block_zone_state ours;
    } states[] = {
        { VIRTIO_BLK_ZS_EMPTY, SK_BLOCK_ZONE_STATE_EMPTY },
        { VIRTIO_BLK_ZS_IOPEN, SK_BLOCK_ZONE_STATE_OPENED },
        { VIRTIO_BLK_ZS_EOPEN, SK_BLOCK_ZONE_STATE_OPEN },
        { VIRTIO_BLK_ZS_CLOSED, SK_BLOCK_ZONE_STATE_CLOSED },
        { VIRTIO_BLK_ZS_FULL, SK_BLOCK_ZONE_STATE_FULL },
        { VIRTIO_BLK_ZS_RDONLY, SK_BLOCK_ZONE_STATE_READ_ONLY },
        { VIRTIO_BLK_ZS_OFFLINE, SK_BLOCK_ZONE_STATE_OFFLINE },
    };

    for (size_t i = 0; i < sizeof(states) / sizeof(states[0]); i++) {
        expect_zone(VIRTIO_BLK_ZT_SWR, states[i].theirs, SK_BLOCK_ZONE_TYPE_SEQUENTIAL,
                    states[i].ours);
        expect_zone(VIRTIO_BLK_ZT_SWP, states[i].theirs, SK_BLOCK_ZONE_TYPE_PREFERRED,
                    states[i].ours);
    }
    expect_zone(VIRTIO_BLK_ZT_CONV, VIRTIO_BLK_ZS_NOT_WP, SK_BLOCK_ZONE_TYPE_CONVENTIONAL,
                SK_BLOCK_ZONE_STATE_NONE);
}

static void expect_zoned_disk(uint8_t model, enum sk_block_zone_model expected)
{
    struct virtio_blk_config their = {
        .capacity = 2048,
        .blk_size = 512,
        .seg_max = 254,
        .zoned = { 64, 5, 7, 40, 4096, model, { 0 } },
    };
    struct fake_device_config config = FAKE_DEVICE_CONFIG_DEFAULT;

    config.features |= SK_VIRTIO_FEATURE(VIRTIO_BLK_F_ZONED);
    config.config_bytes = sizeof(their);
    blk_rig_init(&rig, &config, NULL);
    memcpy(rig.fake->config_space, &their, sizeof(their));
    assert_int_equal(blk_rig_probe(&rig), SK_OK);
    assert_int_equal(rig.disk->info.zones.model, expected);
    if (expected != SK_BLOCK_ZONE_MODEL_NONE) {
        assert_int_equal(rig.disk->info.zones.sectors, 64);
        assert_int_equal(rig.disk->info.zones.open_max, 5);
        assert_int_equal(rig.disk->info.zones.active_max, 7);
        assert_int_equal(rig.disk->info.zones.append_sectors_max, 40);
        assert_int_equal(rig.disk->info.zones.write_bytes, 4096);
        expect_reports();
    }
    blk_rig_deinit(&rig);
}
#endif

/* Linux 6.3 and later. */
static void test_virtio_blk_uapi__zones_of_the_headers(void **state)
{
    (void)state;
#ifdef VIRTIO_BLK_F_ZONED
    expect_zoned_disk(VIRTIO_BLK_Z_NONE, SK_BLOCK_ZONE_MODEL_NONE);
    expect_zoned_disk(VIRTIO_BLK_Z_HM, SK_BLOCK_ZONE_MODEL_HOST_MANAGED);
    expect_zoned_disk(VIRTIO_BLK_Z_HA, SK_BLOCK_ZONE_MODEL_HOST_AWARE);
    assert_int_equal(SK_VIRTIO_BLK_F_ZONED, VIRTIO_BLK_F_ZONED);
    assert_int_equal(SKI_BLK_TYPE_ZONE_APPEND, VIRTIO_BLK_T_ZONE_APPEND);
    assert_int_equal(SKI_BLK_TYPE_ZONE_REPORT, VIRTIO_BLK_T_ZONE_REPORT);
    assert_int_equal(SKI_BLK_TYPE_ZONE_OPEN, VIRTIO_BLK_T_ZONE_OPEN);
    assert_int_equal(SKI_BLK_TYPE_ZONE_CLOSE, VIRTIO_BLK_T_ZONE_CLOSE);
    assert_int_equal(SKI_BLK_TYPE_ZONE_FINISH, VIRTIO_BLK_T_ZONE_FINISH);
    assert_int_equal(SKI_BLK_TYPE_ZONE_RESET, VIRTIO_BLK_T_ZONE_RESET);
    assert_int_equal(SKI_BLK_TYPE_ZONE_RESET_ALL, VIRTIO_BLK_T_ZONE_RESET_ALL);
    assert_int_equal(SKI_BLK_STATUS_ZONE_INVALID, VIRTIO_BLK_S_ZONE_INVALID_CMD);
    assert_int_equal(SKI_BLK_STATUS_ZONE_UNALIGNED, VIRTIO_BLK_S_ZONE_UNALIGNED_WP);
    assert_int_equal(SKI_BLK_STATUS_ZONE_OPEN, VIRTIO_BLK_S_ZONE_OPEN_RESOURCE);
    assert_int_equal(SKI_BLK_STATUS_ZONE_ACTIVE, VIRTIO_BLK_S_ZONE_ACTIVE_RESOURCE);
    assert_int_equal(SKI_BLK_CONFIG_ZONE_MODEL, offsetof(struct virtio_blk_config, zoned.model));
    assert_int_equal(SK_BLOCK_ZONE_REPORT_BYTES, sizeof(struct virtio_blk_zone_report));
    assert_int_equal(SK_BLOCK_ZONE_REPORT_BYTES, sizeof(struct virtio_blk_zone_descriptor));
#else
    print_message("needs linux/virtio_blk.h of Linux 6.3 or later\n");
    skip();
#endif
}

static uint64_t number(const char *name)
{
    struct sk_block_property property;

    assert_int_equal(sk_block_find_property(rig.disk, name, &property), SK_OK);
    return property.number;
}

/* A configuration laid out by the kernel's struct is read as it was meant. */
static void test_virtio_blk_uapi__configuration_as_the_headers_lay_it_out(void **state)
{
    struct virtio_blk_config their = {
        .capacity = 2048,
        .size_max = 65536,
        .seg_max = 9,
        .geometry = { 1023, 15, 62 },
        .blk_size = 1024,
        .physical_block_exp = 2,
        .alignment_offset = 3,
        .min_io_size = 5,
        .opt_io_size = 6,
        .wce = 1,
        .num_queues = 3,
        .max_discard_sectors = 200,
        .max_discard_seg = 7,
        .discard_sector_alignment = 12,
        .max_write_zeroes_sectors = 300,
        .max_write_zeroes_seg = 8,
        .write_zeroes_may_unmap = 1,
        .max_secure_erase_sectors = 400,
        .max_secure_erase_seg = 4,
        .secure_erase_sector_alignment = 14,
    };
    struct fake_device_config config = FAKE_DEVICE_CONFIG_DEFAULT;
    struct sk_virtio_blk_options options = blk_rig_options();

    (void)state;
    for (unsigned bit = SK_VIRTIO_BLK_F_SIZE_MAX; bit <= SK_VIRTIO_BLK_F_SECURE_ERASE; bit++) {
        if (sk_virtio_blk_feature_name(bit) != NULL && bit != SK_VIRTIO_BLK_F_RO) {
            config.features |= SK_VIRTIO_FEATURE(bit);
        }
    }
    config.config_bytes = 96;
    config.queue_count = 3;
    options.queue_count = 8;
    blk_rig_init(&rig, &config, &options);
    memcpy(rig.fake->config_space, &their, sizeof(their));
    assert_int_equal(blk_rig_probe(&rig), SK_OK);
    assert_int_equal(number("capacity_sectors"), 2048);
    assert_int_equal(number("segment_bytes_max"), 65536);
    assert_int_equal(number("request_segments_max"), 9);
    assert_int_equal(number("cylinders"), 1023);
    assert_int_equal(number("heads"), 15);
    assert_int_equal(number("track_sectors"), 62);
    assert_int_equal(number("block_bytes"), 1024);
    assert_int_equal(number("physical_block_bytes"), 4096);
    assert_int_equal(number("alignment_offset_bytes"), 3072);
    assert_int_equal(number("minimum_io_bytes"), 5120);
    assert_int_equal(number("optimal_io_bytes"), 6144);
    assert_int_equal(rig.disk->info.cache, SK_BLOCK_CACHE_WRITE_BACK);
    assert_int_equal(number("queues"), 3);
    assert_int_equal(number("discard_sectors_max"), 200);
    assert_int_equal(number("discard_ranges_max"), 7);
    assert_int_equal(number("discard_alignment_sectors"), 12);
    assert_int_equal(number("write_zeroes_sectors_max"), 300);
    assert_int_equal(number("write_zeroes_ranges_max"), 8);
    assert_int_equal(number("write_zeroes_may_unmap"), 1);
    assert_int_equal(number("secure_erase_sectors_max"), 400);
    assert_int_equal(number("secure_erase_ranges_max"), 4);
    assert_int_equal(number("secure_erase_alignment_sectors"), 14);
    blk_rig_deinit(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_virtio_blk_uapi__numbers_of_the_specification),
        cmocka_unit_test(test_virtio_blk_uapi__numbers_of_the_headers),
        cmocka_unit_test(test_virtio_blk_uapi__zones_of_the_headers),
        cmocka_unit_test(test_virtio_blk_uapi__configuration_as_the_headers_lay_it_out),
    };

    return cmocka_run_group_tests_name("virtio_blk_uapi", tests, NULL, NULL);
}
