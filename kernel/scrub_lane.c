/* SPDX-License-Identifier: MIT */
#include "console.h"
#include "lib/string.h"
#include "scrub.h"

#define GAP_BYTE 0xee

/* The random numbers of an extent that choose its segments. */
enum { CUT_COUNT = EXTENTS_FREE, CUT_FIRST };

/* -- Memory -- */

static uint8_t *segment_memory(const struct scrub_lane *lane, uint32_t segment)
{
    uint8_t *memory = sk_io_buffer_data(&lane->scrub->buffer);

    return memory + lane->offset + lane->cuts[segment] + (segment + 1) * SCRUB_GAP_BYTES;
}

/* One sector of the extent, from byte `at` on, into its segments or out of them. */
static void copy_sector(const struct scrub_lane *lane, uint32_t at, uint8_t *sector, bool in)
{
    for (uint32_t i = 0; i < lane->request.segment_count; i++) {
        uint32_t from = lane->cuts[i] > at ? lane->cuts[i] : at;
        uint32_t end = lane->cuts[i + 1] < at + EXTENTS_SECTOR_BYTES ? lane->cuts[i + 1]
                                                                     : at + EXTENTS_SECTOR_BYTES;
        uint8_t *memory = segment_memory(lane, i) + (from - lane->cuts[i]);

        if (from >= end) {
            continue;
        }
        if (in) {
            memcpy(memory, sector + (from - at), end - from);
        } else {
            memcpy(sector + (from - at), memory, end - from);
        }
    }
}

/* Where a request cannot have so many segments in one block, blocks are not cut. */
static uint32_t cut_bytes(const struct sk_block_info *info)
{
    return info->segment_count_max < SCRUB_SEGMENTS_MAX ? info->block_bytes : 1;
}

/* Up to four segments, cut at any byte if that can be. */
static enum sk_status cut(struct scrub_lane *lane, uint32_t bytes)
{
    const struct extents *extents = &lane->scrub->extents;
    uint32_t unit = cut_bytes(&lane->scrub->disk.info);
    uint32_t count =
        1 + (uint32_t)(extents_random(extents, lane->number, CUT_COUNT) % SCRUB_SEGMENTS_MAX);
    enum sk_status status = SK_OK;

    count = count > bytes / unit ? bytes / unit : count;
    lane->cuts[0] = 0;
    for (uint32_t i = 1; i < count; i++) {
        uint32_t room = (bytes - lane->cuts[i - 1]) / unit - (count - i);
        uint64_t random = extents_random(extents, lane->number, CUT_FIRST + i);

        lane->cuts[i] = lane->cuts[i - 1] + (1 + (uint32_t)(random % room)) * unit;
    }
    lane->cuts[count] = bytes;
    for (uint32_t i = 0; i < count && status == SK_OK; i++) {
        status = sk_io_buffer_segment(&lane->scrub->buffer,
                                      lane->offset + lane->cuts[i] + (i + 1) * SCRUB_GAP_BYTES,
                                      lane->cuts[i + 1] - lane->cuts[i], &lane->segments[i]);
    }
    lane->request.segments = lane->segments;
    lane->request.segment_count = count;
    return status;
}

static void fill(struct scrub_lane *lane, const struct extent *extent)
{
    uint64_t words[EXTENTS_SECTOR_BYTES / 8];

    for (uint32_t i = 0; i < extent->sectors; i++) {
        extents_fill(&lane->scrub->extents, lane->number, extent->kind, extent->sector + i, words);
        copy_sector(lane, i * EXTENTS_SECTOR_BYTES, (uint8_t *)words, true);
    }
}

bool scrub_lane_prepare(struct scrub_lane *lane, bool filled)
{
    const struct extent *extent = &lane->scrub->records[lane->number].extent;
    uint8_t *memory = sk_io_buffer_data(&lane->scrub->buffer);
    enum sk_status status;

    memset(memory + lane->offset, GAP_BYTE, lane->scrub->lane_bytes);
    status = cut(lane, extent->sectors * EXTENTS_SECTOR_BYTES);
    if (status != SK_OK) {
        disk_report("scrub", "buffer", extent->sector, status);
        return false;
    }
    if (filled) {
        fill(lane, extent);
    }
    return true;
}

static bool gaps_are_whole(const struct scrub_lane *lane)
{
    for (uint32_t i = 0; i <= lane->request.segment_count; i++) {
        const uint8_t *gap =
            i == 0 ? segment_memory(lane, 0) - SCRUB_GAP_BYTES
                   : segment_memory(lane, i - 1) + (lane->cuts[i] - lane->cuts[i - 1]);

        for (uint32_t at = 0; at < SCRUB_GAP_BYTES; at++) {
            if (gap[at] != GAP_BYTE) {
                return false;
            }
        }
    }
    return true;
}

/* -- Compare -- */

static void print_difference(const struct scrub *scrub, const struct scrub_lane *lane,
                             uint64_t sector, const uint64_t *found)
{
    uint64_t number;
    uint64_t origin;

    console_print("%s: sector %lu is not as extent %lu wrote it (queue %u)", scrub->name, sector,
                  lane->number, (unsigned)lane->queue->index);
    if (extents_origin(&scrub->extents, found, &number, &origin)) {
        console_print(": it holds what extent %lu wrote to sector %lu", number, origin);
    }
    console_print("; look with: read %lu\n", sector);
}

/* Which of the extent's sectors belong to it and not to a later one. */
static void find_covered(struct scrub *scrub, uint64_t number)
{
    const struct extent *extent = &scrub->records[number].extent;

    memset(scrub->covered, 0, sizeof(scrub->covered));
    for (uint64_t i = number + 1; i < scrub->plan->count; i++) {
        const struct extent *later = &scrub->records[i].extent;

        if (!extents_overlap(extent, later)) {
            continue;
        }
        for (uint32_t at = 0; at < extent->sectors; at++) {
            scrub->covered[at] |= extent->sector + at - later->sector < later->sectors;
        }
    }
}

void scrub_lane_compare(struct scrub_lane *lane)
{
    struct scrub *scrub = lane->scrub;
    const struct scrub_record *record = &scrub->records[lane->number];
    uint64_t wanted[EXTENTS_SECTOR_BYTES / 8];
    uint64_t found[EXTENTS_SECTOR_BYTES / 8];

    if (!gaps_are_whole(lane)) {
        console_print("%s: reading extent %lu at sector %lu changed memory outside of its "
                      "segments (queue %u)\n",
                      scrub->name, lane->number, record->extent.sector,
                      (unsigned)lane->queue->index);
        scrub_failed(scrub);
    }
    find_covered(scrub, lane->number);
    for (uint32_t i = 0; i < record->extent.sectors && !scrub->stopped; i++) {
        if (scrub->covered[i]) {
            continue;
        }
        extents_fill(&scrub->extents, lane->number, record->extent.kind, record->extent.sector + i,
                     wanted);
        copy_sector(lane, i * EXTENTS_SECTOR_BYTES, (uint8_t *)found, false);
        if (memcmp(wanted, found, sizeof(wanted)) != 0) {
            print_difference(scrub, lane, record->extent.sector + i, found);
            scrub_failed(scrub);
            return;
        }
    }
    scrub->equal++;
}
