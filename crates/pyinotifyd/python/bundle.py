"""Writes what the daemon hands to Python: ``python3 bundle.py OUT [PYTHON...]``.

OUT becomes a file that boot.py reads: a line that lists the sections (``MAGIC:OFFSET:SIZE ...``), then the sections,
one with the sources and one with the bytecode of each PYTHON. A section is, for each module, a line ``NAME IS_PACKAGE
SIZE`` and that many bytes. Bytecode is for one minor version of Python and halves the time of a start. What only type
checkers read is left out.

``python3 bundle.py --section OUT`` writes a single section, of the Python that runs it, and prints its MAGIC.
"""

from __future__ import annotations

import marshal
import subprocess
import sys
import tempfile
from importlib.util import MAGIC_NUMBER
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent / "pyinotifyd"


def modules() -> list[tuple[str, bool, Path]]:
    """Return name, whether it is a package, and path of all modules."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        package = parts[-1] == "__init__"
        found.append((".".join(parts[:-1] if package else parts), package, path))
    return found


def section(compiled: bool) -> bytes:
    """Return the section of the sources, or of this Python's bytecode."""
    parts = []
    for name, package, path in modules():
        content = without_types(path.read_bytes())
        if compiled:
            # Without docstrings, which nobody reads there.
            file_name = f"<pyinotifyd>/{name.replace('.', '/')}.py"
            content = marshal.dumps(compile(content, file_name, "exec", dont_inherit=True, optimize=2))
        parts += [f"{name} {int(package)} {len(content)}\n".encode("ascii"), content]
    return b"".join(parts)


def without_types(source: bytes) -> bytes:
    """Return a module with empty lines instead of its ``if TYPE_CHECKING:`` blocks."""
    kept: list[bytes] = []
    depth = None
    for line in source.splitlines(keepends=True):
        indent = len(line) - len(line.lstrip(b" "))
        if depth is not None and line.strip() and indent <= depth:
            depth = None
        if line.strip() == b"if TYPE_CHECKING:":
            depth = indent
        kept.append(line if depth is None else b"\n")
    return b"".join(kept)


def magic() -> str:
    """Return the name of this Python's section."""
    return f"{int.from_bytes(MAGIC_NUMBER, 'little'):08x}"


def bundle(sections: dict[str, bytes]) -> bytes:
    """Return the bundle of sections."""

    # The line's own length moves the sections: offsets of a fixed width keep it the same.
    def line(begin: int) -> bytes:
        parts = []
        for name, content in sections.items():
            parts.append(f"{name}:{begin:010}:{len(content)}")
            begin += len(content)
        return (" ".join(parts) + "\n").encode("ascii")

    return line(len(line(0))) + b"".join(sections.values())


def other_section(python: str) -> tuple[str, bytes]:
    """Return name and content of the section of another Python."""
    with tempfile.TemporaryDirectory() as directory:
        out = Path(directory, "section")
        command = [python, str(Path(__file__).resolve()), "--section", str(out)]
        name = subprocess.run(command, check=True, stdout=subprocess.PIPE, encoding="ascii").stdout.strip()
        return name, out.read_bytes()


def main(arguments: list[str]) -> None:
    """Write a section or the whole bundle."""
    if arguments[0] == "--section":
        Path(arguments[1]).write_bytes(section(compiled=True))
        print(magic())
        return
    sections = {"source": section(compiled=False)}
    for python in arguments[1:]:
        name, content = other_section(python)
        sections.setdefault(name, content)
    Path(arguments[0]).write_bytes(bundle(sections))


if __name__ == "__main__":
    main(sys.argv[1:])
