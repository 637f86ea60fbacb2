/* SPDX-License-Identifier: MIT */
/*
 * What the readers inside of guests share: the clock of QEMU's riscv64
 * machine, random places, numbers as text, and a mark that the plugin
 * count_plugin.c sees.  Freestanding.
 */
#ifndef BENCH_PEERS_GUEST_H
#define BENCH_PEERS_GUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GUEST_TICKS_PER_SECOND UINT64_C(10000000) /* of the machine `virt` */
#define GUEST_READ_BYTES       4096u

static inline uint64_t guest_ticks(void)
{
    uint64_t ticks;

    __asm__ volatile("rdtime %0" : "=r"(ticks) : : "memory");
    return ticks;
}

/* An instruction that does nothing and that no compiler makes: the plugin says how many were before. */
static inline void guest_mark(void)
{
    __asm__ volatile("slti x0, x0, 1107" : : : "memory");
}

static inline uint64_t guest_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state * UINT64_C(0x2545f4914f6cdd1d) >> 16;
}

/* Appends the number to the text; where it ends now. */
static inline char *guest_number(char *end, uint64_t number)
{
    char digits[20];
    size_t count = 0;

    do {
        digits[count++] = (char)('0' + number % 10);
        number /= 10;
    } while (number != 0);
    while (count > 0) {
        *end++ = digits[--count];
    }
    return end;
}

static inline char *guest_text(char *end, const char *text)
{
    while (*text != '\0') {
        *end++ = *text++;
    }
    return end;
}

/* "NAME: N reads in N us\n"; where it ends. */
static inline char *guest_result(char *end, const char *name, uint64_t reads, uint64_t ticks)
{
    end = guest_text(guest_text(end, name), ": ");
    end = guest_text(guest_number(end, reads), " reads in ");
    end = guest_number(end, ticks / (GUEST_TICKS_PER_SECOND / 1000000));
    return guest_text(end, " us\n");
}

#endif
