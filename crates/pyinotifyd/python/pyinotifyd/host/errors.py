"""What is wrong with a config, said so that its author finds it.

Owns the first line, the places in the user's own files, and tracebacks without frames of ours. Imported only when
something went wrong.
"""

from __future__ import annotations

import builtins
import linecache
import os
import re
import traceback

from ..checked import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from traceback import FrameSummary, StackSummary, TracebackException
    from typing import Any, Optional

# What the names of our own files begin with, in a directory, a zip and the daemon's bundle alike.
_OURS = os.path.dirname(os.path.dirname((lambda: None).__code__.co_filename)) + os.sep

# Where Python's own files and installed packages are.
_LIBRARY = os.path.dirname(os.path.abspath(os.__file__)) + os.sep
_PACKAGES = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")

# Locations of one fault: enough for each call of a deep one, and a bound for endless recursion.
LOCATIONS_MAX = 20


def fault(exception: BaseException) -> dict[str, object]:
    """Return the body of an ERROR frame."""
    return {
        "message": message(exception),
        "locations": _locations(exception),
        "traceback": format_traceback(exception),
    }


def message(exception: BaseException) -> str:
    """Return one line (or the lines of the exception's own text) that a person understands."""
    text = _text(exception)
    name = type(exception).__name__
    if not text:
        return f"{name} without a text"
    # A bare key or word says nothing without what it is about.
    if isinstance(exception, (LookupError, StopIteration)) or " " not in text:
        text = f"{name}: {text}"
    return text + _suggestion(exception, text)


def _text(exception: BaseException) -> str:
    try:
        return str(exception).strip()
    except Exception:
        return "<an exception whose text can't be made>"


def summary(exception: BaseException) -> str:
    """Return type and text, as the last line of a traceback."""
    try:
        return "".join(traceback.format_exception_only(type(exception), exception)).strip()
    except BaseException:  # code of the exception's own, which may raise anything
        return f"{type(exception).__name__}: <an exception whose text can't be made>"


def format_traceback(exception: BaseException) -> str:
    """Return the complete traceback without frames of ours; the last line alone where that is all that can be made."""
    try:
        report = traceback.TracebackException.from_exception(exception)
        for part in _chain(report):
            part.stack[:] = [frame for frame in part.stack if not _is_ours(frame.filename)]
        return "".join(report.format())
    except BaseException:  # as above; or a chain that is too deep
        return summary(exception) + "\n"


def _chain(report: TracebackException) -> Iterator[TracebackException]:
    """Go through a report, its causes and the members of groups, of which there may be thousands."""
    parts: list[Optional[TracebackException]] = [report]
    seen: set[int] = set()
    while parts:
        part = parts.pop()
        if part is None or id(part) in seen:
            continue
        seen.add(id(part))
        yield part
        parts += (part.__cause__, part.__context__, *(getattr(part, "exceptions", None) or ()))


def _is_ours(filename: str) -> bool:
    return filename.startswith((_OURS, "<frozen importlib", "<frozen runpy"))


def _locations(exception: BaseException) -> list[dict[str, object]]:
    """Return the user's own frames, innermost last; of a syntax error, where it is."""
    if isinstance(exception, SyntaxError) and exception.filename and exception.lineno:
        return [*_frames(exception), _syntax_location(exception)]
    if isinstance(exception, ConfigError):
        return [_line(*exception.at)] if exception.at else []
    return _frames(exception)


def _frames(exception: BaseException) -> list[dict[str, object]]:
    stack: StackSummary = traceback.TracebackException.from_exception(exception).stack
    foreign = [frame for frame in stack if not _is_ours(frame.filename)]
    own = [frame for frame in foreign if not _is_library(frame.filename)]
    return [_location(frame) for frame in (own or foreign)[-LOCATIONS_MAX:]]


def _is_library(filename: str) -> bool:
    if filename.startswith("<") or any(part in filename for part in _PACKAGES):
        return True
    return filename.startswith(_LIBRARY)


def _location(frame: FrameSummary) -> dict[str, object]:
    # The line as it is in the file: columns count from its begin, which frame.line has stripped.
    source = linecache.getline(frame.filename, frame.lineno or 0).rstrip("\n")
    column, end_column = _columns(frame, source)
    return {
        "file": frame.filename,
        "line": frame.lineno,
        "column": column,
        "end_column": end_column,
        "source": source,
    }


def _line(file: str, number: int) -> dict[str, object]:
    """Return a whole line as a location."""
    source = linecache.getline(file, number).rstrip("\n") or None
    return {"file": file, "line": number, "column": None, "end_column": None, "source": source}


def _columns(frame: Any, source: str) -> tuple[Optional[int], Optional[int]]:
    """Return first column and the one behind the last, from 1; Python 3.11 and newer know them, in bytes."""
    column, end = getattr(frame, "colno", None), getattr(frame, "end_colno", None)
    if column is None or not source:
        return None, None
    line = source.encode("utf-8", "surrogateescape")
    if end is None or getattr(frame, "end_lineno", None) != frame.lineno:
        end = len(line)
    return _characters(line, column) + 1, _characters(line, end) + 1


def _characters(line: bytes, count: int) -> int:
    return len(line[:count].decode("utf-8", "replace"))


def _syntax_location(error: SyntaxError) -> dict[str, object]:
    source = (error.text or "").rstrip("\n")
    column = error.offset if error.offset and error.offset > 0 else None
    end = getattr(error, "end_offset", None)
    if getattr(error, "end_lineno", None) != error.lineno or not (column and end and end > column):
        end = None
    return {"file": error.filename, "line": error.lineno, "column": column, "end_column": end, "source": source}


def _suggestion(exception: BaseException, text: str) -> str:
    """Return `, did you mean 'X'?` where a name is like one that there is."""
    if "did you mean" in text.lower():
        return ""
    from ..checked import similar

    wrong, known = _wrong_name(exception, text)
    if wrong in _FORMERLY:
        return f", did you mean {_FORMERLY[wrong]!r}?"
    return similar(wrong, known) if wrong else ""


# Names that people take from other programs and old texts.
_FORMERLY = {
    "Rule": "FileManagerRule",
    "FileRule": "FileManagerRule",
    "FileScheduler": "FileManagerScheduler",
    "Shell": "ShellScheduler",
    "ShellCommand": "ShellScheduler",
    "Scheduler": "TaskScheduler",
    "Task": "TaskScheduler",
    "goup": "group",
    "command": "cmd",
    "recursive": "rec",
    "autoadd": "auto_add",
    "exclude": "exclude_filter",
}


def _wrong_name(exception: BaseException, text: str) -> tuple[str, list[str]]:
    """Return the name that doesn't exist, and those that do."""
    if isinstance(exception, NameError):
        match = re.match(r"name '(\w+)' is not defined", text)
        return (match.group(1), _names_in_reach(exception)) if match else ("", [])
    if isinstance(exception, TypeError):
        match = re.search(r"unexpected keyword argument '(\w+)'", text)
        return (match.group(1), _arguments(text)) if match else ("", [])
    if isinstance(exception, AttributeError) and hasattr(exception, "obj"):
        name = exception.name
        if name and exception.obj is not None:
            return name, [known for known in dir(exception.obj) if known[0] != "_"]
    return "", []


def _names_in_reach(exception: BaseException) -> list[str]:
    """Return the names at the innermost frame."""
    trace = exception.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    if trace is None:
        return []
    frame = trace.tb_frame
    return [*frame.f_locals, *frame.f_globals, *dir(builtins)]


def _arguments(text: str) -> list[str]:
    """Return the arguments of the one of our classes that `text` names; of all, if it names none."""
    import pyinotifyd

    found: list[str] = []
    for name in pyinotifyd.__all__:
        thing = getattr(pyinotifyd, name)
        function = getattr(thing, "__init__", None) if isinstance(thing, type) else thing
        code = getattr(function, "__code__", None)
        if code is None:
            continue
        names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        if text.startswith((f"{name}.", f"{name}(")):
            return list(names)
        found.extend(names)
    return found


def keep_source(filename: str, source: bytes) -> None:
    """Let tracebacks show the lines that were executed, whatever becomes of the file."""
    import io
    import tokenize

    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(source).readline)
        lines = source.decode(encoding, "replace").splitlines(keepends=True)
    except SyntaxError:
        return
    linecache.cache[filename] = (len(source), None, lines, filename)


def exit_status(exception: SystemExit) -> tuple[int, Optional[str]]:
    """Return status and text of SystemExit as Python would end with them."""
    code = exception.code
    if code is None:
        return 0, None
    if isinstance(code, int):
        return int(code), None
    return 1, str(code)
