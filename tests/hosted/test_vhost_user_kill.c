/* SPDX-License-Identifier: MIT */
/*
 * The driver on a back end of our own that is killed at random moments and
 * started again.  Two threads keep two queues full; each block says where it
 * belongs and which write was its last one.  No request fails, and no read
 * finds anything but what was acknowledged last.
 */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <skio/skio.h>
#include <skio_hosted/vhost_user.h>

#include "backend_process.h"
#include "descriptors.h"

#define SECOND UINT64_C(1000000000)
#define BLOCK  4096u
#define BLOCKS 48u /* of each queue: few, so that each is written often */
#define DEPTH  24u
#define QUEUES 2u
#define KILLS  50u /* for each kind of ring */

static struct backend_process backend;
static struct sk_vhost_user_disk *disk;
static struct sk_block_device *device;
static unsigned descriptors;
static _Atomic bool ends;

/* What one thread does, on a queue and blocks of its own. */
struct load {
    struct sk_block_queue *queue;
    struct sk_io_buffer buffer;
    struct sk_block_request requests[DEPTH];
    struct sk_dma_segment segments[DEPTH];
    uint32_t block[DEPTH];
    bool busy[DEPTH];
    bool block_busy[BLOCKS];
    uint64_t generation[BLOCKS]; /* acknowledged */
    uint64_t random;
    uint32_t in_flight;
    uint64_t done;
    uint64_t wrong;
    enum sk_status status; /* the first failure */
};

static struct load loads[QUEUES];

static uint32_t next_random(struct load *load, uint32_t below)
{
    load->random = load->random * UINT64_C(6364136223846793005) + 1442695040888963407;
    return (uint32_t)(load->random >> 33) % below;
}

static uint64_t word_of(const struct load *load, uint32_t block, uint64_t generation)
{
    return (uint64_t)load->queue->index << 56 | (uint64_t)block << 40 | generation;
}

static uint64_t *words(struct load *load, uint32_t slot)
{
    return (uint64_t *)(void *)((uint8_t *)sk_io_buffer_data(&load->buffer) + slot * BLOCK);
}

static void look(struct load *load, uint32_t slot)
{
    uint32_t block = load->block[slot];
    uint64_t generation = load->generation[block];
    uint64_t expected = generation == 0 ? 0 : word_of(load, block, generation);

    for (uint32_t i = 0; i < BLOCK / 8; i++) {
        if (words(load, slot)[i] != expected) {
            load->wrong++;
            return;
        }
    }
}

static void done(struct sk_block_request *request)
{
    struct load *load = request->context;
    uint32_t slot = (uint32_t)(request - load->requests);

    if (request->status != SK_OK && load->status == SK_OK) {
        load->status = request->status;
    }
    if (request->operation == SK_BLOCK_WRITE) {
        load->generation[load->block[slot]]++;
    } else {
        look(load, slot);
    }
    load->busy[slot] = false;
    load->block_busy[load->block[slot]] = false;
    load->in_flight--;
    load->done++;
}

static void submit(struct load *load, uint32_t slot)
{
    struct sk_block_request *request = &load->requests[slot];
    uint32_t block = next_random(load, BLOCKS);

    while (load->block_busy[block]) {
        block = (block + 1) % BLOCKS;
    }
    load->block[slot] = block;
    load->block_busy[block] = true;
    load->busy[slot] = true;
    load->in_flight++;
    *request = (struct sk_block_request){
        .operation = next_random(load, 2) == 0 ? SK_BLOCK_READ : SK_BLOCK_WRITE,
        .sector = ((uint64_t)load->queue->index * BLOCKS + block) * (BLOCK / 512),
        .segments = &load->segments[slot],
        .segment_count = 1,
        .complete = done,
        .context = load,
    };
    for (uint32_t i = 0; i < BLOCK / 8; i++) {
        words(load, slot)[i] = request->operation == SK_BLOCK_WRITE
                                   ? word_of(load, block, load->generation[block] + 1)
                                   : UINT64_MAX;
    }
    sk_block_submit(load->queue, &request, 1);
}

/* Keeps the queue full, polling or sleeping; until the end, or a failure. */
static void *drive(void *argument)
{
    struct load *load = argument;

    while (load->status == SK_OK && (!ends || load->in_flight > 0)) {
        for (uint32_t slot = 0; slot < DEPTH && !ends; slot++) {
            if (!load->busy[slot]) {
                submit(load, slot);
            }
        }
        if (sk_block_poll(load->queue, 0, NULL) == SK_OK && next_random(load, 4) == 0 &&
            load->in_flight > 0 && sk_block_wait(load->queue, UINT64_MAX) != SK_OK) {
            break;
        }
    }
    while (load->in_flight > 0 && sk_block_poll(load->queue, 0, NULL) != SK_ERR_BUSY) {
    }
    return NULL;
}

static void open_disk(uint64_t without, uint64_t without_protocol,
                      enum sk_virtio_blk_recovery recovery)
{
    struct sk_vhost_user_disk_options options = SK_VHOST_USER_DISK_OPTIONS_DEFAULT;
    char error[SK_VHOST_USER_ERROR_BYTES];

    options.driver.queue_count = QUEUES;
    options.driver.queue_size = 64;
    options.driver.features = ~without;
    options.driver.timeout_ns = 600 * SECOND; /* bounds that end what would hang */
    options.driver.recovery = recovery;
    options.vhost_user.reconnect_ns = 600 * SECOND;
    options.vhost_user.message_ns = 60 * SECOND;
    options.vhost_user.protocol_features = ~without_protocol;
    options.process.log_level = SK_LOG_ERROR;
    if (sk_vhost_user_disk_open(backend.socket, &options, &disk, error) != SK_OK) {
        fail_msg("%s", error);
    }
    device = sk_vhost_user_disk_device(disk);
    assert_int_equal(device->info.queue_count, QUEUES);
    for (uint32_t i = 0; i < QUEUES; i++) {
        struct load *load = &loads[i];

        memset(load, 0, sizeof(*load));
        load->queue = sk_block_get_queue(device, i);
        load->random = 77 + i;
        assert_int_equal(sk_io_buffer_create(&load->buffer, device->domain, DEPTH * BLOCK, BLOCK),
                         SK_OK);
        for (uint32_t slot = 0; slot < DEPTH; slot++) {
            assert_int_equal(sk_io_buffer_segment(&load->buffer, slot * BLOCK, BLOCK,
                                                  &load->segments[slot]),
                             SK_OK);
        }
    }
}

/* Every block is what was acknowledged last. */
static void expect_all(void)
{
    for (uint32_t i = 0; i < QUEUES; i++) {
        struct load *load = &loads[i];

        assert_int_equal(load->status, SK_OK);
        assert_int_equal(load->in_flight, 0);
        for (uint32_t block = 0; block < BLOCKS; block++) {
            load->block[0] = block;
            assert_int_equal(sk_block_read(load->queue,
                                           ((uint64_t)i * BLOCKS + block) * (BLOCK / 512),
                                           words(load, 0), BLOCK, 0),
                             SK_OK);
            look(load, 0);
        }
        assert_int_equal(load->wrong, 0);
        assert_int_equal(sk_io_buffer_destroy(&load->buffer), SK_OK);
    }
}

static int set_up(void **state)
{
    (void)state;
    descriptors = descriptors_count();
    ends = false;
    disk = NULL;
    backend_process_init(&backend, QUEUES * BLOCKS * BLOCK);
    backend.queues = QUEUES;
    backend_process_start(&backend);
    return 0;
}

static int tear_down(void **state)
{
    bool closed = sk_vhost_user_disk_close(disk) == SK_OK;

    (void)state;
    backend_process_deinit(&backend);
    return closed && descriptors_count() == descriptors ? 0 : -1;
}

/* Waits until it was found again so often; it is, as long as a back end runs and nothing went wrong. */
static uint32_t wait_for_reconnects(uint32_t least)
{
    struct sk_vhost_user_info info;

    do {
        (void)usleep(1000);
        sk_vhost_user_get_info(sk_vhost_user_disk_transport(disk), &info);
    } while (info.reconnects < least && sk_block_get_state(device) == SK_BLOCK_STATE_READY);
    return info.reconnects;
}

static void kill_often(uint64_t without)
{
    pthread_t threads[QUEUES];
    uint32_t reconnects = 0;
    unsigned random = 4711;

    open_disk(without, 0, SK_VIRTIO_BLK_RECOVERY_FAIL);
    for (uint32_t i = 0; i < QUEUES; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, drive, &loads[i]), 0);
    }
    for (unsigned kills = 0; kills < KILLS; kills++) {
        random = random * 1103515245 + 12345;
        (void)usleep(random / 65536 % 30000);
        if (kills % 2 == 0 && kills > 0) { /* the others may meet a resumption */
            reconnects = wait_for_reconnects(reconnects + 1);
        }
        backend_process_kill(&backend);
        backend_process_start(&backend);
    }
    reconnects = wait_for_reconnects(reconnects + 1);
    ends = true;
    for (uint32_t i = 0; i < QUEUES; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    print_message("%u kills, %u resumptions, %llu requests\n", KILLS, reconnects,
                  (unsigned long long)(loads[0].done + loads[1].done));
    assert_in_range(reconnects, KILLS / 2, KILLS);
    assert_int_equal(sk_block_get_state(device), SK_BLOCK_STATE_READY);
    assert_int_equal(loads[0].queue->statistics.recoveries, 0);
    expect_all();
}

static void test_vhost_user_kill__packed_rings_lose_nothing(void **state)
{
    (void)state;
    kill_often(0);
    assert_true(device->info.features & SK_VIRTIO_FEATURE(SK_VIRTIO_F_RING_PACKED));
    assert_true(device->info.features & SK_VIRTIO_FEATURE(SK_VIRTIO_F_IN_ORDER));
}

static void test_vhost_user_kill__split_rings_lose_nothing(void **state)
{
    (void)state;
    kill_often(SK_VIRTIO_FEATURE(SK_VIRTIO_F_RING_PACKED));
    assert_false(device->info.features & SK_VIRTIO_FEATURE(SK_VIRTIO_F_RING_PACKED));
    assert_true(device->info.features & SK_VIRTIO_FEATURE(SK_VIRTIO_F_IN_ORDER));
}

static void test_vhost_user_kill__packed_rings_in_no_order_lose_nothing(void **state)
{
    (void)state;
    kill_often(SK_VIRTIO_FEATURE(SK_VIRTIO_F_IN_ORDER));
    assert_false(device->info.features & SK_VIRTIO_FEATURE(SK_VIRTIO_F_IN_ORDER));
}

static void test_vhost_user_kill__split_rings_in_no_order_lose_nothing(void **state)
{
    (void)state;
    kill_often(SK_VIRTIO_FEATURE(SK_VIRTIO_F_IN_ORDER) |
               SK_VIRTIO_FEATURE(SK_VIRTIO_F_RING_PACKED));
    assert_false(device->info.features & SK_VIRTIO_FEATURE(SK_VIRTIO_F_IN_ORDER));
}

static void test_vhost_user_kill__direct_chains_of_a_packed_ring_lose_nothing(void **state)
{
    (void)state;
    kill_often(SK_VIRTIO_FEATURE(SK_VIRTIO_F_INDIRECT_DESC));
    assert_false(device->info.features & SK_VIRTIO_FEATURE(SK_VIRTIO_F_INDIRECT_DESC));
}

/* Without a book of requests in flight: those that may be done twice wait for the recovery, and new ones. */
static void test_vhost_user_kill__resubmitted_without_inflight_memory(void **state)
{
    (void)state;
    open_disk(0, UINT64_C(1) << 12, SK_VIRTIO_BLK_RECOVERY_RESUBMIT);
    for (unsigned round = 0; round < 5; round++) {
        assert_int_equal(kill(backend.pid, SIGSTOP), 0);
        for (uint32_t i = 0; i < QUEUES; i++) {
            for (uint32_t slot = 0; slot < DEPTH / 2; slot++) {
                submit(&loads[i], slot);
            }
        }
        backend_process_kill(&backend);
        while (sk_block_get_state(device) != SK_BLOCK_STATE_BROKEN) {
            assert_int_not_equal(sk_block_poll(loads[0].queue, 0, NULL), SK_ERR_BUSY);
        }
        for (uint32_t i = 0; i < QUEUES; i++) { /* these come while nobody is there */
            uint32_t had = loads[i].in_flight; /* some may be done: SIGSTOP takes its time */

            for (uint32_t slot = DEPTH / 2; slot < DEPTH; slot++) {
                submit(&loads[i], slot);
            }
            assert_int_equal(sk_block_poll(loads[i].queue, 0, NULL), SK_ERR_BROKEN);
            assert_int_equal(loads[i].in_flight, had + DEPTH - DEPTH / 2);
        }
        backend_process_start(&backend);
        assert_int_equal(sk_block_recover(device, 0), SK_OK);
        for (uint32_t i = 0; i < QUEUES; i++) {
            while (loads[i].in_flight > 0) {
                assert_int_equal(sk_block_poll(loads[i].queue, 0, NULL), SK_OK);
            }
        }
    }
    assert_true(loads[0].queue->statistics.recoveries == 5);
    expect_all();
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(test_vhost_user_kill__packed_rings_lose_nothing),
        TEST(test_vhost_user_kill__split_rings_lose_nothing),
        TEST(test_vhost_user_kill__packed_rings_in_no_order_lose_nothing),
        TEST(test_vhost_user_kill__split_rings_in_no_order_lose_nothing),
        TEST(test_vhost_user_kill__direct_chains_of_a_packed_ring_lose_nothing),
        TEST(test_vhost_user_kill__resubmitted_without_inflight_memory),
    };

    if (argc > 1) {
        return backend_process_main(argc, argv);
    }
    return cmocka_run_group_tests_name("vhost_user_kill", tests, NULL, NULL);
}
