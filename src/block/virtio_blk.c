/* SPDX-License-Identifier: MIT */
/* The virtio block driver, whatever its transport: needs, probe, remove. */
#include "block/virtio_blk.h"

#include "base/bytes.h"
#include "block/block_batch.h"

/* What the I/O buffer is aligned to: rings of a legacy device want pages. */
#define BUFFER_ALIGNMENT 4096u

#define TRANSPORT_ADDRESS(transport) ((unsigned long long)(transport)->address)

static const struct sk_virtio_blk_options default_options = SK_VIRTIO_BLK_OPTIONS_DEFAULT;

const struct sk_virtio_blk_options *ski_blk_options(const struct sk_driver *driver)
{
    return driver->options == NULL ? &default_options : driver->options;
}

static size_t private_bytes(size_t offset, const struct ski_blk_memory *memory)
{
    return offset + ((sizeof(struct ski_blk) + 63) & ~(size_t)63) + (size_t)memory->private_bytes;
}

enum sk_status ski_blk_needs(const struct sk_virtio_blk_options *options, size_t offset,
                             struct sk_driver_needs *out_needs)
{
    struct ski_blk_memory memory;

    if (ski_blk_check_options(options) != SK_OK) {
        return SK_ERR_INVALID;
    }
    ski_blk_memory_for(options, &memory);
    *out_needs = (struct sk_driver_needs){
        .dma = { .size_bytes = memory.buffer_bytes, .alignment_bytes = BUFFER_ALIGNMENT },
        .private_bytes = private_bytes(offset, &memory),
    };
    return SK_OK;
}

static enum sk_status refuse(const struct sk_virtio_transport *transport, enum sk_status status,
                             const char *what)
{
    sk_log_print(transport->platform->log, SK_LOG_ERROR, "virtio-blk 0x%llx: %s: %s",
                 TRANSPORT_ADDRESS(transport), what, sk_status_text(status));
    return status;
}

/* The buffer that somebody injected: there, whole, large enough, aligned, coherent. */
static enum sk_status check_buffer(const struct sk_device_node *node,
                                   const struct sk_driver_needs *needs,
                                   const struct sk_virtio_transport *transport,
                                   sk_daddr *out_address)
{
    const struct sk_io_buffer *buffer = node->dma_buffer;

    if (node->domain == NULL || buffer == NULL) {
        return refuse(transport, SK_ERR_INVALID, "no I/O buffer was put into the node");
    }
    if (!sk_io_buffer_is_valid(buffer) || sk_io_buffer_address(buffer, out_address) != SK_OK) {
        return refuse(transport, SK_ERR_INVALID, "the node's I/O buffer is not valid");
    }
    if (sk_io_buffer_size(buffer) < needs->dma.size_bytes) {
        return refuse(transport, SK_ERR_SIZE, "the node's I/O buffer is too small");
    }
    if ((out_address->raw & (BUFFER_ALIGNMENT - 1)) != 0 ||
        ((uintptr_t)sk_io_buffer_data(buffer) & 63) != 0) {
        return refuse(transport, SK_ERR_ALIGNMENT, "the node's I/O buffer is misaligned");
    }
    if (!sk_io_buffer_is_coherent(buffer)) {
        return refuse(transport, SK_ERR_UNSUPPORTED,
                      "rings need memory that the device and the CPU see alike");
    }
    return SK_OK;
}

static enum sk_status check_memory(const struct sk_device_node *node,
                                   const struct sk_driver_needs *needs,
                                   const struct sk_virtio_transport *transport)
{
    if (node->driver_memory == NULL || node->driver_memory_bytes < needs->private_bytes) {
        return refuse(transport, SK_ERR_SIZE, "the node's driver memory is too small");
    }
    if (((uintptr_t)node->driver_memory & 63) != 0) {
        return refuse(transport, SK_ERR_ALIGNMENT, "the node's driver memory is misaligned");
    }
    return SK_OK;
}

static void fill(struct ski_blk *blk, struct sk_device_node *node,
                 const struct sk_virtio_blk_options *options,
                 struct sk_virtio_transport *transport, sk_daddr address)
{
    struct ski_blk_memory memory;

    (void)memset(blk, 0, sizeof(*blk));
    ski_blk_memory_for(options, &memory);
    blk->node = node;
    blk->options = *options;
    blk->virtio.transport = transport;
    blk->reason = SK_ERR_BROKEN;
    blk->buffer = sk_io_buffer_data(node->dma_buffer);
    blk->buffer_address = address;
    blk->scratch = blk->buffer + options->queue_count * memory.queue_bytes;
    blk->scratch_address =
        sk_daddr_make(address.raw + options->queue_count * memory.queue_bytes);
    blk->block.name = node->name;
    blk->block.ops = ski_blk_ops_for(false, false);
    blk->block.platform = node->platform;
    blk->block.domain = node->domain;
    blk->block.info.driver = "virtio-blk";
    blk->block.info.transport = transport->kind;
    blk->block.state = SK_BLOCK_STATE_RESETTING;
    ski_blk_place(blk);
}

/* ---- What the device says of itself: the first requests, and the proof that they work ----- */

struct question {
    struct sk_block_request request;
    bool done;
};

static void answered(struct sk_block_request *request)
{
    SK_CONTAINER_OF(request, struct question, request)->done = true;
}

/* Asks for an answer of `bytes` and copies it out.  What the question ended with. */
static enum sk_status ask(struct ski_blk *blk, enum sk_block_operation operation, uint32_t bytes,
                          void *out_answer)
{
    struct sk_dma_segment segment = { blk->scratch_address, bytes };
    struct question question = {
        .request = { .operation = operation,
                     .segment_count = 1,
                     .segments = &segment,
                     .complete = answered },
    };
    struct sk_block_request *request = &question.request;
    struct sk_block_queue *queue = &blk->queues[0].queue;

    ski_door_zero(ski_door_share(blk->scratch), bytes);
    blk->verifying = true;
    queue->ops->submit(queue, &request, 1); /* nobody's request: it is not timed */
    while (!question.done) {
        if (sk_block_poll(queue, 0, NULL) == SK_OK && !question.done) {
            (void)ski_blk_wait(queue, 0, UINT64_MAX); /* ends by the driver's own timeout */
        }
    }
    blk->verifying = false;
    if (request->status == SK_OK) {
        ski_door_copy_out(out_answer, ski_door_share(blk->scratch), bytes);
    }
    return request->status;
}

/* Only what can be shown: whoever prints it does not want the device's control characters. */
static void clean_identity(char *identity)
{
    for (uint32_t i = 0; i < SK_BLOCK_IDENTITY_BYTES && identity[i] != '\0'; i++) {
        if (identity[i] < ' ' || identity[i] > '~') {
            identity[i] = '?';
        }
    }
}

enum sk_status ski_blk_read_identity(struct ski_blk *blk,
                                     char out_identity[SK_BLOCK_IDENTITY_BYTES + 1])
{
    enum sk_status status = ask(blk, SK_BLOCK_GET_ID, SK_BLOCK_IDENTITY_BYTES, out_identity);

    if (status == SK_OK) {
        clean_identity(out_identity);
    }
    return status;
}

static enum sk_status read_lifetime(struct ski_blk *blk)
{
    uint8_t answer[SK_BLOCK_LIFETIME_BYTES];
    enum sk_status status = ask(blk, SK_BLOCK_GET_LIFETIME, sizeof(answer), answer);

    if (status == SK_OK && sk_block_lifetime_parse(answer, &blk->block.info.wear) != SK_OK) {
        sk_log_print(blk->block.platform->log, SK_LOG_WARNING,
                     "virtio-blk 0x%llx: its lifetime makes no sense",
                     TRANSPORT_ADDRESS(blk->virtio.transport));
    }
    return status;
}

/* ---- Probe and remove -------------------------------------------------------------------- */

/* Ends what the device has; the I/O buffer is let go only if the device is quiet. */
static enum sk_status close(struct ski_blk *blk)
{
    ski_blk_detach_interrupts(blk);
    if (blk->quiet) {
        (void)sk_io_buffer_release(blk->node->dma_buffer);
    }
    return blk->quiet ? SK_OK : SK_ERR_IN_DOUBT;
}

static enum sk_status open(struct ski_blk *blk)
{
    enum sk_status status = sk_io_buffer_hold(blk->node->dma_buffer);

    if (status != SK_OK) {
        return status;
    }
    blk->quiet = true; /* nothing was given to the device yet */
    status = ski_blk_attach_interrupts(blk);
    if (status == SK_OK) {
        status = ski_blk_start(blk, blk->options.control_timeout_ns);
    }
    if (status == SK_OK) {
        status = ski_blk_read_identity(blk, blk->block.info.identity);
    }
    if (blk->block.state == SK_BLOCK_STATE_READY && blk->block.info.lifetime) {
        status = read_lifetime(blk);
    }
    /* A device that does not know such a request has no answer; one that gives none is not used. */
    if (blk->block.state != SK_BLOCK_STATE_READY) {
        enum sk_status closed = close(blk);

        return closed == SK_OK ? status : closed;
    }
    return SK_OK;
}

enum sk_status ski_blk_probe(struct sk_device_node *node, size_t offset,
                             const struct sk_virtio_blk_options *options,
                             struct sk_virtio_transport *transport)
{
    struct sk_driver_needs needs = { .private_bytes = 0 };
    struct ski_blk *blk;
    sk_daddr address = { 0 };
    enum sk_status status = ski_blk_needs(options, offset, &needs);

    if (status != SK_OK) {
        return refuse(transport, status, "an option is out of its range");
    }
    if (transport->legacy && options->refuse_legacy) {
        return refuse(transport, SK_ERR_UNSUPPORTED, "legacy device where only modern is wanted");
    }
    status = check_buffer(node, &needs, transport, &address);
    if (status == SK_OK) {
        status = check_memory(node, &needs, transport);
    }
    if (status != SK_OK) {
        return status;
    }
    blk = (struct ski_blk *)(void *)((uint8_t *)node->driver_memory + offset);
    fill(blk, node, options, transport, address);
    status = open(blk);
    if (status != SK_OK) {
        return refuse(transport, status, "probe failed");
    }
    node->driver_data = blk;
    node->device_class = SK_DEVICE_CLASS_BLOCK;
    node->interface = &blk->block;
    return SK_OK;
}

enum sk_status ski_blk_remove(struct sk_device_node *node)
{
    struct ski_blk *blk = node->driver_data;
    enum sk_status status;

    blk->removing = true;
    status = ski_blk_quiesce(blk, SK_ERR_GONE, blk->options.control_timeout_ns);
    for (uint32_t i = 0; i < blk->queue_count; i++) {
        ski_block_batch_refuse(&blk->queues[i].queue, SK_ERR_GONE);
        (void)ski_blk_finish_refused(&blk->queues[i], UINT32_MAX);
    }
    (void)close(blk);
    blk->block.state = SK_BLOCK_STATE_REMOVED;
    node->driver_data = NULL;
    node->device_class = SK_DEVICE_CLASS_NONE;
    node->interface = NULL;
    return status;
}
