"""What a config says about the log: levels and syslog.

Owns the levels until Python's logging is imported, which most configs never need and which costs more than all the rest
of a start; from then on the loggers own them. The daemon formats and writes all records.
"""

from __future__ import annotations

import sys

from .checked import expect, expect_utf8, in_force, place

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, Optional, Union, overload

    from .checked import Place

    Level = Union[int, str]
    Address = Union[str, tuple[str, int]]

CRITICAL = 50
ERROR = 40
WARNING = 30
INFO = 20
DEBUG = 10

# The names that logging knows by itself.
_NUMBERS = {
    "CRITICAL": CRITICAL,
    "FATAL": CRITICAL,
    "ERROR": ERROR,
    "WARN": WARNING,
    "WARNING": WARNING,
    "INFO": INFO,
    "DEBUG": DEBUG,
    "NOTSET": 0,
}

#: Levels by logger name; "" is the root.
levels: dict[str, int] = {"": INFO}

#: Tells the daemon of a level that is set after the config was loaded; the host sets it.
announce: Optional[Callable[[str, int], None]] = None

#: Syslog servers as the daemon is to use them.
syslog: list[dict[str, object]] = []


def setLoglevel(loglevel: Level, logname: Optional[str] = None) -> None:
    """Set the level from which records are logged.

    A job may call it, too. The level then holds until the config is loaded again.

    Args:
        loglevel: DEBUG, INFO, WARNING, ERROR, CRITICAL, as name or number. Without this call it is INFO.
        logname: The logger that it is for, e.g. the *logname* of a scheduler. Default None: all loggers that have no
            level of their own.

    Example::

        setLoglevel(WARNING)
        setLoglevel(DEBUG, logname="uploads")
    """
    if logname is not None:
        expect("logname", logname, str)
        expect_utf8("logname", logname)
    set_level(logname or "", level_number(loglevel))


if TYPE_CHECKING:

    @overload
    def enableSyslog(
        loglevel: Optional[Level] = None,
        address: Address = "/dev/log",
        logname: Optional[str] = None,
        *,
        lglevel: None = None,
        name: None = None,
    ) -> None: ...

    @overload
    def enableSyslog(
        loglevel: None = None,
        address: Address = "/dev/log",
        logname: Optional[str] = None,
        *,
        lglevel: Level,
        name: None = None,
    ) -> None: ...

    @overload
    def enableSyslog(
        loglevel: Optional[Level] = None,
        address: Address = "/dev/log",
        logname: None = None,
        *,
        lglevel: None = None,
        name: str,
    ) -> None: ...

    @overload
    def enableSyslog(
        loglevel: None = None,
        address: Address = "/dev/log",
        logname: None = None,
        *,
        lglevel: Level,
        name: str,
    ) -> None: ...


def enableSyslog(
    loglevel: Optional[Level] = None,
    address: Address = "/dev/log",
    logname: Optional[str] = None,
    *,
    lglevel: Optional[Level] = None,
    name: Optional[str] = None,
) -> None:
    """Send log records to a syslog server, besides stderr.

    Args:
        loglevel: Lowest level that is sent. Default None: all that the loggers let through.
        address: Path of the server's Unix socket, or (host, port) for UDP. Default "/dev/log".
        logname: Only send records of this logger and those below it. Default None: all.
        lglevel: Another spelling of *loglevel*.
        name: Another spelling of *logname*.

    Example::

        enableSyslog(loglevel=WARNING, address=("logs.example.org", 514))
    """
    if in_force():
        raise RuntimeError("enableSyslog can't be called any more: the daemon has taken the config")
    level = one_of("enableSyslog", loglevel=loglevel, lglevel=lglevel)
    logger = one_of("enableSyslog", logname=logname, name=name)
    if logger is not None:
        expect("logname", logger, str)
        expect_utf8("logname", logger)  # type: ignore[arg-type]  # a str, as of the check
    number = None if level is None else level_number(level)  # type: ignore[arg-type]  # checked there
    entry: dict[str, object] = {"address": _address(address), "level": number, "logname": logger}
    # Said twice it is still one server.
    if any(known.items() >= entry.items() for known in syslog):
        return
    at = place()
    syslog.append({**entry, "at": at and {"file": at[0], "line": at[1]}})


def one_of(function: str, **spellings: object) -> object:
    """Return the one argument that is given of two spellings; raise TypeError if both are."""
    given = [name for name, value in spellings.items() if value is not None]
    if len(given) > 1:
        raise TypeError(f"{function}: {' and '.join(given)} are the same, give one of them")
    return spellings[given[0]] if given else None


def level_number(level: Level) -> int:
    """Return the number of a level as Python's logging understands it."""
    if isinstance(level, int):
        return int(level)
    if not isinstance(level, str):
        raise TypeError(f"loglevel: not an integer or a valid string: {level!r}")
    logging = sys.modules.get("logging")
    number = logging.getLevelName(level) if logging else _NUMBERS.get(level)
    if not isinstance(number, int):
        raise ValueError(f"Unknown level: {level!r}")
    return number


def set_level(logname: str, number: int) -> None:
    """Set a level where it is kept: at the logger if Python's logging is in use, else here."""
    if logname == "root":
        logname = ""
    levels[logname] = number
    if announce is not None:
        announce(logname, number)
    logging = sys.modules.get("logging")
    if logging:
        logging.getLogger(logname).setLevel(number)


def current_levels() -> dict[str, int]:
    """Return all levels that were set, by setLoglevel or at Python's loggers; the root's is always there."""
    logging = sys.modules.get("logging")
    if not logging:
        return dict(levels)
    # Python takes True for a level, too.
    found = {"": int(logging.root.level)}
    for name, logger in list(logging.root.manager.loggerDict.items()):
        if isinstance(logger, logging.Logger) and logger.level:
            found[name] = int(logger.level)
    return found


def warn(text: str) -> None:
    """Log a warning about the config."""
    import logging

    logging.getLogger().warning(text)


def warn_at(at: Optional[Place], text: str) -> None:
    """Log a warning about something that was made at a place of the config."""
    warn(f"{at[0]}:{at[1]}: {text}" if at else text)


def _address(address: object) -> object:
    if isinstance(address, str):
        return address
    if not (
        isinstance(address, (tuple, list))
        and len(address) == 2
        and isinstance(address[0], str)
        and isinstance(address[1], int)
    ):
        raise AssertionError(f"address: expected a path or (host, port), got {address!r}")
    expect_utf8("address", address[0])
    if isinstance(address[1], bool) or not 0 < address[1] < 65536:
        raise AssertionError(f"address: expected a port from 1 to 65535, got {address[1]}")
    return list(address)
