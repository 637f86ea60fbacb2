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
#include "patient.h"

#define MS       UINT64_C(1000000)
#define SHORT_NS (30 * MS)

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

/*
 * How long an answer is waited for.  Silence takes this time, each time; when
 * it is short, one that behaves may be too slow on a machine that is busy.
 */
static uint64_t message_ns;

static struct sk_vhost_user_disk_options quick(void)
{
    struct sk_vhost_user_disk_options options = SK_VHOST_USER_DISK_OPTIONS_DEFAULT;

    options.driver.queue_count = 2;
    options.driver.queue_size = 16;
    be_patient(&options);
    options.vhost_user.message_ns = message_ns;
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

/* With a back end that behaves from now on. */
static void recover_and_use(struct sk_vhost_user_disk *disk)
{
    enum sk_status status = SK_ERR_BROKEN;

    fake_backend_behave(&fake);
    for (unsigned i = 0; status != SK_OK && i < (message_ns >= PATIENT_NS ? 1u : 1000u); i++) {
        status = sk_block_recover(sk_vhost_user_disk_device(disk), 0);
        status = status == SK_OK ? use(disk) : status;
    }
    assert_int_equal(status, SK_OK);
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
        outcome.recovered = false;
        recover_and_use(disk);
    }
    if (use(disk) != SK_OK) { /* a byte too many after the last answer is found late */
        outcome.recovered = false;
        recover_and_use(disk);
    }
    assert_int_equal(sk_vhost_user_disk_close(disk), SK_OK);
    return outcome;
}

/* One session with a fault at a message; true if it came to that. */
static bool session_with(const struct fake_backend_config *config, enum fake_backend_fault fault,
                         uint32_t at, struct outcome *out_outcome)
{
    unsigned descriptors = descriptors_count();
    bool fired;

    fake_backend_start(&fake, config);
    fake_runs = true;
    fake_backend_arm(&fake, fault, at);
    *out_outcome = session();
    fired = fake.fired > 0;
    fake_backend_stop(&fake);
    fake_runs = false;
    assert_int_equal(descriptors_count(), descriptors);
    return fired;
}

/* A status is asked for once more or less, by the thread that comes first. */
#define MORE_OR_LESS 2u

/*
 * Every message of a session, until the fault comes too late to happen; how many there were.
 * `expected`: how many there should be; 0: unknown, but no session may be harmed.
 */
static unsigned sweep(enum fake_backend_fault fault, uint64_t protocol, unsigned expected)
{
    struct fake_backend_config config = FAKE_BACKEND_CONFIG_DEFAULT;
    unsigned boundaries = 0;
    unsigned refused = 0;

    config.protocol |= protocol;
    message_ns = fault == FAKE_BACKEND_ANSWERS_NOT ? SHORT_NS : PATIENT_NS;
    for (;;) {
        struct outcome outcome;
        bool fired = session_with(&config, fault, boundaries, &outcome);
        bool unharmed = outcome.opened == SK_OK && outcome.used == SK_OK && outcome.recovered;

        assert_true(expected != 0 || unharmed);
        if (!fired && unharmed) {
            break;
        }
        if (!fired || (expected != 0 && boundaries >= expected + MORE_OR_LESS)) {
            /* Harmed without the fault, or longer than others: a busy machine's own silence. */
            assert_true(message_ns < PATIENT_NS);
            message_ns *= 2;
            continue;
        }
        boundaries++;
        refused += outcome.opened != SK_OK;
    }
    assert_true(boundaries > 40);
    assert_true(expected == 0 || refused > 0);
    return boundaries;
}

/* As many messages, whatever goes wrong at one of them: none is left out. */
static void sweep_all(uint64_t protocol)
{
    unsigned boundaries = sweep(FAKE_BACKEND_ANSWERS_IN_PIECES, protocol, 0);

    for (int fault = 0; fault < FAKE_BACKEND_FAULT_COUNT; fault++) {
        if (fault != FAKE_BACKEND_ANSWERS_IN_PIECES) {
            unsigned count = sweep((enum fake_backend_fault)fault, protocol, boundaries);

            assert_in_range(count, boundaries - MORE_OR_LESS, boundaries + MORE_OR_LESS);
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
