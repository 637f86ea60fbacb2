/* SPDX-License-Identifier: MIT */
/* The register QueueReset of the fake device; 2.6.1, 4.2.2. */
#include "fake/virtio_internal.h"

static void reset(struct fake_device *fake, struct fake_queue *queue)
{
    bool unseen = queue->reset_unseen;

    fake_queue_stop(fake, queue);
    queue->reset_unseen = unseen;
    fake->queue_resets++;
}

void fake_queue_reset_write(struct fake_device *fake, struct fake_queue *queue, uint32_t value)
{
    uint64_t argument;

    if (!fake_negotiated(fake, SK_VIRTIO_F_RING_RESET)) {
        fake_violation(fake, "QueueReset written without the feature");
        return;
    }
    if (queue == NULL || !queue->ready || value != 1) {
        fake_violation(fake, "QueueReset of queue %u, which is not in use, or not 1 (%u)",
                       fake->queue_sel, value);
        return;
    }
    queue->reset_unseen = true;
    if (fake_fires(fake, FAKE_FAULT_QUEUE_RESET_OTHER, &argument)) {
        reset(fake, &fake->queues[argument]);
    } else if (fake->faults[FAKE_FAULT_QUEUE_RESET].count > 0) {
        queue->resetting = true;
    } else {
        reset(fake, queue);
    }
}

uint32_t fake_queue_reset_read(struct fake_device *fake, struct fake_queue *queue)
{
    uint64_t argument;

    if (!fake_negotiated(fake, SK_VIRTIO_F_RING_RESET)) {
        fake_violation(fake, "QueueReset read without the feature");
        return 0;
    }
    if (queue == NULL) {
        return 0;
    }
    if (fake->config.reset_register_missing) { /* as if it were never written */
        queue->reset_unseen = false;
        return 0;
    }
    if (queue->resetting && !fake_fires(fake, FAKE_FAULT_QUEUE_RESET, &argument)) {
        reset(fake, queue);
    }
    queue->reset_unseen = queue->resetting;
    return queue->resetting;
}
