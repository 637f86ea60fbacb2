/* SPDX-License-Identifier: MIT */
/*
 * Where a back end's bytes are: nowhere, or in a file.  Offsets and lengths
 * are checked by the caller against the capacity.
 *
 * Calling: any thread, any number at a time.
 * Spec: Virtio 1.2, 5.2.6, for the answers.
 */
#ifndef SKI_HOSTED_BACKEND_STORE_H
#define SKI_HOSTED_BACKEND_STORE_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/uio.h>

#include <skio/status.h>

/* Answers to requests; 5.2.6. */
#define SKI_BACKEND_OK     ((uint8_t)0)
#define SKI_BACKEND_IOERR  ((uint8_t)1)
#define SKI_BACKEND_UNSUPP ((uint8_t)2)

struct ski_backend_store {
    int fd; /* -1: the null store */
    bool is_null;
    bool null_zeroes;
    bool is_device; /* a block device */
    bool in_memory; /* a file whose reads and writes do not block: tmpfs */
    bool read_only;
    bool can_discard;
    uint64_t full_at; /* a fault: writes that end behind it find no space; else UINT64_MAX */
    _Atomic uint64_t capacity_sectors;
    _Atomic bool cannot_try; /* reads that shall not block are not supported */
    /*
     * A flush that failed may have lost writes for good, and the kernel says
     * so once, to whoever makes something durable first.  From then on each flush
     * fails; so no flush answers while another one, or a durable write, may know.
     */
    pthread_rwlock_t durable; /* shared: writes; alone: flushes */
    _Atomic bool flush_failed;
};

/* A store that is nothing yet: neither null nor open.  Close it. */
void ski_backend_store_init(struct ski_backend_store *store);
/* Opens a file.  Statuses of sk_backend_start; *out_text says what for people. */
SK_MUST_CHECK enum sk_status ski_backend_store_open(struct ski_backend_store *store,
                                                    const char *path, bool read_only,
                                                    uint32_t block_bytes, const char **out_text);
void ski_backend_store_close(struct ski_backend_store *store);

/* The file's size now, in sectors, whole blocks.  SK_OK; SK_ERR_SIZE, SK_ERR_IO. */
SK_MUST_CHECK enum sk_status ski_backend_store_measure(const struct ski_backend_store *store,
                                                       uint32_t block_bytes,
                                                       uint64_t *out_sectors);

/* Each returns an answer.  The pieces are used up. */
uint8_t ski_backend_store_read(struct ski_backend_store *store, struct iovec *pieces,
                               uint32_t count, uint64_t offset);
/*
 * Reads what can be had without blocking; moves the three on behind that.  True: all
 * of it, or an error: *out_answer is the answer.
 */
bool ski_backend_store_read_now(struct ski_backend_store *store, struct iovec **pieces,
                                uint32_t *count, uint64_t *offset, uint8_t *out_answer);
uint8_t ski_backend_store_write(struct ski_backend_store *store, struct iovec *pieces,
                                uint32_t count, uint64_t offset, bool durable);
uint8_t ski_backend_store_flush(struct ski_backend_store *store);
uint8_t ski_backend_store_discard(struct ski_backend_store *store, uint64_t offset,
                                  uint64_t bytes);
uint8_t ski_backend_store_write_zeroes(struct ski_backend_store *store, uint64_t offset,
                                       uint64_t bytes, bool unmap, bool durable);

#endif
