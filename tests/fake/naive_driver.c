/* SPDX-License-Identifier: MIT */
#include "fake/naive_driver.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <linux/virtio_mmio.h>

void naive_open(struct naive *naive)
{
    memset(naive, 0, sizeof(*naive));
    naive->memory = aligned_alloc(4096, NAIVE_MEMORY_BYTES);
    assert_non_null(naive->memory);
    memset(naive->memory, 0, NAIVE_MEMORY_BYTES);
}

void naive_close(struct naive *naive)
{
    free(naive->memory);
    naive->memory = NULL;
}

void *naive_reach(void *context, uint64_t daddr, uint64_t bytes)
{
    struct naive *naive = context;
    uint64_t offset = daddr - NAIVE_DADDR;

    return offset < NAIVE_MEMORY_BYTES && bytes <= NAIVE_MEMORY_BYTES - offset
               ? naive->memory + offset
               : NULL;
}

void naive_interrupt(void *context)
{
    struct naive *naive = context;
    uint32_t seen = naive_get(naive, VIRTIO_MMIO_INTERRUPT_STATUS) & 3;

    naive->interrupts++;
    naive_set(naive, VIRTIO_MMIO_INTERRUPT_ACK, seen);
}

uint32_t naive_get(struct naive *naive, uint64_t offset)
{
    return naive->mmio->ops->read(naive->mmio->context, offset, 4);
}

void naive_set(struct naive *naive, uint64_t offset, uint32_t value)
{
    naive->mmio->ops->write(naive->mmio->context, offset, 4, value);
}

void naive_clear_rings(struct naive *naive)
{
    memset(naive->memory + naive->base, 0, NAIVE_HEADER);
    naive->avail = 0;
    naive->used = 0;
}

void naive_reset(struct naive *naive)
{
    naive_set(naive, VIRTIO_MMIO_STATUS, 0);
    assert_int_equal(naive_get(naive, VIRTIO_MMIO_STATUS), 0);
}

void naive_negotiate(struct naive *naive, uint64_t features)
{
    naive_reset(naive);
    naive_set(naive, VIRTIO_MMIO_STATUS, 1);
    naive_set(naive, VIRTIO_MMIO_STATUS, 3);
    naive_set(naive, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 0);
    naive_set(naive, VIRTIO_MMIO_DRIVER_FEATURES, (uint32_t)features);
    if (naive->legacy) {
        return;
    }
    naive_set(naive, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
    naive_set(naive, VIRTIO_MMIO_DRIVER_FEATURES, (uint32_t)(features >> 32));
    naive_set(naive, VIRTIO_MMIO_STATUS, 11);
    assert_int_equal(naive_get(naive, VIRTIO_MMIO_STATUS), 11);
}

void naive_read_capacity(struct naive *naive)
{
    if (!naive->legacy) {
        (void)naive_get(naive, VIRTIO_MMIO_CONFIG_GENERATION);
    }
    (void)naive_get(naive, VIRTIO_MMIO_CONFIG);
    (void)naive_get(naive, VIRTIO_MMIO_CONFIG + 4);
    if (!naive->legacy) {
        (void)naive_get(naive, VIRTIO_MMIO_CONFIG_GENERATION);
    }
}

static void set_address(struct naive *naive, uint64_t low, uint64_t offset)
{
    uint64_t address = NAIVE_DADDR + naive->base + offset;

    naive_set(naive, low, (uint32_t)address);
    naive_set(naive, low + 4, (uint32_t)(address >> 32));
}

void naive_set_up_queue(struct naive *naive)
{
    if (naive->legacy) {
        naive_set(naive, VIRTIO_MMIO_GUEST_PAGE_SIZE, 4096);
    }
    naive_set(naive, VIRTIO_MMIO_QUEUE_SEL, naive->queue);
    assert_int_equal(
        naive_get(naive, naive->legacy ? VIRTIO_MMIO_QUEUE_PFN : VIRTIO_MMIO_QUEUE_READY), 0);
    assert_true(naive_get(naive, VIRTIO_MMIO_QUEUE_NUM_MAX) >= NAIVE_RING_SIZE);
    naive_set(naive, VIRTIO_MMIO_QUEUE_NUM, NAIVE_RING_SIZE);
    if (naive->legacy) {
        naive_set(naive, VIRTIO_MMIO_QUEUE_ALIGN, 4096);
        naive_set(naive, VIRTIO_MMIO_QUEUE_PFN, (uint32_t)((NAIVE_DADDR + naive->base) / 4096));
        return;
    }
    set_address(naive, VIRTIO_MMIO_QUEUE_DESC_LOW, 0);
    set_address(naive, VIRTIO_MMIO_QUEUE_AVAIL_LOW, NAIVE_AVAIL);
    set_address(naive, VIRTIO_MMIO_QUEUE_USED_LOW, NAIVE_USED);
    naive_set(naive, VIRTIO_MMIO_QUEUE_READY, 1);
}

void naive_start(struct naive *naive, uint64_t features)
{
    naive_clear_rings(naive);
    naive_negotiate(naive, features);
    naive_read_capacity(naive);
    naive_set_up_queue(naive);
    naive_set(naive, VIRTIO_MMIO_STATUS, naive->legacy ? 7 : 15);
}

void naive_put(struct naive *naive, uint64_t offset, unsigned bytes, uint64_t value)
{
    for (unsigned i = 0; i < bytes; i++) {
        naive->memory[naive->base + offset + i] = (uint8_t)(value >> 8 * i);
    }
}

uint32_t naive_take(const struct naive *naive, uint64_t offset, unsigned bytes)
{
    uint32_t value = 0;

    for (unsigned i = 0; i < bytes; i++) {
        value |= (uint32_t)naive->memory[naive->base + offset + i] << 8 * i;
    }
    return value;
}

uint8_t *naive_data(struct naive *naive, unsigned slot)
{
    return naive->memory + naive->base + NAIVE_DATA + NAIVE_DATA_BYTES * (size_t)slot;
}

uint8_t naive_status(const struct naive *naive, unsigned slot)
{
    return naive->memory[naive->base + NAIVE_STATUS + slot];
}

void naive_put_descriptor(struct naive *naive, uint64_t at, const struct naive_piece *piece,
                          uint16_t next)
{
    naive_put(naive, at, 8, NAIVE_DADDR + naive->base + piece->offset);
    naive_put(naive, at + 8, 4, piece->bytes);
    naive_put(naive, at + 12, 2, piece->flags);
    naive_put(naive, at + 14, 2, next);
}

/* Header, data (if any) and status: three descriptors from `at` on, numbered from `first`. */
static void put_chain(struct naive *naive, unsigned slot, uint64_t at, uint16_t first,
                      const struct naive_piece *data)
{
    struct naive_piece header = { NAIVE_HEADER + 16 * slot, 16, 1 };
    struct naive_piece status = { NAIVE_STATUS + slot, 1, 2 };
    uint16_t count = 1;

    naive_put_descriptor(naive, at, &header, (uint16_t)(first + 1));
    if (data->bytes > 0) {
        naive_put_descriptor(naive, at + 16, data, (uint16_t)(first + 2));
        count++;
    }
    naive_put_descriptor(naive, at + 16 * (uint64_t)count, &status, 0);
}

void naive_put_header(struct naive *naive, unsigned slot, uint32_t type, uint64_t sector)
{
    assert_true(slot < NAIVE_SLOTS);
    naive_put(naive, NAIVE_HEADER + 16 * slot, 4, type);
    naive_put(naive, NAIVE_HEADER + 16 * slot + 4, 4, 0);
    naive_put(naive, NAIVE_HEADER + 16 * slot + 8, 8, sector);
    naive_put(naive, NAIVE_STATUS + slot, 1, 0xee);
}

static struct naive_piece data_piece(unsigned slot, uint32_t type, uint32_t bytes)
{
    return (struct naive_piece){ NAIVE_DATA + NAIVE_DATA_BYTES * (uint64_t)slot, bytes,
                                 type == 1 ? 1 : 3 };
}

void naive_prepare(struct naive *naive, unsigned slot, uint32_t type, uint64_t sector,
                   uint32_t data_bytes)
{
    struct naive_piece data = data_piece(slot, type, data_bytes);

    naive_put_header(naive, slot, type, sector);
    put_chain(naive, slot, 48 * (uint64_t)slot, (uint16_t)(3 * slot), &data);
}

void naive_prepare_indirect(struct naive *naive, unsigned slot, uint32_t type, uint64_t sector,
                            uint32_t data_bytes)
{
    struct naive_piece data = data_piece(slot, type, data_bytes);
    struct naive_piece table = { NAIVE_TABLE + 256 * slot, data_bytes > 0 ? 48 : 32, 4 };

    naive_put_header(naive, slot, type, sector);
    put_chain(naive, slot, table.offset, 0, &data);
    naive_put_descriptor(naive, 48 * (uint64_t)slot, &table, 0);
}

void naive_publish(struct naive *naive, uint16_t head)
{
    naive_put(naive, NAIVE_AVAIL + 4 + 2 * (naive->avail % NAIVE_RING_SIZE), 2, head);
    naive->avail++;
    naive_put(naive, NAIVE_AVAIL + 2, 2, naive->avail);
}

void naive_notify(struct naive *naive)
{
    if (!naive->quiet) {
        naive_set(naive, VIRTIO_MMIO_QUEUE_NOTIFY, naive->queue);
    }
}

void naive_submit(struct naive *naive, unsigned slot, uint32_t type, uint64_t sector,
                  uint32_t data_bytes)
{
    naive_prepare(naive, slot, type, sector, data_bytes);
    naive_publish(naive, (uint16_t)(slot * 3));
    naive_notify(naive);
}

bool naive_next_used(struct naive *naive)
{
    uint64_t entry = NAIVE_USED + 4 + 8 * (naive->used % NAIVE_RING_SIZE);

    if (naive_take(naive, NAIVE_USED + 2, 2) == naive->used) {
        return false;
    }
    naive->last_id = naive_take(naive, entry, 4);
    naive->last_length = naive_take(naive, entry + 4, 4);
    naive->used++;
    return true;
}

void naive_expect(struct naive *naive, unsigned slot, uint8_t status)
{
    assert_true(naive_next_used(naive));
    assert_int_equal(naive->last_id, 3 * slot);
    assert_int_equal(naive_status(naive, slot), status);
}
