#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The back end dies at random moments under load, and nothing acknowledged is lost."""
import json
import os
import random
import signal
import subprocess
import time

from process import SECONDS, SKBLK, TIMEOUT, main, serve, starts, writes

MIB = 1 << 20
KILLS = int(os.environ.get("SKIO_KILLS", "100"))


def test_kills__at_random_moments_lose_nothing(bench):
    """The back end dies KILLS times under load and comes back; the reader sees delays only."""
    image = bench.image("a.img", 16 * MIB)
    seed = "kills"
    print("# seed %r" % seed)
    moments = random.Random(seed)
    slow = ["--faults", "slow=2000"]  # all that is in flight is at the file when the back end dies
    for words, faults in (([], []), (["--no-packed"], []), (["--no-in-order"], slow),
                          (["--no-packed"], slow)):
        path, server = serve(bench, "serve-file", image, *faults)
        with subprocess.Popen([SKBLK, "verify", str(path), "--stress", "--seconds", "1000",
                               "--reconnect", "600s", "--timeout", "600s", "--json",
                               "--yes-overwrite", *words], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE) as load:
            writes(server, MIB, load)  # it has begun
            for _ in range(KILLS // 4):
                time.sleep(moments.uniform(0, 0.12))
                assert load.poll() is None, (load.communicate(), server.log.read_text())
                server.kill()
                time.sleep(moments.uniform(0, 0.02))
                server.start()
            writes(server, MIB, load)
            load.send_signal(signal.SIGINT)
            output, error = load.communicate(timeout=SECONDS)
        assert load.returncode == 130, (load.returncode, error)
        counts = json.loads(output)
        assert counts["blocks_written"] > 0 and counts["blocks_torn"] == 0, counts
        assert counts["blocks_of_wrong_generation"] == counts["blocks_misplaced"] == 0, counts
        server.kill()


def test_daemon__that_remembers_nothing_is_waited_for(bench):
    """qemu-storage-daemon keeps no record of what is in flight: requests are sent again."""
    image = bench.image("a.img", 16 * MIB)
    path, daemon = bench.daemon(image)
    with subprocess.Popen([SKBLK, "verify", str(path), "--stress", "--seconds", "1000", "--reconnect",
                           "600s", "--timeout", "600s", "--json", "--yes-overwrite"],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE) as load:
        for _ in range(5):
            # So that each that is there is answered: who is there at four ends is given up.
            writes(daemon, 4 * MIB, load)
            assert load.poll() is None, load.communicate()
            daemon.kill()
            path.unlink(missing_ok=True)
            daemon.start()
            starts(daemon, path)
        writes(daemon, MIB, load)
        load.send_signal(signal.SIGINT)
        output, error = load.communicate(timeout=SECONDS)
    assert load.returncode == 130, (load.returncode, error)
    counts = json.loads(output)
    assert counts["blocks_written"] > 0 and counts["blocks_torn"] == 0, counts
    assert counts["blocks_of_wrong_generation"] == counts["blocks_misplaced"] == 0, counts


def test_daemon__that_does_not_come_back_ends_the_command(bench):
    image = bench.image("a.img", 16 * MIB)
    for words in (["--recovery", "fail"], []):
        path, daemon = bench.daemon(image)
        with subprocess.Popen([SKBLK, "verify", str(path), "--stress", "--seconds", "1000",
                               "--reconnect", "300ms", "--yes-overwrite", *words],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE) as load:
            writes(daemon, MIB, load)  # it has begun
            daemon.kill()
            _, error = load.communicate(timeout=SECONDS)
        assert load.returncode == TIMEOUT, (load.returncode, error)
        path.unlink(missing_ok=True)


main(globals())
