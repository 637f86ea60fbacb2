/* SPDX-License-Identifier: MIT */
/* Waiting: by interrupt, by looking, and by looking first; and interrupts that stay off meanwhile. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "block/virtio_blk.h"
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

static void wait_through(unsigned looks, bool spins, bool enough)
{
    struct blk_rig_request request;
    uint64_t before = rig.queue->statistics.spins;
    uint64_t before_enough = rig.queue->statistics.spins_enough;

    submit_for(&request, looks);
    assert_int_equal(sk_block_wait_hybrid(rig.queue, SPIN_NS, UINT64_MAX), SK_OK);
    expect_done(&request);
    assert_int_equal(rig.queue->statistics.spins, before + spins);
    assert_int_equal(rig.queue->statistics.spins_enough, before_enough + enough);
}

/* Three looks in vain are as much as it pays for at the start, and later two. */
static void test_virtio_blk_wait_hybrid__stops_looking_while_it_is_in_vain(void **state)
{
    (void)state;
    start(shapes[1], true);
    for (unsigned again = 0; again < 3; again++) {
        for (unsigned i = 0; i < (again == 0 ? 3u : 2u); i++) {
            wait_through(NEVER, true, false);
        }
        for (unsigned i = 0; i < 255; i++) {
            wait_through(NEVER, false, false);
        }
    }
    for (unsigned i = 0; i < 300; i++) {
        wait_through(20, true, true); /* a device that has become fast is noticed */
    }
    blk_rig_deinit(&rig);
}

/* Looks that are enough, but take nearly all of the time, are not worth it either. */
static void test_virtio_blk_wait_hybrid__stops_looking_for_what_takes_long(void **state)
{
    uint64_t spins;

    (void)state;
    start(shapes[1], true);
    spins = rig.queue->statistics.spins;
    for (unsigned i = 0; i < 1000; i++) {
        struct blk_rig_request request;

        submit_for(&request, SPIN_NS / 100 * 3 / 4); /* a look at the clock takes 100 ns */
        assert_int_equal(sk_block_wait_hybrid(rig.queue, SPIN_NS, UINT64_MAX), SK_OK);
        expect_done(&request);
    }
    assert_true(rig.queue->statistics.spins - spins < 100);
    assert_true(rig.queue->statistics.spins_enough > 0);
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

/* ---- Gathering --------------------------------------------------------------------------- */

#define GATHER_COUNT 64u
#define GATHER_NS    40000u

/* How many answers a wait is for, with 64 requests at the device. */
static const struct {
    uint64_t shape;
    unsigned answers;
} gathering[] = {
    { 0, 1 }, /* cannot say when */
    { SK_VIRTIO_FEATURE(SK_VIRTIO_F_EVENT_IDX), 16 },
    { SK_VIRTIO_FEATURE(SK_VIRTIO_F_EVENT_IDX) | SK_VIRTIO_FEATURE(SK_VIRTIO_F_INDIRECT_DESC), 16 },
    { SK_VIRTIO_FEATURE(SK_VIRTIO_F_RING_PACKED), 1 },
    /* Chains are longer than the shortest: fewer of them reach the place. */
    { SK_VIRTIO_FEATURE(SK_VIRTIO_F_RING_PACKED) | SK_VIRTIO_FEATURE(SK_VIRTIO_F_EVENT_IDX), 11 },
    { SK_VIRTIO_FEATURE(SK_VIRTIO_F_RING_PACKED) | SK_VIRTIO_FEATURE(SK_VIRTIO_F_EVENT_IDX) |
          SK_VIRTIO_FEATURE(SK_VIRTIO_F_INDIRECT_DESC),
      16 },
};

static struct blk_rig_request gathered[GATHER_COUNT];

static void start_gathering(uint64_t shape, unsigned count)
{
    struct fake_device_config config = FAKE_DEVICE_CONFIG_DEFAULT;
    struct sk_virtio_blk_options options = blk_rig_options();

    config.features &= ~(bit(SK_VIRTIO_F_EVENT_IDX) | bit(SK_VIRTIO_F_INDIRECT_DESC));
    config.features |= shape;
    config.deferred = true;
    options.segment_count = 1;
    options.queue_size = 256;
    blk_rig_start(&rig, &config, &options);
    sk_block_set_gathering(rig.queue, GATHER_NS);
    for (unsigned i = 0; i < count; i++) {
        blk_rig_prepare(&rig, &gathered[i], SK_BLOCK_READ, i, i, 512);
        blk_rig_submit(&rig, &gathered[i]);
    }
    rig.env.waits = 0;
}

/* The device finishes one request in each microsecond that somebody sleeps. */
static void finish_one(void *context)
{
    (void)fake_device_run(context, 1);
}

/* A wait that ends after `answers` answers, with one interrupt. */
static void expect_answers(unsigned answers)
{
    uint64_t before = rig.fake->interrupts;
    uint32_t completed = 0;

    rig.env.on_wait = finish_one;
    rig.env.waits = 0;
    assert_int_equal(sk_block_wait(rig.queue, UINT64_MAX), SK_OK);
    assert_int_equal(rig.env.waits, answers);
    assert_int_equal(rig.fake->interrupts, before + 1);
    assert_int_equal(sk_block_poll(rig.queue, 0, &completed), SK_OK);
    assert_int_equal(completed, answers);
}

static void finish_gathering(void)
{
    (void)fake_device_run(rig.fake, UINT_MAX);
    assert_int_equal(sk_block_poll(rig.queue, 0, NULL), SK_OK);
    blk_rig_deinit(&rig);
}

/* Eight requests that the device answers at the n-th look at the clock; how often that was slept for. */
static uint64_t wait_for_eight(unsigned looks)
{
    for (unsigned i = 0; i < 8; i++) {
        blk_rig_prepare(&rig, &gathered[i], SK_BLOCK_READ, i, i, 512);
        blk_rig_submit(&rig, &gathered[i]);
    }
    patience = looks;
    rig.env.on_clock = work;
    rig.env.on_clock_context = rig.fake;
    rig.env.waits = 0;
    assert_int_equal(sk_block_wait_hybrid(rig.queue, SPIN_NS, UINT64_MAX), SK_OK);
    rig.env.on_clock = NULL;
    assert_int_equal(sk_block_poll(rig.queue, 0, NULL), SK_OK);
    assert_int_equal(gathered[7].completions, 1);
    return rig.env.waits;
}

/* Where looking does not pay, a short look may, with some requests at the device. */
static void test_virtio_blk_wait_hybrid__looks_shortly_while_many_are_at_the_device(void **state)
{
    static const unsigned left_out[] = { 1, 3, 3 };
    uint64_t spins;

    (void)state;
    start_gathering(gathering[1].shape, 0);
    sk_block_set_gathering(rig.queue, 0);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(wait_for_eight(NEVER), 1); /* looks in vain: enough of that */
    }
    spins = rig.queue->statistics.spins;
    for (size_t i = 0; i < sizeof(left_out) / sizeof(left_out[0]); i++) {
        assert_int_equal(wait_for_eight(NEVER), 1); /* the short one is in vain, too */
        for (unsigned j = 0; j < left_out[i]; j++) {
            assert_int_equal(wait_for_eight(2), 1);
        }
    }
    for (unsigned i = 0; i < 20; i++) {
        assert_int_equal(wait_for_eight(2), 0);
    }
    assert_int_equal(wait_for_eight(NEVER), 1);
    assert_int_equal(wait_for_eight(2), 1);
    assert_int_equal(wait_for_eight(2), 0);
    assert_int_equal(rig.queue->statistics.spins, spins);
    finish_gathering();
}

static void test_virtio_blk_gather__one_interrupt_for_a_quarter(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(gathering) / sizeof(gathering[0]); i++) {
        start_gathering(gathering[i].shape, GATHER_COUNT);
        expect_answers(gathering[i].answers);
        finish_gathering();
    }
}

static void test_virtio_blk_gather__across_the_end_of_the_ring(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(gathering) / sizeof(gathering[0]); i++) {
        start_gathering(gathering[i].shape, GATHER_COUNT);
        for (unsigned round = 0; round < 300; round++) {
            (void)fake_device_run(rig.fake, UINT_MAX);
            assert_int_equal(sk_block_poll(rig.queue, 0, NULL), SK_OK);
            for (unsigned j = 0; j < GATHER_COUNT; j++) {
                blk_rig_prepare(&rig, &gathered[j], SK_BLOCK_READ, j, j, 512);
                blk_rig_submit(&rig, &gathered[j]);
            }
            expect_answers(gathering[i].answers);
        }
        finish_gathering();
    }
}

static void test_virtio_blk_gather__instead_of_looking_first(void **state)
{
    (void)state;
    start_gathering(gathering[1].shape, GATHER_COUNT);
    rig.env.on_wait = finish_one;
    assert_int_equal(sk_block_wait_hybrid(rig.queue, SPIN_NS, UINT64_MAX), SK_OK);
    assert_int_equal(rig.env.waits, 16);
    assert_int_equal(rig.queue->statistics.spins, 0);
    finish_gathering();
}

/* Wakes without an answer, as a queue does that shares the interrupt, and answers then. */
static void disturb(void *context)
{
    if (rig.env.waits % 2 == 1) {
        SK_CONTAINER_OF(rig.queue, struct ski_blk_queue, queue)->interrupts++;
    } else {
        (void)fake_device_run(context, 1);
    }
}

static void test_virtio_blk_gather__goes_on_after_an_interrupt_of_another(void **state)
{
    uint32_t completed;

    (void)state;
    start_gathering(gathering[1].shape, GATHER_COUNT);
    rig.env.on_wait = disturb;
    assert_int_equal(sk_block_wait(rig.queue, UINT64_MAX), SK_OK);
    assert_int_equal(rig.env.waits, 3); /* what was answered when it woke is taken */
    assert_int_equal(sk_block_poll(rig.queue, 0, &completed), SK_OK);
    assert_int_equal(completed, 1);
    finish_gathering();
}

static void test_virtio_blk_gather__few_requests_are_not_waited_for(void **state)
{
    (void)state;
    start_gathering(gathering[1].shape, 63);
    expect_answers(1);
    finish_gathering();
    start_gathering(gathering[1].shape, GATHER_COUNT);
    sk_block_set_gathering(rig.queue, 0);
    expect_answers(1);
    finish_gathering();
}

/* What is answered already when it would go to sleep needs no interrupt. */
static void test_virtio_blk_gather__what_is_there_already_is_not_slept_for(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(gathering) / sizeof(gathering[0]); i++) {
        uint32_t completed;

        start_gathering(gathering[i].shape, GATHER_COUNT);
        (void)fake_device_run(rig.fake, 17);
        assert_int_equal(sk_block_wait(rig.queue, UINT64_MAX), SK_OK);
        assert_int_equal(rig.env.waits, 0);
        assert_int_equal(sk_block_poll(rig.queue, 0, &completed), SK_OK);
        assert_int_equal(completed, 17);
        finish_gathering();
    }
}

/* A device that answers one and then none: that one is late by no more than was allowed. */
static void test_virtio_blk_gather__ends_in_time(void **state)
{
    (void)state;
    for (size_t i = 1; i < sizeof(gathering) / sizeof(gathering[0]); i++) {
        uint64_t begin;
        uint32_t completed;

        start_gathering(gathering[i].shape, GATHER_COUNT);
        rig.env.on_wait = NULL;
        begin = rig.env.clock_ns;
        if (gathering[i].answers > 1) {
            (void)fake_device_run(rig.fake, 1);
        }
        assert_int_equal(sk_block_wait(rig.queue, begin + 2 * GATHER_NS),
                         gathering[i].answers > 1 ? SK_OK : SK_ERR_TIMEOUT);
        assert_true(rig.env.clock_ns - begin >= GATHER_NS);
        assert_true(gathering[i].answers == 1 || rig.env.clock_ns - begin < GATHER_NS + 5000);
        assert_int_equal(sk_block_poll(rig.queue, 0, &completed), SK_OK);
        assert_int_equal(completed, gathering[i].answers > 1 ? 1 : 0);
        assert_int_equal(sk_block_wait(rig.queue, begin), SK_ERR_TIMEOUT);
        finish_gathering();
    }
}

/* A slow device is asked for more ever more rarely, and a fast one again at once. */
static void test_virtio_blk_gather__in_vain_is_not_repeated(void **state)
{
    static const unsigned slow[] = { 1, 3, 7, 15 };
    unsigned oldest = 0;

    (void)state;
    start_gathering(gathering[1].shape, GATHER_COUNT);
    for (size_t i = 0; i < sizeof(slow) / sizeof(slow[0]); i++) {
        rig.env.on_wait = NULL;
        assert_int_equal(sk_block_wait(rig.queue, rig.env.clock_ns + 2 * GATHER_NS),
                         SK_ERR_TIMEOUT);
        for (unsigned j = 0; j < slow[i]; j++) {
            expect_answers(1);
            blk_rig_prepare(&rig, &gathered[oldest], SK_BLOCK_READ, 0, oldest, 512);
            blk_rig_submit(&rig, &gathered[oldest]);
            oldest = (oldest + 1) % GATHER_COUNT;
        }
    }
    expect_answers(16); /* in time again */
    finish_gathering();
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
        cmocka_unit_test(test_virtio_blk_wait_hybrid__stops_looking_while_it_is_in_vain),
        cmocka_unit_test(test_virtio_blk_wait_hybrid__stops_looking_for_what_takes_long),
        cmocka_unit_test(test_virtio_blk_wait_hybrid__looks_shortly_while_many_are_at_the_device),
        cmocka_unit_test(test_virtio_blk_gather__one_interrupt_for_a_quarter),
        cmocka_unit_test(test_virtio_blk_gather__across_the_end_of_the_ring),
        cmocka_unit_test(test_virtio_blk_gather__instead_of_looking_first),
        cmocka_unit_test(test_virtio_blk_gather__goes_on_after_an_interrupt_of_another),
        cmocka_unit_test(test_virtio_blk_gather__few_requests_are_not_waited_for),
        cmocka_unit_test(test_virtio_blk_gather__what_is_there_already_is_not_slept_for),
        cmocka_unit_test(test_virtio_blk_gather__ends_in_time),
        cmocka_unit_test(test_virtio_blk_gather__in_vain_is_not_repeated),
        cmocka_unit_test(test_virtio_blk_interrupts_off__after_every_path),
        cmocka_unit_test(test_virtio_blk_interrupts_off__past_the_wrap_of_the_index),
    };

    return cmocka_run_group_tests_name("virtio_blk_wait", tests, NULL, NULL);
}
