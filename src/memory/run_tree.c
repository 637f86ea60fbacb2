/* SPDX-License-Identifier: MIT */
#include "memory/run_tree.h"

#include "memory/bits.h"

#define ROOT 1u

/* A node on the way down, and the pages below it. */
struct place {
    uint32_t node;
    uint32_t start; /* its first page */
    uint32_t span;  /* how many pages */
};

uint32_t ski_run_tree_width(uint32_t leaf_count)
{
    uint32_t width = 1;

    while (width < leaf_count) {
        width *= 2;
    }
    return width;
}

/* One more than the leaves in use: a leaf's neighbour is written when their parent is opened. */
uint32_t ski_run_tree_node_count(uint32_t leaf_count)
{
    return ski_run_tree_width(leaf_count) + leaf_count + 1;
}

static inline bool is_uniform(const struct sk_dma_arena_node *node, uint32_t span)
{
    return node->longest == 0 || node->longest == span;
}

static inline void make_uniform(struct sk_dma_arena_node *node, uint32_t free_pages)
{
    node->prefix = free_pages;
    node->suffix = free_pages;
    node->longest = free_pages;
}

/* Computes a node from its children of `span` pages each. */
static inline struct sk_dma_arena_node merged(const struct sk_dma_arena_node *left, const struct sk_dma_arena_node *right, uint32_t span)
{
    uint32_t middle = left->suffix + right->prefix;
    uint32_t longest = left->longest > right->longest ? left->longest : right->longest;
    struct sk_dma_arena_node node;

    node.prefix = left->prefix == span ? span + right->prefix : left->prefix;
    node.suffix = right->suffix == span ? span + left->suffix : right->suffix;
    node.longest = middle > longest ? middle : longest;
    return node;
}

static inline bool is_same(const struct sk_dma_arena_node *a, const struct sk_dma_arena_node *b)
{
    return a->prefix == b->prefix && a->suffix == b->suffix && a->longest == b->longest;
}

static inline struct sk_dma_arena_node leaf_of(uint64_t word)
{
    struct sk_dma_arena_node node;

    node.prefix = ski_bits_low_ones(word);
    node.suffix = ski_bits_high_ones(word);
    node.longest = ski_bits_longest_run(word);
    return node;
}

/* The word of a leaf whose node is not stale. */
static inline uint64_t word_of(const struct sk_dma_arena_tree *tree, uint32_t leaf)
{
    const struct sk_dma_arena_node *node = &tree->nodes[tree->width + leaf];

    if (is_uniform(node, SKI_BITS_WORD)) {
        return node->longest == 0 ? 0 : ~UINT64_C(0);
    }
    return tree->words[leaf];
}

static inline uint32_t root_span(const struct sk_dma_arena_tree *tree)
{
    return tree->width * SKI_BITS_WORD;
}

void ski_run_tree_init(struct sk_dma_arena_tree *tree)
{
    make_uniform(&tree->nodes[ROOT], 0);
}

/* The lowest run below a node that has one. */
static uint32_t descend(const struct sk_dma_arena_tree *tree, struct place at, uint32_t count)
{
    const struct sk_dma_arena_node *nodes = tree->nodes;
    uint64_t word;

    while (nodes[at.node].prefix < count && at.node < tree->width) {
        const struct sk_dma_arena_node *left = &nodes[2 * at.node];
        bool is_left = left->longest >= count;

        at.span /= 2;
        if (!is_left && left->suffix + left[1].prefix >= count) {
            return at.start + at.span - left->suffix;
        }
        at.node = 2 * at.node + !is_left;
        at.start += is_left ? 0 : at.span;
    }
    if (nodes[at.node].prefix >= count) {
        return at.start;
    }
    word = tree->words[at.node - tree->width];
    return at.start + ski_bits_trailing_zeros(ski_bits_run_starts(word, count));
}

/* The lowest node that is not stale and holds `page`. */
static struct place locate(const struct sk_dma_arena_tree *tree, uint32_t page)
{
    struct place at = { ROOT, 0, root_span(tree) };

    while (at.node < tree->width && !is_uniform(&tree->nodes[at.node], at.span)) {
        bool is_right;

        at.span /= 2;
        is_right = page - at.start >= at.span;
        at.node = 2 * at.node + is_right;
        at.start += is_right ? at.span : 0;
    }
    return at;
}

/* Goes up from `at`, whose part ends with `carry` usable pages, and looks to the right. */
static uint32_t find_beyond(const struct sk_dma_arena_tree *tree, struct place at, uint32_t carry,
                            uint32_t count)
{
    for (; at.node > ROOT; at.node /= 2, at.span *= 2) {
        const struct sk_dma_arena_node *right = &tree->nodes[at.node + 1];
        uint32_t border = at.start + at.span;

        if (at.node % 2 != 0) {
            at.start -= at.span;
            continue;
        }
        if (carry + right->prefix >= count) {
            return border - carry;
        }
        if (right->longest >= count) {
            return descend(tree, (struct place){ at.node + 1, border, at.span }, count);
        }
        carry = right->suffix == at.span ? carry + at.span : right->suffix;
    }
    return SKI_RUN_TREE_NONE;
}

uint32_t ski_run_tree_find(const struct sk_dma_arena_tree *tree, uint32_t from, uint32_t count)
{
    struct place at = { ROOT, 0, root_span(tree) };
    uint32_t carry = 0;

    if (tree->nodes[ROOT].longest < count) {
        return SKI_RUN_TREE_NONE;
    }
    if (from == 0) {
        return descend(tree, at, count);
    }
    at = locate(tree, from);
    if (tree->nodes[at.node].longest == at.span) {
        carry = at.start + at.span - from;
    } else if (tree->nodes[at.node].longest != 0) {
        uint64_t word = tree->words[at.node - tree->width] & (~UINT64_C(0) << (from - at.start));
        uint64_t starts = count <= SKI_BITS_WORD ? ski_bits_run_starts(word, count) : 0;

        if (starts != 0) {
            return at.start + ski_bits_trailing_zeros(starts);
        }
        carry = ski_bits_high_ones(word);
    }
    return carry >= count ? from : find_beyond(tree, at, carry, count);
}

uint64_t ski_run_tree_word(const struct sk_dma_arena_tree *tree, uint32_t leaf)
{
    struct place at = locate(tree, leaf * SKI_BITS_WORD);
    const struct sk_dma_arena_node *node = &tree->nodes[at.node];

    if (is_uniform(node, at.span)) {
        return node->longest == 0 ? 0 : ~UINT64_C(0);
    }
    return tree->words[leaf];
}

/* Writes down what uniform nodes say about the nodes on the way to a leaf. */
static void open_path(struct sk_dma_arena_tree *tree, uint32_t leaf)
{
    struct place at = { ROOT, 0, root_span(tree) };

    while (at.node < tree->width) {
        struct sk_dma_arena_node *node = &tree->nodes[at.node];
        struct sk_dma_arena_node *left = &tree->nodes[2 * at.node];
        bool is_right;

        if (is_uniform(node, at.span)) {
            make_uniform(left, node->longest / 2);
            make_uniform(left + 1, node->longest / 2);
        }
        at.span /= 2;
        is_right = leaf * SKI_BITS_WORD - at.start >= at.span;
        at.node = 2 * at.node + is_right;
        at.start += is_right ? at.span : 0;
    }
}

/* Sets bits of an opened leaf. */
static void set_leaf(struct sk_dma_arena_tree *tree, uint32_t leaf, uint64_t mask, bool is_free)
{
    uint64_t word = word_of(tree, leaf);

    word = is_free ? word | mask : word & ~mask;
    tree->words[leaf] = word;
    tree->nodes[tree->width + leaf] = leaf_of(word);
}

/* Makes all leaves between two opened ones uniform, at the highest nodes that cover no others. */
static void set_between(struct sk_dma_arena_tree *tree, uint32_t first, uint32_t last, bool is_free)
{
    uint32_t left = tree->width + first + 1;
    uint32_t right = tree->width + last;

    for (uint32_t span = SKI_BITS_WORD; left < right; left /= 2, right /= 2, span *= 2) {
        uint32_t free_pages = is_free ? span : 0;

        if (left % 2 != 0) {
            make_uniform(&tree->nodes[left++], free_pages);
        }
        if (right % 2 != 0) {
            make_uniform(&tree->nodes[--right], free_pages);
        }
    }
}

/* Computes the nodes above two leaves (or one), as far up as anything changes. */
static void close_paths(struct sk_dma_arena_tree *tree, uint32_t first, uint32_t last)
{
    uint32_t left = (tree->width + first) / 2;
    uint32_t right = (tree->width + last) / 2;
    struct sk_dma_arena_node *nodes = tree->nodes;

    for (uint32_t span = SKI_BITS_WORD; left >= ROOT; left /= 2, right /= 2, span *= 2) {
        struct sk_dma_arena_node node = merged(&nodes[2 * left], &nodes[2 * left + 1], span);

        if (left != right) {
            nodes[right] = merged(&nodes[2 * right], &nodes[2 * right + 1], span);
        } else if (is_same(&node, &nodes[left])) {
            return;
        }
        nodes[left] = node;
    }
}

static void set(struct sk_dma_arena_tree *tree, uint32_t first, uint32_t count, bool is_free)
{
    uint32_t last = first + count - 1;
    uint32_t first_leaf = first / SKI_BITS_WORD;
    uint32_t last_leaf = last / SKI_BITS_WORD;
    uint32_t first_bit = first % SKI_BITS_WORD;

    open_path(tree, first_leaf);
    if (first_leaf == last_leaf) {
        set_leaf(tree, first_leaf, ski_bits_mask(first_bit, count), is_free);
    } else {
        open_path(tree, last_leaf);
        set_leaf(tree, first_leaf, ski_bits_mask(first_bit, SKI_BITS_WORD - first_bit), is_free);
        set_leaf(tree, last_leaf, ski_bits_mask(0, last % SKI_BITS_WORD + 1), is_free);
        set_between(tree, first_leaf, last_leaf, is_free);
    }
    close_paths(tree, first_leaf, last_leaf);
}

void ski_run_tree_take(struct sk_dma_arena_tree *tree, uint32_t first, uint32_t count)
{
    set(tree, first, count, false);
}

void ski_run_tree_give(struct sk_dma_arena_tree *tree, uint32_t first, uint32_t count)
{
    set(tree, first, count, true);
}

/* True if a node that is not stale agrees with what stands below it. */
static bool is_sound(const struct sk_dma_arena_tree *tree, uint32_t index, uint32_t span)
{
    const struct sk_dma_arena_node *node = &tree->nodes[index];
    struct sk_dma_arena_node expected;

    if (is_uniform(node, span)) {
        make_uniform(&expected, node->longest);
    } else if (index >= tree->width) {
        expected = leaf_of(tree->words[index - tree->width]);
    } else {
        expected = merged(&tree->nodes[2 * index], &tree->nodes[2 * index + 1], span / 2);
    }
    return is_same(node, &expected);
}

bool ski_run_tree_check(const struct sk_dma_arena_tree *tree)
{
    uint32_t index = ROOT;
    uint32_t span = root_span(tree);

    while (index != 0) {
        if (!is_sound(tree, index, span)) {
            return false;
        }
        if (index < tree->width && !is_uniform(&tree->nodes[index], span)) {
            index = 2 * index;
            span /= 2;
            continue;
        }
        for (; index % 2 != 0; index /= 2) {
            span *= 2;
        }
        index += index != 0; /* the neighbour on the right; 0 came up from the last node */
    }
    return true;
}
