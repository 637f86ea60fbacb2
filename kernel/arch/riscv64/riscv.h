/* SPDX-License-Identifier: MIT */
/* Control registers, and what the files of this folder share.  Spec: RISC-V Privileged 1.12. */
#ifndef KERNEL_ARCH_RISCV64_H
#define KERNEL_ARCH_RISCV64_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "layout.h"

#define SSTATUS_SIE (UINT64_C(1) << 1)

/* Bits of sie and codes of scause. */
#define INTERRUPT_SOFTWARE 1
#define INTERRUPT_TIMER    5
#define INTERRUPT_EXTERNAL LAYOUT_INTERRUPT_EXTERNAL

#define csr_read(name)                                            \
    __extension__({                                               \
        uint64_t csr_value_;                                      \
        __asm__ volatile("csrr %0, " name : "=r"(csr_value_));    \
        csr_value_;                                               \
    })
#define csr_write(name, value) __asm__ volatile("csrw " name ", %0" ::"r"((uint64_t)(value)) : "memory")
#define csr_set(name, bits)    __asm__ volatile("csrs " name ", %0" ::"r"((uint64_t)(bits)) : "memory")
#define csr_clear(name, bits)  __asm__ volatile("csrc " name ", %0" ::"r"((uint64_t)(bits)) : "memory")

/* What belongs to one hart; tp points at its own. */
struct arch_hart {
    uint64_t stack_top;
    uint64_t fault_stack_top;
    uint64_t space;     /* satp */
    uint64_t id;        /* the firmware's number */
    uint64_t armed_ns;  /* the next timer interrupt */
    uint64_t slept;     /* instructions that the counter counted while the hart slept */
    uint32_t place;     /* in arch_harts */
    volatile bool probing; /* the next instruction may be illegal: it is skipped then */
} __attribute__((aligned(64)));
_Static_assert(sizeof(struct arch_hart) == LAYOUT_HART, "boot.S counts on it");
_Static_assert(offsetof(struct arch_hart, stack_top) == LAYOUT_HART_STACK, "boot.S counts on it");
_Static_assert(offsetof(struct arch_hart, fault_stack_top) == LAYOUT_HART_FAULT_STACK, "the same");
_Static_assert(offsetof(struct arch_hart, space) == LAYOUT_HART_SPACE, "the same");
_Static_assert(offsetof(struct arch_hart, id) == LAYOUT_HART_ID, "the same");

struct arch_stacks {
    char guard[LAYOUT_GUARD];
    char stack[LAYOUT_STACK];
    char fault_guard[LAYOUT_GUARD];
    char fault_stack[LAYOUT_FAULT_STACK];
};
_Static_assert(sizeof(struct arch_stacks) == LAYOUT_STACKS, "boot.S counts on it");

extern struct arch_hart arch_harts[];
extern bool arch_harts_started; /* others than the first */
extern struct arch_stacks arch_hart_stacks[];

/* This hart's own. */
static inline struct arch_hart *arch_hart_here(void)
{
    struct arch_hart *hart;

    __asm__ volatile("mv %0, tp" : "=r"(hart));
    return hart;
}

/* Where a hart that the firmware starts begins (boot.S), and where that leads. */
extern char arch_hart_entry[];
_Noreturn void arch_hart_main(void);

/* What boot.S pushes at an exception, in its order. */
struct trap_frame {
    uint64_t pc;
    uint64_t x[31]; /* x1 to x31 */
    uint64_t status;
    uint64_t cause;
    uint64_t value;
    uint64_t unused;
};
_Static_assert(sizeof(struct trap_frame) == LAYOUT_FRAME, "boot.S counts on it");

void arch_trap_exception(struct trap_frame *frame);
/* All but the external ones, which go to interrupts_dispatch. */
void arch_trap_interrupt(uint64_t code);

/* Lets the timer end this hart's sleeps; its interrupt. */
void arch_timer_start(void);
void arch_timer_interrupt(void);

/* Another hart's interrupt: wakes, or stops for good. */
void arch_hart_interrupt(void);

/* The address space that arch_pages_init made, as satp. */
uint64_t arch_pages_space(void);

/* True if the address lies in the device region; then where it leads, if it is mapped. */
bool arch_device_address(uint64_t virtual, uint64_t *out_paddr);

/* SBI calls; those with a status return the SBI's, 0 is success.  Spec: RISC-V SBI 1.0. */
void sbi_set_timer(uint64_t ticks);
int64_t sbi_hart_start(uint64_t id, uint64_t paddr, uint64_t argument);
void sbi_hart_stop(void);
/* Harts base, base + 1, ... of the bits in `mask`. */
void sbi_send_ipi(uint64_t mask, uint64_t base);
/* All harts forget what they know of page tables. */
void sbi_flush_all(void);

/* From the linker script. */
extern char arch_text_start[], arch_rodata_start[], arch_data_start[], arch_bss_end[], arch_end[];

#endif
