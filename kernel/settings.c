/* SPDX-License-Identifier: MIT */
#include "console.h"
#include "lib/text.h"
#include "settings.h"

struct settings settings = { SK_VIRTIO_BLK_OPTIONS_DEFAULT, true };

bool settings_is(const char *word)
{
    for (; *word != '\0'; word++) {
        if (*word == '=') {
            return true;
        }
    }
    return false;
}

bool settings_log_level(const char *name)
{
    for (int level = 0; level < SK_LOG_LEVEL_COUNT; level++) {
        if (text_equal(name, sk_log_level_name((enum sk_log_level)level))) {
            console_log.level = (enum sk_log_level)level;
            return true;
        }
    }
    return false;
}

static bool take_switch(const char *value, bool *out_on)
{
    if (!text_equal(value, "on") && !text_equal(value, "off")) {
        return false;
    }
    *out_on = text_equal(value, "on");
    return true;
}

static bool take_feature(const char *value, unsigned bit)
{
    bool on;

    if (!take_switch(value, &on)) {
        return false;
    }
    settings.disk.features &= ~SK_VIRTIO_FEATURE(bit);
    settings.disk.features |= on ? SK_VIRTIO_FEATURE(bit) : 0;
    return true;
}

static bool take_u32(const char *value, uint32_t *out_number)
{
    uint64_t number;

    if (!text_number(value, &number) || number == 0 || number > UINT32_MAX) {
        return false;
    }
    *out_number = (uint32_t)number;
    return true;
}

static bool take_legacy(const char *value)
{
    bool on;

    if (!take_switch(value, &on)) {
        return false;
    }
    settings.disk.refuse_legacy = !on;
    return true;
}

static bool take_timeout(const char *value)
{
    uint32_t ms;

    if (!take_u32(value, &ms)) {
        return false;
    }
    settings.disk.timeout_ns = (uint64_t)ms * 1000000;
    return true;
}

static bool take_queue(const char *value)
{
    return take_u32(value, &settings.disk.queue_size);
}

static bool take_segments(const char *value)
{
    return take_u32(value, &settings.disk.segment_count);
}

static bool take_indirect(const char *value)
{
    return take_feature(value, SK_VIRTIO_F_INDIRECT_DESC);
}

static bool take_event(const char *value)
{
    return take_feature(value, SK_VIRTIO_F_EVENT_IDX);
}

static bool take_irq(const char *value)
{
    return take_switch(value, &settings.interrupts);
}

static const struct {
    const char *name;
    bool (*take)(const char *value);
    const char *help;
} table[] = {
    { "legacy", take_legacy, "on|off: drive legacy virtio devices (on)" },
    { "queue", take_queue, "N: ring entries wanted, a power of two (128)" },
    { "segments", take_segments, "N: pieces of one request to the device, 1 to 254 (16)" },
    { "indirect", take_indirect, "on|off: indirect descriptors (on)" },
    { "event", take_event, "on|off: event indexes (on)" },
    { "timeout", take_timeout, "MS: longest time of one request (10000)" },
    { "irq", take_irq, "on|off: interrupts of devices (on)" },
    { "log", settings_log_level, "error|warning|info|debug (warning)" },
};

bool settings_take(const char *word)
{
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        const char *value = text_value_of(word, table[i].name);

        if (value != NULL && table[i].take(value)) {
            return true;
        }
        if (value != NULL) {
            console_print("%s: %s=%s\n", word, table[i].name, table[i].help);
            return false;
        }
    }
    console_print("%s: no such setting; try: help\n", word);
    return false;
}

void settings_print_help(void)
{
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        console_print("  %s=%s\n", table[i].name, table[i].help);
    }
}
