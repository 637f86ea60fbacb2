/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <libfdt.h>

#include <skio/fdt.h>

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fdt_open__minimal_tree_has_a_root),
    };

    return cmocka_run_group_tests_name("fdt", tests, NULL, NULL);
}
