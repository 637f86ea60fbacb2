/* SPDX-License-Identifier: MIT */
/* The transport against a register file that remembers every access. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_mmio.h>
#include <linux/virtio_ring.h>

#include <skio/virtio_mmio.h>

#define ACCESSES_MAX 64

/* 4.2.2; Linux has no name for it.  It lies behind the shared memory's and before the generation. */
#define QUEUE_RESET 0x0c0
_Static_assert(QUEUE_RESET == VIRTIO_MMIO_SHM_BASE_HIGH + 4, "4.2.2");
_Static_assert(QUEUE_RESET < VIRTIO_MMIO_CONFIG_GENERATION, "4.2.2");

/* The specification's values, as another project wrote them down. */
_Static_assert(SK_VIRTIO_STATUS_ACKNOWLEDGE == VIRTIO_CONFIG_S_ACKNOWLEDGE, "2.1");
_Static_assert(SK_VIRTIO_STATUS_DRIVER == VIRTIO_CONFIG_S_DRIVER, "2.1");
_Static_assert(SK_VIRTIO_STATUS_DRIVER_OK == VIRTIO_CONFIG_S_DRIVER_OK, "2.1");
_Static_assert(SK_VIRTIO_STATUS_FEATURES_OK == VIRTIO_CONFIG_S_FEATURES_OK, "2.1");
_Static_assert(SK_VIRTIO_STATUS_DEVICE_NEEDS_RESET == VIRTIO_CONFIG_S_NEEDS_RESET, "2.1");
_Static_assert(SK_VIRTIO_STATUS_FAILED == VIRTIO_CONFIG_S_FAILED, "2.1");
_Static_assert(SK_VIRTIO_F_INDIRECT_DESC == VIRTIO_RING_F_INDIRECT_DESC, "6");
_Static_assert(SK_VIRTIO_F_EVENT_IDX == VIRTIO_RING_F_EVENT_IDX, "6");
_Static_assert(SK_VIRTIO_F_VERSION_1 == VIRTIO_F_VERSION_1, "6");
_Static_assert(SK_VIRTIO_F_ACCESS_PLATFORM == VIRTIO_F_ACCESS_PLATFORM, "6");
_Static_assert(SK_VIRTIO_F_RING_PACKED == VIRTIO_F_RING_PACKED, "6");
_Static_assert(SK_VIRTIO_F_IN_ORDER == VIRTIO_F_IN_ORDER, "6");
_Static_assert(SK_VIRTIO_F_ORDER_PLATFORM == VIRTIO_F_ORDER_PLATFORM, "6");
_Static_assert(SK_VIRTIO_F_SR_IOV == VIRTIO_F_SR_IOV, "6");
_Static_assert(SK_VIRTIO_F_RING_RESET == VIRTIO_F_RING_RESET, "6");
#ifdef VIRTIO_F_NOTIFICATION_DATA /* not in each version of the headers */
_Static_assert(SK_VIRTIO_F_NOTIFICATION_DATA == VIRTIO_F_NOTIFICATION_DATA, "6");
#endif
_Static_assert(SK_VIRTIO_F_NOTIFICATION_DATA == VIRTIO_F_SR_IOV + 1 &&
                   SK_VIRTIO_F_NOTIFICATION_DATA == VIRTIO_F_RING_RESET - 2,
               "6: between the two");
_Static_assert(SK_VIRTIO_INTERRUPT_QUEUE == VIRTIO_MMIO_INT_VRING, "4.2.2");
_Static_assert(SK_VIRTIO_INTERRUPT_CONFIG == VIRTIO_MMIO_INT_CONFIG, "4.2.2");
_Static_assert(SK_VIRTIO_DEVICE_BLOCK == VIRTIO_ID_BLOCK, "5");
_Static_assert(SK_VIRTIO_MMIO_BYTES_MIN == VIRTIO_MMIO_CONFIG, "4.2.2");

struct access {
    char kind; /* 'r' or 'w' */
    uint64_t offset;
    unsigned width;
    uint32_t value;
};

/* Registers that are plain memory, but for those that a selector chooses. */
struct registers {
    uint8_t bytes[0x200];
    uint32_t features[2];
    uint32_t resetting; /* so many reads of QueueReset say 1 after it was written */
    bool keeps_queue;   /* and the queue is ready for all that */
    struct access access[ACCESSES_MAX];
    unsigned count;
    struct sk_mmio mmio;
    struct sk_virtio_mmio device;
};

static uint32_t peek(const struct registers *registers, uint64_t offset, unsigned width)
{
    uint32_t value = 0;

    memcpy(&value, registers->bytes + offset, width);
    return value;
}

static void poke(struct registers *registers, uint64_t offset, uint64_t value, unsigned width)
{
    memcpy(registers->bytes + offset, &value, width);
}

static void record(struct registers *registers, char kind, uint64_t offset, unsigned width,
                   uint32_t value)
{
    assert_true(registers->count < ACCESSES_MAX);
    assert_true(width == 1 || width == 2 || width == 4);
    assert_int_equal(offset % width, 0);
    assert_true(offset + width <= registers->mmio.bytes);
    registers->access[registers->count++] = (struct access){ kind, offset, width, value };
}

static uint32_t read(void *context, uint64_t offset, unsigned width)
{
    struct registers *registers = context;
    uint32_t value = peek(registers, offset, width);

    if (offset == VIRTIO_MMIO_DEVICE_FEATURES) {
        value = registers->features[peek(registers, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 4) & 1];
    }
    if (offset == QUEUE_RESET && registers->resetting-- == 0) {
        value = 0;
        poke(registers, VIRTIO_MMIO_QUEUE_READY, registers->keeps_queue, 4);
    }
    record(registers, 'r', offset, width, value);
    return value;
}

static void write(void *context, uint64_t offset, unsigned width, uint32_t value)
{
    struct registers *registers = context;

    record(registers, 'w', offset, width, value);
    poke(registers, offset, value, width);
}

static const struct sk_mmio_ops ops = { .read = read, .write = write };

static void reset_registers(struct registers *registers, uint32_t version)
{
    memset(registers, 0, sizeof(*registers));
    registers->mmio = (struct sk_mmio){ registers->bytes, 0x200, &ops, registers };
    poke(registers, VIRTIO_MMIO_MAGIC_VALUE, 0x74726976, 4);
    poke(registers, VIRTIO_MMIO_VERSION, version, 4);
    poke(registers, VIRTIO_MMIO_DEVICE_ID, SK_VIRTIO_DEVICE_BLOCK, 4);
    poke(registers, VIRTIO_MMIO_VENDOR_ID, 0x1234, 4);
}

static struct sk_virtio_transport *open_version(struct registers *registers, uint32_t version)
{
    static const struct sk_platform platform = { 0 };

    reset_registers(registers, version);
    assert_int_equal(
        sk_virtio_mmio_open(&registers->device, &platform, &registers->mmio, 0x10001000), SK_OK);
    assert_ptr_equal(registers->device.transport.platform, &platform);
    registers->count = 0;
    return &registers->device.transport;
}

static void expect_accesses(const struct registers *registers, const struct access *expected,
                            unsigned count)
{
    for (unsigned i = 0; i < count && i < registers->count; i++) {
        assert_int_equal(registers->access[i].kind, expected[i].kind);
        assert_int_equal(registers->access[i].offset, expected[i].offset);
        assert_int_equal(registers->access[i].width, expected[i].width);
        assert_int_equal(registers->access[i].value, expected[i].value);
    }
    assert_int_equal(registers->count, count);
}

#define EXPECT(registers, ...)                                                 \
    do {                                                                       \
        const struct access expected_[] = { __VA_ARGS__ };                     \
        expect_accesses(registers, expected_,                                  \
                        (unsigned)(sizeof(expected_) / sizeof(expected_[0]))); \
        (registers)->count = 0;                                                \
    } while (0)

#define R(register, value) { 'r', VIRTIO_MMIO_##register, 4, value }
#define W(register, value) { 'w', VIRTIO_MMIO_##register, 4, value }

static void test_virtio_mmio_open__modern_says_what_it_is(void **state)
{
    struct registers registers;
    struct sk_virtio_transport *transport = open_version(&registers, 2);

    (void)state;
    assert_int_equal(transport->device_type, SK_VIRTIO_DEVICE_BLOCK);
    assert_int_equal(transport->vendor, 0x1234);
    assert_string_equal(transport->kind, "mmio");
    assert_int_equal(transport->address, 0x10001000);
    assert_false(transport->legacy);
    assert_int_equal(transport->ring_alignment, 0);
}

static void test_virtio_mmio_open__legacy_says_what_it_is(void **state)
{
    struct registers registers;
    struct sk_virtio_transport *transport = open_version(&registers, 1);

    (void)state;
    assert_int_equal(transport->device_type, SK_VIRTIO_DEVICE_BLOCK);
    assert_string_equal(transport->kind, "mmio-legacy");
    assert_true(transport->legacy);
    assert_int_equal(transport->ring_alignment, 4096);
}

static bool is_all_zero(const void *object, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        if (((const uint8_t *)object)[i] != 0) {
            return false;
        }
    }
    return true;
}

static void expect_refused(struct registers *registers, enum sk_status expected)
{
    memset(&registers->device, 0xff, sizeof(registers->device));
    assert_int_equal(sk_virtio_mmio_open(&registers->device, NULL, &registers->mmio, 0), expected);
    assert_true(is_all_zero(&registers->device, sizeof(registers->device)));
}

static void test_virtio_mmio_open__empty_slot_is_touched_no_more(void **state)
{
    struct registers registers;

    (void)state;
    reset_registers(&registers, 2);
    poke(&registers, VIRTIO_MMIO_DEVICE_ID, 0, 4);
    expect_refused(&registers, SK_ERR_NOT_FOUND);
    EXPECT(&registers, R(MAGIC_VALUE, 0x74726976), R(VERSION, 2), R(DEVICE_ID, 0));
}

static void test_virtio_mmio_open__short_range_is_refused_untouched(void **state)
{
    struct registers registers;

    (void)state;
    reset_registers(&registers, 2);
    registers.mmio.bytes = 0xff;
    expect_refused(&registers, SK_ERR_SIZE);
    assert_int_equal(registers.count, 0);
    registers.mmio.bytes = 0;
    expect_refused(&registers, SK_ERR_SIZE);
    registers.mmio.bytes = 0x100;
    assert_int_equal(sk_virtio_mmio_open(&registers.device, NULL, &registers.mmio, 0), SK_OK);
}

static void test_virtio_mmio_open__wrong_magic_or_version_is_refused(void **state)
{
    static const uint32_t versions[] = { 0, 3, UINT32_MAX };
    struct registers registers;

    (void)state;
    reset_registers(&registers, 2);
    poke(&registers, VIRTIO_MMIO_MAGIC_VALUE, 0x76697274, 4);
    expect_refused(&registers, SK_ERR_MALFORMED);
    EXPECT(&registers, R(MAGIC_VALUE, 0x76697274));
    for (size_t i = 0; i < sizeof(versions) / sizeof(versions[0]); i++) {
        reset_registers(&registers, versions[i]);
        expect_refused(&registers, SK_ERR_UNSUPPORTED);
    }
}

static void test_virtio_mmio_status__is_one_register(void **state)
{
    struct registers registers;
    struct sk_virtio_transport *transport = open_version(&registers, 2);
    uint32_t status = 0;

    (void)state;
    assert_int_equal(transport->ops->set_status(transport, 11), SK_OK);
    assert_int_equal(transport->ops->get_status(transport, &status), SK_OK);
    assert_int_equal(status, 11);
    EXPECT(&registers, W(STATUS, 11), R(STATUS, 11));
}

static void test_virtio_mmio_features__both_halves(void **state)
{
    struct registers registers;
    struct sk_virtio_transport *transport = open_version(&registers, 2);
    uint64_t features = 0;

    (void)state;
    registers.features[0] = 0x30000224;
    registers.features[1] = 1;
    assert_int_equal(transport->ops->get_features(transport, &features), SK_OK);
    assert_true(features == UINT64_C(0x130000224));
    EXPECT(&registers, W(DEVICE_FEATURES_SEL, 0), R(DEVICE_FEATURES, 0x30000224),
           W(DEVICE_FEATURES_SEL, 1), R(DEVICE_FEATURES, 1));
    assert_int_equal(transport->ops->set_features(transport, UINT64_C(0x800000001)), SK_OK);
    EXPECT(&registers, W(DRIVER_FEATURES_SEL, 0), W(DRIVER_FEATURES, 1), W(DRIVER_FEATURES_SEL, 1),
           W(DRIVER_FEATURES, 8));
    assert_int_equal(transport->ops->set_features(transport, 0), SK_OK);
    assert_int_equal(registers.count, 4);
}

static void test_virtio_mmio_features__legacy_has_the_lower_half(void **state)
{
    struct registers registers;
    struct sk_virtio_transport *transport = open_version(&registers, 1);
    uint64_t features = 0;

    (void)state;
    registers.features[0] = 0x224;
    registers.features[1] = 1;
    assert_int_equal(transport->ops->get_features(transport, &features), SK_OK);
    assert_true(features == 0x224);
    EXPECT(&registers, W(DEVICE_FEATURES_SEL, 0), R(DEVICE_FEATURES, 0x224));
    assert_int_equal(transport->ops->set_features(transport, 0x20), SK_OK);
    EXPECT(&registers, W(DRIVER_FEATURES_SEL, 0), W(DRIVER_FEATURES, 0x20));
    assert_int_equal(transport->ops->set_features(transport, UINT64_C(0x100000000)),
                     SK_ERR_UNSUPPORTED);
    assert_int_equal(registers.count, 0);
}

static void test_virtio_mmio_read_config__has_natural_widths(void **state)
{
    struct registers registers;
    struct sk_virtio_transport *transport = open_version(&registers, 2);
    uint64_t value64 = 0;
    uint32_t value32 = 0;
    uint16_t value16[2] = { 0, 0xaaaa };
    uint8_t value8[2] = { 0, 0xaa };

    (void)state;
    poke(&registers, 0x100, UINT64_C(0x1122334455667788), 8);
    assert_int_equal(transport->ops->read_config(transport, 0, 8, &value64), SK_OK);
    assert_true(value64 == UINT64_C(0x1122334455667788));
    EXPECT(&registers, { 'r', 0x100, 4, 0x55667788 }, { 'r', 0x104, 4, 0x11223344 });
    assert_int_equal(transport->ops->read_config(transport, 4, 4, &value32), SK_OK);
    assert_int_equal(value32, 0x11223344);
    assert_int_equal(transport->ops->read_config(transport, 2, 2, value16), SK_OK);
    assert_int_equal(value16[0], 0x5566);
    assert_int_equal(value16[1], 0xaaaa);
    assert_int_equal(transport->ops->read_config(transport, 7, 1, value8), SK_OK);
    assert_int_equal(value8[0], 0x11);
    assert_int_equal(value8[1], 0xaa);
    EXPECT(&registers, { 'r', 0x104, 4, 0x11223344 }, { 'r', 0x102, 2, 0x5566 },
           { 'r', 0x107, 1, 0x11 });
}

static void test_virtio_mmio_write_config__has_natural_widths(void **state)
{
    struct registers registers;
    struct sk_virtio_transport *transport = open_version(&registers, 2);
    uint64_t value64 = UINT64_C(0x1122334455667788);
    uint32_t value32 = 0xdeadbeef;
    uint16_t value16 = 0xabcd;
    uint8_t value8 = 1;

    (void)state;
    assert_int_equal(transport->ops->write_config(transport, 0, 8, &value64), SK_OK);
    assert_int_equal(transport->ops->write_config(transport, 8, 4, &value32), SK_OK);
    assert_int_equal(transport->ops->write_config(transport, 34, 2, &value16), SK_OK);
    assert_int_equal(transport->ops->write_config(transport, 32, 1, &value8), SK_OK);
    EXPECT(&registers, { 'w', 0x100, 4, 0x55667788 }, { 'w', 0x104, 4, 0x11223344 },
           { 'w', 0x108, 4, 0xdeadbeef }, { 'w', 0x122, 2, 0xabcd }, { 'w', 0x120, 1, 1 });
}

/* Every length of configuration space, every width, every offset. */
static void test_virtio_mmio_config__ends_where_the_range_ends(void **state)
{
    struct registers registers;
    struct sk_virtio_transport *transport = open_version(&registers, 2);

    (void)state;
    for (uint64_t bytes = 0x100; bytes <= 0x100 + 80; bytes++) {
        registers.device.mmio.bytes = bytes;
        registers.mmio.bytes = bytes;
        for (unsigned width = 1; width <= 8; width *= 2) {
            for (uint32_t offset = 0; offset < 96; offset += width == 8 ? 4 : width) {
                bool fits = 0x100 + (uint64_t)offset + width <= bytes;
                uint64_t value = 0x77;

                registers.count = 0;
                assert_int_equal(transport->ops->read_config(transport, offset, width, &value),
                                 fits ? SK_OK : SK_ERR_RANGE);
                assert_true(fits || value == 0x77);
                assert_int_equal(transport->ops->write_config(transport, offset, width, &value),
                                 fits ? SK_OK : SK_ERR_RANGE);
                assert_true(fits == (registers.count != 0));
            }
        }
    }
}

static void test_virtio_mmio_config__odd_access_is_refused(void **state)
{
    static const uint32_t cases[][2] = { { 0, 0 }, { 0, 3 },  { 0, 5 }, { 0, 16 }, { 1, 2 },
                                         { 2, 4 }, { 2, 8 },  { 3, 4 }, { 0, UINT32_MAX } };
    struct registers registers;
    struct sk_virtio_transport *transport = open_version(&registers, 2);
    uint64_t value = 7;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(
            transport->ops->read_config(transport, cases[i][0], cases[i][1], &value),
            SK_ERR_INVALID);
        assert_int_equal(
            transport->ops->write_config(transport, cases[i][0], cases[i][1], &value),
            SK_ERR_INVALID);
    }
    assert_int_equal(transport->ops->read_config(transport, UINT32_MAX, 1, &value), SK_ERR_RANGE);
    assert_int_equal(registers.count, 0);
    assert_true(value == 7);
}

static void test_virtio_mmio_generation__legacy_has_none(void **state)
{
    struct registers registers;
    struct sk_virtio_transport *transport = open_version(&registers, 2);
    uint32_t generation = 1;

    (void)state;
    poke(&registers, VIRTIO_MMIO_CONFIG_GENERATION, 42, 4);
    assert_int_equal(transport->ops->get_generation(transport, &generation), SK_OK);
    assert_int_equal(generation, 42);
    transport = open_version(&registers, 1);
    assert_int_equal(transport->ops->get_generation(transport, &generation), SK_OK);
    assert_int_equal(generation, 0);
    assert_int_equal(registers.count, 0);
}

static void test_virtio_mmio_queue_max__selects_first(void **state)
{
    struct registers registers;
    struct sk_virtio_transport *transport = open_version(&registers, 2);
    uint32_t size = 0;

    (void)state;
    poke(&registers, VIRTIO_MMIO_QUEUE_NUM_MAX, 1024, 4);
    assert_int_equal(transport->ops->get_queue_max(transport, 3, &size), SK_OK);
    assert_int_equal(size, 1024);
    EXPECT(&registers, W(QUEUE_SEL, 3), R(QUEUE_NUM_MAX, 1024));
}

static void test_virtio_mmio_enable_queue__modern_writes_all_and_ready_last(void **state)
{
    const struct sk_virtio_queue_layout layout = {
        .size = 128,
        .descriptors = { UINT64_C(0x4080000000) },
        .driver_area = { UINT64_C(0x4080000800) },
        .device_area = { UINT64_C(0x5080001000) },
    };
    struct registers registers;
    struct sk_virtio_transport *transport = open_version(&registers, 2);

    (void)state;
    assert_int_equal(transport->ops->enable_queue(transport, 1, &layout), SK_OK);
    EXPECT(&registers, W(QUEUE_SEL, 1), R(QUEUE_READY, 0), W(QUEUE_NUM, 128),
           W(QUEUE_DESC_LOW, 0x80000000), W(QUEUE_DESC_HIGH, 0x40), W(QUEUE_AVAIL_LOW, 0x80000800),
           W(QUEUE_AVAIL_HIGH, 0x40), W(QUEUE_USED_LOW, 0x80001000), W(QUEUE_USED_HIGH, 0x50),
           W(QUEUE_READY, 1));
    assert_int_equal(transport->ops->enable_queue(transport, 1, &layout), SK_ERR_BUSY);
    EXPECT(&registers, W(QUEUE_SEL, 1), R(QUEUE_READY, 1));
}

static struct sk_virtio_queue_layout legacy_layout(uint16_t size, uint64_t start)
{
    uint64_t used = (start + 16u * size + 6 + 2u * size + 4095) / 4096 * 4096;

    return (struct sk_virtio_queue_layout){
        .size = size,
        .descriptors = { start },
        .driver_area = { start + 16u * size },
        .device_area = { used },
    };
}

/* A clock that moves by 10 ns at each look. */
static uint64_t tick(void *context)
{
    return *(uint64_t *)context += 10;
}

static enum sk_status reset_queue(struct registers *registers, uint32_t reads, bool keeps)
{
    static uint64_t clock;
    static const struct sk_platform platform = { .context = &clock, .now_ns = tick };
    struct sk_virtio_transport *transport = open_version(registers, 2);

    transport->platform = &platform;
    registers->resetting = reads;
    registers->keeps_queue = keeps;
    poke(registers, VIRTIO_MMIO_QUEUE_READY, 1, 4);
    return transport->ops->reset_queue(transport, 3, 100);
}

#define RESET(kind, value) { kind, QUEUE_RESET, 4, value }

static void test_virtio_mmio_reset_queue__writes_one_and_waits_for_zero(void **state)
{
    struct registers registers;

    (void)state;
    assert_int_equal(reset_queue(&registers, 0, false), SK_OK);
    EXPECT(&registers, W(QUEUE_SEL, 3), RESET('w', 1), RESET('r', 0), R(QUEUE_READY, 0));
    assert_int_equal(reset_queue(&registers, 2, false), SK_OK);
    EXPECT(&registers, W(QUEUE_SEL, 3), RESET('w', 1), RESET('r', 1), RESET('r', 1),
           RESET('r', 0), R(QUEUE_READY, 0));
}

static void test_virtio_mmio_reset_queue__that_does_not_end_or_did_nothing(void **state)
{
    struct registers registers;

    (void)state;
    assert_int_equal(reset_queue(&registers, UINT32_MAX, false), SK_ERR_TIMEOUT);
    assert_in_range(registers.count, 5, 20);
    assert_int_equal(reset_queue(&registers, 0, true), SK_ERR_MALFORMED);
}

static void test_virtio_mmio_reset_queue__legacy_has_none(void **state)
{
    struct registers registers;

    (void)state;
    assert_null(open_version(&registers, 1)->ops->reset_queue);
}

static void test_virtio_mmio_enable_queue__legacy_writes_the_page_number(void **state)
{
    struct sk_virtio_queue_layout layout = legacy_layout(128, 0x80042000);
    struct registers registers;
    struct sk_virtio_transport *transport = open_version(&registers, 1);

    (void)state;
    assert_int_equal(transport->ops->enable_queue(transport, 0, &layout), SK_OK);
    EXPECT(&registers, W(GUEST_PAGE_SIZE, 4096), W(QUEUE_SEL, 0), R(QUEUE_PFN, 0),
           W(QUEUE_NUM, 128), W(QUEUE_ALIGN, 4096), W(QUEUE_PFN, 0x80042));
    assert_int_equal(transport->ops->enable_queue(transport, 0, &layout), SK_ERR_BUSY);
    EXPECT(&registers, W(GUEST_PAGE_SIZE, 4096), W(QUEUE_SEL, 0), R(QUEUE_PFN, 0x80042));
}

static void test_virtio_mmio_enable_queue__legacy_page_must_fit_32_bits(void **state)
{
    struct sk_virtio_queue_layout layout = legacy_layout(128, UINT64_C(0xffffffff000));
    struct registers registers;
    struct sk_virtio_transport *transport = open_version(&registers, 1);

    (void)state;
    assert_int_equal(transport->ops->enable_queue(transport, 0, &layout), SK_OK);
    assert_int_equal(peek(&registers, VIRTIO_MMIO_QUEUE_PFN, 4), UINT32_MAX);
    registers.count = 0;
    layout = legacy_layout(128, UINT64_C(0x100000000000));
    assert_int_equal(transport->ops->enable_queue(transport, 0, &layout), SK_ERR_UNREACHABLE);
    layout = legacy_layout(128, 0);
    assert_int_equal(transport->ops->enable_queue(transport, 0, &layout), SK_ERR_UNREACHABLE);
    assert_int_equal(registers.count, 0);
}

static void test_virtio_mmio_enable_queue__legacy_layout_must_be_contiguous(void **state)
{
    const struct sk_virtio_queue_layout right = legacy_layout(64, 0x80042000);
    struct sk_virtio_queue_layout layout = right;
    struct registers registers;
    struct sk_virtio_transport *transport = open_version(&registers, 1);

    (void)state;
    layout.driver_area.raw += 2;
    assert_int_equal(transport->ops->enable_queue(transport, 0, &layout), SK_ERR_INVALID);
    layout = right;
    layout.device_area.raw += 4096;
    assert_int_equal(transport->ops->enable_queue(transport, 0, &layout), SK_ERR_INVALID);
    layout = right;
    layout.descriptors.raw += 16;
    layout.driver_area.raw += 16;
    layout.device_area.raw += 16;
    assert_int_equal(transport->ops->enable_queue(transport, 0, &layout), SK_ERR_UNREACHABLE);
    assert_int_equal(registers.count, 0);
}

static void test_virtio_mmio_notify__writes_what_it_is_told(void **state)
{
    struct registers registers;
    struct sk_virtio_transport *transport = open_version(&registers, 2);

    (void)state;
    transport->ops->notify(transport, 0x12340001);
    EXPECT(&registers, W(QUEUE_NOTIFY, 0x12340001));
}

static void test_virtio_mmio_take_interrupt__acknowledges_what_it_saw(void **state)
{
    struct registers registers;
    struct sk_virtio_transport *transport = open_version(&registers, 2);

    (void)state;
    for (uint32_t bits = 1; bits <= 3; bits++) {
        poke(&registers, VIRTIO_MMIO_INTERRUPT_STATUS, bits, 4);
        assert_int_equal(transport->ops->take_interrupt(transport), bits);
        EXPECT(&registers, R(INTERRUPT_STATUS, bits), W(INTERRUPT_ACK, bits));
    }
    poke(&registers, VIRTIO_MMIO_INTERRUPT_STATUS, 0, 4);
    assert_int_equal(transport->ops->take_interrupt(transport), 0);
    EXPECT(&registers, R(INTERRUPT_STATUS, 0));
}

static void test_virtio_mmio_take_interrupt__drops_unknown_bits(void **state)
{
    struct registers registers;
    struct sk_virtio_transport *transport = open_version(&registers, 2);

    (void)state;
    poke(&registers, VIRTIO_MMIO_INTERRUPT_STATUS, 0xfffffffd, 4);
    assert_int_equal(transport->ops->take_interrupt(transport), 1);
    EXPECT(&registers, R(INTERRUPT_STATUS, 0xfffffffd), W(INTERRUPT_ACK, 1));
    poke(&registers, VIRTIO_MMIO_INTERRUPT_STATUS, 0xfffffffc, 4);
    assert_int_equal(transport->ops->take_interrupt(transport), 0);
    EXPECT(&registers, R(INTERRUPT_STATUS, 0xfffffffc));
}

/* The same registers without accessor functions. */
static void test_virtio_mmio_open__plain_memory(void **state)
{
    struct registers registers;
    struct sk_virtio_transport *transport;
    uint8_t value = 0;

    (void)state;
    reset_registers(&registers, 2);
    registers.mmio.ops = NULL;
    assert_int_equal(sk_virtio_mmio_open(&registers.device, NULL, &registers.mmio, 0), SK_OK);
    transport = &registers.device.transport;
    transport->ops->notify(transport, 5);
    assert_int_equal(peek(&registers, VIRTIO_MMIO_QUEUE_NOTIFY, 4), 5);
    poke(&registers, 0x100 + 32, 1, 1);
    assert_int_equal(transport->ops->read_config(transport, 32, 1, &value), SK_OK);
    assert_int_equal(value, 1);
    assert_int_equal(registers.count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_virtio_mmio_open__modern_says_what_it_is),
        cmocka_unit_test(test_virtio_mmio_open__legacy_says_what_it_is),
        cmocka_unit_test(test_virtio_mmio_open__empty_slot_is_touched_no_more),
        cmocka_unit_test(test_virtio_mmio_open__short_range_is_refused_untouched),
        cmocka_unit_test(test_virtio_mmio_open__wrong_magic_or_version_is_refused),
        cmocka_unit_test(test_virtio_mmio_status__is_one_register),
        cmocka_unit_test(test_virtio_mmio_features__both_halves),
        cmocka_unit_test(test_virtio_mmio_features__legacy_has_the_lower_half),
        cmocka_unit_test(test_virtio_mmio_read_config__has_natural_widths),
        cmocka_unit_test(test_virtio_mmio_write_config__has_natural_widths),
        cmocka_unit_test(test_virtio_mmio_config__ends_where_the_range_ends),
        cmocka_unit_test(test_virtio_mmio_config__odd_access_is_refused),
        cmocka_unit_test(test_virtio_mmio_generation__legacy_has_none),
        cmocka_unit_test(test_virtio_mmio_queue_max__selects_first),
        cmocka_unit_test(test_virtio_mmio_enable_queue__modern_writes_all_and_ready_last),
        cmocka_unit_test(test_virtio_mmio_reset_queue__writes_one_and_waits_for_zero),
        cmocka_unit_test(test_virtio_mmio_reset_queue__that_does_not_end_or_did_nothing),
        cmocka_unit_test(test_virtio_mmio_reset_queue__legacy_has_none),
        cmocka_unit_test(test_virtio_mmio_enable_queue__legacy_writes_the_page_number),
        cmocka_unit_test(test_virtio_mmio_enable_queue__legacy_page_must_fit_32_bits),
        cmocka_unit_test(test_virtio_mmio_enable_queue__legacy_layout_must_be_contiguous),
        cmocka_unit_test(test_virtio_mmio_notify__writes_what_it_is_told),
        cmocka_unit_test(test_virtio_mmio_take_interrupt__acknowledges_what_it_saw),
        cmocka_unit_test(test_virtio_mmio_take_interrupt__drops_unknown_bits),
        cmocka_unit_test(test_virtio_mmio_open__plain_memory),
    };

    return cmocka_run_group_tests_name("virtio_mmio", tests, NULL, NULL);
}
