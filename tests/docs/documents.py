#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What the documents say, checked against the tree.  (Names, links and commands that exist are
tests/structure's business; this looks at what the words claim.)

    documents.py check [NAME...]     every check, or the named ones, on this tree
    documents.py selftest [NAME...]  plants a fault for each check in a copy and sees it found
    documents.py fill                copies the marked regions of sources into the documents

A line for each case: "ok NAME", "not ok NAME" with what is wrong below, "skip NAME: needs X".
"""
import html
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
PRUNED = {".git", "build", "__pycache__"}
PORT_LINES_MAX = 100
HOSTILE_CASES = 50
# Headers that a freestanding compiler brings.
COMPILERS = {"stddef.h", "stdint.h", "stdbool.h", "stdarg.h", "stdatomic.h", "limits.h"}
# What every kernel has, PORTING.md says.
FOUR = {"memcpy", "memmove", "memset", "memcmp"}


class Skip(Exception):
    """What a check needs and does not find."""


def need(*programs):
    for program in programs:
        if shutil.which(program) is None:
            raise Skip(program)


def documents(root):
    """[(path, path from root)] of all documents."""
    found = [*root.glob("*.md"), *root.glob("docs/**/*.md")]
    return [(path, path.relative_to(root).as_posix()) for path in sorted(found)]


def fenced(text):
    """[(line number, line before the fence, language, text)] of the fenced blocks."""
    blocks = []
    start = None
    before = ""
    for number, line in enumerate(text.splitlines(), 1):
        match = re.match(r"```\s*(\w*)", line)
        if match and start is None:
            start, mark, language, body = number + 1, before, match.group(1), []
        elif match:
            blocks.append((start, mark, language, "".join(body)))
            start = None
        elif start is not None:
            body.append(line + "\n")
        before = line if line.strip() else before
    return blocks


def region(root, path, name):
    """The lines of a source between /* [name] */ and /* [end] */, or None."""
    source = root / path
    if not source.is_file():
        return None
    match = re.search(r"^/\* \[%s\] \*/\n(.*?)^/\* \[end\] \*/$" % re.escape(name),
                      source.read_text(), re.M | re.S)
    return match.group(1) if match else None


MARK = re.compile(r"<!-- (\S+) \[(\w+)\] -->")


def check_code_is_in_a_source(root):
    """Every block of C is a marked region of a source file that is compiled and run."""
    problems = []
    for path, name in documents(root):
        for line, mark, language, body in fenced(path.read_text()):
            if language != "c":
                continue
            match = MARK.fullmatch(mark.strip())
            source = region(root, *match.groups()) if match else None
            if match is None:
                problems.append("%s:%d: no source is named above" % (name, line))
            elif source is None:
                problems.append("%s:%d: there is no %s [%s]" % (name, line, *match.groups()))
            elif source != body:
                problems.append("%s:%d: is not what %s [%s] says; documents.py fill copies it"
                                % (name, line, *match.groups()))
    return problems


def check_regions_are_used(root):
    """Every marked region of the examples stands in a document."""
    used = {MARK.fullmatch(mark.strip()).groups() for path, _ in documents(root)
            for _, mark, _, _ in fenced(path.read_text()) if MARK.fullmatch(mark.strip())}
    return ["%s: [%s] is in no document" % (path.relative_to(root).as_posix(), name)
            for path in sorted(root.glob("examples/**/*.c"))
            for name in re.findall(r"^/\* \[(\w+)\] \*/$", path.read_text(), re.M)
            if name != "end" and (path.relative_to(root).as_posix(), name) not in used]


def check_commands_run(root):
    """Blocks of commands are marked: those that say so run, in a copy of the tree."""
    problems = []
    for path, name in documents(root):
        for line, mark, language, body in fenced(path.read_text()):
            if language != "sh":
                continue
            mark = mark.strip()
            if re.fullmatch(r"<!-- not run: .+ -->", mark):
                continue
            match = re.fullmatch(r"<!-- run(?: needs ((?:\S+ )+))?\s*-->", mark)
            if match is None:
                problems.append("%s:%d: neither <!-- run --> nor <!-- not run: why --> above"
                                % (name, line))
                continue
            need(*(match.group(1) or "").split())
            with tempfile.TemporaryDirectory(prefix="documents-") as folder:
                copy = pathlib.Path(folder) / "tree"
                copy_tree(root, copy)
                result = subprocess.run(["sh", "-eu", "-c", body], cwd=copy, text=True,
                                        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT)
            if result.returncode != 0:
                problems.append("%s:%d: ends with status %d:\n%s"
                                % (name, line, result.returncode, result.stdout))
    return problems


PATH = re.compile(r"(?:[\w.*-]+/)+[\w.*-]*|[\w-]+\.(?:c|h|py|md|txt|json|svg)")


def check_paths_exist(root):
    """Every path in backticks exists, from the root or from the document's own folder."""
    tops = {path.name for path in root.iterdir()} | {"src", "build"}
    problems = []
    for path, name in documents(root):
        text = re.sub(r"^```.*?^```$", lambda block: "\n" * block.group(0).count("\n"),
                      path.read_text(), flags=re.M | re.S)
        for number, line in enumerate(text.splitlines(), 1):
            for word in re.findall(r"`([^`\s]+)`", line):
                word = word.split(":")[0]
                if not PATH.fullmatch(word) or word.startswith("build/") or word in COMPILERS:
                    continue
                if "/" in word and word.split("/")[0] not in tops:
                    continue
                places = (root, path.parent, root / "include/skio", root / "include")
                if not any(True for place in places for _ in place.glob(word.rstrip("/"))):
                    problems.append("%s:%d: there is no %s" % (name, number, word))
    return problems


def registered_tests(root):
    """Names of tests that a program really runs."""
    found = set()
    for path in root.glob("tests/**/*.c"):
        text = path.read_text()
        defined = set(re.findall(r"^static void (test_\w+)\(", text, re.M))
        named = re.findall(r"cmocka_unit_test\w*\(\s*(test_\w+)", text)
        found |= {name for name in defined if name in named or len(
            re.findall(r"\b%s\b" % name, text)) > 1}
    for path in root.glob("tests/**/*.py"):
        found |= set(re.findall(r"^\s*def (test_\w+)\(", path.read_text(), re.M))
    return found


def check_hostile_cases_have_tests(root):
    """docs/hostile-device.md: each case once, in order, with tests that run or a reason."""
    name = "docs/hostile-device.md"
    tests = registered_tests(root)
    rows = re.findall(r"^\| (\d+) \|(.*)\|([^|]*)\|$", (root / name).read_text(), re.M)
    problems = []
    if [int(number) for number, _, _ in rows] != list(range(1, HOSTILE_CASES + 1)):
        problems.append("%s: the cases are not 1 to %d in order" % (name, HOSTILE_CASES))
    for number, _, shown in rows:
        named = re.findall(r"`(\w+)`", shown)
        problems += ["%s: case %s: there is no test %s" % (name, number, test)
                     for test in named if test not in tests]
        problems += ["%s: case %s: %s is not named" % (name, number, test) for test in sorted(tests)
                     if test.startswith("test_hostile_%02d__" % int(number)) and test not in named]
        if not named and not re.match(r"\s*(not yet|does not apply): \S", shown):
            problems.append("%s: case %s: neither a test nor a reason" % (name, number))
    return problems


def check_tests_named_exist(root):
    """Every test that a document names runs."""
    tests = registered_tests(root)
    return ["%s: there is no test %s" % (name, test)
            for path, name in documents(root)
            for test in re.findall(r"`(test_\w+__\w+)`", path.read_text()) if test not in tests]


def check_smallest_port_is_small(root):
    """PORTING.md promises a port in fewer lines than PORT_LINES_MAX."""
    lines = len((root / "examples/port/port.c").read_text().splitlines())
    if lines >= PORT_LINES_MAX:
        return ["examples/port/port.c: %d lines" % lines]
    return []


def check_smallest_port_links(root):
    """Library and smallest port together need what examples/port/kernel.h declares, and no more."""
    need("gcc", "nm")
    wanted = set(re.findall(r"\b(kernel_\w+)\(", (root / "examples/port/kernel.h").read_text()))
    sources = [*sorted(root.glob("src/*/*.c")), root / "examples/read_disk.c",
               root / "examples/port/port.c"]
    with tempfile.TemporaryDirectory(prefix="documents-") as folder:
        result = subprocess.run(["gcc", "-std=c11", "-ffreestanding", "-fno-pic",
                                 "-fno-stack-protector", "-I",
                                 root / "include", "-I", root / "src", "-c", *sources],
                                cwd=folder, capture_output=True, text=True)
        if result.returncode != 0:
            return ["examples/port/port.c: does not compile:\n" + result.stderr]
        text = subprocess.run(["nm", *sorted(pathlib.Path(folder).glob("*.o"))], text=True,
                              capture_output=True, check=True).stdout
    symbols = [line.split()[-2:] for line in text.splitlines() if len(line.split()) > 1]
    defined = {name for letter, name in symbols if letter not in "Uw"}
    missing = {name for letter, name in symbols if letter == "U"} - defined
    return ["examples/port/kernel.h: %s is %s" % (
        name, "needed and not declared" if name in missing else "declared and not needed")
            for name in sorted(missing - FOUR ^ wanted)]


def platform_hooks(root):
    text = (root / "include/skio/platform.h").read_text()
    body = re.search(r"^struct sk_platform \{(.*?)^\};", text, re.M | re.S).group(1)
    body = re.sub(r"/\*.*?\*/", "", body, flags=re.S)
    return re.findall(r"^    (?! )[\w ]+(?: |\*)\(?\*?(\w+)(?:\)\(|;)", body, re.M)


def check_every_hook_is_explained(root):
    """PORTING.md speaks of every member of struct sk_platform."""
    text = (root / "PORTING.md").read_text()
    return ["PORTING.md: no word about `%s`" % hook for hook in platform_hooks(root)
            if "`%s`" % hook not in text]


def check_log_lines_exist(root):
    """PORTING.md's table of symptoms quotes what the sources really say."""
    table = (root / "PORTING.md").read_text().split("| you see | cause |")[1]
    source = "".join(path.read_text() for folder in ("src", "include", "kernel")
                     for path in sorted(root.glob(folder + "/**/*.[ch]")))
    strings = " ".join(re.findall(r'"((?:[^"\\\n]|\\.)*)"', source))
    return ["PORTING.md: nothing says %r" % words
            for row in re.findall(r"^\| ([^|]*) \|", table, re.M)
            for words in re.findall(r"`([^`]* [^`]*)`", row) if words not in strings]


def implemented_features(root):
    text = "".join(path.read_text() for path in sorted(root.glob("src/block/virtio_blk*.c")))
    body = re.search(r"ski_blk_wanted_features\([^;{]*\{(.*?)^\}", text, re.M | re.S).group(1)
    names = set(re.findall(r"SK_VIRTIO_(?:BLK_)?F_(\w+)", body))
    device = (root / "src/virtio/device.c").read_text()
    body = re.search(r"always_accepted\(void\)\s*\{(.*?)^\}", device, re.M | re.S).group(1)
    return names | set(re.findall(r"SK_VIRTIO_F_(\w+)", body))


def check_feature_table(root):
    """README.md's table of feature bits says what the driver negotiates, and all of it."""
    said = dict(re.findall(r"^\| `([A-Z][A-Z0-9_]+)` \| (yes|no)\b", (root / "README.md").read_text(),
                           re.M))
    does = implemented_features(root)
    exist = set()
    for header in ("virtio_blk.h", "virtio_transport.h"):
        exist |= set(re.findall(r"^#define SK_VIRTIO_(?:BLK_)?F_(\w+)",
                                (root / "include/skio" / header).read_text(), re.M))
    problems = ["README.md: nothing about feature %s" % name for name in sorted(exist - set(said))]
    problems += ["README.md: says %s to %s" % (answer, name) for name, answer in said.items()
                 if (answer == "yes") != (name in does)]
    return problems


def check_layout_is_complete(root):
    """README.md's picture of the tree has every folder, and no other."""
    blocks = [body for _, mark, _, body in fenced((root / "README.md").read_text())
              if mark.strip() == "<!-- layout -->"]
    if len(blocks) != 1:
        return ["README.md: no block marked <!-- layout -->"]
    said = set(re.findall(r"^((?:[\w.-]+/)+)\s", blocks[0], re.M))
    exist = {path.name + "/" for path in root.iterdir()
             if path.is_dir() and path.name not in PRUNED and not path.name.startswith(".")}
    rooms = {"src/%s/" % path.name for path in (root / "src").iterdir() if path.is_dir()}
    problems = ["README.md: the layout has no %s" % name
                for name in sorted((exist | rooms) - said) if name != "src/" and
                not any(other.startswith(name) for other in said)]
    problems += ["README.md: the layout has %s, the tree has not" % name for name in sorted(said)
                 if not (root / name).is_dir()]
    return problems


def check_options_are_explained(root):
    """README.md has every variable of tools/help, and no other."""
    known = set(re.findall(r"^ *([A-Z_]+)=", (root / "tools/help").read_text(), re.M))
    said = set(re.findall(r"^\| `([A-Z_]+)=", (root / "README.md").read_text(), re.M))
    return ["README.md: %s=: %s" % (name, "not explained" if name in known else "does not exist")
            for name in sorted(known ^ said)]


def check_figures_are_the_measured_ones(root):
    """The tables of docs/figures.md and README.md are made from the output that stands there."""
    result = subprocess.run([sys.executable, root / "tools/figures", "check"],
                            capture_output=True, text=True)
    if result.returncode == 0:
        return []
    return result.stdout.splitlines() or [result.stderr]


def check_shell_is_explained(root):
    """README.md names every command and every setting of the kernel."""
    text = (root / "README.md").read_text()
    commands = re.findall(r'^    \{ "(\w+)", "', (root / "kernel/commands.c").read_text(), re.M)
    settings = re.findall(r'^    \{ "(\w+)", [A-Z]+, ', (root / "kernel/settings.c").read_text(),
                          re.M)
    if not commands or not settings:
        return ["README.md: kernel/commands.c or kernel/settings.c has no table that is understood"]
    return (["README.md: nothing about the command %s" % name for name in commands
             if not re.search(r"`%s[`; ]" % name, text)] +
            ["README.md: nothing about the setting %s=" % name for name in settings
             if not re.search(r"\b%s=" % name, text)])


def check_picture_is_its_text(root):
    """docs/run.svg shows docs/run.txt: one session."""
    shown = [html.unescape(text) for text in
             re.findall(r"<text [^>]*>(.*?)</text>", (root / "docs/run.svg").read_text())]
    if shown != (root / "docs/run.txt").read_text().splitlines():
        return ["docs/run.svg: shows something else than docs/run.txt; tools/picture draws both"]
    return []


CHECKS = {name.removeprefix("check_"): function
          for name, function in list(globals().items()) if name.startswith("check_")}


# --- seeded faults: what each check must find -----------------------------------------------


def added(name, text):
    def plant(root):
        with (root / name).open("a") as file:
            file.write(text)
        return name
    return plant


def changed(name, pattern, after):
    def plant(root):
        text = (root / name).read_text()
        fault, count = re.subn(pattern, after, text, count=1, flags=re.M | re.S)
        assert count == 1, "%s has no %r to plant a fault in" % (name, pattern)
        (root / name).write_text(fault)
        return name
    return plant


def alone(name, text):
    """A document without any other beside it."""
    def plant(root):
        for path, _ in documents(root):
            path.unlink()
        (root / name).write_text(text)
        return name
    return plant


FAULTS = {
    "code_is_in_a_source": [
        changed("README.md", r"sk_block_read\(", "sk_block_write("),
        added("PORTING.md", "\nText.\n\n```c\nint x;\n```\n"),
        added("DESIGN.md", "\n<!-- examples/read_disk.c [nothing] -->\n```c\nint x;\n```\n"),
    ],
    "regions_are_used": [
        added("examples/read_disk.c", "/* [fault] */\n/* [end] */\n"),
    ],
    "commands_run": [
        alone("README.md", "<!-- run -->\n```sh\nfalse\ntrue\n```\n"),
        alone("README.md", "<!-- run -->\n```sh\necho $undefined\n```\n"),
        alone("README.md", "Words.\n\n```sh\ntrue\n```\n"),
    ],
    "paths_exist": [
        added("DESIGN.md", "Look into `src/base/nowhere.c`.\n"),
        added("DESIGN.md", "Look into `src/memory/no_*.c`.\n"),
    ],
    "hostile_cases_have_tests": [
        changed("docs/hostile-device.md", r"^(\| \d+ \|[^\n]*)`test_", r"\1`test_fault_"),
        changed("docs/hostile-device.md", r"`test_hostile_01__\w+` ", ""),
        changed("docs/hostile-device.md", r"^\| 7 \|.*?\n", ""),
        changed("docs/hostile-device.md", r"^(\| 9 \|.*\|)[^|\n]*\|$", r"\1 surely |"),
    ],
    "tests_named_exist": [
        added("CONTRIBUTING.md", "As in `test_fault_call__never_works`.\n"),
    ],
    "smallest_port_is_small": [
        added("examples/port/port.c", "\n" * PORT_LINES_MAX),
    ],
    "smallest_port_links": [
        changed("examples/port/kernel.h", r"^#endif", "void kernel_fault(void);\n#endif"),
    ],
    "every_hook_is_explained": [
        lambda root: changed("include/skio/platform.h", r"(\(\*now_ns\)\(void \*context\);)",
                             r"\1\n    void (*fault)(void *context);")(root) and "PORTING.md",
    ],
    "log_lines_exist": [
        changed("PORTING.md", r"`no answer for a`", "`no answer for fault`"),
    ],
    "feature_table": [
        changed("README.md", r"^\| `FLUSH` \| yes", "| `FLUSH` | no"),
        changed("README.md", r"^\| `SR_IOV` \| no", "| `SR_IOV` | yes"),
        changed("README.md", r"^\| `RING_RESET` \|[^\n]*\n", ""),
    ],
    "layout_is_complete": [
        changed("README.md", r"^src/memory/ [^\n]*\n", ""),
        changed("README.md", r"^src/memory/ ", "src/memories/ "),
    ],
    "figures_are_the_measured_ones": [
        changed("README.md", r"every check on \| [\d.]+ ns", "every check on | 1.234 ns"),
        changed("docs/figures.md", r"^(\| a read, split ring, alone, ns \|) [\d.]+", r"\1 1.234"),
    ],
    "shell_is_explained": [
        changed("README.md", r"`uptime`", "`downtime`"),
        changed("README.md", r"segments=", "pieces="),
    ],
    "picture_is_its_text": [
        changed("docs/run.svg", r"SimpleKernel", "ComplexKernel"),
    ],
    "options_are_explained": [
        changed("README.md", r"^\| `DISK=", "| `DISC="),
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


def run_checks(names):
    good = True
    for name in names:
        try:
            good &= say(name, CHECKS[name](ROOT))
        except Skip as what:
            print("skip %s: needs %s" % (name, what))
    return good


def copy_tree(root, target):
    shutil.copytree(root, target, ignore=lambda folder, names: PRUNED & set(names))


def test_fault(name, plant):
    """Nothing if the check finds the planted fault."""
    with tempfile.TemporaryDirectory(prefix="documents-") as folder:
        root = pathlib.Path(folder).resolve() / "tree"
        copy_tree(ROOT, root)
        where = plant(root)
        problems = CHECKS[name](root)
        if any(problem.startswith(where) for problem in problems):
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


def fill():
    """Copies each named region into its block, and names each test of a hostile case."""
    tests = registered_tests(ROOT)

    def put_tests(row):
        own = sorted(test for test in tests if test.startswith("test_hostile_%02d__" % int(row[1])))
        others = [test for test in re.findall(r"`(\w+)`", row[3]) if test in tests
                  and not test.startswith("test_hostile_")]
        if not own and not others:
            return row[0]
        return "| %s |%s| %s |" % (row[1], row[2],
                                   " ".join("`%s`" % test for test in own + others))

    for path, _ in documents(ROOT):
        def put(match):
            body = region(ROOT, match.group(2), match.group(3))
            return match.group(1) + (match.group(4) if body is None else body) + "```"

        text = path.read_text()
        filled = re.sub(r"(<!-- (\S+) \[(\w+)\] -->\n```c\n)(.*?)```", put, text, flags=re.S)
        if path.name == "hostile-device.md":
            filled = re.sub(r"^\| (\d+) \|(.*)\|([^|]*)\|$", put_tests, filled, flags=re.M)
        if filled != text:
            path.write_text(filled)
    return True


def main():
    modes = {"check": run_checks, "selftest": run_selftest}
    if sys.argv[1:] == ["fill"]:
        sys.exit(0 if fill() else 1)
    if len(sys.argv) < 2 or sys.argv[1] not in modes:
        sys.exit(__doc__)
    sys.exit(0 if modes[sys.argv[1]](sys.argv[2:] or list(CHECKS)) else 1)


main()
