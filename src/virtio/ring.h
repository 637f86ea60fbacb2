/* SPDX-License-Identifier: MIT */
/*
 * Split or packed behind one interface, as far as the two are alike: telling
 * the device, asking for interrupts, and where the ring stands.  How chains
 * are written and taken differs too much to hide and stays with each.
 */
#ifndef SKI_VIRTIO_RING_H
#define SKI_VIRTIO_RING_H

#include "virtio/ring_packed.h"
#include "virtio/ring_split.h"

struct ski_ring {
    bool is_packed;
    uint32_t batch; /* IN_ORDER: of the chains that the last used entry spoke of, those not taken yet */
    union {
        struct ski_ring_split split;
        struct ski_ring_packed packed;
    };
};

/* True if heads were added that the device was not told of. */
static inline bool ski_ring_has_news(const struct ski_ring *ring)
{
    return ring->is_packed ? ring->packed.unpublished != 0
                           : ring->split.added != ring->split.published;
}

/* Tells the device; true if it wants a notification. */
static inline bool ski_ring_publish(struct ski_ring *ring)
{
    return ring->is_packed ? ski_ring_packed_publish(&ring->packed)
                           : ski_ring_split_publish(&ring->split);
}

static inline void ski_ring_interrupts_off(struct ski_ring *ring)
{
    if (ring->is_packed) {
        ski_ring_packed_interrupts_off(&ring->packed);
    } else {
        ski_ring_split_interrupts_off(&ring->split);
    }
}

/* True if something was used by now already. */
static inline bool ski_ring_interrupts_on(struct ski_ring *ring)
{
    bool used = ring->is_packed ? ski_ring_packed_interrupts_on(&ring->packed)
                                : ski_ring_split_interrupts_on(&ring->split);

    return used || ring->batch != 0;
}

/* The same for what is used `behind` places later; true if that was used by now already. */
static inline bool ski_ring_interrupts_at(struct ski_ring *ring, uint32_t behind)
{
    return ring->batch != 0 ||
           (ring->is_packed ? ski_ring_packed_interrupts_at(&ring->packed, behind)
                            : ski_ring_split_interrupts_at(&ring->split, behind));
}

static inline bool ski_ring_has_event_index(const struct ski_ring *ring)
{
    return ring->is_packed ? ring->packed.event_idx : ring->split.event_idx;
}

/* True if the device used something that was not taken yet; it may be lying about it. */
static inline bool ski_ring_has_used(const struct ski_ring *ring)
{
    return ring->batch != 0 || (ring->is_packed ? ski_ring_packed_is_used(&ring->packed)
                                                : ski_ring_split_has_used(&ring->split));
}

/* What NOTIFICATION_DATA carries in its upper half; 2.9. */
static inline uint32_t ski_ring_position(const struct ski_ring *ring)
{
    return ring->is_packed ? ring->packed.next | ski_ring_packed_wrap(&ring->packed) << 15
                           : ring->split.added & 0xffff;
}

#endif
