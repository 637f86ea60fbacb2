/* SPDX-License-Identifier: MIT */
/* The kernel's own drivers, of the same framework as skio's. */
#ifndef KERNEL_DRIVERS_H
#define KERNEL_DRIVERS_H

#include <skio/driver.h>

/* A serial port as a console: "ns16550a".  The node's interface is a struct console_device. */
extern const struct sk_driver ns16550a_driver;

/* The interrupt controller of RISC-V machines.  Needs options: copy the driver and set them. */
struct plic_options {
    uint32_t phandle;     /* the controller's own in the device tree */
    uint32_t cpu_phandle; /* this processor's own controller */
    uint32_t cpu_line;    /* and the line of it that shall be raised */
};
extern const struct sk_driver plic_driver;

#endif
