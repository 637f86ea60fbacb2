/* SPDX-License-Identifier: MIT */
#include "fake/thread_ring.h"


#define NEXT          1u
#define WRITE         2u
#define INDIRECT      4u
#define AVAILABLE     0x0080u
#define USED          0x8000u
#define EVENT_DISABLE 1u
#define EVENT_AT      2u

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the device converts nothing"
#endif

struct descriptor {
    uint64_t address;
    uint32_t bytes;
    uint16_t flags; /* packed: id */
    uint16_t next;  /* packed: flags */
};

static bool has(const struct thread_device *device, unsigned bit)
{
    return (device->features >> bit & 1) != 0;
}

static void *reach(const struct thread_device *device, uint64_t address, uint64_t bytes)
{
    uint64_t offset = address - device->config.daddr;

    require(offset < device->config.bytes && bytes <= device->config.bytes - offset);
    return device->config.memory + offset;
}

static void add_piece(const struct thread_device *device, struct thread_request *request,
                      const struct descriptor *descriptor)
{
    require(request->piece_count < THREAD_PIECES_MAX);
    request->pieces[request->piece_count++] = (struct thread_piece){
        reach(device, descriptor->address, descriptor->bytes), descriptor->bytes
    };
}

static void add_table(const struct thread_device *device, struct thread_request *request,
                      const struct descriptor *descriptor)
{
    const struct descriptor *table = reach(device, descriptor->address, descriptor->bytes);

    for (uint32_t i = 0; i < descriptor->bytes / sizeof(*table); i++) {
        add_piece(device, request, &table[i]); /* our driver's links lead to the next one */
    }
}

static bool take_split(const struct thread_device *device, struct thread_queue *queue,
                       struct thread_request *out)
{
    const struct descriptor *table = queue->layout.cpu_descriptors;
    const uint16_t *avail = queue->layout.cpu_driver_area;
    uint32_t place;

    if (__atomic_load_n(&avail[1], __ATOMIC_ACQUIRE) == queue->next) {
        return false;
    }
    place = avail[2 + queue->next % queue->layout.size];
    *out = (struct thread_request){ .id = place, .places = 1, .chains = 1 };
    queue->next++;
    for (bool more = true; more; place = table[place].next) {
        require(place < queue->layout.size);
        more = (table[place].flags & NEXT) != 0;
        if ((table[place].flags & INDIRECT) != 0) {
            add_table(device, out, &table[place]);
        } else {
            add_piece(device, out, &table[place]);
        }
    }
    return true;
}

/*
 * The flags of a packed descriptor, with the order that `order` says; as part of its second
 * half, since ThreadSanitizer pairs a load with stores to the same address alone.
 */
static uint16_t flags_of(const struct descriptor *descriptor, int order)
{
    const uint64_t *rest = (const uint64_t *)(const void *)&descriptor->bytes;

    return (uint16_t)((order == __ATOMIC_ACQUIRE ? __atomic_load_n(rest, __ATOMIC_ACQUIRE)
                                                 : __atomic_load_n(rest, __ATOMIC_RELAXED)) >> 48);
}

static bool take_packed(const struct thread_device *device, struct thread_queue *queue,
                        struct thread_request *out)
{
    const struct descriptor *ring = queue->layout.cpu_descriptors;
    uint16_t flags = flags_of(&ring[queue->next], __ATOMIC_ACQUIRE);

    if ((flags & (AVAILABLE | USED)) != (queue->next_wrap ? AVAILABLE : USED)) {
        return false;
    }
    *out = (struct thread_request){ .chains = 1 };
    do {
        const struct descriptor *one = &ring[queue->next];

        flags = flags_of(one, __ATOMIC_RELAXED);
        out->id = one->flags;
        out->places++;
        if ((flags & INDIRECT) != 0) {
            add_table(device, out, one);
        } else {
            add_piece(device, out, one);
        }
        queue->next++;
        if (queue->next == queue->layout.size) {
            queue->next = 0;
            queue->next_wrap = !queue->next_wrap;
        }
    } while ((flags & NEXT) != 0);
    return true;
}

bool thread_ring_take(const struct thread_device *device, struct thread_queue *queue,
                      struct thread_request *out)
{
    return has(device, SK_VIRTIO_F_RING_PACKED) ? take_packed(device, queue, out)
                                                : take_split(device, queue, out);
}

static bool give_split(const struct thread_device *device, struct thread_queue *queue,
                       const struct thread_request *request)
{
    const uint16_t *avail = queue->layout.cpu_driver_area;
    uint16_t *used = queue->layout.cpu_device_area;
    uint32_t *element = (uint32_t *)(void *)(used + 2) + 2u * (queue->used % queue->layout.size);
    uint16_t before = queue->used;

    element[0] = request->id;
    element[1] = 1;
    queue->used = (uint16_t)(before + request->chains);
    __atomic_store_n(&used[1], queue->used, __ATOMIC_RELEASE);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (!has(device, SK_VIRTIO_F_EVENT_IDX)) {
        return (__atomic_load_n(&avail[0], __ATOMIC_RELAXED) & 1) == 0;
    }
    /* Who sleeps has taken all before, so the wish is for the next entry or was met before. */
    return __atomic_load_n(&avail[2 + queue->layout.size], __ATOMIC_RELAXED) == before;
}

static bool give_packed(const struct thread_device *device, struct thread_queue *queue,
                        const struct thread_request *request)
{
    struct descriptor *ring = queue->layout.cpu_descriptors;
    uint32_t wish;
    uint16_t place = queue->used;
    bool wrap = queue->used_wrap;

    ring[place].bytes = 1;
    ring[place].flags = (uint16_t)request->id;
    __atomic_store_n(&ring[place].next, (uint16_t)(WRITE | (wrap ? AVAILABLE | USED : 0)),
                     __ATOMIC_RELEASE);
    queue->used = (uint16_t)(place + request->places);
    if (queue->used >= queue->layout.size) {
        queue->used = (uint16_t)(queue->used - queue->layout.size);
        queue->used_wrap = !wrap;
    }
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    wish = __atomic_load_n((const uint32_t *)queue->layout.cpu_driver_area, __ATOMIC_RELAXED);
    if (wish >> 16 != EVENT_AT || !has(device, SK_VIRTIO_F_EVENT_IDX)) {
        return wish >> 16 != EVENT_DISABLE;
    }
    return (wish & 0x7fff) == place && (wish >> 15 & 1) == wrap;
}

bool thread_ring_give(const struct thread_device *device, struct thread_queue *queue,
                      const struct thread_request *request)
{
    return has(device, SK_VIRTIO_F_RING_PACKED) ? give_packed(device, queue, request)
                                                : give_split(device, queue, request);
}

void thread_ring_ask(const struct thread_device *device, const struct thread_queue *queue,
                     bool wanted)
{
    uint16_t *area = queue->layout.cpu_device_area;

    if (has(device, SK_VIRTIO_F_RING_PACKED)) {
        uint32_t at = queue->next | (queue->next_wrap ? 0x8000u : 0);
        uint32_t on = has(device, SK_VIRTIO_F_EVENT_IDX) ? at | EVENT_AT << 16 : 0;

        __atomic_store_n((uint32_t *)(void *)area, wanted ? on : EVENT_DISABLE << 16,
                         __ATOMIC_RELAXED);
    } else if (has(device, SK_VIRTIO_F_EVENT_IDX)) {
        uint16_t event = wanted ? queue->next : (uint16_t)(queue->next - 1);

        __atomic_store_n(&area[2 + 4 * queue->layout.size], event, __ATOMIC_RELAXED);
    } else {
        __atomic_store_n(&area[0], wanted ? 0 : 1, __ATOMIC_RELAXED);
    }
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}
