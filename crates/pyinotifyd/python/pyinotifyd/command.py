"""How a command of a ShellScheduler runs: as whom, where, with what, within which limits.

Owns the checks of these arguments and what they look like to the daemon. Leaves the doing to the daemon.
"""

from __future__ import annotations

from .checked import ConfigError, expect, expect_path, expected, similar

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Literal, Optional

    from .scheduler import ShellScheduler

    Limit = Literal[
        "as",
        "core",
        "cpu",
        "data",
        "fsize",
        "locks",
        "memlock",
        "msgqueue",
        "nice",
        "nofile",
        "nproc",
        "rss",
        "rtprio",
        "rttime",
        "sigpending",
        "stack",
    ]

# The names of getrlimit(2) without RLIMIT_, in small letters.
LIMITS = [
    "as",
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
]

# With nothing of these no program can start.
_NEEDED = ("as", "data", "nofile", "stack")

STDINS = ["null", "json", "paths"]
OUTPUTS = ["inherit", "log", "null"]

# Variables by which a command learns of the event.
_EVENT_VARIABLES = "PYINOTIFYD_"

# Ids are numbers of 32 bits, of which the last one means "none" (setuid(2)).
_ID_MAX = 2**32 - 2
# Limits are numbers of 64 bits, of which the last one means "no limit".
_LIMIT_MAX = 2**64 - 2
# From the highest niceness to the lowest, or the other way round.
_NICE_MAX = 39


def _number(name: str, value: object, first: int, last: int) -> None:
    expect(name, value, int)
    if value is True or value is False or not first <= value <= last:  # type: ignore[operator]  # an int, as checked
        raise AssertionError(f"{name}: expected a number from {first} to {last}, got {value}")


def expect_text(name: str, value: object) -> None:
    """Raise unless a command can get `value`."""
    expect(name, value, str)
    if "\0" in value:  # type: ignore[operator]  # a str, as of the check
        raise AssertionError(f"{name}: a command can't get a NUL byte: {value!r}")


def _expect_argv(name: str, value: object) -> None:
    if value is None:
        return
    if not isinstance(value, (list, tuple)):
        expected(name, "a list of a program and its arguments (cmd is for a command line)", value)
    if not value or value[0] == "":
        raise AssertionError(f"{name}: expected a program, got {value!r}")
    for index, word in enumerate(value):
        expect_text(f"{name}[{index}]", word)


def _expect_account(name: str, value: object) -> None:
    if value is None:
        return
    if not isinstance(value, str):
        _number(name, value, 0, _ID_MAX)
    elif not value or not value.isprintable():
        raise AssertionError(f"{name}: expected a name or a number, got {value!r}")


def _expect_umask(name: str, value: object) -> None:
    if value is None:
        return
    expect(name, value, int)
    if value is True or value is False or not 0 <= value <= 0o777:  # type: ignore[operator]  # an int, as checked
        raise AssertionError(f"{name}: expected mode bits from 0 to 0o777, got {value}")


def _expect_nice(name: str, value: object) -> None:
    _number(name, value, -_NICE_MAX, _NICE_MAX)


def _expect_cwd(name: str, value: object) -> None:
    if value is not None:
        expect_path(name, value)  # type: ignore[arg-type]  # checked there


def _expect_env(name: str, value: object) -> None:
    expect(name, value, dict)
    for variable, text in value.items():  # type: ignore[attr-defined]  # a dict, as of the check
        expect(f"{name}: name of a variable", variable, str)
        if not variable or "=" in variable or not variable.isprintable():
            raise AssertionError(f"{name}: {variable!r} can't be the name of a variable")
        if variable.startswith(_EVENT_VARIABLES):
            raise AssertionError(f"{name}: {variable} belongs to the daemon, which tells commands of the event by it")
        expect_text(f"{name}[{variable!r}]", text)


def _expect_limits(name: str, value: object) -> None:
    expect(name, value, dict)
    for limit, number in value.items():  # type: ignore[attr-defined]  # a dict, as of the check
        if limit not in LIMITS:
            wanted = limit.lower().partition("rlimit_")[2] or limit if isinstance(limit, str) else ""
            hint = f", did you mean {wanted!r}?" if wanted in LIMITS else similar(wanted, LIMITS)
            raise AssertionError(f"{name}: there is no limit {limit!r}{hint or '.'} There are {', '.join(LIMITS)}")
        if number is None:
            continue
        if isinstance(number, int) and number < 0:
            raise AssertionError(f"{name}: {limit}: expected 0 or more, or None for no limit, got {number}")
        _number(f"{name}: {limit}", number, 1 if limit in _NEEDED else 0, _LIMIT_MAX)


def _expect_one_of(known: list[str]) -> Callable[[str, object], None]:
    def check(name: str, value: object) -> None:
        if not isinstance(value, str) or value not in known:
            hint = similar(value, known) if isinstance(value, str) else ""
            raise AssertionError(f"{name}: expected one of {', '.join(map(repr, known))}, got {value!r}{hint}")

    return check


def _expect_stdin(name: str, value: object) -> None:
    if value is not None:
        _expect_one_of(STDINS)(name, value)


#: The check of each argument; it raises unless the argument can have the value.
CHECKS: dict[str, Callable[[str, object], None]] = {
    "argv": _expect_argv,
    "user": _expect_account,
    "group": _expect_account,
    "umask": _expect_umask,
    "nice": _expect_nice,
    "cwd": _expect_cwd,
    "env": _expect_env,
    "limits": _expect_limits,
    "stdin": _expect_stdin,
    "output": _expect_one_of(OUTPUTS),
}


#: What the daemon is told of a command for which nothing of this was said.
DEFAULTS: dict[str, Any] = {
    "argv": None,
    "user": None,
    "group": None,
    "umask": None,
    "nice": 0,
    "cwd": None,
    "env": {},
    "limits": {},
    "stdin": "null",
    "output": "inherit",
}


def fault_of(cmd: Optional[str], argv: object) -> Optional[str]:
    """Return what is wrong with the two ways to say what is executed, of which there has to be one."""
    if cmd is None and argv is None:
        return "ShellScheduler: expected cmd or argv"
    if cmd is not None and argv is not None:
        return "ShellScheduler: expected cmd or argv, got both"
    return None


def describe(scheduler: ShellScheduler, text: Callable[[str], str]) -> dict[str, Any]:
    """Return what the daemon has to know of how a command runs; `text` makes paths fit for it.

    Lists and dictionaries are checked again: a config may have changed them after they were given.

    Raises:
        ConfigError: It has changed them to something that can't be.
    """
    fault = fault_of(scheduler.cmd, scheduler.argv)
    try:
        for name, check in CHECKS.items():
            check(name, getattr(scheduler, name))
    except AssertionError as error:
        fault = str(error)
    if fault:
        raise ConfigError(fault, scheduler.at)
    return {
        "argv": None if scheduler.argv is None else [text(word) for word in scheduler.argv],
        "user": scheduler.user,
        "group": scheduler.group,
        "umask": scheduler.umask,
        "nice": scheduler.nice,
        "cwd": None if scheduler.cwd is None else text(scheduler.cwd),
        "env": {name: text(value) for name, value in scheduler.env.items()},
        "limits": dict(scheduler.limits),
        "stdin": scheduler.stdin or ("paths" if scheduler.batch else "null"),
        "output": scheduler.output,
    }
