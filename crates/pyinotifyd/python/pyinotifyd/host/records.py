"""Python's logging on its way to the daemon, which formats and writes all records.

Owns the handler at the root logger, put there the moment Python's logging is imported; no record of a config is early
or late. Leaves stderr, syslog and formats to the daemon, and handlers of the user's to themselves: they get the
daemon's records, too.
"""

from __future__ import annotations

import os
import sys

from ..levels import levels
from . import wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    import logging
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any, Optional

    from .wire import Channel

# When the daemon is stopped or slower than a thread that logs, further records are counted and dropped. 4 MiB are some
# 20,000 records.
BACKLOG_MAX = 4 << 20

# Loggers of the daemon besides those that the config names: handlers there want the daemon's records.
_DAEMON_LOGGERS = ("daemon", "eventmap", "pyinotify", "pyinotifyd", "watch")

# Marks records that came from the daemon, so that they don't go back there.
_FROM_DAEMON = "from_daemon"


def attach(channel: Channel) -> None:
    """Send the records of Python's logging to the daemon, from now or from when it is imported."""
    module = sys.modules.get("logging")
    if module:
        _attach(module, channel)
    else:
        sys.meta_path.insert(0, _Import(channel))


def _attach(logging: Any, channel: Channel) -> None:
    """Install the handler, and hand the levels over to the loggers."""
    logging.root.addHandler(_handler(logging, channel))
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


class _Import:
    """Waits in sys.meta_path until logging is imported; once."""

    def __init__(self, channel: Channel) -> None:
        """Remember where records go."""
        self._channel = channel
        self._loader: Any = None

    def find_spec(self, name: str, path: object = None, target: object = None) -> Optional[ModuleSpec]:
        """Find logging as Python would, and put ourselves in the place of its loader."""
        if name != "logging":
            return None
        sys.meta_path.remove(self)
        for finder in sys.meta_path:
            spec = finder.find_spec(name, None, None)
            if spec is not None:
                self._loader, spec.loader = spec.loader, self  # type: ignore[assignment]  # a loader by its shape
                return spec
        return None

    def create_module(self, spec: ModuleSpec) -> Optional[ModuleType]:
        """Leave it to the real loader."""
        return self._loader.create_module(spec)  # type: ignore[no-any-return]

    def exec_module(self, module: ModuleType) -> None:
        """Execute logging, then install the handler."""
        module.__loader__ = self._loader
        if module.__spec__:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        _attach(module, self._channel)


def _handler(logging: Any, channel: Channel) -> logging.Handler:
    """Return a handler that turns records into frames."""

    class FrameHandler(logging.Handler):  # type: ignore[misc]  # known only at run time
        """Sends each record to the daemon; never waits once jobs run."""

        dropped = 0

        def emit(self, record: logging.LogRecord) -> None:
            if hasattr(record, _FROM_DAEMON):
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


def handle(body: bytes) -> None:
    """Give a record of the daemon to the handlers of the user's."""
    import logging

    values = wire.loads(body)
    name = values["logger"]
    logger = logging.getLogger(name)
    if not logger.isEnabledFor(values["level"]):
        return
    record = logger.makeRecord(name, values["level"], "pyinotifyd", 0, values["message"], (), None, "pyinotifyd")
    record.created = values["created"]
    record.msecs = record.created % 1 * 1000
    record.relativeCreated = (record.created - _started()) * 1000
    setattr(record, _FROM_DAEMON, True)
    passed = not logger.disabled and _passed(logger, record)
    if passed:
        # Since Python 3.12 a filter may give another record.
        _call_handlers(logger, record if passed is True else passed)


# Handlers and filters that have raised, of which that was said.
_raised: set[int] = set()


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
