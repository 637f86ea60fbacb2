/* SPDX-License-Identifier: MIT */
#include "skblk.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum value_kind { VALUE_NUMBER, VALUE_REAL, VALUE_BOOL, VALUE_TEXT, VALUE_LIST };

struct value {
    struct value *next;
    char name[48];
    enum value_kind kind;
    uint64_t number;
    double real;
    char *text; /* of a list: the words, each with a zero behind it */
    size_t text_bytes;
};

struct skblk_report {
    struct value *first;
    struct value **last;
};

static void *must(void *memory)
{
    if (memory == NULL) {
        (void)fputs("skblk: out of memory\n", stderr);
        abort();
    }
    return memory;
}

struct skblk_report *skblk_report_create(void)
{
    struct skblk_report *report = must(calloc(1, sizeof(*report)));

    report->last = &report->first;
    return report;
}

static struct value *add(struct skblk_report *report, const char *name, enum value_kind kind)
{
    struct value *value = must(calloc(1, sizeof(*value)));

    (void)snprintf(value->name, sizeof(value->name), "%s", name);
    value->kind = kind;
    *report->last = value;
    report->last = &value->next;
    return value;
}

static void append(struct value *value, const char *text)
{
    size_t bytes = strlen(text) + 1;

    value->text = must(realloc(value->text, value->text_bytes + bytes));
    (void)memcpy(value->text + value->text_bytes, text, bytes);
    value->text_bytes += bytes;
}

void skblk_report_add_number(struct skblk_report *report, const char *name, uint64_t value)
{
    add(report, name, VALUE_NUMBER)->number = value;
}

void skblk_report_add_real(struct skblk_report *report, const char *name, double value)
{
    add(report, name, VALUE_REAL)->real = value;
}

void skblk_report_add_bool(struct skblk_report *report, const char *name, bool value)
{
    add(report, name, VALUE_BOOL)->number = value;
}

void skblk_report_add_text(struct skblk_report *report, const char *name, const char *value)
{
    append(add(report, name, VALUE_TEXT), value);
}

void skblk_report_add_word(struct skblk_report *report, const char *name, const char *word)
{
    struct value *value = report->first;

    while (value != NULL && (value->kind != VALUE_LIST || strcmp(value->name, name) != 0)) {
        value = value->next;
    }
    append(value != NULL ? value : add(report, name, VALUE_LIST), word);
}

/* What came from outside may hold anything: quotes, control characters, broken UTF-8. */
static void print_json_text(const char *text)
{
    (void)putchar('"');
    for (; *text != '\0'; text++) {
        unsigned char byte = (unsigned char)*text;

        if (byte == '"' || byte == '\\') {
            (void)printf("\\%c", byte);
        } else if (byte < 0x20 || byte >= 0x7f) {
            (void)printf("\\u%04x", byte);
        } else {
            (void)putchar(byte);
        }
    }
    (void)putchar('"');
}

static void print_plain_text(const char *text)
{
    for (; *text != '\0'; text++) {
        (void)putchar((unsigned char)*text < 0x20 || (unsigned char)*text >= 0x7f ? '?' : *text);
    }
}

static void print_list(const struct value *value, bool json)
{
    for (size_t at = 0; at < value->text_bytes; at += strlen(value->text + at) + 1) {
        if (json) {
            (void)fputs(at == 0 ? "" : ", ", stdout);
            print_json_text(value->text + at);
        } else {
            (void)fputs(at == 0 ? "" : " ", stdout);
            print_plain_text(value->text + at);
        }
    }
}

static void print_value(const struct value *value, bool json)
{
    switch (value->kind) {
    case VALUE_NUMBER:
        (void)printf("%llu", (unsigned long long)value->number);
        break;
    case VALUE_REAL:
        (void)printf("%.3f", value->real);
        break;
    case VALUE_BOOL:
        (void)fputs(json ? (value->number ? "true" : "false") : (value->number ? "yes" : "no"),
                    stdout);
        break;
    case VALUE_TEXT:
        if (json) {
            print_json_text(value->text);
        } else {
            print_plain_text(value->text);
        }
        break;
    default:
        (void)fputs(json ? "[" : "", stdout);
        print_list(value, json);
        (void)fputs(json ? "]" : "", stdout);
        break;
    }
}

/* "capacity_bytes" reads "capacity bytes" in a table; sizes get a second form. */
static void print_row(const struct value *value)
{
    char name[sizeof(value->name)];
    size_t length = strlen(value->name);

    (void)snprintf(name, sizeof(name), "%s", value->name);
    for (size_t i = 0; i < length; i++) {
        name[i] = (char)(name[i] == '_' ? ' ' : name[i]);
    }
    (void)printf("%-28s ", name);
    print_value(value, false);
    if (value->kind == VALUE_NUMBER && length > 6 && value->number >= 1024 &&
        strcmp(value->name + length - 6, "_bytes") == 0) {
        char text[SKBLK_SIZE_TEXT];

        (void)printf("  (%s)", skblk_size_text(value->number, text));
    }
    (void)putchar('\n');
}

static void print_all(const struct skblk_report *report, bool json)
{
    (void)fputs(json ? "{" : "", stdout);
    for (const struct value *value = report->first; value != NULL; value = value->next) {
        if (json) {
            (void)printf("%s\"%s\": ", value == report->first ? "" : ", ", value->name);
            print_value(value, true);
        } else {
            print_row(value);
        }
    }
    (void)fputs(json ? "}\n" : "", stdout);
}

int skblk_report_finish(const struct skblk_call *call, struct skblk_report *report)
{
    struct value *value = report->first;

    print_all(report, call->settings.json);
    while (value != NULL) {
        struct value *next = value->next;

        free(value->text);
        free(value);
        value = next;
    }
    free(report);
    if (fflush(stdout) != 0 || ferror(stdout) != 0) {
        skblk_error(call, "cannot write the result: %s", strerror(errno));
        return SKBLK_EXIT_FILE;
    }
    return SKBLK_EXIT_OK;
}
