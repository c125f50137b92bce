"""The words in which the tests speak about a running daemon.

This module owns starting, watching and ending a daemon, and reading what it wrote. It leaves to `conftest.py` when that
happens, and to the tests what it means. Every wait is for a condition, with a deadline that is only reached when
something is broken; nothing here sleeps for a time and hopes.
"""

from __future__ import annotations

import array
import contextlib
import ctypes
import fcntl
import json
import os
import re
import select
import shutil
import signal
import subprocess
import tempfile
import termios
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar

import pytest

PROJECT = Path(__file__).resolve().parent.parent

# A condition that has not come true by then never will; a loaded machine needs some of it.
DEADLINE_S = float(os.environ.get("PYINOTIFYD_TEST_DEADLINE", "30"))

# The delay that schedulers of the tests use: long enough to act before it is over, short enough not to be waited for.
# A reference program that only knows whole seconds is judged with PYINOTIFYD_TEST_DELAY=1.
DELAY = os.environ.get("PYINOTIFYD_TEST_DELAY", "0.4")
DELAY_S = float(DELAY)

# Set where the program under test is the original: what it is known not to do is skipped.
REFERENCE = bool(os.environ.get("PYINOTIFYD_TEST_REFERENCE"))

# Set for a program that says it listens before it has set its watches, as the original does: these are waited for as
# well. Without PYINOTIFYD_TEST_REFERENCE nothing is skipped, and the original shows that the tests can fail.
SETTLE = REFERENCE or bool(os.environ.get("PYINOTIFYD_TEST_SETTLE"))

READY = "start listening for inotify events"

# A watch whose paths are not there is ready to see them come.
ABSENT = "waiting for it in|no path matches|cannot watch"

# A job that runs until the file $TMP/go exists.
HELD = """
import asyncio, os
async def held(event, task_id):
    print("BEGUN", event.pathname, event.maskname, flush=True)
    while not os.path.exists("$TMP/go"):
        await asyncio.sleep(0.01)
    print("ENDED", event.pathname, flush=True)
"""

# The end of a reload.
LOADED = READY if REFERENCE else "configuration loaded: "

# Marks each process that a test starts, however far from its parent it goes.
MARK = "PYINOTIFYD_TEST_RUN"

EVENT_NAMES = [
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

# Put before a config by `run(..., record=True)`: a job that prints each event that it is given as one JSON line.
RECORDER = """\
import json, sys
_ATTRIBUTES = ["wd", "mask", "maskname", "path", "name", "pathname", "dir", "cookie", "src_pathname", "synthetic"]
async def record(event, task_id):
    seen = {name: getattr(event, name) for name in _ATTRIBUTES if hasattr(event, name)}
    seen.update(task_id=task_id, text=str(event), repr=repr(event))
    sys.stdout.write("EVENT " + json.dumps(seen) + "\\n")
    sys.stdout.flush()
def recorder(*flags):
    return {flag: TaskScheduler(job=record, files=True, dirs=True) for flag in flags}
"""

Value = TypeVar("Value")


class Timeout(AssertionError):
    """A condition did not come true before the deadline."""

    def __init__(self, text: str) -> None:
        # Lines of a log may hold bytes that are not UTF-8; reports must be text everywhere.
        super().__init__(text.encode("utf-8", "backslashreplace").decode())


def wait_until(
    condition: Callable[[], Value | None],
    what: str | Callable[[], str] = "the condition",
    timeout_s: float = DEADLINE_S,
) -> Value:
    """Return the first true value of `condition`, which is asked again and again until the deadline."""
    deadline = time.monotonic() + timeout_s
    pause_s = 0.002
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise Timeout(f"not within {timeout_s} s: {what() if callable(what) else what}")
        time.sleep(pause_s)
        pause_s = min(pause_s * 1.5, 0.05)


def binary() -> Path:
    """The program under test: PYINOTIFYD_BIN, else the newest one that cargo has built."""
    named = os.environ.get("PYINOTIFYD_BIN")
    if named:
        found = shutil.which(named)
        if not found:
            raise FileNotFoundError(f"PYINOTIFYD_BIN={named}: no such program")
        return Path(found).absolute()
    target = Path(os.environ.get("CARGO_TARGET_DIR", PROJECT / "target"))
    built = [path for path in (target / "release/pyinotifyd", target / "debug/pyinotifyd") if path.exists()]
    if not built:
        raise FileNotFoundError("no pyinotifyd: run `cargo build -p pyinotifyd` or set PYINOTIFYD_BIN")
    return max(built, key=lambda path: path.stat().st_mtime)


@dataclass(frozen=True)
class Record:
    """One log record: `2026-01-31 12:00:00,000 - pyinotifyd/LOGGER - LEVEL - text`."""

    time: str
    logger: str
    level: str
    text: str

    LINE = re.compile(
        r"(?P<time>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}) - pyinotifyd/(?P<logger>.*?) - "
        r"(?P<level>[A-Z]+) - (?P<text>.*)",
        re.S,
    )

    @classmethod
    def parse(cls, line: str) -> Record | None:
        match = cls.LINE.fullmatch(line)
        return cls(**match.groupdict()) if match else None

    @property
    def fields(self) -> dict[str, str]:
        """The `key=value` fields at the end of the text, of which `path` may hold blanks but no `, task_id=`."""
        found = re.search(
            r", mask=(?P<mask>[A-Z_|]+), path=(?P<path>.*?)(?:, task_id=(?P<task_id>[0-9a-f-]{36}))?$", self.text, re.S
        )
        return {key: value for key, value in found.groupdict().items() if value is not None} if found else {}

    @property
    def said(self) -> str:
        """The text without those fields."""
        return re.sub(r", mask=[A-Z_|]+, path=.*$", "", self.text, flags=re.S)


@dataclass(frozen=True)
class Seen:
    """One event as a job was given it; an attribute that the event lacks is None here and not in `attributes`."""

    attributes: Mapping[str, Any]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self.attributes.get(name)

    def __repr__(self) -> str:
        return str(self.attributes.get("text", self.attributes))


@dataclass(frozen=True)
class Received:
    """One event as the `eventmap` logger tells it at level DEBUG, before maps and filters."""

    maskname: str
    pathname: str
    dir: bool
    src_pathname: str | None
    wd: int | None
    text: str

    @classmethod
    def parse(cls, text: str) -> Received:
        def field(name: str) -> str | None:
            keys = "cookie|dir|mask|maskname|name|path|pathname|src_pathname|wd|synthetic"
            found = re.search(rf"(?:^|, ){name}=(.*?)(?=, (?:{keys})=|$)", text, re.S)
            return found.group(1) if found else None

        wd = field("wd")
        return cls(
            field("maskname") or "",
            field("pathname") or "",
            field("dir") == "True",
            field("src_pathname"),
            int(wd) if wd else None,
            text,
        )


# fcntl(2); in the module `fcntl` from Python 3.10 on.
F_SETPIPE_SZ = 1031
# The largest pipe that the kernel gives to everybody (pipe(7), /proc/sys/fs/pipe-max-size).
PIPE_BYTES = 1 << 20


class Stream:
    """Collects the lines of one output of a process in a thread of its own, so that the process never waits for us."""

    def __init__(self, pipe: IO[bytes]) -> None:
        # The process and the pipe together hold as much as our longest tests write. So no line is lost (the daemon
        # waits for no reader) where we do not come to our reading: under load, or as a test keeps Python busy.
        with contextlib.suppress(OSError):
            fcntl.fcntl(pipe, F_SETPIPE_SZ, PIPE_BYTES)
        self._lines: list[str] = []
        self._changed = threading.Condition()
        self._pipe = pipe
        self._closed = False
        self._thread = threading.Thread(target=self._collect, daemon=True)
        self._thread.start()

    def _collect(self) -> None:
        waiting = select.poll()
        waiting.register(self._pipe, select.POLLIN)
        rest = b""
        while not self._closed:
            waiting.poll()
            # What is no longer in the pipe is among the lines: `drain` relies on this lock.
            with self._changed:
                data = os.read(self._pipe.fileno(), 1 << 16)
                *whole, rest = (rest + data).split(b"\n")
                if not data:
                    self._closed = True
                    whole = [rest] if rest else []
                self._lines += [line.decode("utf-8", "surrogateescape") for line in whole]
                self._changed.notify_all()

    def drain(self) -> None:
        """Return when all that was written before this call is among the lines."""

        def empty() -> bool:
            with self._changed:
                left = array.array("i", [0])
                return self._closed or (not fcntl.ioctl(self._pipe.fileno(), termios.FIONREAD, left) and left[0] == 0)

        wait_until(empty, "an empty pipe")

    @property
    def lines(self) -> list[str]:
        with self._changed:
            return list(self._lines)

    def since(self, number: int) -> list[str]:
        """The lines from this number on."""
        with self._changed:
            return self._lines[number:]

    def wait_for(self, pattern: str, count: int, start: int, timeout_s: float) -> re.Match[str]:
        """Wait until `count` lines from line `start` on hold a match; return the last of these matches.

        Each line is searched once, and while the collector goes on: it must not fall behind because we look.
        """
        compiled = re.compile(pattern, re.S)
        deadline = time.monotonic() + timeout_s
        searched, left = start, count
        while True:
            for line in self.since(searched):
                searched += 1
                match = compiled.search(line)
                if match:
                    left -= 1
                    if left == 0:
                        return match
            with self._changed:
                if len(self._lines) > searched:
                    continue
                left_s = deadline - time.monotonic()
                if self._closed or left_s <= 0:
                    reason = "the process ended" if self._closed else f"{timeout_s} s passed"
                    tail = "\n".join(self._lines[-40:])
                    raise Timeout(f"{reason} without {count} x /{pattern}/; output:\n{tail}")
                self._changed.wait(left_s)

    def join(self, timeout_s: float) -> None:
        self._thread.join(timeout_s)


class Daemon:
    """A daemon that runs, or ran: its log, its standard output, its signals, its end."""

    def __init__(
        self, argv: Sequence[str | os.PathLike[str]], env: Mapping[str, str], cwd: Path, **options: Any
    ) -> None:
        self.argv = [os.fspath(argument) for argument in argv]
        # No other process has it, of this test or of those that run beside it: who has it is killed in the end.
        self.mark = uuid.uuid4().hex
        self.process = subprocess.Popen(
            self.argv,
            stdin=options.pop("stdin", subprocess.DEVNULL),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**env, MARK: self.mark},
            cwd=cwd,
            start_new_session=True,
            **options,
        )
        assert self.process.stdout
        assert self.process.stderr
        self.err = Stream(self.process.stderr)
        self.out = Stream(self.process.stdout)
        # What was parsed of them so far, and how many lines that was: tests ask again and again.
        self._records: list[Record] = []
        self._records_of = 0
        self._events: list[Seen] = []
        self._events_of = 0

    # ---- what it said

    @property
    def lines(self) -> list[str]:
        """The lines on stderr so far."""
        return self.err.lines

    @property
    def log(self) -> str:
        return "\n".join(self.lines)

    @property
    def tail(self) -> str:
        """The end of the log, for the message of a failure."""
        return "log:\n" + "\n".join(self.lines[-40:])

    @property
    def stdout(self) -> str:
        return "\n".join(self.out.lines)

    @property
    def records(self) -> list[Record]:
        lines = self.err.since(self._records_of)
        self._records += [record for record in map(Record.parse, lines) if record]
        self._records_of += len(lines)
        return list(self._records)

    def wait_log(self, pattern: str, timeout_s: float = DEADLINE_S, count: int = 1, start: int = 0) -> re.Match[str]:
        """Wait until `count` lines from line `start` on hold a match of `pattern`; return the last of these matches."""
        match = self.err.wait_for(pattern, count, start, timeout_s)
        # What a job or a command printed before this record is to be there as well.
        self.out.drain()
        return match

    def wait_out(self, pattern: str, timeout_s: float = DEADLINE_S, count: int = 1) -> re.Match[str]:
        """The same for standard output."""
        return self.out.wait_for(pattern, count, 0, timeout_s)

    def count(self, pattern: str) -> int:
        """How many lines of the log hold a match."""
        return sum(1 for line in self.lines if re.search(pattern, line))

    def said(self, path: str | os.PathLike[str]) -> list[str]:
        """The records of tasks of `path`, in order, without their fields."""
        return [record.said for record in self.records if record.fields.get("path") == os.fspath(path)]

    def task_ids(self, path: str | os.PathLike[str]) -> list[str]:
        """The ids of the tasks of `path`, each once, in order."""
        ids = [record.fields.get("task_id") for record in self.records if record.fields.get("path") == os.fspath(path)]
        return list(dict.fromkeys(identifier for identifier in ids if identifier))

    # ---- events: as the recorder's jobs got them, as the debug log has them

    @property
    def events(self) -> list[Seen]:
        lines = self.out.since(self._events_of)
        self._events += [Seen(json.loads(line[6:])) for line in lines if line.startswith("EVENT ")]
        self._events_of += len(lines)
        return list(self._events)

    def wait_event(
        self, maskname: str, pathname: str | os.PathLike[str], count: int = 1, timeout_s: float = DEADLINE_S
    ) -> Seen:
        """Wait for the `count`-th event of this name and path that the recorder's job was run for."""
        path = os.fspath(pathname)

        def found() -> Seen | None:
            seen = [event for event in self.events if event.maskname == maskname and event.pathname == path]
            return seen[count - 1] if len(seen) >= count else None

        event = wait_until(
            found, lambda: f"event {count} x {maskname} {path}; got {self.events[-40:]}\n{self.tail}", timeout_s
        )
        assert event is not None
        return event

    def heard(self, pathname: str | os.PathLike[str]) -> list[str]:
        """The mask names of all recorded events of a path, in order."""
        return [event.maskname for event in self.events if event.pathname == os.fspath(pathname)]

    @property
    def received(self) -> list[Received]:
        texts = [record.text for record in self.records if record.text.startswith("received event, ")]
        return [Received.parse(text[len("received event, ") :]) for text in texts]

    def wait_received(self, maskname: str, pathname: str | os.PathLike[str], count: int = 1) -> Received:
        path = os.fspath(pathname)

        def found() -> Received | None:
            got = [event for event in self.received if event.maskname == maskname and event.pathname == path]
            return got[count - 1] if len(got) >= count else None

        event = wait_until(found, lambda: f"{count} x {maskname} {path} in the debug log; {self.tail}")
        assert event is not None
        return event

    # ---- its life

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    @property
    def exit_code(self) -> int | None:
        return self.process.poll()

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait_exit(self, timeout_s: float = DEADLINE_S) -> int:
        """Wait for the end; all output that it wrote is collected then. Returns the exit code."""
        try:
            code = self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise Timeout(f"still running after {timeout_s} s; {self.tail}") from None
        # A child that holds the pipe open may live on; what the daemon itself wrote is there by then.
        self.err.join(1.0)
        self.out.join(1.0)
        return code

    def terminate(self, timeout_s: float = DEADLINE_S) -> int:
        """SIGTERM, and wait for the end."""
        if self.running:
            self.signal(signal.SIGTERM)
        return self.wait_exit(timeout_s)

    def reload(self) -> None:
        """SIGHUP, and wait until the new config is in force."""
        loaded = self.count(LOADED)
        self.signal(signal.SIGHUP)
        self.wait_log(LOADED, count=loaded + 1)
        if SETTLE:
            time.sleep(0.2)

    def wait_ready(self, timeout_s: float = DEADLINE_S) -> Daemon:
        said = self.wait_log(f"{READY}|no watches configured|{ABSENT}", timeout_s).group()
        if SETTLE and said == READY:
            wait_until(lambda: self.watches())
            time.sleep(0.1)
        return self

    # ---- what the kernel says of it

    def descriptors(self) -> dict[int, str]:
        """Open descriptors and what they refer to."""
        found = {}
        for entry in Path(f"/proc/{self.pid}/fd").iterdir():
            try:
                found[int(entry.name)] = os.readlink(entry)
            except FileNotFoundError:
                continue
        return found

    def inotify_lines(self) -> list[tuple[int, int, int]]:
        """(wd, inode, mask) of all its inotify watches, from /proc/PID/fdinfo; the parents of roots are among them."""
        found: list[tuple[int, int, int]] = []
        for descriptor, target in self.descriptors().items():
            if target == "anon_inode:inotify":
                text = Path(f"/proc/{self.pid}/fdinfo/{descriptor}").read_text()
                lines = re.findall(r"inotify wd:([0-9a-f]+) ino:([0-9a-f]+) sdev:[0-9a-f]+ mask:([0-9a-f]+)", text)
                found += [(int(wd, 16), int(inode, 16), int(mask, 16)) for wd, inode, mask in lines]
        return found

    def watches(self) -> set[tuple[int, int]]:
        """(wd, inode) of all its inotify watches."""
        return {(wd, inode) for wd, inode, _ in self.inotify_lines()}

    def masks(self, path: Path) -> list[int]:
        """What the kernel is asked to tell of this very file or directory."""
        return [mask for _, inode, mask in self.inotify_lines() if inode == path.stat().st_ino]

    def watches_path(self, path: Path) -> bool:
        """Whether the kernel tells it of this very file or directory."""
        return path.stat().st_ino in {inode for _, inode in self.watches()}

    def memory_kib(self) -> int:
        """Resident memory of the daemon's own process."""
        found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{self.pid}/status").read_text())
        assert found
        return int(found.group(1))

    def cpu_s(self) -> float:
        """User and system time of the daemon's own process."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def children(self) -> list[int]:
        return [pid for pid in marked_processes(self.mark) if pid != self.pid]

    def started(self) -> list[int]:
        """The processes that it has started itself and that have not ended."""
        # Whichever thread started them.
        return [int(pid) for text in self.of_threads("children") for pid in text.split()]

    def of_threads(self, name: str) -> list[str]:
        """What such a file in proc(5) says of each thread; threads come and go."""
        texts = []
        for task in Path(f"/proc/{self.pid}/task").iterdir():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                texts.append((task / name).read_text())
        return texts

    def host(self) -> int:
        """The process that runs the config's Python jobs."""
        pids, hosts = self.started(), []
        for pid in pids:
            # A command may end meanwhile.
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                if b"python" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0]:
                    hosts.append(pid)
        assert len(hosts) == 1, f"expected one host among the children {pids}"
        return hosts[0]

    def kill(self) -> None:
        """End it and all that it started, at once."""
        if self.running:
            self.process.kill()
        self.process.wait(DEADLINE_S)
        kill_marked(self.mark)
        self.err.join(5.0)
        self.out.join(5.0)
        for stream, pipe in ((self.err, self.process.stderr), (self.out, self.process.stdout)):
            if pipe and not stream._thread.is_alive():
                pipe.close()


def marked_processes(mark: str) -> list[int]:
    """The living processes whose environment carries the mark of one test."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        try:
            if wanted in Path(f"/proc/{entry}/environ").read_bytes().split(b"\0"):
                found.append(int(entry))
        except OSError:
            continue
    return found


def kill_marked(mark: str) -> None:
    for pid in marked_processes(mark):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


class Box:
    """One test's own directory: `src` to be watched, `dst` to be written to, `tmp` for all else; and its daemons.

    In configs `$SRC`, `$DST`, `$TMP` and `$DELAY` stand for these.
    """

    def __init__(self, base: str | None = None) -> None:
        # Only letters that mean themselves in a regular expression, a glob and a shell.
        self.tmp = (
            Path(os.path.realpath(tempfile.gettempdir() if base is None else base)) / f"pyid{uuid.uuid4().hex[:12]}"
        )
        self.tmp.mkdir(mode=0o700)
        self.src = self.tmp / "src"
        self.dst = self.tmp / "dst"
        self.src.mkdir()
        self.dst.mkdir()
        self.config = self.tmp / "config.py"
        self.daemons: list[Daemon] = []
        self.program = binary()
        # What each start gets in addition; see `become_plain_user`.
        self.before: list[str] = []
        # No control socket at a default place, which all tests would share.
        self.env: dict[str, str] = {"RUNTIME_DIRECTORY": os.fspath(self.tmp / "none")}

    def become_plain_user(self) -> bool:
        """As root: programs are started as the user nobody from here on, who owns the box. False where that can't
        be.
        """
        self.before = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
        self.env |= {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": os.fspath(self.tmp)}
        try:
            subprocess.run([*self.before, "python3", "-c", ""], env=self.env, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            return False
        # Where it was built is perhaps nothing that others may look into.
        self.program = Path(shutil.copy2(self.program, self.tmp / "pyinotifyd"))
        for path in (self.tmp, self.src, self.dst, self.program):
            os.chown(path, 65534, 65534)
        return True

    def text(self, config: str, record: bool = False) -> str:
        """A config with its places filled in, the recorder before it where asked for."""
        for name, value in (("$SRC", self.src), ("$DST", self.dst), ("$TMP", self.tmp), ("$DELAY", DELAY)):
            config = config.replace(name, str(value))
        return (RECORDER if record else "") + config

    def write_config(self, config: str, record: bool = False) -> Path:
        """Write it as one rename does, so that no reader ever sees half of it."""
        new = self.tmp / "config.py.new"
        new.write_text(self.text(config, record))
        new.rename(self.config)
        return self.config

    def start(
        self,
        config: str | None,
        *arguments: str | os.PathLike[str],
        record: bool = False,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        before: Sequence[str] = (),
        **options: Any,
    ) -> Daemon:
        """Start the program without waiting for anything. `config=None` leaves -c out; `before` is put before the
        program.
        """
        given = ["-c", os.fspath(self.write_config(config, record))] if config is not None else []
        environment = {**os.environ, **self.env, **(env or {})}
        argv = [*self.before, *before, self.program, *given, *arguments]
        daemon = Daemon(argv, environment, cwd or self.tmp, **options)
        self.daemons.append(daemon)
        return daemon

    def run(self, config: str, *arguments: str | os.PathLike[str], **options: Any) -> Daemon:
        """Start the daemon and wait until it listens."""
        return self.start(config, *arguments, **options).wait_ready()

    def call(self, *arguments: str | os.PathLike[str], config: str | None = None, **options: Any) -> Daemon:
        """Run the program to its end."""
        daemon = self.start(config, *arguments, **options)
        daemon.wait_exit()
        return daemon

    def close(self) -> list[str]:
        """End all daemons, remove the directory; returns what no daemon may ever say."""
        for daemon in self.daemons:
            daemon.kill()
        for parent, directories, _ in os.walk(self.tmp):
            # What a test shut must be open again before it is walked into; never through a link.
            for path in (os.path.join(parent, name) for name in directories):
                if not os.path.islink(path):
                    # A path too long for one call is removed step by step below.
                    with contextlib.suppress(OSError):
                        os.chmod(path, 0o700)
        shutil.rmtree(os.fsencode(self.tmp), ignore_errors=True)
        said = [line for daemon in self.daemons for line in daemon.lines]
        return [line for line in said if "panicked at" in line]


def need(*programs: str) -> None:
    """Skip the test where one of these programs is missing; those for administrators are found as well."""
    for program in programs:
        if shutil.which(program, path=f"{os.environ['PATH']}:/usr/local/sbin:/usr/sbin:/sbin") is None:
            pytest.skip(f"needs {program}")


@contextlib.contextmanager
def disk(image: Path, directory: Path, *options: str) -> Iterator[None]:
    """An ext4 of its own in a file, made with these options, in place of the directory."""
    directory.mkdir(exist_ok=True)
    with image.open("wb") as file:
        file.truncate(64 << 20)
    make: list[str | Path] = ["mkfs.ext4", "-q", "-F", *options, image]
    made = subprocess.run(make, check=False, capture_output=True).returncode == 0
    if not made or subprocess.run(["mount", "-o", "loop", image, directory], check=False).returncode != 0:
        pytest.skip("needs mkfs.ext4 and a loop device")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", directory], check=False)


# ---- what tests do to files, each as a user's program does


def write(path: str | bytes | os.PathLike[str], text: str | bytes = "x") -> None:
    """open, write, close."""
    with open(path, "wb") as file:
        file.write(text.encode() if isinstance(text, str) else text)


def drop(path: Path, text: str | bytes = "x") -> None:
    """Make the file elsewhere and rename it into place: one IN_MOVED_TO and nothing else."""
    hidden = path.parent.parent / f".drop-{uuid.uuid4().hex[:8]}"
    write(hidden, text)
    hidden.rename(path)


def exchange(one: Path, two: Path) -> None:
    """renameat2(2) with RENAME_EXCHANGE."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(-100, os.fsencode(one), -100, os.fsencode(two), 2) != 0:
        raise OSError(ctypes.get_errno(), "renameat2")


def until_seen(daemon: Daemon, directory: Path) -> None:
    """Make files in `directory` until one is reported under this name: when a watch is set can't be seen from
    outside.
    """
    number = 0

    def seen() -> bool:
        nonlocal number
        number += 1
        write(directory / f"probe{number}")
        return any(event.pathname.startswith(f"{directory}/probe") for event in daemon.events)

    wait_until(seen, lambda: f"an event in {directory}; {daemon.tail}")


def mode_of(path: Path) -> int:
    return path.lstat().st_mode & 0o7777


def tree(root: Path) -> dict[str, str]:
    """A tree as {relative path: content, 'dir', or '-> target'}."""

    def entries() -> Iterator[tuple[str, str]]:
        for path in sorted(root.rglob("*")):
            name = str(path.relative_to(root))
            if path.is_symlink():
                yield name, f"-> {os.readlink(path)}"
            elif path.is_dir():
                yield name, "dir"
            else:
                yield name, path.read_bytes().decode("utf-8", "replace")

    while True:
        # What goes away while it is read was no part of the tree: a work in progress that got its final name.
        with contextlib.suppress(FileNotFoundError):
            return dict(entries())


def alive(pid: int) -> bool:
    """Whether the process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except (FileNotFoundError, ProcessLookupError):
        return False
