/* SPDX-License-Identifier: MIT */
/*
 * A mapped range of device registers.  Either `base` points at the registers,
 * and accesses are volatile loads and stores of the named width, or `ops` is
 * set and every access is a call: that is how a test puts a device of its own
 * behind a driver, and how a port reaches registers that are not memory.  It
 * is not a bus: it knows one range, and nobody dereferences `base` but the
 * library's one file of accessors.
 *
 * Ownership: filled by the platform's `map_mmio`; the platform unmaps it.
 * Trust: values read come from the device; users check them.
 */
#ifndef SKIO_MMIO_H
#define SKIO_MMIO_H

#include <skio/compiler.h>

SK_BEGIN_DECLS

struct sk_mmio_ops {
    /* Reads `width` bytes (1, 2 or 4; aligned to the width) at `offset`. */
    uint32_t (*read)(void *context, uint64_t offset, unsigned width);
    /* Writes the low `width` bytes of `value` at `offset`. */
    void (*write)(void *context, uint64_t offset, unsigned width, uint32_t value);
};

struct sk_mmio {
    volatile void *base;           /* the registers; unused when `ops` is set */
    uint64_t bytes;                /* length of the range */
    const struct sk_mmio_ops *ops; /* NULL: plain memory-mapped registers */
    void *context;                 /* for `ops` */
};

SK_END_DECLS

#endif
