/* SPDX-License-Identifier: MIT */
/*
 * Entered by the firmware in S-mode, on one hart, without translation:
 * a0 is the hart, a1 the physical address of the device tree.
 */
#define DIRECT 0xffffffc000000000
#define LEAF   0xcf /* valid, readable, writable, executable, accessed, dirty */

.section .text.entry, "ax"
.globl arch_entry
arch_entry:
    csrw sie, zero
    csrci sstatus, 2
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
    la sp, arch_stack_top
    la t0, arch_trap_entry
    csrw stvec, t0
    csrw sscratch, zero
    mv tp, zero
    mv a0, s0
    mv a1, s1
    mv fp, zero
    mv ra, zero
    call kernel_main
3:  wfi
    j 3b

/* All but x0 and x2, which is the stack pointer. */
.macro each_register instruction
    .irp number, 1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, \
        24, 25, 26, 27, 28, 29, 30, 31
    \instruction x\number, 8*\number(sp)
    .endr
.endm

/*
 * An interrupt goes on the stack that it finds; a fault gets a stack of its
 * own, because the fault may be that there is no stack left.
 */
.text
.balign 4
.globl arch_trap_entry
arch_trap_entry:
    csrw sscratch, sp
    csrr sp, scause
    bltz sp, 1f
    la sp, arch_fault_stack_top
    j 2f
1:  csrr sp, sscratch
2:  addi sp, sp, -288
    each_register sd
    csrr t0, sscratch
    sd t0, 16(sp)
    csrr t0, sepc
    sd t0, 0(sp)
    csrr t0, sstatus
    sd t0, 256(sp)
    csrr t0, scause
    sd t0, 264(sp)
    csrr t0, stval
    sd t0, 272(sp)
    mv a0, sp
    call arch_trap

    ld t0, 0(sp)
    csrw sepc, t0
    ld t0, 256(sp)
    csrw sstatus, t0
    each_register ld
    ld x2, 16(sp)
    sret
