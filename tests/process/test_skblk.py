#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""skblk against qemu-storage-daemon: what it moves, and what it says when it cannot."""
import re
import signal
import subprocess

from process import (CONNECT, DIFFERENT, DISK, FILE, INTERRUPTED, ROOT, SKBLK, USAGE, main, run, sha256,
                     serve, skblk, starts, wait_for)

MIB = 1 << 20


def test_info__names_what_the_disk_is(bench):
    socket, _ = bench.daemon(bench.image("a.img", 5 * MIB), **{"logical-block-size": 4096})
    info = skblk("info", socket, "--json").json()
    assert info["capacity_bytes"] == 5 * MIB and info["block_bytes"] == 4096
    assert "FLUSH" in info["features"] and info["ring"] == "split" and not info["read_only"]
    assert "capacity bytes" in skblk("info", socket).text


def test_hash__equals_sha256sum(bench):
    image = bench.image("a.img", 3 * MIB + 512, "hash")
    socket, _ = bench.daemon(image)
    assert skblk("hash", socket).text.split()[0] == sha256(image)
    for words in (["--chunk", "4k", "--depth", "1"], ["--wait", "poll"], ["--wait", "hybrid:10us"],
                  ["--no-indirect", "--no-event-index"], ["--queue-size", "4"]):
        assert skblk("hash", socket, *words).text.split()[0] == sha256(image), words


def test_read__file_stdout_and_a_part(bench):
    image = bench.image("a.img", 2 * MIB, "read")
    socket, _ = bench.daemon(image)
    skblk("read", socket, bench.path("out"))
    assert bench.path("out").read_bytes() == image.read_bytes()
    assert skblk("read", socket, "-").out == image.read_bytes()
    part = skblk("read", socket, "-", "--offset", "512", "--length", "1M", "--chunk", "64k").out
    assert part == image.read_bytes()[512:512 + MIB]


def test_read__zeroes_become_holes(bench):
    image = bench.image("a.img", 64 * MIB)
    with image.open("r+b") as file:
        file.seek(20 * MIB)
        file.write(b"data" * 1024)
    socket, _ = bench.daemon(image)
    skblk("read", socket, bench.path("out"))
    assert sha256(bench.path("out")) == sha256(image)
    assert bench.path("out").stat().st_blocks * 512 < 2 * MIB
    bench.path("out").write_bytes(b"x" * (64 * MIB))  # an old file leaves nothing behind
    skblk("read", socket, bench.path("out"))
    assert sha256(bench.path("out")) == sha256(image)


def test_write__file_stdin_and_a_tail(bench):
    target = bench.image("a.img", 4 * MIB, "old")
    socket, _ = bench.daemon(target)
    source = bench.image("source", 3 * MIB + 100, "new")
    skblk("write", source, socket)
    whole = target.read_bytes()
    assert whole[:3 * MIB + 100] == source.read_bytes()
    assert whole[3 * MIB + 100:3 * MIB + 512] == bytes(412)
    skblk("write", "-", socket, "--target-offset", "1M", data=b"y" * 1000)
    assert target.read_bytes()[MIB:MIB + 1024] == b"y" * 1000 + bytes(24)


def test_write__what_does_not_fit(bench):
    target = bench.image("a.img", MIB, "old")
    before = sha256(target)
    socket, _ = bench.daemon(target)
    source = bench.image("source", MIB + 1, "long")
    skblk("write", source, socket, status=USAGE).says("nothing was written", "--length")
    assert sha256(target) == before
    skblk("write", "-", socket, status=DISK, data=b"z" * (MIB + 1)).says("full")
    assert target.read_bytes() == b"z" * MIB


def test_copy__between_two_disks(bench):
    image = bench.image("a.img", 8 * MIB, "copy")
    source, _ = bench.daemon(image, "source")
    target, _ = bench.daemon(bench.image("b.img", 9 * MIB), "target")
    result = skblk("copy", source, target, "--json").json()
    assert result["bytes"] == 8 * MIB
    assert bench.path("b.img").read_bytes()[:8 * MIB] == image.read_bytes()


def test_copy__within_one_disk(bench):
    image = bench.image("a.img", 4 * MIB, "within")
    before = image.read_bytes()
    socket, _ = serve(bench, "serve-file", image)  # one that takes a second connection
    skblk("copy", socket, socket, status=USAGE).says("overlap")
    skblk("copy", socket, socket, "--length", "2M", "--target-offset", "1M",
          status=USAGE).says("overlap")
    assert image.read_bytes() == before
    skblk("copy", socket, socket, "--length", "2M", "--target-offset", "2M")
    assert image.read_bytes() == before[:2 * MIB] * 2


def test_copy__stopped_in_the_middle_goes_on(bench):
    image = bench.image("a.img", 16 * MIB, "resume")
    socket = bench.path("slow.sock")
    node = {"driver": "throttle", "throttle-group": "slow",
            "file": {"driver": "file", "filename": str(image)}}
    command = bench.daemon_command(node, socket)
    limits = '{"qom-type":"throttle-group","id":"slow","limits":{"bps-total":524288}}'
    slow = starts(bench.start(command[:1] + ["--object", limits] + command[1:], "slow"), socket)
    with subprocess.Popen([SKBLK, "read", str(socket), str(bench.path("out")), "--chunk", "64k"],
                          stderr=subprocess.PIPE) as process:
        out = bench.path("out")
        wait_for(lambda: out.exists() and out.stat().st_blocks > 0, "the first bytes")
        process.send_signal(signal.SIGINT)
        error = process.stderr.read().decode()
        assert process.wait() == INTERRUPTED, error
    done = int(error.split("--start ")[1].split()[0])
    assert 0 < done < 16 * MIB, error
    assert bench.path("out").read_bytes()[:done] == image.read_bytes()[:done]
    slow.kill()
    socket, _ = bench.daemon(image, "quick")
    skblk("read", socket, bench.path("out"), "--start", done)
    assert sha256(bench.path("out")) == sha256(image)


def test_clear__discard_and_zero_want_to_be_asked(bench):
    image = bench.image("a.img", 2 * MIB, "clear")
    socket, _ = bench.daemon(image)
    for command in ("zero", "discard"):
        skblk(command, socket, status=USAGE).says("--yes-overwrite")
    skblk("zero", socket, "--offset", "1M", "--yes-overwrite")
    assert image.read_bytes()[MIB:] == bytes(MIB) and image.read_bytes()[:MIB] != bytes(MIB)
    assert skblk("discard", socket, "--yes-overwrite", "--json").json() == {"bytes": 2 * MIB}
    assert skblk("zero", socket, "--yes-overwrite", "--length", "1M",
                 "--json").json() == {"bytes": MIB}
    assert skblk("flush", socket, "--json").json() == {"bytes": 2 * MIB}
    skblk("flush", socket)


def test_read_only__is_refused_with_a_line(bench):
    socket, _ = bench.daemon(bench.image("a.img", MIB, "ro"), writable=False)
    source = bench.image("source", 512, "new")
    skblk("write", source, socket, status=DISK).says("read-only")
    skblk("zero", socket, "--yes-overwrite", status=DISK).says("read-only")
    skblk("verify", socket, "--write", "--yes-overwrite", status=DISK).says("read-only")
    skblk("bench", socket, "--reads", "50", "--yes-overwrite", status=DISK).says("read-only")


def test_verify__finds_what_is_wrong(bench):
    image = bench.image("a.img", 2 * MIB)
    socket, daemon = bench.daemon(image)
    skblk("verify", socket, "--write", "--yes-overwrite", "--generation", "3")
    skblk("verify", socket, "--generation", "3")
    skblk("verify", socket, "--generation", "4", status=DIFFERENT).says("generation 3")
    skblk("verify", socket, "--stress", "--seconds", "1", "--yes-overwrite", "--block", "8k")
    skblk("verify", socket, "--write", "--yes-overwrite", "--generation", "7")
    daemon.kill()
    content = bytearray(image.read_bytes())
    content[0:4096], content[4096:8192] = content[4096:8192], content[0:4096]  # misplaced
    content[8192 + 100] ^= 1  # torn
    content[12288:12800] = bytes(512)  # foreign
    image.write_bytes(content)
    socket, _ = bench.daemon(image, "again")
    result = skblk("verify", socket, "--generation", "7", "--json", status=DIFFERENT)
    result.says("has the content of byte 4096", "torn", "foreign")
    assert result.json()["blocks_misplaced"] == 2 and result.json()["blocks_torn"] == 1


def test_bench__prints_and_draws(bench):
    socket, _ = bench.daemon(bench.image("a.img", 8 * MIB, "bench"), **{"num-queues": 2})
    plot = bench.path("plot.svg")
    for words in (["--wait", "poll"], ["--queues", "2", "--pattern", "zipf:0.8"],
                  ["--reads", "70", "--pattern", "sequential", "--yes-overwrite", "--depth", "300"],
                  ["--wait", "hybrid:20us", "--plot", plot]):
        result = skblk("bench", socket, "--seconds", "500ms", "--json", *words).json()
        assert result["requests"] > 0 and result["latency_p50_us"] > 0, words
    run("python3", "-c", "import sys, xml.dom.minidom; xml.dom.minidom.parse(sys.argv[1])", plot)
    assert "p99.9" in plot.read_text()
    skblk("bench", socket, "--reads", "10", status=USAGE).says("--yes-overwrite")
    skblk("bench", socket, "--seconds", "100ms", "--plot", "/no/such/folder/x.svg",
          status=FILE).says("/no/such/folder")


def test_watch__prints_a_line_at_a_time(bench):
    socket, _ = bench.daemon(bench.image("a.img", MIB))
    lines = skblk("watch", socket, "--count", "3", "--interval", "50ms").text.splitlines()
    assert len(lines) == 4 and all("ready" in line for line in lines[1:])


def test_usage__each_mistake_has_a_line(bench):
    plain = bench.image("plain", 512)
    for words, status, said in (
            ([], USAGE, "usage: skblk"), (["nonsense"], USAGE, "nonsense"),
            (["info"], USAGE, "SOCKET"), (["info", "a", "b"], USAGE, "too much"),
            (["info", "a", "--nonsense"], USAGE, "--nonsense"),
            (["info", "a", "--queues"], USAGE, "--queues"),
            (["info", "a", "--queues", "x"], USAGE, "'x'"),
            (["info", "a", "--queues", "65"], USAGE, "'65': a number from 1 to 64"),
            (["bench", "a", "--seed", "9" * 20], USAGE, "a number from 0 on"),
            (["bench", "a", "--pattern", "zipf:2"], USAGE, "'zipf:2': random, sequential, or zipf"),
            (["bench", "a", "--seconds", "1h"], USAGE, "'1h': a time is"),
            (["read", "a", "b", "--length", "1x"], USAGE, "'1x': bytes are"),
            (["read", "a", "b", "--chunk", "1"], USAGE, "from 512 bytes to 64.0 MiB"),
            (["info", bench.path("missing")], CONNECT, "no such socket"),
            (["write", bench.path("missing"), "a"], FILE, "missing"),
            (["write", bench.folder, "a"], FILE, "directory"),
            (["read", plain, bench.path("out")], CONNECT, "no socket")):
        skblk(*words, status=status).says(said)
    assert "--depth" in skblk("bench", "--help").text
    assert skblk("--version").text.startswith("skblk ")


def test_man_page__has_every_command_and_option(bench):
    page = (ROOT / "tools/skblk/skblk.1").read_text().replace("\\-", "-")
    commands = re.findall(r"^  (\S+) +(?:SOCKET|FILE)", skblk("--help").text, re.M)
    assert len(commands) >= 13, commands
    for command in commands:
        assert re.search(r'^\.B[IR]* "?%s' % command, page, re.M), command
        for option in re.findall(r"^  (--[a-z-]+)", skblk(command, "--help").text, re.M):
            assert re.search(re.escape(option) + r"(?![a-z-])", page), option


def test_range__must_lie_on_the_disk(bench):
    socket, _ = bench.daemon(bench.image("a.img", MIB), **{"logical-block-size": 4096})
    for words in (["--offset", "2M"], ["--offset", "512"], ["--length", "1025k"],
                  ["--offset", "512k", "--length", "1M"], ["--chunk", "5k"]):
        skblk("hash", socket, *words, status=USAGE)


def test_file__that_is_full_or_closed(bench):
    socket, _ = bench.daemon(bench.image("a.img", MIB, "full"))
    skblk("read", socket, "/dev/full", status=FILE).says("No space left", "make room")
    with open("/dev/full", "wb") as full:
        skblk("info", socket, status=FILE, stdout=full).says("cannot write the result")


main(globals())
