/* SPDX-License-Identifier: MIT */
#include <skio/text.h>

/* Where text goes: counts all of it, keeps what fits. */
struct sink {
    char *out;
    size_t bytes;
    size_t length;
};

/* One parsed conversion. */
struct conversion {
    bool left;
    bool zero;
    int width;
    int precision; /* -1: none */
    int size;      /* -2 hh, -1 h, 0 int, 1 l, 2 ll, 3 z */
    char letter;
};

#define DIGITS_MAX 20 /* of 2^64 - 1 in decimal */

static void put(struct sink *sink, char character)
{
    if (sink->length + 1 < sink->bytes) {
        sink->out[sink->length] = character;
    }
    sink->length++;
}

static void put_repeated(struct sink *sink, char character, int count)
{
    for (; count > 0; count--) {
        put(sink, character);
    }
}

static void put_field(struct sink *sink, const struct conversion *how, const char *prefix,
                      const char *text, int length)
{
    int padding = how->width - length - (prefix[0] != '\0') - (prefix[0] == '0');

    if (!how->left && !how->zero) {
        put_repeated(sink, ' ', padding);
    }
    for (; *prefix != '\0'; prefix++) {
        put(sink, *prefix);
    }
    if (!how->left && how->zero) {
        put_repeated(sink, '0', padding);
    }
    for (int i = 0; i < length; i++) {
        put(sink, text[i]);
    }
    if (how->left) {
        put_repeated(sink, ' ', padding);
    }
}

static void put_number(struct sink *sink, const struct conversion *how, uint64_t value,
                       const char *prefix)
{
    const char *digits = how->letter == 'X' ? "0123456789ABCDEF" : "0123456789abcdef";
    unsigned base = how->letter == 'u' || how->letter == 'd' ? 10 : 16;
    char text[DIGITS_MAX];
    int start = DIGITS_MAX;

    do {
        text[--start] = digits[value % base];
        value /= base;
    } while (value != 0);
    put_field(sink, how, prefix, text + start, DIGITS_MAX - start);
}

static void put_string(struct sink *sink, const struct conversion *how, const char *text)
{
    struct conversion plain = *how;
    int length = 0;

    if (text == NULL) {
        text = "(null)";
    }
    while ((how->precision < 0 || length < how->precision) && text[length] != '\0') {
        length++;
    }
    plain.zero = false;
    put_field(sink, &plain, "", text, length);
}

/* va_list may be an array type; a struct makes it passable by pointer everywhere. */
struct arguments {
    va_list list;
};

static uint64_t next_unsigned(struct arguments *arguments, int size)
{
    switch (size) {
    case 3:
        return va_arg(arguments->list, size_t);
    case 2:
        return va_arg(arguments->list, unsigned long long);
    case 1:
        return va_arg(arguments->list, unsigned long);
    case -1:
        return (unsigned short)va_arg(arguments->list, unsigned);
    case -2:
        return (unsigned char)va_arg(arguments->list, unsigned);
    default:
        return va_arg(arguments->list, unsigned);
    }
}

static int64_t next_signed(struct arguments *arguments, int size)
{
    switch (size) {
    case 3:
        return va_arg(arguments->list, ptrdiff_t);
    case 2:
        return va_arg(arguments->list, long long);
    case 1:
        return va_arg(arguments->list, long);
    case -1:
        return (short)va_arg(arguments->list, int);
    case -2:
        return (signed char)va_arg(arguments->list, int);
    default:
        return va_arg(arguments->list, int);
    }
}

static int parse_number(const char **format, struct arguments *arguments)
{
    int number = 0;

    if (**format == '*') {
        (*format)++;
        return va_arg(arguments->list, int);
    }
    for (; **format >= '0' && **format <= '9'; (*format)++) {
        if (number < 10000) { /* wider than any line */
            number = number * 10 + (**format - '0');
        }
    }
    return number;
}

/* Parses what follows a '%'; leaves *format behind the conversion's letter. */
static struct conversion parse(const char **format, struct arguments *arguments)
{
    struct conversion how = { .precision = -1 };

    for (; **format == '-' || **format == '0'; (*format)++) {
        how.left |= **format == '-';
        how.zero |= **format == '0';
    }
    how.width = parse_number(format, arguments);
    if (how.width < 0) {
        how.left = true;
        how.width = how.width < -10000 ? 10000 : -how.width;
    }
    if (**format == '.') {
        (*format)++;
        how.precision = parse_number(format, arguments);
    }
    if (**format == 'z') {
        how.size = 3;
        (*format)++;
    }
    for (; **format == 'l' && how.size < 2; (*format)++) {
        how.size++;
    }
    for (; **format == 'h' && how.size > -2; (*format)++) {
        how.size--;
    }
    how.letter = **format == 'i' ? 'd' : **format;
    if (**format != '\0') {
        (*format)++;
    }
    return how;
}

/* Returns false for a letter that is no conversion. */
static bool put_conversion(struct sink *sink, const struct conversion *how,
                           struct arguments *arguments)
{
    int64_t number;
    char character;

    switch (how->letter) {
    case 'd':
        number = next_signed(arguments, how->size);
        put_number(sink, how, number < 0 ? -(uint64_t)number : (uint64_t)number,
                   number < 0 ? "-" : "");
        return true;
    case 'u':
    case 'x':
    case 'X':
        put_number(sink, how, next_unsigned(arguments, how->size), "");
        return true;
    case 'p':
        put_number(sink, how, (uintptr_t)va_arg(arguments->list, void *), "0x");
        return true;
    case 's':
        put_string(sink, how, va_arg(arguments->list, const char *));
        return true;
    case 'c':
        character = (char)va_arg(arguments->list, int);
        put_field(sink, how, "", &character, 1);
        return true;
    case '%':
        put(sink, '%');
        return true;
    default:
        return false;
    }
}

size_t sk_text_format_list(char *out, size_t bytes, const char *format, va_list list)
{
    struct sink sink = { out, bytes, 0 };
    struct arguments arguments;

    va_copy(arguments.list, list);
    while (*format != '\0') {
        const char *start = format;
        struct conversion how;

        if (*format++ != '%') {
            put(&sink, *start);
            continue;
        }
        how = parse(&format, &arguments);
        if (!put_conversion(&sink, &how, &arguments)) {
            for (; start < format; start++) {
                put(&sink, *start);
            }
        }
    }
    va_end(arguments.list);
    if (bytes > 0) {
        out[sink.length < bytes ? sink.length : bytes - 1] = '\0';
    }
    return sink.length;
}

size_t sk_text_format(char *out, size_t bytes, const char *format, ...)
{
    va_list arguments;
    size_t length;

    va_start(arguments, format);
    length = sk_text_format_list(out, bytes, format, arguments);
    va_end(arguments);
    return length;
}
