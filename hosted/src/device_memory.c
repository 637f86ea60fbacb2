/* SPDX-License-Identifier: MIT */
#include "device_memory.h"

static bool overlap(uint64_t left, uint64_t left_bytes, uint64_t right, uint64_t right_bytes)
{
    return left - right < right_bytes || right - left < left_bytes;
}

enum sk_status ski_device_memory_add(struct ski_device_memory *memory,
                                     const struct ski_device_region *region)
{
    uint64_t last = region->bytes - 1;
    uint32_t place = memory->count;
    uint64_t end;

    if (region->bytes == 0) {
        return SK_ERR_SIZE;
    }
    if (!sk_checked_add(region->guest, last, &end) || !sk_checked_add(region->user, last, &end)) {
        return SK_ERR_RANGE;
    }
    for (uint32_t i = 0; i < memory->count; i++) {
        const struct ski_device_region *other = &memory->regions[i];

        if (overlap(region->guest, region->bytes, other->guest, other->bytes) ||
            overlap(region->user, region->bytes, other->user, other->bytes)) {
            return SK_ERR_BUSY;
        }
    }
    if (memory->count == SKI_DEVICE_REGIONS_MAX) {
        return SK_ERR_NO_MEMORY;
    }
    for (; place > 0 && memory->regions[place - 1].guest > region->guest; place--) {
        memory->regions[place] = memory->regions[place - 1];
    }
    memory->regions[place] = *region;
    memory->count++;
    return SK_OK;
}

enum sk_status ski_device_memory_remove(struct ski_device_memory *memory, uint64_t guest,
                                        uint64_t user, uint64_t bytes,
                                        struct ski_device_region *out_region)
{
    for (uint32_t i = 0; i < memory->count; i++) {
        const struct ski_device_region *region = &memory->regions[i];

        if (region->guest != guest || region->user != user || region->bytes != bytes) {
            continue;
        }
        *out_region = *region;
        memory->count--;
        for (; i < memory->count; i++) {
            memory->regions[i] = memory->regions[i + 1];
        }
        return SK_OK;
    }
    return SK_ERR_NOT_FOUND;
}

const struct ski_device_region *ski_device_memory_find(const struct ski_device_memory *memory,
                                                       uint64_t guest)
{
    uint32_t low = 0;
    uint32_t high = memory->count;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        const struct ski_device_region *region = &memory->regions[middle];

        if (guest < region->guest) {
            high = middle;
        } else if (guest - region->guest < region->bytes) {
            return region;
        } else {
            low = middle + 1;
        }
    }
    return NULL;
}

uint8_t SKI_SHARED *ski_device_memory_at_user(const struct ski_device_memory *memory, uint64_t user,
                                              uint64_t bytes, uint64_t alignment)
{
    for (uint32_t i = 0; i < memory->count; i++) {
        const struct ski_device_region *region = &memory->regions[i];
        uint64_t offset = user - region->user;

        if (offset < region->bytes) {
            bool fits = bytes <= region->bytes - offset &&
                        ((uintptr_t)(region->host + offset) & (alignment - 1)) == 0;

            return fits ? ski_door_share(region->host + offset) : NULL;
        }
    }
    return NULL;
}
