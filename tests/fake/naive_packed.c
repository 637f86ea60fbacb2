/* SPDX-License-Identifier: MIT */
#include "fake/naive_packed.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include <linux/virtio_mmio.h>

#define MARKS (NAIVE_PACKED_AVAILABLE | NAIVE_PACKED_USED)

static void set_address(struct naive *naive, uint64_t low, uint64_t offset)
{
    uint64_t address = NAIVE_DADDR + naive->base + offset;

    naive_set(naive, low, (uint32_t)address);
    naive_set(naive, low + 4, (uint32_t)(address >> 32));
}

void naive_packed_set_up_queue(struct naive_packed *packed)
{
    struct naive *naive = packed->naive;

    naive_clear_rings(naive);
    packed->next = 0;
    packed->taken = 0;
    packed->next_wrap = true;
    packed->taken_wrap = true;
    packed->count = 0;
    naive_set(naive, VIRTIO_MMIO_QUEUE_SEL, naive->queue);
    assert_int_equal(naive_get(naive, VIRTIO_MMIO_QUEUE_READY), 0);
    assert_true(naive_get(naive, VIRTIO_MMIO_QUEUE_NUM_MAX) >= packed->size);
    naive_set(naive, VIRTIO_MMIO_QUEUE_NUM, packed->size);
    set_address(naive, VIRTIO_MMIO_QUEUE_DESC_LOW, 0);
    set_address(naive, VIRTIO_MMIO_QUEUE_AVAIL_LOW, NAIVE_PACKED_DRIVER_EVENT);
    set_address(naive, VIRTIO_MMIO_QUEUE_USED_LOW, NAIVE_PACKED_DEVICE_EVENT);
    naive_set(naive, VIRTIO_MMIO_QUEUE_READY, 1);
}

void naive_packed_start(struct naive_packed *packed, struct naive *naive, uint32_t size,
                        uint64_t features)
{
    assert_true(size <= NAIVE_PACKED_SIZE_MAX);
    memset(packed, 0, sizeof(*packed));
    packed->naive = naive;
    packed->size = size;
    naive_negotiate(naive, features);
    naive_read_capacity(naive);
    naive_packed_set_up_queue(packed);
    naive_set(naive, VIRTIO_MMIO_STATUS, 15);
}

uint32_t naive_packed_pieces(struct naive_packed *packed, unsigned slot, uint32_t type,
                             uint64_t sector, uint32_t bytes, struct naive_piece *out_pieces)
{
    uint32_t count = 0;

    naive_put_header(packed->naive, slot, type, sector);
    out_pieces[count++] = (struct naive_piece){ NAIVE_HEADER + 16 * slot, 16, 0 };
    if (bytes > 0) {
        out_pieces[count++] =
            (struct naive_piece){ NAIVE_DATA + NAIVE_DATA_BYTES * (uint64_t)slot, bytes,
                                  type == 1 ? 0 : NAIVE_PACKED_WRITE };
    }
    out_pieces[count++] = (struct naive_piece){ NAIVE_STATUS + slot, 1, NAIVE_PACKED_WRITE };
    return count;
}

void naive_packed_put(struct naive_packed *packed, uint32_t behind,
                      const struct naive_piece *piece, uint16_t id)
{
    uint32_t place = packed->next + behind;
    bool wrap = packed->next_wrap != (place >= packed->size);
    struct naive_piece marked = *piece;
    uint64_t at = 16 * (uint64_t)(place % packed->size);

    /* The split layout has flags and next where the packed one has id and flags. */
    marked.flags = id;
    naive_put_descriptor(packed->naive, at, &marked,
                         (uint16_t)(piece->flags |
                                    (wrap ? NAIVE_PACKED_AVAILABLE : NAIVE_PACKED_USED)));
}

static void advance(const struct naive_packed *packed, uint32_t *place, bool *wrap, uint32_t count)
{
    *place += count;
    if (*place >= packed->size) {
        *place -= packed->size;
        *wrap = !*wrap;
    }
}

void naive_packed_add(struct naive_packed *packed, unsigned slot,
                      const struct naive_piece *pieces, uint32_t count)
{
    for (uint32_t i = count; i-- > 0;) {
        struct naive_piece piece = pieces[i];

        if (i + 1 < count) {
            piece.flags |= NAIVE_PACKED_NEXT;
        }
        naive_packed_put(packed, i, &piece, (uint16_t)(NAIVE_PACKED_ID + slot));
    }
    advance(packed, &packed->next, &packed->next_wrap, count);
    packed->length[slot] = count;
    packed->order[packed->count++ % NAIVE_SLOTS] = slot;
}

void naive_packed_add_indirect(struct naive_packed *packed, unsigned slot,
                               const struct naive_piece *pieces, uint32_t count)
{
    struct naive_piece table = { NAIVE_TABLE + 256 * slot, 16 * count, NAIVE_PACKED_INDIRECT };

    for (uint32_t i = 0; i < count; i++) {
        struct naive_piece entry = pieces[i];

        entry.flags = 0xabcd; /* an id, which means nothing here */
        naive_put_descriptor(packed->naive, table.offset + 16 * i, &entry, pieces[i].flags);
    }
    naive_packed_add(packed, slot, &table, 1);
}

void naive_packed_notify(struct naive_packed *packed)
{
    uint32_t position = packed->next | (packed->next_wrap ? 0x8000u : 0);

    if (!packed->naive->quiet) {
        naive_set(packed->naive, VIRTIO_MMIO_QUEUE_NOTIFY,
                  packed->naive->queue | (packed->data ? position << 16 : 0));
    }
}

void naive_packed_submit(struct naive_packed *packed, unsigned slot, uint32_t type,
                         uint64_t sector, uint32_t bytes)
{
    struct naive_piece pieces[3];
    uint32_t count = naive_packed_pieces(packed, slot, type, sector, bytes, pieces);

    naive_packed_add(packed, slot, pieces, count);
    naive_packed_notify(packed);
}

/* Removes the i-th oldest slot and moves behind its chain. */
static void retire(struct naive_packed *packed, unsigned i)
{
    advance(packed, &packed->taken, &packed->taken_wrap, packed->length[packed->order[i]]);
    packed->count--;
    memmove(packed->order + i, packed->order + i + 1,
            (packed->count - i) * sizeof(packed->order[0]));
}

bool naive_packed_next_used(struct naive_packed *packed, bool in_order)
{
    struct naive *naive = packed->naive;
    uint64_t at = 16 * (uint64_t)packed->taken;
    uint32_t slot;
    unsigned i = 0;

    packed->flags = (uint16_t)naive_take(naive, at + 14, 2);
    if ((packed->flags & MARKS) != (packed->taken_wrap ? MARKS : 0)) {
        return false;
    }
    naive->last_id = naive_take(naive, at + 12, 2);
    naive->last_length = naive_take(naive, at + 8, 4);
    slot = naive->last_id - NAIVE_PACKED_ID;
    while (i < packed->count && packed->order[i] != slot) {
        i++;
    }
    if (i == packed->count) {
        return true; /* of none that we know; we stay where we are */
    }
    for (; in_order && i > 0; i--) {
        retire(packed, 0);
    }
    retire(packed, i);
    return true;
}

void naive_packed_expect(struct naive_packed *packed, unsigned slot, uint8_t status)
{
    assert_true(naive_packed_next_used(packed, false));
    assert_int_equal(packed->naive->last_id, NAIVE_PACKED_ID + slot);
    assert_int_equal(naive_status(packed->naive, slot), status);
}
