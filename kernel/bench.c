/* SPDX-License-Identifier: MIT */
#include "bench.h"

#include <stdatomic.h>

#include "arch/arch.h"
#include "console.h"

/* Who sits at the console looks whether to go on; nobody else needs to wake by himself. */
#define NAP_NS      UINT64_C(1000000000)
#define LONG_NAP_NS UINT64_C(60000000000)
#define BREAK_NS    UINT64_C(200000000)

static bool is_stopped(const struct bench_plan *plan)
{
    return atomic_load_explicit(&plan->stopped, memory_order_relaxed) != 0;
}

static void fail(struct bench_worker *worker, const struct sk_block_request *request)
{
    worker->in_doubt |= request->status == SK_ERR_IN_DOUBT;
    if (atomic_exchange(&worker->plan->stopped, 1) == 0) {
        disk_report("bench", worker->plan->write ? "write" : "read", request->sector,
                    request->status);
    }
}

static void complete(struct sk_block_request *request)
{
    struct bench_lane *lane = request->context;
    struct bench_worker *worker = lane->worker;

    if (lane->start_ns != 0) {
        latency_add(&worker->latency, arch_now_ns() - lane->start_ns);
    }
    worker->in_flight--;
    worker->idle[worker->idle_count++] = request;
    if (request->status == SK_OK) {
        worker->done++;
    } else {
        fail(worker, request);
    }
}

static uint64_t next_place(struct bench_worker *worker)
{
    uint64_t random = worker->random;

    if (worker->plan->sequential) {
        worker->next = worker->next + 1 < worker->plan->places ? worker->next + 1 : 0;
        return worker->next;
    }
    random ^= random >> 12;
    random ^= random << 25;
    random ^= random >> 27;
    worker->random = random;
    random *= UINT64_C(0x2545f4914f6cdd1d);
    return (uint64_t)((unsigned __int128)random * worker->plan->places >> 64);
}

/* Every how manieth request is timed: 1 or more of a batch take its one look at the clock. */
static bool is_timed(struct bench_worker *worker)
{
    if (worker->until_timed == 0 || --worker->until_timed != 0) {
        return false;
    }
    worker->until_timed = worker->plan->latency_every;
    return true;
}

/* All idle requests at once: one notification. */
static void submit_idle(struct bench_worker *worker)
{
    uint64_t sectors = worker->plan->bytes / SK_BLOCK_SECTOR_BYTES;
    unsigned count =
        worker->idle_count < worker->left ? worker->idle_count : (unsigned)worker->left;
    struct sk_block_request **batch = &worker->idle[worker->idle_count - count];

    for (unsigned i = 0; i < count; i++) {
        struct bench_lane *lane = batch[i]->context;

        lane->request.sector = next_place(worker) * sectors;
        lane->start_ns = is_timed(worker) ? arch_now_ns() : 0;
    }
    worker->idle_count -= count;
    worker->left -= count;
    worker->in_flight += count;
    sk_block_submit(worker->queue, batch, count);
}

bool bench_prepare(struct bench_worker *worker)
{
    const struct bench_plan *plan = worker->plan;

    worker->left = plan->requests;
    worker->until_timed = plan->latency_every;
    for (unsigned i = 0; i < plan->depth; i++) {
        struct bench_lane *lane = &worker->lanes[i];
        enum sk_status status =
            sk_io_buffer_segment(&worker->buffer, i * plan->bytes, plan->bytes, &lane->segment);

        if (status != SK_OK) {
            disk_report("bench", "buffer", 0, status);
            return false;
        }
        lane->worker = worker;
        lane->request = (struct sk_block_request){
            .operation = plan->write ? SK_BLOCK_WRITE : SK_BLOCK_READ,
            .segment_count = 1,
            .segments = &lane->segment,
            .complete = complete,
            .context = lane,
        };
        worker->idle[worker->idle_count++] = &lane->request;
    }
    return true;
}

static void look_for_break(struct bench_worker *worker)
{
    struct bench_plan *plan = worker->plan;

    if (!plan->interactive || worker->hart != 0 || worker->now_ns < worker->look_ns) {
        return;
    }
    worker->look_ns = worker->now_ns + BREAK_NS;
    if (console_take_break()) {
        atomic_store(&plan->stopped, 1);
    }
}

/* A stopped disk: nobody recovers it meanwhile, so nothing waits for that. */
static void give_up(struct bench_worker *worker)
{
    for (uint64_t i = 0; i < worker->plan->depth; i++) {
        enum sk_status status = sk_block_cancel(worker->queue, &worker->lanes[i].request);

        (void)status; /* what was not waiting ends by itself */
    }
}

/* Sleeps before it looks: a queue that has something answers at once.  False: nothing came. */
static bool look(struct bench_worker *worker)
{
    uint32_t completed = 0;
    enum sk_status status = SK_OK;

    if (worker->plan->wait != BENCH_POLL) { /* without a spin it just sleeps */
        status = sk_block_wait_hybrid(worker->queue, worker->plan->spin_ns,
                                      worker->now_ns +
                                          (worker->plan->interactive ? NAP_NS : LONG_NAP_NS));
    }
    (void)status; /* poll says what happened, in the requests' statuses */
    status = sk_block_poll(worker->queue, 0, &completed);
    if (status != SK_OK) {
        give_up(worker);
    }
    return completed != 0;
}

static bool may_submit(const struct bench_worker *worker)
{
    return worker->left > 0 && !is_stopped(worker->plan) && worker->now_ns < worker->end_ns;
}

/* Polls in vain are counted apart: how many there are says more about the disk than about us. */
static void count_vain(struct bench_worker *worker, bool found, uint64_t *mark)
{
    uint64_t now = arch_instructions();

    if (!found) {
        worker->in_vain += now - *mark;
    }
    *mark = now;
}

void bench_run(void *argument)
{
    struct bench_worker *worker = argument;
    bool polls = worker->plan->wait == BENCH_POLL;
    uint64_t instructions = arch_instructions();
    uint64_t mark = instructions;

    sk_block_get_statistics(worker->queue, &worker->before);
    worker->start_ns = arch_now_ns();
    worker->end_ns = worker->start_ns + worker->plan->duration_ns;
    worker->now_ns = worker->start_ns;
    do {
        bool found;

        if (worker->idle_count > 0 && may_submit(worker)) {
            submit_idle(worker);
            mark = polls ? arch_instructions() : 0;
        }
        found = look(worker);
        worker->now_ns = arch_now_ns();
        look_for_break(worker);
        if (polls) {
            count_vain(worker, found, &mark);
        }
    } while (worker->in_flight > 0 || may_submit(worker));
    worker->end_ns = worker->now_ns;
    sk_block_get_statistics(worker->queue, &worker->after);
    worker->instructions = arch_instructions() - instructions;
}
