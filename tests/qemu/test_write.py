#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What the kernel wrote is on the host's image after it powered off, and nothing else is."""
import hashlib

from machine import Image, boot, disk, main

SECTORS = 2048


def padded(text):
    return text.encode().ljust(512, b"\0")


def test_write__text_and_fill_are_on_the_image(folder):
    image = Image(folder, SECTORS * 512, "write")
    expected = bytearray(image.path.read_bytes())
    expected[7 * 512:8 * 512] = padded("written by the kernel")
    expected[100 * 512:356 * 512] = b"\xa5" * (256 * 512)
    expected[(SECTORS - 1) * 512:] = padded("the last sector")
    run = boot("write 7 written by the kernel; fill 100 256 0xa5; "
               "write %d the last sector; flush; hash; poweroff" % (SECTORS - 1),
               disk(image)).left(0)
    assert image.path.read_bytes() == expected, run.text
    assert run.sha256() == (hashlib.sha256(expected).hexdigest(), SECTORS * 512)


def test_write__a_second_boot_reads_it_back(folder):
    image = Image(folder, SECTORS * 512, "second boot")
    boot("write 3 kept over a power cycle; flush; poweroff", disk(image)).left(0)
    run = boot("read 3; hash; poweroff", disk(image)).left(0)
    run.has(r"kept over a pow")
    assert run.sha256() == (image.sha256(), image.size)


def test_write__without_flush_it_is_there_too(folder):
    """QEMU ends in order, so its own cache is written whether the kernel asked for it or not."""
    image = Image(folder, SECTORS * 512, "no flush")
    boot("fill 0 1 1; poweroff", disk(image)).left(0)
    assert image.read(0, 1) == b"\x01" * 512


def test_write__past_the_end_changes_nothing(folder):
    image = Image(folder, SECTORS * 512, "past the end")
    before = image.sha256()
    run = boot("write %d x; fill %d 2 1; fill 0 %d 1; verify %d 2; fill 0 0 1; poweroff"
               % (SECTORS, SECTORS - 1, SECTORS + 1, SECTORS - 1), disk(image)).left(1)
    run.has(r"past the end")
    assert image.sha256() == before, "something was written"


def test_verify__whole_disk(folder):
    image = Image(folder, SECTORS * 512, "verify")
    before = image.path.read_bytes()
    run = boot("verify 0 %d; hash; poweroff" % SECTORS, disk(image)).left(0)
    assert run.sha256() == (image.sha256(), image.size)
    assert image.path.read_bytes() != before, "verify writes a pattern"


def test_verify__touches_only_its_range(folder):
    image = Image(folder, SECTORS * 512, "verify range")
    before = image.path.read_bytes()
    boot("verify 33 65; poweroff", disk(image)).left(0)
    after = image.path.read_bytes()
    assert after[:33 * 512] == before[:33 * 512]
    assert after[98 * 512:] == before[98 * 512:]
    assert after[33 * 512:98 * 512] != before[33 * 512:98 * 512]


def test_flush__write_through_disk(folder):
    image = Image(folder, SECTORS * 512, "write-through")
    boot("fill 5 1 9; flush; poweroff", disk(image, properties="write-cache=off")).left(0)
    assert image.read(5, 1) == b"\x09" * 512


def test_bench__write_does_not_leave_the_disk(folder):
    image = Image(folder, SECTORS * 512, "bench write")
    run = boot("bench write 4096 8 1 random irq; hash; poweroff", disk(image)).left(0)
    assert run.sha256() == (image.sha256(), image.size)


main(globals())
