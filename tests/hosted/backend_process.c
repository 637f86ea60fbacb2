/* SPDX-License-Identifier: MIT */
#include "backend_process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include <skio_hosted/backend.h>

#define WAIT_MS 60000

void backend_process_init(struct backend_process *process, uint64_t bytes)
{
    int fd;

    memset(process, 0, sizeof(*process));
    strcpy(process->folder, "/tmp/skio-serve-XXXXXX");
    assert_non_null(mkdtemp(process->folder));
    (void)snprintf(process->socket, sizeof(process->socket), "%s/socket", process->folder);
    (void)snprintf(process->file, sizeof(process->file), "%s/file", process->folder);
    process->bytes = bytes;
    process->queues = process->workers = 1;
    fd = open(process->file, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t)bytes), 0);
    (void)close(fd);
}

/* In the child: nothing but the exec. */
static void become_backend(const struct backend_process *process, int ready)
{
    char numbers[5][24];
    char *arguments[8 + BACKEND_PROCESS_FAULTS_MAX] = { NULL };
    unsigned count = 0;

    (void)snprintf(numbers[0], sizeof(numbers[0]), "%d", ready);
    (void)snprintf(numbers[1], sizeof(numbers[1]), "%u", process->queues);
    (void)snprintf(numbers[2], sizeof(numbers[2]), "%u", process->workers);
    (void)snprintf(numbers[3], sizeof(numbers[3]), "%d", process->polls);
    arguments[count++] = (char *)(uintptr_t) "backend";
    arguments[count++] = (char *)(uintptr_t)process->socket;
    arguments[count++] = (char *)(uintptr_t)(process->null_store ? "-" : process->file);
    for (unsigned i = 0; i < 4; i++) {
        arguments[count++] = numbers[i];
    }
    for (unsigned i = 0; i < BACKEND_PROCESS_FAULTS_MAX && process->faults[i] != NULL; i++) {
        arguments[count++] = (char *)(uintptr_t)process->faults[i];
    }
    (void)execv("/proc/self/exe", arguments);
    _exit(126);
}

static int start(struct backend_process *process)
{
    int ready[2];

    assert_int_equal(process->pid, 0);
    assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
    process->pid = fork();
    assert_true(process->pid >= 0);
    if (process->pid == 0) {
        (void)fcntl(ready[1], F_SETFD, 0);
        become_backend(process, ready[1]);
    }
    (void)close(ready[1]);
    return ready[0];
}

void backend_process_start(struct backend_process *process)
{
    int ready = start(process);
    char byte;

    assert_int_equal(read(ready, &byte, 1), 1); /* or it ended without a word */
    (void)close(ready);
}

void backend_process_start_soon(struct backend_process *process)
{
    (void)close(start(process));
}

void backend_process_kill(struct backend_process *process)
{
    int status;

    if (process->pid != 0) {
        (void)kill(process->pid, SIGKILL);
        assert_int_equal(waitpid(process->pid, &status, 0), process->pid);
        process->pid = 0;
    }
}

static bool wait_for_end(struct backend_process *process, int *out_status)
{
    for (unsigned i = 0; i < WAIT_MS; i++) {
        pid_t pid = waitpid(process->pid, out_status, WNOHANG);

        if (pid == process->pid) {
            process->pid = 0;
            return true;
        }
        (void)poll(NULL, 0, 1);
    }
    return false;
}

bool backend_process_died(struct backend_process *process)
{
    int status;

    return wait_for_end(process, &status) && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
}

bool backend_process_is_dead(struct backend_process *process)
{
    int status;

    if (process->pid != 0 && waitpid(process->pid, &status, WNOHANG) == process->pid) {
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        process->pid = 0;
    }
    return process->pid == 0;
}

void backend_process_stop(struct backend_process *process)
{
    int status;

    assert_int_equal(kill(process->pid, SIGTERM), 0);
    assert_true(wait_for_end(process, &status));
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

void backend_process_deinit(struct backend_process *process)
{
    if (process->pid != 0) {
        backend_process_stop(process);
    }
    (void)unlink(process->socket); /* a killed one leaves it behind */
    (void)unlink(process->file);
    (void)rmdir(process->folder);
}

/* ---- The child ---------------------------------------------------------------------------- */

int backend_process_main(int argc, char **argv)
{
    static struct sk_backend_fault faults[SK_BACKEND_FAULTS_MAX];
    struct sk_backend_options options;
    char error[SK_BACKEND_ERROR_BYTES];
    struct sk_backend *backend;
    sigset_t signals;
    int ready = atoi(argv[3]);
    int number;

    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)sigemptyset(&signals);
    (void)sigaddset(&signals, SIGTERM);
    (void)pthread_sigmask(SIG_BLOCK, &signals, NULL);
    sk_backend_options_init(&options);
    options.address = argv[1];
    options.file_path = strcmp(argv[2], "-") == 0 ? NULL : argv[2];
    options.null_zeroes = true;
    options.queue_count = (uint32_t)atoi(argv[4]);
    options.worker_count = (uint32_t)atoi(argv[5]);
    options.poll_ns = atoi(argv[6]) != 0 ? SK_BACKEND_POLL_ALWAYS : 0;
    options.faults = faults;
    for (int i = 7; i < argc; i++) {
        if (sk_backend_parse_fault(argv[i], &faults[options.fault_count++]) != SK_OK) {
            return 2;
        }
    }
    if (sk_backend_start(&options, &backend, error) != SK_OK) {
        (void)fprintf(stderr, "%s\n", error);
        return 1;
    }
    if (write(ready, "", 1) != 1 && errno != EPIPE) {
        return 3;
    }
    (void)close(ready);
    (void)sigwait(&signals, &number);
    sk_backend_stop(backend);
    return 0;
}
