/* SPDX-License-Identifier: MIT */
#ifndef SKBLK_INTERRUPT_H
#define SKBLK_INTERRUPT_H

/* From now on ^C and a request to end are noticed by skblk_is_interrupted; for main. */
void skblk_catch_interrupts(void);

#endif
