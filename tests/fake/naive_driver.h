/* SPDX-License-Identifier: MIT */
/*
 * The simplest driver of a virtio disk: registers, one ring of 16, and a slot
 * of three descriptors for each of up to five requests.  It tests the fake
 * devices, and shows what a driver does without the library.  It trusts the
 * device, checks with assertions of the test, and every step can be left out
 * or done wrong from outside.
 *
 * Ownership: open allocates the memory, close frees it.
 */
#ifndef TESTS_FAKE_NAIVE_DRIVER_H
#define TESTS_FAKE_NAIVE_DRIVER_H

#include <skio/mmio.h>

#define NAIVE_DADDR        UINT64_C(0x4080000000)
#define NAIVE_MEMORY_BYTES (1u << 20)
#define NAIVE_RING_SIZE    16u
#define NAIVE_SLOTS        5u
#define NAIVE_DATA_BYTES   8192u

/* Where things lie in the memory of one queue. */
#define NAIVE_AVAIL  (16u * NAIVE_RING_SIZE)
#define NAIVE_USED   4096u
#define NAIVE_HEADER 8192u  /* 16 bytes for each slot */
#define NAIVE_STATUS 12288u /* 1 byte for each slot */
#define NAIVE_TABLE  16384u /* an indirect table of 256 bytes for each slot */
#define NAIVE_DATA   65536u /* NAIVE_DATA_BYTES for each slot */

struct naive {
    const struct sk_mmio *mmio;
    bool legacy;
    bool quiet;      /* no notifications */
    uint32_t queue;
    uint64_t base;   /* of this queue in the memory */
    uint8_t *memory;
    uint16_t avail;
    uint16_t used;
    unsigned interrupts;
    uint32_t last_id; /* of the used entry that naive_next_used found */
    uint32_t last_length;
};

/* One descriptor: where in the memory, how long, which flags. */
struct naive_piece {
    uint64_t offset;
    uint32_t bytes;
    uint16_t flags;
};

void naive_open(struct naive *naive);
void naive_close(struct naive *naive);

/* Callbacks for a device. */
void *naive_reach(void *context, uint64_t daddr, uint64_t bytes);
void naive_interrupt(void *context);

/* Registers. */
uint32_t naive_get(struct naive *naive, uint64_t offset);
void naive_set(struct naive *naive, uint64_t offset, uint32_t value);

/* Initialisation, step by step, and all of it. */
void naive_clear_rings(struct naive *naive);
void naive_reset(struct naive *naive);
void naive_negotiate(struct naive *naive, uint64_t features);
void naive_read_capacity(struct naive *naive);
void naive_set_up_queue(struct naive *naive);
void naive_start(struct naive *naive, uint64_t features);

/* Memory. */
void naive_put(struct naive *naive, uint64_t offset, unsigned bytes, uint64_t value);
uint32_t naive_take(const struct naive *naive, uint64_t offset, unsigned bytes);
uint8_t *naive_data(struct naive *naive, unsigned slot);
uint8_t naive_status(const struct naive *naive, unsigned slot);

/* Requests. */
void naive_put_header(struct naive *naive, unsigned slot, uint32_t type, uint64_t sector);
void naive_put_descriptor(struct naive *naive, uint64_t at, const struct naive_piece *piece,
                          uint16_t next);
void naive_prepare(struct naive *naive, unsigned slot, uint32_t type, uint64_t sector,
                   uint32_t data_bytes);
void naive_prepare_indirect(struct naive *naive, unsigned slot, uint32_t type, uint64_t sector,
                            uint32_t data_bytes);
void naive_publish(struct naive *naive, uint16_t head);
void naive_notify(struct naive *naive);
void naive_submit(struct naive *naive, unsigned slot, uint32_t type, uint64_t sector,
                  uint32_t data_bytes);
/* True if there is another used entry. */
bool naive_next_used(struct naive *naive);
/* Asserts that there is one, that it is this slot's, and that it has this status. */
void naive_expect(struct naive *naive, unsigned slot, uint8_t status);

#endif
