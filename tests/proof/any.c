/* SPDX-License-Identifier: MIT */
/* Any value: CBMC's, or random ones. */
#include "proof.h"

#include "base/door.h"

#if defined(PROOF_BY_CBMC)
#include <stdlib.h>

uint64_t nondet_u64(void);

uint64_t proof_any(void)
{
    return nondet_u64();
}

void *proof_new(size_t bytes)
{
    void *object = calloc(1, bytes);

    proof_assume(object != NULL);
    return object;
}
#endif

#if defined(SKI_DOOR_ANYTHING)
uint64_t ski_door_anything(void)
{
    return proof_any();
}
#endif
