/* SPDX-License-Identifier: MIT */
/* The later steps of PORTING.md, each usable without the others. */
#ifndef EXAMPLES_PORT_MORE_H
#define EXAMPLES_PORT_MORE_H

#include <skio/skio.h>

/* Adds interrupts, sleep and caches to the smallest port's hooks. */
void port_add_hooks(struct sk_platform *platform);

/* What the kernel's interrupt entry calls. */
void port_interrupt(uint32_t line);

/* Domains: behind an IOMMU; of a device that sees 4 GiB only; of one that does not snoop. */
extern const struct sk_dma_iommu port_iommu;
enum sk_status port_domain_with_iommu(const struct sk_platform *platform,
                                      struct sk_dma_arena *arena, struct sk_dma_domain *domain);
enum sk_status port_domain_with_bounce(const struct sk_platform *platform,
                                       struct sk_dma_arena *arena, struct sk_dma_domain *domain);
enum sk_status port_domain_not_coherent(const struct sk_platform *platform,
                                        struct sk_dma_arena *arena, struct sk_dma_domain *domain);

/* Finds every disk of a device tree, with memory out of `arena`.  Once. */
enum sk_status port_find_disks(const struct sk_platform *platform, const void *tree,
                               size_t tree_bytes, struct sk_dma_arena *arena);
extern struct sk_device_manager port_devices;

#endif
