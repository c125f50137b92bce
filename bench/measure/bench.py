"""What a row has at hand while it is measured: tools, sizes, places, and ways to start each contestant."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from measure.build import Tools
from measure.process import POLL_S, Program
from measure.row import INOTIFYWAIT, Contestant, Failed, Kind, Unavailable

READY = "start listening for inotify events on"
SYSCTL = Path("/proc/sys/fs/inotify")
# The original needs about a minute for the longest of our storms.
WAIT_TIMEOUT_S = 600.0


@dataclass
class Bench:
    """One run of the benchmark."""

    tools: Tools
    quick: bool
    # Where the files are made on which the contestants work, unless a row is about a disk. Both are gone after the run.
    memory_dir: Path
    disk_dir: Path
    # Configurations and logs; not below a directory in which others can write.
    state_dir: Path
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def size(self, full: int, quick: int) -> int:
        """How much of a thing to do."""
        return quick if self.quick else full

    @contextlib.contextmanager
    def scratch(self, parent: Path | None = None) -> Iterator[Path]:
        """A directory that is gone afterwards. Its name is short: paths are part of what is measured."""
        path = (parent or self.memory_dir) / str(next(self._numbers))
        path.mkdir()
        try:
            yield path
        finally:
            subprocess.run(["rm", "-rf", str(path)], check=False)

    @contextlib.contextmanager
    def sysctl(self, name: str, value: int) -> Iterator[None]:
        """Raises a limit of inotify to at least `value`, and sets it back. Needs root."""
        file = SYSCTL / name
        before = int(file.read_text())
        if before >= value:
            yield
            return
        try:
            file.write_text(str(value))
        except OSError as error:
            raise Unavailable(f"needs fs.inotify.{name} = {value}, it is {before}: {error}") from None
        try:
            yield
        finally:
            file.write_text(str(before))

    def require_watches(self, count: int) -> None:
        """Raises Unavailable if so many watches are not allowed."""
        allowed = int((SYSCTL / "max_user_watches").read_text())
        if allowed < count:
            raise Unavailable(f"needs fs.inotify.max_user_watches = {count}, it is {allowed}")

    def tool(self, name: str, *arguments: object) -> str:
        """Runs one of our own programs to its end; returns what it printed."""
        argv = [str(self.tools.programs[name]), *map(str, arguments)]
        done = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            raise Failed(f"{' '.join(argv)}: ended with {done.returncode}")
        return done.stdout

    @contextlib.contextmanager
    def tool_beside(self, name: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
        """Runs one of our own programs beside; it is told to stop at the end, by SIGTERM."""
        argv = [str(self.tools.programs[name]), *map(str, arguments)]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as running:
            try:
                yield running
            finally:
                running.terminate()

    def start(
        self, argv: list[str], ready: str | None, *, output: Path | None = None, pipe_log: bool = False
    ) -> Program:
        """Starts any program and waits until it says `ready` on stderr."""
        log = None if pipe_log else self.state_dir / "log"
        if log is not None:
            log.unlink(missing_ok=True)
        program = Program(self.tools.programs["launch"], argv, log, output)
        if ready is not None:
            try:
                program.wait_ready(ready)
            except BaseException:
                program.__exit__(None, None, None)
                raise
        return program

    def has(self, who: Contestant) -> bool:
        """Whether the contestant is on this machine at all."""
        if who.kind is Kind.OURS:
            return self.tools.ours is not None
        if who.kind is Kind.ORIGINAL:
            return self.tools.original is not None
        return who != INOTIFYWAIT or self.tools.inotifywait is not None

    def daemon_argv(self, who: Contestant, config: str) -> list[str]:
        """Writes the configuration and says how the contestant is started with it."""
        file = self.state_dir / "config.py"
        file.write_text(config)
        if who.kind is Kind.ORIGINAL:
            return [str(self.tools.original), "-c", str(file)]
        return [str(self.tools.ours), "--python", str(who.python or self.tools.python), "-c", str(file)]

    def daemon(self, who: Contestant, config: str, ready_path: Path, *, pipe_log: bool = False) -> Program:
        """Starts ours or the original; ready when it says that it listens on `ready_path`."""
        return self.start(self.daemon_argv(who, config), f"{READY} '{ready_path}'", pipe_log=pipe_log)

    def limit(self, name: str, *arguments: object, output: Path | None = None, pipe_log: bool = False) -> Program:
        """Starts one of the bare C programs."""
        argv = [str(self.tools.programs[name]), *map(str, arguments)]
        return self.start(argv, READY, output=output, pipe_log=pipe_log)


def wait_until(done: Callable[[], bool], what: str, program: Program) -> None:
    """Waits for a condition that the program is to bring about.

    Raises Failed when it does not come, or when the program has ended or does nothing any more.
    """
    deadline = time.monotonic() + WAIT_TIMEOUT_S
    while not done():
        program.check_busy(f"{what} does not come")
        if time.monotonic() > deadline:
            raise Failed(f"{what}: not after {WAIT_TIMEOUT_S:.0f} s: {program.last_words()}")
        time.sleep(POLL_S)


def is_tmpfs(path: Path) -> bool:
    """Whether the directory is in memory."""
    done = subprocess.run(["stat", "-f", "-c", "%T", str(path)], capture_output=True, text=True, check=False)
    return done.stdout.strip() in ("tmpfs", "ramfs")


def free_bytes(path: Path) -> int:
    """What can still be written there."""
    return shutil.disk_usage(path).free


def quote(value: object) -> str:
    """A Python literal, for a configuration."""
    return repr(str(value))


def percentile(values: list[float], share: float) -> float:
    """Nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def make_fifo(path: Path) -> int:
    """A named pipe, and a descriptor that reads from it and keeps it open."""
    os.mkfifo(path)
    return os.open(path, os.O_RDWR | os.O_NONBLOCK)
