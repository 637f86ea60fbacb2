/* SPDX-License-Identifier: MIT */
/* The device for benchmarks, with the naive driver. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include <linux/virtio_mmio.h>

#include "fake/fast_device.h"
#include "fake/naive_packed.h"

#define VERSION_1 SK_VIRTIO_FEATURE(SK_VIRTIO_F_VERSION_1)
#define INDIRECT  SK_VIRTIO_FEATURE(SK_VIRTIO_F_INDIRECT_DESC)
#define EVENT_IDX SK_VIRTIO_FEATURE(SK_VIRTIO_F_EVENT_IDX)
#define PACKED    SK_VIRTIO_FEATURE(SK_VIRTIO_F_RING_PACKED)

static void prepare_fast(struct naive *naive, struct fast_device *fast, bool polls,
                         bool interrupts)
{
    struct fast_device_config config = { .features = INDIRECT | EVENT_IDX | PACKED,
                                         .capacity_sectors = 100,
                                         .seg_max = 14,
                                         .polls = polls,
                                         .daddr = NAIVE_DADDR,
                                         .bytes = NAIVE_MEMORY_BYTES };

    naive_open(naive);
    config.memory = naive->memory;
    config.interrupt = interrupts ? naive_interrupt : NULL;
    config.interrupt_context = naive;
    fast_device_init(fast, &config);
    naive->mmio = &fast->mmio;
}

static void open_fast(struct naive *naive, struct fast_device *fast, bool polls, bool interrupts,
                      uint64_t features)
{
    prepare_fast(naive, fast, polls, interrupts);
    naive_start(naive, features);
}

static void test_fast_device_notify__completes_at_once(void **state)
{
    struct fast_device fast;
    struct naive naive;

    (void)state;
    open_fast(&naive, &fast, false, true, VERSION_1 | INDIRECT);
    assert_int_equal(naive_get(&naive, VIRTIO_MMIO_CONFIG), 100);
    for (unsigned round = 0; round < 100; round++) {
        naive_submit(&naive, 0, 0, 0, 512);
        naive_expect(&naive, 0, 0);
        naive_prepare_indirect(&naive, 1, 4, 0, 0);
        naive_publish(&naive, 3);
        naive_notify(&naive);
        naive_expect(&naive, 1, 0);
    }
    assert_false(naive_next_used(&naive));
    assert_int_equal(naive.interrupts, 200);
    assert_int_equal(fast_device_completions(&fast), 200);
    assert_int_equal(fast_device_notifications(&fast), 200);
    naive_close(&naive);
}

static void test_fast_device_notify__event_index_asks_for_the_next(void **state)
{
    struct fast_device fast;
    struct naive naive;

    (void)state;
    open_fast(&naive, &fast, false, true, VERSION_1 | EVENT_IDX);
    for (uint16_t round = 1; round < 50; round++) {
        naive_submit(&naive, 0, 0, 0, 512);
        naive_expect(&naive, 0, 0);
        assert_int_equal(naive_take(&naive, NAIVE_USED + 4 + 8 * NAIVE_RING_SIZE, 2), round);
    }
    /* used_event was 0 all the time: one interrupt, at the first entry. */
    assert_int_equal(naive.interrupts, 1);
    naive_close(&naive);
}

static void test_fast_device_run__polls_and_asks_for_nothing(void **state)
{
    struct fast_device fast;
    struct naive naive;

    (void)state;
    open_fast(&naive, &fast, true, false, VERSION_1);
    naive.quiet = true;
    assert_int_equal(naive_take(&naive, NAIVE_USED, 2), 1);
    naive_submit(&naive, 2, 1, 0, 512);
    assert_false(naive_next_used(&naive));
    assert_int_equal(fast_device_run(&fast), 1);
    naive_expect(&naive, 2, 0);
    assert_int_equal(fast_device_run(&fast), 0);
    naive_reset(&naive);
    naive_start(&naive, VERSION_1 | EVENT_IDX);
    assert_int_equal(naive_take(&naive, NAIVE_USED, 2), 0);
    assert_int_equal(naive_take(&naive, NAIVE_USED + 4 + 8 * NAIVE_RING_SIZE, 2), 0x8000);
    naive_submit(&naive, 2, 1, 0, 512);
    assert_int_equal(fast_device_run(&fast), 1);
    naive_expect(&naive, 2, 0);
    assert_int_equal(naive_take(&naive, NAIVE_USED + 4 + 8 * NAIVE_RING_SIZE, 2), 0x8001);
    naive_close(&naive);
}

static void add_packed(struct naive_packed *packed, unsigned slot, bool indirect)
{
    struct naive_piece pieces[3];
    uint32_t count = naive_packed_pieces(packed, slot, 0, 0, 512, pieces);

    if (indirect) {
        naive_packed_add_indirect(packed, slot, pieces, count);
    } else {
        naive_packed_add(packed, slot, pieces, count);
    }
}

static void test_fast_device_notify__packed_completes_at_once(void **state)
{
    static const uint32_t sizes[] = { 4, 5, 7, 16, 100 };
    struct naive_packed packed;
    struct fast_device fast;
    struct naive naive;

    (void)state;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        prepare_fast(&naive, &fast, false, true);
        naive_packed_start(&packed, &naive, sizes[i], VERSION_1 | PACKED | INDIRECT);
        assert_int_equal(naive_take(&naive, NAIVE_PACKED_DEVICE_EVENT + 2, 2), 0);
        for (unsigned round = 0; round < 100; round++) {
            add_packed(&packed, 0, false);
            add_packed(&packed, 1, true);
            naive_packed_notify(&packed);
            naive_packed_expect(&packed, 0, 0);
            naive_packed_expect(&packed, 1, 0);
            assert_false(naive_packed_next_used(&packed, false));
        }
        assert_int_equal(fast_device_completions(&fast), 200);
        assert_int_equal(naive.interrupts, 100);
        naive_close(&naive);
    }
}

static void test_fast_device_notify__packed_events(void **state)
{
    struct naive_packed packed;
    struct fast_device fast;
    struct naive naive;

    (void)state;
    prepare_fast(&naive, &fast, false, true);
    naive_packed_start(&packed, &naive, 7, VERSION_1 | PACKED | EVENT_IDX);
    assert_int_equal(naive_take(&naive, NAIVE_PACKED_DEVICE_EVENT + 2, 2), 2);
    naive_put(&naive, NAIVE_PACKED_DRIVER_EVENT, 4, 0x00010000);
    for (unsigned i = 0; i < 20; i++) {
        unsigned place = packed.next | (packed.next_wrap ? 0x8000u : 0);

        assert_int_equal(naive_take(&naive, NAIVE_PACKED_DEVICE_EVENT, 2), place);
        naive_packed_submit(&packed, 0, 0, 0, 512);
        naive_packed_expect(&packed, 0, 0);
    }
    assert_int_equal(naive.interrupts, 0);
    /* 60 descriptors: 8 rounds of 7, and 4; the counter is 1 again. */
    naive_put(&naive, NAIVE_PACKED_DRIVER_EVENT, 4, 0x00020000);
    naive_packed_submit(&packed, 0, 0, 0, 512); /* 4 to 6 */
    naive_packed_expect(&packed, 0, 0);
    assert_int_equal(naive.interrupts, 0);
    naive_packed_submit(&packed, 0, 0, 0, 512); /* 0 to 2 */
    naive_packed_expect(&packed, 0, 0);
    assert_int_equal(naive.interrupts, 1);
    naive_packed_submit(&packed, 0, 0, 0, 512); /* 3 to 5 */
    naive_packed_expect(&packed, 0, 0);
    naive_put(&naive, NAIVE_PACKED_DRIVER_EVENT, 4, 0x00020006);
    naive_packed_submit(&packed, 0, 0, 0, 512); /* 6 to 1 */
    naive_packed_expect(&packed, 0, 0);
    assert_int_equal(naive.interrupts, 2);
    naive_close(&naive);
}

static void test_fast_device_run__packed_polls(void **state)
{
    struct naive_packed packed;
    struct fast_device fast;
    struct naive naive;

    (void)state;
    prepare_fast(&naive, &fast, true, false);
    naive_packed_start(&packed, &naive, 6, VERSION_1 | PACKED | EVENT_IDX);
    assert_int_equal(naive_take(&naive, NAIVE_PACKED_DEVICE_EVENT + 2, 2), 1);
    naive.quiet = true;
    for (unsigned i = 0; i < 20; i++) {
        naive_packed_submit(&packed, 0, 0, 0, 512);
        naive_packed_submit(&packed, 1, 0, 0, 512);
        assert_false(naive_packed_next_used(&packed, false));
        assert_int_equal(fast_device_run(&fast), 2);
        naive_packed_expect(&packed, 0, 0);
        naive_packed_expect(&packed, 1, 0);
    }
    naive_close(&naive);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fast_device_notify__completes_at_once),
        cmocka_unit_test(test_fast_device_notify__event_index_asks_for_the_next),
        cmocka_unit_test(test_fast_device_run__polls_and_asks_for_nothing),
        cmocka_unit_test(test_fast_device_notify__packed_completes_at_once),
        cmocka_unit_test(test_fast_device_notify__packed_events),
        cmocka_unit_test(test_fast_device_run__packed_polls),
    };

    return cmocka_run_group_tests_name("fast_device", tests, NULL, NULL);
}
