/* SPDX-License-Identifier: MIT */
/* IN_ORDER: which chains a used entry speaks of, whatever id the device writes into it. */
#include "proof.h"

#include "block/virtio_blk_slot.h"

void prove_batch_split(void);
void prove_batch_packed(void);

static struct ski_blk_queue queue;

/* `behind` slots after the oldest one. */
static uint32_t slot_behind(uint32_t oldest, uint32_t behind)
{
    uint32_t slot = oldest + behind;

    return slot < queue.depth ? slot : slot - queue.depth;
}

static void check(bool packed)
{
    uint32_t oldest = ski_blk_oldest_slot(&queue, packed);
    uint32_t most = proof_below(queue.depth + 1);
    uint32_t other = proof_below(queue.depth);
    uint32_t id = (uint32_t)proof_any();
    uint32_t batch = ski_blk_batch_to(&queue, id, most, packed);

    proof_assert(oldest < queue.depth, "the oldest slot is one");
    proof_assert(batch <= most, "no more are answered than can be");
    if (batch != 0) {
        proof_assert(slot_behind(oldest, batch - 1) == id, "the last one of a batch is the id's");
    } else if (other < most) {
        proof_assert(slot_behind(oldest, other) != id, "an id that can be meant is believed");
    }
}

void prove_batch_split(void)
{
    queue.depth = 1u << proof_below(16);
    queue.ring.split.mask = queue.depth - 1;
    queue.ring.split.taken = (uint32_t)proof_any();
    check(false);
}

void prove_batch_packed(void)
{
    queue.depth = 1 + proof_below(SKI_RING_SIZE_MAX);
    queue.oldest_slot = (uint16_t)proof_below(queue.depth);
    check(true);
}

const struct proof_run proof_runs[] = {
    { "batch_split", prove_batch_split },
    { "batch_packed", prove_batch_packed },
    { NULL, NULL },
};
