/* SPDX-License-Identifier: MIT */
/* The configuration space of a block device; 5.2.4. */
#include "fake/virtio_internal.h"

#define ALWAYS 0xffu

struct field {
    uint8_t offset;
    uint8_t width;  /* of one access */
    uint8_t count;  /* accesses that make the field */
    uint8_t feature;
};

static const struct field fields[] = {
    { 0, 4, 2, ALWAYS }, /* capacity */
    { 8, 4, 1, SK_VIRTIO_BLK_F_SIZE_MAX },
    { 12, 4, 1, SK_VIRTIO_BLK_F_SEG_MAX },
    { 16, 2, 1, SK_VIRTIO_BLK_F_GEOMETRY },
    { 18, 1, 2, SK_VIRTIO_BLK_F_GEOMETRY },
    { 20, 4, 1, SK_VIRTIO_BLK_F_BLK_SIZE },
    { 24, 1, 2, SK_VIRTIO_BLK_F_TOPOLOGY },
    { 26, 2, 1, SK_VIRTIO_BLK_F_TOPOLOGY },
    { 28, 4, 1, SK_VIRTIO_BLK_F_TOPOLOGY },
    { 32, 1, 1, SK_VIRTIO_BLK_F_CONFIG_WCE },
    { 34, 2, 1, SK_VIRTIO_BLK_F_MQ },
    { 36, 4, 3, SK_VIRTIO_BLK_F_DISCARD },
    { 48, 4, 2, SK_VIRTIO_BLK_F_WRITE_ZEROES },
    { 56, 1, 1, SK_VIRTIO_BLK_F_WRITE_ZEROES },
    { 60, 4, 3, SK_VIRTIO_BLK_F_SECURE_ERASE },
    { 72, 4, 5, SK_VIRTIO_BLK_F_ZONED },
    { 92, 1, 1, SK_VIRTIO_BLK_F_ZONED },
};

static void put(struct fake_device *fake, unsigned offset, unsigned width, uint64_t value)
{
    for (unsigned i = 0; i < width; i++) {
        fake->config_space[offset + i] = (uint8_t)(value >> 8 * i);
    }
}

void fake_config_fill(struct fake_device *fake)
{
    const struct fake_device_config *config = &fake->config;

    put(fake, 0, 8, config->capacity_sectors);
    put(fake, 8, 4, config->size_max);
    put(fake, 12, 4, config->seg_max);
    put(fake, 20, 4, config->blk_size);
    put(fake, 24, 1, config->physical_block_exp);
    put(fake, 25, 1, config->alignment_offset);
    put(fake, 26, 2, config->min_io_size);
    put(fake, 28, 4, config->opt_io_size);
    put(fake, 32, 1, config->writeback ? 1 : 0);
    put(fake, 34, 2, config->queue_count);
    if ((config->features >> SK_VIRTIO_BLK_F_ZONED & 1) != 0 && config->zone_sectors > 0) {
        put(fake, 72, 4, config->zone_sectors);
        put(fake, 76, 4, config->max_open_zones);
        put(fake, 80, 4, config->max_active_zones);
        put(fake, 84, 4, config->max_append_sectors);
        put(fake, 88, 4, config->write_granularity);
        put(fake, 92, 1, config->host_aware ? 2 : 1);
    }
}

/* With several queues not every owner may have heard of the last change. */
uint64_t fake_config_known_capacity(const struct fake_device *fake)
{
    return fake->config.queue_count > 1 ? fake->driver_capacity_most : fake->driver_capacity;
}

/* The field that an access of this width at this offset is meant for, or NULL. */
static const struct field *field_of(uint64_t offset, unsigned width)
{
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        const struct field *field = &fields[i];

        if (width == field->width && offset >= field->offset &&
            offset < field->offset + (unsigned)(field->width * field->count) &&
            (offset - field->offset) % field->width == 0) {
            return field;
        }
    }
    return NULL;
}

/* Before the features are settled an offered feature is enough, afterwards it must be negotiated. */
static bool may_access(const struct fake_device *fake, const struct field *field)
{
    uint32_t settled = fake->config.legacy ? SK_VIRTIO_STATUS_DRIVER_OK
                                           : SK_VIRTIO_STATUS_FEATURES_OK;

    if (field->feature == ALWAYS) {
        return true;
    }
    return (fake->status & settled) != 0 ? fake_negotiated(fake, field->feature)
                                         : (fake->offered >> field->feature & 1) != 0;
}

static void check_read(struct fake_device *fake, uint64_t offset, unsigned width)
{
    const struct field *field = field_of(offset, width);

    if (field == NULL) {
        fake_violation(fake, "config: %u bytes read at %u: no field has this place and width",
                       width, (unsigned)offset);
        return;
    }
    if (!may_access(fake, field)) {
        fake_violation(fake, "config: field %u read without feature %u", field->offset,
                       field->feature);
    }
    if (field->feature == SK_VIRTIO_BLK_F_CONFIG_WCE &&
        (fake->status & (SK_VIRTIO_STATUS_FEATURES_OK | SK_VIRTIO_STATUS_DRIVER_OK)) == 0 &&
        !fake->config.legacy) {
        fake_violation(fake, "config: writeback read before FEATURES_OK");
    }
    if (field->offset == 0 && !fake->config.legacy) {
        if (!fake->generation_read) {
            fake_violation(fake, "config: capacity read without a generation before it");
        }
        fake->wide_field_open = true;
    }
}

uint32_t fake_config_read(struct fake_device *fake, uint64_t offset, unsigned width)
{
    uint32_t value = 0;
    uint64_t argument;

    if (offset + width > fake->config.config_bytes || offset % width != 0) {
        fake_violation(fake, "config: %u bytes read at %u of %u", width, (unsigned)offset,
                       fake->config.config_bytes);
        return 0;
    }
    check_read(fake, offset, width);
    for (unsigned i = 0; i < width; i++) {
        value |= (uint32_t)fake->config_space[offset + i] << 8 * i;
    }
    if (offset < 8) {
        uint64_t mask = UINT64_C(0xffffffff) << 8 * offset;

        fake->driver_capacity = (fake->driver_capacity & ~mask) | (uint64_t)value << 8 * offset;
        if (offset == 4 && fake->driver_capacity > fake->driver_capacity_most) {
            fake->driver_capacity_most = fake->driver_capacity;
        }
    }
    if (fake_fires(fake, FAKE_FAULT_CONFIG_TEARS, &argument)) {
        put(fake, 0, 8, fake_random(fake));
        fake->generation++;
    }
    return value;
}

void fake_config_write(struct fake_device *fake, uint64_t offset, unsigned width, uint32_t value)
{
    uint32_t needed = fake->config.legacy ? SK_VIRTIO_STATUS_DRIVER : SK_VIRTIO_STATUS_FEATURES_OK;

    if (offset != 32 || width != 1) {
        fake_violation(fake, "config: %u bytes written at %u: nothing there is writable", width,
                       (unsigned)offset);
        return;
    }
    if ((fake->status & needed) == 0) {
        fake_violation(fake, "config: written with status 0x%x", fake->status);
        return;
    }
    if (!fake_negotiated(fake, SK_VIRTIO_BLK_F_CONFIG_WCE) || value > 1) {
        fake_violation(fake, "config: writeback set to %u without CONFIG_WCE or not 0 or 1", value);
        return;
    }
    put(fake, 32, 1, value);
}
