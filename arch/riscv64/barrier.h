/* SPDX-License-Identifier: MIT */
/* RISC-V: device memory is ordered by the i and o bits of a fence (RVWMO). */
#ifndef SKI_ARCH_BARRIER_H
#define SKI_ARCH_BARRIER_H

/* Nothing moves across it, among CPUs. */
static inline void ski_arch_full_fence(void)
{
    __asm__ volatile("fence rw, rw" ::: "memory");
}

/* Orders everything before with everything after, for real devices too. */
static inline void ski_arch_device_fence(void)
{
    __asm__ volatile("fence iorw, iorw" ::: "memory");
}

/* Earlier memory accesses happen before a following register write. */
static inline void ski_arch_before_register_write(void)
{
    __asm__ volatile("fence rw, o" ::: "memory");
}

/* A register read happens before all following accesses. */
static inline void ski_arch_after_register_read(void)
{
    __asm__ volatile("fence i, iorw" ::: "memory");
}

/* Who looks at memory again and again lets others have the core's parts meanwhile. */
static inline void ski_arch_relax(void)
{
    __asm__ volatile(".word 0x0100000f"); /* pause of Zihintpause, a fence of nothing elsewhere */
}

#endif
