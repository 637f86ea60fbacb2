/* SPDX-License-Identifier: MIT */
/*
 * What skio asks of its surroundings: one struct of hooks with one context
 * pointer, given at init.  Filling it is what porting skio means; PORTING.md
 * has the smallest example.  Memory is not asked for here: it comes as arenas
 * (`dma_arena.h`), and drivers find theirs in their device node.
 *
 * Only `now_ns` and `map_mmio` are needed; every other hook may be NULL, with
 * the effect that is written beside it.  Beyond this struct the library calls
 * memcpy, memmove, memset and memcmp, which a freestanding compiler expects too.
 *
 * Ownership: the caller's; it outlives every object it was given to.
 * Calling: hooks are called from whatever context called skio; none is called
 * from skio's interrupt handlers but `log`.
 */
#ifndef SKIO_PLATFORM_H
#define SKIO_PLATFORM_H

#include <skio/address.h>
#include <skio/log.h>
#include <skio/mmio.h>
#include <skio/status.h>

SK_BEGIN_DECLS

/* Most cells that describe one interrupt (three for a GIC, one for a PLIC). */
#define SK_INTERRUPT_CELLS 4

/* One interrupt line as the bus describes it; the platform decodes the cells. */
struct sk_interrupt {
    uint32_t controller; /* the controller's phandle; 0 if the bus has none */
    uint32_t cell_count; /* how many of `cells` count; 1 to SK_INTERRUPT_CELLS */
    uint32_t cells[SK_INTERRUPT_CELLS];
};

struct sk_platform {
    void *context;            /* first argument of every hook */
    const struct sk_log *log; /* NULL: silence */

    /* Nanoseconds of a clock that never goes back.  Required. */
    uint64_t (*now_ns)(void *context);

    /*
     * Rests while *word equals `seen`, at the longest until the clock reaches
     * `until_ns`; returning early is always allowed.  An interrupt handler
     * changes *word, so the hook must not miss a change between its look and
     * its sleep (mask interrupts, look, sleep, unmask).  `word` NULL: a short
     * pause between two looks at a register.  NULL hook: busy waiting.
     */
    void (*wait)(void *context, const sk_atomic_u32 *word, uint32_t seen, uint64_t until_ns);

    /*
     * The same for a word that the handler of this interrupt alone changes, if
     * one thread at a time waits for it: for platforms that sleep on something
     * of the interrupt's own, as a process does on a file descriptor.  NULL hook:
     * `wait` is used.
     */
    void (*wait_interrupt)(void *context, const struct sk_interrupt *interrupt,
                           const sk_atomic_u32 *word, uint32_t seen, uint64_t until_ns);

    /*
     * *word was changed by a thread, not by the handler of `interrupt`, on which
     * its waiters depend: ends their rest on other cores.  Called when a device
     * was stopped, from any thread, not from handlers.  NULL hook: they rest on,
     * until the time that their wait was given, or a quarter of the timeout of
     * requests that they have at the device.
     */
    void (*wake)(void *context, const struct sk_interrupt *interrupt, const sk_atomic_u32 *word);

    /*
     * Makes `bytes` of device registers at `base` accessible and describes
     * them in *out_mmio, or refuses: the place to reject a range that is not
     * device registers (a hostile BAR or device tree that points at memory).
     * Any failure status; nothing is mapped then.  Required.
     */
    enum sk_status (*map_mmio)(void *context, sk_paddr base, uint64_t bytes,
                               struct sk_mmio *out_mmio);
    /* Takes back a mapping.  NULL: mappings live for ever. */
    void (*unmap_mmio)(void *context, struct sk_mmio *mmio);

    /*
     * Calls `handler(argument)` at each interrupt of this line until it is
     * detached.  NULL: there are no interrupts and drivers are polled.
     */
    enum sk_status (*attach_interrupt)(void *context, const struct sk_interrupt *interrupt,
                                       void (*handler)(void *argument), void *argument);
    /* After it returns the handler neither runs nor will run again. */
    void (*detach_interrupt)(void *context, const struct sk_interrupt *interrupt);

    /*
     * Stores the physical address of one CPU address.  Contiguity is promised
     * up to the end of that page (`page_bytes`) only.  NULL: foreign memory
     * cannot be mapped for a device, only memory from an arena.
     */
    enum sk_status (*physical_of)(void *context, const void *cpu, sk_paddr *out_paddr);
    uint32_t page_bytes; /* power of two; 0: 4096 */

    /*
     * Cache maintenance by virtual address, for devices that do not snoop:
     * write dirty lines back; discard lines.  NULL: only coherent devices work.
     */
    void (*cache_clean)(void *context, const void *cpu, size_t bytes);
    void (*cache_invalidate)(void *context, const void *cpu, size_t bytes);
    uint32_t cache_line_bytes; /* power of two; 0: 64 */
};

SK_END_DECLS

#endif
