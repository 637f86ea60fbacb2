/* SPDX-License-Identifier: MIT */
#include <skio/checked.h>
#include <skio/text.h>
#include <skio/virtio_transport.h>

#include "arch/arch.h"
#include "commands.h"
#include "console.h"
#include "disk.h"
#include "lib/partitions.h"
#include "lib/string.h"
#include "lib/text.h"
#include "memory.h"

#define RECOVER_NS   UINT64_C(5000000000)
#define DUMP_BYTES   16u
#define LINE_COLUMNS 110u
#define LIST_COLUMN  14u

static bool has_feature(const struct sk_block_info *info, unsigned bit)
{
    return info->features >> bit & 1;
}

/* A list of words behind a title, in as many lines as it takes. */
struct list {
    const char *title;
    size_t column; /* 0: nothing was printed yet */
};

static void print_word(struct list *list, const char *word)
{
    size_t length = text_length(word) + 1;

    if (list->column == 0) {
        console_print("  %-12s", list->title);
        list->column = LIST_COLUMN;
    } else if (list->column + length > LINE_COLUMNS) {
        console_print("\n  %-12s", "");
        list->column = LIST_COLUMN;
    }
    console_print(" %s", word);
    list->column += length;
}

static void print_features(const struct disk *disk, const char *title, uint64_t features)
{
    struct list list = { title, 0 };
    char number[16];

    for (unsigned bit = 0; bit < 64; bit++) {
        const char *name = sk_block_feature_name(disk->device, bit);

        if (!(features >> bit & 1)) {
            continue;
        }
        (void)sk_text_format(number, sizeof(number), "bit%u", bit);
        print_word(&list, name != NULL ? name : number);
    }
    if (features == 0) {
        print_word(&list, "none");
    }
    console_print("\n");
}

static void print_limits(const struct sk_block_info *info)
{
    char segment[32] = "of any size";

    if (info->segment_bytes_max != 0) {
        (void)sk_text_format(segment, sizeof(segment), "of at most %lu bytes",
                             info->segment_bytes_max);
    }
    console_print("  %-12s blocks of %u bytes, %u physical", "limits", (unsigned)info->block_bytes,
                  (unsigned)info->physical_block_bytes);
    if (info->optimal_io_bytes != 0) {
        console_print(", best in %u", (unsigned)info->optimal_io_bytes);
    }
    console_print("; %u segments %s a request\n", (unsigned)info->segment_count_max, segment);
}

/* What was chosen of what the device offers, as people say it. */
static void print_rings(const struct sk_block_info *info)
{
    static const struct {
        unsigned bit;
        const char *name;
    } choices[] = {
        { SK_VIRTIO_F_INDIRECT_DESC, "indirect tables" },
        { SK_VIRTIO_F_EVENT_IDX, "event indexes" },
        { SK_VIRTIO_F_IN_ORDER, "in order" },
        { SK_VIRTIO_F_NOTIFICATION_DATA, "notification data" },
        { SK_VIRTIO_F_ORDER_PLATFORM, "device-grade fences" },
        { SK_VIRTIO_F_RING_RESET, "reset one by one" },
    };

    console_print("  %-12s %u, %s, of %u entries, %u requests deep", "queues",
                  (unsigned)info->queue_count,
                  has_feature(info, SK_VIRTIO_F_RING_PACKED) ? "packed" : "split",
                  (unsigned)info->queue_size, (unsigned)info->queue_depth);
    for (size_t i = 0; i < sizeof(choices) / sizeof(choices[0]); i++) {
        if (has_feature(info, choices[i].bit)) {
            console_print(", %s", choices[i].name);
        }
    }
    console_print("\n");
}

/* As name=value; features have lines of their own. */
static void print_properties(const struct disk *disk)
{
    struct list list = { "properties", 0 };
    struct sk_block_property property;
    char text[64];

    for (uint32_t i = 0; sk_block_get_property(disk->device, i, &property) == SK_OK; i++) {
        if (property.name[0] >= 'A' && property.name[0] <= 'Z') {
            continue;
        }
        if (property.kind == SK_BLOCK_PROPERTY_TEXT) {
            (void)sk_text_format(text, sizeof(text), "%s=%s", property.name, property.text);
        } else {
            (void)sk_text_format(text, sizeof(text), "%s=%lu", property.name, property.number);
        }
        print_word(&list, text);
    }
    console_print("\n");
}

enum shell_result command_disk(const struct shell_call *call)
{
    struct disk disk;
    const struct sk_block_info *info = &disk.info;
    char size[24];

    (void)call;
    if (!disk_open(&disk)) {
        return SHELL_FAILED;
    }
    command_size_text(info->capacity_sectors * SK_BLOCK_SECTOR_BYTES, size, sizeof(size));
    console_print("disk %s, %s over %s, %s\n", disk.device->name, info->driver, info->transport,
                  sk_block_state_name(sk_block_get_state(disk.device)));
    console_print("  %-12s %s\n", "identity", info->identity[0] == '\0' ? "none" : info->identity);
    console_print("  %-12s %lu sectors of %u bytes (%s)%s\n", "capacity", info->capacity_sectors,
                  SK_BLOCK_SECTOR_BYTES, size, info->read_only ? ", read-only" : "");
    console_print("  %-12s %s\n", "cache",
                  info->cache == SK_BLOCK_CACHE_WRITE_BACK ? "write-back, flush to be safe"
                                                           : "write-through");
    print_limits(info);
    print_rings(info);
    print_features(&disk, "negotiated", info->features);
    print_features(&disk, "not used", info->features_offered & ~info->features);
    print_properties(&disk);
    return SHELL_OK;
}

/* -- parts -- */

struct table {
    struct disk disk;
    struct partition_scan scan;
};

static enum sk_status read_block(void *context, uint64_t block, void *out_data)
{
    struct table *table = context;
    uint32_t sectors = table->disk.info.block_bytes / SK_BLOCK_SECTOR_BYTES;

    return sk_block_read(table->disk.queue, block * sectors, out_data, table->disk.info.block_bytes,
                         0);
}

static void print_partition(void *context, const struct partition *partition)
{
    struct table *table = context;
    uint32_t sectors = table->disk.info.block_bytes / SK_BLOCK_SECTOR_BYTES;
    char size[24];

    if (table->scan.report->count == 1) {
        console_print("%4s  %-24s %12s %12s  %-12s %s\n", "NO", "TYPE", "START", "SECTORS", "SIZE",
                      "NAME");
    }
    command_size_text(partition->block_count * table->disk.info.block_bytes, size, sizeof(size));
    console_print("%4u%s %-24s %12lu %12lu  %-12s %s%s\n", (unsigned)partition->number,
                  partition->active ? "*" : " ", partition->type, partition->first_block * sectors,
                  partition->block_count * sectors, size, partition->name,
                  partition->beyond ? " (reaches past the end of the disk)" : "");
}

static void print_report(const struct partition_report *report)
{
    static const char *const names[] = { "no partition table", "MBR", "GPT" };

    console_print("%s", names[report->scheme]);
    if (report->scheme != PARTITION_SCHEME_NONE) {
        console_print(", %u partitions", (unsigned)report->count);
    }
    if (report->scheme == PARTITION_SCHEME_GPT) {
        console_print(", primary %s, backup %s%s%s", report->primary_bad ? "DAMAGED" : "good",
                      report->backup_bad ? "DAMAGED" : "good",
                      report->differ ? ", they DIFFER" : "",
                      report->used_backup ? ", shown from the backup" : "");
    }
    if (report->refused != 0) {
        console_print(", %u entries make no sense", (unsigned)report->refused);
    }
    console_print("%s\n", report->chain_bad ? ", the chain of logical partitions is DAMAGED" : "");
}

enum shell_result command_parts(const struct shell_call *call)
{
    static struct table table; /* two blocks are much for the stack */
    struct partition_report report;
    enum sk_status status;

    (void)call;
    if (!disk_open(&table.disk)) {
        return SHELL_FAILED;
    }
    table.scan.read = read_block;
    table.scan.visit = print_partition;
    table.scan.context = &table;
    table.scan.block_bytes = table.disk.info.block_bytes;
    table.scan.block_count =
        table.disk.info.capacity_sectors / (table.disk.info.block_bytes / SK_BLOCK_SECTOR_BYTES);
    status = partitions_scan(&table.scan, &report);
    if (status != SK_OK) {
        console_print("parts: %s\n", status == SK_ERR_INVALID
                                         ? "blocks of more than 4096 bytes are not understood"
                                         : sk_status_text(status));
        return SHELL_FAILED;
    }
    print_report(&report);
    /* A table with flaws was shown with its flaws; one without a good copy was not. */
    return report.primary_bad && report.backup_bad ? SHELL_FAILED : SHELL_OK;
}

/* -- read -- */

static void dump_line(uint64_t address, const uint8_t *bytes)
{
    static const char digits[] = "0123456789abcdef";
    char line[80];
    size_t at = sk_text_format(line, sizeof(line), "%010lx ", address);

    for (unsigned i = 0; i < DUMP_BYTES; i++) {
        line[at++] = ' ';
        line[at++] = digits[bytes[i] >> 4];
        line[at++] = digits[bytes[i] & 15];
    }
    line[at++] = ' ';
    line[at++] = ' ';
    for (unsigned i = 0; i < DUMP_BYTES; i++) {
        line[at++] = bytes[i] >= 0x20 && bytes[i] < 0x7f ? (char)bytes[i] : '.';
    }
    line[at++] = '\n';
    console_write(line, at);
}

/* Lines that repeat the one before are shown as one star, as hexdump does. */
static void dump_block(uint64_t address, const uint8_t *block, size_t bytes)
{
    bool starred = false;

    for (size_t i = 0; i < bytes; i += DUMP_BYTES) {
        if (i > 0 && i + DUMP_BYTES < bytes &&
            memcmp(block + i, block + i - DUMP_BYTES, DUMP_BYTES) == 0) {
            if (!starred) {
                console_print("*\n");
            }
            starred = true;
            continue;
        }
        starred = false;
        dump_line(address + i, block + i);
    }
}

static bool read_sector(struct disk *disk, uint64_t sector, uint8_t *block,
                        const uint8_t **out_data)
{
    uint32_t sectors = disk->info.block_bytes / SK_BLOCK_SECTOR_BYTES;
    uint64_t first = sector - sector % sectors;
    enum sk_status status = SK_ERR_RANGE;

    /* A last, incomplete block cannot be read. */
    if (sk_checked_range(first, sectors, disk->info.capacity_sectors)) {
        status = sk_block_read(disk->queue, first, block, disk->info.block_bytes, 0);
    }
    if (status != SK_OK) {
        disk_report("read", "read", sector, status);
        return false;
    }
    *out_data = block + sector % sectors * SK_BLOCK_SECTOR_BYTES;
    return true;
}

enum shell_result command_read(const struct shell_call *call)
{
    struct disk disk;
    uint64_t sector;
    uint64_t count = 1;
    uint8_t *block;
    const uint8_t *data;
    bool good = true;

    if (call->count < 1 || call->count > 2 || !command_number(call, "read", 0, &sector) ||
        (call->count == 2 && !command_number(call, "read", 1, &count))) {
        return SHELL_USAGE;
    }
    if (!disk_open(&disk) || !disk_check(&disk, "read", sector, count)) {
        return SHELL_FAILED;
    }
    block = aligned_alloc(SK_IO_BUFFER_ALIGNMENT, disk.info.block_bytes);
    if (block == NULL) {
        return SHELL_FAILED;
    }
    for (uint64_t i = 0; i < count && good; i++) {
        good = read_sector(&disk, sector + i, block, &data);
        if (good) {
            dump_block((sector + i) * SK_BLOCK_SECTOR_BYTES, data, SK_BLOCK_SECTOR_BYTES);
        }
        if (call->interactive && console_take_break()) {
            break;
        }
    }
    if (sk_block_get_state(disk.device) != SK_BLOCK_STATE_IN_DOUBT) {
        aligned_free(block);
    }
    return good ? SHELL_OK : SHELL_FAILED;
}

/* -- flush, recover -- */

enum shell_result command_flush(const struct shell_call *call)
{
    struct disk disk;
    enum sk_status status;

    (void)call;
    if (!disk_open(&disk)) {
        return SHELL_FAILED;
    }
    status = sk_block_flush(disk.queue, 0);
    console_print("flush: %s\n", status == SK_OK ? "done" : sk_status_text(status));
    return status == SK_OK ? SHELL_OK : SHELL_FAILED;
}

enum shell_result command_recover(const struct shell_call *call)
{
    struct disk disk;
    enum sk_status status;

    (void)call;
    if (!disk_open(&disk)) {
        return SHELL_FAILED;
    }
    status = sk_block_recover(disk.device, RECOVER_NS);
    for (unsigned tries = 0; status == SK_ERR_BUSY && tries < disk.info.queue_size; tries++) {
        enum sk_status polled = sk_block_poll(disk.queue, 0, NULL);

        (void)polled;
        status = sk_block_recover(disk.device, RECOVER_NS);
    }
    console_print("recover: %s, the disk is %s\n",
                  status == SK_OK ? "done" : sk_status_text(status),
                  sk_block_state_name(sk_block_get_state(disk.device)));
    return status == SK_OK ? SHELL_OK : SHELL_FAILED;
}
