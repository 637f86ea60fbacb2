/* SPDX-License-Identifier: MIT */
/* The disk of the fake device: requests and the cache in front of the medium; 5.2.6. */
#include <stdlib.h>
#include <string.h>

#include <skio/endian.h>

#include "fake/virtio_internal.h"

#define TYPE_IN     0u
#define TYPE_OUT    1u
#define TYPE_FLUSH  4u
#define TYPE_GET_ID 8u

#define STATUS_OK     0u
#define STATUS_IOERR  1u
#define STATUS_UNSUPP 2u

#define HEADER_BYTES   16u
#define IDENTITY_BYTES 20u
#define LIFETIME_BYTES 6u

static void refuse(struct fake_device *fake, struct fake_request *request, const char *what,
                   uint64_t number)
{
    request->refused = true;
    if (!fake->scribbled) {
        fake_violation(fake, "request at %u: %s (%llu)", request->head, what,
                       (unsigned long long)number);
    }
}

/* Moves `bytes` from the front of the first segment; removes it when it is empty. */
static void drop_front(struct fake_request *request, uint32_t bytes)
{
    struct fake_segment *first = &request->segments[0];

    first->data += bytes;
    first->bytes -= bytes;
    if (first->bytes == 0) {
        request->segment_count--;
        memmove(first, first + 1, request->segment_count * sizeof(*first));
    }
}

/* The header is the first 16 readable bytes, wherever they lie. */
static bool take_header(struct fake_device *fake, struct fake_request *request)
{
    uint8_t header[HEADER_BYTES];
    uint32_t have = 0;

    while (have < HEADER_BYTES) {
        struct fake_segment *first = &request->segments[0];
        uint32_t bytes = HEADER_BYTES - have;

        if (request->segment_count == 0 || first->write) {
            refuse(fake, request, "header is too short", have);
            return false;
        }
        bytes = bytes < first->bytes ? bytes : first->bytes;
        if (fake->config.legacy && first->bytes != HEADER_BYTES) {
            refuse(fake, request, "legacy: the header is no descriptor of its own", first->bytes);
        }
        memcpy(header + have, first->data, bytes);
        have += bytes;
        drop_front(request, bytes);
    }
    request->type = sk_endian_load_le32(header);
    request->sector = sk_endian_load_le64(header + 8);
    if (sk_endian_load_le32(header + 4) != 0) {
        refuse(fake, request, "reserved header field is not zero", request->type);
    }
    return true;
}

/* The status is the last writable byte. */
static bool take_status(struct fake_device *fake, struct fake_request *request)
{
    struct fake_segment *last;

    if (request->segment_count == 0 || !request->segments[request->segment_count - 1].write) {
        refuse(fake, request, "no status byte", request->type);
        return false;
    }
    last = &request->segments[request->segment_count - 1];
    if (fake->config.legacy && last->bytes != 1) {
        refuse(fake, request, "legacy: the status is no descriptor of its own", last->bytes);
    }
    request->status = last->data + last->bytes - 1;
    if (--last->bytes == 0) {
        request->segment_count--;
    }
    return true;
}

/* A zone append has 8 writable bytes between data and status; here in one descriptor. */
static void take_append_sector(struct fake_request *request)
{
    struct fake_segment *last;

    if (request->segment_count == 0) {
        return;
    }
    last = &request->segments[request->segment_count - 1];
    if (last->write && last->bytes >= 8) {
        last->bytes -= 8;
        request->append_sector = last->data + last->bytes;
        request->segment_count -= last->bytes == 0;
    }
}

static void check_zones(struct fake_device *fake, struct fake_request *request)
{
    const char *fault = fake_zones_fault(fake, request);

    if (fault != NULL) {
        refuse(fake, request, fault, request->sector);
    }
}

static bool is_write(uint32_t type)
{
    return type == TYPE_OUT || fake_ranges_has(type) || fake_zones_append(type);
}

static void check_segments(struct fake_device *fake, struct fake_request *request, bool write)
{
    uint32_t size_max = sk_endian_load_le32(fake->config_space + 8);
    uint32_t seg_max = sk_endian_load_le32(fake->config_space + 12);

    for (uint32_t i = 0; i < request->segment_count; i++) {
        uint32_t bytes = request->segments[i].bytes;

        if (request->segments[i].write != write) {
            refuse(fake, request, "data in the wrong direction", i);
        }
        if (fake_negotiated(fake, SK_VIRTIO_BLK_F_SIZE_MAX) && size_max > 0 && bytes > size_max) {
            refuse(fake, request, "segment longer than size_max", bytes);
        }
        if (bytes > fake->segment_longest) {
            fake->segment_longest = bytes;
        }
    }
    if (fake_negotiated(fake, SK_VIRTIO_BLK_F_SEG_MAX) && seg_max > 0 &&
        request->segment_count > seg_max) {
        refuse(fake, request, "more segments than seg_max", request->segment_count);
    }
    if (request->segment_count > fake->segments_most) {
        fake->segments_most = request->segment_count;
    }
}

static bool within(uint64_t sector, uint64_t bytes, uint64_t sectors)
{
    return sector <= sectors && bytes / 512 <= sectors - sector;
}

static void check_transfer(struct fake_device *fake, struct fake_request *request)
{
    if (request->data_bytes == 0 || request->data_bytes % 512 != 0) {
        refuse(fake, request, "data is no multiple of 512", request->data_bytes);
    }
    /* What the driver last read, since the disk may have shrunk meanwhile. */
    if (!within(request->sector, request->data_bytes, fake_config_known_capacity(fake))) {
        refuse(fake, request, "beyond the capacity", request->sector);
    }
    if (request->type == TYPE_OUT && (fake->offered & SK_VIRTIO_FEATURE(SK_VIRTIO_BLK_F_RO)) != 0) {
        refuse(fake, request, "write to a read-only disk", request->sector);
    }
    if (request->data_bytes > fake->request_longest) {
        fake->request_longest = request->data_bytes;
    }
}

static void check_flush(struct fake_device *fake, struct fake_request *request)
{
    if (!fake_negotiated(fake, SK_VIRTIO_BLK_F_FLUSH)) {
        refuse(fake, request, "flush without the feature", 0);
    }
    if (request->sector != 0 || request->data_bytes != 0) {
        refuse(fake, request, "flush with a sector or data", request->sector);
    }
    /* A flush covers what was complete when it was sent, and this device does no more than that. */
    if (fake->config.deferred || fake->faults[FAKE_FAULT_STALL].count > 0) {
        request->snapshot = fake_allocate(fake->storage_sectors * 512);
        memcpy(request->snapshot, fake->storage, fake->storage_sectors * 512);
    }
    request->sequence = fake->sequence;
}

void fake_block_take(struct fake_device *fake, struct fake_request *request)
{
    if (request->refused || !take_header(fake, request) || !take_status(fake, request)) {
        return;
    }
    if (fake_zones_append(request->type)) {
        take_append_sector(request);
    }
    for (uint32_t i = 0; i < request->segment_count; i++) {
        request->data_bytes += request->segments[i].bytes;
    }
    check_segments(fake, request, !is_write(request->type));
    if (request->type == TYPE_IN || request->type == TYPE_OUT) {
        check_transfer(fake, request);
    } else if (request->type == TYPE_FLUSH) {
        check_flush(fake, request);
    } else if (request->type == TYPE_GET_ID && request->data_bytes != IDENTITY_BYTES) {
        refuse(fake, request, "GET_ID with another length than 20", request->data_bytes);
    } else if (request->type == FAKE_TYPE_GET_LIFETIME &&
               (!fake_negotiated(fake, SK_VIRTIO_BLK_F_LIFETIME) ||
                request->data_bytes != LIFETIME_BYTES)) {
        refuse(fake, request, "GET_LIFETIME without its feature or length", request->data_bytes);
    } else if (fake_ranges_has(request->type)) {
        fake_ranges_check(fake, request);
    } else if (fake_zones_has(request->type)) {
        check_zones(fake, request);
    }
}

/* 5.2.6.2: which of the two ways a completed write takes. */
static bool is_write_back(const struct fake_device *fake)
{
    if (fake_negotiated(fake, SK_VIRTIO_BLK_F_CONFIG_WCE)) {
        return fake->config_space[32] != 0;
    }
    return fake_negotiated(fake, SK_VIRTIO_BLK_F_FLUSH);
}

static void make_durable(struct fake_device *fake, const uint8_t *from, uint64_t sequence,
                         uint64_t first, uint64_t count)
{
    for (uint64_t sector = first; sector < first + count; sector++) {
        if (fake->durable_at[sector] <= sequence) {
            memcpy(fake->durable + sector * 512, from + sector * 512, 512);
            fake->durable_at[sector] = sequence;
        }
    }
}

bool fake_is_bad(const struct fake_device *fake, uint64_t sector, uint64_t count)
{
    return !within(sector, count * 512, fake->config.capacity_sectors) ||
           !within(sector, count * 512, fake->storage_sectors) ||
           (fake->bad_count > 0 && sector < fake->bad_first + fake->bad_count &&
            fake->bad_first < sector + count);
}

void fake_write_through(struct fake_device *fake, uint64_t first, uint64_t count)
{
    if (!is_write_back(fake)) {
        make_durable(fake, fake->storage, fake->sequence, first, count);
    }
}

static uint8_t transfer(struct fake_device *fake, struct fake_request *request)
{
    uint64_t count = request->data_bytes / 512;
    uint8_t *storage;

    if (fake_is_bad(fake, request->sector, count)) {
        return STATUS_IOERR;
    }
    storage = fake->storage + request->sector * 512;
    for (uint32_t i = 0; i < request->segment_count; i++) {
        struct fake_segment *segment = &request->segments[i];

        if (request->type == TYPE_IN) {
            memcpy(segment->data, storage, segment->bytes);
            request->written += segment->bytes;
        } else {
            memcpy(storage, segment->data, segment->bytes);
        }
        storage += segment->bytes;
    }
    if (request->type == TYPE_IN) {
        fake->reads++;
        return STATUS_OK;
    }
    fake->writes++;
    fake->sequence++;
    fake_write_through(fake, request->sector, count);
    return STATUS_OK;
}

static uint8_t transfer_zoned(struct fake_device *fake, struct fake_request *request)
{
    uint8_t status = STATUS_OK;

    if (fake->zones != NULL) {
        status = request->type == TYPE_IN ? fake_zones_may_read(fake, request)
                                          : fake_zones_may_write(fake, request);
    }
    if (status == STATUS_OK) {
        status = transfer(fake, request);
    }
    if (status == STATUS_OK && request->type != TYPE_IN && fake->zones != NULL) {
        fake_zones_written(fake, request);
    }
    return status;
}

static uint8_t flush(struct fake_device *fake, struct fake_request *request)
{
    uint64_t argument;

    if (fake_fires(fake, FAKE_FAULT_FLUSH_UNSUPPORTED, &argument)) {
        return STATUS_UNSUPP;
    }
    fake->flushes++;
    if (fake_fires(fake, FAKE_FAULT_FLUSH_LIES, &argument)) {
        return STATUS_OK;
    }
    if (request->snapshot != NULL) {
        make_durable(fake, request->snapshot, request->sequence, 0, fake->storage_sectors);
    } else {
        make_durable(fake, fake->storage, fake->sequence, 0, fake->storage_sectors);
    }
    return STATUS_OK;
}

static uint8_t get_id(const struct fake_device *fake, struct fake_request *request)
{
    uint8_t identity[IDENTITY_BYTES] = { 0 };
    uint32_t done = 0;

    for (uint32_t i = 0; i < IDENTITY_BYTES && fake->config.identity[i] != '\0'; i++) {
        identity[i] = (uint8_t)fake->config.identity[i];
    }
    for (uint32_t i = 0; i < request->segment_count; i++) {
        memcpy(request->segments[i].data, identity + done, request->segments[i].bytes);
        done += request->segments[i].bytes;
    }
    request->written += done;
    return STATUS_OK;
}

/* 5.2.6: state and wear as three le16; recognisable numbers. */
static uint8_t get_lifetime(struct fake_request *request)
{
    static const uint8_t lifetime[LIFETIME_BYTES] = { 1, 0, 2, 0, 3, 0 };
    uint32_t done = 0;

    for (uint32_t i = 0; i < request->segment_count; i++) {
        memcpy(request->segments[i].data, lifetime + done, request->segments[i].bytes);
        done += request->segments[i].bytes;
    }
    request->written += done;
    return STATUS_OK;
}

static uint8_t perform(struct fake_device *fake, struct fake_request *request)
{
    uint64_t argument;

    if (request->refused || fake_fires(fake, FAKE_FAULT_IO_ERROR, &argument)) {
        return STATUS_IOERR;
    }
    if (fake_fires(fake, FAKE_FAULT_NO_DATA, &argument)) {
        return STATUS_OK;
    }
    if (fake_zones_has(request->type) && !fake_zones_append(request->type)) {
        return fake_zones_perform(fake, request);
    }
    switch (request->type) {
    case TYPE_IN:
    case TYPE_OUT:
    case FAKE_TYPE_ZONE_APPEND:
        return transfer_zoned(fake, request);
    case TYPE_FLUSH:
        return flush(fake, request);
    case TYPE_GET_ID:
        return get_id(fake, request);
    case FAKE_TYPE_GET_LIFETIME:
        return get_lifetime(request);
    case FAKE_TYPE_DISCARD:
    case FAKE_TYPE_WRITE_ZEROES:
    case FAKE_TYPE_SECURE_ERASE:
        if (!fake_ranges_perform(fake, request)) {
            return STATUS_IOERR;
        }
        return STATUS_OK;
    default:
        return STATUS_UNSUPP;
    }
}

void fake_block_execute(struct fake_device *fake, struct fake_request *request)
{
    uint8_t status = perform(fake, request);
    uint64_t argument;

    if (fake_fires(fake, FAKE_FAULT_STATUS_BYTE, &argument)) {
        status = (uint8_t)argument;
    }
    if (request->status != NULL && !fake_fires(fake, FAKE_FAULT_NO_STATUS, &argument)) {
        *request->status = status;
        request->written++;
    }
}
