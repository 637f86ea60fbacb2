/* SPDX-License-Identifier: MIT */
/*
 * The platform of a Linux process: a log, a clock, a wait hook that sleeps on
 * event file descriptors, and memory that another process can be given.  It is
 * not a transport: `vhost_user.h` is one that uses it.
 *
 * An interrupt here is an event fd.  Nobody takes it behind your back: its
 * handler runs inside the wait hook of the thread that waits for it, or inside
 * sk_process_take or sk_process_raise.  So a process that polls never enters
 * the kernel, and each queue's thread sleeps on its own descriptor.
 *
 * Ownership: an instance owns its regions; event fds belong to whoever made
 * them.  There are no globals; any number of instances live side by side.
 * Calling: any thread.  What the library asks to be serialised (calls on one
 * domain) stays the caller's to serialise.
 */
#ifndef SKIO_HOSTED_PROCESS_H
#define SKIO_HOSTED_PROCESS_H

#include <skio/dma_domain.h>
#include <skio/platform.h>

SK_BEGIN_DECLS

struct sk_process;

struct sk_process_options {
    /* Takes one log line; may be called from any thread.  NULL: lines go to stderr. */
    void (*write_log)(void *context, enum sk_log_level level, const char *line);
    void *log_context;
    enum sk_log_level log_level; /* lines of a higher value are dropped */
};

/* To stderr, warnings and errors. */
#define SK_PROCESS_OPTIONS_DEFAULT { NULL, NULL, SK_LOG_WARNING }

/* Most event fds that are attached at a time. */
#define SK_PROCESS_INTERRUPTS_MAX 256

/* Most regions of one instance. */
#define SK_PROCESS_REGIONS_MAX 64

/*
 * Makes an instance without memory.  `options` NULL: the defaults.  SK_OK;
 * SK_ERR_INVALID (a log level that is none), SK_ERR_NO_MEMORY: *out_process is NULL.
 */
SK_MUST_CHECK enum sk_status sk_process_create(const struct sk_process_options *options,
                                               struct sk_process **out_process);

/*
 * Ends an instance and unmaps its regions; NULL is fine.  SK_OK; SK_ERR_BUSY (an
 * interrupt is attached, or a buffer or mapping lives in a region: each is
 * logged, nothing changed).
 */
SK_MUST_CHECK enum sk_status sk_process_destroy(struct sk_process *process);

/* The hooks, for nodes and domains; valid until destroy. */
const struct sk_platform *sk_process_platform(const struct sk_process *process);

/* ---- Memory ------------------------------------------------------------------------------- */

/* What a region is made of. */
enum sk_process_pages {
    SK_PROCESS_PAGES_ANY,      /* huge pages if there are enough, else ordinary ones */
    SK_PROCESS_PAGES_ORDINARY, /* ordinary ones */
    SK_PROCESS_PAGES_HUGE,     /* huge ones, or a failure */
    SK_PROCESS_PAGES_COUNT
};

/*
 * One memfd, mapped here and to be mapped by others: sealed against a change
 * of its size, close-on-exec.  `domain` has buffers in it; a device sees each byte at its
 * physical address, which nothing but this process's book-keeping knows.
 * Regions do not grow: there is another region, with a domain of its own.
 */
struct sk_process_region {
    int fd;
    void *cpu;
    uint64_t bytes;
    sk_paddr paddr;
    uint64_t page_bytes; /* of the pages it is made of */
    struct sk_dma_arena *arena;
    struct sk_dma_domain *domain;
};

/*
 * Adds a region of at least `bytes`, rounded up to 2 MiB or its pages, zeroed.
 * SK_OK; SK_ERR_SIZE (0, or more than 2^46), SK_ERR_INVALID, SK_ERR_NO_MEMORY (none of these
 * pages, of address space, or SK_PROCESS_REGIONS_MAX are there: logged): nothing changed.
 * *out_region is valid until destroy; it may be NULL.
 */
SK_MUST_CHECK enum sk_status sk_process_add_region(struct sk_process *process, uint64_t bytes,
                                                   enum sk_process_pages pages,
                                                   const struct sk_process_region **out_region);

/* How many regions there are, and one of them in the order of adding (NULL beyond). */
size_t sk_process_region_count(const struct sk_process *process);
const struct sk_process_region *sk_process_get_region(const struct sk_process *process,
                                                      size_t index);

/* ---- Interrupts --------------------------------------------------------------------------- */

/* How an event fd is named to attach_interrupt and in a node. */
struct sk_interrupt sk_process_interrupt(int event_fd);

/*
 * If the event fd was signalled: clears it, runs its handler here, and returns
 * true.  For event loops, after the descriptor became readable.  False too if it is not attached.
 */
bool sk_process_take(struct sk_process *process, int event_fd);

/* Runs the handler of an attached event fd here, signalled or not; true if there was one. */
bool sk_process_raise(struct sk_process *process, int event_fd);

SK_END_DECLS

#endif
