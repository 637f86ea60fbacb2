/* SPDX-License-Identifier: MIT */
/* The firmware has set the line's speed; this only takes over. */
#include <stdatomic.h>

#include "../console.h"
#include "drivers.h"
#include "registers.h"

/* Registers, one byte each. */
#define DATA             0 /* RW */
#define INTERRUPT_ENABLE 1 /* RW */
#define FIFO_CONTROL     2 /* W */
#define MODEM_CONTROL    4 /* RW */
#define LINE_STATUS      5 /* R */
#define SCRATCH          7 /* RW, without effect */
#define REGISTER_BYTES   8u

#define INTERRUPT_RECEIVED 0x01
#define FIFO_ENABLE        0x01
#define MODEM_OUT2         0x0b /* ready, and the interrupt line connected */
#define LINE_RECEIVED      0x01
#define LINE_CAN_SEND      0x20
#define SCRATCH_PATTERN    0x5a

#define TYPED     256u
#define SPINS_MAX 100000u /* a port that never gets ready loses text instead of time */

struct port {
    struct console_device console;
    struct sk_mmio mmio;
    char typed[TYPED];
    sk_atomic_u32 head; /* the interrupt's */
    sk_atomic_u32 tail; /* the reader's */
};

static void put(struct console_device *console, char character)
{
    struct port *port = SK_CONTAINER_OF(console, struct port, console);
    unsigned spins = 0;

    while (!(register_read8(&port->mmio, LINE_STATUS) & LINE_CAN_SEND) && spins < SPINS_MAX) {
        spins++;
    }
    register_write8(&port->mmio, DATA, (uint8_t)character);
}

static bool receive(struct port *port, char *out_character)
{
    if (!(register_read8(&port->mmio, LINE_STATUS) & LINE_RECEIVED)) {
        return false;
    }
    *out_character = (char)register_read8(&port->mmio, DATA);
    return true;
}

static bool take(struct console_device *console, char *out_character)
{
    struct port *port = SK_CONTAINER_OF(console, struct port, console);
    uint32_t tail = atomic_load(&port->tail);

    if (!console->interrupts) {
        return receive(port, out_character);
    }
    if (tail == atomic_load(&port->head)) {
        return false;
    }
    *out_character = port->typed[tail % TYPED];
    atomic_store(&port->tail, tail + 1);
    return true;
}

static void handle(void *argument)
{
    struct port *port = argument;
    char character;

    for (unsigned i = 0; i < TYPED && receive(port, &character); i++) {
        uint32_t head = atomic_load(&port->head);

        if (head - atomic_load(&port->tail) < TYPED) { /* what nobody reads is lost */
            port->typed[head % TYPED] = character;
            atomic_store(&port->head, head + 1);
        }
    }
    atomic_fetch_add(&port->console.received, 1);
}

static enum sk_status needs(const struct sk_driver *driver, const struct sk_device_node *node,
                            struct sk_driver_needs *out_needs)
{
    (void)driver;
    (void)node;
    *out_needs = (struct sk_driver_needs){ .private_bytes = sizeof(struct port) };
    return SK_OK;
}

static void start(struct port *port, struct sk_device_node *node)
{
    const struct sk_platform *platform = node->platform;

    register_write8(&port->mmio, INTERRUPT_ENABLE, 0);
    register_write8(&port->mmio, FIFO_CONTROL, FIFO_ENABLE);
    if (node->interrupt_count > 0 && platform->attach_interrupt != NULL &&
        platform->attach_interrupt(platform->context, &node->interrupts[0], handle, port) ==
            SK_OK) {
        port->console.interrupts = true;
        register_write8(&port->mmio, MODEM_CONTROL, MODEM_OUT2);
        register_write8(&port->mmio, INTERRUPT_ENABLE, INTERRUPT_RECEIVED);
    }
}

static enum sk_status probe(const struct sk_driver *driver, struct sk_device_node *node)
{
    const struct sk_platform *platform = node->platform;
    struct port *port = node->driver_memory;
    enum sk_status status;

    (void)driver;
    if (port == NULL || node->driver_memory_bytes < sizeof(*port) || node->range_count == 0 ||
        node->ranges[0].bytes < REGISTER_BYTES) {
        return SK_ERR_SIZE;
    }
    status = platform->map_mmio(platform->context, node->ranges[0].base, node->ranges[0].bytes,
                                &port->mmio);
    if (status != SK_OK) {
        return status;
    }
    register_write8(&port->mmio, SCRATCH, SCRATCH_PATTERN);
    if (register_read8(&port->mmio, SCRATCH) != SCRATCH_PATTERN) {
        return SK_ERR_NOT_FOUND;
    }
    port->console.put = put;
    port->console.take = take;
    start(port, node);
    node->driver_data = port;
    node->device_class = SK_DEVICE_CLASS_CONSOLE;
    node->interface = &port->console;
    return SK_OK;
}

static const struct sk_device_match matches[] = {
    { SK_DEVICE_BUS_PLATFORM, "ns16550a", 0, 0 },
};

const struct sk_driver ns16550a_driver = {
    .name = "ns16550a",
    .matches = matches,
    .match_count = sizeof(matches) / sizeof(matches[0]),
    .needs = needs,
    .probe = probe,
};
