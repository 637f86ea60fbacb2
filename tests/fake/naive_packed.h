/* SPDX-License-Identifier: MIT */
/*
 * The naive driver with a packed ring: what naive_driver.h has for registers,
 * memory, headers and data, and here the ring.  The request in slot `s` has
 * the buffer id NAIVE_PACKED_ID + s.
 */
#ifndef TESTS_FAKE_NAIVE_PACKED_H
#define TESTS_FAKE_NAIVE_PACKED_H

#include "fake/naive_driver.h"

#define NAIVE_PACKED_SIZE_MAX     128u
#define NAIVE_PACKED_ID           40u
#define NAIVE_PACKED_DRIVER_EVENT 4080u
#define NAIVE_PACKED_DEVICE_EVENT 4084u

#define NAIVE_PACKED_NEXT      0x0001u
#define NAIVE_PACKED_WRITE     0x0002u
#define NAIVE_PACKED_INDIRECT  0x0004u
#define NAIVE_PACKED_AVAILABLE 0x0080u
#define NAIVE_PACKED_USED      0x8000u

struct naive_packed {
    struct naive *naive;
    uint32_t size;
    uint32_t next; /* to make available */
    bool next_wrap;
    uint32_t taken; /* to be used */
    bool taken_wrap;
    bool data;      /* notifications with data */
    uint32_t length[NAIVE_SLOTS]; /* of the chain of a slot, in descriptors */
    unsigned order[NAIVE_SLOTS];  /* slots at the device, oldest first */
    unsigned count;
    uint16_t flags; /* of the last used descriptor */
};

/* Resets, negotiates and starts queue 0 with this size. */
void naive_packed_start(struct naive_packed *packed, struct naive *naive, uint32_t size,
                        uint64_t features);
/* Clears the ring, and gives it to the device again. */
void naive_packed_set_up_queue(struct naive_packed *packed);

/* Header, data and status of a slot: two or three pieces; returns how many. */
uint32_t naive_packed_pieces(struct naive_packed *packed, unsigned slot, uint32_t type,
                             uint64_t sector, uint32_t bytes, struct naive_piece *out_pieces);
/* One descriptor, `behind` places after the next; `flags` without the marks. */
void naive_packed_put(struct naive_packed *packed, uint32_t behind,
                      const struct naive_piece *piece, uint16_t id);
/* Makes a chain available, its first descriptor last. */
void naive_packed_add(struct naive_packed *packed, unsigned slot,
                      const struct naive_piece *pieces, uint32_t count);
/* An indirect table in the slot's place, and a descriptor that points at it. */
void naive_packed_add_indirect(struct naive_packed *packed, unsigned slot,
                               const struct naive_piece *pieces, uint32_t count);
void naive_packed_notify(struct naive_packed *packed);
void naive_packed_submit(struct naive_packed *packed, unsigned slot, uint32_t type,
                         uint64_t sector, uint32_t bytes);

/*
 * True if there is another used descriptor: naive->last_id and last_length say
 * which.  Moves behind its chain, and behind all older ones with `in_order`.
 */
bool naive_packed_next_used(struct naive_packed *packed, bool in_order);
/* Asserts that there is one, for this slot, with this status. */
void naive_packed_expect(struct naive_packed *packed, unsigned slot, uint8_t status);

#endif
