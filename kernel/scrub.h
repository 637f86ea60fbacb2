/* SPDX-License-Identifier: MIT */
/*
 * Random extents, several at the disk at a time and on all of its queues:
 * written, flushed, read back and compared.  What the disk holds afterwards
 * depends on the seed alone: extents that overlap go one after the other, in
 * the order of their numbers.  Several harts work on a part of the disk each.
 * Calling: one hart for each struct; requests must outlive a pass that ends in doubt.
 */
#ifndef KERNEL_SCRUB_H
#define KERNEL_SCRUB_H

#include <skio/virtio_blk.h>

#include "disk.h"
#include "lib/extents.h"

#define SCRUB_DEPTH_MAX    64u
#define SCRUB_SEGMENTS_MAX 4u
#define SCRUB_GAP_BYTES    64u /* between segments in memory; the device has no business there */

struct scrub_record {
    struct extent extent;
    bool failed;
};

enum scrub_lane_state { SCRUB_LANE_IDLE, SCRUB_LANE_BUSY, SCRUB_LANE_DONE };

struct scrub_lane {
    enum scrub_lane_state state;
    struct scrub *scrub;
    struct sk_block_queue *queue;
    uint64_t number; /* of its extent */
    struct sk_block_request request;
    uint64_t offset;                       /* of its memory in the buffer */
    uint32_t cuts[SCRUB_SEGMENTS_MAX + 1]; /* where segments begin and end, bytes of the extent */
    struct sk_dma_segment segments[SCRUB_SEGMENTS_MAX];
};

/* What all harts do; nobody changes it while they work, but for `stopped`. */
struct scrub_plan {
    uint64_t seed;
    uint64_t count; /* extents, of each hart */
    uint64_t depth; /* requests in flight, of each hart */
    uint64_t every; /* extents between two flushes */
    uint64_t harts;
    bool read;        /* write nothing */
    bool poll;        /* never sleep */
    bool retry;       /* recover a stopped disk and go on */
    bool persist;     /* go on after any number of failures */
    bool interactive; /* hart 0 looks for ^C */
    sk_atomic_u32 stopped;
};

/* A queue, and its counters before the work. */
struct scrub_queue {
    struct sk_block_queue *queue;
    uint64_t requests;
    uint64_t interrupts;
};

/* One hart's. */
struct scrub {
    struct scrub_plan *plan;
    const char *name; /* for what it prints */
    unsigned hart;
    struct disk disk;
    struct sk_io_buffer buffer;
    struct extents extents;
    struct scrub_record *records;
    uint64_t lane_bytes;
    struct scrub_queue queues[SK_VIRTIO_BLK_QUEUES_MAX];
    uint32_t queue_count;
    /* Where it stands. */
    bool writing;
    uint64_t next;    /* extent */
    uint64_t limit;   /* where the next flush is */
    uint64_t durable; /* extents that are */
    uint64_t equal;   /* extents that were compared */
    uint32_t in_flight;
    uint32_t turn; /* queue */
    uint32_t failures;
    uint32_t recoveries;
    uint64_t look_ns; /* when to look for ^C again */
    bool repeat;      /* begin again behind what is durable */
    bool stopped;
    bool in_doubt;
    struct scrub_lane lanes[SCRUB_DEPTH_MAX];
    bool covered[DISK_CHUNK_BYTES / EXTENTS_SECTOR_BYTES];
};

/* scrub.c: a hart's whole work; the argument is its struct scrub. */
void scrub_run(void *argument);

/* One more thing went wrong, and was said; too many stop it. */
void scrub_failed(struct scrub *scrub);

/*
 * scrub_lane.c: the lane's memory for its extent: cut into the request's
 * segments, with gaps around them, and filled if it shall be written.  False: said.
 */
bool scrub_lane_prepare(struct scrub_lane *lane, bool filled);

/* The lane's extent was read: says where it is not what it should be. */
void scrub_lane_compare(struct scrub_lane *lane);

#endif
