/* SPDX-License-Identifier: MIT */
/*
 * A spin lock.  While it is held this hart takes no interrupts, so handlers
 * may take it too.  Hold it for moments, and no second one but the console's.
 */
#ifndef KERNEL_LOCK_H
#define KERNEL_LOCK_H

#include <stdatomic.h>

#include <skio/platform.h>

#include "arch/arch.h"

struct lock {
    sk_atomic_u32 held; /* 1: yes; no bool, whose exchange needs a library here */
};

/* For those who take no interrupts anyway. */
static inline void lock_take_masked(struct lock *lock)
{
    while (atomic_exchange_explicit(&lock->held, 1, memory_order_acquire)) {
        arch_relax(); /* a hart that shall stop, stops here */
    }
}

static inline void lock_give_masked(struct lock *lock)
{
    atomic_store_explicit(&lock->held, 0, memory_order_release);
}

/* Returns what lock_give wants back. */
static inline bool lock_take(struct lock *lock)
{
    bool were_on = arch_interrupts_mask();

    lock_take_masked(lock);
    return were_on;
}

static inline void lock_give(struct lock *lock, bool were_on)
{
    lock_give_masked(lock);
    arch_interrupts_restore(were_on);
}

#endif
