/* SPDX-License-Identifier: MIT */
#include <skio/fdt.h>

#include <skio/checked.h>
#include <skio/endian.h>

#include "bus/fdt_walk.h"

/* Looks up the controller that a cell names. */
static enum sk_status find_controller(const struct sk_fdt *fdt, uint32_t phandle,
                                      struct sk_fdt_node *out_controller)
{
    enum sk_status status = sk_fdt_find_phandle(fdt, phandle, out_controller);

    return status == SK_OK ? SK_OK : SK_ERR_MALFORMED;
}

/*
 * The controller of `interrupts`: what the nearest `interrupt-parent` names, or
 * the nearest ancestor with #interrupt-cells, whichever comes first.
 */
static enum sk_status find_parent(const struct sk_fdt *fdt, const struct sk_fdt_node *node,
                                  struct sk_fdt_node *out_controller)
{
    struct sk_fdt_node at = *node;
    struct sk_fdt_property cells;
    uint32_t phandle;

    for (;;) {
        enum sk_status status = ski_fdt_cell(fdt, &at, "interrupt-parent", &phandle);

        if (status == SK_OK) {
            return find_controller(fdt, phandle, out_controller);
        }
        if (status != SK_ERR_NOT_FOUND || sk_fdt_parent(fdt, &at, &at) != SK_OK) {
            return SK_ERR_MALFORMED;
        }
        if (sk_fdt_property(fdt, &at, "#interrupt-cells", &cells) == SK_OK) {
            *out_controller = at;
            return SK_OK;
        }
    }
}

/* How many cells the controller's interrupts have; at least 1, at most those of a value. */
static enum sk_status read_cell_count(const struct sk_fdt *fdt,
                                      const struct sk_fdt_node *controller, uint32_t *out_count)
{
    enum sk_status status = ski_fdt_cell(fdt, controller, "#interrupt-cells", out_count);

    return status != SK_OK || *out_count == 0 ? SK_ERR_MALFORMED : SK_OK;
}

/* A stretch of a node's interrupts on its way out. */
struct taken {
    struct sk_interrupt *list;
    uint32_t skip; /* how many come before the first that is wanted */
    uint32_t capacity;
    uint32_t count;
};

/* Takes the next interrupt of the node, if it is wanted. */
static enum sk_status take(const struct sk_fdt *fdt, const struct sk_fdt_node *controller,
                           const uint8_t *cells, uint32_t count, struct taken *taken)
{
    struct sk_interrupt interrupt = { .cell_count = count };
    struct sk_fdt_property map;

    if (taken->skip > 0) {
        taken->skip--;
        return SK_OK;
    }
    if (count > SK_INTERRUPT_CELLS ||
        sk_fdt_property(fdt, controller, "interrupt-map", &map) == SK_OK) {
        return SK_ERR_UNSUPPORTED;
    }
    if (ski_fdt_phandle(fdt, controller, &interrupt.controller) != SK_OK) {
        interrupt.controller = 0;
    }
    for (uint32_t i = 0; i < count; i++) {
        interrupt.cells[i] = sk_endian_load_be32(cells + i * SKI_FDT_CELL_BYTES);
    }
    taken->list[taken->count++] = interrupt;
    return SK_OK;
}

static enum sk_status take_plain(const struct sk_fdt *fdt, const struct sk_fdt_node *node,
                                 const struct sk_fdt_property *list, struct taken *taken)
{
    struct sk_fdt_node controller;
    uint32_t count = 0;
    uint64_t bytes;
    enum sk_status status = find_parent(fdt, node, &controller);

    if (status == SK_OK) {
        status = read_cell_count(fdt, &controller, &count);
    }
    bytes = (uint64_t)count * SKI_FDT_CELL_BYTES;
    if (status != SK_OK || list->bytes % bytes != 0) {
        return SK_ERR_MALFORMED;
    }
    for (uint64_t offset = bytes * taken->skip;
         status == SK_OK && offset < list->bytes && taken->count < taken->capacity;
         offset += bytes) {
        taken->skip = 0;
        status = take(fdt, &controller, list->value + offset, count, taken);
    }
    return status;
}

/* The controller of one entry of `interrupts-extended`; the last one is remembered. */
struct named {
    struct sk_fdt_node controller;
    uint32_t phandle; /* 0: none yet */
    uint32_t count;
};

static enum sk_status look_up(const struct sk_fdt *fdt, uint32_t phandle, struct named *named)
{
    if (named->phandle != 0 && named->phandle == phandle) {
        return SK_OK;
    }
    named->phandle = phandle;
    if (find_controller(fdt, phandle, &named->controller) != SK_OK) {
        return SK_ERR_MALFORMED;
    }
    return read_cell_count(fdt, &named->controller, &named->count);
}

static enum sk_status take_extended(const struct sk_fdt *fdt, const struct sk_fdt_property *list,
                                    struct taken *taken)
{
    struct named named = { .phandle = 0 };
    enum sk_status status = SK_OK;
    uint64_t offset = 0;

    while (status == SK_OK && offset < list->bytes && taken->count < taken->capacity) {
        uint64_t bytes;

        if (!sk_checked_range(offset, SKI_FDT_CELL_BYTES, list->bytes) ||
            look_up(fdt, sk_endian_load_be32(list->value + offset), &named) != SK_OK) {
            return SK_ERR_MALFORMED;
        }
        offset += SKI_FDT_CELL_BYTES;
        bytes = (uint64_t)named.count * SKI_FDT_CELL_BYTES;
        if (!sk_checked_range(offset, bytes, list->bytes)) {
            return SK_ERR_MALFORMED;
        }
        status = take(fdt, &named.controller, list->value + offset, named.count, taken);
        offset += bytes;
    }
    return status;
}

enum sk_status ski_fdt_interrupts(const struct sk_fdt *fdt, const struct sk_fdt_node *node,
                                  uint32_t first, struct sk_interrupt *out_list, uint32_t capacity,
                                  uint32_t *out_count)
{
    struct taken taken = { out_list, first, capacity, 0 };
    struct sk_fdt_property list;
    enum sk_status status = sk_fdt_property(fdt, node, "interrupts-extended", &list);

    if (status == SK_OK) {
        status = take_extended(fdt, &list, &taken);
    } else if (status == SK_ERR_NOT_FOUND) {
        status = sk_fdt_property(fdt, node, "interrupts", &list);
        status = status == SK_OK ? take_plain(fdt, node, &list, &taken) : status;
    }
    *out_count = taken.count;
    return status == SK_OK && taken.count == 0 ? SK_ERR_NOT_FOUND : status;
}

enum sk_status sk_fdt_interrupt(const struct sk_fdt *fdt, const struct sk_fdt_node *node,
                                uint32_t index, struct sk_interrupt *out_interrupt)
{
    uint32_t count;

    if (out_interrupt == NULL) {
        return SK_ERR_INVALID;
    }
    return ski_fdt_interrupts(fdt, node, index, out_interrupt, 1, &count);
}
