#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What is not as it should be: each a clear line, and the shell lives on."""
from machine import TRANSPORT, Image, boot, disk, main, type_in

SECTOR = 512


def lives(run, image):
    """After all that went wrong the disk is still read correctly."""
    assert run.sha256() == (image.sha256(), image.size)
    return run


def test_no_disk__says_how_to_attach_one(folder):
    run = boot("disk; parts; hash; read 0; poweroff").left(1)
    run.has(r"no disk")
    run.has(r"-device virtio-blk|make run DISK=|virtio-blk-device")
    run.has_not(r"^sha256 ")


def test_command__unknown_is_named(folder):
    image = Image(folder, 3 * SECTOR, "unknown")
    run = boot("frobnicate 1 2; hash; poweroff", disk(image)).left(1)
    run.has(r"frobnicate: no such command")
    lives(run, image)


def test_command__wrong_words_show_the_usage(folder):
    image = Image(folder, 3 * SECTOR, "usage")
    run = boot("read; read x; read 1 y; hash 1; bench sideways; log loud; hash; poweroff",
               disk(image)).left(1)
    run.has(r"usage: read")
    run.has(r"usage: bench")
    lives(run, image)


def test_setting__unknown_is_named(folder):
    image = Image(folder, 3 * SECTOR, "setting")
    run = boot("hash; poweroff", disk(image), options="colour=blue queue=3x").left(1)
    run.has(r"colour")
    lives(run, image)


def test_read__past_the_end_is_refused(folder):
    image = Image(folder, 10 * SECTOR, "end")
    run = boot("read 10; read 9 2; read 0 11; read 18446744073709551615; "
               "read 1 18446744073709551615; hash 5 6; read 9; hash; poweroff",
               disk(image)).left(1)
    assert len(run.text.split("sha256 ")) == 2, "a range past the end was hashed"
    lives(run, image)


def test_disk__without_sectors(folder):
    image = Image(folder, 0, "zero")
    run = boot("disk; parts; hash; read 0; help; poweroff", disk(image)).left(1)
    run.has(r"^ *poweroff")


def test_disk__of_one_sector(folder):
    image = Image(folder, SECTOR, "one")
    run = boot("disk; parts; read 0; hash; poweroff", disk(image))
    lives(run, image)


def test_disk__read_only_refuses_to_write(folder):
    image = Image(folder, 64 * SECTOR, "read-only")
    before = image.sha256()
    run = boot("disk; write 1 abc; fill 1 1 255; verify 1 1; hash; poweroff",
               disk(image, **{"read-only": True})).left(1)
    run.has(r"read.only")
    lives(run, image)
    assert image.sha256() == before


def test_slot__another_type_of_device(folder):
    image = Image(folder, 5 * SECTOR, "others")
    others = ["-device", "virtio-rng-device", "-netdev", "user,id=n0", "-device",
              "virtio-net-device,netdev=n0"]
    run = boot("devices; hash; poweroff", others + disk(image)).left(0)
    lives(run, image)


def test_slot__only_another_type_is_no_disk(folder):
    boot("devices; hash; poweroff", ["-device", "virtio-rng-device"]).left(1).has(r"no disk")


def test_legacy__refused_where_only_modern_is_wanted(folder):
    image = Image(folder, 5 * SECTOR, "legacy")
    run = boot("disk; devices; poweroff", disk(image), options="legacy=off")
    if TRANSPORT == "mmio":
        run.left(0).has_not(r"refuse")
    else:
        run.left(1).has(r"legacy")


def test_console__commands_that_are_typed(folder):
    image = Image(folder, 5 * SECTOR, "typed")
    run = type_in([b"hsah\x7f\x7f\x7fash\r", b"nonsense\r", b"forget this\x15poweroff 4\r"],
                  disk(image)).left(4)
    run.has(r"nonsense: no such command")
    lives(run, image)


main(globals())
