/* SPDX-License-Identifier: MIT */
#include <skio/fdt.h>

#include <skio/checked.h>
#include <skio/endian.h>

#include "bus/fdt_walk.h"

/* The `index`th property of this name, or of any name if it is NULL. */
static enum sk_status find_property(const struct sk_fdt *fdt, const struct sk_fdt_node *node,
                                    const char *name, uint32_t index,
                                    struct sk_fdt_property *out_property)
{
    struct ski_fdt_token token;
    enum sk_status status = ski_fdt_node_token(fdt, node, &token);

    if (status == SK_OK && out_property == NULL) {
        return SK_ERR_INVALID;
    }
    while (status == SK_OK) {
        status = ski_fdt_token(fdt, token.next, &token);
        if (status != SK_OK || token.tag != SKI_FDT_PROP) {
            return status != SK_OK ? status : SK_ERR_NOT_FOUND;
        }
        if ((name == NULL || ski_fdt_text_equal(token.name, name)) && index-- == 0) {
            break;
        }
    }
    if (status == SK_OK) {
        *out_property = (struct sk_fdt_property) { token.name, token.value, token.bytes };
    }
    return status;
}

enum sk_status sk_fdt_property(const struct sk_fdt *fdt, const struct sk_fdt_node *node,
                               const char *name, struct sk_fdt_property *out_property)
{
    return name != NULL ? find_property(fdt, node, name, 0, out_property) : SK_ERR_INVALID;
}

enum sk_status sk_fdt_property_at(const struct sk_fdt *fdt, const struct sk_fdt_node *node,
                                  uint32_t index, struct sk_fdt_property *out_property)
{
    return find_property(fdt, node, NULL, index, out_property);
}

enum sk_status sk_fdt_u32(const struct sk_fdt *fdt, const struct sk_fdt_node *node,
                          const char *name, uint32_t index, uint32_t *out_value)
{
    uint64_t offset = (uint64_t)index * SKI_FDT_CELL_BYTES;
    struct sk_fdt_property property;
    enum sk_status status = sk_fdt_property(fdt, node, name, &property);

    if (status != SK_OK) {
        return status;
    }
    if (out_value == NULL) {
        return SK_ERR_INVALID;
    }
    if (!sk_checked_range(offset, SKI_FDT_CELL_BYTES, property.bytes)) {
        return SK_ERR_RANGE;
    }
    *out_value = sk_endian_load_be32(property.value + offset);
    return SK_OK;
}

/*
 * Takes one string off the front of a list.  SK_OK; SK_ERR_NOT_FOUND (the list is
 * empty), SK_ERR_MALFORMED (no zero).
 */
static enum sk_status take_string(struct sk_fdt_property *list, const char **out_string)
{
    uint32_t end = 0;

    if (list->bytes == 0) {
        return SK_ERR_NOT_FOUND;
    }
    while (end < list->bytes && list->value[end] != 0) {
        end++;
    }
    if (end == list->bytes) {
        return SK_ERR_MALFORMED;
    }
    *out_string = (const char *)list->value;
    list->value += end + 1;
    list->bytes -= end + 1;
    return SK_OK;
}

enum sk_status sk_fdt_string(const struct sk_fdt *fdt, const struct sk_fdt_node *node,
                             const char *name, uint32_t index, const char **out_string)
{
    struct sk_fdt_property list;
    const char *string = NULL;
    enum sk_status status = sk_fdt_property(fdt, node, name, &list);

    if (status == SK_OK && out_string == NULL) {
        return SK_ERR_INVALID;
    }
    if (status == SK_OK) {
        status = take_string(&list, &string);
    }
    for (; status == SK_OK && index > 0; index--) {
        status = take_string(&list, &string);
    }
    if (status == SK_OK) {
        *out_string = string;
    }
    return status;
}

bool sk_fdt_is_compatible(const struct sk_fdt *fdt, const struct sk_fdt_node *node,
                          const char *compatible)
{
    struct sk_fdt_property list;
    const char *string;

    if (compatible == NULL || sk_fdt_property(fdt, node, "compatible", &list) != SK_OK) {
        return false;
    }
    while (take_string(&list, &string) == SK_OK) {
        if (ski_fdt_text_equal(string, compatible)) {
            return true;
        }
    }
    return false;
}

bool sk_fdt_is_enabled(const struct sk_fdt *fdt, const struct sk_fdt_node *node)
{
    struct sk_fdt_node at;
    enum sk_status status = SK_OK;

    if (node == NULL) {
        return false;
    }
    for (at = *node; status == SK_OK; status = sk_fdt_parent(fdt, &at, &at)) {
        const char *word = NULL;
        struct sk_fdt_property property;

        status = sk_fdt_property(fdt, &at, "status", &property);
        if (status == SK_ERR_NOT_FOUND) {
            continue;
        }
        if (status != SK_OK || take_string(&property, &word) != SK_OK ||
            (!ski_fdt_text_equal(word, "okay") && !ski_fdt_text_equal(word, "ok"))) {
            return false;
        }
    }
    return status == SK_ERR_NOT_FOUND; /* above the root there is nothing */
}

enum sk_status ski_fdt_cell(const struct sk_fdt *fdt, const struct sk_fdt_node *node,
                            const char *name, uint32_t *out_value)
{
    struct sk_fdt_property property;
    enum sk_status status = sk_fdt_property(fdt, node, name, &property);

    if (status == SK_OK && property.bytes != SKI_FDT_CELL_BYTES) {
        return SK_ERR_MALFORMED;
    }
    if (status == SK_OK) {
        *out_value = sk_endian_load_be32(property.value);
    }
    return status;
}
