/* SPDX-License-Identifier: MIT */
/* Opening and closing a transport, and what is known of it. */
#include "vhost_user_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool options_are_valid(const struct sk_vhost_user_options *options)
{
    return options->queue_count >= 1 && options->queue_count <= SK_VIRTIO_BLK_QUEUES_MAX &&
           options->message_ns > 0;
}

static void fill(struct sk_vhost_user *vu, struct sk_process *process)
{
    vu->transport.ops = &ski_vhost_user_ops;
    vu->transport.platform = sk_process_platform(process);
    vu->transport.kind = "vhost-user";
    vu->transport.device_type = SK_VIRTIO_DEVICE_BLOCK; /* the protocol does not say; CONFIG will */
    vu->transport.interrupt_count = 1 + vu->options.queue_count;
    vu->process = process;
    vu->socket = -1;
    vu->backend_channel = -1;
    vu->inflight.fd = -1;
    vu->config_event = -1;
    vu->error_event = -1;
    vu->wake_event = -1;
    for (uint32_t i = 0; i < SK_VIRTIO_BLK_QUEUES_MAX; i++) {
        vu->queues[i].kick = -1;
        vu->queues[i].call = -1;
    }
    (void)pthread_mutex_init(&vu->lock, NULL);
}

static enum sk_status make_events(struct sk_vhost_user *vu)
{
    bool made;

    vu->config_event = ski_vhost_user_make_event();
    vu->error_event = ski_vhost_user_make_event();
    vu->wake_event = ski_vhost_user_make_event();
    made = vu->config_event >= 0 && vu->error_event >= 0 && vu->wake_event >= 0;
    vu->interrupts[0] = sk_process_interrupt(vu->config_event);
    for (uint32_t i = 0; made && i < vu->options.queue_count; i++) {
        vu->queues[i].kick = ski_vhost_user_make_event();
        vu->queues[i].call = ski_vhost_user_make_event();
        made = vu->queues[i].kick >= 0 && vu->queues[i].call >= 0;
        vu->interrupts[1 + i] = sk_process_interrupt(vu->queues[i].call);
    }
    if (!made) {
        ski_vhost_user_say(vu, "there are no file descriptors left");
    }
    return made ? SK_OK : SK_ERR_NO_MEMORY;
}

static enum sk_status make(struct sk_process *process, const char *address,
                           const struct sk_vhost_user_options *options,
                           struct sk_vhost_user **out_vhost_user)
{
    struct sk_vhost_user *vu = aligned_alloc(64, (sizeof(*vu) + 63) & ~(size_t)63);

    if (vu == NULL) {
        return SK_ERR_NO_MEMORY;
    }
    (void)memset(vu, 0, sizeof(*vu));
    vu->options = *options;
    vu->reconnects = strncmp(address, "fd:", 3) != 0;
    fill(vu, process);
    *out_vhost_user = vu;
    vu->address = strdup(address);
    return vu->address == NULL ? SK_ERR_NO_MEMORY : SK_OK;
}

enum sk_status sk_vhost_user_open(struct sk_process *process, const char *address,
                                  const struct sk_vhost_user_options *options,
                                  struct sk_vhost_user **out_vhost_user, char *out_error)
{
    static const struct sk_vhost_user_options defaults = SK_VHOST_USER_OPTIONS_DEFAULT;
    char nowhere[SK_VHOST_USER_ERROR_BYTES];
    struct sk_vhost_user *vu = NULL;
    enum sk_status status;

    *out_vhost_user = NULL;
    out_error = out_error == NULL ? nowhere : out_error;
    out_error[0] = '\0';
    options = options == NULL ? &defaults : options;
    if (process == NULL || address == NULL || !options_are_valid(options)) {
        (void)snprintf(out_error, SK_VHOST_USER_ERROR_BYTES, "an option is out of its range");
        return SK_ERR_INVALID;
    }
    status = make(process, address, options, &vu);
    if (status == SK_OK) {
        status = make_events(vu);
    }
    if (status == SK_OK) {
        status = ski_vhost_user_connect_once(vu, true);
    }
    if (status == SK_OK) {
        status = ski_vhost_user_start_thread(vu);
    }
    if (status != SK_OK) {
        (void)snprintf(out_error, SK_VHOST_USER_ERROR_BYTES, "%s",
                       vu != NULL && vu->error[0] != '\0' ? vu->error : sk_status_text(status));
        sk_vhost_user_close(vu);
        return status;
    }
    *out_vhost_user = vu;
    return SK_OK;
}

static void close_event(int event)
{
    if (event >= 0) {
        (void)close(event);
    }
}

void sk_vhost_user_close(struct sk_vhost_user *vu)
{
    if (vu == NULL) {
        return;
    }
    ski_vhost_user_end_thread(vu);
    ski_vhost_user_close_sockets(vu);
    close_event(vu->inflight.fd);
    close_event(vu->config_event);
    close_event(vu->error_event);
    close_event(vu->wake_event);
    for (uint32_t i = 0; i < vu->options.queue_count; i++) {
        close_event(vu->queues[i].kick);
        close_event(vu->queues[i].call);
    }
    (void)pthread_mutex_destroy(&vu->lock);
    free(vu->address);
    free(vu);
}

struct sk_virtio_transport *sk_vhost_user_transport(struct sk_vhost_user *vu)
{
    return &vu->transport;
}

const struct sk_interrupt *sk_vhost_user_interrupts(const struct sk_vhost_user *vu,
                                                    size_t *out_count)
{
    *out_count = 1 + vu->options.queue_count;
    return vu->interrupts;
}

enum sk_status sk_vhost_user_share_regions(struct sk_vhost_user *vu)
{
    enum sk_status status = SK_OK;

    (void)pthread_mutex_lock(&vu->lock);
    if (vu->phase == SKI_VHOST_USER_RUNNING) {
        status = ski_vhost_user_send_regions(vu, vu->regions_shared, UINT64_MAX);
    } else if (vu->phase == SKI_VHOST_USER_FAILED || vu->phase == SKI_VHOST_USER_DRAINING) {
        status = SK_ERR_BROKEN;
    }
    (void)pthread_mutex_unlock(&vu->lock);
    return status == SK_ERR_UNSUPPORTED ? status : ski_vhost_user_for_driver(status);
}

void sk_vhost_user_get_info(struct sk_vhost_user *vu, struct sk_vhost_user_info *out_info)
{
    (void)pthread_mutex_lock(&vu->lock);
    *out_info = (struct sk_vhost_user_info){
        .protocol_features_offered = vu->terms.protocol_offered,
        .protocol_features = vu->terms.protocol,
        .queue_count_max = vu->terms.queue_count,
        .region_count_max = vu->terms.region_count,
        .reconnects = vu->resumptions,
        .connected = vu->phase == SKI_VHOST_USER_AGREED || vu->phase == SKI_VHOST_USER_RUNNING,
        .resumes = vu->resumable,
    };
    (void)pthread_mutex_unlock(&vu->lock);
}

const char *sk_vhost_user_feature_name(unsigned bit)
{
    static const char *const names[] = {
        [SKI_VHOST_USER_PROTOCOL_MQ] = "MQ",
        [SKI_VHOST_USER_PROTOCOL_LOG_SHMFD] = "LOG_SHMFD",
        [SKI_VHOST_USER_PROTOCOL_RARP] = "RARP",
        [SKI_VHOST_USER_PROTOCOL_REPLY_ACK] = "REPLY_ACK",
        [SKI_VHOST_USER_PROTOCOL_MTU] = "MTU",
        [SKI_VHOST_USER_PROTOCOL_BACKEND_REQ] = "BACKEND_REQ",
        [SKI_VHOST_USER_PROTOCOL_CROSS_ENDIAN] = "CROSS_ENDIAN",
        [SKI_VHOST_USER_PROTOCOL_CRYPTO_SESSION] = "CRYPTO_SESSION",
        [SKI_VHOST_USER_PROTOCOL_PAGEFAULT] = "PAGEFAULT",
        [SKI_VHOST_USER_PROTOCOL_CONFIG] = "CONFIG",
        [SKI_VHOST_USER_PROTOCOL_BACKEND_SEND_FD] = "BACKEND_SEND_FD",
        [SKI_VHOST_USER_PROTOCOL_HOST_NOTIFIER] = "HOST_NOTIFIER",
        [SKI_VHOST_USER_PROTOCOL_INFLIGHT_SHMFD] = "INFLIGHT_SHMFD",
        [SKI_VHOST_USER_PROTOCOL_RESET_DEVICE] = "RESET_DEVICE",
        [SKI_VHOST_USER_PROTOCOL_INBAND_NOTIFICATIONS] = "INBAND_NOTIFICATIONS",
        [SKI_VHOST_USER_PROTOCOL_CONFIGURE_MEM_SLOTS] = "CONFIGURE_MEM_SLOTS",
        [SKI_VHOST_USER_PROTOCOL_STATUS] = "STATUS",
    };

    return bit < sizeof(names) / sizeof(names[0]) ? names[bit] : NULL;
}
