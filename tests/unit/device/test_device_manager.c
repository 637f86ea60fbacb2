/* SPDX-License-Identifier: MIT */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "support/iommu.h"

#define PAGES 16u
#define PAGE  ((uint64_t)SK_DMA_PAGE_BYTES)

/* A driver that does what it is told, and writes down what it was asked. */
struct toy {
    struct sk_driver driver;
    struct sk_device_match match;
    struct sk_driver_needs wanted;
    enum sk_status identify;
    enum sk_status needs;
    enum sk_status probe;
    enum sk_status remove;
    unsigned again; /* this many probes say "again" first */
    bool holds;     /* leaves the I/O buffer held when probe or remove fail */
    char *journal;  /* a letter for each call */
};

static struct toy *toy_of(const struct sk_driver *driver)
{
    return SK_CONTAINER_OF(driver, struct toy, driver);
}

static void note(struct toy *toy, char letter)
{
    size_t length = strlen(toy->journal);

    assert_true(length < 60);
    toy->journal[length] = letter;
    toy->journal[length + 1] = '\0';
}

static enum sk_status toy_identify(const struct sk_driver *driver, struct sk_device_node *node)
{
    struct toy *toy = toy_of(driver);

    assert_true(sk_device_node_is_bound(node));
    note(toy, 'i');
    return toy->identify;
}

static enum sk_status toy_needs(const struct sk_driver *driver, const struct sk_device_node *node,
                                struct sk_driver_needs *out_needs)
{
    struct toy *toy = toy_of(driver);

    (void)node;
    note(toy, 'n');
    *out_needs = toy->wanted;
    return toy->needs;
}

static void check_injection(const struct toy *toy, const struct sk_device_node *node)
{
    const uint8_t *memory = node->driver_memory;

    if (toy->wanted.dma.size_bytes != 0) {
        assert_true(sk_io_buffer_is_valid(node->dma_buffer));
        assert_true(sk_io_buffer_size(node->dma_buffer) >= toy->wanted.dma.size_bytes);
    }
    if (toy->wanted.private_bytes != 0) {
        assert_true(node->driver_memory_bytes >= toy->wanted.private_bytes);
        assert_int_equal((uintptr_t)memory % 64, 0);
        for (size_t i = 0; i < toy->wanted.private_bytes; i++) {
            assert_int_equal(memory[i], 0);
        }
    }
}

static enum sk_status toy_probe(const struct sk_driver *driver, struct sk_device_node *node)
{
    struct toy *toy = toy_of(driver);

    note(toy, 'p');
    check_injection(toy, node);
    if (node->driver_memory != NULL) {
        memset(node->driver_memory, 0xdd, toy->wanted.private_bytes);
    }
    node->driver_data = toy;
    node->device_class = SK_DEVICE_CLASS_OTHER;
    node->interface = toy;
    if (toy->again > 0) {
        toy->again--;
        return SK_ERR_AGAIN;
    }
    if (node->dma_buffer != NULL && (toy->probe == SK_OK || toy->holds)) {
        assert_int_equal(sk_io_buffer_hold(node->dma_buffer), SK_OK);
    }
    return toy->probe;
}

static enum sk_status toy_remove(const struct sk_driver *driver, struct sk_device_node *node)
{
    struct toy *toy = toy_of(driver);

    note(toy, 'r');
    assert_ptr_equal(node->driver_data, toy);
    check_injection(&(struct toy){ .wanted = { .dma = toy->wanted.dma } }, node);
    if (toy->remove == SK_ERR_BUSY) {
        return SK_ERR_BUSY;
    }
    if (node->dma_buffer != NULL && !toy->holds) {
        assert_int_equal(sk_io_buffer_release(node->dma_buffer), SK_OK);
    }
    return toy->remove;
}

static void make_toy(struct toy *toy, const char *name, const char *compatible, char *journal)
{
    *toy = (struct toy){
        .driver = { .name = name, .match_count = 1, .identify = toy_identify, .needs = toy_needs,
                    .probe = toy_probe, .remove = toy_remove },
        .match = { .bus = SK_DEVICE_BUS_PLATFORM, .compatible = compatible },
        .wanted = { .dma = { .size_bytes = 5000, .alignment_bytes = 4096 }, .private_bytes = 500 },
        .journal = journal,
    };
    toy->driver.matches = &toy->match;
}

/* One manager with room, one toy, and the environment. */
struct fixture {
    struct test_environment env;
    struct sk_device_manager manager;
    struct toy toy;
    char journal[64];
    uint64_t memory[2048];
};

static struct sk_device_manager_config config_of(struct fixture *f)
{
    return (struct sk_device_manager_config){ .platform = &f->env.platform,
                                              .memory = f->memory,
                                              .memory_bytes = sizeof(f->memory),
                                              .private_arena = &f->env.arena };
}

static int setup(void **state)
{
    static struct fixture f;
    struct sk_device_manager_config config;

    memset(&f, 0, sizeof(f));
    memset(f.memory, 0xc3, sizeof(f.memory));
    test_environment_init(&f.env, PAGES);
    config = config_of(&f);
    assert_int_equal(sk_device_manager_init(&f.manager, &config), SK_OK);
    make_toy(&f.toy, "toy", "toy,disk", f.journal);
    assert_int_equal(sk_device_manager_add_driver(&f.manager, &f.toy.driver), SK_OK);
    *state = &f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    test_environment_deinit(&f->env);
    return 0;
}

static int teardown_abandon(void **state)
{
    struct fixture *f = *state;

    test_environment_abandon(&f->env);
    return 0;
}

static uint64_t pages_live(const struct fixture *f)
{
    struct sk_dma_arena_statistics statistics;

    sk_dma_arena_get_statistics(&f->env.arena, &statistics);
    assert_true(sk_dma_arena_check(&f->env.arena));
    return statistics.pages_live;
}

static struct sk_device_node *add(struct fixture *f, const char *name, const char *compatible)
{
    struct sk_device_range range = { { 0x10001000 }, 0x1000 };
    struct sk_interrupt interrupt = { .controller = 1, .cell_count = 1, .cells = { 5 } };
    struct sk_device_node description = {
        .name = name,
        .identity = { .bus = SK_DEVICE_BUS_PLATFORM, .compatible = compatible,
                      .compatible_bytes = strlen(compatible) + 1 },
        .ranges = &range,
        .range_count = 1,
        .interrupts = &interrupt,
        .interrupt_count = 1,
        .domain = &f->env.domain,
    };
    struct sk_device_node *node = NULL;

    assert_int_equal(sk_device_manager_add_node(&f->manager, &description, &node), SK_OK);
    assert_non_null(node);
    return node;
}

/* After a failure or a remove: as before the probe. */
static void assert_nothing_injected(const struct fixture *f, const struct sk_device_node *node)
{
    assert_null(node->dma_buffer);
    assert_null(node->driver_memory);
    assert_int_equal(node->driver_memory_bytes, 0);
    assert_null(node->driver_data);
    assert_null(node->interface);
    assert_int_equal(node->device_class, SK_DEVICE_CLASS_NONE);
    assert_false(sk_device_node_is_bound(node));
    assert_int_equal(pages_live(f), 0);
}

/* Init and adding */

static void test_device_manager_init__missing_parts_refused(void **state)
{
    struct fixture *f = *state;
    struct sk_device_manager_config config = config_of(f);
    struct sk_device_manager manager;

    assert_int_equal(sk_device_manager_init(NULL, &config), SK_ERR_INVALID);
    assert_int_equal(sk_device_manager_init(&manager, NULL), SK_ERR_INVALID);
    config.platform = NULL;
    assert_int_equal(sk_device_manager_init(&manager, &config), SK_ERR_INVALID);
    config = config_of(f);
    config.memory = NULL;
    assert_int_equal(sk_device_manager_init(&manager, &config), SK_ERR_INVALID);
    config = config_of(f);
    config.memory_bytes = 0;
    assert_int_equal(sk_device_manager_init(&manager, &config), SK_ERR_INVALID);
    /* It is all zero now, and every call says so. */
    assert_int_equal(sk_device_manager_add_driver(&manager, &f->toy.driver), SK_ERR_INVALID);
    assert_int_equal(sk_device_manager_probe_all(&manager, NULL), SK_ERR_INVALID);
    assert_int_equal(sk_device_manager_remove_all(&manager), SK_ERR_INVALID);
    assert_null(sk_device_manager_first(&manager));
    assert_null(sk_device_manager_find(&manager, "x"));
    assert_null(sk_device_manager_find_class(&manager, SK_DEVICE_CLASS_OTHER, NULL));
}

static void test_device_manager_add_driver__incomplete_refused(void **state)
{
    struct fixture *f = *state;
    struct sk_driver nameless = f->toy.driver;
    struct sk_driver idle = f->toy.driver;

    nameless.name = NULL;
    idle.probe = NULL;
    assert_int_equal(sk_device_manager_add_driver(&f->manager, &nameless), SK_ERR_INVALID);
    assert_int_equal(sk_device_manager_add_driver(&f->manager, &idle), SK_ERR_INVALID);
    assert_int_equal(sk_device_manager_add_driver(&f->manager, NULL), SK_ERR_INVALID);
    assert_int_equal(sk_device_manager_add_driver(NULL, &f->toy.driver), SK_ERR_INVALID);
}

static void test_device_manager_add_node__everything_is_copied(void **state)
{
    struct fixture *f = *state;
    char name[] = "disk@1";
    char compatible[] = "toy,disk";
    struct sk_device_node *node = add(f, name, compatible);

    memset(name, 'x', sizeof(name));
    memset(compatible, 'x', sizeof(compatible));
    assert_string_equal(node->name, "disk@1");
    assert_true(sk_device_node_is_compatible(node, "toy,disk"));
    assert_int_equal(sk_device_node_address(node), 0x10001000);
    assert_int_equal(node->interrupts[0].cells[0], 5);
    assert_ptr_equal(node->platform, &f->env.platform);
    assert_int_equal(node->state, SK_DEVICE_STATE_FOUND);
    assert_false(sk_device_node_is_bound(node));
    assert_ptr_equal(sk_device_manager_first(&f->manager), node);
    assert_ptr_equal(sk_device_manager_find(&f->manager, "disk@1"), node);
    assert_null(sk_device_manager_find(&f->manager, "disk@"));
    assert_null(sk_device_manager_find(&f->manager, "disk@12"));
    assert_null(sk_device_manager_find(&f->manager, NULL));
}

static void test_device_manager_add_node__contradictions_refused(void **state)
{
    struct fixture *f = *state;
    const struct sk_device_node good = { .name = "x" };
    struct sk_device_node bad;

    assert_int_equal(sk_device_manager_add_node(NULL, &good, NULL), SK_ERR_INVALID);
    assert_int_equal(sk_device_manager_add_node(&f->manager, NULL, NULL), SK_ERR_INVALID);
    bad = (struct sk_device_node){ .range_count = 0 };
    assert_int_equal(sk_device_manager_add_node(&f->manager, &bad, NULL), SK_ERR_INVALID);
    bad = (struct sk_device_node){ .name = "x", .range_count = 1 };
    assert_int_equal(sk_device_manager_add_node(&f->manager, &bad, NULL), SK_ERR_INVALID);
    bad = (struct sk_device_node){ .name = "x", .interrupt_count = 1 };
    assert_int_equal(sk_device_manager_add_node(&f->manager, &bad, NULL), SK_ERR_INVALID);
    bad = (struct sk_device_node){ .name = "x", .identity = { .compatible_bytes = 1 } };
    assert_int_equal(sk_device_manager_add_node(&f->manager, &bad, NULL), SK_ERR_INVALID);
    assert_null(sk_device_manager_first(&f->manager));
    assert_int_equal(sk_device_manager_add_node(&f->manager, &good, NULL), SK_OK);
}

static void test_device_manager_add_node__counts_that_overflow_refused(void **state)
{
    struct fixture *f = *state;
    const struct sk_device_range range = { { 0 }, 1 };
    struct sk_device_node huge = { .name = "x", .ranges = &range, .range_count = SIZE_MAX / 8 };
    size_t used = f->manager.memory_used;

    assert_int_equal(sk_device_manager_add_node(&f->manager, &huge, NULL), SK_ERR_NO_MEMORY);
    huge.range_count = SIZE_MAX;
    assert_int_equal(sk_device_manager_add_node(&f->manager, &huge, NULL), SK_ERR_NO_MEMORY);
    assert_int_equal(f->manager.memory_used, used);
}

static void test_device_manager_add__every_size_of_memory_is_enough_or_changes_nothing(void **state)
{
    struct fixture *f = *state;
    bool driver_fits = false;
    bool node_fits = false;

    for (size_t bytes = 1; bytes <= 1024; bytes++) {
        /* Memory of exactly this size, so that a sanitizer sees a step beyond it. */
        void *memory = malloc(bytes);
        struct sk_device_manager_config config = config_of(f);
        struct sk_device_node *node = NULL;
        struct sk_device_manager manager;
        size_t used;

        assert_non_null(memory);
        config.memory = memory;
        config.memory_bytes = bytes;
        assert_int_equal(sk_device_manager_init(&manager, &config), SK_OK);
        driver_fits = sk_device_manager_add_driver(&manager, &f->toy.driver) == SK_OK;
        used = manager.memory_used;
        node_fits = sk_device_manager_add_node(&manager,
                                               &(struct sk_device_node){
                                                   .name = "n",
                                                   .identity = { .bus = SK_DEVICE_BUS_PLATFORM,
                                                                 .compatible = "toy,disk",
                                                                 .compatible_bytes = 9 },
                                                   .domain = &f->env.domain },
                                               &node) == SK_OK;
        assert_int_equal(node_fits, sk_device_manager_first(&manager) != NULL);
        assert_true(node_fits || manager.memory_used == used);
        if (node_fits && driver_fits) {
            assert_int_equal(sk_device_manager_probe(&manager, node), SK_OK);
            assert_int_equal(sk_device_manager_remove_all(&manager), SK_OK);
            f->journal[0] = '\0';
        }
        free(memory);
    }
    assert_true(driver_fits && node_fits);
}

/* Probe */

static void test_device_manager_probe__injects_and_binds(void **state)
{
    struct fixture *f = *state;
    struct sk_device_node *node = add(f, "disk", "toy,disk");

    assert_int_equal(sk_device_manager_probe(&f->manager, node), SK_OK);
    assert_string_equal(f->journal, "inp");
    assert_true(sk_device_node_is_bound(node));
    assert_int_equal(node->state, SK_DEVICE_STATE_BOUND);
    assert_ptr_equal(node->driver, &f->toy.driver);
    assert_ptr_equal(node->interface, &f->toy);
    assert_int_equal(pages_live(f), 3);
    assert_ptr_equal(sk_device_manager_find_class(&f->manager, SK_DEVICE_CLASS_OTHER, NULL), node);
    assert_null(sk_device_manager_find_class(&f->manager, SK_DEVICE_CLASS_OTHER, node));
    assert_null(sk_device_manager_find_class(&f->manager, SK_DEVICE_CLASS_BLOCK, NULL));
    assert_int_equal(sk_device_manager_probe(&f->manager, node), SK_ERR_BUSY);
    assert_string_equal(f->journal, "inp");
    assert_int_equal(sk_device_manager_remove(&f->manager, node), SK_OK);
    assert_string_equal(f->journal, "inpr");
    assert_int_equal(node->state, SK_DEVICE_STATE_REMOVED);
    assert_nothing_injected(f, node);
    assert_int_equal(sk_device_manager_remove(&f->manager, node), SK_ERR_NOT_FOUND);
    /* It can come back. */
    assert_int_equal(sk_device_manager_probe(&f->manager, node), SK_OK);
    assert_int_equal(sk_device_manager_remove_all(&f->manager), SK_OK);
    assert_nothing_injected(f, node);
}

static void test_device_manager_probe__each_step_that_fails_leaves_nothing(void **state)
{
    struct fixture *f = *state;
    struct sk_device_node *node = add(f, "disk", "toy,disk");

    for (int step = 0; step < 3; step++) {
        enum sk_status *const steps[] = { &f->toy.identify, &f->toy.needs, &f->toy.probe };

        unsigned lines = f->env.lines[SK_LOG_ERROR] + f->env.lines[SK_LOG_WARNING];

        *steps[step] = SK_ERR_MALFORMED;
        assert_int_equal(sk_device_manager_probe(&f->manager, node), SK_ERR_MALFORMED);
        assert_int_equal(node->state, SK_DEVICE_STATE_FAILED);
        assert_int_equal(node->probe_status, SK_ERR_MALFORMED);
        assert_ptr_equal(node->driver, &f->toy.driver);
        assert_nothing_injected(f, node);
        /* A probe logs its fault itself; for the others the manager does. */
        assert_int_equal(f->env.lines[SK_LOG_ERROR] + f->env.lines[SK_LOG_WARNING],
                         lines + (step < 2));
        assert_int_equal(sk_device_manager_remove(&f->manager, node), SK_ERR_NOT_FOUND);
        *steps[step] = SK_OK;
    }
    assert_int_equal(sk_device_manager_probe(&f->manager, node), SK_OK);
    assert_int_equal(sk_device_manager_remove_all(&f->manager), SK_OK);
}

static void test_device_manager_probe__empty_slot_is_silent(void **state)
{
    struct fixture *f = *state;
    struct sk_device_node *node = add(f, "slot", "toy,disk");

    f->toy.identify = SK_ERR_NOT_FOUND;
    assert_int_equal(sk_device_manager_probe(&f->manager, node), SK_ERR_NOT_FOUND);
    assert_int_equal(node->state, SK_DEVICE_STATE_EMPTY);
    assert_null(node->driver);
    assert_int_equal(f->env.lines[SK_LOG_ERROR] + f->env.lines[SK_LOG_WARNING], 0);
    assert_nothing_injected(f, node);
}

static void test_device_manager_probe__no_driver_is_said(void **state)
{
    struct fixture *f = *state;
    struct sk_device_node *node = add(f, "other", "toy,other");

    assert_int_equal(sk_device_manager_probe(&f->manager, node), SK_ERR_NOT_FOUND);
    assert_int_equal(node->state, SK_DEVICE_STATE_NO_DRIVER);
    assert_null(node->driver);
    assert_nothing_injected(f, node);
}

static void test_device_manager_probe__nodes_of_others_refused(void **state)
{
    struct fixture *f = *state;
    struct sk_device_node *node = add(f, "disk", "toy,disk");
    struct sk_device_node stranger = { .name = "x" };
    struct sk_device_manager_config config = config_of(f);
    struct sk_device_manager other;
    uint64_t memory[64];

    config.memory = memory;
    config.memory_bytes = sizeof(memory);
    assert_int_equal(sk_device_manager_init(&other, &config), SK_OK);
    assert_int_equal(sk_device_manager_probe(&other, node), SK_ERR_INVALID);
    assert_int_equal(sk_device_manager_remove(&other, node), SK_ERR_INVALID);
    assert_int_equal(sk_device_manager_probe(&f->manager, &stranger), SK_ERR_INVALID);
    assert_int_equal(sk_device_manager_probe(&f->manager, NULL), SK_ERR_INVALID);
    assert_int_equal(sk_device_manager_remove(&f->manager, NULL), SK_ERR_INVALID);
    assert_int_equal(sk_device_manager_probe(NULL, node), SK_ERR_INVALID);
}

static void test_device_manager_probe__priority_and_order_decide(void **state)
{
    struct fixture *f = *state;
    struct sk_device_node *node;
    struct toy toys[3];
    char journals[3][64] = { "", "", "" };

    make_toy(&toys[0], "low", "any", journals[0]);
    make_toy(&toys[1], "high", "any", journals[1]);
    make_toy(&toys[2], "high too", "any", journals[2]);
    toys[0].driver.priority = -1;
    toys[1].driver.priority = 7;
    toys[2].driver.priority = 7;
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(sk_device_manager_add_driver(&f->manager, &toys[i].driver), SK_OK);
    }
    node = add(f, "node", "any");
    assert_int_equal(sk_device_manager_probe(&f->manager, node), SK_OK);
    assert_ptr_equal(node->driver, &toys[1].driver);
    assert_int_equal(sk_device_manager_remove(&f->manager, node), SK_OK);
    toys[1].identify = SK_ERR_UNSUPPORTED;
    assert_int_equal(sk_device_manager_probe(&f->manager, node), SK_OK);
    assert_ptr_equal(node->driver, &toys[2].driver);
    assert_int_equal(sk_device_manager_remove(&f->manager, node), SK_OK);
    toys[2].identify = SK_ERR_UNSUPPORTED;
    assert_int_equal(sk_device_manager_probe(&f->manager, node), SK_OK);
    assert_ptr_equal(node->driver, &toys[0].driver);
    assert_int_equal(sk_device_manager_remove(&f->manager, node), SK_OK);
    toys[0].identify = SK_ERR_UNSUPPORTED;
    assert_int_equal(sk_device_manager_probe(&f->manager, node), SK_ERR_NOT_FOUND);
    assert_int_equal(node->state, SK_DEVICE_STATE_NO_DRIVER);
    /* Only "unsupported" goes on to the next driver. */
    toys[1].identify = SK_ERR_TIMEOUT;
    assert_int_equal(sk_device_manager_probe(&f->manager, node), SK_ERR_TIMEOUT);
    assert_int_equal(node->state, SK_DEVICE_STATE_FAILED);
}

static void test_device_manager_probe__a_driver_may_need_nothing(void **state)
{
    struct fixture *f = *state;
    struct sk_device_node *node = add(f, "disk", "toy,disk");

    f->toy.driver.identify = NULL;
    f->toy.driver.needs = NULL;
    f->toy.wanted = (struct sk_driver_needs){ .private_bytes = 0 };
    node->domain = NULL;
    assert_int_equal(sk_device_manager_probe(&f->manager, node), SK_OK);
    assert_string_equal(f->journal, "p");
    assert_null(node->dma_buffer);
    assert_null(node->driver_memory);
    assert_int_equal(sk_device_manager_remove(&f->manager, node), SK_OK);
}

static void test_device_manager_probe__what_was_injected_before_is_used_and_left(void **state)
{
    struct fixture *f = *state;
    static uint8_t memory[512] __attribute__((aligned(64)));
    struct sk_io_buffer buffer = SK_IO_BUFFER_EMPTY;
    struct sk_device_node *node = add(f, "disk", "toy,disk");

    assert_int_equal(sk_io_buffer_create(&buffer, &f->env.domain, 5000, 4096), SK_OK);
    node->dma_buffer = &buffer;
    node->driver_memory = memory;
    node->driver_memory_bytes = sizeof(memory);
    for (int round = 0; round < 2; round++) {
        assert_int_equal(sk_device_manager_probe(&f->manager, node), SK_OK);
        assert_ptr_equal(node->dma_buffer, &buffer);
        assert_ptr_equal(node->driver_memory, memory);
        assert_int_equal(pages_live(f), 2);
        assert_int_equal(sk_device_manager_remove(&f->manager, node), SK_OK);
        assert_ptr_equal(node->dma_buffer, &buffer);
        assert_ptr_equal(node->driver_memory, memory);
        assert_true(sk_io_buffer_is_valid(&buffer));
    }
    f->toy.probe = SK_ERR_IN_DOUBT;
    assert_int_equal(sk_device_manager_probe(&f->manager, node), SK_ERR_IN_DOUBT);
    assert_true(sk_io_buffer_is_valid(&buffer)); /* its maker's business */
    f->toy.wanted.private_bytes = sizeof(memory) + 1;
    assert_int_equal(sk_device_manager_probe(&f->manager, node), SK_ERR_SIZE);
    f->toy.wanted.private_bytes = 16;
    node->driver_memory = memory + 8;
    assert_int_equal(sk_device_manager_probe(&f->manager, node), SK_ERR_ALIGNMENT);
    assert_int_equal(sk_io_buffer_destroy(&buffer), SK_OK);
}

static void test_device_manager_add_node__what_is_described_as_injected_is_taken(void **state)
{
    struct fixture *f = *state;
    static uint8_t memory[500] __attribute__((aligned(64))); /* just what the toy needs */
    struct sk_io_buffer buffer = SK_IO_BUFFER_EMPTY;
    struct sk_device_node description = {
        .name = "disk",
        .identity = { .bus = SK_DEVICE_BUS_PLATFORM, .compatible = "toy,disk",
                      .compatible_bytes = 9 },
        .domain = &f->env.domain,
        .dma_buffer = &buffer,
        .driver_memory = memory,
        .driver_memory_bytes = sizeof(memory),
        .state = SK_DEVICE_STATE_BOUND, /* starts afresh */
        .bound = 1,
    };
    struct sk_device_node *node;

    assert_int_equal(sk_io_buffer_create(&buffer, &f->env.domain, 5000, 4096), SK_OK);
    assert_int_equal(sk_device_manager_add_node(&f->manager, &description, &node), SK_OK);
    assert_int_equal(node->state, SK_DEVICE_STATE_FOUND);
    assert_int_equal(sk_device_manager_probe(&f->manager, node), SK_OK);
    assert_ptr_equal(node->dma_buffer, &buffer);
    assert_ptr_equal(node->driver_memory, memory);
    assert_int_equal(pages_live(f), 2);
    assert_int_equal(sk_device_manager_remove(&f->manager, node), SK_OK);
    assert_int_equal(sk_io_buffer_destroy(&buffer), SK_OK);
}

static void test_device_manager_probe__no_domain_no_buffer(void **state)
{
    struct fixture *f = *state;
    struct sk_device_node *node = add(f, "disk", "toy,disk");

    node->domain = NULL;
    assert_int_equal(sk_device_manager_probe(&f->manager, node), SK_ERR_UNREACHABLE);
    assert_string_equal(f->journal, "in");
    assert_non_null(strstr(f->env.last_line, "0x10001000"));
    assert_nothing_injected(f, node);
}

static void test_device_manager_probe__no_private_arena_no_memory(void **state)
{
    struct fixture *f = *state;
    struct sk_device_node *node = add(f, "disk", "toy,disk");

    f->manager.config.private_arena = NULL;
    assert_int_equal(sk_device_manager_probe(&f->manager, node), SK_ERR_NO_MEMORY);
    assert_non_null(strstr(f->env.last_line, "disk at 0x10001000"));
    assert_nothing_injected(f, node);
    f->toy.wanted.private_bytes = 0;
    assert_int_equal(sk_device_manager_probe(&f->manager, node), SK_OK);
    assert_int_equal(sk_device_manager_remove(&f->manager, node), SK_OK);
}

static void test_device_manager_probe__every_exhausted_arena_leaves_nothing(void **state)
{
    struct fixture *f = *state;
    struct sk_device_node *node = add(f, "disk", "toy,disk");

    /* The toy needs two pages and one: with fewer free, first the one and then the other fails. */
    for (uint64_t spare = 0; spare < 4; spare++) {
        struct sk_io_buffer hog = SK_IO_BUFFER_EMPTY;
        enum sk_status expected = spare < 3 ? SK_ERR_NO_MEMORY : SK_OK;

        assert_int_equal(sk_io_buffer_create(&hog, &f->env.domain, (PAGES - spare) * PAGE, 1),
                         SK_OK);
        assert_int_equal(sk_device_manager_probe(&f->manager, node), expected);
        assert_int_equal(sk_device_manager_remove(&f->manager, node),
                         expected == SK_OK ? SK_OK : SK_ERR_NOT_FOUND);
        assert_int_equal(pages_live(f), PAGES - spare);
        assert_int_equal(sk_io_buffer_destroy(&hog), SK_OK);
        assert_nothing_injected(f, node);
    }
}

static void test_device_manager_probe__every_failing_iommu_call_leaves_nothing(void **state)
{
    struct fixture *f = *state;
    struct sk_device_node *node = add(f, "disk", "toy,disk");
    struct sk_dma_domain_config config = { .platform = &f->env.platform, .arena = &f->env.arena,
                                           .coherent = true };
    struct sk_dma_domain domain;
    struct test_iommu iommu;

    test_iommu_init(&iommu, 0x100000);
    config.iommu = &iommu.hooks;
    assert_int_equal(sk_dma_domain_init(&domain, &config), SK_OK);
    node->domain = &domain;
    iommu.fail_call = 1;
    assert_int_equal(sk_device_manager_probe(&f->manager, node), SK_ERR_NO_MEMORY);
    assert_nothing_injected(f, node);
    assert_int_equal(sk_device_manager_probe(&f->manager, node), SK_OK);
    assert_int_equal(iommu.live, 1);
    iommu.fail_call = 1; /* the unmap: the device may still reach the buffer */
    assert_int_equal(sk_device_manager_remove(&f->manager, node), SK_ERR_IN_DOUBT);
    assert_int_equal(node->state, SK_DEVICE_STATE_REMOVED);
    assert_null(node->dma_buffer);
    assert_null(node->driver_memory);
    assert_int_equal(sk_dma_domain_deinit(&domain), SK_OK);
}

static void test_device_manager_probe__held_after_failure_is_quarantined(void **state)
{
    struct fixture *f = *state;
    struct sk_device_node *node = add(f, "disk", "toy,disk");
    struct sk_dma_arena_statistics arena;

    f->toy.probe = SK_ERR_IN_DOUBT;
    f->toy.holds = true;
    assert_int_equal(sk_device_manager_probe(&f->manager, node), SK_ERR_IN_DOUBT);
    assert_int_equal(node->state, SK_DEVICE_STATE_FAILED);
    assert_null(node->dma_buffer);
    assert_null(node->driver_memory);
    sk_dma_arena_get_statistics(&f->env.arena, &arena);
    assert_int_equal(arena.pages_quarantined, 2);
    /* The node is not lost with its memory. */
    f->toy.probe = SK_OK;
    f->toy.holds = false;
    assert_int_equal(sk_device_manager_probe(&f->manager, node), SK_OK);
    assert_int_equal(sk_device_manager_remove(&f->manager, node), SK_OK);
    assert_int_equal(sk_dma_domain_deinit(&f->env.domain), SK_OK);
}

/* Probe all */

static void test_device_manager_probe_all__one_failure_does_not_stop_the_others(void **state)
{
    struct fixture *f = *state;
    struct sk_device_manager_summary summary;
    struct sk_device_node *bad = add(f, "bad", "toy,bad");
    struct sk_device_node *good = add(f, "good", "toy,disk");
    struct toy failing;
    struct toy absent;
    char journal[64] = "";

    make_toy(&failing, "failing", "toy,bad", journal);
    make_toy(&absent, "absent", "toy,slot", journal);
    failing.probe = SK_ERR_IO;
    absent.identify = SK_ERR_NOT_FOUND;
    (void)add(f, "slot", "toy,slot");
    (void)add(f, "stranger", "toy,stranger");
    assert_int_equal(sk_device_manager_add_driver(&f->manager, &failing.driver), SK_OK);
    assert_int_equal(sk_device_manager_add_driver(&f->manager, &absent.driver), SK_OK);
    assert_int_equal(sk_device_manager_probe_all(&f->manager, &summary), SK_OK);
    assert_int_equal(summary.bound, 1);
    assert_int_equal(summary.failed, 1);
    assert_int_equal(summary.empty, 1);
    assert_int_equal(summary.unmatched, 1);
    assert_int_equal(summary.deferred, 0);
    assert_int_equal(bad->probe_status, SK_ERR_IO);
    assert_int_equal(good->state, SK_DEVICE_STATE_BOUND);
    assert_int_equal(sk_device_manager_probe_all(&f->manager, &summary), SK_OK);
    assert_int_equal(summary.bound, 0);
    assert_int_equal(summary.failed, 1);
    assert_int_equal(sk_device_manager_probe_all(&f->manager, NULL), SK_OK);
    assert_int_equal(sk_device_manager_remove_all(&f->manager), SK_OK);
    assert_nothing_injected(f, good);
}

static void test_device_manager_probe_all__deferred_until_nothing_new_is_bound(void **state)
{
    struct fixture *f = *state;
    struct sk_device_manager_summary summary;
    struct sk_device_node *late = add(f, "late", "toy,late");
    struct sk_device_node *later = add(f, "later", "toy,later");
    struct toy toys[2];
    char journals[2][64] = { "", "" };

    make_toy(&toys[0], "late", "toy,late", journals[0]);
    make_toy(&toys[1], "later", "toy,later", journals[1]);
    toys[0].again = 1;
    toys[1].again = 2;
    assert_int_equal(sk_device_manager_add_driver(&f->manager, &toys[0].driver), SK_OK);
    assert_int_equal(sk_device_manager_add_driver(&f->manager, &toys[1].driver), SK_OK);
    /* Nothing else binds: one round, and both wait. */
    assert_int_equal(sk_device_manager_probe_all(&f->manager, &summary), SK_OK);
    assert_int_equal(summary.bound, 0);
    assert_int_equal(summary.deferred, 2);
    assert_int_equal(late->state, SK_DEVICE_STATE_DEFERRED);
    assert_nothing_injected(f, late);
    toys[0].again = 1;
    toys[1].again = 2;
    (void)add(f, "disk", "toy,disk");
    /* The disk binds, then the one, then the other. */
    assert_int_equal(sk_device_manager_probe_all(&f->manager, &summary), SK_OK);
    assert_int_equal(summary.bound, 3);
    assert_int_equal(summary.deferred, 0);
    assert_int_equal(later->state, SK_DEVICE_STATE_BOUND);
    assert_string_equal(journals[0], "inpinpinp");
    assert_string_equal(journals[1], "inpinpinpinp");
    assert_int_equal(sk_device_manager_remove_all(&f->manager), SK_OK);
}

static void test_device_manager_probe_all__waiting_for_ever_ends(void **state)
{
    struct fixture *f = *state;
    struct sk_device_manager_summary summary;

    for (int i = 0; i < 5; i++) {
        (void)add(f, "disk", "toy,disk");
    }
    f->toy.probe = SK_ERR_AGAIN;
    assert_int_equal(sk_device_manager_probe_all(&f->manager, &summary), SK_OK);
    assert_int_equal(summary.bound, 0);
    assert_int_equal(summary.deferred, 5);
    assert_int_equal(strlen(f->journal), 15);
}

/* Remove */

static void test_device_manager_remove__no_remove_unsupported(void **state)
{
    struct fixture *f = *state;
    struct sk_device_node *node = add(f, "disk", "toy,disk");

    f->toy.driver.remove = NULL;
    assert_int_equal(sk_device_manager_probe(&f->manager, node), SK_OK);
    assert_int_equal(sk_device_manager_remove(&f->manager, node), SK_ERR_UNSUPPORTED);
    assert_int_equal(node->state, SK_DEVICE_STATE_BOUND);
    assert_true(sk_io_buffer_is_valid(node->dma_buffer));
    f->toy.driver.remove = toy_remove;
    f->toy.remove = SK_ERR_BUSY; /* somebody uses it: nothing changes either */
    assert_int_equal(sk_device_manager_remove(&f->manager, node), SK_ERR_BUSY);
    assert_int_equal(node->state, SK_DEVICE_STATE_BOUND);
    assert_true(sk_device_node_is_bound(node));
    f->toy.remove = SK_OK;
    assert_int_equal(sk_device_manager_remove(&f->manager, node), SK_OK);
    assert_nothing_injected(f, node);
}

static void test_device_manager_remove__in_doubt_quarantines(void **state)
{
    struct fixture *f = *state;
    struct sk_device_node *node = add(f, "disk", "toy,disk");
    struct sk_dma_domain_statistics domain;
    struct sk_dma_arena_statistics arena;

    f->toy.remove = SK_ERR_IN_DOUBT;
    f->toy.holds = true;
    assert_int_equal(sk_device_manager_probe(&f->manager, node), SK_OK);
    assert_int_equal(sk_device_manager_remove(&f->manager, node), SK_ERR_IN_DOUBT);
    assert_int_equal(node->state, SK_DEVICE_STATE_REMOVED);
    assert_int_equal(node->probe_status, SK_ERR_IN_DOUBT);
    assert_null(node->dma_buffer);
    assert_false(sk_device_node_is_bound(node));
    sk_dma_domain_get_statistics(&f->env.domain, &domain);
    assert_int_equal(domain.buffers_quarantined, 1);
    assert_int_equal(domain.buffers_live, 0);
    sk_dma_arena_get_statistics(&f->env.arena, &arena);
    assert_int_equal(arena.pages_quarantined, 2);
    /* A driver that forgets its hold is not believed. */
    f->toy.remove = SK_OK;
    assert_int_equal(sk_device_manager_probe(&f->manager, node), SK_OK);
    assert_int_equal(sk_device_manager_remove(&f->manager, node), SK_ERR_IN_DOUBT);
    sk_dma_arena_get_statistics(&f->env.arena, &arena);
    assert_int_equal(arena.pages_quarantined, 4);
    assert_int_equal(sk_dma_domain_deinit(&f->env.domain), SK_OK);
}

static void test_device_manager_remove_all__newest_first_and_all_of_them(void **state)
{
    struct fixture *f = *state;
    struct toy toys[3];
    char order[64] = "";
    char journals[3][64] = { "", "", "" };
    static const char *const names[3] = { "toy,a", "toy,b", "toy,c" };
    struct sk_device_node *nodes[3];

    for (size_t i = 0; i < 3; i++) {
        make_toy(&toys[i], names[i], names[i], journals[i]);
        toys[i].wanted.dma.size_bytes = 100;
        assert_int_equal(sk_device_manager_add_driver(&f->manager, &toys[i].driver), SK_OK);
        nodes[i] = add(f, names[i], names[i]);
    }
    toys[0].again = 1; /* added first, bound last */
    toys[2].remove = SK_ERR_BUSY;
    assert_int_equal(sk_device_manager_probe_all(&f->manager, NULL), SK_OK);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(nodes[i]->state, SK_DEVICE_STATE_BOUND);
        toys[i].journal = order;
    }
    assert_int_equal(sk_device_manager_remove_all(&f->manager), SK_ERR_BUSY);
    assert_string_equal(order, "rrr");
    assert_int_equal(nodes[0]->state, SK_DEVICE_STATE_REMOVED);
    assert_int_equal(nodes[1]->state, SK_DEVICE_STATE_REMOVED);
    assert_int_equal(nodes[2]->state, SK_DEVICE_STATE_BOUND);
    toys[2].remove = SK_OK;
    assert_int_equal(sk_device_manager_remove_all(&f->manager), SK_OK);
    assert_int_equal(nodes[2]->state, SK_DEVICE_STATE_REMOVED);
    assert_int_equal(sk_device_manager_remove_all(&f->manager), SK_OK);
    assert_int_equal(pages_live(f), 0);
}

static char removal_order[8];

static enum sk_status remember_and_remove(const struct sk_driver *driver,
                                          struct sk_device_node *node)
{
    strncat(removal_order, node->name, 1);
    return toy_remove(driver, node);
}

static void test_device_manager_remove_all__the_order_of_binding_backwards(void **state)
{
    struct fixture *f = *state;
    struct toy waiting;
    char journal[64] = "";

    removal_order[0] = '\0';
    make_toy(&waiting, "waiting", "toy,waits", journal);
    waiting.again = 1;
    waiting.driver.remove = remember_and_remove;
    f->toy.driver.remove = remember_and_remove;
    assert_int_equal(sk_device_manager_add_driver(&f->manager, &waiting.driver), SK_OK);
    (void)add(f, "a", "toy,waits"); /* waits for the others, so it is bound last */
    (void)add(f, "b", "toy,disk");
    (void)add(f, "c", "toy,disk");
    assert_int_equal(sk_device_manager_probe_all(&f->manager, NULL), SK_OK);
    assert_int_equal(sk_device_manager_remove_all(&f->manager), SK_OK);
    assert_string_equal(removal_order, "acb");
}

static void test_device_manager_remove__in_any_order(void **state)
{
    struct fixture *f = *state;
    struct sk_device_node *nodes[4];
    static const uint8_t orders[][4] = { { 0, 1, 2, 3 }, { 3, 2, 1, 0 }, { 1, 3, 0, 2 },
                                         { 2, 0, 3, 1 } };

    f->toy.wanted = (struct sk_driver_needs){ .private_bytes = 10 };
    for (size_t i = 0; i < 4; i++) {
        nodes[i] = add(f, "disk", "toy,disk");
    }
    for (size_t order = 0; order < sizeof(orders) / sizeof(orders[0]); order++) {
        f->journal[0] = '\0';
        assert_int_equal(sk_device_manager_probe_all(&f->manager, NULL), SK_OK);
        for (size_t i = 0; i < 4; i++) {
            assert_int_equal(sk_device_manager_remove(&f->manager, nodes[orders[order][i]]),
                             SK_OK);
            assert_int_equal(pages_live(f), 3 - i);
        }
        assert_int_equal(sk_device_manager_remove_all(&f->manager), SK_OK);
    }
}

/* Several managers */

static void test_device_manager__any_number_of_them(void **state)
{
    struct fixture *f = *state;
    struct sk_device_manager managers[8];
    static uint64_t memory[8][256];

    f->toy.wanted = (struct sk_driver_needs){ .dma = { .size_bytes = 10 }, .private_bytes = 10 };
    f->toy.driver.identify = NULL;
    for (size_t i = 0; i < 8; i++) {
        struct sk_device_manager_config config = config_of(f);
        struct sk_device_manager_summary summary;

        config.memory = memory[i];
        config.memory_bytes = sizeof(memory[i]);
        assert_int_equal(sk_device_manager_init(&managers[i], &config), SK_OK);
        assert_int_equal(sk_device_manager_add_driver(&managers[i], &f->toy.driver), SK_OK);
        assert_int_equal(sk_device_manager_add_node(
                             &managers[i],
                             &(struct sk_device_node){ .name = "disk",
                                                       .identity = { .bus = SK_DEVICE_BUS_PLATFORM,
                                                                     .compatible = "toy,disk",
                                                                     .compatible_bytes = 9 },
                                                       .domain = &f->env.domain },
                             NULL),
                         SK_OK);
        assert_int_equal(sk_device_manager_probe_all(&managers[i], &summary), SK_OK);
        assert_int_equal(summary.bound, 1);
    }
    assert_int_equal(pages_live(f), 16);
    for (size_t i = 0; i < 8; i++) {
        assert_int_equal(sk_device_manager_remove_all(&managers[i]), SK_OK);
    }
    assert_int_equal(pages_live(f), 0);
}

/* A node that two threads want: the manager's probe claims like everybody else. */
struct rival {
    struct sk_device_node *node;
    bool won;
};

static void *claim_node(void *argument)
{
    struct rival *rival = argument;

    rival->won = sk_device_node_claim(rival->node) == SK_OK;
    return NULL;
}

static void test_device_manager_probe__a_rival_thread_exactly_one_wins(void **state)
{
    struct fixture *f = *state;
    struct sk_device_node *node = add(f, "disk", "toy,disk");

    for (int round = 0; round < 200; round++) {
        struct rival rival = { .node = node };
        enum sk_status status;
        pthread_t thread;

        f->journal[0] = '\0';
        assert_int_equal(pthread_create(&thread, NULL, claim_node, &rival), 0);
        status = sk_device_manager_probe(&f->manager, node);
        assert_int_equal(pthread_join(thread, NULL), 0);
        assert_int_equal(status, rival.won ? SK_ERR_BUSY : SK_OK);
        if (rival.won) {
            assert_string_equal(f->journal, "");
            sk_device_node_unclaim(node);
        } else {
            assert_int_equal(sk_device_manager_remove(&f->manager, node), SK_OK);
        }
        assert_nothing_injected(f, node);
    }
}

#define TEST(name)         cmocka_unit_test_setup_teardown(name, setup, teardown)
#define TEST_ABANDON(name) cmocka_unit_test_setup_teardown(name, setup, teardown_abandon)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_device_manager_init__missing_parts_refused),
        TEST(test_device_manager_add_driver__incomplete_refused),
        TEST(test_device_manager_add_node__everything_is_copied),
        TEST(test_device_manager_add_node__contradictions_refused),
        TEST(test_device_manager_add_node__counts_that_overflow_refused),
        TEST(test_device_manager_add__every_size_of_memory_is_enough_or_changes_nothing),
        TEST(test_device_manager_probe__injects_and_binds),
        TEST(test_device_manager_probe__each_step_that_fails_leaves_nothing),
        TEST(test_device_manager_probe__empty_slot_is_silent),
        TEST(test_device_manager_probe__no_driver_is_said),
        TEST(test_device_manager_probe__nodes_of_others_refused),
        TEST(test_device_manager_probe__priority_and_order_decide),
        TEST(test_device_manager_probe__a_driver_may_need_nothing),
        TEST(test_device_manager_probe__what_was_injected_before_is_used_and_left),
        TEST(test_device_manager_add_node__what_is_described_as_injected_is_taken),
        TEST(test_device_manager_probe__no_domain_no_buffer),
        TEST(test_device_manager_probe__no_private_arena_no_memory),
        TEST(test_device_manager_probe__every_exhausted_arena_leaves_nothing),
        TEST_ABANDON(test_device_manager_probe__every_failing_iommu_call_leaves_nothing),
        TEST_ABANDON(test_device_manager_probe__held_after_failure_is_quarantined),
        TEST(test_device_manager_probe_all__one_failure_does_not_stop_the_others),
        TEST(test_device_manager_probe_all__deferred_until_nothing_new_is_bound),
        TEST(test_device_manager_probe_all__waiting_for_ever_ends),
        TEST(test_device_manager_remove__no_remove_unsupported),
        TEST_ABANDON(test_device_manager_remove__in_doubt_quarantines),
        TEST(test_device_manager_remove_all__newest_first_and_all_of_them),
        TEST(test_device_manager_remove_all__the_order_of_binding_backwards),
        TEST(test_device_manager_remove__in_any_order),
        TEST(test_device_manager__any_number_of_them),
        TEST(test_device_manager_probe__a_rival_thread_exactly_one_wins),
    };

    return cmocka_run_group_tests_name("device_manager", tests, NULL, NULL);
}
