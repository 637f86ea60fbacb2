#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""skblk's own back end: what it serves, how it dies and comes back, and how it lies."""
import json
import signal
import subprocess

from process import (BACKEND, DISK, FILE, OK, SECONDS, SKBLK, TIMEOUT, USAGE, connects, main, serve,
                     sha256, skblk, wait_for)

MIB = 1 << 20


def test_null__reads_zeroes_and_forgets(bench):
    path, _ = serve(bench, "serve-null", "--size", "4M", "--zeroes")
    assert skblk("read", path, "-").out == bytes(4 * MIB)
    skblk("write", "-", path, data=b"x" * 4096)
    assert skblk("read", path, "-").out == bytes(4 * MIB)


def test_file__is_what_was_written(bench):
    image = bench.image("a.img", 8 * MIB, "serve")
    source = bench.image("source", 5 * MIB, "new")
    path, _ = serve(bench, "serve-file", image)
    assert skblk("hash", path).text.split()[0] == sha256(image)
    skblk("write", source, path)
    assert image.read_bytes()[:5 * MIB] == source.read_bytes()
    skblk("zero", path, "--length", "1M", "--yes-overwrite", "--unmap")
    skblk("discard", path, "--offset", "1M", "--length", "1M", "--yes-overwrite")
    assert image.read_bytes()[:2 * MIB] == bytes(2 * MIB)
    assert skblk("hash", path).text.split()[0] == sha256(image)


def test_file__every_ring_serves_the_same(bench):
    image = bench.image("a.img", 3 * MIB, "rings")
    path, _ = serve(bench, "serve-file", image, "--queues", "2")
    for words in ([], ["--no-packed"], ["--no-indirect"], ["--no-packed", "--no-indirect"],
                  ["--no-event-index"], ["--no-in-order"], ["--queue-size", "8"], ["--wait", "poll"]):
        assert skblk("hash", path, *words).text.split()[0] == sha256(image), words
    for words in ([], ["--no-packed"]):
        skblk("verify", path, "--stress", "--seconds", "300ms", "--yes-overwrite", *words)


def test_file__answers_in_order_unless_told_not_to(bench):
    path, _ = serve(bench, "serve-file", bench.image("a.img", MIB, "order"))
    info = skblk("info", path, "--json").json()
    assert "IN_ORDER" in info["features"] and "IN_ORDER" not in info["features_not_used"]
    info = skblk("info", path, "--json", "--no-in-order").json()
    assert "IN_ORDER" in info["features_not_used"] and "IN_ORDER" not in info["features"]


def test_file__one_that_waits_is_overtaken(bench):
    """The first read (behind a GET_ID) begins when all others are done, in any order and where the ring wants one."""
    image = bench.image("a.img", 128 << 10, "late")
    for number, words in enumerate((["--no-in-order"], [], ["--no-packed"])):
        path, server = serve(bench, "serve-file", image, "--faults", "late=31@1x1",
                             name="late%d" % number)
        assert skblk("hash", path, "--chunk", "4k", "--depth", "32",
                     *words).text.split()[0] == sha256(image), words
        server.kill()


def test_file__threads_limit_what_is_at_work(bench):
    image = bench.image("a.img", 4 * MIB, "threads")
    for threads, faults in ((1, "slow=1"), (2, "late=3@1x1")):
        path = bench.path("threads%d" % threads)
        server = bench.start([SKBLK, "serve-file", path, image, "--threads", threads, "--json",
                              "--faults", faults], "threads%d" % threads)
        wait_for(lambda: connects(path), "it listening")
        skblk("hash", path, "--chunk", "16k", "--depth", "16")
        assert server.kill(signal.SIGTERM) == OK, server.log.read_text()
        counts = json.loads(server.log.read_text().splitlines()[-1])
        assert counts["at_work_most"] == threads, counts


def test_file__that_never_answers_does_not_keep_the_process(bench):
    image = bench.image("a.img", MIB, "never")
    path, server = serve(bench, "serve-file", image, "--faults", "late=0@0x1")
    skblk("read", path, "-", "--timeout", "300ms", "--reconnect", "100ms", "--recovery", "fail",
          status=TIMEOUT)
    assert server.kill(signal.SIGTERM) == TIMEOUT, server.log.read_text()
    assert "does not answer" in server.log.read_text()


def test_file__read_only_and_blocks(bench):
    image = bench.image("a.img", MIB, "ro")
    path, _ = serve(bench, "serve-file", image, "--read-only", "--logical-block", "4096")
    info = skblk("info", path, "--json").json()
    assert info["read_only"] and info["block_bytes"] == 4096
    skblk("write", "-", path, data=b"x" * 4096, status=DISK).says("read-only")


def test_two_processes__share_a_disk(bench):
    image = bench.image("a.img", 16 * MIB)
    path, _ = serve(bench, "serve-file", image, "--queues", "2")
    halves = [subprocess.Popen([SKBLK, "verify", str(path), "--stress", "--seconds", "2", "--queues",
                                "2", "--offset", offset, "--length", "8M", "--yes-overwrite",
                                "--json"], stdout=subprocess.PIPE) for offset in ("0", "8M")]
    for half in halves:
        output, _ = half.communicate(timeout=SECONDS)
        assert half.returncode == OK and json.loads(output)["blocks_written"] > 0, output


def test_faults__that_break_the_protocol(bench):
    """Each lie ends the command with a line and a status by kind; nothing hangs.

    A time for answers is short only where it has to pass.
    """
    image = bench.image("a.img", MIB, "lies")
    for number, (fault, statuses) in enumerate((
            ("lie-id=0x4000@5", (BACKEND, TIMEOUT, DISK)), ("lie-twice@5", (BACKEND, TIMEOUT, DISK)),
            ("lie-status=7@5", (BACKEND, TIMEOUT, DISK)), ("lie-no-status@5", (BACKEND, TIMEOUT, DISK)),
            ("fail@3x1", (DISK,)), ("config-bytes=0", (BACKEND,)),
            ("features=0", (BACKEND,)), ("lie-size=70000", (BACKEND, TIMEOUT)),
            ("lie-request=99", (BACKEND, TIMEOUT)), ("mute", (TIMEOUT,)),
            ("close-received@3", (TIMEOUT, BACKEND)), ("stall@4", (TIMEOUT,)))):
        path, server = serve(bench, "serve-file", image, "--faults", fault, name="lie%d" % number)
        done = subprocess.run([SKBLK, "read", str(path), "-", "--chunk", "4k", "--timeout",
                               "500ms" if TIMEOUT in statuses else "60s", "--reconnect", "200ms",
                               "--recovery", "fail"], timeout=SECONDS, stdin=subprocess.DEVNULL,
                              stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
        assert done.returncode in statuses, (fault, done.returncode, done.stderr)
        assert done.stderr.startswith(b"skblk"), (fault, done.stderr)
        server.kill()


def test_faults__that_are_harmless(bench):
    """Slow, in pieces, out of order, odd lengths: the content is right all the same."""
    image = bench.image("a.img", MIB, "odd")
    for number, fault in enumerate(("pieces=0", "slow=300", "hold=3", "lie-length=0",
                                    "lie-length=4294967295", "slow-reply=30")):
        path, server = serve(bench, "serve-file", image, "--faults", fault, name="odd%d" % number)
        assert skblk("hash", path).text.split()[0] == sha256(image), fault
        server.kill()


def test_full__disk_is_an_error_and_loses_nothing(bench):
    image = bench.image("a.img", 2 * MIB)
    path, _ = serve(bench, "serve-file", image, "--faults", "full-at=1048576")
    source = bench.image("source", 2 * MIB, "full")
    skblk("write", source, path, "--chunk", "64k", "--depth", "4", status=DISK).says("failed")
    skblk("write", source, path, "--length", "1M")
    assert image.read_bytes()[:MIB] == source.read_bytes()[:MIB]


def test_start__what_cannot_be_served(bench):
    plain = bench.image("plain", 512)
    for words, status, said in (
            (["serve-file", bench.path("s"), bench.path("missing")], FILE, "no such file"),
            (["serve-file", bench.path("s")], USAGE, "SOCKET FILE"),
            (["serve-null", bench.path("s"), "--faults", "nonsense"], USAGE, "nonsense"),
            (["serve-null", bench.path("no/such/folder/s")], FILE, "no/such/folder")):
        skblk(*words, status=status).says(said)
    path, _ = serve(bench, "serve-file", plain)
    skblk("serve-null", path, status=FILE).says("somebody")
    assert plain.stat().st_size == 512


def test_watch__sees_a_restart(bench):
    image = bench.image("a.img", MIB)
    path, server = serve(bench, "serve-file", image)
    with subprocess.Popen([SKBLK, "watch", str(path), "--interval", "50ms", "--timeout", "60s",
                           "--reconnect", "60s", "--json"], stdout=subprocess.PIPE) as watch:
        lines = [json.loads(watch.stdout.readline())]
        server.kill()
        server.start()
        while lines[-1]["reconnects"] == 0:
            lines.append(json.loads(watch.stdout.readline()))
        watch.send_signal(signal.SIGINT)
        output, _ = watch.communicate(timeout=SECONDS)
        lines += [json.loads(line) for line in output.splitlines()]
    assert all(line["status"] == "ok" for line in lines) and lines[-1]["reconnects"] == 1, lines


main(globals())
