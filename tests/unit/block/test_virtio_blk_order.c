/* SPDX-License-Identifier: MIT */
/* A device that works in order (IN_ORDER): one used entry for many requests, and lies about it. */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "support/blk_rig.h"

#define COUNT 16u
#define SIZE  16u

static struct blk_rig rig;
static struct blk_rig_request requests[COUNT];
static unsigned finished[COUNT]; /* the numbers of requests, as they completed */
static unsigned finished_count;

static uint64_t bit(unsigned number)
{
    return SK_VIRTIO_FEATURE(number);
}

/* Rings that work in order: split with tables, packed with and without. */
static const uint64_t shapes[] = {
    SK_VIRTIO_FEATURE(SK_VIRTIO_F_INDIRECT_DESC),
    SK_VIRTIO_FEATURE(SK_VIRTIO_F_INDIRECT_DESC) | SK_VIRTIO_FEATURE(SK_VIRTIO_F_EVENT_IDX),
    SK_VIRTIO_FEATURE(SK_VIRTIO_F_RING_PACKED) | SK_VIRTIO_FEATURE(SK_VIRTIO_F_EVENT_IDX),
    SK_VIRTIO_FEATURE(SK_VIRTIO_F_RING_PACKED) | SK_VIRTIO_FEATURE(SK_VIRTIO_F_INDIRECT_DESC),
};

#define SHAPES (sizeof(shapes) / sizeof(shapes[0]))

static bool is_packed(size_t shape)
{
    return (shapes[shape] & bit(SK_VIRTIO_F_RING_PACKED)) != 0;
}

static struct fake_device_config config_of(uint64_t shape, uint32_t entries)
{
    struct fake_device_config config = FAKE_DEVICE_CONFIG_DEFAULT;

    config.features &= ~(bit(SK_VIRTIO_F_EVENT_IDX) | bit(SK_VIRTIO_F_INDIRECT_DESC));
    config.features |= shape | bit(SK_VIRTIO_F_IN_ORDER);
    config.in_order_batch = COUNT;
    config.deferred = true;
    config.queue_size_max = entries;
    return config;
}

static void note(struct sk_block_request *request)
{
    struct blk_rig_request *one = SK_CONTAINER_OF(request, struct blk_rig_request, request);

    one->completions++;
    finished[finished_count++ % COUNT] = (unsigned)(one - requests);
}

static void prepare(void)
{
    finished_count = 0;
    for (uint32_t i = 0; i < COUNT; i++) {
        blk_rig_prepare(&rig, &requests[i], SK_BLOCK_READ, i, i, 512);
        requests[i].request.complete = note;
    }
}

/* One data segment for each request, so that all of COUNT fit a ring of 3 descriptors each. */
static void start(size_t shape, uint32_t entries)
{
    struct fake_device_config config = config_of(shapes[shape], entries);
    struct sk_virtio_blk_options options = blk_rig_options();

    options.segment_count = 1;
    blk_rig_start(&rig, &config, &options);
    assert_true(rig.disk->info.features & bit(SK_VIRTIO_F_IN_ORDER));
    prepare();
}

static uint32_t entries_of(size_t shape)
{
    return (shapes[shape] & bit(SK_VIRTIO_F_INDIRECT_DESC)) != 0 ? SIZE : 3 * SIZE;
}

static void submit(uint32_t from, uint32_t count)
{
    struct sk_block_request *batch[COUNT];

    for (uint32_t i = 0; i < count; i++) {
        batch[i] = &requests[from + i].request;
        requests[from + i].completions = 0;
    }
    sk_block_submit(rig.queue, batch, count);
}

static void expect(uint32_t from, uint32_t count, enum sk_status status)
{
    for (uint32_t i = from; i < from + count; i++) {
        assert_int_equal(requests[i].completions, 1);
        assert_int_equal(requests[i].request.status, status);
    }
}

/* All of them, and the queue is where it was. */
static void lap(void)
{
    for (uint32_t i = 0; i < COUNT; i += 4) {
        submit(i, 4);
        assert_int_equal(fake_device_run(rig.fake, UINT_MAX), 4);
        assert_int_equal(sk_block_poll(rig.queue, 0, NULL), SK_OK);
        expect(i, 4, SK_OK);
    }
}

/* ---- The feature ------------------------------------------------------------------------- */

static void test_virtio_blk_order__is_taken_when_offered_and_left_by_options(void **state)
{
    (void)state;
    for (size_t shape = 0; shape < SHAPES; shape++) {
        struct fake_device_config config = config_of(shapes[shape], SIZE);
        struct sk_virtio_blk_options options = blk_rig_options();

        for (unsigned wanted = 0; wanted < 2; wanted++) {
            options.features = wanted ? UINT64_MAX : ~bit(SK_VIRTIO_F_IN_ORDER);
            blk_rig_start(&rig, &config, &options);
            assert_int_equal((rig.disk->info.features & bit(SK_VIRTIO_F_IN_ORDER)) != 0, wanted);
            prepare();
            submit(0, 2);
            (void)fake_device_run(rig.fake, UINT_MAX);
            assert_int_equal(sk_block_poll(rig.queue, 0, NULL), SK_OK);
            expect(0, 2, SK_OK);
            assert_int_equal(rig.fake->skipped, wanted);
            blk_rig_deinit(&rig);
        }
    }
}

/* Chains in fixed places of the table would not be in its order; 2.7.5. */
static void test_virtio_blk_order__split_without_tables_does_not_take_it(void **state)
{
    (void)state;
    for (unsigned forced = 0; forced < 2; forced++) {
        struct fake_device_config config = config_of(0, SIZE);
        struct sk_virtio_blk_options options = blk_rig_options();

        config.features |= forced ? bit(SK_VIRTIO_F_INDIRECT_DESC) : 0;
        options.features = forced ? ~bit(SK_VIRTIO_F_INDIRECT_DESC) : UINT64_MAX;
        blk_rig_start(&rig, &config, &options);
        assert_false(rig.disk->info.features & bit(SK_VIRTIO_F_IN_ORDER));
        prepare();
        for (unsigned round = 0; round < 20; round++) {
            submit(0, 4);
            (void)fake_device_run(rig.fake, UINT_MAX);
            assert_int_equal(sk_block_poll(rig.queue, 0, NULL), SK_OK);
            expect(0, 4, SK_OK);
        }
        blk_rig_deinit(&rig);
    }
}

/* ---- Batches ----------------------------------------------------------------------------- */

static void test_virtio_blk_order__one_entry_ends_all_of_them(void **state)
{
    (void)state;
    for (size_t shape = 0; shape < SHAPES; shape++) {
        uint32_t completed = 0;

        start(shape, entries_of(shape));
        for (unsigned round = 0; round < 50; round++) {
            uint64_t skipped = rig.fake->skipped;
            uint32_t count = 1 + round % COUNT;

            submit(0, count);
            finished_count = 0;
            assert_int_equal(fake_device_run(rig.fake, UINT_MAX), count);
            assert_int_equal(rig.fake->skipped - skipped, count - 1);
            assert_int_equal(sk_block_poll(rig.queue, 0, &completed), SK_OK);
            assert_int_equal(completed, count);
            expect(0, count, SK_OK);
            for (uint32_t i = 0; i < count; i++) {
                assert_int_equal(finished[i], i);
            }
        }
        blk_rig_deinit(&rig);
    }
}

/* The rest of an entry is work that neither a sleep nor an interrupt has to be waited for. */
static void test_virtio_blk_order__budget_ends_in_the_middle_of_an_entry(void **state)
{
    (void)state;
    for (size_t shape = 0; shape < SHAPES; shape++) {
        start(shape, entries_of(shape));
        for (uint32_t budget = 1; budget < 6; budget++) {
            uint32_t done = 0;

            for (unsigned round = 0; round < 9; round++) {
                submit(0, 11);
                (void)fake_device_run(rig.fake, UINT_MAX);
                for (done = 0; done < 11;) {
                    uint64_t waits = rig.env.waits;
                    uint32_t completed;

                    assert_int_equal(sk_block_arm(rig.queue), SK_ERR_AGAIN);
                    assert_int_equal(sk_block_wait(rig.queue, UINT64_MAX), SK_OK);
                    assert_int_equal(sk_block_wait_hybrid(rig.queue, 1000, UINT64_MAX), SK_OK);
                    assert_int_equal(rig.env.waits, waits);
                    assert_int_equal(sk_block_poll(rig.queue, budget, &completed), SK_OK);
                    assert_int_equal(completed, 11 - done < budget ? 11 - done : budget);
                    done += completed;
                }
                expect(0, 11, SK_OK);
            }
        }
        blk_rig_deinit(&rig);
    }
}

/* Each has a status byte of its own, wherever in the batch it is. */
static void test_virtio_blk_order__an_error_is_one_requests_own(void **state)
{
    (void)state;
    for (size_t shape = 0; shape < SHAPES; shape++) {
        start(shape, entries_of(shape));
        for (uint32_t bad = 0; bad < 7; bad++) {
            submit(0, 7);
            fake_device_fault(rig.fake, FAKE_FAULT_STATUS_BYTE, 1, bad, 1);
            assert_int_equal(fake_device_run(rig.fake, UINT_MAX), 7);
            assert_int_equal(sk_block_poll(rig.queue, 0, NULL), SK_OK);
            expect(0, bad, SK_OK);
            expect(bad, 1, SK_ERR_IO);
            expect(bad + 1, 6 - bad, SK_OK);
            lap();
        }
        blk_rig_deinit(&rig);
    }
}

/* ---- Anything at any time ------------------------------------------------------------------ */

static uint64_t seed;

static uint32_t random_below(uint32_t limit)
{
    seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407u;
    return (uint32_t)(seed >> 33) % limit;
}

/* Requests of 1 to 3 parts, flushes behind some, budgets, waiting lists, shared entries. */
static void mix(size_t shape, uint32_t entries, unsigned steps)
{
    struct fake_device_config config = config_of(shapes[shape], entries);
    struct sk_virtio_blk_options options = blk_rig_options();
    uint32_t busy = 0;

    options.segment_count = 1 + entries % 3;
    config.size_max = 1024;
    config.features |= bit(SK_VIRTIO_BLK_F_SIZE_MAX);
    config.in_order_batch = 1 + entries % 6;
    blk_rig_start(&rig, &config, &options);
    prepare();
    for (uint32_t i = 0; i < COUNT; i++) {
        requests[i].completions = 1;
    }
    for (unsigned step = 0; step < steps; step++) {
        uint32_t i = random_below(COUNT);
        uint32_t completed;

        if (requests[i].completions == 1) {
            requests[i].segment.bytes = 512 * (1 + random_below(6));
            requests[i].request.operation = i % 2 == 0 ? SK_BLOCK_READ : SK_BLOCK_WRITE;
            requests[i].request.flags = i % 2 == 1 && i % 3 == 0 ? SK_BLOCK_FLAG_FUA : 0;
            submit(i, 1);
            busy++;
        }
        (void)fake_device_run(rig.fake, random_below(4));
        assert_int_equal(sk_block_poll(rig.queue, random_below(4), &completed), SK_OK);
        busy -= completed;
    }
    for (unsigned poll = 0; busy > 0 && poll < 1000; poll++) {
        uint32_t completed;

        (void)fake_device_run(rig.fake, UINT_MAX);
        assert_int_equal(sk_block_poll(rig.queue, 0, &completed), SK_OK);
        busy -= completed;
    }
    expect(0, COUNT, SK_OK);
    blk_rig_deinit(&rig);
}

static void test_virtio_blk_order__anything_at_any_time_in_rings_of_any_size(void **state)
{
    static const uint32_t sizes[] = { 3, 5, 8, 13, 16, 64, 127 };

    (void)state;
    seed = 20;
    printf("seed %" PRIu64 "\n", seed);
    for (size_t shape = 0; shape < SHAPES; shape++) {
        for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
            if (is_packed(shape) || sizes[i] >= 4) { /* no request fits in a shorter split ring */
                mix(shape, sizes[i], 1500);
            }
        }
    }
}

/* Past the end of the 16-bit indexes, in batches that do not divide it. */
static void test_virtio_blk_order__batches_lie_across_the_wrap(void **state)
{
    (void)state;
    for (size_t shape = 0; shape < SHAPES; shape++) {
        uint64_t wanted = 65536 + 4 * COUNT;

        start(shape, is_packed(shape) ? entries_of(shape) - 1 : entries_of(shape));
        while (rig.fake->requests < wanted) {
            submit(0, 11);
            assert_int_equal(fake_device_run(rig.fake, UINT_MAX), 11);
            assert_int_equal(sk_block_poll(rig.queue, 0, NULL), SK_OK);
            expect(0, 11, SK_OK);
        }
        assert_true(rig.fake->skipped > 59000);
        blk_rig_deinit(&rig);
    }
}

/* ---- Lies -------------------------------------------------------------------------------- */

static uint64_t first_request; /* what was asked before slot 0 was used for the first time */

static void recover(void)
{
    first_request = rig.fake->requests;
    fake_device_behave(rig.fake);
    assert_int_equal(sk_block_recover(rig.disk, 0), SK_OK);
    prepare();
    lap();
}

static void start_lying(size_t shape)
{
    first_request = 0;
    start(shape, entries_of(shape));
}

/* The slot that is used `ahead` requests from now. */
static uint32_t slot_ahead(uint64_t ahead)
{
    return (uint32_t)((rig.fake->requests - first_request + ahead) % SIZE);
}

/*
 * `count` of 8 requests, whose answers are all there, are told of with one entry
 * that has a fault; before it `laps` went well.  Whatever it says: each request
 * ends once, and the device is stopped and comes back.  Ids below SIZE count
 * from the oldest request's.
 */
static void lie(unsigned laps, uint32_t count, enum fake_fault fault, uint64_t argument)
{
    uint32_t good = 0;

    for (unsigned i = 0; i < laps; i++) {
        lap();
    }
    if (fault == FAKE_FAULT_USED_ID && argument < SIZE) {
        argument = slot_ahead(argument);
    }
    submit(0, 8);
    fake_device_fault(rig.fake, fault, argument, 0, 1);
    (void)fake_device_run(rig.fake, count);
    assert_int_equal(sk_block_poll(rig.queue, 0, NULL), SK_ERR_BROKEN);
    for (uint32_t i = 0; i < 8; i++) {
        assert_int_equal(requests[i].completions, 1);
        good += requests[i].request.status == SK_OK;
    }
    assert_true(good < 8 && good <= count);
    assert_int_equal(sk_block_get_state(rig.disk), SK_BLOCK_STATE_BROKEN);
    recover();
}

static void test_hostile_46__ids_that_no_batch_can_end_with(void **state)
{
    static const uint32_t ids[] = { SIZE, SIZE + 7, 255, 0x7fff, 0xffff, 0x10007, UINT32_MAX };

    (void)state;
    for (size_t shape = 0; shape < SHAPES; shape++) {
        start_lying(shape);
        for (uint32_t id = 8; id < SIZE; id++) { /* slots, and not in flight */
            lie(id % 2, 8, FAKE_FAULT_USED_ID, id);
        }
        for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
            if (!is_packed(shape) || (uint16_t)ids[i] >= SIZE) { /* 16 bits wide there */
                lie(1, 8, FAKE_FAULT_USED_ID, ids[i]);
            }
        }
        /* The right one, after narrowing to the ring's size or to 16 bits. */
        lie(1, 8, FAKE_FAULT_USED_ID_OFFSET, SIZE);
        lie(1, 8, FAKE_FAULT_USED_ID_OFFSET, 0x8000);
        if (!is_packed(shape)) {
            lie(1, 8, FAKE_FAULT_USED_ID_OFFSET, 0x10000);
        }
        blk_rig_deinit(&rig);
    }
}

/*
 * An entry that says less than the index does: the next one was never written. (An
 * old one may stand there that is right by chance: then all of them were answered.)
 */
static void test_hostile_46__ids_before_the_end_of_the_batch(void **state)
{
    (void)state;
    for (size_t shape = 0; !is_packed(shape); shape++) {
        for (uint32_t id = 0; id < 7; id++) {
            start(shape, entries_of(shape));
            submit(0, 8);
            fake_device_fault(rig.fake, FAKE_FAULT_USED_ID, 1 + id, 0, 1); /* 0 was the probe's */
            assert_int_equal(fake_device_run(rig.fake, 8), 8);
            assert_int_equal(sk_block_poll(rig.queue, 0, NULL), SK_ERR_BROKEN);
            expect(0, id + 1, SK_OK);
            expect(id + 1, 7 - id, SK_ERR_MALFORMED);
            blk_rig_deinit(&rig);
        }
    }
}

static void test_hostile_46__ids_behind_the_end_of_the_batch(void **state)
{
    (void)state;
    for (size_t shape = 0; shape < SHAPES; shape++) {
        start_lying(shape);
        for (uint32_t count = 1; count < 8; count++) { /* in flight, without an answer */
            lie(count % 2, count, FAKE_FAULT_USED_ID, 7);
        }
        blk_rig_deinit(&rig);
    }
}

/* The index reaches less far than the id, or further than anything; or an old entry shows. */
static void test_hostile_46__every_jump_that_is_not_the_batchs(void **state)
{
    (void)state;
    for (size_t shape = 0; !is_packed(shape); shape++) {
        start_lying(shape);
        for (uint32_t less = 1; less < 8; less++) {
            lie(less % 2, 8, FAKE_FAULT_USED_INDEX, 0x10000 - less);
        }
        for (uint32_t more = 1; more < 0xfff0; more += 1 + more / 9) {
            lie(more % 2, 8, FAKE_FAULT_USED_INDEX, more);
            lie(more % 2, 4, FAKE_FAULT_USED_INDEX, more); /* 4 at the device yet */
        }
        blk_rig_deinit(&rig);
    }
}

static void test_hostile_46__packed_descriptors_used_that_are_not(void **state)
{
    (void)state;
    for (size_t shape = 0; shape < SHAPES; shape++) {
        start_lying(shape);
        for (uint32_t more = 1; is_packed(shape) && more < 4; more++) {
            lie(more % 2, 4, FAKE_FAULT_USED_INDEX, more);
        }
        blk_rig_deinit(&rig);
    }
}

/* The same entry again; what was answered is not in flight any more. */
static void test_hostile_46__the_same_batch_twice(void **state)
{
    (void)state;
    for (size_t shape = 0; shape < SHAPES; shape++) {
        start_lying(shape);
        for (uint32_t old = 0; old < 4; old++) {
            uint32_t id = slot_ahead(old);

            submit(0, 8);
            (void)fake_device_run(rig.fake, 4);
            assert_int_equal(sk_block_poll(rig.queue, 0, NULL), SK_OK);
            expect(0, 4, SK_OK);
            assert_int_equal(requests[4].completions, 0);
            /* 3: the same, else one before it. */
            fake_device_forge_used(rig.fake, 0, id, 1);
            assert_int_equal(sk_block_poll(rig.queue, 0, NULL), SK_ERR_BROKEN);
            expect(0, 4, SK_OK);
            expect(4, 4, SK_ERR_MALFORMED);
            recover();
        }
        blk_rig_deinit(&rig);
    }
}

/* A batch in which one has no answer, and one that was finished before its elders. */
static void test_hostile_46__batches_with_a_hole(void **state)
{
    (void)state;
    for (size_t shape = 0; shape < SHAPES; shape++) {
        start_lying(shape);
        for (uint32_t hole = 0; hole < 8; hole++) {
            submit(0, 8);
            fake_device_fault(rig.fake, FAKE_FAULT_NO_STATUS, 0, hole, 1);
            (void)fake_device_run(rig.fake, UINT_MAX);
            assert_int_equal(sk_block_poll(rig.queue, 0, NULL), SK_ERR_BROKEN);
            expect(0, hole, SK_OK);
            expect(hole, 8 - hole, SK_ERR_MALFORMED);
            recover();
        }
        lie(1, 1, FAKE_FAULT_OUT_OF_ORDER, 0);
        blk_rig_deinit(&rig);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_virtio_blk_order__is_taken_when_offered_and_left_by_options),
        cmocka_unit_test(test_virtio_blk_order__split_without_tables_does_not_take_it),
        cmocka_unit_test(test_virtio_blk_order__one_entry_ends_all_of_them),
        cmocka_unit_test(test_virtio_blk_order__budget_ends_in_the_middle_of_an_entry),
        cmocka_unit_test(test_virtio_blk_order__an_error_is_one_requests_own),
        cmocka_unit_test(test_virtio_blk_order__anything_at_any_time_in_rings_of_any_size),
        cmocka_unit_test(test_virtio_blk_order__batches_lie_across_the_wrap),
        cmocka_unit_test(test_hostile_46__ids_that_no_batch_can_end_with),
        cmocka_unit_test(test_hostile_46__ids_before_the_end_of_the_batch),
        cmocka_unit_test(test_hostile_46__ids_behind_the_end_of_the_batch),
        cmocka_unit_test(test_hostile_46__every_jump_that_is_not_the_batchs),
        cmocka_unit_test(test_hostile_46__packed_descriptors_used_that_are_not),
        cmocka_unit_test(test_hostile_46__the_same_batch_twice),
        cmocka_unit_test(test_hostile_46__batches_with_a_hole),
    };

    return cmocka_run_group_tests_name("virtio_blk_order", tests, NULL, NULL);
}
