/* SPDX-License-Identifier: MIT */
/* Discard, zero, erase, lifetime, FUA and the cache mode. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "support/blk_rig.h"

#define POLLS 2000u

static struct blk_rig rig;

static uint64_t bit(unsigned number)
{
    return SK_VIRTIO_FEATURE(number);
}

static void put32(unsigned offset, uint32_t value)
{
    for (unsigned i = 0; i < 4; i++) {
        rig.fake->config_space[offset + i] = (uint8_t)(value >> 8 * i);
    }
}

/* A disk that offers everything, with the given limits in sectors. */
static void start(uint32_t sectors_max, uint32_t alignment, uint64_t without)
{
    struct fake_device_config config = FAKE_DEVICE_CONFIG_DEFAULT;

    config.features |= bit(SK_VIRTIO_BLK_F_DISCARD) | bit(SK_VIRTIO_BLK_F_WRITE_ZEROES) |
                       bit(SK_VIRTIO_BLK_F_SECURE_ERASE) | bit(SK_VIRTIO_BLK_F_LIFETIME);
    config.features &= ~without;
    config.config_bytes = 96;
    blk_rig_init(&rig, &config, NULL);
    for (unsigned i = 0; i < 3; i++) {
        static const unsigned offsets[] = { 36, 48, 60 };

        put32(offsets[i], sectors_max);
        put32(offsets[i] + 4, 1);
    }
    put32(44, alignment);
    put32(68, alignment);
    rig.fake->config_space[56] = 1;
    assert_int_equal(blk_rig_probe(&rig), SK_OK);
    memset(rig.fake->storage, 0x11, rig.fake->storage_sectors * 512);
}

static void expect_fill(uint64_t first, uint64_t count, uint8_t fill)
{
    for (uint64_t i = first * 512; i < (first + count) * 512; i++) {
        assert_int_equal(rig.fake->storage[i], fill);
    }
    assert_int_equal(rig.fake->storage[first * 512 - 1], 0x11);
    assert_int_equal(rig.fake->storage[(first + count) * 512], 0x11);
}

static void test_virtio_blk_clear__reaches_exactly_the_sectors(void **state)
{
    (void)state;
    start(1000, 1, 0);
    assert_int_equal(sk_block_clear(rig.queue, SK_BLOCK_DISCARD, 10, 20, 0, 0), SK_OK);
    expect_fill(10, 20, 0xdd);
    assert_int_equal(sk_block_clear(rig.queue, SK_BLOCK_WRITE_ZEROES, 40, 1, 0, 0), SK_OK);
    expect_fill(40, 1, 0);
    assert_int_equal(sk_block_clear(rig.queue, SK_BLOCK_SECURE_ERASE, 50, 5, 0, 0), SK_OK);
    expect_fill(50, 5, 0xee);
    assert_int_equal(rig.queue->statistics.bytes_cleared, 26 * 512);
    blk_rig_deinit(&rig);
}

static void test_virtio_blk_clear__is_split_at_limits_and_alignment(void **state)
{
    (void)state;
    start(10, 4, 0);
    assert_int_equal(sk_block_clear(rig.queue, SK_BLOCK_DISCARD, 3, 25, 0, 0), SK_OK);
    expect_fill(3, 25, 0xdd);
    assert_int_equal(rig.fake->ranges, 3); /* 3 to 11, 12 to 19, 20 to 27 */
    assert_int_equal(sk_block_clear(rig.queue, SK_BLOCK_WRITE_ZEROES, 100, 1900, 0, 0), SK_OK);
    expect_fill(100, 1900, 0);
    assert_int_equal(rig.fake->ranges, 3 + 190);
    blk_rig_deinit(&rig);
}

static void test_virtio_blk_clear__unmap_is_a_flag_of_zeroing_alone(void **state)
{
    (void)state;
    start(1000, 1, 0);
    assert_true(rig.disk->info.zeroes_may_unmap);
    assert_int_equal(
        sk_block_clear(rig.queue, SK_BLOCK_WRITE_ZEROES, 8, 8, SK_BLOCK_FLAG_UNMAP, 0), SK_OK);
    assert_int_equal(rig.fake->ranges_unmapped, 1);
    assert_int_equal(sk_block_clear(rig.queue, SK_BLOCK_DISCARD, 8, 8, SK_BLOCK_FLAG_UNMAP, 0),
                     SK_ERR_INVALID);
    assert_int_equal(sk_block_clear(rig.queue, SK_BLOCK_DISCARD, 8, 8, SK_BLOCK_FLAG_FUA, 0),
                     SK_ERR_INVALID);
    assert_int_equal(sk_block_clear(rig.queue, SK_BLOCK_WRITE_ZEROES, 8, 8, 128, 0),
                     SK_ERR_INVALID);
    blk_rig_deinit(&rig);
}

static void test_virtio_blk_clear__bad_ranges_are_refused(void **state)
{
    (void)state;
    start(1000, 1, 0);
    assert_int_equal(sk_block_clear(rig.queue, SK_BLOCK_READ, 0, 1, 0, 0), SK_ERR_INVALID);
    assert_int_equal(sk_block_clear(rig.queue, SK_BLOCK_DISCARD, 0, 0, 0, 0), SK_ERR_SIZE);
    assert_int_equal(sk_block_clear(rig.queue, SK_BLOCK_DISCARD, 2048, 1, 0, 0), SK_ERR_RANGE);
    assert_int_equal(sk_block_clear(rig.queue, SK_BLOCK_DISCARD, 1, UINT64_MAX, 0, 0),
                     SK_ERR_RANGE);
    assert_int_equal(rig.fake->ranges, 0);
    blk_rig_deinit(&rig);
}

static void test_virtio_blk_clear__not_offered_or_read_only(void **state)
{
    struct fake_device_config config = FAKE_DEVICE_CONFIG_DEFAULT;

    (void)state;
    blk_rig_start(&rig, NULL, NULL);
    assert_int_equal(rig.disk->info.discard.sectors_max, 0);
    assert_int_equal(sk_block_clear(rig.queue, SK_BLOCK_DISCARD, 0, 1, 0, 0), SK_ERR_UNSUPPORTED);
    blk_rig_deinit(&rig);

    config.features |= bit(SK_VIRTIO_BLK_F_RO) | bit(SK_VIRTIO_BLK_F_DISCARD);
    config.config_bytes = 96;
    blk_rig_init(&rig, &config, NULL);
    put32(36, 100);
    put32(40, 1);
    assert_int_equal(blk_rig_probe(&rig), SK_OK);
    assert_int_equal(sk_block_clear(rig.queue, SK_BLOCK_DISCARD, 0, 1, 0, 0), SK_ERR_READ_ONLY);
    blk_rig_deinit(&rig);
}

static void test_virtio_blk_clear__error_in_one_part_fails_the_whole(void **state)
{
    (void)state;
    start(10, 1, 0);
    fake_device_bad_sectors(rig.fake, 25, 1);
    assert_int_equal(sk_block_clear(rig.queue, SK_BLOCK_DISCARD, 0, 50, 0, 0), SK_ERR_IO);
    assert_int_equal(sk_block_clear(rig.queue, SK_BLOCK_DISCARD, 30, 50, 0, 0), SK_OK);
    blk_rig_deinit(&rig);
}

/* ---- Many ranges ------------------------------------------------------------------------- */

#define LIST 40u

static struct sk_block_range list[LIST];

/* 40 ranges of 1 to 4 sectors, not in order, none touching another. */
static uint64_t make_list(void)
{
    uint64_t sectors = 0;

    for (unsigned i = 0; i < LIST; i++) {
        list[i] = (struct sk_block_range){ (i * 7 % LIST) * 10 + 3, 1 + i % 4 };
        sectors += list[i].sector_count;
    }
    return sectors;
}

static void expect_list(uint8_t fill)
{
    for (unsigned i = 0; i < LIST; i++) {
        expect_fill(list[i].sector, list[i].sector_count, fill);
    }
}

/* A disk that takes `ranges` ranges at a time, through one of the four kinds of ring. */
static void start_lists(unsigned kind, uint32_t sectors_max, uint32_t ranges)
{
    struct fake_device_config config = FAKE_DEVICE_CONFIG_DEFAULT;

    config.features |= bit(SK_VIRTIO_BLK_F_DISCARD) | bit(SK_VIRTIO_BLK_F_WRITE_ZEROES) |
                       bit(SK_VIRTIO_BLK_F_SECURE_ERASE);
    config.features &= ~bit(SK_VIRTIO_F_INDIRECT_DESC);
    config.features |= (kind & 1) != 0 ? bit(SK_VIRTIO_F_INDIRECT_DESC) : 0;
    config.features |= (kind & 2) != 0 ? bit(SK_VIRTIO_F_RING_PACKED) : 0;
    config.features |= (kind & 4) != 0 ? bit(SK_VIRTIO_F_IN_ORDER) : 0;
    config.in_order_batch = 3;
    config.config_bytes = 96;
    blk_rig_init(&rig, &config, NULL);
    for (unsigned offset = 36; offset <= 60; offset += 12) {
        put32(offset, sectors_max);
        put32(offset + 4, ranges);
    }
    assert_int_equal(blk_rig_probe(&rig), SK_OK);
    memset(rig.fake->storage, 0x11, rig.fake->storage_sectors * 512);
}

static void test_virtio_blk_clear_ranges__as_few_requests_as_the_device_takes(void **state)
{
    static const struct {
        uint32_t offered;
        uint32_t used;
        unsigned requests;
    } cases[] = { { 1, 1, 40 }, { 3, 3, 14 }, { 16, 16, 3 }, { 40, 16, 3 }, { UINT32_MAX, 16, 3 },
                  { 0, 1, 40 } };
    uint64_t sectors = make_list();

    (void)state;
    for (unsigned kind = 0; kind < 8; kind++) {
        for (size_t i = 0; i + (kind > 0) < sizeof(cases) / sizeof(cases[0]); i++) {
            start_lists(kind, 1000, cases[i].offered);
            assert_int_equal(rig.disk->info.discard.ranges_max, cases[i].used);
            assert_int_equal(
                sk_block_clear_ranges(rig.queue, SK_BLOCK_DISCARD, list, LIST, 0, 0), SK_OK);
            expect_list(0xdd);
            if (cases[i].offered == 0) { /* the device minds its own nonsense */
                fake_device_forgive(rig.fake);
            }
            assert_int_equal(rig.fake->ranges, cases[i].requests);
            assert_int_equal(rig.fake->range_segments, LIST);
            assert_int_equal(rig.queue->statistics.bytes_cleared, sectors * 512);
            blk_rig_deinit(&rig);
        }
    }
}

/* Ranges and ordinary requests take turns in the same slots. */
static void test_virtio_blk_clear_ranges__leaves_slots_as_they_were(void **state)
{
    struct sk_virtio_blk_options options = blk_rig_options();
    struct fake_device_config config = FAKE_DEVICE_CONFIG_DEFAULT;
    struct sk_dma_segment segments[16];
    struct blk_rig_request request;

    (void)state;
    (void)make_list();
    config.features |= bit(SK_VIRTIO_BLK_F_DISCARD);
    options.queue_size = 4;
    blk_rig_init(&rig, &config, &options);
    put32(36, 1000);
    put32(40, 16);
    assert_int_equal(blk_rig_probe(&rig), SK_OK);
    for (unsigned round = 0; round < 50; round++) {
        uint32_t count = round % 16 + 1;

        assert_int_equal(sk_block_clear_ranges(rig.queue, SK_BLOCK_DISCARD, list, round % LIST + 1,
                                               0, 0),
                         SK_OK);
        blk_rig_prepare(&rig, &request, SK_BLOCK_WRITE, 1000, 0, 512);
        for (unsigned i = 0; i < count; i++) {
            segments[i] = (struct sk_dma_segment){ sk_daddr_make(blk_rig_address(&rig, i)), 512 };
            memset(test_environment_foreign(&rig.env, i), (int)(round + i), 512);
        }
        request.request.segments = segments;
        request.request.segment_count = count;
        blk_rig_submit(&rig, &request);
        assert_true(blk_rig_run(&rig, &request, POLLS));
        assert_int_equal(request.request.status, SK_OK);
        for (unsigned i = 0; i < count; i++) {
            assert_int_equal(rig.fake->storage[(1000 + i) * 512], round + i);
        }
    }
    blk_rig_deinit(&rig);
}

/* Long ranges are cut, and the pieces go together as far as the device takes them. */
static void test_virtio_blk_clear_ranges__long_ones_are_cut(void **state)
{
    static const struct sk_block_range ranges[] = { { 100, 25 }, { 7, 3 }, { 200, 31 } };

    (void)state;
    start_lists(1, 10, 4);
    assert_int_equal(sk_block_clear_ranges(rig.queue, SK_BLOCK_WRITE_ZEROES, ranges, 3,
                                           SK_BLOCK_FLAG_UNMAP | SK_BLOCK_FLAG_FUA, 0),
                     SK_OK);
    expect_fill(100, 25, 0);
    expect_fill(7, 3, 0);
    expect_fill(200, 31, 0);
    assert_int_equal(rig.fake->range_segments, 3 + 1 + 4);
    assert_int_equal(rig.fake->ranges, 2);
    assert_int_equal(rig.fake->ranges_unmapped, 8);
    assert_int_equal(rig.fake->flushes, 1);
    blk_rig_deinit(&rig);
}

/* More sectors than 32 bits count, at a disk that is larger than what is stored. */
static void test_virtio_blk_clear_ranges__more_than_32_bits_of_sectors(void **state)
{
    static const struct sk_block_range ranges[] = {
        { 0, UINT64_C(3) << 31 }, { UINT64_C(1) << 34, 8 }, { 8, UINT32_MAX },
    };
    struct fake_device_config config = FAKE_DEVICE_CONFIG_DEFAULT;

    (void)state;
    config.features |= bit(SK_VIRTIO_BLK_F_DISCARD);
    config.capacity_sectors = UINT64_C(1) << 40;
    blk_rig_init(&rig, &config, NULL);
    put32(36, UINT32_MAX);
    put32(40, 16);
    assert_int_equal(blk_rig_probe(&rig), SK_OK);
    assert_int_equal(rig.disk->info.discard.sectors_max, UINT32_MAX);
    /* The fake device stores less, so it fails; what it was told kept to its limits. */
    assert_int_equal(sk_block_clear_ranges(rig.queue, SK_BLOCK_DISCARD, ranges, 3, 0, 0),
                     SK_ERR_IO);
    assert_int_equal(rig.queue->statistics.parts, 1 + 3); /* 2^32 - 1, the rest and 8, 2^32 - 1 */
    blk_rig_deinit(&rig);
}

static void test_virtio_blk_clear_ranges__bad_lists_are_refused(void **state)
{
    struct sk_block_range good = { 0, 1 };
    struct sk_block_range bad[2] = { { 0, 1 }, { 2048, 1 } };
    struct blk_rig_request request;

    (void)state;
    start_lists(1, 1000, 16);
    assert_int_equal(sk_block_clear_ranges(rig.queue, SK_BLOCK_DISCARD, NULL, 1, 0, 0),
                     SK_ERR_INVALID);
    assert_int_equal(sk_block_clear_ranges(rig.queue, SK_BLOCK_DISCARD, &good, 0, 0, 0),
                     SK_ERR_SIZE);
    assert_int_equal(sk_block_clear_ranges(rig.queue, SK_BLOCK_READ, &good, 1, 0, 0),
                     SK_ERR_INVALID);
    assert_int_equal(sk_block_clear_ranges(rig.queue, SK_BLOCK_DISCARD, bad, 2, 0, 0),
                     SK_ERR_RANGE);
    bad[1] = (struct sk_block_range){ 1, 0 };
    assert_int_equal(sk_block_clear_ranges(rig.queue, SK_BLOCK_DISCARD, bad, 2, 0, 0),
                     SK_ERR_SIZE);
    blk_rig_prepare(&rig, &request, SK_BLOCK_DISCARD, 0, 0, 0);
    request.request.ranges = &good;
    request.request.range_count = 1;
    request.request.sector_count = 1;
    blk_rig_submit(&rig, &request);
    assert_true(blk_rig_run(&rig, &request, POLLS));
    assert_int_equal(request.request.status, SK_ERR_INVALID);
    assert_int_equal(rig.fake->ranges, 0);
    assert_int_equal(rig.queue->statistics.refused, 5);
    blk_rig_deinit(&rig);
}

/* So many sectors that their bytes do not fit 64 bits. */
static void test_virtio_blk_clear_ranges__sums_that_wrap_are_refused(void **state)
{
    static struct sk_block_range ranges[3];
    struct fake_device_config config = FAKE_DEVICE_CONFIG_DEFAULT;

    (void)state;
    config.features |= bit(SK_VIRTIO_BLK_F_DISCARD);
    config.capacity_sectors = UINT64_MAX / 512;
    blk_rig_init(&rig, &config, NULL);
    put32(36, 1000);
    put32(40, 1);
    assert_int_equal(blk_rig_probe(&rig), SK_OK);
    for (unsigned i = 0; i < 3; i++) {
        ranges[i] = (struct sk_block_range){ 0, UINT64_MAX / 512 };
    }
    assert_int_equal(sk_block_clear_ranges(rig.queue, SK_BLOCK_DISCARD, ranges, 3, 0, 0),
                     SK_ERR_SIZE);
    blk_rig_deinit(&rig);
}

/* One range that fails fails the request; the others' state is nobody's promise. */
static void test_virtio_blk_clear_ranges__one_failure_fails_all(void **state)
{
    (void)state;
    (void)make_list();
    start_lists(1, 1000, 4);
    fake_device_bad_sectors(rig.fake, list[21].sector, 1);
    assert_int_equal(sk_block_clear_ranges(rig.queue, SK_BLOCK_SECURE_ERASE, list, LIST, 0, 0),
                     SK_ERR_IO);
    assert_int_equal(rig.queue->statistics.errors[SK_ERR_IO], 1);
    blk_rig_deinit(&rig);
}

/* A range is a segment of 16 bytes, and segments have a longest. */
static void test_virtio_blk_clear_ranges__keep_to_size_max(void **state)
{
    static const struct {
        uint32_t size_max;
        uint32_t ranges;
    } cases[] = { { 15, 0 }, { 16, 1 }, { 31, 1 }, { 32, 2 }, { 512, 16 } };
    struct sk_virtio_blk_options options = blk_rig_options();

    (void)state;
    (void)make_list();
    options.segment_count = 64;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct fake_device_config config = FAKE_DEVICE_CONFIG_DEFAULT;

        config.features |= bit(SK_VIRTIO_BLK_F_DISCARD) | bit(SK_VIRTIO_BLK_F_SIZE_MAX);
        config.size_max = cases[i].size_max;
        blk_rig_init(&rig, &config, &options);
        put32(36, 1000);
        put32(40, 16);
        assert_int_equal(blk_rig_probe(&rig), SK_OK);
        assert_int_equal(rig.disk->info.discard.ranges_max, cases[i].ranges);
        assert_int_equal(sk_block_clear_ranges(rig.queue, SK_BLOCK_DISCARD, list, LIST, 0, 0),
                         cases[i].ranges == 0 ? SK_ERR_UNSUPPORTED : SK_OK);
        blk_rig_deinit(&rig);
    }
}

/* Each limit at each boundary: kept to (the fake device looks), or the operation is refused. */
static void test_hostile_20__every_limit_of_ranges(void **state)
{
    static const enum sk_block_operation operations[] = {
        SK_BLOCK_DISCARD, SK_BLOCK_WRITE_ZEROES, SK_BLOCK_SECURE_ERASE,
    };
    static const uint32_t values[] = {
        0, 1, 2, 3, 7, 8, 9, 16, 17, 255, 256, 65535, 65536, (1u << 23) - 1, 1u << 23,
        1u << 31, UINT32_MAX - 7, UINT32_MAX,
    };
    static const struct sk_block_range wide[] = { { 8, 1000 }, { 1104, 8 }, { 1200, 800 } };

    (void)state;
    for (size_t i = 0; i < 3 * 3 * sizeof(values) / sizeof(values[0]); i++) {
        struct fake_device_config config = FAKE_DEVICE_CONFIG_DEFAULT;
        unsigned place = 36 + 12 * (unsigned)(i % 3);
        unsigned field = (unsigned)(i / 3 % 3);
        uint32_t value = values[i / 9];
        enum sk_status status;

        config.features |= bit(SK_VIRTIO_BLK_F_DISCARD) | bit(SK_VIRTIO_BLK_F_WRITE_ZEROES) |
                           bit(SK_VIRTIO_BLK_F_SECURE_ERASE);
        config.config_bytes = 96;
        config.blk_size = 4096;
        blk_rig_init(&rig, &config, NULL);
        put32(place, 100);
        put32(place + 4, 4);
        if (field < 2 || place != 48) { /* zeroing has no alignment */
            put32(place + 4 * field, value);
        }
        assert_int_equal(blk_rig_probe(&rig), SK_OK);
        status = sk_block_clear_ranges(rig.queue, operations[i % 3], wide, 3, 0, 0);
        assert_int_equal(status, field == 0 && value < 8 ? SK_ERR_UNSUPPORTED : SK_OK);
        assert_int_equal(rig.fake->range_sectors, status == SK_OK ? 1808 : 0);
        if (field == 1 && value == 0) {
            fake_device_forgive(rig.fake); /* none is allowed, and one was taken for meant */
        }
        blk_rig_deinit(&rig);
    }
}

/* ---- Lifetime ---------------------------------------------------------------------------- */

static void test_virtio_blk_lifetime__is_six_bytes_where_offered(void **state)
{
    static const uint8_t expected[] = { 1, 0, 2, 0, 3, 0 };
    struct blk_rig_request request;

    (void)state;
    start(10, 1, 0);
    blk_rig_prepare(&rig, &request, SK_BLOCK_GET_LIFETIME, 0, 0, SK_BLOCK_LIFETIME_BYTES);
    blk_rig_submit(&rig, &request);
    assert_true(blk_rig_run(&rig, &request, POLLS));
    assert_int_equal(request.request.status, SK_OK);
    assert_memory_equal(test_environment_foreign(&rig.env, 0), expected, sizeof(expected));
    blk_rig_prepare(&rig, &request, SK_BLOCK_GET_LIFETIME, 0, 0, 7);
    blk_rig_submit(&rig, &request);
    assert_true(blk_rig_run(&rig, &request, POLLS));
    assert_int_equal(request.request.status, SK_ERR_INVALID);
    blk_rig_deinit(&rig);

    start(10, 1, bit(SK_VIRTIO_BLK_F_LIFETIME));
    blk_rig_prepare(&rig, &request, SK_BLOCK_GET_LIFETIME, 0, 0, SK_BLOCK_LIFETIME_BYTES);
    blk_rig_submit(&rig, &request);
    assert_true(blk_rig_run(&rig, &request, POLLS));
    assert_int_equal(request.request.status, SK_ERR_UNSUPPORTED);
    blk_rig_deinit(&rig);
}

static void test_virtio_blk_get_lifetime__waits_and_tells(void **state)
{
    struct sk_block_lifetime lifetime;

    (void)state;
    start(10, 1, 0);
    assert_int_equal(sk_block_get_lifetime(rig.queue, &lifetime, 0), SK_OK);
    assert_int_equal(lifetime.reserve, SK_BLOCK_RESERVE_NORMAL);
    assert_int_equal(lifetime.wear_a_tenths, 2);
    assert_int_equal(lifetime.wear_b_tenths, 3);
    blk_rig_deinit(&rig);
    start(10, 1, bit(SK_VIRTIO_BLK_F_LIFETIME));
    assert_int_equal(sk_block_get_lifetime(rig.queue, &lifetime, 0), SK_ERR_UNSUPPORTED);
    assert_int_equal(rig.fake->requests, 1); /* the identity */
    blk_rig_deinit(&rig);
}

/* The second request of a probe: one that never ends ends the probe, and nothing is left. */
static void test_virtio_blk_probe__a_lifetime_that_never_comes(void **state)
{
    struct fake_device_config config = FAKE_DEVICE_CONFIG_DEFAULT;

    (void)state;
    config.features |= bit(SK_VIRTIO_BLK_F_LIFETIME);
    blk_rig_init(&rig, &config, NULL);
    fake_device_fault(rig.fake, FAKE_FAULT_STALL, 0, 1, 1);
    assert_int_equal(blk_rig_probe(&rig), SK_ERR_TIMEOUT);
    assert_int_equal(blk_rig_probe(&rig), SK_OK);
    assert_int_equal(rig.disk->info.wear.wear_a_tenths, 2);
    blk_rig_deinit(&rig);
}

/* Every 16-bit word at each place: what is reserved is not believed. */
static void test_virtio_blk_lifetime_parse__reserved_values_are_malformed(void **state)
{
    (void)state;
    for (unsigned place = 0; place < 3; place++) {
        for (uint32_t value = 0; value <= UINT16_MAX; value++) {
            struct sk_block_lifetime lifetime = { SK_BLOCK_RESERVE_COUNT, 99, 99 };
            uint8_t answer[SK_BLOCK_LIFETIME_BYTES + 1] = { 0 };
            uint8_t *at = answer + 1; /* odd */
            bool good = value <= (place == 0 ? 3 : 11);

            at[2 * place] = (uint8_t)value;
            at[2 * place + 1] = (uint8_t)(value >> 8);
            assert_int_equal(sk_block_lifetime_parse(at, &lifetime),
                             good ? SK_OK : SK_ERR_MALFORMED);
            if (good) {
                assert_int_equal(lifetime.reserve, place == 0 ? value : 0);
                assert_int_equal(lifetime.wear_a_tenths, place == 1 ? value : 0);
                assert_int_equal(lifetime.wear_b_tenths, place == 2 ? value : 0);
            } else {
                assert_int_equal(lifetime.reserve, SK_BLOCK_RESERVE_COUNT);
            }
        }
    }
    assert_string_equal(sk_block_reserve_name(SK_BLOCK_RESERVE_URGENT), "urgent");
    assert_string_equal(sk_block_reserve_name(SK_BLOCK_RESERVE_COUNT), "unknown");
}

/* ---- FUA --------------------------------------------------------------------------------- */

static enum sk_status write_fua(uint64_t sector)
{
    struct blk_rig_request request;

    memset(test_environment_foreign(&rig.env, 0), 0x77, 512);
    blk_rig_prepare(&rig, &request, SK_BLOCK_WRITE, sector, 0, 512);
    request.request.flags = SK_BLOCK_FLAG_FUA;
    blk_rig_submit(&rig, &request);
    assert_true(blk_rig_run(&rig, &request, POLLS));
    return request.request.status;
}

static void test_virtio_blk_fua__is_durable_when_it_completes(void **state)
{
    (void)state;
    blk_rig_start(&rig, NULL, NULL);
    assert_int_equal(write_fua(9), SK_OK);
    assert_int_equal(rig.fake->flushes, 1);
    fake_device_lose_power(rig.fake);
    assert_int_equal(rig.fake->storage[9 * 512], 0x77);
    blk_rig_deinit(&rig);
}

static void test_virtio_blk_fua__needs_no_flush_with_a_write_through_disk(void **state)
{
    struct fake_device_config config = FAKE_DEVICE_CONFIG_DEFAULT;

    (void)state;
    config.features &= ~(bit(SK_VIRTIO_BLK_F_FLUSH) | bit(SK_VIRTIO_BLK_F_CONFIG_WCE));
    blk_rig_start(&rig, &config, NULL);
    assert_int_equal(write_fua(9), SK_OK);
    fake_device_lose_power(rig.fake);
    assert_int_equal(rig.fake->storage[9 * 512], 0x77);
    blk_rig_deinit(&rig);
}

static void test_virtio_blk_fua__failed_write_or_flush_is_a_failed_request(void **state)
{
    (void)state;
    blk_rig_start(&rig, NULL, NULL);
    fake_device_bad_sectors(rig.fake, 9, 1);
    assert_int_equal(write_fua(9), SK_ERR_IO);
    assert_int_equal(rig.fake->flushes, 0);
    fake_device_fault(rig.fake, FAKE_FAULT_FLUSH_UNSUPPORTED, 0, 0, 1);
    assert_int_equal(write_fua(10), SK_ERR_UNSUPPORTED);
    assert_int_equal(write_fua(10), SK_OK);
    blk_rig_deinit(&rig);
}

static void test_virtio_blk_fua__cannot_be_promised_without_flush(void **state)
{
    struct sk_virtio_blk_options options = blk_rig_options();

    (void)state;
    options.features = ~bit(SK_VIRTIO_BLK_F_FLUSH);
    blk_rig_start(&rig, NULL, &options);
    assert_int_equal(write_fua(9), SK_ERR_UNSUPPORTED);
    assert_int_equal(rig.fake->writes, 0);
    blk_rig_deinit(&rig);
}

/* ---- The cache mode ---------------------------------------------------------------------- */

static void test_virtio_blk_set_cache__changes_and_flushes(void **state)
{
    (void)state;
    blk_rig_start(&rig, NULL, NULL);
    assert_true(rig.disk->info.cache_can_change);
    memset(test_environment_foreign(&rig.env, 0), 0x77, 512);
    assert_int_equal(
        sk_block_write(rig.queue, 5, test_environment_foreign(&rig.env, 0), 512, 0), SK_OK);
    assert_int_equal(sk_block_set_cache(rig.queue, SK_BLOCK_CACHE_WRITE_THROUGH, 0), SK_OK);
    assert_int_equal(rig.disk->info.cache, SK_BLOCK_CACHE_WRITE_THROUGH);
    assert_int_equal(rig.fake->flushes, 1);
    fake_device_lose_power(rig.fake);
    assert_int_equal(rig.fake->storage[5 * 512], 0x77); /* older than the change */
    assert_int_equal(sk_block_set_cache(rig.queue, SK_BLOCK_CACHE_WRITE_BACK, 0), SK_OK);
    assert_int_equal(rig.disk->info.cache, SK_BLOCK_CACHE_WRITE_BACK);
    blk_rig_deinit(&rig);
}

static void test_virtio_blk_set_cache__without_the_feature_is_unsupported(void **state)
{
    struct fake_device_config config = FAKE_DEVICE_CONFIG_DEFAULT;

    (void)state;
    config.features &= ~bit(SK_VIRTIO_BLK_F_CONFIG_WCE);
    blk_rig_start(&rig, &config, NULL);
    assert_int_equal(sk_block_set_cache(rig.queue, SK_BLOCK_CACHE_WRITE_THROUGH, 0),
                     SK_ERR_UNSUPPORTED);
    assert_int_equal(rig.disk->info.cache, SK_BLOCK_CACHE_WRITE_BACK);
    blk_rig_deinit(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_virtio_blk_clear__reaches_exactly_the_sectors),
        cmocka_unit_test(test_virtio_blk_clear__is_split_at_limits_and_alignment),
        cmocka_unit_test(test_virtio_blk_clear__unmap_is_a_flag_of_zeroing_alone),
        cmocka_unit_test(test_virtio_blk_clear__bad_ranges_are_refused),
        cmocka_unit_test(test_virtio_blk_clear__not_offered_or_read_only),
        cmocka_unit_test(test_virtio_blk_clear__error_in_one_part_fails_the_whole),
        cmocka_unit_test(
            test_virtio_blk_clear_ranges__as_few_requests_as_the_device_takes),
        cmocka_unit_test(test_virtio_blk_clear_ranges__leaves_slots_as_they_were),
        cmocka_unit_test(test_virtio_blk_clear_ranges__long_ones_are_cut),
        cmocka_unit_test(test_virtio_blk_clear_ranges__more_than_32_bits_of_sectors),
        cmocka_unit_test(test_virtio_blk_clear_ranges__bad_lists_are_refused),
        cmocka_unit_test(test_virtio_blk_clear_ranges__sums_that_wrap_are_refused),
        cmocka_unit_test(test_virtio_blk_clear_ranges__one_failure_fails_all),
        cmocka_unit_test(test_virtio_blk_clear_ranges__keep_to_size_max),
        cmocka_unit_test(test_hostile_20__every_limit_of_ranges),
        cmocka_unit_test(test_virtio_blk_lifetime__is_six_bytes_where_offered),
        cmocka_unit_test(test_virtio_blk_get_lifetime__waits_and_tells),
        cmocka_unit_test(test_virtio_blk_probe__a_lifetime_that_never_comes),
        cmocka_unit_test(test_virtio_blk_lifetime_parse__reserved_values_are_malformed),
        cmocka_unit_test(test_virtio_blk_fua__is_durable_when_it_completes),
        cmocka_unit_test(test_virtio_blk_fua__needs_no_flush_with_a_write_through_disk),
        cmocka_unit_test(test_virtio_blk_fua__failed_write_or_flush_is_a_failed_request),
        cmocka_unit_test(test_virtio_blk_fua__cannot_be_promised_without_flush),
        cmocka_unit_test(test_virtio_blk_set_cache__changes_and_flushes),
        cmocka_unit_test(test_virtio_blk_set_cache__without_the_feature_is_unsupported),
    };

    return cmocka_run_group_tests_name("virtio_blk_ranges", tests, NULL, NULL);
}
