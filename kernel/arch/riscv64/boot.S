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
    sd x1, 8(sp)
    sd x3, 24(sp)
    sd x4, 32(sp)
    sd x5, 40(sp)
    sd x6, 48(sp)
    sd x7, 56(sp)
    sd x8, 64(sp)
    sd x9, 72(sp)
    sd x10, 80(sp)
    sd x11, 88(sp)
    sd x12, 96(sp)
    sd x13, 104(sp)
    sd x14, 112(sp)
    sd x15, 120(sp)
    sd x16, 128(sp)
    sd x17, 136(sp)
    sd x18, 144(sp)
    sd x19, 152(sp)
    sd x20, 160(sp)
    sd x21, 168(sp)
    sd x22, 176(sp)
    sd x23, 184(sp)
    sd x24, 192(sp)
    sd x25, 200(sp)
    sd x26, 208(sp)
    sd x27, 216(sp)
    sd x28, 224(sp)
    sd x29, 232(sp)
    sd x30, 240(sp)
    sd x31, 248(sp)
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
    ld x1, 8(sp)
    ld x3, 24(sp)
    ld x4, 32(sp)
    ld x5, 40(sp)
    ld x6, 48(sp)
    ld x7, 56(sp)
    ld x8, 64(sp)
    ld x9, 72(sp)
    ld x10, 80(sp)
    ld x11, 88(sp)
    ld x12, 96(sp)
    ld x13, 104(sp)
    ld x14, 112(sp)
    ld x15, 120(sp)
    ld x16, 128(sp)
    ld x17, 136(sp)
    ld x18, 144(sp)
    ld x19, 152(sp)
    ld x20, 160(sp)
    ld x21, 168(sp)
    ld x22, 176(sp)
    ld x23, 184(sp)
    ld x24, 192(sp)
    ld x25, 200(sp)
    ld x26, 208(sp)
    ld x27, 216(sp)
    ld x28, 224(sp)
    ld x29, 232(sp)
    ld x30, 240(sp)
    ld x31, 248(sp)
    ld x2, 16(sp)
    sret
