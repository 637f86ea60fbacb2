/* SPDX-License-Identifier: MIT */
/* Features and configuration of the virtio block driver; Virtio 1.2, 5.2.3 to 5.2.5. */
#include "block/block_watch.h"
#include "block/virtio_blk.h"

#include <skio/checked.h>

#define BIT(name) SK_VIRTIO_FEATURE(name)

/* Largest block size that is believed; bytes. */
#define BLOCK_BYTES_MAX (UINT64_C(1) << 20)

/* Largest exponent of a physical block that is believed. */
#define PHYSICAL_EXPONENT_MAX 16u

/* More sectors than this have no byte address. */
#define CAPACITY_MAX (UINT64_MAX / SK_BLOCK_SECTOR_BYTES)

#define FIELD SKI_BLK_FIELD

static const struct ski_virtio_field fields[] = {
    FIELD(0, 8, SKI_VIRTIO_ALWAYS, capacity),
    FIELD(8, 4, SK_VIRTIO_BLK_F_SIZE_MAX, size_max),
    FIELD(12, 4, SK_VIRTIO_BLK_F_SEG_MAX, seg_max),
    FIELD(16, 2, SK_VIRTIO_BLK_F_GEOMETRY, cylinders),
    FIELD(18, 1, SK_VIRTIO_BLK_F_GEOMETRY, heads),
    FIELD(19, 1, SK_VIRTIO_BLK_F_GEOMETRY, sectors),
    FIELD(20, 4, SK_VIRTIO_BLK_F_BLK_SIZE, blk_size),
    FIELD(24, 1, SK_VIRTIO_BLK_F_TOPOLOGY, physical_block_exp),
    FIELD(25, 1, SK_VIRTIO_BLK_F_TOPOLOGY, alignment_offset),
    FIELD(26, 2, SK_VIRTIO_BLK_F_TOPOLOGY, min_io_size),
    FIELD(28, 4, SK_VIRTIO_BLK_F_TOPOLOGY, opt_io_size),
    FIELD(SKI_BLK_CONFIG_WRITEBACK, 1, SK_VIRTIO_BLK_F_CONFIG_WCE, writeback),
    FIELD(34, 2, SK_VIRTIO_BLK_F_MQ, num_queues),
    FIELD(36, 4, SK_VIRTIO_BLK_F_DISCARD, discard_sectors),
    FIELD(40, 4, SK_VIRTIO_BLK_F_DISCARD, discard_ranges),
    FIELD(44, 4, SK_VIRTIO_BLK_F_DISCARD, discard_alignment),
    FIELD(48, 4, SK_VIRTIO_BLK_F_WRITE_ZEROES, zeroes_sectors),
    FIELD(52, 4, SK_VIRTIO_BLK_F_WRITE_ZEROES, zeroes_ranges),
    FIELD(56, 1, SK_VIRTIO_BLK_F_WRITE_ZEROES, zeroes_may_unmap),
    FIELD(60, 4, SK_VIRTIO_BLK_F_SECURE_ERASE, erase_sectors),
    FIELD(64, 4, SK_VIRTIO_BLK_F_SECURE_ERASE, erase_ranges),
    FIELD(68, 4, SK_VIRTIO_BLK_F_SECURE_ERASE, erase_alignment),
    FIELD(72, 4, SK_VIRTIO_BLK_F_ZONED, zone_sectors),
    FIELD(76, 4, SK_VIRTIO_BLK_F_ZONED, zones_open),
    FIELD(80, 4, SK_VIRTIO_BLK_F_ZONED, zones_active),
    FIELD(84, 4, SK_VIRTIO_BLK_F_ZONED, append_sectors),
    FIELD(88, 4, SK_VIRTIO_BLK_F_ZONED, write_granularity),
    FIELD(SKI_BLK_CONFIG_ZONE_MODEL, 1, SK_VIRTIO_BLK_F_ZONED, zone_model),
};

#define FIELD_COUNT (sizeof(fields) / sizeof(fields[0]))

uint64_t ski_blk_wanted_features(const struct sk_virtio_blk_options *options)
{
    uint64_t implemented = BIT(SK_VIRTIO_BLK_F_SIZE_MAX) | BIT(SK_VIRTIO_BLK_F_SEG_MAX) |
                           BIT(SK_VIRTIO_BLK_F_GEOMETRY) | BIT(SK_VIRTIO_BLK_F_RO) |
                           BIT(SK_VIRTIO_BLK_F_BLK_SIZE) | BIT(SK_VIRTIO_BLK_F_FLUSH) |
                           BIT(SK_VIRTIO_BLK_F_TOPOLOGY) | BIT(SK_VIRTIO_BLK_F_CONFIG_WCE) |
                           BIT(SK_VIRTIO_BLK_F_DISCARD) | BIT(SK_VIRTIO_BLK_F_WRITE_ZEROES) |
                           BIT(SK_VIRTIO_BLK_F_LIFETIME) | BIT(SK_VIRTIO_BLK_F_SECURE_ERASE) |
                           BIT(SK_VIRTIO_BLK_F_ZONED) | BIT(SK_VIRTIO_F_INDIRECT_DESC) |
                           BIT(SK_VIRTIO_F_EVENT_IDX) | BIT(SK_VIRTIO_F_ORDER_PLATFORM) |
                           BIT(SK_VIRTIO_F_RING_PACKED) | BIT(SK_VIRTIO_F_NOTIFICATION_DATA) |
                           BIT(SK_VIRTIO_F_RING_RESET) | BIT(SK_VIRTIO_F_IN_ORDER);

    if (options->queue_count > 1) {
        implemented |= BIT(SK_VIRTIO_BLK_F_MQ);
    }
    return implemented & options->features;
}

const char *sk_virtio_blk_feature_name(unsigned bit)
{
    static const char *const names[] = {
        [SK_VIRTIO_BLK_F_SIZE_MAX] = "SIZE_MAX",
        [SK_VIRTIO_BLK_F_SEG_MAX] = "SEG_MAX",
        [SK_VIRTIO_BLK_F_GEOMETRY] = "GEOMETRY",
        [SK_VIRTIO_BLK_F_RO] = "RO",
        [SK_VIRTIO_BLK_F_BLK_SIZE] = "BLK_SIZE",
        [SK_VIRTIO_BLK_F_FLUSH] = "FLUSH",
        [SK_VIRTIO_BLK_F_TOPOLOGY] = "TOPOLOGY",
        [SK_VIRTIO_BLK_F_CONFIG_WCE] = "CONFIG_WCE",
        [SK_VIRTIO_BLK_F_MQ] = "MQ",
        [SK_VIRTIO_BLK_F_DISCARD] = "DISCARD",
        [SK_VIRTIO_BLK_F_WRITE_ZEROES] = "WRITE_ZEROES",
        [SK_VIRTIO_BLK_F_LIFETIME] = "LIFETIME",
        [SK_VIRTIO_BLK_F_SECURE_ERASE] = "SECURE_ERASE",
        [SK_VIRTIO_BLK_F_ZONED] = "ZONED",
        [SK_VIRTIO_F_INDIRECT_DESC] = "INDIRECT_DESC",
        [SK_VIRTIO_F_EVENT_IDX] = "EVENT_IDX",
        [SK_VIRTIO_F_VERSION_1] = "VERSION_1",
        [SK_VIRTIO_F_ACCESS_PLATFORM] = "ACCESS_PLATFORM",
        [SK_VIRTIO_F_RING_PACKED] = "RING_PACKED",
        [SK_VIRTIO_F_IN_ORDER] = "IN_ORDER",
        [SK_VIRTIO_F_ORDER_PLATFORM] = "ORDER_PLATFORM",
        [SK_VIRTIO_F_SR_IOV] = "SR_IOV",
        [SK_VIRTIO_F_NOTIFICATION_DATA] = "NOTIFICATION_DATA",
        [SK_VIRTIO_F_NOTIF_CONFIG_DATA] = "NOTIF_CONFIG_DATA",
        [SK_VIRTIO_F_RING_RESET] = "RING_RESET",
    };

    return bit < sizeof(names) / sizeof(names[0]) ? names[bit] : NULL;
}

enum sk_status ski_blk_refuse(const struct ski_blk *blk, enum sk_status status, const char *what,
                              uint64_t value)
{
    sk_log_print(blk->block.platform->log, SK_LOG_ERROR, "virtio-blk 0x%llx: %s (%llu): %s",
                 (unsigned long long)blk->virtio.transport->address, what,
                 (unsigned long long)value, sk_status_text(status));
    return status;
}

static enum sk_status check_features(const struct ski_blk *blk)
{
    bool translated = ski_virtio_device_has(&blk->virtio, SK_VIRTIO_F_ACCESS_PLATFORM);

    /* Without ACCESS_PLATFORM the device uses physical addresses, past the IOMMU. */
    if (blk->block.domain->iommu != NULL && !translated) {
        return ski_blk_refuse(blk, SK_ERR_UNSUPPORTED, "IOMMU, but ACCESS_PLATFORM is not offered", 0);
    }
    return SK_OK;
}

static enum sk_status check_sizes(const struct ski_blk *blk, const struct ski_blk_config *config,
                                  struct sk_block_info *info)
{
    uint64_t block = SK_BLOCK_SECTOR_BYTES;

    if (config->capacity > CAPACITY_MAX) {
        return ski_blk_refuse(blk, SK_ERR_MALFORMED, "capacity in sectors", config->capacity);
    }
    if (ski_virtio_device_has(&blk->virtio, SK_VIRTIO_BLK_F_BLK_SIZE)) {
        block = config->blk_size;
        if (!sk_checked_is_power_of_two(block) || block < SK_BLOCK_SECTOR_BYTES ||
            block > BLOCK_BYTES_MAX) {
            return ski_blk_refuse(blk, SK_ERR_MALFORMED, "block size", block);
        }
    }
    info->capacity_sectors = config->capacity;
    info->block_bytes = (uint32_t)block;
    return SK_OK;
}

/* A hint in blocks as bytes; 0 if that is too much to believe. */
static uint32_t hint_bytes(uint64_t blocks, uint64_t block_bytes)
{
    return blocks * block_bytes <= UINT32_MAX ? (uint32_t)(blocks * block_bytes) : 0;
}

/* Hints: what makes no sense is left out, and refuses nothing. */
static void set_hints(const struct ski_blk_config *config, struct sk_block_info *info)
{
    uint64_t block = info->block_bytes;
    bool tracks = config->cylinders != 0 && config->heads != 0 && config->sectors != 0;

    info->physical_block_bytes = (uint32_t)block;
    if (config->physical_block_exp <= PHYSICAL_EXPONENT_MAX &&
        block << config->physical_block_exp <= UINT32_MAX) {
        info->physical_block_bytes = (uint32_t)(block << config->physical_block_exp);
    }
    info->alignment_offset_bytes = hint_bytes(config->alignment_offset, block);
    if (info->alignment_offset_bytes >= info->physical_block_bytes) {
        info->alignment_offset_bytes = 0;
    }
    info->minimum_io_bytes = hint_bytes(config->min_io_size, block);
    info->optimal_io_bytes = hint_bytes(config->opt_io_size, block);
    info->geometry = (struct sk_block_geometry){ .cylinders = 0 };
    if (tracks) {
        info->geometry = (struct sk_block_geometry){ (uint16_t)config->cylinders,
                                                     (uint8_t)config->heads,
                                                     (uint8_t)config->sectors };
    }
}

static uint32_t clamp_at_least_one(uint64_t value)
{
    return value == 0 ? 1 : (uint32_t)(value > UINT32_MAX ? UINT32_MAX : value);
}

static enum sk_status check_limits(const struct ski_blk *blk, const struct ski_blk_config *config,
                                   struct sk_block_info *info)
{
    info->segment_count_max = blk->options.segment_count;
    if (ski_virtio_device_has(&blk->virtio, SK_VIRTIO_BLK_F_SEG_MAX) &&
        clamp_at_least_one(config->seg_max) < info->segment_count_max) {
        info->segment_count_max = clamp_at_least_one(config->seg_max);
    }
    info->segment_bytes_max = 0;
    /* Some devices (qemu-storage-daemon) offer the field and say 0, for no limit. */
    if (ski_virtio_device_has(&blk->virtio, SK_VIRTIO_BLK_F_SIZE_MAX) && config->size_max != 0) {
        info->segment_bytes_max = clamp_at_least_one(config->size_max);
        if (info->segment_bytes_max * info->segment_count_max < info->block_bytes) {
            return ski_blk_refuse(blk, SK_ERR_UNSUPPORTED, "no block fits a request; size_max",
                          config->size_max);
        }
    }
    return SK_OK;
}

/*
 * What the device said of an operation on ranges, defended: whole blocks, at
 * least one range, no more than a slot holds.  A device whose longest segment
 * is shorter than a range cannot be told one.
 */
static void set_limits(const struct ski_blk *blk, const struct sk_block_info *info, unsigned feature,
                       uint64_t sectors, uint64_t ranges, struct sk_block_range_limits *limits)
{
    uint32_t block_sectors = info->block_bytes / SK_BLOCK_SECTOR_BYTES;
    uint64_t room = blk->options.segment_count; /* ranges of a slot */

    limits->sectors_max = 0;
    limits->ranges_max = 0;
    if (info->segment_bytes_max != 0 &&
        info->segment_bytes_max / sizeof(struct ski_blk_range) < room) {
        room = info->segment_bytes_max / sizeof(struct ski_blk_range);
    }
    if (!ski_virtio_device_has(&blk->virtio, feature) || room == 0 || sectors < block_sectors) {
        return;
    }
    limits->sectors_max = (uint32_t)(sectors - sectors % block_sectors);
    limits->ranges_max = clamp_at_least_one(ranges < room ? ranges : room);
}

static void set_ranges(const struct ski_blk *blk, const struct ski_blk_config *config,
                       struct sk_block_info *info)
{
    info->discard.alignment_sectors = clamp_at_least_one(config->discard_alignment);
    set_limits(blk, info, SK_VIRTIO_BLK_F_DISCARD, config->discard_sectors, config->discard_ranges,
               &info->discard);
    info->write_zeroes.alignment_sectors = 1;
    set_limits(blk, info, SK_VIRTIO_BLK_F_WRITE_ZEROES, config->zeroes_sectors, config->zeroes_ranges,
               &info->write_zeroes);
    info->secure_erase.alignment_sectors = clamp_at_least_one(config->erase_alignment);
    set_limits(blk, info, SK_VIRTIO_BLK_F_SECURE_ERASE, config->erase_sectors, config->erase_ranges,
               &info->secure_erase);
    info->zeroes_may_unmap = config->zeroes_may_unmap != 0;
    info->lifetime = ski_virtio_device_has(&blk->virtio, SK_VIRTIO_BLK_F_LIFETIME);
}

static void set_cache(const struct ski_blk *blk, const struct ski_blk_config *config,
                      struct sk_block_info *info)
{
    /* 5.2.5: without CONFIG_WCE a device that can flush is taken for write-back. */
    info->cache = (blk->virtio.offered & BIT(SK_VIRTIO_BLK_F_FLUSH)) != 0
                      ? SK_BLOCK_CACHE_WRITE_BACK
                      : SK_BLOCK_CACHE_WRITE_THROUGH;
    if (ski_virtio_device_has(&blk->virtio, SK_VIRTIO_BLK_F_CONFIG_WCE)) {
        info->cache = config->writeback != 0 ? SK_BLOCK_CACHE_WRITE_BACK
                                             : SK_BLOCK_CACHE_WRITE_THROUGH;
        info->cache_can_change = true;
    } else {
        info->cache_can_change = false;
    }
    info->read_only = ski_virtio_device_has(&blk->virtio, SK_VIRTIO_BLK_F_RO);
    info->features_offered = blk->virtio.offered;
    info->features = blk->virtio.features;
}

/* Fills what the configuration says into *info; the rest of it stays. */
static enum sk_status read_info(struct ski_blk *blk, struct sk_block_info *info,
                                uint32_t *out_num_queues)
{
    struct ski_blk_config config = { 0 };
    enum sk_status status =
        ski_virtio_device_read_config(&blk->virtio, fields, FIELD_COUNT, &config);

    if (status == SK_ERR_RANGE) {
        return ski_blk_refuse(blk, status, "configuration space too short; fields", FIELD_COUNT);
    }
    if (status == SK_OK) {
        status = check_sizes(blk, &config, info);
    }
    if (status == SK_OK) {
        status = check_limits(blk, &config, info);
    }
    if (status != SK_OK) {
        return status;
    }
    set_hints(&config, info);
    set_cache(blk, &config, info);
    set_ranges(blk, &config, info);
    status = ski_blk_set_zones(blk, &config, info);
    if (status != SK_OK) {
        return status;
    }
    *out_num_queues = ski_virtio_device_has(&blk->virtio, SK_VIRTIO_BLK_F_MQ)
                          ? clamp_at_least_one(config.num_queues)
                          : 1;
    return SK_OK;
}

enum sk_status ski_blk_configure(struct ski_blk *blk, struct sk_block_info *info,
                                 uint32_t *out_num_queues)
{
    enum sk_status status = check_features(blk);

    return status == SK_OK ? read_info(blk, info, out_num_queues) : status;
}

static bool same_ranges(const struct sk_block_info *a, const struct sk_block_info *b)
{
    return memcmp(&a->discard, &b->discard, sizeof(a->discard)) == 0 &&
           memcmp(&a->write_zeroes, &b->write_zeroes, sizeof(a->write_zeroes)) == 0 &&
           memcmp(&a->secure_erase, &b->secure_erase, sizeof(a->secure_erase)) == 0;
}

bool ski_blk_is_same_kind(const struct sk_block_info *a, const struct sk_block_info *b)
{
    return a->features == b->features && a->block_bytes == b->block_bytes &&
           a->queue_count == b->queue_count && a->zones.model == b->zones.model &&
           a->zones.sectors == b->zones.sectors && a->zones.write_bytes == b->zones.write_bytes;
}

uint32_t ski_blk_changes_between(const struct sk_block_info *a, const struct sk_block_info *b)
{
    bool limits = a->physical_block_bytes != b->physical_block_bytes ||
                  a->alignment_offset_bytes != b->alignment_offset_bytes ||
                  a->minimum_io_bytes != b->minimum_io_bytes ||
                  a->optimal_io_bytes != b->optimal_io_bytes ||
                  memcmp(&a->geometry, &b->geometry, sizeof(a->geometry)) != 0 ||
                  a->zeroes_may_unmap != b->zeroes_may_unmap || !same_ranges(a, b);

    return (a->capacity_sectors != b->capacity_sectors ? SK_BLOCK_CHANGED_CAPACITY : 0) |
           (a->cache != b->cache ? SK_BLOCK_CHANGED_CACHE : 0) |
           (limits ? SK_BLOCK_CHANGED_LIMITS : 0);
}

enum sk_status ski_blk_renew_info(struct ski_blk *blk)
{
    struct sk_block_info *info = &blk->block.info;
    struct sk_block_info fresh;
    uint32_t num_queues;
    uint32_t changes;
    enum sk_status status;

    (void)memcpy(&fresh, info, sizeof(fresh)); /* with what lies between the fields */
    status = read_info(blk, &fresh, &num_queues);
    if (status != SK_OK) {
        return status;
    }
    if (!ski_blk_is_same_kind(info, &fresh)) {
        return ski_blk_refuse(blk, SK_ERR_UNSUPPORTED, "another kind of disk; block size",
                              fresh.block_bytes);
    }
    /* The queues rely on these; they are not looked at anew until a recovery. */
    fresh.zones = info->zones;
    fresh.segment_count_max = info->segment_count_max;
    fresh.segment_bytes_max = info->segment_bytes_max;
    changes = ski_blk_changes_between(info, &fresh);
    if ((changes & SK_BLOCK_CHANGED_CAPACITY) != 0 && sk_log_limit_pass(&blk->config_lines)) {
        sk_log_print(blk->block.platform->log, SK_LOG_INFO,
                     "virtio-blk 0x%llx: capacity %llu sectors, was %llu",
                     (unsigned long long)blk->virtio.transport->address,
                     (unsigned long long)fresh.capacity_sectors,
                     (unsigned long long)info->capacity_sectors);
    }
    if (changes != 0) {
        ski_block_change_info(&blk->block, &fresh, changes);
    }
    return SK_OK;
}

static void change_cache(struct ski_blk *blk, enum sk_block_cache cache)
{
    struct sk_block_info fresh;

    (void)memcpy(&fresh, &blk->block.info, sizeof(fresh));
    fresh.cache = cache;
    ski_block_change_info(&blk->block, &fresh, SK_BLOCK_CHANGED_CACHE);
}

enum sk_status ski_blk_set_cache(struct sk_block_device *device, enum sk_block_cache cache)
{
    struct ski_blk *blk = SK_CONTAINER_OF(device, struct ski_blk, block);
    struct sk_virtio_transport *transport = blk->virtio.transport;
    uint8_t wanted = cache == SK_BLOCK_CACHE_WRITE_BACK;
    uint8_t kept = 0;
    struct sk_block_info info;
    enum sk_status status;

    sk_block_get_info(device, &info); /* another owner may be changing it */
    if (!info.cache_can_change || (unsigned)cache > SK_BLOCK_CACHE_WRITE_BACK) {
        return SK_ERR_UNSUPPORTED;
    }
    if (device->state != SK_BLOCK_STATE_READY) {
        return SK_ERR_BROKEN;
    }
    if (!ski_blk_take_control(blk)) {
        return SK_ERR_TIMEOUT;
    }
    if (device->state != SK_BLOCK_STATE_READY) { /* it may have been stopped meanwhile */
        ski_blk_leave_control(blk);
        return SK_ERR_BROKEN;
    }
    status = transport->ops->write_config(transport, SKI_BLK_CONFIG_WRITEBACK, 1, &wanted);
    if (status == SK_OK) {
        status = transport->ops->read_config(transport, SKI_BLK_CONFIG_WRITEBACK, 1, &kept);
    }
    if (status == SK_OK && (kept != 0) != (wanted != 0)) {
        status = ski_blk_refuse(blk, SK_ERR_UNSUPPORTED, "the cache mode did not change; writeback", kept);
    }
    if (status == SK_OK) {
        change_cache(blk, cache);
    }
    ski_blk_leave_control(blk);
    return status;
}
