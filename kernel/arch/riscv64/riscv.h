/* SPDX-License-Identifier: MIT */
/* Control registers, and what the files of this folder share.  Spec: RISC-V Privileged 1.12. */
#ifndef KERNEL_ARCH_RISCV64_H
#define KERNEL_ARCH_RISCV64_H

#include <stdbool.h>
#include <stdint.h>

#define SSTATUS_SIE (UINT64_C(1) << 1)

/* Bits of sie and codes of scause. */
#define INTERRUPT_TIMER    5
#define INTERRUPT_EXTERNAL 9
#define CAUSE_INTERRUPT    (UINT64_C(1) << 63)

#define csr_read(name)                                            \
    __extension__({                                               \
        uint64_t csr_value_;                                      \
        __asm__ volatile("csrr %0, " name : "=r"(csr_value_));    \
        csr_value_;                                               \
    })
#define csr_write(name, value) __asm__ volatile("csrw " name ", %0" ::"r"((uint64_t)(value)) : "memory")
#define csr_set(name, bits)    __asm__ volatile("csrs " name ", %0" ::"r"((uint64_t)(bits)) : "memory")
#define csr_clear(name, bits)  __asm__ volatile("csrc " name ", %0" ::"r"((uint64_t)(bits)) : "memory")

/* What boot.S pushes, in its order. */
struct trap_frame {
    uint64_t pc;
    uint64_t x[31]; /* x1 to x31 */
    uint64_t status;
    uint64_t cause;
    uint64_t value;
    uint64_t unused;
};
_Static_assert(sizeof(struct trap_frame) == 288, "boot.S counts on it");

void arch_trap(struct trap_frame *frame);

/* The timer's interrupt. */
void arch_timer_interrupt(void);

/* True if the address lies in the device region; then where it leads, if it is mapped. */
bool arch_device_address(uint64_t virtual, uint64_t *out_paddr);

/* SBI calls.  Spec: RISC-V SBI 1.0. */
void sbi_set_timer(uint64_t ticks);

/* From the linker script. */
extern char arch_text_start[], arch_rodata_start[], arch_data_start[], arch_end[];
extern char arch_guard_low[], arch_guard_high[], arch_stack_bottom[], arch_stack_top[];
extern char arch_fault_stack_top[];

#endif
