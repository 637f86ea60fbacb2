#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""`bench` in both modes: it measures something, and the disk is as before."""
import json
import re

from gdb import ALL_COUNTERS, COUNTERS, TIME_ONLY, Machine
from machine import TRANSPORT, Image, boot, disk, main


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


def test_bench__polling_before_it_sleeps(folder):
    """With time enough to poll it hardly sleeps; with none it sleeps, and soon leaves polling alone."""
    run = measures(folder, "read 4096 4 600 requests=1000 hybrid spin=1000000")
    assert counter(run, "spins that were enough") > 0.9 * counter(run, "spins") > 0
    run.has(r"^bench: .*, hybrid, 600 s, spin 1000000 us, at most 1000 requests$")
    run = measures(folder, "read 4096 1 600 requests=300 hybrid spin=1")
    assert counter(run, "waits") > 0 and counter(run, "interrupts") > 0
    assert 0 < counter(run, "spins")
    assert counter(run, "spins") - counter(run, "spins that were enough") < 100


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
                  "read 4096 4294967296", "spin=0", "spin=x"):
        run = boot("bench %s; hash; poweroff" % words, disk(image)).left(1)
        assert run.sha256() == (image.sha256(), image.size)


def cost(words, properties=""):
    """(instructions, interrupts) of a 4 KiB read, where QEMU counts each instruction; the disk
    takes 1 ms, so that the kernel sleeps."""
    node = {"driver": "null-co", "node-name": "null", "size": 1 << 30, "latency-ns": 1000000}
    run = boot("bench 4096 %s 600 random; poweroff" % words,
               ["-icount", "shift=0", "-blockdev", json.dumps(node), "-device",
                "virtio-blk-device,drive=null" + properties]).left(0)
    match = run.has(r"^bench: a request: +[\d.]+ notifications +([\d.]+) interrupts +(\d+) instruct")
    return int(match.group(2)), float(match.group(1))


def test_cost__of_one_at_a_time(_folder):
    for properties in ("", ",packed=on"):
        instructions, interrupts = cost("1 irq requests=300", properties)
        assert interrupts > 0.5, interrupts  # a busy host may not let it sleep in time
        assert 300 < instructions <= 1600, instructions
    assert 100 < cost("1 poll requests=300")[0] <= 1600


def test_cost__of_32_at_a_time(_folder):
    for properties in ("", ",packed=on"):
        instructions, interrupts = cost("32 irq requests=6400", properties)
        assert interrupts > 0.02, interrupts
        assert 100 < instructions <= 700, instructions


def test_cost__is_unknown_where_nobody_counts(folder):
    measures(folder, "read 4096 4 1").has_not(r"instructions")


def test_cost__is_unknown_where_nobody_may_count(folder):
    """The counter's register is an illegal instruction, which the kernel steps over."""
    image = Image(folder, 4 * 1024 * 1024, "counter")
    for counters, shown in ((TIME_ONLY, False), (ALL_COUNTERS, True)):
        with Machine(folder, "bench 4096 4 60 requests=100; hash; poweroff",
                     disk(image) + ["-icount", "shift=0"]) as machine:
            machine.stub.set_register(COUNTERS, counters)
            machine.stub.go()
            run = machine.end().left(0)
        assert run.sha256() == (image.sha256(), image.size)
        if shown:
            run.has(r"^bench: a request: .* \d+ instructions$")
        else:
            run.has(r"^bench: a request: .* interrupts$")


def bars(run):
    """How many requests stand in the histogram of `stats`."""
    return sum(map(int, re.findall(r"^ +[\d.]+ \w+ to [\d.]+ \w+ +(\d+)(?: #+)?$", run.text, re.M)))


def timed(folder, options):
    image = Image(folder, 4 * 1024 * 1024, options)
    run = boot("bench requests=999 4096 4 60; stats; poweroff", disk(image), options=options)
    count = int(run.left(0).has(r"^time of a request, .*; (\d+) were timed$").group(1))
    assert bars(run) == count
    return run, count


def test_stats__histogram_of_all_requests(folder):
    run, count = timed(folder, "latency=1")
    assert count == 999 + 1  # the first sector; what the driver asked when it began is not timed
    assert counter(run, "requests") >= count
    run.has(r"^  mean [\d.]+ [mun]s; half within [\d.]+ [mun]s, 99 % within ")


def test_stats__histogram_of_some_requests(folder):
    assert timed(folder, "latency=64")[1] == 1000 // 64 + 1  # the first one is
    assert timed(folder, "latency=0")[1] == 0


def test_latency__is_a_power_of_two(folder):
    image = Image(folder, 512 * 7, "power")
    boot("poweroff", disk(image), options="latency=3").left(1).has(r"^latency=3: latency=N: ")


def test_disk__says_what_was_chosen(folder):
    image = Image(folder, 512 * 7, "choices")
    run = boot("disk; poweroff", disk(image, properties="packed=on,num-queues=2"),
               options="queues=2 queue=24 event=off").left(0)
    packed = TRANSPORT == "mmio"
    run.has(r"^  queues +2, packed, of 24 entries, 24 requests deep, indirect tables(,|$)" if packed else
            r"^  queues +2, split, of 16 entries, 16 requests deep, indirect tables(,|$)")
    for name, value in (("capacity_sectors", 7), ("block_bytes", 512), ("queues", 2),
                        ("identity", "disk0"), ("transport", TRANSPORT), ("cache", "write-back")):
        run.has(r"^ .* %s=%s\b" % (name, value))


main(globals())
