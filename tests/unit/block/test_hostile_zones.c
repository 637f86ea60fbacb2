/* SPDX-License-Identifier: MIT */
/* Cases 43 to 45: what a device says of its zones, and of where it appended. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "support/blk_rig.h"

#define POLLS 2000u
#define ZONE  64u
#define ZONES 20u

static struct blk_rig rig;

static struct fake_device_config zoned(void)
{
    struct fake_device_config config = FAKE_DEVICE_CONFIG_DEFAULT;

    config.features |= SK_VIRTIO_FEATURE(SK_VIRTIO_BLK_F_ZONED) |
                       SK_VIRTIO_FEATURE(SK_VIRTIO_BLK_F_SECURE_ERASE);
    config.capacity_sectors = ZONE * ZONES;
    config.zone_sectors = ZONE;
    config.zones_conventional = 2;
    config.max_append_sectors = 32;
    return config;
}

static void start(void)
{
    struct fake_device_config config = zoned();

    blk_rig_start(&rig, &config, NULL);
}

static void put32(unsigned offset, uint32_t value)
{
    for (unsigned i = 0; i < 4; i++) {
        rig.fake->config_space[offset + i] = (uint8_t)(value >> 8 * i);
    }
}

static void report_byte(unsigned offset, uint8_t value)
{
    fake_device_fault(rig.fake, FAKE_FAULT_REPORT_BYTE, (uint64_t)offset << 8 | value, 0, 1);
}

static void expect_works(void)
{
    struct sk_block_zone zone;
    uint32_t count;

    assert_int_equal(sk_block_get_state(rig.disk), SK_BLOCK_STATE_READY);
    assert_int_equal(sk_block_zone_report(rig.queue, 0, &zone, 1, &count, 0), SK_OK);
    assert_int_equal(sk_block_read(rig.queue, 0, test_environment_foreign(&rig.env, 0), 512, 0),
                     SK_OK);
}

/* ---- 43: reports ------------------------------------------------------------------------- */

static void test_hostile_43__more_zones_than_fit(void **state)
{
    struct sk_block_zone zones[4];
    uint32_t count;

    (void)state;
    start();
    for (unsigned byte = 0; byte < 8; byte++) {
        report_byte(byte, byte == 0 ? 5 : 1);
        assert_int_equal(sk_block_zone_report(rig.queue, 0, zones, 4, &count, 0),
                         SK_ERR_MALFORMED);
        assert_int_equal(count, 0);
    }
    expect_works();
    blk_rig_deinit(&rig);
}

static void test_hostile_43__no_zones_where_there_are_some(void **state)
{
    struct sk_block_zone zones[ZONES];
    uint32_t count;

    (void)state;
    start();
    report_byte(0, 0);
    assert_int_equal(sk_block_zone_report(rig.queue, 0, zones, 1, &count, 0), SK_ERR_MALFORMED);
    assert_int_equal(count, 0);
    fake_device_fault(rig.fake, FAKE_FAULT_REPORT_BYTE, 0, 1, 1); /* the second report is empty */
    assert_int_equal(sk_block_zone_report(rig.queue, 0, zones, ZONES, &count, 0),
                     SK_ERR_MALFORMED);
    assert_int_equal(count, 15);
    assert_int_equal(zones[14].sector, 14 * ZONE);
    expect_works();
    blk_rig_deinit(&rig);
}

/* A device that reports one zone at a time is slow, and right. */
static void test_hostile_43__fewer_zones_than_fit_come_in_more_reports(void **state)
{
    struct sk_block_zone zones[ZONES];
    uint32_t count;

    (void)state;
    start();
    fake_device_fault(rig.fake, FAKE_FAULT_REPORT_BYTE, 1, 0, FAKE_FOR_EVER);
    assert_int_equal(sk_block_zone_report(rig.queue, 0, zones, ZONES, &count, 0), SK_OK);
    assert_int_equal(count, ZONES);
    assert_int_equal(zones[19].sector, 19 * ZONE);
    fake_device_behave(rig.fake);
    blk_rig_deinit(&rig);
}

static void expect_sound(const struct sk_block_zone *zone, uint64_t sector)
{
    assert_int_equal(zone->sector, sector);
    assert_int_equal(zone->sector_count, ZONE);
    assert_true(zone->capacity_sectors <= ZONE);
    assert_true(zone->type < SK_BLOCK_ZONE_TYPE_COUNT);
    assert_true(zone->state < SK_BLOCK_ZONE_STATE_COUNT);
    assert_true((zone->type == SK_BLOCK_ZONE_TYPE_CONVENTIONAL) ==
                (zone->state == SK_BLOCK_ZONE_STATE_NONE));
    assert_true(zone->write_sector == SK_BLOCK_ZONE_NO_SECTOR ||
                (zone->write_sector >= sector &&
                 zone->write_sector <= sector + zone->capacity_sectors));
}

/* Every value of every byte of a description: what is believed makes sense. */
static void test_hostile_43__every_byte_of_a_zone(void **state)
{
    static const unsigned sectors[] = { 0, 3 * ZONE };
    unsigned believed = 0;
    unsigned refused = 0;

    (void)state;
    start();
    rig.fake->zones[3].state = FAKE_ZONE_CLOSED;
    rig.fake->zones[3].write += 7;
    for (unsigned at = 0; at < 2 * 64 * 256; at++) {
        uint64_t sector = sectors[at & 1];
        struct sk_block_zone zone;
        enum sk_status status;
        uint32_t count;

        report_byte(64 + (at >> 9), (uint8_t)(at >> 1));
        status = sk_block_zone_report(rig.queue, sector, &zone, 1, &count, 0);
        if (status == SK_OK) {
            expect_sound(&zone, sector);
            believed++;
        } else {
            assert_int_equal(status, SK_ERR_MALFORMED);
            assert_int_equal(count, 0);
            refused++;
        }
    }
    print_message("%u believed, %u refused\n", believed, refused);
    assert_true(believed > 20000 && refused > 8000);
    expect_works();
    blk_rig_deinit(&rig);
}

/* A user's own memory with a report of any content, at every length. */
static void test_hostile_43__any_report_of_any_length(void **state)
{
    uint8_t report[64 * 5];
    uint32_t random = 11;

    (void)state;
    start();
    for (unsigned round = 0; round < 20000; round++) {
        size_t bytes = round % (sizeof(report) + 1);
        struct sk_block_zone zone;
        enum sk_status status;

        for (size_t i = 0; i < sizeof(report); i++) {
            random = random * 1664525u + 1013904223u;
            report[i] = (random >> 24) % 4 == 0 ? (uint8_t)(random >> 16) : 0;
        }
        memset(report + 1, 0, 7);
        report[0] %= 6;
        status = sk_block_zone_parse(rig.disk, ZONE * (round % 30), report, bytes, round % 7,
                                     &zone);
        if (status == SK_OK) {
            expect_sound(&zone, ZONE * (round % 30 + round % 7));
        } else {
            assert_true(status == SK_ERR_SIZE || status == SK_ERR_MALFORMED ||
                        status == SK_ERR_NOT_FOUND);
        }
        assert_true(bytes >= 64 || status == SK_ERR_SIZE);
    }
    blk_rig_deinit(&rig);
}

/* ---- 44: appends ------------------------------------------------------------------------- */

static enum sk_status append(uint64_t zone, uint32_t sectors, uint64_t *out_sector)
{
    struct blk_rig_request request;

    blk_rig_prepare(&rig, &request, SK_BLOCK_ZONE_APPEND, zone, 0, sectors * 512);
    request.request.result_sector = 12345;
    blk_rig_submit(&rig, &request);
    assert_true(blk_rig_run(&rig, &request, POLLS));
    *out_sector = request.request.result_sector;
    return request.request.status;
}

static void test_hostile_44__appended_outside_of_the_zone(void **state)
{
    static const struct {
        uint64_t said;
        bool believed;
    } cases[] = {
        { 3 * ZONE - 1, false },      { 3 * ZONE, true },         { 4 * ZONE - 2, true },
        { 4 * ZONE - 1, false },      { 4 * ZONE, false },        { 0, false },
        { UINT64_MAX, false },        { UINT64_MAX - 1, false },  { UINT64_C(1) << 63, false },
        { 3 * ZONE + (UINT64_C(1) << 32), false },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint64_t sector;

        start();
        fake_device_fault(rig.fake, FAKE_FAULT_APPEND_SECTOR, cases[i].said, 0, 1);
        if (cases[i].believed) {
            assert_int_equal(append(3 * ZONE, 2, &sector), SK_OK);
            assert_int_equal(sector, cases[i].said);
        } else {
            assert_int_equal(append(3 * ZONE, 2, &sector), SK_ERR_MALFORMED);
            assert_int_equal(sector, 12345);
            assert_int_equal(sk_block_get_state(rig.disk), SK_BLOCK_STATE_BROKEN);
            assert_int_equal(sk_block_recover(rig.disk, 0), SK_OK);
        }
        expect_works();
        blk_rig_deinit(&rig);
    }
}

/* The status says OK, and nobody wrote a sector: an older one must not be taken for it. */
static void test_hostile_44__appended_without_saying_where(void **state)
{
    uint64_t sector;

    (void)state;
    start();
    assert_int_equal(append(3 * ZONE, 2, &sector), SK_OK);
    fake_device_fault(rig.fake, FAKE_FAULT_NO_DATA, 0, 0, 1);
    assert_int_equal(append(3 * ZONE, 2, &sector), SK_ERR_MALFORMED);
    assert_int_equal(sk_block_recover(rig.disk, 0), SK_OK);
    expect_works();
    blk_rig_deinit(&rig);
}

/* An append that failed has no sector, whatever the device left there. */
static void test_hostile_44__failed_appends_have_no_sector(void **state)
{
    uint64_t sector;

    (void)state;
    start();
    for (uint64_t status = 1; status <= 6; status++) {
        fake_device_fault(rig.fake, FAKE_FAULT_STATUS_BYTE, status, 0, 1);
        assert_int_not_equal(append(3 * ZONE, 2, &sector), SK_OK);
        assert_int_equal(sector, 12345);
        assert_int_equal(sk_block_get_state(rig.disk), SK_BLOCK_STATE_READY);
    }
    expect_works();
    blk_rig_deinit(&rig);
}

/* ---- 45: the configuration --------------------------------------------------------------- */

static const uint32_t boundaries[] = {
    0, 1, 2, 7, 8, 15, 16, 63, 64, 65, 127, 128, 511, 512, 513, 1000, 4096, 65535, 65536,
    1u << 20, 1u << 22, (1u << 23) - 1, 1u << 31, UINT32_MAX - 1, UINT32_MAX,
};

/* What the driver made of it can be worked with. */
static void expect_sane(void)
{
    const struct sk_block_zone_limits *zones = &rig.disk->info.zones;

    if (zones->model == SK_BLOCK_ZONE_MODEL_NONE) {
        assert_int_equal(zones->sectors, 0);
        return;
    }
    assert_true(zones->sectors > 0 && zones->write_bytes >= 512);
    assert_int_equal(zones->write_bytes % rig.disk->info.block_bytes, 0);
    assert_int_equal((uint64_t)zones->sectors * 512 % zones->write_bytes, 0);
    assert_true(zones->append_sectors_max <= zones->sectors);
    assert_int_equal((uint64_t)zones->append_sectors_max * 512 % zones->write_bytes, 0);
    assert_true(zones->active_max == 0 ||
                (zones->open_max > 0 && zones->open_max <= zones->active_max));
    assert_int_equal(rig.disk->info.secure_erase.sectors_max % zones->sectors, 0);
    assert_int_equal(rig.disk->info.discard.sectors_max, 0);
    assert_true(sk_block_zone_count(rig.disk) >= 1);
}

static void test_hostile_45__every_field_of_the_zones(void **state)
{
    static const unsigned offsets[] = { 72, 76, 80, 84, 88 };
    unsigned bound = 0;

    (void)state;
    for (size_t i = 0; i < sizeof(offsets) / sizeof(offsets[0]); i++) {
        for (size_t j = 0; j < sizeof(boundaries) / sizeof(boundaries[0]); j++) {
            struct fake_device_config config = zoned();
            enum sk_status status;

            blk_rig_init(&rig, &config, NULL);
            put32(60, 500);
            put32(64, 1);
            put32(offsets[i], boundaries[j]);
            status = blk_rig_probe(&rig);
            if (status == SK_OK) {
                expect_sane();
                assert_int_equal(sk_block_read(rig.queue, 60,
                                               test_environment_foreign(&rig.env, 0), 512, 0),
                                 SK_OK);
                bound++;
            } else {
                assert_int_equal(status, SK_ERR_MALFORMED);
            }
            blk_rig_deinit(&rig);
        }
    }
    assert_true(bound > 3 * sizeof(boundaries) / sizeof(boundaries[0]));
}

static void test_hostile_45__every_model(void **state)
{
    (void)state;
    for (unsigned model = 0; model < 256; model++) {
        struct fake_device_config config = zoned();

        config.host_aware = true; /* it minds no feature */
        blk_rig_init(&rig, &config, NULL);
        rig.fake->config_space[92] = (uint8_t)model;
        assert_int_equal(blk_rig_probe(&rig), model <= 2 ? SK_OK : SK_ERR_MALFORMED);
        if (model <= 2) {
            static const enum sk_block_zone_model models[] = { SK_BLOCK_ZONE_MODEL_NONE,
                                                               SK_BLOCK_ZONE_MODEL_HOST_MANAGED,
                                                               SK_BLOCK_ZONE_MODEL_HOST_AWARE };

            assert_int_equal(rig.disk->info.zones.model, models[model]);
            expect_sane();
        }
        blk_rig_deinit(&rig);
    }
}

/* The granularity and the block size have to fit one another; the larger one counts. */
static void test_hostile_45__units_that_do_not_fit(void **state)
{
    static const struct {
        uint32_t block;
        uint32_t granularity;
        uint32_t unit; /* 0: refused */
    } cases[] = {
        { 512, 512, 512 },   { 512, 4096, 4096 }, { 4096, 512, 4096 }, { 4096, 4096, 4096 },
        { 512, 1536, 0 },    { 4096, 12288, 0 },  { 512, 513, 0 },     { 4096, 6144, 0 },
        { 512, 2048, 2048 }, { 512, 256, 512 },   { 512, 65536, 0 },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct fake_device_config config = zoned();

        config.blk_size = cases[i].block;
        config.write_granularity = cases[i].granularity;
        blk_rig_init(&rig, &config, NULL);
        assert_int_equal(blk_rig_probe(&rig), cases[i].unit != 0 ? SK_OK : SK_ERR_MALFORMED);
        if (cases[i].unit != 0) {
            assert_int_equal(rig.disk->info.zones.write_bytes, cases[i].unit);
            expect_sane();
        }
        blk_rig_deinit(&rig);
    }
}

/* A configuration that ends before the zones. */
static void test_hostile_45__zones_behind_the_end(void **state)
{
    (void)state;
    for (uint32_t bytes = 1; bytes < 96; bytes++) {
        struct fake_device_config config = zoned();

        config.config_bytes = bytes;
        blk_rig_init(&rig, &config, NULL);
        assert_int_equal(blk_rig_probe(&rig), bytes < 93 ? SK_ERR_RANGE : SK_OK);
        blk_rig_deinit(&rig);
    }
}

/* After a reset the zones are others: what was submitted for the old ones has no place there. */
static void test_hostile_45__other_zones_after_a_reset(void **state)
{
    (void)state;
    start();
    put32(72, ZONE / 2);
    assert_int_equal(sk_block_recover(rig.disk, 0), SK_ERR_UNSUPPORTED);
    assert_int_equal(sk_block_get_state(rig.disk), SK_BLOCK_STATE_FAILED);
    assert_int_equal(blk_rig_remove(&rig), SK_OK);
    put32(72, ZONE);
    assert_int_equal(blk_rig_probe(&rig), SK_OK);
    expect_works();
    blk_rig_deinit(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hostile_43__more_zones_than_fit),
        cmocka_unit_test(test_hostile_43__no_zones_where_there_are_some),
        cmocka_unit_test(test_hostile_43__fewer_zones_than_fit_come_in_more_reports),
        cmocka_unit_test(test_hostile_43__every_byte_of_a_zone),
        cmocka_unit_test(test_hostile_43__any_report_of_any_length),
        cmocka_unit_test(test_hostile_44__appended_outside_of_the_zone),
        cmocka_unit_test(test_hostile_44__appended_without_saying_where),
        cmocka_unit_test(test_hostile_44__failed_appends_have_no_sector),
        cmocka_unit_test(test_hostile_45__every_field_of_the_zones),
        cmocka_unit_test(test_hostile_45__every_model),
        cmocka_unit_test(test_hostile_45__units_that_do_not_fit),
        cmocka_unit_test(test_hostile_45__zones_behind_the_end),
        cmocka_unit_test(test_hostile_45__other_zones_after_a_reset),
    };

    return cmocka_run_group_tests_name("hostile_zones", tests, NULL, NULL);
}
