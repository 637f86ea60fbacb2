/* SPDX-License-Identifier: MIT */
/* Commands, from the kernel's command line and from the console. */
#ifndef KERNEL_SHELL_H
#define KERNEL_SHELL_H

#include <skio/compiler.h>

#define SHELL_WORDS_MAX 64
#define SHELL_LINE_MAX  4096

struct shell_call {
    size_t count;      /* words behind the command's name */
    char **words;
    bool interactive;  /* somebody watches: progress, and ^C ends it */
};

enum shell_result { SHELL_OK, SHELL_FAILED, SHELL_USAGE };

struct shell_command {
    const char *name;
    const char *usage; /* the words behind the name */
    const char *summary;
    enum shell_result (*run)(const struct shell_call *call);
};

/* In the order of `help`; commands.c. */
extern const struct shell_command shell_commands[];
extern const size_t shell_command_count;

/* The settings in a command line, before devices are probed. */
void shell_take_settings(const char *line);

/* The commands in it, one after another, separated by semicolons. */
void shell_run(const char *line);

/* The first status that was not 0 among the commands of shell_run and the settings. */
unsigned shell_status(void);

/* Prompt, line, command, for ever. */
_Noreturn void shell_interact(void);

#endif
