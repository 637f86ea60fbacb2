/* SPDX-License-Identifier: MIT */
/*
 * Cases 38 to 41 of docs/hostile-device.md: trees that were made to hurt.  All
 * lie in memory exactly as long as they are.
 */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <skio/fdt.h>

#include "oracle/fdt_blob.h"
#include "oracle/fdt_oracle.h"

#define SKIPPED 77
#define HEADER_BYTES 40u

enum { TOTAL = 4, STRUCTURE = 8, STRINGS = 12, RESERVATIONS = 16, STRINGS_BYTES = 32 };
enum { BEGIN = 1, END_NODE = 2, PROPERTY = 3, END = 9 };

/* A tree under construction: one block after another. */
struct maker {
    uint8_t *bytes;
    size_t used;
    size_t capacity;
};

static uint32_t load(const uint8_t *from)
{
    return (uint32_t)from[0] << 24 | (uint32_t)from[1] << 16 | (uint32_t)from[2] << 8 | from[3];
}

static void store(uint8_t *to, uint32_t value)
{
    for (int i = 0; i < 4; i++) {
        to[i] = (uint8_t)(value >> (24 - 8 * i));
    }
}

static void put(struct maker *maker, uint32_t value)
{
    assert_true(maker->used + 4 <= maker->capacity);
    store(maker->bytes + maker->used, value);
    maker->used += 4;
}

static struct maker make(size_t capacity)
{
    struct maker maker = { malloc(capacity), 0, capacity };
    const uint32_t header[] = { 0xd00dfeed, 0, 0, 0, HEADER_BYTES, 17, 16, 0, 0, 0 };

    assert_non_null(maker.bytes);
    for (size_t i = 0; i < sizeof(header) / sizeof(header[0]); i++) {
        put(&maker, header[i]);
    }
    return maker;
}

static void start_structure(struct maker *maker)
{
    store(maker->bytes + STRUCTURE, (uint32_t)maker->used);
}

static void end_structure(struct maker *maker)
{
    store(maker->bytes + 36, (uint32_t)maker->used - load(maker->bytes + STRUCTURE));
}

/* Ends the blob with the strings, in memory that ends there too. */
static uint8_t *finish(struct maker *maker, const char *strings, size_t bytes, size_t *out_bytes)
{
    uint8_t *exact;

    store(maker->bytes + STRINGS, (uint32_t)maker->used);
    store(maker->bytes + STRINGS_BYTES, (uint32_t)bytes);
    assert_true(maker->used + bytes <= maker->capacity);
    memcpy(maker->bytes + maker->used, strings, bytes);
    *out_bytes = maker->used + bytes;
    store(maker->bytes + TOTAL, (uint32_t)*out_bytes);
    exact = fdt_blob_copy(maker->bytes, *out_bytes);
    free(maker->bytes);
    return exact;
}

static void no_reservations(struct maker *maker)
{
    for (int i = 0; i < 4; i++) {
        put(maker, 0);
    }
}

/* Opens, and if it opens, asks everything; libfdt must have the same answers. */
static void survive(const uint8_t *blob, size_t bytes, const char *what, size_t at, uint32_t value)
{
    (void)snprintf(fdt_oracle_context, sizeof(fdt_oracle_context), "%s: %" PRIx32 " at %zu", what,
                   value, at);
    (void)fdt_oracle_compare(blob, bytes);
    fdt_oracle_exercise(blob, bytes);
}

/* Puts each of the nasty numbers into each word of [start, end). */
static void overwrite_words(const char *tree, size_t start, size_t end)
{
    size_t bytes;
    uint8_t *original = fdt_blob_read(fdt_blob_named(tree), &bytes);

    for (size_t at = start; at < end && at + 4 <= bytes; at += 4) {
        uint32_t was = load(original + at);
        const uint32_t values[] = { 0,          1,          was + 1,
                                    was - 1,    was + 4,    0x7fffffff,
                                    0x7ffffffc, 0x80000000, 0xfffffff4,
                                    0xfffffffc, 0xffffffff, (uint32_t)bytes,
                                    0u - was,   4u - was,   (uint32_t)bytes - 4 };

        for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
            uint8_t *blob = fdt_blob_copy(original, bytes);

            store(blob + at, values[i]);
            survive(blob, bytes, tree, at, values[i]);
            free(blob);
        }
    }
    free(original);
}

static void test_hostile_38__every_word_of_the_header(void **state)
{
    (void)state;
    overwrite_words("reserved", 0, HEADER_BYTES);
    overwrite_words("version16", 0, HEADER_BYTES);
}

static void test_hostile_38__every_word_behind_the_header(void **state)
{
    (void)state;
    overwrite_words("reserved", HEADER_BYTES, SIZE_MAX);
    overwrite_words("version16", HEADER_BYTES, SIZE_MAX);
    overwrite_words("chosen_alias", HEADER_BYTES, SIZE_MAX);
}

static void test_hostile_38__a_property_as_long_as_memory_is_malformed(void **state)
{
    (void)state;
    for (uint32_t length = UINT32_MAX; length > UINT32_MAX - 64; length--) {
        struct maker maker = make(256);
        struct sk_fdt fdt;
        size_t bytes;
        uint8_t *blob;

        no_reservations(&maker);
        start_structure(&maker);
        put(&maker, BEGIN);
        put(&maker, 0);
        put(&maker, PROPERTY);
        put(&maker, length);
        put(&maker, 0);
        put(&maker, END_NODE);
        put(&maker, END);
        end_structure(&maker);
        blob = finish(&maker, "a", 2, &bytes);
        assert_int_equal(sk_fdt_open(blob, bytes, &fdt), SK_ERR_MALFORMED);
        free(blob);
    }
}

static void test_hostile_39__a_claim_beyond_the_buffer_is_a_size(void **state)
{
    static const uint32_t more[] = { 1, 3, 4, 8, 4096, 0x7fffffff };
    size_t bytes;
    uint8_t *blob = fdt_blob_read(fdt_blob_named("reserved"), &bytes);
    struct sk_fdt fdt;

    (void)state;
    for (size_t i = 0; i < sizeof(more) / sizeof(more[0]); i++) {
        store(blob + TOTAL, (uint32_t)bytes + more[i]);
        assert_int_equal(sk_fdt_open(blob, bytes, &fdt), SK_ERR_SIZE);
        assert_null(fdt.blob);
    }
    store(blob + TOTAL, UINT32_MAX);
    assert_int_equal(sk_fdt_open(blob, bytes, &fdt), SK_ERR_SIZE);
    free(blob);
}

static void test_hostile_39__blocks_that_lie_askew_or_on_each_other_are_malformed(void **state)
{
    size_t bytes;
    uint8_t *blob = fdt_blob_read(fdt_blob_named("reserved"), &bytes);
    uint32_t structure = load(blob + STRUCTURE);
    uint32_t reservations = load(blob + RESERVATIONS);
    uint32_t strings = load(blob + STRINGS);
    struct sk_fdt fdt;

    (void)state;
    for (uint32_t shift = 1; shift < 8; shift++) {
        store(blob + RESERVATIONS, reservations + shift);
        assert_int_equal(sk_fdt_open(blob, bytes, &fdt), SK_ERR_MALFORMED);
        store(blob + RESERVATIONS, reservations);
        store(blob + STRUCTURE, structure + shift);
        assert_int_equal(sk_fdt_open(blob, bytes, &fdt), SK_ERR_MALFORMED);
        store(blob + STRUCTURE, structure);
    }
    for (uint32_t at = structure; at < strings; at += 4) { /* names that are made of tags */
        store(blob + STRINGS, at);
        assert_int_equal(sk_fdt_open(blob, bytes, &fdt), SK_ERR_MALFORMED);
    }
    store(blob + STRINGS, 0);
    assert_int_equal(sk_fdt_open(blob, bytes, &fdt), SK_ERR_MALFORMED);
    store(blob + STRINGS, strings);
    assert_int_equal(sk_fdt_open(blob, bytes, &fdt), SK_OK);
    free(blob);
}

/* `levels` nodes in each other, of which `closed` end. */
static uint8_t *nest(uint32_t levels, uint32_t closed, size_t *out_bytes)
{
    struct maker maker = make(HEADER_BYTES + 64 + (size_t)levels * 8 + (size_t)closed * 4);

    no_reservations(&maker);
    start_structure(&maker);
    for (uint32_t i = 0; i < levels; i++) {
        put(&maker, BEGIN);
        put(&maker, i == 0 ? 0 : 0x61000000);
    }
    for (uint32_t i = 0; i < closed; i++) {
        put(&maker, END_NODE);
    }
    put(&maker, END);
    end_structure(&maker);
    return finish(&maker, "", 1, out_bytes);
}

static void test_hostile_40__depth_has_an_end(void **state)
{
    static const uint32_t levels[] = { 1, 2, 31, 32, 33, 34, 64, 1000, 100000 };

    (void)state;
    for (size_t i = 0; i < sizeof(levels) / sizeof(levels[0]); i++) {
        uint32_t count = levels[i];
        size_t bytes;
        struct sk_fdt fdt;
        uint8_t *blob = nest(count, count, &bytes);

        assert_int_equal(sk_fdt_open(blob, bytes, &fdt),
                         count <= SK_FDT_DEPTH_MAX ? SK_OK : SK_ERR_MALFORMED);
        survive(blob, bytes, "nest", 0, count);
        free(blob);
        blob = nest(count, count - 1, &bytes); /* one is not closed */
        assert_int_equal(sk_fdt_open(blob, bytes, &fdt), SK_ERR_MALFORMED);
        free(blob);
        blob = nest(count, count + 1, &bytes); /* one is closed twice */
        assert_int_equal(sk_fdt_open(blob, bytes, &fdt), SK_ERR_MALFORMED);
        free(blob);
    }
}

/* A cursor that somebody scribbled on, or that belongs to another tree. */
static void test_hostile_40__a_forged_cursor_reads_nothing(void **state)
{
    static const uint32_t depths[] = { 0, SK_FDT_DEPTH_MAX + 1, 1000, UINT32_MAX };
    static const uint32_t offsets[] = { 1, 2, 3, 0x7ffffffc, 0x80000000, 0xfffffffc, UINT32_MAX };
    size_t bytes;
    uint8_t *blob = nest(32, 32, &bytes);
    struct sk_fdt_property property;
    struct sk_fdt_node other;
    struct sk_fdt fdt;
    const char *name;

    (void)state;
    assert_int_equal(sk_fdt_open(blob, bytes, &fdt), SK_OK);
    for (size_t i = 0; i < sizeof(depths) / sizeof(depths[0]); i++) {
        struct sk_fdt_node node = { .depth = depths[i] };

        assert_int_equal(sk_fdt_next(&fdt, &node), SK_ERR_INVALID);
        assert_int_equal(sk_fdt_child(&fdt, &node, &other), SK_ERR_INVALID);
        assert_int_equal(sk_fdt_sibling(&fdt, &node, &other), SK_ERR_INVALID);
        assert_int_equal(sk_fdt_parent(&fdt, &node, &other), SK_ERR_INVALID);
        assert_int_equal(sk_fdt_name(&fdt, &node, &name), SK_ERR_INVALID);
        assert_int_equal(sk_fdt_property_at(&fdt, &node, 0, &property), SK_ERR_INVALID);
        assert_false(sk_fdt_is_enabled(&fdt, &node));
    }
    for (size_t i = 0; i < sizeof(offsets) / sizeof(offsets[0]); i++) {
        struct sk_fdt_node node = { .depth = 1, .path = { offsets[i] } };

        assert_int_equal(sk_fdt_next(&fdt, &node), SK_ERR_MALFORMED);
        assert_int_equal(sk_fdt_name(&fdt, &node, &name), SK_ERR_MALFORMED);
        assert_int_equal(sk_fdt_property_at(&fdt, &node, 0, &property), SK_ERR_MALFORMED);
    }
    /* A full cursor: what lies below the deepest has no room in it. */
    for (uint32_t offset = 0; offset < 32 * 8; offset += 8) {
        struct sk_fdt_node node = { .depth = SK_FDT_DEPTH_MAX };

        node.path[SK_FDT_DEPTH_MAX - 1] = offset;
        assert_int_equal(sk_fdt_next(&fdt, &node),
                         offset == 31 * 8 ? SK_ERR_NOT_FOUND : SK_ERR_MALFORMED);
    }
    free(blob);
}

/* Buses that each let everything through twice: 2^30 windows, were they counted out. */
static void test_hostile_40__windows_that_double_at_each_bus_are_given_up(void **state)
{
    static const char strings[] = "#address-cells\0#size-cells\0dma-ranges";
    struct maker maker = make(4096);
    struct sk_dma_window windows[SK_FDT_DMA_WINDOWS_MAX];
    struct sk_fdt_node node = { 0 };
    struct sk_fdt fdt;
    size_t count = 0;
    size_t bytes;
    uint8_t *blob;

    (void)state;
    no_reservations(&maker);
    start_structure(&maker);
    for (int i = 0; i < 32; i++) {
        const uint32_t one_cell[] = { PROPERTY, 4, 0, 1, PROPERTY, 4, 15, 1, PROPERTY, 24, 27 };
        const uint32_t twice[] = { 0, 0, 0x1000, 0, 0, 0x1000 };

        put(&maker, BEGIN);
        put(&maker, i == 0 ? 0 : 0x61000000);
        for (size_t j = 0; j < sizeof(one_cell) / sizeof(one_cell[0]); j++) {
            put(&maker, one_cell[j]);
        }
        for (size_t j = 0; j < sizeof(twice) / sizeof(twice[0]); j++) {
            put(&maker, twice[j]);
        }
    }
    for (int i = 0; i < 32; i++) {
        put(&maker, END_NODE);
    }
    put(&maker, END);
    end_structure(&maker);
    blob = finish(&maker, strings, sizeof(strings), &bytes);
    assert_int_equal(sk_fdt_open(blob, bytes, &fdt), SK_OK);
    assert_int_equal(sk_fdt_root(&fdt, &node), SK_OK);
    for (uint32_t depth = 1; depth < 32; depth++) {
        assert_int_equal(sk_fdt_next(&fdt, &node), SK_OK);
        assert_int_equal(sk_fdt_dma_windows(&fdt, &node, windows, SK_FDT_DMA_WINDOWS_MAX, &count),
                         depth - 1 <= 4 ? SK_OK : SK_ERR_RANGE);
        assert_int_equal(count, depth - 1 <= 4 ? 1u << (depth - 1) : SK_FDT_DMA_WINDOWS_MAX);
    }
    free(blob);
}

/* A name of each kind that leads back to where it was asked for. */
static void test_hostile_40__names_that_lead_in_circles_are_malformed(void **state)
{
    static const char strings[] = "interrupt-parent\0phandle\0interrupts";
    struct maker maker = make(512);
    const uint32_t properties[] = { PROPERTY, 4, 0, 7, PROPERTY, 4, 17, 7, PROPERTY, 4, 25, 1 };
    struct sk_interrupt interrupt;
    struct sk_fdt_node node = { 0 };
    struct sk_fdt fdt;
    size_t bytes;
    uint8_t *blob;

    (void)state;
    no_reservations(&maker);
    start_structure(&maker);
    put(&maker, BEGIN);
    put(&maker, 0);
    for (size_t i = 0; i < sizeof(properties) / sizeof(properties[0]); i++) {
        put(&maker, properties[i]);
    }
    put(&maker, END_NODE);
    put(&maker, END);
    end_structure(&maker);
    blob = finish(&maker, strings, sizeof(strings), &bytes);
    assert_int_equal(sk_fdt_open(blob, bytes, &fdt), SK_OK);
    assert_int_equal(sk_fdt_root(&fdt, &node), SK_OK);
    assert_int_equal(sk_fdt_interrupt(&fdt, &node, 0, &interrupt), SK_ERR_MALFORMED);
    free(blob);

    blob = fdt_blob_read(fdt_blob_named("chosen_loop"), &bytes);
    assert_int_equal(sk_fdt_open(blob, bytes, &fdt), SK_OK);
    assert_int_equal(sk_fdt_stdout(&fdt, &node), SK_ERR_MALFORMED);
    free(blob);
}

/* The reservation block is the last one here: behind it is nothing. */
static void test_hostile_41__reservations_without_an_end_are_malformed(void **state)
{
    (void)state;
    for (uint32_t entries = 0; entries < 40; entries++) {
        struct maker maker = make(2048);
        struct sk_fdt fdt;
        size_t bytes;
        uint8_t *blob;

        start_structure(&maker);
        put(&maker, BEGIN);
        put(&maker, 0);
        put(&maker, END_NODE);
        put(&maker, END);
        end_structure(&maker);
        store(maker.bytes + RESERVATIONS, (uint32_t)maker.used);
        for (uint32_t i = 0; i < 4 * entries; i++) {
            put(&maker, i % 4 == 3 ? entries % 2 : 1); /* of no bytes in even rounds */
        }
        blob = finish(&maker, "abc", entries % 3, &bytes); /* cut inside an entry, too */
        assert_int_equal(sk_fdt_open(blob, bytes, &fdt), SK_ERR_MALFORMED);
        assert_null(fdt.blob);
        free(blob);
    }
}

static void test_hostile_41__names_and_strings_without_an_end_are_malformed(void **state)
{
    struct maker maker = make(256);
    struct sk_fdt fdt;
    size_t bytes;
    uint8_t *blob;

    (void)state;
    no_reservations(&maker);
    start_structure(&maker);
    put(&maker, BEGIN);
    put(&maker, 0);
    put(&maker, BEGIN);
    put(&maker, 0x61616161); /* the block ends in the name */
    end_structure(&maker);
    blob = finish(&maker, "", 0, &bytes);
    assert_int_equal(sk_fdt_open(blob, bytes, &fdt), SK_ERR_MALFORMED);
    free(blob);

    maker = make(256);
    no_reservations(&maker);
    start_structure(&maker);
    put(&maker, BEGIN);
    put(&maker, 0);
    put(&maker, PROPERTY);
    put(&maker, 0);
    put(&maker, 0);
    put(&maker, END_NODE);
    put(&maker, END);
    end_structure(&maker);
    blob = finish(&maker, "abc", 3, &bytes); /* no zero behind it */
    assert_int_equal(sk_fdt_open(blob, bytes, &fdt), SK_ERR_MALFORMED);
    free(blob);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hostile_38__every_word_of_the_header),
        cmocka_unit_test(test_hostile_38__every_word_behind_the_header),
        cmocka_unit_test(test_hostile_38__a_property_as_long_as_memory_is_malformed),
        cmocka_unit_test(test_hostile_39__a_claim_beyond_the_buffer_is_a_size),
        cmocka_unit_test(test_hostile_39__blocks_that_lie_askew_or_on_each_other_are_malformed),
        cmocka_unit_test(test_hostile_40__depth_has_an_end),
        cmocka_unit_test(test_hostile_40__a_forged_cursor_reads_nothing),
        cmocka_unit_test(test_hostile_40__windows_that_double_at_each_bus_are_given_up),
        cmocka_unit_test(test_hostile_40__names_that_lead_in_circles_are_malformed),
        cmocka_unit_test(test_hostile_41__reservations_without_an_end_are_malformed),
        cmocka_unit_test(test_hostile_41__names_and_strings_without_an_end_are_malformed),
    };

    if (fdt_blob_trees[0] == NULL) {
        (void)puts("skipped: needs dtc");
        return SKIPPED;
    }
    return cmocka_run_group_tests_name("fdt_hostile", tests, NULL, NULL);
}
