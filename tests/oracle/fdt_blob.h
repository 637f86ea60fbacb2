/* SPDX-License-Identifier: MIT */
/*
 * Blobs in memory of their own, exactly as long as they are, so that a read
 * of one byte too many is seen.
 */
#ifndef TESTS_ORACLE_FDT_BLOB_H
#define TESTS_ORACLE_FDT_BLOB_H

#include <stddef.h>
#include <stdint.h>

/* A copy that free() ends; fails the test without memory. */
uint8_t *fdt_blob_copy(const void *blob, size_t bytes);

/* Reads a file, cut to what its header claims if that is less. */
uint8_t *fdt_blob_read(const char *path, size_t *out_bytes);

/* The trees that were compiled from tests/data/fdt; NULL ends them. */
extern const char *const fdt_blob_trees[];

/* The path of one of them. */
const char *fdt_blob_named(const char *name);

#endif
