#!/usr/bin/env python3
"""Writes docs/reference.md from the docstrings of the Python package; with --check, says whether it is up to date.

Reads the sources instead of importing them: comments that begin with "#:" document attributes, and signatures stay as
they were written.
"""

from __future__ import annotations

import ast
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

DOCS = Path(__file__).resolve().parent
PACKAGE = DOCS.parent / "crates/pyinotifyd/python/pyinotifyd"
REFERENCE = DOCS / "reference.md"

LINE_MAX = 120

# What a reader meets when writing a config from top to bottom.
ORDER = [
    ("watch.py", "Pyinotifyd"),
    ("watch.py", "Watch"),
    ("watch.py", "EventMap"),
    ("scheduler.py", "Cancel"),
    ("scheduler.py", "TaskScheduler"),
    ("scheduler.py", "ShellScheduler"),
    ("scheduler.py", "FileManagerScheduler"),
    ("scheduler.py", "FileManagerRule"),
    ("options.py", "Retry"),
    ("options.py", "Settle"),
    ("options.py", "Batch"),
    ("event.py", "Event"),
    ("levels.py", "setLoglevel"),
    ("levels.py", "enableSyslog"),
]

HEAD = """\
# Reference

All names that a configuration finds without importing them, besides the log levels `DEBUG`, `INFO`, `WARNING`, `ERROR`
and `CRITICAL`. This page is generated from the package's docstrings by `docs/reference.py`; an editor shows the same
texts after `from pyinotifyd import *`. The [glossary](glossary.md) explains the words.

A configuration that begins with this line can be checked by `mypy --strict` and `pyright`, too. They find misspelled
names of events, actions and arguments, values of wrong types, and arguments that exclude each other. They take the
names of events from the dict where it is written: give a dict that has a variable of its own as
`EventMap(event_map={...})`.

"""

TAIL = """
## Regular expressions

`src_re` and `exclude_filter` are regular expressions of Python's `re`, `dst_re` is a template of its `sub`, as
CPython 3.11 to 3.13 understand them. The daemon matches them itself: the Python that executes the configuration
makes no difference. These are the limits and the differences:

- Letters and digits are those of Unicode 15.1 (Python 3.13). An older Python does not know all of them: U+11F1F,
  U+11F2D, U+1E065 and U+31F98 are `\\w` here and `\\W` in Python 3.11. Later ones, such as U+1C89, are `\\W`; under
  `(?i)` they match their other case all the same.
- `\\z`, with which `fnmatch.translate` of Python 3.14 ends, is `\\Z`. `\\B` does not match the empty text, as in
  Python up to 3.13.
- `(?a:…)` at the start of an expression also holds in `dst_re`, where CPython does not apply it while it searches.
- Refused when the configuration is loaded: `\\N{…}` (write the character or its `\\u` escape), more than 64 KiB,
  parentheses nested deeper than 200 levels, and counted repeats of more than 65,536 steps, such as
  `(?:ab){0,60000}`.
- Where an expression takes more than 500,000 steps on a path, the event makes no task and the log says so. Only
  nested repeats come near this limit, mostly together with a back reference or a condition.

## Exit statuses

Of the daemon, `pyinotifyd watch`, and questions to the program alone (`-t`, `--explain`):

| status | |
|---|---|
| 0 | a signal shut it down; the question has its answer, warnings included |
| 1 | the configuration cannot be used, the state or a socket that was asked for cannot be had, or it cannot go on |
| 2 | wrong usage, or missing privileges |
| 3 | `--install` or `--uninstall` could not do everything |
| 130 | SIGINT came while the configuration was executed or the state was opened |
| 143 | SIGTERM came while the configuration was executed for a question; the daemon ends with 0 then |
| N | the configuration called `sys.exit(N)` when the daemon started |

Of the commands that ask a daemon, such as `pyinotifyd status`:

| status | |
|---|---|
| 0 | it is done; a list may be empty |
| 1 | it was refused, or what it names is not there |
| 2 | wrong usage, also an id that is too short or ambiguous, or an unknown event |
| 3 | no daemon answers |

`doctor` ends with 1 if there is a problem, and with 0 if there are warnings alone. `import` ends with 1 if it left
something out or cannot read the file. 101 is a mistake of the program: please report it.

## Environment variables

The daemon, the config test, `--explain` and `doctor` read:

| variable | |
|---|---|
| `PYINOTIFYD_PYTHON` | the interpreter, unless `--python` names one |
| `VIRTUAL_ENV`, `PATH` | where `python3` is looked for then, after the directory of the program |
| `PYTHONPATH`, `PYTHONHOME`, `PYTHONPYCACHEPREFIX` | Python's own; root refuses directories that others can write |
| `STATE_DIRECTORY` | the state, unless `--state` or `state=` says otherwise; systemd sets it |
| `RUNTIME_DIRECTORY`, `XDG_RUNTIME_DIR` | where the control socket is by default, see [`control`](#pyinotifyd) |
| `NOTIFY_SOCKET`, `WATCHDOG_USEC`, `WATCHDOG_PID` | set by systemd: where and how often the daemon reports |
| `JOURNAL_STREAM` | set by systemd: whether stderr leads to the journal |

The commands that ask a daemon, such as `pyinotifyd status`, read:

| variable | |
|---|---|
| `PYINOTIFYD_CONTROL` | the socket, unless `--control` names one; the daemon itself does not read it |
| `RUNTIME_DIRECTORY`, `XDG_RUNTIME_DIR` | where they look else, besides `/run/pyinotifyd` |

All of them read `NO_COLOR` (no colours, if it is set and not empty) and `TZ`. `--install` and `--uninstall` read
`DESTDIR`, a directory instead of `/`. `import systemd-path` reads `HOME` for units of a user. Completion scripts set
`PYINOTIFYD_COMPLETE`.

A command of a ShellScheduler finds:

| variable | |
|---|---|
| `PYINOTIFYD_MASKNAME`, `PYINOTIFYD_PATHNAME` | the event and its path; with a batch, neither is set |
| `PYINOTIFYD_SRC_PATHNAME` | where the object was before a move; else empty |
| `PYINOTIFYD_TASK_ID` | the id of this task, as the log shows it |
| `PYINOTIFYD_ERROR` | why a task failed, at most 4 KiB; only for commands of an `on_failure` |
"""


def main() -> int:
    text = HEAD + wrapped(sections(heading="##")) + TAIL
    if "--check" in sys.argv[1:]:
        return report(REFERENCE, text)
    REFERENCE.write_text(text, encoding="utf-8")
    return 0


def wrapped(text: str) -> str:
    """The same Markdown with lines of at most LINE_MAX characters; the arguments of a long signature stand below it."""
    lines: list[str] = []
    is_code = False
    for line in text.split("\n"):
        is_code ^= line.startswith("```")
        if len(line) <= LINE_MAX:
            lines.append(line)
        else:
            indent = "    " if is_code else "  " if line.startswith("- ") else ""
            lines += textwrap.wrap(
                line, LINE_MAX, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
            )
    return "\n".join(lines)


def report(path: Path, text: str) -> int:
    """0 if the file holds the text, else 1 and a line that says how to make it."""
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return 0
    print(
        f"{path.relative_to(DOCS.parent)} is not up to date, run docs/reference.py and docs/man.py",
        file=sys.stderr,
    )
    return 1


def sections(heading: str) -> str:
    """The documentation of everything public, under headings of the given depth."""
    return "\n".join(section(PACKAGE / file, name, heading) for file, name in ORDER)


def section(path: Path, name: str, heading: str) -> str:
    source = path.read_text(encoding="utf-8")
    lines = source.splitlines()
    node = definition(ast.parse(source), name)
    parts = [f"{heading} {name}\n"]
    signed = initialiser(node) if isinstance(node, ast.ClassDef) else node
    if signed is not None and name != "Event":
        parts.append(f"```text\n{signature(name, signed)}\n```\n")
    parts.append(markdown(ast.get_docstring(node) or ""))
    if isinstance(node, ast.ClassDef):
        parts.extend(attribute_list(node, lines))
        parts.extend(method(member) for member in public_methods(node))
    return "\n".join(parts)


def definition(module: ast.Module, name: str) -> ast.ClassDef | ast.FunctionDef:
    found = (node for node in module.body if isinstance(node, (ast.ClassDef, ast.FunctionDef)))
    return next(node for node in found if node.name == name)


def initialiser(node: ast.ClassDef) -> ast.FunctionDef | None:
    return next((one for one in node.body if isinstance(one, ast.FunctionDef) and one.name == "__init__"), None)


def public_methods(node: ast.ClassDef) -> list[ast.FunctionDef]:
    members = [member for member in node.body if isinstance(member, ast.FunctionDef)]
    return [member for member in members if not member.name.startswith("_")]


def method(node: ast.FunctionDef) -> str:
    return f"`.{signature(node.name, node)}`\n\n{markdown(ast.get_docstring(node) or '')}"


def signature(name: str, node: ast.FunctionDef) -> str:
    """`name(a, b=1, *, c=None)`, without annotations: the arguments' texts say the types."""
    arguments = node.args
    words = [one.arg for one in arguments.args if one.arg != "self"]
    for index, default in enumerate(reversed(arguments.defaults), start=1):
        words[-index] += f"={shown(default)}"
    if arguments.kwonlyargs:
        words.append("*")
    for one, value in zip(arguments.kwonlyargs, arguments.kw_defaults):
        words.append(one.arg if value is None else f"{one.arg}={shown(value)}")
    return f"{name}({', '.join(words)})"


def shown(default: ast.expr) -> str:
    """A default as a reader understands it; names of private constants are replaced by what they stand for."""
    text = ast.unparse(default)
    private = {
        "_NO_VARIABLES": "{}",
        "_NO_TEXTS": "{}",
        "_NO_LIMITS": "{}",
        "SHELL_JOBS_DEFAULT": "64",
        "_SHUTDOWN_TIMEOUT": "30",
    }
    return private.get(text, text).replace("'", '"')


def markdown(docstring: str) -> str:
    """A docstring's paragraphs, its list of arguments and its example as Markdown."""
    text = re.sub(r"\*(\w+)\*", r"`\1`", docstring.replace("``", "`"))
    out: list[str] = []
    blocks = re.split(r"\n(?=Args:|Example::)", text)
    for block in blocks:
        if block.startswith("Args:"):
            out.extend(f"- `{name}`: {meaning}" for name, meaning in argument_list(block))
            out.append("")
        elif block.startswith("Example::"):
            code = "\n".join(line[4:] for line in block.splitlines()[2:]).rstrip()
            out.append(f"```python\n{code}\n```\n")
        else:
            out.append(block.strip() + "\n")
    return "\n".join(out)


def argument_list(block: str) -> Iterator[tuple[str, str]]:
    """Names and texts of an `Args:` block; a text goes on over deeper lines."""
    entry = re.compile(r"^    (\w+): (.*(?:\n {8}.*)*)", re.M)
    for match in entry.finditer(block):
        yield match[1], re.sub(r"\s+", " ", match[2])


def attribute_list(node: ast.ClassDef, lines: list[str]) -> Iterator[str]:
    """Public attributes with the "#:" comment above them."""
    found = []
    for member in node.body:
        if not isinstance(member, ast.AnnAssign) or not isinstance(member.target, ast.Name):
            continue
        comment = comment_above(lines, member.lineno)
        if comment and not member.target.id.startswith("_"):
            found.append(f"- `.{member.target.id}`: {comment}")
    if found:
        yield "\n".join(found) + "\n"


def comment_above(lines: list[str], number: int) -> str:
    words: list[str] = []
    for line in reversed(lines[: number - 1]):
        if not line.strip().startswith("#:"):
            break
        words.insert(0, line.strip()[2:].strip())
    return " ".join(words)


if __name__ == "__main__":
    sys.exit(main())
