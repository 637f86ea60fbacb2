/* SPDX-License-Identifier: MIT */
/* A queue that is reset alone: its requests come back, and the others do not notice. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>

#include "support/blk_rig.h"

#define COUNT 8u

static struct blk_rig rig;
static struct blk_rig_request requests[COUNT];

static uint64_t bit(unsigned number)
{
    return SK_VIRTIO_FEATURE(number);
}

static void start(unsigned shape, uint64_t features)
{
    struct fake_device_config config = FAKE_DEVICE_CONFIG_DEFAULT;
    struct sk_virtio_blk_options options = blk_rig_options();

    config.features |= features | bit(SK_VIRTIO_BLK_F_MQ);
    config.features |= (shape & 1) != 0 ? bit(SK_VIRTIO_F_RING_PACKED) : 0;
    config.features |= (shape & 4) != 0 ? bit(SK_VIRTIO_F_IN_ORDER) : 0;
    config.in_order_batch = 3;
    config.features &= (shape & 2) != 0 ? UINT64_MAX : ~bit(SK_VIRTIO_F_INDIRECT_DESC);
    config.queue_count = 2;
    config.deferred = true;
    config.queue_size_max = 16;
    options.queue_count = 2;
    blk_rig_start(&rig, &config, &options);
    for (uint32_t i = 0; i < COUNT; i++) {
        blk_rig_prepare(&rig, &requests[i], SK_BLOCK_READ, i, i, 512);
    }
}

static void submit(uint32_t from, uint32_t count)
{
    for (uint32_t i = from; i < from + count; i++) {
        requests[i].completions = 0;
        blk_rig_submit(&rig, &requests[i]);
    }
}

static void expect(uint32_t from, uint32_t count, enum sk_status status)
{
    for (unsigned poll = 0; poll < 20; poll++) {
        assert_int_equal(sk_block_poll(rig.queue, 0, NULL), SK_OK);
        (void)fake_device_run(rig.fake, UINT_MAX);
    }
    for (uint32_t i = from; i < from + count; i++) {
        assert_int_equal(requests[i].completions, 1);
        assert_int_equal(requests[i].request.status, status);
    }
}

static void test_block_reset_queue__constants_are_the_headers(void **state)
{
    (void)state;
    assert_int_equal(SK_VIRTIO_F_RING_RESET, VIRTIO_F_RING_RESET);
    assert_int_equal(SK_VIRTIO_F_RING_PACKED, VIRTIO_F_RING_PACKED);
    assert_int_equal(SK_VIRTIO_F_IN_ORDER, VIRTIO_F_IN_ORDER);
    assert_int_equal(SK_VIRTIO_F_ORDER_PLATFORM, VIRTIO_F_ORDER_PLATFORM);
}

static void test_block_reset_queue__requests_come_back_and_others_go_on(void **state)
{
    (void)state;
    for (unsigned shape = 0; shape < 8; shape++) {
        struct sk_block_queue *first;

        start(shape, bit(SK_VIRTIO_F_RING_RESET));
        first = rig.queue;
        for (unsigned round = 0; round < 20; round++) {
            submit(0, 3);
            rig.queue = sk_block_get_queue(rig.disk, 1);
            submit(3, 2);
            rig.queue = first;
            assert_int_equal(sk_block_reset_queue(rig.queue), SK_OK);
            assert_int_equal(requests[0].completions, 0); /* at the next poll */
            assert_int_equal(rig.fake->queue_resets, round + 1);
            expect(0, 3, SK_ERR_BROKEN);
            submit(5, 3);
            (void)fake_device_run(rig.fake, UINT_MAX);
            expect(5, 3, SK_OK);
            rig.queue = sk_block_get_queue(rig.disk, 1);
            expect(3, 2, SK_OK);
            rig.queue = first;
        }
        assert_int_equal(sk_block_get_state(rig.disk), SK_BLOCK_STATE_READY);
        blk_rig_deinit(&rig);
    }
}

static void test_block_reset_queue__what_waits_goes_to_the_device(void **state)
{
    (void)state;
    start(0, bit(SK_VIRTIO_F_RING_RESET)); /* 5 slots */
    submit(0, COUNT);
    assert_int_equal(sk_block_reset_queue(rig.queue), SK_OK);
    expect(0, 5, SK_ERR_BROKEN);
    expect(5, COUNT - 5, SK_OK);
    blk_rig_deinit(&rig);
}

static void test_block_reset_queue__that_never_ends_stops_the_device(void **state)
{
    (void)state;
    for (unsigned shape = 0; shape < 8; shape++) {
        start(shape, bit(SK_VIRTIO_F_RING_RESET));
        submit(0, 3);
        fake_device_fault(rig.fake, FAKE_FAULT_QUEUE_RESET, 0, 0, FAKE_FOR_EVER);
        assert_int_equal(sk_block_reset_queue(rig.queue), SK_ERR_TIMEOUT);
        assert_int_equal(sk_block_get_state(rig.disk), SK_BLOCK_STATE_BROKEN);
        assert_int_equal(sk_block_poll(rig.queue, 0, NULL), SK_ERR_BROKEN);
        assert_int_equal(requests[0].completions, 1);
        assert_int_equal(requests[0].request.status, SK_ERR_TIMEOUT);
        assert_int_equal(sk_block_reset_queue(rig.queue), SK_ERR_BROKEN);
        fake_device_behave(rig.fake);
        assert_int_equal(sk_block_recover(rig.disk, 0), SK_OK);
        submit(0, 3);
        (void)fake_device_run(rig.fake, UINT_MAX);
        expect(0, 3, SK_OK);
        blk_rig_deinit(&rig);
    }
}

/* The device is broken, and comes back. */
static void expect_broken(void)
{
    assert_int_equal(sk_block_poll(rig.queue, 0, NULL), SK_ERR_BROKEN);
    assert_int_equal(sk_block_get_state(rig.disk), SK_BLOCK_STATE_BROKEN);
    assert_int_equal(sk_block_recover(rig.disk, 0), SK_OK);
}

/* What the device had before a reset of the queue is nobody's afterwards, as long as it likes. */
static void test_hostile_49__answers_after_the_reset_of_a_queue(void **state)
{
    (void)state;
    for (unsigned shape = 0; shape < 8; shape++) {
        for (unsigned later = 0; later < 2; later++) {
            start(shape, bit(SK_VIRTIO_F_RING_RESET));
            for (uint32_t id = 0; id < 16; id++) {
                submit(0, 3);
                assert_int_equal(sk_block_reset_queue(rig.queue), SK_OK);
                assert_int_equal(sk_block_poll(rig.queue, 0, NULL), SK_OK);
                assert_int_equal(requests[0].request.status, SK_ERR_BROKEN);
                if (later) { /* others are at the device, perhaps in the same slots */
                    submit(3, 3);
                }
                fake_device_forge_used(rig.fake, 0, id, 513);
                expect_broken();
                for (uint32_t i = 0; i < (later ? 6 : 3); i++) {
                    assert_int_equal(requests[i].completions, 1);
                    assert_int_not_equal(requests[i].request.status, SK_OK);
                }
            }
            submit(0, 3);
            (void)fake_device_run(rig.fake, UINT_MAX);
            expect(0, 3, SK_OK);
            blk_rig_deinit(&rig);
        }
    }
}

/* The queue that was meant is at work still, so nothing of it may end before the device stops. */
static void test_hostile_50__another_queue_is_reset(void **state)
{
    (void)state;
    for (unsigned shape = 0; shape < 8; shape++) {
        struct sk_block_queue *first;

        start(shape, bit(SK_VIRTIO_F_RING_RESET));
        first = rig.queue;
        submit(0, 3);
        rig.queue = sk_block_get_queue(rig.disk, 1);
        submit(3, 2);
        rig.queue = first;
        fake_device_fault(rig.fake, FAKE_FAULT_QUEUE_RESET_OTHER, 1, 0, 1);
        assert_int_equal(sk_block_reset_queue(rig.queue), SK_ERR_MALFORMED);
        assert_int_equal(rig.fake->status, 0);
        for (uint32_t i = 0; i < 5; i++) {
            assert_int_equal(requests[i].completions, 0);
        }
        assert_int_equal(sk_block_poll(sk_block_get_queue(rig.disk, 1), 0, NULL), SK_ERR_BROKEN);
        expect_broken();
        for (uint32_t i = 0; i < 5; i++) {
            assert_int_equal(requests[i].completions, 1);
            assert_int_equal(requests[i].request.status, SK_ERR_MALFORMED);
        }
        submit(0, 3);
        (void)fake_device_run(rig.fake, UINT_MAX);
        expect(0, 3, SK_OK);
        blk_rig_deinit(&rig);
    }
}

static void test_block_reset_queue__without_the_feature_is_unsupported(void **state)
{
    (void)state;
    start(0, 0);
    submit(0, 1);
    assert_int_equal(sk_block_reset_queue(rig.queue), SK_ERR_UNSUPPORTED);
    (void)fake_device_run(rig.fake, UINT_MAX);
    expect(0, 1, SK_OK);
    blk_rig_deinit(&rig);
}

static enum sk_status inside;

static void reset_inside(struct sk_block_request *request)
{
    inside = sk_block_reset_queue(rig.queue);
    SK_CONTAINER_OF(request, struct blk_rig_request, request)->completions++;
}

static void test_block_reset_queue__from_a_callback_is_busy(void **state)
{
    (void)state;
    start(1, bit(SK_VIRTIO_F_RING_RESET));
    requests[0].request.complete = reset_inside;
    submit(0, 1);
    (void)fake_device_run(rig.fake, UINT_MAX);
    expect(0, 1, SK_OK);
    assert_int_equal(inside, SK_ERR_BUSY);
    blk_rig_deinit(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_block_reset_queue__constants_are_the_headers),
        cmocka_unit_test(test_block_reset_queue__requests_come_back_and_others_go_on),
        cmocka_unit_test(test_block_reset_queue__what_waits_goes_to_the_device),
        cmocka_unit_test(test_block_reset_queue__that_never_ends_stops_the_device),
        cmocka_unit_test(test_hostile_49__answers_after_the_reset_of_a_queue),
        cmocka_unit_test(test_hostile_50__another_queue_is_reset),
        cmocka_unit_test(test_block_reset_queue__without_the_feature_is_unsupported),
        cmocka_unit_test(test_block_reset_queue__from_a_callback_is_busy),
    };

    return cmocka_run_group_tests_name("block_reset_queue", tests, NULL, NULL);
}
