"""Rules for the source that no compiler checks: which crate may use which, where `unsafe` is, how long a line is."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tries import SKIPPED
from vocabulary import PROJECT

CRATES = PROJECT / "crates"

# What each crate of ours may depend on. The program may use all of them; nothing may use the program.
MAY_USE: dict[str, set[str]] = {
    "event": set(),
    "mounts": set(),
    "syscall": set(),
    "pattern": set(),
    "files": {"syscall"},
    "watcher": {"event", "mounts", "syscall"},
    "engine": {"event"},
    "ledger": set(),
    "control": {"syscall"},
    "pyinotifyd": {"control", "event", "mounts", "pattern", "watcher", "engine", "files", "ledger", "syscall"},
}


# Characters of a line, of prose as of code.
LINE_MAX = 120
# What a program or the kernel wrote is shown as it is: records of the daemon, signatures, results.
VERBATIM = re.compile(r"\s*(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} - pyinotifyd/|ValueError: )")
# A row of a table cannot be broken.
ROW = re.compile(r"\|.*\|$")
# Written by a program, or for one: nobody reads or wraps them.
GENERATED = re.compile(
    r"Cargo\.lock|.*/Cargo\.lock|LICENSE|bench/results\.svg|fuzz/corpus/.*|crates/pattern/src/tables\.rs"
    r"|docs/\w+\.svg|crates/pyinotifyd/share/(man|completions)/.*|packaging/prometheus/grafana-dashboard\.json"
)


def dependencies(crate: str) -> set[str]:
    """Return our own crates among the dependencies of a crate; those for its tests aside."""
    text = (CRATES / crate / "Cargo.toml").read_text()
    normal = text.partition("[dependencies]")[2].partition("\n[")[0]
    return {name for name in re.findall(r"^(\w+)", normal, re.M) if name in MAY_USE}


def sources() -> list[Path]:
    return sorted(path for path in CRATES.rglob("*.rs") if "target" not in path.parts)


@pytest.mark.parametrize("crate", sorted(MAY_USE))
def test_a_crate_depends_only_on_what_stands_below_it(crate: str) -> None:
    assert dependencies(crate) <= MAY_USE[crate]


def test_every_crate_has_its_place_in_the_map() -> None:
    crates = {path.parent.name for path in CRATES.glob("*/Cargo.toml")}
    architecture = (PROJECT / "ARCHITECTURE.md").read_text()
    assert crates == set(MAY_USE)
    assert all(f"| `{crate}` |" in architecture for crate in crates)


def test_unsafe_code_is_in_one_place() -> None:
    users = [path for path in sources() if re.search(r"\bunsafe\s*(\{|fn|impl)", path.read_text())]
    assert {path.relative_to(CRATES).parts[0] for path in users} <= {"syscall"}


def test_inside_the_program_nothing_imports_the_loop() -> None:
    program = CRATES / "pyinotifyd" / "src"
    for path in program.rglob("*.rs"):
        if "daemon" not in path.parts and path.name != "main.rs":
            assert "crate::daemon" not in path.read_text(), path
    separate = {"host": ("crate::action",), "action": ("crate::host",)}
    for module, strangers in separate.items():
        for path in (program / module).rglob("*.rs"):
            assert not any(stranger in path.read_text() for stranger in strangers), path
    for module in ("lane", "log", "similar"):
        for path in [*program.glob(f"{module}.rs"), *(program / module).rglob("*.rs")]:
            assert set(re.findall(r"\bcrate::(\w+)", path.read_text())) <= {module}, path


@pytest.mark.parametrize("crate", ["engine", "watcher"])
def test_time_is_passed_in(crate: str) -> None:
    """The monotonic clock, that is; the watcher asks the wall clock to judge the times of files."""
    for path in (CRATES / crate / "src").rglob("*.rs"):
        if "script" in path.parts:
            continue
        code = path.read_text().partition("#[cfg(test)]")[0]
        code = "\n".join(line for line in code.splitlines() if not line.lstrip().startswith("//"))
        assert "Instant::now(" not in code, path


def test_every_dependency_says_why_it_is_there() -> None:
    for manifest in CRATES.glob("*/Cargo.toml"):
        lines = manifest.read_text().splitlines()
        section = ""
        for before, line in zip(lines, lines[1:]):
            if line.startswith("["):
                section = line
            stranger = re.match(r"([\w-]+)\s*=", line)
            if "dependencies" in section and stranger and stranger[1] not in MAY_USE:
                # One reason may stand above several lines that belong together.
                assert before.startswith("#") or "=" in before, f"{manifest}: {line}"


def test_files_begin_with_what_they_are() -> None:
    for path in sources():
        if "fuzz" not in path.parts:
            assert path.read_text().startswith(("//!", "#!")), path


def versioned() -> Iterator[Path]:
    """The files under version control; where there is no git, as in an archive of the source, the test skips."""
    listed = subprocess.run(["git", "-C", PROJECT, "ls-files", "-z"], capture_output=True, check=False)
    if listed.returncode != 0:
        pytest.skip("needs the files under version control, which git lists")
    for name in filter(None, listed.stdout.split(b"\0")):
        path = PROJECT / os.fsdecode(name)
        if path.is_file() and not path.is_symlink():
            yield path


def test_lines_are_short() -> None:
    long = []
    for path in versioned():
        name = str(path.relative_to(PROJECT))
        if GENERATED.fullmatch(name):
            continue
        lines = path.read_bytes().decode("utf-8", "replace").split("\n")
        long += [
            f"{name}:{number}: {len(line)} characters"
            for number, line in enumerate(lines, 1)
            if len(line) > LINE_MAX and not VERBATIM.match(line) and not (name == "BENCHMARKS.md" and ROW.match(line))
        ]
    assert not long, "\n".join(long)


def test_rust_tests_that_skip_say_so_in_the_form_that_is_counted() -> None:
    """`tests/run` counts lines `skipped: REASON` that a test prints."""
    for path in sources():
        for text in re.findall(r'print(?:ln)?!\(\s*"([^"]*)"', path.read_text()):
            if re.match(r"skip", text, re.I) or "needs root" in text:
                assert re.match(rf"{SKIPPED}\S", text), f"{path}: {text}"


def expanded(name: str) -> list[str]:
    """`a/{b,c}.rs` as a shell expands it."""
    before, _, rest = name.partition("{")
    choices, _, after = rest.partition("}")
    return [f"{before}{choice}{after}".rstrip("/") for choice in choices.split(",")]


def test_what_the_map_names_is_there() -> None:
    """Files and functions that ARCHITECTURE.md has between backquotes, outside of its drawings."""
    text = re.sub(r"^```.*?^```", "", (PROJECT / "ARCHITECTURE.md").read_text(), flags=re.M | re.S)
    files = [f"/{path.relative_to(PROJECT)}" for path in versioned()]
    code = "\n".join(path.read_text() for path in CRATES.rglob("*") if path.suffix in (".rs", ".py"))
    missing = []
    for name in set(re.findall(r"`([^`\n]+)`", text)):
        found = True
        if re.fullmatch(r"[\w.{},]+(/[\w.{},]*)+", name):
            there = [re.compile(rf"/{re.escape(path)}(\.rs|/|$)") for path in expanded(name)]
            found = all(any(path.search(file) for file in files) for path in there)
        elif method := re.fullmatch(r"([A-Z]\w+)::(\w+)", name):
            is_type = re.search(rf"\b(struct|enum|trait) {method[1]}\b", code)
            found = bool(is_type and re.search(rf"\bfn {method[2]}\b|^ +{method[2]}\b", code, re.M))
        elif re.fullmatch(r"[a-z]+(_[a-z]+)+", name):
            found = bool(re.search(rf"\b{name}\b", code))
        missing += [] if found else [name]
    assert not missing


def drawing() -> dict[str, set[str]]:
    """The drawing of the crates in ARCHITECTURE.md: lines `CRATE -> CRATE CRATE ...` in a block of code."""
    architecture = (PROJECT / "ARCHITECTURE.md").read_text()
    blocks = [
        block for block in re.findall(r"^```.*?\n(.*?)^```", architecture, re.M | re.S) if "pyinotifyd ->" in block
    ]
    if not blocks:
        pytest.skip("ARCHITECTURE.md has no drawing of the crates yet")
    found = {}
    for line in blocks[0].splitlines():
        crate, _, uses = line.partition("->")
        assert re.fullmatch(r"\w+", crate.strip()), f"not a line of the drawing: {line}"
        found[crate.strip()] = set(uses.split())
    return found


def test_the_drawing_of_the_crates_is_what_cargo_has() -> None:
    drawn = drawing()
    crates = {path.parent.name for path in CRATES.glob("*/Cargo.toml")}
    assert drawn == {crate: dependencies(crate) for crate in crates}
