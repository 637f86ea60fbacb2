/* SPDX-License-Identifier: MIT */
/* What memory and the disk's queues have done so far. */
#include <skio/text.h>

#include "commands.h"
#include "console.h"
#include "devices.h"
#include "lib/string.h"
#include "memory.h"

#define COLUMNS_MAX 6u  /* queues side by side */
#define BAR_MAX     50u /* characters of the longest bar */

static void print_counter(const char *name, uint64_t value)
{
    console_print("  %-26s %12lu\n", name, value);
}

static void print_arena(void)
{
    struct sk_dma_arena_statistics arena;

    sk_dma_arena_get_statistics(&memory_arena, &arena);
    console_print("memory, in pages of %u bytes\n", SK_DMA_PAGE_BYTES);
    print_counter("total", arena.pages_total);
    print_counter("live", arena.pages_live);
    print_counter("peak", arena.pages_peak);
    print_counter("largest free run", arena.pages_largest_free_run);
    print_counter("quarantined", arena.pages_quarantined);
    print_counter("runs", arena.runs_live);
    print_counter("allocations", arena.allocations);
    print_counter("refused: invalid", arena.failures[SK_DMA_ARENA_FAILURE_INVALID]);
    print_counter("refused: exhausted", arena.failures[SK_DMA_ARENA_FAILURE_EXHAUSTED]);
    print_counter("refused: fragmented", arena.failures[SK_DMA_ARENA_FAILURE_FRAGMENTED]);
    print_counter("refused: constraint", arena.failures[SK_DMA_ARENA_FAILURE_CONSTRAINT]);
    print_counter("refused: free", arena.failures[SK_DMA_ARENA_FAILURE_FREE]);
}

static void print_domain(const struct sk_dma_domain *domain)
{
    struct sk_dma_domain_statistics statistics;

    sk_dma_domain_get_statistics(domain, &statistics);
    console_print("the disk's DMA domain\n");
    print_counter("buffers", statistics.buffers_live);
    print_counter("buffers quarantined", statistics.buffers_quarantined);
    print_counter("mappings", statistics.mappings_live);
    print_counter("bounced mappings, ever", statistics.bounced_mappings);
    print_counter("bounced bytes", statistics.bounced_bytes);
}

/* ---- Queues ------------------------------------------------------------------------------ */

#define COUNTER(field) offsetof(struct sk_block_statistics, field)

static const struct {
    const char *name;
    size_t offset;
} counters[] = {
    { "requests", COUNTER(requests) },
    { "requests to the device", COUNTER(parts) },
    { "bytes read", COUNTER(bytes_read) },
    { "bytes written", COUNTER(bytes_written) },
    { "bytes cleared", COUNTER(bytes_cleared) },
    { "notifications", COUNTER(notifications) },
    { "notifications avoided", COUNTER(notifications_avoided) },
    { "interrupts", COUNTER(interrupts) },
    { "polls", COUNTER(polls) },
    { "polls that found nothing", COUNTER(polls_empty) },
    { "waits", COUNTER(waits) },
    { "spins", COUNTER(spins) },
    { "spins that were enough", COUNTER(spins_enough) },
    { "submitted again", COUNTER(resubmitted) },
    { "recoveries", COUNTER(recoveries) },
    { "refused", COUNTER(refused) },
};

static uint64_t counter_of(const struct sk_block_queue *queue, size_t offset)
{
    struct sk_block_statistics statistics;

    sk_block_get_statistics(queue, &statistics);
    return *(const uint64_t *)(const void *)((const char *)&statistics + offset);
}

static uint64_t sum_of(struct sk_block_device *device, size_t offset)
{
    struct sk_block_queue *queue;
    uint64_t sum = 0;

    for (uint32_t i = 0; (queue = sk_block_get_queue(device, i)) != NULL; i++) {
        sum += counter_of(queue, offset);
    }
    return sum;
}

/* One counter of the queues from `first` on; behind the last queue comes the sum. */
static void print_row(struct sk_block_device *device, uint32_t first, const char *name,
                      size_t offset)
{
    uint32_t count = device->info.queue_count;

    console_print("  %-26s", name);
    for (uint32_t i = first; i < count && i < first + COLUMNS_MAX; i++) {
        console_print(" %12lu", counter_of(sk_block_get_queue(device, i), offset));
    }
    if (count > 1 && count - first <= COLUMNS_MAX) {
        console_print(" %12lu", sum_of(device, offset));
    }
    console_print("\n");
}

static void print_head(struct sk_block_device *device, uint32_t first)
{
    uint32_t count = device->info.queue_count;

    if (count == 1) {
        console_print("the disk's queue 0\n");
        return;
    }
    console_print("%-28s", "the disk's queues");
    for (uint32_t i = first; i < count && i < first + COLUMNS_MAX; i++) {
        console_print(" %12u", (unsigned)i);
    }
    console_print("%s\n", count - first <= COLUMNS_MAX ? "          all" : "");
}

/* Only those that there are. */
static void print_errors(struct sk_block_device *device, uint32_t first)
{
    for (unsigned status = SK_OK + 1; status < SK_STATUS_COUNT; status++) {
        size_t offset = COUNTER(errors) + status * sizeof(uint64_t);
        char name[32];

        (void)sk_text_format(name, sizeof(name), "failed: %s",
                             sk_status_name((enum sk_status)status));
        if (sum_of(device, offset) != 0) {
            print_row(device, first, name, offset);
        }
    }
}

static void print_queues(struct sk_block_device *device)
{
    for (uint32_t first = 0; first < device->info.queue_count; first += COLUMNS_MAX) {
        print_head(device, first);
        for (size_t i = 0; i < sizeof(counters) / sizeof(counters[0]); i++) {
            print_row(device, first, counters[i].name, counters[i].offset);
        }
        print_errors(device, first);
    }
}

/* ---- The histogram ----------------------------------------------------------------------- */

static void merge(struct sk_block_latency *sum, const struct sk_block_queue *queue)
{
    struct sk_block_latency one;

    sk_block_get_latency(queue, &one);
    sum->count += one.count;
    sum->total_ns += one.total_ns;
    sum->longest_ns = one.longest_ns > sum->longest_ns ? one.longest_ns : sum->longest_ns;
    for (unsigned i = 0; i < SK_BLOCK_LATENCY_BUCKETS; i++) {
        sum->buckets[i] += one.buckets[i];
    }
}

/* "1.5 us", of three digits or more. */
static void time_text(uint64_t ns, char *out, size_t bytes)
{
    static const char *const units[] = { "ns", "us", "ms", "s" };
    unsigned unit = 0;
    uint64_t rest = 0;

    for (; ns >= 1000 && unit < 3; ns /= 1000) {
        rest = ns % 1000;
        unit++;
    }
    if (unit == 0 || ns >= 100) {
        (void)sk_text_format(out, bytes, "%lu %s", ns, units[unit]);
    } else {
        (void)sk_text_format(out, bytes, "%lu.%lu %s", ns, rest / 100, units[unit]);
    }
}

static void print_bar(uint64_t from_ns, uint64_t count, uint64_t most)
{
    char bar[1 + BAR_MAX + 1] = " ";
    char from[16];
    char to[16];

    memset(bar + 1, '#', (size_t)((count * BAR_MAX + most - 1) / most));
    bar[0] = count == 0 ? '\0' : ' ';
    time_text(from_ns, from, sizeof(from));
    time_text(from_ns * 2, to, sizeof(to));
    console_print("  %8s to %-8s %12lu%s\n", from, to, count, bar);
}

static void print_times(const struct sk_block_latency *latency)
{
    char text[5][16];

    time_text(latency->total_ns / latency->count, text[0], sizeof(text[0]));
    time_text(sk_block_latency_quantile(latency, 50, 100), text[1], sizeof(text[1]));
    time_text(sk_block_latency_quantile(latency, 99, 100), text[2], sizeof(text[2]));
    time_text(sk_block_latency_quantile(latency, 999, 1000), text[3], sizeof(text[3]));
    time_text(latency->longest_ns, text[4], sizeof(text[4]));
    console_print("  mean %s; half within %s, 99 %% within %s, 99.9 %% within %s; longest %s\n",
                  text[0], text[1], text[2], text[3], text[4]);
}

static void print_histogram(struct sk_block_device *device)
{
    struct sk_block_latency all = { 0 };
    struct sk_block_queue *queue;
    unsigned first = 0;
    unsigned last = SK_BLOCK_LATENCY_BUCKETS - 1;
    uint64_t most = 0;

    for (uint32_t i = 0; (queue = sk_block_get_queue(device, i)) != NULL; i++) {
        merge(&all, queue);
    }
    console_print("time of a request, from submit to completion; %lu were timed\n", all.count);
    if (all.count == 0) {
        return;
    }
    print_times(&all);
    for (; all.buckets[first] == 0; first++) {
    }
    for (; all.buckets[last] == 0; last--) {
    }
    for (unsigned i = first; i <= last; i++) {
        most = all.buckets[i] > most ? all.buckets[i] : most;
    }
    for (unsigned i = first; i <= last; i++) {
        print_bar(UINT64_C(1) << i, all.buckets[i], most);
    }
}

enum shell_result command_stats(const struct shell_call *call)
{
    struct sk_block_device *device = devices_disk();

    (void)call;
    print_arena();
    if (device != NULL) {
        print_domain(device->domain);
        print_queues(device);
        print_histogram(device);
    }
    return SHELL_OK;
}
