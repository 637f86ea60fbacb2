/* SPDX-License-Identifier: MIT */
#include <skio/dma_arena.h>

#include <skio/checked.h>

#include "base/bytes.h"
#include "memory/run_tree.h"

#define METADATA_ALIGNMENT 16u

/* How the metadata memory is divided: the tree, then the places. */
struct layout {
    uint64_t places; /* bytes from the start */
    uint64_t bytes;
    uint32_t bucket_count;
};

/* What a request means in pages. */
struct wanted {
    const struct sk_dma_fit *fit;
    uint32_t pages;
};

/* Where a request can be satisfied. */
struct spot {
    uint32_t run;  /* the free run that it is taken from */
    uint32_t page; /* the first page; SKI_RUN_TREE_NONE: nowhere */
};

static const struct spot nowhere = { SKI_RUN_TREE_NONE, SKI_RUN_TREE_NONE };

/* Buckets that a zone takes: its pages and at least one more, never free, so that zones never merge. */
static uint64_t zone_buckets(const struct sk_dma_zone *zone)
{
    return zone->bytes / SK_DMA_PAGE_BYTES / SKI_RUN_TREE_BUCKET + 1;
}

static bool divide_metadata(const struct sk_dma_zone *zones, size_t zone_count,
                            struct layout *out_layout)
{
    uint64_t buckets = 0;

    for (size_t i = 0; i < zone_count; i++) {
        buckets += zone_buckets(&zones[i]);
        if (buckets > SKI_RUN_TREE_BUCKETS_MAX) {
            return false;
        }
    }
    out_layout->bucket_count = (uint32_t)buckets;
    out_layout->places = ski_run_tree_bytes((uint32_t)buckets);
    out_layout->bytes = out_layout->places + zone_count * sizeof(struct sk_dma_arena_place);
    return out_layout->bytes <= SIZE_MAX;
}

static bool overlaps(uint64_t a, uint64_t a_bytes, uint64_t b, uint64_t b_bytes)
{
    return a < b ? b - a < a_bytes : a - b < b_bytes;
}

static enum sk_status check_zone(const struct sk_dma_zone *zone)
{
    if (zone->cpu == NULL || (zone->flags & ~SK_DMA_ZONE_UNCACHED) != 0) {
        return SK_ERR_INVALID;
    }
    if (zone->bytes == 0 || zone->bytes % SK_DMA_PAGE_BYTES != 0) {
        return SK_ERR_SIZE;
    }
    if ((uintptr_t)zone->cpu % SK_DMA_PAGE_BYTES != 0 || zone->paddr.raw % SK_DMA_PAGE_BYTES != 0) {
        return SK_ERR_ALIGNMENT;
    }
    if (zone->bytes - 1 > UINT64_MAX - zone->paddr.raw ||
        zone->bytes - 1 > UINTPTR_MAX - (uintptr_t)zone->cpu) {
        return SK_ERR_INVALID;
    }
    return SK_OK;
}

static enum sk_status check_zones(const struct sk_dma_zone *zones, size_t zone_count)
{
    if (zones == NULL || zone_count == 0) {
        return SK_ERR_INVALID;
    }
    for (size_t i = 0; i < zone_count; i++) {
        enum sk_status status = check_zone(&zones[i]);

        if (status != SK_OK) {
            return status;
        }
        if (i > 0 && (zones[i].paddr.raw <= zones[i - 1].paddr.raw ||
                      zones[i].paddr.raw - zones[i - 1].paddr.raw < zones[i - 1].bytes)) {
            return SK_ERR_INVALID;
        }
        for (size_t j = 0; j < i; j++) {
            if (overlaps((uintptr_t)zones[i].cpu, zones[i].bytes, (uintptr_t)zones[j].cpu,
                         zones[j].bytes)) {
                return SK_ERR_INVALID;
            }
        }
    }
    return SK_OK;
}

static enum sk_status check_metadata(const struct sk_dma_zone *zones, size_t zone_count,
                                     const void *metadata, size_t metadata_bytes, uint64_t needed)
{
    if (metadata == NULL) {
        return SK_ERR_INVALID;
    }
    if ((uintptr_t)metadata % METADATA_ALIGNMENT != 0) {
        return SK_ERR_ALIGNMENT;
    }
    if (metadata_bytes < needed) {
        return SK_ERR_SIZE;
    }
    for (size_t i = 0; i < zone_count; i++) {
        if (overlaps((uintptr_t)metadata, needed, (uintptr_t)zones[i].cpu, zones[i].bytes)) {
            return SK_ERR_INVALID;
        }
    }
    return SK_OK;
}

size_t sk_dma_arena_metadata_bytes(const struct sk_dma_zone *zones, size_t zone_count)
{
    struct layout layout;

    if (check_zones(zones, zone_count) != SK_OK || !divide_metadata(zones, zone_count, &layout)) {
        return 0;
    }
    return (size_t)layout.bytes;
}

static void give_zones(struct sk_dma_arena *arena)
{
    uint32_t first = 0;
    uint32_t before = 0;

    for (size_t i = 0; i < arena->zone_count; i++) {
        uint32_t pages = (uint32_t)(arena->zones[i].bytes / SK_DMA_PAGE_BYTES);

        arena->places[i].first = first;
        arena->places[i].pages = pages;
        arena->places[i].before = before;
        ski_run_tree_give(&arena->tree, first, pages);
        first += (uint32_t)zone_buckets(&arena->zones[i]) * SKI_RUN_TREE_BUCKET;
        before += pages;
    }
    arena->statistics.pages_total = before;
}

enum sk_status sk_dma_arena_init(struct sk_dma_arena *arena, const struct sk_dma_zone *zones,
                                 size_t zone_count, void *metadata, size_t metadata_bytes,
                                 const struct sk_log *log)
{
    struct layout layout;
    enum sk_status status;

    if (arena == NULL) {
        return SK_ERR_INVALID;
    }
    memset(arena, 0, sizeof(*arena));
    status = check_zones(zones, zone_count);
    if (status != SK_OK) {
        return status;
    }
    if (!divide_metadata(zones, zone_count, &layout)) {
        return SK_ERR_INVALID;
    }
    status = check_metadata(zones, zone_count, metadata, metadata_bytes, layout.bytes);
    if (status != SK_OK) {
        return status;
    }
    arena->log = log;
    arena->zones = zones;
    arena->zone_count = zone_count;
    arena->places = (void *)((uint8_t *)metadata + layout.places);
    ski_run_tree_init(&arena->tree, layout.bucket_count, metadata);
    give_zones(arena);
    return SK_OK;
}

static uint64_t free_pages(const struct sk_dma_arena *arena)
{
    const struct sk_dma_arena_statistics *statistics = &arena->statistics;

    return statistics->pages_total - statistics->pages_live - statistics->pages_quarantined;
}

/* The zone of a page number that is in use. */
static size_t zone_of(const struct sk_dma_arena *arena, uint32_t page)
{
    size_t low = 0;
    size_t high = arena->zone_count;

    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;

        if (arena->places[middle].first <= page) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return low;
}

/* True if a live run starts at a page number that is in use. */
static bool is_start(const struct sk_dma_arena *arena, uint32_t page)
{
    return arena->tree.tags[page].pages - 1 < SKI_RUN_TREE_FREE - 1;
}

/* The handle of the live run that starts at `page`. */
static struct sk_dma_run run_at(const struct sk_dma_arena *arena, uint32_t page)
{
    size_t zone = zone_of(arena, page);
    uint64_t offset = (uint64_t)(page - arena->places[zone].first) * SK_DMA_PAGE_BYTES;
    struct sk_dma_run run;

    run.cpu = (uint8_t *)arena->zones[zone].cpu + offset;
    run.paddr = sk_paddr_make(arena->zones[zone].paddr.raw + offset);
    run.bytes = (uint64_t)arena->tree.tags[page].pages * SK_DMA_PAGE_BYTES;
    run.page = page;
    run.generation = arena->tree.tags[page].generation;
    return run;
}

/* Which of the arena's requests can be satisfied by no arena at all. */
static enum sk_status check_fit(const struct sk_dma_fit *fit)
{
    uint64_t bytes;

    if (fit->bytes == 0) {
        return SK_ERR_SIZE;
    }
    if (!sk_checked_is_power_of_two(fit->alignment) || (fit->boundary & (fit->boundary - 1)) != 0 ||
        fit->bias % SK_DMA_PAGE_BYTES != 0) {
        return SK_ERR_ALIGNMENT;
    }
    if (!sk_checked_align_up(fit->bytes, SK_DMA_PAGE_BYTES, &bytes) ||
        fit->lowest.raw > fit->highest.raw || bytes - 1 > fit->highest.raw - fit->lowest.raw ||
        (fit->boundary != 0 && fit->bytes > fit->boundary)) {
        return SK_ERR_RANGE;
    }
    return SK_OK;
}

/* How many bytes a run at this physical address must move up to be aligned and cross no boundary. */
static uint64_t misfit(const struct sk_dma_fit *fit, uint64_t paddr)
{
    uint64_t address = paddr + fit->bias;
    uint64_t up = (0 - address) & (fit->alignment - 1);

    if (fit->boundary > SK_DMA_PAGE_BYTES) {
        uint64_t offset = (address + up) & (fit->boundary - 1);

        /* A boundary is aligned: with an alignment beyond it the offset is 0 already. */
        if (offset + fit->bytes > fit->boundary) {
            up += fit->boundary - offset;
        }
    }
    return up;
}

/* The pages of a zone that a request may use: [*out_first, *out_end); false if none. */
static bool window_of(const struct sk_dma_arena *arena, size_t zone, const struct sk_dma_fit *fit,
                      uint32_t *out_first, uint32_t *out_end)
{
    const struct sk_dma_zone *z = &arena->zones[zone];
    uint64_t last = z->paddr.raw + (z->bytes - 1);
    uint64_t lowest = 0;

    if ((z->flags & fit->zone_flags) != fit->zone_flags || fit->lowest.raw > last ||
        fit->highest.raw < z->paddr.raw) {
        return false;
    }
    if (fit->lowest.raw > z->paddr.raw) {
        lowest = (fit->lowest.raw - z->paddr.raw + SK_DMA_PAGE_BYTES - 1) / SK_DMA_PAGE_BYTES;
    }
    *out_first = arena->places[zone].first + (uint32_t)lowest;
    *out_end = arena->places[zone].first + arena->places[zone].pages;
    if (fit->highest.raw < last) {
        *out_end = arena->places[zone].first +
                   (uint32_t)((fit->highest.raw - z->paddr.raw + 1) / SK_DMA_PAGE_BYTES);
    }
    return *out_first < *out_end;
}

/* The lowest free run that is long enough and has pages at `first` or above. */
static uint32_t first_candidate(const struct sk_dma_arena *arena, size_t zone, uint32_t first,
                                uint32_t pages)
{
    if (first != arena->places[zone].first) {
        uint32_t run = ski_run_tree_find_below(&arena->tree, first, pages);

        if (run != SKI_RUN_TREE_NONE && ski_run_tree_length(&arena->tree, run) > first - run) {
            return run;
        }
    }
    return ski_run_tree_find(&arena->tree, first, pages);
}

/* The lowest spot in one zone. */
static struct spot find_in_zone(const struct sk_dma_arena *arena, size_t zone,
                                const struct wanted *wanted)
{
    uint64_t base = arena->zones[zone].paddr.raw;
    uint32_t zone_first = arena->places[zone].first;
    uint32_t first;
    uint32_t end;
    uint32_t run;

    if (!window_of(arena, zone, wanted->fit, &first, &end)) {
        return nowhere;
    }
    run = first_candidate(arena, zone, first, wanted->pages);
    while (run < end) {
        uint32_t run_end = run + ski_run_tree_length(&arena->tree, run);
        uint32_t page = run < first ? first : run;
        uint64_t up = misfit(wanted->fit, base + (uint64_t)(page - zone_first) * SK_DMA_PAGE_BYTES);
        uint64_t room = (run_end < end ? run_end : end) - page;

        if (up / SK_DMA_PAGE_BYTES + wanted->pages <= room) {
            return (struct spot){ run, page + (uint32_t)(up / SK_DMA_PAGE_BYTES) };
        }
        run = ski_run_tree_find(&arena->tree, run_end, wanted->pages);
    }
    return nowhere;
}

static struct spot find_spot(const struct sk_dma_arena *arena, const struct wanted *wanted)
{
    for (size_t zone = 0; zone < arena->zone_count; zone++) {
        struct spot spot = find_in_zone(arena, zone, wanted);

        if (spot.page != SKI_RUN_TREE_NONE) {
            return spot;
        }
    }
    return nowhere;
}

static void log_failure(const struct sk_dma_arena *arena, const struct sk_dma_fit *fit,
                        enum sk_status status)
{
    if (fit->quiet) {
        return;
    }
    sk_log_print(arena->log, SK_LOG_ERROR,
                 "dma_arena: %s: %llu bytes, alignment 0x%llx, boundary 0x%llx in "
                 "[0x%llx, 0x%llx]; free %llu pages, longest run %u",
                 sk_status_name(status), (unsigned long long)fit->bytes,
                 (unsigned long long)fit->alignment, (unsigned long long)fit->boundary,
                 (unsigned long long)fit->lowest.raw, (unsigned long long)fit->highest.raw,
                 (unsigned long long)free_pages(arena), (unsigned)ski_run_tree_longest(&arena->tree));
}

static enum sk_status fail_alloc(struct sk_dma_arena *arena, const struct sk_dma_fit *fit,
                                 enum sk_status status)
{
    uint64_t pages = fit->bytes / SK_DMA_PAGE_BYTES + (fit->bytes % SK_DMA_PAGE_BYTES != 0);
    enum sk_dma_arena_failure reason = SK_DMA_ARENA_FAILURE_CONSTRAINT;

    if (status != SK_ERR_NO_MEMORY) {
        reason = SK_DMA_ARENA_FAILURE_INVALID;
    } else if (pages > free_pages(arena)) {
        reason = SK_DMA_ARENA_FAILURE_EXHAUSTED;
    } else if (pages > ski_run_tree_longest(&arena->tree)) {
        reason = SK_DMA_ARENA_FAILURE_FRAGMENTED;
    }
    arena->statistics.failures[reason]++;
    log_failure(arena, fit, status);
    return status;
}

/* Raises the high-water mark to a run that ends before page number `end`. */
static void raise_high_water(struct sk_dma_arena *arena, uint32_t end)
{
    const struct sk_dma_arena_place *place;

    if (end <= arena->highest_end) {
        return;
    }
    place = &arena->places[zone_of(arena, end - 1)];
    arena->highest_end = end;
    arena->statistics.pages_high_water = place->before + (end - place->first);
}

static void commit(struct sk_dma_arena *arena, const struct spot *spot, uint32_t pages)
{
    struct sk_dma_arena_statistics *statistics = &arena->statistics;

    ski_run_tree_take(&arena->tree, spot->run, spot->page, pages);
    statistics->pages_live += pages;
    if (statistics->pages_live > statistics->pages_peak) {
        statistics->pages_peak = statistics->pages_live;
    }
    statistics->runs_live++;
    statistics->allocations++;
    raise_high_water(arena, spot->page + pages);
}

enum sk_status sk_dma_arena_alloc(struct sk_dma_arena *arena, const struct sk_dma_fit *fit,
                                  struct sk_dma_run *out_run)
{
    struct wanted wanted;
    struct spot spot;
    enum sk_status status;

    if (arena == NULL || fit == NULL || out_run == NULL) {
        return SK_ERR_INVALID;
    }
    if (arena->zone_count == 0) {
        return SK_ERR_GONE;
    }
    status = check_fit(fit);
    if (status != SK_OK) {
        return fail_alloc(arena, fit, status);
    }
    if ((fit->bytes - 1) / SK_DMA_PAGE_BYTES >= ski_run_tree_longest(&arena->tree)) {
        return fail_alloc(arena, fit, SK_ERR_NO_MEMORY);
    }
    wanted.fit = fit;
    wanted.pages = (uint32_t)((fit->bytes - 1) / SK_DMA_PAGE_BYTES + 1);
    spot = find_spot(arena, &wanted);
    if (spot.page == SKI_RUN_TREE_NONE) {
        return fail_alloc(arena, fit, SK_ERR_NO_MEMORY);
    }
    commit(arena, &spot, wanted.pages);
    *out_run = run_at(arena, spot.page);
    return SK_OK;
}

/* True if the handle is exactly the one of a live run. */
static bool is_live(const struct sk_dma_arena *arena, const struct sk_dma_run *run)
{
    struct sk_dma_run live;

    if (run->page >= arena->tree.bucket_count * SKI_RUN_TREE_BUCKET || !is_start(arena, run->page)) {
        return false;
    }
    live = run_at(arena, run->page);
    return run->generation == live.generation && run->cpu == live.cpu &&
           run->paddr.raw == live.paddr.raw && run->bytes == live.bytes;
}

static enum sk_status refuse(struct sk_dma_arena *arena, const struct sk_dma_run *run,
                             const char *call)
{
    arena->statistics.failures[SK_DMA_ARENA_FAILURE_FREE]++;
    sk_log_print(arena->log, SK_LOG_ERROR,
                 "dma_arena: %s of a run that is not live: 0x%llx, %llu bytes, page %u, "
                 "generation %u",
                 call, (unsigned long long)run->paddr.raw, (unsigned long long)run->bytes,
                 (unsigned)run->page, (unsigned)run->generation);
    return SK_ERR_GONE;
}

/* Ends a live run: from now on its handle is stale.  Returns its length in pages. */
static uint32_t end_run(struct sk_dma_arena *arena, uint32_t page)
{
    struct sk_dma_arena_tag *tag = &arena->tree.tags[page];
    uint32_t pages = tag->pages;

    tag->pages = 0;
    tag->generation++;
    arena->statistics.pages_live -= pages;
    arena->statistics.runs_live--;
    return pages;
}

enum sk_status sk_dma_arena_free(struct sk_dma_arena *arena, const struct sk_dma_run *run)
{
    if (arena == NULL || run == NULL) {
        return SK_ERR_INVALID;
    }
    if (!is_live(arena, run)) {
        return refuse(arena, run, "free");
    }
    ski_run_tree_give(&arena->tree, run->page, end_run(arena, run->page));
    return SK_OK;
}

enum sk_status sk_dma_arena_quarantine(struct sk_dma_arena *arena, const struct sk_dma_run *run)
{
    uint32_t pages;

    if (arena == NULL || run == NULL) {
        return SK_ERR_INVALID;
    }
    if (!is_live(arena, run)) {
        return refuse(arena, run, "quarantine");
    }
    pages = end_run(arena, run->page);
    arena->statistics.pages_quarantined += pages;
    return SK_OK;
}

enum sk_status sk_dma_arena_find(const struct sk_dma_arena *arena, const void *cpu,
                                 struct sk_dma_run *out_run)
{
    if (arena == NULL || out_run == NULL) {
        return SK_ERR_INVALID;
    }
    for (size_t i = 0; i < arena->zone_count; i++) {
        uintptr_t offset = (uintptr_t)cpu - (uintptr_t)arena->zones[i].cpu;
        uint32_t page;

        if (offset >= arena->zones[i].bytes) {
            continue;
        }
        page = arena->places[i].first + (uint32_t)(offset / SK_DMA_PAGE_BYTES);
        if (offset % SK_DMA_PAGE_BYTES != 0 || !is_start(arena, page)) {
            return SK_ERR_NOT_FOUND;
        }
        *out_run = run_at(arena, page);
        return SK_OK;
    }
    return SK_ERR_NOT_FOUND;
}

void sk_dma_arena_get_statistics(const struct sk_dma_arena *arena,
                                 struct sk_dma_arena_statistics *out_statistics)
{
    *out_statistics = arena->statistics;
    if (arena->zone_count != 0) {
        out_statistics->pages_largest_free_run = ski_run_tree_longest(&arena->tree);
    }
}

/* What a walk over all pages counts. */
struct census {
    uint64_t free;
    uint64_t live;
    uint64_t runs_free;
    uint64_t runs_live;
};

/* Counts the run whose tag stands at `page`; false if it reaches beyond `end` or its tags disagree. */
static bool count_run(const struct sk_dma_arena *arena, uint32_t page, uint32_t end,
                      struct census *census)
{
    const struct sk_dma_arena_tag *tags = arena->tree.tags;
    uint32_t pages = ski_run_tree_length(&arena->tree, page);
    bool is_free = tags[page].pages != pages;
    uint32_t last;

    if (pages == 0 || pages > end - page) {
        return false;
    }
    last = page + pages - 1;
    for (uint32_t i = page + 1; i < last; i++) {
        if (tags[i].pages != 0) {
            return false;
        }
    }
    if (is_free) {
        census->free += pages;
        census->runs_free++;
        return tags[last].pages == tags[page].pages &&
               !(tags[last + 1].pages & SKI_RUN_TREE_FREE) && ski_run_tree_is_marked(&arena->tree, page);
    }
    census->live += pages;
    census->runs_live++;
    return last == page || tags[last].pages == 0;
}

/* Counts one zone; a page without a tag is quarantined. */
static bool count_zone(const struct sk_dma_arena *arena, const struct sk_dma_arena_place *place,
                       struct census *census)
{
    uint32_t end = place->first + place->pages;

    for (uint32_t page = place->first; page < end;) {
        uint32_t pages = ski_run_tree_length(&arena->tree, page);

        if (arena->tree.tags[page].pages != 0 && !count_run(arena, page, end, census)) {
            return false;
        }
        page += pages != 0 ? pages : 1;
    }
    return true;
}

/* True if no run starts or ends in the pages between a zone and the next bucket. */
static bool is_gap_clean(const struct sk_dma_arena *arena, const struct sk_dma_arena_place *place)
{
    uint32_t end = place->first + place->pages;

    for (uint32_t page = end; page == end || page % SKI_RUN_TREE_BUCKET != 0; page++) {
        if (arena->tree.tags[page].pages != 0) {
            return false;
        }
    }
    return true;
}

bool sk_dma_arena_check(const struct sk_dma_arena *arena)
{
    const struct sk_dma_arena_statistics *statistics = &arena->statistics;
    struct census census = { 0, 0, 0, 0 };

    if (arena->zone_count == 0 || !ski_run_tree_check(&arena->tree)) {
        return false;
    }
    for (size_t i = 0; i < arena->zone_count; i++) {
        if (!count_zone(arena, &arena->places[i], &census) ||
            !is_gap_clean(arena, &arena->places[i])) {
            return false;
        }
    }
    return census.live == statistics->pages_live && census.runs_live == statistics->runs_live &&
           census.free == free_pages(arena) &&
           census.runs_free == ski_run_tree_count(&arena->tree) && statistics->pages_live <= statistics->pages_peak &&
           statistics->pages_peak <= statistics->pages_high_water &&
           statistics->pages_high_water <= statistics->pages_total;
}
