/* SPDX-License-Identifier: MIT */
/*
 * Both sides of one ring in one process: the library's driver side, which the
 * rig drives, and the device side that is tested.  The memory is shared, so
 * that a child can be the device.
 *
 * A chain is named by its slot; what it consists of the rig remembers, so a
 * test can compare.  Buffers may cross from one region of the memory table
 * into the next.
 */
#ifndef TESTS_HOSTED_DEVICE_RIG_H
#define TESTS_HOSTED_DEVICE_RIG_H

#include "device_chain.h"

#define RIG_GUEST       UINT64_C(0x7000000000)
#define RIG_USER        UINT64_C(0x10000)
#define RIG_BYTES       (1u << 20)
#define RIG_TABLES      (64u << 10)  /* 256 bytes for each slot */
#define RIG_DATA        (512u << 10) /* the regions meet in the middle of the data */
#define RIG_BORDER      (768u << 10)
#define RIG_SLOTS_MAX   256u
#define RIG_BUFFERS_MAX 4u
#define RIG_TABLE_BYTES 256u

struct rig_buffer {
    uint64_t offset; /* in the memory */
    uint32_t bytes;
    bool writable;
};

struct rig_slot {
    bool out; /* at the device, as far as the driver knows */
    uint32_t count;
    struct rig_buffer buffers[RIG_BUFFERS_MAX];
    uint32_t places; /* descriptors in a packed ring */
};

struct device_rig_options {
    bool packed;
    bool indirect;
    bool event_idx;
    uint16_t size;
    uint16_t start; /* split: both indexes begin here; packed: the position, and wrap 0 */
    bool in_order; /* chains are given back as they came, and one used entry may be for many */
};

struct device_rig {
    struct device_rig_options options;
    uint8_t *memory; /* RIG_BYTES, shared */
    uint64_t random;
    struct ski_device_memory table;

    /* The driver. */
    struct ski_ring_split split;
    struct ski_ring_packed packed;
    struct rig_slot slots[RIG_SLOTS_MAX];
    uint32_t slot_count;
    uint32_t out_places; /* descriptors at the device */
    /* in_order: the slots that are out, oldest first, and how many an entry said are used. */
    uint32_t queue[RIG_SLOTS_MAX];
    uint32_t queue_count;
    uint32_t batch;

    /* The device. */
    struct ski_device_view view;
    struct ski_device_split device_split;
    struct ski_device_packed device_packed;
    struct ski_device_chain chain;
    struct ski_device_descriptor descriptors[SKI_DEVICE_PIECES_MAX];
};

/* Allocates; the caller closes. */
struct device_rig *device_rig_open(const struct device_rig_options *options, uint64_t seed);
void device_rig_close(struct device_rig *rig);

/* Lays both sides over `memory` (another copy of the shared memory), at the start. */
void device_rig_lay_out(struct device_rig *rig, uint8_t *memory);

uint64_t device_rig_random(struct device_rig *rig, uint64_t below);

/* A free slot for which the ring has room; -1: none. */
int device_rig_free_slot(struct device_rig *rig);

/* Gives the slot random buffers and makes it available; the device is not told. */
void device_rig_submit(struct device_rig *rig, uint32_t slot);

/* Tells the device; true if it wants a notification. */
bool device_rig_publish(struct device_rig *rig);

/* The slot of the next used chain; -1: none.  Fails the test if it is not out. */
int device_rig_harvest(struct device_rig *rig);

bool device_rig_interrupts_on(struct device_rig *rig);
void device_rig_interrupts_off(struct device_rig *rig);

/*
 * The device takes the next chain into rig->chain (and rig->descriptors).
 * SK_OK; SK_ERR_AGAIN: none; SK_ERR_MALFORMED.
 */
enum sk_status device_rig_take(struct device_rig *rig);

/* Fails the test unless rig->chain is what the driver put into that slot. */
void device_rig_check_chain(const struct device_rig *rig);

/* The device gives a slot back; not published. */
void device_rig_give(struct device_rig *rig, uint32_t slot, uint32_t places);

/* Publishes what was given; true if the driver wants an interrupt. */
bool device_rig_publish_used(struct device_rig *rig);

bool device_rig_kicks_on(struct device_rig *rig);
void device_rig_kicks_off(struct device_rig *rig);

#endif
