#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The back end dies at random moments under load, and nothing acknowledged is lost."""
import json
import os
import random
import signal
import subprocess
import time

from process import SKBLK, TIMEOUT, connects, main, serve, starts, wait_for

MIB = 1 << 20
KILLS = int(os.environ.get("SKIO_KILLS", "100"))


def test_kills__at_random_moments_lose_nothing(bench):
    """The back end dies KILLS times under load and comes back; the reader sees delays only."""
    image = bench.image("a.img", 16 * MIB)
    seed = "kills"
    print("# seed %r" % seed)
    moments = random.Random(seed)
    for words in ([], ["--no-packed"]):
        path, server = serve(bench, "serve-file", image)
        with subprocess.Popen([SKBLK, "verify", str(path), "--stress", "--seconds", "600",
                               "--reconnect", "60s", "--timeout", "60s", "--json", "--yes-overwrite",
                               *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as load:
            for _ in range(KILLS // 2):
                time.sleep(moments.uniform(0, 0.12))
                assert load.poll() is None, (load.communicate(), server.log.read_text())
                server.kill()
                time.sleep(moments.uniform(0, 0.02))
                server.start()
            wait_for(lambda: connects(path), "the last one listening")
            time.sleep(0.5)
            load.send_signal(signal.SIGINT)
            output, error = load.communicate(timeout=120)
        assert load.returncode == 130, (load.returncode, error)
        counts = json.loads(output)
        assert counts["blocks_written"] > 0 and counts["blocks_torn"] == 0, counts
        assert counts["blocks_of_wrong_generation"] == counts["blocks_misplaced"] == 0, counts
        server.kill()


def test_daemon__that_remembers_nothing_is_waited_for(bench):
    """qemu-storage-daemon keeps no record of what is in flight: requests are sent again."""
    image = bench.image("a.img", 16 * MIB)
    path, daemon = bench.daemon(image)
    with subprocess.Popen([SKBLK, "verify", str(path), "--stress", "--seconds", "600", "--reconnect",
                           "60s", "--timeout", "60s", "--json", "--yes-overwrite"],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE) as load:
        for _ in range(5):
            time.sleep(0.3)  # so that something is answered: who is there at four ends is given up
            assert load.poll() is None, load.communicate()
            daemon.kill()
            path.unlink(missing_ok=True)
            daemon.start()
            starts(daemon, path)
        wait_for(lambda: connects(path), "the last one listening")
        time.sleep(0.5)
        load.send_signal(signal.SIGINT)
        output, error = load.communicate(timeout=120)
    assert load.returncode == 130, (load.returncode, error)
    counts = json.loads(output)
    assert counts["blocks_written"] > 0 and counts["blocks_torn"] == 0, counts
    assert counts["blocks_of_wrong_generation"] == counts["blocks_misplaced"] == 0, counts


def test_daemon__that_does_not_come_back_ends_the_command(bench):
    image = bench.image("a.img", 16 * MIB)
    for words in (["--recovery", "fail"], []):
        path, daemon = bench.daemon(image)
        with subprocess.Popen([SKBLK, "verify", str(path), "--stress", "--seconds", "600",
                               "--reconnect", "300ms", "--yes-overwrite", *words],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE) as load:
            time.sleep(0.3)
            daemon.kill()
            _, error = load.communicate(timeout=60)
        assert load.returncode == TIMEOUT, (load.returncode, error)
        path.unlink(missing_ok=True)


main(globals())
