/* SPDX-License-Identifier: MIT */
/*
 * A packed virtqueue seen from the device: the other side of
 * virtio/ring_packed.h.  Both positions, both wrap counters and how many
 * descriptors are out are private; of what the driver writes each descriptor
 * is loaded once, its flags first.
 *
 * A batch is given back from its second chain on, then its first, whose flags
 * make all of it used at once: that is what survives a kill in between.
 *
 * Ownership: the memory is the driver's; it stays mapped until the ring rests.
 * Calling: one thread at a time.
 * Trust: the driver writes what it likes; a chain is no longer than what is
 * free of the ring, and an id is bounded by nothing.
 * Spec: Virtio 1.2, 2.8.
 */
#ifndef SKI_HOSTED_DEVICE_RING_PACKED_H
#define SKI_HOSTED_DEVICE_RING_PACKED_H

#include "virtio/ring_packed.h"

struct ski_device_packed {
    struct ski_ring_descriptor SKI_SHARED *descriptors;
    sk_le32 SKI_SHARED *driver_event; /* u16 offset and wrap, u16 flags */
    sk_le32 SKI_SHARED *device_event;
    uint16_t size;
    uint16_t outstanding; /* descriptors taken and not given back */
    uint16_t next;        /* position of the next descriptor to take */
    uint16_t used;        /* position of the next descriptor to give back */
    uint16_t unpublished; /* descriptors given since the last look at the driver's wish */
    uint16_t first;       /* the batch's first position ... */
    uint64_t first_rest;  /* ... and what will be written there */
    bool next_wrap;
    bool used_wrap;
    bool batch; /* `first` and `first_rest` are waiting */
    bool event_idx;
};

static inline void ski_device_packed_init(struct ski_device_packed *ring,
                                          uint8_t SKI_SHARED *descriptors,
                                          uint8_t SKI_SHARED *driver_event,
                                          uint8_t SKI_SHARED *device_event, uint16_t size)
{
    ring->descriptors = (struct ski_ring_descriptor SKI_SHARED *)(void SKI_SHARED *)descriptors;
    ring->driver_event = (sk_le32 SKI_SHARED *)(void SKI_SHARED *)driver_event;
    ring->device_event = (sk_le32 SKI_SHARED *)(void SKI_SHARED *)device_event;
    ring->size = size;
}

/* Goes on at a position, behind which `outstanding` descriptors were taken by now. */
static inline void ski_device_packed_seek(struct ski_device_packed *ring, uint16_t used,
                                          bool used_wrap, uint16_t outstanding)
{
    uint32_t next = (uint32_t)used + outstanding;
    bool wraps = next >= ring->size;

    ring->used = used;
    ring->used_wrap = used_wrap;
    ring->next = (uint16_t)(wraps ? next - ring->size : next);
    ring->next_wrap = used_wrap != wraps;
    ring->outstanding = outstanding;
    ring->unpublished = 0;
    ring->batch = false;
}

/* 2.8.1: a descriptor is available if the one bit equals the wrap counter and the other does not. */
static inline uint32_t ski_device_packed_available(bool wrap)
{
    return wrap ? SKI_RING_PACKED_AVAILABLE : SKI_RING_PACKED_USED;
}

static inline bool ski_device_packed_is_available(uint32_t flags, bool wrap)
{
    return (flags & SKI_RING_PACKED_MARKS) == ski_device_packed_available(wrap);
}

/* The second half of the descriptor at a position: u32 length, u16 id, u16 flags. */
static inline uint64_t ski_device_packed_rest(const struct ski_device_packed *ring,
                                              uint32_t position)
{
    return ski_door_load64(&ring->descriptors[position].rest);
}

/*
 * True if a chain is there; stores its first descriptor.  The acquire load of
 * the flags pairs with the driver's release of them: all of the chain is not
 * older (2.8.21.1).
 */
static inline bool ski_device_packed_peek(const struct ski_device_packed *ring,
                                          uint64_t *out_address, uint64_t *out_rest)
{
    const struct ski_ring_descriptor SKI_SHARED *descriptor = &ring->descriptors[ring->next];

    *out_rest = ski_door_load64(&descriptor->rest);
    ski_door_take_over();
    if (!ski_device_packed_is_available((uint32_t)(*out_rest >> 48), ring->next_wrap)) {
        return false;
    }
    *out_address = ski_door_load64(&descriptor->address);
    return true;
}

/* Moves on behind a chain of `count`, which fits: see `outstanding`. */
static inline void ski_device_packed_take(struct ski_device_packed *ring, uint32_t count)
{
    uint32_t next = ring->next + count;

    if (next >= ring->size) {
        next -= ring->size;
        ring->next_wrap = !ring->next_wrap;
    }
    ring->next = (uint16_t)next;
    ring->outstanding = (uint16_t)(ring->outstanding + count);
}

/*
 * Gives a chain of `count` descriptors back; the first of a batch is kept
 * until ski_device_packed_publish.  A batch has no more descriptors than the ring.
 * With IN_ORDER it may be many chains, of which the id is the last one's (2.8.9).
 */
static inline void ski_device_packed_give(struct ski_device_packed *ring, uint32_t id,
                                          uint32_t length, uint32_t count)
{
    uint32_t flags = SKI_RING_WRITE;
    uint32_t used = ring->used + count;
    uint64_t rest;

    if (ring->used_wrap) {
        flags |= SKI_RING_PACKED_MARKS;
    }
    rest = ski_ring_packed_rest(length, id, flags);
    if (ring->batch) {
        ski_door_store64(&ring->descriptors[ring->used].rest, rest);
    } else {
        ring->batch = true;
        ring->first = ring->used;
        ring->first_rest = rest;
    }
    if (used >= ring->size) {
        used -= ring->size;
        ring->used_wrap = !ring->used_wrap;
    }
    ring->used = (uint16_t)used;
    ring->outstanding = (uint16_t)(ring->outstanding - count);
    ring->unpublished = (uint16_t)(ring->unpublished + count);
}

/*
 * Makes the batch used, if there is one.  The release store pairs with the
 * driver's acquire of the flags: data and the other descriptors are not older.
 * The full barrier behind it keeps our look at its wish from being older.
 */
static inline void ski_device_packed_publish(struct ski_device_packed *ring)
{
    if (ring->batch) {
        ski_door_publish64(&ring->descriptors[ring->first].rest, ring->first_rest);
        ring->batch = false;
    }
}

/* Whether the driver wants to hear of what was published since the last call; 2.8.10. */
static inline bool ski_device_packed_wants_interrupt(struct ski_device_packed *ring)
{
    uint16_t before = (uint16_t)(ring->used - ring->unpublished);
    uint32_t wish = ski_door_load32(ring->driver_event);
    uint32_t event = wish & 0x7fff;

    ring->unpublished = 0;
    if (!ring->event_idx || (wish >> 16 & 3) != SKI_RING_EVENT_AT) {
        return (wish >> 16 & 3) != SKI_RING_EVENT_DISABLE;
    }
    if ((wish >> 15 & 1) != ring->used_wrap) {
        event -= ring->size; /* of the lap before, as free-running positions */
    }
    return ski_ring_crossed((uint16_t)event, ring->used, before);
}

/* Asks for no notifications; a hint. */
static inline void ski_device_packed_kicks_off(struct ski_device_packed *ring)
{
    ski_door_store32(ring->device_event, SKI_RING_EVENT_DISABLE << 16);
}

/* Asks for a notification at the next chain; true if one is there already. */
static inline bool ski_device_packed_kicks_on(struct ski_device_packed *ring)
{
    uint32_t at = ring->next | (uint32_t)ring->next_wrap << 15;

    ski_door_store32(ring->device_event, ring->event_idx ? at | SKI_RING_EVENT_AT << 16
                                                         : SKI_RING_EVENT_ENABLE << 16);
    ski_door_full_fence(false);
    return ski_device_packed_is_available(
        (uint32_t)(ski_device_packed_rest(ring, ring->next) >> 48), ring->next_wrap);
}

#endif
