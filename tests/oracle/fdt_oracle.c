/* SPDX-License-Identifier: MIT */
#include "oracle/fdt_oracle.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <libfdt.h>

#include "oracle/fdt_second.h"

char fdt_oracle_context[256];

#define PROBES_MAX 512

/* The two sides of one comparison. */
struct pair {
    const void *blob; /* libfdt's */
    struct sk_fdt fdt;
};

/* A node on both sides. */
struct both {
    struct sk_fdt_node ours;
    int theirs;
};

static uint32_t offset_of(const struct sk_fdt_node *node)
{
    return node->path[node->depth - 1];
}

static const char *name_of(const struct pair *pair, const struct sk_fdt_node *node)
{
    const char *name = NULL;

    CHECK(sk_fdt_name(&pair->fdt, node, &name) == SK_OK);
    return name;
}

/* One answer that is a node: found at the same place, or by neither. */
static void same_node(enum sk_status status, const struct sk_fdt_node *ours, int theirs)
{
    if (theirs >= 0) {
        CHECK(status == SK_OK);
        CHECK(offset_of(ours) == (uint32_t)theirs);
    } else {
        CHECK(theirs == -FDT_ERR_NOTFOUND);
        CHECK(status == SK_ERR_NOT_FOUND);
    }
}

static void compare_properties(const struct pair *pair, const struct both *node)
{
    struct sk_fdt_property ours;
    uint32_t index = 0;
    int at;

    fdt_for_each_property_offset(at, pair->blob, node->theirs)
    {
        const char *name = NULL;
        const char *string = NULL;
        int bytes = 0;
        const void *value = fdt_getprop_by_offset(pair->blob, at, &name, &bytes);

        CHECK(value != NULL);
        CHECK(sk_fdt_property_at(&pair->fdt, &node->ours, index++, &ours) == SK_OK);
        CHECK(ours.name == name && ours.value == value && ours.bytes == (uint32_t)bytes);

        value = fdt_getprop(pair->blob, node->theirs, name, &bytes);
        CHECK(sk_fdt_property(&pair->fdt, &node->ours, name, &ours) == SK_OK);
        CHECK(ours.value == value && ours.bytes == (uint32_t)bytes);
        for (uint32_t cell = 0; cell < 3; cell++) {
            uint32_t number = 0;
            enum sk_status status = sk_fdt_u32(&pair->fdt, &node->ours, name, cell, &number);

            CHECK(status == ((uint32_t)bytes / 4 > cell ? SK_OK : SK_ERR_RANGE));
            CHECK(status != SK_OK || number == fdt32_ld((const fdt32_t *)value + cell));
        }
        for (int i = 0; i < 4; i++) {
            const char *theirs = fdt_stringlist_get(pair->blob, node->theirs, name, i, &bytes);
            enum sk_status status =
                sk_fdt_string(&pair->fdt, &node->ours, name, (uint32_t)i, &string);

            CHECK(status == (theirs != NULL               ? SK_OK
                             : bytes == -FDT_ERR_NOTFOUND ? SK_ERR_NOT_FOUND
                                                          : SK_ERR_MALFORMED));
            CHECK(theirs == NULL || string == theirs);
        }
    }
    CHECK(sk_fdt_property_at(&pair->fdt, &node->ours, index, &ours) == SK_ERR_NOT_FOUND);
    CHECK(sk_fdt_property(&pair->fdt, &node->ours, "no-such-name", &ours) == SK_ERR_NOT_FOUND);
}

static void compare_relatives(const struct pair *pair, const struct both *node)
{
    struct sk_fdt_node ours;
    enum sk_status status;

    status = sk_fdt_parent(&pair->fdt, &node->ours, &ours);
    same_node(status, &ours, fdt_parent_offset(pair->blob, node->theirs));
    status = sk_fdt_child(&pair->fdt, &node->ours, &ours);
    same_node(status, &ours, fdt_first_subnode(pair->blob, node->theirs));
    status = sk_fdt_sibling(&pair->fdt, &node->ours, &ours);
    if (node->ours.depth == 1) { /* libfdt looks behind the root and finds END */
        CHECK(status == SK_ERR_NOT_FOUND);
    } else {
        same_node(status, &ours, fdt_next_subnode(pair->blob, node->theirs));
    }
}

/* Makes "/a@1/b@2" into "/a/b". */
static void drop_unit_addresses(char *path)
{
    char *to = path;
    bool in_address = false;

    for (const char *from = path; *from != '\0'; from++) {
        in_address = *from == '@' || (in_address && *from != '/');
        if (!in_address) {
            *to++ = *from;
        }
    }
    *to = '\0';
}

static void compare_paths(const struct pair *pair, const struct both *node)
{
    struct sk_fdt_node ours;
    char path[4096];
    enum sk_status status;

    if (fdt_get_path(pair->blob, node->theirs, path, (int)sizeof(path) - 8) != 0) {
        return; /* longer than any of ours */
    }
    for (int round = 0; round < 3; round++) {
        status = sk_fdt_find_path(&pair->fdt, path, &ours);
        same_node(status, &ours, fdt_path_offset(pair->blob, path));
        if (round == 0) {
            drop_unit_addresses(path);
        } else {
            strcat(path, "//x");
        }
    }
}

static void compare_phandle(const struct pair *pair, uint32_t phandle)
{
    struct sk_fdt_node ours;
    enum sk_status status = sk_fdt_find_phandle(&pair->fdt, phandle, &ours);

    if (phandle == 0 || phandle == UINT32_MAX) {
        CHECK(status == SK_ERR_INVALID);
    } else {
        same_node(status, &ours, fdt_node_offset_by_phandle(pair->blob, phandle));
    }
}

/* True if some list of compatible strings has no end. */
static bool has_endless_compatible(const struct pair *pair)
{
    for (int node = fdt_next_node(pair->blob, -1, NULL); node >= 0;
         node = fdt_next_node(pair->blob, node, NULL)) {
        int bytes = 0;
        const char *value = fdt_getprop(pair->blob, node, "compatible", &bytes);

        if (value != NULL && bytes > 0 && value[bytes - 1] != '\0') {
            return true;
        }
    }
    return false;
}

static void compare_compatible(const struct pair *pair, const char *compatible)
{
    struct sk_fdt_node ours = { 0 };
    int theirs = -1;

    do {
        enum sk_status status = sk_fdt_find_compatible(&pair->fdt, compatible, &ours);

        theirs = fdt_node_offset_by_compatible(pair->blob, theirs, compatible);
        same_node(status, &ours, theirs);
        CHECK(theirs < 0 || sk_fdt_is_compatible(&pair->fdt, &ours, compatible));
    } while (theirs >= 0);
}

static void compare_searches(const struct pair *pair, const struct both *node, bool compatibles)
{
    struct sk_fdt_node found;
    int bytes = 0;

    compare_phandle(pair, fdt_get_phandle(pair->blob, node->theirs));
    if (!compatibles) {
        return;
    }
    for (int i = 0; i < 3; i++) {
        const char *string = fdt_stringlist_get(pair->blob, node->theirs, "compatible", i, &bytes);

        if (string != NULL && string[0] != '\0') {
            compare_compatible(pair, string);
            found = node->ours; /* searching goes on behind a node, wherever it is */
            (void)!sk_fdt_find_compatible(&pair->fdt, string, &found);
        }
    }
}

static void compare_ranges(const struct pair *pair, const struct both *node)
{
    for (uint32_t i = 0; i < 5; i++) {
        struct sk_device_range ours = { { 0 }, 0 };
        struct sk_device_range theirs = { { 0 }, 0 };
        enum sk_status status = sk_fdt_range(&pair->fdt, &node->ours, i, &ours);

        CHECK(status == fdt_second_range(pair->blob, node->theirs, i, &theirs));
        CHECK(ours.base.raw == theirs.base.raw && ours.bytes == theirs.bytes);
    }
}

static void compare_interrupts(const struct pair *pair, const struct both *node)
{
    for (uint32_t i = 0; i < 6; i++) {
        struct sk_interrupt ours = { 0 };
        struct sk_interrupt theirs = { 0 };
        enum sk_status status = sk_fdt_interrupt(&pair->fdt, &node->ours, i, &ours);

        CHECK(status == fdt_second_interrupt(pair->blob, node->theirs, i, &theirs));
        CHECK(ours.controller == theirs.controller && ours.cell_count == theirs.cell_count);
        CHECK(memcmp(ours.cells, theirs.cells, sizeof(ours.cells)) == 0);
    }
}

/* Where our windows send one device address. */
static size_t windows_reach(const struct sk_dma_window *windows, size_t count, uint64_t daddr,
                            uint64_t *out_paddrs)
{
    size_t reached = 0;

    for (size_t i = 0; i < count; i++) {
        if (daddr - windows[i].daddr.raw < windows[i].bytes) {
            out_paddrs[reached++] = windows[i].paddr.raw + (daddr - windows[i].daddr.raw);
        }
    }
    return reached;
}

static int by_value(const void *left, const void *right)
{
    uint64_t a = *(const uint64_t *)left;
    uint64_t b = *(const uint64_t *)right;

    return (a > b) - (a < b);
}

static void compare_reach(const struct pair *pair, const struct both *node,
                          const struct sk_dma_window *windows, size_t count, uint64_t daddr)
{
    uint64_t ours[SK_FDT_DMA_WINDOWS_MAX] = { 0 };
    uint64_t theirs[FDT_SECOND_REACH_MAX] = { 0 };
    size_t our_count = windows_reach(windows, count, daddr, ours);
    size_t their_count = fdt_second_reach(pair->blob, node->theirs, daddr, theirs);

    if (daddr == UINT64_MAX) {
        return; /* the one address that no window can hold */
    }
    CHECK(our_count == their_count);
    qsort(ours, our_count, sizeof(ours[0]), by_value);
    qsort(theirs, their_count, sizeof(theirs[0]), by_value);
    CHECK(memcmp(ours, theirs, our_count * sizeof(ours[0])) == 0);
}

/* A window is right if it is at and around its edges. */
static void compare_windows(const struct pair *pair, const struct both *node)
{
    struct sk_dma_window windows[SK_FDT_DMA_WINDOWS_MAX];
    uint64_t probes[PROBES_MAX];
    size_t count = 0;
    size_t probe_count;
    enum sk_status status =
        sk_fdt_dma_windows(&pair->fdt, &node->ours, windows, SK_FDT_DMA_WINDOWS_MAX, &count);

    CHECK(status == fdt_second_windows_status(pair->blob, node->theirs));
    CHECK((status == SK_OK) == (count > 0) || status == SK_ERR_RANGE);
    if (status != SK_OK && status != SK_ERR_UNREACHABLE) {
        return;
    }
    probe_count = fdt_second_probes(pair->blob, node->theirs, probes, PROBES_MAX);
    for (size_t i = 0; i < count; i++) {
        uint64_t first = windows[i].daddr.raw;
        uint64_t last = first + windows[i].bytes - 1;

        CHECK(windows[i].bytes > 0 && last >= first);
        compare_reach(pair, node, windows, count, first);
        compare_reach(pair, node, windows, count, first - 1);
        compare_reach(pair, node, windows, count, last);
        compare_reach(pair, node, windows, count, last + 1);
    }
    for (size_t i = 0; i < probe_count; i++) {
        compare_reach(pair, node, windows, count, probes[i]);
    }
}

static void compare_node(const struct pair *pair, const struct both *node, bool compatibles)
{
    CHECK(name_of(pair, &node->ours) == fdt_get_name(pair->blob, node->theirs, NULL));
    CHECK(node->ours.depth == (uint32_t)fdt_node_depth(pair->blob, node->theirs) + 1);
    compare_properties(pair, node);
    compare_relatives(pair, node);
    compare_paths(pair, node);
    compare_searches(pair, node, compatibles);
    compare_ranges(pair, node);
    compare_interrupts(pair, node);
    compare_windows(pair, node);
    CHECK(sk_fdt_is_enabled(&pair->fdt, &node->ours) ==
          fdt_second_is_enabled(pair->blob, node->theirs));
    CHECK(sk_fdt_get_coherence(&pair->fdt, &node->ours) ==
          fdt_second_coherence(pair->blob, node->theirs));
}

static void compare_nodes(const struct pair *pair)
{
    bool compatibles = !has_endless_compatible(pair);
    struct both node;
    enum sk_status status = sk_fdt_root(&pair->fdt, &node.ours);

    node.theirs = fdt_next_node(pair->blob, -1, NULL);
    while (status == SK_OK && node.theirs >= 0) {
        CHECK(offset_of(&node.ours) == (uint32_t)node.theirs);
        compare_node(pair, &node, compatibles);
        status = sk_fdt_next(&pair->fdt, &node.ours);
        node.theirs = fdt_next_node(pair->blob, node.theirs, NULL);
    }
    CHECK(status == SK_ERR_NOT_FOUND && node.theirs == -FDT_ERR_NOTFOUND);
    compare_phandle(pair, 0);
    compare_phandle(pair, UINT32_MAX);
    compare_phandle(pair, 0x7fffffff);
    if (compatibles) {
        compare_compatible(pair, "no,such");
    }
}

static void compare_system(const struct pair *pair)
{
    struct sk_fdt_node node = { 0 };
    const char *ours = NULL;
    const char *theirs = NULL;
    enum sk_status status = SK_OK;
    int found = 0;

    for (uint32_t i = 0; status != SK_ERR_NOT_FOUND; i++) {
        struct sk_device_range left = { { 0 }, 0 };
        struct sk_device_range right = { { 0 }, 0 };

        status = sk_fdt_memory(&pair->fdt, i, &left);
        CHECK(status == fdt_second_memory(pair->blob, i, &right));
        CHECK(status != SK_OK || (left.base.raw == right.base.raw && left.bytes == right.bytes));
    }
    status = fdt_second_sees_all_reservations(pair->blob) ? SK_OK : SK_ERR_NOT_FOUND;
    for (uint32_t i = 0; status != SK_ERR_NOT_FOUND; i++) {
        struct sk_device_range left = { { 0 }, 0 };
        struct sk_device_range right = { { 0 }, 0 };

        status = sk_fdt_reserved(&pair->fdt, i, &left);
        CHECK(status == fdt_second_reserved(pair->blob, i, &right));
        CHECK(status != SK_OK || (left.base.raw == right.base.raw && left.bytes == right.bytes));
    }
    status = sk_fdt_bootargs(&pair->fdt, &ours);
    CHECK(status == fdt_second_bootargs(pair->blob, &theirs));
    CHECK(ours == theirs);
    status = sk_fdt_stdout(&pair->fdt, &node);
    CHECK(status == fdt_second_stdout(pair->blob, &found));
    CHECK(status != SK_OK || offset_of(&node) == (uint32_t)found);
}

enum fdt_oracle_verdict fdt_oracle_compare(const void *blob, size_t bytes)
{
    struct pair pair = { .blob = blob };
    enum sk_status ours = sk_fdt_open(blob, bytes, &pair.fdt);
    int theirs;

    if (fdt_second_hangs(blob, bytes)) {
        CHECK(ours == SK_ERR_MALFORMED);
        return FDT_ORACLE_WE_REFUSE;
    }
    theirs = fdt_check_full(blob, bytes);
    if (ours != SK_OK) {
        CHECK(ours == SK_ERR_SIZE || ours == SK_ERR_MALFORMED || ours == SK_ERR_UNSUPPORTED);
        CHECK(pair.fdt.blob == NULL && pair.fdt.size == 0);
        CHECK(theirs != 0 || fdt_second_excuses_refusal(blob));
        return theirs == 0 ? FDT_ORACLE_WE_REFUSE : FDT_ORACLE_BOTH_REFUSE;
    }
    if (theirs != 0) {
        CHECK(fdt_second_excuses_taking(blob, bytes));
        return FDT_ORACLE_WE_TAKE;
    }
    if (fdt32_ld((const fdt32_t *)fdt_offset_ptr(blob, 0, 4)) != FDT_NOP) {
        compare_nodes(&pair);
        compare_system(&pair);
    }
    return FDT_ORACLE_BOTH_TAKE;
}

static void exercise_node(const struct sk_fdt *fdt, const struct sk_fdt_node *node)
{
    struct sk_dma_window windows[4];
    struct sk_fdt_property property;
    struct sk_device_range range;
    struct sk_interrupt interrupt;
    struct sk_fdt_node other;
    const char *text = "";
    uint32_t number;
    size_t count;
    int seen = 0;

    for (uint32_t i = 0; i < 4; i++) {
        seen += sk_fdt_property_at(fdt, node, i, &property) == SK_OK;
        seen += sk_fdt_range(fdt, node, i, &range) == SK_OK;
        seen += sk_fdt_interrupt(fdt, node, i, &interrupt) == SK_OK;
        seen += sk_fdt_string(fdt, node, "compatible", i, &text) == SK_OK;
        seen += sk_fdt_u32(fdt, node, "reg", i, &number) == SK_OK;
    }
    seen += sk_fdt_name(fdt, node, &text) == SK_OK;
    seen += sk_fdt_child(fdt, node, &other) == SK_OK;
    seen += sk_fdt_sibling(fdt, node, &other) == SK_OK;
    seen += sk_fdt_parent(fdt, node, &other) == SK_OK;
    seen += sk_fdt_dma_windows(fdt, node, windows, 4, &count) == SK_OK;
    seen += sk_fdt_is_enabled(fdt, node);
    seen += sk_fdt_is_compatible(fdt, node, text);
    CHECK(seen >= 0 && sk_fdt_get_coherence(fdt, node) <= SK_FDT_COHERENCE_NONCOHERENT);
}

void fdt_oracle_exercise(const void *blob, size_t bytes)
{
    struct sk_device_range range;
    struct sk_fdt_node node = { 0 };
    struct sk_fdt fdt;
    const char *text;
    int seen = 0;
    enum sk_status status = sk_fdt_open(blob, bytes, &fdt);

    if (status == SK_OK) {
        status = sk_fdt_root(&fdt, &node);
    }
    for (; status == SK_OK; status = sk_fdt_next(&fdt, &node)) {
        exercise_node(&fdt, &node);
    }
    for (uint32_t i = 0; i < 4; i++) {
        seen += sk_fdt_memory(&fdt, i, &range) == SK_OK;
        seen += sk_fdt_reserved(&fdt, i, &range) == SK_OK;
        seen += sk_fdt_find_phandle(&fdt, i, &node) == SK_OK;
    }
    seen += sk_fdt_bootargs(&fdt, &text) == SK_OK;
    seen += sk_fdt_stdout(&fdt, &node) == SK_OK;
    seen += sk_fdt_find_path(&fdt, "/soc/serial", &node) == SK_OK;
    CHECK(seen >= 0);
}
