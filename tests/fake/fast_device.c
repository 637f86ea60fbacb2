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

/* What the loop needs, in locals: stores of bytes would make the compiler load it all again. */
struct fast_view {
    uintptr_t bias; /* what to add to a device address */
    const struct fast_descriptor *table;
    uint16_t mask;
};

/* The status is what the last descriptor points at. */
static inline uint8_t *status_of(struct fast_view view, uint16_t head)
{
    const struct fast_descriptor *last = &view.table[head];

    if ((last->flags & DESCRIPTOR_INDIRECT) != 0) {
        last = (const struct fast_descriptor *)(view.bias + last->address + last->bytes - 16);
    } else {
        while ((last->flags & DESCRIPTOR_NEXT) != 0) {
            last = &view.table[last->next & view.mask];
        }
    }
    return (uint8_t *)(view.bias + last->address);
}

static void tell(struct fast_device *fast, struct fast_queue *queue, uint16_t old)
{
    bool wanted;

    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (fast->event_index) {
        uint16_t event = __atomic_load_n(&queue->avail[2 + queue->size], __ATOMIC_RELAXED);

        wanted = (uint16_t)(queue->used_index - event - 1) < (uint16_t)(queue->used_index - old);
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
        behind = queue->next - (event & 0x7fffu) +
                 (((event & 0x8000u) != 0) != queue->wrap ? queue->size : 0);
        if (behind - 1 >= count) {
            return;
        }
    } else if (flags == EVENT_DISABLE) {
        return;
    }
    fast->interrupt_status |= SK_VIRTIO_INTERRUPT_QUEUE;
    fast->config.interrupt(fast->config.interrupt_context);
}

/* The packed ring as the loop holds it in locals. */
struct fast_packed_view {
    uintptr_t bias;
    struct fast_packed_descriptor *ring;
    uint32_t size;
    uint32_t next;
    bool wrap;
};

static inline void step(struct fast_packed_view *view)
{
    if (++view->next == view->size) {
        view->next = 0;
        view->wrap = !view->wrap;
    }
}

/* Finishes the chain that starts at the next descriptor; returns how many it had. */
static inline uint32_t finish_packed(struct fast_packed_view *view, uint16_t flags)
{
    struct fast_packed_descriptor *first = &view->ring[view->next];
    const struct fast_packed_descriptor *last = first;
    uint16_t used = view->wrap ? PACKED_MARKS | PACKED_WRITE : PACKED_WRITE;
    uint64_t status = first->address;
    uint32_t count = 1;

    while ((flags & DESCRIPTOR_NEXT) != 0) {
        step(view);
        count++;
        last = &view->ring[view->next];
        flags = last->flags;
        status = last->address;
    }
    if ((flags & DESCRIPTOR_INDIRECT) != 0) {
        status = *(const uint64_t *)(view->bias + last->address + last->bytes - 16);
    }
    step(view);
    *(uint8_t *)(view->bias + status) = 0;
    first->id = last->id;
    first->bytes = 1;
    __atomic_store_n(&first->flags, used, __ATOMIC_RELEASE);
    return count;
}

static uint32_t drain_packed(struct fast_device *fast, struct fast_queue *queue)
{
    struct fast_packed_view view = { (uintptr_t)fast->config.memory - fast->config.daddr,
                                     (struct fast_packed_descriptor *)(void *)queue->table,
                                     queue->size, queue->next, queue->wrap };
    uint32_t descriptors = 0;
    uint32_t done = 0;

    for (;;) {
        uint16_t flags = __atomic_load_n(&view.ring[view.next].flags, __ATOMIC_ACQUIRE);

        if ((flags & PACKED_MARKS) != (view.wrap ? PACKED_AVAILABLE : PACKED_USED)) {
            break;
        }
        descriptors += finish_packed(&view, flags);
        done++;
    }
    if (done == 0) {
        return 0;
    }
    queue->next = view.next;
    queue->wrap = view.wrap;
    if (fast->event_index && !fast->config.polls) {
        __atomic_store_n(&queue->used_head[0], (uint16_t)(view.next | (uint32_t)view.wrap << 15),
                         __ATOMIC_RELAXED);
    }
    queue->completions += done;
    if (fast->config.interrupt != NULL) {
        tell_packed(fast, queue, descriptors);
    }
    return done;
}

static uint32_t drain_split(struct fast_device *fast, struct fast_queue *queue)
{
    const struct fast_view view = { (uintptr_t)fast->config.memory - fast->config.daddr,
                                    queue->table, queue->mask };
    const uint16_t *avail = queue->avail + 2;
    struct fast_used *ring = queue->used;
    uint16_t old = queue->used_index;
    uint16_t count = (uint16_t)(__atomic_load_n(&queue->avail[1], __ATOMIC_ACQUIRE) - old);

    /* Everything is finished in order: one index serves both rings. */
    for (uint16_t i = old; i != (uint16_t)(old + count); i++) {
        uint16_t head = avail[i & view.mask] & view.mask;

        *status_of(view, head) = 0;
        ring[i & view.mask] = (struct fast_used){ head, 1 };
    }
    if (count == 0) {
        return 0;
    }
    queue->used_index = (uint16_t)(old + count);
    __atomic_store_n(&queue->used_head[1], queue->used_index, __ATOMIC_RELEASE);
    if (fast->event_index) {
        __atomic_store_n((uint16_t *)(void *)&ring[queue->size],
                         (uint16_t)(old + count + fast->event_lead), __ATOMIC_RELAXED);
    }
    queue->completions += count;
    if (fast->config.interrupt != NULL) {
        tell(fast, queue, old);
    }
    return count;
}

static uint32_t drain(struct fast_device *fast, struct fast_queue *queue)
{
    return queue->packed ? drain_packed(fast, queue) : drain_split(fast, queue);
}

uint32_t fast_device_run(struct fast_device *fast)
{
    uint32_t done = 0;

    for (uint32_t i = 0; i < fast->config.queue_count; i++) {
        if (fast->queues[i].ready) {
            done += drain(fast, &fast->queues[i]);
        }
    }
    return done;
}

static void start_queue(struct fast_device *fast, struct fast_queue *queue)
{
    queue->table = at(fast, queue->address[0]);
    queue->avail = at(fast, queue->address[1]);
    queue->used_head = at(fast, queue->address[2]);
    queue->used = (struct fast_used *)(void *)(queue->used_head + 2);
    queue->mask = (uint16_t)(queue->size - 1);
    queue->used_index = 0;
    queue->ready = true;
    queue->packed = (fast->accepted & SK_VIRTIO_FEATURE(SK_VIRTIO_F_RING_PACKED)) != 0;
    if (queue->packed) {
        queue->next = 0;
        queue->wrap = true;
        queue->used_head[0] = 0x8000;
        queue->used_head[1] =
            fast->config.polls ? EVENT_DISABLE : fast->event_index ? EVENT_AT : 0;
    } else if (fast->event_index) {
        *(uint16_t *)(void *)&queue->used[queue->size] = fast->event_lead;
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
        return queue->ready;
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

        *queue = (struct fast_queue){ .completions = queue->completions,
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

static void ring_doorbell(struct fast_device *fast, uint32_t index)
{
    struct fast_queue *queue = &fast->queues[index % FAST_QUEUES_MAX];

    queue->notifications++;
    if (!fast->config.polls && queue->ready) {
        (void)drain(fast, queue);
    }
}

static void write(void *context, uint64_t offset, unsigned width, uint32_t value)
{
    struct fast_device *fast = context;

    (void)width;
    if (offset == 0x050) {
        ring_doorbell(fast, value);
    } else if (offset < 0x100) {
        write_register(fast, offset, value);
    }
}

static const struct sk_mmio_ops register_ops = { .read = read, .write = write };

void fast_device_init(struct fast_device *fast, const struct fast_device_config *config)
{
    uint64_t blk_size = 512;

    memset(fast, 0, sizeof(*fast));
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
        sum += fast->queues[i].completions;
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
