/* SPDX-License-Identifier: MIT */
/* The registers of the fake device; 4.2.2, 4.2.4, and the order of 3.1. */
#include "fake/virtio_internal.h"

#define READ   1u
#define WRITE  2u
#define MODERN 4u
#define LEGACY 8u
#define BOTH   (MODERN | LEGACY)

struct fake_register {
    uint16_t offset;
    uint16_t access;
};

static const struct fake_register registers[] = {
    { 0x000, READ | BOTH },           { 0x004, READ | BOTH },
    { 0x008, READ | BOTH },           { 0x00c, READ | BOTH },
    { 0x010, READ | BOTH },           { 0x014, WRITE | BOTH },
    { 0x020, WRITE | BOTH },          { 0x024, WRITE | BOTH },
    { 0x028, WRITE | LEGACY },        { 0x030, WRITE | BOTH },
    { 0x034, READ | BOTH },           { 0x038, WRITE | BOTH },
    { 0x03c, WRITE | LEGACY },        { 0x040, READ | WRITE | LEGACY },
    { 0x044, READ | WRITE | MODERN }, { 0x050, WRITE | BOTH },
    { 0x060, READ | BOTH },           { 0x064, WRITE | BOTH },
    { 0x070, READ | WRITE | BOTH },   { 0x080, WRITE | MODERN },
    { 0x084, WRITE | MODERN },        { 0x090, WRITE | MODERN },
    { 0x094, WRITE | MODERN },        { 0x0a0, WRITE | MODERN },
    { 0x0a4, WRITE | MODERN },        { 0x0c0, READ | WRITE | MODERN },
    { 0x0fc, READ | MODERN },
};

static bool access_allowed(const struct fake_device *fake, uint64_t offset, unsigned access)
{
    access |= fake->config.legacy ? LEGACY : MODERN;
    for (size_t i = 0; i < sizeof(registers) / sizeof(registers[0]); i++) {
        if (registers[i].offset == offset) {
            return (registers[i].access & access) == access;
        }
    }
    return false;
}

/* Everything but the interrupt registers and the status itself has to wait for a reset's end. */
static bool waits_for_reset(uint64_t offset)
{
    return offset >= 0x010 && offset != 0x060 && offset != 0x064 && offset != 0x070;
}

static bool check_access(struct fake_device *fake, uint64_t offset, unsigned width,
                         unsigned access)
{
    const char *verb = access == READ ? "read" : "written";

    if (fake->reset_unseen && waits_for_reset(offset)) {
        fake_violation(fake, "0x%03x %s before the status was seen to be 0 after a reset",
                       (unsigned)offset, verb);
    }
    if (offset >= 0x100) {
        return true;
    }
    if (width != 4 || !access_allowed(fake, offset, access)) {
        fake_violation(fake, "0x%03x %s with %u bytes: no such register", (unsigned)offset, verb,
                       width);
        return false;
    }
    return true;
}

static struct fake_queue *selected(struct fake_device *fake)
{
    return fake->queue_sel < fake->config.queue_count ? &fake->queues[fake->queue_sel] : NULL;
}

static void need_status(struct fake_device *fake, uint32_t bits, const char *what)
{
    if ((fake->status & bits) != bits) {
        fake_violation(fake, "%s with status 0x%x", what, fake->status);
    }
}

/* Queues are set up after the features are settled. */
static void need_settled(struct fake_device *fake, const char *what)
{
    need_status(fake,
                fake->config.legacy ? SK_VIRTIO_STATUS_DRIVER : SK_VIRTIO_STATUS_FEATURES_OK,
                what);
    if (!fake->config.legacy && !fake->features_ok_read) {
        fake_violation(fake, "%s before FEATURES_OK was read back", what);
    }
}

static uint32_t read_features(struct fake_device *fake)
{
    need_status(fake, SK_VIRTIO_STATUS_DRIVER, "device features read");
    if (fake->config.legacy && fake->device_features_sel != 0) {
        fake_violation(fake, "legacy: features of half %u read", fake->device_features_sel);
    }
    return fake->device_features_sel == 0   ? (uint32_t)fake->offered
           : fake->device_features_sel == 1 ? (uint32_t)(fake->offered >> 32)
                                            : 0;
}

static uint32_t read_queue_max(struct fake_device *fake)
{
    struct fake_queue *queue = selected(fake);
    uint64_t argument;

    need_settled(fake, "QueueNumMax read");
    if (queue != NULL) {
        queue->max_read = true;
    }
    if (fake_fires(fake, FAKE_FAULT_QUEUE_MAX, &argument)) {
        return (uint32_t)argument;
    }
    return queue == NULL ? 0 : fake->config.queue_size_max;
}

static uint32_t read_queue_ready(struct fake_device *fake)
{
    struct fake_queue *queue = selected(fake);
    uint64_t argument;

    if (fake_fires(fake, FAKE_FAULT_QUEUE_READY, &argument)) {
        return (uint32_t)argument;
    }
    if (queue == NULL) {
        return 0;
    }
    queue->ready_read = true;
    return fake->config.legacy ? queue->page_number : queue->ready;
}

static uint32_t read_status(struct fake_device *fake)
{
    uint64_t argument;

    if (fake_fires(fake, FAKE_FAULT_STATUS_REGISTER, &argument)) {
        return (uint32_t)argument;
    }
    if (fake->resetting && !fake_fires(fake, FAKE_FAULT_RESET, &argument)) {
        fake_reset(fake);
    }
    if (fake->status == 0) {
        fake->reset_unseen = false;
    }
    if ((fake->status & SK_VIRTIO_STATUS_FEATURES_OK) != 0) {
        fake->features_ok_read = true;
    }
    return fake->status;
}

static uint32_t read_generation(struct fake_device *fake)
{
    uint64_t argument;

    fake->generation_read = true;
    fake->wide_field_open = false;
    if (fake_fires(fake, FAKE_FAULT_GENERATION, &argument)) {
        fake->generation++;
    }
    return fake->generation;
}

static uint32_t read_faulty(struct fake_device *fake, enum fake_fault fault, uint32_t value)
{
    uint64_t argument;

    return fake_fires(fake, fault, &argument) ? (uint32_t)argument : value;
}

static uint32_t read_interrupt_status(struct fake_device *fake)
{
    uint64_t argument;

    if (fake_fires(fake, FAKE_FAULT_INTERRUPT_STATUS, &argument)) {
        fake->interrupt_status |= (uint32_t)argument;
    }
    return fake->interrupt_status;
}

static uint32_t read_register(struct fake_device *fake, uint64_t offset)
{
    switch (offset) {
    case 0x000:
        return read_faulty(fake, FAKE_FAULT_MAGIC, 0x74726976u);
    case 0x004:
        return read_faulty(fake, FAKE_FAULT_VERSION, fake->config.legacy ? 1 : 2);
    case 0x008:
        return read_faulty(fake, FAKE_FAULT_DEVICE_ID, 2);
    case 0x00c:
        return FAKE_VENDOR;
    case 0x010:
        return read_features(fake);
    case 0x034:
        return read_queue_max(fake);
    case 0x040:
    case 0x044:
        return read_queue_ready(fake);
    case 0x060:
        return read_interrupt_status(fake);
    case 0x070:
        return read_status(fake);
    case 0x0c0:
        return fake_queue_reset_read(fake, selected(fake));
    default:
        return read_generation(fake);
    }
}

static void write_features(struct fake_device *fake, uint32_t value)
{
    need_status(fake, SK_VIRTIO_STATUS_DRIVER, "driver features written");
    if ((fake->status & (SK_VIRTIO_STATUS_FEATURES_OK | SK_VIRTIO_STATUS_DRIVER_OK)) != 0) {
        fake_violation(fake, "driver features written after they were settled");
        return;
    }
    if (fake->driver_features_sel > (fake->config.legacy ? 0u : 1u)) {
        fake_violation(fake, "features of half %u written", fake->driver_features_sel);
        return;
    }
    fake->driver_features_written |= 1u << fake->driver_features_sel;
    if (fake->driver_features_sel == 0) {
        fake->driver_features = (fake->driver_features >> 32 << 32) | value;
    } else {
        fake->driver_features = (uint32_t)fake->driver_features | (uint64_t)value << 32;
    }
    if ((fake->driver_features & ~fake->offered) != 0) {
        fake_violation(fake, "features 0x%llx accepted that are not offered",
                       (unsigned long long)(fake->driver_features & ~fake->offered));
    }
}

/* Whether the device keeps FEATURES_OK. */
static bool features_accepted(struct fake_device *fake)
{
    bool managed = fake->zones != NULL && !fake->config.host_aware;
    uint64_t argument;

    if (fake->config.legacy) {
        fake_violation(fake, "legacy: FEATURES_OK written");
        return false;
    }
    if (fake->driver_features_written != 3) {
        fake_violation(fake, "FEATURES_OK without both halves of the features written");
    }
    if (!fake_negotiated(fake, SK_VIRTIO_F_VERSION_1)) {
        fake_violation(fake, "VERSION_1 not accepted");
        return false;
    }
    if (managed && fake_negotiated(fake, SK_VIRTIO_BLK_F_DISCARD)) {
        fake_violation(fake, "DISCARD accepted of a host-managed zoned disk");
    }
    if (managed && !fake_negotiated(fake, SK_VIRTIO_BLK_F_ZONED)) {
        return false; /* 5.2.5.2 */
    }
    return (fake->driver_features & ~fake->offered) == 0 &&
           !fake_fires(fake, FAKE_FAULT_FEATURES_REFUSED, &argument);
}

static void check_driver_ok(struct fake_device *fake)
{
    bool any = false;

    if (!fake->config.legacy) {
        need_settled(fake, "DRIVER_OK");
    } else if (fake->driver_features_written == 0) {
        fake_violation(fake, "legacy: DRIVER_OK without features written");
    }
    for (uint32_t i = 0; i < fake->config.queue_count; i++) {
        any = any || fake->queues[i].ready;
    }
    if (!any) {
        fake_violation(fake, "DRIVER_OK without a queue");
    }
    if (fake->wide_field_open) {
        fake_violation(fake, "DRIVER_OK: capacity was read without a generation after it");
    }
}

static void start_reset(struct fake_device *fake)
{
    fake->resets++;
    fake->reset_unseen = true;
    if (fake->faults[FAKE_FAULT_RESET].count > 0) {
        fake->resetting = true;
    } else {
        fake_reset(fake);
    }
}

static void write_status(struct fake_device *fake, uint32_t value)
{
    uint32_t added = value & ~fake->status;
    uint32_t lost = fake->status & ~value & ~SK_VIRTIO_STATUS_DEVICE_NEEDS_RESET;

    if (value == 0) {
        start_reset(fake);
        return;
    }
    if (fake->reset_unseen && value != SK_VIRTIO_STATUS_FAILED &&
        (value & SK_VIRTIO_STATUS_FAILED) == 0) {
        fake_violation(fake, "status 0x%x written before the reset was seen done", value);
    }
    if (lost != 0) {
        fake_violation(fake, "status 0x%x written over 0x%x: bits are only cleared by a reset",
                       value, fake->status);
    }
    if ((added & SK_VIRTIO_STATUS_DRIVER) != 0) {
        need_status(fake, SK_VIRTIO_STATUS_ACKNOWLEDGE, "DRIVER");
    }
    if ((added & SK_VIRTIO_STATUS_FEATURES_OK) != 0) {
        need_status(fake, SK_VIRTIO_STATUS_DRIVER, "FEATURES_OK");
        value = features_accepted(fake) ? value : value & ~SK_VIRTIO_STATUS_FEATURES_OK;
    }
    if ((added & SK_VIRTIO_STATUS_DRIVER_OK) != 0) {
        need_status(fake, SK_VIRTIO_STATUS_DRIVER, "DRIVER_OK");
        check_driver_ok(fake);
    }
    fake->status |= value & ~SK_VIRTIO_STATUS_DEVICE_NEEDS_RESET;
}

static struct fake_queue *queue_to_set_up(struct fake_device *fake, const char *what)
{
    struct fake_queue *queue = selected(fake);

    need_settled(fake, what);
    if (queue == NULL) {
        fake_violation(fake, "%s of queue %u, which does not exist", what, fake->queue_sel);
    } else if (queue->ready) {
        fake_violation(fake, "%s of queue %u, which is in use", what, fake->queue_sel);
        return NULL;
    } else if (queue->reset_unseen) {
        fake_violation(fake, "%s of queue %u before QueueReset was seen to be 0", what,
                       fake->queue_sel);
    } else if (!queue->ready_read) {
        fake_violation(fake, "%s of queue %u without looking whether it is in use", what,
                       fake->queue_sel);
    }
    return queue;
}

static void write_queue_size(struct fake_device *fake, uint32_t value)
{
    struct fake_queue *queue = queue_to_set_up(fake, "QueueNum");

    if (queue == NULL) {
        return;
    }
    if (!queue->max_read) {
        fake_violation(fake, "QueueNum written without reading QueueNumMax");
    }
    if (value == 0 || value > fake->config.queue_size_max || value > 32768 ||
        ((value & (value - 1)) != 0 && !fake_negotiated(fake, SK_VIRTIO_F_RING_PACKED))) {
        fake_violation(fake, "queue size %u of at most %u", value, fake->config.queue_size_max);
        return;
    }
    queue->size = value;
}

static void write_queue_address(struct fake_device *fake, uint64_t offset, uint32_t value)
{
    struct fake_queue *queue = queue_to_set_up(fake, "queue address");
    unsigned area = (unsigned)(offset - 0x080) / 0x10;

    if (queue == NULL) {
        return;
    }
    if (offset % 8 == 0) {
        queue->address[area] = (queue->address[area] >> 32 << 32) | value;
    } else {
        queue->address[area] = (uint32_t)queue->address[area] | (uint64_t)value << 32;
    }
}

static void write_queue_ready(struct fake_device *fake, uint32_t value)
{
    struct fake_queue *queue = selected(fake);

    if (value == 0 && queue != NULL) {
        fake_queue_stop(fake, queue);
        return;
    }
    queue = queue_to_set_up(fake, "QueueReady");
    if (queue != NULL) {
        (void)fake_queue_start(fake, queue);
    }
}

static void write_page_number(struct fake_device *fake, uint32_t value)
{
    struct fake_queue *queue = selected(fake);
    uint64_t avail_end;

    if (value == 0 && queue != NULL) {
        fake_queue_stop(fake, queue);
        return;
    }
    queue = queue_to_set_up(fake, "QueuePFN");
    if (queue == NULL) {
        return;
    }
    if (fake->guest_page_bytes == 0 || queue->align == 0 || queue->size == 0) {
        fake_violation(fake, "QueuePFN before GuestPageSize, QueueAlign or QueueNum");
        return;
    }
    queue->page_number = value;
    queue->address[0] = (uint64_t)value * fake->guest_page_bytes;
    queue->address[1] = queue->address[0] + 16u * (uint64_t)queue->size;
    avail_end = queue->address[1] + 6 + 2u * (uint64_t)queue->size;
    queue->address[2] = (avail_end + queue->align - 1) / queue->align * queue->align;
    (void)fake_queue_start(fake, queue);
}

static void write_queue_align(struct fake_device *fake, uint32_t value)
{
    struct fake_queue *queue = queue_to_set_up(fake, "QueueAlign");

    if (value == 0 || (value & (value - 1)) != 0) {
        fake_violation(fake, "QueueAlign %u", value);
    } else if (queue != NULL) {
        queue->align = value;
    }
}

static void write_notify(struct fake_device *fake, uint32_t value)
{
    uint32_t index = fake_negotiated(fake, SK_VIRTIO_F_NOTIFICATION_DATA) ? value & 0xffff : value;
    uint64_t argument;

    fake->notifications++;
    need_status(fake, SK_VIRTIO_STATUS_DRIVER_OK, "notification");
    if (index >= fake->config.queue_count || !fake->queues[index].ready) {
        fake_violation(fake, "notification of queue %u, which is not in use", index);
        return;
    }
    if (fake->queues[index].reset_unseen) {
        fake_violation(fake, "notification of queue %u in the middle of its reset", index);
    }
    fake->queues[index].notifications++;
    fake->queues[index].position_told = (uint16_t)(value >> 16);
    if ((fake->status & SK_VIRTIO_STATUS_DRIVER_OK) == 0 ||
        (fake->status & SK_VIRTIO_STATUS_DEVICE_NEEDS_RESET) != 0 || fake->resetting ||
        fake_fires(fake, FAKE_FAULT_DEAF, &argument)) {
        return;
    }
    fake_queue_notified(fake, &fake->queues[index]);
}

static void write_interrupt_ack(struct fake_device *fake, uint32_t value)
{
    if ((value & ~fake->interrupt_status) != 0 || (value & ~3u) != 0) {
        fake_violation(fake, "interrupt 0x%x acknowledged, 0x%x is pending", value,
                       fake->interrupt_status);
    }
    fake->interrupt_status &= ~value;
}

static void write_guest_page_size(struct fake_device *fake, uint32_t value)
{
    need_status(fake, SK_VIRTIO_STATUS_ACKNOWLEDGE, "GuestPageSize");
    if (value == 0 || (value & (value - 1)) != 0) {
        fake_violation(fake, "GuestPageSize %u", value);
    }
    if (fake->guest_page_bytes != 0 && fake->guest_page_bytes != value) {
        fake_violation(fake, "GuestPageSize changed");
    }
    fake->guest_page_bytes = value;
}

static void write_register(struct fake_device *fake, uint64_t offset, uint32_t value)
{
    switch (offset) {
    case 0x014:
        fake->device_features_sel = value;
        return;
    case 0x020:
        write_features(fake, value);
        return;
    case 0x024:
        fake->driver_features_sel = value;
        return;
    case 0x028:
        write_guest_page_size(fake, value);
        return;
    case 0x030:
        fake->queue_sel = value;
        return;
    case 0x038:
        write_queue_size(fake, value);
        return;
    case 0x03c:
        write_queue_align(fake, value);
        return;
    case 0x040:
        write_page_number(fake, value);
        return;
    case 0x044:
        write_queue_ready(fake, value);
        return;
    case 0x050:
        write_notify(fake, value);
        return;
    case 0x064:
        write_interrupt_ack(fake, value);
        return;
    case 0x070:
        write_status(fake, value);
        return;
    case 0x0c0:
        fake_queue_reset_write(fake, selected(fake), value);
        return;
    default:
        write_queue_address(fake, offset, value);
    }
}

/* An interrupt in the middle of whatever the driver is doing. */
static void interrupt_anywhere(struct fake_device *fake, uint64_t offset)
{
    uint64_t argument;

    if (offset == 0x060 || offset == 0x064 || fake->interrupting ||
        !fake_fires(fake, FAKE_FAULT_INTERRUPT, &argument)) {
        return;
    }
    fake->interrupting = true;
    fake_raise(fake, (uint32_t)argument);
    fake->interrupting = false;
}

static uint32_t fake_read(void *context, uint64_t offset, unsigned width)
{
    struct fake_device *fake = context;
    uint64_t argument;

    interrupt_anywhere(fake, offset);
    if (fake_fires(fake, FAKE_FAULT_DEAD, &argument)) {
        return (uint32_t)argument;
    }
    if (!check_access(fake, offset, width, READ)) {
        return 0;
    }
    return offset >= 0x100 ? fake_config_read(fake, offset - 0x100, width)
                           : read_register(fake, offset);
}

static void fake_write(void *context, uint64_t offset, unsigned width, uint32_t value)
{
    struct fake_device *fake = context;
    const struct fake_fault_setting *dead = &fake->faults[FAKE_FAULT_DEAD];

    interrupt_anywhere(fake, offset);
    if ((dead->count > 0 && dead->fired > 0) || !check_access(fake, offset, width, WRITE)) {
        return;
    }
    if (offset >= 0x100) {
        fake_config_write(fake, offset - 0x100, width, value);
    } else {
        write_register(fake, offset, value);
    }
}

const struct sk_mmio_ops fake_register_ops = { .read = fake_read, .write = fake_write };
