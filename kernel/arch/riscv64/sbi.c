/* SPDX-License-Identifier: MIT */
#include "../arch.h"
#include "riscv.h"

#define SBI_LEGACY_PUT      1
#define SBI_LEGACY_GET      2
#define SBI_LEGACY_SHUTDOWN 8
#define SBI_TIME            0x54494d45
#define SBI_RESET           0x53525354
#define SBI_HART            0x48534d
#define SBI_IPI             0x735049
#define SBI_FENCE           0x52464e43

#define HART_START    0
#define HART_STOP     1
#define FENCE_VIRTUAL 1

/* QEMU's `virt` machine leaves with the upper half of what is written here. */
#define QEMU_VIRT_FINISHER UINT64_C(0x100000)
#define FINISHER_FAIL      0x3333u

static int64_t call4(uint64_t extension, uint64_t function, const uint64_t arguments[4])
{
    register uint64_t a0 __asm__("a0") = arguments[0];
    register uint64_t a1 __asm__("a1") = arguments[1];
    register uint64_t a2 __asm__("a2") = arguments[2];
    register uint64_t a3 __asm__("a3") = arguments[3];
    register uint64_t a6 __asm__("a6") = function;
    register uint64_t a7 __asm__("a7") = extension;

    __asm__ volatile("ecall" : "+r"(a0), "+r"(a1) : "r"(a2), "r"(a3), "r"(a6), "r"(a7)
                     : "memory");
    return (int64_t)a0;
}

static int64_t call(uint64_t extension, uint64_t function, uint64_t first, uint64_t second)
{
    return call4(extension, function, (const uint64_t[4]){ first, second });
}

void sbi_set_timer(uint64_t ticks)
{
    (void)call(SBI_TIME, 0, ticks, 0);
}

int64_t sbi_hart_start(uint64_t id, uint64_t paddr, uint64_t argument)
{
    return call4(SBI_HART, HART_START, (const uint64_t[4]){ id, paddr, argument });
}

void sbi_hart_stop(void)
{
    (void)call(SBI_HART, HART_STOP, 0, 0);
}

void sbi_send_ipi(uint64_t mask, uint64_t base)
{
    (void)call(SBI_IPI, 0, mask, base);
}

void sbi_flush_all(void)
{
    (void)call4(SBI_FENCE, FENCE_VIRTUAL, (const uint64_t[4]){ 0, UINT64_MAX, 0, UINT64_MAX });
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
