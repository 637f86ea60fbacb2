/* SPDX-License-Identifier: MIT */
/*
 * Lines are 1 to 1023.  A context is a processor in a privilege level; which
 * one is ours stands in the device tree, in the order of the lines that the
 * controller raises.  Spec: RISC-V PLIC 1.0.
 */
#include "../interrupts.h"
#include "drivers.h"
#include "registers.h"

#define PRIORITY(line)        (4u * (line))                                   /* RW */
#define ENABLE(context, line) (0x2000u + 0x80u * (context) + (line) / 32 * 4) /* RW */
#define THRESHOLD(context)    (0x200000u + 0x1000u * (context))               /* RW */
#define CLAIM(context)        (0x200004u + 0x1000u * (context))               /* RW */

#define LINES        1024u
#define CONTEXTS_MAX 15872u

struct plic {
    struct interrupt_controller controller;
    struct sk_mmio mmio;
    uint32_t context;
};

static struct plic *plic_of(struct interrupt_controller *controller)
{
    return SK_CONTAINER_OF(controller, struct plic, controller);
}

static void set_enabled(struct plic *plic, uint32_t line, bool enabled)
{
    uint64_t offset = ENABLE(plic->context, line);
    uint32_t bit = UINT32_C(1) << line % 32;
    uint32_t word = register_read32(&plic->mmio, offset);

    register_write32(&plic->mmio, offset, enabled ? word | bit : word & ~bit);
}

static enum sk_status enable(struct interrupt_controller *controller, const uint32_t *cells)
{
    struct plic *plic = plic_of(controller);
    uint32_t line = cells[0];

    if (line == 0 || line >= LINES) {
        return SK_ERR_RANGE;
    }
    register_write32(&plic->mmio, PRIORITY(line), 1);
    set_enabled(plic, line, true);
    return SK_OK;
}

static void disable(struct interrupt_controller *controller, uint32_t line)
{
    if (line > 0 && line < LINES) {
        set_enabled(plic_of(controller), line, false);
    }
}

static bool claim(struct interrupt_controller *controller, uint32_t *out_line)
{
    struct plic *plic = plic_of(controller);

    *out_line = register_read32(&plic->mmio, CLAIM(plic->context));
    return *out_line != 0;
}

static void complete(struct interrupt_controller *controller, uint32_t line)
{
    struct plic *plic = plic_of(controller);

    register_write32(&plic->mmio, CLAIM(plic->context), line);
}

static enum sk_status needs(const struct sk_driver *driver, const struct sk_device_node *node,
                            struct sk_driver_needs *out_needs)
{
    (void)driver;
    (void)node;
    *out_needs = (struct sk_driver_needs){ .private_bytes = sizeof(struct plic) };
    return SK_OK;
}

static enum sk_status find_context(const struct plic_options *options,
                                   const struct sk_device_node *node, uint32_t *out_context)
{
    for (uint32_t i = 0; i < node->interrupt_count && i < CONTEXTS_MAX; i++) {
        const struct sk_interrupt *raised = &node->interrupts[i];

        if (raised->controller == options->cpu_phandle && raised->cells[0] == options->cpu_line) {
            *out_context = i;
            return SK_OK;
        }
    }
    return SK_ERR_NOT_FOUND;
}

/* False: nobody keeps what is written there. */
static bool start(struct plic *plic)
{
    for (uint32_t line = 0; line < LINES; line += 32) {
        register_write32(&plic->mmio, ENABLE(plic->context, line), 0);
    }
    register_write32(&plic->mmio, THRESHOLD(plic->context), 0);
    return register_read32(&plic->mmio, THRESHOLD(plic->context)) == 0;
}

static enum sk_status probe(const struct sk_driver *driver, struct sk_device_node *node)
{
    const struct sk_platform *platform = node->platform;
    const struct plic_options *options = driver->options;
    struct plic *plic = node->driver_memory;
    enum sk_status status;

    if (options == NULL || plic == NULL || node->driver_memory_bytes < sizeof(*plic) ||
        node->range_count == 0) {
        return SK_ERR_INVALID;
    }
    status = find_context(options, node, &plic->context);
    if (status != SK_OK) {
        return status;
    }
    if (node->ranges[0].bytes < CLAIM(plic->context) + 4) {
        return SK_ERR_SIZE;
    }
    status = platform->map_mmio(platform->context, node->ranges[0].base, node->ranges[0].bytes,
                                &plic->mmio);
    if (status != SK_OK) {
        return status;
    }
    if (!start(plic)) {
        return SK_ERR_NOT_FOUND;
    }
    plic->controller =
        (struct interrupt_controller){ options->phandle, 1, enable, disable, claim, complete };
    node->driver_data = plic;
    node->device_class = SK_DEVICE_CLASS_OTHER;
    return interrupts_set_controller(&plic->controller);
}

static const struct sk_device_match matches[] = {
    { SK_DEVICE_BUS_PLATFORM, "riscv,plic0", 0, 0 },
    { SK_DEVICE_BUS_PLATFORM, "sifive,plic-1.0.0", 0, 0 },
};

const struct sk_driver plic_driver = {
    .name = "plic",
    .matches = matches,
    .match_count = sizeof(matches) / sizeof(matches[0]),
    .needs = needs,
    .probe = probe,
};
