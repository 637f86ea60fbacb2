/* SPDX-License-Identifier: MIT */
/* How often what latency was seen: 16 steps for each power of two, so within 7 %. */
#ifndef SKBLK_HISTOGRAM_H
#define SKBLK_HISTOGRAM_H

#include <stddef.h>
#include <stdint.h>

#define SKBLK_HISTOGRAM_STEPS   16u
#define SKBLK_HISTOGRAM_BUCKETS (60u * SKBLK_HISTOGRAM_STEPS)

struct skblk_histogram {
    uint64_t buckets[SKBLK_HISTOGRAM_BUCKETS];
    uint64_t count;
    uint64_t longest_ns;
};

void skblk_histogram_add(struct skblk_histogram *histogram, uint64_t ns);
void skblk_histogram_merge(struct skblk_histogram *into, const struct skblk_histogram *from);

/* The latency that this share of all (0 to 1) does not exceed; ns; 0 if there is none. */
uint64_t skblk_histogram_at(const struct skblk_histogram *histogram, double share);

/* The lowest ns of a bucket, and of the one behind it for `index` + 1. */
uint64_t skblk_histogram_edge(size_t index);

#endif
