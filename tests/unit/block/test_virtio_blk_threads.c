/* SPDX-License-Identifier: MIT */
/*
 * Queues' owners, the device and its interrupts, each on a thread of its own:
 * every way to wait, on every kind of ring; configuration changes that one
 * thread causes, another takes in and a third reads; requests that are
 * canceled or overdue just when the device answers.  Any order that is missing
 * shows as a request that is lost, doubled or answered with old data, as a sleep without an
 * end, and under ThreadSanitizer (tests/races) as a race.
 */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "support/thread_load.h"

#define BIT(bit)      SK_VIRTIO_FEATURE(bit)
#define INDIRECT      BIT(SK_VIRTIO_F_INDIRECT_DESC)
#define EVENT_IDX     BIT(SK_VIRTIO_F_EVENT_IDX)
#define PACKED        BIT(SK_VIRTIO_F_RING_PACKED)
#define IN_ORDER      BIT(SK_VIRTIO_F_IN_ORDER)
#define RING_RESET    BIT(SK_VIRTIO_F_RING_RESET)
#define MULTI         BIT(SK_VIRTIO_BLK_F_MQ)
#define SEG_MAX       BIT(SK_VIRTIO_BLK_F_SEG_MAX)
#define DISCARD       BIT(SK_VIRTIO_BLK_F_DISCARD)
#define HINTS         (BIT(SK_VIRTIO_BLK_F_TOPOLOGY) | BIT(SK_VIRTIO_BLK_F_FLUSH) |        \
                       BIT(SK_VIRTIO_BLK_F_CONFIG_WCE))

static struct thread_rig rig;

static void *run_load(void *argument)
{
    require_equal(thread_load_run(argument, 600, true), SK_OK);
    return NULL;
}

/* ---- Every way to wait --------------------------------------------------------------------- */

static const struct {
    uint64_t features;
    uint32_t queue_size;
} rings[] = {
    { SEG_MAX, 32 },
    { SEG_MAX | EVENT_IDX, 64 },
    { SEG_MAX | INDIRECT, 8 },
    { SEG_MAX | INDIRECT | EVENT_IDX, 16 },
    { SEG_MAX | PACKED, 37 },
    { SEG_MAX | PACKED | EVENT_IDX, 29 },
    { SEG_MAX | PACKED | INDIRECT, 3 },
    { SEG_MAX | PACKED | INDIRECT | EVENT_IDX, 7 },
    { SEG_MAX | IN_ORDER | INDIRECT | EVENT_IDX, 16 },
    { SEG_MAX | IN_ORDER | PACKED | EVENT_IDX, 31 },
    { SEG_MAX | IN_ORDER | PACKED | INDIRECT, 13 },
};

static void every_ring(enum load_wait wait, uint32_t interrupts, uint32_t count)
{
    static struct thread_load load;

    for (size_t i = 0; i < sizeof(rings) / sizeof(rings[0]); i++) {
        struct thread_rig_options options = { .features = rings[i].features,
                                              .queues = 1,
                                              .queue_size = rings[i].queue_size,
                                              .interrupts = interrupts };

        thread_rig_start(&rig, &options);
        thread_rig_start_near_wrap(&rig);
        thread_load_init(&load, &rig, 0, wait);
        require_equal(thread_load_run(&load, count, true), SK_OK);
        require_equal(load.ended[SK_OK], load.finished);
        thread_load_deinit(&load);
        thread_rig_stop(&rig);
    }
}

static void test_virtio_blk_threads__polling(void **state)
{
    (void)state;
    every_ring(LOAD_POLLS, 0, 1000);
}

static void test_virtio_blk_threads__waiting(void **state)
{
    (void)state;
    every_ring(LOAD_WAITS, 1, 500);
    every_ring(LOAD_WAITS, 2, 300);
}

static void test_virtio_blk_threads__waiting_in_two_ways_at_once(void **state)
{
    (void)state;
    every_ring(LOAD_WAITS_HYBRID, 2, 300);
}

static void test_virtio_blk_threads__armed(void **state)
{
    (void)state;
    every_ring(LOAD_ARMS, 1, 300);
    every_ring(LOAD_ARMS, 2, 500);
}

/* ---- Two owners; interrupts of each kind --------------------------------------------------- */

static void run_two(struct thread_load loads[2])
{
    pthread_t threads[2];

    for (uint32_t i = 0; i < 2; i++) {
        require_equal(pthread_create(&threads[i], NULL, run_load, &loads[i]), 0);
    }
    for (uint32_t i = 0; i < 2; i++) {
        require_equal(pthread_join(threads[i], NULL), 0);
    }
}

static void two_owners(uint64_t features, uint32_t queue_size, uint32_t interrupts)
{
    static struct thread_load loads[2];
    struct thread_rig_options options = { .features = features | MULTI,
                                          .queues = 2,
                                          .queue_size = queue_size,
                                          .interrupts = interrupts };

    thread_rig_start(&rig, &options);
    thread_rig_start_near_wrap(&rig);
    for (uint32_t i = 0; i < 2; i++) {
        thread_load_init(&loads[i], &rig, i, LOAD_WAITS_SOMEHOW);
    }
    run_two(loads);
    for (uint32_t i = 0; i < 2; i++) {
        require_equal(loads[i].ended[SK_OK], loads[i].finished);
        thread_load_deinit(&loads[i]);
    }
    thread_rig_stop(&rig);
}

static void test_virtio_blk_threads__two_owners(void **state)
{
    (void)state;
    for (uint32_t interrupts = 1; interrupts <= 3; interrupts++) {
        two_owners(SEG_MAX | INDIRECT | EVENT_IDX, 16, interrupts);
        two_owners(SEG_MAX | PACKED | EVENT_IDX, 31, interrupts);
    }
}

/* ---- Configuration changes ----------------------------------------------------------------- */

#define SECTORS_FIRST THREAD_SECTORS
#define RESIZES       300u

struct config_test {
    struct thread_load loads[2];
    _Atomic bool ends;
    _Atomic uint32_t told; /* the capacity of which the watcher heard last */
};

/* Two values that the device changes together: nobody sees one without the other. */
static void expect_consistent(const struct sk_block_info *info)
{
    require_equal(info->capacity_sectors, info->discard.sectors_max);
    require(info->capacity_sectors >= SECTORS_FIRST);
}

static void told(struct sk_block_device *device, uint32_t changes, void *context)
{
    struct config_test *test = context;
    struct sk_block_info info;

    require((changes & SK_BLOCK_CHANGED_CAPACITY) != 0);
    sk_block_get_info(device, &info);
    expect_consistent(&info);
    require(info.capacity_sectors >= test->told);
    test->told = (uint32_t)info.capacity_sectors;
}

static void *read_info(void *argument)
{
    struct config_test *test = argument;

    while (!test->ends) {
        struct sk_block_property property;
        struct sk_block_info info;

        sk_block_get_info(rig.disk, &info);
        expect_consistent(&info);
        require_equal(sk_block_find_property(rig.disk, "capacity_sectors", &property), SK_OK);
        require(property.number >= info.capacity_sectors);
        (void)sched_yield();
    }
    return NULL;
}

static void *resize(void *argument)
{
    struct config_test *test = argument;

    for (uint32_t i = 1; i <= RESIZES; i++) {
        thread_device_resize(&rig.device, SECTORS_FIRST + i);
        thread_device_raise(&rig.device, i % 4); /* of no request */
        while (i % 3 == 0 && test->told != SECTORS_FIRST + i) { /* or few of them are taken in */
            (void)sched_yield();
        }
        (void)sched_yield();
    }
    test->ends = true;
    return NULL;
}

/*
 * Either owner may be the one who takes a change in; the first one hears of it.
 * The other asks for what never changes, beside what does.
 */
static void *work_meanwhile(void *argument)
{
    struct config_test *test = argument;
    struct sk_block_queue *queue = test->loads[1].queue;
    struct sk_block_lifetime wear;
    uint8_t byte;

    while (!test->ends) {
        require_equal(sk_block_read(queue, 0, &byte, 1, 0), SK_ERR_SIZE);
        require_equal(sk_block_get_lifetime(queue, &wear, 0), SK_ERR_UNSUPPORTED);
        require_equal(thread_load_run(&test->loads[1], 50, false), SK_OK);
    }
    require_equal(thread_load_run(&test->loads[1], 50, true), SK_OK);
    return NULL;
}

static void config_changes(uint64_t features, uint32_t queue_size, uint32_t interrupts)
{
    static struct config_test test;
    struct thread_rig_options options = { .features = features | DISCARD | MULTI | HINTS,
                                          .queues = 2,
                                          .queue_size = queue_size,
                                          .interrupts = interrupts };
    struct sk_block_info info;
    pthread_t threads[3];

    memset(&test, 0, sizeof(test));
    thread_rig_start(&rig, &options);
    thread_rig_start_near_wrap(&rig);
    for (uint32_t i = 0; i < 2; i++) {
        thread_load_init(&test.loads[i], &rig, i, LOAD_WAITS_SOMEHOW);
    }
    sk_block_watch(rig.disk, told, &test);
    require_equal(pthread_create(&threads[0], NULL, read_info, &test), 0);
    require_equal(pthread_create(&threads[1], NULL, resize, &test), 0);
    require_equal(pthread_create(&threads[2], NULL, work_meanwhile, &test), 0);
    while (!test.ends) {
        require_equal(thread_load_run(&test.loads[0], 50, false), SK_OK);
    }
    for (uint32_t i = 0; i < 3; i++) {
        require_equal(pthread_join(threads[i], NULL), 0);
    }
    require_equal(thread_load_run(&test.loads[0], 200, true), SK_OK);
    require_equal(sk_block_poll(test.loads[0].queue, 0, NULL), SK_OK); /* finds nothing, and looks */
    sk_block_get_info(rig.disk, &info);
    require_equal(info.capacity_sectors, SECTORS_FIRST + RESIZES);
    require_equal(test.told, SECTORS_FIRST + RESIZES);
    for (uint32_t i = 0; i < 2; i++) {
        require_equal(test.loads[i].ended[SK_OK], test.loads[i].finished);
        thread_load_deinit(&test.loads[i]);
    }
    thread_rig_stop(&rig);
}

static void test_virtio_blk_threads__configuration_changes(void **state)
{
    (void)state;
    config_changes(SEG_MAX | INDIRECT | EVENT_IDX, 16, 1);
    config_changes(SEG_MAX | PACKED, 31, 2);
}

/* ---- Cancel, deadlines --------------------------------------------------------------------- */

static void test_virtio_blk_threads__canceled_while_the_device_works(void **state)
{
    static struct thread_load load;
    static const uint64_t kinds[] = { SEG_MAX, SEG_MAX | PACKED | INDIRECT,
                                      SEG_MAX | INDIRECT | IN_ORDER };

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct thread_rig_options options = { .features = kinds[i], .queues = 1,
                                              .queue_size = 8, .interrupts = 1 };

        thread_rig_start(&rig, &options);
        thread_rig_start_near_wrap(&rig);
        thread_load_init(&load, &rig, 0, LOAD_WAITS_SOMEHOW);
        load.cancel_each = 2;
        require_equal(thread_load_run(&load, 2000, true), SK_OK);
        require(load.ended[SK_ERR_CANCELED] >= load.cancels / 2); /* those that waited */
        require(load.cancels / 2 > 10);
        require_equal(load.ended[SK_OK] + load.ended[SK_ERR_CANCELED], load.finished);
        thread_load_deinit(&load);
        thread_rig_stop(&rig);
    }
}

/* Deadlines pass just when the device answers: it is stopped, or its queue is reset. */
static void deadlines(uint64_t features, uint32_t queue_size, uint32_t overdue)
{
    static struct thread_load load;
    struct thread_rig_options options = { .features = features,
                                          .queues = 1,
                                          .queue_size = queue_size,
                                          .interrupts = 1,
                                          .slow_us = 200 };
    uint32_t recoveries = 0;

    thread_rig_start(&rig, &options);
    thread_rig_start_near_wrap(&rig);
    thread_load_init(&load, &rig, 0, LOAD_WAITS_SOMEHOW);
    load.deadline_ns = 1000000;
    for (uint32_t i = 0; i < 10000 && load.ended[SK_ERR_TIMEOUT] < overdue; i++) {
        enum sk_status status = thread_load_run(&load, 20, false);

        if (status != SK_OK) {
            require_equal(status, SK_ERR_BROKEN);
            require_equal(sk_block_recover(rig.disk, 0), SK_OK);
            recoveries++;
        }
    }
    require(load.ended[SK_ERR_TIMEOUT] >= overdue);
    require_equal(load.ended[SK_OK] + load.ended[SK_ERR_TIMEOUT] + load.ended[SK_ERR_BROKEN],
                     load.finished);
    require(recoveries > 0 || (features & RING_RESET) != 0);
    load.deadline_ns = 0;
    require_equal(thread_load_run(&load, 100, true), SK_OK);
    thread_load_deinit(&load);
    thread_rig_stop(&rig);
}

static void test_virtio_blk_threads__overdue_while_the_device_answers(void **state)
{
    (void)state;
    deadlines(SEG_MAX | INDIRECT | EVENT_IDX, 16, 100);
    deadlines(SEG_MAX | PACKED, 31, 100);
    deadlines(SEG_MAX | IN_ORDER | INDIRECT | EVENT_IDX, 16, 100);
    deadlines(SEG_MAX | RING_RESET, 32, 100);
    deadlines(SEG_MAX | PACKED | INDIRECT | RING_RESET, 13, 100);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_virtio_blk_threads__polling),
        cmocka_unit_test(test_virtio_blk_threads__waiting),
        cmocka_unit_test(test_virtio_blk_threads__waiting_in_two_ways_at_once),
        cmocka_unit_test(test_virtio_blk_threads__armed),
        cmocka_unit_test(test_virtio_blk_threads__two_owners),
        cmocka_unit_test(test_virtio_blk_threads__configuration_changes),
        cmocka_unit_test(test_virtio_blk_threads__canceled_while_the_device_works),
        cmocka_unit_test(test_virtio_blk_threads__overdue_while_the_device_answers),
    };

    if (argc > 1) {
        cmocka_set_test_filter(argv[1]);
    }
    return cmocka_run_group_tests_name("virtio_blk_threads", tests, NULL, NULL);
}
