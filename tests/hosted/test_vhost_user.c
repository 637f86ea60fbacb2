/* SPDX-License-Identifier: MIT */
/* The transport with a scripted back end: addresses, options, what a back end lacks, events. */
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include <skio/skio.h>
#include <skio_hosted/vhost_user.h>

#include "descriptors.h"
#include "fake_backend.h"
#include "patient.h"
#include "vhost_user_message.h"

#define MS UINT64_C(1000000)

static struct fake_backend fake;
static struct fake_backend_config config;
static struct sk_vhost_user_disk_options options;
static struct sk_vhost_user_disk *disk;
static struct sk_block_device *device;
static struct sk_block_queue *queue;
static char error[SK_VHOST_USER_ERROR_BYTES];
static unsigned descriptors;
static bool fake_runs;
static uint8_t data[4096];

static void ignore(void *context, enum sk_log_level level, const char *line)
{
    (void)context;
    (void)level;
    (void)line;
}

static int set_up(void **state)
{
    const struct fake_backend_config defaults = FAKE_BACKEND_CONFIG_DEFAULT;
    const struct sk_vhost_user_disk_options default_options = SK_VHOST_USER_DISK_OPTIONS_DEFAULT;

    (void)state;
    descriptors = descriptors_count();
    config = defaults;
    options = default_options;
    options.driver.queue_size = 16;
    be_patient(&options);
    options.process.write_log = ignore;
    options.memory_bytes = 1 << 20;
    disk = NULL;
    fake_runs = false;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    if (sk_vhost_user_disk_close(disk) != SK_OK) {
        return -1;
    }
    if (fake_runs) {
        fake_backend_stop(&fake);
    }
    return descriptors_count() == descriptors ? 0 : -1;
}

static void start_fake(void)
{
    fake_backend_start(&fake, &config);
    fake_runs = true;
}

static enum sk_status open_at(const char *address)
{
    enum sk_status status = sk_vhost_user_disk_open(address, &options, &disk, error);

    if (status == SK_OK) {
        device = sk_vhost_user_disk_device(disk);
        queue = sk_block_get_queue(device, 0);
        assert_string_equal(error, "");
    } else {
        assert_null(disk);
        assert_non_null(strstr(error, address));
    }
    return status;
}

/* With a short time for answers one that behaves may be too slow, on a machine that is busy. */
static bool is_impatient(void)
{
    return options.vhost_user.message_ns < PATIENT_NS || options.driver.control_timeout_ns < PATIENT_NS;
}

static void open_disk(void)
{
    enum sk_status status;

    start_fake();
    status = open_at(fake.path);
    for (unsigned i = 0; i < 1000 && status != SK_OK && is_impatient(); i++) {
        status = open_at(fake.path);
    }
    if (status != SK_OK) {
        fail_msg("%s", error);
    }
}

static void expect_error(enum sk_status status, enum sk_status expected, const char *text)
{
    if (status != expected || strstr(error, text) == NULL) {
        fail_msg("%s: %s", sk_status_name(status), error);
    }
}

/* A line for people that fits on the eye, and a disk that is not there. */
static void expect_refused(const char *address, enum sk_status expected, const char *text)
{
    expect_error(open_at(address), expected, text);
}

static void expect_works(void)
{
    static uint8_t back[sizeof(data)];

    for (size_t i = 0; i < sizeof(data); i++) {
        data[i] = (uint8_t)(data[i] * 5 + i + 1);
    }
    assert_int_equal(sk_block_write(queue, 8, data, sizeof(data), 0), SK_OK);
    assert_int_equal(sk_block_read(queue, 8, back, sizeof(back), 0), SK_OK);
    assert_memory_equal(back, data, sizeof(data));
}

static void recover_at_last(void)
{
    enum sk_status status = sk_block_recover(device, 0);

    for (unsigned i = 0; i < 1000 && status != SK_OK && is_impatient(); i++) {
        status = sk_block_recover(device, 0);
    }
    assert_int_equal(status, SK_OK);
}

/* Polls until `condition`; the device has time for it. */
#define EXPECT_SOON(condition)                                      \
    do {                                                            \
        for (unsigned soon = 0; soon < PATIENT_NS / MS && !(condition); soon++) { \
            assert_int_not_equal(sk_block_poll(queue, 0, NULL), SK_ERR_BUSY); \
            (void)usleep(1000);                                     \
        }                                                           \
        assert_true(condition);                                     \
    } while (0)

/* ---- Addresses --------------------------------------------------------------------------- */

static void test_vhost_user_open__addresses_that_are_none(void **state)
{
    char too_long[200];

    (void)state;
    memset(too_long, 'a', sizeof(too_long));
    too_long[sizeof(too_long) - 1] = '\0';
    expect_refused("/nonexistent/socket", SK_ERR_NOT_FOUND, "no such socket; start the back end");
    expect_refused("/etc/passwd", SK_ERR_INVALID, "it is no socket");
    expect_refused("/etc/passwd/x", SK_ERR_NOT_FOUND, "no such socket");
    expect_refused("@skio-nobody", SK_ERR_NOT_FOUND, "nobody listens");
    expect_refused("@", SK_ERR_INVALID, "empty");
    expect_refused("", SK_ERR_INVALID, "empty");
    expect_refused("fd:", SK_ERR_INVALID, "no stream socket");
    expect_refused("fd:x", SK_ERR_INVALID, "no stream socket");
    expect_refused("fd:3x", SK_ERR_INVALID, "no stream socket");
    expect_refused("fd:-1", SK_ERR_INVALID, "no stream socket");
    expect_refused("fd:99999999999", SK_ERR_INVALID, "no stream socket");
    expect_refused("fd:0", SK_ERR_INVALID, "no stream socket");
    assert_int_equal(sk_vhost_user_disk_open(too_long, &options, &disk, error), SK_ERR_INVALID);
    assert_non_null(strstr(error, "too long for a socket"));
    assert_int_equal(sk_vhost_user_disk_open(NULL, &options, &disk, error), SK_ERR_INVALID);
    assert_int_equal(sk_vhost_user_disk_open("/nonexistent/socket", &options, &disk, NULL),
                     SK_ERR_NOT_FOUND);
}

/* A path that no other run of this test has. */
static const char *own_path(void)
{
    static char path[64];

    (void)snprintf(path, sizeof(path), "/tmp/skio-test-%d", getpid());
    return path;
}

static int bind_socket(int type, const char *path)
{
    size_t length = strlen(path) + 1;
    struct sockaddr_un name = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);

    memcpy(name.sun_path, path, length);
    (void)unlink(path);
    assert_int_equal(bind(fd, (struct sockaddr *)&name,
                          (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length)),
                     0);
    return fd;
}

static void test_vhost_user_open__sockets_that_are_something_else(void **state)
{
    const char *path = own_path();
    int fd = bind_socket(SOCK_DGRAM, path);
    char address[32];

    (void)state;
    options.vhost_user.message_ns = 100 * MS; /* of the one who says nothing */
    expect_refused(path, SK_ERR_INVALID, "not a stream");
    assert_int_equal(close(fd), 0);
    fd = bind_socket(SOCK_SEQPACKET, path);
    assert_int_equal(listen(fd, 1), 0);
    expect_refused(path, SK_ERR_INVALID, "not a stream");
    assert_int_equal(close(fd), 0);
    fd = bind_socket(SOCK_STREAM, path); /* bound, and nobody listens */
    expect_refused(path, SK_ERR_NOT_FOUND, "nobody listens on the socket; start the back end");
    assert_int_equal(listen(fd, 1), 0); /* now somebody does, but never says a word */
    expect_refused(path, SK_ERR_TIMEOUT, "did not answer GET_FEATURES in time");
    assert_int_equal(close(fd), 0);
    assert_int_equal(unlink(path), 0);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0); /* a stream, and not connected */
    (void)snprintf(address, sizeof(address), "fd:%d", fd);
    expect_refused(address, SK_ERR_INVALID, "not connected");
    assert_int_equal(close(fd), 0);
}

/* Connections that nobody takes fill the queue; the next one waits, but not for ever. */
static void test_vhost_user_open__full_listener_ends_by_deadline(void **state)
{
    const char *path = own_path();
    int fd = bind_socket(SOCK_STREAM, path);
    struct sockaddr_un name = { .sun_family = AF_UNIX };
    int clients[8];
    unsigned count = 0;

    (void)state;
    options.vhost_user.message_ns = 100 * MS;
    memcpy(name.sun_path, path, strlen(path) + 1);
    assert_int_equal(listen(fd, 0), 0);
    for (; count < 8; count++) {
        clients[count] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (connect(clients[count], (struct sockaddr *)&name, sizeof(name)) != 0) {
            break;
        }
    }
    assert_true(count < 8);
    expect_refused(path, SK_ERR_TIMEOUT, "accepts no connection");
    for (unsigned i = 0; i <= count; i++) {
        assert_int_equal(close(clients[i]), 0);
    }
    assert_int_equal(close(fd), 0);
    assert_int_equal(unlink(path), 0);
}

/* Takes one connection and hands it to the test as a descriptor. */
static int connect_to_fake(void)
{
    struct sockaddr_un name = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    memcpy(name.sun_path, fake.path, sizeof(fake.path));
    assert_int_equal(connect(fd, (struct sockaddr *)&name, sizeof(name)), 0);
    return fd;
}

static void test_vhost_user_open__inherited_socket_works_once(void **state)
{
    char address[32];
    struct sk_vhost_user_info info;

    (void)state;
    config.protocol |= FAKE_BACKEND_INFLIGHT;
    start_fake();
    (void)snprintf(address, sizeof(address), "fd:%d", connect_to_fake());
    assert_int_equal(open_at(address), SK_OK);
    expect_works();
    sk_vhost_user_get_info(sk_vhost_user_disk_transport(disk), &info);
    assert_false(info.resumes); /* where to? */
    fake_backend_die(&fake);
    assert_int_not_equal(sk_block_read(queue, 0, data, 512, 0), SK_OK);
    assert_int_not_equal(sk_block_recover(device, 0), SK_OK);
    assert_int_equal(sk_block_get_state(device), SK_BLOCK_STATE_BROKEN);
}

static void test_vhost_user_open__options_are_checked(void **state)
{
    struct sk_vhost_user_options bad = SK_VHOST_USER_OPTIONS_DEFAULT;
    struct sk_process *process;
    struct sk_vhost_user *vhost_user;

    (void)state;
    assert_int_equal(sk_process_create(NULL, &process), SK_OK);
    bad.queue_count = 0;
    assert_int_equal(sk_vhost_user_open(process, "x", &bad, &vhost_user, error), SK_ERR_INVALID);
    assert_string_equal(error, "an option is out of its range");
    bad.queue_count = SK_VIRTIO_BLK_QUEUES_MAX + 1;
    assert_int_equal(sk_vhost_user_open(process, "x", &bad, &vhost_user, error), SK_ERR_INVALID);
    bad.queue_count = 1;
    bad.message_ns = 0;
    assert_int_equal(sk_vhost_user_open(process, "x", &bad, &vhost_user, NULL), SK_ERR_INVALID);
    assert_int_equal(sk_vhost_user_open(NULL, "x", NULL, &vhost_user, error), SK_ERR_INVALID);
    assert_int_equal(sk_vhost_user_open(process, NULL, NULL, &vhost_user, error), SK_ERR_INVALID);
    assert_null(vhost_user);
    sk_vhost_user_close(NULL);
    assert_int_equal(sk_process_destroy(process), SK_OK);
    options.driver.queue_size = 32769;
    assert_int_equal(open_at("x"), SK_ERR_INVALID);
    options.driver.queue_size = 32768; /* as many as a ring has at most */
    start_fake();
    assert_int_equal(open_at(fake.path), SK_OK);
    assert_int_equal(device->info.queue_size, 32768);
    expect_works();
}

/* No descriptor left at each of the calls that make one: said, and none is lost. */
static void test_vhost_user_open__without_descriptors_left(void **state)
{
    struct rlimit before;
    unsigned failures = 0;

    (void)state;
    options.vhost_user.message_ns = 300 * MS; /* when the fake is the one who has none left */
    start_fake();
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    for (unsigned room = 0;; room++) {
        struct rlimit limit = before;
        unsigned open = descriptors_count();
        enum sk_status status;

        limit.rlim_cur = open + room;
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
        status = open_at(fake.path);
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
        if (status == SK_OK) {
            break;
        }
        failures++;
        for (unsigned i = 0; i < PATIENT_NS / MS && descriptors_count() != open; i++) {
            (void)usleep(1000); /* the fake lets go of its end */
        }
        assert_int_equal(descriptors_count(), open);
        assert_true(room < 100);
    }
    assert_true(failures >= 6);
    expect_works();
}

/* ---- What a back end lacks --------------------------------------------------------------- */

static void test_vhost_user_open__back_ends_that_lack_something(void **state)
{
    (void)state;
    config.features &= ~(UINT64_C(1) << 30);
    start_fake();
    expect_refused(fake.path, SK_ERR_UNSUPPORTED, "lacks the protocol's features");
    fake.config.features = FAKE_BACKEND_FEATURES;
    fake.config.protocol &= ~(UINT64_C(1) << 9);
    expect_refused(fake.path, SK_ERR_UNSUPPORTED, "CONFIG");
    fake.config.protocol = FAKE_BACKEND_PROTOCOL;
    fake.config.features &= ~(UINT64_C(1) << 32);
    expect_refused(fake.path, SK_ERR_UNSUPPORTED, "VERSION_1 is not offered");
    fake.config.features = FAKE_BACKEND_FEATURES;
    fake.config.queue_count = 0;
    expect_refused(fake.path, SK_ERR_MALFORMED, "GET_QUEUE_NUM is not valid: queues: 0");
    fake.config.queue_count = 65536;
    expect_refused(fake.path, SK_ERR_MALFORMED, "GET_QUEUE_NUM is not valid: queues: 65536");
    fake.config.queue_count = 2;
    fake.config.protocol |= FAKE_BACKEND_SLOTS;
    fake.config.slots = 0;
    expect_refused(fake.path, SK_ERR_BROKEN, "too many for the back end; it takes 0");
}

/* Any length of configuration space: a disk, or a clear no. */
static void test_vhost_user_open__every_length_of_configuration(void **state)
{
    (void)state;
    start_fake();
    for (uint32_t bytes = 0; bytes <= 100; bytes++) {
        enum sk_status status;

        fake.config.config_bytes = bytes;
        status = open_at(fake.path);
        if (bytes >= 33) { /* up to the cache's mode, whose feature is offered */
            assert_int_equal(status, SK_OK);
            assert_int_equal(device->info.capacity_sectors, FAKE_BACKEND_SECTORS);
            expect_works();
            assert_int_equal(sk_vhost_user_disk_close(disk), SK_OK);
            disk = NULL;
        } else {
            expect_error(status, SK_ERR_RANGE, "configuration space too short");
        }
    }
}

/* Features that go by no event fd, or that nobody here has, are not taken. */
static void test_vhost_user_open__features_that_do_not_fit_are_not_taken(void **state)
{
    struct sk_block_info info;
    const unsigned never[] = { 26, 30, 33, 37, 38, 39 };

    (void)state;
    config.features |= UINT64_C(1) << 26 | UINT64_C(1) << 33 | UINT64_C(1) << 37 |
                       UINT64_C(1) << 38 | UINT64_C(1) << 39;
    open_disk();
    sk_block_get_info(device, &info);
    for (size_t i = 0; i < sizeof(never) / sizeof(never[0]); i++) {
        assert_int_equal(info.features_offered >> never[i] & 1, 0);
    }
    expect_works();
}

static void test_vhost_user_open__fewer_queues_than_wanted_will_do(void **state)
{
    (void)state;
    options.driver.queue_count = 4;
    open_disk();
    assert_int_equal(device->info.queue_count, 2);
    assert_true(sk_vhost_user_disk_queue_fd(disk, 1) >= 0);
    assert_int_equal(sk_vhost_user_disk_queue_fd(disk, 2), -1);
    assert_int_equal(sk_vhost_user_disk_arm(disk, 2), SK_ERR_RANGE);
    expect_works();
}

static void test_vhost_user_open__without_acknowledgements(void **state)
{
    struct sk_vhost_user_info info;

    (void)state;
    options.vhost_user.protocol_features = ~(UINT64_C(1) << 3);
    open_disk();
    sk_vhost_user_get_info(sk_vhost_user_disk_transport(disk), &info);
    assert_true(info.protocol_features_offered & UINT64_C(1) << 3);
    assert_false(info.protocol_features & UINT64_C(1) << 3);
    expect_works();
    assert_int_equal(sk_block_recover(device, 0), SK_OK);
    expect_works();
}

static void test_vhost_user_feature_name__known_and_unknown(void **state)
{
    (void)state;
    assert_string_equal(sk_vhost_user_feature_name(12), "INFLIGHT_SHMFD");
    assert_null(sk_vhost_user_feature_name(17));
    assert_null(sk_vhost_user_feature_name(1000));
}

/* ---- Stopping ---------------------------------------------------------------------------- */

static bool is_done;
static enum sk_status end_status;

static void done(struct sk_block_request *request)
{
    is_done = true;
    end_status = request->status;
}

/* A read that the fake holds. */
static void submit_one(struct sk_block_request *request, struct sk_io_buffer *buffer,
                       struct sk_dma_segment *segment)
{
    assert_int_equal(sk_io_buffer_segment(buffer, 0, 512, segment), SK_OK);
    *request = (struct sk_block_request){ .operation = SK_BLOCK_READ,
                                          .segments = segment,
                                          .segment_count = 1,
                                          .complete = done };
    is_done = false;
    sk_block_submit(queue, &request, 1);
}

/*
 * A back end that answers "stopped" while it still works is hung up on, and
 * counts as quiet when it has closed its end.
 */
static void test_vhost_user_stop__requests_at_work_end_the_connection(void **state)
{
    struct sk_io_buffer buffer = SK_IO_BUFFER_EMPTY;
    struct sk_block_request request;
    struct sk_dma_segment segment;

    (void)state;
    open_disk();
    assert_int_equal(sk_io_buffer_create(&buffer, device->domain, 4096, 4096), SK_OK);
    fake.config.holds = true;
    submit_one(&request, &buffer, &segment);
    sk_block_stop(device, SK_ERR_IO);
    assert_int_equal(sk_block_get_state(device), SK_BLOCK_STATE_BROKEN);
    assert_int_equal(sk_block_poll(queue, 0, NULL), SK_ERR_BROKEN);
    assert_true(is_done);
    assert_int_equal(end_status, SK_ERR_IO);
    fake.config.holds = false;
    assert_int_equal(sk_block_recover(device, 0), SK_OK);
    assert_int_equal(fake.connections, 2);
    expect_works();
    assert_int_equal(sk_io_buffer_destroy(&buffer), SK_OK);
}

/* With a reset that it acknowledges, the connection stays. */
static void test_vhost_user_stop__reset_is_believed(void **state)
{
    struct sk_io_buffer buffer = SK_IO_BUFFER_EMPTY;
    struct sk_block_request request;
    struct sk_dma_segment segment;

    (void)state;
    config.protocol |= FAKE_BACKEND_RESET_DEVICE | FAKE_BACKEND_STATUS;
    open_disk();
    assert_int_equal(fake.status, 0xf);
    assert_int_equal(sk_io_buffer_create(&buffer, device->domain, 4096, 4096), SK_OK);
    fake.config.holds = true;
    submit_one(&request, &buffer, &segment);
    sk_block_stop(device, SK_ERR_IO);
    assert_int_equal(sk_block_get_state(device), SK_BLOCK_STATE_BROKEN);
    assert_int_equal(fake.resets, 1);
    assert_int_equal(fake.status, 0);
    fake.config.holds = false;
    assert_int_equal(sk_block_recover(device, 0), SK_OK);
    assert_true(is_done);
    assert_int_equal(fake.connections, 1);
    expect_works();
    assert_int_equal(sk_io_buffer_destroy(&buffer), SK_OK);
}

/* One that never closes may still write: in doubt, until it goes. */
static void test_vhost_user_stop__back_end_that_stays_is_in_doubt(void **state)
{
    struct sk_io_buffer buffer = SK_IO_BUFFER_EMPTY;
    struct sk_block_request request;
    struct sk_dma_segment segment;

    (void)state;
    options.driver.control_timeout_ns = 500 * MS;
    open_disk();
    fake.config.stays = true;
    assert_int_equal(sk_io_buffer_create(&buffer, device->domain, 4096, 4096), SK_OK);
    fake.config.holds = true;
    submit_one(&request, &buffer, &segment);
    sk_block_stop(device, SK_ERR_IO);
    assert_int_equal(sk_block_get_state(device), SK_BLOCK_STATE_IN_DOUBT);
    assert_int_equal(sk_block_poll(queue, 0, NULL), SK_ERR_IN_DOUBT);
    assert_true(is_done);
    assert_int_equal(end_status, SK_ERR_IN_DOUBT);
    assert_int_equal(sk_block_recover(device, 0), SK_ERR_IN_DOUBT);
    fake.config.holds = false;
    fake.config.stays = false;
    fake_backend_die(&fake);
    recover_at_last();
    expect_works();
    assert_int_equal(sk_io_buffer_destroy(&buffer), SK_OK);
}

static void test_vhost_user_events__ring_that_cannot_go_on_breaks_the_device(void **state)
{
    (void)state;
    open_disk();
    fake_backend_signal_error(&fake);
    EXPECT_SOON(sk_block_get_state(device) == SK_BLOCK_STATE_BROKEN);
    assert_int_equal(sk_block_recover(device, 0), SK_OK);
    expect_works();
}

/* ---- Events ------------------------------------------------------------------------------ */

static void test_vhost_user_events__capacity_changes_under_the_disk(void **state)
{
    (void)state;
    open_disk();
    for (uint64_t sectors = 100; sectors < 200; sectors += 25) {
        fake.config.capacity_sectors = sectors;
        fake_backend_say(&fake, SKI_VHOST_USER_BACKEND_CONFIG_CHANGE, SKI_VHOST_USER_VERSION, 0, 0,
                         UINT32_MAX);
        EXPECT_SOON(device->info.capacity_sectors == sectors);
        assert_int_equal(sk_block_read(queue, sectors, data, 512, 0), SK_ERR_RANGE);
        expect_works();
    }
    assert_int_equal(fake.answers, 0);
}

static void test_vhost_user_events__change_is_acknowledged_if_asked(void **state)
{
    (void)state;
    open_disk();
    fake_backend_say(&fake, SKI_VHOST_USER_BACKEND_CONFIG_CHANGE,
                     SKI_VHOST_USER_VERSION | SKI_VHOST_USER_NEED_REPLY, 0, 0, UINT32_MAX);
    EXPECT_SOON(fake.answers == 1);
    assert_int_equal(fake.answer, 0);
    expect_works();
}

/* What was not agreed on, and what is no message at all, ends the connection; the next one works. */
static void test_vhost_user_events__anything_else_breaks_the_connection(void **state)
{
    static const struct {
        uint32_t request, flags, bytes, fds, cut;
    } messages[] = {
        { 1, 1, 32, 0, UINT32_MAX }, /* IOTLB */
        { 3, 1, 24, 1, UINT32_MAX }, /* host notifier */
        { 4, 1, 8, 0, UINT32_MAX },  /* in-band call */
        { 99, 1, 0, 0, UINT32_MAX },
        { 2, 1, 8, 0, UINT32_MAX },  /* the change, with a payload */
        { 2, 1, 0, 1, UINT32_MAX },  /* ... with a descriptor */
        { 2, 1, 0, 20, UINT32_MAX },
        { 2, 2, 0, 0, UINT32_MAX },  /* another version */
        { 2, 1, 4000, 0, UINT32_MAX },
        { 2, 1, 0, 0, 5 },           /* a piece, and nothing more */
        { 2, 1, 8, 0, 15 },
    };

    (void)state;
    open_disk();
    for (size_t i = 0; i < sizeof(messages) / sizeof(messages[0]); i++) {
        uint32_t connections = fake.connections;

        fake_backend_say(&fake, messages[i].request, messages[i].flags, messages[i].bytes,
                         messages[i].fds, messages[i].cut);
        EXPECT_SOON(sk_block_get_state(device) == SK_BLOCK_STATE_BROKEN);
        assert_int_equal(sk_block_recover(device, 0), SK_OK);
        assert_int_equal(fake.connections, connections + 1);
        expect_works();
    }
}

static void test_vhost_user_events__storm_of_changes_ends(void **state)
{
    (void)state;
    open_disk();
    for (unsigned i = 0; i < 2000; i++) {
        fake_backend_say(&fake, SKI_VHOST_USER_BACKEND_CONFIG_CHANGE, SKI_VHOST_USER_VERSION, 0, 0,
                         UINT32_MAX);
        if (i % 100 == 0) {
            expect_works();
        }
    }
    expect_works();
}

/* A kick that would block for ever is unblocked, and its back end given up. */
static void test_vhost_user_notify__blocked_event_fd_does_not_hang(void **state)
{
    (void)state;
    options.vhost_user.message_ns = 300 * MS;
    open_disk();
    fake_backend_block_kick(&fake);
    assert_int_not_equal(sk_block_read(queue, 0, data, 512, 0), SK_OK);
    fake.deaf = false;
    recover_at_last();
    expect_works();
}

static void test_vhost_user_config__cache_mode_is_changed_and_read_back(void **state)
{
    (void)state;
    open_disk();
    assert_true(device->info.cache_can_change);
    assert_int_equal(device->info.cache, SK_BLOCK_CACHE_WRITE_BACK);
    assert_int_equal(sk_block_set_cache(queue, SK_BLOCK_CACHE_WRITE_THROUGH, 0), SK_OK);
    assert_int_equal(fake.writeback, 0);
    assert_int_equal(device->info.cache, SK_BLOCK_CACHE_WRITE_THROUGH);
}

/* ---- Event loops ------------------------------------------------------------------------- */

/* Edge or level, the contract is the same: readable, poll until nothing is found, arm until it is so. */
static void test_vhost_user_disk_arm__event_loop_sees_every_completion(void **state)
{
    struct sk_io_buffer buffer = SK_IO_BUFFER_EMPTY;
    struct epoll_event event = { .events = EPOLLIN };
    int loop = epoll_create1(EPOLL_CLOEXEC);

    (void)state;
    open_disk();
    assert_int_equal(sk_io_buffer_create(&buffer, device->domain, 4096, 4096), SK_OK);
    assert_int_equal(epoll_ctl(loop, EPOLL_CTL_ADD, sk_vhost_user_disk_queue_fd(disk, 0), &event),
                     0);
    for (unsigned i = 0; i < 500; i++) {
        struct sk_block_request request;
        struct sk_dma_segment segment;

        submit_one(&request, &buffer, &segment);
        while (!is_done) {
            enum sk_status status = sk_vhost_user_disk_arm(disk, 0);

            if (status == SK_OK) {
                assert_int_equal(epoll_wait(loop, &event, 1, PATIENT_NS / MS), 1);
            } else {
                assert_int_equal(status, SK_ERR_AGAIN);
            }
            assert_int_equal(sk_block_poll(queue, 0, NULL), SK_OK);
        }
        assert_int_equal(end_status, SK_OK);
    }
    fake_backend_let_go(&fake); /* what it had to tell of the last one is told after this */
    while (sk_vhost_user_disk_arm(disk, 0) != SK_OK) {
        assert_int_equal(sk_block_poll(queue, 0, NULL), SK_OK);
    }
    assert_int_equal(epoll_wait(loop, &event, 1, 50), 0); /* idle: nothing is readable */
    assert_int_equal(close(loop), 0);
    assert_int_equal(sk_io_buffer_destroy(&buffer), SK_OK);
}

static void test_vhost_user_disk_arm__death_makes_the_descriptor_readable(void **state)
{
    struct pollfd look;

    (void)state;
    open_disk();
    while (sk_vhost_user_disk_arm(disk, 0) == SK_ERR_AGAIN) {
        assert_int_equal(sk_block_poll(queue, 0, NULL), SK_OK);
    }
    look = (struct pollfd){ .fd = sk_vhost_user_disk_queue_fd(disk, 0), .events = POLLIN };
    fake_backend_die(&fake);
    assert_int_equal(poll(&look, 1, PATIENT_NS / MS), 1);
    assert_int_equal(sk_block_poll(queue, 0, NULL), SK_ERR_BROKEN);
    assert_int_equal(sk_vhost_user_disk_arm(disk, 0), SK_ERR_BROKEN);
}

/* Two transports by hand in one process instance: each its own node, none in the other's way. */
static void test_vhost_user_share_regions__bare_transport(void **state)
{
    struct sk_process *process;
    struct sk_vhost_user *vhost_user;
    const struct sk_interrupt *interrupts;
    size_t count;
    struct sk_vhost_user_options bare = SK_VHOST_USER_OPTIONS_DEFAULT;

    (void)state;
    start_fake();
    assert_int_equal(sk_process_create(NULL, &process), SK_OK);
    bare.queue_count = 3;
    assert_int_equal(sk_vhost_user_open(process, fake.path, &bare, &vhost_user, error), SK_OK);
    interrupts = sk_vhost_user_interrupts(vhost_user, &count);
    assert_int_equal(count, 4);
    assert_int_not_equal(interrupts[0].cells[0], interrupts[1].cells[0]);
    assert_string_equal(sk_vhost_user_transport(vhost_user)->kind, "vhost-user");
    assert_int_equal(sk_process_add_region(process, 1, SK_PROCESS_PAGES_ANY, NULL), SK_OK);
    assert_int_equal(sk_vhost_user_share_regions(vhost_user), SK_OK); /* told when it starts */
    assert_int_equal(fake.regions_told, 0);
    sk_vhost_user_close(vhost_user);
    assert_int_equal(sk_process_destroy(process), SK_OK);
}

static void test_vhost_user_disk_add_region__without_slots_only_at_the_next_start(void **state)
{
    const struct sk_process_region *region;

    (void)state;
    open_disk();
    assert_int_equal(fake.regions_told, 1);
    assert_int_equal(sk_vhost_user_disk_add_region(disk, 1, &region), SK_ERR_UNSUPPORTED);
    expect_works();
    assert_int_equal(sk_block_recover(device, 0), SK_OK);
    assert_int_equal(fake.regions_told, 2);
    expect_works();
    assert_int_equal(sk_process_region_count(sk_vhost_user_disk_process(disk)), 2);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_vhost_user_open__addresses_that_are_none),
        TEST(test_vhost_user_open__sockets_that_are_something_else),
        TEST(test_vhost_user_open__full_listener_ends_by_deadline),
        TEST(test_vhost_user_open__inherited_socket_works_once),
        TEST(test_vhost_user_open__options_are_checked),
        TEST(test_vhost_user_open__without_descriptors_left),
        TEST(test_vhost_user_open__back_ends_that_lack_something),
        TEST(test_vhost_user_open__every_length_of_configuration),
        TEST(test_vhost_user_open__features_that_do_not_fit_are_not_taken),
        TEST(test_vhost_user_open__fewer_queues_than_wanted_will_do),
        TEST(test_vhost_user_open__without_acknowledgements),
        TEST(test_vhost_user_feature_name__known_and_unknown),
        TEST(test_vhost_user_stop__requests_at_work_end_the_connection),
        TEST(test_vhost_user_stop__reset_is_believed),
        TEST(test_vhost_user_stop__back_end_that_stays_is_in_doubt),
        TEST(test_vhost_user_events__ring_that_cannot_go_on_breaks_the_device),
        TEST(test_vhost_user_events__capacity_changes_under_the_disk),
        TEST(test_vhost_user_events__change_is_acknowledged_if_asked),
        TEST(test_vhost_user_events__anything_else_breaks_the_connection),
        TEST(test_vhost_user_events__storm_of_changes_ends),
        TEST(test_vhost_user_notify__blocked_event_fd_does_not_hang),
        TEST(test_vhost_user_config__cache_mode_is_changed_and_read_back),
        TEST(test_vhost_user_disk_arm__event_loop_sees_every_completion),
        TEST(test_vhost_user_disk_arm__death_makes_the_descriptor_readable),
        TEST(test_vhost_user_share_regions__bare_transport),
        TEST(test_vhost_user_disk_add_region__without_slots_only_at_the_next_start),
    };

    return cmocka_run_group_tests_name("vhost_user", tests, NULL, NULL);
}
