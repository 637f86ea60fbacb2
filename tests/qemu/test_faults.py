#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""I/O errors of the disk, made by QEMU's blkdebug: reported, and nothing else is harmed."""
import hashlib

from machine import Image, boot, disk, main

SECTORS = 4096
BAD = 1000


def always(iotype, sector=None, errno=5):
    rule = {"event": "none", "iotype": iotype, "errno": errno, "once": False}
    if sector is not None:
        rule["sector"] = sector
    return {"inject-error": [rule]}


def nth(event, iotype, number):
    """Only the request of this number fails, counted from 1."""
    steps = [{"event": event, "state": state, "new_state": state + 1}
             for state in range(1, number + 1)]
    return {"set-state": steps,
            "inject-error": [{"event": event, "state": number, "iotype": iotype, "errno": 5,
                              "once": True}]}


def test_read__a_bad_sector_is_reported(folder):
    image = Image(folder, SECTORS * 512, "bad sector")
    run = boot("read %d; hash; hash 0 %d; poweroff" % (BAD, BAD),
               disk(image, faults=always("read", BAD))).left(1)
    run.has(r"i/?o error|input/output|device reported")
    expected = hashlib.sha256(image.read(0, BAD)).hexdigest()
    assert run.sha256() == (expected, BAD * 512), "what is before the bad sector is readable"


def test_read__every_request_fails_and_the_shell_lives(folder):
    image = Image(folder, SECTORS * 512, "all bad")
    run = boot("read 0; hash; parts; bench read 4096 4 1; stats; help; poweroff",
               disk(image, faults=always("read"))).left(1)
    run.has_not(r"^sha256 ")
    run.has(r"^ *poweroff")


def test_read__one_failure_does_not_stick(folder):
    image = Image(folder, SECTORS * 512, "once")
    faults = {"inject-error": [{"event": "none", "iotype": "read", "errno": 5, "sector": BAD,
                                "once": True}]}
    run = boot("read %d; read %d; hash; poweroff" % (BAD, BAD), disk(image, faults=faults)).left(1)
    assert run.sha256() == (image.sha256(), image.size)


def test_write__a_bad_sector_is_reported(folder):
    image = Image(folder, SECTORS * 512, "bad write")
    before = image.sha256()
    run = boot("fill %d 1 90; hash; poweroff" % BAD,
               disk(image, faults=always("write", BAD))).left(1)
    assert run.sha256() == (before, image.size)


def test_write__verify_sees_a_failed_write(folder):
    image = Image(folder, SECTORS * 512, "verify")
    boot("verify %d 8; poweroff" % (BAD - 4), disk(image, faults=always("write", BAD))).left(1)


def test_write__only_the_third_fails(folder):
    image = Image(folder, SECTORS * 512, "third")
    run = boot("fill 10 1 1; fill 20 1 2; fill 30 1 3; fill 40 1 4; poweroff",
               disk(image, faults=nth("write_aio", "write", 3))).left(1)
    assert image.read(10, 1) == b"\x01" * 512, run.text
    assert image.read(20, 1) == b"\x02" * 512, run.text
    assert image.read(30, 1) != b"\x03" * 512, run.text
    assert image.read(40, 1) == b"\x04" * 512, run.text


def test_flush__failure_is_not_called_durable(folder):
    image = Image(folder, SECTORS * 512, "flush")
    boot("fill 1 1 1; flush; poweroff", disk(image)).left(0)
    boot("fill 1 1 1; flush; poweroff", disk(image, faults=always("flush"))).left(1)


def test_write__full_disk_is_reported(folder):
    image = Image(folder, SECTORS * 512, "full")
    node = always("write", BAD, errno=28)
    run = boot("fill %d 1 90; hash; poweroff" % BAD,
               disk(image, properties="werror=report", faults=node)).left(1)
    assert run.sha256() == (image.sha256(), image.size)


main(globals())
