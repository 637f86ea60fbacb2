/* SPDX-License-Identifier: MIT */
#include "extents.h"

#define WORDS (EXTENTS_SECTOR_BYTES / 8)

/* What extents_random is asked for here: numbers below EXTENTS_FREE. */
enum { LENGTH, PLACE, KIND };
_Static_assert(KIND < EXTENTS_FREE, "the free numbers begin behind these");

/* One step of splitmix64: every input has another output, and near ones have far ones. */
static uint64_t mix(uint64_t value)
{
    value += UINT64_C(0x9e3779b97f4a7c15);
    value = (value ^ value >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    value = (value ^ value >> 27) * UINT64_C(0x94d049bb133111eb);
    return value ^ value >> 31;
}

uint64_t extents_random(const struct extents *extents, uint64_t number, unsigned which)
{
    return mix(mix(extents->seed) ^ (number * 16 + which));
}

/* Short ones are frequent: the limit is halved up to three times. */
static uint64_t length_of(const struct extents *extents, uint64_t number)
{
    uint64_t random = extents_random(extents, number, LENGTH);
    uint64_t limit = EXTENTS_BYTES / EXTENTS_SECTOR_BYTES / extents->block_sectors;

    limit = limit > extents->block_count ? extents->block_count : limit;
    limit >>= random % 4;
    return limit == 0 ? 1 : 1 + random / 4 % limit;
}

static enum extent_kind kind_of(const struct extents *extents, uint64_t number)
{
    switch (extents_random(extents, number, KIND) % 16) {
    case 0:
        return EXTENT_DURABLE;
    case 1:
        return EXTENT_ZEROES;
    default:
        return EXTENT_PLAIN;
    }
}

void extents_get(const struct extents *extents, uint64_t number, struct extent *out_extent)
{
    uint64_t blocks = length_of(extents, number);
    uint64_t places = extents->block_count - blocks + 1;
    uint64_t place = extents_random(extents, number, PLACE) % places;

    if (number < 2) {
        place = number == 0 ? places - 1 : 0;
    }
    out_extent->sector = (extents->first_block + place) * extents->block_sectors;
    out_extent->sectors = (uint32_t)blocks * extents->block_sectors;
    out_extent->kind = kind_of(extents, number);
}

bool extents_overlap(const struct extent *left, const struct extent *right)
{
    return left->sector < right->sector ? right->sector - left->sector < left->sectors
                                        : left->sector - right->sector < right->sectors;
}

void extents_fill(const struct extents *extents, uint64_t number, enum extent_kind kind,
                  uint64_t sector, uint64_t out_words[WORDS])
{
    uint64_t base = mix(mix(extents->seed) ^ mix(number) ^ sector);

    if (kind == EXTENT_ZEROES) {
        for (unsigned i = 0; i < WORDS; i++) {
            out_words[i] = 0;
        }
        return;
    }
    out_words[0] = sector;
    out_words[1] = number;
    for (unsigned i = 2; i < WORDS; i++) {
        out_words[i] = base ^ mix(i);
    }
}

bool extents_origin(const struct extents *extents, const uint64_t words[WORDS],
                    uint64_t *out_number, uint64_t *out_sector)
{
    uint64_t wanted[WORDS];

    extents_fill(extents, words[1], EXTENT_PLAIN, words[0], wanted);
    for (unsigned i = 0; i < WORDS; i++) {
        if (words[i] != wanted[i]) {
            return false;
        }
    }
    *out_sector = words[0];
    *out_number = words[1];
    return true;
}
