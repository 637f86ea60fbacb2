/* SPDX-License-Identifier: MIT */
#include <skio/block.h>

#include <skio/device_node.h>

#include "block/block_batch.h"

struct sk_block_device *sk_block_of_node(const struct sk_device_node *node)
{
    if (node == NULL || node->device_class != SK_DEVICE_CLASS_BLOCK) {
        return NULL;
    }
    return node->interface;
}

struct sk_block_queue *sk_block_get_queue(struct sk_block_device *device, uint32_t index)
{
    if (device == NULL || index >= device->info.queue_count) {
        return NULL;
    }
    return device->queues[index];
}

void sk_block_get_statistics(const struct sk_block_queue *queue,
                             struct sk_block_statistics *out_statistics)
{
    *out_statistics = queue->statistics;
}

enum sk_block_state sk_block_get_state(const struct sk_block_device *device)
{
    return (enum sk_block_state)device->state;
}

const char *sk_block_state_name(enum sk_block_state state)
{
    static const char *const names[SK_BLOCK_STATE_COUNT] = {
        [SK_BLOCK_STATE_READY] = "ready",       [SK_BLOCK_STATE_RESETTING] = "resetting",
        [SK_BLOCK_STATE_BROKEN] = "broken",     [SK_BLOCK_STATE_IN_DOUBT] = "in-doubt",
        [SK_BLOCK_STATE_REMOVED] = "removed",   [SK_BLOCK_STATE_FAILED] = "failed",
    };

    return (unsigned)state < SK_BLOCK_STATE_COUNT ? names[state] : "unknown";
}

const char *sk_block_operation_name(enum sk_block_operation operation)
{
    static const char *const names[SK_BLOCK_OPERATION_COUNT] = {
        [SK_BLOCK_READ] = "read",
        [SK_BLOCK_WRITE] = "write",
        [SK_BLOCK_FLUSH] = "flush",
        [SK_BLOCK_GET_ID] = "get-id",
        [SK_BLOCK_DISCARD] = "discard",
        [SK_BLOCK_WRITE_ZEROES] = "write-zeroes",
        [SK_BLOCK_SECURE_ERASE] = "secure-erase",
        [SK_BLOCK_GET_LIFETIME] = "get-lifetime",
        [SK_BLOCK_ZONE_REPORT] = "zone-report",
        [SK_BLOCK_ZONE_OPEN] = "zone-open",
        [SK_BLOCK_ZONE_CLOSE] = "zone-close",
        [SK_BLOCK_ZONE_FINISH] = "zone-finish",
        [SK_BLOCK_ZONE_RESET] = "zone-reset",
        [SK_BLOCK_ZONE_RESET_ALL] = "zone-reset-all",
        [SK_BLOCK_ZONE_APPEND] = "zone-append",
    };

    return (unsigned)operation < SK_BLOCK_OPERATION_COUNT ? names[operation] : "unknown";
}

const char *sk_block_feature_name(const struct sk_block_device *device, unsigned bit)
{
    return device->ops->feature_name(bit);
}

void sk_block_submit(struct sk_block_queue *queue, struct sk_block_request *const *requests,
                     uint32_t count)
{
    if (queue->detour != 0) {
        ski_block_submit_by_detour(queue, requests, count);
        return;
    }
    queue->ops->submit(queue, requests, count);
}

enum sk_status sk_block_poll(struct sk_block_queue *queue, uint32_t budget,
                             uint32_t *out_completed)
{
    return queue->ops->poll(queue, budget, out_completed);
}

enum sk_status sk_block_wait(struct sk_block_queue *queue, uint64_t until_ns)
{
    return queue->ops->wait(queue, 0, until_ns);
}

enum sk_status sk_block_wait_hybrid(struct sk_block_queue *queue, uint64_t spin_ns,
                                    uint64_t until_ns)
{
    return queue->ops->wait(queue, spin_ns, until_ns);
}

void sk_block_set_gathering(struct sk_block_queue *queue, uint32_t delay_ns)
{
    queue->gather_ns = delay_ns;
}

enum sk_status sk_block_arm(struct sk_block_queue *queue)
{
    return queue->ops->arm(queue);
}

enum sk_status sk_block_reset_queue(struct sk_block_queue *queue)
{
    return queue->ops->reset_queue(queue);
}

void sk_block_stop(struct sk_block_device *device, enum sk_status reason)
{
    device->ops->stop(device, reason);
}

enum sk_status sk_block_cancel(struct sk_block_queue *queue, struct sk_block_request *request)
{
    if (ski_block_batch_remove(queue, request)) {
        request->next = NULL;
        queue->ops->refuse_list(queue, request, SK_ERR_CANCELED);
        return SK_OK;
    }
    return queue->ops->cancel(queue, request);
}

enum sk_status sk_block_recover(struct sk_block_device *device, uint64_t timeout_ns)
{
    return device->ops->recover(device, timeout_ns);
}
