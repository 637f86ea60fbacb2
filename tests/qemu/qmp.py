# SPDX-License-Identifier: MIT
"""A running SimpleKernel with two hands on it: its console and QEMU's monitor (QMP).

    with Guest("scrub 1 5000 16 64; poweroff", disk(image)) as guest:
        guest.wait(r"64 extents are durable")
        guest.qmp("block_resize", **{"node-name": "disk0", "size": 1 << 20})
        guest.leave().left(0)
"""
import json
import pathlib
import re
import socket
import subprocess
import tempfile
import threading
import time

from machine import SECONDS, Run, boot_command


class Monitor:
    """QMP: commands one at a time; events are kept."""

    def __init__(self, path, seconds=SECONDS):
        self.socket = socket.socket(socket.AF_UNIX)
        until = time.monotonic() + seconds
        while True:
            try:
                self.socket.connect(str(path))
                break
            except OSError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.02)
        self.socket.settimeout(seconds)
        self.input = self.socket.makefile("rb")
        self.events = []
        assert "QMP" in self.read()
        self.command("qmp_capabilities")

    def read(self):
        line = self.input.readline()
        if not line:
            raise ConnectionError("QEMU is gone")
        return json.loads(line)

    def command(self, name, **arguments):
        self.socket.sendall(json.dumps({"execute": name, "arguments": arguments}).encode() + b"\n")
        while True:
            answer = self.read()
            if "event" in answer:
                self.events.append(answer)
            elif "error" in answer:
                raise Refused(answer["error"]["desc"])
            else:
                return answer["return"]

    def event(self, name, seconds=SECONDS):
        """The next event of this name, one that came already included."""
        self.socket.settimeout(seconds)
        while True:
            for at, event in enumerate(self.events):
                if event["event"] == name:
                    return self.events.pop(at)
            self.events.append(self.read())

    def close(self):
        self.input.close()
        self.socket.close()


class Refused(Exception):
    """What QEMU answered to a command that it did not do."""


class Guest:
    """QEMU as a process, its console read by a thread of its own."""

    def __init__(self, commands, arguments=(), seconds=SECONDS, **how):
        self.folder = tempfile.TemporaryDirectory(prefix="qemu-qmp-")
        path = pathlib.Path(self.folder.name) / "qmp"
        self.command = boot_command(commands, ["-qmp", "unix:%s,server=on,wait=off" % path,
                                               *arguments], **how)
        self.output = b""
        self.looked = 0
        self.grown = threading.Condition()
        self.process = subprocess.Popen(self.command, stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        self.alarm = threading.Timer(seconds, self.process.kill)
        self.alarm.start()
        try:
            self.monitor = Monitor(path)
        except Exception:
            self.kill()
            raise

    def _read(self):
        while True:
            part = self.process.stdout.read1(65536)
            with self.grown:
                self.output += part
                self.grown.notify_all()
            if not part:
                return

    def now(self):
        """What happened so far, for looking at and for failing."""
        return Run(self.process.poll(), self.output, self.command)

    def wait(self, pattern, seconds=SECONDS):
        """Until a line that was not looked at before matches; the match."""
        until = time.monotonic() + seconds
        expression = re.compile(pattern.encode(), re.M | re.I)
        with self.grown:
            while True:
                match = expression.search(self.output, self.looked)
                if match and b"\n" in self.output[match.end():]:
                    self.looked = match.end()
                    return match
                left = until - time.monotonic()
                if left <= 0 or not self.reader.is_alive():
                    self.now().fail("the console never said %r" % pattern)
                self.grown.wait(min(left, 1))

    def type(self, line):
        self.process.stdin.write(line.encode() + b"\r")
        self.process.stdin.flush()

    def qmp(self, name, **arguments):
        try:
            return self.monitor.command(name, **arguments)
        except Refused:
            raise
        except OSError as error:
            self.now().fail("QMP %s: %s" % (name, error))

    def hmp(self, line):
        return self.qmp("human-monitor-command", **{"command-line": line})

    def leave(self, seconds=SECONDS):
        """Waits for the machine to power off; what happened."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.now().fail("it did not power off within %d s" % seconds)
        self.reader.join()
        return self.now()

    def kill(self):
        """SIGKILL: QEMU has no chance to put anything in order."""
        self.process.kill()
        self.process.wait()
        self.reader.join()
        return self.now()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.alarm.cancel()
        self.kill()
        self.process.stdin.close()
        self.process.stdout.close()
        if hasattr(self, "monitor"):
            self.monitor.close()
        self.folder.cleanup()
