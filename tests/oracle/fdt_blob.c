/* SPDX-License-Identifier: MIT */
#include "oracle/fdt_blob.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <libfdt.h>
#include <skio/fdt.h>

#include "oracle/fdt_oracle.h"
#include "oracle/fdt_second.h"

const char *const fdt_blob_trees[] = { FDT_TREES NULL };

uint8_t *fdt_blob_copy(const void *blob, size_t bytes)
{
    uint8_t *copy = malloc(bytes > 0 ? bytes : 1);

    CHECK(copy != NULL);
    memcpy(copy, blob, bytes);
    return copy;
}

/* QEMU throws dice for the kernel's sake: each dump would be another tree. */
static void forget_dice(uint8_t *blob)
{
    static const char *const names[] = { "rng-seed", "kaslr-seed" };
    int node = 0;

    while (fdt_check_header(blob) == 0 && node >= 0) {
        for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
            int length = 0;

            if (fdt_getprop(blob, node, names[i], &length) != NULL) {
                static const uint8_t zeroes[256];

                CHECK((size_t)length <= sizeof(zeroes));
                CHECK(fdt_setprop_inplace(blob, node, names[i], zeroes, length) == 0);
            }
        }
        node = fdt_next_node(blob, node, NULL);
    }
}

uint8_t *fdt_blob_read(const char *path, size_t *out_bytes)
{
    FILE *file = fopen(path, "rb");
    uint8_t *whole;
    uint8_t *copy;
    long length;

    (void)snprintf(fdt_oracle_context, sizeof(fdt_oracle_context), "%s", path);
    CHECK(file != NULL);
    CHECK(fseek(file, 0, SEEK_END) == 0);
    length = ftell(file);
    CHECK(length >= 40);
    rewind(file);
    whole = malloc((size_t)length);
    CHECK(whole != NULL);
    CHECK(fread(whole, 1, (size_t)length, file) == (size_t)length);
    (void)fclose(file);
    CHECK(sk_fdt_claimed_bytes(whole) > 0 && sk_fdt_claimed_bytes(whole) <= (size_t)length);
    *out_bytes = sk_fdt_claimed_bytes(whole);
    copy = fdt_blob_copy(whole, *out_bytes);
    free(whole);
    forget_dice(copy);
    return copy;
}

const char *fdt_blob_named(const char *name)
{
    char end[64];
    size_t length = (size_t)snprintf(end, sizeof(end), "/%s.dtb", name);

    for (size_t i = 0; fdt_blob_trees[i] != NULL; i++) {
        size_t bytes = strlen(fdt_blob_trees[i]);

        if (bytes > length && strcmp(fdt_blob_trees[i] + bytes - length, end) == 0) {
            return fdt_blob_trees[i];
        }
    }
    fdt_second_fail(__FILE__, __LINE__, name);
    return NULL;
}
