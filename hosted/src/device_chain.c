/* SPDX-License-Identifier: MIT */
#include "device_chain.h"

static enum sk_status refuse(struct ski_device_chain *chain, const char *fault)
{
    chain->fault = fault;
    return SK_ERR_MALFORMED;
}

static inline void begin(struct ski_device_chain *chain)
{
    chain->count = 0;
    chain->readable = 0;
    chain->readable_bytes = 0;
    chain->writable_bytes = 0;
}

/* A buffer that reaches from one region into the next: as many pieces as regions. */
static bool add_pieces(struct ski_device_chain *chain, struct ski_device_view *view,
                       uint64_t address, uint64_t length)
{
    uint64_t end;

    if (!sk_checked_add(address, length, &end)) {
        return false;
    }
    while (length > 0) {
        const struct ski_device_region *region = ski_device_memory_find(view->memory, address);
        uint64_t there;

        if (region == NULL || chain->count == SKI_DEVICE_PIECES_MAX) {
            return false;
        }
        there = region->bytes - (address - region->guest);
        there = there < length ? there : length;
        chain->pieces[chain->count++] =
            (struct iovec){ ski_device_region_at(region, address), (size_t)there };
        view->hint = region;
        address += there;
        length -= there;
    }
    return true;
}

/* Adds one descriptor's buffer. */
static inline enum sk_status add(struct ski_device_chain *chain, struct ski_device_view *view,
                                 uint64_t address, uint32_t length, bool writable)
{
    if (length == 0) {
        return refuse(chain, "a buffer of no bytes");
    }
    if (!writable && chain->readable != chain->count) {
        return refuse(chain, "a readable buffer behind a writable one");
    }
    if (chain->count == SKI_DEVICE_PIECES_MAX) {
        return refuse(chain, "more buffers than fit");
    }
    if (view->hint != NULL && ski_device_region_holds(view->hint, address, length)) {
        chain->pieces[chain->count++] =
            (struct iovec){ ski_device_region_at(view->hint, address), length };
    } else if (!add_pieces(chain, view, address, length)) {
        return refuse(chain, "a buffer outside of the memory");
    }
    if (writable) {
        chain->writable_bytes += length;
    } else {
        chain->readable = chain->count;
        chain->readable_bytes += length;
    }
    return SK_OK;
}

/* A table of descriptors: where it is, if it is whole and aligned; else it is copied piecemeal. */
struct table {
    struct ski_ring_descriptor SKI_SHARED *entries; /* NULL: not so */
    struct ski_device_view *view;
    uint64_t address;
    uint32_t count;
};

static enum sk_status find_table(struct ski_device_chain *chain, struct ski_device_view *view,
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
static bool copy_entry(const struct table *table, uint32_t index, uint64_t *out_words)
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

static inline bool load_entry(const struct table *table, uint32_t index, uint64_t *out_words)
{
    if (table->entries == NULL) {
        return copy_entry(table, index, out_words);
    }
    out_words[0] = ski_door_load64(&table->entries[index].address);
    out_words[1] = ski_door_load64(&table->entries[index].rest);
    return true;
}

/* 2.7.5.3: links lead from entry to entry; each step is counted. */
static enum sk_status read_linked_table(struct ski_device_chain *chain,
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

        if (!load_entry(&table, index, words)) {
            return refuse(chain, "a table outside of the memory");
        }
        flags = (uint32_t)(words[1] >> 32) & 0xffff;
        if ((flags & SKI_RING_INDIRECT) != 0) {
            return refuse(chain, "a table in a table");
        }
        if (add(chain, view, words[0], (uint32_t)words[1], (flags & SKI_RING_WRITE) != 0) !=
            SK_OK) {
            return SK_ERR_MALFORMED;
        }
        if ((flags & SKI_RING_NEXT) == 0) {
            return SK_OK;
        }
        index = (uint32_t)(words[1] >> 48);
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
    uint32_t index = head;

    begin(chain);
    chain->id = head;
    chain->places = 1;
    for (uint32_t steps = 0; steps < ring->size; steps++) {
        uint64_t address;
        uint64_t rest;
        uint32_t flags;

        if (index >= ring->size) {
            return refuse(chain, "a descriptor out of the ring");
        }
        address = ski_door_load64(&ring->descriptors[index].address);
        rest = ski_door_load64(&ring->descriptors[index].rest);
        flags = (uint32_t)(rest >> 32) & 0xffff;
        if ((flags & SKI_RING_INDIRECT) != 0) {
            return (flags & SKI_RING_NEXT) != 0
                       ? refuse(chain, "a table with a link")
                       : read_linked_table(chain, view, address, (uint32_t)rest);
        }
        if (add(chain, view, address, (uint32_t)rest, (flags & SKI_RING_WRITE) != 0) != SK_OK) {
            return SK_ERR_MALFORMED;
        }
        if ((flags & SKI_RING_NEXT) == 0) {
            return SK_OK;
        }
        index = (uint32_t)(rest >> 48);
    }
    return refuse(chain, "a loop in the ring");
}

/* 2.8.7: all entries of the table, one after the other. */
static enum sk_status read_plain_table(struct ski_device_chain *chain,
                                       struct ski_device_view *view, uint64_t address,
                                       uint32_t length)
{
    struct table table;

    if (find_table(chain, view, address, length, &table) != SK_OK) {
        return SK_ERR_MALFORMED;
    }
    for (uint32_t i = 0; i < table.count; i++) {
        uint64_t words[2];

        if (!load_entry(&table, i, words)) {
            return refuse(chain, "a table outside of the memory");
        }
        if (add(chain, view, words[0], (uint32_t)words[1],
                (words[1] >> 48 & SKI_RING_WRITE) != 0) != SK_OK) {
            return SK_ERR_MALFORMED; /* at the latest when no more pieces fit */
        }
    }
    return SK_OK;
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
    begin(chain);
    for (uint32_t i = 0; i < chain->places; i++) {
        uint64_t rest = descriptors[i].rest;
        uint32_t flags = (uint32_t)(rest >> 48);

        if ((flags & SKI_RING_INDIRECT) != 0) {
            return chain->places != 1
                       ? refuse(chain, "a table with a link")
                       : read_plain_table(chain, view, descriptors[i].address, (uint32_t)rest);
        }
        if (add(chain, view, descriptors[i].address, (uint32_t)rest,
                (flags & SKI_RING_WRITE) != 0) != SK_OK) {
            return SK_ERR_MALFORMED;
        }
    }
    return SK_OK;
}
