/* SPDX-License-Identifier: MIT */
/*
 * Back ends that keep book of requests in flight: one that dies is followed by
 * the next, and the driver sees a delay.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <skio/skio.h>
#include <skio_hosted/vhost_user.h>

#include "descriptors.h"
#include "fake_backend.h"
#include "patient.h"

#define MS UINT64_C(1000000)

static struct fake_backend fake;
static struct fake_backend_config config;
static struct sk_vhost_user_disk_options options;
static struct sk_vhost_user_disk *disk;
static struct sk_block_device *device;
static struct sk_block_queue *queue;
static unsigned descriptors;
static char last_error[SK_LOG_LINE_BYTES];
static uint8_t data[4096];

static void keep_errors(void *context, enum sk_log_level level, const char *line)
{
    (void)context;
    if (level == SK_LOG_ERROR && strncmp(line, "vhost-user", 10) == 0) {
        (void)snprintf(last_error, sizeof(last_error), "%s", line);
    }
}

static int set_up(void **state)
{
    const struct fake_backend_config defaults = FAKE_BACKEND_CONFIG_DEFAULT;
    const struct sk_vhost_user_disk_options default_options = SK_VHOST_USER_DISK_OPTIONS_DEFAULT;

    (void)state;
    descriptors = descriptors_count();
    config = defaults;
    config.protocol |= FAKE_BACKEND_INFLIGHT;
    options = default_options;
    options.driver.queue_size = 16;
    be_patient(&options);
    options.process.write_log = keep_errors;
    options.memory_bytes = 1 << 20;
    disk = NULL;
    last_error[0] = '\0';
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    if (sk_vhost_user_disk_close(disk) != SK_OK) {
        return -1;
    }
    fake_backend_stop(&fake);
    return descriptors_count() == descriptors ? 0 : -1;
}

/* With a short time for answers one that behaves may be too slow, on a machine that is busy. */
static bool is_impatient(void)
{
    return options.driver.timeout_ns < PATIENT_NS || options.vhost_user.message_ns < PATIENT_NS;
}

static void open_disk(void)
{
    char error[SK_VHOST_USER_ERROR_BYTES];
    enum sk_status status;

    fake_backend_start(&fake, &config);
    status = sk_vhost_user_disk_open(fake.path, &options, &disk, error);
    for (unsigned i = 0; i < 1000 && status != SK_OK && is_impatient(); i++) {
        status = sk_vhost_user_disk_open(fake.path, &options, &disk, error);
    }
    if (status != SK_OK) {
        fail_msg("%s", error);
    }
    device = sk_vhost_user_disk_device(disk);
    queue = sk_block_get_queue(device, 0);
}

static struct sk_vhost_user_info info(void)
{
    struct sk_vhost_user_info result;

    sk_vhost_user_get_info(sk_vhost_user_disk_transport(disk), &result);
    return result;
}

static enum sk_status use(void)
{
    static uint8_t back[sizeof(data)];
    enum sk_status status;

    for (size_t i = 0; i < sizeof(data); i++) {
        data[i] = (uint8_t)(data[i] * 5 + i + 1);
    }
    status = sk_block_write(queue, 8, data, sizeof(data), 0);
    if (status == SK_OK) {
        status = sk_block_read(queue, 8, back, sizeof(back), 0);
    }
    if (status == SK_OK) {
        assert_memory_equal(back, data, sizeof(data));
    }
    return status;
}

static uint64_t now(void)
{
    return device->platform->now_ns(device->platform->context);
}

/* Until the next back end is at work, or none will be. */
static void settle(void)
{
    for (unsigned i = 0; i < PATIENT_NS / MS && !info().connected; i++) {
        (void)usleep(1000);
    }
}

static void recover_and_use(void)
{
    enum sk_status status = sk_block_recover(device, 0);

    status = status == SK_OK ? use() : status;
    for (unsigned i = 0; i < 1000 && status != SK_OK && is_impatient(); i++) {
        status = sk_block_recover(device, 0);
        status = status == SK_OK ? use() : status;
    }
    assert_int_equal(status, SK_OK);
}

/* ---- A delay, and nothing more ----------------------------------------------------------- */

static void test_vhost_user_resume__death_between_requests_is_not_seen(void **state)
{
    (void)state;
    open_disk();
    assert_true(info().resumes);
    for (uint32_t i = 1; i <= 20; i++) {
        assert_int_equal(use(), SK_OK);
        fake_backend_die(&fake);
        assert_int_equal(use(), SK_OK);
        assert_int_equal(info().reconnects, i);
        assert_int_equal(fake.connections, 1 + i);
        /* The base is what was used: the identity, and two requests a round; one round before, one after. */
        assert_int_equal(fake.last_base, 1 + (i - 1) * 4 + 2);
    }
    assert_int_equal(queue->statistics.recoveries, 0);
    assert_string_equal(last_error, "");
}

static _Atomic bool killing;

static void *kill_often(void *argument)
{
    unsigned random = 12345;

    while (killing) {
        random = random * 1103515245 + 12345;
        (void)usleep(random / 65536 % 8000);
        fake_backend_die(&fake);
    }
    return argument;
}

static void test_vhost_user_resume__death_at_random_moments_is_not_seen(void **state)
{
    pthread_t thread;
    uint64_t start;

    (void)state;
    open_disk();
    killing = true;
    assert_int_equal(pthread_create(&thread, NULL, kill_often, NULL), 0);
    start = now();
    while (info().reconnects < 100 && now() - start < 4 * PATIENT_NS) {
        assert_int_equal(use(), SK_OK);
    }
    killing = false;
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_true(info().reconnects >= 100);
    assert_int_equal(use(), SK_OK);
    assert_int_equal(queue->statistics.recoveries, 0);
}

static void *return_later(void *argument)
{
    (void)usleep(300000);
    fake_backend_return(&fake);
    return argument;
}

static void test_vhost_user_resume__request_waits_for_the_next_back_end(void **state)
{
    pthread_t thread;
    uint64_t start;

    (void)state;
    open_disk();
    assert_int_equal(use(), SK_OK);
    fake_backend_leave(&fake);
    start = now();
    assert_int_equal(pthread_create(&thread, NULL, return_later, NULL), 0);
    assert_int_equal(use(), SK_OK);
    assert_true(now() - start >= 290 * MS);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(info().reconnects, 1);
}

/* What was finished just before, and not told, is found after. */
static void *die_after_the_next(void *argument)
{
    const uint32_t *before = argument;

    while (fake.requests == *before) {
        (void)usleep(1000);
    }
    fake_backend_die(&fake);
    return argument;
}

static void test_vhost_user_resume__untold_completion_is_found(void **state)
{
    uint32_t before;
    pthread_t thread;

    (void)state;
    open_disk();
    fake.config.mute = true;
    before = fake.requests;
    assert_int_equal(pthread_create(&thread, NULL, die_after_the_next, &before), 0);
    assert_int_equal(sk_block_read(queue, 0, data, 512, 0), SK_OK); /* sleeps: nobody calls */
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(info().reconnects, 1);
}

static void test_vhost_user_resume__cache_mode_is_set_again(void **state)
{
    (void)state;
    open_disk();
    assert_int_equal(sk_block_set_cache(queue, SK_BLOCK_CACHE_WRITE_THROUGH, 0), SK_OK);
    assert_int_equal(fake.writeback, 0);
    fake_backend_leave(&fake);
    fake.writeback = 1; /* what the next one begins with */
    fake_backend_return(&fake);
    assert_int_equal(use(), SK_OK);
    assert_int_equal(info().reconnects, 1);
    assert_int_equal(fake.writeback, 0);
}

static void test_vhost_user_resume__status_is_said_again(void **state)
{
    (void)state;
    config.protocol |= FAKE_BACKEND_STATUS;
    open_disk();
    assert_int_equal(fake.status, 0xf);
    fake_backend_leave(&fake);
    fake.status = 0;
    fake_backend_return(&fake);
    assert_int_equal(use(), SK_OK);
    settle();
    assert_int_equal(fake.status, 0xf);
}

/* ---- No next one, or another ------------------------------------------------------------- */

static void test_vhost_user_resume__nobody_comes_back_in_time(void **state)
{
    uint64_t start;

    (void)state;
    options.vhost_user.reconnect_ns = 300 * MS;
    open_disk();
    fake_backend_leave(&fake);
    start = now();
    assert_int_not_equal(use(), SK_OK);
    assert_true(now() - start >= 290 * MS);
    assert_int_equal(sk_block_get_state(device), SK_BLOCK_STATE_BROKEN);
    assert_non_null(strstr(last_error, "no back end came back in time"));
    fake_backend_return(&fake);
    recover_and_use();
    assert_true(info().resumes);
}

/* Another disk is refused at once; a recovery looks at it afresh. */
static void expect_refused(const char *text)
{
    assert_int_not_equal(use(), SK_OK);
    assert_int_equal(sk_block_get_state(device), SK_BLOCK_STATE_BROKEN);
    assert_non_null(strstr(last_error, text));
    assert_int_equal(info().reconnects, 0);
}

static void test_vhost_user_resume__another_capacity_is_refused(void **state)
{
    (void)state;
    open_disk();
    fake_backend_leave(&fake);
    fake.config.capacity_sectors = 100;
    fake_backend_return(&fake);
    expect_refused("another configuration");
    assert_int_equal(sk_block_recover(device, 0), SK_OK); /* whose choice it is */
    assert_int_equal(use(), SK_OK);
    assert_int_equal(device->info.capacity_sectors, 100);
}

static void test_vhost_user_resume__shorter_configuration_is_refused(void **state)
{
    (void)state;
    open_disk();
    fake_backend_leave(&fake);
    fake.config.config_bytes = 40;
    fake_backend_return(&fake);
    expect_refused("another configuration");
}

static void test_vhost_user_resume__lost_feature_is_refused(void **state)
{
    (void)state;
    open_disk();
    fake_backend_leave(&fake);
    fake.config.features &= ~(UINT64_C(1) << 9);
    fake_backend_return(&fake);
    expect_refused("another set of virtio features");
}

static void test_vhost_user_resume__lost_protocol_feature_is_refused(void **state)
{
    (void)state;
    open_disk();
    fake_backend_leave(&fake);
    fake.config.protocol &= ~FAKE_BACKEND_INFLIGHT;
    fake_backend_return(&fake);
    expect_refused("another set of protocol features");
}

static void test_vhost_user_resume__fewer_queues_are_refused(void **state)
{
    (void)state;
    open_disk();
    fake_backend_leave(&fake);
    fake.config.queue_count = 1;
    fake_backend_return(&fake);
    expect_refused("another set of number of queues");
}

/* More than it needs does not matter. */
static void test_vhost_user_resume__more_features_are_taken(void **state)
{
    (void)state;
    open_disk();
    fake_backend_leave(&fake);
    fake.config.features |= UINT64_C(1) << 13;
    fake.config.protocol |= FAKE_BACKEND_RESET_DEVICE;
    fake_backend_return(&fake);
    assert_int_equal(use(), SK_OK);
    assert_int_equal(info().reconnects, 1);
    assert_false(info().protocol_features & FAKE_BACKEND_RESET_DEVICE);
}

/* ---- Stopping meanwhile ------------------------------------------------------------------ */

/* Nobody waits for a back end whose disk is closed, removed or reset. */
static void test_vhost_user_resume__stop_does_not_wait(void **state)
{
    uint64_t start;

    (void)state;
    options.vhost_user.reconnect_ns = 10 * PATIENT_NS;
    options.driver.control_timeout_ns = 10 * PATIENT_NS;
    open_disk();
    fake_backend_leave(&fake);
    for (unsigned i = 0; i < PATIENT_NS / MS && info().connected; i++) {
        (void)usleep(1000);
    }
    start = now();
    sk_block_stop(device, SK_ERR_IO);
    assert_int_equal(sk_block_get_state(device), SK_BLOCK_STATE_BROKEN);
    assert_true(now() - start < PATIENT_NS);
    assert_int_equal(sk_vhost_user_disk_close(disk), SK_OK);
    disk = NULL;
}

static void test_vhost_user_resume__timeout_of_a_request_ends_the_waiting(void **state)
{
    (void)state;
    options.driver.timeout_ns = 300 * MS;
    open_disk();
    fake_backend_leave(&fake);
    assert_int_equal(use(), SK_ERR_TIMEOUT);
    assert_int_equal(sk_block_get_state(device), SK_BLOCK_STATE_BROKEN);
    fake_backend_return(&fake);
    recover_and_use();
}

/* ---- Every message of a resumption ------------------------------------------------------- */

/* Dies, and does `fault` at message `at` of what follows; the use that comes of it. */
static enum sk_status die_and_use(enum fake_backend_fault fault, uint32_t at)
{
    enum sk_status status;

    fake_backend_leave(&fake);
    fake_backend_arm(&fake, fault, at);
    fake_backend_return(&fake);
    status = use();
    fake_backend_behave(&fake);
    return status;
}

static void test_vhost_user_resume__death_at_every_message_is_not_seen(void **state)
{
    (void)state;
    open_disk();
    for (int fault = FAKE_BACKEND_DIES_BEFORE; fault <= FAKE_BACKEND_DIES_IN_ANSWER; fault++) {
        uint32_t at = 0;

        do {
            assert_int_equal(die_and_use((enum fake_backend_fault)fault, at), SK_OK);
            settle();
            at++;
        } while (fake.fired > 0 && at < 100);
        assert_in_range(at, 15, 40);
    }
    assert_int_equal(queue->statistics.recoveries, 0);
}

static void test_vhost_user_resume__every_fault_at_every_message(void **state)
{
    (void)state;
    for (int fault = FAKE_BACKEND_ANSWERS_NOT; fault < FAKE_BACKEND_FAULT_COUNT; fault++) {
        unsigned open;
        uint32_t at = 0;
        bool unharmed;

        /* Silence takes its time, each time. */
        options.vhost_user.message_ns = fault == FAKE_BACKEND_ANSWERS_NOT ? 50 * MS : PATIENT_NS;
        open_disk();
        if (die_and_use((enum fake_backend_fault)fault, 1000) != SK_OK) {
            assert_true(is_impatient());
            recover_and_use();
        }
        settle();
        open = descriptors_count();
        do {
            unharmed = die_and_use((enum fake_backend_fault)fault, at) == SK_OK;
            if (!unharmed) {
                recover_and_use();
            }
            (void)usleep(2000);
            if (!info().connected) { /* half a close is noticed after the request went well */
                recover_and_use();
            }
            for (unsigned i = 0; i < PATIENT_NS / MS && descriptors_count() != open; i++) {
                (void)usleep(1000); /* the fake's end of what was closed here */
            }
            assert_int_equal(descriptors_count(), open);
            /* On a machine that is busy silence may be its own: again, then. */
            at += unharmed || fake.fired > 0;
        } while ((fake.fired > 0 || !unharmed) && at < 100);
        assert_in_range(at, 15, 60);
        assert_int_equal(sk_vhost_user_disk_close(disk), SK_OK);
        disk = NULL;
        fake_backend_stop(&fake);
    }
    open_disk();
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_vhost_user_resume__death_between_requests_is_not_seen),
        TEST(test_vhost_user_resume__death_at_random_moments_is_not_seen),
        TEST(test_vhost_user_resume__request_waits_for_the_next_back_end),
        TEST(test_vhost_user_resume__untold_completion_is_found),
        TEST(test_vhost_user_resume__cache_mode_is_set_again),
        TEST(test_vhost_user_resume__status_is_said_again),
        TEST(test_vhost_user_resume__nobody_comes_back_in_time),
        TEST(test_vhost_user_resume__another_capacity_is_refused),
        TEST(test_vhost_user_resume__shorter_configuration_is_refused),
        TEST(test_vhost_user_resume__lost_feature_is_refused),
        TEST(test_vhost_user_resume__lost_protocol_feature_is_refused),
        TEST(test_vhost_user_resume__fewer_queues_are_refused),
        TEST(test_vhost_user_resume__more_features_are_taken),
        TEST(test_vhost_user_resume__stop_does_not_wait),
        TEST(test_vhost_user_resume__timeout_of_a_request_ends_the_waiting),
        TEST(test_vhost_user_resume__death_at_every_message_is_not_seen),
        TEST(test_vhost_user_resume__every_fault_at_every_message),
    };

    return cmocka_run_group_tests_name("vhost_user_resume", tests, NULL, NULL);
}
