#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Broken device trees: a clear line and an end, never a fault and never silence.

Neither QEMU nor the firmware would hand such a tree on, so it is broken in memory when the firmware
jumps to the kernel.
"""
import os
import random
import re
import struct

from gdb import boot_with_tree
from machine import Image, disk, main

MAGIC = 0xd00dfeed


def header(tree, **words):
    """The tree with other words in its header."""
    names = ["magic", "totalsize", "off_dt_struct", "off_dt_strings", "off_mem_rsvmap", "version",
             "last_comp_version", "boot_cpuid_phys", "size_dt_strings", "size_dt_struct"]
    values = list(struct.unpack(">10I", tree[:40]))
    for name, value in words.items():
        values[names.index(name)] = value
    return struct.pack(">10I", *values) + tree[40:]


def offsets(tree):
    """(start, size) of the structure block."""
    words = struct.unpack(">10I", tree[:40])
    return words[2], words[9]


def node_range(tree, name):
    """(start, end) in the tree of the node whose name begins so, up to its last token."""
    begin, end, prop = 1, 2, 3
    at, size = offsets(tree)
    depth = start = None
    level = 0
    until = at + size
    while at < until:
        token = struct.unpack(">I", tree[at:at + 4])[0]
        here, at = at, at + 4
        if token == begin:
            label = tree[at:tree.index(b"\0", at)]
            at += (len(label) + 4) & ~3
            if label.startswith(name) and start is None:
                start, depth = here, level
            level += 1
        elif token == end:
            level -= 1
            if start is not None and level == depth:
                return start, at
        elif token == prop:
            at += 8 + ((struct.unpack(">I", tree[at:at + 4])[0] + 3) & ~3)
    raise AssertionError("the tree has no node %r" % name)


def refused(run):
    run.left(1)
    run.has(r"device tree")
    run.has_not(r"^sha256 ")
    run.has_not(r"fault|trap|panic|scause")


def test_tree__unharmed_boots(folder):
    """Proves that the others fail for their damage, not for the way they are booted."""
    image = Image(folder, 512 * 7, "unharmed")
    run = boot_with_tree(folder, lambda tree: tree, arguments=disk(image)).left(0)
    assert run.sha256() == (image.sha256(), image.size)


def test_tree__without_magic(folder):
    refused(boot_with_tree(folder, lambda tree: header(tree, magic=MAGIC + 1)))


def test_tree__all_zero(folder):
    refused(boot_with_tree(folder, lambda tree: bytes(len(tree))))


def test_tree__claims_four_gibibytes(folder):
    refused(boot_with_tree(folder, lambda tree: header(tree, totalsize=0xffffffff)))


def test_tree__claims_nothing(folder):
    refused(boot_with_tree(folder, lambda tree: header(tree, totalsize=0)))


def test_tree__cut_in_the_middle(folder):
    refused(boot_with_tree(folder, lambda tree: header(tree, totalsize=len(tree) // 2)))


def test_tree__blocks_outside(folder):
    for word in ("off_dt_struct", "off_dt_strings", "off_mem_rsvmap", "size_dt_struct",
                 "size_dt_strings"):
        refused(boot_with_tree(folder, lambda tree: header(tree, **{word: 0xfffffff0})))


def test_tree__structure_without_an_end(folder):
    def change(tree):
        start, size = offsets(tree)
        return tree[:start] + bytes([0, 0, 0, 1] * (size // 4)) + tree[start + size // 4 * 4:]

    refused(boot_with_tree(folder, change))


def test_tree__without_memory(folder):
    refused(boot_with_tree(folder, lambda tree: tree.replace(b"device_type\0", b"device_tipe\0")))


def test_tree__without_interrupt_controller_is_polled(folder):
    image = Image(folder, 512 * 7, "polled")
    run = boot_with_tree(folder, lambda tree: tree.replace(b"riscv,plic0", b"riscv,plic9")
                         .replace(b"sifive,plic", b"sifive,plyc"), arguments=disk(image))
    assert run.sha256() == (image.sha256(), image.size)


def test_tree__disk_slots_without_registers(folder):
    """Only the disks are gone, and that is what the kernel says."""
    def change(tree):
        at = tree.index(b"virtio_mmio@")
        return tree[:at] + re.sub(rb"virtio,mmio", b"virtio,mmjo", tree[at:])

    image = Image(folder, 512 * 7, "slots")
    run = boot_with_tree(folder, change, arguments=disk(image)).left(1)
    run.has(r"no disk")


def test_tree__random_damage_ends(folder):
    """Whatever the bytes say, the kernel comes to an end or to its shell, without a fault.

    Spared are the nodes that say which memory there is and which is the firmware's, since a kernel
    cannot know better than they do, and the one with the command line, whose poweroff we need.
    """
    seeds = int(os.environ.get("SKIO_TREE_SEEDS", "40"))
    image = Image(folder, 512 * 7, "random damage")
    for seed in range(seeds):
        dice = random.Random(seed)

        def change(tree):
            start, size = offsets(tree)
            spared = [node_range(tree, name)
                      for name in (b"memory@", b"reserved-memory", b"chosen")]
            damaged = bytearray(tree)
            for _ in range(dice.choice((1, 4, 32))):
                at = start + dice.randrange(size)
                if not any(first <= at < last for first, last in spared):
                    damaged[at] = dice.randrange(256)
            return bytes(damaged)

        run = boot_with_tree(folder, change, "devices; poweroff", disk(image))
        if run.status not in (0, 1) or re.search(r"scause|panic", run.text):
            run.fail("seed %d: neither a clean end nor a refusal" % seed)


main(globals())
