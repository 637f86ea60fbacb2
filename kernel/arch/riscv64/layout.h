/* SPDX-License-Identifier: MIT */
/* Numbers that boot.S and C must agree on. */
#ifndef KERNEL_ARCH_RISCV64_LAYOUT_H
#define KERNEL_ARCH_RISCV64_LAYOUT_H

/* A hart's stacks, from low to high: a page that is not mapped, the stack, one more, and the
 * stack for faults. */
#define LAYOUT_GUARD       4096
#define LAYOUT_STACK       65536
#define LAYOUT_FAULT_STACK 16384
#define LAYOUT_STACKS      (LAYOUT_GUARD + LAYOUT_STACK + LAYOUT_GUARD + LAYOUT_FAULT_STACK)

/* Harts; the length of struct arch_hart, which tp points at, and what is where in it. */
#define LAYOUT_HARTS            8
#define LAYOUT_HART             64
#define LAYOUT_HART_STACK       0
#define LAYOUT_HART_FAULT_STACK 8
#define LAYOUT_HART_SPACE       16
#define LAYOUT_HART_ID          24

#define LAYOUT_INTERRUPT_EXTERNAL 9 /* as scause numbers it */

/* What an exception pushes: struct trap_frame. */
#define LAYOUT_FRAME 288

#endif
