/* SPDX-License-Identifier: MIT */
/* Split virtqueues as the fake device uses them; 2.7. */
#include <stdlib.h>
#include <string.h>

#include <skio/endian.h>

#include "fake/virtio_internal.h"

#define NO_INTERRUPT 1u
#define NO_NOTIFY    1u

static uint16_t load16(const uint8_t *from)
{
    sk_le16 value = { __atomic_load_n((const uint16_t *)(const void *)from, __ATOMIC_ACQUIRE) };

    return sk_le16_get(value);
}

static void store16(uint8_t *to, uint16_t value)
{
    __atomic_store_n((uint16_t *)(void *)to, sk_le16_make(value).raw, __ATOMIC_RELEASE);
}

static void store32(uint8_t *to, uint32_t value)
{
    __atomic_store_n((uint32_t *)(void *)to, sk_le32_make(value).raw, __ATOMIC_RELAXED);
}

/* 2.7.7.2, 2.7.10: whether `index` asked to be told about the step from `old` to `now`. */
static bool event_wanted(uint16_t index, uint16_t now, uint16_t old)
{
    return (uint16_t)(now - index - 1) < (uint16_t)(now - old);
}

static void *reach(struct fake_device *fake, uint64_t address, uint64_t bytes)
{
    return fake->config.reach(fake->config.reach_context, address, bytes);
}

static bool aligned(const struct fake_queue *queue, bool packed)
{
    return queue->address[0] % 16 == 0 && queue->address[1] % (packed ? 4 : 2) == 0 &&
           queue->address[2] % 4 == 0;
}

static bool all_zero(const uint8_t *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (bytes[i] != 0) {
            return false;
        }
    }
    return true;
}

/* What the device is told about notifications, in the used ring. */
static void ask_for_notifications(struct fake_device *fake, struct fake_queue *queue)
{
    bool event_index = fake_negotiated(fake, SK_VIRTIO_F_EVENT_IDX);
    uint16_t wanted = queue->avail_seen;

    if (fake->config.polls) {
        wanted = (uint16_t)(wanted + 0x8000);
    }
    if (event_index) {
        store16(queue->used + 4 + 8 * (size_t)queue->size, wanted);
    } else {
        store16(queue->used, fake->config.polls ? NO_NOTIFY : 0);
    }
}

bool fake_queue_start(struct fake_device *fake, struct fake_queue *queue)
{
    bool packed = fake_negotiated(fake, SK_VIRTIO_F_RING_PACKED);
    uint64_t size = queue->size;

    if (size == 0 || !aligned(queue, packed)) {
        fake_violation(fake, "queue enabled with size %u at 0x%llx 0x%llx 0x%llx", queue->size,
                       (unsigned long long)queue->address[0],
                       (unsigned long long)queue->address[1],
                       (unsigned long long)queue->address[2]);
        return false;
    }
    queue->table = reach(fake, queue->address[0], 16 * size);
    queue->avail = reach(fake, queue->address[1], packed ? 4 : 6 + 2 * size);
    queue->used = reach(fake, queue->address[2], packed ? 4 : 6 + 8 * size);
    if (queue->table == NULL || queue->avail == NULL || queue->used == NULL) {
        fake_violation(fake, "queue enabled with a ring that is unreachable");
        return false;
    }
    queue->owned = fake_allocate(queue->size * sizeof(bool));
    if (packed) {
        queue->ready = fake_packed_start(fake, queue);
        return true;
    }
    if (!all_zero(queue->used, 6 + 8 * size) || load16(queue->avail + 2) != 0) {
        fake_violation(fake, "queue enabled with rings that are not zero");
    }
    queue->avail_seen = 0;
    queue->used_index = 0;
    queue->used_signalled = 0;
    queue->ready = true;
    ask_for_notifications(fake, queue);
    return true;
}

void fake_request_free(struct fake_request *request)
{
    for (uint32_t i = 0; i < request->span_count; i++) {
        free(request->spans[i].saved);
    }
    free(request->spans);
    free(request->segments);
    free(request->snapshot);
    free(request);
}

bool fake_queue_is_stalled(const struct fake_device *fake, const struct fake_queue *queue)
{
    const struct fake_request *request = fake->stalled;

    while (request != NULL && request->queue != queue) {
        request = request->next;
    }
    return request != NULL;
}

static void forget_stalled(struct fake_device *fake, const struct fake_queue *queue)
{
    struct fake_request **link = &fake->stalled;

    while (*link != NULL) {
        struct fake_request *request = *link;

        if (request->queue == queue) {
            *link = request->next;
            fake_request_free(request);
        } else {
            link = &request->next;
        }
    }
}

void fake_queue_stop(struct fake_device *fake, struct fake_queue *queue)
{
    forget_stalled(fake, queue);
    fake_packed_stop(queue);
    while (queue->first != NULL) {
        struct fake_request *request = queue->first;

        queue->first = request->next;
        fake->in_flight--;
        fake_request_free(request);
    }
    free(queue->owned);
    *queue = (struct fake_queue){ 0 };
}

static void append(struct fake_queue *queue, struct fake_request *request)
{
    struct fake_request **end = &queue->first;

    while (*end != NULL) {
        end = &(*end)->next;
    }
    *end = request;
}

void fake_queue_accept(struct fake_device *fake, struct fake_request *request)
{
    fake_block_take(fake, request);
    fake->requests++;
    fake->in_flight++;
    append(request->queue, request);
}

/* 1 for a descriptor of the queue's table, 0 for an indirect table. */
static unsigned is_in_ring(const struct fake_queue *queue, const struct fake_span *span)
{
    return (size_t)(span->start - queue->table) < 16 * (size_t)queue->size;
}

static void take_one(struct fake_device *fake, struct fake_queue *queue, uint16_t head)
{
    struct fake_request *request;

    if (head >= queue->size) {
        fake_violation(fake, "available ring: head %u of %u", head, queue->size);
        return;
    }
    if (fake_negotiated(fake, SK_VIRTIO_F_IN_ORDER) && head != queue->in_order_head &&
        !fake->scribbled) {
        fake_violation(fake, "with IN_ORDER the chain at %u should start at %u", head,
                       queue->in_order_head);
    }
    request = fake_chain_read(fake, queue, head);
    for (uint32_t i = 0; i < request->span_count; i++) {
        head = (uint16_t)(head + is_in_ring(queue, &request->spans[i]));
    }
    queue->in_order_head = head % queue->size;
    fake_queue_accept(fake, request);
}

static void take_split(struct fake_device *fake, struct fake_queue *queue)
{
    uint16_t index = load16(queue->avail + 2);
    uint16_t pending = (uint16_t)(index - queue->avail_seen);

    if (pending > queue->size) {
        fake_violation(fake, "available index jumps from %u to %u in a queue of %u",
                       queue->avail_seen, index, queue->size);
        return;
    }
    while (queue->avail_seen != index) {
        uint32_t slot = queue->avail_seen % queue->size;

        queue->avail_seen++;
        take_one(fake, queue, load16(queue->avail + 4 + 2 * (size_t)slot));
    }
    ask_for_notifications(fake, queue);
}

void fake_queue_take(struct fake_device *fake, struct fake_queue *queue)
{
    if (queue->packed != NULL) {
        fake_packed_take(fake, queue);
    } else {
        take_split(fake, queue);
    }
}

/* The device lets go of the chain's descriptors without putting them right. */
static void forget_spans(struct fake_queue *queue, struct fake_request *request)
{
    for (uint32_t i = 0; i < request->span_count; i++) {
        size_t offset = (size_t)(request->spans[i].start - queue->table);

        if (offset < 16 * (size_t)queue->size) {
            queue->owned[offset / 16] = false;
        }
        free(request->spans[i].saved);
    }
    request->span_count = 0;
}

static void scribble(struct fake_device *fake, struct fake_queue *queue)
{
    uint64_t argument;
    bool for_good = fake_fires(fake, FAKE_FAULT_SCRIBBLE_FOR_GOOD, &argument);

    if (!for_good && !fake_fires(fake, FAKE_FAULT_SCRIBBLE, &argument)) {
        return;
    }
    for (struct fake_request *request = queue->first; request != NULL; request = request->next) {
        if (!request->scribbled) {
            fake_chain_scribble(fake, request);
        }
        if (for_good) {
            forget_spans(queue, request);
            fake->scribbled = true;
        }
    }
    if (queue->packed != NULL) {
        fake_packed_scribble(fake, queue, for_good);
        return;
    }
    for (size_t i = 0; i < queue->size; i++) {
        store16(queue->avail + 4 + 2 * i, (uint16_t)fake_random(fake));
    }
}

/* 2.9: the notification says where the next chain will be. */
static void check_position(struct fake_device *fake, const struct fake_queue *queue)
{
    uint16_t expected = queue->packed != NULL ? fake_packed_position(queue) : queue->avail_seen;

    if (fake_negotiated(fake, SK_VIRTIO_F_NOTIFICATION_DATA) && queue->position_told != expected &&
        !fake->scribbled) {
        fake_violation(fake, "notification data says 0x%x, the ring 0x%x", queue->position_told,
                       expected);
    }
}

void fake_queue_notified(struct fake_device *fake, struct fake_queue *queue)
{
    fake_queue_take(fake, queue);
    check_position(fake, queue);
    scribble(fake, queue);
    if (!fake->config.deferred) {
        (void)fake_queue_complete(fake, queue, UINT_MAX);
    }
}

void fake_queue_check_unnotified(struct fake_device *fake, struct fake_queue *queue)
{
    uint16_t index = load16(queue->avail + 2);

    if (queue->packed != NULL) {
        if (fake_packed_pending(queue) && fake->faults[FAKE_FAULT_DEAF].fired == 0) {
            fake_violation(fake, "descriptor %u is available, but the device was not told",
                           fake_packed_position(queue) & 0x7fffu);
        }
        return;
    }
    if (index != queue->avail_seen && fake->faults[FAKE_FAULT_DEAF].fired == 0 &&
        (uint16_t)(index - queue->avail_seen) <= queue->size) {
        fake_violation(fake, "available index is %u, but the device was told of %u only", index,
                       queue->avail_seen);
    }
}

void fake_queue_put_used(struct fake_queue *queue, uint32_t id, uint32_t length)
{
    uint8_t *entry = queue->used + 4 + 8 * (size_t)(queue->used_index % queue->size);

    store32(entry, id);
    store32(entry + 4, length);
    queue->used_index++;
}

void fake_queue_store_used_index(struct fake_queue *queue, uint16_t index)
{
    store16(queue->used + 2, index);
}

static void put_split(struct fake_device *fake, struct fake_queue *queue,
                      const struct fake_used *used)
{
    uint64_t argument;

    fake_queue_put_used(queue, used->id, used->length);
    queue->used_index = (uint16_t)(queue->used_index + used->requests - 1);
    if (fake_fires(fake, FAKE_FAULT_USED_REPLAY, &argument)) {
        while (argument-- > 0) {
            fake_queue_put_used(queue, used->id, used->length);
        }
    }
    if (fake_fires(fake, FAKE_FAULT_USED_INDEX, &argument)) {
        queue->used_index = (uint16_t)(queue->used_index + argument);
    }
    fake_queue_store_used_index(queue, queue->used_index);
}

/* Tells the driver what was finished since the last time. */
static void put_open(struct fake_device *fake, struct fake_queue *queue)
{
    struct fake_used used = queue->open;
    uint64_t argument;

    if (used.requests == 0) {
        return;
    }
    queue->open = (struct fake_used){ 0 };
    fake->skipped += used.requests - 1;
    if (fake_fires(fake, FAKE_FAULT_USED_ID, &argument)) {
        used.id = (uint32_t)argument;
    }
    if (fake_fires(fake, FAKE_FAULT_USED_ID_OFFSET, &argument)) {
        used.id += (uint32_t)argument;
    }
    if (fake_fires(fake, FAKE_FAULT_USED_LENGTH, &argument)) {
        used.length = (uint32_t)argument;
    }
    if (fake_fires(fake, FAKE_FAULT_USED_LENGTH_OFFSET, &argument)) {
        used.length += (uint32_t)argument;
    }
    if (queue->packed != NULL) {
        fake_packed_put(fake, queue, &used);
    } else {
        put_split(fake, queue, &used);
    }
}

/* 2.7.9: only a buffer that was used completely may go without an entry of its own. */
static bool may_wait(const struct fake_device *fake, const struct fake_queue *queue,
                     const struct fake_request *request)
{
    uint64_t writable = 1; /* the status */

    for (uint32_t i = 0; i < request->segment_count; i++) {
        writable += request->segments[i].write ? request->segments[i].bytes : 0;
    }
    return fake_negotiated(fake, SK_VIRTIO_F_IN_ORDER) && request->written == writable &&
           queue->open.requests < fake->config.in_order_batch;
}

/* Gives a request back that is no longer in any list; with IN_ORDER perhaps with the next ones. */
void fake_queue_finish(struct fake_device *fake, struct fake_request *request)
{
    struct fake_queue *queue = request->queue;

    fake_chain_unscribble(request);
    fake_chain_check_unchanged(fake, request);
    forget_spans(queue, request);
    if (queue->packed != NULL) {
        fake_packed_forget(request);
    }
    queue->open.id = request->head;
    queue->open.length = (uint32_t)request->written;
    queue->open.written = request->written > 0;
    queue->open.requests++;
    queue->open.descriptors += request->descriptors;
    if (!may_wait(fake, queue, request)) {
        put_open(fake, queue);
    }
    fake->completions++;
    fake_request_free(request);
}

static struct fake_request *choose(struct fake_device *fake, struct fake_queue *queue)
{
    struct fake_request **link = &queue->first;
    struct fake_request *request;
    uint64_t steps = 0;
    uint64_t argument;

    if (fake_negotiated(fake, SK_VIRTIO_F_IN_ORDER)) {
        steps = fake_fires(fake, FAKE_FAULT_OUT_OF_ORDER, &argument) ? UINT64_MAX : 0;
    } else if (fake->config.order == FAKE_ORDER_LAST_IN) {
        steps = UINT64_MAX;
    } else if (fake->config.order == FAKE_ORDER_RANDOM) {
        steps = fake_random(fake) % fake->in_flight;
    }
    while (steps-- > 0 && (*link)->next != NULL) {
        link = &(*link)->next;
    }
    request = *link;
    *link = request->next;
    request->next = NULL;
    fake->in_flight--;
    return request;
}

unsigned fake_queue_complete(struct fake_device *fake, struct fake_queue *queue, unsigned count)
{
    unsigned done = 0;
    uint64_t argument;

    while (done < count && queue->first != NULL) {
        struct fake_request *request;

        if (fake_negotiated(fake, SK_VIRTIO_F_IN_ORDER) && fake_queue_is_stalled(fake, queue)) {
            break;
        }
        request = choose(fake, queue);

        if (fake_fires(fake, FAKE_FAULT_STALL, &argument)) {
            request->next = fake->stalled;
            fake->stalled = request;
            continue;
        }
        fake_block_execute(fake, request);
        fake_queue_finish(fake, request);
        done++;
    }
    if (done > 0) {
        fake_queue_signal(fake, queue);
    }
    return done;
}

void fake_queue_signal(struct fake_device *fake, struct fake_queue *queue)
{
    uint16_t old = queue->used_signalled;
    uint64_t argument;
    bool wanted;

    put_open(fake, queue);
    /* The index must be visible before the driver's wish is read; 2.7.10. */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (queue->packed != NULL) {
        wanted = fake_packed_interrupt_wanted(fake, queue);
    } else if (fake_negotiated(fake, SK_VIRTIO_F_EVENT_IDX)) {
        uint16_t event = load16(queue->avail + 4 + 2 * (size_t)queue->size);

        wanted = event_wanted(event, queue->used_index, old);
    } else {
        wanted = (load16(queue->avail) & NO_INTERRUPT) == 0;
    }
    queue->used_signalled = queue->used_index;
    if (!wanted || fake_fires(fake, FAKE_FAULT_NO_INTERRUPT, &argument)) {
        return;
    }
    if (fake->config.queue_interrupt != NULL) {
        fake->interrupts++;
        fake->config.queue_interrupt(fake->config.interrupt_context,
                                     (uint32_t)(queue - fake->queues));
    } else {
        fake_raise(fake, SK_VIRTIO_INTERRUPT_QUEUE);
    }
}
