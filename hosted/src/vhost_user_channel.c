/* SPDX-License-Identifier: MIT */
/* A request and its answer; and all that ends a connection. */
#include "vhost_user_private.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* How much a back end that was told to go may still say before we look again; pieces. */
#define DRAIN_PIECES 64u

/* ---- The end of a connection ------------------------------------------------------------- */

void ski_vhost_user_announce(struct sk_vhost_user *vu)
{
    vu->announces = true;
    ski_vhost_user_signal(vu->wake_event);
}

/* A thread that sleeps on a socket keeps it open: the peer has to see its end all the same. */
static void close_socket(int *socket)
{
    if (*socket >= 0) {
        (void)shutdown(*socket, SHUT_RDWR);
        (void)close(*socket);
        *socket = -1;
    }
}

void ski_vhost_user_close_sockets(struct sk_vhost_user *vu)
{
    close_socket(&vu->socket);
    close_socket(&vu->backend_channel);
    for (uint32_t i = 0; i < vu->options.queue_count; i++) {
        vu->queues[i].started = false;
    }
}

bool ski_vhost_user_is_hung_up(const struct sk_vhost_user *vu)
{
    struct pollfd look = { .fd = vu->socket };

    return vu->socket < 0 || (poll(&look, 1, 0) > 0 && (look.revents & (POLLHUP | POLLERR)) != 0);
}

void ski_vhost_user_gone(struct sk_vhost_user *vu)
{
    ski_vhost_user_close_sockets(vu);
    switch (atomic_load(&vu->phase)) {
    case SKI_VHOST_USER_RUNNING:
        vu->lost_ns = ski_vhost_user_now();
        vu->phase = vu->resumable ? SKI_VHOST_USER_LOST : SKI_VHOST_USER_FAILED;
        if (!vu->resumable) {
            ski_vhost_user_say(vu, "the back end went away");
        }
        ski_vhost_user_announce(vu);
        break;
    case SKI_VHOST_USER_DRAINING:
        vu->phase = vu->status == 0 ? SKI_VHOST_USER_CLOSED : SKI_VHOST_USER_FAILED;
        break;
    case SKI_VHOST_USER_AGREED:
        vu->phase = SKI_VHOST_USER_CLOSED;
        break;
    default: /* LOST: another one will be looked for */
        break;
    }
}

static bool has_started_rings(const struct sk_vhost_user *vu)
{
    for (uint32_t i = 0; i < vu->options.queue_count; i++) {
        if (vu->queues[i].started) {
            return true;
        }
    }
    return false;
}

void ski_vhost_user_hang_up(struct sk_vhost_user *vu)
{
    if (vu->socket >= 0 && has_started_rings(vu)) {
        (void)shutdown(vu->socket, SHUT_WR); /* the back end ends its work and closes, or is stuck */
        vu->phase = SKI_VHOST_USER_DRAINING;
        ski_vhost_user_announce(vu);
        return;
    }
    ski_vhost_user_close_sockets(vu);
    if (vu->phase == SKI_VHOST_USER_AGREED) {
        vu->phase = SKI_VHOST_USER_CLOSED;
    } else if (vu->phase == SKI_VHOST_USER_RUNNING) { /* was about to */
        vu->phase = SKI_VHOST_USER_FAILED;
    }
}

void ski_vhost_user_drain(struct sk_vhost_user *vu)
{
    uint8_t bytes[4096];

    for (unsigned i = 0; i < DRAIN_PIECES; i++) {
        if (recv(vu->socket, bytes, sizeof(bytes), MSG_DONTWAIT) <= 0) {
            break;
        }
    }
    if (ski_vhost_user_is_hung_up(vu)) {
        ski_vhost_user_gone(vu);
    }
}

/* Whatever was wrong: from now on nothing is said to this back end. */
static enum sk_status end(struct sk_vhost_user *vu, enum sk_status status)
{
    if (status == SK_ERR_GONE || ski_vhost_user_is_hung_up(vu)) {
        ski_vhost_user_gone(vu);
        return status == SK_ERR_GONE || vu->resuming ? SK_ERR_BROKEN : status;
    }
    ski_vhost_user_hang_up(vu);
    return status;
}

enum sk_status ski_vhost_user_refuse(struct sk_vhost_user *vu, uint32_t request, const char *what,
                                     uint64_t value)
{
    ski_vhost_user_say(vu, "the answer to %s is not valid: %s %llu",
                       ski_vhost_user_request_name(request), what, (unsigned long long)value);
    return end(vu, SK_ERR_MALFORMED);
}

static enum sk_status fail(struct sk_vhost_user *vu, uint32_t request, enum sk_status status,
                           const struct ski_vhost_user_message *message)
{
    const char *name = ski_vhost_user_request_name(request);

    if (status == SK_ERR_GONE && vu->resuming) {
        return end(vu, status); /* it is looked for further; the end of that is said */
    }
    if (status == SK_ERR_GONE) {
        ski_vhost_user_say(vu, "the back end closed the connection at %s", name);
    } else if (status == SK_ERR_TIMEOUT) {
        ski_vhost_user_say(vu, "the back end did not answer %s in time", name);
    } else {
        ski_vhost_user_say(vu, "%s: %s %llu; is it a vhost-user socket?", name, message->fault,
                           (unsigned long long)message->fault_value);
    }
    return end(vu, status);
}

/* ---- Requests ---------------------------------------------------------------------------- */

/* Before a request there is nothing to be read: no answer is owed. */
static enum sk_status expect_silence(struct sk_vhost_user *vu, uint32_t request)
{
    uint8_t byte;
    ssize_t length = recv(vu->socket, &byte, 1, MSG_PEEK | MSG_DONTWAIT);

    if (length > 0) {
        ski_vhost_user_say(vu, "the back end spoke without being asked, before %s",
                           ski_vhost_user_request_name(request));
        return end(vu, SK_ERR_MALFORMED);
    }
    if (length == 0 || (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)) {
        if (!vu->resuming) {
            ski_vhost_user_say(vu, "the back end closed the connection before %s",
                               ski_vhost_user_request_name(request));
        }
        return end(vu, SK_ERR_GONE);
    }
    return SK_OK;
}

/* Whether an answer has the length that it has to have. */
static bool length_fits(const struct ski_vhost_user_message *answer, uint32_t bytes)
{
    uint32_t length = answer->header.size;

    switch (answer->header.request) {
    case SKI_VHOST_USER_GET_CONFIG:
        return length == bytes || length == 0; /* 0: there is no such part */
    case SKI_VHOST_USER_GET_INFLIGHT_FD:
        return length == bytes || length == SKI_VHOST_USER_INFLIGHT_BYTES_MIN;
    default:
        return length == bytes;
    }
}

static enum sk_status check_answer(struct sk_vhost_user *vu, uint32_t request,
                                   struct ski_vhost_user_message *answer, uint32_t bytes)
{
    uint32_t fds = request == SKI_VHOST_USER_GET_INFLIGHT_FD ? 1 : 0;
    const char *what = NULL;
    uint64_t value = 0;

    if (answer->header.request != request) {
        what = "it answers request";
        value = answer->header.request;
    } else if ((answer->header.flags & SKI_VHOST_USER_REPLY) == 0) {
        what = "it is no reply; flags";
        value = answer->header.flags;
    } else if (!length_fits(answer, bytes)) {
        what = "bytes";
        value = answer->header.size;
    } else if (answer->fd_count != fds) {
        what = "file descriptors";
        value = answer->fd_count;
    }
    if (what == NULL) {
        return SK_OK;
    }
    ski_vhost_user_close_fds(answer);
    return ski_vhost_user_refuse(vu, request, what, value);
}

static uint64_t deadline_of(const struct sk_vhost_user *vu, uint64_t deadline_ns)
{
    uint64_t now = ski_vhost_user_now();

    return deadline_ns - now > vu->options.message_ns && deadline_ns > now
               ? now + vu->options.message_ns
               : deadline_ns;
}

enum sk_status ski_vhost_user_ask(struct sk_vhost_user *vu, struct ski_vhost_user_message *message,
                                  uint32_t reply_bytes, uint64_t deadline_ns)
{
    uint32_t request = message->header.request;
    bool acknowledged = reply_bytes == SKI_VHOST_USER_NO_REPLY &&
                        ski_vhost_user_has(vu, SKI_VHOST_USER_PROTOCOL_REPLY_ACK);
    uint64_t deadline = deadline_of(vu, deadline_ns);
    enum sk_status status;

    if (vu->socket < 0 || vu->phase == SKI_VHOST_USER_DRAINING) {
        return SK_ERR_BROKEN;
    }
    if (vu->resuming && vu->abandoned) {
        return end(vu, SK_ERR_TIMEOUT);
    }
    status = expect_silence(vu, request);
    if (status != SK_OK) {
        return status;
    }
    message->header.flags |= acknowledged ? SKI_VHOST_USER_NEED_REPLY : 0;
    status = ski_vhost_user_send(vu->socket, message, deadline);
    if (status == SK_OK && (acknowledged || reply_bytes != SKI_VHOST_USER_NO_REPLY)) {
        status = ski_vhost_user_receive(vu->socket, deadline, message);
        if (status == SK_OK) {
            status = check_answer(vu, request, message, acknowledged ? 8 : reply_bytes);
            return status == SK_OK && acknowledged && message->payload.u64 != 0
                       ? SK_ERR_UNSUPPORTED
                       : status;
        }
    }
    return status == SK_OK ? SK_OK : fail(vu, request, status, message);
}

enum sk_status ski_vhost_user_set_u64(struct sk_vhost_user *vu, uint32_t request, uint64_t value,
                                      uint64_t deadline_ns)
{
    struct ski_vhost_user_message message;

    ski_vhost_user_prepare(&message, request, sizeof(value));
    message.payload.u64 = value;
    return ski_vhost_user_ask(vu, &message, SKI_VHOST_USER_NO_REPLY, deadline_ns);
}

enum sk_status ski_vhost_user_get_u64(struct sk_vhost_user *vu, uint32_t request,
                                      uint64_t *out_value, uint64_t deadline_ns)
{
    struct ski_vhost_user_message message;
    enum sk_status status;

    ski_vhost_user_prepare(&message, request, 0);
    status = ski_vhost_user_ask(vu, &message, sizeof(*out_value), deadline_ns);
    if (status == SK_OK) {
        *out_value = message.payload.u64;
    }
    return status;
}

enum sk_status ski_vhost_user_set_vring(struct sk_vhost_user *vu, uint32_t request, uint32_t index,
                                        uint32_t value, uint64_t deadline_ns)
{
    struct ski_vhost_user_message message;

    ski_vhost_user_prepare(&message, request, sizeof(message.payload.state));
    message.payload.state.index = index;
    message.payload.state.num = value;
    return ski_vhost_user_ask(vu, &message, SKI_VHOST_USER_NO_REPLY, deadline_ns);
}

enum sk_status ski_vhost_user_set_fd(struct sk_vhost_user *vu, uint32_t request, uint64_t value,
                                     int fd, uint64_t deadline_ns)
{
    struct ski_vhost_user_message message;

    ski_vhost_user_prepare(&message, request,
                           request == SKI_VHOST_USER_SET_BACKEND_REQ_FD ? 0 : sizeof(value));
    message.payload.u64 = value;
    message.fds[0] = fd;
    message.fd_count = 1;
    return ski_vhost_user_ask(vu, &message, SKI_VHOST_USER_NO_REPLY, deadline_ns);
}
