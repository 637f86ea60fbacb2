/* SPDX-License-Identifier: MIT */
/*
 * qemu-storage-daemon as the other side: one disk image in a folder of its
 * own, exported over a UNIX socket.
 */
#ifndef TESTS_HOSTED_DAEMON_H
#define TESTS_HOSTED_DAEMON_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct daemon {
    char folder[64];
    char image[96];
    char socket[96];
    char export_options[64]; /* ",num-queues=2", ...; set before a start */
    uint64_t bytes;
    pid_t pid; /* 0: not running */
};

/* True if there is such a daemon on this machine. */
bool daemon_exists(void);

/* Makes folder and image, of `bytes` that only depend on their place; nothing runs yet. */
void daemon_init(struct daemon *daemon, uint64_t bytes);

/* Starts it, and returns when it listens; fails the test if it does not. */
void daemon_start(struct daemon *daemon);

/* Returns at once; it starts after some milliseconds. */
void daemon_start_late(struct daemon *daemon, unsigned milliseconds);

/* Ends it at once (SIGKILL) or in its own way, and waits until it is gone. */
void daemon_kill(struct daemon *daemon);
void daemon_stop(struct daemon *daemon);

/* Stops it and removes everything. */
void daemon_deinit(struct daemon *daemon);

/* What the image has at its start: a pattern of the place. */
uint8_t daemon_byte(uint64_t offset);

/* Reads of the image itself, past the daemon. */
void daemon_read_image(const struct daemon *daemon, uint64_t offset, void *out, size_t bytes);

#endif
