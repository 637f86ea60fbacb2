/* SPDX-License-Identifier: MIT */
/*
 * A virtio block device over MMIO, modern or legacy, that lives in the test's
 * process.  It was written from the specification alone and shares no code
 * with the library.  It is strict: whatever a driver does that the
 * specification forbids is recorded as a violation with a text, and a test
 * ends by checking that there was none.  On demand it misbehaves: see
 * `enum fake_fault`.
 *
 * It offers what the configuration's feature bits say; with RING_PACKED,
 * IN_ORDER (see `in_order_batch`), NOTIFICATION_DATA or RING_RESET among them
 * and accepted by the driver, it works that way and checks the driver's part.
 *
 * A test that uses the environment of support/environment.h needs two lines:
 *
 *     struct fake_device_config config = FAKE_DEVICE_CONFIG_DEFAULT;
 *     struct fake_device *fake = fake_device_attach(&env, 0x10001000, 1, &config);
 *     ...
 *     fake_device_detach(fake); // fails the test if the driver violated anything
 *
 * The device then stands behind map_mmio(0x10001000), raises interrupt line 1,
 * and finishes requests inside of the driver's notification (or, `deferred`,
 * in the environment's wait hook and in fake_device_run).
 *
 * Ownership: create allocates, destroy frees.  Calling: one thread.
 * Spec: Virtio 1.2, 2, 4.2, 5.2.
 */
#ifndef TESTS_FAKE_VIRTIO_DEVICE_H
#define TESTS_FAKE_VIRTIO_DEVICE_H

#include <limits.h>

#include <skio/mmio.h>
#include <skio/virtio_blk.h>

#define FAKE_QUEUES_MAX        8
#define FAKE_CONFIG_BYTES_MAX  96u
#define FAKE_VIOLATION_BYTES   160
#define FAKE_VIOLATIONS_KEPT   16
#define FAKE_VENDOR            0x4b414645u
#define FAKE_FOR_EVER          UINT64_MAX

/* In which order requests are finished that are at the device together. */
enum fake_order {
    FAKE_ORDER_FIRST_IN, /* oldest first */
    FAKE_ORDER_LAST_IN,  /* newest first */
    FAKE_ORDER_RANDOM    /* by `seed` */
};

/* Zero or NULL means what stands in brackets. */
struct fake_device_config {
    bool legacy;
    bool deferred;        /* requests are finished by fake_device_run only */
    bool polls;           /* asks for no notifications and looks at the rings in fake_device_run */
    enum fake_order order;
    uint64_t seed;        /* of FAKE_ORDER_RANDOM and of scribbling */
    uint64_t features;    /* offered; VERSION_1 is added for a modern device */

    uint64_t capacity_sectors;
    uint64_t storage_sectors; /* that really exist; I/O beyond answers IOERR [capacity, at most 131072] */
    uint32_t queue_count;     /* [1] at most FAKE_QUEUES_MAX */
    bool reset_register_missing; /* RING_RESET is offered, and QueueReset does nothing */
    uint32_t queue_size_max;  /* [256] */
    uint32_t size_max;        /* configuration fields; offered by their feature bits */
    uint32_t seg_max;
    uint32_t blk_size;
    uint8_t physical_block_exp;
    uint8_t alignment_offset;
    uint16_t min_io_size;
    uint32_t opt_io_size;
    bool writeback;           /* initial value of the field */
    /* With ZONED and zone_sectors: a host-managed disk. */
    uint32_t zone_sectors;
    bool host_aware;             /* or a host-aware one: its zones are written anywhere */
    uint32_t zone_capacity;      /* sectors that can be written [zone_sectors] */
    uint32_t zones_conventional; /* so many zones at the start need no order */
    uint32_t max_open_zones;     /* 0: no limit */
    uint32_t max_active_zones;
    uint32_t max_append_sectors;
    uint32_t write_granularity;  /* bytes [512] */
    uint32_t in_order_batch;  /* with IN_ORDER: most requests that share one used entry [1] */
    const char *identity;     /* at most 20 characters ["fake disk"] */
    uint32_t config_bytes;    /* length of the configuration space [60, with zones 96] */

    /* What the device finds at an address: a pointer to `bytes` bytes, or NULL.  Required. */
    void *(*reach)(void *context, uint64_t daddr, uint64_t bytes);
    void *reach_context;
    /* Raises the device's interrupt line.  [no interrupts] */
    void (*interrupt)(void *context);
    /* Raises a queue's own interrupt, which InterruptStatus does not tell of.  [the line] */
    void (*queue_interrupt)(void *context, uint32_t queue);
    void *interrupt_context;
};

#define FAKE_FEATURES_DEFAULT                                                                     \
    (SK_VIRTIO_FEATURE(SK_VIRTIO_BLK_F_SEG_MAX) | SK_VIRTIO_FEATURE(SK_VIRTIO_BLK_F_BLK_SIZE) |   \
     SK_VIRTIO_FEATURE(SK_VIRTIO_BLK_F_FLUSH) | SK_VIRTIO_FEATURE(SK_VIRTIO_BLK_F_TOPOLOGY) |     \
     SK_VIRTIO_FEATURE(SK_VIRTIO_BLK_F_CONFIG_WCE) |                                              \
     SK_VIRTIO_FEATURE(SK_VIRTIO_F_INDIRECT_DESC) | SK_VIRTIO_FEATURE(SK_VIRTIO_F_EVENT_IDX))

/* A modern disk of 1 MiB with a write-back cache, 254 segments, one queue of up to 256. */
#define FAKE_DEVICE_CONFIG_DEFAULT                                                            \
    {                                                                                         \
        .features = FAKE_FEATURES_DEFAULT, .capacity_sectors = 2048, .seg_max = 254,          \
        .blk_size = 512, .writeback = true                                                    \
    }

/*
 * What the device can do wrong.  A fault has an argument, and fires at some of
 * its opportunities: the first `skip` of them pass, the next `count` fire.
 */
enum fake_fault {
    /* Registers; an opportunity is a read of the register. */
    FAKE_FAULT_DEAD,             /* every register and config field reads as `argument`, and from
                                  * then on writes are ignored */
    FAKE_FAULT_MAGIC,            /* these registers read as `argument` */
    FAKE_FAULT_VERSION,
    FAKE_FAULT_DEVICE_ID,
    FAKE_FAULT_QUEUE_MAX,
    FAKE_FAULT_QUEUE_READY,      /* or the legacy page number, before the driver sets it up */
    FAKE_FAULT_STATUS_REGISTER,
    FAKE_FAULT_INTERRUPT_STATUS, /* these bits are added to InterruptStatus */
    FAKE_FAULT_RESET,            /* after a reset was written: the status still reads as before; the
                                  * reset happens at the first read that the fault lets pass */
    FAKE_FAULT_QUEUE_RESET,      /* after QueueReset was written it still reads 1; the queue is
                                  * reset at the first read that the fault lets pass */
    FAKE_FAULT_QUEUE_RESET_OTHER, /* queue `argument` is reset instead of the one that was meant; an
                                  * opportunity is a write of QueueReset */
    FAKE_FAULT_FEATURES_REFUSED, /* FEATURES_OK is not kept; an opportunity is its writing */
    FAKE_FAULT_GENERATION,       /* it is another one at each read */
    FAKE_FAULT_CONFIG_TEARS,     /* after this read of a config field the capacity and the
                                  * generation change */
    FAKE_FAULT_INTERRUPT,        /* at this register access (but those of the interrupt itself) an
                                  * interrupt is raised, with `argument` in InterruptStatus */
    /* Requests; an opportunity is a completion. */
    FAKE_FAULT_STALL,            /* it is kept back; see fake_device_complete_stalled */
    FAKE_FAULT_IO_ERROR,         /* status IOERR, nothing is done */
    FAKE_FAULT_STATUS_BYTE,      /* status is `argument`, whatever happened */
    FAKE_FAULT_NO_STATUS,        /* the status byte is not written */
    FAKE_FAULT_NO_DATA,          /* data is not transferred; status OK all the same */
    FAKE_FAULT_APPEND_SECTOR,    /* an append says that its data is at `argument`; an opportunity is
                                  * an append that succeeds */
    FAKE_FAULT_REPORT_BYTE,      /* a byte of a zone report is the low 8 bits of `argument`, its
                                  * offset stands above them; an opportunity is a report */
    FAKE_FAULT_FLUSH_UNSUPPORTED, /* a flush is answered UNSUPP; an opportunity is a flush */
    FAKE_FAULT_FLUSH_LIES,       /* a flush is answered OK and does nothing */
    FAKE_FAULT_USED_ID,          /* used.id is `argument` */
    FAKE_FAULT_USED_ID_OFFSET,   /* `argument` is added to used.id */
    FAKE_FAULT_USED_LENGTH,      /* used.len is `argument` */
    FAKE_FAULT_USED_LENGTH_OFFSET, /* `argument` is added to used.len */
    FAKE_FAULT_USED_REPLAY,      /* the entry is written `argument` more times */
    FAKE_FAULT_USED_INDEX,       /* used.idx jumps by `argument` more
                                  * (packed: that many more descriptors are marked used) */
    FAKE_FAULT_USED_FLAGS,       /* packed: `argument` is flipped in the used descriptor's flags */
    FAKE_FAULT_USED_PLACE,       /* packed: it is written `argument` descriptors further on */
    FAKE_FAULT_OUT_OF_ORDER,     /* the newest is finished first, although IN_ORDER is in force */
    FAKE_FAULT_NO_INTERRUPT,     /* the driver is not told; an opportunity is an interrupt due */
    /* Rings; an opportunity is a notification. */
    FAKE_FAULT_DEAF,             /* the notification is ignored */
    FAKE_FAULT_SCRIBBLE,         /* while the device owns a chain its descriptors, and what was
                                  * consumed of the available ring, are garbage */
    FAKE_FAULT_SCRIBBLE_FOR_GOOD, /* the same, and the garbage stays; chains that the device cannot
                                   * read any more are no violations until a reset */
    FAKE_FAULT_COUNT
};

struct fake_fault_setting {
    uint64_t argument;
    uint64_t skip;
    uint64_t count;
    uint64_t fired; /* how often it did */
};

/* States of a zone; 5.2.6. */
#define FAKE_ZONE_NOT_WP        0
#define FAKE_ZONE_EMPTY         1
#define FAKE_ZONE_OPEN_IMPLICIT 2
#define FAKE_ZONE_OPEN_EXPLICIT 3
#define FAKE_ZONE_CLOSED        4
#define FAKE_ZONE_READ_ONLY     13
#define FAKE_ZONE_FULL          14
#define FAKE_ZONE_OFFLINE       15

/* A zone of a zoned disk; a test may change its state. */
struct fake_zone {
    uint64_t start;
    uint64_t write; /* the write pointer */
    uint8_t state;
};

struct fake_request;
struct fake_packed;

/* What goes back to the driver as one used entry. */
struct fake_used {
    uint32_t id;          /* of the last request in it */
    uint32_t length;
    uint32_t requests;    /* more than 1 only with IN_ORDER */
    uint32_t descriptors; /* packed: in the ring */
    bool written;         /* the device wrote into the buffers */
};

struct fake_queue {
    bool ready;
    uint32_t size;
    uint32_t align;          /* legacy */
    uint64_t address[3];     /* descriptor, driver, device area */
    uint32_t page_number;    /* legacy */
    uint8_t *table;          /* the same for the CPU */
    uint8_t *avail;
    uint8_t *used;
    uint16_t avail_seen;     /* consumed of the available ring */
    uint16_t used_index;
    uint16_t used_signalled; /* used_index at the last decision about an interrupt */
    bool max_read;           /* the driver looked before it wrote */
    bool ready_read;
    bool *owned;             /* descriptors that are in a chain at the device */
    struct fake_request *first; /* at the device, oldest first */
    uint64_t notifications;
    struct fake_packed *packed; /* NULL: a split queue */
    struct fake_used open;      /* finished, but not told yet */
    uint16_t position_told;     /* with NOTIFICATION_DATA, by the driver */
    uint32_t in_order_head;     /* split, with IN_ORDER: where the next chain has to start */
    bool resetting;             /* by QueueReset */
    bool reset_unseen;
};

struct fake_device {
    struct fake_device_config config;
    struct sk_mmio mmio; /* what a platform's map_mmio answers */

    /* What the driver did wrong. */
    unsigned violations;
    char violation[FAKE_VIOLATIONS_KEPT][FAKE_VIOLATION_BYTES];

    /* What happened. */
    uint64_t notifications;
    uint64_t interrupts;
    uint64_t requests;    /* taken from the rings */
    uint64_t completions; /* finished in earnest */
    uint64_t skipped;     /* of these, without a used entry of their own (IN_ORDER) */
    uint64_t queue_resets; /* by QueueReset */
    uint64_t reads;       /* by type, completed */
    uint64_t writes;
    uint64_t flushes;
    uint64_t ranges;        /* discards, zeroings and erasures */
    uint64_t range_segments; /* in all of them */
    uint64_t range_sectors;
    uint64_t ranges_unmapped;
    uint64_t resets;
    uint32_t in_flight;
    uint32_t segments_most; /* data segments of one request */
    uint64_t segment_longest; /* bytes */
    uint64_t request_longest; /* data bytes */

    struct fake_fault_setting faults[FAKE_FAULT_COUNT];

    /* The configuration space as it lies there; may be scribbled by tests. */
    uint8_t config_space[FAKE_CONFIG_BYTES_MAX];
    uint32_t generation;

    /* What is in the disk's cache, and what survives a loss of power. */
    uint8_t *storage;
    uint8_t *durable;
    uint64_t storage_sectors;
    uint64_t bad_first; /* sectors that answer IOERR */
    uint64_t bad_count;
    struct fake_zone *zones;
    uint32_t zone_count;

    /* Private. */
    uint64_t *durable_at;
    uint64_t sequence;
    uint64_t offered;
    uint64_t driver_features;
    uint32_t driver_features_written;
    uint32_t device_features_sel;
    uint32_t driver_features_sel;
    uint32_t queue_sel;
    uint32_t status;
    uint32_t interrupt_status;
    uint32_t guest_page_bytes;
    uint64_t driver_capacity; /* as the driver last saw it */
    uint64_t driver_capacity_most; /* the largest one that it saw since the reset */
    bool features_ok_read;
    bool reset_unseen;
    bool resetting;
    bool generation_read;
    bool wide_field_open;
    bool scribbled;
    bool interrupting;
    uint64_t random;
    struct fake_queue queues[FAKE_QUEUES_MAX];
    struct fake_request *stalled;
    uint32_t line; /* of fake_device_attach */
};

/* Makes a device; aborts the process if it cannot. */
struct fake_device *fake_device_create(const struct fake_device_config *config);
void fake_device_destroy(struct fake_device *fake);

struct test_environment;

/* Makes a device in an environment: memory, registers, interrupt line, wait hook. */
struct fake_device *fake_device_attach(struct test_environment *env, uint64_t base, uint32_t line,
                                       const struct fake_device_config *config);
/* Fails the test if the driver violated the specification; then destroys the device. */
void fake_device_detach(struct fake_device *fake);
/* Fails the test, with the texts, if there are violations. */
void fake_device_check(const struct fake_device *fake);
/* Forgets the violations so far: for tests of the device itself. */
void fake_device_forgive(struct fake_device *fake);

/* Finishes up to `count` requests (UINT_MAX: all); returns how many. */
unsigned fake_device_run(struct fake_device *fake, unsigned count);

/* Sets a fault: the first `skip` opportunities pass, the next `count` fire; count 0: off. */
void fake_device_fault(struct fake_device *fake, enum fake_fault fault, uint64_t argument,
                       uint64_t skip, uint64_t count);
/* Turns all faults off. */
void fake_device_behave(struct fake_device *fake);

/* Finishes what FAKE_FAULT_STALL kept back (a reset forgets it); returns how many. */
unsigned fake_device_complete_stalled(struct fake_device *fake);

/* Writes a used entry as it is given, and the index after it; no interrupt. */
void fake_device_forge_used(struct fake_device *fake, uint32_t queue, uint32_t id,
                            uint32_t length);
/* Stores used.idx, and nothing else (packed: where the next used descriptor goes; wrap in bit 15). */
void fake_device_forge_used_index(struct fake_device *fake, uint32_t queue, uint16_t index);

/* Raises an interrupt with these bits in InterruptStatus. */
void fake_device_interrupt(struct fake_device *fake, uint32_t bits);
/* The device gives up: NEEDS_RESET, config interrupt; it does nothing until it is reset. */
void fake_device_needs_reset(struct fake_device *fake);
/* Another capacity, with a new generation and a config interrupt. */
void fake_device_set_capacity(struct fake_device *fake, uint64_t sectors);
/* The same for any field of the configuration space. */
void fake_device_set_config(struct fake_device *fake, uint32_t offset, unsigned width,
                            uint64_t value);
/* Sectors that answer IOERR. */
void fake_device_bad_sectors(struct fake_device *fake, uint64_t first, uint64_t count);
/* What was not flushed is gone. */
void fake_device_lose_power(struct fake_device *fake);

#endif
