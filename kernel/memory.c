/* SPDX-License-Identifier: MIT */
#include <skio/checked.h>

#include "arch/arch.h"
#include "console.h"
#include "memory.h"

#define RANGES_MAX 32
#define PAGE_MASK  ((uint64_t)ARCH_PAGE_BYTES - 1)

struct sk_dma_arena memory_arena;

static struct sk_device_range ram[RANGES_MAX]; /* as the tree says */
static size_t ram_count;
static struct arch_range usable[RANGES_MAX + 1]; /* and the tree's own at the end */
static size_t usable_count;
static struct sk_dma_zone zones[RANGES_MAX];

uint64_t memory_total(void)
{
    uint64_t total = 0;

    for (size_t i = 0; i < ram_count; i++) {
        total += ram[i].bytes;
    }
    return total;
}

static bool overlap(uint64_t a, uint64_t a_bytes, uint64_t b, uint64_t b_bytes)
{
    return a < b ? b - a < a_bytes : a - b < b_bytes;
}

bool memory_overlaps(uint64_t base, uint64_t bytes)
{
    for (size_t i = 0; i < ram_count; i++) {
        if (overlap(base, bytes, ram[i].base.raw, ram[i].bytes)) {
            return true;
        }
    }
    return false;
}

/* Whole pages within the range, below what the kernel can see. */
static struct arch_range shrink(const struct sk_device_range *range)
{
    struct arch_range pages = { (range->base.raw + PAGE_MASK) & ~PAGE_MASK, 0, true };
    uint64_t end = range->base.raw + range->bytes;

    if (end < range->base.raw || end > arch_direct_limit()) {
        end = arch_direct_limit();
    }
    end &= ~PAGE_MASK;
    pages.bytes = end > pages.base ? end - pages.base : 0;
    return pages;
}

static enum sk_status collect(const struct sk_fdt *fdt)
{
    struct sk_device_range range;
    enum sk_status status;

    for (uint32_t i = 0; (status = sk_fdt_memory(fdt, i, &range)) == SK_OK; i++) {
        if (range.bytes == 0) {
            continue;
        }
        if (ram_count == RANGES_MAX || memory_overlaps(range.base.raw, range.bytes)) {
            return ram_count == RANGES_MAX ? SK_ERR_RANGE : SK_ERR_MALFORMED;
        }
        ram[ram_count++] = range;
        usable[usable_count] = shrink(&range);
        usable_count += usable[usable_count].bytes > 0;
    }
    return status == SK_ERR_NOT_FOUND ? SK_OK : status;
}

static void drop(size_t index)
{
    usable_count--;
    for (; index < usable_count; index++) {
        usable[index] = usable[index + 1];
    }
}

/* Takes [base, end) out of one usable range; what stays behind it becomes a new one. */
static enum sk_status cut(size_t index, uint64_t base, uint64_t end)
{
    struct arch_range *range = &usable[index];
    uint64_t range_end = range->base + range->bytes;

    if (base > range->base && end < range_end) {
        if (usable_count == RANGES_MAX) {
            return SK_ERR_RANGE;
        }
        usable[usable_count++] = (struct arch_range){ end, range_end - end, true };
        range->bytes = base - range->base;
    } else if (base > range->base) {
        range->bytes = base - range->base;
    } else if (end < range_end) {
        range->bytes = range_end - end;
        range->base = end;
    } else {
        drop(index);
    }
    return SK_OK;
}

/* Takes a range, grown to whole pages, out of all usable ones. */
static enum sk_status reserve(const struct sk_device_range *range)
{
    uint64_t base = range->base.raw & ~PAGE_MASK;
    uint64_t end;
    enum sk_status status = SK_OK;

    if (range->bytes == 0) {
        return SK_OK;
    }
    if (!sk_checked_add(range->base.raw, range->bytes, &end) ||
        !sk_checked_align_up(end, ARCH_PAGE_BYTES, &end)) {
        end = UINT64_MAX & ~PAGE_MASK;
    }
    for (size_t i = usable_count; i-- > 0 && status == SK_OK;) {
        if (overlap(usable[i].base, usable[i].bytes, base, end - base)) {
            status = cut(i, base, end);
        }
    }
    return status;
}

static enum sk_status reserve_all(const struct sk_fdt *fdt, const struct sk_device_range *tree)
{
    struct sk_device_range range;
    enum sk_status status;

    arch_kernel_range(&range);
    if (!memory_overlaps(range.base.raw, range.bytes)) {
        return SK_ERR_MALFORMED;
    }
    status = reserve(&range);
    if (status == SK_OK) {
        status = reserve(tree);
    }
    for (uint32_t i = 0; status == SK_OK; i++) {
        status = sk_fdt_reserved(fdt, i, &range);
        if (status == SK_OK) {
            status = reserve(&range);
        }
    }
    return status == SK_ERR_NOT_FOUND ? SK_OK : status;
}

static void sort_usable(void)
{
    for (size_t i = 1; i < usable_count; i++) {
        struct arch_range range = usable[i];
        size_t at = i;

        for (; at > 0 && usable[at - 1].base > range.base; at--) {
            usable[at] = usable[at - 1];
        }
        usable[at] = range;
    }
}

static void fill_zones(void)
{
    for (size_t i = 0; i < usable_count; i++) {
        zones[i] = (struct sk_dma_zone){ arch_direct(usable[i].base), sk_paddr_make(usable[i].base),
                                         usable[i].bytes, 0 };
    }
}

/* The metadata comes off the end of the largest range. */
static enum sk_status make_arena(void)
{
    size_t largest = 0;
    uint64_t bytes;
    void *metadata;

    fill_zones();
    if (!sk_checked_align_up(sk_dma_arena_metadata_bytes(zones, usable_count), ARCH_PAGE_BYTES,
                             &bytes) ||
        bytes == 0) {
        return SK_ERR_NO_MEMORY;
    }
    for (size_t i = 1; i < usable_count; i++) {
        largest = usable[i].bytes > usable[largest].bytes ? i : largest;
    }
    if (usable[largest].bytes <= bytes) {
        return SK_ERR_NO_MEMORY;
    }
    usable[largest].bytes -= bytes;
    fill_zones();
    metadata = arch_direct(usable[largest].base + usable[largest].bytes);
    return sk_dma_arena_init(&memory_arena, zones, usable_count, metadata, bytes, &console_log);
}

enum sk_status memory_init(const struct sk_fdt *fdt, const struct sk_device_range *tree)
{
    uint64_t tree_base = tree->base.raw & ~PAGE_MASK;
    uint64_t tree_end = (tree->base.raw + tree->bytes + PAGE_MASK) & ~PAGE_MASK;
    enum sk_status status = collect(fdt);

    if (status == SK_OK) {
        status = reserve_all(fdt, tree);
    }
    if (status == SK_OK && usable_count == 0) {
        status = SK_ERR_NO_MEMORY;
    }
    if (status != SK_OK) {
        return status;
    }
    sort_usable();
    usable[usable_count] = (struct arch_range){ tree_base, tree_end - tree_base, false };
    status = arch_pages_init(usable, usable_count + 1);
    return status == SK_OK ? make_arena() : status;
}

void *aligned_alloc(size_t alignment, size_t size)
{
    struct sk_dma_fit fit = { .bytes = size, .alignment = alignment, .highest = { UINT64_MAX } };
    struct sk_dma_run run;

    return sk_dma_arena_alloc(&memory_arena, &fit, &run) == SK_OK ? run.cpu : NULL;
}

void aligned_free(void *memory)
{
    struct sk_dma_run run;
    enum sk_status status = SK_OK;

    if (memory == NULL) {
        return;
    }
    status = sk_dma_arena_find(&memory_arena, memory, &run);
    if (status == SK_OK) {
        status = sk_dma_arena_free(&memory_arena, &run);
    }
    if (status != SK_OK) {
        sk_log_print(&console_log, SK_LOG_ERROR, "aligned_free(%p): %s", memory,
                     sk_status_text(status));
    }
}
