/* SPDX-License-Identifier: MIT */
/*
 * Where the kernel talks: the firmware's console first, and the console device
 * once a driver has one.  Also the log's hook.
 * Calling: printing from any hart, interrupt handlers log only; reading from
 * hart 0.  What several harts print is not mixed within a line: a line is shown
 * when it ends, or its hart flushes it or waits for input.
 */
#ifndef KERNEL_CONSOLE_H
#define KERNEL_CONSOLE_H

#include <skio/device_node.h>
#include <skio/log.h>

/* The interface of nodes of class CONSOLE. */
struct console_device {
    /* Writes one character, waiting for room. */
    void (*put)(struct console_device *device, char character);
    /* The next character typed; false: none. */
    bool (*take)(struct console_device *device, char *out_character);
    /* Changes with each character that an interrupt brought. */
    sk_atomic_u32 received;
    bool interrupts; /* false: `received` stands still, look again and again */
};

/* Keys with a meaning. */
#define CONSOLE_BREAK 0x03 /* ^C */

/* The kernel's log, with its level; lines go to the console with the time. */
extern struct sk_log console_log;

/* Text as sk_text_format makes it, at most 255 characters a call. */
void console_print(const char *format, ...) SK_PRINTF(1, 2);
void console_write(const char *text, size_t bytes);
/* Shows what this hart has begun to print. */
void console_flush(void);

/* From now on the console is this device. */
void console_attach(struct console_device *device);
/* From now on it is the firmware's again: for faults, when no driver is to be trusted. */
void console_panic(void);

/* Waits for a character until `until_ns`.  False: none came. */
bool console_read(uint64_t until_ns, char *out_character);
/* True once after somebody typed ^C; what was typed meanwhile is kept for console_read. */
bool console_take_break(void);

#endif
