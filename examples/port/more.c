/* SPDX-License-Identifier: MIT */
/* The later steps of PORTING.md: everything that the smallest port leaves out. */
#include "more.h"

#include "more_kernel.h"
#include "port.h"

/* [interrupts] */
static struct line {
    void (*handler)(void *argument);
    void *argument;
} lines[KERNEL_LINES];

static enum sk_status attach_interrupt(void *context, const struct sk_interrupt *interrupt,
                                       void (*handler)(void *argument), void *argument)
{
    uint32_t line = interrupt->cells[0]; /* a PLIC's one cell; a GIC has type, number and flags */

    (void)context;
    if (interrupt->cell_count != 1 || line >= KERNEL_LINES) {
        return SK_ERR_UNSUPPORTED;
    }
    if (lines[line].handler != NULL) {
        return SK_ERR_BUSY;
    }
    lines[line] = (struct line){ handler, argument };
    kernel_enable_line(line);
    return SK_OK;
}

static void detach_interrupt(void *context, const struct sk_interrupt *interrupt)
{
    (void)context;
    kernel_disable_line(interrupt->cells[0]); /* the handler neither runs nor will run again */
    lines[interrupt->cells[0]] = (struct line){ NULL, NULL };
}

void port_interrupt(uint32_t line)
{
    if (line < KERNEL_LINES && lines[line].handler != NULL) {
        lines[line].handler(lines[line].argument);
    }
}
/* [end] */

/* [wait] */
static void wait(void *context, const sk_atomic_u32 *word, uint32_t seen, uint64_t until_ns)
{
    uint64_t ns_per_tick = UINT64_C(1000000000) / KERNEL_TICKS_PER_SECOND;

    (void)context;
    if (word == NULL) {
        return; /* a short pause between two looks at a register: none is allowed too */
    }
    kernel_mask_interrupts();
    if (*word == seen) { /* no change can slip in between this look and the sleep */
        kernel_sleep_until(until_ns / ns_per_tick);
    }
    kernel_unmask_interrupts();
}
/* [end] */

/* [caches] */
static void cache_clean(void *context, const void *cpu, size_t bytes)
{
    (void)context;
    kernel_cache_clean(cpu, bytes);
}

static void cache_invalidate(void *context, const void *cpu, size_t bytes)
{
    (void)context;
    kernel_cache_invalidate(cpu, bytes);
}

enum sk_status port_domain_not_coherent(const struct sk_platform *platform,
                                        struct sk_dma_arena *arena, struct sk_dma_domain *domain)
{
    static const struct sk_dma_window everything = SK_DMA_WINDOW_IDENTITY;
    struct sk_dma_domain_config config = { .platform = platform,
                                           .arena = arena,
                                           .windows = &everything,
                                           .window_count = 1,
                                           .coherent = false };

    return sk_dma_domain_init(domain, &config);
}
/* [end] */

/* [iommu] */
static enum sk_status iommu_map(void *context, sk_paddr paddr, uint64_t bytes,
                                enum sk_dma_direction direction, sk_daddr *out_daddr)
{
    (void)context;
    return kernel_iommu_map(paddr.raw, bytes, direction != SK_DMA_TO_DEVICE, &out_daddr->raw)
               ? SK_OK
               : SK_ERR_NO_MEMORY;
}

static enum sk_status iommu_unmap(void *context, sk_daddr daddr, uint64_t bytes)
{
    (void)context;
    return kernel_iommu_unmap(daddr.raw, bytes) ? SK_OK : SK_ERR_NOT_FOUND;
}

const struct sk_dma_iommu port_iommu = { .map = iommu_map, .unmap = iommu_unmap };

enum sk_status port_domain_with_iommu(const struct sk_platform *platform,
                                      struct sk_dma_arena *arena, struct sk_dma_domain *domain)
{
    struct sk_dma_domain_config config = { .platform = platform,
                                           .arena = arena,
                                           .iommu = &port_iommu,
                                           .coherent = true };

    return sk_dma_domain_init(domain, &config);
}
/* [end] */

/* [bounce] */
enum sk_status port_domain_with_bounce(const struct sk_platform *platform,
                                       struct sk_dma_arena *arena, struct sk_dma_domain *domain)
{
    static const struct sk_dma_window low = { .bytes = UINT64_C(1) << 32 };
    struct sk_dma_domain_config config = { .platform = platform,
                                           .arena = arena,
                                           .windows = &low,
                                           .window_count = 1,
                                           .coherent = true };

    return sk_dma_domain_init(domain, &config);
}
/* [end] */

/* [hooks] */
void port_add_hooks(struct sk_platform *platform)
{
    platform->attach_interrupt = attach_interrupt;
    platform->detach_interrupt = detach_interrupt;
    platform->wait = wait;
    platform->cache_clean = cache_clean;
    platform->cache_invalidate = cache_invalidate;
    platform->cache_line_bytes = 64;
}
/* [end] */

/* [manager] */
struct sk_device_manager port_devices;

enum sk_status port_find_disks(const struct sk_platform *platform, const void *tree,
                               size_t tree_bytes, struct sk_dma_arena *arena)
{
    static _Alignas(64) uint8_t bookkeeping[64 * 1024];
    static struct sk_platform_bus_domain domains[4];
    struct sk_device_manager_config devices = { .platform = platform,
                                                .memory = bookkeeping,
                                                .memory_bytes = sizeof(bookkeeping),
                                                .private_arena = arena };
    struct sk_fdt fdt;
    struct sk_platform_bus_config bus = { .fdt = &fdt,
                                          .manager = &port_devices,
                                          .platform = platform,
                                          .arena = arena,
                                          .domains = domains,
                                          .domain_capacity = 4,
                                          .coherent_by_default = true };
    enum sk_status status = sk_fdt_open(tree, tree_bytes, &fdt);

    if (status == SK_OK) {
        status = sk_device_manager_init(&port_devices, &devices);
    }
    if (status == SK_OK) {
        status = sk_device_manager_add_driver(&port_devices, &sk_virtio_blk_mmio_driver);
    }
    if (status == SK_OK) {
        status = sk_platform_bus_add_nodes(&bus, NULL);
    }
    if (status == SK_OK) {
        status = sk_device_manager_probe_all(&port_devices, NULL);
    }
    return status; /* now: sk_device_manager_find_class(&port_devices, SK_DEVICE_CLASS_BLOCK, NULL) */
}
/* [end] */
