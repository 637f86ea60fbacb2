/* SPDX-License-Identifier: MIT */
/*
 * An IOMMU for tests: shows memory at addresses that nobody can guess, keeps
 * book of what is mapped, refuses an unmap that is not exactly one earlier
 * map, and fails on the Nth call.
 */
#ifndef TESTS_IOMMU_H
#define TESTS_IOMMU_H

#include "support/environment.h"

#define TEST_IOMMU_MAPS 64

struct test_iommu_map {
    uint64_t paddr;
    uint64_t daddr;
    uint64_t bytes;
    enum sk_dma_direction direction;
};

struct test_iommu {
    struct sk_dma_iommu hooks;
    struct test_iommu_map maps[TEST_IOMMU_MAPS]; /* what is mapped now, in order */
    size_t live;
    uint64_t next; /* where the next map will be seen; a page */
    unsigned calls;
    unsigned fail_call; /* the Nth call from now fails; 0: none */
    unsigned fail_unmap; /* the same, over unmaps alone */
    unsigned partial; /* maps that showed a page in part, with neighbours */
    unsigned out_of_order; /* unmaps of another than the newest map */
};

/* Sets it up at address `first`. */
void test_iommu_init(struct test_iommu *iommu, uint64_t first);

/* What the device finds: the CPU pointer, or NULL if nothing is mapped there for all bytes. */
void *test_iommu_reach(const struct test_iommu *iommu, const struct test_environment *env,
                       uint64_t daddr, uint64_t bytes);

#endif
