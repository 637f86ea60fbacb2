/* SPDX-License-Identifier: MIT */
#include <skio/device_node.h>

#include <stdatomic.h>

enum sk_status sk_device_node_claim(struct sk_device_node *node)
{
    uint32_t expected = 0;

    if (node == NULL) {
        return SK_ERR_INVALID;
    }
    /* Acquire: pairs with unclaim, so that the winner sees what the last owner left. */
    return atomic_compare_exchange_strong_explicit(&node->bound, &expected, 1,
                                                   memory_order_acquire, memory_order_relaxed)
               ? SK_OK
               : SK_ERR_BUSY;
}

void sk_device_node_unclaim(struct sk_device_node *node)
{
    if (node != NULL) {
        /* Release: pairs with claim. */
        atomic_store_explicit(&node->bound, 0, memory_order_release);
    }
}

bool sk_device_node_is_bound(const struct sk_device_node *node)
{
    /* Acquire: who sees it bound sees what was done before; pairs with claim's other thread. */
    return node != NULL && atomic_load_explicit(&node->bound, memory_order_acquire) != 0;
}

/* True if the string at `start` equals `text` and ends within the list. */
static bool string_equals(const char *list, size_t bytes, size_t start, const char *text)
{
    for (size_t i = start; i < bytes; i++) {
        if (list[i] != text[i - start]) {
            return false;
        }
        if (list[i] == '\0') {
            return true;
        }
    }
    return false;
}

bool sk_device_node_is_compatible(const struct sk_device_node *node, const char *compatible)
{
    const char *list;
    size_t bytes;

    if (node == NULL || compatible == NULL || node->identity.compatible == NULL) {
        return false;
    }
    list = node->identity.compatible;
    bytes = node->identity.compatible_bytes;
    for (size_t i = 0; i < bytes; i++) {
        bool starts = i == 0 || list[i - 1] == '\0';

        if (starts && string_equals(list, bytes, i, compatible)) {
            return true;
        }
    }
    return false;
}

uint64_t sk_device_node_address(const struct sk_device_node *node)
{
    return node == NULL || node->range_count == 0 || node->ranges == NULL
               ? 0
               : node->ranges[0].base.raw;
}

const char *sk_device_state_name(enum sk_device_state state)
{
    static const char *const names[SK_DEVICE_STATE_COUNT] = {
        [SK_DEVICE_STATE_FOUND] = "found",       [SK_DEVICE_STATE_NO_DRIVER] = "no driver",
        [SK_DEVICE_STATE_EMPTY] = "empty",       [SK_DEVICE_STATE_DEFERRED] = "deferred",
        [SK_DEVICE_STATE_BOUND] = "bound",       [SK_DEVICE_STATE_FAILED] = "failed",
        [SK_DEVICE_STATE_REMOVED] = "removed",
    };

    return (unsigned)state < SK_DEVICE_STATE_COUNT ? names[state] : "unknown";
}

const char *sk_device_class_name(enum sk_device_class device_class)
{
    static const char *const names[SK_DEVICE_CLASS_COUNT] = {
        [SK_DEVICE_CLASS_NONE] = "none",
        [SK_DEVICE_CLASS_BLOCK] = "block",
        [SK_DEVICE_CLASS_CONSOLE] = "console",
        [SK_DEVICE_CLASS_OTHER] = "other",
    };

    return (unsigned)device_class < SK_DEVICE_CLASS_COUNT ? names[device_class] : "unknown";
}
