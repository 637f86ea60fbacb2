/* SPDX-License-Identifier: MIT */
/* The face of disks with zones: reports, and the calls that wait. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "support/blk_rig.h"

#define ZONE 64u

static struct blk_rig rig;

/* Zones of 64 sectors, 60 of which can be written; the last one is shorter. */
static void start(uint64_t capacity, uint32_t conventional)
{
    struct fake_device_config config = FAKE_DEVICE_CONFIG_DEFAULT;

    config.features |= SK_VIRTIO_FEATURE(SK_VIRTIO_BLK_F_ZONED);
    config.capacity_sectors = capacity;
    config.zone_sectors = ZONE;
    config.zone_capacity = 60;
    config.zones_conventional = conventional;
    config.max_append_sectors = 32;
    blk_rig_start(&rig, &config, NULL);
}

static void test_block_zone_names__every_value_has_its_own(void **state)
{
    (void)state;
    for (int i = 0; i < SK_BLOCK_ZONE_STATE_COUNT; i++) {
        for (int j = 0; j < i; j++) {
            assert_string_not_equal(sk_block_zone_state_name((enum sk_block_zone_state)i),
                                    sk_block_zone_state_name((enum sk_block_zone_state)j));
        }
    }
    assert_string_equal(sk_block_zone_state_name(SK_BLOCK_ZONE_STATE_READ_ONLY), "read-only");
    assert_string_equal(sk_block_zone_state_name(SK_BLOCK_ZONE_STATE_COUNT), "unknown");
    assert_string_equal(sk_block_zone_type_name(SK_BLOCK_ZONE_TYPE_CONVENTIONAL), "conventional");
    assert_string_equal(sk_block_zone_type_name(SK_BLOCK_ZONE_TYPE_SEQUENTIAL), "sequential");
    assert_string_equal(sk_block_zone_type_name(SK_BLOCK_ZONE_TYPE_PREFERRED),
                        "sequential-preferred");
    assert_string_equal(sk_block_zone_type_name(SK_BLOCK_ZONE_TYPE_COUNT), "unknown");
    assert_string_equal(sk_block_zone_model_name(SK_BLOCK_ZONE_MODEL_NONE), "none");
    assert_string_equal(sk_block_zone_model_name(SK_BLOCK_ZONE_MODEL_HOST_AWARE), "host-aware");
    assert_string_equal(sk_block_zone_model_name(SK_BLOCK_ZONE_MODEL_HOST_MANAGED),
                        "host-managed");
    assert_string_equal(sk_block_zone_model_name(SK_BLOCK_ZONE_MODEL_COUNT), "unknown");
}

/* More zones than are asked for at a time, with every state that a report can have. */
static void test_block_zone_report__tells_all_zones(void **state)
{
    static const struct {
        uint8_t fake;
        enum sk_block_zone_state state;
        bool pointer;
    } states[] = {
        { FAKE_ZONE_EMPTY, SK_BLOCK_ZONE_STATE_EMPTY, true },
        { FAKE_ZONE_OPEN_IMPLICIT, SK_BLOCK_ZONE_STATE_OPENED, true },
        { FAKE_ZONE_OPEN_EXPLICIT, SK_BLOCK_ZONE_STATE_OPEN, true },
        { FAKE_ZONE_CLOSED, SK_BLOCK_ZONE_STATE_CLOSED, true },
        { FAKE_ZONE_READ_ONLY, SK_BLOCK_ZONE_STATE_READ_ONLY, false },
        { FAKE_ZONE_FULL, SK_BLOCK_ZONE_STATE_FULL, false },
        { FAKE_ZONE_OFFLINE, SK_BLOCK_ZONE_STATE_OFFLINE, false },
    };
    static struct sk_block_zone zones[64];
    uint32_t count;

    (void)state;
    start(50 * ZONE - 14, 3);
    for (uint32_t i = 3; i < 50; i++) {
        rig.fake->zones[i].state = states[i % 7].fake;
        rig.fake->zones[i].write += states[i % 7].fake == FAKE_ZONE_EMPTY ? 0 : i % 8;
    }
    assert_int_equal(sk_block_zone_count(rig.disk), 50);
    assert_int_equal(sk_block_zone_report(rig.queue, 0, zones, 64, &count, 0), SK_OK);
    assert_int_equal(count, 50);
    for (uint32_t i = 0; i < 50; i++) {
        assert_int_equal(zones[i].sector, i * ZONE);
        assert_int_equal(zones[i].sector_count, i == 49 ? 50 : ZONE);
        assert_int_equal(zones[i].capacity_sectors, i == 49 ? 50 : 60);
        if (i < 3) {
            assert_int_equal(zones[i].type, SK_BLOCK_ZONE_TYPE_CONVENTIONAL);
            assert_int_equal(zones[i].state, SK_BLOCK_ZONE_STATE_NONE);
            assert_int_equal(zones[i].write_sector, SK_BLOCK_ZONE_NO_SECTOR);
            continue;
        }
        assert_int_equal(zones[i].type, SK_BLOCK_ZONE_TYPE_SEQUENTIAL);
        assert_int_equal(zones[i].state, states[i % 7].state);
        assert_int_equal(zones[i].write_sector, states[i % 7].pointer ? rig.fake->zones[i].write
                                                                      : SK_BLOCK_ZONE_NO_SECTOR);
    }
    blk_rig_deinit(&rig);
}

static void test_block_zone_report__begins_and_ends_where_it_is_asked_to(void **state)
{
    static struct sk_block_zone zones[64];
    uint32_t count;

    (void)state;
    start(50 * ZONE, 0);
    for (uint32_t wanted = 1; wanted <= 33; wanted++) {
        memset(zones, 0, sizeof(zones));
        assert_int_equal(sk_block_zone_report(rig.queue, 17 * ZONE + 5, zones, wanted, &count, 0),
                         SK_OK);
        assert_int_equal(count, wanted);
        assert_int_equal(zones[0].sector, 17 * ZONE);
        assert_int_equal(zones[wanted - 1].sector, (16 + wanted) * ZONE);
        assert_int_equal(zones[wanted].sector_count, 0);
    }
    assert_int_equal(sk_block_zone_report(rig.queue, 50 * ZONE - 1, zones, 64, &count, 0), SK_OK);
    assert_int_equal(count, 1);
    assert_int_equal(sk_block_zone_report(rig.queue, 50 * ZONE, zones, 64, &count, 0),
                     SK_ERR_RANGE);
    assert_int_equal(count, 0);
    blk_rig_deinit(&rig);
}

static void test_block_zone_report__bad_arguments(void **state)
{
    struct sk_block_zone zone;
    uint64_t sector;
    uint32_t count;
    uint8_t sectors[512] = { 0 };

    (void)state;
    start(10 * ZONE, 0);
    assert_int_equal(sk_block_zone_report(rig.queue, 0, NULL, 1, &count, 0), SK_ERR_INVALID);
    assert_int_equal(sk_block_zone_report(rig.queue, 0, &zone, 1, NULL, 0), SK_ERR_INVALID);
    assert_int_equal(sk_block_zone_report(rig.queue, 0, &zone, 0, &count, 0), SK_ERR_INVALID);
    assert_int_equal(sk_block_zone_manage(rig.queue, SK_BLOCK_ZONE_REPORT, 0, 0), SK_ERR_INVALID);
    assert_int_equal(sk_block_zone_manage(rig.queue, SK_BLOCK_ZONE_APPEND, 0, 0), SK_ERR_INVALID);
    assert_int_equal(sk_block_zone_manage(rig.queue, SK_BLOCK_WRITE, 0, 0), SK_ERR_INVALID);
    assert_int_equal(sk_block_zone_append(rig.queue, 0, NULL, 512, &sector, 0), SK_ERR_INVALID);
    assert_int_equal(sk_block_zone_append(rig.queue, 0, sectors, 512, NULL, 0), SK_ERR_INVALID);
    assert_int_equal(sk_block_zone_append(rig.queue, 0, sectors, 0, &sector, 0), SK_ERR_SIZE);
    assert_int_equal(sk_block_zone_append(rig.queue, 0, sectors, 33 * 512, &sector, 0),
                     SK_ERR_SIZE);
    blk_rig_deinit(&rig);
    blk_rig_start(&rig, NULL, NULL);
    assert_int_equal(sk_block_zone_report(rig.queue, 0, &zone, 1, &count, 0), SK_ERR_UNSUPPORTED);
    assert_int_equal(sk_block_zone_manage(rig.queue, SK_BLOCK_ZONE_RESET_ALL, 0, 0),
                     SK_ERR_UNSUPPORTED);
    assert_int_equal(sk_block_zone_append(rig.queue, 0, sectors, 512, &sector, 0),
                     SK_ERR_UNSUPPORTED);
    assert_int_equal(sk_block_zone_parse(rig.disk, 0, sectors, 512, 0, &zone), SK_ERR_UNSUPPORTED);
    blk_rig_deinit(&rig);
}

static void test_block_zone_append__any_memory_in_one_piece(void **state)
{
    uint8_t *data;
    uint64_t sector = 0;

    (void)state;
    start(10 * ZONE, 1);
    data = (uint8_t *)test_environment_foreign(&rig.env, 0) + 100; /* odd, over five pages */
    for (unsigned i = 0; i < 16384; i++) {
        data[i] = (uint8_t)(i / 100);
    }
    assert_int_equal(sk_block_zone_append(rig.queue, 2 * ZONE, data, 16384, &sector, 0), SK_OK);
    assert_int_equal(sector, 2 * ZONE);
    assert_int_equal(sk_block_zone_append(rig.queue, 2 * ZONE, data, 8192, &sector, 0), SK_OK);
    assert_int_equal(sector, 2 * ZONE + 32);
    assert_memory_equal(rig.fake->storage + 2 * ZONE * 512, data, 16384);
    assert_memory_equal(rig.fake->storage + sector * 512, data, 8192);
    assert_int_equal(sk_block_zone_append(rig.queue, 2 * ZONE, data, 16384, &sector, 0),
                     SK_ERR_ZONE_STATE); /* 48 of 60 sectors are written */
    assert_int_equal(sector, 2 * ZONE + 32);
    assert_int_equal(sk_block_zone_manage(rig.queue, SK_BLOCK_ZONE_RESET, 2 * ZONE, 0), SK_OK);
    assert_int_equal(rig.fake->zones[2].state, FAKE_ZONE_EMPTY);
    blk_rig_deinit(&rig);
}

/* As many pieces as a request has room for would not hold it: it is copied, or refused. */
static void test_block_zone_append__few_segments_take_a_copy(void **state)
{
    struct sk_virtio_blk_options options = blk_rig_options();
    struct fake_device_config config = FAKE_DEVICE_CONFIG_DEFAULT;
    uint8_t *data;
    uint64_t sector;

    (void)state;
    config.features |= SK_VIRTIO_FEATURE(SK_VIRTIO_BLK_F_ZONED) |
                       SK_VIRTIO_FEATURE(SK_VIRTIO_BLK_F_SIZE_MAX);
    config.zone_sectors = ZONE;
    config.max_append_sectors = 32;
    config.size_max = 8192;
    options.segment_count = 1;
    blk_rig_start(&rig, &config, &options);
    data = (uint8_t *)test_environment_foreign(&rig.env, 0) + 100;
    assert_int_equal(sk_block_zone_append(rig.queue, 0, data, 8192, &sector, 0), SK_OK);
    assert_int_equal(rig.fake->segments_most, 1);
    assert_int_equal(sk_block_zone_append(rig.queue, 0, data, 8704, &sector, 0),
                     SK_ERR_UNSUPPORTED);
    blk_rig_deinit(&rig);
}

/* What a device that does not stop may still write is a copy; our stack is ours. */
static void test_block_zone_report__in_doubt_keeps_a_copy_and_nothing_else(void **state)
{
    struct sk_block_zone zone;
    uint32_t count;

    (void)state;
    start(10 * ZONE, 0);
    fake_device_fault(rig.fake, FAKE_FAULT_STALL, 0, 0, FAKE_FOR_EVER);
    fake_device_fault(rig.fake, FAKE_FAULT_RESET, 0, 0, FAKE_FOR_EVER);
    assert_int_equal(sk_block_zone_report(rig.queue, 0, &zone, 1, &count, 0), SK_ERR_IN_DOUBT);
    assert_int_equal(count, 0);
    assert_int_equal(rig.env.domain.statistics.mappings_live, 0);
    assert_int_equal(rig.env.domain.statistics.bounced_mappings, 1);
    assert_int_equal(blk_rig_remove(&rig), SK_ERR_IN_DOUBT);
    blk_rig_abandon(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_block_zone_names__every_value_has_its_own),
        cmocka_unit_test(test_block_zone_report__tells_all_zones),
        cmocka_unit_test(test_block_zone_report__begins_and_ends_where_it_is_asked_to),
        cmocka_unit_test(test_block_zone_report__bad_arguments),
        cmocka_unit_test(test_block_zone_append__any_memory_in_one_piece),
        cmocka_unit_test(test_block_zone_append__few_segments_take_a_copy),
        cmocka_unit_test(test_block_zone_report__in_doubt_keeps_a_copy_and_nothing_else),
    };

    return cmocka_run_group_tests_name("block_zone", tests, NULL, NULL);
}
