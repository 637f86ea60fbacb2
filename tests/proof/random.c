/* SPDX-License-Identifier: MIT */
/*
 * A harness as a program: its functions with random choices, many times.  What
 * is random proves nothing; it keeps the harness alive, and a failure has a
 * seed to begin with: test_proof_x SEED runs that alone.
 */
#include "proof.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>

#define RUNS 4000u
#define OBJECTS 64u

static jmp_buf end;
static uint64_t state;
static uint64_t seed;
static const char *running;
static void *objects[OBJECTS];
static unsigned object_count;

/* Small numbers and bits more often than chance has them. */
uint64_t proof_any(void)
{
    uint64_t value;

    state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    value = state ^ state >> 29;
    switch (value & 3) {
    case 0:
        return value >> 2 & 7;
    case 1:
        return value >> 2 & 0xffff;
    default:
        return value >> 2 | value << 62;
    }
}

void *proof_new(size_t bytes)
{
    void *object = object_count < OBJECTS ? calloc(1, bytes) : NULL;

    if (object == NULL) {
        abort();
    }
    objects[object_count++] = object;
    return object;
}

void proof_discard(void)
{
    longjmp(end, 1);
}

void proof_failed(const char *what, const char *file, int line)
{
    fprintf(stderr, "%s, seed %llu: %s:%d: %s\n", running, (unsigned long long)seed, file, line,
            what);
    exit(EXIT_FAILURE);
}

/* False: what it assumed was not so. */
static bool run(const struct proof_run *what)
{
    bool done = false;

    running = what->name;
    state = seed * UINT64_C(0x9e3779b97f4a7c15);
    if (setjmp(end) == 0) {
        what->run();
        done = true;
    }
    while (object_count > 0) {
        free(objects[--object_count]);
    }
    return done;
}

int main(int argc, char **argv)
{
    uint64_t first = argc > 1 ? strtoull(argv[1], NULL, 0) : 1;
    uint64_t last = argc > 1 ? first : RUNS;

    for (const struct proof_run *what = proof_runs; what->name != NULL; what++) {
        static unsigned done;

        done = 0;
        for (seed = first; seed <= last; seed++) {
            done += run(what);
        }
        printf("%s: %u of %llu runs\n", what->name, done, (unsigned long long)(last - first + 1));
        if (done == 0 && argc == 1) {
            return EXIT_FAILURE;
        }
    }
    return EXIT_SUCCESS;
}
