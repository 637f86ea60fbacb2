/* SPDX-License-Identifier: MIT */
#include "backend_private.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* Places in the configuration space; 5.2.4. */
#define CONFIG_CAPACITY          0u
#define CONFIG_SIZE_MAX          8u
#define CONFIG_SEG_MAX           12u
#define CONFIG_BLK_SIZE          20u
#define CONFIG_WRITEBACK         32u
#define CONFIG_NUM_QUEUES        34u
#define CONFIG_DISCARD_SECTORS   36u
#define CONFIG_DISCARD_RANGES    40u
#define CONFIG_DISCARD_ALIGNMENT 44u
#define CONFIG_ZEROES_SECTORS    48u
#define CONFIG_ZEROES_RANGES     52u
#define CONFIG_ZEROES_UNMAP      56u

static void put(uint8_t *bytes, uint32_t offset, unsigned width, uint64_t value)
{
    for (unsigned i = 0; i < width; i++) {
        bytes[offset + i] = (uint8_t)(value >> 8 * i);
    }
}

void ski_backend_fill_config(const struct ski_backend_connection *connection, uint8_t *out_bytes)
{
    const struct sk_backend *backend = connection->backend;
    const struct sk_backend_options *options = &backend->options;
    uint32_t block_sectors = options->block_bytes / 512;

    memset(out_bytes, 0, SKI_BACKEND_CONFIG_BYTES);
    put(out_bytes, CONFIG_CAPACITY, 8, atomic_load(&backend->store.capacity_sectors));
    put(out_bytes, CONFIG_SIZE_MAX, 4, options->segment_bytes);
    put(out_bytes, CONFIG_SEG_MAX, 4, options->segment_count);
    put(out_bytes, CONFIG_BLK_SIZE, 4, options->block_bytes);
    put(out_bytes, CONFIG_WRITEBACK, 1, connection->write_back);
    put(out_bytes, CONFIG_NUM_QUEUES, 2, options->queue_count);
    put(out_bytes, CONFIG_DISCARD_SECTORS, 4, SKI_BACKEND_RANGE_SECTORS_MAX);
    put(out_bytes, CONFIG_DISCARD_RANGES, 4, SKI_BACKEND_RANGES_MAX);
    put(out_bytes, CONFIG_DISCARD_ALIGNMENT, 4, block_sectors);
    put(out_bytes, CONFIG_ZEROES_SECTORS, 4, SKI_BACKEND_RANGE_SECTORS_MAX);
    put(out_bytes, CONFIG_ZEROES_RANGES, 4, SKI_BACKEND_RANGES_MAX);
    put(out_bytes, CONFIG_ZEROES_UNMAP, 1, backend->store.can_discard);
}

/* ---- Replies ----------------------------------------------------------------------------- */

enum ski_backend_outcome ski_backend_answer(struct ski_backend_connection *connection, uint64_t value)
{
    ski_vhost_user_prepare(&connection->message, connection->message.header.request,
                           sizeof(value));
    connection->message.payload.u64 = value;
    return SKI_BACKEND_REPLY;
}

static enum ski_backend_outcome answer_or_lie(struct ski_backend_connection *connection,
                                              enum sk_backend_fault_kind kind, uint64_t value)
{
    uint64_t lie;

    return ski_backend_answer(connection,
                  ski_backend_fault_is_set(&connection->backend->faults, kind, &lie) ? lie
                                                                                     : value);
}

/* ---- Features and status ----------------------------------------------------------------- */

static enum ski_backend_outcome get_features(struct ski_backend_connection *connection)
{
    return answer_or_lie(connection, SK_BACKEND_FEATURES, connection->backend->features);
}

static enum ski_backend_outcome set_features(struct ski_backend_connection *connection)
{
    uint64_t features = connection->message.payload.u64;
    bool started = false;

    for (uint32_t i = 0; i < connection->backend->options.queue_count; i++) {
        started |= connection->queues[i].started;
    }
    if ((features & ~connection->backend->features) != 0 ||
        (started && features != connection->features)) {
        connection->bad_features = true;
        return SKI_BACKEND_REFUSED;
    }
    connection->bad_features = false;
    connection->has_features = true;
    if (features != connection->features) {
        connection->features = features;
        /* 5.2.5.2: without FLUSH nobody could make a write durable but we. */
        connection->write_back = ski_backend_has(connection, SK_VIRTIO_BLK_F_FLUSH) &&
                                 !connection->backend->options.write_through;
    }
    return SKI_BACKEND_DONE;
}

static enum ski_backend_outcome get_protocol_features(struct ski_backend_connection *connection)
{
    return answer_or_lie(connection, SK_BACKEND_PROTOCOL_FEATURES,
                         connection->backend->protocol_features);
}

static enum ski_backend_outcome set_protocol_features(struct ski_backend_connection *connection)
{
    uint64_t features = connection->message.payload.u64;

    if ((features & ~connection->backend->protocol_features) != 0) {
        return SKI_BACKEND_REFUSED;
    }
    connection->protocol_features = features;
    return SKI_BACKEND_DONE;
}

static enum ski_backend_outcome set_owner(struct ski_backend_connection *connection)
{
    (void)connection;
    return SKI_BACKEND_DONE;
}

void ski_backend_reset(struct ski_backend_connection *connection)
{
    ski_backend_visit_at_rest(connection, 0, connection->backend->options.queue_count);
    for (uint32_t i = 0; i < connection->backend->options.queue_count; i++) {
        ski_backend_queue_reset(&connection->queues[i]);
    }
    ski_backend_leave_all(connection);
    connection->has_features = false;
    connection->bad_features = false;
    connection->features = 0;
    connection->status = 0;
    connection->write_back = !connection->backend->options.write_through;
    atomic_store(&connection->needs_reset, false);
}

static enum ski_backend_outcome reset(struct ski_backend_connection *connection)
{
    ski_backend_reset(connection);
    return SKI_BACKEND_DONE;
}

static enum ski_backend_outcome set_status(struct ski_backend_connection *connection)
{
    uint64_t status = connection->message.payload.u64;

    if (status == 0) {
        ski_backend_reset(connection);
        return SKI_BACKEND_DONE;
    }
    if (status > 0xff) {
        return SKI_BACKEND_REFUSED;
    }
    if ((status & SK_VIRTIO_STATUS_FEATURES_OK) != 0 &&
        (connection->bad_features || !connection->has_features)) {
        status &= ~(uint64_t)SK_VIRTIO_STATUS_FEATURES_OK; /* 2.2.2: so we say no */
    }
    /* A driver does not clear this bit but by a reset. */
    connection->status =
        (uint32_t)status | (connection->status & SK_VIRTIO_STATUS_DEVICE_NEEDS_RESET);
    return SKI_BACKEND_DONE;
}

static enum ski_backend_outcome get_status(struct ski_backend_connection *connection)
{
    return ski_backend_answer(connection, connection->status);
}

/* ---- Configuration ----------------------------------------------------------------------- */

static enum ski_backend_outcome get_config(struct ski_backend_connection *connection)
{
    struct ski_vhost_user_message *message = &connection->message;
    uint32_t offset = message->payload.config.offset;
    uint32_t size = message->payload.config.size;
    uint64_t most = SKI_BACKEND_CONFIG_BYTES;
    uint8_t bytes[SKI_BACKEND_CONFIG_BYTES];

    (void)ski_backend_fault_is_set(&connection->backend->faults, SK_BACKEND_CONFIG_BYTES, &most);
    if (message->header.size < SKI_VHOST_USER_CONFIG_HEAD) {
        return SKI_BACKEND_END;
    }
    if (!sk_checked_range(offset, size, most) || size > SKI_BACKEND_CONFIG_BYTES ||
        !sk_checked_range(offset, size, SKI_BACKEND_CONFIG_BYTES)) {
        ski_vhost_user_prepare(message, SKI_VHOST_USER_GET_CONFIG, 0); /* that is: an error */
        return SKI_BACKEND_REPLY;
    }
    ski_backend_fill_config(connection, bytes);
    ski_vhost_user_prepare(message, SKI_VHOST_USER_GET_CONFIG, SKI_VHOST_USER_CONFIG_HEAD + size);
    message->payload.config.offset = offset;
    message->payload.config.size = size;
    memcpy(message->payload.config.bytes, bytes + offset, size);
    return SKI_BACKEND_REPLY;
}

/* One field can be written: the cache mode. */
static enum ski_backend_outcome set_config(struct ski_backend_connection *connection)
{
    const struct ski_vhost_user_config *config = &connection->message.payload.config;
    uint32_t size = connection->message.header.size;

    if (size < SKI_VHOST_USER_CONFIG_HEAD || size != SKI_VHOST_USER_CONFIG_HEAD + config->size) {
        return SKI_BACKEND_END;
    }
    if (config->offset != CONFIG_WRITEBACK || config->size != 1 || config->flags > 1 ||
        !ski_backend_has(connection, SK_VIRTIO_BLK_F_CONFIG_WCE) || config->bytes[0] > 1) {
        return SKI_BACKEND_REFUSED;
    }
    ski_backend_visit_all(connection);
    connection->write_back =
        config->bytes[0] != 0 && ski_backend_has(connection, SK_VIRTIO_BLK_F_FLUSH);
    for (uint32_t i = 0; i < connection->backend->options.queue_count; i++) {
        connection->queues[i].durable = !connection->write_back;
    }
    ski_backend_leave_all(connection);
    return SKI_BACKEND_DONE;
}

/* ---- Queues ------------------------------------------------------------------------------ */

static enum ski_backend_outcome get_queue_number(struct ski_backend_connection *connection)
{
    return answer_or_lie(connection, SK_BACKEND_QUEUE_NUMBER,
                         connection->backend->options.queue_count);
}

static struct ski_backend_queue *queue_at(struct ski_backend_connection *connection,
                                          uint64_t index)
{
    return index < connection->backend->options.queue_count ? &connection->queues[index] : NULL;
}

/* Starts the queue if it can be now, and lets the worker go on. */
static enum ski_backend_outcome update(struct ski_backend_queue *queue)
{
    return ski_backend_queue_update(queue) ? SKI_BACKEND_DONE : SKI_BACKEND_REFUSED;
}

static enum ski_backend_outcome set_size(struct ski_backend_connection *connection)
{
    struct ski_vhost_user_vring_state state = connection->message.payload.state;
    struct ski_backend_queue *queue = queue_at(connection, state.index);

    if (queue == NULL || queue->started || state.num == 0 || state.num > SKI_RING_SIZE_MAX) {
        return SKI_BACKEND_REFUSED;
    }
    queue->size = state.num;
    return SKI_BACKEND_DONE;
}

static enum ski_backend_outcome set_base(struct ski_backend_connection *connection)
{
    struct ski_vhost_user_vring_state state = connection->message.payload.state;
    struct ski_backend_queue *queue = queue_at(connection, state.index);

    if (queue == NULL || queue->started) {
        return SKI_BACKEND_REFUSED;
    }
    queue->base = state.num;
    queue->has_base = true;
    return SKI_BACKEND_DONE;
}

static enum ski_backend_outcome set_addresses(struct ski_backend_connection *connection)
{
    struct ski_vhost_user_vring_address said = connection->message.payload.address;
    struct ski_backend_queue *queue = queue_at(connection, said.index);
    enum ski_backend_outcome outcome;

    if (queue == NULL ||
        (queue->started &&
         (queue->user_descriptors != said.descriptors || queue->user_available != said.available ||
          queue->user_used != said.used))) {
        return SKI_BACKEND_REFUSED;
    }
    ski_backend_visit_all(connection);
    queue->user_descriptors = said.descriptors;
    queue->user_available = said.available;
    queue->user_used = said.used;
    queue->has_addresses = true;
    outcome = update(queue);
    ski_backend_leave_all(connection);
    return outcome;
}

static enum ski_backend_outcome set_enable(struct ski_backend_connection *connection)
{
    struct ski_vhost_user_vring_state state = connection->message.payload.state;
    struct ski_backend_queue *queue = queue_at(connection, state.index);
    enum ski_backend_outcome outcome;

    if (queue == NULL || state.num > 1) {
        return SKI_BACKEND_REFUSED;
    }
    ski_backend_visit_at_rest(connection, state.index, 1);
    queue->enabled = state.num == 1;
    outcome = update(queue);
    ski_backend_leave_all(connection);
    return outcome;
}

static enum ski_backend_outcome get_base(struct ski_backend_connection *connection)
{
    uint32_t index = connection->message.payload.state.index;
    struct ski_backend_queue *queue = queue_at(connection, index);
    uint32_t base;

    if (queue == NULL) {
        return SKI_BACKEND_END;
    }
    ski_backend_visit_at_rest(connection, index, 1);
    ski_backend_queue_stop(queue, &base);
    ski_backend_leave_all(connection);
    ski_vhost_user_prepare(&connection->message, SKI_VHOST_USER_GET_VRING_BASE,
                           sizeof(connection->message.payload.state));
    connection->message.payload.state = (struct ski_vhost_user_vring_state){ index, base };
    return SKI_BACKEND_REPLY;
}

/* The descriptor of KICK, CALL and ERR, which must be there unless the message says that it is not. */
static bool take_event(struct ski_backend_connection *connection,
                       struct ski_backend_queue **out_queue, int *out_fd)
{
    struct ski_vhost_user_message *message = &connection->message;
    uint64_t said = message->payload.u64;
    bool has_fd = (said & SKI_VHOST_USER_VRING_NO_FD) == 0;
    int flags;

    *out_queue = queue_at(connection, said & SKI_VHOST_USER_VRING_INDEX_MASK);
    if (*out_queue == NULL || message->fd_count != (has_fd ? 1 : 0)) {
        return false;
    }
    *out_fd = -1;
    if (has_fd) {
        *out_fd = ski_vhost_user_take_fd(message, 0);
        /* Whatever it is, it must not keep a worker from working. */
        flags = fcntl(*out_fd, F_GETFL);
        (void)fcntl(*out_fd, F_SETFL, flags | O_NONBLOCK);
    }
    return true;
}

static enum ski_backend_outcome set_kick(struct ski_backend_connection *connection)
{
    struct ski_backend_queue *queue;
    enum ski_backend_outcome outcome;
    int fd;

    if (!take_event(connection, &queue, &fd)) {
        return SKI_BACKEND_END;
    }
    ski_backend_visit_all(connection);
    ski_backend_queue_set_kick(queue, fd);
    outcome = queue->broken ? SKI_BACKEND_REFUSED : update(queue);
    ski_backend_leave_all(connection);
    return outcome;
}

static enum ski_backend_outcome set_call(struct ski_backend_connection *connection)
{
    struct ski_backend_queue *queue;
    int fd;

    if (!take_event(connection, &queue, &fd)) {
        return SKI_BACKEND_END;
    }
    ski_backend_visit_all(connection);
    ski_backend_queue_set_call(queue, fd);
    ski_backend_leave_all(connection);
    return SKI_BACKEND_DONE;
}

static enum ski_backend_outcome set_error(struct ski_backend_connection *connection)
{
    struct ski_backend_queue *queue;
    int fd;

    if (!take_event(connection, &queue, &fd)) {
        return SKI_BACKEND_END;
    }
    ski_backend_visit_all(connection);
    if (queue->error_fd >= 0) {
        (void)close(queue->error_fd);
    }
    queue->error_fd = fd;
    ski_backend_leave_all(connection);
    return SKI_BACKEND_DONE;
}

static enum ski_backend_outcome set_backend_fd(struct ski_backend_connection *connection)
{
    if (connection->backend_fd >= 0) {
        (void)close(connection->backend_fd);
    }
    connection->backend_fd = ski_vhost_user_take_fd(&connection->message, 0);
    return SKI_BACKEND_DONE;
}

/* ---- All of them ------------------------------------------------------------------------- */

#define NO_FEATURE 0xffu
#define ANY_FDS    0xffu

struct kind {
    enum ski_backend_outcome (*handle)(struct ski_backend_connection *connection);
    uint16_t size_min; /* of the payload */
    uint16_t size_max;
    uint8_t fds;
    uint8_t feature; /* of the protocol, that must be agreed on */
};

#define U64     sizeof(uint64_t)
#define STATE   sizeof(struct ski_vhost_user_vring_state)
#define ADDRESS sizeof(struct ski_vhost_user_vring_address)
#define REGION  sizeof(struct ski_vhost_user_single_region)
#define MEMORY  sizeof(struct ski_vhost_user_memory)
#define CONFIG  sizeof(struct ski_vhost_user_config)
#define RECORD  sizeof(struct ski_vhost_user_inflight)

static const struct kind kinds[] = {
    [SKI_VHOST_USER_GET_FEATURES] = { get_features, 0, 0, 0, NO_FEATURE },
    [SKI_VHOST_USER_SET_FEATURES] = { set_features, U64, U64, 0, NO_FEATURE },
    [SKI_VHOST_USER_SET_OWNER] = { set_owner, 0, 0, 0, NO_FEATURE },
    [SKI_VHOST_USER_RESET_OWNER] = { reset, 0, 0, 0, NO_FEATURE },
    [SKI_VHOST_USER_SET_MEM_TABLE] = { ski_backend_set_memory, 0, MEMORY, ANY_FDS, NO_FEATURE },
    [SKI_VHOST_USER_SET_VRING_NUM] = { set_size, STATE, STATE, 0, NO_FEATURE },
    [SKI_VHOST_USER_SET_VRING_ADDR] = { set_addresses, ADDRESS, ADDRESS, 0, NO_FEATURE },
    [SKI_VHOST_USER_SET_VRING_BASE] = { set_base, STATE, STATE, 0, NO_FEATURE },
    [SKI_VHOST_USER_GET_VRING_BASE] = { get_base, STATE, STATE, 0, NO_FEATURE },
    [SKI_VHOST_USER_SET_VRING_KICK] = { set_kick, U64, U64, ANY_FDS, NO_FEATURE },
    [SKI_VHOST_USER_SET_VRING_CALL] = { set_call, U64, U64, ANY_FDS, NO_FEATURE },
    [SKI_VHOST_USER_SET_VRING_ERR] = { set_error, U64, U64, ANY_FDS, NO_FEATURE },
    [SKI_VHOST_USER_GET_PROTOCOL_FEATURES] = { get_protocol_features, 0, 0, 0, NO_FEATURE },
    [SKI_VHOST_USER_SET_PROTOCOL_FEATURES] = { set_protocol_features, U64, U64, 0, NO_FEATURE },
    [SKI_VHOST_USER_GET_QUEUE_NUM] = { get_queue_number, 0, 0, 0, NO_FEATURE },
    [SKI_VHOST_USER_SET_VRING_ENABLE] = { set_enable, STATE, STATE, 0, NO_FEATURE },
    [SKI_VHOST_USER_SET_BACKEND_REQ_FD] = { set_backend_fd, 0, 0, 1,
                                            SKI_VHOST_USER_PROTOCOL_BACKEND_REQ },
    [SKI_VHOST_USER_GET_CONFIG] = { get_config, 0, CONFIG, 0, SKI_VHOST_USER_PROTOCOL_CONFIG },
    [SKI_VHOST_USER_SET_CONFIG] = { set_config, 0, CONFIG, 0, SKI_VHOST_USER_PROTOCOL_CONFIG },
    [SKI_VHOST_USER_GET_INFLIGHT_FD] = { ski_backend_get_record, SKI_VHOST_USER_INFLIGHT_BYTES_MIN, RECORD, 0,
                                         SKI_VHOST_USER_PROTOCOL_INFLIGHT_SHMFD },
    [SKI_VHOST_USER_SET_INFLIGHT_FD] = { ski_backend_set_record, SKI_VHOST_USER_INFLIGHT_BYTES_MIN, RECORD, 1,
                                         SKI_VHOST_USER_PROTOCOL_INFLIGHT_SHMFD },
    [SKI_VHOST_USER_RESET_DEVICE] = { reset, 0, 0, 0, SKI_VHOST_USER_PROTOCOL_RESET_DEVICE },
    [SKI_VHOST_USER_GET_MAX_MEM_SLOTS] = { ski_backend_get_slots, 0, 0, 0,
                                           SKI_VHOST_USER_PROTOCOL_CONFIGURE_MEM_SLOTS },
    [SKI_VHOST_USER_ADD_MEM_REG] = { ski_backend_add_memory, REGION, REGION, 1,
                                     SKI_VHOST_USER_PROTOCOL_CONFIGURE_MEM_SLOTS },
    /* Some front ends send a descriptor with it, which is to be closed. */
    [SKI_VHOST_USER_REM_MEM_REG] = { ski_backend_remove_memory, REGION, REGION, ANY_FDS,
                                     SKI_VHOST_USER_PROTOCOL_CONFIGURE_MEM_SLOTS },
    [SKI_VHOST_USER_SET_STATUS] = { set_status, U64, U64, 0, SKI_VHOST_USER_PROTOCOL_STATUS },
    [SKI_VHOST_USER_GET_STATUS] = { get_status, 0, 0, 0, SKI_VHOST_USER_PROTOCOL_STATUS },
};

enum ski_backend_outcome ski_backend_handle(struct ski_backend_connection *connection)
{
    struct ski_vhost_user_message *message = &connection->message;
    uint32_t request = message->header.request;
    const struct kind *kind;

    if (request >= sizeof(kinds) / sizeof(kinds[0]) || kinds[request].handle == NULL) {
        return SKI_BACKEND_REFUSED;
    }
    kind = &kinds[request];
    if ((message->header.flags & SKI_VHOST_USER_REPLY) != 0 ||
        message->header.size < kind->size_min || message->header.size > kind->size_max ||
        (kind->fds != ANY_FDS && message->fd_count != kind->fds) ||
        (kind->feature != NO_FEATURE &&
         (connection->protocol_features >> kind->feature & 1) == 0)) {
        return SKI_BACKEND_END;
    }
    return kind->handle(connection);
}
