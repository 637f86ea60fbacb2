/* SPDX-License-Identifier: MIT */
/* Packed virtqueues as the fake device uses them; 2.8. */
#include <stdlib.h>
#include <string.h>

#include <skio/endian.h>

#include "fake/virtio_internal.h"

#define AVAILABLE 0x0080u
#define USED      0x8000u
#define MARKS     (AVAILABLE | USED)

#define EVENT_ENABLE  0u
#define EVENT_DISABLE 1u
#define EVENT_AT      2u

#define IDS 65536u

/* A place in the ring, and the wrap counter there. */
struct place {
    uint32_t index;
    bool wrap;
};

struct fake_packed {
    uint8_t *seen;       /* the ring as the device last read or wrote it */
    bool *id_taken;      /* buffer ids at the device */
    struct place avail;  /* next descriptor to read */
    struct place used;   /* next descriptor to write */
    uint64_t taken;      /* descriptors, since the queue was started */
    uint64_t given_back;
    uint64_t signalled;  /* given_back at the last decision about an interrupt */
    bool scribbled;
    bool confused;       /* the device lied about places: no more verdicts on the ring */
};

struct descriptor {
    uint64_t address;
    uint32_t bytes;
    uint16_t id;
    uint16_t flags;
};

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

static void move(const struct fake_queue *queue, struct place *place, uint64_t steps)
{
    uint64_t index = place->index + steps;

    place->wrap = place->wrap != (index / queue->size % 2 != 0);
    place->index = (uint32_t)(index % queue->size);
}

static uint16_t told(const struct place *place)
{
    return (uint16_t)(place->index | (place->wrap ? 0x8000u : 0));
}

/* The marks of a descriptor that is available, and of one that is used, in this round. */
static uint16_t available_marks(bool wrap)
{
    return wrap ? AVAILABLE : USED;
}

static uint16_t used_marks(bool wrap)
{
    return wrap ? MARKS : 0;
}

/* Descriptors that the driver must leave alone. */
static uint64_t at_device(const struct fake_packed *packed)
{
    return packed->taken > packed->given_back ? packed->taken - packed->given_back : 0;
}

static bool blameless(const struct fake_device *fake, const struct fake_queue *queue)
{
    return fake->scribbled || queue->packed->confused;
}

/* --- Start and stop ------------------------------------------------------ */

/* What the driver is told about when to notify: at the next descriptor, if that can be said. */
static void ask_for_notifications(struct fake_device *fake, struct fake_queue *queue)
{
    bool event_index = fake_negotiated(fake, SK_VIRTIO_F_EVENT_IDX);
    uint16_t flags = fake->config.polls ? EVENT_DISABLE : event_index ? EVENT_AT : EVENT_ENABLE;

    store16(queue->used, event_index ? told(&queue->packed->avail) : 0);
    store16(queue->used + 2, flags);
}

bool fake_packed_start(struct fake_device *fake, struct fake_queue *queue)
{
    size_t bytes = 16 * (size_t)queue->size;
    struct fake_packed *packed = fake_allocate(sizeof(*packed));

    packed->seen = fake_allocate(bytes);
    packed->id_taken = fake_allocate(IDS * sizeof(bool));
    packed->avail.wrap = true;
    packed->used.wrap = true;
    if (memcmp(queue->table, packed->seen, bytes) != 0) {
        fake_violation(fake, "queue enabled with a descriptor ring that is not zero");
        memcpy(packed->seen, queue->table, bytes);
    }
    queue->packed = packed;
    ask_for_notifications(fake, queue);
    return true;
}

void fake_packed_stop(struct fake_queue *queue)
{
    if (queue->packed != NULL) {
        free(queue->packed->seen);
        free(queue->packed->id_taken);
        free(queue->packed);
        queue->packed = NULL;
    }
}

/* --- From the driver ----------------------------------------------------- */

static struct descriptor load(const uint8_t *at)
{
    return (struct descriptor){ sk_endian_load_le64(at), sk_endian_load_le32(at + 8),
                                sk_endian_load_le16(at + 12), load16(at + 14) };
}

static bool is_available(const struct fake_queue *queue, const struct place *place)
{
    return (load16(queue->table + 16 * (size_t)place->index + 14) & MARKS) ==
           available_marks(place->wrap);
}

static void read_table(struct fake_device *fake, struct fake_request *request,
                       const struct descriptor *descriptor)
{
    uint8_t *table =
        fake->config.reach(fake->config.reach_context, descriptor->address, descriptor->bytes);

    if (table == NULL) {
        fake_chain_refuse(fake, request, "indirect table is unreachable", descriptor->bytes);
        return;
    }
    fake_request_add_span(request, table, descriptor->bytes);
    for (uint32_t i = 0; i < descriptor->bytes / 16 && !request->refused; i++) {
        struct descriptor entry = load(table + 16 * (size_t)i);

        if ((entry.flags & ~FAKE_DESCRIPTOR_WRITE) != 0) {
            fake_chain_refuse(fake, request, "indirect descriptor's flags", entry.flags);
        } else {
            fake_chain_take_buffer(fake, request, entry.address, entry.bytes,
                                   entry.flags == FAKE_DESCRIPTOR_WRITE);
        }
    }
}

static void enter_indirect(struct fake_device *fake, struct fake_request *request,
                           const struct descriptor *descriptor)
{
    if (!fake_negotiated(fake, SK_VIRTIO_F_INDIRECT_DESC)) {
        fake_chain_refuse(fake, request, "indirect without the feature", descriptor->flags);
    } else if ((descriptor->flags & FAKE_DESCRIPTOR_NEXT) != 0 || request->descriptors > 1) {
        fake_chain_refuse(fake, request, "indirect with next", descriptor->flags);
    } else if (descriptor->bytes == 0 || descriptor->bytes % 16 != 0) {
        fake_chain_refuse(fake, request, "indirect table's length", descriptor->bytes);
    } else if (descriptor->bytes / 16 > request->queue->size &&
               descriptor->bytes / 16 > 3) { /* 2.8.19: we say; the shortest request has to fit */
        fake_chain_refuse(fake, request, "indirect table longer than the queue",
                          descriptor->bytes / 16);
    } else {
        read_table(fake, request, descriptor);
    }
}

static void take_descriptor(struct fake_device *fake, struct fake_request *request,
                            const struct descriptor *descriptor)
{
    uint32_t known = FAKE_DESCRIPTOR_NEXT | FAKE_DESCRIPTOR_WRITE | FAKE_DESCRIPTOR_INDIRECT;

    if (request->refused) {
        return;
    }
    if ((descriptor->flags & ~(known | MARKS)) != 0) {
        fake_chain_refuse(fake, request, "unknown descriptor flags", descriptor->flags);
    } else if ((descriptor->flags & FAKE_DESCRIPTOR_INDIRECT) != 0) {
        enter_indirect(fake, request, descriptor);
    } else {
        fake_chain_take_buffer(fake, request, descriptor->address, descriptor->bytes,
                               (descriptor->flags & FAKE_DESCRIPTOR_WRITE) != 0);
    }
}

/* Whether the chain's next descriptor is the driver's to give. */
static bool may_take(struct fake_device *fake, struct fake_queue *queue, const struct place *place,
                     uint32_t before)
{
    const struct fake_packed *packed = queue->packed;
    const char *fault;

    if (before == queue->size) {
        fault = "makes the chain longer than the queue";
    } else if (!is_available(queue, place)) {
        fault = "is not available, but its chain's first is";
    } else if (at_device(packed) + before >= queue->size) {
        fault = "is made available while the device owns it";
    } else {
        return true;
    }
    if (!blameless(fake, queue)) {
        fake_violation(fake, "descriptor %u %s", place->index, fault);
    }
    return false;
}

/* All of a chain, or nothing. */
static struct fake_request *read_chain(struct fake_device *fake, struct fake_queue *queue)
{
    struct fake_request *request = fake_allocate(sizeof(*request));
    struct place place = queue->packed->avail;
    struct descriptor descriptor;

    request->queue = queue;
    request->head = (uint16_t)place.index;
    do {
        if (!may_take(fake, queue, &place, request->descriptors)) {
            fake_request_free(request);
            return NULL;
        }
        descriptor = load(queue->table + 16 * (size_t)place.index);
        request->descriptors++;
        take_descriptor(fake, request, &descriptor);
        move(queue, &place, 1);
    } while ((descriptor.flags & FAKE_DESCRIPTOR_NEXT) != 0);
    request->head = descriptor.id;
    return request;
}

static void own(struct fake_queue *queue, uint32_t descriptors)
{
    struct fake_packed *packed = queue->packed;

    for (uint32_t i = 0; i < descriptors; i++) {
        size_t at = 16 * (size_t)packed->avail.index;

        memcpy(packed->seen + at, queue->table + at, 16);
        move(queue, &packed->avail, 1);
    }
    packed->taken += descriptors;
}

/* A descriptor that was changed to be available, but in a round that is not this one. */
static void check_round(struct fake_device *fake, const struct fake_queue *queue)
{
    const struct fake_packed *packed = queue->packed;
    size_t at = 16 * (size_t)packed->avail.index + 14;
    uint16_t flags = load16(queue->table + at);

    if (flags != load16(packed->seen + at) && !is_available(queue, &packed->avail) &&
        (flags & MARKS) != 0 && (flags & MARKS) != MARKS && !blameless(fake, queue)) {
        fake_violation(fake, "descriptor %u: flags 0x%x are those of another round",
                       packed->avail.index, flags);
    }
}

void fake_packed_take(struct fake_device *fake, struct fake_queue *queue)
{
    struct fake_packed *packed = queue->packed;

    while (is_available(queue, &packed->avail)) {
        struct fake_request *request = read_chain(fake, queue);

        if (request == NULL) {
            return;
        }
        own(queue, request->descriptors);
        if (packed->id_taken[request->head]) {
            fake_chain_refuse(fake, request, "its buffer id is at the device", request->head);
        }
        packed->id_taken[request->head] = true;
        fake_queue_accept(fake, request);
    }
    check_round(fake, queue);
    ask_for_notifications(fake, queue);
}

bool fake_packed_pending(const struct fake_queue *queue)
{
    return is_available(queue, &queue->packed->avail);
}

uint16_t fake_packed_position(const struct fake_queue *queue)
{
    return told(&queue->packed->avail);
}

/* --- To the driver ------------------------------------------------------- */

void fake_packed_forget(struct fake_request *request)
{
    request->queue->packed->id_taken[request->head] = false;
}

void fake_packed_scribble(struct fake_device *fake, struct fake_queue *queue, bool for_good)
{
    struct fake_packed *packed = queue->packed;
    struct place place = packed->used;

    for (uint64_t i = at_device(packed); i > 0; i--) {
        uint8_t *at = queue->table + 16 * (size_t)place.index;
        uint16_t marks = load16(at + 14) & MARKS;

        for (unsigned j = 0; j < 14; j++) {
            at[j] = (uint8_t)fake_random(fake);
        }
        store16(at + 14, (uint16_t)((fake_random(fake) & ~(uint64_t)MARKS) | marks));
        if (for_good) {
            memcpy(packed->seen + 16 * (size_t)place.index, at, 16);
        }
        move(queue, &place, 1);
    }
    packed->scribbled = packed->scribbled || !for_good;
}

static void unscribble(struct fake_queue *queue)
{
    struct fake_packed *packed = queue->packed;
    struct place place = packed->used;

    for (uint64_t i = packed->scribbled ? at_device(packed) : 0; i > 0; i--) {
        size_t at = 16 * (size_t)place.index;

        memcpy(queue->table + at, packed->seen + at, 16);
        move(queue, &place, 1);
    }
    packed->scribbled = false;
}

/* The descriptors that the driver gets back must be as it gave them. */
static void check_unchanged(struct fake_device *fake, struct fake_queue *queue, uint32_t count)
{
    const struct fake_packed *packed = queue->packed;
    struct place place = packed->used;

    for (uint32_t i = 0; i < count && !blameless(fake, queue); i++) {
        size_t at = 16 * (size_t)place.index;

        if (memcmp(queue->table + at, packed->seen + at, 16) != 0) {
            fake_violation(fake, "descriptor %u changed while the device owned it", place.index);
            return;
        }
        move(queue, &place, 1);
    }
}

/* Writes one used descriptor, flags last, and moves behind `descriptors` of them. */
static void put(struct fake_queue *queue, const struct fake_used *used, uint16_t flaw)
{
    struct fake_packed *packed = queue->packed;
    size_t at = 16 * (size_t)packed->used.index;
    uint16_t flags = used_marks(packed->used.wrap);

    if (used->written) {
        flags = (uint16_t)(flags | FAKE_DESCRIPTOR_WRITE);
    }
    store32(queue->table + at + 8, used->length);
    store16(queue->table + at + 12, (uint16_t)used->id);
    store16(queue->table + at + 14, flags ^ flaw);
    memcpy(packed->seen + at, queue->table + at, 16);
    packed->given_back += used->descriptors;
    move(queue, &packed->used, used->descriptors);
}

/* Marks descriptors used without writing anything else into them. */
static void jump(struct fake_queue *queue, uint64_t descriptors)
{
    struct fake_packed *packed = queue->packed;

    for (; descriptors > 0; descriptors--) {
        store16(queue->table + 16 * (size_t)packed->used.index + 14,
                used_marks(packed->used.wrap));
        packed->given_back++;
        move(queue, &packed->used, 1);
    }
}

void fake_packed_put(struct fake_device *fake, struct fake_queue *queue,
                     const struct fake_used *used)
{
    struct fake_packed *packed = queue->packed;
    uint64_t flaw = 0;
    uint64_t argument;

    unscribble(queue);
    check_unchanged(fake, queue, used->descriptors);
    if (fake_fires(fake, FAKE_FAULT_USED_PLACE, &argument)) {
        packed->confused = true;
        packed->given_back += argument;
        move(queue, &packed->used, argument);
    }
    if (fake_fires(fake, FAKE_FAULT_USED_FLAGS, &flaw)) {
        packed->confused = true;
    }
    put(queue, used, (uint16_t)flaw);
    if (fake_fires(fake, FAKE_FAULT_USED_REPLAY, &argument)) {
        packed->confused = true;
        while (argument-- > 0) {
            put(queue, used, 0);
        }
    }
    if (fake_fires(fake, FAKE_FAULT_USED_INDEX, &argument)) {
        packed->confused = true;
        jump(queue, argument);
    }
}

void fake_packed_forge(struct fake_queue *queue, uint32_t id, uint32_t length)
{
    const struct fake_used used = { id, length, 1, 1, true };

    queue->packed->confused = true;
    put(queue, &used, 0);
}

void fake_packed_forge_place(struct fake_queue *queue, uint16_t place)
{
    queue->packed->confused = true;
    queue->packed->used = (struct place){ (place & 0x7fffu) % queue->size, (place & 0x8000u) != 0 };
}

/* Whether the place that the driver named was passed since the last decision. */
static bool passed(struct fake_device *fake, const struct fake_queue *queue, uint16_t event)
{
    const struct fake_packed *packed = queue->packed;
    int64_t now = (int64_t)packed->given_back;
    int64_t place = now - packed->used.index + (event & 0x7fff);

    if ((event & 0x7fffu) >= queue->size) {
        fake_violation(fake, "driver event at %u of %u", event & 0x7fffu, queue->size);
    }
    if (((event & 0x8000u) != 0) != packed->used.wrap) {
        place -= queue->size;
    }
    return place >= (int64_t)packed->signalled && place < now;
}

bool fake_packed_interrupt_wanted(struct fake_device *fake, struct fake_queue *queue)
{
    uint16_t flags = load16(queue->avail + 2);
    uint16_t event = load16(queue->avail);
    bool wanted = flags == EVENT_ENABLE;

    if (flags == EVENT_AT && fake_negotiated(fake, SK_VIRTIO_F_EVENT_IDX)) {
        wanted = passed(fake, queue, event);
    } else if (flags > EVENT_DISABLE) {
        fake_violation(fake, "driver event flags 0x%x", flags);
    }
    queue->packed->signalled = queue->packed->given_back;
    return wanted;
}
