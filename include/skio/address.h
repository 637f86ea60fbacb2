/* SPDX-License-Identifier: MIT */
/*
 * Addresses that are not pointers.  A CPU address is a C pointer; a physical
 * address and a device address are types of their own, so that no assignment
 * turns one into another by accident.  This header does no translation: that
 * is `sk_dma_domain`'s work.  The value 0 is an ordinary address here; absence
 * and errors travel as a status.
 */
#ifndef SKIO_ADDRESS_H
#define SKIO_ADDRESS_H

#include <skio/compiler.h>

SK_BEGIN_DECLS

/* An address in physical memory, as the CPU's page tables produce it; bytes. */
typedef struct sk_paddr { uint64_t raw; } sk_paddr;

/* An address as one device sees it (a bus or IOMMU address); bytes. */
typedef struct sk_daddr { uint64_t raw; } sk_daddr;

static inline sk_paddr sk_paddr_make(uint64_t raw)
{
    sk_paddr address;
    address.raw = raw;
    return address;
}

static inline sk_daddr sk_daddr_make(uint64_t raw)
{
    sk_daddr address;
    address.raw = raw;
    return address;
}

SK_END_DECLS

#endif
