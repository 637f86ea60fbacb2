/* SPDX-License-Identifier: MIT */
/*
 * An input of the fuzzer as two streams: what to do, from its front, and how to
 * lie, from its back, so that one more step moves no lie.  An end gives zeroes.
 */
#ifndef FUZZ_INPUT_H
#define FUZZ_INPUT_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#define REQUIRE(condition) ((condition) ? (void)0 : abort())

struct input {
    const uint8_t *data;
    size_t front;
    size_t back; /* what is left: [front, back) */
};

static inline uint8_t input_byte(struct input *input)
{
    return input->front < input->back ? input->data[input->front++] : 0;
}

static inline uint32_t input_below(struct input *input, uint32_t below)
{
    uint32_t value = input_byte(input);

    return (below > 256 ? value << 8 | input_byte(input) : value) % below;
}

static inline uint64_t input_number(struct input *input, unsigned bytes)
{
    uint64_t value = 0;

    for (unsigned i = 0; i < bytes; i++) {
        value = value << 8 | input_byte(input);
    }
    return value;
}

static inline uint8_t input_back_byte(struct input *input)
{
    return input->front < input->back ? input->data[--input->back] : 0;
}

static inline int input_is_empty(const struct input *input)
{
    return input->front >= input->back;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

#endif
