/* SPDX-License-Identifier: MIT */
#include "daemon.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define PROGRAM "qemu-storage-daemon"
#define LISTENING 0x10000u /* in /proc/net/unix */

bool daemon_exists(void)
{
    char path[4096];
    const char *folders = getenv("PATH");

    while (folders != NULL && *folders != '\0') {
        size_t length = strcspn(folders, ":");

        (void)snprintf(path, sizeof(path), "%.*s/" PROGRAM, (int)length, folders);
        if (access(path, X_OK) == 0) {
            return true;
        }
        folders += length + (folders[length] == ':');
    }
    return false;
}

uint8_t daemon_byte(uint64_t offset)
{
    return (uint8_t)(offset * 7 + (offset >> 9) * 13 + (offset >> 20));
}

void daemon_init(struct daemon *daemon, uint64_t bytes)
{
    static uint8_t piece[1 << 16];
    int fd;

    memset(daemon, 0, sizeof(*daemon));
    strcpy(daemon->folder, "/tmp/skio-daemon-XXXXXX");
    assert_non_null(mkdtemp(daemon->folder));
    (void)snprintf(daemon->image, sizeof(daemon->image), "%s/image", daemon->folder);
    (void)snprintf(daemon->socket, sizeof(daemon->socket), "%s/socket", daemon->folder);
    daemon->bytes = bytes;
    fd = open(daemon->image, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    for (uint64_t offset = 0; offset < bytes; offset += sizeof(piece)) {
        for (size_t i = 0; i < sizeof(piece); i++) {
            piece[i] = daemon_byte(offset + i);
        }
        assert_int_equal(write(fd, piece, sizeof(piece)), sizeof(piece));
    }
    assert_int_equal(close(fd), 0);
}

/* In the child: never returns. */
static void run(const struct daemon *daemon, unsigned milliseconds)
{
    char blockdev[256];
    char export[512];

    (void)snprintf(blockdev, sizeof(blockdev),
                   "driver=file,node-name=file,filename=%s,discard=unmap,detect-zeroes=unmap",
                   daemon->image);
    (void)snprintf(export, sizeof(export),
                   "type=vhost-user-blk,id=disk,node-name=file,addr.type=unix,addr.path=%s%s",
                   daemon->socket, daemon->export_options);
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)usleep(milliseconds * 1000);
    execlp(PROGRAM, PROGRAM, "--blockdev", blockdev, "--export", export, (char *)NULL);
    _exit(127);
}

/*
 * A socket's path is there before somebody listens on it, so the kernel is asked;
 * trying to connect would make the daemon serve the one who tried.
 */
static bool listens(const char *path)
{
    FILE *table = fopen("/proc/net/unix", "re");
    char line[512];
    bool found = false;

    assert_non_null(table);
    while (!found && fgets(line, sizeof(line), table) != NULL) {
        unsigned flags;
        char name[256];

        /* address: references protocol flags type state inode path */
        found = sscanf(line, "%*s %*s %*s %x %*s %*s %*s %255s", &flags, name) == 2 &&
                (flags & LISTENING) != 0 && strcmp(name, path) == 0;
    }
    (void)fclose(table);
    return found;
}

void daemon_start_late(struct daemon *daemon, unsigned milliseconds)
{
    assert_int_equal(daemon->pid, 0);
    (void)unlink(daemon->socket);
    daemon->pid = fork();
    assert_true(daemon->pid >= 0);
    if (daemon->pid == 0) {
        run(daemon, milliseconds);
    }
}

void daemon_start(struct daemon *daemon)
{
    daemon_start_late(daemon, 0);
    for (unsigned i = 0; i < 6000 && !listens(daemon->socket); i++) {
        int status;

        if (waitpid(daemon->pid, &status, WNOHANG) == daemon->pid) {
            daemon->pid = 0;
            fail_msg(PROGRAM " ended with status %d", status);
        }
        (void)usleep(10000);
    }
    assert_true(listens(daemon->socket));
}

static void end(struct daemon *daemon, int signal)
{
    int status;

    if (daemon->pid > 0) {
        (void)kill(daemon->pid, signal);
        (void)waitpid(daemon->pid, &status, 0);
        daemon->pid = 0;
    }
}

void daemon_kill(struct daemon *daemon)
{
    end(daemon, SIGKILL);
}

void daemon_stop(struct daemon *daemon)
{
    end(daemon, SIGTERM);
}

void daemon_deinit(struct daemon *daemon)
{
    end(daemon, SIGKILL);
    (void)unlink(daemon->socket);
    (void)unlink(daemon->image);
    (void)rmdir(daemon->folder);
}

void daemon_read_image(const struct daemon *daemon, uint64_t offset, void *out, size_t bytes)
{
    int fd = open(daemon->image, O_RDONLY | O_CLOEXEC);

    assert_true(fd >= 0);
    assert_int_equal(pread(fd, out, bytes, (off_t)offset), bytes);
    assert_int_equal(close(fd), 0);
}
