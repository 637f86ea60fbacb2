/* SPDX-License-Identifier: MIT */
#include "skblk.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static uint64_t features_of(const struct skblk_settings *settings)
{
    uint64_t features = SK_VIRTIO_BLK_FEATURES_DEFAULT;

    features &= ~(settings->no_packed ? SK_VIRTIO_FEATURE(SK_VIRTIO_F_RING_PACKED) : 0);
    features &= ~(settings->no_indirect ? SK_VIRTIO_FEATURE(SK_VIRTIO_F_INDIRECT_DESC) : 0);
    features &= ~(settings->no_event_index ? SK_VIRTIO_FEATURE(SK_VIRTIO_F_EVENT_IDX) : 0);
    features &= ~(settings->no_in_order ? SK_VIRTIO_FEATURE(SK_VIRTIO_F_IN_ORDER) : 0);
    return features;
}

/* Lines of the driver; while a disk is opened, the error says it all, and in better words. */
static void write_log(void *context, enum sk_log_level level, const char *line)
{
    const struct skblk_disk *disk = context;

    if (disk->disk != NULL || level > SK_LOG_ERROR) {
        (void)fprintf(stderr, "skblk: %s: %s\n", sk_log_level_name(level), line);
    }
}

static int open_disk(const struct skblk_call *call, const char *address, uint64_t memory_bytes,
                     const struct skblk_disk *other, struct skblk_disk *out_disk)
{
    const struct skblk_settings *settings = &call->settings;
    struct sk_vhost_user_disk_options options = SK_VHOST_USER_DISK_OPTIONS_DEFAULT;
    char error[SK_VHOST_USER_ERROR_BYTES] = "";
    enum sk_status status;

    options.driver.queue_count = (uint32_t)settings->queues;
    options.driver.queue_size = (uint32_t)settings->queue_size;
    options.driver.features = features_of(settings);
    options.driver.timeout_ns = settings->timeout_ns;
    options.driver.recovery =
        settings->resubmit ? SK_VIRTIO_BLK_RECOVERY_RESUBMIT : SK_VIRTIO_BLK_RECOVERY_FAIL;
    options.vhost_user.reconnect_ns = settings->reconnect_ns;
    options.process.write_log = write_log;
    options.process.log_context = out_disk; /* the command's, from here to close */
    options.process.log_level = settings->verbose ? SK_LOG_DEBUG : SK_LOG_ERROR;
    options.memory_bytes += memory_bytes;
    options.shares = other != NULL ? other->disk : NULL;
    options.pages = settings->huge_pages ? SK_PROCESS_PAGES_HUGE : SK_PROCESS_PAGES_ANY;
    *out_disk = (struct skblk_disk){ .address = address };
    status = sk_vhost_user_disk_open(address, &options, &out_disk->disk, error);
    if (status != SK_OK) {
        if (error[0] == '\0') {
            (void)snprintf(error, sizeof(error), "%s: %s", address, sk_status_text(status));
        }
        skblk_error(call, "%s", error);
        if (status == SK_ERR_INVALID) { /* the address: it is no socket */
            return SKBLK_EXIT_CONNECT;
        }
        return status == SK_ERR_RANGE ? SKBLK_EXIT_BACKEND : skblk_exit_of(status);
    }
    out_disk->device = sk_vhost_user_disk_device(out_disk->disk);
    sk_block_get_info(out_disk->device, &out_disk->info);
    return SKBLK_EXIT_OK;
}

int skblk_disk_open(const struct skblk_call *call, const char *address, uint64_t memory_bytes,
                    struct skblk_disk *out_disk)
{
    return open_disk(call, address, memory_bytes, NULL, out_disk);
}

int skblk_disk_open_beside(const struct skblk_call *call, const char *address,
                           const struct skblk_disk *other, struct skblk_disk *out_disk)
{
    return open_disk(call, address, 0, other, out_disk);
}

int skblk_disk_close(const struct skblk_call *call, struct skblk_disk *disk, int code)
{
    enum sk_status status = sk_vhost_user_disk_close(disk->disk);

    if (status != SK_OK && code == SKBLK_EXIT_OK) {
        skblk_error(call, "%s: closing: %s", disk->address, sk_status_text(status));
        return skblk_exit_of(status);
    }
    return code;
}

bool skblk_disk_revive(const struct skblk_call *call, const struct skblk_disk *disk,
                       enum sk_status polled, int *out_code)
{
    enum sk_status status;

    if (polled != SK_ERR_BROKEN || !call->settings.resubmit) {
        return true; /* requests have their own statuses */
    }
    status = sk_block_recover(disk->device, 0); /* waits for a back end that is gone */
    if (status == SK_OK || status == SK_ERR_BUSY) {
        return true;
    }
    skblk_error(call, "%s cannot be brought back: %s%s", disk->address, sk_status_text(status),
                skblk_advice(SK_ERR_GONE));
    *out_code = SKBLK_EXIT_TIMEOUT;
    return false;
}

void skblk_disk_cancel(const struct skblk_disk *disk, struct sk_block_request *request)
{
    enum sk_status status = sk_block_cancel(sk_block_get_queue(disk->device, 0), request);

    (void)status; /* one that is done already is as well */
}

uint64_t skblk_disk_bytes(const struct skblk_disk *disk)
{
    return disk->info.capacity_sectors * SK_BLOCK_SECTOR_BYTES;
}

int skblk_disk_range(const struct skblk_call *call, const struct skblk_disk *disk,
                     uint64_t *out_offset, uint64_t *out_length)
{
    uint64_t capacity = skblk_disk_bytes(disk);
    uint64_t offset = call->settings.offset;
    uint64_t length = call->settings.length;

    if (offset % disk->info.block_bytes != 0 || length % disk->info.block_bytes != 0) {
        skblk_error(call, "--offset and --length must be multiples of the disk's block, %u bytes",
                    disk->info.block_bytes);
        return SKBLK_EXIT_USAGE;
    }
    if (offset > capacity || length > capacity - offset) {
        skblk_error(call, "the range ends at byte %" PRIu64 ", but the disk has %" PRIu64,
                    offset + length, capacity);
        return SKBLK_EXIT_USAGE;
    }
    *out_offset = offset;
    *out_length = length != 0 ? length : capacity - offset;
    *out_length -= *out_length % disk->info.block_bytes;
    return SKBLK_EXIT_OK;
}

int skblk_disk_check_writable(const struct skblk_call *call, const struct skblk_disk *disk)
{
    if (disk->info.read_only) {
        skblk_error(call, "%s is read-only%s", disk->address, skblk_advice(SK_ERR_READ_ONLY));
        return SKBLK_EXIT_DISK;
    }
    return SKBLK_EXIT_OK;
}

int skblk_disk_failed(const struct skblk_call *call, const char *what, uint64_t offset,
                      enum sk_status status)
{
    int code = skblk_exit_of(status);

    skblk_error(call, "%s at byte %" PRIu64 " failed: %s%s", what, offset, sk_status_text(status),
                skblk_advice(status));
    /* A request that is not offered is the disk's refusal, not a useless back end. */
    return code == SKBLK_EXIT_BACKEND && status == SK_ERR_UNSUPPORTED ? SKBLK_EXIT_DISK : code;
}
