/* SPDX-License-Identifier: MIT */
/* Sleeping until there is something for poll to do. */
#include "block/virtio_blk_slot.h"

#include <skio/checked.h>

/* How long another owner is left alone that looks at a change of the configuration. */
#define LOOK_AGAIN_NS 10000u

/* How often who spins looks at the ring before it looks at the clock, which costs more. */
#define LOOKS_PER_CLOCK 16u

/* From how many requests on their answers are gathered, and which part of them. */
#define GATHER_MIN  64u
#define GATHER_PART 4u

/* Descriptors that a chain has at least, without a table. */
#define CHAIN_LEAST 2u

/* After how many waits for the next answer, at most, it is tried again to wait for more. */
#define SINGLES_MAX 255u

/* Over about so many looks their cost is averaged, and so many waits do without when it is too high. */
#define SPINS_MEAN     16u
#define SPINS_LEFT_OUT 255u

/* From how many requests on waits that leave the look out take a short one, of that part of its time. */
#define GLANCE_MIN  8u
#define GLANCE_PART 64u
#define GLANCES_MAX 3u

/* True if poll has something to do, besides what the ring may hold. */
static bool has_work(const struct ski_blk_queue *queue)
{
    return queue->refused != NULL || !ski_blk_is_ready(queue) || ski_blk_has_news(queue) ||
           (queue->waiting != NULL && queue->free_count == queue->depth);
}

/* False while another owner looks at a change of the configuration, or nobody did. */
static bool knows_all(const struct ski_blk_queue *queue)
{
    const struct ski_blk *blk = queue->blk;

    return blk->config_events == blk->config_seen &&
           blk->block.info_sequence == queue->info_seen;
}

/* When there is something to look at, whatever the device does. */
static uint64_t wake_time(const struct ski_blk_queue *queue, uint64_t time, uint64_t until_ns)
{
    bool watched = queue->free_count != queue->depth;
    uint64_t until = watched && queue->next_tick_ns < until_ns ? queue->next_tick_ns : until_ns;

    until = queue->next_deadline_ns < until ? queue->next_deadline_ns : until;
    return !knows_all(queue) && time + LOOK_AGAIN_NS < until ? time + LOOK_AGAIN_NS : until;
}

/*
 * Rests while the queue's counter is `seen`.  A queue with an interrupt of its
 * own may say which; one that shares it is woken by the word.
 */
static void rest(struct ski_blk_queue *queue, uint32_t seen, uint64_t until)
{
    const struct ski_blk *blk = queue->blk;
    const struct sk_platform *platform = blk->block.platform;
    uint32_t index = ski_blk_interrupt_of(queue->queue.index, blk->interrupt_count);

    if (platform->wait_interrupt != NULL && blk->interrupt_count > blk->queue_count) {
        platform->wait_interrupt(platform->context, &blk->node->interrupts[index],
                                 &queue->interrupts, seen, until);
    } else if (platform->wait != NULL) {
        platform->wait(platform->context, blk->interrupt_count == 0 ? NULL : &queue->interrupts,
                       seen, until);
    }
}

/*
 * Looks at the ring, with interrupts off, until something was used: no longer
 * than `spin_ns`, and not beyond what else there is to look at.  *out_ns: how long it took.
 */
static bool look(struct ski_blk_queue *queue, uint64_t spin_ns, uint64_t until_ns,
                 uint64_t *out_ns)
{
    uint64_t begin = ski_blk_now(queue);
    uint64_t time = begin;
    uint64_t end;

    if (!sk_checked_add(time, spin_ns, &end)) {
        end = UINT64_MAX;
    }
    until_ns = wake_time(queue, time, until_ns);
    end = end < until_ns ? end : until_ns;
    do {
        for (uint32_t i = 0; i < LOOKS_PER_CLOCK; i++) {
            if (has_work(queue) || ski_ring_has_used(&queue->ring)) {
                *out_ns = time - begin; /* the last look at the clock was not long ago */
                return true;
            }
            ski_arch_relax();
        }
        time = ski_blk_now(queue);
    } while (time < end);
    *out_ns = time - begin;
    return false;
}

/*
 * With some requests at the device the next answer may be near, even if looking
 * does not pay for each: a short look, which is left out once and then 3 times after some in vain.
 */
static bool glance(struct ski_blk_queue *queue, uint64_t spin_ns, uint64_t until_ns)
{
    uint64_t took;

    if (queue->depth - queue->free_count < GLANCE_MIN) {
        return false;
    }
    if (queue->glances_left_out > 0) {
        queue->glances_left_out--;
        return false;
    }
    if (look(queue, spin_ns, until_ns, &took)) {
        queue->glances_in_vain = 0;
        return true;
    }
    if (queue->glances_in_vain < GLANCES_MAX) {
        queue->glances_in_vain = 2 * queue->glances_in_vain + 1;
    }
    queue->glances_left_out = queue->glances_in_vain;
    return false;
}

/*
 * Looking first is worth it as long as it takes much less time than is allowed,
 * on average, with what was in vain counted twice.  Otherwise the next waits sleep at
 * once; after these it may show again.
 */
static bool spin(struct ski_blk_queue *queue, uint64_t spin_ns, uint64_t until_ns)
{
    bool enough;
    uint64_t took;

    if (queue->spins_left_out > 0) {
        queue->spins_left_out--;
        return glance(queue, spin_ns / GLANCE_PART, until_ns);
    }
    enough = look(queue, spin_ns, until_ns, &took);
    queue->queue.statistics.spins++;
    queue->queue.statistics.spins_enough += enough;
    took = took < spin_ns ? took : spin_ns; /* what is longer was somebody else's time */
    queue->spin_cost_ns += (enough ? took : 2 * took) / SPINS_MEAN -
                           queue->spin_cost_ns / SPINS_MEAN;
    if (queue->spin_cost_ns > spin_ns / 4) {
        queue->spin_cost_ns = spin_ns / 8; /* two in vain, and it is so again */
        queue->spins_left_out = SPINS_LEFT_OUT;
    }
    return enough;
}

/*
 * How many more answers than one this wait asks for: a quarter of what is at
 * the device, if that is allowed and was worth it lately.
 */
static uint32_t more_wanted(struct ski_blk_queue *queue)
{
    uint32_t at_device = queue->depth - queue->free_count;

    if (queue->queue.gather_ns == 0 || at_device < GATHER_MIN ||
        queue->blk->interrupt_count == 0 || !ski_ring_has_event_index(&queue->ring)) {
        return 0;
    }
    if (queue->single > 0) {
        queue->single--;
        return 0;
    }
    return at_device / GATHER_PART - 1;
}

/* Rests until an interrupt that means this queue; false: none came by `until_ns`. */
static bool rest_until(struct ski_blk_queue *queue, uint32_t seen, uint64_t until_ns)
{
    while (!has_work(queue)) {
        uint32_t interrupts = queue->interrupts;

        if (interrupts != seen && ski_ring_has_used(&queue->ring)) {
            return true;
        }
        if (ski_blk_now(queue) >= until_ns) {
            return false;
        }
        queue->queue.statistics.waits++;
        seen = interrupts;
        rest(queue, seen, until_ns);
    }
    return true;
}

/*
 * Sleeps until the device answered `more` than one, but not longer than was
 * allowed.  True: it did, or something else is to be done.  After it was in
 * vain it is not tried for twice as many waits as the last time.
 */
static bool gather(struct ski_blk_queue *queue, uint32_t more, uint64_t until_ns)
{
    uint32_t behind = queue->ring.is_packed && !queue->indirect ? more * CHAIN_LEAST : more;
    uint32_t seen = queue->interrupts;
    uint64_t time = ski_blk_now(queue);
    uint64_t end = time + queue->queue.gather_ns;

    until_ns = wake_time(queue, time, until_ns);
    if (has_work(queue) || ski_ring_interrupts_at(&queue->ring, behind) ||
        rest_until(queue, seen, end < until_ns ? end : until_ns)) {
        queue->singles = 0;
        return true;
    }
    queue->singles = queue->singles < SINGLES_MAX ? 2 * queue->singles + 1 : SINGLES_MAX;
    queue->single = queue->singles;
    return false;
}

/* Sleeps until there is something for poll, or `until_ns`. */
static enum sk_status sleep_until(struct ski_blk_queue *queue, uint64_t until_ns)
{
    for (;;) {
        uint32_t seen = queue->interrupts;
        uint64_t time;

        if (has_work(queue) || ski_ring_interrupts_on(&queue->ring)) {
            return SK_OK;
        }
        ski_blk_look_at_clock(queue);
        ski_blk_look_at_events(queue);
        time = ski_blk_now(queue);
        if (has_work(queue) || time >= until_ns) {
            return has_work(queue) ? SK_OK : SK_ERR_TIMEOUT;
        }
        queue->queue.statistics.waits++;
        rest(queue, seen, wake_time(queue, time, until_ns));
    }
}

enum sk_status ski_blk_wait(struct sk_block_queue *face, uint64_t spin_ns, uint64_t until_ns)
{
    struct ski_blk_queue *queue = SK_CONTAINER_OF(face, struct ski_blk_queue, queue);
    enum sk_status status = SK_OK;
    uint32_t more;

    if (queue->turn == SKI_BLK_POLLING) {
        return SK_ERR_BUSY;
    }
    more = more_wanted(queue);
    if (more == 0 && spin_ns > 0 && spin(queue, spin_ns, until_ns)) {
        return SK_OK;
    }
    if (more == 0 || !gather(queue, more, until_ns)) {
        status = sleep_until(queue, until_ns);
    }
    if (ski_blk_is_ready(queue)) {
        ski_ring_interrupts_off(&queue->ring);
    }
    return status;
}

enum sk_status ski_blk_arm(struct sk_block_queue *face)
{
    struct ski_blk_queue *queue = SK_CONTAINER_OF(face, struct ski_blk_queue, queue);
    const struct ski_blk *blk = queue->blk;
    bool kept = blk->options.recovery == SK_VIRTIO_BLK_RECOVERY_RESUBMIT;
    bool empty = queue->refused == NULL && (queue->waiting == NULL || kept) &&
                 queue->flushing == NULL && queue->free_count == queue->depth;

    if (queue->turn == SKI_BLK_POLLING) {
        return SK_ERR_BUSY;
    }
    if (blk->interrupt_count == 0) {
        return SK_ERR_UNSUPPORTED;
    }
    if (empty && ski_blk_poll_status(queue) != SK_OK) {
        return ski_blk_poll_status(queue);
    }
    if (has_work(queue)) {
        return SK_ERR_AGAIN;
    }
    queue->turn = SKI_BLK_ARMED;
    if (ski_ring_interrupts_on(&queue->ring)) {
        return SK_ERR_AGAIN;
    }
    /* An interrupt that told of a change may have come while nobody slept. */
    return knows_all(queue) ? SK_OK : SK_ERR_AGAIN;
}
