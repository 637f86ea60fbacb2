/* SPDX-License-Identifier: MIT */
/*
 * A front end that does one thing at a time and whatever it is told: messages
 * of any kind, rings on the library's driver side, requests by slot.  It tests
 * back ends; the library's own front end is another.
 *
 * What goes wrong fails the test, unless a function returns it.
 */
#ifndef TESTS_HOSTED_FRONT_END_H
#define TESTS_HOSTED_FRONT_END_H

#include <sys/types.h>

#include <skio/virtio_blk.h>

#include "vhost_user_message.h"
#include "virtio/ring_packed.h"
#include "virtio/ring_split.h"

#define FRONT_GUEST       UINT64_C(0x4000000000)
#define FRONT_USER        UINT64_C(0x7f0000000000)
#define FRONT_QUEUES_MAX  4u
#define FRONT_QUEUE_BYTES (2u << 20) /* of memory for each queue */
#define FRONT_SLOTS_MAX   64u
#define FRONT_DATA_BYTES  16384u /* for each slot */

/* Places in a queue's memory. */
#define FRONT_HEADERS (64u << 10)
#define FRONT_STATUS  (96u << 10)
#define FRONT_TABLES  (128u << 10) /* 256 bytes for each slot */
#define FRONT_DATA    (512u << 10)

/* Longest wait for anything. */
#define FRONT_WAIT_NS UINT64_C(60000000000)

/* Everything that our back end offers, and nothing of it. */
#define FRONT_FEATURES                                                                         \
    (SK_VIRTIO_FEATURE(SK_VIRTIO_F_VERSION_1) | SK_VIRTIO_FEATURE(SKI_VHOST_USER_F_PROTOCOL_FEATURES))

/* Request types and answers; Virtio 1.2, 5.2.6. */
#define FRONT_READ         0u
#define FRONT_WRITE        1u
#define FRONT_FLUSH        4u
#define FRONT_GET_ID       8u
#define FRONT_DISCARD      11u
#define FRONT_WRITE_ZEROES 13u
#define FRONT_OK           0u
#define FRONT_IOERR        1u
#define FRONT_UNSUPP       2u
#define FRONT_POISON       0xeeu

struct front_slot {
    bool out;
    uint32_t places;
    uint32_t length; /* as used */
};

struct front_queue {
    struct front_end *front;
    uint32_t index;
    uint32_t size;
    uint8_t *memory;
    uint64_t guest;
    bool packed;
    bool indirect;
    struct ski_ring_split split;
    struct ski_ring_packed packed_ring;
    struct ski_ring_layout layout;
    int kick;
    int call;
    int error;
    struct front_slot slots[FRONT_SLOTS_MAX];
    uint32_t out;
};

struct front_end {
    int socket;
    int memory_fd;
    uint8_t *memory;
    uint64_t memory_bytes;
    uint64_t features;
    uint64_t protocol_features;
    int backend_channel; /* where the back end's requests arrive; -1 */
    int record_fd;       /* of requests in flight; -1 */
    struct ski_vhost_user_inflight record;
    struct front_queue queues[FRONT_QUEUES_MAX];
    struct ski_vhost_user_message message; /* the last one received */
};

/* Waits until somebody listens there. */
void front_end_connect(struct front_end *front, const char *path);
/* Makes memory and descriptors; once. */
void front_end_init(struct front_end *front);
/* Closes the socket only: the memory and the rings stay as they are. */
void front_end_disconnect(struct front_end *front);
void front_end_close(struct front_end *front);

/* ---- Messages ----------------------------------------------------------------------------- */

/* Sends; the payload may be of any size. */
void front_end_send(struct front_end *front, uint32_t request, uint32_t flags,
                    const void *payload, uint32_t size, const int *fds, uint32_t fd_count);
/* Receives into front->message; false: the back end has closed the connection, or says nothing. */
bool front_end_receive(struct front_end *front, uint64_t wait_ns);
/* Sends, and returns the u64 of the reply. */
uint64_t front_end_ask(struct front_end *front, uint32_t request);
/* Sends with NEED_REPLY (which must be agreed on) and returns the answer: 0 is well. */
uint64_t front_end_do(struct front_end *front, uint32_t request, const void *payload,
                      uint32_t size, const int *fds, uint32_t fd_count);
/* True if the back end closes the connection now, without another word. */
bool front_end_is_closed(struct front_end *front);

/* ---- Steps of the start ------------------------------------------------------------------- */

/* The first step; `features` and `protocol` are masks of what is wanted of what is offered. */
void front_end_negotiate(struct front_end *front, uint64_t features, uint64_t protocol);
void front_end_share_memory(struct front_end *front);
/* Asks for a record (the first time), or gives the one that we have. */
void front_end_share_record(struct front_end *front, uint16_t queues, uint16_t size);
/* Lays the ring out, empty. */
void front_end_lay_out(struct front_end *front, uint32_t index, uint32_t size);
/* Tells the back end of the ring, which may be in use; `base` as VRING_BASE has it. */
void front_end_start_queue(struct front_end *front, uint32_t index, uint32_t base);
/* Empty rings of a size, and all of the above. */
void front_end_start(struct front_end *front, const char *path, uint64_t features,
                     uint32_t queues, uint32_t size);
/* GET_VRING_BASE. */
uint32_t front_end_stop_queue(struct front_end *front, uint32_t index);

/* Position of an empty ring. */
uint32_t front_end_first_base(const struct front_end *front);

/* ---- Requests ----------------------------------------------------------------------------- */

uint8_t *front_end_data(struct front_queue *queue, uint32_t slot);
uint8_t front_end_status(const struct front_queue *queue, uint32_t slot);

/* Makes a request available; `bytes` of the slot's data are sent or wanted. */
void front_end_submit(struct front_queue *queue, uint32_t slot, uint32_t type, uint64_t sector,
                      uint32_t bytes);
/* Tells the back end: publishes, and kicks if it wants that. */
void front_end_publish(struct front_queue *queue);
/* The slot of the next request that is finished; -1: none now. */
int front_end_poll(struct front_queue *queue);
/* The same; sleeps on the call descriptor until then.  Fails the test after FRONT_WAIT_NS. */
int front_end_wait(struct front_queue *queue);
/* One request with slot 0, to its end; the answer. */
uint8_t front_end_run(struct front_queue *queue, uint32_t type, uint64_t sector, uint32_t bytes);

#endif
