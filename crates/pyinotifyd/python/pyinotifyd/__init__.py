"""What a config of pyinotifyd is written with.

A config is a Python file that the daemon executes when it starts and again when it reloads. It makes schedulers, maps
events to them, and leaves an instance of `Pyinotifyd` in a variable of that name::

    mover = FileManagerScheduler(
        rules=FileManagerRule(action="move", src_re=r"^/srv/in/(.*)\\.done$", dst_re=r"/srv/out/\\1"),
        delay=10)

    pyinotifyd = Pyinotifyd()
    pyinotifyd.add_watch(
        path="/srv/in",
        event_map={"IN_CLOSE_WRITE": mover, "IN_DELETE": Cancel(mover)},
        rec=True,
        auto_add=True)

All names of this module are in a config's namespace without an import, the log levels DEBUG, INFO, WARNING, ERROR and
CRITICAL too. An editor finds them with ``from pyinotifyd import *``.

Owns the objects of a config and their checks. They only say what is wanted: the daemon, which is not Python, watches,
waits, runs commands and file rules; `pyinotifyd.host` describes the objects to it and runs the custom jobs.
"""

from __future__ import annotations

from .levels import CRITICAL, DEBUG, ERROR, INFO, WARNING, enableSyslog, setLoglevel
from .options import Batch, Retry, Settle
from .scheduler import Cancel, FileManagerRule, FileManagerScheduler, ShellScheduler, TaskScheduler
from .watch import EventMap, Pyinotifyd, Watch

# Type checkers take this name for true; `typing` itself costs 5 ms at every start.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from .event import Event

__version__ = "2.0.0"

__all__ = [
    "CRITICAL",
    "DEBUG",
    "ERROR",
    "INFO",
    "WARNING",
    "Batch",
    "Cancel",
    "Event",
    "EventMap",
    "FileManagerRule",
    "FileManagerScheduler",
    "Pyinotifyd",
    "Retry",
    "Settle",
    "ShellScheduler",
    "TaskScheduler",
    "Watch",
    "enableSyslog",
    "setLoglevel",
]


def __getattr__(name: str) -> object:
    """Import `Event` when somebody asks for it: only jobs need it, and the plain start is short without."""
    if name == "Event":
        from .event import Event

        return Event
    raise AttributeError(f"module 'pyinotifyd' has no attribute {name!r}")
