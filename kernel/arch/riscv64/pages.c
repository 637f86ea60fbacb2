/* SPDX-License-Identifier: MIT */
/*
 * Sv39.  Physical memory appears once, at its address plus DIRECT, the kernel
 * image included: so nothing that is executable or read-only has a writable
 * alias.  Device registers appear in the last gigabyte.
 */
#include <skio/checked.h>

#include "../arch.h"
#include "riscv.h"

#define PTE_V    UINT64_C(1)
#define PTE_R    UINT64_C(2)
#define PTE_W    UINT64_C(4)
#define PTE_X    UINT64_C(8)
#define PTE_A    UINT64_C(0x40)
#define PTE_D    UINT64_C(0x80)
#define PTE_TEXT (PTE_V | PTE_R | PTE_X | PTE_A)
#define PTE_READ (PTE_V | PTE_R | PTE_A)
#define PTE_DATA (PTE_V | PTE_R | PTE_W | PTE_A | PTE_D)
#define PTE_BOOT (PTE_DATA | PTE_X)

#define SATP_SV39 (UINT64_C(8) << 60)

#define DIRECT       UINT64_C(0xffffffc000000000)
#define DIRECT_BYTES (UINT64_C(255) << 30)
#define GIGA_SHIFT   30
#define DEVICES      (DIRECT + DIRECT_BYTES)
#define DEVICE_PAGES 16384u /* 64 MiB of registers */
#define ENTRIES      512u
#define POOL_TABLES  96u
#define LEVELS       3u

struct table {
    uint64_t entry[ENTRIES];
} __attribute__((aligned(4096)));

struct table arch_boot_root;
static struct table root;
static struct table pool[POOL_TABLES];
static unsigned pool_used;
static uint64_t device_pages[DEVICE_PAGES / 64]; /* a bit for each page in use */

void *arch_direct(uint64_t paddr)
{
    return (void *)(uintptr_t)(paddr + DIRECT);
}

uint64_t arch_direct_limit(void)
{
    return DIRECT_BYTES;
}

bool arch_physical_of(const void *cpu, uint64_t *out_paddr)
{
    uint64_t offset = (uintptr_t)cpu - DIRECT;

    *out_paddr = offset;
    return offset < DIRECT_BYTES;
}

void arch_kernel_range(struct sk_device_range *out_range)
{
    out_range->base.raw = (uintptr_t)arch_text_start - DIRECT;
    out_range->bytes = (uint64_t)(arch_end - arch_text_start);
}

static void flush(void)
{
    __asm__ volatile("sfence.vma" ::: "memory");
}

/* Other harts walk the same tables. */
static void flush_all(void)
{
    flush();
    if (arch_harts_started) {
        sbi_flush_all();
    }
}

uint64_t arch_pages_space(void)
{
    uint64_t paddr;

    (void)arch_physical_of(&root, &paddr);
    return SATP_SV39 | paddr >> 12;
}

enum sk_status arch_pages_peek(uint64_t paddr, uint64_t bytes)
{
    if (bytes == 0 || !sk_checked_range(paddr, bytes, DIRECT_BYTES)) {
        return SK_ERR_RANGE;
    }
    for (uint64_t giga = paddr >> GIGA_SHIFT; giga <= (paddr + bytes - 1) >> GIGA_SHIFT; giga++) {
        arch_boot_root.entry[ENTRIES / 2 + giga] = giga << (GIGA_SHIFT - 2) | PTE_BOOT;
    }
    flush();
    return SK_OK;
}

static unsigned shift_of(unsigned level)
{
    return 12 + 9 * level;
}

/* The table below an entry, made if it is missing; NULL: a larger page is there, or no table is
 * left. */
static struct table *descend(uint64_t *entry)
{
    struct table *table;
    uint64_t paddr;

    if (*entry & (PTE_R | PTE_X)) {
        return NULL;
    }
    if (*entry & PTE_V) {
        return arch_direct(*entry >> 10 << 12);
    }
    if (pool_used == POOL_TABLES) {
        return NULL;
    }
    table = &pool[pool_used++];
    (void)arch_physical_of(table, &paddr);
    *entry = paddr >> 12 << 10 | PTE_V;
    return table;
}

/* The entry for `virtual` at `level`; NULL as above. */
static uint64_t *find(uint64_t virtual, unsigned level)
{
    struct table *table = &root;

    for (unsigned at = LEVELS - 1; at > level && table != NULL; at--) {
        table = descend(&table->entry[virtual >> shift_of(at) & (ENTRIES - 1)]);
    }
    return table == NULL ? NULL : &table->entry[virtual >> shift_of(level) & (ENTRIES - 1)];
}

static unsigned level_for(uint64_t virtual, uint64_t paddr, uint64_t bytes)
{
    unsigned level = LEVELS - 1;

    while (level > 0 && (((virtual | paddr) & ((UINT64_C(1) << shift_of(level)) - 1)) != 0 ||
                         bytes >> shift_of(level) == 0)) {
        level--;
    }
    return level;
}

static enum sk_status map(uint64_t virtual, uint64_t paddr, uint64_t bytes, uint64_t bits)
{
    while (bytes > 0) {
        unsigned level = level_for(virtual, paddr, bytes);
        uint64_t step = UINT64_C(1) << shift_of(level);
        uint64_t *entry = find(virtual, level);

        if (entry == NULL || (*entry & PTE_V)) {
            return entry == NULL ? SK_ERR_NO_MEMORY : SK_ERR_BUSY;
        }
        *entry = paddr >> 12 << 10 | bits;
        virtual += step;
        paddr += step;
        bytes -= step;
    }
    return SK_OK;
}

static enum sk_status map_part(const char *start, const char *end, uint64_t bits)
{
    uint64_t virtual = (uintptr_t)start;

    return map(virtual, virtual - DIRECT, (uint64_t)(end - start), bits);
}

static enum sk_status map_kernel(void)
{
    enum sk_status status = map_part(arch_text_start, arch_rodata_start, PTE_TEXT);

    if (status == SK_OK) {
        status = map_part(arch_rodata_start, arch_data_start, PTE_READ);
    }
    if (status == SK_OK) {
        status = map_part(arch_data_start, arch_bss_end, PTE_DATA);
    }
    for (unsigned place = 0; place < ARCH_HARTS_MAX && status == SK_OK; place++) {
        const struct arch_stacks *stacks = &arch_hart_stacks[place];

        status = map_part(stacks->stack, stacks->fault_guard, PTE_DATA);
        if (status == SK_OK) {
            status = map_part(stacks->fault_stack, (const char *)(stacks + 1), PTE_DATA);
        }
    }
    return status;
}

enum sk_status arch_pages_init(const struct arch_range *ranges, size_t count)
{
    enum sk_status status = map_kernel();

    for (size_t i = 0; i < count && status == SK_OK; i++) {
        status = map(ranges[i].base + DIRECT, ranges[i].base, ranges[i].bytes,
                     ranges[i].writable ? PTE_DATA : PTE_READ);
    }
    if (status != SK_OK) {
        return status;
    }
    csr_write("satp", arch_pages_space());
    flush();
    return SK_OK;
}

static bool device_page_used(unsigned page)
{
    return device_pages[page / 64] >> page % 64 & 1;
}

static void device_page_mark(unsigned first, uint64_t count, bool used)
{
    for (unsigned page = first; page < first + count; page++) {
        if (used) {
            device_pages[page / 64] |= UINT64_C(1) << page % 64;
        } else {
            device_pages[page / 64] &= ~(UINT64_C(1) << page % 64);
        }
    }
}

/* First fit; DEVICE_PAGES if there is none.  One page stays free behind each mapping. */
static unsigned device_page_find(uint64_t count)
{
    uint64_t run = 0;

    for (unsigned page = 0; page < DEVICE_PAGES; page++) {
        run = device_page_used(page) ? 0 : run + 1;
        if (run == count + 1) {
            return page - (unsigned)count;
        }
    }
    return DEVICE_PAGES;
}

static void device_clear(uint64_t virtual, uint64_t pages)
{
    for (; pages > 0; pages--, virtual += ARCH_PAGE_BYTES) {
        uint64_t *entry = find(virtual, 0);

        if (entry != NULL) {
            *entry = 0;
        }
    }
    flush_all();
}

/* Page by page, so that taking back is simple. */
static enum sk_status device_fill(uint64_t virtual, uint64_t paddr, uint64_t pages)
{
    for (uint64_t i = 0; i < pages; i++) {
        uint64_t offset = i * ARCH_PAGE_BYTES;
        enum sk_status status = map(virtual + offset, paddr + offset, ARCH_PAGE_BYTES, PTE_DATA);

        if (status != SK_OK) {
            device_clear(virtual, i);
            return status;
        }
    }
    flush_all();
    return SK_OK;
}

enum sk_status arch_map_device(uint64_t paddr, uint64_t bytes, void **out_cpu)
{
    uint64_t inside = paddr % ARCH_PAGE_BYTES;
    uint64_t pages;
    uint64_t virtual;
    unsigned first;
    enum sk_status status;

    if (bytes == 0 || !sk_checked_range(paddr, bytes, UINT64_C(1) << 56)) {
        return SK_ERR_RANGE;
    }
    pages = (inside + bytes + ARCH_PAGE_BYTES - 1) / ARCH_PAGE_BYTES;
    first = device_page_find(pages);
    if (first == DEVICE_PAGES) {
        return SK_ERR_NO_MEMORY;
    }
    virtual = DEVICES + (uint64_t)first * ARCH_PAGE_BYTES;
    status = device_fill(virtual, paddr - inside, pages);
    if (status == SK_OK) {
        device_page_mark(first, pages, true);
        *out_cpu = (void *)(uintptr_t)(virtual + inside);
    }
    return status;
}

void arch_unmap_device(void *cpu, uint64_t bytes)
{
    uint64_t offset = (uintptr_t)cpu - DEVICES;
    uint64_t inside = offset % ARCH_PAGE_BYTES;
    uint64_t pages = (inside + bytes + ARCH_PAGE_BYTES - 1) / ARCH_PAGE_BYTES;

    if (!sk_checked_range(offset / ARCH_PAGE_BYTES, pages, DEVICE_PAGES)) {
        return;
    }
    device_clear((uintptr_t)cpu - inside, pages);
    device_page_mark((unsigned)(offset / ARCH_PAGE_BYTES), pages, false);
}

bool arch_device_address(uint64_t virtual, uint64_t *out_paddr)
{
    uint64_t *entry;

    if (virtual < DEVICES || (virtual - DEVICES) / ARCH_PAGE_BYTES >= DEVICE_PAGES) {
        return false;
    }
    entry = find(virtual, 0);
    *out_paddr = (entry == NULL ? 0 : *entry >> 10 << 12) | virtual % ARCH_PAGE_BYTES;
    return true;
}
