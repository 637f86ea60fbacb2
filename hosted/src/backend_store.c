/* SPDX-License-Identifier: MIT */
#include "backend_store.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#define SECTOR 512u

static enum sk_status fail_open(int error, const char **out_text)
{
    switch (error) {
    case ENOENT:
    case ENOTDIR:
        *out_text = "there is no such file";
        return SK_ERR_NOT_FOUND;
    case EACCES:
    case EPERM:
    case EROFS:
        *out_text = "the file may not be opened like this";
        return SK_ERR_READ_ONLY;
    default:
        *out_text = "the file cannot be opened";
        return SK_ERR_IO;
    }
}

enum sk_status ski_backend_store_measure(const struct ski_backend_store *store,
                                         uint32_t block_bytes, uint64_t *out_sectors)
{
    struct stat stat;
    uint64_t bytes;

    if (store->is_device) {
        if (ioctl(store->fd, BLKGETSIZE64, &bytes) != 0) {
            return SK_ERR_IO;
        }
    } else if (fstat(store->fd, &stat) == 0) {
        bytes = (uint64_t)stat.st_size;
    } else {
        return SK_ERR_IO;
    }
    *out_sectors = bytes / block_bytes * (block_bytes / SECTOR);
    return *out_sectors == 0 ? SK_ERR_SIZE : SK_OK;
}

static bool is_in_memory(const struct ski_backend_store *store)
{
    struct statfs fs;

    return !store->is_device && fstatfs(store->fd, &fs) == 0 && fs.f_type == TMPFS_MAGIC;
}

/* Asks behind the end of the file, where a hole changes nothing. */
static bool can_punch(const struct ski_backend_store *store, uint64_t bytes)
{
    return store->is_device ||
           fallocate(store->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)bytes, SECTOR) ==
               0;
}

void ski_backend_store_init(struct ski_backend_store *store)
{
    store->fd = -1;
    store->full_at = UINT64_MAX;
    (void)pthread_rwlock_init(&store->durable, NULL);
}

enum sk_status ski_backend_store_open(struct ski_backend_store *store, const char *path,
                                      bool read_only, uint32_t block_bytes, const char **out_text)
{
    int fd = open(path, (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NONBLOCK);
    enum sk_status status = SK_ERR_INVALID;
    uint64_t sectors;
    struct stat stat;

    if (fd < 0) {
        return fail_open(errno, out_text);
    }
    store->fd = fd;
    store->read_only = read_only;
    *out_text = "it is neither a file nor a block device";
    if (fstat(fd, &stat) != 0 || (!S_ISREG(stat.st_mode) && !S_ISBLK(stat.st_mode))) {
        goto close_file;
    }
    store->is_device = S_ISBLK(stat.st_mode);
    *out_text = "another process has locked the file";
    if (flock(fd, (read_only ? LOCK_SH : LOCK_EX) | LOCK_NB) != 0) {
        status = SK_ERR_BUSY;
        goto close_file;
    }
    *out_text = "the file has not one block";
    status = ski_backend_store_measure(store, block_bytes, &sectors);
    if (status != SK_OK) {
        goto close_file;
    }
    atomic_store(&store->capacity_sectors, sectors);
    store->in_memory = is_in_memory(store);
    store->can_discard = !read_only && can_punch(store, (uint64_t)stat.st_size);
    *out_text = NULL;
    return SK_OK;
close_file:
    (void)close(fd);
    store->fd = -1;
    return status;
}

void ski_backend_store_close(struct ski_backend_store *store)
{
    if (store->fd >= 0) {
        (void)close(store->fd);
        store->fd = -1;
    }
    (void)pthread_rwlock_destroy(&store->durable);
}

/* Cuts `done` bytes off the front; true while something is left. */
static bool advance(struct iovec **pieces, uint32_t *count, size_t done)
{
    while (*count > 0 && done >= (*pieces)->iov_len) {
        done -= (*pieces)->iov_len;
        (*pieces)++;
        (*count)--;
    }
    if (*count > 0) {
        (*pieces)->iov_base = (uint8_t *)(*pieces)->iov_base + done;
        (*pieces)->iov_len -= done;
    }
    return *count > 0;
}

uint8_t ski_backend_store_read(struct ski_backend_store *store, struct iovec *pieces,
                               uint32_t count, uint64_t offset)
{
    if (store->is_null) {
        for (uint32_t i = 0; i < count && store->null_zeroes; i++) {
            (void)memset(pieces[i].iov_base, 0, pieces[i].iov_len);
        }
        return SKI_BACKEND_OK;
    }
    while (count > 0) {
        ssize_t done = preadv(store->fd, pieces, (int)count, (off_t)offset);

        if (done < 0 && errno == EINTR) {
            continue;
        }
        if (done <= 0) {
            return SKI_BACKEND_IOERR; /* at 0 the file has become shorter */
        }
        offset += (uint64_t)done;
        (void)advance(&pieces, &count, (size_t)done);
    }
    return SKI_BACKEND_OK;
}

bool ski_backend_store_read_now(struct ski_backend_store *store, struct iovec **pieces,
                                uint32_t *count, uint64_t *offset, uint8_t *out_answer)
{
    *out_answer = SKI_BACKEND_OK;
    while (*count > 0) {
        ssize_t done;

        if (atomic_load_explicit(&store->cannot_try, memory_order_relaxed)) {
            return false;
        }
        done = preadv2(store->fd, *pieces, (int)*count, (off_t)*offset, RWF_NOWAIT);
        if (done > 0) {
            *offset += (uint64_t)done;
            (void)advance(pieces, count, (size_t)done);
        } else if (done < 0 && errno == EOPNOTSUPP) {
            atomic_store(&store->cannot_try, true);
        } else if (done == 0 || (errno != EAGAIN && errno != EINTR)) {
            *out_answer = SKI_BACKEND_IOERR; /* at 0 the file has become shorter */
            return true;
        } else {
            return false;
        }
    }
    return true;
}

static uint64_t bytes_of(const struct iovec *pieces, uint32_t count)
{
    uint64_t bytes = 0;

    for (uint32_t i = 0; i < count; i++) {
        bytes += pieces[i].iov_len;
    }
    return bytes;
}

static uint8_t write_all(struct ski_backend_store *store, struct iovec *pieces, uint32_t count,
                         uint64_t offset, bool durable)
{
    while (count > 0) {
        ssize_t done = pwritev2(store->fd, pieces, (int)count, (off_t)offset,
                                durable ? RWF_DSYNC : 0);

        if (done < 0 && errno == EINTR) {
            continue;
        }
        if (done <= 0) {
            if (durable && errno == EIO) {
                atomic_store(&store->flush_failed, true); /* perhaps it is another write's error */
            }
            return SKI_BACKEND_IOERR;
        }
        offset += (uint64_t)done;
        (void)advance(&pieces, &count, (size_t)done);
    }
    return SKI_BACKEND_OK;
}

uint8_t ski_backend_store_write(struct ski_backend_store *store, struct iovec *pieces,
                                uint32_t count, uint64_t offset, bool durable)
{
    uint8_t answer;

    if (store->full_at != UINT64_MAX && offset + bytes_of(pieces, count) > store->full_at) {
        return SKI_BACKEND_IOERR;
    }
    if (store->is_null) {
        return SKI_BACKEND_OK;
    }
    if (!durable) {
        return write_all(store, pieces, count, offset, false);
    }
    (void)pthread_rwlock_rdlock(&store->durable);
    answer = write_all(store, pieces, count, offset, true);
    (void)pthread_rwlock_unlock(&store->durable);
    return answer;
}

uint8_t ski_backend_store_flush(struct ski_backend_store *store)
{
    bool failed;

    if (!store->is_null && !store->read_only) {
        (void)pthread_rwlock_wrlock(&store->durable);
        if (fdatasync(store->fd) != 0) {
            atomic_store(&store->flush_failed, true);
        }
        (void)pthread_rwlock_unlock(&store->durable);
    }
    failed = atomic_load(&store->flush_failed);
    return failed ? SKI_BACKEND_IOERR : SKI_BACKEND_OK;
}

static int allocate(const struct ski_backend_store *store, int mode, uint64_t offset,
                    uint64_t bytes)
{
    int result;

    do {
        result = fallocate(store->fd, mode | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)bytes);
    } while (result != 0 && errno == EINTR);
    return result;
}

uint8_t ski_backend_store_discard(struct ski_backend_store *store, uint64_t offset, uint64_t bytes)
{
    if (store->is_null || allocate(store, FALLOC_FL_PUNCH_HOLE, offset, bytes) == 0) {
        return SKI_BACKEND_OK;
    }
    if (store->is_device && errno == EINVAL) {
        return SKI_BACKEND_OK; /* no whole blocks of the device: a discard may do nothing */
    }
    return errno == EOPNOTSUPP ? SKI_BACKEND_UNSUPP : SKI_BACKEND_IOERR;
}

/* Where the file system knows no better way. */
static uint8_t write_zero_bytes(struct ski_backend_store *store, uint64_t offset, uint64_t bytes)
{
    static const uint8_t zeroes[65536];

    while (bytes > 0) {
        size_t part = bytes < sizeof(zeroes) ? (size_t)bytes : sizeof(zeroes);
        ssize_t done = pwrite(store->fd, zeroes, part, (off_t)offset);

        if (done < 0 && errno == EINTR) {
            continue;
        }
        if (done <= 0) {
            return SKI_BACKEND_IOERR;
        }
        offset += (uint64_t)done;
        bytes -= (uint64_t)done;
    }
    return SKI_BACKEND_OK;
}

uint8_t ski_backend_store_write_zeroes(struct ski_backend_store *store, uint64_t offset,
                                       uint64_t bytes, bool unmap, bool durable)
{
    uint8_t answer = SKI_BACKEND_OK;

    if (store->is_null) {
        return SKI_BACKEND_OK;
    }
    if (!unmap && offset + bytes > store->full_at) {
        return SKI_BACKEND_IOERR;
    }
    if (!(unmap && store->can_discard &&
          allocate(store, FALLOC_FL_PUNCH_HOLE, offset, bytes) == 0) &&
        allocate(store, FALLOC_FL_ZERO_RANGE, offset, bytes) != 0) {
        answer = write_zero_bytes(store, offset, bytes);
    }
    if (answer == SKI_BACKEND_OK && durable) {
        answer = ski_backend_store_flush(store);
    }
    return answer;
}
