/* SPDX-License-Identifier: MIT */
/*
 * The back end's private state, and how its files divide the work:
 *
 *   backend.c             options, start, stop, resize
 *   backend_listen.c      the socket's path, accepting connections
 *   backend_connection.c  the thread of a connection: messages in, replies out
 *   backend_messages.c    what each message means
 *   backend_shared.c      ... of memory, and of the record of requests in flight
 *   backend_memory.c      mapping what the front end shares, and its truncation
 *   backend_worker.c      the threads that work; who may touch a queue when
 *   backend_queue.c       one queue: a batch's way
 *   backend_queue_start.c ... its start and stop
 *   backend_block.c       one request: parsed, done, answered
 *   backend_store.h       where the bytes are
 *   backend_fault.c       misbehaviour on command
 *
 * A worker is a group of threads, its hands.  One of them at a time has the
 * worker's lock and looks at queues: it takes requests, does those that cannot
 * block, and gives back.  With one that may block it goes away, without the
 * lock, and comes back with the answer; another hand looks meanwhile.
 *
 * A connection's thread that changes a queue visits the worker: it takes the
 * lock between two looks.  Before it stops a queue, or changes the memory, it
 * has the queues rest: nothing more is taken, and what is away comes back.
 * What is held back on command is settled by whoever stops the queue.
 */
#ifndef SKI_HOSTED_BACKEND_PRIVATE_H
#define SKI_HOSTED_BACKEND_PRIVATE_H

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>

#include <skio/virtio_blk.h>
#include <skio_hosted/backend.h>

#include "backend_store.h"
#include "device_chain.h"
#include "device_inflight.h"
#include "vhost_user_message.h"

/* Longest configuration space that is answered; what lies behind the disk's is zero. */
#define SKI_BACKEND_CONFIG_BYTES SKI_VHOST_USER_CONFIG_MAX

/* Most ranges, and sectors in each, of DISCARD and WRITE_ZEROES. */
#define SKI_BACKEND_RANGES_MAX        32u
#define SKI_BACKEND_RANGE_BYTES       16u
#define SKI_BACKEND_RANGE_SECTORS_MAX 4194304u

struct ski_backend_connection;
struct ski_backend_worker;

/* ---- Misbehaviour ------------------------------------------------------------------------ */

struct ski_backend_fault_state {
    struct sk_backend_fault fault;
    _Atomic uint64_t seen;
};

/* None: count is 0, and nobody asks. */
struct ski_backend_faults {
    uint32_t count;
    _Atomic uint64_t done; /* requests, for "late" */
    struct ski_backend_fault_state states[SK_BACKEND_FAULTS_MAX];
};

/* Counts an event; true if a fault of this kind happens now, with its value. */
bool ski_backend_fault_hits(struct ski_backend_faults *faults, enum sk_backend_fault_kind kind,
                            uint64_t *out_value);

/* The same for what is not counted: true if there is such a fault. */
bool ski_backend_fault_is_set(const struct ski_backend_faults *faults,
                              enum sk_backend_fault_kind kind, uint64_t *out_value);

/* Counts an event, and kills this process if a fault says so. */
void ski_backend_fault_kill(struct ski_backend_faults *faults, enum sk_backend_fault_kind kind);

/* The same; `faults` may be NULL, and mostly is. */
static inline void ski_backend_fault_die(struct ski_backend_faults *faults,
                                         enum sk_backend_fault_kind kind)
{
    if (faults != NULL) {
        ski_backend_fault_kill(faults, kind);
    }
}

void ski_backend_sleep_ns(uint64_t ns);

/* ---- Memory of the front end ------------------------------------------------------------- */

/*
 * Maps a region of a file: guest, user and bytes are set by the caller.
 * SK_OK; SK_ERR_SIZE (no bytes, or the file is shorter), SK_ERR_RANGE, SK_ERR_IO (not to be mapped).
 */
SK_MUST_CHECK enum sk_status ski_backend_map(int fd, uint64_t offset,
                                             struct ski_device_region *region);
void ski_backend_unmap(const struct ski_device_region *region);

/*
 * What the calling thread may fault in: the memory table and the record of a
 * connection (each may be NULL).  A fault there gets a page of zeroes and is counted.
 */
struct ski_backend_guard {
    const struct ski_device_memory *memory;
    const struct ski_device_region *record;
    uint32_t hits;
};

struct ski_backend_guard *ski_backend_guard(void); /* of the calling thread */

/* Installs and removes the handler; counted. */
void ski_backend_guard_install(void);
void ski_backend_guard_remove(void);

/* ---- Queues ------------------------------------------------------------------------------ */

/* A request that was done and is not given back yet. */
struct ski_backend_held {
    uint32_t id;
    uint32_t places;
    uint32_t length;
    uint16_t entry;
    bool is_whole; /* all that could be written was */
    bool is_done;  /* IN_ORDER: it waits only for those before it */
};

/* IN_ORDER: most requests of a queue from the first one that is not done on; a power of two. */
#define SKI_BACKEND_ORDER_MAX 256u

struct ski_backend_queue {
    struct ski_backend_connection *connection;
    struct ski_backend_worker *worker;
    struct ski_backend_store *store;
    struct ski_backend_faults *faults; /* NULL: there are none */
    uint32_t index;

    /* As the front end said. */
    uint32_t size;
    bool has_addresses;
    uint64_t user_descriptors;
    uint64_t user_available;
    uint64_t user_used;
    uint32_t base;
    bool has_base;
    bool enabled;
    bool kick_known;
    int kick_fd; /* -1: there is none */
    int call_fd;
    int error_fd;

    /* At work. */
    bool started;
    bool broken;
    bool stalled;
    bool resting;     /* nothing is taken, as somebody waits for `away` to end */
    uint32_t away;    /* requests that hands are away with */
    bool is_packed;
    bool in_order;  /* one used entry for many chains, as far as they are whole */
    bool writable;
    bool durable; /* writes are answered when they are durable */
    bool does_nothing; /* reads and writes that fit are done */
    bool has_record;
    uint32_t batch_max; /* requests until they are published */
    uint32_t batch_count;
    struct ski_backend_held batch[SKI_DEVICE_BATCH_MAX]; /* done, to be given back at once */
    struct ski_backend_held *order; /* IN_ORDER: SKI_BACKEND_ORDER_MAX, as they were taken */
    uint32_t order_first;           /* free-running: the first that is not given back ... */
    uint32_t order_next;            /* ... and where the next one goes */
    uint32_t resubmitted;
    struct ski_device_split split;
    struct ski_device_packed packed;
    struct ski_device_view view;
    struct ski_device_inflight record;
    struct ski_backend_held *held; /* kept back on command */
    uint32_t held_count;
    bool holds; /* until the queue is stopped */
    uint64_t random;
};

/* A request, parsed from a chain, whose pieces it points to. */
struct ski_backend_request {
    uint32_t type;
    uint64_t sector;
    struct iovec *out; /* what the driver sends, behind the header */
    uint32_t out_count;
    uint64_t out_bytes;
    struct iovec *in; /* what it wants, before the status */
    uint32_t in_count;
    uint64_t in_bytes;
    uint8_t SKI_SHARED *status;
    uint64_t offset;  /* of what is left of it in the store */
    uint64_t written; /* bytes of `in` that are answered */
    bool durable;
    bool is_answered; /* without being done */
    bool has_status;  /* false: a fault keeps it */
    uint8_t answer;
    uint64_t delay_ns; /* faults: it begins so much later ... */
    uint64_t after;    /* ... and when so many requests are done */
    uint8_t ranges[SKI_BACKEND_RANGES_MAX * SKI_BACKEND_RANGE_BYTES]; /* copied */
};

/* What a hand needs for one chain. */
struct ski_backend_scratch {
    struct ski_device_chain chain;
    struct ski_device_descriptor descriptors[SKI_DEVICE_PIECES_MAX];
    struct ski_backend_request request;
    uint16_t entry; /* of the record, if the ring is packed */
    uint32_t place; /* IN_ORDER: the request's */
    bool went_away; /* with the request: the lock was free meanwhile */
};

/* All of these inside a visit to the queue's worker. */
void ski_backend_queue_init(struct ski_backend_queue *queue,
                            struct ski_backend_connection *connection, uint32_t index);
/* Starts the queue if everything is there; false: it cannot be started as it was described. */
bool ski_backend_queue_update(struct ski_backend_queue *queue);
/* Settles and stops; stores the position for GET_VRING_BASE. */
void ski_backend_queue_stop(struct ski_backend_queue *queue, uint32_t *out_base);
/* Stops, and forgets all that the front end said of it. */
void ski_backend_queue_reset(struct ski_backend_queue *queue);
/* Finds the rings again after the memory table changed; breaks the queue if they are gone. */
void ski_backend_queue_remap(struct ski_backend_queue *queue);
/* The connection ends: the record keeps what it says. */
void ski_backend_queue_close(struct ski_backend_queue *queue);
/* Another descriptor for notifications or interrupts; -1: none.  It is the queue's. */
void ski_backend_queue_set_kick(struct ski_backend_queue *queue, int fd);
void ski_backend_queue_set_call(struct ski_backend_queue *queue, int fd);

/*
 * Works on what is there, at most one batch; returns how many requests.  If one
 * went away, the lock was free meanwhile: what the caller knew of queues is old.
 */
uint32_t ski_backend_queue_run(struct ski_backend_queue *queue,
                               struct ski_backend_scratch *scratch);
/* True if there is something by now already. */
bool ski_backend_queue_kicks_on(struct ski_backend_queue *queue);
void ski_backend_queue_kicks_off(struct ski_backend_queue *queue);

/* The ring breaks the rules: nothing more is taken from it until it is stopped. */
void ski_backend_queue_break(struct ski_backend_queue *queue, const char *fault);
/* Gives everything back that is held, in no order, and publishes. */
void ski_backend_queue_settle(struct ski_backend_queue *queue);
/* Signals an event descriptor; -1: nothing. */
void ski_backend_signal(int fd);

/* ---- One request --------------------------------------------------------------------------- */

enum ski_backend_way {
    SKI_BACKEND_NO_ROOM, /* the chain has no room for a request: nothing was done */
    SKI_BACKEND_AT_ONCE, /* it is done */
    SKI_BACKEND_AWAY     /* it may block: ski_backend_block_go_on does it */
};

/* Parses, and does what cannot block. */
enum ski_backend_way ski_backend_block_begin(struct ski_backend_queue *queue,
                                             struct ski_device_chain *chain,
                                             struct ski_backend_request *request);
/* Does the rest, without the lock. */
void ski_backend_block_go_on(const struct ski_backend_queue *queue,
                             struct ski_backend_request *request);
/* Writes the status, and counts; how many bytes were written. */
uint32_t ski_backend_block_end(struct ski_backend_queue *queue,
                               const struct ski_backend_request *request);

/* ---- Workers ----------------------------------------------------------------------------- */

/* A thread of a worker. */
struct ski_backend_hand {
    struct ski_backend_worker *worker;
    struct ski_backend_scratch *scratch;
    pthread_t thread;
};

struct ski_backend_worker {
    struct sk_backend *backend;
    pthread_mutex_t lock;
    pthread_cond_t left; /* a visitor left */
    _Atomic uint32_t visitors;
    _Atomic uint32_t coming; /* hands that wait for the lock */
    _Atomic bool stop;
    int epoll_fd;
    int wake_fd;

    /* Under the lock. */
    struct ski_backend_queue **queues; /* room for all connections' */
    uint32_t queue_count;
    uint32_t queue_next; /* where the next look begins */
    struct ski_backend_hand *hands;
    uint32_t hand_count; /* grows when all are away ... */
    uint32_t hand_max;   /* ... up to this */
    uint32_t present;    /* hands that look, or wait for the lock to look */
    uint32_t asleep;     /* the others are away */
    bool called;         /* one of those, or a new one, and it is not here yet */

    /* Written by the worker, read by anybody. */
    _Atomic uint64_t requests;
    _Atomic uint64_t errors;
    _Atomic uint64_t bytes_read;
    _Atomic uint64_t bytes_written;
    _Atomic uint64_t flushes;
    _Atomic uint64_t recovered;
    _Atomic uint64_t sleeps;
    _Atomic uint64_t interrupts;
    _Atomic uint64_t away_now;
    _Atomic uint64_t away_most;
};

SK_MUST_CHECK enum sk_status ski_backend_worker_start(struct ski_backend_worker *worker,
                                                      struct sk_backend *backend);
void ski_backend_worker_stop(struct ski_backend_worker *worker);
/* A hand goes away from the lock, and comes back to it. */
void ski_backend_worker_go(struct ski_backend_worker *worker);
void ski_backend_worker_return(struct ski_backend_worker *worker);
void ski_backend_worker_enter(struct ski_backend_worker *worker);
void ski_backend_worker_leave(struct ski_backend_worker *worker);
/* Inside a visit. */
void ski_backend_worker_add(struct ski_backend_worker *worker, struct ski_backend_queue *queue);
void ski_backend_worker_drop(struct ski_backend_worker *worker,
                             const struct ski_backend_queue *queue);
/* The worker wakes when the descriptor is signalled; false: it is none to wait for. */
bool ski_backend_worker_watch(struct ski_backend_worker *worker, int fd);
void ski_backend_worker_unwatch(struct ski_backend_worker *worker, int fd);

/* Only the worker adds, so no locked instruction is needed. */
static inline void ski_backend_count(_Atomic uint64_t *counter, uint64_t more)
{
    atomic_store_explicit(counter,
                          atomic_load_explicit(counter, memory_order_relaxed) + more,
                          memory_order_relaxed);
}

/* ---- Connections ------------------------------------------------------------------------- */

struct ski_backend_connection {
    struct sk_backend *backend;
    uint32_t number;
    int socket;
    int wake_fd; /* something changed that the front end shall hear of, or that ends it */
    pthread_t thread;
    _Atomic bool is_over; /* its queues are at rest, the thread is about to end */

    bool has_features; /* SET_FEATURES was good */
    bool bad_features;
    uint64_t features;
    uint64_t protocol_features;
    uint32_t status;
    bool write_back; /* what the driver chose, or the default */
    int backend_fd;  /* for our requests; -1 */
    _Atomic bool config_changed;
    _Atomic bool needs_reset;
    _Atomic bool lost_memory; /* it was truncated under us */

    struct ski_device_memory memory;
    struct ski_device_region record; /* mapping NULL: there is none */
    uint16_t record_queues;
    uint16_t record_size;
    bool record_packed;

    struct ski_backend_queue *queues; /* backend->options.queue_count */
    sem_t rested; /* a queue that was told to rest has nothing away any more */
    struct ski_vhost_user_message message;
};

static inline bool ski_backend_has(const struct ski_backend_connection *connection, unsigned bit)
{
    return (connection->features & SK_VIRTIO_FEATURE(bit)) != 0;
}

static inline bool ski_backend_speaks(const struct ski_backend_connection *connection,
                                      enum ski_vhost_user_protocol_feature bit)
{
    return (connection->protocol_features >> bit & 1) != 0;
}

/* Serves a socket until it ends, in a thread of its own.  The socket is the connection's. */
SK_MUST_CHECK enum sk_status ski_backend_connection_open(struct sk_backend *backend, int socket,
                                                         uint32_t number,
                                                         struct ski_backend_connection **out);
/* Waits for the thread and frees. */
void ski_backend_connection_close(struct ski_backend_connection *connection);
/* Any thread: has the connection's thread look again. */
void ski_backend_connection_wake(struct ski_backend_connection *connection);

void ski_backend_visit_all(struct ski_backend_connection *connection);
/*
 * The same when `count` queues from `first` on are at rest: nothing more is taken from
 * them until the visit ends, and no hand is away with a request of theirs.
 * Waits for those without a visit: other queues go on meanwhile.
 */
void ski_backend_visit_at_rest(struct ski_backend_connection *connection, uint32_t first,
                               uint32_t count);
void ski_backend_leave_all(struct ski_backend_connection *connection);

/* How a message ends. */
enum ski_backend_outcome {
    SKI_BACKEND_DONE,    /* well; acknowledged if that is wanted */
    SKI_BACKEND_REPLY,   /* `message` is the reply */
    SKI_BACKEND_REFUSED, /* not done; said if that is wanted, else the end */
    SKI_BACKEND_END      /* the connection ends */
};

/* Handles connection->message, whose descriptors it may take. */
enum ski_backend_outcome ski_backend_handle(struct ski_backend_connection *connection);

/* Makes connection->message a reply with one number. */
enum ski_backend_outcome ski_backend_answer(struct ski_backend_connection *connection,
                                            uint64_t value);

enum ski_backend_outcome ski_backend_set_memory(struct ski_backend_connection *connection);
enum ski_backend_outcome ski_backend_get_slots(struct ski_backend_connection *connection);
enum ski_backend_outcome ski_backend_add_memory(struct ski_backend_connection *connection);
enum ski_backend_outcome ski_backend_remove_memory(struct ski_backend_connection *connection);
enum ski_backend_outcome ski_backend_get_record(struct ski_backend_connection *connection);
enum ski_backend_outcome ski_backend_set_record(struct ski_backend_connection *connection);

/* Stops all queues and forgets the features: RESET_DEVICE, status 0, the end. */
void ski_backend_reset(struct ski_backend_connection *connection);

/* The configuration space; 5.2.4. */
void ski_backend_fill_config(const struct ski_backend_connection *connection,
                             uint8_t *out_bytes);

/* ---- All of it --------------------------------------------------------------------------- */

struct sk_backend {
    struct sk_backend_options options;
    struct sk_log log;
    char serial[SK_BACKEND_SERIAL_BYTES];
    struct ski_backend_store store;
    struct ski_backend_faults faults;
    uint64_t features; /* offered */
    uint64_t protocol_features;
    struct ski_backend_worker *workers;
    uint32_t workers_started;

    int listen_fd;    /* -1: the one connection was inherited */
    int inherited_fd; /* -1: none */
    bool owns_path;
    char path[108];
    uint64_t path_device; /* what we made, so that nothing else is removed */
    uint64_t path_inode;
    int wake_fd;
    pthread_t listener;
    _Atomic bool stop;

    pthread_mutex_t lock; /* the list of connections, and their sockets' end */
    pthread_cond_t one_is_over;
    struct ski_backend_connection *connections[SK_BACKEND_CONNECTIONS_MAX];
    uint32_t connection_next; /* number of the next one */
    _Atomic uint64_t connections_broken;
    _Atomic uint64_t queues_broken;
    _Atomic uint64_t messages;
};

/* Fills `out_error` (SK_BACKEND_ERROR_BYTES, may be NULL). */
void ski_backend_explain(char *out_error, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

SK_MUST_CHECK enum sk_status ski_backend_listen(struct sk_backend *backend, char *out_error);
void ski_backend_unlisten(struct sk_backend *backend);
void *ski_backend_accept_all(void *backend); /* the listener's thread */

#endif
