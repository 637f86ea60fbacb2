/* SPDX-License-Identifier: MIT */
/*
 * Random 4 KiB reads in a Linux guest: the first and only program of its
 * initramfs.  It loads the disk's modules, reads the first sector and says so,
 * and with the argument `bench` reads with pread and with io_uring, without
 * the page cache, then powers off.  It calls the kernel directly; io_uring has
 * its file and its buffers registered, which is how it does most.
 *
 * Spec: Linux's uapi headers unistd.h and io_uring.h, for riscv64.
 */
#include "guest.h"

#define SECONDS   1u
#define LOOK      16u /* reads between two looks at the clock */
#define DEPTH_MAX 32u
#define SETTLE_MS 2000 /* what the kernel began while it booted is done then */

enum call {
    CALL_MOUNT = 40,
    CALL_OPENAT = 56,
    CALL_WRITE = 64,
    CALL_PREAD64 = 67,
    CALL_NANOSLEEP = 101,
    CALL_REBOOT = 142,
    CALL_MMAP = 222,
    CALL_FINIT_MODULE = 273,
    CALL_IO_URING_SETUP = 425,
    CALL_IO_URING_ENTER = 426,
    CALL_IO_URING_REGISTER = 427
};

#define AT_FDCWD       (-100)
#define O_DIRECT       040000
#define POWER_OFF      0x4321fedc
#define PROT_MAP       3 /* read, write */
#define MAP_SHARED     1
#define SETUP_FLAGS    (1u << 12 | 1u << 13) /* SINGLE_ISSUER, DEFER_TASKRUN */
#define ENTER_GET      1u
#define REGISTER_BUFS  0
#define REGISTER_FILES 2
#define OP_READ_FIXED  4
#define FIXED_FILE     1
#define AT_SQES        0x10000000

static long call(enum call number, long a, long b, long c, long d, long e, long f)
{
    register long a0 __asm__("a0") = a;
    register long a1 __asm__("a1") = b;
    register long a2 __asm__("a2") = c;
    register long a3 __asm__("a3") = d;
    register long a4 __asm__("a4") = e;
    register long a5 __asm__("a5") = f;
    register long a7 __asm__("a7") = number;

    __asm__ volatile("ecall"
                     : "+r"(a0)
                     : "r"(a1), "r"(a2), "r"(a3), "r"(a4), "r"(a5), "r"(a7)
                     : "memory");
    return a0;
}

static void print(const char *text, const char *end)
{
    (void)call(CALL_WRITE, 1, (long)text, end - text, 0, 0, 0);
}

static void say(const char *text)
{
    char line[96];

    print(line, guest_text(line, text));
}

static void say_result(const char *name, uint64_t reads, uint64_t ticks)
{
    char line[96];

    print(line, guest_result(line, name, reads, ticks));
}

static long open(const char *path, long flags)
{
    return call(CALL_OPENAT, AT_FDCWD, (long)path, flags, 0, 0, 0);
}

static void load(const char *path)
{
    if (call(CALL_FINIT_MODULE, open(path, 0), (long)"", 0, 0, 0, 0) < 0) {
        say("a module cannot be loaded\n");
    }
}

static void sleep_ms(long ms)
{
    const long time[2] = { ms / 1000, ms % 1000 * 1000000 };

    (void)call(CALL_NANOSLEEP, (long)time, 0, 0, 0, 0, 0);
}

static long open_disk(void)
{
    long disk = -1;

    (void)call(CALL_MOUNT, (long)"devtmpfs", (long)"/dev", (long)"devtmpfs", 0, 0, 0);
    for (int i = 0; i < 10000 && disk < 0; i++) {
        disk = open("/dev/vda", O_DIRECT);
        if (disk < 0) {
            sleep_ms(1);
        }
    }
    return disk;
}

/* What all ways of reading share. */
struct bench {
    long disk;
    uint64_t places;
    uint64_t random;
    uint8_t *data;
};

static uint64_t next_offset(struct bench *bench)
{
    return guest_random(&bench->random) % bench->places * GUEST_READ_BYTES;
}

static void bench_pread(struct bench *bench)
{
    uint64_t start = guest_ticks();
    uint64_t end = start + SECONDS * GUEST_TICKS_PER_SECOND;
    uint64_t reads = 0;

    guest_mark();
    while (reads % LOOK != 0 || guest_ticks() < end) {
        if (call(CALL_PREAD64, bench->disk, (long)bench->data, GUEST_READ_BYTES,
                 (long)next_offset(bench), 0, 0) != GUEST_READ_BYTES) {
            say("a read failed\n");
            return;
        }
        reads++;
    }
    guest_mark();
    say_result("pread", reads, guest_ticks() - start);
}

struct ring_offsets {
    uint32_t head, tail, mask, entries, a, b, c, d;
    uint64_t address;
};

struct parameters {
    uint32_t sq_entries, cq_entries, flags, thread_cpu, thread_idle, features, wq, reserved[3];
    struct ring_offsets sq; /* b, c: dropped, array */
    struct ring_offsets cq; /* b: the entries */
};

struct submission {
    uint8_t opcode, flags;
    uint16_t priority;
    int32_t file;
    uint64_t offset, address;
    uint32_t bytes, read_flags;
    uint64_t user;
    uint16_t buffer, personality;
    uint32_t splice;
    uint64_t reserved[2];
};

struct completion {
    uint64_t user;
    int32_t result;
    uint32_t flags;
};

_Static_assert(sizeof(struct parameters) == 120, "io_uring.h");
_Static_assert(sizeof(struct submission) == 64, "io_uring.h");

struct uring {
    long file;
    struct submission *submissions;
    struct completion *completions;
    uint32_t *sq_tail, *sq_array, *cq_head, *cq_tail;
    uint32_t sq_mask, cq_mask;
};

static bool open_uring(struct uring *uring, struct bench *bench, uint32_t depth)
{
    struct parameters parameters = { .flags = SETUP_FLAGS };
    struct { void *base; size_t bytes; } buffer = { bench->data, DEPTH_MAX * GUEST_READ_BYTES };
    int32_t disk = (int32_t)bench->disk;
    uint8_t *ring;

    uring->file = call(CALL_IO_URING_SETUP, depth, (long)&parameters, 0, 0, 0, 0);
    if (uring->file < 0 ||
        call(CALL_IO_URING_REGISTER, uring->file, REGISTER_BUFS, (long)&buffer, 1, 0, 0) < 0 ||
        call(CALL_IO_URING_REGISTER, uring->file, REGISTER_FILES, (long)&disk, 1, 0, 0) < 0) {
        return false;
    }
    ring = (uint8_t *)call(CALL_MMAP, 0, 65536, PROT_MAP, MAP_SHARED, uring->file, 0);
    uring->submissions = (struct submission *)call(
        CALL_MMAP, 0, (long)(depth * sizeof(struct submission)), PROT_MAP, MAP_SHARED, uring->file,
        AT_SQES);
    if ((long)ring < 0 && (long)ring > -4096) {
        return false;
    }
    uring->sq_tail = (uint32_t *)(void *)(ring + parameters.sq.tail);
    uring->sq_array = (uint32_t *)(void *)(ring + parameters.sq.c);
    uring->sq_mask = *(uint32_t *)(void *)(ring + parameters.sq.mask);
    uring->cq_head = (uint32_t *)(void *)(ring + parameters.cq.head);
    uring->cq_tail = (uint32_t *)(void *)(ring + parameters.cq.tail);
    uring->cq_mask = *(uint32_t *)(void *)(ring + parameters.cq.mask);
    uring->completions = (struct completion *)(void *)(ring + parameters.cq.b);
    return true;
}

static void submit(struct uring *uring, struct bench *bench, uint32_t slot)
{
    uint32_t tail = *uring->sq_tail;
    uint32_t index = tail & uring->sq_mask;

    uring->submissions[index] = (struct submission){
        .opcode = OP_READ_FIXED,
        .flags = FIXED_FILE,
        .offset = next_offset(bench),
        .address = (uintptr_t)(bench->data + slot * GUEST_READ_BYTES),
        .bytes = GUEST_READ_BYTES,
        .user = slot,
    };
    uring->sq_array[index] = index;
    __atomic_store_n(uring->sq_tail, tail + 1, __ATOMIC_RELEASE);
}

/* Keeps `depth` reads at the disk; all that are free go together. */
static void bench_uring(struct bench *bench, uint32_t depth, const char *name)
{
    struct uring uring;
    uint64_t start;
    uint64_t end;
    uint64_t reads = 0;
    uint32_t fresh = depth;

    if (!open_uring(&uring, bench, depth)) {
        say("there is no io_uring\n");
        return;
    }
    for (uint32_t i = 0; i < depth; i++) {
        submit(&uring, bench, i);
    }
    start = guest_ticks();
    end = start + SECONDS * GUEST_TICKS_PER_SECOND;
    guest_mark();
    while (guest_ticks() < end) {
        uint32_t head = *uring.cq_head;

        (void)call(CALL_IO_URING_ENTER, uring.file, fresh, 1, ENTER_GET, 0, 0);
        fresh = 0;
        while (head != __atomic_load_n(uring.cq_tail, __ATOMIC_ACQUIRE)) {
            struct completion completion = uring.completions[head & uring.cq_mask];

            if (completion.result != (int32_t)GUEST_READ_BYTES) {
                say("a read failed\n");
                return;
            }
            __atomic_store_n(uring.cq_head, ++head, __ATOMIC_RELEASE);
            submit(&uring, bench, (uint32_t)completion.user);
            fresh++;
        }
        reads += fresh;
    }
    guest_mark();
    say_result(name, reads, guest_ticks() - start);
}

static bool equal(const char *a, const char *b)
{
    while (*a != '\0' && *a == *b) {
        a++;
        b++;
    }
    return *a == *b;
}

/* The kernel's stack at the start: how many arguments, then the arguments. */
__attribute__((noreturn, used)) static void run(long *stack)
{
    static _Alignas(4096) uint8_t data[DEPTH_MAX * GUEST_READ_BYTES];
    struct bench bench = { .random = 0x9e3779b97f4a7c15, .data = data };

    load("/virtio_mmio.ko");
    load("/virtio_blk.ko");
    bench.disk = open_disk();
    bench.places = BENCH_DISK_BYTES / GUEST_READ_BYTES;
    if (call(CALL_PREAD64, bench.disk, (long)data, 512, 0, 0, 0) == 512) {
        say("first sector\n");
    }
    if (stack[0] > 1 && equal((const char *)stack[2], "bench")) {
        sleep_ms(SETTLE_MS);
        bench_pread(&bench);
        bench_uring(&bench, 1, "io_uring-1");
        bench_uring(&bench, DEPTH_MAX, "io_uring-32");
    }
    (void)call(CALL_REBOOT, (long)0xfee1dead, 672274793, POWER_OFF, 0, 0, 0);
    for (;;) {
    }
}

__asm__(".globl _start\n_start:\n    mv a0, sp\n    andi sp, sp, -16\n    tail run\n");
