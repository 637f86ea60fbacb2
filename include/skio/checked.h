/* SPDX-License-Identifier: MIT */
/*
 * Arithmetic that says when it does not fit, and the one range check.  Every
 * sum of an offset and a length in skio goes through here.  It is not a big
 * number library: the type is uint64_t, and narrowing is the caller's, after a
 * check.
 *
 * Calling: any context; no state.
 */
#ifndef SKIO_CHECKED_H
#define SKIO_CHECKED_H

#include <skio/compiler.h>

SK_BEGIN_DECLS

/*
 * Stores `a + b` in *out_sum.  Returns false, with *out_sum unspecified, if
 * and only if the sum does not fit.
 */
SK_MUST_CHECK static inline bool sk_checked_add(uint64_t a, uint64_t b, uint64_t *out_sum)
{
    return !__builtin_add_overflow(a, b, out_sum);
}

/* The same for `a * b`. */
SK_MUST_CHECK static inline bool sk_checked_mul(uint64_t a, uint64_t b, uint64_t *out_product)
{
    return !__builtin_mul_overflow(a, b, out_product);
}

/* True if `value` is a power of two; 0 is none. */
static inline bool sk_checked_is_power_of_two(uint64_t value)
{
    return value != 0 && (value & (value - 1)) == 0;
}

/*
 * Rounds `value` up to a multiple of `alignment`, a power of two.  Returns
 * false, with *out_value unspecified, if the alignment is no power of two or
 * the result does not fit.
 */
SK_MUST_CHECK static inline bool sk_checked_align_up(uint64_t value, uint64_t alignment,
                                                     uint64_t *out_value)
{
    uint64_t sum;

    if (!sk_checked_is_power_of_two(alignment) || !sk_checked_add(value, alignment - 1, &sum)) {
        return false;
    }
    *out_value = sum & ~(alignment - 1);
    return true;
}

/* True if [offset, offset + length) lies within [0, size); never overflows. */
static inline bool sk_checked_range(uint64_t offset, uint64_t length, uint64_t size)
{
    return offset <= size && length <= size - offset;
}

SK_END_DECLS

#endif
