/* SPDX-License-Identifier: MIT */
/* x86: only a store followed by a load is ever reordered; registers are uncached. */
#ifndef SKI_ARCH_BARRIER_H
#define SKI_ARCH_BARRIER_H

/* Nothing moves across it.  A locked operation is a full barrier too, at a tenth of mfence. */
static inline void ski_arch_full_fence(void)
{
    __asm__ volatile("lock; addl $0, -4(%%rsp)" ::: "memory", "cc");
}

/* Orders everything before with everything after, for real devices too. */
static inline void ski_arch_device_fence(void)
{
    __asm__ volatile("mfence" ::: "memory");
}

/* Earlier memory accesses happen before a following register write. */
static inline void ski_arch_before_register_write(void)
{
    __asm__ volatile("" ::: "memory");
}

/* A register read happens before all following accesses. */
static inline void ski_arch_after_register_read(void)
{
    __asm__ volatile("" ::: "memory");
}

/* Who looks at memory again and again lets others have the core's parts meanwhile. */
static inline void ski_arch_relax(void)
{
    __asm__ volatile("pause");
}

#endif
