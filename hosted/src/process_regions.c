/* SPDX-License-Identifier: MIT */
/* Memory that other processes can be given: memfds, sealed and mapped. */
#include "process_private.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* Sizes and addresses are multiples of this whatever the pages are: peers with huge pages want it. */
#define UNIT (UINT64_C(2) << 20)

#define BYTES_MAX (UINT64_C(1) << 46)

static uint64_t align_up(uint64_t value, uint64_t alignment)
{
    return (value + alignment - 1) & ~(alignment - 1); /* of bounded sizes: no overflow */
}

/* Maps all of a memfd at a multiple of UNIT; NULL: there is no room, or there are no pages. */
static void *map_aligned(int fd, uint64_t bytes)
{
    uint8_t *room = mmap(NULL, bytes + UNIT, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                         -1, 0);
    uint8_t *at;

    if (room == MAP_FAILED) {
        return NULL;
    }
    at = (uint8_t *)align_up((uintptr_t)room, UNIT);
    if (mmap(at, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED) {
        (void)munmap(room, bytes + UNIT);
        return NULL;
    }
    if (at > room) {
        (void)munmap(room, (size_t)(at - room));
    }
    (void)munmap(at + bytes, (size_t)(room + UNIT - at));
    return at;
}

/* A memfd of this size that nobody can resize any more, mapped; false: nothing is left behind. */
static bool make_memory(struct sk_process_region *region, uint64_t bytes, bool huge)
{
    struct stat stat;
    int fd = memfd_create("skio", MFD_CLOEXEC | MFD_ALLOW_SEALING | (huge ? MFD_HUGETLB : 0u));

    if (fd < 0) {
        return false;
    }
    region->page_bytes = SK_DMA_PAGE_BYTES;
    if (huge && fstat(fd, &stat) == 0 && stat.st_blksize > (blksize_t)SK_DMA_PAGE_BYTES) {
        region->page_bytes = (uint64_t)stat.st_blksize;
    }
    region->fd = fd;
    region->bytes = align_up(bytes, region->page_bytes > UNIT ? region->page_bytes : UNIT);
    if (ftruncate(fd, (off_t)region->bytes) == 0 &&
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0) {
        region->cpu = map_aligned(fd, region->bytes);
    }
    if (region->cpu == NULL) {
        (void)close(fd);
        return false;
    }
    return true;
}

static void drop_memory(struct sk_process_region *region)
{
    (void)munmap(region->cpu, region->bytes);
    (void)close(region->fd);
}

static bool make_any_memory(struct sk_process_region *region, uint64_t bytes,
                            enum sk_process_pages pages)
{
    if (pages != SK_PROCESS_PAGES_ORDINARY && make_memory(region, bytes, true)) {
        return true;
    }
    return pages != SK_PROCESS_PAGES_HUGE && make_memory(region, bytes, false);
}

/* The arena over the region's memory and the domain of its buffers. */
static enum sk_status make_arena(struct sk_process *process, struct ski_process_region *own)
{
    struct sk_dma_domain_config config = { .platform = &process->platform,
                                           .arena = &own->arena,
                                           .windows = &process->window,
                                           .window_count = 1,
                                           .coherent = true };
    size_t bytes;
    enum sk_status status;

    own->zone = (struct sk_dma_zone){ .cpu = own->region.cpu,
                                      .paddr = own->region.paddr,
                                      .bytes = own->region.bytes };
    bytes = sk_dma_arena_metadata_bytes(&own->zone, 1);
    own->metadata = bytes == 0 ? NULL : aligned_alloc(64, (size_t)align_up(bytes, 64));
    if (own->metadata == NULL) {
        return SK_ERR_NO_MEMORY;
    }
    status = sk_dma_arena_init(&own->arena, &own->zone, 1, own->metadata, bytes, &process->log);
    if (status == SK_OK) {
        status = sk_dma_domain_init(&own->domain, &config);
    }
    if (status != SK_OK) {
        free(own->metadata);
        return status;
    }
    own->region.arena = &own->arena;
    own->region.domain = &own->domain;
    return SK_OK;
}

static enum sk_status make_region(struct sk_process *process, uint64_t bytes,
                                  enum sk_process_pages pages, struct ski_process_region *own)
{
    uint64_t page_bytes;
    enum sk_status status = SK_ERR_NO_MEMORY;

    if (process->region_count == SK_PROCESS_REGIONS_MAX ||
        !make_any_memory(&own->region, bytes, pages)) {
        return SK_ERR_NO_MEMORY;
    }
    page_bytes = own->region.page_bytes > UNIT ? own->region.page_bytes : UNIT;
    own->region.paddr.raw = align_up(process->next_paddr, page_bytes);
    if (own->region.paddr.raw < SKI_PROCESS_PADDR_END &&
        own->region.bytes <= SKI_PROCESS_PADDR_END - own->region.paddr.raw) {
        status = make_arena(process, own);
    }
    if (status != SK_OK) {
        drop_memory(&own->region);
        return status;
    }
    /* A gap behind each: what runs over its end meets nothing. */
    process->next_paddr = own->region.paddr.raw + own->region.bytes + UNIT;
    return SK_OK;
}

enum sk_status sk_process_add_region(struct sk_process *process, uint64_t bytes,
                                     enum sk_process_pages pages,
                                     const struct sk_process_region **out_region)
{
    struct ski_process_region *own;
    enum sk_status status;

    if (process == NULL || (unsigned)pages >= SK_PROCESS_PAGES_COUNT) {
        return SK_ERR_INVALID;
    }
    if (bytes == 0 || bytes > BYTES_MAX) {
        return SK_ERR_SIZE;
    }
    own = calloc(1, sizeof(*own));
    if (own == NULL) {
        return SK_ERR_NO_MEMORY;
    }
    (void)pthread_mutex_lock(&process->lock);
    status = make_region(process, bytes, pages, own);
    if (status == SK_OK) {
        process->regions[process->region_count] = own;
        process->region_count++; /* last: others read without the lock */
    }
    (void)pthread_mutex_unlock(&process->lock);
    if (status != SK_OK) {
        sk_log_print(&process->log, SK_LOG_ERROR, "process: no region of %llu bytes, pages %u: %s",
                     (unsigned long long)bytes, (unsigned)pages, sk_status_text(status));
        free(own);
        return status;
    }
    if (out_region != NULL) {
        *out_region = &own->region;
    }
    return SK_OK;
}

size_t sk_process_region_count(const struct sk_process *process)
{
    return process->region_count;
}

const struct sk_process_region *sk_process_get_region(const struct sk_process *process,
                                                      size_t index)
{
    return index < process->region_count ? &process->regions[index]->region : NULL;
}

enum sk_status ski_process_physical_of(void *context, const void *cpu, sk_paddr *out_paddr)
{
    const struct sk_process *process = context;
    size_t count = process->region_count;

    for (size_t i = 0; i < count; i++) {
        const struct sk_process_region *region = &process->regions[i]->region;
        uint64_t offset = (uint64_t)((uintptr_t)cpu - (uintptr_t)region->cpu);

        if (offset < region->bytes) {
            *out_paddr = sk_paddr_make(region->paddr.raw + offset);
            return SK_OK;
        }
    }
    *out_paddr = sk_paddr_make(SKI_PROCESS_FOREIGN | (uintptr_t)cpu);
    return SK_OK;
}

/* True if a buffer or a mapping lives in a region; logged. */
static bool is_busy(const struct sk_process *process)
{
    for (size_t i = 0; i < process->region_count; i++) {
        struct sk_dma_domain_statistics statistics;

        sk_dma_domain_get_statistics(&process->regions[i]->domain, &statistics);
        if (statistics.buffers_live != 0 || statistics.mappings_live != 0) {
            sk_log_print(&process->log, SK_LOG_ERROR,
                         "process: %llu buffers and %llu mappings live in region %u",
                         (unsigned long long)statistics.buffers_live,
                         (unsigned long long)statistics.mappings_live, (unsigned)i);
            return true;
        }
    }
    return false;
}

enum sk_status ski_process_remove_regions(struct sk_process *process)
{
    if (is_busy(process)) {
        return SK_ERR_BUSY;
    }
    for (size_t i = 0; i < process->region_count; i++) {
        struct ski_process_region *own = process->regions[i];

        if (sk_dma_domain_deinit(&own->domain) != SK_OK) {
            return SK_ERR_BUSY; /* not after the look above */
        }
        drop_memory(&own->region);
        free(own->metadata);
        free(own);
    }
    process->region_count = 0;
    return SK_OK;
}
