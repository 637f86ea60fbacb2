/* SPDX-License-Identifier: MIT */
/* skblk read, write, copy, hash: what stands at the two ends, and how far to go. */
#include "transfer.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/evp.h>

#define DIGEST_BYTES 32u

static bool is_dash(const char *name)
{
    return strcmp(name, "-") == 0;
}

static int file_error(const struct skblk_call *call, const char *name, const char *what)
{
    skblk_error(call, "%s: %s: %s", name, what, strerror(errno));
    return SKBLK_EXIT_FILE;
}

/* ---- Files --------------------------------------------------------------------------------- */

/* Bytes of a file or a block device; UINT64_MAX for a stream. */
static uint64_t file_bytes(const struct skblk_end *end)
{
    off_t size = end->kind == SKBLK_END_FILE ? lseek(end->fd, 0, SEEK_END) : -1;

    return size < 0 ? UINT64_MAX : (uint64_t)size;
}

/* Files and block devices can be sought in; pipes, sockets and terminals cannot. */
static enum skblk_end_kind kind_of(int fd)
{
    struct stat stat;

    return fstat(fd, &stat) == 0 && (S_ISREG(stat.st_mode) || S_ISBLK(stat.st_mode))
               ? SKBLK_END_FILE
               : SKBLK_END_STREAM;
}

static int open_source(const struct skblk_call *call, const char *name, struct skblk_end *out_end)
{
    struct stat stat;

    out_end->name = is_dash(name) ? "stdin" : name;
    out_end->fd = is_dash(name) ? STDIN_FILENO : open(name, O_RDONLY | O_CLOEXEC);
    if (out_end->fd < 0 || fstat(out_end->fd, &stat) != 0) {
        return file_error(call, name, "cannot be opened");
    }
    if (S_ISDIR(stat.st_mode)) {
        errno = EISDIR;
        return file_error(call, name, "cannot be read");
    }
    out_end->kind = kind_of(out_end->fd);
    out_end->offset = call->settings.offset;
    if (out_end->kind == SKBLK_END_STREAM && (call->settings.offset | call->settings.start) != 0) {
        skblk_error(call, "%s cannot be sought in: --offset and --start need a file",
                    out_end->name);
        return SKBLK_EXIT_USAGE;
    }
    return SKBLK_EXIT_OK;
}

static int check_stdout(const struct skblk_call *call)
{
    if (isatty(STDOUT_FILENO) != 0) {
        skblk_error(call, "this would print the disk on the terminal; name a file, or use a pipe");
        return SKBLK_EXIT_USAGE;
    }
    return SKBLK_EXIT_OK;
}

/* A regular file becomes as long as the range ends, with nothing in it unless it is gone on with. */
static int shape_target(const struct skblk_call *call, struct skblk_end *end, uint64_t length)
{
    struct stat stat;
    bool keep = (call->settings.start | call->settings.target_offset) != 0;

    if (fstat(end->fd, &stat) != 0) {
        return file_error(call, end->name, "cannot be looked at");
    }
    if (S_ISREG(stat.st_mode)) {
        uint64_t wanted = end->offset + length;
        bool longer = (uint64_t)stat.st_size < wanted;

        if ((!keep && ftruncate(end->fd, 0) != 0) ||
            ((!keep || longer) && ftruncate(end->fd, (off_t)wanted) != 0)) {
            return file_error(call, end->name, "cannot be made as long as needed");
        }
        end->is_fresh = !keep;
    } else if (end->kind == SKBLK_END_FILE && file_bytes(end) < end->offset + length) {
        skblk_error(call, "%s has %" PRIu64 " bytes, %" PRIu64 " are needed; use --length", end->name,
                    file_bytes(end), end->offset + length);
        return SKBLK_EXIT_USAGE;
    }
    return SKBLK_EXIT_OK;
}

static int open_target(const struct skblk_call *call, const char *name, struct skblk_end *out_end)
{
    out_end->name = is_dash(name) ? "stdout" : name;
    if (is_dash(name) && check_stdout(call) != SKBLK_EXIT_OK) {
        return SKBLK_EXIT_USAGE;
    }
    out_end->fd = is_dash(name) ? STDOUT_FILENO
                                : open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (out_end->fd < 0) {
        return file_error(call, name, "cannot be opened");
    }
    out_end->kind = is_dash(name) ? SKBLK_END_STREAM : kind_of(out_end->fd);
    out_end->offset = call->settings.target_offset;
    if (out_end->kind == SKBLK_END_STREAM && call->settings.target_offset != 0) {
        skblk_error(call, "%s cannot be sought in: --target-offset needs a file", out_end->name);
        return SKBLK_EXIT_USAGE;
    }
    return SKBLK_EXIT_OK;
}

/* ---- Results ------------------------------------------------------------------------------- */

static void say_where_to_go_on(const struct skblk_transfer *transfer)
{
    if (transfer->target.kind == SKBLK_END_FILE || transfer->target.kind == SKBLK_END_DISK) {
        skblk_error(transfer->call,
                    "the first %" PRIu64 " bytes are done; go on with --start %" PRIu64,
                    transfer->done, transfer->done);
    }
}

static int report(const struct skblk_transfer *transfer, uint64_t bytes, uint64_t ns)
{
    const struct skblk_call *call = transfer->call;
    double seconds = (double)ns / 1e9 + 1e-9;
    char size[SKBLK_SIZE_TEXT];
    char rate[SKBLK_SIZE_TEXT];

    if (call->settings.json && transfer->target.fd != STDOUT_FILENO) {
        struct skblk_report *result = skblk_report_create();

        skblk_report_add_number(result, "bytes", bytes);
        skblk_report_add_real(result, "seconds", seconds);
        skblk_report_add_number(result, "bytes_per_second", (uint64_t)((double)bytes / seconds));
        return skblk_report_finish(call, result);
    }
    if (!call->settings.quiet && !call->settings.json) {
        (void)fprintf(stderr, "%s: %s in %.1f s, %s/s\n", transfer->what,
                      skblk_size_text(bytes, size), seconds,
                      skblk_size_text((uint64_t)((double)bytes / seconds), rate));
    }
    return SKBLK_EXIT_OK;
}

static int run(struct skblk_transfer *transfer)
{
    uint64_t start_ns = skblk_now_ns();
    uint64_t begin = transfer->call->settings.start;
    int code;

    transfer->done = begin;
    code = skblk_transfer_run(transfer);
    if (code == SKBLK_EXIT_OK) {
        return report(transfer, transfer->done - begin, skblk_now_ns() - start_ns);
    }
    if (code == SKBLK_EXIT_INTERRUPTED) {
        skblk_error(transfer->call, "interrupted");
    }
    if (transfer->done > 0) {
        say_where_to_go_on(transfer);
    }
    return code;
}

static int check_start(const struct skblk_call *call, uint64_t length, uint32_t block)
{
    if (call->settings.start > length || call->settings.start % block != 0) {
        skblk_error(call, "--start must be a multiple of %u and not beyond the range's %" PRIu64
                          " bytes",
                    block, length);
        return SKBLK_EXIT_USAGE;
    }
    return SKBLK_EXIT_OK;
}

/* ---- From a disk --------------------------------------------------------------------------- */

static int open_disk_end(const struct skblk_call *call, const char *address,
                         struct skblk_disk *disk, struct skblk_end *out_end)
{
    int code = skblk_disk_open(call, address, skblk_transfer_memory(call), disk);

    *out_end = (struct skblk_end){ .kind = SKBLK_END_DISK, .name = address, .disk = disk, .fd = -1 };
    return code;
}

static int open_disk_source(const struct skblk_call *call, struct skblk_disk *disk,
                            struct skblk_transfer *transfer)
{
    int code = open_disk_end(call, call->words[0], disk, &transfer->source);

    if (code != SKBLK_EXIT_OK) {
        return code;
    }
    code = skblk_disk_range(call, disk, &transfer->source.offset, &transfer->length);
    if (code == SKBLK_EXIT_OK) {
        code = check_start(call, transfer->length, disk->info.block_bytes);
    }
    return code == SKBLK_EXIT_OK ? code : skblk_disk_close(call, disk, code);
}

int skblk_read(struct skblk_call *call)
{
    struct skblk_transfer transfer = { .call = call, .what = "read" };
    struct skblk_disk disk;
    int code = open_disk_source(call, &disk, &transfer);

    if (code != SKBLK_EXIT_OK) {
        return code;
    }
    code = open_target(call, call->words[1], &transfer.target);
    if (code == SKBLK_EXIT_OK) {
        code = shape_target(call, &transfer.target, transfer.length);
    }
    if (code == SKBLK_EXIT_OK) {
        code = run(&transfer);
    }
    if (transfer.target.fd > STDERR_FILENO && close(transfer.target.fd) != 0 &&
        code == SKBLK_EXIT_OK) {
        code = file_error(call, transfer.target.name, "cannot be closed");
    }
    return skblk_disk_close(call, &disk, code);
}

static void take_digest(void *context, const void *data, size_t bytes)
{
    (void)EVP_DigestUpdate(context, data, bytes);
}

static int print_digest(const struct skblk_transfer *transfer, EVP_MD_CTX *digest)
{
    unsigned char bytes[DIGEST_BYTES];
    char text[2 * DIGEST_BYTES + 1];
    struct skblk_report *result;

    (void)EVP_DigestFinal_ex(digest, bytes, NULL);
    for (size_t i = 0; i < DIGEST_BYTES; i++) {
        (void)snprintf(text + 2 * i, 3, "%02x", bytes[i]);
    }
    if (!transfer->call->settings.json) {
        (void)printf("%s  %s\n", text, transfer->source.name);
        return fflush(stdout) == 0 ? SKBLK_EXIT_OK
                                   : file_error(transfer->call, "stdout", "cannot be written");
    }
    result = skblk_report_create();
    skblk_report_add_text(result, "sha256", text);
    skblk_report_add_number(result, "bytes", transfer->length);
    return skblk_report_finish(transfer->call, result);
}

int skblk_hash(struct skblk_call *call)
{
    struct skblk_transfer transfer = { .call = call, .what = "hash" };
    struct skblk_disk disk;
    EVP_MD_CTX *digest = EVP_MD_CTX_new();
    int code = open_disk_source(call, &disk, &transfer);

    if (code != SKBLK_EXIT_OK) {
        EVP_MD_CTX_free(digest);
        return code;
    }
    transfer.target = (struct skblk_end){
        .kind = SKBLK_END_SINK, .name = "digest", .fd = -1, .take = take_digest, .context = digest
    };
    if (digest == NULL || EVP_DigestInit_ex(digest, EVP_sha256(), NULL) != 1) {
        skblk_error(call, "the digest cannot be started");
        code = SKBLK_EXIT_FILE;
    }
    if (code == SKBLK_EXIT_OK) {
        code = skblk_transfer_run(&transfer);
    }
    if (code == SKBLK_EXIT_OK) {
        code = print_digest(&transfer, digest);
    } else if (code == SKBLK_EXIT_INTERRUPTED) {
        skblk_error(call, "interrupted");
    }
    EVP_MD_CTX_free(digest);
    return skblk_disk_close(call, &disk, code);
}

/* ---- Onto a disk --------------------------------------------------------------------------- */

/* Room from the target's offset on; `length` is the source's, UINT64_MAX: unknown. */
static int fit_target(const struct skblk_call *call, const struct skblk_disk *disk,
                      struct skblk_end *target, uint64_t *length)
{
    uint64_t capacity = skblk_disk_bytes(disk);
    uint32_t block = disk->info.block_bytes;

    target->offset = call->settings.target_offset;
    if (target->offset % block != 0 || target->offset > capacity) {
        skblk_error(call, "--target-offset must be a multiple of %u and not beyond the disk's %" PRIu64
                          " bytes",
                    block, capacity);
        return SKBLK_EXIT_USAGE;
    }
    if (*length == UINT64_MAX) {
        *length = capacity - target->offset;
        return SKBLK_EXIT_OK;
    }
    *length = (*length + block - 1) / block * block; /* the last block ends in zeroes */
    if (*length > capacity - target->offset) {
        skblk_error(call,
                    "the source has %" PRIu64 " bytes, but the disk has room for %" PRIu64
                    "; nothing was written; --length takes less",
                    *length, capacity - target->offset);
        return SKBLK_EXIT_USAGE;
    }
    return SKBLK_EXIT_OK;
}

/* The bytes of a file that the settings name; a stream's are known only if --length says so. */
static int source_length(const struct skblk_call *call, const struct skblk_end *source,
                         uint64_t *out_length)
{
    uint64_t size = file_bytes(source);
    uint64_t wanted = call->settings.length;

    *out_length = wanted != 0 ? wanted : UINT64_MAX;
    if (size == UINT64_MAX) {
        return SKBLK_EXIT_OK;
    }
    if (source->offset > size || wanted > size - source->offset) {
        skblk_error(call, "%s has only %" PRIu64 " bytes", source->name, size);
        return SKBLK_EXIT_USAGE;
    }
    *out_length = wanted != 0 ? wanted : size - source->offset;
    return SKBLK_EXIT_OK;
}

/* A stream that was to fill the disk must end there. */
static int check_stream_ended(const struct skblk_transfer *transfer)
{
    char byte;

    if (transfer->source.kind != SKBLK_END_STREAM || transfer->call->settings.length != 0 ||
        transfer->done < transfer->length || read(transfer->source.fd, &byte, 1) != 1) {
        return SKBLK_EXIT_OK;
    }
    skblk_error(transfer->call, "the disk is full after %" PRIu64 " bytes, and %s goes on",
                transfer->done, transfer->source.name);
    return SKBLK_EXIT_DISK;
}

/* The source is open. */
static int write_from(struct skblk_call *call, struct skblk_transfer *transfer)
{
    struct skblk_disk disk;
    int code = source_length(call, &transfer->source, &transfer->length);

    if (code == SKBLK_EXIT_OK) {
        code = open_disk_end(call, call->words[1], &disk, &transfer->target);
    }
    if (code != SKBLK_EXIT_OK) {
        return code;
    }
    code = skblk_disk_check_writable(call, &disk);
    if (code == SKBLK_EXIT_OK) {
        code = fit_target(call, &disk, &transfer->target, &transfer->length);
    }
    if (code == SKBLK_EXIT_OK) {
        code = check_start(call, transfer->length, disk.info.block_bytes);
    }
    if (code == SKBLK_EXIT_OK) {
        code = run(transfer);
    }
    if (code == SKBLK_EXIT_OK) {
        code = check_stream_ended(transfer);
    }
    return skblk_disk_close(call, &disk, code);
}

int skblk_write(struct skblk_call *call)
{
    struct skblk_transfer transfer = { .call = call, .what = "write" };
    int code = open_source(call, call->words[0], &transfer.source);

    if (code == SKBLK_EXIT_OK) {
        code = write_from(call, &transfer);
    }
    if (transfer.source.fd > STDERR_FILENO) {
        (void)close(transfer.source.fd);
    }
    return code;
}

/* Pieces are copied side by side, in no order: of ranges that overlap nothing good would come. */
static int check_apart(const struct skblk_call *call, uint64_t length)
{
    uint64_t from = call->settings.offset;
    uint64_t to = call->settings.target_offset;

    if (strcmp(call->words[0], call->words[1]) == 0 &&
        (from < to ? to - from : from - to) < length) {
        skblk_error(call, "the source and the target are the same disk, and overlap");
        return SKBLK_EXIT_USAGE;
    }
    return SKBLK_EXIT_OK;
}

int skblk_copy(struct skblk_call *call)
{
    struct skblk_transfer transfer = { .call = call, .what = "copy" };
    struct skblk_disk source;
    struct skblk_disk target;
    int code = check_apart(call, 1); /* many back ends have no second connection to offer */

    if (code == SKBLK_EXIT_OK) {
        code = open_disk_source(call, &source, &transfer);
    }
    if (code != SKBLK_EXIT_OK) {
        return code;
    }
    code = skblk_disk_open_beside(call, call->words[1], &source, &target);
    if (code != SKBLK_EXIT_OK) {
        return skblk_disk_close(call, &source, code);
    }
    transfer.target = (struct skblk_end){
        .kind = SKBLK_END_DISK, .name = call->words[1], .disk = &target, .fd = -1
    };
    code = skblk_disk_check_writable(call, &target);
    if (code == SKBLK_EXIT_OK) {
        code = fit_target(call, &target, &transfer.target, &transfer.length);
    }
    if (code == SKBLK_EXIT_OK) {
        code = check_apart(call, transfer.length);
    }
    if (code == SKBLK_EXIT_OK) {
        code = run(&transfer);
    }
    code = skblk_disk_close(call, &target, code);
    return skblk_disk_close(call, &source, code);
}
