/* SPDX-License-Identifier: MIT */
/*
 * The record of what a device has taken from a ring and not given back.  It
 * lies in memory that the front end keeps, so it survives a device that is
 * killed between any two instructions; the next one learns from it what was
 * in flight, and nothing is done twice that a driver can see.
 *
 *   take     a chain is recorded before it is looked at
 *   give     it joins the batch that is given back, before the ring's give
 *   commit   after the ring shows the batch, it is forgotten
 *
 * What is stored in which order is all there is to it: each step says so.
 * A batch is at most SKI_DEVICE_BATCH_MAX chains, and nothing is taken between
 * its first give and its commit: what a packed record gives up could be taken
 * again, and then not be undone.
 *
 * Ownership: the region is the front end's and mapped by the caller; the
 * private tables are allocated here.
 * Calling: the thread that serves the ring.
 * Trust: the front end can write the region.  Numbers from it are bounded,
 * walks are too; what it damages is its own disk's requests.
 * Spec: vhost-user, "Inflight I/O tracking".
 */
#ifndef SKI_HOSTED_DEVICE_INFLIGHT_H
#define SKI_HOSTED_DEVICE_INFLIGHT_H

#include "device_chain.h"

#define SKI_DEVICE_BATCH_MAX 64u

/* No entry; also the end of the list of free ones. */
#define SKI_DEVICE_NO_ENTRY 0xffffu

struct ski_inflight_split_entry {
    uint8_t inflight;
    uint8_t padding[5];
    sk_le16 next;    /* of the last batch given back */
    sk_le64 counter; /* the order of taking */
};

struct ski_inflight_split_region {
    sk_le64 features;
    sk_le16 version; /* 0: says nothing */
    sk_le16 count;
    sk_le16 last_batch_head;
    sk_le16 used_index;
    struct ski_inflight_split_entry entries[];
};

struct ski_inflight_packed_entry {
    sk_le64 links; /* u8 inflight, u8 0, u16 next, u16 last, u16 number of descriptors */
    sk_le64 counter;
    sk_le64 rest; /* u16 id, u16 flags, u32 length */
    sk_le64 address;
};

struct ski_inflight_packed_region {
    sk_le64 features;
    sk_le16 version;
    sk_le16 count;
    sk_le16 free_head;
    sk_le16 old_free_head;
    sk_le64 position; /* u16 used, u16 old used, u8 wrap, u8 old wrap */
    uint8_t padding[8];
    struct ski_inflight_packed_entry entries[];
};

_Static_assert(sizeof(struct ski_inflight_split_region) == 16, "QueueRegionSplit");
_Static_assert(sizeof(struct ski_inflight_split_entry) == 16, "DescStateSplit");
_Static_assert(sizeof(struct ski_inflight_packed_region) == 32, "QueueRegionPacked");
_Static_assert(sizeof(struct ski_inflight_packed_entry) == 32, "DescStatePacked");

struct ski_device_inflight {
    bool is_packed;
    struct ski_inflight_split_region SKI_SHARED *split;
    struct ski_inflight_split_entry SKI_SHARED *split_entries;
    struct ski_inflight_packed_region SKI_SHARED *packed;
    struct ski_inflight_packed_entry SKI_SHARED *packed_entries;
    uint16_t count; /* entries, as many as the ring has */
    uint64_t counter;

    /* The batch that was given back and not committed. */
    uint16_t batch[SKI_DEVICE_BATCH_MAX];
    uint32_t batch_count;
    uint16_t last_batch_head;

    /* Packed: the free entries, and each chain's last one. */
    uint16_t *next; /* `count` of each */
    uint16_t *last;
    uint16_t free_head;
    uint16_t committed_used; /* the old position */
    bool committed_wrap;

    /* What a recovery found, in the order of taking. */
    uint16_t *resubmit;
    uint32_t resubmit_count;
};

/* Bytes of one ring's part of the region, a multiple of 64. */
uint64_t ski_device_inflight_bytes(bool is_packed, uint32_t ring_size);

/*
 * Begins to use a region of ski_device_inflight_bytes, aligned to 8.  SK_OK;
 * SK_ERR_NO_MEMORY, nothing changed.
 */
SK_MUST_CHECK enum sk_status ski_device_inflight_open(struct ski_device_inflight *inflight,
                                                      uint8_t SKI_SHARED *region, bool is_packed,
                                                      uint16_t ring_size);

/* Frees the private tables; the region keeps what it says. */
void ski_device_inflight_close(struct ski_device_inflight *inflight);

/* True if the region says something: a device was at work on the ring, and did not stop it. */
bool ski_device_inflight_is_live(const struct ski_device_inflight *inflight);

/* Begins at a ring's position with nothing in flight. */
void ski_device_inflight_begin_split(struct ski_device_inflight *inflight,
                                     const struct ski_device_split *ring);
void ski_device_inflight_begin_packed(struct ski_device_inflight *inflight,
                                      const struct ski_device_packed *ring);

/*
 * Finds out what a device that died had in flight: fills `resubmit` and moves
 * the ring to where it was.  SK_OK; SK_ERR_MALFORMED: the region contradicts
 * itself, and the ring stays where it was.
 */
SK_MUST_CHECK enum sk_status
ski_device_inflight_recover_split(struct ski_device_inflight *inflight,
                                  struct ski_device_split *ring);
SK_MUST_CHECK enum sk_status
ski_device_inflight_recover_packed(struct ski_device_inflight *inflight,
                                   struct ski_device_packed *ring);

/* The descriptors of a packed chain that was in flight; SK_OK, SK_ERR_MALFORMED as a ring's. */
SK_MUST_CHECK enum sk_status
ski_device_inflight_load_packed(const struct ski_device_inflight *inflight, uint16_t entry,
                                struct ski_device_chain *chain,
                                struct ski_device_descriptor *descriptors);

/* Records a chain before it is worked on. */
void ski_device_inflight_take_split(struct ski_device_inflight *inflight, uint16_t head);
/* Returns the entry to give back later; SKI_DEVICE_NO_ENTRY: there are not that many. */
uint16_t ski_device_inflight_take_packed(struct ski_device_inflight *inflight,
                                         const struct ski_device_descriptor *descriptors,
                                         uint32_t count);

/* The chain joins the batch, before the ring's `give`. */
void ski_device_inflight_give_split(struct ski_device_inflight *inflight, uint16_t head);
void ski_device_inflight_give_packed(struct ski_device_inflight *inflight, uint16_t entry,
                                     const struct ski_device_packed *ring, uint32_t places);

/* After the ring's `publish`. */
void ski_device_inflight_commit_split(struct ski_device_inflight *inflight,
                                      const struct ski_device_split *ring);
void ski_device_inflight_commit_packed(struct ski_device_inflight *inflight,
                                       const struct ski_device_packed *ring);

/* The ring was stopped with nothing in flight: the region says nothing any more. */
void ski_device_inflight_end(struct ski_device_inflight *inflight);

#endif
