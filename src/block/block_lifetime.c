/* SPDX-License-Identifier: MIT */
/* How worn a disk is; Virtio 1.2, 5.2.6. */
#include "base/door.h"
#include "block/block_sync.h"

#define WEAR_MAX 11u

struct answer {
    sk_le16 reserve;
    sk_le16 wear_a;
    sk_le16 wear_b;
};

_Static_assert(sizeof(struct answer) == SK_BLOCK_LIFETIME_BYTES, "5.2.6");

const char *sk_block_reserve_name(enum sk_block_reserve reserve)
{
    static const char *const names[SK_BLOCK_RESERVE_COUNT] = {
        [SK_BLOCK_RESERVE_UNKNOWN] = "unknown",
        [SK_BLOCK_RESERVE_NORMAL] = "normal",
        [SK_BLOCK_RESERVE_WARNING] = "warning",
        [SK_BLOCK_RESERVE_URGENT] = "urgent",
    };

    return (unsigned)reserve < SK_BLOCK_RESERVE_COUNT ? names[reserve] : "unknown";
}

/* A 16-bit word of the answer, which may lie anywhere. */
static uint32_t load(const uint8_t SKI_SHARED *from)
{
    uint32_t low = ski_door_load8(from);

    return low | (uint32_t)ski_door_load8(from + 1) << 8;
}

enum sk_status sk_block_lifetime_parse(const void *answer, struct sk_block_lifetime *out_lifetime)
{
    const uint8_t SKI_SHARED *from = ski_door_share((void *)(uintptr_t)answer);
    uint32_t reserve = load(from + offsetof(struct answer, reserve));
    uint32_t wear_a = load(from + offsetof(struct answer, wear_a));
    uint32_t wear_b = load(from + offsetof(struct answer, wear_b));

    if (reserve >= SK_BLOCK_RESERVE_COUNT || wear_a > WEAR_MAX || wear_b > WEAR_MAX) {
        return SK_ERR_MALFORMED;
    }
    *out_lifetime = (struct sk_block_lifetime){ (enum sk_block_reserve)reserve, (uint8_t)wear_a,
                                                (uint8_t)wear_b };
    return SK_OK;
}

enum sk_status sk_block_get_lifetime(struct sk_block_queue *queue,
                                     struct sk_block_lifetime *out_lifetime, uint64_t timeout_ns)
{
    uint8_t answer[SK_BLOCK_LIFETIME_BYTES];
    struct ski_block_waiter waiter = { .request = { .operation = SK_BLOCK_GET_LIFETIME } };
    struct ski_block_memory memory = {
        .data = answer,
        .bytes = sizeof(answer),
        .direction = SK_DMA_FROM_DEVICE,
        .constraints = { .copied = true, .segment_count_max = 1 },
    };
    struct sk_block_info info;
    enum sk_status status;

    sk_block_get_info(queue->device, &info); /* another owner may be changing it */
    if (!info.lifetime) {
        return SK_ERR_UNSUPPORTED;
    }
    status = ski_block_run_on(queue, &waiter, &memory,
                              ski_block_deadline(queue->device, timeout_ns));
    return status == SK_OK ? sk_block_lifetime_parse(answer, out_lifetime) : status;
}
