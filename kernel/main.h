/* SPDX-License-Identifier: MIT */
/* Where the architecture enters the portable kernel. */
#ifndef KERNEL_MAIN_H
#define KERNEL_MAIN_H

#include <stdint.h>

/*
 * `hart` is this processor's number, `tree_paddr` the device tree's physical
 * address.  Translation is on, interrupts are masked, the stack is the kernel's.
 */
_Noreturn void kernel_main(uint64_t hart, uint64_t tree_paddr);

#endif
