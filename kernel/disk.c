/* SPDX-License-Identifier: MIT */
#include <skio/checked.h>

#include "arch/arch.h"
#include "console.h"
#include "devices.h"
#include "disk.h"
#include "memory.h"

#define NAP_NS UINT64_C(100000000)

static void print_no_disk(void)
{
    const struct sk_device_node *failed = devices_failed_disk();

    if (failed != NULL) {
        console_print("no disk: the one at 0x%lx (%s) was refused: %s\n",
                      sk_device_node_address(failed), failed->name,
                      sk_status_text(failed->probe_status));
        return;
    }
    console_print("no disk: attach one with these options of QEMU:\n"
                  "  -drive file=IMAGE,if=none,id=d,format=raw -device virtio-blk-device,drive=d\n"
                  "  -global virtio-mmio.force-legacy=false\n");
}

bool disk_open(struct disk *out_disk)
{
    enum sk_status looked;

    out_disk->device = devices_disk();
    if (out_disk->device == NULL) {
        print_no_disk();
        return false;
    }
    out_disk->queue = sk_block_get_queue(out_disk->device, 0);
    looked = sk_block_poll(out_disk->queue, 0, NULL); /* it may have another size by now */
    (void)looked;                                     /* whoever uses the disk is told the same */
    sk_block_get_info(out_disk->device, &out_disk->info);
    if (out_disk->info.block_bytes > DISK_CHUNK_BYTES) {
        console_print("the disk's blocks of %u bytes are too large, at most %u can be used\n",
                      out_disk->info.block_bytes, DISK_CHUNK_BYTES);
        return false;
    }
    return out_disk->queue != NULL;
}

bool disk_check(const struct disk *disk, const char *command, uint64_t sector, uint64_t count)
{
    uint64_t capacity = disk->info.capacity_sectors;

    if (count == 0) {
        console_print("%s: the count is 0\n", command);
        return false;
    }
    if (!sk_checked_range(sector, count, capacity)) {
        console_print("%s: %lu sectors from sector %lu on reach past the end: the disk has %lu\n",
                      command, count, sector, capacity);
        return false;
    }
    return true;
}

bool disk_check_blocks(const struct disk *disk, const char *command, uint64_t sector,
                       uint64_t count)
{
    uint32_t sectors = disk->info.block_bytes / SK_BLOCK_SECTOR_BYTES;

    if (!disk_check(disk, command, sector, count)) {
        return false;
    }
    if (sector % sectors != 0 || count % sectors != 0) {
        console_print("%s: this disk has blocks of %u bytes: "
                      "sector and count must be multiples of %u\n",
                      command, (unsigned)disk->info.block_bytes, (unsigned)sectors);
        return false;
    }
    return true;
}

bool disk_check_writable(const struct disk *disk, const char *command)
{
    if (disk->info.read_only) {
        console_print("%s: the disk is read-only\n", command);
    }
    return !disk->info.read_only;
}

void disk_report(const char *command, const char *what, uint64_t sector, enum sk_status status)
{
    console_print("%s: %s at sector %lu failed: %s\n", command, what, sector,
                  sk_status_text(status));
}

bool disk_buffer(const struct disk *disk, const char *command, struct sk_io_buffer *out_buffer,
                 uint64_t bytes)
{
    enum sk_status status =
        sk_io_buffer_create(out_buffer, disk->device->domain, bytes, SK_IO_BUFFER_ALIGNMENT);

    if (status != SK_OK) {
        console_print("%s: no buffer of %lu bytes: %s\n", command, bytes, sk_status_text(status));
        return false;
    }
    sk_io_buffer_set_owner(out_buffer, command);
    return true;
}

void disk_buffer_done(struct sk_io_buffer *buffer, bool in_doubt)
{
    enum sk_status status =
        in_doubt ? sk_io_buffer_quarantine(buffer) : sk_io_buffer_destroy(buffer);

    (void)status; /* logged where it happened */
}

void disk_await(struct disk *disk, struct sk_block_request *request, const bool *done)
{
    for (;;) {
        uint32_t completed = 0;
        enum sk_status status = sk_block_poll(disk->queue, 0, &completed);

        if (*done) {
            return;
        }
        if (status != SK_OK) {
            status = sk_block_cancel(disk->queue, request);
        } else if (completed == 0) {
            status = sk_block_wait(disk->queue, arch_now_ns() + NAP_NS);
        }
    }
}

void disk_look(void)
{
    struct sk_block_device *device = devices_disk();
    enum sk_status status =
        device == NULL ? SK_OK : sk_block_poll(sk_block_get_queue(device, 0), 0, NULL);

    (void)status; /* nothing is under way; a disk that is stopped says so to the next command */
}

bool disk_first_sector(uint64_t *out_ns)
{
    struct disk disk;
    void *block;
    enum sk_status status;

    if (!disk_open(&disk) ||
        disk.info.capacity_sectors * SK_BLOCK_SECTOR_BYTES < disk.info.block_bytes) {
        return false;
    }
    block = aligned_alloc(SK_IO_BUFFER_ALIGNMENT, disk.info.block_bytes);
    if (block == NULL) {
        return false;
    }
    status = sk_block_read(disk.queue, 0, block, disk.info.block_bytes, 0);
    *out_ns = arch_now_ns();
    if (status != SK_OK) {
        disk_report("start", "read", 0, status);
    }
    if (status != SK_ERR_IN_DOUBT) {
        aligned_free(block);
    }
    return status == SK_OK;
}
