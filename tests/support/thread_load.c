/* SPDX-License-Identifier: MIT */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "support/thread_load.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/virtio_blk.h"

#define SECTOR    SK_BLOCK_SECTOR_BYTES
#define NEAR_WRAP 65500u
#define HYBRID_NS 20000u
#define CONTROL_NS UINT64_C(60000000000)

static uint64_t patience_ns(void)
{
    const char *text = getenv("TEST_PATIENCE_MS");

    return text == NULL ? LOAD_PATIENCE_NS : strtoul(text, NULL, 10) * 1000000u;
}

/* ---- The platform: the threads' clock, and interrupts that the device's thread raises ------ */

static uint64_t now_ns(void *context)
{
    (void)context;
    return thread_device_now();
}

static void wait_for(void *context, const sk_atomic_u32 *word, uint32_t seen, uint64_t until_ns)
{
    struct thread_rig *rig = context;
    uint64_t now = thread_device_now();
    uint64_t most = now + patience_ns();

    if (word == NULL) {
        (void)sched_yield();
        return;
    }
    if (!thread_device_sleep(&rig->device, word, seen, until_ns < most ? until_ns : most) &&
        until_ns >= most) {
        thread_device_fail(__FILE__, __LINE__, "no interrupt came", 0, 0);
    }
}

/* Those who wait for the word, and those who armed and sleep on the line itself. */
static void wake(void *context, const struct sk_interrupt *interrupt, const sk_atomic_u32 *word)
{
    struct thread_rig *rig = context;

    thread_device_wake(&rig->device, interrupt->cells[0], word);
}

static void write_log(void *context, enum sk_log_level level, const char *line)
{
    struct thread_rig *rig = context;

    (void)atomic_fetch_add_explicit(&rig->lines, 1, memory_order_relaxed);
    if (getenv("TEST_LOG") != NULL) {
        (void)fprintf(stderr, "%s: %s\n", sk_log_level_name(level), line);
    }
}

static enum sk_status attach_interrupt(void *context, const struct sk_interrupt *interrupt,
                                       void (*handler)(void *argument), void *argument)
{
    struct thread_rig *rig = context;

    thread_device_handle(&rig->device, interrupt->cells[0], handler, argument);
    return SK_OK;
}

static void detach_interrupt(void *context, const struct sk_interrupt *interrupt)
{
    struct thread_rig *rig = context;

    thread_device_handle(&rig->device, interrupt->cells[0], NULL, NULL);
}

/* ---- The rig ------------------------------------------------------------------------------- */

static void set_options(struct thread_rig *rig, const struct thread_rig_options *options)
{
    const struct sk_virtio_blk_options defaults = SK_VIRTIO_BLK_OPTIONS_DEFAULT;

    rig->options = defaults;
    rig->options.queue_count = options->queues;
    rig->options.queue_size = options->queue_size;
    rig->options.segment_count = 4;
    rig->options.timeout_ns = 8 * patience_ns(); /* longer than any test sleeps */
    rig->options.control_timeout_ns = CONTROL_NS;
    rig->options.recovery = options->recovery;
    rig->driver = sk_virtio_blk_driver;
    rig->driver.options = &rig->options;
}

static void start_device(struct thread_rig *rig, const struct thread_rig_options *options)
{
    struct thread_device_config config = { .features = options->features,
                                           .queue_count = options->queues,
                                           .queue_size_max = options->queue_size,
                                           .interrupt_count = options->interrupts,
                                           .memory = rig->env.zone_memory,
                                           .daddr = TEST_PADDR + TEST_DEVICE_OFFSET,
                                           .bytes = rig->env.zone_bytes,
                                           .slow_us = options->slow_us };

    rig->log = (struct sk_log){ .write = write_log, .context = rig, .level = SK_LOG_DEBUG };
    rig->platform = (struct sk_platform){ .context = rig,
                                          .log = &rig->log,
                                          .now_ns = now_ns,
                                          .wait = wait_for,
                                          .wake = wake,
                                          .attach_interrupt = attach_interrupt,
                                          .detach_interrupt = detach_interrupt };
    thread_device_start(&rig->device, &config, &rig->platform);
}

static void fill_node(struct thread_rig *rig, uint32_t interrupts)
{
    struct sk_driver_needs needs;

    rig->node = (struct sk_device_node){
        .name = "disk",
        .platform = &rig->platform,
        .identity = { .bus = SK_DEVICE_BUS_VIRTIO, .device = SK_VIRTIO_DEVICE_BLOCK },
        .interrupts = rig->interrupts,
        .interrupt_count = interrupts,
        .domain = &rig->env.domain,
        .transport = &rig->device.transport,
    };
    for (uint32_t i = 0; i < THREAD_LINES_MAX; i++) {
        rig->interrupts[i] = (struct sk_interrupt){ .cell_count = 1, .cells = { i } };
    }
    require_equal(rig->driver.needs(&rig->driver, &rig->node, &needs), SK_OK);
    rig->memory = aligned_alloc(64, (needs.private_bytes + 63) / 64 * 64);
    require(rig->memory != NULL);
    memset(rig->memory, 0, needs.private_bytes);
    require_equal(sk_io_buffer_create_constrained(&rig->buffer, &rig->env.domain, &needs.dma),
                     SK_OK);
    rig->node.dma_buffer = &rig->buffer;
    rig->node.driver_memory = rig->memory;
    rig->node.driver_memory_bytes = needs.private_bytes;
}

void thread_rig_start(struct thread_rig *rig, const struct thread_rig_options *options)
{
    memset(rig, 0, sizeof(*rig));
    test_environment_init(&rig->env, 512);
    set_options(rig, options);
    start_device(rig, options);
    fill_node(rig, options->interrupts);
    require_equal(sk_device_node_claim(&rig->node), SK_OK);
    require_equal(rig->driver.probe(&rig->driver, &rig->node), SK_OK);
    rig->disk = sk_block_of_node(&rig->node);
    require(rig->disk != NULL);
    require(strcmp(rig->disk->info.identity, THREAD_IDENTITY) == 0);
    require_equal(rig->disk->info.queue_count, options->queues);
    require_equal(rig->disk->info.queue_size, options->queue_size);
}

void thread_rig_stop(struct thread_rig *rig)
{
    require_equal(rig->driver.remove(&rig->driver, &rig->node), SK_OK);
    sk_device_node_unclaim(&rig->node);
    thread_device_stop(&rig->device);
    require_equal(sk_io_buffer_destroy(&rig->buffer), SK_OK);
    free(rig->memory);
    test_environment_deinit(&rig->env);
}

void thread_rig_start_near_wrap(struct thread_rig *rig)
{
    struct ski_blk *blk = SK_CONTAINER_OF(rig->disk, struct ski_blk, block);

    for (uint32_t i = 0; i < blk->queue_count; i++) {
        struct ski_ring *ring = &blk->queues[i].ring;

        if (!ring->is_packed) {
            thread_device_set_index(&rig->device, i, NEAR_WRAP);
            ring->split.added = ring->split.published = ring->split.taken = NEAR_WRAP;
        }
    }
}

/* ---- A load -------------------------------------------------------------------------------- */

static uint32_t random_below(struct thread_load *load, uint32_t below)
{
    load->random = load->random * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(load->random >> 33) % below;
}

static uint8_t *data_of(struct thread_load *load, const struct load_slot *slot, uint32_t sector)
{
    uint32_t index = (uint32_t)(slot - load->slots);

    return (uint8_t *)sk_io_buffer_data(&load->buffer) +
           (index * LOAD_SECTORS_MAX + sector) * SECTOR;
}

static void fill(uint8_t *to, uint32_t sector, uint32_t generation)
{
    uint32_t words[2] = { sector, generation };

    memset(to, (int)(generation & 0xff), SECTOR);
    memcpy(to, words, sizeof(words));
}

static void check(const struct thread_load *load, const uint8_t *from, uint32_t sector)
{
    uint8_t expected[SECTOR] = { 0 };
    uint32_t generation;

    memcpy(&generation, from + sizeof(uint32_t), sizeof(generation));
    if (generation < load->certain[sector] || generation > load->newest[sector]) {
        (void)fprintf(stderr, "sector %u has generation %u, not %u to %u\n", sector, generation,
                      load->certain[sector], load->newest[sector]);
        thread_device_fail(__FILE__, __LINE__, "a write that was answered is lost", 0, 0);
    }
    if (generation != 0) {
        fill(expected, sector, generation);
    }
    require(memcmp(from, expected, SECTOR) == 0);
}

static void complete(struct sk_block_request *request)
{
    struct load_slot *slot = (struct load_slot *)(void *)request;
    struct thread_load *load = slot->load;

    require(slot->out);
    require((unsigned)request->status < SK_STATUS_COUNT);
    for (uint32_t i = 0; i < slot->count; i++) {
        uint32_t sector = slot->sector + i;

        if (request->status == SK_OK && request->operation == SK_BLOCK_READ) {
            check(load, data_of(load, slot, i), sector);
        } else if (request->status == SK_OK) {
            load->certain[sector] = slot->generation;
        }
        load->busy[sector] = false;
    }
    /* From here on the memory is ours: a device that still writes to it is a race. */
    memset(data_of(load, slot, 0), 0xcc, slot->count * SECTOR);
    slot->out = false;
    load->out--;
    load->finished++;
    load->ended[request->status]++;
}

/* Sectors that no other request of this load has. */
static bool choose_sectors(struct thread_load *load, struct load_slot *slot)
{
    slot->count = 1 + random_below(load, LOAD_SECTORS_MAX);
    slot->sector = random_below(load, LOAD_SECTORS - slot->count);
    for (uint32_t i = 0; i < slot->count; i++) {
        if (load->busy[slot->sector + i]) {
            return false;
        }
    }
    return true;
}

static void prepare(struct thread_load *load, struct load_slot *slot)
{
    bool writes = random_below(load, 2) != 0;
    uint64_t offset = (uint64_t)(data_of(load, slot, 0) - data_of(load, load->slots, 0));

    slot->generation = ++load->last_generation;
    for (uint32_t i = 0; i < slot->count; i++) {
        uint32_t sector = slot->sector + i;

        load->busy[sector] = true;
        if (writes) {
            load->newest[sector] = slot->generation;
            fill(data_of(load, slot, i), sector, slot->generation);
        }
        require_equal(sk_io_buffer_segment(&load->buffer, offset + i * SECTOR, SECTOR,
                                              &slot->segments[i]),
                         SK_OK);
    }
    slot->request = (struct sk_block_request){
        .operation = writes ? SK_BLOCK_WRITE : SK_BLOCK_READ,
        .sector = load->queue->index * LOAD_SECTORS + slot->sector,
        .segments = slot->segments,
        .segment_count = slot->count,
        .deadline_ns = load->deadline_ns == 0 ? 0 : thread_device_now() + load->deadline_ns,
        .complete = complete,
    };
    slot->load = load;
    slot->out = true;
    load->out++;
}

static void submit(struct thread_load *load, struct sk_block_request **requests, uint32_t count)
{
    sk_block_submit(load->queue, requests, count);
    load->last = (struct load_slot *)(void *)requests[count - 1];
}

/*
 * More are out than the queue holds: the last of them waits, however quick the device is,
 * unless an earlier call canceled it.
 */
static struct load_slot *one_that_waits(struct thread_load *load)
{
    uint32_t held = load->queue->device->info.queue_size;

    require(held < LOAD_SLOTS);
    for (uint32_t i = 0; load->out <= held || !load->last->out; i = (i + 1) % LOAD_SLOTS) {
        struct sk_block_request *request = &load->slots[i].request;

        if (!load->slots[i].out && choose_sectors(load, &load->slots[i])) {
            prepare(load, &load->slots[i]);
            submit(load, &request, 1);
        }
    }
    return load->last;
}

/* In turn: any one, or one that the device has not seen. */
static void cancel_one(struct thread_load *load)
{
    bool waits = load->cancels++ % 2 != 0;
    struct load_slot *slot = waits ? one_that_waits(load)
                                   : &load->slots[random_below(load, LOAD_SLOTS)];
    enum sk_status status = sk_block_cancel(load->queue, &slot->request);

    require(status == SK_OK || (!waits && (status == SK_ERR_BUSY || status == SK_ERR_NOT_FOUND)));
    require(slot->out || status == SK_ERR_NOT_FOUND);
}

static void submit_some(struct thread_load *load)
{
    struct sk_block_request *batch[LOAD_SLOTS];
    uint32_t most = 1 + random_below(load, LOAD_SLOTS);
    uint32_t count = 0;

    for (uint32_t i = 0; i < LOAD_SLOTS && count < most; i++) {
        if (!load->slots[i].out && choose_sectors(load, &load->slots[i])) {
            prepare(load, &load->slots[i]);
            batch[count++] = &load->slots[i].request;
        }
    }
    if (count > 0) {
        submit(load, batch, count);
    }
    if (load->cancel_each != 0 && ++load->turns % load->cancel_each == 0) {
        cancel_one(load);
    }
}

static void arm(struct thread_load *load)
{
    struct thread_device *device = &load->rig->device;
    uint32_t interrupts = load->rig->device.config.interrupt_count;
    uint32_t line = interrupts < 2 ? 0 : 1 + load->queue->index % (interrupts - 1);
    const sk_atomic_u32 *word = &device->lines[line].raised;
    uint32_t seen = atomic_load_explicit(word, memory_order_relaxed);
    enum sk_status status = sk_block_arm(load->queue);

    if (status == SK_OK) {
        require(thread_device_sleep(device, word, seen, thread_device_now() + patience_ns()));
    } else {
        require(status == SK_ERR_AGAIN || status == SK_ERR_BROKEN || status == SK_ERR_GONE);
    }
}

static void rest(struct thread_load *load)
{
    enum load_wait wait = load->wait;

    if (wait == LOAD_WAITS_SOMEHOW) {
        wait = (enum load_wait)random_below(load, LOAD_WAIT_COUNT);
    }
    switch (wait) {
    case LOAD_WAITS:
        require_equal(sk_block_wait(load->queue, UINT64_MAX), SK_OK);
        break;
    case LOAD_WAITS_HYBRID:
        require_equal(sk_block_wait_hybrid(load->queue, HYBRID_NS, UINT64_MAX), SK_OK);
        break;
    case LOAD_ARMS:
        arm(load);
        break;
    default:
        (void)sched_yield();
    }
}

void thread_load_init(struct thread_load *load, struct thread_rig *rig, uint32_t queue,
                      enum load_wait wait)
{
    memset(load, 0, sizeof(*load));
    load->rig = rig;
    load->queue = sk_block_get_queue(rig->disk, queue);
    load->wait = wait;
    load->random = queue + 1;
    require(load->queue != NULL);
    require_equal(sk_io_buffer_create(&load->buffer, &rig->env.domain,
                                         LOAD_SLOTS * LOAD_SECTORS_MAX * SECTOR, 4096),
                     SK_OK);
}

void thread_load_deinit(struct thread_load *load)
{
    require_equal(load->out, 0);
    require_equal(sk_io_buffer_destroy(&load->buffer), SK_OK);
}

enum sk_status thread_load_run(struct thread_load *load, uint32_t count, bool dry)
{
    uint32_t goal = load->finished + count;
    uint32_t call_at = load->finished + load->call_after;
    uint64_t patience = thread_device_now() + 8 * patience_ns();
    enum sk_status status = SK_OK;
    bool called = load->call_after == 0;

    while (load->finished < goal || (dry && load->out > 0)) {
        uint32_t found = 0;

        if (load->finished < goal && status == SK_OK) {
            submit_some(load);
        }
        status = sk_block_poll(load->queue, 0, &found);
        if (status != SK_OK && (load->out == 0 || load->keeps)) {
            break;
        }
        if (!called && load->finished >= call_at) {
            called = true;
            load->call(load);
        }
        if (status == SK_OK && found == 0 && load->out > 0) {
            rest(load);
        }
        require(thread_device_now() < patience);
    }
    return status;
}
