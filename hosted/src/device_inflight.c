/* SPDX-License-Identifier: MIT */
#include "device_inflight.h"

#include <stdlib.h>

#define VERSION 1u

/* Places in the words of a packed region. */
#define NEXT_WORD 1 /* 16-bit words of `links` */

uint64_t ski_device_inflight_bytes(bool is_packed, uint32_t ring_size)
{
    uint64_t bytes = is_packed ? sizeof(struct ski_inflight_packed_region) +
                                     ring_size * sizeof(struct ski_inflight_packed_entry)
                               : sizeof(struct ski_inflight_split_region) +
                                     ring_size * sizeof(struct ski_inflight_split_entry);

    return (bytes + 63) & ~UINT64_C(63);
}

enum sk_status ski_device_inflight_open(struct ski_device_inflight *inflight,
                                        uint8_t SKI_SHARED *region, bool is_packed,
                                        uint16_t ring_size)
{
    uint16_t *tables = calloc(3 * (size_t)ring_size, sizeof(*tables));

    if (tables == NULL) {
        return SK_ERR_NO_MEMORY;
    }
    *inflight = (struct ski_device_inflight){ .is_packed = is_packed,
                                              .count = ring_size,
                                              .next = tables,
                                              .last = tables + ring_size,
                                              .resubmit = tables + 2 * (size_t)ring_size };
    if (is_packed) {
        inflight->packed = (struct ski_inflight_packed_region SKI_SHARED *)(void SKI_SHARED *)region;
        inflight->packed_entries = (struct ski_inflight_packed_entry SKI_SHARED *)(void SKI_SHARED *)(
            region + sizeof(struct ski_inflight_packed_region));
    } else {
        inflight->split = (struct ski_inflight_split_region SKI_SHARED *)(void SKI_SHARED *)region;
        inflight->split_entries = (struct ski_inflight_split_entry SKI_SHARED *)(void SKI_SHARED *)(
            region + sizeof(struct ski_inflight_split_region));
    }
    return SK_OK;
}

void ski_device_inflight_close(struct ski_device_inflight *inflight)
{
    free(inflight->next);
    *inflight = (struct ski_device_inflight){ 0 };
}

bool ski_device_inflight_is_live(const struct ski_device_inflight *inflight)
{
    return ski_door_load16(inflight->is_packed ? &inflight->packed->version
                                               : &inflight->split->version) == VERSION;
}

void ski_device_inflight_end(struct ski_device_inflight *inflight)
{
    ski_door_before_a_kill();
    ski_door_store16(inflight->is_packed ? &inflight->packed->version : &inflight->split->version,
                     0);
}

/* Entries in the order in which they were taken. */
struct found {
    uint64_t counter;
    uint16_t entry;
};

static int earlier(const void *left, const void *right)
{
    uint64_t a = ((const struct found *)left)->counter;
    uint64_t b = ((const struct found *)right)->counter;

    return (a > b) - (a < b);
}

static void sort_found(struct ski_device_inflight *inflight, struct found *found, uint32_t count)
{
    qsort(found, count, sizeof(*found), earlier);
    for (uint32_t i = 0; i < count; i++) {
        inflight->resubmit[i] = found[i].entry;
    }
    inflight->resubmit_count = count;
    inflight->counter = count > 0 ? found[count - 1].counter + 1 : 0;
}

/* ---- Split ------------------------------------------------------------------------------- */

void ski_device_inflight_begin_split(struct ski_device_inflight *inflight,
                                     const struct ski_device_split *ring)
{
    struct ski_inflight_split_region SKI_SHARED *region = inflight->split;

    ski_door_store64(&region->features, 0);
    ski_door_store16(&region->count, inflight->count);
    ski_door_store16(&region->last_batch_head, 0);
    ski_door_store16(&region->used_index, ring->given);
    for (uint32_t i = 0; i < inflight->count; i++) {
        ski_door_store8(&inflight->split_entries[i].inflight, 0);
    }
    inflight->counter = 0;
    inflight->last_batch_head = 0;
    inflight->batch_count = 0;
    inflight->resubmit_count = 0;
    ski_door_before_a_kill();
    ski_door_store16(&region->version, VERSION);
}

/* The ring shows a batch that was not committed: forget it now. */
static void forget_last_batch(struct ski_device_inflight *inflight, uint16_t used)
{
    uint16_t batch = (uint16_t)(used - ski_door_load16(&inflight->split->used_index));
    uint32_t entry = ski_door_load16(&inflight->split->last_batch_head);

    for (uint32_t i = 0; i < batch && i < inflight->count && entry < inflight->count; i++) {
        ski_door_store8(&inflight->split_entries[entry].inflight, 0);
        entry = ski_door_load16(&inflight->split_entries[entry].next);
    }
    ski_door_before_a_kill();
    ski_door_store16(&inflight->split->used_index, used);
}

enum sk_status ski_device_inflight_recover_split(struct ski_device_inflight *inflight,
                                                 struct ski_device_split *ring)
{
    uint16_t used = ski_device_split_used_index(ring);
    struct found *found;
    uint32_t count = 0;

    if (ski_door_load16(&inflight->split->count) != inflight->count) {
        return SK_ERR_MALFORMED;
    }
    found = calloc(inflight->count, sizeof(*found));
    if (found == NULL) {
        return SK_ERR_NO_MEMORY;
    }
    forget_last_batch(inflight, used);
    for (uint32_t i = 0; i < inflight->count; i++) {
        if (ski_door_load8(&inflight->split_entries[i].inflight) != 0) {
            found[count++] = (struct found){ ski_door_load64(&inflight->split_entries[i].counter),
                                             (uint16_t)i };
        }
    }
    sort_found(inflight, found, count);
    free(found);
    inflight->batch_count = 0;
    inflight->last_batch_head = ski_door_load16(&inflight->split->last_batch_head);
    ski_device_split_seek(ring, (uint16_t)(used + count), used);
    return SK_OK;
}

void ski_device_inflight_take_split(struct ski_device_inflight *inflight, uint16_t head)
{
    struct ski_inflight_split_entry SKI_SHARED *entry = &inflight->split_entries[head];

    ski_door_store64(&entry->counter, inflight->counter++);
    ski_door_before_a_kill();
    ski_door_store8(&entry->inflight, 1);
    ski_door_before_a_kill();
}

void ski_device_inflight_give_split(struct ski_device_inflight *inflight, uint16_t head)
{
    inflight->batch[inflight->batch_count++] = head;
    ski_door_store16(&inflight->split_entries[head].next, inflight->last_batch_head);
    ski_door_before_a_kill();
    inflight->last_batch_head = head;
    ski_door_store16(&inflight->split->last_batch_head, head);
    ski_door_before_a_kill();
}

void ski_device_inflight_commit_split(struct ski_device_inflight *inflight,
                                      const struct ski_device_split *ring)
{
    ski_door_before_a_kill();
    for (uint32_t i = 0; i < inflight->batch_count; i++) {
        ski_door_store8(&inflight->split_entries[inflight->batch[i]].inflight, 0);
    }
    inflight->batch_count = 0;
    ski_door_before_a_kill();
    ski_door_store16(&inflight->split->used_index, ring->given);
}

/* ---- Packed ------------------------------------------------------------------------------ */

static uint64_t position_word(uint16_t used, bool wrap, uint16_t old_used, bool old_wrap)
{
    return used | (uint64_t)old_used << 16 | (uint64_t)wrap << 32 | (uint64_t)old_wrap << 40;
}

static uint64_t links_word(bool taken, uint16_t next, uint16_t last, uint32_t number)
{
    return (uint64_t)taken | (uint64_t)next << 16 | (uint64_t)last << 32 | (uint64_t)number << 48;
}

static void store_next(struct ski_device_inflight *inflight, uint16_t entry, uint16_t next)
{
    sk_le16 SKI_SHARED *words =
        (sk_le16 SKI_SHARED *)(void SKI_SHARED *)&inflight->packed_entries[entry].links;

    inflight->next[entry] = next;
    ski_door_store16(words + NEXT_WORD, next);
}

static void store_taken(struct ski_device_inflight *inflight, uint16_t entry, bool taken)
{
    ski_door_store8((uint8_t SKI_SHARED *)(void SKI_SHARED *)&inflight->packed_entries[entry].links,
                    taken);
}

void ski_device_inflight_begin_packed(struct ski_device_inflight *inflight,
                                      const struct ski_device_packed *ring)
{
    struct ski_inflight_packed_region SKI_SHARED *region = inflight->packed;

    ski_door_store64(&region->features, 0);
    ski_door_store16(&region->count, inflight->count);
    ski_door_store16(&region->free_head, 0);
    ski_door_store16(&region->old_free_head, 0);
    ski_door_store64(&region->position,
                     position_word(ring->used, ring->used_wrap, ring->used, ring->used_wrap));
    for (uint32_t i = 0; i < inflight->count; i++) {
        uint16_t next = (uint16_t)(i + 1 == inflight->count ? SKI_DEVICE_NO_ENTRY : i + 1);

        inflight->next[i] = next;
        ski_door_store64(&inflight->packed_entries[i].links, links_word(false, next, 0, 0));
    }
    inflight->counter = 0;
    inflight->free_head = 0;
    inflight->batch_count = 0;
    inflight->resubmit_count = 0;
    inflight->committed_used = ring->used;
    inflight->committed_wrap = ring->used_wrap;
    ski_door_before_a_kill();
    ski_door_store16(&region->version, VERSION);
}

/*
 * A batch is written from its second chain on, so one that was not published
 * may have left descriptors behind that look used.  They get the marks of
 * available ones again: else a driver would take them for used as soon as the
 * one before is.  What else they say was copied long ago.
 */
static void unmark(const struct ski_device_packed *ring, uint32_t from, bool wrap, uint32_t to)
{
    do {
        ski_door_store64(&ring->descriptors[from].rest,
                         ski_ring_packed_rest(0, 0, ski_device_packed_available(wrap)));
        if (++from == ring->size) {
            from = 0;
            wrap = !wrap;
        }
    } while (from != to);
}

/*
 * Decides what the last batch came to.  A sealed batch whose first descriptor
 * in the ring is not as the driver made it was published: it is committed.
 * Else it was not, and all of it is undone.  A batch may fill the whole ring:
 * then only the wrap counters differ.
 */
static bool settle_last_batch(struct ski_device_inflight *inflight,
                              const struct ski_device_packed *ring)
{
    struct ski_inflight_packed_region SKI_SHARED *region = inflight->packed;
    uint64_t position = ski_door_load64(&region->position);
    uint16_t used = (uint16_t)position;
    uint16_t old_used = (uint16_t)(position >> 16);
    bool wrap = (position >> 32 & 0xff) != 0;
    bool old_wrap = (position >> 40 & 0xff) != 0;
    bool sealed = used != old_used || wrap != old_wrap;

    if (used >= ring->size || old_used >= ring->size) {
        return false;
    }
    if (sealed && !ski_device_packed_is_available(
                      (uint32_t)(ski_device_packed_rest(ring, old_used) >> 48), old_wrap)) {
        old_used = used;
        old_wrap = wrap;
        ski_door_store16(&region->old_free_head, ski_door_load16(&region->free_head));
    } else {
        if (sealed) {
            unmark(ring, old_used, old_wrap, used);
        }
        ski_door_store16(&region->free_head, ski_door_load16(&region->old_free_head));
    }
    ski_door_before_a_kill();
    ski_door_store64(&region->position, position_word(old_used, old_wrap, old_used, old_wrap));
    inflight->committed_used = old_used;
    inflight->committed_wrap = old_wrap;
    return true;
}

/* Copies the list of free entries, and says of each that it is not in flight. */
static void copy_free_list(struct ski_device_inflight *inflight, uint8_t *is_free)
{
    uint32_t entry = ski_door_load16(&inflight->packed->old_free_head);
    uint16_t *link = &inflight->free_head;

    while (entry < inflight->count && is_free[entry] == 0) {
        uint64_t links = ski_door_load64(&inflight->packed_entries[entry].links);

        is_free[entry] = 1;
        *link = (uint16_t)entry;
        link = &inflight->next[entry];
        store_taken(inflight, (uint16_t)entry, false);
        entry = (uint32_t)(links >> 16) & 0xffff;
    }
    *link = SKI_DEVICE_NO_ENTRY;
}

/* One chain in flight: its links, copied, each entry in one chain only. */
static bool copy_chain(struct ski_device_inflight *inflight, uint16_t head, uint8_t *is_known,
                       uint32_t *out_number)
{
    uint64_t links = ski_door_load64(&inflight->packed_entries[head].links);
    uint32_t number = (uint32_t)(links >> 48);
    uint32_t entry = head;

    *out_number = number;
    for (uint32_t i = 0; i < number; i++) {
        if (entry >= inflight->count || is_known[entry] != 0) {
            return false;
        }
        is_known[entry] = 1;
        inflight->last[head] = (uint16_t)entry;
        links = ski_door_load64(&inflight->packed_entries[entry].links);
        inflight->next[entry] = (uint16_t)(links >> 16);
        entry = inflight->next[entry];
    }
    return number > 0 && number <= SKI_DEVICE_PIECES_MAX;
}

static enum sk_status find_chains(struct ski_device_inflight *inflight, struct found *found,
                                  uint8_t *is_known, uint32_t *out_descriptors)
{
    uint32_t count = 0;

    *out_descriptors = 0;
    copy_free_list(inflight, is_known);
    for (uint32_t i = 0; i < inflight->count; i++) {
        struct ski_inflight_packed_entry SKI_SHARED *entry = &inflight->packed_entries[i];
        uint32_t number;

        if (is_known[i] != 0 || (ski_door_load64(&entry->links) & 0xff) == 0) {
            continue;
        }
        if (!copy_chain(inflight, (uint16_t)i, is_known, &number)) {
            return SK_ERR_MALFORMED;
        }
        *out_descriptors += number;
        found[count++] = (struct found){ ski_door_load64(&entry->counter), (uint16_t)i };
    }
    sort_found(inflight, found, count);
    return SK_OK;
}

enum sk_status ski_device_inflight_recover_packed(struct ski_device_inflight *inflight,
                                                  struct ski_device_packed *ring)
{
    struct found *found;
    uint8_t *is_known;
    uint32_t descriptors;
    enum sk_status status = SK_ERR_MALFORMED;

    if (ski_door_load16(&inflight->packed->count) != inflight->count) {
        return SK_ERR_MALFORMED;
    }
    found = calloc(inflight->count, sizeof(*found));
    is_known = calloc(inflight->count, sizeof(*is_known));
    if (found == NULL || is_known == NULL) {
        status = SK_ERR_NO_MEMORY;
        goto free_tables;
    }
    if (!settle_last_batch(inflight, ring) ||
        find_chains(inflight, found, is_known, &descriptors) != SK_OK) {
        goto free_tables;
    }
    inflight->batch_count = 0;
    ski_device_packed_seek(ring, inflight->committed_used, inflight->committed_wrap,
                           (uint16_t)descriptors);
    status = SK_OK;
free_tables:
    free(found);
    free(is_known);
    return status;
}

enum sk_status ski_device_inflight_load_packed(const struct ski_device_inflight *inflight,
                                               uint16_t entry, struct ski_device_chain *chain,
                                               struct ski_device_descriptor *descriptors)
{
    uint16_t last = inflight->last[entry];

    chain->places = 0;
    for (;;) {
        struct ski_inflight_packed_entry SKI_SHARED *from = &inflight->packed_entries[entry];
        uint64_t rest = ski_door_load64(&from->rest);

        if (chain->places == SKI_DEVICE_PIECES_MAX) {
            chain->fault = "a record longer than a chain";
            return SK_ERR_MALFORMED;
        }
        descriptors[chain->places++] = (struct ski_device_descriptor){
            .address = ski_door_load64(&from->address),
            .rest = ski_ring_packed_rest((uint32_t)(rest >> 32), rest & 0xffff,
                                         (uint32_t)(rest >> 16) & 0xffff),
        };
        chain->id = rest & 0xffff;
        if (entry == last) {
            return SK_OK;
        }
        entry = inflight->next[entry];
    }
}

uint16_t ski_device_inflight_take_packed(struct ski_device_inflight *inflight,
                                         const struct ski_device_descriptor *descriptors,
                                         uint32_t count)
{
    uint16_t head = inflight->free_head;
    uint16_t entry = head;
    uint16_t last = head;

    for (uint32_t i = 0; i < count; i++) {
        uint64_t rest = descriptors[i].rest;
        struct ski_inflight_packed_entry SKI_SHARED *to;

        if (entry == SKI_DEVICE_NO_ENTRY) {
            return SKI_DEVICE_NO_ENTRY;
        }
        to = &inflight->packed_entries[entry];
        ski_door_store64(&to->address, descriptors[i].address);
        ski_door_store64(&to->rest, (rest >> 32) | rest << 32);
        last = entry;
        entry = inflight->next[entry];
    }
    ski_door_store64(&inflight->packed_entries[head].counter, inflight->counter++);
    ski_door_store64(&inflight->packed_entries[head].links,
                     links_word(true, inflight->next[head], last, count));
    ski_door_before_a_kill(); /* it is in flight when it leaves the list of free ones */
    inflight->last[head] = last;
    inflight->free_head = entry;
    ski_door_store32((sk_le32 SKI_SHARED *)(void SKI_SHARED *)&inflight->packed->free_head,
                     entry | (uint32_t)entry << 16);
    ski_door_before_a_kill();
    return head;
}

void ski_device_inflight_give_packed(struct ski_device_inflight *inflight, uint16_t entry,
                                     const struct ski_device_packed *ring, uint32_t places)
{
    uint32_t used = ring->used + places;
    bool wraps = used >= ring->size;

    inflight->batch[inflight->batch_count++] = entry;
    store_next(inflight, inflight->last[entry], inflight->free_head);
    ski_door_before_a_kill();
    inflight->free_head = entry;
    ski_door_store16(&inflight->packed->free_head, entry);
    ski_door_store64(&inflight->packed->position,
                     position_word((uint16_t)(wraps ? used - ring->size : used),
                                   ring->used_wrap != wraps, inflight->committed_used,
                                   inflight->committed_wrap));
    ski_door_before_a_kill();
}

void ski_device_inflight_commit_packed(struct ski_device_inflight *inflight,
                                       const struct ski_device_packed *ring)
{
    ski_door_before_a_kill();
    for (uint32_t i = 0; i < inflight->batch_count; i++) {
        store_taken(inflight, inflight->batch[i], false);
    }
    inflight->batch_count = 0;
    inflight->committed_used = ring->used;
    inflight->committed_wrap = ring->used_wrap;
    ski_door_store16(&inflight->packed->old_free_head, inflight->free_head);
    ski_door_before_a_kill();
    ski_door_store64(&inflight->packed->position,
                     position_word(ring->used, ring->used_wrap, ring->used, ring->used_wrap));
}
