/* SPDX-License-Identifier: MIT */
/* Descriptor chains as the fake device reads them; 2.7.5. */
#include <stdlib.h>
#include <string.h>

#include <skio/endian.h>

#include "fake/virtio_internal.h"

struct descriptor {
    uint64_t address;
    uint32_t bytes;
    uint16_t flags;
    uint16_t next;
};

/* Where the walk of one chain is. */
struct walk {
    struct fake_device *fake;
    struct fake_queue *queue;
    struct fake_request *request;
    uint8_t *table;
    uint32_t table_size; /* descriptors */
    uint32_t length;     /* of the chain so far */
    bool indirect;
};

static void add_segment(struct fake_request *request, uint8_t *data, uint32_t bytes, bool write)
{
    if (request->segment_count == request->segment_room) {
        request->segment_room = request->segment_room == 0 ? 8 : request->segment_room * 2;
        request->segments =
            realloc(request->segments, request->segment_room * sizeof(*request->segments));
        if (request->segments == NULL) {
            abort();
        }
    }
    request->segments[request->segment_count++] = (struct fake_segment){ data, bytes, write };
}

/* Remembers what the driver wrote, to see whether it changes under the device's hands. */
void fake_request_add_span(struct fake_request *request, uint8_t *start, uint32_t bytes)
{
    if (request->span_count == request->span_room) {
        request->span_room = request->span_room == 0 ? 4 : request->span_room * 2;
        request->spans = realloc(request->spans, request->span_room * sizeof(*request->spans));
        if (request->spans == NULL) {
            abort();
        }
    }
    request->spans[request->span_count] =
        (struct fake_span){ start, bytes, fake_allocate(bytes) };
    memcpy(request->spans[request->span_count].saved, start, bytes);
    request->span_count++;
}

void fake_chain_refuse(struct fake_device *fake, struct fake_request *request, const char *what,
                       uint32_t number)
{
    request->refused = true;
    if (!fake->scribbled) {
        fake_violation(fake, "chain at %u: %s (%u)", request->head, what, number);
    }
}

static void refuse(struct walk *walk, const char *what, uint32_t number)
{
    fake_chain_refuse(walk->fake, walk->request, what, number);
}

static bool take_descriptor(struct walk *walk, uint32_t index, struct descriptor *out)
{
    uint8_t *at = walk->table + (size_t)index * 16;

    if (index >= walk->table_size) {
        refuse(walk, "index beyond the table", index);
        return false;
    }
    if (++walk->length > walk->queue->size) { /* 2.7.5.3.1, in a table too */
        refuse(walk, "longer than the queue", walk->length);
        return false;
    }
    *out = (struct descriptor){ sk_endian_load_le64(at), sk_endian_load_le32(at + 8),
                                sk_endian_load_le16(at + 12), sk_endian_load_le16(at + 14) };
    if (!walk->indirect) {
        if (walk->queue->owned[index]) {
            refuse(walk, "descriptor is in another chain at the device", index);
            return false;
        }
        walk->queue->owned[index] = true;
        fake_request_add_span(walk->request, at, 16);
    }
    if ((out->flags & ~(FAKE_DESCRIPTOR_NEXT | FAKE_DESCRIPTOR_WRITE | FAKE_DESCRIPTOR_INDIRECT)) !=
        0) {
        refuse(walk, "unknown descriptor flags", out->flags);
        return false;
    }
    return true;
}

static bool enter_indirect(struct walk *walk, const struct descriptor *descriptor)
{
    struct fake_device *fake = walk->fake;

    if (!fake_negotiated(fake, SK_VIRTIO_F_INDIRECT_DESC)) {
        refuse(walk, "indirect without the feature", descriptor->flags);
    } else if (walk->indirect) {
        refuse(walk, "indirect within indirect", descriptor->flags);
    } else if ((descriptor->flags & FAKE_DESCRIPTOR_NEXT) != 0) {
        refuse(walk, "indirect with next", descriptor->flags);
    } else if (descriptor->bytes == 0 || descriptor->bytes % 16 != 0) {
        refuse(walk, "indirect table's length", descriptor->bytes);
    } else if (descriptor->bytes / 16 > walk->queue->size) {
        refuse(walk, "indirect table longer than the queue", descriptor->bytes / 16);
    } else {
        walk->table =
            fake->config.reach(fake->config.reach_context, descriptor->address, descriptor->bytes);
        if (walk->table == NULL) {
            refuse(walk, "indirect table is unreachable", descriptor->bytes);
        }
    }
    if (walk->request->refused) {
        return false;
    }
    walk->indirect = true;
    walk->length--; /* the descriptor of the table is none of the chain's buffers */
    walk->table_size = descriptor->bytes / 16;
    fake_request_add_span(walk->request, walk->table, descriptor->bytes);
    return true;
}

bool fake_chain_take_buffer(struct fake_device *fake, struct fake_request *request,
                            uint64_t address, uint32_t bytes, bool write)
{
    uint32_t before = request->segment_count;
    uint8_t *data;

    if (bytes == 0) {
        fake_chain_refuse(fake, request, "descriptor of length zero", before + 1);
        return false;
    }
    if (!write && before > 0 && request->segments[before - 1].write) {
        fake_chain_refuse(fake, request, "readable descriptor after a writable one", before + 1);
        return false;
    }
    data = fake->config.reach(fake->config.reach_context, address, bytes);
    if (data == NULL) {
        fake_chain_refuse(fake, request, "buffer is unreachable, of bytes", bytes);
        return false;
    }
    add_segment(request, data, bytes, write);
    return true;
}

/* 2.7.5: with IN_ORDER the descriptors of a chain follow each other. */
static bool next_is_in_order(const struct walk *walk, uint32_t index, uint32_t next)
{
    uint32_t expected = index + 1;

    if (!walk->indirect && expected == walk->queue->size) {
        expected = 0;
    }
    return !fake_negotiated(walk->fake, SK_VIRTIO_F_IN_ORDER) || next == expected;
}

struct fake_request *fake_chain_read(struct fake_device *fake, struct fake_queue *queue,
                                     uint16_t head)
{
    struct fake_request *request = fake_allocate(sizeof(*request));
    struct walk walk = { .fake = fake,
                         .queue = queue,
                         .request = request,
                         .table = queue->table,
                         .table_size = queue->size };
    struct descriptor descriptor;
    uint32_t index = head;

    request->queue = queue;
    request->head = head;
    while (take_descriptor(&walk, index, &descriptor)) {
        if ((descriptor.flags & FAKE_DESCRIPTOR_INDIRECT) != 0) {
            index = 0;
            if (!enter_indirect(&walk, &descriptor)) {
                break;
            }
            continue;
        }
        if (!fake_chain_take_buffer(fake, request, descriptor.address, descriptor.bytes,
                                    (descriptor.flags & FAKE_DESCRIPTOR_WRITE) != 0) ||
            (descriptor.flags & FAKE_DESCRIPTOR_NEXT) == 0) {
            break;
        }
        if (!next_is_in_order(&walk, index, descriptor.next)) {
            refuse(&walk, "with IN_ORDER the next descriptor is not the next", descriptor.next);
            break;
        }
        index = descriptor.next;
    }
    return request;
}

void fake_chain_scribble(struct fake_device *fake, struct fake_request *request)
{
    request->scribbled = true;
    for (uint32_t i = 0; i < request->span_count; i++) {
        for (uint32_t j = 0; j < request->spans[i].bytes; j++) {
            request->spans[i].start[j] = (uint8_t)fake_random(fake);
        }
    }
}

void fake_chain_unscribble(struct fake_request *request)
{
    for (uint32_t i = 0; request->scribbled && i < request->span_count; i++) {
        memcpy(request->spans[i].start, request->spans[i].saved, request->spans[i].bytes);
    }
    request->scribbled = false;
}

void fake_chain_check_unchanged(struct fake_device *fake, const struct fake_request *request)
{
    if (request->scribbled) {
        return;
    }
    for (uint32_t i = 0; i < request->span_count; i++) {
        const struct fake_span *span = &request->spans[i];

        if (memcmp(span->start, span->saved, span->bytes) != 0) {
            fake_violation(fake, "chain at %u: descriptors changed while the device owned them",
                           request->head);
            return;
        }
    }
}
