/* SPDX-License-Identifier: MIT */
/* The platform of a Linux process: its life, its log, its clock. */
#include "process_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define SECOND_NS UINT64_C(1000000000)

/* One write for a line: lines of several threads do not mix. */
static void write_to_stderr(void *context, enum sk_log_level level, const char *line)
{
    char text[SK_LOG_LINE_BYTES + 32];
    int length = snprintf(text, sizeof(text), "skio: %s: %s\n", sk_log_level_name(level), line);

    (void)context;
    if (length > 0 && write(STDERR_FILENO, text, (size_t)length) < 0) {
        return; /* nowhere to say so */
    }
}

uint64_t ski_process_now(void *context)
{
    struct timespec now;

    (void)context;
    (void)clock_gettime(CLOCK_MONOTONIC, &now); /* cannot fail with this clock */
    return (uint64_t)now.tv_sec * SECOND_NS + (uint64_t)now.tv_nsec;
}

/* A process has no device registers. */
static enum sk_status map_mmio(void *context, sk_paddr base, uint64_t bytes,
                               struct sk_mmio *out_mmio)
{
    (void)context;
    (void)base;
    (void)bytes;
    (void)out_mmio;
    return SK_ERR_UNSUPPORTED;
}

static void fill_platform(struct sk_process *process)
{
    process->platform = (struct sk_platform){
        .context = process,
        .log = &process->log,
        .now_ns = ski_process_now,
        .wait = ski_process_wait,
        .wait_interrupt = ski_process_wait_interrupt,
        .wake = ski_process_wake,
        .map_mmio = map_mmio,
        .attach_interrupt = ski_process_attach,
        .detach_interrupt = ski_process_detach,
        .physical_of = ski_process_physical_of,
        .page_bytes = SK_DMA_PAGE_BYTES,
    };
}

enum sk_status sk_process_create(const struct sk_process_options *options,
                                 struct sk_process **out_process)
{
    static const struct sk_process_options defaults = SK_PROCESS_OPTIONS_DEFAULT;
    struct sk_process *process;

    *out_process = NULL;
    options = options == NULL ? &defaults : options;
    if ((unsigned)options->log_level >= SK_LOG_LEVEL_COUNT) {
        return SK_ERR_INVALID;
    }
    process = calloc(1, sizeof(*process));
    if (process == NULL) {
        return SK_ERR_NO_MEMORY;
    }
    process->log.write = options->write_log == NULL ? write_to_stderr : options->write_log;
    process->log.context = options->log_context;
    process->log.level = options->log_level;
    process->next_paddr = SKI_PROCESS_PADDR;
    process->window = (struct sk_dma_window){ { SKI_PROCESS_PADDR },
                                              { SKI_PROCESS_PADDR },
                                              SKI_PROCESS_PADDR_END - SKI_PROCESS_PADDR };
    (void)pthread_mutex_init(&process->lock, NULL);
    ski_process_init_interrupts(process);
    fill_platform(process);
    *out_process = process;
    return SK_OK;
}

enum sk_status sk_process_destroy(struct sk_process *process)
{
    enum sk_status status;

    if (process == NULL) {
        return SK_OK;
    }
    if (ski_process_has_interrupts(process)) {
        sk_log_print(&process->log, SK_LOG_ERROR, "process: an interrupt is still attached");
        return SK_ERR_BUSY;
    }
    status = ski_process_remove_regions(process);
    if (status != SK_OK) {
        return status;
    }
    for (size_t i = 0; i < SK_PROCESS_INTERRUPTS_MAX; i++) {
        (void)pthread_mutex_destroy(&process->interrupts[i].lock);
    }
    (void)pthread_mutex_destroy(&process->lock);
    free(process);
    return SK_OK;
}

const struct sk_platform *sk_process_platform(const struct sk_process *process)
{
    return &process->platform;
}
