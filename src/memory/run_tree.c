/* SPDX-License-Identifier: MIT */
#include "memory/run_tree.h"

#include "memory/bits.h"

/* Entries below one entry: with 4 bytes each they fill a line of most caches. */
#define FAN 16u

/* Entries of the level above one of `count`. */
static uint32_t parts_over(uint32_t count)
{
    return (count + FAN - 1) / FAN;
}

/* Entries of all levels over `bucket_count` buckets; each level is filled up to a multiple of FAN. */
static uint64_t entry_count(uint32_t bucket_count)
{
    uint64_t entries = FAN; /* the top */
    uint32_t count = bucket_count;

    while (count > 1) {
        count = parts_over(count);
        entries += (uint64_t)count * FAN;
    }
    return entries;
}

uint64_t ski_run_tree_bytes(uint32_t bucket_count)
{
    return entry_count(bucket_count) * sizeof(uint32_t) + bucket_count * sizeof(uint64_t) +
           (uint64_t)bucket_count * SKI_RUN_TREE_BUCKET * sizeof(struct sk_dma_arena_tag);
}

static void place_levels(struct sk_dma_arena_tree *tree, uint32_t *entries)
{
    uint32_t count = tree->bucket_count;

    tree->top = 0;
    tree->levels[0] = entries;
    while (count > 1) {
        count = parts_over(count);
        tree->levels[tree->top + 1] = tree->levels[tree->top] + (size_t)count * FAN;
        tree->top++;
    }
}

void ski_run_tree_init(struct sk_dma_arena_tree *tree, uint32_t bucket_count, void *memory)
{
    uint64_t entries = entry_count(bucket_count);
    uint32_t pages = bucket_count * SKI_RUN_TREE_BUCKET;

    tree->bucket_count = bucket_count;
    place_levels(tree, memory);
    tree->starts = (void *)(tree->levels[0] + entries);
    tree->tags = (void *)(tree->starts + bucket_count);
    for (uint64_t i = 0; i < entries; i++) {
        tree->levels[0][i] = 0;
    }
    for (uint32_t i = 0; i < bucket_count; i++) {
        tree->starts[i] = 0;
    }
    for (uint32_t i = 0; i < pages; i++) {
        tree->tags[i].pages = 0;
        tree->tags[i].generation = 1;
    }
}

/* Finding. */

/* The lowest of the marked runs of a bucket that is long enough. */
static uint32_t first_in_bucket(const struct sk_dma_arena_tree *tree, uint32_t bucket,
                                uint64_t marks, uint32_t count)
{
    for (; marks != 0; marks &= marks - 1) {
        uint32_t page = bucket * SKI_RUN_TREE_BUCKET + ski_bits_trailing_zeros(marks);

        if (ski_run_tree_length(tree, page) >= count) {
            return page;
        }
    }
    return SKI_RUN_TREE_NONE;
}

/* The highest one. */
static uint32_t last_in_bucket(const struct sk_dma_arena_tree *tree, uint32_t bucket,
                               uint64_t marks, uint32_t count)
{
    while (marks != 0) {
        uint32_t bit = SKI_BITS_WORD - 1 - ski_bits_leading_zeros(marks);
        uint32_t page = bucket * SKI_RUN_TREE_BUCKET + bit;

        if (ski_run_tree_length(tree, page) >= count) {
            return page;
        }
        marks ^= UINT64_C(1) << bit;
    }
    return SKI_RUN_TREE_NONE;
}

/* The lowest run in a part that has one. */
static uint32_t descend(const struct sk_dma_arena_tree *tree, uint32_t level, uint32_t part,
                        uint32_t count)
{
    while (level > 0) {
        const uint32_t *entries = tree->levels[--level];

        part *= FAN;
        while (entries[part] < count) {
            part++;
        }
    }
    return first_in_bucket(tree, part, tree->starts[part], count);
}

/* The highest run in a part that has one. */
static uint32_t descend_last(const struct sk_dma_arena_tree *tree, uint32_t level, uint32_t part,
                             uint32_t count)
{
    while (level > 0) {
        const uint32_t *entries = tree->levels[--level];

        part = part * FAN + FAN - 1;
        while (entries[part] < count) {
            part--;
        }
    }
    return last_in_bucket(tree, part, tree->starts[part], count);
}

/* Looks to the right of a bucket. */
static uint32_t find_right(const struct sk_dma_arena_tree *tree, uint32_t bucket, uint32_t count)
{
    uint32_t part = bucket;

    for (uint32_t level = 0; level < tree->top; level++, part /= FAN) {
        while (++part % FAN != 0) {
            if (tree->levels[level][part] >= count) {
                return descend(tree, level, part, count);
            }
        }
        part--;
    }
    return SKI_RUN_TREE_NONE;
}

/* Looks to the left of a bucket. */
static uint32_t find_left(const struct sk_dma_arena_tree *tree, uint32_t bucket, uint32_t count)
{
    uint32_t part = bucket;

    for (uint32_t level = 0; level < tree->top; level++, part /= FAN) {
        while (part % FAN != 0) {
            if (tree->levels[level][--part] >= count) {
                return descend_last(tree, level, part, count);
            }
        }
    }
    return SKI_RUN_TREE_NONE;
}

uint32_t ski_run_tree_find(const struct sk_dma_arena_tree *tree, uint32_t from, uint32_t count)
{
    uint32_t bucket = from / SKI_RUN_TREE_BUCKET;
    uint64_t marks;
    uint32_t page;

    if (ski_run_tree_longest(tree) < count || bucket >= tree->bucket_count) {
        return SKI_RUN_TREE_NONE;
    }
    if (from == 0) {
        return descend(tree, tree->top, 0, count);
    }
    marks = tree->starts[bucket] & (~UINT64_C(0) << from % SKI_RUN_TREE_BUCKET);
    page = first_in_bucket(tree, bucket, marks, count);
    return page != SKI_RUN_TREE_NONE ? page : find_right(tree, bucket, count);
}

uint32_t ski_run_tree_find_below(const struct sk_dma_arena_tree *tree, uint32_t page,
                                 uint32_t count)
{
    uint32_t bucket = page / SKI_RUN_TREE_BUCKET;
    uint64_t marks =
        tree->starts[bucket] & ((UINT64_C(1) << page % SKI_RUN_TREE_BUCKET) - 1);
    uint32_t found = last_in_bucket(tree, bucket, marks, count);

    return found != SKI_RUN_TREE_NONE ? found : find_left(tree, bucket, count);
}

/* Changing. */

static uint32_t longest_in_bucket(const struct sk_dma_arena_tree *tree, uint32_t bucket)
{
    uint32_t longest = 0;

    for (uint64_t marks = tree->starts[bucket]; marks != 0; marks &= marks - 1) {
        uint32_t page = bucket * SKI_RUN_TREE_BUCKET + ski_bits_trailing_zeros(marks);
        uint32_t length = ski_run_tree_length(tree, page);

        longest = length > longest ? length : longest;
    }
    return longest;
}

/* In two lanes, which a processor overlaps. */
static uint32_t longest_in_part(const uint32_t *entries)
{
    uint32_t even = entries[0];
    uint32_t odd = entries[1];

    for (uint32_t i = 2; i < FAN; i += 2) {
        even = entries[i] > even ? entries[i] : even;
        odd = entries[i + 1] > odd ? entries[i + 1] : odd;
    }
    return odd > even ? odd : even;
}

/* Writes down what the longest run of a bucket is now, as far up as that changes anything. */
static void refresh(struct sk_dma_arena_tree *tree, uint32_t bucket)
{
    uint32_t longest = longest_in_bucket(tree, bucket);
    uint32_t part = bucket;

    for (uint32_t level = 0;; level++, part /= FAN) {
        uint32_t *entry = &tree->levels[level][part];
        uint32_t before = *entry;
        uint32_t above;

        *entry = longest;
        if (longest == before || level == tree->top) {
            return;
        }
        above = tree->levels[level + 1][part / FAN];
        if (longest < above) {
            if (before < above) {
                return;
            }
            longest = longest_in_part(&tree->levels[level][part & ~(FAN - 1)]);
        }
    }
}

static inline void mark(struct sk_dma_arena_tree *tree, uint32_t page)
{
    tree->starts[page / SKI_RUN_TREE_BUCKET] |= UINT64_C(1) << page % SKI_RUN_TREE_BUCKET;
}

static inline void unmark(struct sk_dma_arena_tree *tree, uint32_t page)
{
    tree->starts[page / SKI_RUN_TREE_BUCKET] &= ~(UINT64_C(1) << page % SKI_RUN_TREE_BUCKET);
}

/* Writes the tags of a free run. */
static inline void tag_free(struct sk_dma_arena_tree *tree, uint32_t first, uint32_t length)
{
    tree->tags[first].pages = length | SKI_RUN_TREE_FREE;
    tree->tags[first + length - 1].pages = length | SKI_RUN_TREE_FREE;
}

void ski_run_tree_take(struct sk_dma_arena_tree *tree, uint32_t run, uint32_t first, uint32_t count)
{
    uint32_t end = run + ski_run_tree_length(tree, run);
    uint32_t rest = first + count;

    tree->tags[end - 1].pages = 0;
    if (first != run) {
        tag_free(tree, run, first - run);
    } else {
        unmark(tree, run);
    }
    if (rest != end) {
        tag_free(tree, rest, end - rest);
        mark(tree, rest);
    }
    tree->tags[first].pages = count;
    /* The rest first: while the old run is still counted it changes little above. */
    if (rest != end && rest / SKI_RUN_TREE_BUCKET != run / SKI_RUN_TREE_BUCKET) {
        refresh(tree, rest / SKI_RUN_TREE_BUCKET);
    }
    refresh(tree, run / SKI_RUN_TREE_BUCKET);
}

void ski_run_tree_give(struct sk_dma_arena_tree *tree, uint32_t first, uint32_t count)
{
    struct sk_dma_arena_tag *tags = tree->tags;
    uint32_t end = first + count;
    uint32_t right = end; /* where a run on the right started, or the new one's end */
    uint32_t run = first;

    tags[first].pages = 0;
    if (first > 0 && (tags[first - 1].pages & SKI_RUN_TREE_FREE)) {
        run = first - (tags[first - 1].pages & ~SKI_RUN_TREE_FREE);
        tags[first - 1].pages = 0;
    }
    if (tags[end].pages & SKI_RUN_TREE_FREE) {
        end += ski_run_tree_length(tree, right);
        tags[right].pages = 0;
        unmark(tree, right);
    }
    tag_free(tree, run, end - run);
    mark(tree, run);
    refresh(tree, run / SKI_RUN_TREE_BUCKET);
    if (right != end && right / SKI_RUN_TREE_BUCKET != run / SKI_RUN_TREE_BUCKET) {
        refresh(tree, right / SKI_RUN_TREE_BUCKET);
    }
}

/* Checking. */

uint64_t ski_run_tree_count(const struct sk_dma_arena_tree *tree)
{
    uint64_t count = 0;

    for (uint32_t bucket = 0; bucket < tree->bucket_count; bucket++) {
        for (uint64_t marks = tree->starts[bucket]; marks != 0; marks &= marks - 1) {
            count++;
        }
    }
    return count;
}

/* True if exactly the first pages of free runs are marked in a bucket. */
static bool are_marks_sound(const struct sk_dma_arena_tree *tree, uint32_t bucket)
{
    for (uint64_t marks = tree->starts[bucket]; marks != 0; marks &= marks - 1) {
        uint32_t page = bucket * SKI_RUN_TREE_BUCKET + ski_bits_trailing_zeros(marks);

        if (!(tree->tags[page].pages & SKI_RUN_TREE_FREE)) {
            return false;
        }
    }
    return tree->levels[0][bucket] == longest_in_bucket(tree, bucket);
}

bool ski_run_tree_check(const struct sk_dma_arena_tree *tree)
{
    uint32_t count = tree->bucket_count;

    for (uint32_t bucket = 0; bucket < count; bucket++) {
        if (!are_marks_sound(tree, bucket)) {
            return false;
        }
    }
    for (uint32_t level = 1; level <= tree->top; level++) {
        count = parts_over(count);
        for (uint32_t part = 0; part < count; part++) {
            if (tree->levels[level][part] !=
                longest_in_part(&tree->levels[level - 1][(size_t)part * FAN])) {
                return false;
            }
        }
    }
    return true;
}
