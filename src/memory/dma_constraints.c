/* SPDX-License-Identifier: MIT */
#include "memory/dma_private.h"

static uint64_t larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* The smaller one of two limits where 0 means that there is none. */
static uint64_t tighter(uint64_t a, uint64_t b)
{
    if (a == 0 || b == 0) {
        return a + b;
    }
    return a < b ? a : b;
}

static bool is_power_or_zero(uint64_t value)
{
    return value == 0 || sk_checked_is_power_of_two(value);
}

/* The longest single piece, from the two limits on one; 0: no limit. */
static uint64_t piece_bytes_max(const struct sk_dma_constraints *constraints)
{
    return tighter(constraints->segment_bytes_max, constraints->boundary_bytes);
}

uint64_t ski_dma_constraints_highest(const struct sk_dma_constraints *constraints)
{
    return constraints->highest.raw == 0 ? UINT64_MAX : constraints->highest.raw;
}

enum sk_status ski_dma_constraints_check(const struct sk_dma_constraints *constraints)
{
    uint64_t bytes = larger(constraints->size_bytes, 1);
    uint64_t piece = piece_bytes_max(constraints);
    uint64_t total;
    uint64_t first;
    uint64_t last;

    if (!is_power_or_zero(constraints->alignment_bytes) ||
        !is_power_or_zero(constraints->alignment_preferred) ||
        !is_power_or_zero(constraints->boundary_bytes)) {
        return SK_ERR_ALIGNMENT;
    }
    if (!sk_checked_align_up(constraints->lowest.raw, larger(constraints->alignment_bytes, 1),
                             &first) ||
        !sk_checked_add(first, bytes - 1, &last) ||
        last > ski_dma_constraints_highest(constraints)) {
        return SK_ERR_RANGE;
    }
    if (piece != 0 && constraints->segment_count_max != 0 &&
        sk_checked_mul(piece, constraints->segment_count_max, &total) && total < bytes) {
        return SK_ERR_RANGE;
    }
    return SK_OK;
}

bool ski_dma_constraints_allow(const struct sk_dma_constraints *constraints, sk_daddr address,
                               uint64_t bytes)
{
    uint64_t alignment = larger(constraints->alignment_bytes, 1);
    uint64_t boundary = constraints->boundary_bytes;
    uint64_t last;

    if (bytes == 0 || !sk_checked_add(address.raw, bytes - 1, &last)) {
        return false;
    }
    if ((address.raw & (alignment - 1)) != 0 ||
        (boundary != 0 && (address.raw ^ last) >= boundary)) {
        return false;
    }
    return address.raw >= constraints->lowest.raw &&
           last <= ski_dma_constraints_highest(constraints);
}

bool ski_dma_constraints_to_pages(struct sk_dma_constraints *constraints)
{
    uint64_t boundary = constraints->boundary_bytes;
    uint64_t pages;

    /* A size beyond a boundary below a page is left for the caller to see. */
    if (boundary != 0 && boundary < SK_DMA_PAGE_BYTES && constraints->size_bytes <= boundary) {
        constraints->boundary_bytes = SK_DMA_PAGE_BYTES;
    }
    if (constraints->size_bytes == 0 ||
        !sk_checked_align_up(constraints->size_bytes, SK_DMA_PAGE_BYTES, &pages) ||
        pages > SIZE_MAX) {
        return false;
    }
    constraints->size_bytes = pages;
    return true;
}

enum sk_status sk_dma_constraints_merge(struct sk_dma_constraints *into,
                                        const struct sk_dma_constraints *with)
{
    struct sk_dma_constraints merged;
    enum sk_status status;

    if (into == NULL || with == NULL) {
        return SK_ERR_INVALID;
    }
    merged = (struct sk_dma_constraints){
        .size_bytes = larger(into->size_bytes, with->size_bytes),
        .alignment_bytes = larger(into->alignment_bytes, with->alignment_bytes),
        .alignment_preferred = larger(into->alignment_preferred, with->alignment_preferred),
        .boundary_bytes = tighter(into->boundary_bytes, with->boundary_bytes),
        .lowest = { larger(into->lowest.raw, with->lowest.raw) },
        .highest = { tighter(into->highest.raw, with->highest.raw) },
        .segment_count_max = (uint32_t)tighter(into->segment_count_max, with->segment_count_max),
        .segment_bytes_max = tighter(into->segment_bytes_max, with->segment_bytes_max),
        .copied = into->copied || with->copied,
    };
    /* Each side alone first: a maximum of two alignments can hide one that is none. */
    status = ski_dma_constraints_check(into);
    if (status == SK_OK) {
        status = ski_dma_constraints_check(with);
    }
    if (status == SK_OK) {
        status = ski_dma_constraints_check(&merged);
    }
    if (status == SK_OK) {
        *into = merged;
    }
    return status;
}
