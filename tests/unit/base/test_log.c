/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <skio/log.h>
#include <skio/text.h>

struct catcher {
    unsigned lines;
    enum sk_log_level level;
    char line[2 * SK_LOG_LINE_BYTES];
};

static void catch_line(void *context, enum sk_log_level level, const char *line)
{
    struct catcher *catcher = context;

    catcher->lines++;
    catcher->level = level;
    (void)snprintf(catcher->line, sizeof(catcher->line), "%s", line);
}

static void test_log_print__line_reaches_the_hook_formatted(void **state)
{
    struct catcher catcher = { 0 };
    struct sk_log log = { .write = catch_line, .context = &catcher, .level = SK_LOG_WARNING };

    (void)state;
    sk_log_print(&log, SK_LOG_WARNING, "disk %s: sector %d", "a", 7);
    assert_int_equal(catcher.lines, 1);
    assert_int_equal(catcher.level, SK_LOG_WARNING);
    assert_string_equal(catcher.line, "disk a: sector 7");
}

static void test_log_print__levels_above_are_dropped(void **state)
{
    struct catcher catcher = { 0 };
    struct sk_log log = { .write = catch_line, .context = &catcher };

    (void)state;
    for (unsigned limit = 0; limit < SK_LOG_LEVEL_COUNT; limit++) {
        log.level = (enum sk_log_level)limit;
        catcher.lines = 0;
        for (unsigned level = 0; level < SK_LOG_LEVEL_COUNT; level++) {
            sk_log_print(&log, (enum sk_log_level)level, "x");
        }
        assert_int_equal(catcher.lines, limit + 1);
    }
}

static void test_log_print__no_log_and_no_hook_are_silent(void **state)
{
    struct sk_log log = { .level = SK_LOG_DEBUG };

    (void)state;
    sk_log_print(NULL, SK_LOG_ERROR, "x");
    sk_log_print(&log, SK_LOG_ERROR, "x");
}

static void test_log_print__long_line_is_cut(void **state)
{
    struct catcher catcher = { 0 };
    struct sk_log log = { .write = catch_line, .context = &catcher, .level = SK_LOG_DEBUG };

    (void)state;
    sk_log_print(&log, SK_LOG_ERROR, "%1000s", "x");
    assert_int_equal(strlen(catcher.line), SK_LOG_LINE_BYTES - 1);
}

static void test_log_level_name__each_and_unknown(void **state)
{
    (void)state;
    assert_string_equal(sk_log_level_name(SK_LOG_ERROR), "error");
    assert_string_equal(sk_log_level_name(SK_LOG_WARNING), "warning");
    assert_string_equal(sk_log_level_name(SK_LOG_INFO), "info");
    assert_string_equal(sk_log_level_name(SK_LOG_DEBUG), "debug");
    assert_string_equal(sk_log_level_name(SK_LOG_LEVEL_COUNT), "unknown");
    assert_string_equal(sk_log_level_name((enum sk_log_level)-1), "unknown");
}

static void test_log_limit_pass__a_storm_leaves_a_few_lines(void **state)
{
    struct sk_log_limit limit = { 0 };
    unsigned passed = 0;

    (void)state;
    for (unsigned i = 1; i <= 1000000; i++) {
        bool pass = sk_log_limit_pass(&limit);

        assert_true(pass || i > SK_LOG_LIMIT_BURST);
        passed += pass;
    }
    assert_true(limit.seen == 1000000);
    /* The burst, and each power of two above it up to 2^19. */
    assert_int_equal(passed, SK_LOG_LIMIT_BURST + 17);
}

static size_t format(char *out, size_t bytes, const char *text, ...) SK_PRINTF(3, 4);

static size_t format(char *out, size_t bytes, const char *text, ...)
{
    va_list arguments;
    size_t length;

    va_start(arguments, text);
    length = sk_text_format_list(out, bytes, text, arguments);
    va_end(arguments);
    return length;
}

static void test_text_format_list__takes_every_argument_in_order(void **state)
{
    char out[40];

    (void)state;
    assert_int_equal(format(out, sizeof(out), "%s %d %llx", "a", -2, 0xffffffffffULL), 15);
    assert_string_equal(out, "a -2 ffffffffff");
    assert_int_equal(format(NULL, 0, "%d", 12345), 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_log_print__line_reaches_the_hook_formatted),
        cmocka_unit_test(test_log_print__levels_above_are_dropped),
        cmocka_unit_test(test_log_print__no_log_and_no_hook_are_silent),
        cmocka_unit_test(test_log_print__long_line_is_cut),
        cmocka_unit_test(test_log_level_name__each_and_unknown),
        cmocka_unit_test(test_log_limit_pass__a_storm_leaves_a_few_lines),
        cmocka_unit_test(test_text_format_list__takes_every_argument_in_order),
    };

    return cmocka_run_group_tests_name("log", tests, NULL, NULL);
}
