/* SPDX-License-Identifier: MIT */
#include "backend_private.h"

#include <errno.h>
#include <sched.h>
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

static bool is_open(const struct ski_backend_queue *queue)
{
    return queue->started && queue->enabled;
}

/*
 * Ends when a hand was away meanwhile: the list may be another one then.  The next
 * look begins at the queue behind, so that queues get hands in turn.
 */
static uint32_t look(struct ski_backend_worker *worker, struct ski_backend_scratch *scratch)
{
    uint32_t count = worker->queue_count;
    uint32_t place = worker->queue_next < count ? worker->queue_next : 0;
    uint32_t done = 0;

    scratch->went_away = false;
    for (uint32_t i = 0; i < count && !scratch->went_away; i++) {
        struct ski_backend_queue *queue = worker->queues[place];

        place = place + 1 < count ? place + 1 : 0;
        if (is_open(queue)) {
            worker->queue_next = place; /* before it goes away */
            done += ski_backend_queue_run(queue, scratch);
        }
    }
    return done;
}

/* Asks all queues for notifications; true if there is none to wait for, as something came. */
static bool kicks_on(struct ski_backend_worker *worker)
{
    bool found = false;

    for (uint32_t i = 0; i < worker->queue_count; i++) {
        if (is_open(worker->queues[i])) {
            found |= ski_backend_queue_kicks_on(worker->queues[i]);
        }
    }
    return found;
}

static void kicks_off(struct ski_backend_worker *worker)
{
    for (uint32_t i = 0; i < worker->queue_count; i++) {
        if (is_open(worker->queues[i])) {
            ski_backend_queue_kicks_off(worker->queues[i]);
        }
    }
}

/* ---- Hands --------------------------------------------------------------------------------- */

/* Wakes one of those that sleep: the descriptor is told of once for each signal. */
static void call(struct ski_backend_worker *worker)
{
    uint64_t one = 1;

    if (write(worker->wake_fd, &one, sizeof(one)) < 0) {
        /* Full: it will wake. */
    }
}

static void *hand_main(void *hand);

/* One more hand, which is on its way then. */
static bool add_hand(struct ski_backend_worker *worker)
{
    struct ski_backend_hand *hand = &worker->hands[worker->hand_count];

    if (worker->hand_count == worker->hand_max || atomic_load(&worker->stop)) {
        return false;
    }
    hand->worker = worker;
    hand->scratch = calloc(1, sizeof(*hand->scratch));
    if (hand->scratch == NULL ||
        pthread_create(&hand->thread, NULL, hand_main, hand) != 0) {
        free(hand->scratch);
        worker->hand_max = worker->hand_count; /* so many, and no more */
        return false;
    }
    worker->hand_count++;
    worker->called = true;
    return true;
}

/*
 * If nobody stays, the next request must find a hand: one that sleeps until it is
 * notified, one that is called as something is there already, or a new one.  If
 * all are away, the first that returns looks.
 */
void ski_backend_worker_go(struct ski_backend_worker *worker)
{
    uint64_t now = atomic_load_explicit(&worker->away_now, memory_order_relaxed) + 1;

    atomic_store_explicit(&worker->away_now, now, memory_order_relaxed);
    if (now > atomic_load_explicit(&worker->away_most, memory_order_relaxed)) {
        atomic_store_explicit(&worker->away_most, now, memory_order_relaxed);
    }
    worker->present--;
    if (worker->present == 0 && !worker->called) {
        if (worker->asleep == 0) {
            (void)add_hand(worker);
        } else if (kicks_on(worker)) {
            worker->called = true;
            call(worker);
        }
    }
    (void)pthread_mutex_unlock(&worker->lock);
}

/* Whoever looks, and perhaps never sleeps, makes room. */
static void come(struct ski_backend_worker *worker)
{
    atomic_fetch_add(&worker->coming, 1);
    (void)pthread_mutex_lock(&worker->lock);
    atomic_fetch_sub(&worker->coming, 1);
    worker->present++;
}

void ski_backend_worker_return(struct ski_backend_worker *worker)
{
    come(worker);
    atomic_store_explicit(&worker->away_now,
                          atomic_load_explicit(&worker->away_now, memory_order_relaxed) - 1,
                          memory_order_relaxed);
}

/*
 * Without the lock: visitors come and go meanwhile.  Whoever is present looks before
 * it sleeps; so only the last one has to be sure that nothing was missed.
 */
static void rest(struct ski_backend_worker *worker)
{
    struct epoll_event events[16];

    if (worker->present > 1 || !kicks_on(worker)) {
        worker->present--;
        worker->asleep++;
        ski_backend_count(&worker->sleeps, 1);
        (void)pthread_mutex_unlock(&worker->lock);
        if (epoll_wait(worker->epoll_fd, events, 16, -1) < 0 && errno != EINTR) {
            ski_backend_sleep_ns(1000000); /* cannot be; but never spin on it */
        }
        come(worker);
        worker->asleep--;
        worker->called = false;
    }
    kicks_off(worker);
}

/* ---- Looking ------------------------------------------------------------------------------- */

/* Who looks holds the lock, and hands it over to those who need it for a moment. */
static void let_others_in(struct ski_backend_worker *worker)
{
    if (atomic_load_explicit(&worker->coming, memory_order_relaxed) != 0) {
        (void)pthread_mutex_unlock(&worker->lock);
        while (atomic_load_explicit(&worker->coming, memory_order_relaxed) != 0) {
            (void)sched_yield();
        }
        (void)pthread_mutex_lock(&worker->lock);
    }
    while (atomic_load(&worker->visitors) != 0) {
        (void)pthread_cond_wait(&worker->left, &worker->lock);
    }
}

/* True if it is time to sleep: nothing was found for as long as the options say. */
struct idleness {
    uint64_t since; /* 0: not idle, or not looked at the clock yet */
    uint32_t empty; /* looks */
};

static bool is_over(struct idleness *idle, uint64_t poll_ns)
{
    relax();
    if (poll_ns == SK_BACKEND_POLL_ALWAYS || (poll_ns != 0 && ++idle->empty % LOOKS_PER_TIME != 0)) {
        return false;
    }
    if (poll_ns != 0 && idle->since == 0) {
        idle->since = ski_vhost_user_now();
        return false;
    }
    return poll_ns == 0 || ski_vhost_user_now() - idle->since >= poll_ns;
}

/*
 * True if the hand need not look for a while before it sleeps: another one is here, or
 * will be.  Those that are away come back, and need the processor meanwhile.
 */
static bool is_spare(const struct ski_backend_worker *worker, uint64_t poll_ns)
{
    return worker->present > 1 ||
           (poll_ns != SK_BACKEND_POLL_ALWAYS &&
            atomic_load_explicit(&worker->away_now, memory_order_relaxed) > 0);
}

static void work(struct ski_backend_worker *worker, struct ski_backend_scratch *scratch)
{
    uint64_t poll_ns = worker->backend->options.poll_ns;
    struct idleness idle = { 0 };

    while (!atomic_load_explicit(&worker->stop, memory_order_relaxed)) {
        if (atomic_load_explicit(&worker->visitors, memory_order_relaxed) != 0 ||
            atomic_load_explicit(&worker->coming, memory_order_relaxed) != 0) {
            let_others_in(worker);
        }
        if (look(worker, scratch) > 0) {
            idle = (struct idleness){ 0 };
        } else if (is_spare(worker, poll_ns) || is_over(&idle, poll_ns)) {
            rest(worker);
            idle = (struct idleness){ 0 };
        }
    }
}

static void *hand_main(void *argument)
{
    struct ski_backend_hand *hand = argument;
    struct ski_backend_worker *worker = hand->worker;

    come(worker);
    worker->called = false;
    work(worker, hand->scratch);
    worker->present--;
    call(worker); /* it shall end, too */
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
    for (uint32_t i = 0; i < worker->hand_count; i++) {
        free(worker->hands[i].scratch);
    }
    free(worker->hands);
    free(worker->queues);
    (void)pthread_cond_destroy(&worker->left);
    (void)pthread_mutex_destroy(&worker->lock);
}

enum sk_status ski_backend_worker_start(struct ski_backend_worker *worker,
                                        struct sk_backend *backend)
{
    size_t room =
        (size_t)backend->options.connection_count * (size_t)backend->options.queue_count;
    bool started = false;

    worker->backend = backend;
    (void)pthread_mutex_init(&worker->lock, NULL);
    (void)pthread_cond_init(&worker->left, NULL);
    worker->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    worker->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    worker->queues = calloc(room, sizeof(*worker->queues));
    worker->hand_max = backend->options.thread_count;
    worker->hands = calloc(worker->hand_max, sizeof(*worker->hands));
    if (worker->epoll_fd >= 0 && worker->wake_fd >= 0 && worker->queues != NULL &&
        worker->hands != NULL && ski_backend_worker_watch(worker, worker->wake_fd)) {
        (void)pthread_mutex_lock(&worker->lock);
        started = add_hand(worker);
        (void)pthread_mutex_unlock(&worker->lock);
    }
    if (!started) {
        close_worker(worker);
        return SK_ERR_NO_MEMORY;
    }
    return SK_OK;
}

void ski_backend_worker_stop(struct ski_backend_worker *worker)
{
    ski_backend_worker_enter(worker);
    atomic_store(&worker->stop, true); /* no more hands */
    ski_backend_worker_leave(worker);
    call(worker);
    for (uint32_t i = 0; i < worker->hand_count; i++) {
        (void)pthread_join(worker->hands[i].thread, NULL);
    }
    close_worker(worker);
}
