/* SPDX-License-Identifier: MIT */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fake/virtio_internal.h"

#define STORAGE_SECTORS_MAX 131072u

void *fake_allocate(size_t bytes)
{
    void *memory = calloc(1, bytes == 0 ? 1 : bytes);

    if (memory == NULL) {
        abort();
    }
    return memory;
}

void fake_violation(struct fake_device *fake, const char *format, ...)
{
    unsigned at = fake->violations++;
    va_list arguments;

    if (at >= FAKE_VIOLATIONS_KEPT) {
        return;
    }
    va_start(arguments, format);
    (void)vsnprintf(fake->violation[at], FAKE_VIOLATION_BYTES, format, arguments);
    va_end(arguments);
    if (getenv("TEST_LOG") != NULL) {
        (void)fprintf(stderr, "violation: %s\n", fake->violation[at]);
    }
}

bool fake_fires(struct fake_device *fake, enum fake_fault fault, uint64_t *out_argument)
{
    struct fake_fault_setting *setting = &fake->faults[fault];

    if (setting->count == 0) {
        return false;
    }
    if (setting->skip > 0) {
        setting->skip--;
        return false;
    }
    if (setting->count != FAKE_FOR_EVER) {
        setting->count--;
    }
    setting->fired++;
    *out_argument = setting->argument;
    return true;
}

bool fake_negotiated(const struct fake_device *fake, unsigned bit)
{
    return (fake->driver_features & SK_VIRTIO_FEATURE(bit)) != 0;
}

/* xorshift64* */
uint64_t fake_random(struct fake_device *fake)
{
    fake->random ^= fake->random >> 12;
    fake->random ^= fake->random << 25;
    fake->random ^= fake->random >> 27;
    return fake->random * UINT64_C(0x2545f4914f6cdd1d);
}

void fake_raise(struct fake_device *fake, uint32_t bits)
{
    fake->interrupt_status |= bits;
    fake->interrupts++;
    if (fake->config.interrupt != NULL) {
        fake->config.interrupt(fake->config.interrupt_context);
    }
}

void fake_reset(struct fake_device *fake)
{
    for (uint32_t i = 0; i < FAKE_QUEUES_MAX; i++) {
        fake_queue_stop(fake, &fake->queues[i]);
    }
    while (fake->stalled != NULL) {
        struct fake_request *request = fake->stalled;

        fake->stalled = request->next;
        fake_request_free(request);
    }
    fake->status = 0;
    fake->interrupt_status = 0;
    fake->driver_features = 0;
    fake->driver_features_written = 0;
    fake->device_features_sel = 0;
    fake->driver_features_sel = 0;
    fake->queue_sel = 0;
    fake->guest_page_bytes = 0;
    fake->features_ok_read = false;
    fake->generation_read = false;
    fake->wide_field_open = false;
    fake->scribbled = false;
    fake->resetting = false;
    fake->in_flight = 0;
    fake->driver_capacity = 0;
    fake->driver_capacity_most = 0;
    fake->config_space[32] = fake->config.writeback ? 1 : 0;
}

static void fill_zone_defaults(struct fake_device_config *config)
{
    if ((config->features >> SK_VIRTIO_BLK_F_ZONED & 1) != 0 && config->zone_sectors > 0 &&
        config->config_bytes == 0) {
        config->config_bytes = FAKE_CONFIG_BYTES_MAX;
    }
    if (config->zone_capacity == 0) {
        config->zone_capacity = config->zone_sectors;
    }
    if (config->write_granularity == 0) {
        config->write_granularity = 512;
    }
}

static void fill_defaults(struct fake_device_config *config)
{
    fill_zone_defaults(config);
    if (!config->legacy) {
        config->features |= SK_VIRTIO_FEATURE(SK_VIRTIO_F_VERSION_1);
    }
    if (config->queue_count == 0) {
        config->queue_count = 1;
    }
    if (config->queue_size_max == 0) {
        config->queue_size_max = 256;
    }
    if (config->config_bytes == 0) {
        config->config_bytes = 60;
    }
    if (config->identity == NULL) {
        config->identity = "fake disk";
    }
    if (config->storage_sectors == 0) {
        config->storage_sectors = config->capacity_sectors < STORAGE_SECTORS_MAX
                                      ? config->capacity_sectors
                                      : STORAGE_SECTORS_MAX;
    }
}

struct fake_device *fake_device_create(const struct fake_device_config *config)
{
    struct fake_device *fake = fake_allocate(sizeof(*fake));

    fake->config = *config;
    fill_defaults(&fake->config);
    if (fake->config.reach == NULL || fake->config.queue_count > FAKE_QUEUES_MAX ||
        fake->config.config_bytes > FAKE_CONFIG_BYTES_MAX) {
        abort();
    }
    fake->random = fake->config.seed * 2 + 1;
    fake->offered = fake->config.features;
    fake->mmio = (struct sk_mmio){ .base = fake,
                                   .bytes = 0x100u + fake->config.config_bytes,
                                   .ops = &fake_register_ops,
                                   .context = fake };
    fake->storage_sectors = fake->config.storage_sectors;
    fake->storage = fake_allocate(fake->storage_sectors * 512);
    fake->durable = fake_allocate(fake->storage_sectors * 512);
    fake->durable_at = fake_allocate(fake->storage_sectors * sizeof(uint64_t));
    fake_config_fill(fake);
    fake_zones_create(fake);
    return fake;
}

void fake_device_destroy(struct fake_device *fake)
{
    fake_reset(fake);
    free(fake->storage);
    free(fake->durable);
    free(fake->durable_at);
    free(fake->zones);
    free(fake);
}

void fake_device_forgive(struct fake_device *fake)
{
    fake->violations = 0;
    memset(fake->violation, 0, sizeof(fake->violation));
}

unsigned fake_device_run(struct fake_device *fake, unsigned count)
{
    unsigned done = 0;

    for (uint32_t i = 0; i < fake->config.queue_count; i++) {
        struct fake_queue *queue = &fake->queues[i];

        if (!queue->ready || (fake->status & SK_VIRTIO_STATUS_DRIVER_OK) == 0 ||
            (fake->status & SK_VIRTIO_STATUS_DEVICE_NEEDS_RESET) != 0) {
            continue;
        }
        if (fake->config.polls) {
            fake_queue_take(fake, queue);
        } else {
            fake_queue_check_unnotified(fake, queue);
        }
        done += fake_queue_complete(fake, queue, count - done);
    }
    return done;
}

void fake_device_fault(struct fake_device *fake, enum fake_fault fault, uint64_t argument,
                       uint64_t skip, uint64_t count)
{
    fake->faults[fault] = (struct fake_fault_setting){ argument, skip, count, 0 };
}

void fake_device_behave(struct fake_device *fake)
{
    memset(fake->faults, 0, sizeof(fake->faults));
}

unsigned fake_device_complete_stalled(struct fake_device *fake)
{
    unsigned done = 0;

    while (fake->stalled != NULL) {
        struct fake_request *request = fake->stalled;
        struct fake_queue *queue = request->queue;

        fake->stalled = request->next;
        fake_block_execute(fake, request);
        fake_queue_finish(fake, request);
        fake_queue_signal(fake, queue);
        done++;
        if (fake_negotiated(fake, SK_VIRTIO_F_IN_ORDER) && !fake->config.deferred) {
            done += fake_queue_complete(fake, queue, UINT_MAX); /* what had to wait for it */
        }
    }
    return done;
}

void fake_device_forge_used(struct fake_device *fake, uint32_t queue, uint32_t id,
                            uint32_t length)
{
    if (fake->queues[queue].packed != NULL) {
        fake_packed_forge(&fake->queues[queue], id, length);
        return;
    }
    fake_queue_put_used(&fake->queues[queue], id, length);
    fake_queue_store_used_index(&fake->queues[queue], fake->queues[queue].used_index);
}

void fake_device_forge_used_index(struct fake_device *fake, uint32_t queue, uint16_t index)
{
    if (fake->queues[queue].packed != NULL) {
        fake_packed_forge_place(&fake->queues[queue], index);
        return;
    }
    fake->queues[queue].used_index = index;
    fake_queue_store_used_index(&fake->queues[queue], index);
}

void fake_device_interrupt(struct fake_device *fake, uint32_t bits)
{
    fake_raise(fake, bits);
}

void fake_device_needs_reset(struct fake_device *fake)
{
    fake->status |= SK_VIRTIO_STATUS_DEVICE_NEEDS_RESET;
    if ((fake->status & SK_VIRTIO_STATUS_DRIVER_OK) != 0) {
        fake_raise(fake, SK_VIRTIO_INTERRUPT_CONFIG);
    }
}

void fake_device_set_config(struct fake_device *fake, uint32_t offset, unsigned width,
                            uint64_t value)
{
    for (unsigned i = 0; i < width; i++) {
        fake->config_space[offset + i] = (uint8_t)(value >> 8 * i);
    }
    fake->generation++;
    if ((fake->status & SK_VIRTIO_STATUS_DRIVER_OK) != 0) {
        fake_raise(fake, SK_VIRTIO_INTERRUPT_CONFIG);
    }
}

void fake_device_set_capacity(struct fake_device *fake, uint64_t sectors)
{
    fake->config.capacity_sectors = sectors;
    fake_device_set_config(fake, 0, 8, sectors);
}

void fake_device_bad_sectors(struct fake_device *fake, uint64_t first, uint64_t count)
{
    fake->bad_first = first;
    fake->bad_count = count;
}

void fake_device_lose_power(struct fake_device *fake)
{
    memcpy(fake->storage, fake->durable, fake->storage_sectors * 512);
}
