/* SPDX-License-Identifier: MIT */
/*
 * The four functions that the library needs from its surroundings, declared
 * here because <string.h> is not one of the headers a freestanding compiler
 * brings.  Private memory only: for memory that a device can write there is
 * door.h.
 */
#ifndef SKI_BASE_BYTES_H
#define SKI_BASE_BYTES_H

#include <stddef.h>

void *memcpy(void *restrict destination, const void *restrict source, size_t bytes);
void *memmove(void *destination, const void *source, size_t bytes);
void *memset(void *destination, int value, size_t bytes);
int memcmp(const void *left, const void *right, size_t bytes);

#endif
