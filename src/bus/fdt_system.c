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

/* How much of the first `limit` bytes of a text comes before a character. */
static size_t bytes_before(const char *text, size_t limit, char character)
{
    size_t bytes = 0;

    while (bytes < limit && text[bytes] != character) {
        bytes++;
    }
    return bytes;
}

/* Finds what property of /aliases has the first `bytes` of a text as its name. */
static enum sk_status find_alias(const struct sk_fdt *fdt, const char *alias, size_t bytes,
                                 struct sk_fdt_property *out_property)
{
    struct sk_fdt_node aliases;
    enum sk_status status = sk_fdt_find_path(fdt, "/aliases", &aliases);

    for (uint32_t i = 0; status == SK_OK; i++) {
        status = sk_fdt_property_at(fdt, &aliases, i, out_property);
        if (status == SK_OK && ski_fdt_text_starts(out_property->name, alias, bytes) &&
            out_property->name[bytes] == '\0') {
            break;
        }
    }
    return status;
}

/* Finds the node of an alias.  What it stands for is a path, never another alias: no loops. */
static enum sk_status enter_alias(const struct sk_fdt *fdt, const char *alias, size_t bytes,
                                  struct sk_fdt_node *node)
{
    struct sk_fdt_property property;
    enum sk_status status = find_alias(fdt, alias, bytes, &property);

    if (status != SK_OK) {
        return status;
    }
    if (property.bytes < 2 || property.value[0] != '/' ||
        bytes_before((const char *)property.value, property.bytes, '\0') != property.bytes - 1) {
        return SK_ERR_MALFORMED;
    }
    return ski_fdt_find(fdt, node, (const char *)property.value, property.bytes - 1, node);
}

static enum sk_status read_stdout_path(const struct sk_fdt *fdt, const char **out_path)
{
    struct sk_fdt_node chosen;
    enum sk_status status = sk_fdt_find_path(fdt, "/chosen", &chosen);

    if (status != SK_OK) {
        return status;
    }
    status = sk_fdt_string(fdt, &chosen, "stdout-path", 0, out_path);
    return status == SK_ERR_NOT_FOUND
               ? sk_fdt_string(fdt, &chosen, "linux,stdout-path", 0, out_path)
               : status;
}

enum sk_status sk_fdt_stdout(const struct sk_fdt *fdt, struct sk_fdt_node *out_node)
{
    const char *path = NULL;
    struct sk_fdt_node node;
    size_t bytes;
    size_t alias = 0;
    enum sk_status status = sk_fdt_root(fdt, &node);

    if (status == SK_OK) {
        status = out_node != NULL ? read_stdout_path(fdt, &path) : SK_ERR_INVALID;
    }
    if (status != SK_OK) {
        return status;
    }
    bytes = bytes_before(path, ski_fdt_text_bytes(path), ':');
    if (path[0] != '/') {
        alias = bytes_before(path, bytes, '/');
        status = enter_alias(fdt, path, alias, &node);
    }
    return status == SK_OK ? ski_fdt_find(fdt, &node, path + alias, bytes - alias, out_node)
                           : status;
}
