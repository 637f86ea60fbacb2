/* SPDX-License-Identifier: MIT */
/*
 * What makes a flat riscv64 program a UEFI application: the headers of a
 * PE32+ file with one section.  The program runs anywhere without relocation.
 */
    .section .header, "ax"
    .globl image
image:
    .ascii "MZ"
    .zero 0x3a
    .long signature - image
signature:
    .asciz "PE\0"
    .short 0x5064               /* RISC-V, 64 bits */
    .short 1                    /* sections */
    .long 0, 0, 0               /* no date, no symbols */
    .short sections - optional
    .short 0x0206               /* executable, stripped */
optional:
    .short 0x020b               /* PE32+ */
    .short 0
    .long image_end - text, 0, 0
    .long start - image
    .long text - image
    .quad 0                     /* base */
    .long 0x1000, 0x200         /* alignment in memory and file */
    .short 0, 0, 0, 0, 0, 0     /* versions */
    .long 0
    .long image_end - image
    .long text - image          /* bytes of headers */
    .long 0
    .short 10                   /* a UEFI application */
    .short 0
    .quad 0, 0, 0, 0            /* stack and heap */
    .long 0
    .long 6                     /* directories, all empty */
    .quad 0, 0, 0, 0, 0, 0
sections:
    .ascii ".text\0\0\0"
    .long image_end - text, text - image
    .long image_end - text, text - image
    .long 0, 0
    .short 0, 0
    .long 0xe0000060            /* code and data, may all */
    .balign 0x1000
text:
