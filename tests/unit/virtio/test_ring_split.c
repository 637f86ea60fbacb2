/* SPDX-License-Identifier: MIT */
/* Split rings near the end of their 16-bit indexes, against the layout of Linux's headers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <linux/virtio_ring.h>

#include "virtio/ring.h"

_Static_assert(SKI_RING_NEXT == VRING_DESC_F_NEXT, "2.7.5");
_Static_assert(SKI_RING_WRITE == VRING_DESC_F_WRITE, "2.7.5");
_Static_assert(SKI_RING_INDIRECT == VRING_DESC_F_INDIRECT, "2.7.5");

static struct {
    struct ski_ring ring;
    struct vring device; /* the same memory as Linux finds its parts */
    void *memory;
} rig;

static struct ski_ring_split *start(uint32_t size, uint32_t index, bool event_idx)
{
    struct ski_ring_split *ring = &rig.ring.split;
    struct ski_ring_layout layout;

    ski_ring_split_lay_out(size, 4, &layout);
    rig.memory = aligned_alloc(4096, (layout.bytes + 4095) / 4096 * 4096);
    assert_non_null(rig.memory);
    memset(&rig.ring, 0, sizeof(rig.ring));
    ski_ring_split_init(ring, rig.memory, (uint16_t)size, &layout);
    vring_init(&rig.device, size, rig.memory, 4);
    assert_ptr_equal((uint8_t *)rig.memory + layout.driver_area, rig.device.avail);
    assert_ptr_equal((uint8_t *)rig.memory + layout.device_area, rig.device.used);
    assert_int_equal(layout.bytes, vring_size(size, 4));
    ring->event_idx = event_idx;
    ring->added = index;
    ring->published = index;
    ring->taken = index;
    rig.device.avail->idx = (uint16_t)index;
    rig.device.used->idx = (uint16_t)index;
    return ring;
}

static void stop(void)
{
    free(rig.memory);
    rig.memory = NULL;
}

/* Where rings start: at 0, and so that what is added lies before, across and behind the wrap. */
static const uint32_t starts[] = { 0, 65520, 65533, 65534, 65535, 65536, UINT32_MAX - 1 };

#define STARTS (sizeof(starts) / sizeof(starts[0]))

static void test_ring_split_publish__index_and_places_pass_65535(void **state)
{
    (void)state;
    for (size_t i = 0; i < STARTS; i++) {
        struct ski_ring_split *ring = start(8, starts[i], false);

        for (uint32_t n = 0; n < 20; n++) {
            uint16_t index = (uint16_t)(starts[i] + n);

            ski_ring_split_add(ring, (uint16_t)(n + 3));
            assert_int_equal(rig.device.avail->idx, index); /* not told yet */
            assert_true(ski_ring_has_news(&rig.ring));
            assert_true(ski_ring_split_publish(ring));
            assert_false(ski_ring_has_news(&rig.ring));
            assert_int_equal(rig.device.avail->ring[index % 8], n + 3);
            assert_int_equal(rig.device.avail->idx, (uint16_t)(index + 1));
            assert_int_equal(ski_ring_position(&rig.ring), (uint16_t)(index + 1));
        }
        rig.device.used->flags = VRING_USED_F_NO_NOTIFY;
        ski_ring_split_add(ring, 1);
        assert_false(ski_ring_split_publish(ring));
        stop();
    }
}

/* For every step and every wish around the wrap, as Linux's formula has it. */
static void test_ring_split_publish__every_event_around_the_wrap(void **state)
{
    (void)state;
    for (uint32_t before = 65520; before < 65552; before++) {
        struct ski_ring_split *ring = start(16, before, true);

        for (uint32_t count = 1; count <= 16; count++) {
            for (uint32_t event = before - 20; event < before + 40; event++) {
                uint16_t after = (uint16_t)(before + count);

                ring->published = before;
                ring->added = before + count;
                vring_avail_event(&rig.device) = (uint16_t)event;
                assert_int_equal(ski_ring_split_publish(ring),
                                 vring_need_event((uint16_t)event, after, (uint16_t)before));
                assert_int_equal(rig.device.avail->idx, after);
            }
        }
        stop();
    }
}

static void test_ring_split_pending__counts_across_the_wrap_and_no_further(void **state)
{
    (void)state;
    for (size_t i = 0; i < STARTS; i++) {
        struct ski_ring_split *ring = start(16, starts[i], false);

        for (uint32_t outstanding = 0; outstanding <= 16; outstanding++) {
            ring->added = starts[i] + outstanding;
            ring->published = ring->added;
            for (uint32_t jump = 0; jump <= UINT16_MAX; jump += jump < 40 ? 1 : 101) {
                uint16_t pending;

                rig.device.used->idx = (uint16_t)(starts[i] + jump);
                assert_int_equal(ski_ring_split_pending(ring, &pending),
                                 jump <= outstanding ? SK_OK : SK_ERR_MALFORMED);
                assert_int_equal(pending, jump);
                assert_int_equal(ski_ring_has_used(&rig.ring), jump != 0);
            }
        }
        stop();
    }
}

static void test_ring_split_take__elements_pass_the_wrap(void **state)
{
    (void)state;
    for (size_t i = 0; i < STARTS; i++) {
        struct ski_ring_split *ring = start(4, starts[i], false);

        for (uint32_t n = 0; n < 12; n++) {
            rig.device.used->ring[(uint16_t)(starts[i] + n) % 4].id = n * 0x10001;
            assert_int_equal(ski_ring_split_id(ring), n * 0x10001); /* does not move on */
            assert_int_equal(ski_ring_split_take(ring), n * 0x10001);
            assert_int_equal((uint16_t)ring->taken, (uint16_t)(starts[i] + n + 1));
        }
        stop();
    }
}

static void test_ring_split_interrupts__wishes_around_the_wrap(void **state)
{
    (void)state;
    for (size_t i = 0; i < STARTS; i++) {
        struct ski_ring_split *ring = start(8, starts[i], true);

        for (uint32_t n = 0; n < 12; n++) {
            uint16_t index = (uint16_t)(starts[i] + n);

            ring->taken = starts[i] + n;
            rig.device.used->idx = index;
            assert_false(ski_ring_interrupts_on(&rig.ring));
            assert_int_equal(vring_used_event(&rig.device), index);
            assert_true(vring_need_event(vring_used_event(&rig.device), (uint16_t)(index + 1), index));
            rig.device.used->idx = (uint16_t)(index + 1);
            assert_true(ski_ring_interrupts_on(&rig.ring));
            ski_ring_interrupts_off(&rig.ring);
            for (uint32_t more = 1; more <= 8; more++) { /* none of what can come is wanted */
                assert_false(vring_need_event(vring_used_event(&rig.device),
                                              (uint16_t)(index + more), index));
            }
        }
        stop();
    }
}

/* IN_ORDER: the rest of a batch is work, whatever the index says. */
static void test_ring_has_used__rest_of_a_batch_counts(void **state)
{
    (void)state;
    (void)start(8, 65535, true);
    assert_false(ski_ring_has_used(&rig.ring));
    rig.ring.batch = 1;
    assert_true(ski_ring_has_used(&rig.ring));
    assert_true(ski_ring_interrupts_on(&rig.ring));
    assert_true(ski_ring_interrupts_at(&rig.ring, 2));
    stop();
}

static void test_ring_split_fill__each_place_has_its_head(void **state)
{
    (void)state;
    for (uint32_t size = 2; size <= 32768; size *= 4) {
        struct ski_ring_split *ring = start(size, 65534, false);

        ski_ring_split_fill(ring);
        for (uint32_t place = 0; place < size; place++) {
            assert_int_equal(rig.device.avail->ring[place], place);
        }
        assert_int_equal(rig.device.avail->idx, 65534);
        assert_int_equal(rig.device.avail->flags, 0);
        assert_int_equal(vring_used_event(&rig.device), 0);
        stop();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ring_split_publish__index_and_places_pass_65535),
        cmocka_unit_test(test_ring_split_publish__every_event_around_the_wrap),
        cmocka_unit_test(test_ring_split_pending__counts_across_the_wrap_and_no_further),
        cmocka_unit_test(test_ring_split_take__elements_pass_the_wrap),
        cmocka_unit_test(test_ring_split_interrupts__wishes_around_the_wrap),
        cmocka_unit_test(test_ring_has_used__rest_of_a_batch_counts),
        cmocka_unit_test(test_ring_split_fill__each_place_has_its_head),
    };

    return cmocka_run_group_tests_name("ring_split", tests, NULL, NULL);
}
