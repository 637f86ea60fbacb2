/* SPDX-License-Identifier: MIT */
/*
 * Formatting of text into a fixed buffer, for surroundings without a C
 * library.  Not a printf: there is no floating point and no locale.
 *
 * Calling: any context; no state.
 */
#ifndef SKIO_TEXT_H
#define SKIO_TEXT_H

#include <stdarg.h>

#include <skio/compiler.h>

SK_BEGIN_DECLS

/*
 * Writes formatted text and a terminating zero into `out`, at most `bytes`
 * bytes together; longer text is cut.  `bytes` may be 0, then `out` may be
 * NULL.  Returns the length that the whole text would have had.
 *
 * Conversions: %c %s %p %d %i %u %x %X %%, with the sizes h hh l ll z, a field
 * width (a number or *), the flags '-' and '0', and for %s a precision (a
 * number or *).  An unknown conversion is copied as it stands.  A NULL string
 * prints as "(null)".
 */
size_t sk_text_format(char *out, size_t bytes, const char *format, ...) SK_PRINTF(3, 4);

/* The same with an argument list. */
size_t sk_text_format_list(char *out, size_t bytes, const char *format, va_list arguments)
    SK_PRINTF(3, 0);

SK_END_DECLS

#endif
