/* SPDX-License-Identifier: MIT */
/* skblk watch: how a disk is doing, a line at a time. */
#include "skblk.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* What one look found. */
struct look {
    const char *state;
    uint64_t capacity_bytes;
    uint64_t read_ns; /* of one block from the disk's beginning */
    enum sk_status status;
    uint32_t reconnects;
    bool connected;
};

static void look_at(const struct skblk_disk *disk, void *block, struct look *out_look)
{
    struct sk_vhost_user_info connection;
    struct sk_block_info info;
    uint64_t start_ns = skblk_now_ns();

    out_look->status = sk_block_read(sk_block_get_queue(disk->device, 0), 0, block,
                                     disk->info.block_bytes, 0);
    out_look->read_ns = skblk_now_ns() - start_ns;
    out_look->state = sk_block_state_name(sk_block_get_state(disk->device));
    sk_block_get_info(disk->device, &info);
    out_look->capacity_bytes = info.capacity_sectors * SK_BLOCK_SECTOR_BYTES;
    sk_vhost_user_get_info(sk_vhost_user_disk_transport(disk->disk), &connection);
    out_look->reconnects = connection.reconnects;
    out_look->connected = connection.connected;
}

static void print_look(const struct skblk_call *call, const struct look *look)
{
    char clock[16] = "";
    char size[SKBLK_SIZE_TEXT];
    time_t now = time(NULL);
    struct tm local;

    if (localtime_r(&now, &local) != NULL) {
        (void)strftime(clock, sizeof(clock), "%H:%M:%S", &local);
    }
    if (call->settings.json) {
        (void)printf("{\"time\": %lld, \"state\": \"%s\", \"connected\": %s, "
                     "\"capacity_bytes\": %" PRIu64 ", \"read_us\": %.1f, \"status\": \"%s\", "
                     "\"reconnects\": %u}\n",
                     (long long)now, look->state, look->connected ? "true" : "false",
                     look->capacity_bytes, (double)look->read_ns / 1e3,
                     sk_status_name(look->status), look->reconnects);
    } else {
        (void)printf("%-8s  %-10s %-10s %12.1f  %-12s %10u\n", clock, look->state,
                     skblk_size_text(look->capacity_bytes, size), (double)look->read_ns / 1e3,
                     sk_status_name(look->status), look->reconnects);
    }
    (void)fflush(stdout);
}

/* A disk that was stopped is tried again at each look. */
static int watch(const struct skblk_call *call, const struct skblk_disk *disk, void *block)
{
    struct timespec interval = {
        .tv_sec = (time_t)(call->settings.interval_ns / 1000000000u),
        .tv_nsec = (long)(call->settings.interval_ns % 1000000000u),
    };
    struct look look = { .status = SK_OK };

    if (!call->settings.json) {
        (void)printf("%-8s  %-10s %-10s %12s  %-12s %10s\n", "time", "state", "capacity",
                     "read us", "status", "reconnects");
    }
    for (uint64_t i = 0; !skblk_is_interrupted(); i++) {
        if (i > 0) {
            if (i == call->settings.count) {
                break;
            }
            (void)nanosleep(&interval, NULL);
        }
        if (look.status != SK_OK && sk_block_recover(disk->device, 0) != SK_OK) {
            look.state = sk_block_state_name(sk_block_get_state(disk->device));
        } else {
            look_at(disk, block, &look);
        }
        print_look(call, &look);
    }
    return look.status == SK_OK ? SKBLK_EXIT_OK : skblk_exit_of(look.status);
}

int skblk_watch(struct skblk_call *call)
{
    struct skblk_disk disk;
    void *block;
    int code = skblk_disk_open(call, call->words[0], 0, &disk);

    if (code != SKBLK_EXIT_OK) {
        return code;
    }
    block = malloc(disk.info.block_bytes);
    if (block == NULL) {
        skblk_error(call, "no memory for a block");
        code = SKBLK_EXIT_FILE;
    } else {
        code = watch(call, &disk, block);
    }
    free(block);
    return skblk_disk_close(call, &disk, code);
}
