/* SPDX-License-Identifier: MIT */
#include "fake/hostile_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void count_completion(struct sk_block_request *request)
{
    struct rig *rig = request->context;
    size_t i = (size_t)(request - rig->request);

    assert_true(i < RIG_REQUESTS);
    rig->completed[i]++;
    rig->in_flight--;
    assert_true(rig->completed[i] <= rig->submitted[i]);
    if ((request->status == SK_ERR_TIMEOUT || request->status == SK_ERR_BROKEN ||
         request->status == SK_ERR_MALFORMED) &&
        rig->fake->status != 0) {
        rig->unsafe++;
    }
}

static void add_node(struct rig *rig)
{
    struct sk_device_node node = { .name = "disk" };

    rig->range = (struct sk_device_range){ { RIG_BASE }, rig->fake->mmio.bytes };
    rig->interrupt = (struct sk_interrupt){ .controller = 1, .cell_count = 1, .cells = { RIG_LINE } };
    node.identity = (struct sk_device_identity){ .bus = SK_DEVICE_BUS_PLATFORM,
                                                 .compatible = "virtio,mmio",
                                                 .compatible_bytes = sizeof("virtio,mmio") };
    node.ranges = &rig->range;
    node.range_count = 1;
    node.interrupts = &rig->interrupt;
    node.interrupt_count = 1;
    node.domain = &rig->env.domain;
    assert_int_equal(sk_device_manager_add_node(&rig->manager, &node, &rig->node), SK_OK);
}

uint64_t rig_more_features;

void rig_open(struct rig *rig, const struct fake_device_config *config)
{
    static const struct fake_device_config default_config = FAKE_DEVICE_CONFIG_DEFAULT;
    const struct sk_virtio_blk_options options = SK_VIRTIO_BLK_OPTIONS_DEFAULT;
    struct sk_device_manager_config manager = { 0 };
    struct fake_device_config actual = config == NULL ? default_config : *config;

    memset(rig, 0, sizeof(*rig));
    test_environment_init(&rig->env, 192);
    rig->env.clock_step_ns = 100;
    actual.features |= rig_more_features;
    actual.in_order_batch = actual.in_order_batch == 0 ? 8 : actual.in_order_batch;
    rig->fake = fake_device_attach(&rig->env, RIG_BASE, RIG_LINE, &actual);
    rig->options = options;
    rig->options.queue_size = 64;
    rig->options.segment_count = RIG_SEGMENTS;
    rig->options.timeout_ns = RIG_TIMEOUT_NS;
    rig->options.control_timeout_ns = RIG_TIMEOUT_NS;
    rig->driver = sk_virtio_blk_mmio_driver;
    rig->driver.options = &rig->options;
    manager.platform = &rig->env.platform;
    manager.memory = rig->manager_memory;
    manager.memory_bytes = sizeof(rig->manager_memory);
    manager.private_arena = &rig->env.arena;
    assert_int_equal(sk_device_manager_init(&rig->manager, &manager), SK_OK);
    assert_int_equal(sk_device_manager_add_driver(&rig->manager, &rig->driver), SK_OK);
    add_node(rig);
}

enum sk_status rig_probe(struct rig *rig)
{
    enum sk_status status = sk_device_manager_probe(&rig->manager, rig->node);

    if (status != SK_OK) {
        assert_false(sk_device_node_is_bound(rig->node));
        return status;
    }
    rig->disk = sk_block_of_node(rig->node);
    assert_non_null(rig->disk);
    rig->queue = sk_block_get_queue(rig->disk, 0);
    assert_non_null(rig->queue);
    assert_int_equal(sk_io_buffer_create(&rig->buffer, &rig->env.domain,
                                         RIG_REQUESTS * RIG_DATA_BYTES, SK_IO_BUFFER_ALIGNMENT),
                     SK_OK);
    rig->data = sk_io_buffer_data(&rig->buffer);
    return SK_OK;
}

void rig_start(struct rig *rig, const struct fake_device_config *config)
{
    rig_open(rig, config);
    assert_int_equal(rig_probe(rig), SK_OK);
    rig_expect_state(rig, SK_BLOCK_STATE_READY);
}

void rig_stop(struct rig *rig)
{
    if (rig->disk != NULL) {
        assert_int_equal(sk_device_manager_remove(&rig->manager, rig->node), SK_OK);
        assert_int_equal(rig->fake->status, 0);
    }
    assert_int_equal(sk_io_buffer_destroy(&rig->buffer), SK_OK);
    assert_int_equal(rig->in_flight, 0);
    assert_int_equal(rig->unsafe, 0);
    fake_device_detach(rig->fake);
    test_environment_deinit(&rig->env);
}

void rig_stop_in_doubt(struct rig *rig)
{
    assert_int_equal(sk_device_manager_remove(&rig->manager, rig->node), SK_ERR_IN_DOUBT);
    assert_int_equal(sk_io_buffer_destroy(&rig->buffer), SK_OK);
    assert_int_equal(rig->in_flight, 0);
    assert_true(rig->env.domain.statistics.buffers_quarantined > 0);
    fake_device_detach(rig->fake);
    test_environment_abandon(&rig->env);
}

/* Cuts the data into segments of different lengths, if the disk leaves room for that. */
static uint32_t cut(struct rig *rig, unsigned i, uint32_t bytes)
{
    const struct sk_block_info *info = &rig->disk->info;
    bool odd = info->segment_count_max >= RIG_SEGMENTS && info->segment_bytes_max == 0;
    uint32_t offset = 0;
    uint32_t count = 0;

    while (offset < bytes) {
        uint32_t rest = bytes - offset;
        uint32_t piece = !odd || count + 1 == RIG_SEGMENTS || rest < 512 ? rest : 100 + 300 * count;

        assert_int_equal(sk_io_buffer_segment(&rig->buffer, i * RIG_DATA_BYTES + offset, piece,
                                              &rig->segment[i][count]),
                         SK_OK);
        offset += piece;
        count++;
    }
    return count;
}

void rig_submit(struct rig *rig, unsigned i, enum sk_block_operation operation, uint64_t sector,
                uint32_t sectors)
{
    struct sk_block_request *request = &rig->request[i];

    assert_true(sectors * 512 <= RIG_DATA_BYTES);
    assert_int_equal(rig->completed[i], rig->submitted[i]);
    *request = (struct sk_block_request){ .operation = operation,
                                          .sector = sector,
                                          .segments = rig->segment[i],
                                          .segment_count = cut(rig, i, sectors * 512),
                                          .complete = count_completion,
                                          .context = rig,
                                          .status = SK_STATUS_COUNT };
    rig->submitted[i]++;
    rig->in_flight++;
    sk_block_submit(rig->queue, (struct sk_block_request *const[]){ request }, 1);
}

void rig_settle(struct rig *rig)
{
    for (unsigned round = 0; rig->in_flight > 0 && round < RIG_ROUNDS_MAX; round++) {
        uint32_t completed;

        if (sk_block_poll(rig->queue, 0, &completed) == SK_OK && completed == 0) {
            enum sk_status status =
                sk_block_wait(rig->queue, rig->env.clock_ns + RIG_TIMEOUT_NS);

            assert_true(status == SK_OK || status == SK_ERR_TIMEOUT);
        }
    }
    assert_int_equal(rig->in_flight, 0);
    for (unsigned i = 0; i < RIG_REQUESTS; i++) {
        assert_int_equal(rig->completed[i], rig->submitted[i]);
        assert_true(rig->submitted[i] == 0 || rig->request[i].status < SK_STATUS_COUNT);
    }
}

enum sk_status rig_read(struct rig *rig, unsigned i)
{
    rig_submit(rig, i, SK_BLOCK_READ, i, 1);
    rig_settle(rig);
    return rig->request[i].status;
}

enum sk_status rig_poll(struct rig *rig)
{
    return sk_block_poll(rig->queue, 0, NULL);
}

enum sk_status rig_recover(struct rig *rig)
{
    return sk_block_recover(rig->disk, 0);
}

void rig_expect_state(const struct rig *rig, enum sk_block_state state)
{
    assert_string_equal(sk_block_state_name(sk_block_get_state(rig->disk)),
                        sk_block_state_name(state));
}

void rig_expect_works(struct rig *rig)
{
    static const uint32_t sectors = RIG_DATA_BYTES / 512;

    rig_expect_state(rig, SK_BLOCK_STATE_READY);
    for (unsigned i = 0; i < 4; i++) {
        memset(rig->data + i * RIG_DATA_BYTES, (int)(0x10 + i), RIG_DATA_BYTES);
        rig_submit(rig, i, SK_BLOCK_WRITE, i * sectors, sectors);
    }
    rig_settle(rig);
    rig_submit(rig, 4, SK_BLOCK_FLUSH, 0, 0);
    rig_settle(rig);
    assert_int_equal(rig->request[4].status, SK_OK);
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(rig->request[i].status, SK_OK);
        memset(rig->data + i * RIG_DATA_BYTES, 0xff, RIG_DATA_BYTES);
        rig_submit(rig, i, SK_BLOCK_READ, i * sectors, sectors);
    }
    rig_settle(rig);
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(rig->request[i].status, SK_OK);
        assert_int_equal(rig->data[i * RIG_DATA_BYTES], 0x10 + i);
        assert_int_equal(rig->data[(i + 1) * RIG_DATA_BYTES - 1], 0x10 + i);
    }
}

void rig_expect_recovers(struct rig *rig)
{
    fake_device_behave(rig->fake);
    rig_expect_state(rig, SK_BLOCK_STATE_BROKEN);
    assert_int_equal(sk_block_recover(rig->disk, 0), SK_OK);
    rig_expect_works(rig);
}
