/* SPDX-License-Identifier: MIT */
/*
 * Rings of any size against a device (and our back end's against a driver) that
 * writes anything at any time: one operation from any private state that keeps
 * the ring's own rules.  It touches nothing outside of the ring's memory and
 * keeps the rules, so any number of them do.
 */
#include "proof.h"

#include "device_ring_packed.h"
#include "device_ring_split.h"
#include "virtio/ring.h"

void prove_ring_split(void);
void prove_ring_packed_add(void);
void prove_ring_packed_publish(void);
void prove_ring_packed_take(void);
void prove_ring_packed_interrupts(void);
void prove_ring_device_split(void);
void prove_ring_device_packed(void);

static _Alignas(16) uint8_t memory[SKI_RING_SIZE_MAX * 26u + 128u];

/* What the ring is laid out in: not a byte more than it has. */
static uint8_t *memory_of(uint64_t bytes)
{
    proof_assert(bytes <= sizeof(memory), "a ring is as long as the specification says");
    return memory + (sizeof(memory) - bytes) / 16 * 16;
}

/* ---- Split, the driver ------------------------------------------------------------------- */

static struct ski_ring_split split;

static void any_split(void)
{
    struct ski_ring_layout layout;
    uint16_t size = (uint16_t)(1u << proof_below(16));
    uint32_t alignment = proof_maybe() ? 4 : 64;

    ski_ring_split_lay_out(size, alignment, &layout);
    ski_ring_split_init(&split, memory_of(layout.bytes), size, &layout);
    split.event_idx = proof_maybe();
    split.device_order = proof_maybe();
    split.taken = (uint32_t)proof_any();
    split.published = split.taken + proof_below(size + 1u);
    split.added = split.published + proof_below(size + 1u - (split.published - split.taken));
}

static void check_split(uint32_t size)
{
    proof_assert(split.size == size && split.mask == size - 1, "a ring keeps its size");
    proof_assert(split.added - split.taken <= size, "no more heads are out than there are places");
    proof_assert(split.published - split.taken <= split.added - split.taken,
                 "no more were published than added");
}

void prove_ring_split(void)
{
    uint32_t size;
    uint32_t taken;
    uint16_t pending = 0;

    any_split();
    size = split.size;
    taken = split.taken;
    switch (proof_below(6)) {
    case 0:
        if (split.added - taken < size) {
            ski_ring_split_add(&split, (uint16_t)proof_any());
        }
        break;
    case 1:
        (void)ski_ring_split_publish(&split);
        proof_assert(split.published == split.added, "the device was told of all");
        break;
    case 2:
        if (ski_ring_split_pending(&split, &pending) == SK_OK) {
            proof_assert(pending <= split.published - taken, "no more are used than are out");
            if (pending > 0) {
                (void)ski_ring_split_id(&split);
                (void)ski_ring_split_take(&split);
                proof_assert(split.taken == taken + 1, "one is taken");
            }
        }
        break;
    case 3:
        ski_ring_split_interrupts_off(&split);
        break;
    case 4:
        (void)ski_ring_split_interrupts_on(&split);
        break;
    default:
        (void)ski_ring_split_interrupts_at(&split, proof_below(size));
        (void)ski_ring_split_has_used(&split);
        break;
    }
    check_split(size);
}

/* ---- Packed, the driver ------------------------------------------------------------------ */

static struct ski_ring_packed packed;

/* Descriptors that are out. */
static uint32_t packed_out(void)
{
    bool same_lap = packed.next_marks == (packed.taken_marks ^ SKI_RING_PACKED_USED);

    return packed.next - packed.taken + (same_lap ? 0 : packed.size);
}

static void check_packed(void)
{
    uint32_t size = packed.size;

    proof_assert(packed.next < size && packed.taken < size, "positions are in the ring");
    proof_assert(packed.next_marks == SKI_RING_PACKED_AVAILABLE ||
                     packed.next_marks == SKI_RING_PACKED_USED,
                 "a lap's marks are one of two");
    proof_assert(packed.taken_marks == 0 || packed.taken_marks == SKI_RING_PACKED_MARKS,
                 "a lap's marks are one of two");
    proof_assert(packed_out() <= size, "no more are out than there are places");
    proof_assert(packed.unpublished <= packed_out(), "what was not published is not used");
}

static uint16_t packed_size(void)
{
#if defined(RING_SIZE)
    return RING_SIZE;
#else
    return (uint16_t)(1 + proof_below(SKI_RING_SIZE_MAX));
#endif
}

static void any_packed(void)
{
    struct ski_ring_layout layout;
    uint16_t size = packed_size();
    uint32_t out = proof_below(size + 1u);

    ski_ring_packed_lay_out(size, &layout);
    ski_ring_packed_init(&packed, memory_of(layout.bytes), size, &layout);
    packed.event_idx = proof_maybe();
    packed.device_order = proof_maybe();
    packed.taken = packed.next = proof_below(size);
    packed.taken_marks = proof_maybe() ? SKI_RING_PACKED_MARKS : 0;
    packed.next_marks = packed.taken_marks ^ SKI_RING_PACKED_USED;
    ski_ring_packed_move(size, &packed.next, &packed.next_marks, out);
    packed.unpublished = proof_below(out + 1);
    packed.held = packed.descriptors + proof_below(size); /* of the first that is unpublished */
}

/* A chain of `count`, from its end to its beginning as the driver writes them. */
static void add_packed(uint32_t count)
{
    uint32_t out = packed_out();
    uint32_t behind = proof_below(count);

    if (behind > 0) {
        ski_ring_packed_put(&packed, behind, proof_any(), (uint32_t)proof_any(),
                            (uint16_t)proof_any(), (uint16_t)proof_any());
    }
    ski_ring_packed_add(&packed, count, proof_any(), (uint32_t)proof_any(), (uint16_t)proof_any(),
                        (uint16_t)proof_any());
    proof_assert(packed_out() == out + count, "a chain is out");
}

void prove_ring_packed_add(void)
{
    uint32_t out;

    any_packed();
    out = packed_out();
    if (out < packed.size) {
        add_packed(1 + proof_below(packed.size - out));
    }
    check_packed();
}

void prove_ring_packed_publish(void)
{
    any_packed();
    if (packed.unpublished > 0) {
        (void)ski_ring_packed_publish(&packed);
        proof_assert(packed.unpublished == 0, "the device was told of all");
    }
    check_packed();
}

void prove_ring_packed_take(void)
{
    uint32_t out;
    uint32_t count;

    any_packed();
    out = packed_out();
    if (out > packed.unpublished && ski_ring_packed_is_used(&packed)) {
        (void)ski_ring_packed_id(&packed);
        count = 1 + proof_below(out - packed.unpublished);
        ski_ring_packed_skip(&packed, count);
        proof_assert(packed_out() == out - count, "a chain is taken");
    }
    check_packed();
}

void prove_ring_packed_interrupts(void)
{
    any_packed();
    ski_ring_packed_interrupts_off(&packed);
    (void)ski_ring_packed_interrupts_on(&packed);
    (void)ski_ring_packed_interrupts_at(&packed, proof_below(packed.size));
    check_packed();
}

/* ---- The other side ---------------------------------------------------------------------- */

static uint8_t SKI_SHARED *shared(uint64_t bytes)
{
    return ski_door_share(memory_of(bytes));
}

void prove_ring_device_split(void)
{
    struct ski_device_split ring = { .event_idx = proof_maybe() };
    uint16_t size = (uint16_t)(1u << proof_below(16));
    uint64_t table = (uint64_t)size * sizeof(struct ski_ring_descriptor);
    uint64_t avail = (ski_device_split_avail_bytes(size) + 3) & ~UINT64_C(3);
    uint8_t SKI_SHARED *base = shared(table + avail + ski_device_split_used_bytes(size));
    uint32_t outstanding = proof_below(size + 1u);
    uint32_t pending;

    ski_device_split_init(&ring, base, base + table, base + table + avail, size);
    ski_device_split_seek(&ring, (uint16_t)proof_any(), 0);
    ring.given = (uint16_t)(ring.taken - outstanding);
    ring.published = (uint16_t)(ring.given - proof_below(size + 1u));
    switch (proof_below(4)) {
    case 0:
        if (ski_device_split_pending(&ring, &pending) == SK_OK) {
            proof_assert(pending + outstanding <= size, "no more heads than places");
            (void)ski_device_split_peek(&ring, proof_below(size));
        }
        break;
    case 1:
        if (outstanding > 0) {
            ski_device_split_give_many(&ring, (uint32_t)proof_any(), (uint32_t)proof_any(),
                                       1 + proof_below(outstanding));
            proof_assert((uint16_t)(ring.taken - ring.given) < outstanding, "they are given back");
        }
        break;
    case 2:
        ski_device_split_publish(&ring);
        (void)ski_device_split_wants_interrupt(&ring);
        break;
    default:
        ski_device_split_kicks_off(&ring);
        (void)ski_device_split_kicks_on(&ring);
        (void)ski_device_split_used_index(&ring);
        break;
    }
    proof_assert((uint16_t)(ring.taken - ring.given) <= size, "no more are out than places");
}

void prove_ring_device_packed(void)
{
    struct ski_device_packed ring = { .event_idx = proof_maybe() };
    uint16_t size = (uint16_t)(1 + proof_below(SKI_RING_SIZE_MAX));
    uint64_t table = (uint64_t)size * sizeof(struct ski_ring_descriptor);
    uint8_t SKI_SHARED *base = shared(table + 8);
    uint16_t outstanding = (uint16_t)proof_below(size + 1u);
    uint64_t address;
    uint64_t rest;

    ski_device_packed_init(&ring, base, base + table, base + table + 4, size);
    ski_device_packed_seek(&ring, (uint16_t)proof_below(size), proof_maybe(), outstanding);
    switch (proof_below(3)) {
    case 0:
        if (outstanding < size && ski_device_packed_peek(&ring, &address, &rest)) {
            ski_device_packed_take(&ring, 1 + proof_below(size - outstanding));
        }
        break;
    case 1:
        if (outstanding > 0) {
            ski_device_packed_give(&ring, (uint32_t)proof_any(), (uint32_t)proof_any(),
                                   1 + proof_below(outstanding));
            ski_device_packed_publish(&ring);
            (void)ski_device_packed_wants_interrupt(&ring);
        }
        break;
    default:
        ski_device_packed_kicks_off(&ring);
        (void)ski_device_packed_kicks_on(&ring);
        break;
    }
    proof_assert(ring.next < size && ring.used < size, "positions are in the ring");
    proof_assert(ring.outstanding <= size, "no more are out than places");
    proof_assert(ring.used + ring.outstanding == ring.next + (ring.next_wrap == ring.used_wrap ? 0u : size),
                 "what is between the positions is out");
}

const struct proof_run proof_runs[] = {
    { "ring_split", prove_ring_split },
    { "ring_packed_add", prove_ring_packed_add },
    { "ring_packed_publish", prove_ring_packed_publish },
    { "ring_packed_take", prove_ring_packed_take },
    { "ring_packed_interrupts", prove_ring_packed_interrupts },
    { "ring_device_split", prove_ring_device_split },
    { "ring_device_packed", prove_ring_device_packed },
    { NULL, NULL },
};
