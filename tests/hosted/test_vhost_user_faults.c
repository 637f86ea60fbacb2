/* SPDX-License-Identifier: MIT */
/*
 * A back end that does each thing wrong at each of its messages: while it is
 * opened, used, recovered and closed.  Whatever it does, every call ends, with a
 * status and a line for people; nothing is lost of this process; and with the next
 * one that behaves all works again.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <skio/skio.h>
#include <skio_hosted/vhost_user.h>

#include "descriptors.h"
#include "fake_backend.h"

#define MS UINT64_C(1000000)

static struct fake_backend fake;
static bool fake_runs;
static uint8_t data[8192];
static uint8_t back[8192];

static void ignore(void *context, enum sk_log_level level, const char *line)
{
    (void)context;
    (void)level;
    (void)line;
}

/* Silence takes its time, each time. */
static uint64_t message_ns;

static struct sk_vhost_user_disk_options quick(void)
{
    struct sk_vhost_user_disk_options options = SK_VHOST_USER_DISK_OPTIONS_DEFAULT;

    options.driver.queue_count = 2;
    options.driver.queue_size = 16;
    options.driver.timeout_ns = 2000 * MS;
    options.driver.control_timeout_ns = 2000 * MS;
    options.vhost_user.message_ns = message_ns;
    options.vhost_user.reconnect_ns = 400 * MS;
    options.process.write_log = ignore;
    options.memory_bytes = 1 << 20;
    return options;
}

/* What a session with one fault came to. */
struct outcome {
    enum sk_status opened;
    enum sk_status used; /* the first failure of a write, a read, a flush */
    bool recovered;
};

static enum sk_status use(struct sk_vhost_user_disk *disk)
{
    struct sk_block_queue *queue = sk_block_get_queue(sk_vhost_user_disk_device(disk), 0);
    enum sk_status status = sk_block_write(queue, 8, data, sizeof(data), 0);

    if (status == SK_OK) {
        status = sk_block_flush(queue, 0);
    }
    if (status == SK_OK) {
        memset(back, 0, sizeof(back));
        status = sk_block_read(queue, 8, back, sizeof(back), 0);
    }
    if (status == SK_OK) {
        assert_memory_equal(back, data, sizeof(data));
    }
    return status;
}

/* Opens, uses, recovers (with a back end that behaves if the first try did not do), closes. */
static struct outcome session(void)
{
    struct sk_vhost_user_disk_options options = quick();
    struct sk_vhost_user_disk *disk;
    char error[SK_VHOST_USER_ERROR_BYTES];
    struct outcome outcome = { .recovered = true };

    outcome.opened = sk_vhost_user_disk_open(fake.path, &options, &disk, error);
    if (outcome.opened != SK_OK) {
        assert_null(disk);
        assert_non_null(strstr(error, fake.path));
        assert_true(strlen(error) > strlen(fake.path) + 10);
        return outcome;
    }
    assert_string_equal(error, "");
    outcome.used = use(disk);
    if (sk_block_recover(sk_vhost_user_disk_device(disk), 0) != SK_OK) {
        fake_backend_behave(&fake);
        outcome.recovered = false;
        assert_int_equal(sk_block_recover(sk_vhost_user_disk_device(disk), 0), SK_OK);
    }
    if (use(disk) != SK_OK) { /* a byte too many after the last answer is found late */
        fake_backend_behave(&fake);
        outcome.recovered = false;
        assert_int_equal(sk_block_recover(sk_vhost_user_disk_device(disk), 0), SK_OK);
        assert_int_equal(use(disk), SK_OK);
    }
    assert_int_equal(sk_vhost_user_disk_close(disk), SK_OK);
    return outcome;
}

/* Every message of a session, until the fault comes too late to happen; how many there were. */
static unsigned sweep(enum fake_backend_fault fault, uint64_t protocol, bool shall_work)
{
    struct fake_backend_config config = FAKE_BACKEND_CONFIG_DEFAULT;
    unsigned boundaries = 0;
    unsigned refused = 0;

    config.protocol |= protocol;
    message_ns = fault == FAKE_BACKEND_ANSWERS_NOT ? 100 * MS : 2000 * MS;
    for (;;) {
        unsigned descriptors = descriptors_count();
        struct outcome outcome;
        bool unharmed;
        bool fired;

        fake_backend_start(&fake, &config);
        fake_runs = true;
        fake_backend_arm(&fake, fault, boundaries);
        outcome = session();
        fired = fake.fired > 0;
        fake_backend_stop(&fake);
        fake_runs = false;
        assert_int_equal(descriptors_count(), descriptors);
        unharmed = outcome.opened == SK_OK && outcome.used == SK_OK && outcome.recovered;
        assert_true(!shall_work || unharmed);
        if (!fired && unharmed) {
            break;
        }
        /* On a machine that is busy silence may be its own: again, then. */
        assert_true(fired || fault == FAKE_BACKEND_ANSWERS_NOT);
        boundaries += fired;
        refused += fired && outcome.opened != SK_OK;
    }
    assert_true(boundaries > 40);
    assert_true(shall_work || refused > 0);
    return boundaries;
}

/*
 * As many messages, whatever goes wrong at one of them: none is left out.  (A
 * status is asked for once more or less, by the thread that comes first.)
 */
static void sweep_all(uint64_t protocol)
{
    unsigned boundaries = sweep(FAKE_BACKEND_ANSWERS_IN_PIECES, protocol, true);

    for (int fault = 0; fault < FAKE_BACKEND_FAULT_COUNT; fault++) {
        if (fault != FAKE_BACKEND_ANSWERS_IN_PIECES) {
            unsigned count = sweep((enum fake_backend_fault)fault, protocol, false);

            assert_in_range(count, boundaries - 2, boundaries + 2);
        }
    }
    print_message("%u message boundaries, %d faults\n", boundaries, FAKE_BACKEND_FAULT_COUNT);
}

static void test_vhost_user_faults__every_fault_at_every_message(void **state)
{
    (void)state;
    sweep_all(0);
}

static void test_vhost_user_faults__with_status_reset_and_slots(void **state)
{
    (void)state;
    sweep_all(FAKE_BACKEND_STATUS | FAKE_BACKEND_RESET_DEVICE | FAKE_BACKEND_SLOTS);
}

static void test_vhost_user_faults__with_inflight(void **state)
{
    (void)state;
    sweep_all(FAKE_BACKEND_INFLIGHT);
}

/* After a test that failed. */
static int tear_down(void **state)
{
    (void)state;
    if (fake_runs) {
        fake_backend_stop(&fake);
    }
    fake_runs = false;
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_vhost_user_faults__every_fault_at_every_message, tear_down),
        cmocka_unit_test_teardown(test_vhost_user_faults__with_status_reset_and_slots, tear_down),
        cmocka_unit_test_teardown(test_vhost_user_faults__with_inflight, tear_down),
    };

    for (size_t i = 0; i < sizeof(data); i++) {
        data[i] = (uint8_t)(i * 11 + i / 256);
    }
    return cmocka_run_group_tests_name("vhost_user_faults", tests, NULL, NULL);
}
