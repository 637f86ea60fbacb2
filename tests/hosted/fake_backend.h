/* SPDX-License-Identifier: MIT */
/*
 * A vhost-user-blk back end in a thread of the test, that does what it is
 * told: it dies at any message, answers in pieces, too long, too short, with
 * descriptors, as another request, twice, or not at all.  It was written from the
 * protocol's text; it does split rings, and each request at once.
 *
 * After a connection it takes the next one, as a back end that was restarted.
 *
 * Calling: functions are the test's thread's; the fields that tests read are
 * atomic.
 */
#ifndef TESTS_HOSTED_FAKE_BACKEND_H
#define TESTS_HOSTED_FAKE_BACKEND_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define FAKE_BACKEND_QUEUES  4u
#define FAKE_BACKEND_REGIONS 40u
#define FAKE_BACKEND_SECTORS 256u

/* Virtio features that it has: VERSION_1, INDIRECT_DESC, FLUSH, CONFIG_WCE, MQ, and the protocol's bit. */
#define FAKE_BACKEND_FEATURES                                                                  \
    (UINT64_C(1) << 32 | UINT64_C(1) << 28 | UINT64_C(1) << 9 | UINT64_C(1) << 11 |            \
     UINT64_C(1) << 12 | UINT64_C(1) << 30)

/* MQ, REPLY_ACK, BACKEND_REQ, CONFIG. */
#define FAKE_BACKEND_PROTOCOL (UINT64_C(1) | UINT64_C(1) << 3 | UINT64_C(1) << 5 | UINT64_C(1) << 9)

#define FAKE_BACKEND_INFLIGHT     (UINT64_C(1) << 12)
#define FAKE_BACKEND_RESET_DEVICE (UINT64_C(1) << 13)
#define FAKE_BACKEND_SLOTS        (UINT64_C(1) << 15)
#define FAKE_BACKEND_STATUS       (UINT64_C(1) << 16)

/* What it does at a message instead of what is right. */
enum fake_backend_fault {
    FAKE_BACKEND_DIES_BEFORE,    /* the connection ends; the message is not looked at */
    FAKE_BACKEND_DIES_AFTER,     /* it is done, and not answered */
    FAKE_BACKEND_DIES_IN_ANSWER, /* half of the answer, then the end (one that owes none ends at once) */
    FAKE_BACKEND_ANSWERS_NOT,    /* silence, but it lives */
    FAKE_BACKEND_ANSWERS_TWICE,
    FAKE_BACKEND_ANSWERS_IN_PIECES, /* byte by byte; that is allowed */
    FAKE_BACKEND_ANSWERS_LONG,   /* more payload than anybody takes */
    FAKE_BACKEND_ANSWERS_LONGER, /* 4 bytes more than there should be */
    FAKE_BACKEND_ANSWERS_SHORT,  /* 4 bytes less */
    FAKE_BACKEND_ANSWERS_EMPTY,  /* no payload */
    FAKE_BACKEND_ANSWERS_OTHER,  /* as another request */
    FAKE_BACKEND_ANSWERS_ASKING, /* without the reply flag */
    FAKE_BACKEND_ANSWERS_VERSION, /* of another version */
    FAKE_BACKEND_ANSWERS_WITH_FD, /* with a descriptor (one more, where one belongs there) */
    FAKE_BACKEND_ANSWERS_WITH_FDS, /* with 30 */
    FAKE_BACKEND_ANSWERS_NO,     /* every byte of the payload is 0xff: a failure, or nonsense */
    FAKE_BACKEND_ANSWERS_GARBAGE, /* text */
    FAKE_BACKEND_SPEAKS_FIRST,   /* a byte more behind the answer */
    FAKE_BACKEND_HALF_CLOSES,    /* answers, and closes its way to us alone */
    FAKE_BACKEND_FAULT_COUNT
};

struct fake_backend_config {
    uint64_t features;
    uint64_t protocol;
    uint64_t capacity_sectors;
    uint32_t config_bytes; /* of the configuration space */
    uint64_t queue_count;
    uint64_t slots;        /* answer to GET_MAX_MEM_SLOTS */
    /* These three may change while it works. */
    _Atomic bool holds;    /* takes requests and does not do them */
    _Atomic bool stays;    /* does not close when its peer does */
    _Atomic bool mute;     /* does requests, and tells nobody */
    uint32_t base_lie;     /* added to what it answers to GET_VRING_BASE */
    uint32_t index_lie;    /* the same, to the queue it is of */
};

#define FAKE_BACKEND_CONFIG_DEFAULT                                                           \
    {                                                                                         \
        .features = FAKE_BACKEND_FEATURES, .protocol = FAKE_BACKEND_PROTOCOL,                 \
        .capacity_sectors = FAKE_BACKEND_SECTORS, .config_bytes = 60, .queue_count = 2,       \
        .slots = 16                                                                           \
    }

struct fake_backend_region {
    uint64_t guest;
    uint64_t user;
    uint64_t bytes;
    uint8_t *memory;
};

struct fake_backend_ring {
    uint32_t size;
    uint32_t enabled;
    uint8_t *descriptors;
    uint8_t *available;
    uint8_t *used;
    uint16_t taken;
    uint16_t done;
    int kick;
    int call;
    int err;
};

struct fake_backend {
    struct fake_backend_config config; /* may be changed between connections */
    char path[64];
    uint8_t storage[FAKE_BACKEND_SECTORS * 512];

    /* The fault at message `at`, counted from 0 over all connections since arm. */
    _Atomic int fault; /* enum fake_backend_fault; -1: none */
    _Atomic uint32_t fault_at;
    _Atomic uint32_t fault_count; /* at so many messages on from there */
    _Atomic uint32_t messages;
    _Atomic uint32_t fired;

    /* What happened. */
    _Atomic uint32_t connections;
    _Atomic uint32_t requests;
    _Atomic uint32_t last_base;  /* of the last SET_VRING_BASE */
    _Atomic uint32_t status;     /* of the last SET_STATUS */
    _Atomic uint32_t resets;     /* RESET_DEVICE */
    _Atomic uint32_t regions_told;
    _Atomic uint32_t writeback;
    _Atomic uint32_t answers;    /* of the front end on the channel; and the last one's value */
    _Atomic uint64_t answer;

    /* Private. */
    _Atomic bool deaf; /* hears no kicks */
    pthread_t thread;
    int listener;
    int wake;
    _Atomic int command;
    int socket;
    int channel;
    uint64_t agreed_protocol;
    struct fake_backend_region regions[FAKE_BACKEND_REGIONS];
    uint32_t region_count;
    struct fake_backend_ring rings[FAKE_BACKEND_QUEUES];
};

/* Listens in a folder of its own and serves until stopped. */
void fake_backend_start(struct fake_backend *fake, const struct fake_backend_config *config);
void fake_backend_stop(struct fake_backend *fake);

/* From the next message on counts from 0, and does `fault` at number `at`. */
void fake_backend_arm(struct fake_backend *fake, enum fake_backend_fault fault, uint32_t at);
/* ... and at the `count - 1` that follow, too. */
void fake_backend_arm_many(struct fake_backend *fake, enum fake_backend_fault fault, uint32_t at,
                           uint32_t count);
void fake_backend_behave(struct fake_backend *fake);

/* The connection ends now, as if it had been killed; it takes the next one.  Waits until it has. */
void fake_backend_die(struct fake_backend *fake);
/* Dies, and nobody listens until fake_backend_return. */
void fake_backend_leave(struct fake_backend *fake);
void fake_backend_return(struct fake_backend *fake);

/* Does what it held back, and holds nothing any more. */
void fake_backend_let_go(struct fake_backend *fake);

/* Signals that ring 0 cannot go on. */
void fake_backend_signal_error(struct fake_backend *fake);

/* Makes ring 0's kick blocking and full. */
void fake_backend_block_kick(struct fake_backend *fake);

/*
 * Says something on the channel: a message of this request and flags with a
 * payload of `bytes` and `fds` descriptors, cut after `cut` bytes (UINT32_MAX: whole).
 */
void fake_backend_say(struct fake_backend *fake, uint32_t request, uint32_t flags, uint32_t bytes,
                      uint32_t fds, uint32_t cut);

#endif
