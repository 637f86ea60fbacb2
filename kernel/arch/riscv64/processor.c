/* SPDX-License-Identifier: MIT */
#include "../arch.h"
#include "riscv.h"

#define NS_PER_SECOND UINT64_C(1000000000)
#define ROUNDS        UINT64_C(256)
#define ROUNDS_AROUND 16u

const char arch_name[] = "riscv64";

/* The same for all harts. */
static uint64_t frequency;   /* ticks a second; 0: not known yet */
static uint64_t ns_per_tick; /* 0: not a whole number */
static bool counts;          /* instret counts instructions */

bool arch_interrupts_mask(void)
{
    uint64_t before;

    __asm__ volatile("csrrci %0, sstatus, 2" : "=r"(before)::"memory");
    return (before & SSTATUS_SIE) != 0;
}

void arch_interrupts_restore(bool were_on)
{
    if (were_on) {
        csr_set("sstatus", SSTATUS_SIE);
    }
}

void arch_interrupts_start(void)
{
    csr_set("sie", UINT64_C(1) << INTERRUPT_EXTERNAL | UINT64_C(1) << INTERRUPT_SOFTWARE);
    csr_set("sstatus", SSTATUS_SIE);
}

void arch_sleep(void)
{
    uint64_t before;

    if (!counts) {
        __asm__ volatile("wfi" ::: "memory");
        return;
    }
    before = csr_read("instret");
    __asm__ volatile("wfi" ::: "memory");
    arch_hart_here()->slept += csr_read("instret") - before;
}

uint64_t arch_instructions(void)
{
    return counts ? csr_read("instret") - arch_hart_here()->slept : 0;
}

bool arch_counts_instructions(void)
{
    return counts;
}

/* False: reading the counter is an illegal instruction. */
static bool may_count(void)
{
    struct arch_hart *hart = arch_hart_here();
    bool may;

    hart->probing = true;
    (void)csr_read("instret");
    may = hart->probing;
    hart->probing = false;
    return may;
}

/* What the counter says of 2 * `rounds` instructions, and a few around them. */
static uint64_t measure(uint64_t rounds)
{
    uint64_t before = csr_read("instret");

    __asm__ volatile("1: addi %0, %0, -1\nbnez %0, 1b" : "+r"(rounds));
    return csr_read("instret") - before;
}

/* Emulators answer with any clock that they have; only what counts exactly is believed. */
static void start_counter(void)
{
    uint64_t few;

    if (!may_count()) {
        return;
    }
    few = measure(ROUNDS);
    counts = few >= 2 * ROUNDS && few < 2 * ROUNDS + ROUNDS_AROUND;
    for (uint64_t more = 1; more <= ROUNDS && counts; more *= 4) {
        counts = measure(ROUNDS + more) - few == 2 * more;
    }
}

enum sk_status arch_clock_init(const struct sk_fdt *fdt)
{
    struct sk_fdt_node cpus;
    uint32_t value;
    enum sk_status status = sk_fdt_find_path(fdt, "/cpus", &cpus);

    if (status == SK_OK) {
        status = sk_fdt_u32(fdt, &cpus, "timebase-frequency", 0, &value);
    }
    if (status != SK_OK) {
        return status;
    }
    if (value == 0) {
        return SK_ERR_MALFORMED;
    }
    frequency = value;
    ns_per_tick = NS_PER_SECOND % frequency == 0 ? NS_PER_SECOND / frequency : 0;
    arch_timer_start();
    start_counter();
    return SK_OK;
}

/* Pending interrupts end a sleep, masked or not, if they are enabled here. */
void arch_timer_start(void)
{
    csr_set("sie", UINT64_C(1) << INTERRUPT_TIMER);
}

/* Frequencies that a tick has no whole nanoseconds for; 0: not known yet. */
static __attribute__((noinline)) uint64_t odd_ns(uint64_t ticks)
{
    /* The frequency has 32 bits, so the second product fits. */
    return frequency == 0 ? 0
                          : ticks / frequency * NS_PER_SECOND +
                                ticks % frequency * NS_PER_SECOND / frequency;
}

uint64_t arch_now_ns(void)
{
    uint64_t ticks = csr_read("time");

    return ns_per_tick != 0 ? ticks * ns_per_tick : odd_ns(ticks); /* wraps after 584 years */
}

static uint64_t ticks_of(uint64_t ns)
{
    uint64_t whole = ns / NS_PER_SECOND;
    uint64_t rest = ns % NS_PER_SECOND * frequency / NS_PER_SECOND + 1;
    uint64_t ticks;

    if (__builtin_mul_overflow(whole, frequency, &ticks) ||
        __builtin_add_overflow(ticks, rest, &ticks)) {
        return UINT64_MAX;
    }
    return ticks;
}

/* An earlier interrupt does as well: sleepers look at the clock.  So most calls need no firmware.
 */
void arch_timer_arm(uint64_t until_ns)
{
    struct arch_hart *hart = arch_hart_here();

    if (until_ns < hart->armed_ns) {
        hart->armed_ns = until_ns;
        sbi_set_timer(ticks_of(until_ns));
    }
}

void arch_timer_interrupt(void)
{
    arch_hart_here()->armed_ns = UINT64_MAX;
    sbi_set_timer(UINT64_MAX);
}

/* The cpu node of this hart has the controller as a child. */
static bool is_hart(const struct sk_fdt *fdt, const struct sk_fdt_node *cpu, uint64_t hart)
{
    uint32_t cells;
    uint32_t low;
    struct sk_fdt_node cpus;

    if (sk_fdt_parent(fdt, cpu, &cpus) != SK_OK ||
        sk_fdt_u32(fdt, &cpus, "#address-cells", 0, &cells) != SK_OK || cells < 1 || cells > 2 ||
        sk_fdt_u32(fdt, cpu, "reg", cells - 1, &low) != SK_OK) {
        return false;
    }
    return low == hart;
}

enum sk_status arch_interrupt_parent(const struct sk_fdt *fdt, uint64_t hart, uint32_t *out_phandle,
                                     uint32_t *out_line)
{
    struct sk_fdt_node node = { 0 };
    struct sk_fdt_node cpu;

    *out_line = INTERRUPT_EXTERNAL;
    while (sk_fdt_find_compatible(fdt, "riscv,cpu-intc", &node) == SK_OK) {
        if (sk_fdt_parent(fdt, &node, &cpu) == SK_OK && is_hart(fdt, &cpu, hart)) {
            return sk_fdt_u32(fdt, &node, "phandle", 0, out_phandle);
        }
    }
    return SK_ERR_NOT_FOUND;
}
