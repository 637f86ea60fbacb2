/* SPDX-License-Identifier: MIT */
/*
 * Where a ring goes on whose back end died: the split one by its used index,
 * the packed one by what the dead one wrote into its in-flight memory, by the
 * protocol's steps; and memory that makes no sense is refused.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "descriptors.h"
#include "vhost_user_private.h"

#define SIZE   16u
#define STRIDE 1024u
#define QUEUES 2u

/* The in-flight memory of one packed ring, as the protocol lays it out. */
struct entry {
    uint8_t inflight, padding;
    uint16_t next, last, count;
    uint64_t counter;
    uint16_t id, flags;
    uint32_t length;
    uint64_t address;
};

struct region {
    uint64_t features;
    uint16_t version, descriptor_count, free_head, old_free_head, used, old_used;
    uint8_t used_wrap, old_used_wrap, padding[7];
    _Alignas(8) struct entry entries[SIZE];
};

_Static_assert(sizeof(struct entry) == 32 && offsetof(struct region, entries) == 32, "layout");

static struct sk_vhost_user vu;
static uint8_t ring[SIZE * 16];
static uint16_t used[8];
static uint16_t available[8];
static struct region region;
static unsigned descriptors;

static int set_up(void **state)
{
    (void)state;
    descriptors = descriptors_count();
    memset(&vu, 0, sizeof(vu));
    memset(ring, 0, sizeof(ring));
    memset(&region, 0, sizeof(region));
    vu.options.queue_count = QUEUES;
    vu.features = SK_VIRTIO_FEATURE(SK_VIRTIO_F_RING_PACKED);
    vu.inflight.fd = memfd_create("test", MFD_CLOEXEC);
    vu.inflight.bytes = QUEUES * STRIDE;
    vu.inflight.offset = 64;
    vu.inflight.queue_count = QUEUES;
    vu.inflight.queue_size = SIZE;
    vu.queues[1].layout.size = SIZE;
    vu.queues[1].layout.cpu_descriptors = ring;
    vu.queues[1].layout.cpu_driver_area = available;
    vu.queues[1].layout.cpu_device_area = used;
    region.version = 1;
    region.descriptor_count = SIZE;
    region.used_wrap = 1;
    region.old_used_wrap = 1;
    for (uint16_t i = 0; i < SIZE; i++) {
        region.entries[i].next = (uint16_t)(i + 1);
    }
    return ftruncate(vu.inflight.fd, 64 + QUEUES * STRIDE);
}

static int tear_down(void **state)
{
    (void)state;
    (void)close(vu.inflight.fd);
    return descriptors_count() == descriptors ? 0 : -1;
}

static enum sk_status base(uint32_t *out_base)
{
    assert_int_equal(pwrite(vu.inflight.fd, &region, sizeof(region), 64 + STRIDE), sizeof(region));
    *out_base = 0xdeadbeef;
    return ski_vhost_user_resume_base(&vu, 1, out_base);
}

/* Positions and wrap counters: available below, used above. */
static void expect_base(uint16_t at, bool wrap, uint16_t used_at, bool used_wrap)
{
    uint32_t found;

    assert_int_equal(base(&found), SK_OK);
    assert_int_equal(found, at | (wrap ? 0x8000u : 0) | (uint32_t)used_at << 16 |
                                (used_wrap ? 0x80000000u : 0));
}

/* A chain of `count` descriptors in flight, taken off the head of the free list. */
static void take(uint16_t count)
{
    uint16_t head = region.free_head;

    region.entries[head].inflight = 1;
    region.entries[head].count = count;
    for (uint16_t i = 0; i < count; i++) {
        region.entries[head].last = region.free_head;
        region.free_head = region.entries[region.free_head].next;
    }
    region.old_free_head = region.free_head;
}

static void set_flags(uint16_t index, uint16_t flags)
{
    memcpy(ring + index * 16u + 14, &flags, 2);
}

static void test_vhost_user_base__split_is_the_used_index(void **state)
{
    uint32_t found;

    (void)state;
    vu.features = 0;
    used[1] = 65533;
    available[1] = 65535;
    assert_int_equal(ski_vhost_user_first_base(&vu), 0);
    assert_int_equal(ski_vhost_user_resume_base(&vu, 1, &found), SK_OK);
    assert_int_equal(found, 65533);
    assert_false(ski_vhost_user_is_idle(&vu, 1, 65535));
    available[1] = 65533;
    assert_true(ski_vhost_user_is_idle(&vu, 1, 65533));
}

static void test_vhost_user_base__packed_begins_with_both_wraps(void **state)
{
    (void)state;
    assert_int_equal(ski_vhost_user_first_base(&vu), 0x80008000);
    assert_true(ski_vhost_user_is_idle(&vu, 1, 0x80058005));
    assert_false(ski_vhost_user_is_idle(&vu, 1, 0x80058006));
    assert_false(ski_vhost_user_is_idle(&vu, 1, 0x00058005));
    region.version = 0; /* the dead one had not begun */
    region.used = 7;
    expect_base(0, true, 0, true);
}

static void test_vhost_user_base__packed_counts_what_is_in_flight(void **state)
{
    (void)state;
    expect_base(0, true, 0, true);
    take(1);
    take(3);
    expect_base(4, true, 0, true);
    region.used = region.old_used = 10;
    expect_base(14, true, 10, true);
    region.used = region.old_used = 12; /* the last of them is behind the wrap */
    expect_base(0, false, 12, true);
    region.used = region.old_used = 15;
    region.used_wrap = region.old_used_wrap = 0;
    expect_base(3, true, 15, false);
}

/* Given back, but the ring did not show it: it counts as in flight. */
static void test_vhost_user_base__packed_update_is_rolled_back(void **state)
{
    (void)state;
    take(2);
    region.entries[1].next = region.free_head; /* the chain joins the free list ... */
    region.free_head = 0;
    region.used = 2;           /* ... and the position moves */
    set_flags(0, 0x0080);      /* but the descriptor is still available: wrap 1 */
    expect_base(2, true, 0, true);
    region.old_used_wrap = 0;
    region.used_wrap = 0;
    set_flags(0, 0x8000); /* the same in the other lap */
    expect_base(2, false, 0, false);
}

/* The ring shows it: it is done, whatever else was not written any more. */
static void test_vhost_user_base__packed_update_is_kept(void **state)
{
    (void)state;
    take(2);
    region.entries[1].next = region.free_head;
    region.free_head = 0;
    region.used = 2;
    set_flags(0, 0x8080); /* used in lap 1; `inflight` is still set */
    expect_base(2, true, 2, true);
    region.used = 15;
    region.old_used = 14;
    region.used_wrap = 1;
    set_flags(14, 0x8080);
    expect_base(15, true, 15, true);
    region.used = 0; /* over the end */
    region.used_wrap = 0;
    region.old_used = 14;
    region.old_used_wrap = 1;
    expect_base(0, false, 0, false);
}

static void test_vhost_user_base__memory_without_sense_is_refused(void **state)
{
    uint32_t found;

    (void)state;
    region.used = SIZE;
    assert_int_equal(base(&found), SK_ERR_MALFORMED);
    region.used = 0;
    region.old_used = 0xffff;
    assert_int_equal(base(&found), SK_ERR_MALFORMED);
    region.old_used = 0;
    region.free_head = region.old_free_head = SIZE; /* nothing is free */
    for (unsigned i = 0; i < SIZE; i++) {
        region.entries[i].inflight = 1;
        region.entries[i].count = 2;
    }
    assert_int_equal(base(&found), SK_ERR_MALFORMED); /* more than there are */
    region.entries[0].count = 0xffff;
    assert_int_equal(base(&found), SK_ERR_MALFORMED);
    assert_int_equal(found, 0xdeadbeef);
}

/* The peer can cut its memory at any length. */
static void test_vhost_user_base__memory_that_was_cut_is_refused(void **state)
{
    uint32_t found;

    (void)state;
    assert_int_equal(base(&found), SK_OK);
    for (off_t length = 64 + STRIDE + (off_t)sizeof(region) - 1; length >= 0; length -= 31) {
        assert_int_equal(ftruncate(vu.inflight.fd, length), 0);
        assert_int_equal(ski_vhost_user_resume_base(&vu, 1, &found), SK_ERR_MALFORMED);
    }
    assert_int_equal(ftruncate(vu.inflight.fd, 64 + QUEUES * STRIDE), 0);
    vu.inflight.bytes = 2 * sizeof(region) - 2; /* no room for the second one's */
    assert_int_equal(ski_vhost_user_resume_base(&vu, 1, &found), SK_ERR_MALFORMED);
    vu.inflight.bytes = QUEUES * STRIDE;
    vu.inflight.queue_count = 1;
    assert_int_equal(ski_vhost_user_resume_base(&vu, 1, &found), SK_ERR_MALFORMED);
}

/* Anything at all: an answer within the ring, or none. */
static void test_vhost_user_base__random_memory_gives_a_place_in_the_ring(void **state)
{
    uint64_t random = 20240607;
    unsigned good = 0;

    (void)state;
    for (unsigned round = 0; round < 20000; round++) {
        uint8_t *bytes = (uint8_t *)&region;
        uint32_t found;

        for (size_t i = 0; i < sizeof(region); i++) {
            random = random * UINT64_C(6364136223846793005) + 1442695040888963407;
            /* Small numbers more often: they get further. */
            bytes[i] = round % 2 == 0 ? (uint8_t)(random >> 60 & 1) : (uint8_t)(random >> 56);
        }
        for (size_t i = 0; i < sizeof(ring); i++) {
            ring[i] = (uint8_t)(random >> (i % 40));
        }
        if (base(&found) == SK_OK) {
            assert_true((found & 0x7fff) < SIZE);
            assert_true((found >> 16 & 0x7fff) < SIZE);
            good++;
        }
    }
    assert_true(good > 100);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_vhost_user_base__split_is_the_used_index),
        TEST(test_vhost_user_base__packed_begins_with_both_wraps),
        TEST(test_vhost_user_base__packed_counts_what_is_in_flight),
        TEST(test_vhost_user_base__packed_update_is_rolled_back),
        TEST(test_vhost_user_base__packed_update_is_kept),
        TEST(test_vhost_user_base__memory_without_sense_is_refused),
        TEST(test_vhost_user_base__memory_that_was_cut_is_refused),
        TEST(test_vhost_user_base__random_memory_gives_a_place_in_the_ring),
    };

    return cmocka_run_group_tests_name("vhost_user_base", tests, NULL, NULL);
}
