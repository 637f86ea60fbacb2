/* SPDX-License-Identifier: MIT */
#include <stdatomic.h>

#include "arch/arch.h"
#include "console.h"
#include "harts.h"
#include "interrupts.h"
#include "memory.h"
#include "platform.h"

static uint64_t now_ns(void *context)
{
    (void)context;
    return arch_now_ns();
}

/*
 * With interrupts masked this hart's handlers cannot change the word between
 * the look and the sleep; an interrupt that comes there stays pending and ends
 * the sleep.  It is taken when the mask is lifted.  If another hart changes the
 * word, either the look sees it or that hart sees us doze, and sends an interrupt.
 */
void platform_wait(void *context, const sk_atomic_u32 *word, uint32_t seen, uint64_t until_ns)
{
    bool were_on;

    (void)context;
    if (word == NULL) {
        arch_relax();
        return;
    }
    were_on = arch_interrupts_mask();
    harts_doze(word, seen);
    if (atomic_load(word) == seen && arch_now_ns() < until_ns) {
        arch_timer_arm(until_ns);
        arch_sleep();
    }
    harts_rise();
    arch_interrupts_restore(were_on);
}

static void wake(void *context, const struct sk_interrupt *interrupt, const sk_atomic_u32 *word)
{
    (void)context;
    (void)interrupt;
    (void)word; /* whoever sleeps has published it */
    harts_wake();
}

enum sk_status platform_map_mmio(void *context, sk_paddr base, uint64_t bytes,
                                 struct sk_mmio *out_mmio)
{
    void *cpu;
    enum sk_status status;

    (void)context;
    *out_mmio = (struct sk_mmio){ 0 };
    status = memory_overlaps(base.raw, bytes) ? SK_ERR_MALFORMED
                                              : arch_map_device(base.raw, bytes, &cpu);
    if (status != SK_OK) {
        sk_log_print(&console_log, SK_LOG_ERROR, "registers at 0x%lx, 0x%lx bytes: not mapped: %s",
                     base.raw, bytes,
                     memory_overlaps(base.raw, bytes) ? "that is memory" : sk_status_text(status));
        return status;
    }
    out_mmio->base = cpu;
    out_mmio->bytes = bytes;
    return SK_OK;
}

void platform_unmap_mmio(void *context, struct sk_mmio *mmio)
{
    (void)context;
    if (mmio->base != NULL) {
        arch_unmap_device((void *)(uintptr_t)mmio->base, mmio->bytes);
    }
    *mmio = (struct sk_mmio){ 0 };
}

static enum sk_status attach(void *context, const struct sk_interrupt *interrupt,
                             void (*handler)(void *argument), void *argument)
{
    (void)context;
    return interrupts_attach(interrupt, handler, argument);
}

static void detach(void *context, const struct sk_interrupt *interrupt)
{
    (void)context;
    interrupts_detach(interrupt);
}

static enum sk_status physical_of(void *context, const void *cpu, sk_paddr *out_paddr)
{
    uint64_t paddr;

    (void)context;
    if (!arch_physical_of(cpu, &paddr) || !memory_overlaps(paddr, 1)) {
        return SK_ERR_UNREACHABLE;
    }
    *out_paddr = sk_paddr_make(paddr);
    return SK_OK;
}

struct sk_platform platform = {
    .log = &console_log,
    .now_ns = now_ns,
    .wait = platform_wait,
    .wake = wake,
    .map_mmio = platform_map_mmio,
    .unmap_mmio = platform_unmap_mmio,
    .attach_interrupt = attach,
    .detach_interrupt = detach,
    .physical_of = physical_of,
    .page_bytes = ARCH_PAGE_BYTES,
};
