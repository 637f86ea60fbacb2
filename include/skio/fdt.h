/* SPDX-License-Identifier: MIT */
/*
 * Reads a flattened device tree where it lies: no copy, no allocation, no
 * recursion, no trust in any offset or length in it.  It is read-only and is
 * no tree of objects; a node is a cursor that remembers its ancestors.
 *
 * Ownership: the blob is borrowed and must not change while it is read.
 * Calling: no state but the arguments; any context, any number of threads.
 * Trust: the whole blob, and cursors too.  A malformed tree yields
 * SK_ERR_MALFORMED, never an access outside of it; NULL or a cursor that is none
 * yields SK_ERR_INVALID.  The work of a call is at most the blob's size times
 * SK_FDT_DEPTH_MAX, where nothing else is said.
 * Spec: Devicetree Specification 0.4, chapters 2, 3 and 5.
 */
#ifndef SKIO_FDT_H
#define SKIO_FDT_H

#include <skio/device_node.h>

SK_BEGIN_DECLS

/* Deepest nesting that is read, the root counted as 1; deeper is malformed. */
#define SK_FDT_DEPTH_MAX 32

/* Most `dma-ranges` windows that one device can have; more are not composed. */
#define SK_FDT_DMA_WINDOWS_MAX 16

/* Everything in here is private. */
struct sk_fdt {
    const uint8_t *blob;
    uint32_t size;
    uint32_t structure_offset;
    uint32_t structure_bytes;
    uint32_t strings_offset;
    uint32_t strings_bytes;
    uint32_t reservations_offset;
    uint32_t reservations_bytes; /* its end included */
};

/* A cursor.  Private but for copying; all zero is not a node. */
struct sk_fdt_node {
    uint32_t depth;                    /* 1: the root */
    uint32_t path[SK_FDT_DEPTH_MAX];   /* structure offsets, the node's own last */
};

/* A property; the value is `bytes` long and not zero-terminated by itself. */
struct sk_fdt_property {
    const char *name;
    const uint8_t *value;
    uint32_t bytes;
};

/*
 * Checks the header against the real size of the memory and walks the whole
 * structure once, so that later walks only repeat what was seen.
 * SK_OK; SK_ERR_INVALID (NULL), SK_ERR_SIZE (no room for a header or for what it
 * claims), SK_ERR_MALFORMED, SK_ERR_UNSUPPORTED (needs a reader newer than
 * version 17, or is older than 16): *out_fdt is all zero then.
 */
SK_MUST_CHECK enum sk_status sk_fdt_open(const void *blob, size_t blob_bytes,
                                         struct sk_fdt *out_fdt);

/*
 * Returns the size that the header at `blob` claims, for a loader that was
 * handed an address alone; 0 if there is no device tree.  Reads 8 bytes.
 * Untrusted: bound it before use.
 */
uint32_t sk_fdt_claimed_bytes(const void *blob);

/* The root node. */
SK_MUST_CHECK enum sk_status sk_fdt_root(const struct sk_fdt *fdt, struct sk_fdt_node *out_node);

/* Steps *node to the next one in document order.  SK_ERR_NOT_FOUND: it was the last. */
SK_MUST_CHECK enum sk_status sk_fdt_next(const struct sk_fdt *fdt, struct sk_fdt_node *node);

/* First child, next sibling, parent.  SK_ERR_NOT_FOUND: there is none. */
SK_MUST_CHECK enum sk_status sk_fdt_child(const struct sk_fdt *fdt, const struct sk_fdt_node *node,
                                          struct sk_fdt_node *out_child);
SK_MUST_CHECK enum sk_status sk_fdt_sibling(const struct sk_fdt *fdt,
                                            const struct sk_fdt_node *node,
                                            struct sk_fdt_node *out_sibling);
SK_MUST_CHECK enum sk_status sk_fdt_parent(const struct sk_fdt *fdt, const struct sk_fdt_node *node,
                                           struct sk_fdt_node *out_parent);

/* The node's name with its unit address ("serial@10000000"); "" for the root. */
SK_MUST_CHECK enum sk_status sk_fdt_name(const struct sk_fdt *fdt, const struct sk_fdt_node *node,
                                         const char **out_name);

/*
 * Finds a node by absolute path; a part without "@" matches any unit address,
 * and the first match counts.  SK_OK; SK_ERR_INVALID (no "/" in front),
 * SK_ERR_NOT_FOUND: *out_node is unchanged.
 */
SK_MUST_CHECK enum sk_status sk_fdt_find_path(const struct sk_fdt *fdt, const char *path,
                                              struct sk_fdt_node *out_node);

/*
 * Finds a node by phandle (`phandle` or `linux,phandle`).  SK_OK; SK_ERR_INVALID
 * (0 and 2^32 - 1 are nobody's), SK_ERR_NOT_FOUND: *out_node is unchanged.
 */
SK_MUST_CHECK enum sk_status sk_fdt_find_phandle(const struct sk_fdt *fdt, uint32_t phandle,
                                                 struct sk_fdt_node *out_node);

/* The next node after *node (all zero: from the root on) with this compatible string. */
SK_MUST_CHECK enum sk_status sk_fdt_find_compatible(const struct sk_fdt *fdt,
                                                    const char *compatible,
                                                    struct sk_fdt_node *node);

/* A property by name, or the `index`th.  SK_ERR_NOT_FOUND. */
SK_MUST_CHECK enum sk_status sk_fdt_property(const struct sk_fdt *fdt,
                                             const struct sk_fdt_node *node, const char *name,
                                             struct sk_fdt_property *out_property);
SK_MUST_CHECK enum sk_status sk_fdt_property_at(const struct sk_fdt *fdt,
                                                const struct sk_fdt_node *node, uint32_t index,
                                                struct sk_fdt_property *out_property);

/* The `index`th 32-bit cell of a property.  SK_ERR_NOT_FOUND, SK_ERR_RANGE (too short). */
SK_MUST_CHECK enum sk_status sk_fdt_u32(const struct sk_fdt *fdt, const struct sk_fdt_node *node,
                                        const char *name, uint32_t index, uint32_t *out_value);

/* The `index`th string of a property; terminated, or SK_ERR_MALFORMED.  SK_ERR_NOT_FOUND. */
SK_MUST_CHECK enum sk_status sk_fdt_string(const struct sk_fdt *fdt, const struct sk_fdt_node *node,
                                           const char *name, uint32_t index,
                                           const char **out_string);

/* True if `compatible` is one of the node's strings. */
bool sk_fdt_is_compatible(const struct sk_fdt *fdt, const struct sk_fdt_node *node,
                          const char *compatible);

/* True unless a `status` property of this node or of an ancestor says other than "okay" or "ok". */
bool sk_fdt_is_enabled(const struct sk_fdt *fdt, const struct sk_fdt_node *node);

/*
 * The `index`th entry of `reg`, translated through every `ranges` up to the
 * root; all of it must lie in one entry of each.  SK_ERR_NOT_FOUND (no such
 * entry), SK_ERR_UNREACHABLE (an ancestor does not translate it, or the bus has
 * no sizes: CPUs, sensors), SK_ERR_MALFORMED (cell counts, lengths, overflow):
 * *out_range is unchanged.
 */
SK_MUST_CHECK enum sk_status sk_fdt_range(const struct sk_fdt *fdt, const struct sk_fdt_node *node,
                                          uint32_t index, struct sk_device_range *out_range);

/*
 * The `index`th interrupt: `interrupts-extended`, or `interrupts` with the
 * inherited `interrupt-parent`, in cells of that parent's #interrupt-cells.
 * SK_ERR_NOT_FOUND, SK_ERR_MALFORMED, SK_ERR_UNSUPPORTED (too many cells, or the
 * parent is a nexus with an `interrupt-map`): *out_interrupt is unchanged.
 * O((index + 1) * blob size).
 */
SK_MUST_CHECK enum sk_status sk_fdt_interrupt(const struct sk_fdt *fdt,
                                              const struct sk_fdt_node *node, uint32_t index,
                                              struct sk_interrupt *out_interrupt);

/*
 * How DMA of this node's device relates to the caches, by the nearest word on
 * it; of two words on one node `dma-noncoherent` counts, which is always safe.
 */
enum sk_fdt_coherence {
    SK_FDT_COHERENCE_UNSAID,      /* the platform's default counts */
    SK_FDT_COHERENCE_COHERENT,    /* `dma-coherent` */
    SK_FDT_COHERENCE_NONCOHERENT  /* `dma-noncoherent` */
};
enum sk_fdt_coherence sk_fdt_get_coherence(const struct sk_fdt *fdt, const struct sk_fdt_node *node);

/*
 * The windows through which this node's device reaches memory, from the
 * `dma-ranges` of all its ancestors, composed; a bus without one, or with an
 * empty one, changes nothing.  None at all: one identity window.  At most
 * `capacity` are stored; *out_count is how many there are.  SK_OK;
 * SK_ERR_RANGE (more than `capacity`, or than SK_FDT_DMA_WINDOWS_MAX at some bus:
 * *out_count is where the count stopped), SK_ERR_MALFORMED, SK_ERR_UNREACHABLE
 * (the ancestors' windows have nothing in common): *out_count is 0.
 */
SK_MUST_CHECK enum sk_status sk_fdt_dma_windows(const struct sk_fdt *fdt,
                                                const struct sk_fdt_node *node,
                                                struct sk_dma_window *out_windows, size_t capacity,
                                                size_t *out_count);

/*
 * The `index`th range of memory: the enabled children of the root whose
 * `device_type` is "memory".  SK_ERR_NOT_FOUND; SK_ERR_MALFORMED (a `reg` that cannot
 * be read counts as one range; those behind it have the next indexes).
 */
SK_MUST_CHECK enum sk_status sk_fdt_memory(const struct sk_fdt *fdt, uint32_t index,
                                           struct sk_device_range *out_range);

/*
 * The `index`th range that must not be used: first the reservation block, then
 * the fixed ranges of /reserved-memory's enabled children.  SK_ERR_NOT_FOUND;
 * SK_ERR_MALFORMED or SK_ERR_UNREACHABLE (this one cannot be read; the next index
 * is the one behind it).
 */
SK_MUST_CHECK enum sk_status sk_fdt_reserved(const struct sk_fdt *fdt, uint32_t index,
                                             struct sk_device_range *out_range);

/* /chosen bootargs.  SK_ERR_NOT_FOUND (there are none), SK_ERR_MALFORMED (no zero at the end). */
SK_MUST_CHECK enum sk_status sk_fdt_bootargs(const struct sk_fdt *fdt, const char **out_bootargs);

/*
 * /chosen stdout-path (or linux,stdout-path) as a node, with an alias in front
 * resolved and ":options" left out.  SK_ERR_NOT_FOUND; SK_ERR_MALFORMED (an alias
 * that is no path): *out_node is unchanged.
 */
SK_MUST_CHECK enum sk_status sk_fdt_stdout(const struct sk_fdt *fdt, struct sk_fdt_node *out_node);

SK_END_DECLS

#endif
