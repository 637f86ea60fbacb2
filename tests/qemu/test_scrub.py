#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""`scrub`: the image is byte for byte what the seed says, and what is not is noticed."""
import os

from extents import PLAIN, SECTOR, Extents, Written, apply, differences, parts
from machine import Image, boot, disk, main

SECTORS = 4096
COUNT = 200
DONE = r"scrub: %d extents written, flushed and read back as written, seed %d\b"


def scrubbed(folder, words, seed, count, sectors=SECTORS, block_bytes=SECTOR, **how):
    """Boots and scrubs; the whole image is as it was, but for the extents."""
    image = Image(folder, sectors * SECTOR, "scrub %s" % words)
    before = image.path.read_bytes()
    properties = "logical_block_size=%d,physical_block_size=%d" % (block_bytes, block_bytes)
    run = boot("scrub %d %d %s; poweroff" % (seed, count, words),
               disk(image, properties=properties), **how).left(0)
    run.has(DONE % (count, seed))
    assert image.path.read_bytes() == apply(Extents(seed, sectors, block_bytes), count, before)
    return run


def test_extents__are_those_of_the_kernel(_folder):
    """The same numbers stand in tests/unit/kernel/test_extents.c."""
    extents = Extents(1, 4096)
    assert extents.get(2) == (3155, 38, PLAIN)
    words = extents.content(5, PLAIN, 77)
    assert [int.from_bytes(words[i:i + 8], "little") for i in (0, 8, 16)] \
        == [77, 5, 0x53a9db22e6423e37]


def test_differences__sees_each_kind_of_fault(_folder):
    before = os.urandom(64 * SECTOR)
    extents = Extents(3, 64)
    written = Written(extents, 4)
    good = apply(extents, 4, before)
    assert differences(written, before, good) == []
    inside = max(written.last)
    outside = min(set(range(64)) - set(written.last))
    for sector in (inside, outside):
        bad = bytearray(good)
        bad[sector * SECTOR + 300] ^= 1
        assert differences(written, before, bytes(bad)) == [sector]
    # A write that failed may have happened or not, but nothing else.
    number = written.last[inside][-1]
    lenient = Written(extents, number + 1, failed=[number])
    assert inside not in differences(lenient, before, good)
    assert inside not in differences(lenient, before, before)
    assert inside in differences(lenient, before, bytes(len(before)))


def test_scrub__whole_image(folder):
    for seed, words in ((1, ""), (2, "1"), (3, "64 50"), (4, "16 3"), (0, "2 1 poll")):
        scrubbed(folder, words, seed, COUNT)


def test_scrub__blocks_of_4096_bytes(folder):
    scrubbed(folder, "", 5, COUNT, block_bytes=4096)


def test_scrub__large_numbers(folder):
    scrubbed(folder, "", (1 << 64) - 1, 3000, sectors=65536)


def test_scrub__disks_of_few_sectors(folder):
    for sectors in (1, 2, 9):
        scrubbed(folder, "8", sectors, 30, sectors=sectors)


def test_scrub__few_segments(folder):
    scrubbed(folder, "", 6, COUNT, options="segments=1")
    scrubbed(folder, "", 6, COUNT, options="segments=3 indirect=off")


def test_scrub__flushes_as_often_as_it_says(folder):
    run = scrubbed(folder, "16 64", 7, COUNT)
    for durable in (64, 128, 192, COUNT):
        run.has(r"^scrub: %d extents are durable$" % durable)


def test_scrub__read_only_disk_is_only_read(folder):
    image = Image(folder, SECTORS * SECTOR, "read-only")
    content = apply(Extents(8, SECTORS), COUNT, image.path.read_bytes())
    image.path.write_bytes(content)
    run = boot("scrub 8 %d; stats; poweroff" % COUNT, disk(image, **{"read-only": True})).left(0)
    run.has(r"the disk is read-only: it is read and compared only")
    run.has(r"^scrub: %d extents read as seed 8 writes them" % COUNT)
    run.has(r"bytes written +0$")
    assert image.path.read_bytes() == content


def harts_scrub(folder, harts, queues, words, read=False, **how):
    image = Image(folder, SECTORS * SECTOR, "%d harts" % harts)
    expected = image.path.read_bytes()
    for extents in parts(11, harts, SECTORS):
        expected = apply(extents, COUNT, expected)
    if read:
        image.path.write_bytes(expected)
    run = boot("scrub 11 %d %s harts=%d; poweroff" % (COUNT, words, harts),
               disk(image, properties="num-queues=%d" % queues), smp=harts, **how).left(0)
    run.has(r"seed 11\b.*, queues %d, harts %d, recoveries 0$" % (queues, harts))
    for queue in range(queues):
        run.has(r"^scrub: hart %d: queue %d: [1-9]" % (queue % harts, queue))
    assert image.path.read_bytes() == expected


def test_scrub__several_harts_each_with_queues_of_its_own(folder):
    harts_scrub(folder, 2, 2, "")
    harts_scrub(folder, 4, 4, "8 20")
    harts_scrub(folder, 4, 4, "8 20 poll", options="irq=off")
    harts_scrub(folder, 2, 4, "read", read=True, options="queues=4")


def test_scrub__more_harts_than_queues_is_refused(folder):
    image = Image(folder, SECTORS * SECTOR, "refused")
    before = image.sha256()
    run = boot("scrub 1 1 harts=2; scrub 1 1 harts=9; poweroff",
               disk(image, properties="num-queues=1"), smp=2).left(1)
    run.has(r"^scrub: harts=2, but 2 run and the disk has 1 queues$")
    run.has(r"^scrub: 9 is not within 1 and 8$")
    assert image.sha256() == before


def last_plain(written):
    """A sector that a plain extent wrote last, and the extent."""
    return next((sector, numbers[-1]) for sector, numbers in sorted(written.last.items())
                if written.kinds[numbers[-1]] == PLAIN)


def test_scrub__names_a_sector_that_changed(folder):
    image = Image(folder, SECTORS * SECTOR, "changed")
    extents = Extents(9, SECTORS)
    sector, number = last_plain(Written(extents, COUNT))
    content = bytearray(apply(extents, COUNT, image.path.read_bytes()))
    content[sector * SECTOR + 511] ^= 0x10
    image.path.write_bytes(content)
    run = boot("scrub 9 %d read; poweroff" % COUNT, disk(image)).left(1)
    run.has(r"^scrub: sector %d is not as extent %d wrote it \(queue 0\); look with: read %d$"
            % (sector, number, sector))
    run.has(r"^scrub: 1 failures; of %d extents 0 are durable and %d read back" % (COUNT, COUNT - 1))


def test_scrub__says_where_misplaced_content_belongs(folder):
    image = Image(folder, SECTORS * SECTOR, "misplaced")
    extents = Extents(10, SECTORS)
    sector, number = last_plain(Written(extents, COUNT))
    content = bytearray(apply(extents, COUNT, image.path.read_bytes()))
    content[sector * SECTOR:(sector + 1) * SECTOR] = extents.content(3, PLAIN, 4000)
    image.path.write_bytes(content)
    run = boot("scrub 10 %d read; poweroff" % COUNT, disk(image)).left(1)
    run.has(r"^scrub: sector %d is not as extent %d wrote it .*: "
            r"it holds what extent 3 wrote to sector 4000;" % (sector, number))


def test_scrub__wrong_words(folder):
    image = Image(folder, SECTORS * SECTOR, "words")
    before = image.sha256()
    run = boot("scrub; scrub 1; scrub 1 2 3 4 5; scrub x 1; scrub 1 0; scrub 1 65537; "
               "scrub 1 1 65; scrub 1 1 sideways; poweroff", disk(image)).left(1)
    assert run.text.count("usage: scrub SEED COUNT") == 8, run.text
    assert image.sha256() == before


main(globals())
