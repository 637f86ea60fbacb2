/* SPDX-License-Identifier: MIT */
/* The fake device against a naive driver that is written out here, register by register. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <linux/virtio_mmio.h>

#include "fake/virtio_device.h"

#define MEMORY_BYTES  (1u << 20)
#define MEMORY_DADDR  UINT64_C(0x4080000000)
#define RING_SIZE     16u
#define AVAIL_OFFSET  (16u * RING_SIZE)
#define USED_OFFSET   4096u
#define HEADER_OFFSET 8192u  /* 16 bytes for each slot */
#define STATUS_OFFSET 12288u /* 1 byte for each slot */
#define TABLE_OFFSET  16384u /* an indirect table for each slot */
#define DATA_OFFSET   65536u /* 8 KiB for each slot */
#define DATA_BYTES    8192u

struct naive {
    struct fake_device *fake;
    uint8_t *memory;
    uint16_t avail;
    uint16_t used;
    unsigned interrupts;
    uint32_t last_id;
    uint32_t last_length;
};

static void *reach(void *context, uint64_t daddr, uint64_t bytes)
{
    struct naive *naive = context;
    uint64_t offset = daddr - MEMORY_DADDR;

    return offset < MEMORY_BYTES && bytes <= MEMORY_BYTES - offset ? naive->memory + offset : NULL;
}

static void count_interrupt(void *context)
{
    struct naive *naive = context;

    naive->interrupts++;
}

static uint32_t get(struct naive *naive, uint64_t offset)
{
    return naive->fake->mmio.ops->read(naive->fake->mmio.context, offset, 4);
}

static void set(struct naive *naive, uint64_t offset, uint32_t value)
{
    naive->fake->mmio.ops->write(naive->fake->mmio.context, offset, 4, value);
}

static void create(struct naive *naive, const struct fake_device_config *config)
{
    struct fake_device_config own = *config;

    memset(naive, 0, sizeof(*naive));
    naive->memory = aligned_alloc(4096, MEMORY_BYTES);
    assert_non_null(naive->memory);
    memset(naive->memory, 0, MEMORY_BYTES);
    own.reach = reach;
    own.reach_context = naive;
    own.interrupt = count_interrupt;
    own.interrupt_context = naive;
    naive->fake = fake_device_create(&own);
}

static void destroy(struct naive *naive)
{
    fake_device_destroy(naive->fake);
    free(naive->memory);
}

static void clear_rings(struct naive *naive)
{
    memset(naive->memory, 0, HEADER_OFFSET);
    naive->avail = 0;
    naive->used = 0;
}

static void negotiate(struct naive *naive, uint64_t features)
{
    set(naive, VIRTIO_MMIO_STATUS, 0);
    assert_int_equal(get(naive, VIRTIO_MMIO_STATUS), 0);
    set(naive, VIRTIO_MMIO_STATUS, 1);
    set(naive, VIRTIO_MMIO_STATUS, 3);
    set(naive, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 0);
    set(naive, VIRTIO_MMIO_DRIVER_FEATURES, (uint32_t)features);
    if (naive->fake->config.legacy) {
        return;
    }
    set(naive, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
    set(naive, VIRTIO_MMIO_DRIVER_FEATURES, (uint32_t)(features >> 32));
    set(naive, VIRTIO_MMIO_STATUS, 11);
    assert_int_equal(get(naive, VIRTIO_MMIO_STATUS), 11);
}

static void read_capacity(struct naive *naive)
{
    if (!naive->fake->config.legacy) {
        (void)get(naive, VIRTIO_MMIO_CONFIG_GENERATION);
    }
    (void)get(naive, VIRTIO_MMIO_CONFIG);
    (void)get(naive, VIRTIO_MMIO_CONFIG + 4);
    if (!naive->fake->config.legacy) {
        (void)get(naive, VIRTIO_MMIO_CONFIG_GENERATION);
    }
}

static void set_address(struct naive *naive, uint64_t low, uint64_t offset)
{
    set(naive, low, (uint32_t)(MEMORY_DADDR + offset));
    set(naive, low + 4, (uint32_t)((MEMORY_DADDR + offset) >> 32));
}

static void set_up_queue(struct naive *naive)
{
    set(naive, VIRTIO_MMIO_QUEUE_SEL, 0);
    if (naive->fake->config.legacy) {
        set(naive, VIRTIO_MMIO_GUEST_PAGE_SIZE, 4096);
        assert_int_equal(get(naive, VIRTIO_MMIO_QUEUE_PFN), 0);
    } else {
        assert_int_equal(get(naive, VIRTIO_MMIO_QUEUE_READY), 0);
    }
    assert_true(get(naive, VIRTIO_MMIO_QUEUE_NUM_MAX) >= RING_SIZE);
    set(naive, VIRTIO_MMIO_QUEUE_NUM, RING_SIZE);
    if (naive->fake->config.legacy) {
        set(naive, VIRTIO_MMIO_QUEUE_ALIGN, 4096);
        set(naive, VIRTIO_MMIO_QUEUE_PFN, (uint32_t)(MEMORY_DADDR / 4096));
        return;
    }
    set_address(naive, VIRTIO_MMIO_QUEUE_DESC_LOW, 0);
    set_address(naive, VIRTIO_MMIO_QUEUE_AVAIL_LOW, AVAIL_OFFSET);
    set_address(naive, VIRTIO_MMIO_QUEUE_USED_LOW, USED_OFFSET);
    set(naive, VIRTIO_MMIO_QUEUE_READY, 1);
}

static void start(struct naive *naive, uint64_t features)
{
    clear_rings(naive);
    negotiate(naive, features);
    read_capacity(naive);
    set_up_queue(naive);
    set(naive, VIRTIO_MMIO_STATUS, naive->fake->config.legacy ? 7 : 15);
}

static void put(struct naive *naive, uint64_t offset, unsigned bytes, uint64_t value)
{
    for (unsigned i = 0; i < bytes; i++) {
        naive->memory[offset + i] = (uint8_t)(value >> 8 * i);
    }
}

static uint32_t take(const struct naive *naive, uint64_t offset, unsigned bytes)
{
    uint32_t value = 0;

    for (unsigned i = 0; i < bytes; i++) {
        value |= (uint32_t)naive->memory[offset + i] << 8 * i;
    }
    return value;
}

struct piece {
    uint64_t offset;
    uint32_t bytes;
    uint16_t flags;
};

static void put_descriptor(struct naive *naive, uint64_t at, const struct piece *piece,
                           uint16_t next)
{
    put(naive, at, 8, MEMORY_DADDR + piece->offset);
    put(naive, at + 8, 4, piece->bytes);
    put(naive, at + 12, 2, piece->flags);
    put(naive, at + 14, 2, next);
}

static void publish(struct naive *naive, uint16_t head)
{
    put(naive, AVAIL_OFFSET + 4 + 2 * (naive->avail % RING_SIZE), 2, head);
    naive->avail++;
    put(naive, AVAIL_OFFSET + 2, 2, naive->avail);
}

static void notify(struct naive *naive)
{
    set(naive, VIRTIO_MMIO_QUEUE_NOTIFY, 0);
}

/* Header, data (if any) and status of slot `slot` in descriptors slot * 3 and on. */
static void prepare(struct naive *naive, unsigned slot, uint32_t type, uint64_t sector,
                    uint32_t data_bytes)
{
    struct piece header = { HEADER_OFFSET + 16 * slot, 16, 1 };
    struct piece data = { DATA_OFFSET + DATA_BYTES * (uint64_t)slot, data_bytes,
                          type == 1 ? 1 : 3 };
    struct piece status = { STATUS_OFFSET + slot, 1, 2 };
    uint16_t head = (uint16_t)(slot * 3);

    put(naive, header.offset, 4, type);
    put(naive, header.offset + 4, 4, 0);
    put(naive, header.offset + 8, 8, sector);
    naive->memory[status.offset] = 0xee;
    put_descriptor(naive, 16u * head, &header, (uint16_t)(data_bytes > 0 ? head + 1 : head + 2));
    if (data_bytes > 0) {
        put_descriptor(naive, 16u * (head + 1u), &data, (uint16_t)(head + 2));
    }
    put_descriptor(naive, 16u * (head + 2u), &status, 0);
}

static void submit(struct naive *naive, unsigned slot, uint32_t type, uint64_t sector,
                   uint32_t data_bytes)
{
    prepare(naive, slot, type, sector, data_bytes);
    publish(naive, (uint16_t)(slot * 3));
    notify(naive);
}

static uint8_t *data_of(struct naive *naive, unsigned slot)
{
    return naive->memory + DATA_OFFSET + DATA_BYTES * (size_t)slot;
}

static uint8_t status_of(const struct naive *naive, unsigned slot)
{
    return naive->memory[STATUS_OFFSET + slot];
}

/* True if there is another used entry. */
static bool next_used(struct naive *naive)
{
    uint64_t entry = USED_OFFSET + 4 + 8 * (naive->used % RING_SIZE);

    if (take(naive, USED_OFFSET + 2, 2) == naive->used) {
        return false;
    }
    naive->last_id = take(naive, entry, 4);
    naive->last_length = take(naive, entry + 4, 4);
    naive->used++;
    return true;
}

static void expect_violation(struct naive *naive, const char *part)
{
    bool found = false;

    for (unsigned i = 0; i < naive->fake->violations && i < FAKE_VIOLATIONS_KEPT; i++) {
        found = found || strstr(naive->fake->violation[i], part) != NULL;
    }
    if (!found) {
        print_error("no violation says \"%s\"; the first is \"%s\"\n", part,
                    naive->fake->violation[0]);
    }
    assert_true(found);
    fake_device_forgive(naive->fake);
    memset(naive->fake->violation, 0, sizeof(naive->fake->violation));
}

#define VERSION_1 SK_VIRTIO_FEATURE(SK_VIRTIO_F_VERSION_1)
#define FLUSH     SK_VIRTIO_FEATURE(SK_VIRTIO_BLK_F_FLUSH)
#define INDIRECT  SK_VIRTIO_FEATURE(SK_VIRTIO_F_INDIRECT_DESC)
#define EVENT_IDX SK_VIRTIO_FEATURE(SK_VIRTIO_F_EVENT_IDX)
#define WCE       SK_VIRTIO_FEATURE(SK_VIRTIO_BLK_F_CONFIG_WCE)

static const struct fake_device_config default_config = FAKE_DEVICE_CONFIG_DEFAULT;

static void write_and_read(struct naive *naive)
{
    memset(data_of(naive, 0), 0x3c, DATA_BYTES);
    submit(naive, 0, 1, 5, 1024);
    assert_true(next_used(naive));
    assert_int_equal(naive->last_id, 0);
    assert_int_equal(naive->last_length, 1);
    assert_int_equal(status_of(naive, 0), 0);
    assert_false(next_used(naive));
    submit(naive, 1, 0, 6, 1024);
    assert_true(next_used(naive));
    assert_int_equal(naive->last_id, 3);
    assert_int_equal(naive->last_length, 1025);
    assert_int_equal(data_of(naive, 1)[0], 0x3c);
    assert_int_equal(data_of(naive, 1)[511], 0x3c);
    assert_int_equal(data_of(naive, 1)[512], 0);
    assert_int_equal(naive->interrupts, 2);
    fake_device_check(naive->fake);
}

static void test_fake_device_notify__modern_write_then_read(void **state)
{
    struct naive naive;

    (void)state;
    create(&naive, &default_config);
    start(&naive, VERSION_1 | FLUSH);
    write_and_read(&naive);
    destroy(&naive);
}

static void test_fake_device_notify__legacy_write_then_read(void **state)
{
    struct fake_device_config config = FAKE_DEVICE_CONFIG_DEFAULT;
    struct naive naive;

    (void)state;
    config.legacy = true;
    create(&naive, &config);
    start(&naive, FLUSH);
    write_and_read(&naive);
    destroy(&naive);
}

static void test_fake_device_notify__driver_ok_missing_is_a_violation(void **state)
{
    struct naive naive;

    (void)state;
    create(&naive, &default_config);
    clear_rings(&naive);
    negotiate(&naive, VERSION_1);
    set_up_queue(&naive);
    submit(&naive, 0, 0, 0, 512);
    assert_false(next_used(&naive));
    expect_violation(&naive, "notification with status");
    destroy(&naive);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fake_device_notify__modern_write_then_read),
        cmocka_unit_test(test_fake_device_notify__legacy_write_then_read),
        cmocka_unit_test(test_fake_device_notify__driver_ok_missing_is_a_violation),
    };

    return cmocka_run_group_tests_name("fake_device", tests, NULL, NULL);
}
