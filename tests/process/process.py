# SPDX-License-Identifier: MIT
"""Runs skblk, back ends and NBD servers, each in a folder of its own; runs test functions.

The environment tells where things are: SKIO_SKBLK (the program) and SKIO_PLUGIN (the nbdkit
plugin, if it was built).  Whatever a test starts is ended with it.
"""
import contextlib
import hashlib
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/support"))
from sockets import listens
SKBLK = os.environ.get("SKIO_SKBLK", str(ROOT / "build/process/tools/skblk/skblk"))
PLUGIN = os.environ.get("SKIO_PLUGIN", "")
SECONDS = 300  # of anything: ends what would hang

# Exit codes; the man page explains them.
OK, DIFFERENT, USAGE, CONNECT, BACKEND, DISK, FILE, TIMEOUT, INTERRUPTED = 0, 1, 2, 3, 4, 5, 6, 7, 130


class Skip(Exception):
    """What a test needs and does not find."""


def need(*programs):
    for program in programs:
        if shutil.which(program) is None:
            raise Skip(program)


class Result:
    """What a program printed and how it left."""

    def __init__(self, command, done):
        self.command = command
        self.status = done.returncode
        self.out = done.stdout
        self.text = done.stdout.decode(errors="replace")
        self.error = done.stderr.decode(errors="replace")

    def left(self, status):
        assert self.status == status, "%s\nleft with %s, not %s\n%s%s" % (
            " ".join(map(str, self.command)), self.status, status, self.text[-2000:], self.error)
        return self

    def says(self, *words):
        for word in words:
            assert word in self.error, "%r does not stand in: %s" % (word, self.error)
        return self

    def json(self):
        return json.loads(self.text)


def run(*command, status=OK, data=None, **options):
    """Runs a program to its end; it must leave with `status`."""
    done = subprocess.run([str(word) for word in command], input=data, timeout=SECONDS, check=False,
                          stdout=options.pop("stdout", subprocess.PIPE), stderr=subprocess.PIPE,
                          **({} if data is not None else {"stdin": subprocess.DEVNULL}), **options)
    if done.stdout is None:
        done.stdout = b""
    return Result(command, done).left(status)


def skblk(*words, status=OK, **options):
    return run(SKBLK, *words, status=status, **options)


def wait_for(condition, what, seconds=SECONDS):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "%s did not happen in %d s" % (what, seconds)
        time.sleep(0.01)


class Program:
    """A program that runs beside the test."""

    def __init__(self, command, log):
        self.command = [str(word) for word in command]
        self.log = pathlib.Path(log)
        self.process = None
        self.start()

    def start(self):
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=log)

    def is_alive(self):
        return self.process.poll() is None

    def kill(self, number=signal.SIGKILL):
        if self.is_alive():
            self.process.send_signal(number)
        return self.process.wait(timeout=SECONDS)


def starts(program, path):
    """Waits until a program listens on a socket's path."""
    def is_ready():
        assert program.is_alive(), "%s ended: %s" % (program.command[0], program.log.read_text())
        return listens(path)
    wait_for(is_ready, "%s listening" % program.command[0])
    return program


def connects(path):
    """True if somebody accepts on a UNIX socket."""
    import socket
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as client:
        try:
            client.connect(str(path))
        except OSError:
            return False
    return True


def writes(program, count, load):
    """Waits until a program has written so many bytes more into files for a load that runs."""
    def written():
        assert load.poll() is None, load.communicate()
        text = pathlib.Path("/proc/%d/io" % program.process.pid).read_text()
        return int(text.split("wchar: ")[1].split()[0])
    before = written()
    wait_for(lambda: written() >= before + count, "%d bytes written" % count)


class Bench:
    """A folder with images, sockets and the programs of one test."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.programs = []

    def path(self, name):
        return self.folder / name

    def image(self, name, size, seed=None):
        """An image of random bytes, or a sparse one of zeroes if there is no seed."""
        path = self.path(name)
        if seed is None:
            with path.open("wb") as file:
                file.truncate(size)
        else:
            print("# %s: %d bytes, seed %r" % (name, size, seed))
            path.write_bytes(random.Random(seed).randbytes(size))
        return path

    def start(self, command, name):
        program = Program(command, self.path(name + ".log"))
        self.programs.append(program)
        return program

    def daemon_command(self, node, socket, **export):
        """A qemu-storage-daemon that exports a tree of block nodes."""
        need("qemu-storage-daemon")
        options = {"type": "vhost-user-blk", "id": "export", "node-name": "top",
                   "addr": {"type": "unix", "path": str(socket)}, "writable": True, **export}
        return ["qemu-storage-daemon", "--blockdev", json.dumps({"node-name": "top", **node}),
                "--export", json.dumps(options)]

    def daemon(self, image, name="daemon", **export):
        """One that exports a raw image; returns the socket's path and the program."""
        socket = self.path(name + ".sock")
        node = {"driver": "raw", "file": {"driver": "file", "filename": str(image)}}
        program = self.start(self.daemon_command(node, socket, **export), name)
        return socket, starts(program, socket)

    def end(self):
        for program in reversed(self.programs):
            program.kill()


def serve(bench, *words, name="serve"):
    """A back end of our own on a socket; the path and the program."""
    path = bench.path(name + ".sock")
    command = [SKBLK, words[0], path, *words[1:], "--quiet"]
    program = bench.start(command, name)
    wait_for(lambda: program.process.poll() is not None or connects(path), "%s listening" % name)
    assert program.is_alive(), program.log.read_text()
    return path, program


def sha256(path):
    return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()


def main(tests):
    """Runs every function called test_*; a line for each."""
    failed = 0
    for name, function in list(tests.items()):
        if not name.startswith("test_") or name not in (sys.argv[1:] or [name]):
            continue
        with tempfile.TemporaryDirectory(prefix="skblk-") as folder:
            bench = Bench(folder)
            try:
                function(bench)
                print("ok %s" % name)
            except Skip as what:
                print("skip %s: needs %s" % (name, what))
            except Exception as error:  # whatever went wrong, the other tests shall run
                failed += 1
                where = traceback.extract_tb(error.__traceback__)
                print("not ok %s" % name)
                print("    line %d: %s" % (where[1].lineno if len(where) > 1 else 0,
                                           str(error).replace("\n", "\n    ")))
            finally:
                bench.end()
        sys.stdout.flush()
    sys.exit(1 if failed else 0)
