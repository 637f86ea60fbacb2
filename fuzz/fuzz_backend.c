/* SPDX-License-Identifier: MIT */
/*
 * The vhost-user back end against a front end and a driver of which nothing
 * can be relied on: messages with any bytes and descriptors, rings and chains
 * with any content, in memory that changes while it is read.  Whatever comes, it
 * touches nothing but what it was given, ends when it is told, and keeps no descriptor.
 */
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <skio/virtio_blk.h>
#include <skio_hosted/backend.h>

#include "descriptors.h"
#include "input.h"
#include "vhost_user_message.h"

#define MEMORY_BYTES (128u << 10)
#define GUEST        UINT64_C(0x4000000000)
#define USER         UINT64_C(0x7f0000000000)
#define QUEUES       2u
#define STEPS        64u
#define FILE_BYTES   (64u << 10)

/* Places in the memory of a queue, which has half of it. */
#define QUEUE_BYTES (MEMORY_BYTES / QUEUES)
#define DRIVER_AREA 4096u
#define DEVICE_AREA 8192u
#define HEADERS     12288u
#define TABLES      16384u
#define RECORD      (MEMORY_BYTES - 16384u) /* of requests in flight; behind all of that */
#define DATA        20480u

#define NEXT     1u
#define WRITE    2u
#define INDIRECT 4u

struct descriptor {
    uint64_t address;
    uint32_t length;
    uint16_t flags; /* packed: id */
    uint16_t next;  /* packed: flags */
};

static struct input input;
static int memory_fd = -1;
static int file_fd = -1;
static uint8_t *memory;
static int front; /* our end of the socket */
static int kick[QUEUES];
static int call[QUEUES];
static bool packed;
static uint32_t size[QUEUES];
static uint16_t published[QUEUES];
static bool wrap[QUEUES];

static void drop_line(void *context, enum sk_log_level level, const char *line)
{
    (void)context;
    (void)level;
    (void)line;
}

static void make_files(void)
{
    memory_fd = memfd_create("memory", MFD_CLOEXEC);
    file_fd = memfd_create("file", MFD_CLOEXEC);
    REQUIRE(memory_fd >= 0 && file_fd >= 0);
    REQUIRE(ftruncate(memory_fd, MEMORY_BYTES) == 0 && ftruncate(file_fd, FILE_BYTES) == 0);
    memory = mmap(NULL, MEMORY_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, memory_fd, 0);
    REQUIRE(memory != MAP_FAILED);
}

/* ---- Messages -------------------------------------------------------------------------------- */

static void send_bytes(const void *bytes, size_t count, const int *fds, uint32_t fd_count)
{
    _Alignas(struct cmsghdr) uint8_t control[CMSG_SPACE(sizeof(int) * 16)];
    struct iovec piece = { .iov_base = (void *)(uintptr_t)bytes, .iov_len = count };
    struct msghdr message = { .msg_iov = &piece, .msg_iovlen = 1 };

    if (fd_count > 0) {
        struct cmsghdr *header = (struct cmsghdr *)(void *)control;

        memset(control, 0, sizeof(control));
        message.msg_control = control;
        message.msg_controllen = CMSG_SPACE(sizeof(int) * fd_count);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(int) * fd_count);
        memcpy(CMSG_DATA(header), fds, sizeof(int) * fd_count);
    }
    (void)sendmsg(front, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* Reads what came, and waits a little for it if it is expected. */
static void receive(int milliseconds)
{
    uint8_t bytes[1024];
    _Alignas(struct cmsghdr) uint8_t control[CMSG_SPACE(sizeof(int) * 16)];
    struct pollfd poll_front = { .fd = front, .events = POLLIN };

    while (poll(&poll_front, 1, milliseconds) > 0) {
        struct iovec piece = { .iov_base = bytes, .iov_len = sizeof(bytes) };
        struct msghdr message = { .msg_iov = &piece,
                                  .msg_iovlen = 1,
                                  .msg_control = control,
                                  .msg_controllen = sizeof(control) };

        if (recvmsg(front, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC) <= 0) {
            return;
        }
        for (struct cmsghdr *header = CMSG_FIRSTHDR(&message); header != NULL;
             header = CMSG_NXTHDR(&message, header)) {
            for (size_t i = 0; CMSG_LEN((i + 1) * sizeof(int)) <= header->cmsg_len; i++) {
                int fd;

                memcpy(&fd, CMSG_DATA(header) + i * sizeof(int), sizeof(fd));
                (void)close(fd);
            }
        }
        milliseconds = 0;
    }
}

/* A message that makes sense, unless the input changes a byte of it. */
static void say(uint32_t request, const void *payload, uint32_t bytes, const int *fds,
                uint32_t fd_count)
{
    struct {
        struct ski_vhost_user_header header;
        uint8_t payload[512];
    } message = { .header = { request, SKI_VHOST_USER_VERSION, bytes } };

    memcpy(message.payload, payload, bytes);
    if (input_back_byte(&input) % 8 == 1) {
        uint8_t place = input_back_byte(&input);

        ((uint8_t *)&message)[place % (sizeof(message.header) + bytes)] ^= input_back_byte(&input);
    }
    send_bytes(&message, sizeof(message.header) + bytes, fds, fd_count);
    receive(0);
}

static void say_u64(uint32_t request, uint64_t value, const int *fd)
{
    say(request, &value, sizeof(value), fd, fd != NULL);
}

static void say_state(uint32_t request, uint32_t index, uint32_t num)
{
    struct ski_vhost_user_vring_state state = { index, num };

    say(request, &state, sizeof(state), NULL, 0);
}

/* After this the back end has seen all that was sent. */
static void round_trip(void)
{
    struct ski_vhost_user_header header = { SKI_VHOST_USER_GET_FEATURES, SKI_VHOST_USER_VERSION, 0 };

    send_bytes(&header, sizeof(header), NULL, 0);
    receive(5);
}

static void any_message(void)
{
    static const uint32_t sizes[] = { 0, 8, 12, 20, 24, 32, 40, 264, 268 };
    struct {
        struct ski_vhost_user_header header;
        uint8_t payload[300];
    } message = { .header = { input_below(&input, 44), input_byte(&input),
                              sizes[input_below(&input, 9)] } };
    int fds[12];
    uint32_t count = input_below(&input, 16);

    count = count > 12 ? 1 : count > 8 ? count : count / 3;
    for (uint32_t i = 0; i < count; i++) {
        int some[4] = { memory_fd, kick[0], file_fd, front };

        fds[i] = some[input_below(&input, 4)];
    }
    for (uint32_t i = 0; i < message.header.size; i++) {
        message.payload[i] = input_byte(&input);
    }
    send_bytes(&message, sizeof(message.header) + message.header.size, fds, count);
    receive(0);
}

/* ---- Starting --------------------------------------------------------------------------------- */

static void share_memory(bool slots)
{
    struct ski_vhost_user_region region = { GUEST, MEMORY_BYTES, USER, 0 };

    if (slots) {
        struct ski_vhost_user_single_region single = { 0, region };

        say(SKI_VHOST_USER_ADD_MEM_REG, &single, sizeof(single), &memory_fd, 1);
    } else {
        struct ski_vhost_user_memory table = { .count = 1, .regions = { region } };

        say(SKI_VHOST_USER_SET_MEM_TABLE, &table,
            SKI_VHOST_USER_MEMORY_HEAD + (uint32_t)sizeof(region), &memory_fd, 1);
    }
}

/* The record of a ring that was at work: numbers that could be, and some that could not. */
static void fill_record(uint32_t index)
{
    uint8_t *record = memory + RECORD + index * (packed ? 2112u : 1088u); /* of 64 entries */
    uint16_t head[4] = { 1, (uint16_t)size[index], input_back_byte(&input) % 8,
                         packed ? input_back_byte(&input) % 8 : published[index] };
    uint32_t entry = packed ? 32 : 16;

    memset(record, 0, packed ? 2112 : 1088);
    memcpy(record + 8, head, sizeof(head));
    for (uint32_t i = 0; packed && i < 6; i++) {
        record[16 + i] = i % 2 == 0 || i > 3 ? input_back_byte(&input) % 8 : 0;
    }
    for (uint32_t i = 0; i < size[index]; i++) {
        uint8_t *at = record + entry + i * entry;
        uint8_t said = input_back_byte(&input);

        at[0] = said & 1;
        at[packed ? 2 : 6] = (uint8_t)(i + 1);
        at[packed ? 4 : 7] = packed ? (uint8_t)(i + (said >> 1 & 3)) : 0;
        at[packed ? 6 : 8] = (uint8_t)(1 + (said >> 1 & 3));
        at[packed ? 8 : 9] = said >> 4;
    }
}

static void start_queue(uint32_t index)
{
    uint64_t base = USER + index * QUEUE_BYTES;
    struct ski_vhost_user_vring_address address = { .index = index,
                                                    .descriptors = base,
                                                    .available = base + DRIVER_AREA,
                                                    .used = base + DEVICE_AREA };
    uint16_t at = input_back_byte(&input) % 4 == 1 ? 0xfffe : 0;

    size[index] = packed ? 1 + input_below(&input, 64) : 1u << input_below(&input, 7);
    published[index] = packed ? 0 : at;
    wrap[index] = true;
    fill_record(index); /* if there is one, the ring resumes */
    say_state(SKI_VHOST_USER_SET_VRING_NUM, index, size[index]);
    say(SKI_VHOST_USER_SET_VRING_ADDR, &address, sizeof(address), NULL, 0);
    say_state(SKI_VHOST_USER_SET_VRING_BASE, index, packed ? 0x80008000 : at);
    say_u64(SKI_VHOST_USER_SET_VRING_CALL, index, &call[index]);
    say_u64(SKI_VHOST_USER_SET_VRING_KICK, index, &kick[index]);
    say_state(SKI_VHOST_USER_SET_VRING_ENABLE, index, 1);
}

static void start(void)
{
    uint8_t kind = input_byte(&input);
    uint64_t protocol = UINT64_MAX;
    uint64_t features = SK_VIRTIO_FEATURE(SK_VIRTIO_F_VERSION_1) |
                        SK_VIRTIO_FEATURE(SKI_VHOST_USER_F_PROTOCOL_FEATURES) |
                        SK_VIRTIO_FEATURE(SK_VIRTIO_BLK_F_FLUSH) |
                        SK_VIRTIO_FEATURE(SK_VIRTIO_BLK_F_CONFIG_WCE) |
                        SK_VIRTIO_FEATURE(SK_VIRTIO_BLK_F_DISCARD) |
                        SK_VIRTIO_FEATURE(SK_VIRTIO_BLK_F_WRITE_ZEROES);

    packed = (kind & 1) != 0;
    features |= packed ? SK_VIRTIO_FEATURE(SK_VIRTIO_F_RING_PACKED) : 0;
    features |= (kind & 2) != 0 ? SK_VIRTIO_FEATURE(SK_VIRTIO_F_INDIRECT_DESC) : 0;
    features |= (kind & 4) != 0 ? SK_VIRTIO_FEATURE(SK_VIRTIO_F_EVENT_IDX) : 0;
    features |= (kind & 32) != 0 ? SK_VIRTIO_FEATURE(SK_VIRTIO_F_IN_ORDER) : 0;
    protocol = SK_VIRTIO_FEATURE(SKI_VHOST_USER_PROTOCOL_MQ) |
               SK_VIRTIO_FEATURE(SKI_VHOST_USER_PROTOCOL_REPLY_ACK) |
               SK_VIRTIO_FEATURE(SKI_VHOST_USER_PROTOCOL_CONFIG) |
               SK_VIRTIO_FEATURE(SKI_VHOST_USER_PROTOCOL_INFLIGHT_SHMFD) |
               SK_VIRTIO_FEATURE(SKI_VHOST_USER_PROTOCOL_CONFIGURE_MEM_SLOTS) |
               SK_VIRTIO_FEATURE(SKI_VHOST_USER_PROTOCOL_BACKEND_REQ) |
               SK_VIRTIO_FEATURE(SKI_VHOST_USER_PROTOCOL_RESET_DEVICE) |
               SK_VIRTIO_FEATURE(SKI_VHOST_USER_PROTOCOL_STATUS);
    say(SKI_VHOST_USER_SET_OWNER, "", 0, NULL, 0);
    say_u64(SKI_VHOST_USER_SET_FEATURES, features, NULL);
    say_u64(SKI_VHOST_USER_SET_PROTOCOL_FEATURES, protocol, NULL);
    share_memory((kind & 8) != 0);
    if ((kind & 32) != 0) {
        say_u64(SKI_VHOST_USER_SET_STATUS, kind, NULL);
        say(SKI_VHOST_USER_GET_STATUS, "", 0, NULL, 0);
        say(SKI_VHOST_USER_GET_MAX_MEM_SLOTS, "", 0, NULL, 0);
        say(SKI_VHOST_USER_SET_BACKEND_REQ_FD, "", 0, &front, 1);
    }
    if ((kind & 64) != 0) {
        struct ski_vhost_user_inflight wish = { 0, 0, QUEUES, 64, 0 };

        say(SKI_VHOST_USER_GET_INFLIGHT_FD, &wish, sizeof(wish), NULL, 0);
    }
    if ((kind & 16) != 0) { /* a record of requests in flight, with anything in it */
        struct ski_vhost_user_inflight record = { MEMORY_BYTES - RECORD, RECORD, QUEUES, 64, 0 };

        say(SKI_VHOST_USER_SET_INFLIGHT_FD, &record, sizeof(record), &memory_fd, 1);
    }
    for (uint32_t i = 0; i < QUEUES; i++) {
        start_queue(i);
    }
}

/* ---- Rings ------------------------------------------------------------------------------------ */

static void fill_table(struct descriptor *table, uint32_t count, uint32_t index, uint32_t slot,
                       bool reads)
{
    uint64_t base = GUEST + index * QUEUE_BYTES;

    for (uint32_t i = 0; i < count; i++) {
        bool last = i == count - 1;
        bool writes = last || (i > 0 && reads != (input_back_byte(&input) % 8 == 1));
        uint16_t flags = (uint16_t)((last ? 0 : NEXT) | (writes ? WRITE : 0));

        table[i].address = i == 0   ? base + HEADERS + slot % 64 * 16
                           : last   ? base + HEADERS + 2048 + slot % 64
                                    : base + DATA + 512 * input_below(&input, 40);
        table[i].length = i == 0 ? 16 : last ? 1 : 512 * (1 + input_below(&input, 4));
        table[i].flags = packed ? (uint16_t)slot : flags;
        table[i].next = packed ? flags : (uint16_t)(i + 1);
    }
}

/* A request that makes sense, at the next place. */
static void put_request(void)
{
    uint32_t index = input_below(&input, QUEUES);
    uint8_t *at = memory + index * QUEUE_BYTES;
    struct descriptor *ring = (struct descriptor *)(void *)at;
    uint16_t *available = (uint16_t *)(void *)(at + DRIVER_AREA);
    uint32_t place = size[index] == 0 ? 0 : published[index] % size[index];
    uint32_t count = 2 + input_below(&input, 4);
    uint64_t *header = (uint64_t *)(void *)(at + HEADERS + place % 64 * 16);
    struct descriptor *table = (struct descriptor *)(void *)(at + TABLES + place % 32 * 128);

    if (size[index] == 0) {
        return;
    }
    header[0] = input_below(&input, 16);
    if (header[0] == 11 || header[0] == 13) { /* with one range */
        uint64_t range[2] = { input_below(&input, FILE_BYTES / 512 + 8),
                              (uint64_t)(input_below(&input, 4)) << 32 | input_below(&input, 16) };

        memcpy(at + DATA, range, sizeof(range));
        count = 3;
    }
    header[1] = input_below(&input, FILE_BYTES / 512 + 8);
    fill_table(table, count, index, place, header[0] == 0 || header[0] == 8);
    if (header[0] == 11 || header[0] == 13) {
        table[1].address = GUEST + index * QUEUE_BYTES + DATA;
        table[1].length = 16;
        if (packed) {
            table[1].next = NEXT;
        } else {
            table[1].flags = NEXT;
        }
    }
    ring[place] = (struct descriptor){ (uint64_t)((uint8_t *)table - memory) + GUEST,
                                       count * (uint32_t)sizeof(*table),
                                       packed ? (uint16_t)place : INDIRECT, 0 };
    if (packed) {
        __atomic_store_n(&ring[place].next, (uint16_t)(INDIRECT | (wrap[index] ? 0x80 : 0x8000)),
                         __ATOMIC_RELEASE);
        published[index] = (uint16_t)(place + 1);
        if (place + 1 == size[index]) {
            published[index] = 0;
            wrap[index] = !wrap[index];
        }
    } else {
        available[2 + place] = (uint16_t)place;
        __atomic_store_n(&available[1], ++published[index], __ATOMIC_RELEASE);
    }
    (void)eventfd_write(kick[index], 1);
}

/* The messages that start nothing. */
static void small_talk(void)
{
    struct ski_vhost_user_config config = { .offset = input_below(&input, 64),
                                            .size = input_below(&input, 70) };
    struct ski_vhost_user_single_region region = { 0, { GUEST, MEMORY_BYTES, USER, 0 } };

    switch (input_below(&input, 6)) {
    case 0:
        say(SKI_VHOST_USER_GET_CONFIG, &config, SKI_VHOST_USER_CONFIG_HEAD + config.size, NULL, 0);
        break;
    case 1:
        config = (struct ski_vhost_user_config){ 32, 1, 0, { input_byte(&input) & 1 } };
        say(SKI_VHOST_USER_SET_CONFIG, &config, SKI_VHOST_USER_CONFIG_HEAD + 1, NULL, 0);
        break;
    case 2:
        say(SKI_VHOST_USER_GET_QUEUE_NUM, "", 0, NULL, 0);
        break;
    case 3:
        say_u64(SKI_VHOST_USER_SET_VRING_ERR, input_below(&input, QUEUES), &call[0]);
        break;
    case 4:
        say(SKI_VHOST_USER_REM_MEM_REG, &region, sizeof(region), NULL, 0);
        break;
    default:
        say(SKI_VHOST_USER_RESET_DEVICE, "", 0, NULL, 0);
    }
}

static void poke(void)
{
    uint32_t place = (uint32_t)input_number(&input, 2) * 2 % (MEMORY_BYTES - 16);
    uint32_t count = 1 + input_below(&input, 16);

    for (uint32_t i = 0; i < count; i++) {
        memory[place + i] = input_byte(&input);
    }
}

static void step(void)
{
    uint8_t raw[64];
    uint32_t count;

    switch (input_below(&input, 11)) {
    case 9:
        small_talk();
        break;
    case 0:
        any_message();
        break;
    case 1:
        start();
        break;
    case 2:
    case 3:
    case 4:
        put_request();
        break;
    case 5:
        poke();
        break;
    case 6:
        (void)eventfd_write(kick[input_below(&input, QUEUES)], 1);
        break;
    case 7:
        count = 1 + input_below(&input, sizeof(raw));
        for (uint32_t i = 0; i < count; i++) {
            raw[i] = input_byte(&input);
        }
        send_bytes(raw, count, &memory_fd, raw[0] & 1);
        break;
    case 8:
        say_state(SKI_VHOST_USER_GET_VRING_BASE, input_below(&input, QUEUES), 0);
        break;
    default:
        round_trip();
    }
}

static struct sk_backend *start_backend(int socket)
{
    struct sk_backend_options options;
    struct sk_backend *backend = NULL;
    char address[32];
    char file[32];
    uint8_t kind = input_byte(&input);

    (void)snprintf(address, sizeof(address), "fd:%d", socket);
    (void)snprintf(file, sizeof(file), "/proc/self/fd/%d", file_fd);
    sk_backend_options_init(&options);
    options.address = address;
    options.file_path = (kind & 1) != 0 ? file : NULL;
    options.capacity_sectors = 128;
    options.null_zeroes = (kind & 2) != 0;
    options.block_bytes = (kind & 4) != 0 ? 4096 : 512;
    options.queue_count = QUEUES;
    options.worker_count = 1 + (kind >> 3 & 1);
    options.message_ns = 1000000000;
    options.guard = false; /* libFuzzer has signal handlers of its own */
    options.write_log = drop_line;
    REQUIRE(sk_backend_start(&options, &backend, NULL) == SK_OK);
    return backend;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct sk_backend *backend;
    unsigned before;
    int ends[2];

    if (memory_fd < 0) {
        make_files();
    }
    before = descriptors_open();
    input = (struct input){ data, 0, bytes };
    memset(memory, 0, MEMORY_BYTES);
    memset(size, 0, sizeof(size));
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
    front = ends[0];
    for (uint32_t i = 0; i < QUEUES; i++) {
        kick[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        call[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    }
    backend = start_backend(ends[1]);
    for (uint32_t i = 0; i < STEPS && !input_is_empty(&input); i++) {
        step();
    }
    round_trip();
    (void)close(front);
    sk_backend_stop(backend);
    for (uint32_t i = 0; i < QUEUES; i++) {
        (void)close(kick[i]);
        (void)close(call[i]);
    }
    REQUIRE(descriptors_open() == before);
    return 0;
}
