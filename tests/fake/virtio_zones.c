/* SPDX-License-Identifier: MIT */
/* Zones of a host-managed disk; 5.2.6, "zoned block device". */
#include <stdlib.h>
#include <string.h>

#include <skio/endian.h>

#include "fake/virtio_internal.h"

#define TYPE_REPORT    16u
#define TYPE_OPEN      18u
#define TYPE_CLOSE     20u
#define TYPE_FINISH    22u
#define TYPE_RESET     24u
#define TYPE_RESET_ALL 26u

#define STATUS_OK              0u
#define STATUS_INVALID         3u
#define STATUS_UNALIGNED       4u
#define STATUS_OPEN_RESOURCE   5u
#define STATUS_ACTIVE_RESOURCE 6u

#define ENTRY_BYTES 64u /* of the report's header and of each descriptor */

static void store64(uint8_t *to, uint64_t value)
{
    for (unsigned i = 0; i < 8; i++) {
        to[i] = (uint8_t)(value >> 8 * i);
    }
}

bool fake_zones_has(uint32_t type)
{
    return type == FAKE_TYPE_ZONE_APPEND || (type % 2 == 0 && type >= TYPE_REPORT && type <= TYPE_RESET_ALL);
}

bool fake_zones_append(uint32_t type)
{
    return type == FAKE_TYPE_ZONE_APPEND;
}

void fake_zones_create(struct fake_device *fake)
{
    const struct fake_device_config *config = &fake->config;
    uint32_t size = config->zone_sectors;

    if ((config->features >> SK_VIRTIO_BLK_F_ZONED & 1) == 0 || size == 0) {
        return;
    }
    fake->zone_count = (uint32_t)((config->capacity_sectors + size - 1) / size);
    fake->zones = fake_allocate(fake->zone_count * sizeof(*fake->zones));
    for (uint32_t i = 0; i < fake->zone_count; i++) {
        bool conventional = i < config->zones_conventional;

        fake->zones[i].start = (uint64_t)i * size;
        fake->zones[i].write = fake->zones[i].start;
        fake->zones[i].state = conventional ? FAKE_ZONE_NOT_WP : FAKE_ZONE_EMPTY;
    }
}

static struct fake_zone *zone_at(struct fake_device *fake, uint64_t sector)
{
    uint64_t index = sector / fake->config.zone_sectors;

    return index < fake->zone_count ? &fake->zones[index] : NULL;
}

static uint64_t capacity_of(const struct fake_device *fake, const struct fake_zone *zone)
{
    uint64_t rest = fake->config.capacity_sectors - zone->start;
    uint64_t most = fake->config.zone_capacity;

    return rest < most ? rest : most;
}

/* --- What the driver has to keep to ------------------------------------------- */

static const char *append_fault(const struct fake_device *fake, const struct fake_request *request)
{
    uint64_t bytes = request->data_bytes;

    if (request->append_sector == NULL) {
        return "append without a place for the sector";
    }
    if (bytes == 0 || bytes % 512 != 0 || bytes % fake->config.write_granularity != 0) {
        return "append of no multiple of write_granularity";
    }
    return bytes / 512 > fake->config.max_append_sectors ? "append of more than max_append_sectors"
                                                         : NULL;
}

const char *fake_zones_fault(struct fake_device *fake, const struct fake_request *request)
{
    uint32_t type = request->type;

    if (!fake_negotiated(fake, SK_VIRTIO_BLK_F_ZONED)) {
        return "zone request without the feature";
    }
    if (fake->zones == NULL || zone_at(fake, request->sector) == NULL) {
        return "zone request beyond the last zone";
    }
    if (type == TYPE_REPORT) {
        return request->data_bytes < ENTRY_BYTES ? "zone report shorter than its header" : NULL;
    }
    if (type == TYPE_RESET_ALL && request->sector != 0) {
        return "reset of all zones with a sector";
    }
    if (request->sector % fake->config.zone_sectors != 0) {
        return "zone request at a sector that is no zone's first";
    }
    if (type == FAKE_TYPE_ZONE_APPEND) {
        return append_fault(fake, request);
    }
    return request->data_bytes != 0 ? "zone request with data" : NULL;
}

/* --- States --------------------------------------------------------------------- */

static bool is_open(const struct fake_zone *zone)
{
    return zone->state == FAKE_ZONE_OPEN_IMPLICIT || zone->state == FAKE_ZONE_OPEN_EXPLICIT;
}

static bool is_active(const struct fake_zone *zone)
{
    return is_open(zone) || zone->state == FAKE_ZONE_CLOSED;
}

static uint32_t count(const struct fake_device *fake, bool (*what)(const struct fake_zone *zone))
{
    uint32_t found = 0;

    for (uint32_t i = 0; i < fake->zone_count; i++) {
        found += what(&fake->zones[i]);
    }
    return found;
}

/* At the limit, a zone that was opened implicitly makes room. */
static bool make_room(struct fake_device *fake)
{
    if (fake->config.max_open_zones == 0 || count(fake, is_open) < fake->config.max_open_zones) {
        return true;
    }
    for (uint32_t i = 0; i < fake->zone_count; i++) {
        if (fake->zones[i].state == FAKE_ZONE_OPEN_IMPLICIT) {
            fake->zones[i].state = FAKE_ZONE_CLOSED;
            return true;
        }
    }
    return false;
}

static uint8_t open_zone(struct fake_device *fake, struct fake_zone *zone, uint8_t state)
{
    uint32_t most = fake->config.max_active_zones;

    if (zone->state != FAKE_ZONE_EMPTY && !is_active(zone)) {
        return STATUS_INVALID;
    }
    if (!is_active(zone) && most > 0 && count(fake, is_active) >= most) {
        return STATUS_ACTIVE_RESOURCE;
    }
    if (!is_open(zone) && !make_room(fake)) {
        return STATUS_OPEN_RESOURCE;
    }
    if (zone->state != FAKE_ZONE_OPEN_EXPLICIT) {
        zone->state = state;
    }
    return STATUS_OK;
}

static uint8_t close_zone(struct fake_zone *zone)
{
    if (!is_active(zone)) {
        return STATUS_INVALID;
    }
    zone->state = zone->write == zone->start ? FAKE_ZONE_EMPTY : FAKE_ZONE_CLOSED;
    return STATUS_OK;
}

static bool is_usable(const struct fake_zone *zone)
{
    return zone->state != FAKE_ZONE_NOT_WP && zone->state != FAKE_ZONE_READ_ONLY &&
           zone->state != FAKE_ZONE_OFFLINE;
}

static uint8_t finish_zone(struct fake_zone *zone)
{
    if (!is_usable(zone)) {
        return STATUS_INVALID;
    }
    zone->state = FAKE_ZONE_FULL;
    return STATUS_OK;
}

static uint8_t reset_zone(struct fake_device *fake, struct fake_zone *zone)
{
    uint64_t sectors = capacity_of(fake, zone);

    if (!is_usable(zone)) {
        return STATUS_INVALID;
    }
    zone->state = FAKE_ZONE_EMPTY;
    zone->write = zone->start;
    if (!fake_is_bad(fake, zone->start, sectors)) {
        memset(fake->storage + zone->start * 512, 0, sectors * 512);
        fake->sequence++;
        fake_write_through(fake, zone->start, sectors);
    }
    return STATUS_OK;
}

static uint8_t reset_all(struct fake_device *fake)
{
    for (uint32_t i = 0; i < fake->zone_count; i++) {
        (void)reset_zone(fake, &fake->zones[i]);
    }
    return STATUS_OK;
}

/* --- Requests --------------------------------------------------------------------- */

/* What is read lies in one zone, which is there. */
uint8_t fake_zones_may_read(struct fake_device *fake, const struct fake_request *request)
{
    const struct fake_zone *zone = zone_at(fake, request->sector);
    uint64_t sectors = request->data_bytes / 512;

    if (zone == NULL || zone->state == FAKE_ZONE_OFFLINE) {
        return STATUS_INVALID;
    }
    if (!fake->config.host_aware && zone->state != FAKE_ZONE_NOT_WP &&
        request->sector + sectors > zone->start + fake->config.zone_sectors) {
        return STATUS_INVALID;
    }
    return STATUS_OK;
}

/* An erasure resets the zones that it covers, and covers no part of one. */
void fake_zones_erased(struct fake_device *fake, uint64_t sector, uint64_t count)
{
    uint32_t size = fake->config.zone_sectors;

    if (fake->zones == NULL) {
        return;
    }
    if (sector % size != 0 ||
        (count % size != 0 && sector + count != fake->config.capacity_sectors)) {
        fake_violation(fake, "erasure of a part of a zone: sector %llu",
                       (unsigned long long)sector);
    }
    for (uint64_t at = sector; at < sector + count; at += size) {
        (void)reset_zone(fake, zone_at(fake, at));
    }
}

uint8_t fake_zones_may_write(struct fake_device *fake, struct fake_request *request)
{
    struct fake_zone *zone = zone_at(fake, request->sector);
    uint64_t sectors = request->data_bytes / 512;
    bool append = request->type == FAKE_TYPE_ZONE_APPEND;
    uint64_t end;

    if (zone == NULL) {
        return STATUS_INVALID;
    }
    if (zone->state == FAKE_ZONE_NOT_WP) {
        end = zone->start + fake->config.zone_sectors;
        return append || sectors > end - request->sector ? STATUS_INVALID : STATUS_OK;
    }
    if (fake->config.host_aware) {
        return append ? STATUS_INVALID : STATUS_OK; /* of sequential-required zones only */
    }
    if (append) {
        request->sector = zone->write;
    }
    end = zone->start + capacity_of(fake, zone);
    if (!is_usable(zone) || zone->state == FAKE_ZONE_FULL || request->sector > end ||
        sectors > end - request->sector) {
        return STATUS_INVALID;
    }
    if (request->sector != zone->write ||
        (request->sector + sectors) * 512 % fake->config.write_granularity != 0) {
        return STATUS_UNALIGNED;
    }
    return open_zone(fake, zone, FAKE_ZONE_OPEN_IMPLICIT);
}

void fake_zones_written(struct fake_device *fake, struct fake_request *request)
{
    struct fake_zone *zone = zone_at(fake, request->sector);

    uint64_t argument;

    if (zone->state == FAKE_ZONE_NOT_WP || fake->config.host_aware) {
        return;
    }
    zone->write += request->data_bytes / 512;
    if (zone->write == zone->start + capacity_of(fake, zone)) {
        zone->state = FAKE_ZONE_FULL;
    }
    if (request->append_sector != NULL) {
        store64(request->append_sector,
                fake_fires(fake, FAKE_FAULT_APPEND_SECTOR, &argument) ? argument
                                                                      : request->sector);
        request->written += 8;
    }
}

static void describe(const struct fake_device *fake, const struct fake_zone *zone, uint8_t *to)
{
    store64(to, capacity_of(fake, zone));
    store64(to + 8, zone->start);
    store64(to + 16, zone->write);
    to[24] = zone->state == FAKE_ZONE_NOT_WP ? 1 : fake->config.host_aware ? 3 : 2;
    to[25] = zone->state;
}

static uint8_t report(struct fake_device *fake, struct fake_request *request)
{
    uint64_t first = request->sector / fake->config.zone_sectors;
    uint64_t room = (request->data_bytes - ENTRY_BYTES) / ENTRY_BYTES;
    uint64_t entries = fake->zone_count - first < room ? fake->zone_count - first : room;
    uint64_t bytes = ENTRY_BYTES * (1 + entries);
    uint8_t *reply = fake_allocate(bytes);
    uint64_t done = 0;
    uint64_t argument;

    store64(reply, entries);
    for (uint64_t i = 0; i < entries; i++) {
        describe(fake, &fake->zones[first + i], reply + ENTRY_BYTES * (1 + i));
    }
    if (fake_fires(fake, FAKE_FAULT_REPORT_BYTE, &argument) && argument >> 8 < bytes) {
        reply[argument >> 8] = (uint8_t)argument;
    }
    for (uint32_t i = 0; i < request->segment_count && done < bytes; i++) {
        uint64_t part = request->segments[i].bytes < bytes - done ? request->segments[i].bytes
                                                                  : bytes - done;

        memcpy(request->segments[i].data, reply + done, part);
        done += part;
    }
    free(reply);
    request->written += done;
    return STATUS_OK;
}

uint8_t fake_zones_perform(struct fake_device *fake, struct fake_request *request)
{
    struct fake_zone *zone = zone_at(fake, request->sector);

    switch (request->type) {
    case TYPE_REPORT:
        return report(fake, request);
    case TYPE_OPEN:
        return open_zone(fake, zone, FAKE_ZONE_OPEN_EXPLICIT);
    case TYPE_CLOSE:
        return close_zone(zone);
    case TYPE_FINISH:
        return finish_zone(zone);
    case TYPE_RESET:
        return reset_zone(fake, zone);
    default:
        return reset_all(fake);
    }
}
