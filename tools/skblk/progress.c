/* SPDX-License-Identifier: MIT */
#include "skblk.h"

#include <stdio.h>
#include <unistd.h>

#define DRAW_NS   UINT64_C(100000000)
#define BAR_CELLS 24u

void skblk_progress_start(struct skblk_progress *progress, const struct skblk_call *call,
                          const char *what, uint64_t total)
{
    *progress = (struct skblk_progress){
        .what = what,
        .total = total,
        .start_ns = skblk_now_ns(),
        .is_shown = !call->settings.quiet && isatty(STDERR_FILENO) != 0,
    };
}

static void draw_share(const struct skblk_progress *progress, uint64_t done)
{
    char bar[BAR_CELLS + 1];
    double share = (double)done / (double)progress->total;
    unsigned cells = (unsigned)(share * BAR_CELLS);

    for (unsigned i = 0; i < BAR_CELLS; i++) {
        bar[i] = i < cells ? '#' : '.';
    }
    bar[BAR_CELLS] = '\0';
    (void)fprintf(stderr, " %3.0f %% [%s]", share * 100, bar);
}

static void draw(const struct skblk_progress *progress, uint64_t done, uint64_t now_ns)
{
    char size[SKBLK_SIZE_TEXT];
    char rate[SKBLK_SIZE_TEXT];
    double seconds = (double)(now_ns - progress->start_ns) / 1e9 + 1e-9;
    double speed = (double)done / seconds;

    (void)fprintf(stderr, "\r\033[K%s", progress->what);
    if (progress->total > 0) {
        draw_share(progress, done);
    }
    (void)fprintf(stderr, " %s, %s/s", skblk_size_text(done, size),
                  skblk_size_text((uint64_t)speed, rate));
    if (progress->total > done && speed > 0) {
        (void)fprintf(stderr, ", %.0f s left", (double)(progress->total - done) / speed + 0.5);
    }
    (void)fflush(stderr);
}

void skblk_progress_update(struct skblk_progress *progress, uint64_t done)
{
    uint64_t now_ns;

    if (!progress->is_shown) {
        return;
    }
    now_ns = skblk_now_ns();
    if (now_ns - progress->drawn_ns >= DRAW_NS) {
        progress->drawn_ns = now_ns;
        draw(progress, done, now_ns);
    }
}

void skblk_progress_finish(struct skblk_progress *progress)
{
    if (progress->is_shown && progress->drawn_ns != 0) {
        (void)fputs("\r\033[K", stderr);
        (void)fflush(stderr);
    }
    progress->is_shown = false;
}
