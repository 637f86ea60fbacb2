/* SPDX-License-Identifier: MIT */
/* Messages about what both sides share: memory, and the record of requests in flight. */
#include "backend_private.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

/* ---- Memory ------------------------------------------------------------------------------ */

static void swap_memory(struct ski_backend_connection *connection,
                        const struct ski_device_memory *next)
{
    ski_backend_visit_at_rest(connection, 0, connection->backend->options.queue_count);
    connection->memory = *next;
    for (uint32_t i = 0; i < connection->backend->options.queue_count; i++) {
        ski_backend_queue_remap(&connection->queues[i]);
    }
    ski_backend_leave_all(connection);
}

static bool map_region(struct ski_device_memory *memory, int fd,
                       const struct ski_vhost_user_region *from)
{
    struct ski_device_region region = { .guest = from->guest_address,
                                        .user = from->user_address,
                                        .bytes = from->size };

    if (ski_backend_map(fd, from->mmap_offset, &region) != SK_OK) {
        return false;
    }
    if (ski_device_memory_add(memory, &region) != SK_OK) {
        ski_backend_unmap(&region);
        return false;
    }
    return true;
}

enum ski_backend_outcome ski_backend_set_memory(struct ski_backend_connection *connection)
{
    struct ski_vhost_user_message *message = &connection->message;
    const struct ski_vhost_user_memory *table = &message->payload.memory;
    struct ski_device_memory before = connection->memory;
    struct ski_device_memory next = { .count = 0 };
    bool good = true;

    if (message->header.size < SKI_VHOST_USER_MEMORY_HEAD ||
        table->count > SKI_VHOST_USER_REGIONS_MAX || message->fd_count != table->count ||
        message->header.size < SKI_VHOST_USER_MEMORY_HEAD + table->count * sizeof(table->regions[0])) {
        return SKI_BACKEND_END;
    }
    for (uint32_t i = 0; i < table->count && good; i++) {
        good = map_region(&next, message->fds[i], &table->regions[i]);
    }
    if (good) {
        swap_memory(connection, &next);
        next = before; /* to be unmapped */
    }
    for (uint32_t i = 0; i < next.count; i++) {
        ski_backend_unmap(&next.regions[i]);
    }
    return good ? SKI_BACKEND_DONE : SKI_BACKEND_REFUSED;
}

enum ski_backend_outcome ski_backend_get_slots(struct ski_backend_connection *connection)
{
    return ski_backend_answer(connection, SKI_DEVICE_REGIONS_MAX);
}

enum ski_backend_outcome ski_backend_add_memory(struct ski_backend_connection *connection)
{
    struct ski_device_memory next = connection->memory;

    if (!map_region(&next, connection->message.fds[0],
                    &connection->message.payload.region.region)) {
        return SKI_BACKEND_REFUSED;
    }
    swap_memory(connection, &next);
    return SKI_BACKEND_DONE;
}

enum ski_backend_outcome ski_backend_remove_memory(struct ski_backend_connection *connection)
{
    const struct ski_vhost_user_region *from = &connection->message.payload.region.region;
    struct ski_device_memory next = connection->memory;
    struct ski_device_region region;

    if (ski_device_memory_remove(&next, from->guest_address, from->user_address, from->size,
                                 &region) != SK_OK) {
        return SKI_BACKEND_REFUSED;
    }
    swap_memory(connection, &next);
    ski_backend_unmap(&region);
    return SKI_BACKEND_DONE;
}

/* ---- Requests in flight ------------------------------------------------------------------ */

static bool take_record(struct ski_backend_connection *connection, int fd,
                        const struct ski_vhost_user_inflight *said)
{
    bool packed = ski_backend_has(connection, SK_VIRTIO_F_RING_PACKED);
    struct ski_device_region region = { .bytes = said->mmap_size };
    struct ski_device_region before = connection->record;

    if (said->queue_size == 0 || said->mmap_offset % 8 != 0 ||
        said->mmap_size / ski_device_inflight_bytes(packed, said->queue_size) <
            said->queue_count ||
        ski_backend_map(fd, said->mmap_offset, &region) != SK_OK) {
        return false;
    }
    ski_backend_visit_all(connection);
    connection->record = region;
    connection->record_queues = said->queue_count;
    connection->record_size = said->queue_size;
    connection->record_packed = packed;
    ski_backend_leave_all(connection);
    ski_backend_unmap(&before);
    return true;
}

static bool any_started(const struct ski_backend_connection *connection)
{
    for (uint32_t i = 0; i < connection->backend->options.queue_count; i++) {
        if (connection->queues[i].started) {
            return true;
        }
    }
    return false;
}

static int make_record(uint64_t bytes)
{
    int fd = memfd_create("skio-inflight", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    if (fd >= 0 && (ftruncate(fd, (off_t)bytes) != 0 ||
                    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0)) {
        (void)close(fd);
        fd = -1;
    }
    return fd;
}

enum ski_backend_outcome ski_backend_get_record(struct ski_backend_connection *connection)
{
    struct ski_vhost_user_message *message = &connection->message;
    struct ski_vhost_user_inflight said = message->payload.inflight;
    uint32_t size = message->header.size;
    int fd = -1;

    said.mmap_offset = 0;
    said.mmap_size =
        said.queue_count *
        ski_device_inflight_bytes(ski_backend_has(connection, SK_VIRTIO_F_RING_PACKED),
                                  said.queue_size);
    if (said.queue_count > 0 && said.queue_count <= connection->backend->options.queue_count &&
        said.queue_size > 0 && said.queue_size <= SKI_RING_SIZE_MAX && !any_started(connection)) {
        fd = make_record(said.mmap_size);
    }
    if (fd < 0 || !take_record(connection, fd, &said)) {
        said.mmap_size = 0; /* that is: there is none */
    }
    ski_vhost_user_prepare(message, SKI_VHOST_USER_GET_INFLIGHT_FD, size);
    message->payload.inflight = said;
    if (said.mmap_size != 0) {
        message->fds[0] = fd; /* closed after the reply */
        message->fd_count = 1;
    } else if (fd >= 0) {
        (void)close(fd);
    }
    return SKI_BACKEND_REPLY;
}

enum ski_backend_outcome ski_backend_set_record(struct ski_backend_connection *connection)
{
    struct ski_vhost_user_inflight said = connection->message.payload.inflight;

    if (any_started(connection) ||
        !take_record(connection, connection->message.fds[0], &said)) {
        return SKI_BACKEND_REFUSED;
    }
    return SKI_BACKEND_DONE;
}
