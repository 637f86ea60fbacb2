/* SPDX-License-Identifier: MIT */
/*
 * A histogram of times: 64 steps for each doubling, so a value read back is
 * at most 1/64 too large.  Calling: no state but the struct's.
 */
#ifndef KERNEL_LIB_LATENCY_H
#define KERNEL_LIB_LATENCY_H

#include <stdint.h>

#define LATENCY_BITS    6u
#define LATENCY_STEPS   (1u << LATENCY_BITS)
#define LATENCY_BUCKETS ((65u - LATENCY_BITS) * LATENCY_STEPS)

struct latency {
    uint64_t count;
    uint64_t longest_ns;
    uint32_t buckets[LATENCY_BUCKETS];
};

/* Adds one value; start with a zeroed struct. */
void latency_add(struct latency *latency, uint64_t ns);

/* Adds all values of `from`. */
void latency_merge(struct latency *latency, const struct latency *from);

/* The value that `per_mille` of a thousand values do not exceed; 0 without values. */
uint64_t latency_at(const struct latency *latency, unsigned per_mille);

#endif
