# SPDX-License-Identifier: MIT
"""Boots SimpleKernel in QEMU and says what it printed and how it left; runs test functions.

The environment tells where things are: SKIO_KERNEL (the ELF file) and SKIO_TRANSPORT (mmio or
mmio-legacy).  Every random image has a seed that is printed when its test fails.
"""
import hashlib
import json
import os
import pathlib
import random
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import traceback

ROOT = pathlib.Path(__file__).resolve().parents[2]
KERNEL = pathlib.Path(os.environ.get("SKIO_KERNEL", ROOT / "build/build_riscv64/SimpleKernel"))
TRANSPORT = os.environ.get("SKIO_TRANSPORT", "mmio")
QEMU = "qemu-system-riscv64"
SECONDS = 900  # of anything: ends what would hang


class Skip(Exception):
    """What a test needs and does not find."""


class Run:
    """What a boot printed, line by line, and QEMU's exit status."""

    def __init__(self, status, output, command):
        self.status = status
        # As a terminal shows it: a carriage return writes over the line.
        lines = output.decode(errors="replace").split("\n")
        self.text = "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in lines)
        self.command = command

    def fail(self, why):
        firmware, kernel, said = self.text.partition("\nSimpleKernel ")
        raise AssertionError("%s\nQEMU: %s\nstatus %s; the console said:%s"
                             % (why, " ".join(map(str, self.command)), self.status,
                                kernel + said or "\n" + firmware))

    def has(self, pattern):
        """The match of a regular expression somewhere in the output, or a failure."""
        match = re.search(pattern, self.text, re.M | re.I)
        if match is None:
            self.fail("nothing matches %r" % pattern)
        return match

    def has_not(self, pattern):
        if re.search(pattern, self.text, re.M | re.I):
            self.fail("something matches %r" % pattern)

    def left(self, status):
        if self.status != status:
            self.fail("the exit status is not %s" % status)
        return self

    def features(self):
        """The names behind "negotiated" in what `disk` printed, in as many lines as it took."""
        return set(self.has(r"^  negotiated ((?:.|\n   )*)$").group(1).split())

    def sha256(self, which=0):
        """(digits, bytes) of one of the lines that `hash` ends with."""
        lines = re.findall(r"^sha256 ([0-9a-f]{64}) (\d+) bytes$", self.text, re.M)
        if len(lines) <= which:
            self.fail("there is no hash line %d" % which)
        return lines[which][0], int(lines[which][1])


class Image:
    """A disk image with random content, gone with its folder."""

    def __init__(self, folder, size, seed, name="disk.img"):
        self.path = pathlib.Path(folder) / name
        self.size = size
        print("# image of %d bytes, seed %r" % (size, seed))
        self.path.write_bytes(random.Random(seed).randbytes(size))

    def sha256(self):
        return hashlib.sha256(self.path.read_bytes()).hexdigest()

    def read(self, sector, count):
        with self.path.open("rb") as file:
            file.seek(sector * 512)
            return file.read(count * 512)


def disk(image, number=0, properties="", faults=None, **options):
    """QEMU arguments for a virtio disk: `properties` of the device, `options` of the block node."""
    path = image.path if isinstance(image, Image) else image
    file = {"driver": "file", "filename": str(path)}
    if faults is not None:
        file = {"driver": "blkdebug", "image": file, **faults}
    name = "disk%d" % number
    node = {"driver": "raw", "node-name": name, "file": file, **options}
    if options.get("read-only"):
        file["read-only"] = True
    device = "virtio-blk-device,drive=%s,serial=%s" % (name, name)
    return ["-blockdev", json.dumps(node), "-device",
            device + ("," + properties if properties else "")]


def command_line(commands, options=""):
    """The kernel's command line: options, then what the shell shall do."""
    return (options + " " if options else "") + commands


def boot_command(commands, arguments=(), transport=None, options="", smp=1, memory="256M"):
    legacy = "true" if (transport or TRANSPORT) == "mmio-legacy" else "false"
    return [QEMU, "-machine", "virt", "-m", memory, "-smp", str(smp), "-nographic", "-no-reboot",
            "-global", "virtio-mmio.force-legacy=" + legacy, "-kernel", str(KERNEL),
            "-append", command_line(commands, options), *arguments]


def boot(commands, arguments=(), seconds=SECONDS, **how):
    """Boots, runs the commands and returns what happened; they should end with poweroff."""
    command = boot_command(commands, arguments, **how)
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=seconds, check=False)
    except subprocess.TimeoutExpired as expired:
        run = Run("none", expired.stdout or b"", command)
        run.fail("it did not power off within %d s" % seconds)
    return Run(done.returncode, done.stdout, command)


def type_in(lines, arguments=(), seconds=SECONDS, **how):
    """Boots to the prompt and types each line when the prompt is there; returns what happened."""
    command = boot_command("", arguments, **how)
    output = b""
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT) as process:
        alarm = threading.Timer(seconds, process.kill)
        alarm.start()
        for line in lines:
            start = len(output)
            while b"skio> " not in output[start:]:
                part = os.read(process.stdout.fileno(), 65536)
                if not part:
                    break
                output += part
            process.stdin.write(line)
            process.stdin.flush()
        output += process.stdout.read()
        status = process.wait()
        alarm.cancel()
    return Run(status, output, command)


def main(tests):
    """Runs every function called test_*; a line for each."""
    if shutil.which(QEMU) is None:
        print("skip all: needs %s" % QEMU)
        sys.exit(0)
    if not KERNEL.exists():
        print("not ok all: there is no kernel %s" % KERNEL)
        sys.exit(1)
    failed = 0
    for name, function in list(tests.items()):
        if not name.startswith("test_") or name not in (sys.argv[1:] or [name]):
            continue
        try:
            with tempfile.TemporaryDirectory(prefix="qemu-test-") as folder:
                function(pathlib.Path(folder))
            print("ok %s (%s)" % (name, TRANSPORT))
        except Skip as what:
            print("skip %s: needs %s" % (name, what))
        except Exception as error:  # whatever went wrong, the other tests shall run
            failed += 1
            where = traceback.extract_tb(error.__traceback__)
            print("not ok %s (%s)" % (name, TRANSPORT))
            print("    %s:%d: %s" % (where[1].filename if len(where) > 1 else "?",
                                     where[1].lineno if len(where) > 1 else 0,
                                     str(error).replace("\n", "\n    ")))
        sys.stdout.flush()
    sys.exit(1 if failed else 0)
