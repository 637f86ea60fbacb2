/* SPDX-License-Identifier: MIT */
#include "../../console.h"
#include "../../harts.h"
#include "../../power.h"
#include "../arch.h"
#include "riscv.h"

#define FRAMES_MAX 16

#define CAUSE_ILLEGAL      2
#define CAUSE_LOAD_ACCESS  5
#define CAUSE_STORE_ACCESS 7

static const char *const causes[] = {
    "instruction address misaligned",
    "instruction access fault",
    "illegal instruction",
    "breakpoint",
    "load address misaligned",
    "load access fault",
    "store address misaligned",
    "store access fault",
    "environment call from U-mode",
    "environment call from S-mode",
    "reserved",
    "reserved",
    "instruction page fault",
    "load page fault",
    "reserved",
    "store page fault",
};

static const char *const registers[] = {
    "ra", "sp", "gp", "tp",  "t0",  "t1", "t2", "s0", "s1", "a0", "a1",
    "a2", "a3", "a4", "a5",  "a6",  "a7", "s2", "s3", "s4", "s5", "s6",
    "s7", "s8", "s9", "s10", "s11", "t3", "t4", "t5", "t6",
};

static const char *cause_name(uint64_t cause)
{
    return cause < sizeof(causes) / sizeof(causes[0]) ? causes[cause] : "unknown";
}

static const struct arch_stacks *stacks_here(void)
{
    return &arch_hart_stacks[arch_hart_place()];
}

static bool on_stack(uint64_t address)
{
    return address % 8 == 0 && address >= (uintptr_t)stacks_here()->stack + 16 &&
           address <= (uintptr_t)stacks_here()->fault_guard;
}

/* With frame pointers, the caller's frame and the return address lie below s0. */
static void print_backtrace(const struct trap_frame *frame)
{
    uint64_t fp = frame->x[7];

    console_print("backtrace 0x%016lx", frame->pc);
    for (int i = 0; i < FRAMES_MAX && on_stack(fp); i++) {
        const uint64_t *saved = (const uint64_t *)(uintptr_t)(fp - 16);

        console_print("%s0x%016lx", i % 4 == 3 ? "\n          " : " ", saved[1]);
        if (saved[0] <= fp) {
            break;
        }
        fp = saved[0];
    }
    console_print("\n");
}

static void print_frame(const struct trap_frame *frame)
{
    const struct arch_stacks *stacks = stacks_here();
    bool guard =
        frame->value >= (uintptr_t)stacks->guard && frame->value < (uintptr_t)stacks->stack;

    console_print("\nfault: %s (scause %lu) on hart %u%s\n", cause_name(frame->cause),
                  frame->cause, harts_self(), guard ? ", the stack is full" : "");
    console_print("sepc      0x%016lx  stval     0x%016lx  sstatus   0x%016lx\n", frame->pc,
                  frame->value, frame->status);
    for (size_t i = 0; i < sizeof(registers) / sizeof(registers[0]); i++) {
        console_print("%-9s 0x%016lx%s", registers[i], frame->x[i], i % 3 == 2 ? "\n" : "  ");
    }
    console_print("\n");
    print_backtrace(frame);
}

/* Only one hart gets behind harts_stop. */
static _Noreturn void fault(const struct trap_frame *frame)
{
    static unsigned depth;
    unsigned left = harts_stop();

    depth++;
    if (depth > 2) {
        arch_power_off(true);
    }
    if (depth == 1) {
        console_panic();
        print_frame(frame);
        if (left != 0) {
            console_print("%u other harts did not stop\n", left);
        }
    }
    power_off(POWER_STATUS_FAULT);
}

/* The register that a load fills; 0: none. */
static unsigned load_target(uint32_t instruction)
{
    if ((instruction & 3) == 3) {
        return instruction >> 7 & 31;
    }
    return (instruction >> 2 & 7) + 8; /* compressed loads know eight registers */
}

/* What a load of this width reads when all wires are high. */
static uint64_t load_ones(uint32_t instruction)
{
    unsigned width = instruction >> 12 & 7; /* from 4 on the load is unsigned */

    if ((instruction & 3) != 3 || width < 4) {
        return UINT64_MAX;
    }
    return (UINT64_C(1) << (8u << (width & 3))) - 1;
}

/*
 * Registers that a device tree invented answer nobody.  As on other machines'
 * buses, a load finds all bits set and a store is lost, and the driver sees
 * what it thinks of that.
 */
static bool absorb(struct trap_frame *frame)
{
    static struct sk_log_limit limit;
    uint32_t instruction;
    uint64_t paddr;

    if ((frame->cause != CAUSE_LOAD_ACCESS && frame->cause != CAUSE_STORE_ACCESS) ||
        !arch_device_address(frame->value, &paddr)) {
        return false;
    }
    instruction = *(const uint16_t *)(uintptr_t)frame->pc;
    if ((instruction & 3) == 3) {
        instruction |= (uint32_t) * (const uint16_t *)(uintptr_t)(frame->pc + 2) << 16;
    }
    if (frame->cause == CAUSE_LOAD_ACCESS && load_target(instruction) != 0) {
        frame->x[load_target(instruction) - 1] = load_ones(instruction);
    }
    frame->pc += (instruction & 3) == 3 ? 4 : 2;
    if (sk_log_limit_pass(&limit)) {
        sk_log_print(&console_log, SK_LOG_WARNING, "no device answers at 0x%lx", paddr);
    }
    return true;
}

/* Steps over an instruction that this hart does not have, where that was expected. */
static bool probe(struct trap_frame *frame)
{
    struct arch_hart *hart = arch_hart_here();

    if (frame->cause != CAUSE_ILLEGAL || !hart->probing) {
        return false;
    }
    hart->probing = false;
    frame->pc += 4;
    return true;
}

void arch_trap_exception(struct trap_frame *frame)
{
    if (!absorb(frame) && !probe(frame)) {
        fault(frame);
    }
}

void arch_trap_interrupt(uint64_t code)
{
    switch (code) {
    case INTERRUPT_TIMER:
        arch_timer_interrupt();
        break;
    case INTERRUPT_SOFTWARE:
        arch_hart_interrupt();
        break;
    default:
        csr_clear("sie", UINT64_C(1) << (code & 63));
        break;
    }
}
