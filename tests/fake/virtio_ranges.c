/* SPDX-License-Identifier: MIT */
/* Discard, write zeroes, secure erase and the lifetime; 5.2.6. */
#include <string.h>

#include <skio/endian.h>

#include "fake/virtio_internal.h"

#define RANGE_BYTES 16u
#define RANGES_MAX  64u

struct kind {
    uint32_t type;
    uint8_t feature;
    uint8_t config; /* offset of max_sectors; max_seg follows */
    uint32_t flags; /* that may be set */
    uint8_t fill;   /* what the sectors read as afterwards */
};

static const struct kind kinds[] = {
    { FAKE_TYPE_DISCARD, SK_VIRTIO_BLK_F_DISCARD, 36, 0, 0xdd },
    { FAKE_TYPE_WRITE_ZEROES, SK_VIRTIO_BLK_F_WRITE_ZEROES, 48, 1, 0 },
    { FAKE_TYPE_SECURE_ERASE, SK_VIRTIO_BLK_F_SECURE_ERASE, 60, 0, 0xee },
};

static const struct kind *kind_of(uint32_t type)
{
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        if (kinds[i].type == type) {
            return &kinds[i];
        }
    }
    return NULL;
}

bool fake_ranges_has(uint32_t type)
{
    return kind_of(type) != NULL;
}

/* The ranges may lie in any number of segments. */
static uint32_t gather(const struct fake_request *request, uint8_t *ranges)
{
    uint32_t have = 0;

    for (uint32_t i = 0; i < request->segment_count; i++) {
        uint32_t bytes = request->segments[i].bytes;

        if (bytes > RANGES_MAX * RANGE_BYTES - have) {
            break;
        }
        memcpy(ranges + have, request->segments[i].data, bytes);
        have += bytes;
    }
    return have;
}

static void check_one(struct fake_device *fake, const struct kind *kind, const uint8_t *range)
{
    uint32_t sectors_max = sk_endian_load_le32(fake->config_space + kind->config);
    uint64_t sector = sk_endian_load_le64(range);
    uint32_t count = sk_endian_load_le32(range + 8);
    uint32_t flags = sk_endian_load_le32(range + 12);
    uint64_t capacity = fake_config_known_capacity(fake);

    if (count == 0 || count > sectors_max) {
        fake_violation(fake, "range of %u sectors, at most %u are allowed", count, sectors_max);
    }
    if (sector > capacity || count > capacity - sector) {
        fake_violation(fake, "range beyond the capacity: sector %llu",
                       (unsigned long long)sector);
    }
    if ((flags & ~kind->flags) != 0) {
        fake_violation(fake, "range with flags 0x%x for type %u", flags, kind->type);
    }
}

void fake_ranges_check(struct fake_device *fake, const struct fake_request *request)
{
    const struct kind *kind = kind_of(request->type);
    uint32_t most = sk_endian_load_le32(fake->config_space + kind->config + 4);
    uint8_t ranges[RANGES_MAX * RANGE_BYTES];
    uint32_t bytes = gather(request, ranges);

    if (!fake_negotiated(fake, kind->feature)) {
        fake_violation(fake, "type %u without feature %u", kind->type, kind->feature);
    }
    if (bytes == 0 || bytes % RANGE_BYTES != 0 || bytes / RANGE_BYTES > most) {
        fake_violation(fake, "type %u with %u bytes of ranges", kind->type, bytes);
    }
    for (uint32_t at = 0; at + RANGE_BYTES <= bytes; at += RANGE_BYTES) {
        check_one(fake, kind, ranges + at);
    }
}

bool fake_ranges_perform(struct fake_device *fake, const struct fake_request *request)
{
    const struct kind *kind = kind_of(request->type);
    uint8_t ranges[RANGES_MAX * RANGE_BYTES];
    uint32_t bytes = gather(request, ranges);

    for (uint32_t at = 0; at + RANGE_BYTES <= bytes; at += RANGE_BYTES) {
        uint64_t sector = sk_endian_load_le64(ranges + at);
        uint32_t count = sk_endian_load_le32(ranges + at + 8);

        if (fake_is_bad(fake, sector, count)) {
            return false;
        }
        if (kind->type == FAKE_TYPE_SECURE_ERASE) {
            fake_zones_erased(fake, sector, count);
        }
        memset(fake->storage + sector * 512, kind->fill, (size_t)count * 512);
        fake->range_segments++;
        fake->range_sectors += count;
        fake->ranges_unmapped += (sk_endian_load_le32(ranges + at + 12) & 1) != 0;
        fake->sequence++;
        fake_write_through(fake, sector, count);
    }
    fake->ranges++;
    return true;
}
