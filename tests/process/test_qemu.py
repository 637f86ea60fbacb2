#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Our back end behind somebody else's front end: QEMU's, with SimpleKernel as the guest.

The guest drives the rings itself, in its own memory, which QEMU shares with the back end.  Its
load is `scrub`: random extents from a seed, so the image that they leave is known here.
"""
import os
import pathlib
import sys

from process import ROOT, Skip, main, need, serve, starts, wait_for

sys.path.insert(0, str(ROOT / "tests/qemu"))
from extents import SECTOR, apply, parts

KERNEL = pathlib.Path(os.environ.get("SKIO_KERNEL", ROOT / "build/build_riscv64/SimpleKernel"))
QEMU = "qemu-system-riscv64"
SECTORS = 8192
ENTRIES = 128  # of the rings that the kernel asks for


def guest(bench, socket, commands, entries=ENTRIES, packed=True, harts=1, reconnect=False):
    """QEMU with a disk whose back end is at a socket; its output is in a log of its own."""
    need(QEMU)
    if not KERNEL.exists():
        raise Skip("SimpleKernel; build the preset build_riscv64 first")
    return bench.start(
        [QEMU, "-machine", "virt,memory-backend=ram", "-object",
         "memory-backend-memfd,id=ram,size=256M,share=on", "-m", "256M", "-smp", harts, "-nographic",
         "-no-reboot", "-global", "virtio-mmio.force-legacy=false", "-kernel", KERNEL, "-append",
         commands + "; poweroff", "-chardev",
         "socket,id=socket,path=%s%s" % (socket, ",reconnect=1" if reconnect else ""), "-device",
         "vhost-user-blk,chardev=socket,num-queues=%d,queue-size=%d,packed=%s"
         % (harts, entries, "on" if packed else "off")], "guest-of-" + socket.stem)


def text_of(program):
    """What the guest printed, without its firmware."""
    return program.log.read_text(errors="replace").partition("\nSimpleKernel ")[2]


def ends(program):
    """Waits for the guest to power off; what it printed."""
    wait_for(lambda: not program.is_alive(), "the guest powering off")
    text = text_of(program)
    assert program.process.returncode == 0, text
    return text


def holds(image, seed, count, harts, before):
    """The image holds what `scrub` wrote, and elsewhere what was there before."""
    expected = before
    for extents in parts(seed, harts, SECTORS, SECTOR):
        expected = apply(extents, count, expected)
    assert image.read_bytes() == expected, "the image is not what the guest wrote"


def test_guest__writes_what_the_host_reads(bench):
    for packed in (True, False):
        image = bench.image("%s.img" % packed, SECTORS * SECTOR, "guest")
        before = image.read_bytes()
        path, _ = serve(bench, "serve-file", image, "--queues", "2", name="serve-%s" % packed)
        text = ends(guest(bench, path, "disk; scrub 5 100 6 20 harts=2", packed=packed, harts=2))
        assert ("RING_PACKED" in text.split("negotiated")[1].split("not used")[0]) == packed, text
        holds(image, 5, 100, 2, before)


def test_guest__goes_on_when_the_back_end_is_killed(bench):
    """QEMU keeps the record of requests in flight; the new back end resumes from it."""
    for packed in (True, False):
        image = bench.image("%s.img" % packed, SECTORS * SECTOR, "killed")
        before = image.read_bytes()
        path, program = serve(bench, "serve-file", image, name="serve-%s" % packed)
        machine = guest(bench, path, "scrub 7 2000 6 20; stats", packed=packed, reconnect=True)
        for durable in (100, 600, 1200):
            wait_for(lambda: " %d extents are durable" % durable in text_of(machine),
                     "%d durable extents" % durable)
            program.kill()
            path.unlink(missing_ok=True)
            program.start()
            starts(program, path)
        text = ends(machine)
        assert "scrub: 2000 extents written, flushed and read back as written" in text, text
        holds(image, 7, 2000, 1, before)


def test_guest__longer_rings_than_the_front_end_says_are_refused(bench):
    image = bench.image("a.img", SECTORS * SECTOR, "long")
    before = image.read_bytes()
    path, program = serve(bench, "serve-file", image)
    machine = guest(bench, path, "disk", entries=ENTRIES // 2)
    wait_for(lambda: "is for a shorter ring" in program.log.read_text(), "a line that says why")
    machine.kill()
    assert program.is_alive() and image.read_bytes() == before


main(globals())
