/* SPDX-License-Identifier: MIT */
#include <skio/platform_bus.h>

#include "bus/fdt_walk.h"

/* One node on its way from the tree to the manager. */
struct found {
    struct sk_device_node node;
    struct sk_device_range ranges[SK_PLATFORM_BUS_RANGES];
    struct sk_interrupt interrupts[SK_PLATFORM_BUS_INTERRUPTS];
};

static enum sk_status read_compatible(const struct sk_fdt *fdt, const struct sk_fdt_node *at,
                                      struct sk_device_node *node)
{
    struct sk_fdt_property property;
    enum sk_status status = sk_fdt_property(fdt, at, "compatible", &property);

    if (status != SK_OK) {
        return status;
    }
    if (property.bytes == 0 || property.value[property.bytes - 1] != 0) {
        return SK_ERR_MALFORMED;
    }
    node->identity = (struct sk_device_identity) { .bus = SK_DEVICE_BUS_PLATFORM,
                                                   .compatible = (const char *)property.value,
                                                   .compatible_bytes = property.bytes };
    return SK_OK;
}

/*
 * Takes ranges up to the first that the CPU does not reach, so that those
 * taken keep their index.  SK_ERR_NOT_FOUND: there is no `reg`.
 */
static enum sk_status read_ranges(const struct sk_fdt *fdt, const struct sk_fdt_node *at,
                                  struct found *found)
{
    enum sk_status status = SK_OK;
    uint32_t count = 0;

    while (status == SK_OK && count < SK_PLATFORM_BUS_RANGES) {
        status = sk_fdt_range(fdt, at, count, &found->ranges[count]);
        count += status == SK_OK;
    }
    found->node.ranges = found->ranges;
    found->node.range_count = count;
    if (count > 0 && (status == SK_ERR_NOT_FOUND || status == SK_ERR_UNREACHABLE)) {
        return SK_OK;
    }
    return status;
}

/* A device whose interrupts only a nexus understands is polled. */
static enum sk_status read_interrupts(const struct sk_fdt *fdt, const struct sk_fdt_node *at,
                                      struct found *found)
{
    uint32_t count;
    enum sk_status status =
        ski_fdt_interrupts(fdt, at, 0, found->interrupts, SK_PLATFORM_BUS_INTERRUPTS, &count);

    found->node.interrupts = found->interrupts;
    found->node.interrupt_count = count;
    return status == SK_ERR_NOT_FOUND || status == SK_ERR_UNSUPPORTED ? SK_OK : status;
}

static bool same_windows(const struct sk_platform_bus_domain *domain,
                         const struct sk_dma_window *windows, size_t count)
{
    if (domain->window_count != count) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        if (domain->windows[i].paddr.raw != windows[i].paddr.raw ||
            domain->windows[i].daddr.raw != windows[i].daddr.raw ||
            domain->windows[i].bytes != windows[i].bytes) {
            return false;
        }
    }
    return true;
}

static enum sk_status make_domain(const struct sk_platform_bus_config *config, bool coherent,
                                  const struct sk_dma_window *windows, size_t count,
                                  struct sk_platform_bus_domain *domain)
{
    struct sk_dma_domain_config wanted = { .platform = config->platform,
                                           .arena = config->arena,
                                           .windows = domain->windows,
                                           .window_count = count,
                                           .coherent = coherent };

    for (size_t i = 0; i < count; i++) {
        domain->windows[i] = windows[i];
    }
    domain->window_count = count;
    return sk_dma_domain_init(&domain->domain, &wanted);
}

/* Finds or makes the domain of a node; *domains says how many are in use. */
static enum sk_status find_domain(const struct sk_platform_bus_config *config,
                                  const struct sk_fdt_node *at, size_t *domains,
                                  struct sk_dma_domain **out_domain)
{
    struct sk_dma_window windows[SK_PLATFORM_BUS_WINDOWS];
    enum sk_fdt_coherence said = sk_fdt_get_coherence(config->fdt, at);
    bool coherent = said == SK_FDT_COHERENCE_UNSAID ? config->coherent_by_default
                                                    : said == SK_FDT_COHERENCE_COHERENT;
    size_t count;
    enum sk_status status =
        sk_fdt_dma_windows(config->fdt, at, windows, SK_PLATFORM_BUS_WINDOWS, &count);

    for (size_t i = 0; status == SK_OK && i < *domains; i++) {
        if (config->domains[i].domain.coherent == coherent &&
            same_windows(&config->domains[i], windows, count)) {
            *out_domain = &config->domains[i].domain;
            return SK_OK;
        }
    }
    if (status == SK_OK && *domains == config->domain_capacity) {
        return SK_ERR_NO_MEMORY;
    }
    if (status == SK_OK) {
        status = make_domain(config, coherent, windows, count, &config->domains[*domains]);
    }
    if (status == SK_OK) {
        *out_domain = &config->domains[(*domains)++].domain;
    }
    return status;
}

/*
 * Reads what of an enabled node is more than its name.  SK_OK; SK_ERR_NOT_FOUND
 * (no device of this bus); any other: *out_what says what cannot be understood.
 */
static enum sk_status read_node(const struct sk_platform_bus_config *config,
                                const struct sk_fdt_node *at, size_t *domains, struct found *found,
                                const char **out_what)
{
    enum sk_status status = read_ranges(config->fdt, at, found);

    *out_what = "reg";
    if (status == SK_ERR_UNREACHABLE) { /* a number on another bus: a CPU, a sensor */
        return SK_ERR_NOT_FOUND;
    }
    if (status == SK_OK) {
        *out_what = "interrupts";
        status = read_interrupts(config->fdt, at, found);
    }
    if (status == SK_OK) {
        *out_what = "dma-ranges";
        status = find_domain(config, at, domains, &found->node.domain);
    }
    return status;
}

/* Adds one node or says why not. */
static enum sk_status add_node(const struct sk_platform_bus_config *config,
                               const struct sk_fdt_node *at,
                               struct sk_platform_bus_summary *summary, const char **out_what)
{
    struct found found = { .node = { .platform = config->platform } };
    enum sk_status status = sk_fdt_name(config->fdt, at, &found.node.name);

    if (status == SK_OK) {
        *out_what = "compatible";
        status = read_compatible(config->fdt, at, &found.node);
    }
    if (status == SK_OK && !sk_fdt_is_enabled(config->fdt, at)) {
        summary->disabled++;
        return SK_ERR_NOT_FOUND;
    }
    if (status == SK_OK) {
        status = read_node(config, at, &summary->domains, &found, out_what);
    }
    if (status == SK_OK) {
        *out_what = "cannot be added";
        status = sk_device_manager_add_node(config->manager, &found.node, NULL);
    }
    return status;
}

/* SK_OK, also if the node was left out; SK_ERR_NO_MEMORY. */
static enum sk_status consider_node(const struct sk_platform_bus_config *config,
                                    const struct sk_fdt_node *at,
                                    struct sk_platform_bus_summary *summary)
{
    const char *name = "?";
    const char *what = "name";
    enum sk_status status = add_node(config, at, summary, &what);

    if (status == SK_OK || status == SK_ERR_NOT_FOUND) {
        summary->added += status == SK_OK;
        return SK_OK;
    }
    if (sk_fdt_name(config->fdt, at, &name) != SK_OK) {
        name = "?";
    }
    sk_log_print(config->platform->log, SK_LOG_WARNING, "platform_bus: %s: %s: %s", name, what,
                 sk_status_text(status));
    if (status == SK_ERR_NO_MEMORY) {
        return status;
    }
    summary->refused++;
    return SK_OK;
}

enum sk_status sk_platform_bus_add_nodes(const struct sk_platform_bus_config *config,
                                         struct sk_platform_bus_summary *out_summary)
{
    struct sk_platform_bus_summary summary = { 0 };
    struct sk_fdt_node at;
    enum sk_status status;

    if (config == NULL || config->fdt == NULL || config->manager == NULL ||
        config->platform == NULL || config->arena == NULL || config->domains == NULL ||
        config->domain_capacity == 0) {
        return SK_ERR_INVALID;
    }
    status = sk_fdt_root(config->fdt, &at);
    if (status == SK_ERR_INVALID) {
        return status;
    }
    while (status == SK_OK) {
        status = consider_node(config, &at, &summary);
        if (status == SK_OK) {
            status = sk_fdt_next(config->fdt, &at);
        }
    }
    if (out_summary != NULL) {
        *out_summary = summary;
    }
    return status == SK_ERR_NOT_FOUND ? SK_OK : status;
}
