/* SPDX-License-Identifier: MIT */
/* The four functions that a freestanding compiler and skio call.  Whole words where both ends allow. */
#include "string.h"

#define WORD sizeof(uint64_t)

typedef uint64_t word __attribute__((may_alias));

void *memcpy(void *restrict to, const void *restrict from, size_t bytes)
{
    unsigned char *out = to;
    const unsigned char *in = from;

    if (((uintptr_t)out ^ (uintptr_t)in) % WORD == 0) {
        for (; bytes > 0 && (uintptr_t)out % WORD != 0; bytes--) {
            *out++ = *in++;
        }
        for (; bytes >= 4 * WORD; bytes -= 4 * WORD, out += 4 * WORD, in += 4 * WORD) {
            ((word *)out)[0] = ((const word *)in)[0];
            ((word *)out)[1] = ((const word *)in)[1];
            ((word *)out)[2] = ((const word *)in)[2];
            ((word *)out)[3] = ((const word *)in)[3];
        }
        for (; bytes >= WORD; bytes -= WORD, out += WORD, in += WORD) {
            *(word *)out = *(const word *)in;
        }
    }
    for (; bytes > 0; bytes--) {
        *out++ = *in++;
    }
    return to;
}

void *memmove(void *to, const void *from, size_t bytes)
{
    unsigned char *out = (unsigned char *)to + bytes;
    const unsigned char *in = (const unsigned char *)from + bytes;

    if ((uintptr_t)to - (uintptr_t)from >= bytes) {
        return memcpy(to, from, bytes);
    }
    for (; bytes > 0; bytes--) {
        *--out = *--in;
    }
    return to;
}

void *memset(void *to, int value, size_t bytes)
{
    unsigned char *out = to;
    uint64_t pattern = (unsigned char)value * UINT64_C(0x0101010101010101);

    for (; bytes > 0 && (uintptr_t)out % WORD != 0; bytes--) {
        *out++ = (unsigned char)value;
    }
    for (; bytes >= WORD; bytes -= WORD, out += WORD) {
        *(word *)out = pattern;
    }
    for (; bytes > 0; bytes--) {
        *out++ = (unsigned char)value;
    }
    return to;
}

int memcmp(const void *left, const void *right, size_t bytes)
{
    const unsigned char *a = left;
    const unsigned char *b = right;

    for (; bytes > 0; bytes--, a++, b++) {
        if (*a != *b) {
            return *a < *b ? -1 : 1;
        }
    }
    return 0;
}
