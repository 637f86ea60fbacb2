/* SPDX-License-Identifier: MIT */
#include "sha256.h"

static const uint32_t constants[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

/*
 * Variables are 64 bits wide and only their low halves count: a machine without
 * 32-bit arithmetic of its own then has nothing to extend after each step.  With
 * the low half in both halves, a shift is a rotation.
 */
#define SPREAD(x)    ((x) << 32 | (uint32_t)(x))
#define ROTATED(x, i, j, k) ((x) >> (i) ^ (x) >> (j) ^ (x) >> (k))

static inline uint64_t sigma0(uint64_t x)
{
    x = SPREAD(x);
    return ROTATED(x, 2, 13, 22);
}

static inline uint64_t sigma1(uint64_t x)
{
    x = SPREAD(x);
    return ROTATED(x, 6, 11, 25);
}

static inline uint64_t gamma0(uint32_t word)
{
    uint64_t x = SPREAD((uint64_t)word);

    return x >> 7 ^ x >> 18 ^ word >> 3;
}

static inline uint64_t gamma1(uint32_t word)
{
    uint64_t x = SPREAD((uint64_t)word);

    return x >> 17 ^ x >> 19 ^ word >> 10;
}

#define CHOOSE(x, y, z)   ((z) ^ ((x) & ((y) ^ (z))))
#define MAJORITY(x, y, z) ((y) ^ (((x) ^ (y)) & ((y) ^ (z)))) /* the last term is the next one's first */

/* The roles of the eight variables move by one each round; unrolled, nothing has to be copied. */
#define ROUND(a, b, c, d, e, f, g, h, i)                                        \
    do {                                                                        \
        h += sigma1(e) + CHOOSE(e, f, g) + constants[i] + w[(i) & 15];          \
        d += h;                                                                 \
        h += sigma0(a) + MAJORITY(a, b, c);                                     \
    } while (0)
#define EIGHT_ROUNDS(i)                        \
    do {                                       \
        ROUND(a, b, c, d, e, f, g, h, (i));    \
        ROUND(h, a, b, c, d, e, f, g, (i) + 1); \
        ROUND(g, h, a, b, c, d, e, f, (i) + 2); \
        ROUND(f, g, h, a, b, c, d, e, (i) + 3); \
        ROUND(e, f, g, h, a, b, c, d, (i) + 4); \
        ROUND(d, e, f, g, h, a, b, c, (i) + 5); \
        ROUND(c, d, e, f, g, h, a, b, (i) + 6); \
        ROUND(b, c, d, e, f, g, h, a, (i) + 7); \
    } while (0)

/* The next sixteen words of the schedule in place of the last. */
static inline void schedule(uint32_t w[16])
{
#define NEXT(i) \
    w[i] += (uint32_t)(gamma1(w[((i) + 14) & 15]) + w[((i) + 9) & 15] + gamma0(w[((i) + 1) & 15]))
    NEXT(0);
    NEXT(1);
    NEXT(2);
    NEXT(3);
    NEXT(4);
    NEXT(5);
    NEXT(6);
    NEXT(7);
    NEXT(8);
    NEXT(9);
    NEXT(10);
    NEXT(11);
    NEXT(12);
    NEXT(13);
    NEXT(14);
    NEXT(15);
#undef NEXT
}

static inline uint32_t load(const uint8_t *bytes)
{
    return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

static void compress(uint32_t state[8], const uint8_t *block)
{
    uint64_t a = state[0], b = state[1], c = state[2], d = state[3];
    uint64_t e = state[4], f = state[5], g = state[6], h = state[7];
    uint32_t w[16];

    for (unsigned i = 0; i < 16; i++) {
        w[i] = load(block + 4 * i);
    }
    EIGHT_ROUNDS(0);
    EIGHT_ROUNDS(8);
    schedule(w);
    EIGHT_ROUNDS(16);
    EIGHT_ROUNDS(24);
    schedule(w);
    EIGHT_ROUNDS(32);
    EIGHT_ROUNDS(40);
    schedule(w);
    EIGHT_ROUNDS(48);
    EIGHT_ROUNDS(56);
    state[0] += (uint32_t)a;
    state[1] += (uint32_t)b;
    state[2] += (uint32_t)c;
    state[3] += (uint32_t)d;
    state[4] += (uint32_t)e;
    state[5] += (uint32_t)f;
    state[6] += (uint32_t)g;
    state[7] += (uint32_t)h;
}

void sha256_init(struct sha256 *sha256)
{
    *sha256 = (struct sha256){
        .state = { 0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c,
                   0x1f83d9ab, 0x5be0cd19 },
    };
}

void sha256_update(struct sha256 *sha256, const void *data, size_t bytes)
{
    const uint8_t *in = data;
    size_t used = sha256->bytes % SHA256_BLOCK_BYTES;

    sha256->bytes += bytes;
    while (bytes > 0) {
        if (used == 0 && bytes >= SHA256_BLOCK_BYTES) {
            compress(sha256->state, in);
            in += SHA256_BLOCK_BYTES;
            bytes -= SHA256_BLOCK_BYTES;
            continue;
        }
        sha256->block[used++] = *in++;
        bytes--;
        if (used == SHA256_BLOCK_BYTES) {
            compress(sha256->state, sha256->block);
            used = 0;
        }
    }
}

void sha256_finish(struct sha256 *sha256, uint8_t out_digest[SHA256_BYTES])
{
    static const uint8_t padding[SHA256_BLOCK_BYTES] = { 0x80 };
    uint64_t bits = sha256->bytes * 8;
    size_t used = sha256->bytes % SHA256_BLOCK_BYTES;
    uint8_t length[8];

    for (unsigned i = 0; i < 8; i++) {
        length[i] = (uint8_t)(bits >> (56 - 8 * i));
    }
    sha256_update(sha256, padding, (used < 56 ? 56 : 120) - used);
    sha256_update(sha256, length, sizeof(length));
    for (unsigned i = 0; i < SHA256_BYTES; i++) {
        out_digest[i] = (uint8_t)(sha256->state[i / 4] >> (24 - 8 * (i % 4)));
    }
}

void sha256_hex(const uint8_t digest[SHA256_BYTES], char out_text[SHA256_HEX_BYTES])
{
    static const char digits[] = "0123456789abcdef";

    for (unsigned i = 0; i < SHA256_BYTES; i++) {
        out_text[2 * i] = digits[digest[i] >> 4];
        out_text[2 * i + 1] = digits[digest[i] & 15];
    }
    out_text[2 * SHA256_BYTES] = '\0';
}
