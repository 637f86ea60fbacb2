/* SPDX-License-Identifier: MIT */
/* Words and numbers of a command line.  Calling: no state. */
#ifndef KERNEL_LIB_TEXT_H
#define KERNEL_LIB_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

size_t text_length(const char *text);
bool text_equal(const char *left, const char *right);

/* The value behind "name=" in `word`; NULL: it starts with something else. */
const char *text_value_of(const char *word, const char *name);

/* Decimal or 0x; the whole text, 64 bits.  False: it is no number, *out_value is unchanged. */
bool text_number(const char *text, uint64_t *out_value);

/*
 * Cuts `line` (changed) into words at blanks; at most `capacity` are stored.
 * Returns how many there are, which may be more.
 */
size_t text_split(char *line, char **words, size_t capacity);

#endif
