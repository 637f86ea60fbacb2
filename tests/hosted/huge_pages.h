/* SPDX-License-Identifier: MIT */
/* The number of huge pages, which belongs to the whole machine. */
#ifndef TESTS_HOSTED_HUGE_PAGES_H
#define TESTS_HOSTED_HUGE_PAGES_H

#include <stdbool.h>

/* How many there are; -1: unknown. */
long huge_pages_count(void);

/* False: not allowed. */
bool huge_pages_set(long count);

/* From here to the unlock no other test changes it. */
void huge_pages_lock(void);
void huge_pages_unlock(void);

#endif
