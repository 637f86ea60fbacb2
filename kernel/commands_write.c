/* SPDX-License-Identifier: MIT */
/* Commands that change the disk. */
#include "commands.h"
#include "console.h"
#include "disk.h"
#include "lib/string.h"
#include "lib/text.h"
#include "memory.h"

#define CHUNK_BYTES (256u << 10)

/* The words, with a blank between; false: they do not fit. */
static bool join(const struct shell_call *call, char *out, size_t bytes)
{
    size_t at = 0;

    for (size_t i = 1; i < call->count; i++) {
        size_t length = text_length(call->words[i]);

        if (length + 1 > bytes - at) {
            return false;
        }
        if (i > 1) {
            out[at++] = ' ';
        }
        memcpy(out + at, call->words[i], length);
        at += length;
    }
    return true;
}

static enum shell_result finish(struct disk *disk, const char *command, uint64_t sector,
                                void *memory, enum sk_status status)
{
    if (status != SK_OK) {
        disk_report(command, "write", sector, status);
    }
    if (sk_block_get_state(disk->device) != SK_BLOCK_STATE_IN_DOUBT) {
        aligned_free(memory);
    }
    return status == SK_OK ? SHELL_OK : SHELL_FAILED;
}

enum shell_result command_write(const struct shell_call *call)
{
    struct disk disk;
    uint64_t sector;
    uint64_t sectors;
    char *block;
    enum sk_status status;

    if (call->count < 2 || !command_number(call, "write", 0, &sector)) {
        return SHELL_USAGE;
    }
    if (!disk_open(&disk) || !disk_check_writable(&disk, "write")) {
        return SHELL_FAILED;
    }
    sectors = disk.info.block_bytes / SK_BLOCK_SECTOR_BYTES;
    if (!disk_check_blocks(&disk, "write", sector, sectors)) {
        return SHELL_FAILED;
    }
    block = aligned_alloc(SK_IO_BUFFER_ALIGNMENT, disk.info.block_bytes);
    if (block == NULL) {
        return SHELL_FAILED;
    }
    memset(block, 0, disk.info.block_bytes);
    if (!join(call, block, disk.info.block_bytes)) {
        console_print("write: the text is longer than a block of %u bytes\n",
                      (unsigned)disk.info.block_bytes);
        aligned_free(block);
        return SHELL_FAILED;
    }
    status = sk_block_write(disk.queue, sector, block, disk.info.block_bytes, 0);
    if (status == SK_OK) {
        console_print("write: %u bytes at sector %llu\n", (unsigned)disk.info.block_bytes,
                      (unsigned long long)sector);
    }
    return finish(&disk, "write", sector, block, status);
}

/* How many bytes the next transfer has, of `sectors` that are left. */
static uint64_t chunk_of(uint64_t sectors)
{
    return sectors < CHUNK_BYTES / SK_BLOCK_SECTOR_BYTES ? sectors * SK_BLOCK_SECTOR_BYTES
                                                         : CHUNK_BYTES;
}

enum shell_result command_fill(const struct shell_call *call)
{
    struct disk disk;
    uint64_t sector;
    uint64_t count;
    uint64_t byte;
    uint64_t done = 0;
    void *memory;
    enum sk_status status = SK_OK;

    if (call->count != 3 || !command_number(call, "fill", 0, &sector) ||
        !command_number(call, "fill", 1, &count) || !command_number(call, "fill", 2, &byte) ||
        byte > 255) {
        return SHELL_USAGE;
    }
    if (!disk_open(&disk) || !disk_check_writable(&disk, "fill") ||
        !disk_check_blocks(&disk, "fill", sector, count)) {
        return SHELL_FAILED;
    }
    memory = aligned_alloc(SK_IO_BUFFER_ALIGNMENT, CHUNK_BYTES);
    if (memory == NULL) {
        return SHELL_FAILED;
    }
    memset(memory, (int)byte, CHUNK_BYTES);
    while (done < count && status == SK_OK) {
        uint64_t bytes = chunk_of(count - done);

        status = sk_block_write(disk.queue, sector + done, memory, bytes, 0);
        done += status == SK_OK ? bytes / SK_BLOCK_SECTOR_BYTES : 0;
    }
    if (status == SK_OK) {
        console_print("fill: %llu sectors from sector %llu on with 0x%02x\n",
                      (unsigned long long)count, (unsigned long long)sector, (unsigned)byte);
    }
    return finish(&disk, "fill", sector + done, memory, status);
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
            console_print("verify: sector %llu differs at byte %llu: wrote 0x%02x, read 0x%02x\n",
                          (unsigned long long)(sector + at / SK_BLOCK_SECTOR_BYTES),
                          (unsigned long long)inside, wanted[inside], memory[at]);
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

static bool write_patterns(struct verification *job)
{
    for (uint64_t done = 0; done < job->count;) {
        uint64_t bytes = chunk_of(job->count - done);
        enum sk_status status;

        make_patterns(job->memory, job->sector + done, bytes, job->seed);
        status = sk_block_write(job->disk.queue, job->sector + done, job->memory, bytes, 0);
        if (status != SK_OK) {
            disk_report("verify", "write", job->sector + done, status);
            return false;
        }
        done += bytes / SK_BLOCK_SECTOR_BYTES;
    }
    return true;
}

static bool read_patterns(struct verification *job)
{
    for (uint64_t done = 0; done < job->count;) {
        uint64_t bytes = chunk_of(job->count - done);
        enum sk_status status;

        memset(job->memory, 0xee, bytes);
        status = sk_block_read(job->disk.queue, job->sector + done, job->memory, bytes, 0);
        if (status != SK_OK) {
            disk_report("verify", "read", job->sector + done, status);
            return false;
        }
        if (!compare(job->memory, job->sector + done, bytes, job->seed)) {
            return false;
        }
        done += bytes / SK_BLOCK_SECTOR_BYTES;
    }
    return true;
}

static bool verify(struct verification *job)
{
    enum sk_status status;

    if (!write_patterns(job)) {
        return false;
    }
    status = sk_block_flush(job->disk.queue, 0);
    if (status != SK_OK) {
        disk_report("verify", "flush", job->sector, status);
        return false;
    }
    return read_patterns(job);
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
    if (!disk_open(&job.disk) || !disk_check_writable(&job.disk, "verify") ||
        !disk_check_blocks(&job.disk, "verify", job.sector, job.count)) {
        return SHELL_FAILED;
    }
    job.memory = aligned_alloc(SK_IO_BUFFER_ALIGNMENT, CHUNK_BYTES);
    if (job.memory == NULL) {
        return SHELL_FAILED;
    }
    good = verify(&job);
    if (good) {
        console_print("verify: %llu sectors from sector %llu on read back as written, seed %llu\n",
                      (unsigned long long)job.count, (unsigned long long)job.sector,
                      (unsigned long long)job.seed);
    }
    if (sk_block_get_state(job.disk.device) != SK_BLOCK_STATE_IN_DOUBT) {
        aligned_free(job.memory);
    }
    return good ? SHELL_OK : SHELL_FAILED;
}
