"""Brings what the rows run: C programs, our daemon, the original in a virtual environment.

What can't be had on this machine is not an error: `Tools` says for each missing thing why it is missing.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

BENCH = Path(__file__).resolve().parent.parent
REPOSITORY = BENCH.parent
ORIGINAL_PACKAGES = ["pyinotify==0.9.6", "pyinotifyd==0.0.9"]
# pyinotify imports asyncore, which Python 3.12 took away.
ORIGINAL_PYTHON_BEFORE = (3, 12)
EAGER_TASKS_SINCE = (3, 12)
CC_FLAGS = ["-O2", "-std=gnu11", "-Wall", "-Wextra", f"-I{BENCH / 'limits'}"]


@dataclass
class Tools:
    """Everything at hand, and the reason for everything that is not."""

    programs: dict[str, Path] = field(default_factory=dict)
    ours: Path | None = None
    original: Path | None = None
    # The interpreter for our host, the original and the Python limits: one for all, so that they compare.
    python: Path = Path(sys.executable)
    # One that has eager tasks, if there is one.
    python_eager: Path | None = None
    inotifywait: Path | None = None
    missing: list[str] = field(default_factory=list)


def _run(argv: list[str], what: str) -> None:
    """Runs a build step; its output is shown only when it fails."""
    print(f"  {what}", file=sys.stderr, flush=True)
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=REPOSITORY, check=False)
    if done.returncode:
        tail = done.stdout.decode(errors="replace").strip().splitlines()[-8:]
        raise OSError(f"{what} failed: " + " / ".join(tail))


def _version(python: Path | str) -> tuple[int, int] | None:
    """None if it is not an interpreter that runs."""
    script = "import sys; print(*sys.version_info[:2])"
    try:
        done = subprocess.run([python, "-c", script], capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    major, minor = done.stdout.split()
    return int(major), int(minor)


def _interpreters(given: Iterable[Path]) -> list[tuple[tuple[int, int], Path]]:
    """Those given, else those that pyenv and PATH know; newest first."""
    candidates = list(given)
    if not candidates:
        candidates = [Path(found) for minor in range(20, 8, -1) if (found := shutil.which(f"python3.{minor}"))]
        if pyenv := shutil.which("pyenv"):
            root = subprocess.run([pyenv, "root"], capture_output=True, text=True, check=False).stdout.strip()
            candidates += Path(root).glob("versions/*/bin/python3")
        candidates.append(Path(sys.executable))
    versions = {python: _version(python) for python in candidates}
    return sorted(((version, python) for python, version in versions.items() if version), reverse=True)


def _build_c(tools: Tools, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for source in sorted([*BENCH.glob("limits/*.c"), *BENCH.glob("writers/*.c"), *BENCH.glob("measure/*.c")]):
        program = target / source.stem
        _run(["cc", *CC_FLAGS, "-o", str(program), str(source)], f"cc {source.name}")
        tools.programs[source.stem] = program


def _find_ours(tools: Tools, given: Path | None, *, build: bool) -> None:
    if given is None and build:
        try:
            _run(["cargo", "build", "--release", "-p", "pyinotifyd"], "cargo build --release -p pyinotifyd")
        except OSError as error:
            tools.missing.append(f"ours: {error}")
            return
    target = Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target"))
    program = given or target / "release" / "pyinotifyd"
    if program.is_file():
        tools.ours = program.resolve()
    else:
        tools.missing.append(f"ours: {program} is not there")


def _find_original(tools: Tools, given: Path | None, python: Path | None, venv: Path) -> None:
    if given is not None:
        tools.original = given.resolve()
        return
    program = venv / "bin" / "pyinotifyd"
    if not program.is_file():
        if python is None:
            tools.missing.append("original: it needs Python 3.11 or older, and none was found (see --python)")
            return
        try:
            _run([str(python), "-m", "venv", "--clear", str(venv)], f"{python} -m venv")
            _run([str(venv / "bin" / "pip"), "install", "--quiet", *ORIGINAL_PACKAGES], "pip install (the original)")
        except OSError as error:
            shutil.rmtree(venv, ignore_errors=True)
            tools.missing.append(f"original: {error}")
            return
    tools.original = program


def build(target: Path, *, ours: Path | None, original: Path | None, pythons: list[Path], build_ours: bool) -> Tools:
    """Builds into the directory `target`, which is kept for the next run.

    Raises OSError if the C programs, without which nothing can be measured, can't be built.
    """
    tools = Tools()
    _build_c(tools, target / "bin")
    interpreters = _interpreters(pythons)
    old = [python for version, python in interpreters if version < ORIGINAL_PYTHON_BEFORE]
    eager = [python for version, python in interpreters if version >= EAGER_TASKS_SINCE]
    if old:
        tools.python = old[0]
    if eager:
        tools.python_eager = eager[0]
    else:
        tools.missing.append("eager tasks: they need Python 3.12 or newer, and none was found (see --python)")
    _find_original(tools, original, old[0] if old else None, target / "original")
    _find_ours(tools, ours, build=build_ours)
    if found := shutil.which("inotifywait"):
        tools.inotifywait = Path(found)
    else:
        tools.missing.append("inotifywait: not installed (package inotify-tools)")
    return tools
