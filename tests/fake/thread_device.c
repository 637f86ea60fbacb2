/* SPDX-License-Identifier: MIT */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "fake/thread_ring.h"

#include <linux/futex.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define TYPE_READ   0u
#define TYPE_WRITE  1u
#define TYPE_GET_ID 8u

#define SECTOR 512u
#define IDLE_NS UINT64_C(100000000)

static struct thread_device *of(struct sk_virtio_transport *transport)
{
    return (struct thread_device *)(void *)transport;
}

uint64_t thread_device_now(void)
{
    struct timespec time;

    (void)clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

void thread_device_fail(const char *file, int line, const char *what, long long a, long long b)
{
    (void)fflush(stdout);
    (void)fprintf(stderr, "%s:%d: not so: %s (%lld, %lld)\n", file, line, what, a, b);
    _exit(1);
}

static uint32_t random_below(struct thread_device *device, uint32_t below)
{
    device->random = device->random * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(device->random >> 33) % below;
}

/* ---- Sleeping: the kernel's way alone, which orders nothing in the language ---------------- */

static void wake(const void *word)
{
    (void)syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1 << 20, NULL, NULL, 0);
}

static void futex_wait(const void *word, uint32_t seen, uint64_t ns)
{
    struct timespec time = { .tv_sec = (time_t)(ns / 1000000000u),
                             .tv_nsec = (long)(ns % 1000000000u) };

    (void)syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, seen, &time, NULL, 0);
}

/* Finds or makes the place of a word; there are no more words than places. */
static void note_sleeper(struct thread_device *device, const sk_atomic_u32 *word)
{
    for (uint32_t i = 0; i < THREAD_SLEEPERS_MAX; i++) {
        const sk_atomic_u32 *old = NULL;

        if (atomic_compare_exchange_strong_explicit(&device->sleepers[i], &old, word,
                                                    memory_order_relaxed, memory_order_relaxed) ||
            old == word) {
            return;
        }
    }
    thread_device_fail(__FILE__, __LINE__, "too many words to sleep on", 0, 0);
}

bool thread_device_sleep(struct thread_device *device, const sk_atomic_u32 *word, uint32_t seen,
                         uint64_t until_ns)
{
    uint64_t now = thread_device_now();

    note_sleeper(device, word);
    while (now < until_ns && atomic_load_explicit(word, memory_order_relaxed) == seen) {
        futex_wait(word, seen, until_ns - now);
        now = thread_device_now();
    }
    return now < until_ns;
}

/* ---- Interrupts ---------------------------------------------------------------------------- */

void thread_device_handle(struct thread_device *device, uint32_t line,
                          void (*handler)(void *argument), void *argument)
{
    require(line < THREAD_LINES_MAX);
    (void)pthread_mutex_lock(&device->lines[line].lock);
    device->lines[line].handler = handler;
    device->lines[line].argument = argument;
    (void)pthread_mutex_unlock(&device->lines[line].lock);
}

void thread_device_raise(struct thread_device *device, uint32_t index)
{
    struct thread_line *line = &device->lines[index];

    (void)pthread_mutex_lock(&line->lock);
    if (line->handler != NULL) {
        line->handler(line->argument);
    }
    (void)pthread_mutex_unlock(&line->lock);
    (void)atomic_fetch_add_explicit(&line->raised, 1, memory_order_relaxed);
    wake(&line->raised);
    for (uint32_t i = 0; i < THREAD_SLEEPERS_MAX; i++) {
        const sk_atomic_u32 *word =
            atomic_load_explicit(&device->sleepers[i], memory_order_relaxed);

        if (word != NULL) {
            wake(word);
        }
    }
}

void thread_device_wake(struct thread_device *device, uint32_t line, const sk_atomic_u32 *word)
{
    (void)atomic_fetch_add_explicit(&device->lines[line].raised, 1, memory_order_relaxed);
    wake(&device->lines[line].raised);
    wake(word);
}

static void tell_of_queue(struct thread_device *device, const struct thread_queue *queue)
{
    (void)atomic_fetch_or_explicit(&device->causes, SK_VIRTIO_INTERRUPT_QUEUE,
                                   memory_order_relaxed);
    thread_device_raise(device, device->config.interrupt_count > 1 ? queue->layout.interrupt : 0);
}

/* ---- One request --------------------------------------------------------------------------- */

static void move_data(struct thread_device *device, uint32_t type, uint64_t sector,
                      const struct thread_piece *pieces, uint32_t count)
{
    uint8_t *storage = device->storage + sector % THREAD_SECTORS * SECTOR;

    for (uint32_t i = 0; i < count; i++) {
        require(storage + pieces[i].bytes <= device->storage + sizeof(device->storage));
        if (type == TYPE_READ) {
            memcpy(pieces[i].memory, storage, pieces[i].bytes);
        } else if (type == TYPE_WRITE) {
            memcpy(storage, pieces[i].memory, pieces[i].bytes);
        } else if (type == TYPE_GET_ID) {
            memset(pieces[i].memory, 0, pieces[i].bytes);
            memcpy(pieces[i].memory, THREAD_IDENTITY, sizeof(THREAD_IDENTITY) - 1);
        }
        storage += type <= TYPE_WRITE ? pieces[i].bytes : 0;
    }
}

static void take_time(struct thread_device *device)
{
    uint32_t slow = atomic_load_explicit(&device->slow_us, memory_order_relaxed);
    uint64_t end = slow == 0 ? 0 : thread_device_now() + random_below(device, slow) * 1000u;

    while (end != 0 && thread_device_now() < end) {
        (void)sched_yield();
    }
}

static void work_on(struct thread_device *device, const struct thread_request *request)
{
    uint64_t header[2];

    take_time(device);
    require(request->piece_count >= 2);
    memcpy(header, request->pieces[0].memory, sizeof(header));
    move_data(device, (uint32_t)header[0], header[1], request->pieces + 1,
              request->piece_count - 2);
    *request->pieces[request->piece_count - 1].memory = 0;
    (void)atomic_fetch_add_explicit(&device->finished, 1, memory_order_relaxed);
}

/* ---- The thread ---------------------------------------------------------------------------- */

static bool enter(struct thread_device *device, struct thread_queue *queue)
{
    bool works;

    (void)pthread_mutex_lock(&device->lock);
    works = queue->enabled && !device->resetting &&
            (device->status & SK_VIRTIO_STATUS_DRIVER_OK) != 0;
    queue->busy = works;
    (void)pthread_mutex_unlock(&device->lock);
    return works;
}

static void leave(struct thread_device *device, struct thread_queue *queue)
{
    (void)pthread_mutex_lock(&device->lock);
    queue->busy = false;
    (void)pthread_cond_broadcast(&device->rests);
    (void)pthread_mutex_unlock(&device->lock);
}

/* The oldest ones, with one used entry for all. */
static void finish_in_order(struct thread_device *device, struct thread_queue *queue,
                            uint32_t count)
{
    struct thread_request all = queue->hand[count - 1];

    all.chains = count;
    all.places = 0;
    for (uint32_t i = 0; i < count; i++) {
        all.places += queue->hand[i].places;
        work_on(device, &queue->hand[i]);
    }
    queue->hand_count -= count;
    memmove(queue->hand, queue->hand + count, queue->hand_count * sizeof(queue->hand[0]));
    if (thread_ring_give(device, queue, &all)) {
        tell_of_queue(device, queue);
    }
}

/* Takes what there is, and finishes some of what it has, in no order. */
static bool serve(struct thread_device *device, struct thread_queue *queue)
{
    bool any = false;
    uint32_t count;

    while (queue->hand_count < THREAD_HAND_MAX &&
           thread_ring_take(device, queue, &queue->hand[queue->hand_count])) {
        queue->hand_count++;
        any = true;
    }
    if (any) {
        thread_ring_ask(device, queue, false);
    }
    count = queue->hand_count == 0 ? 0 : 1 + random_below(device, queue->hand_count);
    if (count > 0 && (device->features >> SK_VIRTIO_F_IN_ORDER & 1) != 0) {
        finish_in_order(device, queue, count);
        return true;
    }
    for (uint32_t i = 0; i < count; i++) {
        uint32_t chosen = random_below(device, queue->hand_count);
        struct thread_request request = queue->hand[chosen];

        queue->hand[chosen] = queue->hand[--queue->hand_count];
        work_on(device, &request);
        if (thread_ring_give(device, queue, &request)) {
            tell_of_queue(device, queue);
        }
    }
    return count > 0;
}

/* True if there is something to do after all. */
static bool ask_for_more(struct thread_device *device)
{
    bool more = false;

    for (uint32_t i = 0; i < device->config.queue_count && !more; i++) {
        struct thread_queue *queue = &device->queues[i];

        if (enter(device, queue)) {
            thread_ring_ask(device, queue, true);
            if (thread_ring_take(device, queue, &queue->hand[queue->hand_count])) {
                queue->hand_count++;
                more = true;
            }
            leave(device, queue);
        }
    }
    return more;
}

static void *run(void *argument)
{
    struct thread_device *device = argument;

    while (!atomic_load_explicit(&device->ends, memory_order_relaxed)) {
        uint32_t kicks = atomic_load_explicit(&device->kicks, memory_order_relaxed);
        bool any = false;

        for (uint32_t i = 0; i < device->config.queue_count; i++) {
            if (enter(device, &device->queues[i])) {
                any |= serve(device, &device->queues[i]);
                leave(device, &device->queues[i]);
            }
        }
        if (any || ask_for_more(device)) {
            continue;
        }
        /* Nothing but a kick: one that is missing shows as requests that stay. */
        while (atomic_load_explicit(&device->kicks, memory_order_relaxed) == kicks &&
               !atomic_load_explicit(&device->ends, memory_order_relaxed)) {
            futex_wait(&device->kicks, kicks, IDLE_NS);
        }
    }
    return NULL;
}

/* ---- The transport ------------------------------------------------------------------------- */

/*
 * Two of them at a time would be two control calls at a time; whoever would be
 * the second one is given the time to come, be there one processor only.
 */
static void begin(struct thread_device *device)
{
    require(!atomic_exchange_explicit(&device->controlled, true, memory_order_relaxed));
    (void)sched_yield();
    (void)pthread_mutex_lock(&device->lock);
}

static void end(struct thread_device *device)
{
    (void)pthread_mutex_unlock(&device->lock);
    atomic_store_explicit(&device->controlled, false, memory_order_relaxed);
}

static void kick(struct thread_device *device)
{
    (void)atomic_fetch_add_explicit(&device->kicks, 1, memory_order_relaxed);
    wake(&device->kicks);
}

static bool is_busy(const struct thread_device *device)
{
    bool busy = false;

    for (uint32_t i = 0; i < device->config.queue_count; i++) {
        busy |= device->queues[i].busy;
    }
    return busy;
}

static enum sk_status get_status(struct sk_virtio_transport *transport, uint32_t *out_status)
{
    struct thread_device *device = of(transport);

    begin(device);
    if (device->resetting && !is_busy(device)) {
        memset(device->queues, 0, sizeof(device->queues));
        device->features = 0;
        device->status = 0;
        device->resetting = false;
    }
    *out_status = device->status;
    end(device);
    return SK_OK;
}

static enum sk_status set_status(struct sk_virtio_transport *transport, uint32_t status)
{
    struct thread_device *device = of(transport);

    begin(device);
    if (status == 0) {
        device->resetting = true; /* what it has in hand goes on until somebody looks */
    } else {
        device->status = status;
    }
    end(device);
    kick(device);
    return SK_OK;
}

static enum sk_status get_features(struct sk_virtio_transport *transport, uint64_t *out_features)
{
    *out_features = of(transport)->config.features | SK_VIRTIO_FEATURE(SK_VIRTIO_F_VERSION_1);
    return SK_OK;
}

static enum sk_status set_features(struct sk_virtio_transport *transport, uint64_t features)
{
    struct thread_device *device = of(transport);

    begin(device);
    device->features = features;
    end(device);
    return SK_OK;
}

static enum sk_status read_config(struct sk_virtio_transport *transport, uint32_t offset,
                                  unsigned width, void *out)
{
    struct thread_device *device = of(transport);

    if (offset + width > sizeof(device->space)) {
        return SK_ERR_RANGE;
    }
    begin(device);
    memcpy(out, device->space + offset, width);
    end(device);
    return SK_OK;
}

static enum sk_status write_config(struct sk_virtio_transport *transport, uint32_t offset,
                                   unsigned width, const void *in)
{
    (void)transport;
    (void)offset;
    (void)width;
    (void)in;
    return SK_ERR_UNSUPPORTED;
}

static enum sk_status get_generation(struct sk_virtio_transport *transport,
                                     uint32_t *out_generation)
{
    struct thread_device *device = of(transport);

    begin(device);
    *out_generation = device->generation;
    end(device);
    return SK_OK;
}

static enum sk_status get_queue_max(struct sk_virtio_transport *transport, uint32_t index,
                                    uint32_t *out_size)
{
    const struct thread_device *device = of(transport);

    *out_size = index < device->config.queue_count ? device->config.queue_size_max : 0;
    return SK_OK;
}

static enum sk_status enable_queue(struct sk_virtio_transport *transport, uint32_t index,
                                   const struct sk_virtio_queue_layout *layout)
{
    struct thread_device *device = of(transport);
    struct thread_queue *queue = &device->queues[index];

    begin(device);
    *queue = (struct thread_queue){ .layout = *layout, .enabled = true, .next_wrap = true,
                                    .used_wrap = true };
    end(device);
    kick(device);
    return SK_OK;
}

static enum sk_status look(struct sk_virtio_transport *transport)
{
    return of(transport)->gone ? SK_ERR_GONE : SK_OK;
}

static enum sk_status reset_queue(struct sk_virtio_transport *transport, uint32_t index,
                                  uint64_t timeout_ns)
{
    struct thread_device *device = of(transport);
    struct thread_queue *queue = &device->queues[index];

    (void)timeout_ns;
    begin(device);
    queue->enabled = false;
    while (queue->busy) {
        (void)pthread_cond_wait(&device->rests, &device->lock);
    }
    end(device);
    return SK_OK;
}

static void notify(struct sk_virtio_transport *transport, uint32_t data)
{
    (void)data;
    kick(of(transport));
}

static uint32_t take_interrupt(struct sk_virtio_transport *transport)
{
    return atomic_exchange_explicit(&of(transport)->causes, 0, memory_order_relaxed);
}

/* ---- The test's side ----------------------------------------------------------------------- */

static void put(struct thread_device *device, uint32_t offset, unsigned bytes, uint64_t value)
{
    memcpy(device->space + offset, &value, bytes);
}

void thread_device_resize(struct thread_device *device, uint32_t sectors)
{
    (void)pthread_mutex_lock(&device->lock);
    device->generation++;
    put(device, 0, 8, sectors);
    put(device, 24, 1, sectors % 4); /* physical_block_exp */
    put(device, 32, 1, sectors % 2); /* writeback */
    put(device, 36, 4, sectors);
    (void)pthread_mutex_unlock(&device->lock);
    (void)atomic_fetch_or_explicit(&device->causes, SK_VIRTIO_INTERRUPT_CONFIG,
                                   memory_order_relaxed);
    thread_device_raise(device, 0);
}

void thread_device_set_index(struct thread_device *device, uint32_t index, uint16_t value)
{
    struct thread_queue *queue = &device->queues[index];
    uint16_t *avail = queue->layout.cpu_driver_area;
    uint16_t *used = queue->layout.cpu_device_area;

    (void)pthread_mutex_lock(&device->lock);
    while (queue->busy) {
        (void)pthread_cond_wait(&device->rests, &device->lock);
    }
    require_equal(queue->next, queue->used);
    queue->next = queue->used = value;
    __atomic_store_n(&avail[1], value, __ATOMIC_RELAXED);
    __atomic_store_n(&used[1], value, __ATOMIC_RELAXED);
    thread_ring_ask(device, queue, true);
    (void)pthread_mutex_unlock(&device->lock);
    kick(device);
}

void thread_device_start(struct thread_device *device, const struct thread_device_config *config,
                         const struct sk_platform *platform)
{
    static const struct sk_virtio_transport_ops ops = {
        .get_status = get_status, .set_status = set_status, .get_features = get_features,
        .set_features = set_features, .read_config = read_config, .write_config = write_config,
        .get_generation = get_generation, .get_queue_max = get_queue_max,
        .enable_queue = enable_queue, .look = look, .reset_queue = reset_queue, .notify = notify,
        .take_interrupt = take_interrupt,
    };

    memset(device, 0, sizeof(*device));
    device->config = *config;
    device->slow_us = config->slow_us;
    device->random = 1;
    device->transport = (struct sk_virtio_transport){ .ops = &ops,
                                                      .platform = platform,
                                                      .kind = "thread",
                                                      .device_type = SK_VIRTIO_DEVICE_BLOCK,
                                                      .interrupt_count = config->interrupt_count };
    put(device, 0, 8, THREAD_SECTORS);
    put(device, 12, 4, 8); /* seg_max */
    put(device, 34, 2, config->queue_count);
    put(device, 36, 4, THREAD_SECTORS); /* max_discard_sectors */
    put(device, 40, 4, 1);
    put(device, 44, 4, 1);
    (void)pthread_mutex_init(&device->lock, NULL);
    (void)pthread_cond_init(&device->rests, NULL);
    for (uint32_t i = 0; i < THREAD_LINES_MAX; i++) {
        (void)pthread_mutex_init(&device->lines[i].lock, NULL);
    }
    require_equal(pthread_create(&device->thread, NULL, run, device), 0);
}

void thread_device_stop(struct thread_device *device)
{
    atomic_store_explicit(&device->ends, true, memory_order_relaxed);
    kick(device);
    require_equal(pthread_join(device->thread, NULL), 0);
}
