/* SPDX-License-Identifier: MIT */
#include <skio/log.h>

#include <skio/text.h>

const char *sk_log_level_name(enum sk_log_level level)
{
    static const char *const names[SK_LOG_LEVEL_COUNT] = {
        [SK_LOG_ERROR] = "error",
        [SK_LOG_WARNING] = "warning",
        [SK_LOG_INFO] = "info",
        [SK_LOG_DEBUG] = "debug",
    };

    return (unsigned)level < SK_LOG_LEVEL_COUNT ? names[level] : "unknown";
}

void sk_log_print(const struct sk_log *log, enum sk_log_level level, const char *format, ...)
{
    char line[SK_LOG_LINE_BYTES];
    va_list arguments;

    if (log == NULL || log->write == NULL || level > log->level) {
        return;
    }
    va_start(arguments, format);
    (void)sk_text_format_list(line, sizeof(line), format, arguments);
    va_end(arguments);
    log->write(log->context, level, line);
}

bool sk_log_limit_pass(struct sk_log_limit *limit)
{
    limit->seen++;
    return limit->seen <= SK_LOG_LIMIT_BURST || (limit->seen & (limit->seen - 1)) == 0;
}
