/* SPDX-License-Identifier: MIT */
/* skblk serve-null, serve-file: a small back end, until it is told to end. */
#include "skblk.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <skio_hosted/backend.h>

#define LOOK_NS 50000000L

/* How long requests at the file may take when it is time to end. */
#define END_SECONDS 5u

static int parse_faults(const struct skblk_call *call, char *list, struct sk_backend_fault *faults,
                        uint32_t *out_count)
{
    char *rest = NULL;

    *out_count = 0;
    for (char *word = strtok_r(list, ",", &rest); word != NULL; word = strtok_r(NULL, ",", &rest)) {
        if (*out_count == SK_BACKEND_FAULTS_MAX) {
            skblk_error(call, "--faults takes at most %d", SK_BACKEND_FAULTS_MAX);
            return SKBLK_EXIT_USAGE;
        }
        if (sk_backend_parse_fault(word, &faults[(*out_count)++]) != SK_OK) {
            skblk_error(call, "there is no fault '%s'; NAME[=VALUE][@AFTER][xCOUNT], with one of:",
                        word);
            for (int kind = 0; kind < SK_BACKEND_FAULT_COUNT; kind++) {
                (void)fprintf(stderr, "  %-18s %s\n",
                              sk_backend_fault_name((enum sk_backend_fault_kind)kind),
                              sk_backend_fault_text((enum sk_backend_fault_kind)kind));
            }
            return SKBLK_EXIT_USAGE;
        }
    }
    return SKBLK_EXIT_OK;
}

static uint64_t features_of(const struct skblk_settings *settings)
{
    uint64_t features = UINT64_MAX;

    features &= ~(settings->no_packed ? SK_VIRTIO_FEATURE(SK_VIRTIO_F_RING_PACKED) : 0);
    features &= ~(settings->no_indirect ? SK_VIRTIO_FEATURE(SK_VIRTIO_F_INDIRECT_DESC) : 0);
    features &= ~(settings->no_event_index ? SK_VIRTIO_FEATURE(SK_VIRTIO_F_EVENT_IDX) : 0);
    features &= ~(settings->no_in_order ? SK_VIRTIO_FEATURE(SK_VIRTIO_F_IN_ORDER) : 0);
    return features;
}

static void fill_options(const struct skblk_call *call, const char *file,
                         struct sk_backend_options *options)
{
    const struct skblk_settings *settings = &call->settings;

    sk_backend_options_init(options);
    options->address = call->words[0];
    options->file_path = file;
    options->capacity_sectors =
        (settings->size != 0 ? settings->size : UINT64_C(1) << 30) / SK_BLOCK_SECTOR_BYTES;
    options->null_zeroes = settings->zeroes;
    options->read_only = settings->read_only;
    options->block_bytes = (uint32_t)settings->logical_block;
    options->queue_count = (uint32_t)settings->queues;
    options->write_through = settings->write_through;
    options->features = features_of(settings);
    options->worker_count =
        (uint32_t)(settings->workers != 0 ? settings->workers : settings->queues);
    options->thread_count = (uint32_t)settings->threads;
    if (settings->waiting == SKBLK_WAITING_POLL) {
        options->poll_ns = SK_BACKEND_POLL_ALWAYS;
    } else if (settings->waiting == SKBLK_WAITING_HYBRID) {
        options->poll_ns = settings->spin_ns;
    }
    options->log_level = settings->verbose ? SK_LOG_DEBUG : SK_LOG_WARNING;
}

/* What can go wrong here is mostly the file; the socket's path is the rest. */
static int exit_of_start(enum sk_status status)
{
    switch (status) {
    case SK_ERR_INVALID:
    case SK_ERR_SIZE:
        return SKBLK_EXIT_USAGE;
    default:
        return SKBLK_EXIT_FILE;
    }
}

static int report(const struct skblk_call *call, const struct sk_backend_statistics *statistics)
{
    struct skblk_report *result = skblk_report_create();

    skblk_report_add_number(result, "connections", statistics->connections);
    skblk_report_add_number(result, "connections_broken", statistics->connections_broken);
    skblk_report_add_number(result, "requests", statistics->requests);
    skblk_report_add_number(result, "errors", statistics->errors);
    skblk_report_add_number(result, "read_bytes", statistics->bytes_read);
    skblk_report_add_number(result, "written_bytes", statistics->bytes_written);
    skblk_report_add_number(result, "flushes", statistics->flushes);
    skblk_report_add_number(result, "recovered", statistics->recovered);
    skblk_report_add_number(result, "at_work_most", statistics->at_work_most);
    return skblk_report_finish(call, result);
}

/* The front end's book of requests in flight knows the rest, as if this had been killed. */
static void leave_them(int number)
{
    static const char text[] = "skblk: the file does not answer; requests at it are left\n";

    (void)number;
    if (write(STDERR_FILENO, text, sizeof(text) - 1) < 0) {
        /* Nobody listens. */
    }
    _exit(SKBLK_EXIT_TIMEOUT);
}

/* A file system that hangs must not keep the process from ending. */
static void stop(struct sk_backend *backend)
{
    (void)signal(SIGALRM, leave_them);
    (void)alarm(END_SECONDS);
    sk_backend_stop(backend);
    (void)alarm(0);
}

static int serve(const struct skblk_call *call, const struct sk_backend_options *options)
{
    struct timespec look = { .tv_nsec = LOOK_NS };
    char error[SK_BACKEND_ERROR_BYTES] = "";
    struct sk_backend_statistics statistics;
    struct sk_backend *backend = NULL;
    enum sk_status status = sk_backend_start(options, &backend, error);

    if (status != SK_OK) {
        skblk_error(call, "%s", error[0] != '\0' ? error : sk_status_text(status));
        return exit_of_start(status);
    }
    if (!call->settings.quiet) {
        (void)fprintf(stderr, "skblk %s: serving on %s\n", call->name, options->address);
    }
    do {
        (void)nanosleep(&look, NULL);
        sk_backend_get_statistics(backend, &statistics);
    } while (!skblk_is_interrupted() && !(call->settings.once && statistics.connections > 0 &&
                                          statistics.connections_open == 0));
    stop(backend);
    return call->settings.quiet ? SKBLK_EXIT_OK : report(call, &statistics);
}

static int run(struct skblk_call *call, const char *file)
{
    struct sk_backend_fault faults[SK_BACKEND_FAULTS_MAX];
    struct sk_backend_options options;
    uint32_t count = 0;
    char *list = NULL;
    int code = SKBLK_EXIT_OK;

    if (call->settings.faults != NULL) {
        list = strdup(call->settings.faults);
        code = list != NULL ? parse_faults(call, list, faults, &count) : SKBLK_EXIT_FILE;
        free(list);
    }
    if (code != SKBLK_EXIT_OK) {
        return code;
    }
    fill_options(call, file, &options);
    options.faults = faults;
    options.fault_count = count;
    return serve(call, &options);
}

int skblk_serve_null(struct skblk_call *call)
{
    return run(call, NULL);
}

int skblk_serve_file(struct skblk_call *call)
{
    return run(call, call->words[1]);
}
