/* SPDX-License-Identifier: MIT */
/* What the files of the fake device share.  Not for tests. */
#ifndef TESTS_FAKE_VIRTIO_INTERNAL_H
#define TESTS_FAKE_VIRTIO_INTERNAL_H

#include "fake/virtio_device.h"

#define FAKE_DESCRIPTOR_NEXT     1u
#define FAKE_DESCRIPTOR_WRITE    2u
#define FAKE_DESCRIPTOR_INDIRECT 4u

/* One buffer of a request, as the device reaches it. */
struct fake_segment {
    uint8_t *data;
    uint32_t bytes;
    bool write; /* by the device */
};

/* Memory that holds descriptors of a chain. */
struct fake_span {
    uint8_t *start;
    uint32_t bytes;
    uint8_t *saved; /* what the driver wrote, while the device owns it */
};

/* A request that the device took from a ring. */
struct fake_request {
    struct fake_request *next;
    struct fake_queue *queue;
    uint16_t head;      /* packed: the buffer id */
    uint32_t descriptors; /* packed: in the ring */
    bool refused;       /* the chain is malformed */
    bool scribbled;
    uint8_t *append_sector; /* of a zone append */
    uint8_t *status;    /* NULL: the chain has none */
    uint32_t type;
    uint64_t sector;
    uint64_t data_bytes;
    uint64_t written;   /* by the device */
    struct fake_segment *segments; /* data only, after fake_block_take */
    uint32_t segment_count;
    uint32_t segment_room;
    struct fake_span *spans;
    uint32_t span_count;
    uint32_t span_room;
    uint8_t *snapshot;  /* a flush: the disk's cache when it was taken */
    uint64_t sequence;
};

/* virtio_device.c */
void fake_violation(struct fake_device *fake, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
bool fake_fires(struct fake_device *fake, enum fake_fault fault, uint64_t *out_argument);
bool fake_negotiated(const struct fake_device *fake, unsigned bit);
uint64_t fake_random(struct fake_device *fake);
void *fake_allocate(size_t bytes);
void fake_raise(struct fake_device *fake, uint32_t bits);
void fake_reset(struct fake_device *fake);

/* virtio_registers.c */
extern const struct sk_mmio_ops fake_register_ops;

/* virtio_config.c */
void fake_config_fill(struct fake_device *fake);
uint64_t fake_config_known_capacity(const struct fake_device *fake);
uint32_t fake_config_read(struct fake_device *fake, uint64_t offset, unsigned width);
void fake_config_write(struct fake_device *fake, uint64_t offset, unsigned width, uint32_t value);

/* virtio_queue.c */
bool fake_queue_start(struct fake_device *fake, struct fake_queue *queue);
void fake_queue_stop(struct fake_device *fake, struct fake_queue *queue);
void fake_queue_take(struct fake_device *fake, struct fake_queue *queue);
void fake_queue_notified(struct fake_device *fake, struct fake_queue *queue);
void fake_queue_check_unnotified(struct fake_device *fake, struct fake_queue *queue);
unsigned fake_queue_complete(struct fake_device *fake, struct fake_queue *queue, unsigned count);
void fake_queue_finish(struct fake_device *fake, struct fake_request *request);
void fake_queue_signal(struct fake_device *fake, struct fake_queue *queue);
void fake_queue_put_used(struct fake_queue *queue, uint32_t id, uint32_t length);
void fake_queue_store_used_index(struct fake_queue *queue, uint16_t index);
void fake_queue_accept(struct fake_device *fake, struct fake_request *request);
bool fake_queue_is_stalled(const struct fake_device *fake, const struct fake_queue *queue);
void fake_request_free(struct fake_request *request);

/* virtio_packed.c */
bool fake_packed_start(struct fake_device *fake, struct fake_queue *queue);
void fake_packed_stop(struct fake_queue *queue);
void fake_packed_take(struct fake_device *fake, struct fake_queue *queue);
bool fake_packed_pending(const struct fake_queue *queue);
uint16_t fake_packed_position(const struct fake_queue *queue);
void fake_packed_forget(struct fake_request *request);
void fake_packed_scribble(struct fake_device *fake, struct fake_queue *queue, bool for_good);
void fake_packed_put(struct fake_device *fake, struct fake_queue *queue,
                     const struct fake_used *used);
void fake_packed_forge(struct fake_queue *queue, uint32_t id, uint32_t length);
void fake_packed_forge_place(struct fake_queue *queue, uint16_t place);
bool fake_packed_interrupt_wanted(struct fake_device *fake, struct fake_queue *queue);

/* virtio_queue_reset.c */
void fake_queue_reset_write(struct fake_device *fake, struct fake_queue *queue, uint32_t value);
uint32_t fake_queue_reset_read(struct fake_device *fake, struct fake_queue *queue);

/* virtio_chain.c */
struct fake_request *fake_chain_read(struct fake_device *fake, struct fake_queue *queue,
                                     uint16_t head);
void fake_chain_refuse(struct fake_device *fake, struct fake_request *request, const char *what,
                       uint32_t number);
bool fake_chain_take_buffer(struct fake_device *fake, struct fake_request *request,
                            uint64_t address, uint32_t bytes, bool write);
void fake_request_add_span(struct fake_request *request, uint8_t *start, uint32_t bytes);
void fake_chain_scribble(struct fake_device *fake, struct fake_request *request);
void fake_chain_unscribble(struct fake_request *request);
void fake_chain_check_unchanged(struct fake_device *fake, const struct fake_request *request);

/* virtio_block.c */
void fake_block_take(struct fake_device *fake, struct fake_request *request);
void fake_block_execute(struct fake_device *fake, struct fake_request *request);

/* Requests beyond reading, writing and flushing; virtio_ranges.c. */
#define FAKE_TYPE_GET_LIFETIME 10u
#define FAKE_TYPE_DISCARD      11u
#define FAKE_TYPE_WRITE_ZEROES 13u
#define FAKE_TYPE_SECURE_ERASE 14u
#define FAKE_TYPE_ZONE_APPEND  15u

bool fake_ranges_has(uint32_t type);
void fake_ranges_check(struct fake_device *fake, const struct fake_request *request);
bool fake_ranges_perform(struct fake_device *fake, const struct fake_request *request);

/* virtio_zones.c: also what is wrong with a request (NULL: nothing), and statuses. */
void fake_zones_create(struct fake_device *fake);
bool fake_zones_has(uint32_t type);
bool fake_zones_append(uint32_t type);
const char *fake_zones_fault(struct fake_device *fake, const struct fake_request *request);
uint8_t fake_zones_may_read(struct fake_device *fake, const struct fake_request *request);
void fake_zones_erased(struct fake_device *fake, uint64_t sector, uint64_t count);
uint8_t fake_zones_may_write(struct fake_device *fake, struct fake_request *request);
void fake_zones_written(struct fake_device *fake, struct fake_request *request);
uint8_t fake_zones_perform(struct fake_device *fake, struct fake_request *request);

/* Whether an access fails, and what a write means for durability; virtio_block.c. */
bool fake_is_bad(const struct fake_device *fake, uint64_t sector, uint64_t count);
void fake_write_through(struct fake_device *fake, uint64_t first, uint64_t count);

#endif
