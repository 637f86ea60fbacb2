/* SPDX-License-Identifier: MIT */
/* The fake device's packed queues against a naive driver: what they do, and what they object to. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <linux/virtio_ring.h>

#include "fake/naive_fake.h"
#include "fake/naive_packed.h"

#define PACKED   SK_VIRTIO_FEATURE(SK_VIRTIO_F_RING_PACKED)
#define FEATURES (VERSION_1 | PACKED)
#define ID       NAIVE_PACKED_ID

_Static_assert(NAIVE_PACKED_AVAILABLE == 1u << VRING_PACKED_DESC_F_AVAIL, "2.8.1");
_Static_assert(NAIVE_PACKED_USED == 1u << VRING_PACKED_DESC_F_USED, "2.8.1");
_Static_assert(NAIVE_PACKED_INDIRECT == VRING_DESC_F_INDIRECT, "2.8.7");
_Static_assert(sizeof(struct vring_packed_desc) == 16, "2.8.13");
_Static_assert(offsetof(struct vring_packed_desc, id) == 12, "2.8.13");
_Static_assert(offsetof(struct vring_packed_desc_event, flags) == 2, "2.8.14");
_Static_assert(VRING_PACKED_EVENT_FLAG_DISABLE == 1 && VRING_PACKED_EVENT_FLAG_DESC == 2, "2.8.10");
_Static_assert(SK_VIRTIO_F_RING_PACKED == VIRTIO_F_RING_PACKED, "6");

static const struct fake_device_config default_config = FAKE_DEVICE_CONFIG_DEFAULT;

struct rig {
    struct naive naive;
    struct naive_packed packed;
    struct fake_device *fake;
};

static void open_rig(struct rig *rig, const struct fake_device_config *config, uint32_t size,
                     uint64_t features)
{
    struct fake_device_config own = *config;

    own.features |= PACKED;
    rig->fake = naive_open_fake(&rig->naive, &own);
    naive_packed_start(&rig->packed, &rig->naive, size, features);
}

static void open_default(struct rig *rig, uint32_t size, uint64_t features)
{
    open_rig(rig, &default_config, size, features);
}

static void close_rig(struct rig *rig)
{
    naive_close_fake(&rig->naive, rig->fake);
}

/* A read of one sector, complete in itself. */
static void read_one(struct rig *rig, unsigned slot)
{
    naive_packed_submit(&rig->packed, slot, 0, 0, 512);
    naive_packed_expect(&rig->packed, slot, 0);
}

/* --- What it does ------------------------------------------------------- */

static void test_fake_packed_notify__writes_and_reads(void **state)
{
    struct rig rig;

    (void)state;
    open_default(&rig, 7, FEATURES | FLUSH);
    memset(naive_data(&rig.naive, 0), 0x3c, 1024);
    naive_packed_submit(&rig.packed, 0, 1, 5, 1024);
    naive_packed_expect(&rig.packed, 0, 0);
    assert_int_equal(rig.naive.last_length, 1);
    assert_int_equal(rig.packed.flags & 7, NAIVE_PACKED_WRITE);
    naive_packed_submit(&rig.packed, 1, 0, 6, 1024);
    naive_packed_expect(&rig.packed, 1, 0);
    assert_int_equal(rig.naive.last_length, 1025);
    assert_int_equal(naive_data(&rig.naive, 1)[511], 0x3c);
    assert_int_equal(naive_data(&rig.naive, 1)[512], 0);
    assert_int_equal(rig.naive.interrupts, 2);
    assert_false(naive_packed_next_used(&rig.packed, false));
    close_rig(&rig);
}

/* Sizes odd and even, chains of two and three, many rounds. */
static void test_fake_packed_notify__wraps_in_any_size(void **state)
{
    static const uint32_t sizes[] = { 3, 4, 5, 6, 7, 13, 16, 100 };
    struct rig rig;

    (void)state;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        open_default(&rig, sizes[i], FEATURES | FLUSH | INDIRECT);
        for (unsigned round = 0; round < 300; round++) {
            struct naive_piece pieces[3];

            read_one(&rig, round % 5);
            naive_packed_submit(&rig.packed, 1, 4, 0, 0);
            naive_packed_expect(&rig.packed, 1, 0);
            naive_packed_add_indirect(&rig.packed, 2, pieces,
                                      naive_packed_pieces(&rig.packed, 2, 0, 9, 512, pieces));
            naive_packed_notify(&rig.packed);
            naive_packed_expect(&rig.packed, 2, 0);
        }
        assert_int_equal(rig.fake->completions, 900);
        close_rig(&rig);
    }
}

static void test_fake_packed_run__any_order_with_a_full_ring(void **state)
{
    static const enum fake_order orders[] = { FAKE_ORDER_FIRST_IN, FAKE_ORDER_LAST_IN,
                                              FAKE_ORDER_RANDOM };
    struct fake_device_config config = default_config;
    struct rig rig;

    (void)state;
    config.deferred = true;
    for (size_t i = 0; i < 3; i++) {
        config.order = orders[i];
        open_rig(&rig, &config, 14, FEATURES | FLUSH | EVENT_IDX);
        for (unsigned round = 0; round < 100; round++) {
            for (unsigned slot = 0; slot < 5; slot++) {
                /* 3 + 2 + 3 + 2 + 3 descriptors of 14 */
                naive_packed_submit(&rig.packed, slot, slot % 2 == 0 ? 0 : 4, 0,
                                    slot % 2 == 0 ? 512 : 0);
            }
            assert_int_equal(fake_device_run(rig.fake, 2), 2);
            assert_int_equal(fake_device_run(rig.fake, UINT_MAX), 3);
            for (unsigned j = 0; j < 5; j++) {
                assert_true(naive_packed_next_used(&rig.packed, false));
                assert_true(orders[i] != FAKE_ORDER_FIRST_IN || rig.naive.last_id == ID + j);
            }
            assert_int_equal(rig.packed.count, 0);
        }
        close_rig(&rig);
    }
}

static void test_fake_packed_run__polls_the_ring(void **state)
{
    struct fake_device_config config = default_config;
    struct rig rig;

    (void)state;
    config.polls = true;
    config.deferred = true;
    open_rig(&rig, &config, 9, FEATURES | EVENT_IDX);
    assert_int_equal(naive_take(&rig.naive, NAIVE_PACKED_DEVICE_EVENT + 2, 2), 1);
    rig.naive.quiet = true;
    naive_packed_submit(&rig.packed, 0, 0, 0, 512);
    assert_int_equal(fake_device_run(rig.fake, UINT_MAX), 1);
    naive_packed_expect(&rig.packed, 0, 0);
    close_rig(&rig);
}

static void test_fake_packed_event__device_asks_for_the_next_descriptor(void **state)
{
    struct rig rig;

    (void)state;
    open_default(&rig, 5, FEATURES | EVENT_IDX);
    for (unsigned i = 0; i < 50; i++) {
        unsigned place = rig.packed.next | (rig.packed.next_wrap ? 0x8000u : 0);

        assert_int_equal(naive_take(&rig.naive, NAIVE_PACKED_DEVICE_EVENT, 2), place);
        assert_int_equal(naive_take(&rig.naive, NAIVE_PACKED_DEVICE_EVENT + 2, 2), 2);
        read_one(&rig, 0);
    }
    naive_packed_start(&rig.packed, &rig.naive, 5, FEATURES);
    assert_int_equal(naive_take(&rig.naive, NAIVE_PACKED_DEVICE_EVENT, 4), 0);
    close_rig(&rig);
}

static void test_fake_packed_event__interrupts_as_the_driver_asks(void **state)
{
    struct rig rig;

    (void)state;
    open_default(&rig, 7, FEATURES | EVENT_IDX);
    read_one(&rig, 0); /* enabled: each */
    assert_int_equal(rig.naive.interrupts, 1);
    naive_put(&rig.naive, NAIVE_PACKED_DRIVER_EVENT + 2, 2, 1);
    read_one(&rig, 0); /* 3 to 5 */
    assert_int_equal(rig.naive.interrupts, 1);
    naive_put(&rig.naive, NAIVE_PACKED_DRIVER_EVENT + 2, 2, 2);
    naive_put(&rig.naive, NAIVE_PACKED_DRIVER_EVENT, 2, 3); /* in the next round only */
    read_one(&rig, 0); /* 6 to 1 */
    assert_int_equal(rig.naive.interrupts, 1);
    read_one(&rig, 0); /* 2 to 4, the next round */
    assert_int_equal(rig.naive.interrupts, 2);
    read_one(&rig, 0); /* 5, 6, 0 */
    assert_int_equal(rig.naive.interrupts, 2);
    naive_put(&rig.naive, NAIVE_PACKED_DRIVER_EVENT, 2, 0x8001);
    read_one(&rig, 0); /* 1 to 3 */
    assert_int_equal(rig.naive.interrupts, 3);
    close_rig(&rig);
}

/* --- What it objects to -------------------------------------------------- */

static void test_fake_packed_violation__driver_event(void **state)
{
    struct rig rig;

    (void)state;
    open_default(&rig, 8, FEATURES | EVENT_IDX);
    naive_put(&rig.naive, NAIVE_PACKED_DRIVER_EVENT, 4, 0x00020008);
    read_one(&rig, 0);
    naive_expect_violation(rig.fake, "driver event at 8 of 8");
    naive_put(&rig.naive, NAIVE_PACKED_DRIVER_EVENT, 4, 0x00030000);
    read_one(&rig, 0);
    naive_expect_violation(rig.fake, "driver event flags 0x3");
    naive_packed_start(&rig.packed, &rig.naive, 8, FEATURES);
    naive_put(&rig.naive, NAIVE_PACKED_DRIVER_EVENT, 4, 0x00020000);
    read_one(&rig, 0);
    naive_expect_violation(rig.fake, "driver event flags 0x2");
    close_rig(&rig);
}

static void expect_bad_chain(const struct naive_piece *pieces, uint32_t count, uint64_t features,
                             const char *text)
{
    struct naive_piece normal[3];
    struct rig rig;

    open_default(&rig, 8, features);
    (void)naive_packed_pieces(&rig.packed, 0, 0, 0, 512, normal);
    naive_packed_add(&rig.packed, 0, pieces, count);
    naive_packed_notify(&rig.packed);
    naive_expect_violation(rig.fake, text);
    assert_true(naive_packed_next_used(&rig.packed, false));
    read_one(&rig, 1); /* it goes on */
    close_rig(&rig);
}

static void test_fake_packed_violation__chains(void **state)
{
    static const struct naive_piece no_length[] = { { NAIVE_HEADER, 16, 0 },
                                                    { NAIVE_DATA, 0, 2 },
                                                    { NAIVE_STATUS, 1, 2 } };
    static const struct naive_piece backwards[] = { { NAIVE_HEADER, 16, 0 },
                                                    { NAIVE_STATUS, 1, 2 },
                                                    { NAIVE_DATA, 512, 0 } };
    static const struct naive_piece far[] = { { NAIVE_HEADER, 16, 0 },
                                              { NAIVE_MEMORY_BYTES, 512, 2 },
                                              { NAIVE_STATUS, 1, 2 } };
    static const struct naive_piece odd[] = { { NAIVE_HEADER, 16, 0x10 }, { NAIVE_STATUS, 1, 2 } };
    static const struct naive_piece table[] = { { NAIVE_TABLE, 48, 4 } };
    static const struct naive_piece mixed[] = { { NAIVE_HEADER, 16, 0 }, { NAIVE_TABLE, 48, 4 } };
    static const struct naive_piece leading[] = { { NAIVE_TABLE, 48, 4 }, { NAIVE_STATUS, 1, 2 } };
    static const struct naive_piece ragged[] = { { NAIVE_TABLE, 40, 4 } };
    static const struct naive_piece large[] = { { NAIVE_TABLE, 16 * 9, 4 } };
    static const struct naive_piece nowhere[] = { { NAIVE_MEMORY_BYTES, 48, 4 } };

    (void)state;
    expect_bad_chain(no_length, 3, FEATURES, "length zero");
    expect_bad_chain(backwards, 3, FEATURES, "readable descriptor after a writable");
    expect_bad_chain(far, 3, FEATURES, "unreachable");
    expect_bad_chain(odd, 2, FEATURES, "unknown descriptor flags");
    expect_bad_chain(table, 1, FEATURES, "indirect without the feature");
    expect_bad_chain(mixed, 2, FEATURES | INDIRECT, "indirect with next");
    expect_bad_chain(leading, 2, FEATURES | INDIRECT, "indirect with next");
    expect_bad_chain(ragged, 1, FEATURES | INDIRECT, "indirect table's length");
    expect_bad_chain(large, 1, FEATURES | INDIRECT, "indirect table longer");
    expect_bad_chain(nowhere, 1, FEATURES | INDIRECT, "indirect table is unreachable");
}

static void test_fake_packed_violation__flags_in_an_indirect_table(void **state)
{
    static const uint16_t bad[] = { NAIVE_PACKED_NEXT, NAIVE_PACKED_INDIRECT,
                                    NAIVE_PACKED_AVAILABLE, NAIVE_PACKED_USED };
    struct naive_piece pieces[3];
    struct rig rig;

    (void)state;
    for (size_t i = 0; i < 4; i++) {
        open_default(&rig, 8, FEATURES | INDIRECT);
        (void)naive_packed_pieces(&rig.packed, 0, 0, 0, 512, pieces);
        pieces[1].flags |= bad[i];
        naive_packed_add_indirect(&rig.packed, 0, pieces, 3);
        naive_packed_notify(&rig.packed);
        naive_expect_violation(rig.fake, "indirect descriptor's flags");
        close_rig(&rig);
    }
}

static void test_fake_packed_violation__ring_overrun(void **state)
{
    struct fake_device_config config = default_config;
    const struct naive_piece endless = { NAIVE_HEADER, 16, NAIVE_PACKED_NEXT };
    struct rig rig;

    (void)state;
    config.deferred = true;
    open_rig(&rig, &config, 5, FEATURES);
    naive_packed_submit(&rig.packed, 0, 0, 0, 512);
    naive_packed_submit(&rig.packed, 1, 0, 0, 512);
    naive_expect_violation(rig.fake, "is made available while the device owns it");
    naive_packed_start(&rig.packed, &rig.naive, 5, FEATURES);
    for (unsigned i = 0; i < 5; i++) {
        naive_packed_put(&rig.packed, i, &endless, ID);
    }
    naive_packed_notify(&rig.packed);
    naive_expect_violation(rig.fake, "makes the chain longer than the queue");
    close_rig(&rig);
}

static void test_fake_packed_violation__wrap_counters(void **state)
{
    struct naive_piece pieces[3];
    struct rig rig;

    (void)state;
    open_default(&rig, 8, FEATURES);
    rig.packed.next_wrap = false;
    naive_packed_submit(&rig.packed, 0, 0, 0, 512);
    naive_expect_violation(rig.fake, "are those of another round");
    naive_packed_start(&rig.packed, &rig.naive, 4, FEATURES);
    read_one(&rig, 0);
    (void)naive_packed_pieces(&rig.packed, 1, 0, 0, 512, pieces);
    naive_packed_add(&rig.packed, 1, pieces, 3);
    /* The second descriptor of the chain is the first of the next round, and marked as in this. */
    naive_put(&rig.naive, 14, 2, NAIVE_PACKED_AVAILABLE | NAIVE_PACKED_NEXT | NAIVE_PACKED_WRITE);
    naive_packed_notify(&rig.packed);
    naive_expect_violation(rig.fake, "descriptor 0 is not available");
    close_rig(&rig);
}

static void test_fake_packed_violation__id_twice_and_changes(void **state)
{
    struct fake_device_config config = default_config;
    struct naive_piece pieces[3];
    struct rig rig;

    (void)state;
    config.deferred = true;
    open_rig(&rig, &config, 9, FEATURES | INDIRECT);
    naive_packed_submit(&rig.packed, 0, 0, 0, 512);
    naive_packed_submit(&rig.packed, 0, 0, 0, 512);
    naive_expect_violation(rig.fake, "its buffer id is at the device");
    assert_int_equal(fake_device_run(rig.fake, UINT_MAX), 2);
    naive_packed_start(&rig.packed, &rig.naive, 9, FEATURES | INDIRECT);
    naive_packed_submit(&rig.packed, 0, 0, 0, 512);
    naive_put(&rig.naive, 16, 1, 0x55);
    assert_int_equal(fake_device_run(rig.fake, UINT_MAX), 1);
    naive_expect_violation(rig.fake, "descriptor 1 changed while the device owned it");
    naive_packed_start(&rig.packed, &rig.naive, 9, FEATURES | INDIRECT);
    naive_packed_add_indirect(&rig.packed, 2, pieces,
                              naive_packed_pieces(&rig.packed, 2, 0, 9, 512, pieces));
    naive_packed_notify(&rig.packed);
    naive_put(&rig.naive, NAIVE_TABLE + 512, 1, 0x55);
    assert_int_equal(fake_device_run(rig.fake, UINT_MAX), 1);
    naive_expect_violation(rig.fake, "descriptors changed while the device owned them");
    close_rig(&rig);
}

static void test_fake_packed_violation__untold_and_not_zero(void **state)
{
    struct fake_device_config config = default_config;
    struct rig rig;

    (void)state;
    config.deferred = true;
    open_rig(&rig, &config, 9, FEATURES);
    rig.naive.quiet = true;
    naive_packed_submit(&rig.packed, 0, 0, 0, 512);
    assert_int_equal(fake_device_run(rig.fake, UINT_MAX), 0);
    naive_expect_violation(rig.fake, "the device was not told");
    naive_negotiate(&rig.naive, FEATURES);
    naive_set(&rig.naive, VIRTIO_MMIO_QUEUE_SEL, 0);
    (void)naive_get(&rig.naive, VIRTIO_MMIO_QUEUE_READY);
    (void)naive_get(&rig.naive, VIRTIO_MMIO_QUEUE_NUM_MAX);
    naive_set(&rig.naive, VIRTIO_MMIO_QUEUE_NUM, 9);
    naive_set(&rig.naive, VIRTIO_MMIO_QUEUE_DESC_LOW, (uint32_t)NAIVE_DADDR);
    naive_set(&rig.naive, VIRTIO_MMIO_QUEUE_DESC_HIGH, (uint32_t)(NAIVE_DADDR >> 32));
    naive_set(&rig.naive, VIRTIO_MMIO_QUEUE_AVAIL_LOW, (uint32_t)NAIVE_DADDR + 4082);
    naive_set(&rig.naive, VIRTIO_MMIO_QUEUE_AVAIL_HIGH, (uint32_t)(NAIVE_DADDR >> 32));
    naive_set(&rig.naive, VIRTIO_MMIO_QUEUE_USED_LOW, (uint32_t)NAIVE_DADDR + 4084);
    naive_set(&rig.naive, VIRTIO_MMIO_QUEUE_USED_HIGH, (uint32_t)(NAIVE_DADDR >> 32));
    naive_set(&rig.naive, VIRTIO_MMIO_QUEUE_READY, 1);
    naive_expect_violation(rig.fake, "queue enabled with size 9 at");
    naive_set(&rig.naive, VIRTIO_MMIO_QUEUE_AVAIL_LOW, (uint32_t)NAIVE_DADDR + 4080);
    naive_set(&rig.naive, VIRTIO_MMIO_QUEUE_READY, 1);
    naive_expect_violation(rig.fake, "descriptor ring that is not zero");
    naive_negotiate(&rig.naive, VERSION_1);
    (void)naive_get(&rig.naive, VIRTIO_MMIO_QUEUE_READY);
    (void)naive_get(&rig.naive, VIRTIO_MMIO_QUEUE_NUM_MAX);
    naive_set(&rig.naive, VIRTIO_MMIO_QUEUE_NUM, 9);
    naive_expect_violation(rig.fake, "queue size 9");
    close_rig(&rig);
}

/* --- What it does wrong -------------------------------------------------- */

static void expect_used(struct rig *rig, uint32_t id, uint32_t length)
{
    assert_true(naive_packed_next_used(&rig->packed, false));
    assert_int_equal(rig->naive.last_id, id);
    assert_int_equal(rig->naive.last_length, length);
}

static void restart(struct rig *rig)
{
    naive_packed_start(&rig->packed, &rig->naive, 10, FEATURES | INDIRECT);
}

static void submit_with(struct rig *rig, enum fake_fault fault, uint64_t argument)
{
    restart(rig);
    fake_device_fault(rig->fake, fault, argument, 0, 1);
    naive_packed_submit(&rig->packed, 1, 0, 0, 512);
    assert_int_equal(rig->fake->faults[fault].fired, 1);
}

static uint32_t flags_at(const struct rig *rig, unsigned place)
{
    return naive_take(&rig->naive, 16u * place + 14, 2);
}

static void test_fake_packed_fault__used_entries_are_wrong(void **state)
{
    struct rig rig;

    (void)state;
    open_default(&rig, 10, FEATURES | INDIRECT);
    submit_with(&rig, FAKE_FAULT_USED_ID, 0x1234);
    expect_used(&rig, 0x1234, 513);
    submit_with(&rig, FAKE_FAULT_USED_ID_OFFSET, 2);
    expect_used(&rig, ID + 3, 513);
    submit_with(&rig, FAKE_FAULT_USED_LENGTH, UINT32_MAX);
    expect_used(&rig, ID + 1, UINT32_MAX);
    submit_with(&rig, FAKE_FAULT_USED_LENGTH_OFFSET, 1);
    expect_used(&rig, ID + 1, 514);
    submit_with(&rig, FAKE_FAULT_USED_REPLAY, 2);
    expect_used(&rig, ID + 1, 513);
    expect_used(&rig, ID + 1, 513);
    assert_int_equal(flags_at(&rig, 6), 0x8082);
    assert_int_equal(flags_at(&rig, 9), 0);
    submit_with(&rig, FAKE_FAULT_USED_INDEX, 3);
    expect_used(&rig, ID + 1, 513);
    for (unsigned place = 3; place < 6; place++) {
        assert_int_equal(flags_at(&rig, place), 0x8080);
    }
    assert_int_equal(flags_at(&rig, 6), 0);
    close_rig(&rig);
}

static void test_fake_packed_fault__wrap_bits_and_places_are_wrong(void **state)
{
    struct rig rig;

    (void)state;
    open_default(&rig, 10, FEATURES | INDIRECT);
    submit_with(&rig, FAKE_FAULT_USED_FLAGS, 0x8080);
    assert_int_equal(flags_at(&rig, 0), 0x0002);
    assert_false(naive_packed_next_used(&rig.packed, false));
    submit_with(&rig, FAKE_FAULT_USED_FLAGS, 0x0080);
    assert_int_equal(flags_at(&rig, 0), 0x8002);
    submit_with(&rig, FAKE_FAULT_USED_PLACE, 4);
    assert_int_equal(flags_at(&rig, 0), 0x0081);
    assert_int_equal(flags_at(&rig, 4), 0x8082);
    assert_false(naive_packed_next_used(&rig.packed, false));
    restart(&rig);
    fake_device_forge_used(rig.fake, 0, 77, 9);
    expect_used(&rig, 77, 9);
    fake_device_forge_used_index(rig.fake, 0, 5);
    fake_device_forge_used(rig.fake, 0, 78, 9);
    assert_int_equal(flags_at(&rig, 5), 0x0002);
    close_rig(&rig);
}

static void test_fake_packed_fault__requests(void **state)
{
    struct rig rig;

    (void)state;
    open_default(&rig, 10, FEATURES | INDIRECT);
    submit_with(&rig, FAKE_FAULT_STATUS_BYTE, 77);
    naive_packed_expect(&rig.packed, 1, 77);
    submit_with(&rig, FAKE_FAULT_NO_STATUS, 0);
    naive_packed_expect(&rig.packed, 1, 0xee);
    submit_with(&rig, FAKE_FAULT_IO_ERROR, 0);
    naive_packed_expect(&rig.packed, 1, 1);
    submit_with(&rig, FAKE_FAULT_STALL, 0);
    assert_false(naive_packed_next_used(&rig.packed, false));
    read_one(&rig, 2);
    assert_int_equal(fake_device_complete_stalled(rig.fake), 1);
    naive_packed_expect(&rig.packed, 1, 0);
    submit_with(&rig, FAKE_FAULT_STALL, 0);
    restart(&rig);
    assert_int_equal(fake_device_complete_stalled(rig.fake), 0);
    submit_with(&rig, FAKE_FAULT_DEAF, 0);
    assert_false(naive_packed_next_used(&rig.packed, false));
    naive_packed_notify(&rig.packed);
    naive_packed_expect(&rig.packed, 1, 0);
    rig.naive.interrupts = 0;
    submit_with(&rig, FAKE_FAULT_NO_INTERRUPT, 0);
    assert_int_equal(rig.naive.interrupts, 0);
    close_rig(&rig);
}

static void test_fake_packed_fault__scribbles(void **state)
{
    struct fake_device_config config = default_config;
    struct rig rig;
    uint8_t before[48];

    (void)state;
    config.deferred = true;
    open_rig(&rig, &config, 10, FEATURES);
    fake_device_fault(rig.fake, FAKE_FAULT_SCRIBBLE, 0, 0, 1);
    naive_packed_submit(&rig.packed, 0, 0, 0, 512);
    memcpy(before, rig.naive.memory, 48);
    assert_false(naive_packed_next_used(&rig.packed, false));
    assert_int_equal(fake_device_run(rig.fake, UINT_MAX), 1);
    naive_packed_expect(&rig.packed, 0, 0);
    assert_memory_not_equal(before, rig.naive.memory, 48);
    assert_int_equal(naive_take(&rig.naive, 16 + 8, 4), 512); /* put right */
    fake_device_fault(rig.fake, FAKE_FAULT_SCRIBBLE_FOR_GOOD, 0, 0, 1);
    naive_packed_submit(&rig.packed, 0, 0, 0, 512);
    assert_int_equal(fake_device_run(rig.fake, UINT_MAX), 1);
    naive_packed_expect(&rig.packed, 0, 0);
    assert_int_not_equal(naive_take(&rig.naive, 64 + 8, 4), 512);
    close_rig(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fake_packed_notify__writes_and_reads),
        cmocka_unit_test(test_fake_packed_notify__wraps_in_any_size),
        cmocka_unit_test(test_fake_packed_run__any_order_with_a_full_ring),
        cmocka_unit_test(test_fake_packed_run__polls_the_ring),
        cmocka_unit_test(test_fake_packed_event__device_asks_for_the_next_descriptor),
        cmocka_unit_test(test_fake_packed_event__interrupts_as_the_driver_asks),
        cmocka_unit_test(test_fake_packed_violation__driver_event),
        cmocka_unit_test(test_fake_packed_violation__chains),
        cmocka_unit_test(test_fake_packed_violation__flags_in_an_indirect_table),
        cmocka_unit_test(test_fake_packed_violation__ring_overrun),
        cmocka_unit_test(test_fake_packed_violation__wrap_counters),
        cmocka_unit_test(test_fake_packed_violation__id_twice_and_changes),
        cmocka_unit_test(test_fake_packed_violation__untold_and_not_zero),
        cmocka_unit_test(test_fake_packed_fault__used_entries_are_wrong),
        cmocka_unit_test(test_fake_packed_fault__wrap_bits_and_places_are_wrong),
        cmocka_unit_test(test_fake_packed_fault__requests),
        cmocka_unit_test(test_fake_packed_fault__scribbles),
    };

    return cmocka_run_group_tests_name("fake_packed", tests, NULL, NULL);
}
