/* SPDX-License-Identifier: MIT */
/* What the files of the process platform share. */
#ifndef SKI_HOSTED_PROCESS_PRIVATE_H
#define SKI_HOSTED_PROCESS_PRIVATE_H

#include <skio_hosted/process.h>

#include <pthread.h>
#include <stdatomic.h>

/* Physical addresses of regions begin here: above 4 GiB, where cut addresses fail at once. */
#define SKI_PROCESS_PADDR UINT64_C(0x100000000)

/* ... and end here. */
#define SKI_PROCESS_PADDR_END (UINT64_C(1) << 47)

/* Foreign memory: somewhere that no window reaches, so that it is copied. */
#define SKI_PROCESS_FOREIGN (UINT64_C(1) << 63)

/* One event fd with a handler. */
struct ski_process_interrupt {
    _Atomic int fd;       /* -1: free */
    int epoll;            /* watches fd and wake, edge by edge */
    _Atomic int wake;     /* an event fd of our own, which ends a sleep */
    pthread_mutex_t lock; /* held while the handler runs: detach waits for it */
    void (*handler)(void *argument);
    void *argument;
};

struct ski_process_region {
    struct sk_process_region region; /* first */
    struct sk_dma_zone zone;
    struct sk_dma_arena arena;
    struct sk_dma_domain domain;
    void *metadata;
};

struct sk_process {
    struct sk_platform platform;
    struct sk_log log;
    struct sk_dma_window window; /* all that regions may ever be at, at its own address */
    pthread_mutex_t lock;        /* held to add regions, and to attach and detach */
    struct ski_process_interrupt interrupts[SK_PROCESS_INTERRUPTS_MAX];
    _Atomic size_t interrupts_end; /* behind the last slot that was ever used */
    struct ski_process_region *regions[SK_PROCESS_REGIONS_MAX];
    _Atomic size_t region_count;
    uint64_t next_paddr;
};

/* process_interrupts.c: the hooks, and whether something is attached. */
void ski_process_wait(void *context, const sk_atomic_u32 *word, uint32_t seen, uint64_t until_ns);
void ski_process_wait_interrupt(void *context, const struct sk_interrupt *interrupt,
                                const sk_atomic_u32 *word, uint32_t seen, uint64_t until_ns);
void ski_process_wake(void *context, const struct sk_interrupt *interrupt,
                      const sk_atomic_u32 *word);
enum sk_status ski_process_attach(void *context, const struct sk_interrupt *interrupt,
                                  void (*handler)(void *argument), void *argument);
void ski_process_detach(void *context, const struct sk_interrupt *interrupt);
void ski_process_init_interrupts(struct sk_process *process);
bool ski_process_has_interrupts(const struct sk_process *process);

/* process_regions.c */
enum sk_status ski_process_physical_of(void *context, const void *cpu, sk_paddr *out_paddr);
/* SK_OK; SK_ERR_BUSY: something lives in a region; nothing changed. */
enum sk_status ski_process_remove_regions(struct sk_process *process);

uint64_t ski_process_now(void *context);

#endif
