/* SPDX-License-Identifier: MIT */
/* Devices with several interrupts, by a transport of the test's own: MMIO with more lines. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "block/virtio_blk.h"
#include "support/blk_rig.h"

#include <skio/virtio_mmio.h>

#define LINES_MAX 8u
#define QUEUES    4u
#define NONE      99u

/* Registers of the fake device; the lines are the transport's. */
struct many {
    struct sk_virtio_transport transport; /* first */
    struct sk_virtio_mmio mmio;
    uint32_t interrupt_of[QUEUES]; /* as the driver told at enable_queue */
    unsigned takes;
};

static struct blk_rig rig;
static struct many many;
static struct sk_interrupt lines[LINES_MAX];

static struct sk_virtio_transport *beneath(struct sk_virtio_transport *transport)
{
    return &((struct many *)(void *)transport)->mmio.transport;
}

static enum sk_status get_status(struct sk_virtio_transport *t, uint32_t *out)
{
    return beneath(t)->ops->get_status(beneath(t), out);
}

static enum sk_status set_status(struct sk_virtio_transport *t, uint32_t value)
{
    return beneath(t)->ops->set_status(beneath(t), value);
}

static enum sk_status get_features(struct sk_virtio_transport *t, uint64_t *out)
{
    return beneath(t)->ops->get_features(beneath(t), out);
}

static enum sk_status set_features(struct sk_virtio_transport *t, uint64_t features)
{
    return beneath(t)->ops->set_features(beneath(t), features);
}

static enum sk_status read_config(struct sk_virtio_transport *t, uint32_t offset, unsigned width,
                                  void *out)
{
    return beneath(t)->ops->read_config(beneath(t), offset, width, out);
}

static enum sk_status write_config(struct sk_virtio_transport *t, uint32_t offset, unsigned width,
                                   const void *in)
{
    return beneath(t)->ops->write_config(beneath(t), offset, width, in);
}

static enum sk_status get_generation(struct sk_virtio_transport *t, uint32_t *out)
{
    return beneath(t)->ops->get_generation(beneath(t), out);
}

static enum sk_status get_queue_max(struct sk_virtio_transport *t, uint32_t index, uint32_t *out)
{
    return beneath(t)->ops->get_queue_max(beneath(t), index, out);
}

static enum sk_status enable_queue(struct sk_virtio_transport *t, uint32_t index,
                                   const struct sk_virtio_queue_layout *layout)
{
    assert_true(index < QUEUES);
    many.interrupt_of[index] = layout->interrupt;
    return beneath(t)->ops->enable_queue(beneath(t), index, layout);
}

static void notify(struct sk_virtio_transport *t, uint32_t data)
{
    beneath(t)->ops->notify(beneath(t), data);
}

static uint32_t take_interrupt(struct sk_virtio_transport *t)
{
    many.takes++;
    return beneath(t)->ops->take_interrupt(beneath(t));
}

static const struct sk_virtio_transport_ops many_ops = {
    .get_status = get_status,         .set_status = set_status,
    .get_features = get_features,     .set_features = set_features,
    .read_config = read_config,       .write_config = write_config,
    .get_generation = get_generation, .get_queue_max = get_queue_max,
    .enable_queue = enable_queue,     .notify = notify,
    .take_interrupt = take_interrupt,
};

/* The device raises the line that the driver chose for the queue. */
static void raise_queue(void *context, uint32_t queue)
{
    (void)context;
    assert_true(test_environment_interrupt(&rig.env, BLK_RIG_LINE + many.interrupt_of[queue]));
}

static enum sk_status many_probe(const struct sk_driver *driver, struct sk_device_node *node)
{
    struct sk_mmio mmio;

    assert_int_equal(
        node->platform->map_mmio(node->platform->context, node->ranges[0].base, 0x100, &mmio),
        SK_OK);
    assert_int_equal(sk_virtio_mmio_open(&many.mmio, node->platform, &mmio, BLK_RIG_BASE), SK_OK);
    many.transport.platform = node->platform;
    many.transport.ops = &many_ops;
    many.transport.kind = "many";
    many.transport.device_type = SK_VIRTIO_DEVICE_BLOCK;
    return ski_blk_probe(node, 0, driver->options, &many.transport);
}

static enum sk_status many_remove(const struct sk_driver *driver, struct sk_device_node *node)
{
    enum sk_status status = ski_blk_remove(node);

    (void)driver;
    node->platform->unmap_mmio(node->platform->context, &many.mmio.mmio);
    return status;
}

/* A disk of `queues` queues; the node lists `node_lines` interrupts, the transport `count`. */
static void init(uint32_t queues, size_t node_lines, uint32_t count, bool deferred)
{
    struct fake_device_config config = FAKE_DEVICE_CONFIG_DEFAULT;
    struct sk_virtio_blk_options options = blk_rig_options();

    config.features |= SK_VIRTIO_FEATURE(SK_VIRTIO_BLK_F_MQ);
    config.queue_count = queues;
    config.deferred = deferred;
    config.queue_interrupt = raise_queue;
    options.queue_count = queues;
    options.queue_size = 16;
    memset(&many, 0, sizeof(many));
    for (uint32_t i = 0; i < QUEUES; i++) {
        many.interrupt_of[i] = NONE;
    }
    blk_rig_init(&rig, &config, &options);
    for (uint32_t i = 0; i < LINES_MAX; i++) {
        lines[i] = (struct sk_interrupt){ .cell_count = 1, .cells = { BLK_RIG_LINE + i } };
    }
    rig.node.interrupts = lines;
    rig.node.interrupt_count = node_lines;
    many.transport.interrupt_count = count;
    rig.driver.probe = many_probe;
    rig.driver.remove = many_remove;
}

static unsigned attached(void)
{
    unsigned count = 0;

    for (uint32_t i = 0; i < 32; i++) {
        count += rig.env.handler[i] != NULL;
    }
    return count;
}

/* Each queue reads a sector, and sleeps until its interrupt. */
static void expect_works(void)
{
    for (uint32_t i = 0; i < rig.disk->info.queue_count; i++) {
        struct blk_rig_request request;

        rig.queue = sk_block_get_queue(rig.disk, i);
        blk_rig_prepare(&rig, &request, SK_BLOCK_READ, i, i, 512);
        blk_rig_submit(&rig, &request);
        assert_true(blk_rig_run(&rig, &request, 100));
        assert_int_equal(request.request.status, SK_OK);
    }
}

/* How many interrupts each queue's owner has seen. */
static void count_interrupts(uint64_t *out_counts)
{
    for (uint32_t i = 0; i < rig.disk->info.queue_count; i++) {
        struct sk_block_queue *queue = sk_block_get_queue(rig.disk, i);

        assert_int_equal(sk_block_poll(queue, 0, NULL), SK_OK);
        out_counts[i] = queue->statistics.interrupts;
    }
}

static void test_virtio_blk_interrupts__each_queue_has_its_own(void **state)
{
    uint64_t before[QUEUES];
    uint64_t after[QUEUES];

    (void)state;
    init(QUEUES, LINES_MAX, LINES_MAX, true);
    assert_int_equal(blk_rig_probe(&rig), SK_OK);
    assert_int_equal(attached(), 1 + QUEUES);
    for (uint32_t i = 0; i < QUEUES; i++) {
        assert_int_equal(many.interrupt_of[i], 1 + i);
    }
    expect_works();
    for (uint32_t i = 0; i < QUEUES; i++) {
        count_interrupts(before);
        assert_true(test_environment_interrupt(&rig.env, BLK_RIG_LINE + many.interrupt_of[i]));
        count_interrupts(after);
        for (uint32_t j = 0; j < QUEUES; j++) {
            assert_int_equal(after[j] - before[j], i == j);
        }
    }
    assert_int_equal(many.takes, 0); /* a queue's interrupt touches no register */
    blk_rig_deinit(&rig);
}

static void test_virtio_blk_interrupts__fewer_than_queues_are_shared(void **state)
{
    static const uint32_t expected[][QUEUES] = { { 0, 0, 0, 0 }, { 0, 0, 0, 0 }, { 1, 1, 1, 1 },
                                                 { 1, 2, 1, 2 }, { 1, 2, 3, 1 }, { 1, 2, 3, 4 },
                                                 { 1, 2, 3, 4 } };

    (void)state;
    for (uint32_t count = 0; count < 7; count++) {
        uint64_t before[QUEUES];
        uint64_t after[QUEUES];

        init(QUEUES, LINES_MAX, count, true);
        assert_int_equal(blk_rig_probe(&rig), SK_OK);
        assert_int_equal(attached(), count == 0 ? 1 : count < 6 ? count : 1 + QUEUES);
        assert_memory_equal(many.interrupt_of, expected[count], sizeof(expected[count]));
        if (count >= 2) {
            expect_works();
            count_interrupts(before);
            assert_true(test_environment_interrupt(&rig.env, BLK_RIG_LINE + 1));
            count_interrupts(after);
            for (uint32_t i = 0; i < QUEUES; i++) {
                assert_int_equal(after[i] - before[i], expected[count][i] == 1);
            }
        }
        blk_rig_deinit(&rig);
    }
}

static void test_virtio_blk_interrupts__the_node_may_list_fewer(void **state)
{
    (void)state;
    init(QUEUES, 3, LINES_MAX, true);
    assert_int_equal(blk_rig_probe(&rig), SK_OK);
    assert_int_equal(attached(), 3);
    assert_int_equal(many.interrupt_of[1], 2);
    assert_int_equal(many.interrupt_of[2], 1);
    expect_works();
    blk_rig_deinit(&rig);
    init(QUEUES, 0, LINES_MAX, true);
    rig.fake->config.queue_interrupt = NULL;
    assert_int_equal(blk_rig_probe(&rig), SK_OK); /* polled */
    assert_int_equal(attached(), 0);
    expect_works();
    blk_rig_deinit(&rig);
}

static void test_virtio_blk_interrupts__one_queue_of_many_lines_takes_two(void **state)
{
    (void)state;
    init(1, LINES_MAX, LINES_MAX, true);
    assert_int_equal(blk_rig_probe(&rig), SK_OK);
    assert_int_equal(attached(), 2);
    expect_works();
    blk_rig_deinit(&rig);
}

static void test_virtio_blk_interrupts__first_is_the_configurations(void **state)
{
    (void)state;
    init(QUEUES, LINES_MAX, LINES_MAX, true);
    assert_int_equal(blk_rig_probe(&rig), SK_OK);
    fake_device_set_capacity(rig.fake, 1000); /* raises line 0, and its cause is in the register */
    assert_int_equal(many.takes, 1);
    for (uint32_t i = 0; i < QUEUES; i++) {
        struct sk_block_queue *queue = sk_block_get_queue(rig.disk, i);

        assert_int_equal(sk_block_poll(queue, 0, NULL), SK_OK);
        assert_true(queue->statistics.interrupts > 0); /* who sleeps there shall look, too */
    }
    assert_int_equal(rig.disk->info.capacity_sectors, 1000);
    blk_rig_deinit(&rig);
}

/* The Nth is refused: fewer are used, and the log says so.  The first: the probe fails. */
static void test_virtio_blk_interrupts__refused_ones_are_done_without(void **state)
{
    (void)state;
    for (unsigned refused = 0; refused < 1 + QUEUES; refused++) {
        enum sk_status status;

        init(QUEUES, LINES_MAX, LINES_MAX, true);
        rig.fake->config.queue_interrupt = refused == 1 ? NULL : raise_queue;
        rig.env.fail_call = 2 + refused; /* the first call maps the registers */
        status = blk_rig_probe(&rig);
        assert_int_equal(rig.env.fail_call, 0);
        if (refused == 0) {
            assert_int_equal(status, SK_ERR_NO_MEMORY);
            assert_int_equal(attached(), 0);
            rig.env.mmio_mapped = 0;
        } else {
            assert_int_equal(status, SK_OK);
            assert_int_equal(attached(), refused);
            assert_int_equal(rig.env.lines[SK_LOG_WARNING], 1);
            expect_works();
        }
        blk_rig_deinit(&rig);
    }
}

static void test_virtio_blk_interrupts__of_a_stopped_device_count_nothing(void **state)
{
    uint64_t before;

    (void)state;
    init(2, LINES_MAX, LINES_MAX, true);
    assert_int_equal(blk_rig_probe(&rig), SK_OK);
    assert_int_equal(sk_block_poll(rig.queue, 0, NULL), SK_OK);
    before = rig.queue->statistics.interrupts;
    sk_block_stop(rig.disk, SK_ERR_IO);
    for (uint32_t i = 0; i < 3; i++) {
        assert_true(test_environment_interrupt(&rig.env, BLK_RIG_LINE + i));
    }
    assert_int_equal(sk_block_recover(rig.disk, 0), SK_OK);
    assert_int_equal(many.interrupt_of[1], 2); /* told anew */
    assert_int_equal(sk_block_poll(rig.queue, 0, NULL), SK_OK);
    assert_int_equal(rig.queue->statistics.interrupts, before + 1); /* the identity's */
    expect_works();
    blk_rig_deinit(&rig);
}

/* What the platform's hook for one interrupt was asked. */
static const struct sk_interrupt *slept_on;
static unsigned sleeps;

static void sleep_on(void *context, const struct sk_interrupt *interrupt,
                     const sk_atomic_u32 *word, uint32_t seen, uint64_t until_ns)
{
    (void)context;
    assert_int_equal(*word, seen);
    assert_true(until_ns > rig.env.clock_ns);
    slept_on = interrupt;
    sleeps++;
    (void)fake_device_run(rig.fake, 1);
}

static void test_virtio_blk_wait__names_the_queues_own_interrupt(void **state)
{
    (void)state;
    init(QUEUES, LINES_MAX, LINES_MAX, true);
    rig.env.platform.wait_interrupt = sleep_on;
    assert_int_equal(blk_rig_probe(&rig), SK_OK);
    for (uint32_t i = 0; i < QUEUES; i++) {
        struct sk_block_queue *queue = sk_block_get_queue(rig.disk, i);
        struct blk_rig_request request;

        sleeps = 0;
        blk_rig_prepare(&rig, &request, SK_BLOCK_READ, i, i, 512);
        rig.queue = queue;
        blk_rig_submit(&rig, &request);
        assert_int_equal(sk_block_wait(queue, UINT64_MAX), SK_OK);
        assert_int_equal(sleeps, 1);
        assert_ptr_equal(slept_on, &lines[1 + i]);
        assert_int_equal(sk_block_poll(queue, 0, NULL), SK_OK);
        assert_int_equal(request.completions, 1);
    }
    blk_rig_deinit(&rig);
}

/* Whoever shares an interrupt is woken by the word, which the other hook is for. */
static void test_virtio_blk_wait__shared_interrupt_is_not_named(void **state)
{
    (void)state;
    init(QUEUES, LINES_MAX, QUEUES, true);
    rig.env.platform.wait_interrupt = sleep_on;
    assert_int_equal(blk_rig_probe(&rig), SK_OK);
    sleeps = 0;
    expect_works();
    assert_int_equal(sleeps, 0);
    blk_rig_deinit(&rig);
}

static const struct sk_interrupt *woken[QUEUES];
static const sk_atomic_u32 *woken_words[QUEUES];
static unsigned wakes;

static void wake(void *context, const struct sk_interrupt *interrupt, const sk_atomic_u32 *word)
{
    (void)context;
    assert_true(wakes < QUEUES);
    assert_int_not_equal(sk_block_get_state(rig.disk), SK_BLOCK_STATE_READY);
    woken[wakes] = interrupt;
    woken_words[wakes] = word;
    wakes++;
}

static uint32_t counter(uint32_t index)
{
    const struct sk_block_queue *queue = sk_block_get_queue(rig.disk, index);

    return SK_CONTAINER_OF(queue, struct ski_blk_queue, queue)->interrupts;
}

/* Those who sleep hear of a stop by somebody else, on what they sleep on. */
static void test_virtio_blk_stop__wakes_the_owners_of_all_queues(void **state)
{
    uint32_t before[QUEUES];

    (void)state;
    for (uint32_t count = 1; count <= LINES_MAX; count++) {
        init(QUEUES, LINES_MAX, count, true);
        rig.env.platform.wake = wake;
        assert_int_equal(blk_rig_probe(&rig), SK_OK);
        wakes = 0;
        for (uint32_t i = 0; i < QUEUES; i++) {
            before[i] = counter(i);
        }
        sk_block_stop(rig.disk, SK_ERR_TIMEOUT);
        assert_int_equal(wakes, QUEUES);
        for (uint32_t i = 0; i < QUEUES; i++) {
            uint32_t used = count < 1 + QUEUES ? count : 1 + QUEUES;

            assert_ptr_equal(woken[i], &lines[ski_blk_interrupt_of(i, used)]);
            assert_int_equal(counter(i), before[i] ^ SKI_BLK_WOKEN);
            assert_int_equal(*woken_words[i], counter(i));
        }
        sk_block_stop(rig.disk, SK_ERR_TIMEOUT);
        assert_int_equal(wakes, QUEUES); /* it was stopped already */
        blk_rig_deinit(&rig);
    }
}

static void test_block_arm__interrupt_comes_at_the_next_completion(void **state)
{
    struct blk_rig_request request;
    uint64_t before;

    (void)state;
    init(1, LINES_MAX, LINES_MAX, true);
    assert_int_equal(blk_rig_probe(&rig), SK_OK);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(sk_block_arm(rig.queue), SK_OK);
        before = rig.fake->interrupts;
        blk_rig_prepare(&rig, &request, SK_BLOCK_READ, i, i, 512);
        blk_rig_submit(&rig, &request);
        assert_int_equal(sk_block_arm(rig.queue), SK_OK); /* nothing is done yet */
        assert_int_equal(fake_device_run(rig.fake, 1), 1);
        assert_int_equal(rig.fake->interrupts, before + 1);
        assert_int_equal(sk_block_arm(rig.queue), SK_ERR_AGAIN);
        assert_int_equal(sk_block_poll(rig.queue, 0, NULL), SK_OK);
        assert_int_equal(request.completions, 1);
    }
    blk_rig_deinit(&rig);
}

static enum sk_status armed_inside;

static void arm_inside(struct sk_block_request *request)
{
    (void)request;
    armed_inside = sk_block_arm(rig.queue);
}

static void test_block_arm__each_other_answer(void **state)
{
    struct blk_rig_request request;

    (void)state;
    init(1, LINES_MAX, LINES_MAX, true);
    assert_int_equal(blk_rig_probe(&rig), SK_OK);
    blk_rig_prepare(&rig, &request, SK_BLOCK_READ, 0, 0, 511); /* refused: waits for its callback */
    request.request.complete = arm_inside;
    blk_rig_submit(&rig, &request);
    assert_int_equal(sk_block_arm(rig.queue), SK_ERR_AGAIN);
    assert_int_equal(sk_block_poll(rig.queue, 0, NULL), SK_OK);
    assert_int_equal(armed_inside, SK_ERR_BUSY);
    fake_device_set_capacity(rig.fake, 1000); /* seen by poll only */
    assert_int_equal(sk_block_arm(rig.queue), SK_ERR_AGAIN);
    assert_int_equal(sk_block_poll(rig.queue, 0, NULL), SK_OK);
    assert_int_equal(sk_block_arm(rig.queue), SK_OK);
    blk_rig_prepare(&rig, &request, SK_BLOCK_READ, 0, 0, 512);
    blk_rig_submit(&rig, &request);
    sk_block_stop(rig.disk, SK_ERR_IO);
    assert_int_equal(sk_block_arm(rig.queue), SK_ERR_AGAIN); /* it ends at the next poll */
    assert_int_equal(sk_block_poll(rig.queue, 0, NULL), SK_ERR_BROKEN);
    assert_int_equal(request.completions, 1);
    assert_int_equal(sk_block_arm(rig.queue), SK_ERR_BROKEN);
    blk_rig_deinit(&rig);
    init(1, 0, LINES_MAX, true);
    rig.fake->config.queue_interrupt = NULL;
    assert_int_equal(blk_rig_probe(&rig), SK_OK);
    assert_int_equal(sk_block_arm(rig.queue), SK_ERR_UNSUPPORTED);
    blk_rig_deinit(&rig);
}

static void test_block_arm__device_in_doubt_says_so(void **state)
{
    (void)state;
    init(1, LINES_MAX, LINES_MAX, true);
    assert_int_equal(blk_rig_probe(&rig), SK_OK);
    fake_device_fault(rig.fake, FAKE_FAULT_RESET, 0, 0, FAKE_FOR_EVER);
    sk_block_stop(rig.disk, SK_ERR_IO);
    assert_int_equal(sk_block_arm(rig.queue), SK_ERR_IN_DOUBT);
    blk_rig_abandon(&rig);
}

/* Neither queues nor a queue and its interrupt handler share a cache line. */
static void test_virtio_blk_interrupts__counters_have_cache_lines_of_their_own(void **state)
{
    uintptr_t last = 0;

    (void)state;
    init(QUEUES, LINES_MAX, LINES_MAX, true);
    assert_int_equal(blk_rig_probe(&rig), SK_OK);
    for (uint32_t i = 0; i < QUEUES; i++) {
        struct ski_blk_queue *queue =
            (struct ski_blk_queue *)(void *)sk_block_get_queue(rig.disk, i);
        uintptr_t line = (uintptr_t)&queue->interrupts / SKI_BLK_LINE_BYTES;

        assert_int_equal((uintptr_t)&queue->interrupts % SKI_BLK_LINE_BYTES, 0);
        assert_int_equal((uintptr_t)queue % SKI_BLK_LINE_BYTES, 0);
        assert_true((uintptr_t)&queue->interrupts_seen / SKI_BLK_LINE_BYTES < line);
        assert_true((uintptr_t)queue / SKI_BLK_LINE_BYTES > last);
        last = line;
    }
    blk_rig_deinit(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_virtio_blk_interrupts__each_queue_has_its_own),
        cmocka_unit_test(test_virtio_blk_interrupts__fewer_than_queues_are_shared),
        cmocka_unit_test(test_virtio_blk_interrupts__the_node_may_list_fewer),
        cmocka_unit_test(test_virtio_blk_interrupts__one_queue_of_many_lines_takes_two),
        cmocka_unit_test(test_virtio_blk_interrupts__first_is_the_configurations),
        cmocka_unit_test(test_virtio_blk_interrupts__refused_ones_are_done_without),
        cmocka_unit_test(test_virtio_blk_interrupts__of_a_stopped_device_count_nothing),
        cmocka_unit_test(test_virtio_blk_wait__names_the_queues_own_interrupt),
        cmocka_unit_test(test_virtio_blk_wait__shared_interrupt_is_not_named),
        cmocka_unit_test(test_virtio_blk_stop__wakes_the_owners_of_all_queues),
        cmocka_unit_test(test_block_arm__interrupt_comes_at_the_next_completion),
        cmocka_unit_test(test_block_arm__each_other_answer),
        cmocka_unit_test(test_block_arm__device_in_doubt_says_so),
        cmocka_unit_test(test_virtio_blk_interrupts__counters_have_cache_lines_of_their_own),
    };

    return cmocka_run_group_tests_name("virtio_blk_interrupts", tests, NULL, NULL);
}
