/* SPDX-License-Identifier: MIT */
#include "../../console.h"
#include "../../interrupts.h"
#include "../../power.h"
#include "../arch.h"
#include "riscv.h"

#define FRAMES_MAX 16

static const char *const causes[] = {
    "instruction address misaligned", "instruction access fault", "illegal instruction",
    "breakpoint", "load address misaligned", "load access fault", "store address misaligned",
    "store access fault", "environment call from U-mode", "environment call from S-mode",
    "reserved", "reserved", "instruction page fault", "load page fault", "reserved",
    "store page fault",
};

static const char *const registers[] = {
    "ra", "sp", "gp", "tp", "t0", "t1", "t2", "s0", "s1", "a0", "a1",
    "a2", "a3", "a4", "a5", "a6", "a7", "s2", "s3", "s4", "s5", "s6",
    "s7", "s8", "s9", "s10", "s11", "t3", "t4", "t5", "t6",
};

static const char *cause_name(uint64_t cause)
{
    return cause < sizeof(causes) / sizeof(causes[0]) ? causes[cause] : "unknown";
}

static bool on_stack(uint64_t address)
{
    return address % 8 == 0 && address >= (uintptr_t)arch_stack_bottom + 16 &&
           address <= (uintptr_t)arch_stack_top;
}

/* With frame pointers, the caller's frame and the return address lie below s0. */
static void print_backtrace(const struct trap_frame *frame)
{
    uint64_t fp = frame->x[7];

    console_print("backtrace 0x%016llx", (unsigned long long)frame->pc);
    for (int i = 0; i < FRAMES_MAX && on_stack(fp); i++) {
        const uint64_t *saved = (const uint64_t *)(uintptr_t)(fp - 16);

        console_print("%s0x%016llx", i % 4 == 3 ? "\n          " : " ", (unsigned long long)saved[1]);
        if (saved[0] <= fp) {
            break;
        }
        fp = saved[0];
    }
    console_print("\n");
}

static void print_frame(const struct trap_frame *frame)
{
    bool guard = frame->value >= (uintptr_t)arch_guard_low &&
                 frame->value < (uintptr_t)arch_stack_bottom;

    console_print("\nfault: %s (scause %llu)%s\n", cause_name(frame->cause),
                  (unsigned long long)frame->cause, guard ? ", the stack is full" : "");
    console_print("sepc      0x%016llx  stval     0x%016llx  sstatus   0x%016llx\n",
                  (unsigned long long)frame->pc, (unsigned long long)frame->value,
                  (unsigned long long)frame->status);
    for (size_t i = 0; i < sizeof(registers) / sizeof(registers[0]); i++) {
        console_print("%-9s 0x%016llx%s", registers[i], (unsigned long long)frame->x[i],
                      i % 3 == 2 ? "\n" : "  ");
    }
    console_print("\n");
    print_backtrace(frame);
}

static _Noreturn void fault(const struct trap_frame *frame)
{
    static unsigned depth;

    depth++;
    if (depth > 2) {
        arch_power_off(true);
    }
    if (depth == 1) {
        console_panic();
        print_frame(frame);
    }
    power_off(POWER_STATUS_FAULT);
}

void arch_trap(struct trap_frame *frame)
{
    if (!(frame->cause & CAUSE_INTERRUPT)) {
        fault(frame);
    }
    switch (frame->cause & ~CAUSE_INTERRUPT) {
    case INTERRUPT_TIMER:
        arch_timer_interrupt();
        break;
    case INTERRUPT_EXTERNAL:
        interrupts_dispatch();
        break;
    default:
        csr_clear("sie", UINT64_C(1) << (frame->cause & 63));
        break;
    }
}
