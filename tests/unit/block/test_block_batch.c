/* SPDX-License-Identifier: MIT */
/* Batches: collected, told once, or withdrawn before the device saw any of them. */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "support/blk_rig.h"

#define COUNT 24u

static struct blk_rig rig;
static struct blk_rig_request requests[COUNT];

static uint64_t bit(unsigned number)
{
    return SK_VIRTIO_FEATURE(number);
}

/* Split or packed, with or without tables, in order or not; small rings, so that requests wait for slots. */
static struct fake_device_config shape_config(unsigned shape)
{
    struct fake_device_config config = FAKE_DEVICE_CONFIG_DEFAULT;

    config.features |= (shape & 1) != 0 ? bit(SK_VIRTIO_F_RING_PACKED) : 0;
    config.features |= (shape & 4) != 0 ? bit(SK_VIRTIO_F_IN_ORDER) : 0;
    config.in_order_batch = 3;
    config.features &= (shape & 2) != 0 ? UINT64_MAX : ~bit(SK_VIRTIO_F_INDIRECT_DESC);
    config.deferred = true;
    config.queue_size_max = 16;
    return config;
}

static void start(unsigned shape)
{
    struct fake_device_config config = shape_config(shape);

    blk_rig_start(&rig, &config, NULL);
    for (uint32_t i = 0; i < COUNT; i++) {
        blk_rig_prepare(&rig, &requests[i], SK_BLOCK_WRITE, i, i, 512);
        memset(test_environment_foreign(&rig.env, i), (int)i + 1, 512);
    }
}

static void submit(uint32_t from, uint32_t count)
{
    for (uint32_t i = from; i < from + count; i++) {
        blk_rig_submit(&rig, &requests[i]);
    }
}

/* Polls until `count` requests from `from` on are done; each of them once, with `status`. */
static void finish(uint32_t from, uint32_t count, enum sk_status status)
{
    for (unsigned poll = 0; poll < 1000; poll++) {
        uint32_t done = 0;

        (void)fake_device_run(rig.fake, 3);
        assert_int_equal(sk_block_poll(rig.queue, 0, NULL), SK_OK);
        for (uint32_t i = from; i < from + count; i++) {
            done += requests[i].completions;
        }
        if (done == count) {
            break;
        }
    }
    for (uint32_t i = from; i < from + count; i++) {
        assert_int_equal(requests[i].completions, 1);
        assert_int_equal(requests[i].request.status, status);
        requests[i].completions = 0;
    }
}

static void test_block_batch_end__tells_the_device_once_and_of_all(void **state)
{
    (void)state;
    for (unsigned shape = 0; shape < 8; shape++) {
        uint64_t seen;
        uint64_t told;

        start(shape);
        seen = rig.fake->requests;
        told = rig.fake->notifications;
        assert_int_equal(sk_block_batch_count(rig.queue), 0);
        assert_int_equal(sk_block_batch_begin(rig.queue), SK_OK);
        submit(0, 3);
        assert_int_equal(sk_block_batch_count(rig.queue), 3);
        assert_int_equal(sk_block_poll(rig.queue, 0, NULL), SK_OK);
        assert_int_equal(fake_device_run(rig.fake, UINT_MAX), 0);
        assert_int_equal(rig.fake->requests, seen);
        assert_int_equal(rig.fake->notifications, told);
        sk_block_batch_end(rig.queue);
        assert_int_equal(sk_block_batch_count(rig.queue), 0);
        assert_int_equal(rig.fake->notifications, told + 1);
        assert_int_equal(rig.fake->requests, seen + 3);
        finish(0, 3, SK_OK);
        blk_rig_deinit(&rig);
    }
}

static void test_block_batch_end__of_more_than_the_ring_holds_goes_in_order(void **state)
{
    (void)state;
    for (unsigned shape = 0; shape < 8; shape++) {
        start(shape);
        for (uint32_t i = 0; i < COUNT; i++) {
            requests[i].request.sector = 7; /* the last one wins */
        }
        assert_int_equal(sk_block_batch_begin(rig.queue), SK_OK);
        submit(0, COUNT);
        assert_int_equal(sk_block_batch_count(rig.queue), COUNT);
        sk_block_batch_end(rig.queue);
        finish(0, COUNT, SK_OK);
        assert_int_equal(rig.fake->storage[7 * 512], COUNT);
        blk_rig_deinit(&rig);
    }
}

static void test_block_batch_abort__device_sees_none_and_the_ring_goes_on(void **state)
{
    (void)state;
    for (unsigned shape = 0; shape < 8; shape++) {
        uint64_t seen;
        uint64_t told;

        start(shape);
        seen = rig.fake->requests;
        told = rig.fake->notifications;
        for (unsigned round = 0; round < 40; round++) { /* at every place of the ring */
            assert_int_equal(sk_block_batch_begin(rig.queue), SK_OK);
            submit(0, COUNT - 1);
            sk_block_batch_abort(rig.queue);
            assert_int_equal(sk_block_batch_count(rig.queue), 0);
            assert_int_equal(requests[0].completions, 0); /* not before the next poll */
            finish(0, COUNT - 1, SK_ERR_CANCELED);
            assert_int_equal(rig.fake->requests, seen + round);
            assert_int_equal(rig.fake->notifications, told + round);
            submit(COUNT - 1, 1);
            finish(COUNT - 1, 1, SK_OK);
        }
        assert_int_equal(rig.queue->statistics.errors[SK_ERR_CANCELED], 40 * (COUNT - 1));
        assert_int_equal(rig.queue->statistics.refused, 0);
        assert_int_equal(rig.fake->storage[0], 0);
        blk_rig_deinit(&rig);
    }
}

/* Parts of one request, some at the device and some waiting, are not the batch's. */
static void test_block_batch_abort__leaves_what_was_submitted_before(void **state)
{
    (void)state;
    for (unsigned shape = 0; shape < 8; shape++) {
        struct fake_device_config config = shape_config(shape);

        config.size_max = 512;
        config.seg_max = 1;
        config.queue_size_max = 4;
        config.features |= bit(SK_VIRTIO_BLK_F_SIZE_MAX);
        blk_rig_start(&rig, &config, NULL);
        for (uint32_t i = 0; i < 3; i++) {
            blk_rig_prepare(&rig, &requests[i], SK_BLOCK_WRITE, i * 8, i, 8 * 512);
            memset(test_environment_foreign(&rig.env, i), (int)i + 1, 8 * 512);
        }
        submit(0, 1); /* 8 parts: more than the ring has room for */
        assert_int_equal(sk_block_batch_begin(rig.queue), SK_OK);
        submit(1, 1);
        assert_int_equal(fake_device_run(rig.fake, 1), 1);
        assert_int_equal(sk_block_poll(rig.queue, 0, NULL), SK_OK);
        sk_block_batch_abort(rig.queue);
        finish(0, 1, SK_OK);
        assert_int_equal(requests[1].completions, 1);
        assert_int_equal(requests[1].request.status, SK_ERR_CANCELED);
        assert_int_equal(rig.fake->storage[7 * 512], 1);
        assert_int_equal(rig.fake->storage[8 * 512], 0);
        submit(2, 1);
        finish(2, 1, SK_OK);
        assert_int_equal(rig.fake->storage[23 * 512], 3);
        blk_rig_deinit(&rig);
    }
}

static void test_block_batch_begin__one_request_can_be_taken_back(void **state)
{
    (void)state;
    start(3);
    assert_int_equal(sk_block_batch_begin(rig.queue), SK_OK);
    submit(0, 3);
    assert_int_equal(sk_block_cancel(rig.queue, &requests[2].request), SK_OK);
    assert_int_equal(sk_block_cancel(rig.queue, &requests[2].request), SK_ERR_NOT_FOUND);
    assert_int_equal(sk_block_batch_count(rig.queue), 2);
    submit(3, 1); /* behind the one that was the last */
    sk_block_batch_end(rig.queue);
    finish(0, 2, SK_OK);
    finish(3, 1, SK_OK);
    assert_int_equal(requests[2].completions, 1);
    assert_int_equal(requests[2].request.status, SK_ERR_CANCELED);
    assert_int_equal(rig.fake->storage[2 * 512], 0);
    blk_rig_deinit(&rig);
}

static void test_block_batch_begin__twice_is_busy(void **state)
{
    (void)state;
    start(2);
    sk_block_batch_end(rig.queue); /* none was begun: nothing happens */
    sk_block_batch_abort(rig.queue);
    assert_int_equal(sk_block_batch_begin(rig.queue), SK_OK);
    submit(0, 1);
    assert_int_equal(sk_block_batch_begin(rig.queue), SK_ERR_BUSY);
    assert_int_equal(sk_block_batch_count(rig.queue), 1);
    sk_block_batch_end(rig.queue);
    finish(0, 1, SK_OK);
    assert_int_equal(sk_block_batch_begin(rig.queue), SK_OK);
    sk_block_batch_end(rig.queue); /* empty */
    blk_rig_deinit(&rig);
}

static void test_block_batch_begin__calls_that_wait_pass_it(void **state)
{
    struct fake_device_config config = shape_config(3);
    uint8_t *data;

    (void)state;
    config.deferred = false;
    blk_rig_start(&rig, &config, NULL);
    data = test_environment_foreign(&rig.env, 9);
    for (uint32_t i = 0; i < 2; i++) {
        blk_rig_prepare(&rig, &requests[i], SK_BLOCK_WRITE, i, i, 512);
        memset(test_environment_foreign(&rig.env, i), (int)i + 1, 512);
    }
    assert_int_equal(sk_block_batch_begin(rig.queue), SK_OK);
    submit(0, 2);
    data[0] = 99;
    assert_int_equal(sk_block_write(rig.queue, 100, data, 512, 0), SK_OK);
    assert_int_equal(sk_block_flush(rig.queue, 0), SK_OK);
    assert_int_equal(rig.fake->storage[100 * 512], 99);
    assert_int_equal(rig.fake->storage[0], 0);
    assert_int_equal(sk_block_batch_count(rig.queue), 2);
    sk_block_batch_end(rig.queue);
    finish(0, 2, SK_OK);
    assert_int_equal(rig.fake->storage[0], 1);
    blk_rig_deinit(&rig);
}

static void submit_next(struct sk_block_request *request)
{
    struct blk_rig_request *done = SK_CONTAINER_OF(request, struct blk_rig_request, request);

    done->completions++;
    submit((uint32_t)(done - requests) + 1, 1);
}

static void test_block_batch_begin__collects_what_callbacks_submit(void **state)
{
    (void)state;
    start(1);
    requests[0].request.complete = submit_next;
    submit(0, 1);
    assert_int_equal(sk_block_batch_begin(rig.queue), SK_OK);
    finish(0, 1, SK_OK);
    assert_int_equal(sk_block_batch_count(rig.queue), 1);
    sk_block_batch_end(rig.queue);
    finish(1, 1, SK_OK);
    blk_rig_deinit(&rig);
}

static void test_block_batch_end__refused_ones_end_with_their_statuses(void **state)
{
    (void)state;
    start(2);
    requests[1].request.sector = 1 << 20;
    assert_int_equal(sk_block_batch_begin(rig.queue), SK_OK);
    submit(0, 3);
    sk_block_batch_end(rig.queue);
    (void)fake_device_run(rig.fake, UINT_MAX);
    assert_int_equal(sk_block_poll(rig.queue, 0, NULL), SK_OK);
    assert_int_equal(requests[0].request.status, SK_OK);
    assert_int_equal(requests[1].request.status, SK_ERR_RANGE);
    assert_int_equal(requests[2].request.status, SK_OK);
    blk_rig_deinit(&rig);
}

static void test_block_batch_end__after_a_recovery_reaches_the_device(void **state)
{
    (void)state;
    start(3);
    submit(0, 2);
    assert_int_equal(sk_block_batch_begin(rig.queue), SK_OK);
    submit(2, 2);
    sk_block_stop(rig.disk, SK_ERR_TIMEOUT);
    assert_int_equal(sk_block_recover(rig.disk, 0), SK_OK);
    assert_int_equal(requests[0].completions, 1);
    assert_int_equal(requests[2].completions, 0);
    assert_int_equal(sk_block_batch_count(rig.queue), 2);
    sk_block_batch_end(rig.queue);
    finish(2, 2, SK_OK);
    blk_rig_deinit(&rig);
}

static void test_block_batch_begin__removal_ends_what_it_has(void **state)
{
    (void)state;
    start(3);
    assert_int_equal(sk_block_batch_begin(rig.queue), SK_OK);
    submit(0, 2);
    assert_int_equal(blk_rig_remove(&rig), SK_OK);
    assert_int_equal(requests[0].completions, 1);
    assert_int_equal(requests[1].request.status, SK_ERR_GONE);
    blk_rig_deinit(&rig);
}

static void test_block_batch_end__timed_requests_are_timed(void **state)
{
    struct sk_block_latency latency;

    (void)state;
    start(2);
    assert_int_equal(sk_block_set_latency(rig.queue, 1), SK_OK);
    assert_int_equal(sk_block_batch_begin(rig.queue), SK_OK);
    submit(0, 3);
    sk_block_batch_end(rig.queue);
    finish(0, 3, SK_OK);
    sk_block_get_latency(rig.queue, &latency);
    assert_int_equal(latency.count, 3);
    assert_int_equal(sk_block_batch_begin(rig.queue), SK_OK);
    submit(0, 3);
    sk_block_batch_abort(rig.queue);
    finish(0, 3, SK_ERR_CANCELED);
    sk_block_get_latency(rig.queue, &latency);
    assert_int_equal(latency.count, 3); /* nobody answered */
    assert_int_equal(requests[0].request.flags, 0);
    blk_rig_deinit(&rig);
}

/* ---- At random --------------------------------------------------------------------------- */

static uint64_t dice;

static uint32_t roll(uint32_t sides)
{
    dice ^= dice << 13;
    dice ^= dice >> 7;
    dice ^= dice << 17;
    return (uint32_t)(dice >> 33) % sides;
}

/* What a request will leave on the disk, if it is not withdrawn. */
struct play {
    bool out;      /* submitted, not completed */
    bool in_batch; /* ... and not told yet */
    bool aborted;  /* ... and never will be */
    uint32_t rounds;
};

static struct play plays[COUNT];
static uint8_t on_disk[COUNT]; /* each request has a sector of its own */

static void settle(uint32_t i)
{
    struct play *play = &plays[i];

    if (requests[i].completions == 0) {
        return;
    }
    assert_int_equal(requests[i].completions, 1);
    assert_true(play->out);
    if (requests[i].request.status == SK_OK) {
        assert_false(play->in_batch || play->aborted);
        on_disk[i] = *(uint8_t *)test_environment_foreign(&rig.env, i);
    } else {
        assert_int_equal(requests[i].request.status, SK_ERR_CANCELED);
        assert_true(play->aborted);
    }
    requests[i].completions = 0;
    *play = (struct play){ .rounds = play->rounds + 1 };
}

static void play_submit(bool open)
{
    uint32_t i = roll(COUNT);

    if (!plays[i].out) {
        memset(test_environment_foreign(&rig.env, i), (int)roll(256), 512);
        plays[i].out = true;
        plays[i].in_batch = open;
        submit(i, 1);
    }
}

static void play_close(bool abort)
{
    for (uint32_t i = 0; i < COUNT; i++) {
        plays[i].aborted = plays[i].aborted || (abort && plays[i].in_batch);
        plays[i].in_batch = false;
    }
    if (abort) {
        sk_block_batch_abort(rig.queue);
    } else {
        sk_block_batch_end(rig.queue);
    }
}

static void play_once(bool *open)
{
    switch (roll(6)) {
    case 0:
        if (!*open) {
            assert_int_equal(sk_block_batch_begin(rig.queue), SK_OK);
            *open = true;
        } else {
            play_close(roll(2) == 0);
            *open = false;
        }
        break;
    case 1:
        (void)fake_device_run(rig.fake, roll(8));
        break;
    case 2:
        assert_int_equal(sk_block_poll(rig.queue, roll(4), NULL), SK_OK);
        break;
    default:
        play_submit(*open);
    }
    for (uint32_t i = 0; i < COUNT; i++) {
        settle(i);
    }
}

/* Enough requests that split indexes pass 65535, and packed ones wrap at every place. */
static void play_shape(unsigned shape, uint32_t size, uint64_t seed)
{
    struct fake_device_config config = shape_config(shape);
    bool open = false;

    dice = seed;
    config.order = FAKE_ORDER_RANDOM;
    config.seed = seed;
    config.queue_size_max = size;
    memset(plays, 0, sizeof(plays));
    memset(on_disk, 0, sizeof(on_disk));
    blk_rig_start(&rig, &config, NULL);
    for (uint32_t i = 0; i < COUNT; i++) {
        blk_rig_prepare(&rig, &requests[i], SK_BLOCK_WRITE, i, i, 512);
    }
    while (rig.fake->requests < 66000) {
        play_once(&open);
    }
    if (open) {
        play_close(true);
    }
    for (unsigned i = 0; i < 100; i++) {
        (void)fake_device_run(rig.fake, UINT_MAX);
        assert_int_equal(sk_block_poll(rig.queue, 0, NULL), SK_OK);
    }
    for (uint32_t i = 0; i < COUNT; i++) {
        settle(i);
        assert_false(plays[i].out);
        assert_int_equal(rig.fake->storage[i * 512], on_disk[i]);
    }
    blk_rig_deinit(&rig);
}

static void test_block_batch__at_random_each_request_ends_once_and_honestly(void **state)
{
    static const uint64_t seed = UINT64_C(0x9e3779b97f4a7c15);

    (void)state;
    print_message("seed 0x%" PRIx64 "\n", seed);
    for (unsigned shape = 0; shape < 8; shape++) {
        play_shape(shape, (shape & 1) != 0 ? 13 : 16, seed + shape);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_block_batch_end__tells_the_device_once_and_of_all),
        cmocka_unit_test(test_block_batch_end__of_more_than_the_ring_holds_goes_in_order),
        cmocka_unit_test(test_block_batch_abort__device_sees_none_and_the_ring_goes_on),
        cmocka_unit_test(test_block_batch_abort__leaves_what_was_submitted_before),
        cmocka_unit_test(test_block_batch_begin__one_request_can_be_taken_back),
        cmocka_unit_test(test_block_batch_begin__twice_is_busy),
        cmocka_unit_test(test_block_batch_begin__calls_that_wait_pass_it),
        cmocka_unit_test(test_block_batch_begin__collects_what_callbacks_submit),
        cmocka_unit_test(test_block_batch_end__refused_ones_end_with_their_statuses),
        cmocka_unit_test(test_block_batch_end__after_a_recovery_reaches_the_device),
        cmocka_unit_test(test_block_batch_begin__removal_ends_what_it_has),
        cmocka_unit_test(test_block_batch_end__timed_requests_are_timed),
        cmocka_unit_test(test_block_batch__at_random_each_request_ends_once_and_honestly),
    };

    return cmocka_run_group_tests_name("block_batch", tests, NULL, NULL);
}
