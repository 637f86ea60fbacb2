#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Every combination of what a disk in QEMU can be and how it can be driven.

    matrix.py all [RESULTS]   runs all of them; what RESULTS says has passed with this very kernel,
                              QEMU and test is not run again, so it may be interrupted
    matrix.py pairs           runs few of them, in which every pair of values occurs that exists
    matrix.py list            names all combinations, and those that do not exist with the reason

One run: the kernel boots on such a disk, `disk` must say that it is such a disk, `scrub` writes
random extents, flushes and reads back, and the host compares the whole image with what the seed
says.  A read-only disk is written by the host before, read by the kernel, and must not change.
Two runs at a time.  Ends with a table; status 0: all passed.
"""
import concurrent.futures
import hashlib
import itertools
import json
import pathlib
import random
import subprocess
import sys
import tempfile
import time

from extents import SECTOR, apply, parts
from machine import KERNEL, QEMU, ROOT, boot

FACTORS = {
    "transport": ("mmio", "mmio-legacy"),
    "ring": ("split", "packed"),
    "indirect": ("on", "off"),
    "event_idx": ("on", "off"),
    "wait": ("irq", "poll"),
    "queues": (1, 2),
    "size": (2, 3, 16, 256, 1024),
    "block": (512, 4096),
    "cache": ("on", "off"),
    "access": ("write", "read-only"),
}

# What no device can be, or no driver can do; the first reason that holds is counted.
NOT_EXISTING = (
    ("a legacy device has no packed ring",
     lambda row: row["transport"] == "mmio-legacy" and row["ring"] == "packed"),
    ("the size of a split ring is a power of two",
     lambda row: row["ring"] == "split" and row["size"] == 3),
    ("a chain is no longer than a split ring, even in a table",
     lambda row: row["ring"] == "split" and row["size"] == 2),
    ("without tables header, data and status need three entries",
     lambda row: row["indirect"] == "off" and row["size"] == 2),
)

SECTORS = 4096
COUNT = 60
WORKERS = 2


def combinations():
    """(rows that exist, {reason: how many do not})"""
    rows, reasons = [], {reason: 0 for reason, _ in NOT_EXISTING}
    for values in itertools.product(*FACTORS.values()):
        row = dict(zip(FACTORS, values))
        reason = next((reason for reason, holds in NOT_EXISTING if holds(row)), None)
        if reason is None:
            rows.append(row)
        else:
            reasons[reason] += 1
    return rows, reasons


def groups(row, strength):
    """All choices of `strength` factors with this row's values."""
    return set(itertools.combinations(row.items(), strength))


def select(rows, strength):
    """Rows in which each group that exists occurs: the best next one, again and again."""
    left = set().union(*(groups(row, strength) for row in rows))
    each = [groups(row, strength) for row in rows]
    chosen = []
    while left:
        best = max(range(len(rows)), key=lambda at: (len(each[at] & left), -at))
        chosen.append(rows[best])
        left -= each[best]
    return chosen


def name_of(row):
    return " ".join("%s=%s" % item for item in row.items())


# -- One run --

def arrangement(row, number):
    """(properties of the device, settings of the kernel).

    What is off is either not offered by the device or not taken by the driver, by turns.  The size
    is the driver's choice: over MMIO QEMU offers 1024 whatever its queue-size is, a power of two
    from 4 on, which bounds the segments of a request, however.
    """
    by_device = number % 2 == 0
    properties = ["num-queues=2", "logical_block_size=%d" % row["block"],
                  "physical_block_size=%d" % row["block"], "write-cache=%s" % row["cache"],
                  "packed=%s" % ("on" if row["ring"] == "packed" else "off")]
    settings = ["queues=%d" % row["queues"], "queue=%d" % row["size"]]
    for factor, feature, setting in (("indirect", "indirect_desc", "indirect"),
                                     ("event_idx", "event_idx", "event")):
        if row[factor] == "off":
            (properties if by_device else settings).append(
                "%s=off" % (feature if by_device else setting))
    if by_device and row["size"] >= 4:
        properties.append("queue-size=%d" % row["size"])
    if row["wait"] == "poll":
        settings.append("irq=off")
    return ",".join(properties), " ".join(settings)


def disk_of(image, properties, row):
    """Where interrupts are tested reads are slow, or all may have ended before anybody waits."""
    limits = {"iops-read": 50} if row["wait"] == "irq" else {}
    group = {"qom-type": "throttle-group", "id": "pace", "limits": limits}
    access = {"read-only": row["access"] == "read-only"}
    file = {"driver": "raw", **access,
            "file": {"driver": "file", "filename": str(image), **access}}
    node = {"driver": "throttle", "node-name": "disk0", "throttle-group": "pace", "file": file,
            **access}
    return ["-object", json.dumps(group), "-blockdev", json.dumps(node), "-device",
            "virtio-blk-device,drive=disk0," + properties]


def is_what_it_says(run, row):
    """The disk that the kernel saw is the one of this row."""
    def negotiated(feature, wanted):
        if (feature in run.features()) != wanted:
            run.fail("%s was %snegotiated" % (feature, "not " if wanted else ""))

    run.has(r"^disk \S+, virtio-blk over %s, ready$" % row["transport"])
    negotiated("RING_PACKED", row["ring"] == "packed")
    negotiated("INDIRECT_DESC", row["indirect"] == "on")
    negotiated("EVENT_IDX", row["event_idx"] == "on")
    run.has(r"^  queues +%d, %s, of %d entries" % (row["queues"], row["ring"], row["size"]))
    run.has(r"^  limits +blocks of %d bytes, %d physical" % (row["block"], row["block"]))
    run.has(r"^  cache +%s" % ("write-back" if row["cache"] == "on" else "write-through"))
    (run.has if row["access"] == "read-only" else run.has_not)(r"^  capacity .*, read-only$")
    (run.has if row["wait"] == "irq" else run.has_not)(r"^plic@\S+ .* bound ")
    interrupts = 0
    for queue in range(row["queues"]):
        of_queue = run.has(r"^scrub: (?:hart \d: )?queue %d: ([1-9]\d*) requests, (\d+) interrupts$" % queue)
        interrupts += int(of_queue.group(2))
    if row["wait"] == "irq" and interrupts == 0:
        run.fail("there was not a single interrupt")


def harts_of(row, number):
    """Two queues: one hart for both, or one for each, by turns."""
    return 1 if row["queues"] == 1 or number // 2 % 2 == 0 else 2


def run_row(row, number, folder, made_as=None):
    """Runs one; an AssertionError says what was wrong.  `made_as` makes another disk than `row`."""
    made = made_as or row
    seed = number + 1
    image = pathlib.Path(folder) / "disk.img"
    image.write_bytes(random.Random(seed).randbytes(SECTORS * SECTOR))
    harts = harts_of(made, number)
    expected = image.read_bytes()
    for extents in parts(seed, harts, SECTORS, row["block"]):
        expected = apply(extents, COUNT, expected)
    if made["access"] == "read-only":
        image.write_bytes(expected)
    properties, settings = arrangement(made, number)
    run = boot("disk; devices; scrub %d %d 6 20 harts=%d; poweroff" % (seed, COUNT, harts),
               disk_of(image, properties, made), transport=made["transport"],
               options=settings, smp=made["queues"]).left(0)
    is_what_it_says(run, row)
    run.has(r"^scrub: %d extents %s seed %d\b"
            % (COUNT * harts, "read as" if row["access"] == "read-only"
               else "written, flushed and read back as written,", seed))
    after = image.read_bytes()
    if after != expected:
        wrong = [at // SECTOR for at in range(0, len(expected), SECTOR)
                 if after[at:at + SECTOR] != expected[at:at + SECTOR]]
        run.fail("%d sectors of the image are wrong: %s" % (len(wrong), wrong[:10]))


def try_row(item):
    """None, or what went wrong, of (number, row)."""
    try:
        with tempfile.TemporaryDirectory(prefix="qemu-matrix-") as folder:
            run_row(item[1], item[0], folder)
    except AssertionError as error:
        return str(error)
    return None


# -- Many --

class Results:
    """What passed, in a file that is good for one kernel, one QEMU and one test."""

    def __init__(self, path):
        self.path = path
        self.passed = set()
        self.file = None
        if path is None:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = path.read_text().splitlines() if path.exists() else []
        if lines and lines[0] == self.identity():
            self.passed = set(lines[1:])
            self.file = path.open("a")
        else:
            self.file = path.open("w")
            self.add(self.identity())

    @staticmethod
    def identity():
        sources = [ROOT / "tests/qemu" / name for name in ("matrix.py", "extents.py", "machine.py")]
        digest = hashlib.sha256(b"".join(path.read_bytes() for path in [KERNEL, *sources]))
        version = subprocess.run([QEMU, "--version"], stdout=subprocess.PIPE, check=True).stdout
        return json.dumps([digest.hexdigest(), version.decode().splitlines()[0]])

    def add(self, line):
        if self.file is not None:
            self.file.write(line + "\n")
            self.file.flush()


class Progress:
    """A line that moves on a terminal, one in a while elsewhere."""

    def __init__(self, total):
        self.total = total
        self.start = self.shown = time.monotonic()
        self.done = 0

    def step(self, failed):
        self.done += 1
        now = time.monotonic()
        if self.done < self.total and now - self.shown < (0.2 if sys.stderr.isatty() else 60):
            return
        self.shown = now
        left = (now - self.start) / self.done * (self.total - self.done)
        print("%smatrix: %d of %d, %d failed, %d s, %d s left %s"
              % ("\r" if sys.stderr.isatty() else "", self.done, self.total, failed,
                 now - self.start, left, "" if sys.stderr.isatty() else "\n"),
              end="", file=sys.stderr, flush=True)


def run_rows(rows, results=None, quiet=True):
    """Runs them, two at a time; {name: what went wrong} of those that did not pass."""
    results = results or Results(None)
    numbers = {name_of(row): at for at, row in enumerate(combinations()[0])}
    todo = [(numbers[name_of(row)], row) for row in rows if name_of(row) not in results.passed]
    progress = Progress(len(todo))
    failures = {}
    with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
        for (_, row), why in zip(todo, pool.map(try_row, todo)):
            if why is None:
                results.add(name_of(row))
            else:
                failures[name_of(row)] = why
            if not quiet:
                progress.step(len(failures))
    if not quiet and sys.stderr.isatty():
        print(file=sys.stderr)
    return failures


def table(rows, failures, reasons):
    lines = ["%-12s %-12s %6s %6s" % ("factor", "value", "runs", "passed")]
    for factor, values in FACTORS.items():
        for value in values:
            of_value = [row for row in rows if row[factor] == value]
            good = sum(name_of(row) not in failures for row in of_value)
            lines.append("%-12s %-12s %6d %6d%s" % (
                factor if value == values[0] else "", value, len(of_value), good,
                "" if good == len(of_value) else "  FAILED"))
    lines.append("%-25s %6d %6d" % ("all", len(rows), len(rows) - len(failures)))
    lines += ["", "combinations that do not exist, and are in no number above"]
    lines += ["%6d  %s" % (count, reason) for reason, count in reasons.items()]
    return "\n".join(lines)


def main():
    what = sys.argv[1] if len(sys.argv) > 1 else ""
    rows, reasons = combinations()
    if what == "list":
        print("\n".join(map(name_of, rows)))
        return 0
    if what not in ("all", "pairs"):
        print(__doc__, file=sys.stderr)
        return 2
    if what == "pairs":
        rows = select(rows, 2)
    results = Results(pathlib.Path(sys.argv[2]) if len(sys.argv) > 2 else None)
    if results.passed:
        print("%d of %d passed before, with this kernel" % (len(results.passed), len(rows)))
    failures = run_rows(rows, results, quiet=False)
    for name, why in failures.items():
        print("not ok %s\n    %s" % (name, why.replace("\n", "\n    ")))
    print(table(rows, failures, reasons))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)
    sys.exit(main())
