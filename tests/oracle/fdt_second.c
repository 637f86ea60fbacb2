/* SPDX-License-Identifier: MIT */
#include "oracle/fdt_second.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <libfdt.h>

#include "oracle/fdt_oracle.h"

__extension__ typedef unsigned __int128 u128;

#define U64_END ((u128)1 << 64)

void fdt_second_fail(const char *file, int line, const char *what)
{
    (void)fprintf(stderr, "%s\n%s:%d: not so: %s\n", fdt_oracle_context, file, line, what);
    abort();
}

static u128 number(const fdt32_t *cells, int count)
{
    u128 value = 0;

    for (int i = 0; i < count; i++) {
        value = value << 32 | fdt32_ld(cells + i);
    }
    return value;
}

/* The address list that a bus gives to what is above it. */
struct list {
    const fdt32_t *cells;
    int count;
    int child;
    int parent;
    int size;
    enum sk_status status;
};

struct entry {
    u128 child;
    u128 parent;
    u128 bytes;
};

static struct list open_list(const void *fdt, int bus, const char *name)
{
    struct list list = { .status = SK_ERR_MALFORMED };
    int bytes = 0;
    int up = fdt_parent_offset(fdt, bus);

    list.cells = fdt_getprop(fdt, bus, name, &bytes);
    if (list.cells == NULL) {
        list.status = SK_ERR_NOT_FOUND;
        return list;
    }
    list.child = fdt_address_cells(fdt, bus);
    list.size = fdt_size_cells(fdt, bus);
    list.parent = fdt_address_cells(fdt, up);
    if (list.child < 0 || list.size < 0 || list.parent < 0 || fdt_size_cells(fdt, up) < 0 ||
        bytes % (4 * (list.child + list.parent + list.size)) != 0) {
        return list;
    }
    list.count = bytes / (4 * (list.child + list.parent + list.size));
    list.status = SK_OK;
    return list;
}

static struct entry entry_of(const struct list *list, int index)
{
    const fdt32_t *cells = list->cells + index * (list->child + list->parent + list->size);
    struct entry entry = { number(cells, list->child), number(cells + list->child, list->parent),
                           number(cells + list->child + list->parent, list->size) };

    return entry;
}

/* Up through one bus. */
static enum sk_status up_through(const struct list *list, u128 bytes, u128 *address)
{
    for (int i = 0; i < list->count; i++) {
        struct entry entry = entry_of(list, i);
        u128 low = (uint64_t)*address;
        u128 child = (uint64_t)entry.child;

        if (entry.bytes >= U64_END) {
            return SK_ERR_MALFORMED;
        }
        if (*address >> 64 == entry.child >> 64 && low >= child &&
            low - child + bytes <= entry.bytes) {
            u128 moved = (u128)(uint64_t)entry.parent + (low - child);

            *address = (entry.parent >> 64 << 64) + moved;
            return moved < U64_END ? SK_OK : SK_ERR_MALFORMED;
        }
    }
    return list->count == 0 ? SK_OK : SK_ERR_UNREACHABLE;
}

enum sk_status fdt_second_range(const void *fdt, int node, uint32_t index,
                                struct sk_device_range *out_range)
{
    int length = 0;
    const fdt32_t *reg = fdt_getprop(fdt, node, "reg", &length);
    int bus = fdt_parent_offset(fdt, node);
    int address_cells = fdt_address_cells(fdt, bus);
    int size_cells = fdt_size_cells(fdt, bus);
    u128 address;
    u128 bytes;

    if (reg == NULL || bus < 0) {
        return SK_ERR_NOT_FOUND;
    }
    if (address_cells < 0 || size_cells < 0 || length % (4 * (address_cells + size_cells)) != 0) {
        return SK_ERR_MALFORMED;
    }
    if (index >= (unsigned)length / (4 * (unsigned)(address_cells + size_cells))) {
        return SK_ERR_NOT_FOUND;
    }
    if (size_cells == 0) {
        return SK_ERR_UNREACHABLE;
    }
    reg += index * (unsigned)(address_cells + size_cells);
    address = number(reg, address_cells);
    bytes = number(reg + address_cells, size_cells);
    if (bytes >= U64_END) {
        return SK_ERR_MALFORMED;
    }
    for (; fdt_parent_offset(fdt, bus) >= 0; bus = fdt_parent_offset(fdt, bus)) {
        struct list list = open_list(fdt, bus, "ranges");
        enum sk_status status =
            list.status == SK_OK ? up_through(&list, bytes, &address) : list.status;

        if (status != SK_OK) {
            return status == SK_ERR_NOT_FOUND ? SK_ERR_UNREACHABLE : status;
        }
    }
    if (address >= U64_END || address + bytes > U64_END) {
        return SK_ERR_MALFORMED;
    }
    *out_range = (struct sk_device_range) { { (uint64_t)address }, (uint64_t)bytes };
    return SK_OK;
}

/* One cell that must be exactly one; -1: none, -2: another length. */
static int64_t one_cell(const void *fdt, int node, const char *name)
{
    int length = 0;
    const fdt32_t *value = fdt_getprop(fdt, node, name, &length);

    return value == NULL ? -1 : length != 4 ? -2 : (int64_t)fdt32_ld(value);
}

static int interrupt_parent(const void *fdt, int node)
{
    while (node >= 0) {
        int64_t phandle = one_cell(fdt, node, "interrupt-parent");

        if (phandle >= 0) {
            return fdt_node_offset_by_phandle(fdt, (uint32_t)phandle);
        }
        if (phandle == -2) {
            return -1;
        }
        node = fdt_parent_offset(fdt, node);
        if (node >= 0 && fdt_getprop(fdt, node, "#interrupt-cells", NULL) != NULL) {
            return node;
        }
    }
    return -1;
}

static enum sk_status fill_interrupt(const void *fdt, int controller, const fdt32_t *cells,
                                     int64_t count, struct sk_interrupt *out)
{
    if (count > SK_INTERRUPT_CELLS || fdt_getprop(fdt, controller, "interrupt-map", NULL) != NULL) {
        return SK_ERR_UNSUPPORTED;
    }
    out->controller = fdt_get_phandle(fdt, controller);
    out->cell_count = (uint32_t)count;
    for (int i = 0; i < (int)count; i++) {
        out->cells[i] = fdt32_ld(cells + i);
    }
    return SK_OK;
}

static enum sk_status second_extended(const void *fdt, const fdt32_t *list, int length,
                                      uint32_t index, struct sk_interrupt *out)
{
    int64_t left = length;

    for (uint32_t i = 0; left > 0; i++) {
        int controller;
        int64_t count;

        if (left < 4) {
            return SK_ERR_MALFORMED;
        }
        controller = fdt_node_offset_by_phandle(fdt, fdt32_ld(list));
        count = controller < 0 ? -1 : one_cell(fdt, controller, "#interrupt-cells");
        if (count < 1 || left < 4 + 4 * count) {
            return SK_ERR_MALFORMED;
        }
        if (i == index) {
            return fill_interrupt(fdt, controller, list + 1, count, out);
        }
        list += 1 + count;
        left -= 4 + 4 * count;
    }
    return SK_ERR_NOT_FOUND;
}

enum sk_status fdt_second_interrupt(const void *fdt, int node, uint32_t index,
                                    struct sk_interrupt *out_interrupt)
{
    int length = 0;
    const fdt32_t *list = fdt_getprop(fdt, node, "interrupts-extended", &length);
    int controller;
    int64_t count;

    if (list != NULL) {
        return second_extended(fdt, list, length, index, out_interrupt);
    }
    list = fdt_getprop(fdt, node, "interrupts", &length);
    if (list == NULL) {
        return SK_ERR_NOT_FOUND;
    }
    controller = interrupt_parent(fdt, node);
    count = controller < 0 ? -1 : one_cell(fdt, controller, "#interrupt-cells");
    if (count < 1 || length % (4 * count) != 0) {
        return SK_ERR_MALFORMED;
    }
    if (index >= length / (4 * count)) {
        return SK_ERR_NOT_FOUND;
    }
    return fill_interrupt(fdt, controller, list + index * count, count, out_interrupt);
}

bool fdt_second_is_enabled(const void *fdt, int node)
{
    const char *status;
    int parent;

    if (fdt_getprop(fdt, node, "status", NULL) != NULL) {
        status = fdt_stringlist_get(fdt, node, "status", 0, NULL);
        if (status == NULL || (strcmp(status, "okay") != 0 && strcmp(status, "ok") != 0)) {
            return false;
        }
    }
    parent = fdt_parent_offset(fdt, node);
    return parent < 0 || fdt_second_is_enabled(fdt, parent);
}

enum sk_fdt_coherence fdt_second_coherence(const void *fdt, int node)
{
    int parent;

    if (fdt_getprop(fdt, node, "dma-noncoherent", NULL) != NULL) {
        return SK_FDT_COHERENCE_NONCOHERENT;
    }
    if (fdt_getprop(fdt, node, "dma-coherent", NULL) != NULL) {
        return SK_FDT_COHERENCE_COHERENT;
    }
    parent = fdt_parent_offset(fdt, node);
    return parent < 0 ? SK_FDT_COHERENCE_UNSAID : fdt_second_coherence(fdt, parent);
}

/* An entry of `dma-ranges`: the kind of space of a three-cell address is no part of it. */
static struct entry dma_entry(const struct list *list, int index)
{
    struct entry entry = entry_of(list, index);

    if (list->child == 3) {
        entry.child = (uint64_t)entry.child;
    }
    if (list->parent == 3) {
        entry.parent = (uint64_t)entry.parent;
    }
    return entry;
}

static void reach_from(const void *fdt, int bus, u128 address, uint64_t *out, size_t *count)
{
    struct list list;

    if (fdt_parent_offset(fdt, bus) < 0) {
        CHECK(*count < FDT_SECOND_REACH_MAX);
        out[(*count)++] = (uint64_t)address;
        return;
    }
    list = open_list(fdt, bus, "dma-ranges");
    if (list.count == 0) {
        reach_from(fdt, fdt_parent_offset(fdt, bus), address, out, count);
    }
    for (int i = 0; i < list.count; i++) {
        struct entry entry = dma_entry(&list, i);

        if (address >= entry.child && address - entry.child < entry.bytes) {
            reach_from(fdt, fdt_parent_offset(fdt, bus), entry.parent + (address - entry.child),
                       out, count);
        }
    }
}

size_t fdt_second_reach(const void *fdt, int node, uint64_t daddr, uint64_t *out_paddrs)
{
    int bus = fdt_parent_offset(fdt, node);
    size_t count = 0;

    reach_from(fdt, bus < 0 ? node : bus, daddr, out_paddrs, &count);
    return count;
}

size_t fdt_second_probes(const void *fdt, int node, uint64_t *out_probes, size_t capacity)
{
    size_t count = 0;
    int bus = fdt_parent_offset(fdt, node);

    for (; bus >= 0 && fdt_parent_offset(fdt, bus) >= 0; bus = fdt_parent_offset(fdt, bus)) {
        struct list list = open_list(fdt, bus, "dma-ranges");

        for (int i = 0; i < list.count && count + 4 <= capacity; i++) {
            struct entry entry = dma_entry(&list, i);

            out_probes[count++] = (uint64_t)entry.child;
            out_probes[count++] = (uint64_t)entry.child - 1;
            out_probes[count++] = (uint64_t)(entry.child + entry.bytes);
            out_probes[count++] = (uint64_t)(entry.child + entry.bytes - 1);
        }
    }
    return count;
}

/* A piece of the device's addresses on its way up, as [daddr, daddr + bytes) at `at`. */
struct piece {
    u128 daddr;
    u128 at;
    u128 bytes;
};

static bool entry_is_malformed(const struct entry *entry)
{
    return entry->bytes != 0 &&
           (entry->child + entry->bytes > U64_END || entry->parent + entry->bytes > U64_END);
}

/* Moves all pieces through one bus. */
static enum sk_status move_pieces(const struct list *list, struct piece *pieces, size_t *count)
{
    struct piece moved[SK_FDT_DMA_WINDOWS_MAX];
    size_t moved_count = 0;

    for (int i = 0; i < list->count; i++) {
        struct entry entry = dma_entry(list, i);

        if (entry.bytes >= U64_END || entry_is_malformed(&entry)) {
            return SK_ERR_MALFORMED;
        }
        for (size_t j = 0; j < *count; j++) {
            u128 from = pieces[j].at > entry.child ? pieces[j].at : entry.child;
            u128 end = pieces[j].at + pieces[j].bytes;

            end = end < entry.child + entry.bytes ? end : entry.child + entry.bytes;
            if (from >= end) {
                continue;
            }
            if (moved_count == SK_FDT_DMA_WINDOWS_MAX) {
                return SK_ERR_RANGE;
            }
            moved[moved_count++] =
                (struct piece) { pieces[j].daddr + (from - pieces[j].at),
                                 entry.parent + (from - entry.child), end - from };
        }
    }
    memcpy(pieces, moved, moved_count * sizeof(moved[0]));
    *count = moved_count;
    return moved_count == 0 ? SK_ERR_UNREACHABLE : SK_OK;
}

enum sk_status fdt_second_windows_status(const void *fdt, int node)
{
    struct piece pieces[SK_FDT_DMA_WINDOWS_MAX] = { { 0, 0, UINT64_MAX } };
    size_t count = 1;
    int bus = fdt_parent_offset(fdt, node);

    for (; bus >= 0 && fdt_parent_offset(fdt, bus) >= 0; bus = fdt_parent_offset(fdt, bus)) {
        struct list list = open_list(fdt, bus, "dma-ranges");
        enum sk_status status = list.status;

        if (status == SK_OK && list.count > 0) {
            status = move_pieces(&list, pieces, &count);
        }
        if (status != SK_OK && status != SK_ERR_NOT_FOUND) {
            return status;
        }
    }
    return SK_OK;
}

/* The `*index`th range of one node; a `reg` that cannot be read counts as one. */
static enum sk_status second_take(const void *fdt, int node, uint32_t *index,
                                  struct sk_device_range *out_range)
{
    enum sk_status status;

    for (uint32_t i = 0;; i++) {
        status = fdt_second_range(fdt, node, i, out_range);
        if (status == SK_ERR_NOT_FOUND || (*index)-- == 0) {
            return status;
        }
        if (i == 0 && fdt_second_range(fdt, node, UINT32_MAX, out_range) == SK_ERR_MALFORMED) {
            return SK_ERR_NOT_FOUND;
        }
    }
}

enum sk_status fdt_second_memory(const void *fdt, uint32_t index, struct sk_device_range *out_range)
{
    int node;

    fdt_for_each_subnode(node, fdt, 0)
    {
        const char *type = fdt_stringlist_get(fdt, node, "device_type", 0, NULL);

        if (type != NULL && strcmp(type, "memory") == 0 && fdt_second_is_enabled(fdt, node)) {
            enum sk_status status = second_take(fdt, node, &index, out_range);

            if (status != SK_ERR_NOT_FOUND) {
                return status;
            }
        }
    }
    return SK_ERR_NOT_FOUND;
}

bool fdt_second_sees_all_reservations(const void *fdt)
{
    uint64_t base = 0;
    uint64_t bytes = 0;

    CHECK(fdt_get_mem_rsv(fdt, fdt_num_mem_rsv(fdt), &base, &bytes) == 0);
    return base == 0;
}

enum sk_status fdt_second_reserved(const void *fdt, uint32_t index,
                                   struct sk_device_range *out_range)
{
    uint32_t entries = (uint32_t)fdt_num_mem_rsv(fdt);
    int parent = fdt_path_offset(fdt, "/reserved-memory");
    uint64_t base = 0;
    uint64_t bytes = 0;
    int node;

    if (index < entries) {
        CHECK(fdt_get_mem_rsv(fdt, (int)index, &base, &bytes) == 0);
        if ((u128)base + bytes > U64_END) {
            return SK_ERR_MALFORMED;
        }
        *out_range = (struct sk_device_range) { { base }, bytes };
        return SK_OK;
    }
    index -= entries;
    if (parent < 0) {
        return SK_ERR_NOT_FOUND;
    }
    fdt_for_each_subnode(node, fdt, parent)
    {
        enum sk_status status = fdt_second_is_enabled(fdt, node)
                                    ? second_take(fdt, node, &index, out_range)
                                    : SK_ERR_NOT_FOUND;

        if (status != SK_ERR_NOT_FOUND) {
            return status;
        }
    }
    return SK_ERR_NOT_FOUND;
}

static enum sk_status second_string(const void *fdt, const char *path, const char *name,
                                    const char **out_string)
{
    int node = fdt_path_offset(fdt, path);
    int length = -FDT_ERR_NOTFOUND;

    *out_string = node < 0 ? NULL : fdt_stringlist_get(fdt, node, name, 0, &length);
    return *out_string != NULL           ? SK_OK
           : length == -FDT_ERR_NOTFOUND ? SK_ERR_NOT_FOUND
                                         : SK_ERR_MALFORMED;
}

enum sk_status fdt_second_bootargs(const void *fdt, const char **out_bootargs)
{
    return second_string(fdt, "/chosen", "bootargs", out_bootargs);
}

enum sk_status fdt_second_stdout(const void *fdt, int *out_node)
{
    const char *path = NULL;
    char whole[8192];
    size_t bytes;
    enum sk_status status = second_string(fdt, "/chosen", "stdout-path", &path);

    if (status == SK_ERR_NOT_FOUND) {
        status = second_string(fdt, "/chosen", "linux,stdout-path", &path);
    }
    if (status != SK_OK) {
        return status;
    }
    bytes = strcspn(path, ":");
    CHECK(bytes < sizeof(whole) / 2);
    if (path[0] != '/') {
        char alias[4097];
        size_t alias_bytes = strcspn(path, ":/");
        int length = 0;
        const char *value;

        (void)snprintf(alias, sizeof(alias), "%.*s", (int)alias_bytes, path);
        value = fdt_path_offset(fdt, "/aliases") < 0
                    ? NULL
                    : fdt_getprop(fdt, fdt_path_offset(fdt, "/aliases"), alias, &length);
        if (value == NULL) {
            return SK_ERR_NOT_FOUND;
        }
        if (length < 2 || value[0] != '/' ||
            memchr(value, 0, (size_t)length) != value + length - 1) {
            return SK_ERR_MALFORMED;
        }
        CHECK((size_t)length < sizeof(whole) / 2);
        (void)snprintf(whole, sizeof(whole), "%s%.*s", value, (int)(bytes - alias_bytes),
                       path + alias_bytes);
    } else {
        (void)snprintf(whole, sizeof(whole), "%.*s", (int)bytes, path);
    }
    *out_node = fdt_path_offset(fdt, whole);
    return *out_node >= 0 ? SK_OK : SK_ERR_NOT_FOUND;
}

/* What a walk over all tags finds. */
struct walk {
    int structure_end;
    int depth_max;
    bool late_property;
    bool odd_name; /* beyond the strings' size */
    bool negative; /* a property's length, taken for signed */
    bool root;
};

static struct walk walk_tags(const void *fdt)
{
    struct walk walk = { 0 };
    bool behind_node = false;
    int depth = 0;
    uint32_t tag = FDT_NOP;
    int next = 0;

    while (tag != FDT_END) {
        int at = next;

        tag = fdt_next_tag(fdt, at, &next);
        CHECK(next >= 0);
        depth += tag == FDT_BEGIN_NODE;
        depth -= tag == FDT_END_NODE;
        walk.root |= tag == FDT_BEGIN_NODE;
        walk.depth_max = depth > walk.depth_max ? depth : walk.depth_max;
        walk.late_property |= tag == FDT_PROP && behind_node;
        if (tag == FDT_PROP && fdt_version(fdt) >= 16) {
            const struct fdt_property *property = fdt_offset_ptr(fdt, at, sizeof(*property));

            walk.negative |= fdt32_ld(&property->len) > INT32_MAX;
            walk.odd_name |=
                fdt32_ld(&property->nameoff) >= fdt_size_dt_strings(fdt) ||
                memchr((const char *)fdt + fdt_off_dt_strings(fdt) + fdt32_ld(&property->nameoff),
                       0, fdt_size_dt_strings(fdt) - fdt32_ld(&property->nameoff)) == NULL;
        }
        if (tag == FDT_BEGIN_NODE || tag == FDT_END_NODE) {
            behind_node = tag == FDT_END_NODE;
        }
    }
    walk.structure_end = next;
    return walk;
}

bool fdt_second_hangs(const void *fdt, size_t bytes)
{
    uint32_t tag = FDT_NOP;
    int next = 0;

    if (bytes < sizeof(struct fdt_header) || fdt_check_header(fdt) != 0 ||
        fdt_totalsize(fdt) > bytes) {
        return false;
    }
    while (tag != FDT_END) {
        int at = next;

        tag = fdt_next_tag(fdt, at, &next);
        if (next >= 0 && next <= at) {
            return true;
        }
    }
    return false;
}

/* Where two zeros end the reservation block; 0: nowhere. */
static uint32_t reservations_end(const void *fdt)
{
    const uint8_t *bytes = fdt;

    for (uint32_t at = fdt_off_mem_rsvmap(fdt); at + 16 <= fdt_totalsize(fdt); at += 16) {
        static const uint8_t zeros[16];

        if (memcmp(bytes + at, zeros, 16) == 0) {
            return at + 16;
        }
    }
    return 0;
}

static bool blocks_overlap(const void *fdt, uint32_t structure_end)
{
    uint32_t starts[] = { fdt_off_mem_rsvmap(fdt), fdt_off_dt_struct(fdt),
                          fdt_off_dt_strings(fdt) };
    uint32_t ends[] = { reservations_end(fdt), starts[1] + structure_end,
                        starts[2] + fdt_size_dt_strings(fdt) };

    for (int i = 0; i < 3; i++) {
        for (int j = 0; j < i; j++) {
            if (starts[i] < ends[j] && starts[j] < ends[i]) {
                return true;
            }
        }
    }
    return false;
}

bool fdt_second_excuses_refusal(const void *fdt)
{
    struct walk walk = walk_tags(fdt);

    return fdt_version(fdt) < 16 || fdt_off_mem_rsvmap(fdt) % 8 != 0 ||
           fdt_off_dt_struct(fdt) % 4 != 0 || walk.late_property || !walk.root || walk.negative ||
           walk.depth_max > SK_FDT_DEPTH_MAX || reservations_end(fdt) == 0 ||
           (fdt_version(fdt) == 16 && walk.odd_name) ||
           blocks_overlap(fdt, (uint32_t)walk.structure_end);
}

/* The NOPs between the root's end and the END are made ENDs; then libfdt must agree. */
bool fdt_second_excuses_taking(const void *fdt, size_t bytes)
{
    uint8_t *copy = malloc(bytes);
    uint32_t tag = FDT_NOP;
    int depth = 0;
    int next = 0;
    bool agrees;

    CHECK(copy != NULL);
    memcpy(copy, fdt, bytes);
    while (tag != FDT_END) {
        int at = next;

        tag = fdt_next_tag(fdt, at, &next);
        if (next < 0) {
            break;
        }
        depth += tag == FDT_BEGIN_NODE;
        depth -= tag == FDT_END_NODE;
        if (tag == FDT_NOP && depth == 0 && at > 0) {
            fdt32_st(copy + fdt_off_dt_struct(fdt) + at, FDT_END);
        }
    }
    agrees = fdt_check_full(copy, bytes) == 0;
    free(copy);
    return agrees;
}
