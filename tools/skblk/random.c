/* SPDX-License-Identifier: MIT */
#include "random.h"

#include <math.h>

/* Terms of the zeta sum that are added one by one; the integral stands for the rest. */
#define ZETA_TERMS UINT64_C(100000)

/* Mixes bits so that neighbours end far from each other. */
static uint64_t mix(uint64_t value)
{
    value = (value ^ value >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    value = (value ^ value >> 27) * UINT64_C(0x94d049bb133111eb);
    return value ^ value >> 31;
}

void skblk_random_seed(struct skblk_random *random, uint64_t seed, uint64_t stream)
{
    random->state = mix(seed) + mix(stream + UINT64_C(0x632be59bd9b4e019));
}

uint64_t skblk_random_next(struct skblk_random *random)
{
    random->state += UINT64_C(0x9e3779b97f4a7c15);
    return mix(random->state);
}

uint64_t skblk_random_below(struct skblk_random *random, uint64_t bound)
{
    return (uint64_t)(((unsigned __int128)skblk_random_next(random) * bound) >> 64);
}

static double zeta_of(uint64_t count, double skew)
{
    uint64_t terms = count < ZETA_TERMS ? count : ZETA_TERMS;
    double sum = 0;

    for (uint64_t i = 1; i <= terms; i++) {
        sum += pow((double)i, -skew);
    }
    return sum + (pow((double)count, 1 - skew) - pow((double)terms, 1 - skew)) / (1 - skew);
}

void skblk_places_init(struct skblk_places *places, const struct skblk_settings *settings,
                       uint64_t count, uint64_t first)
{
    *places = (struct skblk_places){
        .pattern = settings->pattern, .count = count, .next = first, .skew = settings->skew
    };
    if (places->pattern == SKBLK_PATTERN_ZIPF) {
        double two = 1 + pow(0.5, places->skew);

        places->zeta = zeta_of(count, places->skew);
        places->alpha = 1 / (1 - places->skew);
        places->eta = (1 - pow(2 / (double)count, 1 - places->skew)) / (1 - two / places->zeta);
    }
}

/* The rank of one draw, 0 the most frequent: inversion of the distribution's integral. */
static uint64_t draw_rank(const struct skblk_places *places, struct skblk_random *random)
{
    double u = (double)(skblk_random_next(random) >> 11) * 0x1p-53;
    double uz = u * places->zeta;
    uint64_t rank;

    if (uz < 1) {
        return 0;
    }
    if (uz < 1 + pow(0.5, places->skew)) {
        return places->count > 1;
    }
    rank = (uint64_t)((double)places->count *
                      pow(places->eta * u - places->eta + 1, places->alpha));
    return rank < places->count ? rank : places->count - 1;
}

uint64_t skblk_places_draw(struct skblk_places *places, struct skblk_random *random)
{
    switch (places->pattern) {
    case SKBLK_PATTERN_SEQUENTIAL:
        places->next = places->next + 1 < places->count ? places->next + 1 : 0;
        return places->next;
    case SKBLK_PATTERN_ZIPF:
        return mix(draw_rank(places, random)) % places->count; /* spread over the disk */
    default:
        return skblk_random_below(random, places->count);
    }
}
