/* SPDX-License-Identifier: MIT */
/*
 * Device interrupts: controllers register themselves, drivers attach handlers
 * to lines through the platform.  Lines may be shared.  All of them come to
 * the hart that booted; handlers count and wake, and harts_wake follows.
 * Calling: the controller is set by the hart that booted; attach and detach
 * from any; dispatch from the trap.  A handler attaches nothing.
 */
#ifndef KERNEL_INTERRUPTS_H
#define KERNEL_INTERRUPTS_H

#include <skio/platform.h>

#define INTERRUPTS_HANDLERS_MAX 64

struct interrupt_controller {
    uint32_t phandle;    /* its name in the device tree */
    uint32_t cell_count; /* of one line */
    /* SK_ERR_RANGE: there is no such line. */
    enum sk_status (*enable)(struct interrupt_controller *controller, const uint32_t *cells);
    void (*disable)(struct interrupt_controller *controller, uint32_t line);
    /* The next pending line, acknowledged; false: none. */
    bool (*claim)(struct interrupt_controller *controller, uint32_t *out_line);
    void (*complete)(struct interrupt_controller *controller, uint32_t line);
};

/* One controller is enough for now; NULL takes it away.  SK_ERR_BUSY: there is one. */
enum sk_status interrupts_set_controller(struct interrupt_controller *controller);

/* SK_ERR_AGAIN (no such controller yet), SK_ERR_NO_MEMORY, SK_ERR_MALFORMED, SK_ERR_RANGE. */
enum sk_status interrupts_attach(const struct sk_interrupt *interrupt,
                                 void (*handler)(void *argument), void *argument);
void interrupts_detach(const struct sk_interrupt *interrupt);

/* How many device interrupts there were; from hart 0. */
uint64_t interrupts_taken(void);

/* Called by the architecture when a device interrupt is pending, with interrupts masked. */
void interrupts_dispatch(void);

#endif
