/* SPDX-License-Identifier: MIT */
/* Addresses of back ends, and getting a socket to one. */
#include "vhost_user_private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

/* Pause between two looks at a socket whose queue of connections is full. */
#define FULL_PAUSE_NS 10000000

int ski_vhost_user_make_event(void)
{
    return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
}

void ski_vhost_user_signal(int event)
{
    (void)eventfd_write(event, 1); /* fails if it is signalled a great deal already */
}

bool ski_vhost_user_clear(int event)
{
    uint64_t value;
    struct iovec piece = { .iov_base = &value, .iov_len = sizeof(value) };

    /* Whoever has its other end may change its flags: this must not rely on them. */
    return preadv2(event, &piece, 1, -1, RWF_NOWAIT) == (ssize_t)sizeof(value);
}

/* "fd:N": the number, or -1 if the address is of another kind, or -2 if N is none. */
static int inherited_fd(const char *address)
{
    char *end;
    long fd;

    if (strncmp(address, "fd:", 3) != 0) {
        return -1;
    }
    errno = 0;
    fd = strtol(address + 3, &end, 10);
    if (errno != 0 || end == address + 3 || *end != '\0' || fd < 0 || fd > INT32_MAX) {
        return -2;
    }
    return (int)fd;
}

static enum sk_status fail(struct sk_vhost_user *vu, bool talks, enum sk_status status,
                           const char *why)
{
    if (talks) {
        ski_vhost_user_say(vu, "%s", why);
    }
    return status;
}

/* A descriptor that we were given: a connected stream socket, made ours. */
static enum sk_status adopt(struct sk_vhost_user *vu, int fd, bool talks, int *out_socket)
{
    int type = 0;
    socklen_t length = sizeof(type);
    struct sockaddr_storage peer;
    socklen_t peer_length = sizeof(peer);

    if (fd < 0 || getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length) != 0 ||
        type != SOCK_STREAM) {
        return fail(vu, talks, SK_ERR_INVALID, "it is no stream socket of this process");
    }
    if (getpeername(fd, (struct sockaddr *)&peer, &peer_length) != 0) {
        return fail(vu, talks, SK_ERR_INVALID, "the socket is not connected");
    }
    (void)fcntl(fd, F_SETFD, FD_CLOEXEC);
    *out_socket = fd;
    return SK_OK;
}

static enum sk_status make_name(struct sk_vhost_user *vu, bool talks, struct sockaddr_un *out_name,
                                socklen_t *out_length)
{
    size_t length = strlen(vu->address);
    bool abstract = vu->address[0] == '@';

    (void)memset(out_name, 0, sizeof(*out_name));
    out_name->sun_family = AF_UNIX;
    if (length == 0 || (abstract && length == 1)) {
        return fail(vu, talks, SK_ERR_INVALID, "the address is empty");
    }
    if (length > sizeof(out_name->sun_path) - 1) {
        return fail(vu, talks, SK_ERR_INVALID,
                    "the address is too long for a socket (most: 107 characters); "
                    "a relative path may be shorter");
    }
    (void)memcpy(out_name->sun_path, vu->address, length);
    if (abstract) {
        out_name->sun_path[0] = '\0';
    }
    *out_length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length + !abstract);
    return SK_OK;
}

static bool is_socket(const char *path)
{
    struct stat status;

    return stat(path, &status) != 0 || S_ISSOCK(status.st_mode);
}

static enum sk_status explain(struct sk_vhost_user *vu, bool talks, int error)
{
    switch (error) {
    case ENOENT:
    case ENOTDIR:
        return fail(vu, talks, SK_ERR_NOT_FOUND, "there is no such socket; start the back end first");
    case ECONNREFUSED:
        if (vu->address[0] != '@' && !is_socket(vu->address)) {
            return fail(vu, talks, SK_ERR_INVALID, "it is no socket");
        }
        return fail(vu, talks, SK_ERR_NOT_FOUND,
                    "nobody listens on the socket; start the back end first");
    case EACCES:
    case EPERM:
        return fail(vu, talks, SK_ERR_IO, "no permission to connect to the socket");
    case EPROTOTYPE:
        return fail(vu, talks, SK_ERR_INVALID, "it is a socket, but not a stream");
    case EMFILE:
    case ENFILE:
        return fail(vu, talks, SK_ERR_NO_MEMORY, "there are no file descriptors left");
    default:
        break;
    }
    if (talks) {
        ski_vhost_user_say(vu, "cannot connect: error %d", error);
    }
    return SK_ERR_IO;
}

static enum sk_status connect_by(struct sk_vhost_user *vu, int fd, uint64_t deadline_ns, bool talks)
{
    static const struct timespec pause = { .tv_nsec = FULL_PAUSE_NS };
    struct sockaddr_un name;
    socklen_t length;
    enum sk_status status = make_name(vu, talks, &name, &length);

    if (status != SK_OK) {
        return status;
    }
    while (connect(fd, (struct sockaddr *)&name, length) != 0) {
        int error = errno;

        if (error != EAGAIN && error != EINTR) {
            return explain(vu, talks, error);
        }
        if (ski_vhost_user_now() >= deadline_ns) {
            return fail(vu, talks, SK_ERR_TIMEOUT, "the back end accepts no connection");
        }
        (void)nanosleep(&pause, NULL);
    }
    return SK_OK;
}

enum sk_status ski_vhost_user_connect(struct sk_vhost_user *vu, uint64_t deadline_ns, bool talks,
                                      int *out_socket)
{
    int inherited = inherited_fd(vu->address);
    enum sk_status status;
    int fd;

    if (inherited != -1) {
        return vu->connection > 0
                   ? fail(vu, talks, SK_ERR_BROKEN, "an inherited socket cannot be connected again")
                   : adopt(vu, inherited, talks, out_socket);
    }
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return explain(vu, talks, errno);
    }
    status = connect_by(vu, fd, deadline_ns, talks);
    if (status != SK_OK) {
        (void)close(fd);
        return status;
    }
    *out_socket = fd;
    return SK_OK;
}
