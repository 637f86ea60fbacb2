/* SPDX-License-Identifier: MIT */
/* skblk: a disk over vhost-user, from the command line. */
#include "interrupt.h"
#include "options.h"
#include "skblk.h"

#include <stdio.h>
#include <string.h>

#define GROUPS_ALWAYS (SKBLK_GROUP_CONNECTION | SKBLK_GROUP_OUTPUT)

static const struct skblk_command commands[] = {
    { "info", "SOCKET", "what the disk is: size, limits, features", NULL, GROUPS_ALWAYS, 1, 1,
      skblk_info },
    { "read", "SOCKET FILE|-", "from the disk into a file, or to stdout", NULL,
      GROUPS_ALWAYS | SKBLK_GROUP_RANGE | SKBLK_GROUP_COPY | SKBLK_GROUP_PIPELINE |
          SKBLK_GROUP_WAITING,
      2, 2, skblk_read },
    { "write", "FILE|- SOCKET", "from a file, or stdin, onto the disk", NULL,
      GROUPS_ALWAYS | SKBLK_GROUP_RANGE | SKBLK_GROUP_COPY | SKBLK_GROUP_PIPELINE |
          SKBLK_GROUP_WAITING,
      2, 2, skblk_write },
    { "copy", "SOCKET SOCKET", "from one disk onto another", NULL,
      GROUPS_ALWAYS | SKBLK_GROUP_RANGE | SKBLK_GROUP_COPY | SKBLK_GROUP_PIPELINE |
          SKBLK_GROUP_WAITING,
      2, 2, skblk_copy },
    { "hash", "SOCKET", "the SHA-256 of the disk's content", NULL,
      GROUPS_ALWAYS | SKBLK_GROUP_RANGE | SKBLK_GROUP_PIPELINE | SKBLK_GROUP_WAITING, 1, 1,
      skblk_hash },
    { "flush", "SOCKET", "make completed writes durable", NULL, GROUPS_ALWAYS, 1, 1, skblk_flush },
    { "discard", "SOCKET", "give up what is stored", NULL,
      GROUPS_ALWAYS | SKBLK_GROUP_RANGE | SKBLK_GROUP_CLEAR | SKBLK_GROUP_DANGER, 1, 1,
      skblk_discard },
    { "zero", "SOCKET", "make it read as zeroes", NULL,
      GROUPS_ALWAYS | SKBLK_GROUP_RANGE | SKBLK_GROUP_CLEAR | SKBLK_GROUP_DANGER, 1, 1,
      skblk_zero },
    { "verify", "SOCKET", "write content that tells where it belongs, and check it", NULL,
      GROUPS_ALWAYS | SKBLK_GROUP_RANGE | SKBLK_GROUP_VERIFY | SKBLK_GROUP_WAITING |
          SKBLK_GROUP_DANGER,
      1, 1, skblk_verify },
    { "bench", "SOCKET", "how fast it is", NULL,
      GROUPS_ALWAYS | SKBLK_GROUP_RANGE | SKBLK_GROUP_BENCH | SKBLK_GROUP_WAITING |
          SKBLK_GROUP_DANGER,
      1, 1, skblk_bench },
    { "watch", "SOCKET", "a line at each interval: state, capacity, latency", NULL,
      GROUPS_ALWAYS | SKBLK_GROUP_WATCH, 1, 1, skblk_watch },
    { "serve-null", "SOCKET", "serve a disk that is all zeroes and forgets writes", NULL,
      SKBLK_GROUP_OUTPUT | SKBLK_GROUP_SERVE | SKBLK_GROUP_WAITING, 1, 1, skblk_serve_null },
    { "serve-file", "SOCKET FILE", "serve a file or a block device", NULL,
      SKBLK_GROUP_OUTPUT | SKBLK_GROUP_SERVE | SKBLK_GROUP_WAITING, 2, 2, skblk_serve_file },
};

#define COMMAND_COUNT (sizeof(commands) / sizeof(commands[0]))

static void print_usage(FILE *file)
{
    (void)fputs("usage: skblk COMMAND [OPTION...] WORD...\n"
                "A disk behind a vhost-user socket.  SOCKET is a path, @NAME, or fd:N.\n\n",
                file);
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        (void)fprintf(file, "  %-11s %-16s %s\n", commands[i].name, commands[i].words,
                      commands[i].summary);
    }
    (void)fputs("\nskblk COMMAND --help lists the options of a command; skblk --version says which "
                "this is.\n"
                "Sizes take k, M, G, T; times s, ms, us.\n"
                "Status: 0 done, 1 different, 2 usage, 3 nobody there, 4 useless back end,\n"
                "5 the disk failed, 6 the file failed, 7 no answer, 130 interrupted.\n",
                file);
}

static void print_help(const struct skblk_command *command)
{
    (void)printf("usage: skblk %s [OPTION...] %s\n%s%s%s\n\n", command->name, command->words,
                 command->summary, command->details != NULL ? "\n\n" : "",
                 command->details != NULL ? command->details : "");
    skblk_options_print(command->groups);
}

static const struct skblk_command *find(const char *name)
{
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        if (strcmp(commands[i].name, name) == 0) {
            return &commands[i];
        }
    }
    return NULL;
}

int main(int argc, char **argv)
{
    const struct skblk_command *command;
    struct skblk_call call;
    int code;

    if (argc >= 2 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
        print_usage(stdout);
        return SKBLK_EXIT_OK;
    }
    if (argc >= 2 && strcmp(argv[1], "--version") == 0) {
        (void)puts("skblk " SKBLK_VERSION);
        return SKBLK_EXIT_OK;
    }
    command = argc >= 2 ? find(argv[1]) : NULL;
    if (command == NULL) {
        if (argc >= 2) {
            (void)fprintf(stderr, "skblk: there is no command '%s'\n\n", argv[1]);
        }
        print_usage(stderr);
        return SKBLK_EXIT_USAGE;
    }
    code = skblk_options_parse(command, argc - 1, argv + 1, &call);
    if (code == -1) {
        print_help(command);
        return SKBLK_EXIT_OK;
    }
    if (code != SKBLK_EXIT_OK) {
        return code;
    }
    skblk_catch_interrupts();
    return command->run(&call);
}
