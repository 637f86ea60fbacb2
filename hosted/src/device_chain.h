/* SPDX-License-Identifier: MIT */
/*
 * A chain of descriptors as a device sees it: pieces of this process's memory,
 * the readable ones first, each checked against the memory table.  Chains come
 * from split and packed rings, from tables, and from the record of a device
 * that died.
 *
 * Ownership: the caller's struct; the pieces are lent by the memory table.
 * Trust: nothing in a chain is believed.  Walks are bounded by the ring's or
 * the table's size and by SKI_DEVICE_PIECES_MAX, each descriptor is loaded
 * once, and a chain that breaks the rules is refused with a reason.
 * Spec: Virtio 1.2, 2.7.4 to 2.7.5.3, 2.8.5 to 2.8.8.
 */
#ifndef SKI_HOSTED_DEVICE_CHAIN_H
#define SKI_HOSTED_DEVICE_CHAIN_H

#include <sys/uio.h>

#include "device_memory.h"
#include "device_ring_packed.h"
#include "device_ring_split.h"

/* What one system call takes (IOV_MAX). */
#define SKI_DEVICE_PIECES_MAX 1024u

/* A descriptor of a packed ring, loaded. */
struct ski_device_descriptor {
    uint64_t address;
    uint64_t rest; /* u32 length, u16 id, u16 flags */
};

/* Where chains may point, and what was found there last. */
struct ski_device_view {
    const struct ski_device_memory *memory;
    const struct ski_device_region *hint; /* NULL, or one of memory's */
    bool indirect;                        /* INDIRECT_DESC was negotiated */
};

struct ski_device_chain {
    uint32_t id;     /* what to give back: the head, or the buffer id */
    uint32_t places; /* descriptors that it has in the ring, if that is packed */
    uint32_t count;    /* of pieces ... */
    uint32_t readable; /* ... of which so many come first */
    uint64_t readable_bytes;
    uint64_t writable_bytes;
    const char *fault; /* why it was refused */
    struct iovec pieces[SKI_DEVICE_PIECES_MAX];
};

/*
 * Reads the chain at a head of a split ring.  SK_OK; SK_ERR_MALFORMED: it
 * breaks the rules, chain->fault says how.
 */
SK_MUST_CHECK enum sk_status ski_device_chain_read_split(struct ski_device_chain *chain,
                                                         struct ski_device_view *view,
                                                         const struct ski_device_split *ring,
                                                         uint16_t head);

/*
 * Loads the next chain's descriptors from a packed ring; takes nothing.
 * `descriptors` has room for SKI_DEVICE_PIECES_MAX.  SK_OK; SK_ERR_AGAIN (no
 * chain is there), SK_ERR_MALFORMED (longer than what is free of the ring, or
 * than the room; chain->fault says).
 */
SK_MUST_CHECK enum sk_status
ski_device_chain_load_packed(struct ski_device_chain *chain, const struct ski_device_packed *ring,
                             struct ski_device_descriptor *descriptors);

/* Reads the chain of `chain->places` descriptors that were loaded; statuses as for split. */
SK_MUST_CHECK enum sk_status
ski_device_chain_read_packed(struct ski_device_chain *chain, struct ski_device_view *view,
                             const struct ski_device_descriptor *descriptors);

#endif
