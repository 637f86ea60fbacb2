/* SPDX-License-Identifier: MIT */
/*
 * Event fds as interrupts, and sleeping on them.
 *
 * Each attached event fd is watched by an epoll instance of its own, edge by
 * edge: one call sleeps and takes the signal, and a signal that came before the sleep
 * ends it at once, so none is missed between a look and a sleep.
 *
 * The process at the other end has the same open event fd and may change its
 * flags, so no call here may rely on them: reads say RWF_NOWAIT, and nothing is
 * written.  Each watch has a second event fd, of this process alone, to end a
 * sleep from here.
 */
#include "process_private.h"

#include <errno.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define SECOND_NS UINT64_C(1000000000)

/* What a pause between two looks at a register is: the device there is another process. */
#define PAUSE_NS UINT64_C(50000)

/* What ended a sleep. */
enum { DEVICE, WAKE };

static struct timespec until_left(uint64_t until_ns)
{
    uint64_t now = ski_process_now(NULL);
    uint64_t left = until_ns > now ? until_ns - now : 0;

    if (left > 3600 * SECOND_NS) { /* returning early is always allowed */
        left = 3600 * SECOND_NS;
    }
    return (struct timespec){ .tv_sec = (time_t)(left / SECOND_NS),
                              .tv_nsec = (long)(left % SECOND_NS) };
}

void ski_process_init_interrupts(struct sk_process *process)
{
    for (size_t i = 0; i < SK_PROCESS_INTERRUPTS_MAX; i++) {
        atomic_init(&process->interrupts[i].fd, -1);
        process->interrupts[i].epoll = -1;
        process->interrupts[i].wake = -1;
        (void)pthread_mutex_init(&process->interrupts[i].lock, NULL);
    }
}

bool ski_process_has_interrupts(const struct sk_process *process)
{
    for (size_t i = 0; i < process->interrupts_end; i++) {
        if (process->interrupts[i].fd >= 0) {
            return true;
        }
    }
    return false;
}

static struct ski_process_interrupt *find(struct sk_process *process, int fd)
{
    size_t end = process->interrupts_end;

    for (size_t i = 0; i < end; i++) {
        if (process->interrupts[i].fd == fd) {
            return &process->interrupts[i];
        }
    }
    return NULL;
}

static int fd_of(const struct sk_interrupt *interrupt)
{
    return interrupt->cell_count == 1 && interrupt->cells[0] <= INT32_MAX
               ? (int)interrupt->cells[0]
               : -1;
}

struct sk_interrupt sk_process_interrupt(int event_fd)
{
    return (struct sk_interrupt){ .cell_count = 1, .cells = { (uint32_t)event_fd } };
}

/* ---- Attach and detach ------------------------------------------------------------------- */

static bool add(int epoll, int fd, uint32_t which)
{
    struct epoll_event event = { .events = EPOLLIN | EPOLLET, .data = { .u32 = which } };

    return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0;
}

static void unwatch(struct ski_process_interrupt *slot)
{
    if (slot->epoll >= 0) {
        (void)close(slot->epoll);
    }
    if (slot->wake >= 0) {
        (void)close(slot->wake);
    }
    slot->epoll = -1;
    slot->wake = -1;
}

/* A watch for an event fd; false: it is none, or there are no descriptors left. */
static bool watch(struct ski_process_interrupt *slot, int fd)
{
    slot->epoll = epoll_create1(EPOLL_CLOEXEC);
    slot->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (slot->epoll >= 0 && slot->wake >= 0 && add(slot->epoll, fd, DEVICE) &&
        add(slot->epoll, slot->wake, WAKE)) {
        return true;
    }
    unwatch(slot);
    return false;
}

static enum sk_status attach_locked(struct sk_process *process, int fd,
                                    void (*handler)(void *argument), void *argument)
{
    struct ski_process_interrupt *slot = find(process, -1);

    if (find(process, fd) != NULL) {
        return SK_ERR_BUSY;
    }
    if (slot == NULL) {
        size_t end = process->interrupts_end;

        if (end == SK_PROCESS_INTERRUPTS_MAX) {
            return SK_ERR_NO_MEMORY;
        }
        slot = &process->interrupts[end];
        process->interrupts_end = end + 1;
    }
    if (!watch(slot, fd)) {
        return SK_ERR_INVALID;
    }
    slot->handler = handler;
    slot->argument = argument;
    slot->fd = fd; /* last: from now on others find it */
    return SK_OK;
}

enum sk_status ski_process_attach(void *context, const struct sk_interrupt *interrupt,
                                  void (*handler)(void *argument), void *argument)
{
    struct sk_process *process = context;
    int fd = fd_of(interrupt);
    enum sk_status status;

    if (fd < 0 || handler == NULL) {
        return SK_ERR_INVALID;
    }
    (void)pthread_mutex_lock(&process->lock);
    status = attach_locked(process, fd, handler, argument);
    (void)pthread_mutex_unlock(&process->lock);
    return status;
}

void ski_process_detach(void *context, const struct sk_interrupt *interrupt)
{
    struct sk_process *process = context;
    struct ski_process_interrupt *slot;
    int fd = fd_of(interrupt);

    (void)pthread_mutex_lock(&process->lock);
    slot = fd < 0 ? NULL : find(process, fd);
    if (slot != NULL) {
        (void)pthread_mutex_lock(&slot->lock);
        slot->fd = -1;
        unwatch(slot);
        (void)pthread_mutex_unlock(&slot->lock);
    }
    (void)pthread_mutex_unlock(&process->lock);
}

/* ---- Taking and raising ------------------------------------------------------------------ */

/* Runs the handler unless the slot was given to another event fd meanwhile. */
static bool run(struct ski_process_interrupt *slot, int fd)
{
    bool attached;

    (void)pthread_mutex_lock(&slot->lock);
    attached = slot->fd == fd;
    if (attached) {
        slot->handler(slot->argument);
    }
    (void)pthread_mutex_unlock(&slot->lock);
    return attached;
}

/* Clears an event fd; true if it was signalled. */
static bool clear(int fd)
{
    uint64_t value;
    struct iovec piece = { .iov_base = &value, .iov_len = sizeof(value) };

    return preadv2(fd, &piece, 1, -1, RWF_NOWAIT) == (ssize_t)sizeof(value);
}

bool sk_process_take(struct sk_process *process, int event_fd)
{
    struct ski_process_interrupt *slot = event_fd < 0 ? NULL : find(process, event_fd);

    return slot != NULL && clear(event_fd) && run(slot, event_fd);
}

bool sk_process_raise(struct sk_process *process, int event_fd)
{
    struct ski_process_interrupt *slot = event_fd < 0 ? NULL : find(process, event_fd);

    return slot != NULL && run(slot, event_fd);
}

/* ---- Waiting ----------------------------------------------------------------------------- */

static void pause_for(uint64_t until_ns)
{
    uint64_t now = ski_process_now(NULL);
    uint64_t end = until_ns < now + PAUSE_NS ? until_ns : now + PAUSE_NS;
    struct timespec time = { .tv_sec = (time_t)(end / SECOND_NS),
                             .tv_nsec = (long)(end % SECOND_NS) };

    (void)clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, NULL);
}

/* Any of all event fds: which of them changes the word is not known. */
static void wait_for_any(struct sk_process *process, uint64_t until_ns)
{
    struct pollfd polls[2 * SK_PROCESS_INTERRUPTS_MAX];
    size_t end = process->interrupts_end;
    struct timespec left = until_left(until_ns);

    for (size_t i = 0; i < end; i++) {
        polls[2 * i] = (struct pollfd){ .fd = process->interrupts[i].fd, .events = POLLIN };
        polls[2 * i + 1] = (struct pollfd){ .fd = process->interrupts[i].wake, .events = POLLIN };
    }
    if (ppoll(polls, 2 * end, &left, NULL) > 0) {
        for (size_t i = 0; i < end; i++) {
            if ((polls[2 * i].revents & POLLIN) != 0) {
                (void)sk_process_take(process, polls[2 * i].fd);
            }
            if ((polls[2 * i + 1].revents & POLLIN) != 0) {
                (void)clear(polls[2 * i + 1].fd);
            }
        }
    }
}

void ski_process_wait(void *context, const sk_atomic_u32 *word, uint32_t seen, uint64_t until_ns)
{
    struct sk_process *process = context;

    if (word == NULL) {
        pause_for(until_ns);
    } else if (*word == seen) {
        wait_for_any(process, until_ns);
    }
}

/* True if the device signalled.  Before Linux 5.11 sleeps end at whole milliseconds, never early. */
static bool sleep_on(int epoll, const struct timespec *left)
{
    struct epoll_event event;
    int found = epoll_pwait2(epoll, &event, 1, left, NULL);

    if (found < 0 && errno == ENOSYS) {
        found = epoll_wait(epoll, &event, 1,
                           (int)(left->tv_sec * 1000 + (left->tv_nsec + 999999) / 1000000));
    }
    return found > 0 && event.data.u32 == DEVICE;
}

void ski_process_wait_interrupt(void *context, const struct sk_interrupt *interrupt,
                                const sk_atomic_u32 *word, uint32_t seen, uint64_t until_ns)
{
    struct sk_process *process = context;
    int fd = fd_of(interrupt);
    struct ski_process_interrupt *slot = fd < 0 ? NULL : find(process, fd);
    struct timespec left;

    if (slot == NULL) {
        pause_for(until_ns);
        return;
    }
    if (*word != seen) {
        return;
    }
    left = until_left(until_ns);
    if (sleep_on(slot->epoll, &left)) {
        (void)run(slot, fd);
    }
}

void ski_process_wake(void *context, const struct sk_interrupt *interrupt,
                      const sk_atomic_u32 *word)
{
    int fd = fd_of(interrupt);
    struct ski_process_interrupt *slot = fd < 0 ? NULL : find(context, fd);

    (void)word;
    if (slot != NULL) {
        (void)pthread_mutex_lock(&slot->lock);
        if (slot->fd == fd) {
            (void)eventfd_write(slot->wake, 1);
        }
        (void)pthread_mutex_unlock(&slot->lock);
    }
}
