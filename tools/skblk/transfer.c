/* SPDX-License-Identifier: MIT */
#include "transfer.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DEPTH_DEFAULT 16u
#define NAP_NS        UINT64_C(100000000)

enum lane_state {
    LANE_IDLE,
    LANE_READING, /* a request is at the source */
    LANE_FILLED,  /* waits for its turn at the target */
    LANE_WRITING  /* a request is at the target */
};

struct engine;

/* One piece on its way. */
struct lane {
    struct sk_block_request request;
    struct engine *engine;
    enum lane_state state;
    bool is_zero;    /* known to be zeroes; `data` may hold something else */
    uint64_t offset; /* within the range */
    uint32_t bytes;
    uint8_t *data;
    struct sk_dma_segment segment; /* the same for a disk */
};

struct engine {
    struct skblk_transfer *transfer;
    struct lane *lanes;
    uint32_t depth;
    uint32_t chunk;
    struct sk_io_buffer buffer; /* reaches both disks, if both ends are */
    uint64_t next;     /* where the next piece begins */
    uint64_t in_order; /* where the stream that is the target stands */
    uint64_t data_at;  /* source file: no data before this, as far as is known */
    uint32_t in_flight;
    bool moved; /* something happened since the last look */
    uint64_t moved_ns;
    bool ended;  /* a stream did */
    bool holed;  /* a piece was lost on its way: the low-water mark stays where it is */
    int code;
};

static uint32_t depth_of(const struct skblk_call *call)
{
    return call->settings.depth != 0 ? (uint32_t)call->settings.depth : DEPTH_DEFAULT;
}

uint64_t skblk_transfer_memory(const struct skblk_call *call)
{
    return depth_of(call) * call->settings.chunk;
}

static bool is_disk(const struct skblk_end *end)
{
    return end->kind == SKBLK_END_DISK;
}

/* The first failure counts, and counts more than an interruption. */
static bool is_failed(const struct engine *engine)
{
    return engine->code != SKBLK_EXIT_OK && engine->code != SKBLK_EXIT_INTERRUPTED;
}

static void fail(struct engine *engine, int code)
{
    engine->holed |= code != SKBLK_EXIT_INTERRUPTED;
    if (!is_failed(engine)) {
        engine->code = code;
    }
}

static void fail_file(struct engine *engine, const struct skblk_end *end, const char *what)
{
    const char *advice = errno == ENOSPC || errno == EDQUOT ? "; make room there, then go on" : "";

    if (!is_failed(engine)) {
        skblk_error(engine->transfer->call, "%s: %s: %s%s", end->name, what, strerror(errno),
                    advice);
    }
    fail(engine, SKBLK_EXIT_FILE);
}

static bool all_zero(const uint8_t *data, size_t bytes)
{
    return data[0] == 0 && memcmp(data, data + 1, bytes - 1) == 0;
}

/* ---- Disks --------------------------------------------------------------------------------- */

static void completed(struct sk_block_request *request)
{
    struct lane *lane = request->context;
    struct engine *engine = lane->engine;
    bool reading = lane->state == LANE_READING;
    const struct skblk_end *end =
        reading ? &engine->transfer->source : &engine->transfer->target;

    engine->in_flight--;
    engine->moved = true;
    if (request->status != SK_OK) {
        if (!is_failed(engine)) {
            fail(engine, skblk_disk_failed(engine->transfer->call, reading ? "read" : "write",
                                           end->offset + lane->offset, request->status));
        }
        lane->state = LANE_IDLE;
        return;
    }
    lane->is_zero = reading && !engine->transfer->call->settings.no_sparse &&
                    all_zero(lane->data, lane->bytes);
    lane->state = reading ? LANE_FILLED : LANE_IDLE;
}

static void submit(struct lane *lane, const struct skblk_end *end,
                   enum sk_block_operation operation)
{
    struct sk_block_request *request = &lane->request;
    bool reading = operation == SK_BLOCK_READ;

    *request = (struct sk_block_request){
        .operation = operation,
        .sector = (end->offset + lane->offset) / SK_BLOCK_SECTOR_BYTES,
        .complete = completed,
        .context = lane,
    };
    if (operation == SK_BLOCK_WRITE_ZEROES) {
        request->sector_count = lane->bytes / SK_BLOCK_SECTOR_BYTES;
        request->flags = end->disk->info.zeroes_may_unmap ? SK_BLOCK_FLAG_UNMAP : 0;
    } else {
        request->segments = &lane->segment;
        request->segment_count = 1;
    }
    lane->segment.bytes = lane->bytes;
    lane->state = reading ? LANE_READING : LANE_WRITING;
    lane->engine->in_flight++;
    sk_block_submit(sk_block_get_queue(end->disk->device, 0), &request, 1);
}

/* ---- The source ---------------------------------------------------------------------------- */

/* Reads as much as there is; -1: failed, said. */
static ssize_t read_fully(struct engine *engine, const struct skblk_end *end, uint8_t *data,
                          size_t bytes, uint64_t offset)
{
    size_t have = 0;

    while (have < bytes) {
        ssize_t got = end->kind == SKBLK_END_STREAM
                          ? read(end->fd, data + have, bytes - have)
                          : pread(end->fd, data + have, bytes - have, (off_t)(offset + have));

        if (got == 0) {
            break;
        }
        if (got < 0 && errno == EINTR && !skblk_is_interrupted()) {
            continue;
        }
        if (got < 0) {
            if (errno != EINTR) {
                fail_file(engine, end, "read");
            }
            return -1;
        }
        have += (size_t)got;
    }
    return (ssize_t)have;
}

/* True if the file has a hole here, all through the piece. */
static bool in_hole(struct engine *engine, const struct skblk_end *end, const struct lane *lane)
{
    uint64_t begin = end->offset + lane->offset;
    off_t data;

    if (end->kind != SKBLK_END_FILE || engine->transfer->call->settings.no_sparse) {
        return false;
    }
    if (begin >= engine->data_at) {
        data = lseek(end->fd, (off_t)begin, SEEK_DATA);
        engine->data_at = data >= 0 ? (uint64_t)data : errno == ENXIO ? UINT64_MAX : begin;
    }
    return engine->data_at >= begin + lane->bytes;
}

/* A block that is not whole in the source ends in zeroes. */
static void fill_from_file(struct engine *engine, struct lane *lane)
{
    struct skblk_transfer *transfer = engine->transfer;
    uint32_t unit = SK_BLOCK_SECTOR_BYTES;
    uint32_t wanted = lane->bytes;
    ssize_t got;

    if (in_hole(engine, &transfer->source, lane)) {
        lane->is_zero = true;
        lane->state = LANE_FILLED;
        return;
    }
    got = read_fully(engine, &transfer->source, lane->data, wanted,
                     transfer->source.offset + lane->offset);
    if (got < 0) {
        engine->ended = true;
        return;
    }
    if (is_disk(&transfer->target)) {
        unit = transfer->target.disk->info.block_bytes;
    }
    engine->ended |= (uint32_t)got < wanted;
    lane->bytes = ((uint32_t)got + unit - 1) / unit * unit;
    (void)memset(lane->data + got, 0, lane->bytes - (uint32_t)got);
    if (lane->bytes == 0) {
        return;
    }
    lane->is_zero = !transfer->call->settings.no_sparse && all_zero(lane->data, lane->bytes);
    lane->state = LANE_FILLED;
}

static void start_lane(struct engine *engine, struct lane *lane)
{
    struct skblk_transfer *transfer = engine->transfer;
    uint64_t left = transfer->length - engine->next;

    lane->offset = engine->next;
    lane->bytes = left < engine->chunk ? (uint32_t)left : engine->chunk;
    lane->is_zero = false;
    if (is_disk(&transfer->source)) {
        submit(lane, &transfer->source, SK_BLOCK_READ);
    } else {
        fill_from_file(engine, lane);
    }
    if (lane->state != LANE_IDLE) {
        engine->next += lane->bytes;
        engine->moved = true;
    }
}

/* ---- The target ---------------------------------------------------------------------------- */

static void write_to_file(struct engine *engine, struct lane *lane)
{
    const struct skblk_end *end = &engine->transfer->target;
    uint64_t offset = end->offset + lane->offset;
    uint32_t have = 0;

    if (lane->is_zero && end->kind == SKBLK_END_FILE) {
        if (end->is_fresh || fallocate(end->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                       (off_t)offset, lane->bytes) == 0) {
            have = lane->bytes;
        }
    }
    if (lane->is_zero && have == 0) {
        (void)memset(lane->data, 0, lane->bytes);
    }
    while (have < lane->bytes) {
        ssize_t put = end->kind == SKBLK_END_STREAM
                          ? write(end->fd, lane->data + have, lane->bytes - have)
                          : pwrite(end->fd, lane->data + have, lane->bytes - have,
                                   (off_t)(offset + have));

        if (put < 0 && errno == EINTR && !skblk_is_interrupted()) {
            continue;
        }
        if (put < 0 && errno == EINTR) {
            engine->holed = true; /* a stream that takes nothing: not even this piece */
            fail(engine, SKBLK_EXIT_INTERRUPTED);
            break;
        }
        if (put < 0) {
            fail_file(engine, end, "write");
            break;
        }
        have += (uint32_t)put;
    }
}

static void write_to_disk(struct engine *engine, struct lane *lane)
{
    const struct skblk_end *end = &engine->transfer->target;

    if (lane->is_zero && end->disk->info.write_zeroes.sectors_max != 0) {
        submit(lane, end, SK_BLOCK_WRITE_ZEROES);
        return;
    }
    if (lane->is_zero) { /* a hole was not read */
        (void)memset(lane->data, 0, lane->bytes);
    }
    submit(lane, end, SK_BLOCK_WRITE);
}

static void deliver(struct engine *engine, struct lane *lane)
{
    const struct skblk_end *end = &engine->transfer->target;
    bool ordered = end->kind == SKBLK_END_STREAM || end->kind == SKBLK_END_SINK;

    if (ordered && lane->offset != engine->in_order) {
        return; /* its turn comes */
    }
    engine->moved = true;
    if (is_disk(end)) {
        write_to_disk(engine, lane);
        return;
    }
    if (end->kind == SKBLK_END_SINK) {
        end->take(end->context, lane->data, lane->bytes);
    } else {
        write_to_file(engine, lane);
    }
    engine->in_order += lane->bytes;
    lane->state = LANE_IDLE;
}

/* ---- The engine ---------------------------------------------------------------------------- */

static bool wants_more(const struct engine *engine)
{
    return engine->code == SKBLK_EXIT_OK && !engine->ended &&
           engine->next < engine->transfer->length;
}

/* Everything before the oldest piece on its way is done. */
static void update_mark(struct engine *engine)
{
    uint64_t mark = engine->next;

    if (engine->holed) {
        return;
    }
    for (uint32_t i = 0; i < engine->depth; i++) {
        const struct lane *lane = &engine->lanes[i];

        if (lane->state != LANE_IDLE && lane->offset < mark) {
            mark = lane->offset;
        }
    }
    engine->transfer->done = mark;
}

/* Streams need the lanes' order, so the search goes on as long as one moves. */
static void drive_lanes(struct engine *engine)
{
    for (uint32_t i = 0; i < engine->depth; i++) {
        struct lane *lane = &engine->lanes[i];

        if (lane->state == LANE_FILLED && engine->holed) {
            lane->state = LANE_IDLE;
        }
        if (lane->state == LANE_IDLE && wants_more(engine)) {
            start_lane(engine, lane);
        }
        if (lane->state == LANE_FILLED) {
            deliver(engine, lane);
        }
    }
}

static bool is_busy(const struct engine *engine)
{
    if (wants_more(engine) || engine->in_flight > 0) {
        return true;
    }
    for (uint32_t i = 0; i < engine->depth; i++) {
        if (engine->lanes[i].state == LANE_FILLED) {
            return true;
        }
    }
    return false;
}

/* What waits for a disk that does not return completes at the next poll. */
static void give_up(struct engine *engine, const struct skblk_end *end, int code)
{
    bool reading = end == &engine->transfer->source;

    fail(engine, code);
    for (uint32_t i = 0; i < engine->depth; i++) {
        struct lane *lane = &engine->lanes[i];

        if (lane->state == (reading ? LANE_READING : LANE_WRITING)) {
            skblk_disk_cancel(end->disk, &lane->request);
        }
    }
}

static void poll_disk(struct engine *engine, const struct skblk_end *end)
{
    int code = SKBLK_EXIT_OK;
    enum sk_status status;

    if (!is_disk(end)) {
        return;
    }
    status = sk_block_poll(sk_block_get_queue(end->disk->device, 0), 0, NULL);
    if (!is_failed(engine) &&
        !skblk_disk_revive(engine->transfer->call, end->disk, status, &code)) {
        give_up(engine, end, code);
    }
}

static bool arm(const struct skblk_end *end, struct pollfd *out_poll)
{
    *out_poll = (struct pollfd){ .fd = -1, .events = POLLIN };
    if (!is_disk(end)) {
        return true;
    }
    out_poll->fd = sk_vhost_user_disk_queue_fd(end->disk->disk, 0);
    return sk_vhost_user_disk_arm(end->disk->disk, 0) == SK_OK;
}

/* Nothing to do until a disk answers. */
static void rest(struct engine *engine)
{
    const struct skblk_settings *settings = &engine->transfer->call->settings;
    struct pollfd polls[2];

    if (settings->waiting == SKBLK_WAITING_POLL ||
        (settings->waiting == SKBLK_WAITING_HYBRID &&
         skblk_now_ns() - engine->moved_ns < settings->spin_ns)) {
        return;
    }
    if (arm(&engine->transfer->source, &polls[0]) && arm(&engine->transfer->target, &polls[1])) {
        (void)poll(polls, 2, (int)(NAP_NS / 1000000));
    }
}

static void run(struct engine *engine, struct skblk_progress *progress)
{
    while (is_busy(engine)) {
        engine->moved = false;
        drive_lanes(engine);
        poll_disk(engine, &engine->transfer->source);
        poll_disk(engine, &engine->transfer->target);
        if (engine->moved) {
            engine->moved_ns = skblk_now_ns();
        } else {
            rest(engine);
        }
        if (skblk_is_interrupted()) {
            fail(engine, SKBLK_EXIT_INTERRUPTED);
        }
        update_mark(engine);
        skblk_progress_update(progress, engine->transfer->done);
    }
    update_mark(engine);
}

static enum sk_status place_lane(struct engine *engine, uint32_t index)
{
    struct lane *lane = &engine->lanes[index];
    uint64_t at = (uint64_t)index * engine->chunk;

    lane->engine = engine;
    lane->data = (uint8_t *)sk_io_buffer_data(&engine->buffer) + at;
    return sk_io_buffer_segment(&engine->buffer, at, engine->chunk, &lane->segment);
}

/* One end at least is a disk; the source's memory is the target's too if both are. */
static enum sk_status prepare(struct engine *engine)
{
    const struct skblk_transfer *transfer = engine->transfer;
    const struct skblk_end *end =
        is_disk(&transfer->source) ? &transfer->source : &transfer->target;
    enum sk_status status;

    engine->lanes = calloc(engine->depth, sizeof(*engine->lanes));
    if (engine->lanes == NULL) {
        return SK_ERR_NO_MEMORY;
    }
    status = sk_io_buffer_create(&engine->buffer, end->disk->device->domain,
                                 (uint64_t)engine->depth * engine->chunk, SK_IO_BUFFER_ALIGNMENT);
    for (uint32_t i = 0; status == SK_OK && i < engine->depth; i++) {
        status = place_lane(engine, i);
    }
    return status;
}

/* A buffer that a disk may still write stays where it is; the process ends soon. */
static void release(struct engine *engine)
{
    enum sk_status status = sk_io_buffer_destroy(&engine->buffer);

    (void)status; /* logged where it happened */
    free(engine->lanes);
}

static void flush_target(struct engine *engine)
{
    const struct skblk_end *end = &engine->transfer->target;
    enum sk_status status;

    if (engine->transfer->call->settings.no_flush) {
        return;
    }
    if (is_disk(end)) {
        status = sk_block_flush(sk_block_get_queue(end->disk->device, 0), 0);
        if (status != SK_OK) {
            fail(engine, skblk_disk_failed(engine->transfer->call, "flush", 0, status));
        }
    } else if (end->kind == SKBLK_END_FILE && fdatasync(end->fd) != 0 && errno != EINVAL) {
        fail_file(engine, end, "making it durable");
    }
}

/* The chunk as the disks can take it; 0: they cannot, which was said. */
static uint32_t chunk_of(const struct skblk_transfer *transfer)
{
    uint64_t chunk = transfer->call->settings.chunk;
    const struct skblk_end *ends[2] = { &transfer->source, &transfer->target };

    for (size_t i = 0; i < 2; i++) {
        if (is_disk(ends[i]) && chunk % ends[i]->disk->info.block_bytes != 0) {
            skblk_error(transfer->call, "--chunk must be a multiple of the block of %s, %u bytes",
                        ends[i]->name, ends[i]->disk->info.block_bytes);
            return 0;
        }
    }
    return (uint32_t)chunk;
}

int skblk_transfer_run(struct skblk_transfer *transfer)
{
    struct engine engine = {
        .transfer = transfer,
        .depth = depth_of(transfer->call),
        .chunk = chunk_of(transfer),
        .buffer = SK_IO_BUFFER_EMPTY,
        .next = transfer->done,
        .in_order = transfer->done,
    };
    struct skblk_progress progress;
    enum sk_status status;

    if (engine.chunk == 0) {
        return SKBLK_EXIT_USAGE;
    }
    status = prepare(&engine);
    if (status != SK_OK) {
        skblk_error(transfer->call, "no memory for %u requests of %u bytes: %s", engine.depth,
                    engine.chunk, sk_status_text(status));
        fail(&engine, SKBLK_EXIT_DISK);
    } else {
        skblk_progress_start(&progress, transfer->call, transfer->what,
                             transfer->length == UINT64_MAX ? 0 : transfer->length);
        run(&engine, &progress);
        if (!is_failed(&engine)) {
            flush_target(&engine);
        }
        skblk_progress_finish(&progress);
    }
    release(&engine);
    return engine.code;
}
