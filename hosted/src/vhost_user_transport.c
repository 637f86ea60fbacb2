/* SPDX-License-Identifier: MIT */
/* The virtio transport over vhost-user: the driver's calls. */
#include "vhost_user_private.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <skio/checked.h>

#define BIT(number) SK_VIRTIO_FEATURE(number)

/*
 * Features that a driver is not shown: of the protocol itself, of migration,
 * addresses by an IOMMU (there is none), notifications with data (an event fd
 * carries none), and what a transport of another kind would be needed for.
 */
#define NOT_FOR_DRIVERS                                                                    \
    (BIT(SKI_VHOST_USER_F_PROTOCOL_FEATURES) | BIT(SKI_VHOST_USER_F_LOG_ALL) |             \
     BIT(SK_VIRTIO_F_ACCESS_PLATFORM) | BIT(SK_VIRTIO_F_NOTIFICATION_DATA) |               \
     BIT(SK_VIRTIO_F_NOTIF_CONFIG_DATA) | BIT(SK_VIRTIO_F_SR_IOV))

/* Pauses between two attempts to connect; they double. */
#define PAUSE_FIRST_NS UINT64_C(5000000)
#define PAUSE_LAST_NS  UINT64_C(500000000)

static struct sk_vhost_user *of(struct sk_virtio_transport *transport)
{
    return (struct sk_vhost_user *)(void *)transport;
}

static uint64_t deadline_of(const struct sk_vhost_user *vu)
{
    return ski_vhost_user_now() + vu->options.message_ns;
}

void ski_vhost_user_say(struct sk_vhost_user *vu, const char *format, ...)
{
    char text[SK_VHOST_USER_ERROR_BYTES];
    va_list arguments;

    va_start(arguments, format);
    (void)vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    if (vu->error[0] == '\0') {
        (void)snprintf(vu->error, sizeof(vu->error), "%.100s: %.150s", vu->address, text);
    }
    if (sk_log_limit_pass(&vu->lines)) {
        sk_log_print(ski_vhost_user_log(vu), SK_LOG_ERROR, "vhost-user %s: %s", vu->address, text);
    }
}

/* What the driver is told of an end of the connection: it has one word for all. */
enum sk_status ski_vhost_user_for_driver(enum sk_status status)
{
    return status == SK_OK || status == SK_ERR_RANGE ? status : SK_ERR_BROKEN;
}

/* ---- Connecting -------------------------------------------------------------------------- */

/* One attempt; on success AGREED. */
enum sk_status ski_vhost_user_connect_once(struct sk_vhost_user *vu, bool talks)
{
    enum sk_status status = ski_vhost_user_connect(vu, deadline_of(vu), talks, &vu->socket);

    if (status != SK_OK) {
        return status;
    }
    vu->connection++;
    vu->config_bytes = 0;
    vu->config_limit = 0;
    vu->generation++;
    status = ski_vhost_user_agree(vu, UINT64_MAX);
    if (status == SK_OK) {
        vu->phase = SKI_VHOST_USER_AGREED;
        ski_vhost_user_signal(vu->wake_event); /* the thread has another socket to watch */
    }
    return status;
}

/* For a driver that starts again after its back end went away: with pauses, up to reconnect_ns. */
static enum sk_status connect_again(struct sk_vhost_user *vu)
{
    uint64_t deadline = ski_vhost_user_now() + vu->options.reconnect_ns;
    uint64_t pause = PAUSE_FIRST_NS;
    enum sk_status status;

    vu->error[0] = '\0';
    for (;;) {
        uint64_t now;
        struct timespec time;

        status = ski_vhost_user_connect_once(vu, false);
        now = ski_vhost_user_now();
        if (status == SK_OK || !vu->reconnects || now >= deadline) {
            break;
        }
        pause = pause < deadline - now ? pause : deadline - now;
        time = (struct timespec){ .tv_sec = (time_t)(pause / 1000000000),
                                  .tv_nsec = (long)(pause % 1000000000) };
        (void)nanosleep(&time, NULL);
        pause = pause * 2 < PAUSE_LAST_NS ? pause * 2 : PAUSE_LAST_NS;
    }
    if (status != SK_OK) {
        ski_vhost_user_say(vu, "no back end to start again with");
    }
    return status;
}

/* ---- Status ------------------------------------------------------------------------------ */

/* The driver resets: from each phase to AGREED, CLOSED, or DRAINING until it can be CLOSED. */
static void reset(struct sk_vhost_user *vu)
{
    if (vu->phase == SKI_VHOST_USER_RUNNING) {
        ski_vhost_user_stop(vu, UINT64_MAX);
    }
    for (uint32_t i = 0; i < vu->options.queue_count; i++) {
        vu->queues[i].given = false;
    }
    vu->status = 0;
    vu->features = 0;
    vu->features_refused = false;
    if (vu->phase == SKI_VHOST_USER_AGREED &&
        ski_vhost_user_has(vu, SKI_VHOST_USER_PROTOCOL_STATUS)) {
        (void)ski_vhost_user_set_u64(vu, SKI_VHOST_USER_SET_STATUS, 0, UINT64_MAX);
    }
    if (vu->phase == SKI_VHOST_USER_LOST || vu->phase == SKI_VHOST_USER_FAILED) {
        vu->phase = SKI_VHOST_USER_CLOSED;
    }
}

/* From now on the back end works on the rings. */
static enum sk_status start(struct sk_vhost_user *vu)
{
    enum sk_status status;

    vu->resumable = false;
    vu->phase = SKI_VHOST_USER_RUNNING;
    status = ski_vhost_user_start(vu, false, UINT64_MAX);
    if (status == SK_OK) {
        vu->resumable = vu->inflight.fd >= 0 && vu->reconnects && vu->options.reconnect_ns > 0;
        ski_vhost_user_signal(vu->wake_event);
    }
    return status;
}

static enum sk_status set_status_locked(struct sk_vhost_user *vu, uint32_t value)
{
    enum sk_status status = SK_OK;

    if (vu->phase == SKI_VHOST_USER_CLOSED) {
        status = connect_again(vu);
    }
    if (status == SK_OK && vu->phase == SKI_VHOST_USER_AGREED &&
        (value & SK_VIRTIO_STATUS_DRIVER_OK) != 0) {
        status = start(vu);
    }
    if (status != SK_OK) {
        return status;
    }
    vu->status = value & ~(vu->features_refused ? SK_VIRTIO_STATUS_FEATURES_OK : 0u);
    if ((vu->phase == SKI_VHOST_USER_AGREED || vu->phase == SKI_VHOST_USER_RUNNING) &&
        ski_vhost_user_has(vu, SKI_VHOST_USER_PROTOCOL_STATUS)) {
        return ski_vhost_user_set_u64(vu, SKI_VHOST_USER_SET_STATUS, value, UINT64_MAX);
    }
    return vu->phase == SKI_VHOST_USER_FAILED || vu->phase == SKI_VHOST_USER_DRAINING
               ? SK_ERR_BROKEN
               : SK_OK;
}

static enum sk_status set_status(struct sk_virtio_transport *transport, uint32_t value)
{
    struct sk_vhost_user *vu = of(transport);
    enum sk_status status = SK_OK;

    vu->abandoned = value == 0; /* whoever is looking for a back end shall end that */
    (void)pthread_mutex_lock(&vu->lock);
    if (value == 0) {
        reset(vu);
        vu->abandoned = false;
    } else if ((value & SK_VIRTIO_STATUS_FAILED) != 0) {
        vu->status = value; /* a reset follows */
    } else {
        status = set_status_locked(vu, value);
    }
    (void)pthread_mutex_unlock(&vu->lock);
    return ski_vhost_user_for_driver(status);
}

/* What the back end says of itself, where it says anything. */
static enum sk_status ask_status(struct sk_vhost_user *vu, uint32_t *out_status)
{
    uint64_t value = 0;
    enum sk_status status;

    *out_status = vu->status;
    if (!ski_vhost_user_has(vu, SKI_VHOST_USER_PROTOCOL_STATUS)) {
        return SK_OK;
    }
    status = ski_vhost_user_get_u64(vu, SKI_VHOST_USER_GET_STATUS, &value, UINT64_MAX);
    if (status == SK_OK) {
        *out_status = (uint32_t)(value & 0xff) | (vu->status & SK_VIRTIO_STATUS_DEVICE_NEEDS_RESET);
    }
    return status;
}

static enum sk_status get_status_locked(struct sk_vhost_user *vu, uint32_t *out_status)
{
    enum sk_status status = SK_OK;

    if (vu->phase == SKI_VHOST_USER_DRAINING) {
        ski_vhost_user_drain(vu);
    } else if (vu->phase == SKI_VHOST_USER_AGREED || vu->phase == SKI_VHOST_USER_RUNNING) {
        status = ask_status(vu, out_status);
    }
    switch (atomic_load(&vu->phase)) {
    case SKI_VHOST_USER_AGREED:
    case SKI_VHOST_USER_RUNNING:
        return status;
    case SKI_VHOST_USER_FAILED:
        return SK_ERR_BROKEN;
    case SKI_VHOST_USER_DRAINING:
        /* After the driver's reset: not done yet.  Before it: the driver has to know. */
        *out_status = SK_VIRTIO_STATUS_DEVICE_NEEDS_RESET;
        return vu->status == 0 ? SK_OK : SK_ERR_BROKEN;
    case SKI_VHOST_USER_LOST:
        *out_status = vu->status;
        return SK_OK;
    default: /* CLOSED: nobody is there, which is as quiet as it gets */
        *out_status = 0;
        return vu->status == 0 ? SK_OK : SK_ERR_BROKEN;
    }
}

/*
 * Of a device at work queues' owners ask, too: none of them waits for a thread
 * that talks to the back end.  Whoever starts or resets it does.
 */
static enum sk_status get_status(struct sk_virtio_transport *transport, uint32_t *out_status)
{
    struct sk_vhost_user *vu = of(transport);
    enum sk_status status;

    if (pthread_mutex_trylock(&vu->lock) != 0) {
        *out_status = vu->status;
        if ((*out_status & SK_VIRTIO_STATUS_DRIVER_OK) != 0) {
            return SK_OK;
        }
        (void)pthread_mutex_lock(&vu->lock);
    }
    status = get_status_locked(vu, out_status);
    (void)pthread_mutex_unlock(&vu->lock);
    return ski_vhost_user_for_driver(status);
}

/* ---- Features and configuration ---------------------------------------------------------- */

static enum sk_status get_features(struct sk_virtio_transport *transport, uint64_t *out_features)
{
    struct sk_vhost_user *vu = of(transport);
    enum sk_status status = SK_ERR_BROKEN;

    (void)pthread_mutex_lock(&vu->lock);
    if (vu->phase == SKI_VHOST_USER_AGREED) {
        *out_features = vu->terms.features & ~NOT_FOR_DRIVERS;
        status = SK_OK;
    }
    (void)pthread_mutex_unlock(&vu->lock);
    return status;
}

/* A back end that refuses them shows no FEATURES_OK. */
static enum sk_status set_features(struct sk_virtio_transport *transport, uint64_t features)
{
    struct sk_vhost_user *vu = of(transport);
    enum sk_status status = SK_ERR_BROKEN;

    (void)pthread_mutex_lock(&vu->lock);
    if (vu->phase == SKI_VHOST_USER_AGREED) {
        vu->features = features;
        status = ski_vhost_user_set_u64(vu, SKI_VHOST_USER_SET_FEATURES,
                                        features | BIT(SKI_VHOST_USER_F_PROTOCOL_FEATURES),
                                        UINT64_MAX);
        vu->features_refused = status == SK_ERR_UNSUPPORTED;
        status = vu->features_refused ? SK_OK : status;
    }
    (void)pthread_mutex_unlock(&vu->lock);
    return ski_vhost_user_for_driver(status);
}

static bool is_field(uint32_t offset, unsigned width)
{
    unsigned access = width == 8 ? 4 : width;

    return (access == 1 || access == 2 || access == 4) && offset % access == 0;
}

static enum sk_status read_config(struct sk_virtio_transport *transport, uint32_t offset,
                                  unsigned width, void *out)
{
    struct sk_vhost_user *vu = of(transport);
    enum sk_status status = SK_OK;

    if (!is_field(offset, width)) {
        return SK_ERR_INVALID;
    }
    if (!sk_checked_range(offset, width, SKI_VHOST_USER_CONFIG_BYTES)) {
        return SK_ERR_RANGE;
    }
    (void)pthread_mutex_lock(&vu->lock);
    if (offset + width > vu->config_bytes) {
        status = ski_vhost_user_read_config(vu, offset + width, UINT64_MAX);
    }
    if (status == SK_OK) { /* the same bytes: little-endian is all that is supported */
        (void)memcpy(out, vu->config + offset, width);
    }
    (void)pthread_mutex_unlock(&vu->lock);
    return ski_vhost_user_for_driver(status);
}

static enum sk_status write_config(struct sk_virtio_transport *transport, uint32_t offset,
                                   unsigned width, const void *in)
{
    struct sk_vhost_user *vu = of(transport);
    enum sk_status status;

    if (!is_field(offset, width)) {
        return SK_ERR_INVALID;
    }
    if (!sk_checked_range(offset, width, SKI_VHOST_USER_CONFIG_BYTES)) {
        return SK_ERR_RANGE;
    }
    (void)pthread_mutex_lock(&vu->lock);
    status = ski_vhost_user_write_config(vu, offset, in, width, UINT64_MAX);
    vu->config_bytes = 0; /* what it became, the next read tells */
    (void)pthread_mutex_unlock(&vu->lock);
    return status == SK_ERR_UNSUPPORTED ? SK_OK : ski_vhost_user_for_driver(status);
}

static enum sk_status get_generation(struct sk_virtio_transport *transport,
                                     uint32_t *out_generation)
{
    *out_generation = of(transport)->generation;
    return SK_OK;
}

/* ---- Queues ------------------------------------------------------------------------------ */

static enum sk_status get_queue_max(struct sk_virtio_transport *transport, uint32_t index,
                                    uint32_t *out_size)
{
    struct sk_vhost_user *vu = of(transport);

    (void)pthread_mutex_lock(&vu->lock);
    *out_size = index < vu->terms.queue_count && index < vu->options.queue_count
                    ? SKI_VHOST_USER_QUEUE_SIZE_MAX
                    : 0;
    (void)pthread_mutex_unlock(&vu->lock);
    return SK_OK;
}

/* A queue that was reset while the device is at work. */
static enum sk_status start_again(struct sk_vhost_user *vu, uint32_t index)
{
    enum sk_status status =
        ski_vhost_user_start_queue(vu, index, ski_vhost_user_first_base(vu), UINT64_MAX);

    return status == SK_OK ? ski_vhost_user_synchronise(vu, UINT64_MAX) : status;
}

/*
 * Kept until DRIVER_OK: the in-flight memory is asked for when all queues are
 * known.  One that was reset while the others went on starts at once.
 */
static enum sk_status enable_queue(struct sk_virtio_transport *transport, uint32_t index,
                                   const struct sk_virtio_queue_layout *layout)
{
    struct sk_vhost_user *vu = of(transport);
    enum sk_status status = SK_OK;

    if (index >= vu->options.queue_count || layout->size > SKI_VHOST_USER_QUEUE_SIZE_MAX) {
        return SK_ERR_UNREACHABLE;
    }
    (void)pthread_mutex_lock(&vu->lock);
    if (vu->queues[index].given) {
        status = SK_ERR_BUSY;
    } else if (vu->phase != SKI_VHOST_USER_AGREED && vu->phase != SKI_VHOST_USER_RUNNING) {
        status = SK_ERR_BROKEN;
    } else {
        vu->queues[index].layout = *layout;
        vu->queues[index].given = true;
        if (vu->phase == SKI_VHOST_USER_RUNNING) {
            status = start_again(vu, index);
        }
    }
    (void)pthread_mutex_unlock(&vu->lock);
    return status == SK_ERR_BUSY ? status : ski_vhost_user_for_driver(status);
}

/*
 * A queue alone: its ring is stopped.  The answer says how many chains the back end
 * took, and the ring how many it answered.  If these differ, some are still at work
 * in its hands, and only the end of the connection is believed: the driver
 * stops the device then.
 */
static enum sk_status reset_queue(struct sk_virtio_transport *transport, uint32_t index,
                                  uint64_t timeout_ns)
{
    struct sk_vhost_user *vu = of(transport);
    enum sk_status status = SK_ERR_BROKEN;
    uint32_t base;

    (void)pthread_mutex_lock(&vu->lock);
    if (vu->phase == SKI_VHOST_USER_RUNNING && vu->queues[index].started) {
        status = ski_vhost_user_stop_queue(vu, index, &base, ski_vhost_user_now() + timeout_ns);
        if (status == SK_OK) {
            status = ski_vhost_user_check_stopped(vu, index, base);
        }
        if (status == SK_ERR_MALFORMED && vu->phase == SKI_VHOST_USER_RUNNING) {
            status = ski_vhost_user_refuse(vu, SKI_VHOST_USER_GET_VRING_BASE,
                                           "the ring has no place", base);
        }
    }
    if (status == SK_OK) {
        vu->queues[index].started = false;
        vu->queues[index].given = false;
    }
    (void)pthread_mutex_unlock(&vu->lock);
    return status == SK_ERR_TIMEOUT ? status : ski_vhost_user_for_driver(status);
}

static void notify(struct sk_virtio_transport *transport, uint32_t data)
{
    struct sk_vhost_user *vu = of(transport);
    struct ski_vhost_user_queue *queue = &vu->queues[data & 0xffff];

    /* Only the owner writes here: plain counting will do, and the thread may look late. */
    atomic_store_explicit(&queue->kicks, queue->kicks + 1, memory_order_relaxed);
    ski_vhost_user_signal(queue->kick);
    atomic_store_explicit(&queue->kicks, queue->kicks + 1, memory_order_relaxed);
}

/* An event fd tells no cause: it may always have been a queue. */
static uint32_t take_interrupt(struct sk_virtio_transport *transport)
{
    return SK_VIRTIO_INTERRUPT_QUEUE | atomic_exchange(&of(transport)->causes, 0);
}

const struct sk_virtio_transport_ops ski_vhost_user_ops = {
    .get_status = get_status,
    .set_status = set_status,
    .get_features = get_features,
    .set_features = set_features,
    .read_config = read_config,
    .write_config = write_config,
    .get_generation = get_generation,
    .get_queue_max = get_queue_max,
    .enable_queue = enable_queue,
    .reset_queue = reset_queue,
    .notify = notify,
    .take_interrupt = take_interrupt,
};
