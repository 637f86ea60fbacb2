/* SPDX-License-Identifier: MIT */
#include <skio/checked.h>
#include <skio/endian.h>
#include <skio/text.h>

#include "partitions.h"

#define MBR_ENTRIES      446u
#define MBR_ENTRY_BYTES  16u
#define MBR_SIGNATURE    510u
#define MBR_PROTECTIVE   0xee
#define GPT_HEADER_BYTES 92u
#define GPT_ENTRY_BYTES  128u
#define GPT_NAME_OFFSET  56u
#define GPT_NAME_UNITS   36u

/* A GPT header after its checks. */
struct header {
    uint64_t own;
    uint64_t other;
    uint64_t first_usable;
    uint64_t last_usable;
    uint64_t entries;
    uint32_t entry_count;
    uint32_t entry_bytes;
    uint32_t entries_crc;
    uint8_t disk_guid[16];
};

struct known_guid {
    uint8_t guid[16]; /* as on the disk */
    const char *name;
};

static const struct known_guid known_guids[] = {
    { { 0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9,
        0x3b }, "EFI system" },
    { { 0x48, 0x61, 0x68, 0x21, 0x49, 0x64, 0x6f, 0x6e, 0x74, 0x4e, 0x65, 0x65, 0x64, 0x45, 0x46,
        0x49 }, "BIOS boot" },
    { { 0xaf, 0x3d, 0xc6, 0x0f, 0x83, 0x84, 0x72, 0x47, 0x8e, 0x79, 0x3d, 0x69, 0xd8, 0x47, 0x7d,
        0xe4 }, "Linux filesystem" },
    { { 0x6d, 0xfd, 0x57, 0x06, 0xab, 0xa4, 0xc4, 0x43, 0x84, 0xe5, 0x09, 0x33, 0xc8, 0x4b, 0x4f,
        0x4f }, "Linux swap" },
    { { 0x79, 0xd3, 0xd6, 0xe6, 0x07, 0xf5, 0xc2, 0x44, 0xa2, 0x3c, 0x23, 0x8f, 0x2a, 0x3d, 0xf9,
        0x28 }, "Linux LVM" },
    { { 0x0f, 0x88, 0x9d, 0xa1, 0xfc, 0x05, 0x3b, 0x4d, 0xa0, 0x06, 0x74, 0x3f, 0x0f, 0x84, 0x91,
        0x1e }, "Linux RAID" },
    { { 0xe1, 0xc7, 0x3a, 0x93, 0xb4, 0x2e, 0x13, 0x4f, 0xb8, 0x44, 0x0e, 0x14, 0xe2, 0xae, 0xf9,
        0x15 }, "Linux home" },
    { { 0xa2, 0xa0, 0xd0, 0xeb, 0xe5, 0xb9, 0x33, 0x44, 0x87, 0xc0, 0x68, 0xb6, 0xb7, 0x26, 0x99,
        0xc7 }, "Microsoft basic data" },
};

static const struct {
    uint8_t code;
    const char *name;
} known_codes[] = {
    { 0x01, "FAT12" },           { 0x04, "FAT16" },      { 0x06, "FAT16" },
    { 0x07, "NTFS or exFAT" },   { 0x0b, "FAT32" },      { 0x0c, "FAT32" },
    { 0x0e, "FAT16" },           { 0x05, "extended" },   { 0x0f, "extended" },
    { 0x82, "Linux swap" },      { 0x83, "Linux" },      { 0x85, "extended" },
    { 0x8e, "Linux LVM" },       { 0xee, "GPT" },        { 0xef, "EFI system" },
    { 0xfd, "Linux RAID" },
};

uint32_t partitions_crc(uint32_t crc, const void *data, size_t bytes)
{
    const uint8_t *in = data;

    crc = ~crc;
    for (size_t i = 0; i < bytes; i++) {
        crc ^= in[i];
        for (int bit = 0; bit < 8; bit++) {
            crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
        }
    }
    return ~crc;
}

static bool bytes_equal(const uint8_t *left, const uint8_t *right, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        if (left[i] != right[i]) {
            return false;
        }
    }
    return true;
}

static void copy(uint8_t *to, const uint8_t *from, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        to[i] = from[i];
    }
}

static void visit(struct partition_scan *scan)
{
    struct partition *partition = &scan->current;

    partition->beyond =
        !sk_checked_range(partition->first_block, partition->block_count, scan->block_count);
    scan->report->count++;
    scan->visit(scan->context, partition);
}

/* -- MBR -- */

static bool is_extended(uint8_t code)
{
    return code == 0x05 || code == 0x0f || code == 0x85;
}

static const char *code_name(struct partition_scan *scan, uint8_t code)
{
    for (size_t i = 0; i < sizeof(known_codes) / sizeof(known_codes[0]); i++) {
        if (known_codes[i].code == code) {
            return known_codes[i].name;
        }
    }
    (void)sk_text_format(scan->type, sizeof(scan->type), "0x%02x", (unsigned)code);
    return scan->type;
}

static bool has_signature(const struct partition_scan *scan)
{
    return scan->block[MBR_SIGNATURE] == 0x55 && scan->block[MBR_SIGNATURE + 1] == 0xaa;
}

/* An entry of a table that is known to have a place at `base`. */
static void visit_entry(struct partition_scan *scan, const uint8_t *entry, uint64_t base,
                        uint32_t number)
{
    scan->current = (struct partition){
        .number = number,
        .first_block = base + sk_endian_load_le32(entry + 8),
        .block_count = sk_endian_load_le32(entry + 12),
        .type = code_name(scan, entry[4]),
        .active = entry[0] == 0x80,
    };
    if (scan->current.block_count == 0 || scan->current.first_block == 0 ||
        (entry[0] & 0x7f) != 0) {
        scan->report->refused++;
        return;
    }
    visit(scan);
}

/*
 * A chain of tables, each with one partition and the place of the next table.
 * Every table must lie behind the one before, so that a chain cannot be a ring.
 */
static enum sk_status follow_chain(struct partition_scan *scan, uint64_t start, uint64_t blocks)
{
    uint64_t table = 0; /* within the extended partition */

    for (uint32_t i = 0; i < PARTITIONS_LOGICAL_MAX; i++) {
        uint8_t entries[2 * MBR_ENTRY_BYTES];
        uint64_t next;
        enum sk_status status;

        if (table >= blocks || !sk_checked_range(start + table, 1, scan->block_count)) {
            scan->report->chain_bad = true;
            return SK_OK;
        }
        status = scan->read(scan->context, start + table, scan->block);
        if (status != SK_OK) {
            return status;
        }
        if (!has_signature(scan)) {
            scan->report->chain_bad = true;
            return SK_OK;
        }
        copy(entries, scan->block + MBR_ENTRIES, sizeof(entries));
        if (entries[4] != 0) {
            visit_entry(scan, entries, start + table, 5 + i);
        }
        if (entries[MBR_ENTRY_BYTES + 4] == 0) {
            return SK_OK;
        }
        next = sk_endian_load_le32(entries + MBR_ENTRY_BYTES + 8);
        if (!is_extended(entries[MBR_ENTRY_BYTES + 4]) || next <= table) {
            scan->report->chain_bad = true;
            return SK_OK;
        }
        table = next;
    }
    scan->report->chain_bad = true;
    return SK_OK;
}

static enum sk_status scan_mbr(struct partition_scan *scan)
{
    uint8_t entries[4 * MBR_ENTRY_BYTES];
    enum sk_status status = SK_OK;

    scan->report->scheme = PARTITION_SCHEME_MBR;
    copy(entries, scan->block + MBR_ENTRIES, sizeof(entries));
    for (uint32_t i = 0; i < 4; i++) {
        if (entries[i * MBR_ENTRY_BYTES + 4] != 0) {
            visit_entry(scan, entries + i * MBR_ENTRY_BYTES, 0, i + 1);
        }
    }
    for (uint32_t i = 0; i < 4 && status == SK_OK; i++) {
        const uint8_t *entry = entries + i * MBR_ENTRY_BYTES;

        if (is_extended(entry[4])) {
            status = follow_chain(scan, sk_endian_load_le32(entry + 8),
                                  sk_endian_load_le32(entry + 12));
            break; /* one extended partition is all there can be */
        }
    }
    return status;
}

/* A boot sector of a file system has the signature too; a table has sane entries. */
static bool looks_like_mbr(const struct partition_scan *scan)
{
    bool any = false;

    if (!has_signature(scan)) {
        return false;
    }
    for (uint32_t i = 0; i < 4; i++) {
        const uint8_t *entry = scan->block + MBR_ENTRIES + i * MBR_ENTRY_BYTES;

        if ((entry[0] & 0x7f) != 0) {
            return false;
        }
        any |= entry[4] != 0 && sk_endian_load_le32(entry + 12) != 0;
    }
    return any;
}

static bool is_protective(const struct partition_scan *scan)
{
    for (uint32_t i = 0; i < 4; i++) {
        if (has_signature(scan) &&
            scan->block[MBR_ENTRIES + i * MBR_ENTRY_BYTES + 4] == MBR_PROTECTIVE) {
            return true;
        }
    }
    return false;
}

/* -- GPT -- */

static void parse_header(const uint8_t *block, struct header *out_header)
{
    out_header->own = sk_endian_load_le64(block + 24);
    out_header->other = sk_endian_load_le64(block + 32);
    out_header->first_usable = sk_endian_load_le64(block + 40);
    out_header->last_usable = sk_endian_load_le64(block + 48);
    copy(out_header->disk_guid, block + 56, sizeof(out_header->disk_guid));
    out_header->entries = sk_endian_load_le64(block + 72);
    out_header->entry_count = sk_endian_load_le32(block + 80);
    out_header->entry_bytes = sk_endian_load_le32(block + 84);
    out_header->entries_crc = sk_endian_load_le32(block + 88);
}

/* The header's own checksum counts itself as zero. */
static bool header_holds(struct partition_scan *scan, uint64_t at)
{
    static const uint8_t signature[8] = { 'E', 'F', 'I', ' ', 'P', 'A', 'R', 'T' };
    static const uint8_t zero[4];
    uint32_t bytes = sk_endian_load_le32(scan->block + 12);
    uint32_t crc;

    if (!bytes_equal(scan->block, signature, sizeof(signature)) || bytes < GPT_HEADER_BYTES ||
        bytes > scan->block_bytes || sk_endian_load_le64(scan->block + 24) != at) {
        return false;
    }
    crc = partitions_crc(0, scan->block, 16);
    crc = partitions_crc(crc, zero, sizeof(zero));
    crc = partitions_crc(crc, scan->block + 20, bytes - 20);
    return crc == sk_endian_load_le32(scan->block + 16);
}

static uint64_t entries_blocks(const struct partition_scan *scan, const struct header *header)
{
    uint64_t bytes = (uint64_t)header->entry_count * header->entry_bytes;

    return (bytes + scan->block_bytes - 1) / scan->block_bytes;
}

/*
 * A table may describe a longer disk than this one (an image that was cut):
 * then its partitions say so themselves.
 */
static bool numbers_hold(const struct partition_scan *scan, const struct header *header)
{
    return header->entry_count > 0 && header->entry_count <= PARTITIONS_ENTRIES_MAX &&
           header->entry_bytes >= GPT_ENTRY_BYTES && header->entry_bytes <= scan->block_bytes &&
           sk_checked_is_power_of_two(header->entry_bytes) &&
           header->first_usable > 0 && header->first_usable <= header->last_usable &&
           header->last_usable < UINT64_MAX / scan->block_bytes &&
           sk_checked_range(header->entries, entries_blocks(scan, header), scan->block_count);
}

static enum sk_status entries_crc(struct partition_scan *scan, const struct header *header,
                                  uint32_t *out_crc)
{
    uint64_t bytes = (uint64_t)header->entry_count * header->entry_bytes;
    uint32_t crc = 0;

    for (uint64_t i = 0; i < entries_blocks(scan, header); i++) {
        uint64_t left = bytes - i * scan->block_bytes;
        enum sk_status status = scan->read(scan->context, header->entries + i, scan->block);

        if (status != SK_OK) {
            return status;
        }
        crc = partitions_crc(crc, scan->block, left < scan->block_bytes ? left : scan->block_bytes);
    }
    *out_crc = crc;
    return SK_OK;
}

/* Reads and checks one header with its entries. */
static enum sk_status check_table(struct partition_scan *scan, uint64_t at,
                                  struct header *out_header, bool *out_holds)
{
    uint32_t crc = 0;
    enum sk_status status = scan->read(scan->context, at, scan->block);

    *out_holds = false;
    if (status != SK_OK || !header_holds(scan, at)) {
        return status;
    }
    parse_header(scan->block, out_header);
    if (!numbers_hold(scan, out_header)) {
        return SK_OK;
    }
    status = entries_crc(scan, out_header, &crc);
    *out_holds = status == SK_OK && crc == out_header->entries_crc;
    return status;
}

static bool same_table(const struct header *primary, const struct header *backup)
{
    return primary->other == backup->own && backup->other == primary->own &&
           primary->first_usable == backup->first_usable &&
           primary->last_usable == backup->last_usable &&
           primary->entry_count == backup->entry_count &&
           primary->entry_bytes == backup->entry_bytes &&
           primary->entries_crc == backup->entries_crc &&
           bytes_equal(primary->disk_guid, backup->disk_guid, sizeof(primary->disk_guid));
}

static const char *guid_name(struct partition_scan *scan, const uint8_t *guid)
{
    for (size_t i = 0; i < sizeof(known_guids) / sizeof(known_guids[0]); i++) {
        if (bytes_equal(known_guids[i].guid, guid, 16)) {
            return known_guids[i].name;
        }
    }
    (void)sk_text_format(scan->type, sizeof(scan->type),
                         "%08x-%04x-%04x-%02x%02x-%02x%02x%02x%02x%02x%02x",
                         (unsigned)sk_endian_load_le32(guid), sk_endian_load_le16(guid + 4),
                         sk_endian_load_le16(guid + 6), guid[8], guid[9], guid[10], guid[11],
                         guid[12], guid[13], guid[14], guid[15]);
    return scan->type;
}

/* What could move a terminal's cursor or turn its text around must not come from a disk. */
static bool is_printable(uint32_t unit)
{
    return (unit >= 0x20 && unit < 0x7f) ||
           (unit >= 0xa1 && unit < 0xd800 && unit != 0xad && (unit < 0x2000 || unit > 0x206f)) ||
           (unit >= 0xe000 && unit < 0xfe00);
}

static void copy_name(char *out, const uint8_t *units)
{
    for (unsigned i = 0; i < GPT_NAME_UNITS; i++) {
        uint32_t unit = sk_endian_load_le16(units + 2 * i);

        if (unit == 0) {
            break;
        }
        unit = is_printable(unit) ? unit : '?';
        if (unit < 0x80) {
            *out++ = (char)unit;
        } else if (unit < 0x800) {
            *out++ = (char)(0xc0 | unit >> 6);
            *out++ = (char)(0x80 | (unit & 0x3f));
        } else {
            *out++ = (char)(0xe0 | unit >> 12);
            *out++ = (char)(0x80 | (unit >> 6 & 0x3f));
            *out++ = (char)(0x80 | (unit & 0x3f));
        }
    }
    *out = '\0';
}

static void visit_gpt_entry(struct partition_scan *scan, const struct header *header,
                            const uint8_t *entry, uint32_t number)
{
    static const uint8_t unused[16];
    uint64_t first = sk_endian_load_le64(entry + 32);
    uint64_t last = sk_endian_load_le64(entry + 40);

    if (bytes_equal(entry, unused, sizeof(unused))) {
        return;
    }
    if (first > last || first < header->first_usable || last > header->last_usable) {
        scan->report->refused++;
        return;
    }
    scan->current = (struct partition){
        .number = number,
        .first_block = first,
        .block_count = last - first + 1,
        .type = guid_name(scan, entry),
        .active = (entry[48] & 4) != 0,
    };
    copy_name(scan->current.name, entry + GPT_NAME_OFFSET);
    visit(scan);
}

static enum sk_status visit_gpt(struct partition_scan *scan, const struct header *header)
{
    uint32_t per_block = scan->block_bytes / header->entry_bytes;

    for (uint32_t i = 0; i < header->entry_count; i++) {
        if (i % per_block == 0) {
            enum sk_status status =
                scan->read(scan->context, header->entries + i / per_block, scan->block);

            if (status != SK_OK) {
                return status;
            }
        }
        visit_gpt_entry(scan, header, scan->block + i % per_block * header->entry_bytes, i + 1);
    }
    return SK_OK;
}

static enum sk_status scan_gpt(struct partition_scan *scan)
{
    struct partition_report *report = scan->report;
    struct header primary = { 0 };
    struct header backup = { 0 };
    bool primary_holds;
    bool backup_holds;
    enum sk_status status = check_table(scan, 1, &primary, &primary_holds);

    if (status == SK_OK) {
        status = check_table(scan, primary_holds && primary.other < scan->block_count
                                       ? primary.other : scan->block_count - 1,
                             &backup, &backup_holds);
    }
    if (status != SK_OK) {
        return status;
    }
    report->scheme = PARTITION_SCHEME_GPT;
    report->primary_bad = !primary_holds;
    report->backup_bad = !backup_holds;
    report->differ = primary_holds && backup_holds && !same_table(&primary, &backup);
    report->used_backup = !primary_holds && backup_holds;
    if (!primary_holds && !backup_holds) {
        return SK_OK;
    }
    return visit_gpt(scan, primary_holds ? &primary : &backup);
}

enum sk_status partitions_scan(struct partition_scan *scan, struct partition_report *out_report)
{
    enum sk_status status;

    *out_report = (struct partition_report){ 0 };
    scan->report = out_report;
    if (!sk_checked_is_power_of_two(scan->block_bytes) || scan->block_bytes < 512 ||
        scan->block_bytes > PARTITIONS_BLOCK_MAX) {
        return SK_ERR_INVALID;
    }
    if (scan->block_count == 0) {
        return SK_OK;
    }
    status = scan->read(scan->context, 0, scan->block);
    if (status != SK_OK) {
        return status;
    }
    if (is_protective(scan) && scan->block_count > 2) {
        return scan_gpt(scan);
    }
    return looks_like_mbr(scan) ? scan_mbr(scan) : SK_OK;
}
