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

/* Returns what lock_give wants back. */
static inline bool lock_take(struct lock *lock)
{
    bool were_on = arch_interrupts_mask();

    while (atomic_exchange_explicit(&lock->held, 1, memory_order_acquire)) {
        arch_relax(); /* a hart that shall stop, stops here */
    }
    return were_on;
}

static inline void lock_give(struct lock *lock, bool were_on)
{
    atomic_store_explicit(&lock->held, 0, memory_order_release);
    arch_interrupts_restore(were_on);
}

#endif
