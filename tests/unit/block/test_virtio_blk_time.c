/* SPDX-License-Identifier: MIT */
/* Deadlines of requests, and requests that are taken back. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "support/blk_rig.h"

#define MANY  40u
#define DEPTH 16u

static struct blk_rig rig;
static struct blk_rig_request many[MANY];

static uint64_t bit(unsigned number)
{
    return SK_VIRTIO_FEATURE(number);
}

/* A disk that does nothing until it is told, and has DEPTH requests at a time. */
static void start(uint64_t without)
{
    struct fake_device_config config = FAKE_DEVICE_CONFIG_DEFAULT;
    struct sk_virtio_blk_options options = blk_rig_options();

    config.deferred = true;
    config.features &= ~without;
    options.queue_size = DEPTH;
    blk_rig_start(&rig, &config, &options);
    rig.env.on_wait = NULL;
}

/* Submits number i with a deadline `after_ns` from now; 0: none. */
static void submit(unsigned i, uint64_t after_ns)
{
    blk_rig_prepare(&rig, &many[i], i % 2 == 0 ? SK_BLOCK_READ : SK_BLOCK_WRITE, 8 * i, i, 512);
    many[i].request.deadline_ns = after_ns == 0 ? 0 : rig.env.clock_ns + after_ns;
    blk_rig_submit(&rig, &many[i]);
}

static enum sk_status poll(void)
{
    return sk_block_poll(rig.queue, 0, NULL);
}

/* ---- Deadlines --------------------------------------------------------------------------- */

static void test_virtio_blk_deadline__at_the_device_it_stops_the_device(void **state)
{
    (void)state;
    start(0);
    submit(0, 0);
    submit(1, 50000);
    assert_int_equal(poll(), SK_OK);
    rig.env.clock_ns += 40000;
    assert_int_equal(poll(), SK_OK);
    assert_int_equal(many[1].completions, 0);
    rig.env.clock_ns += 10000;
    assert_int_equal(poll(), SK_ERR_BROKEN);
    assert_int_equal(many[1].completions, 1);
    assert_int_equal(many[1].request.status, SK_ERR_TIMEOUT);
    assert_int_equal(many[0].request.status, SK_ERR_TIMEOUT);
    assert_int_equal(rig.fake->status, 0);
    assert_int_equal(sk_block_recover(rig.disk, 0), SK_ERR_TIMEOUT); /* it still does nothing */
    blk_rig_deinit(&rig);
}

static void test_virtio_blk_deadline__in_time_is_no_matter(void **state)
{
    (void)state;
    start(0);
    for (unsigned i = 0; i < DEPTH; i++) {
        submit(i, 50000 + 1000 * i);
    }
    assert_int_equal(fake_device_run(rig.fake, UINT_MAX), DEPTH);
    assert_int_equal(poll(), SK_OK);
    rig.env.clock_ns += 1000000;
    for (unsigned i = 0; i < 5; i++) {
        assert_int_equal(poll(), SK_OK);
    }
    for (unsigned i = 0; i < DEPTH; i++) {
        assert_int_equal(many[i].request.status, SK_OK);
    }
    blk_rig_deinit(&rig);
}

/* The device does not have it: nothing has to stop. */
static void test_virtio_blk_deadline__of_a_waiting_request_ends_it_alone(void **state)
{
    (void)state;
    start(0);
    for (unsigned i = 0; i < DEPTH; i++) {
        submit(i, 0);
    }
    for (unsigned i = DEPTH; i < MANY; i++) {
        submit(i, i % 3 == 0 ? 50000 : 0);
    }
    rig.env.clock_ns += 50000;
    assert_int_equal(poll(), SK_OK);
    assert_int_equal(poll(), SK_OK);
    for (unsigned i = 0; i < MANY; i++) {
        assert_int_equal(many[i].completions, i >= DEPTH && i % 3 == 0);
    }
    for (unsigned i = 0; i < 10; i++) {
        (void)fake_device_run(rig.fake, UINT_MAX);
        assert_int_equal(poll(), SK_OK);
    }
    for (unsigned i = 0; i < MANY; i++) {
        bool late = i >= DEPTH && i % 3 == 0;

        assert_int_equal(many[i].completions, 1);
        assert_int_equal(many[i].request.status, late ? SK_ERR_TIMEOUT : SK_OK);
    }
    assert_int_equal(rig.queue->statistics.errors[SK_ERR_TIMEOUT], 8);
    blk_rig_deinit(&rig);
}

/* The last one waiting is cut off: what comes later finds the list's end. */
static void test_virtio_blk_deadline__the_last_one_waiting_leaves_a_list(void **state)
{
    (void)state;
    start(0);
    for (unsigned i = 0; i < DEPTH + 3; i++) {
        submit(i, i == DEPTH + 2 ? 50000 : 0);
    }
    rig.env.clock_ns += 50000;
    assert_int_equal(poll(), SK_OK);
    submit(DEPTH + 3, 0);
    for (unsigned i = 0; i < 5; i++) {
        (void)fake_device_run(rig.fake, UINT_MAX);
        assert_int_equal(poll(), SK_OK);
    }
    for (unsigned i = 0; i < DEPTH + 4; i++) {
        assert_int_equal(many[i].completions, 1);
        assert_int_equal(many[i].request.status, i == DEPTH + 2 ? SK_ERR_TIMEOUT : SK_OK);
    }
    blk_rig_deinit(&rig);
}

static void test_virtio_blk_deadline__wait_wakes_for_the_earliest(void **state)
{
    uint64_t begin;

    (void)state;
    start(0);
    begin = rig.env.clock_ns;
    submit(0, 400000);
    submit(1, 200000);
    submit(2, 300000);
    assert_int_equal(sk_block_wait(rig.queue, UINT64_MAX), SK_OK);
    assert_true(rig.env.clock_ns >= begin + 200000 && rig.env.clock_ns < begin + 205000);
    assert_int_equal(poll(), SK_ERR_BROKEN);
    assert_int_equal(many[1].request.status, SK_ERR_TIMEOUT);
    blk_rig_deinit(&rig);
}

/* What was earliest is done; what is now is what counts. */
static void test_virtio_blk_deadline__the_next_one_counts_when_the_first_is_done(void **state)
{
    uint64_t begin;

    (void)state;
    start(0);
    begin = rig.env.clock_ns;
    submit(0, 200000);
    submit(1, 400000);
    assert_int_equal(fake_device_run(rig.fake, 1), 1);
    assert_int_equal(poll(), SK_OK);
    assert_int_equal(many[0].request.status, SK_OK);
    assert_int_equal(sk_block_wait(rig.queue, begin + 300000), SK_ERR_TIMEOUT);
    assert_int_equal(sk_block_wait(rig.queue, UINT64_MAX), SK_OK);
    assert_true(rig.env.clock_ns >= begin + 400000 && rig.env.clock_ns < begin + 405000);
    assert_int_equal(poll(), SK_ERR_BROKEN);
    blk_rig_deinit(&rig);
}

/* A deadline beyond the driver's timeout does not make a device patient. */
static void test_virtio_blk_deadline__the_drivers_timeout_counts_too(void **state)
{
    (void)state;
    start(0);
    submit(0, 10 * BLK_RIG_TIMEOUT_NS);
    for (unsigned i = 0; i < 6; i++) {
        rig.env.clock_ns += BLK_RIG_TIMEOUT_NS / 4 + 1000;
        (void)poll();
    }
    assert_int_equal(many[0].request.status, SK_ERR_TIMEOUT);
    assert_int_equal(sk_block_get_state(rig.disk), SK_BLOCK_STATE_BROKEN);
    blk_rig_deinit(&rig);
}

static void test_virtio_blk_deadline__passed_before_the_submit(void **state)
{
    (void)state;
    start(0);
    blk_rig_prepare(&rig, &many[0], SK_BLOCK_READ, 0, 0, 512);
    many[0].request.deadline_ns = 1;
    blk_rig_submit(&rig, &many[0]);
    assert_int_equal(poll(), SK_ERR_BROKEN); /* it is at the device: there is no other way */
    assert_int_equal(many[0].request.status, SK_ERR_TIMEOUT);
    blk_rig_deinit(&rig);
}

/* Busy queues look at the clock, too. */
static void test_virtio_blk_deadline__is_seen_between_completions(void **state)
{
    unsigned polls;

    (void)state;
    start(0);
    fake_device_fault(rig.fake, FAKE_FAULT_STALL, 0, 0, 1);
    submit(0, 50000);
    assert_int_equal(fake_device_run(rig.fake, UINT_MAX), 0);
    for (polls = 0; polls < 1000; polls++) {
        submit(1, 0);
        (void)fake_device_run(rig.fake, UINT_MAX);
        rig.env.clock_ns += 1000;
        if (poll() != SK_OK) {
            break;
        }
        assert_int_equal(many[1].completions, 1); /* it did find something */
    }
    assert_true(polls > 20 && polls < 50 + 64);
    assert_int_equal(many[0].request.status, SK_ERR_TIMEOUT);
    blk_rig_deinit(&rig);
}

/* ---- Cancel ------------------------------------------------------------------------------ */

static void cancel_each(uint64_t without)
{
    start(without);
    for (unsigned i = 0; i < MANY; i++) {
        submit(i, 0);
    }
    for (unsigned i = 0; i < MANY; i += 3) {
        bool at_device = i < rig.fake->in_flight;

        assert_int_equal(sk_block_cancel(rig.queue, &many[i].request),
                         at_device ? SK_ERR_BUSY : SK_OK);
        assert_int_equal(many[i].completions, 0); /* at the next poll */
        if (!at_device) {
            assert_int_equal(sk_block_cancel(rig.queue, &many[i].request), SK_ERR_NOT_FOUND);
        }
    }
    {
        unsigned at_device = rig.fake->in_flight;

        for (unsigned i = 0; i < 40; i++) {
            assert_int_equal(poll(), SK_OK);
            (void)fake_device_run(rig.fake, UINT_MAX);
        }
        for (unsigned i = 0; i < MANY; i++) {
            bool taken_back = i % 3 == 0 && i >= at_device;

            assert_int_equal(many[i].completions, 1);
            assert_int_equal(many[i].request.status, taken_back ? SK_ERR_CANCELED : SK_OK);
        }
        assert_true(rig.queue->statistics.errors[SK_ERR_CANCELED] > 5);
    }
    assert_int_equal(sk_block_cancel(rig.queue, &many[0].request), SK_ERR_NOT_FOUND);
    blk_rig_deinit(&rig);
}

static void test_virtio_blk_cancel__what_waits_is_taken_back_and_nothing_else(void **state)
{
    (void)state;
    cancel_each(0);
    cancel_each(bit(SK_VIRTIO_F_INDIRECT_DESC));
}

/* Its other parts stay here, and it ends when those that left came back. */
static void test_virtio_blk_cancel__a_request_in_parts_ends_with_those_at_the_device(void **state)
{
    struct fake_device_config config = FAKE_DEVICE_CONFIG_DEFAULT;
    struct sk_virtio_blk_options options = blk_rig_options();
    uint64_t writes;

    (void)state;
    config.deferred = true;
    config.features |= bit(SK_VIRTIO_BLK_F_SIZE_MAX);
    config.size_max = 512;
    config.seg_max = 1;
    options.queue_size = 4;
    blk_rig_start(&rig, &config, &options);
    rig.env.on_wait = NULL;
    blk_rig_prepare(&rig, &many[0], SK_BLOCK_WRITE, 0, 0, 4096);
    blk_rig_submit(&rig, &many[0]);
    assert_int_equal(rig.fake->in_flight, 4);
    assert_int_equal(sk_block_cancel(rig.queue, &many[0].request), SK_ERR_BUSY);
    submit(1, 0);
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(many[0].completions, 0);
        (void)fake_device_run(rig.fake, 1);
        assert_int_equal(poll(), SK_OK);
    }
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(poll(), SK_OK);
        (void)fake_device_run(rig.fake, UINT_MAX);
    }
    writes = rig.fake->writes;
    assert_int_equal(many[0].completions, 1);
    assert_int_equal(many[0].request.status, SK_ERR_CANCELED);
    assert_int_equal(writes, 4 + 1);
    assert_int_equal(many[1].request.status, SK_OK);
    blk_rig_deinit(&rig);
}

static void cancel_the_others(struct sk_block_request *request)
{
    SK_CONTAINER_OF(request, struct blk_rig_request, request)->completions++;
    for (unsigned i = DEPTH + 1; i < MANY; i++) { /* DEPTH took the slot that became free */
        if (many[i].completions == 0 && many[i].request.status == SK_OK) {
            assert_int_equal(sk_block_cancel(rig.queue, &many[i].request), SK_OK);
        }
    }
}

static void test_virtio_blk_cancel__works_from_a_callback(void **state)
{
    (void)state;
    start(0);
    for (unsigned i = 0; i < MANY; i++) {
        submit(i, 0);
    }
    many[0].request.complete = cancel_the_others;
    (void)fake_device_run(rig.fake, 1);
    for (unsigned i = 0; i < 5; i++) {
        assert_int_equal(poll(), SK_OK);
        (void)fake_device_run(rig.fake, UINT_MAX);
    }
    for (unsigned i = 0; i < MANY; i++) {
        assert_int_equal(many[i].completions, 1);
        assert_int_equal(many[i].request.status, i <= DEPTH ? SK_OK : SK_ERR_CANCELED);
    }
    blk_rig_deinit(&rig);
}

/* What the device has: wait for its answer, or stop the device. */
static void test_virtio_blk_cancel__at_the_device_stopping_is_the_way(void **state)
{
    (void)state;
    start(0);
    submit(0, 0);
    assert_int_equal(sk_block_cancel(rig.queue, &many[0].request), SK_ERR_BUSY);
    sk_block_stop(rig.disk, SK_ERR_CANCELED);
    assert_int_equal(many[0].completions, 0);
    assert_int_equal(poll(), SK_ERR_BROKEN);
    assert_int_equal(many[0].request.status, SK_ERR_CANCELED);
    blk_rig_deinit(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_virtio_blk_deadline__at_the_device_it_stops_the_device),
        cmocka_unit_test(test_virtio_blk_deadline__in_time_is_no_matter),
        cmocka_unit_test(test_virtio_blk_deadline__of_a_waiting_request_ends_it_alone),
        cmocka_unit_test(test_virtio_blk_deadline__the_last_one_waiting_leaves_a_list),
        cmocka_unit_test(test_virtio_blk_deadline__wait_wakes_for_the_earliest),
        cmocka_unit_test(test_virtio_blk_deadline__the_next_one_counts_when_the_first_is_done),
        cmocka_unit_test(test_virtio_blk_deadline__the_drivers_timeout_counts_too),
        cmocka_unit_test(test_virtio_blk_deadline__passed_before_the_submit),
        cmocka_unit_test(test_virtio_blk_deadline__is_seen_between_completions),
        cmocka_unit_test(test_virtio_blk_cancel__what_waits_is_taken_back_and_nothing_else),
        cmocka_unit_test(test_virtio_blk_cancel__a_request_in_parts_ends_with_those_at_the_device),
        cmocka_unit_test(test_virtio_blk_cancel__works_from_a_callback),
        cmocka_unit_test(test_virtio_blk_cancel__at_the_device_stopping_is_the_way),
    };

    return cmocka_run_group_tests_name("virtio_blk_time", tests, NULL, NULL);
}
