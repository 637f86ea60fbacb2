/* SPDX-License-Identifier: MIT */
/*
 * Moves bytes from one end to the other, many pieces at a time.  An end is a
 * disk, a file that can be sought in, a stream that cannot, or a function that
 * takes bytes in order.  Zeroes travel as holes where both ends know them.
 * Two disks share their memory, so what one reads the other writes as it lies.
 *
 * What is done is known by its low-water mark: everything before it is at the
 * target, so an interrupted transfer can say where to go on.
 */
#ifndef SKBLK_TRANSFER_H
#define SKBLK_TRANSFER_H

#include "skblk.h"

enum skblk_end_kind {
    SKBLK_END_DISK,
    SKBLK_END_FILE,   /* pread, pwrite */
    SKBLK_END_STREAM, /* read, write, in order */
    SKBLK_END_SINK    /* a function; only as a target */
};

struct skblk_end {
    enum skblk_end_kind kind;
    const char *name; /* for messages */
    struct skblk_disk *disk;
    int fd;
    bool is_fresh; /* a target file that was empty: what is not written reads as zeroes */
    void (*take)(void *context, const void *data, size_t bytes);
    void *context;
    uint64_t offset; /* where the range begins */
};

struct skblk_transfer {
    const struct skblk_call *call;
    const char *what; /* for progress: "copy" */
    struct skblk_end source;
    struct skblk_end target;
    uint64_t length; /* bytes; UINT64_MAX: until the stream ends */
    uint64_t done;   /* the low-water mark; set before to go on from there */
};

/*
 * Runs it; both ends are open, and ranges checked.  Returns the exit code; a
 * failure was printed.  `done` says how far it came in any case.
 */
int skblk_transfer_run(struct skblk_transfer *transfer);

/* I/O buffer bytes that a disk at either end needs; for opening it. */
uint64_t skblk_transfer_memory(const struct skblk_call *call);

#endif
