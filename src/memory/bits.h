/* SPDX-License-Identifier: MIT */
/*
 * Counting in 64-bit words.  Where the instruction set has no counting
 * instruction the compiler would call its support library, which a kernel
 * need not link; there a de Bruijn table does it.  SKI_BITS_GENERIC asks for
 * the table everywhere.
 */
#ifndef SKI_MEMORY_BITS_H
#define SKI_MEMORY_BITS_H

#include <stdint.h>

#define SKI_BITS_WORD 64u

#if !defined(SKI_BITS_GENERIC) && \
    (defined(__x86_64__) || defined(__aarch64__) || defined(__riscv_zbb))

/* Zeros below the lowest one; the word is not 0. */
static inline uint32_t ski_bits_trailing_zeros(uint64_t word)
{
    return (uint32_t)__builtin_ctzll(word);
}

/* Zeros above the highest one; the word is not 0. */
static inline uint32_t ski_bits_leading_zeros(uint64_t word)
{
    return (uint32_t)__builtin_clzll(word);
}

#else

/* The position of a word's only one. */
static inline uint32_t ski_bits_position(uint64_t one)
{
    static const uint8_t positions[SKI_BITS_WORD] = {
        0, 1, 48, 2, 57, 49, 28, 3, 61, 58, 50, 42, 38, 29, 17, 4, 62, 55, 59, 36, 53, 51,
        43, 22, 45, 39, 33, 30, 24, 18, 12, 5, 63, 47, 56, 27, 60, 41, 37, 16, 54, 35, 52, 21,
        44, 32, 23, 11, 46, 26, 40, 15, 34, 20, 31, 10, 25, 14, 19, 9, 13, 8, 7, 6,
    };

    return positions[(one * UINT64_C(0x03f79d71b4cb0a89)) >> 58];
}

static inline uint32_t ski_bits_trailing_zeros(uint64_t word)
{
    return ski_bits_position(word & (~word + 1));
}

static inline uint32_t ski_bits_leading_zeros(uint64_t word)
{
    for (uint32_t step = 1; step < SKI_BITS_WORD; step *= 2) {
        word |= word >> step;
    }
    return SKI_BITS_WORD - 1 - ski_bits_position(word - (word >> 1));
}

#endif

#endif
