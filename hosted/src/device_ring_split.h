/* SPDX-License-Identifier: MIT */
/*
 * A split virtqueue seen from the device: the other side of
 * virtio/ring_split.h, with the same constants and the same door.  It takes
 * chain heads and gives them back; device_chain.h reads what hangs on them.
 *
 * Ownership: the memory is the driver's; it stays mapped until the ring rests.
 * Calling: one thread at a time.
 * Trust: the driver writes what it likes.  `pending` bounds what it claims;
 * a head is bounded, and whether it was given back before, nobody here knows.
 * Spec: Virtio 1.2, 2.7.
 */
#ifndef SKI_HOSTED_DEVICE_RING_SPLIT_H
#define SKI_HOSTED_DEVICE_RING_SPLIT_H

#include "virtio/ring_split.h"

struct ski_device_split {
    struct ski_ring_descriptor SKI_SHARED *descriptors;
    sk_le16 SKI_SHARED *avail; /* flags, idx, ring[size], used_event */
    sk_le16 SKI_SHARED *used;  /* flags, idx, then the elements */
    struct ski_ring_used_element SKI_SHARED *used_elements;
    sk_le16 SKI_SHARED *avail_event;
    uint16_t size;
    uint16_t mask;
    uint16_t taken;     /* free-running: heads taken */
    uint16_t given;     /* free-running: used elements written */
    uint16_t published; /* of those, how many the driver was told of */
    bool event_idx;
};

/* Bytes of the three parts; the event words are always counted (2.7). */
static inline uint64_t ski_device_split_avail_bytes(uint32_t size)
{
    return 6 + 2 * (uint64_t)size;
}

static inline uint64_t ski_device_split_used_bytes(uint32_t size)
{
    return 6 + 8 * (uint64_t)size;
}

/* Goes on at `taken` and `given`; `size` is a power of two up to SKI_RING_SIZE_MAX. */
static inline void ski_device_split_init(struct ski_device_split *ring,
                                         uint8_t SKI_SHARED *descriptors,
                                         uint8_t SKI_SHARED *avail, uint8_t SKI_SHARED *used,
                                         uint16_t size)
{
    ring->descriptors = (struct ski_ring_descriptor SKI_SHARED *)(void SKI_SHARED *)descriptors;
    ring->avail = (sk_le16 SKI_SHARED *)(void SKI_SHARED *)avail;
    ring->used = (sk_le16 SKI_SHARED *)(void SKI_SHARED *)used;
    ring->used_elements =
        (struct ski_ring_used_element SKI_SHARED *)(void SKI_SHARED *)(ring->used + SKI_RING_RING);
    ring->avail_event = (sk_le16 SKI_SHARED *)(void SKI_SHARED *)(ring->used_elements + size);
    ring->size = size;
    ring->mask = (uint16_t)(size - 1);
}

static inline void ski_device_split_seek(struct ski_device_split *ring, uint16_t taken,
                                         uint16_t given)
{
    ring->taken = taken;
    ring->given = given;
    ring->published = given;
}

/* The used index as the ring shows it: where a device that died left off. */
static inline uint16_t ski_device_split_used_index(const struct ski_device_split *ring)
{
    return ski_door_load16(ring->used + SKI_RING_IDX);
}

/*
 * How many heads wait.  The acquire load pairs with the driver's release of
 * idx: elements and descriptors are not older (2.7.13.3).  SK_ERR_MALFORMED:
 * more than the ring has room for.
 */
SK_MUST_CHECK static inline enum sk_status
ski_device_split_pending(const struct ski_device_split *ring, uint32_t *out_count)
{
    uint16_t idx = ski_door_load16_acquire(ring->avail + SKI_RING_IDX);
    uint32_t outstanding = (uint16_t)(ring->taken - ring->given);

    *out_count = (uint16_t)(idx - ring->taken);
    return *out_count + outstanding <= ring->size ? SK_OK : SK_ERR_MALFORMED;
}

/* The head `ahead` places behind the next one: one load, unchecked.  Takes nothing. */
static inline uint16_t ski_device_split_peek(const struct ski_device_split *ring, uint32_t ahead)
{
    return ski_door_load16(ring->avail + SKI_RING_RING +
                           ((ring->taken + ahead) & ring->mask));
}

/*
 * Writes one used element for `count` heads, of which this is the last; more than
 * one only with IN_ORDER (2.7.9).  The driver is not told yet.
 */
static inline void ski_device_split_give_many(struct ski_device_split *ring, uint32_t id,
                                              uint32_t length, uint32_t count)
{
    struct ski_ring_used_element SKI_SHARED *element =
        &ring->used_elements[ring->given & ring->mask];

    ski_door_store32(&element->id, id);
    ski_door_store32(&element->length, length);
    ring->given = (uint16_t)(ring->given + count);
}

static inline void ski_device_split_give(struct ski_device_split *ring, uint32_t id,
                                         uint32_t length)
{
    ski_device_split_give_many(ring, id, length, 1);
}

/*
 * Tells the driver of all used elements; true if it wants an interrupt.  The
 * store releases data and elements to the driver's acquire load of idx
 * (2.7.8.2); the full barrier behind it keeps our look at its wish from being
 * older than our idx, as its barrier does on the other side (2.7.7.2).
 */
static inline void ski_device_split_publish(struct ski_device_split *ring)
{
    ski_door_publish16(ring->used + SKI_RING_IDX, ring->given);
}

/* Whether the driver wants to hear of what was published since the last call. */
static inline bool ski_device_split_wants_interrupt(struct ski_device_split *ring)
{
    uint16_t before = ring->published;

    ring->published = ring->given;
    if (ring->event_idx) {
        uint16_t event = ski_door_load16(ring->avail + SKI_RING_RING + ring->size);

        return ski_ring_crossed(event, ring->given, before);
    }
    return (ski_door_load16(ring->avail + SKI_RING_FLAGS) & 1u) == 0;
}

/* Asks for no notifications; a hint.  With EVENT_IDX: one in 65,536 may come. */
static inline void ski_device_split_kicks_off(struct ski_device_split *ring)
{
    if (ring->event_idx) {
        ski_door_store16(ring->avail_event, (uint16_t)(ring->taken - 1));
    } else {
        ski_door_store16(ring->used + SKI_RING_FLAGS, 1);
    }
}

/*
 * Asks for a notification at the next head; true if one is there already.  The
 * full barrier stands between our wish and our look at idx; its partner is the
 * driver's barrier between idx and its look at our wish (2.7.13.4.1).
 */
static inline bool ski_device_split_kicks_on(struct ski_device_split *ring)
{
    if (ring->event_idx) {
        ski_door_publish16(ring->avail_event, ring->taken);
    } else {
        ski_door_publish16(ring->used + SKI_RING_FLAGS, 0);
    }
    return ski_door_load16_acquire(ring->avail + SKI_RING_IDX) != ring->taken;
}

#endif
