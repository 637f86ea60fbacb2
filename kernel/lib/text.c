/* SPDX-License-Identifier: MIT */
#include "text.h"

size_t text_length(const char *text)
{
    size_t length = 0;

    while (text[length] != '\0') {
        length++;
    }
    return length;
}

bool text_equal(const char *left, const char *right)
{
    for (; *left == *right; left++, right++) {
        if (*left == '\0') {
            return true;
        }
    }
    return false;
}

const char *text_value_of(const char *word, const char *name)
{
    for (; *name != '\0'; name++, word++) {
        if (*word != *name) {
            return NULL;
        }
    }
    return *word == '=' ? word + 1 : NULL;
}

static unsigned digit_of(char character)
{
    if (character >= '0' && character <= '9') {
        return (unsigned)(character - '0');
    }
    character |= 0x20;
    return character >= 'a' && character <= 'f' ? (unsigned)(character - 'a' + 10) : 99;
}

bool text_number(const char *text, uint64_t *out_value)
{
    unsigned base = 10;
    uint64_t value = 0;

    if (text[0] == '0' && (text[1] | 0x20) == 'x') {
        base = 16;
        text += 2;
    }
    if (*text == '\0') {
        return false;
    }
    for (; *text != '\0'; text++) {
        unsigned digit = digit_of(*text);

        if (digit >= base || __builtin_mul_overflow(value, base, &value) ||
            __builtin_add_overflow(value, digit, &value)) {
            return false;
        }
    }
    *out_value = value;
    return true;
}

static bool is_blank(char character)
{
    return character == ' ' || character == '\t';
}

size_t text_split(char *line, char **words, size_t capacity)
{
    size_t count = 0;

    for (;;) {
        while (is_blank(*line)) {
            *line++ = '\0';
        }
        if (*line == '\0') {
            return count;
        }
        if (count < capacity) {
            words[count] = line;
        }
        count++;
        while (*line != '\0' && !is_blank(*line)) {
            line++;
        }
    }
}
