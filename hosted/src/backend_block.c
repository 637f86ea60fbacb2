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

#define SECTOR       512u
#define HEADER_BYTES 16u
#define RANGE_BYTES  16u
#define RANGE_UNMAP  1u

struct request {
    uint32_t type;
    uint64_t sector;
    struct iovec *out; /* what the driver sends, behind the header */
    uint32_t out_count;
    uint64_t out_bytes;
    struct iovec *in; /* what it wants, before the status */
    uint32_t in_count;
    uint64_t in_bytes;
    uint8_t SKI_SHARED *status;
};

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
static void take_header(struct request *request)
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
static bool parse(struct ski_device_chain *chain, struct request *request)
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

static uint8_t do_read(struct ski_backend_queue *queue, const struct request *request,
                       uint64_t *out_written)
{
    struct ski_backend_store *store = queue->store;
    uint8_t answer;

    if (!fits(store, request->sector, request->in_bytes)) {
        return SKI_BACKEND_IOERR;
    }
    if (store->is_null && !store->null_zeroes) {
        return SKI_BACKEND_OK; /* and nothing was written */
    }
    answer = ski_backend_store_read(store, request->in, request->in_count,
                                    request->sector * SECTOR);
    *out_written = answer == SKI_BACKEND_OK ? request->in_bytes : 0;
    return answer;
}

static uint8_t do_write(struct ski_backend_queue *queue, const struct request *request)
{
    struct ski_backend_store *store = queue->store;

    if (!queue->writable || !fits(store, request->sector, request->out_bytes)) {
        return SKI_BACKEND_IOERR;
    }
    return ski_backend_store_write(store, request->out, request->out_count,
                                   request->sector * SECTOR, queue->durable);
}

static uint8_t do_get_id(const struct ski_backend_queue *queue, const struct request *request,
                         uint64_t *out_written)
{
    const char *serial = queue->connection->backend->serial;
    size_t done = 0;

    for (uint32_t i = 0; i < request->in_count && done < SK_BACKEND_SERIAL_BYTES; i++) {
        size_t part = request->in[i].iov_len;

        part = part < SK_BACKEND_SERIAL_BYTES - done ? part : SK_BACKEND_SERIAL_BYTES - done;
        ski_door_copy_in(ski_door_share(request->in[i].iov_base), serial + done, part);
        done += part;
    }
    *out_written = done;
    if (done < SK_BACKEND_SERIAL_BYTES) {
        return SKI_BACKEND_IOERR;
    }
    return SKI_BACKEND_OK;
}

static uint8_t do_range(struct ski_backend_queue *queue, bool zeroes, const uint8_t *bytes)
{
    struct ski_backend_store *store = queue->store;
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
                                              (flags & RANGE_UNMAP) != 0, queue->durable);
    }
    return ski_backend_store_discard(store, sector * SECTOR, (uint64_t)count * SECTOR);
}

/* DISCARD and WRITE_ZEROES: the ranges are copied before one of them is looked at. */
static uint8_t do_ranges(struct ski_backend_queue *queue, const struct request *request)
{
    bool zeroes = request->type == TYPE_WRITE_ZEROES;
    uint8_t bytes[SKI_BACKEND_RANGES_MAX * RANGE_BYTES];
    uint8_t answer = SKI_BACKEND_OK;

    if (!ski_backend_has(queue->connection,
                         zeroes ? SK_VIRTIO_BLK_F_WRITE_ZEROES : SK_VIRTIO_BLK_F_DISCARD)) {
        return SKI_BACKEND_UNSUPP;
    }
    if (!queue->writable || request->out_bytes == 0 || request->out_bytes > sizeof(bytes) ||
        request->out_bytes % RANGE_BYTES != 0) {
        return SKI_BACKEND_IOERR;
    }
    copy_out(request->out, bytes, (size_t)request->out_bytes);
    for (uint64_t i = 0; i < request->out_bytes && answer == SKI_BACKEND_OK; i += RANGE_BYTES) {
        answer = do_range(queue, zeroes, bytes + i);
    }
    return answer;
}

static uint8_t do_request(struct ski_backend_queue *queue, const struct request *request,
                          uint64_t *out_written)
{
    struct ski_backend_worker *worker = queue->worker;
    uint8_t answer;

    switch (request->type) {
    case TYPE_IN:
        answer = do_read(queue, request, out_written);
        ski_backend_count(&worker->bytes_read, answer == SKI_BACKEND_OK ? request->in_bytes : 0);
        return answer;
    case TYPE_OUT:
        answer = do_write(queue, request);
        ski_backend_count(&worker->bytes_written,
                          answer == SKI_BACKEND_OK ? request->out_bytes : 0);
        return answer;
    case TYPE_FLUSH:
        ski_backend_count(&worker->flushes, 1);
        return ski_backend_store_flush(queue->store);
    case TYPE_GET_ID:
        return do_get_id(queue, request, out_written);
    case TYPE_DISCARD:
    case TYPE_WRITE_ZEROES:
        return do_ranges(queue, request);
    default:
        return SKI_BACKEND_UNSUPP;
    }
}

/* The same on a bad day; false: there shall be no status. */
static bool do_faulty(struct ski_backend_queue *queue, const struct request *request,
                      uint64_t *out_written, uint8_t *out_answer)
{
    struct ski_backend_faults *faults = queue->faults;
    uint64_t value;

    if (ski_backend_fault_hits(faults, SK_BACKEND_SLOW, &value)) {
        ski_backend_sleep_ns(value * 1000);
    }
    *out_answer = ski_backend_fault_hits(faults, SK_BACKEND_FAIL, &value)
                      ? SKI_BACKEND_IOERR
                      : do_request(queue, request, out_written);
    ski_backend_fault_die(faults, SK_BACKEND_DIE_DONE);
    if (ski_backend_fault_hits(faults, SK_BACKEND_LIE_STATUS, &value)) {
        *out_answer = (uint8_t)value;
    }
    return !ski_backend_fault_hits(faults, SK_BACKEND_LIE_NO_STATUS, &value);
}

bool ski_backend_block_do(struct ski_backend_queue *queue, struct ski_device_chain *chain,
                          uint32_t *out_written)
{
    struct request request;
    uint64_t written = 0;
    bool has_status = true;
    uint8_t answer;

    if (!parse(chain, &request)) {
        return false;
    }
    if (queue->faults == NULL) {
        answer = do_request(queue, &request, &written);
    } else {
        has_status = do_faulty(queue, &request, &written, &answer);
    }
    if (has_status) {
        ski_door_store8(request.status, answer);
        written++;
    }
    *out_written = written > UINT32_MAX ? UINT32_MAX : (uint32_t)written;
    if (answer != SKI_BACKEND_OK) {
        ski_backend_count(&queue->worker->errors, 1);
    }
    return true;
}
