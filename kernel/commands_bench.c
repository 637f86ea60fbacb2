/* SPDX-License-Identifier: MIT */
#include <skio/text.h>

#include "arch/arch.h"
#include "commands.h"
#include "console.h"
#include "disk.h"
#include "lib/latency.h"
#include "lib/string.h"
#include "lib/text.h"
#include "memory.h"

#define BYTES_DEFAULT   4096u
#define DEPTH_DEFAULT   32u
#define SECONDS_DEFAULT 2u
#define BYTES_MAX       (16u << 20)
#define DEPTH_MAX       256u
#define SECONDS_MAX     3600u
#define NS_PER_SECOND   UINT64_C(1000000000)
#define NAP_NS          UINT64_C(100000000)
#define BREAK_NS        UINT64_C(200000000)
#define SEED            UINT64_C(0x5eed5eed5eed5eed)

struct job;

struct lane {
    struct sk_block_request request;
    struct sk_dma_segment segment;
    uint64_t start_ns;
    struct job *job;
};

struct job {
    struct disk disk;
    struct sk_io_buffer buffer;
    /* What to do. */
    uint64_t numbers[3]; /* bytes, depth, seconds */
    bool write;
    bool sequential;
    bool poll;
    bool interactive;
    /* Where it stands. */
    uint64_t places; /* how often a request fits on the disk */
    uint64_t next;   /* place of the next sequential request */
    uint64_t random;
    uint64_t now_ns; /* when the last look at the queue began */
    uint64_t end_ns;
    uint64_t look_ns; /* when to look for ^C again */
    uint64_t done;
    unsigned in_flight;
    unsigned idle_count;
    bool stopped;
    bool in_doubt;
    struct sk_block_request *idle[DEPTH_MAX];
    struct lane lanes[DEPTH_MAX];
    struct latency latency;
};

static struct job job; /* requests must outlive a command that ends in doubt */

static void complete(struct sk_block_request *request)
{
    struct lane *lane = request->context;

    latency_add(&lane->job->latency, arch_now_ns() - lane->start_ns);
    lane->job->in_flight--;
    lane->job->idle[lane->job->idle_count++] = request;
    lane->job->in_doubt |= request->status == SK_ERR_IN_DOUBT;
    if (request->status == SK_OK) {
        lane->job->done++;
    } else if (!lane->job->stopped) {
        disk_report("bench", lane->job->write ? "write" : "read", request->sector, request->status);
        lane->job->stopped = true;
    }
}

static uint64_t next_place(void)
{
    if (job.sequential) {
        job.next = job.next + 1 < job.places ? job.next + 1 : 0;
        return job.next;
    }
    job.random ^= job.random >> 12;
    job.random ^= job.random << 25;
    job.random ^= job.random >> 27;
    return (job.random * UINT64_C(0x2545f4914f6cdd1d) >> 11) % job.places;
}

/* All idle requests at once: one notification. */
static void submit_idle(void)
{
    for (unsigned i = 0; i < job.idle_count; i++) {
        struct lane *lane = job.idle[i]->context;

        lane->request.sector = next_place() * (job.numbers[0] / SK_BLOCK_SECTOR_BYTES);
        lane->start_ns = arch_now_ns();
    }
    job.in_flight += job.idle_count;
    sk_block_submit(job.disk.queue, job.idle, job.idle_count);
    job.idle_count = 0;
}

static bool prepare(void)
{
    for (unsigned i = 0; i < job.numbers[1]; i++) {
        struct lane *lane = &job.lanes[i];
        enum sk_status status =
            sk_io_buffer_segment(&job.buffer, i * job.numbers[0], job.numbers[0], &lane->segment);

        if (status != SK_OK) {
            disk_report("bench", "buffer", 0, status);
            return false;
        }
        lane->job = &job;
        lane->request = (struct sk_block_request){
            .operation = job.write ? SK_BLOCK_WRITE : SK_BLOCK_READ,
            .segment_count = 1,
            .segments = &lane->segment,
            .complete = complete,
            .context = lane,
        };
        job.idle[job.idle_count++] = &lane->request;
    }
    return true;
}

static void look_for_break(void)
{
    if (!job.interactive || job.now_ns < job.look_ns) {
        return;
    }
    job.look_ns = job.now_ns + BREAK_NS;
    job.stopped |= console_take_break();
}

static void run(void)
{
    do {
        uint32_t completed = 0;
        enum sk_status status;

        if (!job.stopped && job.now_ns < job.end_ns && job.idle_count > 0) {
            submit_idle();
        }
        status = sk_block_poll(job.disk.queue, 0, &completed);
        if (completed == 0 && status == SK_OK && !job.poll) {
            status = sk_block_wait(job.disk.queue, job.now_ns + NAP_NS);
        }
        job.now_ns = arch_now_ns();
        look_for_break();
    } while (job.in_flight > 0 || (!job.stopped && job.now_ns < job.end_ns));
}

static void print_us(const char *name, uint64_t ns)
{
    console_print("  %s %lu.%lu us", name, ns / 1000, ns % 1000 / 100);
}

static void print_result(uint64_t ns)
{
    uint64_t us = ns / 1000 + 1;
    uint64_t tenths_mb = job.done * job.numbers[0] * 10 / us; /* a byte a microsecond is a MB/s */

    console_print("bench: %lu requests in %lu.%lu s\n", job.done, ns / NS_PER_SECOND,
                  (ns % NS_PER_SECOND / (NS_PER_SECOND / 10)));
    console_print("bench: %lu IOPS  %lu.%lu MB/s", job.done * 1000000 / us, tenths_mb / 10,
                  tenths_mb % 10);
    print_us("p50", latency_at(&job.latency, 500));
    print_us("p99", latency_at(&job.latency, 990));
    print_us("p99.9", latency_at(&job.latency, 999));
    print_us("max", job.latency.longest_ns);
    console_print("\n");
}

static bool take_word(const char *word)
{
    if (text_equal(word, "read") || text_equal(word, "write")) {
        job.write = word[0] == 'w';
    } else if (text_equal(word, "random") || text_equal(word, "sequential")) {
        job.sequential = word[0] == 's';
    } else if (text_equal(word, "poll") || text_equal(word, "irq")) {
        job.poll = word[0] == 'p';
    } else {
        return false;
    }
    return true;
}

/* Numbers in their order, words anywhere. */
static bool take_words(const struct shell_call *call)
{
    static const uint64_t highest[3] = { BYTES_MAX, DEPTH_MAX, SECONDS_MAX };
    unsigned numbers = 0;

    for (size_t i = 0; i < call->count; i++) {
        uint64_t number;

        if (take_word(call->words[i])) {
            continue;
        }
        if (numbers == 3 || !command_number(call, "bench", i, &number)) {
            return false;
        }
        if (number == 0 || number > highest[numbers]) {
            console_print("bench: %lu is not within 1 and %lu\n", number, highest[numbers]);
            return false;
        }
        job.numbers[numbers++] = number;
    }
    return true;
}

static bool check(void)
{
    uint64_t bytes = job.numbers[0];

    if (job.write && !disk_check_writable(&job.disk, "bench")) {
        return false;
    }
    if (bytes % job.disk.info.block_bytes != 0) {
        console_print("bench: the bytes must be a multiple of the disk's block, %u\n",
                      (unsigned)job.disk.info.block_bytes);
        return false;
    }
    job.places = job.disk.info.capacity_sectors / (bytes / SK_BLOCK_SECTOR_BYTES);
    if (job.places == 0) {
        console_print("bench: the disk is smaller than one request\n");
        return false;
    }
    return true;
}

enum shell_result command_bench(const struct shell_call *call)
{
    uint64_t start_ns;

    memset(&job, 0, sizeof(job));
    job.numbers[0] = BYTES_DEFAULT;
    job.numbers[1] = DEPTH_DEFAULT;
    job.numbers[2] = SECONDS_DEFAULT;
    job.interactive = call->interactive;
    job.random = SEED;
    job.next = UINT64_MAX - 1;
    if (!take_words(call)) {
        return SHELL_USAGE;
    }
    if (!disk_open(&job.disk) || !check() ||
        !disk_buffer(&job.disk, "bench", &job.buffer, job.numbers[0] * job.numbers[1])) {
        return SHELL_FAILED;
    }
    console_print("bench: %s, %lu bytes, depth %lu, %s, %s, %lu s%s\n",
                  job.write ? "write" : "read", job.numbers[0], job.numbers[1],
                  job.sequential ? "sequential" : "random", job.poll ? "poll" : "irq",
                  job.numbers[2], job.write ? "; this overwrites the disk with zeros" : "");
    if (prepare()) {
        start_ns = arch_now_ns();
        job.now_ns = start_ns;
        job.end_ns = start_ns + job.numbers[2] * NS_PER_SECOND;
        run();
        print_result(job.now_ns - start_ns);
    }
    disk_buffer_done(&job.buffer, job.in_doubt);
    return job.stopped ? SHELL_FAILED : SHELL_OK;
}
