/* SPDX-License-Identifier: MIT */
/*
 * Case 7, double fetches, and what else shows only when the device acts
 * between two loads: the library is built with a hook at each load of shared
 * memory and of registers.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/door.h"
#include "fake/hostile_rig.h"

#define LOADS_MAX 4096u

static const struct fake_device_config default_config = FAKE_DEVICE_CONFIG_DEFAULT;

/* What the hook does; one test at a time. */
static struct {
    struct rig *rig;
    const void *seen[LOADS_MAX]; /* memory loaded since the last clearing */
    unsigned count;
    unsigned total;
    unsigned second_loads;
    uint64_t random;
    bool bump;           /* each load of used.idx finds one more */
    bool check;          /* no used element and no status is loaded twice */
    bool lie;            /* loads are answered at random, */
    unsigned truths;     /* but for so many at first, */
    unsigned one_in;     /* and only every so manieth */
} hook;

static uint64_t next_random(void)
{
    hook.random ^= hook.random << 13;
    hook.random ^= hook.random >> 7;
    hook.random ^= hook.random << 17;
    return hook.random;
}

/* Where the address lies in memory that the device writes; false: it is a register's offset. */
static bool is_memory(const void *address)
{
    return (uintptr_t)address > 0x10000;
}

static bool is_used_index(const void *address)
{
    const struct fake_queue *queue = &hook.rig->fake->queues[0];

    return queue->ready && address == queue->used + 2;
}

/* Indexes, flags and event words are looked at again on purpose; everything else is not. */
static bool may_repeat(const void *address)
{
    const struct fake_queue *queue = &hook.rig->fake->queues[0];
    const uint8_t *at = address;

    return queue->ready && (at == queue->used || at == queue->used + 2 ||
                            at == queue->used + 4 + 8 * (size_t)queue->size);
}

static void check_single(const void *address)
{
    if (may_repeat(address)) {
        return;
    }
    for (unsigned i = 0; i < hook.count; i++) {
        assert_ptr_not_equal(hook.seen[i], address);
    }
    assert_true(hook.count < LOADS_MAX);
    hook.seen[hook.count++] = address;
}

static uint64_t lie(unsigned width, uint64_t value)
{
    uint64_t mask = width == 8 ? UINT64_MAX : (UINT64_C(1) << 8 * width) - 1;

    if (!hook.lie || hook.total <= hook.truths || next_random() % (hook.one_in + 1) != 0) {
        return value;
    }
    return next_random() & mask;
}

static uint64_t see(const void *address, unsigned width, uint64_t value)
{
    hook.total++;
    if (!is_memory(address)) {
        return lie(width, value);
    }
    if (hook.check) {
        check_single(address);
    }
    if (hook.bump && is_used_index(address)) {
        struct fake_queue *queue = &hook.rig->fake->queues[0];
        uint16_t index = (uint16_t)value;

        fake_device_forge_used(hook.rig->fake, 0, index % queue->size, 1);
        return queue->used_index;
    }
    return lie(width, value);
}

static void start_hooked(struct rig *rig, const struct fake_device_config *config)
{
    ski_door_hook = NULL;
    memset(&hook, 0, sizeof(hook));
    rig_start(rig, config);
    hook.rig = rig;
    hook.random = 7;
    ski_door_hook = see;
}

static void stop_hooked(struct rig *rig)
{
    ski_door_hook = NULL;
    assert_true(hook.total > 0);
    rig_stop(rig);
}

/* One poll that finds everything: each element and each status was loaded once. */
static void test_hostile_07__one_load_of_each_field(void **state)
{
    struct fake_device_config config = default_config;
    struct rig rig;

    (void)state;
    for (unsigned event_index = 0; event_index < 2; event_index++) {
        config.deferred = true;
        config.order = FAKE_ORDER_RANDOM;
        config.features = FAKE_FEATURES_DEFAULT;
        if (event_index == 0) {
            config.features &= ~SK_VIRTIO_FEATURE(SK_VIRTIO_F_EVENT_IDX);
        }
        start_hooked(&rig, &config);
        for (unsigned round = 0; round < 20; round++) {
            uint32_t completed;

            for (unsigned i = 0; i < 32; i++) {
                rig_submit(&rig, i, SK_BLOCK_READ, i, 1);
            }
            assert_int_equal(fake_device_run(rig.fake, UINT_MAX), 32);
            hook.check = true;
            hook.count = 0;
            assert_int_equal(sk_block_poll(rig.queue, 0, &completed), SK_OK);
            assert_int_equal(completed, 32);
            assert_int_equal(hook.count, 64); /* an id and a status for each */
            hook.check = false;
        }
        stop_hooked(&rig);
    }
}

static void count_whole(struct sk_block_request *request)
{
    assert_int_equal(request->status, SK_OK);
    ++*(uint32_t *)request->context;
}

/* With one segment each, the short way: one id for all that share an entry, a status for each. */
static void test_hostile_07__one_load_of_each_field_in_order(void **state)
{
    struct fake_device_config config = default_config;
    struct sk_block_request whole[32];
    struct rig rig;

    (void)state;
    config.deferred = true;
    config.features |= SK_VIRTIO_FEATURE(SK_VIRTIO_F_IN_ORDER);
    config.in_order_batch = 32;
    start_hooked(&rig, &config);
    for (unsigned round = 0; round < 20; round++) {
        struct sk_dma_segment segment;
        uint32_t completed = 0;

        assert_int_equal(sk_io_buffer_segment(&rig.buffer, 0, 512, &segment), SK_OK);
        for (unsigned i = 0; i < 32; i++) {
            whole[i] = (struct sk_block_request){ .operation = SK_BLOCK_READ,
                                                  .sector = i,
                                                  .segments = &segment,
                                                  .segment_count = 1,
                                                  .complete = count_whole,
                                                  .context = &completed };
            sk_block_submit(rig.queue, (struct sk_block_request *const[]){ &whole[i] }, 1);
        }
        assert_int_equal(fake_device_run(rig.fake, UINT_MAX), 32);
        hook.check = true;
        hook.count = 0;
        assert_int_equal(sk_block_poll(rig.queue, 0, NULL), SK_OK);
        assert_int_equal(completed, 32);
        assert_int_equal(hook.count, 33);
        hook.check = false;
    }
    stop_hooked(&rig);
}

/*
 * The second load of an address within one poll would find something else:
 * were any value fetched twice, the checked one would not be the used one.
 */
static uint64_t answer_differently(const void *address, unsigned width, uint64_t value)
{
    hook.total++;
    if (!is_memory(address) || may_repeat(address)) {
        return value;
    }
    for (unsigned i = 0; i < hook.count; i++) {
        if (hook.seen[i] == address) {
            hook.second_loads++;
            return width == 1 ? 0xee : UINT16_MAX;
        }
    }
    hook.seen[hook.count++] = address;
    return value;
}

static void test_hostile_07__a_second_load_finds_something_else(void **state)
{
    struct rig rig;

    (void)state;
    start_hooked(&rig, NULL);
    ski_door_hook = answer_differently;
    for (unsigned round = 0; round < 500; round++) {
        unsigned i = round % RIG_REQUESTS;

        rig_submit(&rig, i, SK_BLOCK_READ, i, 1);
        hook.count = 0;
        assert_int_equal(sk_block_poll(rig.queue, 0, NULL), SK_OK);
        assert_int_equal(rig.completed[i], rig.submitted[i]);
        assert_int_equal(rig.request[i].status, SK_OK);
    }
    assert_int_equal(hook.second_loads, 0);
    stop_hooked(&rig);
}

/* A device that completes one more at each look, for ever: poll and wait end all the same. */
static void test_hostile_11__the_index_grows_at_each_look(void **state)
{
    struct rig rig;

    (void)state;
    for (uint32_t budget = 0; budget < 5; budget++) {
        struct fake_device_config config = default_config;

        config.deferred = true;
        start_hooked(&rig, &config);
        for (unsigned i = 0; i < 40; i++) {
            rig_submit(&rig, i, SK_BLOCK_READ, i, 1);
        }
        hook.bump = true;
        for (unsigned poll = 0; poll < 100; poll++) {
            uint32_t completed = 0;
            unsigned before = hook.total;
            enum sk_status status = sk_block_poll(rig.queue, budget, &completed);

            assert_true(status == SK_OK || status == SK_ERR_BROKEN);
            assert_true(budget == 0 || completed <= budget);
            assert_true(hook.total - before < 1000);
        }
        hook.bump = false;
        rig_settle(&rig);
        rig_expect_recovers(&rig);
        stop_hooked(&rig);
    }
}

/* Every load is random: whatever happens, everything is completed once, and ends. */
static void random_loads(void)
{
    struct rig rig;
    unsigned broken = 0;

    start_hooked(&rig, NULL);
    for (unsigned seed = 1; seed <= 300; seed++) {
        hook.random = seed * UINT64_C(0x9e3779b97f4a7c15);
        hook.one_in = seed % 4;
        for (unsigned i = 0; i < 8; i++) {
            rig_submit(&rig, i, SK_BLOCK_READ, i, 1);
        }
        hook.lie = true;
        for (unsigned poll = 0; poll < 3; poll++) {
            (void)rig_poll(&rig);
        }
        hook.lie = false;
        rig_settle(&rig);
        rig.unsafe = 0; /* the status register lied about the reset */
        broken += sk_block_get_state(rig.disk) != SK_BLOCK_STATE_READY;
        if (sk_block_get_state(rig.disk) != SK_BLOCK_STATE_READY) {
            assert_int_equal(sk_block_recover(rig.disk, 0), SK_OK);
        }
        fake_device_forgive(rig.fake);
        rig_expect_works(&rig);
    }
    print_message("%u of 300 broke\n", broken);
    assert_true(broken > 200);
    stop_hooked(&rig);
}

static void test_hostile_07__every_load_is_random(void **state)
{
    const uint64_t packed = SK_VIRTIO_FEATURE(SK_VIRTIO_F_RING_PACKED);
    const uint64_t in_order = SK_VIRTIO_FEATURE(SK_VIRTIO_F_IN_ORDER);
    const uint64_t rings[] = { 0, in_order, packed, packed | in_order };

    (void)state;
    for (unsigned i = 0; i < 4; i++) {
        rig_more_features = rings[i];
        random_loads();
    }
    rig_more_features = 0;
}

/* The same during the probe: it fails cleanly or not at all. */
static void test_hostile_07__a_probe_that_reads_random_values(void **state)
{
    struct rig rig;
    unsigned bound = 0;

    (void)state;
    for (unsigned seed = 1; seed <= 600; seed++) {
        memset(&hook, 0, sizeof(hook));
        rig_open(&rig, NULL);
        hook.rig = &rig;
        hook.random = seed * UINT64_C(0x9e3779b97f4a7c15);
        hook.truths = seed % 60;
        hook.one_in = seed % 7;
        hook.lie = true;
        ski_door_hook = see;
        bound += rig_probe(&rig) == SK_OK;
        ski_door_hook = NULL;
        fake_device_forgive(rig.fake);
        if (rig.disk == NULL && rig.env.domain.statistics.buffers_quarantined > 0) {
            fake_device_destroy(rig.fake);
            test_environment_abandon(&rig.env);
        } else {
            rig_stop(&rig);
        }
    }
    print_message("%u of 600 probes succeeded\n", bound);
    assert_true(bound > 0 && bound < 570);
}

#define QUEUE_READY 0x44u

static uint64_t see_queue_ready(const void *address, unsigned width, uint64_t value)
{
    (void)width;
    return (uintptr_t)address == QUEUE_READY ? 1 : value;
}

/* The transport calls such a queue busy, which of recover would mean: called from `complete`. */
static void test_hostile_20__a_queue_in_use_after_the_reset(void **state)
{
    struct rig rig;

    (void)state;
    ski_door_hook = NULL;
    rig_start(&rig, NULL);
    ski_door_hook = see_queue_ready;
    assert_int_equal(sk_block_recover(rig.disk, 0), SK_ERR_MALFORMED);
    rig_expect_state(&rig, SK_BLOCK_STATE_BROKEN);
    ski_door_hook = NULL;
    assert_int_equal(sk_block_recover(rig.disk, 0), SK_OK);
    rig_expect_works(&rig);
    rig_stop(&rig);
    rig_open(&rig, NULL);
    ski_door_hook = see_queue_ready;
    assert_int_equal(rig_probe(&rig), SK_ERR_MALFORMED);
    ski_door_hook = NULL;
    rig_stop(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hostile_07__one_load_of_each_field),
        cmocka_unit_test(test_hostile_07__one_load_of_each_field_in_order),
        cmocka_unit_test(test_hostile_07__a_second_load_finds_something_else),
        cmocka_unit_test(test_hostile_07__every_load_is_random),
        cmocka_unit_test(test_hostile_07__a_probe_that_reads_random_values),
        cmocka_unit_test(test_hostile_11__the_index_grows_at_each_look),
        cmocka_unit_test(test_hostile_20__a_queue_in_use_after_the_reset),
    };

    return cmocka_run_group_tests_name("hostile_device_hooked", tests, NULL, NULL);
}
