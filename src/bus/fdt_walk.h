/* SPDX-License-Identifier: MIT */
/*
 * What the parts of the device-tree reader share: one token of the structure
 * block, and the lists of addresses that `reg`, `ranges` and `dma-ranges` are.
 *
 * Every offset in here counts from the start of the structure block and is
 * checked each time that it is used, also if it was checked before: a cursor
 * is the caller's and may have been made from another tree.
 */
#ifndef SKI_BUS_FDT_WALK_H
#define SKI_BUS_FDT_WALK_H

#include <skio/fdt.h>

/* 5.4.1; NOP never leaves the token reader. */
enum ski_fdt_tag {
    SKI_FDT_BEGIN_NODE = 1,
    SKI_FDT_END_NODE = 2,
    SKI_FDT_PROP = 3,
    SKI_FDT_NOP = 4,
    SKI_FDT_END = 9
};

#define SKI_FDT_CELL_BYTES 4u
#define SKI_FDT_CELLS_MAX 4u /* most cells of an address or a size */

struct ski_fdt_token {
    uint32_t tag;         /* never NOP */
    uint32_t offset;      /* of the tag */
    uint32_t next;        /* behind the token */
    const char *name;     /* of a node or a property */
    const uint8_t *value; /* of a property */
    uint32_t bytes;       /* of the value */
};

/* Reads the token at or, behind NOPs, after `offset`.  SK_OK; SK_ERR_MALFORMED. */
SK_MUST_CHECK enum sk_status ski_fdt_token(const struct sk_fdt *fdt, uint32_t offset,
                                           struct ski_fdt_token *out_token);

/* Reads the token that a cursor stands on.  SK_OK; SK_ERR_INVALID (no cursor), SK_ERR_MALFORMED. */
SK_MUST_CHECK enum sk_status ski_fdt_node_token(const struct sk_fdt *fdt,
                                                const struct sk_fdt_node *node,
                                                struct ski_fdt_token *out_token);

/* Follows the parts of a path, which need not be terminated, down from a node. */
SK_MUST_CHECK enum sk_status ski_fdt_find(const struct sk_fdt *fdt, const struct sk_fdt_node *from,
                                          const char *path, size_t bytes,
                                          struct sk_fdt_node *out_node);

/* A property of exactly one cell.  SK_OK; SK_ERR_NOT_FOUND, SK_ERR_MALFORMED (another length). */
SK_MUST_CHECK enum sk_status ski_fdt_cell(const struct sk_fdt *fdt, const struct sk_fdt_node *node,
                                          const char *name, uint32_t *out_value);

/* The node's phandle, by either name.  SK_OK; SK_ERR_NOT_FOUND. */
SK_MUST_CHECK enum sk_status ski_fdt_phandle(const struct sk_fdt *fdt,
                                             const struct sk_fdt_node *node, uint32_t *out_phandle);

/* How many entries `reg` has.  SK_OK; SK_ERR_NOT_FOUND (no `reg`), SK_ERR_MALFORMED. */
SK_MUST_CHECK enum sk_status
ski_fdt_range_count(const struct sk_fdt *fdt, const struct sk_fdt_node *node, uint32_t *out_count);

/*
 * Reads interrupts from the `first`th on, at most `capacity` (at least 1).
 * SK_OK; SK_ERR_NOT_FOUND (none), or what stopped at the one behind *out_count.
 */
SK_MUST_CHECK enum sk_status ski_fdt_interrupts(const struct sk_fdt *fdt,
                                                const struct sk_fdt_node *node, uint32_t first,
                                                struct sk_interrupt *out_list, uint32_t capacity,
                                                uint32_t *out_count);

/* An address of up to four cells. */
struct ski_fdt_address {
    uint64_t high;
    uint64_t low;
};

/* The entries of `ranges` or `dma-ranges`. */
struct ski_fdt_mappings {
    const uint8_t *next;
    uint32_t count; /* entries left */
    uint32_t child_cells;
    uint32_t parent_cells;
    uint32_t size_cells;
};

struct ski_fdt_mapping {
    struct ski_fdt_address child;
    struct ski_fdt_address parent;
    uint64_t bytes;
};

/*
 * Opens the list that property `name` of `bus` is.  SK_OK (a count of 0: the
 * property is empty, which means the identity); SK_ERR_NOT_FOUND, SK_ERR_MALFORMED.
 */
SK_MUST_CHECK enum sk_status ski_fdt_mappings_open(const struct sk_fdt *fdt,
                                                   const struct sk_fdt_node *bus, const char *name,
                                                   struct ski_fdt_mappings *out_mappings);

/* Takes the next entry; there must be one.  SK_OK; SK_ERR_MALFORMED (more than 64 bits of size). */
SK_MUST_CHECK enum sk_status ski_fdt_mappings_take(struct ski_fdt_mappings *mappings,
                                                   struct ski_fdt_mapping *out_mapping);

/* Length without the zero. */
static inline size_t ski_fdt_text_bytes(const char *text)
{
    size_t bytes = 0;

    while (text[bytes] != '\0') {
        bytes++;
    }
    return bytes;
}

static inline bool ski_fdt_text_equal(const char *left, const char *right)
{
    size_t i = 0;

    while (left[i] != '\0' && left[i] == right[i]) {
        i++;
    }
    return left[i] == right[i];
}

/* True if the first `bytes` of a text that ends later are `prefix`. */
static inline bool ski_fdt_text_starts(const char *text, const char *prefix, size_t bytes)
{
    size_t i = 0;

    while (i < bytes && text[i] != '\0' && text[i] == prefix[i]) {
        i++;
    }
    return i == bytes;
}

#endif
