"""What all objects of a config have in common: checked attributes, and the place where they were made.

Owns the checks' texts, which are an interface: people search for them. Leaves what an attribute means to `scheduler`
and `watch`.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType, FrameType
    from typing import ClassVar, NoReturn, Optional, Union

    Place = tuple[str, int]
    Number = Union[int, float]

# Delays and timeouts beyond this (31 years) are mistakes of unit, and would overflow clocks further on.
SECONDS_MAX = 1_000_000_000

# Characters of a value in a message.
SHOWN_MAX = 80

_NONE = type(None)

# Attributes that hold names: of loggers, users and groups.
_NAMES = frozenset(("group", "logname", "user"))

# Bytes of code within which Python finds a line quickly.
_FAR = 20_000

# Where the lines of longer code begin, and their numbers, by the code's id.
_lines: dict[int, tuple[CodeType, list[int], list[int]]] = {}

# Methods through which subclasses used to reach into the running of tasks. The daemon does that itself, outside of
# Python, so an override would be dead code that looks alive.
_RUNNING = frozenset(
    (
        "cancel",
        "pause",
        "process_cancel_event",
        "process_default",
        "process_event",
        "schedule",
        "shutdown",
        "start",
        "stop",
        "taskindex",
        "_get_rule_by_event",
        "_manager_job",
        "_run_job",
        "_shell_job",
    )
)


class _Force:
    """Whether the config is in force: it has been described to the daemon, so that changes would have no effect."""

    begun = False


def put_in_force() -> None:
    """Refuse all changes from now on."""
    _Force.begun = True


def in_force() -> bool:
    """Say whether changes are refused."""
    return _Force.begun


class ConfigError(AssertionError):
    """A fault that shows only when the whole config has been executed, at the place where its object was made."""

    def __init__(self, text: str, at: Optional[Place]) -> None:
        """Remember text and place."""
        super().__init__(text)
        self.at = at


def expect(name: str, value: object, *kinds: type) -> None:
    """Raise AssertionError unless `value` is an instance of one of `kinds`."""
    if not isinstance(value, kinds):
        called = [getattr(kind, "_called", "") for kind in kinds]
        wanted = " or ".join(own or str(kind) for own, kind in zip(called, kinds))
        expected(name, f"{wanted} instead of {shown(value)}" if any(called) else wanted, value)


def expected(name: str, wanted: str, value: object, hint: str = "") -> NoReturn:
    """Raise the AssertionError that says what `name` should have been."""
    raise AssertionError(f"{name}: expected {wanted}, got {type(value)}{hint}")


def shown(value: object) -> str:
    """Return the text of a value for a message, in one line that is not too long."""
    try:
        text = repr(value)
    except Exception:
        return "a value whose text can't be made"
    text = " ".join(text.split())
    return text if len(text) <= SHOWN_MAX else f"{text[:SHOWN_MAX]}..."


def seconds(name: str, value: Number, bool_as_before: bool = False) -> None:
    """Raise unless `value` is a length of time that clocks can hold; some are True in configs for pyinotifyd 1."""
    if not bool_as_before:
        refuse_bool(name, value, "seconds")
    expect(name, value, int, float)
    if not -SECONDS_MAX <= value <= SECONDS_MAX:  # False for NaN, too
        raise AssertionError(f"{name}: expected at most {SECONDS_MAX} seconds, got {value}")
    if value < 0:
        raise AssertionError(f"{name}: expected 0 or more seconds, got {value}")


def refuse_bool(name: str, value: object, wanted: str) -> None:
    """Raise if `value` is True or False, which Python takes for 1 and 0."""
    if isinstance(value, bool):
        raise AssertionError(f"{name}: expected {wanted}, got {value}")


def expect_utf8(name: str, value: str) -> None:
    """Raise if `value` stands for bytes that are no text, which only a path can have."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise AssertionError(f"{name}: expected a text in UTF-8, got {shown(value)}") from None


def expect_path(name: str, value: str) -> None:
    """Raise unless `value` can be a path."""
    expect(name, value, str)
    if not value:
        raise AssertionError(f"{name}: expected a path, got an empty string")
    if "\0" in value:
        raise AssertionError(f"{name}: a path can't hold a NUL byte: {value!r}")
    refuse_tilde(name, value)


def expect_absolute_path(name: str, value: object) -> None:
    """Raise unless `value` is a path that means the same in every directory."""
    expect_path(name, value)  # type: ignore[arg-type]  # checked there
    if not value.startswith("/"):  # type: ignore[attr-defined]  # a str, as of the check
        raise AssertionError(f"{name}: expected an absolute path, got {value!r}")


def one_of_words(name: str, value: object, words: list[str]) -> None:
    """Raise unless `value` is one of `words`."""
    expect(name, value, str)
    if value not in words:
        hint = similar(value, words)  # type: ignore[arg-type]  # a str, as of the check
        raise AssertionError(f"{name}: expected one of {', '.join(words)}, got {value}{hint}")


def refuse_tilde(name: str, value: str) -> None:
    """Raise if `value` is a path that a shell would expand."""
    if value.startswith("~"):
        raise AssertionError(f"{name}: ~ is not expanded, write os.path.expanduser({value!r})")


def place() -> Optional[Place]:
    """File and line of the innermost code that is not ours: where the user makes the object at hand."""
    caller = called_by()
    return caller and caller[1]


def called_by() -> Optional[tuple[str, Place]]:
    """Name of the innermost function that is not ours, and where it is."""
    frame = sys._getframe(1)
    while frame is not None:
        module = frame.f_globals.get("__name__")
        if not isinstance(module, str) or module.partition(".")[0] != "pyinotifyd":
            return frame.f_code.co_name, (frame.f_code.co_filename, _line_of(frame))
        frame = frame.f_back  # type: ignore[assignment]  # None at the outermost frame
    return None


def _line_of(frame: FrameType) -> int:
    """Return the line of a frame; Python looks for it from the start of the code, which may be long."""
    code = frame.f_code
    if frame.f_lasti < _FAR or not hasattr(code, "co_lines"):  # Python 3.9 has none
        return frame.f_lineno
    from bisect import bisect_right

    if id(code) not in _lines:
        table = [(start, line) for start, _, line in code.co_lines() if line is not None]
        # The code is kept with its lines, so that no other can get its id.
        _lines[id(code)] = code, [start for start, _ in table], [line for _, line in table]
    _, starts, lines = _lines[id(code)]
    return lines[bisect_right(starts, frame.f_lasti) - 1]


def similar(name: str, names: list[str]) -> str:
    """Return `, did you mean 'X'?` for the one of `names` that is like `name`; empty if none is."""
    from difflib import get_close_matches

    found = get_close_matches(name, names, 1) or get_close_matches(name.upper(), names, 1)
    return f", did you mean {found[0]!r}?" if found else ""


class Checked:
    """An object of a config: it refuses attributes that it doesn't have, and says where it was made."""

    #: What messages call it.
    _called: ClassVar[str]
    #: Types of the attributes, NoneType where None is allowed; empty for those that need more than a type.
    _kinds: ClassVar[dict[str, tuple[type, ...]]] = {}
    #: File and line where the object was made.
    at: Optional[Place]

    def __init_subclass__(cls) -> None:
        """Refuse a class of the user's that overrides what Python no longer does."""
        if not _is_ours(cls):
            _refuse_overrides(cls)

    def __setattr__(self, name: str, value: object) -> None:
        """Set a known attribute to a value of the right type, as long as the config loads.

        A class of the user's may have others, which are its own business, and its jobs'.
        """
        cls = type(self)
        if name not in cls._kinds and name != "at" and not _is_ours(cls):
            return object.__setattr__(self, name, value)
        if _Force.begun:
            raise RuntimeError(
                f"{cls.__name__}.{name} can't be set any more: the daemon has taken the config, "
                "change the config file and reload the daemon instead"
            )
        kinds = cls._kinds.get(name)
        if kinds:
            if value is not None or _NONE not in kinds:
                expect(name, value, *[kind for kind in kinds if kind is not _NONE])
        elif kinds is None and name != "at":
            known = [known for known in cls._kinds if known[0] != "_"]
            raise AttributeError(f"{cls.__name__} has no attribute {name!r}{similar(name, known)}")
        if name in _NAMES and isinstance(value, str):
            expect_utf8(name, value)
        object.__setattr__(self, name, value)


def _is_ours(cls: type) -> bool:
    return cls.__module__.partition(".")[0] == "pyinotifyd"


def _refuse_overrides(cls: type) -> None:
    """Raise TypeError if a class of the user's in the ancestry of `cls` defines what only the daemon does."""
    ours = set(_RUNNING)
    theirs: dict[str, type] = {}
    for base in cls.__mro__:
        if base is object:
            continue
        names = [name for name in vars(base) if not (name[:2] == "__" and name != "__setattr__")]
        if _is_ours(base):
            ours.update(names)
        else:
            theirs.update((name, base) for name in names)
    for name, base in theirs.items():
        if name in ours or name.startswith("process_IN_"):
            raise TypeError(
                f"class {base.__name__} overrides the method {name!r}: the daemon runs tasks outside of Python and "
                "would never call it; put the code into a job instead"
            )
