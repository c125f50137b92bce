"""The daemon's side of the wire, for tests that drive a real host."""

from __future__ import annotations

import json
import os
import select
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PACKAGE))

# Generous, as machines that test are busy; nothing waits for it to pass.
DEADLINE_S = 30

HELLO, LOAD, START, CANCEL, LOG, STOP, SOURCE, START_BATCH, RECALL = range(1, 10)
HOST_HELLO, DESCRIBE, FAULT, EXIT, DONE, CANCELLED, FAIL, HOST_LOG, TAKEN = range(65, 74)
DROPPED = 75
VERSION = "2.0.0"

# How the tasks of a scheduler run unless the config says more.
NOTHING = {
    "timeout": None,
    "retry": None,
    "on_failure": [],
    "max_delay": None,
    "max_rate": None,
    "settle": None,
    "on_busy": "skip",
    "persist": True,
    "rerun": False,
    "batch": None,
}


class Daemon:
    """A host, and the daemon's end of its socket."""

    def __init__(self, command, cwd, env=None, **kwargs):
        """Start a host by `command`, to which the numbers of its socket and its lifeline are added."""
        self.sock, theirs = socket.socketpair()
        lifeline, self.lifeline = os.pipe()
        environ = {**os.environ, "PYTHONPATH": str(PACKAGE), "PYTHONDONTWRITEBYTECODE": "1", **(env or {})}
        self.process = subprocess.Popen(
            [*command, str(theirs.fileno()), str(lifeline), *kwargs.pop("more", ())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=(theirs.fileno(), lifeline, *kwargs.pop("pass_fds", ())),
            cwd=cwd,
            env=environ,
            **kwargs,
        )
        theirs.close()
        os.close(lifeline)
        self.buffer = b""
        self.taken = 0
        self.open = 0
        self.logs = []

    def send(self, kind, body=b""):
        """Send a frame; a value is sent as JSON."""
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()
        self.sock.settimeout(DEADLINE_S)
        self.sock.sendall(struct.pack("<IB", len(body), kind) + body)

    def frame(self):
        """Return the next frame; None at the end of the socket."""
        deadline = time.monotonic() + DEADLINE_S
        while True:
            if len(self.buffer) >= 5:
                size = struct.unpack_from("<I", self.buffer)[0]
                if len(self.buffer) >= 5 + size:
                    kind, body = self.buffer[4], self.buffer[5 : 5 + size]
                    self.buffer = self.buffer[5 + size :]
                    return kind, body
            ready = select.select([self.sock], [], [], max(0, deadline - time.monotonic()))[0]
            assert ready, "the host says nothing"
            try:
                data = self.sock.recv(1 << 16)
            except ConnectionError:
                data = b""
            if not data:
                return None
            self.buffer += data

    def next(self, *kinds):
        """Return the next frame, with TAKEN counted and log records kept, unless they are asked for."""
        while True:
            got = self.frame()
            if got is None:
                return None, None
            kind, body = got
            if kind in (DONE, CANCELLED, DROPPED):
                value = list(struct.unpack(f"<{len(body) // 8}Q", body))
            elif kind == TAKEN:
                value, self.open = struct.unpack("<II", body)
                self.taken += value
            else:
                value = json.loads(body)
            if kind == HOST_LOG:
                self.logs.append(value)
            if (kind in kinds) if kinds else kind not in (TAKEN, HOST_LOG):
                return kind, value

    def expect(self, *kinds):
        """Return the value of the next frame of one of `kinds`; other frames but TAKEN and LOG are an error."""
        while True:
            kind, value = self.next(*kinds, HOST_LOG, FAULT, FAIL, DONE, CANCELLED, EXIT)
            if kind in kinds:
                return value
            assert kind == HOST_LOG, (kind, value, self.process.stderr.read() if kind is None else "")

    def hello(self, **changes):
        """Exchange HELLO."""
        self.send(HELLO, {"protocol": 5, "version": VERSION, **changes})
        kind, value = self.next()
        assert kind == HOST_HELLO, (kind, value, self.process.stderr.read() if kind is None else "")
        return value

    def load(self, path, debug=False, levels=None):
        """Exchange HELLO and send what is in the file at `path`."""
        self.hello()
        self.send(SOURCE, Path(path).read_bytes())
        self.send(LOAD, {"configs": [str(path)], "debug": debug, "levels": levels or {"": 20}})

    def start(self, tasks):
        """Start jobs: tuples of handle and an event's values."""
        for begin in range(0, len(tasks), 500):
            self.send(START, pack_starts(tasks[begin : begin + 500]))

    def collect(self, kind, count):
        """Return `count` handles that are reported in frames of `kind`."""
        handles = []
        while len(handles) < count:
            handles += self.expect(kind)
        return handles

    def line(self):
        """Return a line of the host's stdout."""
        line = b""
        while not line.endswith(b"\n"):
            part = os.read(self.process.stdout.fileno(), 1)
            assert part, line
            line += part
        return line

    def wait(self):
        """Wait for the end; return status, stdout and stderr."""
        out, err = self.process.communicate(timeout=DEADLINE_S)
        return self.process.returncode, out.decode(errors="replace"), err.decode(errors="replace")

    def close(self):
        """End the host, if it still runs."""
        self.sock.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()
        self.cut_lifeline()

    def cut_lifeline(self):
        """Close our end of it, as the kernel does when the daemon ends."""
        if self.lifeline is not None:
            os.close(self.lifeline)
            self.lifeline = None


def pack_starts(tasks):
    """Return the body of a START frame; a task is a dict with at least `handle`."""
    rows = [
        {
            "scheduler": 0,
            "mask": 0x100,
            "wd": 1,
            "cookie": 0,
            "flags": 0,
            "pathname": b"/w/f",
            "name_len": 1,
            "task_id": f"00000000-0000-4000-8000-{task['handle']:012}",
            **task,
        }
        for task in tasks
    ]
    names = ("handle", "scheduler", "mask", "wd", "cookie", "name_len", "flags")
    body = struct.pack("<I", len(rows))
    for row in rows:
        body += struct.pack("<QIIiIHB", *(row[name] for name in names))
    texts = []
    for row in rows:
        texts += [row["task_id"].encode(), row["pathname"]]
        if row["flags"] & 4:
            texts.append(row["src_pathname"])
        if row["flags"] & 8:
            texts.append(row["path"])
        if row["flags"] & 64:
            texts += [row["error"], row["attempts"], row["failed"]]
    return body + b"\0".join(texts)


@pytest.fixture
def host(tmp_path):
    """Return a function that starts a host on a config's text."""
    started = []

    def start(config=None, env=None, python=(sys.executable,), cwd=None, **load):
        daemon = Daemon([*python, "-m", "pyinotifyd.host"], cwd or tmp_path, env)
        started.append(daemon)
        if config is not None:
            path = tmp_path / "config.py"
            path.write_bytes(config if isinstance(config, bytes) else config.encode())
            daemon.load(path, **load)
        return daemon

    yield start
    for daemon in started:
        daemon.close()


@pytest.fixture
def describe(host):
    """Return a function that gives the description of a config's text."""

    def describe(config, **kwargs):
        return host(config, **kwargs).expect(DESCRIBE)

    return describe


@pytest.fixture
def fault(host):
    """Return a function that gives what is said of a config's text that can't be used."""

    def fault(config, **kwargs):
        daemon = host(config, **kwargs)
        value = daemon.expect(FAULT)
        assert daemon.wait()[0] == 1
        return value

    return fault


@pytest.fixture(scope="session", params=["bytecode", "sources"])
def bundle(request, tmp_path_factory):
    """The package as the daemon hands it to Python, with and without bytecode for this Python."""
    path = tmp_path_factory.mktemp("bundle") / "bundle"
    pythons = [sys.executable] if request.param == "bytecode" else []
    subprocess.run([sys.executable, PACKAGE / "bundle.py", path, *pythons], check=True)
    return path


@pytest.fixture
def booted(bundle, tmp_path):
    """Return a function that starts a host from memory, as the daemon does, on a config's text."""
    started = []

    def start(config, cwd=None, python=(sys.executable,), **load):
        # The bundle is somewhere in a file, as it is in the daemon's program.
        before = b"\0before\n" * 1000
        fds = [memory((PACKAGE / "boot.py").read_bytes()), memory(before + bundle.read_bytes() + b"behind")]
        path = tmp_path / "config.py"
        path.write_text(config)
        command = [*python, f"/proc/self/fd/{fds[0]}"]
        daemon = Daemon(
            command, cwd or tmp_path, {"PYTHONPATH": ""}, pass_fds=fds, more=[str(fds[1]), str(len(before))]
        )
        started.append(daemon)
        for fd in fds:
            os.close(fd)
        daemon.load(path, **load)
        return daemon

    yield start
    for daemon in started:
        daemon.close()


def memory(content):
    """Return the descriptor of a memfd that holds some bytes."""
    fd = os.memfd_create("pyinotifyd")
    os.write(fd, content)
    return fd
