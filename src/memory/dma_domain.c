/* SPDX-License-Identifier: MIT */
#include "memory/dma_private.h"

#include <skio/io_buffer.h>

#include "base/bytes.h"
#include "base/door.h"

#define CACHE_LINE_BYTES_DEFAULT 64u
#define PAGE_BYTES_DEFAULT       4096u

static bool is_power_or_zero(uint32_t value)
{
    return value == 0 || sk_checked_is_power_of_two(value);
}

static bool windows_are_usable(const struct sk_dma_domain_config *config)
{
    if (config->windows == NULL || config->window_count == 0) {
        return false;
    }
    for (size_t i = 0; i < config->window_count; i++) {
        const struct sk_dma_window *window = &config->windows[i];

        if (window->bytes == 0 || window->paddr.raw > UINT64_MAX - (window->bytes - 1) ||
            window->daddr.raw > UINT64_MAX - (window->bytes - 1)) {
            return false;
        }
    }
    return true;
}

static bool config_is_usable(const struct sk_dma_domain_config *config)
{
    if (config == NULL || config->platform == NULL || config->arena == NULL ||
        !is_power_or_zero(config->platform->page_bytes) ||
        !is_power_or_zero(config->platform->cache_line_bytes)) {
        return false;
    }
    if (config->iommu != NULL) {
        return config->iommu->map != NULL && config->iommu->unmap != NULL;
    }
    return windows_are_usable(config);
}

enum sk_status sk_dma_domain_init(struct sk_dma_domain *domain,
                                  const struct sk_dma_domain_config *config)
{
    enum sk_status status;

    if (domain == NULL) {
        return SK_ERR_INVALID;
    }
    *domain = (struct sk_dma_domain){ 0 };
    if (!config_is_usable(config)) {
        return SK_ERR_INVALID;
    }
    status = ski_dma_constraints_check(&config->limits);
    if (status != SK_OK) {
        return status;
    }
    *domain = (struct sk_dma_domain){
        .platform = config->platform,
        .arena = config->arena,
        .windows = config->iommu == NULL ? config->windows : NULL,
        .iommu = config->iommu,
        .window_count = config->iommu == NULL ? config->window_count : 0,
        .limits = config->limits,
        .coherent = config->coherent,
        .force_bounce = config->force_bounce,
    };
    domain->limits.size_bytes = 0; /* a bus limits places, it asks for no memory */
    return SK_OK;
}

enum sk_status sk_dma_domain_deinit(struct sk_dma_domain *domain)
{
    const struct sk_log *log;

    if (domain == NULL) {
        return SK_ERR_INVALID;
    }
    if (domain->platform == NULL) {
        return SK_ERR_GONE;
    }
    log = domain->platform->log;
    for (const struct sk_io_buffer *buffer = domain->live; buffer != NULL; buffer = buffer->next) {
        sk_log_print(log, SK_LOG_ERROR,
                     "dma_domain: still live: buffer of %s at device address 0x%llx, %llu bytes",
                     buffer->owner == NULL ? "nobody" : buffer->owner,
                     (unsigned long long)buffer->address.raw, (unsigned long long)buffer->size);
    }
    if (domain->statistics.mappings_live != 0) {
        sk_log_print(log, SK_LOG_ERROR, "dma_domain: still live: %llu mappings",
                     (unsigned long long)domain->statistics.mappings_live);
    }
    if (domain->live != NULL || domain->statistics.mappings_live != 0) {
        return SK_ERR_BUSY;
    }
    *domain = (struct sk_dma_domain){ 0 };
    return SK_OK;
}

static uint64_t bias_of(const struct sk_dma_window *window)
{
    return window->daddr.raw - window->paddr.raw;
}

static uint64_t last_of(const struct sk_dma_window *window)
{
    return window->paddr.raw + (window->bytes - 1);
}

/* Adds a window to [*first, *last] if both are one run on both sides; true if that grew it. */
static bool absorb_window(const struct sk_dma_window *window, uint64_t bias, uint64_t *first,
                          uint64_t *last)
{
    uint64_t start = window->paddr.raw;
    uint64_t end = last_of(window);
    bool touches = (start <= *last || start - 1 == *last) && (end >= *first || end + 1 == *first);
    uint64_t low = start < *first ? start : *first;
    uint64_t high = end > *last ? end : *last;

    /* The bias is modulo 2^64: physical neighbours may lie around the end of device addresses. */
    if (bias_of(window) != bias || !touches || low + bias > high + bias ||
        (low == *first && high == *last)) {
        return false;
    }
    *first = low;
    *last = high;
    return true;
}

/*
 * Grows [*first, *last] by every window that continues it on both sides of the
 * translation.  Each pass swallows at least one window, so there are at most as
 * many passes as windows.
 */
static void grow_range(const struct sk_dma_domain *domain, uint64_t bias, uint64_t *first,
                       uint64_t *last)
{
    bool grown = true;

    for (size_t pass = 0; grown && pass < domain->window_count; pass++) {
        grown = false;
        for (size_t i = 0; i < domain->window_count; i++) {
            grown = absorb_window(&domain->windows[i], bias, first, last) || grown;
        }
    }
}

/* Translates [first, last] if this window and those that continue it cover it. */
static bool window_translates(const struct sk_dma_domain *domain, size_t index, uint64_t first,
                              uint64_t last, sk_daddr *out_daddr)
{
    uint64_t low = domain->windows[index].paddr.raw;
    uint64_t high = last_of(&domain->windows[index]);
    uint64_t bias = bias_of(&domain->windows[index]);

    if (first < low || first > high) {
        return false;
    }
    if (last > high) {
        grow_range(domain, bias, &low, &high);
    }
    if (last > high || first + bias < domain->limits.lowest.raw ||
        last + bias > ski_dma_constraints_highest(&domain->limits)) {
        return false;
    }
    *out_daddr = sk_daddr_make(first + bias);
    return true;
}

enum sk_status sk_dma_domain_translate(const struct sk_dma_domain *domain, sk_paddr paddr,
                                       uint64_t bytes, sk_daddr *out_daddr)
{
    uint64_t last;

    if (domain == NULL || out_daddr == NULL) {
        return SK_ERR_INVALID;
    }
    if (domain->platform == NULL) {
        return SK_ERR_GONE;
    }
    if (domain->iommu != NULL) {
        return SK_ERR_UNSUPPORTED;
    }
    if (bytes == 0) {
        return SK_ERR_SIZE;
    }
    if (!sk_checked_add(paddr.raw, bytes - 1, &last)) {
        return SK_ERR_UNREACHABLE;
    }
    for (size_t i = 0; i < domain->window_count; i++) {
        if (window_translates(domain, i, paddr.raw, last, out_daddr)) {
            return SK_OK;
        }
    }
    return SK_ERR_UNREACHABLE;
}

bool ski_dma_domain_maintains_caches(const struct sk_dma_domain *domain)
{
    return domain->platform->cache_clean != NULL && domain->platform->cache_invalidate != NULL;
}

static bool has_uncached_zone(const struct sk_dma_arena *arena)
{
    for (size_t i = 0; i < arena->zone_count; i++) {
        if ((arena->zones[i].flags & SK_DMA_ZONE_UNCACHED) != 0) {
            return true;
        }
    }
    return false;
}

/* What is tried on the arena, and what became of it. */
struct attempt {
    struct sk_dma_domain *domain;
    struct sk_dma_fit fit;
    struct sk_dma_run *out_run;
    bool reachable; /* by at least one window */
};

/* True if the device can reach some page of the arena, whether it is free or not. */
static bool some_page_is_reachable(const struct attempt *attempt)
{
    const struct sk_dma_arena *arena = attempt->domain->arena;
    const struct sk_dma_fit *fit = &attempt->fit;

    for (size_t i = 0; i < arena->zone_count; i++) {
        const struct sk_dma_zone *zone = &arena->zones[i];
        uint64_t first = zone->paddr.raw;
        uint64_t last = zone->paddr.raw + (zone->bytes - 1);

        first = first > fit->lowest.raw ? first : fit->lowest.raw;
        last = last < fit->highest.raw ? last : fit->highest.raw;
        if ((zone->flags & fit->zone_flags) == fit->zone_flags && first <= last &&
            last - first >= SK_DMA_PAGE_BYTES - 1) {
            return true;
        }
    }
    return false;
}

static enum sk_status alloc(const struct attempt *attempt)
{
    return sk_dma_arena_alloc(attempt->domain->arena, &attempt->fit, attempt->out_run);
}

/* Tries the part of one window that the constraints leave. */
static enum sk_status try_window(struct attempt *attempt, size_t index,
                                 const struct sk_dma_constraints *constraints)
{
    const struct sk_dma_window *window = &attempt->domain->windows[index];
    uint64_t bias = bias_of(window);
    uint64_t first = window->paddr.raw;
    uint64_t last = last_of(window);
    uint64_t highest = ski_dma_constraints_highest(constraints);

    grow_range(attempt->domain, bias, &first, &last);
    if (bias % SK_DMA_PAGE_BYTES != 0 || last + bias < constraints->lowest.raw ||
        first + bias > highest) {
        return SK_ERR_UNREACHABLE;
    }
    attempt->fit.bias = bias;
    attempt->fit.lowest.raw =
        first + bias < constraints->lowest.raw ? constraints->lowest.raw - bias : first;
    attempt->fit.highest.raw = last + bias > highest ? highest - bias : last;
    if (!some_page_is_reachable(attempt)) {
        return SK_ERR_UNREACHABLE;
    }
    attempt->reachable = true;
    return alloc(attempt);
}

/* Tries window by window, or all memory at once with an IOMMU. */
static enum sk_status try_alignment(struct attempt *attempt, uint64_t alignment,
                                    const struct sk_dma_constraints *constraints)
{
    enum sk_status status = SK_ERR_UNREACHABLE;

    attempt->fit.alignment = alignment == 0 ? 1 : alignment;
    if (attempt->domain->iommu != NULL) {
        attempt->fit.highest.raw = UINT64_MAX;
        attempt->reachable = some_page_is_reachable(attempt);
        return attempt->reachable ? alloc(attempt) : SK_ERR_UNREACHABLE;
    }
    for (size_t i = 0; i < attempt->domain->window_count && status != SK_OK; i++) {
        status = try_window(attempt, i, constraints);
    }
    if (status != SK_OK) {
        status = attempt->reachable ? SK_ERR_NO_MEMORY : SK_ERR_UNREACHABLE;
    }
    return status;
}

enum sk_status ski_dma_domain_take(struct sk_dma_domain *domain,
                                   const struct sk_dma_constraints *constraints,
                                   struct ski_dma_memory *out_memory)
{
    bool uncached = !domain->coherent && has_uncached_zone(domain->arena);
    struct attempt attempt = { .domain = domain, .out_run = &out_memory->run };
    enum sk_status status = SK_ERR_NO_MEMORY;

    if (!domain->coherent && !uncached && !ski_dma_domain_maintains_caches(domain)) {
        return SK_ERR_UNSUPPORTED;
    }
    if (constraints->boundary_bytes != 0 && constraints->size_bytes > constraints->boundary_bytes) {
        return SK_ERR_RANGE;
    }
    out_memory->coherent = domain->coherent || uncached;
    attempt.fit.quiet = true; /* a failed attempt is not a fault yet */
    attempt.fit.bytes = constraints->size_bytes;
    attempt.fit.boundary = constraints->boundary_bytes;
    attempt.fit.zone_flags = uncached ? SK_DMA_ZONE_UNCACHED : 0;
    if (constraints->alignment_preferred > constraints->alignment_bytes) {
        status = try_alignment(&attempt, constraints->alignment_preferred, constraints);
    }
    if (status != SK_OK) {
        status = try_alignment(&attempt, constraints->alignment_bytes, constraints);
    }
    return status;
}

void ski_dma_domain_give(struct sk_dma_domain *domain, const struct sk_dma_run *run, bool in_doubt)
{
    enum sk_status status = in_doubt ? sk_dma_arena_quarantine(domain->arena, run)
                                     : sk_dma_arena_free(domain->arena, run);

    if (status != SK_OK) {
        sk_log_print(domain->platform->log, SK_LOG_ERROR,
                     "dma_domain: the arena refused its own run at 0x%llx: %s",
                     (unsigned long long)run->paddr.raw, sk_status_name(status));
    }
}

/* Takes back a map that turned out to be useless; says `why` unless that fails too. */
static enum sk_status undo_map(struct sk_dma_domain *domain, sk_daddr address, uint64_t bytes,
                               enum sk_status why)
{
    return ski_dma_domain_conceal(domain, address, bytes) == SK_OK ? why : SK_ERR_IN_DOUBT;
}

enum sk_status ski_dma_domain_expose(struct sk_dma_domain *domain, sk_paddr paddr, uint64_t bytes,
                                     enum sk_dma_direction direction,
                                     const struct sk_dma_constraints *constraints,
                                     sk_daddr *out_address)
{
    sk_daddr address = { 0 };
    enum sk_status status;

    if (domain->iommu == NULL) {
        status = sk_dma_domain_translate(domain, paddr, bytes, &address);
    } else {
        status = domain->iommu->map(domain->iommu->context, paddr, bytes, direction, &address);
    }
    if (status != SK_OK) {
        return status;
    }
    if (!ski_dma_constraints_allow(constraints, address, bytes)) {
        return undo_map(domain, address, bytes, SK_ERR_UNREACHABLE);
    }
    *out_address = address;
    return SK_OK;
}

enum sk_status ski_dma_domain_conceal(struct sk_dma_domain *domain, sk_daddr address,
                                      uint64_t bytes)
{
    enum sk_status status;

    if (domain->iommu == NULL) {
        return SK_OK;
    }
    status = domain->iommu->unmap(domain->iommu->context, address, bytes);
    if (status != SK_OK) {
        sk_log_print(domain->platform->log, SK_LOG_ERROR,
                     "dma_domain: device address 0x%llx, %llu bytes, could not be unmapped: %s",
                     (unsigned long long)address.raw, (unsigned long long)bytes,
                     sk_status_name(status));
    }
    return status;
}

static bool ends_on(const void *cpu, uint64_t bytes, uint64_t unit)
{
    return (((uint64_t)(uintptr_t)cpu | bytes) & (unit - 1)) == 0;
}

bool ski_dma_domain_owns_lines(const struct sk_dma_domain *domain, const void *cpu, uint64_t bytes)
{
    uint32_t line = domain->platform->cache_line_bytes;

    return ends_on(cpu, bytes, line == 0 ? CACHE_LINE_BYTES_DEFAULT : line);
}

uint64_t ski_dma_domain_page_bytes(const struct sk_dma_domain *domain)
{
    uint32_t page = domain->platform->page_bytes;

    return page == 0 ? PAGE_BYTES_DEFAULT : page;
}

bool ski_dma_domain_owns_pages(const struct sk_dma_domain *domain, const void *cpu, uint64_t bytes)
{
    return ends_on(cpu, bytes, ski_dma_domain_page_bytes(domain));
}

/*
 * Cleaning is right for every direction: a line that is not dirty is not
 * written back over what the device writes, and a neighbour loses nothing.
 */
void ski_dma_domain_sync_for_device(const struct sk_dma_domain *domain, const void *cpu,
                                    uint64_t bytes, bool coherent)
{
    if (coherent) {
        ski_door_hand_over();
        return;
    }
    if (bytes != 0) {
        domain->platform->cache_clean(domain->platform->context, cpu, (size_t)bytes);
    }
    /* Whatever tells the device comes after the lines have arrived. */
    ski_arch_device_fence();
}

void ski_dma_domain_sync_for_cpu(const struct sk_dma_domain *domain, const void *cpu,
                                 uint64_t bytes, enum sk_dma_direction direction, bool coherent)
{
    if (coherent) {
        ski_door_take_over();
        return;
    }
    /* Lines go only after whatever told that the device is done. */
    ski_arch_device_fence();
    /* Again, although it was clean before: the CPU may have fetched lines ahead meanwhile. */
    if (bytes != 0 && direction != SK_DMA_TO_DEVICE) {
        domain->platform->cache_invalidate(domain->platform->context, cpu, (size_t)bytes);
    }
}

void sk_dma_domain_get_statistics(const struct sk_dma_domain *domain,
                                  struct sk_dma_domain_statistics *out_statistics)
{
    if (out_statistics == NULL) {
        return;
    }
    *out_statistics = domain == NULL ? (struct sk_dma_domain_statistics){ 0 } : domain->statistics;
}
