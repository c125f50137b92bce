"""Event maps, watches, and the object that holds them all: `Pyinotifyd`.

Owns which events go to which schedulers, and which paths are watched, as the config says it. Leaves globs, missing
paths and regular expressions to the daemon, which checks them when it takes the config.
"""

from __future__ import annotations

from . import listen
from .checked import Checked, expect, expect_path, expected, one_of_words, place, seconds, shown, similar
from .levels import warn
from .options import expect_count
from .scheduler import Cancel, TaskScheduler, scheduler_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, ClassVar, Literal, Optional, Union, overload

    from .checked import Place
    from .scheduler import Job

    Number = Union[int, float]
    Reaction = Union[TaskScheduler, Cancel]
    Mapped = Union[None, Reaction, Job, list[Union[Reaction, Job]]]
    ExcludeFilter = Union[None, str, list[str]]
    Excluded = tuple[str, Optional[Place]]
    Initial = Literal["none", "all", "changed"]
    EventName = Literal[
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
        "IN_UNMOUNT",
        "IN_Q_OVERFLOW",
        "IN_IGNORED",
    ]
    Events = dict[EventName, Mapped]

#: What may be told of what is there at the start.
_INITIAL = ["none", "all", "changed"]

#: More than anybody looks through; a row takes some 300 bytes of disk.
_HISTORY_MAX = 100_000_000

#: All events, each with its bit in a mask (inotify(7)).
FLAGS: dict[EventName, int] = {
    "IN_ACCESS": 0x1,
    "IN_MODIFY": 0x2,
    "IN_ATTRIB": 0x4,
    "IN_CLOSE_WRITE": 0x8,
    "IN_CLOSE_NOWRITE": 0x10,
    "IN_OPEN": 0x20,
    "IN_MOVED_FROM": 0x40,
    "IN_MOVED_TO": 0x80,
    "IN_CREATE": 0x100,
    "IN_DELETE": 0x200,
    "IN_DELETE_SELF": 0x400,
    "IN_MOVE_SELF": 0x800,
    "IN_UNMOUNT": 0x2000,
    "IN_Q_OVERFLOW": 0x4000,
    "IN_IGNORED": 0x8000,
}

# A name that old documentation uses for an event that never had it.
_WRITE_CLOSE = "IN_WRITE_CLOSE"


class _Default(int):
    """The number that holds where none is given: the same number given by a config is another object."""


_SHUTDOWN_TIMEOUT = _Default(30)


class EventMap(Checked):
    """Maps events to what is to happen: a scheduler, a Cancel, a coroutine function, or a list of these.

    A coroutine function stands for a TaskScheduler with its defaults. None means that the event is ignored.

    Args:
        event_map: Names of events and what they are mapped to. Default None: none.
        default_sched: What all events are mapped to that *event_map* doesn't name. Default None: nothing.
        exclude_filter: As for Watch. Default None: nothing is excluded.
        logname: Accepted and not needed. Default None.

    Example::

        event_map = EventMap(default_sched=reporter, event_map={"IN_OPEN": None, "IN_ACCESS": None})
    """

    #: The names of all events, each with its bit in `Event.mask`.
    flags: ClassVar[dict[EventName, int]] = FLAGS

    _called: ClassVar[str] = "an EventMap"
    _kinds: ClassVar[dict[str, tuple[type, ...]]] = {
        "_reactions": (),
        "exclude_filter": (),
        "excluded": (),
        "logname": (str, type(None)),
    }

    _reactions: dict[str, list[Reaction]]
    exclude_filter: ExcludeFilter
    #: The expressions of the filter, each with the place where it stands.
    excluded: list[Excluded]
    logname: Optional[str]

    def __init__(
        self,
        *,
        event_map: Optional[Events] = None,
        default_sched: Mapped = None,
        exclude_filter: ExcludeFilter = None,
        logname: Optional[str] = None,
    ) -> None:
        """Check the arguments and keep them."""
        self.at = place()
        self._reactions = {}
        if event_map is not None:
            expect("event_map", event_map, dict)
        for flag in FLAGS if default_sched is not None else ():
            self.set_scheduler(flag, default_sched)
        for flag, mapped in (event_map or {}).items():
            self.set_scheduler(flag, mapped)
        self.set_exclude_filter(exclude_filter)
        self.logname = logname

    def set_scheduler(self, flag: EventName, schedulers: Mapped) -> None:
        """Map one event; None removes what it was mapped to."""
        known = _known_flag(flag)
        mapped = schedulers if isinstance(schedulers, list) else [schedulers]
        # Nothing is remembered as such: it holds against a default that comes from a watch.
        self._reactions[known] = [] if schedulers is None else [_reaction(known, one) for one in mapped]

    def set_exclude_filter(self, exclude_filter: ExcludeFilter) -> None:
        """Set which paths are excluded."""
        self.exclude_filter = exclude_filter

    def schedulers(self) -> list[TaskScheduler]:
        """Return all schedulers that events are mapped to, or that events cancel tasks of, each once."""
        found: list[TaskScheduler] = []
        for _, reactions in self.items():
            for reaction in reactions:
                scheduler = reaction.task if isinstance(reaction, Cancel) else reaction
                if scheduler not in found:
                    found.append(scheduler)
        return found

    def items(self) -> Iterator[tuple[str, list[Reaction]]]:
        """Go through the events that something is mapped to, in the order of `flags`."""
        return ((flag, self._reactions[flag]) for flag in FLAGS if self._reactions.get(flag))

    def __setattr__(self, name: str, value: object) -> None:
        """Check what a type alone doesn't say, then set the attribute."""
        if name == "exclude_filter":
            self.excluded = _read_filter(value, self.at)
        super().__setattr__(name, value)


class Watch(Checked):
    """Connects one or several paths to an event map.

    Args:
        path: Path of a directory or file, or a list of paths. ``*``, ``?`` and ``[...]`` are wildcards, also for what
            is made later.
        event_map: A dict as EventMap takes it, or an EventMap. Default None: see *default_sched*.
        default_sched: What all events are mapped to that *event_map* doesn't name. Default None: nothing.
        rec: Whether to watch existing subdirectories, too; not through a path that is a symbolic link. Default False.
        auto_add: Whether to watch new subdirectories as soon as they are made, to any depth. Default False.
        exclude_filter: List of regular expressions. Events of paths that match one of them from their start are
            ignored, and such directories are not watched. A string is the path of a file with one expression a line.
            Default None: nothing is excluded.
        logname: Accepted and not needed. Default "watch".
        initial: What gets the events of a new file when the daemon starts. "none": nothing. "all": everything that is
            there. "changed": what has changed since the daemon last ran; this needs a state (see Pyinotifyd). A reload
            does that for what no watch saw before. Default "none". Not in pyinotifyd 1.

    Example::

        watch = Watch(path="/srv/in", event_map={"IN_CLOSE_WRITE": mover}, rec=True, exclude_filter=[r"^/srv/in/tmp/"])
    """

    _called: ClassVar[str] = "a Watch"
    _kinds: ClassVar[dict[str, tuple[type, ...]]] = {
        "_path": (),
        "_event_map": (),
        "rec": (bool,),
        "auto_add": (bool,),
        "exclude_filter": (),
        "excluded": (),
        "logname": (str, type(None)),
        "initial": (),
    }

    _path: Union[str, list[str]]
    _event_map: EventMap
    rec: bool
    auto_add: bool
    exclude_filter: ExcludeFilter
    #: The expressions of the filter, each with the place where it stands.
    excluded: list[Excluded]
    logname: Optional[str]
    initial: Initial

    def __init__(
        self,
        path: Union[str, list[str]],
        event_map: Union[None, Events, EventMap] = None,
        default_sched: Mapped = None,
        rec: bool = False,
        auto_add: bool = False,
        exclude_filter: ExcludeFilter = None,
        logname: Optional[str] = "watch",
        *,
        initial: Initial = "none",
    ) -> None:
        """Check the arguments and keep them."""
        self.at = place()
        self._path = path
        self.rec = rec
        self.auto_add = auto_add
        self.logname = logname
        self.exclude_filter = exclude_filter
        self.initial = initial
        self._event_map = _event_map(event_map, default_sched)

    def path(self) -> Union[str, list[str]]:
        """Return the path or the list of paths."""
        return self._path

    def event_map(self) -> EventMap:
        """Return the event map."""
        return self._event_map

    def __setattr__(self, name: str, value: object) -> None:
        """Check what a type alone doesn't say, then set the attribute."""
        if name == "_path":
            expect("path", value, str, list)
            for path in [value] if isinstance(value, str) else value:  # type: ignore[attr-defined]  # a list
                expect_path("path", path)
        elif name == "exclude_filter":
            self.excluded = _read_filter(value, self.at)
        elif name == "initial":
            one_of_words("initial", value, _INITIAL)
        super().__setattr__(name, value)


class Pyinotifyd(Checked):
    """What the daemon does; your configuration leaves one in the variable *pyinotifyd*.

    Args:
        watches: One watch or a list of watches. Default None: none yet.
        shutdown_timeout: How many seconds a stop or a reload waits for tasks; int or float. Default 30.
        logname: Name of the logger for records about the daemon itself. Default "daemon".
        max_jobs: How many commands of all schedulers together run at once; others wait in order. Default None: as many
            as their schedulers allow. Not in pyinotifyd 1.
        state: Path of a directory that keeps tasks across restarts and crashes; it is made if it is missing. False:
            none. Default None: the directory that the service manager names in ``$STATE_DIRECTORY``, else none. Not in
            pyinotifyd 1.
        history: How many tasks that have ended the state keeps; 0: none. It keeps those that failed in any case.
            Default 10000. Not in pyinotifyd 1.
        control: Path of the control socket, through which ``pyinotifyd status`` and the like ask the daemon; False:
            none. Default None: ``$RUNTIME_DIRECTORY/control.sock``, else ``/run/pyinotifyd/control.sock`` as root and
            ``$XDG_RUNTIME_DIR/pyinotifyd/control.sock`` as somebody else, if the daemon can listen there. Not in
            pyinotifyd 1.
        control_group: Name of a group whose members may use the control socket, besides root and the daemon's user.
            Default None: no group. Not in pyinotifyd 1.
        metrics: IP address and port, such as ``127.0.0.1:9924``, where the daemon serves ``/metrics`` and ``/healthz``
            over HTTP. Default None: nowhere. Not in pyinotifyd 1.

    Example::

        pyinotifyd = Pyinotifyd(watches=[Watch("/srv/in", default_sched=reporter)], shutdown_timeout=60)
    """

    #: Name of the program.
    name: ClassVar[str] = "pyinotifyd"

    _called: ClassVar[str] = "a Pyinotifyd"
    _kinds: ClassVar[dict[str, tuple[type, ...]]] = {
        "_watches": (),
        "_shutdown_timeout": (),
        "logname": (str, type(None)),
        "max_jobs": (),
        "state": (),
        "history": (),
        "control": (),
        "control_group": (),
        "metrics": (),
    }

    _watches: list[Watch]
    _shutdown_timeout: Number
    logname: Optional[str]
    max_jobs: Optional[int]
    state: Union[None, Literal[False], str]
    history: int
    control: Union[None, Literal[False], str]
    control_group: Optional[str]
    metrics: Optional[str]

    def __init__(
        self,
        watches: Union[None, Watch, list[Watch]] = None,
        shutdown_timeout: Number = _SHUTDOWN_TIMEOUT,
        logname: Optional[str] = "daemon",
        *,
        max_jobs: Optional[int] = None,
        state: Union[None, Literal[False], str] = None,
        history: int = 10_000,
        control: Union[None, Literal[False], str] = None,
        control_group: Optional[str] = None,
        metrics: Optional[str] = None,
    ) -> None:
        """Check the arguments and keep them."""
        self.at = place()
        self.set_watches([] if watches is None else watches)
        self.set_shutdown_timeout(shutdown_timeout)
        self.logname = logname
        self.max_jobs = max_jobs
        self.state = state
        self.history = history
        self.control = control
        self.control_group = control_group
        self.metrics = metrics

    def __setattr__(self, name: str, value: object) -> None:
        """Check what a type alone doesn't say, then set the attribute."""
        if name == "max_jobs" and value is not None:
            expect_count("max_jobs", value)
        elif name == "state" and value is not None and value is not False:
            expect_path("state", value)  # type: ignore[arg-type]  # checked there
        elif name == "history":
            expect("history", value, int)
            if isinstance(value, bool) or not 0 <= value <= _HISTORY_MAX:  # type: ignore[operator]  # an int
                raise AssertionError(f"history: expected a number from 0 to {_HISTORY_MAX}, got {value}")
        elif name == "control":
            listen.expect_place(value)
        elif name == "control_group":
            listen.expect_group(value)
        elif name == "metrics":
            listen.expect_address(value)
        super().__setattr__(name, value)

    def set_watches(self, watches: Union[Watch, list[Watch]]) -> None:
        """Replace all watches by one watch or a list of watches."""
        watches = [*watches] if isinstance(watches, list) else [watches]
        expect_watches(watches)
        self._watches = watches

    if TYPE_CHECKING:

        @overload
        def add_watch(
            self,
            path: Union[str, list[str]],
            event_map: Union[None, Events, EventMap] = None,
            default_sched: Mapped = None,
            rec: bool = False,
            auto_add: bool = False,
            exclude_filter: ExcludeFilter = None,
            logname: Optional[str] = "watch",
            *,
            initial: Initial = "none",
        ) -> None: ...

        @overload
        def add_watch(self, *, watch: Watch) -> None: ...

    def add_watch(
        self,
        path: Union[None, str, list[str]] = None,
        event_map: Union[None, Events, EventMap] = None,
        default_sched: Mapped = None,
        rec: bool = False,
        auto_add: bool = False,
        exclude_filter: ExcludeFilter = None,
        logname: Optional[str] = "watch",
        *,
        watch: Optional[Watch] = None,
        initial: Initial = "none",
    ) -> None:
        """Add a watch: either *watch*, or a new one with the other arguments, which are those of Watch.

        Example::

            pyinotifyd.add_watch("/srv/in", {"IN_CLOSE_WRITE": mover}, rec=True)
            pyinotifyd.add_watch(watch=Watch("/srv/in", {"IN_CLOSE_WRITE": mover}, rec=True))
        """
        if watch is None:
            given = (path, event_map, default_sched, rec, auto_add, exclude_filter, logname)
            watch = Watch(*given, initial=initial)  # type: ignore[arg-type]
        elif path is not None or event_map is not None or default_sched is not None or initial != "none":
            raise TypeError("add_watch: watch= is a whole watch, it can't be combined with the arguments of one")
        expect_watches([watch])
        self._watches = [*self._watches, watch]

    def set_shutdown_timeout(self, timeout: Number) -> None:
        """Set how many seconds a shutdown waits for tasks; int or float."""
        seconds("timeout", timeout, bool_as_before=True)
        self._shutdown_timeout = timeout

    def schedulers(self) -> list[TaskScheduler]:
        """Return all schedulers of all watches, each once."""
        found: list[TaskScheduler] = []
        for watch in self._watches:
            found.extend(one for one in watch.event_map().schedulers() if one not in found)
        return found


def expect_watches(watches: list[Watch]) -> None:
    """Raise unless all of `watches` are watches; a config may have changed the list in an object of ours."""
    for watch in watches:
        expect("watches", watch, Watch)


def _known_flag(flag: object) -> EventName:
    """Return the event's name, or raise and say which was meant."""
    if flag in FLAGS:
        return flag
    if flag == _WRITE_CLOSE:
        warn(f"event_map: there is no {_WRITE_CLOSE}, taken as IN_CLOSE_WRITE")
        return "IN_CLOSE_WRITE"
    raise AssertionError(f"event_map: invalid flag: {flag}{_flag_hint(flag)}")


# Names of the kernel's for several events, and the separators with which people join names.
_SEVERAL = {
    "IN_CLOSE": ["IN_CLOSE_WRITE", "IN_CLOSE_NOWRITE"],
    "IN_MOVE": ["IN_MOVED_FROM", "IN_MOVED_TO"],
}
_SEPARATORS = str.maketrans("|,;+&/", "      ")


def _flag_hint(flag: object) -> str:
    """Return what to write instead of a flag that there is not."""
    if not isinstance(flag, str):
        return ", write the event's name as a string"
    names = _SEVERAL.get(flag) or [name for name in flag.translate(_SEPARATORS).split() if name != "IN_ISDIR"]
    if "IN_ISDIR" in flag and len(names) == 1:
        return f", write {names[0]!r}, and dirs=True at its scheduler"
    if len(names) > 1 and all(name in FLAGS for name in names):
        entries = ", ".join(f"{name!r}: ..." for name in names)
        return f", write an entry for each event: {entries}"
    if flag in ("ALL_EVENTS", "IN_ALL_EVENTS"):
        return ", write default_sched=... for all events"
    return similar(flag, list(FLAGS))


def _reaction(flag: str, mapped: object) -> Reaction:
    """Return what an event is mapped to; a bare coroutine function gets a scheduler of its own."""
    if isinstance(mapped, (TaskScheduler, Cancel)):
        return mapped
    if isinstance(mapped, type) and issubclass(mapped, Cancel):
        raise AssertionError(
            f"event_map: {flag}: Cancel lacks the scheduler whose tasks it cancels, write Cancel(scheduler)"
        )
    if isinstance(mapped, type) and issubclass(mapped, TaskScheduler):
        name = mapped.__name__
        raise AssertionError(f"event_map: {flag}: {name} is a class, write {name}(...) or the variable that holds one")
    if not callable(mapped):
        hint = (
            f": {flag} is mapped to {shown(mapped)}, write a scheduler, Cancel(scheduler), "
            f"a coroutine function or a list of these"
        )
        expected("job", "coroutine", mapped, hint)
    return scheduler_of(mapped, f"event_map: {flag}")


def _event_map(event_map: Union[None, Events, EventMap], default_sched: Mapped) -> EventMap:
    """Return an event map of the arguments of a watch."""
    if not isinstance(event_map, EventMap):
        return EventMap(event_map=event_map, default_sched=default_sched)
    if default_sched is None:
        return event_map
    mapped: dict[Any, Any] = dict(event_map._reactions)
    return EventMap(event_map=mapped, default_sched=default_sched, exclude_filter=event_map.exclude_filter)


def _read_filter(value: object, at: Optional[Place]) -> list[Excluded]:
    """Return the expressions of a filter: None, a file's path, or a list of expressions.

    Raises:
        AssertionError: The file can't be read.
    """
    if value is None:
        return []
    expect("exclude_filter", value, str, list)
    if isinstance(value, str):
        try:
            return _read_filter_file(value)
        except OSError as error:
            raise AssertionError(
                f"exclude_filter: {error}; a string is the path of a file with one expression a line, "
                f"write [{value!r}] for one expression"
            ) from error
    patterns: list[str] = value  # type: ignore[assignment]  # a list, as of the check
    for pattern in patterns:
        expect("exclude_filter", pattern, str)
    return [(pattern, at) for pattern in patterns]


def _read_filter_file(path: str) -> list[Excluded]:
    found: list[Excluded] = []
    # As paths are read: what is not UTF-8 in the file means the same bytes in a path.
    with open(path, encoding="utf-8", errors="surrogateescape") as lines:
        for number, line in enumerate(lines, 1):
            pattern = line.strip()
            if pattern and not pattern.startswith("#"):
                found.append((pattern, (path, number)))
    return found
