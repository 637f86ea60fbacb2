/* SPDX-License-Identifier: MIT */
/* The machine's devices: from the device tree into a manager, and their drivers probed. */
#ifndef KERNEL_DEVICES_H
#define KERNEL_DEVICES_H

#include <skio/block.h>
#include <skio/device_manager.h>
#include <skio/fdt.h>

extern struct sk_device_manager devices;

/*
 * Finds and probes all: the interrupt controller first, then the console, then
 * the rest.  Failures of single devices stay with their nodes.
 */
enum sk_status devices_init(const struct sk_fdt *fdt, uint64_t hart);

/* What the bus found and the last round of probing did. */
size_t devices_count(void);
size_t devices_bound(void);

/* The first disk that works, or NULL. */
struct sk_block_device *devices_disk(void);
/* A node whose driver is one for disks and that failed, or NULL. */
const struct sk_device_node *devices_failed_disk(void);

/*
 * Before the power goes: makes what was written durable and stops the disks.
 * False, and said, if a disk with writes could not be flushed.
 */
bool devices_stop(void);

#endif
