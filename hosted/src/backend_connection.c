/* SPDX-License-Identifier: MIT */
#include "backend_private.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define MILLISECOND_NS UINT64_C(1000000)

/* Longest time for a reply or a request of ours to leave. */
#define SEND_NS UINT64_C(2000000000)

/* Most descriptors that a fault adds to a reply. */
#define EXTRA_FDS_MAX 32u

void ski_backend_connection_wake(struct ski_backend_connection *connection)
{
    uint64_t one = 1;

    if (write(connection->wake_fd, &one, sizeof(one)) < 0) {
        /* Full: it will wake. */
    }
}

void ski_backend_visit_all(struct ski_backend_connection *connection)
{
    struct sk_backend *backend = connection->backend;
    struct ski_backend_guard *guard = ski_backend_guard();

    guard->memory = &connection->memory;
    guard->record = &connection->record;
    for (uint32_t i = 0; i < backend->options.worker_count; i++) {
        ski_backend_worker_enter(&backend->workers[i]);
    }
}

void ski_backend_visit_at_rest(struct ski_backend_connection *connection, uint32_t first,
                               uint32_t count)
{
    uint32_t waits = 0;

    for (uint32_t i = first; i < first + count; i++) {
        struct ski_backend_queue *queue = &connection->queues[i];

        ski_backend_worker_enter(queue->worker);
        queue->resting = true;
        waits += queue->away != 0;
        ski_backend_worker_leave(queue->worker);
    }
    while (waits > 0) {
        waits -= sem_wait(&connection->rested) == 0; /* else by a signal */
    }
    ski_backend_visit_all(connection);
}

void ski_backend_leave_all(struct ski_backend_connection *connection)
{
    struct sk_backend *backend = connection->backend;
    struct ski_backend_guard *guard = ski_backend_guard();

    for (uint32_t i = 0; i < backend->options.queue_count; i++) {
        connection->queues[i].resting = false;
    }
    for (uint32_t i = backend->options.worker_count; i > 0; i--) {
        ski_backend_worker_leave(&backend->workers[i - 1]);
    }
    if (guard->hits != 0) {
        atomic_store(&connection->lost_memory, true);
    }
    *guard = (struct ski_backend_guard){ NULL, NULL, 0 };
}

/* ---- Replies ----------------------------------------------------------------------------- */

/* Bytes of a reply, with more descriptors than the framing would let through. */
static bool send_raw(int socket, const uint8_t *bytes, size_t length, const int *fds,
                     uint32_t fd_count)
{
    _Alignas(struct cmsghdr) uint8_t control[CMSG_SPACE(
        (EXTRA_FDS_MAX + SKI_VHOST_USER_FDS_MAX) * sizeof(int))];
    struct iovec piece = { (void *)(uintptr_t)bytes, length };
    struct msghdr header = { .msg_iov = &piece, .msg_iovlen = 1 };

    if (fd_count > 0) {
        struct cmsghdr *part;

        memset(control, 0, sizeof(control));
        header.msg_control = control;
        header.msg_controllen = CMSG_SPACE(fd_count * sizeof(int));
        part = CMSG_FIRSTHDR(&header);
        part->cmsg_level = SOL_SOCKET;
        part->cmsg_type = SCM_RIGHTS;
        part->cmsg_len = CMSG_LEN(fd_count * sizeof(int));
        memcpy(CMSG_DATA(part), fds, fd_count * sizeof(int));
    }
    return sendmsg(socket, &header, MSG_NOSIGNAL) == (ssize_t)length;
}

/* How a reply is sent on a bad day. */
struct manner {
    uint32_t extra_fds;
    bool dies;
    bool closes;
    bool in_pieces;
    uint64_t pause_ns;
};

static bool hits(struct ski_backend_connection *connection, enum sk_backend_fault_kind kind,
                 uint64_t *out_value)
{
    return ski_backend_fault_hits(&connection->backend->faults, kind, out_value);
}

/* Changes the reply as the faults say; false: it is not sent. */
static bool spoil(struct ski_backend_connection *connection, struct manner *out_manner)
{
    struct ski_vhost_user_message *message = &connection->message;
    uint64_t value;

    *out_manner = (struct manner){ 0 };
    if (hits(connection, SK_BACKEND_MUTE, &value)) {
        return false;
    }
    if (hits(connection, SK_BACKEND_SLOW_REPLY, &value)) {
        ski_backend_sleep_ns(value * MILLISECOND_NS);
    }
    if (hits(connection, SK_BACKEND_LIE_PAYLOAD, &value)) {
        for (uint32_t i = 0; i < message->header.size; i++) {
            message->payload.bytes[i] = (uint8_t)~message->payload.bytes[i];
        }
    }
    if (hits(connection, SK_BACKEND_LIE_REQUEST, &value)) {
        message->header.request = (uint32_t)value;
    }
    if (hits(connection, SK_BACKEND_LIE_FLAGS, &value)) {
        message->header.flags = (uint32_t)value;
    }
    if (hits(connection, SK_BACKEND_EXTRA_FDS, &value)) {
        out_manner->extra_fds = value < EXTRA_FDS_MAX ? (uint32_t)value : EXTRA_FDS_MAX;
    }
    out_manner->dies = hits(connection, SK_BACKEND_DIE_REPLYING, &value);
    out_manner->closes = hits(connection, SK_BACKEND_CLOSE_REPLYING, &value);
    out_manner->in_pieces = hits(connection, SK_BACKEND_PIECES, &value);
    out_manner->pause_ns = out_manner->in_pieces ? value * MILLISECOND_NS : 0;
    return true;
}

static bool send_spoilt(struct ski_backend_connection *connection, const struct manner *manner)
{
    struct ski_vhost_user_message *message = &connection->message;
    uint8_t bytes[sizeof(message->header) + sizeof(message->payload)];
    size_t length = sizeof(message->header) + message->header.size;
    int fds[SKI_VHOST_USER_FDS_MAX + EXTRA_FDS_MAX];
    uint32_t fd_count = message->fd_count;
    size_t step = manner->in_pieces ? 1 : length;
    uint64_t value;

    if (hits(connection, SK_BACKEND_LIE_SIZE, &value)) {
        message->header.size = (uint32_t)value;
    }
    memcpy(bytes, &message->header, sizeof(message->header));
    memcpy(bytes + sizeof(message->header), &message->payload, length - sizeof(message->header));
    memcpy(fds, message->fds, fd_count * sizeof(int));
    for (uint32_t i = 0; i < manner->extra_fds; i++) {
        fds[fd_count++] = connection->wake_fd;
    }
    if (manner->dies || manner->closes) {
        (void)send_raw(connection->socket, bytes, length / 2, fds, fd_count);
        if (manner->dies) {
            (void)kill(getpid(), SIGKILL);
        }
        return false;
    }
    for (size_t sent = 0; sent < length; sent += step) {
        if (!send_raw(connection->socket, bytes + sent, step, fds, sent == 0 ? fd_count : 0)) {
            return false;
        }
        ski_backend_sleep_ns(manner->pause_ns);
    }
    return true;
}

/* Sends connection->message as a reply and closes its descriptors; false: the connection ends. */
static bool reply(struct ski_backend_connection *connection, bool faulty)
{
    struct ski_vhost_user_message *message = &connection->message;
    struct manner manner;
    bool good = true;

    message->header.flags = SKI_VHOST_USER_VERSION | SKI_VHOST_USER_REPLY;
    if (!faulty) {
        good = ski_vhost_user_send(connection->socket, message, ski_vhost_user_now() + SEND_NS) ==
               SK_OK;
    } else if (spoil(connection, &manner)) {
        good = send_spoilt(connection, &manner);
    }
    ski_vhost_user_close_fds(message);
    return good;
}

/* ---- Messages ---------------------------------------------------------------------------- */

static bool stops_or_resets(uint32_t request)
{
    return request == SKI_VHOST_USER_GET_VRING_BASE || request == SKI_VHOST_USER_RESET_DEVICE ||
           request == SKI_VHOST_USER_SET_STATUS || request == SKI_VHOST_USER_GET_STATUS;
}

static bool is_faulty(const struct ski_backend_connection *connection, uint32_t request)
{
    const struct ski_backend_faults *faults = &connection->backend->faults;
    uint64_t value;

    return faults->count > 0 &&
           (!ski_backend_fault_is_set(faults, SK_BACKEND_FAULTY_REQUEST, &value) ||
            value == request);
}

/* Replies as the outcome says; false: the connection ends. */
static bool conclude(struct ski_backend_connection *connection, enum ski_backend_outcome outcome,
                     uint32_t request, bool wants_reply, bool faulty)
{
    struct ski_vhost_user_message *message = &connection->message;

    if (outcome == SKI_BACKEND_END) {
        return false;
    }
    if (outcome != SKI_BACKEND_REPLY) {
        if (!wants_reply || !ski_backend_speaks(connection, SKI_VHOST_USER_PROTOCOL_REPLY_ACK)) {
            return outcome == SKI_BACKEND_DONE;
        }
        ski_vhost_user_close_fds(message);
        ski_vhost_user_prepare(message, request, sizeof(message->payload.u64));
        message->payload.u64 = outcome == SKI_BACKEND_REFUSED;
    }
    return reply(connection, faulty);
}

static void say_broken(struct ski_backend_connection *connection, const char *what, uint64_t value)
{
    struct sk_backend *backend = connection->backend;

    atomic_fetch_add(&backend->connections_broken, 1);
    sk_log_print(&backend->log, SK_LOG_WARNING, "backend: connection %u ends: %s %llu",
                 connection->number, what, (unsigned long long)value);
}

/* One message; false: the connection ends. */
static bool serve_message(struct ski_backend_connection *connection)
{
    struct sk_backend *backend = connection->backend;
    struct ski_vhost_user_message *message = &connection->message;
    enum sk_status status =
        ski_vhost_user_receive(connection->socket,
                               ski_vhost_user_now() + backend->options.message_ns, message);
    uint32_t request = message->header.request;
    bool wants_reply = (message->header.flags & SKI_VHOST_USER_NEED_REPLY) != 0;
    bool faulty = is_faulty(connection, request);
    enum ski_backend_outcome outcome;
    uint64_t value;

    if (status != SK_OK) {
        if (status != SK_ERR_GONE) {
            say_broken(connection, message->fault, message->fault_value);
        }
        return false;
    }
    atomic_fetch_add(&backend->messages, 1);
    if (faulty) {
        ski_backend_fault_die(&backend->faults, SK_BACKEND_DIE_RECEIVED);
        if (hits(connection, SK_BACKEND_CLOSE_RECEIVED, &value)) {
            ski_vhost_user_close_fds(message);
            return false;
        }
    }
    outcome = ski_backend_handle(connection);
    if (outcome == SKI_BACKEND_END ||
        (outcome == SKI_BACKEND_REFUSED &&
         !(wants_reply && ski_backend_speaks(connection, SKI_VHOST_USER_PROTOCOL_REPLY_ACK)))) {
        say_broken(connection, "it may not send request", request);
    }
    if (faulty) {
        ski_backend_fault_die(&backend->faults, SK_BACKEND_DIE_HANDLED);
        if (hits(connection, SK_BACKEND_CLOSE_HANDLED, &value)) {
            outcome = SKI_BACKEND_END;
        }
    }
    if (stops_or_resets(request) && backend->faults.count > 0 &&
        hits(connection, SK_BACKEND_RESET_NEVER, &value)) {
        ski_vhost_user_close_fds(message);
        return true;
    }
    wants_reply = conclude(connection, outcome, request, wants_reply, faulty);
    ski_vhost_user_close_fds(message);
    return wants_reply;
}

/* Tells the front end that the configuration changed, or that the device needs a reset. */
static void tell_changes(struct ski_backend_connection *connection)
{
    struct ski_vhost_user_message message;

    if (atomic_exchange(&connection->needs_reset, false)) {
        connection->status |= SK_VIRTIO_STATUS_DEVICE_NEEDS_RESET;
        atomic_store(&connection->config_changed, true);
    }
    if (!atomic_exchange(&connection->config_changed, false) || connection->backend_fd < 0) {
        return;
    }
    ski_vhost_user_prepare(&message, SKI_VHOST_USER_BACKEND_CONFIG_CHANGE, 0);
    if (ski_vhost_user_send(connection->backend_fd, &message, ski_vhost_user_now() + SEND_NS) !=
        SK_OK) {
        (void)close(connection->backend_fd); /* the front end reads its requests elsewhere */
        connection->backend_fd = -1;
    }
}

static void serve(struct ski_backend_connection *connection)
{
    struct sk_backend *backend = connection->backend;
    struct pollfd fds[2] = { { .fd = connection->socket, .events = POLLIN },
                             { .fd = connection->wake_fd, .events = POLLIN } };

    for (;;) {
        uint64_t count;

        if (poll(fds, 2, -1) < 0 && errno != EINTR) {
            return;
        }
        if ((fds[1].revents & POLLIN) != 0 &&
            read(connection->wake_fd, &count, sizeof(count)) < 0) {
            /* Somebody was faster: nobody else reads it, so this cannot be. */
        }
        if (atomic_load(&backend->stop)) {
            return;
        }
        if (atomic_load(&connection->lost_memory)) {
            say_broken(connection, "its memory was truncated; queues:",
                       backend->options.queue_count);
            return;
        }
        tell_changes(connection);
        if (fds[0].revents != 0 && !serve_message(connection)) {
            return;
        }
        fds[0].revents = fds[1].revents = 0;
    }
}

/* ---- Life -------------------------------------------------------------------------------- */

static void release(struct ski_backend_connection *connection)
{
    struct sk_backend *backend = connection->backend;

    ski_backend_visit_at_rest(connection, 0, backend->options.queue_count);
    for (uint32_t i = 0; i < backend->options.queue_count; i++) {
        ski_backend_queue_close(&connection->queues[i]);
    }
    ski_backend_leave_all(connection);
    for (uint32_t i = 0; i < connection->memory.count; i++) {
        ski_backend_unmap(&connection->memory.regions[i]);
    }
    ski_backend_unmap(&connection->record);
    if (connection->backend_fd >= 0) {
        (void)close(connection->backend_fd);
    }
    (void)pthread_mutex_lock(&backend->lock);
    (void)close(connection->socket);
    connection->socket = -1;
    atomic_store(&connection->is_over, true);
    (void)pthread_cond_broadcast(&backend->one_is_over);
    (void)pthread_mutex_unlock(&backend->lock);
}

static bool is_hung_up(int socket)
{
    struct pollfd fd = { .fd = socket, .events = POLLRDHUP };

    return poll(&fd, 1, 0) == 1 && (fd.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
}

/*
 * A front end that comes back must find its rings at rest: those that left
 * before are let end first.
 */
static void wait_for_those_who_left(struct ski_backend_connection *connection)
{
    struct sk_backend *backend = connection->backend;
    bool found;

    (void)pthread_mutex_lock(&backend->lock);
    do {
        found = false;
        for (uint32_t i = 0; i < SK_BACKEND_CONNECTIONS_MAX && !found; i++) {
            const struct ski_backend_connection *other = backend->connections[i];

            found = other != NULL && other->number < connection->number &&
                    !atomic_load(&other->is_over) && is_hung_up(other->socket);
        }
        if (found) {
            (void)pthread_cond_wait(&backend->one_is_over, &backend->lock);
        }
    } while (found && !atomic_load(&backend->stop));
    (void)pthread_mutex_unlock(&backend->lock);
}

static void *connection_main(void *argument)
{
    struct ski_backend_connection *connection = argument;
    struct sk_backend *backend = connection->backend;
    uint64_t one = 1;

    wait_for_those_who_left(connection);
    serve(connection);
    release(connection);
    sk_log_print(&backend->log, SK_LOG_INFO, "backend: connection %u ended", connection->number);
    if (write(backend->wake_fd, &one, sizeof(one)) < 0) {
        /* Full: the listener will wake. */
    }
    return NULL;
}

enum sk_status ski_backend_connection_open(struct sk_backend *backend, int socket, uint32_t number,
                                           struct ski_backend_connection **out)
{
    struct ski_backend_connection *connection = calloc(1, sizeof(*connection));

    if (connection == NULL) {
        (void)close(socket);
        return SK_ERR_NO_MEMORY;
    }
    connection->backend = backend;
    connection->number = number;
    connection->socket = socket;
    connection->backend_fd = -1;
    connection->write_back = !backend->options.write_through;
    (void)sem_init(&connection->rested, 0, 0);
    connection->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    connection->queues = calloc(backend->options.queue_count, sizeof(*connection->queues));
    if (connection->wake_fd < 0 || connection->queues == NULL) {
        goto free_connection;
    }
    for (uint32_t i = 0; i < backend->options.queue_count; i++) {
        ski_backend_queue_init(&connection->queues[i], connection, i);
    }
    if (pthread_create(&connection->thread, NULL, connection_main, connection) != 0) {
        goto free_connection;
    }
    *out = connection;
    return SK_OK;
free_connection:
    if (connection->wake_fd >= 0) {
        (void)close(connection->wake_fd);
    }
    free(connection->queues);
    (void)sem_destroy(&connection->rested);
    free(connection);
    (void)close(socket);
    return SK_ERR_NO_MEMORY;
}

void ski_backend_connection_close(struct ski_backend_connection *connection)
{
    (void)pthread_join(connection->thread, NULL);
    (void)close(connection->wake_fd);
    free(connection->queues);
    (void)sem_destroy(&connection->rested);
    free(connection);
}
