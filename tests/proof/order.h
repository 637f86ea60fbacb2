/* SPDX-License-Identifier: MIT */
/*
 * The order of loads and stores of two threads, driver and device, which both run
 * the real code of their side of a ring.  Included before everything else, this
 * file takes the place of the compiler's atomics and of the CPU's barriers: each
 * thread runs once, by itself, and each of its loads finds any value.  Afterwards
 * order_judge keeps what the rules of a memory model allow, whichever store each
 * load has read from:
 *
 *   C11          release and acquire, fences of these kinds and full ones,
 *                coherence.  Weaker than C11 in that loads may be later than
 *                stores behind them, as on ARM and RISC-V
 *   ORDER_TSO    x86: loads overtake earlier stores, nothing else; the door's
 *                locked exchange and full fences end that
 *
 * Memory is in units: a descriptor of a packed ring is two words of 64 bits
 * whoever looks at a part of one.  That a CPU might see half a word is left out.
 */
#ifndef TESTS_PROOF_ORDER_H
#define TESTS_PROOF_ORDER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum order_thread { ORDER_SETUP, ORDER_DRIVER, ORDER_DEVICE };

#ifndef ORDER_PACKED
#define ORDER_PACKED 0
#endif

#ifndef ORDER_EVENT_IDX
#define ORDER_EVENT_IDX 1
#endif

/* Entries of the ring. */
#define ORDER_SIZE (ORDER_PACKED ? 3u : 4u)

/* All that the two share; the descriptors of a packed ring are at its beginning. */
#define ORDER_MEMORY_BYTES 192
extern uint8_t order_memory[ORDER_MEMORY_BYTES];

/* Whose loads and stores come now; at first they are those of the setup, which both know. */
void order_run(enum order_thread thread);

/* What follows is at these places of the list of events: fixed ones make shorter proofs. */
void order_at(uint8_t place);

/* Afterwards: nothing happened that the model forbids. */
void order_judge(void);

/* What must be so if the model allows what happened. */
void order_claim(bool holds);
bool order_is_kept(void);

uint64_t order_load(const void *from, unsigned bytes, int order);
void order_store(void *to, unsigned bytes, uint64_t value, int order);
uint64_t order_exchange(void *to, unsigned bytes, uint64_t value);
void order_fence(int order);

#if defined(ORDER_BY_PROOF)
#define __atomic_load_n(from, order) \
    ((__typeof__(*(from)))order_load((from), sizeof(*(from)), (order)))
#define __atomic_store_n(to, value, order) order_store((to), sizeof(*(to)), (value), (order))
#define __atomic_exchange_n(to, value, order) \
    ((__typeof__(*(to)))order_exchange((to), sizeof(*(to)), (value)))
#define __atomic_thread_fence(order) order_fence(order)
#define __builtin_prefetch(address, write) ((void)(address))

/* In place of arch/: that of the tests' machine is in its own words. */
#define SKI_ARCH_BARRIER_H

static inline void ski_arch_full_fence(void)
{
    order_fence(__ATOMIC_SEQ_CST);
}

static inline void ski_arch_device_fence(void)
{
    order_fence(__ATOMIC_SEQ_CST);
}

static inline void ski_arch_before_register_write(void)
{
}

static inline void ski_arch_after_register_read(void)
{
}

/* The door's other way for x86 is for its model alone. */
#if !defined(ORDER_TSO)
#undef __x86_64__
#elif !defined(__x86_64__)
#define __x86_64__ 1
#endif
#endif

#endif
