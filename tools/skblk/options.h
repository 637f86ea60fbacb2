/* SPDX-License-Identifier: MIT */
/* The options of all commands in one table: parsing and --help come from it. */
#ifndef SKBLK_OPTIONS_H
#define SKBLK_OPTIONS_H

#include "skblk.h"

/*
 * Parses what stands behind the command's name.  0: go on; SKBLK_EXIT_USAGE:
 * said; -1: --help was asked for.
 */
int skblk_options_parse(const struct skblk_command *command, int argc, char **argv,
                        struct skblk_call *out_call);

/* Prints the options of these groups, for --help. */
void skblk_options_print(uint32_t groups);

#endif
