/* SPDX-License-Identifier: MIT */
#include "virtio/device.h"

#include <skio/checked.h>
#include <skio/endian.h>

#include "base/bytes.h"

/* How often a torn configuration is read again before the device counts as lying. */
#define CONFIG_TRIES 16u

/* Pause between two looks at a status that has not changed yet. */
#define STATUS_PAUSE_NS 10000u

static const struct sk_log *log_of(const struct ski_virtio_device *device)
{
    return device->transport->platform->log;
}

static void pause_until(const struct sk_platform *platform, uint64_t until_ns)
{
    if (platform->wait != NULL) {
        platform->wait(platform->context, NULL, 0, until_ns);
    }
}

enum sk_status ski_virtio_device_reset(struct ski_virtio_device *device, uint64_t timeout_ns)
{
    struct sk_virtio_transport *transport = device->transport;
    const struct sk_platform *platform = transport->platform;
    uint64_t now = platform->now_ns(platform->context);
    uint64_t deadline;
    uint32_t value;
    enum sk_status status = transport->ops->set_status(transport, 0);

    device->status = 0;
    if (!sk_checked_add(now, timeout_ns, &deadline)) {
        deadline = UINT64_MAX;
    }
    while (status == SK_OK) {
        status = transport->ops->get_status(transport, &value);
        if (status != SK_OK || value == 0) {
            break;
        }
        now = platform->now_ns(platform->context);
        if (now >= deadline) {
            sk_log_print(log_of(device), SK_LOG_ERROR,
                         "virtio 0x%llx: reset not done after %llu ms, status 0x%x",
                         (unsigned long long)transport->address,
                         (unsigned long long)(timeout_ns / 1000000), value);
            return SK_ERR_TIMEOUT;
        }
        pause_until(platform, deadline - now > STATUS_PAUSE_NS ? now + STATUS_PAUSE_NS : deadline);
    }
    return status;
}

static enum sk_status add_status(struct ski_virtio_device *device, uint32_t bits)
{
    device->status |= bits;
    return device->transport->ops->set_status(device->transport, device->status);
}

void ski_virtio_device_fail(struct ski_virtio_device *device)
{
    (void)add_status(device, SK_VIRTIO_STATUS_FAILED);
}

/* Features that need no driver's consent: they say what addresses and layouts mean. */
static uint64_t always_accepted(void)
{
    return SK_VIRTIO_FEATURE(SK_VIRTIO_F_VERSION_1) |
           SK_VIRTIO_FEATURE(SK_VIRTIO_F_ACCESS_PLATFORM);
}

static enum sk_status accept_features(struct ski_virtio_device *device, uint64_t wanted)
{
    struct sk_virtio_transport *transport = device->transport;

    device->features = device->offered & (wanted | always_accepted());
    if (transport->legacy) {
        device->features &= UINT32_MAX;
    } else if (!ski_virtio_device_has(device, SK_VIRTIO_F_VERSION_1)) {
        sk_log_print(log_of(device), SK_LOG_ERROR,
                     "virtio 0x%llx: modern transport, but VERSION_1 is not offered",
                     (unsigned long long)transport->address);
        return SK_ERR_UNSUPPORTED;
    }
    return transport->ops->set_features(transport, device->features);
}

static enum sk_status confirm_features(struct ski_virtio_device *device)
{
    struct sk_virtio_transport *transport = device->transport;
    uint32_t value;
    enum sk_status status = add_status(device, SK_VIRTIO_STATUS_FEATURES_OK);

    if (status == SK_OK) {
        status = transport->ops->get_status(transport, &value);
    }
    if (status != SK_OK) {
        return status;
    }
    if ((value & SK_VIRTIO_STATUS_FEATURES_OK) == 0) {
        sk_log_print(log_of(device), SK_LOG_ERROR,
                     "virtio 0x%llx: the device refuses features 0x%llx of 0x%llx",
                     (unsigned long long)transport->address, (unsigned long long)device->features,
                     (unsigned long long)device->offered);
        return SK_ERR_UNSUPPORTED;
    }
    return SK_OK;
}

enum sk_status ski_virtio_device_announce(struct ski_virtio_device *device, uint64_t timeout_ns)
{
    struct sk_virtio_transport *transport = device->transport;
    enum sk_status status = ski_virtio_device_reset(device, timeout_ns);

    if (status == SK_OK) {
        status = add_status(device, SK_VIRTIO_STATUS_ACKNOWLEDGE);
    }
    if (status == SK_OK) {
        status = add_status(device, SK_VIRTIO_STATUS_DRIVER);
    }
    return status == SK_OK ? transport->ops->get_features(transport, &device->offered) : status;
}

enum sk_status ski_virtio_device_accept(struct ski_virtio_device *device, uint64_t wanted)
{
    enum sk_status status = accept_features(device, wanted);

    if (status == SK_OK && !device->transport->legacy) {
        status = confirm_features(device);
    }
    return status;
}

enum sk_status ski_virtio_device_start(struct ski_virtio_device *device)
{
    uint32_t value;
    enum sk_status status = add_status(device, SK_VIRTIO_STATUS_DRIVER_OK);

    if (status == SK_OK) {
        status = device->transport->ops->get_status(device->transport, &value);
    }
    if (status == SK_OK && (value & SK_VIRTIO_STATUS_DEVICE_NEEDS_RESET) != 0) {
        sk_log_print(log_of(device), SK_LOG_ERROR, "virtio 0x%llx: needs a reset at its start",
                     (unsigned long long)device->transport->address);
        return SK_ERR_MALFORMED;
    }
    return status;
}

bool ski_virtio_device_is_gone(const struct ski_virtio_device *device)
{
    struct sk_virtio_transport *transport = device->transport;

    return transport->ops->look != NULL && transport->ops->look(transport) != SK_OK;
}

enum sk_status ski_virtio_device_look(struct ski_virtio_device *device, uint32_t *out_value)
{
    struct sk_virtio_transport *transport = device->transport;
    enum sk_status status;

    *out_value = 0;
    if (ski_virtio_device_is_gone(device)) {
        return SK_ERR_GONE;
    }
    status = transport->ops->get_status(transport, out_value);
    if (status != SK_OK) {
        return status;
    }
    if ((*out_value & SK_VIRTIO_STATUS_DRIVER_OK) == 0) {
        device->status = 0; /* somebody else reset it: there is nothing to add to */
        return SK_ERR_MALFORMED;
    }
    return (*out_value & SK_VIRTIO_STATUS_DEVICE_NEEDS_RESET) == 0 ? SK_OK : SK_ERR_MALFORMED;
}

static enum sk_status read_field(struct ski_virtio_device *device,
                                 const struct ski_virtio_field *field, uint64_t *out_value)
{
    uint8_t bytes[8] = { 0 };
    enum sk_status status;

    *out_value = 0;
    if (field->feature != SKI_VIRTIO_ALWAYS && !ski_virtio_device_has(device, field->feature)) {
        return SK_OK;
    }
    status = device->transport->ops->read_config(device->transport, field->offset, field->width,
                                                 bytes);
    *out_value = sk_endian_load_le64(bytes);
    return status;
}

static enum sk_status read_fields(struct ski_virtio_device *device,
                                  const struct ski_virtio_field *fields, size_t field_count,
                                  void *out)
{
    for (size_t i = 0; i < field_count; i++) {
        uint64_t value;
        enum sk_status status = read_field(device, &fields[i], &value);

        if (status != SK_OK) {
            return status;
        }
        (void)memcpy((uint8_t *)out + fields[i].out_offset, &value, sizeof(value));
    }
    return SK_OK;
}

/* Legacy devices have no generation: two equal passes stand for it. */
static enum sk_status read_again(struct ski_virtio_device *device,
                                 const struct ski_virtio_field *fields, size_t field_count,
                                 const void *first, bool *out_settled)
{
    *out_settled = true;
    for (size_t i = 0; i < field_count && *out_settled; i++) {
        uint64_t value;
        enum sk_status status = read_field(device, &fields[i], &value);

        if (status != SK_OK) {
            return status;
        }
        *out_settled =
            memcmp((const uint8_t *)first + fields[i].out_offset, &value, sizeof(value)) == 0;
    }
    return SK_OK;
}

enum sk_status ski_virtio_device_read_config(struct ski_virtio_device *device,
                                             const struct ski_virtio_field *fields,
                                             size_t field_count, void *out)
{
    struct sk_virtio_transport *transport = device->transport;

    for (unsigned i = 0; i < CONFIG_TRIES; i++) {
        uint32_t before = 0;
        uint32_t after = 0;
        bool settled = true;
        enum sk_status status = transport->ops->get_generation(transport, &before);

        if (status == SK_OK) {
            status = read_fields(device, fields, field_count, out);
        }
        if (status == SK_OK && transport->legacy) {
            status = read_again(device, fields, field_count, out, &settled);
        }
        if (status == SK_OK) {
            status = transport->ops->get_generation(transport, &after);
        }
        if (status != SK_OK) {
            return status;
        }
        if (settled && before == after) {
            return SK_OK;
        }
    }
    sk_log_print(log_of(device), SK_LOG_ERROR,
                 "virtio 0x%llx: the configuration changed during each of %u reads",
                 (unsigned long long)transport->address, CONFIG_TRIES);
    return SK_ERR_MALFORMED;
}
