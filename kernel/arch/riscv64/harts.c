/* SPDX-License-Identifier: MIT */
/* Other harts: started, woken and stopped through the firmware (SBI HSM and IPI). */
#include <stdatomic.h>

#include "../../harts.h"
#include "../../lib/text.h"
#include "riscv.h"

#define HALT_NS UINT64_C(200000000)

/* SBI errors. */
#define SBI_NOT_SUPPORTED     (-2)
#define SBI_INVALID_PARAM     (-3)
#define SBI_ALREADY_AVAILABLE (-6)

_Static_assert(ARCH_HARTS_MAX == LAYOUT_HARTS, "boot.S counts on it");

struct arch_hart arch_harts[ARCH_HARTS_MAX] = { { .armed_ns = UINT64_MAX } };
struct arch_stacks arch_hart_stacks[ARCH_HARTS_MAX]
    __attribute__((section(".bss.stacks"), aligned(LAYOUT_GUARD)));
bool arch_harts_started;

static atomic_uint halting; /* all harts but the one of this place + 1 shall stop; 0: none */
static atomic_uint halted;  /* places, as bits */

unsigned arch_hart_place(void)
{
    return arch_hart_here()->place;
}

bool arch_hart_usable(const struct sk_fdt *fdt, const struct sk_fdt_node *cpu)
{
    const char *unit;

    return sk_fdt_string(fdt, cpu, "mmu-type", 0, &unit) != SK_OK ||
           !text_equal(unit, "riscv,none");
}

enum sk_status arch_hart_start(unsigned place, uint64_t id)
{
    struct arch_hart *hart = &arch_harts[place];
    struct arch_stacks *stacks = &arch_hart_stacks[place];
    uint64_t entry;
    uint64_t argument;

    *hart = (struct arch_hart){
        .stack_top = (uintptr_t)stacks->fault_guard,
        .fault_stack_top = (uintptr_t)(stacks + 1),
        .space = arch_pages_space(),
        .id = id,
        .armed_ns = UINT64_MAX,
        .place = place,
    };
    arch_harts_started = true;
    (void)arch_physical_of(arch_hart_entry, &entry);
    (void)arch_physical_of(hart, &argument);
    atomic_thread_fence(memory_order_seq_cst); /* the hart finds what is written above */
    switch (sbi_hart_start(id, entry, argument)) {
    case 0:
        return SK_OK;
    case SBI_NOT_SUPPORTED:
        return SK_ERR_UNSUPPORTED;
    case SBI_INVALID_PARAM:
        return SK_ERR_NOT_FOUND;
    case SBI_ALREADY_AVAILABLE:
        return SK_ERR_BUSY;
    default:
        return SK_ERR_IO;
    }
}

void arch_hart_main(void)
{
    arch_timer_start();
    harts_enter(arch_hart_place());
}

void arch_hart_leave(void)
{
    (void)arch_interrupts_mask();
    sbi_hart_stop();
    for (;;) {
        arch_sleep();
    }
}

void arch_harts_wake(uint32_t places)
{
    while (places != 0) {
        uint64_t base = arch_harts[__builtin_ctz(places)].id;
        uint64_t mask = 0;

        for (uint32_t left = places; left != 0; left &= left - 1) {
            unsigned place = (unsigned)__builtin_ctz(left);

            /* Harts with lower numbers than the first one have a call of their own. */
            if (arch_harts[place].id - base < 64) {
                mask |= UINT64_C(1) << (arch_harts[place].id - base);
                places &= ~(UINT32_C(1) << place);
            }
        }
        sbi_send_ipi(mask, base);
    }
}

/* ---- Stopping for good ------------------------------------------------------------------- */

static _Noreturn void halt(void)
{
    (void)arch_interrupts_mask();
    atomic_fetch_or(&halted, 1u << arch_hart_place());
    for (;;) {
        arch_sleep();
    }
}

static void halt_if_told(void)
{
    unsigned who = atomic_load_explicit(&halting, memory_order_relaxed);

    if (who != 0 && who != arch_hart_place() + 1) {
        halt();
    }
}

void arch_relax(void)
{
    __asm__ volatile(".insn i 0x0f, 0, x0, x0, 0x010" ::: "memory"); /* pause, a hint */
    halt_if_told();
}

void arch_hart_interrupt(void)
{
    csr_clear("sip", UINT64_C(1) << INTERRUPT_SOFTWARE);
    halt_if_told();
}

uint32_t arch_harts_halt(uint32_t places)
{
    uint64_t until_ns = arch_now_ns() + HALT_NS;
    unsigned nobody = 0;

    (void)arch_interrupts_mask();
    if (!atomic_compare_exchange_strong(&halting, &nobody, arch_hart_place() + 1)) {
        halt_if_told(); /* another one was first */
    }
    if (places != 0) {
        arch_harts_wake(places);
    }
    while ((atomic_load(&halted) & places) != places && arch_now_ns() < until_ns) {
        arch_relax();
    }
    return places & ~atomic_load(&halted);
}
