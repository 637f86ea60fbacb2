/* SPDX-License-Identifier: MIT */
/*
 * Content that says where it belongs: every sector carries its own number, a
 * generation and a seed, and the rest of it follows from these.  So a sector
 * that is read back tells whether it was lost, torn, or put somewhere else.
 */
#ifndef SKBLK_CONTENT_H
#define SKBLK_CONTENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SKBLK_CONTENT_SECTOR 512u

enum skblk_finding {
    SKBLK_FINDING_GOOD,       /* this sector, and all of it one generation */
    SKBLK_FINDING_FOREIGN,    /* none of our content */
    SKBLK_FINDING_MISPLACED,  /* another sector's content */
    SKBLK_FINDING_TORN,       /* begins as ours and does not go on so */
    SKBLK_FINDING_GENERATION, /* ours, of a generation that should not be here */
    SKBLK_FINDING_COUNT
};

struct skblk_content {
    uint64_t sector;
    uint32_t generation;
    uint32_t seed;
};

void skblk_content_fill(void *sector_data, const struct skblk_content *content);

/*
 * What one sector holds.  *out_found is what it says of itself, where it says
 * anything; GENERATION is never returned: which ones may be here, the caller knows.
 */
enum skblk_finding skblk_content_look(const void *sector_data, uint64_t sector, uint32_t seed,
                                      struct skblk_content *out_found);

/* "torn", ... */
const char *skblk_finding_name(enum skblk_finding finding);

#endif
