/* SPDX-License-Identifier: MIT */
/* The naive driver put before the strict fake device: what the fake's own tests share. */
#ifndef TESTS_FAKE_NAIVE_FAKE_H
#define TESTS_FAKE_NAIVE_FAKE_H

#include "fake/naive_driver.h"
#include "fake/virtio_device.h"

#define VERSION_1 SK_VIRTIO_FEATURE(SK_VIRTIO_F_VERSION_1)
#define FLUSH     SK_VIRTIO_FEATURE(SK_VIRTIO_BLK_F_FLUSH)
#define INDIRECT  SK_VIRTIO_FEATURE(SK_VIRTIO_F_INDIRECT_DESC)
#define EVENT_IDX SK_VIRTIO_FEATURE(SK_VIRTIO_F_EVENT_IDX)
#define WCE       SK_VIRTIO_FEATURE(SK_VIRTIO_BLK_F_CONFIG_WCE)

/* Makes both; nothing is initialised yet. */
struct fake_device *naive_open_fake(struct naive *naive, const struct fake_device_config *config);
/* The default device, and the driver started with these features. */
struct fake_device *naive_start_fake(struct naive *naive, uint64_t features);
/* Takes both down; fails the test if there are violations. */
void naive_close_fake(struct naive *naive, struct fake_device *fake);
/* Asserts that a violation's text has this part, and forgets all of them. */
void naive_expect_violation(struct fake_device *fake, const char *part);

#endif
