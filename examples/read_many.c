/* SPDX-License-Identifier: MIT */
#include "read_many.h"

/* [read_many] */
struct read {
    struct sk_block_request request; /* lent to the queue until `done` is called */
    struct sk_dma_segment memory;
};

struct progress {
    uint32_t left;
    enum sk_status status; /* the first failure */
};

static void done(struct sk_block_request *request)
{
    struct progress *progress = request->context;

    progress->left--;
    if (progress->status == SK_OK) {
        progress->status = request->status;
    }
}

enum sk_status read_many(struct sk_block_queue *queue, struct sk_io_buffer *buffer,
                         uint64_t sector)
{
    const uint32_t bytes = READ_MANY_COUNT * READ_MANY_BYTES;
    struct progress progress = { READ_MANY_COUNT, SK_OK };
    struct sk_block_request *batch[READ_MANY_COUNT];
    struct read reads[READ_MANY_COUNT];
    enum sk_status status;

    for (uint32_t i = 0; i < READ_MANY_COUNT; i++) {
        reads[i].request = (struct sk_block_request){
            .operation = SK_BLOCK_READ,
            .sector = sector + i * (READ_MANY_BYTES / SK_BLOCK_SECTOR_BYTES),
            .segments = &reads[i].memory,
            .segment_count = 1,
            .complete = done,
            .context = &progress,
        };
        batch[i] = &reads[i].request;
        status = sk_io_buffer_segment(buffer, (uint64_t)i * READ_MANY_BYTES, READ_MANY_BYTES,
                                      &reads[i].memory);
        if (status != SK_OK) {
            return status;
        }
    }
    status = sk_io_buffer_for_device(buffer, 0, bytes, SK_DMA_FROM_DEVICE);
    if (status != SK_OK) {
        return status;
    }
    sk_block_submit(queue, batch, READ_MANY_COUNT); /* one notification for all */
    while (progress.left > 0) {                     /* ends: a silent device is stopped */
        status = sk_block_poll(queue, 0, NULL);
        if (status == SK_OK && progress.left > 0) {
            status = sk_block_wait(queue, UINT64_MAX); /* sleeps, or polls */
        }
    }
    if (progress.status == SK_ERR_IN_DOUBT) {
        return progress.status; /* the device may still write: the buffer stays held */
    }
    status = sk_io_buffer_for_cpu(buffer, 0, bytes, SK_DMA_FROM_DEVICE);
    return progress.status != SK_OK ? progress.status : status;
}
/* [end] */
