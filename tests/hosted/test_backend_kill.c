/* SPDX-License-Identifier: MIT */
/*
 * A back end that dies and is started again.  A front end keeps its rings and
 * the record of what is in flight; the next back end goes on.  Each block of the disk
 * says which write was its last one; what was acknowledged is there, and
 * nothing older comes back.
 */
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <skio_hosted/backend.h>

#include "backend_process.h"
#include "descriptors.h"
#include "front_end.h"

#define BIT(bit)   SK_VIRTIO_FEATURE(bit)
#define BLOCK      4096u
#define BLOCKS     64u /* of the disk: few, so that each is written often */
#define RING       32u
#define DEPTH      10u /* at the device; each of its own block */
#define SECTORS_OF(block) ((uint64_t)(block) * (BLOCK / 512))

static const uint64_t kinds[] = {
    0,
    BIT(SK_VIRTIO_F_INDIRECT_DESC) | BIT(SK_VIRTIO_F_EVENT_IDX),
    BIT(SK_VIRTIO_F_RING_PACKED),
    BIT(SK_VIRTIO_F_RING_PACKED) | BIT(SK_VIRTIO_F_INDIRECT_DESC) | BIT(SK_VIRTIO_F_EVENT_IDX),
};

#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

static struct backend_process backend;
static struct front_end front;
static unsigned before;

/* What each block holds by now, and what each slot is at. */
static uint32_t generation_of[BLOCKS];
static uint32_t block_of[DEPTH];
static uint32_t slot_generation[DEPTH]; /* 0: it reads */
static uint64_t random_state;
static uint32_t last_generation;

static int set_up(void **state)
{
    (void)state;
    before = descriptors_count();
    (void)signal(SIGPIPE, SIG_IGN);
    backend_process_init(&backend, BLOCKS * BLOCK);
    front_end_init(&front);
    memset(generation_of, 0, sizeof(generation_of));
    random_state = 12345;
    last_generation = 0;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    front_end_close(&front);
    backend_process_deinit(&backend);
    return descriptors_count() == before ? 0 : -1;
}

static uint32_t random_below(uint32_t below)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(random_state >> 33) % below;
}

/* Each 512 bytes say which block and which generation they are. */
static void fill_block(uint8_t *to, uint32_t block, uint32_t generation)
{
    for (uint32_t i = 0; i < BLOCK; i += 512) {
        uint32_t words[2] = { block, generation };

        memset(to + i, (int)(generation & 0xff), 512);
        memcpy(to + i, words, sizeof(words));
    }
}

static void check_block(const uint8_t *from, uint32_t block, uint32_t generation)
{
    uint8_t expected[BLOCK];

    if (generation == 0) {
        memset(expected, 0, sizeof(expected));
    } else {
        fill_block(expected, block, generation);
    }
    assert_memory_equal(from, expected, BLOCK);
}

static bool is_busy(uint32_t block)
{
    for (uint32_t i = 0; i < DEPTH; i++) {
        if (front.queues[0].slots[i].out && block_of[i] == block) {
            return true;
        }
    }
    return false;
}

static void submit(uint32_t slot)
{
    struct front_queue *queue = &front.queues[0];
    uint32_t block = random_below(BLOCKS);

    while (is_busy(block)) {
        block = (block + 1) % BLOCKS;
    }
    block_of[slot] = block;
    slot_generation[slot] = random_below(3) == 0 ? 0 : ++last_generation;
    if (slot_generation[slot] != 0) {
        fill_block(front_end_data(queue, slot), block, slot_generation[slot]);
        front_end_submit(queue, slot, FRONT_WRITE, SECTORS_OF(block), BLOCK);
    } else {
        memset(front_end_data(queue, slot), 0xcc, BLOCK);
        front_end_submit(queue, slot, FRONT_READ, SECTORS_OF(block), BLOCK);
    }
}

static void finish(uint32_t slot)
{
    struct front_queue *queue = &front.queues[0];

    assert_int_equal(front_end_status(queue, slot), FRONT_OK);
    if (slot_generation[slot] != 0) {
        generation_of[block_of[slot]] = slot_generation[slot];
    } else {
        check_block(front_end_data(queue, slot), block_of[slot], generation_of[block_of[slot]]);
    }
}

/* Keeps the ring full until `requests` are finished or the back end is dead; returns how many. */
static uint32_t work(uint32_t requests)
{
    struct front_queue *queue = &front.queues[0];
    uint32_t finished = 0;
    uint64_t until = ski_vhost_user_now() + FRONT_WAIT_NS;

    while (finished < requests) {
        int slot;

        for (uint32_t i = 0; i < DEPTH; i++) {
            if (!queue->slots[i].out && finished + queue->out < requests) {
                submit(i);
            }
        }
        front_end_publish(queue);
        while ((slot = front_end_poll(queue)) >= 0) {
            finish((uint32_t)slot);
            finished++;
        }
        if (backend_process_is_dead(&backend)) {
            return finished;
        }
        assert_true(ski_vhost_user_now() < until);
    }
    return finished;
}

static void begin(uint64_t features)
{
    front_end_connect(&front, backend.socket);
    front_end_negotiate(&front, FRONT_FEATURES | features, UINT64_MAX);
    front_end_share_memory(&front);
    front_end_lay_out(&front, 0, RING);
    front_end_share_record(&front, 1, RING);
    front_end_start_queue(&front, 0, front_end_first_base(&front));
}

/* The rings stay as they are; the record knows more than any base. */
static void resume(uint64_t features)
{
    front_end_disconnect(&front);
    front_end_connect(&front, backend.socket);
    front_end_negotiate(&front, FRONT_FEATURES | features, UINT64_MAX);
    front_end_share_memory(&front);
    front_end_share_record(&front, 1, RING);
    front_end_start_queue(&front, 0, 0);
}

/* All that is out comes back, and the file is what the front end believes. */
static void finish_all(void)
{
    static uint8_t content[BLOCKS * BLOCK];
    struct front_queue *queue = &front.queues[0];
    int fd;

    while (queue->out > 0) {
        finish((uint32_t)front_end_wait(queue));
    }
    assert_int_equal(front_end_poll(queue), -1);
    fd = open(backend.file, O_RDONLY | O_CLOEXEC);
    assert_int_equal(read(fd, content, sizeof(content)), sizeof(content));
    (void)close(fd);
    for (uint32_t i = 0; i < BLOCKS; i++) {
        check_block(content + i * BLOCK, i, generation_of[i]);
    }
}

/* Dies at a step, on the Nth time; then another one finishes. */
static void die_at(const char *step, uint32_t number, uint64_t features)
{
    char fault[64];

    (void)snprintf(fault, sizeof(fault), "%s@%u", step, number);
    backend.faults[0] = fault;
    backend_process_start(&backend);
    begin(features);
    (void)work(UINT32_MAX); /* until it is dead */
    backend.faults[0] = NULL;
    backend_process_start(&backend);
    resume(features);
    finish_all();
    assert_int_equal(work(50), 50);
    finish_all();
    front_end_disconnect(&front);
    backend_process_stop(&backend);
    (void)close(front.record_fd);
    front.record_fd = -1;
}

static void test_backend_killed__at_each_step_nothing_is_lost(void **state)
{
    static const char *const steps[] = { "die-taken",     "die-done",      "die-status",
                                         "die-given",     "die-published", "die-committed" };

    (void)state;
    for (size_t step = 0; step < sizeof(steps) / sizeof(steps[0]); step++) {
        for (size_t kind = 0; kind < KINDS; kind++) {
            die_at(steps[step], random_below(60), kinds[kind]);
        }
    }
}

/* The same with requests that are held back and shuffled: out of order in the record. */
static void test_backend_killed__with_shuffled_requests_nothing_is_lost(void **state)
{
    static const char *const steps[] = { "die-given", "die-published", "die-taken" };

    (void)state;
    backend.faults[1] = "hold=4";
    for (size_t step = 0; step < sizeof(steps) / sizeof(steps[0]); step++) {
        for (size_t kind = 0; kind < KINDS; kind++) {
            die_at(steps[step], 20 + random_below(30), kinds[kind]);
        }
    }
}

/* The same with many at the file, of which one is overtaken by all others. */
static void test_backend_killed__with_many_at_work_nothing_is_lost(void **state)
{
    static const char *const steps[] = { "die-taken",     "die-done",      "die-status",
                                         "die-given",     "die-published", "die-committed" };

    (void)state;
    backend.faults[1] = "slow=200";
    backend.faults[2] = "late=9@7x1";
    for (size_t step = 0; step < sizeof(steps) / sizeof(steps[0]); step++) {
        for (size_t kind = 0; kind < KINDS; kind++) {
            die_at(steps[step], 4 + random_below(40), kinds[kind]);
        }
    }
}

/* From outside, at any moment, many times on the same rings. */
static void killed_at_random(uint64_t features, unsigned kills)
{
    backend_process_start(&backend);
    begin(features);
    for (unsigned i = 0; i < kills; i++) {
        (void)work(random_below(200));
        for (uint32_t k = 0; k < DEPTH; k++) {
            if (!front.queues[0].slots[k].out) {
                submit(k);
            }
        }
        front_end_publish(&front.queues[0]);
        (void)usleep(random_below(300));
        backend_process_kill(&backend);
        backend_process_start(&backend);
        resume(features);
    }
    finish_all();
    front_end_disconnect(&front);
    backend_process_stop(&backend);
    (void)close(front.record_fd);
    front.record_fd = -1;
}

static void test_backend_killed__at_random_100_times_nothing_is_lost(void **state)
{
    (void)state;
    for (size_t kind = 0; kind < KINDS; kind++) {
        killed_at_random(kinds[kind], 25);
    }
}

static void test_backend_killed__at_random_with_many_at_work_nothing_is_lost(void **state)
{
    (void)state;
    backend.faults[0] = "slow=300";
    for (size_t kind = 0; kind < KINDS; kind++) {
        killed_at_random(kinds[kind], 10);
    }
}

static void test_backend_killed__polling_at_random_nothing_is_lost(void **state)
{
    (void)state;
    backend.polls = true;
    killed_at_random(kinds[1], 10);
    killed_at_random(kinds[3], 10);
}

/* A front end that leaves and comes back, to the same back end, goes on as well. */
static void test_backend_left__front_end_comes_back_and_goes_on(void **state)
{
    (void)state;
    backend_process_start(&backend);
    for (size_t kind = 0; kind < KINDS; kind++) {
        begin(kinds[kind]);
        for (unsigned i = 0; i < 10; i++) {
            assert_int_equal(work(50), 50);
            resume(kinds[kind]);
        }
        finish_all();
        front_end_disconnect(&front);
        (void)close(front.record_fd);
        front.record_fd = -1;
    }
}

/* A queue that was stopped well has nothing in flight: the record says nothing, the base counts. */
static void test_backend_stopped__ring_begins_anew_with_the_same_record(void **state)
{
    (void)state;
    backend_process_start(&backend);
    for (size_t kind = 0; kind < KINDS; kind++) {
        begin(kinds[kind]);
        for (unsigned i = 0; i < 3; i++) {
            assert_int_equal(work(77), 77);
            (void)front_end_stop_queue(&front, 0);
            front_end_lay_out(&front, 0, RING);
            front_end_start_queue(&front, 0, front_end_first_base(&front));
        }
        finish_all();
        front_end_disconnect(&front);
        (void)close(front.record_fd);
        front.record_fd = -1;
    }
}

/* It dies between publishing and its interrupt; who sleeps on that is woken by the next one. */
static void test_backend_killed__before_its_interrupt_wakes_the_sleeper(void **state)
{
    (void)state;
    for (size_t kind = 0; kind < KINDS; kind++) {
        struct front_queue *queue = &front.queues[0];
        struct pollfd fd = { .fd = queue->call, .events = POLLIN };
        uint64_t count;

        backend.faults[0] = "die-committed";
        backend_process_start(&backend);
        begin(kinds[kind]);
        (void)!read(queue->call, &count, sizeof(count));
        if (queue->packed) {
            assert_false(ski_ring_packed_interrupts_on(&queue->packed_ring));
        } else {
            assert_false(ski_ring_split_interrupts_on(&queue->split));
        }
        submit(0);
        front_end_publish(queue);
        assert_true(backend_process_died(&backend));
        assert_int_equal(poll(&fd, 1, 0), 0); /* asleep */
        backend.faults[0] = NULL;
        backend_process_start(&backend);
        resume(kinds[kind]);
        assert_int_equal(poll(&fd, 1, (int)(FRONT_WAIT_NS / 1000000)), 1);
        finish_all();
        front_end_disconnect(&front);
        backend_process_stop(&backend);
        (void)close(front.record_fd);
        front.record_fd = -1;
    }
}

/* Rings that are shorter than the record's longest. */
static void test_backend_record__serves_shorter_rings(void **state)
{
    (void)state;
    backend.queues = 2;
    backend_process_start(&backend);
    for (size_t kind = 0; kind < KINDS; kind++) {
        front_end_connect(&front, backend.socket);
        front_end_negotiate(&front, FRONT_FEATURES | kinds[kind], UINT64_MAX);
        front_end_share_memory(&front);
        front_end_share_record(&front, 2, 64);
        for (uint32_t i = 0; i < 2; i++) {
            front_end_lay_out(&front, i, i == 0 ? 64 : 16);
            front_end_start_queue(&front, i, front_end_first_base(&front));
        }
        for (unsigned i = 0; i < 100; i++) {
            assert_int_equal(front_end_run(&front.queues[i % 2], FRONT_READ, 0, 512), FRONT_OK);
        }
        front_end_disconnect(&front);
        (void)close(front.record_fd);
        front.record_fd = -1;
    }
}

int main(int argc, char **argv)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_backend_killed__at_each_step_nothing_is_lost),
        TEST(test_backend_killed__with_shuffled_requests_nothing_is_lost),
        TEST(test_backend_killed__at_random_100_times_nothing_is_lost),
        TEST(test_backend_killed__with_many_at_work_nothing_is_lost),
        TEST(test_backend_killed__at_random_with_many_at_work_nothing_is_lost),
        TEST(test_backend_killed__polling_at_random_nothing_is_lost),
        TEST(test_backend_killed__before_its_interrupt_wakes_the_sleeper),
        TEST(test_backend_left__front_end_comes_back_and_goes_on),
        TEST(test_backend_stopped__ring_begins_anew_with_the_same_record),
        TEST(test_backend_record__serves_shorter_rings),
    };
#undef TEST

    if (argc > 1) {
        return backend_process_main(argc, argv);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
