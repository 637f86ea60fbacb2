/* SPDX-License-Identifier: MIT */
/*
 * One owner, or what its device does, stops the device while others are at
 * work on other queues, and the device in its own thread goes on until its
 * reset is acknowledged: nobody's memory is given back while it may still
 * write, those who sleep are woken, and all go on afterwards.
 */
#define _XOPEN_SOURCE 700 /* barriers */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "support/thread_load.h"

#define BIT(bit)   SK_VIRTIO_FEATURE(bit)
#define SPLIT      (BIT(SK_VIRTIO_BLK_F_SEG_MAX) | BIT(SK_VIRTIO_BLK_F_MQ))
#define INDIRECT   BIT(SK_VIRTIO_F_INDIRECT_DESC)
#define EVENT_IDX  BIT(SK_VIRTIO_F_EVENT_IDX)
#define PACKED     BIT(SK_VIRTIO_F_RING_PACKED)
#define IN_ORDER   BIT(SK_VIRTIO_F_IN_ORDER)
#define RING_RESET BIT(SK_VIRTIO_F_RING_RESET)

#define OWNERS 2u

static struct thread_rig rig;
static struct thread_load loads[OWNERS];
static pthread_barrier_t barrier;
static uint32_t rounds;

static void start(uint64_t features, uint32_t queue_size, enum sk_virtio_blk_recovery recovery)
{
    struct thread_rig_options options = { .features = features,
                                          .queues = OWNERS,
                                          .queue_size = queue_size,
                                          .interrupts = 1 + OWNERS,
                                          .slow_us = 20,
                                          .recovery = recovery };

    thread_rig_start(&rig, &options);
    thread_rig_start_near_wrap(&rig);
    for (uint32_t i = 0; i < OWNERS; i++) {
        thread_load_init(&loads[i], &rig, i, LOAD_WAITS_SOMEHOW);
        loads[i].keeps = recovery == SK_VIRTIO_BLK_RECOVERY_RESUBMIT;
    }
    require_equal(pthread_barrier_init(&barrier, NULL, OWNERS), 0);
}

static void run_owners(void *(*owner)(void *load))
{
    pthread_t threads[OWNERS];

    for (uint32_t i = 0; i < OWNERS; i++) {
        require_equal(pthread_create(&threads[i], NULL, owner, &loads[i]), 0);
    }
    for (uint32_t i = 0; i < OWNERS; i++) {
        require_equal(pthread_join(threads[i], NULL), 0);
    }
}

static void stop_rig(void)
{
    for (uint32_t i = 0; i < OWNERS; i++) {
        thread_load_deinit(&loads[i]);
    }
    require_equal(pthread_barrier_destroy(&barrier), 0);
    thread_rig_stop(&rig);
}

static void stop_device(struct thread_load *load)
{
    sk_block_stop(load->rig->disk, SK_ERR_TIMEOUT);
}

/* ---- Stopped and recovered ----------------------------------------------------------------- */

/* Each works until the device is stopped; the first owner recovers it while the others rest. */
static void *stop_and_recover(void *argument)
{
    struct thread_load *load = argument;

    for (uint32_t round = 0; round < rounds; round++) {
        bool stops = round % 3 == 2 || round % 3 == load->queue->index; /* or both at a time */

        load->call = stop_device;
        load->call_after = stops ? 1 + round * 7 % 60 : 0;
        require_equal(thread_load_run(load, UINT32_MAX / 2, false), SK_ERR_BROKEN);
        (void)pthread_barrier_wait(&barrier);
        if (load->queue->index == 0) {
            require_equal(sk_block_get_state(rig.disk), SK_BLOCK_STATE_BROKEN);
            require_equal(sk_block_recover(rig.disk, 0), SK_OK);
            if (!load->keeps) {
                thread_rig_start_near_wrap(&rig); /* nothing went again */
            }
        }
        (void)pthread_barrier_wait(&barrier);
    }
    load->call_after = 0;
    load->keeps = false;
    require_equal(thread_load_run(load, 50, true), SK_OK);
    return NULL;
}

static void stopped_by_owners(uint64_t features, uint32_t queue_size, enum load_wait wait,
                              enum sk_virtio_blk_recovery recovery)
{
    start(features, queue_size, recovery);
    rounds = 30;
    for (uint32_t i = 0; i < OWNERS; i++) {
        loads[i].wait = wait;
    }
    run_owners(stop_and_recover);
    for (uint32_t i = 0; i < OWNERS; i++) {
        uint32_t lost = loads[i].ended[SK_ERR_TIMEOUT];

        require_equal(loads[i].ended[SK_OK] + loads[i].ended[SK_ERR_TIMEOUT] +
                             loads[i].ended[SK_ERR_BROKEN],
                         loads[i].finished);
        /* One that was at four devices that stopped is given up even then. */
        require(recovery == SK_VIRTIO_BLK_RECOVERY_FAIL ? lost > 0
                                                            : lost * 10 < loads[i].finished);
    }
    stop_rig();
}

static void test_virtio_blk_threads__stopped_by_an_owner_while_others_work(void **state)
{
    (void)state;
    stopped_by_owners(SPLIT | INDIRECT | EVENT_IDX, 16, LOAD_WAITS_SOMEHOW,
                      SK_VIRTIO_BLK_RECOVERY_FAIL);
    stopped_by_owners(SPLIT | PACKED, 31, LOAD_WAITS_SOMEHOW, SK_VIRTIO_BLK_RECOVERY_FAIL);
    stopped_by_owners(SPLIT | PACKED | IN_ORDER, 31, LOAD_WAITS_SOMEHOW,
                      SK_VIRTIO_BLK_RECOVERY_FAIL);
}

static void test_virtio_blk_threads__stopped_by_an_owner_while_others_poll(void **state)
{
    (void)state;
    stopped_by_owners(SPLIT, 32, LOAD_POLLS, SK_VIRTIO_BLK_RECOVERY_FAIL);
    stopped_by_owners(SPLIT | PACKED | EVENT_IDX, 29, LOAD_POLLS, SK_VIRTIO_BLK_RECOVERY_FAIL);
}

static void test_virtio_blk_threads__resubmitted_after_a_stop(void **state)
{
    (void)state;
    stopped_by_owners(SPLIT, 32, LOAD_WAITS_SOMEHOW, SK_VIRTIO_BLK_RECOVERY_RESUBMIT);
    stopped_by_owners(SPLIT | PACKED | INDIRECT | EVENT_IDX, 5, LOAD_WAITS_SOMEHOW,
                      SK_VIRTIO_BLK_RECOVERY_RESUBMIT);
}

/* ---- One queue reset ------------------------------------------------------------------------ */

static void reset_queue(struct thread_load *load)
{
    enum sk_status status = sk_block_reset_queue(load->queue);

    require(status == SK_OK || status == SK_ERR_BUSY); /* the other owner looks at the device */
}

/* The second owner resets its queue again and again; the first one does not notice. */
static void *reset_again(void *argument)
{
    struct thread_load *load = argument;

    for (uint32_t round = 0; round < rounds; round++) {
        load->call = reset_queue;
        load->call_after = load->queue->index == 1 ? 1 + round % 20 : 0;
        require_equal(thread_load_run(load, 25, false), SK_OK);
    }
    load->call_after = 0;
    require_equal(thread_load_run(load, 50, true), SK_OK);
    return NULL;
}

static void one_queue_reset(uint64_t features, uint32_t queue_size,
                            enum sk_virtio_blk_recovery recovery)
{
    start(features | RING_RESET, queue_size, recovery);
    rounds = 60;
    run_owners(reset_again);
    require_equal(loads[0].ended[SK_OK], loads[0].finished);
    if (recovery == SK_VIRTIO_BLK_RECOVERY_FAIL) {
        require(loads[1].ended[SK_ERR_BROKEN] > 0);
    }
    require_equal(loads[1].ended[SK_OK] + loads[1].ended[SK_ERR_BROKEN], loads[1].finished);
    stop_rig();
}

static void test_virtio_blk_threads__one_queue_reset_while_another_works(void **state)
{
    (void)state;
    one_queue_reset(SPLIT | EVENT_IDX, 32, SK_VIRTIO_BLK_RECOVERY_FAIL);
    one_queue_reset(SPLIT | PACKED | EVENT_IDX, 29, SK_VIRTIO_BLK_RECOVERY_FAIL);
    one_queue_reset(SPLIT | PACKED | INDIRECT, 9, SK_VIRTIO_BLK_RECOVERY_RESUBMIT);
    one_queue_reset(SPLIT | INDIRECT | IN_ORDER, 16, SK_VIRTIO_BLK_RECOVERY_RESUBMIT);
}

/* ---- Failed for good ------------------------------------------------------------------------ */

static _Atomic bool failed; /* after recover returned */

/* The disk is gone: the one who recovers hears it, and the other owner sees it. */
static void *lose_disk(void *argument)
{
    struct thread_load *load = argument;
    bool first = load->queue->index == 0;

    load->call = stop_device;
    load->call_after = first ? 40 : 0;
    require_equal(thread_load_run(load, UINT32_MAX / 2, false), SK_ERR_BROKEN);
    (void)pthread_barrier_wait(&barrier);
    if (first) {
        rig.device.gone = true;
        require_equal(sk_block_recover(rig.disk, 0), SK_ERR_GONE);
        failed = true;
    }
    while (!failed) { /* asking for the state is anybody's right */
        enum sk_block_state seen = sk_block_get_state(rig.disk);

        require(seen == SK_BLOCK_STATE_BROKEN || seen == SK_BLOCK_STATE_FAILED);
        (void)sched_yield();
    }
    require_equal(sk_block_get_state(rig.disk), SK_BLOCK_STATE_FAILED);
    load->keeps = false;
    load->call_after = 0;
    require_equal(thread_load_run(load, 20, true), SK_ERR_GONE);
    require(load->ended[SK_ERR_GONE] > 0);
    require_equal(sk_block_arm(load->queue), SK_ERR_GONE);
    return NULL;
}

static void test_virtio_blk_threads__failure_for_good_is_seen_by_all(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 10; i++) {
        start(i % 2 == 0 ? SPLIT : SPLIT | PACKED, i % 2 == 0 ? 32 : 31,
              SK_VIRTIO_BLK_RECOVERY_RESUBMIT);
        failed = false;
        run_owners(lose_disk);
        stop_rig();
    }
}

/* ---- Stopped by an overdue request --------------------------------------------------------- */

/* The second owner's requests are overdue now and then, which stops the device for both. */
static void *overdue_and_recover(void *argument)
{
    struct thread_load *load = argument;

    load->deadline_ns = load->queue->index == 1 ? 300000 : 0;
    for (uint32_t round = 0; round < rounds; round++) {
        require_equal(thread_load_run(load, UINT32_MAX / 2, false), SK_ERR_BROKEN);
        (void)pthread_barrier_wait(&barrier);
        if (load->queue->index == 0) {
            require_equal(sk_block_recover(rig.disk, 0), SK_OK);
        }
        (void)pthread_barrier_wait(&barrier);
    }
    load->deadline_ns = 0;
    require_equal(thread_load_run(load, 50, true), SK_OK);
    return NULL;
}

static void test_virtio_blk_threads__overdue_request_stops_all_owners(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        start(i == 0 ? SPLIT | INDIRECT : SPLIT | PACKED | EVENT_IDX, 16,
              SK_VIRTIO_BLK_RECOVERY_FAIL);
        rounds = 30;
        run_owners(overdue_and_recover);
        require(loads[1].ended[SK_ERR_TIMEOUT] >= rounds);
        stop_rig();
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_virtio_blk_threads__stopped_by_an_owner_while_others_work),
        cmocka_unit_test(test_virtio_blk_threads__stopped_by_an_owner_while_others_poll),
        cmocka_unit_test(test_virtio_blk_threads__resubmitted_after_a_stop),
        cmocka_unit_test(test_virtio_blk_threads__one_queue_reset_while_another_works),
        cmocka_unit_test(test_virtio_blk_threads__failure_for_good_is_seen_by_all),
        cmocka_unit_test(test_virtio_blk_threads__overdue_request_stops_all_owners),
    };

    if (argc > 1) {
        cmocka_set_test_filter(argv[1]);
    }
    return cmocka_run_group_tests_name("virtio_blk_threads_stop", tests, NULL, NULL);
}
