/* SPDX-License-Identifier: MIT */
#include "plot.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define WIDTH  760.0
#define HEIGHT 360.0
#define LEFT   60.0
#define RIGHT  20.0
#define TOP    50.0
#define BOTTOM 50.0

/* The decades that hold all samples. */
struct axis {
    double low;  /* log10 of ns */
    double high;
    double most; /* the largest share of one bucket, of all samples */
};

static struct axis axis_of(const struct skblk_histogram *histogram)
{
    struct axis axis = { 18, 0, 0 };

    for (size_t i = 0; i < SKBLK_HISTOGRAM_BUCKETS; i++) {
        double share = (double)histogram->buckets[i] / (double)histogram->count;

        if (histogram->buckets[i] > 0) {
            double low = log10((double)skblk_histogram_edge(i) + 1);
            double high = log10((double)skblk_histogram_edge(i + 1) + 1);

            axis.low = low < axis.low ? low : axis.low;
            axis.high = high > axis.high ? high : axis.high;
            axis.most = share > axis.most ? share : axis.most;
        }
    }
    axis.low = floor(axis.low);
    axis.high = ceil(axis.high);
    axis.high = axis.high > axis.low ? axis.high : axis.low + 1;
    return axis;
}

static double x_of(const struct axis *axis, double ns)
{
    double share = (log10(ns + 1) - axis->low) / (axis->high - axis->low);

    return LEFT + share * (WIDTH - LEFT - RIGHT);
}

static double y_of(double share)
{
    return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM);
}

static const char *time_text(double ns, char *out_text, size_t bytes)
{
    if (ns < 1e3) {
        (void)snprintf(out_text, bytes, "%.0f ns", ns);
    } else if (ns < 1e6) {
        (void)snprintf(out_text, bytes, ns < 1e4 ? "%.1f us" : "%.0f us", ns / 1e3);
    } else if (ns < 1e9) {
        (void)snprintf(out_text, bytes, ns < 1e7 ? "%.1f ms" : "%.0f ms", ns / 1e6);
    } else {
        (void)snprintf(out_text, bytes, "%.1f s", ns / 1e9);
    }
    return out_text;
}

static void draw_axis(FILE *file, const struct axis *axis)
{
    char text[32];

    for (double power = axis->low; power <= axis->high; power++) {
        double x = x_of(axis, pow(10, power) - 1);

        (void)fprintf(file,
                      "<line class=\"grid\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>\n"
                      "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%s</text>\n",
                      x, TOP, x, HEIGHT - BOTTOM, x, HEIGHT - BOTTOM + 18,
                      time_text(pow(10, power), text, sizeof(text)));
    }
    for (unsigned quarter = 0; quarter <= 4; quarter++) {
        double y = y_of(quarter / 4.0);

        (void)fprintf(file,
                      "<line class=\"grid\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>\n"
                      "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">%.1f %%</text>\n",
                      LEFT, y, WIDTH - RIGHT, y, LEFT - 6, y + 4, axis->most * 25 * quarter);
    }
}

static void draw_bars(FILE *file, const struct axis *axis, const struct skblk_histogram *histogram)
{
    for (size_t i = 0; i < SKBLK_HISTOGRAM_BUCKETS; i++) {
        double share = (double)histogram->buckets[i] / (double)histogram->count / axis->most;
        double x = x_of(axis, (double)skblk_histogram_edge(i));
        double right = x_of(axis, (double)skblk_histogram_edge(i + 1));

        if (histogram->buckets[i] > 0) {
            (void)fprintf(file,
                          "<rect class=\"bar\" x=\"%.2f\" y=\"%.2f\" width=\"%.2f\" height=\"%.2f\"/>\n",
                          x, y_of(share), right - x, y_of(0) - y_of(share));
        }
    }
}

/* Each mark's name has a line of its own, so that neighbours do not cover each other. */
static void draw_marks(FILE *file, const struct axis *axis, const struct skblk_histogram *histogram)
{
    static const struct {
        const char *name;
        double share;
    } marks[] = { { "p50", 0.5 }, { "p99", 0.99 }, { "p99.9", 0.999 } };

    for (unsigned i = 0; i < 3; i++) {
        double ns = (double)skblk_histogram_at(histogram, marks[i].share);
        double x = x_of(axis, ns);
        bool left = x > WIDTH - 150;
        char text[32];

        (void)fprintf(file,
                      "<line class=\"mark\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>\n"
                      "<text class=\"name\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">%s %s</text>\n",
                      x, TOP, x, HEIGHT - BOTTOM, left ? x - 4 : x + 4, TOP + 14 + 16 * i,
                      left ? "end" : "start", marks[i].name, time_text(ns, text, sizeof(text)));
    }
}

static void draw(FILE *file, const char *title, const struct skblk_histogram *histogram)
{
    struct axis axis = axis_of(histogram);

    (void)fprintf(file,
                  "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%.0f\" height=\"%.0f\" "
                  "viewBox=\"0 0 %.0f %.0f\" font-family=\"sans-serif\" font-size=\"12\">\n"
                  "<style>.grid{stroke:#ddd}.bar{fill:#2a6fb0}.mark{stroke:#b03a2a;"
                  "stroke-dasharray:4 3}.name{fill:#b03a2a}text{fill:#333}</style>\n"
                  "<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n"
                  "<text x=\"%.0f\" y=\"24\" font-size=\"15\">%s</text>\n",
                  WIDTH, HEIGHT, WIDTH, HEIGHT, LEFT, title);
    draw_axis(file, &axis);
    draw_bars(file, &axis, histogram);
    draw_marks(file, &axis, histogram);
    (void)fprintf(file,
                  "<text x=\"%.0f\" y=\"%.0f\" text-anchor=\"middle\">latency of a request; the "
                  "bars are shares of %llu requests</text>\n</svg>\n",
                  WIDTH / 2, HEIGHT - 12, (unsigned long long)histogram->count);
}

int skblk_plot_write(const struct skblk_call *call, const char *path, const char *title,
                     const struct skblk_histogram *histogram)
{
    FILE *file = fopen(path, "w");
    bool written;

    if (file == NULL) {
        skblk_error(call, "%s: cannot be opened: %s", path, strerror(errno));
        return SKBLK_EXIT_FILE;
    }
    if (histogram->count > 0) {
        draw(file, title, histogram);
    }
    written = ferror(file) == 0;
    if (fclose(file) != 0 || !written) {
        skblk_error(call, "%s: cannot be written: %s", path, strerror(errno));
        return SKBLK_EXIT_FILE;
    }
    return SKBLK_EXIT_OK;
}

void skblk_plot_print(const struct skblk_histogram *histogram)
{
    uint64_t powers[64] = { 0 };
    uint64_t most = 0;

    for (size_t i = 0; i < SKBLK_HISTOGRAM_BUCKETS; i++) {
        uint64_t edge = skblk_histogram_edge(i) | 1;
        unsigned power = 63u - (unsigned)__builtin_clzll(edge);

        powers[power] += histogram->buckets[i];
        most = powers[power] > most ? powers[power] : most;
    }
    for (unsigned power = 0; power < 64 && most > 0; power++) {
        static const char bar[] = "########################################";
        char low[32];
        double share = (double)powers[power] / (double)most;

        if ((double)powers[power] / (double)histogram->count >= 0.0001) {
            (void)printf("  from %8s  %6.2f %%  %.*s\n",
                         time_text(power == 0 ? 0 : ldexp(1, (int)power), low, sizeof(low)),
                         (double)powers[power] * 100 / (double)histogram->count,
                         (int)(share * (double)(sizeof(bar) - 1)), bar);
        }
    }
}
