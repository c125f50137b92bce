"""What goes with the program into a package: pages and examples, at places where the links between them hold."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SHARE = ROOT / "crates/pyinotifyd/share"
PYTHON = ROOT / "crates/pyinotifyd/python"

PAGES = ["README.md", "ARCHITECTURE.md", "BENCHMARKS.md", "bench/README.md", "bench/results.svg"]
DIRECTORIES = ["docs", "examples", "packaging/prometheus"]


def version() -> str:
    found = re.search(r'^version = "(.*)"', (ROOT / "Cargo.toml").read_text(), re.M)
    assert found is not None, "Cargo.toml has a version"
    return found[1]


def pages() -> Iterator[Path]:
    """Relative to the project. What only makes other pages is not for readers of a package."""
    yield from map(Path, PAGES)
    for directory in DIRECTORIES:
        for path in files(ROOT / directory):
            relative = path.relative_to(ROOT)
            makes_pages = relative.parent == Path("docs") and path.suffix == ".py"
            if not makes_pages and Path("docs/man") not in relative.parents:
                yield relative


def python_package() -> Iterator[Path]:
    """The package that editors and type checkers read, relative to `PYTHON`; the program carries its own."""
    return (path.relative_to(PYTHON) for path in files(PYTHON / "pyinotifyd"))


def files(directory: Path) -> list[Path]:
    return sorted(path for path in directory.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
