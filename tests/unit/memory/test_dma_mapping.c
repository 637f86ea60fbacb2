/* SPDX-License-Identifier: MIT */
/* Foreign memory: sk_dma_domain_map, unmap and quarantine. */
#define _DEFAULT_SOURCE /* MAP_ANONYMOUS */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "support/iommu.h"

#define PAGES    16u
#define PAGE     ((uint64_t)SK_DMA_PAGE_BYTES)
#define SEGMENTS 16u
#define FOUR_GIB (UINT64_C(1) << 32)

/* The environment, one more domain in it, and one mapping. */
struct fixture {
    struct test_environment env;
    struct test_iommu iommu;
    struct sk_dma_domain domain;
    struct sk_dma_segment segments[SEGMENTS];
    struct sk_dma_mapping mapping;
};

static int setup(void **state)
{
    static struct fixture f;

    memset(&f, 0, sizeof(f));
    test_environment_init(&f.env, PAGES);
    test_iommu_init(&f.iommu, UINT64_C(0x700000000000));
    *state = &f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    if (f->domain.platform != NULL) {
        assert_int_equal(sk_dma_domain_deinit(&f->domain), SK_OK);
    }
    assert_int_equal(f->iommu.live, 0);
    test_environment_deinit(&f->env);
    return 0;
}

static int teardown_abandon(void **state)
{
    struct fixture *f = *state;

    test_environment_abandon(&f->env);
    return 0;
}

/* Makes the fixture's domain: the environment's windows, and what the caller wants. */
static void use_domain(struct fixture *f, struct sk_dma_domain_config config)
{
    config.platform = &f->env.platform;
    config.arena = &f->env.arena;
    if (config.windows == NULL) {
        config.windows = f->env.windows;
        config.window_count = 2;
    }
    assert_int_equal(sk_dma_domain_init(&f->domain, &config), SK_OK);
}

static enum sk_status map(struct fixture *f, void *cpu, uint64_t bytes,
                          enum sk_dma_direction direction,
                          const struct sk_dma_constraints *constraints)
{
    memset(f->segments, 0xee, sizeof(f->segments));
    memset(&f->mapping, 0xee, sizeof(f->mapping));
    return sk_dma_domain_map(&f->domain, cpu, bytes, direction, constraints, f->segments, SEGMENTS,
                             &f->mapping);
}

static uint64_t pages_live(const struct fixture *f)
{
    struct sk_dma_arena_statistics statistics;

    sk_dma_arena_get_statistics(&f->env.arena, &statistics);
    assert_true(sk_dma_arena_check(&f->env.arena));
    return statistics.pages_live;
}

static struct sk_dma_domain_statistics statistics_of(const struct fixture *f)
{
    struct sk_dma_domain_statistics statistics;

    sk_dma_domain_get_statistics(&f->domain, &statistics);
    return statistics;
}

/* After a failure: as if nobody had asked. */
static void assert_untouched(const struct fixture *f)
{
    assert_null(f->mapping.domain);
    assert_int_equal(f->mapping.segment_count, 0);
    assert_int_equal(f->iommu.live, 0);
    assert_int_equal(pages_live(f), 0);
    assert_int_equal(statistics_of(f).mappings_live, 0);
    assert_int_equal(statistics_of(f).bounced_bytes, 0);
    assert_int_equal(statistics_of(f).bounced_mappings, 0);
}

/* Where the device finds byte `offset` of the mapping. */
static uint8_t *device_byte(const struct fixture *f, uint64_t offset)
{
    for (size_t i = 0; i < f->mapping.segment_count; i++) {
        const struct sk_dma_segment *segment = &f->segments[i];

        if (offset < segment->bytes) {
            uint64_t address = segment->address.raw + offset;
            void *found = f->domain.iommu == NULL
                              ? test_environment_reach(&f->env, address, 1)
                              : test_iommu_reach(&f->iommu, &f->env, address, 1);

            assert_non_null(found);
            return found;
        }
        offset -= segment->bytes;
    }
    fail_msg("the segments are too short");
    return NULL;
}

static uint64_t total_bytes(const struct fixture *f)
{
    uint64_t total = 0;

    for (size_t i = 0; i < f->mapping.segment_count; i++) {
        total += f->segments[i].bytes;
    }
    return total;
}

static void fill_pattern(uint8_t *memory, uint64_t bytes, unsigned salt)
{
    for (uint64_t i = 0; i < bytes; i++) {
        memory[i] = (uint8_t)(i * 7 + i / 251 + salt);
    }
}

/* The device sees what the CPU wrote, byte for byte. */
static void assert_device_sees(const struct fixture *f, const uint8_t *memory, uint64_t bytes)
{
    assert_int_equal(total_bytes(f), bytes);
    for (uint64_t i = 0; i < bytes; i++) {
        if (*device_byte(f, i) != memory[i]) {
            fail_msg("byte %llu differs", (unsigned long long)i);
        }
    }
}

static void device_writes(const struct fixture *f, uint64_t bytes, unsigned salt)
{
    for (uint64_t i = 0; i < bytes; i++) {
        *device_byte(f, i) = (uint8_t)(i * 3 + salt);
    }
}

static void assert_device_wrote(const uint8_t *memory, uint64_t bytes, unsigned salt)
{
    for (uint64_t i = 0; i < bytes; i++) {
        if (memory[i] != (uint8_t)(i * 3 + salt)) {
            fail_msg("byte %llu is not the device's", (unsigned long long)i);
        }
    }
}

/* Directly */

static void test_dma_domain_map__neighbours_merge_and_others_split(void **state)
{
    struct fixture *f = *state;
    uint8_t *memory = test_environment_foreign(&f->env, 0);

    use_domain(f, (struct sk_dma_domain_config){ .coherent = true });
    fill_pattern(memory, 6 * PAGE, 1);
    assert_int_equal(map(f, memory + 100, 5 * PAGE, SK_DMA_BOTH, NULL), SK_OK);
    assert_false(f->mapping.bounced);
    /* Pages 0 1, 2 3 and 4 5 are physical neighbours. */
    assert_int_equal(f->mapping.segment_count, 3);
    assert_int_equal(f->segments[0].bytes, 2 * PAGE - 100);
    assert_int_equal(f->segments[1].bytes, 2 * PAGE);
    assert_int_equal(f->segments[2].bytes, PAGE + 100);
    assert_device_sees(f, memory + 100, 5 * PAGE);
    device_writes(f, 5 * PAGE, 9);
    assert_int_equal(statistics_of(f).mappings_live, 1);
    assert_int_equal(sk_dma_domain_unmap(&f->mapping, 5 * PAGE), SK_OK);
    assert_null(f->mapping.domain);
    assert_device_wrote(memory + 100, 5 * PAGE, 9);
    assert_int_equal(statistics_of(f).bounced_bytes, 0);
    assert_int_equal(statistics_of(f).mappings_live, 0);
    assert_int_equal(f->env.cleans + f->env.invalidates, 0);
}

static void test_dma_domain_map__every_offset_and_length(void **state)
{
    struct fixture *f = *state;
    uint8_t *memory = test_environment_foreign(&f->env, 0);
    static const uint64_t edges[] = { 1, 2, 511, 512, 4095, 4096, 4097, 8191, 8192, 8193, 12289 };

    use_domain(f, (struct sk_dma_domain_config){ .coherent = true });
    fill_pattern(memory, 8 * PAGE, 2);
    for (uint64_t offset = 0; offset < 2 * PAGE; offset += 1365) {
        for (size_t i = 0; i < sizeof(edges) / sizeof(edges[0]); i++) {
            assert_int_equal(map(f, memory + offset, edges[i], SK_DMA_TO_DEVICE, NULL), SK_OK);
            assert_device_sees(f, memory + offset, edges[i]);
            assert_int_equal(sk_dma_domain_unmap(&f->mapping, 0), SK_OK);
        }
    }
}

static void test_dma_domain_map__limits_on_a_segment_split(void **state)
{
    struct fixture *f = *state;
    uint8_t *memory = test_environment_foreign(&f->env, 0);
    struct sk_dma_constraints limits = { .segment_bytes_max = 1500, .boundary_bytes = 2048 };

    use_domain(f, (struct sk_dma_domain_config){ .limits = limits, .coherent = true });
    fill_pattern(memory, 2 * PAGE, 3);
    assert_int_equal(map(f, memory, 2 * PAGE, SK_DMA_TO_DEVICE, NULL), SK_OK);
    assert_int_equal(f->mapping.segment_count, 8); /* 1500 and 548, four times */
    for (size_t i = 0; i < 8; i++) {
        uint64_t first = f->segments[i].address.raw;
        uint64_t last = first + f->segments[i].bytes - 1;

        assert_int_equal(f->segments[i].bytes, i % 2 == 0 ? 1500 : 548);
        assert_int_equal(first / 2048, last / 2048);
    }
    assert_device_sees(f, memory, 2 * PAGE);
    assert_int_equal(sk_dma_domain_unmap(&f->mapping, 0), SK_OK);
}

static void test_dma_domain_map__a_segment_grows_across_a_page_up_to_its_limit(void **state)
{
    struct fixture *f = *state;
    struct sk_dma_constraints wanted = { .segment_bytes_max = 1500 };

    use_domain(f, (struct sk_dma_domain_config){ .coherent = true });
    assert_int_equal(map(f, test_environment_foreign(&f->env, 0), 2 * PAGE, SK_DMA_BOTH, &wanted),
                     SK_OK);
    assert_int_equal(f->mapping.segment_count, 6);
    for (size_t i = 0; i < 6; i++) {
        assert_int_equal(f->segments[i].bytes, i < 5 ? 1500 : 2 * PAGE - 5 * 1500);
    }
    assert_int_equal(sk_dma_domain_unmap(&f->mapping, 0), SK_OK);
}

static void test_dma_domain_map__a_limited_piece_stays_aligned(void **state)
{
    struct fixture *f = *state;
    uint8_t *memory = test_environment_foreign(&f->env, 0);
    struct sk_dma_constraints wanted = { .segment_bytes_max = 1500, .alignment_bytes = 512,
                                         .size_bytes = UINT64_MAX /* of no interest */ };

    use_domain(f, (struct sk_dma_domain_config){ .coherent = true });
    assert_int_equal(map(f, memory, 2 * PAGE, SK_DMA_TO_DEVICE, &wanted), SK_OK);
    assert_false(f->mapping.bounced);
    for (size_t i = 0; i < f->mapping.segment_count; i++) {
        assert_int_equal(f->segments[i].address.raw % 512, 0);
        assert_true(f->segments[i].bytes <= 1500);
    }
    assert_int_equal(total_bytes(f), 2 * PAGE);
    assert_int_equal(sk_dma_domain_unmap(&f->mapping, 0), SK_OK);
    /* One piece that is short enough is not cut for the sake of a next one. */
    wanted.segment_count_max = 1;
    assert_int_equal(map(f, memory, 1400, SK_DMA_TO_DEVICE, &wanted), SK_OK);
    assert_int_equal(f->mapping.segment_count, 1);
    assert_int_equal(sk_dma_domain_unmap(&f->mapping, 0), SK_OK);
}

/* Hostile-device case 30. */
static void test_dma_domain_map__four_gib_and_more_are_split_not_truncated(void **state)
{
    struct fixture *f = *state;
    const struct test_environment saved = f->env;
    const uint32_t big_page = 1u << 21;
    static const uint64_t sizes[] = { FOUR_GIB - 1, FOUR_GIB, FOUR_GIB + 1, 2 * FOUR_GIB };
    static uint32_t straight[2 * FOUR_GIB / SK_DMA_PAGE_BYTES];
    const struct sk_dma_window windows[1] = { { { 0 }, { TEST_DEVICE_OFFSET }, FOUR_GIB << 8 } };
    /* Address space without memory: nothing may touch it. */
    uint8_t *space = mmap(NULL, 2 * FOUR_GIB + big_page, PROT_NONE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    assert_true(space != MAP_FAILED);
    use_domain(f, (struct sk_dma_domain_config){ .windows = windows, .window_count = 1,
                                                 .coherent = true });
    for (uint32_t page = 0; page < sizeof(straight) / sizeof(straight[0]); page++) {
        straight[page] = page;
    }
    f->env.platform.page_bytes = big_page;
    f->env.foreign_memory = space + (big_page - ((uintptr_t)space & (big_page - 1)));
    f->env.foreign_pages = sizeof(straight) / sizeof(straight[0]);
    f->env.foreign_order = straight;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        uint64_t expected = TEST_FOREIGN_PADDR + TEST_DEVICE_OFFSET;

        assert_int_equal(map(f, f->env.foreign_memory, sizes[i], SK_DMA_BOTH, NULL), SK_OK);
        assert_int_equal(total_bytes(f), sizes[i]);
        for (size_t k = 0; k < f->mapping.segment_count; k++) {
            assert_int_equal(f->segments[k].address.raw, expected);
            expected += f->segments[k].bytes;
        }
        assert_int_equal(sk_dma_domain_unmap(&f->mapping, 0), SK_OK);
    }
    f->env.platform.page_bytes = 0;
    f->env.foreign_memory = saved.foreign_memory;
    f->env.foreign_pages = saved.foreign_pages;
    f->env.foreign_order = saved.foreign_order;
    assert_int_equal(munmap(space, 2 * FOUR_GIB + big_page), 0);
}

static void test_dma_domain_map__bad_arguments_change_nothing(void **state)
{
    struct fixture *f = *state;
    uint8_t *memory = test_environment_foreign(&f->env, 0);
    struct sk_dma_constraints odd = { .alignment_bytes = 3 };
    struct sk_dma_constraints never = { .segment_count_max = 1, .segment_bytes_max = 512 };

    use_domain(f, (struct sk_dma_domain_config){ .coherent = true });
    assert_int_equal(map(f, memory, 0, SK_DMA_BOTH, NULL), SK_ERR_SIZE);
    assert_int_equal(map(f, memory, UINT64_MAX, SK_DMA_BOTH, NULL), SK_ERR_SIZE);
    /* The last byte of memory exists (and nobody knows where); the one behind it does not. */
    assert_int_equal(map(f, (void *)UINTPTR_MAX, 1, SK_DMA_BOTH, NULL), SK_ERR_NOT_FOUND);
    assert_int_equal(map(f, (void *)UINTPTR_MAX, 2, SK_DMA_BOTH, NULL), SK_ERR_SIZE);
    assert_int_equal(map(f, NULL, 1, SK_DMA_BOTH, NULL), SK_ERR_INVALID);
    assert_int_equal(map(f, memory, 1, SK_DMA_DIRECTION_COUNT, NULL), SK_ERR_INVALID);
    assert_int_equal(map(f, memory, 1, SK_DMA_BOTH, &odd), SK_ERR_ALIGNMENT);
    assert_int_equal(map(f, memory, 513, SK_DMA_BOTH, &never), SK_ERR_RANGE);
    assert_untouched(f);
    assert_int_equal(sk_dma_domain_map(NULL, memory, 1, SK_DMA_BOTH, NULL, f->segments, 1,
                                       &f->mapping), SK_ERR_INVALID);
    assert_int_equal(sk_dma_domain_map(&f->domain, memory, 1, SK_DMA_BOTH, NULL, NULL, 1,
                                       &f->mapping), SK_ERR_INVALID);
    assert_int_equal(sk_dma_domain_map(&f->domain, memory, 1, SK_DMA_BOTH, NULL, f->segments, 0,
                                       &f->mapping), SK_ERR_INVALID);
    assert_int_equal(sk_dma_domain_map(&f->domain, memory, 1, SK_DMA_BOTH, NULL, f->segments, 1,
                                       NULL), SK_ERR_INVALID);
    assert_untouched(f);
    assert_int_equal(sk_dma_domain_unmap(&f->mapping, 0), SK_ERR_GONE);
    assert_int_equal(sk_dma_domain_unmap(NULL, 0), SK_ERR_INVALID);
    assert_int_equal(sk_dma_domain_quarantine(&f->mapping), SK_ERR_GONE);
    assert_int_equal(sk_dma_domain_quarantine(NULL), SK_ERR_INVALID);
}

static void test_dma_domain_unmap__twice_is_refused(void **state)
{
    struct fixture *f = *state;

    use_domain(f, (struct sk_dma_domain_config){ .coherent = true, .force_bounce = true });
    assert_int_equal(map(f, test_environment_foreign(&f->env, 0), 100, SK_DMA_BOTH, NULL), SK_OK);
    assert_int_equal(sk_dma_domain_unmap(&f->mapping, 100), SK_OK);
    assert_int_equal(sk_dma_domain_unmap(&f->mapping, 100), SK_ERR_GONE);
    assert_int_equal(pages_live(f), 0);
}

static void test_dma_domain_map__no_translation_unsupported_unless_copied(void **state)
{
    struct fixture *f = *state;
    uint8_t *memory = test_environment_foreign(&f->env, 0);

    use_domain(f, (struct sk_dma_domain_config){ .coherent = true });
    f->env.platform.physical_of = NULL;
    assert_int_equal(map(f, memory, 100, SK_DMA_BOTH, NULL), SK_ERR_UNSUPPORTED);
    assert_untouched(f);
    assert_int_equal(sk_dma_domain_deinit(&f->domain), SK_OK);
    use_domain(f, (struct sk_dma_domain_config){ .coherent = true, .force_bounce = true });
    assert_int_equal(map(f, memory, 100, SK_DMA_BOTH, NULL), SK_OK);
    assert_int_equal(sk_dma_domain_unmap(&f->mapping, 0), SK_OK);
}

/* Bounced */

/* All reasons to copy, in one table. */
static void test_dma_domain_map__bounces_where_it_must(void **state)
{
    struct fixture *f = *state;
    uint8_t *memory = test_environment_foreign(&f->env, 0);
    const struct sk_dma_window arena_only[1] = {
        { { TEST_PADDR }, { TEST_PADDR + TEST_DEVICE_OFFSET }, PAGES * PAGE }
    };
    const struct {
        struct sk_dma_domain_config config;
        struct sk_dma_constraints wanted;
        uint64_t offset;
        uint64_t bytes;
        bool bounced;
    } cases[] = {
        { { .coherent = true }, { 0 }, 1, 5 * PAGE, false },
        { { .coherent = true }, { .copied = true }, 0, 5 * PAGE, true },
        { { .coherent = true, .force_bounce = true }, { 0 }, 1, 5 * PAGE, true },
        { { .coherent = true, .windows = arena_only, .window_count = 1 }, { 0 }, 0, 100, true },
        { { .coherent = true }, { .highest = { TEST_PADDR + TEST_DEVICE_OFFSET + 9 * PAGE } },
          0, 100, true },
        { { .coherent = true }, { .alignment_bytes = 16 }, 8, 100, true },
        { { .coherent = true }, { .alignment_bytes = 16 }, 16, 100, false },
        { { .coherent = true }, { .segment_count_max = 2 }, 0, 4 * PAGE, false },
        { { .coherent = true }, { .segment_count_max = 2 }, 0, 4 * PAGE + 1, true },
        { { .coherent = true }, { .segment_count_max = 1 }, PAGE, 2 * PAGE, true },
        { { .coherent = false }, { 0 }, 0, 128, false },
        { { .coherent = false }, { 0 }, 0, 100, true },
        { { .coherent = false }, { 0 }, 8, 128, true },
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint8_t *start = memory + cases[i].offset;

        use_domain(f, cases[i].config);
        fill_pattern(memory, 6 * PAGE, (unsigned)i);
        assert_int_equal(map(f, start, cases[i].bytes, SK_DMA_BOTH, &cases[i].wanted), SK_OK);
        if (f->mapping.bounced != cases[i].bounced) {
            fail_msg("case %zu", i);
        }
        assert_device_sees(f, start, cases[i].bytes);
        device_writes(f, cases[i].bytes, (unsigned)i);
        assert_int_equal(sk_dma_domain_unmap(&f->mapping, cases[i].bytes), SK_OK);
        assert_device_wrote(start, cases[i].bytes, (unsigned)i);
        assert_int_equal(pages_live(f), 0);
        assert_true(!cases[i].config.coherent || f->env.cleans + f->env.invalidates == 0);
        assert_int_equal(statistics_of(f).bounced_mappings, cases[i].bounced);
        assert_int_equal(statistics_of(f).bounced_bytes,
                         cases[i].bounced ? 2 * cases[i].bytes : 0);
        assert_int_equal(sk_dma_domain_deinit(&f->domain), SK_OK);
    }
    use_domain(f, (struct sk_dma_domain_config){ .coherent = true });
}

static void test_dma_domain_unmap__copies_back_what_was_written_and_no_more(void **state)
{
    struct fixture *f = *state;
    uint8_t *memory = test_environment_foreign(&f->env, 0);
    static const uint64_t written[] = { 0, 1, 99, 100, 101, UINT64_MAX };

    use_domain(f, (struct sk_dma_domain_config){ .coherent = true, .force_bounce = true });
    for (size_t i = 0; i < sizeof(written) / sizeof(written[0]); i++) {
        uint64_t expected = written[i] < 100 ? written[i] : 100;

        for (int direction = 0; direction < SK_DMA_DIRECTION_COUNT; direction++) {
            bool back = direction != SK_DMA_TO_DEVICE;

            memset(memory, 0x5a, PAGE);
            assert_int_equal(map(f, memory + 8, 100, (enum sk_dma_direction)direction, NULL),
                             SK_OK);
            device_writes(f, 100, 77);
            assert_int_equal(sk_dma_domain_unmap(&f->mapping, written[i]), SK_OK);
            assert_device_wrote(memory + 8, back ? expected : 0, 77);
            for (uint64_t k = 8 + (back ? expected : 0); k < PAGE; k++) {
                assert_int_equal(memory[k], 0x5a); /* neither stale nor overrun */
            }
            for (uint64_t k = 0; k < 8; k++) {
                assert_int_equal(memory[k], 0x5a);
            }
        }
    }
}

/* Hostile-device cases 28 and 29: device-visible pages hold the request and zeros. */
static void test_dma_domain_map__bounce_shows_no_old_memory_and_no_neighbours(void **state)
{
    struct fixture *f = *state;
    uint8_t *memory = test_environment_foreign(&f->env, 0);

    use_domain(f, (struct sk_dma_domain_config){ .coherent = true, .force_bounce = true });
    for (int direction = 0; direction < SK_DMA_DIRECTION_COUNT; direction++) {
        const uint8_t *page;
        uint64_t seen;

        memset(f->env.zone_memory, 0xa5, f->env.zone_bytes); /* secrets of the last owner */
        memset(memory, 0x77, PAGE);                          /* secrets of the neighbours */
        memset(memory + 200, 0x11, 300);                     /* the request */
        assert_int_equal(map(f, memory + 200, 300, (enum sk_dma_direction)direction, NULL), SK_OK);
        seen = direction == SK_DMA_FROM_DEVICE ? 0 : 300;
        page = device_byte(f, 0);
        for (uint64_t i = 0; i < PAGE; i++) {
            if (page[i] != (i < seen ? 0x11 : 0)) {
                fail_msg("direction %d: byte %llu leaks", direction, (unsigned long long)i);
            }
        }
        assert_int_equal(sk_dma_domain_unmap(&f->mapping, 0), SK_OK);
    }
}

static void test_dma_domain_map__bounce_keeps_to_the_constraints(void **state)
{
    struct fixture *f = *state;
    uint8_t *memory = test_environment_foreign(&f->env, 0);
    const uint64_t base = TEST_PADDR + TEST_DEVICE_OFFSET;
    struct sk_dma_constraints wanted = { .alignment_bytes = 64,
                                         .boundary_bytes = 2 * PAGE,
                                         .segment_bytes_max = 2 * PAGE,
                                         .segment_count_max = 2,
                                         .lowest = { base + PAGE },
                                         .highest = { base + PAGES * PAGE - 1 } };
    struct sk_io_buffer first_page = SK_IO_BUFFER_EMPTY;

    use_domain(f, (struct sk_dma_domain_config){ .coherent = true, .force_bounce = true });
    fill_pattern(memory, 4 * PAGE, 5);
    assert_int_equal(map(f, memory + 1, 4 * PAGE - 1, SK_DMA_BOTH, &wanted), SK_OK);
    assert_int_equal(f->mapping.segment_count, 2); /* the run starts on a boundary */
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(f->segments[i].address.raw % (2 * PAGE), 0);
        assert_true(f->segments[i].address.raw >= base + PAGE);
    }
    assert_device_sees(f, memory + 1, 4 * PAGE - 1);
    assert_int_equal(sk_dma_domain_unmap(&f->mapping, 0), SK_OK);
    /* One piece must lie between two boundaries, even if earlier pages are free. */
    wanted = (struct sk_dma_constraints){ .boundary_bytes = 2 * PAGE, .segment_count_max = 1 };
    assert_int_equal(sk_io_buffer_create(&first_page, &f->env.domain, 1, 1), SK_OK);
    assert_int_equal(map(f, memory + 1, 2 * PAGE, SK_DMA_BOTH, &wanted), SK_OK);
    assert_int_equal(f->mapping.segment_count, 1);
    assert_int_equal(f->segments[0].address.raw, base + 2 * PAGE);
    assert_int_equal(sk_dma_domain_unmap(&f->mapping, 0), SK_OK);
    assert_int_equal(sk_io_buffer_destroy(&first_page), SK_OK);
    /* What not even a copy can satisfy: a piece that must end before the next can be aligned. */
    wanted = (struct sk_dma_constraints){ .alignment_bytes = 2 * PAGE, .segment_bytes_max = PAGE };
    assert_int_equal(map(f, memory, 2 * PAGE, SK_DMA_BOTH, &wanted), SK_ERR_UNREACHABLE);
    assert_int_equal(pages_live(f), 0);
}

static void test_dma_domain_map__every_lack_of_bounce_memory_is_clean(void **state)
{
    struct fixture *f = *state;
    uint8_t *memory = test_environment_foreign(&f->env, 0);

    use_domain(f, (struct sk_dma_domain_config){ .coherent = true, .force_bounce = true });
    for (uint64_t spare = 0; spare <= 3; spare++) {
        struct sk_io_buffer hog = SK_IO_BUFFER_EMPTY;

        assert_int_equal(sk_io_buffer_create(&hog, &f->env.domain, (PAGES - spare) * PAGE, 1),
                         SK_OK);
        assert_int_equal(map(f, memory, 2 * PAGE + 1, SK_DMA_TO_DEVICE, NULL),
                         spare < 3 ? SK_ERR_NO_MEMORY : SK_OK);
        if (spare == 3) {
            assert_int_equal(sk_dma_domain_unmap(&f->mapping, 0), SK_OK);
        } else {
            assert_null(f->mapping.domain);
        }
        assert_int_equal(pages_live(f), PAGES - spare);
        assert_int_equal(sk_io_buffer_destroy(&hog), SK_OK);
    }
    assert_int_equal(map(f, memory, 1, SK_DMA_TO_DEVICE, NULL), SK_OK);
    assert_int_equal(sk_dma_domain_unmap(&f->mapping, 0), SK_OK);
    assert_int_equal(sk_dma_domain_map(&f->domain, memory, UINT64_C(1) << 40, SK_DMA_TO_DEVICE,
                                       NULL, f->segments, SEGMENTS, &f->mapping),
                     SK_ERR_NO_MEMORY);
}

static void test_dma_domain_quarantine__bounce_memory_is_never_used_again(void **state)
{
    struct fixture *f = *state;
    struct sk_dma_arena_statistics arena;

    use_domain(f, (struct sk_dma_domain_config){ .coherent = true, .force_bounce = true });
    assert_int_equal(map(f, test_environment_foreign(&f->env, 0), 100, SK_DMA_BOTH, NULL), SK_OK);
    assert_int_equal(sk_dma_domain_quarantine(&f->mapping), SK_OK);
    assert_null(f->mapping.domain);
    assert_int_equal(f->env.lines[SK_LOG_WARNING], 1);
    sk_dma_arena_get_statistics(&f->env.arena, &arena);
    assert_int_equal(arena.pages_quarantined, 1);
    assert_int_equal(statistics_of(f).mappings_live, 0);
    assert_int_equal(sk_dma_domain_unmap(&f->mapping, 100), SK_ERR_GONE);
    assert_int_equal(sk_dma_domain_deinit(&f->domain), SK_OK);
}

static void test_dma_domain_quarantine__foreign_memory_stays_the_owners(void **state)
{
    struct fixture *f = *state;

    use_domain(f, (struct sk_dma_domain_config){ .coherent = true });
    assert_int_equal(map(f, test_environment_foreign(&f->env, 0), 100, SK_DMA_BOTH, NULL), SK_OK);
    assert_int_equal(sk_dma_domain_quarantine(&f->mapping), SK_OK);
    assert_int_equal(pages_live(f), 0);
    assert_int_equal(statistics_of(f).mappings_live, 0);
}

/* Devices that do not snoop */

static void test_dma_domain_map__caches_are_kept_in_order(void **state)
{
    struct fixture *f = *state;
    uint8_t *memory = test_environment_foreign(&f->env, 0);

    test_environment_enable_caches(&f->env);
    use_domain(f, (struct sk_dma_domain_config){ .coherent = false });
    for (int direct = 0; direct < 2; direct++) {
        uint8_t *start = memory + (direct ? 64 : 8);
        uint64_t bytes = PAGE + (direct ? 64 : 9);

        fill_pattern(memory, 3 * PAGE, (unsigned)direct);
        assert_int_equal(map(f, start, bytes, SK_DMA_BOTH, NULL), SK_OK);
        assert_int_equal(f->mapping.bounced, !direct);
        assert_device_sees(f, start, bytes);
        device_writes(f, bytes, 42);
        assert_int_equal(sk_dma_domain_unmap(&f->mapping, bytes), SK_OK);
        assert_device_wrote(start, bytes, 42);
    }
}

static void test_dma_domain_map__neighbours_in_a_cache_line_lose_nothing(void **state)
{
    struct fixture *f = *state;
    uint8_t *memory = test_environment_foreign(&f->env, 0);

    test_environment_enable_caches(&f->env);
    use_domain(f, (struct sk_dma_domain_config){ .coherent = false });
    for (uint64_t offset = 0; offset < 130; offset += 13) {
        for (uint64_t bytes = 1; bytes < 200; bytes += 21) {
            memset(memory, 0x5a, PAGE);
            assert_int_equal(map(f, memory + offset, bytes, SK_DMA_FROM_DEVICE, NULL), SK_OK);
            device_writes(f, bytes, 3);
            /* The CPU goes on to write around the request meanwhile. */
            memset(memory, 0x66, (size_t)offset);
            memset(memory + offset + bytes, 0x66, (size_t)(PAGE - offset - bytes));
            assert_int_equal(sk_dma_domain_unmap(&f->mapping, bytes), SK_OK);
            assert_device_wrote(memory + offset, bytes, 3);
            for (uint64_t i = 0; i < PAGE; i++) {
                if ((i < offset || i >= offset + bytes) && memory[i] != 0x66) {
                    fail_msg("offset %llu, %llu bytes: neighbour %llu lost",
                             (unsigned long long)offset, (unsigned long long)bytes,
                             (unsigned long long)i);
                }
            }
        }
    }
}

static void test_dma_domain_map__without_cache_hooks_unsupported(void **state)
{
    struct fixture *f = *state;

    use_domain(f, (struct sk_dma_domain_config){ .coherent = false });
    f->env.platform.cache_clean = NULL;
    assert_int_equal(map(f, test_environment_foreign(&f->env, 0), 128, SK_DMA_BOTH, NULL),
                     SK_ERR_UNSUPPORTED);
    assert_untouched(f);
}

static void test_dma_domain_map__uncached_memory_serves_without_cache_hooks(void **state)
{
    struct fixture *f = *state;
    static uint8_t metadata[1 << 16] __attribute__((aligned(64)));
    struct sk_dma_zone zone = f->env.zone;
    struct sk_dma_arena arena;
    uint8_t *memory = test_environment_foreign(&f->env, 0);

    zone.flags = SK_DMA_ZONE_UNCACHED;
    f->env.platform.cache_clean = NULL;
    f->env.platform.cache_invalidate = NULL;
    assert_int_equal(sk_dma_arena_init(&arena, &zone, 1, metadata, sizeof(metadata), &f->env.log),
                     SK_OK);
    for (int coherent = 0; coherent < 2; coherent++) {
        struct sk_io_buffer buffer = SK_IO_BUFFER_EMPTY;
        struct sk_dma_domain_config config = { .platform = &f->env.platform, .arena = &arena,
                                               .windows = f->env.windows, .window_count = 2,
                                               .coherent = coherent != 0 };

        assert_int_equal(sk_dma_domain_init(&f->domain, &config), SK_OK);
        assert_int_equal(sk_io_buffer_create(&buffer, &f->domain, PAGE, 64), SK_OK);
        assert_true(sk_io_buffer_is_coherent(&buffer));
        assert_int_equal(sk_io_buffer_destroy(&buffer), SK_OK);
        fill_pattern(memory, 2 * PAGE, 11);
        assert_int_equal(map(f, memory, PAGE, SK_DMA_BOTH, NULL), SK_OK);
        assert_int_equal(f->mapping.bounced, !coherent);
        assert_device_sees(f, memory, PAGE);
        device_writes(f, PAGE, 12);
        assert_int_equal(sk_dma_domain_unmap(&f->mapping, PAGE), SK_OK);
        assert_device_wrote(memory, PAGE, 12);
        assert_int_equal(sk_dma_domain_deinit(&f->domain), SK_OK);
    }
    assert_true(sk_dma_arena_check(&arena));
}

static void test_io_buffer_for_device__data_crosses_the_caches(void **state)
{
    struct fixture *f = *state;
    struct sk_io_buffer buffer = SK_IO_BUFFER_EMPTY;
    sk_daddr address;
    uint8_t *data;
    uint8_t *seen;

    test_environment_enable_caches(&f->env);
    use_domain(f, (struct sk_dma_domain_config){ .coherent = false });
    assert_int_equal(sk_io_buffer_create(&buffer, &f->domain, 2 * PAGE, 64), SK_OK);
    assert_int_equal(sk_io_buffer_address(&buffer, &address), SK_OK);
    data = sk_io_buffer_data(&buffer);
    seen = test_environment_reach(&f->env, address.raw, 2 * PAGE);
    for (uint64_t i = 0; i < 2 * PAGE; i++) {
        assert_int_equal(seen[i], 0); /* zeroed for the device too, not only for the CPU */
    }
    fill_pattern(data, 512, 4);
    assert_int_equal(sk_io_buffer_for_device(&buffer, 0, 512, SK_DMA_TO_DEVICE), SK_OK);
    assert_memory_equal(seen, data, 512);
    assert_int_equal(sk_io_buffer_for_cpu(&buffer, 0, 512, SK_DMA_TO_DEVICE), SK_OK);
    assert_int_equal(sk_io_buffer_for_device(&buffer, PAGE, 512, SK_DMA_FROM_DEVICE), SK_OK);
    memset(seen + PAGE, 0x99, 512);
    assert_int_equal(sk_io_buffer_for_cpu(&buffer, PAGE, 512, SK_DMA_FROM_DEVICE), SK_OK);
    assert_memory_equal(seen + PAGE, data + PAGE, 512);
    assert_memory_equal(seen, data, 512);
    assert_int_equal(sk_io_buffer_destroy(&buffer), SK_OK);
}

/* IOMMU */

static void test_dma_domain_map__iommu_maps_runs_and_takes_them_back_in_reverse(void **state)
{
    struct fixture *f = *state;
    uint8_t *memory = test_environment_foreign(&f->env, 0);

    use_domain(f, (struct sk_dma_domain_config){ .iommu = &f->iommu.hooks, .coherent = true });
    fill_pattern(memory, 5 * PAGE, 6);
    assert_int_equal(map(f, memory, 5 * PAGE, SK_DMA_TO_DEVICE, NULL), SK_OK);
    assert_false(f->mapping.bounced);
    assert_int_equal(f->mapping.segment_count, 3);
    assert_int_equal(f->iommu.live, 3);
    assert_int_equal(f->iommu.maps[0].direction, SK_DMA_TO_DEVICE);
    assert_device_sees(f, memory, 5 * PAGE);
    assert_int_equal(sk_dma_domain_unmap(&f->mapping, 0), SK_OK);
    assert_int_equal(f->iommu.live, 0);
    assert_int_equal(f->iommu.out_of_order, 0);
}

static void test_dma_domain_map__iommu_shows_whole_pages_of_the_request_only(void **state)
{
    struct fixture *f = *state;
    uint8_t *memory = test_environment_foreign(&f->env, 0);

    use_domain(f, (struct sk_dma_domain_config){ .iommu = &f->iommu.hooks, .coherent = true });
    fill_pattern(memory, 3 * PAGE, 7);
    assert_int_equal(map(f, memory + 512, 2 * PAGE, SK_DMA_BOTH, NULL), SK_OK);
    assert_true(f->mapping.bounced);
    assert_int_equal(f->iommu.live, 1);
    assert_device_sees(f, memory + 512, 2 * PAGE);
    device_writes(f, 2 * PAGE, 8);
    assert_int_equal(sk_dma_domain_unmap(&f->mapping, 2 * PAGE), SK_OK);
    assert_device_wrote(memory + 512, 2 * PAGE, 8);
    assert_int_equal(f->iommu.partial, 0);
}

static void test_dma_domain_map__iommu_pieces_keep_to_the_limits(void **state)
{
    struct fixture *f = *state;
    uint8_t *memory = test_environment_foreign(&f->env, 0);
    struct sk_dma_constraints wanted = { .segment_bytes_max = PAGE };

    use_domain(f, (struct sk_dma_domain_config){ .iommu = &f->iommu.hooks, .coherent = true });
    assert_int_equal(map(f, memory, 4 * PAGE, SK_DMA_BOTH, &wanted), SK_OK);
    assert_int_equal(f->mapping.segment_count, 4);
    assert_int_equal(f->iommu.live, 4);
    assert_int_equal(sk_dma_domain_unmap(&f->mapping, 0), SK_OK);
    wanted.segment_bytes_max = 2 * PAGE - 1;
    assert_int_equal(map(f, memory, 4 * PAGE, SK_DMA_BOTH, &wanted), SK_OK);
    assert_int_equal(f->iommu.live, 4);
    assert_int_equal(sk_dma_domain_unmap(&f->mapping, 0), SK_OK);
    /* Pieces below a page are many, but all in one map. */
    wanted.segment_bytes_max = 1500;
    assert_int_equal(map(f, memory, 2 * PAGE, SK_DMA_BOTH, &wanted), SK_OK);
    assert_true(f->mapping.bounced);
    assert_int_equal(f->iommu.live, 1);
    assert_int_equal(f->mapping.segment_count, 6);
    assert_int_equal(sk_dma_domain_unmap(&f->mapping, 0), SK_OK);
    assert_int_equal(f->iommu.partial, 0);
    /* More pieces than the device takes: undone, and copied into one. */
    wanted = (struct sk_dma_constraints){ .segment_count_max = 1 };
    assert_int_equal(map(f, memory, 4 * PAGE, SK_DMA_BOTH, &wanted), SK_OK);
    assert_true(f->mapping.bounced);
    assert_int_equal(f->mapping.segment_count, 1);
    assert_int_equal(f->iommu.live, 1);
    assert_int_equal(sk_dma_domain_unmap(&f->mapping, 0), SK_OK);
    assert_int_equal(f->iommu.out_of_order, 0);
    /* A place that the device cannot reach: nothing helps. */
    wanted = (struct sk_dma_constraints){ .highest = { 0xffffffff } };
    assert_int_equal(map(f, memory, 4 * PAGE, SK_DMA_BOTH, &wanted), SK_ERR_UNREACHABLE);
    assert_int_equal(f->iommu.live, 0);
    assert_int_equal(pages_live(f), 0);
}

/* Every Nth call of a hook fails: an error and nothing left, or success; never in between. */
static void test_dma_domain_map__every_failing_translation_is_clean(void **state)
{
    struct fixture *f = *state;
    uint8_t *memory = test_environment_foreign(&f->env, 0);

    for (int with_iommu = 0; with_iommu < 2; with_iommu++) {
        use_domain(f, (struct sk_dma_domain_config){
                          .iommu = with_iommu ? &f->iommu.hooks : NULL, .coherent = true });
        for (unsigned nth = 1; nth <= 6; nth++) {
            f->env.fail_call = nth;
            assert_int_equal(map(f, memory, 6 * PAGE, SK_DMA_BOTH, NULL), SK_ERR_UNREACHABLE);
            assert_int_equal(f->env.fail_call, 0);
            assert_untouched(f);
        }
        f->env.fail_call = 7;
        assert_int_equal(map(f, memory, 6 * PAGE, SK_DMA_BOTH, NULL), SK_OK);
        assert_int_equal(f->env.fail_call, 1);
        f->env.fail_call = 0;
        assert_int_equal(sk_dma_domain_unmap(&f->mapping, 0), SK_OK);
        assert_int_equal(sk_dma_domain_deinit(&f->domain), SK_OK);
    }
}

static void test_dma_domain_map__every_failing_iommu_call_is_clean(void **state)
{
    struct fixture *f = *state;
    uint8_t *memory = test_environment_foreign(&f->env, 0);

    for (int bounced = 0; bounced < 2; bounced++) {
        unsigned calls = bounced ? 1 : 3;

        use_domain(f, (struct sk_dma_domain_config){ .iommu = &f->iommu.hooks, .coherent = true,
                                                     .force_bounce = bounced != 0 });
        for (unsigned nth = 1; nth <= calls; nth++) {
            f->iommu.fail_call = nth;
            assert_int_equal(map(f, memory, 6 * PAGE, SK_DMA_BOTH, NULL), SK_ERR_NO_MEMORY);
            assert_int_equal(f->iommu.fail_call, 0);
            assert_int_equal(f->iommu.out_of_order, 0);
            assert_untouched(f);
        }
        f->iommu.fail_call = calls + 1;
        assert_int_equal(map(f, memory, 6 * PAGE, SK_DMA_BOTH, NULL), SK_OK);
        f->iommu.fail_call = 0;
        assert_int_equal(sk_dma_domain_unmap(&f->mapping, 0), SK_OK);
        assert_int_equal(sk_dma_domain_deinit(&f->domain), SK_OK);
    }
}

static void test_dma_domain_map__undo_that_fails_is_in_doubt(void **state)
{
    struct fixture *f = *state;

    use_domain(f, (struct sk_dma_domain_config){ .iommu = &f->iommu.hooks, .coherent = true });
    f->iommu.fail_call = 3; /* the third map; then the first unmap */
    f->iommu.fail_unmap = 1;
    assert_int_equal(map(f, test_environment_foreign(&f->env, 0), 6 * PAGE, SK_DMA_BOTH, NULL),
                     SK_ERR_IN_DOUBT);
    assert_null(f->mapping.domain);
    assert_int_equal(f->iommu.live, 1); /* the one that it could not undo, and no other */
    assert_int_equal(pages_live(f), 0);
    assert_int_equal(statistics_of(f).mappings_live, 0);
    assert_true(f->env.lines[SK_LOG_ERROR] >= 1);
}

static void test_dma_domain_unmap__failing_iommu_quarantines_the_bounce(void **state)
{
    struct fixture *f = *state;
    uint8_t *memory = test_environment_foreign(&f->env, 0);
    struct sk_dma_arena_statistics arena;

    use_domain(f, (struct sk_dma_domain_config){ .iommu = &f->iommu.hooks, .coherent = true });
    assert_int_equal(map(f, memory + 1, 100, SK_DMA_BOTH, NULL), SK_OK);
    f->iommu.fail_unmap = 1;
    assert_int_equal(sk_dma_domain_unmap(&f->mapping, 100), SK_ERR_TIMEOUT);
    assert_null(f->mapping.domain);
    sk_dma_arena_get_statistics(&f->env.arena, &arena);
    assert_int_equal(arena.pages_quarantined, 1);
    assert_int_equal(statistics_of(f).mappings_live, 0);
    /* Several maps: all the others are taken back nevertheless. */
    assert_int_equal(map(f, memory, 6 * PAGE, SK_DMA_BOTH, NULL), SK_OK);
    f->iommu.fail_unmap = 2;
    assert_int_equal(sk_dma_domain_unmap(&f->mapping, 0), SK_ERR_TIMEOUT);
    assert_int_equal(f->iommu.live, 2); /* the bounce of before, and one of three */
    assert_int_equal(sk_dma_domain_deinit(&f->domain), SK_OK);
}

/* Every segment is one that the device asked for. */
static void assert_segments_satisfy(const struct fixture *f, const struct sk_dma_constraints *wanted)
{
    assert_true(wanted->segment_count_max == 0 ||
                f->mapping.segment_count <= wanted->segment_count_max);
    for (size_t i = 0; i < f->mapping.segment_count; i++) {
        uint64_t first = f->segments[i].address.raw;
        uint64_t last = first + f->segments[i].bytes - 1;

        assert_true(f->segments[i].bytes > 0);
        assert_true(wanted->segment_bytes_max == 0 ||
                    f->segments[i].bytes <= wanted->segment_bytes_max);
        assert_true(wanted->alignment_bytes == 0 || first % wanted->alignment_bytes == 0);
        assert_true(wanted->boundary_bytes == 0 ||
                    first / wanted->boundary_bytes == last / wanted->boundary_bytes);
    }
}

/* Random requests, all ways at once, against what the caller's memory must be. */
static void test_dma_domain_map__random_requests_carry_every_byte(void **state)
{
    struct fixture *f = *state;
    uint8_t *memory = test_environment_foreign(&f->env, 0);
    static uint8_t copy[PAGES * SK_DMA_PAGE_BYTES];
    const unsigned start = 20261123;
    uint32_t random = start;

    for (int round = 0; round < 400; round++) {
        struct sk_dma_constraints wanted = { 0 };
        uint64_t offset;
        uint64_t bytes;
        enum sk_status status;

        random = random * 1664525u + 1013904223u;
        wanted.alignment_bytes = (random >> 8 & 3) == 0 ? 1u << (random >> 10 & 7) : 0;
        wanted.boundary_bytes = (random >> 13 & 3) == 0 ? 1024u << (random >> 15 & 3) : 0;
        wanted.segment_bytes_max = (random >> 17 & 3) == 0 ? 600 + (random >> 19 & 4095) : 0;
        wanted.segment_count_max = (random >> 31 & 1) * 3;
        random = random * 1664525u + 1013904223u;
        offset = random >> 8 & 8191;
        bytes = 1 + (random >> 21);
        if ((random & 0x80) != 0) { /* whole pages, so that an IOMMU shows them directly */
            offset &= ~(PAGE - 1);
            bytes = PAGE * (1 + bytes % 2);
        }
        use_domain(f, (struct sk_dma_domain_config){
                          .coherent = true, .force_bounce = (random & 0x30) == 0,
                          .iommu = (random & 0x40) != 0 ? &f->iommu.hooks : NULL });
        fill_pattern(memory, 4 * PAGE, (unsigned)round);
        memcpy(copy, memory, 4 * PAGE);
        status = map(f, memory + offset, bytes, SK_DMA_BOTH, &wanted);
        if (status != SK_OK && status != SK_ERR_RANGE && status != SK_ERR_UNREACHABLE) {
            print_error("seed %u, round %d: %s\n", start, round, sk_status_name(status));
            fail();
        }
        if (status == SK_OK) {
            assert_segments_satisfy(f, &wanted);
            assert_device_sees(f, memory + offset, bytes);
            device_writes(f, bytes, 1);
            for (uint64_t i = 0; i < bytes; i++) {
                copy[offset + i] = (uint8_t)(i * 3 + 1);
            }
            assert_int_equal(sk_dma_domain_unmap(&f->mapping, bytes), SK_OK);
        }
        assert_memory_equal(memory, copy, 4 * PAGE);
        assert_int_equal(pages_live(f), 0);
        assert_int_equal(f->iommu.live, 0);
        assert_int_equal(sk_dma_domain_deinit(&f->domain), SK_OK);
    }
    assert_int_equal(f->iommu.partial, 0);
}

#define TEST(name)         cmocka_unit_test_setup_teardown(name, setup, teardown)
#define TEST_ABANDON(name) cmocka_unit_test_setup_teardown(name, setup, teardown_abandon)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_dma_domain_map__neighbours_merge_and_others_split),
        TEST(test_dma_domain_map__every_offset_and_length),
        TEST(test_dma_domain_map__limits_on_a_segment_split),
        TEST(test_dma_domain_map__a_segment_grows_across_a_page_up_to_its_limit),
        TEST(test_dma_domain_map__a_limited_piece_stays_aligned),
        TEST(test_dma_domain_map__four_gib_and_more_are_split_not_truncated),
        TEST(test_dma_domain_map__bad_arguments_change_nothing),
        TEST(test_dma_domain_unmap__twice_is_refused),
        TEST(test_dma_domain_map__no_translation_unsupported_unless_copied),
        TEST(test_dma_domain_map__bounces_where_it_must),
        TEST(test_dma_domain_unmap__copies_back_what_was_written_and_no_more),
        TEST(test_dma_domain_map__bounce_shows_no_old_memory_and_no_neighbours),
        TEST(test_dma_domain_map__bounce_keeps_to_the_constraints),
        TEST(test_dma_domain_map__every_lack_of_bounce_memory_is_clean),
        TEST_ABANDON(test_dma_domain_quarantine__bounce_memory_is_never_used_again),
        TEST(test_dma_domain_quarantine__foreign_memory_stays_the_owners),
        TEST(test_dma_domain_map__caches_are_kept_in_order),
        TEST(test_dma_domain_map__neighbours_in_a_cache_line_lose_nothing),
        TEST(test_dma_domain_map__without_cache_hooks_unsupported),
        TEST(test_dma_domain_map__uncached_memory_serves_without_cache_hooks),
        TEST(test_io_buffer_for_device__data_crosses_the_caches),
        TEST(test_dma_domain_map__iommu_maps_runs_and_takes_them_back_in_reverse),
        TEST(test_dma_domain_map__iommu_shows_whole_pages_of_the_request_only),
        TEST(test_dma_domain_map__iommu_pieces_keep_to_the_limits),
        TEST(test_dma_domain_map__every_failing_translation_is_clean),
        TEST(test_dma_domain_map__every_failing_iommu_call_is_clean),
        TEST_ABANDON(test_dma_domain_map__undo_that_fails_is_in_doubt),
        TEST_ABANDON(test_dma_domain_unmap__failing_iommu_quarantines_the_bounce),
        TEST(test_dma_domain_map__random_requests_carry_every_byte),
    };

    return cmocka_run_group_tests_name("dma_mapping", tests, NULL, NULL);
}
