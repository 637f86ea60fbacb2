/* SPDX-License-Identifier: MIT */
/* The platform of a Linux process: memory, event fds, sleeping. */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include <skio/skio.h>
#include <skio_hosted/process.h>

#include "descriptors.h"
#include "huge_pages.h"

#define MIB       (UINT64_C(1) << 20)
#define SECOND_NS UINT64_C(1000000000)
#define SHORT_NS  UINT64_C(20000000)
#define LONG_NS   (60 * SECOND_NS) /* ends what would hang */

static struct sk_process *process;
static const struct sk_platform *platform;
static unsigned descriptors;
static unsigned lines[SK_LOG_LEVEL_COUNT];

static void count_line(void *context, enum sk_log_level level, const char *line)
{
    assert_ptr_equal(context, lines);
    assert_non_null(line);
    lines[level]++;
}

static int set_up(void **state)
{
    struct sk_process_options options = SK_PROCESS_OPTIONS_DEFAULT;

    (void)state;
    descriptors = descriptors_count();
    memset(lines, 0, sizeof(lines));
    options.write_log = count_line;
    options.log_context = lines;
    if (sk_process_create(&options, &process) != SK_OK) {
        return -1;
    }
    platform = sk_process_platform(process);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    huge_pages_unlock();
    if (sk_process_destroy(process) != SK_OK) {
        return -1;
    }
    return descriptors_count() == descriptors ? 0 : -1;
}

static uint64_t now(void)
{
    return platform->now_ns(platform->context);
}

/* ---- Life -------------------------------------------------------------------------------- */

static void test_process_create__options_are_checked(void **state)
{
    struct sk_process_options options = SK_PROCESS_OPTIONS_DEFAULT;
    struct sk_process *other;

    (void)state;
    options.log_level = SK_LOG_LEVEL_COUNT;
    assert_int_equal(sk_process_create(&options, &other), SK_ERR_INVALID);
    assert_null(other);
    assert_int_equal(sk_process_create(NULL, &other), SK_OK);
    assert_ptr_not_equal(sk_process_platform(other), platform);
    assert_int_equal(sk_process_destroy(other), SK_OK);
    assert_int_equal(sk_process_destroy(NULL), SK_OK);
}

static void test_process_platform__has_a_clock_and_no_registers(void **state)
{
    struct sk_mmio mmio;
    uint64_t first = now();

    (void)state;
    assert_true(now() >= first);
    assert_int_equal(platform->map_mmio(platform->context, sk_paddr_make(0), 4096, &mmio),
                     SK_ERR_UNSUPPORTED);
}

static void test_process_platform__log_goes_to_stderr_by_default(void **state)
{
    static const char expected[] = "skio: error: line 7\n";
    struct sk_process *other;
    char text[64] = { 0 };
    int ends[2];
    int saved = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0);
    ssize_t length;

    (void)state;
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    assert_int_equal(sk_process_create(NULL, &other), SK_OK);
    assert_int_equal(dup2(ends[1], STDERR_FILENO), STDERR_FILENO);
    sk_log_print(sk_process_platform(other)->log, SK_LOG_ERROR, "line %u", 7u);
    sk_log_print(sk_process_platform(other)->log, SK_LOG_DEBUG, "line %u", 8u);
    assert_int_equal(dup2(saved, STDERR_FILENO), STDERR_FILENO);
    length = read(ends[0], text, sizeof(text));
    assert_int_equal(length, sizeof(expected) - 1);
    assert_string_equal(text, expected);
    assert_int_equal(close(saved) + close(ends[0]) + close(ends[1]), 0);
    assert_int_equal(sk_process_destroy(other), SK_OK);
}

/* ---- Memory ------------------------------------------------------------------------------ */

static bool is_zero(const void *memory, size_t bytes)
{
    const uint8_t *at = memory;

    return at[0] == 0 && memcmp(at, at + 1, bytes - 1) == 0;
}

static void test_process_add_region__is_zeroed_aligned_and_whole_units(void **state)
{
    const struct sk_process_region *region;

    (void)state;
    assert_int_equal(sk_process_add_region(process, 1, SK_PROCESS_PAGES_ORDINARY, &region), SK_OK);
    assert_int_equal(region->bytes, 2 * MIB);
    assert_int_equal(region->page_bytes, 4096);
    assert_int_equal((uintptr_t)region->cpu % (2 * MIB), 0);
    assert_int_equal(region->paddr.raw % (2 * MIB), 0);
    assert_true(is_zero(region->cpu, region->bytes));
    assert_int_equal(sk_process_region_count(process), 1);
    assert_ptr_equal(sk_process_get_region(process, 0), region);
    assert_null(sk_process_get_region(process, 1));
}

static void test_process_add_region__nobody_can_resize_it_or_inherit_it(void **state)
{
    const struct sk_process_region *region;

    (void)state;
    assert_int_equal(sk_process_add_region(process, MIB, SK_PROCESS_PAGES_ANY, &region), SK_OK);
    assert_int_equal(ftruncate(region->fd, 0), -1);
    assert_int_equal(ftruncate(region->fd, (off_t)(2 * region->bytes)), -1);
    assert_int_equal(fcntl(region->fd, F_ADD_SEALS, F_SEAL_WRITE), -1);
    assert_true(fcntl(region->fd, F_GETFD) & FD_CLOEXEC);
}

static void test_process_add_region__others_see_the_same_memory(void **state)
{
    const struct sk_process_region *region;
    uint8_t *other;

    (void)state;
    assert_int_equal(sk_process_add_region(process, MIB, SK_PROCESS_PAGES_ANY, &region), SK_OK);
    other = mmap(NULL, region->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, region->fd, 0);
    assert_ptr_not_equal(other, MAP_FAILED);
    ((uint8_t *)region->cpu)[12345] = 0x5a;
    assert_int_equal(other[12345], 0x5a);
    assert_int_equal(munmap(other, region->bytes), 0);
}

static void test_process_add_region__wrong_sizes_and_pages_change_nothing(void **state)
{
    (void)state;
    assert_int_equal(sk_process_add_region(process, 0, SK_PROCESS_PAGES_ANY, NULL), SK_ERR_SIZE);
    assert_int_equal(
        sk_process_add_region(process, (UINT64_C(1) << 46) + 1, SK_PROCESS_PAGES_ANY, NULL),
        SK_ERR_SIZE);
    assert_int_equal(sk_process_add_region(process, 1, SK_PROCESS_PAGES_COUNT, NULL),
                     SK_ERR_INVALID);
    assert_int_equal(sk_process_add_region(NULL, 1, SK_PROCESS_PAGES_ANY, NULL), SK_ERR_INVALID);
    /* As much address space as there is: no room for a second one. */
    assert_int_equal(
        sk_process_add_region(process, UINT64_C(1) << 46, SK_PROCESS_PAGES_HUGE, NULL),
        SK_ERR_NO_MEMORY);
    assert_int_equal(sk_process_region_count(process), 0);
    assert_int_equal(lines[SK_LOG_ERROR], 1);
}

/* Whether there are huge pages is the machine's business; what is promised holds both ways. */
static void test_process_add_region__huge_pages_or_a_clear_no(void **state)
{
    const struct sk_process_region *region;
    enum sk_status status;
    unsigned open;

    (void)state;
    huge_pages_lock();
    open = descriptors_count();
    status = sk_process_add_region(process, MIB, SK_PROCESS_PAGES_HUGE, &region);
    if (status == SK_OK) {
        assert_true(region->page_bytes >= 2 * MIB);
        assert_int_equal(region->bytes % region->page_bytes, 0);
        assert_true(is_zero(region->cpu, region->bytes));
        assert_int_equal(ftruncate(region->fd, 0), -1);
    } else {
        assert_int_equal(status, SK_ERR_NO_MEMORY);
        assert_int_equal(sk_process_region_count(process), 0);
        assert_int_equal(descriptors_count(), open);
        assert_int_equal(lines[SK_LOG_ERROR], 1);
        assert_int_equal(sk_process_add_region(process, MIB, SK_PROCESS_PAGES_ANY, &region),
                         SK_OK);
        /* Somebody may have given some back just now, if there are any. */
        assert_true(region->page_bytes == 4096 || huge_pages_count() > 0);
    }
}

static void test_process_add_region__many_never_touch_each_other(void **state)
{
    (void)state;
    for (size_t i = 0; i < SK_PROCESS_REGIONS_MAX; i++) {
        const struct sk_process_region *last = sk_process_get_region(process, i - 1);
        const struct sk_process_region *region;

        assert_int_equal(
            sk_process_add_region(process, (i % 3 + 1) * MIB, SK_PROCESS_PAGES_ORDINARY, &region),
            SK_OK);
        if (i > 0) {
            assert_true(region->paddr.raw >= last->paddr.raw + last->bytes + 2 * MIB);
        }
    }
    assert_int_equal(sk_process_add_region(process, MIB, SK_PROCESS_PAGES_ORDINARY, NULL),
                     SK_ERR_NO_MEMORY);
    assert_int_equal(sk_process_region_count(process), SK_PROCESS_REGIONS_MAX);
}

static void test_process_region__buffers_are_where_the_device_is_told(void **state)
{
    const struct sk_process_region *region;
    struct sk_io_buffer buffer = SK_IO_BUFFER_EMPTY;
    sk_daddr address;

    (void)state;
    assert_int_equal(sk_process_add_region(process, MIB, SK_PROCESS_PAGES_ANY, NULL), SK_OK);
    assert_int_equal(sk_process_add_region(process, MIB, SK_PROCESS_PAGES_ANY, &region), SK_OK);
    assert_int_equal(sk_io_buffer_create(&buffer, region->domain, 10000, 4096), SK_OK);
    assert_int_equal(sk_io_buffer_address(&buffer, &address), SK_OK);
    assert_int_equal(address.raw - region->paddr.raw,
                     (uintptr_t)sk_io_buffer_data(&buffer) - (uintptr_t)region->cpu);
    assert_true(sk_io_buffer_is_coherent(&buffer));
    assert_int_equal(sk_process_destroy(process), SK_ERR_BUSY);
    assert_int_equal(lines[SK_LOG_ERROR], 1);
    assert_int_equal(sk_io_buffer_destroy(&buffer), SK_OK);
}

/* Memory of any region goes to the device as it is; the heap's is copied. */
static void test_process_region__foreign_memory_is_bounced(void **state)
{
    const struct sk_process_region *first;
    const struct sk_process_region *second;
    struct sk_dma_segment segments[4];
    struct sk_dma_mapping mapping;
    uint8_t *heap = malloc(5000);

    (void)state;
    assert_int_equal(sk_process_add_region(process, MIB, SK_PROCESS_PAGES_ANY, &first), SK_OK);
    assert_int_equal(sk_process_add_region(process, MIB, SK_PROCESS_PAGES_ANY, &second), SK_OK);
    memset(heap, 0x77, 5000);
    assert_int_equal(sk_dma_domain_map(first->domain, heap, 5000, SK_DMA_TO_DEVICE, NULL, segments,
                                       4, &mapping),
                     SK_OK);
    assert_true(mapping.bounced);
    assert_true(segments[0].address.raw >= first->paddr.raw &&
                segments[0].address.raw < first->paddr.raw + first->bytes);
    assert_memory_equal(
        (uint8_t *)first->cpu + (segments[0].address.raw - first->paddr.raw), heap, 5000);
    assert_int_equal(sk_dma_domain_unmap(&mapping, 0), SK_OK);
    assert_int_equal(sk_dma_domain_map(first->domain, (uint8_t *)second->cpu + 100, 5000,
                                       SK_DMA_FROM_DEVICE, NULL, segments, 4, &mapping),
                     SK_OK);
    assert_false(mapping.bounced);
    assert_int_equal(mapping.segment_count, 1);
    assert_int_equal(segments[0].address.raw, second->paddr.raw + 100);
    assert_int_equal(sk_dma_domain_unmap(&mapping, 5000), SK_OK);
    free(heap);
}

/* ---- Interrupts -------------------------------------------------------------------------- */

static void count(void *argument)
{
    atomic_fetch_add((sk_atomic_u32 *)argument, 1);
}

static int make_event(void)
{
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

    assert_true(fd >= 0);
    return fd;
}

static enum sk_status attach(int fd, sk_atomic_u32 *word)
{
    struct sk_interrupt interrupt = sk_process_interrupt(fd);

    return platform->attach_interrupt(platform->context, &interrupt, count, word);
}

static void detach(int fd)
{
    struct sk_interrupt interrupt = sk_process_interrupt(fd);

    platform->detach_interrupt(platform->context, &interrupt);
}

static void test_process_take__runs_the_handler_once_for_a_signal(void **state)
{
    sk_atomic_u32 word = 0;
    int fd = make_event();

    (void)state;
    assert_false(sk_process_take(process, fd)); /* nobody attached it */
    assert_int_equal(attach(fd, &word), SK_OK);
    assert_false(sk_process_take(process, fd));
    assert_int_equal(eventfd_write(fd, 3), 0);
    assert_true(sk_process_take(process, fd));
    assert_false(sk_process_take(process, fd));
    assert_int_equal(word, 1);
    assert_true(sk_process_raise(process, fd));
    assert_int_equal(word, 2);
    assert_int_equal(sk_process_destroy(process), SK_ERR_BUSY);
    detach(fd);
    assert_int_equal(eventfd_write(fd, 3), 0);
    assert_false(sk_process_take(process, fd));
    assert_false(sk_process_raise(process, fd));
    assert_false(sk_process_raise(process, -1));
    assert_false(sk_process_take(process, -1));
    assert_int_equal(word, 2);
    assert_int_equal(close(fd), 0);
}

/* The other side of the event fd can make it blocking; no call here blocks for it. */
static void test_process_take__blocking_event_fd_does_not_block(void **state)
{
    sk_atomic_u32 word = 0;
    int fd = make_event();

    (void)state;
    assert_int_equal(fcntl(fd, F_SETFL, 0), 0);
    assert_int_equal(attach(fd, &word), SK_OK);
    assert_false(sk_process_take(process, fd));
    assert_int_equal(eventfd_write(fd, 1), 0);
    assert_true(sk_process_take(process, fd));
    detach(fd);
    assert_int_equal(close(fd), 0);
}

static void test_process_attach__what_is_no_event_fd_is_refused(void **state)
{
    struct sk_interrupt interrupt = { .cell_count = 2 };
    sk_atomic_u32 word = 0;
    int fd = make_event();

    (void)state;
    assert_int_equal(attach(-1, &word), SK_ERR_INVALID);
    assert_int_equal(attach(100000, &word), SK_ERR_INVALID);
    assert_int_equal(platform->attach_interrupt(platform->context, &interrupt, count, &word),
                     SK_ERR_INVALID);
    interrupt = sk_process_interrupt(fd);
    assert_int_equal(platform->attach_interrupt(platform->context, &interrupt, NULL, &word),
                     SK_ERR_INVALID);
    assert_int_equal(attach(fd, &word), SK_OK);
    assert_int_equal(attach(fd, &word), SK_ERR_BUSY);
    detach(fd);
    detach(fd); /* again: nothing */
    assert_int_equal(attach(fd, &word), SK_OK);
    detach(fd);
    assert_int_equal(close(fd), 0);
}

static void test_process_attach__the_table_has_an_end(void **state)
{
    static sk_atomic_u32 words[SK_PROCESS_INTERRUPTS_MAX];
    static int fds[SK_PROCESS_INTERRUPTS_MAX];
    sk_atomic_u32 word = 0;
    int fd = make_event();

    (void)state;
    memset(words, 0, sizeof(words));
    for (size_t i = 0; i < SK_PROCESS_INTERRUPTS_MAX; i++) {
        fds[i] = make_event();
        assert_int_equal(attach(fds[i], &words[i]), SK_OK);
    }
    assert_int_equal(attach(fd, &word), SK_ERR_NO_MEMORY);
    detach(fds[17]);
    assert_int_equal(attach(fd, &word), SK_OK);
    assert_true(sk_process_raise(process, fds[200]));
    assert_true(sk_process_raise(process, fd));
    detach(fd);
    for (size_t i = 0; i < SK_PROCESS_INTERRUPTS_MAX; i++) {
        detach(fds[i]);
        assert_int_equal(words[i], i == 200);
        assert_int_equal(close(fds[i]), 0);
    }
    assert_int_equal(word, 1);
    assert_int_equal(close(fd), 0);
}

/* ---- Waiting ----------------------------------------------------------------------------- */

static void wait_on(int fd, const sk_atomic_u32 *word, uint32_t seen, uint64_t until_ns)
{
    struct sk_interrupt interrupt = sk_process_interrupt(fd);

    platform->wait_interrupt(platform->context, &interrupt, word, seen, until_ns);
}

static void test_process_wait__ends_by_its_deadline(void **state)
{
    sk_atomic_u32 word = 0;
    int fd = make_event();
    uint64_t start = now();

    (void)state;
    platform->wait(platform->context, NULL, 0, start + LONG_NS); /* a short pause */
    assert_int_equal(attach(fd, &word), SK_OK);
    wait_on(fd, &word, 0, 0); /* one that passed long ago */
    platform->wait(platform->context, &word, 0, 0);
    wait_on(100, &word, 0, start + LONG_NS); /* one that is not attached is a short pause */
    assert_true(now() < start + LONG_NS);
    start = now();
    platform->wait(platform->context, &word, 0, start + SHORT_NS);
    assert_true(now() >= start + SHORT_NS);
    start = now();
    wait_on(fd, &word, 0, start + SHORT_NS);
    assert_true(now() >= start + SHORT_NS);
    assert_int_equal(word, 0);
    detach(fd);
    assert_int_equal(close(fd), 0);
}

/* This process has no epoll_pwait2 any more, as before Linux 5.11. */
static bool forget_pwait2(void)
{
    struct sock_filter steps[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_epoll_pwait2, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = { sizeof(steps) / sizeof(steps[0]), steps };

    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

/* What is wrong with sleeping in a process without it; 0: nothing, 77: it cannot be tried. */
static int sleep_without_pwait2(int fd, sk_atomic_u32 *word)
{
    uint64_t start = now();
    struct rusage before;
    struct rusage after;

    if (!forget_pwait2()) {
        return 77;
    }
    (void)getrusage(RUSAGE_SELF, &before);
    wait_on(fd, word, 0, start + SHORT_NS);
    (void)getrusage(RUSAGE_SELF, &after);
    if (now() < start + SHORT_NS || *word != 0) {
        return 1; /* ended early */
    }
    if (after.ru_nvcsw == before.ru_nvcsw) {
        return 2; /* did not sleep: the processor was never given away */
    }
    (void)eventfd_write(fd, 1);
    wait_on(fd, word, 0, now() + LONG_NS);
    return *word == 1 ? 0 : 3;
}

static void test_process_wait__on_kernels_without_pwait2(void **state)
{
    sk_atomic_u32 word = 0;
    int fd = make_event();
    int status = 0;
    pid_t child;

    (void)state;
    assert_int_equal(attach(fd, &word), SK_OK);
    child = fork();
    if (child == 0) {
        _exit(sleep_without_pwait2(fd, &word));
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == 77) {
        print_message("skipped: needs seccomp\n");
        skip();
    }
    assert_int_equal(WEXITSTATUS(status), 0);
    detach(fd);
    assert_int_equal(close(fd), 0);
}

static void test_process_wait__signal_from_before_ends_it_at_once(void **state)
{
    sk_atomic_u32 word = 0;
    int fd = make_event();

    (void)state;
    assert_int_equal(attach(fd, &word), SK_OK);
    for (unsigned i = 0; i < 100; i++) {
        assert_int_equal(eventfd_write(fd, 1), 0);
        wait_on(fd, &word, word, now() + LONG_NS);
        assert_int_equal(word, i + 1);
    }
    (void)sk_process_take(process, fd);
    word = 0;
    assert_int_equal(eventfd_write(fd, 1), 0);
    platform->wait(platform->context, &word, 0, now() + LONG_NS);
    assert_int_equal(word, 1);
    detach(fd);
    assert_int_equal(close(fd), 0);
}

/* Like a signal, but from a thread of this process, and no handler runs for it. */
static void test_process_wake__ends_a_sleep_before_it_and_in_it(void **state)
{
    sk_atomic_u32 word = 0;
    sk_atomic_u32 other = 7;
    int fd = make_event();
    struct sk_interrupt interrupt = sk_process_interrupt(fd);
    struct sk_interrupt unknown = sk_process_interrupt(100);

    (void)state;
    platform->wake(platform->context, &interrupt, &other); /* not attached: nothing happens */
    platform->wake(platform->context, &unknown, &other);
    assert_int_equal(attach(fd, &word), SK_OK);
    for (unsigned i = 0; i < 100; i++) {
        platform->wake(platform->context, &interrupt, &other);
        if (i % 2 == 0) {
            wait_on(fd, &other, 7, now() + LONG_NS);
        } else {
            platform->wait(platform->context, &other, 7, now() + LONG_NS);
        }
    }
    assert_int_equal(word, 0);
    assert_int_equal(eventfd_write(fd, 1), 0); /* both: neither hides the other */
    platform->wake(platform->context, &interrupt, &other);
    wait_on(fd, &other, 7, now() + LONG_NS);
    wait_on(fd, &other, 7, now() + LONG_NS);
    assert_int_equal(word, 1);
    detach(fd);
    assert_int_equal(close(fd), 0);
}

struct sleeper {
    sk_atomic_u32 word;
    sk_atomic_u32 rounds;
    int fd;
};

static void *sleep_through(void *argument)
{
    struct sleeper *sleeper = argument;

    for (uint32_t seen = 0; seen < 1000; seen++) {
        while (sleeper->word == seen) {
            wait_on(sleeper->fd, &sleeper->word, seen, now() + 2 * LONG_NS);
        }
        sleeper->rounds = seen + 1;
    }
    return NULL;
}

static void test_process_wake__none_is_lost_between_threads(void **state)
{
    struct sleeper sleeper = { .fd = make_event() };
    struct sk_interrupt interrupt = sk_process_interrupt(sleeper.fd);
    sk_atomic_u32 handled = 0;
    pthread_t thread;

    (void)state;
    assert_int_equal(attach(sleeper.fd, &handled), SK_OK);
    assert_int_equal(pthread_create(&thread, NULL, sleep_through, &sleeper), 0);
    for (uint32_t i = 0; i < 1000; i++) {
        uint64_t start = now();

        sleeper.word++;
        platform->wake(platform->context, &interrupt, &sleeper.word);
        while (sleeper.rounds != i + 1) {
            assert_true(now() - start < LONG_NS);
            (void)sched_yield();
        }
    }
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(handled, 0);
    detach(sleeper.fd);
    assert_int_equal(close(sleeper.fd), 0);
}

static void test_process_wait__changed_word_does_not_sleep(void **state)
{
    sk_atomic_u32 word = 5;
    int fd = make_event();
    uint64_t start = now();

    (void)state;
    assert_int_equal(attach(fd, &word), SK_OK);
    wait_on(fd, &word, 4, start + LONG_NS);
    platform->wait(platform->context, &word, 4, start + LONG_NS);
    assert_true(now() < start + LONG_NS);
    assert_int_equal(word, 5);
    detach(fd);
    assert_int_equal(close(fd), 0);
}

#define ROUNDS  20000u
#define PLAYERS 3u

/* Two ends that wake each other in turn, and each sleeps on a descriptor of its own. */
struct player {
    int ours;
    int theirs;
    sk_atomic_u32 word;
    unsigned rounds;
};

static void *play(void *argument)
{
    struct player *player = argument;

    for (uint32_t seen = 0; player->rounds < ROUNDS; player->rounds++) {
        uint64_t deadline = now() + LONG_NS;

        while (player->word == seen && now() < deadline) {
            wait_on(player->ours, &player->word, seen, deadline);
        }
        if (player->word == seen || eventfd_write(player->theirs, 1) != 0) {
            break; /* a wake-up was lost */
        }
        seen = player->word;
    }
    return NULL;
}

static void test_process_wait__no_wake_up_is_lost_between_threads(void **state)
{
    struct player players[PLAYERS][2];
    pthread_t threads[PLAYERS][2];

    (void)state;
    memset(players, 0, sizeof(players));
    for (unsigned i = 0; i < PLAYERS; i++) {
        for (unsigned side = 0; side < 2; side++) {
            players[i][side].ours = make_event();
            assert_int_equal(attach(players[i][side].ours, &players[i][side].word), SK_OK);
        }
        players[i][0].theirs = players[i][1].ours;
        players[i][1].theirs = players[i][0].ours;
        assert_int_equal(eventfd_write(players[i][0].ours, 1), 0);
    }
    for (unsigned i = 0; i < 2 * PLAYERS; i++) {
        assert_int_equal(
            pthread_create(&threads[i / 2][i % 2], NULL, play, &players[i / 2][i % 2]), 0);
    }
    for (unsigned i = 0; i < 2 * PLAYERS; i++) {
        assert_int_equal(pthread_join(threads[i / 2][i % 2], NULL), 0);
        assert_int_equal(players[i / 2][i % 2].rounds, ROUNDS);
        detach(players[i / 2][i % 2].ours);
    }
    for (unsigned i = 0; i < 2 * PLAYERS; i++) {
        assert_int_equal(close(players[i / 2][i % 2].ours), 0);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_process_create__options_are_checked),
        TEST(test_process_platform__has_a_clock_and_no_registers),
        TEST(test_process_platform__log_goes_to_stderr_by_default),
        TEST(test_process_add_region__is_zeroed_aligned_and_whole_units),
        TEST(test_process_add_region__nobody_can_resize_it_or_inherit_it),
        TEST(test_process_add_region__others_see_the_same_memory),
        TEST(test_process_add_region__wrong_sizes_and_pages_change_nothing),
        TEST(test_process_add_region__huge_pages_or_a_clear_no),
        TEST(test_process_add_region__many_never_touch_each_other),
        TEST(test_process_region__buffers_are_where_the_device_is_told),
        TEST(test_process_region__foreign_memory_is_bounced),
        TEST(test_process_take__runs_the_handler_once_for_a_signal),
        TEST(test_process_take__blocking_event_fd_does_not_block),
        TEST(test_process_attach__what_is_no_event_fd_is_refused),
        TEST(test_process_attach__the_table_has_an_end),
        TEST(test_process_wait__ends_by_its_deadline),
        TEST(test_process_wait__on_kernels_without_pwait2),
        TEST(test_process_wait__signal_from_before_ends_it_at_once),
        TEST(test_process_wake__ends_a_sleep_before_it_and_in_it),
        TEST(test_process_wake__none_is_lost_between_threads),
        TEST(test_process_wait__changed_word_does_not_sleep),
        TEST(test_process_wait__no_wake_up_is_lost_between_threads),
    };

    return cmocka_run_group_tests_name("process", tests, NULL, NULL);
}
