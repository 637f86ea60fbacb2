/* SPDX-License-Identifier: MIT */
#include <skio/platform_bus.h>

#include "arch/arch.h"
#include "console.h"
#include "devices.h"
#include "drivers/drivers.h"
#include "harts.h"
#include "memory.h"
#include "platform.h"
#include "settings.h"

#define MANAGER_BYTES (256u << 10)
#define DOMAINS       8u
#define NS_PER_MS     UINT64_C(1000000)

struct sk_device_manager devices;

static struct sk_platform_bus_domain domains[DOMAINS];
static struct plic_options plic_options;
static struct sk_driver plic;
static struct sk_driver disk;

size_t devices_count(void)
{
    return devices.node_count;
}

size_t devices_bound(void)
{
    size_t bound = 0;

    for (struct sk_device_node *node = sk_device_manager_first(&devices); node != NULL;
         node = node->next) {
        bound += node->state == SK_DEVICE_STATE_BOUND;
    }
    return bound;
}

struct sk_block_device *devices_disk(void)
{
    struct sk_device_node *node =
        sk_device_manager_find_class(&devices, SK_DEVICE_CLASS_BLOCK, NULL);

    return node == NULL ? NULL : node->interface;
}

const struct sk_device_node *devices_failed_disk(void)
{
    for (struct sk_device_node *node = sk_device_manager_first(&devices); node != NULL;
         node = node->next) {
        if (node->state == SK_DEVICE_STATE_FAILED && node->driver == &disk) {
            return node;
        }
    }
    return NULL;
}

static enum sk_status add_drivers(void)
{
    enum sk_status status;

    plic = plic_driver;
    plic.options = &plic_options;
    disk = sk_virtio_blk_mmio_driver;
    disk.options = &settings.disk;
    settings.disk.refuse_legacy = !settings.legacy;
    settings.disk.queue_count = settings.queues != 0 ? settings.queues : harts_found();
    settings.disk.timeout_ns = settings.timeout_ms * NS_PER_MS;
    settings.disk.recovery = settings.resubmit ? SK_VIRTIO_BLK_RECOVERY_RESUBMIT
                                               : SK_VIRTIO_BLK_RECOVERY_FAIL;
    status = sk_device_manager_add_driver(&devices, &plic);
    if (status == SK_OK) {
        status = sk_device_manager_add_driver(&devices, &ns16550a_driver);
    }
    if (status == SK_OK) {
        status = sk_device_manager_add_driver(&devices, &disk);
    }
    return status;
}

/* Without a controller everything is polled. */
static void probe_plic(const struct sk_fdt *fdt, uint64_t hart)
{
    struct sk_fdt_node node = { 0 };
    struct sk_device_node *found;
    enum sk_status status =
        arch_interrupt_parent(fdt, hart, &plic_options.cpu_phandle, &plic_options.cpu_line);

    for (found = sk_device_manager_first(&devices); found != NULL; found = found->next) {
        if (sk_driver_matches(&plic, found)) {
            break;
        }
    }
    if (status == SK_OK) {
        status =
            found == NULL ? SK_ERR_NOT_FOUND : sk_fdt_find_compatible(fdt, "riscv,plic0", &node);
    }
    if (status == SK_OK) {
        status = sk_fdt_u32(fdt, &node, "phandle", 0, &plic_options.phandle);
    }
    if (status == SK_OK) {
        status = sk_device_manager_probe(&devices, found);
    }
    if (status != SK_OK) {
        sk_log_print(&console_log, SK_LOG_WARNING,
                     "no interrupt controller (%s): devices are polled", sk_status_name(status));
        settings.interrupts = false;
    }
}

static void attach_console(const struct sk_fdt *fdt)
{
    struct sk_device_node *node;
    struct sk_device_node *chosen = NULL;
    struct sk_fdt_node tree_node;
    struct sk_device_range range = { { 0 }, 0 };
    enum sk_status status = sk_fdt_stdout(fdt, &tree_node);

    if (status == SK_OK) {
        status = sk_fdt_range(fdt, &tree_node, 0, &range);
    }
    for (node = sk_device_manager_find_class(&devices, SK_DEVICE_CLASS_CONSOLE, NULL); node != NULL;
         node = sk_device_manager_find_class(&devices, SK_DEVICE_CLASS_CONSOLE, node)) {
        if (chosen == NULL || (status == SK_OK && sk_device_node_address(node) == range.base.raw)) {
            chosen = node;
        }
    }
    if (chosen != NULL) {
        console_attach(chosen->interface);
    }
}

static enum sk_status add_nodes(const struct sk_fdt *fdt)
{
    struct sk_platform_bus_config bus = {
        .fdt = fdt,
        .manager = &devices,
        .platform = &platform,
        .arena = &memory_arena,
        .domains = domains,
        .domain_capacity = DOMAINS,
        .coherent_by_default = true,
    };

    return sk_platform_bus_add_nodes(&bus, NULL);
}

/* Comes from a poll or a wait of hart 0. */
static void tell_change(struct sk_block_device *device, uint32_t changes, void *context)
{
    struct sk_block_info info;

    (void)context;
    sk_block_get_info(device, &info);
    if ((changes & SK_BLOCK_CHANGED_CAPACITY) != 0) {
        sk_log_print(&console_log, SK_LOG_WARNING, "%s: has %llu sectors now", device->name,
                     (unsigned long long)info.capacity_sectors);
    }
    if ((changes & SK_BLOCK_CHANGED_CACHE) != 0) {
        sk_log_print(&console_log, SK_LOG_WARNING, "%s: is %s now", device->name,
                     info.cache == SK_BLOCK_CACHE_WRITE_BACK ? "write-back" : "write-through");
    }
    if ((changes & SK_BLOCK_CHANGED_LIMITS) != 0) {
        sk_log_print(&console_log, SK_LOG_WARNING, "%s: has other limits now", device->name);
    }
}

/* Lets the queues of all disks time requests, and the disks tell what changes. */
static void watch_disks(void)
{
    struct sk_device_node *node = NULL;
    struct sk_block_queue *queue;

    while ((node = sk_device_manager_find_class(&devices, SK_DEVICE_CLASS_BLOCK, node)) != NULL) {
        sk_block_watch(node->interface, tell_change, NULL);
        for (uint32_t i = 0; (queue = sk_block_get_queue(node->interface, i)) != NULL; i++) {
            enum sk_status status = sk_block_set_latency(queue, settings.latency_every);

            (void)status; /* settings.c took powers of two only */
        }
    }
}

enum sk_status devices_init(const struct sk_fdt *fdt, uint64_t hart)
{
    struct sk_device_manager_config config = {
        .platform = &platform,
        .memory = aligned_alloc(ARCH_PAGE_BYTES, MANAGER_BYTES),
        .memory_bytes = MANAGER_BYTES,
        .private_arena = &memory_arena,
    };
    enum sk_status status;

    if (config.memory == NULL) {
        return SK_ERR_NO_MEMORY;
    }
    status = sk_device_manager_init(&devices, &config);
    if (status == SK_OK) {
        status = add_nodes(fdt);
    }
    if (status == SK_OK) {
        status = add_drivers();
    }
    if (status != SK_OK) {
        return status;
    }
    if (settings.interrupts) {
        probe_plic(fdt, hart);
    }
    if (!settings.interrupts) {
        platform.attach_interrupt = NULL;
        platform.detach_interrupt = NULL;
    }
    arch_interrupts_start();
    status = sk_device_manager_probe_all(&devices, NULL);
    attach_console(fdt);
    watch_disks();
    return status;
}

static bool was_written(struct sk_block_device *device)
{
    struct sk_block_statistics statistics;
    struct sk_block_queue *queue;
    bool written = false;

    for (uint32_t i = 0; (queue = sk_block_get_queue(device, i)) != NULL; i++) {
        sk_block_get_statistics(queue, &statistics);
        written |= statistics.bytes_written != 0 || statistics.bytes_cleared != 0;
    }
    return written;
}

static bool stop_disk(struct sk_device_node *node)
{
    struct sk_block_device *device = node->interface;
    enum sk_status flushed = SK_OK;
    enum sk_status removed;

    if (was_written(device)) {
        flushed = sk_block_flush(sk_block_get_queue(device, 0), 0);
    }
    if (flushed != SK_OK) {
        console_print("%s: what was written may be lost: %s\n", node->name,
                      sk_status_text(flushed));
    }
    removed = sk_device_manager_remove(&devices, node);
    if (removed != SK_OK) {
        sk_log_print(&console_log, SK_LOG_WARNING, "%s: not stopped: %s", node->name,
                     sk_status_text(removed));
    }
    return flushed == SK_OK;
}

bool devices_stop(void)
{
    bool good = true;

    for (struct sk_device_node *node = sk_device_manager_first(&devices); node != NULL;
         node = node->next) {
        if (node->state == SK_DEVICE_STATE_BOUND && node->device_class == SK_DEVICE_CLASS_BLOCK) {
            good &= stop_disk(node);
        }
    }
    return good;
}
