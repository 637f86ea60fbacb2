/* SPDX-License-Identifier: MIT */
#include "options.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NS_PER_SECOND UINT64_C(1000000000)

enum kind {
    KIND_FLAG,   /* bool */
    KIND_NUMBER, /* uint64_t, within [low, high] */
    KIND_SIZE,   /* uint64_t, bytes with a suffix */
    KIND_TIME,   /* uint64_t, ns */
    KIND_TEXT,   /* const char * */
    KIND_WORD    /* its own function */
};

struct option_row {
    const char *name;
    const char *argument; /* NULL: none */
    const char *help;
    uint32_t groups;
    enum kind kind;
    size_t place; /* in struct skblk_settings */
    uint64_t low;
    uint64_t high;
    bool (*take)(struct skblk_settings *settings, const char *text);
};

static bool take_recovery(struct skblk_settings *settings, const char *text)
{
    settings->resubmit = strcmp(text, "resubmit") == 0;
    return settings->resubmit || strcmp(text, "fail") == 0;
}

static bool take_waiting(struct skblk_settings *settings, const char *text)
{
    static const char *const names[] = { "sleep", "poll", "hybrid" };

    for (size_t i = 0; i < 3; i++) {
        size_t length = strlen(names[i]);

        if (strcmp(text, names[i]) == 0) {
            settings->waiting = (enum skblk_waiting)i;
            return true;
        }
        if (i == SKBLK_WAITING_HYBRID && strncmp(text, names[i], length) == 0 &&
            text[length] == ':') {
            settings->waiting = SKBLK_WAITING_HYBRID;
            return skblk_parse_time(text + length + 1, &settings->spin_ns);
        }
    }
    return false;
}

static bool take_pattern(struct skblk_settings *settings, const char *text)
{
    char *end = NULL;

    if (strcmp(text, "random") == 0) {
        settings->pattern = SKBLK_PATTERN_RANDOM;
    } else if (strcmp(text, "sequential") == 0) {
        settings->pattern = SKBLK_PATTERN_SEQUENTIAL;
    } else if (strncmp(text, "zipf", 4) == 0 && (text[4] == '\0' || text[4] == ':')) {
        settings->pattern = SKBLK_PATTERN_ZIPF;
        if (text[4] == ':') {
            settings->skew = strtod(text + 5, &end);
            return end != text + 5 && *end == '\0' && settings->skew > 0 && settings->skew < 1;
        }
    } else {
        return false;
    }
    return true;
}

#define PLACE(member) offsetof(struct skblk_settings, member)
#define FLAG(name, groups, member, help) \
    { name, NULL, help, groups, KIND_FLAG, PLACE(member), 0, 0, NULL }
#define VALUE(name, argument, groups, kind, member, low, high, help) \
    { name, argument, help, groups, kind, PLACE(member), low, high, NULL }
#define WORD(name, argument, groups, take, help) \
    { name, argument, help, groups, KIND_WORD, 0, 0, 0, take }

static const struct option_row rows[] = {
    VALUE("offset", "BYTES", SKBLK_GROUP_RANGE, KIND_SIZE, offset, 0, UINT64_MAX,
          "where on the source, or the disk, to begin (0)"),
    VALUE("length", "BYTES", SKBLK_GROUP_RANGE, KIND_SIZE, length, 1, UINT64_MAX,
          "how much (to the end)"),
    VALUE("target-offset", "BYTES", SKBLK_GROUP_COPY, KIND_SIZE, target_offset, 0, UINT64_MAX,
          "where on the target to begin (0)"),
    VALUE("start", "BYTES", SKBLK_GROUP_COPY, KIND_SIZE, start, 0, UINT64_MAX,
          "how much of the range is done already, from an earlier try (0)"),
    FLAG("no-sparse", SKBLK_GROUP_COPY, no_sparse, "write zeroes as data instead of holes"),
    FLAG("no-flush", SKBLK_GROUP_COPY, no_flush, "do not make the target durable at the end"),
    VALUE("chunk", "BYTES", SKBLK_GROUP_PIPELINE, KIND_SIZE, chunk, 512, 64u << 20,
          "bytes of one request (1M)"),
    VALUE("depth", "N", SKBLK_GROUP_PIPELINE | SKBLK_GROUP_BENCH | SKBLK_GROUP_VERIFY, KIND_NUMBER,
          depth, 1, 4096, "requests in flight (16; bench and verify: 32)"),
    FLAG("unmap", SKBLK_GROUP_CLEAR, unmap, "zero: let the disk give the space up"),
    FLAG("secure", SKBLK_GROUP_CLEAR, secure, "discard: erase so that nothing can be read again"),
    VALUE("block", "BYTES", SKBLK_GROUP_BENCH | SKBLK_GROUP_VERIFY, KIND_SIZE, block, 512,
          16u << 20, "bytes of one request (4k)"),
    VALUE("seconds", "TIME", SKBLK_GROUP_BENCH | SKBLK_GROUP_VERIFY, KIND_TIME, seconds_ns, 1,
          UINT64_MAX, "how long (5)"),
    VALUE("reads", "PERCENT", SKBLK_GROUP_BENCH, KIND_NUMBER, reads, 0, 100,
          "how many of 100 requests read, the others write (100)"),
    WORD("pattern", "NAME", SKBLK_GROUP_BENCH, take_pattern,
         "random, sequential, or zipf[:SKEW], with a skew between 0 and 1 (random)"),
    WORD("wait", "NAME", SKBLK_GROUP_WAITING, take_waiting,
         "sleep, poll, or hybrid[:TIME], which looks that long first (hybrid:50us)"),
    VALUE("gather", "TIME", SKBLK_GROUP_BENCH, KIND_TIME, gather_ns, 0, NS_PER_SECOND,
          "how much later an answer may be seen, for fewer interrupts (50us)"),
    VALUE("plot", "FILE.svg", SKBLK_GROUP_BENCH, KIND_TEXT, plot, 0, 0,
          "draw how latencies are distributed"),
    VALUE("seed", "N", SKBLK_GROUP_BENCH | SKBLK_GROUP_VERIFY, KIND_NUMBER, seed, 0, UINT64_MAX,
          "of the random numbers (1)"),
    VALUE("generation", "N", SKBLK_GROUP_VERIFY, KIND_NUMBER, generation, 1, UINT32_MAX,
          "of the content that is written or expected (1)"),
    FLAG("write", SKBLK_GROUP_VERIFY, write, "write the content instead of checking it"),
    FLAG("stress", SKBLK_GROUP_VERIFY, stress, "write and read random blocks, then check all"),
    VALUE("interval", "TIME", SKBLK_GROUP_WATCH, KIND_TIME, interval_ns, 1, UINT64_MAX,
          "between two lines (1)"),
    VALUE("count", "N", SKBLK_GROUP_WATCH, KIND_NUMBER, count, 1, UINT64_MAX,
          "how many lines (until it is stopped)"),
    VALUE("size", "BYTES", SKBLK_GROUP_SERVE, KIND_SIZE, size, 512, UINT64_MAX,
          "capacity of serve-null (1G)"),
    VALUE("logical-block", "BYTES", SKBLK_GROUP_SERVE, KIND_SIZE, logical_block, 512, 65536,
          "the disk's block (512)"),
    VALUE("workers", "N", SKBLK_GROUP_SERVE, KIND_NUMBER, workers, 1, 64,
          "groups of threads that do the work (as many as queues)"),
    VALUE("threads", "N", SKBLK_GROUP_SERVE, KIND_NUMBER, threads, 1, 256,
          "of each worker at most: requests at the file at a time (32)"),
    FLAG("write-through", SKBLK_GROUP_SERVE, write_through, "an answered write is durable"),
    FLAG("zeroes", SKBLK_GROUP_SERVE, zeroes, "serve-null: fill what is read with zeroes"),
    FLAG("read-only", SKBLK_GROUP_SERVE, read_only, "refuse writes"),
    FLAG("once", SKBLK_GROUP_SERVE, once, "end when the first client leaves"),
    VALUE("faults", "LIST", SKBLK_GROUP_SERVE, KIND_TEXT, faults, 0, 0,
          "misbehave on purpose, for tests"),
    FLAG("yes-overwrite", SKBLK_GROUP_DANGER, force, "do what destroys the disk's content"),
    VALUE("queues", "N", SKBLK_GROUP_CONNECTION | SKBLK_GROUP_SERVE, KIND_NUMBER, queues, 1, 64,
          "queues (1)"),
    VALUE("queue-size", "N", SKBLK_GROUP_CONNECTION, KIND_NUMBER, queue_size, 2, 32768, "entries of each ring (128)"),
    FLAG("no-packed", SKBLK_GROUP_CONNECTION | SKBLK_GROUP_SERVE, no_packed,
         "split rings only"),
    FLAG("no-indirect", SKBLK_GROUP_CONNECTION | SKBLK_GROUP_SERVE, no_indirect,
         "no indirect descriptors"),
    FLAG("no-event-index", SKBLK_GROUP_CONNECTION | SKBLK_GROUP_SERVE, no_event_index,
         "no event index"),
    FLAG("no-in-order", SKBLK_GROUP_CONNECTION | SKBLK_GROUP_SERVE, no_in_order,
         "answers in any order"),
    VALUE("timeout", "TIME", SKBLK_GROUP_CONNECTION, KIND_TIME, timeout_ns, 1, UINT64_MAX,
          "longest time for a request (10)"),
    VALUE("reconnect", "TIME", SKBLK_GROUP_CONNECTION, KIND_TIME, reconnect_ns, 0, UINT64_MAX,
          "how long to wait for a back end that went away (8)"),
    WORD("recovery", "NAME", SKBLK_GROUP_CONNECTION, take_recovery,
         "what happens to requests of a lost back end: resubmit or fail (resubmit)"),
    FLAG("huge-pages", SKBLK_GROUP_CONNECTION, huge_pages, "insist on huge pages"),
    FLAG("json", SKBLK_GROUP_OUTPUT, json, "print one JSON object"),
    FLAG("quiet", SKBLK_GROUP_OUTPUT, quiet, "show no progress"),
    FLAG("verbose", SKBLK_GROUP_OUTPUT, verbose, "log what the driver does"),
};

#define ROW_COUNT (sizeof(rows) / sizeof(rows[0]))

static const struct skblk_settings defaults = {
    .queues = 1,
    .queue_size = 128,
    .timeout_ns = 10 * NS_PER_SECOND,
    .reconnect_ns = 8 * NS_PER_SECOND,
    .resubmit = true,
    .chunk = 1u << 20,
    .waiting = SKBLK_WAITING_HYBRID,
    .spin_ns = 50000,
    .gather_ns = 50000,
    .block = 4096,
    .seconds_ns = 5 * NS_PER_SECOND,
    .reads = 100,
    .seed = 1,
    .generation = 1,
    .skew = 0.9,
    .interval_ns = NS_PER_SECOND,
    .logical_block = 512,
    .threads = 32,
};

static bool parse_number(const char *text, uint64_t *out_value)
{
    char *end;

    if (text[0] < '0' || text[0] > '9') {
        return false;
    }
    errno = 0;
    *out_value = strtoull(text, &end, 0);
    return *end == '\0' && errno == 0;
}

static bool take_value(const struct option_row *row, struct skblk_settings *settings,
                       const char *text)
{
    uint64_t value = 0;
    bool taken;

    switch (row->kind) {
    case KIND_WORD:
        return row->take(settings, text);
    case KIND_TEXT:
        (void)memcpy((char *)settings + row->place, &text, sizeof(text));
        return true;
    case KIND_FLAG:
        *(bool *)(void *)((char *)settings + row->place) = true;
        return true;
    case KIND_NUMBER:
        taken = parse_number(text, &value);
        break;
    case KIND_SIZE:
        taken = skblk_parse_size(text, &value);
        break;
    default:
        taken = skblk_parse_time(text, &value);
        break;
    }
    (void)memcpy((char *)settings + row->place, &value, sizeof(value));
    return taken && value >= row->low && value <= row->high;
}

static int usage_error(const struct skblk_call *call)
{
    (void)fprintf(stderr, "try: skblk %s --help\n", call->name);
    return SKBLK_EXIT_USAGE;
}

/* The options of one command, for getopt_long; `val` is the row's number and one more. */
static void fill_options(uint32_t groups, struct option *out_options)
{
    size_t count = 0;

    for (size_t i = 0; i < ROW_COUNT; i++) {
        if ((rows[i].groups & groups) != 0) {
            out_options[count++] = (struct option){
                rows[i].name, rows[i].argument != NULL ? required_argument : no_argument, NULL,
                (int)i + 1
            };
        }
    }
    out_options[count++] = (struct option){ "help", no_argument, NULL, 'h' + 1000 };
    out_options[count] = (struct option){ NULL, 0, NULL, 0 };
}

/* Says what an option takes. */
static void refuse_value(const struct skblk_call *call, const struct option_row *row,
                         const char *text)
{
    char low[SKBLK_SIZE_TEXT];
    char high[SKBLK_SIZE_TEXT];
    const char *name = row->name;

    if (row->kind == KIND_TIME) {
        skblk_error(call, "--%s does not take '%s': a time is 2, 0.5s, 10ms or 500us", name, text);
    } else if (row->kind == KIND_SIZE && row->high == UINT64_MAX) {
        skblk_error(call, "--%s does not take '%s': bytes are 4096, 64k, 1.5M, from %s on", name,
                    text, skblk_size_text(row->low, low));
    } else if (row->kind == KIND_SIZE) {
        skblk_error(call, "--%s does not take '%s': bytes are 4096, 64k, 1.5M, from %s to %s", name,
                    text, skblk_size_text(row->low, low), skblk_size_text(row->high, high));
    } else if (row->kind == KIND_NUMBER && row->high >= UINT32_MAX) {
        skblk_error(call, "--%s does not take '%s': a number from %llu on", name, text,
                    (unsigned long long)row->low);
    } else if (row->kind == KIND_NUMBER) {
        skblk_error(call, "--%s does not take '%s': a number from %llu to %llu", name, text,
                    (unsigned long long)row->low, (unsigned long long)row->high);
    } else {
        skblk_error(call, "--%s does not take '%s': %s", name, text, row->help);
    }
}

static int take_option(struct skblk_call *call, int found, char **argv)
{
    if (found == '?' || found == ':') {
        skblk_error(call, found == ':' ? "%s needs a value" : "there is no option %s",
                    argv[optind - 1]);
        return usage_error(call);
    }
    if (!take_value(&rows[found - 1], &call->settings, optarg)) {
        refuse_value(call, &rows[found - 1], optarg);
        return usage_error(call);
    }
    return 0;
}

int skblk_options_parse(const struct skblk_command *command, int argc, char **argv,
                        struct skblk_call *out_call)
{
    struct option options[ROW_COUNT + 2];
    int found;

    *out_call = (struct skblk_call){ .name = command->name, .settings = defaults };
    fill_options(command->groups, options);
    opterr = 0;
    while ((found = getopt_long(argc, argv, ":h", options, NULL)) != -1) {
        int code;

        if (found == 'h' || found == 'h' + 1000) {
            return -1;
        }
        code = take_option(out_call, found, argv);
        if (code != 0) {
            return code;
        }
    }
    out_call->words = argv + optind;
    out_call->word_count = argc - optind;
    if (out_call->word_count < command->words_min || out_call->word_count > command->words_max) {
        skblk_error(out_call, out_call->word_count < command->words_min
                                  ? "something is missing: %s"
                                  : "that is too much: %s",
                    command->words);
        return usage_error(out_call);
    }
    return 0;
}

void skblk_options_print(uint32_t groups)
{
    for (size_t i = 0; i < ROW_COUNT; i++) {
        char text[40];

        if ((rows[i].groups & groups) != 0) {
            (void)snprintf(text, sizeof(text), "--%s%s%s", rows[i].name,
                           rows[i].argument != NULL ? " " : "",
                           rows[i].argument != NULL ? rows[i].argument : "");
            (void)printf("  %-24s %s\n", text, rows[i].help);
        }
    }
    (void)printf("  %-24s %s\n", "--help", "this");
}
