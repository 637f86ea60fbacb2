/* SPDX-License-Identifier: MIT */
#include "fake/fast_device.h"

#include <string.h>

#define DESCRIPTOR_NEXT     1u
#define DESCRIPTOR_INDIRECT 4u
#define NO_INTERRUPT        1u
#define NO_NOTIFY           1u

/* Packed: in a descriptor's flags, and in those of the event suppression areas. */
#define PACKED_AVAILABLE 0x0080u
#define PACKED_USED      0x8000u
#define PACKED_MARKS     (PACKED_AVAILABLE | PACKED_USED)
#define PACKED_WRITE     2u
#define EVENT_DISABLE    1u
#define EVENT_AT         2u

/* Compiled for each kind of ring, with the kind as a constant. */
#define INLINE static inline __attribute__((always_inline))

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the fast device converts nothing"
#endif

struct fast_descriptor {
    uint64_t address;
    uint32_t bytes;
    uint16_t flags;
    uint16_t next;
};

struct fast_used {
    uint32_t id;
    uint32_t length;
};

struct fast_packed_descriptor {
    uint64_t address;
    uint32_t bytes;
    uint16_t id;
    uint16_t flags;
};

static void *at(const struct fast_device *fast, uint64_t daddr)
{
    return fast->config.memory + (daddr - fast->config.daddr);
}

static void tell(struct fast_device *fast, struct fast_queue *queue, uint16_t old)
{
    bool wanted;

    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (fast->event_index) {
        uint16_t event = __atomic_load_n(&queue->avail[2 + queue->size], __ATOMIC_RELAXED);
        uint16_t now = (uint16_t)queue->finished;

        wanted = (uint16_t)(now - event - 1) < (uint16_t)(now - old);
    } else {
        wanted = (__atomic_load_n(&queue->avail[0], __ATOMIC_RELAXED) & NO_INTERRUPT) == 0;
    }
    if (wanted) {
        fast->interrupt_status |= SK_VIRTIO_INTERRUPT_QUEUE;
        fast->config.interrupt(fast->config.interrupt_context);
    }
}

static void tell_packed(struct fast_device *fast, struct fast_queue *queue, uint32_t count)
{
    uint16_t flags;
    uint16_t event;
    uint32_t behind; /* how far the event's place lies behind us; 1 is the last descriptor */

    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    flags = __atomic_load_n(&queue->avail[1], __ATOMIC_RELAXED);
    if (flags == EVENT_AT) {
        event = __atomic_load_n(&queue->avail[0], __ATOMIC_RELAXED);
        behind = (uint32_t)(queue->next - queue->ring) - (event & 0x7fffu) +
                 (((event & 0x8000u) != 0) != (queue->available == PACKED_AVAILABLE) ? queue->size
                                                                                     : 0);
        if (behind - 1 >= count) {
            return;
        }
    } else if (flags == EVENT_DISABLE) {
        return;
    }
    fast->interrupt_status |= SK_VIRTIO_INTERRUPT_QUEUE;
    fast->config.interrupt(fast->config.interrupt_context);
}

/* Where the status of a table's chain is: what its last descriptor points at. */
INLINE uint64_t status_in_table(uintptr_t bias, uint64_t address, uint32_t bytes)
{
    return *(const uint64_t *)(bias + address + bytes - sizeof(struct fast_descriptor));
}

/* A split ring as its loop holds it in locals. */
struct fast_split_view {
    const struct fast_descriptor *table;
    uintptr_t bias;
    uint32_t mask;
};

/*
 * Where the status of the chain is that starts at `head`.  Links mostly lead to
 * the next descriptor: that is guessed and then checked, since whoever follows
 * links waits for each of them.
 */
INLINE uint64_t status_in_ring(const struct fast_split_view *view, uint32_t head)
{
    const struct fast_descriptor *last = &view->table[head];

    if ((last->flags & DESCRIPTOR_INDIRECT) != 0) {
        return status_in_table(view->bias, last->address, last->bytes);
    }
    while ((last->flags & DESCRIPTOR_NEXT) != 0) {
        uint32_t next = last->next;

        last++;
        head++;
        if (__builtin_expect(next != head, 0)) {
            head = next & view->mask;
            last = &view->table[head];
        }
    }
    return last->address;
}

/* Requests are finished in order: one index serves both rings. */
INLINE void drain_split(struct fast_device *fast, struct fast_queue *queue, bool in_order,
                        bool interrupts)
{
    const struct fast_split_view view = { queue->table, queue->bias, queue->mask };
    const uint16_t *avail = queue->avail;
    struct fast_used *used = queue->used;
    uint16_t end = __atomic_load_n(&avail[1], __ATOMIC_ACQUIRE);
    uint16_t old = (uint16_t)queue->finished;
    uint32_t head;

    if (old == end) {
        return;
    }
    queue->finished += (uint16_t)(end - old);
    for (uint16_t i = old; i != end; i++) {
        uint32_t place = i & view.mask;

        head = avail[2 + place] & view.mask;
        if (!in_order) {
            used[place] = (struct fast_used){ head, 1 };
        }
        *(uint8_t *)(view.bias + status_in_ring(&view, head)) = 0;
    }
    if (in_order) { /* one for all, where the first was */
        used[old & view.mask] = (struct fast_used){ head, 1 };
    }
    __atomic_store_n(&queue->used_head[1], end, __ATOMIC_RELEASE);
    if (fast->event_index) {
        __atomic_store_n(queue->avail_event, (uint16_t)(end + fast->event_lead),
                         __ATOMIC_RELAXED);
    }
    if (interrupts) {
        tell(fast, queue, old);
    }
}

static void drain_split_quietly(struct fast_device *fast, struct fast_queue *queue)
{
    drain_split(fast, queue, false, false);
}

static void drain_split_in_order(struct fast_device *fast, struct fast_queue *queue)
{
    drain_split(fast, queue, true, false);
}

static void drain_split_telling(struct fast_device *fast, struct fast_queue *queue)
{
    if (queue->in_order) {
        drain_split(fast, queue, true, true);
    } else {
        drain_split(fast, queue, false, true);
    }
}

/* Where a packed ring's loop is. */
struct fast_packed_place {
    struct fast_packed_descriptor *next;
    uint32_t available; /* of PACKED_MARKS, what the next one has when it is available */
    uint32_t passed;    /* descriptors */
};

INLINE void step(const struct fast_queue *queue, struct fast_packed_place *place)
{
    place->passed++;
    if (__builtin_expect(++place->next == queue->ring_end, 0)) {
        place->next = queue->ring;
        place->available ^= PACKED_MARKS;
    }
}

INLINE void write_used(struct fast_packed_descriptor *descriptor, uint32_t available, uint32_t id)
{
    uint64_t flags = (available == PACKED_AVAILABLE ? PACKED_MARKS : 0) | PACKED_WRITE;

    __atomic_store_n((uint64_t *)(void *)&descriptor->bytes,
                     1 | (uint64_t)id << 32 | flags << 48, __ATOMIC_RELEASE);
}

/* Finishes the chain that starts at the next descriptor; returns its id. */
INLINE uint32_t finish_packed(const struct fast_queue *queue, struct fast_packed_place *place,
                              uint32_t flags)
{
    const struct fast_packed_descriptor *last = place->next;
    uint64_t status;

    step(queue, place);
    while ((flags & DESCRIPTOR_NEXT) != 0) {
        last = place->next;
        flags = last->flags;
        step(queue, place);
    }
    status = last->address;
    if ((flags & DESCRIPTOR_INDIRECT) != 0) {
        status = status_in_table(queue->bias, status, last->bytes);
    }
    *(uint8_t *)(queue->bias + status) = 0;
    return last->id;
}

INLINE void drain_packed(struct fast_device *fast, struct fast_queue *queue, bool in_order,
                         bool interrupts)
{
    struct fast_packed_place place = { queue->next, queue->available, 0 };
    struct fast_packed_descriptor *first = place.next;
    uint32_t flags = __atomic_load_n(&first->flags, __ATOMIC_ACQUIRE);
    uint32_t id;

    if ((flags & PACKED_MARKS) != place.available) {
        return;
    }
    do {
        uint32_t available = place.available;

        id = finish_packed(queue, &place, flags);
        if (!in_order) {
            write_used(first, available, id);
        }
        queue->finished++;
        first = place.next;
        flags = __atomic_load_n(&first->flags, __ATOMIC_ACQUIRE);
    } while ((flags & PACKED_MARKS) == place.available);
    if (in_order) { /* one for all, where the first was */
        write_used(queue->next, queue->available, id);
    }
    queue->next = first;
    queue->available = place.available;
    if (fast->event_index && !fast->config.polls) {
        uint32_t wrap = place.available == PACKED_AVAILABLE ? 0x8000 : 0;

        __atomic_store_n(&queue->used_head[0], (uint16_t)((uint32_t)(first - queue->ring) | wrap),
                         __ATOMIC_RELAXED);
    }
    if (interrupts) {
        tell_packed(fast, queue, place.passed);
    }
}

static void drain_packed_quietly(struct fast_device *fast, struct fast_queue *queue)
{
    drain_packed(fast, queue, false, false);
}

static void drain_packed_in_order(struct fast_device *fast, struct fast_queue *queue)
{
    drain_packed(fast, queue, true, false);
}

static void drain_packed_telling(struct fast_device *fast, struct fast_queue *queue)
{
    if (queue->in_order) {
        drain_packed(fast, queue, true, true);
    } else {
        drain_packed(fast, queue, false, true);
    }
}

static fast_drain choose_drain(const struct fast_device *fast, const struct fast_queue *queue)
{
    if (fast->config.interrupt != NULL) {
        return queue->packed ? drain_packed_telling : drain_split_telling;
    }
    if (queue->in_order) {
        return queue->packed ? drain_packed_in_order : drain_split_in_order;
    }
    return queue->packed ? drain_packed_quietly : drain_split_quietly;
}

uint32_t fast_device_run(struct fast_device *fast)
{
    uint64_t done = 0;

    for (uint32_t i = 0; i < fast->config.queue_count; i++) {
        if (fast->queues[i].drain != NULL) {
            done -= fast->queues[i].finished;
            fast->queues[i].drain(fast, &fast->queues[i]);
            done += fast->queues[i].finished;
        }
    }
    return (uint32_t)done;
}

static void do_nothing(struct fast_device *fast, struct fast_queue *queue)
{
    (void)fast;
    (void)queue;
}

static void start_queue(struct fast_device *fast, struct fast_queue *queue)
{
    queue->table = at(fast, queue->address[0]);
    queue->avail = at(fast, queue->address[1]);
    queue->used_head = at(fast, queue->address[2]);
    queue->used = (struct fast_used *)(void *)(queue->used_head + 2);
    queue->bias = (uintptr_t)fast->config.memory - fast->config.daddr;
    queue->mask = queue->size - 1;
    queue->in_order = (fast->accepted & SK_VIRTIO_FEATURE(SK_VIRTIO_F_IN_ORDER)) != 0;
    queue->packed = (fast->accepted & SK_VIRTIO_FEATURE(SK_VIRTIO_F_RING_PACKED)) != 0;
    queue->drain = choose_drain(fast, queue);
    queue->doorbell = fast->config.polls ? do_nothing : queue->drain;
    if (queue->packed) {
        queue->ring = at(fast, queue->address[0]);
        queue->ring_end = queue->ring + queue->size;
        queue->next = queue->ring;
        queue->available = PACKED_AVAILABLE;
        queue->used_head[0] = 0x8000;
        queue->used_head[1] =
            fast->config.polls ? EVENT_DISABLE : fast->event_index ? EVENT_AT : 0;
    } else if (fast->event_index) {
        queue->avail_event = (uint16_t *)(void *)&queue->used[queue->size];
        *queue->avail_event = fast->event_lead;
    } else if (fast->config.polls) {
        queue->used_head[0] = NO_NOTIFY;
    }
}

static uint32_t read_register(const struct fast_device *fast, uint64_t offset)
{
    const struct fast_queue *queue = &fast->queues[fast->selected % FAST_QUEUES_MAX];

    switch (offset) {
    case 0x000:
        return 0x74726976u;
    case 0x004:
    case 0x008:
        return 2;
    case 0x010:
        return (uint32_t)(fast->offered >> 32 * (fast->feature_half & 1));
    case 0x034:
        return fast->selected < fast->config.queue_count ? fast->config.queue_size_max : 0;
    case 0x044:
        return queue->drain != NULL;
    case 0x060:
        return fast->interrupt_status;
    case 0x070:
        return fast->status;
    default:
        return 0;
    }
}

static uint32_t read(void *context, uint64_t offset, unsigned width)
{
    const struct fast_device *fast = context;
    uint32_t value = 0;

    if (offset < 0x100) {
        return read_register(fast, offset);
    }
    if (offset - 0x100 + width <= sizeof(fast->config_space)) {
        memcpy(&value, fast->config_space + (offset - 0x100), width);
    }
    return value;
}

static void reset_queues(struct fast_device *fast)
{
    for (uint32_t i = 0; i < FAST_QUEUES_MAX; i++) {
        struct fast_queue *queue = &fast->queues[i];

        *queue = (struct fast_queue){ .doorbell = do_nothing,
                                      .finished_before = queue->finished_before + queue->finished,
                                      .notifications = queue->notifications };
    }
}

static void write_status(struct fast_device *fast, uint32_t value)
{
    fast->status = value;
    if (value == 0) {
        reset_queues(fast);
        fast->accepted = 0;
        fast->interrupt_status = 0;
    }
    fast->event_index = (fast->accepted & SK_VIRTIO_FEATURE(SK_VIRTIO_F_EVENT_IDX)) != 0;
}

static void write_address(struct fast_queue *queue, uint64_t offset, uint32_t value)
{
    uint64_t *address = &queue->address[(offset - 0x080) / 0x10 % 3];

    if (offset % 8 == 0) {
        *address = (*address >> 32 << 32) | value;
    } else {
        *address = (uint32_t)*address | (uint64_t)value << 32;
    }
}

static void write_register(struct fast_device *fast, uint64_t offset, uint32_t value)
{
    struct fast_queue *queue = &fast->queues[fast->selected % FAST_QUEUES_MAX];

    switch (offset) {
    case 0x014:
        fast->feature_half = value;
        break;
    case 0x020:
        fast->accepted |= (uint64_t)value << 32 * (fast->accepted_half & 1);
        break;
    case 0x024:
        fast->accepted_half = value;
        break;
    case 0x030:
        fast->selected = value;
        break;
    case 0x038:
        queue->size = value;
        break;
    case 0x044:
        start_queue(fast, queue);
        break;
    case 0x064:
        fast->interrupt_status &= ~value;
        break;
    case 0x070:
        write_status(fast, value);
        break;
    default:
        if (offset >= 0x080 && offset < 0x0b0) {
            write_address(queue, offset, value);
        }
    }
}

static void write(void *context, uint64_t offset, unsigned width, uint32_t value)
{
    struct fast_device *fast = context;

    (void)width;
    if (__builtin_expect(offset == 0x050, 1)) {
        fast_device_notify(fast, value);
    } else if (offset < 0x100) {
        write_register(fast, offset, value);
    }
}

static const struct sk_mmio_ops register_ops = { .read = read, .write = write };

void fast_device_init(struct fast_device *fast, const struct fast_device_config *config)
{
    uint64_t blk_size = 512;

    memset(fast, 0, sizeof(*fast));
    reset_queues(fast);
    fast->config = *config;
    if (fast->config.queue_count == 0) {
        fast->config.queue_count = 1;
    }
    if (fast->config.queue_size_max == 0) {
        fast->config.queue_size_max = 256;
    }
    /* A device that polls keeps the index it asks for half a round ahead. */
    fast->event_lead = config->polls ? 0x8000 : 0;
    fast->offered = config->features | SK_VIRTIO_FEATURE(SK_VIRTIO_F_VERSION_1);
    fast->mmio = (struct sk_mmio){ fast, 0x100 + sizeof(fast->config_space), &register_ops, fast };
    memcpy(fast->config_space, &config->capacity_sectors, 8);
    memcpy(fast->config_space + 12, &config->seg_max, 4);
    memcpy(fast->config_space + 20, &blk_size, 4);
    memcpy(fast->config_space + 34, &fast->config.queue_count, 2);
}

uint64_t fast_device_completions(const struct fast_device *fast)
{
    uint64_t sum = 0;

    for (uint32_t i = 0; i < FAST_QUEUES_MAX; i++) {
        sum += fast->queues[i].finished_before + fast->queues[i].finished;
    }
    return sum;
}

uint64_t fast_device_notifications(const struct fast_device *fast)
{
    uint64_t sum = 0;

    for (uint32_t i = 0; i < FAST_QUEUES_MAX; i++) {
        sum += fast->queues[i].notifications;
    }
    return sum;
}
