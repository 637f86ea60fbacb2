/* SPDX-License-Identifier: MIT */
#include "../arch.h"
#include "riscv.h"

#define SBI_LEGACY_PUT      1
#define SBI_LEGACY_GET      2
#define SBI_LEGACY_SHUTDOWN 8
#define SBI_TIME            0x54494d45
#define SBI_RESET           0x53525354

/* QEMU's `virt` machine leaves with the upper half of what is written here. */
#define QEMU_VIRT_FINISHER UINT64_C(0x100000)
#define FINISHER_FAIL      0x3333u

static int64_t call(uint64_t extension, uint64_t function, uint64_t first, uint64_t second)
{
    register uint64_t a0 __asm__("a0") = first;
    register uint64_t a1 __asm__("a1") = second;
    register uint64_t a6 __asm__("a6") = function;
    register uint64_t a7 __asm__("a7") = extension;

    __asm__ volatile("ecall" : "+r"(a0), "+r"(a1) : "r"(a6), "r"(a7) : "memory");
    return (int64_t)a0;
}

void sbi_set_timer(uint64_t ticks)
{
    (void)call(SBI_TIME, 0, ticks, 0);
}

void arch_early_put(char character)
{
    (void)call(SBI_LEGACY_PUT, 0, (uint8_t)character, 0);
}

int arch_early_get(void)
{
    return (int)call(SBI_LEGACY_GET, 0, 0, 0);
}

void arch_power_off(bool failed)
{
    (void)call(SBI_RESET, 0, 0, failed);
    (void)call(SBI_LEGACY_SHUTDOWN, 0, 0, 0);
    for (;;) {
        arch_sleep();
    }
}

void arch_power_off_blind(unsigned status)
{
    if (status != 0 && arch_pages_peek(QEMU_VIRT_FINISHER, sizeof(uint32_t)) == SK_OK) {
        *(volatile uint32_t *)arch_direct(QEMU_VIRT_FINISHER) = status << 16 | FINISHER_FAIL;
    }
    arch_power_off(status != 0);
}
