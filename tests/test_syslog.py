"""Syslog: over which sockets, in which form, with which levels; and what happens when nobody listens."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
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
    daemon.wait_log("task finished")
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


class NameServer:
    """A DNS server that says nothing until it is allowed to; then each name is 127.0.0.1."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        # Several tests at once, each with a server of its own: port 53 is given, so the address makes the difference.
        self.address = f"127.53.{os.getpid() >> 8 & 0x7F}.{os.getpid() & 0xFF}"
        self.socket.bind((self.address, 53))
        self.asked = threading.Event()
        self.may_answer = threading.Event()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                query, client = self.socket.recvfrom(4096)
            except OSError:
                return
            if not query:
                return
            self.asked.set()
            if not self.may_answer.is_set():
                continue
            end = query.index(b"\0", 12) + 5
            is_a = query[end - 4 : end - 2] == b"\0\1"
            header = query[:2] + b"\x81\x80\0\1" + (b"\0\1" if is_a else b"\0\0") + bytes(4)
            answer = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4" + bytes([127, 0, 0, 1])
            self.socket.sendto(header + query[12:end] + (answer if is_a else b""), client)

    def close(self) -> None:
        # This wakes the thread that waits in recvfrom; close alone leaves it there, and the address taken.
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()


@pytest.fixture
def name_server(box: Box, root: None) -> Iterator[NameServer]:
    """The daemon of this box asks it, in a mount namespace of its own."""
    if shutil.which("unshare") is None:
        pytest.skip("needs unshare")
    try:
        server = NameServer()
    except OSError as error:
        pytest.skip(f"no name server can listen here: {error}")
    (box.tmp / "resolv.conf").write_text(f"nameserver {server.address}\noptions timeout:5 attempts:5\n")
    (box.tmp / "nsswitch.conf").write_text("hosts: dns\n")
    mounts = " && ".join(f"mount --bind {box.tmp}/{name} /etc/{name}" for name in ("resolv.conf", "nsswitch.conf"))
    box.before = ["unshare", "-m", "sh", "-c", f'{mounts} && exec "$@"', "sh"]
    yield server
    server.close()


@ours_only
def test_a_resolver_that_does_not_answer_holds_nothing_up(run: Run, box: Box, name_server: NameServer) -> None:
    begun = time.monotonic()
    daemon = run(config('enableSyslog(loglevel=INFO, address=("log.example", 514))'))
    for number in range(20):
        write(box.src / f"f{number}")
    daemon.wait_log("task finished", count=20)
    assert name_server.asked.wait(20)
    for _ in range(5):
        daemon.reload()
    threads = len(os.listdir(f"/proc/{daemon.pid}/task"))
    assert threads <= 4, "one thread asks, whatever is loaded how often"
    assert daemon.terminate() == 0
    assert time.monotonic() - begun < 15, daemon.tail


@ours_only
def test_records_wait_for_the_address_of_their_server(run: Run, box: Box, name_server: NameServer) -> None:
    server = Server(socket.SOCK_DGRAM, ("127.0.0.1", 0))
    try:
        port = server.socket.getsockname()[1]
        daemon = run(config(f'enableSyslog(loglevel=INFO, address=("log.example", {port}))'))
        write(box.src / "f")
        daemon.wait_log("task finished")
        assert name_server.asked.wait(20)
        assert server.messages == []
        name_server.may_answer.set()
        # The resolver asks once more after its own timeout of 5 s.
        server.wait(b"start listening")
        server.wait(b"task finished")
        texts = [message.partition(b": ")[2] for message in server.messages]
        assert [text.split(b" ")[0] for text in texts[:2]] == [b"start", b"start"]
    finally:
        server.close()


def test_names_do_not_forge_messages(run: Run, box: Box, server: Server) -> None:
    run(config('enableSyslog(loglevel=INFO, address="$TMP/log")'))
    write(box.src / "a\n<10>pyinotifyd: forged")
    server.wait(b"task finished")
    assert not [message for message in server.messages if message.startswith(b"<10>")]
