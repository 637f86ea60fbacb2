/* SPDX-License-Identifier: MIT */
/*
 * A device that uses requests in the order in which it was given them
 * (IN_ORDER).  The driver knows then which answer comes next, so slots need no
 * list, and the device may write one used entry for many requests: it names the
 * last one, and the used index, or the place of the next entry in a packed
 * ring, moves by as many as there are.
 *
 * An id is believed if it names one of those that can be meant.  Each request of
 * the batch has its own status byte, and each is looked at, as ever.
 * Spec: Virtio 1.2, 2.7.5, 2.7.9 and 2.8.9.
 */
#include "block/virtio_blk_slot.h"

void ski_blk_order_reset(struct ski_blk_queue *queue)
{
    queue->next_slot = 0;
    queue->oldest_slot = 0;
    queue->ring.batch = 0;
    if (queue->in_order && !queue->ring.is_packed) {
        ski_ring_split_fill(&queue->ring.split);
    }
}

static uint32_t in_flight(const struct ski_blk_queue *queue)
{
    return queue->depth - queue->free_count;
}

uint32_t ski_blk_order_starts_since(const struct ski_blk_queue *queue,
                                    const struct ski_blk_slot *slot)
{
    uint32_t next = ski_blk_slot_in_turn(queue, queue->ring.is_packed);
    uint32_t id = (uint32_t)(slot - queue->slots);

    return next > id ? next - id : next + queue->depth - id;
}

bool ski_blk_order_knows(const struct ski_blk_queue *queue, uint32_t id)
{
    return ski_blk_batch_to(queue, id, in_flight(queue), queue->ring.is_packed) != 0;
}

/* Looks at the next used entry, if there is one; true: it begins a batch. */
static bool begin_batch(struct ski_blk_queue *queue, struct ski_blk_odd *out_odd)
{
    bool packed = queue->ring.is_packed;
    uint16_t pending = (uint16_t)in_flight(queue);
    uint32_t id;

    if (packed) {
        if (!ski_ring_packed_is_used(&queue->ring.packed)) {
            return false;
        }
        id = ski_ring_packed_id(&queue->ring.packed);
    } else {
        if (ski_ring_split_pending(&queue->ring.split, &pending) != SK_OK) {
            *out_odd = (struct ski_blk_odd){ SKI_BLK_ODD_INDEX, pending };
            return false;
        }
        if (pending == 0) {
            return false;
        }
        id = ski_ring_split_id(&queue->ring.split);
    }
    queue->ring.batch = ski_blk_batch_to(queue, id, pending, packed);
    if (queue->ring.batch == 0) {
        *out_odd = (struct ski_blk_odd){ SKI_BLK_ODD_BATCH, id };
    }
    return queue->ring.batch != 0;
}

struct ski_blk_odd ski_blk_order_next(struct ski_blk_queue *queue)
{
    struct ski_blk_odd odd = { SKI_BLK_ODD_NOT, 0 };

    if (queue->ring.batch == 0 && !begin_batch(queue, &odd)) {
        return odd;
    }
    odd.value = ski_blk_oldest_slot(queue, queue->ring.is_packed);
    odd.what = ski_door_load8(&queue->slots[odd.value].frame->status);
    return odd;
}

void ski_blk_order_pass(struct ski_blk_queue *queue)
{
    queue->ring.batch--;
    if (queue->ring.is_packed) {
        ski_ring_packed_skip(&queue->ring.packed,
                             ski_blk_descriptors_of(queue, queue->oldest_slot));
        queue->oldest_slot = ski_blk_slot_after(queue, queue->oldest_slot);
    } else {
        queue->ring.split.taken++;
    }
}
