/* SPDX-License-Identifier: MIT */
/*
 * Log lines through one hook.  Each line is written at the place where a fault
 * is first seen and names the object and the number.  Lines are filtered
 * before they are formatted.  This is not a trace: nothing on the path of a
 * request that succeeds logs.
 *
 * Ownership: the log belongs to the caller and outlives what it was given to.
 * Calling: as the hook allows; skio logs from whatever context it was called in.
 */
#ifndef SKIO_LOG_H
#define SKIO_LOG_H

#include <skio/compiler.h>

SK_BEGIN_DECLS

enum sk_log_level {
    SK_LOG_ERROR,   /* something the caller asked for did not happen */
    SK_LOG_WARNING, /* something odd that was handled */
    SK_LOG_INFO,    /* a device came or went */
    SK_LOG_DEBUG,   /* steps of start and stop */
    SK_LOG_LEVEL_COUNT
};

/* Longest line that reaches the hook, its terminating zero included; bytes. */
#define SK_LOG_LINE_BYTES 192

struct sk_log {
    /* Takes one line without a line feed.  `line` is valid during the call. */
    void (*write)(void *context, enum sk_log_level level, const char *line);
    void *context;
    /* Lines of a higher value than this are dropped before formatting. */
    enum sk_log_level level;
};

/* Returns "error", "warning", "info" or "debug"; "unknown" for other values. */
const char *sk_log_level_name(enum sk_log_level level);

/*
 * Formats one line and hands it to the hook, cut at SK_LOG_LINE_BYTES.  `log`
 * may be NULL, and its hook too: then nothing happens.  The conversions are
 * those of `sk_text_format`.
 */
void sk_log_print(const struct sk_log *log, enum sk_log_level level, const char *format, ...)
    SK_PRINTF(3, 4);

/*
 * A budget for lines that a device can trigger: `burst` lines, and then one
 * for each doubling of their number, so that a storm leaves a trace of its
 * size and not of its length.  Zero-initialise.
 */
struct sk_log_limit {
    uint64_t seen; /* how often the line was asked for */
};

#define SK_LOG_LIMIT_BURST 4

/* Counts one more; returns true if the line shall be printed. */
bool sk_log_limit_pass(struct sk_log_limit *limit);

SK_END_DECLS

#endif
