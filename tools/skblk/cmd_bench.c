/* SPDX-License-Identifier: MIT */
/*
 * skblk bench: how fast a disk is.  One thread drives each queue; each keeps
 * `depth` requests in flight.  The clock is read once for a batch of
 * completions; what is submitted in their place begins at that time, so that
 * calling back and submitting are part of a latency.
 */
#include "histogram.h"
#include "plot.h"
#include "random.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#define DEPTH_DEFAULT 32u
#define NAP_NS        UINT64_C(100000000)

struct worker;

struct lane {
    struct sk_block_request request;
    struct sk_dma_segment segment;
    struct worker *worker;
    uint64_t start_ns;
};

struct worker {
    const struct skblk_call *call;
    struct skblk_disk *disk;
    struct sk_block_queue *queue;
    struct sk_io_buffer buffer;
    struct lane *lanes;
    struct sk_block_request **idle;
    uint32_t idle_count;
    uint32_t depth;
    uint32_t in_flight;
    uint64_t end_ns;
    uint64_t seen_ns; /* when the first completion of this poll was seen; 0: none yet */
    uint64_t done;
    uint64_t cpu_ns;
    uint64_t elapsed_ns;
    struct skblk_random random;
    struct skblk_places places;
    struct skblk_histogram *histogram;
    enum sk_status status; /* the first failure */
    uint64_t failed_at;
    pthread_t thread;
    bool has_thread;
};

static void completed(struct sk_block_request *request)
{
    struct lane *lane = request->context;
    struct worker *worker = lane->worker;

    if (worker->seen_ns == 0) {
        worker->seen_ns = skblk_now_ns();
    }
    worker->in_flight--;
    worker->idle[worker->idle_count++] = request;
    if (request->status == SK_OK) {
        skblk_histogram_add(worker->histogram, worker->seen_ns - lane->start_ns);
        worker->done++;
    } else if (worker->status == SK_OK) {
        worker->status = request->status;
        worker->failed_at = request->sector * SK_BLOCK_SECTOR_BYTES;
    }
}

static void submit_idle(struct worker *worker, uint64_t now_ns)
{
    const struct skblk_settings *settings = &worker->call->settings;
    uint64_t sectors = settings->block / SK_BLOCK_SECTOR_BYTES;
    uint64_t first = settings->offset / SK_BLOCK_SECTOR_BYTES;

    for (uint32_t i = 0; i < worker->idle_count; i++) {
        struct lane *lane = worker->idle[i]->context;
        bool reads = settings->reads == 100 ||
                     (settings->reads != 0 &&
                      skblk_random_below(&worker->random, 100) < settings->reads);

        lane->request.operation = reads ? SK_BLOCK_READ : SK_BLOCK_WRITE;
        lane->request.sector =
            first + skblk_places_draw(&worker->places, &worker->random) * sectors;
        lane->start_ns = now_ns;
    }
    worker->in_flight += worker->idle_count;
    sk_block_submit(worker->queue, worker->idle, worker->idle_count);
    worker->idle_count = 0;
}

static void rest(struct worker *worker, uint64_t now_ns)
{
    const struct skblk_settings *settings = &worker->call->settings;
    enum sk_status status;

    if (settings->waiting != SKBLK_WAITING_POLL) {
        status = sk_block_wait_hybrid(worker->queue, skblk_spin_of(settings), now_ns + NAP_NS);
        (void)status; /* the next poll finds something, or not */
    }
}

/* True while requests may still be started. */
static bool goes_on(const struct worker *worker, uint64_t now_ns)
{
    return now_ns < worker->end_ns && worker->status == SK_OK && !skblk_is_interrupted();
}

static void drive(struct worker *worker)
{
    uint64_t now_ns = skblk_now_ns();

    for (uint32_t round = 0; goes_on(worker, now_ns) || worker->in_flight > 0; round++) {
        enum sk_status status;

        if (worker->idle_count > 0 && goes_on(worker, now_ns)) {
            submit_idle(worker, now_ns);
        }
        worker->seen_ns = 0;
        status = sk_block_poll(worker->queue, 0, NULL);
        (void)status; /* each request has its own */
        if (worker->seen_ns != 0) {
            now_ns = worker->seen_ns;
        } else {
            now_ns = round % 16 == 0 || worker->call->settings.waiting != SKBLK_WAITING_POLL
                         ? skblk_now_ns()
                         : now_ns;
            rest(worker, now_ns);
        }
    }
}

static uint64_t cpu_ns(void)
{
    struct rusage usage;

    (void)getrusage(RUSAGE_THREAD, &usage);
    return ((uint64_t)usage.ru_utime.tv_sec + (uint64_t)usage.ru_stime.tv_sec) * 1000000000u +
           ((uint64_t)usage.ru_utime.tv_usec + (uint64_t)usage.ru_stime.tv_usec) * 1000u;
}

static void *work(void *argument)
{
    struct worker *worker = argument;
    uint64_t before_ns = cpu_ns();
    uint64_t start_ns = skblk_now_ns();

    worker->end_ns = start_ns + worker->call->settings.seconds_ns;
    drive(worker);
    worker->elapsed_ns = skblk_now_ns() - start_ns;
    worker->cpu_ns = cpu_ns() - before_ns;
    return NULL;
}

/* ---- Preparation --------------------------------------------------------------------------- */

/* Bytes that no compression and no zero detection makes less of. */
static void fill_buffer(struct worker *worker)
{
    uint64_t *words = sk_io_buffer_data(&worker->buffer);

    for (uint64_t i = 0; i < sk_io_buffer_size(&worker->buffer) / sizeof(*words); i++) {
        words[i] = skblk_random_next(&worker->random);
    }
}

static enum sk_status prepare_lanes(struct worker *worker)
{
    uint64_t block = worker->call->settings.block;

    for (uint32_t i = 0; i < worker->depth; i++) {
        struct lane *lane = &worker->lanes[i];
        enum sk_status status =
            sk_io_buffer_segment(&worker->buffer, i * block, block, &lane->segment);

        if (status != SK_OK) {
            return status;
        }
        lane->worker = worker;
        lane->request = (struct sk_block_request){
            .segments = &lane->segment, .segment_count = 1, .complete = completed, .context = lane
        };
        worker->idle[worker->idle_count++] = &lane->request;
    }
    return SK_OK;
}

static enum sk_status prepare(struct worker *worker, uint32_t index, uint64_t places)
{
    const struct skblk_settings *settings = &worker->call->settings;
    uint64_t bytes = worker->depth * settings->block;
    enum sk_status status;

    worker->lanes = calloc(worker->depth, sizeof(*worker->lanes));
    worker->idle = calloc(worker->depth, sizeof(struct sk_block_request *));
    worker->histogram = calloc(1, sizeof(*worker->histogram));
    if (worker->lanes == NULL || worker->idle == NULL || worker->histogram == NULL) {
        return SK_ERR_NO_MEMORY;
    }
    skblk_random_seed(&worker->random, settings->seed, index);
    skblk_places_init(&worker->places, settings, places,
                      places / settings->queues * index);
    worker->queue = sk_block_get_queue(worker->disk->device, index);
    sk_block_set_gathering(worker->queue, (uint32_t)settings->gather_ns);
    status = sk_io_buffer_create(&worker->buffer, worker->disk->device->domain, bytes,
                                 SK_IO_BUFFER_ALIGNMENT);
    if (status == SK_OK) {
        fill_buffer(worker);
        status = prepare_lanes(worker);
    }
    return status;
}

static void release(struct worker *workers, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        enum sk_status status = sk_io_buffer_destroy(&workers[i].buffer);

        (void)status; /* logged where it happened */
        free(workers[i].lanes);
        free(workers[i].idle);
        free(workers[i].histogram);
    }
    free(workers);
}

/* ---- Results ------------------------------------------------------------------------------- */

struct totals {
    uint64_t requests;
    uint64_t cpu_ns;
    double seconds; /* of the slowest worker */
    struct skblk_histogram histogram;
    struct sk_block_statistics statistics;
};

static void add_up(struct worker *workers, uint32_t count, struct totals *totals)
{
    (void)memset(totals, 0, sizeof(*totals));
    for (uint32_t i = 0; i < count; i++) {
        struct sk_block_statistics statistics;
        double seconds = (double)workers[i].elapsed_ns / 1e9;

        sk_block_get_statistics(workers[i].queue, &statistics);
        totals->requests += workers[i].done;
        totals->cpu_ns += workers[i].cpu_ns;
        totals->seconds = seconds > totals->seconds ? seconds : totals->seconds;
        skblk_histogram_merge(&totals->histogram, workers[i].histogram);
        totals->statistics.notifications += statistics.notifications;
        totals->statistics.interrupts += statistics.interrupts;
        totals->statistics.waits += statistics.waits;
    }
}

static void add_latencies(struct skblk_report *report, const struct skblk_histogram *histogram)
{
    static const struct {
        const char *name;
        double share;
    } rows[] = { { "latency_p50_us", 0.5 },
                 { "latency_p90_us", 0.9 },
                 { "latency_p99_us", 0.99 },
                 { "latency_p999_us", 0.999 } };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        skblk_report_add_real(report, rows[i].name,
                              (double)skblk_histogram_at(histogram, rows[i].share) / 1e3);
    }
    skblk_report_add_real(report, "latency_max_us", (double)histogram->longest_ns / 1e3);
}

static int print_totals(const struct skblk_call *call, const struct totals *totals)
{
    struct skblk_report *report = skblk_report_create();
    double requests = totals->requests > 0 ? (double)totals->requests : 1;
    int code;

    skblk_report_add_number(report, "requests", totals->requests);
    skblk_report_add_real(report, "seconds", totals->seconds);
    skblk_report_add_number(report, "iops",
                            (uint64_t)((double)totals->requests / totals->seconds));
    skblk_report_add_real(report, "megabytes_per_second",
                          (double)totals->requests * (double)call->settings.block /
                              totals->seconds / 1e6);
    add_latencies(report, &totals->histogram);
    skblk_report_add_real(report, "cpu_us_per_request", (double)totals->cpu_ns / requests / 1e3);
    skblk_report_add_real(report, "notifications_per_request",
                          (double)totals->statistics.notifications / requests);
    skblk_report_add_real(report, "interrupts_per_request",
                          (double)totals->statistics.interrupts / requests);
    skblk_report_add_real(report, "sleeps_per_request",
                          (double)totals->statistics.waits / requests);
    code = skblk_report_finish(call, report);
    if (code == SKBLK_EXIT_OK && !call->settings.json) {
        skblk_plot_print(&totals->histogram);
    }
    return code;
}

static int finish(const struct skblk_call *call, struct worker *workers, uint32_t count)
{
    struct totals totals;
    int code;

    for (uint32_t i = 0; i < count; i++) {
        if (workers[i].status != SK_OK) {
            return skblk_disk_failed(call, "a request", workers[i].failed_at, workers[i].status);
        }
    }
    add_up(workers, count, &totals);
    code = print_totals(call, &totals);
    if (code == SKBLK_EXIT_OK && call->settings.plot != NULL) {
        char title[160];

        (void)snprintf(title, sizeof(title),
                       "%" PRIu64 " %% reads of %" PRIu64 " bytes, depth %u, %u queues: %.0f IOPS",
                       call->settings.reads, call->settings.block, workers[0].depth, count,
                       (double)totals.requests / totals.seconds);
        code = skblk_plot_write(call, call->settings.plot, title, &totals.histogram);
    }
    return code == SKBLK_EXIT_OK && skblk_is_interrupted() ? SKBLK_EXIT_INTERRUPTED : code;
}

/* ---- The command --------------------------------------------------------------------------- */

static int run_workers(const struct skblk_call *call, struct worker *workers, uint32_t count)
{
    int code = SKBLK_EXIT_OK;

    for (uint32_t i = 1; i < count; i++) {
        int error = pthread_create(&workers[i].thread, NULL, work, &workers[i]);

        if (error != 0) {
            skblk_error(call, "no thread for queue %u: %s", i, strerror(error));
            code = SKBLK_EXIT_FILE;
            break;
        }
        workers[i].has_thread = true;
    }
    if (code == SKBLK_EXIT_OK) {
        (void)work(&workers[0]);
    }
    for (uint32_t i = 1; i < count; i++) {
        if (workers[i].has_thread) {
            (void)pthread_join(workers[i].thread, NULL);
        }
    }
    return code == SKBLK_EXIT_OK ? finish(call, workers, count) : code;
}

static int measure(const struct skblk_call *call, struct skblk_disk *disk, uint64_t length)
{
    uint32_t count = disk->info.queue_count;
    struct worker *workers = calloc(count, sizeof(*workers));
    enum sk_status status = workers == NULL ? SK_ERR_NO_MEMORY : SK_OK;
    int code;

    for (uint32_t i = 0; status == SK_OK && i < count; i++) {
        workers[i].call = call;
        workers[i].disk = disk;
        workers[i].depth =
            call->settings.depth != 0 ? (uint32_t)call->settings.depth : DEPTH_DEFAULT;
        status = prepare(&workers[i], i, length / call->settings.block);
    }
    if (status != SK_OK) {
        skblk_error(call, "no memory for that many requests: %s", sk_status_text(status));
        code = SKBLK_EXIT_DISK;
    } else {
        code = run_workers(call, workers, count);
    }
    release(workers, workers == NULL ? 0 : count);
    return code;
}

static int check(const struct skblk_call *call, const struct skblk_disk *disk, uint64_t length)
{
    if (call->settings.block % disk->info.block_bytes != 0) {
        skblk_error(call, "--block must be a multiple of the disk's block, %u bytes",
                    disk->info.block_bytes);
        return SKBLK_EXIT_USAGE;
    }
    if (length < call->settings.block) {
        skblk_error(call, "the range is shorter than one request");
        return SKBLK_EXIT_USAGE;
    }
    if (disk->info.queue_count < call->settings.queues && !call->settings.quiet) {
        skblk_error(call, "the back end has %u queues; going on with these",
                    disk->info.queue_count);
    }
    return call->settings.reads == 100 ? SKBLK_EXIT_OK : skblk_disk_check_writable(call, disk);
}

int skblk_bench(struct skblk_call *call)
{
    struct skblk_settings *settings = &call->settings;
    uint64_t depth = settings->depth != 0 ? settings->depth : DEPTH_DEFAULT;
    struct skblk_disk disk;
    uint64_t offset = 0;
    uint64_t length = 0;
    int code;

    if (settings->reads < 100 && !settings->force) {
        skblk_error(call, "writes destroy what is on %s: say --yes-overwrite if that is meant",
                    call->words[0]);
        return SKBLK_EXIT_USAGE;
    }
    settings->resubmit = false; /* a figure with a restart in it says nothing */
    if (settings->queue_size < 2 * depth && settings->queue_size == 128) {
        settings->queue_size = depth > 128 ? 1024 : 256; /* as deep as what was asked for */
    }
    code = skblk_disk_open(call, call->words[0], settings->queues * (depth * settings->block + 4096),
                           &disk);
    if (code != SKBLK_EXIT_OK) {
        return code;
    }
    code = skblk_disk_range(call, &disk, &offset, &length);
    if (code == SKBLK_EXIT_OK) {
        code = check(call, &disk, length);
    }
    if (code == SKBLK_EXIT_OK) {
        code = measure(call, &disk, length);
    }
    return skblk_disk_close(call, &disk, code);
}
