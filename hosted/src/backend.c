/* SPDX-License-Identifier: MIT */
#include "backend_private.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define SECTOR 512u

/* What this back end can do, besides what depends on its store. */
#define FEATURES                                                                              \
    (SK_VIRTIO_FEATURE(SK_VIRTIO_F_VERSION_1) | SK_VIRTIO_FEATURE(SK_VIRTIO_F_INDIRECT_DESC) | \
     SK_VIRTIO_FEATURE(SK_VIRTIO_F_EVENT_IDX) | SK_VIRTIO_FEATURE(SK_VIRTIO_F_RING_PACKED) |   \
     SK_VIRTIO_FEATURE(SK_VIRTIO_F_RING_RESET) | SK_VIRTIO_FEATURE(SK_VIRTIO_F_IN_ORDER) |     \
     SK_VIRTIO_FEATURE(SKI_VHOST_USER_F_PROTOCOL_FEATURES) |                                  \
     SK_VIRTIO_FEATURE(SK_VIRTIO_BLK_F_SEG_MAX) | SK_VIRTIO_FEATURE(SK_VIRTIO_BLK_F_BLK_SIZE) | \
     SK_VIRTIO_FEATURE(SK_VIRTIO_BLK_F_FLUSH) | SK_VIRTIO_FEATURE(SK_VIRTIO_BLK_F_CONFIG_WCE) | \
     SK_VIRTIO_FEATURE(SK_VIRTIO_BLK_F_MQ))

#define PROTOCOL_FEATURE(name) (UINT64_C(1) << SKI_VHOST_USER_PROTOCOL_##name)
#define PROTOCOL_FEATURES                                                                      \
    (PROTOCOL_FEATURE(MQ) | PROTOCOL_FEATURE(REPLY_ACK) | PROTOCOL_FEATURE(BACKEND_REQ) |      \
     PROTOCOL_FEATURE(CONFIG) | PROTOCOL_FEATURE(INFLIGHT_SHMFD) |                             \
     PROTOCOL_FEATURE(RESET_DEVICE) | PROTOCOL_FEATURE(CONFIGURE_MEM_SLOTS) |                  \
     PROTOCOL_FEATURE(STATUS))

void sk_backend_options_init(struct sk_backend_options *out_options)
{
    *out_options = (struct sk_backend_options){
        .capacity_sectors = UINT64_C(1) << 21,
        .block_bytes = SECTOR,
        .queue_count = 1,
        .segment_count = 126,
        .features = UINT64_MAX,
        .protocol_features = UINT64_MAX,
        .worker_count = 1,
        .thread_count = 32,
        .connection_count = 16,
        .message_ns = UINT64_C(5000000000),
        .guard = true,
        .log_level = SK_LOG_WARNING,
    };
}

void ski_backend_explain(char *out_error, const char *format, ...)
{
    va_list arguments;

    if (out_error != NULL) {
        va_start(arguments, format);
        (void)vsnprintf(out_error, SK_BACKEND_ERROR_BYTES, format, arguments);
        va_end(arguments);
    }
}

/* One write for a line: lines of several threads do not mix. */
static void write_to_stderr(void *context, enum sk_log_level level, const char *line)
{
    char text[SK_LOG_LINE_BYTES + 32];
    int length = snprintf(text, sizeof(text), "skio: %s: %s\n", sk_log_level_name(level), line);

    (void)context;
    if (length > 0 && write(STDERR_FILENO, text, (size_t)length) < 0) {
        return; /* nowhere to say so */
    }
}

/* ---- Options ----------------------------------------------------------------------------- */

/* NULL, or the option that is not as backend.h says. */
static const char *bad_option(const struct sk_backend_options *options)
{
    if (options->block_bytes < SECTOR || options->block_bytes > 65536 ||
        !sk_checked_is_power_of_two(options->block_bytes)) {
        return "block_bytes";
    }
    if (options->queue_count == 0 || options->queue_count > SK_BACKEND_QUEUES_MAX) {
        return "queue_count";
    }
    if (options->segment_count == 0 || options->segment_count > 1000) {
        return "segment_count";
    }
    if (options->worker_count == 0 || options->worker_count > SK_BACKEND_WORKERS_MAX) {
        return "worker_count";
    }
    if (options->thread_count == 0 || options->thread_count > SK_BACKEND_THREADS_MAX) {
        return "thread_count";
    }
    if (options->connection_count == 0 ||
        options->connection_count > SK_BACKEND_CONNECTIONS_MAX) {
        return "connection_count";
    }
    if (options->fault_count > SK_BACKEND_FAULTS_MAX ||
        (options->fault_count > 0 && options->faults == NULL)) {
        return "faults";
    }
    if (options->serial != NULL && strlen(options->serial) > SK_BACKEND_SERIAL_BYTES) {
        return "serial";
    }
    if ((unsigned)options->log_level >= SK_LOG_LEVEL_COUNT) {
        return "log_level";
    }
    return NULL;
}

static void copy_options(struct sk_backend *backend, const struct sk_backend_options *options)
{
    const char *serial = options->serial == NULL ? "skio" : options->serial;

    backend->options = *options;
    backend->log.write = options->write_log == NULL ? write_to_stderr : options->write_log;
    backend->log.context = options->log_context;
    backend->log.level = options->log_level;
    memcpy(backend->serial, serial, strlen(serial));
    for (uint32_t i = 0; i < options->fault_count; i++) {
        backend->faults.states[i].fault = options->faults[i];
    }
    backend->faults.count = options->fault_count;
}

static void choose_features(struct sk_backend *backend)
{
    const struct sk_backend_options *options = &backend->options;
    uint64_t features = FEATURES;
    uint64_t value;

    if (backend->store.read_only) {
        features |= SK_VIRTIO_FEATURE(SK_VIRTIO_BLK_F_RO);
    } else {
        features |= SK_VIRTIO_FEATURE(SK_VIRTIO_BLK_F_WRITE_ZEROES);
        if (backend->store.can_discard) {
            features |= SK_VIRTIO_FEATURE(SK_VIRTIO_BLK_F_DISCARD);
        }
    }
    if (options->segment_bytes != 0) {
        features |= SK_VIRTIO_FEATURE(SK_VIRTIO_BLK_F_SIZE_MAX);
    }
    if (ski_backend_fault_is_set(&backend->faults, SK_BACKEND_HOLD, &value)) {
        features &= ~SK_VIRTIO_FEATURE(SK_VIRTIO_F_IN_ORDER); /* it answers in any order then */
    }
    features &= options->features;
    if ((features & SK_VIRTIO_FEATURE(SK_VIRTIO_BLK_F_FLUSH)) == 0) {
        features &= ~SK_VIRTIO_FEATURE(SK_VIRTIO_BLK_F_CONFIG_WCE); /* 5.2.5.2 */
    }
    backend->features = features;
    backend->protocol_features = PROTOCOL_FEATURES & options->protocol_features;
}

static enum sk_status open_store(struct sk_backend *backend, char *out_error)
{
    const struct sk_backend_options *options = &backend->options;
    struct ski_backend_store *store = &backend->store;
    uint32_t block_sectors = options->block_bytes / SECTOR;
    const char *text;
    enum sk_status status;

    (void)ski_backend_fault_is_set(&backend->faults, SK_BACKEND_FULL_AT, &store->full_at);
    if (options->file_path != NULL) {
        status = ski_backend_store_open(store, options->file_path, options->read_only,
                                        options->block_bytes, &text);
        if (status != SK_OK) {
            ski_backend_explain(out_error, "%s: %s", options->file_path, text);
        }
        return status;
    }
    store->is_null = true;
    store->null_zeroes = options->null_zeroes;
    store->read_only = options->read_only;
    store->can_discard = true;
    atomic_store(&store->capacity_sectors,
                 options->capacity_sectors / block_sectors * block_sectors);
    if (options->capacity_sectors < block_sectors || options->capacity_sectors > INT64_MAX / SECTOR) {
        ski_backend_explain(out_error, "the disk has not one block, or too many");
        return SK_ERR_SIZE;
    }
    return SK_OK;
}

/* ---- Start and stop ---------------------------------------------------------------------- */

static enum sk_status start_workers(struct sk_backend *backend)
{
    uint32_t count = backend->options.worker_count;

    backend->workers = calloc(count, sizeof(*backend->workers));
    if (backend->workers == NULL) {
        return SK_ERR_NO_MEMORY;
    }
    for (uint32_t i = 0; i < count; i++) {
        if (ski_backend_worker_start(&backend->workers[i], backend) != SK_OK) {
            return SK_ERR_NO_MEMORY;
        }
        backend->workers_started++;
    }
    return SK_OK;
}

/* Everything but the listener's thread, which ends before. */
static void release(struct sk_backend *backend)
{
    ski_backend_unlisten(backend);
    for (uint32_t i = 0; i < backend->workers_started; i++) {
        ski_backend_worker_stop(&backend->workers[i]);
    }
    free(backend->workers);
    ski_backend_store_close(&backend->store);
    if (backend->wake_fd >= 0) {
        (void)close(backend->wake_fd);
    }
    if (backend->options.guard) {
        ski_backend_guard_remove();
    }
    (void)pthread_cond_destroy(&backend->one_is_over);
    (void)pthread_mutex_destroy(&backend->lock);
    free(backend);
}

static enum sk_status start(struct sk_backend *backend, char *out_error)
{
    enum sk_status status = open_store(backend, out_error);

    if (status != SK_OK) {
        return status;
    }
    choose_features(backend);
    backend->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (backend->wake_fd < 0 || start_workers(backend) != SK_OK) {
        ski_backend_explain(out_error, "not enough memory or descriptors");
        return SK_ERR_NO_MEMORY;
    }
    status = ski_backend_listen(backend, out_error);
    if (status != SK_OK) {
        return status;
    }
    if (pthread_create(&backend->listener, NULL, ski_backend_accept_all, backend) != 0) {
        ski_backend_explain(out_error, "no thread");
        return SK_ERR_NO_MEMORY;
    }
    return SK_OK;
}

enum sk_status sk_backend_start(const struct sk_backend_options *options,
                                struct sk_backend **out_backend, char *out_error)
{
    const char *bad = bad_option(options);
    struct sk_backend *backend;
    enum sk_status status;

    *out_backend = NULL;
    ski_backend_explain(out_error, "%s", "");
    if (bad != NULL) {
        ski_backend_explain(out_error, "the option %s", bad);
        return SK_ERR_INVALID;
    }
    backend = calloc(1, sizeof(*backend));
    if (backend == NULL) {
        ski_backend_explain(out_error, "not enough memory");
        return SK_ERR_NO_MEMORY;
    }
    copy_options(backend, options);
    ski_backend_store_init(&backend->store);
    backend->listen_fd = backend->inherited_fd = backend->wake_fd = -1;
    (void)pthread_mutex_init(&backend->lock, NULL);
    (void)pthread_cond_init(&backend->one_is_over, NULL);
    if (options->guard) {
        ski_backend_guard_install();
    }
    status = start(backend, out_error);
    if (status != SK_OK) {
        release(backend);
        return status;
    }
    *out_backend = backend;
    return SK_OK;
}

void sk_backend_stop(struct sk_backend *backend)
{
    uint64_t one = 1;

    if (backend == NULL) {
        return;
    }
    atomic_store(&backend->stop, true);
    if (write(backend->wake_fd, &one, sizeof(one)) < 0) {
        /* Full: the listener will wake. */
    }
    (void)pthread_join(backend->listener, NULL);
    release(backend);
}

/* ---- In between -------------------------------------------------------------------------- */

enum sk_status sk_backend_resize(struct sk_backend *backend, uint64_t sectors)
{
    uint32_t block_sectors = backend->options.block_bytes / SECTOR;
    enum sk_status status = SK_OK;

    if (!backend->store.is_null) {
        status = ski_backend_store_measure(&backend->store, backend->options.block_bytes, &sectors);
    } else {
        sectors = sectors / block_sectors * block_sectors;
        status = sectors == 0 || sectors > INT64_MAX / SECTOR ? SK_ERR_SIZE : SK_OK;
    }
    if (status != SK_OK) {
        return status;
    }
    atomic_store(&backend->store.capacity_sectors, sectors);
    (void)pthread_mutex_lock(&backend->lock);
    for (uint32_t i = 0; i < SK_BACKEND_CONNECTIONS_MAX; i++) {
        struct ski_backend_connection *connection = backend->connections[i];

        if (connection != NULL) {
            atomic_store(&connection->config_changed, true);
            ski_backend_connection_wake(connection);
        }
    }
    (void)pthread_mutex_unlock(&backend->lock);
    return SK_OK;
}

void sk_backend_get_statistics(struct sk_backend *backend,
                               struct sk_backend_statistics *out_statistics)
{
    struct sk_backend_statistics sum = {
        .capacity_sectors = atomic_load(&backend->store.capacity_sectors),
        .connections_broken = atomic_load(&backend->connections_broken),
        .queues_broken = atomic_load(&backend->queues_broken),
        .messages = atomic_load(&backend->messages),
    };

    (void)pthread_mutex_lock(&backend->lock);
    sum.connections = backend->connection_next;
    for (uint32_t i = 0; i < SK_BACKEND_CONNECTIONS_MAX; i++) {
        sum.connections_open += backend->connections[i] != NULL &&
                                !atomic_load(&backend->connections[i]->is_over);
    }
    (void)pthread_mutex_unlock(&backend->lock);
    for (uint32_t i = 0; i < backend->workers_started; i++) {
        struct ski_backend_worker *worker = &backend->workers[i];

        sum.requests += atomic_load(&worker->requests);
        sum.errors += atomic_load(&worker->errors);
        sum.bytes_read += atomic_load(&worker->bytes_read);
        sum.bytes_written += atomic_load(&worker->bytes_written);
        sum.flushes += atomic_load(&worker->flushes);
        sum.recovered += atomic_load(&worker->recovered);
        sum.sleeps += atomic_load(&worker->sleeps);
        sum.interrupts += atomic_load(&worker->interrupts);
        sum.at_work += atomic_load(&worker->away_now);
        sum.at_work_most += atomic_load(&worker->away_most);
    }
    *out_statistics = sum;
}
