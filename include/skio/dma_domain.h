/* SPDX-License-Identifier: MIT */
/*
 * What one device can reach: how a physical address becomes a device address,
 * which addresses the device can express, whether it snoops the CPU's caches,
 * and whether an IOMMU or a bounce stands between.  It is not an address
 * space of the CPU's, and it is never the identity unless someone wrote an
 * identity window down.
 *
 * Ownership: the domain is the caller's and outlives every buffer and mapping
 * in it; it borrows the platform, the arena, the windows and the IOMMU hooks.
 * Calling: no locks; calls on one domain (and its arena) are serialised by the
 * caller.  No call sleeps, but what the IOMMU hooks do.
 * Spec: Virtio 1.2, 6 "Reserved Feature Bits" (ACCESS_PLATFORM); Devicetree
 * 0.4, 2.3.9 "dma-ranges", 2.3.10 "dma-coherent".
 */
#ifndef SKIO_DMA_DOMAIN_H
#define SKIO_DMA_DOMAIN_H

#include <skio/dma_arena.h>
#include <skio/platform.h>

SK_BEGIN_DECLS

/* Who writes and who reads during a hand-over. */
enum sk_dma_direction {
    SK_DMA_TO_DEVICE,   /* the device only reads */
    SK_DMA_FROM_DEVICE, /* the device only writes */
    SK_DMA_BOTH,
    SK_DMA_DIRECTION_COUNT
};

/*
 * What a device demands of one buffer.  Zero-initialised fields demand
 * nothing, except where noted.  `required` and `preferred` are apart:
 * `alignment_preferred` is tried first and given up silently.
 */
struct sk_dma_constraints {
    uint64_t size_bytes;          /* length; merging takes the larger */
    uint64_t alignment_bytes;     /* power of two; 0 means 1 */
    uint64_t alignment_preferred; /* power of two; 0: no preference */
    uint64_t boundary_bytes;      /* power of two not to be crossed; 0: none */
    sk_daddr lowest;              /* lowest device address of the first byte */
    sk_daddr highest;             /* highest device address of the last byte; 0: no limit */
    uint32_t segment_count_max;   /* pieces the device takes; 0: no limit */
    uint64_t segment_bytes_max;   /* longest piece; 0: no limit */
    bool copied;                  /* foreign memory is never shown itself, only a copy of it */
};

/*
 * Tightens *into by *with: afterwards whatever satisfies *into satisfies both.
 * SK_OK; SK_ERR_INVALID (NULL), SK_ERR_ALIGNMENT (an alignment or boundary is no
 * power of two) or SK_ERR_RANGE (nothing can satisfy both: no room or no aligned
 * address between the ends, or more bytes than all segments hold): *into is
 * unchanged.
 */
SK_MUST_CHECK enum sk_status sk_dma_constraints_merge(struct sk_dma_constraints *into,
                                                      const struct sk_dma_constraints *with);

/*
 * A piece of physical memory and where the device sees it.  Windows may come
 * in any order and overlap.  One run of memory may span several that continue
 * each other on both sides.
 */
struct sk_dma_window {
    sk_paddr paddr; /* first byte, physical */
    sk_daddr daddr; /* first byte as the device sees it */
    uint64_t bytes; /* length; paddr + bytes - 1 and daddr + bytes - 1 do not overflow */
};

/* The whole address space at its own address, said on purpose. */
#define SK_DMA_WINDOW_IDENTITY { { 0 }, { 0 }, UINT64_MAX }

/* One contiguous piece as the device sees it. */
struct sk_dma_segment {
    sk_daddr address;
    uint32_t bytes;
};

/* An IOMMU, or anything else that must be told before a device may touch memory. */
struct sk_dma_iommu {
    void *context;
    /*
     * Makes `bytes` physically contiguous bytes reachable in `direction` and
     * stores where the device sees them.  skio asks for whole pages only.
     * Any failure: nothing is mapped.
     */
    enum sk_status (*map)(void *context, sk_paddr paddr, uint64_t bytes,
                          enum sk_dma_direction direction, sk_daddr *out_daddr);
    /* Takes back exactly one earlier map. */
    enum sk_status (*unmap)(void *context, sk_daddr daddr, uint64_t bytes);
};

struct sk_io_buffer;

struct sk_dma_domain_statistics {
    uint64_t buffers_live;        /* io_buffers in this domain */
    uint64_t buffers_quarantined; /* given up on purpose */
    uint64_t mappings_live;
    uint64_t bounced_mappings; /* ever */
    uint64_t bounced_bytes;    /* copied, both ways */
};

struct sk_dma_domain {
    /* Set by sk_dma_domain_init from the configuration; read-only afterwards. */
    const struct sk_platform *platform;
    struct sk_dma_arena *arena;
    const struct sk_dma_window *windows;
    const struct sk_dma_iommu *iommu;
    size_t window_count;
    struct sk_dma_constraints limits;
    bool coherent;
    bool force_bounce;
    /* Private. */
    struct sk_io_buffer *live;
    uint32_t next_generation;
    struct sk_dma_domain_statistics statistics;
};

/* What a domain is made from. */
struct sk_dma_domain_config {
    const struct sk_platform *platform;  /* required */
    struct sk_dma_arena *arena;          /* buffers and bounces come from here; required */
    const struct sk_dma_window *windows; /* what is reachable; unused with an IOMMU */
    size_t window_count;                 /* at least 1 without an IOMMU */
    const struct sk_dma_iommu *iommu;    /* NULL: none */
    struct sk_dma_constraints limits;    /* the bus's own limits; all zero: none;
                                          * `size_bytes` is ignored */
    bool coherent;                       /* the device snoops the CPU's caches.  If not,
                                          * buffers come from zones with
                                          * SK_DMA_ZONE_UNCACHED if the arena has any,
                                          * else the platform maintains the caches */
    bool force_bounce;                   /* foreign memory is always copied */
};

/*
 * Prepares *domain.  It must not be moved while buffers or mappings live in it.
 * SK_OK; SK_ERR_INVALID (a required part is missing, a window is empty or
 * overflows, the platform's page or cache line is no power of two),
 * SK_ERR_ALIGNMENT, SK_ERR_RANGE (the limits contradict themselves): *domain is
 * all zero then and every call on it fails.
 */
SK_MUST_CHECK enum sk_status sk_dma_domain_init(struct sk_dma_domain *domain,
                                                const struct sk_dma_domain_config *config);

/*
 * Ends a domain.  SK_OK; SK_ERR_BUSY (buffers or mappings live in it; each
 * buffer is logged with its owner, nothing changed); SK_ERR_GONE (never
 * initialised, or ended before).
 */
SK_MUST_CHECK enum sk_status sk_dma_domain_deinit(struct sk_dma_domain *domain);

/*
 * Translates `bytes` of physical memory into one device address by the
 * windows.  It does not map; with an IOMMU only its map hook knows addresses.
 * SK_OK; SK_ERR_UNREACHABLE (no window covers it all, or the domain's lowest and
 * highest address forbid it), SK_ERR_SIZE (0 bytes), SK_ERR_UNSUPPORTED (the domain
 * has an IOMMU), SK_ERR_INVALID, SK_ERR_GONE: *out_daddr is unchanged.
 * O(windows^2) at worst, O(windows) if one window covers it.
 */
SK_MUST_CHECK enum sk_status sk_dma_domain_translate(const struct sk_dma_domain *domain,
                                                     sk_paddr paddr, uint64_t bytes,
                                                     sk_daddr *out_daddr);

/* Foreign memory that was made reachable; filled by sk_dma_domain_map. */
struct sk_dma_mapping {
    struct sk_dma_domain *domain; /* NULL: not mapped */
    void *cpu;
    uint64_t bytes;
    enum sk_dma_direction direction;
    bool bounced;
    bool coherent; /* private: no cache maintenance is needed */
    struct sk_dma_segment *segments; /* the caller's array */
    size_t segment_count;            /* how many of them are used */
    struct sk_dma_run bounce;        /* private */
};

/*
 * Makes foreign memory reachable for the device, all of it or nothing: splits
 * at pages that are not neighbours, merges those that are, honours the limits
 * of the domain and of `constraints` (may be NULL; its size is ignored),
 * bounces where it must, and hands the memory over.  It must if the memory is
 * unreachable or misaligned or takes more pieces than `segment_capacity` or the
 * limits allow; if the device writes and does not snoop, and an end shares a
 * cache line with a neighbour; if an IOMMU would show neighbours in a page; or
 * if the domain or the constraints say so.  A bounce shows the device the request and zeros.  No
 * segment has 4 GiB or more.
 *
 * `cpu` and `segments` stay the caller's and untouched until the unmap.
 * SK_OK; SK_ERR_INVALID, SK_ERR_SIZE (0 bytes, or around the end of memory),
 * SK_ERR_ALIGNMENT or SK_ERR_RANGE (the constraints, see the merge),
 * SK_ERR_NO_MEMORY (no bounce memory), SK_ERR_UNREACHABLE (not even by a copy),
 * SK_ERR_UNSUPPORTED (the platform cannot translate, or not maintain caches),
 * SK_ERR_GONE, or what the platform or the IOMMU said: nothing changed,
 * *out_mapping is empty.  SK_ERR_IN_DOUBT: the same, but the IOMMU refused to take
 * back a part, so the device may still reach it.  O(pages).
 */
SK_MUST_CHECK enum sk_status sk_dma_domain_map(struct sk_dma_domain *domain, void *cpu,
                                               uint64_t bytes, enum sk_dma_direction direction,
                                               const struct sk_dma_constraints *constraints,
                                               struct sk_dma_segment *segments,
                                               size_t segment_capacity,
                                               struct sk_dma_mapping *out_mapping);

/*
 * Takes the memory back and empties *mapping.  `written_bytes` is how much the
 * device wrote at most from the start; a bounce copies back
 * min(written_bytes, bytes) and nothing for SK_DMA_TO_DEVICE.
 * SK_OK; SK_ERR_GONE (not mapped: nothing changed); what the IOMMU said (the
 * mapping is empty, its bounce memory is quarantined, and the device may still
 * reach foreign memory that was not bounced).
 */
SK_MUST_CHECK enum sk_status sk_dma_domain_unmap(struct sk_dma_mapping *mapping,
                                                 uint64_t written_bytes);

/*
 * Gives a mapping up whose device could not be stopped: the IOMMU is not
 * undone, bounce memory is never used again, *mapping is empty.  Foreign memory
 * stays its owner's, who must not reuse it either, unless it was bounced.
 * SK_OK; SK_ERR_GONE.
 */
enum sk_status sk_dma_domain_quarantine(struct sk_dma_mapping *mapping);

/* Copies the counters out. */
void sk_dma_domain_get_statistics(const struct sk_dma_domain *domain,
                                  struct sk_dma_domain_statistics *out_statistics);

SK_END_DECLS

#endif
