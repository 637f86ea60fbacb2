/* SPDX-License-Identifier: MIT */
/*
 * A vhost-user-blk back end: a disk behind a UNIX socket, for tests,
 * benchmarks and tools that work with nothing else installed.  It uses the
 * library's rings from the device's side, and it can misbehave and die on
 * command.  It is not a storage server: its two stores are nothing and a file.
 *
 * Several front ends may be connected at a time.  Each has queues of its own and sees
 * the same disk; a write that was answered to one is seen by all.  What they
 * agree on among themselves is their business, as with any shared disk.  One
 * that comes back is served when what it left behind is at rest.
 *
 * A back end has one thread that listens, one for the messages of each
 * connection, and worker_count workers: queue q of the nth connection belongs
 * to worker (n + q) % worker_count.  A worker has one thread, and more of them,
 * up to thread_count, as soon as requests may block: those are done side by
 * side, of one queue too, and answered as they end; with IN_ORDER, in their order.
 * A request is never waited for by another one, except that a worker has no
 * thread left; then queues get the next ones in turn.
 *
 * Ownership: what start returns is the caller's until stop; the options are copied.
 * Calling: start, stop and resize: any thread, one at a time.
 * Trust: the front end is not trusted.  A bad message ends its connection, a
 * bad ring stops that queue, memory that it takes away ends its connection.
 * Spec: vhost-user protocol (QEMU, docs/interop/vhost-user.rst); Virtio 1.2, 2.7, 2.8, 5.2.
 */
#ifndef SKIO_HOSTED_BACKEND_H
#define SKIO_HOSTED_BACKEND_H

#include <skio/log.h>
#include <skio/status.h>

SK_BEGIN_DECLS

/* Room for one line for people that says what went wrong, its end included; bytes. */
#define SK_BACKEND_ERROR_BYTES 256

/* Most queues of a connection, most workers, threads of each, and connections at a time. */
#define SK_BACKEND_QUEUES_MAX      64
#define SK_BACKEND_WORKERS_MAX     64
#define SK_BACKEND_THREADS_MAX     256
#define SK_BACKEND_CONNECTIONS_MAX 64

/* Most faults at a time. */
#define SK_BACKEND_FAULTS_MAX 16

/* Longest identity; bytes. */
#define SK_BACKEND_SERIAL_BYTES 20

/* ---- Misbehaviour ------------------------------------------------------------------------- */

/*
 * X(kind, name, text).  What "the Nth" counts stands in front of each group;
 * "die" is SIGKILL for the whole process, "close" ends the connection.
 */
#define SK_BACKEND_FAULT_LIST(X)                                                               \
    /* requests */                                                                             \
    X(SK_BACKEND_DIE_TAKEN, "die-taken", "dies with a request recorded, nothing done")         \
    X(SK_BACKEND_DIE_DONE, "die-done", "dies with a request done, its status not written")     \
    X(SK_BACKEND_DIE_STATUS, "die-status", "dies with the status written, nothing given back") \
    X(SK_BACKEND_DIE_GIVEN, "die-given", "dies with a request given back, not published")      \
    X(SK_BACKEND_DIE_PUBLISHED, "die-published", "dies after publishing, before the record")   \
    X(SK_BACKEND_DIE_COMMITTED, "die-committed", "dies after the record, before the interrupt")\
    X(SK_BACKEND_LIE_ID, "lie-id", "gives back an id that is not out (xor VALUE, or 1)")       \
    X(SK_BACKEND_LIE_TWICE, "lie-twice", "gives a request back twice")                         \
    X(SK_BACKEND_LIE_LENGTH, "lie-length", "says that VALUE bytes were written")               \
    X(SK_BACKEND_LIE_STATUS, "lie-status", "answers with status VALUE")                        \
    X(SK_BACKEND_LIE_NO_STATUS, "lie-no-status", "gives a request back without a status")      \
    X(SK_BACKEND_LIE_INDEX, "lie-index", "moves the used index VALUE too far (split rings)")   \
    X(SK_BACKEND_SLOW, "slow", "needs VALUE microseconds more for a request")                  \
    X(SK_BACKEND_LATE, "late", "begins a request when VALUE others are done; 0: never")        \
    X(SK_BACKEND_STALL, "stall", "takes no request any more")                                  \
    X(SK_BACKEND_HOLD, "hold", "gives back in no order, VALUE at a time; 0: when stopped")      \
    X(SK_BACKEND_FAIL, "fail", "answers a request with an I/O error, and does not do it")      \
    /* messages */                                                                             \
    X(SK_BACKEND_DIE_RECEIVED, "die-received", "dies with a message received, not handled")    \
    X(SK_BACKEND_DIE_HANDLED, "die-handled", "dies with a message handled, not answered")      \
    X(SK_BACKEND_CLOSE_RECEIVED, "close-received", "closes with a message received")           \
    X(SK_BACKEND_CLOSE_HANDLED, "close-handled", "closes with a message handled")              \
    /* replies */                                                                              \
    X(SK_BACKEND_DIE_REPLYING, "die-replying", "dies after half of a reply")                   \
    X(SK_BACKEND_CLOSE_REPLYING, "close-replying", "closes after half of a reply")             \
    X(SK_BACKEND_MUTE, "mute", "does not reply")                                               \
    X(SK_BACKEND_SLOW_REPLY, "slow-reply", "replies VALUE milliseconds late")                  \
    X(SK_BACKEND_PIECES, "pieces", "replies byte by byte, VALUE milliseconds apart")           \
    X(SK_BACKEND_LIE_REQUEST, "lie-request", "replies to request VALUE instead")               \
    X(SK_BACKEND_LIE_FLAGS, "lie-flags", "replies with flags VALUE")                           \
    X(SK_BACKEND_LIE_SIZE, "lie-size", "says that the reply's payload has VALUE bytes")        \
    X(SK_BACKEND_LIE_PAYLOAD, "lie-payload", "flips each bit of the reply's payload")          \
    X(SK_BACKEND_EXTRA_FDS, "extra-fds", "adds VALUE file descriptors to a reply, at most 32") \
    /* messages of one kind */                                                                 \
    X(SK_BACKEND_FAULTY_REQUEST, "only-for", "the faults of messages and replies: only for "   \
                                             "request VALUE")                                  \
    X(SK_BACKEND_RESET_NEVER, "reset-never", "never answers what stops a queue or resets")     \
    X(SK_BACKEND_CONFIG_BYTES, "config-bytes", "has VALUE bytes of configuration space")       \
    X(SK_BACKEND_FEATURES, "features", "offers features VALUE, whatever it can do")            \
    X(SK_BACKEND_PROTOCOL_FEATURES, "protocol-features", "offers protocol features VALUE")     \
    X(SK_BACKEND_QUEUE_NUMBER, "queue-number", "says that it has VALUE queues")                \
    X(SK_BACKEND_FULL_AT, "full-at", "has no space for writes that end behind byte VALUE")

enum sk_backend_fault_kind {
#define SK_BACKEND_FAULT_ENUM_(kind, name, text) kind,
    SK_BACKEND_FAULT_LIST(SK_BACKEND_FAULT_ENUM_)
#undef SK_BACKEND_FAULT_ENUM_
        SK_BACKEND_FAULT_COUNT
};

/* Happens from event number `after` + 1 on, `count` times; 0: for ever. */
struct sk_backend_fault {
    enum sk_backend_fault_kind kind;
    uint64_t value;
    uint64_t after;
    uint64_t count;
};

/*
 * Reads a fault as text: NAME[=VALUE][@AFTER][xCOUNT], VALUE as C writes
 * numbers, the others decimal; "die-given@99", "lie-status=7@10x1", "features=0x40000000".
 * SK_OK; SK_ERR_NOT_FOUND (no such name), SK_ERR_MALFORMED (the rest): nothing is stored.
 */
SK_MUST_CHECK enum sk_status sk_backend_parse_fault(const char *text,
                                                    struct sk_backend_fault *out_fault);

/* Name and text of a fault; NULL for other values. */
const char *sk_backend_fault_name(enum sk_backend_fault_kind kind);
const char *sk_backend_fault_text(enum sk_backend_fault_kind kind);

/* ---- The back end ------------------------------------------------------------------------- */

struct sk_backend;

/* `poll_ns`: never sleep; for benchmarks that give it a core. */
#define SK_BACKEND_POLL_ALWAYS UINT64_MAX

struct sk_backend_options {
    /*
     * Where to listen: the path of a socket, "@name" in the abstract name
     * space, or "fd:N", a socket that this process has inherited, which listens
     * or is connected.  A path that is left over is replaced if nobody listens on it.
     */
    const char *address;

    /* The store. */
    const char *file_path;     /* an image file or a block device; NULL: the null store */
    uint64_t capacity_sectors; /* of the null store; of 512 bytes */
    bool null_zeroes;          /* the null store's reads fill the memory with zeroes; without it they leave it as it is */
    bool read_only;

    /* The disk. */
    uint32_t block_bytes;        /* 512 to 65536, a power of two */
    uint32_t queue_count;        /* 1 to SK_BACKEND_QUEUES_MAX, for each connection */
    uint32_t segment_count;      /* most segments of a request, 1 to 1000 */
    uint32_t segment_bytes;      /* longest segment; 0: any */
    bool write_through;          /* answers to writes mean that they are durable; else until the driver chooses */
    const char *serial;          /* up to SK_BACKEND_SERIAL_BYTES characters; NULL: "skio" */
    uint64_t features;           /* offered of what it can do, as masks; UINT64_MAX: all */
    uint64_t protocol_features;  /* the same */

    /* The work. */
    uint32_t worker_count;     /* 1 to SK_BACKEND_WORKERS_MAX */
    uint32_t thread_count;     /* of each worker at most, 1 to SK_BACKEND_THREADS_MAX: requests at the file at a time */
    uint64_t poll_ns;          /* how long a worker looks for more before it sleeps; SK_BACKEND_POLL_ALWAYS */
    uint32_t connection_count; /* most at a time, 1 to SK_BACKEND_CONNECTIONS_MAX */
    uint64_t message_ns;       /* longest time that a message may take to arrive whole */

    /*
     * Memory that a front end shares and then truncates faults with SIGBUS.  If this is set
     * (it is by default), start installs a handler for the process, stop restores the old
     * one; faults that are not of this kind go to the old one.
     */
    bool guard;

    const struct sk_backend_fault *faults; /* copied */
    uint32_t fault_count;                  /* up to SK_BACKEND_FAULTS_MAX */

    /* Takes one log line; may be called from any thread.  NULL: lines go to stderr. */
    void (*write_log)(void *context, enum sk_log_level level, const char *line);
    void *log_context;
    enum sk_log_level log_level; /* lines of a higher value are dropped */
};

/*
 * The defaults: no address; the null store, 1 GiB; blocks of 512 bytes, 1 queue, 126
 * segments; write-back; all features; 1 worker of up to 32 threads that sleeps when there is
 * nothing; 16 connections, 5 s; the guard; warnings and errors.
 */
void sk_backend_options_init(struct sk_backend_options *out_options);

/*
 * Opens the store, listens, and returns; the threads do the rest.
 * `out_error` (may be NULL) takes a line for people if it fails, "" otherwise.
 * SK_OK; SK_ERR_INVALID (an option), SK_ERR_NOT_FOUND (no such file), SK_ERR_READ_ONLY (the
 * file cannot be written), SK_ERR_BUSY (another back end has the file, or somebody
 * listens there), SK_ERR_SIZE (the file has not one block), SK_ERR_NO_MEMORY, SK_ERR_IO.
 */
SK_MUST_CHECK enum sk_status sk_backend_start(const struct sk_backend_options *options,
                                              struct sk_backend **out_backend, char *out_error);

/*
 * Ends all connections after the requests that are being worked on, removes the
 * socket's path, closes the store, frees everything.  NULL is fine.
 */
void sk_backend_stop(struct sk_backend *backend);

/*
 * Gives the disk another size, and tells the front ends.  The null store gets
 * `sectors`; a file says how long it is by now, and `sectors` is not used.
 * SK_OK; SK_ERR_SIZE (not one block), SK_ERR_IO: nothing changed.
 */
SK_MUST_CHECK enum sk_status sk_backend_resize(struct sk_backend *backend, uint64_t sectors);

/* Counts since the start. */
struct sk_backend_statistics {
    uint64_t capacity_sectors;   /* now */
    uint64_t connections;        /* so far */
    uint64_t connections_open;   /* now */
    uint64_t connections_broken; /* by us, for a fault of the front end's */
    uint64_t queues_broken;      /* rings that broke the rules */
    uint64_t messages;
    uint64_t requests;
    uint64_t errors;             /* requests not answered with success */
    uint64_t bytes_read;
    uint64_t bytes_written;
    uint64_t flushes;
    uint64_t recovered;          /* requests done again that a killed back end had in flight */
    uint64_t at_work;            /* requests that may block, being done now ... */
    uint64_t at_work_most;       /* ... and the most so far; a sum over the workers */
    uint64_t sleeps;             /* of workers */
    uint64_t interrupts;         /* sent */
};

void sk_backend_get_statistics(struct sk_backend *backend,
                               struct sk_backend_statistics *out_statistics);

SK_END_DECLS

#endif
