/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <skio/address.h>
#include <skio/endian.h>

static const uint8_t bytes[9] = { 0xff, 0x81, 0x02, 0x83, 0x04, 0x85, 0x06, 0x87, 0x08 };

/* The bytes of a wrapped value in memory are those of its byte order, on any machine. */
#define IN_MEMORY(type, value, first)                  \
    do {                                               \
        type wrapped = type##_make(value);             \
        uint8_t memory[sizeof(wrapped)];               \
                                                       \
        memcpy(memory, &wrapped, sizeof(memory));      \
        assert_int_equal(memory[0], first);            \
    } while (0)

static void test_endian_make__bytes_stand_in_their_order(void **state)
{
    (void)state;
    IN_MEMORY(sk_le16, 0x1122, 0x22);
    IN_MEMORY(sk_le32, 0x11223344, 0x44);
    IN_MEMORY(sk_le64, UINT64_C(0x1122334455667788), 0x88);
    IN_MEMORY(sk_be16, 0x1122, 0x11);
    IN_MEMORY(sk_be32, 0x11223344, 0x11);
    IN_MEMORY(sk_be64, UINT64_C(0x1122334455667788), 0x11);
}

static void test_endian_get__gives_back_what_was_made(void **state)
{
    uint64_t value = UINT64_C(0xfedcba9876543210);

    (void)state;
    for (unsigned turn = 0; turn < 64; turn++) {
        value = value << 1 | value >> 63;
        assert_int_equal(sk_le16_get(sk_le16_make((uint16_t)value)), (uint16_t)value);
        assert_int_equal(sk_be16_get(sk_be16_make((uint16_t)value)), (uint16_t)value);
        assert_int_equal(sk_le32_get(sk_le32_make((uint32_t)value)), (uint32_t)value);
        assert_int_equal(sk_be32_get(sk_be32_make((uint32_t)value)), (uint32_t)value);
        assert_true(sk_le64_get(sk_le64_make(value)) == value);
        assert_true(sk_be64_get(sk_be64_make(value)) == value);
    }
}

static void test_endian_load__big_endian_at_odd_addresses(void **state)
{
    (void)state;
    assert_int_equal(sk_endian_load_be32(bytes + 1), 0x81028304u);
    assert_true(sk_endian_load_be64(bytes + 1) == UINT64_C(0x8102830485068708));
}

static void test_endian_load__little_endian_at_odd_addresses(void **state)
{
    (void)state;
    assert_int_equal(sk_endian_load_le16(bytes + 1), 0x0281);
    assert_int_equal(sk_endian_load_le16(bytes), 0x81ff);
    assert_int_equal(sk_endian_load_le32(bytes + 1), 0x04830281u);
    assert_int_equal(sk_endian_load_le32(bytes + 4), 0x87068504u);
    assert_true(sk_endian_load_le64(bytes + 1) == UINT64_C(0x0887068504830281));
}

static void test_address_make__keeps_every_value(void **state)
{
    static const uint64_t values[] = { 0, 1, UINT64_C(0x80000000), UINT64_MAX };

    (void)state;
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        assert_true(sk_paddr_make(values[i]).raw == values[i]);
        assert_true(sk_daddr_make(values[i]).raw == values[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_endian_make__bytes_stand_in_their_order),
        cmocka_unit_test(test_endian_get__gives_back_what_was_made),
        cmocka_unit_test(test_endian_load__big_endian_at_odd_addresses),
        cmocka_unit_test(test_endian_load__little_endian_at_odd_addresses),
        cmocka_unit_test(test_address_make__keeps_every_value),
    };

    return cmocka_run_group_tests_name("endian", tests, NULL, NULL);
}
