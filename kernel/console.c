/* SPDX-License-Identifier: MIT */
#include <skio/text.h>

#include "arch/arch.h"
#include "console.h"
#include "harts.h"
#include "lock.h"
#include "platform.h"

#define LINE_BYTES 256
#define KEPT       128u
#define POLL_NS    UINT64_C(5000000)

/* What a hart has printed of a line that is not ended; a line leaves as a whole. */
struct pending {
    _Alignas(64) char text[LINE_BYTES];
    size_t length;
};

static struct console_device *console;
static struct pending pending[KERNEL_HARTS_MAX]; /* by the architecture's place */
static struct lock lock;                         /* of the device and the next two */
static bool open_line;                           /* the cursor stands behind something */
static unsigned open_place;                      /* whose that is */
static bool panic;                               /* one hart is left; who held the lock is none */

static char kept[KEPT]; /* typed while a command looked for ^C */
static unsigned kept_head;
static unsigned kept_tail;

static void put(char character)
{
    if (console == NULL) {
        arch_early_put(character);
        return;
    }
    if (character == '\n') { /* the firmware does it itself */
        console->put(console, '\r');
    }
    console->put(console, character);
}

/* A line that somebody else has not ended is ended first; `fresh`: one's own too. */
static void emit(const char *text, size_t bytes, bool fresh)
{
    unsigned place = arch_hart_place();
    bool were_on = panic ? arch_interrupts_mask() : lock_take(&lock);

    if (open_line && (fresh || open_place != place)) {
        put('\n');
    }
    for (size_t i = 0; i < bytes; i++) {
        put(text[i]);
    }
    open_line = bytes == 0 || text[bytes - 1] != '\n';
    open_place = place;
    if (panic) {
        arch_interrupts_restore(were_on);
    } else {
        lock_give(&lock, were_on);
    }
}

void console_flush(void)
{
    bool were_on = arch_interrupts_mask();
    struct pending *own = &pending[arch_hart_place()];

    if (own->length > 0) {
        emit(own->text, own->length, false);
        own->length = 0;
    }
    arch_interrupts_restore(were_on);
}

void console_write(const char *text, size_t bytes)
{
    bool were_on = arch_interrupts_mask();
    struct pending *own = &pending[arch_hart_place()];

    for (size_t i = 0; i < bytes; i++) {
        own->text[own->length++] = text[i];
        if (text[i] == '\n' || own->length == sizeof(own->text)) {
            console_flush();
        }
    }
    arch_interrupts_restore(were_on);
}

void console_print(const char *format, ...)
{
    char line[LINE_BYTES];
    va_list arguments;
    size_t length;

    va_start(arguments, format);
    length = sk_text_format_list(line, sizeof(line), format, arguments);
    va_end(arguments);
    console_write(line, length < sizeof(line) ? length : sizeof(line) - 1);
}

/* At once, whatever this hart has begun to print: it may never end that. */
static void write_log(void *context, enum sk_log_level level, const char *text)
{
    uint64_t us = arch_now_ns() / 1000;
    char line[LINE_BYTES];
    size_t length = sk_text_format(line, sizeof(line), "[%4lu.%06lu] %s: %s\n", us / 1000000,
                                   us % 1000000, sk_log_level_name(level), text);

    (void)context;
    emit(line, length < sizeof(line) ? length : sizeof(line) - 1, true);
}

struct sk_log console_log = { write_log, NULL, SK_LOG_WARNING };

void console_attach(struct console_device *device)
{
    console = device;
}

void console_panic(void)
{
    panic = true;
    console = NULL;
    console_flush();
}

static bool take(char *out_character)
{
    int character;

    if (console != NULL) {
        return console->take(console, out_character);
    }
    character = arch_early_get();
    *out_character = (char)character;
    return character >= 0;
}

static void rest(uint32_t seen, uint64_t until_ns)
{
    uint64_t soon = arch_now_ns() + POLL_NS;

    if (console != NULL && console->interrupts) {
        platform_wait(NULL, &console->received, seen, until_ns);
    } else {
        sk_atomic_u32 never = 0;

        platform_wait(NULL, &never, 0, soon < until_ns ? soon : until_ns);
    }
}

bool console_read(uint64_t until_ns, char *out_character)
{
    console_flush();
    if (kept_tail != kept_head) {
        *out_character = kept[kept_tail++ % KEPT];
        return true;
    }
    for (;;) {
        uint32_t seen = console != NULL ? console->received : 0;

        if (take(out_character)) {
            return true;
        }
        if (arch_now_ns() >= until_ns) {
            return false;
        }
        rest(seen, until_ns);
    }
}

bool console_take_break(void)
{
    bool found = false;
    char character;

    console_flush();
    while (take(&character)) {
        if (character == CONSOLE_BREAK) {
            found = true;
        } else if (kept_head - kept_tail < KEPT) {
            kept[kept_head++ % KEPT] = character;
        }
    }
    return found;
}
