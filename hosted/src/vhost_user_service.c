/* SPDX-License-Identifier: MIT */
/*
 * The thread of a transport.  It sleeps until the back end says something by
 * itself, goes away, or the driver needs a back end again; and it tells the
 * driver, by the configuration's interrupt.
 *
 * It holds the lock while it works, and never while it sleeps.
 */
#include "vhost_user_private.h"

#include <poll.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define SECOND_NS UINT64_C(1000000000)

/* Pauses between two attempts to find a new back end. */
#define PAUSE_FIRST_NS UINT64_C(5000000)
#define PAUSE_LAST_NS  UINT64_C(500000000)

/* A message on the back end's channel has begun: how long its rest may take. */
#define CHANNEL_NS UINT64_C(200000000)

/* Where the cache mode stands in the configuration space, which a driver may have changed. */
#define CONFIG_WRITEBACK 32u

enum { WAKE, CHANNEL, SOCKET, ERRORS, WATCHED };

struct service {
    struct sk_vhost_user *vu;
    uint64_t pause_ns;   /* before the next attempt */
    uint64_t attempt_ns; /* when it is due; 0: at once */
    uint32_t kicks[SK_VIRTIO_BLK_QUEUES_MAX]; /* as seen at the last look */
    uint64_t look_ns;    /* when the next is due */
};

/* ---- What the back end says -------------------------------------------------------------- */

/* Everybody who sleeps on a queue shall look. */
static void signal_queues(struct sk_vhost_user *vu)
{
    for (uint32_t i = 0; i < vu->options.queue_count; i++) {
        ski_vhost_user_signal(vu->queues[i].call);
    }
    ski_vhost_user_signal(vu->config_event); /* calls are here if there is one interrupt for all */
}

static void tell_driver(struct sk_vhost_user *vu)
{
    (void)atomic_fetch_or(&vu->causes, SK_VIRTIO_INTERRUPT_CONFIG);
    (void)sk_process_raise(vu->process, vu->config_event);
    signal_queues(vu);
}

static enum sk_status answer(struct sk_vhost_user *vu, const struct ski_vhost_user_message *asked,
                             uint64_t result)
{
    struct ski_vhost_user_message message;

    if ((asked->header.flags & SKI_VHOST_USER_NEED_REPLY) == 0) {
        return SK_OK;
    }
    ski_vhost_user_prepare(&message, asked->header.request, sizeof(result));
    message.header.flags |= SKI_VHOST_USER_REPLY;
    message.payload.u64 = result;
    return ski_vhost_user_send(vu->backend_channel, &message,
                               ski_vhost_user_now() + CHANNEL_NS);
}

/* Nothing but "the configuration changed" was agreed on. */
static void serve_channel(struct sk_vhost_user *vu)
{
    struct ski_vhost_user_message message;
    enum sk_status status =
        ski_vhost_user_receive(vu->backend_channel, ski_vhost_user_now() + CHANNEL_NS, &message);

    if (status == SK_ERR_GONE) {
        (void)close(vu->backend_channel);
        vu->backend_channel = -1;
        return;
    }
    if (status == SK_OK && message.header.request == SKI_VHOST_USER_BACKEND_CONFIG_CHANGE &&
        message.header.size == 0 && message.fd_count == 0) {
        vu->config_bytes = 0;
        vu->generation++;
        vu->announces = true;
        status = answer(vu, &message, 0);
    } else if (status == SK_OK) {
        ski_vhost_user_close_fds(&message);
        message.fault = "it is not to be said; request";
        message.fault_value = message.header.request;
        status = SK_ERR_MALFORMED;
    }
    if (status != SK_OK && !ski_vhost_user_is_hung_up(vu)) {
        ski_vhost_user_say(vu, "what the back end says by itself is not valid: %s %llu",
                           message.fault, (unsigned long long)message.fault_value);
        ski_vhost_user_hang_up(vu);
    }
}

/* ---- Looking for the next back end ------------------------------------------------------- */

/* The disk that was lost: its features, its protocol, its configuration. */
static enum sk_status compare_terms(struct sk_vhost_user *vu,
                                    const struct ski_vhost_user_terms *before)
{
    const struct ski_vhost_user_terms *now = &vu->terms;
    const char *what = NULL;

    if ((vu->features & ~now->features) != 0) {
        what = "virtio features";
    } else if (now->protocol != before->protocol) {
        what = "protocol features";
    } else if (now->queue_count < before->queue_count) {
        what = "number of queues";
    }
    if (what != NULL) {
        ski_vhost_user_say(vu, "the back end that came back has another set of %s", what);
        ski_vhost_user_hang_up(vu);
        return SK_ERR_UNSUPPORTED;
    }
    return SK_OK;
}

static enum sk_status compare_config(struct sk_vhost_user *vu, uint64_t deadline_ns)
{
    uint8_t before[SKI_VHOST_USER_CONFIG_BYTES];
    uint32_t bytes = vu->config_bytes;
    bool cache = ski_vhost_user_has_feature(vu, SK_VIRTIO_BLK_F_CONFIG_WCE) &&
                 bytes > CONFIG_WRITEBACK;
    enum sk_status status;
    bool same;

    (void)memcpy(before, vu->config, bytes);
    vu->config_bytes = 0;
    status = bytes == 0 ? SK_OK : ski_vhost_user_read_config(vu, bytes, deadline_ns);
    if (status == SK_OK && cache && vu->config[CONFIG_WRITEBACK] != before[CONFIG_WRITEBACK]) {
        status = ski_vhost_user_write_config(vu, CONFIG_WRITEBACK, &before[CONFIG_WRITEBACK], 1,
                                             deadline_ns);
        vu->config[CONFIG_WRITEBACK] = before[CONFIG_WRITEBACK];
    }
    same = memcmp(before, vu->config, bytes) == 0;
    (void)memcpy(vu->config, before, bytes); /* what the next one is compared with */
    vu->config_bytes = bytes;
    if (status == SK_ERR_RANGE || status == SK_ERR_UNSUPPORTED || (status == SK_OK && !same)) {
        ski_vhost_user_say(vu, "the back end that came back has another configuration: "
                               "it is another disk, or of another size");
        ski_vhost_user_hang_up(vu);
        return SK_ERR_UNSUPPORTED;
    }
    return status;
}

/* All that a driver does from its reset on, but with rings that go on. */
static enum sk_status replay(struct sk_vhost_user *vu, uint64_t deadline_ns)
{
    bool has_status = ski_vhost_user_has(vu, SKI_VHOST_USER_PROTOCOL_STATUS);
    uint64_t features = vu->features | SK_VIRTIO_FEATURE(SKI_VHOST_USER_F_PROTOCOL_FEATURES);
    uint64_t accepted = SK_VIRTIO_STATUS_ACKNOWLEDGE | SK_VIRTIO_STATUS_DRIVER;
    enum sk_status status = SK_OK;

    if (has_status) {
        status = ski_vhost_user_set_u64(vu, SKI_VHOST_USER_SET_STATUS, accepted, deadline_ns);
    }
    if (status == SK_OK) {
        status = ski_vhost_user_set_u64(vu, SKI_VHOST_USER_SET_FEATURES, features, deadline_ns);
    }
    if (status == SK_OK && has_status) {
        status = ski_vhost_user_set_u64(vu, SKI_VHOST_USER_SET_STATUS,
                                        accepted | SK_VIRTIO_STATUS_FEATURES_OK, deadline_ns);
    }
    if (status == SK_OK) {
        status = ski_vhost_user_start(vu, true, deadline_ns);
    }
    if (status == SK_OK && has_status) {
        status = ski_vhost_user_set_u64(vu, SKI_VHOST_USER_SET_STATUS, vu->status, deadline_ns);
    }
    return status;
}

static enum sk_status resume(struct sk_vhost_user *vu, uint64_t deadline_ns)
{
    struct ski_vhost_user_terms before = vu->terms;
    enum sk_status status = ski_vhost_user_connect(vu, deadline_ns, false, &vu->socket);

    if (status != SK_OK) {
        return status;
    }
    vu->connection++;
    status = ski_vhost_user_agree(vu, deadline_ns);
    if (status == SK_OK) {
        status = compare_terms(vu, &before);
    }
    if (status == SK_OK) {
        status = compare_config(vu, deadline_ns);
    }
    if (status == SK_OK) {
        status = replay(vu, deadline_ns);
    }
    if (status != SK_OK) {
        ski_vhost_user_hang_up(vu); /* unless that is done */
        vu->terms = before;
    }
    return status;
}

static void say_resumed(struct sk_vhost_user *vu)
{
    sk_log_print(ski_vhost_user_log(vu), SK_LOG_INFO,
                 "vhost-user: the back end is back after %llu ms; requests go on",
                 (unsigned long long)((ski_vhost_user_now() - vu->lost_ns) / 1000000));
}

/* One attempt, with the lock held. */
static void attempt(struct service *service)
{
    struct sk_vhost_user *vu = service->vu;
    uint64_t deadline = vu->lost_ns + vu->options.reconnect_ns;
    uint64_t now;
    enum sk_status status;

    vu->resuming = true;
    vu->error[0] = '\0';
    status = resume(vu, deadline);
    vu->resuming = false;
    if (status == SK_OK && !vu->abandoned) {
        vu->phase = SKI_VHOST_USER_RUNNING;
        vu->resumptions++;
        service->pause_ns = PAUSE_FIRST_NS; /* for the next time */
        service->attempt_ns = 0;
        say_resumed(vu);
        for (uint32_t i = 0; i < vu->options.queue_count; i++) {
            ski_vhost_user_signal(vu->queues[i].kick); /* what was published meanwhile */
        }
        signal_queues(vu); /* what was finished before, and not told */
        return;
    }
    now = ski_vhost_user_now();
    if (status == SK_OK) { /* the driver will reset it */
        vu->phase = SKI_VHOST_USER_RUNNING;
    } else if (vu->phase == SKI_VHOST_USER_LOST &&
               (status == SK_ERR_UNSUPPORTED || now >= deadline)) {
        vu->phase = SKI_VHOST_USER_FAILED;
        if (status != SK_ERR_UNSUPPORTED) {
            ski_vhost_user_say(vu, "no back end came back in time");
        }
        ski_vhost_user_announce(vu);
    }
    service->attempt_ns = now + service->pause_ns;
    service->pause_ns = service->pause_ns * 2 < PAUSE_LAST_NS ? service->pause_ns * 2
                                                              : PAUSE_LAST_NS;
}

/* ---- The loop ---------------------------------------------------------------------------- */

/* A back end can make its event fds blocking and full: whoever kicks would be stuck for ever. */
static void look_for_stuck_kicks(struct service *service)
{
    struct sk_vhost_user *vu = service->vu;

    for (uint32_t i = 0; i < vu->options.queue_count; i++) {
        uint32_t kicks = vu->queues[i].kicks;

        if ((kicks & 1) != 0 && kicks == service->kicks[i]) {
            ski_vhost_user_say(vu, "queue %u: the back end blocks notifications", i);
            ski_vhost_user_hang_up(vu);
            (void)ski_vhost_user_clear(vu->queues[i].kick);
        }
        service->kicks[i] = kicks;
    }
}

static void look_at_socket(struct sk_vhost_user *vu)
{
    if (ski_vhost_user_is_hung_up(vu)) {
        ski_vhost_user_gone(vu);
        return;
    }
    ski_vhost_user_say(vu, "the back end closed half of the connection");
    ski_vhost_user_hang_up(vu);
}

static void look_at_errors(struct sk_vhost_user *vu)
{
    if (ski_vhost_user_clear(vu->error_event) && vu->phase == SKI_VHOST_USER_RUNNING) {
        ski_vhost_user_say(vu, "the back end says that it cannot go on with a queue");
        (void)atomic_fetch_or(&vu->status, SK_VIRTIO_STATUS_DEVICE_NEEDS_RESET);
        vu->announces = true;
    }
}

/* What to sleep on, with the lock held. */
static void watch(const struct sk_vhost_user *vu, struct pollfd *out)
{
    bool connected = vu->phase == SKI_VHOST_USER_AGREED || vu->phase == SKI_VHOST_USER_RUNNING;

    out[WAKE] = (struct pollfd){ .fd = vu->wake_event, .events = POLLIN };
    out[CHANNEL] = (struct pollfd){ .fd = connected ? vu->backend_channel : -1, .events = POLLIN };
    out[SOCKET] = (struct pollfd){ .fd = connected ? vu->socket : -1, .events = POLLRDHUP };
    out[ERRORS] = (struct pollfd){ .fd = vu->error_event, .events = POLLIN };
}

/* How long, with the lock held; UINT64_MAX: until something happens. */
static uint64_t due(const struct service *service)
{
    switch (atomic_load(&service->vu->phase)) {
    case SKI_VHOST_USER_LOST:
        return service->attempt_ns;
    case SKI_VHOST_USER_RUNNING:
        return service->look_ns;
    default:
        return UINT64_MAX;
    }
}

static void work(struct service *service)
{
    struct sk_vhost_user *vu = service->vu;
    uint64_t now = ski_vhost_user_now();

    if (vu->phase != SKI_VHOST_USER_LOST) {
        service->pause_ns = PAUSE_FIRST_NS;
        service->attempt_ns = 0;
    } else if (now >= service->attempt_ns && !vu->abandoned) {
        attempt(service);
    }
    if (vu->phase == SKI_VHOST_USER_RUNNING && now >= service->look_ns) {
        look_for_stuck_kicks(service);
        service->look_ns = now + vu->options.message_ns;
    }
}

static void handle(struct service *service, const struct pollfd *polls, uint64_t connection)
{
    struct sk_vhost_user *vu = service->vu;

    if (polls[WAKE].revents != 0) {
        (void)ski_vhost_user_clear(vu->wake_event);
    }
    if (polls[ERRORS].revents != 0) {
        look_at_errors(vu);
    }
    if (polls[CHANNEL].revents != 0 && connection == vu->connection && vu->backend_channel >= 0) {
        serve_channel(vu);
    }
    if (polls[SOCKET].revents != 0 && connection == vu->connection && vu->socket >= 0 &&
        vu->phase != SKI_VHOST_USER_DRAINING) {
        look_at_socket(vu);
    }
}

static void sleep_on(struct pollfd *polls, uint64_t until_ns)
{
    uint64_t now = ski_vhost_user_now();
    uint64_t left = until_ns > now ? until_ns - now : 0;
    struct timespec timeout = { .tv_sec = (time_t)(left / SECOND_NS),
                                .tv_nsec = (long)(left % SECOND_NS) };

    (void)ppoll(polls, WATCHED, until_ns == UINT64_MAX ? NULL : &timeout, NULL);
}

static void *serve(void *argument)
{
    struct sk_vhost_user *vu = argument;
    struct service service = { .vu = vu, .pause_ns = PAUSE_FIRST_NS };

    (void)pthread_mutex_lock(&vu->lock);
    while (!vu->quits) {
        struct pollfd polls[WATCHED];
        uint64_t connection;
        uint64_t until;

        work(&service);
        connection = vu->connection;
        until = due(&service);
        watch(vu, polls);
        (void)pthread_mutex_unlock(&vu->lock);
        if (atomic_exchange(&vu->announces, false)) {
            tell_driver(vu);
        }
        sleep_on(polls, until);
        (void)pthread_mutex_lock(&vu->lock);
        handle(&service, polls, connection);
    }
    (void)pthread_mutex_unlock(&vu->lock);
    return NULL;
}

enum sk_status ski_vhost_user_start_thread(struct sk_vhost_user *vu)
{
    vu->has_thread = pthread_create(&vu->thread, NULL, serve, vu) == 0;
    return vu->has_thread ? SK_OK : SK_ERR_NO_MEMORY;
}

void ski_vhost_user_end_thread(struct sk_vhost_user *vu)
{
    if (vu->has_thread) {
        vu->quits = true;
        vu->abandoned = true;
        ski_vhost_user_signal(vu->wake_event);
        (void)pthread_join(vu->thread, NULL);
        vu->has_thread = false;
    }
}
