/* SPDX-License-Identifier: MIT */
/*
 * The front end of vhost-user, and how its files divide the work:
 *
 *   vhost_user_message.c    one message, whole
 *   vhost_user_connect.c    addresses, sockets
 *   vhost_user_channel.c    a request and its answer; what ends a connection
 *   vhost_user_session.c    what is said: agree, start, stop
 *   vhost_user_resume.c     where a ring stands whose back end died
 *   vhost_user_service.c    the thread: what the back end says by itself, reconnecting
 *   vhost_user_transport.c  the virtio transport: what the driver calls
 *   vhost_user_open.c       opening, closing, what is known of a connection
 *   vhost_user_disk.c       a disk in one call
 *
 * The life of a connection is one phase, changed with the lock held:
 *
 *   CLOSED    no connection; nobody uses our memory
 *   AGREED    connected; no ring was started
 *   RUNNING   rings are started
 *   LOST      was RUNNING, and the back end died; the thread looks for the next one
 *   FAILED    was RUNNING, and the back end died; the driver has to know
 *   DRAINING  the back end misbehaved and lives: told to go, not seen to have
 *             gone, so it may still use our memory
 *
 * A driver's reset leads from each of them to AGREED or CLOSED; from DRAINING
 * only when the other end of the socket is closed.
 */
#ifndef SKI_HOSTED_VHOST_USER_PRIVATE_H
#define SKI_HOSTED_VHOST_USER_PRIVATE_H

#include <skio_hosted/vhost_user.h>

#include <pthread.h>
#include <stdatomic.h>

#include "vhost_user_message.h"

/*
 * Largest ring.  The protocol has no question for what a back end takes: one that
 * takes less refuses SET_VRING_NUM, and then the disk does not open.
 */
#define SKI_VHOST_USER_QUEUE_SIZE_MAX 32768u

/* Configuration space that is kept; longer ones are cut. */
#define SKI_VHOST_USER_CONFIG_BYTES 256u

enum ski_vhost_user_phase {
    SKI_VHOST_USER_CLOSED,
    SKI_VHOST_USER_AGREED,
    SKI_VHOST_USER_RUNNING,
    SKI_VHOST_USER_LOST,
    SKI_VHOST_USER_FAILED,
    SKI_VHOST_USER_DRAINING
};

/* What a back end said about itself when it was connected. */
struct ski_vhost_user_terms {
    uint64_t features;          /* virtio's and the protocol's bit, all that it offers */
    uint64_t protocol_offered;
    uint64_t protocol;          /* agreed on */
    uint32_t queue_count;
    uint64_t region_count;
};

/* Of one kind of ring a contiguous part of the in-flight memory. */
struct ski_vhost_user_inflight_memory {
    int fd; /* -1: none */
    uint64_t bytes;
    uint64_t offset;
    uint16_t queue_count;
    uint16_t queue_size;
};

struct ski_vhost_user_queue {
    struct sk_virtio_queue_layout layout;
    bool given;   /* by the driver since the last reset */
    bool started; /* the back end was told */
    int kick;
    int call;
    /* Odd while the owner is inside the write to `kick`: who looks twice sees it stuck. */
    _Alignas(64) _Atomic uint32_t kicks;
};

struct sk_vhost_user {
    struct sk_virtio_transport transport; /* first */
    struct sk_process *process;
    struct sk_vhost_user_options options;
    char *address;
    bool reconnects; /* the address can be connected to again */

    pthread_mutex_t lock; /* all below, but what is atomic or never changes */
    int socket;           /* -1: none */
    int backend_channel;  /* our end of what the back end may ask on; -1: none */
    uint64_t connection;  /* how many there were: tells one from the next */
    _Atomic uint32_t phase;  /* enum ski_vhost_user_phase */
    _Atomic uint32_t status; /* virtio's, as the driver wrote it */
    bool features_refused;   /* the back end did not acknowledge them */
    bool resumable;          /* while RUNNING: the next back end could go on */
    _Atomic bool abandoned;  /* the driver wants to reset: no more messages of a resumption */
    bool resuming;
    uint64_t lost_ns;        /* when the back end died */
    _Atomic uint32_t resumptions;
    struct ski_vhost_user_terms terms;
    uint64_t features; /* the driver's */
    struct ski_vhost_user_inflight_memory inflight;
    size_t regions_shared;

    uint8_t config[SKI_VHOST_USER_CONFIG_BYTES];
    uint32_t config_bytes; /* how much of it is known */
    uint32_t config_limit; /* a length that the back end refuses; 0: none found yet */
    _Atomic uint32_t generation;

    struct ski_vhost_user_queue queues[SK_VIRTIO_BLK_QUEUES_MAX]; /* options.queue_count in use */
    struct sk_interrupt interrupts[1 + SK_VIRTIO_BLK_QUEUES_MAX];
    int config_event;            /* names the first interrupt */
    int error_event;             /* the back end signals a ring that it cannot go on with */
    _Atomic uint32_t causes;     /* for take_interrupt */

    pthread_t thread;
    bool has_thread;
    int wake_event;          /* for the thread: look again */
    _Atomic bool quits;
    _Atomic bool announces;  /* the thread shall raise the first interrupt */

    struct sk_log_limit lines;
    char error[SK_VHOST_USER_ERROR_BYTES]; /* the first fault of this connection, for people */
};

static inline const struct sk_log *ski_vhost_user_log(const struct sk_vhost_user *vu)
{
    return vu->transport.platform->log;
}

static inline bool ski_vhost_user_has(const struct sk_vhost_user *vu, unsigned protocol_feature)
{
    return (vu->terms.protocol & SK_VIRTIO_FEATURE(protocol_feature)) != 0;
}

static inline bool ski_vhost_user_has_feature(const struct sk_vhost_user *vu, unsigned feature)
{
    return (vu->features & SK_VIRTIO_FEATURE(feature)) != 0;
}

/* Says what went wrong: into `error` if it is the first of this connection, and the log. */
void ski_vhost_user_say(struct sk_vhost_user *vu, const char *format, ...) SK_PRINTF(2, 3);

/* An event fd; -1: the process has no more descriptors. */
int ski_vhost_user_make_event(void);
/* Signals and clears one; neither blocks. */
void ski_vhost_user_signal(int event);
bool ski_vhost_user_clear(int event);

/* ---- vhost_user_connect.c ---------------------------------------------------------------- */

/*
 * Connects by the deadline to `address`.  SK_OK: *out_socket; else a status of
 * sk_vhost_user_open, and the reason is said if `talks`.
 */
enum sk_status ski_vhost_user_connect(struct sk_vhost_user *vu, uint64_t deadline_ns, bool talks,
                                      int *out_socket);

/* ---- vhost_user_channel.c ---------------------------------------------------------------- */

/*
 * One request, with the lock held.  `reply_bytes` of payload are expected back, UINT32_MAX: no
 * answer is; then an acknowledgement is asked for where that was agreed on.
 * The answer replaces *message; its descriptors are the caller's.
 * SK_OK; SK_ERR_UNSUPPORTED (it was acknowledged with a failure); otherwise the connection has ended:
 * SK_ERR_BROKEN (it went away), SK_ERR_MALFORMED, SK_ERR_TIMEOUT, SK_ERR_IO.
 */
enum sk_status ski_vhost_user_ask(struct sk_vhost_user *vu, struct ski_vhost_user_message *message,
                                  uint32_t reply_bytes, uint64_t deadline_ns);

#define SKI_VHOST_USER_NO_REPLY UINT32_MAX

/* ... one u64 there, or one u64 back, or two u32 there. */
enum sk_status ski_vhost_user_set_u64(struct sk_vhost_user *vu, uint32_t request, uint64_t value,
                                      uint64_t deadline_ns);
enum sk_status ski_vhost_user_get_u64(struct sk_vhost_user *vu, uint32_t request,
                                      uint64_t *out_value, uint64_t deadline_ns);
enum sk_status ski_vhost_user_set_vring(struct sk_vhost_user *vu, uint32_t request, uint32_t index,
                                        uint32_t value, uint64_t deadline_ns);
enum sk_status ski_vhost_user_set_fd(struct sk_vhost_user *vu, uint32_t request, uint64_t value,
                                     int fd, uint64_t deadline_ns);

/* A request that the back end did right by its form answered with nonsense: says so and hangs up. */
enum sk_status ski_vhost_user_refuse(struct sk_vhost_user *vu, uint32_t request, const char *what,
                                     uint64_t value);

/* Ends the connection because the other end is closed. */
void ski_vhost_user_gone(struct sk_vhost_user *vu);

/* Ends the connection to a back end that lives; DRAINING if it may use our memory. */
void ski_vhost_user_hang_up(struct sk_vhost_user *vu);

/* Closes what there is, whatever the phase; the phase stays. */
void ski_vhost_user_close_sockets(struct sk_vhost_user *vu);

/* True if the other end of the socket is closed: its process let go, or died. */
bool ski_vhost_user_is_hung_up(const struct sk_vhost_user *vu);

/* DRAINING: looks whether the back end has gone, and closes if so. */
void ski_vhost_user_drain(struct sk_vhost_user *vu);

/* Wakes the thread, which tells the driver to look. */
void ski_vhost_user_announce(struct sk_vhost_user *vu);

/* ---- vhost_user_session.c ---------------------------------------------------------------- */

/*
 * On a fresh connection: owner, features, protocol.  SK_OK: AGREED, and `terms` say what the back
 * end can; SK_ERR_UNSUPPORTED (it lacks what is needed: said) or as ask: the connection has ended.
 */
enum sk_status ski_vhost_user_agree(struct sk_vhost_user *vu, uint64_t deadline_ns);

/* Features, memory, rings; `resumes`: where a back end died.  On failure the connection has ended. */
enum sk_status ski_vhost_user_start(struct sk_vhost_user *vu, bool resumes, uint64_t deadline_ns);

/* Without acknowledgements: an answer to anything says that all before it was done. */
enum sk_status ski_vhost_user_synchronise(struct sk_vhost_user *vu, uint64_t deadline_ns);

/* Stops one ring; *out_base: where it stands, as the back end says.  As ask. */
enum sk_status ski_vhost_user_stop_queue(struct sk_vhost_user *vu, uint32_t index,
                                         uint32_t *out_base, uint64_t deadline_ns);

/* One more queue of a RUNNING device. */
enum sk_status ski_vhost_user_start_queue(struct sk_vhost_user *vu, uint32_t index, uint32_t base,
                                          uint64_t deadline_ns);

/* Stops all rings; afterwards AGREED, CLOSED or DRAINING. */
void ski_vhost_user_stop(struct sk_vhost_user *vu, uint64_t deadline_ns);

/* Regions from `first` on.  SK_OK; SK_ERR_UNSUPPORTED (too many: nothing was sent), or as ask. */
enum sk_status ski_vhost_user_send_regions(struct sk_vhost_user *vu, size_t first,
                                           uint64_t deadline_ns);

/* Makes [0, bytes) of `config` known.  SK_OK; SK_ERR_RANGE (it is shorter), or as ask. */
enum sk_status ski_vhost_user_read_config(struct sk_vhost_user *vu, uint32_t bytes,
                                          uint64_t deadline_ns);

/* Writes bytes of it.  SK_OK, or as ask. */
enum sk_status ski_vhost_user_write_config(struct sk_vhost_user *vu, uint32_t offset,
                                           const void *bytes, uint32_t count,
                                           uint64_t deadline_ns);

/* ---- vhost_user_resume.c ----------------------------------------------------------------- */

/* The base of a ring that begins. */
uint32_t ski_vhost_user_first_base(const struct sk_vhost_user *vu);

/*
 * The base of a ring whose back end died: where the next one goes on.  SK_OK;
 * SK_ERR_MALFORMED: what the dead one left makes no sense.
 */
enum sk_status ski_vhost_user_resume_base(const struct sk_vhost_user *vu, uint32_t index,
                                          uint32_t *out_base);

/*
 * What the base of a stopped ring says.  SK_OK: the back end answered all that
 * it took, and will not look at the rest; SK_ERR_TIMEOUT: it did not;
 * SK_ERR_MALFORMED: the ring has no such place.
 */
enum sk_status ski_vhost_user_check_stopped(const struct sk_vhost_user *vu, uint32_t index,
                                            uint32_t base);

/* True if a stopped ring has nothing outstanding; `base` is what GET_VRING_BASE answered. */
bool ski_vhost_user_is_idle(const struct sk_vhost_user *vu, uint32_t index, uint32_t base);

/* ---- vhost_user_transport.c -------------------------------------------------------------- */

extern const struct sk_virtio_transport_ops ski_vhost_user_ops;

/* One attempt to connect and to agree; SK_OK: AGREED.  Its failure is said if it `talks`. */
enum sk_status ski_vhost_user_connect_once(struct sk_vhost_user *vu, bool talks);

/* What the driver is told of an end of the connection: it has one word for all. */
enum sk_status ski_vhost_user_for_driver(enum sk_status status);

/* ---- vhost_user_service.c ---------------------------------------------------------------- */

/* SK_OK; SK_ERR_NO_MEMORY. */
enum sk_status ski_vhost_user_start_thread(struct sk_vhost_user *vu);
void ski_vhost_user_end_thread(struct sk_vhost_user *vu);

#endif
