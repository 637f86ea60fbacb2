/* SPDX-License-Identifier: MIT */
/*
 * One queue reset over vhost-user, while the device and its other queues go on:
 * with the back end of this tree, and with one that does not do it, or lies about it.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <skio/skio.h>
#include <skio_hosted/vhost_user.h>

#include "backend_process.h"
#include "descriptors.h"
#include "fake_backend.h"
#include "patient.h"

#define MS     UINT64_C(1000000)
#define READS  4u
#define BIT(n) SK_VIRTIO_FEATURE(n)

static struct backend_process backend;
static struct fake_backend fake;
static bool fake_runs;
static struct sk_vhost_user_disk_options options;
static struct sk_vhost_user_disk *disk;
static struct sk_block_device *device;
static struct sk_block_queue *queue;
static unsigned before;
static uint8_t data[4096];

static void drop_line(void *context, enum sk_log_level level, const char *line)
{
    (void)context;
    (void)level;
    (void)line;
}

static int set_up(void **state)
{
    const struct sk_vhost_user_disk_options defaults = SK_VHOST_USER_DISK_OPTIONS_DEFAULT;

    (void)state;
    (void)signal(SIGPIPE, SIG_IGN);
    before = descriptors_count();
    backend_process_init(&backend, 1 << 20);
    backend.queues = 2;
    options = defaults;
    options.process.write_log = drop_line;
    options.driver.queue_count = 2;
    be_patient(&options);
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
    backend_process_deinit(&backend);
    return descriptors_count() == before ? 0 : -1;
}

static void open_at(const char *address)
{
    char error[SK_VHOST_USER_ERROR_BYTES];
    enum sk_status status = sk_vhost_user_disk_open(address, &options, &disk, error);

    for (unsigned i = 0; status != SK_OK && options.vhost_user.message_ns < PATIENT_NS && i < 1000; i++) {
        status = sk_vhost_user_disk_open(address, &options, &disk, error); /* it was too slow */
    }
    if (status != SK_OK) {
        fail_msg("%s", error);
    }
    device = sk_vhost_user_disk_device(disk);
    queue = sk_block_get_queue(device, 0);
    assert_true((device->info.features & BIT(SK_VIRTIO_F_RING_RESET)) != 0);
}

static void expect_works(uint32_t index)
{
    static uint8_t back[sizeof(data)];

    for (size_t i = 0; i < sizeof(data); i++) {
        data[i] = (uint8_t)(data[i] * 5 + i + index + 1);
    }
    assert_int_equal(sk_block_write(sk_block_get_queue(device, index), 8, data, sizeof(data), 0),
                     SK_OK);
    assert_int_equal(sk_block_read(sk_block_get_queue(device, index), 8, back, sizeof(back), 0),
                     SK_OK);
    assert_memory_equal(back, data, sizeof(data));
}

/* ---- Reads that the device keeps --------------------------------------------------------- */

static struct sk_block_request reads[READS];
static struct sk_dma_segment segments[READS];
static struct sk_io_buffer buffer;
static unsigned completions;

static void completed(struct sk_block_request *request)
{
    (void)request;
    completions++;
}

static void submit_reads(void)
{
    struct sk_block_request *batch[READS];

    completions = 0;
    assert_int_equal(sk_io_buffer_create(&buffer, device->domain, READS * 512,
                                         SK_IO_BUFFER_ALIGNMENT),
                     SK_OK);
    for (uint32_t i = 0; i < READS; i++) {
        reads[i] = (struct sk_block_request){ .operation = SK_BLOCK_READ,
                                              .sector = i,
                                              .segments = &segments[i],
                                              .segment_count = 1,
                                              .complete = completed };
        assert_int_equal(sk_io_buffer_segment(&buffer, i * 512, 512, &segments[i]), SK_OK);
        batch[i] = &reads[i];
    }
    sk_block_submit(queue, batch, READS);
}

/* Polls for a while; a device that keeps requests answers none of them. */
static void poll_for(unsigned ms)
{
    for (unsigned i = 0; i < ms && completions < READS; i++) {
        assert_int_not_equal(sk_block_poll(queue, 0, NULL), SK_ERR_BUSY);
        (void)usleep(1000);
    }
}

static void end_reads(enum sk_status status)
{
    assert_int_not_equal(sk_block_poll(queue, 0, NULL), SK_ERR_BUSY);
    assert_int_equal(completions, READS);
    for (uint32_t i = 0; i < READS; i++) {
        assert_int_equal(reads[i].status, status);
    }
    assert_int_equal(sk_io_buffer_destroy(&buffer), SK_OK);
}

/* ---- The back end of this tree ----------------------------------------------------------- */

static const uint64_t without[] = {
    0,
    BIT(SK_VIRTIO_F_RING_PACKED),
    BIT(SK_VIRTIO_F_INDIRECT_DESC),
    BIT(SK_VIRTIO_F_EVENT_IDX) | BIT(SK_VIRTIO_F_RING_PACKED),
};

#define SHAPES (sizeof(without) / sizeof(without[0]))

static void test_vhost_user_reset_queue__stuck_reads_end_and_the_rest_goes_on(void **state)
{
    (void)state;
    backend.faults[0] = "hold=0@3x4"; /* behind the identity, and what expect_works does */
    for (size_t i = 0; i < SHAPES; i++) {
        options.driver.features = ~without[i];
        backend_process_start(&backend);
        open_at(backend.socket);
        expect_works(0);
        submit_reads();
        poll_for(20);
        assert_int_equal(completions, 0);
        expect_works(1);
        assert_int_equal(sk_block_reset_queue(queue), SK_OK);
        end_reads(SK_ERR_BROKEN);
        expect_works(0);
        expect_works(1);
        for (unsigned round = 0; round < 20; round++) {
            assert_int_equal(sk_block_reset_queue(queue), SK_OK);
            expect_works(0);
        }
        assert_int_equal(sk_block_get_state(device), SK_BLOCK_STATE_READY);
        assert_int_equal(sk_vhost_user_disk_close(disk), SK_OK);
        disk = NULL;
        backend_process_stop(&backend);
    }
}

/* Its book of requests in flight is of the ring of now, not of the one before. */
static void test_vhost_user_reset_queue__resumes_afterwards(void **state)
{
    (void)state;
    for (size_t i = 0; i < SHAPES; i++) {
        options.driver.features = ~without[i];
        backend_process_start(&backend);
        open_at(backend.socket);
        for (unsigned round = 0; round < 3; round++) {
            expect_works(0);
            assert_int_equal(sk_block_reset_queue(queue), SK_OK);
            if (round > 0) {
                expect_works(0);
            }
            backend_process_kill(&backend);
            backend_process_start(&backend);
            expect_works(0);
            expect_works(1);
        }
        assert_int_equal(sk_vhost_user_disk_close(disk), SK_OK);
        disk = NULL;
        backend_process_stop(&backend);
    }
}

/* ---- Others ------------------------------------------------------------------------------ */

static void open_fake(struct fake_backend_config *config)
{
    config->features |= BIT(SK_VIRTIO_F_RING_RESET);
    options.driver.queue_size = 16;
    fake_backend_start(&fake, config);
    fake_runs = true;
    open_at(fake.path);
}

static const struct fake_backend_config defaults = FAKE_BACKEND_CONFIG_DEFAULT;

/* What an honest one looks like: the cases below differ in one thing. */
static void test_vhost_user_reset_queue__another_back_end(void **state)
{
    struct fake_backend_config config = defaults;

    (void)state;
    open_fake(&config);
    for (unsigned round = 0; round < 3; round++) {
        expect_works(0);
        assert_int_equal(sk_block_reset_queue(queue), SK_OK);
    }
    expect_works(1);
    assert_int_equal(fake.connections, 1);
}

/* It answers that the ring stopped, but what it took is still at work in its hands. */
static void test_vhost_user_reset_queue__what_it_took_and_did_not_do_stops_the_device(void **state)
{
    struct fake_backend_config config = defaults;

    (void)state;
    open_fake(&config);
    fake.config.holds = true;
    fake.config.base_lie = READS; /* ... as if it had taken them */
    submit_reads();
    poll_for(20);
    assert_int_not_equal(sk_block_reset_queue(queue), SK_OK);
    assert_int_not_equal(sk_block_get_state(device), SK_BLOCK_STATE_READY);
    poll_for(1);
    assert_int_equal(completions, READS);
    assert_int_equal(sk_io_buffer_destroy(&buffer), SK_OK);
    fake.config = defaults;
    fake.config.features |= BIT(SK_VIRTIO_F_RING_RESET);
    assert_int_equal(sk_block_recover(device, 0), SK_OK);
    expect_works(0);
    assert_int_equal(fake.connections, 2); /* only the end of the first one was believed */
}

/* Requests that it never took are nobody's but the driver's, whatever else it does. */
static void test_vhost_user_reset_queue__what_it_did_not_take_is_free(void **state)
{
    struct fake_backend_config config = defaults;

    (void)state;
    open_fake(&config);
    fake.config.holds = true;
    submit_reads();
    poll_for(20);
    assert_int_equal(sk_block_reset_queue(queue), SK_OK);
    end_reads(SK_ERR_BROKEN);
    fake.config.holds = false;
    expect_works(0);
    assert_int_equal(fake.connections, 1);
}

static void expect_refused(void)
{
    assert_int_not_equal(sk_block_reset_queue(queue), SK_OK);
    assert_int_not_equal(sk_block_get_state(device), SK_BLOCK_STATE_READY);
    fake.config = defaults;
    fake.config.features |= BIT(SK_VIRTIO_F_RING_RESET);
    fake_backend_behave(&fake);
    assert_int_equal(sk_block_recover(device, 0), SK_OK);
    expect_works(0);
    expect_works(1);
    assert_true(fake.connections >= 2);
}

static void test_vhost_user_reset_queue__a_place_that_the_ring_has_not(void **state)
{
    static const uint32_t lies[] = { 1, 0xffff, 0x10000, 0x80000000 };

    (void)state;
    for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
        struct fake_backend_config config = defaults;

        open_fake(&config);
        expect_works(0);
        fake.config.base_lie = lies[i];
        expect_refused();
        assert_int_equal(sk_vhost_user_disk_close(disk), SK_OK);
        disk = NULL;
        fake_backend_stop(&fake);
        fake_runs = false;
    }
}

static void test_vhost_user_reset_queue__an_answer_of_another_queue(void **state)
{
    struct fake_backend_config config = defaults;

    (void)state;
    open_fake(&config);
    fake.config.index_lie = 1;
    expect_refused();
}

/*
 * Some faults are seen a little later, by the transport's thread or the next message; and when
 * silence is waited for briefly, a busy machine's own may be taken for some.
 */
static bool brought_back(void)
{
    for (unsigned try = 0; try < (options.vhost_user.message_ns < PATIENT_NS ? 1000u : 4u); try++) {
        if (sk_block_get_state(device) != SK_BLOCK_STATE_READY &&
            sk_block_recover(device, 0) != SK_OK) {
            continue;
        }
        if (sk_block_write(queue, 8, data, sizeof(data), 0) == SK_OK &&
            sk_block_read(sk_block_get_queue(device, 1), 8, data, sizeof(data), 0) == SK_OK) {
            return true;
        }
    }
    return false;
}

/* False: it never came to the fault, since another answer did not come in a short time. */
static bool reset_with(enum fake_backend_fault fault, uint32_t at)
{
    struct fake_backend_config config = defaults;
    bool fired;

    open_fake(&config);
    fake_backend_arm(&fake, fault, at);
    (void)!sk_block_reset_queue(queue);
    fired = fake.fired == 1;
    fake_backend_behave(&fake);
    if (!brought_back()) {
        fail_msg("fault %d at message %u", fault, (unsigned)at);
    }
    assert_int_equal(sk_vhost_user_disk_close(disk), SK_OK);
    disk = NULL;
    fake_backend_stop(&fake);
    fake_runs = false;
    return fired;
}

static void test_vhost_user_reset_queue__faults_at_each_of_its_messages(void **state)
{
    (void)state;
    for (int fault = 0; fault < FAKE_BACKEND_FAULT_COUNT; fault++) {
        options.vhost_user.message_ns = fault == FAKE_BACKEND_ANSWERS_NOT ? 50 * MS : PATIENT_NS;
        for (uint32_t at = 0; at < 8; at++) { /* the stop, and seven to start again */
            while (!reset_with((enum fake_backend_fault)fault, at)) {
                assert_true(options.vhost_user.message_ns < PATIENT_NS);
                options.vhost_user.message_ns *= 2;
            }
        }
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        TEST(test_vhost_user_reset_queue__stuck_reads_end_and_the_rest_goes_on),
        TEST(test_vhost_user_reset_queue__resumes_afterwards),
        TEST(test_vhost_user_reset_queue__another_back_end),
        TEST(test_vhost_user_reset_queue__what_it_took_and_did_not_do_stops_the_device),
        TEST(test_vhost_user_reset_queue__what_it_did_not_take_is_free),
        TEST(test_vhost_user_reset_queue__a_place_that_the_ring_has_not),
        TEST(test_vhost_user_reset_queue__an_answer_of_another_queue),
        TEST(test_vhost_user_reset_queue__faults_at_each_of_its_messages),
    };

    if (argc > 1) {
        return backend_process_main(argc, argv);
    }
    return cmocka_run_group_tests_name("vhost_user_reset_queue", tests, NULL, NULL);
}
