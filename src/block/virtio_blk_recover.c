/* SPDX-License-Identifier: MIT */
/*
 * Stopping the device and bringing it back, in the only safe order: reset,
 * wait, settle, free.  A fault of any kind comes this way.
 */
#include "block/virtio_blk_slot.h"

#include "base/bytes.h"
#include "block/block_watch.h"

#include <skio/checked.h>

#define PAUSE_NS 10000u

static const struct sk_log *log_of(const struct ski_blk *blk)
{
    return blk->block.platform->log;
}

static unsigned long long address_of(const struct ski_blk *blk)
{
    return (unsigned long long)blk->virtio.transport->address;
}

/* ---- Control calls: the transport sees one at a time ------------------------------------ */

bool ski_blk_try_control(struct ski_blk *blk)
{
    uint32_t nobody = 0;

    return atomic_compare_exchange_strong_explicit(&blk->control, &nobody, 1,
                                                   memory_order_acquire, memory_order_relaxed);
}

void ski_blk_leave_control(struct ski_blk *blk)
{
    atomic_store_explicit(&blk->control, 0, memory_order_release);
}

bool ski_blk_take_control(struct ski_blk *blk)
{
    const struct sk_platform *platform = blk->block.platform;
    uint64_t now = platform->now_ns(platform->context);
    uint64_t deadline;

    if (!sk_checked_add(now, blk->options.control_timeout_ns, &deadline)) {
        deadline = UINT64_MAX;
    }
    while (!ski_blk_try_control(blk)) {
        now = platform->now_ns(platform->context);
        if (now >= deadline) {
            return false;
        }
        if (platform->wait != NULL) {
            platform->wait(platform->context, NULL, 0,
                           deadline - now > PAUSE_NS ? now + PAUSE_NS : deadline);
        }
    }
    return true;
}

/* ---- Stop ------------------------------------------------------------------------------- */

void ski_blk_set_state(struct ski_blk *blk, enum sk_block_state state)
{
    blk->block.state = state;
    ski_block_note(&blk->block, SK_BLOCK_CHANGED_STATE);
}

void ski_blk_reset(struct ski_blk *blk, bool tell, uint64_t timeout_ns)
{
    if (ski_blk_take_control(blk)) {
        if (tell) {
            ski_virtio_device_fail(&blk->virtio);
        }
        blk->quiet = ski_virtio_device_reset(&blk->virtio, timeout_ns) == SK_OK;
        ski_blk_leave_control(blk);
    }
    ski_blk_set_state(blk, blk->quiet ? SK_BLOCK_STATE_BROKEN : SK_BLOCK_STATE_IN_DOUBT);
}

static void stop(struct ski_blk *blk, enum sk_status reason, uint64_t timeout_ns)
{
    uint32_t ready = SK_BLOCK_STATE_READY;

    if (!atomic_compare_exchange_strong(&blk->block.state, &ready, SK_BLOCK_STATE_RESETTING)) {
        return;
    }
    blk->reason = reason == SK_OK ? SK_ERR_BROKEN : reason;
    if (sk_log_limit_pass(&blk->stop_lines)) {
        sk_log_print(log_of(blk), blk->removing ? SK_LOG_DEBUG : SK_LOG_ERROR,
                     "virtio-blk 0x%llx: stopped: %s", address_of(blk),
                     sk_status_text(blk->reason));
    }
    ski_blk_reset(blk, true, timeout_ns);
    ski_blk_wake_all(blk);
}

void ski_blk_stop(struct ski_blk *blk, enum sk_status reason)
{
    stop(blk, reason, blk->options.control_timeout_ns);
}

enum sk_status ski_blk_quiesce(struct ski_blk *blk, enum sk_status reason, uint64_t timeout_ns)
{
    bool failed = blk->block.state == SK_BLOCK_STATE_FAILED;

    stop(blk, reason, timeout_ns);
    if (!blk->quiet) {
        ski_blk_reset(blk, false, timeout_ns);
    }
    if (failed) {
        blk->block.state = SK_BLOCK_STATE_FAILED;
    }
    for (uint32_t i = 0; i < blk->queue_count; i++) {
        (void)ski_blk_drain(&blk->queues[i], UINT32_MAX);
    }
    return blk->quiet ? SK_OK : SK_ERR_IN_DOUBT;
}

/* ---- Recover ----------------------------------------------------------------------------- */

/* For good: what the queues still have ends with `reason`, and so does all that comes. */
static enum sk_status fail(struct ski_blk *blk, enum sk_status reason, const char *what)
{
    sk_log_print(log_of(blk), SK_LOG_ERROR, "virtio-blk 0x%llx: failed for good: %s",
                 address_of(blk), what);
    ski_blk_stop(blk, reason);
    blk->reason = reason;
    ski_blk_set_state(blk, SK_BLOCK_STATE_FAILED);
    for (uint32_t i = 0; i < blk->queue_count; i++) {
        (void)ski_blk_drain(&blk->queues[i], UINT32_MAX);
    }
    return reason;
}

/* Sets the cache to what the user chose, if the reset undid that. */
static void restore_cache(struct ski_blk *blk, enum sk_block_cache cache)
{
    if (blk->block.info.cache != cache && blk->block.info.cache_can_change) {
        (void)ski_blk_set_cache(&blk->block, cache); /* logged; the watcher hears of it */
    }
}

/*
 * The disk must be the one that it was: what waits was meant for that one.
 * Until it is known, nothing but the question goes to it, and nobody is called back.
 */
static enum sk_status verify(struct ski_blk *blk)
{
    char identity[SK_BLOCK_IDENTITY_BYTES + 1] = { 0 };
    struct ski_blk_queue *queue = &blk->queues[0];
    struct sk_block_request *waiting = queue->waiting;
    struct sk_block_request **waiting_last = queue->waiting_last;
    struct sk_block_request *refused = queue->refused;
    struct sk_block_request **refused_last = queue->refused_last;
    enum sk_status status;

    queue->waiting = NULL;
    queue->waiting_last = &queue->waiting;
    queue->refused = NULL;
    queue->refused_last = &queue->refused;
    status = ski_blk_read_identity(blk, identity);
    if (waiting != NULL) {
        queue->waiting = waiting;
        queue->waiting_last = waiting_last;
    }
    if (refused != NULL) {
        queue->refused = refused;
        queue->refused_last = refused_last;
    }
    if (blk->block.state != SK_BLOCK_STATE_READY) {
        return status;
    }
    if (blk->block.info.identity[0] == '\0') {
        return SK_OK; /* it never had one */
    }
    if (status != SK_OK) {
        return status;
    }
    return memcmp(identity, blk->block.info.identity, sizeof(identity)) == 0 ? SK_OK : SK_ERR_GONE;
}

void ski_blk_go_again(struct ski_blk_queue *queue)
{
    struct sk_block_request *list = queue->waiting;

    queue->waiting = NULL;
    queue->waiting_last = &queue->waiting;
    while (list != NULL) {
        struct sk_block_request *request = list;

        list = request->next;
        queue->queue.statistics.resubmitted += request->repeats > 0;
        if (request->status == SK_OK && ski_blk_admit(queue, request)) {
            ski_blk_append(&queue->waiting_last, request);
        } else {
            ski_blk_end_unanswered(queue, request);
        }
    }
    ski_blk_issue_waiting(queue);
    ski_blk_publish(queue);
}

static enum sk_status bring_back(struct ski_blk *blk, uint64_t timeout_ns)
{
    enum sk_block_cache cache = blk->block.info.cache;
    enum sk_status status = ski_blk_start(blk, timeout_ns);

    if (blk->replaced) {
        return fail(blk, SK_ERR_UNSUPPORTED, "another kind of device came back");
    }
    if (status == SK_OK) {
        status = verify(blk);
    }
    if (status == SK_ERR_GONE) {
        return fail(blk, SK_ERR_GONE, "another disk came back");
    }
    if (status != SK_OK) {
        ski_blk_stop(blk, status);
        return status;
    }
    restore_cache(blk, cache);
    for (uint32_t i = 0; i < blk->queue_count; i++) {
        ski_blk_go_again(&blk->queues[i]);
    }
    blk->queues[0].queue.statistics.recoveries++;
    return SK_OK;
}

enum sk_status ski_blk_recover(struct sk_block_device *device, uint64_t timeout_ns)
{
    struct ski_blk *blk = SK_CONTAINER_OF(device, struct ski_blk, block);
    enum sk_status status;

    if (device->state == SK_BLOCK_STATE_REMOVED) {
        return SK_ERR_GONE;
    }
    for (uint32_t i = 0; i < blk->queue_count; i++) {
        if (blk->queues[i].turn == SKI_BLK_POLLING) {
            return SK_ERR_BUSY;
        }
    }
    if (device->state == SK_BLOCK_STATE_FAILED) {
        return blk->reason;
    }
    timeout_ns = timeout_ns == 0 ? blk->options.control_timeout_ns : timeout_ns;
    status = ski_blk_quiesce(blk, SK_ERR_BROKEN, timeout_ns);
    if (ski_virtio_device_is_gone(&blk->virtio)) {
        return fail(blk, SK_ERR_GONE, "the device is gone");
    }
    return status == SK_OK ? bring_back(blk, timeout_ns) : status;
}

static void stop_device(struct sk_block_device *device, enum sk_status reason)
{
    ski_blk_stop(SK_CONTAINER_OF(device, struct ski_blk, block), reason);
}

#define OPS(kind)                                                                              \
    {                                                                                          \
        .submit = ski_blk_submit_##kind, .poll = ski_blk_poll_##kind, .wait = ski_blk_wait,    \
        .arm = ski_blk_arm, .recover = ski_blk_recover, .stop = stop_device,                   \
        .cancel = ski_blk_cancel, .set_cache = ski_blk_set_cache,                              \
        .feature_name = sk_virtio_blk_feature_name, .submit_list = ski_blk_submit_list,        \
        .refuse_list = ski_blk_refuse_list, .reset_queue = ski_blk_reset_queue                 \
    }

const struct sk_block_ops *ski_blk_ops_for(bool packed, bool in_order)
{
    static const struct sk_block_ops split = OPS(split);
    static const struct sk_block_ops packed_ring = OPS(packed);
    static const struct sk_block_ops split_in_order = OPS(split_in_order);
    static const struct sk_block_ops packed_in_order = OPS(packed_in_order);

    if (in_order) {
        return packed ? &packed_in_order : &split_in_order;
    }
    return packed ? &packed_ring : &split;
}
