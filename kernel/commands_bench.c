/* SPDX-License-Identifier: MIT */
#include <stdatomic.h>

#include "arch/arch.h"
#include "bench.h"
#include "commands.h"
#include "console.h"
#include "harts.h"
#include "interrupts.h"
#include "lib/string.h"
#include "lib/text.h"
#include "memory.h"

#define BYTES_DEFAULT   4096u
#define DEPTH_DEFAULT   32u
#define SECONDS_DEFAULT 2u
#define BYTES_MAX       (16u << 20)
#define SECONDS_MAX     3600u
#define LATENCY_MAX     (1u << 20)
#define SPIN_US_DEFAULT 50u
#define SPIN_US_MAX     1000000u
#define NS_PER_SECOND   UINT64_C(1000000000)
#define NS_PER_US       UINT64_C(1000)
#define SEED            UINT64_C(0x5eed5eed5eed5eed)

enum number { BYTES, DEPTH, SECONDS, HARTS, REQUESTS, LATENCY, SPIN, NUMBER_COUNT };

static const struct {
    const char *name; /* NULL: by its place alone */
    uint64_t lowest;
    uint64_t highest;
} limits[NUMBER_COUNT] = {
    [BYTES] = { NULL, 1, BYTES_MAX },
    [DEPTH] = { NULL, 1, BENCH_DEPTH_MAX },
    [SECONDS] = { NULL, 1, SECONDS_MAX },
    [HARTS] = { "harts", 1, KERNEL_HARTS_MAX },
    [REQUESTS] = { "requests", 1, UINT64_MAX },
    [LATENCY] = { "latency", 0, LATENCY_MAX },
    [SPIN] = { "spin", 1, SPIN_US_MAX },
};

struct job {
    struct disk disk;
    uint64_t numbers[NUMBER_COUNT];
    unsigned harts;
    uint64_t interrupts; /* of devices, meanwhile; those of a shared line count once */
    struct bench_worker *workers[KERNEL_HARTS_MAX];
};

static struct bench_plan plan; /* outlives a command that ends in doubt, as the workers do */

/* ---- Words ------------------------------------------------------------------------------- */

static bool take_number(struct job *job, unsigned which, const char *word)
{
    uint64_t number;

    if (!text_number(word, &number)) {
        console_print("bench: %s is no number (decimal, or 0x...)\n", word);
        return false;
    }
    if (number < limits[which].lowest || number > limits[which].highest) {
        console_print("bench: %s%s%lu is not within %lu and %lu\n",
                      limits[which].name == NULL ? "" : limits[which].name,
                      limits[which].name == NULL ? "" : "=", number, limits[which].lowest,
                      limits[which].highest);
        return false;
    }
    job->numbers[which] = number;
    return true;
}

static bool take_word(const char *word)
{
    if (text_equal(word, "read") || text_equal(word, "write")) {
        plan.write = word[0] == 'w';
    } else if (text_equal(word, "random") || text_equal(word, "sequential")) {
        plan.sequential = word[0] == 's';
    } else if (text_equal(word, "poll")) {
        plan.wait = BENCH_POLL;
    } else if (text_equal(word, "irq")) {
        plan.wait = BENCH_IRQ;
    } else if (text_equal(word, "hybrid")) {
        plan.wait = BENCH_HYBRID;
    } else {
        return false;
    }
    return true;
}

/* NUMBER_COUNT: it is none of name=value. */
static unsigned find_named(const char *word, const char **out_value)
{
    unsigned which = 0;

    for (; which < NUMBER_COUNT; which++) {
        *out_value = limits[which].name == NULL ? NULL : text_value_of(word, limits[which].name);
        if (*out_value != NULL) {
            break;
        }
    }
    return which;
}

/* Three numbers in their order, words anywhere. */
static bool take_words(struct job *job, const struct shell_call *call)
{
    unsigned numbers = 0;

    for (size_t i = 0; i < call->count; i++) {
        const char *value = call->words[i];
        unsigned which;

        if (take_word(value)) {
            continue;
        }
        which = find_named(call->words[i], &value);
        if (which == NUMBER_COUNT) {
            if (numbers > SECONDS) {
                return false;
            }
            which = numbers++;
            value = call->words[i];
        }
        if (!take_number(job, which, value)) {
            return false;
        }
    }
    return true;
}

/* ---- Checks ------------------------------------------------------------------------------ */

static bool check(struct job *job)
{
    uint64_t bytes = job->numbers[BYTES];

    if (plan.write && !disk_check_writable(&job->disk, "bench")) {
        return false;
    }
    if (bytes % job->disk.info.block_bytes != 0) {
        console_print("bench: the bytes must be a multiple of the disk's block, %u\n",
                      (unsigned)job->disk.info.block_bytes);
        return false;
    }
    plan.places = job->disk.info.capacity_sectors / (bytes / SK_BLOCK_SECTOR_BYTES);
    if (plan.places == 0) {
        console_print("bench: the disk is smaller than one request\n");
        return false;
    }
    return true;
}

/* A hart without a queue of its own does not work: a queue has one owner. */
static bool choose_harts(struct job *job)
{
    uint64_t wanted = job->numbers[HARTS];

    if (wanted > harts_running()) {
        console_print("bench: harts=%lu, but %u run\n", wanted, harts_running());
        return false;
    }
    job->harts = (unsigned)wanted;
    if (job->harts > job->disk.info.queue_count) {
        job->harts = job->disk.info.queue_count;
        console_print("bench: the disk has %u queue%s: %u of %lu harts work\n", job->harts,
                      job->harts == 1 ? "" : "s", job->harts, wanted);
    }
    return true;
}

/* ---- Workers ----------------------------------------------------------------------------- */

static bool make_worker(struct job *job, unsigned number)
{
    struct bench_worker *worker = aligned_alloc(ARCH_PAGE_BYTES, sizeof(*worker));

    if (worker == NULL) {
        console_print("bench: no memory for hart %u\n", number);
        return false;
    }
    memset(worker, 0, sizeof(*worker));
    job->workers[number] = worker;
    worker->plan = &plan;
    worker->hart = number;
    worker->queue = sk_block_get_queue(job->disk.device, number);
    worker->random = SEED + number * UINT64_C(0x9e3779b97f4a7c15);
    worker->next = plan.places / job->harts * number;
    return disk_buffer(&job->disk, "bench", &worker->buffer, plan.bytes * plan.depth) &&
           bench_prepare(worker);
}

static void drop_workers(struct job *job)
{
    bool in_doubt = false;

    for (unsigned i = 0; i < job->harts; i++) {
        in_doubt |= job->workers[i] != NULL && job->workers[i]->in_doubt;
    }
    for (unsigned i = 0; i < job->harts && job->workers[i] != NULL; i++) {
        disk_buffer_done(&job->workers[i]->buffer, in_doubt);
        if (!in_doubt) { /* what the disk may still write is lost on purpose */
            aligned_free(job->workers[i]);
        }
    }
}

static void run(struct job *job)
{
    uint64_t before = interrupts_taken();

    plan.duration_ns = job->numbers[SECONDS] * NS_PER_SECOND;
    for (unsigned i = 1; i < job->harts; i++) {
        (void)harts_post(i, bench_run, job->workers[i]);
    }
    bench_run(job->workers[0]);
    for (unsigned i = 1; i < job->harts; i++) {
        harts_join(i);
    }
    job->interrupts = interrupts_taken() - before;
}

/* ---- The result -------------------------------------------------------------------------- */

struct result {
    uint64_t done;
    uint64_t ns;
    uint64_t instructions;
    uint64_t in_vain;
    uint64_t notifications;
};

static void add_worker(struct result *result, const struct bench_worker *worker)
{
    uint64_t ns = worker->end_ns - worker->start_ns;

    result->done += worker->done;
    result->ns = ns > result->ns ? ns : result->ns;
    result->instructions += worker->instructions;
    result->in_vain += worker->in_vain;
    result->notifications += worker->after.notifications - worker->before.notifications;
}

static void print_us(const char *name, uint64_t ns)
{
    console_print("  %s %lu.%lu us", name, ns / 1000, ns % 1000 / 100);
}

static void print_latency(const struct latency *latency)
{
    if (latency->count == 0) {
        return;
    }
    print_us("p50", latency_at(latency, 500));
    print_us("p99", latency_at(latency, 990));
    print_us("p99.9", latency_at(latency, 999));
    print_us("max", latency->longest_ns);
}

static void print_rate(const struct result *result, const struct latency *latency)
{
    uint64_t us = result->ns / 1000 + 1;
    uint64_t tenths_mb = result->done * plan.bytes * 10 / us; /* a byte a microsecond is a MB/s */

    console_print("%lu IOPS  %lu.%lu MB/s", result->done * 1000000 / us, tenths_mb / 10,
                  tenths_mb % 10);
    print_latency(latency);
    console_print("\n");
}

static void print_per_request(const char *name, uint64_t count, uint64_t requests)
{
    uint64_t thousandths = count * 1000 / requests;

    console_print("  %lu.%03lu %s", thousandths / 1000, thousandths % 1000, name);
}

/* What a request cost; instructions only where the processor counts them. */
static void print_cost(const struct job *job, const struct result *result)
{
    if (result->done == 0) {
        return;
    }
    console_print("bench: a request:");
    print_per_request("notifications", result->notifications, result->done);
    print_per_request("interrupts", job->interrupts, result->done);
    if (arch_counts_instructions() && plan.wait == BENCH_POLL) {
        console_print("  %lu instructions, and %lu for polls in vain",
                      (result->instructions - result->in_vain) / result->done,
                      result->in_vain / result->done);
    } else if (arch_counts_instructions()) {
        console_print("  %lu instructions", result->instructions / result->done);
    }
    console_print("\n");
}

static void print_result(struct job *job)
{
    struct latency *all = &job->workers[0]->latency;
    struct result total = { 0 };

    for (unsigned i = 0; i < job->harts; i++) {
        const struct bench_worker *worker = job->workers[i];
        struct result one = { 0 };

        add_worker(&one, worker);
        add_worker(&total, worker);
        if (job->harts > 1) {
            console_print("bench: hart %u: ", i);
            print_rate(&one, &worker->latency);
        }
    }
    for (unsigned i = 1; i < job->harts; i++) {
        latency_merge(all, &job->workers[i]->latency);
    }
    console_print("bench: %lu requests in %lu.%lu s\n", total.done, total.ns / NS_PER_SECOND,
                  total.ns % NS_PER_SECOND / (NS_PER_SECOND / 10));
    console_print("bench: ");
    print_rate(&total, all);
    print_cost(job, &total);
}

static void print_plan(const struct job *job)
{
    static const char *const waits[] = {
        [BENCH_IRQ] = "irq", [BENCH_POLL] = "poll", [BENCH_HYBRID] = "hybrid"
    };

    console_print("bench: %s, %lu bytes, depth %lu, %s, %s, %lu s", plan.write ? "write" : "read",
                  plan.bytes, plan.depth, plan.sequential ? "sequential" : "random",
                  waits[plan.wait], job->numbers[SECONDS]);
    if (plan.wait == BENCH_HYBRID) {
        console_print(", spin %lu us", job->numbers[SPIN]);
    }
    if (job->harts > 1) {
        console_print(", %u harts", job->harts);
    }
    if (job->numbers[REQUESTS] != UINT64_MAX) {
        console_print(", at most %lu requests", job->numbers[REQUESTS]);
    }
    console_print("%s\n", plan.write ? "; this overwrites the disk with zeros" : "");
}

enum shell_result command_bench(const struct shell_call *call)
{
    struct job job = { .numbers = { BYTES_DEFAULT, DEPTH_DEFAULT, SECONDS_DEFAULT, 1, UINT64_MAX, 1,
                                    SPIN_US_DEFAULT } };
    bool good = true;

    plan = (struct bench_plan){ .interactive = call->interactive };
    if (!take_words(&job, call)) {
        return SHELL_USAGE;
    }
    plan.bytes = job.numbers[BYTES];
    plan.depth = job.numbers[DEPTH];
    plan.requests = job.numbers[REQUESTS];
    plan.spin_ns = plan.wait == BENCH_HYBRID ? job.numbers[SPIN] * NS_PER_US : 0;
    plan.latency_every = (uint32_t)job.numbers[LATENCY];
    if (!disk_open(&job.disk) || !check(&job) || !choose_harts(&job)) {
        return SHELL_FAILED;
    }
    for (unsigned i = 0; i < job.harts && good; i++) {
        good = make_worker(&job, i);
    }
    if (good) {
        print_plan(&job);
        run(&job);
        print_result(&job);
    }
    drop_workers(&job);
    return good && atomic_load(&plan.stopped) == 0 ? SHELL_OK : SHELL_FAILED;
}
