/* SPDX-License-Identifier: MIT */
/* The commands; shell.h has their form, commands.c their table. */
#ifndef KERNEL_COMMANDS_H
#define KERNEL_COMMANDS_H

#include "shell.h"

/* commands.c */
enum shell_result command_help(const struct shell_call *call);
enum shell_result command_devices(const struct shell_call *call);
enum shell_result command_harts(const struct shell_call *call);
enum shell_result command_log(const struct shell_call *call);
enum shell_result command_uptime(const struct shell_call *call);
enum shell_result command_crash(const struct shell_call *call);
enum shell_result command_poweroff(const struct shell_call *call);

/* commands_stats.c */
enum shell_result command_stats(const struct shell_call *call);

/* commands_disk.c */
enum shell_result command_disk(const struct shell_call *call);
enum shell_result command_parts(const struct shell_call *call);
enum shell_result command_read(const struct shell_call *call);
enum shell_result command_flush(const struct shell_call *call);
enum shell_result command_recover(const struct shell_call *call);

/* commands_write.c */
enum shell_result command_write(const struct shell_call *call);
enum shell_result command_fill(const struct shell_call *call);
enum shell_result command_verify(const struct shell_call *call);

/* commands_hash.c, commands_bench.c, commands_scrub.c */
enum shell_result command_hash(const struct shell_call *call);
enum shell_result command_bench(const struct shell_call *call);
enum shell_result command_scrub(const struct shell_call *call);

/* For all of them: the word at `index` as a number; false, and said, if it is none. */
bool command_number(const struct shell_call *call, const char *command, size_t index,
                    uint64_t *out_value);
/* "12.3 MiB" */
void command_size_text(uint64_t bytes, char *out, size_t out_bytes);

#endif
