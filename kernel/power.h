/* SPDX-License-Identifier: MIT */
/* The way out.  A test machine (sifive,test) leaves with an exit status. */
#ifndef KERNEL_POWER_H
#define KERNEL_POWER_H

#include <skio/fdt.h>

#define POWER_STATUS_OK     0u
#define POWER_STATUS_FAILED 1u /* a command failed, or the machine cannot be used */
#define POWER_STATUS_FAULT  2u /* the kernel itself */
#define POWER_STATUS_MAX    255u

/* Looks for `syscon-poweroff` in the device tree and maps its register. */
void power_init(const struct sk_fdt *fdt);

/* Ends the machine's run. */
_Noreturn void power_off(unsigned status);

/* Says why on the console and ends the run with POWER_STATUS_FAILED. */
_Noreturn void power_die(const char *format, ...) SK_PRINTF(1, 2);

#endif
