/* SPDX-License-Identifier: MIT */
/* skblk flush, discard, zero: requests without data. */
#include "skblk.h"

#include <inttypes.h>
#include <stdio.h>

/* What one request clears at most, so that ^C is noticed. */
#define PIECE_BYTES (UINT64_C(1) << 30)

/* For machines alone: people see the status. */
static int report_bytes(const struct skblk_call *call, uint64_t bytes)
{
    struct skblk_report *report;

    if (!call->settings.json) {
        return SKBLK_EXIT_OK;
    }
    report = skblk_report_create();
    skblk_report_add_number(report, "bytes", bytes);
    return skblk_report_finish(call, report);
}

int skblk_flush(struct skblk_call *call)
{
    struct skblk_disk disk;
    enum sk_status status;
    int code = skblk_disk_open(call, call->words[0], 0, &disk);

    if (code != SKBLK_EXIT_OK) {
        return code;
    }
    status = sk_block_flush(sk_block_get_queue(disk.device, 0), 0);
    if (status != SK_OK) {
        code = skblk_disk_failed(call, "flush", 0, status);
    } else {
        code = report_bytes(call, skblk_disk_bytes(&disk));
    }
    return skblk_disk_close(call, &disk, code);
}

static int clear_range(const struct skblk_call *call, const struct skblk_disk *disk,
                       enum sk_block_operation operation, const char *what)
{
    struct skblk_progress progress;
    uint32_t flags = call->settings.unmap ? SK_BLOCK_FLAG_UNMAP : 0;
    uint64_t offset = 0;
    uint64_t length = 0;
    uint64_t done = 0;
    int code = skblk_disk_range(call, disk, &offset, &length);

    skblk_progress_start(&progress, call, what, length);
    while (code == SKBLK_EXIT_OK && done < length) {
        uint64_t piece = length - done < PIECE_BYTES ? length - done : PIECE_BYTES;
        enum sk_status status = sk_block_clear(
            sk_block_get_queue(disk->device, 0), operation,
            (offset + done) / SK_BLOCK_SECTOR_BYTES, piece / SK_BLOCK_SECTOR_BYTES, flags, 0);

        if (status != SK_OK) {
            code = skblk_disk_failed(call, what, offset + done, status);
        } else if (skblk_is_interrupted()) {
            skblk_error(call, "interrupted after %" PRIu64 " bytes from byte %" PRIu64 " on",
                        done + piece, offset);
            code = SKBLK_EXIT_INTERRUPTED;
        }
        done += piece;
        skblk_progress_update(&progress, done);
    }
    skblk_progress_finish(&progress);
    if (code == SKBLK_EXIT_OK) {
        enum sk_status status = sk_block_flush(sk_block_get_queue(disk->device, 0), 0);

        code = status != SK_OK ? skblk_disk_failed(call, "flush", 0, status)
                               : report_bytes(call, length);
    }
    return code;
}

static int run(struct skblk_call *call, enum sk_block_operation operation, const char *what)
{
    struct skblk_disk disk;
    int code;

    if (!call->settings.force) {
        skblk_error(call, "this destroys what is on %s: say --yes-overwrite if that is meant",
                    call->words[0]);
        return SKBLK_EXIT_USAGE;
    }
    code = skblk_disk_open(call, call->words[0], 0, &disk);
    if (code != SKBLK_EXIT_OK) {
        return code;
    }
    code = skblk_disk_check_writable(call, &disk);
    if (code == SKBLK_EXIT_OK) {
        code = clear_range(call, &disk, operation, what);
    }
    return skblk_disk_close(call, &disk, code);
}

int skblk_discard(struct skblk_call *call)
{
    return call->settings.secure ? run(call, SK_BLOCK_SECURE_ERASE, "secure erase")
                                 : run(call, SK_BLOCK_DISCARD, "discard");
}

int skblk_zero(struct skblk_call *call)
{
    return run(call, SK_BLOCK_WRITE_ZEROES, "zero");
}
