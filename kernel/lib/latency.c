/* SPDX-License-Identifier: MIT */
#include "latency.h"

/* The place of the leading one, of a value that is not 0; here, because few compilers inline it. */
static unsigned log2_of(uint64_t ns)
{
    unsigned base = 0;
    unsigned step;
    uint32_t value = (uint32_t)ns;

    if (ns >> 32 != 0) {
        value = (uint32_t)(ns >> 32);
        base = 32;
    }
    step = (value > 0xffff) * 16u;
    value >>= step;
    base += step;
    step = (value > 0xff) * 8u;
    value >>= step;
    base += step;
    step = (value > 0xf) * 4u;
    value >>= step;
    base += step;
    return base + (0xffffaa50u >> 2 * value & 3); /* of 0 to 15, two bits each */
}

/* Small values have a bucket each; above, the bits behind the leading one choose the step. */
static unsigned bucket_of(uint64_t ns)
{
    unsigned shift;

    if (ns < LATENCY_STEPS) {
        return (unsigned)ns;
    }
    shift = log2_of(ns) - LATENCY_BITS;
    return (shift + 1) * LATENCY_STEPS + ((unsigned)(ns >> shift) & (LATENCY_STEPS - 1));
}

/* The largest value of a bucket. */
static uint64_t value_of(unsigned bucket)
{
    unsigned shift = bucket / LATENCY_STEPS - 1;

    if (bucket < LATENCY_STEPS) {
        return bucket;
    }
    return ((uint64_t)(bucket % LATENCY_STEPS + LATENCY_STEPS + 1) << shift) - 1;
}

void latency_add(struct latency *latency, uint64_t ns)
{
    latency->count++;
    latency->buckets[bucket_of(ns)]++;
    if (ns > latency->longest_ns) {
        latency->longest_ns = ns;
    }
}

void latency_merge(struct latency *latency, const struct latency *from)
{
    latency->count += from->count;
    for (unsigned i = 0; i < LATENCY_BUCKETS; i++) {
        latency->buckets[i] += from->buckets[i];
    }
    if (from->longest_ns > latency->longest_ns) {
        latency->longest_ns = from->longest_ns;
    }
}

uint64_t latency_at(const struct latency *latency, unsigned per_mille)
{
    uint64_t wanted = (latency->count * per_mille + 999) / 1000;
    uint64_t seen = 0;

    for (unsigned i = 0; i < LATENCY_BUCKETS && wanted > 0; i++) {
        seen += latency->buckets[i];
        if (seen >= wanted) {
            uint64_t value = value_of(i);

            return value < latency->longest_ns ? value : latency->longest_ns;
        }
    }
    return 0;
}
