/* SPDX-License-Identifier: MIT */
/*
 * Runs of pages out of zones of physical memory, lowest address first.  All
 * metadata lives in memory of its own that no device needs to reach, so a
 * device that writes where it should not cannot corrupt the allocator.  It is
 * not a heap: the smallest unit is a page, and small objects come from
 * `sk_io_pool` or from the kernel's own heap on top.
 *
 * Ownership: zones, metadata memory and log are the caller's and outlive the
 * arena.  A run belongs to whoever allocated it until it is freed.
 * Calling: no locks inside; the caller serialises calls on one arena.  No call
 * sleeps.  Different arenas are independent.
 */
#ifndef SKIO_DMA_ARENA_H
#define SKIO_DMA_ARENA_H

#include <skio/address.h>
#include <skio/log.h>
#include <skio/status.h>

SK_BEGIN_DECLS

/* The allocation unit; bytes. */
#define SK_DMA_PAGE_BYTES 4096u

/* `sk_dma_zone.flags`: the CPU sees this memory uncached, so it is coherent for every device. */
#define SK_DMA_ZONE_UNCACHED 1u

/* One range of memory, contiguous for the CPU and physically. */
struct sk_dma_zone {
    void *cpu;      /* CPU address of the first byte; page-aligned */
    sk_paddr paddr; /* its physical address; page-aligned */
    uint64_t bytes; /* length; a multiple of the page, at least one page */
    uint32_t flags; /* SK_DMA_ZONE_* */
};

/* What one run must satisfy. */
struct sk_dma_fit {
    uint64_t bytes;     /* length wanted, at least 1; rounded up to pages */
    uint64_t alignment; /* power of two; at least 1; below a page means a page */
    uint64_t boundary;  /* power of two that the run may not cross; 0: none */
    sk_paddr lowest;    /* lowest physical address of the first byte */
    sk_paddr highest;   /* highest physical address of the last byte, inclusive */
    uint64_t bias;      /* added (mod 2^64) to a physical address before alignment and
                         * boundary are tested: the device's offset; a page multiple */
    uint32_t zone_flags; /* flags a zone must have, SK_DMA_ZONE_* */
    bool quiet;          /* a failure writes no log line: the caller has another plan */
};

/* A run of pages that was handed out.  The handle is all that freeing needs. */
struct sk_dma_run {
    void *cpu;           /* first byte */
    sk_paddr paddr;      /* its physical address */
    uint64_t bytes;      /* whole pages; at least what was asked for */
    uint32_t page;       /* private: index of the first page */
    uint32_t generation; /* private: detects a second free */
};

enum sk_dma_arena_failure {
    SK_DMA_ARENA_FAILURE_INVALID,    /* the request could not be satisfied by any arena */
    SK_DMA_ARENA_FAILURE_EXHAUSTED,  /* fewer pages are free than were asked for */
    SK_DMA_ARENA_FAILURE_FRAGMENTED, /* enough pages, but in no run that fits */
    SK_DMA_ARENA_FAILURE_CONSTRAINT, /* a run is long enough, but its address does not fit */
    SK_DMA_ARENA_FAILURE_FREE,       /* a free was refused: unknown or freed before */
    SK_DMA_ARENA_FAILURE_COUNT
};

struct sk_dma_arena_statistics {
    uint64_t pages_total;
    uint64_t pages_live;      /* handed out now */
    uint64_t pages_peak;      /* highest pages_live so far */
    uint64_t pages_high_water; /* pages from the start up to the highest page ever handed out */
    uint64_t pages_largest_free_run;
    uint64_t pages_quarantined; /* lost on purpose, see sk_dma_arena_quarantine */
    uint64_t runs_live;
    uint64_t allocations; /* successful ones */
    uint64_t failures[SK_DMA_ARENA_FAILURE_COUNT];
};

/* Private: what stands at the first and the last page of a run; 0 pages everywhere else. */
struct sk_dma_arena_tag {
    uint32_t pages;      /* length of the run, and a bit if it is free */
    uint32_t generation; /* 1, and how often a run that started here came back */
};

/* Private: the most levels that a tree has. */
#define SK_DMA_ARENA_LEVELS 8

/* Private: where the free runs start, see src/memory/run_tree.h. */
struct sk_dma_arena_tree {
    struct sk_dma_arena_tag *tags;         /* one for each page number */
    uint64_t *starts;                      /* a one for each page at which a free run starts */
    uint32_t *levels[SK_DMA_ARENA_LEVELS]; /* longest free run that starts in a part */
    uint32_t top;                          /* the level that has one part: everything */
    uint32_t bucket_count;                 /* words in use */
};

/* Private: where a zone's pages stand among all pages of the arena. */
struct sk_dma_arena_place {
    uint32_t first;  /* number of its first page; a multiple of 64 */
    uint32_t pages;  /* how many; the number after the last is never used */
    uint32_t before; /* pages of the zones below */
};

/* Everything in here is private; the size is public so that the caller owns the memory. */
struct sk_dma_arena {
    const struct sk_log *log;
    const struct sk_dma_zone *zones;
    size_t zone_count;
    struct sk_dma_arena_place *places; /* one for each zone */
    struct sk_dma_arena_tree tree;
    uint32_t highest_end; /* the number after the highest page ever handed out */
    struct sk_dma_arena_statistics statistics;
};

/*
 * Returns how much metadata memory an arena over these zones needs, in bytes;
 * 0 if the zones are not usable (see sk_dma_arena_init).
 */
size_t sk_dma_arena_metadata_bytes(const struct sk_dma_zone *zones, size_t zone_count);

/*
 * Makes an arena in which every page is free.  `zones` (borrowed, sorted by
 * physical address, not overlapping) and `metadata` (at least
 * sk_dma_arena_metadata_bytes, aligned to 16, outside of the zones) stay in use
 * until the caller abandons the arena; there is no deinit.  `log` may be NULL.
 * SK_OK; SK_ERR_INVALID (missing argument, unsorted, overlapping or overflowing
 * zones, more than 2^31 pages, metadata inside a zone), SK_ERR_ALIGNMENT,
 * SK_ERR_SIZE: *arena is all zero then and every call on it fails.
 * Complexity: O(pages).
 */
SK_MUST_CHECK enum sk_status sk_dma_arena_init(struct sk_dma_arena *arena,
                                               const struct sk_dma_zone *zones, size_t zone_count,
                                               void *metadata, size_t metadata_bytes,
                                               const struct sk_log *log);

/*
 * Takes the run with the lowest address that satisfies `fit`.  Its content is
 * whatever was there.  SK_OK; SK_ERR_SIZE (0 bytes), SK_ERR_ALIGNMENT (alignment
 * 0, or alignment or boundary no power of two), SK_ERR_RANGE (no arena could ever
 * satisfy it: lowest above highest, longer than the boundary), SK_ERR_NO_MEMORY
 * (this one cannot now; counted by reason): nothing changed but a counter, and
 * one log line says what was asked for and what is free.
 */
SK_MUST_CHECK enum sk_status sk_dma_arena_alloc(struct sk_dma_arena *arena,
                                                const struct sk_dma_fit *fit,
                                                struct sk_dma_run *out_run);

/*
 * Gives a run back.  SK_OK; SK_ERR_GONE (freed before, or never from here:
 * logged, counted, nothing changed).  O(log pages).
 */
SK_MUST_CHECK enum sk_status sk_dma_arena_free(struct sk_dma_arena *arena,
                                               const struct sk_dma_run *run);

/*
 * Takes a live run out of circulation for good, because a device may still
 * write to it: its pages stay taken and are counted as quarantined.
 * SK_OK; SK_ERR_GONE.
 */
SK_MUST_CHECK enum sk_status sk_dma_arena_quarantine(struct sk_dma_arena *arena,
                                                     const struct sk_dma_run *run);

/*
 * Stores the handle of the live run that starts exactly at `cpu`: what an
 * `aligned_free(pointer)` on top of an arena needs.  SK_OK; SK_ERR_NOT_FOUND.
 */
SK_MUST_CHECK enum sk_status sk_dma_arena_find(const struct sk_dma_arena *arena, const void *cpu,
                                               struct sk_dma_run *out_run);

/* Copies the counters out. */
void sk_dma_arena_get_statistics(const struct sk_dma_arena *arena,
                                 struct sk_dma_arena_statistics *out_statistics);

/*
 * Checks every invariant of the metadata, O(pages): a tool for tests and for
 * a kernel that suspects corruption.  True if they hold.
 */
bool sk_dma_arena_check(const struct sk_dma_arena *arena);

SK_END_DECLS

#endif
