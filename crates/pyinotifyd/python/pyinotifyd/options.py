"""How the tasks of a scheduler run: again after a failure, not for too long, not too many at once.

Owns the checks of these arguments. What they do is the daemon's business.
"""

from __future__ import annotations

from .checked import Checked, expect, expect_path, one_of_words, place, refuse_bool, seconds, shown, similar

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import ClassVar, Literal, Optional, Union

    Number = Union[int, float]
    OnBusy = Literal["skip", "rerun", "restart"]
    #: What a failure is tried again for: exit statuses of commands, exceptions of jobs, and the two words.
    On = Union[int, type[BaseException], Literal["timeout", "signal"]]

# As many tasks as there can be.
FILES_MAX = 2_000_000

#: What may happen to an event for a path whose task runs.
BUSY = ["skip", "rerun", "restart"]

#: What the daemon counts to.
COUNT_MAX = 2**32 - 1

#: No file is larger (off_t).
_SIZE_MAX = 2**63 - 1

# What stands for failures that are no exit status and no exception.
_WORDS = ["timeout", "signal"]


class Retry(Checked):
    """When a task that failed is tried again: after growing pauses.

    Args:
        times: How often at most; None: without end. Default 5.
        delay: Seconds before the first of them; int or float. Default 10.
        factor: How many times as long as the one before each pause is; at least 1. Default 2.
        max_delay: Seconds that no pause exceeds before its jitter; int or float. Default 600.
        jitter: How much longer or shorter a pause is at random, as a part of itself; 0 to 1. Default 0.1.
        on: Which failures are tried again; others are final. For commands a list of exit statuses, for jobs a list of
            exception classes; "timeout" and "signal" stand for these. Default None: every failure. Not for file rules:
            they are tried again whatever the error is. A job is not tried again whose process ended while it ran.

    Example::

        convert = ShellScheduler(cmd="convert {pathname} /out/", retry=Retry(times=3, delay=60, on=[75, "timeout"]))
    """

    _called: ClassVar[str] = "a Retry"

    _kinds: ClassVar[dict[str, tuple[type, ...]]] = {
        "times": (),
        "delay": (),
        "factor": (),
        "max_delay": (),
        "jitter": (),
        "on": (),
    }

    times: Optional[int]
    delay: Number
    factor: Number
    max_delay: Number
    jitter: Number
    on: Optional[list[On]]

    def __init__(
        self,
        times: Optional[int] = 5,
        delay: Number = 10,
        factor: Number = 2,
        max_delay: Number = 600,
        jitter: Number = 0.1,
        on: Optional[list[On]] = None,
    ) -> None:
        """Check the arguments and keep them."""
        self.at = place()
        self.times = times
        self.delay = delay
        self.factor = factor
        self.max_delay = max_delay
        self.jitter = jitter
        self.on = on
        if max_delay < delay:
            raise AssertionError(f"max_delay: expected at least the delay of {delay} seconds, got {max_delay}")

    def __setattr__(self, name: str, value: object) -> None:
        """Check what a type alone doesn't say, then set the attribute."""
        if name == "times" and value is not None:
            expect_count("times", value)
        elif name in ("delay", "max_delay"):
            seconds(name, value)  # type: ignore[arg-type]  # checked there
        elif name == "factor":
            _expect_between("factor", value, 1, 1000)
        elif name == "jitter":
            _expect_between("jitter", value, 0, 1)
        elif name == "on" and value is not None:
            expect("on", value, list)
            if not value:
                raise AssertionError("on: names no failure, leave it out to try all again, or leave out the Retry")
            for one in value:  # type: ignore[attr-defined]  # a list, as of the check
                _expect_failure(one)
        super().__setattr__(name, value)


class Batch(Checked):
    """When one run begins for many paths.

    Each path is in it once, in the order of the first events, with its latest event. A Cancel takes a path out. Events
    that come during a run make the next one.

    Args:
        quiet: How many seconds without an event it waits for; int or float. Default 2.
        max_wait: How many seconds after its first event it begins in any case; int or float. Default 30.
        max_files: How many paths it has at most; then it begins at once. Default 1000.

    Example::

        async def report(events: list[Event], task_id: str) -> None:
            send_mail("new files", "\\n".join(event.pathname for event in events))

        reporter = TaskScheduler(job=report, batch=Batch(quiet=10, max_wait=300))
        archive = ShellScheduler(cmd="tar -rf /srv/new.tar {pathnames}", batch=Batch())
    """

    _called: ClassVar[str] = "a Batch"

    _kinds: ClassVar[dict[str, tuple[type, ...]]] = {"quiet": (), "max_wait": (), "max_files": ()}

    quiet: Number
    max_wait: Number
    max_files: int

    def __init__(self, quiet: Number = 2, max_wait: Number = 30, max_files: int = 1000) -> None:
        """Check the arguments and keep them."""
        self.at = place()
        self.quiet = quiet
        self.max_wait = max_wait
        self.max_files = max_files
        if max_wait < quiet:
            raise AssertionError(f"max_wait: expected at least quiet, which is {quiet} seconds, got {max_wait}")

    def __setattr__(self, name: str, value: object) -> None:
        """Check what a type alone doesn't say, then set the attribute."""
        if name in ("quiet", "max_wait"):
            seconds(name, value)  # type: ignore[arg-type]  # checked there
        elif name == "max_files":
            expect_count("max_files", value)
            if value > FILES_MAX:  # type: ignore[operator]  # an int, as of the check
                raise AssertionError(f"max_files: expected at most {FILES_MAX}, got {value}")
        super().__setattr__(name, value)


class Settle(Checked):
    """What a task that is due waits for before it starts.

    Directories settle at once. IN_DELETE, IN_DELETE_SELF, IN_MOVED_FROM and IN_Q_OVERFLOW wait for nothing, since no
    file is there, nor does what an *on_failure* tells the scheduler. A symbolic link is judged by itself: its own size
    and time, and the marker of its own name; what it leads to is not looked at. If the path vanishes meanwhile, the
    task gets what its map has for IN_DELETE.

    Args:
        no_writer: Whether to wait until nobody has the file open for writing. Default True.
        stable: How many seconds its size and time of change must have been the same, as far as the daemon saw it; int
            or float. A task that is tried again need not wait so long once more. Default 0.
        min_size: How many bytes it must have at least. Default 0.
        marker: Path of another file that must exist, with ``{pathname}``, ``{dirname}``, ``{name}``, and ``{stem}``,
            the name without its last suffix. Default None: none.
        give_up: How many seconds after it was first due a task fails for good; int or float. Default 3600.
        check: Seconds between two looks; int or float. Default 1.

    Example::

        upload = FileManagerScheduler(rules=publish, settle=Settle(stable=5, marker="{dirname}/{stem}.ok"))
    """

    _called: ClassVar[str] = "a Settle"

    _kinds: ClassVar[dict[str, tuple[type, ...]]] = {
        "no_writer": (bool,),
        "stable": (),
        "min_size": (),
        "marker": (),
        "give_up": (),
        "check": (),
    }

    no_writer: bool
    stable: Number
    min_size: int
    marker: Optional[str]
    give_up: Number
    check: Number

    def __init__(
        self,
        no_writer: bool = True,
        stable: Number = 0,
        min_size: int = 0,
        marker: Optional[str] = None,
        give_up: Number = 3600,
        check: Number = 1,
    ) -> None:
        """Check the arguments and keep them."""
        self.at = place()
        self.no_writer = no_writer
        self.stable = stable
        self.min_size = min_size
        self.marker = marker
        self.give_up = give_up
        self.check = check
        if not (no_writer or stable or min_size or marker):
            raise AssertionError(
                "Settle: asks for nothing, give it at least one of no_writer, stable, min_size, marker"
            )
        if give_up < stable:
            raise AssertionError(f"give_up: expected at least stable, which is {stable} seconds, got {give_up}")

    def __setattr__(self, name: str, value: object) -> None:
        """Check what a type alone doesn't say, then set the attribute."""
        if name == "stable":
            seconds(name, value)  # type: ignore[arg-type]  # checked there
        elif name in ("give_up", "check"):
            expect_positive(name, value)
        elif name == "min_size":
            expect("min_size", value, int)
            if isinstance(value, bool) or value < 0:  # type: ignore[operator]  # an int, as of the check
                raise AssertionError(f"min_size: expected 0 or more bytes, got {value}")
            if value > _SIZE_MAX:  # type: ignore[operator]  # as above
                raise AssertionError(f"min_size: no file has more than {_SIZE_MAX} bytes, got {value}")
        elif name == "marker" and value is not None:
            expect_path("marker", value)  # type: ignore[arg-type]  # checked there
            _expect_fields(value)  # type: ignore[arg-type]  # a str, as of the check
        super().__setattr__(name, value)


# What a marker may hold in braces.
_FIELDS = ["pathname", "dirname", "name", "stem"]


def _expect_fields(marker: str) -> None:
    """Raise if a marker holds something in braces that stands for nothing."""
    for part in marker.split("{")[1:]:
        field, brace, _ = part.partition("}")
        if brace and field not in _FIELDS:
            known = ", ".join(f"{{{name}}}" for name in _FIELDS)
            raise AssertionError(f"marker: {{{field}}} is none of {known}{similar(field, _FIELDS)}")


def _expect_failure(value: object) -> None:
    if isinstance(value, str):
        one_of_words("on", value, _WORDS)
    elif isinstance(value, type) and issubclass(value, BaseException):
        return
    elif not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 256:
        raise AssertionError(
            f"on: expected exit statuses from 1 to 255, exceptions, 'timeout' or 'signal', got {shown(value)}"
        )


def expect_retry(value: object, kind: str) -> None:
    """Raise unless `value` is a Retry that means something for schedulers of a kind."""
    expect("retry", value, Retry)
    for one in value.on or ():  # type: ignore[attr-defined]  # a Retry, as of the check
        if kind == "files":
            raise AssertionError("retry: on= is for commands and jobs, all failures of file rules are tried again")
        is_class = isinstance(one, type)
        if kind == "job" and not is_class and one != "timeout":
            raise AssertionError(f"retry: a job fails by exceptions or a timeout, not by {one!r}")
        if kind == "shell" and is_class:
            raise AssertionError(
                f"retry: a command fails by exit statuses, signals or a timeout, not by {one.__name__}"
            )


def expect_count(name: str, value: object) -> None:
    """Raise unless `value` is a number of at least 1."""
    expect(name, value, int)
    if isinstance(value, bool) or value < 1:  # type: ignore[operator]  # an int, as of the check
        raise AssertionError(f"{name}: expected at least 1, got {value}")
    if value > COUNT_MAX:  # type: ignore[operator]  # as above
        raise AssertionError(f"{name}: expected at most {COUNT_MAX}, got {value}")


def expect_positive(name: str, value: object) -> None:
    """Raise unless `value` is a length of time that is longer than nothing."""
    seconds(name, value)  # type: ignore[arg-type]  # checked there
    if not value:
        raise AssertionError(f"{name}: expected more than 0 seconds, got {value}")


def expect_rate(value: object) -> None:
    """Raise unless `value` is a number of starts and a length of time."""
    expect("max_rate", value, tuple, list)
    if len(value) != 2:  # type: ignore[arg-type]  # a tuple or list
        raise AssertionError(f"max_rate: expected (starts, seconds), got {shown(value)}")
    expect_count("max_rate", value[0])  # type: ignore[index]  # of two, as of the check
    expect_positive("max_rate", value[1])  # type: ignore[index]  # as above


def _expect_between(name: str, value: object, least: float, most: float) -> None:
    refuse_bool(name, value, f"a number from {least} to {most}")
    expect(name, value, int, float)
    if not least <= value <= most:  # type: ignore[operator]  # False for NaN, too
        raise AssertionError(f"{name}: expected a number from {least} to {most}, got {value}")
