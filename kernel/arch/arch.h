/* SPDX-License-Identifier: MIT */
/*
 * What an architecture gives to the portable part of the kernel.  One folder
 * below kernel/arch implements all of it; it calls back kernel_main (main.h),
 * harts_enter and harts_stop (harts.h), interrupts_dispatch (interrupts.h), the
 * console and power_off, and nothing else.
 */
#ifndef KERNEL_ARCH_H
#define KERNEL_ARCH_H

#include <skio/address.h>
#include <skio/fdt.h>
#include <skio/status.h>

#define ARCH_PAGE_BYTES 4096u

/* For the banner: "riscv64". */
extern const char arch_name[];

/* The kernel's own memory, physical; page-aligned. */
void arch_kernel_range(struct sk_device_range *out_range);

/* Interrupts of this processor: masks them and says whether they were on. */
bool arch_interrupts_mask(void);
void arch_interrupts_restore(bool were_on);
/* Lets device and timer interrupts through, from now on. */
void arch_interrupts_start(void);
/* Sleeps until an interrupt is pending, a masked one too. */
void arch_sleep(void);
/* A moment's rest between two looks at a register, or at what another hart shall change. */
void arch_relax(void);

/*
 * The processors that run the kernel have places, 0 is the one that boots.
 * Each has stacks of its own.
 */
#define ARCH_HARTS_MAX 8u
unsigned arch_hart_place(void);
/* True if the kernel can run on the hart of this device-tree node. */
bool arch_hart_usable(const struct sk_fdt *fdt, const struct sk_fdt_node *cpu);
/*
 * Starts hart `id` at `place` > 0: it calls harts_enter there, some time.
 * SK_ERR_UNSUPPORTED, SK_ERR_NOT_FOUND, SK_ERR_BUSY (it runs), SK_ERR_IO: the firmware refused.
 */
enum sk_status arch_hart_start(unsigned place, uint64_t id);
/* Gives the hart that calls it back to the firmware. */
_Noreturn void arch_hart_leave(void);
/* Ends the sleep, now or its next one, of the harts at these places (bits). */
void arch_harts_wake(uint32_t places);
/*
 * Stops the harts at these places for good; for faults.  Returns those that did
 * not stop within 200 ms.  If another hart called it first, this one stops.
 */
uint32_t arch_harts_halt(uint32_t places);

/* Which word the device tree uses for this processor's own interrupt controller. */
enum sk_status arch_interrupt_parent(const struct sk_fdt *fdt, uint64_t hart, uint32_t *out_phandle,
                                     uint32_t *out_line);

/* The clock, and the counter of instructions; the frequency stands in the device tree.  Before
 * that it stands still. */
enum sk_status arch_clock_init(const struct sk_fdt *fdt);
uint64_t arch_now_ns(void);
/* Makes an interrupt pending at `until_ns` or before. */
void arch_timer_arm(uint64_t until_ns);

/*
 * Instructions that this hart executed, the firmware's for it included, without
 * those that the counter counts while it sleeps.  0 where nobody counts exactly.
 */
uint64_t arch_instructions(void);
bool arch_counts_instructions(void);

/* The firmware's console, for before there is a driver.  -1: no character. */
void arch_early_put(char character);
int arch_early_get(void);

/* What the CPU may do with mapped memory besides reading it. */
struct arch_range {
    uint64_t base; /* physical; page-aligned, so is the length */
    uint64_t bytes;
    bool writable;
};

/* Where the kernel sees physical memory, and back; false: not memory of the kernel's map. */
void *arch_direct(uint64_t paddr);
bool arch_physical_of(const void *cpu, uint64_t *out_paddr);
/* Highest physical address that arch_direct can show, exclusive. */
uint64_t arch_direct_limit(void);

/* Before arch_pages_init: makes memory readable through arch_direct. */
enum sk_status arch_pages_peek(uint64_t paddr, uint64_t bytes);
/*
 * The final address space: the kernel's text, rodata and data with the access
 * that each needs, guard pages left out, and `ranges`.  Nothing else stays mapped.
 */
enum sk_status arch_pages_init(const struct arch_range *ranges, size_t count);
/* Device registers in a region of their own.  SK_ERR_NO_MEMORY: it is full. */
enum sk_status arch_map_device(uint64_t paddr, uint64_t bytes, void **out_cpu);
void arch_unmap_device(void *cpu, uint64_t bytes);

/* Through the firmware; QEMU then exits with 0 whatever the reason. */
_Noreturn void arch_power_off(bool failed);
/*
 * For a kernel that knows nothing of its machine, because the device tree
 * cannot be read: leaves QEMU's usual machine with `status`, or powers off.
 */
_Noreturn void arch_power_off_blind(unsigned status);

#endif
