#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What the architecture promises, checked on the sources and on compiled objects.

    structure.py check [NAME...]     every check, or the named ones, on this tree
    structure.py selftest [NAME...]  plants a fault for each check in a copy and sees it found

A line for each case: "ok NAME", "not ok NAME" with what is wrong below, "skip NAME: needs X".
"""
import concurrent.futures
import hashlib
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
CROSS = "riscv64-linux-gnu-"
WARNINGS = ["-Wall", "-Wextra", "-Wshadow", "-Werror"]
FREESTANDING = {"stddef.h", "stdint.h", "stdbool.h", "stdarg.h", "stdatomic.h", "limits.h"}
SURROUNDINGS = {"memcpy", "memmove", "memset", "memcmp"}

# Which rooms a room may include; an arrow runs only downwards.
BELOW = {
    "base": {"base"},
    "memory": {"memory", "base"},
    "device": {"device", "memory", "base"},
    "bus": {"bus", "device", "memory", "base"},
    "virtio": {"virtio", "device", "memory", "base"},
    "block": {"block", "virtio", "device", "memory", "base"},
}
# The room of each public header.
ROOM_OF_HEADER = {
    "base": "address checked compiler endian log mmio platform status text",
    "memory": "dma_arena dma_domain io_buffer io_pool",
    "device": "device_manager device_node driver",
    "bus": "fdt platform_bus",
    "virtio": "virtio_mmio virtio_transport",
    "block": "block block_zone virtio_blk",
    "everything": "skio",
}
# What drivers may call of the room that manages memory: use it, never make it.
MEMORY_FOR_DRIVERS = re.compile(
    r"sk_io_buffer_(is_valid|is_coherent|data|size|capacity|address|segment|view|for_device"
    r"|for_cpu|hold|release|is_busy)$|sk_io_view_\w+$|sk_dma_domain_translate$|sk_dma_constraints_merge$")
# The face that users call may lend their memory to the device; no driver may.
MEMORY_FOR_THE_BLOCK_FACE = re.compile(r"sk_dma_domain_(map|unmap|quarantine)$")
# C11 atomics on memory that no device can write, and why.
PRIVATE_ATOMICS = {
    "include/skio/compiler.h": "names the type for C and C++",
    "src/device/device_node.c": "the claim of a node",
    "src/block/": "words that an interrupt handler or another queue's owner changes",
}
FUNCTION_LINES_MAX = 80
PRUNED = {".git", "build", "__pycache__"}


class Skip(Exception):
    """What a check needs and does not find."""


def need(*programs):
    for program in programs:
        if shutil.which(program) is None:
            raise Skip(program)


def files(root, *patterns):
    """Paths below root that fit one of the patterns, sorted, as (path, path from root)."""
    found = set()
    for pattern in patterns:
        found.update(path for path in root.glob(pattern) if path.is_file())
    pairs = [(path, path.relative_to(root).as_posix()) for path in sorted(found)]
    return [pair for pair in pairs if not PRUNED & set(pair[1].split("/"))]


def without_comments(text):
    """C source without comments and the insides of strings; lines stay where they are."""
    pattern = r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\''

    def blank(match):
        token = match.group(0)
        if token.startswith("/"):
            return re.sub(r"[^\n]", " ", token)
        return token[0] + token[0]

    return re.sub(pattern, blank, text, flags=re.S)


def includes(path):
    """(line, "<" or '"', name) of each include."""
    for number, line in enumerate(path.read_text().splitlines(), 1):
        match = re.match(r'\s*#\s*include\s*([<"])([^>"]+)[>"]', line)
        if match:
            yield number, match.group(1), match.group(2)


def room_of_public(name):
    stem = name.removeprefix("skio/").removesuffix(".h")
    for room, stems in ROOM_OF_HEADER.items():
        if stem in stems.split():
            return room
    return None


# --- what the sources include ---------------------------------------------------------------


def target_room(root, path, kind, name):
    """The room that an include leads to: a room's name, "freestanding", "arch" or None."""
    if kind == "<":
        if name in FREESTANDING:
            return "freestanding"
        return room_of_public(name) if name.startswith("skio/") else None
    for folder in (path.parent, root / "src"):
        target = (folder / name).resolve()
        if target.is_file() and target.is_relative_to(root / "src"):
            return target.relative_to(root / "src").parts[0]
        if target.is_file() and target.is_relative_to(root / "arch"):
            return "arch"
    return None


def check_includes_downwards(root):
    """The library's sources include their own room and those below."""
    problems = []
    for path, name in files(root, "src/*/*.[ch]"):
        room = name.split("/")[1]
        allowed = BELOW.get(room, set()) | {"freestanding"}
        if name == "src/base/door.h":
            allowed |= {"arch"}
        for line, kind, target in includes(path):
            found = target_room(root, path, kind, target)
            if found not in allowed:
                problems.append("%s:%d: room %s may not include %s (%s)"
                                % (name, line, room, target, found or "not a part of the library"))
    return problems


def check_public_headers_include_public(root):
    """Public headers include public headers of their own room and those below, nothing private."""
    problems = []
    for path, name in files(root, "include/skio/*.h"):
        room = room_of_public("skio/" + path.name)
        if room is None:
            problems.append("%s: in no room; ROOM_OF_HEADER of this test has the list" % name)
            continue
        allowed = set(BELOW) if room == "everything" else BELOW[room]
        for line, kind, target in includes(path):
            found = target_room(root, path, kind, target)
            if kind != "<" or found not in allowed | {"freestanding"}:
                problems.append("%s:%d: may not include %s" % (name, line, target))
    return problems


def check_rooms_know_no_more_than_they_must(root):
    """The block face knows no virtio, a transport no ring, a ring no transport."""
    rules = [
        (("include/skio/block.h", "src/block/block*.[ch]"), r"virtio"),
        (("src/virtio/ring*.[ch]",), r"transport|mmio|pci|virtio_blk"),
        (("src/virtio/*mmio*.[ch]", "src/virtio/*pci*.[ch]"), r"ring|virtio_blk"),
    ]
    return ["%s:%d: may not include %s" % (name, line, target)
            for patterns, forbidden in rules
            for path, name in files(root, *patterns)
            for line, _, target in includes(path) if re.search(forbidden, target)]


def check_kernel_uses_public_headers(root):
    """The kernel sees the library as a stranger does: <skio/...> and its own files."""
    problems = []
    for path, name in files(root, "kernel/**/*.[chS]"):
        for line, kind, target in includes(path):
            own = any((folder / target).resolve().is_relative_to(root / "kernel")
                      and (folder / target).is_file()
                      for folder in (path.parent, root / "kernel", root / "kernel/include"))
            public = kind == "<" and (room_of_public(target) or target in FREESTANDING)
            if not public and not (kind == '"' and own):
                problems.append("%s:%d: may not include %s" % (name, line, target))
    return problems


# What the other side of the rings shares with the library's: layouts, constants and the door.
DEVICE_SIDE = re.compile(r"hosted/src/device_\w+\.[ch]$")
SHARED_WITH_DEVICE_SIDE = {"base/door.h", "virtio/ring_split.h", "virtio/ring_packed.h"}


def check_hosted_uses_public_headers(root):
    """hosted/ sees the library as a stranger does, and nothing below it knows hosted/."""
    problems = []
    for path, name in files(root, "hosted/**/*.[ch]"):
        public = name.startswith("hosted/include/")
        for line, kind, target in includes(path):
            allowed = (room_of_public(target) or target in FREESTANDING
                       or target.startswith("skio_hosted/")) if kind == "<" else (
                not public and any((folder / target).resolve().is_relative_to(root / "hosted/src")
                                   and (folder / target).is_file()
                                   for folder in (path.parent, root / "hosted/src")))
            system = kind == "<" and not target.startswith("skio") and not public
            allowed = allowed or (target in SHARED_WITH_DEVICE_SIDE and DEVICE_SIDE.match(name))
            if not allowed and not system:
                problems.append("%s:%d: may not include %s" % (name, line, target))
    for path, name in files(root, "include/**/*.h", "src/**/*.[ch]", "kernel/**/*.[ch]"):
        for line, _, target in includes(path):
            if re.search(r"hosted|vhost", target):
                problems.append("%s:%d: may not include %s" % (name, line, target))
    return problems


# --- what the compiled library refers to ----------------------------------------------------

object_cache = {}
object_folder = tempfile.TemporaryDirectory(prefix="structure-")


def cross_flags(root):
    text = (root / "cmake/riscv64.cmake").read_text()
    return re.search(r'CMAKE_C_FLAGS_INIT\s+"([^"]*)"', text).group(1).split()


def compile_one(root, path, name, headers):
    content = path.read_bytes()
    key = hashlib.sha256(name.encode() + content + headers).hexdigest()
    if key not in object_cache:
        target = pathlib.Path(object_folder.name) / (key + ".o")
        command = [CROSS + "gcc", "-std=c11", "-O2", *cross_flags(root), "-I", root / "include",
                   "-I", root / "src", "-c", path, "-o", target]
        result = subprocess.run(command, capture_output=True, text=True)
        if result.returncode != 0:
            raise RuntimeError("%s does not compile:\n%s" % (name, result.stderr))
        object_cache[key] = target
    return name, object_cache[key]


def objects(root):
    """{source: object} of the library for riscv64, as the kernel gets it."""
    need(CROSS + "gcc", CROSS + "nm")
    headers = b"".join(path.read_bytes()
                       for path, _ in files(root, "include/skio/*.h", "src/*/*.h", "arch/*/*.h"))
    with concurrent.futures.ThreadPoolExecutor(max_workers=os.cpu_count() or 2) as pool:
        return dict(pool.map(lambda pair: compile_one(root, *pair, headers),
                             files(root, "src/*/*.c")))


def symbols(path):
    """[(letter, name)] as nm tells them."""
    text = subprocess.run([CROSS + "nm", path], capture_output=True, text=True, check=True).stdout
    return [(line.split()[-2], line.split()[-1]) for line in text.splitlines()]


def library_symbols(root):
    return {name: symbols(path) for name, path in objects(root).items()}


def check_drivers_cannot_allocate(root):
    """No object of the virtio and block rooms refers to anything that makes memory."""
    library = library_symbols(root)
    makers = {symbol for name, found in library.items() if name.startswith("src/memory/")
              for letter, symbol in found if letter in "TRDB"}
    makers |= {function for function, header in public_functions(root).items()
               if room_of_public(header.removeprefix("include/")) == "memory"}
    problems = []
    for name, found in library.items():
        if not name.startswith(("src/virtio/", "src/block/")):
            continue
        face = re.fullmatch(r"src/block/block(_\w+)?\.c", name)
        for letter, symbol in found:
            if letter != "U" or MEMORY_FOR_DRIVERS.match(symbol):
                continue
            if face and MEMORY_FOR_THE_BLOCK_FACE.match(symbol):
                continue
            if symbol in makers or re.search(r"alloc|free$|_create|arena|_pool_", symbol):
                problems.append("%s: refers to %s" % (name, symbol))
    return problems


def check_freestanding(root):
    """The library needs four functions of its surroundings and nothing else."""
    library = library_symbols(root)
    defined = {symbol for found in library.values() for letter, symbol in found if letter != "U"}
    return ["%s: refers to %s" % (name, symbol)
            for name, found in library.items() for letter, symbol in found
            if letter == "U" and symbol not in defined | SURROUNDINGS]


def check_no_writable_globals(root):
    """The library has no variables: any number of instances."""
    return ["%s: %s can be written" % (name, symbol)
            for name, found in library_symbols(root).items() for letter, symbol in found
            if letter in "dDbBsSgGCvV"]


def check_library_names(root):
    """Everything that the library exports is called sk_ or ski_."""
    return ["%s: exports %s" % (name, symbol)
            for name, found in library_symbols(root).items() for letter, symbol in found
            if letter in "TRDBC" and not re.match(r"ski?_", symbol)]


# --- headers --------------------------------------------------------------------------------


def check_headers_alone(root):
    """Each public header compiles alone and twice, as C11 and as C++17, with both compilers."""
    compilers = [("gcc", "c11", "c"), ("clang", "c11", "c"),
                 ("g++", "c++17", "c++"), ("clang++", "c++17", "c++")]
    need(*(compiler for compiler, _, _ in compilers))

    def attempt(job):
        (compiler, standard, language), (_, name) = job
        header = re.sub(r"^(hosted/)?include/", "", name)
        result = subprocess.run(
            [compiler, "-x", language, "-std=" + standard, *WARNINGS, "-I", root / "include",
             "-I", root / "hosted/include",
             *(["-Wno-shadow"] if language == "c++" else []), "-fsyntax-only", "-"],
            input="#include <%s>\n#include <%s>\n" % (header, header),
            capture_output=True, text=True)
        if result.returncode == 0:
            return None
        return "%s: %s as %s:\n%s" % (name, compiler, standard, result.stderr)

    jobs = [(compiler, header) for compiler in compilers
            for header in files(root, "include/skio/*.h", "hosted/include/*/*.h")]
    with concurrent.futures.ThreadPoolExecutor(max_workers=os.cpu_count() or 2) as pool:
        return [problem for problem in pool.map(attempt, jobs) if problem]


DECLARATION = re.compile(r"\b(sk_[a-z0-9_]+)\s*\(")


def public_functions(root, patterns=("include/skio/*.h",)):
    """{function: header} of what public headers declare or define."""
    found = {}
    for path, name in files(root, *patterns):
        text = re.sub(r"^\s*#(?:\\\n|[^\n])*", "", without_comments(path.read_text()), flags=re.M)
        depth = 0
        for line in text.splitlines():
            outside = depth == 0 or line.startswith("extern")
            if outside and not re.match(r"\s*(return|if|typedef)\b", line):
                match = DECLARATION.search(line)
                if match and not re.search(r"\(\*\s*$", line[:match.start()]):
                    found.setdefault(match.group(1), name)
            depth += line.count("{") - line.count("}")
    return found


def check_public_functions_are_tested(root):
    """Each public function that exists is called in a unit test."""
    tests = "\n".join(without_comments(path.read_text())
                      for path, _ in files(root, "tests/unit/**/*.c"))
    called = set(re.findall(r"\bsk_[a-z0-9_]+\b", tests))
    source = "\n".join(path.read_text()
                       for path, _ in files(root, "src/*/*.c", "include/skio/*.h"))
    problems = []
    for function, header in public_functions(root).items():
        exists = re.search(r"^[A-Za-z][^;{}=]*\b%s\([^;{}]*\)\s*\{" % function, source, re.M)
        if exists and function not in called:
            problems.append("%s: %s is in no unit test" % (header, function))
    return problems


def check_public_functions_exist(root):
    """Each function that a public header declares is defined."""
    defined = {symbol for found in library_symbols(root).values() for letter, symbol in found
               if letter in "TRDB"}
    inline = "\n".join(path.read_text() for path, _ in files(root, "include/skio/*.h"))
    return ["%s: %s is defined nowhere" % (header, function)
            for function, header in public_functions(root).items()
            if function not in defined
            and not re.search(r"static inline [^;{}]*\b%s\(" % function, inline)]


def check_hosted_functions_exist_and_are_tested(root):
    """Each function of hosted/'s public headers is defined there, and called in a test of it."""
    tests = "\n".join(without_comments(path.read_text())
                      for path, _ in files(root, "tests/hosted/*.c"))
    called = set(re.findall(r"\bsk_[a-z0-9_]+\b", tests))
    source = "\n".join(path.read_text() for path, _ in files(root, "hosted/src/*.c"))
    problems = []
    for function, header in public_functions(root, ("hosted/include/*/*.h",)).items():
        if not re.search(r"^[A-Za-z][^;{}=]*\b%s\([^;{}]*\)\s*\{" % function, source, re.M):
            problems.append("%s: %s is defined nowhere" % (header, function))
        elif function not in called:
            problems.append("%s: %s is in no test" % (header, function))
    return problems


# --- the text of the sources ----------------------------------------------------------------


def lines_that_match(path, pattern):
    for number, line in enumerate(without_comments(path.read_text()).splitlines(), 1):
        if re.search(pattern, line):
            yield number, line.strip()


def check_one_door(root):
    """Only door.h touches memory that a device can write."""
    everywhere = r"\bvolatile\b|\b__atomic_|\b__sync_|Wnoderef|SKI_DOOR_(OPEN|CLOSE)_"
    atomics = r"\b_Atomic\b|\batomic_\w+"
    problems = []
    for path, name in files(root, "src/*/*.[ch]", "include/skio/*.h", "hosted/src/device_*.[ch]"):
        if name == "src/base/door.h":
            continue
        for number, line in lines_that_match(path, everywhere):
            if not (name == "include/skio/mmio.h" and line == "volatile void *base;"):
                problems.append("%s:%d: belongs into door.h: %s" % (name, number, line))
        if not name.startswith(tuple(PRIVATE_ATOMICS)):
            for number, line in lines_that_match(path, atomics):
                problems.append("%s:%d: an atomic on what? %s" % (name, number, line))
    return problems


def check_clang_guards_the_door(root):
    """Clang refuses to dereference shared memory outside of the door."""
    need("clang")
    source = ('#include "base/door.h"\n'
              "uint8_t peek(uint8_t SKI_SHARED *shared);\n"
              "uint8_t peek(uint8_t SKI_SHARED *shared) { return %s; }\n")
    problems = []
    for expression, shall_pass in (("ski_door_load8(shared)", True), ("*shared", False),
                                   ("shared[3]", False)):
        passed = subprocess.run(
            ["clang", "-std=c11", "-Werror", "-I", root / "include", "-I", root / "src", "-x", "c",
             "-fsyntax-only", "-"], input=source % expression, capture_output=True,
            text=True).returncode == 0
        if passed != shall_pass:
            problems.append("src/base/door.h: clang %s %s"
                            % ("takes" if passed else "refuses", expression))
    return problems


def check_inline_assembly_in_arch(root):
    """Inline assembly stands below arch/ and, for the kernel, below kernel/riscv64 only."""
    return ["%s:%d: %s" % (name, number, line)
            for path, name in files(root, "src/**/*.[ch]", "include/**/*.h", "kernel/**/*.[ch]",
                                    "tools/**/*.[ch]", "hosted/**/*.[ch]")
            if not re.match(r"kernel/(arch/)?riscv64/", name)
            for number, line in lines_that_match(path, r"\b(__asm__|__asm|asm)\b")]


def check_function_length(root):
    """No function is longer than FUNCTION_LINES_MAX lines."""
    problems = []
    for path, name in files(root, "src/**/*.[ch]", "kernel/**/*.[ch]", "include/**/*.h",
                            "hosted/**/*.[ch]"):
        start = None
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if line.startswith("{"):
                start = number
            elif line.startswith("}") and start is not None:
                if number - start - 1 > FUNCTION_LINES_MAX:
                    problems.append("%s:%d: %d lines" % (name, start, number - start - 1))
                start = None
    return problems


def check_spdx(root):
    """Each source says its licence on top."""
    patterns = ["**/*.c", "**/*.h", "**/*.S", "**/*.py", "**/*.sh", "**/*.cmake", "**/*.ld",
                "**/CMakeLists.txt", "**/Makefile", "tools/*", ".ci/*", "**/*.lds", "**/*.dts"]
    return ["%s: no SPDX-License-Identifier: MIT in the first three lines" % name
            for path, name in files(root, *patterns)
            if not any("SPDX-License-Identifier: MIT" in line
                       for line in path.read_text(errors="replace").splitlines()[:3])]


def check_documents_name_what_exists(root):
    """Every sk_ and SK_ name in the documents exists in a public header."""
    headers = "\n".join(path.read_text() for path, _ in files(root, "include/skio/*.h",
                                                               "hosted/include/*/*.h"))
    exists = set(re.findall(r"\b(?:sk|SK)_\w+", headers))
    stems = {path.stem for path, _ in files(root, "src/*/*.[ch]", "include/skio/*.h",
                                            "hosted/src/*.[ch]", "hosted/include/*/*.h")}
    problems = []
    for path, name in documents(root):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            for match in re.finditer(r"\b(?:sk|SK)_\w+", line):
                word = match.group(0)
                pattern = word.endswith("_") or line[match.end():match.end() + 1] in ("*", "<")
                known = word in exists or word in stems or (
                    pattern and any(other.startswith(word) for other in exists))
                if not known:
                    problems.append("%s:%d: %s does not exist" % (name, number, word))
    return problems


def documents(root):
    found = files(root, "*.md", "docs/**/*.md")
    if not found:
        raise Skip("documents")
    return found


def fenced(path):
    """[(line, language, text)] of the fenced blocks of a document."""
    blocks = []
    start = language = None
    for number, line in enumerate(path.read_text().splitlines(), 1):
        match = re.match(r"\s*```\s*(\w*)", line)
        if match and start is None:
            start, language, text = number + 1, match.group(1), []
        elif match:
            blocks.append((start, language, "\n".join(text) + "\n"))
            start = None
        elif start is not None:
            text.append(line)
    return blocks


def check_documents_link_to_what_exists(root):
    """Every relative link in the documents leads somewhere."""
    problems = []
    for path, name in documents(root):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", line):
                if not re.match(r"\w+:", target) and not (path.parent / target).exists():
                    problems.append("%s:%d: %s does not exist" % (name, number, target))
    return problems


def check_documents_commands(root):
    """The commands in the documents name targets, presets and files that exist."""
    targets = set(re.findall(r"^([a-z]+):", (root / "Makefile").read_text(), re.M))
    variables = {"DISK", "WRITE", "RUN", "TRANSPORT", "QEMU_ARGS", "INSTALL"}
    presets = set(re.findall(r'"name": "([\w-]+)"', (root / "CMakePresets.json").read_text()))
    problems = []
    for path, name in documents(root):
        text = path.read_text()
        for start, language, block in fenced(path):
            if language not in ("sh", "bash", "shell", "console"):
                continue
            for number, line in enumerate(block.splitlines(), start):
                where = "%s:%d" % (name, number)
                command = line.strip().removeprefix("$ ")
                words = re.split(r"\s+", re.sub(r"\s#.*", "", command))
                if words[0] == "make":
                    plain = [word for word in words[1:] if re.fullmatch(r"[a-z-]+", word)]
                    target = plain[0] if plain else "help"
                    if target not in targets:
                        problems.append("%s: there is no make %s" % (where, target))
                    problems += ["%s: make knows no %s" % (where, variable) for variable
                                 in re.findall(r"\b([A-Z_]+)=", command.split(" ", 1)[-1])
                                 if variable not in variables]
                if re.match(r"(\./)?(tools|tests|examples|bench|\.ci)/", words[0]) \
                        and not (root / words[0]).exists():
                    problems.append("%s: there is no %s" % (where, words[0]))
        for preset in re.findall(r"--preset[ =]([\w-]+)", text):
            if preset not in presets:
                problems.append("%s: there is no preset %s" % (name, preset))
    return problems


def check_documents_code_compiles(root):
    """C code in the documents that begins with an include is a whole file and compiles."""
    need("gcc")
    problems = []
    for path, name in documents(root):
        for start, language, block in fenced(path):
            if language != "c" or "#include" not in block:
                continue
            result = subprocess.run(
                ["gcc", "-std=c11", "-ffreestanding", *WARNINGS, "-I", root / "include",
                 "-fsyntax-only", "-x", "c", "-"], input=block, capture_output=True, text=True)
            if result.returncode != 0:
                problems.append("%s:%d: does not pass:\n%s" % (name, start, result.stderr))
    return problems


CHECKS = {name.removeprefix("check_"): function
          for name, function in list(globals().items()) if name.startswith("check_")}


# --- seeded faults: what each check must find -----------------------------------------------


def added(name, text):
    def plant(root):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            file.write(text)
        return name
    return plant


def changed(name, before, after):
    def plant(root):
        path = root / name
        text = path.read_text()
        assert before in text, "%s has no %r to plant a fault in" % (name, before)
        path.write_text(text.replace(before, after, 1))
        return name
    return plant


SOURCE = "/* SPDX-License-Identifier: MIT */\n"
FAULTS = {
    "includes_downwards": [
        added("src/memory/fault.c", SOURCE + "#include <skio/device_node.h>\n"),
        added("src/base/fault.h", SOURCE + "#include <skio/block.h>\n"),
        added("src/virtio/fault.c", SOURCE + "#include <skio/fdt.h>\n"),
        added("src/bus/fault.c", SOURCE + "#include <stdlib.h>\n"),
        added("src/device/fault.c", SOURCE + '#include "../../arch/generic/barrier.h"\n'),
        added("src/device/fault.c", SOURCE + '#include "../../tests/support/environment.h"\n'),
    ],
    "public_headers_include_public": [
        added("include/skio/log.h", '#include "base/bytes.h"\n'),
        added("include/skio/dma_arena.h", "#include <skio/block.h>\n"),
        added("include/skio/nowhere.h", SOURCE),
    ],
    "rooms_know_no_more_than_they_must": [
        added("include/skio/block.h", "#include <skio/virtio_transport.h>\n"),
        added("src/virtio/ring_fault.c", SOURCE + "#include <skio/virtio_transport.h>\n"),
        added("src/virtio/fault_mmio.c", SOURCE + '#include "virtio/ring_split.h"\n'),
    ],
    "kernel_uses_public_headers": [
        added("kernel/fault.c", SOURCE + '#include "base/door.h"\n'),
        added("kernel/fault.c", SOURCE + '#include "../src/base/bytes.h"\n'),
        added("kernel/fault.c", SOURCE + "#include <stdio.h>\n"),
    ],
    "hosted_uses_public_headers": [
        added("hosted/src/fault.c", SOURCE + '#include "base/door.h"\n'),
        added("hosted/src/device_fault.c", SOURCE + '#include "virtio/device.h"\n'),
        added("hosted/src/fault.c", SOURCE + '#include "../../src/base/bytes.h"\n'),
        added("hosted/include/skio_hosted/fault.h", SOURCE + "#include <stdio.h>\n"),
        added("hosted/include/skio_hosted/fault.h", SOURCE + '#include "vhost_user_message.h"\n'),
        added("src/block/fault.c", SOURCE + "#include <skio_hosted/process.h>\n"),
        added("kernel/fault.c", SOURCE + "#include <skio_hosted/process.h>\n"),
    ],
    "drivers_cannot_allocate": [
        added("src/virtio/fault.c", SOURCE + "#include <skio/io_buffer.h>\n"
              "int ski_fault(struct sk_io_buffer *b, struct sk_dma_domain *d)\n"
              "{\n    return (int)sk_io_buffer_create(b, d, 1, 1);\n}\n"),
        added("src/block/virtio_blk_fault.c", SOURCE + "#include <skio/dma_arena.h>\n"
              "int ski_fault(struct sk_dma_arena *a, const struct sk_dma_run *r)\n"
              "{\n    return (int)sk_dma_arena_free(a, r);\n}\n"),
        added("src/block/fault.c", SOURCE + "void *malloc(unsigned long);\n"
              "void *ski_fault(void);\nvoid *ski_fault(void)\n{\n    return malloc(3);\n}\n"),
        added("src/block/virtio_blk_fault.c", SOURCE + "#include <skio/dma_domain.h>\n"
              "int ski_fault(struct sk_dma_mapping *m)\n"
              "{\n    return (int)sk_dma_domain_unmap(m, 0);\n}\n"),
    ],
    "freestanding": [
        added("src/base/fault.c", SOURCE + "int puts(const char *);\n"
              "int ski_fault(void);\nint ski_fault(void)\n{\n    return puts(\"\");\n}\n"),
        added("src/base/fault.c", SOURCE + "double ski_fault(long n);\n"
              "double ski_fault(long n)\n{\n    return (double)n / 3;\n}\n"),
    ],
    "no_writable_globals": [
        added("src/base/fault.c", SOURCE + "int ski_fault;\n"),
        added("src/base/fault.c", SOURCE + "int ski_fault(void);\nint ski_fault(void)\n"
              "{\n    static int calls = 7;\n    return calls++;\n}\n"),
    ],
    "library_names": [
        added("src/base/fault.c", SOURCE + "int helper(void);\nint helper(void)\n"
              "{\n    return 0;\n}\n"),
    ],
    "headers_alone": [
        added("include/skio/fault.h", SOURCE + "size_t sk_fault_size(void);\n"),
        added("hosted/include/skio_hosted/fault.h", SOURCE + "size_t sk_fault_size(void);\n"),
        added("include/skio/fault.h", SOURCE + "struct sk_fault { int class; };\n"),
        added("include/skio/fault.h", SOURCE + "#include <stddef.h>\n"
              "static inline size_t sk_fault_size(void) { return 1; }\n"),
    ],
    "public_functions_are_tested": [
        added("include/skio/fault.h", SOURCE + "static inline int sk_fault_get(void)\n"
              "{\n    return 1;\n}\n"),
    ],
    "public_functions_exist": [
        added("include/skio/log.h", "int sk_log_fault(void);\n"),
    ],
    "hosted_functions_exist_and_are_tested": [
        added("hosted/include/skio_hosted/process.h", "int sk_process_fault(void);\n"),
    ],
    "one_door": [
        added("src/virtio/fault.c", SOURCE + "static volatile int *there;\n"),
        added("hosted/src/device_fault.c", SOURCE + "static volatile int *there;\n"),
        added("src/virtio/fault.c", SOURCE + "int ski_fault(int *p)\n"
              "{\n    return __atomic_load_n(p, __ATOMIC_RELAXED);\n}\n"),
        added("src/virtio/fault.c", SOURCE + "#include <stdatomic.h>\n"
              "void ski_fault(void)\n{\n    atomic_thread_fence(memory_order_seq_cst);\n}\n"),
        added("src/virtio/fault.c", SOURCE + "SKI_DOOR_OPEN_\n"),
    ],
    "clang_guards_the_door": [
        changed("src/base/door.h", "#define SKI_SHARED __attribute__((noderef))",
                "#define SKI_SHARED"),
    ],
    "inline_assembly_in_arch": [
        added("src/block/fault.c", SOURCE + 'void f(void)\n{\n    __asm__("nop");\n}\n'),
        added("kernel/fault.c", SOURCE + 'void f(void)\n{\n    asm volatile("nop");\n}\n'),
    ],
    "function_length": [
        added("src/base/fault.c", SOURCE + "void f(void)\n{\n" + "    ;\n" * 81 + "}\n"),
        added("hosted/src/fault.c", SOURCE + "void f(void)\n{\n" + "    ;\n" * 81 + "}\n"),
    ],
    "spdx": [
        added("src/base/fault.c", "int ski_fault(void);\n"),
        added("tools/fault", "#!/bin/sh\n"),
    ],
    "documents_name_what_exists": [
        added("README.md", "Call `sk_io_buffer_fault` first.\n"),
        added("docs/fault.md", "The statuses are SK_ERR_FAULT and others.\n"),
    ],
    "documents_link_to_what_exists": [
        added("docs/fault.md", "Look at [this](../nowhere.md).\n"),
    ],
    "documents_commands": [
        added("docs/fault.md", "\n```sh\nmake sandwich\n```\n"),
        added("docs/fault.md", "\n```sh\n$ make run DISC=x.img\n```\n"),
        added("docs/fault.md", "\n```sh\ntools/fault --now\n```\n"),
        added("docs/fault.md", "`cmake --preset fault`\n"),
    ],
    "documents_code_compiles": [
        added("docs/fault.md", "\n```c\n#include <skio/skio.h>\nint f(void)\n{\n"
              "    return sk_fault();\n}\n```\n"),
    ],
}


def say(name, problems):
    if not problems:
        print("ok %s" % name)
        return True
    print("not ok %s" % name)
    for problem in problems:
        print("    " + problem.replace("\n", "\n    "))
    return False


def attempt(name, root):
    """The problems that a check sees; a source that does not compile is one."""
    try:
        return CHECKS[name](root)
    except RuntimeError as error:
        return [str(error)]


def run_checks(names):
    good = True
    for name in names:
        try:
            good &= say(name, attempt(name, ROOT))
        except Skip as what:
            print("skip %s: needs %s" % (name, what))
    return good


def copy_tree(target):
    shutil.copytree(ROOT, target, ignore=lambda folder, names: PRUNED & set(names))


def test_fault(name, plant):
    """None if the check finds the planted fault, and nothing before it was planted."""
    with tempfile.TemporaryDirectory(prefix="structure-") as folder:
        root = pathlib.Path(folder).resolve() / "tree"
        copy_tree(root)
        where = plant(root)
        problems = attempt(name, root)
        if any(where in problem and "does not compile" not in problem for problem in problems):
            return []
        return ["the fault in %s was not found; found: %s" % (where, problems or "nothing")]


def run_selftest(names):
    good = True
    for name in names:
        if name not in FAULTS:
            good &= say("seeded-%s" % name, ["this check has no seeded fault"])
            continue
        for number, plant in enumerate(FAULTS[name], 1):
            try:
                good &= say("seeded-%s-%d" % (name, number), test_fault(name, plant))
            except Skip as what:
                print("skip seeded-%s-%d: needs %s" % (name, number, what))
    return good


def main():
    if len(sys.argv) < 2 or sys.argv[1] not in ("check", "selftest"):
        sys.exit(__doc__)
    names = sys.argv[2:] or list(CHECKS)
    good = run_checks(names) if sys.argv[1] == "check" else run_selftest(names)
    sys.exit(0 if good else 1)


main()
