/* SPDX-License-Identifier: MIT */
#include <skio/status.h>

static const char *const names[SK_STATUS_COUNT] = {
#define STATUS_NAME(code, name, text) [code] = name,
    SK_STATUS_LIST(STATUS_NAME)
#undef STATUS_NAME
};

static const char *const texts[SK_STATUS_COUNT] = {
#define STATUS_TEXT(code, name, text) [code] = text,
    SK_STATUS_LIST(STATUS_TEXT)
#undef STATUS_TEXT
};

const char *sk_status_name(enum sk_status status)
{
    return (unsigned)status < SK_STATUS_COUNT ? names[status] : "unknown";
}

const char *sk_status_text(enum sk_status status)
{
    return (unsigned)status < SK_STATUS_COUNT ? texts[status] : "unknown status";
}
