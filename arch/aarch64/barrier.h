/* SPDX-License-Identifier: MIT */
/* Arm: device memory is ordered with normal memory by a barrier of the outer domain. */
#ifndef SKI_ARCH_BARRIER_H
#define SKI_ARCH_BARRIER_H

/* Nothing moves across it, among CPUs. */
static inline void ski_arch_full_fence(void)
{
    __asm__ volatile("dmb ish" ::: "memory");
}

/* Orders everything before with everything after, for real devices too. */
static inline void ski_arch_device_fence(void)
{
    __asm__ volatile("dsb sy" ::: "memory");
}

/* Earlier memory accesses happen before a following register write. */
static inline void ski_arch_before_register_write(void)
{
    __asm__ volatile("dmb osh" ::: "memory");
}

/* A register read happens before all following accesses. */
static inline void ski_arch_after_register_read(void)
{
    __asm__ volatile("dmb oshld" ::: "memory");
}

/* Who looks at memory again and again lets others have the core's parts meanwhile. */
static inline void ski_arch_relax(void)
{
    __asm__ volatile("yield");
}

#endif
