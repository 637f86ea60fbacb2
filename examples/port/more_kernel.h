/* SPDX-License-Identifier: MIT */
/* What the imaginary kernel has for the later steps of PORTING.md. */
#ifndef EXAMPLES_PORT_MORE_KERNEL_H
#define EXAMPLES_PORT_MORE_KERNEL_H

#include "kernel.h"

#define KERNEL_LINES 32u

void kernel_enable_line(uint32_t line);  /* at the interrupt controller */
void kernel_disable_line(uint32_t line); /* waits for a handler that runs on another core */
void kernel_mask_interrupts(void);       /* of this core */
void kernel_unmask_interrupts(void);
void kernel_sleep_until(uint64_t ticks); /* a pending interrupt ends it, though it is masked */

/* An IOMMU: makes memory visible at an address of its choice. */
bool kernel_iommu_map(uint64_t physical, uint64_t bytes, bool device_writes, uint64_t *out_iova);
bool kernel_iommu_unmap(uint64_t iova, uint64_t bytes);

/* Caches, by virtual address. */
void kernel_cache_clean(const void *from, size_t bytes);
void kernel_cache_invalidate(const void *from, size_t bytes);

#endif
