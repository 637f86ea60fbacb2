/* SPDX-License-Identifier: MIT */
#include <skio/fdt.h>

#include <skio/checked.h>

#include "bus/fdt_walk.h"

/* Windows while they are composed; the bus address of a window is its paddr. */
struct windows {
    struct sk_dma_window list[SK_FDT_DMA_WINDOWS_MAX];
    size_t count;
};

static bool has_property(const struct sk_fdt *fdt, const struct sk_fdt_node *node, const char *name)
{
    struct sk_fdt_property property;

    return sk_fdt_property(fdt, node, name, &property) == SK_OK;
}

enum sk_fdt_coherence sk_fdt_get_coherence(const struct sk_fdt *fdt, const struct sk_fdt_node *node)
{
    struct sk_fdt_node at;
    enum sk_status status = node != NULL ? SK_OK : SK_ERR_INVALID;

    if (status == SK_OK) {
        at = *node;
    }
    for (; status == SK_OK; status = sk_fdt_parent(fdt, &at, &at)) {
        /* Both at once: needless cache work is the harmless way to be wrong. */
        if (has_property(fdt, &at, "dma-noncoherent")) {
            return SK_FDT_COHERENCE_NONCOHERENT;
        }
        if (has_property(fdt, &at, "dma-coherent")) {
            return SK_FDT_COHERENCE_COHERENT;
        }
    }
    return SK_FDT_COHERENCE_UNSAID;
}

/* True if [start, start + bytes - 1] is not empty and does not wrap. */
static bool is_range(uint64_t start, uint64_t bytes)
{
    uint64_t last;

    return bytes > 0 && sk_checked_add(start, bytes - 1, &last);
}

/* Adds what of `window` the mapping lets through, seen from the bus above. */
static enum sk_status pass(const struct sk_dma_window *window,
                           const struct ski_fdt_mapping *mapping, struct windows *above)
{
    uint64_t start =
        window->paddr.raw > mapping->child.low ? window->paddr.raw : mapping->child.low;
    uint64_t into_window = start - window->paddr.raw;
    uint64_t into_mapping = start - mapping->child.low;
    uint64_t bytes;

    if (into_window >= window->bytes || into_mapping >= mapping->bytes) {
        return SK_OK;
    }
    bytes = window->bytes - into_window;
    if (bytes > mapping->bytes - into_mapping) {
        bytes = mapping->bytes - into_mapping;
    }
    if (above->count == SK_FDT_DMA_WINDOWS_MAX) {
        return SK_ERR_RANGE;
    }
    above->list[above->count++] =
        (struct sk_dma_window) { sk_paddr_make(mapping->parent.low + into_mapping),
                                 sk_daddr_make(window->daddr.raw + into_window), bytes };
    return SK_OK;
}

/* The kind of space in PCI's first of three cells says nothing about memory's place. */
static void drop_space(const struct ski_fdt_mappings *mappings, struct ski_fdt_mapping *mapping)
{
    if (mappings->child_cells == 3) {
        mapping->child.high = 0;
    }
    if (mappings->parent_cells == 3) {
        mapping->parent.high = 0;
    }
}

static enum sk_status pass_all(const struct windows *below, struct ski_fdt_mappings *mappings,
                               struct windows *above)
{
    enum sk_status status = SK_OK;

    while (status == SK_OK && mappings->count > 0) {
        struct ski_fdt_mapping mapping;

        status = ski_fdt_mappings_take(mappings, &mapping);
        drop_space(mappings, &mapping);
        if (status != SK_OK || mapping.bytes == 0) {
            continue;
        }
        if (mapping.child.high != 0 || mapping.parent.high != 0 ||
            !is_range(mapping.child.low, mapping.bytes) ||
            !is_range(mapping.parent.low, mapping.bytes)) {
            return SK_ERR_MALFORMED;
        }
        for (size_t i = 0; status == SK_OK && i < below->count; i++) {
            status = pass(&below->list[i], &mapping, above);
        }
    }
    return status;
}

/* Makes addresses of `bus` those of its parent.  A bus without a list changes nothing. */
static enum sk_status pass_bus(const struct sk_fdt *fdt, const struct sk_fdt_node *bus,
                               struct windows *windows)
{
    struct windows above = { .count = 0 };
    struct ski_fdt_mappings mappings;
    enum sk_status status = ski_fdt_mappings_open(fdt, bus, "dma-ranges", &mappings);

    if (status == SK_ERR_NOT_FOUND || (status == SK_OK && mappings.count == 0)) {
        return SK_OK;
    }
    if (status == SK_OK) {
        status = pass_all(windows, &mappings, &above);
    }
    if (status == SK_OK && above.count == 0) {
        status = SK_ERR_UNREACHABLE;
    }
    windows->count = above.count;
    for (size_t i = 0; i < above.count; i++) {
        windows->list[i] = above.list[i];
    }
    return status;
}

enum sk_status sk_fdt_dma_windows(const struct sk_fdt *fdt, const struct sk_fdt_node *node,
                                  struct sk_dma_window *out_windows, size_t capacity,
                                  size_t *out_count)
{
    struct windows windows = { .list = { SK_DMA_WINDOW_IDENTITY }, .count = 1 };
    struct sk_fdt_node bus;
    enum sk_status status;

    if (out_count == NULL || (out_windows == NULL && capacity > 0)) {
        return SK_ERR_INVALID;
    }
    *out_count = 0;
    status = sk_fdt_parent(fdt, node, &bus);
    if (status == SK_ERR_NOT_FOUND) { /* the root is on no bus */
        bus.depth = 1;
        status = SK_OK;
    }
    for (; status == SK_OK && bus.depth > 1; bus.depth--) {
        status = pass_bus(fdt, &bus, &windows);
    }
    if (status != SK_OK && status != SK_ERR_RANGE) {
        return status;
    }
    *out_count = windows.count;
    for (size_t i = 0; i < windows.count && i < capacity; i++) {
        out_windows[i] = windows.list[i];
    }
    return windows.count > capacity ? SK_ERR_RANGE : status;
}
