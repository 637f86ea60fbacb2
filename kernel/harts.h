/* SPDX-License-Identifier: MIT */
/*
 * The processors.  The one that boots is number 0 and runs the shell and all
 * device interrupts; the others sleep until work is posted to them.  Numbers
 * are 0 to harts_running() - 1, whatever the machine calls them.
 *
 * Sleeping and waking: a hart sleeps in platform_wait on a word, and whoever
 * changes a word that another hart may sleep on calls harts_wake after it.
 * Calling: find, start, post and join from hart 0; the rest from any.
 */
#ifndef KERNEL_HARTS_H
#define KERNEL_HARTS_H

#include <skio/fdt.h>

#include "arch/arch.h"

/* More than that stay unused. */
#define KERNEL_HARTS_MAX ARCH_HARTS_MAX

/*
 * Lists the harts of the device tree; the one that runs, `boot_id`, becomes
 * number 0 whatever the tree says.  Nothing else runs yet.  What is wrong with
 * the list is logged, and those harts are left out.
 */
void harts_find(const struct sk_fdt *fdt, uint64_t boot_id);

/* How many there are to start, number 0 included. */
unsigned harts_found(void);

/* Starts the others and waits for them, a bounded time.  Who does not come is logged and left. */
void harts_start(void);

/* How many take work, and the number of the one that runs this. */
unsigned harts_running(void);
unsigned harts_self(void);

/* What the machine calls a hart. */
uint64_t harts_id(unsigned number);

/* How many works this hart has finished, and how often another one woke it. */
uint32_t harts_works(void);
uint32_t harts_wakes(void);

/*
 * Lets hart `number` call work(argument), with interrupts on.  False: it does
 * not run, is number 0, or has not finished its last work.
 */
bool harts_post(unsigned number, void (*work)(void *argument), void *argument);

/* Sleeps until the hart has finished what was posted to it. */
void harts_join(unsigned number);

/* True from the start of the first other hart on. */
extern bool harts_several;

/* Publishes, before the last look at *word, that this hart will sleep while it equals `seen`. */
void harts_publish(const sk_atomic_u32 *word, uint32_t seen);
void harts_withdraw(void);

static inline void harts_doze(const sk_atomic_u32 *word, uint32_t seen)
{
    if (harts_several) {
        harts_publish(word, seen);
    }
}

static inline void harts_rise(void)
{
    if (harts_several) {
        harts_withdraw();
    }
}

/*
 * Wakes the harts that sleep on a word which has changed.  No wake-up is lost:
 * the sleeper publishes its word and then looks at it, the waker changes the
 * word and then looks at what is published, each with a full fence between.
 * So one of both sees the other; and an interrupt that comes after the look
 * is pending at the sleep and ends it.
 */
void harts_wake_others(void);

static inline void harts_wake(void)
{
    if (harts_several) {
        harts_wake_others();
    }
}

/* Stops all others for good, for a fault's report.  Returns how many did not stop in time. */
unsigned harts_stop(void);

/* Called by the architecture on each hart that arch_hart_start started. */
_Noreturn void harts_enter(unsigned place);

#endif
