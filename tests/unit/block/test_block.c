/* SPDX-License-Identifier: MIT */
/* The disk's face: what it hands on, and what it answers by itself. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "support/blk_rig.h"

static struct blk_rig rig;

static void test_block_of_node__only_a_bound_disk_is_one(void **state)
{
    struct sk_device_node node = { .name = "console", .device_class = SK_DEVICE_CLASS_CONSOLE };

    (void)state;
    assert_null(sk_block_of_node(NULL));
    assert_null(sk_block_of_node(&node));
    blk_rig_start(&rig, NULL, NULL);
    assert_ptr_equal(sk_block_of_node(&rig.node), rig.disk);
    assert_int_equal(blk_rig_remove(&rig), SK_OK);
    assert_null(sk_block_of_node(&rig.node));
    blk_rig_deinit(&rig);
}

static void test_block_get_queue__beyond_the_last_is_null(void **state)
{
    (void)state;
    assert_null(sk_block_get_queue(NULL, 0));
    blk_rig_start(&rig, NULL, NULL);
    assert_non_null(sk_block_get_queue(rig.disk, 0));
    assert_null(sk_block_get_queue(rig.disk, 1));
    assert_null(sk_block_get_queue(rig.disk, UINT32_MAX));
    blk_rig_deinit(&rig);
}

static void test_block_state_name__every_state_has_its_own(void **state)
{
    (void)state;
    for (int i = 0; i < SK_BLOCK_STATE_COUNT; i++) {
        for (int j = 0; j < i; j++) {
            assert_string_not_equal(sk_block_state_name((enum sk_block_state)i),
                                    sk_block_state_name((enum sk_block_state)j));
        }
    }
    assert_string_equal(sk_block_state_name(SK_BLOCK_STATE_READY), "ready");
    assert_string_equal(sk_block_state_name(SK_BLOCK_STATE_COUNT), "unknown");
}

static void test_block_feature_name__asks_the_driver(void **state)
{
    (void)state;
    blk_rig_start(&rig, NULL, NULL);
    assert_string_equal(sk_block_feature_name(rig.disk, SK_VIRTIO_BLK_F_FLUSH), "FLUSH");
    assert_null(sk_block_feature_name(rig.disk, 63));
    blk_rig_deinit(&rig);
}

static void test_block_write__of_a_read_only_disk_says_so(void **state)
{
    struct fake_device_config config = FAKE_DEVICE_CONFIG_DEFAULT;

    (void)state;
    config.features |= SK_VIRTIO_FEATURE(SK_VIRTIO_BLK_F_RO);
    blk_rig_start(&rig, &config, NULL);
    assert_int_equal(
        sk_block_write(rig.queue, 0, test_environment_foreign(&rig.env, 0), 512, 0),
        SK_ERR_READ_ONLY);
    blk_rig_deinit(&rig);
}

static void test_block_read__every_failing_hook_gives_all_memory_back(void **state)
{
    struct sk_dma_domain_statistics statistics;
    uint8_t *memory;
    unsigned n;

    (void)state;
    blk_rig_start(&rig, NULL, NULL);
    memory = test_environment_foreign(&rig.env, 0);
    for (n = 1; n < 200; n++) {
        enum sk_status status;

        rig.env.fail_call = n;
        status = sk_block_read(rig.queue, 0, memory + 1, 65536, 0);
        sk_dma_domain_get_statistics(&rig.env.domain, &statistics);
        assert_int_equal(statistics.mappings_live, 0);
        if (status == SK_OK && rig.env.fail_call != 0) {
            break; /* no call was left to fail */
        }
    }
    assert_true(n > 1 && n < 200);
    rig.env.fail_call = 0;
    blk_rig_deinit(&rig);
}

static void test_block_read__device_that_never_stops_keeps_the_memory(void **state)
{
    struct sk_dma_domain_statistics before;
    struct sk_dma_domain_statistics after;
    uint8_t *memory;

    (void)state;
    blk_rig_start(&rig, NULL, NULL);
    memory = test_environment_foreign(&rig.env, 0);
    sk_dma_domain_get_statistics(&rig.env.domain, &before);
    fake_device_fault(rig.fake, FAKE_FAULT_STALL, 0, 0, FAKE_FOR_EVER);
    fake_device_fault(rig.fake, FAKE_FAULT_RESET, 0, 0, FAKE_FOR_EVER);
    assert_int_equal(sk_block_read(rig.queue, 0, memory, 512, 5000000), SK_ERR_IN_DOUBT);
    assert_int_equal(sk_block_get_state(rig.disk), SK_BLOCK_STATE_IN_DOUBT);
    assert_int_equal(sk_block_recover(rig.disk, 0), SK_ERR_IN_DOUBT);
    sk_dma_domain_get_statistics(&rig.env.domain, &after);
    assert_int_equal(after.mappings_live, before.mappings_live);
    /* It stops at last: then it can be used, and removed, as if nothing had been. */
    fake_device_behave(rig.fake);
    assert_int_equal(sk_block_recover(rig.disk, 0), SK_OK);
    assert_int_equal(sk_block_read(rig.queue, 0, memory, 512, 5000000), SK_OK);
    blk_rig_deinit(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_block_of_node__only_a_bound_disk_is_one),
        cmocka_unit_test(test_block_get_queue__beyond_the_last_is_null),
        cmocka_unit_test(test_block_state_name__every_state_has_its_own),
        cmocka_unit_test(test_block_feature_name__asks_the_driver),
        cmocka_unit_test(test_block_write__of_a_read_only_disk_says_so),
        cmocka_unit_test(test_block_read__every_failing_hook_gives_all_memory_back),
        cmocka_unit_test(test_block_read__device_that_never_stops_keeps_the_memory),
    };

    return cmocka_run_group_tests_name("block", tests, NULL, NULL);
}
