/* SPDX-License-Identifier: MIT */
/* The back end as a disk: both stores, both rings, all requests. */
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include <skio_hosted/backend.h>

#include "descriptors.h"
#include "front_end.h"

#define SECTORS 4096u
#define BIT(bit) SK_VIRTIO_FEATURE(bit)

static char folder[] = "/tmp/skio-backend-XXXXXX";
static char socket_path[64];
static char file_path[64];
static unsigned before;
static struct front_end front;
static struct sk_backend *backend;

static int set_up(void **state)
{
    int fd;

    (void)state;
    before = descriptors_count();
    strcpy(folder + sizeof(folder) - 7, "XXXXXX");
    if (mkdtemp(folder) == NULL) {
        return -1;
    }
    (void)snprintf(socket_path, sizeof(socket_path), "%s/socket", folder);
    (void)snprintf(file_path, sizeof(file_path), "%s/file", folder);
    fd = open(file_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, SECTORS * 512) != 0) {
        return -1;
    }
    (void)close(fd);
    front_end_init(&front);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    front_end_close(&front);
    sk_backend_stop(backend);
    backend = NULL;
    if (access(socket_path, F_OK) == 0) {
        return -1; /* it must be gone */
    }
    (void)unlink(file_path);
    (void)rmdir(folder);
    return descriptors_count() == before ? 0 : -1;
}

static void start(const struct sk_backend_options *options)
{
    char error[SK_BACKEND_ERROR_BYTES];

    assert_int_equal(sk_backend_start(options, &backend, error), SK_OK);
    assert_string_equal(error, "");
}

static struct sk_backend_options options_for(bool file)
{
    struct sk_backend_options options;

    sk_backend_options_init(&options);
    options.address = socket_path;
    options.capacity_sectors = SECTORS;
    options.null_zeroes = true;
    options.file_path = file ? file_path : NULL;
    options.queue_count = 4;
    return options;
}

static void read_file(uint64_t sector, void *out, size_t bytes)
{
    int fd = open(file_path, O_RDONLY | O_CLOEXEC);

    assert_true(fd >= 0);
    assert_int_equal(pread(fd, out, bytes, (off_t)(sector * 512)), bytes);
    (void)close(fd);
}

static const uint64_t kinds[] = {
    0,
    BIT(SK_VIRTIO_F_EVENT_IDX),
    BIT(SK_VIRTIO_F_INDIRECT_DESC),
    BIT(SK_VIRTIO_F_INDIRECT_DESC) | BIT(SK_VIRTIO_F_EVENT_IDX),
    BIT(SK_VIRTIO_F_RING_PACKED),
    BIT(SK_VIRTIO_F_RING_PACKED) | BIT(SK_VIRTIO_F_EVENT_IDX),
    BIT(SK_VIRTIO_F_RING_PACKED) | BIT(SK_VIRTIO_F_INDIRECT_DESC),
    BIT(SK_VIRTIO_F_RING_PACKED) | BIT(SK_VIRTIO_F_INDIRECT_DESC) | BIT(SK_VIRTIO_F_EVENT_IDX),
};

#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

/* ---- Traffic ------------------------------------------------------------------------------ */

#define REQUESTS 1000u

struct traffic {
    uint64_t random;
    uint8_t model[SECTORS * 512];
    uint64_t sector[FRONT_SLOTS_MAX];
    uint32_t bytes[FRONT_SLOTS_MAX];
    bool writes[FRONT_SLOTS_MAX];
};

static uint32_t random_below(struct traffic *traffic, uint32_t below)
{
    traffic->random = traffic->random * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(traffic->random >> 33) % below;
}

/* No two requests that are out touch the same sector. */
static bool is_free(const struct traffic *traffic, const struct front_queue *queue,
                    uint64_t sector, uint32_t bytes)
{
    for (uint32_t i = 0; i < FRONT_SLOTS_MAX; i++) {
        if (queue->slots[i].out && sector < traffic->sector[i] + traffic->bytes[i] / 512 &&
            traffic->sector[i] < sector + bytes / 512) {
            return false;
        }
    }
    return true;
}

static bool submit_one(struct traffic *traffic, struct front_queue *queue)
{
    uint32_t slots = queue->indirect ? queue->size : queue->size / 3;
    uint32_t slot = random_below(traffic, slots < FRONT_SLOTS_MAX ? slots : FRONT_SLOTS_MAX);
    uint32_t bytes = 512 * (1 + random_below(traffic, FRONT_DATA_BYTES / 512));
    uint64_t sector = random_below(traffic, SECTORS - bytes / 512 + 1);

    if (queue->slots[slot].out || !is_free(traffic, queue, sector, bytes)) {
        return false;
    }
    traffic->sector[slot] = sector;
    traffic->bytes[slot] = bytes;
    traffic->writes[slot] = random_below(traffic, 2) != 0;
    if (traffic->writes[slot]) {
        for (uint32_t i = 0; i < bytes; i++) {
            front_end_data(queue, slot)[i] = (uint8_t)random_below(traffic, 256);
        }
        memcpy(traffic->model + sector * 512, front_end_data(queue, slot), bytes);
    } else {
        memset(front_end_data(queue, slot), 0xcc, bytes);
    }
    front_end_submit(queue, slot, traffic->writes[slot] ? FRONT_WRITE : FRONT_READ, sector, bytes);
    return true;
}

static void finish_one(struct traffic *traffic, struct front_queue *queue)
{
    int slot = front_end_wait(queue);

    assert_int_equal(front_end_status(queue, (uint32_t)slot), FRONT_OK);
    if (!traffic->writes[slot]) {
        assert_memory_equal(front_end_data(queue, (uint32_t)slot),
                            traffic->model + traffic->sector[slot] * 512, traffic->bytes[slot]);
        assert_int_equal(queue->slots[slot].length, traffic->bytes[slot] + 1);
    } else {
        assert_int_equal(queue->slots[slot].length, 1);
    }
}

static void run_traffic(struct traffic *traffic, struct front_queue *queue, uint32_t requests)
{
    uint32_t submitted = 0;

    while (submitted < requests || queue->out > 0) {
        if (submitted < requests && random_below(traffic, 3) != 0) {
            submitted += submit_one(traffic, queue);
        }
        if (random_below(traffic, 4) == 0) {
            front_end_publish(queue);
        }
        if (queue->out > 0 && (random_below(traffic, 4) == 0 || submitted == requests)) {
            front_end_publish(queue);
            finish_one(traffic, queue);
        }
    }
}

static void traffic_on_file(uint64_t features, uint64_t poll_ns, const char *fault)
{
    static struct traffic traffic;
    struct sk_backend_options options = options_for(true);
    static uint8_t content[SECTORS * 512];
    struct sk_backend_fault faults[1];

    options.poll_ns = poll_ns;
    if (fault != NULL) {
        assert_int_equal(sk_backend_parse_fault(fault, &faults[0]), SK_OK);
        options.faults = faults;
        options.fault_count = 1;
    }
    start(&options);
    front_end_start(&front, socket_path, features, 1, 64);
    memset(traffic.model, 0, sizeof(traffic.model));
    read_file(0, traffic.model, sizeof(traffic.model));
    traffic.random = features + poll_ns;
    run_traffic(&traffic, &front.queues[0], REQUESTS);
    assert_int_equal(front_end_run(&front.queues[0], FRONT_FLUSH, 0, 0), FRONT_OK);
    read_file(0, content, sizeof(content));
    assert_memory_equal(content, traffic.model, sizeof(content));
    front_end_disconnect(&front);
    sk_backend_stop(backend);
    backend = NULL;
}

static void test_backend_traffic__random_equals_the_file(void **state)
{
    (void)state;
    for (size_t i = 0; i < KINDS; i++) {
        traffic_on_file(kinds[i], 0, NULL);
    }
}

static void test_backend_traffic__polling_equals_the_file(void **state)
{
    (void)state;
    traffic_on_file(kinds[3], SK_BACKEND_POLL_ALWAYS, NULL);
    traffic_on_file(kinds[7], SK_BACKEND_POLL_ALWAYS, NULL);
    traffic_on_file(kinds[2], 50000, NULL);
    traffic_on_file(kinds[5], 50000, NULL);
}

static void test_backend_traffic__held_back_and_shuffled_equals_the_file(void **state)
{
    (void)state;
    for (size_t i = 0; i < KINDS; i++) {
        traffic_on_file(kinds[i], 0, "hold=5@100x700");
    }
}

/* ---- Requests ----------------------------------------------------------------------------- */

#define ALL_FEATURES UINT64_MAX

static void put_range(struct front_queue *queue, uint32_t index, uint64_t sector, uint32_t count,
                      uint32_t flags)
{
    uint8_t *to = front_end_data(queue, 0) + 16 * index;

    memcpy(to, &sector, 8);
    memcpy(to + 8, &count, 4);
    memcpy(to + 12, &flags, 4);
}

static void test_backend_null__reads_zeroes_and_takes_writes(void **state)
{
    struct sk_backend_options options = options_for(false);
    struct front_queue *queue = &front.queues[0];

    (void)state;
    start(&options);
    front_end_start(&front, socket_path, ALL_FEATURES, 1, 64);
    memset(front_end_data(queue, 0), 0xcc, 4096);
    assert_int_equal(front_end_run(queue, FRONT_WRITE, 8, 4096), FRONT_OK);
    assert_int_equal(front_end_run(queue, FRONT_READ, 8, 4096), FRONT_OK);
    assert_int_equal(queue->slots[0].length, 4097);
    for (unsigned i = 0; i < 4096; i++) {
        assert_int_equal(front_end_data(queue, 0)[i], 0);
    }
    assert_int_equal(front_end_run(queue, FRONT_FLUSH, 0, 0), FRONT_OK);
}

static void test_backend_null__without_zeroes_memory_stays_as_it_is(void **state)
{
    struct sk_backend_options options = options_for(false);
    struct front_queue *queue = &front.queues[0];

    (void)state;
    options.null_zeroes = false;
    start(&options);
    front_end_start(&front, socket_path, ALL_FEATURES, 1, 64);
    memset(front_end_data(queue, 0), 0xcc, 4096);
    assert_int_equal(front_end_run(queue, FRONT_READ, 8, 4096), FRONT_OK);
    assert_int_equal(queue->slots[0].length, 1); /* the status is all that was written */
    for (unsigned i = 0; i < 4096; i++) {
        assert_int_equal(front_end_data(queue, 0)[i], 0xcc);
    }
}

static void test_backend_requests__wrong_ones_are_answered(void **state)
{
    struct sk_backend_options options = options_for(true);
    struct front_queue *queue = &front.queues[0];

    (void)state;
    start(&options);
    front_end_start(&front, socket_path, ALL_FEATURES, 1, 64);
    assert_int_equal(front_end_run(queue, FRONT_READ, SECTORS, 512), FRONT_IOERR);
    assert_int_equal(front_end_run(queue, FRONT_READ, SECTORS - 1, 1024), FRONT_IOERR);
    assert_int_equal(front_end_run(queue, FRONT_READ, UINT64_MAX, 512), FRONT_IOERR);
    assert_int_equal(front_end_run(queue, FRONT_READ, UINT64_MAX / 512 + 1, 512), FRONT_IOERR);
    assert_int_equal(front_end_run(queue, FRONT_READ, 0, 511), FRONT_IOERR);
    assert_int_equal(front_end_run(queue, FRONT_WRITE, SECTORS, 512), FRONT_IOERR);
    assert_int_equal(front_end_run(queue, FRONT_WRITE, 0, 513), FRONT_IOERR);
    assert_int_equal(front_end_run(queue, 2, 0, 512), FRONT_UNSUPP);
    assert_int_equal(front_end_run(queue, 14, 0, 512), FRONT_UNSUPP);
    assert_int_equal(front_end_run(queue, 0xffffffff, 0, 0), FRONT_UNSUPP);
    assert_int_equal(front_end_run(queue, FRONT_READ, SECTORS - 1, 512), FRONT_OK);
}

static void test_backend_get_id__is_the_serial(void **state)
{
    struct sk_backend_options options = options_for(false);
    struct front_queue *queue = &front.queues[0];

    (void)state;
    options.serial = "12345678901234567890";
    start(&options);
    front_end_start(&front, socket_path, ALL_FEATURES, 1, 64);
    assert_int_equal(front_end_run(queue, FRONT_GET_ID, 0, 20), FRONT_OK);
    assert_memory_equal(front_end_data(queue, 0), "12345678901234567890", 20);
    assert_int_equal(front_end_run(queue, FRONT_GET_ID, 0, 19), FRONT_IOERR);
}

/* Discard and write-zeroes give space up; the other kind of write-zeroes does not have to. */
static void test_backend_ranges__file_becomes_zero_and_sparse(void **state)
{
    struct sk_backend_options options = options_for(true);
    struct front_queue *queue = &front.queues[0];
    static uint8_t content[65536];
    struct stat full;
    struct stat sparse;

    (void)state;
    start(&options);
    front_end_start(&front, socket_path, ALL_FEATURES, 1, 64);
    memset(front_end_data(queue, 0), 0x77, 16384);
    for (uint64_t i = 0; i < 4; i++) {
        assert_int_equal(front_end_run(queue, FRONT_WRITE, i * 32, 16384), FRONT_OK);
    }
    assert_int_equal(front_end_run(queue, FRONT_FLUSH, 0, 0), FRONT_OK);
    assert_int_equal(stat(file_path, &full), 0);
    put_range(queue, 0, 0, 32, 0);
    put_range(queue, 1, 32, 8, 0);
    assert_int_equal(front_end_run(queue, FRONT_DISCARD, 0, 32), FRONT_OK);
    put_range(queue, 0, 64, 24, 1);
    assert_int_equal(front_end_run(queue, FRONT_WRITE_ZEROES, 0, 16), FRONT_OK);
    put_range(queue, 0, 96, 1, 0);
    assert_int_equal(front_end_run(queue, FRONT_WRITE_ZEROES, 0, 16), FRONT_OK);
    assert_int_equal(front_end_run(queue, FRONT_FLUSH, 0, 0), FRONT_OK);
    read_file(0, content, sizeof(content));
    for (uint32_t sector = 0; sector < 128; sector++) {
        bool zero = sector < 40 || (sector >= 64 && sector < 88) || sector == 96;

        for (uint32_t i = 0; i < 512; i++) {
            assert_int_equal(content[512 * sector + i], zero ? 0 : 0x77);
        }
    }
    assert_int_equal(stat(file_path, &sparse), 0);
    assert_true(sparse.st_blocks < full.st_blocks);
    assert_int_equal(sparse.st_size, full.st_size);
}

static void test_backend_ranges__wrong_ones_are_answered(void **state)
{
    static const struct {
        uint32_t type;
        uint64_t sector;
        uint32_t count;
        uint32_t flags;
        uint32_t bytes;
        uint8_t answer;
    } cases[] = {
        { FRONT_DISCARD, 0, 1, 1, 16, FRONT_UNSUPP }, /* UNMAP means nothing here */
        { FRONT_DISCARD, 0, 1, 2, 16, FRONT_UNSUPP },
        { FRONT_WRITE_ZEROES, 0, 1, 2, 16, FRONT_UNSUPP },
        { FRONT_WRITE_ZEROES, 0, 1, 0x80000000u, 16, FRONT_UNSUPP },
        { FRONT_DISCARD, SECTORS, 1, 0, 16, FRONT_IOERR },
        { FRONT_DISCARD, SECTORS - 1, 2, 0, 16, FRONT_IOERR },
        { FRONT_DISCARD, UINT64_MAX, 1, 0, 16, FRONT_IOERR },
        { FRONT_WRITE_ZEROES, 1, UINT32_MAX, 0, 16, FRONT_IOERR },
        { FRONT_DISCARD, 0, 1, 0, 0, FRONT_IOERR },
        { FRONT_DISCARD, 0, 1, 0, 8, FRONT_IOERR },
        { FRONT_DISCARD, 0, 1, 0, 33 * 16, FRONT_IOERR },
        { FRONT_DISCARD, 0, 0, 0, 16, FRONT_OK },
    };
    struct sk_backend_options options = options_for(true);
    struct front_queue *queue = &front.queues[0];

    (void)state;
    start(&options);
    front_end_start(&front, socket_path, ALL_FEATURES, 1, 64);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        memset(front_end_data(queue, 0), 0, 1024);
        put_range(queue, 0, cases[i].sector, cases[i].count, cases[i].flags);
        assert_int_equal(front_end_run(queue, cases[i].type, 0, cases[i].bytes),
                         cases[i].answer);
    }
}

static void test_backend_ranges__not_negotiated_is_not_supported(void **state)
{
    struct sk_backend_options options = options_for(true);
    struct front_queue *queue = &front.queues[0];

    (void)state;
    start(&options);
    front_end_start(&front, socket_path, 0, 1, 64);
    put_range(queue, 0, 0, 1, 0);
    assert_int_equal(front_end_run(queue, FRONT_DISCARD, 0, 16), FRONT_UNSUPP);
    assert_int_equal(front_end_run(queue, FRONT_WRITE_ZEROES, 0, 16), FRONT_UNSUPP);
}

static void test_backend_read_only__refuses_what_writes(void **state)
{
    struct sk_backend_options options = options_for(true);
    struct front_queue *queue = &front.queues[0];

    (void)state;
    options.read_only = true;
    start(&options);
    front_end_start(&front, socket_path, ALL_FEATURES, 1, 64);
    assert_true((front.features & BIT(SK_VIRTIO_BLK_F_RO)) != 0);
    assert_true((front.features & BIT(SK_VIRTIO_BLK_F_DISCARD)) == 0);
    assert_int_equal(front_end_run(queue, FRONT_READ, 0, 512), FRONT_OK);
    assert_int_equal(front_end_run(queue, FRONT_WRITE, 0, 512), FRONT_IOERR);
    put_range(queue, 0, 0, 1, 0);
    assert_int_equal(front_end_run(queue, FRONT_DISCARD, 0, 16), FRONT_UNSUPP);
    assert_int_equal(front_end_run(queue, FRONT_FLUSH, 0, 0), FRONT_OK);
}

static void test_backend_file__shrunk_and_full_are_io_errors(void **state)
{
    struct sk_backend_fault fault;
    struct sk_backend_options options = options_for(true);
    struct front_queue *queue = &front.queues[0];

    (void)state;
    assert_int_equal(sk_backend_parse_fault("full-at=8192", &fault), SK_OK);
    options.faults = &fault;
    options.fault_count = 1;
    start(&options);
    front_end_start(&front, socket_path, ALL_FEATURES, 1, 64);
    assert_int_equal(front_end_run(queue, FRONT_WRITE, 0, 8192), FRONT_OK);
    assert_int_equal(front_end_run(queue, FRONT_WRITE, 8, 8192), FRONT_IOERR);
    put_range(queue, 0, 15, 2, 0);
    assert_int_equal(front_end_run(queue, FRONT_WRITE_ZEROES, 0, 16), FRONT_IOERR);
    assert_int_equal(truncate(file_path, 512 * 64), 0);
    assert_int_equal(front_end_run(queue, FRONT_READ, 63, 512), FRONT_OK);
    assert_int_equal(front_end_run(queue, FRONT_READ, 63, 1024), FRONT_IOERR);
    assert_int_equal(front_end_run(queue, FRONT_READ, 64, 512), FRONT_IOERR);
}

/* ---- Configuration ------------------------------------------------------------------------ */

static void get_config(uint32_t offset, uint32_t size, void *out)
{
    struct ski_vhost_user_config config = { offset, size, 0, { 0 } };

    front_end_send(&front, SKI_VHOST_USER_GET_CONFIG, SKI_VHOST_USER_VERSION, &config,
                   SKI_VHOST_USER_CONFIG_HEAD + size, NULL, 0);
    assert_true(front_end_receive(&front, FRONT_WAIT_NS));
    assert_int_equal(front.message.header.size, SKI_VHOST_USER_CONFIG_HEAD + size);
    assert_int_equal(front.message.payload.config.offset, offset);
    assert_int_equal(front.message.payload.config.size, size);
    memcpy(out, front.message.payload.config.bytes, size);
}

static uint64_t config_field(uint32_t offset, uint32_t width)
{
    uint64_t value = 0;

    get_config(offset, width, &value);
    return value;
}

static void test_backend_config__says_what_was_asked_for(void **state)
{
    struct sk_backend_options options = options_for(false);

    (void)state;
    options.block_bytes = 4096;
    options.capacity_sectors = 8 * 1000 + 7; /* whole blocks only */
    options.segment_count = 77;
    options.segment_bytes = 65536;
    start(&options);
    front_end_connect(&front, socket_path);
    front_end_negotiate(&front, ALL_FEATURES, UINT64_MAX);
    assert_true((front.features & BIT(SK_VIRTIO_BLK_F_SIZE_MAX)) != 0);
    assert_int_equal(config_field(0, 8), 8000);
    assert_int_equal(config_field(8, 4), 65536);
    assert_int_equal(config_field(12, 4), 77);
    assert_int_equal(config_field(20, 4), 4096);
    assert_int_equal(config_field(32, 1), 1);
    assert_int_equal(config_field(34, 2), 4);
    assert_true(config_field(36, 4) > 0);
    assert_true(config_field(40, 4) > 0);
    assert_int_equal(config_field(44, 4), 8);
    assert_true(config_field(48, 4) > 0);
    assert_int_equal(config_field(56, 1), 1);
    assert_int_equal(front_end_ask(&front, SKI_VHOST_USER_GET_QUEUE_NUM), 4);
}

static uint64_t set_cache(uint8_t value)
{
    struct ski_vhost_user_config config = { 32, 1, 0, { value } };

    return front_end_do(&front, SKI_VHOST_USER_SET_CONFIG, &config, SKI_VHOST_USER_CONFIG_HEAD + 1,
                        NULL, 0);
}

static void test_backend_cache__follows_the_driver(void **state)
{
    struct sk_backend_options options = options_for(true);
    struct front_queue *queue = &front.queues[0];

    (void)state;
    start(&options);
    front_end_start(&front, socket_path, ALL_FEATURES, 1, 64);
    assert_int_equal(config_field(32, 1), 1);
    assert_int_equal(set_cache(0), 0);
    assert_int_equal(config_field(32, 1), 0);
    assert_int_equal(front_end_run(queue, FRONT_WRITE, 0, 512), FRONT_OK);
    assert_int_equal(set_cache(1), 0);
    assert_int_equal(config_field(32, 1), 1);
    assert_int_equal(set_cache(2), 1);
    front_end_disconnect(&front);

    /* Without FLUSH nobody can make a write durable but the back end: 5.2.5.2. */
    front_end_start(&front, socket_path, ALL_FEATURES & ~BIT(SK_VIRTIO_BLK_F_FLUSH), 1, 64);
    assert_int_equal(config_field(32, 1), 0);
    assert_int_equal(set_cache(1), 0);
    assert_int_equal(config_field(32, 1), 0);
    front_end_disconnect(&front);
    front_end_start(&front, socket_path, 0, 1, 64);
    assert_int_equal(set_cache(0), 1); /* not negotiated */
}

static void test_backend_resize__front_end_is_told(void **state)
{
    struct sk_backend_options options = options_for(true);
    struct ski_vhost_user_message told;

    (void)state;
    start(&options);
    front_end_start(&front, socket_path, ALL_FEATURES, 1, 64);
    assert_int_equal(front_end_run(&front.queues[0], FRONT_READ, SECTORS, 512), FRONT_IOERR);
    assert_int_equal(truncate(file_path, 2 * SECTORS * 512), 0);
    assert_int_equal(sk_backend_resize(backend, 0), SK_OK);
    assert_int_equal(ski_vhost_user_receive(front.backend_channel,
                                            ski_vhost_user_now() + FRONT_WAIT_NS, &told),
                     SK_OK);
    assert_int_equal(told.header.request, SKI_VHOST_USER_BACKEND_CONFIG_CHANGE);
    assert_int_equal(told.header.flags, SKI_VHOST_USER_VERSION);
    assert_int_equal(config_field(0, 8), 2 * SECTORS);
    assert_int_equal(front_end_run(&front.queues[0], FRONT_READ, SECTORS, 512), FRONT_OK);
    assert_int_equal(truncate(file_path, 511), 0);
    assert_int_equal(sk_backend_resize(backend, 0), SK_ERR_SIZE);
}

/* ---- Queues and connections --------------------------------------------------------------- */

static void test_backend_queues__four_on_two_workers(void **state)
{
    struct sk_backend_options options = options_for(true);

    (void)state;
    options.worker_count = 2;
    start(&options);
    front_end_start(&front, socket_path, ALL_FEATURES, 4, 64);
    for (uint32_t i = 0; i < 4; i++) {
        memset(front_end_data(&front.queues[i], 0), (int)i + 1, 512);
        front_end_submit(&front.queues[i], 0, FRONT_WRITE, i, 512);
        front_end_publish(&front.queues[i]);
    }
    for (uint32_t i = 0; i < 4; i++) {
        uint8_t content[512];

        assert_int_equal(front_end_wait(&front.queues[i]), 0);
        assert_int_equal(front_end_status(&front.queues[i], 0), FRONT_OK);
        read_file(i, content, sizeof(content));
        assert_int_equal(content[0], i + 1);
    }
}

static void test_backend_connections__two_front_ends_share_the_disk(void **state)
{
    static struct front_end other;
    struct sk_backend_options options = options_for(true);
    struct sk_backend_statistics statistics;

    (void)state;
    start(&options);
    front_end_init(&other);
    front_end_start(&front, socket_path, ALL_FEATURES, 2, 64);
    front_end_start(&other, socket_path, 0, 1, 32);
    for (uint32_t i = 0; i < 50; i++) {
        memset(front_end_data(&front.queues[1], 0), (int)i, 512);
        assert_int_equal(front_end_run(&front.queues[1], FRONT_WRITE, i, 512), FRONT_OK);
        assert_int_equal(front_end_run(&other.queues[0], FRONT_READ, i, 512), FRONT_OK);
        assert_memory_equal(front_end_data(&front.queues[1], 0),
                            front_end_data(&other.queues[0], 0), 512);
    }
    sk_backend_get_statistics(backend, &statistics);
    assert_int_equal(statistics.connections, 2);
    assert_int_equal(statistics.connections_open, 2);
    assert_int_equal(statistics.requests, 100);
    assert_int_equal(statistics.bytes_written, 50 * 512);
    assert_int_equal(statistics.bytes_read, 50 * 512);
    front_end_close(&other);
    assert_int_equal(front_end_run(&front.queues[0], FRONT_READ, 0, 512), FRONT_OK);
}

static void test_backend_connections__no_more_than_there_is_room_for(void **state)
{
    static struct front_end other;
    struct sk_backend_options options = options_for(false);

    (void)state;
    options.connection_count = 1;
    options.log_level = SK_LOG_ERROR;
    start(&options);
    front_end_init(&other);
    for (unsigned i = 0; i < 20; i++) {
        front_end_connect(&front, socket_path);
        (void)front_end_ask(&front, SKI_VHOST_USER_GET_FEATURES);
        front_end_connect(&other, socket_path);
        assert_true(front_end_is_closed(&other));
        front_end_disconnect(&other);
        front_end_disconnect(&front);
        /* The place becomes free when the thread has ended. */
        for (;;) {
            struct sk_backend_statistics statistics;

            sk_backend_get_statistics(backend, &statistics);
            if (statistics.connections_open == 0) {
                break;
            }
            (void)poll(NULL, 0, 1);
        }
    }
    front_end_close(&other);
}

/* Stopping in the middle and going on where it was. */
static void test_backend_stop_queue__goes_on_at_the_base(void **state)
{
    (void)state;
    for (size_t i = 0; i < KINDS; i++) {
        struct sk_backend_options options = options_for(true);
        struct front_queue *queue = &front.queues[0];

        start(&options);
        front_end_start(&front, socket_path, kinds[i], 1, 16);
        for (unsigned k = 0; k < 100; k++) {
            if (k % 9 == 0) {
                front_end_start_queue(&front, 0, front_end_stop_queue(&front, 0));
            }
            assert_int_equal(front_end_run(queue, FRONT_READ, k, 512), FRONT_OK);
        }
        front_end_disconnect(&front);
        sk_backend_stop(backend);
        backend = NULL;
    }
}

static void test_backend_stop_queue__held_requests_settle_first(void **state)
{
    struct sk_backend_fault fault;
    struct sk_backend_options options = options_for(true);
    struct front_queue *queue = &front.queues[0];

    (void)state;
    assert_int_equal(sk_backend_parse_fault("hold", &fault), SK_OK);
    options.faults = &fault;
    options.fault_count = 1;
    start(&options);
    front_end_start(&front, socket_path, BIT(SK_VIRTIO_F_INDIRECT_DESC), 1, 64);
    for (uint32_t i = 0; i < 10; i++) {
        front_end_submit(queue, i, FRONT_READ, i, 512);
    }
    front_end_publish(queue);
    while (front_end_status(queue, 9) == FRONT_POISON) {
        (void)poll(NULL, 0, 1);
    }
    assert_int_equal(front_end_poll(queue), -1);
    assert_int_equal(front_end_stop_queue(&front, 0), 10);
    for (uint32_t i = 0; i < 10; i++) {
        int slot = front_end_poll(queue);

        assert_true(slot >= 0);
        assert_int_equal(front_end_status(queue, (uint32_t)slot), FRONT_OK);
    }
}

static void test_backend_reset__begins_anew(void **state)
{
    struct sk_backend_options options = options_for(true);
    struct front_queue *queue = &front.queues[0];
    uint64_t status = 0xf;

    (void)state;
    start(&options);
    front_end_start(&front, socket_path, ALL_FEATURES, 1, 64);
    assert_int_equal(front_end_do(&front, SKI_VHOST_USER_SET_STATUS, &status, 8, NULL, 0), 0);
    assert_int_equal(front_end_ask(&front, SKI_VHOST_USER_GET_STATUS), 0xf);
    for (unsigned i = 0; i < 3; i++) {
        status = 0;
        assert_int_equal(front_end_run(queue, FRONT_READ, 0, 512), FRONT_OK);
        if (i % 2 == 0) {
            assert_int_equal(
                front_end_do(&front, SKI_VHOST_USER_RESET_DEVICE, NULL, 0, NULL, 0), 0);
        } else {
            assert_int_equal(
                front_end_do(&front, SKI_VHOST_USER_SET_STATUS, &status, 8, NULL, 0), 0);
        }
        assert_int_equal(front_end_ask(&front, SKI_VHOST_USER_GET_STATUS), 0);
        assert_int_equal(
            front_end_do(&front, SKI_VHOST_USER_SET_FEATURES, &front.features, 8, NULL, 0), 0);
        front_end_lay_out(&front, 0, 32); /* another size, from the start */
        front_end_start_queue(&front, 0, front_end_first_base(&front));
    }
    assert_int_equal(front_end_run(queue, FRONT_READ, 0, 512), FRONT_OK);
}

/* ---- Start -------------------------------------------------------------------------------- */

static void expect_no_start(const struct sk_backend_options *options, enum sk_status status,
                            const char *text)
{
    char error[SK_BACKEND_ERROR_BYTES];

    assert_int_equal(sk_backend_start(options, &backend, error), status);
    assert_null(backend);
    if (strstr(error, text) == NULL) {
        fail_msg("\"%s\" says nothing of \"%s\"", error, text);
    }
}

static void test_backend_start__bad_options_are_refused(void **state)
{
    struct sk_backend_options good = options_for(false);
    struct sk_backend_options bad;
    char long_path[200];

    (void)state;
    memset(long_path, 'a', sizeof(long_path) - 1);
    long_path[sizeof(long_path) - 1] = '\0';
#define BAD(field, value, status, text)         \
    do {                                        \
        bad = good;                             \
        bad.field = (value);                    \
        expect_no_start(&bad, (status), text);  \
    } while (0)
    BAD(address, NULL, SK_ERR_INVALID, "address");
    BAD(address, "", SK_ERR_INVALID, "address");
    BAD(address, long_path, SK_ERR_INVALID, "address");
    BAD(address, "/nowhere/at/all", SK_ERR_IO, "/nowhere/at/all");
    BAD(address, "fd:x", SK_ERR_INVALID, "number");
    BAD(address, "fd:9999", SK_ERR_INVALID, "socket");
    BAD(block_bytes, 256, SK_ERR_INVALID, "block_bytes");
    BAD(block_bytes, 1000, SK_ERR_INVALID, "block_bytes");
    BAD(block_bytes, 131072, SK_ERR_INVALID, "block_bytes");
    BAD(queue_count, 0, SK_ERR_INVALID, "queue_count");
    BAD(queue_count, 65, SK_ERR_INVALID, "queue_count");
    BAD(segment_count, 0, SK_ERR_INVALID, "segment_count");
    BAD(segment_count, 1001, SK_ERR_INVALID, "segment_count");
    BAD(worker_count, 0, SK_ERR_INVALID, "worker_count");
    BAD(connection_count, 0, SK_ERR_INVALID, "connection_count");
    BAD(fault_count, 1, SK_ERR_INVALID, "faults");
    BAD(serial, "123456789012345678901", SK_ERR_INVALID, "serial");
    BAD(log_level, SK_LOG_LEVEL_COUNT, SK_ERR_INVALID, "log_level");
    BAD(capacity_sectors, 0, SK_ERR_SIZE, "block");
    BAD(file_path, "/nowhere/file", SK_ERR_NOT_FOUND, "no such file");
    BAD(file_path, "/dev/zero", SK_ERR_INVALID, "neither a file");
    BAD(file_path, "/tmp", SK_ERR_IO, "/tmp");
#undef BAD
}

static void test_backend_start__file_without_a_block_or_in_use_is_refused(void **state)
{
    struct sk_backend_options options = options_for(true);
    int fd = open(file_path, O_RDWR | O_CLOEXEC);

    (void)state;
    assert_int_equal(flock(fd, LOCK_EX), 0);
    expect_no_start(&options, SK_ERR_BUSY, "locked");
    (void)close(fd);
    assert_int_equal(truncate(file_path, 511), 0);
    expect_no_start(&options, SK_ERR_SIZE, "block");
}

static void test_backend_start__path_that_is_left_over_is_replaced(void **state)
{
    struct sk_backend_options options = options_for(false);
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    struct sk_backend *first;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    (void)state;
    strcpy(address.sun_path, socket_path);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    (void)close(fd); /* and the path stays */
    start(&options);
    front_end_start(&front, socket_path, 0, 1, 16);
    first = backend;
    backend = NULL;
    expect_no_start(&options, SK_ERR_BUSY, "listens");
    backend = first;
    assert_int_equal(front_end_run(&front.queues[0], FRONT_READ, 0, 512), FRONT_OK);
}

static void test_backend_start__what_is_no_socket_is_not_replaced(void **state)
{
    struct sk_backend_options options = options_for(false);
    int fd = open(socket_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

    (void)state;
    (void)close(fd);
    expect_no_start(&options, SK_ERR_BUSY, "no socket");
    assert_int_equal(unlink(socket_path), 0);
}

static void test_backend_start__inherited_and_abstract_sockets_work(void **state)
{
    struct sk_backend_options options = options_for(false);
    char text[32];
    int pair[2];

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    (void)snprintf(text, sizeof(text), "fd:%d", pair[1]);
    options.address = text;
    start(&options);
    front.socket = pair[0];
    assert_int_not_equal(front_end_ask(&front, SKI_VHOST_USER_GET_FEATURES), 0);
    front_end_disconnect(&front);
    sk_backend_stop(backend);
    (void)snprintf(text, sizeof(text), "@skio-test-%d", (int)getpid());
    start(&options);
    front_end_start(&front, text, 0, 1, 16);
    assert_int_equal(front_end_run(&front.queues[0], FRONT_READ, 0, 512), FRONT_OK);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_backend_traffic__random_equals_the_file),
        TEST(test_backend_traffic__polling_equals_the_file),
        TEST(test_backend_traffic__held_back_and_shuffled_equals_the_file),
        TEST(test_backend_null__reads_zeroes_and_takes_writes),
        TEST(test_backend_null__without_zeroes_memory_stays_as_it_is),
        TEST(test_backend_requests__wrong_ones_are_answered),
        TEST(test_backend_get_id__is_the_serial),
        TEST(test_backend_ranges__file_becomes_zero_and_sparse),
        TEST(test_backend_ranges__wrong_ones_are_answered),
        TEST(test_backend_ranges__not_negotiated_is_not_supported),
        TEST(test_backend_read_only__refuses_what_writes),
        TEST(test_backend_file__shrunk_and_full_are_io_errors),
        TEST(test_backend_config__says_what_was_asked_for),
        TEST(test_backend_cache__follows_the_driver),
        TEST(test_backend_resize__front_end_is_told),
        TEST(test_backend_queues__four_on_two_workers),
        TEST(test_backend_connections__two_front_ends_share_the_disk),
        TEST(test_backend_connections__no_more_than_there_is_room_for),
        TEST(test_backend_stop_queue__goes_on_at_the_base),
        TEST(test_backend_stop_queue__held_requests_settle_first),
        TEST(test_backend_reset__begins_anew),
        TEST(test_backend_start__bad_options_are_refused),
        TEST(test_backend_start__file_without_a_block_or_in_use_is_refused),
        TEST(test_backend_start__path_that_is_left_over_is_replaced),
        TEST(test_backend_start__what_is_no_socket_is_not_replaced),
        TEST(test_backend_start__inherited_and_abstract_sockets_work),
    };
#undef TEST

    return cmocka_run_group_tests(tests, NULL, NULL);
}
