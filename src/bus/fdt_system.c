/* SPDX-License-Identifier: MIT */
#include <skio/fdt.h>

#include <skio/checked.h>
#include <skio/endian.h>

#include "bus/fdt_walk.h"

#define RESERVATION_BYTES 16u

/*
 * Takes the `*index`th range of one node.  SK_ERR_NOT_FOUND: it has no so many;
 * *index is less by those it has.  A `reg` that cannot be read counts as one
 * range, so that a fault shows up once and hides nothing behind it.
 */
static enum sk_status take_range(const struct sk_fdt *fdt, const struct sk_fdt_node *node,
                                 uint32_t *index, struct sk_device_range *out_range)
{
    uint32_t count = 0;
    enum sk_status status = ski_fdt_range_count(fdt, node, &count);

    if (status == SK_ERR_NOT_FOUND) {
        return SK_ERR_NOT_FOUND;
    }
    if (status != SK_OK) {
        count = 1;
    }
    if (*index >= count) {
        *index -= count;
        return SK_ERR_NOT_FOUND;
    }
    return status == SK_OK ? sk_fdt_range(fdt, node, *index, out_range) : status;
}

/* Takes the `index`th range of those children that `counts` approves. */
static enum sk_status take_child_range(const struct sk_fdt *fdt, const struct sk_fdt_node *parent,
                                       bool (*counts)(const struct sk_fdt *fdt,
                                                      const struct sk_fdt_node *node),
                                       uint32_t index, struct sk_device_range *out_range)
{
    struct sk_fdt_node node;
    enum sk_status status = sk_fdt_child(fdt, parent, &node);

    while (status == SK_OK) {
        if (counts(fdt, &node)) {
            status = take_range(fdt, &node, &index, out_range);
            if (status != SK_ERR_NOT_FOUND) {
                return status;
            }
        }
        status = sk_fdt_sibling(fdt, &node, &node);
    }
    return status;
}

static bool is_memory(const struct sk_fdt *fdt, const struct sk_fdt_node *node)
{
    const char *type = NULL;

    return sk_fdt_string(fdt, node, "device_type", 0, &type) == SK_OK &&
           ski_fdt_text_equal(type, "memory") && sk_fdt_is_enabled(fdt, node);
}

enum sk_status sk_fdt_memory(const struct sk_fdt *fdt, uint32_t index,
                             struct sk_device_range *out_range)
{
    struct sk_fdt_node root;
    enum sk_status status = sk_fdt_root(fdt, &root);

    if (status == SK_OK && out_range == NULL) {
        return SK_ERR_INVALID;
    }
    return status == SK_OK ? take_child_range(fdt, &root, is_memory, index, out_range) : status;
}

/*
 * Takes the `*index`th entry of the reservation block.  Only an entry of two
 * zeros ends it; one without bytes reserves nothing and does not count.
 */
static enum sk_status take_reservation(const struct sk_fdt *fdt, uint32_t *index,
                                       struct sk_device_range *out_range)
{
    const uint8_t *block = fdt->blob + fdt->reservations_offset;

    for (uint32_t offset = 0; sk_checked_range(offset, RESERVATION_BYTES, fdt->reservations_bytes);
         offset += RESERVATION_BYTES) {
        uint64_t base = sk_endian_load_be64(block + offset);
        uint64_t bytes = sk_endian_load_be64(block + offset + 8);
        uint64_t end;

        if (bytes == 0 || (*index)-- > 0) {
            continue;
        }
        if (!sk_checked_add(base, bytes - 1, &end)) {
            return SK_ERR_MALFORMED;
        }
        *out_range = (struct sk_device_range) { sk_paddr_make(base), bytes };
        return SK_OK;
    }
    return SK_ERR_NOT_FOUND;
}

enum sk_status sk_fdt_reserved(const struct sk_fdt *fdt, uint32_t index,
                               struct sk_device_range *out_range)
{
    struct sk_fdt_node parent;
    enum sk_status status;

    if (fdt == NULL || fdt->blob == NULL || out_range == NULL) {
        return SK_ERR_INVALID;
    }
    status = take_reservation(fdt, &index, out_range);
    if (status != SK_ERR_NOT_FOUND) {
        return status;
    }
    status = sk_fdt_find_path(fdt, "/reserved-memory", &parent);
    return status == SK_OK ? take_child_range(fdt, &parent, sk_fdt_is_enabled, index, out_range)
                           : status;
}

enum sk_status sk_fdt_bootargs(const struct sk_fdt *fdt, const char **out_bootargs)
{
    struct sk_fdt_node chosen;
    enum sk_status status = sk_fdt_find_path(fdt, "/chosen", &chosen);

    return status == SK_OK ? sk_fdt_string(fdt, &chosen, "bootargs", 0, out_bootargs) : status;
}

/* How much of a text comes before a character, or all of it. */
static size_t bytes_before(const char *text, char character)
{
    size_t bytes = 0;

    while (text[bytes] != '\0' && text[bytes] != character) {
        bytes++;
    }
    return bytes;
}

/* Resolves the first `bytes` of a text that is an alias. */
static enum sk_status find_alias(const struct sk_fdt *fdt, const char *alias, size_t bytes,
                                 struct sk_fdt_node *out_node)
{
    struct sk_fdt_node aliases;
    struct sk_fdt_property property;
    enum sk_status status = sk_fdt_find_path(fdt, "/aliases", &aliases);

    for (uint32_t i = 0; status == SK_OK; i++) {
        status = sk_fdt_property_at(fdt, &aliases, i, &property);
        if (status == SK_OK && ski_fdt_text_starts(property.name, alias, bytes) &&
            property.name[bytes] == '\0') {
            break;
        }
    }
    if (status != SK_OK) {
        return status;
    }
    if (property.bytes < 2 || property.value[0] != '/' || property.value[property.bytes - 1] != 0) {
        return SK_ERR_MALFORMED;
    }
    return ski_fdt_find(fdt, (const char *)property.value, property.bytes - 1, out_node);
}

enum sk_status sk_fdt_stdout(const struct sk_fdt *fdt, struct sk_fdt_node *out_node)
{
    struct sk_fdt_node chosen = { 0 };
    const char *path = NULL;
    size_t bytes;
    enum sk_status status = sk_fdt_find_path(fdt, "/chosen", &chosen);

    if (status == SK_OK) {
        status = sk_fdt_string(fdt, &chosen, "stdout-path", 0, &path);
    }
    if (status == SK_ERR_NOT_FOUND && chosen.depth != 0) {
        status = sk_fdt_string(fdt, &chosen, "linux,stdout-path", 0, &path);
    }
    if (status != SK_OK) {
        return status;
    }
    if (out_node == NULL) {
        return SK_ERR_INVALID;
    }
    bytes = bytes_before(path, ':');
    return path[0] == '/' ? ski_fdt_find(fdt, path, bytes, out_node)
                          : find_alias(fdt, path, bytes, out_node);
}
