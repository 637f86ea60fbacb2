/* SPDX-License-Identifier: MIT */
#include <stdatomic.h>

#include "arch/arch.h"
#include "console.h"
#include "scrub.h"

#define FAILURES_MAX   64u
#define RECOVERIES_MAX 16u
#define NAP_NS         UINT64_C(100000000)
#define SHORT_NAP_NS   UINT64_C(1000000)
#define BREAK_NS       UINT64_C(200000000)
#define RECOVER_NS     UINT64_C(5000000000)

void scrub_failed(struct scrub *scrub)
{
    if (++scrub->failures == FAILURES_MAX && !scrub->plan->persist) {
        console_print("%s: %u failures are enough: stopped; to go on: persist\n", scrub->name,
                      FAILURES_MAX);
        scrub->stopped = true;
    }
}

/* -- Requests -- */

static void complete(struct sk_block_request *request)
{
    struct scrub_lane *lane = request->context;

    lane->state = SCRUB_LANE_DONE;
    lane->scrub->in_flight--;
}

static bool prepare(struct scrub *scrub, struct scrub_lane *lane, struct sk_block_queue *queue)
{
    const struct extent *extent = &scrub->records[scrub->next].extent;
    bool clear = scrub->writing && extent->kind == EXTENT_ZEROES &&
                 scrub->disk.info.write_zeroes.sectors_max != 0;

    lane->number = scrub->next;
    lane->queue = queue;
    lane->request = (struct sk_block_request){
        .operation = scrub->writing ? SK_BLOCK_WRITE : SK_BLOCK_READ,
        .flags = scrub->writing && extent->kind == EXTENT_DURABLE ? SK_BLOCK_FLAG_FUA : 0,
        .sector = extent->sector,
        .complete = complete,
        .context = lane,
    };
    if (!scrub_lane_prepare(lane, scrub->writing && !clear)) {
        scrub->stopped = true;
        return false;
    }
    if (clear) {
        lane->request.operation = SK_BLOCK_WRITE_ZEROES;
        lane->request.sector_count = extent->sectors;
        lane->request.segments = NULL;
        lane->request.segment_count = 0;
    }
    return true;
}

/* An idle lane if the next extent may go now; NULL: something must end first. */
static struct scrub_lane *next_lane(struct scrub *scrub)
{
    const struct extent *extent;
    struct scrub_lane *idle = NULL;

    while (!scrub->writing && scrub->next < scrub->limit && scrub->records[scrub->next].failed) {
        scrub->next++;
    }
    if (scrub->next == scrub->limit || scrub->stopped || scrub->repeat) {
        return NULL;
    }
    extent = &scrub->records[scrub->next].extent;
    for (uint64_t i = 0; i < scrub->plan->depth; i++) {
        struct scrub_lane *lane = &scrub->lanes[i];

        if (lane->state == SCRUB_LANE_IDLE) {
            idle = lane;
        } else if (scrub->writing &&
                   extents_overlap(extent, &scrub->records[lane->number].extent)) {
            return NULL;
        }
    }
    return idle;
}

/* All that may go now, in one batch on the queue whose turn it is. */
static void submit(struct scrub *scrub)
{
    struct sk_block_request *batch[SCRUB_DEPTH_MAX];
    struct sk_block_queue *queue = scrub->queues[scrub->turn].queue;
    uint32_t count = 0;
    struct scrub_lane *lane;

    while ((lane = next_lane(scrub)) != NULL && prepare(scrub, lane, queue)) {
        lane->state = SCRUB_LANE_BUSY;
        batch[count++] = &lane->request;
        scrub->next++;
    }
    if (count > 0) {
        scrub->in_flight += count;
        scrub->turn = (scrub->turn + 1) % scrub->queue_count;
        sk_block_submit(queue, batch, count);
    }
}

/* True for what a stopped device answers, which says nothing of the request itself. */
static bool is_fault(enum sk_status status)
{
    return status == SK_ERR_TIMEOUT || status == SK_ERR_MALFORMED || status == SK_ERR_BROKEN;
}

static void take(struct scrub *scrub, struct scrub_lane *lane)
{
    struct scrub_record *record = &scrub->records[lane->number];
    enum sk_status status = lane->request.status;

    lane->state = SCRUB_LANE_IDLE;
    scrub->in_doubt |= status == SK_ERR_IN_DOUBT;
    if (status == SK_OK) {
        if (scrub->writing) {
            record->failed = false; /* as it was before a flush failed, perhaps */
        } else {
            scrub_lane_compare(lane);
        }
        return;
    }
    if (scrub->plan->retry && is_fault(status)) {
        scrub->repeat = true;
        return;
    }
    record->failed = true;
    console_print("%s: %s of extent %lu, %u sectors at %lu, queue %u failed: %s\n", scrub->name,
                  scrub->writing ? "write" : "read", lane->number, (unsigned)record->extent.sectors,
                  record->extent.sector, (unsigned)lane->queue->index, sk_status_text(status));
    scrub_failed(scrub);
}

/* -- The work -- */

/* Sleeps until one of the queues may have something; the wait itself looks first. */
static void rest(const struct scrub *scrub)
{
    struct sk_block_queue *busy = NULL;
    enum sk_status status;
    bool several = false;

    for (uint64_t i = 0; i < scrub->plan->depth; i++) {
        if (scrub->lanes[i].state == SCRUB_LANE_BUSY) {
            several |= busy != NULL && busy != scrub->lanes[i].queue;
            busy = scrub->lanes[i].queue;
        }
    }
    if (busy != NULL) { /* it says when this queue has something; the others are looked at soon */
        status = sk_block_wait(busy, arch_now_ns() + (several ? SHORT_NAP_NS : NAP_NS));
        (void)status; /* the poll tells */
    }
}

/* Completes what is there. */
static void look(struct scrub *scrub)
{
    for (uint32_t i = 0; i < scrub->queue_count; i++) {
        enum sk_status status = sk_block_poll(scrub->queues[i].queue, 0, NULL);

        (void)status; /* each request has its own, and `mend` looks at the device */
    }
}

/* Nobody recovers the device: what waits for that shall not. */
static void give_up(struct scrub *scrub)
{
    scrub->stopped = true;
    for (uint64_t i = 0; i < scrub->plan->depth; i++) {
        struct scrub_lane *lane = &scrub->lanes[i];

        if (lane->state == SCRUB_LANE_BUSY) {
            enum sk_status status = sk_block_cancel(lane->queue, &lane->request);

            (void)status; /* what was not waiting ends by itself */
        }
    }
}

/* A device that was stopped: brought back, or the end. */
static void mend(struct scrub *scrub)
{
    enum sk_block_state state = sk_block_get_state(scrub->disk.device);
    enum sk_status status;

    if (state == SK_BLOCK_STATE_READY || state == SK_BLOCK_STATE_RESETTING) {
        return;
    }
    if (scrub->stopped) {
        give_up(scrub);
        return;
    }
    if (!scrub->plan->retry || scrub->recoveries == RECOVERIES_MAX) {
        console_print("%s: stopped, the disk is %s; bring it back with: recover\n", scrub->name,
                      sk_block_state_name(state));
        give_up(scrub);
        return;
    }
    scrub->recoveries++; /* the only hart: nobody else may use a queue meanwhile */
    status = sk_block_recover(scrub->disk.device, RECOVER_NS);
    console_print("%s: the disk was stopped with %lu extents durable; recovered: %s\n", scrub->name,
                  scrub->durable, status == SK_OK ? "yes" : sk_status_text(status));
    if (status != SK_OK) {
        give_up(scrub);
    }
}

static void set_limit(struct scrub *scrub)
{
    uint64_t left = scrub->plan->count - scrub->next;

    scrub->limit =
        scrub->next + (scrub->writing && scrub->plan->every < left ? scrub->plan->every : left);
}

/*
 * At a limit, with nothing in flight.  After a flush that failed nobody knows
 * what is durable of the writes before it, so they are done again.
 */
static void flush(struct scrub *scrub)
{
    struct sk_block_queue *queue = scrub->queues[scrub->turn].queue;
    enum sk_status status = sk_block_flush(queue, 0);

    if (status == SK_OK) {
        scrub->durable = scrub->next;
        console_print("%s: %lu extents are durable\n", scrub->name, scrub->durable);
        set_limit(scrub);
        return;
    }
    if (!scrub->plan->retry || !is_fault(status)) {
        console_print("%s: flush of extents %lu to %lu failed, queue %u: %s\n", scrub->name,
                      scrub->durable, scrub->next - 1, (unsigned)queue->index,
                      sk_status_text(status));
        scrub_failed(scrub);
        scrub->stopped |= status != SK_ERR_IO;
    }
    scrub->repeat = true;
}

static void look_for_break(struct scrub *scrub)
{
    scrub->stopped |= atomic_load(&scrub->plan->stopped) != 0;
    if (scrub->hart != 0 || !scrub->plan->interactive || scrub->stopped ||
        arch_now_ns() < scrub->look_ns) {
        return;
    }
    scrub->look_ns = arch_now_ns() + BREAK_NS;
    if (console_take_break()) {
        console_print("%s: stopped\n", scrub->name);
        atomic_store(&scrub->plan->stopped, 1);
    }
}

/* A disk may grow and shrink; what lies beyond its end fails from then on. */
static void look_at_capacity(struct scrub *scrub)
{
    struct sk_block_info info;

    sk_block_get_info(scrub->disk.device, &info);
    if (info.capacity_sectors != scrub->disk.info.capacity_sectors) {
        console_print("%s: the disk has %lu sectors now, it had %lu\n", scrub->name,
                      info.capacity_sectors, scrub->disk.info.capacity_sectors);
        scrub->disk.info.capacity_sectors = info.capacity_sectors;
    }
}

/* All extents once: written and flushed, or read and compared. */
static void pass(struct scrub *scrub, bool writing)
{
    scrub->writing = writing;
    scrub->next = 0;
    set_limit(scrub);
    while (scrub->in_flight > 0 ||
           (!scrub->stopped && (writing ? scrub->durable : scrub->next) < scrub->plan->count)) {
        if (scrub->in_flight == 0 && scrub->repeat) {
            scrub->repeat = false;
            scrub->next = writing ? scrub->durable : 0;
            scrub->equal = 0;
            set_limit(scrub);
        }
        submit(scrub);
        if (!scrub->plan->poll) {
            rest(scrub);
        }
        look(scrub);
        for (uint64_t i = 0; i < scrub->plan->depth; i++) {
            if (scrub->lanes[i].state == SCRUB_LANE_DONE) {
                take(scrub, &scrub->lanes[i]);
            }
        }
        mend(scrub);
        look_at_capacity(scrub);
        if (writing && !scrub->stopped && !scrub->repeat && scrub->in_flight == 0 &&
            scrub->next == scrub->limit) {
            flush(scrub);
        }
        look_for_break(scrub);
    }
}

/* Before the work: keeps the counters; after it: says what was added. */
static void look_at_queues(struct scrub *scrub, bool after)
{
    for (uint32_t i = 0; i < scrub->queue_count; i++) {
        struct scrub_queue *queue = &scrub->queues[i];
        struct sk_block_statistics now;

        sk_block_get_statistics(queue->queue, &now);
        if (after) {
            console_print("%s: queue %u: %lu requests, %lu interrupts\n", scrub->name,
                          (unsigned)queue->queue->index, now.requests - queue->requests,
                          now.interrupts - queue->interrupts);
        }
        queue->requests = now.requests;
        queue->interrupts = now.interrupts;
    }
}

void scrub_run(void *argument)
{
    struct scrub *scrub = argument;

    look_at_queues(scrub, false);
    if (!scrub->plan->read) {
        pass(scrub, true);
    }
    if (!scrub->stopped) {
        pass(scrub, false);
    }
    look_at_queues(scrub, true);
}
