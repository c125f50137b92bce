"""Frames between daemon and host, and their JSON.

Owns the socket: ``u32 length of body | u8 type | body``, little endian, both ways. Leaves what the frames mean to those
who send and receive them. Uses the descriptor as it is, as importing `socket` costs 7 ms, and `json` 5 ms.
"""

from __future__ import annotations

import os
from _thread import RLock

from . import forked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Optional

PROTOCOL = 5

# Daemon to host.
HELLO = 1
LOAD = 2
START = 3
CANCEL = 4
LOG = 5
STOP = 6
SOURCE = 7
START_BATCH = 8
RECALL = 9

# Host to daemon.
HOST_HELLO = 65
DESCRIBE = 66
FAULT = 67
EXIT = 68
DONE = 69
CANCELLED = 70
FAIL = 71
HOST_LOG = 72
TAKEN = 73
LEVEL = 74
DROPPED = 75

_HEAD = 5

# Both sides refuse frames above this: more is a fault of the program, and no text of a user's is as long.
FRAME_MAX = 64 << 20

# Text of a user that goes to the log. Nobody reads more, and a frame must not exceed its limit by it.
TEXT_MAX = 64 << 10

# The error of a failed job: it is kept with each path of a batch, while its traceback goes to the log once.
ERROR_MAX = 4 << 10

# One read. Below the size at which the allocator asks the kernel for memory each time.
READ_SIZE = 64 << 10

# Reads in a row: 4 MiB, as much as the daemon queues.
READS_MAX = 64


class Channel:
    """The host's end of the socket.

    Sends from any thread. As long as it blocks, a send returns when the daemon has taken the frame, which it always
    does; after `unblock` a send never waits, and what the socket doesn't take is kept. A forked child has no socket:
    what it sends is dropped, and where it receives it ends.
    """

    def __init__(self, fd: int) -> None:
        """Take over the descriptor, and keep it from children that the config starts."""
        os.set_inheritable(fd, False)
        #: -1 in a forked child.
        self.fd = fd
        self.pid = os.getpid()
        #: Bytes that wait for the socket.
        self.backlog = 0
        self._out: list[bytes] = []
        # Reentrant, as a finaliser that logs can run in the middle of a send.
        self._lock = RLock()
        self._sending = False
        self._gone = False
        self._frames = Frames()
        self._wait_writable: Optional[Callable[[], object]] = None
        os.register_at_fork(after_in_child=self._leave_to_parent)

    def _leave_to_parent(self) -> None:
        forked.begin()
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def unblock(self, wait_writable: Callable[[], object]) -> None:
        """Never block from now on; `wait_writable` is called when `flush` has to be called later."""
        self._wait_writable = wait_writable
        os.set_blocking(self.fd, False)

    def block(self) -> None:
        """Block again: the loop has ended, and what is left has to go out."""
        os.set_blocking(self.fd, True)
        self._wait_writable = None
        self.flush()

    def send(self, kind: int, body: bytes = b"") -> None:
        """Send a frame."""
        self.send_frames(frame(kind, body))

    def send_frames(self, frames: bytes) -> None:
        """Send whole frames; those of a forked child are dropped, the socket is its parent's."""
        if os.getpid() != self.pid:
            return
        with self._lock:
            self._out.append(frames)
            self.backlog += len(frames)
            if not self._sending:
                self.flush()

    def flush(self) -> bool:
        """Send what waits; say whether all of it is gone."""
        with self._lock:
            self._sending = True
            try:
                while self._out and not self._gone:
                    self._send_first()
            except BlockingIOError:
                if self._wait_writable:
                    self._wait_writable()
                return False
            except OSError:
                # The daemon is gone. The end of the socket says so to those who read from it.
                self._gone = True
            finally:
                self._sending = False
            if self._gone:
                self._out.clear()
                self.backlog = 0
            return True

    def _send_first(self) -> None:
        # A send in between, by a finaliser, only adds to the end.
        count = len(self._out)
        if count > 1:
            self._out[:count] = [b"".join(self._out[:count])]
        first = self._out[0]
        sent = os.write(self.fd, first)
        self.backlog -= sent
        if sent == len(first):
            del self._out[0]
        else:
            self._out[0] = first[sent:]

    def receive(self) -> Optional[tuple[int, bytes]]:
        """Wait for a frame; None at the end of the socket."""
        while True:
            if self.fd < 0:
                forked.end()
            got = self._frames.next()
            if got is not None:
                return got
            try:
                data = os.read(self.fd, READ_SIZE)
            except ConnectionError:
                return None
            if not data:
                return None
            self._frames.feed(data)

    def read_available(self) -> Optional[list[tuple[int, bytes]]]:
        """Read what is there without waiting, and return the frames that are complete; None at the end of the socket.

        All of it, so that a cancel that is there is known before the job begins that it is for.
        """
        for number in range(READS_MAX):
            try:
                data = os.read(self.fd, READ_SIZE)
            except BlockingIOError:
                break
            except ConnectionError:
                data = b""
            if not data:
                if number == 0:
                    return None
                break
            self._frames.feed(data)
            if len(data) < READ_SIZE:
                break
        return self.buffered()

    def buffered(self) -> list[tuple[int, bytes]]:
        """Return the frames that were read and not yet returned."""
        found: list[tuple[int, bytes]] = []
        while True:
            got = self._frames.next()
            if got is None:
                return found
            found.append(got)


class Frames:
    """Cuts a stream of bytes into frames."""

    def __init__(self) -> None:
        """Begin with an empty stream."""
        self._parts: list[bytes] = []
        self._have = 0
        self._need = _HEAD

    def feed(self, data: bytes) -> None:
        """Add what was read."""
        self._parts.append(data)
        self._have += len(data)

    def next(self) -> Optional[tuple[int, bytes]]:
        """Return the next frame if it is complete.

        Raises:
            ValueError: The frame is longer than any frame may be.
        """
        if self._have < self._need:
            return None
        data = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        size = int.from_bytes(data[:4], "little")
        if size > FRAME_MAX:
            raise ValueError(f"a frame of {size} bytes")
        end = _HEAD + size
        if len(data) < end:
            # Joined again only when all of it is there: a large frame in small reads is not copied each time.
            self._parts[:] = [data]
            self._need = end
            return None
        rest = data[end:]
        self._parts[:] = [rest] if rest else []
        self._have = len(rest)
        self._need = _HEAD
        return data[4], data[_HEAD:end]


def frame(kind: int, body: bytes) -> bytes:
    """Return the bytes of a frame."""
    return len(body).to_bytes(4, "little") + bytes((kind,)) + body


def dumps(value: object) -> bytes:
    """Return `value` as JSON in ASCII; a surrogate, which stands for a byte that is not UTF-8, is escaped as such."""
    parts: list[str] = []
    _write(value, parts.append)
    return "".join(parts).encode("ascii")


def report(body: dict[str, object]) -> bytes:
    """Return the JSON of what is said to a person: its texts lose their middle where they are endless."""
    return dumps(
        {name: shortened(value, TEXT_MAX) if isinstance(value, str) else value for name, value in body.items()}
    )


def shortened(text: str, limit: int) -> str:
    """Return a text, without its middle where it is longer than that."""
    left_out = len(text) - limit
    if left_out <= 0:
        return text
    half = limit // 2
    return f"{text[:half]} [... {left_out} characters are left out ...] {text[-half:]}"


def _write(value: object, put: Callable[[str], object]) -> None:
    if value is None:
        put("null")
    elif value is True:
        put("true")
    elif value is False:
        put("false")
    elif isinstance(value, str):
        put(_quote(value))
    elif isinstance(value, int):
        put(int.__repr__(value))
    elif isinstance(value, float):
        put(float.__repr__(value))
    elif isinstance(value, dict):
        _write_row("{", ((f"{_quote(key)}:", item) for key, item in value.items()), "}", put)
    else:
        _write_row("[", (("", item) for item in value), "]", put)  # type: ignore[attr-defined]  # a list or tuple


def _write_row(begin: str, items: Any, end: str, put: Callable[[str], object]) -> None:
    put(begin)
    comma = ""
    for prefix, item in items:
        put(comma + prefix)
        _write(item, put)
        comma = ","
    put(end)


class _Scanning:
    """What json's scanner in C wants to know; the values are those of json.JSONDecoder."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = float
    memo: dict[str, str] = {}


try:
    from _json import encode_basestring_ascii as _quote
    from _json import make_scanner as _make_scanner

    _scan: Callable[[str, int], tuple[Any, int]] = _make_scanner(_Scanning)  # type: ignore[arg-type]  # by its shape
except ImportError:  # a Python without the C half of json
    from json import JSONDecoder
    from json.encoder import encode_basestring_ascii as _quote

    _scan = JSONDecoder().scan_once  # type: ignore[attr-defined]  # not documented


def loads(body: bytes) -> Any:
    """Return what JSON says."""
    return _scan(body.decode("utf-8"), 0)[0]
