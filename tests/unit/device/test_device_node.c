/* SPDX-License-Identifier: MIT */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include <skio/device_node.h>

static void test_device_node_claim__one_owner_at_a_time(void **state)
{
    struct sk_device_node node = { .name = "disk" };

    (void)state;
    assert_false(sk_device_node_is_bound(&node));
    assert_int_equal(sk_device_node_claim(&node), SK_OK);
    assert_true(sk_device_node_is_bound(&node));
    assert_int_equal(sk_device_node_claim(&node), SK_ERR_BUSY);
    assert_true(sk_device_node_is_bound(&node));
    sk_device_node_unclaim(&node);
    assert_false(sk_device_node_is_bound(&node));
    assert_int_equal(sk_device_node_claim(&node), SK_OK);
}

static void test_device_node_claim__missing_node_refused(void **state)
{
    (void)state;
    assert_int_equal(sk_device_node_claim(NULL), SK_ERR_INVALID);
    sk_device_node_unclaim(NULL);
    assert_false(sk_device_node_is_bound(NULL));
}

#define CLAIM_NODES   4
#define CLAIM_THREADS 4
#define CLAIM_ROUNDS  20000

struct race {
    struct sk_device_node nodes[CLAIM_NODES];
    uint64_t owned[CLAIM_NODES]; /* plain: only the claim protects it */
};

struct runner {
    struct race *race;
    uint64_t wins[CLAIM_NODES];
};

static void *run_claims(void *argument)
{
    struct runner *runner = argument;

    for (unsigned i = 0; i < CLAIM_ROUNDS; i++) {
        unsigned which = i % CLAIM_NODES;

        if (sk_device_node_claim(&runner->race->nodes[which]) == SK_OK) {
            runner->race->owned[which]++;
            runner->wins[which]++;
            sk_device_node_unclaim(&runner->race->nodes[which]);
        }
    }
    return NULL;
}

static void test_device_node_claim__threads_see_each_others_work(void **state)
{
    static struct race race;
    struct runner runners[CLAIM_THREADS] = { { .race = &race } };
    pthread_t threads[CLAIM_THREADS];

    (void)state;
    for (size_t i = 0; i < CLAIM_THREADS; i++) {
        runners[i].race = &race;
        assert_int_equal(pthread_create(&threads[i], NULL, run_claims, &runners[i]), 0);
    }
    for (size_t i = 0; i < CLAIM_THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    for (size_t node = 0; node < CLAIM_NODES; node++) {
        uint64_t wins = 0;

        for (size_t i = 0; i < CLAIM_THREADS; i++) {
            wins += runners[i].wins[node];
        }
        assert_true(wins > 0);
        assert_int_equal(race.owned[node], wins); /* no increment was lost */
    }
}

static void *claim_once(void *argument)
{
    return sk_device_node_claim(argument) == SK_OK ? argument : NULL;
}

static void test_device_node_claim__two_threads_exactly_one_winner(void **state)
{
    (void)state;
    for (int round = 0; round < 500; round++) {
        struct sk_device_node node = { .name = "disk" };
        pthread_t threads[2];
        void *won[2];

        for (size_t i = 0; i < 2; i++) {
            assert_int_equal(pthread_create(&threads[i], NULL, claim_once, &node), 0);
        }
        for (size_t i = 0; i < 2; i++) {
            assert_int_equal(pthread_join(threads[i], &won[i]), 0);
        }
        assert_true((won[0] != NULL) != (won[1] != NULL));
    }
}

static void test_device_node_is_compatible__whole_strings_only(void **state)
{
    static const char list[] = "virtio,mmio\0virtio,mmio-legacy\0plain";
    struct sk_device_node node = { .identity = { .bus = SK_DEVICE_BUS_PLATFORM,
                                                 .compatible = list,
                                                 .compatible_bytes = sizeof(list) } };

    (void)state;
    assert_true(sk_device_node_is_compatible(&node, "virtio,mmio"));
    assert_true(sk_device_node_is_compatible(&node, "virtio,mmio-legacy"));
    assert_true(sk_device_node_is_compatible(&node, "plain"));
    assert_false(sk_device_node_is_compatible(&node, "virtio,mmi"));
    assert_false(sk_device_node_is_compatible(&node, "mmio"));
    assert_false(sk_device_node_is_compatible(&node, "virtio,mmio-legac"));
    assert_false(sk_device_node_is_compatible(&node, ""));
    assert_false(sk_device_node_is_compatible(&node, NULL));
    assert_false(sk_device_node_is_compatible(NULL, "plain"));
}

static void test_device_node_is_compatible__a_list_without_an_end_is_bounded(void **state)
{
    const char list[5] = { 'a', '\0', 'b', 'c', 'd' };
    struct sk_device_node node = { .identity = { .bus = SK_DEVICE_BUS_PLATFORM,
                                                 .compatible = list,
                                                 .compatible_bytes = sizeof(list) } };

    (void)state;
    assert_true(sk_device_node_is_compatible(&node, "a"));
    assert_false(sk_device_node_is_compatible(&node, "bcd"));
    assert_false(sk_device_node_is_compatible(&node, "bc"));
    node.identity.compatible_bytes = 0;
    assert_false(sk_device_node_is_compatible(&node, "a"));
    node.identity.compatible = NULL;
    node.identity.compatible_bytes = 5;
    assert_false(sk_device_node_is_compatible(&node, "a"));
}

static void test_device_node_address__first_range_or_zero(void **state)
{
    const struct sk_device_range ranges[2] = { { { 0x10001000 }, 4096 }, { { 0x2000 }, 16 } };
    struct sk_device_node node = { .ranges = ranges, .range_count = 2 };

    (void)state;
    assert_int_equal(sk_device_node_address(&node), 0x10001000);
    node.range_count = 0;
    assert_int_equal(sk_device_node_address(&node), 0);
    assert_int_equal(sk_device_node_address(NULL), 0);
}

static void test_device_names__each_value_has_its_own(void **state)
{
    (void)state;
    for (int i = 0; i < SK_DEVICE_STATE_COUNT; i++) {
        assert_string_not_equal(sk_device_state_name((enum sk_device_state)i), "unknown");
        for (int j = 0; j < i; j++) {
            assert_string_not_equal(sk_device_state_name((enum sk_device_state)i),
                                    sk_device_state_name((enum sk_device_state)j));
        }
    }
    for (int i = 0; i < SK_DEVICE_CLASS_COUNT; i++) {
        assert_string_not_equal(sk_device_class_name((enum sk_device_class)i), "unknown");
    }
    assert_string_equal(sk_device_state_name(SK_DEVICE_STATE_BOUND), "bound");
    assert_string_equal(sk_device_class_name(SK_DEVICE_CLASS_BLOCK), "block");
    assert_string_equal(sk_device_state_name(SK_DEVICE_STATE_COUNT), "unknown");
    assert_string_equal(sk_device_class_name(SK_DEVICE_CLASS_COUNT), "unknown");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_device_node_claim__one_owner_at_a_time),
        cmocka_unit_test(test_device_node_claim__missing_node_refused),
        cmocka_unit_test(test_device_node_claim__threads_see_each_others_work),
        cmocka_unit_test(test_device_node_claim__two_threads_exactly_one_winner),
        cmocka_unit_test(test_device_node_is_compatible__whole_strings_only),
        cmocka_unit_test(test_device_node_is_compatible__a_list_without_an_end_is_bounded),
        cmocka_unit_test(test_device_node_address__first_range_or_zero),
        cmocka_unit_test(test_device_names__each_value_has_its_own),
    };

    return cmocka_run_group_tests_name("device_node", tests, NULL, NULL);
}
