/* SPDX-License-Identifier: MIT */
/*
 * The ports of PORTING.md in an imaginary kernel: this file is the kernel, the
 * fake device its disk.  Physical addresses are not CPU addresses here, and
 * memory called `high` lies above 4 GiB.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <libfdt.h>

#include "fake/virtio_device.h"
#include "port/more.h"
#include "port/more_kernel.h"
#include "port/port.h"

#define DISK       UINT64_C(0x10001000)
#define DISK_BYTES UINT64_C(0x1000)
#define DISK_LINE  5u
#define LOW        UINT64_C(0x40000000)
#define HIGH       UINT64_C(0x200000000)
#define IOVA       UINT64_C(0x7000000000)
#define PAGE       SK_DMA_PAGE_BYTES

/* Everything that is neither heap nor stack is low memory; the linker knows where. */
extern char __data_start[], _end[];

static _Alignas(PAGE) uint8_t arena_pages[512 * PAGE];
static _Alignas(PAGE) uint8_t high[16 * PAGE];
static _Alignas(PAGE) uint8_t sector[PAGE];
static _Alignas(64) uint8_t metadata[64 * 1024];
static char registers[4]; /* stands for the mapping: the device answers calls instead */

static struct {
    struct fake_device *fake;
    char text[4096]; /* printed */
    uint64_t ticks;
    bool enabled[KERNEL_LINES];
    bool masked;
    bool pending;
    unsigned sleeps;
    unsigned delivered;
    unsigned cleans;
    unsigned invalidates;
    uint64_t mapped_bytes;
} kernel;

/* ---- The kernel ---------------------------------------------------------------------------- */

void kernel_print(const char *text)
{
    strncat(kernel.text, text, sizeof(kernel.text) - strlen(kernel.text) - 1);
}

uint64_t kernel_ticks(void)
{
    return ++kernel.ticks;
}

bool kernel_is_ram(uint64_t physical, uint64_t bytes)
{
    return physical >= LOW || bytes > LOW - physical;
}

volatile void *kernel_map_registers(uint64_t physical, uint64_t bytes)
{
    return physical == DISK && bytes <= DISK_BYTES ? registers : NULL;
}

bool kernel_physical(const void *virtual, uint64_t *out_physical)
{
    uintptr_t at = (uintptr_t)virtual;

    if (at - (uintptr_t)high < sizeof(high)) {
        *out_physical = HIGH + (at - (uintptr_t)high);
        return true;
    }
    *out_physical = LOW + (at - ((uintptr_t)__data_start & ~(uintptr_t)(PAGE - 1)));
    return at >= (uintptr_t)__data_start && at < (uintptr_t)_end;
}

static void deliver(void)
{
    if (kernel.pending && !kernel.masked && kernel.enabled[DISK_LINE]) {
        kernel.pending = false;
        kernel.delivered++;
        port_interrupt(DISK_LINE);
    }
}

void kernel_enable_line(uint32_t line)
{
    kernel.enabled[line] = true;
}

void kernel_disable_line(uint32_t line)
{
    kernel.enabled[line] = false;
}

void kernel_mask_interrupts(void)
{
    kernel.masked = true;
}

void kernel_unmask_interrupts(void)
{
    kernel.masked = false;
    deliver();
}

void kernel_sleep_until(uint64_t ticks)
{
    assert_true(kernel.masked);
    kernel.sleeps++;
    if (fake_device_run(kernel.fake, UINT_MAX) == 0 && kernel.ticks < ticks) {
        kernel.ticks += 1000;
    }
}

bool kernel_iommu_map(uint64_t physical, uint64_t bytes, bool device_writes, uint64_t *out_iova)
{
    (void)device_writes;
    *out_iova = IOVA + physical;
    kernel.mapped_bytes += bytes;
    return true;
}

bool kernel_iommu_unmap(uint64_t iova, uint64_t bytes)
{
    kernel.mapped_bytes -= bytes;
    return iova >= IOVA;
}

void kernel_cache_clean(const void *from, size_t bytes)
{
    (void)from;
    (void)bytes;
    kernel.cleans++;
}

void kernel_cache_invalidate(const void *from, size_t bytes)
{
    (void)from;
    (void)bytes;
    kernel.invalidates++;
}

/* ---- The disk ------------------------------------------------------------------------------ */

static void *reach(void *context, uint64_t daddr, uint64_t bytes)
{
    uint64_t base = (uintptr_t)__data_start & ~(uintptr_t)(PAGE - 1);
    uint64_t low_bytes = (uintptr_t)_end - base;

    (void)context;
    if (daddr - LOW < low_bytes && bytes <= low_bytes - (daddr - LOW)) {
        return (void *)(uintptr_t)(base + (daddr - LOW));
    }
    return NULL;
}

static void interrupt(void *context)
{
    (void)context;
    kernel.pending = true;
    deliver();
}

/* The smallest port as it was made. */
static struct sk_platform smallest;

/* The port's own hook is asked, and its answer checked; then the fake device stands there. */
static enum sk_status map_mmio(void *context, sk_paddr base, uint64_t bytes,
                               struct sk_mmio *out_mmio)
{
    enum sk_status status = smallest.map_mmio(context, base, bytes, out_mmio);

    if (status == SK_OK) {
        assert_ptr_equal(out_mmio->base, registers);
        assert_int_equal(out_mmio->bytes, bytes);
        *out_mmio = kernel.fake->mmio;
        out_mmio->bytes = bytes;
    }
    return status;
}

static int boot(void **state)
{
    struct fake_device_config config = FAKE_DEVICE_CONFIG_DEFAULT;

    (void)state;
    memset(&kernel, 0, sizeof(kernel));
    port_platform = smallest;
    port_platform.map_mmio = map_mmio;
    config.reach = reach;
    config.interrupt = interrupt;
    kernel.fake = fake_device_create(&config);
    for (size_t i = 0; i < SK_BLOCK_SECTOR_BYTES; i++) {
        kernel.fake->storage[i] = (uint8_t)(i * 13 + 5);
    }
    memset(sector, 0, sizeof(sector));
    return 0;
}

static int halt(void **state)
{
    (void)state;
    fake_device_check(kernel.fake);
    fake_device_destroy(kernel.fake);
    return 0;
}

static void init_arena(struct sk_dma_arena *arena, struct sk_dma_zone *zone, uint32_t flags)
{
    *zone = (struct sk_dma_zone){ .cpu = arena_pages, .bytes = sizeof(arena_pages),
                                  .flags = flags };
    assert_true(kernel_physical(arena_pages, &zone->paddr.raw));
    assert_int_equal(
        sk_dma_arena_init(arena, zone, 1, metadata, sizeof(metadata), port_platform.log), SK_OK);
}

/* ---- The smallest port --------------------------------------------------------------------- */

static void test_port_platform__clock_is_in_nanoseconds(void **state)
{
    uint64_t before = smallest.now_ns(NULL);

    (void)state;
    kernel.ticks += KERNEL_TICKS_PER_SECOND;
    assert_in_range(smallest.now_ns(NULL) - before, UINT64_C(1000000000), UINT64_C(1000001000));
}

static void test_port_platform__log_line_reaches_the_console(void **state)
{
    (void)state;
    sk_log_print(smallest.log, SK_LOG_WARNING, "disk %u", 7u);
    assert_string_equal(kernel.text, "warning: disk 7\n");
}

static void test_port_platform__registers_in_memory_are_refused(void **state)
{
    struct sk_mmio mmio;

    (void)state;
    assert_int_equal(smallest.map_mmio(NULL, sk_paddr_make(LOW + PAGE), PAGE, &mmio),
                     SK_ERR_RANGE);
    assert_int_equal(smallest.map_mmio(NULL, sk_paddr_make(0x3000), PAGE, &mmio),
                     SK_ERR_NO_MEMORY);
}

static void test_port_read_first_sector__disk_present_stores_the_sector(void **state)
{
    (void)state;
    assert_int_equal(port_read_first_sector(sk_paddr_make(DISK), sector), SK_OK);
    assert_memory_equal(sector, kernel.fake->storage, SK_BLOCK_SECTOR_BYTES);
    assert_string_equal(kernel.text, "");
}

/* ---- The later steps ----------------------------------------------------------------------- */

/* A device tree with one disk: memory, an interrupt controller, registers, a line. */
static void make_tree(void *tree, int bytes)
{
    uint32_t reg[] = { cpu_to_fdt32(0), cpu_to_fdt32(DISK), cpu_to_fdt32(0),
                       cpu_to_fdt32(DISK_BYTES) };

    assert_int_equal(fdt_create(tree, bytes), 0);
    assert_int_equal(fdt_finish_reservemap(tree), 0);
    assert_int_equal(fdt_begin_node(tree, ""), 0);
    assert_int_equal(fdt_property_u32(tree, "#address-cells", 2), 0);
    assert_int_equal(fdt_property_u32(tree, "#size-cells", 2), 0);
    assert_int_equal(fdt_property_u32(tree, "interrupt-parent", 1), 0);
    assert_int_equal(fdt_begin_node(tree, "plic"), 0);
    assert_int_equal(fdt_property(tree, "interrupt-controller", NULL, 0), 0);
    assert_int_equal(fdt_property_u32(tree, "#interrupt-cells", 1), 0);
    assert_int_equal(fdt_property_u32(tree, "phandle", 1), 0);
    assert_int_equal(fdt_end_node(tree), 0);
    assert_int_equal(fdt_begin_node(tree, "virtio_mmio@10001000"), 0);
    assert_int_equal(fdt_property_string(tree, "compatible", "virtio,mmio"), 0);
    assert_int_equal(fdt_property(tree, "reg", reg, sizeof(reg)), 0);
    assert_int_equal(fdt_property_u32(tree, "interrupts", DISK_LINE), 0);
    assert_int_equal(fdt_end_node(tree), 0);
    assert_int_equal(fdt_end_node(tree), 0);
    assert_int_equal(fdt_finish(tree), 0);
}

static void test_port_find_disks__disk_in_the_tree_is_read_by_interrupt(void **state)
{
    static _Alignas(8) uint8_t tree[4096];
    struct sk_dma_arena arena;
    struct sk_dma_zone zone;
    struct sk_device_node *node;
    struct sk_block_queue *queue;
    struct sk_block_statistics statistics;

    (void)state;
    make_tree(tree, sizeof(tree));
    init_arena(&arena, &zone, 0);
    port_add_hooks(&port_platform);
    assert_int_equal(port_find_disks(&port_platform, tree, sizeof(tree), &arena), SK_OK);
    node = sk_device_manager_find_class(&port_devices, SK_DEVICE_CLASS_BLOCK, NULL);
    assert_non_null(node);
    queue = sk_block_get_queue(sk_block_of_node(node), 0);
    assert_non_null(queue);
    kernel.fake->config.deferred = true; /* nothing happens while nobody sleeps */
    assert_int_equal(sk_block_read(queue, 0, sector, SK_BLOCK_SECTOR_BYTES, 0), SK_OK);
    assert_memory_equal(sector, kernel.fake->storage, SK_BLOCK_SECTOR_BYTES);
    assert_int_equal(sk_block_poll(queue, 0, NULL), SK_OK); /* looks at the handler's count */
    sk_block_get_statistics(queue, &statistics);
    assert_true(statistics.waits > 0);
    assert_true(statistics.interrupts > 0);
    assert_true(kernel.sleeps > 0);
    assert_true(kernel.delivered > 0);
    assert_int_equal(sk_device_manager_remove_all(&port_devices), SK_OK);
    assert_false(kernel.enabled[DISK_LINE]);
}

static void test_port_domain_with_iommu__buffer_has_the_iommus_address(void **state)
{
    struct sk_io_buffer buffer = SK_IO_BUFFER_EMPTY;
    struct sk_dma_arena arena;
    struct sk_dma_zone zone;
    struct sk_dma_domain domain;
    sk_daddr address;

    (void)state;
    init_arena(&arena, &zone, 0);
    assert_int_equal(port_domain_with_iommu(&port_platform, &arena, &domain), SK_OK);
    assert_int_equal(sk_io_buffer_create(&buffer, &domain, 3 * PAGE, SK_IO_BUFFER_ALIGNMENT),
                     SK_OK);
    assert_int_equal(sk_io_buffer_address(&buffer, &address), SK_OK);
    assert_true(address.raw >= IOVA);
    assert_int_equal(kernel.mapped_bytes, 3 * PAGE);
    assert_int_equal(sk_io_buffer_destroy(&buffer), SK_OK);
    assert_int_equal(kernel.mapped_bytes, 0);
    assert_int_equal(sk_dma_domain_deinit(&domain), SK_OK);
}

static void test_port_domain_with_bounce__memory_above_4_gib_is_copied(void **state)
{
    struct sk_dma_arena arena;
    struct sk_dma_zone zone;
    struct sk_dma_domain domain;
    struct sk_dma_mapping mapping;
    struct sk_dma_segment segments[4];
    uint8_t *seen;

    (void)state;
    init_arena(&arena, &zone, 0);
    assert_int_equal(port_domain_with_bounce(&port_platform, &arena, &domain), SK_OK);
    memset(high, 0x3c, sizeof(high));
    assert_int_equal(sk_dma_domain_map(&domain, high, PAGE, SK_DMA_TO_DEVICE, NULL, segments, 4,
                                       &mapping),
                     SK_OK);
    assert_true(mapping.bounced);
    assert_int_equal(mapping.segment_count, 1);
    assert_true(segments[0].address.raw + segments[0].bytes <= UINT64_C(1) << 32);
    seen = reach(NULL, segments[0].address.raw, PAGE);
    assert_non_null(seen);
    assert_memory_equal(seen, high, PAGE);
    assert_int_equal(sk_dma_domain_unmap(&mapping, 0), SK_OK);
    assert_int_equal(sk_dma_domain_deinit(&domain), SK_OK);
}

static void test_port_domain_not_coherent__caches_are_maintained(void **state)
{
    struct sk_dma_arena arena;
    struct sk_dma_zone zone;
    struct sk_dma_domain domain;
    struct sk_dma_mapping mapping;
    struct sk_dma_segment segments[4];

    (void)state;
    init_arena(&arena, &zone, 0);
    port_add_hooks(&port_platform);
    assert_int_equal(port_domain_not_coherent(&port_platform, &arena, &domain), SK_OK);
    assert_int_equal(sk_dma_domain_map(&domain, sector, PAGE, SK_DMA_TO_DEVICE, NULL, segments, 4,
                                       &mapping),
                     SK_OK);
    assert_false(mapping.bounced);
    assert_true(kernel.cleans > 0);
    assert_int_equal(sk_dma_domain_unmap(&mapping, 0), SK_OK);
    assert_int_equal(sk_dma_domain_map(&domain, sector, PAGE, SK_DMA_FROM_DEVICE, NULL, segments,
                                       4, &mapping),
                     SK_OK);
    assert_int_equal(sk_dma_domain_unmap(&mapping, PAGE), SK_OK);
    assert_true(kernel.invalidates > 0);
    assert_int_equal(sk_dma_domain_deinit(&domain), SK_OK);
}

static void test_port_domain_not_coherent__rings_need_an_uncached_zone(void **state)
{
    for (unsigned uncached = 0; uncached < 2; uncached++) {
        struct sk_device_range range = { { DISK }, DISK_BYTES };
        struct sk_io_buffer buffer = SK_IO_BUFFER_EMPTY;
        struct sk_dma_arena arena;
        struct sk_dma_zone zone;
        struct sk_dma_domain domain;
        struct sk_driver_needs needs;
        static _Alignas(64) uint8_t memory[16 * 1024];
        struct sk_device_node node = { .name = "disk", .platform = &port_platform,
                                       .ranges = &range, .range_count = 1, .domain = &domain,
                                       .dma_buffer = &buffer, .driver_memory = memory,
                                       .driver_memory_bytes = sizeof(memory) };
        const struct sk_driver *driver = &sk_virtio_blk_mmio_driver;

        (void)state;
        memset(memory, 0, sizeof(memory));
        port_add_hooks(&port_platform);
        init_arena(&arena, &zone, uncached != 0 ? SK_DMA_ZONE_UNCACHED : 0);
        assert_int_equal(port_domain_not_coherent(&port_platform, &arena, &domain), SK_OK);
        assert_int_equal(driver->needs(driver, &node, &needs), SK_OK);
        assert_int_equal(sk_io_buffer_create_constrained(&buffer, &domain, &needs.dma), SK_OK);
        if (uncached == 0) {
            assert_int_equal(driver->probe(driver, &node), SK_ERR_UNSUPPORTED);
        } else {
            assert_int_equal(driver->probe(driver, &node), SK_OK);
            assert_int_equal(driver->remove(driver, &node), SK_OK);
        }
        assert_int_equal(sk_io_buffer_destroy(&buffer), SK_OK);
        assert_int_equal(sk_dma_domain_deinit(&domain), SK_OK);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_port_platform__clock_is_in_nanoseconds, boot, halt),
        cmocka_unit_test_setup_teardown(test_port_platform__log_line_reaches_the_console, boot,
                                        halt),
        cmocka_unit_test_setup_teardown(test_port_platform__registers_in_memory_are_refused, boot,
                                        halt),
        cmocka_unit_test_setup_teardown(test_port_read_first_sector__disk_present_stores_the_sector,
                                        boot, halt),
        cmocka_unit_test_setup_teardown(test_port_find_disks__disk_in_the_tree_is_read_by_interrupt,
                                        boot, halt),
        cmocka_unit_test_setup_teardown(test_port_domain_with_iommu__buffer_has_the_iommus_address,
                                        boot, halt),
        cmocka_unit_test_setup_teardown(test_port_domain_with_bounce__memory_above_4_gib_is_copied,
                                        boot, halt),
        cmocka_unit_test_setup_teardown(test_port_domain_not_coherent__caches_are_maintained, boot,
                                        halt),
        cmocka_unit_test_setup_teardown(test_port_domain_not_coherent__rings_need_an_uncached_zone,
                                        boot, halt),
    };

    smallest = port_platform;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
