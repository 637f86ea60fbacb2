/* SPDX-License-Identifier: MIT */
/*
 * Included before everything else, for CBMC alone: the door's atomic loads and
 * stores, of which a proof knows the address and nothing else.  What the device
 * wrote is ski_door_anything's business, so nothing is read and nothing kept;
 * that there is memory where the library reads and writes is a claim.
 */
#ifndef TESTS_PROOF_FORGET_H
#define TESTS_PROOF_FORGET_H

/* Split and packed rings side by side instead: what is one memory for two is hard on a proof. */
#define union struct

/* Of the sources here the door alone fills memory, and it is the device's. */
#include "base/bytes.h"
#define memset(to, value, bytes) \
    ((void)(value), __CPROVER_assert(__CPROVER_w_ok((to), (bytes)), "shared memory is zeroed"))

#define __atomic_load_n(from, order) \
    (__CPROVER_assert(__CPROVER_r_ok((from), sizeof(*(from))), "a load from shared memory"), \
     (__typeof__(*(from)))0)
#define __atomic_store_n(to, value, order) \
    ((void)(value), \
     __CPROVER_assert(__CPROVER_w_ok((to), sizeof(*(to))), "a store to shared memory"))
#define __atomic_exchange_n(to, value, order) \
    (__atomic_store_n(to, value, order), (__typeof__(*(to)))0)

#endif
