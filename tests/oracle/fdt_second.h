/* SPDX-License-Identifier: MIT */
/*
 * What libfdt does not answer, written down a second time on top of it: as
 * plainly as possible, with 128-bit arithmetic, recursion and large arrays
 * where the reader has neither.  `node` is libfdt's offset everywhere.
 */
#ifndef TESTS_ORACLE_FDT_SECOND_H
#define TESTS_ORACLE_FDT_SECOND_H

#include <skio/fdt.h>

/* Ends the program with the context of the comparison. */
void fdt_second_fail(const char *file, int line, const char *what);
#define CHECK(condition) ((condition) ? (void)0 : fdt_second_fail(__FILE__, __LINE__, #condition))

enum sk_status fdt_second_range(const void *fdt, int node, uint32_t index,
                                struct sk_device_range *out_range);
enum sk_status fdt_second_interrupt(const void *fdt, int node, uint32_t index,
                                    struct sk_interrupt *out_interrupt);
bool fdt_second_is_enabled(const void *fdt, int node);
enum sk_fdt_coherence fdt_second_coherence(const void *fdt, int node);

/* All CPU addresses that a device address leads to; at most this many. */
#define FDT_SECOND_REACH_MAX 4096
size_t fdt_second_reach(const void *fdt, int node, uint64_t daddr, uint64_t *out_paddrs);
/* Device addresses worth asking for: the edges of all entries of all buses above. */
size_t fdt_second_probes(const void *fdt, int node, uint64_t *out_probes, size_t capacity);
/* What composing the windows must answer. */
enum sk_status fdt_second_windows_status(const void *fdt, int node);

enum sk_status fdt_second_memory(const void *fdt, uint32_t index,
                                 struct sk_device_range *out_range);
enum sk_status fdt_second_reserved(const void *fdt, uint32_t index,
                                   struct sk_device_range *out_range);
/* False if an entry without bytes hides reservations from libfdt. */
bool fdt_second_sees_all_reservations(const void *fdt);
enum sk_status fdt_second_bootargs(const void *fdt, const char **out_bootargs);
enum sk_status fdt_second_stdout(const void *fdt, int *out_node);

/* True if libfdt would not come back from a walk: a length led it backwards. */
bool fdt_second_hangs(const void *fdt, size_t bytes);

/* True if one of the reasons in fdt_oracle.h explains the difference. */
bool fdt_second_excuses_refusal(const void *fdt);
bool fdt_second_excuses_taking(const void *fdt, size_t bytes);

#endif
