/* SPDX-License-Identifier: MIT */
/*
 * A virtio block device with everything its driver needs, injected by hand:
 * the environment, the fake device, a node with an I/O buffer and driver
 * memory.  Nothing is probed until asked.
 */
#ifndef TESTS_BLK_RIG_H
#define TESTS_BLK_RIG_H

#include <skio/skio.h>

#include "fake/virtio_device.h"
#include "support/environment.h"

#define BLK_RIG_BASE UINT64_C(0x10001000)
#define BLK_RIG_LINE 1u

/* Timeouts of the rig's driver: the test's clock runs as it likes. */
#define BLK_RIG_TIMEOUT_NS         UINT64_C(1000000000)
#define BLK_RIG_CONTROL_TIMEOUT_NS UINT64_C(100000000)

struct blk_rig {
    struct test_environment env;
    struct fake_device *fake;
    struct sk_device_node node;
    struct sk_device_range range;
    struct sk_interrupt interrupt;
    struct sk_io_buffer buffer;
    void *memory;
    struct sk_virtio_blk_options options;
    struct sk_driver driver;
    struct sk_block_device *disk; /* after a successful probe */
    struct sk_block_queue *queue; /* its first queue */
};

/* The rig's own options: the defaults with its timeouts. */
struct sk_virtio_blk_options blk_rig_options(void);

/* Sets all up; NULL: the defaults.  The device is not probed. */
void blk_rig_init(struct blk_rig *rig, const struct fake_device_config *config,
                  const struct sk_virtio_blk_options *options);

/* Claims and probes as the manager does; on success `disk` and `queue` are set. */
enum sk_status blk_rig_probe(struct blk_rig *rig);

/* init and a probe that must succeed. */
void blk_rig_start(struct blk_rig *rig, const struct fake_device_config *config,
                   const struct sk_virtio_blk_options *options);

/* Removes the driver if it is bound. */
enum sk_status blk_rig_remove(struct blk_rig *rig);

/* Ends everything; fails the test on leaks and on violations of the specification. */
void blk_rig_deinit(struct blk_rig *rig);

/* The same after a device that never stopped: memory is quarantined, not leaked. */
void blk_rig_abandon(struct blk_rig *rig);

/* A request that counts its completions. */
struct blk_rig_request {
    struct sk_block_request request;
    struct sk_dma_segment segment;
    unsigned completions;
};

/* Prepares a one-segment request on foreign memory page `page`. */
void blk_rig_prepare(struct blk_rig *rig, struct blk_rig_request *request,
                     enum sk_block_operation operation, uint64_t sector, size_t page,
                     uint32_t bytes);

/* Submits one. */
void blk_rig_submit(struct blk_rig *rig, struct blk_rig_request *request);

/* Polls and waits until the request is done, at most `polls` times; true if it is. */
bool blk_rig_run(struct blk_rig *rig, struct blk_rig_request *request, unsigned polls);

/* Where the device finds a page of foreign memory. */
uint64_t blk_rig_address(struct blk_rig *rig, size_t page);

#endif
