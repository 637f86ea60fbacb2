/* SPDX-License-Identifier: MIT */
/* The device side of both rings against the library's driver side. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "device_rig.h"

#define ROUNDS 20000

/* Every kind of ring, sizes that are no powers of two among the packed ones, starts before a wrap. */
static const struct device_rig_options kinds[] = {
    { .packed = false, .indirect = false, .event_idx = false, .size = 16, .start = 65530 },
    { .packed = false, .indirect = false, .event_idx = true, .size = 64, .start = 65500 },
    { .packed = false, .indirect = true, .event_idx = false, .size = 8, .start = 0 },
    { .packed = false, .indirect = true, .event_idx = true, .size = 128, .start = 32760 },
    { .packed = true, .indirect = false, .event_idx = false, .size = 16, .start = 0 },
    { .packed = true, .indirect = false, .event_idx = true, .size = 37, .start = 30 },
    { .packed = true, .indirect = true, .event_idx = false, .size = 7, .start = 6 },
    { .packed = true, .indirect = true, .event_idx = true, .size = 128, .start = 0 },
    { .packed = true, .indirect = true, .event_idx = true, .size = 5, .start = 3 },
};

#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

struct traffic {
    struct device_rig *rig;
    bool driver_awake;
    bool device_awake;
    uint32_t held[RIG_SLOTS_MAX]; /* taken, not given back */
    uint32_t held_count;
    uint64_t done;
    uint64_t kicks;
    uint64_t interrupts;
};

static void submit_some(struct traffic *traffic)
{
    struct device_rig *rig = traffic->rig;
    uint64_t count = 1 + device_rig_random(rig, 5);
    uint64_t added = 0;
    int slot;

    for (; added < count && (slot = device_rig_free_slot(rig)) >= 0; added++) {
        device_rig_submit(rig, (uint32_t)slot);
    }
    if (added > 0 && device_rig_publish(rig)) {
        traffic->kicks++;
        traffic->device_awake = true;
    }
}

/* A device takes until there is nothing, and then sleeps until it is kicked. */
static void take_some(struct traffic *traffic)
{
    struct device_rig *rig = traffic->rig;
    uint64_t count = 1 + device_rig_random(rig, 8);

    if (!traffic->device_awake) {
        return;
    }
    for (uint64_t i = 0; i < count; i++) {
        enum sk_status status = device_rig_take(rig);

        if (status == SK_ERR_AGAIN) {
            traffic->device_awake = device_rig_kicks_on(rig);
            if (traffic->device_awake) {
                device_rig_kicks_off(rig);
                continue;
            }
            return;
        }
        assert_int_equal(status, SK_OK);
        device_rig_check_chain(rig);
        traffic->held[traffic->held_count++] = rig->chain.id;
    }
}

static void give_some(struct traffic *traffic)
{
    struct device_rig *rig = traffic->rig;
    uint64_t count = 1 + device_rig_random(rig, 6);

    if (traffic->held_count == 0) {
        return;
    }
    for (uint64_t i = 0; i < count && traffic->held_count > 0; i++) {
        uint32_t which = (uint32_t)device_rig_random(rig, traffic->held_count);
        uint32_t slot = traffic->held[which];

        traffic->held[which] = traffic->held[--traffic->held_count];
        device_rig_give(rig, slot, rig->slots[slot].places);
    }
    if (device_rig_publish_used(rig)) {
        traffic->interrupts++;
        traffic->driver_awake = true;
    }
}

static void harvest_some(struct traffic *traffic)
{
    struct device_rig *rig = traffic->rig;
    uint64_t count = 1 + device_rig_random(rig, 8);

    for (uint64_t i = 0; i < count && traffic->driver_awake; i++) {
        if (device_rig_harvest(rig) >= 0) {
            traffic->done++;
        } else {
            traffic->driver_awake = device_rig_interrupts_on(rig);
            if (traffic->driver_awake) {
                device_rig_interrupts_off(rig);
            }
        }
    }
}

static void run_traffic(struct traffic *traffic, unsigned rounds)
{
    for (unsigned i = 0; i < rounds; i++) {
        switch (device_rig_random(traffic->rig, 4)) {
        case 0:
            submit_some(traffic);
            break;
        case 1:
            take_some(traffic);
            break;
        case 2:
            give_some(traffic);
            break;
        default:
            harvest_some(traffic);
        }
    }
}

/* Whoever sleeps was not told although there is something: then this ends too early. */
static void run_dry(struct traffic *traffic)
{
    while (traffic->driver_awake || traffic->device_awake || traffic->held_count > 0) {
        take_some(traffic);
        give_some(traffic);
        harvest_some(traffic);
    }
    assert_int_equal(traffic->rig->out_places, 0);
}

static void test_device_ring_traffic__random_nothing_lost_or_slept_through(void **state)
{
    (void)state;
    for (size_t i = 0; i < KINDS; i++) {
        struct traffic traffic = { .driver_awake = true, .device_awake = true };

        print_message("seed %zu\n", i + 1);
        traffic.rig = device_rig_open(&kinds[i], i + 1);
        run_traffic(&traffic, ROUNDS);
        run_dry(&traffic);
        assert_true(traffic.done > ROUNDS / 40);
        assert_true(traffic.kicks < traffic.done);
        assert_true(traffic.interrupts < traffic.done);
        device_rig_close(traffic.rig);
    }
}

/* A batch of everything that the ring holds, given back in one go. */
static void test_device_ring_give__whole_ring_is_seen_whole(void **state)
{
    (void)state;
    for (size_t i = 0; i < KINDS; i++) {
        struct device_rig *rig = device_rig_open(&kinds[i], 77);

        for (unsigned round = 0; round < 5; round++) {
            uint32_t count = 0;
            int slot;

            while ((slot = device_rig_free_slot(rig)) >= 0) {
                device_rig_submit(rig, (uint32_t)slot);
                count++;
            }
            (void)device_rig_publish(rig);
            for (uint32_t k = 0; k < count; k++) {
                assert_int_equal(device_rig_take(rig), SK_OK);
                device_rig_check_chain(rig);
                device_rig_give(rig, rig->chain.id, rig->chain.places);
                assert_int_equal(device_rig_harvest(rig), -1);
            }
            assert_int_equal(device_rig_take(rig), SK_ERR_AGAIN);
            (void)device_rig_publish_used(rig);
            for (uint32_t k = 0; k < count; k++) {
                assert_true(device_rig_harvest(rig) >= 0);
            }
            assert_int_equal(device_rig_harvest(rig), -1);
        }
        device_rig_close(rig);
    }
}

static void one_round_trip(struct device_rig *rig, bool expect_kick, bool expect_interrupt)
{
    int slot = device_rig_free_slot(rig);

    assert_true(slot >= 0);
    device_rig_submit(rig, (uint32_t)slot);
    assert_int_equal(device_rig_publish(rig), expect_kick);
    assert_int_equal(device_rig_take(rig), SK_OK);
    device_rig_give(rig, rig->chain.id, rig->chain.places);
    assert_int_equal(device_rig_publish_used(rig), expect_interrupt);
    assert_int_equal(device_rig_harvest(rig), slot);
}

static void test_device_ring_kicks__off_and_on_are_heeded(void **state)
{
    (void)state;
    for (size_t i = 0; i < KINDS; i++) {
        struct device_rig *rig = device_rig_open(&kinds[i], 5);

        device_rig_kicks_off(rig);
        device_rig_interrupts_off(rig);
        for (unsigned k = 0; k < 300; k++) {
            one_round_trip(rig, false, false);
        }
        for (unsigned k = 0; k < 300; k++) {
            bool kick = device_rig_random(rig, 2) != 0;
            bool interrupt = device_rig_random(rig, 2) != 0;

            if (kick) {
                assert_false(device_rig_kicks_on(rig));
            } else {
                device_rig_kicks_off(rig);
            }
            if (interrupt) {
                assert_false(device_rig_interrupts_on(rig));
            } else {
                device_rig_interrupts_off(rig);
            }
            one_round_trip(rig, kick, interrupt);
        }
        device_rig_close(rig);
    }
}

static void test_device_ring_kicks_on__something_is_there_says_so(void **state)
{
    (void)state;
    for (size_t i = 0; i < KINDS; i++) {
        struct device_rig *rig = device_rig_open(&kinds[i], 6);

        assert_false(device_rig_kicks_on(rig));
        device_rig_submit(rig, (uint32_t)device_rig_free_slot(rig));
        (void)device_rig_publish(rig);
        assert_true(device_rig_kicks_on(rig));
        device_rig_close(rig);
    }
}

/* ---- Chains that no driver may make ------------------------------------------------------ */

static const struct device_rig_options split_indirect = { .indirect = true, .size = 8 };
static const struct device_rig_options packed_indirect = {
    .packed = true, .indirect = true, .size = 8
};

static void put(struct device_rig *rig, uint64_t offset, uint64_t address, uint64_t rest)
{
    memcpy(rig->memory + offset, &address, 8);
    memcpy(rig->memory + offset + 8, &rest, 8);
}

static uint64_t split_rest(uint32_t length, uint32_t flags, uint32_t next)
{
    return ski_ring_rest(length, flags, next);
}

static void expect_refused_split(struct device_rig *rig, const char *fault)
{
    struct ski_device_split *ring = &rig->device_split;

    assert_int_equal(ski_device_chain_read_split(&rig->chain, &rig->view, ring, 0),
                     SK_ERR_MALFORMED);
    assert_string_equal(rig->chain.fault, fault);
}

static void test_device_chain_read_split__malformed_says_why(void **state)
{
    static const struct {
        uint64_t address;
        uint32_t length;
        uint32_t flags;
        uint32_t next;
        const char *fault;
    } cases[] = {
        { RIG_GUEST, 0, 0, 0, "a buffer of no bytes" },
        { RIG_GUEST - 1, 1, 0, 0, "a buffer outside of the memory" },
        { RIG_GUEST, RIG_BYTES + 1, 0, 0, "a buffer outside of the memory" },
        { RIG_GUEST + RIG_BYTES - 1, 2, 0, 0, "a buffer outside of the memory" },
        { UINT64_MAX, 1, 0, 0, "a buffer outside of the memory" },
        { UINT64_MAX - 15, 0xffffffff, SKI_RING_WRITE, 0, "a buffer outside of the memory" },
        { RIG_GUEST, 1, SKI_RING_NEXT, 0, "a loop in the ring" },
        { RIG_GUEST, 1, SKI_RING_NEXT, 8, "a descriptor out of the ring" },
        { RIG_GUEST, 1, SKI_RING_NEXT, 0xffff, "a descriptor out of the ring" },
        { RIG_GUEST, 1, SKI_RING_NEXT | SKI_RING_WRITE, 1,
          "a readable buffer behind a writable one" },
        { RIG_GUEST, 16, SKI_RING_INDIRECT | SKI_RING_NEXT, 1, "a table with a link" },
        { RIG_GUEST, 0, SKI_RING_INDIRECT, 0, "a table of no whole descriptors" },
        { RIG_GUEST, 17, SKI_RING_INDIRECT, 0, "a table of no whole descriptors" },
        { RIG_GUEST + RIG_BYTES, 16, SKI_RING_INDIRECT, 0, "a table outside of the memory" },
        { RIG_GUEST + RIG_BYTES - 8, 16, SKI_RING_INDIRECT, 0, "a table outside of the memory" },
        { UINT64_MAX - 7, 16, SKI_RING_INDIRECT, 0, "a table outside of the memory" },
    };
    struct device_rig *rig = device_rig_open(&split_indirect, 1);

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        put(rig, 0, cases[i].address, split_rest(cases[i].length, cases[i].flags, cases[i].next));
        put(rig, 16, RIG_GUEST + RIG_DATA, split_rest(1, 0, 0));
        expect_refused_split(rig, cases[i].fault);
    }
    device_rig_close(rig);
}

static void test_device_chain_read_split__malformed_table_says_why(void **state)
{
    static const struct {
        uint64_t address;
        uint32_t length;
        uint32_t flags;
        uint32_t next;
        const char *fault;
    } cases[] = {
        { RIG_GUEST, 16, SKI_RING_INDIRECT, 0, "a table in a table" },
        { RIG_GUEST, 1, SKI_RING_NEXT, 0, "a loop in a table" },
        { RIG_GUEST, 1, SKI_RING_NEXT, 2, "a link out of the table" },
        { RIG_GUEST, 0, 0, 0, "a buffer of no bytes" },
        { 0, 1, 0, 0, "a buffer outside of the memory" },
        { RIG_GUEST, 1, SKI_RING_NEXT | SKI_RING_WRITE, 1,
          "a readable buffer behind a writable one" },
    };
    struct device_rig *rig = device_rig_open(&split_indirect, 1);

    (void)state;
    put(rig, 0, RIG_GUEST + RIG_TABLES, split_rest(32, SKI_RING_INDIRECT, 0));
    put(rig, RIG_TABLES + 16, RIG_GUEST + RIG_DATA, split_rest(1, 0, 0));
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        put(rig, RIG_TABLES, cases[i].address,
            split_rest(cases[i].length, cases[i].flags, cases[i].next));
        expect_refused_split(rig, cases[i].fault);
    }
    rig->view.indirect = false;
    expect_refused_split(rig, "a table that was not negotiated");
    device_rig_close(rig);
}

/* 2.7.5.3.2: direct descriptors may lead to a table. */
static void test_device_chain_read_split__table_behind_buffers_is_read(void **state)
{
    struct device_rig *rig = device_rig_open(&split_indirect, 1);

    (void)state;
    put(rig, 0, RIG_GUEST + RIG_DATA, split_rest(16, SKI_RING_NEXT, 3));
    put(rig, 48, RIG_GUEST + RIG_TABLES, split_rest(16, SKI_RING_INDIRECT, 0));
    put(rig, RIG_TABLES, RIG_GUEST + RIG_DATA + 64, split_rest(1, SKI_RING_WRITE, 0));
    assert_int_equal(
        ski_device_chain_read_split(&rig->chain, &rig->view, &rig->device_split, 0), SK_OK);
    assert_int_equal(rig->chain.count, 2);
    assert_int_equal(rig->chain.readable, 1);
    assert_int_equal(rig->chain.readable_bytes, 16);
    assert_int_equal(rig->chain.writable_bytes, 1);
    assert_ptr_equal(rig->chain.pieces[1].iov_base, rig->memory + RIG_DATA + 64);
    device_rig_close(rig);
}

/* Tables at odd addresses, and one that reaches over the border of two regions. */
static void test_device_chain_read_split__odd_tables_are_read(void **state)
{
    static const uint64_t places[] = { RIG_TABLES + 1, RIG_TABLES + 4, RIG_BORDER - 16,
                                       RIG_BORDER - 24, RIG_BORDER - 3 };
    struct device_rig *rig = device_rig_open(&split_indirect, 1);

    (void)state;
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        put(rig, 0, RIG_GUEST + places[i], split_rest(32, SKI_RING_INDIRECT, 0));
        put(rig, places[i], RIG_GUEST + RIG_DATA, split_rest(16, SKI_RING_NEXT, 1));
        put(rig, places[i] + 16, RIG_GUEST + RIG_DATA + 512, split_rest(7, SKI_RING_WRITE, 0));
        assert_int_equal(
            ski_device_chain_read_split(&rig->chain, &rig->view, &rig->device_split, 0), SK_OK);
        assert_int_equal(rig->chain.count, 2);
        assert_int_equal(rig->chain.pieces[1].iov_len, 7);
        assert_ptr_equal(rig->chain.pieces[1].iov_base, rig->memory + RIG_DATA + 512);
    }
    device_rig_close(rig);
}

static void test_device_chain_read__longest_chain_fits_and_one_more_does_not(void **state)
{
    static const struct device_rig_options sizes[] = { { .indirect = true, .size = 8 },
                                                       { .packed = true, .indirect = true,
                                                         .size = 8 } };

    (void)state;
    for (size_t kind = 0; kind < 2; kind++) {
        struct device_rig *rig = device_rig_open(&sizes[kind], 1);

        for (uint32_t more = 0; more < 2; more++) {
            uint32_t count = SKI_DEVICE_PIECES_MAX + more;
            enum sk_status status;

            for (uint32_t i = 0; i < count; i++) {
                put(rig, RIG_TABLES + 16 * i, RIG_GUEST + RIG_DATA,
                    kind == 0 ? split_rest(1, i + 1 < count ? SKI_RING_NEXT : 0, i + 1)
                              : ski_ring_packed_rest(1, 0, 0));
            }
            if (kind == 0) {
                put(rig, 0, RIG_GUEST + RIG_TABLES, split_rest(16 * count, SKI_RING_INDIRECT, 0));
                status = ski_device_chain_read_split(&rig->chain, &rig->view, &rig->device_split,
                                                     0);
            } else {
                rig->chain.places = 1;
                rig->descriptors[0] = (struct ski_device_descriptor){
                    RIG_GUEST + RIG_TABLES, ski_ring_packed_rest(16 * count, 0, SKI_RING_INDIRECT)
                };
                status = ski_device_chain_read_packed(&rig->chain, &rig->view, rig->descriptors);
            }
            assert_int_equal(status, more == 0 ? SK_OK : SK_ERR_MALFORMED);
            if (more != 0) {
                assert_string_equal(rig->chain.fault, "more buffers than fit");
            }
        }
        device_rig_close(rig);
    }
}

static void test_device_split_pending__index_jump_is_malformed(void **state)
{
    struct device_rig *rig = device_rig_open(&split_indirect, 1);
    struct ski_device_split *ring = &rig->device_split;
    uint32_t count;

    (void)state;
    ski_door_store16(rig->split.avail + SKI_RING_IDX, 8);
    assert_int_equal(ski_device_split_pending(ring, &count), SK_OK);
    assert_int_equal(count, 8);
    ski_door_store16(rig->split.avail + SKI_RING_IDX, 9);
    assert_int_equal(ski_device_split_pending(ring, &count), SK_ERR_MALFORMED);
    ski_door_store16(rig->split.avail + SKI_RING_IDX, 0xffff);
    assert_int_equal(ski_device_split_pending(ring, &count), SK_ERR_MALFORMED);
    ring->taken = 3; /* three are out: five may wait */
    ski_door_store16(rig->split.avail + SKI_RING_IDX, 8);
    assert_int_equal(ski_device_split_pending(ring, &count), SK_OK);
    ski_door_store16(rig->split.avail + SKI_RING_IDX, 9);
    assert_int_equal(ski_device_split_pending(ring, &count), SK_ERR_MALFORMED);
    device_rig_close(rig);
}

static void test_device_chain_load_packed__endless_chain_is_malformed(void **state)
{
    struct device_rig *rig = device_rig_open(&packed_indirect, 1);

    (void)state;
    for (uint32_t i = 0; i < 8; i++) {
        put(rig, 16 * i, RIG_GUEST + RIG_DATA,
            ski_ring_packed_rest(1, i, SKI_RING_NEXT | SKI_RING_PACKED_AVAILABLE));
    }
    assert_int_equal(device_rig_take(rig), SK_ERR_MALFORMED);
    assert_string_equal(rig->chain.fault, "a chain longer than what is free of the ring");
    /* All of the ring is a chain; then there is no room, whatever the flags say. */
    put(rig, 16 * 7, RIG_GUEST + RIG_DATA, ski_ring_packed_rest(1, 9, SKI_RING_PACKED_AVAILABLE));
    assert_int_equal(device_rig_take(rig), SK_OK);
    assert_int_equal(rig->chain.places, 8);
    assert_int_equal(rig->chain.id, 9);
    put(rig, 0, RIG_GUEST + RIG_DATA, ski_ring_packed_rest(1, 0, SKI_RING_PACKED_USED));
    assert_int_equal(device_rig_take(rig), SK_ERR_AGAIN);
    device_rig_close(rig);
}

static void test_device_chain_read_packed__table_in_a_chain_is_malformed(void **state)
{
    struct device_rig *rig = device_rig_open(&packed_indirect, 1);

    (void)state;
    rig->chain.places = 2;
    rig->descriptors[0] = (struct ski_device_descriptor){
        RIG_GUEST + RIG_DATA, ski_ring_packed_rest(1, 0, SKI_RING_NEXT)
    };
    rig->descriptors[1] = (struct ski_device_descriptor){
        RIG_GUEST + RIG_TABLES, ski_ring_packed_rest(16, 0, SKI_RING_INDIRECT)
    };
    assert_int_equal(ski_device_chain_read_packed(&rig->chain, &rig->view, rig->descriptors),
                     SK_ERR_MALFORMED);
    assert_string_equal(rig->chain.fault, "a table with a link");
    /* In a table of a packed ring NEXT and INDIRECT mean nothing (2.8.8). */
    rig->chain.places = 1;
    rig->descriptors[0] = rig->descriptors[1];
    put(rig, RIG_TABLES, RIG_GUEST + RIG_DATA,
        ski_ring_packed_rest(5, 3, SKI_RING_NEXT | SKI_RING_INDIRECT));
    assert_int_equal(ski_device_chain_read_packed(&rig->chain, &rig->view, rig->descriptors),
                     SK_OK);
    assert_int_equal(rig->chain.readable_bytes, 5);
    device_rig_close(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_device_ring_traffic__random_nothing_lost_or_slept_through),
        cmocka_unit_test(test_device_ring_give__whole_ring_is_seen_whole),
        cmocka_unit_test(test_device_ring_kicks__off_and_on_are_heeded),
        cmocka_unit_test(test_device_ring_kicks_on__something_is_there_says_so),
        cmocka_unit_test(test_device_chain_read_split__malformed_says_why),
        cmocka_unit_test(test_device_chain_read_split__malformed_table_says_why),
        cmocka_unit_test(test_device_chain_read_split__table_behind_buffers_is_read),
        cmocka_unit_test(test_device_chain_read_split__odd_tables_are_read),
        cmocka_unit_test(test_device_chain_read__longest_chain_fits_and_one_more_does_not),
        cmocka_unit_test(test_device_split_pending__index_jump_is_malformed),
        cmocka_unit_test(test_device_chain_load_packed__endless_chain_is_malformed),
        cmocka_unit_test(test_device_chain_read_packed__table_in_a_chain_is_malformed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
