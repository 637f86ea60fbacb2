/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include <skio/driver.h>

static const struct sk_device_match matches[] = {
    { .bus = SK_DEVICE_BUS_PLATFORM, .compatible = "toy,one" },
    { .bus = SK_DEVICE_BUS_PCI, .vendor = 0x1af4, .device = 0x1042 },
    { .bus = SK_DEVICE_BUS_PLATFORM, .compatible = "toy,two" },
};
static const struct sk_driver driver = { .name = "toy", .matches = matches, .match_count = 3 };

static struct sk_device_node platform_node(const char *compatible)
{
    return (struct sk_device_node){ .name = "node",
                                    .identity = { .bus = SK_DEVICE_BUS_PLATFORM,
                                                  .compatible = compatible,
                                                  .compatible_bytes = strlen(compatible) + 1 } };
}

static void test_driver_matches__any_entry_fits(void **state)
{
    struct sk_device_node one = platform_node("toy,one");
    struct sk_device_node two = platform_node("toy,two");
    struct sk_device_node other = platform_node("toy,three");

    (void)state;
    assert_true(sk_driver_matches(&driver, &one));
    assert_true(sk_driver_matches(&driver, &two));
    assert_false(sk_driver_matches(&driver, &other));
}

static void test_driver_matches__pci_needs_both_numbers(void **state)
{
    struct sk_device_node node = { .name = "node",
                                   .identity = { .bus = SK_DEVICE_BUS_PCI, .vendor = 0x1af4,
                                                 .device = 0x1042 } };

    (void)state;
    assert_true(sk_driver_matches(&driver, &node));
    node.identity.device = 0x1041;
    assert_false(sk_driver_matches(&driver, &node));
    node.identity.device = 0x1042;
    node.identity.vendor = 0x1af5;
    assert_false(sk_driver_matches(&driver, &node));
}

static void test_driver_matches__virtio_needs_the_device_type(void **state)
{
    const struct sk_device_match block = { .bus = SK_DEVICE_BUS_VIRTIO, .device = 2 };
    const struct sk_driver disks = { .name = "x", .matches = &block, .match_count = 1 };
    struct sk_device_node node = { .name = "node",
                                   .identity = { .bus = SK_DEVICE_BUS_VIRTIO, .vendor = 0x1af4,
                                                 .device = 2 } };

    (void)state;
    assert_true(sk_driver_matches(&disks, &node));
    node.identity.device = 1;
    assert_false(sk_driver_matches(&disks, &node));
    node.identity.device = 2;
    node.identity.bus = SK_DEVICE_BUS_PCI;
    assert_false(sk_driver_matches(&disks, &node));
}

static void test_driver_matches__another_bus_never_fits(void **state)
{
    struct sk_device_node node = platform_node("toy,one");
    const struct sk_device_match none = { .bus = SK_DEVICE_BUS_NONE, .compatible = "toy,one" };
    const struct sk_driver homeless = { .name = "x", .matches = &none, .match_count = 1 };

    (void)state;
    node.identity.bus = SK_DEVICE_BUS_PCI;
    assert_false(sk_driver_matches(&driver, &node));
    node.identity.bus = SK_DEVICE_BUS_NONE;
    assert_false(sk_driver_matches(&driver, &node));
    assert_false(sk_driver_matches(&homeless, &node));
}

static void test_driver_matches__missing_parts_match_nothing(void **state)
{
    struct sk_device_node node = platform_node("toy,one");
    const struct sk_device_match empty = { .bus = SK_DEVICE_BUS_PLATFORM };
    const struct sk_driver tableless = { .name = "x", .match_count = 1 };
    const struct sk_driver nameless = { .name = "x", .matches = &empty, .match_count = 1 };

    (void)state;
    assert_false(sk_driver_matches(NULL, &node));
    assert_false(sk_driver_matches(&driver, NULL));
    assert_false(sk_driver_matches(&tableless, &node));
    assert_false(sk_driver_matches(&nameless, &node));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_driver_matches__any_entry_fits),
        cmocka_unit_test(test_driver_matches__pci_needs_both_numbers),
        cmocka_unit_test(test_driver_matches__virtio_needs_the_device_type),
        cmocka_unit_test(test_driver_matches__another_bus_never_fits),
        cmocka_unit_test(test_driver_matches__missing_parts_match_nothing),
    };

    return cmocka_run_group_tests_name("driver", tests, NULL, NULL);
}
