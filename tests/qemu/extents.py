# SPDX-License-Identifier: MIT
"""The extents that the kernel's `scrub` writes, and the image that they leave.

The same arithmetic as kernel/lib/extents.c: from one seed both sides know every extent and every
byte, so the host compares whole images without having been told what was written.
"""
import re

MASK = (1 << 64) - 1
SECTOR = 512
WORDS = SECTOR // 8
BYTES = 65536
PLAIN, DURABLE, ZEROES = range(3)


def mix(value):
    value = (value + 0x9e3779b97f4a7c15) & MASK
    value = (value ^ value >> 30) * 0xbf58476d1ce4e5b9 & MASK
    value = (value ^ value >> 27) * 0x94d049bb133111eb & MASK
    return value ^ value >> 31


# Word i of a sector is a base of its own, exclusive-or mix(i): one product for all of them.
EACH = sum(1 << 64 * i for i in range(2, WORDS))
TABLE = sum(mix(i) << 64 * i for i in range(2, WORDS))


class Extents:
    """Those of a seed in a part of a disk; `capacity` and the part's ends in sectors."""

    def __init__(self, seed, capacity, block_bytes=SECTOR, part=(0, 1)):
        self.seed = mix(seed)
        self.block = block_bytes // SECTOR
        blocks = capacity // self.block
        which, parts = part
        self.first = blocks // parts * which
        self.blocks = blocks // parts

    def random(self, number, which):
        return mix(self.seed ^ (number * 16 + which & MASK))

    def get(self, number):
        """(sector, sectors, kind)"""
        random = self.random(number, 0)
        limit = min(BYTES // SECTOR // self.block, self.blocks) >> random % 4
        blocks = 1 if limit == 0 else 1 + random // 4 % limit
        places = self.blocks - blocks + 1
        place = self.random(number, 1) % places
        if number < 2:
            place = places - 1 if number == 0 else 0
        kind = {0: DURABLE, 1: ZEROES}.get(self.random(number, 2) % 16, PLAIN)
        return (self.first + place) * self.block, blocks * self.block, kind

    def content(self, number, kind, sector):
        if kind == ZEROES:
            return bytes(SECTOR)
        base = mix(self.seed ^ mix(number) ^ sector)
        return (base * EACH ^ TABLE | number << 64 | sector).to_bytes(SECTOR, "little")


class Written:
    """What the sectors hold after extents [0, count) were written in their order."""

    def __init__(self, extents, count, failed=()):
        """`failed`: the numbers of those that may have been written, or in part, or not."""
        self.extents = extents
        self.kinds = {}
        self.last = {}      # sector: the numbers of those that wrote it, the last one last
        failed = set(failed)
        for number in range(count):
            sector, sectors, kind = extents.get(number)
            self.kinds[number] = kind
            for each in range(sector, sector + sectors):
                # What a failed write left is not known: it, or what was there before.
                if number in failed:
                    self.last.setdefault(each, [None]).append(number)
                else:
                    self.last[each] = [number]

    def may_hold(self, sector, old, new):
        """True if `new` is right for the sector; `old` is what it held at first."""
        numbers = self.last.get(sector)
        if numbers is None:
            return new == old
        if not any(new):
            return any(number is not None and self.kinds[number] == ZEROES for number in numbers) \
                or (None in numbers and not any(old))
        number = int.from_bytes(new[8:16], "little")
        if number in numbers and self.kinds[number] != ZEROES:
            return new == self.extents.content(number, self.kinds[number], sector)
        return None in numbers and new == old


class Together:
    """Several `Written` in parts of the disk that do not overlap."""

    def __init__(self, *all_written):
        self.last = {sector: written for written in all_written for sector in written.last}

    def may_hold(self, sector, old, new):
        written = self.last.get(sector)
        return new == old if written is None else written.may_hold(sector, old, new)


def differences(written, before, after):
    """The sectors of image `after` that hold what they must not; `before` is the image at first."""
    assert len(before) == len(after), "the image has %d bytes, it had %d" % (len(after), len(before))
    return [at // SECTOR for at in range(0, len(before), SECTOR)
            if not written.may_hold(at // SECTOR, before[at:at + SECTOR], after[at:at + SECTOR])]


def parts(seed, harts, capacity, block_bytes=SECTOR):
    """Those of each hart: a part of the disk and a seed of its own."""
    return [Extents(seed + hart, capacity, block_bytes, (hart, harts)) for hart in range(harts)]


def apply(extents, count, before):
    """The image `before` with extents [0, count) written to it."""
    image = bytearray(before)
    written = Written(extents, count)
    for sector, numbers in written.last.items():
        number = numbers[-1]
        image[sector * SECTOR:(sector + 1) * SECTOR] = \
            extents.content(number, written.kinds[number], sector)
    return bytes(image)


def durable_of(text, name="scrub"):
    """How many extents the console of a `scrub` called durable at last."""
    return max(map(int, re.findall(r"^%s: (\d+) extents are durable\r?$" % name, text, re.M)),
               default=0)


def failed_of(text, name="scrub"):
    """The numbers of the extents whose write the console of a `scrub` called failed."""
    return set(map(int, re.findall(r"^%s: write of extent (\d+), " % name, text, re.M)))
