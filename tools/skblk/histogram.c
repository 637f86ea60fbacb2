/* SPDX-License-Identifier: MIT */
#include "histogram.h"

#define STEPS      SKBLK_HISTOGRAM_STEPS
#define STEPS_BITS 4u

_Static_assert(STEPS == 1u << STEPS_BITS, "a step is the bits behind the leading one");

static size_t index_of(uint64_t ns)
{
    unsigned power;
    size_t index;

    if (ns < STEPS) {
        return (size_t)ns;
    }
    power = 63u - (unsigned)__builtin_clzll(ns);
    index = (power - STEPS_BITS + 1) * STEPS + (size_t)(ns >> (power - STEPS_BITS)) - STEPS;
    return index < SKBLK_HISTOGRAM_BUCKETS ? index : SKBLK_HISTOGRAM_BUCKETS - 1;
}

uint64_t skblk_histogram_edge(size_t index)
{
    size_t power = index / STEPS;

    if (power == 0) {
        return index;
    }
    return (uint64_t)(STEPS + index % STEPS) << (power - 1);
}

void skblk_histogram_add(struct skblk_histogram *histogram, uint64_t ns)
{
    histogram->buckets[index_of(ns)]++;
    histogram->count++;
    if (ns > histogram->longest_ns) {
        histogram->longest_ns = ns;
    }
}

void skblk_histogram_merge(struct skblk_histogram *into, const struct skblk_histogram *from)
{
    for (size_t i = 0; i < SKBLK_HISTOGRAM_BUCKETS; i++) {
        into->buckets[i] += from->buckets[i];
    }
    into->count += from->count;
    if (from->longest_ns > into->longest_ns) {
        into->longest_ns = from->longest_ns;
    }
}

uint64_t skblk_histogram_at(const struct skblk_histogram *histogram, double share)
{
    double wanted = share * (double)histogram->count;
    uint64_t seen = 0;

    for (size_t i = 0; i < SKBLK_HISTOGRAM_BUCKETS && histogram->count > 0; i++) {
        seen += histogram->buckets[i];
        if (seen > 0 && (double)seen >= wanted) {
            uint64_t edge = skblk_histogram_edge(i + 1);

            return edge < histogram->longest_ns ? edge : histogram->longest_ns;
        }
    }
    return histogram->longest_ns;
}
