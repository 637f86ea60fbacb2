/* SPDX-License-Identifier: MIT */
/*
 * The free runs of pages, and the question "which is the lowest one of at
 * least n pages".  It knows neither addresses nor zones: it counts pages, and
 * runs merge whenever they touch, so a page that was never given keeps two
 * runs apart.
 *
 * A tag at the first and at the last page of each run says how long it is, and
 * whether it is free; so a run that comes back finds its neighbours at once.
 * Pages fall into buckets of 64, with a word for each that marks where free
 * runs start.  Above the buckets stands a tree of fan-out 16: each entry holds
 * the length of the longest free run that *starts* in its part.  A call touches
 * one or two buckets and the entries above them, however long the run is.
 */
#ifndef SKI_MEMORY_RUN_TREE_H
#define SKI_MEMORY_RUN_TREE_H

#include <skio/dma_arena.h>

/* Says that there is no such run. */
#define SKI_RUN_TREE_NONE UINT32_MAX

/* Pages that share a word. */
#define SKI_RUN_TREE_BUCKET 64u

/* Most buckets that a tree can have: lengths leave the highest bit of a tag free. */
#define SKI_RUN_TREE_BUCKETS_MAX ((UINT32_C(1) << 25) - 1)

/* In sk_dma_arena_tag.pages: the run is free. */
#define SKI_RUN_TREE_FREE (UINT32_C(1) << 31)

/* Bytes of metadata for so many buckets (1 to BUCKETS_MAX); a multiple of 8. */
uint64_t ski_run_tree_bytes(uint32_t bucket_count);

/* Makes a tree in `memory` (aligned to 8) in which every page is taken by nobody.  O(pages). */
void ski_run_tree_init(struct sk_dma_arena_tree *tree, uint32_t bucket_count, void *memory);

/* Length of the longest free run; 0: nothing is free.  O(1). */
static inline uint32_t ski_run_tree_longest(const struct sk_dma_arena_tree *tree)
{
    return tree->levels[tree->top][0];
}

/* Length of the free run that starts at `page`.  O(1). */
static inline uint32_t ski_run_tree_length(const struct sk_dma_arena_tree *tree, uint32_t page)
{
    return tree->tags[page].pages & ~SKI_RUN_TREE_FREE;
}

/*
 * The first page of the lowest free run of at least `count` (not 0) pages that
 * starts at `from` or above; SKI_RUN_TREE_NONE if there is none.  O(log pages).
 */
uint32_t ski_run_tree_find(const struct sk_dma_arena_tree *tree, uint32_t from, uint32_t count);

/* The same for the highest one that starts below `page`. */
uint32_t ski_run_tree_find_below(const struct sk_dma_arena_tree *tree, uint32_t page,
                                 uint32_t count);

/*
 * Takes `count` pages from `first` on out of the free run that starts at
 * `run`; they become one taken run, with tags.  O(log pages).
 */
void ski_run_tree_take(struct sk_dma_arena_tree *tree, uint32_t run, uint32_t first,
                       uint32_t count);

/*
 * Makes `count` pages from `first` on free: a whole taken run, or pages never
 * given before.  O(log pages).
 */
void ski_run_tree_give(struct sk_dma_arena_tree *tree, uint32_t first, uint32_t count);

/* True if a free run is marked to start at `page`.  O(1). */
static inline bool ski_run_tree_is_marked(const struct sk_dma_arena_tree *tree, uint32_t page)
{
    return (tree->starts[page / SKI_RUN_TREE_BUCKET] >> (page % SKI_RUN_TREE_BUCKET)) & 1;
}

/* How many free runs are marked.  O(pages). */
uint64_t ski_run_tree_count(const struct sk_dma_arena_tree *tree);

/* True if the word and every entry above agree with the tags' free runs.  O(pages). */
bool ski_run_tree_check(const struct sk_dma_arena_tree *tree);

#endif
