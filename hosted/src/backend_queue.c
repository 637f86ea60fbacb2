/* SPDX-License-Identifier: MIT */
#include "backend_private.h"

#include <unistd.h>

void ski_backend_signal(int fd)
{
    uint64_t one = 1;

    if (fd >= 0 && write(fd, &one, sizeof(one)) < 0) {
        /* Full, so it is signalled; or the front end gave us something else. */
    }
}

/* The ring breaks the rules: nothing more is taken from it until it is stopped. */
void ski_backend_queue_break(struct ski_backend_queue *queue, const char *fault)
{
    struct ski_backend_connection *connection = queue->connection;
    struct sk_backend *backend = connection->backend;

    queue->broken = true;
    atomic_fetch_add(&backend->queues_broken, 1);
    sk_log_print(&backend->log, SK_LOG_WARNING, "backend: connection %u, queue %u stopped: %s",
                 connection->number, queue->index, fault);
    ski_backend_signal(queue->error_fd);
    atomic_store(&connection->needs_reset, true);
    ski_backend_connection_wake(connection);
}

/* ---- Giving back ------------------------------------------------------------------------- */

static void publish_ring(struct ski_backend_queue *queue)
{
    uint64_t value;

    if (queue->is_packed) {
        ski_device_packed_publish(&queue->packed);
        return;
    }
    if (queue->faults != NULL &&
        ski_backend_fault_hits(queue->faults, SK_BACKEND_LIE_INDEX, &value)) {
        queue->split.given = (uint16_t)(queue->split.given + value);
    }
    ski_device_split_publish(&queue->split);
}

static void commit_record(struct ski_backend_queue *queue)
{
    if (queue->has_record && queue->is_packed) {
        ski_device_inflight_commit_packed(&queue->record, &queue->packed);
    } else if (queue->has_record) {
        ski_device_inflight_commit_split(&queue->record, &queue->split);
    }
}

/* `count` chains, of which this is the last one; `places` are those of all. */
static void give_to_ring(struct ski_backend_queue *queue, uint32_t id, uint32_t length,
                         uint32_t places, uint32_t count)
{
    if (queue->is_packed) {
        ski_device_packed_give(&queue->packed, id, length, places);
    } else {
        ski_device_split_give_many(&queue->split, id, length, count);
    }
}

/* The same on a bad day. */
static void give_faulty(struct ski_backend_queue *queue, struct ski_backend_held done)
{
    uint64_t value;

    if (ski_backend_fault_hits(queue->faults, SK_BACKEND_LIE_ID, &value)) {
        done.id ^= value == 0 ? 1 : (uint32_t)value;
    }
    if (ski_backend_fault_hits(queue->faults, SK_BACKEND_LIE_LENGTH, &value)) {
        done.length = (uint32_t)value;
    }
    if (ski_backend_fault_hits(queue->faults, SK_BACKEND_LIE_TWICE, &value)) {
        give_to_ring(queue, done.id, done.length, done.places, 1);
    }
    give_to_ring(queue, done.id, done.length, done.places, 1);
    ski_backend_fault_die(queue->faults, SK_BACKEND_DIE_GIVEN);
}

/*
 * Nothing is taken between the first of these and the publishing: what a
 * packed ring's record gives up could be taken again, and could not be undone.
 */
static void give_batch(struct ski_backend_queue *queue)
{
    uint32_t places = 0; /* of chains that share the next entry */
    uint32_t count = 0;

    for (uint32_t i = 0; i < queue->batch_count; i++) {
        const struct ski_backend_held *done = &queue->batch[i];

        places += done->places;
        count++;
        if (queue->has_record && queue->is_packed) {
            ski_device_inflight_give_packed(&queue->record, done->entry, &queue->packed, places);
        } else if (queue->has_record) {
            ski_device_inflight_give_split(&queue->record, (uint16_t)done->id);
        }
        if (queue->faults != NULL) {
            give_faulty(queue, *done);
        } else if (queue->in_order && done->is_whole && i + 1 < queue->batch_count) {
            continue;
        } else {
            give_to_ring(queue, done->id, done->length, places, count);
        }
        places = 0;
        count = 0;
    }
}

static void publish(struct ski_backend_queue *queue)
{
    bool wanted;

    if (queue->batch_count == 0) {
        return;
    }
    give_batch(queue);
    ski_backend_count(&queue->worker->requests, queue->batch_count);
    queue->batch_count = 0;
    publish_ring(queue);
    ski_backend_fault_die(queue->faults, SK_BACKEND_DIE_PUBLISHED);
    commit_record(queue);
    ski_backend_fault_die(queue->faults, SK_BACKEND_DIE_COMMITTED);
    wanted = queue->is_packed ? ski_device_packed_wants_interrupt(&queue->packed)
                              : ski_device_split_wants_interrupt(&queue->split);
    if (wanted && queue->call_fd >= 0) {
        ski_backend_count(&queue->worker->interrupts, 1);
        ski_backend_signal(queue->call_fd);
    }
}

static void give(struct ski_backend_queue *queue, const struct ski_backend_held *done)
{
    queue->batch[queue->batch_count++] = *done;
    if (queue->batch_count >= queue->batch_max) {
        publish(queue);
    }
}

void ski_backend_queue_settle(struct ski_backend_queue *queue)
{
    while (queue->held_count > 0) {
        uint32_t which;

        queue->random = queue->random * 6364136223846793005u + 1442695040888963407u;
        which = (uint32_t)(queue->random >> 33) % queue->held_count;
        give(queue, &queue->held[which]);
        queue->held[which] = queue->held[--queue->held_count];
    }
    publish(queue);
}

/* IN_ORDER: what is done waits until all before it are. */
static __attribute__((noinline)) void give_in_order(struct ski_backend_queue *queue, const struct ski_backend_held *done,
                          uint32_t place)
{
    struct ski_backend_held *first = &queue->order[queue->order_first % SKI_BACKEND_ORDER_MAX];

    queue->order[place % SKI_BACKEND_ORDER_MAX] = *done;
    queue->order[place % SKI_BACKEND_ORDER_MAX].is_done = true;
    while (queue->order_first != queue->order_next && first->is_done) {
        first->is_done = false;
        queue->order_first++;
        give(queue, first);
        first = &queue->order[queue->order_first % SKI_BACKEND_ORDER_MAX];
    }
}

static void finish(struct ski_backend_queue *queue, const struct ski_backend_held *done,
                   uint32_t place)
{
    uint64_t value;

    ski_backend_fault_die(queue->faults, SK_BACKEND_DIE_STATUS);
    if (queue->order_first != queue->order_next) {
        give_in_order(queue, done, place);
        return;
    }
    if (queue->held == NULL ||
        !ski_backend_fault_hits(queue->faults, SK_BACKEND_HOLD, &value)) {
        give(queue, done);
        return;
    }
    queue->held[queue->held_count++] = *done;
    queue->holds = value == 0;
    if (!queue->holds && queue->held_count >= value) {
        ski_backend_queue_settle(queue);
    }
}

/* ---- Taking ------------------------------------------------------------------------------ */

/* Answers what was done, and finds its way back. */
SKI_INLINE void end(struct ski_backend_queue *queue, const struct ski_backend_scratch *scratch)
{
    const struct ski_device_chain *chain = &scratch->chain;
    struct ski_backend_held done = {
        .id = chain->id,
        .places = chain->places,
        .entry = scratch->entry,
        .length = ski_backend_block_end(queue, &scratch->request),
    };

    done.is_whole = done.length == chain->writable_bytes;
    finish(queue, &done, scratch->place);
}

/* Does what a chain asks for, or remembers to go away with it; false: it broke the queue. */
static bool work_on(struct ski_backend_queue *queue, struct ski_backend_scratch *scratch,
                    uint16_t entry)
{
    enum ski_backend_way way;

    ski_backend_fault_die(queue->faults, SK_BACKEND_DIE_TAKEN);
    way = ski_backend_block_begin(queue, &scratch->chain, &scratch->request);
    if (way == SKI_BACKEND_NO_ROOM) {
        ski_backend_queue_break(queue, "a chain without room for a request");
        return false;
    }
    scratch->entry = entry;
    scratch->went_away = way == SKI_BACKEND_AWAY;
    if (queue->in_order && (scratch->went_away || queue->order_first != queue->order_next)) {
        scratch->place = queue->order_next++;
    }
    if (!scratch->went_away) {
        end(queue, scratch);
    }
    return true;
}

/* How many requests may be taken now: a batch, if there is room to keep them in order. */
static uint32_t most(const struct ski_backend_queue *queue)
{
    uint32_t room = SKI_BACKEND_ORDER_MAX - (queue->order_next - queue->order_first);

    return room < queue->batch_max ? room : queue->batch_max;
}

static uint32_t run_split(struct ski_backend_queue *queue, struct ski_backend_scratch *scratch)
{
    struct ski_device_split *ring = &queue->split;
    struct ski_device_chain *chain = &scratch->chain;
    uint32_t room = most(queue);
    uint32_t done = 0;
    uint32_t count;

    if (ski_device_split_pending(ring, &count) != SK_OK) {
        ski_backend_queue_break(queue, "an available index that jumped");
        return 0;
    }
    count = count < room ? count : room;
    for (; done < count && !scratch->went_away; done++) {
        uint16_t head = ski_device_split_peek(ring, 0);

        if (head >= ring->size) {
            ski_backend_queue_break(queue, "a head out of the ring");
            break;
        }
        if (queue->has_record) {
            ski_device_inflight_take_split(&queue->record, head);
        }
        ring->taken++;
        if (ski_device_chain_read_split(chain, &queue->view, ring, head) != SK_OK) {
            ski_backend_queue_break(queue, chain->fault);
            break;
        }
        if (!work_on(queue, scratch, 0)) {
            break;
        }
    }
    return done;
}

static uint32_t run_packed(struct ski_backend_queue *queue, struct ski_backend_scratch *scratch)
{
    struct ski_device_chain *chain = &scratch->chain;
    uint32_t count = most(queue);
    uint32_t done = 0;

    for (; done < count && !scratch->went_away; done++) {
        uint16_t entry = 0;
        enum sk_status status =
            ski_device_chain_load_packed(chain, &queue->packed, scratch->descriptors);

        if (status == SK_ERR_AGAIN) {
            break;
        }
        if (status == SK_OK && queue->has_record) {
            entry = ski_device_inflight_take_packed(&queue->record, scratch->descriptors,
                                                    chain->places);
            chain->fault = "more chains than the record has room for";
            status = entry == SKI_DEVICE_NO_ENTRY ? SK_ERR_MALFORMED : SK_OK;
        }
        if (status == SK_OK) {
            ski_device_packed_take(&queue->packed, chain->places);
            status = ski_device_chain_read_packed(chain, &queue->view, scratch->descriptors);
        }
        if (status != SK_OK) {
            ski_backend_queue_break(queue, chain->fault);
            break;
        }
        if (!work_on(queue, scratch, entry)) {
            break;
        }
    }
    return done;
}

/* What a killed back end had in flight, in its order. */
static uint32_t resubmit(struct ski_backend_queue *queue, struct ski_backend_scratch *scratch)
{
    struct ski_device_chain *chain = &scratch->chain;
    uint16_t entry;
    enum sk_status status;

    if (most(queue) == 0) {
        return 0;
    }
    entry = queue->record.resubmit[queue->resubmitted++];
    if (queue->is_packed) {
        status = ski_device_inflight_load_packed(&queue->record, entry, chain,
                                                 scratch->descriptors);
        if (status == SK_OK) {
            status = ski_device_chain_read_packed(chain, &queue->view, scratch->descriptors);
        }
    } else {
        status = ski_device_chain_read_split(chain, &queue->view, &queue->split, entry);
    }
    if (status != SK_OK) {
        ski_backend_queue_break(queue, chain->fault);
        return 0;
    }
    ski_backend_count(&queue->worker->recovered, 1);
    return work_on(queue, scratch, entry) ? 1 : 0;
}

/* Around everything that a worker does with a queue's memory. */
static void guard_queue(const struct ski_backend_queue *queue)
{
    struct ski_backend_guard *guard = ski_backend_guard();

    guard->memory = &queue->connection->memory;
    guard->record = &queue->connection->record;
}

/* If the memory went away meanwhile, the connection ends. */
static void check_guard(struct ski_backend_queue *queue)
{
    struct ski_backend_guard *guard = ski_backend_guard();

    if (guard->hits != 0) {
        guard->hits = 0;
        queue->broken = true;
        atomic_store(&queue->connection->lost_memory, true);
        ski_backend_connection_wake(queue->connection);
    }
}

static bool is_at_rest(const struct ski_backend_queue *queue)
{
    return queue->broken || queue->stalled || queue->resting;
}

bool ski_backend_queue_kicks_on(struct ski_backend_queue *queue)
{
    bool found;

    if (is_at_rest(queue) || most(queue) == 0) {
        return false; /* or whoever comes back looks */
    }
    if (queue->has_record && queue->resubmitted < queue->record.resubmit_count) {
        return true;
    }
    guard_queue(queue);
    found = queue->is_packed ? ski_device_packed_kicks_on(&queue->packed)
                             : ski_device_split_kicks_on(&queue->split);
    check_guard(queue);
    return found;
}

void ski_backend_queue_kicks_off(struct ski_backend_queue *queue)
{
    if (queue->broken) {
        return;
    }
    guard_queue(queue);
    if (queue->is_packed) {
        ski_device_packed_kicks_off(&queue->packed);
    } else {
        ski_device_split_kicks_off(&queue->split);
    }
    check_guard(queue);
}

/* Without the lock: other hands look meanwhile, and nobody takes the queue away. */
static void go_away(struct ski_backend_queue *queue, struct ski_backend_scratch *scratch)
{
    queue->away++;
    ski_backend_worker_go(queue->worker);
    guard_queue(queue);
    ski_backend_block_go_on(queue, &scratch->request);
    ski_backend_worker_return(queue->worker);
    ski_backend_queue_kicks_off(queue); /* who hears of the answer finds this hand here */
    end(queue, scratch);
    publish(queue);
    check_guard(queue);
    queue->away--;
    if (queue->away == 0 && queue->resting) {
        (void)sem_post(&queue->connection->rested);
    }
}

uint32_t ski_backend_queue_run(struct ski_backend_queue *queue,
                               struct ski_backend_scratch *scratch)
{
    uint32_t done;
    uint64_t value;

    if (is_at_rest(queue)) {
        return 0;
    }
    if (queue->faults != NULL &&
        ski_backend_fault_hits(queue->faults, SK_BACKEND_STALL, &value)) {
        queue->stalled = true;
        return 0;
    }
    guard_queue(queue);
    if (queue->has_record && queue->resubmitted < queue->record.resubmit_count) {
        done = resubmit(queue, scratch);
    } else {
        done = queue->is_packed ? run_packed(queue, scratch) : run_split(queue, scratch);
    }
    if (done == 0 && queue->held_count > 0 && !queue->holds) {
        ski_backend_queue_settle(queue);
    }
    publish(queue);
    check_guard(queue);
    if (scratch->went_away) {
        go_away(queue, scratch);
    }
    return done;
}
