/* SPDX-License-Identifier: MIT */
/* Commands that change the disk. */
#include "commands.h"
#include "console.h"
#include "disk.h"
#include "lib/string.h"
#include "lib/text.h"
#include "memory.h"

#define CHUNK_SECTORS (DISK_CHUNK_BYTES / SK_BLOCK_SECTOR_BYTES)

/* The words, with a blank between; false: they do not fit. */
static bool join(const struct shell_call *call, char *out, size_t bytes)
{
    size_t at = 0;

    for (size_t i = 1; i < call->count; i++) {
        size_t length = text_length(call->words[i]);
        size_t blank = i > 1;

        if (length + blank > bytes - at) {
            return false;
        }
        memset(out + at, ' ', blank);
        at += blank;
        memcpy(out + at, call->words[i], length);
        at += length;
    }
    return true;
}

/* Memory for transfers, zeroed, if the disk can be written there; NULL: said why not. */
static void *start(struct disk *disk, const char *command, uint64_t sector, uint64_t count)
{
    void *memory = NULL;

    if (disk_check_writable(disk, command) && disk_check_blocks(disk, command, sector, count)) {
        memory = aligned_alloc(SK_IO_BUFFER_ALIGNMENT, DISK_CHUNK_BYTES);
    }
    if (memory != NULL) {
        memset(memory, 0, DISK_CHUNK_BYTES);
    }
    return memory;
}

static enum shell_result finish(struct disk *disk, void *memory, bool good)
{
    /* What a device that did not stop may still write is lost on purpose. */
    if (sk_block_get_state(disk->device) != SK_BLOCK_STATE_IN_DOUBT) {
        aligned_free(memory);
    }
    return good ? SHELL_OK : SHELL_FAILED;
}

static bool transfer(struct disk *disk, const char *command, bool write, uint64_t sector,
                     void *memory, uint64_t bytes)
{
    enum sk_status status = write ? sk_block_write(disk->queue, sector, memory, bytes, 0)
                                  : sk_block_read(disk->queue, sector, memory, bytes, 0);

    if (status != SK_OK) {
        disk_report(command, write ? "write" : "read", sector, status);
    }
    return status == SK_OK;
}

enum shell_result command_write(const struct shell_call *call)
{
    struct disk disk;
    uint64_t sector;
    char *block;
    bool good;

    if (call->count < 2 || !command_number(call, "write", 0, &sector)) {
        return SHELL_USAGE;
    }
    if (!disk_open(&disk)) {
        return SHELL_FAILED;
    }
    block = start(&disk, "write", sector, disk.info.block_bytes / SK_BLOCK_SECTOR_BYTES);
    if (block == NULL) {
        return SHELL_FAILED;
    }
    good = join(call, block, disk.info.block_bytes);
    if (!good) {
        console_print("write: the text is longer than a block of %u bytes\n",
                      disk.info.block_bytes);
    } else {
        good = transfer(&disk, "write", true, sector, block, disk.info.block_bytes);
    }
    if (good) {
        console_print("write: %u bytes at sector %lu\n", disk.info.block_bytes, sector);
    }
    return finish(&disk, block, good);
}

/* How many bytes the next transfer has, of `sectors` that are left. */
static uint64_t chunk_of(uint64_t sectors)
{
    return sectors < CHUNK_SECTORS ? sectors * SK_BLOCK_SECTOR_BYTES : DISK_CHUNK_BYTES;
}

enum shell_result command_fill(const struct shell_call *call)
{
    struct disk disk;
    uint64_t sector;
    uint64_t count;
    uint64_t byte;
    void *memory;
    bool good = true;

    if (call->count != 3 || !command_number(call, "fill", 0, &sector) ||
        !command_number(call, "fill", 1, &count) || !command_number(call, "fill", 2, &byte) ||
        byte > 255) {
        return SHELL_USAGE;
    }
    memory = disk_open(&disk) ? start(&disk, "fill", sector, count) : NULL;
    if (memory == NULL) {
        return SHELL_FAILED;
    }
    memset(memory, (int)byte, DISK_CHUNK_BYTES);
    for (uint64_t done = 0; done < count && good; done += CHUNK_SECTORS) {
        good = transfer(&disk, "fill", true, sector + done, memory, chunk_of(count - done));
    }
    if (good) {
        console_print("fill: %lu sectors from sector %lu on with 0x%02lx\n", count, sector, byte);
    }
    return finish(&disk, memory, good);
}

/* -- verify -- */

/*
 * A sector's pattern: its number and the seed, and then a stream that both
 * determine (xorshift64*), so that a sector in a wrong place is noticed.
 */
static void make_pattern(uint64_t *words, uint64_t sector, uint64_t seed)
{
    uint64_t state = (sector + 1) * UINT64_C(0x9e3779b97f4a7c15) ^ seed;

    words[0] = sector;
    words[1] = seed;
    for (unsigned i = 2; i < SK_BLOCK_SECTOR_BYTES / 8; i++) {
        state = state == 0 ? 1 : state;
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        words[i] = state * UINT64_C(0x2545f4914f6cdd1d);
    }
}

static void make_patterns(uint8_t *memory, uint64_t sector, uint64_t bytes, uint64_t seed)
{
    for (uint64_t at = 0; at < bytes; at += SK_BLOCK_SECTOR_BYTES) {
        make_pattern((uint64_t *)(void *)(memory + at), sector + at / SK_BLOCK_SECTOR_BYTES, seed);
    }
}

/* Compares with the pattern; false: not equal, and said where first. */
static bool compare(const uint8_t *memory, uint64_t sector, uint64_t bytes, uint64_t seed)
{
    uint64_t words[SK_BLOCK_SECTOR_BYTES / 8];
    const uint8_t *wanted = (const uint8_t *)words;

    for (uint64_t at = 0; at < bytes; at++) {
        uint64_t inside = at % SK_BLOCK_SECTOR_BYTES;

        if (inside == 0) {
            make_pattern(words, sector + at / SK_BLOCK_SECTOR_BYTES, seed);
            if (memcmp(words, memory + at, SK_BLOCK_SECTOR_BYTES) == 0) {
                at += SK_BLOCK_SECTOR_BYTES - 1;
                continue;
            }
        }
        if (wanted[inside] != memory[at]) {
            console_print("verify: sector %lu differs at byte %lu: wrote 0x%02x, read 0x%02x\n",
                          sector + at / SK_BLOCK_SECTOR_BYTES, inside, wanted[inside], memory[at]);
            return false;
        }
    }
    return true;
}

struct verification {
    struct disk disk;
    uint64_t sector;
    uint64_t count;
    uint64_t seed;
    uint8_t *memory;
};

/* One way through all sectors: writes the patterns, or reads and compares them. */
static bool pass(struct verification *job, bool write)
{
    for (uint64_t done = 0; done < job->count;) {
        uint64_t bytes = chunk_of(job->count - done);
        uint64_t sector = job->sector + done;

        memset(job->memory, 0xee, bytes);
        if (write) {
            make_patterns(job->memory, sector, bytes, job->seed);
        }
        if (!transfer(&job->disk, "verify", write, sector, job->memory, bytes) ||
            (!write && !compare(job->memory, sector, bytes, job->seed))) {
            return false;
        }
        done += bytes / SK_BLOCK_SECTOR_BYTES;
    }
    return true;
}

static bool verify(struct verification *job)
{
    enum sk_status status;

    if (!pass(job, true)) {
        return false;
    }
    status = sk_block_flush(job->disk.queue, 0);
    if (status != SK_OK) {
        disk_report("verify", "flush", job->sector, status);
        return false;
    }
    return pass(job, false);
}

enum shell_result command_verify(const struct shell_call *call)
{
    struct verification job = { .seed = 1 };
    bool good;

    if (call->count < 2 || call->count > 3 || !command_number(call, "verify", 0, &job.sector) ||
        !command_number(call, "verify", 1, &job.count) ||
        (call->count == 3 && !command_number(call, "verify", 2, &job.seed))) {
        return SHELL_USAGE;
    }
    if (!disk_open(&job.disk)) {
        return SHELL_FAILED;
    }
    job.memory = start(&job.disk, "verify", job.sector, job.count);
    if (job.memory == NULL) {
        return SHELL_FAILED;
    }
    good = verify(&job);
    if (good) {
        console_print("verify: %lu sectors from sector %lu on read back as written, seed %lu\n",
                      job.count, job.sector, job.seed);
    }
    return finish(&job.disk, job.memory, good);
}
