/* SPDX-License-Identifier: MIT */
/* The vectors are those of FIPS 180-4's examples. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../../../kernel/lib/sha256.h"

static void assert_hash(const void *data, size_t bytes, size_t step, const char *expected)
{
    struct sha256 sha256;
    uint8_t digest[SHA256_BYTES];
    char text[SHA256_HEX_BYTES];

    sha256_init(&sha256);
    for (size_t at = 0; at < bytes; at += step) {
        sha256_update(&sha256, (const char *)data + at, bytes - at < step ? bytes - at : step);
    }
    sha256_finish(&sha256, digest);
    sha256_hex(digest, text);
    assert_string_equal(text, expected);
}

static void assert_text(const char *text, const char *expected)
{
    for (size_t step = 1; step <= strlen(text) + 1; step++) {
        assert_hash(text, strlen(text), step, expected);
    }
}

static void test_sha256_finish__nothing_is_the_empty_digest(void **state)
{
    (void)state;
    assert_text("", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

static void test_sha256_update__one_block_in_any_steps(void **state)
{
    (void)state;
    assert_text("abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

static void test_sha256_update__two_blocks_in_any_steps(void **state)
{
    (void)state;
    assert_text("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
                "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    assert_text("abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklm"
                "nopqrlmnopqrsmnopqrstnopqrstu",
                "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1");
}

static void test_sha256_update__a_million_bytes(void **state)
{
    const size_t bytes = 1000000;
    char *data = malloc(bytes);

    (void)state;
    assert_non_null(data);
    memset(data, 'a', bytes);
    assert_hash(data, bytes, bytes,
                "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    assert_hash(data, bytes, 4099,
                "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    free(data);
}

/* 55, 56 and 64 bytes: where the padding still fits, and where it takes another block. */
static void test_sha256_finish__padding_at_the_edges(void **state)
{
    char data[65];

    (void)state;
    memset(data, 0, sizeof(data));
    assert_hash(data, 55, 55, "02779466cdec163811d078815c633f21901413081449002f24aa3e80f0b88ef7");
    assert_hash(data, 56, 56, "d4817aa5497628e7c77e6b606107042bbba3130888c5f47a375e6179be789fbb");
    assert_hash(data, 64, 64, "f5a5fd42d16a20302798ef6ed309979b43003d2320d9f0e8ea9831a92759fb4b");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sha256_finish__nothing_is_the_empty_digest),
        cmocka_unit_test(test_sha256_update__one_block_in_any_steps),
        cmocka_unit_test(test_sha256_update__two_blocks_in_any_steps),
        cmocka_unit_test(test_sha256_update__a_million_bytes),
        cmocka_unit_test(test_sha256_finish__padding_at_the_edges),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
