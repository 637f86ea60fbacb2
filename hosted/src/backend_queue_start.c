/* SPDX-License-Identifier: MIT */
#include "backend_private.h"

#include <stdlib.h>
#include <unistd.h>

/* Requests until they are published: a null store is done with them before that costs time. */
#define BATCH_NULL 32u
#define BATCH_FILE 4u

/* The base of a packed ring that nobody used: positions 0, wrap counters 1. */
#define FIRST_PACKED_BASE 0x80008000u

void ski_backend_queue_init(struct ski_backend_queue *queue,
                            struct ski_backend_connection *connection, uint32_t index)
{
    struct sk_backend *backend = connection->backend;

    queue->connection = connection;
    queue->worker =
        &backend->workers[(connection->number + index) % backend->options.worker_count];
    queue->store = &backend->store;
    queue->faults = backend->faults.count > 0 ? &backend->faults : NULL;
    queue->index = index;
    queue->kick_fd = queue->call_fd = queue->error_fd = -1;
    queue->random = 88172645463325252u + index;
}

/* ---- Start and stop ---------------------------------------------------------------------- */

/* Finds the three parts in the memory table. */
static bool find_rings(struct ski_backend_queue *queue)
{
    const struct ski_device_memory *memory = &queue->connection->memory;
    uint64_t available = queue->is_packed ? 4 : ski_device_split_avail_bytes(queue->size);
    uint64_t used = queue->is_packed ? 4 : ski_device_split_used_bytes(queue->size);
    uint8_t SKI_SHARED *parts[3] = {
        ski_device_memory_at_user(memory, queue->user_descriptors, 16 * (uint64_t)queue->size, 16),
        ski_device_memory_at_user(memory, queue->user_available, available,
                                  queue->is_packed ? 4 : 2),
        ski_device_memory_at_user(memory, queue->user_used, used, 4),
    };

    if (parts[0] == NULL || parts[1] == NULL || parts[2] == NULL) {
        return false;
    }
    if (queue->is_packed) {
        ski_device_packed_init(&queue->packed, parts[0], parts[1], parts[2],
                               (uint16_t)queue->size);
    } else {
        ski_device_split_init(&queue->split, parts[0], parts[1], parts[2], (uint16_t)queue->size);
    }
    queue->view = (struct ski_device_view){
        memory, NULL, ski_backend_has(queue->connection, SK_VIRTIO_F_INDIRECT_DESC)
    };
    return true;
}

/* Where the front end says that the ring stands; vhost-user, VHOST_USER_SET_VRING_BASE. */
static bool seek(struct ski_backend_queue *queue)
{
    uint32_t base = queue->has_base ? queue->base : queue->is_packed ? FIRST_PACKED_BASE : 0;
    uint32_t next = base & 0x7fff;
    uint32_t used = base >> 16 & 0x7fff;
    uint32_t outstanding;

    if (!queue->is_packed) {
        uint16_t given = ski_device_split_used_index(&queue->split);

        ski_device_split_seek(&queue->split, (uint16_t)base, given);
        return (uint16_t)(base - given) <= queue->size;
    }
    if (next >= queue->size || used >= queue->size) {
        return false;
    }
    outstanding = next - used + ((base >> 15 & 1) != base >> 31 ? queue->size : 0);
    if (outstanding > queue->size) {
        return false;
    }
    ski_device_packed_seek(&queue->packed, (uint16_t)used, base >> 31 != 0,
                           (uint16_t)outstanding);
    return true;
}

static enum sk_status recover(struct ski_backend_queue *queue)
{
    return queue->is_packed
               ? ski_device_inflight_recover_packed(&queue->record, &queue->packed)
               : ski_device_inflight_recover_split(&queue->record, &queue->split);
}

static void begin_record(struct ski_backend_queue *queue)
{
    if (queue->is_packed) {
        ski_device_inflight_begin_packed(&queue->record, &queue->packed);
    } else {
        ski_device_inflight_begin_split(&queue->record, &queue->split);
    }
}

/*
 * Where the ring begins.  A record that says something knows better than the
 * front end: it goes on where a killed back end left off.
 */
static const char *find_position(struct ski_backend_queue *queue)
{
    struct ski_backend_connection *connection = queue->connection;
    /* Each ring has as much of it as the longest. */
    uint64_t bytes = ski_device_inflight_bytes(queue->is_packed, connection->record_size);

    queue->has_record = false;
    queue->resubmitted = 0;
    if (connection->record.mapping == NULL || queue->index >= connection->record_queues) {
        return seek(queue) ? NULL : "the ring's base";
    }
    if (connection->record_size < queue->size) {
        return "the record of requests in flight is for a shorter ring; give the front end the "
               "size that its guest uses";
    }
    if (connection->record_packed != queue->is_packed) {
        return "the record of requests in flight is for the other kind of ring";
    }
    if (ski_device_inflight_open(&queue->record,
                                 ski_door_share(connection->record.host + bytes * queue->index),
                                 queue->is_packed, (uint16_t)queue->size) != SK_OK) {
        return "not enough memory";
    }
    queue->has_record = true;
    if (ski_device_inflight_is_live(&queue->record)) {
        return recover(queue) == SK_OK ? NULL : "the record of requests in flight";
    }
    if (!seek(queue)) {
        return "the ring's base";
    }
    begin_record(queue);
    return NULL;
}

static void close_record(struct ski_backend_queue *queue)
{
    if (queue->has_record) {
        ski_device_inflight_close(&queue->record);
        queue->has_record = false;
    }
}

static bool open_held(struct ski_backend_queue *queue)
{
    uint64_t value;

    if (!ski_backend_fault_is_set(&queue->connection->backend->faults, SK_BACKEND_HOLD, &value)) {
        return true;
    }
    queue->held = calloc(queue->size, sizeof(*queue->held)); /* no more can be out */
    queue->held_count = 0;
    queue->holds = false;
    return queue->held != NULL;
}

static bool open_order(struct ski_backend_queue *queue)
{
    queue->in_order = ski_backend_has(queue->connection, SK_VIRTIO_F_IN_ORDER);
    queue->order_first = queue->order_next = 0;
    if (queue->in_order) {
        queue->order = calloc(SKI_BACKEND_ORDER_MAX, sizeof(*queue->order));
    }
    return !queue->in_order || queue->order != NULL;
}

static void close_lists(struct ski_backend_queue *queue)
{
    free(queue->held);
    free(queue->order);
    queue->held = queue->order = NULL;
}

static bool is_size(const struct ski_backend_queue *queue)
{
    return queue->size <= SKI_RING_SIZE_MAX &&
           (queue->is_packed || sk_checked_is_power_of_two(queue->size));
}

static const char *start(struct ski_backend_queue *queue)
{
    struct ski_backend_connection *connection = queue->connection;
    const char *fault;

    queue->is_packed = ski_backend_has(connection, SK_VIRTIO_F_RING_PACKED);
    if (!is_size(queue)) {
        return "the ring's size";
    }
    if (!find_rings(queue)) {
        return "the ring's addresses";
    }
    fault = find_position(queue);
    if (fault != NULL) {
        return fault;
    }
    if (!open_held(queue) || !open_order(queue)) {
        return "not enough memory";
    }
    if (queue->kick_fd >= 0 && !ski_backend_worker_watch(queue->worker, queue->kick_fd)) {
        return "the kick descriptor";
    }
    return NULL;
}

static void set_up(struct ski_backend_queue *queue)
{
    struct ski_backend_connection *connection = queue->connection;
    struct ski_backend_store *store = &connection->backend->store;
    bool event_idx = ski_backend_has(connection, SK_VIRTIO_F_EVENT_IDX);

    queue->split.event_idx = event_idx;
    queue->packed.event_idx = event_idx;
    queue->writable = !store->read_only;
    queue->durable = !connection->write_back;
    queue->does_nothing = store->is_null && !store->null_zeroes && queue->faults == NULL;
    queue->batch_max = store->is_null ? BATCH_NULL : BATCH_FILE;
    queue->batch_count = 0;
    queue->stalled = false;
    queue->started = true;
    ski_backend_queue_kicks_off(queue);
    ski_backend_worker_add(queue->worker, queue);
    /* A killed back end may have died between publishing and its interrupt. */
    ski_backend_signal(queue->call_fd);
}

static bool is_described(const struct ski_backend_queue *queue)
{
    return queue->connection->has_features && queue->kick_known && queue->size != 0 &&
           queue->has_addresses;
}

bool ski_backend_queue_update(struct ski_backend_queue *queue)
{
    struct ski_backend_connection *connection = queue->connection;
    const char *fault;

    if (queue->started || queue->broken || !is_described(queue)) {
        return true;
    }
    if (!ski_backend_has(connection, SKI_VHOST_USER_F_PROTOCOL_FEATURES)) {
        queue->enabled = true;
    }
    if (!queue->enabled) {
        return true;
    }
    fault = start(queue);
    if (fault != NULL) {
        close_lists(queue);
        close_record(queue);
        sk_log_print(&connection->backend->log, SK_LOG_WARNING,
                     "backend: connection %u, queue %u cannot start: %s", connection->number,
                     queue->index, fault);
        return false;
    }
    set_up(queue);
    return true;
}

static uint32_t position(const struct ski_backend_queue *queue)
{
    const struct ski_device_packed *ring = &queue->packed;

    if (!queue->is_packed) {
        return queue->split.taken;
    }
    return ring->next | (uint32_t)ring->next_wrap << 15 | (uint32_t)ring->used << 16 |
           (uint32_t)ring->used_wrap << 31;
}

/* Frees what a start took, and forgets the kick. */
static void leave_ring(struct ski_backend_queue *queue)
{
    if (queue->started) {
        ski_backend_worker_drop(queue->worker, queue);
        if (queue->kick_fd >= 0) {
            ski_backend_worker_unwatch(queue->worker, queue->kick_fd);
        }
        close_record(queue);
        close_lists(queue);
        queue->started = false;
    }
    queue->kick_known = false;
    if (queue->kick_fd >= 0) {
        (void)close(queue->kick_fd);
        queue->kick_fd = -1;
    }
}

/* `ended`: the front end knows that nothing is in flight, so the record need not say so. */
static void stop(struct ski_backend_queue *queue, bool ended)
{
    if (queue->started) {
        ski_backend_queue_settle(queue);
        queue->base = position(queue);
        queue->has_base = true;
        if (queue->has_record && ended) {
            ski_device_inflight_end(&queue->record);
        }
    }
    leave_ring(queue);
}

void ski_backend_queue_stop(struct ski_backend_queue *queue, uint32_t *out_base)
{
    stop(queue, true);
    queue->broken = false;
    *out_base = queue->has_base ? queue->base
                : ski_backend_has(queue->connection, SK_VIRTIO_F_RING_PACKED) ? FIRST_PACKED_BASE
                                                                              : 0;
}

void ski_backend_queue_reset(struct ski_backend_queue *queue)
{
    stop(queue, true);
    queue->broken = false;
    queue->enabled = false;
    queue->has_addresses = false;
    queue->has_base = false;
    queue->size = 0;
}

void ski_backend_queue_close(struct ski_backend_queue *queue)
{
    stop(queue, false);
    if (queue->call_fd >= 0) {
        (void)close(queue->call_fd);
    }
    if (queue->error_fd >= 0) {
        (void)close(queue->error_fd);
    }
}

void ski_backend_queue_remap(struct ski_backend_queue *queue)
{
    if (queue->started && !find_rings(queue)) {
        leave_ring(queue); /* there is no ring to settle anything in */
        ski_backend_queue_break(queue, "its ring is in no memory any more");
    }
}

void ski_backend_queue_set_call(struct ski_backend_queue *queue, int fd)
{
    if (queue->call_fd >= 0) {
        (void)close(queue->call_fd);
    }
    queue->call_fd = fd;
    if (queue->started) {
        ski_backend_signal(fd); /* what was to be said before is not lost */
    }
}

void ski_backend_queue_set_kick(struct ski_backend_queue *queue, int fd)
{
    if (queue->kick_fd >= 0) {
        if (queue->started) {
            ski_backend_worker_unwatch(queue->worker, queue->kick_fd);
        }
        (void)close(queue->kick_fd);
    }
    queue->kick_fd = fd;
    queue->kick_known = true;
    if (queue->started && fd >= 0 && !ski_backend_worker_watch(queue->worker, fd)) {
        ski_backend_queue_break(queue, "its kick descriptor cannot be waited for");
    }
}
