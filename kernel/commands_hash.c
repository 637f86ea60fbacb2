/* SPDX-License-Identifier: MIT */
/* Several reads are at the disk while the one before them is hashed. */
#include <skio/checked.h>

#include "arch/arch.h"
#include "commands.h"
#include "console.h"
#include "disk.h"
#include "lib/sha256.h"

#define LANES       4u
#define PROGRESS_NS UINT64_C(250000000)

struct lane {
    struct sk_block_request request;
    struct sk_dma_segment segment;
    uint64_t bytes; /* 0: idle */
    bool done;
};

struct job {
    struct disk disk;
    struct sk_io_buffer buffer;
    struct lane lanes[LANES];
    struct sha256 sha256;
    uint64_t first;     /* sector */
    uint64_t bytes;     /* of all */
    uint64_t submitted; /* bytes */
    uint64_t hashed;    /* bytes */
    uint64_t next_ns;   /* when to show the progress next */
    bool interactive;
    bool shown;
    bool stopped; /* an error or ^C: nothing new is submitted */
    bool in_doubt;
};

static void complete(struct sk_block_request *request)
{
    struct lane *lane = request->context;

    lane->done = true;
}

static bool prepare(struct job *job, unsigned index)
{
    struct lane *lane = &job->lanes[index];
    uint64_t left = job->bytes - job->submitted;
    enum sk_status status;

    lane->bytes = left < DISK_CHUNK_BYTES ? left : DISK_CHUNK_BYTES;
    lane->done = false;
    if (lane->bytes == 0 || job->stopped) {
        lane->bytes = 0;
        return false;
    }
    status = sk_io_buffer_segment(&job->buffer, (uint64_t)index * DISK_CHUNK_BYTES, lane->bytes,
                                  &lane->segment);
    if (status != SK_OK) {
        disk_report("hash", "buffer", 0, status);
        job->stopped = true;
        lane->bytes = 0;
        return false;
    }
    lane->request = (struct sk_block_request){
        .operation = SK_BLOCK_READ,
        .segment_count = 1,
        .sector = job->first + job->submitted / SK_BLOCK_SECTOR_BYTES,
        .segments = &lane->segment,
        .complete = complete,
        .context = lane,
    };
    job->submitted += lane->bytes;
    return true;
}

static void submit(struct job *job, unsigned index)
{
    struct sk_block_request *request = &job->lanes[index].request;

    if (prepare(job, index)) {
        sk_block_submit(job->disk.queue, &request, 1);
    }
}

static void show_progress(struct job *job)
{
    uint64_t now = arch_now_ns();

    if (!job->interactive || now < job->next_ns) {
        return;
    }
    job->next_ns = now + PROGRESS_NS;
    job->shown = true;
    console_print("\r%3lu %%", (job->hashed / (job->bytes / 100 + 1)));
    if (console_take_break()) {
        job->stopped = true;
        console_print("\rhash: stopped\n");
    }
}

static void take(struct job *job, unsigned index)
{
    struct lane *lane = &job->lanes[index];
    const uint8_t *data = sk_io_buffer_data(&job->buffer);

    disk_await(&job->disk, &lane->request, &lane->done);
    job->in_doubt |= lane->request.status == SK_ERR_IN_DOUBT;
    if (lane->request.status != SK_OK && !job->stopped) {
        disk_report("hash", "read", lane->request.sector, lane->request.status);
        job->stopped = true;
    }
    if (!job->stopped) {
        sha256_update(&job->sha256, data + (size_t)index * DISK_CHUNK_BYTES, (size_t)lane->bytes);
        job->hashed += lane->bytes;
        show_progress(job);
    }
    lane->bytes = 0;
}

/* Lanes are used in turn, so their order is the disk's. */
static void run(struct job *job)
{
    for (unsigned i = 0; i < LANES; i++) {
        submit(job, i);
    }
    for (unsigned i = 0; job->lanes[i].bytes != 0; i = (i + 1) % LANES) {
        take(job, i);
        submit(job, i);
    }
}

static enum shell_result print_digest(struct job *job)
{
    uint8_t digest[SHA256_BYTES];
    char text[SHA256_HEX_BYTES];

    if (job->stopped) {
        return SHELL_FAILED;
    }
    sha256_finish(&job->sha256, digest);
    sha256_hex(digest, text);
    console_print("%ssha256 %s %lu bytes\n", job->shown ? "\r100 %\n" : "", text, job->bytes);
    return SHELL_OK;
}

static enum shell_result hash(struct job *job, uint64_t count)
{
    if (!sk_checked_mul(count, SK_BLOCK_SECTOR_BYTES, &job->bytes)) {
        console_print("hash: the disk is too large\n");
        return SHELL_FAILED;
    }
    sha256_init(&job->sha256);
    job->next_ns = arch_now_ns() + PROGRESS_NS;
    if (job->bytes == 0) {
        return print_digest(job);
    }
    if (!disk_check_blocks(&job->disk, "hash", job->first, count) ||
        !disk_buffer(&job->disk, "hash", &job->buffer, LANES * DISK_CHUNK_BYTES)) {
        return SHELL_FAILED;
    }
    run(job);
    disk_buffer_done(&job->buffer, job->in_doubt);
    return print_digest(job);
}

enum shell_result command_hash(const struct shell_call *call)
{
    static struct job job; /* requests must outlive a command that ends in doubt */
    uint64_t count;

    job = (struct job){ .interactive = call->interactive };
    if (call->count != 0 && (call->count != 2 || !command_number(call, "hash", 0, &job.first) ||
                             !command_number(call, "hash", 1, &count))) {
        return SHELL_USAGE;
    }
    if (!disk_open(&job.disk)) {
        return SHELL_FAILED;
    }
    if (call->count == 0) {
        count = job.disk.info.capacity_sectors;
    } else if (!disk_check(&job.disk, "hash", job.first, count)) {
        return SHELL_FAILED;
    }
    return hash(&job, count);
}
