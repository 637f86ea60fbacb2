/* SPDX-License-Identifier: MIT */
/*
 * The disk as the commands use it: the first one that works, checked ranges,
 * whole blocks.  Each failure prints one line that names the command.
 */
#ifndef KERNEL_DISK_H
#define KERNEL_DISK_H

#include <skio/block.h>
#include <skio/io_buffer.h>

/* What the commands move at a time; disks with larger blocks are refused. */
#define DISK_CHUNK_BYTES (256u << 10)

struct disk {
    struct sk_block_device *device;
    struct sk_block_queue *queue;
    struct sk_block_info info;
};

/* The disk of now.  False: there is none; said, with how to attach one. */
bool disk_open(struct disk *out_disk);

/* True if sectors [sector, sector + count) are on the disk and count is not 0; else said. */
bool disk_check(const struct disk *disk, const char *command, uint64_t sector, uint64_t count);
/* The same, for whole blocks of the disk: nothing in between can be written. */
bool disk_check_blocks(const struct disk *disk, const char *command, uint64_t sector,
                       uint64_t count);
/* True if the disk can be written; else said. */
bool disk_check_writable(const struct disk *disk, const char *command);

/* Says what went wrong with a transfer at `sector`. */
void disk_report(const char *command, const char *what, uint64_t sector, enum sk_status status);

/* Memory that the disk reaches.  False: said. */
bool disk_buffer(const struct disk *disk, const char *command, struct sk_io_buffer *out_buffer,
                 uint64_t bytes);
/* Gives it back; `in_doubt`: the disk may still write it, so it is lost on purpose. */
void disk_buffer_done(struct sk_io_buffer *buffer, bool in_doubt);

/*
 * Completes requests until *done, which `request` brings about, sleeping
 * between.  On a disk that was stopped it does not wait for a recovery.
 */
void disk_await(struct disk *disk, struct sk_block_request *request, const bool *done);

/* Lets the disk tell what has changed, if anything. */
void disk_look(void);

/* Reads the first sector and says when it was there.  False: no disk, or an empty one; or it failed (said). */
bool disk_first_sector(uint64_t *out_ns);

#endif
