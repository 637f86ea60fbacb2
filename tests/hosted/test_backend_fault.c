/* SPDX-License-Identifier: MIT */
/* Misbehaviour on command: each kind is what its text says, when it says, and no more often. */
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include <skio_hosted/backend.h>

#include "backend_process.h"
#include "descriptors.h"
#include "front_end.h"

#define MILLISECOND UINT64_C(1000000)
#define SHORT_NS    (300 * MILLISECOND)

static char folder[] = "/tmp/skio-backend-XXXXXX";
static char socket_path[64];
static unsigned before;
static struct front_end front;
static struct sk_backend *backend;

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
    backend = NULL;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    front_end_close(&front);
    sk_backend_stop(backend);
    (void)rmdir(folder);
    return descriptors_count() == before ? 0 : -1;
}

/* Another back end with these faults. */
static void start(const char *first, const char *second)
{
    struct sk_backend_options options;
    struct sk_backend_fault faults[2];

    front_end_disconnect(&front);
    sk_backend_stop(backend);
    sk_backend_options_init(&options);
    options.address = socket_path;
    options.faults = faults;
    assert_int_equal(sk_backend_parse_fault(first, &faults[options.fault_count++]), SK_OK);
    if (second != NULL) {
        assert_int_equal(sk_backend_parse_fault(second, &faults[options.fault_count++]), SK_OK);
    }
    options.log_level = SK_LOG_ERROR;
    assert_int_equal(sk_backend_start(&options, &backend, NULL), SK_OK);
}

/* ---- Text ----------------------------------------------------------------------------------- */

static void test_backend_parse_fault__all_parts(void **state)
{
    static const struct {
        const char *text;
        struct sk_backend_fault fault;
    } cases[] = {
        { "die-given", { SK_BACKEND_DIE_GIVEN, 0, 0, 0 } },
        { "die-given@99", { SK_BACKEND_DIE_GIVEN, 0, 99, 0 } },
        { "lie-status=7@10x1", { SK_BACKEND_LIE_STATUS, 7, 10, 1 } },
        { "slow=0x10", { SK_BACKEND_SLOW, 16, 0, 0 } },
        { "slow-reply=5x2", { SK_BACKEND_SLOW_REPLY, 5, 0, 2 } },
        { "extra-fds=9", { SK_BACKEND_EXTRA_FDS, 9, 0, 0 } },
        { "mutex3", { SK_BACKEND_MUTE, 0, 0, 3 } },
        { "features=18446744073709551615", { SK_BACKEND_FEATURES, UINT64_MAX, 0, 0 } },
    };
    struct sk_backend_fault fault;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(sk_backend_parse_fault(cases[i].text, &fault), SK_OK);
        assert_int_equal(fault.kind, cases[i].fault.kind);
        assert_int_equal(fault.value, cases[i].fault.value);
        assert_int_equal(fault.after, cases[i].fault.after);
        assert_int_equal(fault.count, cases[i].fault.count);
    }
    /* Every kind by its name. */
    for (unsigned i = 0; i < SK_BACKEND_FAULT_COUNT; i++) {
        assert_int_equal(
            sk_backend_parse_fault(sk_backend_fault_name((enum sk_backend_fault_kind)i), &fault),
            SK_OK);
        assert_int_equal(fault.kind, i);
        assert_non_null(sk_backend_fault_text((enum sk_backend_fault_kind)i));
    }
    assert_null(sk_backend_fault_name(SK_BACKEND_FAULT_COUNT));
    assert_null(sk_backend_fault_text(SK_BACKEND_FAULT_COUNT));
}

static void test_backend_parse_fault__malformed_stores_nothing(void **state)
{
    static const char *const unknown[] = { "", "di", "die", "die-give", "die-given1", "=1", "slower" };
    static const char *const malformed[] = { "slow=",      "slow=-1", "slow=1@", "slow=1x",
                                             "slow=1x2@3", "slow=1 ", "slow=1y", "slow=99999999999999999999",
                                             "slow@=1" };
    struct sk_backend_fault fault = { SK_BACKEND_HOLD, 1, 2, 3 };

    (void)state;
    for (size_t i = 0; i < sizeof(unknown) / sizeof(unknown[0]); i++) {
        assert_int_equal(sk_backend_parse_fault(unknown[i], &fault), SK_ERR_NOT_FOUND);
    }
    for (size_t i = 0; i < sizeof(malformed) / sizeof(malformed[0]); i++) {
        assert_int_equal(sk_backend_parse_fault(malformed[i], &fault), SK_ERR_MALFORMED);
    }
    assert_int_equal(fault.kind, SK_BACKEND_HOLD);
    assert_int_equal(fault.value, 1);
}

/* ---- Requests ------------------------------------------------------------------------------- */

/* What the front end finds in its ring: the id, the length, how many at once. */
static void next_used(struct front_queue *queue, uint32_t *out_id, uint32_t *out_length,
                      uint32_t *out_count)
{
    struct ski_ring_split *ring = &queue->split;
    uint64_t until = ski_vhost_user_now() + FRONT_WAIT_NS;
    uint16_t index;

    do {
        index = ski_door_load16_acquire(ring->used + SKI_RING_IDX);
        assert_true(ski_vhost_user_now() < until);
        (void)sched_yield();
    } while (index == (uint16_t)ring->taken);
    *out_count = (uint16_t)(index - ring->taken);
    *out_id = ski_door_load32(&ring->used_elements[ring->taken & ring->mask].id);
    *out_length = ski_door_load32(&ring->used_elements[ring->taken & ring->mask].length);
}

static void test_backend_fault__lies_about_requests(void **state)
{
    static const struct {
        const char *fault;
        uint32_t id;
        uint32_t length;
        uint32_t count;
        uint8_t status;
    } cases[] = {
        { "lie-id", 1, 1, 1, FRONT_OK },
        { "lie-id=0x80000000", 0x80000000, 1, 1, FRONT_OK },
        { "lie-length=4000000000", 0, 4000000000, 1, FRONT_OK },
        { "lie-twice", 0, 1, 2, FRONT_OK },
        { "lie-status=7", 0, 1, 1, 7 },
        { "lie-no-status", 0, 0, 1, FRONT_POISON },
        { "lie-index=3", 0, 1, 4, FRONT_OK },
        { "fail", 0, 1, 1, FRONT_IOERR },
        { "lie-id@1", 0, 1, 1, FRONT_OK }, /* not the first */
        { "fail@0x1", 0, 1, 1, FRONT_IOERR },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct front_queue *queue = &front.queues[0];
        uint32_t id;
        uint32_t length;
        uint32_t count;

        start(cases[i].fault, NULL);
        front_end_start(&front, socket_path, 0, 1, 16);
        front_end_submit(queue, 0, FRONT_READ, 0, 512);
        front_end_publish(queue);
        next_used(queue, &id, &length, &count);
        assert_int_equal(id, cases[i].id);
        assert_int_equal(length, cases[i].length);
        assert_int_equal(count, cases[i].count);
        assert_int_equal(front_end_status(queue, 0), cases[i].status);
    }
}

static void test_backend_fault__slow_and_stalled_requests(void **state)
{
    struct front_queue *queue = &front.queues[0];
    uint64_t begin;

    (void)state;
    start("slow=30000@1x1", NULL);
    front_end_start(&front, socket_path, 0, 1, 16);
    assert_int_equal(front_end_run(queue, FRONT_READ, 0, 512), FRONT_OK);
    begin = ski_vhost_user_now();
    assert_int_equal(front_end_run(queue, FRONT_READ, 0, 512), FRONT_OK);
    assert_true(ski_vhost_user_now() - begin >= 30 * MILLISECOND);
    start("stall", NULL);
    front_end_start(&front, socket_path, 0, 1, 16);
    front_end_submit(queue, 0, FRONT_READ, 0, 512);
    front_end_publish(queue);
    (void)poll(NULL, 0, 50);
    assert_int_equal(front_end_poll(queue), -1);
    assert_int_equal(front_end_stop_queue(&front, 0), 0); /* nothing was taken */
}

/* ---- Replies -------------------------------------------------------------------------------- */

/* The bytes of the answer to GET_FEATURES, as they come; behind `expected` nothing for a while. */
static size_t raw_reply(uint8_t *out, size_t room, size_t expected, unsigned *out_fds)
{
    _Alignas(struct cmsghdr) uint8_t control[CMSG_SPACE(64 * sizeof(int))];
    size_t done = 0;

    *out_fds = 0;
    front_end_connect(&front, socket_path);
    front_end_send(&front, SKI_VHOST_USER_GET_FEATURES, SKI_VHOST_USER_VERSION, NULL, 0, NULL, 0);
    while (done < room) {
        struct pollfd fd = { .fd = front.socket, .events = POLLIN };
        struct iovec piece = { out + done, room - done };
        struct msghdr message = { .msg_iov = &piece,
                                  .msg_iovlen = 1,
                                  .msg_control = control,
                                  .msg_controllen = sizeof(control) };
        ssize_t got;

        if (poll(&fd, 1, (int)((done < expected ? FRONT_WAIT_NS : SHORT_NS) / MILLISECOND)) != 1) {
            break;
        }
        got = recvmsg(front.socket, &message, MSG_CMSG_CLOEXEC);
        if (got <= 0) {
            break;
        }
        for (struct cmsghdr *part = CMSG_FIRSTHDR(&message); part != NULL;
             part = CMSG_NXTHDR(&message, part)) {
            unsigned count = (unsigned)((part->cmsg_len - CMSG_LEN(0)) / sizeof(int));

            for (unsigned i = 0; i < count; i++) {
                int received;

                memcpy(&received, CMSG_DATA(part) + i * sizeof(int), sizeof(int));
                (void)close(received);
            }
            *out_fds += count;
        }
        done += (size_t)got;
    }
    front_end_disconnect(&front);
    return done;
}

static void test_backend_fault__lies_in_replies(void **state)
{
    static const struct {
        const char *fault;
        size_t bytes; /* that come */
        uint32_t request;
        uint32_t flags;
        uint32_t size;
        unsigned fds;
    } cases[] = {
        { "mute", 0, 0, 0, 0, 0 },
        { "lie-request=77", 20, 77, 5, 8, 0 },
        { "lie-flags=6", 20, 1, 6, 8, 0 },
        { "lie-size=100000", 20, 1, 5, 100000, 0 },
        { "lie-size=0", 20, 1, 5, 0, 0 },
        { "extra-fds=9", 20, 1, 5, 8, 9 },
        { "extra-fds=99", 20, 1, 5, 8, 32 },
        { "close-replying", 10, 1, 5, 0, 0 },
        { "close-received", 0, 0, 0, 0, 0 },
        { "close-handled", 0, 0, 0, 0, 0 },
        { "pieces=1", 20, 1, 5, 8, 0 },
        { "mute@1", 20, 1, 5, 8, 0 },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint8_t bytes[64] = { 0 };
        struct ski_vhost_user_header header;
        unsigned fds;

        start(cases[i].fault, NULL);
        assert_int_equal(raw_reply(bytes, sizeof(bytes), cases[i].bytes, &fds),
                         cases[i].bytes);
        memcpy(&header, bytes, sizeof(header));
        assert_int_equal(fds, cases[i].fds);
        if (cases[i].bytes >= 8) {
            assert_int_equal(header.request, cases[i].request);
            assert_int_equal(header.flags, cases[i].flags);
        }
        if (cases[i].bytes >= 12) {
            assert_int_equal(header.size, cases[i].size);
        }
    }
}

static void test_backend_fault__late_and_flipped_replies(void **state)
{
    uint64_t begin;
    uint64_t features;

    (void)state;
    start("slow-reply=60", NULL);
    front_end_connect(&front, socket_path);
    begin = ski_vhost_user_now();
    features = front_end_ask(&front, SKI_VHOST_USER_GET_FEATURES);
    assert_true(ski_vhost_user_now() - begin >= 60 * MILLISECOND);
    start("lie-payload", NULL);
    front_end_connect(&front, socket_path);
    assert_int_equal(front_end_ask(&front, SKI_VHOST_USER_GET_FEATURES), ~features);
}

static void test_backend_fault__only_for_one_request(void **state)
{
    (void)state;
    start("mute", "only-for=17");
    front_end_connect(&front, socket_path);
    assert_int_not_equal(front_end_ask(&front, SKI_VHOST_USER_GET_FEATURES), 0);
    front_end_send(&front, SKI_VHOST_USER_GET_QUEUE_NUM, SKI_VHOST_USER_VERSION, NULL, 0, NULL, 0);
    assert_false(front_end_receive(&front, SHORT_NS));
}

static void test_backend_fault__other_numbers_are_offered(void **state)
{
    (void)state;
    start("features=0x40000000", "protocol-features=3");
    front_end_connect(&front, socket_path);
    assert_int_equal(front_end_ask(&front, SKI_VHOST_USER_GET_FEATURES), 0x40000000);
    assert_int_equal(front_end_ask(&front, SKI_VHOST_USER_GET_PROTOCOL_FEATURES), 3);
    start("queue-number=1000", NULL);
    front_end_connect(&front, socket_path);
    assert_int_equal(front_end_ask(&front, SKI_VHOST_USER_GET_QUEUE_NUM), 1000);
}

static uint32_t config_answer(uint32_t size)
{
    struct ski_vhost_user_config config = { 0, size, 0, { 0 } };

    front_end_send(&front, SKI_VHOST_USER_GET_CONFIG, SKI_VHOST_USER_VERSION, &config,
                   SKI_VHOST_USER_CONFIG_HEAD + size, NULL, 0);
    assert_true(front_end_receive(&front, FRONT_WAIT_NS));
    return front.message.header.size;
}

static void test_backend_fault__short_configuration(void **state)
{
    (void)state;
    start("config-bytes=24", NULL);
    front_end_connect(&front, socket_path);
    front_end_negotiate(&front, UINT64_MAX, UINT64_MAX);
    assert_int_equal(config_answer(24), SKI_VHOST_USER_CONFIG_HEAD + 24);
    assert_int_equal(config_answer(25), 0);
    start("config-bytes=0", NULL);
    front_end_connect(&front, socket_path);
    front_end_negotiate(&front, UINT64_MAX, UINT64_MAX);
    assert_int_equal(config_answer(1), 0);
}

static void test_backend_fault__reset_that_is_never_answered(void **state)
{
    struct ski_vhost_user_vring_state state_of = { 0, 0 };

    (void)state;
    start("reset-never", NULL);
    front_end_start(&front, socket_path, 0, 1, 16);
    front_end_send(&front, SKI_VHOST_USER_GET_VRING_BASE, SKI_VHOST_USER_VERSION, &state_of, 8, NULL,
                   0);
    assert_false(front_end_receive(&front, SHORT_NS));
    front_end_disconnect(&front);
    front_end_start(&front, socket_path, 0, 1, 16);
    front_end_send(&front, SKI_VHOST_USER_RESET_DEVICE,
                   SKI_VHOST_USER_VERSION | SKI_VHOST_USER_NEED_REPLY, NULL, 0, NULL, 0);
    assert_false(front_end_receive(&front, SHORT_NS));
}

/* ---- Deaths by messages ---------------------------------------------------------------------- */

/* How many messages a start has: what dies at each of them. */
static void test_backend_fault__dies_at_each_message(void **state)
{
    static const char *const steps[] = { "die-received", "die-handled", "die-replying" };
    struct backend_process process;

    (void)state;
    backend_process_init(&process, 1 << 20);
    for (size_t step = 0; step < 3; step++) {
        for (unsigned number = 0; number < 3; number++) {
            char fault[64];

            (void)snprintf(fault, sizeof(fault), "%s@%u", steps[step], number);
            process.faults[0] = fault;
            backend_process_start(&process);
            front_end_connect(&front, process.socket);
            for (unsigned i = 0; i <= number; i++) {
                front_end_send(&front, SKI_VHOST_USER_GET_FEATURES, SKI_VHOST_USER_VERSION, NULL, 0,
                               NULL, 0);
                assert_int_equal(front_end_receive(&front, FRONT_WAIT_NS), i < number);
            }
            assert_true(backend_process_died(&process));
            front_end_disconnect(&front);
        }
    }
    backend_process_deinit(&process);
}

int main(int argc, char **argv)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_backend_parse_fault__all_parts),
        TEST(test_backend_parse_fault__malformed_stores_nothing),
        TEST(test_backend_fault__lies_about_requests),
        TEST(test_backend_fault__slow_and_stalled_requests),
        TEST(test_backend_fault__lies_in_replies),
        TEST(test_backend_fault__late_and_flipped_replies),
        TEST(test_backend_fault__only_for_one_request),
        TEST(test_backend_fault__other_numbers_are_offered),
        TEST(test_backend_fault__short_configuration),
        TEST(test_backend_fault__reset_that_is_never_answered),
        TEST(test_backend_fault__dies_at_each_message),
    };
#undef TEST

    if (argc > 1) {
        return backend_process_main(argc, argv);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
