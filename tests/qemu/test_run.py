#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""tools/run, which is what `make run` calls: images, variables, exit status."""
import os
import pty
import select
import subprocess
import time

from machine import ROOT, SECONDS, Image, Run, Skip, disk, main


def run_tool(*words, stdin=subprocess.DEVNULL, **variables):
    """Runs tools/run with these variables and nothing of the environment's."""
    environment = {name: value for name, value in os.environ.items()
                   if name not in ("DISK", "WRITE", "RUN", "TRANSPORT", "HARTS", "QEMU_ARGS")}
    environment.update(variables)
    command = [str(ROOT / "tools/run"), *words]
    done = subprocess.run(command, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          env=environment, timeout=SECONDS, check=False)
    return Run(done.returncode, done.stdout, command)


def test_run__sample_disk_shows_everything(folder):
    run = run_tool().left(0)
    run.has(r"\bext4\b|Linux filesystem|\bsample\b")
    run.has(r"GPT")
    run.has(r"IOPS")
    digest, size = run.sha256()
    again = run_tool(RUN="hash").sha256()
    assert again == (digest, size), "the sample disk changed"


def test_run__image_is_not_changed(folder):
    image = Image(folder, 512 * 77, "not changed", "a disk, with a 'strange' name.img")
    before = image.sha256()
    run = run_tool(DISK=str(image.path), RUN="hash; fill 1 3 7; flush; hash").left(0)
    assert run.sha256(0) == (before, image.size)
    assert run.sha256(1)[0] != before, "the kernel sees what it wrote"
    assert image.sha256() == before, "the image was changed"


def test_run__image_is_changed_with_write(folder):
    image = Image(folder, 512 * 77, "changed")
    run = run_tool(DISK=str(image.path), WRITE="1", RUN="fill 1 3 7; flush; hash").left(0)
    assert image.read(1, 3) == b"\x07" * 1536
    assert run.sha256() == (image.sha256(), image.size)


def test_run__image_that_cannot_be_written_is_read(folder):
    image = Image(folder, 512 * 5, "mode")
    image.path.chmod(0o444)
    run = run_tool(DISK=str(image.path), RUN="hash").left(0)
    assert run.sha256() == (image.sha256(), image.size)


def test_run__several_harts(_folder):
    run = run_tool(HARTS="2", RUN="bench 4096 4 60 requests=100 harts=2; disk").left(0)
    run.has(r"^2 of 2 harts run")
    run.has(r"^bench: 200 requests in ")
    run.has(r"^  queues +2, ")


def test_run__missing_image_is_said_before_anything(folder):
    run = run_tool(DISK=str(folder / "no such.img")).left(2)
    run.has(r"no disk image '.*no such\.img'")
    assert len(run.text.splitlines()) <= 3, run.text


def test_run__folder_is_no_image(folder):
    run_tool(DISK=str(folder)).left(2).has(r"is a directory")


def test_run__unknown_variables_values(folder):
    run_tool(HARTS="many").left(2).has(r"HARTS=many is no number")
    run_tool(HARTS="9").left(2).has(r"from 1 to 8")
    run_tool(TRANSPORT="pci").left(2).has(r"TRANSPORT=pci .* mmio or mmio-legacy")
    run_tool(WRITE="perhaps").left(2).has(r"WRITE=perhaps")


def test_run__arguments_are_not_taken_for_anything(folder):
    run_tool("--help").left(2).has(r"HARTS=4 ")


def test_run__exit_status_is_the_kernels(folder):
    run_tool(RUN="nonsense").left(1)
    run_tool(RUN="poweroff 7").left(7)
    run_tool(RUN="").left(0)


def test_run__no_disk(folder):
    run_tool(DISK="none", RUN="disk").left(1).has(r"no disk")


def test_run__both_transports(folder):
    image = Image(folder, 512 * 19, "transports")
    for transport in ("mmio", "mmio-legacy"):
        run = run_tool(DISK=str(image.path), TRANSPORT=transport, RUN="disk; hash").left(0)
        run.has(r"over %s\b" % transport)
        assert run.sha256() == (image.sha256(), image.size)


def test_run__more_arguments(folder):
    image = Image(folder, 512 * 19, "second", "with space.img")
    more = " ".join("'%s'" % word for word in disk(image, 1))
    run = run_tool(RUN="devices", QEMU_ARGS="-m 512M " + more).left(0)
    assert len([line for line in run.text.splitlines() if "virtio-blk" in line]) == 2, run.text
    run.has(r"51\d MiB")


class Terminal:
    """tools/run with a person at the keyboard."""

    def __init__(self, **variables):
        master, slave = pty.openpty()
        self.master = master
        self.console = b""
        self.process = subprocess.Popen([str(ROOT / "tools/run")], stdin=slave, stdout=slave,
                                        stderr=slave, env={**os.environ, **variables})
        os.close(slave)

    def wait_for(self, text, seconds=SECONDS):
        until = time.monotonic() + seconds
        while text not in self.console:
            ready, _, _ = select.select([self.master], [], [], 0.2)
            if ready:
                self.console += os.read(self.master, 4096)
            assert time.monotonic() < until, "no %r in:\n%s" % (text, self.console.decode())
        self.console = self.console.split(text, 1)[1]

    def type(self, keys):
        os.write(self.master, keys)

    def leave(self):
        try:
            return self.process.wait(SECONDS)
        finally:
            self.process.kill()
            os.close(self.master)


def test_run__terminal_has_a_shell(folder):
    terminal = Terminal(RUN="uptime")
    terminal.wait_for(b"Ctrl-A x")
    terminal.wait_for(b"skio> ")
    terminal.type(b"nonsense\r")
    terminal.wait_for(b"no such command")
    terminal.wait_for(b"skio> ")
    terminal.type(b"upt\x03")
    terminal.wait_for(b"skio> ")
    terminal.type(b"poweroff 3\r")
    assert terminal.leave() == 3


def test_run__terminal_can_end_qemu(folder):
    terminal = Terminal(RUN="")
    terminal.wait_for(b"skio> ")
    terminal.type(b"\x01x")
    assert terminal.leave() == 0


def test_run__qcow2(folder):
    image = Image(folder, 512 * 2048, "qcow2")
    inside = folder / "inside.qcow2"
    try:
        subprocess.run(["qemu-img", "convert", "-q", "-O", "qcow2", image.path, inside], check=True)
    except FileNotFoundError:
        raise Skip("qemu-img")
    run = run_tool(DISK=str(inside), RUN="hash").left(0)
    assert run.sha256() == (image.sha256(), image.size)


def test_run__size_that_is_no_multiple_of_a_sector(folder):
    path = folder / "odd.img"
    path.write_bytes(b"x" * 1000)
    run = run_tool(DISK=str(path), RUN="hash").left(0)
    run.has(r"24 zero bytes")
    assert run.sha256()[1] == 1024


main(globals())
