/* SPDX-License-Identifier: MIT */
#include "bus/fdt_walk.h"

#include <skio/checked.h>
#include <skio/endian.h>

static bool load_cell(const struct sk_fdt *fdt, uint32_t offset, uint32_t *out_cell)
{
    if (offset % SKI_FDT_CELL_BYTES != 0 ||
        !sk_checked_range(offset, SKI_FDT_CELL_BYTES, fdt->structure_bytes)) {
        return false;
    }
    *out_cell = sk_endian_load_be32(fdt->blob + fdt->structure_offset + offset);
    return true;
}

/* Sets token->next behind `bytes` of data at `offset` and their padding. */
static enum sk_status skip_data(const struct sk_fdt *fdt, uint32_t offset, uint32_t bytes,
                                struct ski_fdt_token *token)
{
    uint64_t end;

    if (!sk_checked_range(offset, bytes, fdt->structure_bytes) ||
        !sk_checked_align_up((uint64_t)offset + bytes, SKI_FDT_CELL_BYTES, &end) ||
        end > fdt->structure_bytes) {
        return SK_ERR_MALFORMED;
    }
    token->next = (uint32_t)end;
    return SK_OK;
}

static enum sk_status read_node(const struct sk_fdt *fdt, uint32_t offset,
                                struct ski_fdt_token *token)
{
    const uint8_t *structure = fdt->blob + fdt->structure_offset;
    uint32_t end = offset;

    while (end < fdt->structure_bytes && structure[end] != 0) {
        end++;
    }
    if (end >= fdt->structure_bytes) {
        return SK_ERR_MALFORMED;
    }
    token->name = (const char *)(structure + offset);
    return skip_data(fdt, offset, end + 1 - offset, token);
}

static enum sk_status read_property(const struct sk_fdt *fdt, uint32_t offset,
                                    struct ski_fdt_token *token)
{
    uint32_t name;

    if (!load_cell(fdt, offset, &token->bytes) ||
        !load_cell(fdt, offset + SKI_FDT_CELL_BYTES, &name) || name >= fdt->strings_bytes) {
        return SK_ERR_MALFORMED;
    }
    offset += 2 * SKI_FDT_CELL_BYTES;
    token->name = (const char *)(fdt->blob + fdt->strings_offset + name);
    token->value = fdt->blob + fdt->structure_offset + offset;
    return skip_data(fdt, offset, token->bytes, token);
}

enum sk_status ski_fdt_token(const struct sk_fdt *fdt, uint32_t offset,
                             struct ski_fdt_token *out_token)
{
    struct ski_fdt_token token = { 0 };
    enum sk_status status = SK_OK;

    do {
        if (!load_cell(fdt, offset, &token.tag)) {
            return SK_ERR_MALFORMED;
        }
        token.offset = offset;
        offset += SKI_FDT_CELL_BYTES; /* inside the block: cannot wrap */
    } while (token.tag == SKI_FDT_NOP);
    token.next = offset;
    switch (token.tag) {
    case SKI_FDT_BEGIN_NODE:
        status = read_node(fdt, offset, &token);
        break;
    case SKI_FDT_PROP:
        status = read_property(fdt, offset, &token);
        break;
    case SKI_FDT_END_NODE:
    case SKI_FDT_END:
        break;
    default:
        return SK_ERR_MALFORMED;
    }
    *out_token = token;
    return status;
}

enum sk_status ski_fdt_node_token(const struct sk_fdt *fdt, const struct sk_fdt_node *node,
                                  struct ski_fdt_token *out_token)
{
    uint32_t offset;
    enum sk_status status;

    if (fdt == NULL || fdt->blob == NULL || node == NULL || node->depth == 0 ||
        node->depth > SK_FDT_DEPTH_MAX) {
        return SK_ERR_INVALID;
    }
    offset = node->path[node->depth - 1];
    status = ski_fdt_token(fdt, offset, out_token);
    if (status == SK_OK && (out_token->tag != SKI_FDT_BEGIN_NODE || out_token->offset != offset)) {
        return SK_ERR_MALFORMED;
    }
    return status;
}

enum sk_status sk_fdt_root(const struct sk_fdt *fdt, struct sk_fdt_node *out_node)
{
    struct ski_fdt_token token;
    enum sk_status status;

    if (fdt == NULL || fdt->blob == NULL || out_node == NULL) {
        return SK_ERR_INVALID;
    }
    status = ski_fdt_token(fdt, 0, &token);
    if (status != SK_OK || token.tag != SKI_FDT_BEGIN_NODE) {
        return SK_ERR_MALFORMED;
    }
    *out_node = (struct sk_fdt_node) { .depth = 1, .path = { token.offset } };
    return SK_OK;
}

enum sk_status sk_fdt_next(const struct sk_fdt *fdt, struct sk_fdt_node *node)
{
    struct ski_fdt_token token;
    uint32_t depth = node != NULL ? node->depth : 0;
    enum sk_status status = ski_fdt_node_token(fdt, node, &token);

    while (status == SK_OK && depth > 0) {
        status = ski_fdt_token(fdt, token.next, &token);
        if (status != SK_OK) {
            return status;
        }
        if (token.tag == SKI_FDT_BEGIN_NODE && depth < SK_FDT_DEPTH_MAX) {
            node->path[depth] = token.offset;
            node->depth = depth + 1;
            return SK_OK;
        }
        if (token.tag == SKI_FDT_BEGIN_NODE || token.tag == SKI_FDT_END) {
            return SK_ERR_MALFORMED;
        }
        depth -= token.tag == SKI_FDT_END_NODE;
    }
    return status != SK_OK ? status : SK_ERR_NOT_FOUND;
}

enum sk_status sk_fdt_child(const struct sk_fdt *fdt, const struct sk_fdt_node *node,
                            struct sk_fdt_node *out_child)
{
    struct sk_fdt_node next;
    enum sk_status status;

    if (node == NULL || out_child == NULL) {
        return SK_ERR_INVALID;
    }
    next = *node;
    status = sk_fdt_next(fdt, &next);
    if (status == SK_OK && next.depth <= node->depth) {
        return SK_ERR_NOT_FOUND;
    }
    if (status == SK_OK) {
        *out_child = next;
    }
    return status;
}

/* Moves *token from a node's begin to its end, over all that is in between. */
static enum sk_status skip_node(const struct sk_fdt *fdt, struct ski_fdt_token *token)
{
    uint32_t depth = 1;

    while (depth > 0) {
        enum sk_status status = ski_fdt_token(fdt, token->next, token);

        if (status != SK_OK) {
            return status;
        }
        if (token->tag == SKI_FDT_END) {
            return SK_ERR_MALFORMED;
        }
        depth += token->tag == SKI_FDT_BEGIN_NODE;
        depth -= token->tag == SKI_FDT_END_NODE;
    }
    return SK_OK;
}

enum sk_status sk_fdt_sibling(const struct sk_fdt *fdt, const struct sk_fdt_node *node,
                              struct sk_fdt_node *out_sibling)
{
    struct ski_fdt_token token;
    enum sk_status status = ski_fdt_node_token(fdt, node, &token);

    if (status == SK_OK && out_sibling == NULL) {
        return SK_ERR_INVALID;
    }
    if (status == SK_OK) {
        status = skip_node(fdt, &token);
    }
    if (status == SK_OK) {
        status = ski_fdt_token(fdt, token.next, &token);
    }
    if (status != SK_OK) {
        return status;
    }
    if (token.tag != SKI_FDT_BEGIN_NODE) {
        return token.tag == SKI_FDT_PROP ? SK_ERR_MALFORMED : SK_ERR_NOT_FOUND;
    }
    *out_sibling = *node;
    out_sibling->path[node->depth - 1] = token.offset;
    return SK_OK;
}

enum sk_status sk_fdt_parent(const struct sk_fdt *fdt, const struct sk_fdt_node *node,
                             struct sk_fdt_node *out_parent)
{
    if (fdt == NULL || fdt->blob == NULL || node == NULL || out_parent == NULL ||
        node->depth == 0 || node->depth > SK_FDT_DEPTH_MAX) {
        return SK_ERR_INVALID;
    }
    if (node->depth == 1) {
        return SK_ERR_NOT_FOUND;
    }
    *out_parent = *node;
    out_parent->depth--;
    return SK_OK;
}

enum sk_status sk_fdt_name(const struct sk_fdt *fdt, const struct sk_fdt_node *node,
                           const char **out_name)
{
    struct ski_fdt_token token;
    enum sk_status status = ski_fdt_node_token(fdt, node, &token);

    if (status == SK_OK && out_name == NULL) {
        return SK_ERR_INVALID;
    }
    if (status == SK_OK) {
        *out_name = token.name;
    }
    return status;
}
