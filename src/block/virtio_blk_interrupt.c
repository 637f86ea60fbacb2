/* SPDX-License-Identifier: MIT */
/* Interrupts: how many, which serves what, and what their handlers do, which is little. */
#include "block/virtio_blk.h"

/* Wakes those who wait for a queue; a change of the configuration is for all of them. */
static void count(struct ski_blk_queue *queue)
{
    (void)atomic_fetch_add_explicit(&queue->interrupts, 1, memory_order_release);
}

void ski_blk_interrupt(void *argument)
{
    struct ski_blk *blk = argument;
    struct sk_virtio_transport *transport = blk->virtio.transport;
    uint32_t causes = transport->ops->take_interrupt(transport);

    if (causes == 0 || blk->block.state != SK_BLOCK_STATE_READY) {
        return; /* spurious, or of a device that is not in use: acknowledged, ignored */
    }
    if ((causes & SK_VIRTIO_INTERRUPT_CONFIG) != 0) {
        blk->config_events++;
    }
    for (uint32_t i = 0; i < blk->queue_count; i++) {
        count(&blk->queues[i]);
    }
}

/* The handler of the others; the argument is the first queue of those that share it. */
static void queue_interrupt(void *argument)
{
    struct ski_blk_queue *queue = argument;
    const struct ski_blk *blk = queue->blk;

    if (blk->block.state != SK_BLOCK_STATE_READY) {
        return;
    }
    for (uint32_t i = queue->queue.index; i < blk->queue_count; i += blk->interrupt_count - 1) {
        count(&blk->queues[i]);
    }
}

void ski_blk_wake_all(struct ski_blk *blk)
{
    const struct sk_platform *platform = blk->block.platform;

    for (uint32_t i = 0; i < blk->queue_count; i++) {
        struct ski_blk_queue *queue = &blk->queues[i];

        (void)atomic_fetch_xor_explicit(&queue->interrupts, SKI_BLK_WOKEN, memory_order_release);
        if (platform->wake != NULL && blk->interrupt_count != 0) {
            platform->wake(platform->context,
                           &blk->node->interrupts[ski_blk_interrupt_of(i, blk->interrupt_count)],
                           &queue->interrupts);
        }
    }
}

/* How many there could be: more than one for each queue and the configuration serve nothing. */
static uint32_t wanted(const struct ski_blk *blk)
{
    uint32_t count = blk->virtio.transport->interrupt_count;

    count = count == 0 ? 1 : count;
    count = count < blk->node->interrupt_count ? count : (uint32_t)blk->node->interrupt_count;
    return count < 1 + blk->options.queue_count ? count : 1 + blk->options.queue_count;
}

enum sk_status ski_blk_attach_interrupts(struct ski_blk *blk)
{
    const struct sk_platform *platform = blk->block.platform;
    uint32_t count = platform->attach_interrupt == NULL ? 0 : wanted(blk);

    for (uint32_t i = 0; i < count; i++) {
        enum sk_status status = platform->attach_interrupt(
            platform->context, &blk->node->interrupts[i],
            i == 0 ? ski_blk_interrupt : queue_interrupt,
            i == 0 ? (void *)blk : (void *)&blk->queues[i - 1]);

        if (status == SK_OK) {
            continue;
        }
        sk_log_print(platform->log, i == 0 ? SK_LOG_ERROR : SK_LOG_WARNING,
                     "virtio-blk 0x%llx: cannot attach interrupt %u of %u: %s",
                     (unsigned long long)blk->virtio.transport->address, i, count,
                     sk_status_text(status));
        if (i == 0) {
            return status;
        }
        count = i; /* queues share what there is */
    }
    blk->interrupt_count = count;
    return SK_OK;
}

void ski_blk_detach_interrupts(struct ski_blk *blk)
{
    const struct sk_platform *platform = blk->block.platform;

    for (uint32_t i = 0; i < blk->interrupt_count && platform->detach_interrupt != NULL; i++) {
        platform->detach_interrupt(platform->context, &blk->node->interrupts[i]);
    }
    blk->interrupt_count = 0;
}
