/* SPDX-License-Identifier: MIT */
/* skblk info: what the disk is, and how it is reached. */
#include "skblk.h"

#include <stdio.h>

typedef const char *(*name_function)(const struct skblk_disk *disk, unsigned bit);

static const char *feature_name(const struct skblk_disk *disk, unsigned bit)
{
    return sk_block_feature_name(disk->device, bit);
}

static const char *protocol_name(const struct skblk_disk *disk, unsigned bit)
{
    (void)disk;
    return sk_vhost_user_feature_name(bit);
}

static void add_features(struct skblk_report *report, const struct skblk_disk *disk,
                         const char *title, uint64_t features, name_function name)
{
    for (unsigned bit = 0; bit < 64; bit++) {
        char number[16];

        if ((features >> bit & 1) != 0) {
            const char *text = name(disk, bit);

            (void)snprintf(number, sizeof(number), "bit%u", bit);
            skblk_report_add_word(report, title, text != NULL ? text : number);
        }
    }
}

static void add_range_limits(struct skblk_report *report, const char *name,
                             const struct sk_block_range_limits *limits)
{
    char text[48];

    if (limits->sectors_max == 0) {
        return;
    }
    (void)snprintf(text, sizeof(text), "%s_sectors_max", name);
    skblk_report_add_number(report, text, limits->sectors_max);
    (void)snprintf(text, sizeof(text), "%s_alignment_sectors", name);
    skblk_report_add_number(report, text, limits->alignment_sectors);
}

static void add_limits(struct skblk_report *report, const struct sk_block_info *info)
{
    skblk_report_add_number(report, "block_bytes", info->block_bytes);
    skblk_report_add_number(report, "physical_block_bytes", info->physical_block_bytes);
    if (info->optimal_io_bytes != 0) {
        skblk_report_add_number(report, "optimal_io_bytes", info->optimal_io_bytes);
    }
    skblk_report_add_number(report, "segments_max", info->segment_count_max);
    if (info->segment_bytes_max != 0) {
        skblk_report_add_number(report, "segment_bytes_max", info->segment_bytes_max);
    }
    add_range_limits(report, "discard", &info->discard);
    add_range_limits(report, "write_zeroes", &info->write_zeroes);
    add_range_limits(report, "secure_erase", &info->secure_erase);
}

static void add_connection(struct skblk_report *report, const struct skblk_disk *disk)
{
    struct sk_vhost_user_info info;

    sk_vhost_user_get_info(sk_vhost_user_disk_transport(disk->disk), &info);
    skblk_report_add_number(report, "queues_max", info.queue_count_max);
    skblk_report_add_bool(report, "resumes_after_restart", info.resumes);
    add_features(report, disk, "protocol", info.protocol_features, protocol_name);
    add_features(report, disk, "protocol_not_used",
                 info.protocol_features_offered & ~info.protocol_features, protocol_name);
}

int skblk_info(struct skblk_call *call)
{
    struct skblk_disk disk;
    struct skblk_report *report;
    const struct sk_block_info *info = &disk.info;
    int code = skblk_disk_open(call, call->words[0], 0, &disk);

    if (code != SKBLK_EXIT_OK) {
        return code;
    }
    report = skblk_report_create();
    skblk_report_add_text(report, "identity", info->identity);
    skblk_report_add_number(report, "capacity_bytes", skblk_disk_bytes(&disk));
    skblk_report_add_bool(report, "read_only", info->read_only);
    skblk_report_add_text(report, "cache",
                          info->cache == SK_BLOCK_CACHE_WRITE_BACK ? "write-back"
                                                                   : "write-through");
    add_limits(report, info);
    skblk_report_add_text(report, "transport", info->transport);
    skblk_report_add_text(report, "ring",
                          (info->features & SK_VIRTIO_FEATURE(SK_VIRTIO_F_RING_PACKED)) != 0
                              ? "packed"
                              : "split");
    skblk_report_add_number(report, "queues", info->queue_count);
    skblk_report_add_number(report, "queue_entries", info->queue_size);
    skblk_report_add_number(report, "queue_requests", info->queue_depth);
    add_features(report, &disk, "features", info->features, feature_name);
    add_features(report, &disk, "features_not_used", info->features_offered & ~info->features,
                 feature_name);
    add_connection(report, &disk);
    code = skblk_report_finish(call, report);
    return skblk_disk_close(call, &disk, code);
}
