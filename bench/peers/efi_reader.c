/* SPDX-License-Identifier: MIT */
/*
 * Random 4 KiB reads, one at a time, through a firmware's own disk driver: a
 * UEFI application, for U-Boot.  It prints how many it did in how long and
 * returns to the firmware's shell.
 *
 * Spec: UEFI 2.10, 4.3 "EFI System Table", 7 "Boot Services", 13.9 "EFI Block I/O Protocol".
 */
#include "guest.h"

#define SECONDS 1u
#define LOOK    16u /* reads between two looks at the clock */

struct guid {
    uint32_t a;
    uint16_t b;
    uint16_t c;
    uint8_t d[8];
};

struct text_output {
    void *reset;
    uint64_t (*output_string)(struct text_output *self, const uint16_t *text);
};

struct boot_services {
    uint8_t header[24];
    void *before[16];
    uint64_t (*handle_protocol)(void *handle, const struct guid *protocol, void **out_interface);
    void *between[19];
    uint64_t (*locate_handle_buffer)(uint32_t by, const struct guid *protocol, void *key,
                                     size_t *out_count, void ***out_handles);
};

struct system_table {
    uint8_t header[24];
    void *vendor;
    uint32_t revision;
    void *console_in_handle;
    void *console_in;
    void *console_out_handle;
    struct text_output *console_out;
    void *error_handle;
    void *error;
    void *runtime_services;
    struct boot_services *boot_services;
};

struct media {
    uint32_t id;
    uint8_t is_removable;
    uint8_t is_present;
    uint8_t is_partition;
    uint8_t is_read_only;
    uint8_t caches_writes;
    uint32_t block_bytes;
    uint32_t alignment;
    uint64_t last_block;
};

struct block_io {
    uint64_t revision;
    struct media *media;
    void *reset;
    uint64_t (*read_blocks)(struct block_io *self, uint32_t media, uint64_t block, size_t bytes,
                            void *out_data);
};

_Static_assert(offsetof(struct system_table, boot_services) == 96, "4.3");
_Static_assert(offsetof(struct boot_services, handle_protocol) == 24 + 16 * 8, "4.4");
_Static_assert(offsetof(struct boot_services, locate_handle_buffer) == 24 + 36 * 8, "4.4");
_Static_assert(offsetof(struct media, last_block) == 24, "13.9");

#define BY_PROTOCOL 2u

static void print(struct system_table *system, const char *text)
{
    uint16_t wide[128];
    size_t count = 0;

    for (; *text != '\0' && count < 126; text++) {
        if (*text == '\n') {
            wide[count++] = '\r';
        }
        wide[count++] = (uint8_t)*text;
    }
    wide[count] = 0;
    (void)system->console_out->output_string(system->console_out, wide);
}

static struct block_io *find_disk(const struct boot_services *services)
{
    const struct guid block_io = { 0x964e5b21, 0x6459, 0x11d2,
                                   { 0x8e, 0x39, 0x00, 0xa0, 0xc9, 0x69, 0x72, 0x3b } };
    void **handles = NULL;
    size_t count = 0;

    if (services->locate_handle_buffer(BY_PROTOCOL, &block_io, NULL, &count, &handles) != 0) {
        return NULL;
    }
    for (size_t i = 0; i < count; i++) {
        struct block_io *disk = NULL;

        if (services->handle_protocol(handles[i], &block_io, (void **)&disk) == 0 &&
            !disk->media->is_partition && disk->media->is_present) {
            return disk;
        }
    }
    return NULL;
}

static bool read_randomly(struct block_io *disk, uint64_t *out_reads, uint64_t *out_ticks)
{
    static _Alignas(4096) uint8_t data[GUEST_READ_BYTES];
    const struct media *media = disk->media;
    uint64_t blocks = GUEST_READ_BYTES / media->block_bytes;
    uint64_t places = (media->last_block + 1) / blocks;
    uint64_t random = 0x9e3779b97f4a7c15;
    uint64_t start = guest_ticks();
    uint64_t end = start + SECONDS * GUEST_TICKS_PER_SECOND;
    uint64_t reads = 0;

    guest_mark();
    while (reads % LOOK != 0 || guest_ticks() < end) {
        uint64_t block = guest_random(&random) % places * blocks;

        if (disk->read_blocks(disk, media->id, block, sizeof(data), data) != 0) {
            return false;
        }
        reads++;
    }
    guest_mark();
    *out_reads = reads;
    *out_ticks = guest_ticks() - start;
    return true;
}

uint64_t start(void *handle, struct system_table *system);

uint64_t start(void *handle, struct system_table *system)
{
    struct block_io *disk = find_disk(system->boot_services);
    uint64_t reads;
    uint64_t ticks;
    char text[96];

    (void)handle;
    if (disk == NULL || !read_randomly(disk, &reads, &ticks)) {
        print(system, "no disk, or a read failed\n");
        return 1;
    }
    *guest_result(text, "efi", reads, ticks) = '\0';
    print(system, text);
    return 0;
}
