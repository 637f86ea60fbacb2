/* SPDX-License-Identifier: MIT */
#include "event_loop.h"

#include <sys/epoll.h>
#include <unistd.h>

/* [event_loop] */
struct pending {
    struct sk_block_request requests[EVENT_LOOP_COUNT]; /* lent to the queue until done */
    struct sk_dma_segment segments[EVENT_LOOP_COUNT];
    uint32_t left;
    enum sk_status status; /* the first failure */
};

static void on_read(struct sk_block_request *request)
{
    struct pending *pending = request->context;

    pending->left--;
    if (pending->status == SK_OK) {
        pending->status = request->status;
    }
}

static void submit_all(struct sk_block_queue *queue, struct sk_io_buffer *buffer,
                       struct pending *pending)
{
    struct sk_block_request *batch[EVENT_LOOP_COUNT];
    uint32_t count = 0;

    for (uint32_t i = 0; i < EVENT_LOOP_COUNT; i++) {
        struct sk_block_request *request = &pending->requests[i];

        *request = (struct sk_block_request){ .operation = SK_BLOCK_READ,
                                              .sector = i * (EVENT_LOOP_BYTES / 512),
                                              .segments = &pending->segments[i],
                                              .segment_count = 1,
                                              .complete = on_read,
                                              .context = pending };
        if (sk_io_buffer_segment(buffer, i * EVENT_LOOP_BYTES, EVENT_LOOP_BYTES,
                                 &pending->segments[i]) == SK_OK) {
            batch[count++] = request;
        }
    }
    pending->left = count;
    pending->status = count == EVENT_LOOP_COUNT ? SK_OK : SK_ERR_RANGE;
    sk_block_submit(queue, batch, count);
}

enum sk_status read_in_event_loop(struct sk_vhost_user_disk *disk, struct sk_io_buffer *buffer)
{
    struct sk_block_queue *queue = sk_block_get_queue(sk_vhost_user_disk_device(disk), 0);
    struct epoll_event event = { .events = EPOLLIN };
    int loop = epoll_create1(EPOLL_CLOEXEC);
    enum sk_status status = SK_OK;
    struct pending pending;

    /* The disk keeps the descriptor: watch it, but neither read nor close it. */
    if (epoll_ctl(loop, EPOLL_CTL_ADD, sk_vhost_user_disk_queue_fd(disk, 0), &event) != 0) {
        (void)close(loop);
        return SK_ERR_IO;
    }
    submit_all(queue, buffer, &pending);
    while (pending.left > 0) {
        if (sk_vhost_user_disk_arm(disk, 0) == SK_OK) {
            (void)epoll_wait(loop, &event, 1, 1000); /* less than a quarter of the timeout */
        }
        status = sk_block_poll(queue, 0, NULL); /* stopped: completes the rest, with the reason */
    }
    (void)close(loop);
    return pending.status != SK_OK ? pending.status : status;
}
/* [end] */
