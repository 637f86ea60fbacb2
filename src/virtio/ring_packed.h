/* SPDX-License-Identifier: MIT */
/*
 * A packed virtqueue seen from the driver: one ring of descriptors in which
 * both sides write, told apart by two bits that change meaning at each wrap.
 * Positions and wrap counters are private; of what the device writes, only a
 * descriptor's flags and buffer id are looked at, once each.
 *
 * What is added is not available yet: of the first chain since the last
 * publish, the second half of the first descriptor is kept back.  A device
 * takes chains in the ring's order, so publishing that one word publishes all
 * that stands behind it, with one release for any number of chains.
 *
 * Ownership: the memory is the user's, from init until the device was reset.
 * Calling: one owner at a time.
 * Trust: ids are the user's to check, against what is outstanding; so is the
 * number of descriptors to skip, which is never taken from the ring.
 * Spec: Virtio 1.2, 2.8 "Packed Virtqueues".
 */
#ifndef SKI_VIRTIO_RING_PACKED_H
#define SKI_VIRTIO_RING_PACKED_H

#include "virtio/ring_split.h"

/* Descriptor flags besides NEXT, WRITE and INDIRECT; 2.8.1. */
#define SKI_RING_PACKED_AVAILABLE (1u << 7)
#define SKI_RING_PACKED_USED      (1u << 15)
#define SKI_RING_PACKED_MARKS     (SKI_RING_PACKED_AVAILABLE | SKI_RING_PACKED_USED)

/* Flags of an event suppression structure, the upper half of its word; 2.8.10. */
#define SKI_RING_EVENT_ENABLE  0u
#define SKI_RING_EVENT_DISABLE 1u
#define SKI_RING_EVENT_AT      2u

/* Places of the 16-bit words in a descriptor's second half: u32 length, u16 id, u16 flags. */
#define SKI_RING_PACKED_ID_WORD    2
#define SKI_RING_PACKED_FLAGS_WORD 3

struct ski_ring_packed {
    struct ski_ring_descriptor SKI_SHARED *descriptors;
    sk_le32 SKI_SHARED *driver_event; /* u16 offset and wrap, u16 flags */
    sk_le32 SKI_SHARED *device_event;
    struct ski_ring_descriptor SKI_SHARED *held; /* the descriptor that is kept back, */
    uint64_t held_rest;                          /* and what it lacks */
    uint32_t size;
    uint32_t next;        /* position of the next descriptor to make available */
    uint32_t taken;       /* position of the next descriptor to be used */
    uint32_t unpublished; /* descriptors since the last publish */
    uint32_t next_marks;  /* of MARKS, what a descriptor at `next` has when it is available, */
    uint32_t taken_marks; /* and one at `taken` when it is used; both flip at the ring's end */
    bool event_idx;
    bool device_order;
};

/* `driver_area` and `device_area` are the event suppression structures, behind the ring. */
void ski_ring_packed_lay_out(uint32_t size, struct ski_ring_layout *out_layout);

/* Zeroes the memory and starts at position 0 with both wrap counters 1; `memory` is aligned to 16. */
void ski_ring_packed_init(struct ski_ring_packed *ring, void *memory, uint16_t size,
                          const struct ski_ring_layout *layout);

/* The wrap counter behind MARKS of an available descriptor; 2.8.1. */
static inline uint32_t ski_ring_packed_wrap(const struct ski_ring_packed *ring)
{
    return ring->next_marks == SKI_RING_PACKED_AVAILABLE;
}

/* `count` descriptors on, and around the ring's end. */
static inline void ski_ring_packed_move(uint32_t size, uint32_t *place, uint32_t *marks,
                                        uint32_t count)
{
    uint32_t behind = *place + count;

    if (SKI_RARELY(behind >= size)) {
        behind -= size;
        *marks ^= SKI_RING_PACKED_MARKS;
    }
    *place = behind;
}

/* The second half of a descriptor, in the ring or in an indirect table. */
static inline uint64_t ski_ring_packed_rest(uint32_t length, uint32_t id, uint32_t flags)
{
    return length | (uint64_t)id << 32 | (uint64_t)flags << 48;
}

/* Writes a descriptor `behind` places after the chain's first; not the first. */
static inline void ski_ring_packed_put(struct ski_ring_packed *ring, uint32_t behind,
                                       uint64_t address, uint32_t length, uint32_t id,
                                       uint32_t flags)
{
    uint32_t place = ring->next;
    uint32_t marks = ring->next_marks;
    struct ski_ring_descriptor SKI_SHARED *descriptor;

    ski_ring_packed_move(ring->size, &place, &marks, behind);
    descriptor = &ring->descriptors[place];
    ski_door_store64(&descriptor->address, address);
    ski_door_store64(&descriptor->rest, ski_ring_packed_rest(length, id, flags | marks));
}

/*
 * Moves on behind a chain of `count` whose first descriptor, `first` at position
 * `next`, has all but its second half.  (Both are the ring's own: whoever has
 * them in registers does not load them again behind the stores of a chain.)
 */
static inline void ski_ring_packed_add_rest(struct ski_ring_packed *ring,
                                            struct ski_ring_descriptor SKI_SHARED *first,
                                            uint32_t next, uint32_t count, uint64_t rest)
{
    uint32_t unpublished = ring->unpublished;
    uint32_t behind = next + count;

    ring->unpublished = unpublished + count;
    if (SKI_RARELY(behind >= ring->size)) {
        behind -= ring->size;
        ring->next_marks ^= SKI_RING_PACKED_MARKS;
    }
    ring->next = behind;
    if (unpublished == 0) {
        ring->held = first;
        ring->held_rest = rest;
    } else {
        ski_door_store64(&first->rest, rest);
    }
}

/* Writes the first descriptor of a chain of `count` and moves on; the device is not told yet. */
static inline void ski_ring_packed_add(struct ski_ring_packed *ring, uint32_t count,
                                       uint64_t address, uint32_t length, uint32_t id,
                                       uint32_t flags)
{
    struct ski_ring_descriptor SKI_SHARED *first = &ring->descriptors[ring->next];

    ski_door_store64(&first->address, address);
    ski_ring_packed_add_rest(ring, first, ring->next, count,
                             ski_ring_packed_rest(length, id, flags | ring->next_marks));
}

/* What a device writes that waits for the descriptor that is kept back: the usual wish. */
SKI_INLINE uint32_t ski_ring_packed_usual_wish(const struct ski_ring_packed *ring)
{
    uint32_t place = (uint32_t)(ring->held - ring->descriptors);
    uint32_t wrap = (uint32_t)(ring->held_rest >> 48) & SKI_RING_PACKED_AVAILABLE;

    return place | wrap << 8 | SKI_RING_EVENT_AT << 16;
}

/* True if the device asks, as far as can be seen, to be told of descriptors from `before` to `next`. */
SKI_INLINE bool ski_ring_packed_is_asked(const struct ski_ring_packed *ring, uint16_t before)
{
    uint32_t wish = ski_door_load32(ring->device_event);
    uint32_t event;

    if (wish == ski_ring_packed_usual_wish(ring)) {
        return true;
    }
    if (!ring->event_idx || (wish >> 16 & 3) != SKI_RING_EVENT_AT) {
        return (wish >> 16 & 3) != SKI_RING_EVENT_DISABLE;
    }
    event = wish & 0x7fff;
    if ((wish >> 15 & 1) != ski_ring_packed_wrap(ring)) {
        event -= ring->size; /* of the lap before, as free-running positions */
    }
    return ski_ring_crossed((uint16_t)event, (uint16_t)ring->next, before);
}

/*
 * Makes all added chains (there are some) available; true if the device wants
 * to be told.  `device_order` is the ring's, for callers that know it already.
 *
 * The one place that publishes.  The release store of the flags that were kept
 * back pairs with the device's acquire of them: all that belongs to the chains
 * is older (2.8.21.1).  The full barrier stands between them and our look at
 * its wish; its partner is the device's barrier between writing the wish and
 * looking at the flags (2.8.21.3.1).  A wish that was there before needs none:
 * see the split ring.
 */
SKI_INLINE bool ski_ring_packed_publish_in(struct ski_ring_packed *ring, bool device_order)
{
    uint16_t before = (uint16_t)(ring->next - ring->unpublished);

    ring->unpublished = 0;
    if (device_order) {
        ski_arch_device_fence();
        ski_door_publish64(&ring->held->rest, ring->held_rest);
        ski_arch_device_fence();
    } else if (ski_ring_packed_is_asked(ring, before)) {
        ski_door_store64_release(&ring->held->rest, ring->held_rest);
        return true;
    } else {
        ski_door_publish64(&ring->held->rest, ring->held_rest);
    }
    return ski_ring_packed_is_asked(ring, before);
}

static inline bool ski_ring_packed_publish(struct ski_ring_packed *ring)
{
    return ski_ring_packed_publish_in(ring, ring->device_order);
}

/*
 * True if the next chain was used.  The acquire load pairs with the device's
 * release of the flags: id and data are not older (2.8.22).
 */
static inline bool ski_ring_packed_is_used(const struct ski_ring_packed *ring)
{
    const sk_le16 SKI_SHARED *words =
        (const sk_le16 SKI_SHARED *)(const void SKI_SHARED *)&ring->descriptors[ring->taken].rest;
    uint16_t flags = ski_door_load16_acquire(words + SKI_RING_PACKED_FLAGS_WORD);

    if (SKI_RARELY(ring->device_order)) {
        ski_arch_device_fence();
    }
    return (flags & SKI_RING_PACKED_MARKS) == ring->taken_marks;
}

/* The id of the chain that was used; one load, unchecked.  Does not move on. */
static inline uint32_t ski_ring_packed_id(const struct ski_ring_packed *ring)
{
    const sk_le16 SKI_SHARED *words =
        (const sk_le16 SKI_SHARED *)(const void SKI_SHARED *)&ring->descriptors[ring->taken].rest;

    return ski_door_load16(words + SKI_RING_PACKED_ID_WORD);
}

/* Moves on behind a chain of `count` descriptors. */
static inline void ski_ring_packed_skip(struct ski_ring_packed *ring, uint32_t count)
{
    ski_ring_packed_move(ring->size, &ring->taken, &ring->taken_marks, count);
}

/* Asks for no interrupts; a hint. */
static inline void ski_ring_packed_interrupts_off(struct ski_ring_packed *ring)
{
    ski_door_store32(ring->driver_event, SKI_RING_EVENT_DISABLE << 16);
}

/* Asks for an interrupt at the next used chain; true if one is there by now already. */
static inline bool ski_ring_packed_interrupts_on(struct ski_ring_packed *ring)
{
    uint32_t at = ring->taken | (ring->taken_marks != 0 ? 1u << 15 : 0);

    ski_door_store32(ring->driver_event, ring->event_idx ? at | SKI_RING_EVENT_AT << 16
                                                         : SKI_RING_EVENT_ENABLE << 16);
    ski_door_full_fence(ring->device_order);
    return ski_ring_packed_is_used(ring);
}

/*
 * The same for the descriptor `behind` places after the next one to be used, with
 * EVENT_IDX: fewer than are outstanding.  A chain need not begin there: the
 * device looks whether it came past.  True if a chain is known to be used by now
 * that begins there; one that is not known only means that the caller sleeps.
 */
static inline bool ski_ring_packed_interrupts_at(struct ski_ring_packed *ring, uint32_t behind)
{
    struct ski_ring_packed later = *ring;

    ski_ring_packed_move(ring->size, &later.taken, &later.taken_marks, behind);
    ski_door_store32(ring->driver_event,
                     later.taken | (later.taken_marks != 0 ? 1u << 15 : 0) |
                         SKI_RING_EVENT_AT << 16);
    ski_door_full_fence(ring->device_order);
    return ski_ring_packed_is_used(&later) && ski_ring_packed_is_used(ring);
}

#endif
