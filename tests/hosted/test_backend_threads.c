/* SPDX-License-Identifier: MIT */
/*
 * Front end and back end in one process, each with its threads: two owners
 * that wait in every way, the transport's thread, the back end's for messages
 * and work, and one that changes the disk's size or ends the back end and
 * starts it again.  tests/races runs it under ThreadSanitizer.
 */
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <skio/skio.h>
#include <skio_hosted/backend.h>
#include <skio_hosted/vhost_user.h>

#include "descriptors.h"
#include "patient.h"

#define BIT(bit)   SK_VIRTIO_FEATURE(bit)
#define BLOCK      4096u
#define BLOCKS     64u /* of each owner's part */
#define OWNERS     2u
#define DEPTH      8u
#define SECTORS    (OWNERS * BLOCKS * BLOCK / SK_BLOCK_SECTOR_BYTES)

/* Assertions of any thread. */
#define require(condition)                                                                     \
    ((condition) ? (void)0                                                                     \
                 : (void)(fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__,           \
                                  #condition), _exit(1)))

struct slot {
    struct sk_block_request request; /* first */
    struct sk_dma_segment segment;
    struct owner *owner;
    uint32_t block;
    bool out;
};

struct owner {
    uint32_t index;
    struct sk_block_queue *queue;
    struct sk_io_buffer buffer;
    struct slot slots[DEPTH];
    uint32_t generation[BLOCKS];
    bool busy[BLOCKS];
    uint32_t last_generation;
    uint32_t out;
    uint32_t goal; /* how many it finishes at least */
    uint32_t finished;
    uint64_t random;
};

static char folder[64];
static char socket_path[96];
static char file_path[96];
static struct sk_backend *backend;
static struct sk_vhost_user_disk *disk;
static struct sk_block_device *device;
static struct owner owners[OWNERS];
static _Atomic bool ends;          /* of what disturbs */
static _Atomic uint32_t progress;  /* of all owners */
static uint64_t poll_ns; /* of the back end */
static unsigned descriptors;

/* ---- The two sides -------------------------------------------------------------------------- */

static void drop_line(void *context, enum sk_log_level level, const char *line)
{
    (void)context;
    if (getenv("TEST_LOG") != NULL) {
        (void)fprintf(stderr, "%s: %s\n", sk_log_level_name(level), line);
    }
}

static void start_backend(void)
{
    struct sk_backend_options options;
    char error[SK_BACKEND_ERROR_BYTES];

    sk_backend_options_init(&options);
    options.address = socket_path;
    options.file_path = file_path;
    options.queue_count = OWNERS;
    options.worker_count = 2;
    options.poll_ns = poll_ns;
    options.write_log = drop_line;
    if (sk_backend_start(&options, &backend, error) != SK_OK) {
        (void)fprintf(stderr, "%s\n", error);
        exit(1);
    }
}

static void open_disk(uint64_t features, uint32_t queue_size)
{
    struct sk_vhost_user_disk_options options = SK_VHOST_USER_DISK_OPTIONS_DEFAULT;
    char error[SK_VHOST_USER_ERROR_BYTES];

    be_patient(&options);
    options.process.write_log = drop_line;
    options.driver.features = features;
    options.driver.queue_count = OWNERS;
    options.driver.queue_size = queue_size;
    if (sk_vhost_user_disk_open(socket_path, &options, &disk, error) != SK_OK) {
        fail_msg("%s", error);
    }
    device = sk_vhost_user_disk_device(disk);
    for (uint32_t i = 0; i < OWNERS; i++) {
        memset(&owners[i], 0, sizeof(owners[i]));
        owners[i].index = i;
        owners[i].random = i + 1;
        owners[i].queue = sk_block_get_queue(device, i);
        assert_non_null(owners[i].queue);
        assert_int_equal(sk_io_buffer_create(&owners[i].buffer, device->domain, DEPTH * BLOCK,
                                             BLOCK),
                         SK_OK);
    }
}

static int set_up(void **state)
{
    int fd;

    (void)state;
    descriptors = descriptors_count();
    strcpy(folder, "/tmp/skio-threads-XXXXXX");
    assert_non_null(mkdtemp(folder));
    (void)snprintf(socket_path, sizeof(socket_path), "%s/socket", folder);
    (void)snprintf(file_path, sizeof(file_path), "%s/file", folder);
    fd = open(file_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, SECTORS * SK_BLOCK_SECTOR_BYTES), 0);
    assert_int_equal(close(fd), 0);
    start_backend();
    ends = false;
    progress = 0;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < OWNERS; i++) {
        if (sk_io_buffer_destroy(&owners[i].buffer) != SK_OK) {
            return -1;
        }
    }
    if (sk_vhost_user_disk_close(disk) != SK_OK) {
        return -1;
    }
    sk_backend_stop(backend);
    (void)unlink(file_path);
    (void)rmdir(folder);
    return descriptors_count() == descriptors ? 0 : -1;
}

/* ---- An owner's work ------------------------------------------------------------------------ */

static uint32_t random_below(struct owner *owner, uint32_t below)
{
    owner->random = owner->random * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(owner->random >> 33) % below;
}

static uint8_t *data_of(struct owner *owner, const struct slot *slot)
{
    return (uint8_t *)sk_io_buffer_data(&owner->buffer) + (slot - owner->slots) * BLOCK;
}

static void fill(uint8_t *to, uint32_t block, uint32_t generation)
{
    uint32_t words[2] = { block, generation };

    memset(to, (int)(generation & 0xff), BLOCK);
    if (generation != 0) {
        memcpy(to, words, sizeof(words));
    }
}

static void done(struct sk_block_request *request)
{
    struct slot *slot = (struct slot *)(void *)request;
    struct owner *owner = slot->owner;
    uint8_t expected[BLOCK];

    require(slot->out);
    require(request->status == SK_OK);
    if (request->operation == SK_BLOCK_READ) {
        fill(expected, slot->block, owner->generation[slot->block]);
        require(memcmp(expected, data_of(owner, slot), BLOCK) == 0);
    }
    owner->busy[slot->block] = false;
    slot->out = false;
    owner->out--;
    owner->finished++;
    progress++;
}

static void submit(struct owner *owner, struct slot *slot)
{
    struct sk_block_request *request = &slot->request;
    bool writes = random_below(owner, 2) != 0;

    slot->block = random_below(owner, BLOCKS);
    if (owner->busy[slot->block]) {
        return;
    }
    owner->busy[slot->block] = true;
    slot->owner = owner;
    slot->out = true;
    owner->out++;
    if (writes) {
        owner->generation[slot->block] = ++owner->last_generation;
        fill(data_of(owner, slot), slot->block, owner->last_generation);
    }
    require(sk_io_buffer_segment(&owner->buffer, (uint64_t)(slot - owner->slots) * BLOCK, BLOCK,
                                 &slot->segment) == SK_OK);
    *request = (struct sk_block_request){
        .operation = writes ? SK_BLOCK_WRITE : SK_BLOCK_READ,
        .sector = (uint64_t)(owner->index * BLOCKS + slot->block) * (BLOCK / SK_BLOCK_SECTOR_BYTES),
        .segments = &slot->segment,
        .segment_count = 1,
        .complete = done,
    };
    sk_block_submit(owner->queue, &request, 1);
}

/* Polls, sleeps in one of three ways, or waits as an event loop does. */
static void rest(struct owner *owner)
{
    struct pollfd wait = { .fd = sk_vhost_user_disk_queue_fd(disk, owner->index),
                           .events = POLLIN };
    enum sk_status status;

    switch (random_below(owner, 4)) {
    case 0:
        require(sk_block_wait(owner->queue, UINT64_MAX) == SK_OK);
        break;
    case 1:
        require(sk_block_wait_hybrid(owner->queue, 20000, UINT64_MAX) == SK_OK);
        break;
    case 2:
        status = sk_vhost_user_disk_arm(disk, owner->index);
        require(status == SK_OK || status == SK_ERR_AGAIN);
        require(status != SK_OK || poll(&wait, 1, (int)(PATIENT_NS / 1000000)) == 1);
        break;
    default:
        (void)sched_yield();
    }
}

static void *work(void *argument)
{
    struct owner *owner = argument;

    while (owner->finished < owner->goal || !ends || owner->out > 0) {
        uint32_t found = 0;

        for (uint32_t i = 0; i < DEPTH && (owner->finished < owner->goal || !ends); i++) {
            if (!owner->slots[i].out && random_below(owner, 2) == 0) {
                submit(owner, &owner->slots[i]);
            }
        }
        require(sk_block_poll(owner->queue, 0, &found) == SK_OK);
        if (found == 0 && owner->out > 0) {
            rest(owner);
        }
    }
    return NULL;
}

static void run(uint32_t goal, void (*disturb)(void))
{
    pthread_t threads[OWNERS];

    for (uint32_t i = 0; i < OWNERS; i++) {
        owners[i].goal = goal;
        assert_int_equal(pthread_create(&threads[i], NULL, work, &owners[i]), 0);
    }
    disturb();
    ends = true;
    for (uint32_t i = 0; i < OWNERS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
}

/* Until so many more requests are finished. */
static void let_go_on(uint32_t more)
{
    uint32_t until = progress + more;

    while (progress < until) {
        (void)usleep(200);
    }
}

/* ---- The tests ------------------------------------------------------------------------------ */

#define RESIZES 20u

static _Atomic uint64_t told;

static void changed(struct sk_block_device *of, uint32_t changes, void *context)
{
    struct sk_block_info info;

    (void)context;
    require((changes & SK_BLOCK_CHANGED_CAPACITY) != 0);
    sk_block_get_info(of, &info);
    told = info.capacity_sectors;
}

/* The disk grows, block by block. */
static void resize(void)
{
    for (uint32_t i = 1; i <= RESIZES; i++) {
        uint64_t sectors = SECTORS + i * 8;
        struct sk_vhost_user_info connection;
        struct sk_block_info info;

        require(truncate(file_path, (off_t)(sectors * SK_BLOCK_SECTOR_BYTES)) == 0);
        require(sk_backend_resize(backend, 0) == SK_OK);
        while (told != sectors) {
            sk_block_get_info(device, &info);
            require(info.capacity_sectors + 8 >= sectors);
            sk_vhost_user_get_info(sk_vhost_user_disk_transport(disk), &connection);
            require(connection.connected);
            (void)usleep(100);
        }
    }
}

static void test_backend_threads__resized_under_load(void **state)
{
    (void)state;
    told = 0;
    open_disk(UINT64_MAX & ~BIT(SK_VIRTIO_F_RING_PACKED), 16);
    sk_block_watch(device, changed, NULL);
    run(2000, resize);
}

static void test_backend_threads__resized_under_load_packed(void **state)
{
    (void)state;
    told = 0;
    open_disk(UINT64_MAX & ~BIT(SK_VIRTIO_F_INDIRECT_DESC), 29);
    sk_block_watch(device, changed, NULL);
    run(2000, resize);
}

/* The back end looks for a while before it sleeps, and those that come back get in between. */
static void test_backend_threads__resized_under_load_polling(void **state)
{
    (void)state;
    sk_backend_stop(backend);
    poll_ns = 50000;
    start_backend();
    poll_ns = 0;
    told = 0;
    open_disk(UINT64_MAX & ~BIT(SK_VIRTIO_F_IN_ORDER), 64);
    sk_block_watch(device, changed, NULL);
    run(2000, resize);
}

/* The back end ends, and another one goes on with what the first had. */
static void restart(void)
{
    struct sk_vhost_user_info connection;

    for (uint32_t i = 1; i <= 8; i++) {
        let_go_on(200);
        sk_backend_stop(backend);
        start_backend();
        do {
            sk_vhost_user_get_info(sk_vhost_user_disk_transport(disk), &connection);
            (void)usleep(100);
        } while (connection.reconnects < i || !connection.connected);
        require(connection.resumes);
    }
    let_go_on(200);
}

static void test_backend_threads__restarted_under_load(void **state)
{
    (void)state;
    open_disk(UINT64_MAX & ~BIT(SK_VIRTIO_F_RING_PACKED), 16);
    run(1000, restart);
}

static void test_backend_threads__restarted_under_load_packed(void **state)
{
    (void)state;
    open_disk(UINT64_MAX, 13);
    run(1000, restart);
}

int main(int argc, char **argv)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_backend_threads__resized_under_load),
        TEST(test_backend_threads__resized_under_load_packed),
        TEST(test_backend_threads__resized_under_load_polling),
        TEST(test_backend_threads__restarted_under_load),
        TEST(test_backend_threads__restarted_under_load_packed),
    };
#undef TEST

    if (argc > 1) {
        cmocka_set_test_filter(argv[1]);
    }
    return cmocka_run_group_tests_name("backend_threads", tests, NULL, NULL);
}
