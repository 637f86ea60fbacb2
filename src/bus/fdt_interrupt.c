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

static enum sk_status fill(const struct sk_fdt *fdt, const struct sk_fdt_node *controller,
                           const uint8_t *cells, uint32_t count, struct sk_interrupt *out_interrupt)
{
    struct sk_interrupt interrupt = { .cell_count = count };
    struct sk_fdt_property map;

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
    *out_interrupt = interrupt;
    return SK_OK;
}

static enum sk_status read_plain(const struct sk_fdt *fdt, const struct sk_fdt_node *node,
                                 const struct sk_fdt_property *list, uint32_t index,
                                 struct sk_interrupt *out_interrupt)
{
    struct sk_fdt_node controller;
    uint32_t count = 0;
    uint64_t offset;
    enum sk_status status = find_parent(fdt, node, &controller);

    if (status == SK_OK) {
        status = read_cell_count(fdt, &controller, &count);
    }
    if (status != SK_OK || list->bytes % ((uint64_t)count * SKI_FDT_CELL_BYTES) != 0) {
        return SK_ERR_MALFORMED;
    }
    offset = (uint64_t)count * SKI_FDT_CELL_BYTES * index; /* below 2^66, but the list is short */
    if (index >= list->bytes / ((uint64_t)count * SKI_FDT_CELL_BYTES)) {
        return SK_ERR_NOT_FOUND;
    }
    return fill(fdt, &controller, list->value + offset, count, out_interrupt);
}

static enum sk_status read_extended(const struct sk_fdt *fdt, const struct sk_fdt_property *list,
                                    uint32_t index, struct sk_interrupt *out_interrupt)
{
    struct sk_fdt_node controller = { 0 };
    uint32_t phandle = 0;
    uint32_t count = 0;
    uint64_t offset = 0;

    while (offset < list->bytes) {
        uint32_t named;

        if (!sk_checked_range(offset, SKI_FDT_CELL_BYTES, list->bytes)) {
            return SK_ERR_MALFORMED;
        }
        named = sk_endian_load_be32(list->value + offset);
        offset += SKI_FDT_CELL_BYTES;
        if (named != phandle || controller.depth == 0) {
            phandle = named;
            if (find_controller(fdt, phandle, &controller) != SK_OK ||
                read_cell_count(fdt, &controller, &count) != SK_OK) {
                return SK_ERR_MALFORMED;
            }
        }
        if (!sk_checked_range(offset, (uint64_t)count * SKI_FDT_CELL_BYTES, list->bytes)) {
            return SK_ERR_MALFORMED;
        }
        if (index-- == 0) {
            return fill(fdt, &controller, list->value + offset, count, out_interrupt);
        }
        offset += (uint64_t)count * SKI_FDT_CELL_BYTES;
    }
    return SK_ERR_NOT_FOUND;
}

enum sk_status sk_fdt_interrupt(const struct sk_fdt *fdt, const struct sk_fdt_node *node,
                                uint32_t index, struct sk_interrupt *out_interrupt)
{
    struct sk_fdt_property list;
    enum sk_status status = sk_fdt_property(fdt, node, "interrupts-extended", &list);

    if (out_interrupt == NULL) {
        return SK_ERR_INVALID;
    }
    if (status == SK_OK) {
        return read_extended(fdt, &list, index, out_interrupt);
    }
    if (status == SK_ERR_NOT_FOUND) {
        status = sk_fdt_property(fdt, node, "interrupts", &list);
    }
    return status == SK_OK ? read_plain(fdt, node, &list, index, out_interrupt) : status;
}
