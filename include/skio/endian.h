/* SPDX-License-Identifier: MIT */
/*
 * Integers with a byte order.  Virtio's shared structures are little-endian,
 * device trees are big-endian; each such field has a wrapper type, so that a
 * forgotten conversion does not compile.  These are not unaligned accessors:
 * for bytes at any address there are `sk_endian_load_*` at the end.
 *
 * Calling: any context; no state.
 * Spec: Virtio 1.2, "Terminology" (le16, le32, le64); Devicetree 0.4, 5.2.
 */
#ifndef SKIO_ENDIAN_H
#define SKIO_ENDIAN_H

#include <skio/compiler.h>

SK_BEGIN_DECLS

typedef struct sk_le16 { uint16_t raw; } sk_le16;
typedef struct sk_le32 { uint32_t raw; } sk_le32;
typedef struct sk_le64 { uint64_t raw; } sk_le64;
typedef struct sk_be16 { uint16_t raw; } sk_be16;
typedef struct sk_be32 { uint32_t raw; } sk_be32;
typedef struct sk_be64 { uint64_t raw; } sk_be64;

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define SK_ENDIAN_LE_(bits, value) (value)
#define SK_ENDIAN_BE_(bits, value) __builtin_bswap##bits(value)
#else
#define SK_ENDIAN_LE_(bits, value) __builtin_bswap##bits(value)
#define SK_ENDIAN_BE_(bits, value) (value)
#endif

/* sk_le16_make(5) wraps a host value, sk_le16_get(x) returns it; so for all six. */
#define SK_ENDIAN_DEFINE_(type, bits, SWAP)                     \
    static inline type type##_make(uint##bits##_t value)        \
    {                                                           \
        type wrapped;                                           \
        wrapped.raw = SWAP(bits, value);                        \
        return wrapped;                                         \
    }                                                           \
    static inline uint##bits##_t type##_get(type wrapped)       \
    {                                                           \
        return SWAP(bits, wrapped.raw);                         \
    }

SK_ENDIAN_DEFINE_(sk_le16, 16, SK_ENDIAN_LE_)
SK_ENDIAN_DEFINE_(sk_le32, 32, SK_ENDIAN_LE_)
SK_ENDIAN_DEFINE_(sk_le64, 64, SK_ENDIAN_LE_)
SK_ENDIAN_DEFINE_(sk_be16, 16, SK_ENDIAN_BE_)
SK_ENDIAN_DEFINE_(sk_be32, 32, SK_ENDIAN_BE_)
SK_ENDIAN_DEFINE_(sk_be64, 64, SK_ENDIAN_BE_)

#undef SK_ENDIAN_DEFINE_

/* Big-endian and little-endian values from bytes at any alignment. */
static inline uint32_t sk_endian_load_be32(const uint8_t *bytes)
{
    return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

static inline uint64_t sk_endian_load_be64(const uint8_t *bytes)
{
    return (uint64_t)sk_endian_load_be32(bytes) << 32 | sk_endian_load_be32(bytes + 4);
}

static inline uint16_t sk_endian_load_le16(const uint8_t *bytes)
{
    return (uint16_t)(bytes[0] | (unsigned)bytes[1] << 8);
}

static inline uint32_t sk_endian_load_le32(const uint8_t *bytes)
{
    return (uint32_t)bytes[3] << 24 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[1] << 8 | bytes[0];
}

static inline uint64_t sk_endian_load_le64(const uint8_t *bytes)
{
    return (uint64_t)sk_endian_load_le32(bytes + 4) << 32 | sk_endian_load_le32(bytes);
}

SK_END_DECLS

#endif
