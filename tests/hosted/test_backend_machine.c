/* SPDX-License-Identifier: MIT */
/*
 * What the back end and the front end meet on a machine: a file system that is
 * full, a limit of file sizes, block devices, huge pages.  Where a test may not
 * make one, it is skipped and says what it needs.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

#include <skio/skio.h>
#include <skio_hosted/backend.h>
#include <skio_hosted/vhost_user.h>

#include "descriptors.h"
#include "huge_pages.h"
#include "patient.h"

#define MIB   (UINT64_C(1) << 20)
#define BYTES (4 * MIB)
#define CHUNK 65536u

static char folder[64];
static char socket_path[96];
static char file_path[96];
static struct sk_backend *backend;
static struct sk_vhost_user_disk *disk;
static struct sk_block_queue *queue;
static unsigned descriptors;
static uint8_t data[CHUNK];
static uint8_t found[CHUNK];
static const uint8_t zeroes[CHUNK];
static long huge_before = -1; /* how many huge pages there were, if a test changed that */

static int set_up(void **state)
{
    (void)state;
    descriptors = descriptors_count();
    strcpy(folder, "/tmp/skio-machine-XXXXXX");
    if (mkdtemp(folder) == NULL) {
        return -1;
    }
    (void)snprintf(socket_path, sizeof(socket_path), "%s/socket", folder);
    (void)snprintf(file_path, sizeof(file_path), "%s/file", folder);
    for (size_t i = 0; i < CHUNK; i++) {
        data[i] = (uint8_t)(i * 7 + i / 512 + 1);
    }
    backend = NULL;
    disk = NULL;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    if (huge_before >= 0) {
        (void)huge_pages_set(huge_before);
        huge_before = -1;
    }
    huge_pages_unlock();
    if (sk_vhost_user_disk_close(disk) != SK_OK) {
        return -1;
    }
    sk_backend_stop(backend);
    (void)unlink(file_path);
    (void)rmdir(folder);
    return descriptors_count() == descriptors ? 0 : -1;
}

static void drop_line(void *context, enum sk_log_level level, const char *line)
{
    (void)context;
    (void)level;
    (void)line;
}

/* A sparse file of BYTES. */
static void make_file(const char *path)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, BYTES), 0);
    assert_int_equal(close(fd), 0);
}

static enum sk_status try_serve(const char *path, uint32_t block_bytes,
                                enum sk_process_pages pages)
{
    struct sk_vhost_user_disk_options with = SK_VHOST_USER_DISK_OPTIONS_DEFAULT;
    struct sk_backend_options options;
    char error[SK_BACKEND_ERROR_BYTES];
    enum sk_status status;

    sk_backend_options_init(&options);
    options.address = socket_path;
    options.file_path = path;
    options.block_bytes = block_bytes;
    options.write_log = drop_line;
    if (sk_backend_start(&options, &backend, error) != SK_OK) {
        fail_msg("%s", error);
    }
    be_patient(&with);
    with.memory_bytes = MIB;
    with.pages = pages;
    with.process.write_log = drop_line;
    status = sk_vhost_user_disk_open(socket_path, &with, &disk, error);
    if (status == SK_OK) {
        queue = sk_block_get_queue(sk_vhost_user_disk_device(disk), 0);
    }
    return status;
}

static void serve(const char *path, uint32_t block_bytes, enum sk_process_pages pages)
{
    assert_int_equal(try_serve(path, block_bytes, pages), SK_OK);
}

static void stop_serving(void)
{
    assert_int_equal(sk_vhost_user_disk_close(disk), SK_OK);
    disk = NULL;
    sk_backend_stop(backend);
    backend = NULL;
}

static enum sk_status write_at(uint64_t offset, uint32_t bytes)
{
    return sk_block_write(queue, offset / 512, data, bytes, 0);
}

static void expect_at(uint64_t offset, const uint8_t *expected, uint32_t bytes)
{
    assert_int_equal(sk_block_read(queue, offset / 512, found, bytes, 0), SK_OK);
    assert_memory_equal(found, expected, bytes);
}

/* ---- Full ------------------------------------------------------------------------------------ */

static bool write_line(const char *path, const char *line)
{
    FILE *file = fopen(path, "we");
    bool good = file != NULL && fputs(line, file) >= 0;

    return file != NULL && fclose(file) == 0 && good;
}

/* Own mounts, for which one has to be root, here or in a user name space of one's own. */
static bool separate_mounts(void)
{
    char users[64];
    char groups[64];

    if (unshare(CLONE_NEWNS) == 0) {
        return true;
    }
    (void)snprintf(users, sizeof(users), "0 %u 1", (unsigned)getuid());
    (void)snprintf(groups, sizeof(groups), "0 %u 1", (unsigned)getgid());
    return unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0 && write_line("/proc/self/uid_map", users) &&
           write_line("/proc/self/setgroups", "deny") && write_line("/proc/self/gid_map", groups);
}

/* A file system of 1 MiB over the folder, that only this process sees; false: not allowed. */
static bool mount_small(void)
{
    if (!separate_mounts()) {
        return false;
    }
    return mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
           mount("skio", folder, "tmpfs", 0, "size=1m") == 0;
}

static void test_backend_file__no_space_left_is_an_io_error(void **state)
{
    uint64_t offset = 0;
    enum sk_status status = SK_OK;

    (void)state;
    if (!mount_small()) {
        print_message("skipped: needs the right to mount\n");
        skip();
    }
    make_file(file_path);
    serve(file_path, 512, SK_PROCESS_PAGES_ANY);
    while (status == SK_OK) {
        status = write_at(offset, CHUNK);
        offset += CHUNK;
        assert_true(offset <= 2 * MIB);
    }
    assert_int_equal(status, SK_ERR_IO);
    assert_int_equal(sk_block_clear(queue, SK_BLOCK_WRITE_ZEROES, 3 * MIB / 512, 128, 0, 0),
                     SK_ERR_IO);
    /* What was written is there and can be written again; the disk goes on. */
    expect_at(0, data, CHUNK);
    assert_int_equal(write_at(0, CHUNK), SK_OK);
    assert_int_equal(sk_block_flush(queue, 0), SK_OK);
    assert_int_equal(sk_block_get_state(sk_vhost_user_disk_device(disk)), SK_BLOCK_STATE_READY);
    /* Space that is given up can be used elsewhere. */
    assert_int_equal(sk_block_clear(queue, SK_BLOCK_DISCARD, 0, 2 * CHUNK / 512, 0, 0), SK_OK);
    assert_int_equal(write_at(3 * MIB, CHUNK), SK_OK);
    expect_at(3 * MIB, data, CHUNK);
    expect_at(0, zeroes, CHUNK);
    stop_serving();
    assert_int_equal(unlink(file_path), 0);
    assert_int_equal(umount(folder), 0);
}

static void test_backend_file__limit_of_its_size_is_an_io_error(void **state)
{
    struct rlimit before;
    struct rlimit limit;

    (void)state;
    make_file(file_path);
    serve(file_path, 512, SK_PROCESS_PAGES_ANY);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    limit = before;
    limit.rlim_cur = 2 * MIB + 4096;
    (void)signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    assert_int_equal(write_at(2 * MIB - CHUNK, CHUNK), SK_OK);
    assert_int_equal(write_at(2 * MIB, CHUNK), SK_ERR_IO); /* after its first 4096 bytes */
    assert_int_equal(write_at(3 * MIB, 512), SK_ERR_IO);
    expect_at(2 * MIB, data, 4096);
    expect_at(3 * MIB, zeroes, 512);
    assert_int_equal(sk_block_flush(queue, 0), SK_OK);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    (void)signal(SIGXFSZ, SIG_DFL);
    assert_int_equal(write_at(3 * MIB, 512), SK_OK);
    expect_at(3 * MIB, data, 512);
}

/* ---- Block devices --------------------------------------------------------------------------- */

static char device_path[32];

/* The next free loop device on the file; -1: not allowed, or EBUSY: somebody else took it. */
static int attach_free_loop(int control, int file, uint32_t block_bytes)
{
    struct loop_config config = { .fd = (uint32_t)file,
                                  .block_size = block_bytes,
                                  .info = { .lo_flags = LO_FLAGS_AUTOCLEAR } };
    int number = ioctl(control, LOOP_CTL_GET_FREE);
    int device = -1;

    if (number >= 0) {
        (void)snprintf(device_path, sizeof(device_path), "/dev/loop%d", number);
        device = open(device_path, O_RDWR | O_CLOEXEC);
    }
    if (device >= 0 && ioctl(device, LOOP_CONFIGURE, &config) != 0) {
        int error = errno;

        (void)close(device);
        errno = error;
        device = -1;
    }
    return device;
}

/* A loop device on the file, with blocks of this size; -1: not allowed. */
static int attach_loop(uint32_t block_bytes)
{
    int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
    int file = open(file_path, O_RDWR | O_CLOEXEC);
    int device;

    do {
        device = attach_free_loop(control, file, block_bytes);
    } while (device < 0 && errno == EBUSY);
    (void)close(file);
    if (control >= 0) {
        (void)close(control);
    }
    return device;
}

static void expect_in_file(uint64_t offset, const uint8_t *expected, uint32_t bytes)
{
    int fd = open(file_path, O_RDONLY | O_CLOEXEC);

    assert_true(fd >= 0);
    assert_int_equal(pread(fd, found, bytes, (off_t)offset), bytes);
    assert_int_equal(close(fd), 0);
    assert_memory_equal(found, expected, bytes);
}

static void serve_device(uint32_t device_block_bytes, uint32_t block_bytes)
{
    int device;

    make_file(file_path);
    device = attach_loop(device_block_bytes);
    if (device < 0) {
        print_message("skipped: needs the right to make a loop device\n");
        skip();
    }
    serve(device_path, block_bytes, SK_PROCESS_PAGES_ANY);
    assert_int_equal(close(device), 0); /* it lives as long as the back end has it */
}

static void block_device(uint32_t block_bytes)
{
    struct sk_block_info info;

    serve_device(block_bytes, block_bytes);
    sk_block_get_info(sk_vhost_user_disk_device(disk), &info);
    assert_int_equal(info.capacity_sectors, BYTES / 512);
    assert_int_equal(info.block_bytes, block_bytes);
    for (uint64_t at = 0; at < MIB; at += CHUNK) {
        assert_int_equal(write_at(at, CHUNK), SK_OK);
    }
    assert_int_equal(write_at(BYTES - block_bytes, block_bytes), SK_OK);
    assert_int_equal(sk_block_flush(queue, 0), SK_OK);
    expect_in_file(MIB - CHUNK, data, CHUNK);
    expect_in_file(BYTES - block_bytes, data, block_bytes);
    assert_int_equal(sk_block_clear(queue, SK_BLOCK_WRITE_ZEROES, 8, 8, 0, 0), SK_OK);
    assert_int_equal(sk_block_clear(queue, SK_BLOCK_WRITE_ZEROES, 24, 8, SK_BLOCK_FLAG_UNMAP, 0),
                     SK_OK);
    assert_int_equal(sk_block_clear(queue, SK_BLOCK_DISCARD, 128, 128, 0, 0), SK_OK);
    expect_at(4096, zeroes, 4096);
    expect_at(12288, zeroes, 4096);
    expect_at(CHUNK, zeroes, CHUNK); /* what a loop device makes of a discard */
    expect_at(2 * CHUNK, data, CHUNK);
    assert_int_equal(sk_block_flush(queue, 0), SK_OK);
    expect_in_file(4096, zeroes, 4096);
    expect_in_file(2 * CHUNK, data, CHUNK);
    stop_serving();
    assert_int_equal(unlink(file_path), 0);
}

static void test_backend_device__block_device_is_a_disk(void **state)
{
    (void)state;
    block_device(512);
    block_device(4096);
}

/* Smaller blocks than the device has: writes work, and a discard is good will. */
static void test_backend_device__smaller_blocks_than_its_own_work(void **state)
{
    (void)state;
    serve_device(4096, 512);
    assert_int_equal(write_at(0, CHUNK), SK_OK);
    assert_int_equal(sk_block_clear(queue, SK_BLOCK_DISCARD, 1, 1, 0, 0), SK_OK);
    assert_int_equal(sk_block_clear(queue, SK_BLOCK_WRITE_ZEROES, 9, 2, SK_BLOCK_FLAG_UNMAP, 0),
                     SK_OK);
    expect_at(0, data, 512);
    expect_at(1024, data + 1024, 9 * 512 - 1024);
    expect_at(9 * 512, zeroes, 1024);
    expect_at(11 * 512, data + 11 * 512, CHUNK - 11 * 512);
}

/* ---- Huge pages ------------------------------------------------------------------------------- */

static uint64_t page_bytes(void)
{
    return sk_process_get_region(sk_vhost_user_disk_process(disk), 0)->page_bytes;
}

static void use_region(void)
{
    assert_int_equal(write_at(MIB, CHUNK), SK_OK);
    expect_at(MIB, data, CHUNK);
    assert_int_equal(sk_block_flush(queue, 0), SK_OK);
    expect_in_file(MIB, data, CHUNK);
}

/* What others on the machine take of the pages, the moment that they are there, is made anew. */
static bool serve_with_huge_pages(enum sk_process_pages pages)
{
    for (long more = 8; more <= 64; more += 8) {
        if (!huge_pages_set(huge_before + more) ||
            huge_pages_count() < huge_before + more / 2) {
            return false;
        }
        if (try_serve(file_path, 512, pages) == SK_OK && page_bytes() == 2 * MIB) {
            return true;
        }
        stop_serving();
    }
    return false;
}

/* Both sides map them; the pages are given back afterwards. */
static void test_backend_memory__huge_pages_are_shared(void **state)
{
    (void)state;
    huge_pages_lock();
    huge_before = huge_pages_count();
    make_file(file_path);
    if (huge_before < 0 || !serve_with_huge_pages(SK_PROCESS_PAGES_HUGE)) {
        print_message("skipped: needs the right to make huge pages, and memory for them\n");
        skip();
    }
    use_region();
    stop_serving();
    /* There are some: they are taken. */
    assert_true(serve_with_huge_pages(SK_PROCESS_PAGES_ANY));
    use_region();
}

/* There are none: ordinary ones do. */
static void test_backend_memory__without_huge_pages_ordinary_ones_are_shared(void **state)
{
    (void)state;
    huge_pages_lock();
    if (huge_pages_count() != 0) {
        print_message("skipped: needs a machine without huge pages\n");
        skip();
    }
    make_file(file_path);
    serve(file_path, 512, SK_PROCESS_PAGES_ANY);
    assert_int_equal(page_bytes(), 4096);
    use_region();
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_backend_file__limit_of_its_size_is_an_io_error),
        TEST(test_backend_device__block_device_is_a_disk),
        TEST(test_backend_device__smaller_blocks_than_its_own_work),
        TEST(test_backend_memory__huge_pages_are_shared),
        TEST(test_backend_memory__without_huge_pages_ordinary_ones_are_shared),
        TEST(test_backend_file__no_space_left_is_an_io_error), /* last: it leaves what all see */
    };
#undef TEST

    return cmocka_run_group_tests_name("backend_machine", tests, NULL, NULL);
}
