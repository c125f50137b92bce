"""Schedulers: what is to be done, for which objects, and how long to wait before it.

Owns what a scheduler, a cancel and a file rule can say, and the checks of it. Leaves the doing to the daemon, and to
`pyinotifyd.host.jobs` for custom jobs.
"""

from __future__ import annotations

import sys

from . import command
from .checked import (
    Checked,
    expect,
    expect_absolute_path,
    expected,
    one_of_words,
    place,
    refuse_bool,
    refuse_tilde,
    seconds,
    shown,
    similar,
)
from .levels import one_of, warn_at
from .options import BUSY, Batch, Settle, expect_count, expect_positive, expect_rate, expect_retry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any, Callable, ClassVar, Literal, Optional, TypedDict, Union, overload

    from typing_extensions import Unpack

    from .checked import Place
    from .command import Limit
    from .event import Event
    from .options import OnBusy, Retry

    Job = Callable[[Event, str], Coroutine[Any, Any, object]]
    BatchJob = Callable[[list[Event], str], Coroutine[Any, Any, object]]
    Number = Union[int, float]
    Argv = Union[list[str], tuple[str, ...]]
    Stdin = Literal["null", "json", "paths"]
    Output = Literal["inherit", "log", "null"]
    Receivers = Union[None, "TaskScheduler", Job, list[Union["TaskScheduler", Job]]]
    Action = Literal["move", "copy", "delete"]
    Conflict = Literal["fail", "overwrite", "skip", "rename", "newer", "same"]

    # The arguments that overloads share: these say which ones exclude each other, and checkers alone read them.

    class Running(TypedDict, total=False):
        """How the tasks of any scheduler run."""

        name: Optional[str]
        timeout: Optional[Number]
        retry: Optional[Retry]
        on_failure: Receivers
        max_rate: Optional[tuple[int, Number]]
        persist: bool
        rerun: bool

    class RunningAlone(Running, total=False):
        """The same without a batch."""

        max_delay: Optional[Number]
        settle: Optional[Settle]
        on_busy: OnBusy

    class CommandArguments(Running, total=False):
        """What a command is given, whatever says what is executed."""

        files: bool
        dirs: bool
        logname: Optional[str]
        global_vars: dict[str, Any]
        max_jobs: Optional[int]
        user: Optional[Union[str, int]]
        group: Optional[Union[str, int]]
        umask: Optional[int]
        nice: int
        cwd: Optional[str]
        env: dict[str, str]
        limits: dict[Limit, Optional[int]]
        stdin: Optional[Stdin]
        output: Output

    class CommandAlone(CommandArguments, RunningAlone, total=False):
        """The same without a batch."""

        delay: Number
        singlejob: bool

    class RuleArguments(TypedDict, total=False):
        """What rules of all actions take by name."""

        override: Optional[bool]
        durable: Optional[bool]
        trash: Optional[str]
        trash_keep: Optional[Number]
        generations: int

    class Destination(RuleArguments, total=False):
        """What rules take that have a destination."""

        on_conflict: Optional[Conflict]
        verify: bool
        mounted: Optional[str]


# How many commands of a ShellScheduler run at once unless the config says otherwise: plenty for commands that wait,
# and far from the system's limit of processes when ten thousand files arrive.
SHELL_JOBS_DEFAULT = 64

# Flags of code objects (inspect.CO_COROUTINE); importing inspect costs 10 ms.
_CO_COROUTINE = 0x80
_CO_ASYNC_GENERATOR = 0x200

# Names stand in log lines, in the columns of tables and in URLs.
NAME_MAX = 100

# What a name may hold besides letters and digits, as a letter.
_PUNCTUATION = str.maketrans("._-", "aaa")

# The digits of the umasks that are used; as numbers of ten they are none that anybody would want.
_USUAL_UMASKS = (22, 27, 77)

_NO_VARIABLES: dict[str, object] = {}
_NO_TEXTS: dict[str, str] = {}
_NO_LIMITS: dict[Limit, Optional[int]] = {}


class TaskScheduler(Checked):
    """Runs a Python coroutine function for events, on asyncio in a Python process of its own.

    Each path has its own task. An event for a path whose task waits begins the delay anew. One for a path whose task
    runs is skipped with a warning. Jobs of different paths run at the same time.

    Args:
        job: Coroutine function, called with the event (with a batch: a list of events) and the task's id (a text of 36
            characters).
        files: Whether events of files schedule tasks. Default True.
        dirs: Whether events of directories schedule tasks. Default False.
        delay: Seconds to wait before the job starts; int or float. Default 0: start at once.
        logname: Name of the logger for the scheduler's records. Default "sched".
        global_vars: Accepted and not needed: a job sees all names of the config. Default {}.
        singlejob: Whether there is only one task for all paths together. Default False.
        max_jobs: How many jobs run at once; others wait in order. Default None: no limit. Not in pyinotifyd 1.
        name: What identifies the scheduler in ``--explain`` and across a reload: letters, digits, ``.``, ``_``, ``-``.
            Default None: the variable of the config that holds it, for a coroutine function in an event map the
            function's name, else ``scheduler-N``. Not in pyinotifyd 1.
        timeout: Seconds after which a task that still runs is stopped and has failed; int or float. Default None: none.
            Not in pyinotifyd 1.
        retry: A Retry: when a task that failed is tried again, under the same id. Default None: never. Not in
            pyinotifyd 1.
        on_failure: A scheduler, a coroutine function or a list of these, which gets the event once when a task has
            failed for good: with *error*, *attempts* and *task_id* in the event. Commands have ``{error}`` and
            ``$PYINOTIFYD_ERROR``; they learn the other two with ``stdin="json"`` only, since ``$PYINOTIFYD_TASK_ID``
            is the id of their own task. Default None: nobody. Not in pyinotifyd 1.
        max_delay: How many seconds after its first event a task waits at most, however many events come; int or float.
            Default None: no limit. Not in pyinotifyd 1.
        max_rate: A pair (N, S): at most N tasks start in any S seconds, retries included; others wait in order. A
            reload goes on counting, a new start of the daemon begins anew. Default None: no limit. Not in pyinotifyd 1.
        settle: A Settle: what a task that is due waits for, so that its file is complete. Default None: nothing. Not in
            pyinotifyd 1.
        on_busy: What an event does if the task of its path runs. "skip": nothing, with a warning. "rerun": the task
            runs once more, the delay after its end, for the latest event. "restart": the task is stopped and starts
            anew. Default "skip". Not in pyinotifyd 1.
        persist: Whether a state (see Pyinotifyd) keeps its tasks. Default True. Not in pyinotifyd 1.
        rerun: Whether a task that ran when the daemon ended runs again at the next start; else it has failed. Default
            False. Not in pyinotifyd 1.
        batch: A Batch, by which one task runs for many paths: the job is called with a list of events and the task's
            id. Not together with *delay*, *singlejob*, *max_delay*, *settle* and *on_busy*. Default None: each path
            has its own. Not in pyinotifyd 1.

    Example::

        async def report(event: Event, task_id: str) -> None:
            logging.info(f"{task_id}: {event.maskname} {event.pathname}")

        reporter = TaskScheduler(job=report, delay=2.5)
    """

    _called: ClassVar[str] = "a scheduler"

    _kinds: ClassVar[dict[str, tuple[type, ...]]] = {
        "job": (),
        "files": (bool,),
        "dirs": (bool,),
        "delay": (),
        "logname": (str, type(None)),
        "global_vars": (dict,),
        "singlejob": (),
        "max_jobs": (),
        "name": (),
        "timeout": (),
        "retry": (),
        "on_failure": (),
        "max_delay": (),
        "max_rate": (),
        "settle": (),
        "on_busy": (),
        "persist": (bool,),
        "rerun": (bool,),
        "batch": (),
    }

    job: Union[Job, BatchJob]
    files: bool
    dirs: bool
    delay: Number
    logname: Optional[str]
    global_vars: dict[str, Any]
    singlejob: bool
    max_jobs: Optional[int]
    #: The name that the config gives. None: the daemon finds one.
    name: Optional[str]
    timeout: Optional[Number]
    retry: Optional[Retry]
    on_failure: list[TaskScheduler]
    max_delay: Optional[Number]
    max_rate: Optional[tuple[int, Number]]
    settle: Optional[Settle]
    on_busy: OnBusy
    persist: bool
    rerun: bool
    batch: Optional[Batch]

    #: Whose failures `retry` is for, see `pyinotifyd.options`.
    _kind: ClassVar[str] = "job"

    if TYPE_CHECKING:

        @overload
        def __init__(
            self,
            job: Job,
            files: bool = True,
            dirs: bool = False,
            delay: Number = 0,
            logname: Optional[str] = "sched",
            global_vars: dict[str, Any] = _NO_VARIABLES,
            singlejob: bool = False,
            max_jobs: Optional[int] = None,
            *,
            batch: None = None,
            **running: Unpack[RunningAlone],
        ) -> None: ...

        @overload
        def __init__(
            self,
            job: BatchJob,
            files: bool = True,
            dirs: bool = False,
            delay: Literal[0] = 0,
            logname: Optional[str] = "sched",
            global_vars: dict[str, Any] = _NO_VARIABLES,
            singlejob: Literal[False] = False,
            max_jobs: Optional[int] = None,
            *,
            batch: Batch,
            **running: Unpack[Running],
        ) -> None: ...

    def __init__(
        self,
        job: Union[Job, BatchJob],
        files: bool = True,
        dirs: bool = False,
        delay: Number = 0,
        logname: Optional[str] = "sched",
        global_vars: dict[str, Any] = _NO_VARIABLES,
        singlejob: bool = False,
        max_jobs: Optional[int] = None,
        *,
        name: Optional[str] = None,
        timeout: Optional[Number] = None,
        retry: Optional[Retry] = None,
        on_failure: Receivers = None,
        max_delay: Optional[Number] = None,
        max_rate: Optional[tuple[int, Number]] = None,
        settle: Optional[Settle] = None,
        on_busy: OnBusy = "skip",
        persist: bool = True,
        rerun: bool = False,
        batch: Optional[Batch] = None,
    ) -> None:
        """Check the arguments and keep them."""
        self.at = place()
        self.job = job
        self._set_common(files, dirs, delay, logname, global_vars, singlejob, max_jobs, name)
        self._set_running(timeout, retry, on_failure, max_delay, max_rate, settle, on_busy, batch)
        self._set_kept(persist, rerun)

    def _set_common(
        self,
        files: bool,
        dirs: bool,
        delay: Number,
        logname: Optional[str],
        global_vars: dict[str, Any],
        singlejob: bool,
        max_jobs: Optional[int],
        name: Optional[str],
    ) -> None:
        self.files = files
        self.dirs = dirs
        self.delay = delay
        self.logname = logname
        self.global_vars = global_vars
        self.singlejob = singlejob
        self.max_jobs = max_jobs
        self.name = name
        made_schedulers.append(self)

    def _set_running(
        self,
        timeout: Optional[Number],
        retry: Optional[Retry],
        on_failure: Receivers,
        max_delay: Optional[Number],
        max_rate: Optional[tuple[int, Number]],
        settle: Optional[Settle],
        on_busy: OnBusy = "skip",
        batch: Optional[Batch] = None,
    ) -> None:
        self.timeout = timeout
        self.retry = retry
        self.on_failure = on_failure  # type: ignore[assignment]  # __setattr__ makes a list of schedulers of it
        self.max_delay = max_delay
        self.max_rate = max_rate
        self.settle = settle
        self.on_busy = on_busy
        self.batch = batch
        fault = fault_of_batch(self)
        if fault:
            raise AssertionError(fault)
        if max_delay is not None and max_delay < self.delay:
            raise AssertionError(f"max_delay: expected at least the delay of {self.delay} seconds, got {max_delay}")

    def _set_kept(self, persist: bool, rerun: bool) -> None:
        self.persist = persist
        self.rerun = rerun

    def __setattr__(self, name: str, value: object) -> None:
        """Check what a type alone doesn't say, then set the attribute."""
        if name == "job":
            if not is_coroutine_function(value):
                expected("job", "coroutine", value, _job_hint(value))
            _expect_event_and_id(value)
        elif name == "delay":
            seconds("delay", value, bool_as_before=True)  # type: ignore[arg-type]  # checked there
        elif name == "max_jobs" and value is not None:
            expect("max_jobs", value, int)
            if value is True or value < 1:  # type: ignore[operator]  # an int, as of the line above
                raise AssertionError(f"max_jobs: expected at least 1 job, got {value}")
            expect_count("max_jobs", value)
        elif name == "name" and value is not None:
            _expect_name(value)
        elif name in ("timeout", "max_delay") and value is not None:
            expect_positive(name, value)
        elif name == "retry" and value is not None:
            expect_retry(value, self._kind)
        elif name == "max_rate" and value is not None:
            expect_rate(value)
        elif name == "settle" and value is not None:
            expect("settle", value, Settle)
        elif name == "batch" and value is not None:
            expect("batch", value, Batch)
            if self._kind == "files":
                raise AssertionError("batch: is for jobs and commands, file rules act on one path at a time")
        elif name == "on_busy":
            one_of_words("on_busy", value, BUSY)
        elif name == "on_failure":
            value = _receivers(value)
        super().__setattr__(name, value)


# What can't be given together with a batch, and what there is instead.
_NOT_WITH_BATCH = {
    "delay": "its quiet says how long there must be no event",
    "singlejob": "only one of its tasks runs at a time",
    "max_delay": "its max_wait says how long events can put it off",
    "settle": "it doesn't wait for single files",
    "on_busy": "events that come while it runs make the next one",
}


def fault_of_batch(scheduler: TaskScheduler) -> Optional[str]:
    """Return what can't be given together with the batch of a scheduler, if it has one and something of that."""
    if scheduler.batch is None:
        return None
    for name, instead in _NOT_WITH_BATCH.items():
        if getattr(scheduler, name) not in (None, False, 0, "skip"):
            return f"{name}: can't be given together with batch, {instead}"
    return None


#: All schedulers that a config has made, used or not, in the order of their construction.
made_schedulers: list[TaskScheduler] = []


#: Schedulers of coroutine functions that stand in event maps and on_failure themselves.
bare_jobs: list[TaskScheduler] = []


def _receivers(value: object) -> list[TaskScheduler]:
    """Return the schedulers that get failures, each once; a bare coroutine function gets one of its own."""
    given = value if isinstance(value, list) else [] if value is None else [value]
    return [_receiver(one) for one in {id(one): one for one in given}.values()]


def _receiver(value: object) -> TaskScheduler:
    if isinstance(value, TaskScheduler):
        return value
    if isinstance(value, type) or not callable(value):
        raise AssertionError(
            f"on_failure: expected a scheduler, a coroutine function or a list of these, got {shown(value)}"
        )
    return scheduler_of(value, "on_failure")


def scheduler_of(job: Callable[..., object], where: str) -> TaskScheduler:
    """Return the scheduler that a bare coroutine function gets; `where` it stands, for what is wrong with it."""
    try:
        scheduler: TaskScheduler = TaskScheduler(job)  # type: ignore[arg-type]  # it checks that itself
    except AssertionError as error:
        raise AssertionError(f"{error} ({where})") from None
    bare_jobs.append(scheduler)
    return scheduler


class Cancel(Checked):
    """In an event map: cancels the task that waits for the event's path.

    A task that already runs is not cancelled; the event is skipped with a warning.

    Args:
        task: The scheduler whose task is cancelled.

    Example::

        event_map = {"IN_CLOSE_WRITE": scheduler, "IN_DELETE": Cancel(scheduler)}
    """

    _called: ClassVar[str] = "a Cancel"

    _kinds: ClassVar[dict[str, tuple[type, ...]]] = {"task": (TaskScheduler,)}

    task: TaskScheduler

    def __init__(self, task: TaskScheduler) -> None:
        """Check the argument and keep it."""
        self.at = place()
        self.task = task


class ShellScheduler(TaskScheduler):
    """Runs a command for events: a command line by ``/bin/sh -c``, or a program with its arguments.

    In *cmd* and in each element of *argv*, ``{maskname}``, ``{pathname}`` and ``{src_pathname}`` are replaced by the
    event's values; ``{src_pathname}`` is empty unless the event is an IN_MOVED_TO whose IN_MOVED_FROM was seen. In
    *cmd* they are quoted so that the shell takes each as one word, outside of quotes and in any quotes. Refused, since
    no quoting is right there or can be seen to be right: in backticks, in ``$(...)`` in quotes, in ``${...}``, in
    arithmetic, in and behind a here-document, behind ``case`` in ``$(...)``, and right behind ``$`` or a backslash. In
    *argv* they need no quotes: there is no shell.
    A program that gives its arguments to another shell, as ``ssh`` does, has them read once more, without quotes: send
    it the name on stdin, ``printf "%s\\n" {pathname} | ssh host 'IFS= read -r name && rm -- "$name"'``.
    ``-t`` and the log warn of ``ssh``, ``watch``, ``parallel``, ``xargs sh -c`` and of what is piped to a shell.
    ``eval`` beside a placeholder, and a placeholder that ``echo`` or ``printf`` pipes to a shell, to ``at``, to
    ``crontab``, or to ``ssh`` without a command, are refused, within ``{ ...; }``, ``( ... )``, loops and conditions,
    too.
    A variable, unlike a placeholder, needs double quotes: a shell splits ``$PYINOTIFYD_PATHNAME`` and
    ``$(basename {pathname})`` at blanks, and takes ``*`` and ``?`` in it for a pattern. ``-t`` and the log warn of it,
    and say what to write: ``"$(basename "$PYINOTIFYD_PATHNAME")"``. Nothing is said where no shell splits: in ``x=$y``,
    behind ``case`` and ``>``, in ``[[ ]]`` and in here-documents.

    A value in code is executed as code. So a placeholder, or a variable that the shell expands to its value, is refused
    in what a shell or a language executes: behind ``-c`` of ``sh``, ``$SHELL`` or ``python3``, behind ``-e`` of
    ``perl``, in the program of ``awk``, in ``env -S`` and ``make NAME=VALUE``. ``"$PYINOTIFYD_PATHNAME"`` is such a
    variable, outside of quotes and in double quotes; in single quotes the other shell expands it, which is right.
    ``-t`` and the log warn of ``sed``, ``jq`` and ``gdb -ex``, of SQL for ``sqlite3``, ``psql`` and ``mysql``, of what
    ``tmux`` and ``screen`` type or run, and of a text with blanks behind ``-c``, ``-e`` and their like of programs that
    are not known. Give the value as an argument: ``sh -c 'rm -- "$1"' sh {pathname}``. That is right for ``sudo``,
    ``su -`` and ``docker exec``, too, where the variable is empty; ``-t`` and the log warn of one there.

    The command has from the daemon what these arguments do not set. Those from *argv* on are not in pyinotifyd 1.

    Args:
        cmd: The command line. Default None: *argv* says what is executed.
        job: Accepted and not needed. Default None.
        files: As for TaskScheduler. Default True.
        dirs: As for TaskScheduler. Default False.
        delay: Seconds to wait before the command starts; int or float. Default 0: start at once.
        logname: Name of the logger for the scheduler's records. Default "sched".
        global_vars: Accepted and not needed. Default {}.
        singlejob: Whether there is only one task for all paths together. Default False.
        max_jobs: How many commands run at once; others wait in order. None: no limit. Default 64. Not in pyinotifyd 1.
        name: As for TaskScheduler. Default None. Not in pyinotifyd 1.
        argv: A list of a program and its arguments. A program without a slash is looked for in PATH. Default None:
            *cmd* says what is executed.
        user: Name or number of the user that the command runs as, with this user's groups, HOME, USER and LOGNAME. From
            the daemon's environment it gets PATH, LANG, LANGUAGE, LC_* and TZ, and what the config sets. Needs root.
            Default None: the daemon's.
        group: Name or number of its group. Default None: the user's.
        umask: Mode bits that its files do not get, e.g. 0o027. Default None: the daemon's.
        nice: Added to the niceness, from -39 to 39; negative numbers need root. Default 0.
        cwd: Path of its working directory. Default None: the daemon's.
        env: More environment variables, by name; they may not begin with ``PYINOTIFYD_``. Default {}.
        limits: Soft and hard limits by the names of getrlimit(2): "as", "core", "cpu", "data", "fsize", "nofile",
            "nproc" and so on, in the units of that page; None is no limit. Default {}: the daemon's.
        stdin: What it reads: "null" nothing, "json" a line with all attributes of the event as a JSON object (of bytes
            that are not UTF-8, ``NAME_b64`` holds the base64), "paths" the path with a NUL byte at its end. With a
            batch these are of each event, one after the other. Default None: "paths" with a batch, else "null".
        output: Where its output goes: "inherit" where the daemon's goes, "null" nowhere, "log" line by line into the
            log, at INFO, what it writes to stderr at WARNING; 8 KiB of a line and 1,000 lines of a task are logged. The
            task ends with the command, even if another process goes on writing. Default "inherit".
        timeout: As for TaskScheduler. Default None. Not in pyinotifyd 1.
        retry: As for TaskScheduler. Default None. Not in pyinotifyd 1.
        on_failure: As for TaskScheduler. Default None. Not in pyinotifyd 1.
        max_delay: As for TaskScheduler. Default None. Not in pyinotifyd 1.
        max_rate: As for TaskScheduler. Default None. Not in pyinotifyd 1.
        settle: As for TaskScheduler. Default None. Not in pyinotifyd 1.
        on_busy: As for TaskScheduler. Default "skip". Not in pyinotifyd 1.
        persist: As for TaskScheduler. Default True. Not in pyinotifyd 1.
        rerun: As for TaskScheduler. Default False. Not in pyinotifyd 1.
        batch: As for TaskScheduler. In the command ``{pathnames}`` is replaced by all paths, each as one word; in
            *argv* it is an element of its own. The other placeholders are refused, and of the variables only
            PYINOTIFYD_TASK_ID is set. If there are too many for one command line, several commands run one after the
            other. Default None. Not in pyinotifyd 1.

    Example::

        scan = ShellScheduler(cmd="/usr/local/bin/scan {pathname}", delay=5, max_jobs=4)
        encode = ShellScheduler(
            argv=["ffmpeg", "-i", "{pathname}", "-f", "null", "-"],
            user="media", nice=10, limits={"as": 2 * 1024**3}, output="log")
    """

    _kinds: ClassVar[dict[str, tuple[type, ...]]] = {
        **TaskScheduler._kinds,
        "cmd": (str, type(None)),
        **dict.fromkeys(command.CHECKS, ()),
    }

    cmd: Optional[str]
    argv: Optional[Argv]
    user: Optional[Union[str, int]]
    group: Optional[Union[str, int]]
    umask: Optional[int]
    nice: int
    cwd: Optional[str]
    env: dict[str, str]
    limits: dict[Limit, Optional[int]]
    stdin: Optional[Stdin]
    output: Output
    _kind: ClassVar[str] = "shell"

    if TYPE_CHECKING:

        @overload
        def __init__(
            self, cmd: str, job: None = None, *, argv: None = None, batch: None = None, **more: Unpack[CommandAlone]
        ) -> None: ...

        @overload
        def __init__(
            self, cmd: str, job: None = None, *, argv: None = None, batch: Batch, **more: Unpack[CommandArguments]
        ) -> None: ...

        @overload
        def __init__(
            self, cmd: None = None, job: None = None, *, argv: Argv, batch: None = None, **more: Unpack[CommandAlone]
        ) -> None: ...

        @overload
        def __init__(
            self, cmd: None = None, job: None = None, *, argv: Argv, batch: Batch, **more: Unpack[CommandArguments]
        ) -> None: ...

    def __init__(
        self,
        cmd: Optional[str] = None,
        job: None = None,
        *,
        files: bool = True,
        dirs: bool = False,
        delay: Number = 0,
        logname: Optional[str] = "sched",
        global_vars: dict[str, Any] = _NO_VARIABLES,
        singlejob: bool = False,
        max_jobs: Optional[int] = SHELL_JOBS_DEFAULT,
        name: Optional[str] = None,
        argv: Optional[Argv] = None,
        user: Optional[Union[str, int]] = None,
        group: Optional[Union[str, int]] = None,
        umask: Optional[int] = None,
        nice: int = 0,
        cwd: Optional[str] = None,
        env: dict[str, str] = _NO_TEXTS,
        limits: dict[Limit, Optional[int]] = _NO_LIMITS,
        stdin: Optional[Stdin] = None,
        output: Output = "inherit",
        timeout: Optional[Number] = None,
        retry: Optional[Retry] = None,
        on_failure: Receivers = None,
        max_delay: Optional[Number] = None,
        max_rate: Optional[tuple[int, Number]] = None,
        settle: Optional[Settle] = None,
        on_busy: OnBusy = "skip",
        persist: bool = True,
        rerun: bool = False,
        batch: Optional[Batch] = None,
    ) -> None:
        """Check the arguments and keep them."""
        self.at = place()
        _expect_no_job(self, job)
        self.cmd = cmd
        self.argv = argv
        fault = command.fault_of(self.cmd, self.argv)
        if fault:
            raise AssertionError(fault)
        self.user = user
        self.group = group
        self.umask = umask
        self.nice = nice
        self.cwd = cwd
        self.env = dict(env) if isinstance(env, dict) else env
        self.limits = dict(limits) if isinstance(limits, dict) else limits
        self.stdin = stdin
        self.output = output
        self._set_common(files, dirs, delay, logname, global_vars, singlejob, max_jobs, name)
        self._set_running(timeout, retry, on_failure, max_delay, max_rate, settle, on_busy, batch)
        self._set_kept(persist, rerun)
        if umask in _USUAL_UMASKS:
            warn_at(self.at, f"umask: {umask} is 0o{umask:o}, write 0o{umask} if that is meant")

    def __setattr__(self, name: str, value: object) -> None:
        """Check what a type alone doesn't say, then set the attribute."""
        check = command.CHECKS.get(name)
        if check:
            check(name, value)
        if name == "cmd" and isinstance(value, str):
            command.expect_text(name, value)
        super().__setattr__(name, value)


#: All rules that a config has made, used or not: the daemon checks the expressions of all.
made_rules: list[FileManagerRule] = []


class Pattern(str):
    """A regular expression as a text, which also has the attribute that a compiled one has."""

    __slots__ = ()

    @property
    def pattern(self) -> str:
        """The text."""
        return str(self)


class FileManagerRule(Checked):
    """One rule of a FileManagerScheduler: for which paths it is, and what it does.

    Args:
        action: "move", "copy" or "delete".
        src_re: Regular expression for the paths of the rule, matched from their start.
        dst_re: Template of the destination, with groups of *src_re* as in re.sub: it replaces the part of the path that
            matches, the rest stays. For move and copy. Default "".
        auto_create: Whether to make missing parent directories of the destination. Default False. They stay where the
            action fails then.
        overwrite: Whether to replace an existing destination. Default False.
        dirmode: Mode of moved or copied directories and of parents that are made, e.g. 0o755. Default None: unchanged.
        filemode: Mode of moved or copied files, e.g. 0o644. Default None: unchanged.
        user: Owner of what was moved, copied or made. Default None: unchanged.
        group: Group of what was moved, copied or made. Default None: unchanged.
        rec: Whether delete removes directories that are not empty. Default False.
        override: Another spelling of *overwrite*.
        durable: Whether to wait until the destination is on the disk: safe against a power cut, but slower. Default
            None: only for moves to another filesystem. Not in pyinotifyd 1.
        on_conflict: What happens if the destination exists. "fail": the action fails. "overwrite": what is there is
            replaced. "skip": nothing is done. "rename": the result gets the first free name of ``stem.1.ext``,
            ``stem.2.ext`` and so on. "newer": a file is replaced if the source was written later, else nothing is
            done. "same": if the content is equal, a copy does nothing and a move removes the source; else it fails.
            The last two are for files, a directory fails. Default None: "overwrite" with *overwrite*, else "fail". Not
            in pyinotifyd 1.
        verify: Whether to read a copy back from the disk, as far as the kernel allows, and compare it before it gets
            its name. Default False. Not in pyinotifyd 1.
        trash: Absolute path of a directory that gets what would be overwritten or deleted, as
            ``YYYYMMDD-HHMMSS.mmm/absolute/path``. Default None: it is gone. Not in pyinotifyd 1.
        trash_keep: How many seconds files stay in the trash; looked at once an hour; int or float. Default None: for
            ever. Not in pyinotifyd 1.
        mounted: Absolute path of a directory above the destination. The action fails unless something is mounted there.
            Default None: no matter. Not in pyinotifyd 1.
        prune: Whether to remove directories that are empty after the action, from that of the source up to the root of
            a watch, which stays. For move and delete. Default False. Not in pyinotifyd 1.
        generations: How many actions of rules may follow one another, each on what the one before made: the result, a
            directory on the way to it, or what it put into the trash, also through links and mounts. The action
            on what somebody else made is number 1; one above this number fails. Default 8. Not in pyinotifyd 1.

    Example::

        publish = FileManagerRule(
            action="move", src_re=r"^/srv/in/(?P<name>.*)\\.done$", dst_re=r"/srv/www/\\g<name>", filemode=0o644)
    """

    #: The actions that there are.
    valid_actions: ClassVar[list[str]] = ["copy", "move", "delete"]
    #: What may be done where the destination exists.
    valid_conflicts: ClassVar[list[str]] = ["fail", "overwrite", "skip", "rename", "newer", "same"]

    _called: ClassVar[str] = "a FileManagerRule"

    _kinds: ClassVar[dict[str, tuple[type, ...]]] = {
        "action": (),
        "src_re": (str,),
        "dst_re": (str,),
        "auto_create": (bool,),
        "overwrite": (bool,),
        "dirmode": (int, type(None)),
        "filemode": (int, type(None)),
        "user": (str, type(None)),
        "group": (str, type(None)),
        "rec": (bool,),
        "durable": (bool, type(None)),
        "on_conflict": (),
        "verify": (bool,),
        "trash": (),
        "trash_keep": (int, float, type(None)),
        "mounted": (),
        "prune": (bool,),
        "generations": (),
    }

    action: Action
    src_re: Pattern
    dst_re: str
    auto_create: bool
    overwrite: bool
    dirmode: Optional[int]
    filemode: Optional[int]
    user: Optional[str]
    group: Optional[str]
    rec: bool
    durable: Optional[bool]
    on_conflict: Optional[Conflict]
    verify: bool
    trash: Optional[str]
    trash_keep: Optional[Number]
    mounted: Optional[str]
    prune: bool
    generations: int

    if TYPE_CHECKING:

        @overload
        def __init__(
            self,
            action: Literal["move"],
            src_re: str,
            dst_re: str,
            auto_create: bool = False,
            overwrite: bool = False,
            dirmode: Optional[int] = None,
            filemode: Optional[int] = None,
            user: Optional[str] = None,
            group: Optional[str] = None,
            rec: bool = False,
            *,
            prune: bool = False,
            **more: Unpack[Destination],
        ) -> None: ...

        @overload
        def __init__(
            self,
            action: Literal["copy"],
            src_re: str,
            dst_re: str,
            auto_create: bool = False,
            overwrite: bool = False,
            dirmode: Optional[int] = None,
            filemode: Optional[int] = None,
            user: Optional[str] = None,
            group: Optional[str] = None,
            rec: bool = False,
            *,
            prune: Literal[False] = False,
            **more: Unpack[Destination],
        ) -> None: ...

        @overload
        def __init__(
            self,
            action: Literal["delete"],
            src_re: str,
            dst_re: str = "",
            auto_create: bool = False,
            overwrite: bool = False,
            dirmode: Optional[int] = None,
            filemode: Optional[int] = None,
            user: Optional[str] = None,
            group: Optional[str] = None,
            rec: bool = False,
            *,
            prune: bool = False,
            **more: Unpack[RuleArguments],
        ) -> None: ...

    def __init__(
        self,
        action: Action,
        src_re: str,
        dst_re: str = "",
        auto_create: bool = False,
        overwrite: bool = False,
        dirmode: Optional[int] = None,
        filemode: Optional[int] = None,
        user: Optional[str] = None,
        group: Optional[str] = None,
        rec: bool = False,
        *,
        override: Optional[bool] = None,
        durable: Optional[bool] = None,
        on_conflict: Optional[Conflict] = None,
        verify: bool = False,
        trash: Optional[str] = None,
        trash_keep: Optional[Number] = None,
        mounted: Optional[str] = None,
        prune: bool = False,
        generations: int = 8,
    ) -> None:
        """Check the arguments and keep them; the daemon checks the expressions when it takes the config."""
        self.at = place()
        self.action = action
        self.src_re = src_re  # type: ignore[assignment]  # __setattr__ makes a Pattern of it
        self.dst_re = dst_re
        self.auto_create = auto_create
        self.overwrite = _overwrite(overwrite, override)
        self.dirmode = dirmode
        self.filemode = filemode
        self.user = user
        self.group = group
        self.rec = rec
        self.durable = durable
        self.on_conflict = on_conflict
        self.verify = verify
        self.trash = trash
        self.trash_keep = trash_keep
        self.mounted = mounted
        self.prune = prune
        self.generations = generations
        self._refuse_contradictions()
        if action != "delete" and not dst_re:
            raise AssertionError(f'dst_re: {action} needs a destination, write dst_re=r"/where/to/\\1"')
        _warn_of_decimal("dirmode", dirmode, self.at)
        _warn_of_decimal("filemode", filemode, self.at)
        made_rules.append(self)

    def _refuse_contradictions(self) -> None:
        """Raise if arguments exclude each other, or mean nothing for the action."""
        if self.overwrite and self.on_conflict not in (None, "overwrite"):
            raise AssertionError(
                f'on_conflict: overwrite=True is on_conflict="overwrite", not {self.on_conflict!r}, give one of them'
            )
        for name in ("on_conflict", "verify", "mounted") if self.action == "delete" else ():
            if getattr(self, name):
                raise AssertionError(f"{name}: delete has no destination, this is for move and copy")
        if self.prune and self.action == "copy":
            raise AssertionError("prune: copy leaves the source where it is, this is for move and delete")
        if self.trash_keep is not None and self.trash is None:
            raise AssertionError("trash_keep: there is nothing to keep without a trash, give trash=")

    def __setattr__(self, name: str, value: object) -> None:
        """Check what a type alone doesn't say, then set the attribute."""
        if name == "action" and not (isinstance(value, str) and value in self.valid_actions):
            hint = similar(value, self.valid_actions) if isinstance(value, str) else ""
            raise AssertionError(f"action: expected [{', '.join(self.valid_actions)}], got {value}{hint}")
        if name == "on_conflict" and value is not None:
            one_of_words("on_conflict", value, self.valid_conflicts)
        if name in ("trash", "mounted") and value is not None:
            expect_absolute_path(name, value)
        if name == "trash_keep" and value is not None:
            expect_positive(name, value)
        if name == "generations":
            expect_count(name, value)
        if name in ("src_re", "dst_re") and isinstance(value, str):
            _refuse_control_characters(name, value)
        if name == "dst_re" and isinstance(value, str):
            refuse_tilde(name, value)
        if name == "src_re" and isinstance(value, str):
            value = Pattern(value)
        if name in ("dirmode", "filemode"):
            refuse_bool(name, value, "a mode from 0 to 0o7777")
        # The type comes first, as a mode is named for what it is in the check of the base class.
        super().__setattr__(name, value)
        if name in ("dirmode", "filemode") and value is not None and not 0 <= value <= 0o7777:  # type: ignore[operator]
            raise AssertionError(f"{name}: expected a mode from 0 to 0o7777, got {value}")


class FileManagerScheduler(TaskScheduler):
    """Moves, copies or deletes files and directories by rules; the first rule that matches is used.

    Paths that no rule matches make no task. Actions of all schedulers, and undos, wait for each other where they are
    about the same path, as source or as destination, or about a directory and something in it, unless both only copy
    from there; they act in the order in which they came. When a directory was moved or deleted, tasks for files in it
    that wait so are cancelled. Such a task counts as running, for *timeout* and *max_jobs*, too; ``pyinotifyd tasks``
    says of it that other work on its paths comes first. For a result that ``on_conflict="rename"`` gives another name,
    nobody waits.

    A directory that has taken the place of an event's file by the time of the action is refused unless the scheduler
    takes directories (*dirs*), and a file in the place of a directory unless it takes files (*files*).

    Args:
        rules: One rule or a list of rules.
        job: Accepted and not needed. Default None.
        files: As for TaskScheduler. Default True.
        dirs: As for TaskScheduler. Default False.
        delay: Seconds to wait before the action; int or float. Default 0: start at once.
        logname: Name of the logger for the scheduler's records. Default "sched".
        global_vars: Accepted and not needed. Default {}.
        singlejob: Whether there is only one task for all paths together. Default False.
        max_jobs: How many actions run at once; others wait in order. Default None: as many as there are workers. Not in
            pyinotifyd 1.
        name: As for TaskScheduler. Default None. Not in pyinotifyd 1.
        timeout: As for TaskScheduler. Default None. Not in pyinotifyd 1.
        retry: As for TaskScheduler. Default None. Not in pyinotifyd 1.
        on_failure: As for TaskScheduler. Default None. Not in pyinotifyd 1.
        max_delay: As for TaskScheduler. Default None. Not in pyinotifyd 1.
        max_rate: As for TaskScheduler. Default None. Not in pyinotifyd 1.
        settle: As for TaskScheduler. Default None. Not in pyinotifyd 1.
        persist: As for TaskScheduler. Default True. Not in pyinotifyd 1.
        rerun: Accepted and not needed: a rule that ran when the daemon ended always runs again. Default False. Not in
            pyinotifyd 1.

    Example::

        cleaner = FileManagerScheduler(
            rules=[FileManagerRule(action="delete", src_re=r"^/srv/in/.*\\.tmp$")],
            delay=3600)
    """

    _kinds: ClassVar[dict[str, tuple[type, ...]]] = {**TaskScheduler._kinds, "rules": ()}

    _kind: ClassVar[str] = "files"

    rules: list[FileManagerRule]

    def __init__(
        self,
        rules: Union[FileManagerRule, list[FileManagerRule]],
        job: None = None,
        *,
        files: bool = True,
        dirs: bool = False,
        delay: Number = 0,
        logname: Optional[str] = "sched",
        global_vars: dict[str, Any] = _NO_VARIABLES,
        singlejob: bool = False,
        max_jobs: Optional[int] = None,
        name: Optional[str] = None,
        timeout: Optional[Number] = None,
        retry: Optional[Retry] = None,
        on_failure: Receivers = None,
        max_delay: Optional[Number] = None,
        max_rate: Optional[tuple[int, Number]] = None,
        settle: Optional[Settle] = None,
        persist: bool = True,
        rerun: bool = False,
    ) -> None:
        """Check the arguments and keep them."""
        self.at = place()
        _expect_no_job(self, job)
        self.rules = rules  # type: ignore[assignment]  # __setattr__ makes a list of one rule
        self._set_common(files, dirs, delay, logname, global_vars, singlejob, max_jobs, name)
        self._set_running(timeout, retry, on_failure, max_delay, max_rate, settle)
        self._set_kept(persist, rerun)

    def __setattr__(self, name: str, value: object) -> None:
        """Make a list of one rule, check all rules, then set the attribute."""
        if name == "rules":
            value = value if isinstance(value, list) else [value]
            expect_rules(value)
        super().__setattr__(name, value)


def _expect_no_job(scheduler: TaskScheduler, job: object) -> None:
    if job is not None:
        kind = type(scheduler).__name__
        raise AssertionError(f"job: expected None, got {type(job)}: a {kind} has no job, a TaskScheduler has")


def is_name(value: str) -> bool:
    """Say whether `value` can be the name of a scheduler."""
    return 0 < len(value) <= NAME_MAX and value.isascii() and value.translate(_PUNCTUATION).isalnum()


def _expect_name(value: object) -> None:
    expect("name", value, str)
    if not is_name(value):  # type: ignore[arg-type]  # a str, as of the check
        raise AssertionError(
            f"name: expected at most {NAME_MAX} of the characters A-Z, a-z, 0-9, '.', '_' and '-', got {value!r}"
        )


def _job_hint(value: object) -> str:
    """Return what to write instead of something that is no coroutine function."""
    code = getattr(function_of(value), "__code__", None)
    if code is not None and code.co_flags & _CO_ASYNC_GENERATOR:
        return f": {code.co_name} yields, which makes an async generator of it; a job must not yield"
    if isinstance(value, _FUNCTION):
        return f": write 'async def {value.__name__}(event, task_id)' instead of 'def'"
    if isinstance(value, type) or not callable(value):
        return f": {shown(value)}"
    return ": write a function of 'async def NAME(event, task_id)'"


def _expect_event_and_id(job: object) -> None:
    """Raise unless `job` can be called with an event and an id."""
    code = getattr(job, "__code__", None)
    if type(job) is _FUNCTION and code is not None and code.co_argcount == 2 and not code.co_kwonlyargcount:
        return
    import inspect

    try:
        signature = inspect.signature(job)  # type: ignore[arg-type]  # callable, as it is a coroutine function
    except (TypeError, ValueError):  # it has none that can be known
        return
    try:
        signature.bind(None, None)
    except TypeError:
        name = getattr(function_of(job), "__name__", "job")
        raise AssertionError(f"job: it is called with (event, task_id), but is defined as {name}{signature}") from None


def _refuse_control_characters(name: str, value: str) -> None:
    """Raise if an expression holds what only a string without r"" puts there: a group, a word boundary."""
    # These mean the same in an expression as behind a backslash.
    allowed = "\t\n\r" if name == "src_re" else ""
    for character in value:
        if (character < " " or character == "\x7f") and character not in allowed:
            raise AssertionError(
                f'{name}: holds the control character {character!r}, write the string as r"..." to keep its backslashes'
            )


def _is_usual(mode: int) -> bool:
    """Say whether nobody may do more than those before him, and everybody who may write may read."""
    owner, group, others = mode >> 6 & 7, mode >> 3 & 7, mode & 7
    readable = all(bits & 4 or not bits & 2 for bits in (owner, group, others))
    return bool(owner & 4) and readable and group | owner == owner and others | group == group


def _warn_of_decimal(name: str, mode: Optional[int], at: Optional[Place]) -> None:
    """Warn of 644 that was meant to be 0o644."""
    digits = str(mode)
    if mode is None or len(digits) < 3 or not set(digits) <= set("01234567"):
        return
    if _is_usual(int(digits, 8)) and not _is_usual(mode):
        warn_at(at, f"{name}: {mode} is 0o{mode:o}, write 0o{mode} if that is meant")


def expect_rules(rules: list[object]) -> None:
    """Raise unless all of `rules` are rules; a config may have changed the list since it was given."""
    for rule in rules:
        expect("rules", rule, FileManagerRule)


def function_of(job: object) -> object:
    """Return the function in bound methods and functools.partial, of which it may be in several."""
    while True:
        if hasattr(job, "__func__"):
            job = job.__func__
        elif type(job).__name__ == "partial" and hasattr(job, "func"):
            job = job.func
        else:
            return job


def is_coroutine_function(value: object) -> bool:
    """Say whether calling `value` makes a coroutine, as inspect and asyncio see it."""
    function = function_of(value)
    code = getattr(function, "__code__", None)
    if code is not None and type(function) is _FUNCTION and code.co_flags & _CO_COROUTINE:
        return True
    return callable(value) and _is_marked(value)


def _is_marked(value: object) -> bool:
    """Ask inspect, and look for asyncio's old mark; slow, and only reached by odd jobs and mistakes."""
    import inspect

    if inspect.iscoroutinefunction(value):
        return True
    asyncio = sys.modules.get("asyncio.coroutines")
    mark = getattr(asyncio, "_is_coroutine", None)
    return mark is not None and getattr(value, "_is_coroutine", None) is mark


def _overwrite(overwrite: bool, override: Optional[bool]) -> bool:
    """Take either spelling."""
    given = one_of("FileManagerRule", overwrite=overwrite or None, override=override)
    return overwrite if given is None else given  # type: ignore[return-value]  # checked when it is set


_FUNCTION = type(place)
