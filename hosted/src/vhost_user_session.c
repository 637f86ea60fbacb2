/* SPDX-License-Identifier: MIT */
/* What is said to a back end: agreeing, starting and stopping rings, memory, configuration. */
#include "vhost_user_private.h"

#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define BIT(number) SK_VIRTIO_FEATURE(number)

/* What is understood here of the protocol. */
#define IMPLEMENTED                                                                         \
    (BIT(SKI_VHOST_USER_PROTOCOL_MQ) | BIT(SKI_VHOST_USER_PROTOCOL_REPLY_ACK) |             \
     BIT(SKI_VHOST_USER_PROTOCOL_BACKEND_REQ) | BIT(SKI_VHOST_USER_PROTOCOL_CONFIG) |       \
     BIT(SKI_VHOST_USER_PROTOCOL_INFLIGHT_SHMFD) |                                          \
     BIT(SKI_VHOST_USER_PROTOCOL_RESET_DEVICE) |                                            \
     BIT(SKI_VHOST_USER_PROTOCOL_CONFIGURE_MEM_SLOTS) | BIT(SKI_VHOST_USER_PROTOCOL_STATUS))

/* More in-flight memory than any number of queues needs; bytes. */
#define INFLIGHT_BYTES_MAX (UINT64_C(128) << 20)

/* Lengths of a block device's configuration space, as it grew: 5.2.4. */
static const uint32_t config_lengths[] = { 60, 72, 96 };

/* A state that a back end acknowledged as a failure: nothing works without it. */
static enum sk_status insist(struct sk_vhost_user *vu, uint32_t request, enum sk_status status)
{
    if (status == SK_ERR_UNSUPPORTED) {
        ski_vhost_user_say(vu, "the back end refuses %s", ski_vhost_user_request_name(request));
        ski_vhost_user_hang_up(vu);
        return SK_ERR_MALFORMED;
    }
    return status;
}


static enum sk_status insist_vring(struct sk_vhost_user *vu, uint32_t request, uint32_t index,
                                   uint32_t value, uint64_t deadline_ns)
{
    return insist(vu, request, ski_vhost_user_set_vring(vu, request, index, value, deadline_ns));
}

static enum sk_status insist_fd(struct sk_vhost_user *vu, uint32_t request, uint64_t value, int fd,
                                uint64_t deadline_ns)
{
    return insist(vu, request, ski_vhost_user_set_fd(vu, request, value, fd, deadline_ns));
}

/* ---- Agreeing ---------------------------------------------------------------------------- */

static enum sk_status lacks(struct sk_vhost_user *vu, const char *what)
{
    ski_vhost_user_say(vu, "the back end lacks %s", what);
    ski_vhost_user_hang_up(vu);
    return SK_ERR_UNSUPPORTED;
}

static enum sk_status agree_on_features(struct sk_vhost_user *vu, uint64_t wanted,
                                        uint64_t deadline_ns)
{
    struct ski_vhost_user_message owner;
    struct ski_vhost_user_terms *terms = &vu->terms;
    enum sk_status status;

    ski_vhost_user_prepare(&owner, SKI_VHOST_USER_SET_OWNER, 0);
    status = ski_vhost_user_ask(vu, &owner, SKI_VHOST_USER_NO_REPLY, deadline_ns);
    if (status == SK_OK) {
        status = ski_vhost_user_get_u64(vu, SKI_VHOST_USER_GET_FEATURES, &terms->features,
                                        deadline_ns);
    }
    if (status == SK_OK && (terms->features & BIT(SKI_VHOST_USER_F_PROTOCOL_FEATURES)) == 0) {
        return lacks(vu, "the protocol's features; it is too old, or no disk");
    }
    if (status == SK_OK) {
        status = ski_vhost_user_get_u64(vu, SKI_VHOST_USER_GET_PROTOCOL_FEATURES,
                                        &terms->protocol_offered, deadline_ns);
    }
    if (status != SK_OK) {
        return status;
    }
    if ((terms->protocol_offered & BIT(SKI_VHOST_USER_PROTOCOL_CONFIG)) == 0) {
        return lacks(vu, "a configuration space (CONFIG); is it a disk?");
    }
    wanted &= terms->protocol_offered;
    status = ski_vhost_user_set_u64(vu, SKI_VHOST_USER_SET_PROTOCOL_FEATURES, wanted, deadline_ns);
    terms->protocol = status == SK_OK ? wanted : 0;
    return status;
}

static enum sk_status ask_limits(struct sk_vhost_user *vu, uint64_t deadline_ns)
{
    struct ski_vhost_user_terms *terms = &vu->terms;
    uint64_t queues = 1;
    enum sk_status status = SK_OK;

    terms->region_count = SKI_VHOST_USER_REGIONS_MAX;
    if (ski_vhost_user_has(vu, SKI_VHOST_USER_PROTOCOL_MQ)) {
        status = ski_vhost_user_get_u64(vu, SKI_VHOST_USER_GET_QUEUE_NUM, &queues, deadline_ns);
        if (status == SK_OK && (queues == 0 || queues > UINT16_MAX)) {
            return ski_vhost_user_refuse(vu, SKI_VHOST_USER_GET_QUEUE_NUM, "queues:", queues);
        }
    }
    terms->queue_count = (uint32_t)queues;
    if (status == SK_OK && ski_vhost_user_has(vu, SKI_VHOST_USER_PROTOCOL_CONFIGURE_MEM_SLOTS)) {
        status = ski_vhost_user_get_u64(vu, SKI_VHOST_USER_GET_MAX_MEM_SLOTS,
                                        &terms->region_count, deadline_ns);
    }
    return status;
}

/* A channel for what the back end wants to say by itself. */
static enum sk_status give_channel(struct sk_vhost_user *vu, uint64_t deadline_ns)
{
    int ends[2];
    enum sk_status status;

    if (!ski_vhost_user_has(vu, SKI_VHOST_USER_PROTOCOL_BACKEND_REQ)) {
        return SK_OK;
    }
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0) {
        ski_vhost_user_say(vu, "there are no file descriptors left");
        ski_vhost_user_hang_up(vu);
        return SK_ERR_NO_MEMORY;
    }
    vu->backend_channel = ends[0];
    status = insist_fd(vu, SKI_VHOST_USER_SET_BACKEND_REQ_FD, 0, ends[1], deadline_ns);
    (void)close(ends[1]);
    return status;
}

/* One that follows another is asked for what was agreed on with that one, and no more. */
enum sk_status ski_vhost_user_agree(struct sk_vhost_user *vu, uint64_t deadline_ns)
{
    uint64_t wanted = IMPLEMENTED & vu->options.protocol_features;
    enum sk_status status;

    if (vu->resuming) {
        wanted = vu->terms.protocol;
    } else if (!vu->reconnects) {
        wanted &= ~BIT(SKI_VHOST_USER_PROTOCOL_INFLIGHT_SHMFD);
    }
    vu->terms = (struct ski_vhost_user_terms){ .features = 0 };
    vu->regions_shared = 0;
    status = agree_on_features(vu, wanted, deadline_ns);
    if (status == SK_OK) {
        status = ask_limits(vu, deadline_ns);
    }
    if (status == SK_OK) {
        status = give_channel(vu, deadline_ns);
    }
    return status;
}

/* ---- Memory ------------------------------------------------------------------------------ */

static struct ski_vhost_user_region describe(const struct sk_process_region *region)
{
    return (struct ski_vhost_user_region){
        .guest_address = region->paddr.raw,
        .size = region->bytes,
        .user_address = (uintptr_t)region->cpu,
        .mmap_offset = 0,
    };
}

static enum sk_status send_table(struct sk_vhost_user *vu, size_t count, uint64_t deadline_ns)
{
    struct ski_vhost_user_message message;

    ski_vhost_user_prepare(&message, SKI_VHOST_USER_SET_MEM_TABLE,
                           SKI_VHOST_USER_MEMORY_HEAD +
                               (uint32_t)(count * sizeof(struct ski_vhost_user_region)));
    message.payload.memory.count = (uint32_t)count;
    for (size_t i = 0; i < count; i++) {
        const struct sk_process_region *region = sk_process_get_region(vu->process, i);

        message.payload.memory.regions[i] = describe(region);
        message.fds[i] = region->fd;
    }
    message.fd_count = (uint32_t)count;
    return insist(vu, SKI_VHOST_USER_SET_MEM_TABLE,
                  ski_vhost_user_ask(vu, &message, SKI_VHOST_USER_NO_REPLY, deadline_ns));
}

static enum sk_status add_region(struct sk_vhost_user *vu, size_t index, uint64_t deadline_ns)
{
    const struct sk_process_region *region = sk_process_get_region(vu->process, index);
    struct ski_vhost_user_message message;

    ski_vhost_user_prepare(&message, SKI_VHOST_USER_ADD_MEM_REG, sizeof(message.payload.region));
    message.payload.region.region = describe(region);
    message.fds[0] = region->fd;
    message.fd_count = 1;
    return insist(vu, SKI_VHOST_USER_ADD_MEM_REG,
                  ski_vhost_user_ask(vu, &message, SKI_VHOST_USER_NO_REPLY, deadline_ns));
}

enum sk_status ski_vhost_user_send_regions(struct sk_vhost_user *vu, size_t first,
                                           uint64_t deadline_ns)
{
    size_t count = sk_process_region_count(vu->process);
    size_t table = count < SKI_VHOST_USER_REGIONS_MAX ? count : SKI_VHOST_USER_REGIONS_MAX;
    bool slots = ski_vhost_user_has(vu, SKI_VHOST_USER_PROTOCOL_CONFIGURE_MEM_SLOTS);
    enum sk_status status = SK_OK;

    if (count > vu->terms.region_count || (first > 0 && count > first && !slots)) {
        sk_log_print(ski_vhost_user_log(vu), SK_LOG_ERROR,
                     "vhost-user: %u regions of memory are too many for the back end; it takes %llu",
                     (unsigned)count, (unsigned long long)vu->terms.region_count);
        return SK_ERR_UNSUPPORTED;
    }
    if (first == 0 && table > 0) {
        status = send_table(vu, table, deadline_ns);
        first = table;
    }
    for (size_t i = first; status == SK_OK && i < count; i++) {
        status = add_region(vu, i, deadline_ns);
    }
    if (status == SK_OK) {
        vu->regions_shared = count;
    }
    return status;
}

/* ---- In-flight memory -------------------------------------------------------------------- */

static void drop_inflight(struct sk_vhost_user *vu)
{
    if (vu->inflight.fd >= 0) {
        (void)close(vu->inflight.fd);
        vu->inflight.fd = -1;
    }
}

static enum sk_status take_inflight(struct sk_vhost_user *vu, struct ski_vhost_user_message *answer,
                                    uint16_t queue_count, uint16_t queue_size)
{
    const struct ski_vhost_user_inflight *said = &answer->payload.inflight;
    struct stat stat;
    int fd = ski_vhost_user_take_fd(answer, 0);
    bool fits = fstat(fd, &stat) == 0 && said->mmap_size > 0 &&
                said->mmap_size <= INFLIGHT_BYTES_MAX && stat.st_size >= 0 &&
                said->mmap_size <= (uint64_t)stat.st_size &&
                said->mmap_offset <= (uint64_t)stat.st_size - said->mmap_size;

    if (!fits) {
        (void)close(fd);
        return ski_vhost_user_refuse(vu, SKI_VHOST_USER_GET_INFLIGHT_FD,
                                     "that memory is not there; bytes:", said->mmap_size);
    }
    vu->inflight = (struct ski_vhost_user_inflight_memory){ .fd = fd,
                                                            .bytes = said->mmap_size,
                                                            .offset = said->mmap_offset,
                                                            .queue_count = queue_count,
                                                            .queue_size = queue_size };
    return SK_OK;
}

/* Has the back end make memory in which it keeps book of what it works on. */
static enum sk_status get_inflight(struct sk_vhost_user *vu, uint64_t deadline_ns)
{
    struct ski_vhost_user_message message;
    uint16_t queue_count = 0;
    uint16_t queue_size = 0;
    enum sk_status status;

    for (uint32_t i = 0; i < vu->options.queue_count; i++) {
        if (vu->queues[i].given) {
            queue_count = (uint16_t)(i + 1);
            queue_size = vu->queues[i].layout.size > queue_size ? vu->queues[i].layout.size
                                                                : queue_size;
        }
    }
    ski_vhost_user_prepare(&message, SKI_VHOST_USER_GET_INFLIGHT_FD,
                           SKI_VHOST_USER_INFLIGHT_BYTES);
    message.payload.inflight.queue_count = queue_count;
    message.payload.inflight.queue_size = queue_size;
    status = ski_vhost_user_ask(vu, &message, SKI_VHOST_USER_INFLIGHT_BYTES, deadline_ns);
    return status == SK_OK ? take_inflight(vu, &message, queue_count, queue_size) : status;
}

static enum sk_status set_inflight(struct sk_vhost_user *vu, uint64_t deadline_ns)
{
    struct ski_vhost_user_message message;

    ski_vhost_user_prepare(&message, SKI_VHOST_USER_SET_INFLIGHT_FD,
                           SKI_VHOST_USER_INFLIGHT_BYTES);
    message.payload.inflight.mmap_size = vu->inflight.bytes;
    message.payload.inflight.mmap_offset = vu->inflight.offset;
    message.payload.inflight.queue_count = vu->inflight.queue_count;
    message.payload.inflight.queue_size = vu->inflight.queue_size;
    message.fds[0] = vu->inflight.fd;
    message.fd_count = 1;
    return insist(vu, SKI_VHOST_USER_SET_INFLIGHT_FD,
                  ski_vhost_user_ask(vu, &message, SKI_VHOST_USER_NO_REPLY, deadline_ns));
}

static enum sk_status share_inflight(struct sk_vhost_user *vu, bool resumes, uint64_t deadline_ns)
{
    enum sk_status status = SK_OK;

    if (!ski_vhost_user_has(vu, SKI_VHOST_USER_PROTOCOL_INFLIGHT_SHMFD)) {
        return SK_OK;
    }
    if (!resumes) {
        drop_inflight(vu);
        status = get_inflight(vu, deadline_ns);
    }
    return status == SK_OK ? set_inflight(vu, deadline_ns) : status;
}

/* ---- Rings ------------------------------------------------------------------------------- */

static enum sk_status send_addresses(struct sk_vhost_user *vu, uint32_t index, uint64_t deadline_ns)
{
    const struct sk_virtio_queue_layout *layout = &vu->queues[index].layout;
    struct ski_vhost_user_message message;

    ski_vhost_user_prepare(&message, SKI_VHOST_USER_SET_VRING_ADDR,
                           sizeof(message.payload.address));
    message.payload.address.index = index;
    message.payload.address.descriptors = (uintptr_t)layout->cpu_descriptors;
    message.payload.address.available = (uintptr_t)layout->cpu_driver_area;
    message.payload.address.used = (uintptr_t)layout->cpu_device_area;
    return insist(vu, SKI_VHOST_USER_SET_VRING_ADDR,
                  ski_vhost_user_ask(vu, &message, SKI_VHOST_USER_NO_REPLY, deadline_ns));
}

static int call_of(const struct sk_vhost_user *vu, const struct sk_virtio_queue_layout *layout)
{
    return layout->interrupt == 0 || layout->interrupt > vu->options.queue_count
               ? vu->config_event
               : vu->queues[layout->interrupt - 1].call;
}

enum sk_status ski_vhost_user_start_queue(struct sk_vhost_user *vu, uint32_t index, uint32_t base,
                                          uint64_t deadline_ns)
{
    struct ski_vhost_user_queue *queue = &vu->queues[index];
    enum sk_status status;

    queue->started = true;
    status = insist_vring(vu, SKI_VHOST_USER_SET_VRING_NUM, index, queue->layout.size, deadline_ns);
    if (status == SK_OK) {
        status = insist_vring(vu, SKI_VHOST_USER_SET_VRING_BASE, index, base, deadline_ns);
    }
    if (status == SK_OK) {
        status = send_addresses(vu, index, deadline_ns);
    }
    if (status == SK_OK) {
        status = insist_fd(vu, SKI_VHOST_USER_SET_VRING_CALL, index, call_of(vu, &queue->layout),
                           deadline_ns);
    }
    if (status == SK_OK) {
        status = insist_fd(vu, SKI_VHOST_USER_SET_VRING_ERR, index, vu->error_event, deadline_ns);
    }
    if (status == SK_OK) {
        status = insist_fd(vu, SKI_VHOST_USER_SET_VRING_KICK, index, queue->kick, deadline_ns);
    }
    if (status == SK_OK) {
        status = insist_vring(vu, SKI_VHOST_USER_SET_VRING_ENABLE, index, 1, deadline_ns);
    }
    return status;
}

static enum sk_status start_queues(struct sk_vhost_user *vu, bool resumes, uint64_t deadline_ns)
{
    enum sk_status status = SK_OK;

    for (uint32_t i = 0; status == SK_OK && i < vu->options.queue_count; i++) {
        uint32_t base = ski_vhost_user_first_base(vu);

        if (!vu->queues[i].given) {
            continue;
        }
        if (resumes) {
            status = ski_vhost_user_resume_base(vu, i, &base);
        }
        if (status == SK_OK) {
            status = ski_vhost_user_start_queue(vu, i, base, deadline_ns);
        } else {
            ski_vhost_user_say(vu, "queue %u: what the back end left behind makes no sense", i);
            ski_vhost_user_hang_up(vu);
        }
    }
    return status;
}

enum sk_status ski_vhost_user_synchronise(struct sk_vhost_user *vu, uint64_t deadline_ns)
{
    uint64_t features;

    if (ski_vhost_user_has(vu, SKI_VHOST_USER_PROTOCOL_REPLY_ACK)) {
        return SK_OK;
    }
    return ski_vhost_user_get_u64(vu, SKI_VHOST_USER_GET_FEATURES, &features, deadline_ns);
}

enum sk_status ski_vhost_user_start(struct sk_vhost_user *vu, bool resumes, uint64_t deadline_ns)
{
    enum sk_status status = share_inflight(vu, resumes, deadline_ns);

    if (status == SK_OK) {
        status = ski_vhost_user_send_regions(vu, 0, deadline_ns);
        if (status == SK_ERR_UNSUPPORTED) {
            ski_vhost_user_say(vu, "there are more regions of memory than the back end takes");
            ski_vhost_user_hang_up(vu);
        }
    }
    if (status == SK_OK) {
        status = start_queues(vu, resumes, deadline_ns);
    }
    return status == SK_OK ? ski_vhost_user_synchronise(vu, deadline_ns) : status;
}

/* ---- Stopping ---------------------------------------------------------------------------- */

enum sk_status ski_vhost_user_stop_queue(struct sk_vhost_user *vu, uint32_t index,
                                         uint32_t *out_base, uint64_t deadline_ns)
{
    struct ski_vhost_user_message message;
    enum sk_status status;

    ski_vhost_user_prepare(&message, SKI_VHOST_USER_GET_VRING_BASE, sizeof(message.payload.state));
    message.payload.state.index = index;
    status = ski_vhost_user_ask(vu, &message, sizeof(message.payload.state), deadline_ns);
    if (status == SK_OK && message.payload.state.index != index) {
        return ski_vhost_user_refuse(vu, SKI_VHOST_USER_GET_VRING_BASE, "it is of queue",
                                     message.payload.state.index);
    }
    *out_base = message.payload.state.num;
    return status;
}

static enum sk_status reset_device(struct sk_vhost_user *vu, bool *out_certain,
                                   uint64_t deadline_ns)
{
    struct ski_vhost_user_message message;
    enum sk_status status;

    *out_certain = false;
    if (!ski_vhost_user_has(vu, SKI_VHOST_USER_PROTOCOL_RESET_DEVICE)) {
        return SK_OK;
    }
    ski_vhost_user_prepare(&message, SKI_VHOST_USER_RESET_DEVICE, 0);
    status = insist(vu, SKI_VHOST_USER_RESET_DEVICE,
                    ski_vhost_user_ask(vu, &message, SKI_VHOST_USER_NO_REPLY, deadline_ns));
    if (status == SK_OK) {
        status = ski_vhost_user_synchronise(vu, deadline_ns);
    }
    *out_certain = status == SK_OK;
    return status;
}

/*
 * A ring is quiet after the answer to GET_VRING_BASE.  Some back ends answer
 * while requests are still at work; one that then has none left, or that was reset, is
 * believed.  From the others only the end of the connection is believed.
 */
void ski_vhost_user_stop(struct sk_vhost_user *vu, uint64_t deadline_ns)
{
    enum sk_status status = SK_OK;
    bool idle = true;
    bool certain = false;

    vu->resumable = false;
    for (uint32_t i = 0; status == SK_OK && i < vu->options.queue_count; i++) {
        uint32_t base;

        if (vu->queues[i].started) {
            status = ski_vhost_user_stop_queue(vu, i, &base, deadline_ns);
            idle = idle && status == SK_OK && ski_vhost_user_is_idle(vu, i, base);
        }
    }
    if (status == SK_OK) {
        status = reset_device(vu, &certain, deadline_ns);
    }
    if (status == SK_OK && !idle && !certain) {
        ski_vhost_user_hang_up(vu);
    } else if (status == SK_OK) {
        for (uint32_t i = 0; i < vu->options.queue_count; i++) {
            vu->queues[i].started = false;
        }
        vu->phase = SKI_VHOST_USER_AGREED;
    }
    drop_inflight(vu);
}

/* ---- Configuration space ----------------------------------------------------------------- */

static enum sk_status get_config(struct sk_vhost_user *vu, uint32_t bytes, uint64_t deadline_ns)
{
    struct ski_vhost_user_message message;
    enum sk_status status;

    ski_vhost_user_prepare(&message, SKI_VHOST_USER_GET_CONFIG, SKI_VHOST_USER_CONFIG_HEAD + bytes);
    message.payload.config.size = bytes; /* always from 0 on: not all back ends look at the offset */
    status = ski_vhost_user_ask(vu, &message, SKI_VHOST_USER_CONFIG_HEAD + bytes, deadline_ns);
    if (status != SK_OK) {
        return status;
    }
    if (message.header.size == 0 || message.payload.config.size == 0) {
        return SK_ERR_RANGE;
    }
    if (message.payload.config.size != bytes) {
        return ski_vhost_user_refuse(vu, SKI_VHOST_USER_GET_CONFIG, "bytes:",
                                     message.payload.config.size);
    }
    (void)memcpy(vu->config, message.payload.config.bytes, bytes);
    vu->config_bytes = bytes;
    return SK_OK;
}

/* As much as the back end has, in few requests; a length that was refused is not tried again. */
enum sk_status ski_vhost_user_read_config(struct sk_vhost_user *vu, uint32_t bytes,
                                          uint64_t deadline_ns)
{
    enum sk_status status = SK_ERR_RANGE;
    uint32_t limit = vu->config_limit == 0 ? UINT32_MAX : vu->config_limit;

    if (bytes <= vu->config_bytes) {
        return SK_OK;
    }
    if (bytes > SKI_VHOST_USER_CONFIG_BYTES || bytes >= limit) {
        return SK_ERR_RANGE;
    }
    for (size_t i = 0; i < sizeof(config_lengths) / sizeof(config_lengths[0]); i++) {
        if (config_lengths[i] >= bytes && config_lengths[i] < limit) {
            status = get_config(vu, config_lengths[i], deadline_ns);
            if (status == SK_ERR_RANGE) {
                limit = config_lengths[i];
                vu->config_limit = limit;
            }
            break;
        }
    }
    if (status == SK_ERR_RANGE && bytes < limit) {
        status = get_config(vu, bytes, deadline_ns);
        if (status == SK_ERR_RANGE) {
            vu->config_limit = bytes;
        }
    }
    return status;
}

enum sk_status ski_vhost_user_write_config(struct sk_vhost_user *vu, uint32_t offset,
                                           const void *bytes, uint32_t count, uint64_t deadline_ns)
{
    struct ski_vhost_user_message message;

    ski_vhost_user_prepare(&message, SKI_VHOST_USER_SET_CONFIG, SKI_VHOST_USER_CONFIG_HEAD + count);
    message.payload.config.offset = offset;
    message.payload.config.size = count;
    (void)memcpy(message.payload.config.bytes, bytes, count);
    return ski_vhost_user_ask(vu, &message, SKI_VHOST_USER_NO_REPLY, deadline_ns);
}
