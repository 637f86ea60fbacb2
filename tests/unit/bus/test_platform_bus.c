/* SPDX-License-Identifier: MIT */
/*
 * Nodes made from trees: from one of tests/data/fdt without arguments, else
 * from that of a real machine.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <skio/platform_bus.h>

#include "oracle/fdt_blob.h"
#include "support/environment.h"

#define SKIPPED 77
#define DOMAINS 4
#define MEMORY 65536u

static const char *machine; /* a file */

struct bench {
    struct test_environment env;
    struct sk_device_manager manager;
    struct sk_platform_bus_domain domains[DOMAINS];
    struct sk_platform_bus_config config;
    struct sk_platform_bus_summary summary;
    struct sk_fdt fdt;
    uint8_t *blob;
    void *memory;
};

static void give_manager(struct bench *bench, size_t bytes)
{
    struct sk_device_manager_config config = { .platform = &bench->env.platform,
                                               .memory = bench->memory,
                                               .memory_bytes = bytes };

    assert_int_equal(sk_device_manager_init(&bench->manager, &config), SK_OK);
}

static int set_up(void **state)
{
    struct bench *bench = calloc(1, sizeof(*bench));
    const char *path = machine != NULL ? machine : fdt_blob_named("platform");
    size_t bytes;

    assert_non_null(bench);
    test_environment_init(&bench->env, 16);
    bench->blob = fdt_blob_read(path, &bytes);
    assert_int_equal(sk_fdt_open(bench->blob, bytes, &bench->fdt), SK_OK);
    bench->memory = aligned_alloc(64, MEMORY);
    assert_non_null(bench->memory);
    give_manager(bench, MEMORY);
    memset(bench->domains, 0xa5, sizeof(bench->domains));
    bench->config = (struct sk_platform_bus_config) { .fdt = &bench->fdt,
                                                      .manager = &bench->manager,
                                                      .platform = &bench->env.platform,
                                                      .arena = &bench->env.arena,
                                                      .domains = bench->domains,
                                                      .domain_capacity = DOMAINS,
                                                      .coherent_by_default = true };
    *state = bench;
    return 0;
}

static int tear_down(void **state)
{
    struct bench *bench = *state;

    for (size_t i = 0; i < bench->summary.domains; i++) {
        assert_int_equal(sk_dma_domain_deinit(&bench->domains[i].domain), SK_OK);
    }
    test_environment_deinit(&bench->env);
    free(bench->blob);
    free(bench->memory);
    free(bench);
    return 0;
}

static void add_nodes(struct bench *bench)
{
    assert_int_equal(sk_platform_bus_add_nodes(&bench->config, &bench->summary), SK_OK);
}

static const struct sk_device_node *node_at(const struct bench *bench, uint64_t base)
{
    const struct sk_device_node *node = sk_device_manager_first(&bench->manager);

    while (node != NULL && sk_device_node_address(node) != base) {
        node = node->next;
    }
    return node;
}

static void test_platform_bus_add_nodes__good_ones_are_added_bad_ones_counted(void **state)
{
    struct bench *bench = *state;
    size_t count = 0;

    add_nodes(bench);
    for (const struct sk_device_node *node = sk_device_manager_first(&bench->manager); node != NULL;
         node = node->next) {
        assert_ptr_equal(node->platform, &bench->env.platform);
        assert_int_equal(node->identity.bus, SK_DEVICE_BUS_PLATFORM);
        assert_true(node->range_count > 0);
        assert_non_null(node->domain);
        count++;
    }
    assert_int_equal(count, 6);
    assert_int_equal(bench->summary.added, 6);
    assert_int_equal(bench->summary.disabled, 1);
    /* ragged, endless, astray, blind's disk, scattered's disk */
    assert_int_equal(bench->summary.refused, 5);
    assert_int_equal(bench->env.lines[SK_LOG_WARNING], 5);
    assert_non_null(strstr(bench->env.last_line, "disk@b000"));
    assert_non_null(strstr(bench->env.last_line, "dma-ranges"));
}

static void test_platform_bus_add_nodes__a_node_has_all_the_tree_says(void **state)
{
    struct bench *bench = *state;
    const struct sk_device_node *node;

    add_nodes(bench);
    node = sk_device_manager_find(&bench->manager, "disk@2000");
    assert_non_null(node);
    assert_int_equal(node->range_count, 2);
    assert_int_equal(node->ranges[0].base.raw, 0x2000);
    assert_int_equal(node->ranges[0].bytes, 0x200);
    assert_int_equal(node->ranges[1].base.raw, 0x3000);
    assert_int_equal(node->ranges[1].bytes, 0x100);
    assert_int_equal(node->interrupt_count, 2);
    assert_int_equal(node->interrupts[0].cell_count, 1);
    assert_int_equal(node->interrupts[0].cells[0], 5);
    assert_int_equal(node->interrupts[1].cells[0], 6);
    assert_true(node->interrupts[0].controller != 0);
    assert_true(sk_device_node_is_compatible(node, "test,disk-7"));
    assert_true(sk_device_node_is_compatible(node, "test,disk"));
    assert_false(sk_device_node_is_compatible(node, "test,dis"));
    assert_false(sk_device_node_is_bound(node));
    assert_null(node->dma_buffer);
}

static void test_platform_bus_add_nodes__only_devices_with_registers_count(void **state)
{
    struct bench *bench = *state;

    add_nodes(bench);
    assert_null(sk_device_manager_find(&bench->manager, "placeless"));
    assert_null(sk_device_manager_find(&bench->manager, "nameless@5000"));
    assert_null(sk_device_manager_find(&bench->manager, "disabled@4000"));
    assert_null(sk_device_manager_find(&bench->manager, "cpu@0"));
    assert_null(sk_device_manager_find(&bench->manager, "soc"));
    assert_null(sk_device_manager_find(&bench->manager, "outside@20000"));
}

/* A range that the CPU does not reach ends the list, so that no index moves. */
static void test_platform_bus_add_nodes__ranges_keep_their_index(void **state)
{
    struct bench *bench = *state;
    const struct sk_device_node *node;

    add_nodes(bench);
    node = node_at(bench, 0x40000100);
    assert_non_null(node);
    assert_string_equal(node->name, "disk@100");
    assert_int_equal(node->range_count, 1);
    assert_int_equal(node->interrupts[0].cells[0], 9);
    node = sk_device_manager_find(&bench->manager, "many@c000");
    assert_int_equal(node->range_count, SK_PLATFORM_BUS_RANGES);
    assert_int_equal(node->ranges[7].base.raw, 0xc700);
}

static void test_platform_bus_add_nodes__interrupts_end_at_what_is_not_understood(void **state)
{
    struct bench *bench = *state;
    const struct sk_device_node *node;

    add_nodes(bench);
    node = sk_device_manager_find(&bench->manager, "wide@9000");
    assert_non_null(node);
    assert_int_equal(node->interrupt_count, 1);
    assert_int_equal(node->interrupts[0].cells[0], 1);
}

/* Where a device of this domain sees a buffer that was made for it. */
static uint64_t device_address_in(struct sk_dma_domain *domain)
{
    struct sk_io_buffer buffer = SK_IO_BUFFER_EMPTY;
    sk_daddr address = { 0 };

    assert_int_equal(sk_io_buffer_create(&buffer, domain, 4096, 4096), SK_OK);
    assert_int_equal(sk_io_buffer_address(&buffer, &address), SK_OK);
    assert_int_equal(sk_io_buffer_destroy(&buffer), SK_OK);
    return address.raw;
}

static void test_platform_bus_add_nodes__one_domain_for_each_reach(void **state)
{
    struct bench *bench = *state;
    const struct sk_device_node *plain;
    const struct sk_device_node *shifted;
    const struct sk_device_node *apart;

    bench->config.coherent_by_default = false;
    add_nodes(bench);
    plain = sk_device_manager_find(&bench->manager, "disk@2000");
    shifted = node_at(bench, 0x40000100);
    apart = node_at(bench, 0x40000200);
    assert_int_equal(bench->summary.domains, 4);
    assert_true(plain->domain->coherent);
    assert_false(sk_device_manager_find(&bench->manager, "many@c000")->domain->coherent);
    assert_ptr_equal(sk_device_manager_find(&bench->manager, "many@c000")->domain,
                     sk_device_manager_find(&bench->manager, "wide@9000")->domain);
    assert_true(shifted->domain->coherent);
    assert_false(apart->domain->coherent);
    assert_true(plain->domain != shifted->domain && shifted->domain != apart->domain);

    assert_true(device_address_in(shifted->domain) < 0x40000000);
    assert_true(device_address_in(plain->domain) >= TEST_PADDR);
}

static void test_platform_bus_add_nodes__equal_reach_shares_a_domain(void **state)
{
    struct bench *bench = *state;

    add_nodes(bench); /* coherent by default: the root's devices are all alike */
    assert_int_equal(bench->summary.domains, 3);
    assert_ptr_equal(sk_device_manager_find(&bench->manager, "disk@2000")->domain,
                     sk_device_manager_find(&bench->manager, "many@c000")->domain);
}

static void test_platform_bus_add_nodes__full_domain_array_is_no_memory(void **state)
{
    struct bench *bench = *state;

    bench->config.domain_capacity = 1;
    assert_int_equal(sk_platform_bus_add_nodes(&bench->config, &bench->summary), SK_ERR_NO_MEMORY);
    assert_int_equal(bench->summary.domains, 1);
    assert_int_equal(bench->summary.added, 3); /* those before the second domain */
    assert_non_null(strstr(bench->env.last_line, "disk@100"));
    assert_non_null(sk_device_manager_find(&bench->manager, "disk@2000"));
}

/* Whatever memory there is: what was added stays whole, and nothing is written beyond. */
static void test_platform_bus_add_nodes__full_manager_keeps_what_was_added(void **state)
{
    struct bench *bench = *state;
    size_t most = 0;

    for (size_t bytes = 64; bytes < 8192; bytes += 64) {
        struct sk_platform_bus_summary summary;
        enum sk_status status;
        size_t count = 0;

        memset(bench->memory, 0x77, MEMORY);
        give_manager(bench, bytes);
        status = sk_platform_bus_add_nodes(&bench->config, &summary);
        for (const struct sk_device_node *node = sk_device_manager_first(&bench->manager);
             node != NULL; node = node->next) {
            assert_int_equal(node->identity.bus, SK_DEVICE_BUS_PLATFORM);
            count++;
        }
        assert_int_equal(count, summary.added);
        assert_int_equal(status, count == 6 ? SK_OK : SK_ERR_NO_MEMORY);
        assert_true(count >= most);
        most = count;
        for (size_t i = bytes; i < MEMORY; i++) {
            assert_int_equal(((uint8_t *)bench->memory)[i], 0x77);
        }
    }
    assert_int_equal(most, 6);
}

static void test_platform_bus_add_nodes__missing_parts_are_refused(void **state)
{
    struct bench *bench = *state;
    const struct sk_platform_bus_config whole = bench->config;
    struct sk_platform_bus_config *config = &bench->config;
    struct sk_fdt closed = { 0 };

    assert_int_equal(sk_platform_bus_add_nodes(NULL, NULL), SK_ERR_INVALID);
    for (int part = 0; part < 7; part++) {
        *config = whole;
        config->fdt = part == 0 ? NULL : part == 6 ? &closed : config->fdt;
        config->manager = part == 1 ? NULL : config->manager;
        config->platform = part == 2 ? NULL : config->platform;
        config->arena = part == 3 ? NULL : config->arena;
        config->domains = part == 4 ? NULL : config->domains;
        config->domain_capacity = part == 5 ? 0 : config->domain_capacity;
        assert_int_equal(sk_platform_bus_add_nodes(config, NULL), SK_ERR_INVALID);
    }
    assert_null(sk_device_manager_first(&bench->manager));
    *config = whole;
    assert_int_equal(sk_platform_bus_add_nodes(config, NULL), SK_OK);
    assert_non_null(sk_device_manager_first(&bench->manager));
}

/* The slots for virtio devices, as QEMU's source lays them out. */
static void check_slots(const struct bench *bench, size_t slots, uint64_t base, uint64_t stride,
                        uint64_t bytes)
{
    size_t count = 0;

    for (const struct sk_device_node *node = sk_device_manager_first(&bench->manager); node != NULL;
         node = node->next) {
        count += sk_device_node_is_compatible(node, "virtio,mmio");
    }
    assert_int_equal(count, slots);
    for (size_t i = 0; i < slots; i++) {
        const struct sk_device_node *node = node_at(bench, base + i * stride);

        assert_non_null(node);
        assert_true(sk_device_node_is_compatible(node, "virtio,mmio"));
        assert_int_equal(node->range_count, 1);
        assert_int_equal(node->ranges[0].bytes, bytes);
        assert_int_equal(node->interrupt_count, 1);
        assert_true(node->domain->coherent);
        assert_int_equal(node->domain->window_count, 1);
        assert_int_equal(node->domain->windows[0].daddr.raw, 0);
        assert_int_equal(node->domain->windows[0].paddr.raw, 0);
    }
}

static void test_platform_bus_add_nodes__riscv64_machine_has_8_slots(void **state)
{
    struct bench *bench = *state;
    struct sk_fdt_node plic = { 0 };
    uint32_t phandle = 0;

    add_nodes(bench);
    assert_int_equal(bench->summary.refused, 0);
    assert_int_equal(bench->summary.domains, 1);
    check_slots(bench, 8, 0x10001000, 0x1000, 0x1000);
    assert_int_equal(sk_fdt_find_compatible(&bench->fdt, "riscv,plic0", &plic), SK_OK);
    assert_int_equal(sk_fdt_u32(&bench->fdt, &plic, "phandle", 0, &phandle), SK_OK);
    for (uint32_t i = 0; i < 8; i++) {
        const struct sk_device_node *node = node_at(bench, 0x10001000 + i * 0x1000);

        assert_int_equal(node->interrupts[0].controller, phandle);
        assert_int_equal(node->interrupts[0].cell_count, 1);
        assert_int_equal(node->interrupts[0].cells[0], 1 + i);
    }
    assert_non_null(node_at(bench, 0x10000000)); /* the serial port */
    assert_non_null(node_at(bench, 0x0c000000)); /* the interrupt controller */
}

static void test_platform_bus_add_nodes__arm_machine_has_32_slots(void **state)
{
    struct bench *bench = *state;

    bench->config.coherent_by_default = false;
    add_nodes(bench);
    assert_int_equal(bench->summary.refused, 0);
    check_slots(bench, 32, 0x0a000000, 0x200, 0x200);
    for (uint32_t i = 0; i < 32; i++) {
        const struct sk_device_node *node = node_at(bench, 0x0a000000 + i * 0x200);

        assert_int_equal(node->interrupts[0].cell_count, 3);
        assert_int_equal(node->interrupts[0].cells[0], 0); /* shared, */
        assert_int_equal(node->interrupts[0].cells[1], 16 + i);
        assert_int_equal(node->interrupts[0].cells[2], 1); /* rising edge */
    }
}

#define TEST(name)                                                                                 \
    cmocka_unit_test_setup_teardown(test_platform_bus_add_nodes__##name, set_up, tear_down)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(good_ones_are_added_bad_ones_counted),
        TEST(a_node_has_all_the_tree_says),
        TEST(only_devices_with_registers_count),
        TEST(ranges_keep_their_index),
        TEST(interrupts_end_at_what_is_not_understood),
        TEST(one_domain_for_each_reach),
        TEST(equal_reach_shares_a_domain),
        TEST(full_domain_array_is_no_memory),
        TEST(full_manager_keeps_what_was_added),
        TEST(missing_parts_are_refused),
    };
    const struct CMUnitTest riscv64[] = { TEST(riscv64_machine_has_8_slots) };
    const struct CMUnitTest arm[] = { TEST(arm_machine_has_32_slots) };

    if (argc > 1) {
        machine = argv[1];
        return strstr(machine, "riscv64") != NULL
                   ? cmocka_run_group_tests_name("platform_bus_riscv64", riscv64, NULL, NULL)
                   : cmocka_run_group_tests_name("platform_bus_arm", arm, NULL, NULL);
    }
    if (fdt_blob_trees[0] == NULL) {
        (void)puts("skipped: needs dtc");
        return SKIPPED;
    }
    return cmocka_run_group_tests_name("platform_bus", tests, NULL, NULL);
}
