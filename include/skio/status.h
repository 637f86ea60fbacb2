/* SPDX-License-Identifier: MIT */
/*
 * The one list of outcomes.  Every fallible function of skio returns an
 * `enum sk_status`; data travels through `out_` parameters.  A status is not an
 * errno: a hosted tool translates it at its own border.
 *
 * The codes are grouped by who has to act: the caller (its arguments or its
 * order of calls are wrong), nobody yet (the surroundings cannot do it now),
 * or the other side (a device, a device tree or a medium misbehaved).
 */
#ifndef SKIO_STATUS_H
#define SKIO_STATUS_H

#include <skio/compiler.h>

SK_BEGIN_DECLS

/* X(code, short name, text) */
#define SK_STATUS_LIST(X)                                                              \
    X(SK_OK, "ok", "success")                                                          \
    /* the caller */                                                                   \
    X(SK_ERR_INVALID, "invalid", "an argument is missing or outside of its domain")    \
    X(SK_ERR_SIZE, "size", "a size is zero, too large or not a multiple of its unit")  \
    X(SK_ERR_ALIGNMENT, "alignment", "an alignment is zero or not a power of two")     \
    X(SK_ERR_RANGE, "range", "the range reaches beyond the end of the object")         \
    X(SK_ERR_GONE, "gone", "the object was destroyed or never created")                \
    X(SK_ERR_MOVED, "moved", "the object was moved elsewhere")                         \
    X(SK_ERR_READ_ONLY, "read-only", "the medium cannot be written")                   \
    X(SK_ERR_ZONE_STATE, "zone-state", "the zone's state or write pointer forbids it") \
    /* nobody yet */                                                                   \
    X(SK_ERR_AGAIN, "again", "not possible yet; try again later")                      \
    X(SK_ERR_BUSY, "busy", "in use; release it first")                                 \
    X(SK_ERR_ZONES_OPEN, "zones-open", "too many zones are open; close one first")     \
    X(SK_ERR_ZONES_ACTIVE, "zones-active", "too many zones are active; finish one first") \
    X(SK_ERR_NO_MEMORY, "no-memory", "no memory that satisfies the constraints is free") \
    X(SK_ERR_NOT_FOUND, "not-found", "no such object")                                 \
    X(SK_ERR_UNSUPPORTED, "unsupported", "the other side does not offer this")         \
    X(SK_ERR_UNREACHABLE, "unreachable", "the device cannot reach this memory")        \
    X(SK_ERR_CANCELED, "canceled", "taken back before the other side saw it")          \
    /* the other side */                                                               \
    X(SK_ERR_MALFORMED, "malformed", "data from outside breaks its specification")     \
    X(SK_ERR_IO, "io", "the device reported an I/O error")                             \
    X(SK_ERR_TIMEOUT, "timeout", "the deadline passed")                                \
    X(SK_ERR_BROKEN, "broken", "the device broke the protocol; recover it first")      \
    X(SK_ERR_IN_DOUBT, "in-doubt", "the device may still use the memory; never reuse it")

enum sk_status {
#define SK_STATUS_ENUM_(code, name, text) code,
    SK_STATUS_LIST(SK_STATUS_ENUM_)
#undef SK_STATUS_ENUM_
        SK_STATUS_COUNT /* how many statuses there are; not a status */
};

/*
 * Returns the short name ("no-memory") of `status`, for tables and logs, or
 * "unknown" for a value that is no status.  Static storage; any context.
 */
const char *sk_status_name(enum sk_status status);

/*
 * Returns one sentence, without a final stop, that says what `status` means,
 * or "unknown status".  Static storage; any context.
 */
const char *sk_status_text(enum sk_status status);

SK_END_DECLS

#endif
