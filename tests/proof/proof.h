/* SPDX-License-Identifier: MIT */
/*
 * What a proof is written with.  A harness is a function prove_<name>: it makes
 * any state that is allowed, calls the library, and says what must hold then.
 * tools/prove has CBMC look at all values at once; tests/proof/test_proof_*.c run
 * the same functions with random ones, so that they keep compiling and mean
 * something to a debugger.
 */
#ifndef TESTS_PROOF_PROOF_H
#define TESTS_PROOF_PROOF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Any value at all. */
uint64_t proof_any(void);

/* What a harness consists of, for a run with random choices; the last one has no name. */
struct proof_run {
    const char *name;
    void (*run)(void);
};
extern const struct proof_run proof_runs[];

#if defined(PROOF_BY_CBMC)
#define proof_assume(condition) __CPROVER_assume(condition)
#define proof_assert(condition, what) __CPROVER_assert(condition, what)
#else
/* What is assumed and is not so ends the run: it shows nothing. */
_Noreturn void proof_discard(void);
_Noreturn void proof_failed(const char *what, const char *file, int line);
#define proof_assume(condition) ((condition) ? (void)0 : proof_discard())
#define proof_assert(condition, what) \
    ((condition) ? (void)0 : proof_failed(what, __FILE__, __LINE__))
#endif

/*
 * Zeroed memory until the run ends.  Objects of their own make shorter proofs
 * than an array of them.
 */
void *proof_new(size_t bytes);

static inline bool proof_maybe(void)
{
    return (proof_any() & 1) != 0;
}

/* Any number less than `limit`, which is at least 1. */
static inline uint32_t proof_below(uint32_t limit)
{
    uint32_t value = (uint32_t)proof_any();

#if defined(PROOF_BY_CBMC)
    proof_assume(value < limit);
    return value;
#else
    return value % limit;
#endif
}

#endif
