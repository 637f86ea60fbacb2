/* SPDX-License-Identifier: MIT */
/*
 * Devices that lie about requests: each test is named for a line of the list
 * of what hostile devices do.  For all of them: no crash, every wait ends,
 * each request is completed exactly once, a device that broke the protocol is
 * stopped before anything is completed, and it can be brought back.  The fake
 * device also checks the driver: a violation by the driver fails any of these.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "fake/hostile_rig.h"

#define WITHOUT(bit) (FAKE_FEATURES_DEFAULT & ~SK_VIRTIO_FEATURE(bit))

static const struct fake_device_config default_config = FAKE_DEVICE_CONFIG_DEFAULT;

/* One read that the device spoils; the device is stopped, and comes back. */
static void expect_breaks(struct rig *rig)
{
    assert_int_equal(rig_read(rig, 0), SK_ERR_MALFORMED);
    rig_expect_recovers(rig);
}

/* --- 1 to 3: which request ------------------------------------------------ */

static void test_hostile_01__every_id_beyond_the_ring(void **state)
{
    struct rig rig;

    (void)state;
    rig_start(&rig, NULL);
    for (uint32_t id = rig.disk->info.queue_size; id <= UINT16_MAX; id++) {
        fake_device_fault(rig.fake, FAKE_FAULT_USED_ID, id, 0, 1);
        assert_int_equal(rig_read(&rig, 0), SK_ERR_MALFORMED);
        rig_expect_state(&rig, SK_BLOCK_STATE_BROKEN);
        assert_int_equal(sk_block_recover(rig.disk, 0), SK_OK);
    }
    rig_expect_works(&rig);
    rig_stop(&rig);
}

/* The low 16 bits are the id of the very request that is at the device. */
static void test_hostile_01__ids_that_fit_after_narrowing(void **state)
{
    static const uint32_t high[] = { 0x10000, 0x80000000, 0xffff0000 };
    struct rig rig;

    (void)state;
    rig_start(&rig, NULL);
    for (size_t i = 0; i < sizeof(high) / sizeof(high[0]); i++) {
        fake_device_fault(rig.fake, FAKE_FAULT_USED_ID_OFFSET, high[i], 0, 1);
        expect_breaks(&rig);
    }
    fake_device_fault(rig.fake, FAKE_FAULT_USED_ID, UINT32_MAX, 0, 1);
    expect_breaks(&rig);
    rig_stop(&rig);
}

static void test_hostile_02__each_completion_replayed(void **state)
{
    struct rig rig;

    (void)state;
    rig_start(&rig, NULL);
    for (unsigned count = 1; count < 5; count++) {
        fake_device_fault(rig.fake, FAKE_FAULT_USED_REPLAY, count, 0, 1);
        (void)rig_read(&rig, 0);
        (void)rig_read(&rig, 1);
        rig_expect_recovers(&rig);
    }
    rig_stop(&rig);
}

/* A completion of a free slot while others are in flight. */
static void test_hostile_02__stale_id_among_others(void **state)
{
    struct fake_device_config config = default_config;
    struct rig rig;

    (void)state;
    config.deferred = true;
    rig_start(&rig, &config);
    for (uint32_t id = 0; id < rig.disk->info.queue_size; id++) {
        rig_submit(&rig, 0, SK_BLOCK_READ, 0, 1);
        rig_submit(&rig, 1, SK_BLOCK_WRITE, 8, 1);
        fake_device_forge_used(rig.fake, 0, id, 513);
        rig_settle(&rig);
        /* Its own id came early, without an answer: a violation as well. */
        assert_int_equal(rig.request[0].status, SK_ERR_MALFORMED);
        assert_int_equal(rig.request[1].status, SK_ERR_MALFORMED);
        rig_expect_recovers(&rig);
    }
    rig_stop(&rig);
}

static void test_hostile_03__ids_in_the_middle_of_a_chain(void **state)
{
    struct fake_device_config config = default_config;
    struct rig rig;

    (void)state;
    config.features = WITHOUT(SK_VIRTIO_F_INDIRECT_DESC);
    rig_start(&rig, &config);
    for (unsigned offset = 1; offset < RIG_SEGMENTS + 2; offset++) {
        fake_device_fault(rig.fake, FAKE_FAULT_USED_ID_OFFSET, offset, 0, 1);
        expect_breaks(&rig);
    }
    rig_stop(&rig);
}

/* --- 4 to 6: what was written --------------------------------------------- */

static void test_hostile_04__lengths_that_cannot_be(void **state)
{
    static const uint32_t lengths[] = { 0, 1, 512, 513, 514, 0x7fffffff, 0x80000000, UINT32_MAX };
    struct rig rig;

    (void)state;
    rig_start(&rig, NULL);
    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        fake_device_fault(rig.fake, FAKE_FAULT_USED_LENGTH, lengths[i], 0, FAKE_FOR_EVER);
        rig_expect_works(&rig);
    }
    rig_stop(&rig);
}

static void test_hostile_05__a_device_that_counts_nothing_is_fine(void **state)
{
    struct fake_device_config config = default_config;
    struct rig rig;

    (void)state;
    config.legacy = true;
    rig_start(&rig, &config);
    fake_device_fault(rig.fake, FAKE_FAULT_USED_LENGTH, 0, 0, FAKE_FOR_EVER);
    rig_expect_works(&rig);
    rig_stop(&rig);
}

static void test_hostile_06__completion_without_an_answer(void **state)
{
    struct rig rig;

    (void)state;
    rig_start(&rig, NULL);
    for (unsigned i = 0; i < 3; i++) { /* a slot's old answer does not stand in either */
        assert_int_equal(rig_read(&rig, 0), SK_OK);
        fake_device_fault(rig.fake, FAKE_FAULT_NO_STATUS, 0, 0, 1);
        expect_breaks(&rig);
    }
    rig_stop(&rig);
}

static void test_hostile_06__every_answer(void **state)
{
    struct rig rig;

    (void)state;
    rig_start(&rig, NULL);
    for (uint32_t answer = 0; answer < 256; answer++) {
        enum sk_status status;

        fake_device_fault(rig.fake, FAKE_FAULT_STATUS_BYTE, answer, 0, 1);
        status = rig_read(&rig, 0);
        if (answer < 3) {
            assert_int_equal(status, answer == 0   ? SK_OK
                                     : answer == 1 ? SK_ERR_IO
                                                   : SK_ERR_UNSUPPORTED);
            rig_expect_state(&rig, SK_BLOCK_STATE_READY);
        } else {
            assert_int_equal(status, SK_ERR_MALFORMED);
            rig_expect_recovers(&rig);
        }
    }
    rig_stop(&rig);
}

/* --- 8, 9: shared memory changes under way --------------------------------- */

static void scribbled_rounds(uint64_t features, enum fake_order order)
{
    struct fake_device_config config = default_config;
    struct rig rig;

    config.features = features;
    config.deferred = true;
    config.order = order;
    config.seed = 8;
    rig_start(&rig, &config);
    fake_device_fault(rig.fake, FAKE_FAULT_SCRIBBLE, 0, 0, FAKE_FOR_EVER);
    for (unsigned round = 0; round < 40; round++) {
        for (unsigned i = 8; i < 8 + round % 30; i++) {
            rig_submit(&rig, i, SK_BLOCK_READ, i, 1 + i % 8);
        }
        rig_settle(&rig);
        rig_expect_works(&rig);
    }
    rig_stop(&rig);
}

static void test_hostile_08__descriptors_are_garbage_while_owned(void **state)
{
    (void)state;
    scribbled_rounds(FAKE_FEATURES_DEFAULT, FAKE_ORDER_RANDOM);
}

static void test_hostile_09__links_are_garbage_while_owned(void **state)
{
    (void)state;
    scribbled_rounds(WITHOUT(SK_VIRTIO_F_INDIRECT_DESC), FAKE_ORDER_RANDOM);
    scribbled_rounds(WITHOUT(SK_VIRTIO_F_INDIRECT_DESC), FAKE_ORDER_LAST_IN);
}

static void test_hostile_08__descriptors_stay_garbage(void **state)
{
    struct fake_device_config config = default_config;
    struct rig rig;

    (void)state;
    for (unsigned pass = 0; pass < 2; pass++) {
        config.features = pass == 0 ? FAKE_FEATURES_DEFAULT : WITHOUT(SK_VIRTIO_F_INDIRECT_DESC);
        rig_start(&rig, &config);
        fake_device_fault(rig.fake, FAKE_FAULT_SCRIBBLE_FOR_GOOD, 0, 0, FAKE_FOR_EVER);
        for (unsigned round = 0; round < 200; round++) {
            (void)rig_read(&rig, round % RIG_REQUESTS); /* any status, but one */
            if (sk_block_get_state(rig.disk) != SK_BLOCK_STATE_READY) {
                assert_int_equal(sk_block_recover(rig.disk, 0), SK_OK);
            }
        }
        fake_device_behave(rig.fake);
        assert_int_equal(sk_block_recover(rig.disk, 0), SK_OK); /* writes them afresh */
        rig_expect_works(&rig);
        rig_stop(&rig);
    }
}

/* --- 10, 11: how many -------------------------------------------------------- */

static void test_hostile_10__every_jump_of_the_used_index(void **state)
{
    struct rig rig;

    (void)state;
    rig_start(&rig, NULL);
    for (uint32_t jump = 1; jump <= UINT16_MAX; jump += jump < 130 ? 1 : 97) {
        fake_device_fault(rig.fake, FAKE_FAULT_USED_INDEX, jump, 0, 1);
        assert_int_not_equal(rig_read(&rig, 0), SK_OK); /* none of the elements is believed */
        rig_expect_state(&rig, SK_BLOCK_STATE_BROKEN);
        assert_int_equal(sk_block_recover(rig.disk, 0), SK_OK);
    }
    rig_expect_works(&rig);
    rig_stop(&rig);
}

static void test_hostile_10__completions_out_of_nothing(void **state)
{
    struct rig rig;

    (void)state;
    rig_start(&rig, NULL);
    for (uint32_t jump = 1; jump <= UINT16_MAX; jump += 13) {
        uint16_t index = (uint16_t)(rig.fake->queues[0].used_index + jump);

        fake_device_forge_used_index(rig.fake, 0, index);
        assert_int_equal(sk_block_poll(rig.queue, 0, NULL), SK_ERR_BROKEN);
        rig_expect_state(&rig, SK_BLOCK_STATE_BROKEN);
        assert_int_equal(sk_block_recover(rig.disk, 0), SK_OK);
    }
    rig_expect_works(&rig);
    rig_stop(&rig);
}

struct endless {
    struct sk_block_request request; /* first */
    struct sk_block_queue *queue;
    unsigned completed;
    bool stop;
};

static void submit_again(struct sk_block_request *request)
{
    struct endless *endless = (struct endless *)(void *)request;

    endless->completed++;
    if (!endless->stop) {
        sk_block_submit(endless->queue, &request, 1);
    }
}

static void test_hostile_11__completions_without_end_keep_the_budget(void **state)
{
    struct endless endless = { .stop = false };
    struct rig rig;

    (void)state;
    rig_start(&rig, NULL);
    assert_int_equal(sk_io_buffer_segment(&rig.buffer, 0, 512, &rig.segment[0][0]), SK_OK);
    endless.request.operation = SK_BLOCK_READ;
    endless.request.segments = rig.segment[0];
    endless.request.segment_count = 1;
    endless.queue = rig.queue;
    endless.request.complete = submit_again;
    sk_block_submit(rig.queue, (struct sk_block_request *const[]){ &endless.request }, 1);
    for (unsigned poll = 1; poll <= 1000; poll++) {
        uint32_t completed = 0;

        assert_int_equal(sk_block_poll(rig.queue, 1, &completed), SK_OK);
        assert_true(completed <= 1);
        assert_true(endless.completed <= poll);
    }
    assert_true(endless.completed > 900);
    endless.stop = true;
    assert_int_equal(sk_block_poll(rig.queue, 0, NULL), SK_OK);
    rig_stop(&rig);
}

/* --- 14, 15, 16: time and ownership ------------------------------------------ */

static void test_hostile_14__completed_twice_with_indirect_tables(void **state)
{
    struct rig rig;

    (void)state;
    rig_start(&rig, NULL);
    assert_true((rig.disk->info.features & SK_VIRTIO_FEATURE(SK_VIRTIO_F_INDIRECT_DESC)) != 0);
    fake_device_fault(rig.fake, FAKE_FAULT_USED_REPLAY, 1, 0, 1);
    for (unsigned i = 0; i < 8; i++) {
        rig_submit(&rig, i, SK_BLOCK_READ, i, 1);
    }
    rig_settle(&rig);
    rig_expect_recovers(&rig);
    rig_stop(&rig);
}

static void test_hostile_15__a_late_answer_finds_the_device_reset(void **state)
{
    bool in_order = (rig_more_features & SK_VIRTIO_FEATURE(SK_VIRTIO_F_IN_ORDER)) != 0;
    struct rig rig;
    uint64_t start_ns;

    (void)state;
    rig_start(&rig, NULL);
    start_ns = rig.env.clock_ns;
    fake_device_fault(rig.fake, FAKE_FAULT_STALL, 0, 1, 1);
    for (unsigned i = 0; i < 3; i++) {
        rig_submit(&rig, i, SK_BLOCK_READ, i, 1);
    }
    rig_settle(&rig); /* and nothing was completed before the reset: see rig_stop */
    assert_in_range(rig.env.clock_ns - start_ns, RIG_TIMEOUT_NS, 2 * RIG_TIMEOUT_NS);
    assert_int_equal(rig.request[0].status, SK_OK);
    assert_int_equal(rig.request[1].status, SK_ERR_TIMEOUT);
    assert_int_equal(rig.request[2].status, in_order ? SK_ERR_TIMEOUT : SK_OK); /* it is behind */
    assert_int_equal(fake_device_complete_stalled(rig.fake), 0);
    rig_expect_recovers(&rig);
    rig_stop(&rig);
}

static void complete_when_resetting(void *context)
{
    struct fake_device *fake = context;

    if (fake->resetting) {
        (void)fake_device_complete_stalled(fake);
    }
}

/* The answer comes while the reset is under way; the device is still allowed to write. */
static void test_hostile_15__answer_during_the_reset(void **state)
{
    struct rig rig;

    (void)state;
    rig_start(&rig, NULL);
    fake_device_fault(rig.fake, FAKE_FAULT_STALL, 0, 0, 1);
    rig_submit(&rig, 0, SK_BLOCK_READ, 0, 1);
    fake_device_fault(rig.fake, FAKE_FAULT_RESET, 0, 0, 50);
    rig.env.on_wait = complete_when_resetting;
    rig_settle(&rig);
    rig_expect_recovers(&rig);
    rig_stop(&rig);
}

static void test_hostile_16__reset_takes_its_time(void **state)
{
    struct rig rig;

    (void)state;
    rig_start(&rig, NULL);
    fake_device_fault(rig.fake, FAKE_FAULT_STALL, 0, 0, 1);
    fake_device_fault(rig.fake, FAKE_FAULT_RESET, 0, 0, 20);
    assert_int_equal(rig_read(&rig, 0), SK_ERR_TIMEOUT);
    rig_expect_recovers(&rig);
    rig_stop(&rig);
}

static void test_hostile_16__reset_never_takes(void **state)
{
    struct rig rig;

    (void)state;
    rig_start(&rig, NULL);
    fake_device_fault(rig.fake, FAKE_FAULT_STALL, 0, 0, FAKE_FOR_EVER);
    fake_device_fault(rig.fake, FAKE_FAULT_RESET, 0, 0, FAKE_FOR_EVER);
    assert_int_equal(rig_read(&rig, 0), SK_ERR_IN_DOUBT);
    rig_expect_state(&rig, SK_BLOCK_STATE_IN_DOUBT);
    assert_int_equal(sk_block_recover(rig.disk, 0), SK_ERR_IN_DOUBT);
    rig_submit(&rig, 1, SK_BLOCK_READ, 0, 1);
    rig_settle(&rig);
    assert_int_not_equal(rig.request[1].status, SK_OK);
    rig_stop_in_doubt(&rig);
}

static void test_hostile_16__reset_takes_at_last(void **state)
{
    struct rig rig;

    (void)state;
    rig_start(&rig, NULL);
    fake_device_fault(rig.fake, FAKE_FAULT_STALL, 0, 0, 1);
    fake_device_fault(rig.fake, FAKE_FAULT_RESET, 0, 0, FAKE_FOR_EVER);
    assert_int_equal(rig_read(&rig, 0), SK_ERR_IN_DOUBT);
    fake_device_behave(rig.fake);
    assert_int_equal(sk_block_recover(rig.disk, 0), SK_OK);
    rig_expect_works(&rig);
    rig_stop(&rig);
}

/* --- 17, 18: interrupts -------------------------------------------------------- */

static void test_hostile_17__interrupt_at_each_step(void **state)
{
    struct rig rig;

    (void)state;
    for (uint32_t bits = 1; bits <= 3; bits++) {
        rig_open(&rig, NULL);
        fake_device_fault(rig.fake, FAKE_FAULT_INTERRUPT, bits, 0, FAKE_FOR_EVER);
        assert_int_equal(rig_probe(&rig), SK_OK);
        rig_expect_works(&rig);
        assert_true(rig.fake->interrupts > 30);
        rig_stop(&rig);
    }
}

static void test_hostile_17__interrupt_while_broken_and_after_removal(void **state)
{
    struct rig rig;

    (void)state;
    rig_start(&rig, NULL);
    fake_device_fault(rig.fake, FAKE_FAULT_USED_ID, UINT32_MAX, 0, 1);
    assert_int_equal(rig_read(&rig, 0), SK_ERR_MALFORMED);
    fake_device_interrupt(rig.fake, 3);
    rig_expect_recovers(&rig);
    assert_int_equal(sk_device_manager_remove(&rig.manager, rig.node), SK_OK);
    rig.disk = NULL;
    fake_device_interrupt(rig.fake, 3); /* nobody listens */
    rig_stop(&rig);
}

static void test_hostile_18__storm_with_unknown_bits(void **state)
{
    struct rig rig;

    (void)state;
    rig_start(&rig, NULL);
    fake_device_fault(rig.fake, FAKE_FAULT_INTERRUPT_STATUS, 0xfffffffc, 0, FAKE_FOR_EVER);
    for (unsigned i = 0; i < 1000000; i++) {
        fake_device_interrupt(rig.fake, i % 4);
    }
    rig_expect_works(&rig);
    rig_stop(&rig);
}

static int failures;

/* The tests over other rings: the devices of all of them offer `more`. */
static void run(const char *name, const struct CMUnitTest *tests, size_t count, uint64_t more)
{
    rig_more_features = more;
    failures += _cmocka_run_group_tests(name, tests, count, NULL, NULL);
}

int main(void)
{
    const uint64_t in_order = SK_VIRTIO_FEATURE(SK_VIRTIO_F_IN_ORDER);
    const uint64_t packed = SK_VIRTIO_FEATURE(SK_VIRTIO_F_RING_PACKED);
    const struct CMUnitTest split_only[] = {
        cmocka_unit_test(test_hostile_01__ids_that_fit_after_narrowing),
        cmocka_unit_test(test_hostile_10__every_jump_of_the_used_index),
        cmocka_unit_test(test_hostile_10__completions_out_of_nothing),
    };
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hostile_01__every_id_beyond_the_ring),
        cmocka_unit_test(test_hostile_02__each_completion_replayed),
        cmocka_unit_test(test_hostile_02__stale_id_among_others),
        cmocka_unit_test(test_hostile_03__ids_in_the_middle_of_a_chain),
        cmocka_unit_test(test_hostile_04__lengths_that_cannot_be),
        cmocka_unit_test(test_hostile_05__a_device_that_counts_nothing_is_fine),
        cmocka_unit_test(test_hostile_06__completion_without_an_answer),
        cmocka_unit_test(test_hostile_06__every_answer),
        cmocka_unit_test(test_hostile_08__descriptors_are_garbage_while_owned),
        cmocka_unit_test(test_hostile_08__descriptors_stay_garbage),
        cmocka_unit_test(test_hostile_09__links_are_garbage_while_owned),
        cmocka_unit_test(test_hostile_11__completions_without_end_keep_the_budget),
        cmocka_unit_test(test_hostile_14__completed_twice_with_indirect_tables),
        cmocka_unit_test(test_hostile_15__a_late_answer_finds_the_device_reset),
        cmocka_unit_test(test_hostile_15__answer_during_the_reset),
        cmocka_unit_test(test_hostile_16__reset_takes_its_time),
        cmocka_unit_test(test_hostile_16__reset_never_takes),
        cmocka_unit_test(test_hostile_16__reset_takes_at_last),
        cmocka_unit_test(test_hostile_17__interrupt_at_each_step),
        cmocka_unit_test(test_hostile_17__interrupt_while_broken_and_after_removal),
        cmocka_unit_test(test_hostile_18__storm_with_unknown_bits),
    };

    const size_t count = sizeof(tests) / sizeof(tests[0]);

    run("hostile_device, split only", split_only, 3, 0);
    run("hostile_device, split only, in order", split_only, 3, in_order);
    run("hostile_device, split", tests, count, 0);
    run("hostile_device, split in order", tests, count, in_order);
    run("hostile_device, packed", tests, count, packed);
    run("hostile_device, packed in order", tests, count, packed | in_order);
    return failures;
}
