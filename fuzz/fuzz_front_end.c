/* SPDX-License-Identifier: MIT */
/*
 * The vhost-user front end against a back end of which nothing can be relied
 * on: between it and ours stands a thread that changes, cuts, drops, doubles and
 * invents replies and the back end's own requests, with any descriptors.  Whatever comes, every
 * call comes back, every request ends once, and nothing is left behind.
 */
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <skio/skio.h>
#include <skio_hosted/backend.h>
#include <skio_hosted/vhost_user.h>

#include "descriptors.h"
#include "input.h"
#include "vhost_user_message.h"

#define STEPS      40u
#define REQUESTS   8u
#define BYTES      4096u
#define FDS_MAX    16u
#define TIMEOUT_NS UINT64_C(20000000)
#define CONTROL_NS UINT64_C(60000000000) /* the thread hangs up when we do: it takes no time */
#define MESSAGE_NS UINT64_C(10000000)

struct request {
    struct sk_block_request request; /* first */
    struct sk_dma_segment segment;
    bool out;
};

static struct input input; /* the front is the user's, */
static struct input lies;  /* and the back, as a copy, the thread's */
static int some_fd = -1;
static int front;   /* the thread's ends: towards the front end, */
static int back;    /* the back end, */
static int channel; /* and what the back end says by itself */
static atomic_bool ends;
static struct sk_vhost_user_disk *disk;
static struct sk_block_device *device;
static struct sk_io_buffer buffer;
static struct request requests[REQUESTS];
static uint32_t out;

static void drop_line(void *context, enum sk_log_level level, const char *line)
{
    (void)context;
    (void)level;
    (void)line;
}

/* ---- The thread between ------------------------------------------------------------------------ */

struct chunk {
    uint8_t bytes[4096];
    size_t count;
    int fds[FDS_MAX];
    uint32_t fd_count;
};

static bool take_chunk(int from, struct chunk *chunk)
{
    _Alignas(struct cmsghdr) uint8_t control[CMSG_SPACE(sizeof(int) * FDS_MAX)];
    struct iovec piece = { .iov_base = chunk->bytes, .iov_len = 1024 };
    struct msghdr message = { .msg_iov = &piece,
                              .msg_iovlen = 1,
                              .msg_control = control,
                              .msg_controllen = sizeof(control) };
    ssize_t count = recvmsg(from, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

    chunk->count = count > 0 ? (size_t)count : 0;
    chunk->fd_count = 0;
    for (struct cmsghdr *header = count > 0 ? CMSG_FIRSTHDR(&message) : NULL; header != NULL;
         header = CMSG_NXTHDR(&message, header)) {
        chunk->fd_count = (uint32_t)((header->cmsg_len - CMSG_LEN(0)) / sizeof(int));
        memcpy(chunk->fds, CMSG_DATA(header), chunk->fd_count * sizeof(int));
    }
    return count > 0;
}

static void give_chunk(int to, const struct chunk *chunk)
{
    _Alignas(struct cmsghdr) uint8_t control[CMSG_SPACE(sizeof(int) * FDS_MAX)];
    struct iovec piece = { .iov_base = (void *)(uintptr_t)chunk->bytes, .iov_len = chunk->count };
    struct msghdr message = { .msg_iov = &piece, .msg_iovlen = 1 };

    if (chunk->fd_count > 0) {
        struct cmsghdr *header = (struct cmsghdr *)(void *)control;

        memset(control, 0, sizeof(control));
        message.msg_control = control;
        message.msg_controllen = CMSG_SPACE(sizeof(int) * chunk->fd_count);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(int) * chunk->fd_count);
        memcpy(CMSG_DATA(header), chunk->fds, sizeof(int) * chunk->fd_count);
    }
    (void)sendmsg(to, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void close_fds(struct chunk *chunk)
{
    for (uint32_t i = 0; i < chunk->fd_count; i++) {
        if (chunk->fds[i] != some_fd) {
            (void)close(chunk->fds[i]);
        }
    }
}

static void change_bytes(struct chunk *chunk)
{
    uint32_t count = 1 + input_back_byte(&lies) % 4;

    for (uint32_t i = 0; i < count && chunk->count > 0; i++) {
        uint8_t place = input_back_byte(&lies);

        chunk->bytes[place % chunk->count] ^= input_back_byte(&lies);
    }
}

static void add_bytes(struct chunk *chunk)
{
    uint32_t count = input_back_byte(&lies);

    for (uint32_t i = 0; i < count; i++) {
        chunk->bytes[chunk->count++] = input_back_byte(&lies);
    }
}

/* What becomes of something that the back end says; false: it is dropped. */
static bool lie(struct chunk *chunk)
{
    uint32_t count;

    switch (input_back_byte(&lies) % 32) {
    case 1:
    case 2:
        change_bytes(chunk);
        break;
    case 3:
        return false;
    case 4:
        chunk->count = chunk->count * input_back_byte(&lies) / 256;
        break;
    case 5:
        add_bytes(chunk);
        break;
    case 6:
        count = input_back_byte(&lies) % FDS_MAX;
        while (chunk->fd_count < count) {
            chunk->fds[chunk->fd_count++] = some_fd;
        }
        break;
    case 7:
        give_chunk(front, chunk);
        break;
    case 8:
        chunk->count = 0;
        add_bytes(chunk);
        break;
    case 9:
        (void)shutdown(front, SHUT_RDWR);
        break;
    default:
        break;
    }
    return chunk->count > 0;
}

/* Something on the back end's own channel. */
static void say_something(void)
{
    struct ski_vhost_user_header header = { 1 + input_back_byte(&lies) % 6,
                                            SKI_VHOST_USER_VERSION, 0 };
    struct chunk chunk = { .count = sizeof(header) };
    uint8_t how = input_back_byte(&lies);

    header.flags |= (how & 1) != 0 ? SKI_VHOST_USER_NEED_REPLY : 0;
    header.size = (how & 2) != 0 ? input_back_byte(&lies) : 0;
    memcpy(chunk.bytes, &header, sizeof(header));
    if ((how & 4) != 0) {
        add_bytes(&chunk);
    }
    if ((how & 8) != 0) {
        change_bytes(&chunk);
    }
    if ((how & 16) != 0) {
        chunk.fds[chunk.fd_count++] = some_fd;
    }
    if (channel >= 0) {
        give_chunk(channel, &chunk);
    }
}

static void pass_on(struct chunk *chunk)
{
    struct ski_vhost_user_header header = { 0, 0, 0 };

    memcpy(&header, chunk->bytes, chunk->count < sizeof(header) ? chunk->count : sizeof(header));
    if (header.request == SKI_VHOST_USER_SET_BACKEND_REQ_FD && chunk->fd_count == 1 && channel < 0) {
        channel = dup(chunk->fds[0]);
    }
    give_chunk(back, chunk);
}

static void *stand_between(void *argument)
{
    static struct chunk chunk;

    while (!ends) {
        struct pollfd polls[2] = { { .fd = front, .events = POLLIN },
                                   { .fd = back, .events = POLLIN } };

        (void)poll(polls, 2, 5);
        if (polls[0].revents != 0) {
            if (!take_chunk(front, &chunk)) {
                break;
            }
            pass_on(&chunk);
            close_fds(&chunk);
        }
        if (polls[1].revents != 0) {
            if (!take_chunk(back, &chunk)) {
                break;
            }
            if (lie(&chunk)) {
                give_chunk(front, &chunk);
            }
            close_fds(&chunk);
        }
        if (input_back_byte(&lies) % 16 == 1) {
            say_something();
        }
    }
    (void)shutdown(front, SHUT_RDWR);
    (void)shutdown(back, SHUT_RDWR);
    return argument;
}

/* ---- The user ---------------------------------------------------------------------------------- */

static void complete(struct sk_block_request *done)
{
    struct request *request = (struct request *)(void *)done;

    REQUIRE(request->out && out > 0);
    REQUIRE(done->status != SK_ERR_IN_DOUBT || sk_block_get_state(device) != SK_BLOCK_STATE_READY);
    request->out = false;
    out--;
}

static void submit(struct sk_block_queue *queue)
{
    uint32_t index = input_below(&input, REQUESTS);
    struct request *request = &requests[index];
    struct sk_block_request *pointer = &request->request;

    if (request->out ||
        sk_io_buffer_segment(&buffer, index * BYTES, BYTES, &request->segment) != SK_OK) {
        return;
    }
    request->request = (struct sk_block_request){
        .operation = (enum sk_block_operation)input_below(&input, 3),
        .sector = input_below(&input, 16) * 8,
        .segments = &request->segment,
        .segment_count = 1,
        .complete = complete,
    };
    if (request->request.operation == SK_BLOCK_FLUSH) {
        request->request.sector = 0;
        request->request.segment_count = 0;
    }
    request->out = true;
    out++;
    sk_block_submit(queue, &pointer, 1);
}

static void step(void)
{
    static uint8_t memory[BYTES];
    const struct sk_platform *platform = device->platform;
    uint32_t index = input_below(&input, device->info.queue_count);
    struct sk_block_queue *queue = sk_block_get_queue(device, index);
    const struct sk_process_region *region;
    struct sk_vhost_user_info info;
    enum sk_status status = SK_OK;

    switch (input_below(&input, 12)) {
    case 0:
    case 1:
    case 2:
        submit(queue);
        break;
    case 3:
        status = sk_block_poll(queue, 0, NULL);
        break;
    case 4:
        status = sk_block_wait(queue, platform->now_ns(platform->context) + 2000000);
        break;
    case 5:
        status = sk_block_read(queue, input_below(&input, 16), memory, 512, 0);
        break;
    case 6:
        status = sk_block_recover(device, 0);
        break;
    case 7:
        status = sk_vhost_user_disk_add_region(disk, 1, &region);
        break;
    case 8:
        status = sk_block_set_cache(queue, (enum sk_block_cache)input_below(&input, 2), 0);
        break;
    case 9:
        status = sk_vhost_user_disk_arm(disk, index);
        break;
    case 10:
        sk_vhost_user_get_info(sk_vhost_user_disk_transport(disk), &info);
        break;
    default:
        sk_block_stop(device, SK_ERR_TIMEOUT);
    }
    REQUIRE((unsigned)status < SK_STATUS_COUNT);
}

static void open_disk(int socket)
{
    struct sk_vhost_user_disk_options options = SK_VHOST_USER_DISK_OPTIONS_DEFAULT;
    char error[SK_VHOST_USER_ERROR_BYTES];
    char address[32];
    uint8_t kind = input_byte(&input);
    enum sk_status status;

    (void)snprintf(address, sizeof(address), "fd:%d", socket);
    options.process.write_log = drop_line;
    options.driver.queue_count = 1 + (kind & 1);
    options.driver.queue_size = 16;
    options.driver.features = (kind & 2) != 0 ? UINT64_MAX
                                              : ~SK_VIRTIO_FEATURE(SK_VIRTIO_F_RING_PACKED);
    options.driver.timeout_ns = TIMEOUT_NS;
    options.driver.control_timeout_ns = CONTROL_NS;
    options.driver.recovery = (kind & 4) != 0 ? SK_VIRTIO_BLK_RECOVERY_RESUBMIT
                                              : SK_VIRTIO_BLK_RECOVERY_FAIL;
    options.vhost_user.message_ns = MESSAGE_NS;
    options.vhost_user.protocol_features = (kind & 8) != 0 ? UINT64_MAX : input_number(&input, 3);
    options.memory_bytes = 1u << 18;
    options.pages = SK_PROCESS_PAGES_ORDINARY;
    status = sk_vhost_user_disk_open(address, &options, &disk, error);
    REQUIRE(status != SK_ERR_IN_DOUBT);
    if (status != SK_OK) {
        REQUIRE(disk == NULL && error[0] != '\0');
        return;
    }
    device = sk_vhost_user_disk_device(disk);
    REQUIRE(sk_io_buffer_create(&buffer, device->domain, REQUESTS * BYTES, BYTES) == SK_OK);
}

static struct sk_backend *start_backend(int socket)
{
    struct sk_backend_options options;
    struct sk_backend *backend = NULL;
    char address[32];

    (void)snprintf(address, sizeof(address), "fd:%d", socket);
    sk_backend_options_init(&options);
    options.address = address;
    options.capacity_sectors = 128;
    options.queue_count = 2;
    options.guard = false; /* libFuzzer has signal handlers of its own */
    options.write_log = drop_line;
    REQUIRE(sk_backend_start(&options, &backend, NULL) == SK_OK);
    return backend;
}

/* The other side goes first: then everything has stopped, whatever it said before. */
static void close_all(pthread_t thread, struct sk_backend *backend)
{
    ends = true;
    (void)shutdown(front, SHUT_RDWR); /* it wakes */
    REQUIRE(pthread_join(thread, NULL) == 0);
    (void)close(front);
    (void)close(back);
    if (channel >= 0) {
        (void)close(channel);
    }
    sk_backend_stop(backend);
    if (disk != NULL) {
        for (uint32_t i = 0; i < device->info.queue_count; i++) {
            sk_block_stop(device, SK_ERR_BROKEN);
            (void)!sk_block_recover(device, 0);
            (void)!sk_block_poll(sk_block_get_queue(device, i), 0, NULL);
        }
        REQUIRE(sk_io_buffer_destroy(&buffer) == SK_OK);
        REQUIRE(sk_vhost_user_disk_close(disk) == SK_OK);
    }
    REQUIRE(out == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct sk_backend *backend;
    pthread_t thread;
    unsigned before;
    int left[2];
    int right[2];

    if (some_fd < 0) {
        some_fd = memfd_create("some", MFD_CLOEXEC);
        REQUIRE(some_fd >= 0 && ftruncate(some_fd, BYTES) == 0);
    }
    before = descriptors_open();
    input = (struct input){ data, 0, bytes / 2 };
    lies = (struct input){ data, bytes / 2, bytes };
    out = 0;
    memset(requests, 0, sizeof(requests));
    disk = NULL;
    ends = false;
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, left) == 0);
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, right) == 0);
    front = left[0];
    back = right[0];
    channel = -1;
    backend = start_backend(right[1]);
    REQUIRE(pthread_create(&thread, NULL, stand_between, NULL) == 0);
    open_disk(left[1]);
    for (uint32_t i = 0; disk != NULL && i < STEPS && !input_is_empty(&input); i++) {
        step();
    }
    close_all(thread, backend);
    REQUIRE(descriptors_open() == before);
    return 0;
}
