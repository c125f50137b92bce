"""What holds the house together, checked as text: directions of dependencies, where `unsafe` may be, what must be
there.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PROJECT = Path(__file__).parent.parent
CRATES = PROJECT / "crates"

# What each crate of ours may depend on. The program may use all of them; nothing may use the program.
MAY_USE: dict[str, set[str]] = {
    "event": set(),
    "mounts": set(),
    "syscall": set(),
    "pattern": set(),
    "files": set(),
    "watcher": {"event", "mounts", "syscall"},
    "engine": {"event"},
    "pyinotifyd": {"event", "mounts", "pattern", "watcher", "engine", "files", "syscall"},
}


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
    separate = {"host": ("crate::action",), "action": ("crate::host",), "log": ("crate::host", "crate::action")}
    for module, strangers in separate.items():
        for path in (program / module).rglob("*.rs"):
            assert not any(stranger in path.read_text() for stranger in strangers), path


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
