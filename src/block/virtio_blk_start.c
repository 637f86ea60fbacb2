/* SPDX-License-Identifier: MIT */
/* Memory layout and start of the virtio block driver. */
#include "block/virtio_blk_slot.h"

#include <skio/checked.h>

#include "base/bytes.h"
#include "block/block_watch.h"

/* Parts of a queue's memory begin at multiples of this; what a legacy ring needs. */
#define QUEUE_ALIGNMENT 4096u

/*
 * The smallest split ring that a request fits in.  It has three descriptors, no
 * chain has more than its ring, even in a table (2.7.5.3.1), and 3 is no size.
 */
#define SPLIT_MIN 4u

/* One page at the end of the I/O buffer for the driver's own requests. */
#define SCRATCH_BYTES 4096u

/* Private memory is laid out in pieces of this alignment. */
#define PRIVATE_ALIGNMENT 64u

static uint64_t align_up(uint64_t value, uint64_t alignment)
{
    return (value + alignment - 1) & ~(alignment - 1); /* of checked options: no overflow */
}

enum sk_status ski_blk_check_options(const struct sk_virtio_blk_options *options)
{
    uint32_t size = options->queue_size;

    if (options->queue_count < 1 || options->queue_count > SK_VIRTIO_BLK_QUEUES_MAX ||
        size < SK_VIRTIO_BLK_QUEUE_SIZE_MIN || size > SKI_RING_SIZE_MAX ||
        options->segment_count < 1 || options->segment_count > 254 ||
        options->timeout_ns == 0 || options->control_timeout_ns == 0) {
        return SK_ERR_INVALID;
    }
    return SK_OK;
}

/* The parts of one queue in the I/O buffer, as offsets. */
struct queue_layout {
    struct ski_ring_layout ring;
    uint64_t frames;
    uint64_t tables;
    uint64_t bytes;
};

/*
 * Descriptors of a slot's table: its longest chain, and one more, so that
 * behind a chain with one segment there is room for `segment_count` ranges.
 */
static uint32_t table_length(uint32_t segment_count)
{
    return segment_count + SKI_BLK_CHAIN_FIXED + 1;
}

/* With indirect tables, whatever the device will offer. */
static void lay_out_queue(uint32_t size, uint32_t segment_count, uint32_t ring_alignment,
                          struct queue_layout *out_layout)
{
    uint64_t table_bytes =
        (uint64_t)table_length(segment_count) * sizeof(struct ski_ring_descriptor);

    ski_ring_split_lay_out(size, ring_alignment, &out_layout->ring);
    out_layout->frames = align_up(out_layout->ring.bytes, 64);
    out_layout->tables =
        align_up(out_layout->frames + (uint64_t)size * sizeof(struct ski_blk_frame), 64);
    out_layout->bytes = align_up(out_layout->tables + size * table_bytes, QUEUE_ALIGNMENT);
}

static uint64_t private_queue_bytes(uint32_t size)
{
    return align_up((uint64_t)size * sizeof(struct ski_blk_slot), PRIVATE_ALIGNMENT) +
           align_up((uint64_t)size * sizeof(uint16_t), PRIVATE_ALIGNMENT);
}

/* Room for the ring that a device with split ones gets. */
static uint32_t entries_wanted(const struct sk_virtio_blk_options *options)
{
    return options->queue_size < SPLIT_MIN ? SPLIT_MIN : options->queue_size;
}

void ski_blk_memory_for(const struct sk_virtio_blk_options *options,
                        struct ski_blk_memory *out_memory)
{
    struct queue_layout layout;
    uint64_t count = options->queue_count;

    lay_out_queue(entries_wanted(options), options->segment_count, QUEUE_ALIGNMENT, &layout);
    out_memory->queue_bytes = layout.bytes;
    out_memory->buffer_bytes = count * layout.bytes + SCRATCH_BYTES;
    out_memory->private_bytes = align_up(count * sizeof(struct ski_blk_queue), PRIVATE_ALIGNMENT) +
                                align_up(count * sizeof(struct sk_block_queue *),
                                         PRIVATE_ALIGNMENT) +
                                count * private_queue_bytes(entries_wanted(options));
}

/* The largest size that neither the options nor the device exceed; split: a power of two. */
static uint32_t choose_size(const struct ski_blk *blk, uint32_t max)
{
    bool packed = ski_virtio_device_has(&blk->virtio, SK_VIRTIO_F_RING_PACKED);
    uint32_t size = packed ? blk->options.queue_size : entries_wanted(&blk->options);

    size = size < max ? size : max;
    while (!packed && !sk_checked_is_power_of_two(size)) {
        size &= size - 1; /* without its lowest bit */
    }
    return size;
}

/* Slots and their chains: tables of their own, or parts of the descriptor table. */
static enum sk_status choose_chains(struct ski_blk_queue *queue, const struct sk_block_info *info,
                                    uint32_t size)
{
    struct ski_blk *blk = queue->blk;
    uint32_t segments = info->segment_count_max;
    uint32_t longest = size < 3 ? 0 : size - SKI_BLK_CHAIN_FIXED; /* 2.7.5.3.1, 2.8.17 */

    queue->indirect = ski_virtio_device_has(&blk->virtio, SK_VIRTIO_F_INDIRECT_DESC);
    if (queue->indirect && size == 2 &&
        ski_virtio_device_has(&blk->virtio, SK_VIRTIO_F_RING_PACKED)) {
        longest = 1; /* 2.8.19: the device alone limits tables, and no request is shorter */
    }
    if (!queue->indirect && segments > 1) {
        /* Several requests in flight are worth more than long ones. */
        uint32_t share = size / 16 > SKI_BLK_CHAIN_FIXED + 1 ? size / 16 - SKI_BLK_CHAIN_FIXED : 1;

        segments = segments < share ? segments : share;
    }
    segments = segments < longest ? segments : longest;
    if (segments == 0 || (info->segment_bytes_max != 0 &&
                          segments * info->segment_bytes_max < info->block_bytes)) {
        sk_log_print(blk->block.platform->log, SK_LOG_ERROR,
                     "virtio-blk 0x%llx: a queue of %u entries cannot carry a request",
                     (unsigned long long)blk->virtio.transport->address, size);
        return SK_ERR_UNSUPPORTED;
    }
    queue->segment_count_max = segments;
    queue->chain_length = (uint16_t)(segments + SKI_BLK_CHAIN_FIXED);
    queue->depth = queue->indirect ? size : size / queue->chain_length;
    return SK_OK;
}

/* The negotiated kind of ring at the start of the queue's memory; a packed one is the smaller. */
static void init_ring(struct ski_blk_queue *queue, void *memory, struct ski_ring_layout *layout)
{
    const struct ski_virtio_device *virtio = &queue->blk->virtio;
    bool event_idx = ski_virtio_device_has(virtio, SK_VIRTIO_F_EVENT_IDX);
    bool device_order = ski_virtio_device_has(virtio, SK_VIRTIO_F_ORDER_PLATFORM);

    queue->notification_data = ski_virtio_device_has(virtio, SK_VIRTIO_F_NOTIFICATION_DATA);
    queue->in_order = ski_virtio_device_has(virtio, SK_VIRTIO_F_IN_ORDER);
    queue->ring.is_packed = ski_virtio_device_has(virtio, SK_VIRTIO_F_RING_PACKED);
    if (queue->ring.is_packed) {
        ski_ring_packed_lay_out(queue->size, layout);
        ski_ring_packed_init(&queue->ring.packed, memory, queue->size, layout);
        queue->ring.packed.event_idx = event_idx;
        queue->ring.packed.device_order = device_order;
    } else {
        ski_ring_split_init(&queue->ring.split, memory, queue->size, layout);
        queue->ring.split.event_idx = event_idx;
        queue->ring.split.device_order = device_order;
    }
}

/* Points the queue at its share of the I/O buffer and of the private memory. */
static void place_queue(struct ski_blk_queue *queue, uint32_t size)
{
    struct ski_blk *blk = queue->blk;
    struct ski_blk_memory memory;
    struct queue_layout layout;
    uint32_t alignment = blk->virtio.transport->ring_alignment;
    uint64_t offset;
    uint8_t *base;

    alignment = alignment == 0 ? SKI_BLK_LINE_BYTES : alignment;
    ski_blk_memory_for(&blk->options, &memory);
    offset = queue->queue.index * memory.queue_bytes;
    base = blk->buffer + offset;
    queue->size = (uint16_t)size;
    lay_out_queue(size, blk->options.segment_count, alignment, &layout);
    init_ring(queue, base, &layout.ring);
    queue->frames = (struct ski_blk_frame SKI_SHARED *)(void SKI_SHARED *)ski_door_share(
        base + layout.frames);
    queue->tables = ski_door_share(base + layout.tables);
    queue->chains = (struct ski_ring_descriptor SKI_SHARED *)(void SKI_SHARED *)queue->tables;
    queue->frames_address = sk_daddr_make(blk->buffer_address.raw + offset + layout.frames);
    queue->tables_address = sk_daddr_make(blk->buffer_address.raw + offset + layout.tables);
    queue->table_length = (uint16_t)table_length(blk->options.segment_count);
    if (!queue->indirect && !queue->ring.is_packed) {
        queue->chains = queue->ring.split.descriptors;
    }
    queue->link_mask = queue->indirect ? 0 : UINT16_MAX;
    queue->layout = (struct sk_virtio_queue_layout){
        .size = (uint16_t)size,
        .interrupt = (uint16_t)ski_blk_interrupt_of(queue->queue.index, blk->interrupt_count),
        .descriptors = { blk->buffer_address.raw + offset },
        .driver_area = { blk->buffer_address.raw + offset + layout.ring.driver_area },
        .device_area = { blk->buffer_address.raw + offset + layout.ring.device_area },
        .cpu_descriptors = base,
        .cpu_driver_area = base + layout.ring.driver_area,
        .cpu_device_area = base + layout.ring.device_area,
    };
}

/* The private arrays, sized for the largest ring the options allow. */
void ski_blk_place(struct ski_blk *blk)
{
    uint32_t size = entries_wanted(&blk->options);
    uint8_t *at = (uint8_t *)blk + align_up(sizeof(*blk), PRIVATE_ALIGNMENT);

    blk->queues = (struct ski_blk_queue *)(void *)at;
    at += align_up(blk->options.queue_count * sizeof(struct ski_blk_queue), PRIVATE_ALIGNMENT);
    blk->faces = (struct sk_block_queue **)(void *)at;
    blk->block.queues = blk->faces;
    at += align_up(blk->options.queue_count * sizeof(struct sk_block_queue *), PRIVATE_ALIGNMENT);
    for (uint32_t i = 0; i < blk->options.queue_count; i++) {
        struct ski_blk_queue *queue = &blk->queues[i];

        queue->blk = blk;
        queue->queue.ops = ski_blk_ops_for(false, false);
        queue->transport = blk->virtio.transport;
        queue->queue.device = &blk->block;
        queue->queue.index = i;
        blk->faces[i] = &queue->queue;
        queue->slots = (struct ski_blk_slot *)(void *)at;
        at += align_up(size * sizeof(struct ski_blk_slot), PRIVATE_ALIGNMENT);
        queue->free_slots = (uint16_t *)(void *)at;
        at += align_up(size * sizeof(uint16_t), PRIVATE_ALIGNMENT);
    }
}

/* It was reset: one that calls its queue used all the same makes no sense. */
static enum sk_status enable(const struct ski_blk_queue *queue)
{
    struct sk_virtio_transport *transport = queue->transport;
    enum sk_status status = transport->ops->enable_queue(transport, queue->queue.index,
                                                         &queue->layout);

    return status == SK_ERR_BUSY ? SK_ERR_MALFORMED : status;
}

static enum sk_status start_queue(struct ski_blk_queue *queue, struct sk_block_info *info)
{
    struct ski_blk *blk = queue->blk;
    struct sk_virtio_transport *transport = blk->virtio.transport;
    uint32_t max;
    uint32_t size;
    enum sk_status status = transport->ops->get_queue_max(transport, queue->queue.index, &max);

    if (status == SK_OK && max == 0) {
        sk_log_print(blk->block.platform->log, SK_LOG_ERROR, "virtio-blk 0x%llx: no queue %u",
                     (unsigned long long)transport->address, queue->queue.index);
        status = SK_ERR_UNSUPPORTED;
    }
    if (status != SK_OK) {
        return status;
    }
    size = choose_size(blk, max);
    status = choose_chains(queue, info, size);
    if (status != SK_OK) {
        return status;
    }
    place_queue(queue, size);
    ski_blk_use_info(queue, info);
    queue->segment_bytes_max = info->segment_bytes_max == 0 ? UINT32_MAX
                                                            : (uint32_t)info->segment_bytes_max;
    queue->zoned = info->zones.model != SK_BLOCK_ZONE_MODEL_NONE;
    queue->zone_sectors = info->zones.model == SK_BLOCK_ZONE_MODEL_HOST_MANAGED ? info->zones.sectors
                                                                              : 0;
    queue->zone_write_bytes = info->zones.write_bytes;
    queue->simple_bytes_max = queue->zone_sectors == 0 ? queue->segment_bytes_max : 0;
    queue->read_only = info->read_only;
    queue->data_rest[SK_BLOCK_READ] = ski_blk_data_rest(queue, SKI_RING_WRITE);
    queue->data_rest[SK_BLOCK_WRITE] = ski_blk_data_rest(queue, 0);
    queue->simple_last = info->read_only ? SK_BLOCK_READ : SK_BLOCK_WRITE;
    queue->block_mask = info->block_bytes - 1;
    queue->sector_mask = info->block_bytes / SK_BLOCK_SECTOR_BYTES - 1;
    queue->sector_never = queue->sector_mask | ~(UINT64_MAX / SK_BLOCK_SECTOR_BYTES);
    ski_blk_queue_reset(queue);
    queue->queue.ops = ski_blk_ops_for(queue->ring.is_packed, queue->in_order);
    if (queue->queue.index == 0) {
        info->queue_size = size;
        info->queue_depth = queue->depth;
        info->segment_count_max = queue->segment_count_max;
    }
    return enable(queue);
}

enum sk_status ski_blk_restart_queue(struct ski_blk_queue *queue)
{
    struct sk_virtio_transport *transport = queue->transport;
    uint32_t max;
    enum sk_status status = transport->ops->get_queue_max(transport, queue->queue.index, &max);

    if (status != SK_OK || max < queue->size) {
        return status != SK_OK ? status : SK_ERR_MALFORMED; /* it has shrunk */
    }
    place_queue(queue, queue->size);
    ski_blk_queue_reset(queue);
    return enable(queue);
}

/*
 * With IN_ORDER descriptors are used in the order of the table (2.7.5).  Tables
 * take one each, and a packed ring knows no other order; chains in fixed places
 * of a split ring's table would leave gaps, so there the bit is not taken.
 */
static void choose_order(const struct ski_blk *blk, uint64_t *wanted)
{
    uint64_t ways = SK_VIRTIO_FEATURE(SK_VIRTIO_F_RING_PACKED) |
                    SK_VIRTIO_FEATURE(SK_VIRTIO_F_INDIRECT_DESC);

    if ((*wanted & blk->virtio.offered & ways) == 0) {
        *wanted &= ~SK_VIRTIO_FEATURE(SK_VIRTIO_F_IN_ORDER);
    }
}

static enum sk_status start_steps(struct ski_blk *blk, struct sk_block_info *info,
                                  uint64_t timeout_ns)
{
    uint32_t num_queues = 1;
    uint64_t wanted = ski_blk_wanted_features(&blk->options) &
                      ~(blk->virtio.transport->ops->reset_queue == NULL
                            ? SK_VIRTIO_FEATURE(SK_VIRTIO_F_RING_RESET)
                            : 0);
    enum sk_status status = ski_virtio_device_announce(&blk->virtio, timeout_ns);

    blk->config_seen = blk->config_events;
    if (status == SK_OK) {
        status = ski_blk_choose_zones(blk, &wanted);
    }
    if (status == SK_OK) {
        choose_order(blk, &wanted);
        status = ski_virtio_device_accept(&blk->virtio, wanted);
    }
    if (status == SK_OK) {
        status = ski_blk_configure(blk, info, &num_queues);
    }
    if (status != SK_OK) {
        return status;
    }
    info->queue_count =
        num_queues < blk->options.queue_count ? num_queues : blk->options.queue_count;
    if (blk->queue_count == 0) {
        blk->queue_count = info->queue_count;
    } else if (!ski_blk_is_same_kind(&blk->block.info, info)) {
        blk->replaced = true;
        return SK_ERR_UNSUPPORTED;
    }
    for (uint32_t i = 0; status == SK_OK && i < blk->queue_count; i++) {
        status = start_queue(&blk->queues[i], info);
    }
    return status == SK_OK ? ski_virtio_device_start(&blk->virtio) : status;
}

/* The queues know all of it from here on. */
static void publish_info(struct ski_blk *blk, const struct sk_block_info *info)
{
    ski_block_change_info(&blk->block, info, ski_blk_changes_between(&blk->block.info, info));
    for (uint32_t i = 0; i < blk->queue_count; i++) {
        blk->queues[i].info_seen = blk->block.info_sequence;
    }
}

enum sk_status ski_blk_start(struct ski_blk *blk, uint64_t timeout_ns)
{
    struct sk_block_info info;
    enum sk_status status;

    (void)memcpy(&info, &blk->block.info, sizeof(info)); /* with what lies between the fields */
    blk->replaced = false;
    blk->quiet = false;
    blk->block.state = SK_BLOCK_STATE_RESETTING; /* the interrupt handler only acknowledges */
    status = start_steps(blk, &info, timeout_ns);
    if (status == SK_OK) {
        publish_info(blk, &info);
        ski_blk_set_state(blk, SK_BLOCK_STATE_READY);
        return SK_OK;
    }
    ski_blk_reset(blk, true, timeout_ns);
    return blk->quiet ? status : SK_ERR_IN_DOUBT;
}
