/* SPDX-License-Identifier: MIT */
/*
 * Damaged trees against libfdt: what it takes must read the same here, what it
 * refuses must be refused here, and nothing is read outside of the blob.
 */
#include <inttypes.h>
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
#define SEED UINT64_C(0x5eed0fd7)
#define MUTANTS 14000u /* of all small trees together */

static const char *const *trees;

/* Machines' trees are large: fewer mutants of them. */
static unsigned mutants_per_tree(void)
{
    unsigned count = 0;

    while (trees[count] != NULL) {
        count++;
    }
    return (count == 1 ? MUTANTS / 50 : MUTANTS) / count;
}

/* Without the padding that QEMU leaves in the middle. */
static uint8_t *read_packed(const char *path, size_t *out_bytes)
{
    uint8_t *whole = fdt_blob_read(path, out_bytes);
    uint8_t *packed;

    if (fdt_version(whole) == 17) {
        assert_int_equal(fdt_open_into(whole, whole, (int)*out_bytes), 0);
        assert_int_equal(fdt_pack(whole), 0);
        *out_bytes = fdt_totalsize(whole);
    }
    packed = fdt_blob_copy(whole, *out_bytes);
    free(whole);
    return packed;
}

static uint64_t random_next(uint64_t *random)
{
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    return *random;
}

static uint32_t below(uint64_t *random, size_t limit)
{
    return (uint32_t)(random_next(random) >> 16) % (uint32_t)limit;
}

static void store_be32(uint8_t *to, uint32_t value)
{
    for (int i = 0; i < 4; i++) {
        to[i] = (uint8_t)(value >> (24 - 8 * i));
    }
}

/* Numbers that lie on edges, some of them of this very blob. */
static uint32_t interesting(uint64_t *random, size_t bytes)
{
    const uint32_t values[] = { 0,
                                1,
                                2,
                                3,
                                4,
                                5,
                                7,
                                8,
                                9,
                                16,
                                17,
                                0x10,
                                0x28,
                                0x7fffffff,
                                0x80000000,
                                0xffffffff,
                                0xfffffffe,
                                0xfffffffc,
                                0xfffffff0,
                                0xd00dfeed,
                                (uint32_t)bytes,
                                (uint32_t)bytes - 1,
                                (uint32_t)bytes + 1,
                                (uint32_t)bytes - 4,
                                (uint32_t)bytes / 2,
                                0x01000000,
                                below(random, bytes),
                                below(random, bytes) & ~3u };

    return values[below(random, sizeof(values) / sizeof(values[0]))];
}

/* A word of the structure block; most of them mean something there. */
static size_t structure_word(uint64_t *random, const uint8_t *blob, size_t bytes)
{
    size_t start = fdt_off_dt_struct(blob) & ~3u;
    size_t at = start + below(random, bytes) % (fdt_size_dt_struct(blob) | 4) / 4 * 4;

    return at + 4 <= bytes ? at : bytes / 2 & ~(size_t)3;
}

/* A word that is a tag: the offset in the blob; each is as likely as the others. */
static size_t tag_word(uint64_t *random, const uint8_t *blob, size_t bytes)
{
    uint32_t seen = 0;
    int chosen = 0;
    int next = 0;
    int at = 0;

    while (fdt_next_tag(blob, at, &next) != FDT_END && next > at) {
        if (below(random, ++seen) == 0) {
            chosen = at;
        }
        at = next;
    }
    chosen += (int)fdt_off_dt_struct(blob);
    return (size_t)chosen + 4 <= bytes ? (size_t)chosen : 0;
}

static uint32_t load_be32(const uint8_t *from)
{
    return (uint32_t)from[0] << 24 | (uint32_t)from[1] << 16 | (uint32_t)from[2] << 8 | from[3];
}

/* A cell of a property's value: what it says changes, the tree stays one. */
static size_t value_word(uint64_t *random, const uint8_t *blob, size_t bytes)
{
    for (int i = 0; i < 20; i++) {
        size_t at = tag_word(random, blob, bytes - 16);
        uint32_t cells = load_be32(blob + at + 4) / 4;

        if (load_be32(blob + at) == FDT_PROP && cells > 0 && cells <= (bytes - at - 12) / 4) {
            return at + 12 + (size_t)4 * below(random, cells);
        }
    }
    return structure_word(random, blob, bytes);
}

static void swap_words(uint8_t *blob, size_t left, size_t right)
{
    uint8_t kept[4];

    memcpy(kept, blob + left, 4);
    memmove(blob + left, blob + right, 4);
    memcpy(blob + right, kept, 4);
}

/* Damages the blob once; may shorten it. */
static void mutate(uint64_t *random, uint8_t *blob, size_t *bytes)
{
    static const uint32_t tags[] = { 1, 2, 3, 4, 9, 0, 5 };

    switch (below(random, 16)) {
    case 0: /* one bit */
        blob[below(random, *bytes)] ^= (uint8_t)(1u << below(random, 8));
        break;
    case 1: /* one byte */
        blob[below(random, *bytes)] = (uint8_t)random_next(random);
        break;
    case 2: /* a word of the header */
        store_be32(blob + 4 * below(random, 10), interesting(random, *bytes));
        break;
    case 3: /* a word of the structure */
        store_be32(blob + structure_word(random, blob, *bytes), interesting(random, *bytes));
        break;
    case 4: /* a tag becomes another */
        store_be32(blob + tag_word(random, blob, *bytes), tags[below(random, 7)]);
        break;
    case 5: /* two tags change places */
        swap_words(blob, tag_word(random, blob, *bytes), tag_word(random, blob, *bytes));
        break;
    case 6: /* two words change places */
        swap_words(blob, structure_word(random, blob, *bytes),
                   structure_word(random, blob, *bytes));
        break;
    case 7: /* a property's length or name, by a little */
        blob[tag_word(random, blob, *bytes - 8) + 7 + 4 * below(random, 2)] +=
            (uint8_t)(below(random, 9) - 4);
        break;
    case 8:
    case 9:
    case 10:
    case 11:
        store_be32(blob + value_word(random, blob, *bytes), interesting(random, *bytes));
        break;
    case 12:
    case 13:
        swap_words(blob, value_word(random, blob, *bytes), value_word(random, blob, *bytes));
        break;
    case 14: /* one bit of a value */
        blob[value_word(random, blob, *bytes) + 3] ^= (uint8_t)(1u << below(random, 8));
        break;
    default:
        *bytes = 40 + below(random, *bytes - 40);
        break;
    }
}

static void test_fdt_mutation__damaged_trees_read_the_same_or_not_at_all(void **state)
{
    unsigned verdicts[4] = { 0 };
    uint64_t random = SEED;

    (void)state;
    for (size_t i = 0; trees[i] != NULL; i++) {
        size_t bytes;
        uint8_t *original = read_packed(trees[i], &bytes);

        for (unsigned mutant = 0; mutant <= mutants_per_tree(); mutant++) {
            uint8_t *work = fdt_blob_copy(original, bytes);
            size_t work_bytes = bytes;
            uint64_t start = random;
            uint8_t *exact;

            (void)snprintf(fdt_oracle_context, sizeof(fdt_oracle_context),
                           "%s: mutant %u from random state %" PRIx64, trees[i], mutant, start);
            for (uint32_t times = 1 + below(&random, 3); times > 0; times--) {
                mutate(&random, work, &work_bytes);
                if (fdt_check_full(work, work_bytes) != 0) {
                    break; /* the next one would look at tags that are none */
                }
            }
            exact = fdt_blob_copy(work, work_bytes);
            verdicts[fdt_oracle_compare(exact, work_bytes)]++;
            fdt_oracle_exercise(exact, work_bytes);
            free(exact);
            free(work);
        }
        free(original);
    }
    print_message("mutants: %u read alike, %u refused by both, %u by us, %u by libfdt\n",
                  verdicts[FDT_ORACLE_BOTH_TAKE], verdicts[FDT_ORACLE_BOTH_REFUSE],
                  verdicts[FDT_ORACLE_WE_REFUSE], verdicts[FDT_ORACLE_WE_TAKE]);
    assert_true(verdicts[FDT_ORACLE_BOTH_TAKE] > mutants_per_tree() / 10);
    assert_true(verdicts[FDT_ORACLE_BOTH_REFUSE] > mutants_per_tree() / 10);
}

/* Case 39: the caller passes the real size. */
static void test_fdt_mutation__every_truncation_is_refused(void **state)
{
    (void)state;
    for (size_t i = 0; trees[i] != NULL; i++) {
        size_t bytes;
        uint8_t *original = read_packed(trees[i], &bytes);

        for (size_t length = 0; length < bytes; length++) {
            uint8_t *exact = malloc(length > 0 ? length : 1);
            struct sk_fdt fdt;

            assert_non_null(exact);
            memcpy(exact, original, length);
            assert_int_equal(sk_fdt_open(exact, length, &fdt), SK_ERR_SIZE);
            assert_null(fdt.blob);
            free(exact);
        }
        free(original);
    }
}

/* The same with a header that agrees: now it is the blocks that are cut. */
static void test_fdt_mutation__every_truncation_with_a_fitting_header_agrees(void **state)
{
    (void)state;
    for (size_t i = 0; trees[i] != NULL; i++) {
        size_t bytes;
        uint8_t *original = read_packed(trees[i], &bytes);

        for (size_t length = 40; length < bytes; length++) {
            uint8_t *exact = fdt_blob_copy(original, length);

            (void)snprintf(fdt_oracle_context, sizeof(fdt_oracle_context), "%s: %zu bytes",
                           trees[i], length);
            store_be32(exact + 4, (uint32_t)length);
            (void)fdt_oracle_compare(exact, length);
            fdt_oracle_exercise(exact, length);
            free(exact);
        }
        free(original);
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fdt_mutation__damaged_trees_read_the_same_or_not_at_all),
        cmocka_unit_test(test_fdt_mutation__every_truncation_is_refused),
        cmocka_unit_test(test_fdt_mutation__every_truncation_with_a_fitting_header_agrees),
    };

    if (fdt_blob_trees[0] == NULL) {
        (void)puts("skipped: needs dtc");
        return SKIPPED;
    }
    trees = argc > 1 ? (const char *const *)argv + 1 : fdt_blob_trees;
    return cmocka_run_group_tests_name("fdt_mutation", tests, NULL, NULL);
}
