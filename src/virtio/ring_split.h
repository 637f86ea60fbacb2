/* SPDX-License-Identifier: MIT */
/*
 * A split virtqueue seen from the driver: three areas in memory that the
 * device can write, and private counters that it cannot.  The ring moves chain
 * heads; what a chain is, and which heads are outstanding, its user knows.
 *
 * The functions on a request's way are inline: a call into another object
 * costs as much as the work.  Each shared field is loaded once, but for the
 * device's wish to be told, which may be looked at twice: neither look is
 * believed for more than a notification.
 *
 * Ownership: the memory is the user's, from init until the device was reset.
 * Calling: one owner at a time.
 * Trust: `ski_ring_split_pending` bounds what the device claims; ids are the
 * user's to check, against what is outstanding.
 * Spec: Virtio 1.2, 2.7 "Split Virtqueues"; legacy layout in 2.7.2.
 */
#ifndef SKI_VIRTIO_RING_SPLIT_H
#define SKI_VIRTIO_RING_SPLIT_H

#include <skio/status.h>

#include "base/door.h"

#define SKI_RING_SIZE_MAX 32768u

/* Code that is compiled for each kind of ring, with the kind as a constant. */
#define SKI_INLINE static inline __attribute__((always_inline))

/* Code that is kept out of the way of what calls it. */
#define SKI_APART __attribute__((noinline, cold))

/* What nearly always, and hardly ever, is so: the usual way has no jumps then. */
#define SKI_USUALLY(condition) __builtin_expect(!!(condition), 1)
#define SKI_RARELY(condition)  __builtin_expect(!!(condition), 0)

/* Descriptor flags; 2.7.5. */
#define SKI_RING_NEXT     1u
#define SKI_RING_WRITE    2u
#define SKI_RING_INDIRECT 4u

/* 2.7.5, the last three fields (u32 length, u16 flags, u16 next) as one word. */
struct ski_ring_descriptor {
    sk_le64 address;
    sk_le64 rest;
};

struct ski_ring_used_element { /* 2.7.8 */
    sk_le32 id;
    sk_le32 length;
};

_Static_assert(sizeof(struct ski_ring_descriptor) == 16, "2.7.5");
_Static_assert(sizeof(struct ski_ring_used_element) == 8, "2.7.8");

/* Where the parts of a ring lie, as offsets from its first byte. */
struct ski_ring_layout {
    uint64_t driver_area;
    uint64_t device_area;
    uint64_t bytes; /* of the whole ring */
};

struct ski_ring_split {
    struct ski_ring_descriptor SKI_SHARED *descriptors;
    sk_le16 SKI_SHARED *avail; /* flags, idx, ring[size], used_event */
    sk_le16 SKI_SHARED *used;  /* flags, idx, then the elements */
    struct ski_ring_used_element SKI_SHARED *used_elements;
    sk_le16 SKI_SHARED *avail_event;
    uint32_t size;
    uint32_t mask;
    /* Free-running; their lower 16 bits are what the specification counts. */
    uint32_t added;     /* heads put into the available ring */
    uint32_t published; /* of those, how many the device was told of */
    uint32_t taken;     /* used elements consumed */
    bool event_idx;
    bool device_order; /* ORDER_PLATFORM: a real device, device-grade fences */
};

/* Indexes into the 16-bit words of avail and used. */
#define SKI_RING_FLAGS 0
#define SKI_RING_IDX   1
#define SKI_RING_RING  2

/*
 * Lays a ring of `size` entries out, the used part aligned to `alignment`
 * (4 for modern devices, what a legacy device was told otherwise); 2.7, 2.7.2.
 */
void ski_ring_split_lay_out(uint32_t size, uint32_t alignment,
                            struct ski_ring_layout *out_layout);

/* Zeroes the memory and starts at index 0; `memory` is aligned to 16. */
void ski_ring_split_init(struct ski_ring_split *ring, void *memory, uint16_t size,
                         const struct ski_ring_layout *layout);

static inline uint64_t ski_ring_rest(uint32_t length, uint32_t flags, uint32_t next)
{
    return length | (uint64_t)flags << 32 | (uint64_t)next << 48;
}

/* Says once that each place of the available ring has the head of its number; see IN_ORDER. */
void ski_ring_split_fill(struct ski_ring_split *ring);

/* Puts a chain head into the available ring; the device is not told yet. */
static inline void ski_ring_split_add(struct ski_ring_split *ring, uint16_t head)
{
    uint32_t added = ring->added;

    ring->added = added + 1;
    ski_door_store16(ring->avail + SKI_RING_RING + (added & ring->mask), head);
}

/* 2.7.7.1: `event` lies in [before, after), as free-running indexes. */
static inline bool ski_ring_crossed(uint16_t event, uint16_t after, uint16_t before)
{
    return (uint16_t)(after - event - 1) < (uint16_t)(after - before);
}

/* True if the device asks, as far as can be seen, to be told of heads from `before` to `after`. */
SKI_INLINE bool ski_ring_split_is_asked(const struct ski_ring_split *ring, uint16_t after,
                                           uint16_t before)
{
    if (ring->event_idx) {
        return ski_ring_crossed(ski_door_load16_acquire(ring->avail_event), after, before);
    }
    return (ski_door_load16_acquire(ring->used + SKI_RING_FLAGS) & 1u) == 0;
}

/*
 * Tells the device of all added heads; true if it wants a notification.
 * `device_order` is the ring's, for callers that know it already.
 *
 * The one place that publishes.  The store releases descriptors and elements
 * to the device's acquire load of idx (2.7.13.3); the full barrier behind it
 * keeps our look at its wish from being older than our idx, as its barrier
 * between writing the wish and looking at idx does on the other side
 * (2.7.13.4.1).  With less than a full barrier both sides may miss each other.
 *
 * Whoever is told cannot miss anything, so a wish that was there before idx
 * was written needs no barrier: the notification may be one too many.
 */
SKI_INLINE bool ski_ring_split_publish_in(struct ski_ring_split *ring, bool device_order)
{
    uint16_t before = (uint16_t)ring->published;
    uint16_t after = (uint16_t)ring->added;

    ring->published = ring->added;
    if (device_order) {
        ski_arch_device_fence();
        ski_door_publish16(ring->avail + SKI_RING_IDX, after);
        ski_arch_device_fence();
    } else if (ski_ring_split_is_asked(ring, after, before)) {
        ski_door_store16_release(ring->avail + SKI_RING_IDX, after);
        return true;
    } else {
        ski_door_publish16(ring->avail + SKI_RING_IDX, after);
    }
    return ski_ring_split_is_asked(ring, after, before);
}

static inline bool ski_ring_split_publish(struct ski_ring_split *ring)
{
    return ski_ring_split_publish_in(ring, ring->device_order);
}

/*
 * How many used elements wait.  The acquire load pairs with the device's
 * release of idx: elements and data are not older than it (2.7.14).
 * SK_ERR_MALFORMED: more than are outstanding.
 */
SK_MUST_CHECK static inline enum sk_status
ski_ring_split_pending(const struct ski_ring_split *ring, uint16_t *out_count)
{
    uint16_t idx = ski_door_load16_acquire(ring->used + SKI_RING_IDX);

    if (SKI_RARELY(ring->device_order)) {
        ski_arch_device_fence();
    }
    *out_count = (uint16_t)(idx - ring->taken);
    return SKI_USUALLY(*out_count <= ring->published - ring->taken) ? SK_OK : SK_ERR_MALFORMED;
}

/* True if the device says that it used more than was taken; unchecked. */
static inline bool ski_ring_split_has_used(const struct ski_ring_split *ring)
{
    return ski_door_load16_acquire(ring->used + SKI_RING_IDX) != (uint16_t)ring->taken;
}

/* The next used element's id: one load, unchecked.  Does not move on. */
static inline uint32_t ski_ring_split_id(const struct ski_ring_split *ring)
{
    return ski_door_load32(&ring->used_elements[ring->taken & ring->mask].id);
}

/* Takes the next used element's id: one load, unchecked. */
static inline uint32_t ski_ring_split_take(struct ski_ring_split *ring)
{
    uint32_t id = ski_ring_split_id(ring);

    ring->taken++;
    return id;
}

/*
 * Asks for no interrupts; a hint, 2.7.7.  With EVENT_IDX it is good for 65,535
 * used elements, and then it has to be said again.
 */
static inline void ski_ring_split_interrupts_off(struct ski_ring_split *ring)
{
    if (ring->event_idx) {
        ski_door_store16(ring->avail + SKI_RING_RING + ring->size, (uint16_t)(ring->taken - 1));
    } else {
        ski_door_store16(ring->avail + SKI_RING_FLAGS, 1);
    }
}

/*
 * Asks for an interrupt at the next used element; true if one is there by now
 * already.  The full barrier stands between our wish and our look at idx; its
 * partner is the device's barrier between idx and its look at our wish.
 */
static inline bool ski_ring_split_interrupts_on(struct ski_ring_split *ring)
{
    if (ring->event_idx) {
        ski_door_publish16(ring->avail + SKI_RING_RING + ring->size, (uint16_t)ring->taken);
    } else {
        ski_door_publish16(ring->avail + SKI_RING_FLAGS, 0);
    }
    if (ring->device_order) {
        ski_arch_device_fence();
    }
    return ski_ring_split_has_used(ring);
}

/*
 * The same for the used element `behind` places after the next one, with EVENT_IDX: less
 * than are outstanding.  True if it is there by now already.
 */
static inline bool ski_ring_split_interrupts_at(struct ski_ring_split *ring, uint32_t behind)
{
    uint16_t used;

    ski_door_publish16(ring->avail + SKI_RING_RING + ring->size, (uint16_t)(ring->taken + behind));
    if (ring->device_order) {
        ski_arch_device_fence();
    }
    used = ski_door_load16_acquire(ring->used + SKI_RING_IDX);
    return (uint16_t)(used - ring->taken) > behind;
}

#endif
