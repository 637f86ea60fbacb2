/* SPDX-License-Identifier: MIT */
/*
 * A device that is killed.  A child is the device and goes instruction by
 * instruction; after each that changed the shared memory a copy of it is what
 * a killed device leaves, and another device takes that over.  Whenever it
 * happened, each request is used once, in flight, or available: never two of
 * these, never none.
 */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "device_inflight.h"
#include "device_rig.h"

#define RIG_REGION (128u << 10) /* where the record lies; behind the tables */

static const struct device_rig_options kinds[] = {
    { .packed = false, .indirect = false, .size = 16, .start = 0 },
    { .packed = false, .indirect = true, .size = 8, .start = 65533 },
    { .packed = true, .indirect = true, .size = 8, .start = 0 },
    { .packed = true, .indirect = true, .size = 7, .start = 4 },
    { .packed = true, .indirect = false, .size = 13, .start = 0 },
    { .packed = true, .indirect = false, .size = 16, .start = 11 },
};

#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

static const struct device_rig_options ordered_kinds[] = {
    { .indirect = true, .size = 8, .start = 0, .in_order = true },
    { .indirect = true, .size = 8, .start = 65533, .in_order = true },
    { .packed = true, .indirect = true, .size = 8, .start = 0, .in_order = true },
    { .packed = true, .indirect = true, .size = 7, .start = 4, .in_order = true },
    { .packed = true, .indirect = false, .size = 13, .start = 0, .in_order = true },
    { .packed = true, .indirect = false, .size = 16, .start = 11, .in_order = true },
};

/* A device with its record. */
struct device {
    struct device_rig *rig;
    struct ski_device_inflight inflight;
    uint16_t entries[RIG_SLOTS_MAX]; /* of the slots in flight */
    uint32_t places[RIG_SLOTS_MAX];
};

static void open_record(struct device *device)
{
    const struct device_rig_options *options = &device->rig->options;

    assert_int_equal(ski_device_inflight_open(&device->inflight,
                                              ski_door_share(device->rig->memory + RIG_REGION),
                                              options->packed, options->size),
                     SK_OK);
}

static uint32_t head_of(const struct device *device, uint32_t slot)
{
    return device->rig->options.indirect ? slot : slot * RIG_BUFFERS_MAX;
}

/* Takes the next chain, recorded first; returns its slot, or -1. */
static int take(struct device *device)
{
    struct device_rig *rig = device->rig;
    uint32_t slot;

    if (rig->options.packed) {
        if (ski_device_chain_load_packed(&rig->chain, &rig->device_packed, rig->descriptors) !=
            SK_OK) {
            return -1;
        }
        slot = rig->chain.id;
        device->entries[slot] = ski_device_inflight_take_packed(
            &device->inflight, rig->descriptors, rig->chain.places);
        device->places[slot] = rig->chain.places;
        ski_device_packed_take(&rig->device_packed, rig->chain.places);
    } else {
        uint32_t pending;
        uint16_t head;

        if (ski_device_split_pending(&rig->device_split, &pending) != SK_OK || pending == 0) {
            return -1;
        }
        head = ski_device_split_peek(&rig->device_split, 0);
        ski_device_inflight_take_split(&device->inflight, head);
        rig->device_split.taken++;
        slot = rig->options.indirect ? head : head / RIG_BUFFERS_MAX;
    }
    return (int)slot;
}

static void give(struct device *device, uint32_t slot)
{
    struct device_rig *rig = device->rig;

    if (rig->options.packed) {
        ski_device_inflight_give_packed(&device->inflight, device->entries[slot],
                                        &rig->device_packed, device->places[slot]);
        ski_device_packed_give(&rig->device_packed, slot, 1, device->places[slot]);
    } else {
        ski_device_inflight_give_split(&device->inflight, (uint16_t)head_of(device, slot));
        ski_device_split_give(&rig->device_split, head_of(device, slot), 1);
    }
}

/* IN_ORDER: some chains with one used entry, as the back end gives them. */
static void give_many(struct device *device, const int *slots, uint32_t count)
{
    struct device_rig *rig = device->rig;
    uint32_t last = (uint32_t)slots[count - 1];
    uint32_t places = 0;

    for (uint32_t i = 0; i < count; i++) {
        uint32_t slot = (uint32_t)slots[i];

        places += device->places[slot];
        if (rig->options.packed) {
            ski_device_inflight_give_packed(&device->inflight, device->entries[slot],
                                            &rig->device_packed, places);
        } else {
            ski_device_inflight_give_split(&device->inflight, (uint16_t)head_of(device, slot));
        }
    }
    if (rig->options.packed) {
        ski_device_packed_give(&rig->device_packed, last, 1, places);
    } else {
        ski_device_split_give_many(&rig->device_split, head_of(device, last), 1, count);
    }
}

static void publish(struct device *device)
{
    struct device_rig *rig = device->rig;

    if (rig->options.packed) {
        ski_device_packed_publish(&rig->device_packed);
        ski_device_inflight_commit_packed(&device->inflight, &rig->device_packed);
    } else {
        ski_device_split_publish(&rig->device_split);
        ski_device_inflight_commit_split(&device->inflight, &rig->device_split);
    }
}

static void begin(struct device *device)
{
    if (device->rig->options.packed) {
        ski_device_inflight_begin_packed(&device->inflight, &device->rig->device_packed);
    } else {
        ski_device_inflight_begin_split(&device->inflight, &device->rig->device_split);
    }
}

static enum sk_status recover(struct device *device)
{
    return device->rig->options.packed
               ? ski_device_inflight_recover_packed(&device->inflight, &device->rig->device_packed)
               : ski_device_inflight_recover_split(&device->inflight, &device->rig->device_split);
}

/*
 * The work of the child: takes all, gives it back in batches and another
 * order; then what the driver submits meanwhile is not looked at.
 */
static void work(struct device *device, uint32_t count, bool at_once)
{
    int slots[RIG_SLOTS_MAX];
    uint32_t taken = 0;

    while (taken < count && (at_once || taken < 3)) {
        slots[taken++] = take(device);
    }
    if (!at_once) {
        give(device, (uint32_t)slots[1]);
        publish(device);
        slots[1] = slots[2];
        taken--;
        count--;
    }
    while (taken < count) {
        slots[taken++] = take(device);
    }
    for (uint32_t i = 0; i < count; i++) {
        give(device, (uint32_t)slots[i % 2 == 0 ? i / 2 : count - 1 - i / 2]); /* from both ends */
        if ((!at_once && (i == 0 || i == 2)) || i + 1 == count) {
            publish(device);
        }
    }
}

/* The same in order: one, then two, then the rest, or all at once. */
static void work_in_order(struct device *device, uint32_t count, bool at_once)
{
    int slots[RIG_SLOTS_MAX];
    uint32_t given = 0;
    uint32_t taken = 0;

    for (uint32_t batch = at_once ? count : 1; given < count; batch++) {
        batch = batch < count - given ? batch : count - given;
        while (taken < count && taken < given + batch + 1) {
            slots[taken++] = take(device);
        }
        give_many(device, slots + given, batch);
        publish(device);
        given += batch;
    }
}

/* ---- What a killed device leaves --------------------------------------------------------- */

/* Everything that a new device and the driver know, over a copy of the memory. */
struct world {
    struct device_rig rig;
    uint8_t *memory;
};

static void rebase_split(struct device_rig *rig, const uint8_t *from)
{
    ptrdiff_t move = rig->memory - from;
    struct ski_ring_split *ring = &rig->split;
    struct ski_device_split *device = &rig->device_split;

    ring->descriptors = (void *)((uintptr_t)ring->descriptors + (uintptr_t)move);
    ring->avail = (void *)((uintptr_t)ring->avail + (uintptr_t)move);
    ring->used = (void *)((uintptr_t)ring->used + (uintptr_t)move);
    ring->used_elements = (void *)((uintptr_t)ring->used_elements + (uintptr_t)move);
    ring->avail_event = (void *)((uintptr_t)ring->avail_event + (uintptr_t)move);
    device->descriptors = ring->descriptors;
    device->avail = ring->avail;
    device->used = ring->used;
    device->used_elements = ring->used_elements;
    device->avail_event = ring->avail_event;
}

static void rebase_packed(struct device_rig *rig, const uint8_t *from)
{
    ptrdiff_t move = rig->memory - from;
    struct ski_ring_packed *ring = &rig->packed;
    struct ski_device_packed *device = &rig->device_packed;

    ring->descriptors = (void *)((uintptr_t)ring->descriptors + (uintptr_t)move);
    ring->driver_event = (void *)((uintptr_t)ring->driver_event + (uintptr_t)move);
    ring->device_event = (void *)((uintptr_t)ring->device_event + (uintptr_t)move);
    device->descriptors = ring->descriptors;
    device->driver_event = ring->driver_event;
    device->device_event = ring->device_event;
}

/* The driver as it is, the memory as it is now, and a device that knows nothing. */
static void copy_world(struct world *world, const struct device_rig *rig)
{
    memcpy(&world->rig, rig, sizeof(*rig));
    memcpy(world->memory, rig->memory, RIG_BYTES);
    world->rig.memory = world->memory;
    world->rig.table.regions[0].host = world->memory;
    world->rig.table.regions[1].host = world->memory + RIG_BORDER;
    world->rig.view.memory = &world->rig.table;
    world->rig.view.hint = NULL;
    if (rig->options.packed) {
        rebase_packed(&world->rig, rig->memory);
        world->rig.device_packed.used = 0xfff0; /* whatever it was: it must be found out */
        world->rig.device_packed.next = 0xfff0;
    } else {
        rebase_split(&world->rig, rig->memory);
        world->rig.device_split.taken = 0x1234;
        world->rig.device_split.given = 0x4321;
    }
}

static void note(uint8_t *where, int slot, uint8_t what)
{
    assert_true(slot >= 0);
    assert_int_equal(where[slot], 0);
    where[slot] = what;
}

/* What was in flight: the slots, in the order of taking; their chains are as the driver made them. */
static uint32_t resubmitted(struct device *next, uint8_t *where, int *out_slots)
{
    struct device_rig *rig = next->rig;

    for (uint32_t i = 0; i < next->inflight.resubmit_count; i++) {
        uint16_t entry = next->inflight.resubmit[i];

        if (rig->options.packed) {
            assert_int_equal(ski_device_inflight_load_packed(&next->inflight, entry, &rig->chain,
                                                             rig->descriptors),
                             SK_OK);
            assert_int_equal(ski_device_chain_read_packed(&rig->chain, &rig->view,
                                                          rig->descriptors),
                             SK_OK);
            next->entries[rig->chain.id] = entry;
            next->places[rig->chain.id] = rig->chain.places;
        } else {
            assert_int_equal(ski_device_chain_read_split(&rig->chain, &rig->view,
                                                         &rig->device_split, entry),
                             SK_OK);
            rig->chain.id = rig->options.indirect ? entry : entry / RIG_BUFFERS_MAX;
        }
        device_rig_check_chain(rig);
        out_slots[i] = (int)rig->chain.id;
        note(where, out_slots[i], 'f');
    }
    return next->inflight.resubmit_count;
}

/* Another device takes the world over; then everything is finished, and seen once. */
static void check_world(struct world *world, uint32_t count)
{
    struct device next = { .rig = &world->rig };
    uint8_t where[RIG_SLOTS_MAX] = { 0 };
    int slots[RIG_SLOTS_MAX];
    uint32_t in_flight;
    uint32_t pending;
    int slot;

    open_record(&next);
    if (ski_device_inflight_is_live(&next.inflight)) {
        assert_int_equal(recover(&next), SK_OK);
    } else {
        fail_msg("the record says nothing");
    }
    while ((slot = device_rig_harvest(&world->rig)) >= 0) {
        note(where, slot, 'u');
    }
    in_flight = resubmitted(&next, where, slots);
    pending = in_flight;
    while ((slot = take(&next)) >= 0) {
        note(where, slot, 'a');
        slots[pending++] = slot;
    }
    for (uint32_t i = 0; i < count; i++) {
        assert_int_not_equal(where[i], 0);
    }
    /*
     * One at a time, the last first unless they have an order: what the dead
     * device left in the ring must not be believed.
     */
    for (uint32_t i = 0; i < pending; i++) {
        int one = slots[world->rig.options.in_order ? i : pending - 1 - i];

        assert_int_equal(device_rig_harvest(&world->rig), -1);
        give(&next, (uint32_t)one);
        publish(&next);
        assert_int_equal(device_rig_harvest(&world->rig), one);
    }
    assert_int_equal(device_rig_harvest(&world->rig), -1);
    ski_device_inflight_close(&next.inflight);
}

/* ---- Instruction by instruction ---------------------------------------------------------- */

static uint32_t submit_all(struct device_rig *rig, uint32_t most)
{
    uint32_t count = 0;
    int slot;

    while (count < most && (slot = device_rig_free_slot(rig)) >= 0) {
        /* The slots 0, 1, ...: so all of them are known. */
        slot = (int)count++;
        device_rig_submit(rig, (uint32_t)slot);
    }
    (void)device_rig_publish(rig);
    return count;
}

static pid_t start_child(struct device *device, uint32_t count, bool at_once)
{
    pid_t child = fork();

    if (child == 0) {
        if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0) {
            _exit(77);
        }
        (void)raise(SIGSTOP);
        if (device->rig->options.in_order) {
            work_in_order(device, count, at_once);
        } else {
            work(device, count, at_once);
        }
        _exit(0);
    }
    return child;
}

/* The parts of the memory that a device writes: the ring, and the record. */
#define WATCHED 2048u

static bool has_changed(const struct device_rig *rig, uint8_t *last)
{
    const uint8_t *record = rig->memory + RIG_REGION;

    if (memcmp(last, rig->memory, WATCHED) == 0 && memcmp(last + WATCHED, record, WATCHED) == 0) {
        return false;
    }
    memcpy(last, rig->memory, WATCHED);
    memcpy(last + WATCHED, record, WATCHED);
    return true;
}

static unsigned follow_child(struct device_rig *rig, pid_t child, struct world *world,
                             uint32_t count)
{
    uint8_t last[2 * WATCHED];
    unsigned worlds = 0;
    int status;

    memset(last, 0xa5, sizeof(last));
    assert_int_equal(waitpid(child, &status, 0), child);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77) {
        (void)printf("skipped: needs ptrace\n");
        exit(77);
    }
    while (WIFSTOPPED(status)) {
        assert_true(WSTOPSIG(status) == SIGSTOP || WSTOPSIG(status) == SIGTRAP);
        if (has_changed(rig, last)) {
            copy_world(world, rig);
            check_world(world, count);
            worlds++;
        }
        assert_int_equal(ptrace(PTRACE_SINGLESTEP, child, NULL, NULL), 0);
        assert_int_equal(waitpid(child, &status, 0), child);
    }
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    return worlds;
}

static void kill_anywhere(const struct device_rig_options *options, uint32_t most, bool at_once,
                          uint64_t seed)
{
    struct device device = { .rig = device_rig_open(options, seed) };
    struct world *world = malloc(sizeof(*world));
    uint32_t count;
    unsigned worlds;

    assert_non_null(world);
    world->memory = mmap(NULL, RIG_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
                         0);
    assert_ptr_not_equal(world->memory, MAP_FAILED);
    open_record(&device);
    begin(&device);
    count = submit_all(device.rig, most);
    worlds = follow_child(device.rig, start_child(&device, count, at_once), world, count);
    print_message("%s%s, size %u, %u requests: killed at %u places\n",
                  options->packed ? "packed" : "split", options->in_order ? " in order" : "",
                  options->size, count, worlds);
    assert_true(worlds >= 4 * count); /* taking and giving store more than that */
    ski_device_inflight_close(&device.inflight);
    (void)munmap(world->memory, RIG_BYTES);
    free(world);
    device_rig_close(device.rig);
}

static void test_device_inflight__killed_anywhere_nothing_lost_or_doubled(void **state)
{
    (void)state;
    for (size_t i = 0; i < KINDS; i++) {
        kill_anywhere(&kinds[i], 4, false, i + 1);
        kill_anywhere(&kinds[i], 7, true, i + 100); /* for the smallest: the whole ring at once */
    }
}

static void test_device_inflight__killed_anywhere_in_order(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(ordered_kinds) / sizeof(ordered_kinds[0]); i++) {
        kill_anywhere(&ordered_kinds[i], 6, false, i + 1);
        kill_anywhere(&ordered_kinds[i], 7, true, i + 100);
    }
}

/* ---- Lives ------------------------------------------------------------------------------- */

/*
 * One ring, many devices, each killed at rest with a random part of its work
 * done: the list of free entries and the positions stay right over many laps.
 */
static void many_lives(const struct device_rig_options *options, uint64_t seed)
{
    struct device device = { .rig = device_rig_open(options, seed) };
    struct device_rig *rig = device.rig;
    uint64_t finished = 0;

    open_record(&device);
    begin(&device);
    for (unsigned life = 0; life < 400; life++) {
        uint8_t known[RIG_SLOTS_MAX] = { 0 };
        int slots[RIG_SLOTS_MAX];
        uint32_t held;
        int slot;

        while ((slot = device_rig_free_slot(rig)) >= 0 && device_rig_random(rig, 4) != 0) {
            device_rig_submit(rig, (uint32_t)slot);
        }
        (void)device_rig_publish(rig);
        held = resubmitted(&device, known, slots);
        while (device_rig_random(rig, 5) != 0 && (slot = take(&device)) >= 0) {
            note(known, slot, 'a');
            slots[held++] = slot;
        }
        while (held > 0 && device_rig_random(rig, 5) != 0) {
            uint32_t which = (uint32_t)device_rig_random(rig, held);

            give(&device, (uint32_t)slots[which]);
            slots[which] = slots[--held];
            if (device.inflight.batch_count == 3 || held == 0) {
                publish(&device);
            }
        }
        if (device_rig_random(rig, 2) != 0) {
            publish(&device);
        }
        ski_device_inflight_close(&device.inflight);
        open_record(&device);
        assert_int_equal(recover(&device), SK_OK);
        while (device_rig_harvest(rig) >= 0) {
            finished++;
        }
    }
    assert_true(finished > 200);
    ski_device_inflight_close(&device.inflight);
    device_rig_close(rig);
}

static void test_device_inflight__many_lives_keep_the_record_right(void **state)
{
    (void)state;
    for (size_t i = 0; i < KINDS; i++) {
        many_lives(&kinds[i], 1000 + i);
    }
}

static void test_device_inflight_recover__order_of_taking_is_kept(void **state)
{
    (void)state;
    for (size_t i = 0; i < KINDS; i++) {
        struct device device = { .rig = device_rig_open(&kinds[i], 9) };
        uint8_t where[RIG_SLOTS_MAX] = { 0 };
        uint32_t order[4] = { 2, 0, 3, 1 };
        int slots[RIG_SLOTS_MAX];
        uint32_t count = 0;

        open_record(&device);
        begin(&device);
        for (uint32_t k = 0; k < 4 && order[k] < device.rig->slot_count; k++) {
            if (device_rig_free_slot(device.rig) >= 0) {
                device_rig_submit(device.rig, order[k]);
                (void)device_rig_publish(device.rig);
                assert_int_equal(take(&device), order[k]);
                count++;
            }
        }
        ski_device_inflight_close(&device.inflight);
        open_record(&device);
        assert_int_equal(recover(&device), SK_OK);
        assert_int_equal(resubmitted(&device, where, slots), count);
        for (uint32_t k = 0; k < count; k++) {
            assert_int_equal(slots[k], order[k]);
        }
        ski_device_inflight_close(&device.inflight);
        device_rig_close(device.rig);
    }
}

static void test_device_inflight_end__says_nothing_any_more(void **state)
{
    (void)state;
    for (size_t i = 0; i < KINDS; i++) {
        struct device device = { .rig = device_rig_open(&kinds[i], 9) };

        open_record(&device);
        assert_false(ski_device_inflight_is_live(&device.inflight));
        begin(&device);
        assert_true(ski_device_inflight_is_live(&device.inflight));
        ski_device_inflight_end(&device.inflight);
        assert_false(ski_device_inflight_is_live(&device.inflight));
        ski_device_inflight_close(&device.inflight);
        device_rig_close(device.rig);
    }
}

static void test_device_inflight_recover__record_of_another_size_is_malformed(void **state)
{
    (void)state;
    for (size_t i = 0; i < KINDS; i++) {
        struct device device = { .rig = device_rig_open(&kinds[i], 9) };

        open_record(&device);
        begin(&device);
        device.inflight.count--;
        assert_int_equal(recover(&device), SK_ERR_MALFORMED);
        device.inflight.count++;
        assert_int_equal(recover(&device), SK_OK);
        assert_int_equal(device.inflight.resubmit_count, 0);
        ski_device_inflight_close(&device.inflight);
        device_rig_close(device.rig);
    }
}

static void test_device_inflight_bytes__regions_follow_each_other_at_64(void **state)
{
    (void)state;
    assert_int_equal(ski_device_inflight_bytes(false, 128), 2048 + 64);
    assert_int_equal(ski_device_inflight_bytes(true, 128), 4096 + 64);
    assert_int_equal(ski_device_inflight_bytes(false, 3), 64);
    assert_int_equal(ski_device_inflight_bytes(true, 1), 64);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_device_inflight__killed_anywhere_nothing_lost_or_doubled),
        cmocka_unit_test(test_device_inflight__killed_anywhere_in_order),
        cmocka_unit_test(test_device_inflight__many_lives_keep_the_record_right),
        cmocka_unit_test(test_device_inflight_recover__order_of_taking_is_kept),
        cmocka_unit_test(test_device_inflight_end__says_nothing_any_more),
        cmocka_unit_test(test_device_inflight_recover__record_of_another_size_is_malformed),
        cmocka_unit_test(test_device_inflight_bytes__regions_follow_each_other_at_64),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
