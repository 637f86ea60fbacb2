/* SPDX-License-Identifier: MIT */
#include <skio/block_zone.h>

#include <skio/checked.h>

#include "base/door.h"
#include "block/block_sync.h"
#include "block/block_watch.h"

/* Zones that are asked for at a time: what lies on the stack. */
#define ZONES_AT_ONCE 15u

/* 5.2.6, one zone of a report.  All descriptions are as long as the header. */
struct description {
    sk_le64 capacity;
    sk_le64 start;
    sk_le64 write_pointer;
    uint8_t type;
    uint8_t state;
    uint8_t reserved[38];
};

struct header {
    sk_le64 zones;
    uint8_t reserved[56];
};

_Static_assert(sizeof(struct description) == SK_BLOCK_ZONE_REPORT_BYTES, "5.2.6");
_Static_assert(sizeof(struct header) == SK_BLOCK_ZONE_REPORT_BYTES, "5.2.6");

/* The device's numbers for types and states. */
static const uint8_t wire_types[SK_BLOCK_ZONE_TYPE_COUNT] = { 1, 2, 3 };
static const uint8_t wire_states[SK_BLOCK_ZONE_STATE_COUNT] = { 0, 1, 2, 3, 4, 14, 13, 15 };

const char *sk_block_zone_type_name(enum sk_block_zone_type type)
{
    static const char *const names[SK_BLOCK_ZONE_TYPE_COUNT] = {
        [SK_BLOCK_ZONE_TYPE_CONVENTIONAL] = "conventional",
        [SK_BLOCK_ZONE_TYPE_SEQUENTIAL] = "sequential",
        [SK_BLOCK_ZONE_TYPE_PREFERRED] = "sequential-preferred",
    };

    return (unsigned)type < SK_BLOCK_ZONE_TYPE_COUNT ? names[type] : "unknown";
}

const char *sk_block_zone_state_name(enum sk_block_zone_state state)
{
    static const char *const names[SK_BLOCK_ZONE_STATE_COUNT] = {
        [SK_BLOCK_ZONE_STATE_NONE] = "none",
        [SK_BLOCK_ZONE_STATE_EMPTY] = "empty",
        [SK_BLOCK_ZONE_STATE_OPENED] = "opened",
        [SK_BLOCK_ZONE_STATE_OPEN] = "open",
        [SK_BLOCK_ZONE_STATE_CLOSED] = "closed",
        [SK_BLOCK_ZONE_STATE_FULL] = "full",
        [SK_BLOCK_ZONE_STATE_READ_ONLY] = "read-only",
        [SK_BLOCK_ZONE_STATE_OFFLINE] = "offline",
    };

    return (unsigned)state < SK_BLOCK_ZONE_STATE_COUNT ? names[state] : "unknown";
}

const char *sk_block_zone_model_name(enum sk_block_zone_model model)
{
    static const char *const names[SK_BLOCK_ZONE_MODEL_COUNT] = {
        [SK_BLOCK_ZONE_MODEL_NONE] = "none",
        [SK_BLOCK_ZONE_MODEL_HOST_AWARE] = "host-aware",
        [SK_BLOCK_ZONE_MODEL_HOST_MANAGED] = "host-managed",
    };

    return (unsigned)model < SK_BLOCK_ZONE_MODEL_COUNT ? names[model] : "unknown";
}

uint64_t sk_block_zone_count(const struct sk_block_device *device)
{
    uint64_t capacity = ski_block_capacity(device);
    uint32_t sectors = device->info.zones.sectors;

    return sectors == 0 ? 0 : capacity / sectors + (capacity % sectors != 0);
}

/* ---- Reports ----------------------------------------------------------------------------- */

/* Our number for the device's; `count`: it has none. */
static uint32_t find(const uint8_t *wire, uint32_t count, uint8_t value)
{
    uint32_t i = 0;

    while (i < count && wire[i] != value) {
        i++;
    }
    return i;
}

/* True if a zone in this state is written where its write pointer stands. */
static bool has_pointer(const struct sk_block_zone *zone)
{
    return zone->state >= SK_BLOCK_ZONE_STATE_EMPTY && zone->state <= SK_BLOCK_ZONE_STATE_CLOSED;
}

static bool is_sound(const struct sk_block_zone *zone)
{
    bool conventional = zone->type == SK_BLOCK_ZONE_TYPE_CONVENTIONAL;
    bool stateless = zone->state == SK_BLOCK_ZONE_STATE_NONE;

    if (zone->type >= SK_BLOCK_ZONE_TYPE_COUNT || zone->state >= SK_BLOCK_ZONE_STATE_COUNT ||
        conventional != stateless || zone->capacity_sectors > zone->sector_count) {
        return false;
    }
    if (!has_pointer(zone)) {
        return true;
    }
    if (zone->state == SK_BLOCK_ZONE_STATE_EMPTY) {
        return zone->write_sector == zone->sector;
    }
    return zone->write_sector >= zone->sector &&
           zone->write_sector - zone->sector <= zone->capacity_sectors;
}

/* Each field is loaded once; 5.2.6. */
static enum sk_status parse(uint64_t first, uint64_t sector_count,
                            const struct description SKI_SHARED *from,
                            struct sk_block_zone *out_zone)
{
    struct sk_block_zone zone = {
        .sector = first,
        .sector_count = sector_count,
        .capacity_sectors = ski_door_load64(&from->capacity),
        .write_sector = ski_door_load64(&from->write_pointer),
        .type = (enum sk_block_zone_type)find(wire_types, SK_BLOCK_ZONE_TYPE_COUNT,
                                              ski_door_load8(&from->type)),
        .state = (enum sk_block_zone_state)find(wire_states, SK_BLOCK_ZONE_STATE_COUNT,
                                                ski_door_load8(&from->state)),
    };

    if (ski_door_load64(&from->start) != first || !is_sound(&zone)) {
        return SK_ERR_MALFORMED;
    }
    if (!has_pointer(&zone)) {
        zone.write_sector = SK_BLOCK_ZONE_NO_SECTOR;
    }
    *out_zone = zone;
    return SK_OK;
}

/* A report that the device can only have put there; no pointer of anybody writes to it. */
static const struct header SKI_SHARED *share(const void *report)
{
    return (const struct header SKI_SHARED *)(const void SKI_SHARED *)ski_door_share(
        (void *)(uintptr_t)report);
}

enum sk_status sk_block_zone_parse(const struct sk_block_device *device, uint64_t sector,
                                   const void *report, uint64_t bytes, uint32_t index,
                                   struct sk_block_zone *out_zone)
{
    const struct header SKI_SHARED *header = share(report);
    uint64_t capacity = ski_block_capacity(device); /* once: it may change meanwhile */
    uint32_t sectors = device->info.zones.sectors;
    uint64_t first;
    uint64_t zones;

    if (sectors == 0) {
        return SK_ERR_UNSUPPORTED;
    }
    if (bytes < sizeof(*header)) {
        return SK_ERR_SIZE;
    }
    zones = ski_door_load64(&header->zones);
    if (zones > bytes / sizeof(*header) - 1) {
        return SK_ERR_MALFORMED;
    }
    if (index >= zones) {
        return SK_ERR_NOT_FOUND;
    }
    if (!sk_checked_add(sector - sector % sectors, (uint64_t)index * sectors, &first) ||
        first >= capacity) {
        return SK_ERR_MALFORMED;
    }
    return parse(first, capacity - first < sectors ? capacity - first : sectors,
                 (const struct description SKI_SHARED *)(const void SKI_SHARED *)(header + 1) +
                     index,
                 out_zone);
}

/* Asks for up to `count` zones, ZONES_AT_ONCE at the most; the device sees a copy of the memory. */
static enum sk_status report_some(struct sk_block_queue *queue, uint64_t sector,
                                  struct sk_block_zone *out_zones, uint32_t count,
                                  uint32_t *out_count, uint64_t deadline_ns)
{
    struct header report[1 + ZONES_AT_ONCE];
    struct ski_block_waiter waiter = { .request = { .operation = SK_BLOCK_ZONE_REPORT,
                                                    .sector = sector } };
    struct ski_block_memory memory = {
        .data = report,
        .bytes = (1 + (count < ZONES_AT_ONCE ? count : ZONES_AT_ONCE)) * sizeof(report[0]),
        .direction = SK_DMA_FROM_DEVICE,
        .constraints = { .copied = true,
                         .segment_count_max = queue->device->info.segment_count_max },
    };
    enum sk_status status = ski_block_run_on(queue, &waiter, &memory, deadline_ns);

    *out_count = 0;
    while (status == SK_OK && *out_count < count) {
        status = sk_block_zone_parse(queue->device, sector, report, memory.bytes, *out_count,
                                     &out_zones[*out_count]);
        *out_count += status == SK_OK;
    }
    return status == SK_ERR_NOT_FOUND && *out_count > 0 ? SK_OK : status;
}

enum sk_status sk_block_zone_report(struct sk_block_queue *queue, uint64_t sector,
                                    struct sk_block_zone *out_zones, uint32_t count,
                                    uint32_t *out_count, uint64_t timeout_ns)
{
    struct sk_block_device *device = queue->device;
    uint64_t deadline_ns = ski_block_deadline(device, timeout_ns);
    enum sk_status status = SK_OK;

    if (out_zones == NULL || out_count == NULL || count == 0) {
        return SK_ERR_INVALID;
    }
    *out_count = 0;
    if (device->info.zones.sectors == 0) {
        return SK_ERR_UNSUPPORTED;
    }
    while (status == SK_OK && *out_count < count) {
        uint32_t some;

        status = report_some(queue, sector, out_zones + *out_count, count - *out_count, &some,
                             deadline_ns);
        *out_count += some;
        if (*out_count > 0) {
            sector = out_zones[*out_count - 1].sector + out_zones[*out_count - 1].sector_count;
        }
        if (sector >= ski_block_capacity(device)) {
            break;
        }
    }
    return status == SK_ERR_NOT_FOUND ? SK_ERR_MALFORMED : status;
}

/* ---- Changing zones ---------------------------------------------------------------------- */

enum sk_status sk_block_zone_manage(struct sk_block_queue *queue,
                                    enum sk_block_operation operation, uint64_t sector,
                                    uint64_t timeout_ns)
{
    struct ski_block_waiter waiter = { .request = { .operation = operation, .sector = sector } };

    if (operation < SK_BLOCK_ZONE_OPEN || operation > SK_BLOCK_ZONE_RESET_ALL) {
        return SK_ERR_INVALID;
    }
    return ski_block_run(queue, &waiter, ski_block_deadline(queue->device, timeout_ns));
}

enum sk_status sk_block_zone_append(struct sk_block_queue *queue, uint64_t zone_sector,
                                    const void *data, uint64_t bytes, uint64_t *out_sector,
                                    uint64_t timeout_ns)
{
    const struct sk_block_info *info = &queue->device->info;
    struct ski_block_waiter waiter = { .request = { .operation = SK_BLOCK_ZONE_APPEND,
                                                    .sector = zone_sector } };
    struct ski_block_memory memory = {
        .data = (void *)(uintptr_t)data, /* the device only reads it */
        .bytes = bytes,
        .direction = SK_DMA_TO_DEVICE,
        .constraints = { .segment_count_max = info->segment_count_max,
                         .segment_bytes_max = info->segment_bytes_max },
    };
    enum sk_status status;

    if (data == NULL || out_sector == NULL) {
        return SK_ERR_INVALID;
    }
    if (info->zones.sectors == 0) {
        return SK_ERR_UNSUPPORTED;
    }
    if (info->zones.append_sectors_max == 0 ||
        (info->segment_bytes_max != 0 &&
         bytes > info->segment_bytes_max * info->segment_count_max)) {
        return SK_ERR_UNSUPPORTED;
    }
    if (bytes == 0 || bytes / SK_BLOCK_SECTOR_BYTES > info->zones.append_sectors_max) {
        return SK_ERR_SIZE;
    }
    status = ski_block_run_on(queue, &waiter, &memory,
                              ski_block_deadline(queue->device, timeout_ns));
    if (status == SK_OK) {
        *out_sector = waiter.request.result_sector;
    }
    return status;
}
