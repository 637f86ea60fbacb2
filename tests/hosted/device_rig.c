/* SPDX-License-Identifier: MIT */
#include "device_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

uint64_t device_rig_random(struct device_rig *rig, uint64_t below)
{
    rig->random ^= rig->random << 13;
    rig->random ^= rig->random >> 7;
    rig->random ^= rig->random << 17;
    return rig->random % below;
}

static void lay_out_driver(struct device_rig *rig, struct ski_ring_layout *layout)
{
    const struct device_rig_options *options = &rig->options;

    if (options->packed) {
        ski_ring_packed_lay_out(options->size, layout);
        ski_ring_packed_init(&rig->packed, rig->memory, options->size, layout);
        rig->packed.event_idx = options->event_idx;
        if (options->start != 0) {
            /* As if the first lap were over and the second had come this far. */
            rig->packed.next = rig->packed.taken = options->start;
            rig->packed.next_marks = SKI_RING_PACKED_USED;
            rig->packed.taken_marks = 0;
            for (uint32_t i = 0; i < options->size; i++) {
                ski_door_store64(&rig->packed.descriptors[i].rest,
                                 i < options->start
                                     ? 0
                                     : ski_ring_packed_rest(0, 0, SKI_RING_PACKED_MARKS));
            }
        }
    } else {
        ski_ring_split_lay_out(options->size, 4, layout);
        ski_ring_split_init(&rig->split, rig->memory, options->size, layout);
        rig->split.event_idx = options->event_idx;
        rig->split.added = rig->split.published = rig->split.taken = options->start;
        ski_door_store16(rig->split.avail + SKI_RING_IDX, options->start);
        ski_door_store16(rig->split.used + SKI_RING_IDX, options->start);
    }
}

void device_rig_lay_out(struct device_rig *rig, uint8_t *memory)
{
    const struct device_rig_options *options = &rig->options;
    struct ski_device_region regions[2] = {
        { RIG_GUEST, RIG_USER, RIG_BORDER, memory, NULL, 0 },
        { RIG_GUEST + RIG_BORDER, RIG_USER + RIG_BORDER, RIG_BYTES - RIG_BORDER,
          memory + RIG_BORDER, NULL, 0 },
    };
    struct ski_ring_layout layout;
    uint8_t SKI_SHARED *shared = ski_door_share(memory);

    rig->memory = memory;
    rig->table.count = 0;
    assert_int_equal(ski_device_memory_add(&rig->table, &regions[1]), SK_OK);
    assert_int_equal(ski_device_memory_add(&rig->table, &regions[0]), SK_OK);
    rig->view = (struct ski_device_view){ &rig->table, NULL, options->indirect };
    lay_out_driver(rig, &layout);
    if (options->packed) {
        ski_device_packed_init(&rig->device_packed, shared, shared + layout.driver_area,
                               shared + layout.device_area, options->size);
        ski_device_packed_seek(&rig->device_packed, options->start, options->start == 0, 0);
        rig->device_packed.event_idx = options->event_idx;
    } else {
        ski_device_split_init(&rig->device_split, shared, shared + layout.driver_area,
                              shared + layout.device_area, options->size);
        ski_device_split_seek(&rig->device_split, options->start, options->start);
        rig->device_split.event_idx = options->event_idx;
    }
}

struct device_rig *device_rig_open(const struct device_rig_options *options, uint64_t seed)
{
    struct device_rig *rig = calloc(1, sizeof(*rig));
    void *memory =
        mmap(NULL, RIG_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    assert_non_null(rig);
    assert_ptr_not_equal(memory, MAP_FAILED);
    rig->options = *options;
    rig->random = seed * 2 + 1;
    rig->slot_count = options->packed || options->indirect ? options->size
                                                           : options->size / RIG_BUFFERS_MAX;
    if (rig->slot_count > RIG_SLOTS_MAX) {
        rig->slot_count = RIG_SLOTS_MAX;
    }
    device_rig_lay_out(rig, memory);
    return rig;
}

void device_rig_close(struct device_rig *rig)
{
    (void)munmap(rig->memory, RIG_BYTES);
    free(rig);
}

/* ---- The driver -------------------------------------------------------------------------- */

int device_rig_free_slot(struct device_rig *rig)
{
    uint32_t first = (uint32_t)device_rig_random(rig, rig->slot_count);
    uint32_t places = rig->options.packed && !rig->options.indirect ? RIG_BUFFERS_MAX : 1;

    if (rig->options.packed && rig->out_places + places > rig->options.size) {
        return -1;
    }
    for (uint32_t i = 0; i < rig->slot_count; i++) {
        uint32_t slot = (first + i) % rig->slot_count;

        if (!rig->slots[slot].out) {
            return (int)slot;
        }
    }
    return -1;
}

static void choose_buffers(struct device_rig *rig, struct rig_slot *slot)
{
    uint32_t readable;

    slot->count = 1 + (uint32_t)device_rig_random(rig, RIG_BUFFERS_MAX);
    readable = (uint32_t)device_rig_random(rig, slot->count + 1);
    for (uint32_t i = 0; i < slot->count; i++) {
        struct rig_buffer *buffer = &slot->buffers[i];

        buffer->bytes = 1 + (uint32_t)device_rig_random(rig, 8192);
        buffer->offset = device_rig_random(rig, 4) == 0
                             ? RIG_BORDER - device_rig_random(rig, buffer->bytes)
                             : RIG_DATA + device_rig_random(rig, RIG_BYTES - RIG_DATA -
                                                                     buffer->bytes);
        buffer->writable = i >= readable;
    }
}

static void put_table(struct device_rig *rig, uint32_t index, const struct rig_slot *slot)
{
    struct ski_ring_descriptor SKI_SHARED *table =
        (struct ski_ring_descriptor SKI_SHARED *)(void SKI_SHARED *)ski_door_share(
            rig->memory + RIG_TABLES + index * RIG_TABLE_BYTES);

    for (uint32_t i = 0; i < slot->count; i++) {
        const struct rig_buffer *buffer = &slot->buffers[i];
        uint32_t flags = buffer->writable ? SKI_RING_WRITE : 0;

        ski_door_store64(&table[i].address, RIG_GUEST + buffer->offset);
        if (rig->options.packed) {
            ski_door_store64(&table[i].rest, ski_ring_packed_rest(buffer->bytes, 0, flags));
        } else {
            flags |= i + 1 < slot->count ? SKI_RING_NEXT : 0;
            ski_door_store64(&table[i].rest, ski_ring_rest(buffer->bytes, flags, i + 1));
        }
    }
}

static void submit_split(struct device_rig *rig, uint32_t index, const struct rig_slot *slot)
{
    struct ski_ring_descriptor SKI_SHARED *descriptors = rig->split.descriptors;
    uint32_t head = rig->options.indirect ? index : index * RIG_BUFFERS_MAX;

    if (rig->options.indirect) {
        put_table(rig, index, slot);
        ski_door_store64(&descriptors[head].address,
                         RIG_GUEST + RIG_TABLES + index * RIG_TABLE_BYTES);
        ski_door_store64(&descriptors[head].rest,
                         ski_ring_rest(16 * slot->count, SKI_RING_INDIRECT, 0));
    }
    for (uint32_t i = 0; i < slot->count && !rig->options.indirect; i++) {
        const struct rig_buffer *buffer = &slot->buffers[i];
        uint32_t flags = (buffer->writable ? SKI_RING_WRITE : 0) |
                         (i + 1 < slot->count ? SKI_RING_NEXT : 0);

        ski_door_store64(&descriptors[head + i].address, RIG_GUEST + buffer->offset);
        ski_door_store64(&descriptors[head + i].rest,
                         ski_ring_rest(buffer->bytes, flags, head + i + 1));
    }
    ski_ring_split_add(&rig->split, (uint16_t)head);
}

static void submit_packed(struct device_rig *rig, uint32_t index, const struct rig_slot *slot)
{
    const struct rig_buffer *first = &slot->buffers[0];

    if (rig->options.indirect) {
        put_table(rig, index, slot);
        ski_ring_packed_add(&rig->packed, 1, RIG_GUEST + RIG_TABLES + index * RIG_TABLE_BYTES,
                            16 * slot->count, index, SKI_RING_INDIRECT);
        return;
    }
    for (uint32_t i = 1; i < slot->count; i++) {
        const struct rig_buffer *buffer = &slot->buffers[i];

        ski_ring_packed_put(&rig->packed, i, RIG_GUEST + buffer->offset, buffer->bytes, index,
                            (buffer->writable ? SKI_RING_WRITE : 0) |
                                (i + 1 < slot->count ? SKI_RING_NEXT : 0));
    }
    ski_ring_packed_add(&rig->packed, slot->count, RIG_GUEST + first->offset, first->bytes, index,
                        (first->writable ? SKI_RING_WRITE : 0) |
                            (slot->count > 1 ? SKI_RING_NEXT : 0));
}

void device_rig_submit(struct device_rig *rig, uint32_t index)
{
    struct rig_slot *slot = &rig->slots[index];

    assert_false(slot->out);
    choose_buffers(rig, slot);
    slot->out = true;
    slot->places = rig->options.packed && !rig->options.indirect ? slot->count : 1;
    rig->out_places += slot->places;
    if (rig->options.in_order) {
        rig->queue[rig->queue_count++] = index;
    }
    if (rig->options.packed) {
        submit_packed(rig, index, slot);
    } else {
        submit_split(rig, index, slot);
    }
}

bool device_rig_publish(struct device_rig *rig)
{
    if (rig->options.packed) {
        return rig->packed.unpublished != 0 && ski_ring_packed_publish(&rig->packed);
    }
    return ski_ring_split_publish(&rig->split);
}

/* The id of the next used entry; -1: there is none. */
static int peek_used(struct device_rig *rig, uint32_t *out_pending)
{
    uint16_t count;

    *out_pending = rig->queue_count;
    if (rig->options.packed) {
        return ski_ring_packed_is_used(&rig->packed) ? (int)ski_ring_packed_id(&rig->packed) : -1;
    }
    assert_int_equal(ski_ring_split_pending(&rig->split, &count), SK_OK);
    *out_pending = count;
    return count == 0 ? -1 : (int)ski_ring_split_id(&rig->split);
}

/* IN_ORDER: from the oldest slot to the one that the entry names; then the next one. */
static int harvest_in_order(struct device_rig *rig)
{
    uint32_t pending;
    uint32_t oldest;

    if (rig->batch == 0) {
        int id = peek_used(rig, &pending);

        if (id < 0) {
            return -1;
        }
        do {
            assert_true(rig->batch < rig->queue_count && rig->batch < pending);
        } while (rig->queue[rig->batch++] != (uint32_t)id);
    }
    oldest = rig->queue[0];
    if (rig->options.packed) {
        ski_ring_packed_skip(&rig->packed, rig->slots[oldest].places);
    } else {
        rig->split.taken++;
    }
    rig->batch--;
    rig->queue_count--;
    memmove(rig->queue, rig->queue + 1, rig->queue_count * sizeof(rig->queue[0]));
    rig->slots[oldest].out = false;
    rig->out_places -= rig->slots[oldest].places;
    return (int)oldest;
}

int device_rig_harvest(struct device_rig *rig)
{
    struct rig_slot *slot;
    uint32_t index;

    if (rig->options.in_order) {
        return harvest_in_order(rig);
    }
    if (rig->options.packed) {
        if (!ski_ring_packed_is_used(&rig->packed)) {
            return -1;
        }
        index = ski_ring_packed_id(&rig->packed);
        assert_true(index < rig->slot_count);
        ski_ring_packed_skip(&rig->packed, rig->slots[index].places);
    } else {
        uint16_t count;

        assert_int_equal(ski_ring_split_pending(&rig->split, &count), SK_OK);
        if (count == 0) {
            return -1;
        }
        index = ski_ring_split_take(&rig->split);
        index = rig->options.indirect ? index : index / RIG_BUFFERS_MAX;
        assert_true(index < rig->slot_count);
    }
    slot = &rig->slots[index];
    assert_true(slot->out);
    slot->out = false;
    rig->out_places -= slot->places;
    return (int)index;
}

bool device_rig_interrupts_on(struct device_rig *rig)
{
    return rig->options.packed ? ski_ring_packed_interrupts_on(&rig->packed)
                               : ski_ring_split_interrupts_on(&rig->split);
}

void device_rig_interrupts_off(struct device_rig *rig)
{
    if (rig->options.packed) {
        ski_ring_packed_interrupts_off(&rig->packed);
    } else {
        ski_ring_split_interrupts_off(&rig->split);
    }
}

/* ---- The device -------------------------------------------------------------------------- */

static enum sk_status take_packed(struct device_rig *rig)
{
    enum sk_status status =
        ski_device_chain_load_packed(&rig->chain, &rig->device_packed, rig->descriptors);

    if (status != SK_OK) {
        return status;
    }
    ski_device_packed_take(&rig->device_packed, rig->chain.places);
    return ski_device_chain_read_packed(&rig->chain, &rig->view, rig->descriptors);
}

enum sk_status device_rig_take(struct device_rig *rig)
{
    struct ski_device_split *ring = &rig->device_split;
    enum sk_status status;
    uint32_t count;
    uint16_t head;

    if (rig->options.packed) {
        return take_packed(rig);
    }
    status = ski_device_split_pending(ring, &count);
    if (status != SK_OK || count == 0) {
        return status != SK_OK ? status : SK_ERR_AGAIN;
    }
    head = ski_device_split_peek(ring, 0);
    ring->taken++;
    status = ski_device_chain_read_split(&rig->chain, &rig->view, ring, head);
    rig->chain.id = rig->options.indirect ? head : head / RIG_BUFFERS_MAX;
    return status;
}

void device_rig_check_chain(const struct device_rig *rig)
{
    const struct ski_device_chain *chain = &rig->chain;
    const struct rig_slot *slot = &rig->slots[chain->id];
    uint64_t sums[2] = { 0, 0 };
    uint32_t piece = 0;

    assert_true(chain->id < rig->slot_count);
    assert_true(slot->out);
    assert_int_equal(chain->places, slot->places);
    for (uint32_t i = 0; i < slot->count; i++) {
        const struct rig_buffer *buffer = &slot->buffers[i];
        uint64_t done = 0;

        while (done < buffer->bytes) {
            assert_true(piece < chain->count);
            assert_int_equal(piece >= chain->readable, buffer->writable);
            assert_ptr_equal(chain->pieces[piece].iov_base, rig->memory + buffer->offset + done);
            done += chain->pieces[piece++].iov_len;
        }
        assert_int_equal(done, buffer->bytes);
        sums[buffer->writable] += done;
    }
    assert_int_equal(piece, chain->count);
    assert_int_equal(sums[0], chain->readable_bytes);
    assert_int_equal(sums[1], chain->writable_bytes);
}

void device_rig_give(struct device_rig *rig, uint32_t slot, uint32_t places)
{
    if (rig->options.packed) {
        ski_device_packed_give(&rig->device_packed, slot, 1, places);
    } else {
        ski_device_split_give(&rig->device_split,
                              rig->options.indirect ? slot : slot * RIG_BUFFERS_MAX, 1);
    }
}

bool device_rig_publish_used(struct device_rig *rig)
{
    if (rig->options.packed) {
        ski_device_packed_publish(&rig->device_packed);
        return ski_device_packed_wants_interrupt(&rig->device_packed);
    }
    ski_device_split_publish(&rig->device_split);
    return ski_device_split_wants_interrupt(&rig->device_split);
}

bool device_rig_kicks_on(struct device_rig *rig)
{
    return rig->options.packed ? ski_device_packed_kicks_on(&rig->device_packed)
                               : ski_device_split_kicks_on(&rig->device_split);
}

void device_rig_kicks_off(struct device_rig *rig)
{
    if (rig->options.packed) {
        ski_device_packed_kicks_off(&rig->device_packed);
    } else {
        ski_device_split_kicks_off(&rig->device_split);
    }
}
