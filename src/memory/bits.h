/* SPDX-License-Identifier: MIT */
/*
 * Counting in 64-bit words.  Where the instruction set has no counting
 * instruction the compiler would call its support library, which a kernel
 * need not link; there a de Bruijn table does it.
 */
#ifndef SKI_MEMORY_BITS_H
#define SKI_MEMORY_BITS_H

#include <stdint.h>

/* Bits in a word. */
#define SKI_BITS_WORD 64u

#if defined(__x86_64__) || defined(__aarch64__) || defined(__riscv_zbb)

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

/* Ones from bit 0 upwards until the first zero; 0 to 64. */
static inline uint32_t ski_bits_low_ones(uint64_t word)
{
    return ~word == 0 ? SKI_BITS_WORD : ski_bits_trailing_zeros(~word);
}

/* Ones from bit 63 downwards until the first zero; 0 to 64. */
static inline uint32_t ski_bits_high_ones(uint64_t word)
{
    return ~word == 0 ? SKI_BITS_WORD : ski_bits_leading_zeros(~word);
}

/* A mask of the bits [first, first + count); first below 64, first + count at most 64, count not 0. */
static inline uint64_t ski_bits_mask(uint32_t first, uint32_t count)
{
    return (~UINT64_C(0) >> (SKI_BITS_WORD - count)) << first;
}

/* Marks each bit at which `count` ones start; 1 to 64. */
static inline uint64_t ski_bits_run_starts(uint64_t word, uint32_t count)
{
    uint32_t length = 1;

    while (length < count) {
        uint32_t step = length < count - length ? length : count - length;

        word &= word >> step;
        length += step;
    }
    return word;
}

/* The length of the longest run of ones; 0 to 64. */
static inline uint32_t ski_bits_longest_run(uint64_t word)
{
    uint64_t starts[7]; /* of runs of 1, 2, 4, ... 64 */
    uint64_t found;
    uint32_t power = 0;
    uint32_t length;

    if (word == 0 || ~word == 0) {
        return word == 0 ? 0 : SKI_BITS_WORD;
    }
    starts[0] = word;
    while ((found = starts[power] & (starts[power] >> (1u << power))) != 0) {
        starts[++power] = found;
    }
    found = starts[power];
    length = 1u << power;
    while (power-- > 0) {
        uint64_t longer = found & (starts[power] >> length);

        if (longer != 0) {
            found = longer;
            length += 1u << power;
        }
    }
    return length;
}

#endif
