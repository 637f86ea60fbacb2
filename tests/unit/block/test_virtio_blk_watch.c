/* SPDX-License-Identifier: MIT */
/* Changes of the configuration and the state while queues are at work, and who hears of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "support/blk_rig.h"

#define MANY 64u

static struct blk_rig rig;
static struct sk_block_queue *queues[2];
static struct blk_rig_request many[MANY];

/* What the watcher was told. */
static unsigned calls;
static uint32_t told;
static bool polling; /* of queue 0, or waiting: the only time it may be called */
static bool submits;

static uint64_t bit(unsigned number)
{
    return SK_VIRTIO_FEATURE(number);
}

static void changed(struct sk_block_device *device, uint32_t changes, void *context)
{
    assert_ptr_equal(device, rig.disk);
    assert_ptr_equal(context, &rig);
    assert_true(polling);
    assert_true(changes != 0);
    calls++;
    told |= changes;
    assert_int_equal(sk_block_poll(queues[0], 0, NULL), SK_ERR_BUSY);
    assert_int_equal(sk_block_wait(queues[0], UINT64_MAX), SK_ERR_BUSY);
    if (submits) {
        struct sk_block_request *request = &many[0].request;

        sk_block_submit(queues[0], &request, 1);
    }
}

static void start(bool deferred)
{
    struct fake_device_config config = FAKE_DEVICE_CONFIG_DEFAULT;
    struct sk_virtio_blk_options options = blk_rig_options();

    config.features |= bit(SK_VIRTIO_BLK_F_MQ) | bit(SK_VIRTIO_BLK_F_DISCARD);
    config.queue_count = 2;
    config.deferred = deferred;
    options.queue_count = 2;
    options.queue_size = 16;
    blk_rig_init(&rig, &config, &options);
    fake_device_set_config(rig.fake, 36, 4, 1000);
    fake_device_set_config(rig.fake, 40, 4, 1);
    assert_int_equal(blk_rig_probe(&rig), SK_OK);
    for (unsigned i = 0; i < 2; i++) {
        queues[i] = sk_block_get_queue(rig.disk, i);
    }
    memset(many, 0, sizeof(many));
    calls = 0;
    told = 0;
    submits = false;
    sk_block_watch(rig.disk, changed, &rig);
}

static enum sk_status poll(unsigned queue)
{
    enum sk_status status;

    polling = queue == 0;
    status = sk_block_poll(queues[queue], 0, NULL);
    polling = false;
    return status;
}

/* Polls queue 0 until nothing new is told, and expects to have been told of these. */
static void expect_told(uint32_t changes)
{
    assert_int_equal(poll(0), SK_OK);
    assert_int_equal(told, changes);
    assert_int_equal(calls, changes != 0);
    assert_int_equal(poll(0), SK_OK);
    assert_int_equal(calls, changes != 0);
    calls = 0;
    told = 0;
}

static enum sk_status read_at(unsigned queue, uint64_t sector)
{
    struct sk_block_request *request = &many[queue].request;

    blk_rig_prepare(&rig, &many[queue], SK_BLOCK_READ, sector, queue, 512);
    sk_block_submit(queues[queue], &request, 1);
    for (unsigned i = 0; i < 100 && many[queue].completions == 0; i++) {
        (void)poll(queue);
        (void)fake_device_run(rig.fake, UINT_MAX);
    }
    assert_int_equal(many[queue].completions, 1);
    return request->status;
}

static void test_virtio_blk_watch__nothing_changed_nothing_told(void **state)
{
    (void)state;
    start(false);
    expect_told(0);
    fake_device_interrupt(rig.fake, SK_VIRTIO_INTERRUPT_CONFIG);
    expect_told(0);
    assert_int_equal(read_at(0, 0), SK_OK);
    expect_told(0);
    blk_rig_deinit(&rig);
}

static void test_virtio_blk_watch__capacity(void **state)
{
    struct sk_block_info info;

    (void)state;
    start(false);
    fake_device_set_capacity(rig.fake, 1000);
    assert_int_equal(calls, 0); /* not from the interrupt */
    expect_told(SK_BLOCK_CHANGED_CAPACITY);
    sk_block_get_info(rig.disk, &info);
    assert_int_equal(info.capacity_sectors, 1000);
    assert_int_equal(read_at(0, 1000), SK_ERR_RANGE);
    assert_int_equal(poll(1), SK_OK);
    assert_int_equal(read_at(1, 1000), SK_ERR_RANGE); /* the other queue knows, too */
    fake_device_set_capacity(rig.fake, 2000);
    expect_told(SK_BLOCK_CHANGED_CAPACITY);
    assert_int_equal(read_at(0, 1999), SK_OK);
    assert_int_equal(poll(1), SK_OK);
    assert_int_equal(read_at(1, 1999), SK_OK);
    blk_rig_deinit(&rig);
}

/* The owner of another queue sees the change first: it is queue 0's that is called all the same. */
static void test_virtio_blk_watch__is_told_by_queue_0_whoever_saw_it(void **state)
{
    struct sk_block_info info;

    (void)state;
    start(false);
    fake_device_set_capacity(rig.fake, 1000);
    assert_int_equal(poll(1), SK_OK);
    sk_block_get_info(rig.disk, &info);
    assert_int_equal(info.capacity_sectors, 1000);
    assert_int_equal(calls, 0);
    expect_told(SK_BLOCK_CHANGED_CAPACITY);
    blk_rig_deinit(&rig);
}

static void test_virtio_blk_watch__wait_tells_too(void **state)
{
    (void)state;
    start(false);
    fake_device_set_capacity(rig.fake, 1000);
    polling = true;
    assert_int_equal(sk_block_wait(queues[0], rig.env.clock_ns + 100000), SK_ERR_TIMEOUT);
    polling = false;
    assert_int_equal(calls, 1);
    blk_rig_deinit(&rig);
}

static void test_virtio_blk_watch__cache_limits_and_hints(void **state)
{
    struct sk_block_info info;

    (void)state;
    start(false);
    fake_device_set_config(rig.fake, 32, 1, 0);
    expect_told(SK_BLOCK_CHANGED_CACHE);
    sk_block_get_info(rig.disk, &info);
    assert_int_equal(info.cache, SK_BLOCK_CACHE_WRITE_THROUGH);
    fake_device_set_config(rig.fake, 24, 1, 3);
    expect_told(SK_BLOCK_CHANGED_LIMITS);
    sk_block_get_info(rig.disk, &info);
    assert_int_equal(info.physical_block_bytes, 4096);
    fake_device_set_config(rig.fake, 36, 4, 8);
    expect_told(SK_BLOCK_CHANGED_LIMITS);
    assert_int_equal(sk_block_clear(queues[1], SK_BLOCK_DISCARD, 0, 16, 0, 0), SK_OK);
    assert_int_equal(sk_block_clear(queues[1], SK_BLOCK_DISCARD, 0, 16, 0, 0), SK_OK);
    assert_true(rig.fake->ranges >= 3); /* by the new limit at the latest the second time */
    fake_device_set_config(rig.fake, 36, 4, 16);
    fake_device_set_capacity(rig.fake, 1000);
    expect_told(SK_BLOCK_CHANGED_LIMITS | SK_BLOCK_CHANGED_CAPACITY); /* one call */
    assert_int_equal(sk_block_set_cache(queues[1], SK_BLOCK_CACHE_WRITE_BACK, 0), SK_OK);
    expect_told(SK_BLOCK_CHANGED_CACHE); /* somebody here did it */
    blk_rig_deinit(&rig);
}

static void test_virtio_blk_watch__state(void **state)
{
    (void)state;
    start(false);
    sk_block_stop(rig.disk, SK_ERR_IO);
    assert_int_equal(poll(1), SK_ERR_BROKEN);
    assert_int_equal(calls, 0);
    assert_int_equal(poll(0), SK_ERR_BROKEN);
    assert_int_equal(told, SK_BLOCK_CHANGED_STATE);
    assert_int_equal(calls, 1);
    calls = 0;
    told = 0;
    polling = false;
    assert_int_equal(sk_block_recover(rig.disk, 0), SK_OK);
    assert_int_equal(calls, 0);
    expect_told(SK_BLOCK_CHANGED_STATE);
    blk_rig_deinit(&rig);
}

static void test_virtio_blk_watch__may_submit(void **state)
{
    (void)state;
    start(false);
    blk_rig_prepare(&rig, &many[0], SK_BLOCK_READ, 0, 0, 512);
    submits = true;
    fake_device_set_capacity(rig.fake, 1000);
    assert_int_equal(poll(0), SK_OK);
    submits = false;
    assert_int_equal(calls, 1);
    assert_int_equal(poll(0), SK_OK);
    assert_int_equal(many[0].completions, 1);
    blk_rig_deinit(&rig);
}

static void test_virtio_blk_watch__nobody_watches_any_more(void **state)
{
    (void)state;
    start(false);
    sk_block_watch(rig.disk, NULL, NULL);
    fake_device_set_capacity(rig.fake, 1000);
    expect_told(0);
    sk_block_watch(rig.disk, changed, &rig);
    expect_told(0); /* of what was before, nothing */
    fake_device_set_capacity(rig.fake, 900);
    expect_told(SK_BLOCK_CHANGED_CAPACITY);
    blk_rig_deinit(&rig);
}

/* Without interrupts the queues look now and then. */
static void test_virtio_blk_watch__works_without_interrupts(void **state)
{
    struct fake_device_config config = FAKE_DEVICE_CONFIG_DEFAULT;

    (void)state;
    config.deferred = true;
    blk_rig_init(&rig, &config, NULL);
    rig.node.interrupt_count = 0;
    assert_int_equal(blk_rig_probe(&rig), SK_OK);
    queues[0] = rig.queue;
    calls = 0;
    told = 0;
    submits = false;
    sk_block_watch(rig.disk, changed, &rig);
    fake_device_set_capacity(rig.fake, 1000);
    blk_rig_prepare(&rig, &many[0], SK_BLOCK_READ, 0, 0, 512);
    blk_rig_submit(&rig, &many[0]);
    rig.env.clock_ns += BLK_RIG_TIMEOUT_NS / 4 + 1000;
    assert_int_equal(poll(0), SK_OK);
    assert_int_equal(told, SK_BLOCK_CHANGED_CAPACITY);
    blk_rig_deinit(&rig);
}

static void test_virtio_blk_watch__another_block_size_stops_the_device(void **state)
{
    (void)state;
    start(true);
    blk_rig_prepare(&rig, &many[0], SK_BLOCK_READ, 0, 0, 512);
    blk_rig_submit(&rig, &many[0]);
    fake_device_set_config(rig.fake, 20, 4, 4096);
    assert_int_equal(poll(0), SK_ERR_BROKEN);
    assert_int_equal(many[0].request.status, SK_ERR_UNSUPPORTED);
    assert_int_equal(rig.disk->info.block_bytes, 512);
    assert_int_equal(told, SK_BLOCK_CHANGED_STATE);
    blk_rig_deinit(&rig);
}

/* Requests that wait were right when they came; the device shall not see what it would refuse. */
static void test_virtio_blk_capacity__ends_waiting_requests_beyond_it(void **state)
{
    (void)state;
    start(true);
    for (unsigned i = 0; i < 40; i++) {
        struct sk_block_request *request = &many[i].request;

        blk_rig_prepare(&rig, &many[i], i % 7 == 0 ? SK_BLOCK_FLUSH : SK_BLOCK_WRITE,
                        i % 7 == 0 ? 0 : 50 * i, i, i % 7 == 0 ? 0 : 512);
        sk_block_submit(queues[1], &request, 1);
    }
    fake_device_set_capacity(rig.fake, 1000);
    for (unsigned i = 0; i < 50; i++) {
        assert_int_equal(poll(1), SK_OK);
        (void)fake_device_run(rig.fake, UINT_MAX);
    }
    for (unsigned i = 0; i < 40; i++) {
        bool beyond = 50 * i >= 1000 && i % 7 != 0;

        assert_int_equal(many[i].completions, 1);
        assert_int_equal(many[i].request.status,
                         !beyond ? SK_OK : i < 16 ? SK_ERR_IO : SK_ERR_RANGE);
    }
    blk_rig_deinit(&rig);
}

/*
 * Two queues under load while the disk grows and shrinks at random.  What was
 * refused here reached beyond some capacity; what the device refused was too large
 * for it when it came; all else is done.
 */
static void test_virtio_blk_capacity__changes_at_random_under_load(void **state)
{
    uint64_t random = 5;
    uint64_t capacity = 2048;
    uint64_t largest = 2048;
    uint64_t smallest[MANY];
    unsigned counts[SK_STATUS_COUNT] = { 0 };

    (void)state;
    start(true);
    rig.fake->config.order = FAKE_ORDER_RANDOM;
    for (unsigned step = 0; step < 20000; step++) {
        unsigned i;

        random = random * 6364136223846793005u + 1442695040888963407u;
        i = (unsigned)(random >> 33) % MANY;
        if (many[i].request.complete == NULL || many[i].completions == 1) {
            struct sk_block_request *request = &many[i].request;

            blk_rig_prepare(&rig, &many[i], SK_BLOCK_WRITE, (random >> 40) % 2048, i, 512);
            smallest[i] = capacity;
            sk_block_submit(queues[i % 2], &request, 1);
        }
        if ((random >> 20) % 31 == 0) {
            capacity = 1 + (random >> 25) % 2048;
            fake_device_set_capacity(rig.fake, capacity);
            for (unsigned j = 0; j < MANY; j++) {
                smallest[j] = smallest[j] < capacity ? smallest[j] : capacity;
            }
        }
        (void)fake_device_run(rig.fake, (unsigned)(random >> 50) % 4);
        assert_int_equal(poll((unsigned)(random >> 7) % 2), SK_OK);
        for (unsigned j = 0; j < MANY; j++) {
            enum sk_status status = many[j].request.status;

            if (many[j].request.complete == NULL || many[j].completions == 0) {
                continue;
            }
            assert_int_equal(many[j].completions, 1);
            assert_true(status == SK_OK || status == SK_ERR_IO || status == SK_ERR_RANGE);
            /* A queue may know an older capacity, but none that never was. */
            assert_true(status == SK_OK || many[j].request.sector >= 1);
            assert_true(status != SK_ERR_IO || many[j].request.sector >= smallest[j]);
            counts[status]++;
            many[j].request.complete = NULL;
        }
        largest = largest > capacity ? largest : capacity;
    }
    assert_true(counts[SK_OK] > 1000 && counts[SK_ERR_RANGE] > 1000 && counts[SK_ERR_IO] > 10);
    assert_true(calls > 100);
    assert_int_equal(told, SK_BLOCK_CHANGED_CAPACITY);
    for (unsigned i = 0; i < 100; i++) {
        assert_int_equal(poll(i % 2), SK_OK);
        (void)fake_device_run(rig.fake, UINT_MAX);
    }
    assert_int_equal(rig.disk->info.capacity_sectors, capacity);
    blk_rig_deinit(&rig);
}

static void test_block_operation_name__each_has_one(void **state)
{
    (void)state;
    assert_string_equal(sk_block_operation_name(SK_BLOCK_READ), "read");
    assert_string_equal(sk_block_operation_name(SK_BLOCK_WRITE_ZEROES), "write-zeroes");
    for (unsigned i = 0; i < SK_BLOCK_OPERATION_COUNT; i++) {
        assert_non_null(sk_block_operation_name((enum sk_block_operation)i));
        assert_string_not_equal(sk_block_operation_name((enum sk_block_operation)i), "unknown");
    }
    assert_string_equal(sk_block_operation_name(SK_BLOCK_OPERATION_COUNT), "unknown");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_virtio_blk_watch__nothing_changed_nothing_told),
        cmocka_unit_test(test_virtio_blk_watch__capacity),
        cmocka_unit_test(test_virtio_blk_watch__is_told_by_queue_0_whoever_saw_it),
        cmocka_unit_test(test_virtio_blk_watch__wait_tells_too),
        cmocka_unit_test(test_virtio_blk_watch__cache_limits_and_hints),
        cmocka_unit_test(test_virtio_blk_watch__state),
        cmocka_unit_test(test_virtio_blk_watch__may_submit),
        cmocka_unit_test(test_virtio_blk_watch__nobody_watches_any_more),
        cmocka_unit_test(test_virtio_blk_watch__works_without_interrupts),
        cmocka_unit_test(test_virtio_blk_watch__another_block_size_stops_the_device),
        cmocka_unit_test(test_virtio_blk_capacity__ends_waiting_requests_beyond_it),
        cmocka_unit_test(test_virtio_blk_capacity__changes_at_random_under_load),
        cmocka_unit_test(test_block_operation_name__each_has_one),
    };

    return cmocka_run_group_tests_name("virtio_blk_watch", tests, NULL, NULL);
}
