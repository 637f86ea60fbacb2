/* SPDX-License-Identifier: MIT */
/* Waiting: by interrupt, by looking, and by looking first; and interrupts that stay off meanwhile. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "support/blk_rig.h"

#define SPIN_NS 20000u

static struct blk_rig rig;

/* Number of looks at the clock until the device is done; NEVER: it is not. */
static unsigned patience;

#define NEVER 1000000u

static uint64_t bit(unsigned number)
{
    return SK_VIRTIO_FEATURE(number);
}

static const uint64_t shapes[] = {
    0,
    SK_VIRTIO_FEATURE(SK_VIRTIO_F_EVENT_IDX),
    SK_VIRTIO_FEATURE(SK_VIRTIO_F_RING_PACKED),
    SK_VIRTIO_FEATURE(SK_VIRTIO_F_RING_PACKED) | SK_VIRTIO_FEATURE(SK_VIRTIO_F_EVENT_IDX),
    SK_VIRTIO_FEATURE(SK_VIRTIO_F_RING_PACKED) | SK_VIRTIO_FEATURE(SK_VIRTIO_F_INDIRECT_DESC),
    SK_VIRTIO_FEATURE(SK_VIRTIO_F_IN_ORDER) | SK_VIRTIO_FEATURE(SK_VIRTIO_F_INDIRECT_DESC),
    SK_VIRTIO_FEATURE(SK_VIRTIO_F_IN_ORDER) | SK_VIRTIO_FEATURE(SK_VIRTIO_F_RING_PACKED) |
        SK_VIRTIO_FEATURE(SK_VIRTIO_F_EVENT_IDX),
};

#define SHAPES (sizeof(shapes) / sizeof(shapes[0]))

static void start(uint64_t shape, bool deferred)
{
    struct fake_device_config config = FAKE_DEVICE_CONFIG_DEFAULT;

    config.features &= ~(bit(SK_VIRTIO_F_EVENT_IDX) | bit(SK_VIRTIO_F_INDIRECT_DESC));
    config.features |= shape;
    config.deferred = deferred;
    blk_rig_start(&rig, &config, NULL);
}

static void work(void *context)
{
    if (patience != NEVER && patience-- == 0) {
        (void)fake_device_run(context, UINT_MAX);
        patience = NEVER;
    }
}

/* Submits a read that the device finishes at the n-th look at the clock. */
static void submit_for(struct blk_rig_request *request, unsigned looks)
{
    blk_rig_prepare(&rig, request, SK_BLOCK_READ, 0, 0, 512);
    blk_rig_submit(&rig, request);
    patience = looks;
    rig.env.on_clock = work;
    rig.env.on_clock_context = rig.fake;
}

static void expect_done(struct blk_rig_request *request)
{
    rig.env.on_clock = NULL;
    assert_int_equal(sk_block_poll(rig.queue, 0, NULL), SK_OK);
    assert_int_equal(request->completions, 1);
    assert_int_equal(request->request.status, SK_OK);
}

static void test_virtio_blk_wait_hybrid__a_fast_device_is_not_slept_for(void **state)
{
    (void)state;
    for (size_t i = 0; i < SHAPES; i++) {
        struct blk_rig_request request;
        uint64_t interrupts;

        start(shapes[i], true);
        interrupts = rig.fake->interrupts;
        rig.env.waits = 0;
        submit_for(&request, 20);
        assert_int_equal(sk_block_wait_hybrid(rig.queue, SPIN_NS, UINT64_MAX), SK_OK);
        expect_done(&request);
        assert_int_equal(rig.env.waits, 0);
        assert_int_equal(rig.fake->interrupts, interrupts); /* off while it looks */
        assert_int_equal(rig.queue->statistics.spins, 1);
        assert_int_equal(rig.queue->statistics.spins_enough, 1);
        blk_rig_deinit(&rig);
    }
}

static void test_virtio_blk_wait_hybrid__a_slow_device_is_slept_for(void **state)
{
    (void)state;
    for (size_t i = 0; i < SHAPES; i++) {
        struct blk_rig_request request;
        uint64_t begin;

        start(shapes[i], true);
        rig.env.waits = 0;
        submit_for(&request, NEVER);
        begin = rig.env.clock_ns;
        assert_int_equal(sk_block_wait_hybrid(rig.queue, SPIN_NS, UINT64_MAX), SK_OK);
        assert_true(rig.env.clock_ns - begin >= SPIN_NS);
        assert_true(rig.env.clock_ns - begin < SPIN_NS + 5000); /* the device works when it sleeps */
        expect_done(&request);
        assert_int_equal(rig.env.waits, 1);
        assert_int_equal(rig.queue->statistics.spins, 1);
        assert_int_equal(rig.queue->statistics.spins_enough, 0);
        blk_rig_deinit(&rig);
    }
}

static void test_virtio_blk_wait_hybrid__ends_in_time(void **state)
{
    struct blk_rig_request request;
    uint64_t begin;

    (void)state;
    start(shapes[1], true);
    rig.env.on_wait = NULL;
    submit_for(&request, NEVER);
    begin = rig.env.clock_ns;
    assert_int_equal(sk_block_wait_hybrid(rig.queue, UINT64_MAX, begin + 50000), SK_ERR_TIMEOUT);
    assert_true(rig.env.clock_ns >= begin + 50000 && rig.env.clock_ns < begin + 55000);
    assert_int_equal(sk_block_wait_hybrid(rig.queue, SPIN_NS, begin), SK_ERR_TIMEOUT);
    assert_int_equal(sk_block_wait_hybrid(rig.queue, SPIN_NS, 0), SK_ERR_TIMEOUT);
    rig.env.on_clock = NULL;
    (void)fake_device_run(rig.fake, UINT_MAX);
    expect_done(&request);
    blk_rig_deinit(&rig);
}

/* A deadline is not looked over for the sake of looking at the ring. */
static void test_virtio_blk_wait_hybrid__sees_deadlines(void **state)
{
    struct blk_rig_request request;
    uint64_t begin;

    (void)state;
    start(shapes[1], true);
    rig.env.on_wait = NULL;
    begin = rig.env.clock_ns;
    blk_rig_prepare(&rig, &request, SK_BLOCK_READ, 0, 0, 512);
    request.request.deadline_ns = begin + 30000;
    blk_rig_submit(&rig, &request);
    assert_int_equal(sk_block_wait_hybrid(rig.queue, UINT64_MAX, UINT64_MAX), SK_OK);
    assert_true(rig.env.clock_ns < begin + 35000);
    assert_int_equal(sk_block_poll(rig.queue, 0, NULL), SK_ERR_BROKEN);
    assert_int_equal(request.request.status, SK_ERR_TIMEOUT);
    blk_rig_deinit(&rig);
}

static void test_virtio_blk_wait_hybrid__what_is_there_already_needs_no_time(void **state)
{
    struct blk_rig_request request;
    uint64_t looks;

    (void)state;
    start(shapes[1], false);
    blk_rig_prepare(&rig, &request, SK_BLOCK_READ, 5000, 0, 512); /* refused */
    blk_rig_submit(&rig, &request);
    looks = rig.env.clock_looks;
    assert_int_equal(sk_block_wait_hybrid(rig.queue, SPIN_NS, UINT64_MAX), SK_OK);
    assert_int_equal(rig.env.clock_looks, looks + 1);
    assert_int_equal(sk_block_poll(rig.queue, 0, NULL), SK_OK);
    assert_int_equal(request.request.status, SK_ERR_RANGE);
    blk_rig_deinit(&rig);
}

static void wait_inside(struct sk_block_request *request)
{
    SK_CONTAINER_OF(request, struct blk_rig_request, request)->completions++;
    assert_int_equal(sk_block_wait_hybrid(rig.queue, SPIN_NS, UINT64_MAX), SK_ERR_BUSY);
}

static void test_virtio_blk_wait_hybrid__not_from_a_callback(void **state)
{
    struct blk_rig_request request;

    (void)state;
    start(shapes[1], false);
    blk_rig_prepare(&rig, &request, SK_BLOCK_READ, 0, 0, 512);
    request.request.complete = wait_inside;
    blk_rig_submit(&rig, &request);
    assert_int_equal(sk_block_poll(rig.queue, 0, NULL), SK_OK);
    assert_int_equal(request.completions, 1);
    assert_int_equal(rig.queue->statistics.spins, 0);
    blk_rig_deinit(&rig);
}

/* ---- Interrupts off ---------------------------------------------------------------------- */

/* Polls through `count` requests and expects that the device raised no interrupt. */
static void expect_quiet(unsigned count, unsigned batch)
{
    uint64_t before = rig.fake->interrupts;

    for (unsigned done = 0; done < count; done += batch) {
        struct blk_rig_request requests[16];

        for (unsigned i = 0; i < batch; i++) {
            blk_rig_prepare(&rig, &requests[i], SK_BLOCK_READ, i, i, 512);
            blk_rig_submit(&rig, &requests[i]);
        }
        (void)fake_device_run(rig.fake, UINT_MAX);
        assert_int_equal(sk_block_poll(rig.queue, 0, NULL), SK_OK);
        assert_int_equal(requests[batch - 1].completions, 1);
        assert_int_equal(sk_block_poll(rig.queue, 0, NULL), SK_OK); /* finds nothing */
    }
    assert_int_equal(rig.fake->interrupts, before);
}

static void test_virtio_blk_interrupts_off__after_every_path(void **state)
{
    (void)state;
    for (size_t i = 0; i < SHAPES; i++) {
        struct blk_rig_request request;

        start(shapes[i], true);
        expect_quiet(100, 4); /* after the probe */
        submit_for(&request, NEVER);
        assert_int_equal(sk_block_wait(rig.queue, UINT64_MAX), SK_OK); /* slept, and was woken */
        expect_done(&request);
        expect_quiet(100, 4);
        rig.env.on_wait = NULL;
        submit_for(&request, NEVER);
        assert_int_equal(sk_block_wait(rig.queue, rig.env.clock_ns + 10000), SK_ERR_TIMEOUT);
        rig.env.on_clock = NULL;
        {
            uint64_t before = rig.fake->interrupts;

            (void)fake_device_run(rig.fake, UINT_MAX);
            expect_done(&request);
            assert_int_equal(rig.fake->interrupts, before);
        }
        expect_quiet(100, 4);
        submit_for(&request, NEVER);
        (void)fake_device_run(rig.fake, UINT_MAX);
        assert_int_equal(sk_block_wait(rig.queue, UINT64_MAX), SK_OK); /* it was there already */
        expect_done(&request);
        expect_quiet(100, 4);
        submit_for(&request, 3);
        assert_int_equal(sk_block_wait_hybrid(rig.queue, SPIN_NS, UINT64_MAX), SK_OK);
        expect_done(&request);
        expect_quiet(100, 4);
        assert_int_equal(sk_block_arm(rig.queue), SK_OK);
        assert_int_equal(sk_block_poll(rig.queue, 0, NULL), SK_OK); /* back from elsewhere */
        expect_quiet(100, 4);
        blk_rig_prepare(&rig, &request, SK_BLOCK_READ, 0, 0, 512);
        blk_rig_submit(&rig, &request);
        (void)fake_device_run(rig.fake, UINT_MAX);
        assert_int_equal(sk_block_arm(rig.queue), SK_ERR_AGAIN);
        expect_done(&request);
        expect_quiet(100, 4);
        sk_block_stop(rig.disk, SK_ERR_IO);
        rig.env.on_wait = work; /* for the identity */
        rig.env.on_wait_context = rig.fake;
        patience = 0;
        assert_int_equal(sk_block_recover(rig.disk, 0), SK_OK);
        expect_quiet(100, 4);
        rig.env.on_wait = NULL;
        blk_rig_deinit(&rig);
    }
}

/* An event index that asks for nothing lies behind, and would come round after 65,536. */
static void test_virtio_blk_interrupts_off__past_the_wrap_of_the_index(void **state)
{
    (void)state;
    for (size_t i = 0; i < SHAPES; i++) {
        start(shapes[i], true);
        expect_quiet(150000, 15);
        blk_rig_deinit(&rig);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_virtio_blk_wait_hybrid__a_fast_device_is_not_slept_for),
        cmocka_unit_test(test_virtio_blk_wait_hybrid__a_slow_device_is_slept_for),
        cmocka_unit_test(test_virtio_blk_wait_hybrid__ends_in_time),
        cmocka_unit_test(test_virtio_blk_wait_hybrid__sees_deadlines),
        cmocka_unit_test(test_virtio_blk_wait_hybrid__what_is_there_already_needs_no_time),
        cmocka_unit_test(test_virtio_blk_wait_hybrid__not_from_a_callback),
        cmocka_unit_test(test_virtio_blk_interrupts_off__after_every_path),
        cmocka_unit_test(test_virtio_blk_interrupts_off__past_the_wrap_of_the_index),
    };

    return cmocka_run_group_tests_name("virtio_blk_wait", tests, NULL, NULL);
}
