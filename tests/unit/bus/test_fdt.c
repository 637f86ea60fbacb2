/* SPDX-License-Identifier: MIT */
/*
 * The contract's plain cases and its refusals.  What trees of all kinds say is
 * test_fdt_oracle's, damaged trees are test_fdt_mutation's.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <libfdt.h>

#include <skio/fdt.h>

#include "oracle/fdt_blob.h"

#define SKIPPED 77

struct tree {
    uint8_t *blob;
    struct sk_fdt fdt;
    struct sk_fdt_node root;
};

static struct tree open_tree(const char *name)
{
    struct tree tree;
    size_t bytes;

    tree.blob = fdt_blob_read(fdt_blob_named(name), &bytes);
    assert_int_equal(sk_fdt_open(tree.blob, bytes, &tree.fdt), SK_OK);
    assert_int_equal(sk_fdt_root(&tree.fdt, &tree.root), SK_OK);
    return tree;
}

static struct sk_fdt_node find(const struct tree *tree, const char *path)
{
    struct sk_fdt_node node = { 0 };

    assert_int_equal(sk_fdt_find_path(&tree->fdt, path, &node), SK_OK);
    return node;
}

static void check_name(const struct tree *tree, const struct sk_fdt_node *node, const char *name)
{
    const char *found = NULL;

    assert_int_equal(sk_fdt_name(&tree->fdt, node, &found), SK_OK);
    assert_string_equal(found, name);
}

static void test_fdt_open__minimal_tree_has_a_root(void **state)
{
    static _Alignas(8) uint8_t blob[512];
    struct sk_fdt fdt;
    struct sk_fdt_node node;
    const char *name;

    (void)state;
    assert_int_equal(fdt_create_empty_tree(blob, sizeof(blob)), 0);
    assert_int_equal(sk_fdt_open(blob, sizeof(blob), &fdt), SK_OK);
    assert_int_equal(sk_fdt_claimed_bytes(blob), sizeof(blob));
    assert_int_equal(sk_fdt_root(&fdt, &node), SK_OK);
    assert_int_equal(sk_fdt_name(&fdt, &node, &name), SK_OK);
    assert_string_equal(name, "");
    assert_int_equal(sk_fdt_next(&fdt, &node), SK_ERR_NOT_FOUND);
}

static void test_fdt_child__family_is_walked_to_its_ends(void **state)
{
    struct tree tree = open_tree("phandles");
    struct sk_fdt_node node;

    (void)state;
    assert_int_equal(sk_fdt_parent(&tree.fdt, &tree.root, &node), SK_ERR_NOT_FOUND);
    assert_int_equal(sk_fdt_sibling(&tree.fdt, &tree.root, &node), SK_ERR_NOT_FOUND);
    assert_int_equal(sk_fdt_child(&tree.fdt, &tree.root, &node), SK_OK);
    check_name(&tree, &node, "new");
    assert_int_equal(sk_fdt_sibling(&tree.fdt, &node, &node), SK_OK);
    check_name(&tree, &node, "old");
    assert_int_equal(sk_fdt_child(&tree.fdt, &node, &node), SK_ERR_NOT_FOUND);
    node = find(&tree, "/outer/inner");
    assert_int_equal(sk_fdt_sibling(&tree.fdt, &node, &node), SK_ERR_NOT_FOUND);
    assert_int_equal(sk_fdt_parent(&tree.fdt, &node, &node), SK_OK);
    check_name(&tree, &node, "outer");
    free(tree.blob);
}

static void test_fdt_find_path__unit_address_may_be_left_out(void **state)
{
    struct tree tree = open_tree("platform");
    struct sk_fdt_node node = find(&tree, "/soc/disk");

    (void)state;
    check_name(&tree, &node, "disk@100");
    node = find(&tree, "/soc/disk@200");
    check_name(&tree, &node, "disk@200");
    assert_int_equal(sk_fdt_find_path(&tree.fdt, "/soc/dis", &node), SK_ERR_NOT_FOUND);
    assert_int_equal(sk_fdt_find_path(&tree.fdt, "/soc/disk@2000", &node), SK_ERR_NOT_FOUND);
    assert_int_equal(sk_fdt_find_path(&tree.fdt, "soc", &node), SK_ERR_INVALID);
    assert_int_equal(sk_fdt_find_path(&tree.fdt, NULL, &node), SK_ERR_INVALID);
    check_name(&tree, &node, "disk@200");
    free(tree.blob);
}

static void test_fdt_find_phandle__both_names_count_and_impossible_ones_are_refused(void **state)
{
    struct tree tree = open_tree("phandles");
    struct sk_fdt_node node;

    (void)state;
    assert_int_equal(sk_fdt_find_phandle(&tree.fdt, 0x21, &node), SK_OK);
    check_name(&tree, &node, "inner");
    assert_int_equal(sk_fdt_find_phandle(&tree.fdt, 0x11, &node), SK_OK);
    check_name(&tree, &node, "old");
    assert_int_equal(sk_fdt_find_phandle(&tree.fdt, 0x99, &node), SK_ERR_NOT_FOUND);
    assert_int_equal(sk_fdt_find_phandle(&tree.fdt, 0, &node), SK_ERR_INVALID);
    assert_int_equal(sk_fdt_find_phandle(&tree.fdt, UINT32_MAX, &node), SK_ERR_INVALID);
    assert_int_equal(sk_fdt_find_phandle(&tree.fdt, 0x21, NULL), SK_ERR_INVALID);
    free(tree.blob);
}

static void test_fdt_property__values_are_read_within_their_length(void **state)
{
    struct tree tree = open_tree("platform");
    struct sk_fdt_node disk = find(&tree, "/disk@2000");
    struct sk_fdt_node endless = find(&tree, "/endless@7000");
    struct sk_fdt_property property;
    const char *string = NULL;
    uint32_t cell = 0;

    (void)state;
    assert_int_equal(sk_fdt_property(&tree.fdt, &disk, "reg", &property), SK_OK);
    assert_string_equal(property.name, "reg");
    assert_int_equal(property.bytes, 16);
    assert_int_equal(sk_fdt_property(&tree.fdt, &disk, "re", &property), SK_ERR_NOT_FOUND);
    assert_int_equal(sk_fdt_property_at(&tree.fdt, &disk, 0, &property), SK_OK);
    assert_string_equal(property.name, "compatible");
    assert_int_equal(sk_fdt_property_at(&tree.fdt, &disk, 4, &property), SK_ERR_NOT_FOUND);
    assert_int_equal(sk_fdt_u32(&tree.fdt, &disk, "reg", 2, &cell), SK_OK);
    assert_int_equal(cell, 0x3000);
    assert_int_equal(sk_fdt_u32(&tree.fdt, &disk, "reg", 4, &cell), SK_ERR_RANGE);
    assert_int_equal(sk_fdt_u32(&tree.fdt, &disk, "reg", UINT32_MAX, &cell), SK_ERR_RANGE);
    assert_int_equal(sk_fdt_string(&tree.fdt, &disk, "compatible", 1, &string), SK_OK);
    assert_string_equal(string, "test,disk");
    assert_int_equal(sk_fdt_string(&tree.fdt, &disk, "compatible", 2, &string), SK_ERR_NOT_FOUND);
    assert_int_equal(sk_fdt_string(&tree.fdt, &endless, "compatible", 0, &string),
                     SK_ERR_MALFORMED);
    assert_true(sk_fdt_is_compatible(&tree.fdt, &disk, "test,disk"));
    assert_false(sk_fdt_is_compatible(&tree.fdt, &disk, "test,dis"));
    assert_false(sk_fdt_is_compatible(&tree.fdt, &endless, "abc"));
    free(tree.blob);
}

static void test_fdt_interrupt__each_index_is_read_and_bad_ones_say_why(void **state)
{
    struct tree tree = open_tree("platform");
    struct sk_fdt_node disk = find(&tree, "/disk@2000");
    struct sk_fdt_node wide = find(&tree, "/wide@9000");
    struct sk_fdt_node astray = find(&tree, "/astray@8000");
    struct sk_interrupt interrupt;

    (void)state;
    assert_int_equal(sk_fdt_interrupt(&tree.fdt, &disk, 1, &interrupt), SK_OK);
    assert_int_equal(interrupt.cell_count, 1);
    assert_int_equal(interrupt.cells[0], 6);
    assert_int_equal(sk_fdt_interrupt(&tree.fdt, &disk, 2, &interrupt), SK_ERR_NOT_FOUND);
    assert_int_equal(sk_fdt_interrupt(&tree.fdt, &disk, UINT32_MAX, &interrupt), SK_ERR_NOT_FOUND);
    assert_int_equal(sk_fdt_interrupt(&tree.fdt, &wide, 1, &interrupt), SK_ERR_UNSUPPORTED);
    assert_int_equal(sk_fdt_interrupt(&tree.fdt, &wide, 2, &interrupt), SK_OK);
    assert_int_equal(interrupt.cells[0], 2);
    assert_int_equal(sk_fdt_interrupt(&tree.fdt, &astray, 0, &interrupt), SK_ERR_MALFORMED);
    assert_int_equal(sk_fdt_interrupt(&tree.fdt, &disk, 0, NULL), SK_ERR_INVALID);
    free(tree.blob);
}

static void test_fdt_dma_windows__buses_move_memory_and_say_its_coherence(void **state)
{
    struct tree tree = open_tree("platform");
    struct sk_fdt_node plain = find(&tree, "/wide@9000");
    struct sk_fdt_node shifted = find(&tree, "/soc/disk@100");
    struct sk_fdt_node apart = find(&tree, "/soc/disk@200");
    struct sk_dma_window window;
    size_t count = 0;

    (void)state;
    assert_int_equal(sk_fdt_dma_windows(&tree.fdt, &shifted, &window, 1, &count), SK_OK);
    assert_int_equal(count, 1);
    assert_int_equal(window.daddr.raw, 0);
    assert_int_equal(window.paddr.raw, 0x80000000);
    assert_int_equal(window.bytes, 0x40000000);
    assert_int_equal(sk_fdt_dma_windows(&tree.fdt, &shifted, NULL, 0, &count), SK_ERR_RANGE);
    assert_int_equal(count, 1);
    assert_int_equal(sk_fdt_dma_windows(&tree.fdt, &shifted, NULL, 1, &count), SK_ERR_INVALID);
    assert_int_equal(sk_fdt_get_coherence(&tree.fdt, &plain), SK_FDT_COHERENCE_UNSAID);
    assert_int_equal(sk_fdt_get_coherence(&tree.fdt, &shifted), SK_FDT_COHERENCE_COHERENT);
    assert_int_equal(sk_fdt_get_coherence(&tree.fdt, &apart), SK_FDT_COHERENCE_NONCOHERENT);
    assert_true(sk_fdt_is_enabled(&tree.fdt, &plain));
    plain = find(&tree, "/disabled@4000");
    assert_false(sk_fdt_is_enabled(&tree.fdt, &plain));
    free(tree.blob);
}

static void test_fdt_reserved__block_comes_before_fixed_ranges(void **state)
{
    struct tree tree = open_tree("reserved");
    struct sk_device_range range;

    (void)state;
    assert_int_equal(sk_fdt_memory(&tree.fdt, 0, &range), SK_OK);
    assert_int_equal(range.base.raw, 0x80000000);
    assert_int_equal(range.bytes, 0x08000000);
    assert_int_equal(sk_fdt_memory(&tree.fdt, 1, &range), SK_ERR_NOT_FOUND);
    assert_int_equal(sk_fdt_reserved(&tree.fdt, 1, &range), SK_OK);
    assert_int_equal(range.base.raw, 0x87f00000);
    assert_int_equal(sk_fdt_reserved(&tree.fdt, 4, &range), SK_OK);
    assert_int_equal(range.base.raw, 0x80080000);
    assert_int_equal(range.bytes, 0x1000);
    assert_int_equal(sk_fdt_reserved(&tree.fdt, 100, &range), SK_ERR_NOT_FOUND);
    free(tree.blob);
}

static void test_fdt_stdout__aliases_are_followed_once(void **state)
{
    struct tree tree = open_tree("chosen_alias");
    struct sk_fdt_node node = { 0 };
    const char *bootargs = NULL;

    (void)state;
    assert_int_equal(sk_fdt_stdout(&tree.fdt, &node), SK_OK);
    check_name(&tree, &node, "serial@0");
    assert_int_equal(sk_fdt_bootargs(&tree.fdt, &bootargs), SK_OK);
    assert_string_equal(bootargs, "console=ttyS0 disk verify");
    free(tree.blob);
    tree = open_tree("chosen_loop");
    assert_int_equal(sk_fdt_stdout(&tree.fdt, &node), SK_ERR_MALFORMED);
    assert_int_equal(sk_fdt_bootargs(&tree.fdt, &bootargs), SK_ERR_MALFORMED);
    free(tree.blob);
    tree = open_tree("minimal");
    assert_int_equal(sk_fdt_stdout(&tree.fdt, &node), SK_ERR_NOT_FOUND);
    assert_int_equal(sk_fdt_bootargs(&tree.fdt, &bootargs), SK_ERR_NOT_FOUND);
    free(tree.blob);
}

/* A tree that is not open, and a cursor that is no node. */
static void test_fdt_root__nothing_is_read_without_a_tree_or_a_node(void **state)
{
    struct tree tree = open_tree("platform");
    struct sk_fdt closed = { 0 };
    struct sk_fdt_node none = { 0 };
    struct sk_fdt_node node;
    struct sk_fdt_property property;
    struct sk_device_range range;

    (void)state;
    assert_int_equal(sk_fdt_root(&closed, &node), SK_ERR_INVALID);
    assert_int_equal(sk_fdt_root(&tree.fdt, NULL), SK_ERR_INVALID);
    assert_int_equal(sk_fdt_child(&tree.fdt, &none, &node), SK_ERR_INVALID);
    assert_int_equal(sk_fdt_sibling(&tree.fdt, &none, &node), SK_ERR_INVALID);
    assert_int_equal(sk_fdt_parent(&tree.fdt, &none, &node), SK_ERR_INVALID);
    assert_int_equal(sk_fdt_property(&tree.fdt, &none, "reg", &property), SK_ERR_INVALID);
    assert_int_equal(sk_fdt_property(&tree.fdt, &tree.root, NULL, &property), SK_ERR_INVALID);
    assert_int_equal(sk_fdt_memory(&closed, 0, &range), SK_ERR_INVALID);
    assert_int_equal(sk_fdt_reserved(&closed, 0, &range), SK_ERR_INVALID);
    assert_false(sk_fdt_is_enabled(&tree.fdt, &none));
    assert_int_equal(sk_fdt_get_coherence(&tree.fdt, NULL), SK_FDT_COHERENCE_UNSAID);
    free(tree.blob);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fdt_open__minimal_tree_has_a_root),
        cmocka_unit_test(test_fdt_child__family_is_walked_to_its_ends),
        cmocka_unit_test(test_fdt_find_path__unit_address_may_be_left_out),
        cmocka_unit_test(test_fdt_find_phandle__both_names_count_and_impossible_ones_are_refused),
        cmocka_unit_test(test_fdt_property__values_are_read_within_their_length),
        cmocka_unit_test(test_fdt_interrupt__each_index_is_read_and_bad_ones_say_why),
        cmocka_unit_test(test_fdt_dma_windows__buses_move_memory_and_say_its_coherence),
        cmocka_unit_test(test_fdt_reserved__block_comes_before_fixed_ranges),
        cmocka_unit_test(test_fdt_stdout__aliases_are_followed_once),
        cmocka_unit_test(test_fdt_root__nothing_is_read_without_a_tree_or_a_node),
    };

    if (fdt_blob_trees[0] == NULL) {
        (void)puts("skipped: needs dtc");
        return SKIPPED;
    }
    return cmocka_run_group_tests_name("fdt", tests, NULL, NULL);
}
