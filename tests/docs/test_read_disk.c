/* SPDX-License-Identifier: MIT */
/* README.md's example, run against the fake device. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "fake/virtio_device.h"
#include "read_disk.h"
#include "support/environment.h"

#define BASE  UINT64_C(0x10001000)
#define PAGES 256u

struct rig {
    struct test_environment env;
    struct fake_device *fake;
    uint8_t *sector; /* foreign memory: where the example puts what it read */
};

/* The device sees all of memory, elsewhere. */
static const struct sk_dma_window window = { { 0 }, { TEST_DEVICE_OFFSET },
                                             UINT64_C(0x1000000000) };

static void init(struct rig *rig, const struct fake_device_config *config)
{
    test_environment_init(&rig->env, PAGES);
    rig->env.clock_step_ns = 1000;
    rig->fake = fake_device_attach(&rig->env, BASE, 1, config);
    rig->env.mmio[0].bytes = 0x200; /* slots are longer than what the device has in them */
    for (size_t i = 0; i < SK_BLOCK_SECTOR_BYTES; i++) {
        rig->fake->storage[i] = (uint8_t)(i * 7 + 1);
    }
    rig->sector = test_environment_foreign(&rig->env, 0);
}

static enum sk_status read_it(struct rig *rig)
{
    return read_first_sector(&rig->env.platform, &rig->env.zone, &window, sk_paddr_make(BASE),
                             rig->sector);
}

static void deinit(struct rig *rig)
{
    fake_device_detach(rig->fake); /* fails the test if the driver broke the specification */
    test_environment_deinit(&rig->env);
}

static void test_read_disk_read_first_sector__modern_disk_stores_the_sector(void **state)
{
    struct fake_device_config config = FAKE_DEVICE_CONFIG_DEFAULT;
    struct rig rig;

    (void)state;
    init(&rig, &config);
    assert_int_equal(read_it(&rig), SK_OK);
    assert_memory_equal(rig.sector, rig.fake->storage, SK_BLOCK_SECTOR_BYTES);
    assert_int_equal(rig.env.lines[SK_LOG_ERROR], 0);
    deinit(&rig);
}

static void test_read_disk_read_first_sector__legacy_disk_stores_the_sector(void **state)
{
    struct fake_device_config config = FAKE_DEVICE_CONFIG_DEFAULT;
    struct rig rig;

    (void)state;
    config.legacy = true;
    init(&rig, &config);
    assert_int_equal(read_it(&rig), SK_OK);
    assert_memory_equal(rig.sector, rig.fake->storage, SK_BLOCK_SECTOR_BYTES);
    deinit(&rig);
}

static void test_read_disk_read_first_sector__empty_slot_says_not_found(void **state)
{
    struct fake_device_config config = FAKE_DEVICE_CONFIG_DEFAULT;
    struct rig rig;

    (void)state;
    init(&rig, &config);
    fake_device_fault(rig.fake, FAKE_FAULT_DEVICE_ID, 0, 0, FAKE_FOR_EVER);
    assert_int_equal(read_it(&rig), SK_ERR_NOT_FOUND);
    deinit(&rig);
}

static void test_read_disk_read_first_sector__bad_sector_says_io(void **state)
{
    struct fake_device_config config = FAKE_DEVICE_CONFIG_DEFAULT;
    struct rig rig;

    (void)state;
    init(&rig, &config);
    fake_device_bad_sectors(rig.fake, 0, 1);
    assert_int_equal(read_it(&rig), SK_ERR_IO);
    deinit(&rig);
}

static void test_read_disk_read_first_sector__silent_disk_says_in_time(void **state)
{
    struct fake_device_config config = FAKE_DEVICE_CONFIG_DEFAULT;
    struct rig rig;

    (void)state;
    init(&rig, &config);
    fake_device_fault(rig.fake, FAKE_FAULT_DEAF, 0, 1, FAKE_FOR_EVER); /* the probe passes */
    assert_int_equal(read_it(&rig), SK_ERR_TIMEOUT);
    deinit(&rig);
}

static void test_read_disk_read_first_sector__disk_that_never_stops_keeps_its_memory(void **state)
{
    struct fake_device_config config = FAKE_DEVICE_CONFIG_DEFAULT;
    struct rig rig;

    (void)state;
    init(&rig, &config);
    /* The reset of the start passes, the one of the end does not. */
    fake_device_fault(rig.fake, FAKE_FAULT_RESET, 0, 1, FAKE_FOR_EVER);
    assert_int_equal(read_it(&rig), SK_ERR_IN_DOUBT);
    fake_device_detach(rig.fake);
    test_environment_abandon(&rig.env);
}

static void test_read_disk_read_first_sector__nth_hook_fails_nothing_is_left(void **state)
{
    struct fake_device_config config = FAKE_DEVICE_CONFIG_DEFAULT;
    enum sk_status status = SK_ERR_BUSY;

    (void)state;
    for (unsigned nth = 1; status != SK_OK; nth++) {
        struct rig rig;

        assert_true(nth < 100);
        init(&rig, &config);
        rig.env.fail_call = nth;
        status = read_it(&rig);
        deinit(&rig);
    }
}

/* PORTING.md and docs/figures.md say how much memory a disk takes. */
static void test_read_disk_needs__are_what_the_documents_say(void **state)
{
    const struct sk_driver *driver = &sk_virtio_blk_mmio_driver;
    const struct sk_device_node node = { .name = "disk" };
    struct sk_driver_needs needs;

    (void)state;
    assert_int_equal(driver->needs(driver, &node, &needs), SK_OK);
    assert_int_equal(needs.dma.size_bytes, 53248);
    assert_true(needs.private_bytes <= 8 * 1024);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_read_disk_needs__are_what_the_documents_say),
        cmocka_unit_test(test_read_disk_read_first_sector__modern_disk_stores_the_sector),
        cmocka_unit_test(test_read_disk_read_first_sector__legacy_disk_stores_the_sector),
        cmocka_unit_test(test_read_disk_read_first_sector__empty_slot_says_not_found),
        cmocka_unit_test(test_read_disk_read_first_sector__bad_sector_says_io),
        cmocka_unit_test(test_read_disk_read_first_sector__silent_disk_says_in_time),
        cmocka_unit_test(
            test_read_disk_read_first_sector__disk_that_never_stops_keeps_its_memory),
        cmocka_unit_test(test_read_disk_read_first_sector__nth_hook_fails_nothing_is_left),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
