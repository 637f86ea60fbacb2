/* SPDX-License-Identifier: MIT */
#include "fake_backend.h"

#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "vhost_user_message.h"

enum command { NOTHING, STOP, DIE, LEAVE, RETURN, LET_GO };

#define LONG_NS UINT64_C(60000000000) /* for the rest of a message */

/* ---- Memory and rings -------------------------------------------------------------------- */

static uint8_t *reach_user(struct fake_backend *fake, uint64_t address, uint64_t bytes)
{
    for (uint32_t i = 0; i < fake->region_count; i++) {
        struct fake_backend_region *region = &fake->regions[i];

        if (address >= region->user && address - region->user <= region->bytes &&
            bytes <= region->bytes - (address - region->user)) {
            return region->memory + (address - region->user);
        }
    }
    return NULL;
}

static uint8_t *reach_guest(struct fake_backend *fake, uint64_t address, uint64_t bytes)
{
    for (uint32_t i = 0; i < fake->region_count; i++) {
        struct fake_backend_region *region = &fake->regions[i];

        if (address >= region->guest && address - region->guest <= region->bytes &&
            bytes <= region->bytes - (address - region->guest)) {
            return region->memory + (address - region->guest);
        }
    }
    return NULL;
}

static void map_region(struct fake_backend *fake, const struct ski_vhost_user_region *region,
                       int fd)
{
    void *memory = mmap(NULL, region->size, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
                        (off_t)region->mmap_offset);

    if (memory != MAP_FAILED && fake->region_count < FAKE_BACKEND_REGIONS) {
        fake->regions[fake->region_count++] = (struct fake_backend_region){
            region->guest_address, region->user_address, region->size, memory
        };
    }
    fake->regions_told = fake->region_count;
}

static void unmap_regions(struct fake_backend *fake)
{
    for (uint32_t i = 0; i < fake->region_count; i++) {
        (void)munmap(fake->regions[i].memory, fake->regions[i].bytes);
    }
    fake->region_count = 0;
}

static uint16_t load16(const uint8_t *at)
{
    return atomic_load((const _Atomic uint16_t *)(const void *)at);
}

struct descriptor {
    uint64_t address;
    uint32_t length;
    uint16_t flags;
    uint16_t next;
};

/* The chain of a request as descriptors; how many, 0 if it makes no sense. */
static unsigned walk(struct fake_backend *fake, const struct fake_backend_ring *ring,
                     uint16_t head, struct descriptor *out, unsigned room)
{
    const uint8_t *table = ring->descriptors;
    struct descriptor descriptor;
    uint16_t index = head;
    unsigned count = 0;

    memcpy(&descriptor, table + (size_t)index * 16, 16);
    if ((descriptor.flags & 4) != 0) {
        table = reach_guest(fake, descriptor.address, descriptor.length);
        index = 0;
        if (table == NULL) {
            return 0;
        }
    }
    do {
        memcpy(&descriptor, table + (size_t)index * 16, 16);
        out[count++] = descriptor;
        index = descriptor.next;
    } while ((descriptor.flags & 1) != 0 && count < room);
    return count;
}

static uint8_t move(struct fake_backend *fake, const struct descriptor *chain, unsigned count,
                    uint32_t type, uint64_t sector)
{
    uint64_t at = sector * 512;

    for (unsigned i = 1; i + 1 < count; i++) {
        uint8_t *data = reach_guest(fake, chain[i].address, chain[i].length);

        if (data == NULL || (type != 8 && at + chain[i].length > sizeof(fake->storage))) {
            return 1;
        }
        if (type == 0) {
            memcpy(data, fake->storage + at, chain[i].length);
        } else if (type == 1) {
            memcpy(fake->storage + at, data, chain[i].length);
        } else if (type == 8) {
            memcpy(data, "scripted", 9);
        }
        at += chain[i].length;
    }
    return type == 0 || type == 1 || type == 4 || type == 8 ? 0 : 2;
}

static void do_request(struct fake_backend *fake, struct fake_backend_ring *ring, uint16_t head)
{
    struct descriptor chain[300];
    unsigned count = walk(fake, ring, head, chain, 300);
    uint8_t *header = count < 2 ? NULL : reach_guest(fake, chain[0].address, 16);
    uint8_t *answer = count < 2 ? NULL : reach_guest(fake, chain[count - 1].address, 1);
    uint32_t element[2] = { head, 1 };
    uint32_t type;
    uint64_t sector;

    if (header == NULL || answer == NULL) {
        return;
    }
    memcpy(&type, header, 4);
    memcpy(&sector, header + 8, 8);
    *answer = move(fake, chain, count, type, sector);
    memcpy(ring->used + 4 + (size_t)(ring->done % ring->size) * 8, element, 8);
    ring->done++;
    atomic_store((_Atomic uint16_t *)(void *)(ring->used + 2), ring->done);
    fake->requests++;
}

static void serve_ring(struct fake_backend *fake, struct fake_backend_ring *ring)
{
    bool any = false;

    if (ring->descriptors == NULL || ring->available == NULL || ring->used == NULL ||
        ring->enabled == 0 || ring->size == 0 || fake->config.holds) {
        return;
    }
    while (ring->taken != load16(ring->available + 2)) {
        do_request(fake, ring, load16(ring->available + 4 + ring->taken % ring->size * 2));
        ring->taken++;
        any = true;
    }
    if (any && ring->call >= 0 && !fake->config.mute) {
        (void)eventfd_write(ring->call, 1);
    }
}

static void drop_ring(struct fake_backend_ring *ring)
{
    int *fds[] = { &ring->kick, &ring->call, &ring->err };

    for (unsigned i = 0; i < 3; i++) {
        if (*fds[i] >= 0) {
            (void)close(*fds[i]);
        }
    }
    *ring = (struct fake_backend_ring){ .kick = -1, .call = -1, .err = -1 };
}

/* ---- Messages ---------------------------------------------------------------------------- */

static void end_connection(struct fake_backend *fake)
{
    for (uint32_t i = 0; i < FAKE_BACKEND_QUEUES; i++) {
        drop_ring(&fake->rings[i]);
    }
    unmap_regions(fake);
    if (fake->socket >= 0) {
        (void)close(fake->socket);
    }
    if (fake->channel >= 0) {
        (void)close(fake->channel);
    }
    fake->socket = -1;
    fake->channel = -1;
    fake->agreed_protocol = 0;
}

/* What stands where in the configuration space; more than capacity and writeback is 0. */
static void fill_config(const struct fake_backend *fake, uint8_t *out)
{
    uint32_t block = 512;
    uint32_t segments = 64;

    memset(out, 0, SKI_VHOST_USER_CONFIG_MAX);
    memcpy(out, &fake->config.capacity_sectors, 8);
    memcpy(out + 12, &segments, 4);
    memcpy(out + 20, &block, 4);
    out[32] = (uint8_t)fake->writeback;
    out[34] = (uint8_t)fake->config.queue_count;
}

static void set_ring(struct fake_backend *fake, struct ski_vhost_user_message *message)
{
    uint32_t request = message->header.request;
    bool by_fd = request >= SKI_VHOST_USER_SET_VRING_KICK && request <= SKI_VHOST_USER_SET_VRING_ERR;
    uint32_t index = by_fd ? (uint32_t)message->payload.u64 & 0xff : message->payload.state.index;
    struct fake_backend_ring *ring = &fake->rings[index % FAKE_BACKEND_QUEUES];
    uint32_t num = message->payload.state.num;

    switch (request) {
    case SKI_VHOST_USER_SET_VRING_NUM:
        ring->size = num;
        break;
    case SKI_VHOST_USER_SET_VRING_BASE:
        ring->taken = (uint16_t)num;
        ring->done = (uint16_t)num;
        fake->last_base = num;
        break;
    case SKI_VHOST_USER_SET_VRING_ADDR:
        ring->descriptors = reach_user(fake, message->payload.address.descriptors, 16);
        ring->available = reach_user(fake, message->payload.address.available, 4);
        ring->used = reach_user(fake, message->payload.address.used, 4);
        break;
    case SKI_VHOST_USER_SET_VRING_KICK:
        ring->kick = ski_vhost_user_take_fd(message, 0);
        break;
    case SKI_VHOST_USER_SET_VRING_CALL:
        ring->call = ski_vhost_user_take_fd(message, 0);
        break;
    case SKI_VHOST_USER_SET_VRING_ERR:
        ring->err = ski_vhost_user_take_fd(message, 0);
        break;
    case SKI_VHOST_USER_SET_VRING_ENABLE:
        ring->enabled = num;
        serve_ring(fake, ring);
        break;
    default: /* GET_VRING_BASE: the ring stops */
        message->payload.state.num = ring->taken + fake->config.base_lie;
        message->payload.state.index += fake->config.index_lie;
        drop_ring(ring);
        break;
    }
}

static void set_memory(struct fake_backend *fake, struct ski_vhost_user_message *message)
{
    if (message->header.request == SKI_VHOST_USER_ADD_MEM_REG) {
        map_region(fake, &message->payload.region.region, message->fds[0]);
        return;
    }
    unmap_regions(fake);
    for (uint32_t i = 0; i < message->payload.memory.count && i < message->fd_count; i++) {
        map_region(fake, &message->payload.memory.regions[i], message->fds[i]);
    }
}

/* It does each request at once, so there is never anything in flight to keep book of. */
static void get_inflight(struct ski_vhost_user_message *message)
{
    uint64_t bytes = 4096;
    int fd = memfd_create("fake", MFD_CLOEXEC);

    if (ftruncate(fd, (off_t)bytes) == 0) {
        message->payload.inflight.mmap_size = bytes;
        message->payload.inflight.mmap_offset = 0;
    }
    message->fds[0] = fd;
    message->fd_count = 1;
}

static void get_config(struct fake_backend *fake, struct ski_vhost_user_message *message)
{
    uint32_t end = message->payload.config.offset + message->payload.config.size;

    if (end > fake->config.config_bytes) {
        message->header.size = 0;
        return;
    }
    fill_config(fake, message->payload.config.bytes);
}

static bool is_asked(uint32_t request)
{
    switch (request) {
    case SKI_VHOST_USER_GET_FEATURES:
    case SKI_VHOST_USER_GET_PROTOCOL_FEATURES:
    case SKI_VHOST_USER_GET_QUEUE_NUM:
    case SKI_VHOST_USER_GET_VRING_BASE:
    case SKI_VHOST_USER_GET_CONFIG:
    case SKI_VHOST_USER_GET_INFLIGHT_FD:
    case SKI_VHOST_USER_GET_MAX_MEM_SLOTS:
    case SKI_VHOST_USER_GET_STATUS:
        return true;
    default:
        return false;
    }
}

static void answer_u64(struct ski_vhost_user_message *message, uint64_t value)
{
    message->payload.u64 = value;
    message->header.size = 8;
}

/* Does what a message says, and makes it its own answer. */
static void obey(struct fake_backend *fake, struct ski_vhost_user_message *message)
{
    switch (message->header.request) {
    case SKI_VHOST_USER_GET_FEATURES:
        answer_u64(message, fake->config.features);
        break;
    case SKI_VHOST_USER_GET_PROTOCOL_FEATURES:
        answer_u64(message, fake->config.protocol);
        break;
    case SKI_VHOST_USER_SET_PROTOCOL_FEATURES:
        fake->agreed_protocol = message->payload.u64;
        break;
    case SKI_VHOST_USER_GET_QUEUE_NUM:
        answer_u64(message, fake->config.queue_count);
        break;
    case SKI_VHOST_USER_GET_MAX_MEM_SLOTS:
        answer_u64(message, fake->config.slots);
        break;
    case SKI_VHOST_USER_GET_STATUS:
        answer_u64(message, fake->status);
        break;
    case SKI_VHOST_USER_SET_STATUS:
        fake->status = (uint32_t)message->payload.u64;
        break;
    case SKI_VHOST_USER_RESET_DEVICE:
        fake->resets++;
        break;
    case SKI_VHOST_USER_SET_BACKEND_REQ_FD:
        fake->channel = ski_vhost_user_take_fd(message, 0);
        break;
    case SKI_VHOST_USER_SET_MEM_TABLE:
    case SKI_VHOST_USER_ADD_MEM_REG:
        set_memory(fake, message);
        break;
    case SKI_VHOST_USER_GET_CONFIG:
        get_config(fake, message);
        break;
    case SKI_VHOST_USER_SET_CONFIG:
        fake->writeback = message->payload.config.bytes[0];
        break;
    case SKI_VHOST_USER_GET_INFLIGHT_FD:
        get_inflight(message);
        break;
    default:
        if (message->header.request >= SKI_VHOST_USER_SET_VRING_NUM &&
            message->header.request <= SKI_VHOST_USER_SET_VRING_ENABLE) {
            set_ring(fake, message);
        }
        break;
    }
}

/* ---- Answers, right and wrong ------------------------------------------------------------ */

/* Bytes as they are, with descriptors on the first. */
static void write_raw(int socket, const void *bytes, size_t length, const int *fds, unsigned count)
{
    _Alignas(struct cmsghdr) uint8_t control[CMSG_SPACE(64 * sizeof(int))] = { 0 };
    struct iovec piece = { .iov_base = (void *)(uintptr_t)bytes, .iov_len = length };
    struct msghdr header = { .msg_iov = &piece, .msg_iovlen = 1 };

    if (count > 0) {
        struct cmsghdr *part;

        header.msg_control = control;
        header.msg_controllen = CMSG_SPACE(count * sizeof(int));
        part = CMSG_FIRSTHDR(&header);
        part->cmsg_level = SOL_SOCKET;
        part->cmsg_type = SCM_RIGHTS;
        part->cmsg_len = CMSG_LEN(count * sizeof(int));
        memcpy(CMSG_DATA(part), fds, count * sizeof(int));
    }
    (void)sendmsg(socket, &header, MSG_NOSIGNAL);
}

struct wire {
    uint8_t bytes[sizeof(struct ski_vhost_user_header) + 4096];
    size_t length;
    int fds[64];
    unsigned fd_count;
};

static void to_wire(const struct ski_vhost_user_message *message, struct wire *out)
{
    memset(out, 0, sizeof(*out));
    memcpy(out->bytes, &message->header, sizeof(message->header));
    memcpy(out->bytes + sizeof(message->header), &message->payload, sizeof(message->payload));
    out->length = sizeof(message->header) + message->header.size;
    memcpy(out->fds, message->fds, message->fd_count * sizeof(int));
    out->fd_count = message->fd_count;
}

static void set_size(struct wire *wire, uint32_t size)
{
    struct ski_vhost_user_header header;

    memcpy(&header, wire->bytes, sizeof(header));
    header.size = size;
    memcpy(wire->bytes, &header, sizeof(header));
    wire->length = sizeof(header) + size;
}

static void spoil(struct wire *wire, enum fake_backend_fault fault)
{
    static const char text[] = "HTTP/1.1 400 Bad Request\r\nServer: fake\r\n\r\n";
    struct ski_vhost_user_header header;
    uint32_t size;

    memcpy(&header, wire->bytes, sizeof(header));
    size = header.size;
    switch (fault) {
    case FAKE_BACKEND_ANSWERS_LONG:
        set_size(wire, 4000);
        break;
    case FAKE_BACKEND_ANSWERS_LONGER:
        set_size(wire, size + 4);
        break;
    case FAKE_BACKEND_ANSWERS_SHORT:
        set_size(wire, size < 4 ? 0 : size - 4);
        break;
    case FAKE_BACKEND_ANSWERS_EMPTY:
        set_size(wire, 0);
        break;
    case FAKE_BACKEND_ANSWERS_OTHER:
        header.request ^= 0x40;
        memcpy(wire->bytes, &header, sizeof(header));
        break;
    case FAKE_BACKEND_ANSWERS_ASKING:
        header.flags &= ~SKI_VHOST_USER_REPLY;
        memcpy(wire->bytes, &header, sizeof(header));
        break;
    case FAKE_BACKEND_ANSWERS_VERSION:
        header.flags ^= SKI_VHOST_USER_VERSION_MASK;
        memcpy(wire->bytes, &header, sizeof(header));
        break;
    case FAKE_BACKEND_ANSWERS_WITH_FD:
        wire->fds[wire->fd_count++] = STDIN_FILENO;
        break;
    case FAKE_BACKEND_ANSWERS_WITH_FDS:
        while (wire->fd_count < 30) {
            wire->fds[wire->fd_count++] = STDIN_FILENO;
        }
        break;
    case FAKE_BACKEND_ANSWERS_NO:
        memset(wire->bytes + sizeof(header), 0xff, size);
        break;
    case FAKE_BACKEND_ANSWERS_GARBAGE:
        memcpy(wire->bytes, text, sizeof(text));
        wire->length = sizeof(text);
        break;
    case FAKE_BACKEND_SPEAKS_FIRST:
        wire->length++;
        break;
    default:
        break;
    }
}

static void send_wire(struct fake_backend *fake, const struct wire *wire,
                      enum fake_backend_fault fault)
{
    size_t step = fault == FAKE_BACKEND_ANSWERS_IN_PIECES ? 1 : wire->length;
    size_t length = fault == FAKE_BACKEND_DIES_IN_ANSWER ? wire->length / 2 : wire->length;

    for (size_t at = 0; at < length; at += step) {
        write_raw(fake->socket, wire->bytes + at, step < length - at ? step : length - at,
                  wire->fds, at == 0 ? wire->fd_count : 0);
    }
}

/* The answer, if one is owed, as the fault wants it; false: the connection has to end. */
static bool reply(struct fake_backend *fake, struct ski_vhost_user_message *message, bool owed,
                  int fault)
{
    struct wire wire;

    if (fault == FAKE_BACKEND_DIES_AFTER || (fault == FAKE_BACKEND_DIES_IN_ANSWER && !owed)) {
        return false;
    }
    if (!owed || fault == FAKE_BACKEND_ANSWERS_NOT) {
        return true;
    }
    message->header.flags = SKI_VHOST_USER_VERSION | SKI_VHOST_USER_REPLY;
    to_wire(message, &wire);
    if (fault >= 0) {
        spoil(&wire, (enum fake_backend_fault)fault);
    }
    send_wire(fake, &wire, fault < 0 ? FAKE_BACKEND_FAULT_COUNT : (enum fake_backend_fault)fault);
    if (fault == FAKE_BACKEND_ANSWERS_TWICE) {
        send_wire(fake, &wire, FAKE_BACKEND_FAULT_COUNT);
    }
    if (fault == FAKE_BACKEND_HALF_CLOSES) {
        (void)shutdown(fake->socket, SHUT_WR);
    }
    return fault != FAKE_BACKEND_DIES_IN_ANSWER;
}

/* The fault that is due at this message; -1: none. */
static int due(struct fake_backend *fake)
{
    uint32_t number = fake->messages++;
    uint32_t first = fake->fault_at;

    if (fake->fault < 0 || number < first || number - first >= fake->fault_count) {
        return -1;
    }
    fake->fired++;
    return fake->fault;
}

static bool serve_message(struct fake_backend *fake)
{
    struct ski_vhost_user_message message;
    bool goes_on = false;
    bool owed;
    bool acknowledges;
    int fault;

    if (ski_vhost_user_receive(fake->socket, ski_vhost_user_now() + LONG_NS, &message) != SK_OK) {
        return false;
    }
    fault = due(fake);
    if (fault != FAKE_BACKEND_DIES_BEFORE) {
        owed = is_asked(message.header.request);
        acknowledges = !owed && (message.header.flags & SKI_VHOST_USER_NEED_REPLY) != 0;
        obey(fake, &message);
        if (acknowledges) {
            ski_vhost_user_close_fds(&message);
            answer_u64(&message, 0);
        }
        goes_on = reply(fake, &message, owed || acknowledges, fault);
    }
    ski_vhost_user_close_fds(&message);
    return goes_on;
}

static void serve_channel(struct fake_backend *fake)
{
    struct ski_vhost_user_message message;

    if (ski_vhost_user_receive(fake->channel, ski_vhost_user_now() + LONG_NS, &message) != SK_OK) {
        (void)close(fake->channel);
        fake->channel = -1;
        return;
    }
    fake->answer = message.payload.u64;
    fake->answers++;
    ski_vhost_user_close_fds(&message);
}

/* ---- The thread -------------------------------------------------------------------------- */

static void listen_again(struct fake_backend *fake)
{
    struct sockaddr_un name = { .sun_family = AF_UNIX };

    if (fake->listener >= 0) {
        return;
    }
    (void)unlink(fake->path);
    fake->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    memcpy(name.sun_path, fake->path, sizeof(fake->path));
    if (bind(fake->listener, (struct sockaddr *)&name, sizeof(name)) != 0 ||
        listen(fake->listener, 4) != 0) {
        perror("fake back end");
        abort();
    }
}

static void stop_listening(struct fake_backend *fake)
{
    if (fake->listener >= 0) {
        (void)close(fake->listener);
        fake->listener = -1;
    }
}

/* True: the thread ends. */
static bool do_command(struct fake_backend *fake)
{
    eventfd_t value;
    int command = fake->command;

    (void)eventfd_read(fake->wake, &value);
    if (command == DIE || command == LEAVE || command == STOP) {
        end_connection(fake);
    }
    if (command == LEAVE || command == STOP) {
        stop_listening(fake);
    }
    if (command == RETURN) {
        listen_again(fake);
    }
    if (command == LET_GO) {
        fake->config.holds = false;
        for (uint32_t i = 0; i < FAKE_BACKEND_QUEUES; i++) {
            serve_ring(fake, &fake->rings[i]);
        }
    }
    fake->command = NOTHING;
    return command == STOP;
}

static void serve_kick(struct fake_backend *fake, struct fake_backend_ring *ring)
{
    eventfd_t value;

    if (eventfd_read(ring->kick, &value) == 0) {
        serve_ring(fake, ring);
    }
}

static void accept_one(struct fake_backend *fake)
{
    fake->socket = accept4(fake->listener, NULL, NULL, SOCK_CLOEXEC);
    fake->connections += fake->socket >= 0;
}

/* A peer that closed is left alone if it `stays`: then only a command ends it. */
static void serve_socket(struct fake_backend *fake, short events)
{
    if (fake->config.stays && (events & (POLLHUP | POLLRDHUP)) != 0) {
        (void)usleep(1000);
        return;
    }
    if (!serve_message(fake)) {
        end_connection(fake);
    }
}

static void *run(void *argument)
{
    struct fake_backend *fake = argument;
    bool ends = false;

    while (!ends) {
        struct pollfd polls[4 + FAKE_BACKEND_QUEUES];

        polls[0] = (struct pollfd){ .fd = fake->wake, .events = POLLIN };
        polls[1] = (struct pollfd){ .fd = fake->socket < 0 ? fake->listener : -1,
                                    .events = POLLIN };
        polls[2] = (struct pollfd){ .fd = fake->socket, .events = POLLIN | POLLRDHUP };
        polls[3] = (struct pollfd){ .fd = fake->channel, .events = POLLIN };
        for (uint32_t i = 0; i < FAKE_BACKEND_QUEUES; i++) {
            polls[4 + i] = (struct pollfd){ .fd = fake->deaf ? -1 : fake->rings[i].kick,
                                            .events = POLLIN };
        }
        if (poll(polls, 4 + FAKE_BACKEND_QUEUES, 1000) < 0) {
            (void)usleep(1000); /* more than RLIMIT_NOFILE, which a test lowers for a moment */
            continue;
        }
        for (uint32_t i = 0; i < FAKE_BACKEND_QUEUES; i++) {
            if (polls[4 + i].revents != 0 && polls[4 + i].fd == fake->rings[i].kick) {
                serve_kick(fake, &fake->rings[i]);
            }
        }
        if (polls[0].revents != 0) {
            ends = do_command(fake);
            continue;
        }
        if (polls[1].revents != 0) {
            accept_one(fake);
        }
        if (polls[3].revents != 0 && fake->channel >= 0) {
            serve_channel(fake);
        }
        if (polls[2].revents != 0) {
            serve_socket(fake, polls[2].revents);
        }
    }
    end_connection(fake);
    return NULL;
}

static void command(struct fake_backend *fake, enum command what)
{
    fake->command = (int)what;
    assert_int_equal(eventfd_write(fake->wake, 1), 0);
    for (unsigned i = 0; i < 120000 && fake->command != NOTHING; i++) {
        (void)usleep(500);
    }
    assert_int_equal(fake->command, NOTHING);
}

/* ---- The test's side --------------------------------------------------------------------- */

void fake_backend_start(struct fake_backend *fake, const struct fake_backend_config *config)
{
    memset(fake, 0, sizeof(*fake));
    fake->config = *config;
    fake->fault = -1;
    fake->listener = -1;
    fake->socket = -1;
    fake->channel = -1;
    fake->writeback = 1;
    for (uint32_t i = 0; i < FAKE_BACKEND_QUEUES; i++) {
        fake->rings[i] = (struct fake_backend_ring){ .kick = -1, .call = -1, .err = -1 };
    }
    (void)snprintf(fake->path, sizeof(fake->path), "/tmp/skio-fake-%d", getpid());
    fake->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    listen_again(fake);
    assert_int_equal(pthread_create(&fake->thread, NULL, run, fake), 0);
}

void fake_backend_stop(struct fake_backend *fake)
{
    command(fake, STOP);
    assert_int_equal(pthread_join(fake->thread, NULL), 0);
    assert_int_equal(close(fake->wake), 0);
    (void)unlink(fake->path);
}

void fake_backend_arm_many(struct fake_backend *fake, enum fake_backend_fault fault, uint32_t at,
                           uint32_t count)
{
    fake->fault = -1;
    fake->messages = 0;
    fake->fired = 0;
    fake->fault_at = at;
    fake->fault_count = count;
    fake->fault = (int)fault;
}

void fake_backend_arm(struct fake_backend *fake, enum fake_backend_fault fault, uint32_t at)
{
    fake_backend_arm_many(fake, fault, at, 1);
}

void fake_backend_behave(struct fake_backend *fake)
{
    fake->fault = -1;
}

void fake_backend_die(struct fake_backend *fake)
{
    command(fake, DIE);
}

void fake_backend_leave(struct fake_backend *fake)
{
    command(fake, LEAVE);
}

void fake_backend_return(struct fake_backend *fake)
{
    command(fake, RETURN);
}

void fake_backend_let_go(struct fake_backend *fake)
{
    command(fake, LET_GO);
}

void fake_backend_signal_error(struct fake_backend *fake)
{
    assert_int_equal(eventfd_write(fake->rings[0].err, 1), 0);
}

void fake_backend_block_kick(struct fake_backend *fake)
{
    int kick = fake->rings[0].kick;

    fake->deaf = true;
    command(fake, RETURN); /* it does not look at the kick any more */
    assert_int_equal(fcntl(kick, F_SETFL, 0), 0);
    assert_int_equal(eventfd_write(kick, UINT64_MAX - 1), 0);
}

void fake_backend_say(struct fake_backend *fake, uint32_t request, uint32_t flags, uint32_t bytes,
                      uint32_t fds, uint32_t cut)
{
    struct ski_vhost_user_header header = { request, flags, bytes };
    struct wire wire = { .length = sizeof(header) + bytes, .fd_count = fds };

    memcpy(wire.bytes, &header, sizeof(header));
    write_raw(fake->channel, wire.bytes, cut < wire.length ? cut : wire.length, wire.fds, fds);
}
