"""Python's logging on its way to the daemon, which formats and writes all records.

Owns the handler at the root logger, put there the moment Python's logging is imported; no record of a config is early
or late. Leaves stderr, syslog and formats to the daemon, and handlers of the user's to themselves: they get the
daemon's records, too.
"""

from __future__ import annotations

import os
import sys

from .. import levels
from ..checked import in_force
from . import wire
from .imported import when_imported

TYPE_CHECKING = False
if TYPE_CHECKING:
    import logging
    from typing import Any, Optional

    from .wire import Channel

# When the daemon is stopped or slower than a thread that logs, further records are counted and dropped. 4 MiB are some
# 20,000 records.
BACKLOG_MAX = 4 << 20

# Loggers of the daemon besides those that the config names: handlers there want the daemon's records.
_DAEMON_LOGGERS = ("daemon", "eventmap", "pyinotify", "pyinotifyd", "watch")

# Marks records that came from the daemon: they go back there only where it waits for what filters say of them.
_TO_DAEMON = "to_daemon"


def attach(channel: Channel) -> None:
    """Send the records of Python's logging to the daemon, from now or from when it is imported."""
    when_imported("logging", lambda logging: _attach(logging, channel))


def _attach(logging: Any, channel: Channel) -> None:
    """Install the handler, and hand the levels over to the loggers."""
    logging.root.addHandler(_handler(logging, channel))
    for name, level in levels.levels.items():
        logging.getLogger(name).setLevel(level)


def _handler(logging: Any, channel: Channel) -> logging.Handler:
    """Return a handler that turns records into frames."""

    class FrameHandler(logging.Handler):  # type: ignore[misc]  # known only at run time
        """Sends each record to the daemon; never waits once jobs run."""

        dropped = 0

        def emit(self, record: logging.LogRecord) -> None:
            if not getattr(record, _TO_DAEMON, True):
                return
            try:
                if os.getpid() != channel.pid:
                    _write_of_child(record, self)
                    return
                if channel.backlog > BACKLOG_MAX:
                    self.dropped += 1
                    return
                if self.dropped:
                    lost, self.dropped = self.dropped, 0
                    _send(channel, "root", logging.WARNING, f"{lost} log records of Python code were lost", record)
                _send(channel, record.name, record.levelno, record.getMessage(), record, _traceback(record, self))
            except Exception:
                self.handleError(record)

    return FrameHandler()


def _send(
    channel: Channel,
    logger: str,
    level: int,
    message: str,
    record: logging.LogRecord,
    exc: Optional[str] = None,
) -> None:
    body = {"logger": logger, "level": level, "message": message, "created": record.created, "exc": exc}
    if not in_force():
        # The daemon doesn't know the servers yet, and sends it to those that were named so far as soon as it does.
        body["syslog"] = len(levels.syslog)
    channel.send(wire.HOST_LOG, wire.report(body))


def _traceback(record: logging.LogRecord, handler: logging.Handler) -> Optional[str]:
    """Return the traceback and the stack that belong to a record."""
    parts = []
    formatter = handler.formatter or sys.modules["logging"]._defaultFormatter
    if record.exc_info and not record.exc_text:
        record.exc_text = formatter.formatException(record.exc_info)
    if record.exc_text:
        parts.append(record.exc_text)
    if record.stack_info:
        parts.append(formatter.formatStack(record.stack_info))
    return "\n".join(parts) or None


def _write_of_child(record: logging.LogRecord, handler: logging.Handler) -> None:
    """Write a record of a forked child to stderr, in the daemon's format: the socket is its parent's."""
    import logging

    formatter = logging.Formatter("%(asctime)s - pyinotifyd/%(name)s - %(levelname)s - %(message)s")
    sys.stderr.write(formatter.format(record) + "\n")


def has_handlers(lognames: set[str]) -> bool:
    """Say whether the user has added handlers that records of the daemon can reach."""
    logging = sys.modules.get("logging")
    if not logging:
        return False
    names = {""}
    for name in lognames.union(_DAEMON_LOGGERS):
        parts = name.split(".")
        names.update(".".join(parts[:count]) for count in range(1, len(parts) + 1))
    known = logging.root.manager.loggerDict
    loggers = [logging.root, *(known[name] for name in names if name in known)]
    return any(
        type(handler).__name__ not in ("FrameHandler", "NullHandler")
        for logger in loggers
        for handler in getattr(logger, "handlers", ())
    )


def filtered(lognames: set[str]) -> list[str]:
    """Return the names of the loggers whose records the daemon may write only if Python's logging lets them through.

    The user has put filters on them, disabled them, cut them off from the root logger, or has taken the daemon's
    handler away from there, as ``logging.basicConfig(force=True)`` does.
    """
    logging = sys.modules.get("logging")
    if not logging:
        return []
    ours = [handler for handler in logging.root.handlers if type(handler).__name__ == "FrameHandler"]
    is_open = any(not handler.filters and not handler.level for handler in ours) and not logging.root.manager.disable
    names = sorted({"", *lognames, *_DAEMON_LOGGERS})
    return [name for name in names if not (is_open and _reaches_root(logging.getLogger(name)))]


def _reaches_root(logger: Any) -> bool:
    """Say whether all that a logger is given reaches the handlers of the root logger."""
    if logger.filters or logger.disabled:
        return False
    while logger.parent:
        if not logger.propagate:
            return False
        logger = logger.parent
    return True


def handle(body: bytes) -> None:
    """Give a record of the daemon to the handlers of the user's; what goes wrong there is said once."""
    try:
        _handle(body)
    except Exception as exception:
        if _ITSELF not in _raised:
            _raised.add(_ITSELF)
            os.write(2, f"ERROR: logging of the config raises {exception!r}\n".encode("ascii", "backslashreplace"))


def _handle(body: bytes) -> None:
    import logging

    values = wire.loads(body)
    name = values["logger"]
    logger = logging.getLogger("" if name == "root" else name)
    if not logger.isEnabledFor(values["level"]):
        return
    record = logger.makeRecord(name, values["level"], "pyinotifyd", 0, values["message"], (), None, "pyinotifyd")
    record.created = values["created"]
    record.msecs = record.created % 1 * 1000
    record.relativeCreated = (record.created - _started()) * 1000
    setattr(record, _TO_DAEMON, values["give_back"])
    passed = not logger.disabled and _passed(logger, record)
    if passed:
        # Since Python 3.12 a filter may give another record.
        _call_handlers(logger, record if passed is True else passed)


# Handlers and filters that have raised, of which that was said; logging itself is no object's id.
_raised: set[int] = set()
_ITSELF = 0


def _passed(logger: Any, record: logging.LogRecord) -> Any:
    """Ask the filters of a logger; if one raises, the record passes."""
    try:
        return logger.filter(record)
    except (Exception, SystemExit):
        _say_raised(logger, record)
        return True


def _call_handlers(logger: Any, record: logging.LogRecord) -> None:
    """Give a record to all handlers in reach, as Python does; one that raises keeps it from no other.

    What it raises is said once, in the way that logging.raiseExceptions chooses.
    """
    while logger:
        for handler in list(logger.handlers):
            try:
                if record.levelno >= handler.level:
                    handler.handle(record)
            except (Exception, SystemExit):
                _say_raised(handler, record)
        logger = logger.parent if logger.propagate else None


def _say_raised(by: Any, record: logging.LogRecord) -> None:
    import logging

    if id(by) in _raised:
        return
    _raised.add(id(by))
    try:
        logging.Handler.handleError(by, record)
    except (Exception, SystemExit):  # a stderr of the config's own
        return


def _started() -> float:
    """Return when logging was imported, in seconds; from 3.13 on it counts in nanoseconds."""
    started: float = sys.modules["logging"]._startTime
    return started / 1e9 if started > 1e12 else started
