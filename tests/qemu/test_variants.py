#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The same disk behind devices and settings that differ: other queues, limits, features, CPUs."""
import hashlib
import subprocess

from machine import QEMU, TRANSPORT, Image, Skip, boot, disk, main

SIZE = 1024 * 1024 + 512 * 3


def works(folder, properties="", options="", size=SIZE, **how):
    """Reads everything, writes a part, reads everything again."""
    image = Image(folder, size, "variant %s %s" % (properties, options))
    before = image.sha256()
    run = boot("disk; hash; verify 16 256; hash; poweroff", disk(image, properties=properties),
               options=options, **how).left(0)
    assert run.sha256(0) == (before, size)
    assert run.sha256(1) == (image.sha256(), size)
    return run


def test_queue__of_every_size(folder):
    for entries in (4, 16, 256, 1024):
        works(folder, "queue-size=%d" % entries)


def test_queue__wanted_sizes(folder):
    for entries in (4, 8, 128, 1024):
        works(folder, options="queue=%d" % entries)


def test_queue__several_offered(folder):
    works(folder, "num-queues=4", smp=4)


def test_segments__many_few_and_one(folder):
    for options in ("segments=1", "segments=3", "segments=254"):
        works(folder, options=options)


def test_segments__device_does_not_adjust_its_limit(folder):
    works(folder, "seg-max-adjust=off,queue-size=64")


def test_features__indirect_and_event_index(folder):
    for options in ("indirect=off", "event=off", "indirect=off event=off", "irq=off order=off"):
        works(folder, options=options)


def test_features__not_offered(folder):
    works(folder, "indirect_desc=off,event_idx=off,config-wce=off,discard=off,write-zeroes=off")


def test_features__more_offered_than_we_know(folder):
    works(folder, "any_layout=off")


def test_packed__with_and_without_tables_events_and_interrupts(folder):
    if TRANSPORT != "mmio":
        return works(folder)  # a legacy device offers none of it
    for properties in ("", ",indirect_desc=off", ",event_idx=off", ",queue-size=4"):
        for options in ("", "irq=off"):
            run = works(folder, "packed=on" + properties, options)
            assert "RING_PACKED" in run.features()
    run = works(folder, "packed=on", "packed=off")
    assert "RING_PACKED" not in run.features()


def test_in_order__where_qemu_offers_it(folder):
    """QEMU from 9.1 on."""
    properties = subprocess.run([QEMU, "-device", "virtio-blk-device,help"], check=False,
                                stdout=subprocess.PIPE).stdout.decode()
    if TRANSPORT != "mmio":
        return
    if "in_order=" not in properties:
        raise Skip("a QEMU that offers IN_ORDER")
    for ring in ("", ",packed=on"):
        for options in ("", "irq=off"):
            assert "IN_ORDER" in works(folder, "in_order=on" + ring, options).features()
        assert "IN_ORDER" not in works(folder, "in_order=on" + ring, "order=off").features()


def test_features__addresses_of_the_platform(folder):
    if TRANSPORT == "mmio":
        works(folder, "iommu_platform=on").has(r"ACCESS_PLATFORM")


def test_blocks__of_4096_bytes(folder):
    run = works(folder, "logical_block_size=4096,physical_block_size=4096", size=64 * 4096)
    run.has(r"4096 bytes")


def test_blocks__a_disk_that_is_no_multiple_of_them(folder):
    image = Image(folder, 4096 * 4 + 512, "odd end")
    run = boot("disk; hash 0 32; poweroff",
               disk(image, properties="logical_block_size=4096,physical_block_size=4096")).left(0)
    assert run.sha256() == (hashlib.sha256(image.read(0, 32)).hexdigest(), 32 * 512)


def test_cache__write_through(folder):
    works(folder, "write-cache=off").has(r"write-through|write-back")


def test_harts__whichever_boots(folder):
    for harts in (2, 4):
        works(folder, smp=harts)


def test_memory__small_and_large(folder):
    works(folder, memory="64M")
    works(folder, memory="3G")


def test_disks__two_of_them(folder):
    first = Image(folder, 512 * 21, "first", "first.img")
    second = Image(folder, 512 * 33, "second", "second.img")
    run = boot("devices; hash; poweroff", disk(first, 0) + disk(second, 1)).left(0)
    assert run.sha256() in ((first.sha256(), first.size), (second.sha256(), second.size))


def test_disk__says_what_it_is(folder):
    run = works(folder)
    run.has(r"disk0")
    run.has(r"\b%d sectors" % (SIZE // 512))
    run.has(r"mmio-legacy" if TRANSPORT == "mmio-legacy" else r"mmio")
    assert ("VERSION_1" in run.features()) == (TRANSPORT == "mmio")


main(globals())
