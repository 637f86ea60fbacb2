/* SPDX-License-Identifier: MIT */
/* Random numbers with a seed, and places on a disk drawn from them. */
#ifndef SKBLK_RANDOM_H
#define SKBLK_RANDOM_H

#include "skblk.h"

struct skblk_random {
    uint64_t state;
};

void skblk_random_seed(struct skblk_random *random, uint64_t seed, uint64_t stream);
uint64_t skblk_random_next(struct skblk_random *random);
/* 0 to `bound` - 1; `bound` is not 0. */
uint64_t skblk_random_below(struct skblk_random *random, uint64_t bound);

/* Draws one of `count` places, all alike, one after the other, or few of them often. */
struct skblk_places {
    enum skblk_pattern pattern;
    uint64_t count;
    uint64_t next;  /* sequential */
    double skew;    /* zipf; the rest are constants of its distribution */
    double zeta;
    double alpha;
    double eta;
};

void skblk_places_init(struct skblk_places *places, const struct skblk_settings *settings,
                       uint64_t count, uint64_t first);
uint64_t skblk_places_draw(struct skblk_places *places, struct skblk_random *random);

#endif
