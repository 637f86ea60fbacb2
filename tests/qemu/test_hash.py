#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The disk's content as the kernel reads it equals the image on the host."""
import hashlib

from machine import Image, boot, disk, main


def hash_equals(folder, size, **how):
    image = Image(folder, size, "hash %d" % size)
    before = image.sha256()
    run = boot("hash; poweroff", disk(image), **how).left(0)
    assert run.sha256() == (before, size), "%s is not %s %d" % (run.sha256(), before, size)
    assert image.sha256() == before, "reading changed the image"


def test_hash__one_sector(folder):
    hash_equals(folder, 512)


def test_hash__no_multiple_of_a_page(folder):
    hash_equals(folder, 512 * 9)


def test_hash__a_mebibyte_and_a_sector(folder):
    hash_equals(folder, 1024 * 1024 + 512)


def test_hash__odd_number_of_sectors(folder):
    hash_equals(folder, 512 * 12347)


def test_hash__64_mebibytes(folder):
    hash_equals(folder, 64 * 1024 * 1024)


def test_hash__range_of_sectors(folder):
    image = Image(folder, 512 * 1000, "range")
    run = boot("hash 7 991; hash 999 1; poweroff", disk(image)).left(0)
    assert run.sha256(0) == (hashlib.sha256(image.read(7, 991)).hexdigest(), 991 * 512)
    assert run.sha256(1) == (hashlib.sha256(image.read(999, 1)).hexdigest(), 512)


def test_hash__four_harts(folder):
    hash_equals(folder, 512 * 100, smp=4)


def test_hash__no_disk_is_seen_to_fail(folder):
    """The tests above would fail without their disk: this one looks at that."""
    run = boot("hash; poweroff").left(1)
    try:
        run.sha256()
    except AssertionError:
        return
    raise AssertionError("a hash without a disk")


main(globals())
