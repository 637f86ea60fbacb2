/* SPDX-License-Identifier: MIT */
/* The fake device against a naive driver: what it does, and what it objects to. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include <linux/virtio_mmio.h>

#include "fake/naive_fake.h"

#define NEXT     1
#define WRITE    2
#define TABLE    4
#define NUM_WORD (NAIVE_AVAIL + 4 + 2 * NAIVE_RING_SIZE)

static const struct fake_device_config default_config = FAKE_DEVICE_CONFIG_DEFAULT;

/* --- What it does ------------------------------------------------------- */

static void write_and_read(struct naive *naive, struct fake_device *fake)
{
    memset(naive_data(naive, 0), 0x3c, NAIVE_DATA_BYTES);
    naive_submit(naive, 0, 1, 5, 1024);
    naive_expect(naive, 0, 0);
    assert_int_equal(naive->last_length, 1);
    naive_submit(naive, 1, 0, 6, 1024);
    naive_expect(naive, 1, 0);
    assert_int_equal(naive->last_length, 1025);
    assert_int_equal(naive_data(naive, 1)[0], 0x3c);
    assert_int_equal(naive_data(naive, 1)[511], 0x3c);
    assert_int_equal(naive_data(naive, 1)[512], 0);
    assert_false(naive_next_used(naive));
    assert_int_equal(naive->interrupts, 2);
    assert_int_equal(fake->interrupt_status, 0);
}

static void test_fake_device_notify__modern_writes_and_reads(void **state)
{
    struct naive naive;
    struct fake_device *fake = naive_start_fake(&naive, VERSION_1 | FLUSH);

    (void)state;
    write_and_read(&naive, fake);
    naive_close_fake(&naive, fake);
}

static void test_fake_device_notify__legacy_writes_and_reads(void **state)
{
    struct fake_device_config config = default_config;
    struct naive naive;
    struct fake_device *fake;

    (void)state;
    config.legacy = true;
    fake = naive_open_fake(&naive, &config);
    naive_start(&naive, FLUSH);
    write_and_read(&naive, fake);
    naive.interrupts = 0;
    naive_start(&naive, FLUSH);
    write_and_read(&naive, fake);
    naive_close_fake(&naive, fake);
}

static void test_fake_device_notify__indirect(void **state)
{
    struct naive naive;
    struct fake_device *fake = naive_start_fake(&naive, VERSION_1 | INDIRECT);

    (void)state;
    memset(fake->storage + 512, 0x77, 512);
    for (unsigned slot = 0; slot < NAIVE_SLOTS; slot++) {
        naive_prepare_indirect(&naive, slot, 0, slot, 512);
        naive_publish(&naive, (uint16_t)(3 * slot));
    }
    naive_notify(&naive);
    for (unsigned slot = 0; slot < NAIVE_SLOTS; slot++) {
        naive_expect(&naive, slot, 0);
        assert_int_equal(naive_data(&naive, slot)[511], slot == 1 ? 0x77 : 0);
    }
    assert_int_equal(naive.interrupts, 1);
    assert_int_equal(fake->requests, NAIVE_SLOTS);
    naive_close_fake(&naive, fake);
}

/* Header in two pieces, data and status in one: a modern device takes any framing. */
static void test_fake_device_notify__any_framing(void **state)
{
    const struct naive_piece pieces[] = {
        { NAIVE_HEADER, 10, NEXT },
        { NAIVE_HEADER + 10, 6, NEXT },
        { NAIVE_DATA, 513, WRITE },
    };
    struct naive naive;
    struct fake_device *fake = naive_start_fake(&naive, VERSION_1);

    (void)state;
    memset(fake->storage, 0x11, 512);
    naive_prepare(&naive, 0, 0, 0, 512);
    for (uint16_t i = 0; i < 3; i++) {
        naive_put_descriptor(&naive, 16u * i, &pieces[i], (uint16_t)(i + 1));
    }
    naive_publish(&naive, 0);
    naive_notify(&naive);
    assert_true(naive_next_used(&naive));
    assert_int_equal(naive.last_length, 513);
    assert_int_equal(naive_data(&naive, 0)[511], 0x11);
    assert_int_equal(naive_data(&naive, 0)[512], 0);
    naive_close_fake(&naive, fake);
}

static void test_fake_device_notify__get_id_and_unknown_types(void **state)
{
    struct naive naive;
    struct fake_device *fake = naive_start_fake(&naive, VERSION_1);

    (void)state;
    naive_submit(&naive, 0, 8, 0, 20);
    naive_expect(&naive, 0, 0);
    assert_string_equal((const char *)naive_data(&naive, 0), "fake disk");
    assert_int_equal(naive.last_length, 21);
    naive_submit(&naive, 1, 99, 0, 512);
    naive_expect(&naive, 1, 2);
    naive_close_fake(&naive, fake);
}

static void test_fake_device_notify__interrupts_as_the_driver_asks(void **state)
{
    struct naive naive;
    struct fake_device *fake = naive_start_fake(&naive, VERSION_1);

    (void)state;
    naive_put(&naive, NAIVE_AVAIL, 2, 1); /* NO_INTERRUPT */
    naive_submit(&naive, 0, 0, 0, 512);
    assert_int_equal(naive.interrupts, 0);
    naive_put(&naive, NAIVE_AVAIL, 2, 0);
    naive_submit(&naive, 1, 0, 0, 512);
    assert_int_equal(naive.interrupts, 1);
    naive_reset(&naive);
    naive_start(&naive, VERSION_1 | EVENT_IDX);
    naive_put(&naive, NUM_WORD, 2, 2); /* at the third used entry */
    for (unsigned i = 0; i < 4; i++) {
        naive_submit(&naive, i, 0, 0, 512);
        assert_int_equal(naive.interrupts, i < 2 ? 1 : 2);
        assert_int_equal(naive_take(&naive, NAIVE_USED + 4 + 8 * NAIVE_RING_SIZE, 2), i + 1);
    }
    naive_close_fake(&naive, fake);
}

static void expect_order(enum fake_order order, const unsigned *slots)
{
    struct fake_device_config config = default_config;
    struct naive naive;
    struct fake_device *fake;

    config.deferred = true;
    config.order = order;
    fake = naive_open_fake(&naive, &config);
    naive_start(&naive, VERSION_1);
    for (unsigned slot = 0; slot < 4; slot++) {
        naive_submit(&naive, slot, 0, 0, 512);
    }
    assert_false(naive_next_used(&naive));
    assert_int_equal(fake->in_flight, 4);
    assert_int_equal(fake_device_run(fake, 1), 1);
    assert_int_equal(fake_device_run(fake, UINT_MAX), 3);
    assert_int_equal(fake_device_run(fake, UINT_MAX), 0);
    for (unsigned i = 0; i < 4; i++) {
        assert_true(naive_next_used(&naive));
        assert_true(slots == NULL || naive.last_id == 3 * slots[i]);
    }
    naive_close_fake(&naive, fake);
}

static void test_fake_device_run__orders(void **state)
{
    (void)state;
    expect_order(FAKE_ORDER_FIRST_IN, (const unsigned[]){ 0, 1, 2, 3 });
    expect_order(FAKE_ORDER_LAST_IN, (const unsigned[]){ 3, 2, 1, 0 });
    expect_order(FAKE_ORDER_RANDOM, NULL);
}

static void test_fake_device_run__polls_the_rings(void **state)
{
    struct fake_device_config config = default_config;
    struct naive naive;
    struct fake_device *fake;

    (void)state;
    config.polls = true;
    config.deferred = true;
    fake = naive_open_fake(&naive, &config);
    naive_start(&naive, VERSION_1);
    assert_int_equal(naive_take(&naive, NAIVE_USED, 2), 1); /* NO_NOTIFY */
    naive.quiet = true;
    naive_submit(&naive, 0, 0, 0, 512);
    assert_int_equal(fake_device_run(fake, UINT_MAX), 1);
    naive_expect(&naive, 0, 0);
    naive_close_fake(&naive, fake);
}

static void test_fake_device_notify__queues_are_independent(void **state)
{
    struct fake_device_config config = default_config;
    struct naive naive;
    struct naive other;
    struct fake_device *fake;

    (void)state;
    config.queue_count = 2;
    config.features |= SK_VIRTIO_FEATURE(SK_VIRTIO_BLK_F_MQ);
    fake = naive_open_fake(&naive, &config);
    naive_clear_rings(&naive);
    naive_negotiate(&naive, VERSION_1 | SK_VIRTIO_FEATURE(SK_VIRTIO_BLK_F_MQ));
    naive_read_capacity(&naive);
    naive_set_up_queue(&naive);
    other = naive;
    other.queue = 1;
    other.base = NAIVE_MEMORY_BYTES / 2;
    naive_set_up_queue(&other);
    naive_set(&naive, VIRTIO_MMIO_STATUS, 15);
    naive_submit(&other, 2, 0, 0, 512);
    assert_false(naive_next_used(&naive));
    naive_expect(&other, 2, 0);
    naive_submit(&naive, 1, 0, 0, 512);
    naive_expect(&naive, 1, 0);
    assert_false(naive_next_used(&other));
    assert_int_equal(fake->mmio.ops->read(fake, 0x100 + 34, 2), 2);
    naive_close_fake(&naive, fake);
}

/* --- Cache and medium --------------------------------------------------- */

static void put_sector(struct naive *naive, unsigned slot, uint64_t sector, int fill)
{
    memset(naive_data(naive, slot), fill, 512);
    naive_submit(naive, slot, 1, sector, 512);
}

static void test_fake_device_cache__what_is_not_flushed_is_lost(void **state)
{
    struct naive naive;
    struct fake_device *fake = naive_start_fake(&naive, VERSION_1 | FLUSH);

    (void)state;
    put_sector(&naive, 0, 1, 0xaa);
    naive_submit(&naive, 1, 4, 0, 0);
    put_sector(&naive, 2, 1, 0xbb);
    put_sector(&naive, 3, 2, 0xcc);
    assert_int_equal(fake->storage[512], 0xbb);
    fake_device_lose_power(fake);
    assert_int_equal(fake->storage[512], 0xaa);
    assert_int_equal(fake->storage[1024], 0);
    naive_close_fake(&naive, fake);
}

static void test_fake_device_cache__flush_covers_what_was_complete_when_sent(void **state)
{
    struct fake_device_config config = default_config;
    struct naive naive;
    struct fake_device *fake;

    (void)state;
    config.deferred = true;
    fake = naive_open_fake(&naive, &config);
    naive_start(&naive, VERSION_1 | FLUSH);
    put_sector(&naive, 0, 1, 0xaa);
    assert_int_equal(fake_device_run(fake, UINT_MAX), 1);
    put_sector(&naive, 1, 2, 0xbb); /* still at the device when the flush is sent */
    naive_submit(&naive, 2, 4, 0, 0);
    assert_int_equal(fake_device_run(fake, UINT_MAX), 2);
    fake_device_lose_power(fake);
    assert_int_equal(fake->storage[512], 0xaa);
    assert_int_equal(fake->storage[1024], 0);
    naive_close_fake(&naive, fake);
}

static void test_fake_device_cache__write_through_needs_no_flush(void **state)
{
    struct naive naive;
    struct fake_device *fake = naive_start_fake(&naive, VERSION_1);

    (void)state;
    put_sector(&naive, 0, 1, 0xaa); /* without FLUSH the device writes through */
    fake_device_lose_power(fake);
    assert_int_equal(fake->storage[512], 0xaa);
    naive_reset(&naive);
    naive_start(&naive, VERSION_1 | FLUSH | WCE);
    put_sector(&naive, 0, 1, 0xbb);
    fake->mmio.ops->write(fake, 0x100 + 32, 1, 0);
    put_sector(&naive, 1, 2, 0xcc);
    fake_device_lose_power(fake);
    assert_int_equal(fake->storage[512], 0xaa); /* an older write stays unflushed */
    assert_int_equal(fake->storage[1024], 0xcc);
    naive_close_fake(&naive, fake);
}

static void test_fake_device_capacity__changes_under_way(void **state)
{
    struct naive naive;
    struct fake_device *fake = naive_start_fake(&naive, VERSION_1);
    uint32_t generation = naive_get(&naive, VIRTIO_MMIO_CONFIG_GENERATION);

    (void)state;
    fake_device_set_capacity(fake, 10);
    assert_int_equal(naive.interrupts, 1);
    assert_true(generation != naive_get(&naive, VIRTIO_MMIO_CONFIG_GENERATION));
    naive_submit(&naive, 0, 0, 10, 512); /* the driver does not know yet */
    naive_expect(&naive, 0, 1);
    fake_device_check(fake);
    naive_read_capacity(&naive);
    naive_submit(&naive, 1, 0, 10, 512);
    naive_expect(&naive, 1, 1);
    naive_expect_violation(fake, "beyond the capacity");
    naive_close_fake(&naive, fake);
}

static void test_fake_device_bad_sectors__answer_ioerr(void **state)
{
    struct naive naive;
    struct fake_device *fake = naive_start_fake(&naive, VERSION_1);

    (void)state;
    fake_device_bad_sectors(fake, 7, 1);
    naive_submit(&naive, 0, 0, 6, 1024);
    naive_expect(&naive, 0, 1);
    naive_submit(&naive, 1, 0, 8, 1024);
    naive_expect(&naive, 1, 0);
    naive_submit(&naive, 2, 0, 5, 1024);
    naive_expect(&naive, 2, 0);
    naive_close_fake(&naive, fake);
}

static void test_fake_device_needs_reset__stands_still_until_reset(void **state)
{
    struct naive naive;
    struct fake_device *fake = naive_start_fake(&naive, VERSION_1);

    (void)state;
    fake_device_needs_reset(fake);
    assert_int_equal(naive.interrupts, 1);
    assert_int_equal(naive_get(&naive, VIRTIO_MMIO_STATUS), 64 | 15);
    naive_submit(&naive, 0, 0, 0, 512);
    assert_false(naive_next_used(&naive));
    naive_start(&naive, VERSION_1);
    naive_submit(&naive, 0, 0, 0, 512);
    naive_expect(&naive, 0, 0);
    naive_close_fake(&naive, fake);
}

static void test_fake_device_reset__forgets_what_was_in_flight(void **state)
{
    struct fake_device_config config = default_config;
    struct naive naive;
    struct fake_device *fake;

    (void)state;
    config.deferred = true;
    fake = naive_open_fake(&naive, &config);
    naive_start(&naive, VERSION_1);
    naive_submit(&naive, 0, 0, 0, 512);
    naive_reset(&naive);
    assert_int_equal(fake->in_flight, 0);
    assert_int_equal(fake_device_run(fake, UINT_MAX), 0);
    assert_int_equal(naive_status(&naive, 0), 0xee);
    naive_close_fake(&naive, fake);
}

/* --- What it objects to: initialisation --------------------------------- */

static void test_fake_device_strict__status_order(void **state)
{
    struct naive naive;
    struct fake_device *fake = naive_open_fake(&naive, &default_config);

    (void)state;
    naive_reset(&naive);
    naive_set(&naive, VIRTIO_MMIO_STATUS, 3);
    naive_expect_violation(fake, "DRIVER with status 0x0");
    naive_reset(&naive);
    naive_set(&naive, VIRTIO_MMIO_STATUS, 1);
    naive_set(&naive, VIRTIO_MMIO_STATUS, 2);
    naive_expect_violation(fake, "only cleared by a reset");
    naive_reset(&naive);
    naive_set(&naive, VIRTIO_MMIO_STATUS, 1);
    (void)naive_get(&naive, VIRTIO_MMIO_DEVICE_FEATURES);
    naive_expect_violation(fake, "device features read with status 0x1");
    naive_set(&naive, VIRTIO_MMIO_STATUS, 3);
    naive_set(&naive, VIRTIO_MMIO_STATUS, 11);
    naive_expect_violation(fake, "without both halves");
    naive_set(&naive, VIRTIO_MMIO_STATUS, 0);
    naive_set(&naive, VIRTIO_MMIO_STATUS, 1);
    naive_expect_violation(fake, "before the reset was seen done");
    naive_close_fake(&naive, fake);
}

static void test_fake_device_strict__features(void **state)
{
    struct naive naive;
    struct fake_device *fake = naive_open_fake(&naive, &default_config);

    (void)state;
    naive_reset(&naive);
    naive_set(&naive, VIRTIO_MMIO_STATUS, 1);
    naive_set(&naive, VIRTIO_MMIO_STATUS, 3);
    naive_set(&naive, VIRTIO_MMIO_DRIVER_FEATURES, 1u << SK_VIRTIO_BLK_F_MQ);
    naive_expect_violation(fake, "not offered");
    naive_set(&naive, VIRTIO_MMIO_DRIVER_FEATURES, 0);
    naive_set(&naive, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
    naive_set(&naive, VIRTIO_MMIO_DRIVER_FEATURES, 0);
    naive_set(&naive, VIRTIO_MMIO_STATUS, 11);
    naive_expect_violation(fake, "VERSION_1 not accepted");
    assert_int_equal(naive_get(&naive, VIRTIO_MMIO_STATUS), 3);
    naive_negotiate(&naive, VERSION_1);
    naive_set(&naive, VIRTIO_MMIO_DRIVER_FEATURES, 0);
    naive_expect_violation(fake, "after they were settled");
    naive_close_fake(&naive, fake);
}

static void test_fake_device_strict__queue_set_up(void **state)
{
    struct naive naive;
    struct fake_device *fake = naive_open_fake(&naive, &default_config);

    (void)state;
    naive_negotiate(&naive, VERSION_1);
    naive_set(&naive, VIRTIO_MMIO_QUEUE_NUM, 16);
    naive_expect_violation(fake, "without looking whether it is in use");
    assert_int_equal(naive_get(&naive, VIRTIO_MMIO_QUEUE_READY), 0);
    naive_set(&naive, VIRTIO_MMIO_QUEUE_NUM, 512);
    naive_expect_violation(fake, "queue size 512");
    naive_set(&naive, VIRTIO_MMIO_QUEUE_NUM, 12);
    naive_expect_violation(fake, "queue size 12");
    naive_set(&naive, VIRTIO_MMIO_QUEUE_READY, 1);
    naive_expect_violation(fake, "queue enabled");
    naive.memory[NAIVE_USED + 2] = 1;
    naive_set_up_queue(&naive);
    naive_expect_violation(fake, "rings that are not zero");
    naive_set(&naive, VIRTIO_MMIO_QUEUE_NUM, 16);
    naive_expect_violation(fake, "which is in use");
    naive_set(&naive, VIRTIO_MMIO_QUEUE_SEL, 1);
    assert_int_equal(naive_get(&naive, VIRTIO_MMIO_QUEUE_NUM_MAX), 0);
    naive_set(&naive, VIRTIO_MMIO_QUEUE_NUM, 16);
    naive_expect_violation(fake, "which does not exist");
    naive_close_fake(&naive, fake);
}

static void test_fake_device_strict__unreachable_ring(void **state)
{
    struct naive naive;
    struct fake_device *fake = naive_open_fake(&naive, &default_config);

    (void)state;
    naive_negotiate(&naive, VERSION_1);
    naive.base = NAIVE_MEMORY_BYTES;
    naive_set_up_queue(&naive);
    naive_expect_violation(fake, "unreachable");
    naive.base = 8;
    naive_set_up_queue(&naive);
    naive_expect_violation(fake, "queue enabled with size 16 at");
    naive_set(&naive, VIRTIO_MMIO_STATUS, 15);
    naive_expect_violation(fake, "DRIVER_OK without a queue");
    naive_close_fake(&naive, fake);
}

static void test_fake_device_strict__driver_ok_and_notifications(void **state)
{
    struct naive naive;
    struct fake_device *fake = naive_open_fake(&naive, &default_config);

    (void)state;
    naive_negotiate(&naive, VERSION_1);
    naive_set_up_queue(&naive);
    naive_submit(&naive, 0, 0, 0, 512);
    assert_false(naive_next_used(&naive));
    naive_expect_violation(fake, "notification with status 0xb");
    naive_start(&naive, VERSION_1);
    naive_set(&naive, VIRTIO_MMIO_QUEUE_NOTIFY, 1);
    naive_expect_violation(fake, "notification of queue 1");
    naive.quiet = true;
    naive_submit(&naive, 0, 0, 0, 512);
    (void)fake_device_run(fake, UINT_MAX);
    naive_expect_violation(fake, "told of 0 only");
    naive_close_fake(&naive, fake);
}

static void test_fake_device_strict__features_ok_must_be_read_back(void **state)
{
    struct naive naive;
    struct fake_device *fake = naive_open_fake(&naive, &default_config);

    (void)state;
    naive_reset(&naive);
    naive_set(&naive, VIRTIO_MMIO_STATUS, 1);
    naive_set(&naive, VIRTIO_MMIO_STATUS, 3);
    naive_set(&naive, VIRTIO_MMIO_DRIVER_FEATURES, 0);
    naive_set(&naive, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
    naive_set(&naive, VIRTIO_MMIO_DRIVER_FEATURES, 1);
    naive_set(&naive, VIRTIO_MMIO_STATUS, 11);
    naive_set_up_queue(&naive);
    naive_expect_violation(fake, "before FEATURES_OK was read back");
    naive_close_fake(&naive, fake);
}

static void test_fake_device_strict__registers(void **state)
{
    struct naive naive;
    struct fake_device *fake = naive_start_fake(&naive, VERSION_1);

    (void)state;
    (void)fake->mmio.ops->read(fake, 0x70, 1);
    naive_expect_violation(fake, "0x070 read with 1 bytes");
    (void)naive_get(&naive, VIRTIO_MMIO_QUEUE_NOTIFY);
    naive_expect_violation(fake, "0x050 read");
    naive_set(&naive, VIRTIO_MMIO_MAGIC_VALUE, 1);
    naive_expect_violation(fake, "0x000 written");
    naive_set(&naive, VIRTIO_MMIO_GUEST_PAGE_SIZE, 4096);
    naive_expect_violation(fake, "0x028 written");
    naive_set(&naive, VIRTIO_MMIO_INTERRUPT_ACK, 1);
    naive_expect_violation(fake, "acknowledged, 0x0 is pending");
    naive_set(&naive, VIRTIO_MMIO_STATUS, 0);
    (void)naive_get(&naive, VIRTIO_MMIO_CONFIG_GENERATION);
    naive_expect_violation(fake, "before the status was seen to be 0");
    naive_close_fake(&naive, fake);
}

static void test_fake_device_strict__legacy_order(void **state)
{
    struct fake_device_config config = default_config;
    struct naive naive;
    struct fake_device *fake;

    (void)state;
    config.legacy = true;
    fake = naive_open_fake(&naive, &config);
    naive_negotiate(&naive, FLUSH);
    (void)naive_get(&naive, VIRTIO_MMIO_QUEUE_PFN);
    naive_set(&naive, VIRTIO_MMIO_QUEUE_PFN, 5);
    naive_expect_violation(fake, "before GuestPageSize");
    naive_set(&naive, VIRTIO_MMIO_STATUS, 11);
    naive_expect_violation(fake, "legacy: FEATURES_OK");
    (void)naive_get(&naive, VIRTIO_MMIO_QUEUE_READY);
    naive_expect_violation(fake, "0x044 read");
    (void)naive_get(&naive, VIRTIO_MMIO_CONFIG_GENERATION);
    naive_expect_violation(fake, "0x0fc read");
    naive_close_fake(&naive, fake);
}

/* --- What it objects to: configuration space ---------------------------- */

static void test_fake_device_strict__config_reads(void **state)
{
    struct naive naive;
    struct fake_device *fake = naive_open_fake(&naive, &default_config);

    (void)state;
    naive_reset(&naive);
    (void)naive_get(&naive, VIRTIO_MMIO_CONFIG);
    naive_expect_violation(fake, "capacity read without a generation");
    (void)fake->mmio.ops->read(fake, 0x100 + 34, 2);
    naive_expect_violation(fake, "field 34 read without feature 12");
    (void)fake->mmio.ops->read(fake, 0x100 + 20, 2);
    naive_expect_violation(fake, "no field has this place and width");
    (void)fake->mmio.ops->read(fake, 0x100 + 60, 4);
    naive_expect_violation(fake, "4 bytes read at 60 of 60");
    (void)fake->mmio.ops->read(fake, 0x100 + 32, 1);
    naive_expect_violation(fake, "writeback read before FEATURES_OK");
    naive_clear_rings(&naive);
    naive_negotiate(&naive, VERSION_1);
    (void)fake->mmio.ops->read(fake, 0x100 + 20, 4);
    naive_expect_violation(fake, "field 20 read without feature 6");
    (void)naive_get(&naive, VIRTIO_MMIO_CONFIG_GENERATION);
    (void)naive_get(&naive, VIRTIO_MMIO_CONFIG);
    naive_set_up_queue(&naive);
    naive_set(&naive, VIRTIO_MMIO_STATUS, 15);
    naive_expect_violation(fake, "without a generation after it");
    naive_close_fake(&naive, fake);
}

static void test_fake_device_strict__config_writes(void **state)
{
    struct naive naive;
    struct fake_device *fake = naive_open_fake(&naive, &default_config);

    (void)state;
    naive_reset(&naive);
    fake->mmio.ops->write(fake, 0x100 + 32, 1, 0);
    naive_expect_violation(fake, "written with status 0x0");
    naive_start(&naive, VERSION_1);
    fake->mmio.ops->write(fake, 0x100 + 32, 1, 0);
    naive_expect_violation(fake, "without CONFIG_WCE");
    fake->mmio.ops->write(fake, 0x100, 4, 0);
    naive_expect_violation(fake, "nothing there is writable");
    assert_int_equal(fake->config_space[32], 1);
    naive_close_fake(&naive, fake);
}

/* --- What it objects to: rings and requests ----------------------------- */

/* Publishes what was prepared, possibly spoilt; the device answers IOERR, or nothing. */
static void expect_objection(struct naive *naive, struct fake_device *fake, const char *part)
{
    naive_publish(naive, 0);
    naive_notify(naive);
    naive_expect_violation(fake, part);
    if (naive_next_used(naive)) {
        assert_int_not_equal(naive_status(naive, 0), 0);
    }
}

static void test_fake_device_strict__available_ring(void **state)
{
    struct naive naive;
    struct fake_device *fake = naive_start_fake(&naive, VERSION_1);

    (void)state;
    naive_publish(&naive, NAIVE_RING_SIZE);
    naive_notify(&naive);
    naive_expect_violation(fake, "head 16 of 16");
    naive.avail = (uint16_t)(naive.avail + NAIVE_RING_SIZE);
    naive_publish(&naive, 0);
    naive_notify(&naive);
    naive_expect_violation(fake, "available index jumps from 1 to 18");
    assert_false(naive_next_used(&naive));
    naive_close_fake(&naive, fake);
}

static void test_fake_device_strict__chains(void **state)
{
    struct naive naive;
    struct fake_device *fake = naive_start_fake(&naive, VERSION_1);

    (void)state;
    naive_prepare(&naive, 0, 0, 0, 512);
    naive_put(&naive, 32 + 12, 2, NEXT | WRITE);
    expect_objection(&naive, fake, "is in another chain"); /* a loop */
    naive_prepare(&naive, 0, 0, 0, 512);
    naive_put(&naive, 16 + 8, 4, 0);
    expect_objection(&naive, fake, "length zero");
    naive_prepare(&naive, 0, 0, 0, 512);
    naive_put(&naive, 32 + 12, 2, 0);
    expect_objection(&naive, fake, "readable descriptor after a writable one");
    naive_prepare(&naive, 0, 0, 0, 512);
    naive_put(&naive, 16, 8, NAIVE_DADDR - 512);
    expect_objection(&naive, fake, "unreachable");
    naive_prepare(&naive, 0, 0, 0, 512);
    naive_put(&naive, 14, 2, 16);
    expect_objection(&naive, fake, "index beyond the table");
    naive_prepare(&naive, 0, 0, 0, 512);
    naive_put(&naive, 12, 2, NEXT | 8);
    expect_objection(&naive, fake, "unknown descriptor flags");
    naive_prepare_indirect(&naive, 0, 0, 0, 512);
    expect_objection(&naive, fake, "indirect without the feature");
    naive_prepare(&naive, 0, 0, 0, 512);
    naive_publish(&naive, 0);
    naive_notify(&naive);
    naive_expect(&naive, 0, 0); /* all descriptors came back */
    naive_close_fake(&naive, fake);
}

static void test_fake_device_strict__indirect_tables(void **state)
{
    struct naive naive;
    struct fake_device *fake = naive_start_fake(&naive, VERSION_1 | INDIRECT);

    (void)state;
    naive_prepare_indirect(&naive, 0, 0, 0, 512);
    naive_put(&naive, 12, 2, TABLE | NEXT);
    expect_objection(&naive, fake, "indirect with next");
    naive_prepare_indirect(&naive, 0, 0, 0, 512);
    naive_put(&naive, NAIVE_TABLE + 12, 2, TABLE);
    expect_objection(&naive, fake, "indirect within indirect");
    naive_prepare_indirect(&naive, 0, 0, 0, 512);
    naive_put(&naive, 8, 4, 40);
    expect_objection(&naive, fake, "table's length (40)");
    naive_prepare_indirect(&naive, 0, 0, 0, 512);
    naive_put(&naive, 8, 4, 17 * 16);
    expect_objection(&naive, fake, "longer than the queue (17)");
    naive_prepare_indirect(&naive, 0, 0, 0, 512);
    naive_put(&naive, 0, 8, 0);
    expect_objection(&naive, fake, "table is unreachable");
    naive_prepare_indirect(&naive, 0, 0, 0, 512);
    naive_put(&naive, NAIVE_TABLE + 32 + 12, 2, WRITE | NEXT);
    naive_put(&naive, NAIVE_TABLE + 32 + 14, 2, 2);
    expect_objection(&naive, fake, "longer than the queue (17)"); /* a loop */
    naive_close_fake(&naive, fake);
}

static void test_fake_device_strict__requests(void **state)
{
    struct naive naive;
    struct fake_device *fake = naive_start_fake(&naive, VERSION_1);

    (void)state;
    naive_prepare(&naive, 0, 0, 0, 500);
    expect_objection(&naive, fake, "no multiple of 512 (500)");
    naive_prepare(&naive, 0, 0, 2048, 512);
    expect_objection(&naive, fake, "beyond the capacity (2048)");
    naive_prepare(&naive, 0, 0, UINT64_MAX, 512);
    expect_objection(&naive, fake, "beyond the capacity");
    naive_prepare(&naive, 0, 4, 0, 0);
    expect_objection(&naive, fake, "flush without the feature");
    naive_prepare(&naive, 0, 8, 0, 19);
    expect_objection(&naive, fake, "another length than 20 (19)");
    naive_prepare(&naive, 0, 0, 0, 512);
    naive_put(&naive, NAIVE_HEADER + 4, 4, 1);
    expect_objection(&naive, fake, "reserved header field");
    naive_prepare(&naive, 0, 0, 0, 512);
    naive_put(&naive, 8, 4, 15);
    expect_objection(&naive, fake, "header is too short (15)");
    naive_prepare(&naive, 0, 1, 0, 512);
    naive_put(&naive, 16 + 12, 2, 0);
    expect_objection(&naive, fake, "no status byte");
    naive_prepare(&naive, 0, 1, 0, 512);
    naive_put(&naive, 16 + 12, 2, NEXT | WRITE);
    expect_objection(&naive, fake, "wrong direction");
    naive_close_fake(&naive, fake);
}

static void test_fake_device_strict__limits(void **state)
{
    struct fake_device_config config = default_config;
    struct naive naive;
    struct fake_device *fake;
    uint64_t limits = SK_VIRTIO_FEATURE(SK_VIRTIO_BLK_F_SIZE_MAX) |
                      SK_VIRTIO_FEATURE(SK_VIRTIO_BLK_F_SEG_MAX);

    (void)state;
    config.features |= limits | SK_VIRTIO_FEATURE(SK_VIRTIO_BLK_F_RO);
    config.size_max = 1024;
    config.seg_max = 1;
    fake = naive_open_fake(&naive, &config);
    naive_start(&naive, VERSION_1 | FLUSH | limits | SK_VIRTIO_FEATURE(SK_VIRTIO_BLK_F_RO));
    naive_prepare(&naive, 0, 0, 0, 1536);
    expect_objection(&naive, fake, "longer than size_max (1536)");
    naive_prepare(&naive, 0, 1, 0, 512);
    expect_objection(&naive, fake, "read-only");
    naive_prepare(&naive, 0, 4, 1, 0);
    expect_objection(&naive, fake, "flush with a sector");
    naive_prepare(&naive, 0, 0, 0, 512);
    naive_put(&naive, 16 + 8, 4, 256);
    naive_put_descriptor(&naive, 160, &(struct naive_piece){ NAIVE_DATA + 256, 256, NEXT | WRITE },
                         2);
    naive_put(&naive, 16 + 14, 2, 10);
    expect_objection(&naive, fake, "more segments than seg_max (2)");
    naive_close_fake(&naive, fake);
}

static void test_fake_device_strict__owned_descriptors(void **state)
{
    struct fake_device_config config = default_config;
    struct naive naive;
    struct fake_device *fake;

    (void)state;
    config.deferred = true;
    fake = naive_open_fake(&naive, &config);
    naive_start(&naive, VERSION_1);
    naive_submit(&naive, 0, 0, 0, 512);
    naive_put(&naive, 16 + 8, 4, 1024);
    (void)fake_device_run(fake, UINT_MAX);
    naive_expect_violation(fake, "changed while the device owned them");
    naive_expect(&naive, 0, 0);
    naive_submit(&naive, 0, 0, 0, 512);
    naive_publish(&naive, 0);
    naive_notify(&naive);
    naive_expect_violation(fake, "is in another chain");
    naive_close_fake(&naive, fake);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fake_device_notify__modern_writes_and_reads),
        cmocka_unit_test(test_fake_device_notify__legacy_writes_and_reads),
        cmocka_unit_test(test_fake_device_notify__indirect),
        cmocka_unit_test(test_fake_device_notify__any_framing),
        cmocka_unit_test(test_fake_device_notify__get_id_and_unknown_types),
        cmocka_unit_test(test_fake_device_notify__interrupts_as_the_driver_asks),
        cmocka_unit_test(test_fake_device_run__orders),
        cmocka_unit_test(test_fake_device_run__polls_the_rings),
        cmocka_unit_test(test_fake_device_notify__queues_are_independent),
        cmocka_unit_test(test_fake_device_cache__what_is_not_flushed_is_lost),
        cmocka_unit_test(test_fake_device_cache__flush_covers_what_was_complete_when_sent),
        cmocka_unit_test(test_fake_device_cache__write_through_needs_no_flush),
        cmocka_unit_test(test_fake_device_capacity__changes_under_way),
        cmocka_unit_test(test_fake_device_bad_sectors__answer_ioerr),
        cmocka_unit_test(test_fake_device_needs_reset__stands_still_until_reset),
        cmocka_unit_test(test_fake_device_reset__forgets_what_was_in_flight),
        cmocka_unit_test(test_fake_device_strict__status_order),
        cmocka_unit_test(test_fake_device_strict__features),
        cmocka_unit_test(test_fake_device_strict__queue_set_up),
        cmocka_unit_test(test_fake_device_strict__unreachable_ring),
        cmocka_unit_test(test_fake_device_strict__driver_ok_and_notifications),
        cmocka_unit_test(test_fake_device_strict__features_ok_must_be_read_back),
        cmocka_unit_test(test_fake_device_strict__registers),
        cmocka_unit_test(test_fake_device_strict__legacy_order),
        cmocka_unit_test(test_fake_device_strict__config_reads),
        cmocka_unit_test(test_fake_device_strict__config_writes),
        cmocka_unit_test(test_fake_device_strict__available_ring),
        cmocka_unit_test(test_fake_device_strict__chains),
        cmocka_unit_test(test_fake_device_strict__indirect_tables),
        cmocka_unit_test(test_fake_device_strict__requests),
        cmocka_unit_test(test_fake_device_strict__limits),
        cmocka_unit_test(test_fake_device_strict__owned_descriptors),
    };

    return cmocka_run_group_tests_name("fake_device", tests, NULL, NULL);
}
