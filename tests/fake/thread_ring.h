/* SPDX-License-Identifier: MIT */
/* The rings of thread_device.h, as its thread sees them.  Calling: the thread, of a busy queue. */
#ifndef TESTS_FAKE_THREAD_RING_H
#define TESTS_FAKE_THREAD_RING_H

#include "fake/thread_device.h"

/* Takes the next available chain; false: there is none. */
bool thread_ring_take(const struct thread_device *device, struct thread_queue *queue,
                      struct thread_request *out);

/* Gives a request back; true if the driver wants an interrupt for it. */
bool thread_ring_give(const struct thread_device *device, struct thread_queue *queue,
                      const struct thread_request *request);

/* Asks for notifications, or for none. */
void thread_ring_ask(const struct thread_device *device, const struct thread_queue *queue,
                     bool wanted);

#endif
