/* SPDX-License-Identifier: MIT */
/*
 * A front end whose memory answers each load with what it likes: a value that
 * was there, one that is nearly right, or any bits at all.  The device side
 * may refuse, but every piece it lets through lies in the memory, each walk
 * ends, and no load asks for the same place twice.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "device_inflight.h"
#include "device_rig.h"

#define ROUNDS 30000

static const struct device_rig_options kinds[] = {
    { .packed = false, .indirect = true, .event_idx = true, .size = 16 },
    { .packed = true, .indirect = true, .event_idx = true, .size = 13 },
};

static uint64_t random_state;
static unsigned hostility; /* of 8 loads, so many are made up */
static uint64_t loads;

static uint64_t next_random(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static uint64_t lie(const void *address, unsigned width, uint64_t value)
{
    uint64_t made_up = next_random();

    (void)address;
    loads++;
    if (made_up % 8 >= hostility) {
        return value;
    }
    switch (made_up >> 8 & 7) {
    case 0:
        return value ^ UINT64_C(1) << (made_up >> 16) % (8 * width);
    case 1:
        return RIG_GUEST + (made_up >> 16) % RIG_BYTES; /* good as an address */
    case 2:
        return (made_up >> 16) % 4096;
    case 3: /* good as a descriptor's second half, of either kind */
        return (made_up >> 16 & 0xff) | (made_up >> 24 & 7) << 32 | (made_up >> 32 & 15) << 48;
    case 4:
        return (made_up >> 16 & 0xff) | (made_up >> 24 & 7) << 48 | UINT64_C(1) << 55;
    case 5:
        return UINT64_MAX;
    default:
        return made_up;
    }
}

static void check_pieces(const struct device_rig *rig)
{
    const struct ski_device_chain *chain = &rig->chain;
    uint64_t sum = 0;

    assert_true(chain->count > 0 && chain->count <= SKI_DEVICE_PIECES_MAX);
    assert_true(chain->readable <= chain->count);
    for (uint32_t i = 0; i < chain->count; i++) {
        const uint8_t *begin = chain->pieces[i].iov_base;

        assert_true(begin >= rig->memory);
        assert_true(chain->pieces[i].iov_len > 0);
        assert_true(sk_checked_range((uint64_t)(begin - rig->memory), chain->pieces[i].iov_len,
                                     RIG_BYTES));
        sum += chain->pieces[i].iov_len;
    }
    assert_int_equal(sum, chain->readable_bytes + chain->writable_bytes);
}

/* A device that takes and gives back whatever it finds. */
static unsigned serve(struct device_rig *rig)
{
    struct ski_device_split *split = &rig->device_split;
    unsigned good = 0;

    for (unsigned i = 0; i < 64; i++) {
        enum sk_status status;

        if (rig->options.packed) {
            status = ski_device_chain_load_packed(&rig->chain, &rig->device_packed,
                                                  rig->descriptors);
            if (status == SK_OK) {
                ski_device_packed_take(&rig->device_packed, rig->chain.places);
                ski_device_packed_give(&rig->device_packed, rig->chain.id, 1, rig->chain.places);
                status = ski_device_chain_read_packed(&rig->chain, &rig->view, rig->descriptors);
            }
        } else {
            uint32_t pending = 0;

            status = ski_device_split_pending(split, &pending);
            if (status == SK_OK) {
                status = pending == 0 ? SK_ERR_AGAIN
                                      : ski_device_chain_read_split(&rig->chain, &rig->view, split,
                                                                    ski_device_split_peek(split, 0));
            }
            if (status == SK_OK) {
                split->taken++;
                ski_device_split_give(split, rig->chain.id, 1);
            }
        }
        if (status != SK_OK) {
            break;
        }
        check_pieces(rig);
        good++;
    }
    (void)device_rig_publish_used(rig);
    (void)device_rig_kicks_on(rig);
    device_rig_kicks_off(rig);
    return good;
}

static void test_device_chain_read__any_loads_stay_inside_and_end(void **state)
{
    (void)state;
    for (size_t kind = 0; kind < 2; kind++) {
        for (hostility = 1; hostility <= 8; hostility++) {
            struct device_rig *rig = device_rig_open(&kinds[kind], hostility);
            uint64_t good = 0;

            random_state = hostility * 77 + kind;
            print_message("kind %zu, %u of 8 loads made up\n", kind, hostility);
            for (unsigned i = 0; i < ROUNDS / 8; i++) {
                ski_door_hook = NULL;
                device_rig_lay_out(rig, rig->memory);
                for (unsigned k = 0; k < rig->slot_count; k++) {
                    rig->slots[k].out = false;
                }
                rig->out_places = 0;
                device_rig_submit(rig, (uint32_t)device_rig_free_slot(rig));
                (void)device_rig_publish(rig);
                ski_door_hook = lie;
                good += serve(rig);
            }
            ski_door_hook = NULL;
            assert_true(hostility > 4 || good > 0); /* something came through: the test tests */
            device_rig_close(rig);
        }
    }
}

static const void *seen[4096];
static unsigned seen_count;

static uint64_t remember(const void *address, unsigned width, uint64_t value)
{
    (void)width;
    for (unsigned i = 0; i < seen_count; i++) {
        assert_ptr_not_equal(seen[i], address);
    }
    seen[seen_count++] = address;
    return value;
}

/* A chain that was checked is not looked at again: nobody can change it in between. */
static void test_device_chain_read__loads_nothing_twice(void **state)
{
    (void)state;
    for (size_t kind = 0; kind < 2; kind++) {
        struct device_rig *rig = device_rig_open(&kinds[kind], 3);

        for (unsigned i = 0; i < 50; i++) {
            device_rig_submit(rig, (uint32_t)device_rig_free_slot(rig));
            (void)device_rig_publish(rig);
            seen_count = 0;
            ski_door_hook = remember;
            assert_int_equal(device_rig_take(rig), SK_OK);
            ski_door_hook = NULL;
            assert_true(seen_count >= 4);
            device_rig_check_chain(rig);
            device_rig_give(rig, rig->chain.id, rig->chain.places);
            (void)device_rig_publish_used(rig);
            assert_true(device_rig_harvest(rig) >= 0);
        }
        device_rig_close(rig);
    }
}

/* A good record of a few chains, to begin with. */
static void record_some(struct device_rig *rig, struct ski_device_inflight *inflight)
{
    if (rig->options.packed) {
        ski_device_inflight_begin_packed(inflight, &rig->device_packed);
    } else {
        ski_device_inflight_begin_split(inflight, &rig->device_split);
    }
    for (unsigned i = 0; i < 5; i++) {
        device_rig_submit(rig, (uint32_t)device_rig_free_slot(rig));
        (void)device_rig_publish(rig);
        assert_int_equal(device_rig_take(rig), SK_OK);
        if (rig->options.packed) {
            (void)ski_device_inflight_take_packed(inflight, rig->descriptors, rig->chain.places);
        } else {
            ski_device_inflight_take_split(inflight, (uint16_t)rig->chain.id);
        }
    }
}

/* A record that says anything: recovery refuses it, or what it lets through stays inside. */
static void test_device_inflight_recover__any_record_stays_inside_and_ends(void **state)
{
    uint64_t good = 0;

    (void)state;
    for (unsigned i = 0; i < ROUNDS / 10; i++) {
        struct device_rig *rig = device_rig_open(&kinds[i % 2], i);
        struct ski_device_inflight inflight;
        uint8_t SKI_SHARED *region = ski_door_share(rig->memory + RIG_DATA);
        bool packed = rig->options.packed;
        enum sk_status status;

        hostility = 1 + i / 2 % 8;
        random_state = i + 1;
        assert_int_equal(
            ski_device_inflight_open(&inflight, region, packed, rig->options.size), SK_OK);
        record_some(rig, &inflight);
        ski_door_hook = lie;
        status = packed ? ski_device_inflight_recover_packed(&inflight, &rig->device_packed)
                        : ski_device_inflight_recover_split(&inflight, &rig->device_split);
        for (uint32_t k = 0; status == SK_OK && k < inflight.resubmit_count; k++) {
            uint16_t entry = inflight.resubmit[k];
            enum sk_status loaded;

            assert_true(entry < rig->options.size);
            if (!packed) {
                continue;
            }
            loaded = ski_device_inflight_load_packed(&inflight, entry, &rig->chain,
                                                     rig->descriptors);
            if (loaded == SK_OK) {
                loaded = ski_device_chain_read_packed(&rig->chain, &rig->view, rig->descriptors);
            }
            if (loaded == SK_OK) {
                check_pieces(rig);
                good++;
            }
        }
        ski_door_hook = NULL;
        if (status == SK_OK && packed) {
            assert_true(rig->device_packed.used < rig->options.size);
            assert_true(rig->device_packed.outstanding <= rig->options.size);
        }
        ski_device_inflight_close(&inflight);
        device_rig_close(rig);
    }
    assert_true(good > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_device_chain_read__any_loads_stay_inside_and_end),
        cmocka_unit_test(test_device_chain_read__loads_nothing_twice),
        cmocka_unit_test(test_device_inflight_recover__any_record_stays_inside_and_ends),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
