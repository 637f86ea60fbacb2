/* SPDX-License-Identifier: MIT */
#include "backend_private.h"

#include <ctype.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const struct {
    const char *name;
    const char *text;
} kinds[] = {
#define KIND(kind, name, text) { name, text },
    SK_BACKEND_FAULT_LIST(KIND)
#undef KIND
};

const char *sk_backend_fault_name(enum sk_backend_fault_kind kind)
{
    return (unsigned)kind < SK_BACKEND_FAULT_COUNT ? kinds[kind].name : NULL;
}

const char *sk_backend_fault_text(enum sk_backend_fault_kind kind)
{
    return (unsigned)kind < SK_BACKEND_FAULT_COUNT ? kinds[kind].text : NULL;
}

/* MARK and a number, if the mark is there; false: no number behind it.  `base` as strtoull has it. */
static bool parse_part(const char **text, char mark, int base, uint64_t *out_value)
{
    char *end;

    if (**text != mark) {
        return true;
    }
    if (!isdigit((unsigned char)(*text)[1])) {
        return false;
    }
    errno = 0;
    *out_value = strtoull(*text + 1, &end, base);
    *text = end;
    return errno == 0;
}

enum sk_status sk_backend_parse_fault(const char *text, struct sk_backend_fault *out_fault)
{
    struct sk_backend_fault fault = { .kind = SK_BACKEND_FAULT_COUNT };
    const char *rest = text;

    for (unsigned i = 0; i < SK_BACKEND_FAULT_COUNT; i++) {
        size_t length = strlen(kinds[i].name);

        if (strncmp(text, kinds[i].name, length) == 0 &&
            (text[length] == '\0' || strchr("=@x", text[length]) != NULL)) {
            fault.kind = (enum sk_backend_fault_kind)i;
            rest = text + length;
        }
    }
    if (fault.kind == SK_BACKEND_FAULT_COUNT) {
        return SK_ERR_NOT_FOUND;
    }
    if (!parse_part(&rest, '=', 0, &fault.value) || !parse_part(&rest, '@', 10, &fault.after) ||
        !parse_part(&rest, 'x', 10, &fault.count) || *rest != '\0') {
        return SK_ERR_MALFORMED;
    }
    *out_fault = fault;
    return SK_OK;
}

bool ski_backend_fault_hits(struct ski_backend_faults *faults, enum sk_backend_fault_kind kind,
                            uint64_t *out_value)
{
    bool hits = false;

    for (uint32_t i = 0; i < faults->count; i++) {
        struct ski_backend_fault_state *state = &faults->states[i];
        uint64_t seen;

        if (state->fault.kind != kind) {
            continue;
        }
        seen = atomic_fetch_add(&state->seen, 1);
        if (seen >= state->fault.after &&
            (state->fault.count == 0 || seen - state->fault.after < state->fault.count)) {
            *out_value = state->fault.value;
            hits = true;
        }
    }
    return hits;
}

bool ski_backend_fault_is_set(const struct ski_backend_faults *faults,
                              enum sk_backend_fault_kind kind, uint64_t *out_value)
{
    for (uint32_t i = 0; i < faults->count; i++) {
        if (faults->states[i].fault.kind == kind) {
            *out_value = faults->states[i].fault.value;
            return true;
        }
    }
    return false;
}

void ski_backend_fault_kill(struct ski_backend_faults *faults, enum sk_backend_fault_kind kind)
{
    uint64_t value;

    if (ski_backend_fault_hits(faults, kind, &value)) {
        (void)kill(getpid(), SIGKILL);
        (void)pause(); /* not one more instruction of ours, whichever thread the signal takes first */
    }
}

void ski_backend_sleep_ns(uint64_t ns)
{
    struct timespec time = { (time_t)(ns / 1000000000), (long)(ns % 1000000000) };

    while (nanosleep(&time, &time) != 0 && errno == EINTR) {
    }
}
