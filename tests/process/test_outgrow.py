#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""docs/outgrowing.md: two storage hosts joined below one disk; one dies under load."""
import json
import signal
import socket
import subprocess

from process import (INTERRUPTED, SECONDS, SKBLK, Skip, main, need, sha256, skblk, starts, wait_for,
                     writes)

MIB = 1 << 20
SIZE = 32 * MIB


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def storage_host(bench, image, name):
    """A host: nbdkit serves its file over TCP; its address, and the program that can die."""
    pid = bench.path(name + ".pid")  # written when it listens
    for _ in range(100):
        port = free_port()
        program = bench.start(["nbdkit", "-f", "-P", pid, "-i", "127.0.0.1", "-p", str(port), "file",
                               image], name)
        wait_for(lambda: pid.exists() or not program.is_alive(), "%s listening" % name)
        if pid.exists():
            break
        said = program.log.read_text()
        assert "in use" in said, said  # by somebody who was quicker: another one
    return {"driver": "nbd", "server": {"type": "inet", "host": "127.0.0.1", "port": str(port)}}, program


def joined(bench, hosts, name):
    """The daemon that joins hosts to one disk; its socket, and the program."""
    path = bench.path(name + ".sock")
    nodes = []
    for number, host in enumerate(hosts):
        nodes += ["--blockdev", json.dumps({"node-name": "host%d" % number, **host})]
    quorum = {"driver": "quorum", "vote-threshold": 1, "read-pattern": "fifo",
              "children": ["host%d" % number for number in range(len(hosts))]}
    command = bench.daemon_command(quorum, path)
    return path, starts(bench.start(command[:1] + nodes + command[1:], name), path)


def test_hosts__one_dies_under_load_and_nothing_is_lost(bench):
    need("nbdkit", "qemu-storage-daemon")
    images = [bench.image("a.raw", SIZE), bench.image("b.raw", SIZE)]
    first, victim = storage_host(bench, images[0], "host-a")
    second, survivor = storage_host(bench, images[1], "host-b")
    path, daemon = joined(bench, [first, second], "joined")
    with subprocess.Popen([SKBLK, "verify", str(path), "--stress", "--seconds", "1000", "--json",
                           "--timeout", "60s", "--yes-overwrite"], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE) as load:
        writes(victim, MIB, load)
        victim.kill()
        writes(survivor, 2 * MIB, load)
        load.send_signal(signal.SIGINT)
        output, error = load.communicate(timeout=SECONDS)
    assert load.returncode == INTERRUPTED, (output, error, daemon.log.read_text()[-500:])
    assert json.loads(output)["blocks_written"] > 0
    before = skblk("hash", path).text.split()[0]
    daemon.kill()
    assert sha256(images[1]) == before  # the host that is left has all of it

    # A new host gets a copy while the disk rests; then both serve again.
    images.append(bench.image("c.raw", SIZE))
    third, _ = storage_host(bench, images[2], "host-c")
    source, alone = joined(bench, [second], "alone")
    target, fresh = joined(bench, [third], "fresh")
    skblk("copy", source, target)
    alone.kill()
    fresh.kill()
    path, _ = joined(bench, [second, third], "again")
    assert skblk("hash", path).text.split()[0] == before
    skblk("verify", path, "--write", "--generation", "9", "--yes-overwrite")
    assert sha256(images[1]) == sha256(images[2]) != before


def test_rbd__the_documented_line_names_a_driver_that_takes_it(bench):
    """Without a Ceph cluster the line can only come as far as looking for its configuration."""
    need("qemu-storage-daemon")
    conf = bench.path("ceph.conf")
    node = {"driver": "rbd", "pool": "skio", "image": "disk", "user": "skio", "conf": str(conf)}
    command = bench.daemon_command(node, bench.path("rbd.sock"))
    program = bench.start(command, "rbd")
    assert program.process.wait(timeout=SECONDS) != 0
    said = program.log.read_text()
    if "Unknown driver 'rbd'" in said or "not supported" in said:
        raise Skip("qemu-block-extra, with QEMU's rbd driver")
    assert "error reading conf file" in said, said


main(globals())
