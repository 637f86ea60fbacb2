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

static bool aligned(const struct fake_queue *queue)
{
    return queue->address[0] % 16 == 0 && queue->address[1] % 2 == 0 && queue->address[2] % 4 == 0;
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
    uint64_t size = queue->size;

    if (size == 0 || !aligned(queue)) {
        fake_violation(fake, "queue enabled with size %u at 0x%llx 0x%llx 0x%llx", queue->size,
                       (unsigned long long)queue->address[0],
                       (unsigned long long)queue->address[1],
                       (unsigned long long)queue->address[2]);
        return false;
    }
    queue->table = reach(fake, queue->address[0], 16 * size);
    queue->avail = reach(fake, queue->address[1], 6 + 2 * size);
    queue->used = reach(fake, queue->address[2], 6 + 8 * size);
    if (queue->table == NULL || queue->avail == NULL || queue->used == NULL) {
        fake_violation(fake, "queue enabled with a ring that is unreachable");
        return false;
    }
    if (!all_zero(queue->used, 6 + 8 * size) || load16(queue->avail + 2) != 0) {
        fake_violation(fake, "queue enabled with rings that are not zero");
    }
    queue->owned = fake_allocate(queue->size * sizeof(bool));
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

void fake_queue_stop(struct fake_device *fake, struct fake_queue *queue)
{
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

static void take_one(struct fake_device *fake, struct fake_queue *queue, uint16_t head)
{
    struct fake_request *request;

    if (head >= queue->size) {
        fake_violation(fake, "available ring: head %u of %u", head, queue->size);
        return;
    }
    request = fake_chain_read(fake, queue, head);
    fake_block_take(fake, request);
    fake->requests++;
    fake->in_flight++;
    append(queue, request);
}

void fake_queue_take(struct fake_device *fake, struct fake_queue *queue)
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
    for (size_t i = 0; i < queue->size; i++) {
        store16(queue->avail + 4 + 2 * i, (uint16_t)fake_random(fake));
    }
}

void fake_queue_notified(struct fake_device *fake, struct fake_queue *queue)
{
    fake_queue_take(fake, queue);
    scribble(fake, queue);
    if (!fake->config.deferred) {
        (void)fake_queue_complete(fake, queue, UINT_MAX);
    }
}

void fake_queue_check_unnotified(struct fake_device *fake, struct fake_queue *queue)
{
    uint16_t index = load16(queue->avail + 2);

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

static void put_faulty(struct fake_device *fake, struct fake_request *request)
{
    struct fake_queue *queue = request->queue;
    uint32_t id = request->head;
    uint32_t length = (uint32_t)request->written;
    uint64_t argument;

    if (fake_fires(fake, FAKE_FAULT_USED_ID, &argument)) {
        id = (uint32_t)argument;
    }
    if (fake_fires(fake, FAKE_FAULT_USED_ID_OFFSET, &argument)) {
        id += (uint32_t)argument;
    }
    if (fake_fires(fake, FAKE_FAULT_USED_LENGTH, &argument)) {
        length = (uint32_t)argument;
    }
    if (fake_fires(fake, FAKE_FAULT_USED_LENGTH_OFFSET, &argument)) {
        length += (uint32_t)argument;
    }
    fake_queue_put_used(queue, id, length);
    if (fake_fires(fake, FAKE_FAULT_USED_REPLAY, &argument)) {
        while (argument-- > 0) {
            fake_queue_put_used(queue, id, length);
        }
    }
    if (fake_fires(fake, FAKE_FAULT_USED_INDEX, &argument)) {
        queue->used_index = (uint16_t)(queue->used_index + argument);
    }
}

/* Gives a request back that is no longer in any list. */
void fake_queue_finish(struct fake_device *fake, struct fake_request *request)
{
    struct fake_queue *queue = request->queue;

    fake_chain_unscribble(request);
    fake_chain_check_unchanged(fake, request);
    forget_spans(queue, request);
    put_faulty(fake, request);
    fake_queue_store_used_index(queue, queue->used_index);
    fake->completions++;
    fake_request_free(request);
}

static struct fake_request *choose(struct fake_device *fake, struct fake_queue *queue)
{
    struct fake_request **link = &queue->first;
    struct fake_request *request;
    uint64_t steps = 0;

    if (fake->config.order == FAKE_ORDER_LAST_IN) {
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
        struct fake_request *request = choose(fake, queue);

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

    /* The index must be visible before the driver's wish is read; 2.7.10. */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (fake_negotiated(fake, SK_VIRTIO_F_EVENT_IDX)) {
        uint16_t event = load16(queue->avail + 4 + 2 * (size_t)queue->size);

        wanted = event_wanted(event, queue->used_index, old);
    } else {
        wanted = (load16(queue->avail) & NO_INTERRUPT) == 0;
    }
    queue->used_signalled = queue->used_index;
    if (wanted && !fake_fires(fake, FAKE_FAULT_NO_INTERRUPT, &argument)) {
        fake_raise(fake, SK_VIRTIO_INTERRUPT_QUEUE);
    }
}
