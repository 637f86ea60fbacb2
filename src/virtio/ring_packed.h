/* SPDX-License-Identifier: MIT */
/*
 * A packed virtqueue seen from the driver: one ring of descriptors in which
 * both sides write, told apart by two bits that change meaning at each wrap.
 * Positions and wrap counters are private; of what the device writes, only a
 * descriptor's flags and buffer id are looked at, once each.
 *
 * A chain is written from its second descriptor on, then its first, whose
 * flags make all of it available at once.
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
    uint16_t size;
    uint16_t next;        /* position of the next descriptor to make available */
    uint16_t taken;       /* position of the next descriptor to be used */
    uint16_t unpublished; /* descriptors since the last publish */
    bool next_wrap;
    bool taken_wrap;
    bool event_idx;
    bool device_order;
};

/* `driver_area` and `device_area` are the event suppression structures, behind the ring. */
void ski_ring_packed_lay_out(uint32_t size, struct ski_ring_layout *out_layout);

/* Zeroes the memory and starts at position 0 with both wrap counters 1; `memory` is aligned to 16. */
void ski_ring_packed_init(struct ski_ring_packed *ring, void *memory, uint16_t size,
                          const struct ski_ring_layout *layout);

/* 2.8.1: a descriptor is available if the one bit equals the wrap counter and the other does not. */
static inline uint32_t ski_ring_packed_available(bool wrap)
{
    return wrap ? SKI_RING_PACKED_AVAILABLE : SKI_RING_PACKED_USED;
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
    uint32_t place = ring->next + behind;
    bool wraps = place >= ring->size;
    struct ski_ring_descriptor SKI_SHARED *descriptor =
        &ring->descriptors[wraps ? place - ring->size : place];

    flags |= ski_ring_packed_available(ring->next_wrap != wraps);
    ski_door_store64(&descriptor->address, address);
    ski_door_store64(&descriptor->rest, ski_ring_packed_rest(length, id, flags));
}

/*
 * Writes the first descriptor and makes the chain of `count` available.  The
 * release store of its flags pairs with the device's acquire of them: all that
 * belongs to the chain is older (2.8.21.1).
 */
static inline void ski_ring_packed_add(struct ski_ring_packed *ring, uint32_t count,
                                       uint64_t address, uint32_t length, uint32_t id,
                                       uint32_t flags)
{
    struct ski_ring_descriptor SKI_SHARED *descriptor = &ring->descriptors[ring->next];

    flags |= ski_ring_packed_available(ring->next_wrap);
    ski_door_store64(&descriptor->address, address);
    if (ring->device_order) {
        ski_arch_device_fence();
    }
    ski_door_store64_release(&descriptor->rest, ski_ring_packed_rest(length, id, flags));
    ring->unpublished = (uint16_t)(ring->unpublished + count);
    if (ring->next + count >= ring->size) {
        ring->next = (uint16_t)(ring->next + count - ring->size);
        ring->next_wrap = !ring->next_wrap;
    } else {
        ring->next = (uint16_t)(ring->next + count);
    }
}

/*
 * True if the device wants to be told of what became available since the last
 * call.  The full barrier stands between the flags we wrote and our look at
 * its wish; its partner is the device's barrier between writing the wish and
 * looking at the flags (2.8.21.3.1).
 */
static inline bool ski_ring_packed_publish(struct ski_ring_packed *ring)
{
    uint16_t before = (uint16_t)(ring->next - ring->unpublished);
    uint32_t wish;
    uint32_t event;

    ski_door_full_fence(ring->device_order);
    wish = ski_door_load32(ring->device_event);
    ring->unpublished = 0;
    if (!ring->event_idx || (wish >> 16 & 3) != SKI_RING_EVENT_AT) {
        return (wish >> 16 & 3) != SKI_RING_EVENT_DISABLE;
    }
    event = wish & 0x7fff;
    if ((wish >> 15 & 1) != ring->next_wrap) {
        event -= ring->size; /* of the lap before, as free-running positions */
    }
    return ski_ring_crossed((uint16_t)event, ring->next, before);
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
    bool available = (flags & SKI_RING_PACKED_AVAILABLE) != 0;
    bool used = (flags & SKI_RING_PACKED_USED) != 0;

    if (ring->device_order) {
        ski_arch_device_fence();
    }
    return available == used && used == ring->taken_wrap;
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
    if (ring->taken + count >= ring->size) {
        ring->taken = (uint16_t)(ring->taken + count - ring->size);
        ring->taken_wrap = !ring->taken_wrap;
    } else {
        ring->taken = (uint16_t)(ring->taken + count);
    }
}

/* Asks for no interrupts; a hint. */
static inline void ski_ring_packed_interrupts_off(struct ski_ring_packed *ring)
{
    ski_door_store32(ring->driver_event, SKI_RING_EVENT_DISABLE << 16);
}

/* Asks for an interrupt at the next used chain; true if one is there by now already. */
static inline bool ski_ring_packed_interrupts_on(struct ski_ring_packed *ring)
{
    uint32_t at = ring->taken | (uint32_t)ring->taken_wrap << 15;

    ski_door_store32(ring->driver_event, ring->event_idx ? at | SKI_RING_EVENT_AT << 16
                                                         : SKI_RING_EVENT_ENABLE << 16);
    ski_door_full_fence(ring->device_order);
    return ski_ring_packed_is_used(ring);
}

#endif
