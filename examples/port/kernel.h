/* SPDX-License-Identifier: MIT */
/* What an imaginary kernel has already; yours has something like it. */
#ifndef EXAMPLES_PORT_KERNEL_H
#define EXAMPLES_PORT_KERNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KERNEL_TICKS_PER_SECOND 10000000u

void kernel_print(const char *text);                     /* to the console */
uint64_t kernel_ticks(void);                             /* a clock that never goes back */
bool kernel_is_ram(uint64_t physical, uint64_t bytes);   /* any byte of it */
volatile void *kernel_map_registers(uint64_t physical, uint64_t bytes); /* NULL: cannot */
bool kernel_physical(const void *virtual, uint64_t *out_physical);      /* page tables */

#endif
