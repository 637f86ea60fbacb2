/* SPDX-License-Identifier: MIT */
/*
 * Front ends whose rings, memory and descriptors do what they like.  A queue
 * stops, or the connection ends; other queues, other connections and the
 * process go on.
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
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include <skio_hosted/backend.h>

#include "descriptors.h"
#include "front_end.h"

#define SECTORS 2048u
#define BIT(bit) SK_VIRTIO_FEATURE(bit)

static char folder[] = "/tmp/skio-backend-XXXXXX";
static char socket_path[64];
static unsigned before;
static struct front_end front;
static struct front_end good; /* the one that must not notice anything */
static struct sk_backend *backend;

static void start_backend(void)
{
    struct sk_backend_options options;

    sk_backend_options_init(&options);
    options.address = socket_path;
    options.capacity_sectors = SECTORS;
    options.null_zeroes = true;
    options.queue_count = 2;
    options.log_level = SK_LOG_ERROR;
    assert_int_equal(sk_backend_start(&options, &backend, NULL), SK_OK);
    front_end_start(&good, socket_path, UINT64_MAX, 1, 64);
}

static void stop_backend(void)
{
    front_end_disconnect(&good);
    sk_backend_stop(backend);
}

/* cmocka installs its handlers before each test: the guard has to come after them. */
static void restart_backend(void)
{
    stop_backend();
    start_backend();
}

static int set_up(void **state)
{
    (void)state;
    (void)signal(SIGPIPE, SIG_IGN);
    before = descriptors_count();
    strcpy(folder + sizeof(folder) - 7, "XXXXXX");
    if (mkdtemp(folder) == NULL) {
        return -1;
    }
    (void)snprintf(socket_path, sizeof(socket_path), "%s/socket", folder);
    front_end_init(&front);
    front_end_init(&good);
    start_backend();
    return 0;
}

static int tear_down(void **state)
{
    struct sk_backend_statistics statistics;

    (void)state;
    front_end_disconnect(&front);
    do {
        sk_backend_get_statistics(backend, &statistics);
    } while (statistics.connections_open > 1 && poll(NULL, 0, 1) == 0);
    if (front_end_run(&good.queues[0], FRONT_READ, 0, 512) != FRONT_OK) {
        return -1;
    }
    front_end_close(&front);
    front_end_close(&good);
    sk_backend_stop(backend);
    (void)rmdir(folder);
    return descriptors_count() == before ? 0 : -1;
}

/* ---- Rings --------------------------------------------------------------------------------- */

static void put_split(uint32_t index, uint64_t address, uint32_t length, uint32_t flags,
                      uint32_t next)
{
    struct ski_ring_split *ring = &front.queues[0].split;

    ski_door_store64(&ring->descriptors[index].address, address);
    ski_door_store64(&ring->descriptors[index].rest, ski_ring_rest(length, flags, next));
}

/* The queue has stopped: it says so in every way that there is, and the other one works. */
static void expect_stopped(void)
{
    struct pollfd fd = { .fd = front.queues[0].error, .events = POLLIN };
    struct ski_vhost_user_message told;

    assert_int_equal(poll(&fd, 1, (int)(FRONT_WAIT_NS / 1000000)), 1);
    assert_int_equal(ski_vhost_user_receive(front.backend_channel,
                                            ski_vhost_user_now() + FRONT_WAIT_NS, &told),
                     SK_OK);
    assert_int_equal(told.header.request, SKI_VHOST_USER_BACKEND_CONFIG_CHANGE);
    assert_true((front_end_ask(&front, SKI_VHOST_USER_GET_STATUS) &
                 SK_VIRTIO_STATUS_DEVICE_NEEDS_RESET) != 0);
    assert_int_equal(front_end_run(&front.queues[1], FRONT_READ, 0, 512), FRONT_OK);
}

/* After a reset everything is well again. */
static void expect_recovery(void)
{
    assert_int_equal(front_end_do(&front, SKI_VHOST_USER_RESET_DEVICE, NULL, 0, NULL, 0), 0);
    assert_int_equal(front_end_ask(&front, SKI_VHOST_USER_GET_STATUS), 0);
    assert_int_equal(
        front_end_do(&front, SKI_VHOST_USER_SET_FEATURES, &front.features, 8, NULL, 0), 0);
    front_end_lay_out(&front, 0, 16);
    front_end_start_queue(&front, 0, front_end_first_base(&front));
    assert_int_equal(front_end_run(&front.queues[0], FRONT_READ, 0, 512), FRONT_OK);
}

struct bad_chain {
    uint64_t address[3];
    uint32_t length[3];
    uint32_t flags[3];
    uint32_t next[3];
};

#define G FRONT_GUEST
#define N SKI_RING_NEXT
#define W SKI_RING_WRITE

static const struct bad_chain bad_chains[] = {
    { { G, 0, 0 }, { 16, 0, 0 }, { N, 0, 0 }, { 0, 0, 0 } },             /* a loop */
    { { G, 0, 0 }, { 16, 0, 0 }, { N, 0, 0 }, { 16, 0, 0 } },            /* out of the ring */
    { { 0, 0, 0 }, { 16, 0, 0 }, { 0, 0, 0 }, { 0, 0, 0 } },             /* no memory there */
    { { G, 0, 0 }, { 0, 0, 0 }, { 0, 0, 0 }, { 0, 0, 0 } },              /* no bytes */
    { { G, 0, 0 }, { 16, 0, 0 }, { 0, 0, 0 }, { 0, 0, 0 } },             /* no status */
    { { G, G, 0 }, { 15, 1, 0 }, { N, W, 0 }, { 1, 0, 0 } },             /* half a header */
    { { G, 0, 0 }, { 16, 0, 0 }, { W, 0, 0 }, { 0, 0, 0 } },             /* no header */
    { { G, G, G }, { 16, 1, 16 }, { N, N | W, 0 }, { 1, 2, 0 } },        /* the wrong order */
    { { G, 0, 0 }, { 16, 0, 0 }, { SKI_RING_INDIRECT, 0, 0 }, { 0, 0, 0 } }, /* no table agreed on */
    { { G, UINT64_MAX, 0 }, { 16, 2, 0 }, { N, W, 0 }, { 1, 0, 0 } },
};

static void test_backend_queue__stops_at_chains_that_cannot_be(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(bad_chains) / sizeof(bad_chains[0]); i++) {
        const struct bad_chain *chain = &bad_chains[i];

        front_end_start(&front, socket_path, 0, 2, 16);
        for (uint32_t k = 0; k < 3; k++) {
            put_split(k, chain->address[k], chain->length[k], chain->flags[k], chain->next[k]);
        }
        ski_ring_split_add(&front.queues[0].split, 0);
        front_end_publish(&front.queues[0]);
        expect_stopped();
        expect_recovery();
        front_end_disconnect(&front);
    }
}

static void test_backend_queue__stops_at_heads_and_indexes_that_cannot_be(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        struct front_queue *queue = &front.queues[0];
        uint64_t one = 1;

        front_end_start(&front, socket_path, 0, 2, 16);
        if (i == 0) {
            ski_ring_split_add(&queue->split, 16);
            front_end_publish(queue);
        } else {
            ski_door_store16(queue->split.avail + SKI_RING_IDX, (uint16_t)(i == 1 ? 17 : 0xffff));
            assert_int_equal(write(queue->kick, &one, sizeof(one)), sizeof(one));
        }
        expect_stopped();
        expect_recovery();
        front_end_disconnect(&front);
    }
}

static void test_backend_queue__answers_requests_however_they_are_divided(void **state)
{
    struct front_queue *queue = &front.queues[0];
    uint64_t header[2] = { FRONT_READ, 3 };
    uint8_t *data = front_end_data(queue, 0);
    uint64_t address = queue->guest + FRONT_DATA;

    (void)state;
    front_end_start(&front, socket_path, 0, 1, 16);
    /* A header of 1 + 14 + 1 bytes; data and status in one buffer and 512 others. */
    memcpy(queue->memory + 4097, header, 16);
    memset(data, 0xcc, 1024);
    put_split(0, queue->guest + 4097, 1, N, 1);
    put_split(1, queue->guest + 4098, 14, N, 2);
    put_split(2, queue->guest + 4112, 1, N, 3);
    put_split(3, address, 511, N | W, 4);
    put_split(4, address + 511, 514, W, 0);
    queue->slots[0].out = true;
    queue->out = 1;
    ski_ring_split_add(&queue->split, 0);
    front_end_publish(queue);
    assert_int_equal(front_end_wait(queue), 0);
    assert_int_equal(queue->slots[0].length, 1025);
    for (unsigned i = 0; i < 1025; i++) {
        assert_int_equal(data[i], 0);
    }
    assert_int_equal(data[1025], 0);
}

/* All of the shared memory is any bytes, again and again, while the queues look at it. */
static void test_backend_queue__any_bytes_harm_nobody(void **state)
{
    static const uint64_t features[] = {
        0, BIT(SK_VIRTIO_F_INDIRECT_DESC) | BIT(SK_VIRTIO_F_EVENT_IDX),
        BIT(SK_VIRTIO_F_RING_PACKED),
        BIT(SK_VIRTIO_F_RING_PACKED) | BIT(SK_VIRTIO_F_INDIRECT_DESC) | BIT(SK_VIRTIO_F_EVENT_IDX)
    };
    uint64_t random = 99;

    (void)state;
    for (unsigned round = 0; round < 40; round++) {
        struct front_queue *queue = &front.queues[0];
        uint64_t one = 1;

        front_end_start(&front, socket_path, features[round % 4], 1, 16);
        for (unsigned i = 0; i < 400; i++) {
            uint64_t words[2];
            uint32_t place;

            random = random * 6364136223846793005u + 1442695040888963407u;
            place = (uint32_t)((random >> 40) % (queue->layout.bytes / 8));
            /* Descriptors that nearly are some, indexes that nearly are right. */
            words[0] = random >> 60 < 8 ? FRONT_GUEST + (random >> 20 & 0x1fff)
                                        : (random >> 33 & 0xfff) | (random & 0x00ff000f00000000);
            memcpy(queue->memory + 8 * (size_t)place, words, 8);
            if (i % 16 == 0) {
                uint16_t index = (uint16_t)(i / 16);

                if (!queue->packed) {
                    ski_door_store16(queue->split.avail + SKI_RING_IDX, index);
                }
                (void)!write(queue->kick, &one, sizeof(one));
                (void)usleep(200);
            }
        }
        front_end_disconnect(&front);
    }
}

/* ---- Memory that goes away ------------------------------------------------------------------ */

static void test_backend_memory__truncated_below_a_ring_ends_the_connection(void **state)
{
    struct front_queue *queue = &front.queues[0];
    uint64_t one = 1;

    (void)state;
    restart_backend();
    for (unsigned i = 0; i < 3; i++) {
        /* Everything; the data behind the ring; the second queue's ring alone. */
        static const off_t left[] = { 0, 4096, FRONT_QUEUE_BYTES };
        uint8_t *memory;

        front_end_start(&front, socket_path, 0, 2, 16);
        assert_int_equal(front_end_run(queue, FRONT_READ, 0, 512), FRONT_OK);
        front_end_submit(queue, 0, FRONT_READ, 0, 512);
        ski_door_store16(queue->split.avail + SKI_RING_IDX, (uint16_t)queue->split.added);
        assert_int_equal(ftruncate(front.memory_fd, left[i]), 0);
        assert_int_equal(write(queue->kick, &one, sizeof(one)), sizeof(one));
        assert_int_equal(write(front.queues[1].kick, &one, sizeof(one)), sizeof(one));
        if (!front_end_is_closed(&front)) {
            fail_msg("the connection goes on with %ld bytes of memory", (long)left[i]);
        }
        front_end_disconnect(&front);
        /* Another memory, as the mapping of this one is of no use any more. */
        (void)munmap(front.memory, front.memory_bytes);
        assert_int_equal(ftruncate(front.memory_fd, (off_t)front.memory_bytes), 0);
        memory = mmap(front.memory, front.memory_bytes, PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_FIXED, front.memory_fd, 0);
        assert_ptr_equal(memory, front.memory);
    }
}

static void test_backend_record__truncated_ends_the_connection(void **state)
{
    struct front_queue *queue = &front.queues[0];
    int fd = memfd_create("record", MFD_CLOEXEC);
    struct ski_vhost_user_inflight said = { 8192, 0, 1, 16, 0 };

    (void)state;
    restart_backend();
    assert_int_equal(ftruncate(fd, 8192), 0);
    front_end_connect(&front, socket_path);
    front_end_negotiate(&front, FRONT_FEATURES, UINT64_MAX);
    front_end_share_memory(&front);
    assert_int_equal(
        front_end_do(&front, SKI_VHOST_USER_SET_INFLIGHT_FD, &said, sizeof(said), &fd, 1), 0);
    front_end_lay_out(&front, 0, 16);
    front_end_start_queue(&front, 0, 0);
    assert_int_equal(front_end_run(queue, FRONT_READ, 0, 512), FRONT_OK);
    assert_int_equal(ftruncate(fd, 0), 0);
    front_end_submit(queue, 0, FRONT_READ, 0, 512);
    front_end_publish(queue);
    assert_true(front_end_is_closed(&front));
    (void)close(fd);
}

/* ---- Descriptors that are something else ----------------------------------------------------- */

/* A full pipe blocks whoever writes into it; a worker must not. */
static void test_backend_call__that_would_block_keeps_nobody_waiting(void **state)
{
    struct front_queue *queue = &front.queues[0];
    uint8_t bytes[4096] = { 0 };
    uint64_t index = 0;
    int pair[2];

    (void)state;
    assert_int_equal(pipe2(pair, O_CLOEXEC | O_NONBLOCK), 0);
    while (write(pair[1], bytes, sizeof(bytes)) > 0) {
    }
    assert_int_equal(fcntl(pair[1], F_SETFL, 0), 0);
    front_end_start(&front, socket_path, 0, 1, 16);
    assert_int_equal(front_end_do(&front, SKI_VHOST_USER_SET_VRING_CALL, &index, 8, &pair[1], 1),
                     0);
    for (unsigned i = 0; i < 10; i++) {
        uint64_t until = ski_vhost_user_now() + FRONT_WAIT_NS;

        front_end_submit(queue, 0, FRONT_READ, 0, 512);
        front_end_publish(queue);
        while (front_end_poll(queue) < 0) {
            assert_true(ski_vhost_user_now() < until);
        }
    }
    (void)close(pair[0]);
    (void)close(pair[1]);
}

/* What cannot be waited for is refused; what can, is waited for. */
static void test_backend_kick__that_is_something_else(void **state)
{
    struct ski_vhost_user_vring_state on = { 0, 1 };
    struct ski_vhost_user_vring_state size = { 0, 16 };
    struct front_queue *queue = &front.queues[0];
    struct ski_vhost_user_vring_address address;
    int file = memfd_create("kick", MFD_CLOEXEC);
    uint64_t index = 0;
    int pair[2];

    (void)state;
    front_end_connect(&front, socket_path);
    front_end_negotiate(&front, FRONT_FEATURES, UINT64_MAX);
    front_end_share_memory(&front);
    front_end_lay_out(&front, 0, 16);
    address = (struct ski_vhost_user_vring_address){
        .descriptors = FRONT_USER,
        .available = FRONT_USER + queue->layout.driver_area,
        .used = FRONT_USER + queue->layout.device_area,
    };
    assert_int_equal(front_end_do(&front, SKI_VHOST_USER_SET_VRING_NUM, &size, 8, NULL, 0), 0);
    assert_int_equal(
        front_end_do(&front, SKI_VHOST_USER_SET_VRING_ADDR, &address, sizeof(address), NULL, 0), 0);
    assert_int_equal(front_end_do(&front, SKI_VHOST_USER_SET_VRING_ENABLE, &on, 8, NULL, 0), 0);
    assert_int_equal(front_end_do(&front, SKI_VHOST_USER_SET_VRING_KICK, &index, 8, &file, 1), 1);
    assert_int_equal(pipe2(pair, O_CLOEXEC), 0);
    assert_int_equal(front_end_do(&front, SKI_VHOST_USER_SET_VRING_KICK, &index, 8, &pair[0], 1),
                     0);
    (void)close(queue->kick);
    queue->kick = pair[1];
    assert_int_equal(front_end_do(&front, SKI_VHOST_USER_SET_VRING_CALL, &index, 8, &queue->call, 1),
                     0);
    for (unsigned i = 0; i < 10; i++) {
        assert_int_equal(front_end_run(queue, FRONT_READ, 0, 512), FRONT_OK);
    }
    /* It is exchanged at work, and exchanged for something useless. */
    assert_int_equal(front_end_do(&front, SKI_VHOST_USER_SET_VRING_KICK, &index, 8, &pair[0], 1),
                     0);
    assert_int_equal(front_end_run(queue, FRONT_READ, 0, 512), FRONT_OK);
    assert_int_equal(front_end_do(&front, SKI_VHOST_USER_SET_VRING_KICK, &index, 8, &file, 1), 1);
    (void)close(pair[0]);
    (void)close(file);
}

/* A kick descriptor that never is silent costs time, and keeps nobody else waiting. */
static void test_backend_kick__that_is_always_ready_keeps_nobody_waiting(void **state)
{
    struct sk_backend_statistics statistics;
    struct sk_backend_statistics later;
    uint64_t index = 0;
    int zero = open("/dev/null", O_RDWR | O_CLOEXEC);
    int pair[2];

    (void)state;
    front_end_start(&front, socket_path, 0, 1, 16);
    assert_int_equal(pipe2(pair, O_CLOEXEC), 0);
    assert_int_equal(write(pair[1], "12345678", 8), 8); /* nobody ever reads it */
    assert_int_equal(front_end_do(&front, SKI_VHOST_USER_SET_VRING_KICK, &index, 8, &pair[0], 1),
                     0);
    (void)poll(NULL, 0, 50);
    sk_backend_get_statistics(backend, &statistics);
    (void)poll(NULL, 0, 100);
    sk_backend_get_statistics(backend, &later);
    assert_true(later.sleeps - statistics.sleeps < 5); /* the worker sleeps all the same */
    (void)close(pair[0]);
    (void)close(pair[1]);
    (void)close(zero);
}

/* ---- Faults that are not ours ---------------------------------------------------------------- */

static volatile sig_atomic_t others;
static void *page;

static void on_bus_error(int number)
{
    (void)number;
    others++;
    (void)mmap(page, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
}

/* The process has a handler of its own: it gets what is not ours, and has its place back at the end. */
static void test_backend_guard__leaves_other_faults_to_others(void **state)
{
    struct sigaction ours = { .sa_handler = on_bus_error };
    struct sigaction cmockas;
    struct sigaction now;
    struct sk_backend_options options;
    struct sk_backend *other;
    char path[80];
    int fd = memfd_create("page", MFD_CLOEXEC);

    (void)state;
    stop_backend();
    assert_int_equal(sigaction(SIGBUS, &ours, &cmockas), 0);
    start_backend(); /* behind our handler */
    sk_backend_options_init(&options);
    (void)snprintf(path, sizeof(path), "%s/other", folder);
    options.address = path;
    assert_int_equal(sk_backend_start(&options, &other, NULL), SK_OK);
    sk_backend_stop(other); /* two of them, one handler */
    assert_int_equal(ftruncate(fd, 4096), 0);
    page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    assert_int_equal(ftruncate(fd, 0), 0);
    assert_int_equal(*(volatile uint8_t *)page, 0);
    assert_int_equal(others, 1);
    (void)munmap(page, 4096);
    (void)close(fd);
    stop_backend();
    assert_int_equal(sigaction(SIGBUS, NULL, &now), 0);
    assert_ptr_equal(now.sa_handler, on_bus_error);
    assert_int_equal(sigaction(SIGBUS, &cmockas, NULL), 0);
    start_backend();
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_backend_queue__stops_at_chains_that_cannot_be),
        TEST(test_backend_queue__stops_at_heads_and_indexes_that_cannot_be),
        TEST(test_backend_queue__answers_requests_however_they_are_divided),
        TEST(test_backend_queue__any_bytes_harm_nobody),
        TEST(test_backend_memory__truncated_below_a_ring_ends_the_connection),
        TEST(test_backend_record__truncated_ends_the_connection),
        TEST(test_backend_call__that_would_block_keeps_nobody_waiting),
        TEST(test_backend_kick__that_is_something_else),
        TEST(test_backend_kick__that_is_always_ready_keeps_nobody_waiting),
        TEST(test_backend_guard__leaves_other_faults_to_others),
    };
#undef TEST

    return cmocka_run_group_tests(tests, NULL, NULL);
}
