/* SPDX-License-Identifier: MIT */
#ifndef SKBLK_PLOT_H
#define SKBLK_PLOT_H

#include "histogram.h"
#include "skblk.h"

/* Draws the distribution of latencies, with a title, as an SVG file.  0, or the exit code (said). */
int skblk_plot_write(const struct skblk_call *call, const char *path, const char *title,
                     const struct skblk_histogram *histogram);

/* A few lines of text with the same, to stdout. */
void skblk_plot_print(const struct skblk_histogram *histogram);

#endif
