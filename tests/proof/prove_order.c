/* SPDX-License-Identifier: MIT */
/*
 * The library's side of a ring and our back end's, each in its own thread, under
 * a memory model: no notification is lost, no interrupt either, and nobody sees
 * less than what the other one handed over.  See order.h.
 */
#include "order.h"

#include "proof.h"

#include "device_ring_packed.h"
#include "device_ring_split.h"
#include "virtio/ring.h"

void prove_order_kick(void);
void prove_order_kick_again(void);
void prove_order_interrupt(void);
void prove_order_gather(void);
void prove_order_reuse(void);

/* What a request's memory holds before and after; behind the ring. */
#define PAYLOAD ((sk_le64 *)(void *)(order_memory + ORDER_MEMORY_BYTES - 64))
#define BEFORE  UINT64_C(0x11)
#define AFTER   UINT64_C(0x22)

static struct ski_ring ring;
static struct ski_device_split device_split;
static struct ski_device_packed device_packed;

/* ---- Both kinds of ring as one ----------------------------------------------------------- */

/* Near the place where indexes wrap, or wrap counters flip. */
static void set_up(void)
{
    struct ski_ring_layout layout;

    if (ORDER_PACKED) {
        ski_ring_packed_lay_out(ORDER_SIZE, &layout);
        ring.is_packed = true;
        ski_ring_packed_init(&ring.packed, order_memory, ORDER_SIZE, &layout);
        ring.packed.event_idx = ORDER_EVENT_IDX;
        ring.packed.next = ORDER_SIZE - 1;
        ring.packed.taken = ORDER_SIZE - 1;
        ski_device_packed_init(&device_packed, order_memory, order_memory + layout.driver_area,
                               order_memory + layout.device_area, ORDER_SIZE);
        device_packed.event_idx = ORDER_EVENT_IDX;
        ski_device_packed_seek(&device_packed, ORDER_SIZE - 1, true, 0);
        return;
    }
    ski_ring_split_lay_out(ORDER_SIZE, 4, &layout);
    ski_ring_split_init(&ring.split, order_memory, ORDER_SIZE, &layout);
    ring.split.event_idx = ORDER_EVENT_IDX;
    ring.split.added = ring.split.published = ring.split.taken = 0xffff;
    ski_device_split_init(&device_split, order_memory, order_memory + layout.driver_area,
                          order_memory + layout.device_area, ORDER_SIZE);
    device_split.event_idx = ORDER_EVENT_IDX;
    ski_device_split_seek(&device_split, 0xffff, 0xffff);
    ski_door_store16(ring.split.avail + SKI_RING_IDX, 0xffff);
    ski_door_store16(ring.split.used + SKI_RING_IDX, 0xffff);
}

/* The driver writes memory and a descriptor for it, and makes that available. */
static void add(uint32_t id, uint64_t payload)
{
    ski_door_store64(&PAYLOAD[id], payload);
    if (ORDER_PACKED) {
        ski_ring_packed_add(&ring.packed, 1, payload, 8, id, 0);
        return;
    }
    ski_door_store64(&ring.split.descriptors[id].address, payload);
    ski_door_store64(&ring.split.descriptors[id].rest, ski_ring_rest(8, 0, 0));
    ski_ring_split_add(&ring.split, (uint16_t)id);
}

/* The device takes what is next, if there is something; it must be all there. */
static bool take(uint32_t id, uint64_t payload)
{
    uint64_t address;
    uint64_t rest;
    uint32_t pending;

    if (ORDER_PACKED) {
        if (!ski_device_packed_peek(&device_packed, &address, &rest)) {
            return false;
        }
        ski_device_packed_take(&device_packed, 1);
    } else {
        if (ski_device_split_pending(&device_split, &pending) != SK_OK || pending == 0) {
            return false;
        }
        order_claim(ski_device_split_peek(&device_split, 0) == id);
        device_split.taken++;
        address = ski_door_load64(&device_split.descriptors[id].address);
        rest = ski_door_load64(&device_split.descriptors[id].rest);
    }
    order_claim(address == payload && (uint32_t)rest == 8);
    order_claim(ski_door_load64(&PAYLOAD[id]) == payload);
    return true;
}

static bool kicks_on(void)
{
    return ORDER_PACKED ? ski_device_packed_kicks_on(&device_packed)
                        : ski_device_split_kicks_on(&device_split);
}

static void kicks_off(void)
{
    if (ORDER_PACKED) {
        ski_device_packed_kicks_off(&device_packed);
    } else {
        ski_device_split_kicks_off(&device_split);
    }
}

/* The device gives back what it took, with an answer in the request's memory. */
static void give(uint32_t id, uint64_t answer)
{
    ski_door_store64(&PAYLOAD[id], answer);
    if (ORDER_PACKED) {
        ski_device_packed_give(&device_packed, id, 8, 1);
        ski_device_packed_publish(&device_packed);
    } else {
        ski_device_split_give(&device_split, id, 8);
        ski_device_split_publish(&device_split);
    }
}

static bool wants_interrupt(void)
{
    return ORDER_PACKED ? ski_device_packed_wants_interrupt(&device_packed)
                        : ski_device_split_wants_interrupt(&device_split);
}

/* The driver takes an answer, if there is one; it must be all there. */
static bool take_answer(uint32_t id, uint64_t answer)
{
    uint16_t pending;

    if (ORDER_PACKED) {
        if (!ski_ring_packed_is_used(&ring.packed)) {
            return false;
        }
        order_claim(ski_ring_packed_id(&ring.packed) == id);
        ski_ring_packed_skip(&ring.packed, 1);
    } else {
        if (ski_ring_split_pending(&ring.split, &pending) != SK_OK || pending == 0) {
            return false;
        }
        order_claim(ski_ring_split_take(&ring.split) == id);
    }
    order_claim(ski_door_load64(&PAYLOAD[id]) == answer);
    return true;
}

/* ---- What is claimed ---------------------------------------------------------------------- */

/* The driver makes one request available while the device is about to sleep. */
void prove_order_kick(void)
{
    bool kicked;
    bool slept;
    bool took;

    set_up();
    if (proof_maybe()) {
        kicks_off();
    }
    order_run(ORDER_DRIVER);
    add(0, BEFORE);
    order_at(4);
    kicked = ski_ring_publish(&ring);
    order_at(9);
    order_run(ORDER_DEVICE);
    slept = !kicks_on();
    order_at(13);
    took = !slept && take(0, BEFORE);
    order_judge();
    proof_assert(kicked || !slept, "a device that sleeps is told of what it has not seen");
    proof_assert(slept || took, "who is told to look finds it");
    proof_assert(order_is_kept(), "what is taken is what was handed over");
}

/* And two, one after the other, while it takes the first and sleeps again. */
void prove_order_kick_again(void)
{
    bool first;
    bool second;
    bool took = false;
    bool slept;

    set_up();
    kicks_off();
    order_run(ORDER_DRIVER);
    add(0, BEFORE);
    order_at(4);
    first = ski_ring_publish(&ring);
    order_at(9);
    add(1, BEFORE);
    order_at(13);
    second = ski_ring_publish(&ring);
    order_at(18);
    order_run(ORDER_DEVICE);
    took = take(0, BEFORE);
    order_at(23);
    slept = !kicks_on();
    order_judge();
    proof_assert(!slept || second || (first && !took), "the last one is told of, or was seen");
    proof_assert(order_is_kept(), "what is taken is what was handed over");
}

/* The device has a request; that is how it begins. */
static void set_up_one(void)
{
    set_up();
    add(0, BEFORE);
    (void)ski_ring_publish(&ring);
    proof_assert(take(0, BEFORE), "the device has it");
}

/* The device answers while the driver is about to sleep. */
void prove_order_interrupt(void)
{
    bool interrupt;
    bool slept;
    bool took;

    set_up_one();
    if (proof_maybe()) {
        ski_ring_interrupts_off(&ring);
    }
    order_run(ORDER_DRIVER);
    slept = !ski_ring_interrupts_on(&ring);
    order_at(4);
    took = !slept && take_answer(0, AFTER);
    order_at(7);
    order_run(ORDER_DEVICE);
    give(0, AFTER);
    order_at(13);
    interrupt = wants_interrupt();
    order_judge();
    proof_assert(interrupt || !slept, "a driver that sleeps is told of what it has not seen");
    proof_assert(slept || took, "who is told to look finds it");
    proof_assert(order_is_kept(), "what is taken is what was handed over");
}

/* Two answers, of which the driver wants to hear of the second alone; with EVENT_IDX. */
void prove_order_gather(void)
{
    bool first;
    bool second;
    bool slept;

    set_up();
    add(0, BEFORE);
    add(1, BEFORE);
    (void)ski_ring_publish(&ring);
    proof_assert(take(0, BEFORE) && take(1, BEFORE), "the device has both");
    ski_ring_interrupts_off(&ring);
    order_run(ORDER_DRIVER);
    slept = !ski_ring_interrupts_at(&ring, 1);
    order_at(4);
    order_run(ORDER_DEVICE);
    give(0, AFTER);
    order_at(10);
    first = wants_interrupt();
    give(1, AFTER);
    order_at(17);
    second = wants_interrupt();
    order_judge();
    proof_assert(!slept || first || second, "a driver that sleeps is told of the second");
}

/* The driver takes an answer and uses the request's memory and descriptor again. */
void prove_order_reuse(void)
{
    bool took;

    set_up();
    add(0, BEFORE);
    (void)ski_ring_publish(&ring);
    order_run(ORDER_DRIVER);
    took = take_answer(0, AFTER);
    order_at(3);
    if (took) {
        add(0, AFTER + 1);
        (void)ski_ring_publish(&ring);
    }
    order_at(12);
    order_run(ORDER_DEVICE);
    if (take(0, BEFORE)) {
        order_at(17);
        give(0, AFTER);
    }
    order_judge();
    proof_assert(order_is_kept(), "neither sees what the other one writes too late");
}

const struct proof_run proof_runs[] = {
    { "order_kick", prove_order_kick },
    { "order_kick_again", prove_order_kick_again },
    { "order_interrupt", prove_order_interrupt },
#if ORDER_EVENT_IDX
    { "order_gather", prove_order_gather },
#endif
    { "order_reuse", prove_order_reuse },
    { NULL, NULL },
};
