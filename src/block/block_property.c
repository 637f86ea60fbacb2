/* SPDX-License-Identifier: MIT */
/* What is known of a disk, as a list of names and values. */
#include <skio/block_zone.h>

#include "base/bytes.h"

/* Where a value comes from. */
enum source {
    U8, /* a member of struct sk_block_info */
    U16,
    U32,
    U64,
    FLAG,
    POINTER, /* a text */
    ARRAY,
    CACHE,
    MODEL,
    RESERVE,
    STATE,
    ZONE_COUNT /* a number */
};

/* Which disks have it. */
enum owner {
    EVERY,
    NONZERO, /* those where it is not 0 */
    TRACKED,
    DISCARDING,
    ZEROING,
    ERASING,
    ZONED,
    WEARING
};

struct row {
    const char *name;
    enum source source;
    enum owner owner;
    uint16_t offset;
};

#define ROW(name, source, owner, member) \
    { name, source, owner, (uint16_t)offsetof(struct sk_block_info, member) }

static const struct row rows[] = {
    { "state", STATE, EVERY, 0 },
    ROW("driver", POINTER, EVERY, driver),
    ROW("transport", POINTER, EVERY, transport),
    ROW("identity", ARRAY, EVERY, identity),
    ROW("capacity_sectors", U64, EVERY, capacity_sectors),
    ROW("block_bytes", U32, EVERY, block_bytes),
    ROW("physical_block_bytes", U32, EVERY, physical_block_bytes),
    ROW("alignment_offset_bytes", U32, NONZERO, alignment_offset_bytes),
    ROW("minimum_io_bytes", U32, NONZERO, minimum_io_bytes),
    ROW("optimal_io_bytes", U32, NONZERO, optimal_io_bytes),
    ROW("cylinders", U16, TRACKED, geometry.cylinders),
    ROW("heads", U8, TRACKED, geometry.heads),
    ROW("track_sectors", U8, TRACKED, geometry.sectors),
    ROW("read_only", FLAG, EVERY, read_only),
    { "cache", CACHE, EVERY, 0 },
    ROW("cache_can_change", FLAG, EVERY, cache_can_change),
    ROW("queues", U32, EVERY, queue_count),
    ROW("queue_entries", U32, EVERY, queue_size),
    ROW("queue_requests", U32, EVERY, queue_depth),
    ROW("request_segments_max", U32, EVERY, segment_count_max),
    ROW("segment_bytes_max", U64, NONZERO, segment_bytes_max),
    ROW("discard_sectors_max", U32, DISCARDING, discard.sectors_max),
    ROW("discard_ranges_max", U32, DISCARDING, discard.ranges_max),
    ROW("discard_alignment_sectors", U32, DISCARDING, discard.alignment_sectors),
    ROW("write_zeroes_sectors_max", U32, ZEROING, write_zeroes.sectors_max),
    ROW("write_zeroes_ranges_max", U32, ZEROING, write_zeroes.ranges_max),
    ROW("write_zeroes_may_unmap", FLAG, ZEROING, zeroes_may_unmap),
    ROW("secure_erase_sectors_max", U32, ERASING, secure_erase.sectors_max),
    ROW("secure_erase_ranges_max", U32, ERASING, secure_erase.ranges_max),
    ROW("secure_erase_alignment_sectors", U32, ERASING, secure_erase.alignment_sectors),
    { "zones", MODEL, ZONED, 0 },
    { "zone_count", ZONE_COUNT, ZONED, 0 },
    ROW("zone_sectors", U32, ZONED, zones.sectors),
    ROW("zone_write_bytes", U32, ZONED, zones.write_bytes),
    ROW("zone_append_sectors_max", U32, ZONED, zones.append_sectors_max),
    ROW("zones_open_max", U32, NONZERO, zones.open_max),
    ROW("zones_active_max", U32, NONZERO, zones.active_max),
    { "reserve", RESERVE, WEARING, 0 },
    ROW("wear_a_tenths", U8, NONZERO, wear.wear_a_tenths),
    ROW("wear_b_tenths", U8, NONZERO, wear.wear_b_tenths),
};

#define ROW_COUNT (sizeof(rows) / sizeof(rows[0]))

static uint64_t load(const struct sk_block_info *info, const struct row *row)
{
    const uint8_t *at = (const uint8_t *)info + row->offset;
    uint64_t wide;
    uint32_t word;
    uint16_t half;
    bool flag;

    switch (row->source) {
    case U64:
        (void)memcpy(&wide, at, sizeof(wide));
        return wide;
    case U32:
        (void)memcpy(&word, at, sizeof(word));
        return word;
    case U16:
        (void)memcpy(&half, at, sizeof(half));
        return half;
    case FLAG:
        (void)memcpy(&flag, at, sizeof(flag));
        return flag;
    default:
        return *at;
    }
}

static const char *text_of(const struct sk_block_device *device, const struct sk_block_info *info,
                           const struct row *row)
{
    const char *pointer;

    switch (row->source) {
    case POINTER:
        (void)memcpy(&pointer, (const uint8_t *)info + row->offset, sizeof(pointer));
        return pointer;
    case ARRAY: /* it never changes, and is asked for longer than our copy lives */
        return (const char *)&device->info + row->offset;
    case STATE:
        return sk_block_state_name(sk_block_get_state(device));
    case RESERVE:
        return sk_block_reserve_name(info->wear.reserve);
    case MODEL:
        return sk_block_zone_model_name(info->zones.model);
    default:
        return info->cache == SK_BLOCK_CACHE_WRITE_BACK ? "write-back" : "write-through";
    }
}

static bool has(const struct sk_block_info *info, const struct row *row)
{
    switch (row->owner) {
    case NONZERO:
        return load(info, row) != 0;
    case TRACKED:
        return info->geometry.cylinders != 0;
    case DISCARDING:
        return info->discard.sectors_max != 0;
    case ZEROING:
        return info->write_zeroes.sectors_max != 0;
    case ERASING:
        return info->secure_erase.sectors_max != 0;
    case WEARING:
        return info->lifetime;
    case ZONED:
        return info->zones.sectors != 0;
    default:
        return true;
    }
}

static void fill(const struct sk_block_device *device, const struct sk_block_info *info,
                 const struct row *row, struct sk_block_property *out_property)
{
    *out_property = (struct sk_block_property){ .name = row->name };
    if (row->source == ZONE_COUNT) {
        out_property->number = sk_block_zone_count(device);
        return;
    }
    if (row->source >= POINTER) {
        out_property->kind = SK_BLOCK_PROPERTY_TEXT;
        out_property->text = text_of(device, info, row);
        return;
    }
    out_property->kind = row->source == FLAG ? SK_BLOCK_PROPERTY_FLAG : SK_BLOCK_PROPERTY_NUMBER;
    out_property->number = load(info, row);
}

/* The features behind the rows: those that are offered and have a name. */
static enum sk_status get_feature(const struct sk_block_device *device, uint32_t index,
                                  struct sk_block_property *out_property)
{
    for (unsigned bit = 0; bit < 64; bit++) {
        const char *name = sk_block_feature_name(device, bit);

        if ((device->info.features_offered >> bit & 1) == 0 || name == NULL || index-- != 0) {
            continue;
        }
        *out_property = (struct sk_block_property){
            .name = name,
            .kind = SK_BLOCK_PROPERTY_FLAG,
            .number = device->info.features >> bit & 1,
        };
        return SK_OK;
    }
    return SK_ERR_NOT_FOUND;
}

enum sk_status sk_block_get_property(const struct sk_block_device *device, uint32_t index,
                                     struct sk_block_property *out_property)
{
    struct sk_block_info info;

    sk_block_get_info(device, &info);
    for (size_t i = 0; i < ROW_COUNT; i++) {
        if (!has(&info, &rows[i]) || index-- != 0) {
            continue;
        }
        fill(device, &info, &rows[i], out_property);
        return SK_OK;
    }
    return get_feature(device, index, out_property);
}

static bool is_equal(const char *a, const char *b)
{
    while (*a == *b && *a != '\0') {
        a++;
        b++;
    }
    return *a == *b;
}

enum sk_status sk_block_find_property(const struct sk_block_device *device, const char *name,
                                      struct sk_block_property *out_property)
{
    struct sk_block_property property;

    for (uint32_t i = 0; sk_block_get_property(device, i, &property) == SK_OK; i++) {
        if (is_equal(property.name, name)) {
            *out_property = property;
            return SK_OK;
        }
    }
    return SK_ERR_NOT_FOUND;
}
