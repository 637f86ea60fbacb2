/* SPDX-License-Identifier: MIT */
#include "device_chain.h"

static enum sk_status refuse(struct ski_device_chain *chain, const char *fault)
{
    chain->fault = fault;
    return SK_ERR_MALFORMED;
}

/*
 * A chain while it is read.  It lives in registers: all functions that touch
 * it are inlined, and its address is taken nowhere.
 */
struct gather {
    struct iovec *next;
    struct iovec *writable; /* the first one that is; NULL: none yet */
    uint64_t bytes_before;  /* of the readable ones */
    uint64_t bytes;
    /* The region that was hit last: most chains lie in one. */
    uint64_t guest;
    uint64_t region_bytes;
    uint8_t *host;
};

SKI_INLINE struct gather begin(struct ski_device_chain *chain, const struct ski_device_view *view)
{
    const struct ski_device_region *hint = view->hint;
    struct gather gather = { .next = chain->pieces };

    if (hint != NULL) {
        gather.guest = hint->guest;
        gather.region_bytes = hint->bytes;
        gather.host = hint->host;
    }
    return gather;
}

SKI_INLINE enum sk_status end(struct ski_device_chain *chain, struct gather gather)
{
    chain->count = (uint32_t)(gather.next - chain->pieces);
    if (gather.writable == NULL) {
        chain->readable = chain->count;
        chain->readable_bytes = gather.bytes;
        chain->writable_bytes = 0;
    } else {
        chain->readable = (uint32_t)(gather.writable - chain->pieces);
        chain->readable_bytes = gather.bytes_before;
        chain->writable_bytes = gather.bytes - gather.bytes_before;
    }
    return SK_OK;
}

/*
 * A buffer elsewhere than the last one, perhaps one that reaches from one
 * region into the next: as many pieces as regions.  Returns how many there
 * are then; 0: it leaves the memory, or more pieces than fit.
 */
static __attribute__((noinline)) uint32_t add_pieces(struct ski_device_chain *chain,
                                                     uint32_t count,
                                                     struct ski_device_view *view,
                                                     uint64_t address, uint64_t length)
{
    uint64_t end_address;

    if (!sk_checked_add(address, length, &end_address)) {
        return 0;
    }
    while (length > 0) {
        const struct ski_device_region *region = ski_device_memory_find(view->memory, address);
        uint64_t there;

        if (region == NULL || count == SKI_DEVICE_PIECES_MAX) {
            return 0;
        }
        there = region->bytes - (address - region->guest);
        there = there < length ? there : length;
        chain->pieces[count++] =
            (struct iovec){ ski_device_region_at(region, address), (size_t)there };
        view->hint = region;
        address += there;
        length -= there;
    }
    return count;
}

/* Adds one descriptor's buffer; NULL, or why not. */
SKI_INLINE const char *add(struct ski_device_chain *chain, struct gather *gather,
                           struct ski_device_view *view, uint64_t address, uint32_t length,
                           bool writable)
{
    uint64_t offset = address - gather->guest;

    if (length == 0) {
        return "a buffer of no bytes";
    }
    if (gather->next == chain->pieces + SKI_DEVICE_PIECES_MAX) {
        return "more buffers than fit";
    }
    if (gather->writable != NULL) {
        if (!writable) {
            return "a readable buffer behind a writable one";
        }
    } else if (writable) {
        gather->writable = gather->next;
        gather->bytes_before = gather->bytes;
    }
    gather->bytes += length;
    if (offset < gather->region_bytes && length <= gather->region_bytes - offset) {
        gather->next->iov_base = gather->host + offset;
        gather->next->iov_len = length;
        gather->next++;
    } else {
        uint32_t count = add_pieces(chain, (uint32_t)(gather->next - chain->pieces), view, address,
                                    length);

        if (count == 0) {
            return "a buffer outside of the memory";
        }
        gather->next = chain->pieces + count;
        gather->guest = view->hint->guest;
        gather->region_bytes = view->hint->bytes;
        gather->host = view->hint->host;
    }
    return NULL;
}

/* A table of descriptors: where it is, if it is whole and aligned; else it is copied piecemeal. */
struct table {
    struct ski_ring_descriptor SKI_SHARED *entries; /* NULL: not so */
    struct ski_device_view *view;
    uint64_t address;
    uint32_t count;
};

SKI_INLINE enum sk_status find_table(struct ski_device_chain *chain, struct ski_device_view *view,
                                     uint64_t address, uint32_t length, struct table *out_table)
{
    const struct ski_device_region *region = view->hint;

    if (!view->indirect) {
        return refuse(chain, "a table that was not negotiated");
    }
    if (length == 0 || length % sizeof(struct ski_ring_descriptor) != 0) {
        return refuse(chain, "a table of no whole descriptors");
    }
    *out_table = (struct table){ .view = view,
                                 .address = address,
                                 .count = length / (uint32_t)sizeof(struct ski_ring_descriptor) };
    if (region == NULL || !ski_device_region_holds(region, address, length)) {
        region = ski_device_memory_find(view->memory, address);
    }
    if (region != NULL && ski_device_region_holds(region, address, length)) {
        uint8_t *host = ski_device_region_at(region, address);

        view->hint = region;
        if (((uintptr_t)host & 7) == 0) {
            out_table->entries =
                (struct ski_ring_descriptor SKI_SHARED *)(void SKI_SHARED *)ski_door_share(host);
        }
    }
    return SK_OK;
}

/* Byte by byte, wherever each lies: for tables that no driver makes. */
static __attribute__((noinline)) bool copy_entry(const struct table *table, uint32_t index, uint64_t *out_words)
{
    uint64_t at = table->address + 16 * (uint64_t)index;

    out_words[0] = out_words[1] = 0;
    for (unsigned i = 0; i < 16; i++) {
        const struct ski_device_region *region =
            ski_device_memory_find(table->view->memory, at + i);

        if (region == NULL) {
            return false;
        }
        out_words[i / 8] |=
            (uint64_t)ski_door_load8(ski_door_share(ski_device_region_at(region, at + i)))
            << i % 8 * 8;
    }
    return true;
}

SKI_INLINE bool load_entry(const struct table *table, uint32_t index, uint64_t *out_words)
{
    if (table->entries == NULL) {
        return copy_entry(table, index, out_words);
    }
    out_words[0] = ski_door_load64(&table->entries[index].address);
    out_words[1] = ski_door_load64(&table->entries[index].rest);
    return true;
}

/* 2.7.5.3: links lead from entry to entry; each step is counted. */
SKI_INLINE enum sk_status read_linked_table(struct ski_device_chain *chain, struct gather gather,
                                            struct ski_device_view *view, uint64_t address,
                                            uint32_t length)
{
    struct table table;
    uint32_t index = 0;

    if (find_table(chain, view, address, length, &table) != SK_OK) {
        return SK_ERR_MALFORMED;
    }
    for (uint32_t steps = 0; steps < table.count; steps++) {
        uint64_t words[2];
        uint32_t flags;
        const char *fault;

        if (!load_entry(&table, index, words)) {
            return refuse(chain, "a table outside of the memory");
        }
        flags = (uint32_t)(words[1] >> 32);
        if ((flags & SKI_RING_INDIRECT) != 0) {
            return refuse(chain, "a table in a table");
        }
        fault = add(chain, &gather, view, words[0], (uint32_t)words[1],
                    (flags & SKI_RING_WRITE) != 0);
        if (fault != NULL) {
            return refuse(chain, fault);
        }
        if ((flags & SKI_RING_NEXT) == 0) {
            return end(chain, gather);
        }
        index = flags >> 16;
        if (index >= table.count) {
            return refuse(chain, "a link out of the table");
        }
    }
    return refuse(chain, "a loop in a table");
}

enum sk_status ski_device_chain_read_split(struct ski_device_chain *chain,
                                           struct ski_device_view *view,
                                           const struct ski_device_split *ring, uint16_t head)
{
    struct gather gather = begin(chain, view);
    uint32_t index = head;

    chain->id = head;
    chain->places = 1;
    for (uint32_t steps = 0; steps < ring->size; steps++) {
        uint64_t address;
        uint64_t rest;
        uint32_t flags;
        const char *fault;

        if (index >= ring->size) {
            return refuse(chain, "a descriptor out of the ring");
        }
        address = ski_door_load64(&ring->descriptors[index].address);
        rest = ski_door_load64(&ring->descriptors[index].rest);
        flags = (uint32_t)(rest >> 32);
        if ((flags & SKI_RING_INDIRECT) != 0) {
            return (flags & SKI_RING_NEXT) != 0
                       ? refuse(chain, "a table with a link")
                       : read_linked_table(chain, gather, view, address, (uint32_t)rest);
        }
        fault = add(chain, &gather, view, address, (uint32_t)rest, (flags & SKI_RING_WRITE) != 0);
        if (fault != NULL) {
            return refuse(chain, fault);
        }
        if ((flags & SKI_RING_NEXT) == 0) {
            return end(chain, gather);
        }
        index = flags >> 16;
    }
    return refuse(chain, "a loop in the ring");
}

/* 2.8.7: all entries of the table, one after the other. */
SKI_INLINE enum sk_status read_plain_table(struct ski_device_chain *chain, struct gather gather,
                                           struct ski_device_view *view, uint64_t address,
                                           uint32_t length)
{
    struct table table;

    if (find_table(chain, view, address, length, &table) != SK_OK) {
        return SK_ERR_MALFORMED;
    }
    for (uint32_t i = 0; i < table.count; i++) {
        uint64_t words[2];
        const char *fault;

        if (!load_entry(&table, i, words)) {
            return refuse(chain, "a table outside of the memory");
        }
        fault = add(chain, &gather, view, words[0], (uint32_t)words[1],
                    (words[1] >> 48 & SKI_RING_WRITE) != 0);
        if (fault != NULL) {
            return refuse(chain, fault); /* at the latest when no more pieces fit */
        }
    }
    return end(chain, gather);
}

enum sk_status ski_device_chain_load_packed(struct ski_device_chain *chain,
                                            const struct ski_device_packed *ring,
                                            struct ski_device_descriptor *descriptors)
{
    uint32_t room = (uint32_t)ring->size - ring->outstanding;
    uint32_t position = ring->next;
    uint32_t count = 1;

    if (room == 0 ||
        !ski_device_packed_peek(ring, &descriptors[0].address, &descriptors[0].rest)) {
        return SK_ERR_AGAIN;
    }
    room = room < SKI_DEVICE_PIECES_MAX ? room : SKI_DEVICE_PIECES_MAX;
    while ((descriptors[count - 1].rest >> 48 & SKI_RING_NEXT) != 0) {
        if (count == room) {
            return refuse(chain, "a chain longer than what is free of the ring");
        }
        position = position + 1 == ring->size ? 0 : position + 1;
        descriptors[count].rest = ski_device_packed_rest(ring, position);
        descriptors[count].address = ski_door_load64(&ring->descriptors[position].address);
        count++;
    }
    chain->places = count;
    chain->id = (uint32_t)(descriptors[count - 1].rest >> 32) & 0xffff; /* in the last one */
    return SK_OK;
}

enum sk_status ski_device_chain_read_packed(struct ski_device_chain *chain,
                                            struct ski_device_view *view,
                                            const struct ski_device_descriptor *descriptors)
{
    struct gather gather = begin(chain, view);

    for (uint32_t i = 0; i < chain->places; i++) {
        uint64_t rest = descriptors[i].rest;
        uint32_t flags = (uint32_t)(rest >> 48);
        const char *fault;

        if ((flags & SKI_RING_INDIRECT) != 0) {
            return chain->places != 1 ? refuse(chain, "a table with a link")
                                      : read_plain_table(chain, gather, view,
                                                         descriptors[i].address, (uint32_t)rest);
        }
        fault = add(chain, &gather, view, descriptors[i].address, (uint32_t)rest,
                    (flags & SKI_RING_WRITE) != 0);
        if (fault != NULL) {
            return refuse(chain, fault);
        }
    }
    return end(chain, gather);
}
