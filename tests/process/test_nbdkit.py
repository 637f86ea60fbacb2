#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The nbdkit plugin under the programs that speak NBD: nbdinfo, nbdcopy, qemu-img, fio."""
import json
import os

from process import PLUGIN, Skip, main, need, run, sha256, starts

MIB = 1 << 20


def serve(bench, socket, *words):
    """nbdkit with the plugin on a disk's socket; the URI, and the program."""
    need("nbdkit")
    if PLUGIN == "":
        raise Skip("the plugin, which is built without sanitizers only")
    path = bench.path("nbd.sock")
    program = bench.start(["nbdkit", "-f", "-U", path, PLUGIN, "socket=%s" % socket, *words], "nbdkit")
    starts(program, path)
    return "nbd+unix:///?socket=%s" % path, program


def info(uri):
    return json.loads(run("nbdinfo", "--json", uri).text)["exports"][0]


def test_nbdinfo__shows_what_the_disk_offers(bench):
    need("nbdinfo")
    socket, _ = bench.daemon(bench.image("a.img", 5 * MIB), **{"logical-block-size": 4096})
    uri, _ = serve(bench, socket)
    shown = info(uri)
    assert shown["export-size"] == 5 * MIB
    for flag in ("can_flush", "can_fua", "can_trim", "can_zero", "can_fast_zero", "can_multi_conn"):
        assert shown[flag] is True, flag
    assert shown["is_read_only"] is False
    assert shown["block_size_minimum"] == 4096 and shown["block_size_preferred"] == 4096


def test_nbdinfo__read_only_disk(bench):
    need("nbdinfo")
    socket, _ = bench.daemon(bench.image("a.img", MIB), writable=False)
    uri, _ = serve(bench, socket)
    assert info(uri)["is_read_only"] is True


def test_nbdcopy__there_and_back(bench):
    need("nbdcopy")
    source = bench.image("source", 24 * MIB, "nbdcopy")
    target = bench.image("a.img", 24 * MIB)
    socket, _ = bench.daemon(target, **{"num-queues": 2})
    uri, _ = serve(bench, socket, "queues=2")
    run("nbdcopy", "--flush", source, uri)
    assert sha256(target) == sha256(source)
    run("nbdcopy", uri, bench.path("back"))
    assert sha256(bench.path("back")) == sha256(source)


def test_qemu_img__compares_equal(bench):
    need("qemu-img")
    source = bench.image("source", 6 * MIB, "qemu-img")
    socket, _ = bench.daemon(bench.image("a.img", 6 * MIB))
    uri, _ = serve(bench, socket, "wait=poll")
    run("qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", source, uri)
    run("qemu-img", "compare", "-f", "raw", "-F", "raw", source, uri)


def test_fio__verifies_what_it_wrote(bench):
    need("fio")
    if "nbd" not in run("fio", "--enghelp").text:
        raise Skip("fio with its nbd engine")
    socket, _ = bench.daemon(bench.image("a.img", 16 * MIB))
    uri, _ = serve(bench, socket)
    run("fio", "--name=verify", "--ioengine=nbd", "--uri=%s" % uri, "--rw=randwrite", "--bs=4k",
        "--iodepth=16", "--size=16M", "--verify=crc32c", "--verify_fatal=1", "--end_fsync=1",
        cwd=bench.folder)


def test_requests__that_are_no_whole_blocks(bench):
    need("nbdsh")
    socket, _ = bench.daemon(bench.image("a.img", MIB))
    uri, program = serve(bench, socket)
    script = """
h.set_strict_mode(0)
try:
    h.pread(100, 10)
    raise SystemExit("it was read")
except nbd.Error as error:
    assert error.errno == "EINVAL", error
h.pwrite(b"x" * 512, 512, nbd.CMD_FLAG_FUA)
h.zero(512, 1024)
h.trim(512, 2048)
h.flush()
assert h.pread(512, 512) == b"x" * 512
"""
    # The system's own python3 has nbdsh's module, another one in front of it may not.
    path = {**os.environ, "PATH": "/usr/bin:" + os.environ["PATH"]}
    run("nbdsh", "-u", uri, "-c", script, env=path)
    assert "--filter=blocksize" in program.log.read_text()


def test_start__without_what_it_needs(bench):
    need("nbdkit")
    if PLUGIN == "":
        raise Skip("the plugin, which is built without sanitizers only")
    for words, said in (([], "socket=PATH is missing"), (["socket=x", "queues=0"], "queues=0"),
                        (["socket=x", "wait=so"], "wait=so"), (["socket=x", "blub=1"], "blub"),
                        (["socket=%s" % bench.path("missing")], "no such socket")):
        run("nbdkit", "-f", "-U", bench.path("u"), PLUGIN, *words, status=1).says(said)


main(globals())
