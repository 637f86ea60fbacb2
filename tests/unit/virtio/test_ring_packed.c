/* SPDX-License-Identifier: MIT */
/*
 * Packed rings of any size at each of their places, and over several laps, against
 * positions that are counted on and on: 2.8.1 says what they mean.
 */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <linux/virtio_ring.h>

#include "virtio/ring.h"

_Static_assert(SKI_RING_PACKED_AVAILABLE == 1u << VRING_PACKED_DESC_F_AVAIL, "2.8.1");
_Static_assert(SKI_RING_PACKED_USED == 1u << VRING_PACKED_DESC_F_USED, "2.8.1");
_Static_assert(SKI_RING_EVENT_ENABLE == VRING_PACKED_EVENT_FLAG_ENABLE, "2.8.10");
_Static_assert(SKI_RING_EVENT_DISABLE == VRING_PACKED_EVENT_FLAG_DISABLE, "2.8.10");
_Static_assert(SKI_RING_EVENT_AT == VRING_PACKED_EVENT_FLAG_DESC, "2.8.10");

static const uint32_t sizes[] = { 2, 3, 5, 7, 8, 13, 127, 128, 32767, 32768 };

#define SIZES (sizeof(sizes) / sizeof(sizes[0]))

static struct {
    struct ski_ring ring;
    struct vring_packed_desc *descriptors; /* the same memory as Linux has its fields */
    struct vring_packed_desc_event *driver;
    struct vring_packed_desc_event *device;
    void *memory;
    uint32_t size;
} rig;

/* A ring whose next descriptor to be made available, and to be used, is at a position. */
static struct ski_ring_packed *start(uint32_t size, uint32_t position, bool event_idx)
{
    struct ski_ring_packed *ring = &rig.ring.packed;
    struct ski_ring_layout layout;

    memset(&rig.ring, 0, sizeof(rig.ring));
    rig.ring.is_packed = true;
    rig.size = size;
    ski_ring_packed_lay_out(size, &layout);
    rig.memory = aligned_alloc(64, (layout.bytes + 63) / 64 * 64);
    assert_non_null(rig.memory);
    ski_ring_packed_init(ring, rig.memory, (uint16_t)size, &layout);
    rig.descriptors = rig.memory;
    rig.driver = (void *)((uint8_t *)rig.memory + layout.driver_area);
    rig.device = (void *)((uint8_t *)rig.memory + layout.device_area);
    ring->event_idx = event_idx;
    for (uint32_t i = 0; i < position; i++) {
        ski_ring_packed_move(size, &ring->next, &ring->next_marks, 1);
        ski_ring_packed_move(size, &ring->taken, &ring->taken_marks, 1);
        rig.descriptors[i % size].flags = (uint16_t)(i / size % 2 == 0 ? SKI_RING_PACKED_MARKS : 0);
    }
    return ring;
}

static void stop(void)
{
    free(rig.memory);
    rig.memory = NULL;
}

/* The wrap counter of a position: 1 in the first lap. */
static uint32_t wrap_at(uint64_t position)
{
    return position / rig.size % 2 == 0;
}

static bool is_available(uint64_t position)
{
    uint16_t flags = rig.descriptors[position % rig.size].flags;
    uint32_t avail = flags >> VRING_PACKED_DESC_F_AVAIL & 1;
    uint32_t used = flags >> VRING_PACKED_DESC_F_USED & 1;

    return avail == wrap_at(position) && used != wrap_at(position);
}

/* What a device does: id, length, then the flags. */
static void use(uint64_t position, uint16_t id)
{
    struct vring_packed_desc *descriptor = &rig.descriptors[position % rig.size];

    descriptor->id = id;
    descriptor->len = 1;
    descriptor->flags = wrap_at(position) ? SKI_RING_PACKED_MARKS : 0;
}

/* A chain of `count` at a position, as the driver makes it. */
static void add(struct ski_ring_packed *ring, uint32_t count, uint32_t id)
{
    for (uint32_t i = 1; i < count; i++) {
        ski_ring_packed_put(ring, i, 0x1000 + i, i, id, SKI_RING_WRITE);
    }
    ski_ring_packed_add(ring, count, 0x2000, 16, id, count > 1 ? SKI_RING_NEXT : 0);
}

static void test_ring_packed_add__every_place_of_every_size(void **state)
{
    (void)state;
    for (size_t i = 0; i < SIZES; i++) {
        uint32_t size = sizes[i];
        uint32_t step = size > 200 ? size / 9 : 1;

        for (uint32_t position = 0; position <= 3 * size; position += step) {
            uint32_t count = 1 + position % (size < 3 ? size : 3);
            struct ski_ring_packed *ring = start(size, position, false);

            add(ring, count, 7);
            assert_true(ski_ring_has_news(&rig.ring));
            assert_false(is_available(position)); /* the first one is kept back */
            for (uint32_t n = 1; n < count; n++) {
                assert_true(is_available(position + n));
                assert_int_equal(rig.descriptors[(position + n) % size].id, 7);
                assert_int_equal(rig.descriptors[(position + n) % size].len, n);
            }
            assert_true(ski_ring_packed_publish(ring));
            assert_true(is_available(position));
            assert_int_equal(rig.descriptors[position % size].addr, 0x2000);
            assert_int_equal(rig.descriptors[position % size].flags & VRING_DESC_F_NEXT,
                             count > 1 ? VRING_DESC_F_NEXT : 0);
            assert_false(count < size && is_available(position + count));
            assert_int_equal(ski_ring_position(&rig.ring),
                             (position + count) % size | wrap_at(position + count) << 15);
            stop();
        }
    }
}

static void test_ring_packed_is_used__every_place_of_every_size(void **state)
{
    (void)state;
    for (size_t i = 0; i < SIZES; i++) {
        uint32_t size = sizes[i];
        uint32_t step = size > 200 ? size / 9 : 1;

        for (uint32_t position = 0; position <= 3 * size; position += step) {
            uint32_t count = 1 + position % (size < 3 ? size : 3);
            struct ski_ring_packed *ring = start(size, position, false);

            add(ring, count, 1);
            assert_false(ski_ring_has_used(&rig.ring));
            (void)ski_ring_packed_publish(ring);
            assert_false(ski_ring_has_used(&rig.ring));
            use(position, 0xfffe);
            assert_true(ski_ring_has_used(&rig.ring));
            assert_int_equal(ski_ring_packed_id(ring), 0xfffe);
            ski_ring_packed_skip(ring, count);
            assert_int_equal(ring->taken, (position + count) % size);
            assert_int_equal(ring->taken_marks != 0, wrap_at(position + count));
            assert_int_equal(ring->taken, ring->next);
            stop();
        }
    }
}

/* Laps with chains of any length, in flight together, used out of order. */
static void test_ring_packed__laps_of_chains_of_any_length(void **state)
{
    uint64_t seed = 11;

    (void)state;
    printf("seed %" PRIu64 "\n", seed);
    for (size_t i = 0; i < SIZES; i++) {
        struct ski_ring_packed *ring = start(sizes[i], sizes[i] - 1, false);
        uint64_t position = sizes[i] - 1;

        for (unsigned round = 0; round < 2000; round++) {
            uint32_t lengths[4];
            uint32_t count = 0;
            uint64_t at = position;

            for (uint32_t room = sizes[i]; count < 4 && room > 0; count++) {
                seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407u;
                lengths[count] = 1 + (uint32_t)(seed >> 33) % (room < 3 ? room : 3);
                room -= lengths[count];
                add(ring, lengths[count], count);
            }
            assert_true(ski_ring_packed_publish(ring));
            for (uint32_t n = 0; n < count; n++) { /* used from the last to the first */
                assert_true(is_available(at));
                use(at, (uint16_t)(count - 1 - n));
                at += lengths[count - 1 - n];
                if (n + 1 < count) { /* what follows begins where the device left off */
                    rig.descriptors[at % rig.size].flags =
                        (uint16_t)(wrap_at(at) ? SKI_RING_PACKED_AVAILABLE : SKI_RING_PACKED_USED);
                }
            }
            for (uint32_t n = 0; n < count; n++) {
                assert_true(ski_ring_packed_is_used(ring));
                assert_int_equal(ski_ring_packed_id(ring), count - 1 - n);
                ski_ring_packed_skip(ring, lengths[count - 1 - n]);
                position += lengths[count - 1 - n];
            }
            assert_false(ski_ring_packed_is_used(ring));
            assert_int_equal(ring->taken, position % rig.size);
            assert_int_equal(ring->next, ring->taken);
        }
        stop();
    }
}

/* A wish is a position of this lap or of the one before: told if it was passed. */
static void test_ring_packed_publish__every_event_around_the_end(void **state)
{
    static const uint32_t small[] = { 2, 3, 5, 8, 13 };

    (void)state;
    for (size_t i = 0; i < sizeof(small) / sizeof(small[0]); i++) {
        uint32_t size = small[i];

        for (uint32_t position = size; position < 3 * size; position++) {
            for (uint32_t count = 1; count <= size; count++) {
                for (uint32_t event = position + count - size; event < position + count + size;
                     event++) {
                    struct ski_ring_packed *ring = start(size, position, true);
                    bool passed = event >= position && event < position + count;

                    rig.device->off_wrap = (uint16_t)(event % size | wrap_at(event) << 15);
                    rig.device->flags = VRING_PACKED_EVENT_FLAG_DESC;
                    for (uint32_t n = 0; n < count; n++) {
                        add(ring, 1, n);
                    }
                    assert_int_equal(ski_ring_packed_publish(ring), passed);
                    stop();
                }
            }
        }
    }
}

static void test_ring_packed_interrupts__name_place_and_lap(void **state)
{
    (void)state;
    for (size_t i = 0; i < SIZES; i++) {
        uint32_t size = sizes[i];
        uint32_t step = size > 200 ? size / 9 : 1;

        for (uint32_t position = 0; position <= 3 * size; position += step) {
            struct ski_ring_packed *ring = start(size, position, true);

            add(ring, 1, 0);
            (void)ski_ring_packed_publish(ring);
            assert_false(ski_ring_interrupts_on(&rig.ring));
            assert_int_equal(rig.driver->flags, VRING_PACKED_EVENT_FLAG_DESC);
            assert_int_equal(rig.driver->off_wrap, position % size | wrap_at(position) << 15);
            use(position, 0);
            assert_true(ski_ring_interrupts_on(&rig.ring));
            ski_ring_interrupts_off(&rig.ring);
            assert_int_equal(rig.driver->flags, VRING_PACKED_EVENT_FLAG_DISABLE);
            stop();
        }
    }
}

/* IN_ORDER: behind an entry that speaks of many, the ring does not look used. */
static void test_ring_has_used__rest_of_a_packed_batch_counts(void **state)
{
    struct ski_ring_packed *ring;

    (void)state;
    ring = start(5, 4, true);
    for (uint32_t n = 0; n < 3; n++) {
        add(ring, 1, n);
    }
    (void)ski_ring_packed_publish(ring);
    use(4, 2); /* one entry for all */
    ski_ring_packed_skip(ring, 1);
    assert_false(ski_ring_has_used(&rig.ring));
    rig.ring.batch = 2;
    assert_true(ski_ring_has_used(&rig.ring));
    assert_true(ski_ring_interrupts_on(&rig.ring));
    assert_true(ski_ring_interrupts_at(&rig.ring, 1));
    stop();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ring_packed_add__every_place_of_every_size),
        cmocka_unit_test(test_ring_packed_is_used__every_place_of_every_size),
        cmocka_unit_test(test_ring_packed__laps_of_chains_of_any_length),
        cmocka_unit_test(test_ring_packed_publish__every_event_around_the_end),
        cmocka_unit_test(test_ring_packed_interrupts__name_place_and_lap),
        cmocka_unit_test(test_ring_has_used__rest_of_a_packed_batch_counts),
    };

    return cmocka_run_group_tests_name("ring_packed", tests, NULL, NULL);
}
