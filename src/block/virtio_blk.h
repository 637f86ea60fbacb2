/* SPDX-License-Identifier: MIT */
/*
 * The private state of the virtio block driver, and how its files divide the
 * work:
 *
 *   virtio_blk.c         the driver: needs, probe, remove
 *   virtio_blk_config.c  features and configuration, checked
 *   virtio_blk_start.c   memory layout, start
 *   virtio_blk_recover.c stop, recovery
 *   virtio_blk_settle.c  what becomes of requests when the device was stopped
 *   virtio_blk_queue.c   the short way of the usual request: submit and poll
 *   virtio_blk_rest.c    all that leaves it
 *   virtio_blk_order.c   a device that works in order, as far as that differs
 *   virtio_blk_list.c    batches of them
 *   virtio_blk_reset.c   a queue that is reset alone
 *   virtio_blk_wait.c    sleeping until poll has something to do
 *   virtio_blk_check.c   which requests are accepted
 *   virtio_blk_part.c    cutting requests into parts
 *   virtio_blk_slot.h/.c slots and their chains
 *   virtio_blk_zone.c    disks with zones
 *   virtio_blk_cancel.c  requests that end before the device saw all of them
 *   virtio_blk_events.c  time, configuration changes, faults
 *   virtio_blk_interrupt.c  interrupts: which serves what, and their handlers
 *   virtio_blk_mmio.c    the driver over MMIO
 *   virtio_blk_open.c    the driver over a transport that is open already
 *
 * A slot is everything one request at the device needs: a header, a status
 * byte and a chain of descriptors, whose unchanging parts are written once at
 * the start.  Slots and the ids that the device returns (chain heads, or buffer
 * ids of a packed ring) correspond one to one: they are checked against private
 * memory, and free lists never touch shared memory.
 *
 * The life of the device is one atomic state.  Whoever finds a fault moves it
 * from READY to RESETTING, resets, and leaves BROKEN (quiet) or IN_DOUBT (not
 * seen to be quiet).  Each queue's owner completes its own requests when it
 * sees either; so nothing is completed while the device could still write.
 */
#ifndef SKI_BLOCK_VIRTIO_BLK_H
#define SKI_BLOCK_VIRTIO_BLK_H

#include <skio/virtio_blk.h>

#include "base/door.h"
#include "virtio/device.h"
#include "virtio/ring.h"

/* Request types and answers; 5.2.6. */
#define SKI_BLK_TYPE_IN           0u
#define SKI_BLK_TYPE_OUT          1u
#define SKI_BLK_TYPE_FLUSH        4u
#define SKI_BLK_TYPE_GET_ID       8u
#define SKI_BLK_TYPE_GET_LIFETIME 10u
#define SKI_BLK_TYPE_DISCARD      11u
#define SKI_BLK_TYPE_WRITE_ZEROES 13u
#define SKI_BLK_TYPE_SECURE_ERASE 14u
#define SKI_BLK_TYPE_ZONE_APPEND  15u
#define SKI_BLK_TYPE_ZONE_REPORT  16u
#define SKI_BLK_TYPE_ZONE_OPEN    18u
#define SKI_BLK_TYPE_ZONE_CLOSE   20u
#define SKI_BLK_TYPE_ZONE_FINISH  22u
#define SKI_BLK_TYPE_ZONE_RESET   24u
#define SKI_BLK_TYPE_ZONE_RESET_ALL 26u

#define SKI_BLK_STATUS_OK     0u
#define SKI_BLK_STATUS_IOERR  1u
#define SKI_BLK_STATUS_UNSUPP 2u
#define SKI_BLK_STATUS_ZONE_INVALID   3u
#define SKI_BLK_STATUS_ZONE_UNALIGNED 4u
#define SKI_BLK_STATUS_ZONE_OPEN      5u
#define SKI_BLK_STATUS_ZONE_ACTIVE    6u
#define SKI_BLK_STATUS_POISON 0xffu /* no device writes this */

/* A slot's chain: the header, the data segments, the status; each linked to the next. */
#define SKI_BLK_CHAIN_DATA  1u
#define SKI_BLK_CHAIN_FIXED 2u

/* 5.2.6, the header's u32 type and u32 reserved as one word. */
struct ski_blk_header {
    sk_le64 type;
    sk_le64 sector;
};

/* 5.2.6, what DISCARD, WRITE_ZEROES and SECURE_ERASE send: u32 count and u32 flags as one word. */
struct ski_blk_range {
    sk_le64 sector;
    sk_le64 count_and_flags;
};

#define SKI_BLK_RANGE_UNMAP 1u

/*
 * What a slot shares with the device besides its chain: the header, and the
 * answer: the status byte, with a sector before it if it is a zone append.
 */
struct ski_blk_frame {
    struct ski_blk_header header;
    sk_le64 append_sector;
    uint8_t status;
    uint8_t padding[7];
};

#define SKI_BLK_APPEND_ANSWER_BYTES 9u

_Static_assert(sizeof(struct ski_blk_header) == 16, "5.2.6");
_Static_assert(sizeof(struct ski_blk_range) == 16, "5.2.6");
_Static_assert(sizeof(struct ski_blk_frame) == 32, "a slot is found by a shift");
_Static_assert(offsetof(struct ski_blk_frame, append_sector) + SKI_BLK_APPEND_ANSWER_BYTES ==
                   offsetof(struct ski_blk_frame, status) + 1,
               "5.2.6");

/* Where the driver changes the cache mode; 5.2.4. */
#define SKI_BLK_CONFIG_WRITEBACK 32u

/* What kind of zones a disk has; 5.2.4. */
#define SKI_BLK_CONFIG_ZONE_MODEL 92u

/* What cores hand to each other in one piece. */
#define SKI_BLK_LINE_BYTES 64

/* The timeout is counted in ticks of a quarter: a request's age needs no clock. */
#define SKI_BLK_TICKS_PER_TIMEOUT 4u

/* A slot's mark: one bit, and a tick above it. */
#define SKI_BLK_WHOLE 1u /* a read or write that has this part only, and nothing behind it */
#define SKI_BLK_TICK  2u

/*
 * What a slot keeps of its start is one word, because stores are what a short
 * way is made of: u32 bytes of data in this part (sectors of ranges); u16 place
 * of its start among the queue's, counted on and on (unused if in order); u8
 * segments behind which its chain ends now, or SKI_BLK_NO_CHAIN; u8 mark, the
 * queue's tick at its start above SKI_BLK_WHOLE.
 */
#define SKI_BLK_START_PLACE    32u
#define SKI_BLK_START_SEGMENTS 48u
#define SKI_BLK_START_MARK     56u

/* How often a request is repeated whose device was stopped. */
#define SKI_BLK_REPEATS_MAX 3u

struct ski_blk_slot {
    struct sk_block_request *request;            /* NULL: free */
    struct ski_ring_descriptor SKI_SHARED *data; /* the chain's first data descriptor */
    struct ski_blk_frame SKI_SHARED *frame;
    uint64_t start; /* see SKI_BLK_START_PLACE */
};

struct ski_blk;

#define SKI_BLK_WOKEN 0x80000000u

/* What a queue's owner is at. */
#define SKI_BLK_IDLE    0u
#define SKI_BLK_POLLING 1u /* inside poll, a callback perhaps: submit leaves publishing to it */
#define SKI_BLK_ARMED   2u /* asked for an interrupt, and sleeps somewhere */

/* On cache lines of its own: queues are driven by different cores. */
struct ski_blk_queue {
    _Alignas(SKI_BLK_LINE_BYTES) struct sk_block_queue queue; /* first: the public face */
    struct ski_blk *blk;
    struct sk_virtio_transport *transport;
    struct ski_ring ring;
    uint16_t size; /* entries of the ring */
    bool notification_data;
    bool special; /* NOTIFICATION_DATA or ORDER_PLATFORM: telling the device takes more */
    bool indirect;
    bool in_order; /* slots are used in turn, and one used entry may speak of many */
    uint8_t turn;  /* SKI_BLK_IDLE, ...: what the owner is at */

    /* Slots, by the id that the device returns for them. */
    struct ski_blk_slot *slots;
    uint16_t *free_slots; /* a stack */
    uint32_t free_count;
    uint32_t depth;        /* how many slots there are */
    uint32_t slot_limit;   /* beyond the largest id; of direct chains most ids are no slot's */
    uint16_t chain_length; /* descriptors of a slot */
    uint16_t table_length; /* and those that its table has room for */
    uint16_t link_mask;    /* of an id: where links count from; 0 in a table */
    uint16_t next_slot;    /* IN_ORDER, packed: which starts next, */
    uint16_t oldest_slot;  /* and which is answered next; a split ring counts them itself */
    uint16_t started;      /* packed: how many starts there were; a split ring counts them itself */
    uint8_t mark;          /* what a slot's will be that starts now, if it is whole */
    uint64_t simple_start; /* the same as a start word, with one segment */

    /* Limits of one request, copied for the hot path. */
    bool read_only;
    uint32_t simple_last;      /* READ, or WRITE unless read-only */
    uint64_t data_rest[2];     /* of a simple READ and WRITE's data descriptor: all that does not
                                * depend on the slot and the length */
    uint64_t sector_never;     /* bits that no sector has at which a request may begin */
    uint32_t segment_count_max;
    uint32_t segment_bytes_max;
    uint32_t simple_bytes_max; /* of a request that needs no second look; 0: all do */
    uint32_t sector_mask;      /* sectors of a block, less one */
    uint32_t block_mask;       /* bytes of a block, less one */
    uint64_t capacity_sectors;
    bool zoned;                /* zone operations work */
    uint32_t zone_sectors;     /* host-managed: nothing reaches across multiples; else 0 */
    uint32_t zone_write_bytes; /* and writes are cut at multiples of this */
    bool write_back;
    struct sk_block_range_limits discard;
    struct sk_block_range_limits write_zeroes;
    struct sk_block_range_limits secure_erase;

    /* Requests that wait for a slot, and those that only wait for their callback. */
    struct sk_block_request *waiting;
    struct sk_block_request **waiting_last;
    struct sk_block_request *refused;
    struct sk_block_request **refused_last;
    enum sk_status settle_reason; /* what ends with the queue's reset ends with this */
    struct sk_block_request *flushing; /* written, and waiting for their flush to start */
    struct sk_block_request *ended;    /* inside poll: waiting for their callback */

    /* Shared memory. */
    struct ski_ring_descriptor SKI_SHARED *chains;
    struct ski_blk_frame SKI_SHARED *frames;
    uint8_t SKI_SHARED *tables; /* one for each slot, whether chains are in them or not */
    uint64_t table_bias; /* from the CPU's address of a slot's first data to its table's for the device */
    uint64_t frames_bias; /* the same for a slot's frame */
    sk_daddr frames_address;
    sk_daddr tables_address;
    struct sk_virtio_queue_layout layout; /* as the device was told */

    /* Age and events. */
    uint64_t next_tick_ns;
    uint64_t next_deadline_ns; /* none of the queue's requests has an earlier one; UINT64_MAX: none */
    uint64_t spin_cost_ns;   /* what looking before sleeping costs lately */
    uint32_t spins_left_out; /* waits to come that sleep at once, */
    uint32_t glances_left_out; /* or nearly; and of these without even a short look, */
    uint32_t glances_in_vain;  /* as many as after the last one */
    uint32_t single;    /* waits to come that ask for the next completion alone, */
    uint32_t singles;   /* and how many there are after the next wait for more that is in vain */
    uint32_t info_seen; /* block.info_sequence, of which the limits above are */
    uint32_t interrupts_seen;
    struct sk_log_limit fault_lines;
    struct sk_log_limit doubt_lines;

    /*
     * Counted by the handler, which may run on another core; waiters sleep on it.
     * Who wakes them without an interrupt flips SKI_BLK_WOKEN, which counts nothing.
     */
    _Alignas(SKI_BLK_LINE_BYTES) sk_atomic_u32 interrupts;
};

_Static_assert(offsetof(struct ski_blk_queue, interrupts) % SKI_BLK_LINE_BYTES == 0 &&
                   offsetof(struct ski_blk_queue, interrupts) + SKI_BLK_LINE_BYTES ==
                       sizeof(struct ski_blk_queue),
               "the counter has a cache line for itself, and so has each queue");

#define SKI_BLK_NO_CHAIN 0xffu

/* The configuration space as read, checked and defended; 5.2.4. */
struct ski_blk_config {
    uint64_t capacity;
    uint64_t size_max;
    uint64_t seg_max;
    uint64_t blk_size;
    uint64_t cylinders;
    uint64_t heads;
    uint64_t sectors;
    uint64_t physical_block_exp;
    uint64_t alignment_offset;
    uint64_t min_io_size;
    uint64_t opt_io_size;
    uint64_t writeback;
    uint64_t num_queues;
    uint64_t discard_sectors;
    uint64_t discard_ranges;
    uint64_t discard_alignment;
    uint64_t zeroes_sectors;
    uint64_t zeroes_ranges;
    uint64_t zeroes_may_unmap;
    uint64_t erase_sectors;
    uint64_t erase_ranges;
    uint64_t erase_alignment;
    uint64_t zone_sectors;
    uint64_t zones_open;
    uint64_t zones_active;
    uint64_t append_sectors;
    uint64_t write_granularity;
    uint64_t zone_model;
};

struct ski_blk {
    struct sk_block_device block; /* first: the public face */
    struct sk_device_node *node;
    struct ski_virtio_device virtio;
    struct sk_virtio_blk_options options;
    struct ski_blk_queue *queues;
    struct sk_block_queue **faces; /* what block.queues points at */
    uint32_t queue_count;
    uint32_t interrupt_count; /* attached; 0: polled, 1: for everything, else see ski_blk_interrupt_of */
    bool removing;  /* the driver lets go: nothing waits for a recovery */
    bool verifying; /* the disk's identity is asked for after a recovery: nothing else happens */
    void *scratch; /* SK_BLOCK_IDENTITY_BYTES in the I/O buffer */
    sk_daddr scratch_address;
    uint8_t *buffer; /* the I/O buffer */
    sk_daddr buffer_address;

    /* What changes while queues are at work, apart from what each of them reads. */
    _Alignas(SKI_BLK_LINE_BYTES) sk_atomic_u32 config_events; /* counted by the handler */
    sk_atomic_u32 config_seen; /* how many of them `info` knows of */
    sk_atomic_u32 control;     /* 1: somebody talks to the transport; see ski_blk_try_control */
    enum sk_status reason;     /* why the device was stopped; set before the state */
    bool quiet;                /* the device has no memory of ours: reset, or not started yet */
    bool replaced;             /* another device came back than was there before */
    struct sk_log_limit stop_lines;
    struct sk_log_limit config_lines;
};

/* Memory for the wanted queues: DMA and private. */
struct ski_blk_memory {
    uint64_t queue_bytes;   /* of the I/O buffer for one queue */
    uint64_t buffer_bytes;  /* of the I/O buffer in all */
    uint64_t private_bytes; /* after struct ski_blk: queues, slots, stacks */
};

/* SK_OK; SK_ERR_INVALID: an option is out of its range. */
SK_MUST_CHECK enum sk_status ski_blk_check_options(const struct sk_virtio_blk_options *options);

/* What checked options cost. */
void ski_blk_memory_for(const struct sk_virtio_blk_options *options,
                        struct ski_blk_memory *out_memory);

/* A configuration field of the driver, for a table of them. */
#define SKI_BLK_FIELD(at, size, bit, member)                                  \
    {                                                                         \
        .offset = (at), .width = (size), .feature = (bit),                    \
        .out_offset = (uint16_t)offsetof(struct ski_blk_config, member)       \
    }

/* Logs that a device is refused, with the number that is wrong; returns the status. */
enum sk_status ski_blk_refuse(const struct ski_blk *blk, enum sk_status status, const char *what,
                              uint64_t value);

/*
 * Takes features out of those wanted that a disk with zones forbids; the
 * device was announced.  SK_OK; SK_ERR_UNSUPPORTED (zones that cannot be driven),
 * SK_ERR_RANGE, SK_ERR_MALFORMED, SK_ERR_BROKEN.
 */
SK_MUST_CHECK enum sk_status ski_blk_choose_zones(struct ski_blk *blk, uint64_t *wanted);

/* Checks what the configuration says of zones, and sets info->zones.  SK_OK; SK_ERR_MALFORMED. */
SK_MUST_CHECK enum sk_status ski_blk_set_zones(const struct ski_blk *blk,
                                               const struct ski_blk_config *config,
                                               struct sk_block_info *info);

/* The features that this driver implements, out of those wanted. */
uint64_t ski_blk_wanted_features(const struct sk_virtio_blk_options *options);

/*
 * Reads the configuration, refuses what cannot be driven, and fills *info up to
 * the queues.  SK_OK; SK_ERR_MALFORMED, SK_ERR_UNSUPPORTED, SK_ERR_RANGE: logged.
 */
SK_MUST_CHECK enum sk_status ski_blk_configure(struct ski_blk *blk, struct sk_block_info *info,
                                               uint32_t *out_num_queues);

/*
 * Reads it anew into block.info while queues are at work, and notes what changed.
 * The caller has the control.  As above; SK_ERR_UNSUPPORTED: it is another disk now.
 */
SK_MUST_CHECK enum sk_status ski_blk_renew_info(struct ski_blk *blk);

/* What cannot change while a driver is bound: its users, and what waits, rely on it. */
bool ski_blk_is_same_kind(const struct sk_block_info *a, const struct sk_block_info *b);

/* SK_BLOCK_CHANGED_*, as far as the configuration says. */
uint32_t ski_blk_changes_between(const struct sk_block_info *a, const struct sk_block_info *b);

/* See sk_block_set_cache; the flush is the caller's. */
enum sk_status ski_blk_set_cache(struct sk_block_device *device, enum sk_block_cache cache);

/* Lays the private memory behind `blk` out for the queues that the options want. */
void ski_blk_place(struct ski_blk *blk);

/*
 * From reset to DRIVER_OK; the state is READY afterwards.  On failure the device
 * was reset; `replaced` says if it was because another one was there the last time.
 */
SK_MUST_CHECK enum sk_status ski_blk_start(struct ski_blk *blk, uint64_t timeout_ns);

/*
 * Asks for the disk's identity; "" if it has none.  It waits, and only queue 0
 * is used.  SK_OK; what the request ended with otherwise.
 */
SK_MUST_CHECK enum sk_status ski_blk_read_identity(struct ski_blk *blk,
                                                   char out_identity[SK_BLOCK_IDENTITY_BYTES + 1]);

/*
 * The transport sees one control call at a time, whichever queue's owner makes
 * it: who has the control may look at the status and the configuration.  `try`
 * does not wait; `take` does, for the control timeout.  False: somebody else has it.
 */
bool ski_blk_try_control(struct ski_blk *blk);
SK_MUST_CHECK bool ski_blk_take_control(struct ski_blk *blk);
void ski_blk_leave_control(struct ski_blk *blk);

/* Moves to a state that the watcher hears of. */
void ski_blk_set_state(struct ski_blk *blk, enum sk_block_state state);

/*
 * Resets and waits; `tell`: tells the device before that the driver gives up.
 * The state is BROKEN then, or IN_DOUBT if the device was not seen to be quiet.
 */
void ski_blk_reset(struct ski_blk *blk, bool tell, uint64_t timeout_ns);

/* Stops the device for a reason; see sk_block_stop. */
void ski_blk_stop(struct ski_blk *blk, enum sk_status reason);

/*
 * Stops the device, tries again if it is in doubt, and completes what all its
 * queues had.  SK_OK: it is quiet; SK_ERR_IN_DOUBT.
 */
SK_MUST_CHECK enum sk_status ski_blk_quiesce(struct ski_blk *blk, enum sk_status reason,
                                             uint64_t timeout_ns);

/* What a queue is driven by, for its kind of ring; the device's own calls are the same in all. */
const struct sk_block_ops *ski_blk_ops_for(bool packed, bool in_order);

/* Completes all that a stopped device had or would have had, up to `budget`; how many. */
uint32_t ski_blk_drain(struct ski_blk_queue *queue, uint32_t budget);

/* The same for what the device had of a queue that was reset alone; the device goes on. */
void ski_blk_settle_queue(struct ski_blk_queue *queue, enum sk_status reason);

/* What waits goes to the device, if it still can. */
void ski_blk_go_again(struct ski_blk_queue *queue);

/*
 * Resets a queue alone and starts it again: what the device had of it ends with
 * `reason`, or goes again if it may be repeated and the options say so.  False: the
 * device does not offer it, or did not do it; then it must be stopped.
 */
bool ski_blk_renew_queue(struct ski_blk_queue *queue, enum sk_status reason);

/*
 * Calls back for up to `budget` requests that ended without an answer; those that
 * the callbacks submit stay.  Returns how many.
 */
uint32_t ski_blk_finish_refused(struct ski_blk_queue *queue, uint32_t budget);

/* Prepares slots, chains and lists of a queue whose memory is laid out. */
void ski_blk_queue_reset(struct ski_blk_queue *queue);

void ski_blk_submit_split(struct sk_block_queue *face, struct sk_block_request *const *requests,
                          uint32_t count);
void ski_blk_submit_packed(struct sk_block_queue *face, struct sk_block_request *const *requests,
                           uint32_t count);
void ski_blk_submit_split_in_order(struct sk_block_queue *face,
                                   struct sk_block_request *const *requests, uint32_t count);
void ski_blk_submit_packed_in_order(struct sk_block_queue *face,
                                    struct sk_block_request *const *requests, uint32_t count);
enum sk_status ski_blk_poll_split(struct sk_block_queue *face, uint32_t budget,
                                  uint32_t *out_completed);
enum sk_status ski_blk_poll_packed(struct sk_block_queue *face, uint32_t budget,
                                   uint32_t *out_completed);
enum sk_status ski_blk_poll_split_in_order(struct sk_block_queue *face, uint32_t budget,
                                           uint32_t *out_completed);
enum sk_status ski_blk_poll_packed_in_order(struct sk_block_queue *face, uint32_t budget,
                                            uint32_t *out_completed);
enum sk_status ski_blk_reset_queue(struct sk_block_queue *face);
void ski_blk_submit_list(struct sk_block_queue *face, struct sk_block_request *first);
void ski_blk_refuse_list(struct sk_block_queue *face, struct sk_block_request *first,
                         enum sk_status status);
enum sk_status ski_blk_wait(struct sk_block_queue *face, uint64_t spin_ns, uint64_t until_ns);
enum sk_status ski_blk_arm(struct sk_block_queue *face);
enum sk_status ski_blk_recover(struct sk_block_device *device, uint64_t timeout_ns);
enum sk_status ski_blk_cancel(struct sk_block_queue *face, struct sk_block_request *request);

/*
 * Interrupts.  With one of them it serves the configuration and all queues.
 * With more the first is the configuration's, and queues share the others.
 * The one of queue `index`, with `count` interrupts attached:
 */
static inline uint32_t ski_blk_interrupt_of(uint32_t index, uint32_t count)
{
    return count < 2 ? 0 : 1 + index % (count - 1);
}

/*
 * Attaches as many as the node, the transport and the platform have, and none
 * if there are none: the driver polls then.  SK_OK; the platform's status if it
 * refuses the first one.  One refused later means fewer, and a log line.
 */
SK_MUST_CHECK enum sk_status ski_blk_attach_interrupts(struct ski_blk *blk);
void ski_blk_detach_interrupts(struct ski_blk *blk);

/* Ends the rest of all owners: there is something that no interrupt tells of. */
void ski_blk_wake_all(struct ski_blk *blk);

/* The handler of the first interrupt; the argument is the struct ski_blk. */
void ski_blk_interrupt(void *argument);

/*
 * The transport-independent driver.  A transport's driver puts a struct ski_blk
 * into the node's driver memory at `offset` and opens its transport before it.
 */
SK_MUST_CHECK enum sk_status ski_blk_needs(const struct sk_virtio_blk_options *options,
                                           size_t offset, struct sk_driver_needs *out_needs);
SK_MUST_CHECK enum sk_status ski_blk_probe(struct sk_device_node *node, size_t offset,
                                           const struct sk_virtio_blk_options *options,
                                           struct sk_virtio_transport *transport);
SK_MUST_CHECK enum sk_status ski_blk_remove(struct sk_device_node *node);

/* The options of a driver, or the defaults. */
const struct sk_virtio_blk_options *ski_blk_options(const struct sk_driver *driver);

#endif
