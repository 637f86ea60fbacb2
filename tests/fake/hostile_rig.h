/* SPDX-License-Identifier: MIT */
/*
 * A disk with a fake device behind the real driver, bound by a manager, and
 * requests that count how often they are completed: what the tests of hostile
 * devices share.  Every wait in here is bounded by the test's own clock.
 */
#ifndef TESTS_FAKE_HOSTILE_RIG_H
#define TESTS_FAKE_HOSTILE_RIG_H

#include "fake/virtio_device.h"
#include "support/environment.h"

#define RIG_REQUESTS      64u
#define RIG_DATA_BYTES    4096u /* for each request */
#define RIG_SEGMENTS      4u
#define RIG_TIMEOUT_NS    UINT64_C(1000000)
#define RIG_ROUNDS_MAX    100000u
#define RIG_BASE          0x10001000u
#define RIG_LINE          1u

struct rig {
    struct test_environment env;
    struct fake_device *fake;
    struct sk_virtio_blk_options options;
    struct sk_driver driver;
    struct sk_device_manager manager;
    uint64_t manager_memory[2048];
    struct sk_device_range range;
    struct sk_interrupt interrupt;
    struct sk_device_node *node;
    struct sk_block_device *disk;
    struct sk_block_queue *queue;
    struct sk_io_buffer buffer;
    uint8_t *data; /* RIG_DATA_BYTES for each request */
    struct sk_block_request request[RIG_REQUESTS];
    struct sk_dma_segment segment[RIG_REQUESTS][RIG_SEGMENTS];
    unsigned submitted[RIG_REQUESTS];
    unsigned completed[RIG_REQUESTS];
    unsigned in_flight;
    uint64_t unsafe; /* completions of stopped requests while the device was not reset */
};

/* What every device of rig_open offers besides; a program may run its tests with several of them. */
extern uint64_t rig_more_features;

/* Makes everything but the driver's probe.  Without a config: the default device. */
void rig_open(struct rig *rig, const struct fake_device_config *config);
/* Probes; SK_OK: disk, queue and data are there. */
enum sk_status rig_probe(struct rig *rig);
/* Both, and it must work. */
void rig_start(struct rig *rig, const struct fake_device_config *config);
/* Removes the driver, fails the test on a violation by the driver or a leak. */
void rig_stop(struct rig *rig);
/* The same for a device that cannot be stopped: removal says so, memory stays quarantined. */
void rig_stop_in_doubt(struct rig *rig);

/* Submits request i for `sectors` at `sector` in its own data, in RIG_SEGMENTS pieces at most. */
void rig_submit(struct rig *rig, unsigned i, enum sk_block_operation operation, uint64_t sector,
                uint32_t sectors);
/* Polls and waits until nothing is in flight; each request was completed exactly once. */
void rig_settle(struct rig *rig);
/* A read by request i, and its status. */
enum sk_status rig_read(struct rig *rig, unsigned i);

/* sk_block_poll and sk_block_recover for tests where either outcome is right. */
enum sk_status rig_poll(struct rig *rig);
enum sk_status rig_recover(struct rig *rig);

void rig_expect_state(const struct rig *rig, enum sk_block_state state);
/* Writes, flushes, reads back and compares; all of it must be right. */
void rig_expect_works(struct rig *rig);
/* The device is broken, comes back, and works. */
void rig_expect_recovers(struct rig *rig);

#endif
