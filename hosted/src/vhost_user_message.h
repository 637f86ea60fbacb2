/* SPDX-License-Identifier: MIT */
/*
 * The messages of the vhost-user protocol, for both of its sides: numbers,
 * payloads, and how one message is sent and received whole.  It knows nothing
 * of what a message means, and keeps no state.
 *
 * Ownership: file descriptors in a received message are the receiver's, which
 * takes them out (and sets them to -1) or calls ski_vhost_user_close_fds; those in a sent
 * message stay the sender's.
 * Calling: any thread; one at a time for each direction of a socket.  Calls wait,
 * at most until their deadline.
 * Trust: the peer is not trusted.  Version, length and number of descriptors
 * are checked here; what a payload says, its reader checks.
 * Spec: vhost-user protocol, "Message Specification", "Communication".
 */
#ifndef SKI_VHOST_USER_MESSAGE_H
#define SKI_VHOST_USER_MESSAGE_H

#include <skio/status.h>

/* Requests of a front end. */
enum ski_vhost_user_request {
    SKI_VHOST_USER_GET_FEATURES = 1,
    SKI_VHOST_USER_SET_FEATURES = 2,
    SKI_VHOST_USER_SET_OWNER = 3,
    SKI_VHOST_USER_RESET_OWNER = 4,
    SKI_VHOST_USER_SET_MEM_TABLE = 5,
    SKI_VHOST_USER_SET_LOG_BASE = 6,
    SKI_VHOST_USER_SET_LOG_FD = 7,
    SKI_VHOST_USER_SET_VRING_NUM = 8,
    SKI_VHOST_USER_SET_VRING_ADDR = 9,
    SKI_VHOST_USER_SET_VRING_BASE = 10,
    SKI_VHOST_USER_GET_VRING_BASE = 11,
    SKI_VHOST_USER_SET_VRING_KICK = 12,
    SKI_VHOST_USER_SET_VRING_CALL = 13,
    SKI_VHOST_USER_SET_VRING_ERR = 14,
    SKI_VHOST_USER_GET_PROTOCOL_FEATURES = 15,
    SKI_VHOST_USER_SET_PROTOCOL_FEATURES = 16,
    SKI_VHOST_USER_GET_QUEUE_NUM = 17,
    SKI_VHOST_USER_SET_VRING_ENABLE = 18,
    SKI_VHOST_USER_SET_BACKEND_REQ_FD = 21,
    SKI_VHOST_USER_GET_CONFIG = 24,
    SKI_VHOST_USER_SET_CONFIG = 25,
    SKI_VHOST_USER_GET_INFLIGHT_FD = 31,
    SKI_VHOST_USER_SET_INFLIGHT_FD = 32,
    SKI_VHOST_USER_RESET_DEVICE = 34,
    SKI_VHOST_USER_GET_MAX_MEM_SLOTS = 36,
    SKI_VHOST_USER_ADD_MEM_REG = 37,
    SKI_VHOST_USER_REM_MEM_REG = 38,
    SKI_VHOST_USER_SET_STATUS = 39,
    SKI_VHOST_USER_GET_STATUS = 40,
};

/* Requests of a back end, on the channel of SET_BACKEND_REQ_FD. */
enum ski_vhost_user_backend_request {
    SKI_VHOST_USER_BACKEND_IOTLB = 1,
    SKI_VHOST_USER_BACKEND_CONFIG_CHANGE = 2,
    SKI_VHOST_USER_BACKEND_VRING_CALL = 4,
    SKI_VHOST_USER_BACKEND_VRING_ERR = 5,
};

/* `flags` of a message. */
#define SKI_VHOST_USER_VERSION      1u
#define SKI_VHOST_USER_VERSION_MASK 3u
#define SKI_VHOST_USER_REPLY        4u
#define SKI_VHOST_USER_NEED_REPLY   8u

/* The feature bit (of virtio's, unused there) that says protocol features exist. */
#define SKI_VHOST_USER_F_PROTOCOL_FEATURES 30

/* Feature bit of migration, never wanted here. */
#define SKI_VHOST_USER_F_LOG_ALL 26

/* Protocol feature bits. */
enum ski_vhost_user_protocol_feature {
    SKI_VHOST_USER_PROTOCOL_MQ = 0,
    SKI_VHOST_USER_PROTOCOL_LOG_SHMFD = 1,
    SKI_VHOST_USER_PROTOCOL_RARP = 2,
    SKI_VHOST_USER_PROTOCOL_REPLY_ACK = 3,
    SKI_VHOST_USER_PROTOCOL_MTU = 4,
    SKI_VHOST_USER_PROTOCOL_BACKEND_REQ = 5,
    SKI_VHOST_USER_PROTOCOL_CROSS_ENDIAN = 6,
    SKI_VHOST_USER_PROTOCOL_CRYPTO_SESSION = 7,
    SKI_VHOST_USER_PROTOCOL_PAGEFAULT = 8,
    SKI_VHOST_USER_PROTOCOL_CONFIG = 9,
    SKI_VHOST_USER_PROTOCOL_BACKEND_SEND_FD = 10,
    SKI_VHOST_USER_PROTOCOL_HOST_NOTIFIER = 11,
    SKI_VHOST_USER_PROTOCOL_INFLIGHT_SHMFD = 12,
    SKI_VHOST_USER_PROTOCOL_RESET_DEVICE = 13,
    SKI_VHOST_USER_PROTOCOL_INBAND_NOTIFICATIONS = 14,
    SKI_VHOST_USER_PROTOCOL_CONFIGURE_MEM_SLOTS = 15,
    SKI_VHOST_USER_PROTOCOL_STATUS = 16,
};

/* Most file descriptors in one message, and most regions of a memory table. */
#define SKI_VHOST_USER_FDS_MAX     8u
#define SKI_VHOST_USER_REGIONS_MAX 8u

/* Longest piece of configuration space in one message; bytes. */
#define SKI_VHOST_USER_CONFIG_MAX 256u

/* SET_VRING_KICK, _CALL, _ERR: the index's bits, and "there is no descriptor, poll". */
#define SKI_VHOST_USER_VRING_INDEX_MASK 0xffu
#define SKI_VHOST_USER_VRING_NO_FD      0x100u

/* The machine's byte order, all of them. */
struct ski_vhost_user_header {
    uint32_t request;
    uint32_t flags;
    uint32_t size; /* of the payload; bytes */
};

struct ski_vhost_user_vring_state {
    uint32_t index;
    uint32_t num;
};

struct ski_vhost_user_vring_address {
    uint32_t index;
    uint32_t flags;
    uint64_t descriptors; /* user addresses, as in the memory table */
    uint64_t used;
    uint64_t available;
    uint64_t log;
};

struct ski_vhost_user_region {
    uint64_t guest_address;
    uint64_t size;
    uint64_t user_address;
    uint64_t mmap_offset;
};

struct ski_vhost_user_memory {
    uint32_t count;
    uint32_t padding;
    struct ski_vhost_user_region regions[SKI_VHOST_USER_REGIONS_MAX];
};

struct ski_vhost_user_single_region {
    uint64_t padding;
    struct ski_vhost_user_region region;
};

struct ski_vhost_user_config {
    uint32_t offset;
    uint32_t size;
    uint32_t flags;
    uint8_t bytes[SKI_VHOST_USER_CONFIG_MAX];
};

/*
 * Sent with SKI_VHOST_USER_INFLIGHT_BYTES, as C lays it out and most peers do;
 * some send the 20 bytes that the fields have.  Take both.
 */
struct ski_vhost_user_inflight {
    uint64_t mmap_size;
    uint64_t mmap_offset;
    uint16_t queue_count;
    uint16_t queue_size;
    uint32_t padding;
};

#define SKI_VHOST_USER_INFLIGHT_BYTES     24u
#define SKI_VHOST_USER_INFLIGHT_BYTES_MIN 20u

/* Sizes of what stands before the variable parts. */
#define SKI_VHOST_USER_MEMORY_HEAD 8u
#define SKI_VHOST_USER_CONFIG_HEAD 12u

union ski_vhost_user_payload {
    uint64_t u64;
    struct ski_vhost_user_vring_state state;
    struct ski_vhost_user_vring_address address;
    struct ski_vhost_user_memory memory;
    struct ski_vhost_user_single_region region;
    struct ski_vhost_user_config config;
    struct ski_vhost_user_inflight inflight;
    uint8_t bytes[512]; /* longest payload that is taken */
};

_Static_assert(sizeof(struct ski_vhost_user_header) == 12, "Header");
_Static_assert(sizeof(struct ski_vhost_user_vring_state) == 8, "A vring state description");
_Static_assert(sizeof(struct ski_vhost_user_vring_address) == 40, "A vring address description");
_Static_assert(sizeof(struct ski_vhost_user_memory) == 264, "Memory regions description");
_Static_assert(sizeof(struct ski_vhost_user_single_region) == 40, "Single memory region");
_Static_assert(sizeof(struct ski_vhost_user_config) == 268, "Virtio device config space");
_Static_assert(sizeof(struct ski_vhost_user_inflight) == SKI_VHOST_USER_INFLIGHT_BYTES,
               "Inflight description");

struct ski_vhost_user_message {
    struct ski_vhost_user_header header;
    union ski_vhost_user_payload payload;
    int fds[SKI_VHOST_USER_FDS_MAX];
    uint32_t fd_count;

    /* Why a call failed, for people: "the payload is too long", and a number for it. */
    const char *fault;
    uint64_t fault_value;
};

/* Nanoseconds of the clock that deadlines are given in: CLOCK_MONOTONIC. */
uint64_t ski_vhost_user_now(void);

/* An empty message of a request, with a payload of `size` bytes, all zero. */
void ski_vhost_user_prepare(struct ski_vhost_user_message *message, uint32_t request,
                            uint32_t size);

/*
 * Sends header, payload and descriptors, whole.  SK_OK; SK_ERR_GONE (the peer
 * closed the connection), SK_ERR_TIMEOUT, SK_ERR_IO (the socket failed; the value is the
 * errno), SK_ERR_SIZE (payload or number of descriptors: nothing was sent).
 * After another failure than the last the stream is of no use any more.
 */
SK_MUST_CHECK enum sk_status ski_vhost_user_send(int socket,
                                                 struct ski_vhost_user_message *message,
                                                 uint64_t deadline_ns);

/*
 * Receives one message whole, however many pieces it comes in; all of them by
 * the deadline.  Descriptors get close-on-exec.
 * SK_OK; SK_ERR_GONE (the peer closed the connection before the first byte);
 * SK_ERR_MALFORMED (another version, a payload longer than the union, more
 * descriptors than SKI_VHOST_USER_FDS_MAX, or an end in the middle);
 * SK_ERR_TIMEOUT; SK_ERR_IO (the socket failed; the value is the errno).  After a failure
 * all descriptors that came are closed, fault and fault_value say why, and the stream is of no
 * use any more.
 */
SK_MUST_CHECK enum sk_status ski_vhost_user_receive(int socket, uint64_t deadline_ns,
                                                    struct ski_vhost_user_message *out_message);

/* Closes the descriptors that are left in a received message. */
void ski_vhost_user_close_fds(struct ski_vhost_user_message *message);

/* Takes descriptor `index` out of a received message; -1: there is none. */
int ski_vhost_user_take_fd(struct ski_vhost_user_message *message, uint32_t index);

/* "GET_FEATURES", ...; "unknown" for other numbers. */
const char *ski_vhost_user_request_name(uint32_t request);

#endif
