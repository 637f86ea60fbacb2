/* SPDX-License-Identifier: MIT */
/* Disks with zones, through every kind of ring. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "block/virtio_blk_slot.h"
#include "support/blk_rig.h"

#define POLLS 2000u
#define ZONE  64u
#define ZONES 8u

static struct blk_rig rig;

static uint64_t bit(unsigned number)
{
    return SK_VIRTIO_FEATURE(number);
}

/* Eight zones of 64 sectors, the first one conventional; 2 may be open, 3 active. */
static struct fake_device_config zoned(void)
{
    struct fake_device_config config = FAKE_DEVICE_CONFIG_DEFAULT;

    config.features |= bit(SK_VIRTIO_BLK_F_ZONED);
    config.capacity_sectors = ZONE * ZONES;
    config.zone_sectors = ZONE;
    config.zones_conventional = 1;
    config.max_open_zones = 2;
    config.max_active_zones = 3;
    config.max_append_sectors = 16;
    return config;
}

static void start(void)
{
    struct fake_device_config config = zoned();

    blk_rig_start(&rig, &config, NULL);
}

/* The four kinds of ring: packed or not, with tables or without. */
static void start_kind(unsigned kind, struct fake_device_config config)
{
    struct sk_virtio_blk_options options = blk_rig_options();

    config.features &= ~bit(SK_VIRTIO_F_INDIRECT_DESC);
    config.features |= (kind & 1) != 0 ? bit(SK_VIRTIO_F_INDIRECT_DESC) : 0;
    config.features |= (kind & 2) != 0 ? bit(SK_VIRTIO_F_RING_PACKED) : 0;
    config.features |= (kind & 4) != 0 ? bit(SK_VIRTIO_F_IN_ORDER) : 0;
    config.in_order_batch = 3;
    options.queue_size = 32;
    blk_rig_start(&rig, &config, &options);
}

static struct sk_block_request run(enum sk_block_operation operation, uint64_t sector,
                                   uint32_t bytes, uint32_t flags)
{
    struct blk_rig_request request;

    blk_rig_prepare(&rig, &request, operation, sector, 0, bytes);
    request.request.flags = flags;
    request.request.result_sector = 0;
    blk_rig_submit(&rig, &request);
    assert_true(blk_rig_run(&rig, &request, POLLS));
    return request.request;
}

static enum sk_status status_of(enum sk_block_operation operation, uint64_t sector, uint32_t bytes)
{
    return run(operation, sector, bytes, 0).status;
}

static void fill(uint8_t value)
{
    memset(test_environment_foreign(&rig.env, 0), value, SK_DMA_PAGE_BYTES);
}

static void expect_stored(uint64_t sector, uint64_t count, uint8_t value)
{
    for (uint64_t i = sector * 512; i < (sector + count) * 512; i++) {
        assert_int_equal(rig.fake->storage[i], value);
    }
}

/* ---- What the disk is -------------------------------------------------------------------- */

static void test_virtio_blk_zones__limits_are_reported(void **state)
{
    struct fake_device_config config = zoned();

    (void)state;
    config.write_granularity = 4096;
    config.max_append_sectors = 21;
    blk_rig_start(&rig, &config, NULL);
    assert_int_equal(rig.disk->info.zones.model, SK_BLOCK_ZONE_MODEL_HOST_MANAGED);
    assert_int_equal(rig.disk->info.zones.sectors, ZONE);
    assert_int_equal(rig.disk->info.zones.open_max, 2);
    assert_int_equal(rig.disk->info.zones.active_max, 3);
    assert_int_equal(rig.disk->info.zones.append_sectors_max, 16); /* whole units */
    assert_int_equal(rig.disk->info.zones.write_bytes, 4096);
    assert_int_equal(sk_block_zone_count(rig.disk), ZONES);
    blk_rig_deinit(&rig);
}

static void test_virtio_blk_zones__open_zones_are_active_too(void **state)
{
    static const uint32_t cases[][4] = { /* open, active, open as reported, active */
        { 5, 3, 3, 3 }, { 0, 3, 3, 3 }, { 2, 0, 2, 0 }, { 0, 0, 0, 0 }, { 1, 9, 1, 9 },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct fake_device_config config = zoned();

        config.max_open_zones = cases[i][0];
        config.max_active_zones = cases[i][1];
        blk_rig_start(&rig, &config, NULL);
        assert_int_equal(rig.disk->info.zones.open_max, cases[i][2]);
        assert_int_equal(rig.disk->info.zones.active_max, cases[i][3]);
        blk_rig_deinit(&rig);
    }
}

static void test_virtio_blk_zones__a_disk_without_them_has_none(void **state)
{
    (void)state;
    blk_rig_start(&rig, NULL, NULL);
    assert_int_equal(rig.disk->info.zones.model, SK_BLOCK_ZONE_MODEL_NONE);
    assert_int_equal(sk_block_zone_count(rig.disk), 0);
    for (int i = SK_BLOCK_ZONE_REPORT; i <= SK_BLOCK_ZONE_APPEND; i++) {
        assert_int_equal(status_of((enum sk_block_operation)i, 0, 512), SK_ERR_UNSUPPORTED);
    }
    assert_int_equal(rig.fake->requests, 1); /* the identity */
    blk_rig_deinit(&rig);
}

/* 5.2.5: a device may have the feature and no zones to care about. */
static void test_virtio_blk_zones__model_none_is_a_plain_disk(void **state)
{
    struct fake_device_config config = FAKE_DEVICE_CONFIG_DEFAULT;

    (void)state;
    config.features |= bit(SK_VIRTIO_BLK_F_ZONED) | bit(SK_VIRTIO_BLK_F_DISCARD);
    config.config_bytes = 96;
    blk_rig_init(&rig, &config, NULL);
    rig.fake->config_space[36] = 8;
    assert_int_equal(blk_rig_probe(&rig), SK_OK);
    assert_int_equal(rig.disk->info.zones.model, SK_BLOCK_ZONE_MODEL_NONE);
    assert_int_equal(rig.disk->info.discard.sectors_max, 8);
    assert_int_equal(status_of(SK_BLOCK_WRITE, 100, 512), SK_OK);
    assert_int_equal(status_of(SK_BLOCK_ZONE_RESET_ALL, 0, 0), SK_ERR_UNSUPPORTED);
    blk_rig_deinit(&rig);
}

/* Who does not accept the feature may not drive a host-managed disk; a host-aware one it may. */
static void test_virtio_blk_zones__not_wanted(void **state)
{
    struct fake_device_config config = zoned();
    struct sk_virtio_blk_options options = blk_rig_options();

    (void)state;
    options.features = ~bit(SK_VIRTIO_BLK_F_ZONED);
    blk_rig_init(&rig, &config, &options);
    assert_int_equal(blk_rig_probe(&rig), SK_ERR_UNSUPPORTED);
    blk_rig_deinit(&rig);
    config.host_aware = true;
    blk_rig_start(&rig, &config, &options);
    assert_int_equal(rig.disk->info.zones.model, SK_BLOCK_ZONE_MODEL_NONE);
    assert_int_equal(status_of(SK_BLOCK_WRITE, 100, 4096), SK_OK);
    blk_rig_deinit(&rig);
}

static void test_virtio_blk_zones__a_legacy_device_cannot_have_them(void **state)
{
    struct fake_device_config config = FAKE_DEVICE_CONFIG_DEFAULT;

    (void)state;
    config.legacy = true;
    config.features |= bit(SK_VIRTIO_BLK_F_ZONED);
    blk_rig_init(&rig, &config, NULL);
    assert_int_equal(blk_rig_probe(&rig), SK_ERR_UNSUPPORTED);
    blk_rig_deinit(&rig);
}

/* 5.2.5.1: DISCARD is not accepted of a host-managed disk (the fake device looks). */
static void test_virtio_blk_zones__host_managed_disks_discard_nothing(void **state)
{
    struct fake_device_config config = zoned();

    (void)state;
    config.features |= bit(SK_VIRTIO_BLK_F_DISCARD);
    blk_rig_init(&rig, &config, NULL);
    rig.fake->config_space[36] = 64;
    rig.fake->config_space[40] = 1;
    assert_int_equal(blk_rig_probe(&rig), SK_OK);
    assert_int_equal(sk_block_clear(rig.queue, SK_BLOCK_DISCARD, 64, 64, 0, 0),
                     SK_ERR_UNSUPPORTED);
    blk_rig_deinit(&rig);
}

static void test_virtio_blk_zones__host_aware_disks_are_written_anywhere(void **state)
{
    struct fake_device_config config = zoned();
    struct sk_block_zone zone;
    uint32_t count;

    (void)state;
    config.host_aware = true;
    config.features |= bit(SK_VIRTIO_BLK_F_DISCARD);
    blk_rig_init(&rig, &config, NULL);
    rig.fake->config_space[36] = 64;
    rig.fake->config_space[40] = 1;
    assert_int_equal(blk_rig_probe(&rig), SK_OK);
    assert_int_equal(rig.disk->info.zones.model, SK_BLOCK_ZONE_MODEL_HOST_AWARE);
    assert_int_equal(status_of(SK_BLOCK_WRITE, ZONE + 7, 512), SK_OK);
    assert_int_equal(status_of(SK_BLOCK_WRITE, 2 * ZONE - 2, 2048), SK_OK);
    assert_int_equal(rig.queue->statistics.parts, 3); /* nothing was split */
    assert_int_equal(sk_block_clear(rig.queue, SK_BLOCK_DISCARD, 70, 10, 0, 0), SK_OK);
    assert_int_equal(sk_block_zone_report(rig.queue, ZONE, &zone, 1, &count, 0), SK_OK);
    assert_int_equal(zone.type, SK_BLOCK_ZONE_TYPE_PREFERRED);
    assert_int_equal(status_of(SK_BLOCK_ZONE_FINISH, ZONE, 0), SK_OK);
    blk_rig_deinit(&rig);
}

/* ---- Reading and writing ----------------------------------------------------------------- */

static void test_virtio_blk_zones__writes_follow_the_write_pointer(void **state)
{
    (void)state;
    for (unsigned kind = 0; kind < 8; kind++) {
        start_kind(kind, zoned());
        fill(0x31);
        assert_int_equal(status_of(SK_BLOCK_WRITE, 30, 512), SK_OK); /* conventional */
        assert_int_equal(status_of(SK_BLOCK_WRITE, ZONE, 1024), SK_OK);
        assert_int_equal(status_of(SK_BLOCK_WRITE, ZONE, 512), SK_ERR_ZONE_STATE);
        assert_int_equal(status_of(SK_BLOCK_WRITE, ZONE + 3, 512), SK_ERR_ZONE_STATE);
        assert_int_equal(status_of(SK_BLOCK_WRITE, ZONE + 2, 4096), SK_OK);
        expect_stored(ZONE, 10, 0x31);
        expect_stored(ZONE + 10, 1, 0);
        assert_int_equal(rig.queue->statistics.errors[SK_ERR_ZONE_STATE], 2);
        blk_rig_deinit(&rig);
    }
}

/* 5.2.6: a request that reaches into another zone is no request. */
static void test_virtio_blk_zones__what_reaches_across_is_split(void **state)
{
    uint64_t parts;

    (void)state;
    start();
    fill(0x44);
    for (unsigned i = 0; i < 7; i++) {
        assert_int_equal(status_of(SK_BLOCK_WRITE, ZONE + 8 * i, 4096), SK_OK);
    }
    assert_int_equal(status_of(SK_BLOCK_WRITE, 2 * ZONE - 8, 2048), SK_OK);
    parts = rig.queue->statistics.parts;
    assert_int_equal(status_of(SK_BLOCK_WRITE, 2 * ZONE - 4, 4096), SK_OK);
    assert_int_equal(rig.queue->statistics.parts, parts + 2);
    assert_int_equal(rig.fake->zones[1].state, FAKE_ZONE_FULL);
    assert_int_equal(rig.fake->zones[2].write, 2 * ZONE + 4);
    expect_stored(ZONE, ZONE + 4, 0x44);
    parts = rig.queue->statistics.parts;
    assert_int_equal(status_of(SK_BLOCK_READ, 2 * ZONE - 1, 4096), SK_OK);
    assert_int_equal(rig.queue->statistics.parts, parts + 2);
    blk_rig_deinit(&rig);
}

/* However a disk orders its requests, the parts of one write arrive in theirs. */
static void test_virtio_blk_zones__parts_of_a_write_go_one_by_one(void **state)
{
    struct fake_device_config config = zoned();
    struct blk_rig_request requests[4];

    (void)state;
    config.features |= bit(SK_VIRTIO_BLK_F_SIZE_MAX);
    config.size_max = 512;
    config.seg_max = 1;
    config.deferred = true;
    config.order = FAKE_ORDER_LAST_IN;
    for (unsigned kind = 0; kind < 8; kind++) {
        unsigned steps = 0;

        start_kind(kind, config);
        for (unsigned i = 0; i < 4; i++) {
            blk_rig_prepare(&rig, &requests[i], SK_BLOCK_WRITE, (1 + i) * ZONE, i, 4096);
            memset(test_environment_foreign(&rig.env, i), (int)(0x50 + i), 4096);
            blk_rig_submit(&rig, &requests[i]);
        }
        while (requests[3].completions == 0) {
            (void)fake_device_run(rig.fake, 1);
            assert_int_equal(sk_block_poll(rig.queue, 0, NULL), SK_OK);
            assert_true(++steps < POLLS);
        }
        assert_int_equal(requests[0].request.status, SK_OK);
        assert_int_equal(requests[1].request.status, SK_OK);
        assert_int_equal(requests[2].request.status, SK_OK);
        assert_int_equal(requests[3].request.status, SK_ERR_ZONES_ACTIVE); /* the fourth zone */
        expect_stored(3 * ZONE, 8, 0x52);
        blk_rig_deinit(&rig);
    }
}

/* The first part that fails is the last one that is tried; what waited behind goes on. */
static void test_virtio_blk_zones__a_failed_part_ends_its_write(void **state)
{
    struct fake_device_config config = zoned();
    struct blk_rig_request write;
    struct blk_rig_request behind;

    (void)state;
    config.features |= bit(SK_VIRTIO_BLK_F_SIZE_MAX);
    config.size_max = 512;
    config.seg_max = 1;
    blk_rig_start(&rig, &config, NULL);
    fake_device_bad_sectors(rig.fake, ZONE + 3, 1);
    blk_rig_prepare(&rig, &write, SK_BLOCK_WRITE, ZONE, 0, 4096);
    blk_rig_prepare(&rig, &behind, SK_BLOCK_READ, 0, 1, 512);
    blk_rig_submit(&rig, &write);
    blk_rig_submit(&rig, &behind);
    assert_true(blk_rig_run(&rig, &write, POLLS));
    assert_true(blk_rig_run(&rig, &behind, POLLS));
    assert_int_equal(write.request.status, SK_ERR_IO);
    assert_int_equal(behind.request.status, SK_OK);
    assert_int_equal(rig.fake->writes, 3);
    assert_int_equal(rig.fake->zones[1].write, ZONE + 3);
    assert_int_equal(rig.queue->statistics.errors[SK_ERR_IO], 1);
    blk_rig_deinit(&rig);
}

/* Parts are cut at the granularity of writes, even if the segments are odd. */
static void test_virtio_blk_zones__parts_keep_the_granularity(void **state)
{
    struct fake_device_config config = zoned();
    struct sk_dma_segment segments[5];
    struct sk_virtio_blk_options options = blk_rig_options();
    struct blk_rig_request request;

    (void)state;
    config.write_granularity = 2048;
    options.segment_count = 3;
    blk_rig_start(&rig, &config, &options);
    blk_rig_prepare(&rig, &request, SK_BLOCK_WRITE, ZONE, 0, 4096);
    for (unsigned i = 0; i < 4; i++) {
        segments[i] = (struct sk_dma_segment){ sk_daddr_make(blk_rig_address(&rig, i)), 1000 };
    }
    segments[4] = (struct sk_dma_segment){ sk_daddr_make(blk_rig_address(&rig, 4)), 96 };
    request.request.segments = segments;
    request.request.segment_count = 5;
    blk_rig_submit(&rig, &request);
    assert_true(blk_rig_run(&rig, &request, POLLS));
    assert_int_equal(request.request.status, SK_OK);
    assert_int_equal(rig.fake->writes, 2); /* 3000 bytes would fit, 2048 go */
    assert_int_equal(rig.fake->zones[1].write, ZONE + 8);
    blk_rig_deinit(&rig);
}

static void test_virtio_blk_zones__zeroes_stay_in_their_zone(void **state)
{
    struct fake_device_config config = zoned();

    (void)state;
    config.features |= bit(SK_VIRTIO_BLK_F_WRITE_ZEROES);
    config.deferred = true;
    blk_rig_init(&rig, &config, NULL);
    rig.fake->config_space[48] = 200;
    rig.fake->config_space[52] = 1;
    assert_int_equal(blk_rig_probe(&rig), SK_OK);
    assert_int_equal(sk_block_clear(rig.queue, SK_BLOCK_WRITE_ZEROES, 10, 3 * ZONE, 0, 0), SK_OK);
    assert_int_equal(rig.fake->ranges, 4); /* 54, 64, 64, 10 */
    assert_int_equal(rig.fake->range_sectors, 3 * ZONE);
    blk_rig_deinit(&rig);
}

/* 5.2.6: what is erased is whole zones, which are reset. */
static void test_virtio_blk_zones__erasing_takes_whole_zones(void **state)
{
    struct fake_device_config config = zoned();

    (void)state;
    config.features |= bit(SK_VIRTIO_BLK_F_SECURE_ERASE);
    config.capacity_sectors = 500;
    blk_rig_init(&rig, &config, NULL);
    rig.fake->config_space[60] = 150; /* two zones and a part */
    rig.fake->config_space[64] = 1;
    rig.fake->config_space[68] = 7; /* a lie: 5.2.5.2 */
    assert_int_equal(blk_rig_probe(&rig), SK_OK);
    assert_int_equal(rig.disk->info.secure_erase.sectors_max, 2 * ZONE);
    assert_int_equal(rig.disk->info.secure_erase.alignment_sectors, ZONE);
    assert_int_equal(status_of(SK_BLOCK_WRITE, ZONE, 512), SK_OK);
    assert_int_equal(sk_block_clear(rig.queue, SK_BLOCK_SECURE_ERASE, ZONE, 3 * ZONE, 0, 0),
                     SK_OK);
    assert_int_equal(rig.fake->ranges, 2);
    assert_int_equal(rig.fake->zones[1].state, FAKE_ZONE_EMPTY);
    assert_int_equal(sk_block_clear(rig.queue, SK_BLOCK_SECURE_ERASE, ZONE, 20, 0, 0),
                     SK_ERR_INVALID);
    assert_int_equal(sk_block_clear(rig.queue, SK_BLOCK_SECURE_ERASE, ZONE + 1, ZONE, 0, 0),
                     SK_ERR_INVALID);
    assert_int_equal(sk_block_clear(rig.queue, SK_BLOCK_SECURE_ERASE, 7 * ZONE, 52, 0, 0), SK_OK);
    blk_rig_deinit(&rig);
}

/* ---- Appending --------------------------------------------------------------------------- */

/* Answers of two lengths take turns in the same slots. */
static void test_virtio_blk_zones__append_says_where_on_every_ring(void **state)
{
    (void)state;
    for (unsigned kind = 0; kind < 8; kind++) {
        struct sk_block_request request;

        start_kind(kind, zoned());
        for (unsigned i = 0; i < 100; i++) {
            uint64_t zone = ZONE * (1 + i % 2);
            uint64_t expected = zone + i / 2 % 32 * 2;

            if (i % 64 == 0) {
                assert_int_equal(status_of(SK_BLOCK_ZONE_RESET_ALL, 0, 0), SK_OK);
            }
            fill((uint8_t)(i + 1));
            request = run(SK_BLOCK_ZONE_APPEND, zone, 1024, 0);
            assert_int_equal(request.status, SK_OK);
            assert_int_equal(request.result_sector, expected);
            expect_stored(expected, 2, (uint8_t)(i + 1));
            if (i % 3 != 0) {
                assert_int_equal(status_of(SK_BLOCK_READ, expected, 1024), SK_OK);
            }
            if (i % 5 == 0) {
                assert_int_equal(status_of(SK_BLOCK_FLUSH, 0, 0), SK_OK);
            }
        }
        assert_int_equal(rig.queue->statistics.bytes_written, 100 * 1024);
        blk_rig_deinit(&rig);
    }
}

static void test_virtio_blk_zones__many_appends_at_a_time(void **state)
{
    struct fake_device_config config = zoned();
    struct blk_rig_request requests[16];
    uint64_t taken = 0;

    (void)state;
    config.deferred = true;
    config.order = FAKE_ORDER_RANDOM;
    for (unsigned kind = 0; kind < 8; kind++) {
        start_kind(kind, config);
        taken = 0;
        for (unsigned i = 0; i < 16; i++) {
            blk_rig_prepare(&rig, &requests[i], SK_BLOCK_ZONE_APPEND, 2 * ZONE, i, 1024);
            memset(test_environment_foreign(&rig.env, i), (int)(i + 1), 1024);
            blk_rig_submit(&rig, &requests[i]);
        }
        for (unsigned i = 0; i < 16; i++) {
            assert_true(blk_rig_run(&rig, &requests[i], POLLS));
            assert_int_equal(requests[i].request.status, SK_OK);
            taken |= UINT64_C(1) << (requests[i].request.result_sector - 2 * ZONE);
            expect_stored(requests[i].request.result_sector, 2, (uint8_t)(i + 1));
        }
        assert_int_equal(taken, 0x55555555);
        blk_rig_deinit(&rig);
    }
}

static void test_virtio_blk_zones__append_in_several_segments(void **state)
{
    struct sk_dma_segment segments[16];
    struct blk_rig_request request;

    (void)state;
    for (unsigned kind = 0; kind < 8; kind++) {
        uint32_t count;

        start_kind(kind, zoned());
        count = rig.disk->info.segment_count_max;
        assert_true(count >= 1 && count <= 16);
        blk_rig_prepare(&rig, &request, SK_BLOCK_ZONE_APPEND, ZONE, 0, 512);
        for (unsigned i = 0; i < count; i++) {
            segments[i] = (struct sk_dma_segment){ sk_daddr_make(blk_rig_address(&rig, i)), 512 };
        }
        request.request.segments = segments;
        request.request.segment_count = count;
        blk_rig_submit(&rig, &request);
        assert_true(blk_rig_run(&rig, &request, POLLS));
        assert_int_equal(request.request.status, SK_OK);
        assert_int_equal(rig.fake->zones[1].write, ZONE + count);
        assert_int_equal(rig.fake->segments_most, count);
        blk_rig_deinit(&rig);
    }
}

/* An append cannot be split: it would be two. */
static void test_virtio_blk_zones__append_that_does_not_fit_is_refused(void **state)
{
    struct sk_virtio_blk_options options = blk_rig_options();
    struct fake_device_config config = zoned();
    struct sk_dma_segment segments[2];
    struct blk_rig_request request;

    (void)state;
    options.segment_count = 1;
    config.write_granularity = 1024;
    blk_rig_start(&rig, &config, &options);
    blk_rig_prepare(&rig, &request, SK_BLOCK_ZONE_APPEND, ZONE, 0, 512);
    for (unsigned i = 0; i < 2; i++) {
        segments[i] = (struct sk_dma_segment){ sk_daddr_make(blk_rig_address(&rig, i)), 512 };
    }
    request.request.segments = segments;
    request.request.segment_count = 2;
    blk_rig_submit(&rig, &request);
    assert_true(blk_rig_run(&rig, &request, POLLS));
    assert_int_equal(request.request.status, SK_ERR_UNSUPPORTED);
    assert_int_equal(status_of(SK_BLOCK_ZONE_APPEND, ZONE, 16 * 512), SK_OK);
    assert_int_equal(status_of(SK_BLOCK_ZONE_APPEND, ZONE, 18 * 512), SK_ERR_SIZE);
    assert_int_equal(status_of(SK_BLOCK_ZONE_APPEND, ZONE, 512), SK_ERR_SIZE);
    assert_int_equal(status_of(SK_BLOCK_ZONE_APPEND, ZONE, 0), SK_ERR_SIZE);
    assert_int_equal(status_of(SK_BLOCK_ZONE_APPEND, ZONE + 1, 1024), SK_ERR_INVALID);
    assert_int_equal(status_of(SK_BLOCK_ZONE_APPEND, ZONES * ZONE, 1024), SK_ERR_RANGE);
    assert_int_equal(status_of(SK_BLOCK_ZONE_APPEND, 0, 1024), SK_ERR_ZONE_STATE);
    assert_int_equal(rig.queue->statistics.refused, 6);
    blk_rig_deinit(&rig);
}

static void test_virtio_blk_zones__append_may_be_unsupported(void **state)
{
    struct fake_device_config config = zoned();

    (void)state;
    config.max_append_sectors = 0;
    blk_rig_start(&rig, &config, NULL);
    assert_int_equal(status_of(SK_BLOCK_ZONE_APPEND, ZONE, 512), SK_ERR_UNSUPPORTED);
    assert_int_equal(rig.queue->statistics.refused, 1);
    blk_rig_deinit(&rig);
}

static void test_virtio_blk_zones__durable_append_is_one_request(void **state)
{
    struct sk_block_request request;

    (void)state;
    for (unsigned kind = 0; kind < 8; kind++) {
        start_kind(kind, zoned());
        fill(0x66);
        assert_int_equal(run(SK_BLOCK_ZONE_APPEND, ZONE, 512, 0).status, SK_OK);
        request = run(SK_BLOCK_ZONE_APPEND, ZONE, 1024, SK_BLOCK_FLAG_FUA);
        assert_int_equal(request.status, SK_OK);
        assert_int_equal(request.result_sector, ZONE + 1);
        assert_int_equal(rig.fake->flushes, 1);
        fake_device_lose_power(rig.fake);
        expect_stored(ZONE + 1, 2, 0x66);
        blk_rig_deinit(&rig);
    }
}

/* ---- States ------------------------------------------------------------------------------ */

static void test_virtio_blk_zones__states_change_by_request(void **state)
{
    (void)state;
    start();
    assert_int_equal(status_of(SK_BLOCK_ZONE_OPEN, ZONE, 0), SK_OK);
    assert_int_equal(rig.fake->zones[1].state, FAKE_ZONE_OPEN_EXPLICIT);
    assert_int_equal(status_of(SK_BLOCK_WRITE, ZONE, 512), SK_OK);
    assert_int_equal(status_of(SK_BLOCK_ZONE_CLOSE, ZONE, 0), SK_OK);
    assert_int_equal(rig.fake->zones[1].state, FAKE_ZONE_CLOSED);
    assert_int_equal(status_of(SK_BLOCK_ZONE_FINISH, ZONE, 0), SK_OK);
    assert_int_equal(rig.fake->zones[1].state, FAKE_ZONE_FULL);
    assert_int_equal(status_of(SK_BLOCK_ZONE_OPEN, ZONE, 0), SK_ERR_ZONE_STATE);
    assert_int_equal(status_of(SK_BLOCK_ZONE_RESET, ZONE, 0), SK_OK);
    assert_int_equal(rig.fake->zones[1].state, FAKE_ZONE_EMPTY);
    assert_int_equal(status_of(SK_BLOCK_ZONE_OPEN, ZONE, 0), SK_OK);
    assert_int_equal(status_of(SK_BLOCK_ZONE_OPEN, 2 * ZONE, 0), SK_OK);
    assert_int_equal(status_of(SK_BLOCK_ZONE_OPEN, 3 * ZONE, 0), SK_ERR_ZONES_OPEN);
    assert_int_equal(status_of(SK_BLOCK_WRITE, ZONE, 512), SK_OK);
    assert_int_equal(status_of(SK_BLOCK_ZONE_CLOSE, ZONE, 0), SK_OK);
    assert_int_equal(status_of(SK_BLOCK_ZONE_OPEN, 3 * ZONE, 0), SK_OK);
    assert_int_equal(status_of(SK_BLOCK_ZONE_OPEN, 4 * ZONE, 0), SK_ERR_ZONES_ACTIVE);
    assert_int_equal(status_of(SK_BLOCK_ZONE_RESET_ALL, 0, 0), SK_OK);
    assert_int_equal(rig.fake->zones[1].state, FAKE_ZONE_EMPTY);
    blk_rig_deinit(&rig);
}

static void test_virtio_blk_zones__bad_management_is_refused_here(void **state)
{
    (void)state;
    start();
    assert_int_equal(status_of(SK_BLOCK_ZONE_OPEN, ZONE + 1, 0), SK_ERR_INVALID);
    assert_int_equal(status_of(SK_BLOCK_ZONE_OPEN, ZONES * ZONE, 0), SK_ERR_RANGE);
    assert_int_equal(status_of(SK_BLOCK_ZONE_RESET, UINT64_MAX - 63, 0), SK_ERR_RANGE);
    assert_int_equal(status_of(SK_BLOCK_ZONE_RESET_ALL, ZONE, 0), SK_ERR_INVALID);
    assert_int_equal(status_of(SK_BLOCK_ZONE_CLOSE, ZONE, 512), SK_ERR_INVALID);
    assert_int_equal(run(SK_BLOCK_ZONE_FINISH, ZONE, 0, SK_BLOCK_FLAG_FUA).status, SK_ERR_INVALID);
    assert_int_equal(run(SK_BLOCK_ZONE_APPEND, ZONE, 512, SK_BLOCK_FLAG_UNMAP).status,
                     SK_ERR_INVALID);
    assert_int_equal(status_of(SK_BLOCK_ZONE_REPORT, 0, 64), SK_ERR_SIZE);
    assert_int_equal(status_of(SK_BLOCK_ZONE_REPORT, 0, 191), SK_ERR_SIZE);
    assert_int_equal(status_of(SK_BLOCK_ZONE_REPORT, 0, 0), SK_ERR_SIZE);
    assert_int_equal(status_of(SK_BLOCK_ZONE_REPORT, ZONES * ZONE, 128), SK_ERR_RANGE);
    assert_int_equal(rig.queue->statistics.refused, 11);
    assert_int_equal(rig.fake->requests, 1); /* the identity */
    blk_rig_deinit(&rig);
}

static void test_virtio_blk_zones__read_only_disks_only_report(void **state)
{
    struct fake_device_config config = zoned();

    (void)state;
    config.features |= bit(SK_VIRTIO_BLK_F_RO);
    blk_rig_start(&rig, &config, NULL);
    for (int i = SK_BLOCK_ZONE_OPEN; i <= SK_BLOCK_ZONE_APPEND; i++) {
        uint64_t sector = i == SK_BLOCK_ZONE_RESET_ALL ? 0 : ZONE;

        assert_int_equal(status_of((enum sk_block_operation)i, sector,
                                   i == SK_BLOCK_ZONE_APPEND ? 512 : 0),
                         SK_ERR_READ_ONLY);
    }
    assert_int_equal(status_of(SK_BLOCK_ZONE_REPORT, 0, 128), SK_OK);
    blk_rig_deinit(&rig);
}

/* ---- What may be done twice -------------------------------------------------------------- */

static bool repeatable(enum sk_block_operation operation)
{
    struct sk_block_request request = { .operation = operation };

    return ski_blk_is_repeatable(SK_CONTAINER_OF(rig.queue, struct ski_blk_queue, queue), &request);
}

static void test_virtio_blk_is_repeatable__zones_remember(void **state)
{
    struct fake_device_config config = zoned();

    (void)state;
    start();
    assert_true(repeatable(SK_BLOCK_READ));
    assert_true(repeatable(SK_BLOCK_FLUSH));
    assert_true(repeatable(SK_BLOCK_ZONE_REPORT));
    assert_false(repeatable(SK_BLOCK_WRITE));
    assert_false(repeatable(SK_BLOCK_WRITE_ZEROES));
    assert_false(repeatable(SK_BLOCK_SECURE_ERASE));
    for (int i = SK_BLOCK_ZONE_OPEN; i <= SK_BLOCK_ZONE_APPEND; i++) {
        assert_false(repeatable((enum sk_block_operation)i));
    }
    blk_rig_deinit(&rig);
    config.host_aware = true;
    blk_rig_start(&rig, &config, NULL);
    assert_true(repeatable(SK_BLOCK_WRITE));
    assert_false(repeatable(SK_BLOCK_SECURE_ERASE));
    assert_false(repeatable(SK_BLOCK_ZONE_APPEND));
    blk_rig_deinit(&rig);
}

/* The device stops between an append and its answer: it ends with the reason, not with a sector. */
static void test_virtio_blk_zones__stopped_appends_end_with_the_reason(void **state)
{
    struct fake_device_config config = zoned();
    struct blk_rig_request request;

    (void)state;
    config.deferred = true;
    for (unsigned kind = 0; kind < 8; kind++) {
        start_kind(kind, config);
        blk_rig_prepare(&rig, &request, SK_BLOCK_ZONE_APPEND, ZONE, 0, 512);
        blk_rig_submit(&rig, &request);
        sk_block_stop(rig.disk, SK_ERR_TIMEOUT);
        assert_int_equal(sk_block_poll(rig.queue, 0, NULL), SK_ERR_BROKEN);
        assert_int_equal(request.request.status, SK_ERR_TIMEOUT);
        assert_int_equal(sk_block_recover(rig.disk, 0), SK_OK);
        assert_int_equal(status_of(SK_BLOCK_READ, ZONE, 512), SK_OK);
        assert_int_equal(status_of(SK_BLOCK_ZONE_APPEND, ZONE, 512), SK_OK);
        blk_rig_deinit(&rig);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_virtio_blk_zones__limits_are_reported),
        cmocka_unit_test(test_virtio_blk_zones__open_zones_are_active_too),
        cmocka_unit_test(test_virtio_blk_zones__a_disk_without_them_has_none),
        cmocka_unit_test(test_virtio_blk_zones__model_none_is_a_plain_disk),
        cmocka_unit_test(test_virtio_blk_zones__not_wanted),
        cmocka_unit_test(test_virtio_blk_zones__a_legacy_device_cannot_have_them),
        cmocka_unit_test(test_virtio_blk_zones__host_managed_disks_discard_nothing),
        cmocka_unit_test(test_virtio_blk_zones__host_aware_disks_are_written_anywhere),
        cmocka_unit_test(test_virtio_blk_zones__writes_follow_the_write_pointer),
        cmocka_unit_test(test_virtio_blk_zones__what_reaches_across_is_split),
        cmocka_unit_test(test_virtio_blk_zones__parts_of_a_write_go_one_by_one),
        cmocka_unit_test(test_virtio_blk_zones__a_failed_part_ends_its_write),
        cmocka_unit_test(test_virtio_blk_zones__parts_keep_the_granularity),
        cmocka_unit_test(test_virtio_blk_zones__zeroes_stay_in_their_zone),
        cmocka_unit_test(test_virtio_blk_zones__erasing_takes_whole_zones),
        cmocka_unit_test(test_virtio_blk_zones__append_says_where_on_every_ring),
        cmocka_unit_test(test_virtio_blk_zones__many_appends_at_a_time),
        cmocka_unit_test(test_virtio_blk_zones__append_in_several_segments),
        cmocka_unit_test(test_virtio_blk_zones__append_that_does_not_fit_is_refused),
        cmocka_unit_test(test_virtio_blk_zones__append_may_be_unsupported),
        cmocka_unit_test(test_virtio_blk_zones__durable_append_is_one_request),
        cmocka_unit_test(test_virtio_blk_zones__states_change_by_request),
        cmocka_unit_test(test_virtio_blk_zones__bad_management_is_refused_here),
        cmocka_unit_test(test_virtio_blk_zones__read_only_disks_only_report),
        cmocka_unit_test(test_virtio_blk_is_repeatable__zones_remember),
        cmocka_unit_test(test_virtio_blk_zones__stopped_appends_end_with_the_reason),
    };

    return cmocka_run_group_tests_name("virtio_blk_zones", tests, NULL, NULL);
}
