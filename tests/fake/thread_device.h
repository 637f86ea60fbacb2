/* SPDX-License-Identifier: MIT */
/*
 * A virtio block device that is another thread, behind a transport of its own:
 * what a driver and a device have in common is touched by both at the same
 * time, as with a real one.  It keeps the order that the specification demands
 * of devices and no more: it loads and stores what it may without any, so that
 * ThreadSanitizer sees an order that the driver forgot.  Nothing on a request's
 * way takes a lock.
 *
 * It takes several requests, finishes them in no order (with IN_ORDER as they came, some with
 * one entry), raises one interrupt
 * for all or one for each queue, and goes on with what it took until a reset is
 * acknowledged.
 *
 * Ownership: the caller's struct; memory and storage are the caller's too.
 * Calling: start and stop: one thread.  The others say.
 */
#ifndef TESTS_FAKE_THREAD_DEVICE_H
#define TESTS_FAKE_THREAD_DEVICE_H

#include <pthread.h>
#include <stdatomic.h>

#include <skio/virtio_blk.h>

/* Assertions of any thread: the process ends, since cmocka's belong to the test's own thread. */
#define require(condition) \
    ((condition) ? (void)0 : thread_device_fail(__FILE__, __LINE__, #condition, 1, 0))
#define require_equal(a, b)                                                                \
    ((long long)(a) == (long long)(b)                                                      \
         ? (void)0                                                                         \
         : thread_device_fail(__FILE__, __LINE__, #a " == " #b, (long long)(a), (long long)(b)))

_Noreturn void thread_device_fail(const char *file, int line, const char *what, long long a,
                                  long long b);

#define THREAD_QUEUES_MAX     4u
#define THREAD_LINES_MAX      (1u + THREAD_QUEUES_MAX)
#define THREAD_SLEEPERS_MAX   (THREAD_QUEUES_MAX + THREAD_LINES_MAX)
#define THREAD_HAND_MAX       64u /* requests that it has taken of a queue */
#define THREAD_PIECES_MAX     12u
#define THREAD_SECTORS        1024u /* of its storage; the capacity may say more */
#define THREAD_IDENTITY       "thread"

struct thread_device_config {
    uint64_t features; /* offered, besides VERSION_1 */
    uint32_t queue_count;
    uint32_t queue_size_max;
    uint32_t interrupt_count; /* 1: one for everything */
    /* All memory that the driver uses: `bytes` from `memory` are at `daddr` for the device. */
    uint8_t *memory;
    uint64_t daddr;
    uint64_t bytes;
    uint32_t slow_us; /* how long a request takes at most */
};

struct thread_piece {
    uint8_t *memory;
    uint32_t bytes;
};

/* A request in hand: a copy of its chain, since a packed ring's descriptors are overwritten. */
struct thread_request {
    uint32_t id;
    uint32_t places; /* in a packed ring */
    uint32_t chains; /* that its used entry is for: more than 1 only with IN_ORDER */
    uint32_t piece_count;
    struct thread_piece pieces[THREAD_PIECES_MAX];
};

struct thread_queue {
    struct sk_virtio_queue_layout layout;
    bool enabled; /* this and `busy`: under the device's lock */
    bool busy;    /* the thread is at it, or holds requests of it */
    /* The thread's, while it is busy. */
    uint16_t next;      /* split: of the available ring; packed: place */
    uint16_t used;      /* the same of the used ring */
    bool next_wrap;
    bool used_wrap;
    uint32_t hand_count;
    struct thread_request hand[THREAD_HAND_MAX];
};

/* An interrupt line: the handler runs on whatever thread raises it, one at a time. */
struct thread_line {
    pthread_mutex_t lock;
    void (*handler)(void *argument);
    void *argument;
    _Atomic uint32_t raised; /* after the handler returned; a futex */
};

struct thread_device {
    struct sk_virtio_transport transport; /* first */
    struct thread_device_config config;
    pthread_t thread;
    _Atomic bool ends;
    _Atomic uint32_t kicks; /* a futex */
    _Atomic uint32_t causes;
    _Atomic bool gone;
    _Atomic bool controlled; /* somebody is inside a control call */
    _Atomic uint64_t finished;
    _Atomic uint32_t slow_us;

    pthread_mutex_t lock;
    pthread_cond_t rests; /* a queue is not busy any more */
    uint32_t status;
    bool resetting;
    uint64_t features;
    uint32_t generation;
    uint8_t space[60]; /* the configuration */
    struct thread_queue queues[THREAD_QUEUES_MAX];

    struct thread_line lines[THREAD_LINES_MAX];
    /* What owners sleep on; woken after each handler. */
    _Atomic(const sk_atomic_u32 *) sleepers[THREAD_SLEEPERS_MAX];
    uint64_t random; /* the thread's */
    uint8_t storage[THREAD_SECTORS * SK_BLOCK_SECTOR_BYTES]; /* the thread's */
};

/* Makes the device and starts its thread. */
void thread_device_start(struct thread_device *device, const struct thread_device_config *config,
                         const struct sk_platform *platform);
void thread_device_stop(struct thread_device *device);

/* Any thread: raises a line; nothing happens if nobody handles it. */
void thread_device_raise(struct thread_device *device, uint32_t line);

/* Any thread: wakes those who sleep on a word, and those on the line, as if it had been raised. */
void thread_device_wake(struct thread_device *device, uint32_t line, const sk_atomic_u32 *word);

/* Attaches a handler, or with NULL detaches it, and waits until it has returned. */
void thread_device_handle(struct thread_device *device, uint32_t line,
                          void (*handler)(void *argument), void *argument);

/*
 * Any thread, one at a time: the disk has `sectors` now and says so.  It is its
 * max_discard_sectors, too: who reads only one of the two anew has neither.  Hints and the
 * cache mode change with it.
 */
void thread_device_resize(struct thread_device *device, uint32_t sectors);

/*
 * Sleeps while *word, which handlers change, is `seen`, until `until_ns` of the monotonic
 * clock; false: it was for all of that time.
 */
bool thread_device_sleep(struct thread_device *device, const sk_atomic_u32 *word, uint32_t seen,
                         uint64_t until_ns);

/* With no request in flight: puts all indexes in a split ring to `index`. */
void thread_device_set_index(struct thread_device *device, uint32_t queue, uint16_t index);

/* The monotonic clock. */
uint64_t thread_device_now(void);

#endif
