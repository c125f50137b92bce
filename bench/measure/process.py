"""A program under measurement: started in a tree of its own, waited for until it is ready, settled, ended."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from measure.cpu import Tree, prefer
from measure.row import Failed

if TYPE_CHECKING:
    from typing_extensions import Self

# The original needs some 2 s for 100,000 directories, and a minute for a million.
READY_TIMEOUT_S = 600.0
# The CPU time of a tree has settled when it grew by less than this in each of so many looks, so far apart.
SETTLED_US = 300.0
SETTLED_LOOKS = 4
LOOK_S = 0.04
SETTLE_TIMEOUT_S = 900.0
# How often a file is looked at that is waited for; a log that is read through a pipe wakes us at once instead.
POLL_S = 0.002
# A program that has used no CPU time for so long has nothing left to do. Longer than any pause before a retry.
STALLED_S = 20.0


class Program:
    """A running program and what it costs. Use it as a context: it leaves nothing running."""

    def __init__(self, launcher: Path, argv: list[str], log: Path | None, output: Path | None = None) -> None:
        """Starts `argv`. Its errors go to the file `log`, or to a pipe that we read only while we wait (None); its
        output goes to the file `output`, or nowhere."""
        self._argv = argv
        self._log_file = log
        self._log = b""
        self._log_pipe, log_write = os.pipe() if log is None else (-1, os.open(log, os.O_WRONLY | os.O_CREAT, 0o644))
        self.tree = Tree()
        started_read, started_write = os.pipe()
        try:
            with open(output or os.devnull, "wb") as out:
                self._popen = subprocess.Popen(
                    [str(launcher), self.tree.procs_file, str(started_write), *argv],
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=log_write,
                    start_new_session=True,
                    pass_fds=(started_write,),
                )
        finally:
            os.close(started_write)
            os.close(log_write)
        self.tree.set_root(self._popen.pid)
        if nice := os.getpriority(os.PRIO_PROCESS, 0):
            prefer(self._popen.pid, nice)
        self.ready_s = float("nan")
        # For `check_busy`: the last look, when CPU time was last seen to grow, and its value then.
        self._looked_at = self._busy_at = -STALLED_S
        self._last_us = 0.0
        with os.fdopen(started_read, "rb") as started:
            self.started_ns = int(started.read() or 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.tree.close()
        self._popen.wait()
        if self._log_pipe >= 0:
            os.close(self._log_pipe)

    def log(self) -> str:
        """Everything that it wrote to stderr so far."""
        if self._log_file is not None:
            return self._log_file.read_text(errors="replace")
        while select.select([self._log_pipe], [], [], 0)[0] and (got := os.read(self._log_pipe, 65536)):
            self._log += got
        return self._log.decode(errors="replace")

    def wait_ready(self, text: str) -> None:
        """Waits for a line with `text` on stderr; `ready_s` is then the time since the start of the program."""
        deadline = time.monotonic() + READY_TIMEOUT_S
        while text not in self.log():
            if self._popen.poll() is not None and text not in self.log():
                raise Failed(f"ended with {self._popen.returncode} before it was ready: {self.last_words()}")
            if time.monotonic() > deadline:
                raise Failed(f"not ready after {READY_TIMEOUT_S:.0f} s: {self.last_words()}")
            if self._log_file is not None:
                time.sleep(POLL_S)
            else:
                select.select([self._log_pipe], [], [], 1.0)
        self.ready_s = (time.monotonic_ns() - self.started_ns) / 1e9

    def last_words(self) -> str:
        """The end of its log, on one line."""
        return " / ".join(line.strip() for line in self.log().splitlines()[-3:])

    def settle(self) -> None:
        """Waits until the program has nothing more to do: its CPU time stands still."""
        deadline = time.monotonic() + SETTLE_TIMEOUT_S
        last, quiet = self.tree.cpu_us(), 0
        while quiet < SETTLED_LOOKS:
            time.sleep(LOOK_S)
            now = self.tree.cpu_us()
            quiet = quiet + 1 if now - last < SETTLED_US else 0
            last = now
            if time.monotonic() > deadline:
                raise Failed(f"still busy after {SETTLE_TIMEOUT_S:.0f} s")

    def check_busy(self, what: str) -> None:
        """Raises Failed if the program has ended, or has used no CPU time since long before this call.

        To be called again and again while one waits.
        """
        self.check_alive()
        now = time.monotonic()
        if now - self._looked_at < LOOK_S:
            return
        cpu_us = self.tree.cpu_us()
        if cpu_us - self._last_us >= SETTLED_US or now - self._looked_at > STALLED_S:
            # It works, or nobody has asked for long.
            self._last_us, self._busy_at = cpu_us, now
        self._looked_at = now
        if now - self._busy_at > STALLED_S:
            raise Failed(f"{what}, and the program sleeps: {self.last_words()}")

    def check_alive(self) -> None:
        """Raises Failed if the program has ended."""
        if self._popen.poll() is not None:
            raise Failed(f"ended with {self._popen.returncode}: {self.last_words()}")

    def wait_exit(self, timeout_s: float) -> int:
        """Its exit code."""
        try:
            return self._popen.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise Failed(f"still running after {timeout_s:.0f} s: {self.last_words()}") from None

    def send(self, number: signal.Signals) -> None:
        """Sends a signal to the program itself."""
        self._popen.send_signal(number)

    def terminate(self, timeout_s: float = 60.0) -> float:
        """Sends SIGTERM and waits for the end; returns the seconds that it took."""
        start = time.monotonic()
        self._popen.send_signal(signal.SIGTERM)
        code = self.wait_exit(timeout_s)
        if code not in (0, -signal.SIGTERM):
            raise Failed(f"ended with {code} after SIGTERM: {self.last_words()}")
        return time.monotonic() - start
