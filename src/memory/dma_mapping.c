/* SPDX-License-Identifier: MIT */
#include "memory/dma_private.h"

#include "base/door.h"

/* One map call on its way. */
struct mapper {
    struct sk_dma_domain *domain;
    struct sk_dma_constraints constraints; /* of the domain and the caller, merged */
    struct sk_dma_mapping *mapping;
    size_t segment_capacity;
    uint64_t piece_bytes_max; /* longest segment */
    uint64_t page_bytes;
    uint64_t done; /* bytes of the caller's memory that were looked at */
    bool bounce;   /* the memory cannot be shown as it lies, but a copy may */
};

/* Physically contiguous bytes. */
struct chunk {
    sk_paddr paddr;
    uint64_t bytes;
};

static uint64_t smaller(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* The next bytes up to the end of their page. */
static enum sk_status next_chunk(struct mapper *mapper, struct chunk *out_chunk)
{
    const struct sk_platform *platform = mapper->domain->platform;
    const uint8_t *cpu = (const uint8_t *)mapper->mapping->cpu + mapper->done;
    uint64_t room = mapper->page_bytes - ((uintptr_t)cpu & (mapper->page_bytes - 1));
    enum sk_status status = platform->physical_of(platform->context, cpu, &out_chunk->paddr);

    if (status != SK_OK) {
        return status;
    }
    out_chunk->bytes = smaller(room, mapper->mapping->bytes - mapper->done);
    mapper->done += out_chunk->bytes;
    return SK_OK;
}

/* How many bytes a segment may have from `address` on before it meets the boundary. */
static uint64_t room_to_boundary(const struct mapper *mapper, uint64_t address)
{
    uint64_t boundary = mapper->constraints.boundary_bytes;

    return boundary == 0 ? UINT64_MAX : boundary - (address & (boundary - 1));
}

/* The last segment if memory at `address` may continue it, or NULL. */
static struct sk_dma_segment *growing_segment(const struct mapper *mapper, uint64_t address)
{
    struct sk_dma_mapping *mapping = mapper->mapping;
    uint64_t boundary = mapper->constraints.boundary_bytes;
    struct sk_dma_segment *last;

    if (mapping->segment_count == 0 || (boundary != 0 && (address & (boundary - 1)) == 0)) {
        return NULL;
    }
    last = &mapping->segments[mapping->segment_count - 1];
    return last->address.raw + last->bytes == address && last->bytes < mapper->piece_bytes_max
               ? last
               : NULL;
}

/* Adds device memory as segments, grown or new ones; false if there are too many. */
static bool add_segments(struct mapper *mapper, uint64_t address, uint64_t bytes)
{
    struct sk_dma_mapping *mapping = mapper->mapping;

    while (bytes > 0) {
        uint64_t room = smaller(room_to_boundary(mapper, address), mapper->piece_bytes_max);
        struct sk_dma_segment *segment = growing_segment(mapper, address);

        if (segment != NULL) {
            room = smaller(room, mapper->piece_bytes_max - segment->bytes);
        } else if (mapping->segment_count == mapper->segment_capacity) {
            return false;
        } else {
            segment = &mapping->segments[mapping->segment_count++];
            *segment = (struct sk_dma_segment){ { address }, 0 };
        }
        room = smaller(room, bytes);
        segment->bytes += (uint32_t)room; /* piece_bytes_max fits in 32 bits */
        address += room;
        bytes -= room;
    }
    return true;
}

static bool segments_are_allowed(const struct mapper *mapper)
{
    for (size_t i = 0; i < mapper->mapping->segment_count; i++) {
        const struct sk_dma_segment *segment = &mapper->mapping->segments[i];

        if (!ski_dma_constraints_allow(&mapper->constraints, segment->address, segment->bytes)) {
            return false;
        }
    }
    return true;
}

/* Without an IOMMU: translate page by page. */
static enum sk_status translate_pages(struct mapper *mapper)
{
    while (mapper->done < mapper->mapping->bytes) {
        struct chunk chunk;
        sk_daddr address;
        enum sk_status status = next_chunk(mapper, &chunk);

        if (status != SK_OK) {
            return status;
        }
        status = sk_dma_domain_translate(mapper->domain, chunk.paddr, chunk.bytes, &address);
        if (status != SK_OK || !add_segments(mapper, address.raw, chunk.bytes)) {
            mapper->bounce = true;
            return SK_ERR_UNREACHABLE;
        }
    }
    mapper->bounce = !segments_are_allowed(mapper);
    return mapper->bounce ? SK_ERR_UNREACHABLE : SK_OK;
}

/* Undoes the IOMMU's maps, newest first, all of them; the first failure is the answer. */
static enum sk_status conceal_segments(struct sk_dma_mapping *mapping)
{
    enum sk_status status = SK_OK;

    while (mapping->segment_count > 0) {
        struct sk_dma_segment *segment = &mapping->segments[--mapping->segment_count];
        enum sk_status step =
            ski_dma_domain_conceal(mapping->domain, segment->address, segment->bytes);

        status = status == SK_OK ? step : status;
    }
    return status;
}

/*
 * Maps one chunk through the IOMMU, as pieces that are one segment and one map
 * each: nothing but the segments remembers what has to be taken back.
 */
static enum sk_status expose_chunk(struct mapper *mapper, struct chunk chunk)
{
    struct sk_dma_mapping *mapping = mapper->mapping;
    uint64_t longest = smaller(mapper->piece_bytes_max, room_to_boundary(mapper, 0)) &
                       ~(mapper->page_bytes - 1);

    while (chunk.bytes > 0) {
        uint64_t bytes = smaller(chunk.bytes, longest);
        sk_daddr address;
        enum sk_status status;

        if (mapping->segment_count == mapper->segment_capacity || longest == 0) {
            mapper->bounce = true;
            return SK_ERR_UNREACHABLE;
        }
        status = ski_dma_domain_expose(mapper->domain, chunk.paddr, bytes, mapping->direction,
                                       &mapper->constraints, &address);
        if (status != SK_OK) {
            mapper->bounce = status == SK_ERR_UNREACHABLE;
            return status;
        }
        mapping->segments[mapping->segment_count++] =
            (struct sk_dma_segment){ address, (uint32_t)bytes };
        chunk.paddr.raw += bytes;
        chunk.bytes -= bytes;
    }
    return SK_OK;
}

/* With an IOMMU: one map for each physically contiguous run. */
static enum sk_status expose_runs(struct mapper *mapper)
{
    struct chunk run = { { 0 }, 0 };
    enum sk_status status = SK_OK;

    while (status == SK_OK && mapper->done < mapper->mapping->bytes) {
        struct chunk chunk;

        status = next_chunk(mapper, &chunk);
        if (status == SK_OK && run.bytes > 0 && run.paddr.raw + run.bytes == chunk.paddr.raw) {
            run.bytes += chunk.bytes;
        } else if (status == SK_OK) {
            status = expose_chunk(mapper, run);
            run = chunk;
        }
    }
    if (status == SK_OK) {
        status = expose_chunk(mapper, run);
    }
    if (status != SK_OK && conceal_segments(mapper->mapping) != SK_OK) {
        mapper->bounce = false;
        status = SK_ERR_IN_DOUBT;
    }
    return status;
}

/* True if only a copy can be shown to the device, whatever its addresses are. */
static bool must_bounce(const struct mapper *mapper)
{
    const struct sk_dma_domain *domain = mapper->domain;
    const struct sk_dma_mapping *mapping = mapper->mapping;

    if (domain->force_bounce || mapper->constraints.copied) {
        return true;
    }
    /* An IOMMU shows whole pages: neighbours in them are nobody's business. */
    if (domain->iommu != NULL &&
        !ski_dma_domain_owns_pages(domain, mapping->cpu, mapping->bytes)) {
        return true;
    }
    if (domain->coherent) {
        return false;
    }
    return !ski_dma_domain_maintains_caches(domain) ||
           (mapping->direction != SK_DMA_TO_DEVICE &&
            !ski_dma_domain_owns_lines(domain, mapping->cpu, mapping->bytes));
}

static enum sk_status map_directly(struct mapper *mapper)
{
    struct sk_dma_mapping *mapping = mapper->mapping;
    enum sk_status status;

    if (mapper->domain->platform->physical_of == NULL) {
        return SK_ERR_UNSUPPORTED;
    }
    status = mapper->domain->iommu == NULL ? translate_pages(mapper) : expose_runs(mapper);
    if (status == SK_OK) {
        mapping->coherent = mapper->domain->coherent;
        ski_dma_domain_sync_for_device(mapper->domain, mapping->cpu, mapping->bytes,
                                       mapping->coherent);
    }
    return status;
}

/* What the bounce run must satisfy: one segment if it can be one, else aligned for few. */
static bool bounce_constraints(const struct mapper *mapper, struct sk_dma_constraints *out)
{
    *out = mapper->constraints;
    if (out->boundary_bytes != 0 && out->size_bytes > out->boundary_bytes) {
        out->alignment_preferred = out->boundary_bytes;
        out->boundary_bytes = 0;
    }
    return ski_dma_constraints_to_pages(out);
}

/* Gives the run content that may be seen: the caller's bytes or zeros, and a zero tail. */
static void fill_bounce(struct mapper *mapper, const struct ski_dma_memory *memory)
{
    const struct sk_dma_mapping *mapping = mapper->mapping;
    uint8_t SKI_SHARED *shared = ski_door_share(memory->run.cpu);
    uint64_t copied = mapping->direction == SK_DMA_FROM_DEVICE ? 0 : mapping->bytes;

    if (copied > 0) {
        ski_door_copy_in(shared, mapping->cpu, (size_t)copied);
        mapper->domain->statistics.bounced_bytes += copied;
    }
    ski_door_zero(shared + copied, (size_t)(memory->run.bytes - copied));
    ski_dma_domain_sync_for_device(mapper->domain, memory->run.cpu, memory->run.bytes,
                                   memory->coherent);
}

/* Shows the filled run to the device and cuts it into segments. */
static enum sk_status expose_bounce(struct mapper *mapper, const struct sk_dma_run *run,
                                    const struct sk_dma_constraints *constraints)
{
    struct sk_dma_mapping *mapping = mapper->mapping;
    sk_daddr address;
    enum sk_status status = ski_dma_domain_expose(mapper->domain, run->paddr, run->bytes,
                                                  mapping->direction, constraints, &address);

    if (status != SK_OK) {
        return status;
    }
    mapping->segment_count = 0;
    if (!add_segments(mapper, address.raw, mapping->bytes) || !segments_are_allowed(mapper)) {
        mapping->segment_count = 0;
        status = ski_dma_domain_conceal(mapper->domain, address, run->bytes);
        return status == SK_OK ? SK_ERR_UNREACHABLE : SK_ERR_IN_DOUBT;
    }
    return SK_OK;
}

static enum sk_status map_bounced(struct mapper *mapper)
{
    struct sk_dma_mapping *mapping = mapper->mapping;
    struct sk_dma_constraints constraints;
    struct ski_dma_memory memory;
    uint64_t copied = mapper->domain->statistics.bounced_bytes;
    enum sk_status status;

    if (!bounce_constraints(mapper, &constraints)) {
        return SK_ERR_NO_MEMORY;
    }
    status = ski_dma_domain_take(mapper->domain, &constraints, &memory);
    if (status != SK_OK) {
        return status;
    }
    fill_bounce(mapper, &memory);
    status = expose_bounce(mapper, &memory.run, &constraints);
    if (status != SK_OK) {
        ski_dma_domain_give(mapper->domain, &memory.run, status == SK_ERR_IN_DOUBT);
        mapper->domain->statistics.bounced_bytes = copied;
        return status;
    }
    mapping->bounced = true;
    mapping->coherent = memory.coherent;
    mapping->bounce = memory.run;
    mapper->domain->statistics.bounced_mappings++;
    return SK_OK;
}

/* The longest segment: 32 bits, the limit, and such that the next one is aligned again. */
static uint64_t piece_bytes_max(const struct sk_dma_constraints *constraints, uint64_t page_bytes)
{
    uint64_t limit = constraints->segment_bytes_max;
    uint64_t longest = limit == 0 ? UINT32_MAX : smaller(limit, UINT32_MAX);
    uint64_t unit = constraints->alignment_bytes == 0 ? 1 : constraints->alignment_bytes;

    if (limit == 0 && unit < page_bytes) {
        unit = page_bytes;
    }
    return constraints->size_bytes <= longest || longest < unit ? longest : longest & ~(unit - 1);
}

static enum sk_status prepare(struct mapper *mapper, const struct sk_dma_constraints *constraints)
{
    struct sk_dma_constraints size = { .size_bytes = mapper->mapping->bytes };
    enum sk_status status = SK_OK;

    mapper->page_bytes = ski_dma_domain_page_bytes(mapper->domain);
    mapper->constraints = mapper->domain->limits;
    if (constraints != NULL) {
        struct sk_dma_constraints places = *constraints;

        places.size_bytes = 0; /* the size is what is mapped */
        status = sk_dma_constraints_merge(&mapper->constraints, &places);
    }
    if (status == SK_OK) {
        status = sk_dma_constraints_merge(&mapper->constraints, &size);
    }
    if (mapper->constraints.segment_count_max != 0) {
        mapper->segment_capacity =
            (size_t)smaller(mapper->segment_capacity, mapper->constraints.segment_count_max);
    }
    mapper->piece_bytes_max = piece_bytes_max(&mapper->constraints, mapper->page_bytes);
    return status;
}

static enum sk_status map_somehow(struct mapper *mapper)
{
    enum sk_status status = SK_OK;

    mapper->bounce = must_bounce(mapper);
    if (!mapper->bounce) {
        status = map_directly(mapper);
    }
    if (mapper->bounce) {
        mapper->mapping->segment_count = 0;
        status = map_bounced(mapper);
    }
    return status;
}

enum sk_status sk_dma_domain_map(struct sk_dma_domain *domain, void *cpu, uint64_t bytes,
                                 enum sk_dma_direction direction,
                                 const struct sk_dma_constraints *constraints,
                                 struct sk_dma_segment *segments, size_t segment_capacity,
                                 struct sk_dma_mapping *out_mapping)
{
    struct mapper mapper = { .domain = domain,
                             .mapping = out_mapping,
                             .segment_capacity = segment_capacity };
    enum sk_status status;

    if (out_mapping == NULL) {
        return SK_ERR_INVALID;
    }
    *out_mapping = (struct sk_dma_mapping){ 0 };
    if (domain == NULL || cpu == NULL || segments == NULL || segment_capacity == 0 ||
        (unsigned)direction >= SK_DMA_DIRECTION_COUNT) {
        return SK_ERR_INVALID;
    }
    if (domain->platform == NULL) {
        return SK_ERR_GONE;
    }
    if (bytes == 0 || bytes - 1 > UINTPTR_MAX - (uintptr_t)cpu) {
        return SK_ERR_SIZE;
    }
    *out_mapping = (struct sk_dma_mapping){ .domain = domain, .cpu = cpu, .bytes = bytes,
                                            .direction = direction, .segments = segments };
    status = prepare(&mapper, constraints);
    if (status == SK_OK) {
        status = map_somehow(&mapper);
    }
    if (status != SK_OK) {
        *out_mapping = (struct sk_dma_mapping){ 0 };
        return status;
    }
    domain->statistics.mappings_live++;
    return SK_OK;
}

/* Brings back what the device wrote, and no byte that it did not. */
static void copy_back(struct sk_dma_mapping *mapping, uint64_t written_bytes)
{
    uint64_t bytes = smaller(written_bytes, mapping->bytes);

    ski_dma_domain_sync_for_cpu(mapping->domain, mapping->bounce.cpu, mapping->bounce.bytes,
                                mapping->direction, mapping->coherent);
    if (mapping->direction != SK_DMA_TO_DEVICE && bytes > 0) {
        ski_door_copy_out(mapping->cpu, ski_door_share(mapping->bounce.cpu), (size_t)bytes);
        mapping->domain->statistics.bounced_bytes += bytes;
    }
}

static enum sk_status unmap_bounced(struct sk_dma_mapping *mapping, uint64_t written_bytes)
{
    enum sk_status status = ski_dma_domain_conceal(mapping->domain, mapping->segments[0].address,
                                                   mapping->bounce.bytes);

    copy_back(mapping, written_bytes);
    ski_dma_domain_give(mapping->domain, &mapping->bounce, status != SK_OK);
    return status;
}

static enum sk_status unmap_direct(struct sk_dma_mapping *mapping)
{
    enum sk_status status = mapping->domain->iommu == NULL ? SK_OK : conceal_segments(mapping);

    ski_dma_domain_sync_for_cpu(mapping->domain, mapping->cpu, mapping->bytes, mapping->direction,
                                mapping->coherent);
    return status;
}

enum sk_status sk_dma_domain_unmap(struct sk_dma_mapping *mapping, uint64_t written_bytes)
{
    enum sk_status status;

    if (mapping == NULL) {
        return SK_ERR_INVALID;
    }
    if (mapping->domain == NULL) {
        return SK_ERR_GONE;
    }
    status = mapping->bounced ? unmap_bounced(mapping, written_bytes) : unmap_direct(mapping);
    mapping->domain->statistics.mappings_live--;
    *mapping = (struct sk_dma_mapping){ 0 };
    return status;
}

enum sk_status sk_dma_domain_quarantine(struct sk_dma_mapping *mapping)
{
    if (mapping == NULL) {
        return SK_ERR_INVALID;
    }
    if (mapping->domain == NULL) {
        return SK_ERR_GONE;
    }
    sk_log_print(mapping->domain->platform->log, SK_LOG_WARNING,
                 "dma_domain: gave up %s memory at %p, %llu bytes: its device was not stopped",
                 mapping->bounced ? "bounce" : "foreign",
                 mapping->bounced ? mapping->bounce.cpu : mapping->cpu,
                 (unsigned long long)mapping->bytes);
    if (mapping->bounced) {
        ski_dma_domain_give(mapping->domain, &mapping->bounce, true);
    }
    mapping->domain->statistics.mappings_live--;
    *mapping = (struct sk_dma_mapping){ 0 };
    return SK_OK;
}
