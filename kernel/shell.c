/* SPDX-License-Identifier: MIT */
#include "console.h"
#include "disk.h"
#include "lib/string.h"
#include "lib/text.h"
#include "power.h"
#include "settings.h"
#include "shell.h"

#define PROMPT        "skio> "
#define HISTORY_LINES 16u
#define TYPED_MAX     512u

#define KEY_BACKSPACE 0x08
#define KEY_LINE_FEED 0x0a
#define KEY_RETURN    0x0d
#define KEY_KILL      0x15 /* ^U */
#define KEY_WORD      0x17 /* ^W */
#define KEY_ESCAPE    0x1b
#define KEY_DELETE    0x7f

struct editor {
    char line[TYPED_MAX];
    size_t length;
    unsigned back; /* how many lines back in the history we look */
};

static char line_copy[SHELL_LINE_MAX];
static char history[HISTORY_LINES][TYPED_MAX];
static unsigned history_count;
static unsigned first_failure;

unsigned shell_status(void)
{
    return first_failure;
}

static void note(bool good)
{
    if (!good && first_failure == POWER_STATUS_OK) {
        first_failure = POWER_STATUS_FAILED;
    }
}

static const struct shell_command *find(const char *name)
{
    for (size_t i = 0; i < shell_command_count; i++) {
        if (text_equal(name, shell_commands[i].name)) {
            return &shell_commands[i];
        }
    }
    return NULL;
}

static bool run_words(char **words, size_t count, bool interactive)
{
    const struct shell_command *command = find(words[0]);
    struct shell_call call = { count - 1, words + 1, interactive };
    enum shell_result result;

    if (command == NULL) {
        console_print("%s: no such command; try: help\n", words[0]);
        return false;
    }
    if (count > SHELL_WORDS_MAX) {
        console_print("%s: more than %u words\n", words[0], SHELL_WORDS_MAX - 1u);
        return false;
    }
    if (!interactive) {
        sk_log_print(&console_log, SK_LOG_DEBUG, "shell: %s", words[0]);
    }
    result = command->run(&call);
    if (result == SHELL_USAGE) {
        console_print("usage: %s%s%s\n", command->name, command->usage[0] == '\0' ? "" : " ",
                      command->usage);
    }
    return result == SHELL_OK;
}

/* One command; settings in front of it are somebody else's. */
static bool run_part(char *part, bool interactive)
{
    char *words[SHELL_WORDS_MAX];
    size_t count = text_split(part, words, SHELL_WORDS_MAX);
    size_t first = 0;

    while (!interactive && first < count && first < SHELL_WORDS_MAX && settings_is(words[first])) {
        first++;
    }
    if (first == count || first == SHELL_WORDS_MAX) {
        return true;
    }
    return run_words(words + first, count - first, interactive);
}

/* Cuts the next part off at a semicolon; NULL: there is none. */
static char *next_part(char **rest)
{
    char *part = *rest;
    char *at = part;

    if (part == NULL) {
        return NULL;
    }
    while (*at != '\0' && *at != ';') {
        at++;
    }
    *rest = *at == '\0' ? NULL : at + 1;
    *at = '\0';
    return part;
}

static bool run_parts(char *line, bool interactive)
{
    char *part;
    bool good = true;

    while ((part = next_part(&line)) != NULL) {
        bool done = run_part(part, interactive);

        good &= done;
        if (!interactive) {
            note(done);
        }
    }
    return good;
}

static bool copy_line(const char *line)
{
    size_t length = text_length(line);

    if (length >= sizeof(line_copy)) {
        console_print("the command line is longer than %u characters and is ignored\n",
                      SHELL_LINE_MAX - 1u);
        note(false);
        return false;
    }
    memcpy(line_copy, line, length + 1);
    return true;
}

void shell_take_settings(const char *line)
{
    char *rest = line_copy;
    char *part;

    if (!copy_line(line)) {
        return;
    }
    while ((part = next_part(&rest)) != NULL) {
        char *words[SHELL_WORDS_MAX];
        size_t count = text_split(part, words, SHELL_WORDS_MAX);

        for (size_t i = 0; i < count && i < SHELL_WORDS_MAX && settings_is(words[i]); i++) {
            note(settings_take(words[i]));
        }
    }
}

void shell_run(const char *line)
{
    if (text_length(line) < sizeof(line_copy) && copy_line(line)) {
        (void)run_parts(line_copy, false);
    }
}

/* -- Line editing -- */

static void erase(struct editor *editor, size_t count)
{
    for (; count > 0 && editor->length > 0; count--) {
        /* A character of several bytes takes one place on the screen. */
        do {
            editor->length--;
        } while (editor->length > 0 && ((uint8_t)editor->line[editor->length] & 0xc0) == 0x80);
        console_write("\b \b", 3);
    }
}

static void erase_word(struct editor *editor)
{
    while (editor->length > 0 && editor->line[editor->length - 1] == ' ') {
        erase(editor, 1);
    }
    while (editor->length > 0 && editor->line[editor->length - 1] != ' ') {
        erase(editor, 1);
    }
}

static void insert(struct editor *editor, char character)
{
    if (editor->length + 1 < sizeof(editor->line)) {
        editor->line[editor->length++] = character;
        console_write(&character, 1);
    }
}

static void recall(struct editor *editor, unsigned back)
{
    const char *line = "";

    if (back > history_count || back > HISTORY_LINES) {
        return;
    }
    if (back > 0) {
        line = history[(history_count - back) % HISTORY_LINES];
    }
    editor->back = back;
    erase(editor, editor->length);
    for (; *line != '\0'; line++) {
        insert(editor, *line);
    }
}

/* ESC [ A and B are the arrows up and down; the rest is swallowed. */
static void escape(struct editor *editor)
{
    char character;

    if (!console_read(UINT64_MAX, &character) || character != '[') {
        return;
    }
    do {
        (void)console_read(UINT64_MAX, &character);
    } while (character < '@' || character > '~');
    if (character == 'A') {
        recall(editor, editor->back + 1);
    } else if (character == 'B' && editor->back > 0) {
        recall(editor, editor->back - 1);
    }
}

static void remember(const struct editor *editor)
{
    if (editor->length > 0) {
        memcpy(history[history_count % HISTORY_LINES], editor->line, editor->length + 1);
        history_count++;
    }
}

static void edit(struct editor *editor, char character)
{
    switch (character) {
    case KEY_BACKSPACE:
    case KEY_DELETE:
        erase(editor, 1);
        break;
    case KEY_KILL:
        erase(editor, editor->length);
        break;
    case KEY_WORD:
        erase_word(editor);
        break;
    case KEY_ESCAPE:
        escape(editor);
        break;
    case CONSOLE_BREAK:
        console_print("^C\n" PROMPT);
        editor->length = 0;
        editor->back = 0;
        break;
    default:
        if ((uint8_t)character >= ' ') {
            insert(editor, character);
        }
        break;
    }
}

static void read_line(struct editor *editor)
{
    char character;

    editor->length = 0;
    editor->back = 0;
    for (;;) {
        if (!console_read(UINT64_MAX, &character)) {
            continue;
        }
        if (character == KEY_RETURN || character == KEY_LINE_FEED) {
            break;
        }
        edit(editor, character);
    }
    editor->line[editor->length] = '\0';
    console_print("\n");
}

void shell_interact(void)
{
    static struct editor editor;

    for (;;) {
        console_print(PROMPT);
        read_line(&editor);
        remember(&editor);
        disk_look();
        (void)run_parts(editor.line, true);
    }
}
