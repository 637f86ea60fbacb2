/* SPDX-License-Identifier: MIT */
#include "support/blk_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define PAGES 2048u

struct sk_virtio_blk_options blk_rig_options(void)
{
    struct sk_virtio_blk_options options = SK_VIRTIO_BLK_OPTIONS_DEFAULT;

    options.timeout_ns = BLK_RIG_TIMEOUT_NS;
    options.control_timeout_ns = BLK_RIG_CONTROL_TIMEOUT_NS;
    return options;
}

static void inject(struct blk_rig *rig)
{
    struct sk_driver_needs needs = { .private_bytes = 0 };

    if (rig->driver.needs(&rig->driver, &rig->node, &needs) != SK_OK) {
        return; /* options out of range: the probe says so */
    }
    assert_int_equal(
        sk_io_buffer_create_constrained(&rig->buffer, &rig->env.domain, &needs.dma), SK_OK);
    rig->node.dma_buffer = &rig->buffer;
    rig->memory = aligned_alloc(64, (needs.private_bytes + 63) / 64 * 64);
    assert_non_null(rig->memory);
    memset(rig->memory, 0, needs.private_bytes);
    rig->node.driver_memory = rig->memory;
    rig->node.driver_memory_bytes = needs.private_bytes;
}

void blk_rig_init(struct blk_rig *rig, const struct fake_device_config *config,
                  const struct sk_virtio_blk_options *options)
{
    static const struct fake_device_config default_config = FAKE_DEVICE_CONFIG_DEFAULT;

    memset(rig, 0, sizeof(*rig));
    test_environment_init(&rig->env, PAGES);
    rig->env.clock_step_ns = 100;
    rig->fake = fake_device_attach(&rig->env, BLK_RIG_BASE, BLK_RIG_LINE,
                                   config == NULL ? &default_config : config);
    rig->options = options == NULL ? blk_rig_options() : *options;
    rig->driver = sk_virtio_blk_mmio_driver;
    rig->driver.options = &rig->options;
    rig->range = (struct sk_device_range){ { BLK_RIG_BASE }, rig->fake->mmio.bytes };
    rig->interrupt = (struct sk_interrupt){ .cell_count = 1, .cells = { BLK_RIG_LINE } };
    rig->node = (struct sk_device_node){
        .name = "disk0",
        .platform = &rig->env.platform,
        .identity = { .bus = SK_DEVICE_BUS_PLATFORM,
                      .compatible = "virtio,mmio",
                      .compatible_bytes = sizeof("virtio,mmio") },
        .ranges = &rig->range,
        .range_count = 1,
        .interrupts = &rig->interrupt,
        .interrupt_count = 1,
        .domain = &rig->env.domain,
    };
    inject(rig);
}

enum sk_status blk_rig_probe(struct blk_rig *rig)
{
    enum sk_status status = sk_device_node_claim(&rig->node);

    if (status == SK_OK) {
        status = rig->driver.probe(&rig->driver, &rig->node);
        if (status != SK_OK) {
            sk_device_node_unclaim(&rig->node);
            return status;
        }
        rig->disk = sk_block_of_node(&rig->node);
        assert_non_null(rig->disk);
        rig->queue = sk_block_get_queue(rig->disk, 0);
    }
    return status;
}

void blk_rig_start(struct blk_rig *rig, const struct fake_device_config *config,
                   const struct sk_virtio_blk_options *options)
{
    blk_rig_init(rig, config, options);
    assert_int_equal(blk_rig_probe(rig), SK_OK);
}

enum sk_status blk_rig_remove(struct blk_rig *rig)
{
    enum sk_status status;

    if (rig->disk == NULL) {
        return SK_ERR_NOT_FOUND;
    }
    status = rig->driver.remove(&rig->driver, &rig->node);
    sk_device_node_unclaim(&rig->node);
    rig->disk = NULL;
    rig->queue = NULL;
    return status;
}

void blk_rig_deinit(struct blk_rig *rig)
{
    if (rig->disk != NULL) {
        assert_int_equal(blk_rig_remove(rig), SK_OK);
    }
    if (rig->node.dma_buffer == &rig->buffer) {
        assert_int_equal(sk_io_buffer_destroy(&rig->buffer), SK_OK);
    }
    fake_device_detach(rig->fake);
    free(rig->memory);
    test_environment_deinit(&rig->env);
}

void blk_rig_abandon(struct blk_rig *rig)
{
    assert_int_equal(sk_io_buffer_destroy(&rig->buffer), SK_ERR_BUSY);
    assert_int_equal(sk_io_buffer_quarantine(&rig->buffer), SK_OK);
    fake_device_detach(rig->fake);
    free(rig->memory);
    test_environment_abandon(&rig->env);
}

static void count(struct sk_block_request *request)
{
    SK_CONTAINER_OF(request, struct blk_rig_request, request)->completions++;
}

uint64_t blk_rig_address(struct blk_rig *rig, size_t page)
{
    sk_paddr paddr;
    sk_daddr daddr;
    unsigned calls = rig->env.fail_call;

    rig->env.fail_call = 0;
    assert_int_equal(rig->env.platform.physical_of(&rig->env,
                                                   test_environment_foreign(&rig->env, page),
                                                   &paddr),
                     SK_OK);
    rig->env.fail_call = calls;
    assert_int_equal(sk_dma_domain_translate(&rig->env.domain, paddr, SK_DMA_PAGE_BYTES, &daddr),
                     SK_OK);
    return daddr.raw;
}

void blk_rig_prepare(struct blk_rig *rig, struct blk_rig_request *request,
                     enum sk_block_operation operation, uint64_t sector, size_t page,
                     uint32_t bytes)
{
    memset(request, 0, sizeof(*request));
    request->request.operation = operation;
    request->request.sector = sector;
    request->request.complete = count;
    if (bytes > 0) {
        request->segment.address = sk_daddr_make(blk_rig_address(rig, page));
        request->segment.bytes = bytes;
        request->request.segments = &request->segment;
        request->request.segment_count = 1;
    }
}

void blk_rig_submit(struct blk_rig *rig, struct blk_rig_request *request)
{
    struct sk_block_request *one = &request->request;

    sk_block_submit(rig->queue, &one, 1);
}

bool blk_rig_run(struct blk_rig *rig, struct blk_rig_request *request, unsigned polls)
{
    for (unsigned i = 0; i < polls && request->completions == 0; i++) {
        if (sk_block_poll(rig->queue, 0, NULL) == SK_OK && request->completions == 0 &&
            sk_block_wait(rig->queue, rig->env.clock_ns + 1000000) == SK_ERR_BUSY) {
            return false;
        }
    }
    return request->completions == 1;
}
