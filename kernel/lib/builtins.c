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

/* Written out: it is on the way of every time that `bench` takes. */
int __clzdi2(uint64_t value)
{
    static const uint8_t zeros_of[16] = { 4, 3, 2, 2, 1, 1, 1, 1 };
    unsigned shift = (value >> 32 != 0) * 32u;

    value >>= shift;
    shift += (value >> 16 != 0) * 16u;
    value = value >> 16 != 0 ? value >> 16 : value;
    shift += (value >> 8 != 0) * 8u;
    value = value >> 8 != 0 ? value >> 8 : value;
    shift += (value >> 4 != 0) * 4u;
    value = value >> 4 != 0 ? value >> 4 : value;
    return (int)(60u - shift) + zeros_of[value];
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
