/* SPDX-License-Identifier: MIT */
/* Width-named access to mapped registers; the caller keeps offsets below mmio->bytes. */
#ifndef KERNEL_DRIVERS_REGISTERS_H
#define KERNEL_DRIVERS_REGISTERS_H

#include <skio/mmio.h>

static inline uint8_t register_read8(const struct sk_mmio *mmio, uint64_t offset)
{
    return *((volatile uint8_t *)mmio->base + offset);
}

static inline void register_write8(const struct sk_mmio *mmio, uint64_t offset, uint8_t value)
{
    *((volatile uint8_t *)mmio->base + offset) = value;
}

static inline uint32_t register_read32(const struct sk_mmio *mmio, uint64_t offset)
{
    return *(volatile uint32_t *)((volatile uint8_t *)mmio->base + offset);
}

static inline void register_write32(const struct sk_mmio *mmio, uint64_t offset, uint32_t value)
{
    *(volatile uint32_t *)((volatile uint8_t *)mmio->base + offset) = value;
}

#endif
