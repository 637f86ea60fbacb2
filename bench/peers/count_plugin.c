/* SPDX-License-Identifier: MIT */
/*
 * A plugin for QEMU that counts the instructions a guest executes; what it
 * sleeps through is not counted.  At each mark it writes the count so far, a
 * line each, to a file.  Marks are guest_mark() of guest.h, and the addresses
 * that it is given.
 *
 *   -plugin count_plugin.so,out=FILE[,mark=ADDRESS...]
 *
 * One virtual processor.  Spec: QEMU's plugin API, version 1 (7.2 to 8.2); its
 * header is in no package, so what is used of it is declared here.
 */
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MARK      0x45302013u /* slti zero, zero, 1107 */
#define MARKS_MAX 8
#define ADD_U64   0
#define NO_REGS   0

struct qemu_plugin_tb;
struct qemu_plugin_insn;

void qemu_plugin_register_vcpu_tb_trans_cb(uint64_t id,
                                           void (*callback)(uint64_t id,
                                                            struct qemu_plugin_tb *block));
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *block);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *block, size_t index);
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *instruction);
size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *instruction);
uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *instruction);
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *block, int operation,
                                              void *word, uint64_t value);
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *instruction,
                                            void (*callback)(unsigned processor, void *context),
                                            int flags, void *context);

__attribute__((visibility("default"))) int qemu_plugin_version = 1;
int qemu_plugin_install(uint64_t id, const void *info, int argc, char **argv);

static uint64_t count;
static uint64_t marks[MARKS_MAX];
static int mark_count;
static FILE *out;

static void at_mark(unsigned processor, void *context)
{
    (void)processor;
    (void)context;
    (void)fprintf(out, "%" PRIu64 "\n", count);
    (void)fflush(out);
}

static int is_mark(const struct qemu_plugin_insn *instruction)
{
    uint32_t word;

    for (int i = 0; i < mark_count; i++) {
        if (qemu_plugin_insn_vaddr(instruction) == marks[i]) {
            return 1;
        }
    }
    if (qemu_plugin_insn_size(instruction) != sizeof(word)) {
        return 0;
    }
    memcpy(&word, qemu_plugin_insn_data(instruction), sizeof(word));
    return word == MARK;
}

static void translated(uint64_t id, struct qemu_plugin_tb *block)
{
    size_t instructions = qemu_plugin_tb_n_insns(block);

    (void)id;
    qemu_plugin_register_vcpu_tb_exec_inline(block, ADD_U64, &count, instructions);
    for (size_t i = 0; i < instructions; i++) {
        struct qemu_plugin_insn *instruction = qemu_plugin_tb_get_insn(block, i);

        if (is_mark(instruction)) {
            qemu_plugin_register_vcpu_insn_exec_cb(instruction, at_mark, NO_REGS, NULL);
        }
    }
}

__attribute__((visibility("default"))) int qemu_plugin_install(uint64_t id, const void *info,
                                                               int argc, char **argv)
{
    (void)info;
    for (int i = 0; i < argc; i++) {
        if (strncmp(argv[i], "out=", 4) == 0) {
            out = fopen(argv[i] + 4, "w");
        } else if (strncmp(argv[i], "mark=", 5) == 0 && mark_count < MARKS_MAX) {
            marks[mark_count++] = strtoull(argv[i] + 5, NULL, 16);
        } else {
            return 1;
        }
    }
    if (out == NULL) {
        (void)fprintf(stderr, "count_plugin: out=FILE is missing or cannot be written\n");
        return 1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    return 0;
}
