#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""`bench` in both modes: it measures something, and the disk is as before."""
from machine import Image, boot, disk, main


def measures(folder, words):
    image = Image(folder, 4 * 1024 * 1024, words)
    run = boot("bench %s; stats; hash; poweroff" % words, disk(image)).left(0)
    assert float(run.has(r"([0-9.]+) *IOPS").group(1)) > 0
    for percentile in ("p50", "p99", "p99.9"):
        run.has(r"\b%s\b" % percentile)
    assert run.sha256() == (image.sha256(), image.size)
    return run


def counter(run, name):
    return int(run.has(r"^ *%s +(\d+)$" % name).group(1))


def test_bench__interrupts(folder):
    assert counter(measures(folder, "read 4096 32 1 random irq"), "interrupts") > 0


def test_bench__polling(folder):
    measures(folder, "read 4096 32 1 random poll")


def test_bench__one_at_a_time(folder):
    measures(folder, "read 4096 1 1 random irq")


def test_bench__large_and_sequential(folder):
    measures(folder, "read 131072 8 1 sequential irq")


def test_bench__larger_than_the_disk_is_refused(folder):
    image = Image(folder, 512 * 4, "too small")
    boot("bench read 4096 1 1; poweroff", disk(image)).left(1)


def test_bench__nonsense_is_refused(folder):
    image = Image(folder, 512 * 400, "nonsense")
    for words in ("read 0", "read 513", "read 4096 0", "read 4096 1 0", "read 99999999999999999",
                  "read 4096 4294967296"):
        run = boot("bench %s; hash; poweroff" % words, disk(image)).left(1)
        assert run.sha256() == (image.sha256(), image.size)


main(globals())
