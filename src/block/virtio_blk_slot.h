/* SPDX-License-Identifier: MIT */
/*
 * Slots: what a request at the device consists of, and the few stores that
 * start one.  Inline where they are on every request's way in a split ring;
 * inlining the packed ring's too costs the split one more than it saves there.
 */
#ifndef SKI_BLOCK_VIRTIO_BLK_SLOT_H
#define SKI_BLOCK_VIRTIO_BLK_SLOT_H

#include "block/virtio_blk.h"

/* What one part of a request consists of. */
struct ski_blk_part {
    uint32_t type;
    uint32_t segment_flags; /* SKI_RING_WRITE where the device writes */
    uint64_t sector;
    uint32_t bytes;
    uint32_t count; /* segments */
};

static inline bool ski_blk_is_ready(const struct ski_blk_queue *queue)
{
    return atomic_load_explicit(&queue->blk->block.state, memory_order_acquire) ==
           SK_BLOCK_STATE_READY;
}

/* Where a slot's chain begins: its own table, or its part of the descriptor table. */
static inline struct ski_ring_descriptor SKI_SHARED *
ski_blk_chain_of(const struct ski_blk_queue *queue, uint32_t slot)
{
    return queue->chains + slot * queue->chain_length;
}

/* The index of a chain's first descriptor, as links and heads count. */
static inline uint32_t ski_blk_base_of(const struct ski_blk_queue *queue, uint32_t slot)
{
    return queue->indirect ? 0 : slot * queue->chain_length;
}

/*
 * Ends a slot's chain behind `count` data segments.  Done only when the number
 * differs from the slot's last one, which it rarely does.
 */
void ski_blk_end_chain(struct ski_blk_queue *queue, uint32_t slot, uint32_t count);

/*
 * Makes a slot's chain available in a packed ring.  Descriptors have no fixed
 * place there: the header and the status are written anew, or the one
 * descriptor that points at the table.
 */
void ski_blk_make_available_packed(struct ski_blk_queue *queue, uint32_t slot);

/* Starts one part in a free slot; the data descriptors are written already. */
static inline void ski_blk_start_slot(struct ski_blk_queue *queue, uint32_t slot,
                                      struct sk_block_request *request,
                                      const struct ski_blk_part *part)
{
    struct ski_blk_slot *private = &queue->slots[slot];

    if (private->segments != part->count) {
        ski_blk_end_chain(queue, slot, part->count);
    }
    ski_door_store64(&queue->headers[slot].type, part->type);
    ski_door_store64(&queue->headers[slot].sector, part->sector);
    ski_door_store8(&queue->statuses[slot], SKI_BLK_STATUS_POISON);
    private->request = request;
    private->bytes = part->bytes;
    private->tick = queue->tick;
    request->parts++;
    queue->free_count--;
    if (queue->ring.is_packed) {
        ski_blk_make_available_packed(queue, slot);
    } else {
        ski_ring_split_add(&queue->ring.split, queue->indirect ? (uint16_t)slot : private->base);
    }
}

/* One data segment in a packed ring, or in a table of one, where only WRITE counts. */
void ski_blk_put_segment_packed(struct ski_blk_queue *queue, uint32_t slot, uint32_t index,
                                uint64_t address, uint32_t bytes, uint32_t flags);

/* One data segment; `flags` is SKI_RING_WRITE or nothing.  Links are all to the next descriptor. */
static inline void ski_blk_put_segment(struct ski_blk_queue *queue, uint32_t slot, uint32_t index,
                                       uint64_t address, uint32_t bytes, uint32_t flags)
{
    const struct ski_blk_slot *private = &queue->slots[slot];
    uint32_t next = private->base + SKI_BLK_CHAIN_DATA + index + 1;

    if (queue->ring.is_packed) {
        ski_blk_put_segment_packed(queue, slot, index, address, bytes, flags);
        return;
    }
    ski_door_store64(&private->data[index].address, address);
    ski_door_store64(&private->data[index].rest,
                     ski_ring_rest(bytes, flags | SKI_RING_NEXT, next));
}

/* Appends to a list of requests. */
static inline void ski_blk_append(struct sk_block_request ***last,
                                  struct sk_block_request *request)
{
    request->next = NULL;
    **last = request;
    *last = &request->next;
}

/* The limits of an operation on a range of sectors; NULL: it is another operation. */
const struct sk_block_range_limits *ski_blk_range_limits(const struct ski_blk_queue *queue,
                                                         enum sk_block_operation operation);

/*
 * Looks at a request in full and counts its bytes.  SK_OK: to be issued;
 * SK_ERR_AGAIN: nothing to do, it is done; else the status it is refused with.
 */
enum sk_status ski_blk_check(const struct ski_blk_queue *queue, struct sk_block_request *request);

/*
 * Puts as much of a checked request as there are slots for.  True: all of it is
 * at the device, or (status not SK_OK) the rest never will be.
 */
bool ski_blk_issue(struct ski_blk_queue *queue, struct sk_block_request *request);

/* The device broke the protocol: says so and stops it. */
void ski_blk_violated(struct ski_blk_queue *queue, const char *what, uint32_t value);

/* Ages the requests at the device; stops it when one is overdue. */
void ski_blk_look_at_clock(struct ski_blk_queue *queue);

/* Follows configuration changes that the interrupt handler counted. */
void ski_blk_look_at_events(struct ski_blk_queue *queue);

/* The platform's clock. */
uint64_t ski_blk_now(const struct ski_blk_queue *queue);

#endif
