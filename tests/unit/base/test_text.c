/* SPDX-License-Identifier: MIT */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <skio/text.h>

/* Both formatters must agree to the letter, and on the length. */
#define SAME(...)                                                        \
    do {                                                                 \
        char ours[200];                                                  \
        char theirs[200];                                                \
        size_t length = sk_text_format(ours, sizeof(ours), __VA_ARGS__); \
        int expected = snprintf(theirs, sizeof(theirs), __VA_ARGS__);    \
        assert_string_equal(ours, theirs);                               \
        assert_int_equal(length, expected);                              \
    } while (0)

static void test_text_format__numbers_match_the_c_library(void **state)
{
    static const int64_t values[] = { 0, 1, -1, 9, 10, 4095, INT32_MIN, INT32_MAX,
                                      INT64_MIN, INT64_MAX };

    (void)state;
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        SAME("%d|%u|%x|%X", (int)values[i], (unsigned)values[i], (unsigned)values[i],
             (unsigned)values[i]);
        SAME("%" PRId64 "|%" PRIu64 "|%" PRIx64, values[i], (uint64_t)values[i],
             (uint64_t)values[i]);
        SAME("%lld|%llu|%zu", (long long)values[i], (unsigned long long)values[i],
             (size_t)values[i]);
        SAME("%12d|%-12d|%012d|%3d", (int)values[i], (int)values[i], (int)values[i],
             (int)values[i]);
        SAME("%hhu|%hd|%hu|%hhd", (unsigned char)values[i], (short)values[i],
             (unsigned short)values[i], (signed char)values[i]);
        SAME("%016llx|%*d|%-*d|", (unsigned long long)values[i], 9, (int)values[i], 9,
             (int)values[i]);
    }
}

static void test_text_format__strings_match_the_c_library(void **state)
{
    (void)state;
    SAME("%s|%10s|%-10s|%.2s|%.*s|%c|%5c|%%|%.0s", "abc", "abc", "abc", "abc", 1, "abc", 'x', 'y',
         "abc");
    SAME("%s", "");
}

static void test_text_format__null_string_and_unknown_conversion(void **state)
{
    char out[40];
    const char *volatile null = NULL;
    const char *volatile odd = "%q%";

    (void)state;
    (void)sk_text_format(out, sizeof(out), "%s", null);
    assert_string_equal(out, "(null)");
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
#pragma GCC diagnostic ignored "-Wformat-security"
    (void)sk_text_format(out, sizeof(out), odd);
#pragma GCC diagnostic pop
    assert_string_equal(out, "%q%");
}

static void test_text_format__too_long_is_cut_and_measured(void **state)
{
    char out[4] = "zzz";

    (void)state;
    assert_int_equal(sk_text_format(out, sizeof(out), "%s", "abcdef"), 6);
    assert_string_equal(out, "abc");
    assert_int_equal(sk_text_format(out, 1, "%d", 12345), 5);
    assert_string_equal(out, "");
    assert_int_equal(sk_text_format(NULL, 0, "%d", 12345), 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text_format__numbers_match_the_c_library),
        cmocka_unit_test(test_text_format__strings_match_the_c_library),
        cmocka_unit_test(test_text_format__null_string_and_unknown_conversion),
        cmocka_unit_test(test_text_format__too_long_is_cut_and_measured),
    };

    return cmocka_run_group_tests_name("text", tests, NULL, NULL);
}
