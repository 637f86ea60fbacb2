/* SPDX-License-Identifier: MIT */
#include "block/block_watch.h"

#include <stdatomic.h>

#include "base/bytes.h"

/* The info in words, each of which is loaded and stored in one piece. */
typedef _Atomic uintptr_t info_word;

#define INFO_WORDS (sizeof(struct sk_block_info) / sizeof(info_word))

_Static_assert(sizeof(struct sk_block_info) % sizeof(info_word) == 0, "whole words");

/* How often a copy is tried; who changes the info is done in less time than one copy takes. */
#define COPY_TRIES 100u

void sk_block_watch(struct sk_block_device *device,
                    void (*changed)(struct sk_block_device *device, uint32_t changes,
                                    void *context),
                    void *context)
{
    device->watch = changed;
    device->watch_context = context;
    device->changes = 0;
}

void ski_block_note(struct sk_block_device *device, uint32_t changes)
{
    (void)atomic_fetch_or(&device->changes, changes);
}

/*
 * The words are stored with release order, so that none is seen before the odd
 * number; and loaded with acquire order, so that the second look at the number
 * is not older than any of them.
 */
void ski_block_change_info(struct sk_block_device *device, const struct sk_block_info *fresh,
                           uint32_t changes)
{
    info_word *to = (info_word *)(void *)&device->info;
    const info_word *from = (const info_word *)(const void *)fresh;

    (void)atomic_fetch_add(&device->info_sequence, 1);
    for (size_t i = 0; i < INFO_WORDS; i++) {
        uintptr_t word = atomic_load_explicit(&from[i], memory_order_relaxed);

        /* Fields that never change are read by others without a care. */
        if (atomic_load_explicit(&to[i], memory_order_relaxed) != word) {
            atomic_store_explicit(&to[i], word, memory_order_release);
        }
    }
    (void)atomic_fetch_add_explicit(&device->info_sequence, 1, memory_order_release);
    ski_block_note(device, changes);
}

void sk_block_get_info(const struct sk_block_device *device, struct sk_block_info *out_info)
{
    const info_word *from = (const info_word *)(const void *)&device->info;
    info_word *to = (info_word *)(void *)out_info;

    for (unsigned tries = 0; tries < COPY_TRIES; tries++) {
        uint32_t before = atomic_load_explicit(&device->info_sequence, memory_order_acquire);

        for (size_t i = 0; i < INFO_WORDS; i++) {
            atomic_store_explicit(&to[i], atomic_load_explicit(&from[i], memory_order_acquire),
                                  memory_order_relaxed);
        }
        if ((before & 1) == 0 &&
            before == atomic_load_explicit(&device->info_sequence, memory_order_relaxed)) {
            return;
        }
    }
}

uint64_t ski_block_capacity(const struct sk_block_device *device)
{
    struct sk_block_info info;

    sk_block_get_info(device, &info);
    return info.capacity_sectors;
}

bool ski_block_has_news(const struct sk_block_device *device)
{
    return device->watch != NULL &&
           atomic_load_explicit(&device->changes, memory_order_relaxed) != 0;
}

void ski_block_tell(struct sk_block_device *device)
{
    uint32_t changes = atomic_exchange(&device->changes, 0);

    if (changes != 0) {
        device->watch(device, changes, device->watch_context);
    }
}
