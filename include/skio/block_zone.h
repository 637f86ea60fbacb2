/* SPDX-License-Identifier: MIT */
/*
 * Disks whose sectors lie in zones: shingled disks, zoned flash.  What the
 * zones are, changing their states, and appending.  It keeps no table of
 * zones: their states are the device's, and change behind anybody's back.
 *
 * A sequential zone of a host-managed disk is written at its write pointer
 * only, from its start to its capacity, and is reset before it can be written
 * again.  SK_BLOCK_WRITE at another sector ends with SK_ERR_ZONE_STATE.  So only
 * one write for each zone may be on its way at a time; appends may be many.
 * A read or write that reaches across zones is split where they meet.  A write
 * that is split, there or at other limits, has one part at the device at a time;
 * what was submitted to the queue behind it waits until the last one has begun.
 *
 * Statuses of zones, besides those of every request: SK_ERR_ZONE_STATE (the
 * zone is full, read-only, offline or conventional, or the write is not at its
 * write pointer), SK_ERR_ZONES_OPEN and SK_ERR_ZONES_ACTIVE (the disk's limits of
 * open or active zones are reached; open zones are active too).
 *
 * Ownership, calling: as block.h.
 * Trust: what the device says of its zones is checked here.
 * Spec: Virtio 1.3, 5.2.6 "Device Operation".
 */
#ifndef SKIO_BLOCK_ZONE_H
#define SKIO_BLOCK_ZONE_H

#include <skio/block.h>

SK_BEGIN_DECLS

/*
 * A report is a header of this size and one description of this size for each
 * zone.  The memory of SK_BLOCK_ZONE_REPORT is a multiple of it, at least two, and
 * no more than one request to the device carries.
 */
#define SK_BLOCK_ZONE_REPORT_BYTES 64u

enum sk_block_zone_type {
    SK_BLOCK_ZONE_TYPE_CONVENTIONAL, /* written anywhere, any time; has no state */
    SK_BLOCK_ZONE_TYPE_SEQUENTIAL,   /* written at its write pointer only */
    SK_BLOCK_ZONE_TYPE_PREFERRED,    /* written anywhere, best at its write pointer */
    SK_BLOCK_ZONE_TYPE_COUNT
};

enum sk_block_zone_state {
    SK_BLOCK_ZONE_STATE_NONE,  /* of a conventional zone */
    SK_BLOCK_ZONE_STATE_EMPTY,
    SK_BLOCK_ZONE_STATE_OPENED, /* by a write; the device may close it to open others */
    SK_BLOCK_ZONE_STATE_OPEN,  /* by SK_BLOCK_ZONE_OPEN; stays open until it is closed or full */
    SK_BLOCK_ZONE_STATE_CLOSED,
    SK_BLOCK_ZONE_STATE_FULL,
    SK_BLOCK_ZONE_STATE_READ_ONLY, /* the device's decision, as is the next */
    SK_BLOCK_ZONE_STATE_OFFLINE,   /* cannot even be read */
    SK_BLOCK_ZONE_STATE_COUNT
};

/* `write_sector` of a zone that has no write pointer. */
#define SK_BLOCK_ZONE_NO_SECTOR UINT64_MAX

struct sk_block_zone {
    uint64_t sector;           /* its first */
    uint64_t sector_count;     /* up to the next zone */
    uint64_t capacity_sectors; /* of these, from the first on, can be written */
    uint64_t write_sector;     /* the write pointer: within the capacity, or at its end; or
                                * SK_BLOCK_ZONE_NO_SECTOR if the type or state has none */
    enum sk_block_zone_type type;
    enum sk_block_zone_state state;
};

/* Names for people ("sequential", "empty", "host-managed", ...), or "unknown". */
const char *sk_block_zone_type_name(enum sk_block_zone_type type);
const char *sk_block_zone_state_name(enum sk_block_zone_state state);
const char *sk_block_zone_model_name(enum sk_block_zone_model model);

/* How many zones the disk has; 0 if it has none. */
uint64_t sk_block_zone_count(const struct sk_block_device *device);

/*
 * Takes zone `index` out of the report that a SK_BLOCK_ZONE_REPORT of `sector` put
 * into `report`, `bytes` long.  Each byte is looked at once, so the device may
 * still change it.  SK_OK; SK_ERR_NOT_FOUND (the report has fewer zones),
 * SK_ERR_MALFORMED (more zones than bytes, or a zone that cannot be: not where it
 * follows the one before, of no type or state, with more capacity than sectors
 * or a write pointer outside), SK_ERR_SIZE (shorter than a header), SK_ERR_UNSUPPORTED
 * (no zones): *out_zone is unchanged.  O(1).
 */
SK_MUST_CHECK enum sk_status sk_block_zone_parse(const struct sk_block_device *device,
                                                 uint64_t sector, const void *report,
                                                 uint64_t bytes, uint32_t index,
                                                 struct sk_block_zone *out_zone);

/*
 * Asks what the zones from that of `sector` on are and waits; stores up to
 * `count`, and how many in *out_count: fewer only at the end of the disk.  It
 * asks for a few at a time, so states may change between them.
 * SK_OK; SK_ERR_INVALID (NULL), SK_ERR_UNSUPPORTED (no zones), SK_ERR_RANGE (beyond the
 * last), SK_ERR_MALFORMED (as zone_parse), and the rest as sk_block_read:
 * *out_count zones are good all the same.
 */
SK_MUST_CHECK enum sk_status sk_block_zone_report(struct sk_block_queue *queue, uint64_t sector,
                                                  struct sk_block_zone *out_zones, uint32_t count,
                                                  uint32_t *out_count, uint64_t timeout_ns);

/*
 * Opens, closes, finishes or resets the zone that begins at `sector`, or resets
 * all (`sector` 0), and waits.  `operation` is SK_BLOCK_ZONE_OPEN to
 * SK_BLOCK_ZONE_RESET_ALL.  SK_OK; SK_ERR_INVALID (another operation, or no zone
 * begins there), SK_ERR_UNSUPPORTED (no zones), SK_ERR_RANGE, SK_ERR_READ_ONLY, a status
 * of zones, and the rest as sk_block_flush.
 */
SK_MUST_CHECK enum sk_status sk_block_zone_manage(struct sk_block_queue *queue,
                                                  enum sk_block_operation operation,
                                                  uint64_t sector, uint64_t timeout_ns);

/*
 * Writes `bytes` behind what is in the zone that begins at `zone_sector`, all
 * in one piece, and waits; *out_sector is where they are.  SK_OK; SK_ERR_SIZE (more
 * than zones.append_sectors_max, or no multiple of zones.write_bytes), a status of
 * zones, and the rest as sk_block_write: *out_sector is unchanged.
 */
SK_MUST_CHECK enum sk_status sk_block_zone_append(struct sk_block_queue *queue,
                                                  uint64_t zone_sector, const void *data,
                                                  uint64_t bytes, uint64_t *out_sector,
                                                  uint64_t timeout_ns);

SK_END_DECLS

#endif
