/* SPDX-License-Identifier: MIT */
/*
 * Runs of pages out of zones of physical memory, lowest address first.  All
 * metadata lives in memory of its own that no device needs to reach, so a
 * device that writes where it should not cannot corrupt the allocator.  It is
 * not a heap: the smallest unit is a page, and small objects come from
 * `sk_io_pool` or from the kernel's own heap on top.
 *
 * Lowest first keeps what is free together: for runs of up to n pages that ask
 * for no more than a page's alignment, and at most M pages live, a zone of
 * M (1 + log2 n) pages never runs out.
 *
 * Ownership: zones, metadata memory and log are the caller's and outlive the
 * arena.  A run belongs to whoever allocated it until it is freed.  The arena
 * never touches the memory of its zones.
 * Calling: no locks inside; the caller serialises calls on one arena.  No call
 * sleeps.  Different arenas are independent.
 * Trust: handles and pointers given back are checked against the metadata in
 * every build.
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
    void *cpu;      /* CPU address of the first byte; page-aligned, not NULL */
    sk_paddr paddr; /* its physical address; page-aligned */
    uint64_t bytes; /* length; a multiple of the page, at least one page */
    uint32_t flags; /* SK_DMA_ZONE_*; 0: ordinary memory */
};

/* What one run must satisfy.  `bytes`, `alignment` and `highest` cannot be left 0. */
struct sk_dma_fit {
    uint64_t bytes;      /* length wanted, at least 1; rounded up to pages */
    uint64_t alignment;  /* power of two, at least 1; less than a page means a page */
    uint64_t boundary;   /* power of two, at least `bytes`: they cross no multiple of it; 0: none */
    sk_paddr lowest;     /* lowest physical address of the first byte; 0: any */
    sk_paddr highest;    /* highest physical address of the run's last byte, inclusive */
    uint64_t bias;       /* added (mod 2^64) to a physical address before alignment and
                          * boundary are tested: the device's offset; a multiple of the page */
    uint32_t zone_flags; /* flags a zone must have, SK_DMA_ZONE_*; 0: any zone */
    bool quiet;          /* a failure writes no log line: the caller has another plan */
};

/* A run of pages that was handed out.  The handle is all that freeing needs. */
struct sk_dma_run {
    void *cpu;           /* first byte */
    sk_paddr paddr;      /* its physical address */
    uint64_t bytes;      /* whole pages; at least what was asked for */
    uint32_t page;       /* private: number of the first page */
    uint32_t generation; /* private: detects a second free */
};

/* Why a call did not do what was asked. */
enum sk_dma_arena_failure {
    SK_DMA_ARENA_FAILURE_INVALID,    /* no arena could ever satisfy the request */
    SK_DMA_ARENA_FAILURE_EXHAUSTED,  /* fewer pages are free than were asked for */
    SK_DMA_ARENA_FAILURE_FRAGMENTED, /* enough pages are free, but no run is that long */
    SK_DMA_ARENA_FAILURE_CONSTRAINT, /* a run is long enough, but its address or zone does not fit */
    SK_DMA_ARENA_FAILURE_FREE,       /* a free or quarantine of a run that is not live */
    SK_DMA_ARENA_FAILURE_COUNT
};

/* Counters since the init; pages unless they say otherwise. */
struct sk_dma_arena_statistics {
    uint64_t pages_total;            /* of all zones: live, quarantined and free */
    uint64_t pages_live;             /* handed out now */
    uint64_t pages_peak;             /* highest pages_live so far */
    uint64_t pages_high_water;       /* from the first page up to the highest ever handed out */
    uint64_t pages_largest_free_run; /* now, over all zones */
    uint64_t pages_quarantined;      /* lost on purpose, see sk_dma_arena_quarantine */
    uint64_t runs_live;              /* runs handed out now */
    uint64_t allocations;            /* calls that succeeded */
    uint64_t failures[SK_DMA_ARENA_FAILURE_COUNT]; /* calls that did not, by reason */
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
 * Returns how much metadata memory an arena over these zones needs, in bytes:
 * about 8.2 for each page (0.2 %), and up to 64 pages' worth for each zone.  0
 * if the zones are not usable (see sk_dma_arena_init).  O(zones^2).
 */
size_t sk_dma_arena_metadata_bytes(const struct sk_dma_zone *zones, size_t zone_count);

/*
 * Makes an arena in which every page is free.  `zones` (borrowed, at least one,
 * sorted by physical address) overlap neither physically nor for the CPU;
 * neighbours stay apart, a run never spans two.  `metadata` has at least
 * sk_dma_arena_metadata_bytes, aligned to 16 (to 64 is a little faster), outside
 * of the zones.  Both stay in use until the caller abandons the arena; there
 * is no deinit.  `log` may be NULL: then nothing is logged.
 *
 * SK_OK.
 * SK_ERR_INVALID: a missing argument; an unknown flag; unsorted, overlapping or
 * overflowing zones; 2^31 pages or more (each zone counts up to 64 more than it
 * has); metadata inside a zone.
 * SK_ERR_ALIGNMENT: a zone's address or the metadata is not aligned.
 * SK_ERR_SIZE: a zone is empty or no multiple of the page; too little metadata.
 * After an error *arena is all zero and every call on it fails.
 * O(pages + zones^2).
 */
SK_MUST_CHECK enum sk_status sk_dma_arena_init(struct sk_dma_arena *arena,
                                               const struct sk_dma_zone *zones, size_t zone_count,
                                               void *metadata, size_t metadata_bytes,
                                               const struct sk_log *log);

/*
 * Takes the run with the lowest physical address that satisfies `fit`.  Its
 * content is whatever was there.
 *
 * SK_OK: *out_run is the handle.
 * SK_ERR_SIZE: 0 bytes.
 * SK_ERR_ALIGNMENT: alignment 0, alignment or boundary no power of two, or bias
 * no multiple of the page.
 * SK_ERR_RANGE: no arena could ever satisfy it: lowest above highest, or more
 * bytes than the boundary, or more pages than between lowest and highest.
 * SK_ERR_NO_MEMORY: this arena cannot now.
 * SK_ERR_INVALID: an argument is NULL.  SK_ERR_GONE: *arena is all zero.
 * After an error nothing changed, *out_run included, but the counter of the
 * reason; unless `fit->quiet` one line of the log says what was asked for and
 * what is free.
 *
 * O((zones + misfits + 1) log pages), however long the run is.  A misfit is a
 * free run below the answer that is long enough but holds no address that
 * fits; there are none without a boundary or an alignment beyond a page, and
 * a run of twice the length plus the alignment is never one.
 */
SK_MUST_CHECK enum sk_status sk_dma_arena_alloc(struct sk_dma_arena *arena,
                                                const struct sk_dma_fit *fit,
                                                struct sk_dma_run *out_run);

/*
 * Gives a run back.  Every field of the handle must be as it was handed out.
 * SK_OK: the handle is stale from now on.
 * SK_ERR_GONE: it is not that of a live run of this arena (freed or quarantined
 * before, from elsewhere, altered): logged, counted, nothing else changed.
 * SK_ERR_INVALID: an argument is NULL.
 * O(log pages + log zones), however long the run is.
 */
SK_MUST_CHECK enum sk_status sk_dma_arena_free(struct sk_dma_arena *arena,
                                               const struct sk_dma_run *run);

/*
 * Takes a live run out of circulation for good, because a device may still
 * write to it: its pages stay taken, are no longer live and count as
 * quarantined.  Statuses as sk_dma_arena_free.  O(log zones).
 */
SK_MUST_CHECK enum sk_status sk_dma_arena_quarantine(struct sk_dma_arena *arena,
                                                     const struct sk_dma_run *run);

/*
 * Stores the handle of the live run that starts exactly at `cpu`: what an
 * `aligned_free(pointer)` on top of an arena needs.  `cpu` may be any value.
 * SK_OK; SK_ERR_NOT_FOUND (no live run starts there), SK_ERR_INVALID (arena or
 * out_run is NULL): *out_run is unchanged.  Nothing is logged.  O(zones).
 */
SK_MUST_CHECK enum sk_status sk_dma_arena_find(const struct sk_dma_arena *arena, const void *cpu,
                                               struct sk_dma_run *out_run);

/* Copies the counters out; all zero for an arena that is all zero.  O(1). */
void sk_dma_arena_get_statistics(const struct sk_dma_arena *arena,
                                 struct sk_dma_arena_statistics *out_statistics);

/*
 * Checks every invariant of the metadata: a tool for tests and for a kernel
 * that suspects corruption.  True if they hold; false for an arena that is all
 * zero.  It stays within the metadata memory as long as *arena itself is
 * intact.  O(pages).
 */
bool sk_dma_arena_check(const struct sk_dma_arena *arena);

SK_END_DECLS

#endif
