/* SPDX-License-Identifier: MIT */
/*
 * Case 32: the device is another thread.  Wrong fences show as requests that
 * are lost, doubled or completed without an answer, and under ThreadSanitizer
 * as races.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>
#include <pthread.h>
#include <sched.h>

#include "fake/fast_device.h"
#include "support/environment.h"

#define BASE     0x10001000u
#define DEPTH    32u
#define REQUESTS 20000u

struct bench {
    struct test_environment env;
    struct fast_device fast;
    struct sk_virtio_blk_options options;
    struct sk_driver driver;
    struct sk_io_buffer buffer;
    struct sk_device_range range;
    struct sk_device_node node;
    atomic_bool stop;
    pthread_t thread;
    _Alignas(64) uint8_t driver_memory[65536];
};

struct slot {
    struct sk_block_request request; /* first */
    bool done;
};

static void *run_device(void *argument)
{
    struct bench *bench = argument;

    while (!atomic_load_explicit(&bench->stop, memory_order_relaxed)) {
        if (fast_device_run(&bench->fast) == 0) {
            (void)sched_yield();
        }
    }
    return NULL;
}

static void run_once(void *context)
{
    (void)fast_device_run(context);
}

static void inject(struct bench *bench)
{
    struct sk_driver_needs needs;

    assert_int_equal(bench->driver.needs(&bench->driver, &bench->node, &needs), SK_OK);
    assert_true(needs.private_bytes <= sizeof(bench->driver_memory));
    assert_int_equal(sk_io_buffer_create_constrained(&bench->buffer, &bench->env.domain, &needs.dma),
                     SK_OK);
    bench->node.dma_buffer = &bench->buffer;
    bench->node.driver_memory = bench->driver_memory;
    bench->node.driver_memory_bytes = sizeof(bench->driver_memory);
}

/* The device works from the start of the probe: it has an identity to answer. */
static void start(struct bench *bench, uint64_t features)
{
    const struct sk_virtio_blk_options options = SK_VIRTIO_BLK_OPTIONS_DEFAULT;
    struct fast_device_config config = { .features = features,
                                         .capacity_sectors = 1000,
                                         .seg_max = 16,
                                         .polls = true };

    memset(bench, 0, sizeof(*bench));
    test_environment_init(&bench->env, 256);
    config.memory = bench->env.zone_memory;
    config.daddr = TEST_PADDR + TEST_DEVICE_OFFSET;
    config.bytes = bench->env.zone_bytes;
    fast_device_init(&bench->fast, &config);
    test_environment_add_mmio(&bench->env, BASE, &bench->fast.mmio);
    bench->options = options;
    bench->options.timeout_ns = UINT64_C(1000000000);
    bench->driver = sk_virtio_blk_mmio_driver;
    bench->driver.options = &bench->options;
    bench->range = (struct sk_device_range){ { BASE }, bench->fast.mmio.bytes };
    bench->node = (struct sk_device_node){ .name = "disk",
                                           .platform = &bench->env.platform,
                                           .ranges = &bench->range,
                                           .range_count = 1,
                                           .domain = &bench->env.domain };
    inject(bench);
}

static void finish(struct sk_block_request *request)
{
    struct slot *slot = (struct slot *)(void *)request;

    assert_false(slot->done);
    assert_int_equal(request->status, SK_OK);
    slot->done = true;
}

static void keep_busy(struct sk_block_queue *queue, const struct sk_dma_segment *segment)
{
    struct slot slots[DEPTH] = { { .done = true } };
    uint32_t submitted = 0;
    uint32_t completed = 0;

    for (unsigned i = 0; i < DEPTH; i++) {
        slots[i].done = true;
    }
    while (completed < REQUESTS) {
        uint32_t found;

        for (unsigned i = 0; i < DEPTH && submitted < REQUESTS; i++) {
            struct sk_block_request *request = &slots[i].request;

            if (!slots[i].done) {
                continue;
            }
            *request = (struct sk_block_request){ .operation = SK_BLOCK_READ,
                                                  .sector = i,
                                                  .segments = segment,
                                                  .segment_count = 1,
                                                  .complete = finish };
            slots[i].done = false;
            submitted++;
            sk_block_submit(queue, &request, 1);
        }
        assert_int_equal(sk_block_poll(queue, 0, &found), SK_OK);
        completed += found;
        if (found == 0) {
            (void)sched_yield();
        }
    }
    assert_int_equal(completed, REQUESTS);
}

static void run_with(uint64_t features)
{
    static struct bench bench;
    struct sk_block_device *disk;
    struct sk_dma_segment segment;
    struct sk_io_buffer data = SK_IO_BUFFER_EMPTY;

    start(&bench, features);
    assert_int_equal(sk_device_node_claim(&bench.node), SK_OK);
    /* Registers are not for two threads: during the probe the device runs when the driver waits. */
    bench.env.on_wait = run_once;
    bench.env.on_wait_context = &bench.fast;
    assert_int_equal(bench.driver.probe(&bench.driver, &bench.node), SK_OK);
    bench.env.on_wait = NULL;
    disk = sk_block_of_node(&bench.node);
    assert_non_null(disk);
    assert_int_equal(sk_io_buffer_create(&data, &bench.env.domain, 4096, 4096), SK_OK);
    assert_int_equal(sk_io_buffer_segment(&data, 0, 4096, &segment), SK_OK);
    assert_int_equal(pthread_create(&bench.thread, NULL, run_device, &bench), 0);
    keep_busy(sk_block_get_queue(disk, 0), &segment);
    atomic_store(&bench.stop, true);
    assert_int_equal(pthread_join(bench.thread, NULL), 0);
    assert_true(fast_device_completions(&bench.fast) >= REQUESTS);
    assert_int_equal(bench.driver.remove(&bench.driver, &bench.node), SK_OK);
    sk_device_node_unclaim(&bench.node);
    assert_int_equal(sk_io_buffer_destroy(&data), SK_OK);
    assert_int_equal(sk_io_buffer_destroy(&bench.buffer), SK_OK);
    test_environment_deinit(&bench.env);
}

static void test_hostile_32__device_in_another_thread(void **state)
{
    (void)state;
    run_with(0);
    run_with(SK_VIRTIO_FEATURE(SK_VIRTIO_F_INDIRECT_DESC));
    run_with(SK_VIRTIO_FEATURE(SK_VIRTIO_F_INDIRECT_DESC) |
             SK_VIRTIO_FEATURE(SK_VIRTIO_F_EVENT_IDX));
    run_with(SK_VIRTIO_FEATURE(SK_VIRTIO_F_INDIRECT_DESC) |
             SK_VIRTIO_FEATURE(SK_VIRTIO_F_IN_ORDER));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hostile_32__device_in_another_thread),
    };

    return cmocka_run_group_tests_name("hostile_threads", tests, NULL, NULL);
}
