/* SPDX-License-Identifier: MIT */
/*
 * Words of the kernel's command line of the form name=value: they say how
 * devices shall be driven, before any is.  `help` lists them.
 */
#ifndef KERNEL_SETTINGS_H
#define KERNEL_SETTINGS_H

#include <skio/virtio_blk.h>

struct settings {
    struct sk_virtio_blk_options disk; /* but for what follows */
    uint32_t queues;                   /* of a disk, where it has as many; 0: one for each hart */
    uint32_t timeout_ms;               /* of one request */
    uint32_t latency_every;            /* of how many requests one is timed; a power of two */
    bool legacy;                       /* drive legacy devices too */
    bool interrupts;                   /* false: drivers are polled */
    bool resubmit;                     /* requests wait for a recovery of their disk */
};

extern struct settings settings;

/* True if the word has the form of a setting. */
bool settings_is(const char *word);

/* Takes one; false, and a line on the console, if it has no meaning. */
bool settings_take(const char *word);

/* Takes "error", "warning", "info" or "debug" as the log's level; false: none of them. */
bool settings_log_level(const char *name);

/* For `help`: one line for each. */
void settings_print_help(void);

#endif
