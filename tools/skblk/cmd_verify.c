/* SPDX-License-Identifier: MIT */
/*
 * skblk verify: does the disk keep what it acknowledged?  Three ways:
 *
 *   --write     writes a generation of the content to the range
 *   (nothing)   reads the range and expects that generation
 *   --stress    writes and reads random blocks for a while, remembering for
 *               each which generations may be there, then reads all of them
 *
 * A block has one request in flight at a time.  A write that was acknowledged
 * is the only generation that may be read; one that failed, or whose answer
 * got lost, may be there or not, or in part.
 */
#include "content.h"
#include "random.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEPTH_DEFAULT 32u
#define NAP_NS        UINT64_C(100000000)
#define LINES_MAX     10u

/* What may be in a block: generations from `acknowledged` on, up to `issued`. */
struct block {
    uint32_t acknowledged; /* 0: never written by us, anything may be there */
    uint32_t issued;
    bool is_busy;
    bool in_doubt; /* a write failed: sectors of several generations may be mixed */
};

struct verify;

struct lane {
    struct sk_block_request request;
    struct sk_dma_segment segment;
    struct verify *verify;
    uint8_t *data;
    uint64_t block;
    uint32_t generation; /* of a write */
};

struct verify {
    const struct skblk_call *call;
    struct skblk_disk disk;
    struct sk_block_queue *queue;
    struct sk_io_buffer buffer;
    struct lane *lanes;
    struct lane **idle;
    uint32_t idle_count;
    uint32_t depth;
    uint32_t in_flight;
    uint32_t block_sectors;
    uint64_t first_sector;
    uint64_t block_count;
    struct block *blocks;
    struct skblk_random random;
    uint64_t written;
    uint64_t read;
    uint64_t failures;
    uint64_t findings[SKBLK_FINDING_COUNT];
    int gone_code;         /* of a disk that cannot be brought back */
    enum sk_status status; /* the first failure that is not forgiven */
    uint64_t failed_at;
};

static uint64_t sector_of(const struct verify *verify, uint64_t block)
{
    return verify->first_sector + block * verify->block_sectors;
}

/* ---- Looking at content -------------------------------------------------------------------- */

static void say(struct verify *verify, enum skblk_finding finding, uint64_t sector,
                const struct skblk_content *found, const struct block *block)
{
    uint64_t byte = sector * SKBLK_CONTENT_SECTOR;

    verify->findings[finding]++;
    if (verify->failures++ >= LINES_MAX) {
        return;
    }
    switch (finding) {
    case SKBLK_FINDING_MISPLACED:
        skblk_error(verify->call, "byte %" PRIu64 ": has the content of byte %" PRIu64, byte,
                    found->sector * SKBLK_CONTENT_SECTOR);
        break;
    case SKBLK_FINDING_GENERATION:
        skblk_error(verify->call, "byte %" PRIu64 ": generation %u, expected %u to %u", byte,
                    found->generation, block->acknowledged, block->issued);
        break;
    default:
        skblk_error(verify->call, "byte %" PRIu64 ": %s", byte, skblk_finding_name(finding));
        break;
    }
    if (verify->failures == LINES_MAX) {
        skblk_error(verify->call, "more of these are only counted");
    }
}

static void look(struct verify *verify, const struct lane *lane)
{
    const struct block *block = &verify->blocks[lane->block];
    uint32_t first_generation = 0;

    verify->read++;
    if (block->acknowledged == 0) {
        return;
    }
    for (uint32_t i = 0; i < verify->block_sectors; i++) {
        uint64_t sector = sector_of(verify, lane->block) + i;
        struct skblk_content found;
        enum skblk_finding finding =
            skblk_content_look(lane->data + i * SKBLK_CONTENT_SECTOR, sector,
                               (uint32_t)verify->call->settings.seed, &found);

        first_generation = i == 0 ? found.generation : first_generation;
        if (finding == SKBLK_FINDING_GOOD &&
            (found.generation < block->acknowledged || found.generation > block->issued)) {
            finding = SKBLK_FINDING_GENERATION;
        } else if (finding == SKBLK_FINDING_GOOD && found.generation != first_generation &&
                   !block->in_doubt) {
            finding = SKBLK_FINDING_TORN;
        }
        if (finding != SKBLK_FINDING_GOOD) {
            say(verify, finding, sector, &found, block);
            return; /* one finding for each block */
        }
    }
}

/* ---- Requests ------------------------------------------------------------------------------ */

static void completed(struct sk_block_request *request)
{
    struct lane *lane = request->context;
    struct verify *verify = lane->verify;
    struct block *block = &verify->blocks[lane->block];

    verify->in_flight--;
    verify->idle[verify->idle_count++] = lane;
    block->is_busy = false;
    if (request->status != SK_OK && verify->status == SK_OK) {
        verify->status = request->status;
        verify->failed_at = request->sector * SKBLK_CONTENT_SECTOR;
    }
    if (request->operation == SK_BLOCK_WRITE) {
        verify->written++;
        block->in_doubt = request->status != SK_OK;
        block->acknowledged = request->status == SK_OK ? lane->generation : block->acknowledged;
    } else if (request->status == SK_OK) {
        look(verify, lane);
    }
}

static void submit(struct verify *verify, uint64_t block, bool writes)
{
    struct lane *lane = verify->idle[--verify->idle_count];
    struct sk_block_request *request = &lane->request;

    lane->block = block;
    verify->blocks[block].is_busy = true;
    request->operation = writes ? SK_BLOCK_WRITE : SK_BLOCK_READ;
    request->sector = sector_of(verify, block);
    if (writes) {
        lane->generation = ++verify->blocks[block].issued;
        for (uint32_t i = 0; i < verify->block_sectors; i++) {
            struct skblk_content content = { request->sector + i, lane->generation,
                                             (uint32_t)verify->call->settings.seed };

            skblk_content_fill(lane->data + i * SKBLK_CONTENT_SECTOR, &content);
        }
    } else {
        (void)memset(lane->data, 0, verify->block_sectors * SKBLK_CONTENT_SECTOR);
    }
    verify->in_flight++;
    sk_block_submit(verify->queue, &request, 1);
}

/* Completes at least one request, or rests. */
static void await(struct verify *verify)
{
    uint32_t completed_count = 0;
    enum sk_status status = sk_block_poll(verify->queue, 0, &completed_count);
    int code = SKBLK_EXIT_OK;

    if (verify->gone_code == SKBLK_EXIT_OK &&
        !skblk_disk_revive(verify->call, &verify->disk, status, &code)) {
        verify->gone_code = code;
        for (uint32_t i = 0; i < verify->depth; i++) {
            skblk_disk_cancel(&verify->disk, &verify->lanes[i].request);
        }
    } else if (completed_count == 0 && verify->call->settings.waiting != SKBLK_WAITING_POLL) {
        status = sk_block_wait_hybrid(verify->queue, skblk_spin_of(&verify->call->settings),
                                      skblk_now_ns() + NAP_NS);
    }
    (void)status; /* each request has its own */
}

static bool goes_on(const struct verify *verify)
{
    return verify->status == SK_OK && verify->gone_code == SKBLK_EXIT_OK &&
           !skblk_is_interrupted();
}

/*
 * A wait may notice that the device stopped: what was submitted then would be
 * refused.  The next poll says so, and has it brought back.
 */
static bool may_submit(const struct verify *verify)
{
    return verify->idle_count > 0 &&
           (!verify->call->settings.resubmit ||
            sk_block_get_state(verify->disk.device) == SK_BLOCK_STATE_READY);
}

static void settle(struct verify *verify)
{
    while (verify->in_flight > 0) {
        await(verify);
    }
}

/* ---- The three ways ------------------------------------------------------------------------ */

/* All blocks, one after the other. */
static void pass(struct verify *verify, bool writes, const char *what)
{
    struct skblk_progress progress;
    uint64_t bytes = verify->block_sectors * (uint64_t)SKBLK_CONTENT_SECTOR;

    skblk_progress_start(&progress, verify->call, what, verify->block_count * bytes);
    for (uint64_t block = 0; block < verify->block_count && goes_on(verify); block++) {
        while (!may_submit(verify) && goes_on(verify)) {
            await(verify);
        }
        if (goes_on(verify)) {
            submit(verify, block, writes);
        }
        skblk_progress_update(&progress, block * bytes);
    }
    settle(verify);
    skblk_progress_finish(&progress);
}

static void stress(struct verify *verify)
{
    struct skblk_progress progress;
    uint64_t end_ns = skblk_now_ns() + verify->call->settings.seconds_ns;
    uint64_t bytes = verify->block_sectors * (uint64_t)SKBLK_CONTENT_SECTOR;

    skblk_progress_start(&progress, verify->call, "stress", 0);
    while (goes_on(verify) && skblk_now_ns() < end_ns) {
        while (may_submit(verify)) {
            uint64_t block = skblk_random_below(&verify->random, verify->block_count);

            if (verify->blocks[block].is_busy) {
                break;
            }
            submit(verify, block, skblk_random_below(&verify->random, 3) != 0);
        }
        await(verify);
        skblk_progress_update(&progress, (verify->written + verify->read) * bytes);
    }
    settle(verify);
    skblk_progress_finish(&progress);
}

static void flush(struct verify *verify)
{
    enum sk_status status = sk_block_flush(verify->queue, 0);

    if (status != SK_OK && verify->status == SK_OK) {
        verify->status = status;
    }
}

static void run(struct verify *verify)
{
    const struct skblk_settings *settings = &verify->call->settings;
    uint32_t expected = (uint32_t)settings->generation;

    for (uint64_t i = 0; i < verify->block_count; i++) {
        uint32_t known = settings->stress ? 0 : settings->write ? expected - 1 : expected;

        verify->blocks[i] = (struct block){ .acknowledged = known, .issued = known };
    }
    if (settings->stress) {
        stress(verify);
        flush(verify);
        pass(verify, false, "check");
    } else {
        pass(verify, settings->write, settings->write ? "write" : "check");
        if (settings->write) {
            flush(verify);
        }
    }
}

/* ---- Preparation and results --------------------------------------------------------------- */

static enum sk_status prepare(struct verify *verify)
{
    uint64_t bytes = verify->block_sectors * (uint64_t)SKBLK_CONTENT_SECTOR;
    enum sk_status status;

    verify->lanes = calloc(verify->depth, sizeof(*verify->lanes));
    verify->idle = calloc(verify->depth, sizeof(struct lane *));
    verify->blocks = calloc(verify->block_count, sizeof(*verify->blocks));
    if (verify->lanes == NULL || verify->idle == NULL || verify->blocks == NULL) {
        return SK_ERR_NO_MEMORY;
    }
    status = sk_io_buffer_create(&verify->buffer, verify->disk.device->domain,
                                 verify->depth * bytes, SK_IO_BUFFER_ALIGNMENT);
    for (uint32_t i = 0; status == SK_OK && i < verify->depth; i++) {
        struct lane *lane = &verify->lanes[i];

        lane->verify = verify;
        lane->data = (uint8_t *)sk_io_buffer_data(&verify->buffer) + i * bytes;
        lane->request = (struct sk_block_request){
            .segments = &lane->segment, .segment_count = 1, .complete = completed, .context = lane
        };
        verify->idle[verify->idle_count++] = lane;
        status = sk_io_buffer_segment(&verify->buffer, i * bytes, bytes, &lane->segment);
    }
    return status;
}

static int print_result(struct verify *verify)
{
    struct skblk_report *report = skblk_report_create();
    int code;

    skblk_report_add_number(report, "blocks_written", verify->written);
    skblk_report_add_number(report, "blocks_read", verify->read);
    skblk_report_add_number(report, "blocks_foreign", verify->findings[SKBLK_FINDING_FOREIGN]);
    skblk_report_add_number(report, "blocks_misplaced", verify->findings[SKBLK_FINDING_MISPLACED]);
    skblk_report_add_number(report, "blocks_torn", verify->findings[SKBLK_FINDING_TORN]);
    skblk_report_add_number(report, "blocks_of_wrong_generation",
                            verify->findings[SKBLK_FINDING_GENERATION]);
    code = skblk_report_finish(verify->call, report);
    return verify->failures > 0 ? SKBLK_EXIT_DIFFERENT : code;
}

static int finish(struct verify *verify)
{
    int code = print_result(verify);

    if (verify->gone_code != SKBLK_EXIT_OK) {
        return verify->gone_code;
    }
    if (verify->status != SK_OK) {
        return skblk_disk_failed(verify->call, "a request", verify->failed_at, verify->status);
    }
    return code == SKBLK_EXIT_OK && skblk_is_interrupted() ? SKBLK_EXIT_INTERRUPTED : code;
}

static int check(const struct skblk_call *call, struct verify *verify, uint64_t length)
{
    const struct skblk_settings *settings = &call->settings;

    if (settings->block % verify->disk.info.block_bytes != 0) {
        skblk_error(call, "--block must be a multiple of the disk's block, %u bytes",
                    verify->disk.info.block_bytes);
        return SKBLK_EXIT_USAGE;
    }
    verify->block_sectors = (uint32_t)(settings->block / SKBLK_CONTENT_SECTOR);
    verify->block_count = length / settings->block;
    if (verify->block_count == 0) {
        skblk_error(call, "the range is shorter than one block of %" PRIu64 " bytes",
                    settings->block);
        return SKBLK_EXIT_USAGE;
    }
    return settings->write || settings->stress ? skblk_disk_check_writable(call, &verify->disk)
                                               : SKBLK_EXIT_OK;
}

static int work(struct verify *verify)
{
    enum sk_status status = prepare(verify);
    int code;

    if (status != SK_OK) {
        skblk_error(verify->call, "no memory for that many blocks: %s", sk_status_text(status));
        code = SKBLK_EXIT_DISK;
    } else {
        run(verify);
        code = finish(verify);
    }
    status = sk_io_buffer_destroy(&verify->buffer);
    (void)status; /* logged where it happened */
    free(verify->lanes);
    free(verify->idle);
    free(verify->blocks);
    return code;
}

int skblk_verify(struct skblk_call *call)
{
    const struct skblk_settings *settings = &call->settings;
    struct verify verify = { .call = call };
    uint64_t offset = 0;
    uint64_t length = 0;
    int code;

    if ((settings->write || settings->stress) && !settings->force) {
        skblk_error(call, "this overwrites %s: say --yes-overwrite if that is meant",
                    call->words[0]);
        return SKBLK_EXIT_USAGE;
    }
    verify.depth = settings->depth != 0 ? (uint32_t)settings->depth : DEPTH_DEFAULT;
    code = skblk_disk_open(call, call->words[0], verify.depth * settings->block, &verify.disk);
    if (code != SKBLK_EXIT_OK) {
        return code;
    }
    verify.queue = sk_block_get_queue(verify.disk.device, 0);
    skblk_random_seed(&verify.random, settings->seed, 0);
    code = skblk_disk_range(call, &verify.disk, &offset, &length);
    if (code == SKBLK_EXIT_OK) {
        verify.first_sector = offset / SKBLK_CONTENT_SECTOR;
        code = check(call, &verify, length);
    }
    if (code == SKBLK_EXIT_OK) {
        code = work(&verify);
    }
    return skblk_disk_close(call, &verify.disk, code);
}
