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
    ski_door_store64(&header->address, ski_blk_frame_address(queue, slot));
    ski_door_store64(&header->rest,
                     rest_of(queue, sizeof(struct ski_blk_header), SKI_RING_NEXT,
                             (slot & queue->link_mask) + SKI_BLK_CHAIN_DATA));
    if (queue->indirect && !queue->ring.is_packed) {
        ski_door_store64(&queue->ring.split.descriptors[slot].address,
                         ski_blk_table_address(queue, slot));
    }
}

/* Where a part's answer goes, and how long it is. */
static uint32_t answer_of(const struct ski_blk_queue *queue, uint32_t slot, bool append,
                          uint64_t *out_address)
{
    if (append) {
        *out_address = ski_blk_frame_address(queue, slot) +
                       offsetof(struct ski_blk_frame, append_sector);
        return SKI_BLK_APPEND_ANSWER_BYTES;
    }
    *out_address = ski_blk_status_address(queue, slot);
    return 1;
}

/* A chain that ends in an append's answer is nobody else's: the next part writes its own end. */
static void end_chain(struct ski_blk_queue *queue, uint32_t slot, uint32_t count, bool append)
{
    struct ski_ring_descriptor SKI_SHARED *status =
        ski_blk_chain_of(queue, slot) + SKI_BLK_CHAIN_DATA + count;
    uint64_t address;
    uint32_t bytes = answer_of(queue, slot, append, &address);

    ski_blk_set_segments(&queue->slots[slot], (uint8_t)count);
    if (!has_place(queue)) {
        return;
    }
    if (append) {
        ski_blk_set_segments(&queue->slots[slot], SKI_BLK_NO_CHAIN);
    }
    ski_door_store64(&status->address, address);
    ski_door_store64(&status->rest, rest_of(queue, bytes, SKI_RING_WRITE, 0));
    if (queue->indirect && !queue->ring.is_packed) {
        ski_door_store64(&queue->ring.split.descriptors[slot].rest,
                         ski_ring_rest(ski_blk_table_bytes(count), SKI_RING_INDIRECT, 0));
    }
}

void ski_blk_end_chain(struct ski_blk_queue *queue, uint32_t slot, uint32_t count)
{
    end_chain(queue, slot, count, false);
}

static void reset_slot(struct ski_blk_queue *queue, uint32_t slot)
{
    queue->slots[slot].data = ski_blk_chain_of(queue, slot) + SKI_BLK_CHAIN_DATA;
    queue->slots[slot].frame = queue->frames + slot;
    prepare_slot(queue, slot);
}

void ski_blk_queue_reset(struct ski_blk_queue *queue)
{
    /* What the device returns for a slot: its chain's head, or the buffer id of a packed ring. */
    uint32_t stride = queue->indirect || queue->ring.is_packed ? 1 : queue->chain_length;

    queue->slot_limit = (queue->depth - 1) * stride + 1;
    for (uint32_t slot = 0; slot < queue->slot_limit; slot++) {
        queue->slots[slot] =
            (struct ski_blk_slot){ .start = ski_blk_start_word(0, 0, SKI_BLK_NO_CHAIN, 0) };
    }
    for (uint32_t i = 0; i < queue->depth; i++) {
        queue->free_slots[i] = (uint16_t)((queue->depth - 1 - i) * stride);
        reset_slot(queue, queue->free_slots[i]);
    }
    queue->free_count = queue->depth;
    if (queue->waiting == NULL) { /* those of an earlier life want to go again, */
        queue->waiting_last = &queue->waiting;
    }
    if (queue->refused == NULL) { /* or want their callback */
        queue->refused_last = &queue->refused;
    }
    queue->table_bias = queue->tables_address.raw - (uintptr_t)queue->slots[0].data;
    queue->frames_bias = queue->frames_address.raw - (uintptr_t)queue->frames;
    queue->special =
        queue->notification_data ||
        (queue->ring.is_packed ? queue->ring.packed.device_order : queue->ring.split.device_order);
    queue->next_tick_ns = 0;
    queue->next_deadline_ns = UINT64_MAX;
    ski_blk_set_mark(queue, queue->mark | SKI_BLK_WHOLE);
    ski_blk_order_reset(queue);
    ski_ring_interrupts_off(&queue->ring);
}

/*
 * Makes a slot's chain available in a packed ring.  Descriptors have no fixed
 * place there: the header and the status are written anew, or the one
 * descriptor that points at the table.
 */
static void add_packed(struct ski_blk_queue *queue, uint32_t slot,
                       const struct ski_blk_part *part)
{
    uint32_t count = part->count;
    uint64_t address;
    uint32_t bytes = answer_of(queue, slot, part->append, &address);

    if (queue->indirect) {
        ski_ring_packed_add(&queue->ring.packed, 1, ski_blk_table_address(queue, slot),
                            ski_blk_table_bytes(count), slot, SKI_RING_INDIRECT);
        return;
    }
    ski_ring_packed_put(&queue->ring.packed, SKI_BLK_CHAIN_DATA + count, address, bytes, slot,
                        SKI_RING_WRITE);
    ski_ring_packed_add(&queue->ring.packed, count + SKI_BLK_CHAIN_FIXED,
                        ski_blk_frame_address(queue, slot), sizeof(struct ski_blk_header), slot,
                        SKI_RING_NEXT);
}

void ski_blk_start_slot(struct ski_blk_queue *queue, struct sk_block_request *request,
                        const struct ski_blk_part *part)
{
    uint32_t slot = ski_blk_next_slot(queue);
    struct ski_blk_slot *private = &queue->slots[slot];

    if (part->append || ski_blk_segments_of(private) != part->count) {
        end_chain(queue, slot, part->count, part->append);
    }
    if (part->append) {
        ski_door_store64(&private->frame->append_sector, UINT64_MAX); /* nobody appends there */
    }
    ski_door_store64(&private->frame->header.type, part->type);
    ski_door_store64(&private->frame->header.sector, part->sector);
    ski_door_store8(&private->frame->status, SKI_BLK_STATUS_POISON);
    private->request = request;
    private->start = ski_blk_start_word(
        part->bytes, (uint16_t)(queue->ring.is_packed ? queue->started++ : queue->ring.split.added),
        ski_blk_segments_of(private), queue->mark & (uint8_t)~SKI_BLK_WHOLE);
    request->parts++;
    request->after |= SKI_BLK_AFTER_BEGUN;
    queue->free_count--;
    if (queue->ring.is_packed) {
        queue->next_slot = ski_blk_slot_after(queue, slot);
        add_packed(queue, slot, part);
    } else {
        ski_ring_split_add(&queue->ring.split, (uint16_t)slot);
    }
}

uint64_t ski_blk_data_rest(const struct ski_blk_queue *queue, uint32_t flags)
{
    if (!queue->ring.is_packed) {
        return ski_blk_link(queue, 0, 0, 0, flags);
    }
    return ski_ring_packed_rest(0, 0, queue->indirect ? flags : flags | SKI_RING_NEXT);
}

void ski_blk_put_segment(struct ski_blk_queue *queue, uint32_t slot, uint32_t index,
                         uint64_t address, uint32_t bytes, uint32_t flags)
{
    struct ski_ring_descriptor SKI_SHARED *descriptor = &queue->slots[slot].data[index];

    if (queue->ring.is_packed && !queue->indirect) {
        ski_ring_packed_put(&queue->ring.packed, SKI_BLK_CHAIN_DATA + index, address, bytes, slot,
                            flags | SKI_RING_NEXT);
        return;
    }
    ski_door_store64(&descriptor->address, address);
    ski_door_store64(&descriptor->rest, queue->ring.is_packed
                                            ? ski_ring_packed_rest(bytes, 0, flags)
                                            : ski_blk_link(queue, slot, index, bytes, flags));
}
