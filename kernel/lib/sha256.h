/* SPDX-License-Identifier: MIT */
/* SHA-256.  Calling: no state but the struct's.  Spec: FIPS 180-4, 6.2. */
#ifndef KERNEL_LIB_SHA256_H
#define KERNEL_LIB_SHA256_H

#include <stddef.h>
#include <stdint.h>

#define SHA256_BYTES       32u
#define SHA256_BLOCK_BYTES 64u
#define SHA256_HEX_BYTES   65u /* as text, its zero included */

struct sha256 {
    uint32_t state[8];
    uint64_t bytes;
    uint8_t block[SHA256_BLOCK_BYTES]; /* what does not fill a block yet */
};

void sha256_init(struct sha256 *sha256);
void sha256_update(struct sha256 *sha256, const void *data, size_t bytes);
/* The digest; *sha256 must be initialised again before it is used again. */
void sha256_finish(struct sha256 *sha256, uint8_t out_digest[SHA256_BYTES]);

/* The digest as 64 lower-case digits. */
void sha256_hex(const uint8_t digest[SHA256_BYTES], char out_text[SHA256_HEX_BYTES]);

#endif
