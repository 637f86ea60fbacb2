#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What the kernel promises by itself: faults are reported, registers are where devices are."""
import re
import subprocess

from machine import QEMU, Image, boot, disk, main, type_in
from qmp import Guest

FAULT = 2  # the exit status
REGISTERS = ("ra sp gp tp t0 t1 t2 s0 s1 a0 a1 a2 a3 a4 a5 a6 a7 s2 s3 s4 s5 s6 s7 s8 s9 s10 s11 "
             "t3 t4 t5 t6").split()
DISK = 0x10008000  # where QEMU puts the first one


def fault(kind, cause):
    run = boot("crash %s; poweroff" % kind).left(FAULT)
    run.has(r"^fault: %s \(scause \d+\)" % cause)
    run.has(r"^sepc +0xffffffc0802[0-9a-f]{5} +stval +0x[0-9a-f]{16} +sstatus +0x")
    for register in REGISTERS:
        run.has(r"\b%s +0x[0-9a-f]{16}" % register)
    run.has(r"^backtrace 0xffffffc0")
    return run


def test_fault__read_from_nowhere(_folder):
    fault("read", "load page fault").has(r"stval +0x0000000000000008")


def test_fault__text_cannot_be_written(_folder):
    fault("write", "store page fault").has(r"stval +0xffffffc0802")


def test_fault__data_cannot_be_executed(_folder):
    fault("exec", "instruction page fault")


def test_fault__full_stack_is_named(_folder):
    fault("stack", "store page fault").has(r"the stack is full")


def boot_with_disk_at(folder, base, commands):
    """Boots with a device tree in which the disk's registers are elsewhere."""
    tree = folder / "tree"
    image = Image(folder, 512 * 7, "elsewhere")
    subprocess.run([QEMU, "-machine", "virt,dumpdtb=%s" % tree, "-m", "256M", "-nographic"],
                   check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL)
    data = tree.read_bytes()
    assert data.count(DISK.to_bytes(8, "big")) == 1
    tree.write_bytes(data.replace(DISK.to_bytes(8, "big"), base.to_bytes(8, "big")))
    return boot(commands, disk(image) + ["-dtb", str(tree)])


def test_registers__in_memory_are_refused(folder):
    for base in (0x80000000, 0x80200000, 0x88000000, 0x8fffffff, 0x7ffff001):
        run = boot_with_disk_at(folder, base, "devices; hash; poweroff").left(1)
        run.has(r"registers at 0x%x, 0x1000 bytes: not mapped: that is memory" % base)
        run.has(r"^virtio_mmio@10008000 .* failed")
        run.has(r"^no disk: the one at 0x%x" % base)


def test_registers__beyond_all_addresses_are_refused(folder):
    run = boot_with_disk_at(folder, (1 << 64) - 0x1000, "devices; hash; poweroff").left(1)
    run.has(r"no disk")


def test_registers__that_nobody_answers(folder):
    for base in (0x40000000, 0x10009000, 1 << 40, (1 << 56) - 0x1000):
        run = boot_with_disk_at(folder, base, "devices; hash; poweroff").left(1)
        run.has(r"^virtio_mmio@10008000 .* failed")
        run.has_not(r"scause")


def test_console__without_interrupts(folder):
    image = Image(folder, 512 * 7, "polled")
    run = type_in([b"hash\r", b"bench 512 2 1 irq\r", b"poweroff 3\r"], disk(image),
                  options="irq=off").left(3)
    assert run.sha256() == (image.sha256(), image.size)
    run.has(r"IOPS")


def test_console__history_and_break(folder):
    image = Image(folder, 512 * 7, "history")
    run = type_in([b"hash\r", b"nonsense\x03\x1b[A\r", b"\x1b[A\x1b[A\x1b[B\x17poweroff 9\r"],
                  disk(image)).left(9)
    assert run.sha256(1) == (image.sha256(), image.size)
    run.has_not(r"no such command")


def test_banner__says_when_the_first_sector_came(folder):
    image = Image(folder, 512 * 7, "banner")
    run = boot("poweroff", disk(image)).left(0)
    run.has(r"^SimpleKernel \d+\.\d+\.\d+ on riscv64, .*, hart \d+, 256 MiB of memory$")
    run.has(r"^first sector after \d+ ms$")


def test_change__of_the_disk_is_told(folder):
    """At the prompt nobody looks at the disk; the next line does."""
    image = Image(folder, 512 * 64, "change")
    with Guest("disk", disk(image)) as guest:
        guest.wait(r"capacity +64 sectors")
        guest.qmp("block_resize", **{"node-name": "disk0", "size": 512 * 96})
        guest.type("uptime")
        guest.wait(r"warning: virtio_mmio@10008000: has 96 sectors now\r?\n[\d.]+ s")
        guest.type("poweroff")
        assert len(re.findall("sectors now", guest.leave().left(0).text)) == 1


def test_status__first_failure_counts(folder):
    image = Image(folder, 512 * 7, "status")
    boot("hash; nonsense; hash; poweroff", disk(image)).left(1)
    boot("nonsense; poweroff 0", disk(image)).left(0)
    boot("poweroff 256; poweroff 77", disk(image)).left(77)


main(globals())
