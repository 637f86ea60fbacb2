/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "support/environment.h"

#define SLOTS_MAX 64

struct fixture {
    struct test_environment env;
    struct sk_io_buffer buffer;
    struct sk_io_pool pool;
    uint32_t metadata[SLOTS_MAX * 2];
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    assert_non_null(f);
    test_environment_init(&f->env, 16);
    assert_int_equal(sk_io_buffer_create(&f->buffer, &f->env.domain, 8000, SK_IO_BUFFER_ALIGNMENT),
                     SK_OK);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    assert_false(sk_io_buffer_is_busy(&f->buffer));
    if (sk_io_buffer_is_valid(&f->buffer)) {
        assert_int_equal(sk_io_buffer_destroy(&f->buffer), SK_OK);
    }
    test_environment_deinit(&f->env);
    free(f);
    return 0;
}

static void start(struct fixture *f, uint64_t slot_bytes, uint64_t alignment)
{
    assert_int_equal(sk_io_pool_init(&f->pool, &f->buffer, slot_bytes, alignment, f->metadata,
                                     sizeof(f->metadata)),
                     SK_OK);
}

static void stop(struct fixture *f)
{
    assert_int_equal(sk_io_pool_deinit(&f->pool), SK_OK);
}

static void test_io_pool_metadata_bytes__five_bytes_a_slot(void **state)
{
    (void)state;
    assert_int_equal(sk_io_pool_metadata_bytes(0), 0);
    assert_int_equal(sk_io_pool_metadata_bytes(1), 5);
    assert_int_equal(sk_io_pool_metadata_bytes(1000), 5000);
    assert_int_equal(sk_io_pool_metadata_bytes(SK_IO_POOL_SLOTS_MAX),
                     (size_t)5 * SK_IO_POOL_SLOTS_MAX);
    assert_int_equal(sk_io_pool_metadata_bytes(SK_IO_POOL_SLOTS_MAX + 1), 0);
}

static void test_io_pool_init__cuts_as_many_slots_as_fit(void **state)
{
    struct fixture *f = *state;

    start(f, 1000, 1);
    assert_int_equal(sk_io_pool_slot_count(&f->pool), 8);
    assert_int_equal(sk_io_pool_free_count(&f->pool), 8);
    assert_true(sk_io_buffer_is_busy(&f->buffer));
    assert_int_equal(sk_io_buffer_destroy(&f->buffer), SK_ERR_BUSY);
    stop(f);
    start(f, 1000, 512); /* 1024 each: the size counts, not the capacity */
    assert_int_equal(sk_io_pool_slot_count(&f->pool), 7);
    stop(f);
    start(f, 8000, 1);
    assert_int_equal(sk_io_pool_slot_count(&f->pool), 1);
    stop(f);
}

static void test_io_pool_init__metadata_limits_the_slots(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(sk_io_pool_init(&f->pool, &f->buffer, 100, 4, f->metadata, 5 * 3 + 4), SK_OK);
    assert_int_equal(sk_io_pool_slot_count(&f->pool), 3);
    stop(f);
    assert_int_equal(sk_io_pool_init(&f->pool, &f->buffer, 100, 4, f->metadata, 4), SK_ERR_SIZE);
}

/* An init that is refused leaves an empty pool and a free buffer. */
static void refuse_init(struct fixture *f, uint64_t slot_bytes, uint64_t alignment, void *metadata,
                        enum sk_status expected)
{
    struct sk_io_pool zero;
    struct sk_io_slot slot;

    memset(&zero, 0, sizeof(zero));
    memset(&f->pool, 0xee, sizeof(f->pool));
    assert_int_equal(sk_io_pool_init(&f->pool, &f->buffer, slot_bytes, alignment, metadata,
                                     sizeof(f->metadata)),
                     expected);
    assert_memory_equal(&f->pool, &zero, sizeof(zero));
    assert_false(sk_io_buffer_is_busy(&f->buffer));
    assert_int_equal(sk_io_pool_get(&f->pool, &slot), SK_ERR_NO_MEMORY);
    assert_int_equal(sk_io_pool_put(&f->pool, 0), SK_ERR_RANGE);
    assert_int_equal(sk_io_pool_deinit(&f->pool), SK_ERR_GONE);
    assert_int_equal(sk_io_pool_slot_count(&f->pool), 0);
    assert_int_equal(sk_io_pool_free_count(&f->pool), 0);
}

static void test_io_pool_init__bad_arguments_are_refused(void **state)
{
    struct fixture *f = *state;

    refuse_init(f, 0, 1, f->metadata, SK_ERR_SIZE);
    refuse_init(f, 8001, 1, f->metadata, SK_ERR_SIZE);
    refuse_init(f, UINT64_MAX, 4096, f->metadata, SK_ERR_SIZE);
    refuse_init(f, 64, 0, f->metadata, SK_ERR_ALIGNMENT);
    refuse_init(f, 64, 3, f->metadata, SK_ERR_ALIGNMENT);
    refuse_init(f, 64, 64, (uint8_t *)f->metadata + 1, SK_ERR_ALIGNMENT);
    refuse_init(f, 64, UINT64_C(1) << 62, f->metadata, SK_ERR_ALIGNMENT);
    refuse_init(f, 64, 64, NULL, SK_ERR_INVALID);
    assert_int_equal(sk_io_pool_init(NULL, &f->buffer, 64, 64, f->metadata, sizeof(f->metadata)),
                     SK_ERR_INVALID);
    assert_int_equal(sk_io_pool_init(&f->pool, NULL, 64, 64, f->metadata, sizeof(f->metadata)),
                     SK_ERR_INVALID);
}

static void test_io_pool_init__metadata_in_the_buffer_is_refused(void **state)
{
    struct fixture *f = *state;
    uint8_t *data = sk_io_buffer_data(&f->buffer);

    refuse_init(f, 64, 64, data, SK_ERR_INVALID);
    refuse_init(f, 64, 64, data + 8188, SK_ERR_INVALID); /* in the tail, up to the capacity */
    refuse_init(f, 64, 64, data - 4, SK_ERR_INVALID);
}

static void test_io_pool_init__invalid_buffer_is_refused(void **state)
{
    struct fixture *f = *state;
    struct sk_io_buffer other = SK_IO_BUFFER_EMPTY;

    assert_int_equal(sk_io_buffer_move(&other, &f->buffer), SK_OK);
    refuse_init(f, 64, 64, f->metadata, SK_ERR_MOVED);
    assert_int_equal(sk_io_buffer_destroy(&other), SK_OK);
    assert_int_equal(sk_io_pool_init(&f->pool, &other, 64, 64, f->metadata, sizeof(f->metadata)),
                     SK_ERR_GONE);
}

static void test_io_pool_get__hands_out_every_slot_once(void **state)
{
    struct fixture *f = *state;
    struct sk_io_slot slot;
    sk_daddr address;

    start(f, 1000, 8);
    assert_int_equal(sk_io_buffer_address(&f->buffer, &address), SK_OK);
    for (uint32_t i = 0; i < 8; i++) {
        assert_int_equal(sk_io_pool_get(&f->pool, &slot), SK_OK);
        assert_int_equal(slot.index, i);
        assert_ptr_equal(slot.data, (uint8_t *)sk_io_buffer_data(&f->buffer) + i * 1000);
        assert_int_equal(slot.address.raw, address.raw + i * 1000);
        assert_int_equal(sk_io_pool_free_count(&f->pool), 7 - i);
    }
    slot.index = 77;
    assert_int_equal(sk_io_pool_get(&f->pool, &slot), SK_ERR_NO_MEMORY);
    assert_int_equal(slot.index, 77);
    for (uint32_t i = 0; i < 8; i++) {
        assert_int_equal(sk_io_pool_put(&f->pool, i), SK_OK);
    }
    stop(f);
}

static void test_io_pool_get__the_slot_put_last_comes_first(void **state)
{
    struct fixture *f = *state;
    struct sk_io_slot slots[3];

    start(f, 64, 64);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(sk_io_pool_get(&f->pool, &slots[i]), SK_OK);
    }
    assert_int_equal(sk_io_pool_put(&f->pool, 2), SK_OK);
    assert_int_equal(sk_io_pool_put(&f->pool, 0), SK_OK);
    assert_int_equal(sk_io_pool_get(&f->pool, &slots[0]), SK_OK);
    assert_int_equal(slots[0].index, 0);
    assert_int_equal(sk_io_pool_put(&f->pool, 0), SK_OK);
    assert_int_equal(sk_io_pool_put(&f->pool, 1), SK_OK);
    stop(f);
}

static void test_io_pool_put__what_is_not_out_changes_nothing(void **state)
{
    struct fixture *f = *state;
    struct sk_io_slot slot;

    start(f, 1000, 1);
    assert_int_equal(sk_io_pool_put(&f->pool, 0), SK_ERR_GONE); /* never got */
    assert_int_equal(sk_io_pool_get(&f->pool, &slot), SK_OK);
    assert_int_equal(sk_io_pool_put(&f->pool, 8), SK_ERR_RANGE);
    assert_int_equal(sk_io_pool_put(&f->pool, UINT32_MAX), SK_ERR_RANGE);
    assert_int_equal(sk_io_pool_free_count(&f->pool), 7);
    assert_int_equal(sk_io_pool_put(&f->pool, slot.index), SK_OK);
    assert_int_equal(sk_io_pool_put(&f->pool, slot.index), SK_ERR_GONE); /* twice */
    assert_int_equal(sk_io_pool_free_count(&f->pool), 8);
    assert_int_equal(f->env.lines[SK_LOG_ERROR], 4);
    stop(f);
}

static void test_io_pool_put__a_storm_of_double_puts_logs_little(void **state)
{
    struct fixture *f = *state;

    start(f, 1000, 1);
    for (unsigned i = 0; i < 1000; i++) {
        assert_int_equal(sk_io_pool_put(&f->pool, i % 16), i % 16 < 8 ? SK_ERR_GONE : SK_ERR_RANGE);
    }
    assert_in_range(f->env.lines[SK_LOG_ERROR], 4, 12);
    stop(f);
}

static void test_io_pool_deinit__busy_until_every_slot_is_back(void **state)
{
    struct fixture *f = *state;
    struct sk_io_slot slot;

    assert_int_equal(sk_io_pool_deinit(NULL), SK_ERR_GONE);
    start(f, 1000, 1);
    assert_int_equal(sk_io_pool_get(&f->pool, &slot), SK_OK);
    assert_int_equal(sk_io_pool_deinit(&f->pool), SK_ERR_BUSY);
    assert_true(sk_io_buffer_is_busy(&f->buffer));
    assert_int_equal(sk_io_pool_put(&f->pool, slot.index), SK_OK);
    assert_int_equal(sk_io_pool_deinit(&f->pool), SK_OK);
    assert_false(sk_io_buffer_is_busy(&f->buffer));
    assert_int_equal(sk_io_pool_deinit(&f->pool), SK_ERR_GONE);
}

static void test_io_pool_deinit__moved_buffer_changes_nothing(void **state)
{
    struct fixture *f = *state;
    struct sk_io_buffer other = SK_IO_BUFFER_EMPTY;

    start(f, 1000, 1);
    assert_int_equal(sk_io_buffer_move(&other, &f->buffer), SK_OK);
    assert_int_equal(sk_io_pool_deinit(&f->pool), SK_ERR_MOVED);
    assert_int_equal(sk_io_pool_slot_count(&f->pool), 8);
    assert_int_equal(sk_io_buffer_move(&f->buffer, &other), SK_OK);
    stop(f);
}

static void test_io_pool_get__random_calls_match_the_model(void **state)
{
    struct fixture *f = *state;
    const uint64_t seed = 0x5eed;
    uint64_t random = seed;
    bool is_out[SLOTS_MAX] = { false };
    uint32_t out_count = 0;
    struct sk_io_slot slot;

    start(f, 125, 1);
    assert_int_equal(sk_io_pool_slot_count(&f->pool), SLOTS_MAX);
    for (unsigned step = 0; step < 100000; step++) {
        uint32_t index = (uint32_t)((random = random * UINT64_C(6364136223846793005) + 1) >> 58);
        bool is_agreed = true;

        if (random & (UINT64_C(1) << 40)) {
            enum sk_status status = sk_io_pool_get(&f->pool, &slot);

            is_agreed = status == (out_count < SLOTS_MAX ? SK_OK : SK_ERR_NO_MEMORY);
            if (status == SK_OK) {
                is_agreed = is_agreed && slot.index < SLOTS_MAX && !is_out[slot.index];
                is_out[slot.index] = true;
                out_count++;
            }
        } else {
            is_agreed = sk_io_pool_put(&f->pool, index) == (is_out[index] ? SK_OK : SK_ERR_GONE);
            out_count -= is_out[index];
            is_out[index] = false;
        }
        if (!is_agreed || sk_io_pool_free_count(&f->pool) != SLOTS_MAX - out_count) {
            fail_msg("at step %u of seed 0x%llx", step, (unsigned long long)seed);
        }
    }
    for (uint32_t i = 0; i < SLOTS_MAX; i++) {
        if (is_out[i]) {
            assert_int_equal(sk_io_pool_put(&f->pool, i), SK_OK);
        }
    }
    stop(f);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_io_pool_metadata_bytes__five_bytes_a_slot),
        TEST(test_io_pool_init__cuts_as_many_slots_as_fit),
        TEST(test_io_pool_init__metadata_limits_the_slots),
        TEST(test_io_pool_init__bad_arguments_are_refused),
        TEST(test_io_pool_init__metadata_in_the_buffer_is_refused),
        TEST(test_io_pool_init__invalid_buffer_is_refused),
        TEST(test_io_pool_get__hands_out_every_slot_once),
        TEST(test_io_pool_get__the_slot_put_last_comes_first),
        TEST(test_io_pool_put__what_is_not_out_changes_nothing),
        TEST(test_io_pool_put__a_storm_of_double_puts_logs_little),
        TEST(test_io_pool_deinit__busy_until_every_slot_is_back),
        TEST(test_io_pool_deinit__moved_buffer_changes_nothing),
        TEST(test_io_pool_get__random_calls_match_the_model),
    };

    return cmocka_run_group_tests_name("io_pool", tests, NULL, NULL);
}
