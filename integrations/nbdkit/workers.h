/* SPDX-License-Identifier: MIT */
/*
 * Blocking calls from many threads on a disk whose queues have one owner each:
 * a thread for each queue submits what the others hand to it, in batches, and
 * wakes them when their pieces are done.
 *
 * Ownership: the disk is the caller's and outlives the workers.
 * Calling: start and stop from one thread; the others from any.
 */
#ifndef NBDKIT_WORKERS_H
#define NBDKIT_WORKERS_H

#include <skio_hosted/vhost_user.h>

/* Bytes that one request to the disk moves at most; longer calls are cut. */
#define WORKERS_PIECE_BYTES (256u << 10)

/* Pieces that one queue has under way; each has that much memory of its own. */
#define WORKERS_SLOTS_EACH 64u

struct workers;

/* SK_OK; SK_ERR_NO_MEMORY: *out_workers is NULL. */
SK_MUST_CHECK enum sk_status workers_start(struct sk_vhost_user_disk *disk, bool polling,
                                           struct workers **out_workers);
/* No call may be under way. */
void workers_stop(struct workers *workers);

/* Each waits until it is done; `flags` as in sk_block_request.  Whole blocks only. */
enum sk_status workers_read(struct workers *workers, void *out_data, uint64_t offset,
                            uint64_t bytes);
enum sk_status workers_write(struct workers *workers, const void *data, uint64_t offset,
                             uint64_t bytes, uint32_t flags);
enum sk_status workers_clear(struct workers *workers, enum sk_block_operation operation,
                             uint64_t offset, uint64_t bytes, uint32_t flags);
enum sk_status workers_flush(struct workers *workers);

#endif
