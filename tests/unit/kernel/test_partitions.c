/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "../../../kernel/lib/partitions.h"

#define BLOCKS_MAX  512u
#define VISITS_MAX  256u
#define DAMAGE_SEED UINT64_C(20240229)
#define DAMAGES     20000

static struct {
    uint8_t image[BLOCKS_MAX * 4096];
    struct partition_scan scan;
    struct partition_report report;
    struct partition visits[VISITS_MAX];
    char types[VISITS_MAX][PARTITIONS_TYPE_BYTES];
    unsigned visit_count;
    uint64_t reads;
    uint64_t fail_block; /* reading this one fails */
} disk;

static enum sk_status read_block(void *context, uint64_t block, void *out_data)
{
    (void)context;
    disk.reads++;
    assert_true(block < disk.scan.block_count);
    if (block == disk.fail_block) {
        return SK_ERR_IO;
    }
    memcpy(out_data, disk.image + block * disk.scan.block_bytes, disk.scan.block_bytes);
    return SK_OK;
}

static void visit(void *context, const struct partition *partition)
{
    (void)context;
    assert_true(partition->block_count > 0);
    if (disk.visit_count < VISITS_MAX) {
        disk.visits[disk.visit_count] = *partition;
        (void)snprintf(disk.types[disk.visit_count], PARTITIONS_TYPE_BYTES, "%s", partition->type);
    }
    disk.visit_count++;
}

static void empty_disk(uint32_t block_bytes, uint64_t blocks)
{
    memset(&disk, 0, sizeof(disk));
    disk.scan.read = read_block;
    disk.scan.visit = visit;
    disk.scan.block_bytes = block_bytes;
    disk.scan.block_count = blocks;
    disk.fail_block = UINT64_MAX;
}

static void scan(void)
{
    disk.visit_count = 0;
    disk.reads = 0;
    assert_int_equal(partitions_scan(&disk.scan, &disk.report), SK_OK);
    assert_int_equal(disk.report.count, disk.visit_count);
}

static void put32(uint8_t *at, uint32_t value)
{
    for (int i = 0; i < 4; i++) {
        at[i] = (uint8_t)(value >> 8 * i);
    }
}

static void put64(uint8_t *at, uint64_t value)
{
    put32(at, (uint32_t)value);
    put32(at + 4, (uint32_t)(value >> 32));
}

static uint8_t *block_at(uint64_t block)
{
    return disk.image + block * disk.scan.block_bytes;
}

static void mbr_entry(uint64_t block, unsigned index, uint8_t code, uint32_t first, uint32_t count)
{
    uint8_t *at = block_at(block) + 446 + index * 16;

    at[4] = code;
    put32(at + 8, first);
    put32(at + 12, count);
    block_at(block)[510] = 0x55;
    block_at(block)[511] = 0xaa;
}

static uint32_t entries_blocks(uint32_t count)
{
    return (count * 128 + disk.scan.block_bytes - 1) / disk.scan.block_bytes;
}

static void seal(uint64_t header)
{
    uint8_t *at = block_at(header);
    uint64_t entries = at[72] | (uint64_t)at[73] << 8;
    uint32_t bytes = (uint32_t)(at[80] | at[81] << 8) * 128;

    put32(at + 88, partitions_crc(0, block_at(entries), bytes));
    put32(at + 16, 0);
    put32(at + 16, partitions_crc(0, at, 92));
}

static void gpt_header(uint64_t own, uint64_t other, uint64_t entries, uint32_t count)
{
    uint8_t *at = block_at(own);

    memcpy(at, "EFI PART", 8);
    put32(at + 8, 0x10000);
    put32(at + 12, 92);
    put64(at + 24, own);
    put64(at + 32, other);
    put64(at + 40, 2 + entries_blocks(count));
    put64(at + 48, disk.scan.block_count - 2 - entries_blocks(count));
    memset(at + 56, 0x11, 16);
    put64(at + 72, entries);
    put32(at + 80, count);
    put32(at + 84, 128);
}

static void gpt_entry(uint64_t entries, unsigned index, uint64_t first, uint64_t last,
                      const char *name)
{
    static const uint8_t linux_guid[16] = { 0xaf, 0x3d, 0xc6, 0x0f, 0x83, 0x84, 0x72, 0x47,
                                            0x8e, 0x79, 0x3d, 0x69, 0xd8, 0x47, 0x7d, 0xe4 };
    uint8_t *at = block_at(entries) + index * 128;

    memcpy(at, linux_guid, sizeof(linux_guid));
    put64(at + 32, first);
    put64(at + 40, last);
    for (size_t i = 0; i < strlen(name) && i < 36; i++) {
        at[56 + 2 * i] = (uint8_t)name[i];
        at[57 + 2 * i] = 0;
    }
}

/* Both copies of a table with two partitions. */
static void gpt_disk(uint32_t block_bytes)
{
    uint64_t last = 299;
    uint64_t backup;

    empty_disk(block_bytes, last + 1);
    backup = last - entries_blocks(128);
    mbr_entry(0, 0, 0xee, 1, (uint32_t)last);
    gpt_header(1, last, 2, 128);
    gpt_header(last, 1, backup, 128);
    gpt_entry(2, 0, 40, 99, "boot");
    gpt_entry(2, 5, 100, 199, "root filesystem");
    memcpy(block_at(backup), block_at(2), 128 * 128);
    seal(1);
    seal(last);
}

static void test_partitions_crc__check_value(void **state)
{
    (void)state;
    assert_true(partitions_crc(0, "123456789", 9) == 0xcbf43926u);
    assert_true(partitions_crc(partitions_crc(0, "1234", 4), "56789", 5) == 0xcbf43926u);
    assert_true(partitions_crc(0, "", 0) == 0);
}

static void assert_two_partitions(void)
{
    assert_int_equal(disk.report.scheme, PARTITION_SCHEME_GPT);
    assert_int_equal(disk.visit_count, 2);
    assert_int_equal(disk.visits[0].number, 1);
    assert_int_equal(disk.visits[0].first_block, 40);
    assert_int_equal(disk.visits[0].block_count, 60);
    assert_string_equal(disk.visits[0].name, "boot");
    assert_string_equal(disk.types[0], "Linux filesystem");
    assert_int_equal(disk.visits[1].number, 6);
    assert_int_equal(disk.visits[1].first_block, 100);
    assert_int_equal(disk.visits[1].block_count, 100);
    assert_string_equal(disk.visits[1].name, "root filesystem");
    assert_false(disk.visits[1].beyond);
}

static void test_partitions_scan__gpt_is_listed(void **state)
{
    (void)state;
    gpt_disk(512);
    scan();
    assert_two_partitions();
    assert_false(disk.report.primary_bad);
    assert_false(disk.report.backup_bad);
    assert_false(disk.report.differ);
    assert_int_equal(disk.report.refused, 0);
}

static void test_partitions_scan__gpt_of_large_blocks_is_listed(void **state)
{
    (void)state;
    gpt_disk(4096);
    scan();
    assert_two_partitions();
    assert_false(disk.report.backup_bad);
}

static void test_partitions_scan__gpt_damaged_primary_uses_the_backup(void **state)
{
    (void)state;
    for (unsigned byte = 0; byte < 92; byte++) { /* any byte of the header */
        gpt_disk(512);
        block_at(1)[byte] ^= 0x40;
        scan();
        assert_two_partitions();
        assert_true(disk.report.primary_bad);
        assert_true(disk.report.used_backup);
        assert_false(disk.report.backup_bad);
    }
}

static void test_partitions_scan__gpt_damaged_entries_use_the_backup(void **state)
{
    (void)state;
    gpt_disk(512);
    block_at(2)[128 * 100] ^= 1;
    scan();
    assert_two_partitions();
    assert_true(disk.report.used_backup);
}

static void test_partitions_scan__gpt_damaged_backup_is_said(void **state)
{
    (void)state;
    gpt_disk(512);
    block_at(299)[20] = 1;
    put32(block_at(299) + 16, 5);
    scan();
    assert_two_partitions();
    assert_true(disk.report.backup_bad);
    assert_false(disk.report.used_backup);
}

static void test_partitions_scan__gpt_two_bad_copies_list_nothing(void **state)
{
    (void)state;
    gpt_disk(512);
    block_at(1)[0] = 0;
    block_at(299)[0] = 0;
    scan();
    assert_int_equal(disk.visit_count, 0);
    assert_true(disk.report.primary_bad && disk.report.backup_bad);
}

static void test_partitions_scan__gpt_copies_that_differ_are_said(void **state)
{
    (void)state;
    gpt_disk(512);
    gpt_entry(2, 5, 100, 150, "changed");
    seal(1);
    scan();
    assert_true(disk.report.differ);
    assert_int_equal(disk.visits[1].block_count, 51);
}

/* Headers whose checksum holds and whose numbers do not. */
static void assert_header_refused(unsigned offset, uint64_t value, unsigned bytes)
{
    gpt_disk(512);
    if (bytes == 8) {
        put64(block_at(1) + offset, value);
    } else {
        put32(block_at(1) + offset, (uint32_t)value);
    }
    put32(block_at(1) + 16, 0);
    put32(block_at(1) + 16, partitions_crc(0, block_at(1), 92));
    scan();
    assert_true(disk.report.primary_bad);
    assert_two_partitions();
}

static void test_partitions_scan__gpt_senseless_numbers_are_refused(void **state)
{
    (void)state;
    assert_header_refused(12, 91, 4);             /* header's size */
    assert_header_refused(12, 513, 4);
    assert_header_refused(12, UINT32_MAX, 4);
    assert_header_refused(24, 2, 8);              /* its own place */
    assert_header_refused(40, 296, 8);            /* first usable behind the last */
    assert_header_refused(40, 0, 8);
    assert_header_refused(48, UINT64_MAX, 8);     /* last usable behind any disk */
    assert_header_refused(72, 290, 8);            /* entries reach behind the disk */
    assert_header_refused(72, UINT64_MAX, 8);
    assert_header_refused(80, 0, 4);              /* no entries, too many */
    assert_header_refused(80, PARTITIONS_ENTRIES_MAX + 1, 4);
    assert_header_refused(80, UINT32_MAX, 4);
    assert_header_refused(84, 0, 4);              /* their size */
    assert_header_refused(84, 64, 4);
    assert_header_refused(84, 192, 4);
    assert_header_refused(84, 1024, 4);
}

static void test_partitions_scan__gpt_of_a_cut_disk_is_listed(void **state)
{
    (void)state;
    gpt_disk(512);
    disk.scan.block_count = 150;
    scan();
    assert_int_equal(disk.visit_count, 2);
    assert_false(disk.report.primary_bad);
    assert_true(disk.report.backup_bad);
    assert_false(disk.visits[0].beyond);
    assert_true(disk.visits[1].beyond);
}

static void test_partitions_scan__gpt_backup_is_looked_for_on_the_disk_only(void **state)
{
    (void)state;
    gpt_disk(512);
    put64(block_at(1) + 32, UINT64_MAX);
    seal(1);
    scan();
    assert_two_partitions();
    assert_true(disk.report.differ);
}

static void test_partitions_scan__gpt_senseless_entries_are_left_out(void **state)
{
    (void)state;
    gpt_disk(512);
    gpt_entry(2, 1, 60, 50, "backwards");
    gpt_entry(2, 2, 1, 50, "over the table");
    gpt_entry(2, 3, 250, 299, "over the backup");
    gpt_entry(2, 4, 0, UINT64_MAX, "everything");
    seal(1);
    scan();
    assert_int_equal(disk.report.refused, 4);
    assert_int_equal(disk.visit_count, 2);
}

static void test_partitions_scan__gpt_names_cannot_command_a_terminal(void **state)
{
    static const uint16_t units[] = { 0x1b, '[', '2', 'J', 0x7f, 0x9b, 0x202e, 0xd800, 0xe4,
                                      0x20ac, 'x' };
    uint8_t *at;

    (void)state;
    gpt_disk(512);
    at = block_at(2) + 56;
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        at[2 * i] = (uint8_t)units[i];
        at[2 * i + 1] = (uint8_t)(units[i] >> 8);
    }
    seal(1);
    scan();
    assert_string_equal(disk.visits[0].name, "?[2J????\xc3\xa4\xe2\x82\xacx");
}

static void test_partitions_scan__gpt_longest_name_fits(void **state)
{
    (void)state;
    gpt_disk(512);
    for (unsigned i = 0; i < 36; i++) { /* three bytes each */
        block_at(2)[56 + 2 * i] = 0xac;
        block_at(2)[57 + 2 * i] = 0x20;
    }
    seal(1);
    scan();
    assert_int_equal(strlen(disk.visits[0].name), 108);
}

static void test_partitions_scan__gpt_unknown_type_is_a_guid(void **state)
{
    (void)state;
    gpt_disk(512);
    for (unsigned i = 0; i < 16; i++) {
        block_at(2)[i] = (uint8_t)(i + 1);
    }
    seal(1);
    scan();
    assert_string_equal(disk.types[0], "04030201-0605-0807-090a-0b0c0d0e0f10");
}

static void test_partitions_scan__mbr_is_listed(void **state)
{
    (void)state;
    empty_disk(512, 400);
    mbr_entry(0, 0, 0x83, 10, 90);
    mbr_entry(0, 2, 0x42, 300, 200);
    block_at(0)[446] = 0x80;
    scan();
    assert_int_equal(disk.report.scheme, PARTITION_SCHEME_MBR);
    assert_int_equal(disk.visit_count, 2);
    assert_true(disk.visits[0].active);
    assert_string_equal(disk.types[0], "Linux");
    assert_int_equal(disk.visits[0].block_count, 90);
    assert_int_equal(disk.visits[1].number, 3);
    assert_string_equal(disk.types[1], "0x42");
    assert_true(disk.visits[1].beyond);
}

static void test_partitions_scan__mbr_logical_partitions_are_listed(void **state)
{
    (void)state;
    empty_disk(512, 400);
    mbr_entry(0, 0, 0x83, 10, 90);
    mbr_entry(0, 1, 0x05, 100, 300);
    mbr_entry(100, 0, 0x83, 8, 42);
    mbr_entry(100, 1, 0x05, 50, 100);
    mbr_entry(150, 0, 0x82, 8, 92);
    mbr_entry(150, 1, 0x05, 150, 50);
    mbr_entry(250, 0, 0x0c, 1, 9);
    scan();
    assert_false(disk.report.chain_bad);
    assert_int_equal(disk.visit_count, 5);
    assert_int_equal(disk.visits[2].number, 5);
    assert_int_equal(disk.visits[2].first_block, 108);
    assert_int_equal(disk.visits[3].first_block, 158);
    assert_int_equal(disk.visits[4].number, 7);
    assert_int_equal(disk.visits[4].first_block, 251);
}

static void assert_chain_bad(void)
{
    scan();
    assert_true(disk.report.chain_bad);
    assert_true(disk.reads < 2 * PARTITIONS_LOGICAL_MAX);
}

static void test_partitions_scan__mbr_bad_chains_end(void **state)
{
    (void)state;
    empty_disk(512, 400); /* to itself */
    mbr_entry(0, 0, 0x05, 100, 300);
    mbr_entry(100, 1, 0x05, 0, 100);
    assert_chain_bad();
    mbr_entry(100, 1, 0x05, 10, 100); /* a ring */
    mbr_entry(110, 1, 0x05, 10, 100);
    assert_chain_bad();
    mbr_entry(110, 1, 0x05, 300, 100); /* behind the extended partition */
    assert_chain_bad();
    mbr_entry(110, 1, 0x05, UINT32_MAX, 100);
    assert_chain_bad();
    mbr_entry(110, 1, 0x83, 20, 100); /* a second entry that is no table */
    assert_chain_bad();
    mbr_entry(110, 1, 0x05, 30, 10); /* no table there */
    assert_chain_bad();
    mbr_entry(0, 0, 0x05, 100, UINT32_MAX); /* behind the disk */
    mbr_entry(110, 1, 0x05, 500, 10);
    assert_chain_bad();
}

static void test_partitions_scan__mbr_longest_chain_ends(void **state)
{
    (void)state;
    empty_disk(512, 400);
    mbr_entry(0, 0, 0x05, 100, 300);
    for (uint32_t i = 0; i < 290; i++) {
        mbr_entry(100 + i, 1, 0x05, i + 1, 1);
    }
    assert_chain_bad();
}

static void test_partitions_scan__mbr_senseless_entries_are_left_out(void **state)
{
    (void)state;
    empty_disk(512, 400);
    mbr_entry(0, 0, 0x83, 10, 90);
    mbr_entry(0, 1, 0x83, 0, 90);
    mbr_entry(0, 2, 0x83, 10, 0);
    scan();
    assert_int_equal(disk.visit_count, 1);
    assert_int_equal(disk.report.refused, 2);
}

static void test_partitions_scan__no_table_is_none(void **state)
{
    (void)state;
    empty_disk(512, 400);
    scan();
    assert_int_equal(disk.report.scheme, PARTITION_SCHEME_NONE);
    mbr_entry(0, 0, 0, 0, 0); /* a signature alone */
    scan();
    assert_int_equal(disk.report.scheme, PARTITION_SCHEME_NONE);
    mbr_entry(0, 0, 0x83, 1, 1); /* code where the table would be */
    block_at(0)[446] = 0x31;
    scan();
    assert_int_equal(disk.report.scheme, PARTITION_SCHEME_NONE);
}

static void test_partitions_scan__tiny_disks(void **state)
{
    (void)state;
    for (uint64_t blocks = 0; blocks < 34; blocks++) { /* not all of the entries */
        gpt_disk(512);
        disk.scan.block_count = blocks;
        scan();
        assert_int_equal(disk.visit_count, disk.report.scheme == PARTITION_SCHEME_MBR ? 1 : 0);
    }
}

static void test_partitions_scan__block_size_is_checked(void **state)
{
    static const uint32_t bad[] = { 0, 1, 256, 513, 8192, UINT32_MAX };

    (void)state;
    gpt_disk(512);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        disk.scan.block_bytes = bad[i];
        assert_int_equal(partitions_scan(&disk.scan, &disk.report), SK_ERR_INVALID);
    }
}

static void test_partitions_scan__any_failing_read_is_returned(void **state)
{
    (void)state;
    gpt_disk(512);
    for (uint64_t block = 0; block < disk.scan.block_count; block++) {
        bool needed = block <= 1 + entries_blocks(128) ||
                      block >= disk.scan.block_count - 1 - entries_blocks(128);

        disk.fail_block = block;
        assert_int_equal(partitions_scan(&disk.scan, &disk.report), needed ? SK_ERR_IO : SK_OK);
    }
}

static uint64_t random_state;

static uint64_t next_random(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

/* Damage with the checksums made good again, so that it gets past them. */
static void test_partitions_scan__random_damage_ends(void **state)
{
    (void)state;
    print_message("seed %llu\n", (unsigned long long)DAMAGE_SEED);
    random_state = DAMAGE_SEED;
    gpt_disk(512);
    for (int i = 0; i < DAMAGES; i++) {
        uint8_t *header = block_at(1);

        if (i % 50 == 0) {
            gpt_disk(512);
        }
        header[next_random() % 92] = (uint8_t)next_random();
        block_at(0)[446 + next_random() % 66] = (uint8_t)next_random();
        block_at(2)[next_random() % 1024] = (uint8_t)next_random();
        memcpy(header, "EFI PART", 8);
        put32(header + 12, 92);
        put64(header + 24, 1);
        if (header[81] < 4 && header[82] == 0 && header[83] == 0) {
            put64(header + 72, 2);
            seal(1);
        }
        scan();
        assert_true(disk.reads < 4 * PARTITIONS_ENTRIES_MAX);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_partitions_crc__check_value),
        cmocka_unit_test(test_partitions_scan__gpt_is_listed),
        cmocka_unit_test(test_partitions_scan__gpt_of_large_blocks_is_listed),
        cmocka_unit_test(test_partitions_scan__gpt_damaged_primary_uses_the_backup),
        cmocka_unit_test(test_partitions_scan__gpt_damaged_entries_use_the_backup),
        cmocka_unit_test(test_partitions_scan__gpt_damaged_backup_is_said),
        cmocka_unit_test(test_partitions_scan__gpt_two_bad_copies_list_nothing),
        cmocka_unit_test(test_partitions_scan__gpt_copies_that_differ_are_said),
        cmocka_unit_test(test_partitions_scan__gpt_senseless_numbers_are_refused),
        cmocka_unit_test(test_partitions_scan__gpt_of_a_cut_disk_is_listed),
        cmocka_unit_test(test_partitions_scan__gpt_backup_is_looked_for_on_the_disk_only),
        cmocka_unit_test(test_partitions_scan__gpt_senseless_entries_are_left_out),
        cmocka_unit_test(test_partitions_scan__gpt_names_cannot_command_a_terminal),
        cmocka_unit_test(test_partitions_scan__gpt_longest_name_fits),
        cmocka_unit_test(test_partitions_scan__gpt_unknown_type_is_a_guid),
        cmocka_unit_test(test_partitions_scan__mbr_is_listed),
        cmocka_unit_test(test_partitions_scan__mbr_logical_partitions_are_listed),
        cmocka_unit_test(test_partitions_scan__mbr_bad_chains_end),
        cmocka_unit_test(test_partitions_scan__mbr_longest_chain_ends),
        cmocka_unit_test(test_partitions_scan__mbr_senseless_entries_are_left_out),
        cmocka_unit_test(test_partitions_scan__no_table_is_none),
        cmocka_unit_test(test_partitions_scan__tiny_disks),
        cmocka_unit_test(test_partitions_scan__block_size_is_checked),
        cmocka_unit_test(test_partitions_scan__any_failing_read_is_returned),
        cmocka_unit_test(test_partitions_scan__random_damage_ends),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
