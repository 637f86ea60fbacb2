#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The order of stores and loads between driver and device, under ThreadSanitizer.

    races.py [COMPILER]    builds test_hostile_threads with it (gcc if none is named) and runs it:
                           as it is, and in copies that lack an order

x86 hides a missing order from every test that only looks at results; ThreadSanitizer goes by the
language's rules instead.  It does not know fences: what the full barrier keeps, it cannot see.
"""
import pathlib
import platform
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
COMPILER = sys.argv[1] if len(sys.argv) > 1 else "gcc"
SKIPPED = 77


def run(tree):
    """Whether the test, built with ThreadSanitizer, passes; and what it says."""
    program = tree / "threads"
    sources = [tree / "tests/unit/block/test_hostile_threads.c", *sorted(tree.glob("tests/fake/*.c")),
               *sorted(tree.glob("tests/support/*.c")), *sorted(tree.glob("src/*/*.c"))]
    flags = ["-std=gnu11", "-O1", "-g", "-fsanitize=thread", "-Wno-tsan"]
    flags += ["-I%s" % (tree / folder) for folder in ("include", "src", "tests")]
    subprocess.run([COMPILER, *flags, *sources, "-lcmocka", "-lpthread", "-o", program], check=True)
    result = subprocess.run([program], text=True, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, timeout=120)
    return result.returncode == 0, result.stdout


def run_changed(function="", old="", new=""):
    """The same in a copy, with a word of a function of the door changed if one is named."""
    with tempfile.TemporaryDirectory(prefix="races-") as folder:
        tree = pathlib.Path(folder)
        for name in ("include", "src", "tests", "arch"):
            shutil.copytree(ROOT / name, tree / name)
        if function:
            door = tree / "src/base/door.h"
            text = door.read_text()
            changed = re.sub(r"\b%s\(.*?^\}" % function,
                             lambda body: body.group(0).replace(old, new), text, count=1,
                             flags=re.M | re.S)
            if changed == text:
                return True, "src/base/door.h: %s has no %s" % (function, old)
            door.write_text(changed)
        return run(tree)


def is_seen(function, old):
    """Nothing if the race is found that opens when a function orders nothing."""
    _, said = run_changed(function, old, "__ATOMIC_RELAXED")
    return [] if "data race" in said else [said]


def test_hostile_32__no_race_with_a_device_in_another_thread():
    good, said = run_changed()
    return [] if good and "data race" not in said else [said]


def test_hostile_32__a_publish_that_releases_nothing_is_seen():
    x86 = platform.machine() == "x86_64"
    return is_seen("ski_door_publish16", "__ATOMIC_SEQ_CST" if x86 else "__ATOMIC_RELEASE")


def test_hostile_32__a_used_index_that_acquires_nothing_is_seen():
    return is_seen("ski_door_load16_acquire", "__ATOMIC_ACQUIRE")


def main():
    if shutil.which(COMPILER) is None:
        print("skip: needs %s" % COMPILER)
        return SKIPPED
    bad = 0
    for name, test in sorted(globals().items()):
        if name.startswith("test_"):
            problems = test()
            print("%s %s" % ("not ok" if problems else "ok", name), *problems, sep="\n    ")
            bad += len(problems)
    return 1 if bad else 0


sys.exit(main())
