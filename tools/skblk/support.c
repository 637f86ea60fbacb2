/* SPDX-License-Identifier: MIT */
/* Errors, signals and numbers. */
#include "skblk.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "interrupt.h"

static volatile sig_atomic_t interrupted;

void skblk_error(const struct skblk_call *call, const char *format, ...)
{
    va_list arguments;

    (void)fflush(stdout);
    (void)fprintf(stderr, "skblk %s: ", call->name);
    va_start(arguments, format);
    (void)vfprintf(stderr, format, arguments);
    va_end(arguments);
    (void)fputc('\n', stderr);
}

static void interrupt(int number)
{
    (void)number;
    interrupted = 1;
}

void skblk_catch_interrupts(void)
{
    /* The first one ends the command in order; a second one ends it at once. */
    struct sigaction action = { .sa_handler = interrupt, .sa_flags = (int)SA_RESETHAND };

    (void)sigaction(SIGINT, &action, NULL);
    (void)sigaction(SIGTERM, &action, NULL);
    action = (struct sigaction){ .sa_handler = SIG_IGN };
    (void)sigaction(SIGPIPE, &action, NULL);
}

bool skblk_is_interrupted(void)
{
    return interrupted != 0;
}

int skblk_exit_of(enum sk_status status)
{
    switch (status) {
    case SK_OK:
        return SKBLK_EXIT_OK;
    case SK_ERR_NOT_FOUND:
        return SKBLK_EXIT_CONNECT;
    case SK_ERR_UNSUPPORTED:
    case SK_ERR_MALFORMED:
        return SKBLK_EXIT_BACKEND;
    case SK_ERR_TIMEOUT:
    case SK_ERR_BROKEN:
    case SK_ERR_GONE:
    case SK_ERR_IN_DOUBT:
        return SKBLK_EXIT_TIMEOUT;
    default:
        return SKBLK_EXIT_DISK;
    }
}

const char *skblk_advice(enum sk_status status)
{
    switch (status) {
    case SK_ERR_IO:
        return "; look at the back end's own messages for the cause";
    case SK_ERR_READ_ONLY:
        return "; start the back end with a writable disk";
    case SK_ERR_UNSUPPORTED:
        return "; this disk does not offer it (see: skblk info)";
    case SK_ERR_TIMEOUT:
        return "; the back end may be stuck, --timeout gives it more time";
    case SK_ERR_BROKEN:
    case SK_ERR_GONE:
    case SK_ERR_IN_DOUBT:
        return "; start the back end again, --reconnect waits longer for it";
    default:
        return "";
    }
}

/* Multiplies a decimal number with a unit; the fraction is of no more digits than matter. */
static bool scale(const char *text, const char **out_end, uint64_t unit, uint64_t *out_value)
{
    char *end;
    double value;

    if (text[0] < '0' || text[0] > '9') {
        return false;
    }
    value = strtod(text, &end) * (double)unit;
    if (value >= 18446744073709551615.0) {
        return false;
    }
    *out_end = end;
    *out_value = (uint64_t)value;
    return true;
}

/* Where the digits end. */
static const char *suffix_of(const char *text)
{
    return text + strspn(text, "0123456789.");
}

bool skblk_parse_size(const char *text, uint64_t *out_bytes)
{
    static const char units[] = "kmgtp";
    const char *suffix = suffix_of(text);
    const char *end = NULL;
    uint64_t unit = 1;

    if (suffix[0] != '\0') {
        const char *found = strchr(units, suffix[0] | 0x20);

        if (found == NULL || suffix[1] != '\0') {
            return false;
        }
        unit <<= 10 * (found - units + 1);
    } else if (strchr(text, '.') == NULL) { /* exact, beyond what a double holds */
        errno = 0;
        *out_bytes = strtoull(text, NULL, 10);
        return suffix != text && errno == 0;
    }
    return scale(text, &end, unit, out_bytes) && end == suffix;
}

bool skblk_parse_time(const char *text, uint64_t *out_ns)
{
    static const struct {
        const char *suffix;
        uint64_t ns;
    } units[] = { { "", 1000000000 }, { "s", 1000000000 }, { "ms", 1000000 },
                  { "us", 1000 },     { "ns", 1 },         { "m", UINT64_C(60000000000) } };
    const char *suffix = suffix_of(text);

    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        const char *end = NULL;

        if (strcmp(suffix, units[i].suffix) == 0) {
            return scale(text, &end, units[i].ns, out_ns) && end == suffix;
        }
    }
    return false;
}

const char *skblk_size_text(uint64_t bytes, char *out_text)
{
    static const char *const units[] = { "bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
    double value = (double)bytes;
    size_t unit = 0;

    while (value >= 1024 && unit + 1 < sizeof(units) / sizeof(units[0])) {
        value /= 1024;
        unit++;
    }
    (void)snprintf(out_text, SKBLK_SIZE_TEXT, unit == 0 || value >= 100 ? "%.0f %s" : "%.1f %s",
                   value, units[unit]);
    return out_text;
}

uint64_t skblk_now_ns(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}
