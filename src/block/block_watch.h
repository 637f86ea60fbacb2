/* SPDX-License-Identifier: MIT */
/*
 * What drivers do when something about a disk changes while it is in use: they
 * change its info so that any thread may copy it, and note the change, which
 * the owner of queue 0 tells the watcher at its next poll or wait.
 */
#ifndef SKI_BLOCK_BLOCK_WATCH_H
#define SKI_BLOCK_BLOCK_WATCH_H

#include <skio/block.h>

/* Notes SK_BLOCK_CHANGED_*.  Any thread. */
void ski_block_note(struct sk_block_device *device, uint32_t changes);

/*
 * Makes the device's info that of *fresh, and notes the changes.  One thread at
 * a time, which may read the info as it likes.
 */
void ski_block_change_info(struct sk_block_device *device, const struct sk_block_info *fresh,
                           uint32_t changes);

/* The capacity of now.  Any thread; to be asked once for a decision. */
uint64_t ski_block_capacity(const struct sk_block_device *device);

/* True if there is something to tell and somebody to be told. */
bool ski_block_has_news(const struct sk_block_device *device);

/* Tells the watcher.  From the owner of queue 0, outside of interrupts. */
void ski_block_tell(struct sk_block_device *device);

#endif
