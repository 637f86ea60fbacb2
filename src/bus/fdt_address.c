/* SPDX-License-Identifier: MIT */
#include <skio/fdt.h>

#include <skio/checked.h>
#include <skio/endian.h>

#include "bus/fdt_walk.h"

/* What a bus gives its children to write addresses with. */
struct cells {
    uint32_t address;
    uint32_t size;
};

/* `reg` as an array. */
struct reg {
    const uint8_t *value;
    uint32_t count;
    struct cells cells;
};

static struct ski_fdt_address load_address(const uint8_t *cells, uint32_t count)
{
    struct ski_fdt_address address = { 0, 0 };

    for (uint32_t i = 0; i < count; i++) {
        address.high = address.high << 32 | address.low >> 32;
        address.low = address.low << 32 | sk_endian_load_be32(cells + i * SKI_FDT_CELL_BYTES);
    }
    return address;
}

static enum sk_status read_cell_count(const struct sk_fdt *fdt, const struct sk_fdt_node *bus,
                                      const char *name, uint32_t by_default, uint32_t *out_count)
{
    enum sk_status status = ski_fdt_cell(fdt, bus, name, out_count);

    if (status == SK_ERR_NOT_FOUND) {
        *out_count = by_default;
        return SK_OK;
    }
    return status == SK_OK && *out_count > SKI_FDT_CELLS_MAX ? SK_ERR_MALFORMED : status;
}

/* 2.3.5: not inherited; a bus that says nothing has 2 and 1. */
static enum sk_status read_cells(const struct sk_fdt *fdt, const struct sk_fdt_node *bus,
                                 struct cells *out_cells)
{
    enum sk_status status = read_cell_count(fdt, bus, "#address-cells", 2, &out_cells->address);

    if (status == SK_OK) {
        status = read_cell_count(fdt, bus, "#size-cells", 1, &out_cells->size);
    }
    return status == SK_OK && out_cells->address == 0 ? SK_ERR_MALFORMED : status;
}

/* Divides a property into entries of some cells. */
static enum sk_status count_entries(uint32_t bytes, uint32_t cells, uint32_t *out_count)
{
    uint32_t entry_bytes = cells * SKI_FDT_CELL_BYTES;

    if (bytes % entry_bytes != 0) {
        return SK_ERR_MALFORMED;
    }
    *out_count = bytes / entry_bytes;
    return SK_OK;
}

static enum sk_status read_reg(const struct sk_fdt *fdt, const struct sk_fdt_node *node,
                               struct reg *out_reg)
{
    struct sk_fdt_property property = { 0 };
    struct sk_fdt_node bus = { 0 };
    enum sk_status status = sk_fdt_property(fdt, node, "reg", &property);

    if (status == SK_OK) {
        status = sk_fdt_parent(fdt, node, &bus);
    }
    if (status == SK_OK) {
        status = read_cells(fdt, &bus, &out_reg->cells);
    }
    if (status != SK_OK) {
        return status;
    }
    out_reg->value = property.value;
    return count_entries(property.bytes, out_reg->cells.address + out_reg->cells.size,
                         &out_reg->count);
}

enum sk_status ski_fdt_range_count(const struct sk_fdt *fdt, const struct sk_fdt_node *node,
                                   uint32_t *out_count)
{
    struct reg reg;
    enum sk_status status = read_reg(fdt, node, &reg);

    if (status == SK_OK) {
        *out_count = reg.count;
    }
    return status;
}

enum sk_status ski_fdt_mappings_open(const struct sk_fdt *fdt, const struct sk_fdt_node *bus,
                                     const char *name, struct ski_fdt_mappings *out_mappings)
{
    struct sk_fdt_property property = { 0 };
    struct sk_fdt_node parent = { 0 };
    struct cells child_cells = { 0, 0 };
    struct cells parent_cells = { 0, 0 };
    enum sk_status status = sk_fdt_property(fdt, bus, name, &property);

    if (status == SK_OK) {
        status = sk_fdt_parent(fdt, bus, &parent);
    }
    if (status == SK_OK) {
        status = read_cells(fdt, bus, &child_cells);
    }
    if (status == SK_OK) {
        status = read_cells(fdt, &parent, &parent_cells);
    }
    if (status != SK_OK) {
        return status;
    }
    *out_mappings = (struct ski_fdt_mappings) { property.value, 0, child_cells.address,
                                                parent_cells.address, child_cells.size };
    return count_entries(property.bytes,
                         child_cells.address + parent_cells.address + child_cells.size,
                         &out_mappings->count);
}

enum sk_status ski_fdt_mappings_take(struct ski_fdt_mappings *mappings,
                                     struct ski_fdt_mapping *out_mapping)
{
    const uint8_t *parent = mappings->next + mappings->child_cells * SKI_FDT_CELL_BYTES;
    const uint8_t *size = parent + mappings->parent_cells * SKI_FDT_CELL_BYTES;
    struct ski_fdt_address bytes = load_address(size, mappings->size_cells);

    out_mapping->child = load_address(mappings->next, mappings->child_cells);
    out_mapping->parent = load_address(parent, mappings->parent_cells);
    out_mapping->bytes = bytes.low;
    mappings->next = size + mappings->size_cells * SKI_FDT_CELL_BYTES;
    mappings->count--;
    return bytes.high != 0 ? SK_ERR_MALFORMED : SK_OK;
}

/*
 * Moves an address through one entry.  The upper cells of an address (for PCI
 * the kind of space) only compare; what counts is the lower 64 bits.
 */
static enum sk_status move_through(const struct ski_fdt_mapping *mapping, uint64_t bytes,
                                   struct ski_fdt_address *address)
{
    if (address->high != mapping->child.high || address->low < mapping->child.low ||
        !sk_checked_range(address->low - mapping->child.low, bytes, mapping->bytes)) {
        return SK_ERR_UNREACHABLE;
    }
    address->high = mapping->parent.high;
    return sk_checked_add(mapping->parent.low, address->low - mapping->child.low, &address->low)
               ? SK_OK
               : SK_ERR_MALFORMED;
}

/* Makes an address of `bus` one of its parent. */
static enum sk_status translate_up(const struct sk_fdt *fdt, const struct sk_fdt_node *bus,
                                   uint64_t bytes, struct ski_fdt_address *address)
{
    struct ski_fdt_mappings mappings;
    struct ski_fdt_mapping mapping;
    enum sk_status status = ski_fdt_mappings_open(fdt, bus, "ranges", &mappings);

    if (status == SK_ERR_NOT_FOUND) {
        return SK_ERR_UNREACHABLE;
    }
    if (status != SK_OK || mappings.count == 0) {
        return status;
    }
    status = SK_ERR_UNREACHABLE;
    while (status == SK_ERR_UNREACHABLE && mappings.count > 0) {
        status = ski_fdt_mappings_take(&mappings, &mapping);
        if (status == SK_OK) {
            status = move_through(&mapping, bytes, address);
        }
    }
    return status;
}

static enum sk_status translate(const struct sk_fdt *fdt, const struct sk_fdt_node *node,
                                uint64_t bytes, struct ski_fdt_address *address)
{
    struct sk_fdt_node bus;
    uint64_t end;
    enum sk_status status = sk_fdt_parent(fdt, node, &bus);

    while (status == SK_OK && bus.depth > 1) {
        status = translate_up(fdt, &bus, bytes, address);
        bus.depth--;
    }
    if (status == SK_OK &&
        (address->high != 0 || (bytes > 0 && !sk_checked_add(address->low, bytes - 1, &end)))) {
        return SK_ERR_MALFORMED;
    }
    return status;
}

enum sk_status sk_fdt_range(const struct sk_fdt *fdt, const struct sk_fdt_node *node,
                            uint32_t index, struct sk_device_range *out_range)
{
    struct ski_fdt_address address;
    struct ski_fdt_address bytes;
    struct reg reg;
    enum sk_status status = read_reg(fdt, node, &reg);

    if (status != SK_OK) {
        return status;
    }
    if (out_range == NULL) {
        return SK_ERR_INVALID;
    }
    if (index >= reg.count) {
        return SK_ERR_NOT_FOUND;
    }
    if (reg.cells.size == 0) { /* numbers, no memory: CPUs, devices on I2C */
        return SK_ERR_UNREACHABLE;
    }
    reg.value += (size_t)index * (reg.cells.address + reg.cells.size) * SKI_FDT_CELL_BYTES;
    address = load_address(reg.value, reg.cells.address);
    bytes = load_address(reg.value + reg.cells.address * SKI_FDT_CELL_BYTES, reg.cells.size);
    status = bytes.high != 0 ? SK_ERR_MALFORMED : translate(fdt, node, bytes.low, &address);
    if (status == SK_OK) {
        *out_range = (struct sk_device_range) { sk_paddr_make(address.low), bytes.low };
    }
    return status;
}
