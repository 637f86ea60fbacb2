/* SPDX-License-Identifier: MIT */
#include "backend_private.h"

#include <string.h>

/* Request types; 5.2.6. */
#define TYPE_IN           0u
#define TYPE_OUT          1u
#define TYPE_FLUSH        4u
#define TYPE_GET_ID       8u
#define TYPE_DISCARD      11u
#define TYPE_WRITE_ZEROES 13u

#define LATE_LOOK_NS 100000u

#define SECTOR       512u
#define HEADER_BYTES 16u
#define RANGE_BYTES  SKI_BACKEND_RANGE_BYTES
#define RANGE_UNMAP  1u

/* What is longer takes so long to copy that another hand had better look meanwhile. */
#define AT_ONCE_BYTES 32768u

/* Copies bytes from the front of the pieces; they are as many as the caller says. */
static void copy_out(const struct iovec *pieces, uint8_t *out, size_t bytes)
{
    for (size_t done = 0; done < bytes; pieces++) {
        size_t part = pieces->iov_len < bytes - done ? pieces->iov_len : bytes - done;

        for (size_t i = 0; i < part; i++) {
            out[done + i] = ski_door_load8(ski_door_share((uint8_t *)pieces->iov_base + i));
        }
        done += part;
    }
}

/* The header wherever it lies, and the pieces behind it. */
static void take_header(struct ski_backend_request *request)
{
    const uint8_t *first = request->out->iov_base;
    size_t left = HEADER_BYTES;

    if (request->out->iov_len >= HEADER_BYTES && ((uintptr_t)first & 7) == 0) {
        const sk_le64 SKI_SHARED *words =
            (const sk_le64 SKI_SHARED *)(const void SKI_SHARED *)ski_door_share(
                request->out->iov_base);

        request->type = (uint32_t)ski_door_load64(&words[0]);
        request->sector = ski_door_load64(&words[1]);
    } else {
        uint8_t bytes[HEADER_BYTES];

        copy_out(request->out, bytes, sizeof(bytes));
        request->type = sk_endian_load_le32(bytes);
        request->sector = sk_endian_load_le64(bytes + 8);
    }
    while (left > 0 && left >= request->out->iov_len) {
        left -= request->out->iov_len;
        request->out++;
        request->out_count--;
    }
    if (left > 0) {
        request->out->iov_base = (uint8_t *)request->out->iov_base + left;
        request->out->iov_len -= left;
    }
}

/* 2.7.4.1: nothing may be concluded from how a request is divided into buffers. */
static bool parse(struct ski_device_chain *chain, struct ski_backend_request *request)
{
    struct iovec *last = &chain->pieces[chain->count - 1];

    if (chain->readable_bytes < HEADER_BYTES || chain->writable_bytes < 1) {
        return false;
    }
    request->out = chain->pieces;
    request->out_count = chain->readable;
    request->out_bytes = chain->readable_bytes - HEADER_BYTES;
    request->in = chain->pieces + chain->readable;
    request->in_count = chain->count - chain->readable;
    request->in_bytes = chain->writable_bytes - 1;
    request->status = ski_door_share((uint8_t *)last->iov_base + last->iov_len - 1);
    last->iov_len--;
    request->in_count -= last->iov_len == 0;
    take_header(request);
    return true;
}

/* Whole sectors within the disk. */
static bool fits(const struct ski_backend_store *store, uint64_t sector, uint64_t bytes)
{
    uint64_t capacity = atomic_load_explicit(&store->capacity_sectors, memory_order_relaxed);

    return bytes % SECTOR == 0 && sk_checked_range(sector, bytes / SECTOR, capacity);
}

static uint8_t do_read(const struct ski_backend_queue *queue, struct ski_backend_request *request)
{
    uint8_t answer = ski_backend_store_read(queue->store, request->in, request->in_count,
                                            request->offset);

    if (answer == SKI_BACKEND_OK && !(queue->store->is_null && !queue->store->null_zeroes)) {
        request->written = request->in_bytes;
    }
    return answer;
}

static uint8_t do_get_id(const struct ski_backend_queue *queue,
                         struct ski_backend_request *request)
{
    const char *serial = queue->connection->backend->serial;
    size_t done = 0;

    for (uint32_t i = 0; i < request->in_count && done < SK_BACKEND_SERIAL_BYTES; i++) {
        size_t part = request->in[i].iov_len;

        part = part < SK_BACKEND_SERIAL_BYTES - done ? part : SK_BACKEND_SERIAL_BYTES - done;
        ski_door_copy_in(ski_door_share(request->in[i].iov_base), serial + done, part);
        done += part;
    }
    request->written = done;
    return done < SK_BACKEND_SERIAL_BYTES ? SKI_BACKEND_IOERR : SKI_BACKEND_OK;
}

static uint8_t do_range(const struct ski_backend_queue *queue,
                        const struct ski_backend_request *request, const uint8_t *bytes)
{
    struct ski_backend_store *store = queue->store;
    bool zeroes = request->type == TYPE_WRITE_ZEROES;
    uint64_t sector = sk_endian_load_le64(bytes);
    uint32_t count = sk_endian_load_le32(bytes + 8);
    uint32_t flags = sk_endian_load_le32(bytes + 12);

    /* 5.2.6.2: unknown flags, and UNMAP where it means nothing, are not supported. */
    if ((flags & ~RANGE_UNMAP) != 0 || (!zeroes && flags != 0)) {
        return SKI_BACKEND_UNSUPP;
    }
    if (count > SKI_BACKEND_RANGE_SECTORS_MAX || !fits(store, sector, (uint64_t)count * SECTOR)) {
        return SKI_BACKEND_IOERR;
    }
    if (count == 0) {
        return SKI_BACKEND_OK;
    }
    if (zeroes) {
        return ski_backend_store_write_zeroes(store, sector * SECTOR, (uint64_t)count * SECTOR,
                                              (flags & RANGE_UNMAP) != 0, request->durable);
    }
    return ski_backend_store_discard(store, sector * SECTOR, (uint64_t)count * SECTOR);
}

/* DISCARD and WRITE_ZEROES: one range after the other. */
static uint8_t do_ranges(const struct ski_backend_queue *queue,
                         const struct ski_backend_request *request)
{
    uint8_t answer = SKI_BACKEND_OK;

    for (uint64_t i = 0; i < request->out_bytes && answer == SKI_BACKEND_OK; i += RANGE_BYTES) {
        answer = do_range(queue, request, request->ranges + i);
    }
    return answer;
}

static uint8_t do_request(const struct ski_backend_queue *queue,
                          struct ski_backend_request *request)
{
    switch (request->type) {
    case TYPE_IN:
        return do_read(queue, request);
    case TYPE_OUT:
        return ski_backend_store_write(queue->store, request->out, request->out_count,
                                       request->offset, request->durable);
    case TYPE_FLUSH:
        return ski_backend_store_flush(queue->store);
    case TYPE_GET_ID:
        return do_get_id(queue, request);
    default:
        return do_ranges(queue, request);
    }
}

/* ---- What comes first ---------------------------------------------------------------------- */

/* False: the request is answered by now. */
static bool begin_ranges(const struct ski_backend_queue *queue,
                         struct ski_backend_request *request)
{
    if (!ski_backend_has(queue->connection, request->type == TYPE_DISCARD
                                                ? SK_VIRTIO_BLK_F_DISCARD
                                                : SK_VIRTIO_BLK_F_WRITE_ZEROES)) {
        request->answer = SKI_BACKEND_UNSUPP;
        return false;
    }
    if (!queue->writable || request->out_bytes == 0 ||
        request->out_bytes > sizeof(request->ranges) || request->out_bytes % RANGE_BYTES != 0) {
        request->answer = SKI_BACKEND_IOERR;
        return false;
    }
    copy_out(request->out, request->ranges, (size_t)request->out_bytes);
    return true;
}

/* Checks what the driver asks for.  False: the request is answered by now. */
static bool begin(struct ski_backend_queue *queue, struct ski_backend_request *request)
{
    struct ski_backend_store *store = queue->store;

    request->answer = SKI_BACKEND_IOERR;
    switch (request->type) {
    case TYPE_IN:
        request->offset = request->sector * SECTOR;
        return fits(store, request->sector, request->in_bytes);
    case TYPE_OUT:
        request->offset = request->sector * SECTOR;
        return queue->writable && fits(store, request->sector, request->out_bytes);
    case TYPE_FLUSH:
    case TYPE_GET_ID:
        return true;
    case TYPE_DISCARD:
    case TYPE_WRITE_ZEROES:
        return begin_ranges(queue, request);
    default:
        request->answer = SKI_BACKEND_UNSUPP;
        return false;
    }
}

/* A store in memory does not block, and a file says so of what is in the page cache. */
static bool do_at_once(struct ski_backend_queue *queue, struct ski_backend_request *request)
{
    struct ski_backend_store *store = queue->store;

    if (store->is_null || request->type == TYPE_GET_ID ||
        (store->in_memory && request->in_bytes <= AT_ONCE_BYTES &&
         request->out_bytes <= AT_ONCE_BYTES && request->type <= TYPE_FLUSH)) {
        request->answer = do_request(queue, request);
        return true;
    }
    if (request->type == TYPE_IN && request->in_bytes <= AT_ONCE_BYTES &&
        ski_backend_store_read_now(store, &request->in, &request->in_count, &request->offset,
                                   &request->answer)) {
        request->written = request->answer == SKI_BACKEND_OK ? request->in_bytes : 0;
        return true;
    }
    return false;
}

/* Which requests faults hit goes by the order of taking. */
static void begin_faulty(struct ski_backend_faults *faults, struct ski_backend_request *request)
{
    uint64_t value;

    request->delay_ns = 0;
    if (ski_backend_fault_hits(faults, SK_BACKEND_SLOW, &value)) {
        request->delay_ns = value * 1000;
    }
    request->after = 0;
    if (ski_backend_fault_hits(faults, SK_BACKEND_LATE, &value)) {
        request->after = value == 0 ? UINT64_MAX : atomic_load(&faults->done) + value;
    }
    if (ski_backend_fault_hits(faults, SK_BACKEND_FAIL, &value)) {
        request->answer = SKI_BACKEND_IOERR;
        request->is_answered = true;
    }
}

enum ski_backend_way ski_backend_block_begin(struct ski_backend_queue *queue,
                                             struct ski_device_chain *chain,
                                             struct ski_backend_request *request)
{
    if (!parse(chain, request)) {
        return SKI_BACKEND_NO_ROOM;
    }
    request->has_status = true;
    request->written = 0;
    if (queue->does_nothing && request->type <= TYPE_OUT && begin(queue, request)) {
        request->answer = SKI_BACKEND_OK;
        return SKI_BACKEND_AT_ONCE;
    }
    request->durable = queue->durable;
    request->is_answered = !begin(queue, request);
    if (queue->faults != NULL) {
        begin_faulty(queue->faults, request);
    }
    if (queue->faults == NULL && (request->is_answered || do_at_once(queue, request))) {
        return SKI_BACKEND_AT_ONCE;
    }
    return SKI_BACKEND_AWAY;
}

/* ---- What may take its time ------------------------------------------------------------------ */

/* The same on a bad day. */
static void go_on_faulty(const struct ski_backend_queue *queue,
                         struct ski_backend_request *request)
{
    struct ski_backend_faults *faults = queue->faults;
    uint64_t value;

    ski_backend_sleep_ns(request->delay_ns);
    while (atomic_load(&faults->done) < request->after) {
        ski_backend_sleep_ns(LATE_LOOK_NS);
    }
    if (!request->is_answered) {
        request->answer = do_request(queue, request);
    }
    ski_backend_fault_die(faults, SK_BACKEND_DIE_DONE);
    if (ski_backend_fault_hits(faults, SK_BACKEND_LIE_STATUS, &value)) {
        request->answer = (uint8_t)value;
    }
    request->has_status = !ski_backend_fault_hits(faults, SK_BACKEND_LIE_NO_STATUS, &value);
}

void ski_backend_block_go_on(const struct ski_backend_queue *queue,
                             struct ski_backend_request *request)
{
    if (queue->faults != NULL) {
        go_on_faulty(queue, request);
    } else {
        request->answer = do_request(queue, request);
    }
}

/* ---- The answer ------------------------------------------------------------------------------ */

static void count(struct ski_backend_worker *worker, const struct ski_backend_request *request)
{
    if (request->answer != SKI_BACKEND_OK) {
        ski_backend_count(&worker->errors, 1);
    } else if (request->type == TYPE_IN) {
        ski_backend_count(&worker->bytes_read, request->in_bytes);
        return;
    } else if (request->type == TYPE_OUT) {
        ski_backend_count(&worker->bytes_written, request->out_bytes);
        return;
    }
    if (request->type == TYPE_FLUSH) {
        ski_backend_count(&worker->flushes, 1);
    }
}

uint32_t ski_backend_block_end(struct ski_backend_queue *queue,
                               const struct ski_backend_request *request)
{
    uint64_t written = request->written;

    if (request->has_status) {
        ski_door_store8(request->status, request->answer);
        written++;
    }
    count(queue->worker, request);
    if (queue->faults != NULL) {
        atomic_fetch_add(&queue->faults->done, 1);
    }
    return written > UINT32_MAX ? UINT32_MAX : (uint32_t)written;
}
