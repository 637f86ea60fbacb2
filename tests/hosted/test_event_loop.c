/* SPDX-License-Identifier: MIT */
/* The event loop of README.md, on a disk that works and on one that dies in it. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <skio/skio.h>

#include "descriptors.h"
#include "event_loop.h"
#include "fake_backend.h"
#include "patient.h"

static struct fake_backend fake;
static struct sk_vhost_user_disk *disk;
static struct sk_io_buffer buffer;
static unsigned descriptors;

static int set_up(void **state)
{
    struct sk_vhost_user_disk_options options = SK_VHOST_USER_DISK_OPTIONS_DEFAULT;
    struct fake_backend_config config = FAKE_BACKEND_CONFIG_DEFAULT;
    const struct sk_io_buffer empty = SK_IO_BUFFER_EMPTY;

    (void)state;
    descriptors = descriptors_count();
    buffer = empty;
    fake_backend_start(&fake, &config);
    for (size_t i = 0; i < sizeof(fake.storage); i++) {
        fake.storage[i] = (uint8_t)(i * 31 + i / 256);
    }
    be_patient(&options);
    options.process.log_level = SK_LOG_ERROR;
    if (sk_vhost_user_disk_open(fake.path, &options, &disk, NULL) != SK_OK) {
        return -1;
    }
    return sk_io_buffer_create(&buffer, sk_vhost_user_disk_device(disk)->domain,
                               EVENT_LOOP_COUNT * EVENT_LOOP_BYTES, 4096) == SK_OK
               ? 0
               : -1;
}

static int tear_down(void **state)
{
    bool good = sk_io_buffer_destroy(&buffer) == SK_OK;

    (void)state;
    good = sk_vhost_user_disk_close(disk) == SK_OK && good;
    fake_backend_stop(&fake);
    return good && descriptors_count() == descriptors ? 0 : -1;
}

/* The fake's disk is half as long: the second half of the reads is beyond its end. */
_Static_assert(EVENT_LOOP_COUNT * EVENT_LOOP_BYTES == 2 * FAKE_BACKEND_SECTORS * 512, "sizes");

static void test_event_loop__reads_what_is_there_and_says_what_is_not(void **state)
{
    (void)state;
    assert_int_equal(read_in_event_loop(disk, &buffer), SK_ERR_RANGE);
    assert_memory_equal(sk_io_buffer_data(&buffer), fake.storage, sizeof(fake.storage));
}

static void *die(void *argument)
{
    (void)usleep(50000);
    fake_backend_die(&fake);
    return argument;
}

static void test_event_loop__death_of_the_back_end_ends_it(void **state)
{
    pthread_t thread;

    (void)state;
    fake.config.holds = true;
    assert_int_equal(pthread_create(&thread, NULL, die, NULL), 0);
    assert_int_not_equal(read_in_event_loop(disk, &buffer), SK_OK);
    assert_int_equal(pthread_join(thread, NULL), 0);
    fake.config.holds = false;
    assert_int_equal(sk_block_recover(sk_vhost_user_disk_device(disk), 0), SK_OK);
    assert_int_equal(read_in_event_loop(disk, &buffer), SK_ERR_RANGE);
    assert_memory_equal(sk_io_buffer_data(&buffer), fake.storage, sizeof(fake.storage));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(
            test_event_loop__reads_what_is_there_and_says_what_is_not, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_event_loop__death_of_the_back_end_ends_it, set_up,
                                        tear_down),
    };

    return cmocka_run_group_tests_name("event_loop", tests, NULL, NULL);
}
