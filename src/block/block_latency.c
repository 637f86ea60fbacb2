/* SPDX-License-Identifier: MIT */
#include "block/block_latency.h"

#include "block/block_batch.h"

#include <skio/checked.h>

#include "memory/bits.h"

enum sk_status sk_block_set_latency(struct sk_block_queue *queue, uint32_t every)
{
    if (every != 0 && !sk_checked_is_power_of_two(every)) {
        return SK_ERR_INVALID;
    }
    if (every != 0) {
        queue->latency = (struct sk_block_latency){ .count = 0 };
    }
    queue->detour &= ~SKI_BLOCK_DETOUR_TIME;
    queue->detour |= every != 0 ? SKI_BLOCK_DETOUR_TIME : 0;
    queue->latency_seen = 0;
    queue->latency_every = every;
    return SK_OK;
}

void sk_block_get_latency(const struct sk_block_queue *queue, struct sk_block_latency *out_latency)
{
    *out_latency = queue->latency;
}

void ski_block_latency_add(struct sk_block_latency *latency, uint64_t ns)
{
    uint32_t bucket = SKI_BITS_WORD - 1 - ski_bits_leading_zeros(ns | 1);

    latency->buckets[bucket < SK_BLOCK_LATENCY_BUCKETS ? bucket : SK_BLOCK_LATENCY_BUCKETS - 1]++;
    latency->count++;
    latency->total_ns += ns;
    if (ns > latency->longest_ns) {
        latency->longest_ns = ns;
    }
}

static uint64_t now(const struct sk_block_queue *queue)
{
    const struct sk_platform *platform = queue->device->platform;

    return platform->now_ns(platform->context);
}

/* A mark that a caller left in a request counts for nothing. */
void ski_block_latency_mark(struct sk_block_queue *queue,
                            struct sk_block_request *const *requests, uint32_t count)
{
    uint32_t mask = queue->latency_every - 1; /* a power of two: the count may wrap */
    uint64_t time = 0;

    for (uint32_t i = 0; i < count; i++) {
        requests[i]->flags &= ~SKI_BLOCK_FLAG_TIMED;
        if ((queue->latency_seen++ & mask) == 0) {
            time = time == 0 ? now(queue) : time;
            requests[i]->flags |= SKI_BLOCK_FLAG_TIMED;
            requests[i]->started_ns = time;
        }
    }
}

void ski_block_latency_end(struct sk_block_queue *queue, const struct sk_block_request *request)
{
    uint64_t time = now(queue);

    /* Switched off meanwhile: the histogram stays as it was. */
    if (queue->latency_every != 0) {
        ski_block_latency_add(&queue->latency,
                              time > request->started_ns ? time - request->started_ns : 0);
    }
}

/* How many of `count` a fraction is, rounded up; it never overflows, since the result is a count. */
static uint64_t share(uint64_t count, uint32_t numerator, uint32_t denominator)
{
    uint64_t rest = count % denominator;

    return count / denominator * numerator +
           (rest * numerator + denominator - 1) / denominator;
}

uint64_t sk_block_latency_quantile(const struct sk_block_latency *latency, uint32_t numerator,
                                   uint32_t denominator)
{
    uint64_t wanted;
    uint64_t seen = 0;

    if (denominator == 0 || numerator > denominator) {
        return 0;
    }
    wanted = share(latency->count, numerator, denominator);
    for (uint32_t bucket = 0; bucket < SK_BLOCK_LATENCY_BUCKETS && wanted > 0; bucket++) {
        seen += latency->buckets[bucket];
        if (seen >= wanted) {
            uint64_t most = bucket == SK_BLOCK_LATENCY_BUCKETS - 1
                                ? UINT64_MAX
                                : (UINT64_C(2) << bucket) - 1;

            return most < latency->longest_ns ? most : latency->longest_ns;
        }
    }
    return 0;
}
