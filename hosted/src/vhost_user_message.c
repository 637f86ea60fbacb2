/* SPDX-License-Identifier: MIT */
#include "vhost_user_message.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define SECOND_NS UINT64_C(1000000000)

uint64_t ski_vhost_user_now(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * SECOND_NS + (uint64_t)now.tv_nsec;
}

void ski_vhost_user_prepare(struct ski_vhost_user_message *message, uint32_t request,
                            uint32_t size)
{
    (void)memset(message, 0, sizeof(*message));
    message->header.request = request;
    message->header.flags = SKI_VHOST_USER_VERSION;
    message->header.size = size;
    for (uint32_t i = 0; i < SKI_VHOST_USER_FDS_MAX; i++) {
        message->fds[i] = -1;
    }
}

static enum sk_status fail(struct ski_vhost_user_message *message, enum sk_status status,
                           const char *fault, uint64_t value)
{
    message->fault = fault;
    message->fault_value = value;
    return status;
}

static enum sk_status fail_socket(struct ski_vhost_user_message *message, int error)
{
    if (error == EPIPE || error == ECONNRESET) {
        return fail(message, SK_ERR_GONE, "the peer closed the connection", (uint64_t)error);
    }
    return fail(message, SK_ERR_IO, "the socket failed", (uint64_t)error);
}

/* Waits until the socket is ready for `events` (or in error, which the next call will tell). */
static enum sk_status wait_for(int socket, short events, uint64_t deadline_ns,
                               struct ski_vhost_user_message *message)
{
    for (;;) {
        struct pollfd poll_fd = { .fd = socket, .events = events };
        uint64_t now = ski_vhost_user_now();
        uint64_t left = deadline_ns > now ? deadline_ns - now : 0;
        struct timespec timeout = { .tv_sec = (time_t)(left / SECOND_NS),
                                    .tv_nsec = (long)(left % SECOND_NS) };
        int ready = ppoll(&poll_fd, 1, &timeout, NULL);

        if (ready > 0) {
            return SK_OK;
        }
        if (ready == 0 && left == 0) {
            return fail(message, SK_ERR_TIMEOUT, "the peer did not go on in time", 0);
        }
        if (ready < 0 && errno != EINTR) {
            return fail_socket(message, errno);
        }
    }
}

/* ---- Send -------------------------------------------------------------------------------- */

/* Descriptors travel with the first byte. */
static void attach_fds(struct msghdr *header, void *control, const int *fds, uint32_t count)
{
    struct cmsghdr *part;

    header->msg_control = control;
    header->msg_controllen = CMSG_SPACE(count * sizeof(int));
    (void)memset(control, 0, header->msg_controllen);
    part = CMSG_FIRSTHDR(header);
    part->cmsg_level = SOL_SOCKET;
    part->cmsg_type = SCM_RIGHTS;
    part->cmsg_len = CMSG_LEN(count * sizeof(int));
    (void)memcpy(CMSG_DATA(part), fds, count * sizeof(int));
}

enum sk_status ski_vhost_user_send(int socket, struct ski_vhost_user_message *message,
                                   uint64_t deadline_ns)
{
    _Alignas(struct cmsghdr) uint8_t control[CMSG_SPACE(SKI_VHOST_USER_FDS_MAX * sizeof(int))];
    uint8_t bytes[sizeof(message->header) + sizeof(message->payload)];
    size_t length = sizeof(message->header) + message->header.size;
    size_t sent = 0;

    if (message->header.size > sizeof(message->payload) ||
        message->fd_count > SKI_VHOST_USER_FDS_MAX) {
        return fail(message, SK_ERR_SIZE, "the message is too long", message->header.size);
    }
    (void)memcpy(bytes, &message->header, sizeof(message->header));
    (void)memcpy(bytes + sizeof(message->header), &message->payload, message->header.size);
    while (sent < length) {
        struct iovec piece = { .iov_base = bytes + sent, .iov_len = length - sent };
        struct msghdr header = { .msg_iov = &piece, .msg_iovlen = 1 };
        enum sk_status status;
        ssize_t done;

        if (sent == 0 && message->fd_count > 0) {
            attach_fds(&header, control, message->fds, message->fd_count);
        }
        done = sendmsg(socket, &header, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (done >= 0) {
            sent += (size_t)done;
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            status = wait_for(socket, POLLOUT, deadline_ns, message);
            if (status != SK_OK) {
                return status;
            }
        } else if (errno != EINTR) {
            return fail_socket(message, errno);
        }
    }
    return SK_OK;
}

/* ---- Receive ----------------------------------------------------------------------------- */

/* Keeps the descriptors that came with a piece; those beyond the limit are closed. */
static void keep_fds(struct msghdr *header, struct ski_vhost_user_message *message,
                     bool *out_too_many)
{
    for (struct cmsghdr *part = CMSG_FIRSTHDR(header); part != NULL;
         part = CMSG_NXTHDR(header, part)) {
        size_t count;

        if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) {
            continue;
        }
        count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; i++) {
            int fd;

            (void)memcpy(&fd, CMSG_DATA(part) + i * sizeof(int), sizeof(fd));
            if (message->fd_count < SKI_VHOST_USER_FDS_MAX) {
                message->fds[message->fd_count++] = fd;
            } else {
                *out_too_many = true;
                (void)close(fd);
            }
        }
    }
    if ((header->msg_flags & MSG_CTRUNC) != 0) {
        *out_too_many = true; /* the kernel has closed those that found no room */
    }
}

/* What is there now, at most `length` bytes; *out_done 0: nothing yet. */
static enum sk_status receive_piece(int socket, void *out, size_t length,
                                    struct ski_vhost_user_message *message, bool begun,
                                    size_t *out_done)
{
    _Alignas(struct cmsghdr) uint8_t control[CMSG_SPACE(SKI_VHOST_USER_FDS_MAX * sizeof(int))];
    struct iovec piece = { .iov_base = out, .iov_len = length };
    struct msghdr header = { .msg_iov = &piece,
                             .msg_iovlen = 1,
                             .msg_control = control,
                             .msg_controllen = sizeof(control) };
    ssize_t done = recvmsg(socket, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    bool too_many = false;

    *out_done = 0;
    if (done < 0) {
        if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR) {
            return SK_OK;
        }
        return fail_socket(message, errno);
    }
    keep_fds(&header, message, &too_many);
    if (too_many) {
        return fail(message, SK_ERR_MALFORMED, "the message has too many file descriptors; most",
                    SKI_VHOST_USER_FDS_MAX);
    }
    if (done == 0 && begun) {
        return fail(message, SK_ERR_MALFORMED, "the connection ended inside a message", 0);
    }
    if (done == 0) {
        return fail(message, SK_ERR_GONE, "the peer closed the connection", 0);
    }
    *out_done = (size_t)done;
    return SK_OK;
}

static enum sk_status receive_bytes(int socket, void *out, size_t length, uint64_t deadline_ns,
                                    struct ski_vhost_user_message *message, bool begun)
{
    size_t received = 0;

    while (received < length) {
        size_t done;
        enum sk_status status = receive_piece(socket, (uint8_t *)out + received,
                                              length - received, message, begun || received > 0,
                                              &done);

        if (status == SK_OK && done == 0) {
            status = wait_for(socket, POLLIN, deadline_ns, message);
        }
        if (status != SK_OK) {
            return status;
        }
        received += done;
        /* A peer that never pauses is held to the deadline too. */
        if (received < length && ski_vhost_user_now() >= deadline_ns) {
            return fail(message, SK_ERR_TIMEOUT, "the peer did not go on in time", received);
        }
    }
    return SK_OK;
}

static enum sk_status check_header(struct ski_vhost_user_message *message)
{
    const struct ski_vhost_user_header *header = &message->header;
    uint32_t version = header->flags & SKI_VHOST_USER_VERSION_MASK;

    if (version != SKI_VHOST_USER_VERSION) {
        return fail(message, SK_ERR_MALFORMED, "the message is of another version:", version);
    }
    if (header->size > sizeof(message->payload)) {
        return fail(message, SK_ERR_MALFORMED, "the message is too long; bytes:", header->size);
    }
    return SK_OK;
}

enum sk_status ski_vhost_user_receive(int socket, uint64_t deadline_ns,
                                      struct ski_vhost_user_message *out_message)
{
    enum sk_status status;

    ski_vhost_user_prepare(out_message, 0, 0);
    status = receive_bytes(socket, &out_message->header, sizeof(out_message->header), deadline_ns,
                           out_message, false);
    if (status == SK_OK) {
        status = check_header(out_message);
    }
    if (status == SK_OK) {
        status = receive_bytes(socket, &out_message->payload, out_message->header.size,
                               deadline_ns, out_message, true);
    }
    if (status != SK_OK) {
        ski_vhost_user_close_fds(out_message);
    }
    return status;
}

void ski_vhost_user_close_fds(struct ski_vhost_user_message *message)
{
    for (uint32_t i = 0; i < message->fd_count; i++) {
        if (message->fds[i] >= 0) {
            (void)close(message->fds[i]);
            message->fds[i] = -1;
        }
    }
    message->fd_count = 0;
}

int ski_vhost_user_take_fd(struct ski_vhost_user_message *message, uint32_t index)
{
    int fd = -1;

    if (index < message->fd_count) {
        fd = message->fds[index];
        message->fds[index] = -1;
    }
    return fd;
}

const char *ski_vhost_user_request_name(uint32_t request)
{
    static const char *const names[] = {
        [SKI_VHOST_USER_GET_FEATURES] = "GET_FEATURES",
        [SKI_VHOST_USER_SET_FEATURES] = "SET_FEATURES",
        [SKI_VHOST_USER_SET_OWNER] = "SET_OWNER",
        [SKI_VHOST_USER_RESET_OWNER] = "RESET_OWNER",
        [SKI_VHOST_USER_SET_MEM_TABLE] = "SET_MEM_TABLE",
        [SKI_VHOST_USER_SET_LOG_BASE] = "SET_LOG_BASE",
        [SKI_VHOST_USER_SET_LOG_FD] = "SET_LOG_FD",
        [SKI_VHOST_USER_SET_VRING_NUM] = "SET_VRING_NUM",
        [SKI_VHOST_USER_SET_VRING_ADDR] = "SET_VRING_ADDR",
        [SKI_VHOST_USER_SET_VRING_BASE] = "SET_VRING_BASE",
        [SKI_VHOST_USER_GET_VRING_BASE] = "GET_VRING_BASE",
        [SKI_VHOST_USER_SET_VRING_KICK] = "SET_VRING_KICK",
        [SKI_VHOST_USER_SET_VRING_CALL] = "SET_VRING_CALL",
        [SKI_VHOST_USER_SET_VRING_ERR] = "SET_VRING_ERR",
        [SKI_VHOST_USER_GET_PROTOCOL_FEATURES] = "GET_PROTOCOL_FEATURES",
        [SKI_VHOST_USER_SET_PROTOCOL_FEATURES] = "SET_PROTOCOL_FEATURES",
        [SKI_VHOST_USER_GET_QUEUE_NUM] = "GET_QUEUE_NUM",
        [SKI_VHOST_USER_SET_VRING_ENABLE] = "SET_VRING_ENABLE",
        [SKI_VHOST_USER_SET_BACKEND_REQ_FD] = "SET_BACKEND_REQ_FD",
        [SKI_VHOST_USER_GET_CONFIG] = "GET_CONFIG",
        [SKI_VHOST_USER_SET_CONFIG] = "SET_CONFIG",
        [SKI_VHOST_USER_GET_INFLIGHT_FD] = "GET_INFLIGHT_FD",
        [SKI_VHOST_USER_SET_INFLIGHT_FD] = "SET_INFLIGHT_FD",
        [SKI_VHOST_USER_RESET_DEVICE] = "RESET_DEVICE",
        [SKI_VHOST_USER_GET_MAX_MEM_SLOTS] = "GET_MAX_MEM_SLOTS",
        [SKI_VHOST_USER_ADD_MEM_REG] = "ADD_MEM_REG",
        [SKI_VHOST_USER_REM_MEM_REG] = "REM_MEM_REG",
        [SKI_VHOST_USER_SET_STATUS] = "SET_STATUS",
        [SKI_VHOST_USER_GET_STATUS] = "GET_STATUS",
    };

    return request < sizeof(names) / sizeof(names[0]) && names[request] != NULL ? names[request]
                                                                               : "unknown";
}
