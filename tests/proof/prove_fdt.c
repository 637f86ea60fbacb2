/* SPDX-License-Identifier: MIT */
/*
 * The device-tree reader and a blob of any bytes.  What opening a tree leaves
 * is enough for each token that is read later, at whichever offset.
 */
#include "proof.h"

#include <skio/checked.h>

#include "bus/fdt_walk.h"

void prove_fdt_open(void);
void prove_fdt_token(void);

#ifndef FDT_BYTES
#define FDT_BYTES 72u /* the shortest tree that there is */
#endif

static uint8_t *any_blob(void)
{
    uint8_t *blob = proof_new(FDT_BYTES);

    for (uint32_t i = 0; i < FDT_BYTES; i++) {
        blob[i] = (uint8_t)proof_any();
    }
    return blob;
}

/* What is true of a tree that was opened. */
static bool is_open(const struct sk_fdt *fdt)
{
    return fdt->size <= FDT_BYTES &&
           sk_checked_range(fdt->structure_offset, fdt->structure_bytes, fdt->size) &&
           sk_checked_range(fdt->strings_offset, fdt->strings_bytes, fdt->size) &&
           sk_checked_range(fdt->reservations_offset, fdt->reservations_bytes, fdt->size) &&
           (fdt->strings_bytes == 0 ||
            fdt->blob[fdt->strings_offset + fdt->strings_bytes - 1] == 0);
}

void prove_fdt_open(void)
{
    struct sk_fdt fdt;

    if (sk_fdt_open(any_blob(), FDT_BYTES, &fdt) == SK_OK) {
        proof_assert(is_open(&fdt), "an open tree lies in its blob");
    } else {
        proof_assert(fdt.blob == NULL, "what is no tree is not opened");
    }
}

void prove_fdt_token(void)
{
    uint8_t *blob = any_blob();
    struct sk_fdt fdt = { .blob = blob, .size = FDT_BYTES };
    struct ski_fdt_token token;
    uint32_t bytes;

    fdt.structure_offset = proof_below(FDT_BYTES + 1);
    fdt.structure_bytes = proof_below(FDT_BYTES + 1 - fdt.structure_offset);
    fdt.strings_offset = proof_below(FDT_BYTES);
    fdt.strings_bytes = 1 + proof_below(FDT_BYTES - fdt.strings_offset);
    blob[fdt.strings_offset + fdt.strings_bytes - 1] = 0;
    if (ski_fdt_token(&fdt, (uint32_t)proof_any(), &token) != SK_OK) {
        return;
    }
    proof_assert(token.next > token.offset && token.next <= fdt.structure_bytes,
                 "a token moves on, within the structure");
    if (token.tag == SKI_FDT_PROP) {
        bytes = (uint32_t)(token.value - fdt.blob);
        proof_assert(sk_checked_range(bytes, token.bytes, FDT_BYTES), "a value lies in the blob");
    }
    if (token.name != NULL) {
        bytes = (uint32_t)((const uint8_t *)token.name - fdt.blob);
        while (bytes < FDT_BYTES && fdt.blob[bytes] != 0) {
            bytes++;
        }
        proof_assert(bytes < FDT_BYTES, "a name ends in the blob");
    }
}

const struct proof_run proof_runs[] = {
    { "fdt_open", prove_fdt_open },
    { "fdt_token", prove_fdt_token },
    { NULL, NULL },
};
