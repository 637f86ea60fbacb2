/* SPDX-License-Identifier: MIT */
/* The parts of slots that are written once, or rarely. */
#include "block/virtio_blk_slot.h"

/* True if chains stay where they are: in tables, or in the split ring's descriptor table. */
static bool has_place(const struct ski_blk_queue *queue)
{
    return queue->indirect || !queue->ring.is_packed;
}

/* A descriptor that is not data, in a table or in the split ring. */
static uint64_t rest_of(const struct ski_blk_queue *queue, uint32_t bytes, uint32_t flags,
                        uint32_t next)
{
    return queue->ring.is_packed ? ski_ring_packed_rest(bytes, 0, flags & SKI_RING_WRITE)
                                 : ski_ring_rest(bytes, flags, next);
}

/* Writes what never changes of a slot's chain. */
static void prepare_slot(struct ski_blk_queue *queue, uint32_t slot)
{
    struct ski_ring_descriptor SKI_SHARED *header = ski_blk_chain_of(queue, slot);

    if (!has_place(queue)) {
        return;
    }
    ski_door_store64(&header->address,
                     queue->headers_address.raw + slot * sizeof(struct ski_blk_header));
    ski_door_store64(&header->rest,
                     rest_of(queue, sizeof(struct ski_blk_header), SKI_RING_NEXT,
                             ski_blk_base_of(queue, slot) + SKI_BLK_CHAIN_DATA));
    if (queue->indirect && !queue->ring.is_packed) {
        ski_door_store64(&queue->ring.split.descriptors[slot].address,
                         queue->chains_address.raw + (uint64_t)slot * queue->chain_length *
                                                         sizeof(struct ski_ring_descriptor));
    }
}

void ski_blk_end_chain(struct ski_blk_queue *queue, uint32_t slot, uint32_t count)
{
    struct ski_ring_descriptor SKI_SHARED *status =
        ski_blk_chain_of(queue, slot) + SKI_BLK_CHAIN_DATA + count;
    uint32_t table_bytes =
        (count + SKI_BLK_CHAIN_FIXED) * (uint32_t)sizeof(struct ski_ring_descriptor);

    queue->slots[slot].segments = (uint16_t)count;
    if (!has_place(queue)) {
        return;
    }
    ski_door_store64(&status->address, queue->statuses_address.raw + slot);
    ski_door_store64(&status->rest, rest_of(queue, 1, SKI_RING_WRITE, 0));
    if (queue->indirect && !queue->ring.is_packed) {
        ski_door_store64(&queue->ring.split.descriptors[slot].rest,
                         ski_ring_rest(table_bytes, SKI_RING_INDIRECT, 0));
    }
}

/* What the device returns for a slot: its chain's head, or the buffer id of a packed ring. */
static uint32_t id_of(const struct ski_blk_queue *queue, uint32_t slot)
{
    return queue->indirect || queue->ring.is_packed ? slot : slot * queue->chain_length;
}

void ski_blk_queue_reset(struct ski_blk_queue *queue)
{
    for (uint32_t head = 0; head < queue->size; head++) {
        queue->slot_of_head[head] = SKI_BLK_NO_SLOT;
    }
    for (uint32_t slot = 0; slot < queue->slot_count; slot++) {
        queue->slots[slot] = (struct ski_blk_slot){
            .data = ski_blk_chain_of(queue, slot) + SKI_BLK_CHAIN_DATA,
            .base = (uint16_t)ski_blk_base_of(queue, slot),
            .segments = SKI_BLK_NO_CHAIN,
        };
        queue->free_slots[slot] = (uint16_t)(queue->slot_count - 1 - slot);
        queue->slot_of_head[id_of(queue, slot)] = (uint16_t)slot;
        prepare_slot(queue, slot);
    }
    queue->free_count = queue->slot_count;
    queue->waiting = NULL;
    queue->waiting_last = &queue->waiting;
    if (queue->refused == NULL) { /* those of an earlier life still want their callback */
        queue->refused_last = &queue->refused;
    }
    queue->config_events_seen = queue->blk->config_events;
    queue->next_tick_ns = 0;
    ski_ring_interrupts_off(&queue->ring);
}

void ski_blk_make_available_packed(struct ski_blk_queue *queue, uint32_t slot)
{
    uint32_t count = queue->slots[slot].segments + SKI_BLK_CHAIN_FIXED;
    uint32_t bytes = (uint32_t)sizeof(struct ski_ring_descriptor);

    if (queue->indirect) {
        ski_ring_packed_add(&queue->ring.packed, 1,
                            queue->chains_address.raw + slot * (queue->chain_length * bytes),
                            count * bytes, slot, SKI_RING_INDIRECT);
        return;
    }
    ski_ring_packed_put(&queue->ring.packed, count - 1, queue->statuses_address.raw + slot, 1,
                        slot, SKI_RING_WRITE);
    ski_ring_packed_add(&queue->ring.packed, count,
                        queue->headers_address.raw + slot * sizeof(struct ski_blk_header),
                        sizeof(struct ski_blk_header), slot, SKI_RING_NEXT);
}

void ski_blk_put_segment_packed(struct ski_blk_queue *queue, uint32_t slot, uint32_t index,
                                uint64_t address, uint32_t bytes, uint32_t flags)
{
    struct ski_ring_descriptor SKI_SHARED *descriptor = &queue->slots[slot].data[index];

    if (queue->indirect) {
        ski_door_store64(&descriptor->address, address);
        ski_door_store64(&descriptor->rest, ski_ring_packed_rest(bytes, 0, flags));
    } else {
        ski_ring_packed_put(&queue->ring.packed, SKI_BLK_CHAIN_DATA + index, address, bytes, slot,
                            flags | SKI_RING_NEXT);
    }
}
