/* SPDX-License-Identifier: MIT */
#include "huge_pages.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <unistd.h>

#define COUNT "/proc/sys/vm/nr_hugepages"

static int lock = -1;

long huge_pages_count(void)
{
    FILE *file = fopen(COUNT, "re");
    long count = -1;

    if (file != NULL && fscanf(file, "%ld", &count) != 1) {
        count = -1;
    }
    if (file != NULL) {
        (void)fclose(file);
    }
    return count;
}

bool huge_pages_set(long count)
{
    FILE *file = fopen(COUNT, "we");
    bool good = file != NULL && fprintf(file, "%ld", count) > 0;

    return file != NULL && fclose(file) == 0 && good;
}

void huge_pages_lock(void)
{
    lock = open(COUNT, O_RDONLY | O_CLOEXEC);
    if (lock >= 0) {
        (void)flock(lock, LOCK_EX);
    }
}

void huge_pages_unlock(void)
{
    if (lock >= 0) {
        (void)close(lock);
    }
    lock = -1;
}
