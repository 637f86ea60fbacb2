/* SPDX-License-Identifier: MIT */
#include "content.h"

#include <string.h>

#define WORDS (SKBLK_CONTENT_SECTOR / sizeof(uint64_t))
#define MAGIC UINT64_C(0x736b626c6b766679) /* reads "yfvklbks" in a dump */

static uint64_t word_of(const struct skblk_content *content, size_t index)
{
    uint64_t value = content->sector * UINT64_C(0x9e3779b97f4a7c15) +
                     content->generation * UINT64_C(0xbf58476d1ce4e5b9) +
                     ((uint64_t)content->seed << 32) + index;

    value = (value ^ value >> 31) * UINT64_C(0x94d049bb133111eb);
    return value ^ value >> 29;
}

void skblk_content_fill(void *sector_data, const struct skblk_content *content)
{
    uint64_t words[WORDS];

    words[0] = MAGIC;
    words[1] = content->sector;
    words[2] = content->generation | (uint64_t)content->seed << 32;
    for (size_t i = 3; i < WORDS; i++) {
        words[i] = word_of(content, i);
    }
    (void)memcpy(sector_data, words, sizeof(words));
}

enum skblk_finding skblk_content_look(const void *sector_data, uint64_t sector, uint32_t seed,
                                      struct skblk_content *out_found)
{
    uint64_t words[WORDS];

    (void)memcpy(words, sector_data, sizeof(words));
    *out_found = (struct skblk_content){ words[1], (uint32_t)words[2], (uint32_t)(words[2] >> 32) };
    if (words[0] != MAGIC || out_found->seed != seed) {
        return SKBLK_FINDING_FOREIGN;
    }
    for (size_t i = 3; i < WORDS; i++) {
        if (words[i] != word_of(out_found, i)) {
            return SKBLK_FINDING_TORN;
        }
    }
    return out_found->sector == sector ? SKBLK_FINDING_GOOD : SKBLK_FINDING_MISPLACED;
}

const char *skblk_finding_name(enum skblk_finding finding)
{
    static const char *const names[SKBLK_FINDING_COUNT] = {
        [SKBLK_FINDING_GOOD] = "good",
        [SKBLK_FINDING_FOREIGN] = "foreign",
        [SKBLK_FINDING_MISPLACED] = "misplaced",
        [SKBLK_FINDING_TORN] = "torn",
        [SKBLK_FINDING_GENERATION] = "wrong generation",
    };

    return (unsigned)finding < SKBLK_FINDING_COUNT ? names[finding] : "unknown";
}
