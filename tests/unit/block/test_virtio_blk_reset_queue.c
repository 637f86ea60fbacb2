/* SPDX-License-Identifier: MIT */
/* One queue is reset while the device and its other queues go on (RING_RESET). */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "support/blk_rig.h"

#define MANY  24u
#define DEPTH 8u

static struct blk_rig rig;
static struct blk_rig_request many[MANY];
static struct blk_rig_request other;

/* A disk with two queues that does nothing until it is told. */
static void start(uint64_t with, uint64_t without, enum sk_virtio_blk_recovery recovery)
{
    struct fake_device_config config = FAKE_DEVICE_CONFIG_DEFAULT;
    struct sk_virtio_blk_options options = blk_rig_options();

    config.deferred = true;
    config.queue_count = 2;
    config.features |= SK_VIRTIO_FEATURE(SK_VIRTIO_BLK_F_MQ) |
                       SK_VIRTIO_FEATURE(SK_VIRTIO_F_RING_RESET) | with;
    config.features &= ~without;
    options.queue_count = 2;
    options.queue_size = DEPTH;
    options.recovery = recovery;
    memset(many, 0, sizeof(many));
    memset(&other, 0, sizeof(other));
    blk_rig_start(&rig, &config, &options);
    rig.env.on_wait = NULL;
}

static void submit_many(unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        blk_rig_prepare(&rig, &many[i], i % 2 == 0 ? SK_BLOCK_READ : SK_BLOCK_WRITE, 8 * i, i, 512);
        blk_rig_submit(&rig, &many[i]);
    }
}

static void submit_other(void)
{
    struct sk_block_request *request = &other.request;

    blk_rig_prepare(&rig, &other, SK_BLOCK_WRITE, 800, MANY, 512);
    sk_block_submit(sk_block_get_queue(rig.disk, 1), &request, 1);
}

/* Lets the device work until all of `count` are done. */
static void finish(unsigned count)
{
    for (unsigned round = 0; round < 64; round++) {
        (void)fake_device_run(rig.fake, UINT_MAX);
        assert_int_equal(sk_block_poll(rig.queue, 0, NULL), SK_OK);
        assert_int_equal(sk_block_poll(sk_block_get_queue(rig.disk, 1), 0, NULL), SK_OK);
    }
    for (unsigned i = 0; i < count; i++) {
        assert_int_equal(many[i].completions, 1);
    }
}

static void test_virtio_blk_reset_queue__what_may_be_repeated_goes_again_in_order(void **state)
{
    const uint64_t packed = SK_VIRTIO_FEATURE(SK_VIRTIO_F_RING_PACKED);
    const uint64_t in_order = SK_VIRTIO_FEATURE(SK_VIRTIO_F_IN_ORDER);
    const uint64_t shapes[] = { 0, packed, in_order, packed | in_order };

    (void)state;
    for (unsigned shape = 0; shape < 4; shape++) {
        struct sk_block_statistics statistics;

        start(shapes[shape], 0, SK_VIRTIO_BLK_RECOVERY_RESUBMIT);
        submit_many(MANY); /* more than fit: some wait */
        assert_int_equal(fake_device_run(rig.fake, 2), 2);
        assert_int_equal(sk_block_reset_queue(rig.queue), SK_OK);
        finish(MANY);
        for (unsigned i = 0; i < MANY; i++) {
            assert_int_equal(many[i].request.status, SK_OK);
        }
        sk_block_get_statistics(rig.queue, &statistics);
        assert_int_equal(statistics.resubmitted, DEPTH);
        assert_int_equal(statistics.recoveries, 0);
        blk_rig_deinit(&rig);
    }
}

static void test_virtio_blk_reset_queue__overdue_takes_its_queue_only(void **state)
{
    (void)state;
    start(0, 0, SK_VIRTIO_BLK_RECOVERY_FAIL);
    submit_other();
    blk_rig_prepare(&rig, &many[0], SK_BLOCK_READ, 0, 0, 512);
    many[0].request.deadline_ns = rig.env.clock_ns + 50000;
    blk_rig_submit(&rig, &many[0]);
    rig.env.clock_ns += 60000;
    assert_int_equal(sk_block_poll(rig.queue, 0, NULL), SK_OK);
    assert_int_equal(sk_block_poll(rig.queue, 0, NULL), SK_OK);
    assert_int_equal(many[0].completions, 1);
    assert_int_equal(many[0].request.status, SK_ERR_TIMEOUT);
    assert_int_equal(sk_block_get_state(rig.disk), SK_BLOCK_STATE_READY);
    assert_int_equal(rig.fake->queue_resets, 1);
    finish(0);
    assert_int_equal(other.request.status, SK_OK);
    assert_int_equal(other.completions, 1);
    blk_rig_deinit(&rig);
}

/* A device that offers the feature and has no such register goes on using the queue. */
static void test_virtio_blk_reset_queue__that_did_not_happen_stops_the_device(void **state)
{
    (void)state;
    start(0, 0, SK_VIRTIO_BLK_RECOVERY_FAIL);
    submit_many(2);
    fake_device_fault(rig.fake, FAKE_FAULT_QUEUE_RESET, 0, 0, UINT64_MAX);
    rig.fake->config.reset_register_missing = true;
    assert_int_equal(sk_block_reset_queue(rig.queue), SK_ERR_MALFORMED);
    assert_int_equal(many[0].completions, 0); /* nothing ends before the device is quiet */
    assert_int_equal(sk_block_get_state(rig.disk), SK_BLOCK_STATE_BROKEN);
    assert_int_equal(sk_block_poll(rig.queue, 0, NULL), SK_ERR_BROKEN);
    assert_int_equal(many[0].completions, 1);
    fake_device_behave(rig.fake);
    blk_rig_deinit(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_virtio_blk_reset_queue__what_may_be_repeated_goes_again_in_order),
        cmocka_unit_test(test_virtio_blk_reset_queue__overdue_takes_its_queue_only),
        cmocka_unit_test(test_virtio_blk_reset_queue__that_did_not_happen_stops_the_device),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
