/* SPDX-License-Identifier: MIT */
/*
 * A disk for benchmarks: the whole driver over the fast device, which is in
 * the process, completes at once and touches no data; and a stream of random
 * 4 KiB reads on one of its queues.  A notification is a call, as it is for
 * everything that shares a process with its device; all else goes through
 * registers.
 *
 * Ownership: the caller's structs.  Memory is taken once and given back by
 * the end of the process.  Every failure ends the program with its reason.
 * Calling: one thread starts and stops; each stream is one thread's, and
 * streams on different queues share nothing that is written.
 */
#ifndef BENCH_DISK_H
#define BENCH_DISK_H

#include <skio/skio.h>

#include "fake/fast_device.h"

#define BENCH_BATCH_MAX 128u

struct bench_disk_config {
    uint64_t features;      /* offered, besides VERSION_1 and SEG_MAX */
    uint32_t queue_count;   /* 0: 1 */
    uint32_t queue_size;
    uint32_t segment_count; /* most of one request; more than 1: tables for INDIRECT_DESC */
    bool interrupts;        /* the device has a line, and streams wait for it before they poll */
};

struct bench_disk {
    struct sk_platform platform;
    struct sk_log log;
    struct fast_device device;
    struct sk_virtio_mmio transport;
    struct sk_virtio_transport_ops transport_ops; /* MMIO's, but for `notify` */
    uint8_t *memory;
    struct sk_dma_zone zone;
    struct sk_dma_arena arena;
    struct sk_dma_window window;
    struct sk_dma_domain domain;
    struct sk_io_buffer rings;
    struct sk_device_node node;
    struct sk_interrupt line;
    void (*handler)(void *argument); /* attached to the line */
    void *handler_argument;
    struct sk_virtio_blk_options options;
    struct sk_driver driver;
    struct sk_block_device *block;
};

/* On pages of its own, so that no line of it is another thread's. */
struct bench_stream {
    const struct bench_disk *disk;
    struct sk_io_buffer data;
    uint64_t *counter;
    uint64_t random;
    struct sk_block_request requests[BENCH_BATCH_MAX];
    struct sk_dma_segment segments[BENCH_BATCH_MAX];
    struct sk_block_request *batch[BENCH_BATCH_MAX];
};

/* Takes the memory; once. */
void bench_disk_open(struct bench_disk *disk);

/* Binds the driver to a new device, and lets it go. */
void bench_disk_start(struct bench_disk *disk, const struct bench_disk_config *config);
void bench_disk_stop(struct bench_disk *disk);

/* A stream of reads for any queue of this disk. */
struct bench_stream *bench_stream_make(struct bench_disk *disk);

/* From now on each completion adds one to `counter`, atomically.  NULL: no more. */
void bench_stream_count(struct bench_stream *stream, uint64_t *counter);

/* Submits `rounds` batches, each polled, or waited for and polled, until it is done. */
void bench_stream_run(struct bench_stream *stream, struct sk_block_queue *queue, uint32_t batch,
                      uint64_t rounds);

#endif
