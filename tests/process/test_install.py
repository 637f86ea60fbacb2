#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What `make install` puts where, and that programs build against it."""
import os
import pathlib
import re

from process import ROOT, main, need, run

BUILD = pathlib.Path(os.environ.get("SKIO_BUILD", ROOT / "build/process"))

PROGRAM = """
#include <stdio.h>
#include <skio/skio.h>
#include <skio_hosted/process.h>

int main(void)
{
    struct sk_process *process;

    if (sk_process_create(NULL, &process) != SK_OK) {
        return 1;
    }
    puts(sk_status_name(sk_process_destroy(process)));
    return 0;
}
"""

PROJECT = """
cmake_minimum_required(VERSION 3.16)
project(user C)
find_package(skio 0.1 REQUIRED)
add_executable(user user.c)
target_link_libraries(user PRIVATE skio::skio_hosted)
"""


def install(bench):
    if "sanitize" in (BUILD / "CMakeCache.txt").read_text() and re.search(
            r"SKIO_SANITIZE:\w+=ON", (BUILD / "CMakeCache.txt").read_text()):
        return None  # what has sanitizers is not what is installed
    prefix = bench.path("prefix")
    run("cmake", "--install", BUILD, "--prefix", prefix)
    return prefix


def test_install__everything_is_in_its_place(bench):
    prefix = install(bench)
    if prefix is None:
        return
    for path in ("bin/skblk", "lib/libskio.a", "lib/libskio_hosted.a", "include/skio/skio.h",
                 "include/skio_hosted/vhost_user.h", "lib/pkgconfig/skio.pc",
                 "lib/pkgconfig/skio_hosted.pc", "lib/cmake/skio/skioConfig.cmake",
                 "share/man/man1/skblk.1", "share/man/man1/nbdkit-skio-plugin.1",
                 "lib/nbdkit/plugins/nbdkit-skio-plugin.so"):
        assert (prefix / path).exists(), path
    assert run(prefix / "bin/skblk", "--version").text.startswith("skblk ")


def test_install__pkg_config_builds_a_program(bench):
    need("pkg-config", "gcc")
    prefix = install(bench)
    if prefix is None:
        return
    bench.path("user.c").write_text(PROGRAM)
    path = {**os.environ, "PKG_CONFIG_PATH": str(prefix / "lib/pkgconfig")}
    flags = run("pkg-config", "--cflags", "--libs", "--define-variable=prefix=%s" % prefix,
                "skio_hosted", env=path).text.split()
    flags = [flag.replace("/usr/local", str(prefix)) for flag in flags]
    run("gcc", "-std=c11", bench.path("user.c"), "-o", bench.path("user"), *flags)
    assert run(bench.path("user")).text == "ok\n"


def test_install__cmake_package_builds_a_program(bench):
    prefix = install(bench)
    if prefix is None:
        return
    bench.path("user.c").write_text(PROGRAM)
    bench.path("CMakeLists.txt").write_text(PROJECT)
    run("cmake", "-S", bench.folder, "-B", bench.path("out"), "-DCMAKE_PREFIX_PATH=%s" % prefix)
    run("cmake", "--build", bench.path("out"))
    assert run(bench.path("out/user")).text == "ok\n"


main(globals())
