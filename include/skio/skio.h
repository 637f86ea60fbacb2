/* SPDX-License-Identifier: MIT */
/* Everything of skio at once; each header also stands alone. */
#ifndef SKIO_SKIO_H
#define SKIO_SKIO_H

#include <skio/address.h>
#include <skio/block.h>
#include <skio/block_zone.h>
#include <skio/checked.h>
#include <skio/device_manager.h>
#include <skio/device_node.h>
#include <skio/dma_arena.h>
#include <skio/dma_domain.h>
#include <skio/driver.h>
#include <skio/endian.h>
#include <skio/fdt.h>
#include <skio/io_buffer.h>
#include <skio/io_pool.h>
#include <skio/log.h>
#include <skio/mmio.h>
#include <skio/platform.h>
#include <skio/platform_bus.h>
#include <skio/status.h>
#include <skio/text.h>
#include <skio/virtio_blk.h>
#include <skio/virtio_mmio.h>
#include <skio/virtio_transport.h>

#endif
