/* SPDX-License-Identifier: MIT */
/* The parts of slots that are written once, or rarely. */
#include "block/virtio_blk_slot.h"

/* Writes what never changes of a slot's chain. */
static void prepare_slot(struct ski_blk_queue *queue, uint32_t slot)
{
    struct ski_ring_descriptor SKI_SHARED *header = ski_blk_chain_of(queue, slot);

    ski_door_store64(&header->address,
                     queue->headers_address.raw + slot * sizeof(struct ski_blk_header));
    ski_door_store64(&header->rest,
                     ski_ring_rest(sizeof(struct ski_blk_header), SKI_RING_NEXT,
                                   ski_blk_base_of(queue, slot) + SKI_BLK_CHAIN_DATA));
    if (queue->indirect) {
        ski_door_store64(&queue->ring.descriptors[slot].address,
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
    ski_door_store64(&status->address, queue->statuses_address.raw + slot);
    ski_door_store64(&status->rest, ski_ring_rest(1, SKI_RING_WRITE, 0));
    if (queue->indirect) {
        ski_door_store64(&queue->ring.descriptors[slot].rest,
                         ski_ring_rest(table_bytes, SKI_RING_INDIRECT, 0));
    }
}

void ski_blk_queue_reset(struct ski_blk_queue *queue)
{
    for (uint32_t head = 0; head < queue->ring.size; head++) {
        queue->slot_of_head[head] = SKI_BLK_NO_SLOT;
    }
    for (uint32_t slot = 0; slot < queue->slot_count; slot++) {
        queue->slots[slot] = (struct ski_blk_slot){
            .data = ski_blk_chain_of(queue, slot) + SKI_BLK_CHAIN_DATA,
            .base = (uint16_t)ski_blk_base_of(queue, slot),
            .segments = SKI_BLK_NO_CHAIN,
        };
        queue->free_slots[slot] = (uint16_t)(queue->slot_count - 1 - slot);
        queue->slot_of_head[queue->indirect ? slot : slot * queue->chain_length] = (uint16_t)slot;
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
    ski_ring_split_interrupts_off(&queue->ring);
}
