/* SPDX-License-Identifier: MIT */
#include "arch/arch.h"
#include "console.h"
#include "interrupts.h"

#define CLAIMS_MAX 256u

struct attachment {
    void (*handler)(void *argument); /* NULL: free */
    void *argument;
    uint32_t line;
};

static struct interrupt_controller *controller;
static struct attachment attachments[INTERRUPTS_HANDLERS_MAX];

enum sk_status interrupts_set_controller(struct interrupt_controller *wanted)
{
    if (wanted != NULL && controller != NULL) {
        return SK_ERR_BUSY;
    }
    controller = wanted;
    return SK_OK;
}

static enum sk_status enable(const struct sk_interrupt *interrupt, struct attachment *attachment,
                             void (*handler)(void *argument), void *argument)
{
    bool were_on = arch_interrupts_mask();
    enum sk_status status;

    *attachment = (struct attachment){ handler, argument, interrupt->cells[0] };
    status = controller->enable(controller, interrupt->cells);
    if (status != SK_OK) {
        attachment->handler = NULL;
    }
    arch_interrupts_restore(were_on);
    return status;
}

enum sk_status interrupts_attach(const struct sk_interrupt *interrupt,
                                 void (*handler)(void *argument), void *argument)
{
    if (controller == NULL || interrupt->controller != controller->phandle) {
        return SK_ERR_AGAIN;
    }
    if (interrupt->cell_count != controller->cell_count || handler == NULL) {
        return SK_ERR_MALFORMED;
    }
    for (size_t i = 0; i < INTERRUPTS_HANDLERS_MAX; i++) {
        if (attachments[i].handler == NULL) {
            return enable(interrupt, &attachments[i], handler, argument);
        }
    }
    return SK_ERR_NO_MEMORY;
}

void interrupts_detach(const struct sk_interrupt *interrupt)
{
    bool were_on = arch_interrupts_mask();

    for (size_t i = 0; i < INTERRUPTS_HANDLERS_MAX; i++) {
        if (attachments[i].handler != NULL && attachments[i].line == interrupt->cells[0]) {
            attachments[i].handler = NULL;
        }
    }
    if (controller != NULL) {
        controller->disable(controller, interrupt->cells[0]);
    }
    arch_interrupts_restore(were_on);
}

static bool handle(uint32_t line)
{
    bool handled = false;

    for (size_t i = 0; i < INTERRUPTS_HANDLERS_MAX; i++) {
        if (attachments[i].handler != NULL && attachments[i].line == line) {
            attachments[i].handler(attachments[i].argument);
            handled = true;
        }
    }
    return handled;
}

void interrupts_dispatch(void)
{
    uint32_t line;

    if (controller == NULL) {
        return;
    }
    /* What is still pending then raises the next interrupt. */
    for (unsigned i = 0; i < CLAIMS_MAX && controller->claim(controller, &line); i++) {
        bool handled = handle(line);

        controller->complete(controller, line);
        if (!handled) {
            controller->disable(controller, line);
            sk_log_print(&console_log, SK_LOG_WARNING, "interrupt %u: nobody handles it, disabled",
                         (unsigned)line);
        }
    }
}
