/* SPDX-License-Identifier: MIT */
/*
 * A disk as its users see it: asynchronous requests in batches, completions by
 * polling or after an interrupt, and synchronous calls on top.  It is no cache
 * and no scheduler: requests go to the device in the order of submission, and
 * the device may finish them in any order.
 *
 * Ownership: the block device belongs to its driver and is valid while the
 * driver is bound.  A request, its segments and the memory they point at belong
 * to the caller and are lent from submit until its `complete` is called.
 * Calling: each queue has one owner, a thread at a time; different queues are
 * independent.  Submit and poll never sleep; wait and the synchronous calls
 * may.  None may be called from an interrupt handler.
 * Trust: the caller's arguments are checked; what the device answers is too.
 */
#ifndef SKIO_BLOCK_H
#define SKIO_BLOCK_H

#include <skio/dma_domain.h>

SK_BEGIN_DECLS

/* The unit of addresses and capacities, whatever the disk's own block size; bytes. */
#define SK_BLOCK_SECTOR_BYTES 512u

/* The answer to GET_LIFETIME: le16 pre-EOL state, le16 and le16 wear of two types; 5.2.6. */
#define SK_BLOCK_LIFETIME_BYTES 6u

/* Longest identity, without a terminating zero; bytes. */
#define SK_BLOCK_IDENTITY_BYTES 20u

enum sk_block_operation {
    SK_BLOCK_READ,   /* device to memory */
    SK_BLOCK_WRITE,  /* memory to device */
    SK_BLOCK_FLUSH,  /* all writes completed before this submit become durable */
    SK_BLOCK_GET_ID, /* SK_BLOCK_IDENTITY_BYTES into one segment of that size */
    SK_BLOCK_DISCARD,      /* the sectors' content is not needed any more; reads are undefined */
    SK_BLOCK_WRITE_ZEROES, /* the sectors read as zeroes */
    SK_BLOCK_SECURE_ERASE, /* the sectors' content can never be read again, from anywhere */
    SK_BLOCK_GET_LIFETIME, /* SK_BLOCK_LIFETIME_BYTES into one segment of that size */
    /* Of disks with zones; see block_zone.h. */
    SK_BLOCK_ZONE_REPORT,    /* into memory: what the zones are, from that of `sector` on */
    SK_BLOCK_ZONE_OPEN,      /* the zone that begins at `sector` */
    SK_BLOCK_ZONE_CLOSE,
    SK_BLOCK_ZONE_FINISH,
    SK_BLOCK_ZONE_RESET,
    SK_BLOCK_ZONE_RESET_ALL, /* every zone that can be */
    SK_BLOCK_ZONE_APPEND,    /* memory to the zone that begins at `sector`, behind what is there */
    SK_BLOCK_OPERATION_COUNT
};

/* `sk_block_request.flags` */
#define SK_BLOCK_FLAG_FUA   1u /* WRITE, WRITE_ZEROES, ZONE_APPEND: durable when it completes */
#define SK_BLOCK_FLAG_UNMAP 2u /* WRITE_ZEROES: the disk may give the space up */

/* What the disk does with a completed write. */
enum sk_block_cache {
    SK_BLOCK_CACHE_WRITE_THROUGH, /* it is durable; a flush has nothing to do */
    SK_BLOCK_CACHE_WRITE_BACK     /* it is durable after a flush */
};

/* Sectors that lie side by side. */
struct sk_block_range {
    uint64_t sector;
    uint64_t sector_count;
};

struct sk_block_request {
    /* The caller's, before submit. */
    enum sk_block_operation operation;
    uint32_t flags;                        /* SK_BLOCK_FLAG_*; 0: none */
    uint64_t sector;                       /* first sector; 0 for FLUSH, GET_ID, GET_LIFETIME,
                                            * ZONE_RESET_ALL */
    uint64_t sector_count;                 /* DISCARD, WRITE_ZEROES, SECURE_ERASE: how many, whole
                                            * blocks; the others do not look at it */
    const struct sk_block_range *ranges;   /* the same three: many ranges instead, in any order;
                                            * `sector` and `sector_count` are 0 then */
    uint32_t range_count;                  /* 0: `sector` and `sector_count` say it */
    const struct sk_dma_segment *segments; /* READ, WRITE, ZONE_APPEND, ZONE_REPORT: device
                                            * addresses of the memory, in order; each of at least
                                            * 1 byte; together a multiple of the disk's block size
                                            * (of SK_BLOCK_ZONE_REPORT_BYTES for a report) */
    uint32_t segment_count;                /* 0 where there is no memory to move */
    uint64_t deadline_ns;                  /* of the platform's clock; 0: the driver's timeout, which
                                            * counts for those with a deadline too */
    /* Called once, from poll, wait, recover or the driver's removal.  Required. */
    void (*complete)(struct sk_block_request *request);
    void *context; /* for the caller; not looked at */

    /* The result, valid in `complete` and after. */
    uint64_t result_sector; /* ZONE_APPEND that succeeded: where the data begins */
    enum sk_status status;

    /* Private. */
    uint16_t parts;
    uint8_t after;   /* what is left to do when the last part ended */
    uint8_t repeats; /* how often it was at a device that was stopped */
    uint64_t bytes_left; /* beside those above: one line is written */
    uint32_t segment_index;
    uint32_t segment_offset;
    uint64_t next_sector;
    uint64_t started_ns;
    struct sk_block_request *next;
};

/* What the disk takes of an operation on a range of sectors. */
struct sk_block_range_limits {
    uint32_t sectors_max;       /* of one range, longer ones are split; 0: the operation is not
                                 * supported */
    uint32_t ranges_max;        /* in one request to the device, more are split; 0: as above */
    uint32_t alignment_sectors; /* pieces that begin and end at multiples do most; a hint, at least 1 */
};

/* What the disk says about tracks; all 0 if it says nothing.  Nothing depends on it. */
struct sk_block_geometry {
    uint16_t cylinders;
    uint8_t heads;
    uint8_t sectors; /* of a track */
};

/* Which order of writes the disk's zones demand. */
enum sk_block_zone_model {
    SK_BLOCK_ZONE_MODEL_NONE,         /* there are no zones to care about */
    SK_BLOCK_ZONE_MODEL_HOST_AWARE,   /* none, but writing zones from their start on is best */
    SK_BLOCK_ZONE_MODEL_HOST_MANAGED, /* sequential zones are written at their write pointer only */
    SK_BLOCK_ZONE_MODEL_COUNT
};

/* All 0 without zones. */
struct sk_block_zone_limits {
    enum sk_block_zone_model model;
    uint32_t sectors;            /* of each zone; only the last one may be shorter */
    uint32_t open_max;           /* zones open at a time; 0: any number */
    uint32_t active_max;         /* zones open or closed at a time; 0: any number */
    uint32_t append_sectors_max; /* of one ZONE_APPEND; 0: it is not supported */
    uint32_t write_bytes;        /* what is written to sequential zones begins and ends at
                                  * multiples of this; a multiple of the block size */
};

/* How much of the blocks that replace worn ones is used up. */
enum sk_block_reserve {
    SK_BLOCK_RESERVE_UNKNOWN,
    SK_BLOCK_RESERVE_NORMAL,  /* less than 80 % */
    SK_BLOCK_RESERVE_WARNING, /* 80 % */
    SK_BLOCK_RESERVE_URGENT,  /* 90 % */
    SK_BLOCK_RESERVE_COUNT
};

/* How worn the disk is. */
struct sk_block_lifetime {
    enum sk_block_reserve reserve;
    uint8_t wear_a_tenths; /* of the life of its SLC cells that is used up, at most: 1 to 10; 11:
                            * more than all of it; 0: unknown */
    uint8_t wear_b_tenths; /* of its MLC cells */
};

/* What the disk is.  Fixed while the device is bound, but for the capacity. */
struct sk_block_info {
    const char *driver;           /* "virtio-blk" */
    const char *transport;        /* "mmio", "mmio-legacy", ... */
    char identity[SK_BLOCK_IDENTITY_BYTES + 1]; /* "" if the device tells none; printable */
    uint64_t capacity_sectors;    /* of SK_BLOCK_SECTOR_BYTES */
    uint32_t block_bytes;         /* smallest unit of a request; 512 or a larger power of two */
    uint32_t physical_block_bytes; /* what the disk does in one piece; a hint */
    uint32_t alignment_offset_bytes; /* where the first physical block begins; a hint */
    uint32_t minimum_io_bytes;    /* smaller requests cost more; a hint; 0: unknown */
    uint32_t optimal_io_bytes;    /* longer ones gain nothing; a hint; 0: unknown */
    struct sk_block_geometry geometry;
    enum sk_block_cache cache;
    bool cache_can_change;        /* sk_block_set_cache works */
    bool read_only;
    bool lifetime;                /* GET_LIFETIME works */
    struct sk_block_lifetime wear; /* as it was at the probe; all 0: unknown */
    bool zeroes_may_unmap;        /* WRITE_ZEROES with SK_BLOCK_FLAG_UNMAP may give space up */
    struct sk_block_range_limits discard;
    struct sk_block_range_limits write_zeroes;
    struct sk_block_range_limits secure_erase;
    struct sk_block_zone_limits zones;
    uint32_t segment_count_max;   /* of one request to the device; longer ones are split */
    uint64_t segment_bytes_max;   /* of one segment; 0: no limit; longer ones are split */
    uint32_t queue_count;
    uint32_t queue_depth;         /* requests that one queue has at the device at a time */
    uint32_t queue_size;          /* ring entries of one queue */
    uint64_t features_offered;    /* the device's, for sk_block_feature_name */
    uint64_t features;            /* negotiated */
};

/*
 * What one queue did; all counted since the device was bound.  A request is
 * counted once, when it completes; a request that was split has several parts.
 */
struct sk_block_statistics {
    uint64_t requests;          /* completed, whatever their status */
    uint64_t parts;             /* answered by the device */
    uint64_t bytes_read;        /* of parts that succeeded */
    uint64_t bytes_written;
    uint64_t bytes_cleared;     /* discarded, zeroed or erased */
    uint64_t notifications;     /* sent to the device */
    uint64_t notifications_avoided; /* batches for which the device wanted none */
    uint64_t polls;             /* calls of poll */
    uint64_t interrupts;        /* seen by the handler */
    uint64_t polls_empty;       /* polls that found nothing */
    uint64_t waits;             /* times the owner slept */
    uint64_t spins;             /* times it looked again and again before that, */
    uint64_t spins_enough;      /* and of these, how often it did not have to sleep */
    uint64_t resubmitted;       /* requests that went to the device again after a recovery */
    uint64_t recoveries;        /* the device was brought back */
    uint64_t refused;           /* failed requests that the device never saw: the request, its
                                 * range or the state of the device was wrong */
    uint64_t errors[SK_STATUS_COUNT]; /* failed requests by their status: errors[SK_ERR_IO], ... */
};

/* Buckets of a latency histogram: the last one holds all of 9 minutes (2^39 ns) and more. */
#define SK_BLOCK_LATENCY_BUCKETS 40u

/*
 * How long requests took, from submit to completion, as far as the device
 * answered them: bucket i counts those of 2^i to 2^(i+1) - 1 ns, and bucket 0
 * those of 0 ns too.
 */
struct sk_block_latency {
    uint64_t count;      /* in all buckets */
    uint64_t total_ns;   /* sum; divided by `count` the mean */
    uint64_t longest_ns;
    uint64_t buckets[SK_BLOCK_LATENCY_BUCKETS];
};

enum sk_block_state {
    SK_BLOCK_STATE_READY,
    SK_BLOCK_STATE_RESETTING, /* one owner is stopping the device */
    SK_BLOCK_STATE_BROKEN,    /* stopped after a fault; sk_block_recover brings it back */
    SK_BLOCK_STATE_IN_DOUBT,  /* did not stop: memory lent to it must never be reused */
    SK_BLOCK_STATE_REMOVED,
    SK_BLOCK_STATE_FAILED,    /* stopped for good: the disk is gone, or another one came back */
    SK_BLOCK_STATE_COUNT
};

struct sk_block_device;
struct sk_block_queue;

/* What a driver implements; users call the functions below. */
struct sk_block_ops {
    void (*submit)(struct sk_block_queue *queue, struct sk_block_request *const *requests,
                   uint32_t count);
    enum sk_status (*poll)(struct sk_block_queue *queue, uint32_t budget, uint32_t *out_completed);
    enum sk_status (*wait)(struct sk_block_queue *queue, uint64_t spin_ns, uint64_t until_ns);
    enum sk_status (*arm)(struct sk_block_queue *queue);
    enum sk_status (*recover)(struct sk_block_device *device, uint64_t timeout_ns);
    void (*stop)(struct sk_block_device *device, enum sk_status reason);
    enum sk_status (*cancel)(struct sk_block_queue *queue, struct sk_block_request *request);
    enum sk_status (*set_cache)(struct sk_block_device *device, enum sk_block_cache cache);
    const char *(*feature_name)(unsigned bit);
    enum sk_status (*reset_queue)(struct sk_block_queue *queue);
    /* As submit, of requests linked by `next`; and completing such ones with an error. */
    void (*submit_list)(struct sk_block_queue *queue, struct sk_block_request *first);
    void (*refuse_list)(struct sk_block_queue *queue, struct sk_block_request *first,
                        enum sk_status status);
};

/* One independent way to the device. */
struct sk_block_queue {
    const struct sk_block_ops *ops;
    struct sk_block_device *device;
    uint32_t index;
    uint32_t detour;        /* what a submit goes through before the driver; 0: nothing */
    uint32_t latency_every; /* 0: nothing is timed */
    uint32_t latency_seen;
    uint32_t gather_ns;     /* see sk_block_set_gathering */
    uint32_t batch_count;
    struct sk_block_request *batch; /* collected, oldest first */
    struct sk_block_request **batch_last;
    struct sk_block_statistics statistics;
    struct sk_block_latency latency;
};

/* What changed about a disk while it was in use; for `sk_block_watch`. */
#define SK_BLOCK_CHANGED_CAPACITY 1u
#define SK_BLOCK_CHANGED_CACHE    2u
#define SK_BLOCK_CHANGED_LIMITS   4u /* hints, or what it takes of operations on ranges */
#define SK_BLOCK_CHANGED_STATE    8u /* sk_block_get_state says of what it is now */

struct sk_block_device {
    const char *name; /* the node's */
    const struct sk_block_ops *ops;
    const struct sk_platform *platform;
    struct sk_dma_domain *domain; /* memory for requests must be reachable here */
    struct sk_block_info info;
    struct sk_block_queue *const *queues;
    sk_atomic_u32 state; /* enum sk_block_state */

    /* Private. */
    sk_atomic_u32 info_sequence; /* odd while the driver changes `info` */
    sk_atomic_u32 changes;       /* SK_BLOCK_CHANGED_* that the watcher was not told yet */
    void (*watch)(struct sk_block_device *device, uint32_t changes, void *context);
    void *watch_context;
};

/* The block device that a bound node publishes; NULL if the node is none. */
struct sk_device_node;
struct sk_block_device *sk_block_of_node(const struct sk_device_node *node);

/* Queue `index`, or NULL beyond info.queue_count. */
struct sk_block_queue *sk_block_get_queue(struct sk_block_device *device, uint32_t index);

/*
 * Copies what is known of the disk, with the capacity of now.  Any thread.
 * (`device->info` itself is for those who know that nothing changes meanwhile.)
 */
void sk_block_get_info(const struct sk_block_device *device, struct sk_block_info *out_info);

enum sk_block_property_kind {
    SK_BLOCK_PROPERTY_NUMBER, /* its unit ends the name */
    SK_BLOCK_PROPERTY_FLAG,   /* 0 or 1 */
    SK_BLOCK_PROPERTY_TEXT
};

/* One thing to know about a disk. */
struct sk_block_property {
    const char *name; /* "capacity_sectors"; upper case: a feature, "FLUSH" */
    enum sk_block_property_kind kind;
    uint64_t number;  /* of a number or flag; a feature's is 1 if it is in use, 0 if it is only
                       * offered */
    const char *text; /* of a text, else NULL; valid while the device is bound */
};

/*
 * Property `index`, for lists: all that is known of this disk, with the values
 * of now (of the probe: wear); what it does not have is left out.  Names:
 *   state driver transport identity
 *   capacity_sectors block_bytes physical_block_bytes alignment_offset_bytes
 *   minimum_io_bytes optimal_io_bytes cylinders heads track_sectors
 *   read_only cache cache_can_change
 *   queues queue_entries queue_requests request_segments_max segment_bytes_max
 *   discard_, write_zeroes_, secure_erase_: sectors_max ranges_max
 *   discard_, secure_erase_: alignment_sectors; write_zeroes_may_unmap
 *   zones zone_count zone_sectors zone_write_bytes zone_append_sectors_max
 *   zones_open_max zones_active_max
 *   reserve wear_a_tenths wear_b_tenths
 * and the offered features, by the names of sk_block_feature_name.
 * SK_OK; SK_ERR_NOT_FOUND (there are fewer).  O(index).  Any thread.
 */
SK_MUST_CHECK enum sk_status sk_block_get_property(const struct sk_block_device *device,
                                                   uint32_t index,
                                                   struct sk_block_property *out_property);

/* The property with this name.  SK_OK; SK_ERR_NOT_FOUND (this disk does not have it).  Any thread. */
SK_MUST_CHECK enum sk_status sk_block_find_property(const struct sk_block_device *device,
                                                    const char *name,
                                                    struct sk_block_property *out_property);

/*
 * Copies the queue's counters.  They belong to the queue's owner, like the
 * queue: another thread may ask only while the owner is not inside a call.
 */
void sk_block_get_statistics(const struct sk_block_queue *queue,
                             struct sk_block_statistics *out_statistics);

/*
 * Starts a new histogram that times every `every`th request submitted from now
 * on, and costs those two looks at the clock; 0 switches it off, and then it
 * costs nothing.  Calling: as get_statistics.  SK_OK; SK_ERR_INVALID (`every` is
 * no power of two: nothing changed).
 */
SK_MUST_CHECK enum sk_status sk_block_set_latency(struct sk_block_queue *queue, uint32_t every);

/* Copies the histogram, of now or of before it was switched off.  Calling: as get_statistics. */
void sk_block_get_latency(const struct sk_block_queue *queue, struct sk_block_latency *out_latency);

/*
 * A time that `numerator` of `denominator` timed requests did not exceed
 * (99, 100: the 99th percentile): at most the double of the shortest such
 * time.  0 if nothing was timed, or the fraction is none of 0 to 1.  O(buckets).
 */
uint64_t sk_block_latency_quantile(const struct sk_block_latency *latency, uint32_t numerator,
                                   uint32_t denominator);

/* The state of the device, and its name for people ("ready", "broken", ...). */
enum sk_block_state sk_block_get_state(const struct sk_block_device *device);
const char *sk_block_state_name(enum sk_block_state state);

/*
 * Has `changed` called when something about the disk changes: with what did
 * (SK_BLOCK_CHANGED_*), when sk_block_get_info and sk_block_get_state say the
 * new.  It is called from poll or wait of queue 0, in the context of its owner
 * and never from an interrupt; several changes may come as one call.  It may
 * submit.  NULL: nobody is told any more.  Calling: the owner of queue 0.
 */
void sk_block_watch(struct sk_block_device *device,
                    void (*changed)(struct sk_block_device *device, uint32_t changes,
                                    void *context),
                    void *context);

/* The name of an operation, for people ("read", "write-zeroes", ...). */
const char *sk_block_operation_name(enum sk_block_operation operation);

/* The name of a feature bit of info.features ("FLUSH"), or NULL if the driver knows none. */
const char *sk_block_feature_name(const struct sk_block_device *device, unsigned bit);

/*
 * Takes `count` requests and tells the device once.  Every one of them is
 * completed by a later poll, the refused ones too (their status says why:
 * SK_ERR_INVALID, SK_ERR_SIZE, SK_ERR_RANGE beyond the capacity,
 * SK_ERR_READ_ONLY, SK_ERR_UNSUPPORTED, SK_ERR_BROKEN unless they may wait for
 * sk_block_recover by the driver's options), so there is one place
 * that looks at results.  There is no limit: what the device has no room for
 * waits in the queue, in order.  May be called from `complete`.
 * A request's final status is SK_OK, one of the above, SK_ERR_IO (the device
 * said so; a write may have happened in part), SK_ERR_TIMEOUT or
 * SK_ERR_MALFORMED (the device stalled or broke the protocol and was stopped),
 * SK_ERR_GONE (removed), SK_ERR_CANCELED, or SK_ERR_IN_DOUBT: the device could not be
 * stopped and may still use the memory.
 */
void sk_block_submit(struct sk_block_queue *queue, struct sk_block_request *const *requests,
                     uint32_t count);

/*
 * Begins a batch: requests that are submitted from now on are collected, and
 * the device is told of none of them before the batch ends.  What was submitted
 * before goes on, and so do poll, wait and the calls that wait for an answer,
 * whose own requests are not collected.  SK_OK; SK_ERR_BUSY (a batch was begun
 * already: nothing changed).
 */
SK_MUST_CHECK enum sk_status sk_block_batch_begin(struct sk_block_queue *queue);

/* How many requests the batch has; 0 if none was begun.  They can be looked at, not changed. */
uint32_t sk_block_batch_count(const struct sk_block_queue *queue);

/*
 * Ends the batch: its requests are submitted in order, and the device is told
 * once.  Nothing happens if none was begun.  As sk_block_submit otherwise.
 */
void sk_block_batch_end(struct sk_block_queue *queue);

/*
 * Ends the batch without submitting it: its requests complete with
 * SK_ERR_CANCELED at the next poll, and the device never sees them.  Nothing
 * happens if none was begun.
 */
void sk_block_batch_abort(struct sk_block_queue *queue);

/*
 * Completes up to `budget` requests (0: as many as the queue is deep).
 * *out_completed (may be NULL) is how many.  SK_OK; SK_ERR_BUSY (called from
 * `complete`: nothing done); SK_ERR_BROKEN (the device is stopped; its
 * requests complete with their statuses, or wait for sk_block_recover if the
 * driver's options say so), SK_ERR_IN_DOUBT, SK_ERR_GONE (it failed for good).
 * This is also where time is kept, as far as it is called: a request that is at
 * the device for longer than the driver's timeout, or beyond its own deadline,
 * breaks the device; one that waits beyond its deadline just ends with
 * SK_ERR_TIMEOUT.  A poll that finds nothing looks at the clock, and of those
 * that do every 64th.
 */
SK_MUST_CHECK enum sk_status sk_block_poll(struct sk_block_queue *queue, uint32_t budget,
                                           uint32_t *out_completed);

/*
 * Sleeps until poll will find something, a deadline passes, or `until_ns` of
 * the platform's clock.  Without interrupts it looks again and again.  SK_OK
 * (poll now); SK_ERR_TIMEOUT; SK_ERR_BUSY (called from `complete`).
 */
SK_MUST_CHECK enum sk_status sk_block_wait(struct sk_block_queue *queue, uint64_t until_ns);

/*
 * The same, but looks at the ring again and again for `spin_ns` before it
 * sleeps, with interrupts off: for devices that answer in less time than sleeping
 * and waking take.  When looking takes more than a quarter of that on average, with what
 * was in vain counted twice, the next 255 waits sleep at once, or with 8
 * requests at the device and more after a 64th of it.  0: sk_block_wait.  The
 * statistics `spins` and `spins_enough` say how often it looked, and was right to.
 */
SK_MUST_CHECK enum sk_status sk_block_wait_hybrid(struct sk_block_queue *queue, uint64_t spin_ns,
                                                  uint64_t until_ns);

/*
 * Lets wait sleep until a quarter of what is at the device is answered, for fewer
 * interrupts and larger batches: no longer than `delay_ns`, and then until the
 * next answer as always.  A device that does not answer that much in this time is
 * tried less and less often.  Takes effect with EVENT_IDX and at least 64 requests at the
 * device, and there instead of looking first.  0: each wait ends with the next answer;
 * this is how a queue begins.
 * Calling: the queue's owner.
 */
void sk_block_set_gathering(struct sk_block_queue *queue, uint32_t delay_ns);

/*
 * Asks for an interrupt at the next completion, for owners that sleep
 * elsewhere (an event loop, a scheduler).  SK_OK: it will come; SK_ERR_AGAIN: poll
 * finds something already, and then arm again; SK_ERR_BROKEN, SK_ERR_IN_DOUBT, SK_ERR_GONE (the
 * device is stopped, and poll has nothing to do); SK_ERR_UNSUPPORTED (there are no
 * interrupts: poll); SK_ERR_BUSY (called from `complete`).  Stalls are noticed by poll
 * alone: while requests are at the device, call it once in a quarter of the driver's timeout, and
 * at their deadlines.
 */
SK_MUST_CHECK enum sk_status sk_block_arm(struct sk_block_queue *queue);

/*
 * Takes a request back that the device does not have yet: it completes with
 * SK_ERR_CANCELED at the next poll.  SK_OK; SK_ERR_BUSY: the device has it, or
 * parts of it (those that it does not have never go to it, and the request
 * ends with SK_ERR_CANCELED when the others did); SK_ERR_NOT_FOUND: the queue does
 * not have it, or only calls back with its status.  May be called from `complete`.
 * O(requests in the queue).
 * What the device has can end in three ways: the device answers; the queue is
 * reset, if the device offers that; or the device is stopped.  Until then the
 * device may use the request's memory, whatever anybody's clock says.
 */
SK_MUST_CHECK enum sk_status sk_block_cancel(struct sk_block_queue *queue,
                                             struct sk_block_request *request);

/*
 * Takes all of a queue's requests back from the device, while its other queues
 * go on: the queue is reset, which waits at most the driver's control timeout,
 * and given to the device again.  What the device had and did not answer
 * completes with SK_ERR_BROKEN at the next poll, or goes to it again by the driver's
 * options; what waits goes to the device.  A request that is overdue takes its queue
 * this way too, and only if that fails the device is stopped.  SK_OK; SK_ERR_UNSUPPORTED (the device or its transport cannot:
 * nothing changed); SK_ERR_BUSY (called from `complete`, or somebody else
 * controls the device: nothing changed); SK_ERR_BROKEN, SK_ERR_IN_DOUBT or
 * SK_ERR_GONE (the device is stopped).  SK_ERR_TIMEOUT (the reset did not end)
 * and any other: the device was stopped, as by a fault.
 */
SK_MUST_CHECK enum sk_status sk_block_reset_queue(struct sk_block_queue *queue);

/*
 * Stops the device, as a fault would: a reset, and every request at the device
 * completes with `reason` (an error) at the next poll of its queue, or with
 * SK_ERR_IN_DOUBT if the device does not stop.  Nothing happens if it is
 * stopped already.  Any queue's owner may call it.  Owners
 * that sleep are woken, if the platform can (`wake`).
 */
void sk_block_stop(struct sk_block_device *device, enum sk_status reason);

/*
 * Stops the device if it is not stopped, completes what was in flight on all
 * queues (with SK_ERR_BROKEN, if no fault had another reason), and starts it
 * again with the same features and queues, within `timeout_ns` for each
 * control step (0: the driver's own).  It must be the disk that it was: the
 * same features, block size, number of queues and identity; another capacity
 * is none of these.  Requests that waited for it, by the driver's options, go
 * to it; those beyond its end complete with SK_ERR_RANGE.
 * Nobody else may use a queue of the device meanwhile.
 * SK_OK: ready; SK_ERR_BUSY (called from `complete`); SK_ERR_IN_DOUBT (it does not
 * stop), SK_ERR_TIMEOUT, SK_ERR_IO, SK_ERR_UNSUPPORTED, SK_ERR_MALFORMED (it did not
 * start): it stays stopped, and this may be tried again.  SK_ERR_GONE (the disk
 * was removed, or another one is in its place) or SK_ERR_UNSUPPORTED (it came
 * back as something else), and the state is SK_BLOCK_STATE_FAILED: all that
 * waits completes with this status, and so does all that is submitted.
 */
SK_MUST_CHECK enum sk_status sk_block_recover(struct sk_block_device *device, uint64_t timeout_ns);

/*
 * Reads or writes `bytes` (a multiple of the block size; 0 is SK_ERR_SIZE) from
 * or to any memory, mapping or bouncing it in the device's domain, and waits.
 * Completions of other requests on this queue run meanwhile.  `timeout_ns` is for
 * the whole call; 0 means the driver's own timeout alone counts.  Calls on
 * different queues share the domain, so the caller serialises them.
 * SK_OK, or the first failure: after a failed read the memory is undefined,
 * after a failed write so are the sectors.  When the time runs out, the device
 * is stopped (SK_ERR_TIMEOUT), because the memory could not be given back
 * otherwise.  SK_ERR_BUSY: called from `complete`, nothing done.
 */
SK_MUST_CHECK enum sk_status sk_block_read(struct sk_block_queue *queue, uint64_t sector,
                                           void *out_data, uint64_t bytes, uint64_t timeout_ns);
SK_MUST_CHECK enum sk_status sk_block_write(struct sk_block_queue *queue, uint64_t sector,
                                            const void *data, uint64_t bytes, uint64_t timeout_ns);

/*
 * Makes every write that was completed before durable.  SK_OK only if it is;
 * SK_ERR_IO, SK_ERR_UNSUPPORTED (the device refused to flush) and the rest as above.
 */
SK_MUST_CHECK enum sk_status sk_block_flush(struct sk_block_queue *queue, uint64_t timeout_ns);

/*
 * Discards, zeroes or erases `sector_count` sectors and waits; `flags` as in a
 * request.  SK_OK; SK_ERR_INVALID (another operation), SK_ERR_UNSUPPORTED (the
 * disk does not offer it), and the rest as above: after a failure it is not
 * known which of the sectors it took effect on.
 */
SK_MUST_CHECK enum sk_status sk_block_clear(struct sk_block_queue *queue,
                                            enum sk_block_operation operation, uint64_t sector,
                                            uint64_t sector_count, uint32_t flags,
                                            uint64_t timeout_ns);

/* The same with many ranges: together in as few requests as the device takes. */
SK_MUST_CHECK enum sk_status sk_block_clear_ranges(struct sk_block_queue *queue,
                                                   enum sk_block_operation operation,
                                                   const struct sk_block_range *ranges,
                                                   uint32_t range_count, uint32_t flags,
                                                   uint64_t timeout_ns);

/*
 * Reads what SK_BLOCK_GET_LIFETIME put into SK_BLOCK_LIFETIME_BYTES of memory, each byte
 * once.  SK_OK; SK_ERR_MALFORMED (a value that the specification reserves):
 * *out_lifetime is unchanged.
 */
SK_MUST_CHECK enum sk_status sk_block_lifetime_parse(const void *answer,
                                                     struct sk_block_lifetime *out_lifetime);

/* Asks how worn the disk is, and waits.  SK_OK; SK_ERR_UNSUPPORTED, SK_ERR_MALFORMED, and as read. */
SK_MUST_CHECK enum sk_status sk_block_get_lifetime(struct sk_block_queue *queue,
                                                   struct sk_block_lifetime *out_lifetime,
                                                   uint64_t timeout_ns);

/* The name of a reserve for people ("normal", ...), or "unknown". */
const char *sk_block_reserve_name(enum sk_block_reserve reserve);

/*
 * Changes what the disk does with completed writes, and waits.  What was
 * written before a change to write-through is flushed.  SK_OK; SK_ERR_UNSUPPORTED
 * (the disk cannot change, or does not keep the change), and as sk_block_flush.
 */
SK_MUST_CHECK enum sk_status sk_block_set_cache(struct sk_block_queue *queue,
                                                enum sk_block_cache cache, uint64_t timeout_ns);

SK_END_DECLS

#endif
