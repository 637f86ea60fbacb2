/* SPDX-License-Identifier: MIT */
/*
 * Any bytes as a device tree: each function of the reader for each node, from
 * a copy exactly as long as the input.  Whatever they answer, they must come
 * back without reading outside of it, and what they hand out must lie within.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <skio/fdt.h>

#include "input.h"

#define INDEXES 4u
#define NODES_MAX 64u /* keeps one input quick; a walk has an end of its own */

static void require_within(const struct sk_fdt *fdt, const void *start, size_t bytes)
{
    size_t offset = (size_t)((const uint8_t *)start - fdt->blob);

    REQUIRE(offset <= fdt->size && bytes <= fdt->size - offset);
}

static void require_text(const struct sk_fdt *fdt, enum sk_status status, const char *text)
{
    if (status == SK_OK) {
        require_within(fdt, text, strlen(text) + 1);
    }
}

static void try_properties(const struct sk_fdt *fdt, const struct sk_fdt_node *node)
{
    struct sk_fdt_property property;
    struct sk_fdt_property again;
    const char *text = NULL;
    uint32_t cell;

    for (uint32_t i = 0; sk_fdt_property_at(fdt, node, i, &property) == SK_OK && i < INDEXES; i++) {
        enum sk_status status = sk_fdt_string(fdt, node, property.name, i, &text);

        require_within(fdt, property.value, property.bytes);
        require_text(fdt, SK_OK, property.name);
        require_text(fdt, status, text);
        REQUIRE(sk_fdt_property(fdt, node, property.name, &again) == SK_OK);
        REQUIRE(again.value <= property.value);
        REQUIRE((sk_fdt_u32(fdt, node, property.name, 0, &cell) == SK_OK) == (again.bytes >= 4));
    }
}

static void try_bus(const struct sk_fdt *fdt, const struct sk_fdt_node *node)
{
    struct sk_dma_window windows[2];
    struct sk_device_range range;
    struct sk_interrupt interrupt;
    size_t count = 0;

    for (uint32_t i = 0; i < INDEXES; i++) {
        if (sk_fdt_range(fdt, node, i, &range) == SK_OK && range.bytes > 0) {
            REQUIRE(range.base.raw <= UINT64_MAX - (range.bytes - 1));
        }
        if (sk_fdt_interrupt(fdt, node, i, &interrupt) == SK_OK) {
            REQUIRE(interrupt.cell_count <= SK_INTERRUPT_CELLS);
        }
    }
    if (sk_fdt_dma_windows(fdt, node, windows, 2, &count) == SK_OK) {
        REQUIRE(count >= 1 && count <= 2);
    }
    REQUIRE(sk_fdt_get_coherence(fdt, node) <= SK_FDT_COHERENCE_NONCOHERENT);
}

static void try_node(const struct sk_fdt *fdt, const struct sk_fdt_node *node)
{
    struct sk_fdt_node other;
    struct sk_fdt_node back;
    const char *name = NULL;

    REQUIRE(node->depth >= 1 && node->depth <= SK_FDT_DEPTH_MAX);
    REQUIRE(sk_fdt_name(fdt, node, &name) == SK_OK);
    require_text(fdt, SK_OK, name);
    if (sk_fdt_child(fdt, node, &other) == SK_OK) {
        REQUIRE(sk_fdt_parent(fdt, &other, &back) == SK_OK);
        REQUIRE(back.depth == node->depth);
    }
    if (sk_fdt_sibling(fdt, node, &other) == SK_OK) {
        REQUIRE(other.depth == node->depth);
    }
    (void)sk_fdt_is_enabled(fdt, node);
    (void)sk_fdt_is_compatible(fdt, node, "virtio,mmio");
    try_properties(fdt, node);
    try_bus(fdt, node);
}

static void try_system(const struct sk_fdt *fdt)
{
    struct sk_fdt_node node = { 0 };
    struct sk_device_range range;
    const char *text = NULL;
    enum sk_status status = sk_fdt_bootargs(fdt, &text);

    require_text(fdt, status, text);
    status = sk_fdt_stdout(fdt, &node);
    REQUIRE(status != SK_OK || sk_fdt_name(fdt, &node, &text) == SK_OK);
    status = sk_fdt_find_path(fdt, "/soc/serial", &node);
    REQUIRE(status != SK_OK || node.depth == 3);
    for (uint32_t i = 0; i < INDEXES; i++) {
        struct sk_fdt_node found = { 0 };

        status = sk_fdt_memory(fdt, i, &range);
        status = sk_fdt_reserved(fdt, i, &range);
        status = sk_fdt_find_phandle(fdt, i, &found);
        REQUIRE(status != SK_OK || i != 0);
        status = sk_fdt_find_compatible(fdt, "virtio,mmio", &found);
        REQUIRE(status != SK_OK || sk_fdt_is_compatible(fdt, &found, "virtio,mmio"));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    uint8_t *blob = malloc(bytes > 0 ? bytes : 1);
    struct sk_fdt_node node;
    struct sk_fdt fdt;
    unsigned count = 0;

    REQUIRE(blob != NULL);
    if (bytes > 0) {
        memcpy(blob, data, bytes);
    }
    if (sk_fdt_open(blob, bytes, &fdt) == SK_OK) {
        enum sk_status status = sk_fdt_root(&fdt, &node);

        for (; status == SK_OK && count < NODES_MAX; count++) {
            try_node(&fdt, &node);
            status = sk_fdt_next(&fdt, &node);
        }
        REQUIRE(status == SK_OK || status == SK_ERR_NOT_FOUND); /* opening walked it all */
        try_system(&fdt);
    } else {
        REQUIRE(fdt.blob == NULL);
    }
    free(blob);
    return 0;
}
