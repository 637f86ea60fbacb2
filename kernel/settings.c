/* SPDX-License-Identifier: MIT */
#include "console.h"
#include "lib/text.h"
#include "settings.h"

struct settings settings = {
    .disk = SK_VIRTIO_BLK_OPTIONS_DEFAULT,
    .timeout_ms = 10000,
    .latency_every = 64,
    .legacy = true,
    .interrupts = true,
};

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

enum kind { SWITCH, FEATURE, NUMBER, POWER, LEVEL };

static const struct setting {
    const char *name;
    enum kind kind;
    void *target; /* SWITCH: bool; FEATURE: uint64_t; NUMBER, POWER: uint32_t */
    unsigned bit; /* FEATURE */
    const char *help;
} table[] = {
    { "legacy", SWITCH, &settings.legacy, 0, "on|off: drive legacy virtio devices (on)" },
    { "queue", NUMBER, &settings.disk.queue_size, 0, "N: ring entries, 2 to 32768 (128)" },
    { "queues", NUMBER, &settings.queues, 0,
      "N: queues of a disk, where it has as many (one for each hart)" },
    { "segments", NUMBER, &settings.disk.segment_count, 0, "N: pieces of one request (16)" },
    { "indirect", FEATURE, &settings.disk.features, SK_VIRTIO_F_INDIRECT_DESC,
      "on|off: indirect descriptors (on)" },
    { "packed", FEATURE, &settings.disk.features, SK_VIRTIO_F_RING_PACKED,
      "on|off: the packed ring, where it is offered (on)" },
    { "order", FEATURE, &settings.disk.features, SK_VIRTIO_F_IN_ORDER,
      "on|off: answers in order, where that is offered (on)" },
    { "event", FEATURE, &settings.disk.features, SK_VIRTIO_F_EVENT_IDX,
      "on|off: event indexes (on)" },
    { "timeout", NUMBER, &settings.timeout_ms, 0, "MS: longest time of one request (10000)" },
    { "latency", POWER, &settings.latency_every, 0,
      "N: every how manieth request is timed for stats, a power of two; 0: none (64)" },
    { "resubmit", SWITCH, &settings.resubmit, 0,
      "on|off: a stopped disk's requests wait for its recovery (off)" },
    { "irq", SWITCH, &settings.interrupts, 0, "on|off: interrupts of devices (on)" },
    { "log", LEVEL, NULL, 0, "error|warning|info|debug (warning)" },
};

static bool take_number(uint32_t *target, const char *value)
{
    uint64_t number;

    if (!text_number(value, &number) || number == 0 || number > UINT32_MAX) {
        return false;
    }
    *target = (uint32_t)number;
    return true;
}

/* A power of two, or 0. */
static bool take_power(uint32_t *target, const char *value)
{
    uint64_t number;

    if (!text_number(value, &number) || (number & (number - 1)) != 0 || number > UINT32_MAX) {
        return false;
    }
    *target = (uint32_t)number;
    return true;
}

static bool take(const struct setting *setting, const char *value)
{
    bool on = text_equal(value, "on");

    if (setting->kind == LEVEL) {
        return settings_log_level(value);
    }
    if (setting->kind == NUMBER) {
        return take_number(setting->target, value);
    }
    if (setting->kind == POWER) {
        return take_power(setting->target, value);
    }
    if (!on && !text_equal(value, "off")) {
        return false;
    }
    if (setting->kind == SWITCH) {
        *(bool *)setting->target = on;
    } else if (on) {
        *(uint64_t *)setting->target |= SK_VIRTIO_FEATURE(setting->bit);
    } else {
        *(uint64_t *)setting->target &= ~SK_VIRTIO_FEATURE(setting->bit);
    }
    return true;
}

bool settings_take(const char *word)
{
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        const char *value = text_value_of(word, table[i].name);

        if (value == NULL) {
            continue;
        }
        if (!take(&table[i], value)) {
            console_print("%s: %s=%s\n", word, table[i].name, table[i].help);
            return false;
        }
        return true;
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
