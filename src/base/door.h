/* SPDX-License-Identifier: MIT */
/*
 * The one door: every load and store of memory that a device can write, and of
 * device registers, stands in this file.  Pointers to such memory carry
 * SKI_SHARED; under clang any dereference of them outside of here is an error.
 *
 * There are three builds of the loads:
 *   real                     what the device wrote
 *   SKI_DOOR_HOOKED          a hook sees each load and may change the answer:
 *                            finds double fetches
 *   SKI_DOOR_ANYTHING        any value at all, for proofs
 *
 * All shared integers are little-endian by type.  Loads are single: a value is
 * fetched once, whatever the compiler would like to do.
 */
#ifndef SKI_BASE_DOOR_H
#define SKI_BASE_DOOR_H

#include <stdatomic.h>

#include <skio/endian.h>
#include <skio/mmio.h>

#include "base/bytes.h"

#if defined(__riscv) && __riscv_xlen == 64
#include "../../arch/riscv64/barrier.h"
#elif defined(__x86_64__)
#include "../../arch/x86_64/barrier.h"
#elif defined(__aarch64__)
#include "../../arch/aarch64/barrier.h"
#else
#include "../../arch/generic/barrier.h"
#endif

#if defined(__clang__)
#define SKI_SHARED __attribute__((noderef))
#define SKI_DOOR_OPEN_                                           \
    _Pragma("clang diagnostic push")                             \
    _Pragma("clang diagnostic ignored \"-Wnoderef\"")
#define SKI_DOOR_CLOSE_ _Pragma("clang diagnostic pop")
#else
#define SKI_SHARED
#define SKI_DOOR_OPEN_
#define SKI_DOOR_CLOSE_
#endif

#if defined(SKI_DOOR_HOOKED)
/*
 * Called after each load with where it read (for registers: the offset), how
 * wide, and what was found; returns what the library shall see.  NULL: real.
 */
extern uint64_t (*ski_door_hook)(const void *address, unsigned width, uint64_t value);
#define SKI_DOOR_SEEN_(address, width, value) \
    (ski_door_hook != NULL ? ski_door_hook(address, width, value) : (value))
#elif defined(SKI_DOOR_ANYTHING)
uint64_t ski_door_anything(void);
#define SKI_DOOR_SEEN_(address, width, value) \
    ((void)(address), (void)(value), ski_door_anything())
#else
#define SKI_DOOR_SEEN_(address, width, value) (value)
#endif

/* Shared bytes from a CPU pointer: the only way in. */
static inline uint8_t SKI_SHARED *ski_door_share(void *memory)
{
    SKI_DOOR_OPEN_
    return (uint8_t SKI_SHARED *)memory;
    SKI_DOOR_CLOSE_
}

SKI_DOOR_OPEN_

static inline uint8_t ski_door_load8(const uint8_t SKI_SHARED *from)
{
    uint8_t value = __atomic_load_n((const uint8_t *)from, __ATOMIC_RELAXED);

    return (uint8_t)SKI_DOOR_SEEN_((const void *)from, 1, value);
}

static inline uint16_t ski_door_load16(const sk_le16 SKI_SHARED *from)
{
    sk_le16 value = { __atomic_load_n(&((const sk_le16 *)from)->raw, __ATOMIC_RELAXED) };

    return (uint16_t)SKI_DOOR_SEEN_((const void *)from, 2, sk_le16_get(value));
}

/* What the device wrote before this value is visible after this load. */
static inline uint16_t ski_door_load16_acquire(const sk_le16 SKI_SHARED *from)
{
    sk_le16 value = { __atomic_load_n(&((const sk_le16 *)from)->raw, __ATOMIC_ACQUIRE) };

    return (uint16_t)SKI_DOOR_SEEN_((const void *)from, 2, sk_le16_get(value));
}

static inline uint32_t ski_door_load32(const sk_le32 SKI_SHARED *from)
{
    sk_le32 value = { __atomic_load_n(&((const sk_le32 *)from)->raw, __ATOMIC_RELAXED) };

    return (uint32_t)SKI_DOOR_SEEN_((const void *)from, 4, sk_le32_get(value));
}

/* 64 bits are one load where the CPU has such a load, and two where it has not. */
static inline uint64_t ski_door_load64(const sk_le64 SKI_SHARED *from)
{
#if UINTPTR_MAX > UINT32_MAX
    sk_le64 value = { __atomic_load_n(&((const sk_le64 *)from)->raw, __ATOMIC_RELAXED) };

    return SKI_DOOR_SEEN_((const void *)from, 8, sk_le64_get(value));
#else
    const sk_le32 SKI_SHARED *halves = (const sk_le32 SKI_SHARED *)(const void SKI_SHARED *)from;
    uint64_t low = ski_door_load32(&halves[0]);

    return low | (uint64_t)ski_door_load32(&halves[1]) << 32;
#endif
}

static inline void ski_door_store8(uint8_t SKI_SHARED *to, uint8_t value)
{
    __atomic_store_n((uint8_t *)to, value, __ATOMIC_RELAXED);
}

static inline void ski_door_store16(sk_le16 SKI_SHARED *to, uint16_t value)
{
    __atomic_store_n(&((sk_le16 *)to)->raw, sk_le16_make(value).raw, __ATOMIC_RELAXED);
}

static inline void ski_door_store32(sk_le32 SKI_SHARED *to, uint32_t value)
{
    __atomic_store_n(&((sk_le32 *)to)->raw, sk_le32_make(value).raw, __ATOMIC_RELAXED);
}

/* 64 bits are one store where the CPU has such a store, and two where it has not. */
#if UINTPTR_MAX > UINT32_MAX
static inline void ski_door_store64(sk_le64 SKI_SHARED *to, uint64_t value)
{
    __atomic_store_n(&((sk_le64 *)to)->raw, sk_le64_make(value).raw, __ATOMIC_RELAXED);
}

/* All earlier stores, and the lower half of this one, are visible with its upper half. */
static inline void ski_door_store64_release(sk_le64 SKI_SHARED *to, uint64_t value)
{
    __atomic_store_n(&((sk_le64 *)to)->raw, sk_le64_make(value).raw, __ATOMIC_RELEASE);
}
#else
static inline void ski_door_store64(sk_le64 SKI_SHARED *to, uint64_t value)
{
    sk_le32 *halves = (sk_le32 *)(void *)to;

    __atomic_store_n(&halves[0].raw, sk_le32_make((uint32_t)value).raw, __ATOMIC_RELAXED);
    __atomic_store_n(&halves[1].raw, sk_le32_make((uint32_t)(value >> 32)).raw, __ATOMIC_RELAXED);
}

static inline void ski_door_store64_release(sk_le64 SKI_SHARED *to, uint64_t value)
{
    sk_le32 *halves = (sk_le32 *)(void *)to;

    __atomic_store_n(&halves[0].raw, sk_le32_make((uint32_t)value).raw, __ATOMIC_RELAXED);
    __atomic_store_n(&halves[1].raw, sk_le32_make((uint32_t)(value >> 32)).raw, __ATOMIC_RELEASE);
}
#endif

/* All earlier stores are visible to whoever sees this one. */
static inline void ski_door_store16_release(sk_le16 SKI_SHARED *to, uint16_t value)
{
    __atomic_store_n(&((sk_le16 *)to)->raw, sk_le16_make(value).raw, __ATOMIC_RELEASE);
}

/*
 * A release store and a full barrier behind it: what the library loads
 * afterwards is not older than the store.  On x86 one locked exchange is both,
 * and costs a tenth of an mfence.
 */
static inline void ski_door_publish16(sk_le16 SKI_SHARED *to, uint16_t value)
{
#if defined(__x86_64__)
    (void)__atomic_exchange_n(&((sk_le16 *)to)->raw, sk_le16_make(value).raw, __ATOMIC_SEQ_CST);
#else
    __atomic_store_n(&((sk_le16 *)to)->raw, sk_le16_make(value).raw, __ATOMIC_RELEASE);
    ski_arch_full_fence();
#endif
}

/* The same for a word whose upper half is what matters; two stores where there is none of 64 bits. */
static inline void ski_door_publish64(sk_le64 SKI_SHARED *to, uint64_t value)
{
#if defined(__x86_64__)
    (void)__atomic_exchange_n(&((sk_le64 *)to)->raw, sk_le64_make(value).raw, __ATOMIC_SEQ_CST);
#else
    ski_door_store64_release(to, value);
    ski_arch_full_fence();
#endif
}

/*
 * The order of a hand-over of payload to a coherent device and back: what was
 * written before is visible to whoever sees a later store; what is read later
 * is not older than an earlier load.  The ring's publish and its load of the
 * used index are the partners.
 */
static inline void ski_door_hand_over(void)
{
    __atomic_thread_fence(__ATOMIC_RELEASE);
}

static inline void ski_door_take_over(void)
{
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
}

/* Nothing moves across it; `device`: not even for a device that is no CPU. */
static inline void ski_door_full_fence(bool device)
{
    if (device) {
        ski_arch_device_fence();
    } else {
        ski_arch_full_fence();
    }
}

/*
 * What was stored before is found by whoever looks after this process was
 * killed, if what is stored later is: a thread that ends keeps the order of
 * its program, so only the compiler has to.
 */
static inline void ski_door_before_a_kill(void)
{
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
}

/* Begins to fetch what is loaded or stored soon.  Any address will do. */
static inline void ski_door_expect(const void SKI_SHARED *there)
{
    __builtin_prefetch((const void *)there, 0);
}

static inline void ski_door_expect_store(const void SKI_SHARED *there)
{
    __builtin_prefetch((const void *)there, 1);
}

/* For a system call that fills or empties the memory; nothing else looks through it. */
static inline void *ski_door_lend(uint8_t SKI_SHARED *shared)
{
    return (void *)shared;
}

static inline void ski_door_zero(uint8_t SKI_SHARED *to, size_t bytes)
{
    (void)memset((void *)to, 0, bytes);
}

/* Copies whole blocks of payload in and out; no value of them means anything here. */
static inline void ski_door_copy_in(uint8_t SKI_SHARED *to, const void *from, size_t bytes)
{
    (void)memcpy((void *)to, from, bytes);
}

static inline void ski_door_copy_out(void *to, const uint8_t SKI_SHARED *from, size_t bytes)
{
    (void)memcpy(to, (const void *)from, bytes);
}

SKI_DOOR_CLOSE_

/* Reads `width` (1, 2, 4) bytes of a register, in the device's byte order made ours (little-endian). */
static inline uint32_t ski_door_register_read(const struct sk_mmio *mmio, uint64_t offset,
                                              unsigned width)
{
    const volatile uint8_t *address = (const volatile uint8_t *)mmio->base + offset;
    uint32_t value;

    if (mmio->ops != NULL) {
        value = mmio->ops->read(mmio->context, offset, width);
    } else if (width == 1) {
        value = *address;
    } else if (width == 2) {
        value = sk_le16_get((sk_le16){ *(const volatile uint16_t *)(const volatile void *)address });
    } else {
        value = sk_le32_get((sk_le32){ *(const volatile uint32_t *)(const volatile void *)address });
    }
    ski_arch_after_register_read();
    return (uint32_t)SKI_DOOR_SEEN_((const void *)(uintptr_t)offset, width, value);
}

/* Writes the low `width` (1, 2, 4) bytes of `value`, after all earlier memory accesses. */
static inline void ski_door_register_write(const struct sk_mmio *mmio, uint64_t offset,
                                           unsigned width, uint32_t value)
{
    volatile uint8_t *address = (volatile uint8_t *)mmio->base + offset;

    ski_arch_before_register_write();
    if (mmio->ops != NULL) {
        mmio->ops->write(mmio->context, offset, width, value);
    } else if (width == 1) {
        *address = (uint8_t)value;
    } else if (width == 2) {
        *(volatile uint16_t *)(volatile void *)address = sk_le16_make((uint16_t)value).raw;
    } else {
        *(volatile uint32_t *)(volatile void *)address = sk_le32_make(value).raw;
    }
}

#endif
