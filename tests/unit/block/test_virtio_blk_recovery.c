/* SPDX-License-Identifier: MIT */
/*
 * What becomes of requests when the device has to be stopped, and what sk_block_recover
 * makes of a device that is well again, is gone, or came back as another one.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "support/blk_rig.h"

#define MANY     60u
#define PER_DISK 2048u

static struct blk_rig rig;

/* Requests in the order of their numbers, and the order in which they completed. */
static struct blk_rig_request many[MANY];
static unsigned order[MANY];
static unsigned completed;

static uint64_t bit(unsigned number)
{
    return SK_VIRTIO_FEATURE(number);
}

/* The kinds of rings that requests are put into again. */
static const uint64_t shapes[] = {
    0,
    SK_VIRTIO_FEATURE(SK_VIRTIO_F_EVENT_IDX),
    SK_VIRTIO_FEATURE(SK_VIRTIO_F_INDIRECT_DESC) | SK_VIRTIO_FEATURE(SK_VIRTIO_F_EVENT_IDX),
    SK_VIRTIO_FEATURE(SK_VIRTIO_F_RING_PACKED),
    SK_VIRTIO_FEATURE(SK_VIRTIO_F_RING_PACKED) | SK_VIRTIO_FEATURE(SK_VIRTIO_F_EVENT_IDX),
    SK_VIRTIO_FEATURE(SK_VIRTIO_F_RING_PACKED) | SK_VIRTIO_FEATURE(SK_VIRTIO_F_INDIRECT_DESC),
    SK_VIRTIO_FEATURE(SK_VIRTIO_F_IN_ORDER) | SK_VIRTIO_FEATURE(SK_VIRTIO_F_INDIRECT_DESC),
    SK_VIRTIO_FEATURE(SK_VIRTIO_F_IN_ORDER) | SK_VIRTIO_FEATURE(SK_VIRTIO_F_INDIRECT_DESC) |
        SK_VIRTIO_FEATURE(SK_VIRTIO_F_EVENT_IDX),
    SK_VIRTIO_FEATURE(SK_VIRTIO_F_IN_ORDER) | SK_VIRTIO_FEATURE(SK_VIRTIO_F_RING_PACKED),
    SK_VIRTIO_FEATURE(SK_VIRTIO_F_IN_ORDER) | SK_VIRTIO_FEATURE(SK_VIRTIO_F_RING_PACKED) |
        SK_VIRTIO_FEATURE(SK_VIRTIO_F_INDIRECT_DESC) | SK_VIRTIO_FEATURE(SK_VIRTIO_F_EVENT_IDX),
};

#define SHAPES (sizeof(shapes) / sizeof(shapes[0]))

static struct fake_device_config a_disk(uint64_t shape)
{
    struct fake_device_config config = FAKE_DEVICE_CONFIG_DEFAULT;

    config.features &= ~(bit(SK_VIRTIO_F_EVENT_IDX) | bit(SK_VIRTIO_F_INDIRECT_DESC));
    config.features |= shape | bit(SK_VIRTIO_BLK_F_DISCARD) | bit(SK_VIRTIO_BLK_F_WRITE_ZEROES) |
                       bit(SK_VIRTIO_BLK_F_LIFETIME) | bit(SK_VIRTIO_BLK_F_MQ);
    config.in_order_batch = 5;
    config.deferred = true;
    config.queue_count = 2;
    return config;
}

static struct sk_virtio_blk_options resubmitting(void)
{
    struct sk_virtio_blk_options options = blk_rig_options();

    options.recovery = SK_VIRTIO_BLK_RECOVERY_RESUBMIT;
    options.queue_size = 64;
    options.segment_count = 2;
    return options;
}

static void start_with(const struct fake_device_config *config,
                       const struct sk_virtio_blk_options *options)
{
    blk_rig_init(&rig, config, options);
    fake_device_set_config(rig.fake, 36, 4, 1000); /* sectors of a discard, and ranges */
    fake_device_set_config(rig.fake, 40, 4, 1);
    fake_device_set_config(rig.fake, 48, 4, 1000); /* of a zeroing */
    fake_device_set_config(rig.fake, 52, 4, 1);
    assert_int_equal(blk_rig_probe(&rig), SK_OK);
    memset(many, 0, sizeof(many));
    completed = 0;
}

static void start(uint64_t shape)
{
    struct fake_device_config config = a_disk(shape);
    struct sk_virtio_blk_options options = resubmitting();

    start_with(&config, &options);
}

static void note(struct sk_block_request *request)
{
    struct blk_rig_request *one = SK_CONTAINER_OF(request, struct blk_rig_request, request);

    assert_true(completed < MANY);
    one->completions++;
    order[completed++] = (unsigned)(one - many);
}

/* Number i of a mixture: reads and writes of places of their own, and all the others. */
static void prepare(unsigned i)
{
    static const enum sk_block_operation operations[] = {
        SK_BLOCK_WRITE, SK_BLOCK_READ,  SK_BLOCK_WRITE_ZEROES, SK_BLOCK_WRITE,
        SK_BLOCK_FLUSH, SK_BLOCK_WRITE, SK_BLOCK_DISCARD,      SK_BLOCK_GET_ID,
    };
    enum sk_block_operation operation = operations[i % 8];
    bool moves = operation == SK_BLOCK_READ || operation == SK_BLOCK_WRITE;
    bool clears = operation == SK_BLOCK_WRITE_ZEROES || operation == SK_BLOCK_DISCARD;

    blk_rig_prepare(&rig, &many[i], operation, moves || clears ? 8 * i : 0, i,
                    moves                          ? 512 * (1 + i % 4)
                    : operation == SK_BLOCK_GET_ID ? SK_BLOCK_IDENTITY_BYTES
                                                   : 0);
    many[i].request.sector_count = clears ? 4 : 0;
    many[i].request.complete = note;
    if (operation == SK_BLOCK_WRITE) {
        memset(test_environment_foreign(&rig.env, i), (int)(i + 1), 4096);
    }
}

static void submit(unsigned first, unsigned count)
{
    for (unsigned i = first; i < first + count; i++) {
        prepare(i);
        blk_rig_submit(&rig, &many[i]);
    }
}

static enum sk_status poll(void)
{
    return sk_block_poll(rig.queue, 0, NULL);
}

/* Lets the device work until all is done. */
static void settle(unsigned count)
{
    for (unsigned i = 0; i < 1000 && completed < count; i++) {
        assert_int_equal(poll(), SK_OK);
        (void)fake_device_run(rig.fake, UINT_MAX);
    }
    assert_int_equal(completed, count);
}

static void expect_all(unsigned count, enum sk_status status)
{
    for (unsigned i = 0; i < count; i++) {
        assert_int_equal(many[i].completions, 1);
        assert_int_equal(many[i].request.status, status);
    }
}

/* The writes are on the disk, wherever they were when the device stopped. */
static void expect_written(unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        if (many[i].request.operation == SK_BLOCK_WRITE) {
            assert_memory_equal(rig.fake->storage + 512 * many[i].request.sector,
                                test_environment_foreign(&rig.env, i), many[i].segment.bytes);
        }
    }
}

/* ---- Resubmission ------------------------------------------------------------------------ */

/* Faults of all kinds; each leaves the device stopped, and well if it is reset. */
enum fault { NEEDS_RESET, STALL, VIOLATION, LOST_STATUS, STOPPED_BY_HAND, FAULTS };

static void cause(enum fault fault)
{
    switch (fault) {
    case NEEDS_RESET:
        fake_device_needs_reset(rig.fake);
        break;
    case STALL:
        for (unsigned i = 0; i < 6; i++) {
            rig.env.clock_ns += BLK_RIG_TIMEOUT_NS / 4 + 1000;
            (void)poll();
        }
        break;
    case VIOLATION:
        fake_device_forge_used(rig.fake, 0, 4000, 0);
        break;
    case LOST_STATUS: /* somebody else reset it */
        rig.env.clock_ns += BLK_RIG_TIMEOUT_NS / 4 + 1000;
        rig.fake->mmio.ops->write(rig.fake->mmio.context, 0x070, 4, 0);
        (void)rig.fake->mmio.ops->read(rig.fake->mmio.context, 0x070, 4);
        break;
    default:
        sk_block_stop(rig.disk, SK_ERR_IO);
    }
    assert_int_equal(poll(), SK_ERR_BROKEN);
    assert_int_equal(sk_block_get_state(rig.disk), SK_BLOCK_STATE_BROKEN);
}

static void go_again(uint64_t shape, enum fault fault)
{
    unsigned done;

    start(shape);
    submit(0, MANY);
    (void)fake_device_run(rig.fake, 7);
    assert_int_equal(poll(), SK_OK); /* those are done, others take their slots */
    done = completed;
    assert_true(done > 0 && done < 8);
    cause(fault);
    assert_int_equal(completed, done); /* nothing ended */
    fake_device_behave(rig.fake);
    assert_int_equal(sk_block_recover(rig.disk, 0), SK_OK);
    assert_int_equal(completed, done);
    settle(MANY);
    expect_all(MANY, SK_OK);
    expect_written(MANY);
    for (unsigned i = 0; i < MANY; i++) {
        assert_int_equal(order[i], i); /* the device is first in, first out: so is what it was given */
    }
    assert_true(rig.queue->statistics.resubmitted > 0);
    assert_int_equal(rig.queue->statistics.recoveries, 1);
    blk_rig_deinit(&rig);
}

static void test_virtio_blk_resubmit__after_every_fault_in_every_ring_in_order(void **state)
{
    (void)state;
    for (size_t shape = 0; shape < SHAPES; shape++) {
        for (unsigned fault = 0; fault < FAULTS; fault++) {
            go_again(shapes[shape], (enum fault)fault);
        }
    }
}

/* Slots are taken and given back at random before, so their numbers say nothing of the order. */
static void test_virtio_blk_resubmit__order_does_not_come_from_slots(void **state)
{
    (void)state;
    for (size_t shape = 0; shape < SHAPES; shape++) {
        struct fake_device_config config = a_disk(shapes[shape]);
        struct sk_virtio_blk_options options = resubmitting();

        config.order = FAKE_ORDER_RANDOM;
        config.seed = 1 + shape;
        options.queue_size = 16;
        options.segment_count = 1;
        start_with(&config, &options);
        for (unsigned round = 0; round < 40; round++) {
            completed = 0;
            submit(0, 20);
            settle(20);
        }
        completed = 0;
        submit(0, 20);
        for (unsigned i = 0; i < 8; i++) {
            (void)fake_device_run(rig.fake, 1);
            assert_int_equal(poll(), SK_OK);
        }
        {
            unsigned before = completed;
            unsigned last = 0;

            sk_block_stop(rig.disk, SK_ERR_IO);
            rig.fake->config.order = FAKE_ORDER_FIRST_IN;
            assert_int_equal(sk_block_recover(rig.disk, 0), SK_OK);
            settle(20);
            for (unsigned i = before; i < 20; i++) {
                assert_true(i == before || order[i] > last);
                last = order[i];
            }
        }
        expect_all(20, SK_OK);
        blk_rig_deinit(&rig);
    }
}

/* A write that was flushed, and was not told so, is written and flushed once more. */
static void test_virtio_blk_resubmit__fua_starts_with_its_write_again(void **state)
{
    (void)state;
    start(shapes[2]);
    prepare(0);
    many[0].request.flags = SK_BLOCK_FLAG_FUA;
    blk_rig_submit(&rig, &many[0]);
    (void)fake_device_run(rig.fake, 1);
    assert_int_equal(poll(), SK_OK); /* the flush is under way */
    assert_int_equal(rig.fake->writes, 1);
    assert_int_equal(completed, 0);
    fake_device_needs_reset(rig.fake);
    assert_int_equal(poll(), SK_ERR_BROKEN);
    fake_device_lose_power(rig.fake); /* the cache went with the reset */
    assert_int_equal(sk_block_recover(rig.disk, 0), SK_OK);
    settle(1);
    expect_all(1, SK_OK);
    assert_int_equal(rig.fake->writes, 2);
    assert_int_equal(rig.fake->flushes, 1);
    fake_device_lose_power(rig.fake);
    expect_written(1);
    blk_rig_deinit(&rig);
}

/* A flush covers the writes that were answered before it, before and after the recovery. */
static void test_virtio_blk_resubmit__flush_covers_what_was_written_before(void **state)
{
    (void)state;
    start(shapes[2]);
    submit(0, 1);
    settle(1);
    prepare(4);
    many[4].request.operation = SK_BLOCK_FLUSH;
    blk_rig_submit(&rig, &many[4]);
    fake_device_needs_reset(rig.fake);
    assert_int_equal(poll(), SK_ERR_BROKEN);
    assert_int_equal(sk_block_recover(rig.disk, 0), SK_OK);
    settle(2);
    assert_int_equal(many[4].request.status, SK_OK);
    fake_device_lose_power(rig.fake);
    expect_written(1);
    blk_rig_deinit(&rig);
}

static void test_virtio_blk_resubmit__a_request_in_parts_goes_again_whole(void **state)
{
    struct fake_device_config config = a_disk(0);
    struct sk_virtio_blk_options options = resubmitting();

    (void)state;
    config.features |= bit(SK_VIRTIO_BLK_F_SIZE_MAX);
    config.size_max = 512;
    config.seg_max = 1;
    options.queue_size = 16; /* five slots, for eight parts */
    for (unsigned done = 0; done < 8; done++) {
        start_with(&config, &options);
        for (unsigned i = 0; i < 3; i++) {
            prepare(i * 3);
            many[i * 3].segment.bytes = 4096;
            many[i * 3].request.operation = SK_BLOCK_WRITE;
            many[i * 3].request.sector = 100 * i;
            memset(test_environment_foreign(&rig.env, i * 3), (int)(0x50 + i), 4096);
            many[i * 3].request.segments = &many[i * 3].segment;
            many[i * 3].request.segment_count = 1;
            many[i * 3].segment.address = sk_daddr_make(blk_rig_address(&rig, i * 3));
            blk_rig_submit(&rig, &many[i * 3]);
        }
        for (unsigned i = 0; i < done; i++) {
            (void)fake_device_run(rig.fake, 1);
            assert_int_equal(poll(), SK_OK);
        }
        fake_device_needs_reset(rig.fake);
        assert_int_equal(poll(), SK_ERR_BROKEN);
        assert_int_equal(completed, 0);
        assert_int_equal(sk_block_recover(rig.disk, 0), SK_OK);
        settle(3);
        for (unsigned i = 0; i < 3; i++) {
            assert_int_equal(order[i], i * 3);
            assert_int_equal(many[i * 3].request.status, SK_OK);
            assert_memory_equal(rig.fake->storage + 512 * 100 * i,
                                test_environment_foreign(&rig.env, i * 3), 4096);
        }
        blk_rig_deinit(&rig);
    }
}

static void test_virtio_blk_resubmit__all_queues_go_again(void **state)
{
    struct fake_device_config config = a_disk(shapes[2]);
    struct sk_virtio_blk_options options = resubmitting();
    struct sk_block_queue *queues[2];

    (void)state;
    options.queue_count = 2;
    start_with(&config, &options);
    for (unsigned i = 0; i < 2; i++) {
        queues[i] = sk_block_get_queue(rig.disk, i);
    }
    for (unsigned i = 0; i < 20; i++) {
        struct sk_block_request *request = &many[i].request;

        prepare(i);
        sk_block_submit(queues[i % 2], &request, 1);
    }
    fake_device_forge_used(rig.fake, 1, 4000, 0);
    assert_int_equal(sk_block_poll(queues[1], 0, NULL), SK_ERR_BROKEN);
    /* The other one has not polled yet. */
    assert_int_equal(sk_block_recover(rig.disk, 0), SK_OK);
    for (unsigned i = 0; i < 100; i++) {
        assert_int_equal(sk_block_poll(queues[i % 2], 0, NULL), SK_OK);
        (void)fake_device_run(rig.fake, UINT_MAX);
    }
    assert_int_equal(completed, 20);
    expect_all(20, SK_OK);
    expect_written(20);
    blk_rig_deinit(&rig);
}

static void test_virtio_blk_resubmit__not_for_ever(void **state)
{
    (void)state;
    start(shapes[2]);
    submit(0, 1);
    for (unsigned i = 0; i < 3; i++) {
        fake_device_needs_reset(rig.fake);
        assert_int_equal(poll(), SK_ERR_BROKEN);
        assert_int_equal(completed, 0);
        assert_int_equal(sk_block_recover(rig.disk, 0), SK_OK);
        assert_int_equal(poll(), SK_OK);
    }
    fake_device_needs_reset(rig.fake);
    assert_int_equal(poll(), SK_ERR_BROKEN);
    expect_all(1, SK_ERR_MALFORMED);
    assert_int_equal(rig.queue->statistics.resubmitted, 3);
    assert_int_equal(sk_block_recover(rig.disk, 0), SK_OK);
    blk_rig_deinit(&rig);
}

static void test_virtio_blk_resubmit__ends_when_its_own_deadline_passes_meanwhile(void **state)
{
    (void)state;
    start(shapes[2]);
    prepare(0);
    many[0].request.deadline_ns = rig.env.clock_ns + 1000000;
    blk_rig_submit(&rig, &many[0]);
    submit(1, 1);
    fake_device_needs_reset(rig.fake);
    assert_int_equal(poll(), SK_ERR_BROKEN);
    assert_int_equal(completed, 0);
    rig.env.clock_ns += 1000000;
    assert_int_equal(poll(), SK_ERR_BROKEN);
    expect_all(1, SK_ERR_TIMEOUT);
    assert_int_equal(sk_block_recover(rig.disk, 0), SK_OK);
    settle(2);
    assert_int_equal(many[1].request.status, SK_OK);
    blk_rig_deinit(&rig);
}

static void test_virtio_blk_resubmit__a_smaller_disk_ends_what_is_beyond_it(void **state)
{
    (void)state;
    start(shapes[2]);
    submit(0, 40);
    fake_device_needs_reset(rig.fake);
    assert_int_equal(poll(), SK_ERR_BROKEN);
    rig.fake->config.capacity_sectors = 100; /* told by nobody */
    fake_device_set_config(rig.fake, 0, 8, 100);
    assert_int_equal(sk_block_recover(rig.disk, 0), SK_OK);
    assert_int_equal(rig.disk->info.capacity_sectors, 100);
    settle(40);
    for (unsigned i = 0; i < 40; i++) {
        bool beyond = many[i].request.sector + 4 > 100;

        assert_int_equal(many[i].completions, 1);
        assert_int_equal(many[i].request.status, beyond ? SK_ERR_RANGE : SK_OK);
    }
    blk_rig_deinit(&rig);
}

static void test_virtio_blk_resubmit__what_waits_can_be_taken_back(void **state)
{
    (void)state;
    start(shapes[2]);
    submit(0, 3);
    fake_device_needs_reset(rig.fake);
    assert_int_equal(poll(), SK_ERR_BROKEN);
    assert_int_equal(sk_block_cancel(rig.queue, &many[1].request), SK_OK);
    assert_int_equal(poll(), SK_ERR_BROKEN);
    assert_int_equal(many[1].request.status, SK_ERR_CANCELED);
    assert_int_equal(completed, 1);
    assert_int_equal(sk_block_cancel(rig.queue, &many[1].request), SK_ERR_NOT_FOUND);
    assert_int_equal(sk_block_recover(rig.disk, 0), SK_OK);
    settle(3);
    assert_int_equal(many[0].request.status, SK_OK);
    assert_int_equal(many[2].request.status, SK_OK);
    blk_rig_deinit(&rig);
}

static void test_virtio_blk_resubmit__removal_ends_what_waits(void **state)
{
    (void)state;
    start(shapes[2]);
    submit(0, MANY);
    fake_device_needs_reset(rig.fake);
    assert_int_equal(poll(), SK_ERR_BROKEN);
    assert_int_equal(completed, 0);
    assert_int_equal(blk_rig_remove(&rig), SK_OK);
    assert_int_equal(completed, MANY);
    expect_all(MANY, SK_ERR_GONE);
    blk_rig_deinit(&rig);
}

/* The device may still use the memory: nothing may wait, its owner has to know. */
static void test_virtio_blk_resubmit__a_device_in_doubt_ends_all(void **state)
{
    (void)state;
    start(shapes[2]);
    submit(0, MANY);
    fake_device_fault(rig.fake, FAKE_FAULT_RESET, 0, 0, FAKE_FOR_EVER);
    sk_block_stop(rig.disk, SK_ERR_IO);
    assert_int_equal(poll(), SK_ERR_IN_DOUBT);
    assert_int_equal(completed, MANY);
    for (unsigned i = 0; i < MANY; i++) {
        assert_int_equal(many[i].completions, 1);
        assert_true(many[i].request.status == SK_ERR_IN_DOUBT ||
                    many[i].request.status == SK_ERR_BROKEN); /* this one was not there yet */
    }
    assert_int_equal(many[0].request.status, SK_ERR_IN_DOUBT);
    fake_device_behave(rig.fake);
    assert_int_equal(sk_block_recover(rig.disk, 0), SK_OK);
    blk_rig_deinit(&rig);
}

static void test_virtio_blk_resubmit__synchronous_calls_return(void **state)
{
    uint8_t *page;

    (void)state;
    start(shapes[2]);
    page = test_environment_foreign(&rig.env, 0);
    fake_device_fault(rig.fake, FAKE_FAULT_NO_STATUS, 0, 0, 1);
    assert_int_equal(sk_block_read(rig.queue, 0, page, 4096, 0), SK_ERR_BROKEN);
    assert_int_equal(sk_block_recover(rig.disk, 0), SK_OK);
    fake_device_fault(rig.fake, FAKE_FAULT_STALL, 0, 0, 1);
    assert_int_equal(sk_block_read(rig.queue, 0, page, 4096, 1000000), SK_ERR_TIMEOUT);
    assert_int_equal(sk_block_flush(rig.queue, 0), SK_ERR_BROKEN);
    assert_int_equal(sk_block_recover(rig.disk, 0), SK_OK);
    assert_int_equal(sk_block_read(rig.queue, 0, page, 4096, 0), SK_OK);
    blk_rig_deinit(&rig);
}

/* Requests that come while it is stopped wait as well, behind those that it had. */
static void test_virtio_blk_resubmit__new_requests_wait_until_it_is_back(void **state)
{
    (void)state;
    for (size_t shape = 0; shape < SHAPES; shape++) {
        start(shapes[shape]);
        submit(0, MANY / 2);
        cause(NEEDS_RESET);
        assert_int_equal(sk_block_batch_begin(rig.queue), SK_OK);
        submit(MANY / 2, 5);
        sk_block_batch_end(rig.queue);
        submit(MANY / 2 + 5, MANY / 2 - 5);
        assert_int_equal(poll(), SK_ERR_BROKEN);
        assert_int_equal(completed, 0);
        assert_int_equal(rig.queue->statistics.refused, 0);
        assert_int_equal(sk_block_recover(rig.disk, 0), SK_OK);
        settle(MANY);
        expect_all(MANY, SK_OK);
        expect_written(MANY);
        for (unsigned i = 0; i < MANY; i++) {
            assert_int_equal(order[i], i);
        }
        blk_rig_deinit(&rig);
    }
}

/* They are looked at when it is back: it may be a smaller disk. */
static void test_virtio_blk_resubmit__new_requests_that_are_wrong_end_when_it_is_back(void **state)
{
    (void)state;
    start(shapes[2]);
    cause(STOPPED_BY_HAND);
    submit(0, 2);
    many[1].request.sector = rig.disk->info.capacity_sectors;
    assert_int_equal(poll(), SK_ERR_BROKEN);
    assert_int_equal(completed, 0);
    assert_int_equal(sk_block_recover(rig.disk, 0), SK_OK);
    settle(2);
    assert_int_equal(many[0].request.status, SK_OK);
    assert_int_equal(many[1].request.status, SK_ERR_RANGE);
    blk_rig_deinit(&rig);
}

static void test_virtio_blk_resubmit__new_requests_keep_their_deadlines(void **state)
{
    (void)state;
    start(shapes[2]);
    cause(NEEDS_RESET);
    prepare(0);
    many[0].request.deadline_ns = rig.env.clock_ns + 1000000;
    blk_rig_submit(&rig, &many[0]);
    submit(1, 2);
    assert_int_equal(poll(), SK_ERR_BROKEN);
    assert_int_equal(completed, 0);
    rig.env.clock_ns += 1000000;
    assert_int_equal(sk_block_cancel(rig.queue, &many[1].request), SK_OK);
    assert_int_equal(poll(), SK_ERR_BROKEN);
    assert_int_equal(completed, 2);
    assert_int_equal(many[0].request.status, SK_ERR_TIMEOUT);
    assert_int_equal(many[1].request.status, SK_ERR_CANCELED);
    assert_int_equal(sk_block_recover(rig.disk, 0), SK_OK);
    settle(3);
    assert_int_equal(many[2].request.status, SK_OK);
    blk_rig_deinit(&rig);
}

static void test_virtio_blk_resubmit__new_requests_end_with_a_device_that_never_comes_back(void **state)
{
    (void)state;
    start(shapes[2]);
    cause(NEEDS_RESET);
    submit(0, 3);
    rig.fake->config.identity = "another disk";
    assert_int_equal(sk_block_recover(rig.disk, 0), SK_ERR_GONE);
    assert_int_equal(completed, 3);
    expect_all(3, SK_ERR_GONE);
    blk_rig_deinit(&rig);

    start(shapes[2]);
    cause(NEEDS_RESET);
    submit(0, 3);
    assert_int_equal(blk_rig_remove(&rig), SK_OK);
    expect_all(3, SK_ERR_GONE);
    blk_rig_deinit(&rig);
}

/* Where nothing waits, they are refused: in doubt, and by the other policy. */
static void test_virtio_blk_resubmit__new_requests_are_refused_where_nothing_waits(void **state)
{
    struct fake_device_config config = a_disk(shapes[2]);
    struct sk_virtio_blk_options options = resubmitting();

    (void)state;
    start(shapes[2]);
    fake_device_fault(rig.fake, FAKE_FAULT_RESET, 0, 0, FAKE_FOR_EVER);
    sk_block_stop(rig.disk, SK_ERR_IO);
    submit(0, 2);
    assert_int_equal(poll(), SK_ERR_IN_DOUBT);
    expect_all(2, SK_ERR_BROKEN);
    fake_device_behave(rig.fake);
    assert_int_equal(sk_block_recover(rig.disk, 0), SK_OK);
    blk_rig_deinit(&rig);

    options.recovery = SK_VIRTIO_BLK_RECOVERY_FAIL;
    start_with(&config, &options);
    cause(NEEDS_RESET);
    submit(0, 2);
    assert_int_equal(poll(), SK_ERR_BROKEN);
    expect_all(2, SK_ERR_BROKEN);
    blk_rig_deinit(&rig);
}

/* The mode of the cache that was chosen is part of what was promised. */
static void test_virtio_blk_recover__keeps_the_chosen_cache(void **state)
{
    (void)state;
    start(shapes[2]);
    assert_int_equal(sk_block_set_cache(rig.queue, SK_BLOCK_CACHE_WRITE_THROUGH, 0), SK_OK);
    assert_int_equal(rig.fake->config_space[32], 0);
    fake_device_needs_reset(rig.fake);
    assert_int_equal(poll(), SK_ERR_BROKEN);
    assert_int_equal(rig.fake->config_space[32], 1); /* the reset undid it */
    assert_int_equal(sk_block_recover(rig.disk, 0), SK_OK);
    assert_int_equal(rig.fake->config_space[32], 0);
    assert_int_equal(rig.disk->info.cache, SK_BLOCK_CACHE_WRITE_THROUGH);
    blk_rig_deinit(&rig);
}

/* ---- What must not be done twice --------------------------------------------------------- */

/* A host-managed disk whose zones begin at sector 256. */
static void start_zoned(uint64_t more, uint32_t size_max)
{
    struct fake_device_config config = FAKE_DEVICE_CONFIG_DEFAULT;
    struct sk_virtio_blk_options options = resubmitting();

    config.features |= bit(SK_VIRTIO_BLK_F_ZONED) | more;
    config.features |= size_max == 0 ? 0 : bit(SK_VIRTIO_BLK_F_SIZE_MAX);
    config.size_max = size_max;
    config.seg_max = size_max == 0 ? 254 : 1;
    config.zone_sectors = 256;
    config.zones_conventional = 1;
    config.max_append_sectors = 64;
    config.deferred = true;
    blk_rig_start(&rig, &config, &options);
    memset(many, 0, sizeof(many));
    completed = 0;
}

static void submit_zone(unsigned i, enum sk_block_operation operation, uint64_t sector,
                        uint32_t bytes)
{
    blk_rig_prepare(&rig, &many[i], operation, sector, i, bytes);
    many[i].request.complete = note;
    blk_rig_submit(&rig, &many[i]);
}

/* At a write pointer each request happens once: nobody knows whether it did. */
static void test_virtio_blk_resubmit__writes_to_zones_end(void **state)
{
    (void)state;
    start_zoned(0, 0);
    submit_zone(0, SK_BLOCK_ZONE_APPEND, 256, 512);
    submit_zone(1, SK_BLOCK_WRITE, 512, 512);
    submit_zone(2, SK_BLOCK_ZONE_RESET, 768, 0);
    submit_zone(3, SK_BLOCK_READ, 0, 512);
    submit_zone(4, SK_BLOCK_FLUSH, 0, 0);
    submit_zone(5, SK_BLOCK_ZONE_REPORT, 0, 4096);
    fake_device_needs_reset(rig.fake);
    assert_int_equal(poll(), SK_ERR_BROKEN);
    assert_int_equal(completed, 3);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(many[i].request.status, SK_ERR_MALFORMED);
    }
    assert_int_equal(sk_block_recover(rig.disk, 0), SK_OK);
    settle(6);
    for (unsigned i = 3; i < 6; i++) {
        assert_int_equal(many[i].request.status, SK_OK);
    }
    assert_int_equal(rig.fake->writes, 0);
    blk_rig_deinit(&rig);
}

/*
 * A write whose parts reach a zone one after the other: what was written stays,
 * and nothing begins at its start again, whether it waits for a slot or not.
 */
static void zone_write_in_parts(uint64_t more, bool queue_only)
{
    for (unsigned done = 0; done < 8; done++) {
        start_zoned(more, 512);
        submit_zone(0, SK_BLOCK_WRITE, 256, 4096);
        submit_zone(1, SK_BLOCK_READ, 0, 512);
        for (unsigned i = 0; i < done; i++) {
            (void)fake_device_run(rig.fake, 1);
            assert_int_equal(poll(), SK_OK);
        }
        if (queue_only) {
            assert_int_equal(sk_block_reset_queue(rig.queue), SK_OK);
        } else {
            fake_device_needs_reset(rig.fake);
            assert_int_equal(poll(), SK_ERR_BROKEN);
            assert_int_equal(sk_block_recover(rig.disk, 0), SK_OK);
        }
        settle(2);
        assert_int_equal(many[0].completions, 1);
        assert_int_not_equal(many[0].request.status, SK_OK);
        assert_int_equal(many[1].request.status, SK_OK);
        assert_int_equal(rig.fake->writes, done);
        blk_rig_deinit(&rig);
    }
}

/* The poll that takes a part's answer finds the device broken: no part is there, and none follows. */
static void test_virtio_blk_resubmit__a_zone_write_between_two_parts_ends(void **state)
{
    (void)state;
    start_zoned(0, 512);
    rig.fake->config.order = FAKE_ORDER_LAST_IN;
    submit_zone(2, SK_BLOCK_READ, 0, 512);
    submit_zone(0, SK_BLOCK_WRITE, 256, 4096);
    submit_zone(1, SK_BLOCK_WRITE, 512, 512);
    (void)fake_device_run(rig.fake, 1);
    fake_device_forge_used(rig.fake, 0, 4000, 0);
    assert_int_equal(poll(), SK_ERR_BROKEN);
    assert_int_equal(completed, 1);
    assert_int_equal(many[0].request.status, SK_ERR_MALFORMED);
    assert_int_equal(sk_block_recover(rig.disk, 0), SK_OK);
    settle(3);
    assert_int_equal(many[1].request.status, SK_OK); /* the device had not seen this one */
    assert_int_equal(many[2].request.status, SK_OK);
    assert_int_equal(rig.fake->writes, 2);
    blk_rig_deinit(&rig);
}

static void test_virtio_blk_resubmit__zone_writes_in_parts_end(void **state)
{
    (void)state;
    zone_write_in_parts(0, false);
    zone_write_in_parts(bit(SK_VIRTIO_F_RING_RESET), true);
}

/* ---- Gone, or another one ---------------------------------------------------------------- */

/* The disk failed for good: whatever is asked of it says so, and it can be removed. */
static void expect_failed(enum sk_status reason)
{
    assert_int_equal(sk_block_get_state(rig.disk), SK_BLOCK_STATE_FAILED);
    assert_string_equal(sk_block_state_name(SK_BLOCK_STATE_FAILED), "failed");
    assert_int_equal(poll(), SK_ERR_GONE);
    assert_int_equal(sk_block_recover(rig.disk, 0), reason);
    completed = 0;
    submit(8, 8);
    assert_int_equal(poll(), SK_ERR_GONE);
    assert_int_equal(completed, 8);
    for (unsigned i = 8; i < 16; i++) {
        assert_int_equal(many[i].request.status, reason);
    }
    assert_int_equal(sk_block_flush(rig.queue, 0), reason);
    assert_int_equal(sk_block_get_state(rig.disk), SK_BLOCK_STATE_FAILED);
    sk_block_stop(rig.disk, SK_ERR_IO); /* it is */
    assert_int_equal(sk_block_get_state(rig.disk), SK_BLOCK_STATE_FAILED);
}

static void break_with(unsigned requests)
{
    start(shapes[2]);
    submit(0, requests);
    fake_device_needs_reset(rig.fake);
    assert_int_equal(poll(), SK_ERR_BROKEN);
    assert_int_equal(completed, 0);
}

static void test_virtio_blk_recover__another_disk_gets_nothing(void **state)
{
    (void)state;
    break_with(8);
    rig.fake->config.identity = "another disk";
    assert_int_equal(sk_block_recover(rig.disk, 0), SK_ERR_GONE);
    assert_int_equal(completed, 8);
    expect_all(8, SK_ERR_GONE);
    assert_int_equal(rig.fake->writes, 0);
    expect_failed(SK_ERR_GONE);
    blk_rig_deinit(&rig);
}

static void test_virtio_blk_recover__another_block_size_is_another_disk(void **state)
{
    (void)state;
    break_with(8);
    fake_device_set_config(rig.fake, 20, 4, 4096);
    assert_int_equal(sk_block_recover(rig.disk, 0), SK_ERR_UNSUPPORTED);
    expect_all(8, SK_ERR_UNSUPPORTED);
    assert_int_equal(rig.disk->info.block_bytes, 512);
    expect_failed(SK_ERR_UNSUPPORTED);
    blk_rig_deinit(&rig);
}

static void test_virtio_blk_recover__other_features_are_another_disk(void **state)
{
    (void)state;
    break_with(8);
    rig.fake->offered &= ~bit(SK_VIRTIO_BLK_F_FLUSH);
    assert_int_equal(sk_block_recover(rig.disk, 0), SK_ERR_UNSUPPORTED);
    expect_all(8, SK_ERR_UNSUPPORTED);
    expect_failed(SK_ERR_UNSUPPORTED);
    blk_rig_deinit(&rig);
}

static void test_virtio_blk_recover__an_identity_that_cannot_be_read_may_be_asked_again(void **state)
{
    (void)state;
    break_with(8);
    fake_device_fault(rig.fake, FAKE_FAULT_IO_ERROR, 0, 0, 1);
    assert_int_equal(sk_block_recover(rig.disk, 0), SK_ERR_IO);
    assert_int_equal(sk_block_get_state(rig.disk), SK_BLOCK_STATE_BROKEN);
    assert_int_equal(completed, 0);
    assert_int_equal(rig.fake->writes, 0);
    fake_device_fault(rig.fake, FAKE_FAULT_STALL, 0, 0, 1);
    assert_int_equal(sk_block_recover(rig.disk, 0), SK_ERR_TIMEOUT);
    assert_int_equal(completed, 0);
    fake_device_behave(rig.fake);
    assert_int_equal(sk_block_recover(rig.disk, 0), SK_OK);
    settle(8);
    expect_all(8, SK_OK);
    blk_rig_deinit(&rig);
}

/* A slot that stays behind without its device: the id is 0, and so are all other registers. */
static void take_away(void)
{
    fake_device_fault(rig.fake, FAKE_FAULT_DEVICE_ID, 0, 0, FAKE_FOR_EVER);
    fake_device_fault(rig.fake, FAKE_FAULT_STATUS_REGISTER, 0, 0, FAKE_FOR_EVER);
}

static void test_virtio_blk_gone__an_empty_slot_is_noticed_and_final(void **state)
{
    (void)state;
    start(shapes[2]);
    submit(0, 8);
    take_away();
    rig.env.clock_ns += BLK_RIG_TIMEOUT_NS / 4 + 1000;
    assert_int_equal(poll(), SK_ERR_BROKEN);
    assert_int_equal(completed, 0); /* it may come back */
    assert_int_equal(sk_block_recover(rig.disk, 0), SK_ERR_GONE);
    expect_all(8, SK_ERR_GONE);
    expect_failed(SK_ERR_GONE);
    assert_int_equal(blk_rig_remove(&rig), SK_OK);
    fake_device_behave(rig.fake);
    fake_device_forgive(rig.fake);
    blk_rig_deinit(&rig);
}

static void test_virtio_blk_gone__comes_back_before_recover(void **state)
{
    (void)state;
    start(shapes[2]);
    submit(0, 8);
    take_away();
    rig.env.clock_ns += BLK_RIG_TIMEOUT_NS / 4 + 1000;
    assert_int_equal(poll(), SK_ERR_BROKEN);
    fake_device_behave(rig.fake);
    assert_int_equal(sk_block_recover(rig.disk, 0), SK_OK);
    settle(8);
    expect_all(8, SK_OK);
    blk_rig_deinit(&rig);
}

/* Nobody answers the bus: that it is quiet was not seen, so memory stays held. */
static void test_virtio_blk_gone__all_ones_are_in_doubt_and_final(void **state)
{
    (void)state;
    start(shapes[2]);
    submit(0, 8);
    fake_device_fault(rig.fake, FAKE_FAULT_DEAD, UINT32_MAX, 0, FAKE_FOR_EVER);
    rig.env.clock_ns += BLK_RIG_TIMEOUT_NS / 4 + 1000;
    assert_int_equal(poll(), SK_ERR_IN_DOUBT);
    expect_all(8, SK_ERR_IN_DOUBT);
    assert_int_equal(sk_block_get_state(rig.disk), SK_BLOCK_STATE_IN_DOUBT);
    assert_int_equal(sk_block_recover(rig.disk, 0), SK_ERR_GONE);
    expect_failed(SK_ERR_GONE);
    assert_int_equal(blk_rig_remove(&rig), SK_ERR_IN_DOUBT);
    fake_device_forgive(rig.fake);
    blk_rig_abandon(&rig);
}

/* ---- The log ----------------------------------------------------------------------------- */

static void test_virtio_blk_log__names_what_was_in_doubt_and_has_an_end(void **state)
{
    (void)state;
    start(shapes[2]);
    rig.options.recovery = SK_VIRTIO_BLK_RECOVERY_FAIL;
    prepare(3);
    blk_rig_submit(&rig, &many[3]);
    sk_block_stop(rig.disk, SK_ERR_IO);
    assert_int_equal(poll(), SK_ERR_BROKEN);
    assert_non_null(strstr(rig.env.last_line, "write of 2048 bytes at sector 24"));
    assert_int_equal(rig.env.lines[SK_LOG_WARNING], 1);
    for (unsigned i = 0; i < 30; i++) {
        assert_int_equal(sk_block_recover(rig.disk, 0), SK_OK);
        completed = 0;
        submit(0, MANY);
        sk_block_stop(rig.disk, SK_ERR_IO);
        (void)poll();
    }
    assert_true(rig.env.lines[SK_LOG_WARNING] < 40); /* of 1,800 */
    blk_rig_deinit(&rig);
}

static void test_virtio_blk_log__names_what_was_overdue(void **state)
{
    (void)state;
    start(shapes[2]);
    rig.env.print = false;
    prepare(1);
    many[1].request.deadline_ns = rig.env.clock_ns + 1000;
    blk_rig_submit(&rig, &many[1]);
    rig.env.clock_ns += 2000;
    assert_int_equal(poll(), SK_ERR_BROKEN);
    assert_int_equal(many[1].request.status, SK_ERR_TIMEOUT);
    assert_non_null(strstr(rig.env.last_line, "read of 1024 bytes at sector 8"));
    blk_rig_deinit(&rig);
}

/* ---- At random --------------------------------------------------------------------------- */

/*
 * Every sector has one write under way at the most; one that was acknowledged
 * is on the disk, whatever happened since; no request completes twice.
 */
static void test_virtio_blk_resubmit__at_random_loses_nothing_acknowledged(void **state)
{
    static uint8_t acknowledged[MANY];
    uint64_t random = 1;

    (void)state;
    for (size_t shape = 0; shape < SHAPES; shape++) {
        struct fake_device_config config = a_disk(shapes[shape]);
        struct sk_virtio_blk_options options = resubmitting();

        config.order = FAKE_ORDER_RANDOM;
        config.seed = 77 + shape;
        options.queue_size = 16;
        start_with(&config, &options);
        memset(acknowledged, 0, sizeof(acknowledged));
        for (unsigned step = 0; step < 4000; step++) {
            unsigned i;

            random = random * 6364136223846793005u + 1442695040888963407u;
            i = (unsigned)(random >> 33) % MANY;
            completed = 0;
            if (many[i].request.complete == NULL || many[i].completions == 1) {
                blk_rig_prepare(&rig, &many[i], SK_BLOCK_WRITE, i, i, 512);
                many[i].request.complete = note;
                memset(test_environment_foreign(&rig.env, i), (int)(step & 0xff), 512);
                blk_rig_submit(&rig, &many[i]);
            }
            (void)fake_device_run(rig.fake, (unsigned)(random >> 50) % 5 == 0 ? 4 : 0);
            if ((random >> 20) % 97 == 0) {
                fake_device_needs_reset(rig.fake);
            }
            if (poll() == SK_ERR_BROKEN) {
                assert_int_equal(sk_block_recover(rig.disk, 0), SK_OK);
            }
            for (unsigned j = 0; j < completed; j++) {
                const struct blk_rig_request *one = &many[order[j]];

                assert_int_equal(one->completions, 1);
                assert_true(one->request.status == SK_OK ||
                            one->request.status == SK_ERR_MALFORMED); /* the fourth time */
                if (one->request.status == SK_OK) {
                    acknowledged[order[j]] = *(uint8_t *)test_environment_foreign(&rig.env, order[j]);
                    assert_int_equal(rig.fake->storage[512 * order[j]], acknowledged[order[j]]);
                }
            }
        }
        assert_true(rig.queue->statistics.recoveries > 20);
        assert_true(rig.queue->statistics.resubmitted > 100);
        for (unsigned i = 0; i < MANY; i++) { /* what is under way may be there already */
            assert_true(many[i].completions == 0 || many[i].request.status != SK_OK ||
                        rig.fake->storage[512 * i] == acknowledged[i]);
        }
        blk_rig_deinit(&rig);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_virtio_blk_resubmit__after_every_fault_in_every_ring_in_order),
        cmocka_unit_test(test_virtio_blk_resubmit__order_does_not_come_from_slots),
        cmocka_unit_test(test_virtio_blk_resubmit__fua_starts_with_its_write_again),
        cmocka_unit_test(test_virtio_blk_resubmit__flush_covers_what_was_written_before),
        cmocka_unit_test(test_virtio_blk_resubmit__a_request_in_parts_goes_again_whole),
        cmocka_unit_test(test_virtio_blk_resubmit__all_queues_go_again),
        cmocka_unit_test(test_virtio_blk_resubmit__not_for_ever),
        cmocka_unit_test(test_virtio_blk_resubmit__ends_when_its_own_deadline_passes_meanwhile),
        cmocka_unit_test(test_virtio_blk_resubmit__a_smaller_disk_ends_what_is_beyond_it),
        cmocka_unit_test(test_virtio_blk_resubmit__what_waits_can_be_taken_back),
        cmocka_unit_test(test_virtio_blk_resubmit__removal_ends_what_waits),
        cmocka_unit_test(test_virtio_blk_resubmit__a_device_in_doubt_ends_all),
        cmocka_unit_test(test_virtio_blk_resubmit__synchronous_calls_return),
        cmocka_unit_test(test_virtio_blk_resubmit__new_requests_wait_until_it_is_back),
        cmocka_unit_test(test_virtio_blk_resubmit__new_requests_that_are_wrong_end_when_it_is_back),
        cmocka_unit_test(test_virtio_blk_resubmit__new_requests_keep_their_deadlines),
        cmocka_unit_test(
            test_virtio_blk_resubmit__new_requests_end_with_a_device_that_never_comes_back),
        cmocka_unit_test(test_virtio_blk_resubmit__new_requests_are_refused_where_nothing_waits),
        cmocka_unit_test(test_virtio_blk_resubmit__at_random_loses_nothing_acknowledged),
        cmocka_unit_test(test_virtio_blk_resubmit__writes_to_zones_end),
        cmocka_unit_test(test_virtio_blk_resubmit__zone_writes_in_parts_end),
        cmocka_unit_test(test_virtio_blk_resubmit__a_zone_write_between_two_parts_ends),
        cmocka_unit_test(test_virtio_blk_recover__keeps_the_chosen_cache),
        cmocka_unit_test(test_virtio_blk_recover__another_disk_gets_nothing),
        cmocka_unit_test(test_virtio_blk_recover__another_block_size_is_another_disk),
        cmocka_unit_test(test_virtio_blk_recover__other_features_are_another_disk),
        cmocka_unit_test(
            test_virtio_blk_recover__an_identity_that_cannot_be_read_may_be_asked_again),
        cmocka_unit_test(test_virtio_blk_gone__an_empty_slot_is_noticed_and_final),
        cmocka_unit_test(test_virtio_blk_gone__comes_back_before_recover),
        cmocka_unit_test(test_virtio_blk_gone__all_ones_are_in_doubt_and_final),
        cmocka_unit_test(test_virtio_blk_log__names_what_was_in_doubt_and_has_an_end),
        cmocka_unit_test(test_virtio_blk_log__names_what_was_overdue),
    };

    return cmocka_run_group_tests_name("virtio_blk_recovery", tests, NULL, NULL);
}
