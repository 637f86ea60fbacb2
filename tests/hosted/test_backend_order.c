/* SPDX-License-Identifier: MIT */
/* IN_ORDER of our back end: who is offered it, and which requests share a used entry. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <skio_hosted/backend.h>

#include "descriptors.h"
#include "front_end.h"

#define BIT(bit) SK_VIRTIO_FEATURE(bit)
#define SIZE     16u
#define COUNT    8u
#define NOTHING  0xfeu /* what no used entry says */

static char folder[] = "/tmp/skio-order-XXXXXX";
static char socket_path[64];
static unsigned before;
static struct front_end front;
static struct sk_backend *backend;

static int set_up(void **state)
{
    (void)state;
    before = descriptors_count();
    strcpy(folder + sizeof(folder) - 7, "XXXXXX");
    if (mkdtemp(folder) == NULL) {
        return -1;
    }
    (void)snprintf(socket_path, sizeof(socket_path), "%s/socket", folder);
    front_end_init(&front);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    front_end_close(&front);
    sk_backend_stop(backend);
    backend = NULL;
    (void)rmdir(folder);
    return descriptors_count() == before ? 0 : -1;
}

static struct sk_backend_options null_store(void)
{
    struct sk_backend_options options;

    sk_backend_options_init(&options);
    options.address = socket_path;
    options.capacity_sectors = 4096;
    return options;
}

static void start(const struct sk_backend_options *options, uint64_t features)
{
    char error[SK_BACKEND_ERROR_BYTES];

    assert_int_equal(sk_backend_start(options, &backend, error), SK_OK);
    front_end_start(&front, socket_path, features, 1, SIZE);
}

static void submit(uint32_t type, uint32_t bytes)
{
    struct front_queue *queue = &front.queues[0];

    for (uint32_t i = 0; i < COUNT; i++) {
        front_end_submit(queue, i, type, i * 8, bytes);
    }
    front_end_publish(queue); /* all at once */
}

/* Waits until the back end has told of all. */
static void wait_for_all(void)
{
    struct front_queue *queue = &front.queues[0];
    uint64_t until = ski_vhost_user_now() + FRONT_WAIT_NS;

    while (queue->packed ? !ski_ring_packed_is_used(&queue->packed_ring)
                         : ski_door_load16(queue->split.used + SKI_RING_IDX) != COUNT) {
        assert_true(ski_vhost_user_now() < until);
        (void)usleep(1000);
    }
    for (uint32_t i = 0; i < COUNT; i++) {
        assert_int_equal(front_end_status(queue, i), FRONT_OK);
        queue->slots[i].out = false;
    }
    queue->out = 0;
}

/* The ids of the used elements, as written from the ring's start on. */
static void expect_ids(const uint32_t *ids)
{
    const struct ski_ring_split *ring = &front.queues[0].split;

    for (uint32_t i = 0; i < COUNT; i++) {
        assert_int_equal(ski_door_load32(&ring->used_elements[i].id), ids[i]);
    }
}

static void poison_elements(void)
{
    for (uint32_t i = 0; i < SIZE; i++) {
        ski_door_store32(&front.queues[0].split.used_elements[i].id, NOTHING);
    }
}

static void test_backend_order__split_writes_share_an_entry(void **state)
{
    const uint32_t ids[COUNT] = { 7, NOTHING, NOTHING, NOTHING, NOTHING, NOTHING, NOTHING, NOTHING };
    struct sk_backend_options options = null_store();

    (void)state;
    start(&options, BIT(SK_VIRTIO_F_IN_ORDER) | BIT(SK_VIRTIO_F_INDIRECT_DESC));
    poison_elements();
    submit(FRONT_WRITE, 512);
    wait_for_all();
    expect_ids(ids);
}

/* The null store writes no data, so it may not be silent about what it read. */
static void test_backend_order__reads_that_wrote_less_have_their_own(void **state)
{
    const uint32_t ids[COUNT] = { 0, 1, 2, 3, 4, 5, 6, 7 };
    struct sk_backend_options options = null_store();

    (void)state;
    start(&options, BIT(SK_VIRTIO_F_IN_ORDER) | BIT(SK_VIRTIO_F_INDIRECT_DESC));
    poison_elements();
    submit(FRONT_READ, 512);
    wait_for_all();
    expect_ids(ids);
}

static void test_backend_order__whole_reads_share_one(void **state)
{
    const uint32_t ids[COUNT] = { 7, NOTHING, NOTHING, NOTHING, NOTHING, NOTHING, NOTHING, NOTHING };
    struct sk_backend_options options = null_store();

    (void)state;
    options.null_zeroes = true;
    start(&options, BIT(SK_VIRTIO_F_IN_ORDER) | BIT(SK_VIRTIO_F_INDIRECT_DESC));
    poison_elements();
    submit(FRONT_READ, 512);
    wait_for_all();
    expect_ids(ids);
}

static void test_backend_order__not_wanted_means_an_entry_each(void **state)
{
    const uint32_t ids[COUNT] = { 0, 1, 2, 3, 4, 5, 6, 7 };
    struct sk_backend_options options = null_store();

    (void)state;
    start(&options, BIT(SK_VIRTIO_F_INDIRECT_DESC));
    poison_elements();
    submit(FRONT_WRITE, 512);
    wait_for_all();
    expect_ids(ids);
}

/* One descriptor for all, where the first one was; chains of three with and one with tables. */
static void test_backend_order__packed_writes_share_a_descriptor(void **state)
{
    static const uint64_t tables[] = { 0, BIT(SK_VIRTIO_F_INDIRECT_DESC) };

    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        struct sk_backend_options options = null_store();
        struct front_queue *queue = &front.queues[0];
        struct ski_ring_packed *ring = &queue->packed_ring;
        char error[SK_BACKEND_ERROR_BYTES];

        assert_int_equal(sk_backend_start(&options, &backend, error), SK_OK);
        front_end_start(&front, socket_path,
                        BIT(SK_VIRTIO_F_IN_ORDER) | BIT(SK_VIRTIO_F_RING_PACKED) | tables[i], 1,
                        3 * SIZE);
        submit(FRONT_WRITE, 512);
        wait_for_all();
        assert_int_equal(ski_ring_packed_id(ring), 7);
        for (uint32_t chain = 0; chain < COUNT; chain++) {
            assert_int_equal(ski_ring_packed_is_used(ring), chain == 0);
            ski_ring_packed_skip(ring, i == 0 ? 3 : 1);
        }
        assert_int_equal(front_end_run(queue, FRONT_WRITE, 0, 512), FRONT_OK); /* goes on behind */
        front_end_disconnect(&front);
        sk_backend_stop(backend);
        backend = NULL;
    }
}

/* What holds requests back answers in any order, and cannot promise one. */
static void test_backend_order__is_not_offered_by_who_shuffles(void **state)
{
    static const struct sk_backend_fault hold = { .kind = SK_BACKEND_HOLD, .value = 3 };

    (void)state;
    for (unsigned shuffles = 0; shuffles < 2; shuffles++) {
        struct sk_backend_options options = null_store();
        char error[SK_BACKEND_ERROR_BYTES];
        uint64_t offered;

        options.faults = &hold;
        options.fault_count = shuffles;
        assert_int_equal(sk_backend_start(&options, &backend, error), SK_OK);
        front_end_connect(&front, socket_path);
        offered = front_end_ask(&front, SKI_VHOST_USER_GET_FEATURES);
        assert_int_equal(offered >> SK_VIRTIO_F_IN_ORDER & 1, !shuffles);
        front_end_disconnect(&front);
        sk_backend_stop(backend);
        backend = NULL;
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_backend_order__split_writes_share_an_entry),
        TEST(test_backend_order__reads_that_wrote_less_have_their_own),
        TEST(test_backend_order__whole_reads_share_one),
        TEST(test_backend_order__not_wanted_means_an_entry_each),
        TEST(test_backend_order__packed_writes_share_a_descriptor),
        TEST(test_backend_order__is_not_offered_by_who_shuffles),
    };

    return cmocka_run_group_tests_name("backend_order", tests, NULL, NULL);
}
