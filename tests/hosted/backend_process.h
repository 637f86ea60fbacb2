/* SPDX-License-Identifier: MIT */
/*
 * A back end in a process of its own, so that it can die.  The process is the
 * test program, started again: its main hands over to backend_process_main if
 * it has arguments.
 */
#ifndef TESTS_HOSTED_BACKEND_PROCESS_H
#define TESTS_HOSTED_BACKEND_PROCESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define BACKEND_PROCESS_FAULTS_MAX 4u

struct backend_process {
    char folder[64]; /* holds the socket and the file */
    char socket[96];
    char file[96];
    uint64_t bytes;      /* of the file */
    uint32_t queues;     /* set before a start: 1 */
    uint32_t workers;    /* 1 */
    bool polls;
    bool null_store;
    const char *faults[BACKEND_PROCESS_FAULTS_MAX]; /* NULL: none */
    pid_t pid; /* 0: not running */
};

/* Makes folder and file, all zero; nothing runs yet. */
void backend_process_init(struct backend_process *process, uint64_t bytes);

/* Starts it, and returns when it listens. */
void backend_process_start(struct backend_process *process);
/* Returns at once; it listens a little later. */
void backend_process_start_soon(struct backend_process *process);

/* SIGKILL, and waits until it is gone. */
void backend_process_kill(struct backend_process *process);
/* Waits until it died by a SIGKILL of its own; false: not within 20 s, or otherwise. */
bool backend_process_died(struct backend_process *process);
/* True if it is dead by now. */
bool backend_process_is_dead(struct backend_process *process);
/* SIGTERM, and fails the test unless it ends well: no leaks, no sanitizer's complaint. */
void backend_process_stop(struct backend_process *process);

/* Stops it if it runs, and removes everything. */
void backend_process_deinit(struct backend_process *process);

/* The child's whole life. */
int backend_process_main(int argc, char **argv);

#endif
