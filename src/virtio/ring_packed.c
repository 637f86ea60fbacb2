/* SPDX-License-Identifier: MIT */
#include "virtio/ring_packed.h"

void ski_ring_packed_lay_out(uint32_t size, struct ski_ring_layout *out_layout)
{
    out_layout->driver_area = (uint64_t)size * sizeof(struct ski_ring_descriptor);
    out_layout->device_area = out_layout->driver_area + sizeof(sk_le32);
    out_layout->bytes = out_layout->device_area + sizeof(sk_le32);
}

void ski_ring_packed_init(struct ski_ring_packed *ring, void *memory, uint16_t size,
                          const struct ski_ring_layout *layout)
{
    uint8_t SKI_SHARED *shared = ski_door_share(memory);

    ski_door_zero(shared, layout->bytes);
    ring->descriptors = (struct ski_ring_descriptor SKI_SHARED *)(void SKI_SHARED *)shared;
    ring->driver_event = (sk_le32 SKI_SHARED *)(void SKI_SHARED *)(shared + layout->driver_area);
    ring->device_event = (sk_le32 SKI_SHARED *)(void SKI_SHARED *)(shared + layout->device_area);
    ring->size = size;
    ring->next = 0;
    ring->taken = 0;
    ring->unpublished = 0;
    ring->next_marks = SKI_RING_PACKED_AVAILABLE;
    ring->taken_marks = SKI_RING_PACKED_MARKS;
}
