/* SPDX-License-Identifier: MIT */
/* Any other CPU: the compiler's strongest barrier, everywhere. */
#ifndef SKI_ARCH_BARRIER_H
#define SKI_ARCH_BARRIER_H

/* Nothing moves across it, among CPUs. */
static inline void ski_arch_full_fence(void)
{
    __sync_synchronize();
}

/* Orders everything before with everything after, for real devices too. */
static inline void ski_arch_device_fence(void)
{
    __sync_synchronize();
}

/* Earlier memory accesses happen before a following register write. */
static inline void ski_arch_before_register_write(void)
{
    __sync_synchronize();
}

/* A register read happens before all following accesses. */
static inline void ski_arch_after_register_read(void)
{
    __sync_synchronize();
}

/* Who looks at memory again and again lets others have the core's parts meanwhile. */
static inline void ski_arch_relax(void)
{
    __asm__ volatile("");
}

#endif
