/* SPDX-License-Identifier: MIT */
#include "arch/arch.h"
#include "commands.h"
#include "console.h"
#include "lib/string.h"
#include "lib/text.h"
#include "memory.h"
#include "scrub.h"

#define COUNT_MAX 65536u
#define DEPTH_DEFAULT 16u

/* Before: keeps the counters; after: says what was added. */
static void look_at_queues(struct scrub *scrub, bool after)
{
    for (uint32_t i = 0; i < scrub->disk.info.queue_count && i < SK_VIRTIO_BLK_QUEUES_MAX; i++) {
        struct scrub_queue *queue = &scrub->queues[i];
        struct sk_block_statistics now;

        sk_block_get_statistics(sk_block_get_queue(scrub->disk.device, i), &now);
        if (after) {
            console_print("scrub: queue %u: %lu requests, %lu interrupts\n", (unsigned)i,
                          now.requests - queue->requests, now.interrupts - queue->interrupts);
        }
        *queue = (struct scrub_queue) { now.requests, now.interrupts };
    }
}

static bool print_result(const struct scrub *scrub)
{
    bool good = !scrub->stopped && scrub->failures == 0 && scrub->equal == scrub->count;

    if (!good) {
        console_print("scrub: %u failures; of %lu extents %lu are durable and %lu read back as "
                      "written; the counters: stats\n",
                      (unsigned)scrub->failures, scrub->count, scrub->durable, scrub->equal);
    } else if (scrub->read) {
        console_print("scrub: %lu extents read as seed %lu writes them, queues %u\n", scrub->count,
                      scrub->extents.seed, (unsigned)scrub->disk.info.queue_count);
    } else {
        console_print("scrub: %lu extents written, flushed and read back as written, seed %lu, "
                      "queues %u, recoveries %u\n",
                      scrub->count, scrub->extents.seed, (unsigned)scrub->disk.info.queue_count,
                      (unsigned)scrub->recoveries);
    }
    return good;
}

/* -- The command -- */

static bool take_word(struct scrub *scrub, const char *word)
{
    if (text_equal(word, "read")) {
        scrub->read = true;
    } else if (text_equal(word, "poll")) {
        scrub->poll = true;
    } else if (text_equal(word, "retry")) {
        scrub->retry = true;
    } else if (text_equal(word, "persist")) {
        scrub->persist = true;
    } else {
        return false;
    }
    return true;
}

/* Numbers in their order, words anywhere. */
static bool take_words(struct scrub *scrub, const struct shell_call *call)
{
    static const uint64_t highest[4] = { UINT64_MAX, COUNT_MAX, SCRUB_DEPTH_MAX, COUNT_MAX };
    uint64_t *const targets[4] = { &scrub->extents.seed, &scrub->count, &scrub->depth,
                                   &scrub->every };
    unsigned numbers = 0;

    for (size_t i = 0; i < call->count; i++) {
        uint64_t number;

        if (take_word(scrub, call->words[i])) {
            continue;
        }
        if (numbers == 4 || !command_number(call, "scrub", i, &number)) {
            return false;
        }
        if ((number == 0 && numbers > 0) || number > highest[numbers]) {
            console_print("scrub: %lu is not within 1 and %lu\n", number, highest[numbers]);
            return false;
        }
        *targets[numbers++] = number;
    }
    return numbers >= 2;
}

static bool open(struct scrub *scrub)
{
    struct sk_block_info *info = &scrub->disk.info;

    if (!disk_open(&scrub->disk)) {
        return false;
    }
    scrub->extents.block_sectors = info->block_bytes / SK_BLOCK_SECTOR_BYTES;
    scrub->extents.block_count = info->capacity_sectors / scrub->extents.block_sectors;
    if (scrub->extents.block_count == 0) {
        console_print("scrub: the disk has not a single block\n");
        return false;
    }
    if (info->read_only && !scrub->read) {
        console_print("scrub: the disk is read-only: it is read and compared only\n");
        scrub->read = true;
    }
    return true;
}

static bool get_memory(struct scrub *scrub)
{
    uint64_t bytes = scrub->disk.info.block_bytes;

    bytes = bytes > EXTENTS_BYTES ? bytes : EXTENTS_BYTES;
    scrub->lane_bytes = bytes + (SCRUB_SEGMENTS_MAX + 1) * SCRUB_GAP_BYTES;
    if (!disk_buffer(&scrub->disk, "scrub", &scrub->buffer, scrub->lane_bytes * scrub->depth)) {
        return false;
    }
    scrub->records = aligned_alloc(ARCH_PAGE_BYTES, scrub->count * sizeof(*scrub->records));
    if (scrub->records == NULL) {
        console_print("scrub: no memory for %lu extents\n", scrub->count);
        disk_buffer_done(&scrub->buffer, false);
        return false;
    }
    for (uint64_t i = 0; i < scrub->depth; i++) {
        scrub->lanes[i].scrub = scrub;
        scrub->lanes[i].offset = i * scrub->lane_bytes;
    }
    for (uint64_t i = 0; i < scrub->count; i++) {
        scrub->records[i].failed = false;
        extents_get(&scrub->extents, i, &scrub->records[i].extent);
    }
    return true;
}

enum shell_result command_scrub(const struct shell_call *call)
{
    static struct scrub scrub; /* requests must outlive a command that ends in doubt */
    bool good;

    memset(&scrub, 0, sizeof(scrub));
    scrub.depth = DEPTH_DEFAULT;
    scrub.every = COUNT_MAX;
    scrub.interactive = call->interactive;
    if (!take_words(&scrub, call)) {
        return SHELL_USAGE;
    }
    if (!open(&scrub) || !get_memory(&scrub)) {
        return SHELL_FAILED;
    }
    look_at_queues(&scrub, false);
    if (!scrub.read) {
        scrub_pass(&scrub, true);
    }
    if (!scrub.stopped) {
        scrub_pass(&scrub, false);
    }
    look_at_queues(&scrub, true);
    good = print_result(&scrub);
    disk_buffer_done(&scrub.buffer, scrub.in_doubt);
    aligned_free(scrub.records);
    return good ? SHELL_OK : SHELL_FAILED;
}
