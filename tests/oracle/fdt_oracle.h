/* SPDX-License-Identifier: MIT */
/*
 * Compares the device-tree reader with libfdt over one blob: the tree itself
 * against libfdt's own answers, and what libfdt does not answer (translated
 * addresses, interrupts, DMA windows, status) against a second, plain
 * implementation on top of libfdt.  The first difference is printed and aborts.
 *
 * Differences that are meant, and why:
 *   refused here, taken by libfdt (fdt_oracle_excuse finds the reason anew):
 *     - a property behind a subnode: libfdt would never find it again
 *     - a property of 2^31 bytes or more: libfdt up to 1.6 takes the length for
 *       a negative one and reads on before the value, or for ever
 *     - deeper than SK_FDT_DEPTH_MAX: a cursor has a fixed size
 *     - a tree without a root, or with a version below 16
 *     - blocks that lie askew, which 5.6 forbids and libfdt 1.6 does not look at
 *     - blocks that overlap: none of their meanings can be the right one
 *     - a reservation block without an entry of two zeros: libfdt stops at the
 *       first entry without bytes, whatever its address
 *     - version 16: a name beyond size_dt_strings, which libfdt does not look at
 *   taken here, refused by libfdt:
 *     - NOPs between the root's end and the END: they are allowed anywhere
 *   answered differently:
 *     - NOPs before the root: libfdt looks for the root at offset 0 only
 *     - an unterminated last string in `compatible`, and a search for "": libfdt
 *       compares one byte more than the property has
 *     - reservations behind an entry without bytes: libfdt does not see them
 *     - an alias of an alias: libfdt follows it, and never returns from a loop
 */
#ifndef TESTS_ORACLE_FDT_ORACLE_H
#define TESTS_ORACLE_FDT_ORACLE_H

#include <skio/fdt.h>

/* Printed before the first difference: which tree, which mutation. */
extern char fdt_oracle_context[256];

/* What became of a blob. */
enum fdt_oracle_verdict {
    FDT_ORACLE_BOTH_TAKE,
    FDT_ORACLE_BOTH_REFUSE,
    FDT_ORACLE_WE_REFUSE, /* with an excuse */
    FDT_ORACLE_WE_TAKE    /* with an excuse */
};

/* Compares everything.  `blob` is 8-aligned and `bytes` long, to the byte. */
enum fdt_oracle_verdict fdt_oracle_compare(const void *blob, size_t bytes);

/*
 * Calls every function of the reader for every node of a tree that libfdt
 * does not vouch for; whatever they answer, they must come back.
 */
void fdt_oracle_exercise(const void *blob, size_t bytes);

#endif
