/* SPDX-License-Identifier: MIT */
#include "virtio/ring_split.h"

void ski_ring_split_lay_out(uint32_t size, uint32_t alignment, struct ski_ring_layout *out_layout)
{
    uint64_t mask = (uint64_t)alignment - 1;

    /* The event words are always counted; size is at most 32768: nothing overflows. */
    out_layout->driver_area = (uint64_t)size * sizeof(struct ski_ring_descriptor);
    out_layout->device_area = (out_layout->driver_area + 6 + 2 * (uint64_t)size + mask) & ~mask;
    out_layout->bytes = out_layout->device_area + 6 + 8 * (uint64_t)size;
}

void ski_ring_split_init(struct ski_ring_split *ring, void *memory, uint16_t size,
                         const struct ski_ring_layout *layout)
{
    uint8_t SKI_SHARED *shared = ski_door_share(memory);

    ski_door_zero(shared, layout->bytes);
    ring->descriptors = (struct ski_ring_descriptor SKI_SHARED *)(void SKI_SHARED *)shared;
    ring->avail = (sk_le16 SKI_SHARED *)(void SKI_SHARED *)(shared + layout->driver_area);
    ring->used = (sk_le16 SKI_SHARED *)(void SKI_SHARED *)(shared + layout->device_area);
    ring->used_elements =
        (struct ski_ring_used_element SKI_SHARED *)(void SKI_SHARED *)(ring->used + SKI_RING_RING);
    ring->avail_event = (sk_le16 SKI_SHARED *)(void SKI_SHARED *)(ring->used_elements + size);
    ring->size = size;
    ring->mask = size - 1u;
    ring->added = 0;
    ring->published = 0;
    ring->taken = 0;
}

void ski_ring_split_fill(struct ski_ring_split *ring)
{
    for (uint32_t place = 0; place < ring->size; place++) {
        ski_door_store16(ring->avail + SKI_RING_RING + place, (uint16_t)place);
    }
}
