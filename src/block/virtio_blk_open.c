/* SPDX-License-Identifier: MIT */
/* The virtio block driver over a transport that somebody opened already. */
#include "block/virtio_blk.h"

static enum sk_status check_transport(const struct sk_device_node *node)
{
    const struct sk_virtio_transport *transport = node->transport;

    if (transport == NULL) {
        sk_log_print(node->platform->log, SK_LOG_ERROR,
                     "virtio-blk %s: no transport was put into the node", node->name);
        return SK_ERR_INVALID;
    }
    if (transport->device_type == 0) {
        return SK_ERR_NOT_FOUND;
    }
    return transport->device_type == SK_VIRTIO_DEVICE_BLOCK ? SK_OK : SK_ERR_UNSUPPORTED;
}

static enum sk_status identify(const struct sk_driver *driver, struct sk_device_node *node)
{
    (void)driver;
    return check_transport(node);
}

static enum sk_status needs(const struct sk_driver *driver, const struct sk_device_node *node,
                            struct sk_driver_needs *out_needs)
{
    (void)node;
    return ski_blk_needs(ski_blk_options(driver), 0, out_needs);
}

static enum sk_status probe(const struct sk_driver *driver, struct sk_device_node *node)
{
    enum sk_status status = check_transport(node);

    return status == SK_OK ? ski_blk_probe(node, 0, ski_blk_options(driver), node->transport)
                           : status;
}

static enum sk_status remove(const struct sk_driver *driver, struct sk_device_node *node)
{
    (void)driver;
    return ski_blk_remove(node);
}

static const struct sk_device_match matches[] = {
    { .bus = SK_DEVICE_BUS_VIRTIO, .device = SK_VIRTIO_DEVICE_BLOCK },
};

const struct sk_driver sk_virtio_blk_driver = {
    .name = "virtio-blk",
    .matches = matches,
    .match_count = 1,
    .identify = identify,
    .needs = needs,
    .probe = probe,
    .remove = remove,
};
