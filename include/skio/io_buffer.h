/* SPDX-License-Identifier: MIT */
/*
 * A piece of memory that a device may touch, as a handle that knows all about
 * itself: its domain, its addresses, its size, its generation and who holds
 * it.  It is made outside of the driver, put into the device node before the
 * probe, and whoever made it destroys it.  It is not reference-counted: one
 * handle owns, views borrow.
 *
 * Ownership: the handle's creator; sk_io_buffer_move hands it on.  A handle
 * must not be copied with `=`: its address is in its domain's list of live
 * buffers.  Start it as SK_IO_BUFFER_EMPTY (all zero).
 * Calling: serialised per domain by the caller; no call sleeps.
 * Trust: nothing here is read from the device.
 */
#ifndef SKIO_IO_BUFFER_H
#define SKIO_IO_BUFFER_H

#include <skio/dma_domain.h>

SK_BEGIN_DECLS

/* The default alignment of an I/O buffer; bytes. */
#define SK_IO_BUFFER_ALIGNMENT 4096u

enum sk_io_buffer_state {
    SK_IO_BUFFER_STATE_EMPTY,     /* never created, or a create failed */
    SK_IO_BUFFER_STATE_LIVE,      /* owns memory of its domain's arena */
    SK_IO_BUFFER_STATE_ADOPTED,   /* refers to foreign memory */
    SK_IO_BUFFER_STATE_MOVED,     /* its memory went to another handle */
    SK_IO_BUFFER_STATE_DESTROYED, /* its memory was given back */
    SK_IO_BUFFER_STATE_QUARANTINED /* its memory was given up; the device may still write it */
};

/* Everything in here is private; use the functions. */
struct sk_io_buffer {
    struct sk_dma_domain *domain;
    void *data;
    uint64_t size;     /* bytes asked for */
    uint64_t capacity; /* bytes owned, rounded up */
    sk_daddr address;  /* of data, for the device */
    struct sk_dma_run run;
    uint32_t state; /* enum sk_io_buffer_state */
    uint32_t generation;
    uint32_t holds; /* how many parties let the device use it */
    bool coherent;  /* no cache maintenance is needed */
    const char *owner;         /* a name for the list of live buffers; may be NULL */
    const struct sk_log *log;  /* stays after the memory went, to log misuse */
    struct sk_io_buffer *next; /* live list of the domain */
    struct sk_io_buffer **link;
};

#define SK_IO_BUFFER_EMPTY { 0 }

/*
 * Makes *buffer own at least `size` zeroed bytes, contiguous for the device,
 * with its device address aligned to `alignment` (SK_IO_BUFFER_ALIGNMENT is
 * the usual one) and within the domain's limits.  The tail up to the capacity
 * is zero too.  Everything is zero before the device can see it.
 * SK_OK; SK_ERR_SIZE (0 or too large), SK_ERR_ALIGNMENT (0 or no power of two),
 * SK_ERR_RANGE (longer than a boundary, or the limits leave no room),
 * SK_ERR_BUSY (*buffer owns memory already), SK_ERR_NO_MEMORY,
 * SK_ERR_UNREACHABLE (the device reaches no memory of the arena, or not where the
 * IOMMU put it), SK_ERR_GONE (domain not initialised), SK_ERR_UNSUPPORTED (device
 * not coherent, no uncached zone, and the platform cannot maintain caches),
 * SK_ERR_INVALID, or what the IOMMU said: logged, nothing changed.
 * SK_ERR_IN_DOUBT: the same, but the IOMMU refused to take the memory back, so
 * it is quarantined.
 */
SK_MUST_CHECK enum sk_status sk_io_buffer_create(struct sk_io_buffer *buffer,
                                                 struct sk_dma_domain *domain, uint64_t size,
                                                 uint64_t alignment);

/*
 * The same with every constraint; `constraints->size_bytes` is the size, and
 * alignment 0 means 1.  The limits on segments only say what is possible: the
 * buffer is one piece, and whoever uses it cuts it.
 */
SK_MUST_CHECK enum sk_status
sk_io_buffer_create_constrained(struct sk_io_buffer *buffer, struct sk_dma_domain *domain,
                                const struct sk_dma_constraints *constraints);

/*
 * Makes *buffer refer to memory that somebody else owns and that is physically
 * contiguous (`paddr` is the address of its first byte).  It must satisfy the
 * domain; long-lived memory is refused rather than bounced.  Destroying the
 * handle leaves the memory alone.  The content is not zeroed.
 * SK_OK; as sk_io_buffer_create, and SK_ERR_UNREACHABLE (the domain's limits, or it
 * bounces everything), SK_ERR_ALIGNMENT (an end shares a cache line with a
 * neighbour and the device does not snoop, or a page that the IOMMU would show).
 */
SK_MUST_CHECK enum sk_status sk_io_buffer_adopt(struct sk_io_buffer *buffer,
                                                struct sk_dma_domain *domain, void *cpu,
                                                sk_paddr paddr, uint64_t size);

/*
 * Gives the memory back.  SK_OK (also for a handle that never owned any);
 * SK_ERR_BUSY (a device holds it: nothing changed), SK_ERR_GONE (destroyed or
 * quarantined before), SK_ERR_MOVED: logged, nothing changed.  What the IOMMU
 * said: the memory is quarantined, because the device may still reach it.
 */
SK_MUST_CHECK enum sk_status sk_io_buffer_destroy(struct sk_io_buffer *buffer);

/*
 * Moves everything from *source to *destination, holds included; afterwards
 * source is empty and says "moved".  Moving a handle onto itself changes
 * nothing.  SK_OK; SK_ERR_BUSY (destination owns memory), SK_ERR_GONE,
 * SK_ERR_MOVED (source owns none): logged, nothing changed.
 */
SK_MUST_CHECK enum sk_status sk_io_buffer_move(struct sk_io_buffer *destination,
                                               struct sk_io_buffer *source);

/* Names the owner of a valid buffer in reports; `owner` is borrowed, may be NULL. */
void sk_io_buffer_set_owner(struct sk_io_buffer *buffer, const char *owner);

/*
 * Releases at the end of a scope: SK_IO_BUFFER_SCOPED struct sk_io_buffer b =
 * SK_IO_BUFFER_EMPTY; destroys b there unless it was moved away.  A buffer that
 * a device still holds is quarantined then, and logged.
 */
void sk_io_buffer_scope_end(struct sk_io_buffer *buffer);
#define SK_IO_BUFFER_SCOPED SK_CLEANUP(sk_io_buffer_scope_end)

/* True if the handle owns or refers to memory that may be used; NULL is false. */
bool sk_io_buffer_is_valid(const struct sk_io_buffer *buffer);

/* The first byte for the CPU; NULL if not valid. */
void *sk_io_buffer_data(const struct sk_io_buffer *buffer);

/* Bytes asked for; 0 if not valid. */
uint64_t sk_io_buffer_size(const struct sk_io_buffer *buffer);

/* Bytes that may be used, at least the size; 0 if not valid. */
uint64_t sk_io_buffer_capacity(const struct sk_io_buffer *buffer);

/*
 * True if CPU and device see each other's writes to this memory without cache
 * maintenance: what rings need.  False if not valid.
 */
bool sk_io_buffer_is_coherent(const struct sk_io_buffer *buffer);

/* Where the device sees the first byte.  SK_OK; SK_ERR_GONE, SK_ERR_MOVED. */
SK_MUST_CHECK enum sk_status sk_io_buffer_address(const struct sk_io_buffer *buffer,
                                                  sk_daddr *out_address);

/*
 * Describes [offset, offset + bytes) of the capacity for a block request.
 * SK_OK; SK_ERR_RANGE, SK_ERR_SIZE (0 bytes or 4 GiB and more), SK_ERR_GONE,
 * SK_ERR_MOVED.
 */
SK_MUST_CHECK enum sk_status sk_io_buffer_segment(const struct sk_io_buffer *buffer,
                                                  uint64_t offset, uint64_t bytes,
                                                  struct sk_dma_segment *out_segment);

/* A part of a buffer, borrowed.  It notices when the buffer went away. */
struct sk_io_view {
    const struct sk_io_buffer *buffer;
    const struct sk_dma_domain *domain; /* with the generation: which memory it was */
    uint32_t generation;
    uint64_t offset;
    uint64_t size;
};

/*
 * Makes a view of [offset, offset + size) of the capacity; it may be empty.
 * SK_OK; SK_ERR_RANGE, SK_ERR_GONE, SK_ERR_MOVED.
 */
SK_MUST_CHECK enum sk_status sk_io_buffer_view(const struct sk_io_buffer *buffer, uint64_t offset,
                                               uint64_t size, struct sk_io_view *out_view);

/* A view of a part of a view; the same statuses. */
SK_MUST_CHECK enum sk_status sk_io_view_part(const struct sk_io_view *view, uint64_t offset,
                                             uint64_t size, struct sk_io_view *out_view);

/*
 * The first byte of the view.  SK_OK; SK_ERR_GONE (the buffer was destroyed, or
 * its handle has other memory by now), SK_ERR_MOVED (it was moved: make a new view).
 */
SK_MUST_CHECK enum sk_status sk_io_view_data(const struct sk_io_view *view, void **out_data);

/*
 * Hands [offset, offset + bytes) to the device: cleans or invalidates caches
 * where the domain needs it, orders the CPU's writes before, and holds the
 * buffer.  Without coherence, the CPU leaves the cache lines of a range that the
 * device writes alone until for_cpu, neighbours in them included.
 * SK_OK; SK_ERR_RANGE, SK_ERR_INVALID (direction), SK_ERR_GONE, SK_ERR_MOVED.
 */
SK_MUST_CHECK enum sk_status sk_io_buffer_for_device(struct sk_io_buffer *buffer, uint64_t offset,
                                                     uint64_t bytes,
                                                     enum sk_dma_direction direction);

/*
 * Takes the range back for the CPU and lets go of one hold.  The device must
 * be done with it.  SK_OK; the same, and SK_ERR_INVALID without a hold.
 */
SK_MUST_CHECK enum sk_status sk_io_buffer_for_cpu(struct sk_io_buffer *buffer, uint64_t offset,
                                                  uint64_t bytes,
                                                  enum sk_dma_direction direction);

/* Holds the buffer for a device without touching caches (rings).  SK_OK; SK_ERR_GONE, SK_ERR_MOVED. */
SK_MUST_CHECK enum sk_status sk_io_buffer_hold(struct sk_io_buffer *buffer);

/*
 * Ends a hold; only after the device was seen to be quiet (a completed reset).
 * SK_OK; SK_ERR_INVALID (not held: logged), SK_ERR_GONE, SK_ERR_MOVED.
 */
enum sk_status sk_io_buffer_release(struct sk_io_buffer *buffer);

/* True while a device holds it. */
bool sk_io_buffer_is_busy(const struct sk_io_buffer *buffer);

/*
 * Gives the memory up for good because the device could not be stopped: a
 * deliberate leak, counted and logged.  The IOMMU mapping stays.  The handle
 * is then not valid.  Adopted memory stays its owner's, who must not reuse it.
 * SK_OK; SK_ERR_GONE, SK_ERR_MOVED.
 */
SK_MUST_CHECK enum sk_status sk_io_buffer_quarantine(struct sk_io_buffer *buffer);

SK_END_DECLS

#endif
