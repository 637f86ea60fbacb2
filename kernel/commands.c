/* SPDX-License-Identifier: MIT */
#include <stdatomic.h>

#include <skio/text.h>

#include "arch/arch.h"
#include "commands.h"
#include "console.h"
#include "devices.h"
#include "disk.h"
#include "harts.h"
#include "lib/text.h"
#include "memory.h"
#include "platform.h"
#include "power.h"
#include "settings.h"

const struct shell_command shell_commands[] = {
    { "help", "", "this list", command_help },
    { "devices", "", "what was found, who drives it", command_devices },
    { "disk", "", "the disk: identity, capacity, limits, choices made, properties", command_disk },
    { "parts", "", "the disk's partitions", command_parts },
    { "read", "SECTOR [COUNT]", "show sectors in hexadecimal and as text", command_read },
    { "write", "SECTOR TEXT...", "write a text, padded with zeros to the block", command_write },
    { "fill", "SECTOR COUNT BYTE", "fill sectors with a byte", command_fill },
    { "verify", "SECTOR COUNT [SEED]", "write a pattern (destroys data), read it back, compare",
      command_verify },
    { "scrub", "SEED COUNT [DEPTH] [FLUSH-EVERY] [read] [poll] [retry] [persist] [harts=N]",
      "write random extents on all queues (destroys data), flush, read back, compare",
      command_scrub },
    { "flush", "", "make what was written durable", command_flush },
    { "hash", "[SECTOR COUNT]", "SHA-256 of the disk or a part of it", command_hash },
    { "bench",
      "[read|write] [BYTES] [DEPTH] [SECONDS] [random|sequential] [poll|irq|hybrid] "
      "[spin=US] [harts=N] [requests=N] [latency=N]",
      "measure (read 4096 32 2 random irq harts=1 latency=1: each request is timed);\n"
      "                                   hybrid polls for spin=50 us before it sleeps;\n"
      "                                   requests=N: a hart ends after N; write destroys data",
      command_bench },
    { "stats", "", "counters of memory and of the disk's queues, how long requests took",
      command_stats },
    { "harts", "", "what each processor has done; each says it itself", command_harts },
    { "log", "error|warning|info|debug", "how much the log says", command_log },
    { "recover", "", "bring a disk back that was stopped after a fault", command_recover },
    { "uptime", "", "time since the machine started", command_uptime },
    { "crash", "read|write|exec|stack [HART]", "cause a fault, to see the report", command_crash },
    { "poweroff", "[STATUS]", "leave; 0, or 1 if a command of the command line failed",
      command_poweroff },
};
const size_t shell_command_count = sizeof(shell_commands) / sizeof(shell_commands[0]);

bool command_number(const struct shell_call *call, const char *command, size_t index,
                    uint64_t *out_value)
{
    if (text_number(call->words[index], out_value)) {
        return true;
    }
    console_print("%s: %s is no number (decimal, or 0x...)\n", command, call->words[index]);
    return false;
}

void command_size_text(uint64_t bytes, char *out, size_t out_bytes)
{
    static const char *const units[] = { "bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
    uint64_t rest = 0;
    unsigned unit = 0;

    for (; bytes >= 1024; bytes /= 1024) {
        rest = bytes % 1024;
        unit++;
    }
    if (unit == 0) {
        (void)sk_text_format(out, out_bytes, "%lu bytes", bytes);
    } else {
        (void)sk_text_format(out, out_bytes, "%lu.%lu %s", bytes, rest * 10 / 1024, units[unit]);
    }
}

enum shell_result command_help(const struct shell_call *call)
{
    (void)call;
    for (size_t i = 0; i < shell_command_count; i++) {
        const struct shell_command *command = &shell_commands[i];
        char form[192];

        (void)sk_text_format(form, sizeof(form), "%s %s", command->name, command->usage);
        console_print("  %-32s %s%s\n", form,
                      text_length(form) > 32 ? "\n                                   " : "",
                      command->summary);
    }
    console_print("numbers are decimal or 0x...; a sector has 512 bytes; ; separates commands\n"
                  "settings, in front of a command on the kernel's command line only:\n");
    settings_print_help();
    return SHELL_OK;
}

static void print_buffer(const struct sk_device_node *node)
{
    sk_daddr address;

    if (node->dma_buffer == NULL || sk_io_buffer_address(node->dma_buffer, &address) != SK_OK) {
        console_print("-\n");
        return;
    }
    console_print("%lu bytes at 0x%lx\n", sk_io_buffer_size(node->dma_buffer), address.raw);
}

static void print_node(const struct sk_device_node *node)
{
    char interrupt[12] = "-";
    const char *state =
        node->state == SK_DEVICE_STATE_FAILED ? sk_status_name(node->probe_status) : "";

    if (node->interrupt_count > 0 && node->interrupts[0].cells[0] != UINT32_MAX) {
        (void)sk_text_format(interrupt, sizeof(interrupt), "%u",
                             (unsigned)node->interrupts[0].cells[0]);
    }
    console_print("%-26s 0x%08lx %4s  %-12s %-10s%s%s ", node->name, sk_device_node_address(node),
                  interrupt, node->driver == NULL ? "-" : node->driver->name,
                  sk_device_state_name(node->state), state, state[0] == '\0' ? "" : " ");
    print_buffer(node);
}

enum shell_result command_devices(const struct shell_call *call)
{
    (void)call;
    console_print("%-26s %-10s %4s  %-12s %-10s %s\n", "NAME", "ADDRESS", "IRQ", "DRIVER", "STATE",
                  "BUFFER (ADDRESS FOR THE DEVICE)");
    for (const struct sk_device_node *node = sk_device_manager_first(&devices); node != NULL;
         node = node->next) {
        print_node(node);
    }
    return SHELL_OK;
}

/* Waits until all harts are here, so that they speak at once. */
static void meet(sk_atomic_u32 *met)
{
    uint32_t here = atomic_fetch_add(met, 1) + 1;

    harts_wake();
    while (here < harts_running()) {
        platform_wait(NULL, met, here, UINT64_MAX);
        here = atomic_load(met);
    }
}

static void say_hart(void *argument)
{
    meet(argument);
    console_print("hart %u, ", harts_self());
    console_print("the machine's %lu: ", harts_id(harts_self()));
    console_print("%u works done, ", (unsigned)harts_works());
    console_print("woken %u times\n", (unsigned)harts_wakes());
}

/* Their order may be any. */
enum shell_result command_harts(const struct shell_call *call)
{
    sk_atomic_u32 met = 0;

    (void)call;
    for (unsigned i = 1; i < harts_running(); i++) {
        (void)harts_post(i, say_hart, &met);
    }
    say_hart(&met);
    for (unsigned i = 1; i < harts_running(); i++) {
        harts_join(i);
    }
    return SHELL_OK;
}

enum shell_result command_log(const struct shell_call *call)
{
    return call->count == 1 && settings_log_level(call->words[0]) ? SHELL_OK : SHELL_USAGE;
}

enum shell_result command_uptime(const struct shell_call *call)
{
    uint64_t ms = arch_now_ns() / 1000000;

    (void)call;
    console_print("%lu.%03lu s\n", ms / 1000, ms % 1000);
    return SHELL_OK;
}

/* Deliberately endless; the compiler must not see it. */
static __attribute__((noinline)) uint64_t overflow_stack(volatile uint64_t depth)
{
    volatile uint64_t ballast[64];

    ballast[0] = depth;
    return (depth == UINT64_MAX ? 0 : overflow_stack(depth + 1)) + ballast[0];
}

static void crash(void *argument)
{
    static uint32_t data[4];
    volatile uintptr_t nowhere = 8;
    const char *kind = argument;

    if (text_equal(kind, "read")) {
        console_print("%u\n", (unsigned)*(volatile uint32_t *)nowhere);
    } else if (text_equal(kind, "write")) {
        *(volatile uint32_t *)(uintptr_t)command_crash = 0;
    } else if (text_equal(kind, "exec")) {
        void (*volatile function)(void) = (void (*)(void))(uintptr_t)data;
        function();
    } else if (text_equal(kind, "stack")) {
        console_print("%u\n", (unsigned)overflow_stack(0));
    }
}

enum shell_result command_crash(const struct shell_call *call)
{
    uint64_t hart = 0;

    if (call->count < 1 || call->count > 2 ||
        (call->count == 2 && !command_number(call, "crash", 1, &hart))) {
        return SHELL_USAGE;
    }
    if (hart >= harts_running()) {
        console_print("crash: there is no hart %lu, %u run\n", hart, harts_running());
        return SHELL_FAILED;
    }
    if (hart == 0) {
        crash(call->words[0]);
    } else if (harts_post((unsigned)hart, crash, call->words[0])) {
        harts_join((unsigned)hart);
    }
    return SHELL_USAGE;
}

enum shell_result command_poweroff(const struct shell_call *call)
{
    uint64_t status = shell_status();

    if (call->count > 1) {
        return SHELL_USAGE;
    }
    if (call->count == 1 && !command_number(call, "poweroff", 0, &status)) {
        return SHELL_USAGE;
    }
    if (status > POWER_STATUS_MAX) {
        console_print("poweroff: a status is at most %u\n", POWER_STATUS_MAX);
        return SHELL_FAILED;
    }
    if (!devices_stop() && status == POWER_STATUS_OK) {
        status = POWER_STATUS_FAILED;
    }
    power_off((unsigned)status);
}
