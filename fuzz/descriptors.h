/* SPDX-License-Identifier: MIT */
/* How many descriptors of the kinds that a vhost-user peer has are open: the fuzzer has others. */
#ifndef FUZZ_DESCRIPTORS_H
#define FUZZ_DESCRIPTORS_H

#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "input.h"

static inline unsigned descriptors_open(void)
{
    DIR *folder = opendir("/proc/self/fd");
    struct dirent *entry;
    unsigned count = 0;

    REQUIRE(folder != NULL);
    while ((entry = readdir(folder)) != NULL) {
        char target[16];
        ssize_t length = readlinkat(dirfd(folder), entry->d_name, target, sizeof(target) - 1);

        target[length < 0 ? 0 : length] = '\0';
        count += strncmp(target, "anon_inode:", 11) == 0 || strncmp(target, "socket:", 7) == 0 ||
                 strncmp(target, "/memfd:", 7) == 0;
    }
    REQUIRE(closedir(folder) == 0);
    return count;
}

#endif
