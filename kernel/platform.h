/* SPDX-License-Identifier: MIT */
/* What the kernel answers when skio asks its surroundings; see skio/platform.h. */
#ifndef KERNEL_PLATFORM_H
#define KERNEL_PLATFORM_H

#include <skio/platform.h>

extern struct sk_platform platform;

/* The hooks that the kernel itself uses too. */
void platform_wait(void *context, const sk_atomic_u32 *word, uint32_t seen, uint64_t until_ns);
enum sk_status platform_map_mmio(void *context, sk_paddr base, uint64_t bytes,
                                 struct sk_mmio *out_mmio);
void platform_unmap_mmio(void *context, struct sk_mmio *mmio);

#endif
