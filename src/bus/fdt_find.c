/* SPDX-License-Identifier: MIT */
#include <skio/fdt.h>

#include "bus/fdt_walk.h"

static bool has_unit_address(const char *part, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        if (part[i] == '@') {
            return true;
        }
    }
    return false;
}

static bool part_names(const char *part, size_t bytes, const char *name)
{
    return ski_fdt_text_starts(name, part, bytes) &&
           (name[bytes] == '\0' || (name[bytes] == '@' && !has_unit_address(part, bytes)));
}

/* Moves *node to its first child of this name. */
static enum sk_status enter_child(const struct sk_fdt *fdt, const char *part, size_t bytes,
                                  struct sk_fdt_node *node)
{
    enum sk_status status = sk_fdt_child(fdt, node, node);

    while (status == SK_OK) {
        const char *name;

        status = sk_fdt_name(fdt, node, &name);
        if (status != SK_OK || part_names(part, bytes, name)) {
            break;
        }
        status = sk_fdt_sibling(fdt, node, node);
    }
    return status;
}

enum sk_status ski_fdt_find(const struct sk_fdt *fdt, const struct sk_fdt_node *from,
                            const char *path, size_t bytes, struct sk_fdt_node *out_node)
{
    struct sk_fdt_node node = *from;
    enum sk_status status = SK_OK;
    size_t start = 0;

    while (status == SK_OK && start < bytes) {
        size_t end = start;

        while (end < bytes && path[end] != '/') {
            end++;
        }
        if (end > start) {
            status = enter_child(fdt, path + start, end - start, &node);
        }
        start = end + 1;
    }
    if (status == SK_OK) {
        *out_node = node;
    }
    return status;
}

enum sk_status sk_fdt_find_path(const struct sk_fdt *fdt, const char *path,
                                struct sk_fdt_node *out_node)
{
    struct sk_fdt_node root;
    enum sk_status status = sk_fdt_root(fdt, &root);

    if (status != SK_OK || path == NULL || path[0] != '/' || out_node == NULL) {
        return status != SK_OK ? status : SK_ERR_INVALID;
    }
    return ski_fdt_find(fdt, &root, path, ski_fdt_text_bytes(path), out_node);
}

enum sk_status ski_fdt_phandle(const struct sk_fdt *fdt, const struct sk_fdt_node *node,
                               uint32_t *out_phandle)
{
    enum sk_status status = ski_fdt_cell(fdt, node, "phandle", out_phandle);

    if (status == SK_OK || status == SK_ERR_INVALID) {
        return status;
    }
    status = ski_fdt_cell(fdt, node, "linux,phandle", out_phandle);
    return status == SK_ERR_MALFORMED ? SK_ERR_NOT_FOUND : status;
}

enum sk_status sk_fdt_find_phandle(const struct sk_fdt *fdt, uint32_t phandle,
                                   struct sk_fdt_node *out_node)
{
    struct sk_fdt_node node;
    enum sk_status status;

    if (out_node == NULL || phandle == 0 || phandle == UINT32_MAX) { /* never a node's, 2.3.3 */
        return SK_ERR_INVALID;
    }
    for (status = sk_fdt_root(fdt, &node); status == SK_OK; status = sk_fdt_next(fdt, &node)) {
        uint32_t found;

        if (ski_fdt_phandle(fdt, &node, &found) == SK_OK && found == phandle) {
            *out_node = node;
            return SK_OK;
        }
    }
    return status;
}

enum sk_status sk_fdt_find_compatible(const struct sk_fdt *fdt, const char *compatible,
                                      struct sk_fdt_node *node)
{
    struct sk_fdt_node at;
    enum sk_status status;

    if (compatible == NULL || node == NULL) {
        return SK_ERR_INVALID;
    }
    at = *node;
    status = at.depth == 0 ? sk_fdt_root(fdt, &at) : sk_fdt_next(fdt, &at);
    while (status == SK_OK && !sk_fdt_is_compatible(fdt, &at, compatible)) {
        status = sk_fdt_next(fdt, &at);
    }
    if (status == SK_OK) {
        *node = at;
    }
    return status;
}
