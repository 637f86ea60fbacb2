/* SPDX-License-Identifier: MIT */
/* The driver with a device that behaves: probing, requests, limits, waiting, recovery. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "support/blk_rig.h"

#define POLLS 2000u

static struct blk_rig rig;

static struct fake_device_config default_config(void)
{
    struct fake_device_config config = FAKE_DEVICE_CONFIG_DEFAULT;

    return config;
}

static uint64_t bit(unsigned number)
{
    return SK_VIRTIO_FEATURE(number);
}

static enum sk_status run_one(enum sk_block_operation operation, uint64_t sector, size_t page,
                              uint32_t bytes)
{
    struct blk_rig_request request;

    blk_rig_prepare(&rig, &request, operation, sector, page, bytes);
    blk_rig_submit(&rig, &request);
    assert_true(blk_rig_run(&rig, &request, POLLS));
    return request.request.status;
}

/* ---- Probe ------------------------------------------------------------------------------- */

static void test_virtio_blk_probe__default_device_is_described(void **state)
{
    struct sk_block_info info;

    (void)state;
    blk_rig_start(&rig, NULL, NULL);
    sk_block_get_info(rig.disk, &info);
    assert_string_equal(info.driver, "virtio-blk");
    assert_string_equal(info.transport, "mmio");
    assert_string_equal(info.identity, "fake disk");
    assert_int_equal(info.capacity_sectors, 2048);
    assert_int_equal(info.block_bytes, 512);
    assert_int_equal(info.cache, SK_BLOCK_CACHE_WRITE_BACK);
    assert_false(info.read_only);
    assert_int_equal(info.queue_count, 1);
    assert_int_equal(info.queue_size, 128);
    assert_int_equal(info.queue_depth, 128);
    assert_int_equal(info.segment_count_max, 16);
    assert_true(info.features & bit(SK_VIRTIO_F_VERSION_1));
    assert_true(info.features & bit(SK_VIRTIO_F_INDIRECT_DESC));
    assert_true(info.features & bit(SK_VIRTIO_F_EVENT_IDX));
    assert_int_equal(rig.node.device_class, SK_DEVICE_CLASS_BLOCK);
    assert_true(sk_io_buffer_is_busy(&rig.buffer));
    assert_int_equal(sk_io_buffer_destroy(&rig.buffer), SK_ERR_BUSY);
    blk_rig_deinit(&rig);
}

static void test_virtio_blk_probe__size_max_of_0_is_no_limit(void **state)
{
    struct fake_device_config config = default_config();

    (void)state;
    config.features |= bit(SK_VIRTIO_BLK_F_SIZE_MAX);
    config.size_max = 0;
    blk_rig_start(&rig, &config, NULL);
    assert_int_equal(rig.disk->info.segment_bytes_max, 0);
    assert_int_equal(run_one(SK_BLOCK_WRITE, 3, 0, 4096), SK_OK);
    assert_int_equal(rig.fake->segment_longest, 4096);
    blk_rig_deinit(&rig);
}

static void test_virtio_blk_probe__legacy_device_works(void **state)
{
    struct fake_device_config config = default_config();

    (void)state;
    config.legacy = true;
    blk_rig_start(&rig, &config, NULL);
    assert_string_equal(rig.disk->info.transport, "mmio-legacy");
    assert_int_equal(run_one(SK_BLOCK_WRITE, 3, 0, 512), SK_OK);
    assert_memory_equal(rig.fake->storage + 3 * 512, test_environment_foreign(&rig.env, 0), 512);
    blk_rig_deinit(&rig);
}

/* Probes, expects a failure, and sees that the line in the log names the device's address. */
static void expect_probe(enum sk_status expected)
{
    unsigned errors = rig.env.lines[SK_LOG_ERROR];

    assert_int_equal(blk_rig_probe(&rig), expected);
    assert_true(rig.env.lines[SK_LOG_ERROR] > errors);
    assert_non_null(strstr(rig.env.last_line, "0x10001000"));
    assert_false(sk_device_node_is_bound(&rig.node));
    assert_int_equal(rig.node.device_class, SK_DEVICE_CLASS_NONE);
    assert_int_equal(rig.env.mmio_mapped, 0);
}

static void test_virtio_blk_probe__legacy_refused_when_not_wanted(void **state)
{
    struct fake_device_config config = default_config();
    struct sk_virtio_blk_options options = blk_rig_options();

    (void)state;
    config.legacy = true;
    options.refuse_legacy = true;
    blk_rig_init(&rig, &config, &options);
    expect_probe(SK_ERR_UNSUPPORTED);
    blk_rig_deinit(&rig);
}

static void test_virtio_blk_probe__missing_buffer_is_invalid(void **state)
{
    (void)state;
    blk_rig_init(&rig, NULL, NULL);
    rig.node.dma_buffer = NULL;
    expect_probe(SK_ERR_INVALID);
    rig.node.dma_buffer = &rig.buffer;
    blk_rig_deinit(&rig);
}

static void test_virtio_blk_probe__destroyed_buffer_is_invalid(void **state)
{
    struct sk_io_buffer moved = SK_IO_BUFFER_EMPTY;

    (void)state;
    blk_rig_init(&rig, NULL, NULL);
    assert_int_equal(sk_io_buffer_move(&moved, &rig.buffer), SK_OK);
    expect_probe(SK_ERR_INVALID);
    assert_int_equal(sk_io_buffer_destroy(&moved), SK_OK);
    rig.node.dma_buffer = NULL;
    blk_rig_deinit(&rig);
}

static void test_virtio_blk_probe__small_buffer_is_refused(void **state)
{
    struct sk_io_buffer small = SK_IO_BUFFER_EMPTY;

    (void)state;
    blk_rig_init(&rig, NULL, NULL);
    assert_int_equal(sk_io_buffer_create(&small, &rig.env.domain, 4096, 4096), SK_OK);
    rig.node.dma_buffer = &small;
    expect_probe(SK_ERR_SIZE);
    assert_int_equal(sk_io_buffer_destroy(&small), SK_OK);
    rig.node.dma_buffer = &rig.buffer;
    blk_rig_deinit(&rig);
}

static void test_virtio_blk_probe__misaligned_buffer_is_refused(void **state)
{
    struct sk_io_buffer large = SK_IO_BUFFER_EMPTY;
    struct sk_io_buffer odd = SK_IO_BUFFER_EMPTY;
    uint64_t bytes;

    (void)state;
    blk_rig_init(&rig, NULL, NULL);
    bytes = sk_io_buffer_size(&rig.buffer);
    assert_int_equal(sk_io_buffer_create(&large, &rig.env.domain, bytes + 4096, 4096), SK_OK);
    assert_int_equal(sk_io_buffer_adopt(&odd, &rig.env.domain,
                                        (uint8_t *)sk_io_buffer_data(&large) + 64,
                                        sk_paddr_make(large.run.paddr.raw + 64), bytes),
                     SK_OK);
    rig.node.dma_buffer = &odd;
    expect_probe(SK_ERR_ALIGNMENT);
    assert_int_equal(sk_io_buffer_destroy(&odd), SK_OK);
    assert_int_equal(sk_io_buffer_destroy(&large), SK_OK);
    rig.node.dma_buffer = &rig.buffer;
    blk_rig_deinit(&rig);
}

static void test_virtio_blk_probe__small_driver_memory_is_refused(void **state)
{
    (void)state;
    blk_rig_init(&rig, NULL, NULL);
    rig.node.driver_memory_bytes -= 1;
    expect_probe(SK_ERR_SIZE);
    rig.node.driver_memory_bytes = 0;
    expect_probe(SK_ERR_SIZE);
    rig.node.driver_memory = NULL;
    expect_probe(SK_ERR_SIZE);
    blk_rig_deinit(&rig);
}

static void test_virtio_blk_probe__options_out_of_range_are_invalid(void **state)
{
    static const struct {
        uint32_t count, size, segments;
    } bad[] = {
        { 0, 128, 16 }, { 65, 128, 16 }, { 1, 0, 16 }, { 1, 1, 16 },
        { 1, 65536, 1 }, { 1, 32769, 1 }, { 1, 128, 0 }, { 1, 128, 255 },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct sk_virtio_blk_options options = blk_rig_options();

        options.queue_count = bad[i].count;
        options.queue_size = bad[i].size;
        options.segment_count = bad[i].segments;
        blk_rig_init(&rig, NULL, &options);
        expect_probe(SK_ERR_INVALID);
        blk_rig_deinit(&rig);
    }
}

static void test_virtio_blk_probe__every_failing_platform_call_leaves_nothing(void **state)
{
    unsigned n;

    (void)state;
    for (n = 1; n < 100; n++) {
        enum sk_status status;

        blk_rig_init(&rig, NULL, NULL);
        rig.env.fail_call = n;
        status = blk_rig_probe(&rig);
        if (status == SK_OK) {
            rig.env.fail_call = 0;
            blk_rig_deinit(&rig);
            break;
        }
        assert_false(sk_device_node_is_bound(&rig.node));
        assert_false(sk_io_buffer_is_busy(&rig.buffer));
        blk_rig_deinit(&rig);
    }
    assert_true(n > 2 && n < 100); /* at least the registers and the interrupt */
}

static void test_virtio_blk_probe__through_the_manager_injects_and_frees(void **state)
{
    static uint8_t bookkeeping[8192];
    struct sk_device_manager manager;
    struct sk_device_manager_config config = { .platform = &rig.env.platform,
                                               .memory = bookkeeping,
                                               .memory_bytes = sizeof(bookkeeping),
                                               .private_arena = &rig.env.arena };
    struct sk_device_manager_summary summary;
    struct sk_device_node description;
    struct sk_device_node *node;

    (void)state;
    blk_rig_init(&rig, NULL, NULL);
    description = rig.node;
    description.dma_buffer = NULL;
    description.driver_memory = NULL;
    description.driver_memory_bytes = 0;
    assert_int_equal(sk_device_manager_init(&manager, &config), SK_OK);
    assert_int_equal(sk_device_manager_add_driver(&manager, &rig.driver), SK_OK);
    assert_int_equal(sk_device_manager_add_node(&manager, &description, &node), SK_OK);
    assert_int_equal(sk_device_manager_probe_all(&manager, &summary), SK_OK);
    assert_int_equal(summary.bound, 1);
    assert_non_null(node->dma_buffer);
    assert_non_null(sk_block_of_node(node));
    assert_ptr_equal(sk_device_manager_find_class(&manager, SK_DEVICE_CLASS_BLOCK, NULL), node);
    assert_int_equal(sk_device_manager_remove_all(&manager), SK_OK);
    assert_null(sk_block_of_node(node));
    blk_rig_deinit(&rig);
}

/* ---- Requests ---------------------------------------------------------------------------- */

static void test_virtio_blk_submit__write_then_read_returns_the_data(void **state)
{
    uint8_t *out;
    uint8_t *in;

    (void)state;
    blk_rig_start(&rig, NULL, NULL);
    out = test_environment_foreign(&rig.env, 0);
    in = test_environment_foreign(&rig.env, 2);
    for (size_t i = 0; i < 4096; i++) {
        out[i] = (uint8_t)(i * 7 + i / 256);
    }
    assert_int_equal(run_one(SK_BLOCK_WRITE, 100, 0, 4096), SK_OK);
    assert_int_equal(run_one(SK_BLOCK_READ, 100, 2, 4096), SK_OK);
    assert_memory_equal(in, out, 4096);
    assert_memory_equal(rig.fake->storage + 100 * 512, out, 4096);
    blk_rig_deinit(&rig);
}

static void test_virtio_blk_submit__flush_makes_writes_survive_power_loss(void **state)
{
    uint8_t *page;

    (void)state;
    blk_rig_start(&rig, NULL, NULL);
    page = test_environment_foreign(&rig.env, 0);
    memset(page, 0x11, 512);
    assert_int_equal(run_one(SK_BLOCK_WRITE, 1, 0, 512), SK_OK);
    assert_int_equal(run_one(SK_BLOCK_FLUSH, 0, 0, 0), SK_OK);
    memset(page, 0x22, 512);
    assert_int_equal(run_one(SK_BLOCK_WRITE, 2, 0, 512), SK_OK);
    fake_device_lose_power(rig.fake);
    assert_int_equal(rig.fake->storage[512], 0x11);
    assert_int_not_equal(rig.fake->storage[1024], 0x22);
    blk_rig_deinit(&rig);
}

static void test_virtio_blk_submit__flush_without_the_feature_is_said_honestly(void **state)
{
    struct fake_device_config config = default_config();
    struct sk_virtio_blk_options options = blk_rig_options();

    (void)state;
    /* Not offered: write-through, there is nothing to flush, and nothing is sent. */
    config.features &= ~(bit(SK_VIRTIO_BLK_F_FLUSH) | bit(SK_VIRTIO_BLK_F_CONFIG_WCE));
    blk_rig_start(&rig, &config, NULL);
    assert_int_equal(rig.disk->info.cache, SK_BLOCK_CACHE_WRITE_THROUGH);
    assert_int_equal(run_one(SK_BLOCK_FLUSH, 0, 0, 0), SK_OK);
    assert_int_equal(rig.fake->flushes, 0);
    blk_rig_deinit(&rig);
    /* Offered, but not accepted: a promise that cannot be kept. */
    options.features = ~bit(SK_VIRTIO_BLK_F_FLUSH);
    blk_rig_start(&rig, NULL, &options);
    assert_int_equal(run_one(SK_BLOCK_FLUSH, 0, 0, 0), SK_ERR_UNSUPPORTED);
    blk_rig_deinit(&rig);
}

static void test_virtio_blk_submit__get_id_needs_its_exact_size(void **state)
{
    (void)state;
    blk_rig_start(&rig, NULL, NULL);
    assert_int_equal(run_one(SK_BLOCK_GET_ID, 0, 0, SK_BLOCK_IDENTITY_BYTES), SK_OK);
    assert_string_equal((char *)test_environment_foreign(&rig.env, 0), "fake disk");
    assert_int_equal(run_one(SK_BLOCK_GET_ID, 0, 0, SK_BLOCK_IDENTITY_BYTES + 1), SK_ERR_INVALID);
    assert_int_equal(run_one(SK_BLOCK_GET_ID, 1, 0, SK_BLOCK_IDENTITY_BYTES), SK_ERR_INVALID);
    blk_rig_deinit(&rig);
}

static void test_virtio_blk_submit__identity_of_20_characters_is_terminated(void **state)
{
    struct fake_device_config config = default_config();

    (void)state;
    config.identity = "12345678901234567890";
    blk_rig_start(&rig, &config, NULL);
    assert_string_equal(rig.disk->info.identity, "12345678901234567890");
    blk_rig_deinit(&rig);
}

static void test_virtio_blk_submit__bad_requests_are_refused_by_status(void **state)
{
    struct blk_rig_request request;

    (void)state;
    blk_rig_start(&rig, NULL, NULL);
    assert_int_equal(run_one(SK_BLOCK_READ, 2048, 0, 512), SK_ERR_RANGE);
    assert_int_equal(run_one(SK_BLOCK_READ, 2047, 0, 1024), SK_ERR_RANGE);
    assert_int_equal(run_one(SK_BLOCK_READ, UINT64_MAX, 0, 512), SK_ERR_RANGE);
    assert_int_equal(run_one(SK_BLOCK_READ, UINT64_MAX - 1, 0, 1024), SK_ERR_RANGE);
    assert_int_equal(run_one(SK_BLOCK_READ, 0, 0, 511), SK_ERR_SIZE);
    assert_int_equal(run_one(SK_BLOCK_READ, 0, 0, 0), SK_ERR_SIZE);
    assert_int_equal(run_one(SK_BLOCK_FLUSH, 0, 0, 512), SK_ERR_INVALID);
    assert_int_equal(run_one(SK_BLOCK_FLUSH, 1, 0, 0), SK_ERR_INVALID);
    assert_int_equal(run_one((enum sk_block_operation)99, 0, 0, 512), SK_ERR_INVALID);
    /* A segment of no bytes among others. */
    blk_rig_prepare(&rig, &request, SK_BLOCK_READ, 0, 0, 512);
    {
        struct sk_dma_segment segments[2] = { request.segment, { request.segment.address, 0 } };

        request.request.segments = segments;
        request.request.segment_count = 2;
        blk_rig_submit(&rig, &request);
        assert_true(blk_rig_run(&rig, &request, POLLS));
        assert_int_equal(request.request.status, SK_ERR_SIZE);
    }
    /* No segments where there should be one. */
    blk_rig_prepare(&rig, &request, SK_BLOCK_READ, 0, 0, 512);
    request.request.segments = NULL;
    blk_rig_submit(&rig, &request);
    assert_true(blk_rig_run(&rig, &request, POLLS));
    assert_int_equal(request.request.status, SK_ERR_SIZE);
    assert_int_equal(rig.queue->statistics.refused, 11);
    assert_int_equal(rig.fake->requests, 1); /* the identity, at the probe */
    assert_int_equal(run_one(SK_BLOCK_READ, 2047, 0, 512), SK_OK);
    blk_rig_deinit(&rig);
}

static void test_virtio_blk_submit__read_only_disk_refuses_writes_here(void **state)
{
    struct fake_device_config config = default_config();

    (void)state;
    config.features |= bit(SK_VIRTIO_BLK_F_RO);
    blk_rig_start(&rig, &config, NULL);
    assert_true(rig.disk->info.read_only);
    assert_int_equal(run_one(SK_BLOCK_WRITE, 0, 0, 512), SK_ERR_READ_ONLY);
    assert_int_equal(rig.fake->writes, 0);
    assert_int_equal(run_one(SK_BLOCK_READ, 0, 0, 512), SK_OK);
    blk_rig_deinit(&rig);
}

static void test_virtio_blk_submit__large_blocks_are_the_unit(void **state)
{
    struct fake_device_config config = default_config();

    (void)state;
    config.blk_size = 4096;
    blk_rig_start(&rig, &config, NULL);
    assert_int_equal(rig.disk->info.block_bytes, 4096);
    assert_int_equal(run_one(SK_BLOCK_READ, 0, 0, 512), SK_ERR_SIZE);
    assert_int_equal(run_one(SK_BLOCK_READ, 1, 0, 4096), SK_ERR_INVALID);
    assert_int_equal(run_one(SK_BLOCK_READ, 8, 0, 4096), SK_OK);
    blk_rig_deinit(&rig);
}

static void test_virtio_blk_submit__device_errors_arrive(void **state)
{
    (void)state;
    blk_rig_start(&rig, NULL, NULL);
    fake_device_bad_sectors(rig.fake, 10, 1);
    assert_int_equal(run_one(SK_BLOCK_READ, 10, 0, 512), SK_ERR_IO);
    assert_int_equal(run_one(SK_BLOCK_READ, 11, 0, 512), SK_OK);
    assert_int_equal(rig.queue->statistics.errors[SK_ERR_IO], 1);
    assert_int_equal(sk_block_get_state(rig.disk), SK_BLOCK_STATE_READY);
    blk_rig_deinit(&rig);
}

/* ---- Batches and depth ------------------------------------------------------------------- */

#define MANY 1000u
static struct blk_rig_request many[MANY];
static struct sk_block_request *pointers[MANY];

static void prepare_many(size_t count)
{
    for (size_t i = 0; i < count; i++) {
        blk_rig_prepare(&rig, &many[i], SK_BLOCK_READ, i, i, 512);
        pointers[i] = &many[i].request;
    }
}

static void expect_many(size_t count, enum sk_status expected)
{
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(many[i].completions, 1);
        assert_int_equal(many[i].request.status, expected);
    }
}

static void test_virtio_blk_submit__batch_is_one_notification(void **state)
{
    struct fake_device_config config = default_config();
    uint32_t completed;
    uint64_t before;

    (void)state;
    config.deferred = true;
    blk_rig_start(&rig, &config, NULL);
    before = rig.fake->notifications;
    prepare_many(32);
    sk_block_submit(rig.queue, pointers, 32);
    assert_int_equal(rig.fake->notifications, before + 1);
    assert_int_equal(fake_device_run(rig.fake, UINT_MAX), 32);
    assert_int_equal(sk_block_poll(rig.queue, 10, &completed), SK_OK);
    assert_int_equal(completed, 10);
    assert_int_equal(sk_block_poll(rig.queue, 0, &completed), SK_OK);
    assert_int_equal(completed, 22);
    expect_many(32, SK_OK);
    blk_rig_deinit(&rig);
}

static void test_virtio_blk_submit__more_than_the_queue_holds_waits_its_turn(void **state)
{
    struct fake_device_config config = default_config();
    struct sk_virtio_blk_options options = blk_rig_options();

    (void)state;
    config.deferred = true;
    config.order = FAKE_ORDER_RANDOM;
    config.seed = 7;
    options.queue_size = 16;
    blk_rig_start(&rig, &config, &options);
    prepare_many(MANY);
    sk_block_submit(rig.queue, pointers, MANY);
    assert_int_equal(rig.fake->in_flight, 16);
    for (unsigned i = 0; i < POLLS && rig.queue->statistics.requests < MANY + 1; i++) {
        (void)fake_device_run(rig.fake, 5);
        assert_int_equal(sk_block_poll(rig.queue, 3, NULL), SK_OK);
    }
    expect_many(MANY, SK_OK);
    blk_rig_deinit(&rig);
}

static unsigned chain_left;

static void submit_next(struct sk_block_request *request)
{
    struct sk_block_request *again = request;

    assert_int_equal(sk_block_poll(rig.queue, 0, NULL), SK_ERR_BUSY);
    assert_int_equal(sk_block_wait(rig.queue, UINT64_MAX), SK_ERR_BUSY);
    assert_int_equal(sk_block_recover(rig.disk, 0), SK_ERR_BUSY);
    assert_int_equal(sk_block_flush(rig.queue, 0), SK_ERR_BUSY);
    if (chain_left > 0) {
        chain_left--;
        sk_block_submit(rig.queue, &again, 1);
    }
}

static void test_virtio_blk_poll__callback_may_submit_but_not_poll(void **state)
{
    struct blk_rig_request request;

    (void)state;
    blk_rig_start(&rig, NULL, NULL);
    blk_rig_prepare(&rig, &request, SK_BLOCK_READ, 0, 0, 512);
    request.request.complete = submit_next;
    chain_left = 50;
    blk_rig_submit(&rig, &request);
    for (unsigned i = 0; i < 200; i++) {
        assert_int_equal(sk_block_poll(rig.queue, 1, NULL), SK_OK);
    }
    assert_int_equal(chain_left, 0);
    assert_int_equal(rig.fake->reads, 51);
    blk_rig_deinit(&rig);
}

/* ---- Limits: splitting ------------------------------------------------------------------- */

/* Writes and reads 20 scattered segments of odd lengths under the device's limits. */
static void transfer_scattered(uint32_t seg_max, uint32_t size_max, bool indirect)
{
    struct fake_device_config config = default_config();
    struct sk_dma_segment segments[20];
    struct blk_rig_request request;
    uint32_t total = 0;

    config.seg_max = seg_max;
    config.size_max = size_max;
    config.features |= size_max == 0 ? 0 : bit(SK_VIRTIO_BLK_F_SIZE_MAX);
    config.features &= indirect ? UINT64_MAX : ~bit(SK_VIRTIO_F_INDIRECT_DESC);
    blk_rig_start(&rig, &config, NULL);
    blk_rig_prepare(&rig, &request, SK_BLOCK_WRITE, 7, 0, 512);
    for (uint32_t i = 0; i < 20; i++) {
        uint8_t *page = test_environment_foreign(&rig.env, i);

        segments[i].address = sk_daddr_make(blk_rig_address(&rig, i) + i);
        segments[i].bytes = i == 19 ? (512 - total % 512) % 512 + 512 : 300 + 173 * i % 3000;
        total += segments[i].bytes;
        for (uint32_t j = 0; j < segments[i].bytes; j++) {
            page[i + j] = (uint8_t)(i * 31 + j * 3 + j / 251);
        }
    }
    request.request.segments = segments;
    request.request.segment_count = 20;
    blk_rig_submit(&rig, &request);
    assert_true(blk_rig_run(&rig, &request, POLLS));
    assert_int_equal(request.request.status, SK_OK);
    assert_true(rig.fake->segments_most <= seg_max);
    assert_true(size_max == 0 || rig.fake->segment_longest <= size_max);
    for (uint32_t i = 0, at = 7 * 512; i < 20; at += segments[i].bytes, i++) {
        assert_memory_equal(rig.fake->storage + at,
                            (uint8_t *)test_environment_foreign(&rig.env, i) + i,
                            segments[i].bytes);
    }
    blk_rig_deinit(&rig);
}

static void test_virtio_blk_submit__limits_are_kept_by_splitting(void **state)
{
    /* Enough pieces for a block, whatever the segments' odd lengths. */
    static const struct {
        uint32_t seg_max, size_max;
    } limits[] = { { 3, 0 },  { 3, 4096 },  { 5, 513 },  { 5, 0 },   { 6, 256 },
                   { 6, 500 }, { 16, 256 }, { 16, 4096 }, { 254, 0 }, { 254, 513 } };

    (void)state;
    for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
        transfer_scattered(limits[i].seg_max, limits[i].size_max, true);
        transfer_scattered(limits[i].seg_max, limits[i].size_max, false);
    }
}

static void test_virtio_blk_submit__segments_too_small_for_a_block_are_unsupported(void **state)
{
    struct fake_device_config config = default_config();
    struct sk_dma_segment segments[512];
    struct blk_rig_request request;

    (void)state;
    config.seg_max = 1;
    blk_rig_start(&rig, &config, NULL);
    blk_rig_prepare(&rig, &request, SK_BLOCK_READ, 0, 0, 512);
    for (uint32_t i = 0; i < 512; i++) {
        segments[i] = (struct sk_dma_segment){ { blk_rig_address(&rig, 0) + i }, 1 };
    }
    request.request.segments = segments;
    request.request.segment_count = 512;
    blk_rig_submit(&rig, &request);
    assert_true(blk_rig_run(&rig, &request, POLLS));
    assert_int_equal(request.request.status, SK_ERR_UNSUPPORTED);
    assert_int_equal(run_one(SK_BLOCK_READ, 0, 0, 512), SK_OK);
    blk_rig_deinit(&rig);
}

static void test_virtio_blk_submit__error_in_one_part_fails_the_request_once(void **state)
{
    struct fake_device_config config = default_config();
    struct sk_virtio_blk_options options = blk_rig_options();

    (void)state;
    config.seg_max = 1;
    config.size_max = 512;
    config.features |= bit(SK_VIRTIO_BLK_F_SIZE_MAX);
    options.queue_size = 4;
    for (uint64_t bad = 0; bad < 8; bad++) {
        blk_rig_start(&rig, &config, &options);
        fake_device_bad_sectors(rig.fake, bad, 1);
        assert_int_equal(run_one(SK_BLOCK_READ, 0, 0, 4096), SK_ERR_IO);
        assert_int_equal(run_one(SK_BLOCK_READ, 8, 0, 4096), SK_OK);
        blk_rig_deinit(&rig);
    }
}

/* ---- Synchronous calls ------------------------------------------------------------------- */

static void test_virtio_blk_read__any_memory_of_any_length(void **state)
{
    struct fake_device_config config = default_config();
    uint8_t *memory;

    (void)state;
    config.capacity_sectors = 8192;
    blk_rig_start(&rig, &config, NULL);
    memory = test_environment_foreign(&rig.env, 0);
    for (size_t i = 0; i < 1048576 + 512; i++) {
        memory[i + 13] = (uint8_t)(i / 512 * 3 + i);
    }
    assert_int_equal(sk_block_write(rig.queue, 5, memory + 13, 1048576 + 512, 0), SK_OK);
    assert_memory_equal(rig.fake->storage + 5 * 512, memory + 13, 1048576 + 512);
    memset(memory, 0, 1048576 + 1024);
    assert_int_equal(sk_block_read(rig.queue, 5, memory + 13, 1048576 + 512, 0), SK_OK);
    assert_memory_equal(rig.fake->storage + 5 * 512, memory + 13, 1048576 + 512);
    assert_int_equal(sk_block_flush(rig.queue, 0), SK_OK);
    assert_int_equal(rig.fake->flushes, 1);
    blk_rig_deinit(&rig);
}

static void test_virtio_blk_read__blocks_larger_than_a_chunk(void **state)
{
    struct fake_device_config config = default_config();
    uint8_t *memory;

    (void)state;
    config.capacity_sectors = 8192;
    config.blk_size = 1048576;
    blk_rig_start(&rig, &config, NULL);
    memory = test_environment_foreign(&rig.env, 0);
    memset(memory, 0x3c, 2 * 1048576);
    assert_int_equal(sk_block_write(rig.queue, 2048, memory, 2 * 1048576, 0), SK_OK);
    assert_memory_equal(rig.fake->storage + 1048576, memory, 2 * 1048576);
    assert_int_equal(sk_block_read(rig.queue, 0, memory, 512, 0), SK_ERR_SIZE);
    blk_rig_deinit(&rig);
}

static void test_virtio_blk_read__odd_memory_through_few_segments(void **state)
{
    static const uint32_t seg_max[] = { 1, 2, 3 };

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        for (unsigned indirect = 0; indirect < 2; indirect++) {
            struct fake_device_config config = default_config();
            uint8_t *memory;

            config.seg_max = seg_max[i];
            config.features &= indirect ? UINT64_MAX : ~bit(SK_VIRTIO_F_INDIRECT_DESC);
            blk_rig_start(&rig, &config, NULL);
            memory = test_environment_foreign(&rig.env, 1);
            for (size_t j = 0; j < 65536; j++) {
                memory[j + 7] = (uint8_t)(j + j / 256);
            }
            assert_int_equal(sk_block_write(rig.queue, 3, memory + 7, 65536, 0), SK_OK);
            assert_memory_equal(rig.fake->storage + 3 * 512, memory + 7, 65536);
            memset(memory, 0, 65536 + 7);
            assert_int_equal(sk_block_read(rig.queue, 3, memory + 7, 65536, 0), SK_OK);
            assert_memory_equal(rig.fake->storage + 3 * 512, memory + 7, 65536);
            blk_rig_deinit(&rig);
        }
    }
}

static void test_virtio_blk_read__bad_arguments(void **state)
{
    uint8_t *memory;

    (void)state;
    blk_rig_start(&rig, NULL, NULL);
    memory = test_environment_foreign(&rig.env, 0);
    assert_int_equal(sk_block_read(rig.queue, 0, NULL, 512, 0), SK_ERR_INVALID);
    assert_int_equal(sk_block_read(rig.queue, 0, memory, 0, 0), SK_ERR_SIZE);
    assert_int_equal(sk_block_read(rig.queue, 0, memory, 100, 0), SK_ERR_SIZE);
    assert_int_equal(sk_block_read(rig.queue, 2048, memory, 512, 0), SK_ERR_RANGE);
    assert_int_equal(sk_block_write(rig.queue, 2047, memory, 1024, 0), SK_ERR_RANGE);
    blk_rig_deinit(&rig);
}

static void test_virtio_blk_read__deadline_stops_the_device_and_recover_brings_it_back(void **state)
{
    uint8_t *memory;

    (void)state;
    blk_rig_start(&rig, NULL, NULL);
    memory = test_environment_foreign(&rig.env, 0);
    fake_device_fault(rig.fake, FAKE_FAULT_STALL, 0, 0, FAKE_FOR_EVER);
    assert_int_equal(sk_block_read(rig.queue, 0, memory, 512, 5000000), SK_ERR_TIMEOUT);
    assert_int_equal(sk_block_get_state(rig.disk), SK_BLOCK_STATE_BROKEN);
    assert_int_equal(sk_block_read(rig.queue, 0, memory, 512, 5000000), SK_ERR_BROKEN);
    fake_device_behave(rig.fake);
    assert_int_equal(sk_block_recover(rig.disk, 0), SK_OK);
    assert_int_equal(sk_block_read(rig.queue, 0, memory, 512, 5000000), SK_OK);
    blk_rig_deinit(&rig);
}

/* ---- Waiting ----------------------------------------------------------------------------- */

static void test_virtio_blk_wait__sleeps_until_the_interrupt(void **state)
{
    struct fake_device_config config = default_config();

    (void)state;
    config.deferred = true;
    blk_rig_start(&rig, &config, NULL);
    assert_int_equal(run_one(SK_BLOCK_READ, 0, 0, 512), SK_OK);
    assert_true(rig.queue->statistics.waits > 0);
    assert_true(rig.fake->interrupts > 0);
    assert_true(rig.queue->statistics.interrupts > 0);
    blk_rig_deinit(&rig);
}

static void test_virtio_blk_wait__without_interrupts_looks_again(void **state)
{
    struct fake_device_config config = default_config();

    (void)state;
    config.deferred = true;
    blk_rig_init(&rig, &config, NULL);
    rig.env.platform.attach_interrupt = NULL;
    rig.env.platform.detach_interrupt = NULL;
    assert_int_equal(blk_rig_probe(&rig), SK_OK);
    assert_int_equal(run_one(SK_BLOCK_READ, 0, 0, 512), SK_OK);
    blk_rig_deinit(&rig);
}

static void test_virtio_blk_wait__nothing_to_come_times_out(void **state)
{
    uint64_t until;

    (void)state;
    blk_rig_start(&rig, NULL, NULL);
    until = rig.env.clock_ns + 1000000;
    assert_int_equal(sk_block_wait(rig.queue, until), SK_ERR_TIMEOUT);
    assert_true(rig.env.clock_ns >= until);
    blk_rig_deinit(&rig);
}

static void test_virtio_blk_poll__asks_for_no_interrupts(void **state)
{
    (void)state;
    blk_rig_start(&rig, NULL, NULL);
    rig.fake->interrupts = 0;
    for (unsigned i = 0; i < 100; i++) {
        struct blk_rig_request request;

        blk_rig_prepare(&rig, &request, SK_BLOCK_READ, 0, 0, 512);
        blk_rig_submit(&rig, &request);
        assert_int_equal(sk_block_poll(rig.queue, 0, NULL), SK_OK);
        assert_int_equal(request.completions, 1);
    }
    assert_int_equal(rig.fake->interrupts, 0);
    blk_rig_deinit(&rig);
}

/* ---- Every ring shape, past the wrap of the 16-bit indexes --------------------------------- */

static void wrap_around(unsigned shape, uint32_t queue_size)
{
    struct fake_device_config config = default_config();
    struct sk_virtio_blk_options options = blk_rig_options();
    struct blk_rig_request requests[4];
    struct sk_block_request *batch[4];

    config.legacy = shape & 1;
    config.features &= (shape & 2) != 0 ? UINT64_MAX : ~bit(SK_VIRTIO_F_INDIRECT_DESC);
    config.features &= (shape & 4) != 0 ? UINT64_MAX : ~bit(SK_VIRTIO_F_EVENT_IDX);
    config.features |= (shape & 8) != 0 ? bit(SK_VIRTIO_F_IN_ORDER) : 0;
    config.in_order_batch = 3;
    options.queue_size = queue_size;
    blk_rig_start(&rig, &config, &options);
    for (size_t i = 0; i < 4; i++) {
        blk_rig_prepare(&rig, &requests[i], SK_BLOCK_READ, i, i, 512);
        batch[i] = &requests[i].request;
    }
    for (unsigned round = 0; round < 70000 / 4; round++) {
        for (size_t i = 0; i < 4; i++) {
            requests[i].completions = 0;
        }
        sk_block_submit(rig.queue, batch, 4);
        for (unsigned i = 0; i < 8; i++) {
            assert_int_equal(sk_block_poll(rig.queue, 0, NULL), SK_OK);
        }
        for (size_t i = 0; i < 4; i++) {
            assert_int_equal(requests[i].completions, 1);
            assert_int_equal(requests[i].request.status, SK_OK);
        }
    }
    assert_true(rig.fake->requests > 65536);
    /* Waiting works beyond the wrap as well. */
    assert_int_equal(run_one(SK_BLOCK_READ, 0, 0, 512), SK_OK);
    blk_rig_deinit(&rig);
}

static void test_virtio_blk_ring__all_shapes_pass_the_wrap(void **state)
{
    static const uint32_t sizes[] = { 4, 8, 128, 256 };

    (void)state;
    for (size_t i = 0; i < 4; i++) {
        for (unsigned shape = 0; shape < 16; shape++) {
            wrap_around(shape, sizes[i]);
        }
    }
}

static void test_virtio_blk_probe__device_with_a_shorter_queue_is_followed(void **state)
{
    struct fake_device_config config = default_config();

    (void)state;
    config.queue_size_max = 16;
    blk_rig_start(&rig, &config, NULL);
    assert_int_equal(rig.disk->info.queue_size, 16);
    assert_int_equal(rig.disk->info.segment_count_max, 14); /* a chain is no longer than the queue */
    assert_int_equal(run_one(SK_BLOCK_READ, 0, 0, 512), SK_OK);
    blk_rig_deinit(&rig);
}

/* ---- Several queues ---------------------------------------------------------------------- */

static void test_virtio_blk_queues__each_works_alone(void **state)
{
    struct fake_device_config config = default_config();
    struct sk_virtio_blk_options options = blk_rig_options();

    (void)state;
    config.features |= bit(SK_VIRTIO_BLK_F_MQ);
    config.queue_count = 3;
    options.queue_count = 8;
    options.queue_size = 16;
    blk_rig_start(&rig, &config, &options);
    assert_int_equal(rig.disk->info.queue_count, 3);
    assert_null(sk_block_get_queue(rig.disk, 3));
    for (uint32_t i = 0; i < 3; i++) {
        rig.queue = sk_block_get_queue(rig.disk, i);
        assert_int_equal(run_one(SK_BLOCK_READ, i, 0, 512), SK_OK);
        assert_int_equal(rig.queue->statistics.requests, i == 0 ? 2 : 1);
    }
    blk_rig_deinit(&rig);
}

/* Two cores that write to the same line cost each other more than a request takes. */
static void test_virtio_blk_queues__are_on_cache_lines_of_their_own(void **state)
{
    struct fake_device_config config = default_config();
    struct sk_virtio_blk_options options = blk_rig_options();

    (void)state;
    config.features |= bit(SK_VIRTIO_BLK_F_MQ);
    config.queue_count = 3;
    options.queue_count = 3;
    blk_rig_start(&rig, &config, &options);
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal((uintptr_t)sk_block_get_queue(rig.disk, i) % 64, 0);
    }
    blk_rig_deinit(&rig);
}

static void test_virtio_blk_queues__a_fault_on_one_ends_the_requests_of_all(void **state)
{
    struct fake_device_config config = default_config();
    struct sk_virtio_blk_options options = blk_rig_options();
    struct blk_rig_request requests[2];

    (void)state;
    config.features |= bit(SK_VIRTIO_BLK_F_MQ);
    config.queue_count = 2;
    config.deferred = true;
    options.queue_count = 2;
    blk_rig_start(&rig, &config, &options);
    for (uint32_t i = 0; i < 2; i++) {
        rig.queue = sk_block_get_queue(rig.disk, i);
        blk_rig_prepare(&rig, &requests[i], SK_BLOCK_READ, i, i, 512);
        blk_rig_submit(&rig, &requests[i]);
    }
    fake_device_forge_used(rig.fake, 0, 77, 0);
    assert_int_equal(sk_block_poll(sk_block_get_queue(rig.disk, 0), 0, NULL), SK_ERR_BROKEN);
    assert_int_equal(requests[0].completions, 1);
    assert_int_equal(requests[1].completions, 0); /* its owner has not polled */
    assert_int_equal(sk_block_poll(sk_block_get_queue(rig.disk, 1), 0, NULL), SK_ERR_BROKEN);
    assert_int_equal(requests[1].completions, 1);
    assert_int_equal(requests[1].request.status, SK_ERR_MALFORMED);
    assert_int_equal(sk_block_recover(rig.disk, 0), SK_OK);
    for (uint32_t i = 0; i < 2; i++) {
        rig.queue = sk_block_get_queue(rig.disk, i);
        assert_int_equal(run_one(SK_BLOCK_READ, i, 0, 512), SK_OK);
    }
    blk_rig_deinit(&rig);
}

/* ---- Life and death ---------------------------------------------------------------------- */

static void test_virtio_blk_remove__requests_in_flight_end_as_gone(void **state)
{
    struct fake_device_config config = default_config();

    (void)state;
    config.deferred = true;
    blk_rig_start(&rig, &config, NULL);
    prepare_many(200);
    sk_block_submit(rig.queue, pointers, 200);
    assert_int_equal(blk_rig_remove(&rig), SK_OK);
    for (size_t i = 0; i < 200; i++) {
        assert_int_equal(many[i].completions, 1);
        assert_int_equal(many[i].request.status, SK_ERR_GONE);
    }
    assert_false(sk_io_buffer_is_busy(&rig.buffer));
    blk_rig_deinit(&rig);
}

static void test_virtio_blk_remove__can_be_probed_again(void **state)
{
    (void)state;
    blk_rig_start(&rig, NULL, NULL);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(run_one(SK_BLOCK_READ, i, 0, 512), SK_OK);
        assert_int_equal(blk_rig_remove(&rig), SK_OK);
        assert_int_equal(blk_rig_probe(&rig), SK_OK);
    }
    blk_rig_deinit(&rig);
}

static void test_virtio_blk_stop__ends_requests_with_the_reason(void **state)
{
    struct fake_device_config config = default_config();
    struct blk_rig_request request;

    (void)state;
    config.deferred = true;
    blk_rig_start(&rig, &config, NULL);
    blk_rig_prepare(&rig, &request, SK_BLOCK_READ, 0, 0, 512);
    blk_rig_submit(&rig, &request);
    sk_block_stop(rig.disk, SK_ERR_IO);
    sk_block_stop(rig.disk, SK_ERR_TIMEOUT); /* stopped already: nothing happens */
    assert_int_equal(request.completions, 0);
    assert_int_equal(sk_block_poll(rig.queue, 0, NULL), SK_ERR_BROKEN);
    assert_int_equal(request.completions, 1);
    assert_int_equal(request.request.status, SK_ERR_IO);
    blk_rig_deinit(&rig);
}

static void test_virtio_blk_recover__of_a_healthy_device_works_too(void **state)
{
    struct fake_device_config config = default_config();

    (void)state;
    config.deferred = true;
    blk_rig_start(&rig, &config, NULL);
    prepare_many(200);
    sk_block_submit(rig.queue, pointers, 200);
    assert_int_equal(sk_block_recover(rig.disk, 0), SK_OK);
    expect_many(200, SK_ERR_BROKEN);
    assert_int_equal(rig.queue->statistics.recoveries, 1);
    assert_int_equal(run_one(SK_BLOCK_READ, 0, 0, 512), SK_OK);
    blk_rig_deinit(&rig);
}

static void test_virtio_blk_capacity__change_is_seen_and_honoured(void **state)
{
    (void)state;
    blk_rig_start(&rig, NULL, NULL);
    fake_device_set_capacity(rig.fake, 100);
    assert_int_equal(sk_block_poll(rig.queue, 0, NULL), SK_OK);
    assert_int_equal(rig.disk->info.capacity_sectors, 100);
    assert_int_equal(run_one(SK_BLOCK_READ, 100, 0, 512), SK_ERR_RANGE);
    fake_device_set_capacity(rig.fake, 2000);
    assert_int_equal(sk_block_poll(rig.queue, 0, NULL), SK_OK);
    assert_int_equal(run_one(SK_BLOCK_READ, 1999, 0, 512), SK_OK);
    blk_rig_deinit(&rig);
}

static void test_virtio_blk_statistics__count_what_happened(void **state)
{
    struct sk_block_statistics statistics;

    (void)state;
    blk_rig_start(&rig, NULL, NULL);
    assert_int_equal(run_one(SK_BLOCK_WRITE, 0, 0, 1024), SK_OK);
    assert_int_equal(run_one(SK_BLOCK_READ, 0, 0, 512), SK_OK);
    sk_block_get_statistics(rig.queue, &statistics);
    assert_int_equal(statistics.requests, 3); /* and the identity */
    assert_int_equal(statistics.parts, 3);
    assert_int_equal(statistics.bytes_written, 1024);
    assert_int_equal(statistics.bytes_read, 512);
    assert_int_equal(statistics.notifications, rig.fake->notifications);
    assert_true(statistics.polls >= 3);
    blk_rig_deinit(&rig);
}

static void test_virtio_blk_feature_name__known_and_unknown_bits(void **state)
{
    (void)state;
    assert_string_equal(sk_virtio_blk_feature_name(SK_VIRTIO_BLK_F_FLUSH), "FLUSH");
    assert_string_equal(sk_virtio_blk_feature_name(SK_VIRTIO_F_VERSION_1), "VERSION_1");
    assert_null(sk_virtio_blk_feature_name(3));
    assert_null(sk_virtio_blk_feature_name(63));
    assert_null(sk_virtio_blk_feature_name(64));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_virtio_blk_probe__default_device_is_described),
        cmocka_unit_test(test_virtio_blk_probe__size_max_of_0_is_no_limit),
        cmocka_unit_test(test_virtio_blk_probe__legacy_device_works),
        cmocka_unit_test(test_virtio_blk_probe__legacy_refused_when_not_wanted),
        cmocka_unit_test(test_virtio_blk_probe__missing_buffer_is_invalid),
        cmocka_unit_test(test_virtio_blk_probe__destroyed_buffer_is_invalid),
        cmocka_unit_test(test_virtio_blk_probe__small_buffer_is_refused),
        cmocka_unit_test(test_virtio_blk_probe__misaligned_buffer_is_refused),
        cmocka_unit_test(test_virtio_blk_probe__small_driver_memory_is_refused),
        cmocka_unit_test(test_virtio_blk_probe__options_out_of_range_are_invalid),
        cmocka_unit_test(test_virtio_blk_probe__every_failing_platform_call_leaves_nothing),
        cmocka_unit_test(test_virtio_blk_probe__through_the_manager_injects_and_frees),
        cmocka_unit_test(test_virtio_blk_probe__device_with_a_shorter_queue_is_followed),
        cmocka_unit_test(test_virtio_blk_submit__write_then_read_returns_the_data),
        cmocka_unit_test(test_virtio_blk_submit__flush_makes_writes_survive_power_loss),
        cmocka_unit_test(test_virtio_blk_submit__flush_without_the_feature_is_said_honestly),
        cmocka_unit_test(test_virtio_blk_submit__get_id_needs_its_exact_size),
        cmocka_unit_test(test_virtio_blk_submit__identity_of_20_characters_is_terminated),
        cmocka_unit_test(test_virtio_blk_submit__bad_requests_are_refused_by_status),
        cmocka_unit_test(test_virtio_blk_submit__read_only_disk_refuses_writes_here),
        cmocka_unit_test(test_virtio_blk_submit__large_blocks_are_the_unit),
        cmocka_unit_test(test_virtio_blk_submit__device_errors_arrive),
        cmocka_unit_test(test_virtio_blk_submit__batch_is_one_notification),
        cmocka_unit_test(test_virtio_blk_submit__more_than_the_queue_holds_waits_its_turn),
        cmocka_unit_test(test_virtio_blk_poll__callback_may_submit_but_not_poll),
        cmocka_unit_test(test_virtio_blk_submit__limits_are_kept_by_splitting),
        cmocka_unit_test(test_virtio_blk_submit__segments_too_small_for_a_block_are_unsupported),
        cmocka_unit_test(test_virtio_blk_submit__error_in_one_part_fails_the_request_once),
        cmocka_unit_test(test_virtio_blk_read__any_memory_of_any_length),
        cmocka_unit_test(test_virtio_blk_read__blocks_larger_than_a_chunk),
        cmocka_unit_test(test_virtio_blk_read__odd_memory_through_few_segments),
        cmocka_unit_test(test_virtio_blk_read__bad_arguments),
        cmocka_unit_test(
            test_virtio_blk_read__deadline_stops_the_device_and_recover_brings_it_back),
        cmocka_unit_test(test_virtio_blk_wait__sleeps_until_the_interrupt),
        cmocka_unit_test(test_virtio_blk_wait__without_interrupts_looks_again),
        cmocka_unit_test(test_virtio_blk_wait__nothing_to_come_times_out),
        cmocka_unit_test(test_virtio_blk_poll__asks_for_no_interrupts),
        cmocka_unit_test(test_virtio_blk_ring__all_shapes_pass_the_wrap),
        cmocka_unit_test(test_virtio_blk_queues__each_works_alone),
        cmocka_unit_test(test_virtio_blk_queues__are_on_cache_lines_of_their_own),
        cmocka_unit_test(test_virtio_blk_queues__a_fault_on_one_ends_the_requests_of_all),
        cmocka_unit_test(test_virtio_blk_remove__requests_in_flight_end_as_gone),
        cmocka_unit_test(test_virtio_blk_remove__can_be_probed_again),
        cmocka_unit_test(test_virtio_blk_stop__ends_requests_with_the_reason),
        cmocka_unit_test(test_virtio_blk_recover__of_a_healthy_device_works_too),
        cmocka_unit_test(test_virtio_blk_capacity__change_is_seen_and_honoured),
        cmocka_unit_test(test_virtio_blk_statistics__count_what_happened),
        cmocka_unit_test(test_virtio_blk_feature_name__known_and_unknown_bits),
    };

    return cmocka_run_group_tests_name("virtio_blk", tests, NULL, NULL);
}
