"""Configurations that both our daemon and the original accept, put together from parts."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

# All that a watch can ask the kernel for.
ALL_EVENTS = [
    "IN_ACCESS",
    "IN_MODIFY",
    "IN_ATTRIB",
    "IN_CLOSE_WRITE",
    "IN_CLOSE_NOWRITE",
    "IN_OPEN",
    "IN_MOVED_FROM",
    "IN_MOVED_TO",
    "IN_CREATE",
    "IN_DELETE",
    "IN_DELETE_SELF",
    "IN_MOVE_SELF",
]

# The original does not say how many events it saw: its own dispatcher is wrapped, at some 0.1 µs an event of its 30.
COUNTING = """
import atexit as _atexit
from pyinotifyd import EventMap as _EventMap
_seen = 0
_dispatch = _EventMap.process_default
def _count(self, event):
    global _seen
    _seen += 1
    return _dispatch(self, event)
_EventMap.process_default = _count
def _write():
    with open({file!r}, "w") as out:
        out.write(str(_seen))
_atexit.register(_write)
"""


def counting(file: Path) -> str:
    """For the original only: writes the number of events that it saw to `file` when it ends."""
    return COUNTING.format(file=str(file))


def daemon(
    parts: Iterable[str],
    watches: Iterable[str],
    ready: Path,
    *,
    level: str = "WARNING",
    shutdown_timeout: int = 1,
    state: Path | None = None,
    control: Path | None = None,
) -> str:
    """A whole configuration. `state` and `control` are ours alone.

    `ready` is an empty directory that is watched last. The original says that it listens on a path *before* it sets
    the watches of that path; what it says of the last one means that all others are set.
    """
    own = {"state": state, "control": control}
    more = "".join(f", {name}={str(path)!r}" for name, path in own.items() if path is not None)
    return "\n".join(
        [
            f"setLoglevel({level})",
            'setLoglevel(INFO, logname="daemon")',
            *parts,
            f"pyinotifyd = Pyinotifyd(shutdown_timeout={shutdown_timeout}{more})",
            *watches,
            watch(ready, '{"IN_DELETE_SELF": None}'),
            "",
        ]
    )


def watch(path: Path, event_map: str, *, rec: bool = False, auto_add: bool = False) -> str:
    """One watch."""
    return f"pyinotifyd.add_watch(path={str(path)!r}, event_map={event_map}, rec={rec}, auto_add={auto_add})"


def event_map(events: Iterable[str], scheduler: str) -> str:
    """All events to one scheduler."""
    return "{" + ", ".join(f'"{event}": {scheduler}' for event in events) + "}"


def rules(name: str, *rules: str, delay: int = 0) -> str:
    """A scheduler of file rules."""
    return f"{name} = FileManagerScheduler(rules=[{', '.join(rules)}], delay={delay})"


def rule(action: str, src_re: str, dst_re: str = "", *, durable: bool = False) -> str:
    """A file rule. `durable` is ours alone: the original does not know it."""
    extra = ", durable=True" if durable else ""
    return f"FileManagerRule(action={action!r}, src_re={src_re!r}, dst_re={dst_re!r}{extra})"
