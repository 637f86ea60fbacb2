/* SPDX-License-Identifier: MIT */
/*
 * Devices that lie about themselves, and surroundings that fail: the lines of
 * the list of what hostile devices do that are about initialisation,
 * configuration, memory and recovery.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "fake/hostile_rig.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define FEATURE(bit) SK_VIRTIO_FEATURE(bit)

static const struct fake_device_config default_config = FAKE_DEVICE_CONFIG_DEFAULT;

static const uint32_t boundaries[] = { 0,      1,      2,      3,          127,        128,
                                       129,    254,    255,    256,        511,        512,
                                       513,    1024,   4095,   4096,       4097,       65535,
                                       65536,  131072, 1 << 20, (1 << 20) + 1, 0x7fffffff,
                                       0x80000000, 0xfffffe00, UINT32_MAX };

/* A probe that may go either way; works if it succeeds, and leaves nothing behind. */
static enum sk_status probe_either_way(struct rig *rig)
{
    enum sk_status status = rig_probe(rig);

    if (status == SK_OK) {
        assert_true(rig->disk->info.block_bytes >= 512);
        assert_true((rig->disk->info.block_bytes & (rig->disk->info.block_bytes - 1)) == 0);
        assert_true(rig->disk->info.segment_count_max >= 1);
        assert_true(rig->disk->info.queue_depth >= 1);
        if (rig->disk->info.block_bytes <= RIG_DATA_BYTES) {
            rig_expect_works(rig);
        }
    } else {
        assert_int_equal(rig->fake->status, 0);
        assert_true(rig->env.lines[SK_LOG_ERROR] > 0);
    }
    rig_stop(rig);
    return status;
}

/* --- 19 to 21: fields -------------------------------------------------------- */

static void test_hostile_19__every_blk_size(void **state)
{
    struct rig rig;

    (void)state;
    for (size_t i = 0; i < COUNT(boundaries); i++) {
        struct fake_device_config config = default_config;
        uint32_t size = boundaries[i];
        enum sk_status status;

        config.blk_size = size;
        rig_open(&rig, &config);
        status = probe_either_way(&rig);
        if (size < 512 || (size & (size - 1)) != 0) {
            assert_int_equal(status, SK_ERR_MALFORMED);
        } else if (size <= 4096) {
            assert_int_equal(status, SK_OK);
        }
    }
}

static void test_hostile_19__every_topology(void **state)
{
    struct rig rig;

    (void)state;
    for (unsigned i = 0; i < 256; i += i < 40 ? 1 : 5) {
        struct fake_device_config config = default_config;

        config.physical_block_exp = (uint8_t)i;
        config.alignment_offset = (uint8_t)~i;
        config.min_io_size = (uint16_t)(i * 257);
        config.opt_io_size = boundaries[i % COUNT(boundaries)];
        rig_open(&rig, &config);
        assert_int_equal(probe_either_way(&rig), SK_OK);
    }
}

static void test_hostile_20__every_seg_max_and_size_max(void **state)
{
    struct rig rig;

    (void)state;
    for (size_t i = 0; i < COUNT(boundaries); i++) {
        struct fake_device_config config = default_config;

        config.seg_max = boundaries[i];
        rig_open(&rig, &config);
        assert_int_equal(probe_either_way(&rig), SK_OK);
        config = default_config;
        config.features |= FEATURE(SK_VIRTIO_BLK_F_SIZE_MAX);
        config.size_max = boundaries[i];
        rig_open(&rig, &config);
        (void)probe_either_way(&rig);
        config.features &= ~FEATURE(SK_VIRTIO_F_INDIRECT_DESC);
        config.seg_max = boundaries[COUNT(boundaries) - 1 - i];
        rig_open(&rig, &config);
        (void)probe_either_way(&rig);
    }
}

static void test_hostile_20__every_queue_size(void **state)
{
    struct rig rig;

    (void)state;
    for (size_t i = 0; i < COUNT(boundaries); i++) {
        for (unsigned legacy = 0; legacy < 2; legacy++) {
            struct fake_device_config config = default_config;
            enum sk_status status;

            config.legacy = legacy != 0;
            rig_open(&rig, &config);
            fake_device_fault(rig.fake, FAKE_FAULT_QUEUE_MAX, boundaries[i], 0, FAKE_FOR_EVER);
            status = probe_either_way(&rig);
            if (boundaries[i] == 0) {
                assert_int_equal(status, SK_ERR_UNSUPPORTED);
            } else if (boundaries[i] >= 64) {
                assert_int_equal(status, SK_OK);
            }
        }
    }
}

static void test_hostile_20__every_num_queues(void **state)
{
    static const uint16_t counts[] = { 0, 1, 2, 8, 9, 64, 65, 65535 };
    struct rig rig;

    (void)state;
    for (size_t i = 0; i < COUNT(counts); i++) {
        struct fake_device_config config = default_config;

        config.features |= FEATURE(SK_VIRTIO_BLK_F_MQ);
        config.queue_count = 4;
        rig_open(&rig, &config);
        rig.options.queue_count = 4;
        rig.fake->config_space[34] = (uint8_t)counts[i];
        rig.fake->config_space[35] = (uint8_t)(counts[i] >> 8);
        assert_int_equal(rig_probe(&rig), SK_OK);
        assert_true(rig.disk->info.queue_count >= 1 && rig.disk->info.queue_count <= 4);
        rig_expect_works(&rig);
        rig_stop(&rig);
    }
}

static void test_hostile_20__queue_in_use_already(void **state)
{
    struct rig rig;

    (void)state;
    for (unsigned legacy = 0; legacy < 2; legacy++) {
        struct fake_device_config config = default_config;

        config.legacy = legacy != 0;
        rig_open(&rig, &config);
        fake_device_fault(rig.fake, FAKE_FAULT_QUEUE_READY, 1, 0, FAKE_FOR_EVER);
        assert_int_not_equal(probe_either_way(&rig), SK_OK);
    }
}

static void test_hostile_21__capacities_that_wrap(void **state)
{
    static const uint64_t capacities[] = { UINT64_MAX, UINT64_MAX / 512, UINT64_MAX / 512 + 1,
                                           UINT64_C(1) << 55, UINT64_C(1) << 63 };
    struct rig rig;

    (void)state;
    for (size_t i = 0; i < COUNT(capacities); i++) {
        struct fake_device_config config = default_config;

        config.capacity_sectors = capacities[i];
        config.storage_sectors = 2048;
        rig_open(&rig, &config);
        (void)probe_either_way(&rig);
    }
    for (uint64_t capacity = 0; capacity < 3; capacity++) {
        struct fake_device_config config = default_config;

        config.capacity_sectors = capacity;
        rig_start(&rig, &config);
        rig_submit(&rig, 0, SK_BLOCK_READ, capacity, 1);
        rig_settle(&rig);
        assert_int_equal(rig.request[0].status, SK_ERR_RANGE);
        rig_stop(&rig);
    }
}

static void test_hostile_21__sectors_that_wrap(void **state)
{
    static const uint64_t sectors[] = { 2048, 2047, UINT64_MAX, UINT64_MAX - 1, UINT64_MAX - 7,
                                        UINT64_C(1) << 55, UINT64_C(1) << 63 };
    struct rig rig;

    (void)state;
    rig_start(&rig, NULL);
    for (size_t i = 0; i < COUNT(sectors); i++) {
        rig_submit(&rig, 0, SK_BLOCK_READ, sectors[i], 8);
        rig_submit(&rig, 1, SK_BLOCK_WRITE, sectors[i], 8);
        rig_settle(&rig);
        assert_int_equal(rig.request[0].status, SK_ERR_RANGE);
        assert_int_equal(rig.request[1].status, SK_ERR_RANGE);
    }
    assert_int_equal(rig.fake->reads + rig.fake->writes, 0);
    rig_expect_works(&rig);
    rig_stop(&rig);
}

/* --- 22 to 24: configuration that moves, or ends ------------------------------ */

static void test_hostile_22__torn_at_first(void **state)
{
    struct rig rig;

    (void)state;
    for (uint64_t skip = 0; skip < 8; skip++) {
        rig_open(&rig, NULL);
        fake_device_fault(rig.fake, FAKE_FAULT_CONFIG_TEARS, 0, skip, 1);
        (void)rig_probe(&rig); /* the new capacity may well be none */
        if (rig.disk != NULL) {
            uint64_t capacity = 0;

            memcpy(&capacity, rig.fake->config_space, sizeof(capacity));
            assert_true(rig.disk->info.capacity_sectors == capacity);
        }
        rig_stop(&rig);
    }
}

static void test_hostile_22__never_settles(void **state)
{
    static const enum fake_fault faults[] = { FAKE_FAULT_GENERATION, FAKE_FAULT_CONFIG_TEARS };
    struct rig rig;

    (void)state;
    for (unsigned i = 0; i < 4; i++) {
        struct fake_device_config config = default_config;

        config.legacy = i >= 2;
        if (config.legacy && faults[i % 2] == FAKE_FAULT_GENERATION) {
            continue; /* there is none */
        }
        rig_open(&rig, &config);
        fake_device_fault(rig.fake, faults[i % 2], 0, 0, FAKE_FOR_EVER);
        assert_int_equal(probe_either_way(&rig), SK_ERR_MALFORMED);
    }
}

static void test_hostile_22__stops_settling_later(void **state)
{
    struct rig rig;

    (void)state;
    rig_start(&rig, NULL);
    fake_device_fault(rig.fake, FAKE_FAULT_GENERATION, 0, 0, FAKE_FOR_EVER);
    fake_device_set_capacity(rig.fake, 1024);
    (void)rig_read(&rig, 0);
    (void)rig_poll(&rig);
    rig_expect_recovers(&rig);
    rig_stop(&rig);
}

static void test_hostile_23__shrinks_under_load(void **state)
{
    struct fake_device_config config = default_config;
    struct rig rig;

    (void)state;
    config.deferred = true;
    rig_start(&rig, &config);
    for (unsigned i = 0; i < 8; i++) {
        rig_submit(&rig, i, SK_BLOCK_WRITE, 200 * i, 1);
    }
    fake_device_set_capacity(rig.fake, 1000);
    rig_settle(&rig);
    for (unsigned i = 0; i < 8; i++) {
        assert_int_equal(rig.request[i].status, 200 * i < 1000 ? SK_OK : SK_ERR_IO);
    }
    assert_int_equal(sk_block_poll(rig.queue, 0, NULL), SK_OK);
    assert_true(rig.disk->info.capacity_sectors == 1000);
    rig_submit(&rig, 0, SK_BLOCK_READ, 1000, 1);
    rig_settle(&rig);
    assert_int_equal(rig.request[0].status, SK_ERR_RANGE);
    rig_expect_works(&rig);
    fake_device_set_capacity(rig.fake, 2048);
    assert_int_equal(sk_block_poll(rig.queue, 0, NULL), SK_OK);
    rig_submit(&rig, 0, SK_BLOCK_READ, 2047, 1);
    rig_settle(&rig);
    assert_int_equal(rig.request[0].status, SK_OK);
    rig_stop(&rig);
}

static void test_hostile_24__every_length_of_the_configuration(void **state)
{
    struct rig rig;

    (void)state;
    for (uint32_t bytes = 1; bytes <= 80; bytes++) {
        struct fake_device_config config = default_config;
        enum sk_status status;

        config.config_bytes = bytes;
        rig_open(&rig, &config);
        status = probe_either_way(&rig);
        assert_int_equal(status, bytes < 33 ? SK_ERR_RANGE : SK_OK); /* writeback is the last */
    }
    for (uint32_t bytes = 1; bytes <= 16; bytes++) {
        struct fake_device_config config = default_config;

        config.config_bytes = bytes;
        config.features = 0;
        rig_open(&rig, &config);
        assert_int_equal(rig_probe(&rig), bytes < 8 ? SK_ERR_RANGE : SK_OK);
        rig_stop(&rig);
    }
}

/* --- 28, 29, 30: memory --------------------------------------------------------- */

static void test_hostile_28__no_old_memory_through_a_bounce(void **state)
{
    struct rig rig;
    uint8_t *page;

    (void)state;
    rig_start(&rig, NULL);
    rig.env.domain.force_bounce = true;
    page = test_environment_foreign(&rig.env, 0);
    memset(page, 0x5e, 4096); /* a secret passes the bounce memory */
    assert_int_equal(sk_block_write(rig.queue, 0, page, 4096, 0), SK_OK);
    memset(page, 0, 4096);
    fake_device_fault(rig.fake, FAKE_FAULT_NO_DATA, 0, 0, 1);
    assert_int_equal(sk_block_read(rig.queue, 8, page, 4096, 0), SK_OK);
    for (unsigned i = 0; i < 4096; i++) {
        assert_int_equal(page[i], 0); /* neither 0x5e nor the arena's 0xa5 */
    }
    rig.env.domain.force_bounce = false;
    rig_stop(&rig);
}

/* No word in what the device can see is a pointer of ours. */
static void test_hostile_29__device_memory_holds_no_pointers(void **state)
{
    struct fake_device_config config = default_config;
    struct rig rig;
    const uint8_t *memory;

    (void)state;
    config.deferred = true;
    rig_start(&rig, &config);
    for (unsigned i = 0; i < 32; i++) {
        rig_submit(&rig, i, SK_BLOCK_READ, i, 1);
    }
    memory = sk_io_buffer_data(rig.node->dma_buffer);
    for (uint64_t i = 0; i + 8 <= sk_io_buffer_capacity(rig.node->dma_buffer); i += 2) {
        uint64_t word;

        memcpy(&word, memory + i, sizeof(word));
        assert_false(word - (uintptr_t)&rig < sizeof(rig));
        assert_false(word - (uintptr_t)rig.env.zone_memory < rig.env.zone_bytes);
        assert_false(word - (uintptr_t)rig.node->driver_memory < rig.node->driver_memory_bytes);
    }
    rig_settle(&rig);
    rig_stop(&rig);
}

/* A read of one sector changes no byte around it, even if the device claims to have written more. */
static void test_hostile_29__neighbours_of_a_small_read(void **state)
{
    struct rig rig;
    uint8_t *page;

    (void)state;
    rig_start(&rig, NULL);
    page = test_environment_foreign(&rig.env, 2);
    memset(page, 0x77, 4096);
    fake_device_fault(rig.fake, FAKE_FAULT_USED_LENGTH, UINT32_MAX, 0, FAKE_FOR_EVER);
    assert_int_equal(sk_block_read(rig.queue, 0, page + 1000, 512, 0), SK_OK);
    for (unsigned i = 0; i < 4096; i++) {
        assert_int_equal(page[i], i >= 1000 && i < 1512 ? 0 : 0x77);
    }
    rig_stop(&rig);
}

static void test_hostile_30__four_gibibytes_and_more(void **state)
{
    static const uint64_t lengths[] = { UINT64_C(1) << 32, (UINT64_C(1) << 32) + 512,
                                        (UINT64_C(1) << 32) + 1, UINT64_MAX - 511, UINT64_MAX };
    struct rig rig;
    uint64_t before;
    void *page;

    (void)state;
    rig_start(&rig, NULL);
    page = test_environment_foreign(&rig.env, 0);
    before = rig.fake->requests;
    for (size_t i = 0; i < COUNT(lengths); i++) {
        assert_int_not_equal(sk_block_read(rig.queue, 0, page, lengths[i], 0), SK_OK);
        assert_int_not_equal(sk_block_write(rig.queue, 0, page, lengths[i], 0), SK_OK);
    }
    assert_int_equal(rig.fake->requests, before);
    rig_expect_works(&rig);
    rig_stop(&rig);
}

/* --- 31, 33: waking up, and room ------------------------------------------------- */

static void many_rounds(const struct fake_device_config *config)
{
    struct rig rig;
    uint32_t seed = 31;
    uint64_t requests = 0;

    rig_start(&rig, config);
    while (requests < 70000) { /* past the wrap of the indexes */
        unsigned count;

        seed = seed * 1664525 + 1013904223;
        count = 1 + (seed >> 16) % RIG_REQUESTS;
        for (unsigned i = 0; i < count; i++) {
            rig_submit(&rig, i, i % 3 == 0 ? SK_BLOCK_WRITE : SK_BLOCK_READ, i, 1);
        }
        rig_settle(&rig);
        requests += count;
    }
    assert_int_equal(rig.queue->statistics.errors[SK_ERR_TIMEOUT], 0);
    rig_expect_works(&rig);
    rig_stop(&rig);
}

static void test_hostile_31__no_wake_up_is_lost_around_the_wrap(void **state)
{
    struct fake_device_config config = default_config;

    (void)state;
    many_rounds(&config);
    config.deferred = true;
    config.order = FAKE_ORDER_RANDOM;
    config.seed = 31;
    many_rounds(&config);
    config.features &= ~FEATURE(SK_VIRTIO_F_EVENT_IDX);
    many_rounds(&config);
    config.polls = true;
    many_rounds(&config);
}

static void test_hostile_31__interrupts_that_never_come(void **state)
{
    struct fake_device_config config = default_config;
    struct rig rig;

    (void)state;
    config.deferred = true;
    rig_start(&rig, &config);
    fake_device_fault(rig.fake, FAKE_FAULT_NO_INTERRUPT, 0, 0, FAKE_FOR_EVER);
    for (unsigned i = 0; i < 100; i++) {
        assert_int_equal(rig_read(&rig, i % RIG_REQUESTS), SK_OK);
    }
    rig_stop(&rig);
}

static void test_hostile_31__a_deaf_device_times_out(void **state)
{
    struct rig rig;

    (void)state;
    rig_start(&rig, NULL);
    fake_device_fault(rig.fake, FAKE_FAULT_DEAF, 0, 0, FAKE_FOR_EVER);
    assert_int_equal(rig_read(&rig, 0), SK_ERR_TIMEOUT);
    rig_expect_recovers(&rig);
    rig_stop(&rig);
}

static void test_hostile_33__more_requests_than_room(void **state)
{
    static const uint64_t features[] = { FAKE_FEATURES_DEFAULT,
                                         FAKE_FEATURES_DEFAULT &
                                             ~FEATURE(SK_VIRTIO_F_INDIRECT_DESC) };
    struct rig rig;

    (void)state;
    for (unsigned stall = 0; stall < 4; stall++) {
        struct fake_device_config config = default_config;

        config.features = features[stall % 2];
        config.deferred = true;
        config.queue_size_max = 8;
        rig_start(&rig, &config);
        if (stall >= 2) {
            fake_device_fault(rig.fake, FAKE_FAULT_STALL, 0, 3, FAKE_FOR_EVER);
        }
        for (unsigned i = 0; i < RIG_REQUESTS; i++) {
            rig_submit(&rig, i, SK_BLOCK_READ, i, 1);
        }
        rig_settle(&rig);
        for (unsigned i = 0; i < RIG_REQUESTS; i++) {
            assert_true((rig.request[i].status == SK_OK) == (stall < 2 || i < 3));
        }
        if (stall >= 2) {
            rig_expect_recovers(&rig);
        }
        rig_stop(&rig);
    }
}

/* --- 34: every step fails once ----------------------------------------------------- */

static void test_hostile_34__every_hook_fails_once(void **state)
{
    enum sk_status status = SK_ERR_NO_MEMORY;
    struct rig rig;

    (void)state;
    for (unsigned call = 1; status != SK_OK; call++) {
        assert_true(call < 100);
        rig_open(&rig, NULL);
        rig.env.fail_call = call;
        status = rig_probe(&rig);
        rig.env.fail_call = 0;
        if (status != SK_OK) {
            assert_int_equal(rig.fake->status, 0);
            assert_int_equal(rig_probe(&rig), SK_OK); /* the next time it does */
        }
        rig_expect_works(&rig);
        rig_stop(&rig);
    }
}

/* The device dies at its Nth register access, for every N of a probe. */
static void test_hostile_34__dies_at_every_step(void **state)
{
    static const uint32_t values[] = { UINT32_MAX, 0 };
    struct rig rig;

    (void)state;
    for (size_t i = 0; i < COUNT(values); i++) {
        bool fired = true;

        for (unsigned step = 0; fired; step++) {
            enum sk_status status;

            assert_true(step < 1000);
            rig_open(&rig, NULL);
            fake_device_fault(rig.fake, FAKE_FAULT_DEAD, values[i], step, FAKE_FOR_EVER);
            status = rig_probe(&rig);
            fired = rig.fake->faults[FAKE_FAULT_DEAD].fired > 0;
            assert_true(fired || status == SK_OK);
            fake_device_behave(rig.fake);
            fake_device_forgive(rig.fake); /* it may have been cut off in the middle of a reset */
            if (status == SK_OK && fired) {
                (void)rig_read(&rig, 0);
                (void)rig_recover(&rig);
            }
            if (rig.env.domain.statistics.buffers_quarantined > 0) {
                fake_device_destroy(rig.fake);
                test_environment_abandon(&rig.env);
            } else {
                rig_stop(&rig);
            }
        }
    }
}

static void run_device(void *context)
{
    (void)fake_device_run(context, UINT_MAX);
}

/* The same while requests are under way. */
static void test_hostile_34__dies_under_load(void **state)
{
    static const uint32_t values[] = { UINT32_MAX, 0 };
    struct fake_device_config config = default_config;
    struct rig rig;

    (void)state;
    config.deferred = true;
    for (size_t i = 0; i < COUNT(values); i++) {
        rig_start(&rig, &config);
        for (unsigned j = 0; j < 8; j++) {
            rig_submit(&rig, j, SK_BLOCK_READ, j, 1);
        }
        fake_device_fault(rig.fake, FAKE_FAULT_DEAD, values[i], 0, FAKE_FOR_EVER);
        rig.env.on_wait = NULL;
        rig_settle(&rig);
        for (unsigned j = 0; j < 8; j++) {
            assert_int_not_equal(rig.request[j].status, SK_OK);
        }
        fake_device_behave(rig.fake);
        rig.env.on_wait = run_device;
        assert_int_equal(sk_block_recover(rig.disk, 0), SK_OK);
        rig.unsafe = 0; /* a dead device that reads as zero looks like one that was reset */
        rig_expect_works(&rig);
        rig_stop(&rig);
    }
}

static void test_hostile_34__features_refused(void **state)
{
    struct rig rig;

    (void)state;
    rig_open(&rig, NULL);
    fake_device_fault(rig.fake, FAKE_FAULT_FEATURES_REFUSED, 0, 0, FAKE_FOR_EVER);
    assert_int_equal(rig_probe(&rig), SK_ERR_UNSUPPORTED);
    fake_device_behave(rig.fake);
    assert_int_equal(rig_probe(&rig), SK_OK);
    fake_device_needs_reset(rig.fake);
    assert_int_equal(sk_block_poll(rig.queue, 0, NULL), SK_ERR_BROKEN);
    fake_device_fault(rig.fake, FAKE_FAULT_FEATURES_REFUSED, 0, 0, 1);
    assert_int_equal(sk_block_recover(rig.disk, 0), SK_ERR_UNSUPPORTED);
    rig_expect_recovers(&rig);
    rig_stop(&rig);
}

/* --- 35, 36: recovery and flushes -------------------------------------------------- */

static void test_hostile_35__killed_after_each_completion(void **state)
{
    struct fake_device_config config = default_config;
    struct rig rig;

    (void)state;
    config.deferred = true;
    config.order = FAKE_ORDER_LAST_IN;
    for (unsigned done = 0; done <= 16; done++) {
        rig_start(&rig, &config);
        for (unsigned i = 0; i < 16; i++) {
            rig_submit(&rig, i, SK_BLOCK_WRITE, i, 1);
        }
        assert_int_equal(fake_device_run(rig.fake, done), done);
        fake_device_needs_reset(rig.fake);
        rig_settle(&rig);
        for (unsigned i = 0; i < 16; i++) {
            assert_true((rig.request[i].status == SK_OK) == (i >= 16 - done));
        }
        (void)rig_poll(&rig);
        rig_expect_recovers(&rig);
        rig_stop(&rig);
    }
}

static void test_hostile_35__recovered_with_requests_in_flight(void **state)
{
    struct fake_device_config config = default_config;
    struct rig rig;

    (void)state;
    config.deferred = true;
    rig_start(&rig, &config);
    for (unsigned i = 0; i < RIG_REQUESTS; i++) {
        rig_submit(&rig, i, SK_BLOCK_READ, i, 1);
    }
    assert_int_equal(fake_device_run(rig.fake, 5), 5);
    assert_int_equal(sk_block_recover(rig.disk, 0), SK_OK);
    rig_settle(&rig);
    for (unsigned i = 5; i < RIG_REQUESTS; i++) {
        assert_int_not_equal(rig.request[i].status, SK_OK);
    }
    rig_expect_works(&rig);
    rig_stop(&rig);
}

static void test_hostile_35__removed_with_requests_in_flight(void **state)
{
    struct fake_device_config config = default_config;
    struct rig rig;

    (void)state;
    config.deferred = true;
    rig_start(&rig, &config);
    for (unsigned i = 0; i < RIG_REQUESTS; i++) {
        rig_submit(&rig, i, SK_BLOCK_READ, i, 1);
    }
    assert_int_equal(sk_device_manager_remove(&rig.manager, rig.node), SK_OK);
    rig.disk = NULL;
    for (unsigned i = 0; i < RIG_REQUESTS; i++) {
        assert_int_equal(rig.completed[i], 1);
        assert_int_equal(rig.request[i].status, SK_ERR_GONE);
    }
    rig_stop(&rig);
}

static void test_hostile_36__a_refused_flush_is_no_success(void **state)
{
    struct rig rig;

    (void)state;
    rig_start(&rig, NULL);
    fake_device_fault(rig.fake, FAKE_FAULT_FLUSH_UNSUPPORTED, 0, 0, 1);
    assert_int_equal(sk_block_flush(rig.queue, 0), SK_ERR_UNSUPPORTED);
    fake_device_fault(rig.fake, FAKE_FAULT_IO_ERROR, 0, 0, 1);
    assert_int_equal(sk_block_flush(rig.queue, 0), SK_ERR_IO);
    fake_device_fault(rig.fake, FAKE_FAULT_NO_STATUS, 0, 0, 1);
    assert_int_equal(sk_block_flush(rig.queue, 0), SK_ERR_MALFORMED);
    rig_expect_recovers(&rig);
    fake_device_fault(rig.fake, FAKE_FAULT_STALL, 0, 0, 1);
    assert_int_equal(sk_block_flush(rig.queue, 0), SK_ERR_TIMEOUT);
    rig_expect_recovers(&rig);
    rig_stop(&rig);
}

static void test_hostile_36__a_flush_that_says_ok_survives_a_loss_of_power(void **state)
{
    struct rig rig;
    uint8_t *page;

    (void)state;
    rig_start(&rig, NULL);
    page = test_environment_foreign(&rig.env, 0);
    memset(page, 0x36, 4096);
    assert_int_equal(sk_block_write(rig.queue, 16, page, 4096, 0), SK_OK);
    assert_int_equal(sk_block_flush(rig.queue, 0), SK_OK);
    memset(page, 0x63, 4096);
    assert_int_equal(sk_block_write(rig.queue, 24, page, 4096, 0), SK_OK);
    fake_device_lose_power(rig.fake);
    assert_int_equal(sk_block_read(rig.queue, 16, page, 4096, 0), SK_OK);
    assert_int_equal(page[4095], 0x36);
    assert_int_equal(sk_block_read(rig.queue, 24, page, 4096, 0), SK_OK);
    assert_int_equal(page[0], 0);
    rig_stop(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hostile_19__every_blk_size),
        cmocka_unit_test(test_hostile_19__every_topology),
        cmocka_unit_test(test_hostile_20__every_seg_max_and_size_max),
        cmocka_unit_test(test_hostile_20__every_queue_size),
        cmocka_unit_test(test_hostile_20__every_num_queues),
        cmocka_unit_test(test_hostile_20__queue_in_use_already),
        cmocka_unit_test(test_hostile_21__capacities_that_wrap),
        cmocka_unit_test(test_hostile_21__sectors_that_wrap),
        cmocka_unit_test(test_hostile_22__torn_at_first),
        cmocka_unit_test(test_hostile_22__never_settles),
        cmocka_unit_test(test_hostile_22__stops_settling_later),
        cmocka_unit_test(test_hostile_23__shrinks_under_load),
        cmocka_unit_test(test_hostile_24__every_length_of_the_configuration),
        cmocka_unit_test(test_hostile_28__no_old_memory_through_a_bounce),
        cmocka_unit_test(test_hostile_29__device_memory_holds_no_pointers),
        cmocka_unit_test(test_hostile_29__neighbours_of_a_small_read),
        cmocka_unit_test(test_hostile_30__four_gibibytes_and_more),
        cmocka_unit_test(test_hostile_31__no_wake_up_is_lost_around_the_wrap),
        cmocka_unit_test(test_hostile_31__interrupts_that_never_come),
        cmocka_unit_test(test_hostile_31__a_deaf_device_times_out),
        cmocka_unit_test(test_hostile_33__more_requests_than_room),
        cmocka_unit_test(test_hostile_34__every_hook_fails_once),
        cmocka_unit_test(test_hostile_34__dies_at_every_step),
        cmocka_unit_test(test_hostile_34__dies_under_load),
        cmocka_unit_test(test_hostile_34__features_refused),
        cmocka_unit_test(test_hostile_35__killed_after_each_completion),
        cmocka_unit_test(test_hostile_35__recovered_with_requests_in_flight),
        cmocka_unit_test(test_hostile_35__removed_with_requests_in_flight),
        cmocka_unit_test(test_hostile_36__a_refused_flush_is_no_success),
        cmocka_unit_test(test_hostile_36__a_flush_that_says_ok_survives_a_loss_of_power),
    };

    return cmocka_run_group_tests_name("hostile_control", tests, NULL, NULL);
}
