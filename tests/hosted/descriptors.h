/* SPDX-License-Identifier: MIT */
/* How many file descriptors this process has: tests end as they began. */
#ifndef TESTS_HOSTED_DESCRIPTORS_H
#define TESTS_HOSTED_DESCRIPTORS_H

#include <stdbool.h>

/* Open descriptors now. */
unsigned descriptors_count(void);

/* True if both refer to the same open file. */
bool descriptors_same(int one, int other);

#endif
