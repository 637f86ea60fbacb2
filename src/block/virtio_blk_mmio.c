/* SPDX-License-Identifier: MIT */
/* The virtio block driver over MMIO. */
#include "block/virtio_blk.h"

#include <skio/virtio_mmio.h>

/* The transport stands first in the driver memory; the driver's state behind it. */
#define BLK_OFFSET ((sizeof(struct sk_virtio_mmio) + 63) & ~(size_t)63)

static enum sk_status map(struct sk_device_node *node, struct sk_mmio *out_mmio)
{
    const struct sk_platform *platform = node->platform;

    if (node->range_count == 0) {
        return SK_ERR_INVALID;
    }
    return platform->map_mmio(platform->context, node->ranges[0].base, node->ranges[0].bytes,
                              out_mmio);
}

static void unmap(const struct sk_device_node *node, struct sk_mmio *mmio)
{
    if (node->platform->unmap_mmio != NULL) {
        node->platform->unmap_mmio(node->platform->context, mmio);
    }
}

/* Maps and opens; on failure nothing is mapped. */
static enum sk_status open(struct sk_device_node *node, struct sk_virtio_mmio *out_transport)
{
    struct sk_mmio mmio = { .base = NULL };
    enum sk_status status = map(node, &mmio);

    if (status != SK_OK) {
        sk_log_print(node->platform->log, SK_LOG_ERROR,
                     "virtio-blk 0x%llx: cannot map the registers: %s",
                     (unsigned long long)sk_device_node_address(node), sk_status_text(status));
        return status;
    }
    status = sk_virtio_mmio_open(out_transport, node->platform, &mmio,
                                 sk_device_node_address(node));
    if (status != SK_OK) {
        unmap(node, &mmio);
    }
    return status;
}

static enum sk_status identify(const struct sk_driver *driver, struct sk_device_node *node)
{
    struct sk_virtio_mmio transport;
    enum sk_status status = open(node, &transport);

    (void)driver;
    if (status != SK_OK) {
        return status;
    }
    status = transport.transport.device_type == SK_VIRTIO_DEVICE_BLOCK ? SK_OK
                                                                       : SK_ERR_UNSUPPORTED;
    unmap(node, &transport.mmio);
    return status;
}

static enum sk_status needs(const struct sk_driver *driver, const struct sk_device_node *node,
                            struct sk_driver_needs *out_needs)
{
    (void)node;
    return ski_blk_needs(ski_blk_options(driver), BLK_OFFSET, out_needs);
}

static enum sk_status probe(const struct sk_driver *driver, struct sk_device_node *node)
{
    struct sk_virtio_mmio *transport = node->driver_memory;
    struct sk_virtio_mmio early;
    enum sk_status status = open(node, &early);

    if (status != SK_OK) {
        return status;
    }
    if (early.transport.device_type != SK_VIRTIO_DEVICE_BLOCK) {
        status = SK_ERR_UNSUPPORTED;
    } else if (transport == NULL || node->driver_memory_bytes < BLK_OFFSET ||
               ((uintptr_t)transport & 63) != 0) {
        /* Let the common code say what is missing, with this transport's address. */
        status = ski_blk_probe(node, BLK_OFFSET, ski_blk_options(driver), &early.transport);
    } else {
        *transport = early;
        status = ski_blk_probe(node, BLK_OFFSET, ski_blk_options(driver), &transport->transport);
    }
    if (status != SK_OK) {
        unmap(node, &early.mmio);
    }
    return status;
}

static enum sk_status remove(const struct sk_driver *driver, struct sk_device_node *node)
{
    struct sk_virtio_mmio *transport = node->driver_memory;
    enum sk_status status = ski_blk_remove(node);

    (void)driver;
    unmap(node, &transport->mmio);
    return status;
}

static const struct sk_device_match matches[] = {
    { .bus = SK_DEVICE_BUS_PLATFORM, .compatible = "virtio,mmio" },
};

const struct sk_driver sk_virtio_blk_mmio_driver = {
    .name = "virtio-blk",
    .matches = matches,
    .match_count = 1,
    .identify = identify,
    .needs = needs,
    .probe = probe,
    .remove = remove,
};
