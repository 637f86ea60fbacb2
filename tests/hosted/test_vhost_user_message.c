/* SPDX-License-Identifier: MIT */
/* The framing of vhost-user, with a peer that does what it likes. */
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "descriptors.h"
#include "vhost_user_message.h"

#define LONG_NS  UINT64_C(60000000000)
#define SHORT_NS UINT64_C(30000000)
#define HEADER   sizeof(struct ski_vhost_user_header)

static int ours;
static int theirs;
static unsigned before;

static int set_up(void **state)
{
    int pair[2];

    (void)state;
    before = descriptors_count();
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) {
        return -1;
    }
    ours = pair[0];
    theirs = pair[1];
    return 0;
}

static void close_theirs(void)
{
    if (theirs >= 0) {
        (void)close(theirs);
    }
    theirs = -1;
}

static int tear_down(void **state)
{
    (void)state;
    close_theirs();
    (void)close(ours);
    return descriptors_count() == before ? 0 : -1;
}

static uint64_t in(uint64_t ns)
{
    return ski_vhost_user_now() + ns;
}

/* Writes bytes as they are, with `count` descriptors of stdin on the first. */
static void write_raw(const void *bytes, size_t length, unsigned count)
{
    _Alignas(struct cmsghdr) uint8_t control[CMSG_SPACE(64 * sizeof(int))] = { 0 };
    struct iovec piece = { .iov_base = (void *)(uintptr_t)bytes, .iov_len = length };
    struct msghdr header = { .msg_iov = &piece, .msg_iovlen = 1 };

    if (count > 0) {
        int fds[64] = { 0 };
        struct cmsghdr *part;

        header.msg_control = control;
        header.msg_controllen = CMSG_SPACE(count * sizeof(int));
        part = CMSG_FIRSTHDR(&header);
        part->cmsg_level = SOL_SOCKET;
        part->cmsg_type = SCM_RIGHTS;
        part->cmsg_len = CMSG_LEN(count * sizeof(int));
        memcpy(CMSG_DATA(part), fds, count * sizeof(int));
    }
    assert_int_equal(sendmsg(theirs, &header, MSG_NOSIGNAL), length);
}

/* A message of `size` payload bytes as it is on the wire; its length. */
static size_t wire(uint8_t *out, uint32_t request, uint32_t flags, uint32_t size)
{
    struct ski_vhost_user_header header = { request, flags, size };

    memcpy(out, &header, HEADER);
    for (uint32_t i = 0; i < size; i++) {
        out[HEADER + i] = (uint8_t)(i * 7 + 1);
    }
    return HEADER + size;
}

/* ---- What is sent arrives ---------------------------------------------------------------- */

static void test_vhost_user_send__message_and_descriptors_arrive(void **state)
{
    struct ski_vhost_user_message sent;
    struct ski_vhost_user_message got;
    int event = eventfd(0, EFD_CLOEXEC);

    (void)state;
    ski_vhost_user_prepare(&sent, SKI_VHOST_USER_SET_VRING_CALL, sizeof(uint64_t));
    sent.payload.u64 = 3;
    sent.fds[0] = event;
    sent.fd_count = 1;
    assert_int_equal(ski_vhost_user_send(ours, &sent, in(LONG_NS)), SK_OK);
    assert_int_equal(ski_vhost_user_receive(theirs, in(LONG_NS), &got), SK_OK);
    assert_int_equal(got.header.request, SKI_VHOST_USER_SET_VRING_CALL);
    assert_int_equal(got.header.flags, SKI_VHOST_USER_VERSION);
    assert_int_equal(got.header.size, 8);
    assert_int_equal(got.payload.u64, 3);
    assert_int_equal(got.fd_count, 1);
    assert_int_not_equal(got.fds[0], event);
    assert_true(fcntl(got.fds[0], F_GETFD) & FD_CLOEXEC);
    assert_int_equal(eventfd_write(got.fds[0], 5), 0);
    {
        eventfd_t value;

        assert_int_equal(eventfd_read(event, &value), 0);
        assert_int_equal(value, 5);
    }
    ski_vhost_user_close_fds(&got);
    assert_int_equal(got.fd_count, 0);
    assert_int_equal(close(event), 0);
}

static void test_vhost_user_send__two_messages_stay_two(void **state)
{
    struct ski_vhost_user_message sent;
    struct ski_vhost_user_message got;

    (void)state;
    for (uint32_t i = 1; i <= 2; i++) {
        ski_vhost_user_prepare(&sent, i, 8);
        sent.payload.u64 = i;
        sent.fds[0] = 0;
        sent.fds[1] = 0;
        sent.fd_count = i;
        assert_int_equal(ski_vhost_user_send(ours, &sent, in(LONG_NS)), SK_OK);
    }
    for (uint32_t i = 1; i <= 2; i++) {
        assert_int_equal(ski_vhost_user_receive(theirs, in(LONG_NS), &got), SK_OK);
        assert_int_equal(got.payload.u64, i);
        assert_int_equal(got.fd_count, i);
        ski_vhost_user_close_fds(&got);
    }
}

static void test_vhost_user_send__too_long_sends_nothing(void **state)
{
    struct ski_vhost_user_message message;
    uint8_t byte;

    (void)state;
    ski_vhost_user_prepare(&message, 1, sizeof(message.payload) + 1);
    assert_int_equal(ski_vhost_user_send(ours, &message, in(LONG_NS)), SK_ERR_SIZE);
    ski_vhost_user_prepare(&message, 1, 0);
    message.fd_count = SKI_VHOST_USER_FDS_MAX + 1;
    assert_int_equal(ski_vhost_user_send(ours, &message, in(LONG_NS)), SK_ERR_SIZE);
    assert_int_equal(recv(theirs, &byte, 1, MSG_DONTWAIT), -1);
}

static void test_vhost_user_send__full_socket_ends_by_deadline(void **state)
{
    struct ski_vhost_user_message message;
    enum sk_status status = SK_OK;
    uint64_t start;

    (void)state;
    ski_vhost_user_prepare(&message, 1, sizeof(message.payload));
    for (unsigned i = 0; i < 100000 && status == SK_OK; i++) {
        start = ski_vhost_user_now();
        status = ski_vhost_user_send(ours, &message, in(SHORT_NS));
    }
    assert_int_equal(status, SK_ERR_TIMEOUT);
    assert_true(ski_vhost_user_now() - start >= SHORT_NS);
}

static void test_vhost_user_send__closed_peer_is_gone(void **state)
{
    struct ski_vhost_user_message message;

    (void)state;
    close_theirs();
    ski_vhost_user_prepare(&message, 1, 8);
    assert_int_equal(ski_vhost_user_send(ours, &message, in(LONG_NS)), SK_ERR_GONE);
    assert_non_null(message.fault);
}

/* ---- What arrives is checked ------------------------------------------------------------- */

static void test_vhost_user_receive__every_split_is_one_message(void **state)
{
    uint8_t bytes[HEADER + 40];
    size_t length = wire(bytes, SKI_VHOST_USER_SET_VRING_ADDR, SKI_VHOST_USER_VERSION, 40);

    (void)state;
    for (size_t cut = 1; cut < length; cut++) {
        struct ski_vhost_user_message message;

        write_raw(bytes, cut, 1);
        write_raw(bytes + cut, length - cut, 1);
        assert_int_equal(ski_vhost_user_receive(ours, in(LONG_NS), &message), SK_OK);
        assert_int_equal(message.header.size, 40);
        assert_memory_equal(message.payload.bytes, bytes + HEADER, 40);
        assert_int_equal(message.fd_count, 2); /* of both pieces */
        ski_vhost_user_close_fds(&message);
    }
}

static void *dribble(void *argument)
{
    const uint8_t *bytes = argument;

    for (size_t i = 0; i < HEADER + 8; i++) {
        (void)usleep(500);
        if (send(theirs, bytes + i, 1, MSG_NOSIGNAL) != 1) {
            break;
        }
    }
    return NULL;
}

static void test_vhost_user_receive__byte_by_byte_is_waited_for(void **state)
{
    uint8_t bytes[HEADER + 8];
    struct ski_vhost_user_message message;
    pthread_t thread;

    (void)state;
    (void)wire(bytes, 1, SKI_VHOST_USER_VERSION, 8);
    assert_int_equal(pthread_create(&thread, NULL, dribble, bytes), 0);
    assert_int_equal(ski_vhost_user_receive(ours, in(LONG_NS), &message), SK_OK);
    assert_memory_equal(message.payload.bytes, bytes + HEADER, 8);
    assert_int_equal(pthread_join(thread, NULL), 0);
}

static void test_vhost_user_receive__silence_anywhere_ends_by_deadline(void **state)
{
    uint8_t bytes[HEADER + 8];
    size_t length = wire(bytes, 1, SKI_VHOST_USER_VERSION, 8);

    for (size_t sent = 0; sent < length; sent += 5) {
        struct ski_vhost_user_message message;
        uint64_t start = ski_vhost_user_now();

        if (sent > 0) {
            write_raw(bytes, sent, 2);
        }
        assert_int_equal(ski_vhost_user_receive(ours, start + SHORT_NS, &message),
                         SK_ERR_TIMEOUT);
        assert_true(ski_vhost_user_now() >= start + SHORT_NS);
        assert_int_equal(message.fd_count, 0);
        assert_int_equal(tear_down(state), 0);
        assert_int_equal(set_up(state), 0);
    }
}

static void test_vhost_user_receive__deadline_that_passed_takes_what_is_there(void **state)
{
    uint8_t bytes[HEADER + 8];
    size_t length = wire(bytes, 1, SKI_VHOST_USER_VERSION, 8);
    struct ski_vhost_user_message message;

    (void)state;
    assert_int_equal(ski_vhost_user_receive(ours, 0, &message), SK_ERR_TIMEOUT);
    write_raw(bytes, length, 0);
    assert_int_equal(ski_vhost_user_receive(ours, 0, &message), SK_OK);
}

static void test_vhost_user_receive__end_before_a_message_is_gone(void **state)
{
    struct ski_vhost_user_message message;

    (void)state;
    close_theirs();
    assert_int_equal(ski_vhost_user_receive(ours, in(LONG_NS), &message), SK_ERR_GONE);
    assert_non_null(message.fault);
}

static void test_vhost_user_receive__end_inside_a_message_is_malformed(void **state)
{
    uint8_t bytes[HEADER + 8];
    size_t length = wire(bytes, 1, SKI_VHOST_USER_VERSION, 8);

    for (size_t sent = 1; sent < length; sent++) {
        struct ski_vhost_user_message message;

        write_raw(bytes, sent, 3);
        close_theirs();
        assert_int_equal(ski_vhost_user_receive(ours, in(LONG_NS), &message), SK_ERR_MALFORMED);
        assert_int_equal(message.fd_count, 0);
        assert_int_equal(tear_down(state), 0);
        assert_int_equal(set_up(state), 0);
    }
}

static void test_vhost_user_receive__any_other_version_is_malformed(void **state)
{
    for (uint32_t flags = 0; flags < 16; flags++) {
        uint8_t bytes[HEADER + 8];
        size_t length = wire(bytes, 1, flags, 8);
        struct ski_vhost_user_message message;
        bool good = (flags & SKI_VHOST_USER_VERSION_MASK) == SKI_VHOST_USER_VERSION;

        write_raw(bytes, length, 1);
        assert_int_equal(ski_vhost_user_receive(ours, in(LONG_NS), &message),
                         good ? SK_OK : SK_ERR_MALFORMED);
        ski_vhost_user_close_fds(&message);
        assert_int_equal(tear_down(state), 0);
        assert_int_equal(set_up(state), 0);
    }
}

static void test_vhost_user_receive__payload_longer_than_any_is_malformed(void **state)
{
    const uint32_t longest = sizeof(union ski_vhost_user_payload);
    const uint32_t sizes[] = { longest, longest + 1, 0x10000, 0x7fffffff, 0xffffffff };

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        uint8_t bytes[HEADER + sizeof(union ski_vhost_user_payload)];
        struct ski_vhost_user_header header = { 1, SKI_VHOST_USER_VERSION, sizes[i] };
        struct ski_vhost_user_message message;

        (void)wire(bytes, 1, SKI_VHOST_USER_VERSION, longest);
        memcpy(bytes, &header, HEADER);
        write_raw(bytes, sizeof(bytes), 1);
        assert_int_equal(ski_vhost_user_receive(ours, in(LONG_NS), &message),
                         i == 0 ? SK_OK : SK_ERR_MALFORMED);
        if (i > 0) {
            assert_int_equal(message.fault_value, sizes[i]);
        }
        ski_vhost_user_close_fds(&message);
        assert_int_equal(tear_down(state), 0);
        assert_int_equal(set_up(state), 0);
    }
}

static void test_vhost_user_receive__too_many_descriptors_are_closed(void **state)
{
    uint8_t bytes[HEADER + 8];
    size_t length = wire(bytes, 1, SKI_VHOST_USER_VERSION, 8);

    for (unsigned count = 0; count <= 64; count++) {
        struct ski_vhost_user_message message;
        unsigned open = descriptors_count();
        bool good = count <= SKI_VHOST_USER_FDS_MAX;

        write_raw(bytes, length, count);
        assert_int_equal(ski_vhost_user_receive(ours, in(LONG_NS), &message),
                         good ? SK_OK : SK_ERR_MALFORMED);
        assert_int_equal(message.fd_count, good ? count : 0);
        assert_int_equal(descriptors_count(), open + (good ? count : 0));
        ski_vhost_user_close_fds(&message);
        assert_int_equal(tear_down(state), 0);
        assert_int_equal(set_up(state), 0);
    }
}

/* Each piece may bring some; it is their sum that counts. */
static void test_vhost_user_receive__descriptors_of_all_pieces_are_counted(void **state)
{
    uint8_t bytes[HEADER + 8];
    struct ski_vhost_user_message message;

    (void)state;
    (void)wire(bytes, 1, SKI_VHOST_USER_VERSION, 8);
    write_raw(bytes, 6, 4);
    write_raw(bytes + 6, 6, 4);
    write_raw(bytes + 12, 8, 1);
    assert_int_equal(ski_vhost_user_receive(ours, in(LONG_NS), &message), SK_ERR_MALFORMED);
    assert_int_equal(message.fd_count, 0);
}

static void test_vhost_user_receive__no_socket_is_io(void **state)
{
    struct ski_vhost_user_message message;
    int event = eventfd(0, EFD_CLOEXEC);

    (void)state;
    assert_int_equal(ski_vhost_user_receive(event, in(LONG_NS), &message), SK_ERR_IO);
    ski_vhost_user_prepare(&message, 1, 0);
    assert_int_equal(ski_vhost_user_send(event, &message, in(LONG_NS)), SK_ERR_IO);
    assert_int_equal(close(event), 0);
}

static void test_vhost_user_take_fd__taken_ones_stay_open(void **state)
{
    uint8_t bytes[HEADER + 8];
    size_t length = wire(bytes, 1, SKI_VHOST_USER_VERSION, 8);
    struct ski_vhost_user_message message;
    int fd;

    (void)state;
    write_raw(bytes, length, 2);
    assert_int_equal(ski_vhost_user_receive(ours, in(LONG_NS), &message), SK_OK);
    fd = ski_vhost_user_take_fd(&message, 1);
    assert_true(fd >= 0);
    assert_int_equal(ski_vhost_user_take_fd(&message, 1), -1);
    assert_int_equal(ski_vhost_user_take_fd(&message, 2), -1);
    ski_vhost_user_close_fds(&message);
    assert_true(descriptors_same(fd, 0));
    assert_int_equal(close(fd), 0);
}

static void test_vhost_user_request_name__known_and_unknown(void **state)
{
    (void)state;
    assert_string_equal(ski_vhost_user_request_name(SKI_VHOST_USER_GET_CONFIG), "GET_CONFIG");
    assert_string_equal(ski_vhost_user_request_name(0), "unknown");
    assert_string_equal(ski_vhost_user_request_name(19), "unknown");
    assert_string_equal(ski_vhost_user_request_name(0xffffffff), "unknown");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_vhost_user_send__message_and_descriptors_arrive),
        TEST(test_vhost_user_send__two_messages_stay_two),
        TEST(test_vhost_user_send__too_long_sends_nothing),
        TEST(test_vhost_user_send__full_socket_ends_by_deadline),
        TEST(test_vhost_user_send__closed_peer_is_gone),
        TEST(test_vhost_user_receive__every_split_is_one_message),
        TEST(test_vhost_user_receive__byte_by_byte_is_waited_for),
        TEST(test_vhost_user_receive__silence_anywhere_ends_by_deadline),
        TEST(test_vhost_user_receive__deadline_that_passed_takes_what_is_there),
        TEST(test_vhost_user_receive__end_before_a_message_is_gone),
        TEST(test_vhost_user_receive__end_inside_a_message_is_malformed),
        TEST(test_vhost_user_receive__any_other_version_is_malformed),
        TEST(test_vhost_user_receive__payload_longer_than_any_is_malformed),
        TEST(test_vhost_user_receive__too_many_descriptors_are_closed),
        TEST(test_vhost_user_receive__descriptors_of_all_pieces_are_counted),
        TEST(test_vhost_user_receive__no_socket_is_io),
        TEST(test_vhost_user_take_fd__taken_ones_stay_open),
        TEST(test_vhost_user_request_name__known_and_unknown),
    };

    return cmocka_run_group_tests_name("vhost_user_message", tests, NULL, NULL);
}
