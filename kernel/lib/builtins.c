/* SPDX-License-Identifier: MIT */
/*
 * What the compiler calls where the processor has no instruction: the names
 * and contracts of its own support library.  Arguments of 0 are undefined for
 * the first two.
 */
#include <stdint.h>

int __clzdi2(uint64_t value);
int __ctzdi2(uint64_t value);
int __popcountdi2(uint64_t value);
uint32_t __bswapsi2(uint32_t value);
uint64_t __bswapdi2(uint64_t value);

int __clzdi2(uint64_t value)
{
    int zeros = 0;

    for (int step = 32; step > 0; step /= 2) {
        if (value >> (64 - step) == 0) {
            value <<= step;
            zeros += step;
        }
    }
    return zeros;
}

int __ctzdi2(uint64_t value)
{
    return 63 - __clzdi2(value & -value);
}

int __popcountdi2(uint64_t value)
{
    int ones = 0;

    for (; value != 0; value &= value - 1) {
        ones++;
    }
    return ones;
}

uint32_t __bswapsi2(uint32_t value)
{
    value = (value & 0x00ff00ffu) << 8 | (value >> 8 & 0x00ff00ffu);
    return value << 16 | value >> 16;
}

uint64_t __bswapdi2(uint64_t value)
{
    return (uint64_t)__bswapsi2((uint32_t)value) << 32 | __bswapsi2((uint32_t)(value >> 32));
}
