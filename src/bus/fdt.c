/* SPDX-License-Identifier: MIT */
#include <skio/fdt.h>

#include <skio/checked.h>
#include <skio/endian.h>

#include "bus/fdt_walk.h"

/* The header, 5.2: offsets of its big-endian words. */
#define HEADER_MAGIC 0 /* 0xd00dfeed */
#define HEADER_TOTAL_BYTES 4
#define HEADER_STRUCTURE_OFFSET 8
#define HEADER_STRINGS_OFFSET 12
#define HEADER_RESERVATIONS_OFFSET 16
#define HEADER_VERSION 20
#define HEADER_COMPATIBLE_VERSION 24
#define HEADER_STRINGS_BYTES 32
#define HEADER_STRUCTURE_BYTES 36 /* from version 17 on */
#define HEADER_BYTES_16 36u
#define HEADER_BYTES_17 40u

#define MAGIC 0xd00dfeedu
#define RESERVATION_BYTES 16u

static uint32_t load_header(const struct sk_fdt *fdt, uint32_t offset)
{
    return sk_endian_load_be32(fdt->blob + offset);
}

static uint32_t header_bytes(const struct sk_fdt *fdt)
{
    return load_header(fdt, HEADER_VERSION) >= 17 ? HEADER_BYTES_17 : HEADER_BYTES_16;
}

static enum sk_status check_header(struct sk_fdt *fdt, size_t blob_bytes)
{
    if (blob_bytes < HEADER_BYTES_16) {
        return SK_ERR_SIZE;
    }
    if (load_header(fdt, HEADER_MAGIC) != MAGIC) {
        return SK_ERR_MALFORMED;
    }
    if (load_header(fdt, HEADER_VERSION) < 16 || load_header(fdt, HEADER_COMPATIBLE_VERSION) > 17) {
        return SK_ERR_UNSUPPORTED;
    }
    fdt->size = load_header(fdt, HEADER_TOTAL_BYTES);
    if (fdt->size > blob_bytes) {
        return SK_ERR_SIZE;
    }
    if (fdt->size < header_bytes(fdt) ||
        load_header(fdt, HEADER_COMPATIBLE_VERSION) > load_header(fdt, HEADER_VERSION)) {
        return SK_ERR_MALFORMED;
    }
    return SK_OK;
}

/*
 * Keeps the strings up to the last zero only: every offset below that is a
 * terminated name, and no use of a name has to look for its end again.
 */
static void trim_strings(struct sk_fdt *fdt)
{
    const uint8_t *strings = fdt->blob + fdt->strings_offset;

    while (fdt->strings_bytes > 0 && strings[fdt->strings_bytes - 1] != 0) {
        fdt->strings_bytes--;
    }
}

static enum sk_status find_blocks(struct sk_fdt *fdt)
{
    fdt->structure_offset = load_header(fdt, HEADER_STRUCTURE_OFFSET);
    fdt->strings_offset = load_header(fdt, HEADER_STRINGS_OFFSET);
    fdt->strings_bytes = load_header(fdt, HEADER_STRINGS_BYTES);
    fdt->reservations_offset = load_header(fdt, HEADER_RESERVATIONS_OFFSET);
    if (fdt->structure_offset % 4 != 0 || fdt->reservations_offset % 8 != 0 ||
        fdt->structure_offset > fdt->size || fdt->structure_offset < header_bytes(fdt) ||
        fdt->reservations_offset < header_bytes(fdt) || fdt->strings_offset < header_bytes(fdt)) {
        return SK_ERR_MALFORMED;
    }
    fdt->structure_bytes = header_bytes(fdt) == HEADER_BYTES_17
                               ? load_header(fdt, HEADER_STRUCTURE_BYTES)
                               : fdt->size - fdt->structure_offset;
    if (!sk_checked_range(fdt->structure_offset, fdt->structure_bytes, fdt->size) ||
        !sk_checked_range(fdt->strings_offset, fdt->strings_bytes, fdt->size)) {
        return SK_ERR_MALFORMED;
    }
    trim_strings(fdt);
    return SK_OK;
}

/* Looks for the end of the reservation block. */
static enum sk_status check_reservations(struct sk_fdt *fdt)
{
    uint32_t offset = fdt->reservations_offset;

    while (sk_checked_range(offset, RESERVATION_BYTES, fdt->size)) {
        const uint8_t *entry = fdt->blob + offset;

        offset += RESERVATION_BYTES;
        if (sk_endian_load_be64(entry) == 0 && sk_endian_load_be64(entry + 8) == 0) {
            fdt->reservations_bytes = offset - fdt->reservations_offset;
            return SK_OK;
        }
    }
    return SK_ERR_MALFORMED;
}

/* Walks from behind the root's begin to behind its end. */
static enum sk_status check_nodes(const struct sk_fdt *fdt, struct ski_fdt_token *token)
{
    uint32_t depth = 1;
    bool in_properties = true; /* they come before the subnodes, 5.4.2 */

    while (depth > 0) {
        enum sk_status status = ski_fdt_token(fdt, token->next, token);

        if (status != SK_OK) {
            return status;
        }
        if (token->tag == SKI_FDT_END || (token->tag == SKI_FDT_PROP && !in_properties) ||
            (token->tag == SKI_FDT_BEGIN_NODE && depth == SK_FDT_DEPTH_MAX)) {
            return SK_ERR_MALFORMED;
        }
        in_properties = token->tag != SKI_FDT_END_NODE;
        depth += token->tag == SKI_FDT_BEGIN_NODE;
        depth -= token->tag == SKI_FDT_END_NODE;
    }
    return SK_OK;
}

static enum sk_status check_structure(struct sk_fdt *fdt)
{
    struct ski_fdt_token token;
    enum sk_status status = ski_fdt_token(fdt, 0, &token);

    if (status == SK_OK && (token.tag != SKI_FDT_BEGIN_NODE || token.name[0] != '\0')) {
        return SK_ERR_MALFORMED;
    }
    if (status == SK_OK) {
        status = check_nodes(fdt, &token);
    }
    if (status == SK_OK) {
        status = ski_fdt_token(fdt, token.next, &token);
    }
    if (status != SK_OK || token.tag != SKI_FDT_END) {
        return SK_ERR_MALFORMED;
    }
    fdt->structure_bytes = token.next;
    return SK_OK;
}

static bool apart(uint32_t left, uint32_t left_bytes, uint32_t right, uint32_t right_bytes)
{
    return left_bytes == 0 || right_bytes == 0 ||
           (left <= right ? right - left >= left_bytes : left - right >= right_bytes);
}

/* The sizes are those really in use, so that padding may be shared. */
static enum sk_status check_overlap(struct sk_fdt *fdt)
{
    return apart(fdt->reservations_offset, fdt->reservations_bytes, fdt->structure_offset,
                 fdt->structure_bytes) &&
                   apart(fdt->reservations_offset, fdt->reservations_bytes, fdt->strings_offset,
                         fdt->strings_bytes) &&
                   apart(fdt->structure_offset, fdt->structure_bytes, fdt->strings_offset,
                         fdt->strings_bytes)
               ? SK_OK
               : SK_ERR_MALFORMED;
}

enum sk_status sk_fdt_open(const void *blob, size_t blob_bytes, struct sk_fdt *out_fdt)
{
    enum sk_status (*const checks[])(struct sk_fdt * fdt) = { find_blocks, check_reservations,
                                                              check_structure, check_overlap };
    enum sk_status status;

    if (out_fdt == NULL) {
        return SK_ERR_INVALID;
    }
    *out_fdt = (struct sk_fdt) { .blob = blob };
    if (blob == NULL) {
        return SK_ERR_INVALID;
    }
    status = check_header(out_fdt, blob_bytes);
    for (size_t i = 0; status == SK_OK && i < sizeof(checks) / sizeof(checks[0]); i++) {
        status = checks[i](out_fdt);
    }
    if (status != SK_OK) {
        *out_fdt = (struct sk_fdt) { 0 };
    }
    return status;
}

uint32_t sk_fdt_claimed_bytes(const void *blob)
{
    if (blob == NULL || sk_endian_load_be32(blob) != MAGIC) {
        return 0;
    }
    return sk_endian_load_be32((const uint8_t *)blob + HEADER_TOTAL_BYTES);
}
