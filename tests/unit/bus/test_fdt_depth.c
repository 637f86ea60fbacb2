/* SPDX-License-Identifier: MIT */
/* Trees that nest deeper than a cursor holds: case 40 of docs/hostile-device.md. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <libfdt.h>

#include <skio/fdt.h>

/* A tree of one node in the other, `depth` of them with the root; free() ends it. */
static void *nested(uint32_t depth, size_t *out_bytes)
{
    size_t bytes = 4096 + (size_t)depth * 16;
    void *blob = malloc(bytes);

    assert_non_null(blob);
    assert_int_equal(fdt_create(blob, (int)bytes), 0);
    assert_int_equal(fdt_finish_reservemap(blob), 0);
    for (uint32_t i = 0; i < depth; i++) {
        assert_int_equal(fdt_begin_node(blob, i == 0 ? "" : "n"), 0);
    }
    for (uint32_t i = 0; i < depth; i++) {
        assert_int_equal(fdt_end_node(blob), 0);
    }
    assert_int_equal(fdt_finish(blob), 0);
    *out_bytes = bytes;
    return blob;
}

static void test_hostile_40__deepest_tree_is_read_to_its_end(void **state)
{
    struct sk_fdt fdt;
    struct sk_fdt_node node;
    uint32_t count = 1;
    size_t bytes;
    void *blob = nested(SK_FDT_DEPTH_MAX, &bytes);

    (void)state;
    assert_int_equal(sk_fdt_open(blob, bytes, &fdt), SK_OK);
    assert_int_equal(sk_fdt_root(&fdt, &node), SK_OK);
    while (sk_fdt_next(&fdt, &node) == SK_OK) {
        count++;
        assert_int_equal(node.depth, count);
    }
    assert_int_equal(count, SK_FDT_DEPTH_MAX);
    free(blob);
}

static void test_hostile_40__deeper_trees_are_refused(void **state)
{
    static const uint32_t depths[] = { SK_FDT_DEPTH_MAX + 1, SK_FDT_DEPTH_MAX + 2, 100, 1000,
                                       100000 };

    (void)state;
    for (size_t i = 0; i < sizeof(depths) / sizeof(depths[0]); i++) {
        struct sk_fdt fdt;
        size_t bytes;
        void *blob = nested(depths[i], &bytes);

        assert_int_equal(sk_fdt_open(blob, bytes, &fdt), SK_ERR_MALFORMED);
        assert_null(fdt.blob);
        free(blob);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hostile_40__deepest_tree_is_read_to_its_end),
        cmocka_unit_test(test_hostile_40__deeper_trees_are_refused),
    };

    return cmocka_run_group_tests_name("fdt_depth", tests, NULL, NULL);
}
