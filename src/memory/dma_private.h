/* SPDX-License-Identifier: MIT */
/*
 * What the files of this room share: memory of the arena that satisfies a
 * domain, and the three steps of making memory reachable for a device.
 */
#ifndef SKI_MEMORY_DMA_PRIVATE_H
#define SKI_MEMORY_DMA_PRIVATE_H

#include <skio/checked.h>
#include <skio/dma_domain.h>

/* SK_OK, or SK_ERR_ALIGNMENT or SK_ERR_RANGE if nothing can satisfy *constraints. */
enum sk_status ski_dma_constraints_check(const struct sk_dma_constraints *constraints);

/* The highest device address that is allowed, 0 made explicit. */
uint64_t ski_dma_constraints_highest(const struct sk_dma_constraints *constraints);

/* True if one piece at `address` keeps to alignment, boundary and both ends. */
bool ski_dma_constraints_allow(const struct sk_dma_constraints *constraints, sk_daddr address,
                               uint64_t bytes);

/*
 * The same for a run of whole pages: rounds size_bytes up to pages, and a
 * boundary below a page to a page, which a run never crosses with its first
 * bytes.  False if the size is 0 or does not fit into memory.
 */
bool ski_dma_constraints_to_pages(struct sk_dma_constraints *constraints);

/* Memory of the arena that a domain's device can use. */
struct ski_dma_memory {
    struct sk_dma_run run;
    bool coherent; /* no cache maintenance is needed */
};

/*
 * Takes a run of constraints->size_bytes, whole pages, that the device can
 * reach.  Neither zeroed nor mapped yet, and nothing is logged.  SK_OK;
 * SK_ERR_NO_MEMORY, SK_ERR_UNREACHABLE, SK_ERR_RANGE (longer than the boundary),
 * SK_ERR_UNSUPPORTED (no way to keep caches in order).
 */
enum sk_status ski_dma_domain_take(struct sk_dma_domain *domain,
                                   const struct sk_dma_constraints *constraints,
                                   struct ski_dma_memory *out_memory);

/*
 * Makes physically contiguous memory reachable and says where.  With an IOMMU
 * this maps.  SK_OK; SK_ERR_UNREACHABLE (also: where the IOMMU put it breaks
 * the constraints), what the IOMMU said, or SK_ERR_IN_DOUBT (a map could not be
 * undone).  Nothing is mapped then, but for the last.
 */
enum sk_status ski_dma_domain_expose(struct sk_dma_domain *domain, sk_paddr paddr, uint64_t bytes,
                                     enum sk_dma_direction direction,
                                     const struct sk_dma_constraints *constraints,
                                     sk_daddr *out_address);

/* Undoes one expose.  SK_OK or what the IOMMU said: the device may still reach it then. */
enum sk_status ski_dma_domain_conceal(struct sk_dma_domain *domain, sk_daddr address,
                                      uint64_t bytes);

/* Gives a run back, or gives it up if the device may still reach it. */
void ski_dma_domain_give(struct sk_dma_domain *domain, const struct sk_dma_run *run, bool in_doubt);

/* True if the platform can keep the caches in order for devices that do not snoop. */
bool ski_dma_domain_maintains_caches(const struct sk_dma_domain *domain);

/* True if both ends of the memory lie on cache lines, so that no neighbour shares one. */
bool ski_dma_domain_owns_lines(const struct sk_dma_domain *domain, const void *cpu, uint64_t bytes);

/* The same for pages: what an IOMMU shows. */
bool ski_dma_domain_owns_pages(const struct sk_dma_domain *domain, const void *cpu, uint64_t bytes);

/* The platform's page; bytes. */
uint64_t ski_dma_domain_page_bytes(const struct sk_dma_domain *domain);

/* The cache work and the ordering before a device gets memory, and after. */
void ski_dma_domain_sync_for_device(const struct sk_dma_domain *domain, const void *cpu,
                                    uint64_t bytes, bool coherent);
void ski_dma_domain_sync_for_cpu(const struct sk_dma_domain *domain, const void *cpu,
                                 uint64_t bytes, enum sk_dma_direction direction, bool coherent);

#endif
