/* SPDX-License-Identifier: MIT */
#include "arch/arch.h"
#include "console.h"
#include "devices.h"
#include "disk.h"
#include "harts.h"
#include "main.h"
#include "memory.h"
#include "power.h"
#include "shell.h"

#define TREE_BYTES_MAX (4u << 20)
#define TREE_HEADER    8u
#define NS_PER_MS      UINT64_C(1000000)

static struct sk_fdt fdt;

/* The tree may lie anywhere and claim anything; look at its size first. */
static void open_tree(uint64_t paddr, struct sk_device_range *out_range)
{
    enum sk_status status = arch_pages_peek(paddr, TREE_HEADER);
    uint32_t bytes = status == SK_OK ? sk_fdt_claimed_bytes(arch_direct(paddr)) : 0;

    if (status == SK_OK && (bytes == 0 || bytes > TREE_BYTES_MAX)) {
        status = SK_ERR_MALFORMED;
    }
    if (status == SK_OK) {
        status = arch_pages_peek(paddr, bytes);
    }
    if (status == SK_OK) {
        status = sk_fdt_open(arch_direct(paddr), bytes, &fdt);
    }
    if (status != SK_OK) {
        power_die("the device tree at 0x%lx cannot be read: %s", paddr, sk_status_text(status));
    }
    *out_range = (struct sk_device_range){ sk_paddr_make(paddr), bytes };
}

static void start_machine(const struct sk_device_range *tree)
{
    enum sk_status status = memory_init(&fdt, tree);

    if (status != SK_OK) {
        power_die("the memory in the device tree cannot be used: %s", sk_status_text(status));
    }
    power_init(&fdt);
    status = arch_clock_init(&fdt);
    if (status != SK_OK) {
        power_die("the device tree has no usable clock frequency: %s", sk_status_text(status));
    }
}

static const char *machine_name(void)
{
    struct sk_fdt_node root;
    const char *name;

    if (sk_fdt_root(&fdt, &root) != SK_OK ||
        sk_fdt_string(&fdt, &root, "model", 0, &name) != SK_OK) {
        return "unknown machine";
    }
    return name;
}

static void print_banner(uint64_t hart)
{
    console_print("\nSimpleKernel " KERNEL_VERSION " on %s, %s, hart %lu, %lu MiB of memory\n",
                  arch_name, machine_name(), hart, (memory_total() >> 20));
}

static void print_devices(void)
{
    uint64_t ready_ns;

    console_print("%u devices in the device tree, %u with a driver\n", (unsigned)devices_count(),
                  (unsigned)devices_bound());
    if (disk_first_sector(&ready_ns)) {
        console_print("first sector after %lu ms\n", ready_ns / NS_PER_MS);
    }
}

/* After the first sector, so that it does not wait for them. */
static void start_harts(void)
{
    bool renamed = false;

    if (harts_found() == 1) {
        return;
    }
    harts_start();
    for (unsigned i = 0; i < harts_running(); i++) {
        renamed |= harts_id(i) != i;
    }
    console_print("%u of %u harts run", harts_running(), harts_found());
    for (unsigned i = 0; i < harts_running() && renamed; i++) {
        console_print("%s%lu", i == 0 ? "; the machine calls them " : " ", harts_id(i));
    }
    console_print("\n");
}

void kernel_main(uint64_t hart, uint64_t tree_paddr)
{
    struct sk_device_range tree;
    const char *line = "";
    enum sk_status status;

    open_tree(tree_paddr, &tree);
    start_machine(&tree);
    print_banner(hart);
    if (sk_fdt_bootargs(&fdt, &line) != SK_OK) {
        line = "";
    }
    shell_take_settings(line);
    harts_find(&fdt, hart);
    status = devices_init(&fdt, hart);
    if (status != SK_OK) {
        power_die("the devices in the device tree cannot be used: %s", sk_status_text(status));
    }
    print_devices();
    start_harts();
    shell_run(line);
    shell_interact();
}
