# SPDX-License-Identifier: MIT
"""The programs of others that skio is compared with, as Debian packages.

They are fetched with apt-get from the archive that this machine uses, with lists of their own, and
unpacked below build/peers.  Nothing is installed, nothing of the system changes, no root is needed.
"""
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
PEERS = ROOT / "build/peers"


class Missing(Exception):
    """Why a peer cannot be measured here."""


def say(text):
    print(text, file=sys.stderr, flush=True)


def need(*programs):
    for program in programs:
        if shutil.which(program) is None:
            raise Missing("needs %s" % program)


def run(*command, **options):
    """What a command prints.  Missing: it failed."""
    result = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True, **options)
    if result.returncode != 0:
        lines = (result.stderr.strip() or "status %d" % result.returncode).splitlines()
        reason = re.sub(r"\S+://\S+", "the archive", lines[-1])
        raise Missing("%s: %s" % (command[0], reason))
    return result.stdout


def release_field(name):
    for line in pathlib.Path("/etc/os-release").read_text().splitlines():
        if line.startswith(name + "="):
            return line.split("=", 1)[1].strip('"')
    return ""


def sources_of(suite):
    """The machine's own sources of its release's main archive, for another suite."""
    own = release_field("VERSION_CODENAME")
    folder = pathlib.Path("/etc/apt")
    found = []
    for path in [folder / "sources.list", *sorted(folder.glob("sources.list.d/*"))]:
        text = path.read_text() if path.is_file() else ""
        for line in re.findall(r"^deb .*$", text, re.M):
            fields = line.split()
            if own in fields:
                fields[fields.index(own)] = suite
                found.append((".list", " ".join(fields) + "\n"))
        for stanza in re.split(r"\n\s*\n", text) if path.suffix == ".sources" else []:
            suites = re.search(r"^Suites:(.*)$", stanza, re.M)
            if suites and own in suites.group(1).split():
                stanza = re.sub(r"^Suites:.*$", "Suites: " + suite, stanza, flags=re.M)
                found.append((".sources", re.sub(r"^(#.*|Architectures:.*)\n", "", stanza,
                                                 flags=re.M) + "\n"))
    if not found:
        raise Missing("no apt source of %s" % (own or "a Debian release"))
    return found


class Archive:
    """One suite for one architecture."""

    def __init__(self, suite=None, architecture=None):
        need("apt-get", "apt-cache", "dpkg", "dpkg-deb")
        suite = suite or release_field("VERSION_CODENAME")
        architecture = architecture or run("dpkg", "--print-architecture").strip()
        self.suite = suite
        self.folder = PEERS / ("apt-%s-%s" % (suite, architecture))
        self.options = [
            "-o", "Dir::Etc::sourcelist=/dev/null",
            "-o", "Dir::Etc::sourceparts=%s" % (self.folder / "sources"),
            "-o", "Dir::State=%s" % (self.folder / "state"),
            "-o", "Dir::State::status=%s" % (self.folder / "status"),
            "-o", "Dir::Cache=%s" % (self.folder / "cache"),
            "-o", "APT::Architecture=%s" % architecture,
            "-o", "APT::Architectures=%s" % architecture,
            "-o", "Acquire::Languages=none", "-o", "APT::Sandbox::User=",
        ]
        if not (self.folder / "complete").exists():
            self.update()

    def update(self):
        for name in ("sources", "state/lists/partial", "cache/archives/partial"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        (self.folder / "status").touch()
        for number, (suffix, text) in enumerate(sources_of(self.suite)):
            (self.folder / "sources" / ("%d%s" % (number, suffix))).write_text(text)
        say("reads what Debian %s has" % self.suite)
        run("apt-get", *self.options, "-qq", "update")
        (self.folder / "complete").touch()

    def dependency(self, name, pattern):
        """The package that `name` depends on and that matches."""
        fields = run("apt-cache", *self.options, "show", "--no-all-versions", name)
        match = re.search(r"^Depends:.*?\b(%s)" % pattern, fields, re.M)
        if match is None:
            raise Missing("%s depends on nothing like %s" % (name, pattern))
        return match.group(1)

    def download(self, name, folder):
        """The package's file.  Lists that are too old for the archive are read again."""
        try:
            run("apt-get", *self.options, "-qq", "download", name, cwd=folder)
        except Missing:
            self.update()
            run("apt-get", *self.options, "-qq", "download", name, cwd=folder)
        return next(pathlib.Path(folder).glob("*.deb"))

    def unpack(self, name):
        """The folder with what the package would install."""
        folder = PEERS / name
        if not folder.exists():
            say("fetches %s" % name)
            with tempfile.TemporaryDirectory(dir=PEERS) as scratch:
                unpacked = pathlib.Path(scratch) / "unpacked"
                run("dpkg-deb", "-x", self.download(name, scratch), unpacked)
                unpacked.rename(folder)
        return folder


def package(name, suite=None, architecture=None, depends=None):
    """The folder of an unpacked package, or of the one it depends on that matches `depends`."""
    if os.environ.get("INSTALL") == "no":
        raise Missing("INSTALL=no")
    archive = Archive(suite, architecture)
    return archive.unpack(archive.dependency(name, depends) if depends else name)
