/* SPDX-License-Identifier: MIT */
/*
 * Whole trees against libfdt: those of tests/data/fdt without arguments, else
 * the files that are named (the trees of real machines).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <libfdt.h>

#include "oracle/fdt_blob.h"
#include "oracle/fdt_oracle.h"

#define SKIPPED 77

static const char *const *trees;

static void test_fdt_oracle__every_tree_reads_the_same(void **state)
{
    size_t count = 0;

    (void)state;
    for (; trees[count] != NULL; count++) {
        size_t bytes;
        uint8_t *blob = fdt_blob_read(trees[count], &bytes);
        enum fdt_oracle_verdict verdict = fdt_oracle_compare(blob, bytes);

        /* The one tree that is refused on purpose. */
        if (strstr(trees[count], "too_deep") != NULL) {
            assert_int_equal(verdict, FDT_ORACLE_WE_REFUSE);
        } else {
            assert_int_equal(verdict, FDT_ORACLE_BOTH_TAKE);
        }
        fdt_oracle_exercise(blob, bytes);
        free(blob);
    }
    assert_true(count > 0);
}

/* The same bytes at every misalignment: the structure stays what it was. */
static void test_fdt_oracle__misaligned_blob_reads_the_same(void **state)
{
    (void)state;
    for (size_t i = 0; trees[i] != NULL; i++) {
        size_t bytes;
        uint8_t *blob = fdt_blob_read(trees[i], &bytes);

        for (size_t shift = 1; shift < 8; shift++) {
            uint8_t *shifted = malloc(bytes + shift);
            struct sk_fdt_node here = { 0 };
            struct sk_fdt_node there = { 0 };
            struct sk_fdt aligned;
            struct sk_fdt fdt;
            enum sk_status status = sk_fdt_open(blob, bytes, &aligned);

            assert_non_null(shifted);
            memcpy(shifted + shift, blob, bytes);
            assert_int_equal(sk_fdt_open(shifted + shift, bytes, &fdt), status);
            fdt_oracle_exercise(shifted + shift, bytes);
            while (status == SK_OK) {
                struct sk_device_range left = { { 0 }, 0 };
                struct sk_device_range right = { { 0 }, 0 };

                status =
                    here.depth == 0 ? sk_fdt_root(&aligned, &here) : sk_fdt_next(&aligned, &here);
                assert_int_equal(there.depth == 0 ? sk_fdt_root(&fdt, &there)
                                                  : sk_fdt_next(&fdt, &there),
                                 status);
                assert_memory_equal(&here, &there, sizeof(here));
                assert_int_equal(sk_fdt_range(&aligned, &here, 0, &left),
                                 sk_fdt_range(&fdt, &there, 0, &right));
                assert_int_equal(left.base.raw, right.base.raw);
            }
            free(shifted);
        }
        free(blob);
    }
}

static void test_fdt_oracle__there_are_enough_trees(void **state)
{
    size_t count = 0;

    (void)state;
    while (fdt_blob_trees[count] != NULL) {
        count++;
    }
    assert_true(count >= 10);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fdt_oracle__every_tree_reads_the_same),
        cmocka_unit_test(test_fdt_oracle__misaligned_blob_reads_the_same),
        cmocka_unit_test(test_fdt_oracle__there_are_enough_trees),
    };

    if (fdt_blob_trees[0] == NULL) {
        (void)puts("skipped: needs dtc");
        return SKIPPED;
    }
    trees = argc > 1 ? (const char *const *)argv + 1 : fdt_blob_trees;
    return cmocka_run_group_tests_name("fdt_oracle", tests, NULL, NULL);
}
