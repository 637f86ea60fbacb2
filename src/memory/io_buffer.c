/* SPDX-License-Identifier: MIT */
#include <skio/io_buffer.h>

#include "base/door.h"
#include "memory/dma_private.h"

static bool is_usable(const struct sk_io_buffer *buffer)
{
    return buffer->state == SK_IO_BUFFER_STATE_LIVE || buffer->state == SK_IO_BUFFER_STATE_ADOPTED;
}

static const char *name_of(const struct sk_io_buffer *buffer)
{
    return buffer->owner == NULL ? "nobody" : buffer->owner;
}

/* SK_OK for a handle with memory; otherwise says, and logs, why it has none. */
static enum sk_status check(const struct sk_io_buffer *buffer, const char *call)
{
    enum sk_status status;

    if (buffer == NULL) {
        return SK_ERR_INVALID;
    }
    if (is_usable(buffer)) {
        return SK_OK;
    }
    status = buffer->state == SK_IO_BUFFER_STATE_MOVED ? SK_ERR_MOVED : SK_ERR_GONE;
    sk_log_print(buffer->log, SK_LOG_ERROR, "io_buffer: %s of the buffer of %s at %p: %s", call,
                 name_of(buffer), (const void *)buffer, sk_status_text(status));
    return status;
}

static enum sk_status check_range(const struct sk_io_buffer *buffer, uint64_t offset,
                                  uint64_t bytes, const char *call)
{
    enum sk_status status = check(buffer, call);

    if (status == SK_OK && !sk_checked_range(offset, bytes, buffer->capacity)) {
        sk_log_print(buffer->log, SK_LOG_ERROR,
                     "io_buffer: %s of %llu bytes at offset %llu of %llu, buffer of %s", call,
                     (unsigned long long)bytes, (unsigned long long)offset,
                     (unsigned long long)buffer->capacity, name_of(buffer));
        status = SK_ERR_RANGE;
    }
    return status;
}

static void link_live(struct sk_io_buffer *buffer)
{
    struct sk_dma_domain *domain = buffer->domain;

    buffer->next = domain->live;
    buffer->link = &domain->live;
    if (buffer->next != NULL) {
        buffer->next->link = &buffer->next;
    }
    domain->live = buffer;
    domain->statistics.buffers_live++;
}

/* Takes the handle off the live list; only its state, generation and names stay. */
static void retire(struct sk_io_buffer *buffer, enum sk_io_buffer_state state)
{
    *buffer->link = buffer->next;
    if (buffer->next != NULL) {
        buffer->next->link = buffer->link;
    }
    buffer->domain->statistics.buffers_live--;
    *buffer = (struct sk_io_buffer){ .state = (uint32_t)state,
                                     .generation = buffer->generation,
                                     .owner = buffer->owner,
                                     .log = buffer->log };
}

/* The same beginning of create and adopt.  Nothing of the handle changes. */
static enum sk_status check_new(const struct sk_io_buffer *buffer,
                                const struct sk_dma_domain *domain)
{
    if (buffer == NULL || domain == NULL) {
        return SK_ERR_INVALID;
    }
    if (domain->platform == NULL) {
        return SK_ERR_GONE;
    }
    return is_usable(buffer) ? SK_ERR_BUSY : SK_OK;
}

/* Fills the handle: the only place where one comes to life. */
static void start(struct sk_io_buffer *buffer, struct sk_dma_domain *domain,
                  const struct sk_io_buffer *made)
{
    *buffer = *made;
    buffer->domain = domain;
    buffer->log = domain->platform->log;
    buffer->generation = ++domain->next_generation;
    link_live(buffer);
}

static enum sk_status report_create(const struct sk_dma_domain *domain, uint64_t size,
                                    uint64_t alignment, enum sk_status status)
{
    const struct sk_log *log =
        domain == NULL || domain->platform == NULL ? NULL : domain->platform->log;

    if (status != SK_OK) {
        sk_log_print(log, SK_LOG_ERROR, "io_buffer: no buffer of %llu bytes aligned to %llu: %s",
                     (unsigned long long)size, (unsigned long long)alignment,
                     sk_status_text(status));
    }
    return status;
}

/* Takes, zeroes and shows memory to the device, in this order. */
static enum sk_status make(struct sk_dma_domain *domain,
                           const struct sk_dma_constraints *constraints,
                           struct sk_io_buffer *made)
{
    struct ski_dma_memory memory;
    enum sk_status status = ski_dma_domain_take(domain, constraints, &memory);

    if (status != SK_OK) {
        return status;
    }
    ski_door_zero(ski_door_share(memory.run.cpu), (size_t)memory.run.bytes);
    ski_dma_domain_sync_for_device(domain, memory.run.cpu, memory.run.bytes, memory.coherent);
    status = ski_dma_domain_expose(domain, memory.run.paddr, memory.run.bytes, SK_DMA_BOTH,
                                   constraints, &made->address);
    if (status != SK_OK) {
        ski_dma_domain_give(domain, &memory.run, status == SK_ERR_IN_DOUBT);
        return status;
    }
    made->state = SK_IO_BUFFER_STATE_LIVE;
    made->run = memory.run;
    made->data = memory.run.cpu;
    made->capacity = memory.run.bytes;
    made->coherent = memory.coherent;
    return SK_OK;
}

static enum sk_status create(struct sk_io_buffer *buffer, struct sk_dma_domain *domain,
                             const struct sk_dma_constraints *wanted)
{
    struct sk_io_buffer made = { .size = wanted->size_bytes };
    struct sk_dma_constraints constraints = *wanted;
    enum sk_status status = check_new(buffer, domain);

    if (status != SK_OK) {
        return status;
    }
    if (wanted->size_bytes == 0 || wanted->size_bytes > SIZE_MAX - SK_DMA_PAGE_BYTES) {
        return SK_ERR_SIZE;
    }
    status = sk_dma_constraints_merge(&constraints, &domain->limits);
    if (status != SK_OK) {
        return status;
    }
    if (!ski_dma_constraints_to_pages(&constraints)) {
        return SK_ERR_SIZE;
    }
    status = make(domain, &constraints, &made);
    if (status == SK_OK) {
        start(buffer, domain, &made);
    }
    return status;
}

enum sk_status sk_io_buffer_create(struct sk_io_buffer *buffer, struct sk_dma_domain *domain,
                                   uint64_t size, uint64_t alignment)
{
    struct sk_dma_constraints constraints = { .size_bytes = size, .alignment_bytes = alignment };
    enum sk_status status =
        alignment == 0 ? SK_ERR_ALIGNMENT : create(buffer, domain, &constraints);

    return report_create(domain, size, alignment, status);
}

enum sk_status sk_io_buffer_create_constrained(struct sk_io_buffer *buffer,
                                               struct sk_dma_domain *domain,
                                               const struct sk_dma_constraints *constraints)
{
    if (constraints == NULL) {
        return SK_ERR_INVALID;
    }
    return report_create(domain, constraints->size_bytes, constraints->alignment_bytes,
                         create(buffer, domain, constraints));
}

/* Long-lived foreign memory must be usable as it is. */
static enum sk_status check_adoptable(const struct sk_dma_domain *domain, const void *cpu,
                                      sk_paddr paddr, uint64_t size)
{
    if (size == 0 || size - 1 > UINTPTR_MAX - (uintptr_t)cpu) {
        return SK_ERR_SIZE;
    }
    if (cpu == NULL) {
        return SK_ERR_INVALID;
    }
    if (domain->force_bounce || size - 1 > UINT64_MAX - paddr.raw) {
        return SK_ERR_UNREACHABLE;
    }
    if (domain->iommu != NULL && !ski_dma_domain_owns_pages(domain, cpu, size)) {
        return SK_ERR_ALIGNMENT;
    }
    if (domain->coherent) {
        return SK_OK;
    }
    if (!ski_dma_domain_maintains_caches(domain)) {
        return SK_ERR_UNSUPPORTED;
    }
    return ski_dma_domain_owns_lines(domain, cpu, size) ? SK_OK : SK_ERR_ALIGNMENT;
}

static enum sk_status adopt(struct sk_io_buffer *buffer, struct sk_dma_domain *domain, void *cpu,
                            sk_paddr paddr, uint64_t size)
{
    struct sk_io_buffer made = { .data = cpu, .size = size, .capacity = size,
                                 .state = SK_IO_BUFFER_STATE_ADOPTED };
    enum sk_status status = check_new(buffer, domain);

    if (status == SK_OK) {
        status = check_adoptable(domain, cpu, paddr, size);
    }
    if (status != SK_OK) {
        return status;
    }
    made.coherent = domain->coherent;
    ski_dma_domain_sync_for_device(domain, cpu, size, made.coherent);
    status = ski_dma_domain_expose(domain, paddr, size, SK_DMA_BOTH, &domain->limits,
                                   &made.address);
    if (status == SK_OK) {
        start(buffer, domain, &made);
    }
    return status;
}

enum sk_status sk_io_buffer_adopt(struct sk_io_buffer *buffer, struct sk_dma_domain *domain,
                                  void *cpu, sk_paddr paddr, uint64_t size)
{
    return report_create(domain, size, 1, adopt(buffer, domain, cpu, paddr, size));
}

enum sk_status sk_io_buffer_destroy(struct sk_io_buffer *buffer)
{
    struct sk_dma_domain *domain;
    enum sk_status status;

    if (buffer != NULL && buffer->state == SK_IO_BUFFER_STATE_EMPTY) {
        return SK_OK;
    }
    status = check(buffer, "destroy");
    if (status != SK_OK) {
        return status;
    }
    if (buffer->holds != 0) {
        sk_log_print(buffer->log, SK_LOG_ERROR,
                     "io_buffer: destroy of the buffer of %s: a device holds it %u times",
                     name_of(buffer), buffer->holds);
        return SK_ERR_BUSY;
    }
    domain = buffer->domain;
    status = ski_dma_domain_conceal(domain, buffer->address, buffer->capacity);
    if (status != SK_OK) {
        domain->statistics.buffers_quarantined++;
    }
    if (buffer->state == SK_IO_BUFFER_STATE_LIVE) {
        ski_dma_domain_give(domain, &buffer->run, status != SK_OK);
    }
    retire(buffer, status == SK_OK ? SK_IO_BUFFER_STATE_DESTROYED
                                   : SK_IO_BUFFER_STATE_QUARANTINED);
    return status;
}

enum sk_status sk_io_buffer_move(struct sk_io_buffer *destination, struct sk_io_buffer *source)
{
    enum sk_status status = check(source, "move");

    if (status != SK_OK || destination == NULL) {
        return status != SK_OK ? status : SK_ERR_INVALID;
    }
    if (destination == source) {
        return SK_OK;
    }
    if (is_usable(destination)) {
        sk_log_print(source->log, SK_LOG_ERROR,
                     "io_buffer: move of the buffer of %s onto the live buffer of %s",
                     name_of(source), name_of(destination));
        return SK_ERR_BUSY;
    }
    *destination = *source;
    link_live(destination); /* before the source leaves: the count never shows none */
    retire(source, SK_IO_BUFFER_STATE_MOVED);
    return SK_OK;
}

void sk_io_buffer_set_owner(struct sk_io_buffer *buffer, const char *owner)
{
    if (buffer != NULL) {
        buffer->owner = owner;
    }
}

void sk_io_buffer_scope_end(struct sk_io_buffer *buffer)
{
    enum sk_status status = SK_OK;

    if (sk_io_buffer_is_busy(buffer)) {
        status = sk_io_buffer_quarantine(buffer);
    } else if (sk_io_buffer_is_valid(buffer)) {
        status = sk_io_buffer_destroy(buffer);
    }
    (void)status; /* a scope has nobody to tell, and both have logged */
}

bool sk_io_buffer_is_valid(const struct sk_io_buffer *buffer)
{
    return buffer != NULL && is_usable(buffer);
}

void *sk_io_buffer_data(const struct sk_io_buffer *buffer)
{
    return sk_io_buffer_is_valid(buffer) ? buffer->data : NULL;
}

uint64_t sk_io_buffer_size(const struct sk_io_buffer *buffer)
{
    return sk_io_buffer_is_valid(buffer) ? buffer->size : 0;
}

uint64_t sk_io_buffer_capacity(const struct sk_io_buffer *buffer)
{
    return sk_io_buffer_is_valid(buffer) ? buffer->capacity : 0;
}

bool sk_io_buffer_is_coherent(const struct sk_io_buffer *buffer)
{
    return sk_io_buffer_is_valid(buffer) && buffer->coherent;
}

enum sk_status sk_io_buffer_address(const struct sk_io_buffer *buffer, sk_daddr *out_address)
{
    enum sk_status status = check(buffer, "address");

    if (status == SK_OK && out_address == NULL) {
        return SK_ERR_INVALID;
    }
    if (status == SK_OK) {
        *out_address = buffer->address;
    }
    return status;
}

enum sk_status sk_io_buffer_segment(const struct sk_io_buffer *buffer, uint64_t offset,
                                    uint64_t bytes, struct sk_dma_segment *out_segment)
{
    enum sk_status status = check_range(buffer, offset, bytes, "segment");

    if (status != SK_OK) {
        return status;
    }
    if (out_segment == NULL) {
        return SK_ERR_INVALID;
    }
    if (bytes == 0 || bytes > UINT32_MAX) {
        return SK_ERR_SIZE;
    }
    *out_segment = (struct sk_dma_segment){ { buffer->address.raw + offset }, (uint32_t)bytes };
    return SK_OK;
}

enum sk_status sk_io_buffer_view(const struct sk_io_buffer *buffer, uint64_t offset, uint64_t size,
                                 struct sk_io_view *out_view)
{
    enum sk_status status = check_range(buffer, offset, size, "view");

    if (status == SK_OK && out_view == NULL) {
        return SK_ERR_INVALID;
    }
    if (status == SK_OK) {
        *out_view = (struct sk_io_view){ .buffer = buffer,
                                         .domain = buffer->domain,
                                         .generation = buffer->generation,
                                         .offset = offset,
                                         .size = size };
    }
    return status;
}

static enum sk_status check_view(const struct sk_io_view *view)
{
    enum sk_status status;

    if (view == NULL) {
        return SK_ERR_INVALID;
    }
    if (view->buffer == NULL) {
        return SK_ERR_GONE;
    }
    status = check(view->buffer, "view");
    if (status == SK_OK && (view->domain != view->buffer->domain ||
                            view->generation != view->buffer->generation)) {
        sk_log_print(view->buffer->log, SK_LOG_ERROR,
                     "io_buffer: view of memory that the buffer of %s had before",
                     name_of(view->buffer));
        status = SK_ERR_GONE;
    }
    return status;
}

enum sk_status sk_io_view_part(const struct sk_io_view *view, uint64_t offset, uint64_t size,
                               struct sk_io_view *out_view)
{
    enum sk_status status = check_view(view);

    if (status != SK_OK) {
        return status;
    }
    if (out_view == NULL) {
        return SK_ERR_INVALID;
    }
    if (!sk_checked_range(offset, size, view->size)) {
        return SK_ERR_RANGE;
    }
    /* No overflow: the view lies in its buffer, and the part in the view. */
    return sk_io_buffer_view(view->buffer, view->offset + offset, size, out_view);
}

enum sk_status sk_io_view_data(const struct sk_io_view *view, void **out_data)
{
    enum sk_status status = check_view(view);

    if (status == SK_OK && out_data == NULL) {
        return SK_ERR_INVALID;
    }
    if (status == SK_OK) {
        *out_data = (uint8_t *)view->buffer->data + view->offset;
    }
    return status;
}

enum sk_status sk_io_buffer_for_device(struct sk_io_buffer *buffer, uint64_t offset, uint64_t bytes,
                                       enum sk_dma_direction direction)
{
    enum sk_status status = check_range(buffer, offset, bytes, "for_device");

    if (status == SK_OK && (unsigned)direction >= SK_DMA_DIRECTION_COUNT) {
        return SK_ERR_INVALID;
    }
    if (status == SK_OK) {
        status = sk_io_buffer_hold(buffer);
    }
    if (status == SK_OK) {
        ski_dma_domain_sync_for_device(buffer->domain, (uint8_t *)buffer->data + offset, bytes,
                                       buffer->coherent);
    }
    return status;
}

enum sk_status sk_io_buffer_for_cpu(struct sk_io_buffer *buffer, uint64_t offset, uint64_t bytes,
                                    enum sk_dma_direction direction)
{
    enum sk_status status = check_range(buffer, offset, bytes, "for_cpu");

    if (status == SK_OK && (unsigned)direction >= SK_DMA_DIRECTION_COUNT) {
        return SK_ERR_INVALID;
    }
    if (status == SK_OK) {
        status = sk_io_buffer_release(buffer);
    }
    if (status == SK_OK) {
        ski_dma_domain_sync_for_cpu(buffer->domain, (uint8_t *)buffer->data + offset, bytes,
                                    direction, buffer->coherent);
    }
    return status;
}

enum sk_status sk_io_buffer_hold(struct sk_io_buffer *buffer)
{
    enum sk_status status = check(buffer, "hold");

    if (status == SK_OK && buffer->holds == UINT32_MAX) {
        return SK_ERR_BUSY;
    }
    if (status == SK_OK) {
        buffer->holds++;
    }
    return status;
}

enum sk_status sk_io_buffer_release(struct sk_io_buffer *buffer)
{
    enum sk_status status = check(buffer, "release");

    if (status == SK_OK && buffer->holds == 0) {
        sk_log_print(buffer->log, SK_LOG_ERROR,
                     "io_buffer: release of the buffer of %s, which no device holds",
                     name_of(buffer));
        return SK_ERR_INVALID;
    }
    if (status == SK_OK) {
        buffer->holds--;
    }
    return status;
}

bool sk_io_buffer_is_busy(const struct sk_io_buffer *buffer)
{
    return sk_io_buffer_is_valid(buffer) && buffer->holds != 0;
}

enum sk_status sk_io_buffer_quarantine(struct sk_io_buffer *buffer)
{
    enum sk_status status = check(buffer, "quarantine");

    if (status != SK_OK) {
        return status;
    }
    sk_log_print(buffer->log, SK_LOG_WARNING,
                 "io_buffer: gave up the buffer of %s, %llu bytes: its device was not stopped",
                 name_of(buffer), (unsigned long long)buffer->capacity);
    if (buffer->state == SK_IO_BUFFER_STATE_LIVE) {
        ski_dma_domain_give(buffer->domain, &buffer->run, true);
    }
    buffer->domain->statistics.buffers_quarantined++;
    retire(buffer, SK_IO_BUFFER_STATE_QUARANTINED);
    return SK_OK;
}
