#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""All harts run: they are found, started, given work and queues, and stopped at a fault."""
import json
import re
import struct
import subprocess
import time

from gdb import Machine, boot_with_tree
from machine import KERNEL, Image, boot, disk, main, type_in

HART_BYTES = 64  # of one in arch_harts; its first word is 0 until it is started
FAULT = 2  # the exit status
BENCH = "bench read 4096 8 600 "


NAP_US = 60000000  # bench sleeps no longer, so that is what a lost wake-up costs,
PATIENT = "timeout=600000 "  # unless the driver looks earlier


def work(folder, harts, queues, words, options="", properties=None, requests=2000, **how):
    """A bench on `harts` of a machine that has as many; the disk is as before."""
    image = Image(folder, 4 * 1024 * 1024, "%s %s" % (harts, words))
    properties = "num-queues=%d" % queues if properties is None else properties
    run = boot(BENCH + "requests=%d harts=%d %s; stats; hash; poweroff"
               % (requests, harts, words),
               disk(image, properties=properties), smp=harts, options=PATIENT + options,
               **how).left(0)
    assert float(run.has(r"^bench: \d+ IOPS .* max ([\d.]+) us").group(1)) < 0.9 * NAP_US
    assert run.sha256() == (image.sha256(), image.size)
    run.has(r"^bench: %d requests in " % (requests * min(harts, queues)))
    return run


def lines_of_harts(run):
    return sorted(map(int, re.findall(r"^bench: hart (\d+): ", run.text, re.M)))


def test_harts__one(folder):
    run = work(folder, 1, 1, "irq")
    run.has_not(r"harts run")
    assert lines_of_harts(run) == []


def test_harts__two_with_a_queue_each(folder):
    for words in ("irq", "poll", "hybrid"):
        run = work(folder, 2, 2, words)
        run.has(r"^2 of 2 harts run")
        assert lines_of_harts(run) == [0, 1]


def test_harts__two_on_a_legacy_device(folder):
    run = work(folder, 2, 2, "irq", transport="mmio-legacy")
    assert lines_of_harts(run) == [0, 1]


def test_harts__four_that_sleep_for_each_request(folder):
    """A disk that takes its time, so that each wake-up counts."""
    node = {"driver": "null-co", "node-name": "null", "size": 1 << 30, "latency-ns": 1000000}
    run = boot("bench 4096 1 600 irq requests=1000 harts=4; stats; poweroff",
               ["-blockdev", json.dumps(node), "-device",
                "virtio-blk-device,drive=null,num-queues=4"], smp=4, options=PATIENT).left(0)
    assert float(run.has(r"^bench: \d+ IOPS .* max ([\d.]+) us").group(1)) < 0.9 * NAP_US
    waits = list(map(int, run.has(r"^  waits((?: +\d+)+)$").group(1).split()))
    assert min(waits[:4]) > 500, waits  # a busy host may not let them sleep in time


def test_harts__four_without_interrupts_and_event_indexes(folder):
    run = work(folder, 4, 4, "irq", "irq=off event=off indirect=off",
               requests=300)
    assert lines_of_harts(run) == [0, 1, 2, 3]


def test_harts__four_with_packed_rings(folder):
    run = work(folder, 4, 4, "irq", properties="num-queues=4,packed=on")
    assert lines_of_harts(run) == [0, 1, 2, 3]


def test_harts__eight_with_a_queue_each(folder):
    run = work(folder, 8, 8, "irq")
    run.has(r"^8 of 8 harts run")
    assert lines_of_harts(run) == list(range(8))
    rows = re.findall(r"^  requests((?: +\d+)+)$", run.text, re.M)
    counts = [int(count) for row in rows for count in row.split()]
    assert len(counts) == 9 and sum(counts[:8]) == counts[8] and min(counts) >= 2000, counts


def test_harts__lines_stay_whole(_folder):
    """Eight harts say something at once, each in pieces."""
    run = boot("harts; " * 40 + "poweroff", smp=8).left(0)
    lines = re.findall(r"^hart (\d), the machine's (\d): (\d+) works done, woken \d+ times$",
                       run.text, re.M)
    assert len(lines) == 8 * 40, len(lines)
    for number in range(8):
        own = [line for line in lines if int(line[0]) == number]
        assert len({line[1] for line in own}) == 1
        assert [int(line[2]) for line in own] == (list(range(40)) if number else [0] * 40)


def test_harts__more_than_queues(folder):
    run = work(folder, 4, 2, "irq")
    run.has(r"^bench: the disk has 2 queues: 2 of 4 harts work$")
    assert lines_of_harts(run) == [0, 1]
    work(folder, 4, 1, "poll").has(r"^bench: the disk has 1 queue: 1 of 4 harts work$")


def test_harts__fewer_than_queues(folder):
    run = work(folder, 2, 4, "irq", "queues=4")
    assert lines_of_harts(run) == [0, 1]


def test_harts__more_than_the_kernel_uses(folder):
    image = Image(folder, 4096 * 7, "many")
    run = boot("hash; poweroff", disk(image), smp=10).left(0)
    run.has(r"more than 8 harts: from hart \d+ on they stay unused$")
    run.has(r"^8 of 8 harts run")
    assert run.sha256() == (image.sha256(), image.size)


def test_bench__words_that_make_no_sense(folder):
    image = Image(folder, 4096 * 7, "words")
    run = boot("; ".join("bench " + words for words in (
        "harts=3", "harts=0", "harts=9", "harts=x", "hart=1", "requests=0", "latency=99999999"))
        + "; poweroff", disk(image), smp=2).left(1)
    run.has(r"^bench: harts=3, but 2 run$")
    run.has(r"^bench: harts=0 is not within 1 and 8$")
    run.has(r"^bench: harts=9 is not within 1 and 8$")
    run.has(r"^bench: x is no number")
    run.has(r"^bench: hart=1 is no number")
    run.has(r"^bench: requests=0 is not within 1 and ")
    run.has(r"^bench: latency=99999999 is not within 0 and ")


def test_bench__error_of_one_hart_stops_all(folder):
    image = Image(folder, 4 * 1024 * 1024, "error")
    faults = {"inject-error": [{"event": "none", "iotype": "read", "errno": 5, "once": False,
                                "sector": 4096}]}
    run = boot("bench 4096 4 60 sequential harts=2; read 0; poweroff",
               disk(image, properties="num-queues=2", faults=faults), smp=2).left(1)
    errors = re.findall(r"^bench: read at sector \d+ failed: ", run.text, re.M)
    assert len(errors) == 1, errors
    assert lines_of_harts(run) == [0, 1]
    run.has(r"^0000000000 ")


def test_bench__break_stops_all_harts(folder):
    image = Image(folder, 4 * 1024 * 1024, "break")
    run = type_in([b"bench 4096 8 600 harts=4\r\x03", b"hash\r", b"poweroff 5\r"],
                  disk(image, properties="num-queues=4"), smp=4).left(5)
    assert float(run.has(r"^bench: \d+ requests in ([0-9.]+) s$").group(1)) < 300
    assert lines_of_harts(run) == [0, 1, 2, 3]
    assert run.sha256() == (image.sha256(), image.size)


def test_fault__on_another_hart(_folder):
    for kind, cause in (("read", "load page fault"), ("stack", "store page fault")):
        run = boot("crash %s 2; poweroff" % kind, smp=4).left(FAULT)
        run.has(r"^fault: %s \(scause \d+\) on hart 2" % cause)
        run.has(r"^backtrace 0xffffffc0802")
        run.has_not(r"did not stop")
    run.has(r"the stack is full$")


def test_fault__on_a_hart_that_does_not_run(_folder):
    boot("crash read 2; poweroff", smp=2).left(1).has(r"^crash: there is no hart 2, 2 run$")


def boot_four(folder, change, **how):
    """Four harts, hart 0 boots, and between firmware and kernel the tree changes."""
    image = Image(folder, 4096 * 100, "tree")
    run = boot_with_tree(folder, change, "bench 4096 1 1 requests=1 harts=2; hash; poweroff",
                         disk(image, properties="num-queues=4"), smp=4, **how).left(0)
    assert run.sha256() == (image.sha256(), image.size)
    return run


def replaced(tree, node, old, new):
    """The tree with other bytes behind the name of a node."""
    at = tree.index(old, tree.index(node.encode() + b"\0"))
    assert len(old) == len(new)
    return tree[:at] + new + tree[at + len(old):]


def cell(tree, name, value):
    """A property of one cell, as it lies in the tree."""
    strings = tree[struct.unpack(">I", tree[12:16])[0]:]
    return struct.pack(">IIII", 3, 4, (b"\0" + strings).index(b"\0%s\0" % name.encode()), value)


def numbered(tree, number, value):
    """The tree with another number of that cpu."""
    return replaced(tree, "cpu@%d" % number, cell(tree, "reg", number), cell(tree, "reg", value))


def test_tree__harts_that_are_disabled_stay_out(folder):
    run = boot_four(folder, lambda tree: replaced(tree, "cpu@1", b"okay\0", b"fail\0"))
    run.has(r"^3 of 3 harts run; the machine calls them 0 [23] [23]$")


def test_tree__harts_without_an_mmu_stay_out(folder):
    run = boot_four(folder, lambda tree: replaced(tree, "cpu@2", b"riscv,sv48\0", b"riscv,none\0"))
    run.has(r"^3 of 3 harts run; the machine calls them 0 [13] [13]$")


def test_tree__hart_that_does_not_exist(folder):
    run = boot_four(folder, lambda tree: numbered(tree, 3, 77))
    run.has(r"warning: hart 77 cannot be started: no such object$")
    run.has(r"^3 of 4 harts run")


def test_tree__hart_that_is_there_twice(folder):
    run = boot_four(folder, lambda tree: numbered(tree, 3, 2))
    run.has(r"warning: cpu@[23]: hart 2 is there twice: left out$")
    run.has(r"^3 of 3 harts run")


def test_tree__hart_without_a_number(folder):
    run = boot_four(folder, lambda tree: replaced(tree, "cpu@2", cell(tree, "reg", 2),
                                                  cell(tree, "offset", 2)))
    run.has(r"warning: cpu@2 has no usable number \(not-found\): left out$")
    run.has(r"^3 of 3 harts run; the machine calls them 0 [13] [13]$")


def test_tree__list_of_harts_that_cannot_be_read(folder):
    def change(tree):
        return replaced(tree, "cpus", cell(tree, "#address-cells", 1),
                        cell(tree, "#address-cells", 3))

    image = Image(folder, 512 * 7, "list")
    run = boot_with_tree(folder, change, "hash; poweroff", disk(image), smp=4).left(0)
    run.has(r"warning: the list of harts ends early: malformed$")
    run.has_not(r"harts run")
    assert run.sha256() == (image.sha256(), image.size)


def test_start__hart_that_does_not_come(folder):
    run = boot_four(folder, lambda tree: tree, without=2)
    run.has(r"warning: hart 2 did not start within 10000 ms: it stays unused$")
    run.has(r"^3 of 4 harts run; the machine calls them 0 [13] [13]$")


def address_of(symbol):
    """Of the kernel, as its own hart sees it."""
    names = subprocess.run(["riscv64-linux-gnu-nm", KERNEL], check=True, capture_output=True,
                           text=True).stdout
    return int(re.search(r"^([0-9a-f]+) \w %s$" % symbol, names, re.M).group(1), 16)


def is_set(stub, address):
    """Whether a word of the kernel is not 0; before hart 0 has its tables there is none."""
    assert stub.ask("Hg1") == "OK"
    answer = stub.ask("m%x,8" % address)
    return not answer.startswith("E") and any(bytes.fromhex(answer))


def test_start__hart_that_enters_as_the_first(folder):
    """As firmware may let it that reads a hart's entry before it was told."""
    second = address_of("arch_harts") + HART_BYTES
    image = Image(folder, 512 * 7, "again")
    with Machine(folder, "hash; poweroff", disk(image), smp=2) as machine:
        stub = machine.stub
        while True:
            stub.go_without(1, 2)
            time.sleep(0.1)
            stub.stop()
            if is_set(stub, second):
                break
        stub.enter(1)
        stub.go()
        run = machine.end().left(0)
    run.has(r"^2 of 2 harts run$")
    assert len(re.findall(r"^SimpleKernel", run.text, re.M)) == 1
    assert run.sha256() == (image.sha256(), image.size)


main(globals())
