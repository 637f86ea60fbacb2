/* SPDX-License-Identifier: MIT */
/*
 * Reads a disk's partition table: GPT with its checksums and its backup, and
 * MBR with its chain of logical partitions.  It only reads, and it knows no
 * file systems.
 *
 * Trust: nothing on the disk.  Every loop is bounded, every number checked.
 * Calling: no state but the scan's.
 * Spec: UEFI 2.10, chapter 5.
 */
#ifndef KERNEL_LIB_PARTITIONS_H
#define KERNEL_LIB_PARTITIONS_H

#include <skio/status.h>

#define PARTITIONS_BLOCK_MAX   4096u  /* largest block of a disk that is read; bytes */
#define PARTITIONS_ENTRIES_MAX 1024u  /* most entries of a GPT; more are refused */
#define PARTITIONS_LOGICAL_MAX 128u   /* longest chain of logical partitions that is followed */
#define PARTITIONS_NAME_BYTES  144u   /* 36 UTF-16 units as UTF-8, its zero included */
#define PARTITIONS_TYPE_BYTES  37u    /* a GUID as text, its zero included */

enum partition_scheme { PARTITION_SCHEME_NONE, PARTITION_SCHEME_MBR, PARTITION_SCHEME_GPT };

struct partition {
    uint32_t number;        /* from 1 */
    uint64_t first_block;
    uint64_t block_count;   /* at least 1 */
    const char *type;       /* for people; a GUID or a hexadecimal code if it is unknown */
    char name[PARTITIONS_NAME_BYTES]; /* UTF-8 without control characters; "" */
    bool active;            /* MBR: the one to boot */
    bool beyond;            /* reaches beyond the end of the disk */
};

/* What is to be said of the table as a whole. */
struct partition_report {
    enum partition_scheme scheme;
    uint32_t count;         /* partitions visited */
    uint32_t refused;       /* entries that contradict themselves, left out */
    bool primary_bad;       /* GPT: the first header or its entries do not hold */
    bool backup_bad;        /* GPT: the one at the end of the disk */
    bool used_backup;       /* GPT: the list comes from the backup */
    bool differ;            /* GPT: both hold and say different things */
    bool chain_bad;         /* MBR: the chain of logical partitions does not hold */
};

struct partition_scan {
    /* The caller's. */
    enum sk_status (*read)(void *context, uint64_t block, void *out_data); /* one block */
    void (*visit)(void *context, const struct partition *partition);
    void *context;
    uint32_t block_bytes;   /* a power of two, 512 to PARTITIONS_BLOCK_MAX */
    uint64_t block_count;

    /* Private. */
    struct partition_report *report;
    struct partition current;
    char type[PARTITIONS_TYPE_BYTES];
    uint8_t block[PARTITIONS_BLOCK_MAX];
};

/*
 * Visits every partition.  SK_OK (also for a disk without a table: the report
 * says so); SK_ERR_INVALID (block size), or what `read` said.
 */
SK_MUST_CHECK enum sk_status partitions_scan(struct partition_scan *scan,
                                             struct partition_report *out_report);

/* The checksum of GPT (CRC-32 of IEEE 802.3), continued from `crc`; starts at 0. */
uint32_t partitions_crc(uint32_t crc, const void *data, size_t bytes);

#endif
