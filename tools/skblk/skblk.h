/* SPDX-License-Identifier: MIT */
/*
 * What the commands of skblk share: settings from the command line, exit
 * codes, errors for people, reports for people and machines, progress.
 * Each command is one function that returns an exit code and has printed the
 * reason for one that is not 0, in a line that begins with its own name.
 */
#ifndef SKBLK_SKBLK_H
#define SKBLK_SKBLK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <skio_hosted/vhost_user.h>

#define SKBLK_VERSION "0.1.0"

/* What went wrong, by kind; the man page has the same list. */
enum skblk_exit {
    SKBLK_EXIT_OK = 0,
    SKBLK_EXIT_DIFFERENT = 1,   /* verify: the disk has something else than it should */
    SKBLK_EXIT_USAGE = 2,       /* the command line */
    SKBLK_EXIT_CONNECT = 3,     /* there is no socket, or nobody behind it */
    SKBLK_EXIT_BACKEND = 4,     /* it lacks what is needed, or breaks the protocol */
    SKBLK_EXIT_DISK = 5,        /* the disk refused a request or failed it */
    SKBLK_EXIT_FILE = 6,        /* the file at the other end: missing, unreadable, full */
    SKBLK_EXIT_TIMEOUT = 7,     /* no answer in time, or the back end went away for good */
    SKBLK_EXIT_INTERRUPTED = 130 /* ^C, or a request to end */
};

/* How completions are waited for. */
enum skblk_waiting { SKBLK_WAITING_SLEEP, SKBLK_WAITING_POLL, SKBLK_WAITING_HYBRID };

/* Which bytes come next. */
enum skblk_pattern { SKBLK_PATTERN_RANDOM, SKBLK_PATTERN_SEQUENTIAL, SKBLK_PATTERN_ZIPF };

/* All that options can say; each command looks at what it lists. */
struct skblk_settings {
    /* The connection. */
    uint64_t queues;
    uint64_t queue_size;
    uint64_t timeout_ns;
    uint64_t reconnect_ns;
    bool no_packed;
    bool no_indirect;
    bool no_event_index;
    bool no_in_order;
    bool resubmit;
    bool huge_pages;
    /* What is printed. */
    bool json;
    bool quiet;
    bool verbose;
    /* Where. */
    uint64_t offset;
    uint64_t length; /* 0: to the end */
    uint64_t start;
    uint64_t target_offset;
    /* How. */
    uint64_t chunk;
    uint64_t depth;
    bool no_sparse;
    bool no_flush;
    bool unmap;
    bool secure;
    bool force;
    enum skblk_waiting waiting;
    uint64_t spin_ns;
    uint64_t gather_ns;
    /* Measuring and checking. */
    uint64_t block;
    uint64_t seconds_ns;
    uint64_t reads; /* of 100 requests */
    uint64_t seed;
    uint64_t generation;
    enum skblk_pattern pattern;
    double skew;
    const char *plot;
    bool write;
    bool stress;
    uint64_t interval_ns;
    uint64_t count;
    /* Serving. */
    uint64_t size;
    uint64_t logical_block;
    uint64_t workers;
    uint64_t threads;
    bool read_only;
    bool write_through;
    bool zeroes;
    bool once;
    const char *faults;
};

/* One call of a command: its settings and the words that are no options. */
struct skblk_call {
    const char *name;
    struct skblk_settings settings;
    char **words;
    int word_count;
};

struct skblk_command {
    const char *name;
    const char *words;    /* for the usage line */
    const char *summary;  /* one line */
    const char *details;  /* for --help; may be NULL */
    uint32_t groups;      /* of options, SKBLK_GROUP_* */
    int words_min;
    int words_max;
    int (*run)(struct skblk_call *call);
};

/* Which options a command takes. */
#define SKBLK_GROUP_CONNECTION (1u << 0)
#define SKBLK_GROUP_OUTPUT     (1u << 1)
#define SKBLK_GROUP_RANGE      (1u << 2)
#define SKBLK_GROUP_COPY       (1u << 3)
#define SKBLK_GROUP_PIPELINE   (1u << 4)
#define SKBLK_GROUP_WAITING    (1u << 5)
#define SKBLK_GROUP_BENCH      (1u << 6)
#define SKBLK_GROUP_VERIFY     (1u << 7)
#define SKBLK_GROUP_CLEAR      (1u << 8)
#define SKBLK_GROUP_WATCH      (1u << 9)
#define SKBLK_GROUP_SERVE      (1u << 10)
#define SKBLK_GROUP_DANGER     (1u << 11)

/* ---- Errors -------------------------------------------------------------------------------- */

/* Prints "skblk NAME: ..." and a line feed to stderr. */
__attribute__((format(printf, 2, 3))) void skblk_error(const struct skblk_call *call,
                                                       const char *format, ...);

/* The exit code of a failed request or call. */
int skblk_exit_of(enum sk_status status);

/* What a person should do about a status of a request; "" if there is nothing to say. */
const char *skblk_advice(enum sk_status status);

/* True after ^C or a request to end; the first one lets the command finish in order. */
bool skblk_is_interrupted(void);

/* ---- Numbers ------------------------------------------------------------------------------- */

/* "64k", "1.5M", "2G", "512": bytes; false if it is none, or does not fit. */
bool skblk_parse_size(const char *text, uint64_t *out_bytes);
/* "10", "10s", "500ms", "20us": nanoseconds. */
bool skblk_parse_time(const char *text, uint64_t *out_ns);

/* "1.5 GiB" into a buffer of at least SKBLK_SIZE_TEXT bytes, which is returned. */
#define SKBLK_SIZE_TEXT 32
const char *skblk_size_text(uint64_t bytes, char *out_text);

uint64_t skblk_now_ns(void);

/* How long to look for answers before sleeping, for sk_block_wait_hybrid. */
static inline uint64_t skblk_spin_of(const struct skblk_settings *settings)
{
    return settings->waiting == SKBLK_WAITING_HYBRID ? settings->spin_ns : 0;
}

/* ---- Reports ------------------------------------------------------------------------------- */

/*
 * Named values, printed as a table for people or as one JSON object.  Names
 * carry their units: "capacity_bytes".
 */
struct skblk_report;

struct skblk_report *skblk_report_create(void);
void skblk_report_add_number(struct skblk_report *report, const char *name, uint64_t value);
void skblk_report_add_real(struct skblk_report *report, const char *name, double value);
void skblk_report_add_bool(struct skblk_report *report, const char *name, bool value);
void skblk_report_add_text(struct skblk_report *report, const char *name, const char *value);
/* A list of words, one at a time; the first call makes the list. */
void skblk_report_add_word(struct skblk_report *report, const char *name, const char *word);
/* Prints to stdout and frees.  0, or SKBLK_EXIT_FILE if stdout is full or closed (said). */
int skblk_report_finish(const struct skblk_call *call, struct skblk_report *report);

/* ---- Progress ------------------------------------------------------------------------------ */

struct skblk_progress {
    const char *what;
    uint64_t total; /* bytes; 0: unknown */
    uint64_t start_ns;
    uint64_t drawn_ns;
    bool is_shown;
};

/* A line on stderr that is drawn again, if stderr is a terminal and nobody asked for quiet. */
void skblk_progress_start(struct skblk_progress *progress, const struct skblk_call *call,
                          const char *what, uint64_t total);
void skblk_progress_update(struct skblk_progress *progress, uint64_t done);
void skblk_progress_finish(struct skblk_progress *progress);

/* ---- Disks --------------------------------------------------------------------------------- */

struct skblk_disk {
    struct sk_vhost_user_disk *disk;
    struct sk_block_device *device;
    struct sk_block_info info;
    const char *address;
};

/*
 * With `memory_bytes` for buffers of the command's own.  *out_disk stays where it is until close.
 * 0, or the exit code; the reason was printed.
 */
int skblk_disk_open(const struct skblk_call *call, const char *address, uint64_t memory_bytes,
                    struct skblk_disk *out_disk);
/* The same, with the memory of another disk, which is closed later: its buffers reach this one too. */
int skblk_disk_open_beside(const struct skblk_call *call, const char *address,
                           const struct skblk_disk *other, struct skblk_disk *out_disk);
/* Returns `code`, or that of a failure to close. */
int skblk_disk_close(const struct skblk_call *call, struct skblk_disk *disk, int code);

/*
 * For a poll's answer: if the disk was stopped by a fault and requests wait for
 * its return, brings it back.  True: go on.  False: it cannot be had back, which
 * was said; what waits must be cancelled, and *out_code is the command's exit code.
 */
bool skblk_disk_revive(const struct skblk_call *call, const struct skblk_disk *disk,
                       enum sk_status polled, int *out_code);

/* Takes a request back that waits for a disk that does not return. */
void skblk_disk_cancel(const struct skblk_disk *disk, struct sk_block_request *request);

/* Capacity in bytes. */
uint64_t skblk_disk_bytes(const struct skblk_disk *disk);

/*
 * The bytes that --offset and --length name, to the last whole block.  A range that is
 * not whole blocks of the disk, or reaches past its end, is an error.
 */
int skblk_disk_range(const struct skblk_call *call, const struct skblk_disk *disk,
                     uint64_t *out_offset, uint64_t *out_length);

/* 0 if the disk can be written, else said. */
int skblk_disk_check_writable(const struct skblk_call *call, const struct skblk_disk *disk);

/* Says that a request failed, with what to do; returns the exit code. */
int skblk_disk_failed(const struct skblk_call *call, const char *what, uint64_t offset,
                      enum sk_status status);

/* ---- The commands -------------------------------------------------------------------------- */

int skblk_info(struct skblk_call *call);
int skblk_flush(struct skblk_call *call);
int skblk_discard(struct skblk_call *call);
int skblk_zero(struct skblk_call *call);
int skblk_read(struct skblk_call *call);
int skblk_write(struct skblk_call *call);
int skblk_copy(struct skblk_call *call);
int skblk_hash(struct skblk_call *call);
int skblk_bench(struct skblk_call *call);
int skblk_verify(struct skblk_call *call);
int skblk_watch(struct skblk_call *call);
int skblk_serve_null(struct skblk_call *call);
int skblk_serve_file(struct skblk_call *call);

#endif
