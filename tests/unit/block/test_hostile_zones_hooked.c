/* SPDX-License-Identifier: MIT */
/* Cases 43 to 45 with a hook at each load: a device that answers differently the second time. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "base/door.h"
#include "support/blk_rig.h"

#define POLLS 2000u
#define ZONE  64u

static struct blk_rig rig;

static struct {
    const uint8_t *memory; /* loads from here on, `bytes` of them, are looked at */
    size_t bytes;
    uint8_t seen[1024];    /* how often each byte was loaded */
    unsigned loads;
    unsigned offset; /* of a register, whose first answers are `first` */
    unsigned answers;
    uint64_t first;
} hook;

static uint64_t see(const void *address, unsigned width, uint64_t value)
{
    uintptr_t at = (uintptr_t)address - (uintptr_t)hook.memory;

    if (hook.memory != NULL && at < hook.bytes) {
        bool again = hook.seen[at] != 0;

        hook.loads++;
        for (unsigned i = 0; i < width; i++) {
            hook.seen[at + i]++;
        }
        return again ? UINT64_C(0x5555555555555555) >> (64 - 8 * width) : value;
    }
    if (hook.answers > 0 && (uintptr_t)address == hook.offset) {
        hook.answers--;
        return hook.first;
    }
    return value;
}

static void init(void)
{
    struct fake_device_config config = FAKE_DEVICE_CONFIG_DEFAULT;

    config.features |= SK_VIRTIO_FEATURE(SK_VIRTIO_BLK_F_ZONED) |
                       SK_VIRTIO_FEATURE(SK_VIRTIO_BLK_F_DISCARD);
    config.zone_sectors = ZONE;
    config.max_append_sectors = 32;
    memset(&hook, 0, sizeof(hook));
    blk_rig_init(&rig, &config, NULL);
    ski_door_hook = see;
}

static void deinit(void)
{
    ski_door_hook = NULL;
    blk_rig_deinit(&rig);
}

static void expect_single(size_t from, size_t bytes)
{
    for (size_t i = from; i < from + bytes; i++) {
        assert_int_equal(hook.seen[i], 1);
    }
}

static void test_hostile_43__one_load_of_each_field_of_a_zone(void **state)
{
    struct blk_rig_request request;
    struct sk_block_zone zone;
    const uint8_t *report;

    (void)state;
    init();
    assert_int_equal(blk_rig_probe(&rig), SK_OK);
    blk_rig_prepare(&rig, &request, SK_BLOCK_ZONE_REPORT, ZONE, 0, 256);
    blk_rig_submit(&rig, &request);
    assert_true(blk_rig_run(&rig, &request, POLLS));
    assert_int_equal(request.request.status, SK_OK);
    report = test_environment_foreign(&rig.env, 0);
    for (uint32_t i = 0; i < 3; i++) {
        hook.memory = report;
        hook.bytes = 256;
        memset(hook.seen, 0, sizeof(hook.seen));
        assert_int_equal(sk_block_zone_parse(rig.disk, ZONE, report, 256, i, &zone), SK_OK);
        assert_int_equal(zone.sector, (1 + i) * ZONE);
        expect_single(0, 8);
        expect_single(64 + 64 * (size_t)i, 26);
    }
    assert_int_equal(hook.loads, 3 * 6);
    hook.memory = NULL;
    deinit();
}

/* The sector is loaded once: what was checked is what the caller gets. */
static void test_hostile_44__one_load_of_the_sector(void **state)
{
    struct blk_rig_request request;

    (void)state;
    init();
    assert_int_equal(blk_rig_probe(&rig), SK_OK);
    for (unsigned i = 0; i < 16; i++) {
        const uint8_t *buffer = sk_io_buffer_data(&rig.buffer);
        const uint8_t *answer = buffer;

        blk_rig_prepare(&rig, &request, SK_BLOCK_ZONE_APPEND, ZONE, 0, 512);
        hook.bytes = 0;
        blk_rig_submit(&rig, &request);
        /* The answer stands behind the header: type 15, the zone. */
        while (sk_endian_load_le64(answer) != 15 || sk_endian_load_le64(answer + 8) != ZONE ||
               sk_endian_load_le64(answer + 16) != ZONE + i) {
            answer += 8;
            assert_true(answer < buffer + 65536);
        }
        memset(hook.seen, 0, sizeof(hook.seen));
        hook.memory = answer + 16;
        hook.bytes = 9;
        assert_int_equal(sk_block_poll(rig.queue, 0, NULL), SK_OK);
        assert_int_equal(request.completions, 1);
        assert_int_equal(request.request.result_sector, ZONE + i);
        expect_single(0, 9);
    }
    hook.memory = NULL;
    deinit();
}

/*
 * Not host-managed when asked before the features are settled, and host-managed
 * afterwards: DISCARD is accepted then, and not used.
 */
static void test_hostile_45__model_changes_its_mind(void **state)
{
    (void)state;
    init();
    rig.fake->config_space[36] = 64;
    rig.fake->config_space[40] = 1;
    hook.offset = 0x100 + 92;
    hook.first = 0;
    hook.answers = 1;
    assert_int_equal(blk_rig_probe(&rig), SK_OK);
    assert_int_equal(hook.answers, 0);
    fake_device_forgive(rig.fake);
    assert_int_equal(rig.disk->info.zones.model, SK_BLOCK_ZONE_MODEL_HOST_MANAGED);
    assert_int_equal(sk_block_clear(rig.queue, SK_BLOCK_DISCARD, 0, ZONE, 0, 0),
                     SK_ERR_UNSUPPORTED);
    deinit();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hostile_43__one_load_of_each_field_of_a_zone),
        cmocka_unit_test(test_hostile_44__one_load_of_the_sector),
        cmocka_unit_test(test_hostile_45__model_changes_its_mind),
    };

    return cmocka_run_group_tests_name("hostile_zones_hooked", tests, NULL, NULL);
}
