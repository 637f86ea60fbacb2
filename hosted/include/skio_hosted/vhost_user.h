/* SPDX-License-Identifier: MIT */
/*
 * A disk over vhost-user: the virtio device is another process behind a UNIX
 * socket.  `sk_vhost_user_disk_open` opens one with everything it needs;
 * `sk_vhost_user_open` is the bare transport, for those who have a process,
 * memory and a node of their own.
 *
 * Each transport has one thread, which sleeps until the back end says
 * something or goes away; it is the one that reconnects.  It calls back
 * nothing but the configuration's interrupt handler.
 *
 * Ownership: what open returns is the caller's until close.
 * Calling: opening and closing: one thread.  Queues: one owner each, see
 * `block.h`; different queues may be driven by different threads.
 * Trust: the back end is not trusted.  Each of its messages is checked, and a
 * bad one ends the connection, not the process.  What it does to memory that
 * it was given, nothing can limit: it is given these regions and no other.
 * Spec: vhost-user protocol (QEMU, docs/interop/vhost-user.rst).
 */
#ifndef SKIO_HOSTED_VHOST_USER_H
#define SKIO_HOSTED_VHOST_USER_H

#include <skio/virtio_blk.h>
#include <skio_hosted/process.h>

SK_BEGIN_DECLS

/* Room for one line for people that says what went wrong, its end included; bytes. */
#define SK_VHOST_USER_ERROR_BYTES 256

/* ---- The transport ------------------------------------------------------------------------ */

struct sk_vhost_user;

struct sk_vhost_user_options {
    uint32_t queue_count;       /* most queues that will be used; 1 to SK_VIRTIO_BLK_QUEUES_MAX */
    uint64_t message_ns;        /* longest wait for the answer to one message */
    uint64_t reconnect_ns;      /* how long a lost back end is waited for; 0: not at all */
    uint64_t protocol_features; /* wanted, as masks; UINT64_MAX: all that are implemented */
};

/* 1 queue, 2 s, 8 s, all. */
#define SK_VHOST_USER_OPTIONS_DEFAULT \
    { 1, UINT64_C(2000000000), UINT64_C(8000000000), UINT64_MAX }

/*
 * Connects to a back end and agrees on the protocol; nothing is started yet.
 * `address` is the path of a socket; "@name" is one in the abstract name
 * space; "fd:N" is a connected socket that this process has inherited (it
 * becomes the transport's, and there is no reconnecting to it).
 * `out_error` (may be NULL) takes a line for people if it fails, "" otherwise.
 * SK_OK; SK_ERR_INVALID (an option or the address), SK_ERR_NOT_FOUND (no such socket, or
 * nobody listens), SK_ERR_NO_MEMORY, SK_ERR_UNSUPPORTED (it lacks what is needed),
 * SK_ERR_MALFORMED (it broke the protocol), SK_ERR_TIMEOUT, SK_ERR_BROKEN (it went away), SK_ERR_IO.
 */
SK_MUST_CHECK enum sk_status sk_vhost_user_open(struct sk_process *process, const char *address,
                                                const struct sk_vhost_user_options *options,
                                                struct sk_vhost_user **out_vhost_user,
                                                char *out_error);

/* Ends the connection; after the driver's remove.  NULL is fine. */
void sk_vhost_user_close(struct sk_vhost_user *vhost_user);

/*
 * For a node's `transport`.  Rings have up to 32768 entries: no back end is asked what
 * it takes; one that takes less refuses the ring, and the driver does not start.
 */
struct sk_virtio_transport *sk_vhost_user_transport(struct sk_vhost_user *vhost_user);

/* For a node's `interrupts`: one for the configuration, and one for each queue. */
const struct sk_interrupt *sk_vhost_user_interrupts(const struct sk_vhost_user *vhost_user,
                                                    size_t *out_count);

/*
 * Tells the back end of the regions that the process got since.  Without
 * CONFIGURE_MEM_SLOTS that is only possible while no queue is started.
 * SK_OK; SK_ERR_UNSUPPORTED, SK_ERR_NO_MEMORY (the back end has no room for more): it does not know
 * them; SK_ERR_BROKEN.
 */
SK_MUST_CHECK enum sk_status sk_vhost_user_share_regions(struct sk_vhost_user *vhost_user);

/* How the connection stands, for people and statistics. */
struct sk_vhost_user_info {
    uint64_t protocol_features_offered;
    uint64_t protocol_features; /* agreed on */
    uint32_t queue_count_max;   /* of the back end */
    uint64_t region_count_max;
    uint32_t reconnects;        /* times that a back end was found again */
    bool connected;             /* now */
    bool resumes;               /* a new back end would go on where the old one died */
};

void sk_vhost_user_get_info(struct sk_vhost_user *vhost_user, struct sk_vhost_user_info *out_info);

/* The name of a protocol feature ("REPLY_ACK"); NULL if unknown. */
const char *sk_vhost_user_feature_name(unsigned bit);

/* ---- A disk in one call -------------------------------------------------------------------- */

struct sk_vhost_user_disk;

struct sk_vhost_user_disk_options {
    struct sk_virtio_blk_options driver;     /* queues, sizes, features, timeouts, recovery */
    struct sk_vhost_user_options vhost_user; /* its queue_count is taken from `driver` */
    struct sk_process_options process;       /* the log */
    uint64_t memory_bytes;                   /* for requests and bounces, besides the rings' */
    enum sk_process_pages pages;
    /*
     * A disk that is open: its process is used, and all regions it has by now are
     * shown to this disk's back end too, so buffers in their domains reach both and
     * copies need no second buffer.  It is closed after this one; `process` is not
     * looked at.  NULL: a process of its own.
     */
    struct sk_vhost_user_disk *shares;
};

/* The defaults of each part; 16 MiB; huge pages if there are some; nothing shared. */
#define SK_VHOST_USER_DISK_OPTIONS_DEFAULT                                                    \
    {                                                                                         \
        SK_VIRTIO_BLK_OPTIONS_DEFAULT, SK_VHOST_USER_OPTIONS_DEFAULT,                         \
            SK_PROCESS_OPTIONS_DEFAULT, UINT64_C(16777216), SK_PROCESS_PAGES_ANY, NULL        \
    }

/*
 * Opens the disk behind a socket: process, memory, transport, driver.
 * `options` NULL: the defaults.  Statuses and `out_error` as sk_vhost_user_open, and
 * those of the driver's probe: *out_disk is NULL and nothing is left behind, but with
 * SK_ERR_IN_DOUBT the memory, as sk_vhost_user_disk_close leaves it.
 */
SK_MUST_CHECK enum sk_status
sk_vhost_user_disk_open(const char *address, const struct sk_vhost_user_disk_options *options,
                        struct sk_vhost_user_disk **out_disk, char *out_error);

/*
 * Stops and closes it; NULL is fine.  Requests that were at the device complete
 * before.  Buffers in its domains must be destroyed before, and disks that share its
 * process closed: SK_ERR_BUSY otherwise, and the disk stays as it is.  SK_ERR_IN_DOUBT: the back end could not be stopped; its memory
 * stays mapped for good, a deliberate leak.
 */
SK_MUST_CHECK enum sk_status sk_vhost_user_disk_close(struct sk_vhost_user_disk *disk);

/* Its parts; they live as long as the disk. */
struct sk_block_device *sk_vhost_user_disk_device(struct sk_vhost_user_disk *disk);
struct sk_process *sk_vhost_user_disk_process(struct sk_vhost_user_disk *disk);
struct sk_vhost_user *sk_vhost_user_disk_transport(struct sk_vhost_user_disk *disk);

/*
 * Adds memory while the disk is in use: *out_region's domain makes buffers
 * that this disk reaches.  Statuses of sk_process_add_region and
 * sk_vhost_user_share_regions.
 */
SK_MUST_CHECK enum sk_status
sk_vhost_user_disk_add_region(struct sk_vhost_user_disk *disk, uint64_t bytes,
                              const struct sk_process_region **out_region);

/*
 * For event loops: the descriptor that becomes readable when queue `index` has
 * something to poll, if it was armed; -1 beyond the disk's queues.  The disk keeps it: it may
 * be watched, but neither read nor closed.
 */
int sk_vhost_user_disk_queue_fd(struct sk_vhost_user_disk *disk, uint32_t index);

/*
 * Clears the descriptor and asks for a signal at the next completion.  SK_OK:
 * it will come; go to sleep.  SK_ERR_AGAIN: there is something already; poll, and
 * arm again.  SK_ERR_BUSY (called from `complete`), SK_ERR_RANGE.  The loop is: readable, or a
 * timer of a quarter of the driver's timeout: sk_block_poll until it finds
 * nothing; then arm until it says SK_OK.
 */
SK_MUST_CHECK enum sk_status sk_vhost_user_disk_arm(struct sk_vhost_user_disk *disk,
                                                    uint32_t index);

SK_END_DECLS

#endif
