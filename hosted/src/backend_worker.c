/* SPDX-License-Identifier: MIT */
#include "backend_private.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* Looks at the clock and at visitors' wishes take turns with so many looks at the queues. */
#define LOOKS_PER_TIME 64u

static void relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

void ski_backend_worker_enter(struct ski_backend_worker *worker)
{
    uint64_t one = 1;

    atomic_fetch_add(&worker->visitors, 1);
    if (write(worker->wake_fd, &one, sizeof(one)) < 0) {
        /* Full: it will wake. */
    }
    (void)pthread_mutex_lock(&worker->lock);
}

void ski_backend_worker_leave(struct ski_backend_worker *worker)
{
    atomic_fetch_sub(&worker->visitors, 1);
    (void)pthread_cond_broadcast(&worker->left);
    (void)pthread_mutex_unlock(&worker->lock);
}

void ski_backend_worker_add(struct ski_backend_worker *worker, struct ski_backend_queue *queue)
{
    worker->queues[worker->queue_count++] = queue;
}

void ski_backend_worker_drop(struct ski_backend_worker *worker,
                             const struct ski_backend_queue *queue)
{
    for (uint32_t i = 0; i < worker->queue_count; i++) {
        if (worker->queues[i] == queue) {
            worker->queues[i] = worker->queues[--worker->queue_count];
            return;
        }
    }
}

/* Each signal is told of once, so nobody has to read the descriptor, whatever it is. */
bool ski_backend_worker_watch(struct ski_backend_worker *worker, int fd)
{
    struct epoll_event event = { .events = EPOLLIN | EPOLLET, .data.fd = fd };

    return epoll_ctl(worker->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0;
}

void ski_backend_worker_unwatch(struct ski_backend_worker *worker, int fd)
{
    (void)epoll_ctl(worker->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
}

static uint32_t look(struct ski_backend_worker *worker)
{
    uint32_t done = 0;

    for (uint32_t i = 0; i < worker->queue_count; i++) {
        struct ski_backend_queue *queue = worker->queues[i];

        if (queue->started && queue->enabled) {
            done += ski_backend_queue_run(queue, worker->scratch);
        }
    }
    return done;
}

/* Asks all queues for notifications; true if there is none to wait for, as something came. */
static bool kicks_on(struct ski_backend_worker *worker)
{
    bool found = false;

    for (uint32_t i = 0; i < worker->queue_count; i++) {
        struct ski_backend_queue *queue = worker->queues[i];

        if (queue->started && queue->enabled) {
            found |= ski_backend_queue_kicks_on(queue);
        }
    }
    return found;
}

static void kicks_off(struct ski_backend_worker *worker)
{
    for (uint32_t i = 0; i < worker->queue_count; i++) {
        struct ski_backend_queue *queue = worker->queues[i];

        if (queue->started && queue->enabled) {
            ski_backend_queue_kicks_off(queue);
        }
    }
}

/* Without the lock: visitors come and go meanwhile. */
static void sleep_until_signalled(struct ski_backend_worker *worker)
{
    struct epoll_event events[16];

    ski_backend_count(&worker->sleeps, 1);
    (void)pthread_mutex_unlock(&worker->lock);
    if (epoll_wait(worker->epoll_fd, events, 16, -1) < 0 && errno != EINTR) {
        ski_backend_sleep_ns(1000000); /* cannot be; but never spin on it */
    }
    (void)pthread_mutex_lock(&worker->lock);
}

static void let_visitors_in(struct ski_backend_worker *worker)
{
    while (atomic_load(&worker->visitors) != 0) {
        (void)pthread_cond_wait(&worker->left, &worker->lock);
    }
}

/* A worker that always polls, and one that looks for a while before it sleeps. */
static void work(struct ski_backend_worker *worker)
{
    uint64_t poll_ns = worker->backend->options.poll_ns;
    uint64_t idle_since = 0; /* 0: not idle, or not looked at the clock yet */
    uint32_t empty = 0;

    while (!atomic_load_explicit(&worker->stop, memory_order_relaxed)) {
        if (atomic_load_explicit(&worker->visitors, memory_order_relaxed) != 0) {
            let_visitors_in(worker);
        }
        if (look(worker) > 0) {
            idle_since = 0;
            empty = 0;
            continue;
        }
        relax();
        if (poll_ns == SK_BACKEND_POLL_ALWAYS || (poll_ns != 0 && ++empty % LOOKS_PER_TIME != 0)) {
            continue;
        }
        if (poll_ns != 0 && idle_since == 0) {
            idle_since = ski_vhost_user_now();
            continue;
        }
        if (poll_ns != 0 && ski_vhost_user_now() - idle_since < poll_ns) {
            continue;
        }
        if (!kicks_on(worker)) {
            sleep_until_signalled(worker);
        }
        kicks_off(worker);
        idle_since = 0;
    }
}

static void *worker_main(void *argument)
{
    struct ski_backend_worker *worker = argument;

    (void)pthread_mutex_lock(&worker->lock);
    work(worker);
    (void)pthread_mutex_unlock(&worker->lock);
    return NULL;
}

static void close_worker(struct ski_backend_worker *worker)
{
    if (worker->wake_fd >= 0) {
        (void)close(worker->wake_fd);
    }
    if (worker->epoll_fd >= 0) {
        (void)close(worker->epoll_fd);
    }
    free(worker->queues);
    free(worker->scratch);
    (void)pthread_cond_destroy(&worker->left);
    (void)pthread_mutex_destroy(&worker->lock);
}

enum sk_status ski_backend_worker_start(struct ski_backend_worker *worker,
                                        struct sk_backend *backend)
{
    size_t room =
        (size_t)backend->options.connection_count * (size_t)backend->options.queue_count;

    worker->backend = backend;
    (void)pthread_mutex_init(&worker->lock, NULL);
    (void)pthread_cond_init(&worker->left, NULL);
    worker->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    worker->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    worker->queues = calloc(room, sizeof(*worker->queues));
    worker->scratch = calloc(1, sizeof(*worker->scratch));
    if (worker->epoll_fd < 0 || worker->wake_fd < 0 || worker->queues == NULL ||
        worker->scratch == NULL || !ski_backend_worker_watch(worker, worker->wake_fd) ||
        pthread_create(&worker->thread, NULL, worker_main, worker) != 0) {
        close_worker(worker);
        return SK_ERR_NO_MEMORY;
    }
    return SK_OK;
}

void ski_backend_worker_stop(struct ski_backend_worker *worker)
{
    uint64_t one = 1;

    atomic_store(&worker->stop, true);
    if (write(worker->wake_fd, &one, sizeof(one)) < 0) {
        /* Full: it will wake. */
    }
    (void)pthread_join(worker->thread, NULL);
    close_worker(worker);
}
