/* SPDX-License-Identifier: MIT */
#include <skio/text.h>

#include "arch/arch.h"
#include "console.h"
#include "platform.h"
#include "power.h"

#define TEST_FAIL 0x3333u

static volatile uint32_t *off_register; /* NULL: only the firmware can do it */
static uint32_t off_value;
static bool takes_status;
static bool machine_known;

static enum sk_status map_register(const struct sk_fdt *fdt, const struct sk_fdt_node *node,
                                   const struct sk_fdt_node *syscon)
{
    struct sk_device_range range;
    struct sk_mmio mmio;
    uint32_t offset = 0;
    enum sk_status status = sk_fdt_range(fdt, syscon, 0, &range);

    if (status != SK_OK) {
        return status;
    }
    if (sk_fdt_u32(fdt, node, "offset", 0, &offset) != SK_OK) {
        offset = 0;
    }
    if (offset % sizeof(uint32_t) != 0 || range.bytes < sizeof(uint32_t) ||
        offset > range.bytes - sizeof(uint32_t)) {
        return SK_ERR_MALFORMED;
    }
    status = platform_map_mmio(NULL, range.base, range.bytes, &mmio);
    if (status == SK_OK) {
        off_register = (volatile uint32_t *)((volatile char *)mmio.base + offset);
    }
    return status;
}

void power_init(const struct sk_fdt *fdt)
{
    struct sk_fdt_node node = { 0 };
    struct sk_fdt_node syscon;
    uint32_t phandle;
    enum sk_status status;

    machine_known = true;
    if (sk_fdt_find_compatible(fdt, "syscon-poweroff", &node) != SK_OK) {
        return;
    }
    status = sk_fdt_u32(fdt, &node, "regmap", 0, &phandle);
    if (status == SK_OK) {
        status = sk_fdt_u32(fdt, &node, "value", 0, &off_value);
    }
    if (status == SK_OK) {
        status = sk_fdt_find_phandle(fdt, phandle, &syscon);
    }
    if (status == SK_OK) {
        takes_status = sk_fdt_is_compatible(fdt, &syscon, "sifive,test0") ||
                       sk_fdt_is_compatible(fdt, &syscon, "sifive,test1");
        status = map_register(fdt, &node, &syscon);
    }
    if (status != SK_OK) {
        sk_log_print(&console_log, SK_LOG_WARNING, "power: syscon-poweroff cannot be used: %s",
                     sk_status_text(status));
    }
}

void power_off(unsigned status)
{
    console_flush();
    if (!machine_known) {
        arch_power_off_blind(status);
    }
    if (off_register != NULL && (status == POWER_STATUS_OK || !takes_status)) {
        *off_register = off_value;
    } else if (off_register != NULL) {
        *off_register = status << 16 | TEST_FAIL;
    }
    arch_power_off(status != POWER_STATUS_OK);
}

void power_die(const char *format, ...)
{
    char line[SK_LOG_LINE_BYTES];
    va_list arguments;

    va_start(arguments, format);
    (void)sk_text_format_list(line, sizeof(line), format, arguments);
    va_end(arguments);
    console_print("SimpleKernel cannot start: %s\n", line);
    power_off(POWER_STATUS_FAILED);
}
