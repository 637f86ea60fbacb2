/* SPDX-License-Identifier: MIT */
#include "order.h"

#include "proof.h"

/* What has units of 64 bits: the descriptors of a packed ring. */
#define WIDE_BYTES (ORDER_PACKED ? ORDER_SIZE * 16 : 0)

_Alignas(64) uint8_t order_memory[ORDER_MEMORY_BYTES];

static enum order_thread running;

/* The setup's, and all of those of a plain run, in which threads run one after the other. */
static uint64_t plain_load(const uint8_t *from, unsigned bytes)
{
    uint64_t value = 0;

    for (unsigned i = 0; i < bytes; i++) {
        value |= (uint64_t)from[i] << 8 * i;
    }
    return value;
}

static void plain_store(uint8_t *to, unsigned bytes, uint64_t value)
{
    for (unsigned i = 0; i < bytes; i++) {
        to[i] = (uint8_t)(value >> 8 * i);
    }
}

static bool broken;

void order_claim(bool holds)
{
    broken = broken || !holds;
}

bool order_is_kept(void)
{
    return !broken;
}

void order_run(enum order_thread thread)
{
    running = thread;
}

#if !defined(PROOF_BY_CBMC)

uint64_t order_load(const void *from, unsigned bytes, int order)
{
    (void)order;
    return plain_load(from, bytes);
}

void order_store(void *to, unsigned bytes, uint64_t value, int order)
{
    (void)order;
    plain_store(to, bytes, value);
}

uint64_t order_exchange(void *to, unsigned bytes, uint64_t value)
{
    uint64_t old = plain_load(to, bytes);

    plain_store(to, bytes, value);
    return old;
}

void order_fence(int order)
{
    (void)order;
}

void order_at(uint8_t place)
{
    (void)place;
}

void order_judge(void)
{
}

#else

#ifndef ORDER_EVENTS
#define ORDER_EVENTS 27u
#endif

/* On x86 lesser fences are the compiler's only. */
#if defined(ORDER_TSO)
#define TSO true
#else
#define TSO false
#endif

/* Times, and events, are fewer. */
#define TIME_MAX 31u

enum kind { NOTHING, LOAD, STORE, FENCE };

/*
 * In the order in which each thread's program has them; the driver's come first.
 * Arrays of their own: a proof sees at once which of them are constants.
 */
static uint8_t kinds[ORDER_EVENTS];
static uint8_t threads[ORDER_EVENTS];
static bool acquire[ORDER_EVENTS];
static bool release[ORDER_EVENTS];
static bool full[ORDER_EVENTS];
static uint16_t units[ORDER_EVENTS];   /* where, in order_memory */
static uint64_t values[ORDER_EVENTS];  /* of all of the unit */
static uint64_t at_first[ORDER_EVENTS]; /* LOAD: what the setup left there */
static uint8_t from[ORDER_EVENTS];     /* LOAD: the store that it has read; SETUP: none */
static uint8_t times[ORDER_EVENTS]; /* C11: of stores to a unit, and of full fences; TSO: of all */

#define SETUP TIME_MAX

static uint8_t count;

/* What the parts of it are parts of. */
static uint16_t unit_of(uint16_t offset, unsigned *bytes)
{
    if (offset < WIDE_BYTES) {
        *bytes = 8;
        return (uint16_t)(offset & ~7u);
    }
    return offset;
}

static uint8_t add(enum kind kind, bool acquires, bool releases)
{
    uint8_t event = count++;

    proof_assert(event < ORDER_EVENTS, "there is room for all events");
    kinds[event] = (uint8_t)kind;
    threads[event] = (uint8_t)running;
    acquire[event] = acquires;
    release[event] = releases;
    times[event] = (uint8_t)(proof_any() & TIME_MAX);
    return event;
}

void order_at(uint8_t place)
{
    proof_assert(count <= place, "there is room for what came before");
    count = place;
}

static bool acquires(int order)
{
    return order == __ATOMIC_ACQUIRE || order == __ATOMIC_ACQ_REL || order == __ATOMIC_SEQ_CST;
}

static bool releases(int order)
{
    return order == __ATOMIC_RELEASE || order == __ATOMIC_ACQ_REL || order == __ATOMIC_SEQ_CST;
}

static uint64_t cut(uint64_t value, unsigned bytes)
{
    return bytes < 8 ? value & ((UINT64_C(1) << 8 * bytes) - 1) : value;
}

uint64_t order_load(const void *address, unsigned bytes, int order)
{
    uint16_t offset = (uint16_t)((const uint8_t *)address - order_memory);
    uint16_t unit = unit_of(offset, &bytes);
    uint64_t value = cut(proof_any(), bytes);
    uint8_t event;

    if (running == ORDER_SETUP) {
        return plain_load(order_memory + unit, bytes) >> 8 * (offset - unit);
    }
    event = add(LOAD, acquires(order), false);
    units[event] = unit;
    values[event] = value;
    at_first[event] = plain_load(order_memory + unit, bytes);
    from[event] = (uint8_t)(proof_any() & TIME_MAX);
    return value >> 8 * (offset - unit);
}

void order_store(void *address, unsigned bytes, uint64_t value, int order)
{
    uint16_t offset = (uint16_t)((uint8_t *)address - order_memory);
    unsigned whole = bytes;
    uint8_t event;

    if (running == ORDER_SETUP) {
        plain_store(order_memory + offset, bytes, value);
        return;
    }
    proof_assert(unit_of(offset, &whole) == offset && whole == bytes, "units are stored whole");
    event = add(STORE, false, releases(order));
    units[event] = offset;
    values[event] = cut(value, bytes);
}

void order_fence(int order)
{
    if (running != ORDER_SETUP && (!TSO || order == __ATOMIC_SEQ_CST)) {
        full[add(FENCE, acquires(order), releases(order))] = order == __ATOMIC_SEQ_CST;
    }
}

/* On x86 it is a full fence around a store; nothing looks at what it returns. */
uint64_t order_exchange(void *address, unsigned bytes, uint64_t value)
{
    order_fence(__ATOMIC_SEQ_CST);
    order_store(address, bytes, value, __ATOMIC_SEQ_CST);
    order_fence(__ATOMIC_SEQ_CST);
    return 0;
}

/* ---- What both models say ---------------------------------------------------------------- */

/* One claim at the end of it all: many of them are slow to prove with. */
static bool allowed = true;

static void require(bool holds)
{
    allowed = allowed && holds;
}

static bool is_access(uint8_t event)
{
    return kinds[event] == LOAD || kinds[event] == STORE;
}

/* Each load has read a store of its unit, or what the setup left. */
static void judge_values(void)
{
    for (uint8_t load = 0; load < ORDER_EVENTS; load++) {
        bool found = from[load] == SETUP && values[load] == at_first[load];

        if (kinds[load] != LOAD) {
            continue;
        }
        for (uint8_t store = 0; store < ORDER_EVENTS; store++) {
            if (kinds[store] == STORE && units[store] == units[load] && from[load] == store) {
                found = values[store] == values[load];
            }
        }
        require(found);
    }
}

#if defined(ORDER_TSO)
/* ---- x86 --------------------------------------------------------------------------------- */

/* What a load may have read: stores that are older, or its own thread's. */
static bool is_visible(uint8_t store, uint8_t load)
{
    return times[store] < times[load] || (threads[store] == threads[load] && store < load);
}

/* The load has read the youngest store that it can see; SETUP's is older than all. */
static void judge_load(uint8_t load)
{
    for (uint8_t store = 0; store < ORDER_EVENTS; store++) {
        if (kinds[store] != STORE || units[store] != units[load]) {
            continue;
        }
        require(from[load] != store || is_visible(store, load));
        require(from[load] != SETUP || !is_visible(store, load));
        for (uint8_t other = 0; other < ORDER_EVENTS; other++) {
            if (kinds[other] == STORE && units[other] == units[load] && other != store) {
                require(times[other] != times[store]);
                require(from[load] != store || !is_visible(other, load) ||
                             times[other] < times[store]);
            }
        }
    }
}

static void judge_order(void)
{
    uint8_t last[3] = { 0, 0, 0 };       /* of each thread, but for stores */
    uint8_t last_store[3] = { 0, 0, 0 };

    for (uint8_t i = 0; i < ORDER_EVENTS; i++) {
        uint8_t thread = threads[i];

        if (kinds[i] == NOTHING) {
            continue;
        }
        require(times[i] > last[thread]);
        if (kinds[i] != LOAD) {
            require(times[i] > last_store[thread]);
            last_store[thread] = times[i];
        }
        if (kinds[i] != STORE) {
            last[thread] = times[i];
        }
    }
    for (uint8_t i = 0; i < ORDER_EVENTS; i++) {
        if (kinds[i] == LOAD) {
            judge_load(i);
        }
    }
}

#else
/* ---- C11 --------------------------------------------------------------------------------- */

/* How many events a store hands over, those of its thread and before: 0: it releases nothing. */
static uint8_t released[ORDER_EVENTS];

/* Where an access stands in its unit's history: a load where the store is that it has read. */
static uint8_t places[ORDER_EVENTS];

/* What the store released that a load has read, if it is the other thread's. */
static uint8_t given[ORDER_EVENTS];

/* How many of the other thread's events happen before each one; they come first there. */
static uint8_t seen[ORDER_EVENTS];

/* The times of the last full fence before each event, and of the next behind it; 0, TIME_MAX: none. */
static uint8_t fence_before[ORDER_EVENTS];
static uint8_t fence_behind[ORDER_EVENTS];

static void find_released(void)
{
    uint8_t fence[3] = { 0, 0, 0 };

    for (uint8_t i = 0; i < ORDER_EVENTS; i++) {
        if (kinds[i] == FENCE && release[i]) {
            fence[threads[i]] = i + 1u;
        }
        if (kinds[i] == STORE) {
            released[i] = release[i] ? i + 1u : fence[threads[i]];
            places[i] = times[i];
        }
    }
}

static void find_places(void)
{
    for (uint8_t load = 0; load < ORDER_EVENTS; load++) {
        if (kinds[load] != LOAD) {
            continue;
        }
        for (uint8_t store = 0; store < ORDER_EVENTS; store++) {
            if (kinds[store] == STORE && units[store] == units[load] && from[load] == store) {
                places[load] = times[store];
                given[load] = threads[store] != threads[load] ? released[store] : 0;
            }
        }
    }
}

static uint8_t most(uint8_t a, uint8_t b)
{
    return a > b ? a : b;
}

static void find_seen(void)
{
    uint8_t now[3] = { 0, 0, 0 };
    uint8_t loaded[3] = { 0, 0, 0 };

    for (uint8_t i = 0; i < ORDER_EVENTS; i++) {
        uint8_t thread = threads[i];

        if (kinds[i] == LOAD) {
            loaded[thread] = most(loaded[thread], given[i]);
            now[thread] = acquire[i] ? most(now[thread], given[i]) : now[thread];
        } else if (kinds[i] == FENCE && acquire[i]) {
            now[thread] = most(now[thread], loaded[thread]);
        }
        seen[i] = now[thread];
    }
}

static void find_fences(void)
{
    uint8_t last[3] = { 0, 0, 0 };
    uint8_t next[3] = { TIME_MAX, TIME_MAX, TIME_MAX };

    for (uint8_t i = 0; i < ORDER_EVENTS; i++) {
        fence_before[i] = last[threads[i]];
        if (kinds[i] == FENCE && full[i]) {
            require(times[i] > last[threads[i]] && times[i] < TIME_MAX);
            last[threads[i]] = times[i];
        }
    }
    for (uint8_t i = ORDER_EVENTS; i-- > 0;) {
        fence_behind[i] = next[threads[i]];
        if (kinds[i] == FENCE && full[i]) {
            next[threads[i]] = times[i];
        }
    }
}

static bool happens_before(uint8_t a, uint8_t b)
{
    return threads[a] == threads[b] ? a < b : a < seen[b];
}

/* `b` follows from `a`: it is a younger store, or has read one that is as young, or younger. */
static bool follows(uint8_t a, uint8_t b)
{
    return places[a] < places[b] ||
           (places[a] == places[b] && kinds[a] == STORE && kinds[b] == LOAD);
}

/* Two accesses of one unit. */
static void judge_pair(uint8_t a, uint8_t b)
{
    if (kinds[a] == STORE && kinds[b] == STORE) {
        require(times[a] != times[b]);
    }
    if (happens_before(a, b)) { /* nothing older is seen, and nothing yet to come */
        require(kinds[b] == STORE ? places[a] < places[b] : places[a] <= places[b]);
    }
    if (follows(a, b)) {
        require(fence_before[a] == 0 || fence_behind[b] == TIME_MAX ||
                     fence_before[a] < fence_behind[b]);
    }
}

static void judge_order(void)
{
    find_released();
    find_places();
    find_seen();
    find_fences();
    for (uint8_t a = 0; a < ORDER_EVENTS; a++) {
        if (!is_access(a)) {
            continue;
        }
        require(kinds[a] != STORE || times[a] > 0);
        for (uint8_t b = 0; b < ORDER_EVENTS; b++) {
            if (a != b && is_access(b) && units[a] == units[b]) {
                judge_pair(a, b);
            }
        }
    }
}
#endif

void order_judge(void)
{
    judge_values();
    judge_order();
    proof_assume(allowed);
}

#endif
