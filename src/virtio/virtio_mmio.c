/* SPDX-License-Identifier: MIT */
#include <skio/virtio_mmio.h>

#include <skio/checked.h>

#include "base/door.h"

/* Registers; 4.2.2 "MMIO Device Register Layout", 4.2.4 for the legacy ones. */
#define REGISTER_MAGIC               0x000u /* R */
#define REGISTER_VERSION             0x004u /* R */
#define REGISTER_DEVICE_ID           0x008u /* R */
#define REGISTER_VENDOR_ID           0x00cu /* R */
#define REGISTER_DEVICE_FEATURES     0x010u /* R */
#define REGISTER_DEVICE_FEATURES_SEL 0x014u /* W */
#define REGISTER_DRIVER_FEATURES     0x020u /* W */
#define REGISTER_DRIVER_FEATURES_SEL 0x024u /* W */
#define REGISTER_GUEST_PAGE_SIZE     0x028u /* W, legacy */
#define REGISTER_QUEUE_SEL           0x030u /* W */
#define REGISTER_QUEUE_NUM_MAX       0x034u /* R */
#define REGISTER_QUEUE_NUM           0x038u /* W */
#define REGISTER_QUEUE_ALIGN         0x03cu /* W, legacy */
#define REGISTER_QUEUE_PFN           0x040u /* RW, legacy */
#define REGISTER_QUEUE_READY         0x044u /* RW */
#define REGISTER_QUEUE_NOTIFY        0x050u /* W */
#define REGISTER_INTERRUPT_STATUS    0x060u /* R */
#define REGISTER_INTERRUPT_ACK       0x064u /* W */
#define REGISTER_STATUS              0x070u /* RW */
#define REGISTER_QUEUE_DESC_LOW      0x080u /* W */
#define REGISTER_QUEUE_DRIVER_LOW    0x090u /* W */
#define REGISTER_QUEUE_DEVICE_LOW    0x0a0u /* W */
#define REGISTER_QUEUE_RESET         0x0c0u /* RW, with RING_RESET */
#define REGISTER_CONFIG_GENERATION   0x0fcu /* R */
#define REGISTER_CONFIG              0x100u /* device-specific */

#define MAGIC           0x74726976u /* "virt" */
#define VERSION_LEGACY  1u
#define VERSION_MODERN  2u
#define INTERRUPT_KNOWN (SK_VIRTIO_INTERRUPT_QUEUE | SK_VIRTIO_INTERRUPT_CONFIG)

/* What a legacy device multiplies its page numbers with. */
#define LEGACY_PAGE_BYTES 4096u

_Static_assert(REGISTER_CONFIG == SK_VIRTIO_MMIO_BYTES_MIN, "all control registers lie inside");
_Static_assert(offsetof(struct sk_virtio_mmio, transport) == 0, "the transport is the head");

static const struct sk_mmio *registers_of(const struct sk_virtio_transport *transport)
{
    return &((const struct sk_virtio_mmio *)(const void *)transport)->mmio;
}

/* Control registers are 32 bits wide; open made sure that all of them exist. */
static uint32_t read_register(const struct sk_virtio_transport *transport, uint32_t offset)
{
    return ski_door_register_read(registers_of(transport), offset, 4);
}

static void write_register(const struct sk_virtio_transport *transport, uint32_t offset,
                           uint32_t value)
{
    ski_door_register_write(registers_of(transport), offset, 4, value);
}

static void write_address(const struct sk_virtio_transport *transport, uint32_t low_offset,
                          sk_daddr address)
{
    write_register(transport, low_offset, (uint32_t)address.raw);
    write_register(transport, low_offset + 4, (uint32_t)(address.raw >> 32));
}

/* The status has 8 bits (2.1): all ones is what a bus answers where nobody is. */
static enum sk_status get_status(struct sk_virtio_transport *transport, uint32_t *out_status)
{
    *out_status = read_register(transport, REGISTER_STATUS);
    return *out_status == UINT32_MAX ? SK_ERR_BROKEN : SK_OK;
}

/* A slot may stay behind without its device: the magic is there, the device's id is 0. */
static enum sk_status look(struct sk_virtio_transport *transport)
{
    uint32_t version = transport->legacy ? VERSION_LEGACY : VERSION_MODERN;
    bool same = read_register(transport, REGISTER_MAGIC) == MAGIC &&
                read_register(transport, REGISTER_VERSION) == version &&
                read_register(transport, REGISTER_DEVICE_ID) == transport->device_type;

    return same ? SK_OK : SK_ERR_GONE;
}

static enum sk_status set_status(struct sk_virtio_transport *transport, uint32_t status)
{
    write_register(transport, REGISTER_STATUS, status);
    return SK_OK;
}

static enum sk_status get_features(struct sk_virtio_transport *transport, uint64_t *out_features)
{
    uint64_t features;

    write_register(transport, REGISTER_DEVICE_FEATURES_SEL, 0);
    features = read_register(transport, REGISTER_DEVICE_FEATURES);
    if (!transport->legacy) {
        write_register(transport, REGISTER_DEVICE_FEATURES_SEL, 1);
        features |= (uint64_t)read_register(transport, REGISTER_DEVICE_FEATURES) << 32;
    }
    *out_features = features;
    return SK_OK;
}

static enum sk_status set_features(struct sk_virtio_transport *transport, uint64_t features)
{
    if (transport->legacy && features >> 32 != 0) {
        return SK_ERR_UNSUPPORTED;
    }
    write_register(transport, REGISTER_DRIVER_FEATURES_SEL, 0);
    write_register(transport, REGISTER_DRIVER_FEATURES, (uint32_t)features);
    if (!transport->legacy) {
        write_register(transport, REGISTER_DRIVER_FEATURES_SEL, 1);
        write_register(transport, REGISTER_DRIVER_FEATURES, (uint32_t)(features >> 32));
    }
    return SK_OK;
}

/* Whether a field can be accessed; 64-bit ones are two accesses of 32 bits (4.2.2.2). */
static enum sk_status check_config(const struct sk_virtio_transport *transport, uint32_t offset,
                                   unsigned width)
{
    unsigned access = width == 8 ? 4 : width;

    if ((access != 1 && access != 2 && access != 4) || offset % access != 0) {
        return SK_ERR_INVALID;
    }
    if (!sk_checked_range((uint64_t)REGISTER_CONFIG + offset, width,
                          registers_of(transport)->bytes)) {
        return SK_ERR_RANGE;
    }
    return SK_OK;
}

static enum sk_status read_config(struct sk_virtio_transport *transport, uint32_t offset,
                                  unsigned width, void *out)
{
    const struct sk_mmio *mmio = registers_of(transport);
    uint64_t at = (uint64_t)REGISTER_CONFIG + offset;
    enum sk_status status = check_config(transport, offset, width);
    uint32_t value;

    if (status != SK_OK) {
        return status;
    }
    value = ski_door_register_read(mmio, at, width == 8 ? 4 : width);
    if (width == 1) {
        *(uint8_t *)out = (uint8_t)value;
    } else if (width == 2) {
        *(uint16_t *)out = (uint16_t)value;
    } else if (width == 4) {
        *(uint32_t *)out = value;
    } else {
        *(uint64_t *)out = value | (uint64_t)ski_door_register_read(mmio, at + 4, 4) << 32;
    }
    return SK_OK;
}

static enum sk_status write_config(struct sk_virtio_transport *transport, uint32_t offset,
                                   unsigned width, const void *in)
{
    const struct sk_mmio *mmio = registers_of(transport);
    uint64_t at = (uint64_t)REGISTER_CONFIG + offset;
    enum sk_status status = check_config(transport, offset, width);

    if (status != SK_OK) {
        return status;
    }
    if (width == 1) {
        ski_door_register_write(mmio, at, 1, *(const uint8_t *)in);
    } else if (width == 2) {
        ski_door_register_write(mmio, at, 2, *(const uint16_t *)in);
    } else if (width == 4) {
        ski_door_register_write(mmio, at, 4, *(const uint32_t *)in);
    } else {
        uint64_t value = *(const uint64_t *)in;

        ski_door_register_write(mmio, at, 4, (uint32_t)value);
        ski_door_register_write(mmio, at + 4, 4, (uint32_t)(value >> 32));
    }
    return SK_OK;
}

static enum sk_status get_generation(struct sk_virtio_transport *transport,
                                     uint32_t *out_generation)
{
    *out_generation = transport->legacy ? 0 : read_register(transport, REGISTER_CONFIG_GENERATION);
    return SK_OK;
}

static enum sk_status get_queue_max(struct sk_virtio_transport *transport, uint32_t index,
                                    uint32_t *out_size)
{
    write_register(transport, REGISTER_QUEUE_SEL, index);
    *out_size = read_register(transport, REGISTER_QUEUE_NUM_MAX);
    return SK_OK;
}

/* 4.2.3.2 "Virtqueue Configuration". */
static enum sk_status enable_queue(struct sk_virtio_transport *transport, uint32_t index,
                                   const struct sk_virtio_queue_layout *layout)
{
    write_register(transport, REGISTER_QUEUE_SEL, index);
    if (read_register(transport, REGISTER_QUEUE_READY) != 0) {
        return SK_ERR_BUSY;
    }
    write_register(transport, REGISTER_QUEUE_NUM, layout->size);
    write_address(transport, REGISTER_QUEUE_DESC_LOW, layout->descriptors);
    write_address(transport, REGISTER_QUEUE_DRIVER_LOW, layout->driver_area);
    write_address(transport, REGISTER_QUEUE_DEVICE_LOW, layout->device_area);
    write_register(transport, REGISTER_QUEUE_READY, 1);
    return SK_OK;
}

/*
 * 4.2.2.2: the register reads 1 until the device is done, and QueueReady 0 from
 * then on.  Both are looked at: there are devices that offer the feature, have no
 * such register, and go on using the queue.
 */
static enum sk_status reset_queue(struct sk_virtio_transport *transport, uint32_t index,
                                  uint64_t timeout_ns)
{
    const struct sk_platform *platform = transport->platform;
    uint64_t begin = platform->now_ns(platform->context);

    write_register(transport, REGISTER_QUEUE_SEL, index);
    write_register(transport, REGISTER_QUEUE_RESET, 1);
    while (read_register(transport, REGISTER_QUEUE_RESET) != 0) {
        if (platform->now_ns(platform->context) - begin >= timeout_ns) {
            return SK_ERR_TIMEOUT;
        }
    }
    return read_register(transport, REGISTER_QUEUE_READY) == 0 ? SK_OK : SK_ERR_MALFORMED;
}

/*
 * A legacy device is told the first page only and computes the rest: whatever
 * the layout says must be what it will compute (2.7.2 "Legacy Interfaces: A
 * Note on Virtqueue Layout").  Page number 0 would disable the queue.
 */
static enum sk_status legacy_page_number(const struct sk_virtio_queue_layout *layout,
                                         uint32_t *out_page_number)
{
    uint64_t start = layout->descriptors.raw;
    uint64_t driver_offset = 16u * (uint64_t)layout->size;
    uint64_t device_offset;

    if (!sk_checked_align_up(driver_offset + 6 + 2 * (uint64_t)layout->size,
                             SK_VIRTIO_MMIO_LEGACY_ALIGNMENT, &device_offset) ||
        layout->driver_area.raw - start != driver_offset ||
        layout->device_area.raw - start != device_offset) {
        return SK_ERR_INVALID;
    }
    if (start % LEGACY_PAGE_BYTES != 0 || start / LEGACY_PAGE_BYTES > UINT32_MAX || start == 0) {
        return SK_ERR_UNREACHABLE;
    }
    *out_page_number = (uint32_t)(start / LEGACY_PAGE_BYTES);
    return SK_OK;
}

/* 4.2.4 "Legacy interface", "Virtqueue Configuration". */
static enum sk_status enable_legacy_queue(struct sk_virtio_transport *transport, uint32_t index,
                                          const struct sk_virtio_queue_layout *layout)
{
    uint32_t page_number;
    enum sk_status status = legacy_page_number(layout, &page_number);

    if (status != SK_OK) {
        return status;
    }
    write_register(transport, REGISTER_GUEST_PAGE_SIZE, LEGACY_PAGE_BYTES);
    write_register(transport, REGISTER_QUEUE_SEL, index);
    if (read_register(transport, REGISTER_QUEUE_PFN) != 0) {
        return SK_ERR_BUSY;
    }
    write_register(transport, REGISTER_QUEUE_NUM, layout->size);
    write_register(transport, REGISTER_QUEUE_ALIGN, SK_VIRTIO_MMIO_LEGACY_ALIGNMENT);
    write_register(transport, REGISTER_QUEUE_PFN, page_number);
    return SK_OK;
}

static void notify(struct sk_virtio_transport *transport, uint32_t data)
{
    write_register(transport, REGISTER_QUEUE_NOTIFY, data);
}

/* A driver must not acknowledge bits that the specification does not define (4.2.2.2). */
static uint32_t take_interrupt(struct sk_virtio_transport *transport)
{
    uint32_t seen = read_register(transport, REGISTER_INTERRUPT_STATUS) & INTERRUPT_KNOWN;

    if (seen != 0) {
        write_register(transport, REGISTER_INTERRUPT_ACK, seen);
    }
    return seen;
}

#define OPS(enable, reset)                                                                      \
    {                                                                                           \
        .get_status = get_status, .set_status = set_status, .get_features = get_features,       \
        .set_features = set_features, .read_config = read_config, .write_config = write_config, \
        .get_generation = get_generation, .get_queue_max = get_queue_max,                       \
        .enable_queue = (enable), .reset_queue = (reset), .look = look, .notify = notify,       \
        .take_interrupt = take_interrupt                                                        \
    }

static const struct sk_virtio_transport_ops modern_ops = OPS(enable_queue, reset_queue);
static const struct sk_virtio_transport_ops legacy_ops = OPS(enable_legacy_queue, NULL);

static void fill_transport(struct sk_virtio_transport *transport,
                           const struct sk_platform *platform, uint64_t address, bool legacy)
{
    transport->ops = legacy ? &legacy_ops : &modern_ops;
    transport->platform = platform;
    transport->kind = legacy ? "mmio-legacy" : "mmio";
    transport->address = address;
    transport->legacy = legacy;
    transport->ring_alignment = legacy ? SK_VIRTIO_MMIO_LEGACY_ALIGNMENT : 0;
}

enum sk_status sk_virtio_mmio_open(struct sk_virtio_mmio *mmio_transport,
                                   const struct sk_platform *platform, const struct sk_mmio *mmio,
                                   uint64_t address)
{
    uint32_t version;
    uint32_t device_id;

    *mmio_transport = (struct sk_virtio_mmio){ 0 };
    if (mmio->bytes < SK_VIRTIO_MMIO_BYTES_MIN) {
        return SK_ERR_SIZE;
    }
    if (ski_door_register_read(mmio, REGISTER_MAGIC, 4) != MAGIC) {
        return SK_ERR_MALFORMED;
    }
    version = ski_door_register_read(mmio, REGISTER_VERSION, 4);
    if (version != VERSION_LEGACY && version != VERSION_MODERN) {
        return SK_ERR_UNSUPPORTED;
    }
    device_id = ski_door_register_read(mmio, REGISTER_DEVICE_ID, 4);
    if (device_id == 0) {
        return SK_ERR_NOT_FOUND;
    }
    mmio_transport->mmio = *mmio;
    fill_transport(&mmio_transport->transport, platform, address, version == VERSION_LEGACY);
    mmio_transport->transport.device_type = device_id;
    mmio_transport->transport.vendor = ski_door_register_read(mmio, REGISTER_VENDOR_ID, 4);
    return SK_OK;
}
