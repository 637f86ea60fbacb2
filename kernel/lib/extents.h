/* SPDX-License-Identifier: MIT */
/*
 * Random extents of a disk and what they are filled with, all of it determined
 * by a seed: whoever knows the seed knows what the disk holds afterwards.
 * tests/qemu/extents.py is the same in Python.  Calling: no state.
 */
#ifndef KERNEL_LIB_EXTENTS_H
#define KERNEL_LIB_EXTENTS_H

#include <stdbool.h>
#include <stdint.h>

#define EXTENTS_SECTOR_BYTES 512u
/* The longest extent, on disks whose blocks are not longer. */
#define EXTENTS_BYTES 65536u

struct extents {
    uint64_t seed;
    uint64_t first_block; /* the part of the disk that they lie in; at least 1 block */
    uint64_t block_count;
    uint32_t block_sectors;
};

enum extent_kind {
    EXTENT_PLAIN,
    EXTENT_DURABLE, /* its write reaches the medium before it ends */
    EXTENT_ZEROES,  /* its sectors become zero */
};

struct extent {
    uint64_t sector;
    uint32_t sectors;
    enum extent_kind kind;
};

/* The one with this number, from 0.  The first ends where the part ends, the second begins it. */
void extents_get(const struct extents *extents, uint64_t number, struct extent *out_extent);

bool extents_overlap(const struct extent *left, const struct extent *right);

/*
 * What extent `number` leaves in `sector`: the sector, the number, and a
 * stream that both and the seed determine; or zeroes.
 */
void extents_fill(const struct extents *extents, uint64_t number, enum extent_kind kind,
                  uint64_t sector, uint64_t out_words[EXTENTS_SECTOR_BYTES / 8]);

/* True if the sector's content is that of some extent for some sector; which. */
bool extents_origin(const struct extents *extents, const uint64_t words[EXTENTS_SECTOR_BYTES / 8],
                    uint64_t *out_number, uint64_t *out_sector);

/*
 * The seed's random number `which` for extent `number`, for what the content
 * does not depend on: `which` is EXTENTS_FREE to 15.
 */
#define EXTENTS_FREE 4u
uint64_t extents_random(const struct extents *extents, uint64_t number, unsigned which);

#endif
