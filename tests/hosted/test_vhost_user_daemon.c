/* SPDX-License-Identifier: MIT */
/*
 * A disk over vhost-user behind qemu-storage-daemon: what is written stands in
 * the image, what stands there is read, and the daemon may die and come back.
 */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <skio/skio.h>
#include <skio_hosted/vhost_user.h>

#include "daemon.h"
#include "descriptors.h"
#include "patient.h"

#define MIB    (UINT64_C(1) << 20)
#define BYTES  (8 * MIB)
#define CHUNK  (UINT64_C(1) << 18)
#define SECOND UINT64_C(1000000000)

static struct daemon daemon_process;
static struct sk_vhost_user_disk *disk;
static struct sk_block_device *device;
static struct sk_block_queue *queue;
static unsigned descriptors;
static uint8_t *memory; /* BYTES on the heap */
static uint8_t *image;  /* BYTES, as the image has them */

static struct sk_vhost_user_disk_options options(void)
{
    struct sk_vhost_user_disk_options result = SK_VHOST_USER_DISK_OPTIONS_DEFAULT;

    be_patient(&result);
    return result;
}

/* NULL: the usual options. */
static void open_disk(const struct sk_vhost_user_disk_options *with)
{
    const struct sk_vhost_user_disk_options usual = options();
    char error[SK_VHOST_USER_ERROR_BYTES];

    with = with == NULL ? &usual : with;
    if (sk_vhost_user_disk_open(daemon_process.socket, with, &disk, error) != SK_OK) {
        fail_msg("%s", error);
    }
    assert_string_equal(error, "");
    device = sk_vhost_user_disk_device(disk);
    queue = sk_block_get_queue(device, 0);
}

static int set_up(void **state)
{
    (void)state;
    descriptors = descriptors_count();
    daemon_init(&daemon_process, BYTES);
    strcpy(daemon_process.export_options, ",writable=on,num-queues=2");
    memory = malloc(BYTES);
    image = malloc(BYTES);
    disk = NULL;
    return memory == NULL || image == NULL ? -1 : 0;
}

static int tear_down(void **state)
{
    (void)state;
    if (sk_vhost_user_disk_close(disk) != SK_OK) {
        return -1;
    }
    daemon_deinit(&daemon_process);
    free(memory);
    free(image);
    return descriptors_count() == descriptors ? 0 : -1;
}

static void read_all(void)
{
    for (uint64_t at = 0; at < BYTES; at += CHUNK) {
        assert_int_equal(sk_block_read(queue, at / 512, memory + at, CHUNK, 0), SK_OK);
    }
}

static void write_all(void)
{
    for (uint64_t at = 0; at < BYTES; at += CHUNK) {
        assert_int_equal(sk_block_write(queue, at / 512, memory + at, CHUNK, 0), SK_OK);
    }
}

static void fill(uint8_t seed)
{
    for (uint64_t i = 0; i < BYTES; i++) {
        memory[i] = (uint8_t)(daemon_byte(i * 3) ^ seed);
    }
}

static void expect_image_is_memory(void)
{
    daemon_read_image(&daemon_process, 0, image, BYTES);
    assert_memory_equal(image, memory, BYTES);
}

static void test_vhost_user_daemon__disk_is_described(void **state)
{
    struct sk_block_info info;
    struct sk_vhost_user_info connection;

    (void)state;
    daemon_start(&daemon_process);
    open_disk(NULL);
    sk_block_get_info(device, &info);
    assert_string_equal(info.transport, "vhost-user");
    assert_int_equal(info.capacity_sectors, BYTES / 512);
    assert_false(info.read_only);
    assert_true(info.features & SK_VIRTIO_FEATURE(SK_VIRTIO_F_VERSION_1));
    assert_false(info.features_offered & SK_VIRTIO_FEATURE(30)); /* the protocol's own */
    sk_vhost_user_get_info(sk_vhost_user_disk_transport(disk), &connection);
    assert_true(connection.connected);
    assert_false(connection.resumes); /* the daemon keeps no book of requests in flight */
    assert_int_equal(connection.queue_count_max, 2);
    assert_int_equal(connection.reconnects, 0);
}

static void test_vhost_user_daemon__reads_what_the_image_has(void **state)
{
    (void)state;
    daemon_start(&daemon_process);
    open_disk(NULL);
    read_all();
    for (uint64_t i = 0; i < BYTES; i++) {
        if (memory[i] != daemon_byte(i)) {
            fail_msg("byte %llu", (unsigned long long)i);
        }
    }
}

static void test_vhost_user_daemon__image_has_what_was_written(void **state)
{
    (void)state;
    daemon_start(&daemon_process);
    open_disk(NULL);
    fill(0x35);
    write_all();
    assert_int_equal(sk_block_flush(queue, 0), SK_OK);
    expect_image_is_memory();
    memset(memory, 0, BYTES);
    read_all();
    expect_image_is_memory();
}

static void test_vhost_user_daemon__discarded_and_zeroed_sectors_are_zero(void **state)
{
    static const uint8_t zeroes[4096];

    (void)state;
    daemon_start(&daemon_process);
    open_disk(NULL);
    assert_int_equal(sk_block_clear(queue, SK_BLOCK_DISCARD, 2048, 2048, 0, 0), SK_OK);
    assert_int_equal(sk_block_clear(queue, SK_BLOCK_WRITE_ZEROES, 8192, 8, SK_BLOCK_FLAG_UNMAP, 0),
                     SK_OK);
    assert_int_equal(sk_block_flush(queue, 0), SK_OK);
    daemon_read_image(&daemon_process, 0, image, BYTES);
    for (uint64_t at = 0; at < BYTES; at += 4096) {
        uint64_t sector = at / 512;
        bool cleared = (sector >= 2048 && sector < 4096) || sector == 8192;

        assert_int_equal(memcmp(image + at, zeroes, 4096) == 0, cleared);
    }
}

static void test_vhost_user_daemon__read_only_disk_says_so(void **state)
{
    (void)state;
    strcpy(daemon_process.export_options, "");
    daemon_start(&daemon_process);
    open_disk(NULL);
    assert_true(device->info.read_only);
    assert_int_equal(sk_block_write(queue, 0, memory, 512, 0), SK_ERR_READ_ONLY);
    assert_int_equal(sk_block_read(queue, 0, memory, 512, 0), SK_OK);
}

/* ---- Many requests, many regions --------------------------------------------------------- */

#define DEPTH 64u

struct run {
    struct sk_block_queue *queue;
    struct sk_io_buffer buffer;
    struct sk_block_request requests[DEPTH];
    struct sk_dma_segment segments[DEPTH];
    uint32_t left;
    uint32_t failed;
    enum sk_status status; /* of the last that failed */
};

static void done(struct sk_block_request *request)
{
    struct run *run = request->context;

    run->left--;
    if (request->status != SK_OK) {
        run->failed++;
        run->status = request->status;
    }
}

/* DEPTH requests of 4 KiB from `sector` on, submitted at once. */
static void submit(struct run *run, enum sk_block_operation operation, uint64_t sector)
{
    struct sk_block_request *batch[DEPTH];

    for (uint32_t i = 0; i < DEPTH; i++) {
        assert_int_equal(sk_io_buffer_segment(&run->buffer, i * 4096, 4096, &run->segments[i]),
                         SK_OK);
        run->requests[i] = (struct sk_block_request){ .operation = operation,
                                                      .sector = sector + i * 8,
                                                      .segments = &run->segments[i],
                                                      .segment_count = 1,
                                                      .complete = done,
                                                      .context = run };
        batch[i] = &run->requests[i];
    }
    run->left = DEPTH;
    run->failed = 0;
    sk_block_submit(run->queue, batch, DEPTH);
}

/* Until all are done, or the device is stopped; false: it takes too long. */
static bool finish(struct run *run, bool sleeps)
{
    const struct sk_platform *platform = device->platform;
    uint64_t deadline = platform->now_ns(platform->context) + PATIENT_NS;

    while (run->left > 0 && platform->now_ns(platform->context) < deadline) {
        if (sk_block_poll(run->queue, 0, NULL) == SK_OK && run->left > 0 && sleeps) {
            if (sk_block_wait(run->queue, deadline) != SK_OK) {
                break;
            }
        }
    }
    return run->left == 0;
}

static void run_init(struct run *run, uint32_t index, struct sk_dma_domain *domain)
{
    memset(run, 0, sizeof(*run));
    run->queue = sk_block_get_queue(device, index);
    assert_non_null(run->queue);
    assert_int_equal(sk_io_buffer_create(&run->buffer, domain, DEPTH * 4096, 4096), SK_OK);
}

static void expect_place(const struct run *run, uint64_t sector)
{
    const uint8_t *data = sk_io_buffer_data(&run->buffer);

    for (uint64_t i = 0; i < DEPTH * 4096; i++) {
        if (data[i] != daemon_byte(sector * 512 + i)) {
            fail_msg("sector %llu: byte %llu", (unsigned long long)sector, (unsigned long long)i);
        }
    }
}

#define ROUNDS 200u

static uint64_t sector_of(const struct run *run, unsigned round)
{
    return run->queue->index * (BYTES / 1024) + round % 16 * DEPTH * 8;
}

static void *drive(void *argument)
{
    struct run *run = argument;
    unsigned round = 0;

    while (round < ROUNDS) {
        submit(run, SK_BLOCK_READ, sector_of(run, round));
        if (!finish(run, round % 2 == 0) || run->failed != 0) {
            return NULL;
        }
        /* A daemon that was always quicker than the first look let nobody sleep: on, then. */
        round += round + 1 < ROUNDS || run->queue->statistics.waits > 0;
    }
    return run;
}

static void test_vhost_user_daemon__two_queues_in_two_threads(void **state)
{
    struct sk_vhost_user_disk_options with = options();
    struct run runs[2];
    pthread_t threads[2];
    void *result;

    (void)state;
    with.driver.queue_count = 2;
    daemon_start(&daemon_process);
    open_disk(&with);
    assert_int_equal(device->info.queue_count, 2);
    for (uint32_t i = 0; i < 2; i++) {
        run_init(&runs[i], i, device->domain);
    }
    for (uint32_t i = 0; i < 2; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, drive, &runs[i]), 0);
    }
    for (uint32_t i = 0; i < 2; i++) {
        assert_int_equal(pthread_join(threads[i], &result), 0);
        assert_ptr_equal(result, &runs[i]);
        expect_place(&runs[i], sector_of(&runs[i], ROUNDS - 1));
        assert_true(runs[i].queue->statistics.waits > 0);
        assert_int_equal(sk_io_buffer_destroy(&runs[i].buffer), SK_OK);
    }
}

static void test_vhost_user_daemon__regions_are_added_at_work(void **state)
{
    struct run first;

    (void)state;
    daemon_start(&daemon_process);
    open_disk(NULL);
    run_init(&first, 0, device->domain);
    for (unsigned i = 0; i < 20; i++) { /* with the first, more than a memory table holds */
        const struct sk_process_region *region;
        struct run run;

        submit(&first, SK_BLOCK_READ, 0);
        assert_int_equal(sk_vhost_user_disk_add_region(disk, MIB, &region), SK_OK);
        run_init(&run, 0, region->domain);
        submit(&run, SK_BLOCK_READ, i * 128);
        assert_true(finish(&run, true));
        assert_int_equal(run.failed, 0);
        expect_place(&run, i * 128);
        assert_true(finish(&first, true));
        assert_int_equal(first.failed, 0);
        assert_int_equal(sk_io_buffer_destroy(&run.buffer), SK_OK);
    }
    /* All of them again, as a device that starts has to be told. */
    assert_int_equal(sk_block_recover(device, 0), SK_OK);
    submit(&first, SK_BLOCK_READ, 4096);
    assert_true(finish(&first, false));
    assert_int_equal(first.failed, 0);
    expect_place(&first, 4096);
    assert_int_equal(sk_vhost_user_disk_close(disk), SK_ERR_BUSY);
    assert_int_equal(sk_io_buffer_destroy(&first.buffer), SK_OK);
}

/* The daemon takes 32; the next one is refused, and the disk goes on. */
static void test_vhost_user_daemon__more_regions_than_it_takes_are_refused(void **state)
{
    enum sk_status status = SK_OK;
    unsigned count = 1;

    (void)state;
    daemon_start(&daemon_process);
    open_disk(NULL);
    while (status == SK_OK && count < SK_PROCESS_REGIONS_MAX) {
        const struct sk_process_region *region;

        status = sk_vhost_user_disk_add_region(disk, 1, &region);
        count++;
    }
    assert_int_equal(status, SK_ERR_UNSUPPORTED);
    assert_int_equal(count, 33);
    assert_int_equal(sk_block_read(queue, 0, memory, 4096, 0), SK_OK);
}

/* ---- Death ------------------------------------------------------------------------------- */

static void test_vhost_user_daemon__killed_and_restarted_is_recovered(void **state)
{
    struct run run;

    (void)state;
    daemon_start(&daemon_process);
    open_disk(NULL);
    run_init(&run, 0, device->domain);
    fill(0x51);
    write_all();
    assert_int_equal(sk_block_flush(queue, 0), SK_OK);
    for (unsigned i = 0; i < 5; i++) {
        assert_int_equal(kill(daemon_process.pid, SIGSTOP), 0); /* it holds what it gets */
        submit(&run, SK_BLOCK_READ, 0);
        daemon_kill(&daemon_process);
        assert_true(finish(&run, i % 2 == 0));
        assert_int_equal(run.failed, DEPTH);
        assert_int_not_equal(run.status, SK_ERR_IN_DOUBT);
        assert_int_equal(sk_block_get_state(device), SK_BLOCK_STATE_BROKEN);
        assert_int_equal(sk_block_read(queue, 0, image, 512, 0), SK_ERR_BROKEN);
        daemon_start(&daemon_process);
        assert_int_equal(sk_block_recover(device, 0), SK_OK);
        submit(&run, SK_BLOCK_READ, 0);
        assert_true(finish(&run, true));
        assert_int_equal(run.failed, 0);
        assert_memory_equal(sk_io_buffer_data(&run.buffer), memory, DEPTH * 4096);
    }
    read_all();
    expect_image_is_memory();
    assert_int_equal(sk_io_buffer_destroy(&run.buffer), SK_OK);
}

/* Closing does not need it. */
static void test_vhost_user_daemon__killed_disk_is_closed(void **state)
{
    (void)state;
    daemon_start(&daemon_process);
    open_disk(NULL);
    daemon_kill(&daemon_process);
}

/* Who recovers before the daemon is back waits for it, ... */
static void test_vhost_user_daemon__recovery_waits_for_it(void **state)
{
    struct sk_vhost_user_disk_options with = options();

    (void)state;
    daemon_start(&daemon_process);
    open_disk(&with);
    daemon_kill(&daemon_process);
    assert_int_not_equal(sk_block_read(queue, 0, image, 512, 0), SK_OK);
    daemon_start_late(&daemon_process, 700);
    assert_int_equal(sk_block_recover(device, 0), SK_OK);
    assert_int_equal(sk_block_read(queue, 0, image, 512, 0), SK_OK);
}

/* ... and not for ever. */
static void test_vhost_user_daemon__recovery_ends_without_it(void **state)
{
    struct sk_vhost_user_disk_options with = options();

    (void)state;
    with.vhost_user.reconnect_ns = SECOND / 2;
    daemon_start(&daemon_process);
    open_disk(&with);
    daemon_kill(&daemon_process);
    assert_int_not_equal(sk_block_read(queue, 0, image, 512, 0), SK_OK);
    assert_int_equal(sk_block_recover(device, 0), SK_ERR_BROKEN);
    assert_int_equal(sk_block_get_state(device), SK_BLOCK_STATE_BROKEN);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_vhost_user_daemon__disk_is_described),
        TEST(test_vhost_user_daemon__reads_what_the_image_has),
        TEST(test_vhost_user_daemon__image_has_what_was_written),
        TEST(test_vhost_user_daemon__discarded_and_zeroed_sectors_are_zero),
        TEST(test_vhost_user_daemon__read_only_disk_says_so),
        TEST(test_vhost_user_daemon__two_queues_in_two_threads),
        TEST(test_vhost_user_daemon__regions_are_added_at_work),
        TEST(test_vhost_user_daemon__more_regions_than_it_takes_are_refused),
        TEST(test_vhost_user_daemon__killed_and_restarted_is_recovered),
        TEST(test_vhost_user_daemon__killed_disk_is_closed),
        TEST(test_vhost_user_daemon__recovery_waits_for_it),
        TEST(test_vhost_user_daemon__recovery_ends_without_it),
    };

    if (!daemon_exists()) {
        printf("skipped: needs qemu-storage-daemon\n");
        return 77;
    }
    return cmocka_run_group_tests_name("vhost_user_daemon", tests, NULL, NULL);
}
