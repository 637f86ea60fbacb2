/* SPDX-License-Identifier: MIT */
#include <skio/text.h>

#include "arch/arch.h"
#include "console.h"
#include "platform.h"

#define LINE_BYTES 256
#define KEPT       128u
#define POLL_NS    UINT64_C(5000000)

static struct console_device *console;
static char kept[KEPT]; /* typed while a command looked for ^C */
static unsigned kept_head;
static unsigned kept_tail;

static void write_log(void *context, enum sk_log_level level, const char *line)
{
    uint64_t us = arch_now_ns() / 1000;

    (void)context;
    console_print("[%4lu.%06lu] %s: %s\n", us / 1000000, us % 1000000, sk_log_level_name(level),
                  line);
}

struct sk_log console_log = { write_log, NULL, SK_LOG_WARNING };

static void put(char character)
{
    if (console != NULL) {
        console->put(console, character);
    } else {
        arch_early_put(character);
    }
}

void console_write(const char *text, size_t bytes)
{
    bool were_on = arch_interrupts_mask();

    for (size_t i = 0; i < bytes; i++) {
        if (text[i] == '\n' && console != NULL) { /* the firmware does it itself */
            put('\r');
        }
        put(text[i]);
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

void console_attach(struct console_device *device)
{
    console = device;
}

void console_panic(void)
{
    console = NULL;
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

    while (take(&character)) {
        if (character == CONSOLE_BREAK) {
            found = true;
        } else if (kept_head - kept_tail < KEPT) {
            kept[kept_head++ % KEPT] = character;
        }
    }
    return found;
}
