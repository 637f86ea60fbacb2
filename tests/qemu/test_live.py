#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The disk changes, fails, stalls and goes away while the guest works on it, by QEMU's monitor.

Each time the guest says what happened and lives on, and the image holds every extent that was
called durable.  The load is `scrub`: random extents, several in flight.

  block_resize       the disk grows and shrinks
  blkdebug           the Nth request fails; requests are suspended
  werror, rerror     QEMU stops the machine instead, and goes on
  throttle           requests become overdue: a reset lets them go
  qemu-nbd           the storage behind the disk stalls, and dies: a reset waits for it
  qom-set, drive_del the disk is taken away (device_del is refused on this bus: tested, too)
"""
import json
import pathlib
import signal
import subprocess
import sys
import time

from extents import (SECTOR, Extents, Together, Written, differences, durable_of, failed_of,
                     parts)
from machine import Image, Skip, boot, disk, main
from qmp import Guest, Refused

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from sockets import listens

SECTORS = 8192
MIB = 1 << 20
DONE = r"scrub: \d+ extents written, flushed and read back as written, seed \d+"


class Load:
    """A disk with `scrub` at work on it, and what the image may hold afterwards."""

    def __init__(self, folder, name, seed, count, words="16 64"):
        self.image = Image(folder, SECTORS * SECTOR, name)
        self.before = self.image.path.read_bytes()
        self.extents = Extents(seed, SECTORS)
        self.count = count
        self.command = "scrub %d %d %s; " % (seed, count, words)

    def check(self, run, every=64):
        """All that the guest was told is on the image; the rest is as it was, or half way."""
        durable = durable_of(run.text)
        begun = min(self.count, durable + every)
        maybe = failed_of(run.text) | set(range(durable, begun))
        after = self.image.path.read_bytes()
        wrong = differences(Written(self.extents, begun, maybe), self.before[:len(after)], after)
        if wrong:
            run.fail("%d sectors are wrong: %s" % (len(wrong), wrong[:10]))
        return durable


def with_id(arguments):
    """The device with a name for the monitor."""
    return arguments[:-1] + [arguments[-1] + ",id=device0"]


# -- block_resize --

def resize(guest, sectors):
    guest.qmp("block_resize", **{"node-name": "disk0", "size": sectors * SECTOR})


def test_resize__idle_disk_grows_and_shrinks(folder):
    image = Image(folder, SECTORS * SECTOR, "idle")
    with Guest("disk", disk(image)) as guest:
        guest.wait(r"capacity +%d sectors" % SECTORS)
        for sectors in (SECTORS * 2, SECTORS // 2):
            resize(guest, sectors)
            guest.type("read %d" % (sectors - 1))
            guest.wait(r"^%010x " % ((sectors - 1) * SECTOR))
            guest.type("read %d" % sectors)
            guest.wait(r"past the end: the disk has %d" % sectors)
            guest.type("disk")
            guest.wait(r"capacity +%d sectors" % sectors)
        guest.type("hash")
        guest.wait("^sha256 ")
        guest.type("poweroff")
        assert guest.leave().left(0).sha256() == (image.sha256(), SECTORS // 2 * SECTOR)


def test_resize__grows_under_load(folder):
    load = Load(folder, "grow", 1, 5000)
    with Guest(load.command + "fill %d 1 7; disk; poweroff" % SECTORS, disk(load.image)) as guest:
        guest.wait("64 extents are durable")
        resize(guest, SECTORS * 2)
        guest.wait(r"scrub: the disk has %d sectors now, it had %d" % (SECTORS * 2, SECTORS))
        run = guest.leave().left(0)
    run.has(DONE)
    run.has(r"capacity +%d sectors" % (SECTORS * 2))
    assert load.image.read(SECTORS, 1) == b"\x07" * SECTOR
    load.before += load.image.path.read_bytes()[len(load.before):]
    assert load.check(run) == load.count


def test_resize__shrinks_under_load(folder):
    half = SECTORS // 2
    load = Load(folder, "shrink", 2, 5000, "16 64 persist")
    with Guest(load.command + "read %d; disk; poweroff" % half, disk(load.image)) as guest:
        guest.wait("64 extents are durable")
        resize(guest, half)
        guest.wait(r"scrub: the disk has %d sectors now, it had %d" % (half, SECTORS))
        run = guest.leave().left(1)
    run.has(r"capacity +%d sectors" % half)
    run.has(r"past the end: the disk has %d" % half)
    assert durable_of(run.text) == load.count, "it went on with what is left"
    for number in failed_of(run.text):
        sector, sectors, _ = load.extents.get(number)
        assert sector + sectors > half, "extent %d lies on what is left" % number
    assert load.check(run) == load.count


def test_resize__back_and_forth_under_load(folder):
    load = Load(folder, "back and forth", 3, 10000, "32 64 persist")
    with Guest(load.command + "disk; poweroff", disk(load.image)) as guest:
        for sectors in (SECTORS * 2, SECTORS * 3, SECTORS) * 3:
            guest.wait("extents are durable")
            resize(guest, sectors)
        run = guest.leave().left(0)
    run.has(r"capacity +%d sectors" % SECTORS)
    assert load.check(run) == load.count


# -- Errors at exactly the Nth request --

def nth(event, iotype, numbers, errno=5):
    """Only the requests of these numbers fail, counted from 1."""
    steps = [{"event": event, "state": state, "new_state": state + 1}
             for state in range(1, max(numbers) + 1)]
    return {"set-state": steps,
            "inject-error": [{"event": event, "state": number, "iotype": iotype, "errno": errno,
                              "once": True} for number in numbers]}


def failing(folder, name, event, iotype, numbers, properties="request-merging=off"):
    load = Load(folder, name, len(name), 400)
    run = boot(load.command + "stats; hash; poweroff",
               disk(load.image, properties=properties, faults=nth(event, iotype, numbers)))
    assert load.check(run) == 400, "it went on to the end"
    assert run.sha256()[0] == load.image.sha256()
    return run


def test_errors__the_nth_write(folder):
    for numbers in ([1], [33], [100, 101, 250]):
        run = failing(folder, "write %s" % numbers, "write_aio", "write", numbers).left(1)
        assert len(failed_of(run.text)) == len(numbers), run.text
        run.has(r"^ +failed: io +%d$" % len(numbers))
        run.has(r"^scrub: %d failures; of 400 extents 400 are durable and %d read back"
                % (len(numbers), 400 - len(numbers)))


def test_errors__the_nth_read(folder):
    for numbers in ([3], [40, 41]):   # number 1 is the kernel's own look at sector 0
        run = failing(folder, "read %s" % numbers, "read_aio", "read", numbers).left(1)
        assert run.text.count("scrub: read of extent ") == len(numbers), run.text
        assert not failed_of(run.text), run.text
        run.has(r"^ +failed: io +%d$" % len(numbers))


def test_errors__the_nth_flush(folder):
    """What a flush that failed leaves is not durable: it is written again."""
    for numbers in ([1], [2, 3], range(1, 13)):
        run = failing(folder, "flush %s" % numbers, "flush_to_disk", "flush", numbers).left(1)
        lines = [line for line in run.text.splitlines()
                 if ("flush of extents" in line or "write of extent" in line) and "failed" in line]
        assert len(lines) == len(numbers), run.text
        run.has(r"^ +failed: io +%d$" % len(numbers))
    run.has(r"^scrub: flush of extents 0 to 63 failed")     # and not only durable writes


def test_errors__of_a_merged_request_are_those_of_all(folder):
    run = failing(folder, "merged", "write_aio", "write", [5, 50], properties="").left(1)
    assert len(failed_of(run.text)) >= 2


# -- QEMU stops the machine at an error --

def stopping(folder, name, event, iotype, errno, properties):
    load = Load(folder, name, len(name), 400)
    with Guest("timeout=3000 " + load.command + "stats; poweroff",
               disk(load.image, properties=properties,
                    faults=nth(event, iotype, [40], errno))) as guest:
        reason = guest.monitor.event("BLOCK_IO_ERROR")["data"]
        assert (reason["operation"], reason["action"]) == (iotype, "stop"), reason
        guest.monitor.event("STOP")
        time.sleep(4)       # longer than the guest's timeout, but its clock stands still
        guest.qmp("cont")
        run = guest.leave().left(0)
    run.has(DONE)
    run.has_not(r"^ +failed: io ")
    run.has_not(r"^ +failed: timeout ")
    assert load.check(run) == load.count


def test_stop__at_a_write_error_and_cont(folder):
    stopping(folder, "stop write", "write_aio", "write", 5, "werror=stop,rerror=stop")


def test_stop__at_a_read_error_and_cont(folder):
    stopping(folder, "stop read", "read_aio", "read", 5, "werror=stop,rerror=stop")


def test_stop__at_a_full_disk_and_cont(folder):
    """The default of QEMU: the host's disk is full, somebody makes room, and the guest goes on."""
    stopping(folder, "full", "write_aio", "write", 28, "")


# -- Suspended requests --

def test_suspended__for_less_than_the_timeout_is_a_pause(folder):
    """For longer would hang QEMU: its reset waits for the request, and its monitor for the reset."""
    load = Load(folder, "suspended", 4, 5000)
    with Guest("timeout=20000 " + load.command + "stats; poweroff",
               disk(load.image, faults={})) as guest:
        for round, event in enumerate(("write_aio", "flush_to_disk", "write_aio")):
            guest.wait("extents are durable")
            guest.qmp("stop")   # QEMU's command ends with a drain, which nothing may hold up yet
            assert guest.hmp('qemu-io disk0 "break %s tag%d"' % (event, round)).strip() == ""
            guest.qmp("cont")
            guest.wait("blkdebug: Suspended request 'tag%d'" % round)
            time.sleep(1.5)
            assert guest.hmp('qemu-io disk0 "resume tag%d"' % round).strip() == ""
        run = guest.leave().left(0)
    run.has(DONE)
    run.has_not(r"^ +failed: timeout ")
    assert load.check(run) == load.count


def throttled(image):
    limits = {"qom-type": "throttle-group", "id": "group", "limits": {"iops-total": 0}}
    node = {"driver": "throttle", "node-name": "disk0", "throttle-group": "group",
            "file": {"driver": "raw", "file": {"driver": "file", "filename": str(image.path)}}}
    return ["-object", json.dumps(limits), "-blockdev", json.dumps(node), "-device",
            "virtio-blk-device,drive=disk0"]


def set_limit(guest, requests_a_second):
    guest.qmp("qom-set", path="/objects/group", property="limits",
              value={"iops-total": requests_a_second})


def test_overdue__the_guest_stops_the_disk_and_recovers_it_itself(folder):
    load = Load(folder, "overdue", 5, 5000, "16 64 retry")
    with Guest("timeout=2000 " + load.command + "stats; poweroff", throttled(load.image)) as guest:
        guest.wait("extents are durable")
        set_limit(guest, 1)
        guest.wait(r"no answer for a [\w-]+ of \d+ bytes at sector \d+")
        guest.wait(r"the disk was stopped with \d+ extents durable; recovered: yes")
        set_limit(guest, 0)
        run = guest.leave().left(0)
    run.has(DONE + r".* recoveries [1-9]")
    run.has(r"^ +failed: timeout +[1-9]")
    assert load.check(run) == load.count


def test_overdue__requests_wait_for_the_recovery(folder):
    """With resubmit=on the recovery brings back what was in flight: none of it fails."""
    load = Load(folder, "resubmitted", 15, 5000, "16 64 retry")
    with Guest("timeout=2000 resubmit=on " + load.command + "stats; poweroff",
               throttled(load.image)) as guest:
        guest.wait("extents are durable")
        set_limit(guest, 1)
        guest.wait(r"no answer for a [\w-]+ of \d+ bytes at sector \d+")
        guest.wait(r"the disk was stopped with \d+ extents durable; recovered: yes")
        set_limit(guest, 0)
        run = guest.leave().left(0)
    run.has(DONE + r".* recoveries [1-9]")
    run.has_not(r"^ +failed: ")
    assert load.check(run) == load.count


def test_overdue__nobody_waits_for_a_recovery_that_does_not_come(folder):
    for command in ("scrub 17 5000 16 64", "bench read 4096 16 60", "hash; hash; hash; hash"):
        image = Image(folder, SECTORS * SECTOR, command)
        with Guest("timeout=2000 resubmit=on", throttled(image)) as guest:
            guest.wait("first sector")
            set_limit(guest, 1)
            guest.type(command)
            guest.wait(r"no answer for a [\w-]+ of \d+ bytes at sector \d+")
            set_limit(guest, 0)
            guest.type("recover")
            guest.wait("recover: done, the disk is ready")
            guest.type("poweroff 0")
            guest.leave().left(0)


def check_twice(first, second, before, after):
    """The image `after` holds what `second` wrote, and elsewhere what `first` may have written."""
    between = bytearray(after)
    for sector in second.last:
        piece = slice(sector * SECTOR, (sector + 1) * SECTOR)
        between[piece] = before[piece]
    wrong = [sector for sector in differences(first, before, bytes(between))
             if sector not in second.last]
    assert wrong == [], "before the recovery: %s" % wrong[:10]
    assert differences(second, bytes(between), after) == []


def test_overdue__recovered_by_hand(folder):
    load = Load(folder, "by hand", 6, 5000)
    with Guest("timeout=2000 " + load.command, throttled(load.image)) as guest:
        guest.wait("extents are durable")
        set_limit(guest, 1)
        guest.wait("scrub: stopped, the disk is broken; bring it back with: recover")
        guest.wait(r"of 5000 extents \d+ are durable and 0 read back")
        run = guest.now()
        assert load.check(run) >= 64
        set_limit(guest, 0)
        guest.type("read 0")
        guest.wait("read: read at sector 0 failed")
        guest.type("recover")
        guest.wait("recover: done, the disk is ready")
        guest.type("scrub 7 300")
        guest.wait(DONE)
        guest.type("poweroff 0")
        guest.leave().left(0)
    durable = durable_of(run.text)
    check_twice(Written(load.extents, durable + 64, set(range(durable, durable + 64))),
                Written(Extents(7, SECTORS), 300), load.before, load.image.path.read_bytes())


def test_overdue__seen_by_two_harts_with_a_queue_each(folder):
    """One of them finds out, stops the device, and both say so."""
    image = Image(folder, SECTORS * SECTOR, "two harts")
    before = image.path.read_bytes()
    slow = throttled(image)
    slow[-1] += ",num-queues=2"
    with Guest("timeout=2000 scrub 14 5000 16 64 harts=2", slow, smp=2) as guest:
        guest.wait("hart 0: .* extents are durable")
        guest.wait("hart 1: .* extents are durable")
        set_limit(guest, 1)
        guest.wait(r"of 10000 extents \d+ are durable and 0 read back")
        run = guest.now()
        set_limit(guest, 0)
        guest.type("recover")
        guest.wait("recover: done, the disk is ready")
        guest.type("scrub 16 300 harts=2")
        guest.wait(DONE)
        guest.type("poweroff 0")
        guest.leave().left(0)
    first = []
    for hart, extents in enumerate(parts(14, 2, SECTORS)):
        name = "scrub: hart %d" % hart
        run.has(r"^%s: stopped, the disk is broken" % name)
        durable = durable_of(run.text, name)
        assert durable >= 64 and failed_of(run.text, name) <= set(range(durable, durable + 64))
        first.append(Written(extents, durable + 64, set(range(durable, durable + 64))))
    check_twice(Together(*first), Together(*(Written(extents, 300)
                                             for extents in parts(16, 2, SECTORS))),
                before, image.path.read_bytes())


# -- The storage behind the disk --

class Server:
    """qemu-nbd with the image; QEMU's disk is its client."""

    def __init__(self, folder, image):
        self.path = folder / "nbd"
        try:
            self.process = subprocess.Popen(["qemu-nbd", "-f", "raw", "-t", "-k", self.path,
                                             "--cache=writeback", image.path],
                                            stdin=subprocess.DEVNULL)
        except FileNotFoundError:
            raise Skip("qemu-nbd")
        while not listens(self.path):
            assert self.process.poll() is None, "qemu-nbd does not start"
            time.sleep(0.02)

    def disk(self):
        node = {"driver": "raw", "node-name": "disk0",
                "file": {"driver": "nbd", "server": {"type": "unix", "path": str(self.path)}}}
        return ["-blockdev", json.dumps(node), "-device", "virtio-blk-device,drive=disk0"]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGCONT)
        self.process.kill()
        self.process.wait()


def test_storage__stalls_longer_than_the_timeout(folder):
    """QEMU does not finish the reset while its storage is silent: the machine stands still in it."""
    load = Load(folder, "stall", 8, 5000, "16 64 retry")
    with Server(folder, load.image) as server, \
            Guest("timeout=2000 " + load.command + "stats; poweroff", server.disk()) as guest:
        guest.wait("extents are durable")
        server.process.send_signal(signal.SIGSTOP)
        guest.wait(r"no answer for a [\w-]+ of \d+ bytes at sector \d+")
        time.sleep(1)
        server.process.send_signal(signal.SIGCONT)
        guest.wait(r"the disk was stopped with \d+ extents durable; recovered: yes")
        run = guest.leave().left(0)
    run.has(DONE + r".* recoveries [1-9]")
    assert load.check(run) == load.count


def test_storage__stalls_for_less_than_the_timeout(folder):
    load = Load(folder, "short stall", 9, 5000)
    with Server(folder, load.image) as server, \
            Guest("timeout=20000 " + load.command + "stats; poweroff", server.disk()) as guest:
        guest.wait("extents are durable")
        server.process.send_signal(signal.SIGSTOP)
        time.sleep(1)
        server.process.send_signal(signal.SIGCONT)
        run = guest.leave().left(0)
    run.has(DONE)
    assert load.check(run) == load.count


def test_storage__dies(folder):
    load = Load(folder, "dies", 10, 60000)
    with Server(folder, load.image) as server, \
            Guest(load.command + "read 0; help; poweroff", server.disk()) as guest:
        guest.wait("128 extents are durable")
        server.process.kill()
        run = guest.leave().left(1)
    run.has(r"scrub: write of extent \d+, .* failed: the device reported an I/O error")
    run.has(r"^read: read at sector 0 failed")
    run.has(r"^ *poweroff")
    assert load.check(run) >= 128


# -- The disk is taken away --

def test_removal__device_del_is_refused_by_qemu(folder):
    """If a later QEMU does it after all, this fails, and the next test shall use it."""
    image = Image(folder, SECTORS * SECTOR, "device_del")
    with Guest("hash; poweroff", with_id(disk(image))) as guest:
        try:
            guest.qmp("device_del", id="device0")
            raise AssertionError("device_del is not refused any more")
        except Refused as why:
            assert "does not support hotplugging" in str(why), why
        guest.leave().left(0)


def test_removal__the_device_vanishes_under_load(folder):
    """Taken out of the machine without a word: registers stay, nobody answers behind them."""
    load = Load(folder, "vanishes", 11, 60000)
    with Guest("timeout=2000 " + load.command + "recover; read 0; disk; stats; help; poweroff",
               with_id(disk(load.image))) as guest:
        guest.wait("128 extents are durable")
        guest.qmp("qom-set", path="/machine/peripheral/device0", property="realized", value=False)
        run = guest.leave().left(1)
    run.has(r"no answer for a [\w-]+ of \d+ bytes at sector \d+")
    run.has(r"^scrub: stopped, the disk is ")
    run.has(r"^recover: .*, the disk is (broken|failed)")
    run.has(r"^read: read at sector 0 failed")
    run.has(r"^disk .*, (broken|failed)")
    run.has(r"^ *poweroff")
    assert load.check(run) >= 128


def test_removal__the_other_disk_goes_on(folder):
    """The one that vanishes is idle; the other one does not notice."""
    load = Load(folder, "goes on", 12, 5000)
    other = Image(folder, SECTORS * SECTOR, "other", "other.img")
    with Guest(load.command + "devices; poweroff",
               disk(load.image, 0) + with_id(disk(other, 1))) as guest:
        guest.wait("64 extents are durable")
        guest.qmp("qom-set", path="/machine/peripheral/device0", property="realized", value=False)
        run = guest.leave().left(0)
    run.has(DONE)
    assert load.check(run) == load.count


def test_removal__the_medium_vanishes_under_load(folder):
    load = Load(folder, "medium", 13, 60000)
    drive = ["-drive", "file=%s,if=none,id=drive0,format=raw" % load.image.path, "-device",
             "virtio-blk-device,drive=drive0"]
    with Guest(load.command + "read 0; help; poweroff", drive) as guest:
        guest.wait("128 extents are durable")
        assert guest.hmp("drive_del drive0").strip() == ""
        run = guest.leave().left(1)
    run.has(r"scrub: write of extent \d+, .* failed")
    run.has(r"^read: read at sector 0 failed")
    run.has(r"^ *poweroff")
    assert load.check(run) >= 128


main(globals())
