/* SPDX-License-Identifier: MIT */
/* The driver over a transport that somebody else opened. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "support/blk_rig.h"

#define POLLS 2000u

static struct blk_rig rig;
static struct sk_virtio_mmio transport;

/* A rig whose node has an open transport instead of registers. */
static void init(void)
{
    blk_rig_init(&rig, NULL, NULL);
    rig.driver = sk_virtio_blk_driver;
    rig.driver.options = &rig.options;
    assert_int_equal(
        sk_virtio_mmio_open(&transport, &rig.env.platform, &rig.fake->mmio, BLK_RIG_BASE), SK_OK);
    rig.node.identity = (struct sk_device_identity){ .bus = SK_DEVICE_BUS_VIRTIO,
                                                     .device = SK_VIRTIO_DEVICE_BLOCK };
    rig.node.ranges = NULL;
    rig.node.range_count = 0;
    rig.node.transport = &transport.transport;
}

static void test_virtio_blk_driver__open_transport_gives_a_disk(void **state)
{
    struct blk_rig_request request;

    (void)state;
    init();
    assert_true(sk_driver_matches(&rig.driver, &rig.node));
    assert_int_equal(rig.driver.identify(&rig.driver, &rig.node), SK_OK);
    assert_int_equal(blk_rig_probe(&rig), SK_OK);
    assert_string_equal(rig.disk->info.identity, "fake disk");
    memset(test_environment_foreign(&rig.env, 0), 0x5a, 512);
    blk_rig_prepare(&rig, &request, SK_BLOCK_WRITE, 3, 0, 512);
    blk_rig_submit(&rig, &request);
    assert_true(blk_rig_run(&rig, &request, POLLS));
    assert_int_equal(request.request.status, SK_OK);
    assert_memory_equal(rig.fake->storage + 3 * 512, test_environment_foreign(&rig.env, 0), 512);
    assert_int_equal(rig.env.mmio_mapped, 0); /* the driver mapped nothing */
    blk_rig_deinit(&rig);
    assert_ptr_equal(rig.node.transport, &transport.transport);
}

static void test_virtio_blk_driver__no_registers_needs_less_memory_than_mmio(void **state)
{
    struct sk_driver_needs open = { .private_bytes = 0 };
    struct sk_driver_needs mmio = { .private_bytes = 0 };

    (void)state;
    init();
    assert_int_equal(rig.driver.needs(&rig.driver, &rig.node, &open), SK_OK);
    assert_int_equal(
        sk_virtio_blk_mmio_driver.needs(&rig.driver, &rig.node, &mmio), SK_OK);
    assert_int_equal(open.dma.size_bytes, mmio.dma.size_bytes);
    assert_true(open.private_bytes < mmio.private_bytes);
    blk_rig_deinit(&rig);
}

static void test_virtio_blk_driver__no_transport_is_invalid(void **state)
{
    (void)state;
    init();
    rig.node.transport = NULL;
    assert_int_equal(rig.driver.identify(&rig.driver, &rig.node), SK_ERR_INVALID);
    assert_int_equal(blk_rig_probe(&rig), SK_ERR_INVALID);
    assert_int_equal(rig.env.lines[SK_LOG_ERROR], 2);
    assert_false(sk_device_node_is_bound(&rig.node));
    assert_false(sk_io_buffer_is_busy(&rig.buffer));
    blk_rig_deinit(&rig);
}

static void test_virtio_blk_driver__other_device_is_unsupported(void **state)
{
    (void)state;
    init();
    transport.transport.device_type = 1;
    assert_int_equal(rig.driver.identify(&rig.driver, &rig.node), SK_ERR_UNSUPPORTED);
    assert_int_equal(blk_rig_probe(&rig), SK_ERR_UNSUPPORTED);
    transport.transport.device_type = 0;
    assert_int_equal(rig.driver.identify(&rig.driver, &rig.node), SK_ERR_NOT_FOUND);
    assert_int_equal(blk_rig_probe(&rig), SK_ERR_NOT_FOUND);
    rig.node.identity.device = 1;
    assert_false(sk_driver_matches(&rig.driver, &rig.node));
    blk_rig_deinit(&rig);
}

/* A transport that loses its device at the Nth call. */
static struct sk_virtio_transport_ops losing_ops;
static unsigned calls_left;

static enum sk_status losing_get_status(struct sk_virtio_transport *head, uint32_t *out_status)
{
    if (calls_left == 0) {
        return SK_ERR_BROKEN;
    }
    calls_left--;
    return transport.transport.ops->get_status(head, out_status);
}

static void test_virtio_blk_driver__transport_lost_in_probe_is_broken(void **state)
{
    static struct sk_virtio_mmio losing;

    (void)state;
    for (unsigned n = 0; n < 3; n++) {
        init();
        losing = transport;
        losing_ops = *transport.transport.ops;
        losing_ops.get_status = losing_get_status;
        losing.transport.ops = &losing_ops;
        rig.node.transport = &losing.transport;
        calls_left = n;
        /* Nobody saw the device stop, so its memory stays taken. */
        assert_int_equal(blk_rig_probe(&rig), SK_ERR_IN_DOUBT);
        assert_true(sk_io_buffer_is_busy(&rig.buffer));
        blk_rig_abandon(&rig);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_virtio_blk_driver__open_transport_gives_a_disk),
        cmocka_unit_test(test_virtio_blk_driver__no_registers_needs_less_memory_than_mmio),
        cmocka_unit_test(test_virtio_blk_driver__no_transport_is_invalid),
        cmocka_unit_test(test_virtio_blk_driver__other_device_is_unsupported),
        cmocka_unit_test(test_virtio_blk_driver__transport_lost_in_probe_is_broken),
    };

    return cmocka_run_group_tests_name("virtio_blk_open", tests, NULL, NULL);
}
