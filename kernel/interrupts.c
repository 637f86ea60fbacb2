/* SPDX-License-Identifier: MIT */
#include "arch/arch.h"
#include "console.h"
#include "harts.h"
#include "interrupts.h"
#include "lock.h"

#define LINES 64u /* lists of attachments; lines that share one are told apart */

struct attachment {
    struct attachment *next;
    void (*handler)(void *argument); /* NULL: free */
    void *argument;
    uint32_t line;
};

static struct lock lock; /* of all below */
static struct interrupt_controller *controller;
static struct attachment attachments[INTERRUPTS_HANDLERS_MAX];
static struct attachment *lines[LINES];
static uint64_t taken;

enum sk_status interrupts_set_controller(struct interrupt_controller *wanted)
{
    if (wanted != NULL && controller != NULL) {
        return SK_ERR_BUSY;
    }
    controller = wanted;
    return SK_OK;
}

static struct attachment *find_free(void)
{
    for (size_t i = 0; i < INTERRUPTS_HANDLERS_MAX; i++) {
        if (attachments[i].handler == NULL) {
            return &attachments[i];
        }
    }
    return NULL;
}

static void unlink(uint32_t line)
{
    struct attachment **at = &lines[line % LINES];

    while (*at != NULL) {
        if ((*at)->line == line) {
            (*at)->handler = NULL;
            *at = (*at)->next;
        } else {
            at = &(*at)->next;
        }
    }
}

static enum sk_status attach(const struct sk_interrupt *interrupt,
                             void (*handler)(void *argument), void *argument)
{
    struct attachment *attachment = find_free();
    uint32_t line = interrupt->cells[0];
    enum sk_status status;

    if (attachment == NULL) {
        return SK_ERR_NO_MEMORY;
    }
    status = controller->enable(controller, interrupt->cells);
    if (status == SK_OK) {
        *attachment = (struct attachment){ lines[line % LINES], handler, argument, line };
        lines[line % LINES] = attachment;
    }
    return status;
}

enum sk_status interrupts_attach(const struct sk_interrupt *interrupt,
                                 void (*handler)(void *argument), void *argument)
{
    enum sk_status status;
    bool were_on;

    if (controller == NULL || interrupt->controller != controller->phandle) {
        return SK_ERR_AGAIN;
    }
    if (interrupt->cell_count != controller->cell_count || handler == NULL) {
        return SK_ERR_MALFORMED;
    }
    were_on = lock_take(&lock);
    status = attach(interrupt, handler, argument);
    lock_give(&lock, were_on);
    return status;
}

void interrupts_detach(const struct sk_interrupt *interrupt)
{
    bool were_on = lock_take(&lock);

    unlink(interrupt->cells[0]);
    if (controller != NULL) {
        controller->disable(controller, interrupt->cells[0]);
    }
    lock_give(&lock, were_on);
}

uint64_t interrupts_taken(void)
{
    return taken;
}

static bool handle(uint32_t line)
{
    bool handled = false;

    for (const struct attachment *at = lines[line % LINES]; at != NULL; at = at->next) {
        if (at->line == line) {
            at->handler(at->argument);
            handled = true;
        }
    }
    return handled;
}

/* One line at a time: what is still pending then raises the next interrupt. */
void interrupts_dispatch(void)
{
    bool handled = true;
    uint32_t line;

    lock_take_masked(&lock);
    if (controller != NULL && controller->claim(controller, &line)) {
        taken++;
        handled = handle(line);
        controller->complete(controller, line);
    }
    if (!handled) {
        controller->disable(controller, line);
        sk_log_print(&console_log, SK_LOG_WARNING, "interrupt %u: nobody handles it, disabled",
                     (unsigned)line);
    }
    lock_give_masked(&lock);
    harts_wake();
}
