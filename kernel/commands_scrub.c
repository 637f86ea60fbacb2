/* SPDX-License-Identifier: MIT */
#include <stdatomic.h>

#include <skio/text.h>

#include "arch/arch.h"
#include "commands.h"
#include "console.h"
#include "harts.h"
#include "lib/string.h"
#include "lib/text.h"
#include "memory.h"
#include "scrub.h"

#define COUNT_MAX     65536u
#define DEPTH_DEFAULT 16u
#define NAME_BYTES    16u

static struct scrub_plan plan;

struct job {
    struct disk disk;
    struct scrub *workers[KERNEL_HARTS_MAX];
};

/* -- Words -- */

static bool take_word(const char *word)
{
    static const struct {
        const char *name;
        bool *target;
    } words[] = {
        { "read", &plan.read },
        { "poll", &plan.poll },
        { "retry", &plan.retry },
        { "persist", &plan.persist },
    };

    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        if (text_equal(word, words[i].name)) {
            *words[i].target = true;
            return true;
        }
    }
    return false;
}

static bool take_number(const char *text, uint64_t lowest, uint64_t highest, uint64_t *target)
{
    if (!text_number(text, target)) {
        console_print("scrub: %s is no number (decimal, or 0x...)\n", text);
        return false;
    }
    if (*target < lowest || *target > highest) {
        console_print("scrub: %s is not within %lu and %lu\n", text, lowest, highest);
        return false;
    }
    return true;
}

/* Numbers in their order, words anywhere. */
static bool take_words(const struct shell_call *call)
{
    static const struct {
        uint64_t *target;
        uint64_t lowest;
        uint64_t highest;
    } numbers[] = {
        { &plan.seed, 0, UINT64_MAX },
        { &plan.count, 1, COUNT_MAX },
        { &plan.depth, 1, SCRUB_DEPTH_MAX },
        { &plan.every, 1, COUNT_MAX },
    };
    size_t taken = 0;

    for (size_t i = 0; i < call->count; i++) {
        const char *harts = text_value_of(call->words[i], "harts");

        if (harts != NULL) {
            if (!take_number(harts, 1, KERNEL_HARTS_MAX, &plan.harts)) {
                return false;
            }
        } else if (!take_word(call->words[i])) {
            if (taken == sizeof(numbers) / sizeof(numbers[0]) ||
                !take_number(call->words[i], numbers[taken].lowest, numbers[taken].highest,
                             numbers[taken].target)) {
                return false;
            }
            taken++;
        }
    }
    return taken >= 2;
}

/* -- Workers -- */

static bool check(const struct disk *disk)
{
    uint32_t sectors = disk->info.block_bytes / SK_BLOCK_SECTOR_BYTES;

    if (plan.harts > harts_running() || plan.harts > disk->info.queue_count) {
        console_print("scrub: harts=%lu, but %u run and the disk has %u queues\n", plan.harts,
                      harts_running(), (unsigned)disk->info.queue_count);
        return false;
    }
    if (plan.harts > 1 && plan.retry) {
        console_print("scrub: retry is for one hart: a recovery needs all queues at rest\n");
        return false;
    }
    if (disk->info.capacity_sectors / sectors < plan.harts) {
        console_print("scrub: the disk has fewer blocks than harts that shall work on it\n");
        return false;
    }
    if (disk->info.read_only && !plan.read) {
        console_print("scrub: the disk is read-only: it is read and compared only\n");
        plan.read = true;
    }
    return true;
}

/* A hart's part of the disk and of its queues; with a seed of its own. */
static void choose_part(struct scrub *scrub, unsigned hart)
{
    const struct sk_block_info *info = &scrub->disk.info;
    struct extents *extents = &scrub->extents;

    extents->seed = plan.seed + hart;
    extents->block_sectors = info->block_bytes / SK_BLOCK_SECTOR_BYTES;
    extents->block_count = info->capacity_sectors / extents->block_sectors / plan.harts;
    extents->first_block = extents->block_count * hart;
    for (uint32_t i = hart; i < info->queue_count && scrub->queue_count < SK_VIRTIO_BLK_QUEUES_MAX;
         i += (uint32_t)plan.harts) {
        scrub->queues[scrub->queue_count++].queue = sk_block_get_queue(scrub->disk.device, i);
    }
}

static bool get_memory(struct scrub *scrub)
{
    uint64_t bytes = scrub->disk.info.block_bytes;

    bytes = bytes > EXTENTS_BYTES ? bytes : EXTENTS_BYTES;
    scrub->lane_bytes = bytes + (SCRUB_SEGMENTS_MAX + 1) * SCRUB_GAP_BYTES;
    if (!disk_buffer(&scrub->disk, "scrub", &scrub->buffer, scrub->lane_bytes * plan.depth)) {
        return false;
    }
    scrub->records = aligned_alloc(ARCH_PAGE_BYTES, plan.count * sizeof(*scrub->records));
    if (scrub->records == NULL) {
        console_print("scrub: no memory for %lu extents\n", plan.count);
        return false;
    }
    for (uint64_t i = 0; i < plan.depth; i++) {
        scrub->lanes[i].scrub = scrub;
        scrub->lanes[i].offset = i * scrub->lane_bytes;
    }
    for (uint64_t i = 0; i < plan.count; i++) {
        scrub->records[i].failed = false;
        extents_get(&scrub->extents, i, &scrub->records[i].extent);
    }
    return true;
}

static bool make_worker(struct job *job, unsigned hart)
{
    static char names[KERNEL_HARTS_MAX][NAME_BYTES];
    struct scrub *scrub = aligned_alloc(ARCH_PAGE_BYTES, sizeof(*scrub));

    if (scrub == NULL) {
        console_print("scrub: no memory for hart %u\n", hart);
        return false;
    }
    memset(scrub, 0, sizeof(*scrub));
    job->workers[hart] = scrub;
    (void)sk_text_format(names[hart], NAME_BYTES, plan.harts > 1 ? "scrub: hart %u" : "scrub",
                         hart);
    scrub->name = names[hart];
    scrub->plan = &plan;
    scrub->hart = hart;
    scrub->disk = job->disk;
    choose_part(scrub, hart);
    return get_memory(scrub);
}

static void drop_workers(struct job *job)
{
    bool in_doubt = false;

    for (unsigned i = 0; i < plan.harts; i++) {
        in_doubt |= job->workers[i] != NULL && job->workers[i]->in_doubt;
    }
    for (unsigned i = 0; i < plan.harts && job->workers[i] != NULL; i++) {
        disk_buffer_done(&job->workers[i]->buffer, in_doubt);
        aligned_free(job->workers[i]->records);
        if (!in_doubt) { /* what the disk may still write is lost on purpose */
            aligned_free(job->workers[i]);
        }
    }
}

static void run(struct job *job)
{
    for (unsigned i = 1; i < plan.harts; i++) {
        (void)harts_post(i, scrub_run, job->workers[i]);
    }
    scrub_run(job->workers[0]);
    for (unsigned i = 1; i < plan.harts; i++) {
        harts_join(i);
    }
}

static bool print_result(const struct job *job)
{
    uint64_t count = plan.count * plan.harts;
    uint64_t durable = 0;
    uint64_t equal = 0;
    uint32_t failures = 0;
    uint32_t recoveries = 0;
    bool stopped = false;

    for (unsigned i = 0; i < plan.harts; i++) {
        const struct scrub *scrub = job->workers[i];

        stopped |= scrub->stopped;
        failures += scrub->failures;
        durable += scrub->durable;
        equal += scrub->equal;
        recoveries += scrub->recoveries;
    }
    if (stopped || failures > 0 || equal != count) {
        console_print("scrub: %u failures; of %lu extents %lu are durable and %lu read back as "
                      "written; the counters: stats\n",
                      (unsigned)failures, count, durable, equal);
        return false;
    }
    if (plan.read) {
        console_print("scrub: %lu extents read as seed %lu writes them", count, plan.seed);
    } else {
        console_print("scrub: %lu extents written, flushed and read back as written, seed %lu",
                      count, plan.seed);
    }
    console_print(", queues %u, harts %u, recoveries %u\n", (unsigned)job->disk.info.queue_count,
                  (unsigned)plan.harts, (unsigned)recoveries);
    return true;
}

enum shell_result command_scrub(const struct shell_call *call)
{
    struct job job = { 0 };
    bool good = true;

    plan = (struct scrub_plan){
        .depth = DEPTH_DEFAULT, .every = COUNT_MAX, .harts = 1, .interactive = call->interactive
    };
    if (!take_words(call)) {
        return SHELL_USAGE;
    }
    if (!disk_open(&job.disk) || !check(&job.disk)) {
        return SHELL_FAILED;
    }
    for (unsigned i = 0; i < plan.harts && good; i++) {
        good = make_worker(&job, i);
    }
    if (good) {
        run(&job);
        good = print_result(&job);
    }
    drop_workers(&job);
    return good ? SHELL_OK : SHELL_FAILED;
}
