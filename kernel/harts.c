/* SPDX-License-Identifier: MIT */
#include <stdatomic.h>

#include <skio/platform.h>

#include "console.h"
#include "harts.h"
#include "lib/text.h"
#include "platform.h"

#define START_NS UINT64_C(10000000000)

enum state { OFF, STARTING, RUNNING, GIVEN_UP };

/* What others look at while the hart is busy has lines of its own. */
struct hart {
    uint64_t id;
    unsigned number;
    _Alignas(64) const sk_atomic_u32 *_Atomic word; /* what it sleeps on; NULL: it is awake */
    sk_atomic_u32 seen;
    _Alignas(64) sk_atomic_u32 state;
    sk_atomic_u32 posted; /* works; it is idle while both are equal */
    sk_atomic_u32 finished;
    sk_atomic_u32 wakes; /* that others sent it */
    void (*work)(void *argument);
    void *argument;
};

bool harts_several;

static struct hart harts[KERNEL_HARTS_MAX]; /* by the architecture's place */
static unsigned found = 1;
static unsigned running = 1;
static unsigned places[KERNEL_HARTS_MAX]; /* by number */
static sk_atomic_u32 arrived;

/* ---- The list ---------------------------------------------------------------------------- */

static void add(const char *name, uint64_t id)
{
    for (unsigned i = 0; i < found; i++) {
        if (harts[i].id == id) {
            if (i != 0) {
                sk_log_print(&console_log, SK_LOG_WARNING,
                             "%s: hart %lu is there twice: left out", name, id);
            }
            return;
        }
    }
    harts[found++].id = id;
}

/* `cells` is the length of a hart's number. */
static enum sk_status id_of(const struct sk_fdt *fdt, const struct sk_fdt_node *cpu, uint32_t cells,
                            uint64_t *out_id)
{
    uint64_t id = 0;

    for (uint32_t i = 0; i < cells; i++) {
        uint32_t cell;
        enum sk_status status = sk_fdt_u32(fdt, cpu, "reg", i, &cell);

        if (status != SK_OK) {
            return status;
        }
        id = id << 32 | cell;
    }
    *out_id = id;
    return SK_OK;
}

static bool is_hart(const struct sk_fdt *fdt, const struct sk_fdt_node *node)
{
    const char *type;

    return sk_fdt_string(fdt, node, "device_type", 0, &type) == SK_OK && text_equal(type, "cpu") &&
           sk_fdt_is_enabled(fdt, node) && arch_hart_usable(fdt, node);
}

/* False: there is no room for more. */
static bool look_at(const struct sk_fdt *fdt, const struct sk_fdt_node *node, uint32_t cells)
{
    const char *name = "cpu";
    uint64_t id;
    enum sk_status status;

    if (!is_hart(fdt, node)) {
        return true;
    }
    if (sk_fdt_name(fdt, node, &name) != SK_OK) {
        name = "cpu";
    }
    status = id_of(fdt, node, cells, &id);
    if (status != SK_OK) {
        sk_log_print(&console_log, SK_LOG_WARNING, "%s has no usable number (%s): left out", name,
                     sk_status_name(status));
    } else if (found < KERNEL_HARTS_MAX || id == harts[0].id) {
        add(name, id);
    } else {
        sk_log_print(&console_log, SK_LOG_WARNING,
                     "more than %u harts: from hart %lu on they stay unused", KERNEL_HARTS_MAX, id);
        return false;
    }
    return true;
}

void harts_find(const struct sk_fdt *fdt, uint64_t boot_id)
{
    struct sk_fdt_node cpus;
    struct sk_fdt_node cpu;
    uint32_t cells = 0;
    enum sk_status status = sk_fdt_find_path(fdt, "/cpus", &cpus);

    harts[0].id = boot_id;
    atomic_store(&harts[0].state, RUNNING);
    if (status == SK_OK) {
        status = sk_fdt_u32(fdt, &cpus, "#address-cells", 0, &cells);
    }
    if (status == SK_OK && (cells < 1 || cells > 2)) {
        status = SK_ERR_MALFORMED;
    }
    if (status == SK_OK) {
        status = sk_fdt_child(fdt, &cpus, &cpu);
    }
    while (status == SK_OK && look_at(fdt, &cpu, cells)) {
        status = sk_fdt_sibling(fdt, &cpu, &cpu);
    }
    if (status != SK_OK && status != SK_ERR_NOT_FOUND) {
        sk_log_print(&console_log, SK_LOG_WARNING, "the list of harts ends early: %s",
                     sk_status_name(status));
    }
}

unsigned harts_found(void)
{
    return found;
}

/* ---- Starting ---------------------------------------------------------------------------- */

static unsigned ask_all(void)
{
    unsigned asked = 0;

    for (unsigned place = 1; place < found; place++) {
        enum sk_status status;

        atomic_store(&harts[place].state, STARTING);
        status = arch_hart_start(place, harts[place].id);
        if (status != SK_OK) {
            atomic_store(&harts[place].state, OFF);
            sk_log_print(&console_log, SK_LOG_WARNING, "hart %lu cannot be started: %s",
                         harts[place].id, sk_status_text(status));
        }
        asked += status == SK_OK;
    }
    return asked;
}

/* Numbers go to those that came; the others may not come any more. */
static void number(unsigned place)
{
    uint32_t state = STARTING;

    if (atomic_compare_exchange_strong(&harts[place].state, &state, GIVEN_UP)) {
        sk_log_print(&console_log, SK_LOG_WARNING,
                     "hart %lu did not start within %lu ms: it stays unused", harts[place].id,
                     START_NS / 1000000);
    } else if (state == RUNNING) {
        harts[place].number = running;
        places[running++] = place;
    }
}

void harts_start(void)
{
    uint64_t until_ns = arch_now_ns() + START_NS;
    unsigned asked;
    uint32_t seen;

    harts_several = found > 1;
    asked = ask_all();
    while ((seen = atomic_load(&arrived)) < asked && arch_now_ns() < until_ns) {
        platform_wait(NULL, &arrived, seen, until_ns);
    }
    for (unsigned place = 1; place < found; place++) {
        number(place);
    }
}

unsigned harts_running(void)
{
    return running;
}

unsigned harts_self(void)
{
    return harts[arch_hart_place()].number;
}

uint64_t harts_id(unsigned which)
{
    return which < running ? harts[places[which]].id : UINT64_MAX;
}

uint32_t harts_works(void)
{
    return atomic_load(&harts[arch_hart_place()].finished);
}

uint32_t harts_wakes(void)
{
    return atomic_load(&harts[arch_hart_place()].wakes);
}

/* ---- Sleeping and waking ----------------------------------------------------------------- */

void harts_publish(const sk_atomic_u32 *word, uint32_t seen)
{
    struct hart *hart = &harts[arch_hart_place()];

    atomic_store_explicit(&hart->seen, seen, memory_order_relaxed);
    atomic_store_explicit(&hart->word, word, memory_order_release);
    atomic_thread_fence(memory_order_seq_cst); /* partner: harts_wake_others */
}

void harts_withdraw(void)
{
    atomic_store_explicit(&harts[arch_hart_place()].word, NULL, memory_order_relaxed);
}

/*
 * A word that is looked at too late, because its hart went on meanwhile, costs
 * a wake-up that nobody needs: what the hart sleeps on then, it has looked at
 * after our change.
 */
void harts_wake_others(void)
{
    unsigned self = arch_hart_place();
    uint32_t wake = 0;

    atomic_thread_fence(memory_order_seq_cst); /* partner: harts_publish */
    for (unsigned place = 0; place < found; place++) {
        const sk_atomic_u32 *word = atomic_load_explicit(&harts[place].word, memory_order_acquire);

        if (word != NULL && place != self &&
            atomic_load(word) != atomic_load_explicit(&harts[place].seen, memory_order_relaxed)) {
            wake |= UINT32_C(1) << place;
            atomic_fetch_add_explicit(&harts[place].wakes, 1, memory_order_relaxed);
        }
    }
    if (wake != 0) {
        arch_harts_wake(wake);
    }
}

/* ---- Work -------------------------------------------------------------------------------- */

bool harts_post(unsigned which, void (*work)(void *argument), void *argument)
{
    struct hart *hart;

    if (which == 0 || which >= running) {
        return false;
    }
    hart = &harts[places[which]];
    if (atomic_load(&hart->posted) != atomic_load(&hart->finished)) {
        return false;
    }
    hart->work = work;
    hart->argument = argument;
    atomic_fetch_add(&hart->posted, 1); /* partner: harts_enter; what is above is seen there */
    harts_wake();
    return true;
}

void harts_join(unsigned which)
{
    struct hart *hart;

    if (which == 0 || which >= running) {
        return;
    }
    hart = &harts[places[which]];
    for (;;) {
        uint32_t finished = atomic_load(&hart->finished);

        if (finished == atomic_load(&hart->posted)) {
            return;
        }
        platform_wait(NULL, &hart->finished, finished, UINT64_MAX);
    }
}

void harts_enter(unsigned place)
{
    struct hart *hart = &harts[place];
    uint32_t state = STARTING;

    if (!atomic_compare_exchange_strong(&hart->state, &state, RUNNING)) {
        arch_hart_leave(); /* too late */
    }
    atomic_fetch_add(&arrived, 1);
    harts_wake();
    arch_interrupts_start();
    for (;;) {
        uint32_t finished = atomic_load(&hart->finished);

        if (atomic_load(&hart->posted) == finished) {
            platform_wait(NULL, &hart->posted, finished, UINT64_MAX);
            continue;
        }
        hart->work(hart->argument);
        atomic_fetch_add(&hart->finished, 1);
        harts_wake();
    }
}

unsigned harts_stop(void)
{
    uint32_t others = 0;
    uint32_t left;
    unsigned count = 0;

    for (unsigned place = 0; place < found; place++) {
        if (place != arch_hart_place() && atomic_load(&harts[place].state) == RUNNING) {
            others |= UINT32_C(1) << place;
        }
    }
    for (left = arch_harts_halt(others); left != 0; left &= left - 1) {
        count++;
    }
    return count;
}
