/* SPDX-License-Identifier: MIT */
/*
 * Slots: what a request at the device consists of, and what the files that
 * deal with requests say to each other.
 */
#ifndef SKI_BLOCK_VIRTIO_BLK_SLOT_H
#define SKI_BLOCK_VIRTIO_BLK_SLOT_H

#include "block/block_latency.h"
#include "block/block_watch.h"
#include "block/virtio_blk.h"

/* `sk_block_request.after`, besides what is there for times: the device had a part of it. */
#define SKI_BLK_AFTER_BEGUN 0x80u

/* What one part of a request consists of. */
struct ski_blk_part {
    uint32_t type;
    uint32_t segment_flags; /* SKI_RING_WRITE where the device writes */
    uint64_t sector;
    uint32_t bytes; /* of data; sectors of ranges */
    uint32_t count; /* segments */
    bool append;    /* a zone append, whose answer is longer */
};

static inline bool ski_blk_is_ready(const struct ski_blk_queue *queue)
{
    return atomic_load_explicit(&queue->blk->block.state, memory_order_acquire) ==
           SK_BLOCK_STATE_READY;
}

static inline uint64_t ski_blk_start_word(uint32_t bytes, uint16_t place, uint8_t segments,
                                          uint8_t mark)
{
    return bytes | (uint64_t)place << SKI_BLK_START_PLACE |
           (uint64_t)segments << SKI_BLK_START_SEGMENTS | (uint64_t)mark << SKI_BLK_START_MARK;
}

static inline uint32_t ski_blk_bytes_of(const struct ski_blk_slot *slot)
{
    return (uint32_t)slot->start;
}

static inline uint16_t ski_blk_place_of(const struct ski_blk_slot *slot)
{
    return (uint16_t)(slot->start >> SKI_BLK_START_PLACE);
}

static inline uint8_t ski_blk_segments_of(const struct ski_blk_slot *slot)
{
    return (uint8_t)(slot->start >> SKI_BLK_START_SEGMENTS);
}

static inline uint8_t ski_blk_mark_of(const struct ski_blk_slot *slot)
{
    return (uint8_t)(slot->start >> SKI_BLK_START_MARK);
}

static inline void ski_blk_set_segments(struct ski_blk_slot *slot, uint8_t segments)
{
    slot->start = ski_blk_start_word(ski_blk_bytes_of(slot), ski_blk_place_of(slot), segments,
                                     ski_blk_mark_of(slot));
}

/* What slots are marked with that start from now on, if they are whole. */
static inline void ski_blk_set_mark(struct ski_blk_queue *queue, uint8_t mark)
{
    queue->mark = mark;
    queue->simple_start = ski_blk_start_word(0, 0, 1, mark);
}

/* Where a slot's chain begins: its own table, or its part of the descriptor table. */
static inline struct ski_ring_descriptor SKI_SHARED *
ski_blk_chain_of(const struct ski_blk_queue *queue, uint32_t slot)
{
    return queue->indirect ? queue->chains + slot * queue->table_length : queue->chains + slot;
}

/* Where the device finds a slot's header, status byte and table. */
static inline uint64_t ski_blk_frame_address(const struct ski_blk_queue *queue, uint32_t slot)
{
    return queue->frames_address.raw + (uint64_t)slot * sizeof(struct ski_blk_frame);
}

static inline uint64_t ski_blk_status_address(const struct ski_blk_queue *queue, uint32_t slot)
{
    return ski_blk_frame_address(queue, slot) + offsetof(struct ski_blk_frame, status);
}

static inline uint64_t ski_blk_table_address(const struct ski_blk_queue *queue, uint32_t slot)
{
    return queue->tables_address.raw +
           (uint64_t)(slot * queue->table_length) * sizeof(struct ski_ring_descriptor);
}

/* Where a slot's ranges lie: in its table, behind a chain with one segment. */
static inline uint64_t ski_blk_ranges_offset(const struct ski_blk_queue *queue, uint32_t slot)
{
    return (uint64_t)(slot * queue->table_length + SKI_BLK_CHAIN_FIXED + 1) *
           sizeof(struct ski_ring_descriptor);
}

/* Range `index` of a request on ranges. */
static inline struct sk_block_range ski_blk_range_at(const struct sk_block_request *request,
                                                     uint32_t index)
{
    struct sk_block_range only = { request->sector, request->sector_count };

    return request->range_count == 0 ? only : request->ranges[index];
}

static inline uint32_t ski_blk_table_bytes(uint32_t segments)
{
    return (segments + SKI_BLK_CHAIN_FIXED) * (uint32_t)sizeof(struct ski_ring_descriptor);
}

/* How many starts ago one was.  Only their order matters: 16 bits do. */
static inline uint16_t ski_blk_starts_since(const struct ski_blk_queue *queue, uint16_t place)
{
    return (uint16_t)((queue->ring.is_packed ? queue->started : queue->ring.split.added) - place);
}

/* How many ticks of the queue a part in flight has seen. */
static inline uint32_t ski_blk_ticks_since(const struct ski_blk_queue *queue,
                                           const struct ski_blk_slot *slot)
{
    return (uint8_t)(queue->mark - ski_blk_mark_of(slot)) / SKI_BLK_TICK; /* rounds a part's missing bit off */
}

/* Most requests have no deadline of their own. */
static inline void ski_blk_note_deadline(struct ski_blk_queue *queue,
                                         const struct sk_block_request *request)
{
    if (SKI_RARELY(request->deadline_ns != 0) && request->deadline_ns < queue->next_deadline_ns) {
        queue->next_deadline_ns = request->deadline_ns;
    }
}

/* IN_ORDER: slots are used in turn.  In a split ring each has a table, and its place's number. */
static inline uint32_t ski_blk_slot_in_turn(const struct ski_blk_queue *queue, bool packed)
{
    return packed ? queue->next_slot : queue->ring.split.added & queue->ring.split.mask;
}

/* ... and answered in turn: the one that has been at the device for the longest time. */
static inline uint32_t ski_blk_oldest_slot(const struct ski_blk_queue *queue, bool packed)
{
    return packed ? queue->oldest_slot : queue->ring.split.taken & queue->ring.split.mask;
}

static inline uint16_t ski_blk_slot_after(const struct ski_blk_queue *queue, uint32_t slot)
{
    return (uint16_t)(slot + 1 == queue->depth ? 0 : slot + 1);
}

/* The slot that the next part will be in; there is a free one. */
static inline uint32_t ski_blk_next_slot(const struct ski_blk_queue *queue)
{
    return queue->in_order ? ski_blk_slot_in_turn(queue, queue->ring.is_packed)
                           : queue->free_slots[queue->free_count - 1];
}

/*
 * Ends a slot's chain behind `count` data segments.  Done only when the number
 * differs from the slot's last one, which it rarely does.
 */
void ski_blk_end_chain(struct ski_blk_queue *queue, uint32_t slot, uint32_t count);

/* Starts one part in the next slot; the data descriptors are written already. */
void ski_blk_start_slot(struct ski_blk_queue *queue, struct sk_block_request *request,
                        const struct ski_blk_part *part);

/* The second half of a data descriptor in a split ring; links are all to the next descriptor. */
static inline uint64_t ski_blk_link(const struct ski_blk_queue *queue, uint32_t slot,
                                    uint32_t index, uint32_t bytes, uint32_t flags)
{
    return ski_ring_rest(bytes, flags | SKI_RING_NEXT,
                         (slot & queue->link_mask) + SKI_BLK_CHAIN_DATA + 1 + index);
}

/* What does not depend on slot and length in the second half of the data of a chain that has one. */
uint64_t ski_blk_data_rest(const struct ski_blk_queue *queue, uint32_t flags);

/* One data segment; `flags` is SKI_RING_WRITE or nothing. */
void ski_blk_put_segment(struct ski_blk_queue *queue, uint32_t slot, uint32_t index,
                         uint64_t address, uint32_t bytes, uint32_t flags);

/* Counts a request that ends now by its status; nothing if it succeeded. */
static inline void ski_blk_count_error(struct ski_blk_queue *queue,
                                       const struct sk_block_request *request)
{
    if (request->status != SK_OK && (unsigned)request->status < SK_STATUS_COUNT) {
        queue->queue.statistics.errors[request->status]++;
    }
}

/* Appends to a list of requests. */
static inline void ski_blk_append(struct sk_block_request ***last,
                                  struct sk_block_request *request)
{
    request->next = NULL;
    **last = request;
    *last = &request->next;
}

/*
 * True if the parts of a request have to reach the device one after the other:
 * it writes to zones, at their write pointers.
 */
bool ski_blk_is_serial(const struct ski_blk_queue *queue, const struct sk_block_request *request);

/* Bytes from a sector to where its zone ends, if zones are in the way; else UINT64_MAX. */
uint64_t ski_blk_zone_room(const struct ski_blk_queue *queue, uint64_t sector);

/* Checks the zone operations; as ski_blk_check. */
enum sk_status ski_blk_check_zone(const struct ski_blk_queue *queue,
                                  struct sk_block_request *request);

/* What an answer means that only disks with zones give. */
enum sk_status ski_blk_zone_status(const struct ski_blk_queue *queue, uint8_t answer);

/* Takes the result of a zone append that succeeded; false: it lies outside of the zone. */
bool ski_blk_take_append(const struct ski_blk_queue *queue, uint32_t slot);

/* Memory of a request: whole blocks, at whole blocks, within the disk.  Counts its bytes. */
enum sk_status ski_blk_check_transfer(const struct ski_blk_queue *queue,
                                      struct sk_block_request *request);

/* The bytes of a request's segments, all of at least 1; 0: there are none, or an empty one. */
uint64_t ski_blk_sum_segments(const struct sk_block_request *request);

/* A request ends without an answer of the device, at the next poll. */
static inline void ski_blk_end_unanswered(struct ski_blk_queue *queue,
                                          struct sk_block_request *request)
{
    ski_blk_count_error(queue, request);
    ski_blk_append(&queue->refused_last, request);
}

/* The limits of an operation on a range of sectors; NULL: it is another operation. */
const struct sk_block_range_limits *ski_blk_range_limits(const struct ski_blk_queue *queue,
                                                         enum sk_block_operation operation);

/*
 * Looks at a request in full and counts its bytes.  SK_OK: to be issued;
 * SK_ERR_AGAIN: nothing to do, it is done; else the status it is refused with.
 */
enum sk_status ski_blk_check(const struct ski_blk_queue *queue, struct sk_block_request *request);

/*
 * Puts a request at its beginning and looks at it in full.  True: to be issued.
 * False: it has ended, refused or with nothing to do.
 */
bool ski_blk_admit(struct ski_blk_queue *queue, struct sk_block_request *request);

/* Puts a request at its beginning, to be looked at later; its own deadline counts from now on. */
void ski_blk_hold(struct ski_blk_queue *queue, struct sk_block_request *request);

/* Where a request begins, and how many bytes it moves or clears; for people. */
uint64_t ski_blk_request_sector(const struct sk_block_request *request);
uint64_t ski_blk_request_bytes(const struct sk_block_request *request);

/* True if it clears ranges. */
static inline bool ski_blk_is_on_ranges(const struct sk_block_request *request)
{
    return request->operation == SK_BLOCK_DISCARD ||
           request->operation == SK_BLOCK_WRITE_ZEROES ||
           request->operation == SK_BLOCK_SECURE_ERASE;
}

/*
 * Puts as much of a checked request as there are slots for.  True: all of it is
 * at the device, or (status not SK_OK) the rest never will be.
 */
bool ski_blk_issue(struct ski_blk_queue *queue, struct sk_block_request *request);

/*
 * True if it does no harm that the device does a request once more of which it
 * is not known whether it did it: afterwards the disk is as after once.
 */
bool ski_blk_is_repeatable(const struct ski_blk_queue *queue,
                           const struct sk_block_request *request);


/* Gives the device a queue again that was reset, as it was. */
SK_MUST_CHECK enum sk_status ski_blk_restart_queue(struct ski_blk_queue *queue);

/* Whether requests may wait for the device to come back, if it was seen to be quiet. */
static inline bool ski_blk_may_keep(const struct ski_blk *blk)
{
    return blk->options.recovery == SK_VIRTIO_BLK_RECOVERY_RESUBMIT && !blk->removing &&
           !blk->verifying;
}

/* Looks at a request in full, and issues, queues or refuses it; or keeps it for a device that is stopped. */
void ski_blk_start_request(struct ski_blk_queue *queue, struct sk_block_request *request);

/*
 * Starts a request that waited for a slot, if it is one for the short way and
 * nothing of it was at the device yet.  False: nothing was done.
 */
bool ski_blk_start_waiting(struct ski_blk_queue *queue, struct sk_block_request *request);

/* Starts requests that waited for a slot, in their order, as far as there are some. */
void ski_blk_issue_waiting(struct ski_blk_queue *queue);

/* Tells the device of what was added, if there is something. */
void ski_blk_publish(struct ski_blk_queue *queue);

/* Of polls that find something, every how manieth looks at the clock as well; a power of two. */
#define SKI_BLK_POLLS_PER_LOOK 64u

/* Requests that ended and wait for their callback, in order, from queue->ended on. */
struct ski_blk_ended {
    struct sk_block_request **last;
    uint32_t count;
};

/* Calls back; a callback may submit again, or give the request's memory away. */
SKI_INLINE void ski_blk_finish(struct ski_blk_queue *queue, struct ski_blk_ended ended)
{
    struct sk_block_request *next;

    *ended.last = NULL;
    queue->queue.statistics.requests += ended.count;
    for (next = queue->ended; next != NULL;) {
        struct sk_block_request *request = next;

        next = request->next;
        request->complete(request);
    }
}

/*
 * What poll's short way saw and could not deal with: an answer (below the
 * others) and the slot in flight that it is for, or what broke the protocol.
 */
struct ski_blk_odd {
    uint32_t what;
    uint32_t value;
};

#define SKI_BLK_ODD_NOT   0x100u /* there is nothing odd */
#define SKI_BLK_ODD_ID    0x101u /* no slot, or none in flight */
#define SKI_BLK_ODD_INDEX 0x102u /* so many completions: more than are at the device */
#define SKI_BLK_ODD_BATCH 0x103u /* IN_ORDER: none that the next completions can end with */

/*
 * Goes on where poll's short way stopped, with what it has taken so far and
 * what it saw.  Returns what poll does.
 */
enum sk_status ski_blk_poll_rest(struct ski_blk_queue *queue, uint32_t budget,
                                 uint32_t *out_completed, struct ski_blk_ended ended,
                                 struct ski_blk_odd odd);

/* IN_ORDER: the state of a queue that starts anew. */
void ski_blk_order_reset(struct ski_blk_queue *queue);

/* How many starts ago a slot in flight was started. */
uint32_t ski_blk_order_starts_since(const struct ski_blk_queue *queue,
                                    const struct ski_blk_slot *slot);

/* True if an id is one in flight. */
bool ski_blk_order_knows(const struct ski_blk_queue *queue, uint32_t id);

/* What the device says next that it is done with: the oldest slot.  Loads it all, once. */
struct ski_blk_odd ski_blk_order_next(struct ski_blk_queue *queue);

/* Moves on behind the oldest slot. */
void ski_blk_order_pass(struct ski_blk_queue *queue);

/* What poll returns in the device's state of now. */
enum sk_status ski_blk_poll_status(const struct ski_blk_queue *queue);

/* How many places of a packed ring a slot's chain takes. */
static inline uint32_t ski_blk_descriptors_of(const struct ski_blk_queue *queue, uint32_t slot)
{
    return queue->indirect ? 1u : ski_blk_segments_of(&queue->slots[slot]) + SKI_BLK_CHAIN_FIXED;
}

/*
 * IN_ORDER, 2.7.9: one used entry may speak of many chains: from the oldest on, as
 * far as the id's.  How many that are; `id` comes from the device.  0: it
 * names none of the `most` oldest ones, which are all that it may speak of.
 */
static inline uint32_t ski_blk_batch_to(const struct ski_blk_queue *queue, uint32_t id,
                                        uint32_t most, bool packed)
{
    uint32_t oldest = ski_blk_oldest_slot(queue, packed);
    uint32_t behind = packed ? id - oldest + (id < oldest ? queue->depth : 0)
                             : (id - oldest) & queue->ring.split.mask;

    return behind < most && id < queue->depth ? behind + 1 : 0;
}

/* The device broke the protocol: says so and stops it. */
void ski_blk_violated(struct ski_blk_queue *queue, const char *what, uint32_t value);

/* Copies what can change of block.info into the queue, and the limits that follow from it. */
void ski_blk_use_info(struct ski_blk_queue *queue, const struct sk_block_info *info);

/* Ages the requests at the device; stops it when one is overdue. */
void ski_blk_look_at_clock(struct ski_blk_queue *queue);

/* Follows configuration changes that the interrupt handler counted, and tells the watcher. */
void ski_blk_look_at_events(struct ski_blk_queue *queue);

/* Tells the watcher what there is to tell, if this is the queue that does. */
void ski_blk_tell(struct ski_blk_queue *queue);

static inline bool ski_blk_has_news(const struct ski_blk_queue *queue)
{
    return queue->queue.index == 0 && !queue->blk->verifying &&
           ski_block_has_news(queue->queue.device);
}

/* Ends waiting requests that reach beyond the disk's end, which came nearer. */
void ski_blk_end_beyond(struct ski_blk_queue *queue);

/*
 * Ends waiting requests whose deadline passed.  One that the device has, or NULL:
 * the next deadline is known then.
 */
const struct sk_block_request *ski_blk_end_late(struct ski_blk_queue *queue, uint64_t time);

/* The platform's clock. */
uint64_t ski_blk_now(const struct ski_blk_queue *queue);

#endif
