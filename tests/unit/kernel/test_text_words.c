/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "../../../kernel/lib/text.h"

static void test_text_number__decimal_and_hexadecimal(void **state)
{
    static const struct {
        const char *text;
        uint64_t value;
    } good[] = {
        { "0", 0 },
        { "7", 7 },
        { "00012", 12 },
        { "0x0", 0 },
        { "0xff", 255 },
        { "0XAb", 171 },
        { "18446744073709551615", UINT64_MAX },
        { "0xffffffffffffffff", UINT64_MAX },
    };

    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        uint64_t value = 99;

        assert_true(text_number(good[i].text, &value));
        assert_true(value == good[i].value);
    }
}

static void test_text_number__others_are_refused(void **state)
{
    static const char *const bad[] = {
        "", "x", "-1", "+1", "1 ", " 1", "0x", "0xg", "12a", "1.5",
        "18446744073709551616", "0x10000000000000000", "99999999999999999999999",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        uint64_t value = 99;

        assert_false(text_number(bad[i], &value));
        assert_true(value == 99);
    }
}

static void test_text_split__words_between_blanks(void **state)
{
    char line[] = "  read\t 1   2 ";
    char *words[4];

    (void)state;
    assert_int_equal(text_split(line, words, 4), 3);
    assert_string_equal(words[0], "read");
    assert_string_equal(words[1], "1");
    assert_string_equal(words[2], "2");
}

static void test_text_split__more_than_fit_are_counted(void **state)
{
    char line[] = "a b c d";
    char empty[] = " \t ";
    char *words[2];

    (void)state;
    assert_int_equal(text_split(line, words, 2), 4);
    assert_string_equal(words[1], "b");
    assert_int_equal(text_split(empty, words, 2), 0);
}

static void test_text_equal__whole_texts(void **state)
{
    (void)state;
    assert_true(text_equal("", ""));
    assert_true(text_equal("abc", "abc"));
    assert_false(text_equal("abc", "ab"));
    assert_false(text_equal("ab", "abc"));
    assert_int_equal(text_length("abc"), 3);
}

static void test_text_value_of__name_and_equals_sign(void **state)
{
    (void)state;
    assert_string_equal(text_value_of("log=debug", "log"), "debug");
    assert_string_equal(text_value_of("log=", "log"), "");
    assert_null(text_value_of("log", "log"));
    assert_null(text_value_of("logs=1", "log"));
    assert_null(text_value_of("lo", "log"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text_number__decimal_and_hexadecimal),
        cmocka_unit_test(test_text_number__others_are_refused),
        cmocka_unit_test(test_text_split__words_between_blanks),
        cmocka_unit_test(test_text_split__more_than_fit_are_counted),
        cmocka_unit_test(test_text_equal__whole_texts),
        cmocka_unit_test(test_text_value_of__name_and_equals_sign),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
