"""A filesystem in memory that is served over /dev/fuse (fuse(4)), and that can stop to answer.

As a program it serves until it gets SIGTERM, and stops to answer while it is stopped by SIGSTOP:

    python3 tests/fuse.py DIRECTORY

It needs root, and nothing else: no library, no fusermount. Names, files, directories, modes and times are there; links,
extended attributes, locks and holes are not, as on many a real one.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import select
import signal
import stat
import struct
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

REQUEST_MAX = (1 << 20) + 4096
ROOT = 1
HEAD = struct.Struct("<IIQQIIII")
ATTRIBUTES = struct.Struct("<6Q10I")
RENAME_NOREPLACE = 1


@dataclass
class Node:
    """A file or directory; `names` are those below a directory."""

    number: int
    mode: int
    uid: int = 0
    gid: int = 0
    data: bytearray = field(default_factory=bytearray)
    names: dict[bytes, Node] = field(default_factory=dict)
    times_ns: list[int] = field(default_factory=lambda: [time.time_ns()] * 3)

    @property
    def is_dir(self) -> bool:
        return stat.S_ISDIR(self.mode)

    def attributes(self) -> bytes:
        seconds, rest = zip(*(divmod(moment, 10**9) for moment in self.times_ns))
        size, links = len(self.data), 2 if self.is_dir else 1
        numbers = (self.number, size, (size + 511) // 512, *seconds, *rest)
        return ATTRIBUTES.pack(*numbers, self.mode, links, self.uid, self.gid, 0, 4096, 0)

    def entry(self) -> bytes:
        """The answer that gives the kernel a node; nothing of it is cached."""
        return struct.pack("<4Q2I", self.number, 0, 0, 0, 0, 0) + self.attributes()

    def changed(self) -> None:
        self.times_ns[1] = self.times_ns[2] = time.time_ns()


class Filesystem:
    """Mounted at `directory` from the start until `close`; whoever asks waits while `answering` is not set.

    Without `no_replace` it has no rename that replaces nothing, as exfat-fuse and others.
    """

    def __init__(self, directory: Path, writable: bool = True, no_replace: bool = True) -> None:
        self.directory = directory
        self.writable = writable
        self.no_replace = no_replace
        self.device = os.open("/dev/fuse", os.O_RDWR)
        self.answering = threading.Event()
        self.answering.set()
        self._nodes = {ROOT: Node(ROOT, stat.S_IFDIR | 0o755)}
        self._last = ROOT
        libc = ctypes.CDLL(None, use_errno=True)
        options = f"fd={self.device},rootmode=40000,user_id=0,group_id=0,allow_other".encode()
        if libc.mount(b"pyinotifyd-test", os.fsencode(directory), b"fuse", 0, options) != 0:
            os.close(self.device)
            raise OSError(ctypes.get_errno(), "mount")
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def close(self) -> None:
        """Unmount; whoever still waits gets an error."""
        subprocess.run(["umount", "-l", self.directory], check=False)
        self.answering.set()
        os.close(self.device)

    def _serve(self) -> None:
        while True:
            try:
                # A request that was read can't be taken back by the death of who asks; one that waits can.
                select.select([self.device], [], [])
                self.answering.wait()
                request = os.read(self.device, REQUEST_MAX)
            except (OSError, ValueError):
                return
            if not request:
                # It is unmounted.
                return
            _, operation, unique, number, uid, gid, *_ = HEAD.unpack_from(request)
            try:
                answer = self._answer(operation, number, request[HEAD.size :], uid, gid)
                error = 0
            except OSError as failure:
                answer, error = b"", failure.errno or errno.EIO
            if answer is not None:
                with contextlib.suppress(OSError):
                    os.write(self.device, struct.pack("<IiQ", 16 + len(answer), -error, unique) + answer)

    def _answer(self, operation: int, number: int, body: bytes, uid: int, gid: int) -> bytes | None:
        """The answer to one request; None where the kernel expects none. Raises OSError."""
        if operation in (2, 36, 42):  # FORGET, INTERRUPT, BATCH_FORGET
            return None
        if operation == 26:  # INIT
            return struct.pack("<IIIIHHIIHHI7I", 7, 31, 1 << 17, 0, 16, 12, 1 << 17, 1, 32, 0, 0, *[0] * 7)
        node = self._nodes[number]
        name = body.partition(b"\0")[0]
        if operation == 1:  # LOOKUP
            return self._found(node, name).entry()
        if operation == 3:  # GETATTR
            return struct.pack("<QII", 0, 0, 0) + node.attributes()
        if not self.writable and operation in (4, 8, 9, 10, 11, 12, 35, 45):
            raise OSError(errno.ENOSYS, "")
        if operation == 4:  # SETATTR
            return self._set(node, body)
        if operation in (8, 9, 35):  # MKNOD, MKDIR, CREATE
            before = 8 if operation == 9 else 16
            kind = {8: 0, 9: stat.S_IFDIR, 35: stat.S_IFREG}[operation]
            mode = struct.unpack_from("<I", body, 4 if operation == 35 else 0)[0]
            made = self._make(node, body[before:].rstrip(b"\0"), mode | kind, uid, gid)
            return made.entry() + (bytes(16) if operation == 35 else b"")
        if operation in (10, 11):  # UNLINK, RMDIR
            if self._found(node, name).names:
                raise OSError(errno.ENOTEMPTY, "")
            del node.names[name]
            node.changed()
            return b""
        if operation in (12, 45):  # RENAME, RENAME2
            head = 8 if operation == 12 else 16
            old, new = body[head:].split(b"\0")[:2]
            flags = struct.unpack_from("<I", body, 8)[0] if operation == 45 else 0
            return self._rename(node, old, self._nodes[struct.unpack_from("<Q", body)[0]], new, flags)
        if operation in (14, 27):  # OPEN, OPENDIR
            return bytes(16)
        if operation == 15:  # READ
            _, offset, size = struct.unpack_from("<QQI", body)
            return bytes(node.data[offset : offset + size])
        if operation == 16:  # WRITE
            return self._write(node, body)
        if operation == 17:  # STATFS
            return struct.pack("<5Q4I6I", 1 << 20, 1 << 19, 1 << 19, 1 << 20, 1 << 19, 4096, 255, 4096, 0, *[0] * 6)
        if operation in (18, 20, 25, 29, 30, 34, 38):  # RELEASE, FSYNC, FLUSH, RELEASEDIR, FSYNCDIR, ACCESS, DESTROY
            return b""
        if operation == 28:  # READDIR
            return self._list(node, body)
        raise OSError(errno.ENOSYS, "")

    def _found(self, parent: Node, name: bytes) -> Node:
        if name not in parent.names:
            raise OSError(errno.ENOENT, "")
        return parent.names[name]

    def _make(self, parent: Node, name: bytes, mode: int, uid: int, gid: int) -> Node:
        if name in parent.names:
            raise OSError(errno.EEXIST, "")
        self._last += 1
        made = self._nodes[self._last] = parent.names[name] = Node(self._last, mode, uid, gid)
        parent.changed()
        return made

    def _rename(self, source: Node, old: bytes, target: Node, new: bytes, flags: int) -> bytes:
        moved = self._found(source, old)
        if flags & ~(RENAME_NOREPLACE if self.no_replace else 0):
            raise OSError(errno.EINVAL, "")
        if flags & RENAME_NOREPLACE and new in target.names:
            raise OSError(errno.EEXIST, "")
        del source.names[old]
        target.names[new] = moved
        source.changed()
        target.changed()
        return b""

    @staticmethod
    def _set(node: Node, body: bytes) -> bytes:
        valid, _, _, size, _, *times = struct.unpack_from("<IIQQQ3Q3I", body)
        mode, _, uid, gid = struct.unpack_from("<4I", body, 68)
        if valid & 1:
            node.mode = stat.S_IFMT(node.mode) | stat.S_IMODE(mode)
        node.uid = uid if valid & 2 else node.uid
        node.gid = gid if valid & 4 else node.gid
        if valid & 8:
            node.data[size:] = bytes(max(0, size - len(node.data)))
        for index, (given, now) in enumerate(((16, 128), (32, 256))):
            if valid & now:
                node.times_ns[index] = time.time_ns()
            elif valid & given:
                node.times_ns[index] = times[index] * 10**9 + times[3 + index]
        node.times_ns[2] = time.time_ns()
        return struct.pack("<QII", 0, 0, 0) + node.attributes()

    @staticmethod
    def _write(node: Node, body: bytes) -> bytes:
        _, offset, size = struct.unpack_from("<QQI", body)
        node.data.extend(bytes(max(0, offset - len(node.data))))
        node.data[offset : offset + size] = body[40 : 40 + size]
        node.changed()
        return struct.pack("<II", size, 0)

    @staticmethod
    def _list(node: Node, body: bytes) -> bytes:
        _, offset, size = struct.unpack_from("<QQI", body)
        answer = b""
        for place, (name, child) in enumerate(list(node.names.items())[offset:], offset + 1):
            kind = stat.S_IFMT(child.mode) >> 12
            one = struct.pack("<QQII", child.number, place, len(name), kind) + name
            one += bytes(-len(one) % 8)
            if len(answer) + len(one) > size:
                break
            answer += one
        return answer


def main() -> None:
    served = Filesystem(Path(sys.argv[1]))
    signal.signal(signal.SIGTERM, lambda *_: served.close())
    print("mounted", flush=True)
    served.thread.join()


if __name__ == "__main__":
    main()
