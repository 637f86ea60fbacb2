/* SPDX-License-Identifier: MIT */
#include "backend_private.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define BACKLOG 16

/* ---- The address ------------------------------------------------------------------------- */

static bool fill_address(const char *text, struct sockaddr_un *out_address, socklen_t *out_length)
{
    size_t length = strlen(text);

    memset(out_address, 0, sizeof(*out_address));
    out_address->sun_family = AF_UNIX;
    if (length < 2 - (text[0] != '@') || length >= sizeof(out_address->sun_path)) {
        return false;
    }
    memcpy(out_address->sun_path, text, length);
    if (text[0] == '@') {
        out_address->sun_path[0] = '\0';
        *out_length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length);
    } else {
        *out_length = (socklen_t)sizeof(*out_address);
    }
    return true;
}

/* True if a socket lies there that nobody listens on. */
static bool is_left_over(const struct sockaddr_un *address, socklen_t length)
{
    struct stat stat;
    int fd;
    bool refused;

    if (lstat(address->sun_path, &stat) != 0 || !S_ISSOCK(stat.st_mode)) {
        return false;
    }
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return false;
    }
    refused = connect(fd, (const struct sockaddr *)address, length) != 0 && errno == ECONNREFUSED;
    (void)close(fd);
    return refused;
}

static enum sk_status bind_socket(int fd, const struct sockaddr_un *address, socklen_t length)
{
    bool has_path = address->sun_path[0] != '\0';

    if (bind(fd, (const struct sockaddr *)address, length) == 0) {
        return SK_OK;
    }
    if (errno != EADDRINUSE) {
        return SK_ERR_IO;
    }
    if (!has_path || !is_left_over(address, length) || unlink(address->sun_path) != 0) {
        return SK_ERR_BUSY;
    }
    return bind(fd, (const struct sockaddr *)address, length) == 0 ? SK_OK : SK_ERR_BUSY;
}

static void remember_path(struct sk_backend *backend, const struct sockaddr_un *address)
{
    struct stat stat;

    if (address->sun_path[0] != '\0' && lstat(address->sun_path, &stat) == 0) {
        memcpy(backend->path, address->sun_path, sizeof(backend->path));
        backend->path_device = (uint64_t)stat.st_dev;
        backend->path_inode = (uint64_t)stat.st_ino;
        backend->owns_path = true;
    }
}

static enum sk_status inherit(struct sk_backend *backend, const char *number, char *out_error)
{
    char *end;
    long fd = strtol(number, &end, 10);
    int listens = 0;
    socklen_t length = sizeof(listens);

    if (end == number || *end != '\0' || fd < 0 || fd > INT32_MAX) {
        ski_backend_explain(out_error, "fd:%s is no descriptor's number", number);
        return SK_ERR_INVALID;
    }
    if (getsockopt((int)fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &length) != 0) {
        ski_backend_explain(out_error, "descriptor %ld is no socket", fd);
        return SK_ERR_INVALID;
    }
    (void)fcntl((int)fd, F_SETFD, FD_CLOEXEC);
    if (listens != 0) {
        backend->listen_fd = (int)fd;
    } else {
        backend->inherited_fd = (int)fd;
    }
    return SK_OK;
}

enum sk_status ski_backend_listen(struct sk_backend *backend, char *out_error)
{
    const char *text = backend->options.address;
    struct sockaddr_un address;
    enum sk_status status;
    socklen_t length;
    int fd;

    if (text == NULL || !fill_address(text, &address, &length)) {
        ski_backend_explain(out_error, "the socket's address is missing or too long");
        return SK_ERR_INVALID;
    }
    if (strncmp(text, "fd:", 3) == 0) {
        return inherit(backend, text + 3, out_error);
    }
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        ski_backend_explain(out_error, "no socket: %s", strerror(errno));
        return SK_ERR_IO;
    }
    status = bind_socket(fd, &address, length);
    if (status == SK_OK && listen(fd, BACKLOG) != 0) {
        status = SK_ERR_IO;
    }
    if (status != SK_OK) {
        ski_backend_explain(out_error, "%s: %s", text,
                            status == SK_ERR_BUSY ? "somebody listens there, or it is no socket"
                                                  : strerror(errno));
        (void)close(fd);
        return status;
    }
    remember_path(backend, &address);
    backend->listen_fd = fd;
    return SK_OK;
}

void ski_backend_unlisten(struct sk_backend *backend)
{
    struct stat stat;

    if (backend->owns_path && lstat(backend->path, &stat) == 0 &&
        (uint64_t)stat.st_dev == backend->path_device &&
        (uint64_t)stat.st_ino == backend->path_inode) {
        (void)unlink(backend->path);
    }
    if (backend->listen_fd >= 0) {
        (void)close(backend->listen_fd);
    }
    if (backend->inherited_fd >= 0) {
        (void)close(backend->inherited_fd);
    }
}

/* ---- Connections ------------------------------------------------------------------------- */

static void add_connection(struct sk_backend *backend, int socket)
{
    struct ski_backend_connection **place = NULL;

    (void)pthread_mutex_lock(&backend->lock);
    for (uint32_t i = 0; i < backend->options.connection_count && place == NULL; i++) {
        if (backend->connections[i] == NULL) {
            place = &backend->connections[i];
        }
    }
    if (place == NULL) {
        sk_log_print(&backend->log, SK_LOG_WARNING, "backend: no room for another connection");
        (void)close(socket);
    } else if (ski_backend_connection_open(backend, socket, backend->connection_next, place) ==
               SK_OK) {
        backend->connection_next++;
    } else {
        sk_log_print(&backend->log, SK_LOG_ERROR, "backend: no memory for another connection");
    }
    (void)pthread_mutex_unlock(&backend->lock);
}

/* Frees the connections that ended; or all, after having told them. */
static void reap(struct sk_backend *backend, bool all)
{
    struct ski_backend_connection *over[SK_BACKEND_CONNECTIONS_MAX];
    uint32_t count = 0;

    (void)pthread_mutex_lock(&backend->lock);
    for (uint32_t i = 0; i < SK_BACKEND_CONNECTIONS_MAX; i++) {
        struct ski_backend_connection *connection = backend->connections[i];

        if (connection != NULL && (all || atomic_load(&connection->is_over))) {
            ski_backend_connection_wake(connection);
            over[count++] = connection;
            backend->connections[i] = NULL;
        }
    }
    (void)pthread_mutex_unlock(&backend->lock);
    for (uint32_t i = 0; i < count; i++) {
        ski_backend_connection_close(over[i]);
    }
}

static void accept_one(struct sk_backend *backend)
{
    int socket = accept4(backend->listen_fd, NULL, NULL, SOCK_CLOEXEC);

    if (socket >= 0) {
        add_connection(backend, socket);
    } else if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {
        sk_log_print(&backend->log, SK_LOG_ERROR, "backend: cannot accept: errno %d", errno);
        ski_backend_sleep_ns(10000000); /* no descriptors, say: the connection waits */
    }
}

void *ski_backend_accept_all(void *argument)
{
    struct sk_backend *backend = argument;
    struct pollfd fds[2] = { { .fd = backend->wake_fd, .events = POLLIN },
                             { .fd = backend->listen_fd, .events = POLLIN } };

    if (backend->inherited_fd >= 0) {
        add_connection(backend, backend->inherited_fd);
        backend->inherited_fd = -1;
    }
    while (!atomic_load(&backend->stop)) {
        uint64_t count;

        if (poll(fds, 2, -1) < 0) {
            continue;
        }
        if ((fds[0].revents & POLLIN) != 0 &&
            read(backend->wake_fd, &count, sizeof(count)) < 0) {
            /* Nobody else reads it, so this cannot be. */
        }
        reap(backend, false);
        if (fds[1].revents != 0) {
            accept_one(backend);
        }
    }
    reap(backend, true);
    return NULL;
}
