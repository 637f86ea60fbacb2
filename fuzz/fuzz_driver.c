/* SPDX-License-Identifier: MIT */
/*
 * The block driver against a device of which nothing can be relied on: each
 * load of a register, of the configuration or of memory that the device can
 * write may find what the input says instead.  Whatever is found, every request ends
 * exactly once, nothing of ours is touched wrongly, and every call comes back.
 */
#include <string.h>

#include "base/door.h"
#include "fake/fast_device.h"
#include "input.h"
#include "support/environment.h"

#define BASE     UINT64_C(0x10001000)
#define PAGES    96u
#define REQUESTS 24u
#define SEGMENTS 3u
#define RANGES   3u
#define STEPS    300u /* keeps one input quick */

#define TIMEOUT_NS         UINT64_C(1000000)
#define CONTROL_TIMEOUT_NS UINT64_C(200000)
#define CLOCK_STEP_NS      UINT64_C(2000)

struct request {
    struct sk_block_request request; /* first */
    struct sk_dma_segment segments[SEGMENTS];
    struct sk_block_range ranges[RANGES];
    bool out;
};

static struct test_environment env;
static struct fast_device device;
static struct sk_virtio_blk_options options;
static struct sk_driver driver;
static struct sk_io_buffer buffer;
static struct sk_device_range range;
static struct sk_interrupt interrupt;
static struct sk_device_node node;
static _Alignas(64) uint8_t driver_memory[65536];
static struct sk_block_device *disk;
static struct request requests[REQUESTS];
static uint32_t out;
static struct input input;
static uint32_t honest; /* loads until the next lie */

/* ---- Lies ---------------------------------------------------------------------------------- */

static void plan_lie(void)
{
    uint8_t pause = input_back_byte(&input);

    honest = pause < 0xf0 ? pause : (pause & 0x0fu) * 64;
    if (input_is_empty(&input)) {
        honest = UINT32_MAX;
    }
}

static uint64_t see(const void *address, unsigned width, uint64_t value)
{
    uint64_t mask = width >= 8 ? UINT64_MAX : (UINT64_C(1) << 8 * width) - 1;
    uint64_t other = 0;

    (void)address;
    if (honest > 0) {
        honest -= honest != UINT32_MAX;
        return value;
    }
    switch (input_back_byte(&input) % 8) {
    case 0:
        other = value + 1;
        break;
    case 1:
        other = value - 1;
        break;
    case 2:
        other = 0;
        break;
    case 3:
        other = UINT64_MAX;
        break;
    case 4:
        other = value ^ (UINT64_C(1) << input_back_byte(&input) % 64);
        break;
    case 5:
        other = input_back_byte(&input);
        break;
    case 6:
        other = value + input_back_byte(&input);
        break;
    default:
        for (unsigned i = 0; i < width; i++) {
            other = other << 8 | input_back_byte(&input);
        }
    }
    plan_lie();
    return other & mask;
}

/* ---- The device and its driver --------------------------------------------------------------- */

static void run_device(void *context)
{
    (void)context;
    (void)fast_device_run(&device);
}

static void raise_line(void *context)
{
    (void)context;
    (void)test_environment_interrupt(&env, 1);
}

static void set_up_device(void)
{
    uint8_t kind = input_byte(&input);
    struct fast_device_config config = {
        .features = input_number(&input, 6),
        .capacity_sectors = 1000,
        .queue_count = 1 + (kind & 1),
        .queue_size_max = 1 + input_below(&input, 40),
        .seg_max = 1 + (kind >> 1 & 3),
        .polls = (kind & 8) != 0,
        .memory = env.zone_memory,
        .daddr = TEST_PADDR + TEST_DEVICE_OFFSET,
        .bytes = env.zone_bytes,
        .interrupt = (kind & 16) != 0 ? raise_line : NULL,
    };

    fast_device_init(&device, &config);
    test_environment_add_mmio(&env, BASE, &device.mmio);
    env.clock_step_ns = CLOCK_STEP_NS;
    env.on_wait = run_device;
}

static bool probe(void)
{
    const struct sk_virtio_blk_options defaults = SK_VIRTIO_BLK_OPTIONS_DEFAULT;
    struct sk_driver_needs needs;
    uint8_t kind = input_byte(&input);

    options = defaults;
    options.queue_count = 1 + (kind & 1);
    options.queue_size = 2 + input_below(&input, 31);
    options.segment_count = 1 + (kind >> 1 & 3);
    options.timeout_ns = TIMEOUT_NS;
    options.control_timeout_ns = CONTROL_TIMEOUT_NS;
    options.recovery = (kind & 8) != 0 ? SK_VIRTIO_BLK_RECOVERY_RESUBMIT
                                       : SK_VIRTIO_BLK_RECOVERY_FAIL;
    driver = sk_virtio_blk_mmio_driver;
    driver.options = &options;
    range = (struct sk_device_range){ { BASE }, device.mmio.bytes };
    interrupt = (struct sk_interrupt){ .cell_count = 1, .cells = { 1 } };
    node = (struct sk_device_node){ .name = "disk",
                                    .platform = &env.platform,
                                    .ranges = &range,
                                    .range_count = 1,
                                    .interrupts = &interrupt,
                                    .interrupt_count = (kind & 16) != 0,
                                    .domain = &env.domain };
    REQUIRE(driver.needs(&driver, &node, &needs) == SK_OK);
    REQUIRE(needs.private_bytes <= sizeof(driver_memory));
    memset(driver_memory, 0, needs.private_bytes);
    REQUIRE(sk_io_buffer_create_constrained(&buffer, &env.domain, &needs.dma) == SK_OK);
    node.dma_buffer = &buffer;
    node.driver_memory = driver_memory;
    node.driver_memory_bytes = needs.private_bytes;
    REQUIRE(sk_device_node_claim(&node) == SK_OK);
    if (driver.probe(&driver, &node) != SK_OK) {
        return false;
    }
    disk = sk_block_of_node(&node);
    REQUIRE(disk != NULL && disk->info.queue_count >= 1 && disk->info.queue_count <= 2);
    return true;
}

/* ---- What a user does ------------------------------------------------------------------------ */

static void complete(struct sk_block_request *done)
{
    struct request *request = (struct request *)(void *)done;

    REQUIRE(request->out && out > 0);
    REQUIRE((unsigned)done->status < SK_STATUS_COUNT);
    request->out = false;
    out--;
}

static struct sk_block_queue *any_queue(void)
{
    return sk_block_get_queue(disk, input_below(&input, disk->info.queue_count));
}

static bool prepare(struct request *request)
{
    uint8_t kind = input_byte(&input);

    if (request->out) {
        return false;
    }
    for (uint32_t i = 0; i < SEGMENTS; i++) {
        request->segments[i].address =
            sk_daddr_make(TEST_PADDR + TEST_DEVICE_OFFSET + 512 * input_below(&input, 64));
        request->segments[i].bytes = 512 * input_below(&input, 12);
    }
    for (uint32_t i = 0; i < RANGES; i++) {
        request->ranges[i] = (struct sk_block_range){ input_below(&input, 1100),
                                                      input_below(&input, 64) };
    }
    request->request = (struct sk_block_request){
        .operation = (enum sk_block_operation)input_below(&input, SK_BLOCK_OPERATION_COUNT + 1),
        .flags = kind & 3,
        .sector = (kind & 4) != 0 ? input_below(&input, 1100) : 0,
        .sector_count = (kind & 4) != 0 ? input_below(&input, 64) : 0,
        .ranges = request->ranges,
        .range_count = (kind & 4) != 0 ? 0 : input_below(&input, RANGES + 1),
        .segments = request->segments,
        .segment_count = input_below(&input, SEGMENTS + 1),
        .deadline_ns = (kind & 8) != 0 ? env.clock_ns + 1000 * input_below(&input, 1000) : 0,
        .complete = complete,
    };
    request->out = true;
    out++;
    return true;
}

static void submit(void)
{
    struct sk_block_request *batch[4];
    uint32_t count = 1 + input_below(&input, 4);
    uint32_t ready = 0;

    for (uint32_t i = 0; i < count; i++) {
        struct request *request = &requests[input_below(&input, REQUESTS)];

        if (prepare(request)) {
            batch[ready++] = &request->request;
        }
    }
    sk_block_submit(any_queue(), batch, ready);
}

static void wait(void)
{
    uint64_t until = env.clock_ns + 1000 * input_below(&input, 2000);
    enum sk_status status = sk_block_wait_hybrid(any_queue(), input_below(&input, 3) * 5000, until);

    REQUIRE(status == SK_OK || status == SK_ERR_TIMEOUT);
}

static void batch(struct sk_block_queue *queue)
{
    switch (input_below(&input, 3)) {
    case 0:
        REQUIRE(sk_block_batch_begin(queue) != SK_ERR_INVALID);
        break;
    case 1:
        sk_block_batch_end(queue);
        break;
    default:
        sk_block_batch_abort(queue);
    }
}

static void call_and_wait(void)
{
    struct sk_block_queue *queue = any_queue();
    struct sk_block_zone zones[2];
    struct sk_block_lifetime wear;
    uint64_t sector;
    uint32_t count;
    enum sk_status status;

    switch (input_below(&input, 9)) {
    case 6:
        status = sk_block_clear(queue, (enum sk_block_operation)(4 + input_below(&input, 3)),
                                input_below(&input, 1100), input_below(&input, 64),
                                input_below(&input, 4), 0);
        break;
    case 7:
        status = sk_block_zone_manage(queue, (enum sk_block_operation)(9 + input_below(&input, 5)),
                                      input_below(&input, 1100), 0);
        break;
    case 8:
        status = sk_block_zone_append(queue, input_below(&input, 1100),
                                      test_environment_foreign(&env, 5),
                                      512 * input_below(&input, 16), &sector, 0);
        break;
    case 0:
        status = sk_block_read(queue, input_below(&input, 1100),
                               test_environment_foreign(&env, 1), 512 * input_below(&input, 16), 0);
        break;
    case 1:
        status = sk_block_write(queue, input_below(&input, 1100),
                                test_environment_foreign(&env, 3), 512 * input_below(&input, 16), 0);
        break;
    case 2:
        status = sk_block_flush(queue, TIMEOUT_NS / 2);
        break;
    case 3:
        status = sk_block_zone_report(queue, input_below(&input, 1100), zones, 2, &count, 0);
        break;
    case 4:
        status = sk_block_get_lifetime(queue, &wear, 0);
        break;
    default:
        status = sk_block_set_cache(queue, (enum sk_block_cache)input_below(&input, 2), 0);
    }
    REQUIRE(status != SK_ERR_BUSY);
}

static void change_device(void)
{
    struct sk_block_queue *queue = any_queue();
    enum sk_status status = SK_OK;

    switch (input_below(&input, 5)) {
    case 0:
        sk_block_stop(disk, SK_ERR_TIMEOUT);
        break;
    case 1:
        status = sk_block_recover(disk, 0);
        REQUIRE(status != SK_ERR_BUSY);
        break;
    case 2:
        status = sk_block_reset_queue(queue);
        break;
    case 3:
        status = sk_block_cancel(queue, &requests[input_below(&input, REQUESTS)].request);
        break;
    default:
        device.config_space[input_below(&input, sizeof(device.config_space))] = input_byte(&input);
        device.interrupt_status |= SK_VIRTIO_INTERRUPT_CONFIG;
        (void)test_environment_interrupt(&env, 1);
    }
    (void)status;
}

static void hear(struct sk_block_device *changed, uint32_t changes, void *context)
{
    REQUIRE(changed == disk && changes != 0 && context == &env);
}

static void step(void)
{
    struct sk_block_info info;
    struct sk_block_property property;
    enum sk_status status;

    switch (input_below(&input, 10)) {
    case 0:
    case 1:
    case 2:
        submit();
        break;
    case 3:
    case 4:
        status = sk_block_poll(any_queue(), input_below(&input, 5), NULL);
        REQUIRE(status != SK_ERR_BUSY);
        break;
    case 5:
        wait();
        break;
    case 6:
        batch(any_queue());
        break;
    case 7:
        call_and_wait();
        break;
    case 8:
        change_device();
        break;
    default:
        sk_block_get_info(disk, &info);
        status = sk_block_get_property(disk, input_below(&input, 60), &property);
        status = sk_block_find_property(disk, "zone_count", &property);
        status = sk_block_set_latency(any_queue(), input_below(&input, 3));
        sk_block_watch(disk, input_below(&input, 2) == 0 ? hear : NULL, &env);
        status = sk_block_arm(any_queue());
        env.clock_ns += 1000 * input_below(&input, 1000);
        (void)fast_device_run(&device);
    }
}

/* Once removed, all is back but what the device may still use. */
static void take_down(bool probed)
{
    enum sk_status status = probed ? driver.remove(&driver, &node) : SK_OK;

    ski_door_hook = NULL;
    REQUIRE(out == 0);
    REQUIRE(status == SK_OK || status == SK_ERR_IN_DOUBT);
    if (sk_io_buffer_is_busy(&buffer)) {
        REQUIRE(!probed || status == SK_ERR_IN_DOUBT);
        test_environment_abandon(&env);
        return;
    }
    sk_device_node_unclaim(&node);
    REQUIRE(sk_io_buffer_destroy(&buffer) == SK_OK);
    REQUIRE(env.mmio_mapped == 0);
    test_environment_abandon(&env); /* a bounce buffer in doubt may be left */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    bool probed;

    input = (struct input){ data, 0, bytes };
    out = 0;
    memset(requests, 0, sizeof(requests));
    memset(&buffer, 0, sizeof(buffer)); /* the last one may have stayed in doubt */
    test_environment_init(&env, PAGES);
    set_up_device();
    plan_lie();
    ski_door_hook = see;
    probed = probe();
    for (uint32_t i = 0; probed && i < STEPS && !input_is_empty(&input); i++) {
        step();
    }
    take_down(probed);
    return 0;
}
