/* SPDX-License-Identifier: MIT */
#include <skio/driver.h>

static bool match_fits(const struct sk_device_match *match, const struct sk_device_node *node)
{
    if (match->bus != node->identity.bus) {
        return false;
    }
    if (match->bus == SK_DEVICE_BUS_PLATFORM) {
        return sk_device_node_is_compatible(node, match->compatible);
    }
    if (match->device != node->identity.device) {
        return false;
    }
    return match->bus == SK_DEVICE_BUS_VIRTIO ||
           (match->bus == SK_DEVICE_BUS_PCI && match->vendor == node->identity.vendor);
}

bool sk_driver_matches(const struct sk_driver *driver, const struct sk_device_node *node)
{
    if (driver == NULL || node == NULL || driver->matches == NULL) {
        return false;
    }
    for (size_t i = 0; i < driver->match_count; i++) {
        if (match_fits(&driver->matches[i], node)) {
            return true;
        }
    }
    return false;
}
