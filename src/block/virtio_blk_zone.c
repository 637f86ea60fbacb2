/* SPDX-License-Identifier: MIT */
/* Disks with zones; Virtio 1.3, 5.2.3 to 5.2.6. */
#include "block/virtio_blk_slot.h"

#include <skio/block_zone.h>
#include <skio/checked.h>

/* ---- Features and configuration ---------------------------------------------------------- */

/* The values of the field `model`. */
enum model { MODEL_NONE, MODEL_HOST_MANAGED, MODEL_HOST_AWARE };

/*
 * Which zones there are decides about features, so it is read before they are
 * accepted: who does not accept zones may not drive a host-managed disk, and
 * who drives one may not accept DISCARD.
 */
enum sk_status ski_blk_choose_zones(struct ski_blk *blk, uint64_t *wanted)
{
    static const struct ski_virtio_field model =
        SKI_BLK_FIELD(SKI_BLK_CONFIG_ZONE_MODEL, 1, SKI_VIRTIO_ALWAYS, zone_model);
    struct ski_blk_config config = { .zone_model = MODEL_NONE };
    uint64_t zoned = SK_VIRTIO_FEATURE(SK_VIRTIO_BLK_F_ZONED);
    enum sk_status status;

    if ((blk->virtio.offered & zoned) == 0) {
        return SK_OK;
    }
    if (blk->virtio.transport->legacy) { /* which cannot say no */
        return ski_blk_refuse(blk, SK_ERR_UNSUPPORTED, "a legacy device with zones; feature",
                              SK_VIRTIO_BLK_F_ZONED);
    }
    status = ski_virtio_device_read_config(&blk->virtio, &model, 1, &config);
    if (status != SK_OK) {
        return ski_blk_refuse(blk, status, "the model of its zones cannot be read; offset",
                              SKI_BLK_CONFIG_ZONE_MODEL);
    }
    if (config.zone_model != MODEL_HOST_MANAGED) {
        return SK_OK;
    }
    if ((*wanted & zoned) == 0) {
        return ski_blk_refuse(blk, SK_ERR_UNSUPPORTED, "host-managed zones are not wanted; model",
                              config.zone_model);
    }
    *wanted &= ~SK_VIRTIO_FEATURE(SK_VIRTIO_BLK_F_DISCARD);
    return SK_OK;
}

/* The larger one of two units if the smaller one divides it; else 0. */
static uint64_t common_unit(uint64_t a, uint64_t b)
{
    if (a == 0 || b == 0) {
        return 0;
    }
    return a % b == 0 ? a : b % a == 0 ? b : 0;
}

static uint32_t at_most(uint64_t value, uint64_t most)
{
    return (uint32_t)(value < most ? value : most);
}

/* The limits of a disk whose zones and units make sense. */
static void set_limits(const struct ski_blk_config *config, uint64_t unit,
                       struct sk_block_info *info)
{
    struct sk_block_zone_limits *zones = &info->zones;
    uint64_t append = at_most(config->append_sectors, config->zone_sectors);
    uint32_t erase = info->secure_erase.sectors_max;

    zones->model = config->zone_model == MODEL_HOST_MANAGED ? SK_BLOCK_ZONE_MODEL_HOST_MANAGED
                                                            : SK_BLOCK_ZONE_MODEL_HOST_AWARE;
    zones->sectors = (uint32_t)config->zone_sectors;
    zones->active_max = (uint32_t)config->zones_active;
    zones->open_max = (uint32_t)config->zones_open;
    if (zones->active_max != 0 && (zones->open_max == 0 || zones->open_max > zones->active_max)) {
        zones->open_max = zones->active_max; /* open zones are active */
    }
    zones->append_sectors_max = (uint32_t)(append - append % (unit / SK_BLOCK_SECTOR_BYTES));
    zones->write_bytes = (uint32_t)unit;
    if (zones->model == SK_BLOCK_ZONE_MODEL_HOST_MANAGED) {
        info->discard.sectors_max = 0; /* not accepted, unless the model changed meanwhile */
        info->discard.ranges_max = 0;
    }
    /* 5.2.6: what is erased is zones. */
    info->secure_erase.sectors_max = erase - erase % zones->sectors;
    info->secure_erase.ranges_max = erase < zones->sectors ? 0 : info->secure_erase.ranges_max;
    if (info->secure_erase.alignment_sectors % zones->sectors != 0) {
        info->secure_erase.alignment_sectors = zones->sectors;
    }
}

enum sk_status ski_blk_set_zones(const struct ski_blk *blk, const struct ski_blk_config *config,
                                 struct sk_block_info *info)
{
    uint64_t unit = common_unit(config->write_granularity, info->block_bytes);
    uint64_t zone_bytes = config->zone_sectors * SK_BLOCK_SECTOR_BYTES;

    info->zones = (struct sk_block_zone_limits){ .model = SK_BLOCK_ZONE_MODEL_NONE };
    if (config->zone_model == MODEL_NONE) { /* or ZONED was not accepted */
        return SK_OK;
    }
    if (config->zone_model > MODEL_HOST_AWARE) {
        return ski_blk_refuse(blk, SK_ERR_MALFORMED, "zone model", config->zone_model);
    }
    if (unit == 0) {
        return ski_blk_refuse(blk, SK_ERR_MALFORMED, "write granularity",
                              config->write_granularity);
    }
    if (zone_bytes == 0 || zone_bytes % unit != 0) {
        return ski_blk_refuse(blk, SK_ERR_MALFORMED, "sectors of a zone", config->zone_sectors);
    }
    set_limits(config, unit, info);
    return SK_OK;
}

/* ---- Requests ---------------------------------------------------------------------------- */

bool ski_blk_is_serial(const struct ski_blk_queue *queue, const struct sk_block_request *request)
{
    return queue->zone_sectors != 0 && (request->operation == SK_BLOCK_WRITE ||
                                        request->operation == SK_BLOCK_WRITE_ZEROES);
}

uint64_t ski_blk_zone_room(const struct ski_blk_queue *queue, uint64_t sector)
{
    if (queue->zone_sectors == 0) {
        return UINT64_MAX;
    }
    return (queue->zone_sectors - sector % queue->zone_sectors) * SK_BLOCK_SECTOR_BYTES;
}

static enum sk_status check_report(const struct ski_blk_queue *queue,
                                   struct sk_block_request *request)
{
    uint64_t bytes = ski_blk_sum_segments(request);

    if (bytes < 2 * SK_BLOCK_ZONE_REPORT_BYTES || bytes % SK_BLOCK_ZONE_REPORT_BYTES != 0) {
        return SK_ERR_SIZE;
    }
    request->bytes_left = bytes;
    return request->sector < queue->capacity_sectors ? SK_OK : SK_ERR_RANGE;
}

static enum sk_status check_append(const struct ski_blk_queue *queue,
                                   struct sk_block_request *request)
{
    const struct sk_block_zone_limits *zones = &queue->blk->block.info.zones;
    enum sk_status status;

    if (zones->append_sectors_max == 0) {
        return SK_ERR_UNSUPPORTED;
    }
    status = ski_blk_check_transfer(queue, request);
    if (status != SK_OK) {
        return status;
    }
    return request->bytes_left % zones->write_bytes == 0 &&
                   request->bytes_left / SK_BLOCK_SECTOR_BYTES <= zones->append_sectors_max
               ? SK_OK
               : SK_ERR_SIZE;
}

/* Open, close, finish, reset: the zone's first sector and nothing else. */
static enum sk_status check_management(const struct ski_blk_queue *queue,
                                       const struct sk_block_request *request)
{
    if (request->segment_count != 0) {
        return SK_ERR_INVALID;
    }
    if (request->operation == SK_BLOCK_ZONE_RESET_ALL) {
        return request->sector == 0 ? SK_OK : SK_ERR_INVALID;
    }
    return request->sector < queue->capacity_sectors ? SK_OK : SK_ERR_RANGE;
}

enum sk_status ski_blk_check_zone(const struct ski_blk_queue *queue,
                                  struct sk_block_request *request)
{
    if (request->operation < SK_BLOCK_ZONE_REPORT || request->operation > SK_BLOCK_ZONE_APPEND) {
        return SK_ERR_INVALID;
    }
    if (!queue->zoned) {
        return SK_ERR_UNSUPPORTED;
    }
    if (request->operation == SK_BLOCK_ZONE_REPORT) {
        return check_report(queue, request);
    }
    if (queue->read_only) {
        return SK_ERR_READ_ONLY;
    }
    if (request->sector % queue->blk->block.info.zones.sectors != 0) {
        return SK_ERR_INVALID;
    }
    return request->operation == SK_BLOCK_ZONE_APPEND ? check_append(queue, request)
                                                      : check_management(queue, request);
}

/* ---- Answers ----------------------------------------------------------------------------- */

enum sk_status ski_blk_zone_status(const struct ski_blk_queue *queue, uint8_t answer)
{
    if (!queue->zoned) {
        return SK_ERR_MALFORMED;
    }
    switch (answer) {
    case SKI_BLK_STATUS_ZONE_INVALID:
    case SKI_BLK_STATUS_ZONE_UNALIGNED:
        return SK_ERR_ZONE_STATE;
    case SKI_BLK_STATUS_ZONE_OPEN:
        return SK_ERR_ZONES_OPEN;
    case SKI_BLK_STATUS_ZONE_ACTIVE:
        return SK_ERR_ZONES_ACTIVE;
    default:
        return SK_ERR_MALFORMED;
    }
}

bool ski_blk_take_append(const struct ski_blk_queue *queue, uint32_t slot)
{
    struct sk_block_request *request = queue->slots[slot].request;
    uint64_t sectors = ski_blk_bytes_of(&queue->slots[slot]) / SK_BLOCK_SECTOR_BYTES;
    uint64_t result;

    if (sectors == 0) { /* the flush behind it */
        return true;
    }
    result = ski_door_load64(&queue->slots[slot].frame->append_sector);
    if (result < request->sector ||
        !sk_checked_range(result - request->sector, sectors,
                          queue->blk->block.info.zones.sectors)) {
        return false;
    }
    request->result_sector = result;
    return true;
}
