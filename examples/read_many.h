/* SPDX-License-Identifier: MIT */
/* The second example of README.md: many requests at a time. */
#ifndef EXAMPLES_READ_MANY_H
#define EXAMPLES_READ_MANY_H

#include <skio/skio.h>

#define READ_MANY_COUNT 32u
#define READ_MANY_BYTES 4096u

/*
 * Reads READ_MANY_COUNT pieces of READ_MANY_BYTES each from `sector` on into
 * *buffer, which is at least as large as all of them.  SK_OK, or the first failure;
 * after SK_ERR_IN_DOUBT the device still holds the buffer.
 */
enum sk_status read_many(struct sk_block_queue *queue, struct sk_io_buffer *buffer,
                         uint64_t sector);

#endif
