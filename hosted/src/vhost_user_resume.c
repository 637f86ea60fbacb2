/* SPDX-License-Identifier: MIT */
/*
 * Where a ring stands.  What a back end that died left in the rings and in its
 * in-flight memory is read with care: it may be torn, and it may be wrong.
 *
 * Split: used entries are counted in the ring, and the next back end takes
 * from there what the in-flight memory does not have.  Packed: positions stand
 * in the in-flight memory alone.
 * Spec: vhost-user protocol, "Inflight I/O tracking", "A vring descriptor index for packed
 * virtqueues"; Virtio 1.2, 2.7.6, 2.7.8, 2.8.1.
 */
#include "vhost_user_private.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <skio/endian.h>

/* The in-flight memory of a packed ring, as on the wire: the machine's byte order. */
struct packed_region {
    uint64_t features;
    uint16_t version; /* 0: not used yet */
    uint16_t descriptor_count;
    uint16_t free_head;
    uint16_t old_free_head;
    uint16_t used;
    uint16_t old_used;
    uint8_t used_wrap;
    uint8_t old_used_wrap;
    uint8_t padding[7];
};

struct packed_entry {
    uint8_t inflight;
    uint8_t padding;
    uint16_t next;
    uint16_t last;
    uint16_t count; /* descriptors of the chain */
    uint64_t counter;
    uint16_t id;
    uint16_t flags;
    uint32_t length;
    uint64_t address;
};

_Static_assert(sizeof(struct packed_region) == 32, "QueueRegionPacked");
_Static_assert(sizeof(struct packed_entry) == 32, "DescStatePacked");

#define FLAG_AVAILABLE (1u << 7)
#define FLAG_USED      (1u << 15)

/* Positions of a packed ring: 15 bits and a wrap counter, available below and used above. */
#define PACKED_WRAP       0x8000u
#define PACKED_FIRST_BASE (PACKED_WRAP | PACKED_WRAP << 16)

static uint16_t load16(const void *shared, size_t index)
{
    /* One load of what another process may write. */
    return atomic_load_explicit((const _Atomic uint16_t *)shared + index, memory_order_acquire);
}

static bool is_packed(const struct sk_vhost_user *vu)
{
    return ski_vhost_user_has_feature(vu, SK_VIRTIO_F_RING_PACKED);
}

uint32_t ski_vhost_user_first_base(const struct sk_vhost_user *vu)
{
    return is_packed(vu) ? PACKED_FIRST_BASE : 0;
}

bool ski_vhost_user_is_idle(const struct sk_vhost_user *vu, uint32_t index, uint32_t base)
{
    const struct sk_virtio_queue_layout *layout = &vu->queues[index].layout;

    if (is_packed(vu)) {
        return (base & 0xffff) == base >> 16;
    }
    return load16(layout->cpu_driver_area, 1) == load16(layout->cpu_device_area, 1);
}

enum sk_status ski_vhost_user_check_stopped(const struct sk_vhost_user *vu, uint32_t index,
                                            uint32_t base)
{
    const struct sk_virtio_queue_layout *layout = &vu->queues[index].layout;
    uint16_t available;
    uint16_t used;

    if (is_packed(vu)) {
        if ((base & 0x7fff) >= layout->size || (base >> 16 & 0x7fff) >= layout->size) {
            return SK_ERR_MALFORMED;
        }
        return ski_vhost_user_is_idle(vu, index, base) ? SK_OK : SK_ERR_TIMEOUT;
    }
    available = load16(layout->cpu_driver_area, 1);
    used = load16(layout->cpu_device_area, 1);
    if (base > UINT16_MAX || (uint16_t)(base - used) > (uint16_t)(available - used)) {
        return SK_ERR_MALFORMED;
    }
    return (uint16_t)base == used ? SK_OK : SK_ERR_TIMEOUT;
}

/* ---- Packed ------------------------------------------------------------------------------ */

struct packed_state {
    struct packed_region region;
    struct packed_entry *entries; /* as many as the ring has, */
    bool *is_free;                /* and of these */
};

/* Reads, does not map: the peer may cut the memory short under a mapping. */
static bool read_state(const struct sk_vhost_user *vu, uint32_t index, struct packed_state *out)
{
    const struct ski_vhost_user_inflight_memory *inflight = &vu->inflight;
    uint16_t size = vu->queues[index].layout.size;
    size_t bytes = size * sizeof(out->entries[0]);
    uint64_t stride;
    uint64_t offset;

    if (inflight->fd < 0 || index >= inflight->queue_count ||
        size > SKI_VHOST_USER_QUEUE_SIZE_MAX) {
        return false;
    }
    stride = inflight->bytes / inflight->queue_count;
    offset = inflight->offset + index * stride;
    if (stride < sizeof(out->region) + bytes) {
        return false;
    }
    return pread(inflight->fd, &out->region, sizeof(out->region), (off_t)offset) ==
               (ssize_t)sizeof(out->region) &&
           pread(inflight->fd, out->entries, bytes, (off_t)(offset + sizeof(out->region))) ==
               (ssize_t)bytes;
}

/*
 * The protocol's steps of reconnecting: what was in progress when the back end
 * died counts if it reached the ring, and is rolled back if it did not.
 */
static void settle(const struct sk_vhost_user *vu, uint32_t index, struct packed_region *region)
{
    const uint8_t *descriptors = vu->queues[index].layout.cpu_descriptors;
    uint32_t flags;
    bool available;

    if (region->used != region->old_used || region->used_wrap != region->old_used_wrap) {
        flags = load16(descriptors + (size_t)region->old_used * 16, 7);
        available = ((flags & FLAG_AVAILABLE) != 0) == (region->old_used_wrap != 0) &&
                    ((flags & FLAG_USED) != 0) != (region->old_used_wrap != 0);
        if (!available) {
            return;
        }
    }
    region->used = region->old_used;
    region->used_wrap = region->old_used_wrap;
    region->free_head = region->old_free_head;
}

/* Descriptors of the chains in flight; more than there are: the memory makes no sense. */
static uint32_t count_inflight(struct packed_state *state, uint16_t size)
{
    uint32_t next = state->region.free_head;
    uint32_t count = 0;

    (void)memset(state->is_free, 0, size * sizeof(state->is_free[0]));
    for (uint32_t i = 0; i < size && next < size && !state->is_free[next]; i++) {
        state->is_free[next] = true;
        next = state->entries[next].next;
    }
    for (uint32_t i = 0; i < size; i++) {
        if (state->entries[i].inflight == 1 && !state->is_free[i]) {
            count += state->entries[i].count;
        }
    }
    return count;
}

static enum sk_status packed_base(const struct sk_vhost_user *vu, uint32_t index,
                                  struct packed_state *state, uint32_t *out_base)
{
    uint16_t size = vu->queues[index].layout.size;
    struct packed_region *region = &state->region;
    uint32_t count;
    uint32_t available;
    bool wrap;

    if (!read_state(vu, index, state)) {
        return SK_ERR_MALFORMED;
    }
    if (region->version == 0) {
        *out_base = PACKED_FIRST_BASE; /* the dead one took nothing */
        return SK_OK;
    }
    if (region->used >= size || region->old_used >= size) {
        return SK_ERR_MALFORMED;
    }
    settle(vu, index, region);
    count = count_inflight(state, size);
    if (count > size) {
        return SK_ERR_MALFORMED;
    }
    available = region->used + count;
    wrap = region->used_wrap != 0;
    *out_base = (uint32_t)region->used << 16 | (wrap ? PACKED_WRAP << 16 : 0);
    if (available >= size) {
        available -= size;
        wrap = !wrap;
    }
    *out_base |= available | (wrap ? PACKED_WRAP : 0);
    return SK_OK;
}

enum sk_status ski_vhost_user_resume_base(const struct sk_vhost_user *vu, uint32_t index,
                                          uint32_t *out_base)
{
    const struct sk_virtio_queue_layout *layout = &vu->queues[index].layout;
    struct packed_state state;
    enum sk_status status = SK_ERR_NO_MEMORY;

    if (!is_packed(vu)) {
        *out_base = load16(layout->cpu_device_area, 1);
        return SK_OK;
    }
    state.entries = calloc(layout->size, sizeof(state.entries[0]));
    state.is_free = calloc(layout->size, sizeof(state.is_free[0]));
    if (state.entries != NULL && state.is_free != NULL) {
        status = packed_base(vu, index, &state, out_base);
    }
    free(state.entries);
    free(state.is_free);
    return status;
}
