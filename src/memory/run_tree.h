/* SPDX-License-Identifier: MIT */
/*
 * A set of free pages that answers "the lowest run of n free pages at or above
 * this one" in O(log pages).  It knows neither addresses nor who holds a page.
 *
 * The leaves are 64-bit words, a one for each free page.  Above them stands a
 * binary tree in heap order (node 1 is the root, 2i and 2i + 1 are the children
 * of i); each node knows how many free pages its part begins with, how many it
 * ends with, and its longest free run.  A part that is all free or all taken
 * says so in its node, and what lies below such a node is stale and never
 * read: that is why a large run costs no more than a small one.
 */
#ifndef SKI_MEMORY_RUN_TREE_H
#define SKI_MEMORY_RUN_TREE_H

#include <skio/dma_arena.h>

/* Says that there is no such run. */
#define SKI_RUN_TREE_NONE UINT32_MAX

/* Most leaves that a tree can have: page numbers stay below 2^31. */
#define SKI_RUN_TREE_LEAVES_MAX (UINT32_C(1) << 25)

/* How many leaves the widest level has for `leaf_count` of them (1 to LEAVES_MAX) in use. */
uint32_t ski_run_tree_width(uint32_t leaf_count);

/* How many nodes stand above and beside `leaf_count` words. */
uint32_t ski_run_tree_node_count(uint32_t leaf_count);

/* Makes every page of a tree taken whose pointers and width are set.  O(1). */
void ski_run_tree_init(struct sk_dma_arena_tree *tree);

/*
 * The first page of the lowest run of `count` (at least 1) free pages that
 * starts at `from` (a page of the tree) or above; SKI_RUN_TREE_NONE if there
 * is none.  O(log pages).
 */
uint32_t ski_run_tree_find(const struct sk_dma_arena_tree *tree, uint32_t from, uint32_t count);

/* Makes `count` (at least 1) pages from `first` on taken, or free.  O(log pages). */
void ski_run_tree_take(struct sk_dma_arena_tree *tree, uint32_t first, uint32_t count);
void ski_run_tree_give(struct sk_dma_arena_tree *tree, uint32_t first, uint32_t count);

/* The pages of one leaf, a one for each that is free.  O(log pages). */
uint64_t ski_run_tree_word(const struct sk_dma_arena_tree *tree, uint32_t leaf);

/* True if every node agrees with what stands below it.  O(pages). */
bool ski_run_tree_check(const struct sk_dma_arena_tree *tree);

#endif
