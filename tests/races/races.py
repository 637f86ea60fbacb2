#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What threads and devices may do to each other, under ThreadSanitizer.

    races.py WHAT [COMPILER]    builds tests with it (gcc if none is named) and runs them: as they
                                are, and in copies that lack an order.  WHAT: "driver", whose
                                devices are threads, or "hosted": front end and back end over
                                vhost-user, in one process

x86 hides a missing order from every test that only looks at results; ThreadSanitizer goes by the
language's rules instead.  It does not know fences: what the full barrier keeps, it cannot see.
Copies whose fault is no missing order, but one of two threads, fail by what the tests look at.
"""
import concurrent.futures
import os
import pathlib
import platform
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
WHAT = sys.argv[1]
COMPILER = sys.argv[2] if len(sys.argv) > 2 else "gcc"
SKIPPED = 77
X86 = platform.machine() == "x86_64"
FLAGS = ["-std=gnu11", "-O1", "-g1", "-fsanitize=thread", "-Iinclude", "-Isrc", "-Itests",
         "-Ihosted/include", "-Ihosted/src", "-D_GNU_SOURCE", "-MMD"]
FLAGS += [] if "clang" in COMPILER else ["-Wno-tsan"]

HOSTILE = "tests/unit/block/test_hostile_threads.c"
THREADS = "tests/unit/block/test_virtio_blk_threads.c"
STOP = "tests/unit/block/test_virtio_blk_threads_stop.c"
HOSTED = "tests/hosted/test_backend_threads.c"
RESUME = "tests/hosted/test_vhost_user_resume.c"
COMMON = {"driver": ("src/*/*.c", "tests/fake/*.c", "tests/support/*.c"),
          "hosted": ("src/*/*.c", "hosted/src/*.c", "tests/hosted/descriptors.c",
                     "tests/hosted/fake_backend.c")}
PROGRAMS = {"driver": (HOSTILE, THREADS, STOP), "hosted": (HOSTED, RESUME)}
DOOR = "src/base/door.h"
SPLIT = "src/virtio/ring_split.h"
PACKED = "src/virtio/ring_packed.h"
BLOCK = "src/block/"

RACE, WRONG = "data race", ""
TRIES = 50  # which of two threads comes first is chance; each run has thousands of chances


def compile_one(tree, source, folder):
    target = folder / (source.replace("/", "_") + ".o")
    subprocess.run([COMPILER, *FLAGS, "-c", source, "-o", str(target)], cwd=tree, check=True)
    return source, target


class Build:
    """The tests' objects, and which files each was made of."""

    def __init__(self, folder):
        self.folder = folder
        self.pool = concurrent.futures.ThreadPoolExecutor(os.cpu_count())
        self.programs = PROGRAMS[WHAT]
        sources = list(self.programs)
        for pattern in COMMON[WHAT]:
            sources += [str(path.relative_to(ROOT)) for path in sorted(ROOT.glob(pattern))]
        self.objects = self.compile(ROOT, sources, folder)
        self.made_of = {source: set(target.with_suffix(".d").read_text().split())
                        for source, target in self.objects.items()}

    def compile(self, tree, sources, folder):
        folder.mkdir(exist_ok=True)
        return dict(self.pool.map(lambda source: compile_one(tree, source, folder), sources))

    def link(self, program, objects, folder):
        target = folder / pathlib.Path(program).stem
        parts = [path for source, path in objects.items()
                 if source == program or source not in self.programs]
        subprocess.run([COMPILER, "-fsanitize=thread", *parts, "-lcmocka", "-lpthread", "-o",
                        str(target)], check=True)
        return target

    def changed(self, program, changes, folder):
        """The program with changes; None: the sources have nothing to change."""
        tree = folder / "tree"
        for name in ("include", "src", "tests", "arch", "hosted"):
            shutil.copytree(ROOT / name, tree / name)
        for file, function, old, new in changes:
            text = (tree / file).read_text()
            body = re.search(r"^[^\n;]*\b%s\([^;{]*\{.*?^\}" % function, text, flags=re.M | re.S)
            if body is None or old not in body.group(0):
                return None
            (tree / file).write_text(text.replace(body.group(0), body.group(0).replace(old, new)))
        files = {file for file, *_ in changes}
        stale = [source for source, parts in self.made_of.items()
                 if any(part.endswith(file) for part in parts for file in files) and
                 (source == program or source not in self.programs)]
        return self.link(program, {**self.objects, **self.compile(tree, stale, folder)}, folder)


def run(program, *words, **environment):
    """Whether it passes, and what it says."""
    options = {"TSAN_OPTIONS": "halt_on_error=1", **environment}
    result = subprocess.run([program, *words], text=True, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, timeout=1500, env={**os.environ, **options})
    return result.returncode == 0, result.stdout


def clean(build, program):
    good, said = run(build.link(program, build.objects, build.folder))
    return [] if good and RACE not in said else [said]


def planted(build, program, test, expected, *changes):
    """Nothing if the tests find changes: (file, function, old, new), each `old` in it is `new`."""
    folder = pathlib.Path(tempfile.mkdtemp(dir=build.folder))
    target = build.changed(program, changes, folder)
    if target is None:
        return ["%s: there is no such text any more" % (changes,)]
    for _ in range(TRIES):
        good, said = run(target, test, TEST_PATIENCE_MS="500")
        if not good and expected in said and "[ RUN " in said:
            return []
    return ["it was not found: %s" % said[-2000:]]


def test_hostile_32__no_race_with_a_device_in_another_thread(build):
    return clean(build, HOSTILE)


def test_threads__no_race_between_owners_device_and_interrupts(build):
    return clean(build, THREADS)


def test_threads__no_race_when_a_device_is_stopped(build):
    return clean(build, STOP)


def test_hostile_32__a_publish_that_releases_nothing_is_seen(build):
    order = "__ATOMIC_SEQ_CST" if X86 else "__ATOMIC_RELEASE"
    return planted(build, THREADS, "*polling", RACE,
                   (DOOR, "ski_door_publish16", order, "__ATOMIC_RELAXED"))


def test_hostile_32__a_packed_publish_that_releases_nothing_is_seen(build):
    function = "ski_door_publish64" if X86 else "ski_door_store64_release"
    order = "__ATOMIC_SEQ_CST" if X86 else "__ATOMIC_RELEASE"
    return planted(build, THREADS, "*polling", RACE, (DOOR, function, order, "__ATOMIC_RELAXED"))


def test_hostile_32__a_used_index_that_acquires_nothing_is_seen(build):
    return planted(build, THREADS, "*polling", RACE,
                   (SPLIT, "ski_ring_split_pending", "load16_acquire", "load16"))


def test_hostile_32__used_flags_that_acquire_nothing_are_seen(build):
    return planted(build, THREADS, "*polling", RACE,
                   (PACKED, "ski_ring_packed_is_used", "load16_acquire", "load16"))


def test_threads__a_wait_that_does_not_look_again_is_seen(build):
    return planted(build, THREADS, "*waiting", WRONG,
                   (SPLIT, "ski_ring_split_interrupts_on", "return ski_ring_split_has_used(ring)",
                    "return false"))


def test_threads__a_packed_wait_that_does_not_look_again_is_seen(build):
    return planted(build, THREADS, "*waiting", WRONG,
                   (PACKED, "ski_ring_packed_interrupts_on",
                    "return ski_ring_packed_is_used(ring)", "return false"))


def test_threads__an_interrupt_that_wakes_one_owner_alone_is_seen(build):
    return planted(build, THREADS, "*two_owners", WRONG,
                   (BLOCK + "virtio_blk_interrupt.c", "ski_blk_interrupt",
                    "i < blk->queue_count", "i < 1"))


def test_threads__an_info_copied_while_it_changes_is_seen(build):
    return planted(build, THREADS, "*configuration_changes", WRONG,
                   (BLOCK + "block_watch.c", "sk_block_get_info", "(before & 1) == 0 &&", "true ||"),
                   (BLOCK + "block_watch.c", "ski_block_change_info", "!= word) {",
                    "!= word) { extern int usleep(unsigned); usleep(200);"))


def test_threads__a_property_read_while_it_changes_is_seen(build):
    return planted(build, THREADS, "*configuration_changes", RACE,
                   (BLOCK + "block_property.c", "sk_block_get_property", "fill(device, &info,",
                    "fill(device, &device->info,"))


def test_threads__two_that_control_at_a_time_are_seen(build):
    return planted(build, THREADS, "*configuration_changes", WRONG,
                   (BLOCK + "virtio_blk_recover.c", "ski_blk_try_control", "return ",
                    "return true || "))


def test_threads__a_state_that_acquires_nothing_is_seen(build):
    acquire, relaxed = "memory_order_acquire", "memory_order_relaxed"
    return planted(build, STOP, "*while_others_poll", RACE,
                   (BLOCK + "virtio_blk_rest.c", "ski_blk_poll_status", acquire, relaxed),
                   (BLOCK + "virtio_blk_slot.h", "ski_blk_is_ready", acquire, relaxed),
                   (BLOCK + "virtio_blk_queue.c", "state_of", acquire, relaxed))


def test_threads__a_reset_that_is_not_waited_for_is_seen(build):
    return planted(build, STOP, "*while_others_work", WRONG,
                   ("src/virtio/device.c", "ski_virtio_device_reset", "|| value == 0",
                    "|| value < UINT32_MAX"))


def test_threads__a_stop_that_wakes_nobody_is_seen(build):
    return planted(build, STOP, "*while_others_work", WRONG,
                   (BLOCK + "virtio_blk_interrupt.c", "ski_blk_wake_all", "i < blk->queue_count",
                    "i < 0 * blk->queue_count"))


def test_threads__a_queue_reset_that_is_not_done_is_seen(build):
    return planted(build, STOP, "*while_another_works", WRONG,
                   (BLOCK + "virtio_blk_reset.c", "renew",
                    "transport->ops->reset_queue(transport, queue->queue.index,",
                    "((void)transport, queue->queue.index + 0 *"))


def test_hosted_threads__no_race_between_front_end_and_back_end(build):
    return clean(build, HOSTED)


def test_hosted_threads__no_race_when_a_back_end_dies_and_comes_back(build):
    return clean(build, RESUME)


def test_hosted_threads__a_worker_that_is_not_waited_for_is_seen(build):
    return planted(build, HOSTED, "*resized_under_load", WRONG,
                   ("hosted/src/backend_worker.c", "ski_backend_worker_enter",
                    "(void)pthread_mutex_lock(&worker->lock);", ""))


def test_hosted_threads__an_end_that_does_not_wait_for_the_file_is_seen(build):
    return planted(build, HOSTED, "*restarted_under_load", WRONG,
                   ("hosted/src/backend_connection.c", "ski_backend_visit_at_rest",
                    "queue->away != 0", "queue->away > 1000"))


def test_hosted_threads__a_connection_looked_at_while_it_changes_is_seen(build):
    return planted(build, HOSTED, "*restarted_under_load", RACE,
                   ("hosted/src/vhost_user_open.c", "sk_vhost_user_get_info",
                    "(void)pthread_mutex_", "//"))


def main():
    if shutil.which(COMPILER) is None:
        print("skip: needs %s" % COMPILER)
        return SKIPPED
    bad = 0
    tests = {name: test for name, test in globals().items()
             if name.startswith("test_") and ("hosted" in name) == (WHAT == "hosted")}
    with tempfile.TemporaryDirectory(prefix="races-") as folder:
        build = Build(pathlib.Path(folder))
        with concurrent.futures.ThreadPoolExecutor(2 * os.cpu_count()) as pool: # many sleep
            started = {name: pool.submit(test, build) for name, test in tests.items()}
            for name, future in started.items():
                problems = future.result()
                print("%s %s" % ("not ok" if problems else "ok", name), *problems, sep="\n    ")
                bad += len(problems)
    return 1 if bad else 0


sys.exit(main())
