/* SPDX-License-Identifier: MIT */
/* The smallest port of skio: three hooks, a log, and memory.  PORTING.md explains each step. */
#include "port.h"

#include "../read_disk.h"
#include "kernel.h"

/* [log] */
static void write_line(void *context, enum sk_log_level level, const char *line)
{
    (void)context;
    kernel_print(sk_log_level_name(level));
    kernel_print(": ");
    kernel_print(line);
    kernel_print("\n");
}

static const struct sk_log port_log = { .write = write_line, .level = SK_LOG_INFO };
/* [end] */

/* [clock] */
static uint64_t now_ns(void *context)
{
    (void)context;
    return kernel_ticks() * (UINT64_C(1000000000) / KERNEL_TICKS_PER_SECOND);
}
/* [end] */

/* [registers] */
static enum sk_status map_mmio(void *context, sk_paddr base, uint64_t bytes,
                               struct sk_mmio *out_mmio)
{
    (void)context;
    if (kernel_is_ram(base.raw, bytes)) {
        return SK_ERR_RANGE; /* whoever described this device is wrong, or lies */
    }
    *out_mmio = (struct sk_mmio){ .base = kernel_map_registers(base.raw, bytes), .bytes = bytes };
    return out_mmio->base == NULL ? SK_ERR_NO_MEMORY : SK_OK;
}
/* [end] */

/* [physical] */
static enum sk_status physical_of(void *context, const void *cpu, sk_paddr *out_paddr)
{
    (void)context;
    return kernel_physical(cpu, &out_paddr->raw) ? SK_OK : SK_ERR_UNREACHABLE;
}
/* [end] */

/* [platform] */
struct sk_platform port_platform = {
    .log = &port_log,
    .now_ns = now_ns,
    .map_mmio = map_mmio,
    .physical_of = physical_of,
};
/* [end] */

/* [memory] */
static _Alignas(SK_DMA_PAGE_BYTES) uint8_t device_pages[64 * SK_DMA_PAGE_BYTES];

enum sk_status port_read_first_sector(sk_paddr registers, void *out_sector)
{
    struct sk_dma_zone zone = { .cpu = device_pages, .bytes = sizeof(device_pages) };
    struct sk_dma_window everything = SK_DMA_WINDOW_IDENTITY; /* the device sees what is there */
    enum sk_status status = physical_of(NULL, device_pages, &zone.paddr);

    if (status != SK_OK) {
        return status;
    }
    return read_first_sector(&port_platform, &zone, &everything, registers, out_sector);
}
/* [end] */
