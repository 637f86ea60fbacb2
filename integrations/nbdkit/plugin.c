/* SPDX-License-Identifier: MIT */
/*
 * An nbdkit plugin: the disk behind a vhost-user-blk socket, as NBD.
 *
 *   nbdkit skio socket=/run/disk.sock [queues=N] [wait=sleep|poll] [timeout=SECONDS]
 *
 * One connection to the back end serves all NBD clients, so a flush by one of
 * them covers the writes of all (multi-conn).  The back end is connected to
 * when nbdkit starts; one that goes away and comes back is waited for.
 */
#define NBDKIT_API_VERSION 2

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <nbdkit-plugin.h>

#include "workers.h"

#define THREAD_MODEL    NBDKIT_THREAD_MODEL_PARALLEL
#define REQUEST_MAX     (32u << 20) /* what NBD clients send at most */
#define PREFERRED_BYTES 4096u
#define MEMORY_SPARE    (UINT64_C(4) << 20)

static const char *socket_address;
static unsigned queue_count = 1;
static unsigned timeout_seconds = 10;
static bool polling;
static struct sk_vhost_user_disk *disk;
static struct workers *workers;
static struct sk_block_info info;

static int take_word(const char *value)
{
    if (strcmp(value, "poll") == 0 || strcmp(value, "sleep") == 0) {
        polling = value[0] == 'p';
        return 0;
    }
    nbdkit_error("wait=%s: it is either sleep or poll", value);
    return -1;
}

static int skio_config(const char *key, const char *value)
{
    if (strcmp(key, "socket") == 0) {
        socket_address = value;
        return 0;
    }
    if (strcmp(key, "queues") == 0) {
        if (nbdkit_parse_unsigned("queues", value, &queue_count) != 0) {
            return -1;
        }
        if (queue_count < 1 || queue_count > SK_VIRTIO_BLK_QUEUES_MAX) {
            nbdkit_error("queues=%s: it is 1 to %u", value, SK_VIRTIO_BLK_QUEUES_MAX);
            return -1;
        }
        return 0;
    }
    if (strcmp(key, "wait") == 0) {
        return take_word(value);
    }
    if (strcmp(key, "timeout") == 0) {
        return nbdkit_parse_unsigned("timeout", value, &timeout_seconds);
    }
    nbdkit_error("there is no parameter '%s'; socket=, queues=, wait= and timeout= are known", key);
    return -1;
}

static int skio_config_complete(void)
{
    if (socket_address == NULL) {
        nbdkit_error("socket=PATH is missing: the vhost-user-blk socket to serve");
        return -1;
    }
    if (timeout_seconds == 0) {
        nbdkit_error("timeout=0: a request needs some time");
        return -1;
    }
    return 0;
}

static void write_log(void *context, enum sk_log_level level, const char *line)
{
    (void)context;
    if (level <= SK_LOG_WARNING) {
        nbdkit_error("%s", line);
    } else {
        nbdkit_debug("%s", line);
    }
}

/* Threads do not outlive a fork, so the disk is opened behind it. */
static int skio_after_fork(void)
{
    struct sk_vhost_user_disk_options options = SK_VHOST_USER_DISK_OPTIONS_DEFAULT;
    char error[SK_VHOST_USER_ERROR_BYTES] = "";
    enum sk_status status;

    options.driver.queue_count = queue_count;
    options.driver.queue_size = 256;
    options.driver.timeout_ns = timeout_seconds * UINT64_C(1000000000);
    options.process.write_log = write_log;
    options.process.log_level = SK_LOG_DEBUG;
    options.memory_bytes =
        queue_count * WORKERS_SLOTS_EACH * UINT64_C(1) * WORKERS_PIECE_BYTES + MEMORY_SPARE;
    status = sk_vhost_user_disk_open(socket_address, &options, &disk, error);
    if (status != SK_OK) {
        nbdkit_error("%s: %s", socket_address, error[0] != '\0' ? error : sk_status_text(status));
        return -1;
    }
    sk_block_get_info(sk_vhost_user_disk_device(disk), &info);
    status = workers_start(disk, polling, &workers);
    if (status != SK_OK) {
        nbdkit_error("%s: cannot start: %s", socket_address, sk_status_text(status));
        return -1;
    }
    return 0;
}

static void skio_unload(void)
{
    enum sk_status status = SK_OK;

    if (workers != NULL) {
        workers_stop(workers);
        workers = NULL;
    }
    if (disk != NULL) {
        status = sk_vhost_user_disk_close(disk);
        disk = NULL;
    }
    (void)status; /* logged where it happened */
}

static void *skio_open(int readonly)
{
    (void)readonly;
    return NBDKIT_HANDLE_NOT_NEEDED;
}

static int64_t skio_get_size(void *handle)
{
    struct sk_block_info now;

    (void)handle;
    sk_block_get_info(sk_vhost_user_disk_device(disk), &now); /* it may have grown */
    return (int64_t)(now.capacity_sectors * SK_BLOCK_SECTOR_BYTES);
}

static int skio_block_size(void *handle, uint32_t *minimum, uint32_t *preferred,
                           uint32_t *maximum)
{
    uint32_t wanted = info.optimal_io_bytes > info.physical_block_bytes
                          ? info.optimal_io_bytes
                          : info.physical_block_bytes;

    (void)handle;
    *minimum = info.block_bytes;
    *preferred = wanted > PREFERRED_BYTES && (wanted & (wanted - 1)) == 0 ? wanted
                                                                          : PREFERRED_BYTES;
    *maximum = REQUEST_MAX;
    return 0;
}

static int skio_can_write(void *handle)
{
    (void)handle;
    return !info.read_only;
}

static bool can_flush(void)
{
    return (info.features & SK_VIRTIO_FEATURE(SK_VIRTIO_BLK_F_FLUSH)) != 0 ||
           info.cache == SK_BLOCK_CACHE_WRITE_THROUGH;
}

static int skio_can_flush(void *handle)
{
    (void)handle;
    return can_flush();
}

static int skio_can_fua(void *handle)
{
    (void)handle;
    return can_flush() ? NBDKIT_FUA_NATIVE : NBDKIT_FUA_NONE;
}

static int skio_can_multi_conn(void *handle)
{
    (void)handle;
    return 1;
}

static int skio_can_trim(void *handle)
{
    (void)handle;
    return info.discard.sectors_max != 0;
}

static int skio_can_zero(void *handle)
{
    (void)handle;
    return info.write_zeroes.sectors_max != 0; /* nbdkit writes zeroes otherwise */
}

static int skio_can_fast_zero(void *handle)
{
    (void)handle;
    return info.write_zeroes.sectors_max != 0;
}

static int errno_of(enum sk_status status)
{
    switch (status) {
    case SK_ERR_READ_ONLY:
        return EROFS;
    case SK_ERR_RANGE:
        return ENOSPC;
    case SK_ERR_UNSUPPORTED:
        return EOPNOTSUPP;
    case SK_ERR_INVALID:
    case SK_ERR_SIZE:
    case SK_ERR_ALIGNMENT:
        return EINVAL;
    case SK_ERR_NO_MEMORY:
        return ENOMEM;
    case SK_ERR_GONE:
    case SK_ERR_BROKEN:
        return ESHUTDOWN;
    default:
        return EIO;
    }
}

static int answer(const char *what, uint64_t offset, enum sk_status status)
{
    if (status == SK_OK) {
        return 0;
    }
    nbdkit_error("%s at byte %llu: %s", what, (unsigned long long)offset, sk_status_text(status));
    nbdkit_set_error(errno_of(status));
    return -1;
}

static bool is_whole(const char *what, uint64_t offset, uint32_t bytes)
{
    if (offset % info.block_bytes == 0 && bytes % info.block_bytes == 0) {
        return true;
    }
    nbdkit_error("%s of %u bytes at byte %llu: the disk has blocks of %u; "
                 "use nbdkit's --filter=blocksize",
                 what, bytes, (unsigned long long)offset, info.block_bytes);
    nbdkit_set_error(EINVAL);
    return false;
}

static uint32_t fua_of(uint32_t flags)
{
    return (flags & NBDKIT_FLAG_FUA) != 0 ? SK_BLOCK_FLAG_FUA : 0;
}

static int skio_pread(void *handle, void *data, uint32_t bytes, uint64_t offset, uint32_t flags)
{
    (void)handle;
    (void)flags;
    return is_whole("read", offset, bytes)
               ? answer("read", offset, workers_read(workers, data, offset, bytes))
               : -1;
}

static int skio_pwrite(void *handle, const void *data, uint32_t bytes, uint64_t offset,
                       uint32_t flags)
{
    (void)handle;
    return is_whole("write", offset, bytes)
               ? answer("write", offset,
                        workers_write(workers, data, offset, bytes, fua_of(flags)))
               : -1;
}

static int skio_flush(void *handle, uint32_t flags)
{
    (void)handle;
    (void)flags;
    return answer("flush", 0, workers_flush(workers));
}

/* Discarding has no FUA of its own: a flush follows. */
static int skio_trim(void *handle, uint32_t bytes, uint64_t offset, uint32_t flags)
{
    enum sk_status status;

    (void)handle;
    if (!is_whole("trim", offset, bytes)) {
        return -1;
    }
    status = workers_clear(workers, SK_BLOCK_DISCARD, offset, bytes, 0);
    if (status == SK_OK && fua_of(flags) != 0) {
        status = workers_flush(workers);
    }
    return answer("trim", offset, status);
}

static int skio_zero(void *handle, uint32_t bytes, uint64_t offset, uint32_t flags)
{
    bool may_unmap = (flags & NBDKIT_FLAG_MAY_TRIM) != 0 && info.zeroes_may_unmap;
    uint32_t wanted = fua_of(flags) | (may_unmap ? SK_BLOCK_FLAG_UNMAP : 0);

    (void)handle;
    if (!is_whole("zero", offset, bytes)) {
        return -1;
    }
    return answer("zero", offset,
                  workers_clear(workers, SK_BLOCK_WRITE_ZEROES, offset, bytes, wanted));
}

static struct nbdkit_plugin plugin = {
    .name = "skio",
    .longname = "skio: a vhost-user-blk disk",
    .version = "0.1.0",
    .description = "Serves the disk behind a vhost-user-blk socket.",
    .magic_config_key = "socket",
    .config_help = "socket=PATH       (required) the back end's socket; @NAME for an abstract one\n"
                   "queues=N          queues to use (1)\n"
                   "wait=sleep|poll   how completions are waited for (sleep)\n"
                   "timeout=SECONDS   longest time for a request (10)",
    .config = skio_config,
    .config_complete = skio_config_complete,
    .after_fork = skio_after_fork,
    .unload = skio_unload,
    .open = skio_open,
    .get_size = skio_get_size,
    .block_size = skio_block_size,
    .can_write = skio_can_write,
    .can_flush = skio_can_flush,
    .can_fua = skio_can_fua,
    .can_multi_conn = skio_can_multi_conn,
    .can_trim = skio_can_trim,
    .can_zero = skio_can_zero,
    .can_fast_zero = skio_can_fast_zero,
    .pread = skio_pread,
    .pwrite = skio_pwrite,
    .flush = skio_flush,
    .trim = skio_trim,
    .zero = skio_zero,
};

struct nbdkit_plugin *plugin_init(void); /* what nbdkit looks up; the macro defines it */

NBDKIT_REGISTER_PLUGIN(plugin)
