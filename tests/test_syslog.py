"""Syslog: over which sockets, in which form, with which levels; and what happens when nobody listens."""

from __future__ import annotations

import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from vocabulary import REFERENCE, Box, Daemon, wait_until, write

Run = Callable[..., Daemon]

ours_only = pytest.mark.skipif(REFERENCE, reason="the original does otherwise")


class Server:
    """A syslog server that collects messages."""

    def __init__(self, kind: int, address: Any) -> None:
        family = socket.AF_UNIX if isinstance(address, (str, Path)) else socket.AF_INET
        self.socket = socket.socket(family, kind)
        self.socket.bind(str(address) if family == socket.AF_UNIX else address)
        self.messages: list[bytes] = []
        self.streams: list[socket.socket] = []
        if kind == socket.SOCK_STREAM:
            self.socket.listen()
        threading.Thread(target=self._accept if kind == socket.SOCK_STREAM else self._receive, daemon=True).start()

    def _receive(self) -> None:
        while True:
            try:
                message = self.socket.recv(65536)
            except OSError:
                return
            if message:
                self.messages.append(message)

    def _accept(self) -> None:
        while True:
            try:
                stream, _ = self.socket.accept()
            except OSError:
                return
            self.streams.append(stream)
            threading.Thread(target=self._read, args=(stream,), daemon=True).start()

    def _read(self, stream: socket.socket) -> None:
        rest = b""
        while data := stream.recv(65536):
            *whole, rest = (rest + data).split(b"\0")
            self.messages += [message + b"\0" for message in whole]

    def wait(self, pattern: bytes, count: int = 1) -> bytes:
        def found() -> bytes | None:
            matches = [message for message in self.messages if re.search(pattern, message)]
            return matches[count - 1] if len(matches) >= count else None

        message = wait_until(found, lambda: f"{count} x {pattern!r} in {self.messages}")
        assert message is not None
        return message

    def close(self) -> None:
        # shutdown wakes the thread that waits in recv or accept; close alone leaves it there.
        for one in [self.socket, *self.streams]:
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            one.close()


@pytest.fixture
def server(box: Box) -> Iterator[Server]:
    made = Server(socket.SOCK_DGRAM, box.tmp / "log")
    yield made
    made.close()


def config(*lines: str) -> str:
    return "\n".join(lines) + '\npyinotifyd = Pyinotifyd([Watch("$SRC", {"IN_CREATE": ShellScheduler("true")})])\n'


def test_a_message_is_priority_logger_text_and_nul(run: Run, box: Box, server: Server) -> None:
    daemon = run(config('enableSyslog(loglevel=INFO, address="$TMP/log")'))
    write(box.src / "f")
    message = server.wait(b"task finished")
    identifier = daemon.task_ids(box.src / "f")[0]
    assert (
        message
        == f"<14>pyinotifyd/sched: task finished, mask=IN_CREATE, path={box.src}/f, task_id={identifier}\0".encode()
    )


@pytest.mark.parametrize(
    ("level", "priority"), [("debug", 15), ("info", 14), ("warning", 12), ("error", 11), ("critical", 10)]
)
def test_priorities(run: Run, box: Box, server: Server, level: str, priority: int) -> None:
    daemon = run(
        f"""
import logging
setLoglevel(DEBUG, "mine")
enableSyslog(loglevel=DEBUG, address="$TMP/log")
async def job(event, task_id):
    logging.getLogger("mine").{level}("words")
pyinotifyd = Pyinotifyd([Watch("$SRC", {{"IN_CREATE": job}})])
"""
    )
    write(box.src / "f")
    assert server.wait(b"words") == f"<{priority}>pyinotifyd/mine: words\0".encode()
    assert daemon.running


def test_a_stream_socket(run: Run, box: Box) -> None:
    server = Server(socket.SOCK_STREAM, box.tmp / "log")
    try:
        run(config('enableSyslog(loglevel=INFO, address="$TMP/log")'))
        write(box.src / "f")
        assert server.wait(b"task finished").startswith(b"<14>pyinotifyd/sched: task finished, mask=IN_CREATE")
    finally:
        server.close()


def test_udp(run: Run, box: Box) -> None:
    server = Server(socket.SOCK_DGRAM, ("127.0.0.1", 0))
    try:
        port = server.socket.getsockname()[1]
        run(config(f'enableSyslog(loglevel=INFO, address=("127.0.0.1", {port}))'))
        write(box.src / "f")
        assert server.wait(b"task finished").startswith(b"<14>pyinotifyd/sched: task finished, mask=IN_CREATE")
    finally:
        server.close()


def test_stderr_goes_on(run: Run, box: Box, server: Server) -> None:
    daemon = run(config('enableSyslog(loglevel=INFO, address="$TMP/log")'))
    write(box.src / "f")
    server.wait(b"task finished")
    daemon.wait_log("pyinotifyd/sched - INFO - task finished")


def test_its_own_level_is_besides_the_loggers(run: Run, box: Box, server: Server) -> None:
    write(box.src / "old")
    daemon = run(config('enableSyslog(loglevel=WARNING, address="$TMP/log")'))
    write(box.src / "f")
    daemon.wait_log("task finished")
    daemon.terminate()
    assert server.messages == []


def test_the_loggers_level_comes_first(run: Run, box: Box, server: Server) -> None:
    daemon = run(config('setLoglevel(WARNING, "sched")', 'enableSyslog(loglevel=DEBUG, address="$TMP/log")'))
    write(box.src / "f")
    daemon.terminate()
    server.wait(b"shutdown complete")
    assert not [message for message in server.messages if b"sched" in message]


def test_one_logger_only(run: Run, box: Box, server: Server) -> None:
    daemon = run(config('enableSyslog(loglevel=INFO, address="$TMP/log", logname="sched")'))
    write(box.src / "f")
    server.wait(b"task finished")
    daemon.terminate()
    assert not [message for message in server.messages if b"/daemon:" in message]


@ours_only
def test_the_other_spelling(run: Run, box: Box, server: Server) -> None:
    run(config('enableSyslog(lglevel=INFO, address="$TMP/log", name="sched")'))
    write(box.src / "f")
    server.wait(b"task finished")


@ours_only
def test_without_a_level_the_loggers_level_counts(run: Run, box: Box, server: Server) -> None:
    run(config('enableSyslog(address="$TMP/log")'))
    write(box.src / "f")
    server.wait(b"task finished")
    assert not [message for message in server.messages if message.startswith(b"<15>")]


def test_several_targets_each_with_a_level(run: Run, box: Box, server: Server) -> None:
    other = Server(socket.SOCK_DGRAM, box.tmp / "log2")
    try:
        daemon = run(
            config(
                'enableSyslog(loglevel=INFO, address="$TMP/log")', 'enableSyslog(loglevel=ERROR, address="$TMP/log2")'
            )
        )
        write(box.src / "f")
        server.wait(b"task finished")
        daemon.terminate()
        server.wait(b"shutdown complete")
        assert other.messages == []
    finally:
        other.close()


@ours_only
def test_a_reload_does_not_double_the_messages(run: Run, box: Box, server: Server) -> None:
    daemon = run(config('enableSyslog(loglevel=INFO, address="$TMP/log")'))
    daemon.reload()
    write(box.src / "f")
    server.wait(b"task finished")
    daemon.terminate()
    server.wait(b"shutdown complete")
    assert len([message for message in server.messages if b"task finished" in message]) == 1


@ours_only
@pytest.mark.parametrize("address", ['"$TMP/nobody"', '("127.0.0.1", 9)', '("no-such-host.invalid", 514)'])
def test_a_missing_server_is_said_quietly_and_the_daemon_works(run: Run, box: Box, address: str) -> None:
    daemon = run(config(f"enableSyslog(loglevel=DEBUG, address={address})"))
    for number in range(200):
        write(box.src / f"f{number}")
    daemon.wait_log("task finished", count=200)
    assert daemon.count("Logging error|Traceback") == 0
    assert len([line for line in daemon.lines if "syslog" in line.lower()]) <= 5


@ours_only
def test_a_server_that_comes_back_is_used_again(run: Run, box: Box, server: Server) -> None:
    daemon = run(config('enableSyslog(loglevel=INFO, address="$TMP/log")'))
    write(box.src / "a")
    server.wait(b"task finished")
    server.close()
    os.unlink(box.tmp / "log")
    write(box.src / "b")
    daemon.wait_log("task finished.*/b,")
    again = Server(socket.SOCK_DGRAM, box.tmp / "log")
    try:
        number = 0

        def arrives() -> bool:
            nonlocal number
            number += 1
            write(box.src / f"c{number}")
            return bool(again.messages)

        wait_until(arrives, lambda: daemon.tail)
    finally:
        again.close()


@ours_only
def test_a_server_that_does_not_read_stops_nothing(run: Run, box: Box) -> None:
    """Its queue is full after a few messages; the daemon goes on."""
    deaf = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    deaf.bind(str(box.tmp / "log"))
    try:
        daemon = run(config('enableSyslog(loglevel=DEBUG, address="$TMP/log")'))
        for number in range(500):
            write(box.src / f"f{number}")
        daemon.wait_log("task finished", count=500)
        begun = time.monotonic()
        assert daemon.terminate() == 0
        assert time.monotonic() - begun < 10
    finally:
        deaf.close()


def test_names_do_not_forge_messages(run: Run, box: Box, server: Server) -> None:
    run(config('enableSyslog(loglevel=INFO, address="$TMP/log")'))
    write(box.src / "a\n<10>pyinotifyd: forged")
    server.wait(b"task finished")
    assert not [message for message in server.messages if message.startswith(b"<10>")]
