/* SPDX-License-Identifier: MIT */
/*
 * RING_RESET: one queue goes through what a whole device goes through otherwise,
 * in the same order: reset, wait, settle, and then it is used again.
 */
#include "block/virtio_blk_slot.h"

/* The device's side of it; the caller has the control. */
static enum sk_status renew(struct ski_blk_queue *queue, enum sk_status reason)
{
    struct sk_virtio_transport *transport = queue->transport;
    enum sk_status status = transport->ops->reset_queue(transport, queue->queue.index,
                                                        queue->blk->options.control_timeout_ns);

    if (status != SK_OK) {
        return status;
    }
    ski_blk_settle_queue(queue, reason);
    return ski_blk_restart_queue(queue);
}

bool ski_blk_renew_queue(struct ski_blk_queue *queue, enum sk_status reason)
{
    struct ski_blk *blk = queue->blk;
    enum sk_status status;

    if (!ski_virtio_device_has(&blk->virtio, SK_VIRTIO_F_RING_RESET) ||
        !ski_blk_try_control(blk)) {
        return false;
    }
    status = ski_blk_is_ready(queue) ? renew(queue, reason) : SK_ERR_BROKEN;
    ski_blk_leave_control(blk);
    if (status == SK_OK) {
        ski_blk_go_again(queue);
    }
    return status == SK_OK;
}

enum sk_status ski_blk_reset_queue(struct sk_block_queue *face)
{
    struct ski_blk_queue *queue = SK_CONTAINER_OF(face, struct ski_blk_queue, queue);
    struct ski_blk *blk = queue->blk;
    enum sk_status status;

    if (queue->turn == SKI_BLK_POLLING) {
        return SK_ERR_BUSY;
    }
    if (!ski_virtio_device_has(&blk->virtio, SK_VIRTIO_F_RING_RESET)) {
        return SK_ERR_UNSUPPORTED;
    }
    if (!ski_blk_try_control(blk)) {
        return SK_ERR_BUSY;
    }
    if (!ski_blk_is_ready(queue)) {
        ski_blk_leave_control(blk);
        status = ski_blk_poll_status(queue);
        return status == SK_OK ? SK_ERR_BUSY : status;
    }
    status = renew(queue, SK_ERR_BROKEN);
    ski_blk_leave_control(blk);
    if (status != SK_OK) {
        ski_blk_stop(blk, status);
    } else {
        ski_blk_go_again(queue);
    }
    return status;
}
