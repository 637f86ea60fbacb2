/* SPDX-License-Identifier: MIT */
/*
 * What skio uses of the compiler beyond C11, in one place.  This is not a
 * compatibility layer: it names five attributes and one atomic scalar so that
 * the other headers compile as C11 and as C++ alike.
 */
#ifndef SKIO_COMPILER_H
#define SKIO_COMPILER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
#define SK_BEGIN_DECLS extern "C" {
#define SK_END_DECLS   }
#else
#define SK_BEGIN_DECLS
#define SK_END_DECLS
#endif

/* The result must be looked at: ignoring it is a compiler warning. */
#define SK_MUST_CHECK __attribute__((warn_unused_result))

/* printf-style format checking; arguments count from 1. */
#define SK_PRINTF(format_index, first_index) \
    __attribute__((format(printf, format_index, first_index)))

/* Calls `function(&variable)` when the variable leaves its scope. */
#define SK_CLEANUP(function) __attribute__((cleanup(function)))

/* The structure that holds `member`, from a pointer to the member. */
#define SK_CONTAINER_OF(pointer, type, member) \
    ((type *)(void *)((char *)(pointer) - offsetof(type, member)))

/*
 * A 32-bit atomic.  C sees C11's _Atomic; C++ sees a plain word of the same
 * size and alignment and must leave it to the library's functions.
 */
#ifdef __cplusplus
typedef uint32_t sk_atomic_u32;
#else
typedef _Atomic uint32_t sk_atomic_u32;
#endif

#endif
