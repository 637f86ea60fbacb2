/* SPDX-License-Identifier: MIT */
/*
 * Linux's virtqueue in this process, for a comparison: its own virtio_ring.c,
 * taken from Debian's package and compiled beside this (tools/bench-linux-ring).
 * This header is the border: neither Linux's headers nor skio's stand behind it.
 *
 * Addresses for the device are those of the process.
 * Calling: one thread.
 */
#ifndef BENCH_PEERS_LINUX_RING_H
#define BENCH_PEERS_LINUX_RING_H

#include <stdbool.h>
#include <stdint.h>

#define LINUX_RING_BATCH_MAX 128u

struct linux_ring_config {
    uint64_t features;
    uint32_t queue_size;
    bool interrupts;               /* as virtio_blk: completions by callback, under its lock */
    void (*notify)(void *context); /* what a transport does with a notification */
    void *context;
};

/* What the transport would tell the device. */
struct linux_ring_addresses {
    uint64_t descriptors;
    uint64_t driver_area;
    uint64_t device_area;
};

struct linux_ring;

/* Makes a virtqueue with requests for it; ends the program if there is no memory. */
struct linux_ring *linux_ring_open(const struct linux_ring_config *config,
                                   struct linux_ring_addresses *out_addresses);

/* Submits `rounds` batches of 4 KiB reads, each until it is done. */
void linux_ring_run(struct linux_ring *ring, uint32_t batch, uint64_t rounds);

/* The device raises its line. */
void linux_ring_interrupt(void *ring);

/* Requests that were completed, all with the status OK. */
uint64_t linux_ring_completed(const struct linux_ring *ring);

#endif
