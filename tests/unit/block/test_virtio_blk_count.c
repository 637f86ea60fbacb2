/* SPDX-License-Identifier: MIT */
/* What a queue counts: errors by their kind, and the times of requests. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "block/virtio_blk_slot.h"
#include "support/blk_rig.h"

#define POLLS    2000u
#define REQUESTS 64u

static struct blk_rig rig;
static struct blk_rig_request requests[REQUESTS];
static struct sk_block_request *pointers[REQUESTS];

static void start(bool deferred)
{
    struct fake_device_config config = FAKE_DEVICE_CONFIG_DEFAULT;

    config.deferred = deferred;
    blk_rig_start(&rig, &config, NULL);
}

static enum sk_status run(enum sk_block_operation operation, uint64_t sector, uint32_t bytes,
                          uint32_t flags)
{
    blk_rig_prepare(&rig, &requests[0], operation, sector, 0, bytes);
    requests[0].request.flags = flags;
    blk_rig_submit(&rig, &requests[0]);
    assert_true(blk_rig_run(&rig, &requests[0], POLLS));
    return requests[0].request.status;
}

static void submit_many(unsigned count, uint32_t bytes)
{
    for (unsigned i = 0; i < count; i++) {
        blk_rig_prepare(&rig, &requests[i], SK_BLOCK_READ, i, i, bytes);
        pointers[i] = &requests[i].request;
    }
    sk_block_submit(rig.queue, pointers, count);
}

static struct sk_block_latency latency(void)
{
    struct sk_block_latency copy;

    sk_block_get_latency(rig.queue, &copy);
    return copy;
}

static void test_virtio_blk_latency__is_off_until_it_is_asked_for(void **state)
{
    uint64_t looks;

    (void)state;
    start(false);
    looks = rig.env.clock_looks;
    submit_many(32, 512);
    assert_int_equal(rig.env.clock_looks, looks);
    assert_int_equal(sk_block_poll(rig.queue, 0, NULL), SK_OK);
    assert_int_equal(rig.env.clock_looks, looks);
    assert_int_equal(latency().count, 0);
    blk_rig_deinit(&rig);
}

static void test_virtio_blk_latency__is_the_time_from_submit_to_completion(void **state)
{
    (void)state;
    start(true);
    rig.env.clock_step_ns = 0;
    assert_int_equal(sk_block_set_latency(rig.queue, 1), SK_OK);
    submit_many(1, 512);
    rig.env.clock_ns += 5000;
    assert_int_equal(fake_device_run(rig.fake, 1), 1);
    assert_int_equal(sk_block_poll(rig.queue, 0, NULL), SK_OK);
    assert_int_equal(requests[0].completions, 1);
    assert_int_equal(latency().count, 1);
    assert_int_equal(latency().total_ns, 5000);
    assert_int_equal(latency().longest_ns, 5000);
    assert_int_equal(latency().buckets[12], 1);
    assert_int_equal(sk_block_latency_quantile(&rig.queue->latency, 1, 2), 5000);
    blk_rig_deinit(&rig);
}

static void test_virtio_blk_latency__samples_every_nth_request(void **state)
{
    (void)state;
    start(false);
    for (uint32_t every = 1; every <= 32; every *= 2) {
        assert_int_equal(sk_block_set_latency(rig.queue, every), SK_OK);
        submit_many(24, 512);
        assert_int_equal(sk_block_poll(rig.queue, 0, NULL), SK_OK);
        submit_many(40, 512);
        assert_int_equal(sk_block_poll(rig.queue, 0, NULL), SK_OK);
        assert_int_equal(latency().count, 64 / every);
    }
    blk_rig_deinit(&rig);
}

/* A FUA write lasts until its flush; a split request is one. */
static void test_virtio_blk_latency__counts_requests_not_parts(void **state)
{
    struct fake_device_config config = FAKE_DEVICE_CONFIG_DEFAULT;

    (void)state;
    config.features |= SK_VIRTIO_FEATURE(SK_VIRTIO_BLK_F_SIZE_MAX);
    config.size_max = 512;
    config.seg_max = 1;
    config.deferred = true;
    blk_rig_start(&rig, &config, NULL);
    rig.env.clock_step_ns = 0;
    assert_int_equal(sk_block_set_latency(rig.queue, 1), SK_OK);
    blk_rig_prepare(&rig, &requests[0], SK_BLOCK_WRITE, 0, 0, 2048);
    requests[0].request.flags = SK_BLOCK_FLAG_FUA;
    blk_rig_submit(&rig, &requests[0]);
    while (requests[0].completions == 0) {
        rig.env.clock_ns += 1000;
        assert_int_equal(fake_device_run(rig.fake, 1), 1);
        assert_int_equal(sk_block_poll(rig.queue, 0, NULL), SK_OK);
    }
    assert_int_equal(requests[0].request.status, SK_OK);
    assert_int_equal(latency().count, 1);
    assert_int_equal(latency().total_ns, 5000); /* four writes and a flush */
    assert_int_equal(rig.queue->statistics.parts, 6);
    blk_rig_deinit(&rig);
}

static void test_virtio_blk_latency__has_the_time_of_waiting_for_a_slot(void **state)
{
    struct sk_virtio_blk_options options = SK_VIRTIO_BLK_OPTIONS_DEFAULT;
    struct fake_device_config config = FAKE_DEVICE_CONFIG_DEFAULT;

    (void)state;
    options.queue_size = 4;
    config.deferred = true;
    blk_rig_start(&rig, &config, &options);
    rig.env.clock_step_ns = 0;
    assert_int_equal(sk_block_set_latency(rig.queue, 1), SK_OK);
    submit_many(32, 512);
    while (requests[31].completions == 0) {
        rig.env.clock_ns += 1000;
        assert_int_equal(fake_device_run(rig.fake, 4), 4);
        assert_int_equal(sk_block_poll(rig.queue, 0, NULL), SK_OK);
    }
    assert_int_equal(latency().count, 32);
    assert_int_equal(latency().total_ns, 4 * 36000); /* 1, 2, ... 8 us, each four times */
    assert_int_equal(latency().longest_ns, 8000);
    blk_rig_deinit(&rig);
}

/* Refused and stopped requests have no answer of the device. */
static void test_virtio_blk_latency__only_answers_count(void **state)
{
    (void)state;
    start(true);
    assert_int_equal(sk_block_set_latency(rig.queue, 1), SK_OK);
    assert_int_equal(run(SK_BLOCK_READ, 5000, 512, 0), SK_ERR_RANGE);
    submit_many(8, 512);
    sk_block_stop(rig.disk, SK_ERR_TIMEOUT);
    assert_int_equal(sk_block_poll(rig.queue, 0, NULL), SK_ERR_BROKEN);
    assert_int_equal(latency().count, 0);
    assert_int_equal(sk_block_recover(rig.disk, 0), SK_OK);
    fake_device_bad_sectors(rig.fake, 9, 1);
    assert_int_equal(run(SK_BLOCK_READ, 9, 512, 0), SK_ERR_IO);
    assert_int_equal(latency().count, 1);
    blk_rig_deinit(&rig);
}

static void test_virtio_blk_latency__switched_off_keeps_what_it_has(void **state)
{
    (void)state;
    start(true);
    assert_int_equal(sk_block_set_latency(rig.queue, 1), SK_OK);
    assert_int_equal(run(SK_BLOCK_READ, 0, 512, 0), SK_OK);
    submit_many(4, 512);
    assert_int_equal(sk_block_set_latency(rig.queue, 0), SK_OK);
    assert_int_equal(fake_device_run(rig.fake, 4), 4);
    assert_int_equal(sk_block_poll(rig.queue, 0, NULL), SK_OK);
    assert_int_equal(requests[3].completions, 1);
    assert_int_equal(latency().count, 1);
    assert_int_equal(sk_block_set_latency(rig.queue, 1), SK_OK);
    assert_int_equal(latency().count, 0);
    blk_rig_deinit(&rig);
}

/* A clock that goes back gives a short time, not an endless one. */
static void test_virtio_blk_latency__survives_a_clock_that_goes_back(void **state)
{
    (void)state;
    start(true);
    rig.env.clock_step_ns = 0;
    rig.env.clock_ns += 1000000;
    assert_int_equal(sk_block_set_latency(rig.queue, 1), SK_OK);
    submit_many(1, 512);
    rig.env.clock_ns -= 500000;
    assert_int_equal(fake_device_run(rig.fake, 1), 1);
    assert_int_equal(sk_block_poll(rig.queue, 0, NULL), SK_OK);
    assert_int_equal(latency().longest_ns, 0);
    assert_int_equal(latency().buckets[0], 1);
    blk_rig_deinit(&rig);
}

/* ---- Errors ------------------------------------------------------------------------------ */

static uint64_t errors(enum sk_status status)
{
    struct sk_block_statistics statistics;

    sk_block_get_statistics(rig.queue, &statistics);
    return statistics.errors[status];
}

static void test_virtio_blk_errors__are_counted_by_status(void **state)
{
    (void)state;
    start(false);
    fake_device_bad_sectors(rig.fake, 9, 1);
    assert_int_equal(run(SK_BLOCK_READ, 9, 512, 0), SK_ERR_IO);
    assert_int_equal(run(SK_BLOCK_READ, 9, 512, 0), SK_ERR_IO);
    assert_int_equal(run(SK_BLOCK_READ, 5000, 512, 0), SK_ERR_RANGE);
    assert_int_equal(run(SK_BLOCK_READ, 0, 511, 0), SK_ERR_SIZE);
    assert_int_equal(run(SK_BLOCK_READ, 0, 512, 128), SK_ERR_INVALID);
    fake_device_fault(rig.fake, FAKE_FAULT_FLUSH_UNSUPPORTED, 0, 0, 1);
    assert_int_equal(run(SK_BLOCK_FLUSH, 0, 0, 0), SK_ERR_UNSUPPORTED);
    assert_int_equal(errors(SK_ERR_IO), 2);
    assert_int_equal(errors(SK_ERR_RANGE), 1);
    assert_int_equal(errors(SK_ERR_SIZE), 1);
    assert_int_equal(errors(SK_ERR_INVALID), 1);
    assert_int_equal(errors(SK_ERR_UNSUPPORTED), 1);
    assert_int_equal(errors(SK_OK), 0);
    assert_int_equal(rig.queue->statistics.refused, 3);
    assert_int_equal(rig.queue->statistics.requests, 7); /* with the identity */
    blk_rig_deinit(&rig);
}

/* A request in parts fails once, whichever and however many of them fail. */
static void test_virtio_blk_errors__count_requests_not_parts(void **state)
{
    struct fake_device_config config = FAKE_DEVICE_CONFIG_DEFAULT;
    struct sk_virtio_blk_options options = blk_rig_options();

    (void)state;
    config.features |= SK_VIRTIO_FEATURE(SK_VIRTIO_BLK_F_SIZE_MAX);
    config.size_max = 512;
    config.seg_max = 1;
    options.queue_size = 4;
    for (uint64_t bad = 0; bad < 8; bad++) {
        blk_rig_start(&rig, &config, &options);
        fake_device_bad_sectors(rig.fake, bad, 3);
        assert_int_equal(run(SK_BLOCK_READ, 0, 4096, 0), SK_ERR_IO);
        assert_int_equal(errors(SK_ERR_IO), 1);
        assert_int_equal(rig.queue->statistics.requests, 2);
        blk_rig_deinit(&rig);
    }
}

static void test_virtio_blk_errors__of_a_stopped_device_have_its_reason(void **state)
{
    struct sk_virtio_blk_options options = blk_rig_options();
    struct fake_device_config config = FAKE_DEVICE_CONFIG_DEFAULT;

    (void)state;
    config.deferred = true;
    options.queue_size = 16;
    blk_rig_start(&rig, &config, &options);
    submit_many(24, 512);
    sk_block_stop(rig.disk, SK_ERR_TIMEOUT);
    while (sk_block_poll(rig.queue, 0, NULL) == SK_ERR_BROKEN && requests[23].completions == 0) {
    }
    assert_int_equal(errors(SK_ERR_TIMEOUT), 16);
    assert_int_equal(errors(SK_ERR_BROKEN), 8); /* those had never been at the device */
    assert_int_equal(rig.queue->statistics.refused, 0);
    submit_many(1, 512);
    assert_int_equal(sk_block_poll(rig.queue, 0, NULL), SK_ERR_BROKEN);
    assert_int_equal(errors(SK_ERR_BROKEN), 9);
    assert_int_equal(rig.queue->statistics.refused, 1);
    blk_rig_deinit(&rig);
}

static void test_virtio_blk_is_repeatable__what_ends_the_same_twice(void **state)
{
    struct sk_block_request request = { .operation = SK_BLOCK_READ };

    (void)state;
    start(false);
    for (int i = SK_BLOCK_READ; i <= SK_BLOCK_GET_LIFETIME; i++) {
        request.operation = (enum sk_block_operation)i;
        assert_true(ski_blk_is_repeatable(SK_CONTAINER_OF(rig.queue, struct ski_blk_queue, queue),
                                          &request));
    }
    request.operation = SK_BLOCK_OPERATION_COUNT;
    assert_false(ski_blk_is_repeatable(SK_CONTAINER_OF(rig.queue, struct ski_blk_queue, queue),
                                       &request));
    blk_rig_deinit(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_virtio_blk_latency__is_off_until_it_is_asked_for),
        cmocka_unit_test(test_virtio_blk_latency__is_the_time_from_submit_to_completion),
        cmocka_unit_test(test_virtio_blk_latency__samples_every_nth_request),
        cmocka_unit_test(test_virtio_blk_latency__counts_requests_not_parts),
        cmocka_unit_test(test_virtio_blk_latency__has_the_time_of_waiting_for_a_slot),
        cmocka_unit_test(test_virtio_blk_latency__only_answers_count),
        cmocka_unit_test(test_virtio_blk_latency__switched_off_keeps_what_it_has),
        cmocka_unit_test(test_virtio_blk_latency__survives_a_clock_that_goes_back),
        cmocka_unit_test(test_virtio_blk_errors__are_counted_by_status),
        cmocka_unit_test(test_virtio_blk_errors__count_requests_not_parts),
        cmocka_unit_test(test_virtio_blk_errors__of_a_stopped_device_have_its_reason),
        cmocka_unit_test(test_virtio_blk_is_repeatable__what_ends_the_same_twice),
    };

    return cmocka_run_group_tests_name("virtio_blk_count", tests, NULL, NULL);
}
