/* SPDX-License-Identifier: MIT */
/*
 * Entered by the firmware in S-mode without translation: the first hart at
 * arch_entry, a0 is the hart, a1 the physical address of the device tree; each
 * other one at arch_hart_entry, a1 is the physical address of its struct arch_hart.
 * OpenSBI 1.1 may let a hart that is just being started in at arch_entry too.
 */
#include "layout.h"

#define DIRECT 0xffffffc000000000
#define LEAF   0xcf /* valid, readable, writable, executable, accessed, dirty */

/* From physical addresses to the upper half; t0 and t1 are lost. */
.macro to_upper_half
    la t0, arch_boot_root
    srli t0, t0, 12
    li t1, 8 << 60
    or t0, t0, t1
    sfence.vma
    csrw satp, t0
    sfence.vma
    la t0, 2f
    li t1, DIRECT
    add t0, t0, t1
    jr t0
2:
.option push
.option norelax
    la gp, __global_pointer$
.option pop
    la t0, trap_entry
    csrw stvec, t0
.endm

.section .text.entry, "ax"
.globl arch_entry
arch_entry:
    csrw sie, zero
    csrci sstatus, 2
    la t0, entered
    li t1, 1
    amoswap.w.aqrl t1, t1, (t0)
    bnez t1, entered_again
    mv s0, a0
    mv s1, a1

    la t0, arch_bss_start
    la t1, arch_bss_end
1:  sd zero, 0(t0)
    addi t0, t0, 8
    bltu t0, t1, 1b

    /* The gigabyte we stand in, at its own address and in the upper half. */
    la t0, arch_boot_root
    la t1, arch_entry
    srli t1, t1, 30
    slli t2, t1, 28
    ori t2, t2, LEAF
    slli t1, t1, 3
    add t1, t1, t0
    sd t2, 0(t1)
    li t3, 2048
    add t1, t1, t3
    sd t2, 0(t1)

    to_upper_half
    la tp, arch_harts
    sd s0, LAYOUT_HART_ID(tp)
    la sp, arch_hart_stacks
    li t0, LAYOUT_STACKS
    add t0, sp, t0
    sd t0, LAYOUT_HART_FAULT_STACK(tp)
    li t0, LAYOUT_GUARD + LAYOUT_STACK
    add sp, sp, t0
    mv a0, s0
    mv a1, s1
    mv fp, zero
    mv ra, zero
    call kernel_main
3:  wfi
    j 3b

/* It was told nothing, so it looks for its number. */
entered_again:
    la a1, arch_harts
    la t0, arch_harts + LAYOUT_HARTS * LAYOUT_HART
    addi a1, a1, LAYOUT_HART /* the first one is not meant */
1:  ld t1, LAYOUT_HART_ID(a1)
    ld t2, LAYOUT_HART_STACK(a1)
    beqz t2, 2f
    beq t1, a0, arch_hart_entry
2:  addi a1, a1, LAYOUT_HART
    bltu a1, t0, 1b
3:  wfi
    j 3b

.data
.balign 4
entered:
    .word 0
.section .text.entry, "ax"

.globl arch_hart_entry
arch_hart_entry:
    csrw sie, zero
    csrci sstatus, 2
    mv s1, a1
    to_upper_half
    li t0, DIRECT
    add tp, s1, t0
    ld t0, LAYOUT_HART_SPACE(tp)
    csrw satp, t0
    sfence.vma
    ld sp, LAYOUT_HART_STACK(tp)
    mv fp, zero
    mv ra, zero
    call arch_hart_main
3:  wfi
    j 3b

/* What a C function may change, but for t0: ra, t1 to t6, a0 to a7. */
.macro each_changed_register instruction
    .set place, 8
    .irp number, 1, 6, 7, 10, 11, 12, 13, 14, 15, 16, 17, 28, 29, 30, 31
    \instruction x\number, place(sp)
    .set place, place + 8
    .endr
.endm

/*
 * One entry for all: there is firmware that does not know of vectored ones.
 * An interrupt goes on the stack that it finds.  sepc and sstatus are kept
 * because registers that nobody answers cause exceptions, which return.
 */
.text
.balign 4
trap_entry:
    csrw sscratch, t0
    csrr t0, scause
    bgez t0, exception
    addi sp, sp, -144
    each_changed_register sd
    csrr t1, sscratch
    sd t1, 0(sp)
    csrr t1, sepc
    csrr t2, sstatus
    sd t1, 128(sp)
    sd t2, 136(sp)
    slli t0, t0, 1
    li t1, 2 * LAYOUT_INTERRUPT_EXTERNAL
    bne t0, t1, 1f
    call interrupts_dispatch
    j 2f
1:  srli a0, t0, 1
    call arch_trap_interrupt
2:  ld t1, 128(sp)
    ld t2, 136(sp)
    csrw sepc, t1
    csrw sstatus, t2
    each_changed_register ld
    ld t0, 0(sp)
    addi sp, sp, 144
    sret

/* All but x0, x2 (the stack pointer) and x5 (t0). */
.macro each_register instruction
    .irp number, 1, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, \
        25, 26, 27, 28, 29, 30, 31
    \instruction x\number, 8*\number(sp)
    .endr
.endm

/* An exception has a stack of its own, because it may be that there is no stack left. */
exception:
    mv t0, sp
    ld sp, LAYOUT_HART_FAULT_STACK(tp)
    addi sp, sp, -LAYOUT_FRAME
    sd t0, 16(sp)
    each_register sd
    csrr t0, sscratch
    sd t0, 40(sp)
    csrr t0, sepc
    sd t0, 0(sp)
    csrr t0, sstatus
    sd t0, 256(sp)
    csrr t0, scause
    sd t0, 264(sp)
    csrr t0, stval
    sd t0, 272(sp)
    mv a0, sp
    call arch_trap_exception

    ld t0, 0(sp)
    csrw sepc, t0
    ld t0, 256(sp)
    csrw sstatus, t0
    each_register ld
    ld t0, 40(sp)
    ld sp, 16(sp)
    sret
