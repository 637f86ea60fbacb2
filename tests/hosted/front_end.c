/* SPDX-License-Identifier: MIT */
#include "front_end.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

static void pause_ms(long ms)
{
    struct timespec time = { 0, ms * 1000000 };

    (void)nanosleep(&time, NULL);
}

void front_end_init(struct front_end *front)
{
    memset(front, 0, sizeof(*front));
    front->socket = front->backend_channel = front->record_fd = -1;
    front->memory_bytes = (uint64_t)FRONT_QUEUES_MAX * FRONT_QUEUE_BYTES;
    front->memory_fd = memfd_create("front", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    assert_true(front->memory_fd >= 0);
    assert_int_equal(ftruncate(front->memory_fd, (off_t)front->memory_bytes), 0);
    front->memory = mmap(NULL, front->memory_bytes, PROT_READ | PROT_WRITE, MAP_SHARED,
                         front->memory_fd, 0);
    assert_ptr_not_equal(front->memory, MAP_FAILED);
    for (uint32_t i = 0; i < FRONT_QUEUES_MAX; i++) {
        struct front_queue *queue = &front->queues[i];

        queue->front = front;
        queue->index = i;
        queue->memory = front->memory + (size_t)i * FRONT_QUEUE_BYTES;
        queue->guest = FRONT_GUEST + (uint64_t)i * FRONT_QUEUE_BYTES;
        queue->kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        queue->call = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        queue->error = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    }
}

void front_end_connect(struct front_end *front, const char *path)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    socklen_t length = sizeof(address);
    uint64_t until = ski_vhost_user_now() + FRONT_WAIT_NS;

    assert_true(strlen(path) < sizeof(address.sun_path));
    strcpy(address.sun_path, path);
    if (path[0] == '@') {
        address.sun_path[0] = '\0';
        length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path));
    }
    for (;;) {
        front->socket = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_true(front->socket >= 0);
        if (connect(front->socket, (struct sockaddr *)&address, length) == 0) {
            return;
        }
        assert_true(errno == ECONNREFUSED || errno == ENOENT);
        assert_true(ski_vhost_user_now() < until);
        (void)close(front->socket);
        pause_ms(1);
    }
}

void front_end_disconnect(struct front_end *front)
{
    if (front->socket >= 0) {
        (void)close(front->socket);
        front->socket = -1;
    }
    if (front->backend_channel >= 0) {
        (void)close(front->backend_channel);
        front->backend_channel = -1;
    }
    ski_vhost_user_close_fds(&front->message);
}

void front_end_close(struct front_end *front)
{
    front_end_disconnect(front);
    for (uint32_t i = 0; i < FRONT_QUEUES_MAX; i++) {
        (void)close(front->queues[i].kick);
        (void)close(front->queues[i].call);
        (void)close(front->queues[i].error);
    }
    if (front->record_fd >= 0) {
        (void)close(front->record_fd);
    }
    (void)munmap(front->memory, front->memory_bytes);
    (void)close(front->memory_fd);
}

/* ---- Messages ----------------------------------------------------------------------------- */

void front_end_send(struct front_end *front, uint32_t request, uint32_t flags,
                    const void *payload, uint32_t size, const int *fds, uint32_t fd_count)
{
    struct ski_vhost_user_header header = { request, flags, size };
    _Alignas(struct cmsghdr) uint8_t control[CMSG_SPACE(64 * sizeof(int))] = { 0 };
    struct iovec pieces[2] = { { &header, sizeof(header) },
                               { (void *)(uintptr_t)payload, size } };
    struct msghdr message = { .msg_iov = pieces, .msg_iovlen = size > 0 ? 2 : 1 };

    if (fd_count > 0) {
        struct cmsghdr *part;

        message.msg_control = control;
        message.msg_controllen = CMSG_SPACE(fd_count * sizeof(int));
        part = CMSG_FIRSTHDR(&message);
        part->cmsg_level = SOL_SOCKET;
        part->cmsg_type = SCM_RIGHTS;
        part->cmsg_len = CMSG_LEN(fd_count * sizeof(int));
        memcpy(CMSG_DATA(part), fds, fd_count * sizeof(int));
    }
    /* Whether a back end that closes takes it all is not asked. */
    (void)sendmsg(front->socket, &message, MSG_NOSIGNAL);
}

bool front_end_receive(struct front_end *front, uint64_t wait_ns)
{
    ski_vhost_user_close_fds(&front->message);
    return ski_vhost_user_receive(front->socket, ski_vhost_user_now() + wait_ns,
                                  &front->message) == SK_OK;
}

uint64_t front_end_ask(struct front_end *front, uint32_t request)
{
    front_end_send(front, request, SKI_VHOST_USER_VERSION, NULL, 0, NULL, 0);
    assert_true(front_end_receive(front, FRONT_WAIT_NS));
    assert_int_equal(front->message.header.request, request);
    assert_int_equal(front->message.header.flags, SKI_VHOST_USER_VERSION | SKI_VHOST_USER_REPLY);
    assert_int_equal(front->message.header.size, 8);
    return front->message.payload.u64;
}

uint64_t front_end_do(struct front_end *front, uint32_t request, const void *payload,
                      uint32_t size, const int *fds, uint32_t fd_count)
{
    front_end_send(front, request, SKI_VHOST_USER_VERSION | SKI_VHOST_USER_NEED_REPLY, payload,
                   size, fds, fd_count);
    assert_true(front_end_receive(front, FRONT_WAIT_NS));
    assert_int_equal(front->message.header.request, request);
    assert_int_equal(front->message.header.size, 8);
    return front->message.payload.u64;
}

bool front_end_is_closed(struct front_end *front)
{
    struct pollfd fd = { .fd = front->socket, .events = POLLIN };
    uint8_t byte;

    if (poll(&fd, 1, (int)(FRONT_WAIT_NS / 1000000)) != 1) {
        return false;
    }
    return recv(front->socket, &byte, 1, 0) <= 0;
}

/* ---- Steps of the start ------------------------------------------------------------------- */

void front_end_negotiate(struct front_end *front, uint64_t features, uint64_t protocol)
{
    int pair[2];

    front->features = features & front_end_ask(front, SKI_VHOST_USER_GET_FEATURES);
    assert_true((front->features >> SKI_VHOST_USER_F_PROTOCOL_FEATURES & 1) != 0);
    front->protocol_features =
        protocol & front_end_ask(front, SKI_VHOST_USER_GET_PROTOCOL_FEATURES);
    front_end_send(front, SKI_VHOST_USER_SET_PROTOCOL_FEATURES, SKI_VHOST_USER_VERSION,
                   &front->protocol_features, 8, NULL, 0);
    front_end_send(front, SKI_VHOST_USER_SET_OWNER, SKI_VHOST_USER_VERSION, NULL, 0, NULL, 0);
    if ((front->protocol_features >> SKI_VHOST_USER_PROTOCOL_BACKEND_REQ & 1) != 0) {
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
        assert_int_equal(
            front_end_do(front, SKI_VHOST_USER_SET_BACKEND_REQ_FD, NULL, 0, &pair[1], 1), 0);
        (void)close(pair[1]);
        front->backend_channel = pair[0];
    }
    assert_int_equal(
        front_end_do(front, SKI_VHOST_USER_SET_FEATURES, &front->features, 8, NULL, 0), 0);
}

void front_end_share_memory(struct front_end *front)
{
    struct ski_vhost_user_memory table = { .count = 1 };

    table.regions[0] =
        (struct ski_vhost_user_region){ FRONT_GUEST, front->memory_bytes, FRONT_USER, 0 };
    assert_int_equal(front_end_do(front, SKI_VHOST_USER_SET_MEM_TABLE, &table,
                                  SKI_VHOST_USER_MEMORY_HEAD + sizeof(table.regions[0]),
                                  &front->memory_fd, 1),
                     0);
}

void front_end_share_record(struct front_end *front, uint16_t queues, uint16_t size)
{
    if (front->record_fd < 0) {
        struct ski_vhost_user_inflight wanted = { .queue_count = queues, .queue_size = size };

        front_end_send(front, SKI_VHOST_USER_GET_INFLIGHT_FD, SKI_VHOST_USER_VERSION, &wanted,
                       sizeof(wanted), NULL, 0);
        assert_true(front_end_receive(front, FRONT_WAIT_NS));
        front->record = front->message.payload.inflight;
        assert_int_not_equal(front->record.mmap_size, 0);
        front->record_fd = ski_vhost_user_take_fd(&front->message, 0);
        assert_true(front->record_fd >= 0);
    }
    assert_int_equal(front_end_do(front, SKI_VHOST_USER_SET_INFLIGHT_FD, &front->record,
                                  sizeof(front->record), &front->record_fd, 1),
                     0);
}

static bool has(const struct front_end *front, unsigned bit)
{
    return (front->features >> bit & 1) != 0;
}

uint32_t front_end_first_base(const struct front_end *front)
{
    return has(front, SK_VIRTIO_F_RING_PACKED) ? 0x80008000u : 0;
}

void front_end_lay_out(struct front_end *front, uint32_t index, uint32_t size)
{
    struct front_queue *queue = &front->queues[index];

    queue->size = size;
    queue->out = 0;
    memset(queue->slots, 0, sizeof(queue->slots));
    queue->packed = has(front, SK_VIRTIO_F_RING_PACKED);
    queue->indirect = has(front, SK_VIRTIO_F_INDIRECT_DESC);
    if (queue->packed) {
        ski_ring_packed_lay_out(size, &queue->layout);
        ski_ring_packed_init(&queue->packed_ring, queue->memory, (uint16_t)size, &queue->layout);
        queue->packed_ring.event_idx = has(front, SK_VIRTIO_F_EVENT_IDX);
    } else {
        ski_ring_split_lay_out(size, 4, &queue->layout);
        ski_ring_split_init(&queue->split, queue->memory, (uint16_t)size, &queue->layout);
        queue->split.event_idx = has(front, SK_VIRTIO_F_EVENT_IDX);
    }
}

void front_end_start_queue(struct front_end *front, uint32_t index, uint32_t base)
{
    struct front_queue *queue = &front->queues[index];
    struct ski_vhost_user_vring_state state = { index, queue->size };
    uint64_t user = FRONT_USER + (uint64_t)index * FRONT_QUEUE_BYTES;
    struct ski_vhost_user_vring_address address = {
        .index = index,
        .descriptors = user,
        .available = user + queue->layout.driver_area,
        .used = user + queue->layout.device_area,
    };
    uint64_t index64 = index;

    assert_int_equal(
        front_end_do(front, SKI_VHOST_USER_SET_VRING_NUM, &state, sizeof(state), NULL, 0), 0);
    state.num = base;
    assert_int_equal(
        front_end_do(front, SKI_VHOST_USER_SET_VRING_BASE, &state, sizeof(state), NULL, 0), 0);
    assert_int_equal(
        front_end_do(front, SKI_VHOST_USER_SET_VRING_ADDR, &address, sizeof(address), NULL, 0), 0);
    assert_int_equal(
        front_end_do(front, SKI_VHOST_USER_SET_VRING_CALL, &index64, 8, &queue->call, 1), 0);
    assert_int_equal(
        front_end_do(front, SKI_VHOST_USER_SET_VRING_ERR, &index64, 8, &queue->error, 1), 0);
    assert_int_equal(
        front_end_do(front, SKI_VHOST_USER_SET_VRING_KICK, &index64, 8, &queue->kick, 1), 0);
    state.num = 1;
    assert_int_equal(
        front_end_do(front, SKI_VHOST_USER_SET_VRING_ENABLE, &state, sizeof(state), NULL, 0), 0);
}

void front_end_start(struct front_end *front, const char *path, uint64_t features,
                     uint32_t queues, uint32_t size)
{
    front_end_connect(front, path);
    front_end_negotiate(front, FRONT_FEATURES | features, UINT64_MAX);
    front_end_share_memory(front);
    for (uint32_t i = 0; i < queues; i++) {
        front_end_lay_out(front, i, size);
        front_end_start_queue(front, i, front_end_first_base(front));
    }
}

uint32_t front_end_stop_queue(struct front_end *front, uint32_t index)
{
    struct ski_vhost_user_vring_state state = { index, 0 };

    front_end_send(front, SKI_VHOST_USER_GET_VRING_BASE, SKI_VHOST_USER_VERSION, &state,
                   sizeof(state), NULL, 0);
    assert_true(front_end_receive(front, FRONT_WAIT_NS));
    assert_int_equal(front->message.header.request, SKI_VHOST_USER_GET_VRING_BASE);
    assert_int_equal(front->message.payload.state.index, index);
    return front->message.payload.state.num;
}

/* ---- Requests ----------------------------------------------------------------------------- */

uint8_t *front_end_data(struct front_queue *queue, uint32_t slot)
{
    return queue->memory + FRONT_DATA + (size_t)slot * FRONT_DATA_BYTES;
}

uint8_t front_end_status(const struct front_queue *queue, uint32_t slot)
{
    return __atomic_load_n(queue->memory + FRONT_STATUS + slot, __ATOMIC_RELAXED);
}

struct buffer {
    uint64_t address;
    uint32_t bytes;
    uint32_t flags;
};

static void put_table(struct front_queue *queue, uint32_t slot, const struct buffer *buffers,
                      uint32_t count)
{
    struct ski_ring_descriptor SKI_SHARED *table =
        (struct ski_ring_descriptor SKI_SHARED *)(void SKI_SHARED *)ski_door_share(
            queue->memory + FRONT_TABLES + 256 * slot);

    for (uint32_t i = 0; i < count; i++) {
        bool last = i + 1 == count;

        ski_door_store64(&table[i].address, buffers[i].address);
        ski_door_store64(&table[i].rest,
                         queue->packed
                             ? ski_ring_packed_rest(buffers[i].bytes, 0, buffers[i].flags)
                             : ski_ring_rest(buffers[i].bytes,
                                             buffers[i].flags | (last ? 0 : SKI_RING_NEXT),
                                             i + 1));
    }
}

static void put_split(struct front_queue *queue, uint32_t slot, const struct buffer *buffers,
                      uint32_t count)
{
    struct ski_ring_descriptor SKI_SHARED *descriptors = queue->split.descriptors;
    uint32_t head = queue->indirect ? slot : 3 * slot;

    if (queue->indirect) {
        put_table(queue, slot, buffers, count);
        ski_door_store64(&descriptors[head].address, queue->guest + FRONT_TABLES + 256 * slot);
        ski_door_store64(&descriptors[head].rest,
                         ski_ring_rest(16 * count, SKI_RING_INDIRECT, 0));
    }
    for (uint32_t i = 0; i < count && !queue->indirect; i++) {
        bool last = i + 1 == count;

        ski_door_store64(&descriptors[head + i].address, buffers[i].address);
        ski_door_store64(&descriptors[head + i].rest,
                         ski_ring_rest(buffers[i].bytes,
                                       buffers[i].flags | (last ? 0 : SKI_RING_NEXT),
                                       head + i + 1));
    }
    ski_ring_split_add(&queue->split, (uint16_t)head);
}

static void put_packed(struct front_queue *queue, uint32_t slot, const struct buffer *buffers,
                       uint32_t count)
{
    if (queue->indirect) {
        put_table(queue, slot, buffers, count);
        ski_ring_packed_add(&queue->packed_ring, 1, queue->guest + FRONT_TABLES + 256 * slot,
                            16 * count, slot, SKI_RING_INDIRECT);
        return;
    }
    for (uint32_t i = 1; i < count; i++) {
        ski_ring_packed_put(&queue->packed_ring, i, buffers[i].address, buffers[i].bytes, slot,
                            buffers[i].flags | (i + 1 < count ? SKI_RING_NEXT : 0));
    }
    ski_ring_packed_add(&queue->packed_ring, count, buffers[0].address, buffers[0].bytes, slot,
                        buffers[0].flags | (count > 1 ? SKI_RING_NEXT : 0));
}

void front_end_submit(struct front_queue *queue, uint32_t slot, uint32_t type, uint64_t sector,
                      uint32_t bytes)
{
    uint64_t header[2] = { type, sector };
    struct buffer buffers[3];
    uint32_t count = 0;

    assert_false(queue->slots[slot].out);
    memcpy(queue->memory + FRONT_HEADERS + 16 * slot, header, 16);
    queue->memory[FRONT_STATUS + slot] = FRONT_POISON;
    buffers[count++] = (struct buffer){ queue->guest + FRONT_HEADERS + 16 * slot, 16, 0 };
    if (bytes > 0) {
        buffers[count++] = (struct buffer){
            queue->guest + FRONT_DATA + (uint64_t)slot * FRONT_DATA_BYTES, bytes,
            type == FRONT_READ || type == FRONT_GET_ID ? SKI_RING_WRITE : 0
        };
    }
    buffers[count++] = (struct buffer){ queue->guest + FRONT_STATUS + slot, 1, SKI_RING_WRITE };
    queue->slots[slot].out = true;
    queue->slots[slot].places = queue->indirect ? 1 : count;
    queue->out++;
    if (queue->packed) {
        put_packed(queue, slot, buffers, count);
    } else {
        put_split(queue, slot, buffers, count);
    }
}

void front_end_publish(struct front_queue *queue)
{
    uint64_t one = 1;
    bool wanted;

    if (queue->packed) {
        wanted = queue->packed_ring.unpublished != 0 &&
                 ski_ring_packed_publish(&queue->packed_ring);
    } else {
        wanted = ski_ring_split_publish(&queue->split);
    }
    if (wanted) {
        assert_int_equal(write(queue->kick, &one, sizeof(one)), sizeof(one));
    }
}

/* Nothing: whoever asks in a loop lets the back end have the processor. */
static int found_nothing(void)
{
    (void)sched_yield();
    return -1;
}

int front_end_poll(struct front_queue *queue)
{
    struct front_slot *slot;
    uint32_t length;
    uint32_t index;

    if (queue->packed) {
        struct ski_ring_packed *ring = &queue->packed_ring;

        if (!ski_ring_packed_is_used(ring)) {
            return found_nothing();
        }
        index = ski_ring_packed_id(ring);
        assert_true(index < FRONT_SLOTS_MAX && queue->slots[index].out);
        length = (uint32_t)ski_door_load64(&ring->descriptors[ring->taken].rest);
        ski_ring_packed_skip(ring, queue->slots[index].places);
    } else {
        struct ski_ring_split *ring = &queue->split;
        uint16_t count;

        assert_int_equal(ski_ring_split_pending(ring, &count), SK_OK);
        if (count == 0) {
            return found_nothing();
        }
        length = ski_door_load32(&ring->used_elements[ring->taken & ring->mask].length);
        index = ski_ring_split_take(ring);
        index = queue->indirect ? index : index / 3;
        assert_true(index < FRONT_SLOTS_MAX && queue->slots[index].out);
    }
    slot = &queue->slots[index];
    slot->out = false;
    slot->length = length;
    queue->out--;
    return (int)index;
}

int front_end_wait(struct front_queue *queue)
{
    struct pollfd fd = { .fd = queue->call, .events = POLLIN };
    uint64_t until = ski_vhost_user_now() + FRONT_WAIT_NS;
    int slot;

    while ((slot = front_end_poll(queue)) < 0) {
        bool there = queue->packed ? ski_ring_packed_interrupts_on(&queue->packed_ring)
                                   : ski_ring_split_interrupts_on(&queue->split);
        uint64_t count;

        assert_true(ski_vhost_user_now() < until);
        if (!there && poll(&fd, 1, (int)(FRONT_WAIT_NS / 1000000)) == 1) {
            (void)!read(queue->call, &count, sizeof(count));
        }
    }
    return slot;
}

uint8_t front_end_run(struct front_queue *queue, uint32_t type, uint64_t sector, uint32_t bytes)
{
    front_end_submit(queue, 0, type, sector, bytes);
    front_end_publish(queue);
    assert_int_equal(front_end_wait(queue), 0);
    return front_end_status(queue, 0);
}
