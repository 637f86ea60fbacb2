/* SPDX-License-Identifier: MIT */
/*
 * Front ends that say what they like: every message cut, too long, with and
 * without descriptors, at the wrong time, and any bytes.  The connection may
 * end; the back end does not, keeps nothing, and serves the next one.
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
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include <skio_hosted/backend.h>

#include "descriptors.h"
#include "front_end.h"

#define SECTORS 2048u

static char folder[] = "/tmp/skio-backend-XXXXXX";
static char socket_path[64];
static unsigned before;
static struct front_end front;
static struct front_end good; /* the one that must not notice anything */
static struct sk_backend *backend;

static int set_up(void **state)
{
    struct sk_backend_options options;

    (void)state;
    (void)signal(SIGPIPE, SIG_IGN);
    before = descriptors_count();
    strcpy(folder + sizeof(folder) - 7, "XXXXXX");
    if (mkdtemp(folder) == NULL) {
        return -1;
    }
    (void)snprintf(socket_path, sizeof(socket_path), "%s/socket", folder);
    sk_backend_options_init(&options);
    options.address = socket_path;
    options.capacity_sectors = SECTORS;
    options.queue_count = 2;
    options.message_ns = UINT64_C(200000000);
    options.log_level = SK_LOG_ERROR;
    if (sk_backend_start(&options, &backend, NULL) != SK_OK) {
        return -1;
    }
    front_end_init(&front);
    front_end_init(&good);
    front_end_start(&good, socket_path, UINT64_MAX, 1, 64);
    return 0;
}

/* The connections that ended are gone with all that they had. */
static void settle_connections(void)
{
    struct sk_backend_statistics statistics;

    do {
        sk_backend_get_statistics(backend, &statistics);
    } while (statistics.connections_open > 1 && poll(NULL, 0, 1) == 0);
}

static int tear_down(void **state)
{
    (void)state;
    front_end_disconnect(&front);
    settle_connections();
    if (front_end_run(&good.queues[0], FRONT_READ, 0, 512) != FRONT_OK) {
        return -1;
    }
    front_end_close(&front);
    front_end_close(&good);
    sk_backend_stop(backend);
    (void)rmdir(folder);
    return descriptors_count() == before ? 0 : -1;
}

/* A connection that is ready for anything. */
static void begin(void)
{
    front_end_connect(&front, socket_path);
    front_end_negotiate(&front, UINT64_MAX, UINT64_MAX);
}

/* ---- Every message, wrong ------------------------------------------------------------------ */

struct kind {
    uint32_t request;
    uint32_t size;  /* of a right payload */
    bool variable;  /* longer ones are right, too */
    uint32_t fds;   /* that belong to it; ANY: as its payload says */
};

#define ANY UINT32_MAX

static const struct kind kinds[] = {
    { SKI_VHOST_USER_GET_FEATURES, 0, false, 0 },
    { SKI_VHOST_USER_SET_FEATURES, 8, false, 0 },
    { SKI_VHOST_USER_SET_OWNER, 0, false, 0 },
    { SKI_VHOST_USER_RESET_OWNER, 0, false, 0 },
    { SKI_VHOST_USER_SET_MEM_TABLE, 40, true, ANY },
    { SKI_VHOST_USER_SET_VRING_NUM, 8, false, 0 },
    { SKI_VHOST_USER_SET_VRING_ADDR, 40, false, 0 },
    { SKI_VHOST_USER_SET_VRING_BASE, 8, false, 0 },
    { SKI_VHOST_USER_GET_VRING_BASE, 8, false, 0 },
    { SKI_VHOST_USER_SET_VRING_KICK, 8, false, ANY },
    { SKI_VHOST_USER_SET_VRING_CALL, 8, false, ANY },
    { SKI_VHOST_USER_SET_VRING_ERR, 8, false, ANY },
    { SKI_VHOST_USER_GET_PROTOCOL_FEATURES, 0, false, 0 },
    { SKI_VHOST_USER_SET_PROTOCOL_FEATURES, 8, false, 0 },
    { SKI_VHOST_USER_GET_QUEUE_NUM, 0, false, 0 },
    { SKI_VHOST_USER_SET_VRING_ENABLE, 8, false, 0 },
    { SKI_VHOST_USER_SET_BACKEND_REQ_FD, 0, false, 1 },
    { SKI_VHOST_USER_GET_CONFIG, 13, true, 0 },
    { SKI_VHOST_USER_SET_CONFIG, 13, true, 0 },
    { SKI_VHOST_USER_GET_INFLIGHT_FD, 24, false, 0 },
    { SKI_VHOST_USER_SET_INFLIGHT_FD, 24, false, 1 },
    { SKI_VHOST_USER_RESET_DEVICE, 0, false, 0 },
    { SKI_VHOST_USER_GET_MAX_MEM_SLOTS, 0, false, 0 },
    { SKI_VHOST_USER_ADD_MEM_REG, 40, false, 1 },
    { SKI_VHOST_USER_REM_MEM_REG, 40, false, ANY },
    { SKI_VHOST_USER_SET_STATUS, 8, false, 0 },
    { SKI_VHOST_USER_GET_STATUS, 0, false, 0 },
};

#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

static void expect_end(const char *what, uint32_t request)
{
    if (!front_end_is_closed(&front)) {
        fail_msg("request %u, %s: the connection goes on", request, what);
    }
    front_end_disconnect(&front);
}

static void send_plain(uint32_t request, uint32_t size, const int *fds, uint32_t fd_count)
{
    static const uint8_t zeroes[1024];

    front_end_send(&front, request, SKI_VHOST_USER_VERSION, zeroes, size, fds, fd_count);
}

static void test_backend_message__of_the_wrong_size_ends_the_connection(void **state)
{
    (void)state;
    for (size_t i = 0; i < KINDS; i++) {
        if (kinds[i].size > 0) {
            begin();
            send_plain(kinds[i].request, kinds[i].size > 8 ? 7 : kinds[i].size - 1, NULL, 0);
            expect_end("too short", kinds[i].request);
        }
        if (!kinds[i].variable) {
            begin();
            send_plain(kinds[i].request, kinds[i].size + 1, NULL, 0);
            expect_end("too long", kinds[i].request);
        }
        begin();
        send_plain(kinds[i].request, 513, NULL, 0);
        expect_end("longer than any", kinds[i].request);
    }
}

static void test_backend_message__with_other_descriptors_ends_the_connection(void **state)
{
    int fds[9];
    int zero = open("/dev/zero", O_RDWR | O_CLOEXEC);

    (void)state;
    for (unsigned i = 0; i < 9; i++) {
        fds[i] = zero;
    }
    for (size_t i = 0; i < KINDS; i++) {
        uint32_t most = kinds[i].fds == ANY ? 1 : kinds[i].fds;

        if (kinds[i].request == SKI_VHOST_USER_REM_MEM_REG) {
            continue; /* old front ends send one: it is closed, and that is it */
        }
        begin();
        send_plain(kinds[i].request, kinds[i].size, fds, most + 1);
        expect_end("one too many", kinds[i].request);
        begin();
        send_plain(kinds[i].request, kinds[i].size, fds, 9);
        expect_end("nine", kinds[i].request);
        if (kinds[i].fds == 1) {
            begin();
            send_plain(kinds[i].request, kinds[i].size, NULL, 0);
            expect_end("none", kinds[i].request);
        }
    }
    (void)close(zero);
}

/* Cut at each byte: an end, or silence longer than a message may take. */
static void test_backend_message__cut_anywhere_ends_the_connection(void **state)
{
    struct ski_vhost_user_vring_address address = { .index = 0 };
    struct ski_vhost_user_header header = { SKI_VHOST_USER_SET_VRING_ADDR, SKI_VHOST_USER_VERSION,
                                            sizeof(address) };
    uint8_t bytes[sizeof(header) + sizeof(address)];

    (void)state;
    memcpy(bytes, &header, sizeof(header));
    memcpy(bytes + sizeof(header), &address, sizeof(address));
    for (size_t length = 1; length < sizeof(bytes); length++) {
        begin();
        assert_int_equal(send(front.socket, bytes, length, MSG_NOSIGNAL), length);
        if (length % 8 == 1) { /* the others take their time */
            expect_end("silent", (uint32_t)length);
        } else {
            (void)shutdown(front.socket, SHUT_WR);
            expect_end("cut", (uint32_t)length);
        }
    }
}

static void test_backend_message__of_another_version_or_a_reply_ends_the_connection(void **state)
{
    (void)state;
    for (uint32_t flags = 0; flags < 16; flags++) {
        bool good_flags = (flags & 3) == 1 && (flags & SKI_VHOST_USER_REPLY) == 0;

        begin();
        front_end_send(&front, SKI_VHOST_USER_GET_QUEUE_NUM, flags, NULL, 0, NULL, 0);
        if (good_flags) {
            assert_true(front_end_receive(&front, FRONT_WAIT_NS));
            assert_int_equal(front.message.payload.u64, 2);
            front_end_disconnect(&front);
        } else {
            expect_end("flags", flags);
        }
    }
}

static void test_backend_message__unknown_is_refused(void **state)
{
    static const uint32_t unknown[] = { 0,  6,  7,  19, 20, 22, 23,        26,        27,
                                        28, 29, 30, 33, 35, 41, 0x7fffffff, 0xffffffff };
    uint64_t value = 0;

    (void)state;
    for (size_t i = 0; i < sizeof(unknown) / sizeof(unknown[0]); i++) {
        begin();
        assert_int_equal(front_end_do(&front, unknown[i], &value, 8, NULL, 0), 1);
        assert_int_equal(front_end_ask(&front, SKI_VHOST_USER_GET_QUEUE_NUM), 2);
        send_plain(unknown[i], 8, NULL, 0); /* and nobody to tell */
        expect_end("unknown", unknown[i]);
    }
}

/* What was not agreed on may not be sent. */
static void test_backend_message__not_agreed_on_ends_the_connection(void **state)
{
    static const struct {
        uint32_t request;
        uint32_t bit;
        uint32_t size;
    } cases[] = {
        { SKI_VHOST_USER_GET_CONFIG, SKI_VHOST_USER_PROTOCOL_CONFIG, 13 },
        { SKI_VHOST_USER_SET_CONFIG, SKI_VHOST_USER_PROTOCOL_CONFIG, 13 },
        { SKI_VHOST_USER_GET_INFLIGHT_FD, SKI_VHOST_USER_PROTOCOL_INFLIGHT_SHMFD, 24 },
        { SKI_VHOST_USER_RESET_DEVICE, SKI_VHOST_USER_PROTOCOL_RESET_DEVICE, 0 },
        { SKI_VHOST_USER_GET_MAX_MEM_SLOTS, SKI_VHOST_USER_PROTOCOL_CONFIGURE_MEM_SLOTS, 0 },
        { SKI_VHOST_USER_REM_MEM_REG, SKI_VHOST_USER_PROTOCOL_CONFIGURE_MEM_SLOTS, 40 },
        { SKI_VHOST_USER_GET_STATUS, SKI_VHOST_USER_PROTOCOL_STATUS, 0 },
        { SKI_VHOST_USER_SET_STATUS, SKI_VHOST_USER_PROTOCOL_STATUS, 8 },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        front_end_connect(&front, socket_path);
        front_end_negotiate(&front, UINT64_MAX, UINT64_MAX & ~(UINT64_C(1) << cases[i].bit));
        send_plain(cases[i].request, cases[i].size, NULL, 0);
        expect_end("not agreed on", cases[i].request);
    }
}

/* ---- Refused, and the connection goes on ---------------------------------------------------- */

static void refuse(uint32_t request, const void *payload, uint32_t size, const int *fds,
                   uint32_t fd_count)
{
    if (front_end_do(&front, request, payload, size, fds, fd_count) != 1) {
        fail_msg("request %u was not refused", request);
    }
}

static void test_backend_features__unknown_are_refused(void **state)
{
    uint64_t offered;
    uint64_t status = 15;
    uint64_t features;

    (void)state;
    begin();
    offered = front_end_ask(&front, SKI_VHOST_USER_GET_FEATURES);
    for (unsigned bit = 0; bit < 64; bit++) {
        features = offered | UINT64_C(1) << bit;
        assert_int_equal(
            front_end_do(&front, SKI_VHOST_USER_SET_FEATURES, &features, 8, NULL, 0),
            features != offered);
    }
    /* After a refusal FEATURES_OK does not stay: 2.2.2. */
    features = offered | UINT64_C(1) << 33;
    refuse(SKI_VHOST_USER_SET_FEATURES, &features, 8, NULL, 0);
    assert_int_equal(front_end_do(&front, SKI_VHOST_USER_SET_STATUS, &status, 8, NULL, 0), 0);
    assert_int_equal(front_end_ask(&front, SKI_VHOST_USER_GET_STATUS), 7);
    assert_int_equal(front_end_do(&front, SKI_VHOST_USER_SET_FEATURES, &offered, 8, NULL, 0), 0);
    assert_int_equal(front_end_do(&front, SKI_VHOST_USER_SET_STATUS, &status, 8, NULL, 0), 0);
    assert_int_equal(front_end_ask(&front, SKI_VHOST_USER_GET_STATUS), 15);
    features = UINT64_C(1) << 40;
    refuse(SKI_VHOST_USER_SET_PROTOCOL_FEATURES, &features, 8, NULL, 0);
    status = 256;
    refuse(SKI_VHOST_USER_SET_STATUS, &status, 8, NULL, 0);
}

static void test_backend_config__out_of_bounds_is_answered_with_nothing(void **state)
{
    static const uint32_t cases[][2] = { { 0, 257 },  { 256, 1 },        { 1, 256 },
                                         { 257, 0 },  { 0xffffffff, 1 }, { 0, 0xffffffff },
                                         { 0x80000000, 0x80000000 } };

    (void)state;
    begin();
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct ski_vhost_user_config config = { cases[i][0], cases[i][1], 0, { 0 } };

        front_end_send(&front, SKI_VHOST_USER_GET_CONFIG, SKI_VHOST_USER_VERSION, &config,
                       SKI_VHOST_USER_CONFIG_HEAD + 1, NULL, 0);
        assert_true(front_end_receive(&front, FRONT_WAIT_NS));
        assert_int_equal(front.message.header.request, SKI_VHOST_USER_GET_CONFIG);
        assert_int_equal(front.message.header.size, 0);
    }
}

static void test_backend_config__read_only_fields_are_not_written(void **state)
{
    (void)state;
    begin();
    for (uint32_t offset = 0; offset < 64; offset++) {
        struct ski_vhost_user_config config = { offset, 1, 0, { 0 } };

        assert_int_equal(front_end_do(&front, SKI_VHOST_USER_SET_CONFIG, &config,
                                      SKI_VHOST_USER_CONFIG_HEAD + 1, NULL, 0),
                         offset != 32);
        config.size = 2;
        refuse(SKI_VHOST_USER_SET_CONFIG, &config, SKI_VHOST_USER_CONFIG_HEAD + 2, NULL, 0);
    }
}

static void test_backend_queues__wrong_descriptions_are_refused(void **state)
{
    struct ski_vhost_user_vring_state state_of = { 2, 16 };
    struct ski_vhost_user_vring_address address = { .index = 2 };
    uint64_t index = 2 | SKI_VHOST_USER_VRING_NO_FD;

    (void)state;
    begin();
    front_end_share_memory(&front);
    refuse(SKI_VHOST_USER_SET_VRING_NUM, &state_of, sizeof(state_of), NULL, 0);
    refuse(SKI_VHOST_USER_SET_VRING_BASE, &state_of, sizeof(state_of), NULL, 0);
    refuse(SKI_VHOST_USER_SET_VRING_ENABLE, &state_of, sizeof(state_of), NULL, 0);
    refuse(SKI_VHOST_USER_SET_VRING_ADDR, &address, sizeof(address), NULL, 0);
    state_of.index = 0xffffffff;
    refuse(SKI_VHOST_USER_SET_VRING_NUM, &state_of, sizeof(state_of), NULL, 0);
    state_of = (struct ski_vhost_user_vring_state){ 0, 0 };
    refuse(SKI_VHOST_USER_SET_VRING_NUM, &state_of, sizeof(state_of), NULL, 0);
    state_of.num = 32769;
    refuse(SKI_VHOST_USER_SET_VRING_NUM, &state_of, sizeof(state_of), NULL, 0);
    state_of.num = 2;
    refuse(SKI_VHOST_USER_SET_VRING_ENABLE, &state_of, sizeof(state_of), NULL, 0);
    front_end_send(&front, SKI_VHOST_USER_SET_VRING_KICK, SKI_VHOST_USER_VERSION, &index, 8, NULL,
                   0);
    expect_end("queue 2", SKI_VHOST_USER_SET_VRING_KICK);
    begin();
    send_plain(SKI_VHOST_USER_GET_VRING_BASE, 8, NULL, 0);
    assert_true(front_end_receive(&front, FRONT_WAIT_NS));
    state_of.index = 2;
    front_end_send(&front, SKI_VHOST_USER_GET_VRING_BASE, SKI_VHOST_USER_VERSION, &state_of, 8,
                   NULL, 0);
    expect_end("queue 2", SKI_VHOST_USER_GET_VRING_BASE);
}

/* All but one thing is right; `change` makes it wrong.  The last step that tells is refused. */
static void start_wrong(uint64_t features, uint32_t size, uint64_t descriptors, uint64_t available,
                        uint64_t used, uint32_t base)
{
    struct ski_vhost_user_vring_state state = { 0, size };
    struct ski_vhost_user_vring_address address = { .descriptors = descriptors,
                                                    .available = available,
                                                    .used = used };
    uint64_t index = SKI_VHOST_USER_VRING_NO_FD;

    front_end_connect(&front, socket_path);
    front_end_negotiate(&front, FRONT_FEATURES | features, UINT64_MAX);
    front_end_share_memory(&front);
    assert_int_equal(front_end_do(&front, SKI_VHOST_USER_SET_VRING_NUM, &state, 8, NULL, 0), 0);
    state.num = base;
    assert_int_equal(front_end_do(&front, SKI_VHOST_USER_SET_VRING_BASE, &state, 8, NULL, 0), 0);
    assert_int_equal(front_end_do(&front, SKI_VHOST_USER_SET_VRING_ADDR, &address,
                                  sizeof(address), NULL, 0),
                     0);
    assert_int_equal(front_end_do(&front, SKI_VHOST_USER_SET_VRING_KICK, &index, 8, NULL, 0), 0);
    state.num = 1;
    refuse(SKI_VHOST_USER_SET_VRING_ENABLE, &state, 8, NULL, 0);
    front_end_disconnect(&front);
}

static void test_backend_queues__rings_that_cannot_be_do_not_start(void **state)
{
    const uint64_t end = FRONT_USER + front.memory_bytes;
    const uint64_t packed = SK_VIRTIO_FEATURE(SK_VIRTIO_F_RING_PACKED);
    const uint64_t u = FRONT_USER;

    (void)state;
    start_wrong(0, 12, u, u + 4096, u + 8192, 0);                 /* no power of two */
    start_wrong(0, 16, u + 8, u + 4096, u + 8192, 0);             /* alignment */
    start_wrong(0, 16, u, u + 4097, u + 8192, 0);
    start_wrong(0, 16, u, u + 4096, u + 8194, 0);
    start_wrong(0, 16, end - 255 - 1 + 16, u + 4096, u + 8192, 0); /* does not fit */
    start_wrong(0, 16, u, end - 36, u + 8192, 0);
    start_wrong(0, 16, u, u + 4096, end - 132, 0);
    start_wrong(0, 16, u - 16, u + 4096, u + 8192, 0);
    start_wrong(0, 16, 0, 0, 0, 0);
    start_wrong(0, 16, UINT64_MAX - 15, u + 4096, u + 8192, 0);
    start_wrong(0, 32768, u, u + 4096, end - 8192, 0);
    start_wrong(0, 16, u, u + 4096, u + 8192, 17);                 /* base */
    start_wrong(packed, 7, u + 8, u + 4096, u + 8192, 0x80008000);
    start_wrong(packed, 7, u, u + 4098, u + 8192, 0x80008000);
    start_wrong(packed, 7, u, u + 4096, end - 2, 0x80008000);
    start_wrong(packed, 7, u, u + 4096, u + 8192, 0x80008007);
    start_wrong(packed, 7, u, u + 4096, u + 8192, 0x80078000);
    start_wrong(packed, 7, u, u + 4096, u + 8192, 0x80018000);     /* before the used position */
    start_wrong(packed, 7, u, u + 4096, u + 8192, 0x80000003);     /* more than a lap behind it */
}

static void test_backend_queues__started_ones_are_not_changed(void **state)
{
    struct ski_vhost_user_vring_state state_of = { 0, 32 };
    struct ski_vhost_user_vring_address address = { .descriptors = FRONT_USER + 65536,
                                                    .available = FRONT_USER + 81920,
                                                    .used = FRONT_USER + 98304 };
    uint64_t features;

    (void)state;
    front_end_start(&front, socket_path, 0, 1, 16);
    features = front.features | SK_VIRTIO_FEATURE(SK_VIRTIO_F_RING_PACKED);
    refuse(SKI_VHOST_USER_SET_VRING_NUM, &state_of, sizeof(state_of), NULL, 0);
    refuse(SKI_VHOST_USER_SET_VRING_BASE, &state_of, sizeof(state_of), NULL, 0);
    refuse(SKI_VHOST_USER_SET_VRING_ADDR, &address, sizeof(address), NULL, 0);
    refuse(SKI_VHOST_USER_SET_FEATURES, &features, 8, NULL, 0);
    assert_int_equal(front_end_run(&front.queues[0], FRONT_READ, 0, 512), FRONT_OK);
}

static void test_backend_queues__disabled_ones_rest(void **state)
{
    struct ski_vhost_user_vring_state off = { 0, 0 };
    struct ski_vhost_user_vring_state on = { 0, 1 };
    struct front_queue *queue = &front.queues[0];

    (void)state;
    front_end_start(&front, socket_path, 0, 1, 16);
    assert_int_equal(front_end_run(queue, FRONT_READ, 0, 512), FRONT_OK);
    assert_int_equal(front_end_do(&front, SKI_VHOST_USER_SET_VRING_ENABLE, &off, 8, NULL, 0), 0);
    front_end_submit(queue, 0, FRONT_READ, 0, 512);
    front_end_publish(queue);
    (void)poll(NULL, 0, 30);
    assert_int_equal(front_end_poll(queue), -1);
    assert_int_equal(front_end_do(&front, SKI_VHOST_USER_SET_VRING_ENABLE, &on, 8, NULL, 0), 0);
    assert_int_equal(front_end_wait(queue), 0);
}

/* ---- Memory -------------------------------------------------------------------------------- */

static int make_memory(uint64_t bytes)
{
    int fd = memfd_create("part", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t)bytes), 0);
    return fd;
}

static void test_backend_memory__wrong_tables_are_refused(void **state)
{
    static const struct ski_vhost_user_region wrong[] = {
        { FRONT_GUEST, 0, FRONT_USER, 0 },                       /* no bytes */
        { FRONT_GUEST, 65537, FRONT_USER, 0 },                   /* longer than its file */
        { FRONT_GUEST, 4096, FRONT_USER, 65536 - 4095 },         /* reaches beyond it */
        { FRONT_GUEST, 4096, FRONT_USER, UINT64_MAX - 4095 },
        { FRONT_GUEST, UINT64_MAX, FRONT_USER, 0 },
        { UINT64_MAX - 100, 4096, FRONT_USER, 0 },               /* wraps */
        { FRONT_GUEST, 4096, UINT64_MAX - 100, 0 },
    };
    struct ski_vhost_user_memory table = { .count = 1 };
    struct ski_vhost_user_single_region single = { .padding = 0 };
    int fds[2] = { make_memory(65536), -1 };
    int others[4];

    (void)state;
    fds[1] = fds[0];
    begin();
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        table.regions[0] = wrong[i];
        refuse(SKI_VHOST_USER_SET_MEM_TABLE, &table, 40, fds, 1);
        single.region = wrong[i];
        refuse(SKI_VHOST_USER_ADD_MEM_REG, &single, sizeof(single), fds, 1);
    }
    /* Overlapping ones, of which the first was mapped already. */
    table.count = 2;
    table.regions[0] = (struct ski_vhost_user_region){ FRONT_GUEST, 8192, FRONT_USER, 0 };
    table.regions[1] = (struct ski_vhost_user_region){ FRONT_GUEST + 4096, 8192,
                                                       FRONT_USER + 65536, 0 };
    refuse(SKI_VHOST_USER_SET_MEM_TABLE, &table, 72, fds, 2);
    /* Descriptors that are no memory. */
    others[0] = open("/dev/null", O_RDWR | O_CLOEXEC);
    others[1] = eventfd(0, EFD_CLOEXEC);
    assert_int_equal(pipe2(others + 2, O_CLOEXEC), 0);
    single.region = (struct ski_vhost_user_region){ FRONT_GUEST, 4096, FRONT_USER, 0 };
    for (unsigned i = 0; i < 4; i++) {
        refuse(SKI_VHOST_USER_ADD_MEM_REG, &single, sizeof(single), &others[i], 1);
        (void)close(others[i]);
    }
    refuse(SKI_VHOST_USER_REM_MEM_REG, &single, sizeof(single), NULL, 0);
    table.count = 9;
    front_end_send(&front, SKI_VHOST_USER_SET_MEM_TABLE, SKI_VHOST_USER_VERSION, &table, 264, fds,
                   1);
    expect_end("nine regions", SKI_VHOST_USER_SET_MEM_TABLE);
    begin();
    table.count = 2;
    front_end_send(&front, SKI_VHOST_USER_SET_MEM_TABLE, SKI_VHOST_USER_VERSION, &table, 40, fds, 2);
    expect_end("two regions in the room of one", SKI_VHOST_USER_SET_MEM_TABLE);
    (void)close(fds[0]);
}

/* As many as the slots say, one by one; requests reach the last; then they go again. */
static void test_backend_memory__slots_can_be_filled_and_emptied(void **state)
{
    struct ski_vhost_user_single_region single = { .padding = 0 };
    int fd = make_memory(1 << 20);
    uint64_t slots;

    (void)state;
    begin();
    slots = front_end_ask(&front, SKI_VHOST_USER_GET_MAX_MEM_SLOTS);
    assert_true(slots > 8);
    for (uint64_t i = 0; i <= slots; i++) {
        single.region = (struct ski_vhost_user_region){ FRONT_GUEST + 4096 * (slots - i), 4096,
                                                        FRONT_USER + 4096 * i, 4096 * (i % 256) };
        assert_int_equal(front_end_do(&front, SKI_VHOST_USER_ADD_MEM_REG, &single, sizeof(single),
                                      &fd, 1),
                         i == slots);
    }
    for (uint64_t i = 0; i < slots; i++) {
        single.region = (struct ski_vhost_user_region){ FRONT_GUEST + 4096 * (slots - i), 4096,
                                                        FRONT_USER + 4096 * i, 0 };
        /* Some front ends send a descriptor with it. */
        assert_int_equal(front_end_do(&front, SKI_VHOST_USER_REM_MEM_REG, &single, sizeof(single),
                                      &fd, i % 2 == 0 ? 1 : 0),
                         0);
    }
    (void)close(fd);
}

/* The memory moves below a ring that is at work: another table, the same content. */
static void test_backend_memory__table_changes_at_work(void **state)
{
    struct front_queue *queue = &front.queues[0];

    (void)state;
    front_end_start(&front, socket_path, UINT64_MAX, 1, 16);
    for (unsigned i = 0; i < 50; i++) {
        assert_int_equal(front_end_run(queue, FRONT_READ, 0, 512), FRONT_OK);
        front_end_share_memory(&front);
    }
    assert_int_equal(front_end_run(queue, FRONT_READ, 0, 512), FRONT_OK);
}

static void test_backend_memory__ring_that_lost_its_memory_stops(void **state)
{
    struct ski_vhost_user_memory table = { .count = 0 };
    struct front_queue *queue = &front.queues[0];
    uint64_t count = 0;

    (void)state;
    front_end_start(&front, socket_path, UINT64_MAX, 1, 16);
    assert_int_equal(front_end_run(queue, FRONT_READ, 0, 512), FRONT_OK);
    assert_int_equal(front_end_do(&front, SKI_VHOST_USER_SET_MEM_TABLE, &table, 8, NULL, 0), 0);
    assert_int_equal(read(queue->error, &count, sizeof(count)), sizeof(count));
    front_end_submit(queue, 0, FRONT_READ, 0, 512);
    front_end_publish(queue);
    (void)poll(NULL, 0, 20);
    assert_int_equal(front_end_poll(queue), -1);
    /* It can be stopped, and begin anew with memory. */
    front_end_share_memory(&front);
    (void)front_end_stop_queue(&front, 0);
    front_end_lay_out(&front, 0, 16);
    front_end_start_queue(&front, 0, front_end_first_base(&front));
    assert_int_equal(front_end_run(queue, FRONT_READ, 0, 512), FRONT_OK);
}

/* ---- The record of requests in flight ------------------------------------------------------ */

static void test_backend_record__wrong_ones_are_refused(void **state)
{
    static const struct ski_vhost_user_inflight wrong[] = {
        { 4096, 0, 1, 0, 0 },         /* no entries */
        { 4096, 4, 1, 16, 0 },        /* alignment */
        { 64, 0, 1, 16, 0 },          /* too short for the rings */
        { 1 << 21, 0, 1, 16, 0 },     /* longer than the file */
        { 4096, 1 << 20, 1, 16, 0 },
        { UINT64_MAX, 8, 1, 16, 0 },
        { 0, 0, 1, 16, 0 },
    };
    struct ski_vhost_user_inflight said = { .queue_count = 3, .queue_size = 16 };
    int fd = make_memory(1 << 20);

    (void)state;
    begin();
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        refuse(SKI_VHOST_USER_SET_INFLIGHT_FD, &wrong[i], sizeof(wrong[i]), &fd, 1);
    }
    for (unsigned i = 0; i < 4; i++) {
        /* More queues than there are, none, no entries, too many: no record. */
        said.queue_count = (uint16_t)(i == 0 ? 3 : i == 1 ? 0 : 1);
        said.queue_size = (uint16_t)(i == 2 ? 0 : i == 3 ? 65535 : 16);
        front_end_send(&front, SKI_VHOST_USER_GET_INFLIGHT_FD, SKI_VHOST_USER_VERSION, &said,
                       sizeof(said), NULL, 0);
        assert_true(front_end_receive(&front, FRONT_WAIT_NS));
        assert_int_equal(front.message.payload.inflight.mmap_size, 0);
        assert_int_equal(front.message.fd_count, 0);
    }
    (void)close(fd);
}

/* A record full of anything: the queue does not start, or does something that ends. */
static void test_backend_record__of_any_bytes_harms_nobody(void **state)
{
    uint64_t random = 7;

    (void)state;
    for (unsigned round = 0; round < 60; round++) {
        uint64_t features = round % 2 == 0 ? 0 : SK_VIRTIO_FEATURE(SK_VIRTIO_F_RING_PACKED);
        int fd = make_memory(4096);
        struct ski_vhost_user_inflight said = { 4096, 0, 1, 16, 0 };
        struct ski_vhost_user_vring_state on = { 0, 1 };
        uint8_t bytes[4096];

        for (unsigned i = 0; i < sizeof(bytes); i++) {
            random = random * 6364136223846793005u + 1442695040888963407u;
            bytes[i] = (uint8_t)((random >> 40) % (round % 3 == 0 ? 256 : 8));
        }
        bytes[8] = 1; /* version and size are right, so the rest is looked at */
        bytes[9] = 0;
        bytes[10] = 16;
        bytes[11] = 0;
        assert_int_equal(write(fd, bytes, sizeof(bytes)), sizeof(bytes));
        front_end_connect(&front, socket_path);
        front_end_negotiate(&front, FRONT_FEATURES | features, UINT64_MAX);
        front_end_share_memory(&front);
        assert_int_equal(front_end_do(&front, SKI_VHOST_USER_SET_INFLIGHT_FD, &said, sizeof(said),
                                      &fd, 1),
                         0);
        front_end_lay_out(&front, 0, 16);
        on.num = 16;
        (void)front_end_do(&front, SKI_VHOST_USER_SET_VRING_NUM, &on, 8, NULL, 0);
        {
            struct ski_vhost_user_vring_address address = {
                .descriptors = FRONT_USER,
                .available = FRONT_USER + front.queues[0].layout.driver_area,
                .used = FRONT_USER + front.queues[0].layout.device_area,
            };
            uint64_t index = SKI_VHOST_USER_VRING_NO_FD;

            (void)front_end_do(&front, SKI_VHOST_USER_SET_VRING_ADDR, &address, sizeof(address),
                               NULL, 0);
            (void)front_end_do(&front, SKI_VHOST_USER_SET_VRING_KICK, &index, 8, NULL, 0);
        }
        on.num = 1;
        (void)front_end_do(&front, SKI_VHOST_USER_SET_VRING_ENABLE, &on, 8, NULL, 0);
        (void)front_end_stop_queue(&front, 0);
        front_end_disconnect(&front);
        (void)close(fd);
    }
}

/* ---- Any bytes ------------------------------------------------------------------------------ */

static uint64_t fuzz_state;

static uint32_t fuzz(uint32_t below)
{
    fuzz_state = fuzz_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(fuzz_state >> 33) % below;
}

/* A payload that is nearly right. */
static uint32_t fuzz_payload(uint8_t *out, const struct kind *kind)
{
    static const uint64_t values[] = { 0, 1, 2, 16, 255, 256, 4096, 0xffff, 0x80008000, FRONT_GUEST,
                                       FRONT_USER, FRONT_USER + 4096, UINT64_MAX, 32, 1u << 20 };
    uint32_t size = kind->size + (kind->variable ? fuzz(40) : 0);

    for (uint32_t i = 0; i + 4 <= 512; i += 4) {
        uint64_t value = fuzz(4) == 0 ? fuzz(UINT32_MAX)
                                      : values[fuzz(sizeof(values) / sizeof(values[0]))];

        memcpy(out + i, &value, 4);
        if (fuzz(2) == 0 && i + 8 <= 512) {
            memcpy(out + i, &value, 8);
            i += 4;
        }
    }
    return fuzz(16) == 0 ? fuzz(512) : size;
}

static void test_backend_message__any_bytes_harm_nobody(void **state)
{
    int fds[5];
    int pair[2];

    (void)state;
    fds[0] = front.memory_fd;
    fds[1] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    fds[2] = open("/dev/null", O_RDWR | O_CLOEXEC);
    assert_int_equal(pipe2(pair, O_CLOEXEC), 0);
    fds[3] = pair[0];
    fds[4] = pair[1];
    for (uint64_t seed = 1; seed <= 60; seed++) {
        fuzz_state = seed;
        begin();
        front_end_share_memory(&front);
        for (unsigned i = 0; i < 60; i++) {
            const struct kind *kind = &kinds[fuzz(KINDS)];
            uint8_t payload[512];
            uint32_t size = fuzz_payload(payload, kind);
            uint32_t count = kind->fds == ANY ? fuzz(2) : kind->fds;
            uint32_t flags = SKI_VHOST_USER_VERSION | (fuzz(4) != 0 ? SKI_VHOST_USER_NEED_REPLY : 0);
            int some[8];

            if (fuzz(10) == 0) {
                count = fuzz(4);
            }
            for (unsigned k = 0; k < 8; k++) {
                some[k] = fds[fuzz(5)];
            }
            if (kind->request == SKI_VHOST_USER_SET_BACKEND_REQ_FD) {
                some[0] = fds[1]; /* no socket at all */
            }
            front_end_send(&front, kind->request, flags, payload, size, some, count);
            /* What it answers is read now and then, so that it never waits for us. */
            while (poll(&(struct pollfd){ .fd = front.socket, .events = POLLIN }, 1, 0) == 1 &&
                   front_end_receive(&front, FRONT_WAIT_NS)) {
            }
        }
        front_end_disconnect(&front);
    }
    for (unsigned i = 1; i < 5; i++) {
        (void)close(fds[i]);
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_backend_message__of_the_wrong_size_ends_the_connection),
        TEST(test_backend_message__with_other_descriptors_ends_the_connection),
        TEST(test_backend_message__cut_anywhere_ends_the_connection),
        TEST(test_backend_message__of_another_version_or_a_reply_ends_the_connection),
        TEST(test_backend_message__unknown_is_refused),
        TEST(test_backend_message__not_agreed_on_ends_the_connection),
        TEST(test_backend_features__unknown_are_refused),
        TEST(test_backend_config__out_of_bounds_is_answered_with_nothing),
        TEST(test_backend_config__read_only_fields_are_not_written),
        TEST(test_backend_queues__wrong_descriptions_are_refused),
        TEST(test_backend_queues__rings_that_cannot_be_do_not_start),
        TEST(test_backend_queues__started_ones_are_not_changed),
        TEST(test_backend_queues__disabled_ones_rest),
        TEST(test_backend_memory__wrong_tables_are_refused),
        TEST(test_backend_memory__slots_can_be_filled_and_emptied),
        TEST(test_backend_memory__table_changes_at_work),
        TEST(test_backend_memory__ring_that_lost_its_memory_stops),
        TEST(test_backend_record__wrong_ones_are_refused),
        TEST(test_backend_record__of_any_bytes_harms_nobody),
        TEST(test_backend_message__any_bytes_harm_nobody),
    };
#undef TEST

    return cmocka_run_group_tests(tests, NULL, NULL);
}
