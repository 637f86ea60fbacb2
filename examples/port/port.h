/* SPDX-License-Identifier: MIT */
#ifndef EXAMPLES_PORT_PORT_H
#define EXAMPLES_PORT_PORT_H

#include <skio/skio.h>

/* What skio asks of this kernel. */
extern struct sk_platform port_platform;

/* Reads the first sector of the disk whose registers are at `registers`. */
enum sk_status port_read_first_sector(sk_paddr registers, void *out_sector);

#endif
