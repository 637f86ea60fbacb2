#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The machine ends without a warning; what the console called durable must be on the disk.

SIGKILL on QEMU: QEMU keeps the tables of a qcow2 image in memory until the guest flushes, so what
was not flushed is lost with it (a test shows that it is).  A power cut: QEMU's blklogwrites keeps
a log of every write and flush, out of which comes the disk that is left in the worst case: all
that was written after the last flush is gone.
"""
import json
import random
import subprocess
import time

from extents import DURABLE, SECTOR, Extents, Written, differences, durable_of
from machine import Image, Skip, main
from qmp import Guest

SECTORS = 32768
COUNT = 60000
EVERY = 64
TIMES = 5


def check(run, extents, before, after):
    """How many extents were durable; they are there, and nothing is where it should not be."""
    durable = durable_of(run.text)
    begun = min(COUNT, durable + EVERY)
    wrong = differences(Written(extents, begun, set(range(durable, begun))), before, after)
    if wrong:
        run.fail("of %d durable extents %d sectors are wrong: %s"
                 % (durable, len(wrong), wrong[:10]))
    return durable


def cut(seed, number, arguments):
    """Boots, scrubs and kills QEMU some time after some flush; what the console had said."""
    chance = random.Random(seed)
    with Guest("scrub %d %d 32 %d" % (seed, COUNT, EVERY), arguments) as guest:
        for _ in range(1 + number * 3):
            guest.wait("extents are durable")
        time.sleep(chance.random() * 0.05)
        run = guest.kill()
    run.has_not("failed|scrub: .* read back")
    return run


# -- SIGKILL --

def qemu_img(*arguments):
    try:
        done = subprocess.run(["qemu-img", *map(str, arguments)], check=False,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    except FileNotFoundError:
        raise Skip("qemu-img")
    assert done.returncode == 0, done.stdout.decode()


def qcow2(folder):
    path = folder / "disk.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", "-o", "cluster_size=4096", path, SECTORS * SECTOR)
    node = {"driver": "qcow2", "node-name": "disk0",
            "file": {"driver": "file", "filename": str(path)}}
    return path, ["-blockdev", json.dumps(node), "-device", "virtio-blk-device,drive=disk0"]


def content_of(path, folder):
    raw = folder / "left.img"
    qemu_img("convert", "-f", "qcow2", "-O", "raw", path, raw)
    return raw.read_bytes()


def test_kill__durable_extents_are_on_the_image(folder):
    for number in range(TIMES):
        seed = 100 + number
        path, arguments = qcow2(folder)
        run = cut(seed, number, arguments)
        qemu_img("check", "-q", "-r", "leaks", path)
        durable = check(run, Extents(seed, SECTORS), bytes(SECTORS * SECTOR),
                        content_of(path, folder))
        print("# killed with %d extents durable" % durable)
        assert durable >= EVERY


def test_kill__what_was_not_flushed_is_lost(folder):
    """Or else the test above would not see a flush that does nothing."""
    path, arguments = qcow2(folder)
    with Guest("fill 0 %d 255" % SECTORS, arguments) as guest:
        guest.wait(r"fill: %d sectors" % SECTORS)
        guest.kill()
    left = content_of(path, folder)
    assert 0 in left, "everything is there without a flush"


# -- A power cut --

FLUSH, FUA, DISCARD = 1, 2, 4     # flags of dm-log-writes
MAGIC = 0x6a736677736872


class Log:
    """What blklogwrites kept: entries of (sector, data, flags) in the order of their ends."""

    def __init__(self, data):
        def number(at, size=8):
            return int.from_bytes(data[at:at + size], "little")

        assert number(0) == MAGIC and number(8) == 1, "not a log of version 1"
        step = number(24, 4)
        self.entries = []
        at = step
        while at + 32 <= len(data):
            sector, count, flags = number(at), number(at + 8), number(at + 16)
            if count == 0 and flags == 0:
                break       # the last one was not finished
            at += step
            content = b""
            if not flags & DISCARD:
                content = data[at:at + count * SECTOR]
                at += count * step
            self.entries.append((sector, content, flags))

    def left(self, before):
        """The disk after the power went: the writes that a flush was sent for, and no other."""
        flushes = [at for at, (_, _, flags) in enumerate(self.entries) if flags & FLUSH]
        image = bytearray(before)
        for at, (sector, content, flags) in enumerate(self.entries):
            if at < max(flushes, default=0) or flags & FUA:
                image[sector * SECTOR:sector * SECTOR + len(content)] = content
        return bytes(image)


def logged(folder, number):
    image = Image(folder, SECTORS * SECTOR, "power cut %d" % number, "disk%d.img" % number)
    log = folder / ("log%d" % number)
    log.write_bytes(b"")
    file = {"driver": "raw", "file": {"driver": "file", "filename": str(image.path)}}
    node = {"driver": "blklogwrites", "node-name": "disk0", "file": file, "log-sector-size": SECTOR,
            "log": {"driver": "raw", "file": {"driver": "file", "filename": str(log)}}}
    return image, log, ["-blockdev", json.dumps(node), "-device", "virtio-blk-device,drive=disk0"]


def test_power_cut__durable_extents_survive(folder):
    for number in range(TIMES):
        seed = 200 + number
        image, path, arguments = logged(folder, number)
        before = image.path.read_bytes()
        run = cut(seed, number, arguments)
        log = Log(path.read_bytes())
        extents = Extents(seed, SECTORS)
        durable = check(run, extents, before, log.left(before))
        print("# cut with %d extents durable, %d log entries" % (durable, len(log.entries)))
        assert durable >= EVERY
        # Without its flushes the same log is a disk that lost them.
        log.entries = [(sector, content, flags & ~FLUSH) for sector, content, flags in log.entries]
        assert differences(Written(extents, durable), before, log.left(before)) != []


def test_power_cut__after_the_last_flush(folder):
    """Nothing is written any more that would bring another flush: this one has to do."""
    for number, count in enumerate((64, 100, 300)):
        image, path, arguments = logged(folder, number)
        before = image.path.read_bytes()
        extents = Extents(250 + number, SECTORS)
        assert extents.get(count - 1)[2] != DURABLE
        with Guest("scrub %d %d 32 %d" % (250 + number, count, EVERY), arguments) as guest:
            guest.wait("scrub: %d extents are durable" % count)
            guest.kill()
        left = Log(path.read_bytes()).left(before)
        assert differences(Written(extents, count), before, left) == []


def test_power_cut__each_flush_is_sent_once(folder):
    """One for each round and each durable write; QEMU drops one that has nothing to flush."""
    image, path, arguments = logged(folder, 0)
    before = image.path.read_bytes()
    with Guest("scrub 300 512 1 %d; poweroff" % EVERY, arguments) as guest:
        run = guest.leave().left(0)
    log = Log(path.read_bytes())
    extents = Extents(300, SECTORS)
    assert durable_of(run.text) == 512
    durable = [number for number in range(512) if extents.get(number)[2] == DURABLE]
    rounds = [number for number in range(EVERY - 1, 512, EVERY)]
    assert sum(flags & FLUSH for _, _, flags in log.entries) == len({*durable, *rounds})
    assert differences(Written(extents, 512), before, log.left(before)) == []


main(globals())
