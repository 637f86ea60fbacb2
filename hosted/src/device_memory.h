/* SPDX-License-Identifier: MIT */
/*
 * The memory that a front end shares with a device: regions, each known by two
 * addresses (guest addresses in descriptors, user addresses for the rings), and
 * where each is mapped in this process.  It maps and unmaps nothing.
 *
 * Ownership: the caller's struct; the mappings are the caller's too.
 * Calling: lookups from any thread while nobody adds or removes.
 * Trust: addresses come from the front end.  What is returned lies inside of
 * a mapping, whole.
 * Spec: vhost-user, "Memory access".
 */
#ifndef SKI_HOSTED_DEVICE_MEMORY_H
#define SKI_HOSTED_DEVICE_MEMORY_H

#include <skio/checked.h>
#include <skio/status.h>

#include "base/door.h"

#define SKI_DEVICE_REGIONS_MAX 256u

struct ski_device_region {
    uint64_t guest;
    uint64_t user;
    uint64_t bytes;
    uint8_t *host;          /* where `guest` is mapped */
    void *mapping;          /* the caller's: what to unmap */
    uint64_t mapping_bytes;
};

struct ski_device_memory {
    uint32_t count;
    struct ski_device_region regions[SKI_DEVICE_REGIONS_MAX]; /* by guest address */
};

/*
 * SK_OK; with nothing changed SK_ERR_SIZE (no bytes), SK_ERR_RANGE (one of its
 * ranges wraps), SK_ERR_BUSY (one overlaps another region's), SK_ERR_NO_MEMORY (full).
 */
SK_MUST_CHECK enum sk_status ski_device_memory_add(struct ski_device_memory *memory,
                                                   const struct ski_device_region *region);

/* Removes the region that has all three.  SK_OK; SK_ERR_NOT_FOUND, nothing changed. */
SK_MUST_CHECK enum sk_status ski_device_memory_remove(struct ski_device_memory *memory,
                                                      uint64_t guest, uint64_t user,
                                                      uint64_t bytes,
                                                      struct ski_device_region *out_region);

/* The region that holds a guest address, or NULL. */
const struct ski_device_region *ski_device_memory_find(const struct ski_device_memory *memory,
                                                       uint64_t guest);

/* `bytes` at a user address, as a multiple of `alignment` (a power of two); or NULL. */
uint8_t SKI_SHARED *ski_device_memory_at_user(const struct ski_device_memory *memory, uint64_t user,
                                              uint64_t bytes, uint64_t alignment);

/* True if all of the range lies in this region. */
static inline bool ski_device_region_holds(const struct ski_device_region *region, uint64_t guest,
                                           uint64_t bytes)
{
    uint64_t offset = guest - region->guest; /* huge if it lies before */

    return offset < region->bytes && bytes <= region->bytes - offset;
}

/* Where a guest address that the region holds is mapped. */
static inline uint8_t *ski_device_region_at(const struct ski_device_region *region, uint64_t guest)
{
    return region->host + (guest - region->guest);
}

#endif
