"""`pyinotifyd top` in a pseudo terminal: what the screen shows, and what the keys do."""

from __future__ import annotations

import codecs
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from control import Operator
from vocabulary import Box, Daemon, wait_until, write

pytestmark = pytest.mark.skipif(bool(os.environ.get("PYINOTIFYD_TEST_REFERENCE")), reason="the original has none")

Run = Callable[..., Daemon]

CONFIG = """
later = ShellScheduler("true # {pathname}", delay=3600)
fail = ShellScheduler("exit 3 # {pathname}")
pyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CREATE": later, "IN_ATTRIB": fail})], shutdown_timeout=0)
"""


class Screen:
    """A terminal of some size, as far as cursor addresses and text go."""

    def __init__(self, master: int, width: int, height: int) -> None:
        self.master = master
        self.rows = [[" "] * width for _ in range(height)]
        self.row = self.column = 0
        self.raw = b""
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.rest = ""

    def read(self) -> None:
        while select.select([self.master], [], [], 0)[0]:
            try:
                data = os.read(self.master, 1 << 16)
            except OSError:
                return
            if not data:
                return
            self.raw += data
            self.feed(data)

    def feed(self, data: bytes) -> None:
        text = self.rest + self.decoder.decode(data)
        self.rest = ""
        at = 0
        while at < len(text):
            if re.compile(r"\x1b(\[[?\d;]*)?").fullmatch(text, at):
                # The terminal's other end writes when it likes, and not by whole sequences.
                self.rest = text[at:]
                return
            found = re.compile(r"\x1b\[([?\d;]*)([A-Za-z])").match(text, at)
            if found:
                numbers = [int(number) for number in re.findall(r"\d+", found[1])]
                if found[2] == "H":
                    self.row, self.column = ([*numbers, 1, 1])[0] - 1, ([*numbers, 1, 1])[1] - 1
                elif found[2] == "J":
                    self.rows = [[" "] * len(row) for row in self.rows]
                at = found.end()
                continue
            if text[at] == "\x1b":
                at += 2
                continue
            if text[at] >= " " and self.row < len(self.rows) and self.column < len(self.rows[0]):
                self.rows[self.row][self.column] = text[at]
                self.column += 1
            at += 1

    def text(self) -> str:
        self.read()
        return "\n".join("".join(row).rstrip() for row in self.rows)

    def wait(self, pattern: str) -> None:
        wait_until(lambda: re.search(pattern, self.text()), lambda: f"/{pattern}/ on the screen:\n{self.text()}")

    def press(self, keys: str) -> None:
        os.write(self.master, keys.encode())


@contextmanager
def top(operator: Operator, box: Box, width: int, height: int) -> Iterator[Screen]:
    master, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
    env = {**os.environ, "TERM": "xterm"}
    argv: list[str | Path] = [box.program, "top", "--control", operator.path]
    with subprocess.Popen(argv, stdin=terminal, stdout=terminal, stderr=subprocess.PIPE, env=env) as process:
        os.close(terminal)
        screen = Screen(master, width, height)
        try:
            yield screen
        except BaseException:
            process.kill()
            raise
        screen.press("q")

        def ended() -> bool:
            screen.read()
            return process.poll() is not None

        wait_until(ended, "its end")
        assert process.returncode == 0
    os.close(master)


@pytest.fixture
def operator(run: Run, box: Box) -> Operator:
    run(CONFIG, "--control", box.tmp / "c.sock")
    return Operator(box.tmp / "c.sock")


@pytest.mark.parametrize(("width", "height"), [(80, 24), (200, 60)])
def test_the_screen_shows_rates_schedulers_tasks_and_failures(
    operator: Operator, box: Box, width: int, height: int
) -> None:
    write(box.src / "a")
    os.chmod(box.src / "a", 0o600)
    operator.wait_scheduler("fail", failed=1)
    operator.wait_scheduler("later", waiting=1)
    with top(operator, box, width, height) as screen:
        screen.wait("pyinotifyd 2")
        screen.wait("events/s")
        screen.wait(r"later +command")
        screen.wait("waiting +in 59m")
        screen.wait("exited with")
        screen.wait("q quit")


@pytest.mark.parametrize(("width", "height"), [(1, 1), (20, 4)])
def test_a_terminal_that_is_too_small_is_no_fault(operator: Operator, box: Box, width: int, height: int) -> None:
    with top(operator, box, width, height) as screen:

        def is_drawn() -> bool:
            screen.read()
            return bool(screen.raw)

        wait_until(is_drawn, "something on the screen")


def test_without_a_terminal_it_says_so(operator: Operator) -> None:
    assert "top needs a terminal" in operator.run("top", status=1)


def test_hostile_names_steer_no_terminal(operator: Operator, box: Box) -> None:
    write(os.fsencode(box.src) + b"/\x1b[2J\x1b]0;owned\x07\xff")
    operator.wait_scheduler("later", waiting=1)
    with top(operator, box, 200, 60) as screen:
        screen.wait(r"\\x1b\[2J")
        assert b"owned\x07" not in screen.raw
        assert b"\x1b]0;" not in screen.raw


def test_keys_pause_run_and_retry(operator: Operator, box: Box) -> None:
    write(box.src / "a")
    operator.wait_scheduler("later", waiting=1)
    with top(operator, box, 100, 30) as screen:
        screen.wait("waiting +in 59m")
        # The cursor is among the tasks.
        screen.press("r")
        operator.wait_scheduler("later", done=1)
        screen.press("\t\t")
        screen.press("p")
        wait_until(lambda: any(one["paused"] for one in operator.get("/v1/status")["schedulers"]), "a pause")
        screen.wait("paused")


def test_a_daemon_that_is_gone_is_said(run: Run, box: Box) -> None:
    daemon = run(CONFIG, "--control", box.tmp / "c.sock")
    with top(Operator(box.tmp / "c.sock"), box, 80, 24) as screen:
        screen.wait("pyinotifyd 2")
        daemon.terminate()
        screen.wait("does not answer")
