/* SPDX-License-Identifier: MIT */
/* The example of README.md: reads from a disk inside an event loop. */
#ifndef EXAMPLES_EVENT_LOOP_H
#define EXAMPLES_EVENT_LOOP_H

#include <skio_hosted/vhost_user.h>

/* How many reads are made, and how much each reads. */
#define EVENT_LOOP_COUNT 64u
#define EVENT_LOOP_BYTES 4096u

/*
 * Reads EVENT_LOOP_COUNT pieces from sector 0 on into `buffer`, which has room for them, and
 * returns when all have ended: SK_OK, or the first failure.
 */
enum sk_status read_in_event_loop(struct sk_vhost_user_disk *disk, struct sk_io_buffer *buffer);

#endif
