/* SPDX-License-Identifier: MIT */
/* The library's own front end and back end, with a process border between them. */
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <skio/skio.h>
#include <skio_hosted/vhost_user.h>

#include "backend_process.h"
#include "descriptors.h"
#include "patient.h"

#define BLOCK  4096u
#define BLOCKS 256u
#define DEPTH  16u
#define BIT(bit) SK_VIRTIO_FEATURE(bit)

static struct backend_process backend;
static struct sk_vhost_user_disk *disk;
static struct sk_block_device *device;
static struct sk_block_queue *queue;
static unsigned before;
static uint32_t queue_size; /* 0: the default */

static int set_up(void **state)
{
    (void)state;
    (void)signal(SIGPIPE, SIG_IGN);
    before = descriptors_count();
    backend_process_init(&backend, BLOCKS * BLOCK);
    disk = NULL;
    queue_size = 0;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    if (sk_vhost_user_disk_close(disk) != SK_OK) {
        return -1;
    }
    backend_process_deinit(&backend);
    return descriptors_count() == before ? 0 : -1;
}

/* A back end that dies is what is wanted here. */
static void drop_line(void *context, enum sk_log_level level, const char *line)
{
    (void)context;
    (void)level;
    (void)line;
}

static void open_disk(uint64_t without)
{
    struct sk_vhost_user_disk_options options = SK_VHOST_USER_DISK_OPTIONS_DEFAULT;
    char error[SK_VHOST_USER_ERROR_BYTES];

    options.process.write_log = drop_line;
    options.driver.features = ~without;
    if (queue_size != 0) {
        options.driver.queue_size = queue_size;
    }
    be_patient(&options);
    if (sk_vhost_user_disk_open(backend.socket, &options, &disk, error) != SK_OK) {
        fail_msg("%s", error);
    }
    device = sk_vhost_user_disk_device(disk);
    queue = sk_block_get_queue(device, 0);
}

static void close_disk(void)
{
    assert_int_equal(sk_vhost_user_disk_close(disk), SK_OK);
    disk = NULL;
}

static uint64_t random_state = 1;

static uint32_t random_below(uint32_t below)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(random_state >> 33) % below;
}

static void read_file(uint8_t *out)
{
    int fd = open(backend.file, O_RDONLY | O_CLOEXEC);

    assert_int_equal(read(fd, out, BLOCKS * BLOCK), BLOCKS * BLOCK);
    (void)close(fd);
}

static void test_backend_front_end__file_has_what_was_written(void **state)
{
    static const uint64_t without[] = {
        0,
        BIT(SK_VIRTIO_F_RING_PACKED),
        BIT(SK_VIRTIO_F_INDIRECT_DESC),
        BIT(SK_VIRTIO_F_EVENT_IDX),
        BIT(SK_VIRTIO_F_RING_PACKED) | BIT(SK_VIRTIO_F_INDIRECT_DESC),
        BIT(SK_VIRTIO_F_RING_PACKED) | BIT(SK_VIRTIO_F_EVENT_IDX),
        BIT(SK_VIRTIO_F_RING_PACKED) | BIT(SK_VIRTIO_F_INDIRECT_DESC) | BIT(SK_VIRTIO_F_EVENT_IDX),
    };
    static uint8_t written[BLOCKS * BLOCK];
    static uint8_t found[BLOCKS * BLOCK];

    (void)state;
    for (size_t i = 0; i < sizeof(without) / sizeof(without[0]); i++) {
        backend_process_start(&backend);
        open_disk(without[i]);
        for (size_t k = 0; k < sizeof(written); k++) {
            written[k] = (uint8_t)random_below(256);
        }
        assert_int_equal(sk_block_write(queue, 0, written, sizeof(written), 0), SK_OK);
        assert_int_equal(sk_block_flush(queue, 0), SK_OK);
        assert_int_equal(sk_block_read(queue, 0, found, sizeof(found), 0), SK_OK);
        assert_memory_equal(found, written, sizeof(found));
        read_file(found);
        assert_memory_equal(found, written, sizeof(found));
        close_disk();
        backend_process_stop(&backend);
    }
}

/* ---- Killed under load ------------------------------------------------------------------------ */

/* One block after the other is written and read again; each says which write was its last. */
struct load {
    struct sk_io_buffer buffer;
    struct sk_block_request requests[DEPTH];
    struct sk_dma_segment segments[DEPTH];
    uint32_t block[DEPTH];
    bool out[DEPTH];
    uint32_t generation[BLOCKS];
    bool busy[BLOCKS];
    uint32_t last_generation;
    _Atomic uint32_t finished;
};

static void fill_block(uint8_t *to, uint32_t block, uint32_t generation)
{
    for (uint32_t i = 0; i < BLOCK; i += 512) {
        uint32_t words[2] = { block, generation };

        memset(to + i, (int)(generation & 0xff), 512);
        memcpy(to + i, words, sizeof(words));
    }
}

static void expect_block(const uint8_t *from, uint32_t block, uint32_t generation)
{
    uint8_t expected[BLOCK] = { 0 };

    if (generation != 0) {
        fill_block(expected, block, generation);
    }
    assert_memory_equal(from, expected, BLOCK);
}

static uint8_t *data_of(struct load *load, uint32_t slot)
{
    return (uint8_t *)sk_io_buffer_data(&load->buffer) + slot * BLOCK;
}

static void done(struct sk_block_request *request)
{
    struct load *load = request->context;
    uint32_t slot = (uint32_t)(request - load->requests);

    assert_int_equal(request->status, SK_OK);
    if (request->operation == SK_BLOCK_READ) {
        expect_block(data_of(load, slot), load->block[slot], load->generation[load->block[slot]]);
    }
    load->busy[load->block[slot]] = false;
    load->out[slot] = false;
    load->finished++;
}

static void submit(struct load *load, uint32_t slot)
{
    struct sk_block_request *request = &load->requests[slot];
    uint32_t block = random_below(BLOCKS);
    bool writes = random_below(3) != 0;

    while (load->busy[block]) {
        block = (block + 1) % BLOCKS;
    }
    load->block[slot] = block;
    load->busy[block] = true;
    load->out[slot] = true;
    if (writes) {
        load->generation[block] = ++load->last_generation;
        fill_block(data_of(load, slot), block, load->generation[block]);
    } else {
        memset(data_of(load, slot), 0xcc, BLOCK);
    }
    assert_int_equal(sk_io_buffer_segment(&load->buffer, slot * BLOCK, BLOCK,
                                          &load->segments[slot]),
                     SK_OK);
    *request = (struct sk_block_request){ .operation = writes ? SK_BLOCK_WRITE : SK_BLOCK_READ,
                                          .sector = (uint64_t)block * (BLOCK / 512),
                                          .segments = &load->segments[slot],
                                          .segment_count = 1,
                                          .complete = done,
                                          .context = load };
    sk_block_submit(queue, &request, 1);
}

/* Runs until so many more are finished. */
static void run(struct load *load, uint32_t more)
{
    const struct sk_platform *platform = device->platform;
    uint64_t deadline = platform->now_ns(platform->context) + PATIENT_NS;
    uint32_t goal = load->finished + more;

    while (load->finished < goal) {
        for (uint32_t i = 0; i < DEPTH; i++) {
            if (!load->out[i]) {
                submit(load, i);
            }
        }
        assert_int_equal(sk_block_poll(queue, 0, NULL), SK_OK);
        assert_true(platform->now_ns(platform->context) < deadline);
    }
}

static void run_dry(struct load *load)
{
    bool any = true;

    while (any) {
        assert_int_equal(sk_block_poll(queue, 0, NULL), SK_OK);
        any = false;
        for (uint32_t i = 0; i < DEPTH; i++) {
            any |= load->out[i];
        }
        if (any) {
            assert_int_equal(sk_block_wait(queue, UINT64_MAX), SK_OK);
        }
    }
}

static _Atomic bool stop_killing;
static _Atomic unsigned kills;

/* Kills when the load has gone on since the last time, starts again, and so on. */
static void *killer(void *argument)
{
    struct load *load = argument;
    unsigned moment = 1;

    while (!stop_killing) {
        uint32_t finished = load->finished;

        while (load->finished == finished && !stop_killing) {
            (void)usleep(200);
        }
        moment = moment * 1103515245 + 12345;
        (void)usleep(moment >> 16 & 0x1fff);
        backend_process_kill(&backend);
        backend_process_start(&backend);
        kills++;
    }
    return NULL;
}

static void killed_under_load(uint64_t without, unsigned times)
{
    static struct load load;
    static uint8_t content[BLOCKS * BLOCK];
    pthread_t thread;

    memset(&load, 0, sizeof(load));
    stop_killing = false;
    kills = 0;
    backend_process_start(&backend);
    open_disk(without);
    assert_int_equal(sk_io_buffer_create(&load.buffer, device->domain, DEPTH * BLOCK, BLOCK),
                     SK_OK);
    assert_int_equal(pthread_create(&thread, NULL, killer, &load), 0);
    while (kills < times) {
        run(&load, 50);
    }
    stop_killing = true;
    (void)pthread_join(thread, NULL);
    backend_process_kill(&backend); /* it ends with the thread that started it */
    backend_process_start(&backend);
    run_dry(&load);
    assert_int_equal(sk_block_flush(queue, 0), SK_OK);
    read_file(content);
    for (uint32_t i = 0; i < BLOCKS; i++) {
        expect_block(content + i * BLOCK, i, load.generation[i]);
    }
    assert_int_equal(sk_io_buffer_destroy(&load.buffer), SK_OK);
    close_disk();
    backend_process_stop(&backend);
    assert_int_equal(truncate(backend.file, 0), 0);
    assert_int_equal(truncate(backend.file, BLOCKS * BLOCK), 0);
}

static void test_backend_front_end__killed_under_load_loses_nothing(void **state)
{
    (void)state;
    killed_under_load(0, 30);
    killed_under_load(BIT(SK_VIRTIO_F_RING_PACKED), 30);
    killed_under_load(BIT(SK_VIRTIO_F_INDIRECT_DESC), 20);
    killed_under_load(BIT(SK_VIRTIO_F_RING_PACKED) | BIT(SK_VIRTIO_F_INDIRECT_DESC), 20);
}

/* Both sides keep book of all entries, in both kinds of rings. */
static void test_backend_front_end__the_largest_rings_resume(void **state)
{
    static const uint64_t without[] = { 0, SK_VIRTIO_FEATURE(SK_VIRTIO_F_RING_PACKED) };
    static uint8_t block[BLOCK];
    static uint8_t found[BLOCK];

    (void)state;
    queue_size = 32768;
    backend_process_start(&backend);
    for (size_t i = 0; i < sizeof(without) / sizeof(without[0]); i++) {
        open_disk(without[i]);
        assert_int_equal(device->info.queue_size, 32768);
        for (uint8_t round = 1; round < 4; round++) {
            (void)memset(block, round, sizeof(block));
            assert_int_equal(sk_block_write(queue, 8, block, sizeof(block), 0), SK_OK);
            backend_process_kill(&backend);
            backend_process_start(&backend);
            assert_int_equal(sk_block_read(queue, 8, found, sizeof(found), 0), SK_OK);
            assert_memory_equal(found, block, sizeof(block));
        }
        close_disk();
    }
    backend_process_stop(&backend);
}

int main(int argc, char **argv)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_backend_front_end__file_has_what_was_written),
        TEST(test_backend_front_end__the_largest_rings_resume),
        TEST(test_backend_front_end__killed_under_load_loses_nothing),
    };
#undef TEST

    if (argc > 1) {
        return backend_process_main(argc, argv);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
