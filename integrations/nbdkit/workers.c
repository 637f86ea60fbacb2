/* SPDX-License-Identifier: MIT */
#include "workers.h"

#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define NAP_MS     100

struct call;

/* One request to the disk, with memory of its own. */
struct slot {
    struct sk_block_request request;
    struct sk_dma_segment segment;
    uint8_t *memory;
    struct worker *worker;
    struct call *call;
    struct slot *next;  /* in the free list, or handed over */
    struct slot *round; /* the next one of the same call */
    uint8_t *data;      /* the caller's memory of this piece */
    uint32_t bytes;
};

struct worker {
    struct workers *workers;
    struct sk_block_queue *queue;
    uint32_t index;
    int wake_fd;
    pthread_t thread;
    pthread_mutex_t lock; /* of what stands below */
    struct slot *handed;
    struct slot **handed_last;
    bool ends;
};

struct workers {
    struct sk_vhost_user_disk *disk;
    struct sk_io_buffer buffer;
    bool polling;
    uint32_t count;
    uint32_t started;
    struct worker *worker;
    struct slot *slots;
    pthread_mutex_t lock; /* of the free list */
    pthread_cond_t freed;
    struct slot *free;
};

/* A call that waits for its pieces. */
struct call {
    struct workers *workers;
    pthread_mutex_t lock;
    pthread_cond_t done;
    uint32_t left;
    enum sk_status status; /* the first failure */
};

/* ---- The thread of a queue ----------------------------------------------------------------- */

static void completed(struct sk_block_request *request)
{
    struct slot *slot = request->context;
    struct call *call = slot->call;

    (void)pthread_mutex_lock(&call->lock);
    if (call->status == SK_OK) {
        call->status = request->status;
    }
    call->left--;
    (void)pthread_cond_signal(&call->done);
    (void)pthread_mutex_unlock(&call->lock);
}

/* Submits all that was handed over, with one notification; false: it was told to end. */
static bool take_handed(struct worker *worker)
{
    struct sk_block_request *batch[WORKERS_SLOTS_EACH];
    struct slot *slot;
    uint32_t count = 0;
    bool ends;

    (void)pthread_mutex_lock(&worker->lock);
    slot = worker->handed;
    worker->handed = NULL;
    worker->handed_last = &worker->handed;
    ends = worker->ends;
    (void)pthread_mutex_unlock(&worker->lock);
    while (slot != NULL) {
        struct slot *next = slot->next; /* a completion may give the slot away */

        batch[count++] = &slot->request;
        slot = next;
    }
    if (count > 0) {
        sk_block_submit(worker->queue, batch, count);
    }
    return !ends;
}

static void sleep_until_news(struct worker *worker)
{
    struct sk_vhost_user_disk *disk = worker->workers->disk;
    struct pollfd polls[2] = {
        { .fd = worker->wake_fd, .events = POLLIN },
        { .fd = sk_vhost_user_disk_queue_fd(disk, worker->index), .events = POLLIN },
    };
    uint64_t count;

    if (sk_vhost_user_disk_arm(disk, worker->index) != SK_OK) {
        return;
    }
    (void)poll(polls, 2, NAP_MS);
    if ((polls[0].revents & POLLIN) != 0 && read(worker->wake_fd, &count, sizeof(count)) < 0) {
        return; /* somebody else's signal: looked at all the same */
    }
}

static void *work(void *argument)
{
    struct worker *worker = argument;

    while (take_handed(worker)) {
        uint32_t found = 0;
        enum sk_status status = sk_block_poll(worker->queue, 0, &found);

        (void)status; /* each request has its own */
        if (found == 0 && !worker->workers->polling) {
            sleep_until_news(worker);
        }
    }
    return NULL;
}

static void wake(struct worker *worker)
{
    uint64_t one = 1;

    if (write(worker->wake_fd, &one, sizeof(one)) < 0) {
        return; /* the counter is full: it is awake */
    }
}

static void hand_over(struct slot *slot)
{
    struct worker *worker = slot->worker;
    bool was_empty;

    slot->next = NULL;
    (void)pthread_mutex_lock(&worker->lock);
    was_empty = worker->handed == NULL;
    *worker->handed_last = slot;
    worker->handed_last = &slot->next;
    (void)pthread_mutex_unlock(&worker->lock);
    if (was_empty && !worker->workers->polling) {
        wake(worker);
    }
}

/* ---- Slots --------------------------------------------------------------------------------- */

/* A free slot; if there is none, waits for one, or (`must` false) gives NULL. */
static struct slot *get_slot(struct workers *workers, bool must)
{
    struct slot *slot;

    (void)pthread_mutex_lock(&workers->lock);
    while (must && workers->free == NULL) {
        (void)pthread_cond_wait(&workers->freed, &workers->lock);
    }
    slot = workers->free;
    if (slot != NULL) {
        workers->free = slot->next;
    }
    (void)pthread_mutex_unlock(&workers->lock);
    return slot;
}

static void put_slot(struct workers *workers, struct slot *slot)
{
    (void)pthread_mutex_lock(&workers->lock);
    slot->next = workers->free;
    workers->free = slot;
    (void)pthread_cond_signal(&workers->freed);
    (void)pthread_mutex_unlock(&workers->lock);
}

/* ---- Calls --------------------------------------------------------------------------------- */

struct job {
    enum sk_block_operation operation;
    uint32_t flags;
    uint8_t *data; /* NULL: none */
    uint64_t offset;
    uint64_t bytes;
};

static void begin(struct call *call, struct workers *workers)
{
    *call = (struct call){ .workers = workers, .status = SK_OK };
    (void)pthread_mutex_init(&call->lock, NULL);
    (void)pthread_cond_init(&call->done, NULL);
}

static enum sk_status end(struct call *call)
{
    (void)pthread_cond_destroy(&call->done);
    (void)pthread_mutex_destroy(&call->lock);
    return call->status;
}

static void start_piece(struct call *call, struct slot *slot, const struct job *job,
                        uint64_t bytes)
{
    bool moves = job->data != NULL;

    slot->call = call;
    slot->data = job->data;
    slot->bytes = moves ? (uint32_t)bytes : 0;
    slot->segment.bytes = slot->bytes; /* its address stays */
    slot->request = (struct sk_block_request){
        .operation = job->operation,
        .flags = job->flags,
        .sector = job->offset / SK_BLOCK_SECTOR_BYTES,
        .sector_count = moves ? 0 : bytes / SK_BLOCK_SECTOR_BYTES,
        .segments = moves ? &slot->segment : NULL,
        .segment_count = moves ? 1 : 0,
        .complete = completed,
        .context = slot,
    };
    if (job->operation == SK_BLOCK_WRITE) {
        (void)memcpy(slot->memory, job->data, bytes);
    }
    (void)pthread_mutex_lock(&call->lock);
    call->left++;
    (void)pthread_mutex_unlock(&call->lock);
    hand_over(slot);
}

/*
 * Waits for all pieces of a round; what was read goes to the caller.  Slots
 * that the disk may still write are given up.
 */
static void finish_round(struct call *call, struct slot *round)
{
    (void)pthread_mutex_lock(&call->lock);
    while (call->left > 0) {
        (void)pthread_cond_wait(&call->done, &call->lock);
    }
    (void)pthread_mutex_unlock(&call->lock);
    while (round != NULL) {
        struct slot *slot = round;

        round = slot->round;
        if (slot->request.status == SK_OK && slot->request.operation == SK_BLOCK_READ) {
            (void)memcpy(slot->data, slot->memory, slot->bytes);
        }
        if (slot->request.status != SK_ERR_IN_DOUBT) {
            put_slot(call->workers, slot);
        }
    }
}

/*
 * Cuts a job into pieces and runs as many at a time as there are slots.  Only
 * the first of a round is waited for, so two long calls cannot starve each other.
 */
static enum sk_status run(struct workers *workers, struct job job)
{
    uint64_t most = job.data != NULL ? WORKERS_PIECE_BYTES : UINT64_MAX;
    struct call call;

    begin(&call, workers);
    do {
        struct slot *slot = get_slot(workers, true);
        struct slot *round = NULL;

        while (slot != NULL) {
            uint64_t bytes = job.bytes < most ? job.bytes : most;

            slot->round = round;
            round = slot;
            start_piece(&call, slot, &job, bytes);
            job.data = job.data != NULL ? job.data + bytes : NULL;
            job.offset += bytes;
            job.bytes -= bytes;
            slot = job.bytes > 0 ? get_slot(workers, false) : NULL;
        }
        finish_round(&call, round);
    } while (job.bytes > 0 && call.status == SK_OK);
    return end(&call);
}

enum sk_status workers_read(struct workers *workers, void *out_data, uint64_t offset,
                            uint64_t bytes)
{
    struct job job = { SK_BLOCK_READ, 0, out_data, offset, bytes };

    return run(workers, job);
}

enum sk_status workers_write(struct workers *workers, const void *data, uint64_t offset,
                             uint64_t bytes, uint32_t flags)
{
    /* Only read from: the copy goes into the slot. */
    struct job job = { SK_BLOCK_WRITE, flags, (uint8_t *)(uintptr_t)data, offset, bytes };

    return run(workers, job);
}

enum sk_status workers_clear(struct workers *workers, enum sk_block_operation operation,
                             uint64_t offset, uint64_t bytes, uint32_t flags)
{
    struct job job = { operation, flags, NULL, offset, bytes };

    return run(workers, job);
}

enum sk_status workers_flush(struct workers *workers)
{
    struct job job = { SK_BLOCK_FLUSH, 0, NULL, 0, 0 };

    return run(workers, job);
}

/* ---- Start and stop ------------------------------------------------------------------------ */

static enum sk_status place_slots(struct workers *workers)
{
    for (uint32_t i = 0; i < workers->count * WORKERS_SLOTS_EACH; i++) {
        struct slot *slot = &workers->slots[i];
        uint64_t at = (uint64_t)i * WORKERS_PIECE_BYTES;
        enum sk_status status =
            sk_io_buffer_segment(&workers->buffer, at, WORKERS_PIECE_BYTES, &slot->segment);

        if (status != SK_OK) {
            return status;
        }
        slot->memory = (uint8_t *)sk_io_buffer_data(&workers->buffer) + at;
        slot->worker = &workers->worker[i % workers->count];
        put_slot(workers, slot);
    }
    return SK_OK;
}

static enum sk_status start_worker(struct workers *workers, uint32_t index)
{
    struct worker *worker = &workers->worker[index];

    worker->workers = workers;
    worker->index = index;
    worker->queue = sk_block_get_queue(sk_vhost_user_disk_device(workers->disk), index);
    worker->handed_last = &worker->handed;
    worker->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    (void)pthread_mutex_init(&worker->lock, NULL);
    if (worker->wake_fd < 0 || pthread_create(&worker->thread, NULL, work, worker) != 0) {
        if (worker->wake_fd >= 0) {
            (void)close(worker->wake_fd);
        }
        (void)pthread_mutex_destroy(&worker->lock);
        return SK_ERR_NO_MEMORY;
    }
    workers->started++;
    return SK_OK;
}

enum sk_status workers_start(struct sk_vhost_user_disk *disk, bool polling,
                             struct workers **out_workers)
{
    struct sk_block_device *device = sk_vhost_user_disk_device(disk);
    struct workers *workers = calloc(1, sizeof(*workers));
    enum sk_status status;

    *out_workers = NULL;
    if (workers == NULL) {
        return SK_ERR_NO_MEMORY;
    }
    workers->disk = disk;
    workers->polling = polling;
    workers->count = device->info.queue_count;
    workers->worker = calloc(workers->count, sizeof(*workers->worker));
    workers->slots = calloc((size_t)workers->count * WORKERS_SLOTS_EACH, sizeof(*workers->slots));
    (void)pthread_mutex_init(&workers->lock, NULL);
    (void)pthread_cond_init(&workers->freed, NULL);
    status = workers->worker == NULL || workers->slots == NULL ? SK_ERR_NO_MEMORY : SK_OK;
    if (status == SK_OK) {
        status = sk_io_buffer_create(&workers->buffer, device->domain,
                                     (uint64_t)workers->count * WORKERS_SLOTS_EACH * WORKERS_PIECE_BYTES,
                                     SK_IO_BUFFER_ALIGNMENT);
    }
    if (status == SK_OK) {
        status = place_slots(workers);
    }
    for (uint32_t i = 0; status == SK_OK && i < workers->count; i++) {
        status = start_worker(workers, i);
    }
    if (status != SK_OK) {
        workers_stop(workers);
        return status;
    }
    *out_workers = workers;
    return SK_OK;
}

void workers_stop(struct workers *workers)
{
    enum sk_status status;

    for (uint32_t i = 0; i < workers->started; i++) {
        struct worker *worker = &workers->worker[i];

        (void)pthread_mutex_lock(&worker->lock);
        worker->ends = true;
        (void)pthread_mutex_unlock(&worker->lock);
        wake(worker);
        (void)pthread_join(worker->thread, NULL);
        (void)pthread_mutex_destroy(&worker->lock);
        (void)close(worker->wake_fd);
    }
    status = sk_io_buffer_destroy(&workers->buffer);
    (void)status; /* logged where it happened */
    (void)pthread_cond_destroy(&workers->freed);
    (void)pthread_mutex_destroy(&workers->lock);
    free(workers->slots);
    free(workers->worker);
    free(workers);
}
