/* SPDX-License-Identifier: MIT */
/*
 * Many requests of a queue at the file at a time.  The fault "late" keeps a
 * request from beginning until others are done, so that what is tested does
 * not depend on who is faster: a back end that waits for one request before
 * it begins the next never gets there.
 */
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <skio_hosted/backend.h>

#include "descriptors.h"
#include "front_end.h"

#define BIT(bit) SK_VIRTIO_FEATURE(bit)
#define SECTORS  4096u
#define RING     64u

static char folder[] = "/tmp/skio-many-XXXXXX";
static char socket_path[64];
static char file_path[64];
static unsigned before;
static struct front_end front;
static struct front_end other; /* another connection */
static struct sk_backend *backend;

static const uint64_t kinds[] = {
    0,
    BIT(SK_VIRTIO_F_INDIRECT_DESC) | BIT(SK_VIRTIO_F_EVENT_IDX),
    BIT(SK_VIRTIO_F_RING_PACKED),
    BIT(SK_VIRTIO_F_RING_PACKED) | BIT(SK_VIRTIO_F_INDIRECT_DESC) | BIT(SK_VIRTIO_F_EVENT_IDX),
};

#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

static int set_up(void **state)
{
    int fd;

    (void)state;
    before = descriptors_count();
    strcpy(folder + sizeof(folder) - 7, "XXXXXX");
    if (mkdtemp(folder) == NULL) {
        return -1;
    }
    (void)snprintf(socket_path, sizeof(socket_path), "%s/socket", folder);
    (void)snprintf(file_path, sizeof(file_path), "%s/file", folder);
    fd = open(file_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, SECTORS * 512) != 0) {
        return -1;
    }
    (void)close(fd);
    front_end_init(&front);
    front_end_init(&other);
    return 0;
}

static void stop(void)
{
    front_end_disconnect(&front);
    front_end_disconnect(&other);
    sk_backend_stop(backend);
    backend = NULL;
    if (front.record_fd >= 0) {
        (void)close(front.record_fd);
        front.record_fd = -1;
    }
}

static int tear_down(void **state)
{
    (void)state;
    stop();
    front_end_close(&front);
    front_end_close(&other);
    (void)unlink(file_path);
    (void)rmdir(folder);
    return descriptors_count() == before ? 0 : -1;
}

/* Queues 0 and 2 have one worker, queue 1 the other. */
static void start(const char *const *faults, uint32_t fault_count, uint32_t threads)
{
    static struct sk_backend_fault parsed[SK_BACKEND_FAULTS_MAX];
    struct sk_backend_options options;
    char error[SK_BACKEND_ERROR_BYTES];

    sk_backend_options_init(&options);
    options.address = socket_path;
    options.file_path = file_path;
    options.queue_count = 4;
    options.worker_count = 2;
    options.thread_count = threads;
    for (uint32_t i = 0; i < fault_count; i++) {
        assert_int_equal(sk_backend_parse_fault(faults[i], &parsed[i]), SK_OK);
    }
    options.faults = parsed;
    options.fault_count = fault_count;
    assert_int_equal(sk_backend_start(&options, &backend, error), SK_OK);
}

static struct sk_backend_statistics statistics(void)
{
    struct sk_backend_statistics now;

    sk_backend_get_statistics(backend, &now);
    return now;
}

/* Until so many requests are at the file at the same time. */
static void wait_at_work(uint64_t count)
{
    uint64_t until = ski_vhost_user_now() + FRONT_WAIT_NS;

    while (statistics().at_work != count) {
        assert_true(ski_vhost_user_now() < until);
        (void)poll(NULL, 0, 1);
    }
}

static void submit_writes(struct front_queue *queue, uint32_t first, uint32_t count)
{
    for (uint32_t slot = first; slot < first + count; slot++) {
        memset(front_end_data(queue, slot), (int)(slot + 1), 512);
        front_end_submit(queue, slot, FRONT_WRITE, slot, 512);
    }
    front_end_publish(queue);
}

/* All that is out, each done well. */
static void finish_all(struct front_queue *queue)
{
    while (queue->out > 0) {
        assert_int_equal(front_end_status(queue, (uint32_t)front_end_wait(queue)), FRONT_OK);
    }
}

static void expect_file(uint32_t first, uint32_t count)
{
    int fd = open(file_path, O_RDONLY | O_CLOEXEC);

    assert_true(fd >= 0);
    for (uint32_t slot = first; slot < first + count; slot++) {
        uint8_t content[512];
        uint8_t expected[512];

        memset(expected, (int)(slot + 1), sizeof(expected));
        assert_int_equal(pread(fd, content, sizeof(content), (off_t)(slot * 512)), 512);
        assert_memory_equal(content, expected, 512);
    }
    (void)close(fd);
}

/* ---- One queue ------------------------------------------------------------------------------ */

static void test_backend_many__one_that_waits_lets_others_finish(void **state)
{
    static const char *const late[] = { "late=8@0x1" };

    (void)state;
    for (size_t kind = 0; kind < KINDS; kind++) {
        struct front_queue *queue = &front.queues[0];
        uint32_t done = 0;
        int slot;

        start(late, 1, 4);
        front_end_start(&front, socket_path, kinds[kind], 1, RING);
        submit_writes(queue, 0, 9);
        do {
            slot = front_end_wait(queue);
            assert_int_equal(front_end_status(queue, (uint32_t)slot), FRONT_OK);
            done++;
        } while (slot != 0);
        assert_int_equal(done, 9); /* the first one was the last to be done */
        expect_file(0, 9);
        stop();
    }
}

/* The same with every kind of request as the one that waits, and as the others. */
static void test_backend_many__requests_of_all_kinds_are_done_side_by_side(void **state)
{
    static const uint32_t types[] = { FRONT_READ, FRONT_WRITE, FRONT_FLUSH, FRONT_GET_ID };
    static const char *const late[] = { "late=3@0x1", "late=3@4x1", "late=3@8x1", "late=3@12x1" };

    (void)state;
    start(late, 4, 4);
    front_end_start(&front, socket_path, UINT64_MAX & ~BIT(SK_VIRTIO_F_IN_ORDER), 1, RING);
    for (uint32_t first = 0; first < 4; first++) {
        struct front_queue *queue = &front.queues[0];
        int slot = -1;

        for (uint32_t i = 0; i < 4; i++) {
            uint32_t type = types[(first + i) % 4];

            front_end_submit(queue, i, type, type == FRONT_FLUSH ? 0 : i,
                             type == FRONT_FLUSH ? 0 : 512);
        }
        front_end_publish(queue);
        for (uint32_t i = 0; i < 4; i++) {
            slot = front_end_wait(queue);
            assert_int_equal(front_end_status(queue, (uint32_t)slot), FRONT_OK);
        }
        assert_int_equal(slot, 0);
    }
}

/* No more than there are threads, however many wait; and all of those. */
static void test_backend_many__threads_say_how_many(void **state)
{
    static const char *const late[] = { "late=6@0x4" };

    (void)state;
    start(late, 1, 4);
    front_end_start(&front, socket_path, BIT(SK_VIRTIO_F_INDIRECT_DESC), 2, RING);
    submit_writes(&front.queues[0], 0, 10);
    wait_at_work(4);
    assert_int_equal(front_end_poll(&front.queues[0]), -1);
    for (unsigned i = 0; i < 6; i++) {
        assert_int_equal(front_end_run(&front.queues[1], FRONT_READ, 0, 512), FRONT_OK);
    }
    finish_all(&front.queues[0]);
    expect_file(0, 10);
    assert_true(statistics().at_work_most >= 5 && statistics().at_work_most <= 8); /* of two workers */
    assert_int_equal(statistics().at_work, 0);
}

/* Some have no space, one fails; each is answered for itself. */
static void test_backend_many__errors_end_one_request_each(void **state)
{
    static const char *const faults[] = { "late=1@0x8", "full-at=2048", "fail@2x1" };
    struct front_queue *queue = &front.queues[0];
    uint32_t failed = 0;

    (void)state;
    start(faults, 3, 8);
    front_end_start(&front, socket_path, BIT(SK_VIRTIO_F_INDIRECT_DESC), 2, RING);
    submit_writes(queue, 0, 8);
    wait_at_work(8);
    assert_int_equal(front_end_run(&front.queues[1], FRONT_READ, 0, 512), FRONT_OK);
    while (queue->out > 0) {
        uint32_t slot = (uint32_t)front_end_wait(queue);
        uint8_t status = front_end_status(queue, slot);

        assert_int_equal(status, slot < 4 && slot != 2 ? FRONT_OK : FRONT_IOERR);
        failed += status == FRONT_IOERR;
    }
    assert_int_equal(failed, 5);
    assert_int_equal(statistics().errors, failed);
}

/* ---- Order ---------------------------------------------------------------------------------- */

static void test_backend_many__in_order_all_wait_for_the_first(void **state)
{
    static const char *const late[] = { "late=7@0x1" };
    static const uint64_t rings[] = { 0, BIT(SK_VIRTIO_F_RING_PACKED) };

    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        struct front_queue *queue = &front.queues[0];
        uint64_t until = ski_vhost_user_now() + FRONT_WAIT_NS;

        start(late, 1, 4);
        front_end_start(&front, socket_path,
                        BIT(SK_VIRTIO_F_IN_ORDER) | BIT(SK_VIRTIO_F_INDIRECT_DESC) | rings[i], 1,
                        RING);
        submit_writes(queue, 0, 8);
        while (statistics().requests < 8) {
            assert_true(ski_vhost_user_now() < until);
            (void)poll(NULL, 0, 1);
        }
        for (uint32_t slot = 0; slot < 8; slot++) { /* the fault has each told of for itself */
            if (queue->packed) {
                assert_true(ski_ring_packed_is_used(&queue->packed_ring));
                assert_int_equal(ski_ring_packed_id(&queue->packed_ring), slot);
                ski_ring_packed_skip(&queue->packed_ring, 1);
            } else {
                assert_int_equal(ski_door_load32(&queue->split.used_elements[slot].id), slot);
            }
        }
        for (uint32_t slot = 0; slot < 8; slot++) {
            assert_int_equal(front_end_status(queue, slot), FRONT_OK);
        }
        expect_file(0, 8);
        stop();
    }
}

/* ---- Several queues ------------------------------------------------------------------------- */

static void test_backend_many__other_queues_and_connections_go_on(void **state)
{
    static const char *const late[] = { "late=30@0x1" };
    struct front_queue *queue = &front.queues[0];

    (void)state;
    start(late, 1, 2);
    front_end_start(&front, socket_path, UINT64_MAX & ~BIT(SK_VIRTIO_F_IN_ORDER), 3, RING);
    front_end_start(&other, socket_path, 0, 2, RING);
    submit_writes(queue, 0, 1);
    wait_at_work(1);
    for (uint32_t i = 0; i < 30; i++) {
        struct front_queue *busy[] = { &front.queues[2], &other.queues[0], &other.queues[1] };

        assert_int_equal(front_end_poll(queue), -1);
        assert_int_equal(front_end_run(busy[i % 3], FRONT_READ, i, 512), FRONT_OK);
    }
    finish_all(queue);
}

/*
 * With one thread, which a request keeps, a long queue does not get it again before
 * a short one of the same worker: that one reads what the long one is about to write.
 */
static void test_backend_many__a_long_queue_does_not_starve_a_short_one(void **state)
{
    static const char *const late[] = { "late=1@0x1" };
    struct front_queue *shorter = &front.queues[2];

    (void)state;
    start(late, 1, 1);
    front_end_start(&front, socket_path, BIT(SK_VIRTIO_F_INDIRECT_DESC), 3, RING);
    submit_writes(&front.queues[0], 0, 1);
    wait_at_work(1);
    submit_writes(&front.queues[0], 1, 32);
    front_end_submit(shorter, 0, FRONT_READ, 2, 512); /* what the second of those writes */
    front_end_publish(shorter);
    assert_int_equal(front_end_run(&front.queues[1], FRONT_READ, 0, 512), FRONT_OK);
    finish_all(shorter);
    assert_int_equal(front_end_data(shorter, 0)[0], 0);
    finish_all(&front.queues[0]);
    expect_file(0, 33);
}

/* ---- Stops ---------------------------------------------------------------------------------- */

/* Lets what is late begin, by a request of somebody else, and expects that the answer waits for it. */
static void release_after(struct front_queue *by)
{
    struct pollfd fd = { .fd = front.socket, .events = POLLIN };

    assert_int_equal(poll(&fd, 1, 50), 0); /* not answered while something is out */
    assert_int_equal(front_end_run(by, FRONT_READ, 0, 512), FRONT_OK);
    assert_true(front_end_receive(&front, FRONT_WAIT_NS));
}

/* `count` requests are out, each of which begins when another one is done; the first ones write. */
static void start_late(uint64_t features, uint32_t count, uint32_t reads)
{
    char text[32];
    const char *late[] = { text };

    (void)snprintf(text, sizeof(text), "late=1@0x%u", count);
    start(late, 1, 8);
    front_end_connect(&front, socket_path);
    front_end_negotiate(&front, FRONT_FEATURES | features, UINT64_MAX);
    front_end_share_memory(&front);
    front_end_share_record(&front, 2, RING);
    for (uint32_t i = 0; i < 2; i++) {
        front_end_lay_out(&front, i, RING);
        front_end_start_queue(&front, i, front_end_first_base(&front));
    }
    front_end_start(&other, socket_path, 0, 1, RING);
    submit_writes(&front.queues[0], 0, count - reads);
    for (uint32_t slot = count - reads; slot < count; slot++) {
        front_end_submit(&front.queues[0], slot, FRONT_READ, slot, 512);
    }
    front_end_publish(&front.queues[0]);
    wait_at_work(count);
}

/* The first ones wrote. */
static void expect_done(uint32_t count, uint32_t reads)
{
    for (uint32_t i = 0; i < count; i++) {
        int slot = front_end_poll(&front.queues[0]);

        assert_true(slot >= 0);
        assert_int_equal(front_end_status(&front.queues[0], (uint32_t)slot), FRONT_OK);
    }
    assert_int_equal(front_end_poll(&front.queues[0]), -1);
    expect_file(0, count - reads);
}

/* The queue is stopped when all of its requests are answered; another one goes on meanwhile. */
static void test_backend_many__stop_waits_for_all(void **state)
{
    (void)state;
    for (size_t kind = 0; kind < KINDS; kind++) {
        struct ski_vhost_user_vring_state state0 = { 0, 0 };
        uint32_t places = (kinds[kind] & BIT(SK_VIRTIO_F_INDIRECT_DESC)) != 0 ? 1 : 3;

        start_late(kinds[kind], 6, 0);
        front_end_send(&front, SKI_VHOST_USER_GET_VRING_BASE, SKI_VHOST_USER_VERSION, &state0,
                       sizeof(state0), NULL, 0);
        release_after(&front.queues[1]);
        assert_int_equal(front.message.header.request, SKI_VHOST_USER_GET_VRING_BASE);
        if (front.queues[0].packed) {
            uint32_t at = 6 * places;

            assert_int_equal(front.message.payload.state.num, (at | 0x8000) * 0x10001u);
        } else {
            assert_int_equal(front.message.payload.state.num, 6);
        }
        expect_done(6, 0);
        stop();
    }
}

static void test_backend_many__disabling_waits_for_all(void **state)
{
    struct ski_vhost_user_vring_state off = { 0, 0 };

    (void)state;
    start_late(kinds[1], 6, 0);
    front_end_send(&front, SKI_VHOST_USER_SET_VRING_ENABLE,
                   SKI_VHOST_USER_VERSION | SKI_VHOST_USER_NEED_REPLY, &off, sizeof(off), NULL, 0);
    release_after(&front.queues[1]);
    expect_done(6, 0);
}

static void test_backend_many__reset_waits_for_all(void **state)
{
    (void)state;
    start_late(kinds[3], 6, 0);
    front_end_send(&front, SKI_VHOST_USER_RESET_DEVICE,
                   SKI_VHOST_USER_VERSION | SKI_VHOST_USER_NEED_REPLY, NULL, 0, NULL, 0);
    release_after(&other.queues[0]);
    expect_done(6, 0);
}

/* All of the memory goes, with requests in it: it is left alone from the answer on. */
static void test_backend_many__memory_is_taken_away_when_all_are_done(void **state)
{
    struct ski_vhost_user_memory none = { .count = 0 };
    static uint8_t expected[FRONT_QUEUE_BYTES];

    (void)state;
    start_late(kinds[1], 7, 3);
    front_end_send(&front, SKI_VHOST_USER_SET_MEM_TABLE,
                   SKI_VHOST_USER_VERSION | SKI_VHOST_USER_NEED_REPLY, &none,
                   SKI_VHOST_USER_MEMORY_HEAD, NULL, 0);
    release_after(&other.queues[0]);
    expect_done(7, 3);
    memset(front.queues[0].memory, 0xa5, FRONT_QUEUE_BYTES);
    memset(expected, 0xa5, sizeof(expected));
    for (uint32_t i = 0; i < 20; i++) {
        assert_int_equal(front_end_run(&other.queues[0], FRONT_READ, i, 512), FRONT_OK);
    }
    assert_memory_equal(front.queues[0].memory, expected, sizeof(expected));
}

/* Who leaves and comes back finds all that was out answered, once. */
static void test_backend_many__leaving_waits_for_all(void **state)
{
    (void)state;
    for (size_t kind = 0; kind < KINDS; kind++) {
        start_late(kinds[kind], 6, 0);
        front_end_disconnect(&front);
        front_end_connect(&front, socket_path);
        assert_int_equal(front_end_run(&other.queues[0], FRONT_READ, 0, 512), FRONT_OK);
        front_end_negotiate(&front, FRONT_FEATURES | kinds[kind], UINT64_MAX);
        expect_done(6, 0);
        front_end_share_memory(&front);
        front_end_share_record(&front, 2, RING);
        front_end_start_queue(&front, 0, 0);
        assert_int_equal(front_end_run(&front.queues[0], FRONT_READ, 0, 512), FRONT_OK);
        assert_int_equal(statistics().recovered, 0);
        stop();
    }
}

/* The end of the back end answers what is at the file. */
static void test_backend_many__end_waits_for_all(void **state)
{
    static const char *const slow[] = { "slow=50000@0x8" };

    (void)state;
    start(slow, 1, 8);
    front_end_start(&front, socket_path, kinds[1], 1, RING);
    submit_writes(&front.queues[0], 0, 8);
    wait_at_work(8);
    sk_backend_stop(backend);
    backend = NULL;
    expect_done(8, 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_backend_many__one_that_waits_lets_others_finish),
        TEST(test_backend_many__requests_of_all_kinds_are_done_side_by_side),
        TEST(test_backend_many__threads_say_how_many),
        TEST(test_backend_many__errors_end_one_request_each),
        TEST(test_backend_many__in_order_all_wait_for_the_first),
        TEST(test_backend_many__other_queues_and_connections_go_on),
        TEST(test_backend_many__a_long_queue_does_not_starve_a_short_one),
        TEST(test_backend_many__stop_waits_for_all),
        TEST(test_backend_many__disabling_waits_for_all),
        TEST(test_backend_many__reset_waits_for_all),
        TEST(test_backend_many__memory_is_taken_away_when_all_are_done),
        TEST(test_backend_many__leaving_waits_for_all),
        TEST(test_backend_many__end_waits_for_all),
    };

    return cmocka_run_group_tests_name("backend_many", tests, NULL, NULL);
}
