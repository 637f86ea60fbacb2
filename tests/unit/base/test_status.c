/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include <skio/status.h>

static void test_status_name__every_code_has_its_own(void **state)
{
    (void)state;
    for (int i = 0; i < SK_STATUS_COUNT; i++) {
        assert_true(strlen(sk_status_name((enum sk_status)i)) > 0);
        assert_true(strlen(sk_status_text((enum sk_status)i)) > 0);
        for (int j = 0; j < i; j++) {
            assert_string_not_equal(sk_status_name((enum sk_status)i),
                                    sk_status_name((enum sk_status)j));
        }
    }
    assert_string_equal(sk_status_name(SK_OK), "ok");
    assert_true(SK_STATUS_COUNT < 25); /* few enough to act on each */
}

static void test_status_name__no_status_is_unknown(void **state)
{
    (void)state;
    assert_string_equal(sk_status_name(SK_STATUS_COUNT), "unknown");
    assert_string_equal(sk_status_name((enum sk_status)-1), "unknown");
    assert_string_equal(sk_status_text((enum sk_status)1000), "unknown status");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_status_name__every_code_has_its_own),
        cmocka_unit_test(test_status_name__no_status_is_unknown),
    };

    return cmocka_run_group_tests_name("status", tests, NULL, NULL);
}
